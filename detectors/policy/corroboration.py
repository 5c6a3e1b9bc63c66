"""A second kind of evidence makes the alert of one statistic grave: openings without an order, magnetic fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from detectors.policy.events import EventSpan, KnownEvents, MeterEvent, in_force
from detectors.policy.recent import RecentAlerts
from detectors.rule import ALL_RULES, Rule, SecondEvidence
from models.timelines.incidents import (
    LONG_FIELD_SECONDS,
    OPENING_EVENTS,
    ORDER_MARGIN_SECONDS,
    VISIT_EVENTS,
)
from schemas.alert import Alert
from schemas.columns import Event
from schemas.units import DAY_SECONDS

EVIDENCE_TEXT: dict[SecondEvidence, tuple[str, str]] = {
    "openings": (
        " The meter was opened without an order near in time.",
        "邻近时间电表无工单开启。",
    ),
    "fields": (
        " A magnetic field was at the meter near in time.",
        "邻近时间有恒定磁场作用于电表。",
    ),
}
NEAR_SECONDS = 30 * DAY_SECONDS  # before or after an episode began; project default
EVIDENCE_EVENTS = (
    OPENING_EVENTS | VISIT_EVENTS | {Event.MAGNETIC_FIELD, Event.MAGNETIC_FIELD_END}
)


def _strengthened_rule(alert: Alert) -> Rule | None:
    """The rule of an alert, if a second evidence makes it graver."""
    rule = ALL_RULES.get(alert.rule)
    return rule if rule and rule.strengthened_by else None


class Corroboration:
    """Makes alerts graver by the reports of their meters."""

    def __init__(self, events: KnownEvents, recent: RecentAlerts) -> None:
        self._events = events
        self._recent = recent

    def strengthened(self, alert: Alert) -> Alert:
        """An alert with the second evidence that the reports of its meter give."""
        rule = _strengthened_rule(alert)
        if rule is None or alert.state == "withdrawn":
            return alert
        reports = self._events.of(alert.area, alert.subject)
        found = _evidence_near(alert, reports, self._events.of(alert.area))
        return _corroborated(alert, rule, found)

    def affected(self, area: str, fresh: Iterable[MeterEvent]) -> Iterator[str]:
        """The ids of the alerts of an area that new events may make graver or milder."""
        reporting = {meter for meter, span in fresh if span[0] in EVIDENCE_EVENTS}
        if not reporting:
            return
        for key, alert in self._recent.of(area).items():
            is_reported = "" in reporting or alert.subject in reporting
            if is_reported and _strengthened_rule(alert):
                yield key


def _evidence_near(
    alert: Alert, reports: Sequence[EventSpan], area_reports: Sequence[EventSpan]
) -> dict[SecondEvidence, int]:
    """Counts of reports near an alert that are evidence."""
    near = [span for span in reports if abs(span[1] - alert.since) <= NEAR_SECONDS]
    visits = [*_visits(reports), *_visits(area_reports)]
    unordered = 0
    for event, at, _ in near:
        is_visit = any(start <= at <= end for start, end in visits)
        unordered += event in OPENING_EVENTS and not is_visit

    field_ends = [at for event, at, _ in reports if event == Event.MAGNETIC_FIELD_END]
    fields = 0
    for event, at, until in near:
        ends = [end for end in (until, *field_ends) if end > at]
        lasted = min(ends, default=at + LONG_FIELD_SECONDS) - at
        fields += event == Event.MAGNETIC_FIELD and lasted >= LONG_FIELD_SECONDS
    return {"openings": unordered, "fields": fields}


def _visits(reports: Sequence[EventSpan]) -> Iterator[tuple[int, int]]:
    """The times around orders and visits at which a meter may be opened."""
    for event, at, until in in_force(reports):
        if event in VISIT_EVENTS:
            end = max(until, at) + ORDER_MARGIN_SECONDS
            yield at - ORDER_MARGIN_SECONDS, end


def _corroborated(
    alert: Alert, rule: Rule, found: Mapping[SecondEvidence, int]
) -> Alert:
    """An alert of severity 1 with the second evidence found; without any, as its rule raises it."""
    en, zh = alert.en, alert.zh
    for evidence_en, evidence_zh in EVIDENCE_TEXT.values():
        en = en.replace(evidence_en, "")
        zh = zh.replace(evidence_zh, "")
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if name not in EVIDENCE_TEXT
    }

    mildest = max(level.severity for level in rule.levels)
    reached = [level.severity for level in rule.levels if alert.score >= level.score]
    severity = min([mildest, *reached])
    for name in rule.strengthened_by:
        if count := found[name]:
            severity = 1
            evidence[name] = float(count)
            en += EVIDENCE_TEXT[name][0]
            zh += EVIDENCE_TEXT[name][1]
    return msgspec.structs.replace(
        alert, severity=severity, evidence=evidence, en=en, zh=zh
    )

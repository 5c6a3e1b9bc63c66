"""One cause, one alert: failures of areas, one trouble by several rules, many alerts of a day."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from detectors.rule import ALL_RULES, Explanation, SecondEvidence, explanations_of
from models.timelines.incidents import (
    LONG_FIELD_SECONDS,
    OPENING_EVENTS,
    ORDER_MARGIN_SECONDS,
    VISIT_EVENTS,
    all_called_off,
)
from schemas.alert import Alert, Change, alert_id
from schemas.columns import LATEST_TIME, Event
from schemas.units import DAY_SECONDS

# subjects of an area with alerts of a rule on one day, from which one notice stands for
# them; the same of a fault in master data, which comes with a whole column of a file.
# Both are defaults of this project.
NOTICE_SUBJECTS = 20
NOTICE_RECORDS = 3
GRAVE_SEVERITY = 2  # severity from which an alert always stands for itself
NAMED_SUBJECTS = 20  # subjects that a sentence names
NOTICE_COUNT = "alerts"  # evidence that only a notice has
EXPLAINED_COUNT = "explained_alerts"  # evidence of a failure that explains others
EXPLAINS_TEXT = (" It explains", "由此引起的用户告警")  # continues a sentence
# seconds after which trouble is another trouble: default of this project
CALM_SECONDS = 14 * DAY_SECONDS
ALSO_PREFIX = "also_"  # evidence: the score of each other rule that sees the same
ALSO_TEXT = (" The same is reported by", "同一情况另见")  # continues a sentence

SECOND_EVIDENCE: dict[SecondEvidence, tuple[str, str]] = {
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
EventSpan = tuple[int, int, int]  # event, from, until


class NoticeKey(NamedTuple):
    """The fields that the alerts of one notice share."""

    area: str
    rule: str
    day: int
    fault: str  # of master data

    @property
    def id(self) -> str:
        """The id of its notice."""
        return alert_id(
            self.rule, self.area, f"notice {self.fault}", self.day * DAY_SECONDS
        )

    @property
    def least_subjects(self) -> int:
        """The number of subjects from which there is a notice."""
        return NOTICE_RECORDS if family(self.rule) == "master_data" else NOTICE_SUBJECTS


def family(rule: str) -> str:
    """The family of a rule, "" if the rule is not known."""
    return ALL_RULES[rule].family if rule in ALL_RULES else ""


def explanation_by(alert: Alert) -> Explanation | None:
    """The explanation that a failure of a whole area is of its meters' alerts; None for another alert."""
    rule = ALL_RULES.get(alert.rule)
    return rule.explains if rule else None


def is_failure(alert: Alert) -> bool:
    """Whether an alert may explain those of the area's meters."""
    return explanation_by(alert) is not None


def is_on_use(alert: Alert) -> bool:
    """Whether other rules may see the same trouble with a customer's use."""
    return Explanation.SAME_TROUBLE in explanations_of(alert.rule)


def second_evidence(alert: Alert) -> tuple[SecondEvidence, ...]:
    """The kinds of evidence that make an alert graver."""
    rule = ALL_RULES.get(alert.rule)
    return rule.strengthened_by if rule else ()


def is_notice(alert: Alert) -> bool:
    """Whether an alert stands for many."""
    return NOTICE_COUNT in alert.evidence


def _is_of_area(alert: Alert) -> bool:
    """Whether an alert is about a whole area."""
    return alert.subject in ("", alert.area)


def notice_key_of(alert: Alert) -> NoticeKey | None:
    """The key of the notice that an alert may share; None if it stands for itself."""
    if (
        _is_of_area(alert)
        or is_notice(alert)
        or alert.severity <= GRAVE_SEVERITY
        or alert.state == "withdrawn"
    ):
        return None
    faults = sorted(name for name, value in alert.evidence.items() if value > 0)
    fault = " ".join(faults) if family(alert.rule) == "master_data" else ""
    return NoticeKey(alert.area, alert.rule, alert.raised // DAY_SECONDS, fault)


def failure_explains(failure: Alert, alert: Alert) -> bool:
    """Whether the failure of an area explains an alert of one of its meters, while it lasts."""
    return (
        explanation_by(failure) in explanations_of(alert.rule)
        and failure.state != "withdrawn"
        and not failure.suppressed_by
        and not _is_of_area(alert)
        and failure.since <= alert.since
        and (failure.state == "raised" or alert.raised <= failure.at)
    )


def _first_names(subjects: Collection[str]) -> str:
    """The first names of subjects."""
    return ", ".join(sorted(subjects)[:NAMED_SUBJECTS])


def with_explained(failure: Alert, subjects: Collection[str]) -> Alert:
    """A failure that names the meters whose alerts it explains, in place of those it named."""
    evidence = {
        name: value
        for name, value in failure.evidence.items()
        if name != EXPLAINED_COUNT
    }
    en = failure.en.partition(EXPLAINS_TEXT[0])[0]
    zh = failure.zh.partition(EXPLAINS_TEXT[1])[0]

    if subjects:
        count = len(subjects)
        evidence[EXPLAINED_COUNT] = float(count)
        en += EXPLAINS_TEXT[0]
        en += (
            f" {count} alerts of its meters, among them"
            if count > 1
            else " the alert of its meter"
        )
        en += f" {_first_names(subjects)}."
        zh += f"{EXPLAINS_TEXT[1]}{count}条,包括{_first_names(subjects)}。"
    return msgspec.structs.replace(failure, evidence=evidence, en=en, zh=zh)


def same_trouble(alert: Alert, others: Sequence[Alert]) -> list[Alert]:
    """The alerts on a customer's use that follow one another within two weeks, `alert` among them."""
    chain: list[Alert] = []
    until = 0
    for other in sorted([alert, *others], key=lambda other: (other.since, other.id)):
        if chain and other.since > until + CALM_SECONDS:
            if alert in chain:
                break
            chain = []
        end = other.at if other.state == "cleared" else LATEST_TIME
        until = max(until if chain else 0, end)
        chain.append(other)
    return chain


def representative(chain: Sequence[Alert]) -> Alert:
    """The alert that stands for its trouble: a lasting one first, then the gravest, then the oldest."""
    return min(
        chain,
        key=lambda alert: (
            alert.state != "raised",
            alert.severity,
            alert.raised,
            alert.id,
        ),
    )


def with_other_rules(alert: Alert, others: Sequence[Alert]) -> Alert:
    """An alert that names the other rules which see the same, in place of the rules it named."""
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if not name.startswith(ALSO_PREFIX)
    }
    en = alert.en.partition(ALSO_TEXT[0])[0]
    zh = alert.zh.partition(ALSO_TEXT[1])[0]

    by_time = sorted(others, key=lambda other: (other.raised, other.id))
    scores = {other.rule: other.score for other in by_time}
    if scores:
        evidence |= {ALSO_PREFIX + rule: score for rule, score in scores.items()}
        titles = [ALL_RULES[rule].title for rule in scores]
        en += f"{ALSO_TEXT[0]} {', '.join(repr(title) for title, _ in titles)}."
        zh += f"{ALSO_TEXT[1]}{'、'.join(title for _, title in titles)}。"
    return msgspec.structs.replace(alert, evidence=evidence, en=en, zh=zh)


class NoticeGroup:
    """The unexplained alerts that may share a notice; a change of one costs the same in any size."""

    def __init__(self) -> None:
        self.members: dict[str, Alert] = {}
        self._ids_by_subject: dict[str, set[str]] = {}
        self.subjects: list[str] = []  # in order
        self.open_count = 0

    def add(self, alert: Alert) -> None:
        """Add an alert, in place of its last state."""
        self.drop(alert.id)
        self.members[alert.id] = alert
        self.open_count += alert.state == "raised"
        if alert.subject not in self._ids_by_subject:
            self._ids_by_subject[alert.subject] = set()
            insort(self.subjects, alert.subject)
        self._ids_by_subject[alert.subject].add(alert.id)

    def drop(self, key: str) -> None:
        """Remove an alert, if it is there."""
        if (alert := self.members.pop(key, None)) is None:
            return
        self.open_count -= alert.state == "raised"
        ids = self._ids_by_subject[alert.subject]
        ids.discard(key)
        if not ids:
            del self._ids_by_subject[alert.subject]
            del self.subjects[bisect_left(self.subjects, alert.subject)]

    def named_alerts(self) -> list[Alert]:
        """The alerts of the subjects that a sentence names."""
        return [
            self.members[key]
            for subject in self.subjects[:NAMED_SUBJECTS]
            for key in sorted(self._ids_by_subject[subject])
        ]


def _rounded_count(subjects: int) -> int:
    """The number of subjects that a notice states: in two digits from a hundred on, so few of them change it.

    >>> [_rounded_count(subjects) for subjects in (20, 99, 104, 1270)]
    [20, 99, 100, 1200]
    """
    step = 10 ** max(len(str(subjects)) - 2, 0)
    return subjects // step * step


def notice_of(key: NoticeKey, group: NoticeGroup, known: Alert | None) -> Alert:
    """The notice of a group after its last state `known`; its times are those of the named alerts."""
    members = group.named_alerts()
    gravest = min(members, key=lambda alert: (alert.severity, -alert.score, alert.id))
    lasting = group.open_count > 0
    count = _rounded_count(len(group.subjects))
    is_rounded = count < len(group.subjects)
    names = ", ".join(group.subjects[:NAMED_SUBJECTS])

    return msgspec.structs.replace(
        gravest,
        id=key.id,
        subject="",
        state="raised" if lasting else "cleared",
        change=_notice_change(known, lasting=lasting),
        revision=known.revision + 1 if known else 0,
        since=min(alert.since for alert in members),
        raised=min(alert.raised for alert in members),
        at=max(alert.raised if lasting else alert.at for alert in members),
        phase="",
        suppressed_by="",
        evidence=gravest.evidence | {NOTICE_COUNT: float(count)},
        en=(
            f"{count}{' or more' * is_rounded} alerts of one day and kind in one: {names}. "
            f"The gravest of these: {gravest.en}"
        ),
        zh=f"同日同类告警{count}条{'以上' * is_rounded}合并为一条:{names}。其中最重:{gravest.zh}",
    )


def _notice_change(known: Alert | None, *, lasting: bool) -> Change:
    """The change of a notice against its last state."""
    if not known or known.state == "withdrawn":
        return "raised"
    if (known.state == "raised") == lasting:
        return "revised"
    return "raised" if lasting else "cleared"


def in_force(spans: Sequence[EventSpan]) -> list[EventSpan]:
    """Events that were not called off, in whichever order the two came."""
    off = all_called_off(spans)
    return [span for span in spans if span[:2] not in off]


def corroboration(
    alert: Alert, reports: Sequence[EventSpan], area_reports: Sequence[EventSpan]
) -> dict[SecondEvidence, int]:
    """Counts of reports near an alert that are evidence: openings without an order, fields."""
    near = [
        (event, at, until)
        for event, at, until in reports
        if alert.since - NEAR_SECONDS <= at <= alert.since + NEAR_SECONDS
    ]

    visits = [
        (at - ORDER_MARGIN_SECONDS, max(until, at) + ORDER_MARGIN_SECONDS)
        for event, at, until in in_force(reports) + in_force(area_reports)
        if event in VISIT_EVENTS
    ]
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


def corroborated(alert: Alert, found: Mapping[SecondEvidence, int]) -> Alert:
    """An alert of severity 1 with the second evidence found; without any, as its rule raises it."""
    en, zh = alert.en, alert.zh
    for evidence_en, evidence_zh in SECOND_EVIDENCE.values():
        en = en.replace(evidence_en, "")
        zh = zh.replace(evidence_zh, "")
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if name not in SECOND_EVIDENCE
    }

    levels = ALL_RULES[alert.rule].levels
    mildest = max(level.severity for level in levels)
    reached = [level.severity for level in levels if alert.score >= level.score]
    severity = min([mildest, *reached])
    for name in second_evidence(alert):
        if count := found[name]:
            severity = 1
            evidence[name] = float(count)
            en += SECOND_EVIDENCE[name][0]
            zh += SECOND_EVIDENCE[name][1]
    return msgspec.structs.replace(
        alert, severity=severity, evidence=evidence, en=en, zh=zh
    )

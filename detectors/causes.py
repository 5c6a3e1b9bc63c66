"""One cause, one alert: what an area's failure explains, one trouble by several rules, many alerts of a day."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from detectors.rule import ALL_RULES
from models.incidents import (
    LONG_FIELD_SECONDS,
    OPENING_EVENTS,
    ORDER_MARGIN_SECONDS,
    VISIT_EVENTS,
    all_called_off,
)
from schemas.alert import Alert, Change, alert_id
from schemas.columns import LATEST_TIME, Event
from schemas.units import DAY_SECONDS

NOTICE_SUBJECTS = 20  # subjects of an area that a rule tells on one day, from which one notice stands for them
NOTICE_RECORDS = 3  # the same of a fault in files, which comes with a whole column; both defaults of this project
GRAVE_SEVERITY = 2  # severity from which an alert is always told by itself
NAMED_SUBJECTS = 20  # subjects that a sentence names
NOTICE_COUNT = "alerts"  # evidence that a notice alone has
EXPLAINED_COUNT = "explained_alerts"  # evidence of a failure that explains others
EXPLAINS_TEXT = (" It explains", "由此引起的用户告警")  # what a sentence goes on with
EXPLAINED_BY_FAILURE: dict[str, frozenset[str]] = {
    "read_success_rate": frozenset({"read_failure", "new_install_check"})
}
"""By rule of a whole area, the rules of its meters that are raised by the same failure."""

ON_USE = frozenset(
    {"step_drop", "usage_fluctuation", "near_zero_usage", "zero_usage", "low_usage"}
)
"""Rules that tell of one trouble with a customer's use."""

CALM_SECONDS = (
    14 * DAY_SECONDS
)  # after which another trouble is another episode: default of this project
ALSO_PREFIX = "also_"  # evidence of an alert for each other rule that tells of the same, with its score
ALSO_TEXT = (" The same is told by", "同一情况另见")  # what a sentence goes on with

STRENGTHENED_RULES = frozenset(
    {"area_loss_correlation"}
)  # rules of one statistic, graver with a second kind of evidence
SECOND_EVIDENCE = {
    "openings": (
        " The meter was opened without an order near in time.",
        "邻近时间电表无工单开启。",
    ),
    "fields": (
        " A magnetic field was at the meter near in time.",
        "邻近时间有恒定磁场作用于电表。",
    ),
}
NEAR_SECONDS = (
    30 * DAY_SECONDS
)  # before an episode began, or after: default of this project
EVIDENCE_EVENTS = (
    OPENING_EVENTS | VISIT_EVENTS | {Event.MAGNETIC_FIELD, Event.MAGNETIC_FIELD_END}
)
EventSpan = tuple[int, int, int]  # event, from, until


class NoticeKey(NamedTuple):
    """What the alerts of one notice share."""

    area: str
    rule: str
    day: int
    fault: str  # of a file

    @property
    def id(self) -> str:
        """The id of its notice."""
        return alert_id(
            self.rule, self.area, f"notice {self.fault}", self.day * DAY_SECONDS
        )

    @property
    def least_subjects(self) -> int:
        """From how many subjects on there is a notice."""
        return NOTICE_RECORDS if family(self.rule) == "master_data" else NOTICE_SUBJECTS


def family(rule: str) -> str:
    """The family of a rule, "" where it is not known."""
    return ALL_RULES[rule].family if rule in ALL_RULES else ""


def is_notice(alert: Alert) -> bool:
    """Whether an alert stands for many."""
    return NOTICE_COUNT in alert.evidence


def _is_of_area(alert: Alert) -> bool:
    """Whether an alert is about a whole area."""
    return alert.subject in ("", alert.area)


def notice_key_of(alert: Alert) -> NoticeKey | None:
    """Whom an alert would share a notice with; None where it is told by itself."""
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
    """Whether the failure of an area explains an alert of one of its meters, as far as it lasts."""
    return (
        alert.rule in EXPLAINED_BY_FAILURE.get(failure.rule, ())
        and failure.state != "withdrawn"
        and not failure.suppressed_by
        and not _is_of_area(alert)
        and failure.since <= alert.since
        and (failure.state == "raised" or alert.raised <= failure.at)
    )


def _first_names(subjects: Collection[str]) -> str:
    """The first of some subjects."""
    return ", ".join(sorted(subjects)[:NAMED_SUBJECTS])


def with_explained(failure: Alert, subjects: Collection[str]) -> Alert:
    """A failure with the meters whose alerts it explains, in place of those it had."""
    evidence = {
        name: value
        for name, value in failure.evidence.items()
        if name != EXPLAINED_COUNT
    }
    en, zh = (
        failure.en.partition(EXPLAINS_TEXT[0])[0],
        failure.zh.partition(EXPLAINS_TEXT[1])[0],
    )
    if subjects:
        count = len(subjects)
        evidence[EXPLAINED_COUNT] = float(count)
        en += EXPLAINS_TEXT[0] + (
            f" {count} alerts of its meters, among them"
            if count > 1
            else " the alert of its meter"
        )
        en += f" {_first_names(subjects)}."
        zh += f"{EXPLAINS_TEXT[1]}{count}条,包括{_first_names(subjects)}。"
    return msgspec.structs.replace(failure, evidence=evidence, en=en, zh=zh)


def same_trouble(alert: Alert, others: Sequence[Alert]) -> list[Alert]:
    """Those of the alerts on a customer's use that go on from one another within two weeks, and this one among them."""
    chain: list[Alert] = []
    until = 0
    for one in sorted([alert, *others], key=lambda one: (one.since, one.id)):
        if chain and one.since > until + CALM_SECONDS:
            if alert in chain:
                break
            chain = []
        until = max(
            until if chain else 0, one.at if one.state == "cleared" else LATEST_TIME
        )
        chain.append(one)
    return chain


def representative(chain: Sequence[Alert]) -> Alert:
    """The alert that speaks for others of the same trouble: one that lasts, then the gravest, then the first."""
    return min(
        chain, key=lambda one: (one.state != "raised", one.severity, one.raised, one.id)
    )


def with_other_rules(alert: Alert, others: Sequence[Alert]) -> Alert:
    """An alert that names the other rules which tell of the same, in place of those that it named."""
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if not name.startswith(ALSO_PREFIX)
    }
    en, zh = alert.en.partition(ALSO_TEXT[0])[0], alert.zh.partition(ALSO_TEXT[1])[0]
    scores = {
        one.rule: one.score
        for one in sorted(others, key=lambda one: (one.raised, one.id))
    }
    if scores:
        evidence |= {ALSO_PREFIX + rule: score for rule, score in scores.items()}
        titles = [ALL_RULES[rule].title for rule in scores]
        en += f"{ALSO_TEXT[0]} {', '.join(repr(title) for title, _ in titles)}."
        zh += f"{ALSO_TEXT[1]}{'、'.join(title for _, title in titles)}。"
    return msgspec.structs.replace(alert, evidence=evidence, en=en, zh=zh)


class NoticeGroup:
    """The alerts that may share a notice, without those that something explains; each costs the same in any size."""

    def __init__(self) -> None:
        self.members: dict[str, Alert] = {}
        self._ids_by_subject: dict[str, set[str]] = {}  # ids
        self.subjects: list[str] = []  # in order
        self.open_count = 0

    def add(self, alert: Alert) -> None:
        """Take an alert in, in place of what was known of it."""
        self.drop(alert.id)
        self.members[alert.id] = alert
        self.open_count += alert.state == "raised"
        if alert.subject not in self._ids_by_subject:
            self._ids_by_subject[alert.subject] = set()
            insort(self.subjects, alert.subject)
        self._ids_by_subject[alert.subject].add(alert.id)

    def drop(self, key: str) -> None:
        """Let an alert go, if it is there."""
        if (alert := self.members.pop(key, None)) is None:
            return
        self.open_count -= alert.state == "raised"
        mine = self._ids_by_subject[alert.subject]
        mine.discard(key)
        if not mine:
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
    """How many subjects a notice speaks of: from a hundred on in two digits, so that not every one is a message.

    >>> [counted(subjects) for subjects in (20, 99, 104, 1270)]
    [20, 99, 100, 1200]
    """
    step = 10 ** max(len(str(subjects)) - 2, 0)
    return subjects // step * step


def notice_of(key: NoticeKey, group: NoticeGroup, known: Alert | None) -> Alert:
    """The notice that stands for some alerts, after what was known of it; its times are those of what it names."""
    members, lasting = group.named_alerts(), group.open_count > 0
    gravest = min(members, key=lambda alert: (alert.severity, -alert.score, alert.id))
    count, names = (
        _rounded_count(len(group.subjects)),
        ", ".join(group.subjects[:NAMED_SUBJECTS]),
    )
    change: Change = "raised"
    if known and known.state != "withdrawn":
        change = (
            "revised"
            if (known.state == "raised") == lasting
            else "raised"
            if lasting
            else "cleared"
        )
    more = count < len(group.subjects)
    return msgspec.structs.replace(
        gravest,
        id=key.id,
        subject="",
        state="raised" if lasting else "cleared",
        change=change,
        revision=known.revision + 1 if known else 0,
        since=min(alert.since for alert in members),
        raised=min(alert.raised for alert in members),
        at=max(alert.raised if lasting else alert.at for alert in members),
        phase="",
        suppressed_by="",
        evidence=gravest.evidence | {NOTICE_COUNT: float(count)},
        en=f"{count}{' or more' * more} alerts of one day and kind in one: {names}. The gravest of these: {gravest.en}",
        zh=f"同日同类告警{count}条{'以上' * more}合并为一条:{names}。其中最重:{gravest.zh}",
    )


def in_force(spans: Sequence[EventSpan]) -> list[EventSpan]:
    """Events without those that were called off, whichever came first."""
    off = all_called_off(spans)
    return [span for span in spans if span[:2] not in off]


def corroboration(
    alert: Alert, reports: Sequence[EventSpan], area_reports: Sequence[EventSpan]
) -> dict[str, int]:
    """What a meter reported near an alert in time that is evidence too: openings without an order, magnetic fields."""
    sent = in_force(reports) + in_force(area_reports)
    visits = [
        (at - ORDER_MARGIN_SECONDS, max(until, at) + ORDER_MARGIN_SECONDS)
        for event, at, until in sent
        if event in VISIT_EVENTS
    ]
    ends = [at for event, at, _ in reports if event == Event.MAGNETIC_FIELD_END]
    near = [
        (event, at, until)
        for event, at, until in reports
        if alert.since - NEAR_SECONDS <= at <= alert.since + NEAR_SECONDS
    ]
    fields = [
        (
            at,
            min(
                [end for end in (until, *ends) if end > at],
                default=at + LONG_FIELD_SECONDS,
            ),
        )
        for event, at, until in near
        if event == Event.MAGNETIC_FIELD
    ]
    openings = [at for event, at, _ in near if event in OPENING_EVENTS]
    return {
        "openings": sum(
            not any(start <= at <= end for start, end in visits) for at in openings
        ),
        "fields": sum(end - at >= LONG_FIELD_SECONDS for at, end in fields),
    }


def corroborated(alert: Alert, found: Mapping[str, int]) -> Alert:
    """An alert with a second kind of evidence, of severity 1 with any; as its rule tells it without."""
    en, zh = alert.en, alert.zh
    for first, second in SECOND_EVIDENCE.values():
        en, zh = en.replace(first, ""), zh.replace(second, "")
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if name not in SECOND_EVIDENCE
    }
    severity = max(level.severity for level in ALL_RULES[alert.rule].levels)
    severity = min(
        [
            severity,
            *(
                level.severity
                for level in ALL_RULES[alert.rule].levels
                if alert.score >= level.score
            ),
        ]
    )
    for name in (name for name, count in found.items() if count):
        severity, evidence[name] = 1, float(found[name])
        en, zh = en + SECOND_EVIDENCE[name][0], zh + SECOND_EVIDENCE[name][1]
    return msgspec.structs.replace(
        alert, severity=severity, evidence=evidence, en=en, zh=zh
    )

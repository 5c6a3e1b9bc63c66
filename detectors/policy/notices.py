"""Many alerts of one rule, area and day are shown as one notice, which names them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from detectors.policy.recent import RecentAlerts
from detectors.policy.suppressor import GRAVE_SEVERITY, FirstReason, Suppressor
from detectors.rule import ALL_RULES
from schemas.alert import Alert, Change, alert_id
from schemas.units import DAY_SECONDS

# subjects of an area with alerts of a rule on one day, from which one notice stands for
# them; the same of a fault in master data, which comes with a whole column of a file.
# Both are defaults of this project.
NOTICE_SUBJECTS = 20
NOTICE_RECORDS = 3
NAMED_SUBJECTS = 20  # subjects that a sentence names
NOTICE_REASON = "notice"
NOTICE_COUNT = "alerts"  # evidence that only a notice has


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
        return NOTICE_RECORDS if _is_of_master_data(self.rule) else NOTICE_SUBJECTS


def _is_of_master_data(name: str) -> bool:
    """Whether a rule judges master data."""
    rule = ALL_RULES.get(name)
    return rule is not None and rule.family == "master_data"


def is_notice(alert: Alert) -> bool:
    """Whether an alert stands for many."""
    return NOTICE_COUNT in alert.evidence


def notice_key_of(alert: Alert) -> NoticeKey | None:
    """The key of the notice that an alert may share; None if it stands for itself."""
    if (
        alert.subject in ("", alert.area)
        or is_notice(alert)
        or alert.severity <= GRAVE_SEVERITY
        or alert.state == "withdrawn"
    ):
        return None
    fault = ""
    if _is_of_master_data(alert.rule):
        faults = sorted(name for name, value in alert.evidence.items() if value > 0)
        fault = " ".join(faults)
    return NoticeKey(alert.area, alert.rule, alert.raised // DAY_SECONDS, fault)


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


def _notice_of(key: NoticeKey, group: NoticeGroup, known: Alert | None) -> Alert:
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


class Notices:
    """Suppresses alerts in favour of their notice; a change of one alert changes its notice and few others."""

    def __init__(
        self, recent: RecentAlerts, explained: Suppressor, decided: Suppressor
    ) -> None:
        self._recent = recent
        self._explained = explained  # such alerts share no notice
        self._suppressed = FirstReason(explained, decided)

        # alerts that may share a notice, and the ids of the alerts that have changed
        self.groups: dict[NoticeKey, NoticeGroup] = {}
        self._changed: dict[NoticeKey, set[str]] = {}

    def add(self, alert: Alert) -> None:
        """Note that an alert has changed."""
        if notice_key := notice_key_of(alert):
            self._changed.setdefault(notice_key, set()).add(alert.id)

    def drop(self, alert: Alert) -> None:
        """Remove an alert from those with which it may share a notice."""
        notice_key = notice_key_of(alert)
        if notice_key and notice_key in self.groups:
            self._changed.setdefault(notice_key, set())
            self.groups[notice_key].drop(alert.id)
            if not self.groups[notice_key].members:
                del self.groups[notice_key]

    def clear(self) -> None:
        """Forget all alerts."""
        self.groups = {}
        self._changed = {}

    def regroup(self) -> None:
        """Group the changed alerts as their notices stand for them, of which there may be none yet."""
        for notice_key, keys in self._changed.items():
            self._regroup(notice_key, keys)

    def settle(self) -> None:
        """Leave all notices as they are, whatever has changed."""
        self._changed = {}

    def keeps(self, alert: Alert) -> bool:
        """Whether an alert belongs to an open notice."""
        notice_key = notice_key_of(alert)
        if notice_key is None:
            return False
        notice = self._recent.of(alert.area).get(notice_key.id)
        return notice is not None and notice.state == "raised"

    def changes(self) -> Iterator[Alert]:
        """The notices that follow from changed alerts, and the alerts that go into a notice or leave it."""
        # each may change others
        while self._changed:
            notice_key, keys = next(iter(self._changed.items()))
            yield from self._changes_of(notice_key, keys.copy())
            del self._changed[notice_key]

    def _changes_of(
        self, notice_key: NoticeKey, keys: Collection[str]
    ) -> Iterator[Alert]:
        """The alerts that go into their notice or leave it, and the notice."""
        notice = self._recent.of(notice_key.area).get(notice_key.id)
        group = self._regroup(notice_key, keys)
        is_many = len(group.subjects) >= notice_key.least_subjects
        was_many = notice is not None and notice.state != "withdrawn"

        for key in sorted(keys if is_many == was_many else group.members):
            if (alert := group.members.get(key)) is None:
                continue
            suppressed_by = NOTICE_REASON if is_many else self._suppressed.reason(alert)
            if suppressed_by != alert.suppressed_by:
                revised = self._recent.revised(alert, suppressed_by)
                yield revised
                group.add(revised)

        new = notice
        if is_many:
            new = _notice_of(notice_key, group, notice)
        elif notice and was_many:
            new = _withdrawn(notice)
        if new and not (notice and _is_same(new, notice)):
            self._recent.remember(new)
            yield new
        if not group.members:
            del self.groups[notice_key]

    def _regroup(self, notice_key: NoticeKey, keys: Iterable[str]) -> NoticeGroup:
        """The alerts that may share a notice, after some of them have changed."""
        known = self._recent.of(notice_key.area)
        group = self.groups.setdefault(notice_key, NoticeGroup())
        for key in keys:
            alert = known.get(key)
            if (
                alert is None
                or notice_key_of(alert) != notice_key
                or self._explained.reason(alert)
            ):
                group.drop(key)
            else:
                group.add(alert)
        return group


def _withdrawn(notice: Alert) -> Alert:
    """The withdrawal of a notice."""
    return msgspec.structs.replace(
        notice, state="withdrawn", change="withdrawn", revision=notice.revision + 1
    )


def _is_same(new: Alert, notice: Alert) -> bool:
    """Whether a notice says nothing new."""
    return new == msgspec.structs.replace(
        notice, change=new.change, revision=new.revision
    )

"""The failure of an area explains alerts of its meters, counts them and names them."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from detectors.policy.midnights import Midnights
from detectors.policy.notices import NAMED_SUBJECTS
from detectors.policy.recent import RecentAlerts
from detectors.rule import ALL_RULES, Explanation, explanations_of
from schemas.alert import Alert
from schemas.units import NEVER_TIME

FAILURE_REASON = "area_failure"
EXPLAINED_COUNT = "explained_alerts"  # evidence of a failure that explains others
EXPLAINS_TEXT = (" It explains", "由此引起的用户告警")  # continues a sentence


def _explanation_by(failure: Alert) -> Explanation | None:
    """The explanation that the failure of an area is of its meters' alerts; None for another alert."""
    rule = ALL_RULES.get(failure.rule)
    return rule.explains if rule else None


def is_failure(alert: Alert) -> bool:
    """Whether an alert may explain alerts of the area's meters."""
    return _explanation_by(alert) is not None


def is_explainable(alert: Alert) -> bool:
    """Whether a failure of an area may explain an alert."""
    return Explanation.UNREAD_AREA in explanations_of(alert.rule)


def failure_explains(failure: Alert, alert: Alert) -> bool:
    """Whether the failure of an area explains an alert of one of its meters, while it lasts."""
    return (
        _explanation_by(failure) in explanations_of(alert.rule)
        and failure.state != "withdrawn"
        and not failure.suppressed_by
        and alert.subject not in ("", alert.area)
        and failure.since <= alert.since
        and (failure.state == "raised" or alert.raised <= failure.at)
    )


class AreaFailure:
    """Suppresses alerts that a failure of the whole area explains."""

    def __init__(self, recent: RecentAlerts, midnights: Midnights) -> None:
        self._recent = recent
        self._midnights = midnights
        self._ids: dict[str, set[str]] = {}  # of failures, by area

    def add(self, alert: Alert) -> None:
        """Remember a failure."""
        if is_failure(alert):
            self._ids.setdefault(alert.area, set()).add(alert.id)

    def drop(self, alert: Alert) -> None:
        """Forget a failure."""
        if alert.area in self._ids:
            self._ids[alert.area].discard(alert.id)

    def clear(self) -> None:
        """Forget all failures."""
        self._ids = {}

    def reason(self, alert: Alert) -> str:
        """Whether a failure of the whole area explains an alert."""
        if not is_explainable(alert):
            return ""
        for failure in self.failures(alert.area):
            if not failure_explains(failure, alert):
                continue
            over = NEVER_TIME if failure.state == "raised" else failure.at
            if not self._midnights.outlasts(alert, over):
                return FAILURE_REASON
        return ""

    def failures(self, area: str) -> list[Alert]:
        """The remembered failures of an area."""
        known = self._recent.of(area)
        return [known[key] for key in sorted(self._ids.get(area, ()))]

    def with_explained(self, failure: Alert) -> Alert:
        """A failure that names the meters whose alerts it explains."""
        meters = {
            alert.subject
            for alert in self._recent.of(failure.area).values()
            if alert.suppressed_by == FAILURE_REASON
            and failure_explains(failure, alert)
        }
        return _naming(failure, meters)


def _naming(failure: Alert, meters: Collection[str]) -> Alert:
    """A failure that names meters in place of the meters that it named."""
    evidence = {
        name: value
        for name, value in failure.evidence.items()
        if name != EXPLAINED_COUNT
    }
    en = failure.en.partition(EXPLAINS_TEXT[0])[0]
    zh = failure.zh.partition(EXPLAINS_TEXT[1])[0]

    if meters:
        count = len(meters)
        names = ", ".join(sorted(meters)[:NAMED_SUBJECTS])
        evidence[EXPLAINED_COUNT] = float(count)
        whose = "the alert of its meter"
        if count > 1:
            whose = f"{count} alerts of its meters, among them"
        en += f"{EXPLAINS_TEXT[0]} {whose} {names}."
        zh += f"{EXPLAINS_TEXT[1]}{count}条,包括{names}。"
    return msgspec.structs.replace(failure, evidence=evidence, en=en, zh=zh)

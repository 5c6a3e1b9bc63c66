"""Repeat limit, storm brake and budget are decided when an alert is raised, and stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from detectors.policy.area_failure import is_failure
from detectors.policy.budget import BUDGET_REASON, DailyBudget
from detectors.policy.events import MEMORY_SECONDS
from detectors.policy.repeat import REPEAT_REASON, RepeatLimit
from detectors.policy.storm import STORM_REASON, StormBrake
from detectors.policy.suppressor import GRAVE_SEVERITY
from schemas.alert import Alert
from schemas.units import DAY_SECONDS

BRAKE_REASONS = frozenset({STORM_REASON, BUDGET_REASON})


def _gravest_first(alert: Alert) -> tuple[int, float]:
    """The order in which alerts that come at once are decided."""
    return alert.severity, -alert.score


def _can_wait(alert: Alert) -> bool:
    """Whether the brakes may suppress an alert."""
    return alert.severity > GRAVE_SEVERITY and not is_failure(alert)


class Decisions:
    """Suppresses alerts as was decided when they were raised."""

    def __init__(
        self, section: Callable[[str], str], *, has_brakes: bool = True
    ) -> None:
        self.has_brakes = has_brakes
        self.repeat = RepeatLimit()
        self.storm = StormBrake()
        self.budget = DailyBudget(section)
        self.reasons: dict[str, str] = {}  # by id, while they may still change

    def reason(self, alert: Alert) -> str:
        """The decision on an alert."""
        return self.reasons.get(alert.id, "")

    def decide(self, alerts: Iterable[Alert]) -> None:
        """Apply repeat limit, storm brake and budget to new alerts, and to braked ones that escalate."""
        fresh: dict[str, Alert] = {}
        for alert in alerts:
            if alert.id not in fresh and self._is_settled(alert):
                continue
            if alert.id not in self.reasons:
                self.reasons[alert.id] = self.repeat.reason(alert)
            other = fresh.get(alert.id, alert)
            fresh[alert.id] = min(other, alert, key=_gravest_first)

        gravest_first = sorted(fresh.values(), key=_gravest_first)
        for alert in gravest_first:
            if self.reasons[alert.id] != REPEAT_REASON:
                self.reasons[alert.id] = self._brake(alert) if self.has_brakes else ""

    def _is_settled(self, alert: Alert) -> bool:
        """Whether the decision on an episode stays."""
        reason = self.reasons.get(alert.id)
        if reason is None:
            return False
        return reason not in BRAKE_REASONS or alert.change != "escalated"

    def _brake(self, alert: Alert) -> str:
        """The brake of a new alert, or of one that escalates."""
        return self.brake(
            alert, alert.at if alert.change == "escalated" else alert.raised
        )

    def brake(self, alert: Alert, decided_at: int) -> str:
        """Whether a day exceeds its forecast or its budget; all alerts count, grave ones and failures pass."""
        day = decided_at // DAY_SECONDS
        storm = self.storm.reason(alert, day)
        budget = self.budget.reason(alert, day)
        if not _can_wait(alert):
            return ""
        return storm or budget

    def forget_alert(self, key: str) -> None:
        """Forget the decision on an alert."""
        self.reasons.pop(key, None)

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget old counts of raises."""
        self.repeat.forget(watermarks)
        oldest = min(watermarks.values()) - MEMORY_SECONDS
        oldest_day = oldest // DAY_SECONDS
        self.storm.forget(oldest_day)
        self.budget.forget(oldest_day)

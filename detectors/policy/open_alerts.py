"""How many alerts are open, by rule, by day and by area."""

from __future__ import annotations

from collections import Counter

from schemas.alert import Alert
from schemas.units import DAY_SECONDS


class OpenAlerts:
    """Counts the open alerts that nothing suppresses."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()  # by rule and severity
        self.days: Counter[int] = Counter()  # by the UTC day on which they were raised
        self.areas: Counter[tuple[str, str]] = Counter()  # by area and rule

    def add(self, alert: Alert) -> None:
        """Take in an alert as published last."""
        self._count(alert, 1)

    def drop(self, alert: Alert) -> None:
        """Remove an alert."""
        self._count(alert, -1)

    def clear(self) -> None:
        """Remove all alerts."""
        self.counts.clear()
        self.days.clear()
        self.areas.clear()

    def _count(self, alert: Alert, change: int) -> None:
        if alert.state != "raised" or alert.suppressed_by:
            return
        self.counts[alert.rule, alert.severity] += change
        self.days[alert.raised // DAY_SECONDS] += change
        self.areas[alert.area, alert.rule] += change
        if not self.days[alert.raised // DAY_SECONDS]:
            del self.days[alert.raised // DAY_SECONDS]
        if not self.areas[alert.area, alert.rule]:
            del self.areas[alert.area, alert.rule]

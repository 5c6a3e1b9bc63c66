"""How many alerts are open, by rule and severity, and since which day."""

from __future__ import annotations

from collections import Counter

from schemas.alert import Alert
from schemas.units import DAY_SECONDS


class OpenAlerts:
    """Counts the open alerts that nothing suppresses."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()  # by rule and severity
        self.days: Counter[int] = Counter()  # by the UTC day on which they were raised

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

    def _count(self, alert: Alert, change: int) -> None:
        if alert.state != "raised" or alert.suppressed_by:
            return
        self.counts[alert.rule, alert.severity] += change
        day = alert.raised // DAY_SECONDS
        self.days[day] += change
        if not self.days[day]:
            del self.days[day]

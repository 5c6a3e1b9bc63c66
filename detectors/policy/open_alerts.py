"""How many alerts are open, by rule and severity."""

from __future__ import annotations

from collections import Counter

from schemas.alert import Alert


class OpenAlerts:
    """Counts the open alerts that nothing suppresses."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()

    def add(self, alert: Alert) -> None:
        """Take in an alert as published last."""
        if _is_shown(alert):
            self.counts[alert.rule, alert.severity] += 1

    def drop(self, alert: Alert) -> None:
        """Remove an alert."""
        if _is_shown(alert):
            self.counts[alert.rule, alert.severity] -= 1

    def clear(self) -> None:
        """Remove all alerts."""
        self.counts.clear()


def _is_shown(alert: Alert) -> bool:
    return alert.state == "raised" and not alert.suppressed_by

"""A suppressor gives the reason for which an alert is not shown."""

from __future__ import annotations

from typing import Protocol

from schemas.alert import Alert

GRAVE_SEVERITY = 2  # severity from which an alert always stands for itself


class Suppressor(Protocol):
    """Something that may suppress alerts."""

    def reason(self, alert: Alert) -> str:
        """Why an alert is suppressed, "" if it is not."""


class FirstReason:
    """Suppressors in a row: the first that has a reason gives it."""

    def __init__(self, *row: Suppressor) -> None:
        self._row = row

    def reason(self, alert: Alert) -> str:
        """Why an alert is suppressed, "" if it is not."""
        for suppressor in self._row:
            if reason := suppressor.reason(alert):
                return reason
        return ""

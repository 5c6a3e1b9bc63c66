"""The alerts that were published of late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from schemas.alert import Alert, Change


class AlertIndex(Protocol):
    """A view of the recent alerts, kept up to date with them."""

    def add(self, alert: Alert) -> None:
        """Take in an alert as published last."""

    def drop(self, alert: Alert) -> None:
        """Remove an alert."""

    def clear(self) -> None:
        """Remove all alerts."""


class RecentAlerts:
    """The last published alert of every episode, by area and id."""

    def __init__(self) -> None:
        self.by_area: dict[str, dict[str, Alert]] = {}
        self._indexes: list[AlertIndex] = []

    def index(self, index: AlertIndex) -> None:
        """Keep an index up to date from now on."""
        self._indexes.append(index)

    def of(self, area: str) -> Mapping[str, Alert]:
        """The alerts of an area by id."""
        return self.by_area.get(area, {})

    def remember(self, alert: Alert) -> None:
        """Keep an alert as published last."""
        known = self.by_area.setdefault(alert.area, {})
        if alert.id in known:
            self._drop(known[alert.id])
        known[alert.id] = alert
        for index in self._indexes:
            index.add(alert)

    def revised(
        self, alert: Alert, suppressed_by: str, change: Change = "revised"
    ) -> Alert:
        """A published alert with another reason; it is remembered."""
        revised = msgspec.structs.replace(
            alert,
            suppressed_by=suppressed_by,
            change=change,
            revision=alert.revision + 1,
        )
        self.remember(revised)
        return revised

    def forget(self, alert: Alert) -> None:
        """Forget an alert."""
        self._drop(self.by_area[alert.area].pop(alert.id))

    def clear(self) -> None:
        """Forget all alerts."""
        self.by_area = {}
        for index in self._indexes:
            index.clear()

    def _drop(self, alert: Alert) -> None:
        """Remove an alert from the indexes."""
        for index in self._indexes:
            index.drop(alert)

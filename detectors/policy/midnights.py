"""An alert that lasts at a midnight well after its explanation is no longer explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from detectors.rule import ALL_RULES
from schemas.alert import Alert
from schemas.units import DAY_SECONDS, NEVER_TIME


class Midnights:
    """The last midnights of areas, at which their lasting alerts are checked."""

    def __init__(self) -> None:
        # by area: the last midnight that was checked, and the midnight passed since
        self.checked: dict[str, int] = {}
        self._passed: dict[str, int] = {}

    def note(self, watermarks: Mapping[str, int]) -> None:
        """Note the last midnight before each watermark."""
        for area, watermark in watermarks.items():
            self._passed[area] = watermark // DAY_SECONDS * DAY_SECONDS

    def check(self) -> Iterable[str]:
        """The areas with a midnight to check, which then counts as checked."""
        passed, self._passed = self._passed, {}
        self.checked |= passed
        return passed

    def outlasts(self, alert: Alert, over: int) -> bool:
        """Whether an alert lasts at a midnight half a day and its release after its explanation."""
        if over == NEVER_TIME:
            return False
        seen = alert.at
        if alert.state == "raised":
            seen = max(seen, self.checked.get(alert.area, 0))

        rule = ALL_RULES.get(alert.rule)
        release = rule.release if rule else 0
        calm = over + release + DAY_SECONDS // 2
        midnights = -(-calm // DAY_SECONDS)
        return seen >= midnights * DAY_SECONDS

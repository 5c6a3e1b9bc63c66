"""A rule that raises again and again for one subject is suppressed for a day."""

from __future__ import annotations

from collections.abc import Mapping

from detectors.policy.events import MEMORY_SECONDS
from schemas.alert import Alert
from schemas.units import DAY_SECONDS

DAILY_RAISES = 3  # of one rule and subject, then suppressed; default of this project
REPEAT_REASON = "repeat"


class RepeatLimit:
    """Suppresses a new alert if the same was raised too often within the day before."""

    def __init__(self) -> None:
        # times of raises by rule, area and subject
        self.raises: dict[tuple[str, str, str], list[int]] = {}

    def reason(self, alert: Alert) -> str:
        """Whether a new alert is one too many; it is counted."""
        key = (alert.rule, alert.area, alert.subject)
        day_before = alert.raised - DAY_SECONDS
        known = self.raises.get(key, [])
        times = [at for at in known if at > day_before]
        self.raises[key] = [*times, alert.raised]
        if len(times) >= DAILY_RAISES:
            return REPEAT_REASON
        return ""

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget old raises."""
        for key, times in list(self.raises.items()):
            watermark = watermarks.get(key[1])
            if watermark is None:
                continue
            if times[-1] < watermark - MEMORY_SECONDS:
                del self.raises[key]

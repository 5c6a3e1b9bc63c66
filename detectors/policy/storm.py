"""A rule that raises far more often on a day than in the week before is braked."""

from __future__ import annotations

import math
from collections import Counter

from schemas.alert import Alert

STORM_TIMES = 3.0  # of the forecast, from which the brake acts: catalogue section 5
STORM_LEAST = 50  # raises of a rule and day, up to which the brake does not act
STORM_DAYS = 3  # with raises in the last week, without which there is no forecast
WEEK_DAYS = 7
STORM_REASON = "storm"


class StormBrake:
    """Suppresses the alerts of a rule beyond its forecast of the day."""

    def __init__(self) -> None:
        self.raises: Counter[tuple[str, int]] = Counter()  # by rule and day

    def reason(self, alert: Alert, day: int) -> str:
        """Whether a day exceeds its forecast; the alert is counted."""
        key = (alert.rule, day)
        self.raises[key] += 1
        if self.raises[key] > self._forecast(alert.rule, day):
            return STORM_REASON
        return ""

    def _forecast(self, rule: str, day: int) -> float:
        """How many raises of a rule a day may bring; unlimited until enough days are known."""
        past = [self.raises[rule, day - n] for n in range(1, WEEK_DAYS + 1)]
        if WEEK_DAYS - past.count(0) < STORM_DAYS:
            return math.inf
        forecast = STORM_TIMES * sum(past) / WEEK_DAYS
        return max(STORM_LEAST, forecast)

    def forget(self, oldest_day: int) -> None:
        """Forget old counts."""
        for key in list(self.raises):
            if key[-1] < oldest_day:
                del self.raises[key]

"""What an engine's state comes to, for the metrics of a worker."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.rule_counts import RuleCounts, sum_of
from models.meters.day_runs import DayRuns
from schemas.units import DAY_SECONDS

# Days since an alert was raised, at most.
OPEN_AGES = {"1d": 1, "7d": 7, "30d": 30, "90d": 90, "more": inf}


class EngineFigures(NamedTuple):
    """Counts as of now."""

    open_alerts: Counter[tuple[str, int]]  # shown, by rule and severity
    open_ages: Counter[str]  # of the same, by a word of OPEN_AGES
    meters: int
    silent_meters: int  # without a reading on their last closed day
    judged_until: (
        int  # event time to which half of the areas have come, 0 without areas
    )
    rules: RuleCounts  # since the engine was made or restored


def figures_of(engine: Engine) -> EngineFigures:
    """The figures of an engine; another thread may run it meanwhile."""
    judged_until = _median(engine.areas.watermarks)
    return EngineFigures(
        Counter(engine.policy.open.counts),
        _ages(Counter(engine.policy.open.days), judged_until // DAY_SECONDS),
        len(engine.indexes.meters),
        _silent_meters(engine),
        judged_until,
        sum_of(judge.counts for judge in engine.judges.live()),
    )


def _ages(days: Counter[int], today: int) -> Counter[str]:
    """The numbers of alerts by age, from the days on which they were raised."""
    ages: Counter[str] = Counter()
    for day, alerts in days.items():
        age = next(word for word, most in OPEN_AGES.items() if today - day <= most)
        ages[age] += alerts
    return ages


def _silent_meters(engine: Engine) -> int:
    features = engine.judges.revisable["days"].live.features
    runs = next(feature for feature in features if isinstance(feature, DayRuns))
    return int(np.count_nonzero(runs.cells["missing"]))


def _median(watermarks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    known = watermarks[watermarks > 0]
    if not len(known):
        return 0
    middle = len(known) // 2
    return int(np.partition(known, middle)[middle])

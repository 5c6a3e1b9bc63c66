"""What an engine's state comes to, for the metrics of a worker."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.rule_counts import RuleCounts, sum_of
from models.meters.day_runs import DayRuns


class EngineFigures(NamedTuple):
    """Counts as of now."""

    open_alerts: Counter[tuple[str, int]]  # shown, by rule and severity
    meters: int
    silent_meters: int  # without a reading on their last closed day
    judged_until: (
        int  # event time to which half of the areas have come, 0 without areas
    )
    rules: RuleCounts  # since the engine was made or restored


def figures_of(engine: Engine) -> EngineFigures:
    """The figures of an engine; another thread may run it meanwhile."""
    return EngineFigures(
        Counter(engine.policy.open_counts),
        len(engine.indexes.meters),
        _silent_meters(engine),
        _median(engine.areas.watermarks),
        sum_of(judge.counts for judge in engine.judges.live()),
    )


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

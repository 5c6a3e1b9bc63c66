"""The generic detector of a single series: how unusual a value, its change and its distance from the season are.

It knows nothing of meters. Each statistic has a usual level and spread that forget with time; a deviation counts
beside the highest deviations that the series shows anyway. A row is scored before it is learned, so it does not excuse
itself, and no row needs a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from schemas.columns import Column, Times
from schemas.units import DAY_SECONDS, WEEK_SECONDS

SERIES_STATISTICS = ("value", "rate", "season")
LEARNED_ROWS = 100  # of a statistic, before its first score
LEVEL_HALF_LIFE = 7 * DAY_SECONDS
PEAK_HALF_LIFE = 28 * DAY_SECONDS
SEASON_WEIGHT = 0.25  # of the newest day in the usual value of its hour
KNOWN_DAYS = 5  # before the usual value of an hour of the day counts
KNOWN_WEEKS = 3  # before that of an hour of the week counts in its place
PEAK_MARGIN = 1.3  # of a deviation that scores 1, beside the highest usual one
LEAST_PEAK = 3.0  # spreads
CLIPPED_SPREADS = 4.0  # beyond which a value teaches no more
LEAST_SPREAD = 1e-4  # of the range that was seen
MOST_SPREADS = 1e4  # that a deviation counts


class SeriesScores(NamedTuple):
    """Scores of shape (rows,): 1 is unusual. NaN where a value is missing or too little is known."""

    score: Column  # the highest of the three
    value: Column
    rate: Column
    season: Column
    expected: Column  # the usual value of the hour, in the unit of the series

    def statistic(self, row: int) -> str:
        """The statistic that has the highest score of a row."""
        scores = np.array([getattr(self, name)[row] for name in SERIES_STATISTICS])
        return SERIES_STATISTICS[int(np.nanargmax(scores))]


def _spreads(distance: float, spread: float) -> float:
    """How many spreads a distance is."""
    if not spread:
        return MOST_SPREADS if distance else 0.0
    return min(distance / spread, MOST_SPREADS)


class _Usual(NamedTuple):
    """A usual value, and how often it was seen."""

    times: int
    value: float


UNKNOWN_VALUE = _Usual(0, math.nan)


@dataclass
class _Statistic:
    """The usual level, spread and highest deviation of one statistic."""

    mean: float = 0.0
    spread: float = 0.0  # mean absolute deviation
    peak: float = LEAST_PEAK
    weight: float = 0.0  # of all that was learned; the newest row has 1
    rows: int = 0

    @property
    def is_known(self) -> bool:
        """Whether enough was learned to score."""
        return self.rows >= LEARNED_ROWS

    def score(self, value: float, least_spread: float, seconds: float) -> float:
        """The score of a value that comes so long after the one before, NaN before enough is known; learns it then."""
        if math.isnan(value):
            return math.nan
        if not self.rows:
            self.mean = value
        distance = value - self.mean
        deviation = _spreads(abs(distance), max(self.spread, least_spread))
        score = deviation / (PEAK_MARGIN * self.peak) if self.is_known else math.nan

        if self.rows >= LEARNED_ROWS / 2:
            faded = self.peak * 0.5 ** (seconds / PEAK_HALF_LIFE)
            self.peak = max(LEAST_PEAK, faded, min(deviation, 2 * self.peak))
            if deviation > CLIPPED_SPREADS:
                distance *= CLIPPED_SPREADS / deviation
        self._learn(distance, seconds)
        return score

    def clipped(self, value: float) -> float:
        """A value that teaches no more than the spread allows, once that is known."""
        if not self.is_known or math.isnan(value):
            return value
        reach = CLIPPED_SPREADS * self.spread
        return min(max(value, self.mean - reach), self.mean + reach)

    def _learn(self, distance: float, seconds: float) -> None:
        """Move the usual level and spread towards a value at that distance."""
        forgotten = 0.5 ** (seconds / LEVEL_HALF_LIFE)
        self.weight = self.weight * forgotten + 1
        self.rows += 1
        self.mean += distance / self.weight
        self.spread += (abs(distance) - self.spread) / self.weight


@dataclass
class _Season:
    """The usual value of each hour of the day, and of the week once it is known."""

    days: dict[int, _Usual] = field(default_factory=dict)  # by slot of the day
    weeks: dict[int, _Usual] = field(default_factory=dict)

    def expected(self, slot_of_day: int, slot_of_week: int) -> float:
        """The usual value; NaN if the hour is not yet known."""
        weekly = self.weeks.get(slot_of_week, UNKNOWN_VALUE)
        if weekly.times >= KNOWN_WEEKS:
            return weekly.value
        daily = self.days.get(slot_of_day, UNKNOWN_VALUE)
        return daily.value if daily.times >= KNOWN_DAYS else math.nan

    def learn(self, slot_of_day: int, slot_of_week: int, value: float) -> None:
        """Learn a value of an hour."""
        for usual, slot in ((self.days, slot_of_day), (self.weeks, slot_of_week)):
            before = usual.get(slot, _Usual(0, value))
            learned = before.value + SEASON_WEIGHT * (value - before.value)
            usual[slot] = _Usual(before.times + 1, learned)


class SeriesDetector:
    """Scores a series in order of time, in pieces of any length. Its season has slots of `slot` seconds."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._statistics = {name: _Statistic() for name in SERIES_STATISTICS}
        self._season = _Season()
        self._low, self._high = math.inf, -math.inf
        self._last_at, self._last_value = 0, math.nan

    def score(self, at: Times, values: Column) -> SeriesScores:
        """Score the next rows, whose times ascend. Local times, if days are to be local."""
        rows = np.full((len(SeriesScores._fields), len(at)), np.nan)
        for row, (time, value) in enumerate(
            zip(at.tolist(), values.tolist(), strict=True)
        ):
            if not math.isnan(value):
                rows[:, row] = self._score_row(time, value)
        return SeriesScores(*rows)

    def _score_row(self, at: int, value: float) -> tuple[float, ...]:
        """The scores of a row in the order of SeriesScores; learns it then."""
        slots = at % DAY_SECONDS // self._slot, at % WEEK_SECONDS // self._slot
        expected = self._season.expected(*slots)
        measures = {
            "value": value,
            "rate": value - self._last_value,
            "season": value - expected,
        }
        least_spread = LEAST_SPREAD * max(self._high - self._low, 0.0)
        seconds = at - self._last_at if self._last_at else 0

        scores = [
            self._statistics[name].score(measure, least_spread, seconds)
            for name, measure in measures.items()
        ]
        self._season.learn(*slots, self._taught(value, expected))
        self._low, self._high = min(self._low, value), max(self._high, value)
        self._last_at, self._last_value = at, value
        known = [score for score in scores if not math.isnan(score)]
        return max(known, default=math.nan), *scores, expected

    def _taught(self, value: float, expected: float) -> float:
        """The value that the season learns: a single spike does not become usual."""
        if math.isnan(expected):
            return value
        return expected + self._statistics["season"].clipped(value - expected)

"""The highest score of every rule, meter and day, kept with the state of an engine until the day cannot change.

Rules of readings score a day row by row. A rule of days scores the whole of it, and again if the day is amended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import numpy as np

from detectors.area_times import AreaTimes, SubjectWatermarks
from detectors.judge import worst_of
from detectors.pipelines import EngineSettings, Judges
from detectors.revisable import RevisableJudge
from detectors.rule import Rule
from models.master.calendar import FIRST_DATE, day_of, midnights
from models.state.cells import Array, Columns
from models.state.index import Index
from models.state.owners import Owner, Schema, State, StateError
from models.state.runs import grouped
from schemas.columns import AreaDays, Batch, Codes, Column, Days, MasterRecords, Times
from schemas.scores import MeterScores
from schemas.units import DAY_SECONDS
from schemas.wire.encoding import LARGEST_SCORE

# a day that is judged again is judged whole; of other kinds a day comes in many batches
WHOLE_DAYS: tuple[type[Batch], ...] = (Days, AreaDays, MasterRecords)
SETTLING_SECONDS = (
    DAY_SECONDS  # after the grace period, in which sealed rows are judged
)
DECIMAL_PLACES = 4


def settled_at(day: int, settings: EngineSettings) -> int:
    """The watermark from which on no row of an area changes a day, an index into midnights."""
    return int(midnights(settings.zone)[day + 1]) + settings.grace + SETTLING_SECONDS


class ScoreFeed(Owner):
    """Sees all rows of meters that an engine judges live, and gives the scores of each meter's day once."""

    missed = False

    def __init__(
        self, judges: Judges, meters: Index, areas: AreaTimes, settings: EngineSettings
    ) -> None:
        self._meters = meters
        self._areas = areas
        self._settings = settings
        # by day, an index into midnights, and rule: a score for each slot
        self._days: dict[int, dict[str, Array]] = {}
        self._first_day = 0  # that is whole
        self._watermarks = SubjectWatermarks(areas)

        # the rows of each day in the last batch
        self._last_at: Times | None = None
        self._rows_by_day: list[tuple[int, Codes]] = []
        for pipeline in judges.pipelines:
            if pipeline.index is meters:
                judge = judges.by_name[pipeline.name]
                live = judge.live if isinstance(judge, RevisableJudge) else judge
                live.observe = partial(self._note, pipeline.kind in WHOLE_DAYS)

    def begin(self) -> None:
        """Leave out the days of which rows may have been judged unseen; a meter may be a day ahead of its area."""
        newest = self._areas.watermarks.max(initial=0)
        self._first_day = int(day_of(np.array([newest]), self._settings.zone)[0]) + 2

    def settled(self, most: int) -> list[MeterScores]:
        """Take the scores of meters' days that no row can change any more, the oldest days first."""
        rows: list[MeterScores] = []
        watermarks = self._watermarks.of(self._meters.pairs)
        for day in sorted(self._days):
            due = settled_at(day, self._settings)
            if len(rows) >= most or watermarks.max(initial=0) < due:
                break
            scores = self._matrix(day)
            known = ~np.isnan(scores).all(axis=0)
            over = np.flatnonzero(known & (watermarks >= due))[: most - len(rows)]
            rows += self._rows(day, over, scores[:, over])

            for of_rule in self._days[day].values():
                of_rule[over[over < len(of_rule)]] = np.nan
            if len(over) == np.count_nonzero(known):
                del self._days[day]
        return rows

    def _note(
        self,
        is_whole: bool,
        rule: Rule,
        slots: Codes,
        columns: Columns,
        scores: Column,
    ) -> None:
        """Note the scores of rows by a rule; NaN are left out."""
        if scores.ndim == 2:
            scores = worst_of(scores, rule.clear, columns["elements"])
        is_known = ~np.isnan(scores)
        for day, rows in self._by_day(columns["at"]):
            known = rows[is_known[rows]]
            if not len(known) and rule.name not in self._days.get(day, {}):
                continue
            of_rule = self._of_rule(day, rule.name)
            if is_whole:
                of_rule[slots[rows]] = np.nan
            np.fmax.at(of_rule, slots[known], scores[known].astype(np.float32))

    def _by_day(self, at: Times) -> list[tuple[int, Codes]]:
        """The rows of each day that is whole; the rules of a batch ask for the same times."""
        if at is not self._last_at:
            days = grouped(day_of(at, self._settings.zone))
            self._rows_by_day = [each for each in days if each[0] >= self._first_day]
            self._last_at = at
        return self._rows_by_day

    def _of_rule(self, day: int, rule: str) -> Array:
        """The scores of a day by a rule, with room for every meter."""
        of_rules = self._days.setdefault(day, {})
        known = of_rules.get(rule, np.zeros(0, np.float32))
        if more := len(self._meters) - len(known):
            fresh = np.full(more, np.nan, np.float32)
            known = of_rules[rule] = np.concatenate([known, fresh])
        return known

    def _matrix(self, day: int) -> Array:
        """The scores of a day by rule and slot."""
        rules = list(self._days[day])
        return np.stack([self._of_rule(day, rule) for rule in rules])

    def _rows(self, day: int, slots: Codes, scores: Array) -> Iterator[MeterScores]:
        """The rows of meters, with a column of scores for each; JSON has no infinity."""
        date = str(FIRST_DATE + timedelta(day))
        rules = list(self._days[day])
        rounded = np.round(scores.astype(np.float64), DECIMAL_PLACES)
        rounded = np.clip(rounded, -LARGEST_SCORE, LARGEST_SCORE)
        for slot, values in zip(slots.tolist(), rounded.T.tolist(), strict=True):
            area, meter = self._meters.pairs[slot]
            pairs = zip(rules, values, strict=True)
            by_rule = {rule: value for rule, value in pairs if not math.isnan(value)}
            yield MeterScores(area=area, meter=meter, day=date, scores=by_rule)

    def schema(self) -> Schema:
        """The day and rule of each part of the scores, which have a value for each meter."""
        return {
            "first_day": int,
            "parts": list[tuple[int, str]],
            "scores": np.zeros((), np.float32),
        }

    def state(self) -> State:
        """The scores of open days, one part after another."""
        parts = [(day, rule) for day, rules in self._days.items() for rule in rules]
        none = np.zeros(0, np.float32)
        scores = [self._of_rule(day, rule) for day, rule in parts]
        return {
            "first_day": self._first_day,
            "parts": parts,
            "scores": np.concatenate([none, *scores]),
        }

    def load(self, state: State) -> None:
        """Replace everything by `state`. Raises StateError."""
        self._days = {}
        self._first_day = state.get("first_day", 0)
        parts = state.get("parts", [])
        scores = state.get("scores", np.zeros(0, np.float32))
        meters, rest = divmod(len(scores), max(len(parts), 1))
        if rest or meters > len(self._meters):
            raise StateError("its scores are not those of its meters")
        by_part = scores.reshape(len(parts), meters)
        for (day, rule), of_rule in zip(parts, by_part, strict=True):
            self._days.setdefault(day, {})[rule] = np.array(of_rule)

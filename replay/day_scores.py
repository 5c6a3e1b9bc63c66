"""The highest score of every rule, subject and day, noted while an engine judges, quiet subjects included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from detectors.area_times import AreaTimes, SubjectWatermarks
from detectors.engine import Engine
from detectors.episodes import LULL_SECONDS
from detectors.judge import worst_of
from detectors.pipelines import Pipeline
from detectors.revisable import RevisableJudge
from detectors.rule import Rule
from detectors.score_feed import WHOLE_DAYS, settled_at
from models.master.calendar import day_of
from models.state.cells import Cells, Columns
from models.state.index import Index
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_SECONDS

Place = tuple[str, str]  # area and subject


class RuleDay(NamedTuple):
    """The highest scores of a rule on a day; row i is of subject i."""

    day: int  # an index into midnights
    rule: Rule
    subjects: Sequence[Place]
    score: Column
    at: Times  # of the highest score
    trouble: Times  # s for which the score had been 1 or more, the longest of the day


class _Runs:
    """Since when each subject has been in trouble by a rule, as its episodes count it."""

    def __init__(self, rule: Rule) -> None:
        self.cells = Cells(since=np.int64(0), last=np.int64(0))
        raise_line = rule.levels[0]
        self._line = raise_line.score
        self._max_gap = max(LULL_SECONDS.get(rule.kind, 0), raise_line.hold)

    def lasted(
        self, numbers: Codes, at: Times, scores: Column, gap: Column | None
    ) -> Times:
        """For how long each row's subject has been in trouble, in s; 0 if it is well."""
        seconds = np.zeros(len(at), np.int64)
        troubled = scores >= self._line
        active = troubled | (self.cells["since"][numbers] > 0)
        rows = np.flatnonzero(np.isin(numbers, numbers[active]))
        if not len(rows):
            return seconds
        by_subject = np.argsort(numbers[rows], kind="stable")
        rows = rows[by_subject]
        unbroken = np.ones(len(rows), np.bool_)
        if gap is not None:
            unbroken = gap[rows] <= self._max_gap

        since = self._since(numbers[rows], at[rows], troubled[rows], unbroken)
        lasted = at[rows] - since
        seconds[rows] = np.where(troubled[rows], lasted, 0)
        return seconds

    def _since(
        self, numbers: Codes, at: Times, troubled: Mask, unbroken: Mask
    ) -> Times:
        """Since when the run of each row lasts, 0 if it is well; rows of a subject stand together, in order."""
        differs = numbers[1:] != numbers[:-1]
        is_first = np.r_[True, differs]
        is_last = np.r_[is_first[1:], True]
        was_troubled = np.r_[False, troubled[:-1]]
        goes_on = was_troubled & ~is_first & unbroken
        # a run goes on from an earlier batch, unless its rows are judged again
        since = self.cells["since"][numbers]
        is_later = at > self.cells["last"][numbers]
        is_carried = is_first & (since > 0) & is_later & unbroken

        begun = np.where(is_carried, since, at)
        places = np.where(troubled & ~goes_on, np.arange(len(at)), 0)
        run_starts = np.maximum.accumulate(places)
        found = np.where(troubled, begun[run_starts], 0)
        last_numbers = numbers[is_last]
        self.cells["since"][last_numbers] = found[is_last]
        self.cells["last"][last_numbers] = at[is_last]
        return found


class _Subjects:
    """Numbers the subjects of a pipeline for good; the slots of ended timelines are given out again."""

    def __init__(self, pipeline: Pipeline, areas: AreaTimes) -> None:
        self._slots = pipeline.index
        self.is_whole = pipeline.kind in WHOLE_DAYS
        self._own = Index() if pipeline.timeline else pipeline.index
        self._watermarks = SubjectWatermarks(areas)

    @property
    def places(self) -> Sequence[Place]:
        """The subjects by number."""
        return self._own.pairs

    def numbers(self, slots: Codes) -> Codes:
        """The number of each slot."""
        if self._own is self._slots:
            return slots
        known, rows = np.unique(slots, return_inverse=True)
        places = [self._slots.pairs[slot] for slot in known.tolist()]
        own = [self._own.slot(*place) for place in places]
        return np.array(own, np.int64)[rows]

    def watermarks(self) -> Times:
        """The watermark of each subject's area."""
        return self._watermarks.of(self.places)


class _RuleScores:
    """What is noted of a rule."""

    def __init__(self, rule: Rule, subjects: _Subjects) -> None:
        self.rule = rule
        self.subjects = subjects
        self.runs = _Runs(rule)
        self.days: dict[int, Cells] = {}

    def cells_of(self, day: int) -> Cells:
        """The scores of a day, with room for all subjects."""
        if day not in self.days:
            self.days[day] = Cells(
                score=np.float64(np.nan), at=np.int64(0), trouble=np.int64(0)
            )
        cells = self.days[day]
        cells.reserve(len(self.subjects.places))
        return cells


class DayScores:
    """Sees all rows that an engine judges live."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules: dict[str, _RuleScores] = {}
        self._newest = 0
        for pipeline in engine.judges.pipelines:
            judge = engine.judges.by_name[pipeline.name]
            live = judge.live if isinstance(judge, RevisableJudge) else judge
            subjects = _Subjects(pipeline, engine.areas)
            live.observe = partial(self._note, subjects)

    def _note(
        self,
        subjects: _Subjects,
        rule: Rule,
        slots: Codes,
        columns: Columns,
        scores: Column,
    ) -> None:
        """Notes the scores of rows; NaN are left out."""
        if rule.name not in self._rules:
            self._rules[rule.name] = _RuleScores(rule, subjects)
        noted = self._rules[rule.name]
        if scores.ndim == 2:
            scores = worst_of(scores, rule.clear, columns["elements"])
        numbers = subjects.numbers(slots)
        days = day_of(columns["at"], self._engine.settings.zone)
        if subjects.is_whole:
            for day in np.unique(days).tolist():
                noted.cells_of(day).clear(np.unique(numbers[days == day]))

        known = np.flatnonzero(~np.isnan(scores))
        numbers = numbers[known]
        scores = scores[known]
        days = days[known]
        at = columns["at"][known].astype(np.int64)
        gap = columns["gap"][known] if "gap" in columns else None
        noted.runs.cells.reserve(len(subjects.places))
        lasted = noted.runs.lasted(numbers, at, scores, gap)
        for day in np.unique(days).tolist():
            rows = days == day
            _raise(
                noted.cells_of(day), numbers[rows], scores[rows], at[rows], lasted[rows]
            )

    def settled(self) -> Iterator[RuleDay]:
        """Takes what can no longer change, whenever the newest day has changed."""
        watermarks = self._engine.areas.watermarks
        newest = int(watermarks.max(initial=0)) // DAY_SECONDS
        if newest == self._newest:
            return
        self._newest = newest
        yield from self._taken(is_end=False)

    def rest(self) -> Iterator[RuleDay]:
        """Takes everything, at the end of the history."""
        yield from self._taken(is_end=True)

    def in_trouble(self, rule: str) -> dict[Place, int]:
        """The subjects whose last score by a rule was trouble, with its time."""
        noted = self._rules[rule]
        cells = noted.runs.cells
        numbers = np.flatnonzero(cells["since"]).tolist()
        return {
            noted.subjects.places[number]: int(cells["last"][number])
            for number in numbers
        }

    def _taken(self, *, is_end: bool) -> Iterator[RuleDay]:
        """Takes the scores of days that are settled in their areas."""
        for noted in self._rules.values():
            watermarks = noted.subjects.watermarks()

            for day in sorted(noted.days):
                cells = noted.cells_of(day)
                known = ~np.isnan(cells["score"][: len(watermarks)])
                over = watermarks >= settled_at(day, self._engine.settings)
                taken = np.flatnonzero(known if is_end else known & over)
                if len(taken):
                    yield _rule_day(day, noted, taken)
                if len(taken) == np.count_nonzero(known):
                    del noted.days[day]
                else:
                    cells.clear(taken)


def _raise(
    cells: Cells, numbers: Codes, scores: Column, at: Times, lasted: Times
) -> None:
    """Raises the scores of subjects to those of rows; of equal ones the first counts."""
    score = cells["score"]
    before = score[numbers]
    np.fmax.at(score, numbers, scores)
    is_highest = scores == score[numbers]
    is_new = is_highest & ~(before >= scores)
    winners = np.flatnonzero(is_new)[::-1]
    cells["at"][numbers[winners]] = at[winners]
    np.maximum.at(cells["trouble"], numbers, lasted)


def _rule_day(day: int, noted: _RuleScores, numbers: Codes) -> RuleDay:
    """The scores of some subjects on a day."""
    cells = noted.days[day]
    places = noted.subjects.places
    return RuleDay(
        day,
        noted.rule,
        [places[number] for number in numbers.tolist()],
        *(cells[name][numbers] for name in ("score", "at", "trouble")),
    )

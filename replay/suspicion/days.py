"""The latest days of every meter, as the engine judged them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import day_of
from models.state.cells import Cells, Columns
from models.state.index import Index
from replay.suspicion.features import SMALL_KWH, ratio
from schemas.columns import Codes, Column, Mask

KEPT_DAYS = 112  # of every meter
RECENT_DAYS = 14  # days that count as of late
LEAST_DAYS = 3  # days with a value, for a level or a change
NOTED_COLUMNS = ("used_kwh", "coverage", "excess", "slide", "register")


class DayColumns(NamedTuple):
    """Given by DayNotes."""

    is_kept: Mask


class DayNotes(Feature):
    """Keeps the latest days of every meter; it comes after the features that it reads.

    A day that is judged again replaces what was kept of it.
    """

    distinct = False

    def __init__(self, index: Index, zone: str) -> None:
        self.cells = Cells()
        self._index = index
        self._zone = zone
        # by slot and day, modulo KEPT_DAYS
        self._day = np.full((0, KEPT_DAYS), -1, np.int32)
        self._facts = np.zeros((0, KEPT_DAYS, len(NOTED_COLUMNS)), np.float32)

    def fold(self, slots: Codes) -> DayColumns:
        """Every row is kept."""
        return DayColumns(np.ones(len(slots), np.bool_))

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        """Keeps whole columns, and gives what `fold` does."""
        self._reserve(len(self._index))
        days = day_of(columns["at"], self._zone)
        places = days % KEPT_DAYS
        fresh = days >= self._day[slots, places]
        rows = slots[fresh]
        where = places[fresh]

        self._day[rows, where] = days[fresh]
        for number, name in enumerate(NOTED_COLUMNS):
            self._facts[rows, where, number] = columns[name][fresh]
        return self.fold(slots)._asdict()

    def _reserve(self, count: int) -> None:
        """Makes room for so many meters."""
        if more := max(count - len(self._day), 0):
            more = max(more, len(self._day))
            day = np.full((more, KEPT_DAYS), -1, np.int32)
            shape = (more, KEPT_DAYS, len(NOTED_COLUMNS))
            facts = np.full(shape, np.nan, np.float32)
            self._day = np.concatenate([self._day, day])
            self._facts = np.concatenate([self._facts, facts])

    def facts_of(self, held: Sequence[tuple[int, int]], day: int) -> dict[str, float]:
        """The facts of a customer before a day, by meters' slots with the first day on which each was the customer's.

        Empty if no day is known.
        """
        of_meters = [self._before(slot, since, day) for slot, since in held]
        known = [facts for facts in of_meters if np.isfinite(facts[:, 1]).any()]
        if not known:
            return {}
        used = _sum_of([facts[:, 0] for facts in known])
        coverage = _mean_of([facts[:, 1] for facts in known])
        excess = _mean_of([facts[:, 2] for facts in known])
        slides = [_latest(facts[:, 3]) for facts in known]

        facts = _use_facts(used)
        since_known = coverage[_first_known(coverage) :]
        missing = 1 - np.nan_to_num(since_known)
        facts["missing_share"] = float(missing.mean())
        recent = excess[-RECENT_DAYS:]
        if np.isfinite(recent).any():
            facts["beyond_peers"] = float(np.nanmean(recent))
        facts["slide"] = float(np.log1p(max(slides)))
        falls = (_falls(facts[:, 4]) for facts in known)
        facts["register_falls"] = float(sum(falls))
        return facts

    def _before(self, slot: int, since: int, day: int) -> Column:
        """The kept days of a slot before a day, in order; NaN where none is known."""
        rows = np.full((KEPT_DAYS, len(NOTED_COLUMNS)), np.nan)
        if slot >= len(self._day):
            return rows
        days = self._day[slot]
        oldest = day - KEPT_DAYS
        picked = (days >= max(since, oldest)) & (days < day)
        places = days[picked] - oldest
        rows[places] = self._facts[slot, picked]
        return rows


def _use_facts(used: Column) -> dict[str, float]:
    """The facts of the daily use, kWh."""
    recent = used[-RECENT_DAYS:]
    earlier = used[:-RECENT_DAYS]
    known = used[np.isfinite(used)]
    facts = {}
    if len(known) >= LEAST_DAYS:
        is_zero = known < SMALL_KWH
        logs = np.log(np.maximum(known, 0) + SMALL_KWH)
        facts["zero_days"] = float(is_zero.mean())
        facts["day_spread"] = float(np.std(logs))
    if np.isfinite(recent).sum() < LEAST_DAYS:
        return facts

    level = max(float(np.nanmean(recent)), 0.0)
    facts["day_level"] = float(np.log1p(level))
    if np.isfinite(earlier).sum() >= LEAST_DAYS:
        before = max(float(np.nanmean(earlier)), 0.0)
        facts["day_change"] = ratio(level, before)
    return facts


def _sum_of(columns: Sequence[Column]) -> Column:
    """The sums by day, NaN where none is known."""
    stacked = np.stack(columns)
    known = np.isfinite(stacked).any(axis=0)
    return np.where(known, np.nansum(stacked, axis=0), np.nan)


def _mean_of(columns: Sequence[Column]) -> Column:
    """The means by day, NaN where none is known."""
    stacked = np.stack(columns)
    counts = np.isfinite(stacked).sum(axis=0)
    sums = np.nansum(stacked, axis=0)
    means = sums / np.maximum(counts, 1)
    return np.where(counts, means, np.nan)


def _first_known(column: Column) -> int:
    """The place of the first known value, which there is."""
    return int(np.isfinite(column).argmax())


def _latest(column: Column) -> float:
    """The last known value, at least 0; 0 if there is none."""
    known = column[np.isfinite(column)]
    if len(known):
        return max(float(known[-1]), 0.0)
    return 0.0


def _falls(register: Column) -> int:
    """How often a register showed less than before."""
    known = register[np.isfinite(register)]
    return int((np.diff(known) < -1).sum())

"""From scores to episodes: raise after `hold` seconds of trouble, escalate, clear after `release` seconds of well."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detectors.rule import DAY, HOUR, Rule
from models.cells import Cells
from models.grid import waves
from schemas.alert import Alert
from schemas.columns import Batch, Clocks, Codes, Column, Intervals, Readings, Times

LULLS: dict[type[Batch], int] = {Readings: 2 * HOUR, Intervals: 2 * HOUR, Clocks: 3 * DAY}
# observations further apart than this, and than the hold, do not make one run; other kinds have no gaps


class Changes(NamedTuple):
    """Rows at which an episode changed, with when its trouble began and its severity now."""

    rows: Codes
    since: Times
    severity: Codes
    cleared: Column  # 1 where it cleared


class Episodes:
    """The episodes of one rule, by subject."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.lull = max(LULLS.get(rule.kind, 0), rule.levels[0].hold)
        self.cells = Cells(
            since=np.zeros(len(rule.levels), np.uint32),  # start of the run at each level, 0 when there is none
            well=np.uint32(0),  # start of the calm while raised
            severity=np.uint8(0),  # 0 when not raised
            watched=np.bool_(False),  # anything at all to remember
        )
        self.open: dict[int, Alert] = {}  # what was last told of each raised episode

    def fold(self, slots: Codes, at: Times, score: Column, gap: Column | None, distinct: bool) -> Iterator[Changes]:
        """Judge rows in order of arrival; `gap` is the seconds since the slot's previous row. NaN changes nothing.

        Rows of well whose slot has no trouble to remember are passed over, which is nearly all of them.
        """
        watched, hot = self.cells["watched"], score >= self.rule.clear
        if not distinct and hot.any():
            concerned = np.zeros(len(watched), bool)
            concerned[slots[hot]] = True
            hot = (concerned | watched)[slots] & ~np.isnan(score)
        else:
            hot |= watched[slots] & ~np.isnan(score)
        rows = np.flatnonzero(hot)
        for part in [rows] if distinct and len(rows) else (rows[turn] for turn in waves(slots[rows])):
            yield self.turn(part, slots, at, score, gap)

    def turn(self, hot: Codes, slots: Codes, at: Times, score: Column, gap: Column | None) -> Changes:
        """Judge rows of distinct slots, none of them NaN."""
        cells, levels = self.cells, self.rule.levels
        s, t, x = slots[hot], at[hot], score[hot]
        severity = cells["severity"][s].astype(np.int64)
        up = severity > 0
        best = np.where(up, severity, 99)
        broken = np.zeros(len(hot), bool) if gap is None else ~up & (gap[hot] > self.lull)
        first = cells["since"][0, s].astype(np.int64)
        for n, level in enumerate(levels):
            start = cells["since"][n, s].astype(np.int64)
            reached = x >= level.score
            start = np.where(reached, np.where((start == 0) | broken, t, start), np.where(up & (n == 0), start, 0))
            best = np.where(reached & (t - start >= level.hold), np.minimum(best, level.severity), best)
            cells["since"][n, s] = start
            first = start if n == 0 else first
        well = cells["well"][s].astype(np.int64)
        calm = x < self.rule.clear
        well = np.where(up & calm, np.where(well == 0, t, np.minimum(well, t)), 0)
        fall = up & calm & (t - well >= self.rule.release)
        rise = (best < 99) & (best != severity) & ~fall
        now = np.where(fall, 0, np.where(best < 99, best, 0))
        cells["severity"][s] = now
        cells["well"][s] = np.where(fall, 0, well)
        cells["since"][:, s[fall]] = 0
        cells["watched"][s] = (now > 0) | (cells["since"][0, s] > 0)
        changed = rise | fall
        return Changes(hot[changed], first[changed], now[changed], fall[changed].astype(float))

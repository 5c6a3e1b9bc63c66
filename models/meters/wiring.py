"""The agreement of a meter's conductors: columns of readings, and memory of earlier ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Cells, Columns, pushed
from models.state.missing_values import only, unknown
from models.state.passes import UniquePasses
from schemas.columns import Codes, Column, Flag, Mask, Readings, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STATUS_FLAGS = {
    "reversed_sequence": Flag.REVERSED_SEQUENCE,
    "relay_open": Flag.RELAY_OPEN,
}


def wiring_columns(readings: Readings, elements: Column) -> Columns:
    """Columns about voltages, angles, power and the status word.

    NaN where a phase of the meter is unknown.

    lag: of a four-wire meter, the degrees by which each current lags where one of them flows back,
        else 0

    A column that no row has costs next to nothing.
    """
    unknown_rows = np.broadcast_to(np.nan, len(readings))
    names = (*STATUS_FLAGS, "lowest_u", "highest_u", "whole_p")
    columns: Columns = dict.fromkeys(names, unknown_rows)
    columns["lag"] = np.broadcast_to(np.nan, (3, len(readings)))

    if not unknown(readings.u):
        complete = _complete(readings.u, elements)
        columns["lowest_u"] = only(complete, np.fmin.reduce(readings.u))
        columns["highest_u"] = only(complete, np.fmax.reduce(readings.u))
    if not unknown(readings.terminal_p):
        complete = _complete(readings.p, elements)
        total = np.nansum(readings.p, axis=0)
        columns["whole_p"] = only(complete, total)
    if not unknown(readings.flags):
        known = np.isfinite(readings.flags)
        word = np.where(known, readings.flags, 0).astype(np.int64)
        for name, flag in STATUS_FLAGS.items():
            columns[name] = only(known, word & flag > 0)
    if not unknown(readings.p):
        columns["lag"] = _lag_column(readings, elements)
    return columns


def _lag_column(readings: Readings, elements: Column) -> Column:
    """The column lag."""
    hidden = np.isnan(readings.p) | (elements != 3)
    lag: Column = np.where(hidden, np.nan, np.float32(0))
    flows_back = np.fmin.reduce(readings.p) < 0
    rows = np.flatnonzero((elements == 3) & flows_back)
    if len(rows):
        phases = (readings.u, readings.i, readings.p, readings.q)
        lag[:, rows] = _lags(*(values[:, rows] for values in phases))
    return lag


def _complete(phases: Column, elements: Column) -> Mask:
    """True where every phase of the meter is known."""
    return 3 - np.count_nonzero(np.isnan(phases), axis=0) >= elements


def _lags(U: Column, I: Column, P: Column, Q: Column) -> Column:
    """Degrees by which each phase's current lags its voltage, by P and Q.

    Without Q their distance, by P, U, I.

    >>> _lags(*np.array([[[220.0]], [[5.0]], [[-0.55]], [[np.nan]]])).round().tolist()
    [[120.0]]
    """
    lag: Column = np.degrees(np.arctan2(Q, P))
    missing = np.isnan(Q)
    if not missing.any():
        return lag
    apparent_power = U * np.abs(I)
    cosine = np.clip(P * 1000 / apparent_power, -1, 1)
    distance = np.degrees(np.arccos(cosine))
    return np.where(missing, distance, lag)


class NeutralMismatchColumns(NamedTuple):
    """Given by NeutralMismatch."""

    # third-largest share of the greater current, of the last five loaded readings within a
    # day; NaN without load, and until there are three readings
    mismatch_third: Column


class NeutralMismatch(Feature):
    """The difference of a single-phase meter's phase and neutral currents, under load."""

    relearns = 96
    distinct = False

    KEPT_READINGS = 5
    NEEDED_READINGS = 3
    # of the basic current, that one of the two must exceed: catalogue 1.3
    LOAD_SHARE = 0.20

    def __init__(self) -> None:
        self.cells = Cells(
            share=np.zeros(self.KEPT_READINGS, np.float32),
            then=np.zeros(self.KEPT_READINGS, np.uint32),
        )

    def fold(
        self,
        slots: Codes,
        neutral: Column,
        most_i: Column,
        ib: Column,
        *,
        at: Times,
        elements: Column,
    ) -> NeutralMismatchColumns:
        """The mismatch with each row."""
        third = np.full(len(slots), np.nan)
        neutral = np.abs(neutral)
        greater = np.maximum(most_i, neutral)
        loaded = (elements == 1) & (greater > self.LOAD_SHARE * ib)
        rows = np.flatnonzero(loaded)
        if not len(rows):
            return NeutralMismatchColumns(mismatch_third=third)

        # The shares and event times of the latest readings, each row's last.
        at = at[rows]
        then = at.astype(np.uint32)
        apart = np.abs(most_i[rows] - neutral[rows])
        share = (apart / greater[rows]).astype(np.float32)
        passes = UniquePasses(slots[rows])
        shares = passes.scan(self.cells["share"], pushed, share)
        shares = pushed(shares, share)
        times = passes.scan(self.cells["then"], pushed, then)
        times = pushed(times, then)

        recent = np.where(times > at - DAY_SECONDS, shares, -np.inf)
        largest = np.sort(recent, axis=0)[-self.NEEDED_READINGS]
        third[rows] = np.where(np.isinf(largest), np.nan, largest)
        return NeutralMismatchColumns(mismatch_third=third)


class PhaseLoadColumns(NamedTuple):
    """Given by PhaseLoad."""

    busy: Column  # fading share by phase, (3, rows), before the row; it grows from 0 over days


class PhaseLoad(Feature):
    """The share of recent time in which each phase of a three-phase meter carried a load."""

    relearns = 96
    distinct = False

    LOAD_SHARE = 0.05  # of the basic current
    FADE_SECONDS = 3 * DAY_SECONDS
    LONGEST_SECONDS = 2 * HOUR_SECONDS  # before a reading, that it counts for at most

    def __init__(self) -> None:
        self.cells = Cells(busy=np.zeros(3, np.float32), then=np.int64(0))

    def fold(
        self, slots: Codes, i: Column, ib: Column, *, at: Times, elements: Column
    ) -> PhaseLoadColumns:
        """The share of each phase before the row, which then counts."""
        busy = np.full((3, len(slots)), np.nan, np.float32)
        rows = np.flatnonzero(elements > 1)
        if not len(rows):
            return PhaseLoadColumns(busy=busy)

        slots, at = slots[rows], at[rows]
        current = np.abs(np.take(i, rows, axis=1))
        loaded = current > self.LOAD_SHARE * ib[rows]
        known = ~np.isnan(current)
        any_known: Mask = np.logical_or.reduce(known)

        passes = UniquePasses(slots)
        then = self.cells["then"][slots]
        then = passes.earlier(at, then, any_known)
        seconds = np.minimum(at - then, self.LONGEST_SECONDS)
        covered = np.where(then > 0, seconds / self.FADE_SECONDS, 0)
        weight = covered.astype(np.float32) * known
        busy[:, rows] = passes.scan(self.cells["busy"], _grown, weight, loaded)
        self.cells["then"][slots[any_known]] = at[any_known]
        return PhaseLoadColumns(busy=busy)


def _grown(share: Column, weight: Column, loaded: Mask) -> Column:
    """A fading share after a time of some weight."""
    return share + weight * (loaded - share)

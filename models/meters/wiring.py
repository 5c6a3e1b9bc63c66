"""The agreement of a meter's conductors, in a reading and over earlier ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.readings import complete_phases
from models.state.cells import Cells, pushed
from models.state.missing_values import only
from models.state.passes import UniquePasses
from schemas.columns import Codes, Column, Flag, Mask, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS


class StatusFlagsColumns(NamedTuple):
    """Given by StatusFlags: 1 or 0."""

    reversed_sequence: Column
    relay_open: Column


class StatusFlags(Feature):
    """The flags of a reading's status word."""

    distinct = False

    def fold(self, slots: Codes, flags: Column) -> StatusFlagsColumns:
        """The flags."""
        known = np.isfinite(flags)
        word = np.where(known, flags, 0).astype(np.int64)
        return StatusFlagsColumns(
            reversed_sequence=only(known, word & Flag.REVERSED_SEQUENCE > 0),
            relay_open=only(known, word & Flag.RELAY_OPEN > 0),
        )


class WholePowerColumns(NamedTuple):
    """Given by WholePower."""

    whole_p: Column  # NaN where a phase of the meter is unknown


class WholePower(Feature):
    """The power of a meter beside that of its terminal."""

    distinct = False

    def fold(
        self, slots: Codes, p: Column, terminal_p: Column, *, elements: Column
    ) -> WholePowerColumns:
        """The power of the meter."""
        complete = complete_phases(p, elements)
        return WholePowerColumns(whole_p=only(complete, np.nansum(p, axis=0)))


class CurrentLagColumns(NamedTuple):
    """Given by CurrentLag."""

    # (3, rows), of a four-wire meter: the degrees by which each current lags where one of
    # them flows back, else 0
    lag: Column


class CurrentLag(Feature):
    """The angle of each current behind its voltage."""

    distinct = False

    def fold(
        self,
        slots: Codes,
        p: Column,
        *,
        u: Column,
        i: Column,
        q: Column,
        elements: Column,
    ) -> CurrentLagColumns:
        """The angles."""
        hidden = np.isnan(p) | (elements != 3)
        lag: Column = np.where(hidden, np.nan, np.float32(0))
        flows_back = np.fmin.reduce(p) < 0
        rows = np.flatnonzero((elements == 3) & flows_back)
        if len(rows):
            phases = (u, i, p, q)
            lag[:, rows] = _lags(*(values[:, rows] for values in phases))
        return CurrentLagColumns(lag=lag)


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

        slots = slots[rows]
        at = at[rows]
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

"""Whether what a meter's conductors tell belongs together: columns of single readings, and what was before them."""

from __future__ import annotations

import numpy as np

from models.cells import Array, Cells
from models.features import Columns, Feature
from models.gaps import unknown
from models.turns import UniquePasses
from schemas.columns import Codes, Column, Flag, Mask, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STATUS_FLAGS = {
    "reversed_sequence": Flag.REVERSED_SEQUENCE,
    "relay_open": Flag.RELAY_OPEN,
}


def wiring_columns(r: Readings, elements: Column) -> Columns:
    """Columns about voltages, angles, power and the status word; NaN where a phase that the meter has is not told.

    Of a four-wire meter lag is the degrees by which each current lags where one of them flows back, else 0. What
    no row tells costs next to nothing.
    """
    none = np.broadcast_to(np.nan, len(r))
    told: Columns = dict.fromkeys(
        (*STATUS_FLAGS, "lowest_u", "highest_u", "whole_p"), none
    )
    told["lag"] = np.broadcast_to(np.nan, (3, len(r)))
    if not unknown(r.u):
        whole = _whole_in(r.u, elements)
        told["lowest_u"] = np.where(whole, np.fmin.reduce(r.u), np.nan)
        told["highest_u"] = np.where(whole, np.fmax.reduce(r.u), np.nan)
    if not unknown(r.terminal_p):
        told["whole_p"] = np.where(
            _whole_in(r.p, elements), np.nansum(r.p, axis=0), np.nan
        )
    if not unknown(r.flags):
        word = np.where(np.isfinite(r.flags), r.flags, 0).astype(np.int64)
        told |= {
            name: np.where(np.isfinite(r.flags), word & flag > 0, np.nan)
            for name, flag in STATUS_FLAGS.items()
        }
    if not unknown(r.p):
        told["lag"] = np.where(np.isnan(r.p) | (elements != 3), np.nan, np.float32(0))
        rows = np.flatnonzero((elements == 3) & (np.fmin.reduce(r.p) < 0))
        if len(rows):
            told["lag"][:, rows] = _lags(
                *(column[:, rows] for column in (r.u, r.i, r.p, r.q))
            )
    return told


def _whole_in(phases: Column, elements: Column) -> Column:
    """Whether every phase that the meter has is told."""
    return 3 - np.count_nonzero(np.isnan(phases), axis=0) >= elements


def _lags(u: Column, i: Column, p: Column, q: Column) -> Column:
    """Degrees by which each phase's current lags its voltage, by P and Q; without Q how far apart they are, by P, U, I.

    >>> _lags(*np.array([[[220.0]], [[5.0]], [[-0.55]], [[np.nan]]])).round().tolist()
    [[120.0]]
    """
    lag: Column = np.degrees(np.arctan2(q, p))
    if not (missing := np.isnan(q)).any():
        return lag
    return np.where(
        missing, np.degrees(np.arccos(np.clip(p * 1000 / (u * np.abs(i)), -1, 1))), lag
    )


class NeutralMismatch(Feature):
    """How far a single-phase meter's phase and neutral currents differ, in its latest readings under load."""

    relearns, distinct = 96, False
    reads: tuple[str, ...] = ("neutral", "most_i", "ib")
    takes: tuple[str, ...] = ("at", "elements")
    gives: tuple[str, ...] = ("mismatch_third",)

    KEPT_READINGS, NEEDED_READINGS = 5, 3
    LOAD_SHARE = (
        0.20  # of the basic current, that one of the two must exceed: catalogue 1.3
    )

    def __init__(self) -> None:
        self.cells = Cells(
            share=np.zeros(self.KEPT_READINGS, np.float32),
            then=np.zeros(self.KEPT_READINGS, np.uint32),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds mismatch_third, of the last five loaded readings within a day the third-largest share of the greater.

        NaN without load, and until there are three.
        """
        third = np.full(len(slots), np.nan)
        line, neutral = columns["most_i"], np.abs(columns["neutral"])
        loaded = (columns["elements"] == 1) & (
            np.maximum(line, neutral) > self.LOAD_SHARE * columns["ib"]
        )
        if len(rows := np.flatnonzero(loaded)):
            line, neutral, at, here = (
                line[rows],
                neutral[rows],
                columns["at"][rows],
                slots[rows],
            )
            share = np.abs(line - neutral) / np.maximum(line, neutral)
            turns, c = UniquePasses(here), self.cells
            share, then = share.astype(np.float32), at.astype(np.uint32)
            shares = _pushed(turns.scan(c["share"], _pushed, share), share)
            times = _pushed(turns.scan(c["then"], _pushed, then), then)
            largest = np.sort(
                np.where(times > at - DAY_SECONDS, shares, -np.inf), axis=0
            )[-self.NEEDED_READINGS]
            third[rows] = np.where(np.isinf(largest), np.nan, largest)
        return {"mismatch_third": third}


class PhaseLoad(Feature):
    """How much of the time of late each phase of a three-phase meter carried a load."""

    relearns, distinct = 96, False
    reads: tuple[str, ...] = ("i", "ib")
    takes: tuple[str, ...] = ("at", "elements")
    gives: tuple[str, ...] = ("busy",)

    LOAD_SHARE = 0.05  # of the basic current
    FADE_SECONDS, LONGEST_SECONDS = (
        3 * DAY_SECONDS,
        2 * HOUR_SECONDS,
    )  # a reading speaks for so much of the time before it at most

    def __init__(self) -> None:
        self.cells = Cells(busy=np.zeros(3, np.float32), then=np.int64(0))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds busy, a fading share by phase, as it stood before; it grows from 0, so that days must have shown it."""
        busy = np.full((3, len(slots)), np.nan, np.float32)
        if len(rows := np.flatnonzero(columns["elements"] > 1)):
            c, here, at = self.cells, slots[rows], columns["at"][rows]
            amps, turns = (
                np.abs(np.take(columns["i"], rows, axis=1)),
                UniquePasses(here),
            )
            known = ~np.isnan(amps)
            told = known.any(axis=0)
            then = turns.earlier(at, c["then"][here], told)
            new = np.where(
                then > 0,
                np.minimum(at - then, self.LONGEST_SECONDS) / self.FADE_SECONDS,
                0,
            ).astype(np.float32)
            busy[:, rows] = turns.scan(
                c["busy"],
                _grown,
                new * known,
                amps > self.LOAD_SHARE * columns["ib"][rows],
            )
            c["then"][here[told]] = at[told]
        return {"busy": busy}


def _pushed(before: Array, now: Array) -> Array:
    """The latest values of each row, oldest first, with one more."""
    return np.concatenate([before[1:], now[None]])


def _grown(share: Column, new: Column, loaded: Mask) -> Column:
    """A fading share with what was new of it."""
    return share + new * (loaded - share)

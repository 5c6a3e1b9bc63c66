"""Whose voltage moves with whose: hourly voltages of meters beside those of their transformer's phases.

What the line before the transformer does to the voltage, all three phases share; so a meter's changes are held against
each phase's by their difference. Voltages are kept in whole steps, so that sums are exact.
"""
from __future__ import annotations

import numpy as np

from models.cells import Array, Cells
from models.features import DAY, Columns
from schemas.columns import Codes, Column, Mask

HOUR = 3600
STEP = 0.02  # V
HIGHEST = np.iinfo(np.uint16).max  # steps, 1310 V
LIVE = 0.5  # of nominal; below it there is no supply to compare
LEAP = 0.05  # of nominal, by which a meter departs from every phase in an hour: a contact or a tap, no load
LEAST = 0.05  # V that are as good as nothing to meters that tell tenths


def stride(interval: int) -> int:
    """How many intervals there are from one kept voltage to the next: an hour's, or one."""
    return max(HOUR // interval, 1)


def hours_of(steps: int, interval: int) -> Codes:
    """Which kept voltage the interval of each step ends with, -1 for none."""
    after = np.arange(1, steps + 1)
    return np.where(after % stride(interval) == 0, after // stride(interval) - 1, -1)


def in_steps(volts: Column) -> Array:
    """Voltages in whole steps; 0 where there is none.

    >>> in_steps(np.array([220.1, np.nan, 1e4])).tolist()
    [11005, 0, 0]
    """
    steps = np.rint(volts / STEP)
    return np.where((steps > 0) & (steps <= HIGHEST), steps, 0).astype(np.uint16)


def beside_gateway(volts: Array, gateway: Array, master: dict[str, Column]) -> dict[str, Column]:
    """The Days column of every member, from (hours, members) and the gateway's (3, hours), both in steps."""
    changes = len(volts) - 1
    told = np.full((3 * changes, volts.shape[1]), np.nan, np.float32)
    through = np.flatnonzero(master["is_gateway"] == 1)
    if len(through) and gateway.any():
        pt, un = master["ratio"] / master["ct"], master["un"] / STEP
        alike = (master["is_gateway"] == 0) & (master["three_wire"] == 0) & (pt == pt[through[0]])
        own = np.diff(np.where((volts > LIVE * un) & alike, volts, np.float32(np.nan)), axis=0)
        theirs = np.diff(np.where(gateway > LIVE * un[through[0]], gateway, np.float32(np.nan)), axis=1)
        apart = own - theirs[:, :, None]
        told[:] = np.float32(STEP) * np.where(np.isnan(apart).any(axis=0), np.nan, apart).reshape(told.shape)
    return {"voltage_apart": told}


class Phases:
    """How far each meter's voltage departs, hour by hour, from each phase of its transformer; a week's half-life."""

    reads: tuple[str, ...] = ("voltage_apart",)
    takes: tuple[str, ...] = ("area", "at", "un", "filed_phase")
    gives: tuple[str, ...] = ("found_phase", "filed_apart", "found_apart", "next_apart", "area_apart")

    HALF_LIFE = 7 * DAY
    ENOUGH = 150  # pairs of hours, which ten days of hourly voltages bring
    CROWD = 5  # meters that make out what is usual in an area

    def __init__(self) -> None:
        self.cells = Cells(squares=np.zeros(3, np.float32), pairs=np.float32(0), then=np.int64(0))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the phase that each voltage follows, 0 to 2, and the V by which it usually departs from the filed phase.

        Also from the one it follows and from the next best, and the median of the area's meters. The rows of an area
        are those of one day. NaN until enough is known.
        """
        told = np.flatnonzero(~np.isnan(columns["voltage_apart"]).all(axis=0))
        squares, pairs = self.learn(slots[told], columns["at"][told], *departures(columns, told))
        out: Columns = {name: np.full(len(slots), np.nan) for name in self.gives}
        known = pairs >= self.ENOUGH
        rows, apart = told[known], np.maximum(np.sqrt(squares[:, known] / pairs[known]), LEAST)
        out["found_phase"][rows] = apart.argmin(axis=0)
        out["found_apart"][rows], out["next_apart"][rows] = np.sort(apart, axis=0)[:2]
        for phase, column in enumerate(apart):
            filed = columns["filed_phase"][rows] == phase
            out["filed_apart"][rows[filed]] = column[filed]
        for area in np.unique(columns["area"][rows]).tolist():
            here = rows[columns["area"][rows] == area]
            if len(here) >= self.CROWD:
                out["area_apart"][here] = np.median(out["found_apart"][here])
        return out

    def learn(self, slots: Codes, at: Array, squares: Array, pairs: Array) -> tuple[Array, Array]:
        """The faded sums of some slots with a day's."""
        c = self.cells
        keep = np.exp2((c["then"][slots] - at) / self.HALF_LIFE)
        c["squares"][:, slots] = keep * c["squares"][:, slots] + squares
        c["pairs"][slots] = keep * c["pairs"][slots] + pairs
        c["then"][slots] = at
        return c["squares"][:, slots].astype(np.float64), c["pairs"][slots].astype(np.float64)


def departures(columns: Columns, rows: Codes) -> tuple[Array, Array]:
    """The sums of squares (3, rows) in V^2 of a day's hourly departures, and of how many, without leaps."""
    apart = np.take(columns["voltage_apart"], rows, axis=1).reshape(3, -1, len(rows))
    calm: Mask = np.abs(apart).min(axis=0) <= LEAP * columns["un"][rows]
    steps = np.where(calm, np.rint(apart / np.float32(STEP)), 0).astype(np.float64)
    return np.square(steps).sum(axis=1) * STEP**2, calm.sum(axis=0)

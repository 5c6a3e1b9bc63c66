"""A meter's readings: totals over the phases, and memory from one reading to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells, Columns
from models.state.missing_values import only
from models.state.passes import UniquePasses
from schemas.columns import Codes, Column, Mask, Readings, Times
from schemas.units import HOUR_SECONDS

NEVER_SECONDS = 2**31  # seconds since an event that never happened


def phase_columns(readings: Readings) -> Columns:
    """Totals and extremes over the phases.

    Currents without their sign, which some meters take from the power.
    """
    u_a, u_b, u_c = readings.u
    i_a, i_b, i_c = np.abs(readings.i)
    p_a, p_b, p_c = readings.p
    total = p_a + p_b + p_c

    missing = np.isnan(readings.p)
    if missing.any():
        known_p = np.where(missing, np.float32(0), readings.p)
        total = known_p.sum(axis=0)
        total = np.where(missing.all(axis=0), np.nan, total)
    return {
        "most_u": np.fmax(np.fmax(u_a, u_b), u_c),
        "most_i": np.fmax(np.fmax(i_a, i_b), i_c),
        "mean_i": (i_a + i_b + i_c) / 3,
        "most_p": np.fmax(np.fmax(p_a, p_b), p_c),
        "total_p": total,
    }


class ElapsedColumns(NamedTuple):
    """Given by Elapsed."""

    gap: Times  # s since the subject's previous row


class Elapsed(Feature):
    """When each subject was last seen."""

    distinct = False
    relearns = 1

    def __init__(self) -> None:
        self.cells = Cells(then=np.int64(0))

    def fold(self, slots: Codes, *, at: Times) -> ElapsedColumns:
        """The time since the row before."""
        last_seen = self.cells["then"][slots]
        then = UniquePasses(slots).earlier(at, last_seen)
        self.cells["then"][slots] = at
        return ElapsedColumns(gap=np.where(then > 0, at - then, NEVER_SECONDS))


class StandstillColumns(NamedTuple):
    """Given by Standstill."""

    still_kwh: Column  # since the register last moved; NaN without register or power


class Standstill(Feature):
    """Energy that flowed by the power readings since the register last moved."""

    distinct = False
    relearns = 96

    def __init__(self) -> None:
        self.cells = Cells(still=np.float64(0), then=np.int64(0))

    def fold(
        self, slots: Codes, register_delta: Column, total_p: Column, *, at: Times
    ) -> StandstillColumns:
        """The energy while the register stands still; 0 where it moves."""
        power = total_p.astype(np.float64)
        known = ~(np.isnan(register_delta) | np.isnan(power))

        # A reading counts for the time since the one before, an hour at most.
        passes = UniquePasses(slots)
        then = self.cells["then"][slots]
        then = passes.earlier(at, then, known)
        seconds = np.minimum(at - then, HOUR_SECONDS)
        seconds = np.where(then > 0, seconds, 0)
        flow = np.maximum(power, 0) * (seconds / HOUR_SECONDS)
        still = known & ~(register_delta > 0)

        def step(before: Array, flow: Array, still: Mask, known: Mask) -> Array:
            unmoved = np.where(known, 0.0, before)
            return np.where(still, before + flow, unmoved)

        before = passes.scan(self.cells["still"], step, flow, still, known)
        self.cells["then"][slots[known]] = at[known]
        still_kwh = np.where(still, before + flow, 0.0)
        return StandstillColumns(still_kwh=only(known, still_kwh))

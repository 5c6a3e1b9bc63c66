"""A meter's readings: columns over the phases, and memory from one reading to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells
from models.state.missing_values import only
from models.state.passes import UniquePasses
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import HOUR_SECONDS

NEVER_SECONDS = 2**31  # seconds since an event that never happened


class PhaseVoltagesColumns(NamedTuple):
    """Given by PhaseVoltages."""

    most_u: Column  # highest phase that is known
    lowest_u: Column  # NaN where a phase of the meter is unknown
    highest_u: Column  # the same


class PhaseVoltages(Feature):
    """The extremes of the voltages of a reading."""

    distinct = False

    def fold(
        self, slots: Codes, u: Column, *, elements: Column
    ) -> PhaseVoltagesColumns:
        """The highest and the lowest voltage."""
        complete = complete_phases(u, elements)
        highest = np.fmax.reduce(u)
        lowest = np.fmin.reduce(u)
        return PhaseVoltagesColumns(
            most_u=highest,
            lowest_u=only(complete, lowest),
            highest_u=only(complete, highest),
        )


class PhaseCurrentsColumns(NamedTuple):
    """Given by PhaseCurrents: without the sign, which some meters take from the power."""

    most_i: Column  # highest phase that is known
    mean_i: Column  # NaN where a phase is unknown


class PhaseCurrents(Feature):
    """The highest and the mean current of a reading."""

    distinct = False

    def fold(self, slots: Codes, i: Column) -> PhaseCurrentsColumns:
        """The currents over the phases."""
        i_a, i_b, i_c = np.abs(i)
        return PhaseCurrentsColumns(
            most_i=np.fmax(np.fmax(i_a, i_b), i_c),
            mean_i=(i_a + i_b + i_c) / 3,
        )


class PhasePowersColumns(NamedTuple):
    """Given by PhasePowers."""

    most_p: Column  # highest phase that is known
    total_p: Column  # over the phases that are known


class PhasePowers(Feature):
    """The highest power of a phase, and that of the meter."""

    distinct = False

    def fold(self, slots: Codes, p: Column) -> PhasePowersColumns:
        """The power over the phases."""
        p_a, p_b, p_c = p
        total = p_a + p_b + p_c

        missing = np.isnan(p)
        if missing.any():
            known_p = np.where(missing, np.float32(0), p)
            total = known_p.sum(axis=0)
            total = np.where(missing.all(axis=0), np.nan, total)
        highest = np.fmax(np.fmax(p_a, p_b), p_c)
        return PhasePowersColumns(most_p=highest, total_p=total)


class PowerFactorColumns(NamedTuple):
    """Given by PowerFactor."""

    power_factor: Column


class PowerFactor(Feature):
    """The share of a reading's apparent power that is active."""

    distinct = False

    def fold(
        self, slots: Codes, total_p: Column, kva: Column, *, ratio: Column
    ) -> PowerFactorColumns:
        """The power factor."""
        return PowerFactorColumns(power_factor=np.abs(total_p) * ratio / kva)


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


def complete_phases(phases: Column, elements: Column) -> Mask:
    """True where every phase of the meter is known."""
    return 3 - np.count_nonzero(np.isnan(phases), axis=0) >= elements

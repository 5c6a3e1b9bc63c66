"""The columns that rules on single readings read: values as validated, and values derived from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.days.facts import Facts
from models.meters.readings import NEVER_SECONDS, phase_columns
from models.meters.validation import Registers, Validation
from models.meters.wiring import wiring_columns
from models.state.cells import Columns
from schemas.columns import Codes, Column, Mask, Readings, Status, Times


class ValidatedReadings(NamedTuple):
    """Readings as validated, their registers, and the columns that rules read beside their own."""

    readings: Readings
    registers: Registers
    columns: Columns

    def energy(self, widest_gap: Column) -> Column:
        """Energy of each interval, kWh; from the register if the meter does not send it."""
        readings, registers, columns = self
        steady = columns["gap"] <= widest_gap
        measured = readings.status == Status.MEASURED
        by_register = np.isnan(readings.kwh) & steady & measured
        return np.where(by_register, registers.delta.astype(np.float32), readings.kwh)


def validated_readings(
    validation: Validation,
    readings: Readings,
    slots: Codes,
    before: Times,
    master: Columns,
    kva: Column,
) -> ValidatedReadings:
    """Validate readings in order of time; `before` is the time of the meter's reading before each."""
    readings, registers = validation.validate(slots, readings, master)
    columns = master | phase_columns(readings)
    columns |= wiring_columns(readings, master["elements"])

    kva = np.where(registers.stale, np.nan, kva)
    columns["kva"] = kva
    columns["power_factor"] = np.abs(columns["total_p"]) * master["ratio"] / kva
    columns["register_delta"] = registers.delta
    columns["register_drop"] = registers.drop
    follows = (before > 0) & (before < readings.at)
    columns["gap"] = np.where(follows, readings.at - before, NEVER_SECONDS)
    return ValidatedReadings(readings, registers, columns)


def validated_facts(facts: Facts, rows: Codes, kwh: Column, stale: Mask) -> Facts:
    """The facts with the energy of `rows`; unknown where a meter repeats an old reading."""
    energy = facts.kwh.copy()
    energy[rows] = kwh
    facts = facts._replace(kwh=energy)
    if not stale.any():
        return facts

    stale_rows = rows[stale]
    unknown = ("amps", "neutral", "kva", "unbalance")
    none = ("has_voltage", "by_magnitude", "returned")
    columns = {name: getattr(facts, name).copy() for name in (*unknown, *none, "stale")}
    for name in unknown:
        columns[name][..., stale_rows] = np.nan
    for name in none:
        columns[name][stale_rows] = 0
    columns["stale"][stale_rows] = True
    return facts._replace(**columns)

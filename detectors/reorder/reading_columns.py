"""The columns that rules on single readings read: values as validated, and values derived from them."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from models.days.facts import Facts
from models.meters.readings import NEVER_SECONDS
from models.meters.validation import Registers, Validation
from models.state.cells import Columns
from schemas.columns import Codes, Column, Mask, Readings, Status, Times
from schemas.declarations import MadeOf


class JudgedColumns(NamedTuple):
    """The columns of readings beside their own, before features add theirs."""

    kva: Annotated[Column, MadeOf("p and q, or i")]  # primary
    register_delta: Annotated[Column, MadeOf("register")]
    register_drop: Annotated[Column, MadeOf("register")]
    gap: Times  # s since the meter's reading before


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
    follows = (before > 0) & (before < readings.at)
    judged = JudgedColumns(
        kva=np.where(registers.stale, np.nan, kva),
        register_delta=registers.delta,
        register_drop=registers.drop,
        gap=np.where(follows, readings.at - before, NEVER_SECONDS),
    )
    return ValidatedReadings(readings, registers, master | judged._asdict())


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

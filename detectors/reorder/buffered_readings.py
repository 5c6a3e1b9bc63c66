"""Single readings: judged as they arrive in order, and again where one was missing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from detectors.reorder.reading_batch import ReadingBatch
from detectors.reorder.reading_columns import (
    ValidatedReadings,
    validated_facts,
    validated_readings,
)
from detectors.reorder.row_log import RowLog
from detectors.reorder.waiting_gaps import WaitingGaps
from detectors.revisable import JudgeInput, RevisableJudge
from models.days.facts import Facts, apparent_power
from models.master.registry import Registry
from models.meters.validation import Validation
from models.state.missing_values import total
from schemas.alert import Alert
from schemas.columns import Codes, Column, Readings, Times

# columns that are kept whatever the rules read
JUDGED_COLUMNS = frozenset(
    {
        "at",
        "register",
        "kwh",
        "u",
        "i",
        "p",
        "q",
        "neutral",
        "terminal_p",
        "flags",
        "clock_offset",
        "status",
    }
)


class Correction(NamedTuple):
    """Energy of intervals that differs from the energy stored before; NaN if it is unknown."""

    meters: Codes
    at: Times
    stored: Column  # kWh
    kwh: Column


class BufferedReadings:
    """Judges single readings, and keeps the readings of meters that lack one."""

    def __init__(
        self, judge: RevisableJudge, gaps: WaitingGaps, registry: Registry
    ) -> None:
        self._judge = judge
        self._gaps = gaps
        self._registry = registry
        self.live_validation = Validation()
        self.final_validation = Validation()
        self._columns = self._columns_to_log()
        self.log = RowLog((*self._columns, "stored_kwh"))

    def _columns_to_log(self) -> tuple[str, ...]:
        """The columns of readings that a rule reads, and those of JUDGED_COLUMNS."""
        read = set(JUDGED_COLUMNS)
        for rule in self._judge.live.rules:
            read.update(rule.reads, rule.beside)
        return tuple(field.name for field in fields(Readings) if field.name in read)

    def adopt(self) -> None:
        """Keep the columns that the new rules read."""
        self._columns = self._columns_to_log()
        rows = self.log.columns()
        self.log = RowLog((*self._columns, "stored_kwh"))
        self.log.load(rows)

    def judge(
        self, batch: ReadingBatch, rows: Codes, facts: Facts
    ) -> tuple[list[Alert], Facts]:
        """Judge rows of a batch in order, and keep those of meters with a gap; facts become as validated."""
        if not len(rows):
            return [], facts
        readings, slots, master = batch.readings, batch.slots, batch.master
        kva = facts.kva
        before = batch.before[rows]
        if len(rows) < len(readings):
            readings = readings.select(rows)
            slots = slots[rows]
            kva = kva[rows]
            master = {name: column[rows] for name, column in master.items()}

        validated = validated_readings(
            self.live_validation, readings, slots, before, master, kva
        )
        alerts = self._judge.live.judge(validated.readings, slots, validated.columns)
        kwh = validated.energy(self._gaps.widest(master["interval_s"]))

        kept = self._gaps.waiting(slots)
        if kept.any():
            self.add(readings.select(kept), slots[kept], kwh[kept])
            self._judge.remember(self._gaps.alerts_of_waiting(alerts))
        return alerts, validated_facts(facts, rows, kwh, validated.registers.stale)

    def add(self, readings: Readings, slots: Codes, stored_kwh: Column) -> None:
        """Keep readings, and the energy that is stored of each."""
        self.log.append(
            slot=slots.astype(np.int32),
            stored_kwh=stored_kwh,
            **{name: getattr(readings, name) for name in self._columns},
        )

    def judge_again(self, slots: Codes) -> tuple[list[Alert], Correction]:
        """Judge the kept readings of meters again; the alerts, and the energy that differs."""
        self.live_validation.cells.write(slots, self.final_validation.cells.read(slots))
        positions, rows = self.log.select(slots)
        row_slots = rows["slot"]
        validated = self._validated_again(self.live_validation, rows)
        readings, _, columns = validated
        alerts = self._judge.amend(slots, [JudgeInput(readings, row_slots, columns)])

        kwh = validated.energy(self._gaps.widest(columns["interval_s"]))
        stored = rows["stored_kwh"]
        changed = (kwh != stored) & ~(np.isnan(kwh) & np.isnan(stored))
        self.log.write("stored_kwh", positions, kwh)
        correction = Correction(
            row_slots[changed], readings.at[changed], stored[changed], kwh[changed]
        )
        return alerts, correction

    def seal(self, slots: Codes, ends: Times) -> tuple[Codes, Times]:
        """Judge for good the readings of meters before each one's end, and drop them; whose, and of when."""
        positions, rows = self.log.select_before(slots, ends)
        if len(positions):
            readings, _, columns = self._validated_again(self.final_validation, rows)
            self._judge.seal(readings, rows["slot"], columns)
            self.log.drop(positions)
        return rows["slot"], rows["at"]

    def _validated_again(
        self, validation: Validation, rows: dict[str, Any]
    ) -> ValidatedReadings:
        """Validate kept readings, which are in order."""
        slots = rows["slot"]
        none = np.zeros(len(slots))
        given = {name: rows[name] for name in self._columns}
        readings = Readings.build(("",), none, ("",), none, **given)
        before = self._gaps.times_before(slots, readings.at)
        meters = self._registry.meters
        master = meters.columns_of(meters.rows_in_force(slots, readings.at - 1))

        with np.errstate(invalid="ignore", divide="ignore"):
            whole_p, whole_q = total(readings.p), total(readings.q)
            kva = apparent_power(readings, master, whole_p, whole_q) * master["ratio"]
            counted = validation.implausible.copy()
            validated = validated_readings(
                validation, readings, slots, before, master, kva
            )
            validation.implausible = counted  # these rows were counted before
        return validated

    def open(self, slots: Codes) -> None:
        """Begin to keep the readings of meters, from their state now."""
        self._judge.finalise(slots)
        self.final_validation.cells.write(slots, self.live_validation.cells.read(slots))

    def drop(self, slots: Codes) -> None:
        """Drop the kept readings of meters."""
        self.log.drop(self.log.positions(slots))
        self._judge.finalise(slots)

"""Judges each meter's readings in order of time, though they may arrive out of order.

A reading is judged when it arrives. If a reading is missing before it, the buffer of its meter opens: it keeps the
meter's state before the gap and every reading since. A late reading joins the buffer, and at the next full hour of the
area's watermark the buffer is judged again in order of time; only differences are published. A gap waits until the
watermark is a day past the reading after it, and a buffer is dropped with its last gap. A reading that arrives later
still, or is older than the first reading of its meter, amends days and areas alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from detectors.reorder.buffered_clocks import BufferedClocks
from detectors.reorder.buffered_readings import BufferedReadings, Correction
from detectors.reorder.reading_batch import ReadingBatch
from detectors.reorder.waiting_gaps import WaitingGaps, rows_before_gap
from detectors.revisable import RevisableJudge
from models.days.facts import Facts
from models.master.registry import Registry
from models.state.index import Index
from models.state.owners import Owner, Schema, State, within
from models.state.runs import whole_sums
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Codes, Times
from schemas.units import HOUR_SECONDS

EXPIRED_ROWS = 100_000  # buffered rows that are released at once
NONE_LATE = LATEST_TIME, frozenset[int]()  # of an area without late readings


class ReorderBuffer(Owner):
    """The judges of single readings and of clocks, and the buffers of meters that lack a reading."""

    def __init__(
        self,
        readings: RevisableJudge,
        clocks: RevisableJudge,
        index: Index,
        registry: Registry,
        interval: int,
    ) -> None:
        self.readings = readings
        self.clocks = clocks
        self.index = index
        self.registry = registry
        self._gaps = WaitingGaps(index, registry, interval)
        self.gap_starts = self._gaps.starts
        self.buffered_readings = BufferedReadings(readings, self._gaps, registry)
        self.buffered_clocks = BufferedClocks(clocks, self._gaps)
        self.validation = self.buffered_readings.live_validation
        self.final_validation = self.buffered_readings.final_validation

        # by area: the hour in which the first late reading joined, and the meters
        self.late: dict[int, tuple[int, set[int]]] = {}

    @property
    def last_read(self) -> Times:
        """The time of each meter's last reading in order, by its slot; 0 if it has none."""
        return self.validation.order["last"]

    def adopt(self) -> None:
        """Keep the columns that the new rules read."""
        self.buffered_readings.adopt()

    def reserve(self) -> None:
        """Make room for every meter."""
        meters = len(self.index)
        for cells in (
            self.gap_starts,
            self.validation.cells,
            self.final_validation.cells,
        ):
            cells.reserve(meters)

    def areas_with_late(self, batch: ReadingBatch) -> set[int]:
        """The areas that have a late reading to judge, or may have one in this batch."""
        self.reserve()
        unsettled = set(self.late)
        behind = batch.accepted & ~batch.in_order
        if not behind.any():
            return unsettled

        slots, at = batch.slots, batch.readings.at
        may_open = self._gaps.may_open(slots, at, batch.before, batch.in_order)
        awaited = behind & (may_open[slots] | self._gaps.after_gap(slots, at))
        return unsettled | set(np.unique(batch.areas[awaited]).tolist())

    def judge(
        self, batch: ReadingBatch, rows: Codes, facts: Facts
    ) -> tuple[list[Alert], Facts]:
        """Judge rows of a batch that are in order of their meters' time, and the clock errors of all `rows`.

        Returns the alerts, and the batch's facts with those of the judged rows as validated.
        """
        slots, at, before = batch.slots, batch.readings.at, batch.before
        in_order = batch.in_order
        sections = [rows]
        set_back = (  # the meter's clock was set back
            in_order[rows] & (before[rows] > 0) & (at[rows] <= before[rows])
        )
        if set_back.any():
            sections = np.split(rows, np.flatnonzero(set_back))

        alerts: list[Alert] = []
        for number, section in enumerate(sections):
            if number:  # its first row is the one that was set back
                self._drop_buffers(slots[section[:1]])

            rest = section
            ordered = section[in_order[section]]
            opened, first = self._gaps.opening(at, slots, ordered, before, batch.master)
            if len(opened):
                early = rows_before_gap(opened, first, slots, section)
                rest = section[~early]
                found, facts = self._judge_rows(batch, section[early], facts)
                alerts += found
                self._open_buffers(opened, batch.areas[first], before[first])

            found, facts = self._judge_rows(batch, rest, facts)
            alerts += found
        return alerts, facts

    def _judge_rows(
        self, batch: ReadingBatch, rows: Codes, facts: Facts
    ) -> tuple[list[Alert], Facts]:
        """Judge rows of a batch between which no buffer opens."""
        ordered = rows[batch.in_order[rows]]
        alerts, facts = self.buffered_readings.judge(batch, ordered, facts)
        alerts += self.buffered_clocks.judge(batch, rows)
        return alerts, facts

    def _open_buffers(self, slots: Codes, areas: Codes, since: Times) -> None:
        """Keep the state of meters before a gap, and the time of each one's last reading."""
        self._gaps.open(slots, areas, since)
        self.buffered_readings.open(slots)
        self.buffered_clocks.open(slots)

    def _drop_buffers(self, slots: Codes) -> None:
        """Drop the buffers of meters."""
        slots = slots[self._gaps.waiting(slots)]
        if len(slots):
            self.gap_starts["at"][slots] = 0
            self.buffered_readings.drop(slots)
            self.buffered_clocks.drop(slots)

    def add_late(self, batch: ReadingBatch, rows: Codes, facts: Facts) -> None:
        """Add late rows of a batch to their meters' buffers, where one is missing and awaited."""
        readings, slots, watermarks = batch.readings, batch.slots, batch.update.before
        rows = rows[self._gaps.after_gap(slots[rows], readings.at[rows])]
        if not len(rows):
            return
        log = self.buffered_readings.log
        awaited = self._gaps.awaited(
            log, slots[rows], readings.at[rows], watermarks[rows]
        )
        if not awaited:
            return

        rows = rows[awaited]
        late, late_slots = readings.select(rows), slots[rows]
        self.buffered_readings.add(late, late_slots, facts.kwh[rows])
        self.buffered_clocks.add_late(late, late_slots)
        self._note_late(batch.areas[rows], late_slots, watermarks[rows])

    def _note_late(self, areas: Codes, slots: Codes, watermarks: Times) -> None:
        """Note the hour in which an area's first late reading joined, and the meters."""
        hours = watermarks // HOUR_SECONDS
        columns = (areas, slots, hours)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for area, meter, hour in rows:
            _, meters = self.late.setdefault(area, (hour, set()))
            meters.add(meter)

    def late_hours(self, areas: int) -> Times:
        """By area, the hour after which late readings are judged; LATEST_TIME if there are none."""
        hours = np.full(areas, LATEST_TIME)
        for area, (hour, _) in self.late.items():
            hours[area] = hour
        return hours

    def late_rows(self, areas: Sequence[int]) -> Codes:
        """How many rows of each of `areas` are judged again when an hour ends."""
        late_meters = [list(self.late.get(area, NONE_LATE)[1]) for area in areas]
        sizes = np.array(list(map(len, late_meters)), np.int64)
        slots = np.array(list(chain(*late_meters)), np.int64)
        rows = self.buffered_readings.log.row_counts(slots)
        return whole_sums(rows, sizes)

    def late_meters(self, watermarks: Mapping[int, int]) -> Codes:
        """The meters with a late reading to judge: of areas whose watermarks have reached another hour."""
        meters: set[int] = set()
        for area, watermark in watermarks.items():
            hour, late_meters = self.late.get(area, NONE_LATE)
            if watermark // HOUR_SECONDS > hour:
                meters |= late_meters
                del self.late[area]
        slots = np.array(sorted(meters), np.int64)
        return slots[self._gaps.waiting(slots)]

    def judge_again(self, slots: Codes) -> tuple[list[Alert], Correction]:
        """Judge the buffers of meters again; the alerts, and the energy that differs."""
        alerts, correction = self.buffered_readings.judge_again(slots)
        alerts += self.buffered_clocks.judge_again(slots)
        return alerts, correction

    def release(self, slots: Codes, watermarks: Times) -> None:
        """Judge for good the rows before each meter's first gap that still waits.

        `watermarks` are those of the meters' areas.
        """
        log = self.buffered_readings.log
        first_after = self._gaps.first_after(slots, log, watermarks)
        waiting = first_after < LATEST_TIME
        self._drop_buffers(slots[~waiting])

        slots, first_after = slots[waiting], first_after[waiting]
        sealed_slots, sealed_at = self.buffered_readings.seal(slots, first_after)
        if len(sealed_slots):
            self.buffered_clocks.seal(slots, first_after)
            np.maximum.at(self.gap_starts["at"], sealed_slots, sealed_at)

    def portion(self, areas: Codes) -> Codes:
        """The first of `areas` with at most EXPIRED_ROWS buffered rows together; one area at least."""
        if self.buffered_readings.log.size <= EXPIRED_ROWS:
            return areas
        slots = np.flatnonzero(self.gap_starts["at"] > 0)
        meter_rows = self.buffered_readings.log.row_counts(slots)
        meter_areas = self.gap_starts["area"][slots]
        area_rows = np.bincount(meter_areas, meter_rows, int(areas.max()) + 1)
        sums = np.cumsum(area_rows[areas])
        portion = int(np.searchsorted(sums, EXPIRED_ROWS, "right"))
        return areas[: max(1, portion)]

    def expire(self, areas: Codes, watermarks: Times) -> None:
        """Release the gaps of `areas` that wait no longer; `watermarks` are those of all areas."""
        self.reserve()
        gap_areas = self.gap_starts["area"]
        expiring = (self.gap_starts["at"] > 0) & np.isin(gap_areas, areas)
        for _, late_meters in self.late.values():
            expiring[list(late_meters)] = False

        slots = np.flatnonzero(expiring)
        if len(slots):
            self.release(slots, watermarks[gap_areas[slots]])

    def owners(self) -> dict[str, Owner]:
        """The gaps, the rows since, and validation as of now and as of the gaps."""
        return {
            "reorder": self,
            "reorder/live": self.validation.cells,
            "reorder/final": self.final_validation.cells,
            "reorder/log": self.buffered_readings.log,
            "reorder/clock_log": self.buffered_clocks.log,
        }

    def schema(self) -> Schema:
        """The gaps of meters, and the areas with a late reading to judge."""
        return {**self.gap_starts.schema(), "late": list[tuple[int, int, list[int]]]}

    def state(self) -> State:
        """The whole state but the rows."""
        late = [
            (area, hour, sorted(meters)) for area, (hour, meters) in self.late.items()
        ]
        return {**self.gap_starts.state(), "late": late}

    def load(self, state: State) -> None:
        """Replace the state by that of `state`."""
        self.gap_starts.load(state)
        self.late = {
            area: (hour, set(meters)) for area, hour, meters in state.get("late", ())
        }

    def resume(self) -> None:
        """Go on after all owners were loaded. Raises StateError if they disagree with the index."""
        meters = len(self.index)
        within("the number of meters in order", self.validation.order.used, 0, meters)
        for cells in (
            self.gap_starts,
            self.validation.cells,
            self.final_validation.cells,
        ):
            within("the number of meters in the reorder buffer", cells.used, 0, meters)
        for buffered in (self.buffered_readings, self.buffered_clocks):
            rows = buffered.log.columns()
            within("a meter of a buffered row", rows["slot"], 0, meters - 1)
            within("the time of a buffered row", rows["at"], 0, 2 * LATEST_TIME)

        areas = len(self.registry.area_index)
        gap_areas = self.gap_starts["area"]
        within("the area of a gap", gap_areas, 0, max(areas - 1, 0))
        within("an area with late readings", list(self.late), 0, areas - 1)
        for _, late_meters in self.late.values():
            within("a meter with a late reading", list(late_meters), 0, meters - 1)

"""Judges each meter's readings in order of time, though they may arrive out of order.

A reading is judged when it arrives. If a reading is missing before it, the buffer of its meter opens: it keeps the
meter's state before the gap and every reading since. A late reading joins the buffer, and at the next full hour of the
area's watermark the buffer is judged again in order of time; only differences are published. A gap waits until the
watermark is a day past the reading after it, and a buffer is dropped with its last gap. A reading that arrives later
still, or is older than the first reading of its meter, amends days and areas alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from detectors.revisable import RevisableJudge
from models.days.open_days import Facts, apparent_power
from models.master.registry import Registry
from models.meters.basics import NEVER_SECONDS, Columns, phase_columns
from models.meters.validation import Registers, Validation
from models.meters.wiring import wiring_columns
from models.state.cells import Cells
from models.state.gaps import total
from models.state.index import Index
from models.state.owners import Owner, Schema, State, same_length, within
from models.state.runs import runs
from schemas.alert import Alert
from schemas.columns import (
    COLUMN_TYPES,
    LATEST_TIME,
    PHASE_COLUMNS,
    Batch,
    Clocks,
    Codes,
    Column,
    Mask,
    Readings,
    Status,
    Times,
)
from schemas.units import HOUR_SECONDS

GAP_INTERVALS = 1.5  # of a meter: readings further apart have one missing between them
EXPIRED_ROWS = 100_000  # buffered rows that are released at once
GAP_PATIENCE = 86_400  # s after a reading, within which a reading before it may come
LOG_TYPES = COLUMN_TYPES | {"slot": np.int32, "stored_kwh": np.float32}
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


class ClockObservation(NamedTuple):
    """The errors of meters' clocks that the rows of a batch show."""

    mask: Mask  # rows that show an error
    order_time: Times  # its place among the meter's readings
    at: Times  # when it was observed
    offset: Column  # seconds ahead


class RowLog(Owner):
    """Rows by meter slot, in order of arrival."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = ("slot", *names)
        self.size = 0
        # by position: dropped rows stay until they are half of all rows
        self._dropped = np.zeros(0, bool)
        self.arrays: dict[str, Any] = {}
        self.resize(0)

    def resize(self, capacity: int) -> None:
        """Remove dropped rows, and make room for `capacity` rows."""
        kept = np.flatnonzero(~self._dropped[: self.size])
        for name in self.names:
            array = np.empty(
                (3, capacity) if name in PHASE_COLUMNS else capacity,
                LOG_TYPES.get(name, np.int64),
            )
            if len(kept):
                array[..., : len(kept)] = self.arrays[name][..., kept]
            self.arrays[name] = array
        self._dropped = np.zeros(capacity, bool)
        self.size = len(kept)

    def append(self, **columns: Any) -> None:
        """Append rows."""
        count = len(columns["slot"])
        if self.size + count > len(self._dropped):
            self.resize((self.size + count) * 3 // 2)
        for name in self.names:
            self.arrays[name][..., self.size : self.size + count] = columns[name]
        self.size += count

    def columns(self) -> dict[str, Any]:
        """All rows, and the slot of each."""
        if self._dropped.any():
            self.resize(self.size)
        return {name: array[..., : self.size] for name, array in self.arrays.items()}

    def positions(self, slots: Codes) -> Codes:
        """The positions of the rows of `slots`."""
        row_slots = self.arrays["slot"][: self.size]
        wanted = np.zeros(
            max(int(row_slots.max(initial=-1)), int(slots.max(initial=-1))) + 1, bool
        )
        wanted[slots] = True
        return np.flatnonzero(wanted[row_slots] & ~self._dropped[: self.size])

    def ordered(self, slots: Codes) -> Codes:
        """The positions of the rows of `slots`, by slot and then by time."""
        positions = self.positions(slots)
        return positions[
            np.lexsort((self.arrays["at"][positions], self.arrays["slot"][positions]))
        ]

    def select(self, slots: Codes) -> tuple[Codes, dict[str, Any]]:
        """The positions of the rows of `slots`, by slot and then by time, and these rows."""
        positions = self.ordered(slots)
        rows = {name: array[..., positions] for name, array in self.arrays.items()}
        return positions, rows

    def row_counts(self, slots: Codes) -> Codes:
        """How many rows each of `slots` has."""
        row_slots = self.arrays["slot"][: self.size][~self._dropped[: self.size]]
        return np.bincount(row_slots, minlength=int(slots.max(initial=-1)) + 1)[slots]

    def write(self, name: str, positions: Codes, values: Any) -> None:
        """Put values in a column at `positions`."""
        self.arrays[name][positions] = values

    def drop(self, positions: Codes) -> None:
        """Drop the rows at `positions`."""
        self._dropped[positions] = True
        if 2 * (left := self.size - int(np.count_nonzero(self._dropped))) < self.size:
            self.resize(left * 3 // 2)

    def schema(self) -> Schema:
        """An empty row, by column."""
        return {
            name: np.zeros(array.shape[:-1], array.dtype)
            for name, array in self.arrays.items()
        }

    def state(self) -> State:
        """All rows."""
        return self.columns()

    def load(self, state: State) -> None:
        """Replace all rows by those of `state`; a column that is missing is NaN. Raises StateError."""
        self._dropped[:] = True
        self.resize(0)
        rows = same_length(state.values())
        within("the number of rows", rows, 0, len(state.get("slot", ())))

        unknown = {
            name: np.nan if array.dtype.kind == "f" else 0
            for name, array in self.arrays.items()
        }
        self.append(**{"slot": self.arrays["slot"], **unknown, **state})


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
        self.interval = interval
        self.live = Validation()
        self.final = Validation()

        # by meter: the time of the last reading before its first gap, 0 if its buffer is
        # closed; and its area
        self.gap_starts = Cells(at=np.int64(0), area=np.int32(0))
        self._logged_columns = self._columns_to_log()
        self._log = RowLog((*self._logged_columns, "stored_kwh"))
        self._clock_log = RowLog(("at", "observed_at", "offset"))

        # by area: the hour in which the first late reading joined, and the meters
        self.late: dict[int, tuple[int, set[int]]] = {}

    def _columns_to_log(self) -> tuple[str, ...]:
        """The columns of readings that a rule reads, and those of JUDGED_COLUMNS."""
        read = set(JUDGED_COLUMNS)
        for rule in self.readings.live.rules:
            read.update(rule.reads, rule.beside)
        return tuple(field.name for field in fields(Readings) if field.name in read)

    def adopt(self) -> None:
        """Keep the columns that the new rules read."""
        self._logged_columns = self._columns_to_log()
        rows = self._log.columns()
        self._log = RowLog((*self._logged_columns, "stored_kwh"))
        self._log.load(rows)

    def reserve(self) -> None:
        """Make room for every meter."""
        for cells in (self.gap_starts, self.live.cells, self.final.cells):
            cells.reserve(len(self.index))

    def areas_with_late(
        self,
        areas: Codes,
        slots: Codes,
        at: Times,
        before: Times,
        in_order: Mask,
        accepted: Mask,
    ) -> set[int]:
        """The areas that have a late reading to judge, or may have one in this batch."""
        self.reserve()
        unsettled = set(self.late)
        behind = accepted & ~in_order
        if not behind.any():
            return unsettled

        missing = (
            in_order & (before > 0) & (at - before > GAP_INTERVALS * self.interval)
        )
        opening = np.zeros(len(self.index), bool)
        opening[slots[missing]] = True
        since = self.gap_starts["at"][slots]
        awaited = behind & (opening[slots] | ((since > 0) & (at > since)))
        return unsettled | set(np.unique(areas[awaited]).tolist())

    def judge(
        self,
        readings: Readings,
        slots: Codes,
        areas: Codes,
        rows: Codes,
        in_order: Mask,
        before: Times,
        master: Columns,
        facts: Facts,
        observation: ClockObservation,
    ) -> tuple[list[Alert], Facts]:
        """Judge rows of a batch that are in order of their meters' time, and the clock errors of all `rows`.

        Returns the alerts, and the batch's facts with those of the judged rows as validated.
        """
        sections = [rows]
        set_back = (  # the meter's clock was set back
            in_order[rows] & (before[rows] > 0) & (readings.at[rows] <= before[rows])
        )
        if set_back.any():
            sections = np.split(rows, np.flatnonzero(set_back))

        alerts: list[Alert] = []
        for section in sections:
            head = section[:1]
            is_back = in_order[head] & (readings.at[head] <= before[head])
            self._drop_buffers(slots[head][is_back])

            rest = section
            opened, first = self._opening(
                readings.at, slots, section[in_order[section]], before, master
            )
            if len(opened):
                early = self._before_gap(opened, first, slots, section)
                found, facts = self._judge_in_order(
                    readings,
                    slots,
                    section[early & in_order[section]],
                    before,
                    master,
                    facts,
                )
                alerts += found
                alerts += self._judge_clocks(
                    readings, slots, section[early], observation
                )
                self._open_buffers(opened, areas[first], before[first])
                rest = section[~early] if early.any() else section

            found, facts = self._judge_in_order(
                readings, slots, rest[in_order[rest]], before, master, facts
            )
            alerts += found
            alerts += self._judge_clocks(readings, slots, rest, observation)
        return alerts, facts

    def _opening(
        self, at: Times, slots: Codes, rows: Codes, before: Times, master: Columns
    ) -> tuple[Codes, Codes]:
        """The meters whose first gap is before one of `rows`, and each one's first row after it."""
        at, before, slots = at[rows], before[rows], slots[rows]
        interval = np.fmax(master["interval_s"][rows], self.interval)
        opening = np.flatnonzero(
            (before > 0)
            & (at - before > GAP_INTERVALS * interval)
            & (self.gap_starts["at"][slots] == 0)
        )
        if not len(opening):
            return opening, opening
        opened, places = np.unique(slots[opening], return_index=True)
        return opened, rows[opening[places]]

    def _before_gap(
        self, opened: Codes, first: Codes, slots: Codes, rows: Codes
    ) -> Mask:
        """Which rows arrive before the first row after a gap of their meter, if one opens."""
        place = np.minimum(np.searchsorted(opened, slots[rows]), len(opened) - 1)
        arrival = np.empty(len(slots), np.int64)
        arrival[rows] = np.arange(len(rows))
        return (opened[place] == slots[rows]) & (arrival[rows] < arrival[first][place])

    def _open_buffers(self, slots: Codes, areas: Codes, since: Times) -> None:
        """Keep the state of meters before a gap, and the time of each one's last reading."""
        self.gap_starts["at"][slots] = since
        self.gap_starts["area"][slots] = areas
        self.readings.finalise(slots)
        self.clocks.finalise(slots)
        self.final.cells.write(slots, self.live.cells.read(slots))

    def _drop_buffers(self, slots: Codes) -> None:
        """Drop the buffers of meters."""
        slots = slots[self.gap_starts["at"][slots] > 0]
        if not len(slots):
            return

        self.gap_starts["at"][slots] = 0
        for log in (self._log, self._clock_log):
            log.drop(log.positions(slots))
        for judge in (self.readings, self.clocks):
            judge.finalise(slots)

    def _judge_in_order(
        self,
        readings: Readings,
        slots: Codes,
        rows: Codes,
        before: Times,
        master: Columns,
        facts: Facts,
    ) -> tuple[list[Alert], Facts]:
        """Judge rows in order, and keep those of meters with a buffer; their facts become as validated."""
        if not len(rows):
            return [], facts
        kva = facts.kva
        before = before[rows]
        if len(rows) < len(readings):
            readings = readings.select(rows)
            slots = slots[rows]
            kva = kva[rows]
            master = {name: column[rows] for name, column in master.items()}

        validated, registers, more = self._validated_columns(
            self.live, readings, slots, before, master, kva
        )
        alerts = self.readings.live.judge(validated, slots, more)
        kwh = self._energy(validated, registers, more)

        kept = self.gap_starts["at"][slots] > 0
        if kept.any():
            self._log_readings(readings.select(kept), slots[kept], kwh[kept])
            self._remember(self.readings, alerts)
        return alerts, _as_validated(facts, rows, kwh, registers.stale)

    def _validated_columns(
        self,
        validation: Validation,
        readings: Readings,
        slots: Codes,
        before: Times,
        master: Columns,
        kva: Column,
    ) -> tuple[Readings, Registers, Columns]:
        """Readings as validated, their registers, and the columns that rules read beside their own."""
        readings, registers = validation.validate(slots, readings, master)
        more = master | phase_columns(readings)
        more |= wiring_columns(readings, master["elements"])
        more["kva"] = np.where(registers.stale, np.nan, kva)
        more["power_factor"] = np.abs(more["total_p"]) * master["ratio"] / more["kva"]
        more["register_delta"] = registers.delta
        more["register_drop"] = registers.drop
        more["gap"] = np.where(
            (before > 0) & (before < readings.at), readings.at - before, NEVER_SECONDS
        )
        return readings, registers, more

    def _energy(
        self, readings: Readings, registers: Registers, more: Columns
    ) -> Column:
        """Energy of each interval, kWh; from the register if the meter does not send it."""
        interval = np.fmax(more["interval_s"], self.interval)
        steady = more["gap"] <= GAP_INTERVALS * interval
        measured = readings.status == Status.MEASURED
        by_register = np.isnan(readings.kwh) & steady & measured
        return np.where(by_register, registers.delta.astype(np.float32), readings.kwh)

    def _log_readings(
        self, readings: Readings, slots: Codes, stored_kwh: Column
    ) -> None:
        """Add readings to their meters' buffers."""
        self._log.append(
            slot=slots.astype(np.int32),
            stored_kwh=stored_kwh,
            **{name: getattr(readings, name) for name in self._logged_columns},
        )

    def _remember(self, judge: RevisableJudge, alerts: Iterable[Alert]) -> None:
        """Remember the published alerts of meters with a buffer."""
        since = self.gap_starts["at"]
        judge.remember(
            [
                alert
                for alert in alerts
                if since[self.index.slot(alert.area, alert.subject)] > 0
            ]
        )

    def _judge_clocks(
        self,
        readings: Readings,
        slots: Codes,
        rows: Codes,
        observation: ClockObservation,
    ) -> list[Alert]:
        """Judge the clock errors that some rows of a batch show."""
        rows = rows[observation.mask[rows]]
        if not len(rows):
            return []
        slots = slots[rows]
        at = observation.at[rows]
        offset = observation.offset[rows]
        order_time = observation.order_time[rows]

        clocks = Clocks(
            readings.names,
            readings.subject[rows],
            readings.areas,
            readings.area[rows],
            at,
            offset,
        )
        alerts = self.clocks.live.judge(clocks, slots)

        since = self.gap_starts["at"][slots]
        kept = (since > 0) & (order_time > since)
        if kept.any():
            self._log_clocks(slots[kept], order_time[kept], at[kept], offset[kept])
            self._remember(self.clocks, alerts)
        return alerts

    def _log_clocks(
        self, slots: Codes, order_time: Times, at: Times, offset: Column
    ) -> None:
        """Add clock errors to their meters' buffers."""
        self._clock_log.append(
            slot=slots.astype(np.int32), at=order_time, observed_at=at, offset=offset
        )

    def add_late(
        self,
        readings: Readings,
        slots: Codes,
        areas: Codes,
        watermarks: Times,
        facts: Facts,
        rows: Codes,
    ) -> None:
        """Add late rows of a batch to their meters' buffers, where one is missing and awaited."""
        since = self.gap_starts["at"][slots[rows]]
        in_buffer = (since > 0) & (readings.at[rows] > since)
        if not in_buffer.any():
            return
        rows, since = rows[in_buffer], since[in_buffer]
        rows = rows[
            self._awaited(slots[rows], readings.at[rows], since, watermarks[rows])
        ]
        if not len(rows):
            return

        late = readings.select(rows)
        self._log_readings(late, slots[rows], facts.kwh[rows])
        timed = rows[np.isfinite(late.clock_offset)]
        if len(timed):
            at = readings.at[timed]
            offset = readings.clock_offset[timed].astype(np.float64)
            self._log_clocks(slots[timed], at, at, offset)

        for area, meter, watermark in zip(
            areas[rows].tolist(),
            slots[rows].tolist(),
            watermarks[rows].tolist(),
            strict=True,
        ):
            _, meters = self.late.setdefault(area, (watermark // HOUR_SECONDS, set()))
            meters.add(meter)

    def _awaited(
        self, slots: Codes, at: Times, since: Times, watermarks: Times
    ) -> list[int]:
        """Which late readings fill a gap that still waits, after the late readings before them."""
        buffers = self._buffered_times(slots)
        widest = self._widest_gap(slots, at)
        columns = [column.tolist() for column in (slots, at, since, watermarks, widest)]

        joined = []
        for n, (slot, time, start, watermark, width) in enumerate(
            zip(*columns, strict=True)
        ):
            times, widths = buffers.get(slot, ([], []))
            place = bisect_left(times, time)
            if place == len(times) or times[place] == time:
                continue
            before = max(times[place - 1] if place else 0, start)
            is_gap = times[place] - before > widths[place]
            if is_gap and watermark <= times[place] + GAP_PATIENCE:
                times.insert(place, time)
                widths.insert(place, width)
                joined.append(n)
        return joined

    def _buffered_times(self, slots: Codes) -> dict[int, tuple[list[int], list[float]]]:
        """By meter, the times of its buffered readings and how wide no gap may be before each."""
        positions = self._log.ordered(np.unique(slots))
        row_slots = self._log.arrays["slot"][positions]
        times = self._log.arrays["at"][positions]
        widest = self._widest_gap(row_slots, times)

        buffers: dict[int, tuple[list[int], list[float]]] = {}
        for start, end in pairwise([*runs(row_slots).tolist(), len(row_slots)]):
            buffers[int(row_slots[start])] = (
                times[start:end].tolist(),
                widest[start:end].tolist(),
            )
        return buffers

    def late_hours(self, areas: int) -> Times:
        """By area, the hour after which late readings are judged; LATEST_TIME if there are none."""
        hours = np.full(areas, LATEST_TIME)
        for area, (hour, _) in self.late.items():
            hours[area] = hour
        return hours

    def late_rows(self, areas: Sequence[int]) -> Codes:
        """How many rows of each of `areas` are judged again when an hour ends."""
        meters = [
            list(self.late[area][1]) if area in self.late else [] for area in areas
        ]
        sizes = self._log.row_counts(np.array(list(chain(*meters)), np.int64))
        ends = np.cumsum(list(map(len, meters)), dtype=np.int64)
        sums = np.concatenate([[0], np.cumsum(sizes)])
        return np.diff(sums[ends], prepend=0)

    def late_meters(self, watermarks: Mapping[int, int]) -> Codes:
        """The meters with a late reading to judge: of areas whose watermarks have reached another hour."""
        due = [
            area
            for area, watermark in watermarks.items()
            if area in self.late and watermark // HOUR_SECONDS > self.late[area][0]
        ]
        meters = {meter for area in sorted(due) for meter in self.late.pop(area)[1]}
        slots = np.array(sorted(meters), np.int64)
        return slots[self.gap_starts["at"][slots] > 0]

    def judge_again(self, slots: Codes) -> tuple[list[Alert], Correction]:
        """Judge the buffers of meters again; the alerts, and the energy that differs."""
        self.live.cells.write(slots, self.final.cells.read(slots))
        positions, rows = self._log.select(slots)
        readings, row_slots, registers, more = self._revalidated(self.live, rows)
        alerts = self.readings.amend(slots, [(readings, row_slots, more)])
        _, clock_rows = self._clock_log.select(slots)
        alerts += self.clocks.amend(slots, [_clocks_of(clock_rows)])

        kwh = self._energy(readings, registers, more)
        stored = rows["stored_kwh"]
        changed = (kwh != stored) & ~(np.isnan(kwh) & np.isnan(stored))
        self._log.write("stored_kwh", positions, kwh)
        return alerts, Correction(
            row_slots[changed], readings.at[changed], stored[changed], kwh[changed]
        )

    def _revalidated(
        self, validation: Validation, rows: dict[str, Any]
    ) -> tuple[Readings, Codes, Registers, Columns]:
        """Validate buffered rows, in order; their readings, slots, registers and more columns."""
        slots = rows["slot"]
        readings = Readings.build(
            ("",),
            np.zeros(len(slots)),
            ("",),
            np.zeros(len(slots)),
            **{name: rows[name] for name in self._logged_columns},
        )
        master = self.registry.meters.columns_of(
            self.registry.meters.rows_in_force(slots, readings.at - 1)
        )

        with np.errstate(invalid="ignore", divide="ignore"):
            kva = apparent_power(readings, master, total(readings.p), total(readings.q))
            counted = validation.implausible.copy()
            validated, registers, more = self._validated_columns(
                validation,
                readings,
                slots,
                self._times_before(rows),
                master,
                kva * master["ratio"],
            )
            validation.implausible = counted  # these rows were counted before
        return validated, slots, registers, more

    def _times_before(self, rows: dict[str, Any]) -> Times:
        """The time of the reading before each buffered row of its meter."""
        first = np.diff(rows["slot"], prepend=-1) != 0
        return np.where(
            first,
            self.gap_starts["at"][rows["slot"]],
            np.concatenate([[0], rows["at"][:-1]]),
        )

    def _widest_gap(self, slots: Codes, at: Times) -> Column:
        """Seconds that may be between a reading and the one before it if none is missing."""
        meters = self.registry.meters
        interval = meters.column("interval_s", meters.rows_in_force(slots, at - 1))
        return GAP_INTERVALS * np.fmax(interval, self.interval)

    def release(self, slots: Codes, watermarks: Times) -> None:
        """Judge for good the rows before each meter's first gap that still waits.

        `watermarks` are those of the meters' areas.
        """
        _, rows = self._log.select(slots)
        places = np.searchsorted(slots, rows["slot"])
        first_after = self._first_after_gap(slots, rows, places, watermarks)
        self._drop_buffers(slots[first_after == LATEST_TIME])

        is_final = (rows["at"] < first_after[places]) & (
            first_after[places] < LATEST_TIME
        )
        if not is_final.any():
            return
        final_rows = {name: column[..., is_final] for name, column in rows.items()}
        readings, row_slots, _, more = self._revalidated(self.final, final_rows)
        self.readings.seal(readings, row_slots, more)
        positions, rows = self._log.select(slots)
        is_final = rows["at"] < first_after[np.searchsorted(slots, rows["slot"])]
        self._log.drop(positions[is_final])

        positions, rows = self._clock_log.select(slots)
        is_final = rows["at"] < first_after[np.searchsorted(slots, rows["slot"])]
        clock_rows = {name: column[is_final] for name, column in rows.items()}
        self.clocks.seal(*_clocks_of(clock_rows))
        self._clock_log.drop(positions[is_final])
        np.maximum.at(self.gap_starts["at"], row_slots, final_rows["at"])

    def _first_after_gap(
        self, slots: Codes, rows: dict[str, Any], places: Codes, watermarks: Times
    ) -> Times:
        """The time of each meter's first reading after a waiting gap; LATEST_TIME without a gap."""
        widest = self._widest_gap(rows["slot"], rows["at"])
        missing = rows["at"] - self._times_before(rows) > widest
        waits = missing & (watermarks[places] <= rows["at"] + GAP_PATIENCE)
        first_after = np.full(len(slots), LATEST_TIME)
        np.minimum.at(first_after, places[waits], rows["at"][waits])
        return first_after

    def portion(self, areas: Codes) -> Codes:
        """The first of `areas` with at most EXPIRED_ROWS buffered rows together; one area at least."""
        if self._log.size <= EXPIRED_ROWS:
            return areas
        slots = np.flatnonzero(self.gap_starts["at"] > 0)
        counts = np.bincount(
            self.gap_starts["area"][slots],
            self._log.row_counts(slots),
            int(areas.max()) + 1,
        )
        sums = np.cumsum(counts[areas])
        return areas[: max(1, int(np.searchsorted(sums, EXPIRED_ROWS, "right")))]

    def expire(self, areas: Codes, watermarks: Times) -> None:
        """Release the gaps of `areas` that wait no longer; `watermarks` are those of all areas."""
        self.reserve()
        expiring = (self.gap_starts["at"] > 0) & np.isin(self.gap_starts["area"], areas)
        late_meters = [meter for _, meters in self.late.values() for meter in meters]
        expiring[late_meters] = False
        if len(slots := np.flatnonzero(expiring)):
            self.release(slots, watermarks[self.gap_starts["area"][slots]])

    def owners(self) -> dict[str, Owner]:
        """The gaps, the rows since, and validation as of now and as of the gaps."""
        return {
            "reorder": self,
            "reorder/live": self.live.cells,
            "reorder/final": self.final.cells,
            "reorder/log": self._log,
            "reorder/clock_log": self._clock_log,
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
        for cells in (self.gap_starts, self.live.cells, self.final.cells):
            within("the number of meters in the reorder buffer", cells.used, 0, meters)
        for rows in (self._log.columns(), self._clock_log.columns()):
            within("a meter of a buffered row", rows["slot"], 0, meters - 1)
            within("the time of a buffered row", rows["at"], 0, 2 * LATEST_TIME)

        areas = len(self.registry.area_index)
        within("the area of a gap", self.gap_starts["area"], 0, max(areas - 1, 0))
        within("an area with late readings", list(self.late), 0, areas - 1)
        for _, late_meters in self.late.values():
            within("a meter with a late reading", list(late_meters), 0, meters - 1)


def _as_validated(facts: Facts, rows: Codes, kwh: Column, stale: Mask) -> Facts:
    """The facts with the energy of `rows`; unknown where a meter repeats an old reading."""
    energy = facts.kwh.copy()
    energy[rows] = kwh
    facts = facts._replace(kwh=energy)
    if not stale.any():
        return facts

    stale_rows = rows[stale]
    unknown = ("amps", "neutral", "kva", "unbalance")
    no = ("has_voltage", "by_magnitude", "returned")
    columns = {name: getattr(facts, name).copy() for name in (*unknown, *no, "stale")}
    for name in unknown:
        columns[name][..., stale_rows] = np.nan
    for name in no:
        columns[name][stale_rows] = 0
    columns["stale"][stale_rows] = True
    return facts._replace(**columns)


def _clocks_of(rows: dict[str, Any]) -> tuple[Batch, Codes]:
    """Rows of a log of clocks as a batch, and their slots."""
    none = np.zeros(len(rows["slot"]))
    batch = Clocks.build(
        ("",), none, ("",), none, rows["observed_at"], offset=rows["offset"]
    )
    return batch, rows["slot"]

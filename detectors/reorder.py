"""Judging each meter's readings in order of time, though one may come after newer ones.

A reading is judged when it comes. Where one is missing before it, the meter's tail begins: what was remembered before
the gap is kept, and so is every reading since. A late reading joins its meter's tail, and at the area's next full hour
the tail is judged again in order of time; only what differs is told. A gap waits for a day of its area's clock, counted
from the reading after it, and a tail ends with its last gap. What comes later still, or is older than the first of its
meter's readings to arrive, amends days and areas alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from detectors.revisable import RevisableJudge
from models.cells import Cells
from models.features import NEVER_SECONDS, Columns, phase_columns
from models.gaps import total
from models.index import Index
from models.open_days import Facts, apparent_power
from models.registry import Registry
from models.runs import runs
from models.state import Owner, Schema, State, same_length, within
from models.validation import Registers, Validation
from models.wiring import wiring_columns
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

GAP_INTERVALS = (
    1.5  # of a meter's interval: readings further apart have one missing between them
)
EXPIRED_ROWS = 100_000  # of tails that are let go of at once
GAP_PATIENCE = (
    86_400  # seconds after a reading within which those missing before it may come
)
LOG_TYPES = COLUMN_TYPES | {"slot": np.int32, "stored_kwh": np.float32}
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
)  # whatever rules read


class Correction(NamedTuple):
    """Energy of intervals that was judged otherwise when it was filed; NaN where it is unknown."""

    meters: Codes
    at: Times
    stored: Column  # kWh
    kwh: Column


class ClockObservation(NamedTuple):
    """What the rows of a batch tell of their meters' clocks."""

    mask: Mask  # which do
    order_time: Times  # where it stands among the meter's readings
    at: Times  # when it was so
    offset: Column  # seconds ahead


class RowLog(Owner):
    """Rows by meter slot, in order of arrival."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = ("slot", *names)
        self.size = 0
        self._forgotten = np.zeros(
            0, bool
        )  # by place: forgotten, but there until half of all rows are
        self.arrays: dict[str, Any] = {}
        self.resize(0)

    def resize(self, capacity: int) -> None:
        """Let go of what is forgotten, with room for so many rows."""
        kept = np.flatnonzero(~self._forgotten[: self.size])
        for name in self.names:
            array = np.empty(
                (3, capacity) if name in PHASE_COLUMNS else capacity,
                LOG_TYPES.get(name, np.int64),
            )
            if len(kept):
                array[..., : len(kept)] = self.arrays[name][..., kept]
            self.arrays[name] = array
        self._forgotten, self.size = np.zeros(capacity, bool), len(kept)

    def append(self, **columns: Any) -> None:
        """Append rows."""
        count = len(columns["slot"])
        if self.size + count > len(self._forgotten):
            self.resize((self.size + count) * 3 // 2)
        for name in self.names:
            self.arrays[name][..., self.size : self.size + count] = columns[name]
        self.size += count

    def columns(self) -> dict[str, Any]:
        """All rows, and the slot of each."""
        if self._forgotten.any():
            self.resize(self.size)
        return {name: array[..., : self.size] for name, array in self.arrays.items()}

    def positions(self, slots: Codes) -> Codes:
        """Where the rows of some slots stand."""
        held = self.arrays["slot"][: self.size]
        ours = np.zeros(
            max(int(held.max(initial=-1)), int(slots.max(initial=-1))) + 1, bool
        )
        ours[slots] = True
        return np.flatnonzero(ours[held] & ~self._forgotten[: self.size])

    def ordered(self, slots: Codes) -> Codes:
        """Where the rows of some slots stand, by slot and then by time."""
        rows = self.positions(slots)
        return rows[np.lexsort((self.arrays["at"][rows], self.arrays["slot"][rows]))]

    def select(self, slots: Codes) -> tuple[Codes, dict[str, Any]]:
        """The rows of some slots, by slot and then by time, and where they stand."""
        rows = self.ordered(slots)
        return rows, {name: array[..., rows] for name, array in self.arrays.items()}

    def row_counts(self, slots: Codes) -> Codes:
        """How many rows each of some slots has."""
        held = self.arrays["slot"][: self.size][~self._forgotten[: self.size]]
        return np.bincount(held, minlength=int(slots.max(initial=-1)) + 1)[slots]

    def write(self, name: str, rows: Codes, values: Any) -> None:
        """Put values in a column of the rows that stand there."""
        self.arrays[name][rows] = values

    def drop(self, rows: Codes) -> None:
        """Forget the rows that stand there."""
        self._forgotten[rows] = True
        if 2 * (left := self.size - int(np.count_nonzero(self._forgotten))) < self.size:
            self.resize(left * 3 // 2)

    def schema(self) -> Schema:
        """What a row has, by column."""
        return {
            name: np.zeros(array.shape[:-1], array.dtype)
            for name, array in self.arrays.items()
        }

    def state(self) -> State:
        """All rows."""
        return self.columns()

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave; a column that was not kept is NaN. Raises StateError."""
        self._forgotten[:] = True
        self.resize(0)
        within(
            "how many rows there are",
            same_length(state.values()),
            0,
            len(state.get("slot", ())),
        )
        unknown = {
            name: np.nan if array.dtype.kind == "f" else 0
            for name, array in self.arrays.items()
        }
        self.append(**{"slot": self.arrays["slot"], **unknown, **state})


class ReorderBuffer(Owner):
    """The judges of single readings and of clocks, and the tails of meters that lack a reading."""

    def __init__(
        self,
        readings: RevisableJudge,
        clocks: RevisableJudge,
        index: Index,
        registry: Registry,
        interval: int,
    ) -> None:
        self.readings, self.clocks, self.index, self.registry = (
            readings,
            clocks,
            index,
            registry,
        )
        self.interval = interval
        self.live, self.final = Validation(), Validation()
        self.gap_starts = Cells(
            at=np.int64(0), area=np.int32(0)
        )  # when last read before the first gap, 0 without a tail
        self._logged_columns = self._columns_to_log()
        self._log = RowLog((*self._logged_columns, "stored_kwh"))
        self._clock_log = RowLog(("at", "observed_at", "offset"))
        self.late: dict[
            int, tuple[int, set[int]]
        ] = {}  # by area: the hour a late reading joined in, and the meters

    def _columns_to_log(self) -> tuple[str, ...]:
        """The columns that the rules read, and those that are judged whatever they read."""
        read = JUDGED_COLUMNS | {
            name
            for rule in self.readings.live.rules
            for name in (*rule.reads, *rule.beside)
        }
        return tuple(f.name for f in fields(Readings) if f.name in read)

    def adopt(self) -> None:
        """Keep the columns that other rules read."""
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
        if behind.any():
            missing = (
                in_order & (before > 0) & (at - before > GAP_INTERVALS * self.interval)
            )
            opening = np.zeros(len(self.index), bool)
            opening[slots[missing]] = True
            since = self.gap_starts["at"][slots]
            unsettled |= set(
                np.unique(
                    areas[behind & (opening[slots] | ((since > 0) & (at > since)))]
                ).tolist()
            )
        return unsettled

    def judge(
        self,
        r: Readings,
        slots: Codes,
        areas: Codes,
        rows: Codes,
        in_order: Mask,
        before: Times,
        master: Columns,
        facts: Facts,
        observation: ClockObservation,
    ) -> list[Alert]:
        """Judge rows of a batch that are in order of their meters' time, and what is heard of clocks in any row.

        The batch's facts become as validated.
        """
        back = (
            in_order[rows] & (before[rows] > 0) & (r.at[rows] <= before[rows])
        )  # a clock was set back
        alerts: list[Alert] = []
        for part in np.split(rows, np.flatnonzero(back)) if back.any() else [rows]:
            self._end(
                slots[part[:1]][
                    in_order[part[:1]] & (r.at[part[:1]] <= before[part[:1]])
                ]
            )
            rest = part
            going = part[in_order[part]]
            at, then, here = r.at[going], before[going], slots[going]
            own = np.fmax(master["interval_s"][going], self.interval)
            opening = np.flatnonzero(
                (then > 0)
                & (at - then > GAP_INTERVALS * own)
                & (self.gap_starts["at"][here] == 0)
            )
            if len(opening):
                opened, places = np.unique(here[opening], return_index=True)
                first = going[opening[places]]
                early = self._before_gap(opened, first, slots, part)
                alerts += self._judge_in_order(
                    r, slots, part[early & in_order[part]], before, master, facts
                )
                alerts += self._judge_clocks(r, slots, part[early], observation)
                self._begin(opened, areas[first], before[first])
                rest = part[~early] if early.any() else part
            alerts += self._judge_in_order(
                r, slots, rest[in_order[rest]], before, master, facts
            )
            alerts += self._judge_clocks(r, slots, rest, observation)
        return alerts

    def _before_gap(
        self, opened: Codes, first: Codes, slots: Codes, rows: Codes
    ) -> Mask:
        """Which rows, in order of arrival, come before the first after a gap of their meter, where one opens."""
        place = np.minimum(np.searchsorted(opened, slots[rows]), len(opened) - 1)
        arrival = np.empty(len(slots), np.int64)
        arrival[rows] = np.arange(len(rows))
        return (opened[place] == slots[rows]) & (arrival[rows] < arrival[first][place])

    def _begin(self, slots: Codes, areas: Codes, since: Times) -> None:
        """Keep what is remembered of some meters, and when each was last read."""
        self.gap_starts["at"][slots], self.gap_starts["area"][slots] = since, areas
        self.readings.finalise(slots)
        self.clocks.finalise(slots)
        self.final.cells.write(slots, self.live.cells.read(slots))

    def _end(self, slots: Codes) -> None:
        """Let go of some meters' tails."""
        slots = slots[self.gap_starts["at"][slots] > 0]
        if len(slots):
            self.gap_starts["at"][slots] = 0
            for log in (self._log, self._clock_log):
                log.drop(log.positions(slots))
            for windows in (self.readings, self.clocks):
                windows.finalise(slots)

    def _judge_in_order(
        self,
        r: Readings,
        slots: Codes,
        rows: Codes,
        before: Times,
        master: Columns,
        facts: Facts,
    ) -> list[Alert]:
        """Judge rows in order, and keep those of meters with a tail."""
        if not len(rows):
            return []
        part, where, known, kva = r, slots, master, facts.kva
        if len(rows) < len(r):
            part, where, kva = r.select(rows), slots[rows], facts.kva[rows]
            known = {name: column[rows] for name, column in master.items()}
        told, registers, more = self._validated_columns(
            self.live, part, where, before[rows], known, kva
        )
        alerts = self.readings.live.judge(told, where, more)
        facts.kwh[rows] = self._energy(told, registers, more)
        if registers.stale.any():
            stale = rows[registers.stale]
            for column in (facts.amps, facts.neutral, facts.kva, facts.unbalance):
                column[..., stale] = np.nan
            facts.has_voltage[stale] = facts.by_magnitude[stale] = False
            facts.returned[stale], facts.stale[stale] = 0, True
        kept = self.gap_starts["at"][where] > 0
        if kept.any():
            self._log_readings(part.select(kept), where[kept], facts.kwh[rows[kept]])
            self._remember(self.readings, alerts)
        return alerts

    def _validated_columns(
        self,
        validation: Validation,
        r: Readings,
        slots: Codes,
        before: Times,
        master: Columns,
        kva: Column,
    ) -> tuple[Readings, Registers, Columns]:
        """Readings as validated, what their registers say, and the columns that rules read beside their own."""
        r, registers = validation.validate(slots, r, master)
        more = master | phase_columns(r) | wiring_columns(r, master["elements"])
        more["kva"] = np.where(registers.stale, np.nan, kva)
        more["power_factor"] = np.abs(more["total_p"]) * master["ratio"] / more["kva"]
        more["register_delta"], more["register_drop"] = registers.delta, registers.drop
        more["gap"] = np.where(
            (before > 0) & (before < r.at), r.at - before, NEVER_SECONDS
        )
        return r, registers, more

    def _energy(self, r: Readings, registers: Registers, more: Columns) -> Column:
        """Energy of each interval, kWh; by the register where the meter does not tell."""
        steady = more["gap"] <= GAP_INTERVALS * np.fmax(
            more["interval_s"], self.interval
        )
        by_register = np.isnan(r.kwh) & steady & (r.status == Status.MEASURED)
        return np.where(by_register, registers.delta.astype(np.float32), r.kwh)

    def _log_readings(self, r: Readings, slots: Codes, filed: Column) -> None:
        """Add readings to their meters' tails."""
        self._log.append(
            slot=slots.astype(np.int32),
            stored_kwh=filed,
            **{name: getattr(r, name) for name in self._logged_columns},
        )

    def _remember(self, judge: RevisableJudge, alerts: Iterable[Alert]) -> None:
        """Remember what was told of meters with a tail."""
        judge.remember(
            [
                a
                for a in alerts
                if self.gap_starts["at"][self.index.slot(a.area, a.subject)] > 0
            ]
        )

    def _judge_clocks(
        self, r: Readings, slots: Codes, rows: Codes, observation: ClockObservation
    ) -> list[Alert]:
        """Judge what is heard of meters' clocks in some rows of a batch."""
        rows = rows[observation.mask[rows]]
        if not len(rows):
            return []
        at, offset, key, where = (
            observation.at[rows],
            observation.offset[rows],
            observation.order_time[rows],
            slots[rows],
        )
        alerts = self.clocks.live.judge(
            Clocks(r.names, r.subject[rows], r.areas, r.area[rows], at, offset), where
        )
        since = self.gap_starts["at"][where]
        kept = (since > 0) & (key > since)
        if kept.any():
            columns = {"at": key[kept], "observed_at": at[kept], "offset": offset[kept]}
            self._clock_log.append(slot=where[kept].astype(np.int32), **columns)
            self._remember(self.clocks, alerts)
        return alerts

    def add_late(
        self,
        r: Readings,
        slots: Codes,
        areas: Codes,
        watermarks: Times,
        facts: Facts,
        rows: Codes,
    ) -> None:
        """Let late rows of a batch join their meters' tails, each where one is missing and waited for."""
        since = self.gap_starts["at"][slots[rows]]
        within = (since > 0) & (r.at[rows] > since)
        if not within.any():
            return
        rows, since = rows[within], since[within]
        rows = rows[self._awaited(slots[rows], r.at[rows], since, watermarks[rows])]
        if not len(rows):
            return
        part = r.select(rows)
        self._log_readings(part, slots[rows], facts.kwh[rows])
        told = rows[np.isfinite(part.clock_offset)]
        if len(told):
            columns = {
                "at": r.at[told],
                "observed_at": r.at[told],
                "offset": r.clock_offset[told].astype(np.float64),
            }
            self._clock_log.append(slot=slots[told].astype(np.int32), **columns)
        for area, meter, clock in zip(
            areas[rows].tolist(),
            slots[rows].tolist(),
            watermarks[rows].tolist(),
            strict=True,
        ):
            self.late.setdefault(area, (clock // HOUR_SECONDS, set()))[1].add(meter)

    def _awaited(
        self, slots: Codes, at: Times, since: Times, watermarks: Times
    ) -> list[int]:
        """Which late readings fall where one is missing and waited for, as those before them leave it."""
        rows = self._log.ordered(np.unique(slots))
        held, times = self._log.arrays["slot"][rows], self._log.arrays["at"][rows]
        tails: dict[int, tuple[list[int], list[float]]] = {}
        widest = self._widest_gap(held, times)
        for first, last in pairwise([*runs(held).tolist(), len(held)]):
            tails[int(held[first])] = (
                times[first:last].tolist(),
                widest[first:last].tolist(),
            )

        joined = []
        columns = slots, at, since, watermarks, self._widest_gap(slots, at)
        for n, (slot, time, least, clock, wide) in enumerate(
            zip(*(c.tolist() for c in columns), strict=True)
        ):
            have, widths = tails.get(slot, ([], []))
            place = bisect_left(have, time)
            if place == len(have) or have[place] == time:
                continue
            before = max(have[place - 1] if place else 0, least)
            if (
                have[place] - before > widths[place]
                and clock <= have[place] + GAP_PATIENCE
            ):
                have.insert(place, time)
                widths.insert(place, wide)
                joined.append(n)
        return joined

    def late_hours(self, areas: int) -> Times:
        """By area, the hour after which late readings are judged; none comes after where there are none."""
        hours = np.full(areas, LATEST_TIME)
        for area, (hour, _) in self.late.items():
            hours[area] = hour
        return hours

    def late_rows(self, areas: Sequence[int]) -> Codes:
        """How many rows of each of some areas are judged again when an hour ends."""
        meters = [
            list(self.late[area][1]) if area in self.late else [] for area in areas
        ]
        sizes = self._log.row_counts(np.array(list(chain(*meters)), np.int64))
        ends = np.cumsum(list(map(len, meters)), dtype=np.int64)
        return np.diff(np.concatenate([[0], np.cumsum(sizes)])[ends], prepend=0)

    def late_meters(self, watermarks: Mapping[int, int]) -> Codes:
        """The meters with a late reading to judge: of areas whose clocks have come to another hour."""
        due = [
            area
            for area, clock in watermarks.items()
            if area in self.late and clock // HOUR_SECONDS > self.late[area][0]
        ]
        meters = {meter for area in sorted(due) for meter in self.late.pop(area)[1]}
        slots = np.array(sorted(meters), np.int64)
        return slots[self.gap_starts["at"][slots] > 0]

    def judge_again(self, slots: Codes) -> tuple[list[Alert], Correction]:
        """Judge the tails of some meters again."""
        self.live.cells.write(slots, self.final.cells.read(slots))
        places, rows = self._log.select(slots)
        told, where, registers, more = self._revalidated(self.live, rows)
        alerts = self.readings.amend(slots, [(told, where, more)])
        alerts += self.clocks.amend(
            slots, [_clocks_of(self._clock_log.select(slots)[1])]
        )
        kwh, filed = self._energy(told, registers, more), rows["stored_kwh"]
        changed = (kwh != filed) & ~(np.isnan(kwh) & np.isnan(filed))
        self._log.write("stored_kwh", places, kwh)
        return alerts, Correction(
            where[changed], told.at[changed], filed[changed], kwh[changed]
        )

    def _revalidated(
        self, validation: Validation, rows: dict[str, Any]
    ) -> tuple[Readings, Codes, Registers, Columns]:
        """Rows of tails, in order, through a validation: the readings, their slots, registers and further columns."""
        where = rows["slot"]
        r = Readings.build(
            ("",),
            np.zeros(len(where)),
            ("",),
            np.zeros(len(where)),
            **{n: rows[n] for n in self._logged_columns},
        )
        master = self.registry.meters.columns_of(
            self.registry.meters.rows_in_force(where, r.at - 1)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            kva = apparent_power(r, master, total(r.p), total(r.q)) * master["ratio"]
            counted = validation.implausible.copy()
            told, registers, more = self._validated_columns(
                validation, r, where, self._times_before(rows), master, kva
            )
            validation.implausible = counted
        return told, where, registers, more

    def _times_before(self, rows: dict[str, Any]) -> Times:
        """When the meter of each row of some tails was read before it."""
        first = np.diff(rows["slot"], prepend=-1) != 0
        return np.where(
            first,
            self.gap_starts["at"][rows["slot"]],
            np.concatenate([[0], rows["at"][:-1]]),
        )

    def _widest_gap(self, slots: Codes, at: Times) -> Column:
        """How far apart some readings and those before them may be without one missing between."""
        meters = self.registry.meters
        return GAP_INTERVALS * np.fmax(
            meters.column("interval_s", meters.rows_in_force(slots, at - 1)),
            self.interval,
        )

    def release(self, slots: Codes, watermarks: Times) -> None:
        """Take as final what no gap that still waits is before; `now` are the clocks of the meters' areas."""
        places, rows = self._log.select(slots)
        which = np.searchsorted(slots, rows["slot"])
        missing = rows["at"] - self._times_before(rows) > self._widest_gap(
            rows["slot"], rows["at"]
        )
        waits = missing & (watermarks[which] <= rows["at"] + GAP_PATIENCE)
        first = np.full(len(slots), LATEST_TIME)  # reading after a gap that waits
        np.minimum.at(first, which[waits], rows["at"][waits])
        self._end(slots[first == LATEST_TIME])
        final = (rows["at"] < first[which]) & (first[which] < LATEST_TIME)
        if not final.any():
            return
        done = {name: column[..., final] for name, column in rows.items()}
        told, where, _, more = self._revalidated(self.final, done)
        self.readings.seal(told, where, more)
        places, rows = self._log.select(slots)
        self._log.drop(places[rows["at"] < first[np.searchsorted(slots, rows["slot"])]])
        places, seen = self._clock_log.select(slots)
        past = seen["at"] < first[np.searchsorted(slots, seen["slot"])]
        self.clocks.seal(
            *_clocks_of({name: column[past] for name, column in seen.items()})
        )
        self._clock_log.drop(places[past])
        np.maximum.at(self.gap_starts["at"], where, done["at"])

    def portion(self, areas: Codes) -> Codes:
        """The first of some areas that have no more than EXPIRED_ROWS in tails together, or one."""
        if self._log.size <= EXPIRED_ROWS:
            return areas
        slots = np.flatnonzero(self.gap_starts["at"] > 0)
        where = self.gap_starts["area"][slots]
        rows = np.bincount(where, self._log.row_counts(slots), int(areas.max()) + 1)[
            areas
        ]
        return areas[
            : max(1, int(np.searchsorted(np.cumsum(rows), EXPIRED_ROWS, "right")))
        ]

    def expire(self, areas: Codes, watermarks: Times) -> None:
        """Let go of the gaps of some areas that wait no longer, by the clocks of all areas."""
        self.reserve()
        going = (self.gap_starts["at"] > 0) & np.isin(self.gap_starts["area"], areas)
        going[[meter for _, meters in self.late.values() for meter in meters]] = False
        if len(slots := np.flatnonzero(going)):
            self.release(slots, watermarks[self.gap_starts["area"][slots]])

    def owners(self) -> dict[str, Owner]:
        """What meters were last read before their gaps, the rows since, and validation as of both."""
        return {
            "reorder": self,
            "reorder/live": self.live.cells,
            "reorder/final": self.final.cells,
            "reorder/log": self._log,
            "reorder/clock_log": self._clock_log,
        }

    def schema(self) -> Schema:
        """When meters with a tail were last read before it, and the areas with a late reading to judge."""
        return {**self.gap_starts.schema(), "late": list[tuple[int, int, list[int]]]}

    def state(self) -> State:
        """Everything remembered beside the rows."""
        late = [
            (area, hour, sorted(meters)) for area, (hour, meters) in self.late.items()
        ]
        return {**self.gap_starts.state(), "late": late}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave."""
        self.gap_starts.load(state)
        self.late = {
            area: (hour, set(meters)) for area, hour, meters in state.get("late", ())
        }

    def resume(self) -> None:
        """Go on after all owners were loaded. Raises StateError where they do not agree with the index."""
        for cells in (self.gap_starts, self.live.cells, self.final.cells):
            within(
                "how many meters a tail's cells have", cells.used, 0, len(self.index)
            )
        for rows in (self._log.columns(), self._clock_log.columns()):
            within("a meter with a tail", rows["slot"], 0, len(self.index) - 1)
            within("the time of a row in a tail", rows["at"], 0, 2 * LATEST_TIME)
        areas = len(self.registry.area_index) - 1
        within("the area of a tail", self.gap_starts["area"], 0, max(areas, 0))
        within("an area with late readings", list(self.late), 0, areas)
        for _, meters in self.late.values():
            within("a meter with a late reading", list(meters), 0, len(self.index) - 1)


def _clocks_of(rows: dict[str, Any]) -> tuple[Batch, Codes]:
    """Rows of a log of clocks as a batch, and their slots."""
    none = np.zeros(len(rows["slot"]))
    return Clocks.build(
        ("",), none, ("",), none, rows["observed_at"], offset=rows["offset"]
    ), rows["slot"]

"""The open days of every transformer area: readings by interval, and windows that close or change.

Watermarks say how far an area's event time has come; rows are stored in the cells of their days;
windows close, are amended and sealed as watermarks advance. All sums are of integers or in a fixed
order, so that the order of arrival cannot change them.

An area is named by its slot. Rows carry their area in `areas`; `slots` are distinct areas.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import numpy as np

from models.days.amendments import Amendments
from models.days.area_sums import add_to_sums
from models.days.due_windows import DueWindows
from models.days.facts import Facts, Targets
from models.days.hourly_voltages import HourlyVoltages
from models.days.member_rows import add_to_members, correct_energy, keep_energy
from models.days.members import Members
from models.days.places import Places
from models.days.pools import OpenDay, Pools
from models.days.schedule import Schedule
from models.days.watermarks import Watermarks, WatermarkUpdate
from models.days.window_rows import WindowRows
from models.master.registry import Registry
from models.state.cells import Array
from models.state.owners import Owner, Schema, State, StateError, within
from models.state.passes import unique_passes
from models.state.runs import runs, sizes_of
from schemas.columns import LATEST_TIME, Codes, Column, Mask, Times

SavedDay = tuple[int, int, int, int, bool, bytes]
"""An area, its day, the day's start and end, whether it is closed, and its packed cells."""


class _UniqueRows(NamedTuple):
    """Rows to store, sorted by area, of which no two have the same meter and interval."""

    rows: Codes  # their numbers in the batch
    areas: Codes
    meters: Codes
    days: Codes
    at: Times
    watermarks: Times  # of the row's area before it
    in_order: Mask

    def select(self, mask: Mask) -> _UniqueRows:
        """The rows of a mask."""
        return _UniqueRows._make(column[mask] for column in self)


class OpenDays(Owner):
    """The watermarks and open days of all areas."""

    def __init__(
        self,
        registry: Registry,
        zone: str,
        interval: int,
        grace: int,
    ) -> None:
        self._registry = registry
        self.schedule = Schedule(registry, zone, interval, grace)
        self.watermarks = Watermarks(registry, self.schedule)
        self._members = Members(registry)
        self._amendments = Amendments()
        self.pools = Pools(interval)
        self._voltages = HourlyVoltages(self.pools.steps, interval)
        self.places = Places(
            self.schedule,
            self.watermarks,
            self._members,
            self.pools,
            self._amendments,
        )

        rows = WindowRows(
            registry,
            self.schedule,
            self.watermarks,
            self._members,
            self.places,
            self.pools,
        )
        self.windows = DueWindows(
            self.schedule,
            self.watermarks,
            self._members,
            self.places,
            self._amendments,
            rows,
        )

    @property
    def reading_watermarks(self) -> Times:
        """How far each area has come by its readings alone, by its slot."""
        return self.watermarks["watermark"]

    # ---- A batch ----

    def advance_watermarks(
        self,
        areas: Codes,
        meters: Codes,
        at: Times,
        moves: Mask,
    ) -> WatermarkUpdate:
        """Advances the areas' watermarks by the rows of `moves`."""
        update = self.watermarks.advance(areas, meters, at, moves)
        slots = areas[update.order[update.starts]]
        for slot in slots.tolist():
            if slot not in self._members.meters:
                self._begin_area(slot, [], set())
        return update

    def _begin_area(self, slot: int, meters: list[int], changed: set[int]) -> None:
        """Takes in an area with its members and the days that are to be amended."""
        self._members.begin(slot, meters)
        self._amendments.begin(slot, changed)
        self.places.begin(slot)

    def store_rows(
        self,
        areas: Codes,
        at: Times,
        watermarks: Times,
        meters: Codes,
        facts: Facts,
        rows: Codes,
        in_order: Mask,
    ) -> Mask:
        """Stores some rows of a batch in their days; returns which of them are duplicates."""
        duplicates = np.zeros(len(rows), bool)
        self._members.reserve()
        order = np.arange(len(rows))
        row_areas = areas[rows]
        if (row_areas[1:] < row_areas[:-1]).any():
            order = np.argsort(row_areas, kind="stable")
            rows = rows[order]

        days = self.schedule.days_of(at[rows])
        since = at[rows] - self.schedule.midnights[days]
        steps = days * 128 + (since - 1) // self.schedule.interval
        for one_pass in unique_passes(meters[rows].astype(np.int64) << 32 | steps):
            chosen = rows[one_pass]
            unique_rows = _UniqueRows(
                rows=chosen,
                areas=areas[chosen],
                meters=meters[chosen],
                days=days[one_pass],
                at=at[chosen],
                watermarks=watermarks[chosen],
                in_order=in_order[chosen],
            )
            duplicates[order[one_pass]] = self._store_unique(unique_rows, facts)
        return duplicates

    def _store_unique(self, stored: _UniqueRows, facts: Facts) -> Mask:
        """Stores rows in their days; returns which of them are duplicates."""
        self._members.add(stored.areas, stored.meters)
        base, sums_slots, start, closed_end = self._places_of(stored)

        # A day may be given up for nearer days of the same rows: its rows are dropped.
        kept = base >= 0
        if not kept.all():
            duplicates = np.zeros(len(kept), bool)
            duplicates[kept] = self._store_unique(stored.select(kept), facts)
            return duplicates

        rows = stored.rows
        members = base + self._members.number(stored.meters)
        since = stored.at - start
        steps = (since - 1) // self.schedule.interval
        read = facts.read[rows]
        duplicates, seen = keep_energy(
            self.pools.member_rows,
            members,
            steps,
            facts.kwh[rows],
            read,
            stored.in_order,
        )
        self._mark_changed(stored, ~duplicates, closed_end)

        targets = Targets(rows, members, steps, sums_slots, since, ~seen, read)
        added = targets.first | stored.in_order
        if not added.all():
            targets = targets.select(added)
        self._add_rows(targets, facts)
        return duplicates

    def _add_rows(self, targets: Targets, facts: Facts) -> None:
        """Adds everything of rows but their energy to their cells."""
        rows = self.pools.member_rows
        sums = self.pools.area_sums
        add_to_members(rows, targets, facts)
        self._voltages.keep(rows["volts"], sums["gateway_volts"], targets, facts)
        add_to_sums(sums, targets, facts)

    def _places_of(self, stored: _UniqueRows) -> Codes:
        """Base, sums' slot, start and closed end of each row's day; base -1 if it is given up."""
        begins = runs(stored.areas, stored.days)
        sizes = sizes_of(begins, len(stored.rows))
        places = self.places.find(
            stored.areas[begins], stored.days[begins], stored.watermarks[begins]
        )
        return np.repeat(places, sizes, axis=1)

    def _mark_changed(self, stored: _UniqueRows, new: Mask, closed_end: Times) -> None:
        """Notes the days in which a new row lies in a closed window."""
        closed_to = self.watermarks["closed_to"][stored.areas]
        amends = new & (stored.at <= np.maximum(closed_end, closed_to))
        slots = stored.areas[amends]
        days = stored.days[amends]
        for slot, day in set(zip(slots.tolist(), days.tolist(), strict=True)):
            self._amendments.mark(slot, day)

    def correct(
        self,
        areas: Codes,
        meters: Codes,
        at: Times,
        stored: Column,
        kwh: Column,
    ) -> None:
        """Replaces energy that was stored, unless another row has changed it since."""
        days = self.schedule.days_of(at)
        members = self._members.number(meters)
        rows = (areas.tolist(), days.tolist(), members.tolist(), at.tolist())
        for slot, day, member, end, old, new in zip(*rows, stored, kwh, strict=True):
            is_open = day in self.places.open_days[slot]
            if day <= self.watermarks["sealed_day"][slot] or not is_open:
                continue

            open_day = self.places.open(slot, day, 0)
            step = (end - open_day.start - 1) // self.schedule.interval
            corrected = correct_energy(
                self.pools.member_rows, open_day.base + member, step, old, new
            )
            if corrected and open_day.closed:
                self._amendments.mark(slot, day)

    # ---- State ----

    def schema(self) -> Schema:
        """The cells of areas and meters, and every open day, packed."""
        return {
            **self.watermarks.schema(),
            **self._members.numbers.schema(),
            "areas": list[tuple[int, Array, list[int]]],
            "days": list[SavedDay],
            "checksums": list[int],
            "cells": dict[str, str],
        }

    def state(self) -> State:
        """Everything remembered, every open day packed."""
        areas = [
            (slot, np.array(meters, np.int32), sorted(self._amendments.days[slot]))
            for slot, meters in self._members.meters.items()
        ]
        days = self._saved_days()
        own_columns = {
            "areas": areas,
            "days": days,
            "checksums": [crc32(day[-1]) for day in days],
            "cells": self.pools.day_schema(),
        }
        return self.watermarks.state() | self._members.numbers.state() | own_columns

    def _saved_days(self) -> list[SavedDay]:
        """Every open day of every area, packed."""
        every_day = [
            (slot, day, open_day)
            for slot, open_days in self.places.open_days.items()
            for day, open_day in open_days.items()
        ]
        pooled = [(slot, day) for slot, day, found in every_day if not found.packed]
        packed = dict(zip(pooled, self.places.packed(pooled), strict=True))
        return [
            (
                slot,
                day,
                found.start,
                found.end,
                found.closed,
                found.packed or packed[slot, day],
            )
            for slot, day, found in every_day
        ]

    def load(self, state: State) -> None:
        """Replaces everything by `state`. Raises StateError if areas, members and days disagree."""
        self.schedule.forget_names()
        self.watermarks.load(state)
        self._members.load(state)
        self._amendments.empty()
        self.places.empty()

        areas = state.get("areas", ())
        slots = [slot for slot, _, _ in areas]
        self._check_watermarks(slots)
        for slot, meters, changed in areas:
            self._begin_area(slot, meters.tolist(), set(changed))
        self._members.check()
        self._load_days(state)

    def _check_watermarks(self, slots: list[int]) -> None:
        """Raises StateError if the watermarks are not those of these areas, or hold no times."""
        cells = self.watermarks
        known = len(self._registry.area_index)
        within("the number of areas", cells.used, 0, known)
        within("an area", slots, 0, cells.used - 1)
        for name in ("highest", "watermark", "since", "closed_to"):
            within(f"a time of {name}", cells[name], 0, 2 * LATEST_TIME)
        last_day = len(self.schedule.midnights) - 3
        for name in ("first_day", "last_day", "sealed_day"):
            within(f"a day of {name}", cells[name], -1, last_day)

    def _load_days(self, state: State) -> None:
        """Takes the open days of `state`, packed. Raises StateError if one is damaged."""
        days: list[SavedDay] = state.get("days", [])
        same_schema = state.get("cells") == self.pools.day_schema()
        checksums = [crc32(day[-1]) for day in days]
        if same_schema and state.get("checksums") != checksums:
            raise StateError("a packed day is damaged")

        midnights = self.schedule.midnights
        for slot, day, start, end, closed, packed in days:
            open_days = self.places.open_days.get(slot)
            is_local_day = (
                day >= 0 and [start, end] == midnights[day : day + 2].tolist()
            )
            if open_days is None or not is_local_day:
                raise StateError("a day has no area, or does not begin at midnight")
            if not same_schema:
                self.pools.check(packed)
            open_days[day] = OpenDay(start, end, closed=closed, packed=packed)

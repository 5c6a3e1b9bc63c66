"""The rows of areas' intervals and days as they stand now."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.days.area_sums import DAY_SUMS, INTERVAL_SUMS
from models.days.balances import balances, read_shares
from models.days.day_rows import DayRows, mean_temperature, member_columns
from models.days.hourly_loads import hourly_kva
from models.days.intervals import NO_INTERVALS, AreaIntervals, intervals_of
from models.days.members import Members
from models.days.places import Places
from models.days.pools import OpenDay, Pools
from models.days.schedule import Schedule
from models.days.stored_days import DaySums, StoredDays, interval_sums, stored_days
from models.days.watermarks import Watermarks
from models.master.registry import Registry
from models.state.runs import whole_sums
from schemas.columns import Codes, Column, Times, picked
from schemas.units import DAY_HOURS


class WindowRows:
    """Rows of Intervals, Days and AreaDays from what is stored of areas' days."""

    def __init__(
        self,
        registry: Registry,
        schedule: Schedule,
        watermarks: Watermarks,
        members: Members,
        places: Places,
        pools: Pools,
    ) -> None:
        self._registry = registry
        self._schedule = schedule
        self._watermarks = watermarks
        self._members = members
        self._places = places
        self._pools = pools

    def intervals(self, slots: Codes, after: Times, until: Times) -> AreaIntervals:
        """The intervals with data of distinct areas that end in (after, until]."""
        first = self._schedule.days_of(after + 1)
        last = self._schedule.days_of(until)
        sealed = self._watermarks["sealed_day"][slots]

        # Most areas want one day, whose place is known.
        sums_slots = self._places.sums_slots(slots, first)
        one_day = (first == last) & (first > sealed)
        found = one_day & (sums_slots >= 0)
        known = np.flatnonzero(found)
        sums = self._pools.area_sums.arrays
        days = [DaySums(known, first[known], sums, sums_slots[known])]

        others: list[tuple[int, int, OpenDay]] = []
        for n in np.flatnonzero(~found).tolist():
            begin = max(first[n], sealed[n] + 1)
            wanted = range(begin, last[n] + 1)
            open_days = self._places.open_days[int(slots[n])]
            others += [
                (n, day, open_days[day]) for day in sorted(open_days) if day in wanted
            ]
        days += interval_sums(self._pools, others)
        span = after, until
        return intervals_of(self._registry, self._schedule, slots, span, days)

    def days(self, slots: Codes, days: Codes) -> DayRows:
        """A day of each area."""
        meters, stored = self._members_with_days(slots, days, DAY_SUMS)
        return self.as_days(slots, days, meters, stored)

    def sealed(self, slots: Codes, days: Codes) -> tuple[AreaIntervals, DayRows]:
        """The intervals of a day of each area, and the day."""
        all_sums = dict.fromkeys((*DAY_SUMS, *INTERVAL_SUMS))
        meters, stored = self._members_with_days(slots, days, all_sums)
        intervals = NO_INTERVALS
        if not stored.blank:
            every = np.arange(len(slots))
            day_sums = [DaySums(every, days, stored.sums, every)]
            midnights = self._schedule.midnights
            span = midnights[days], midnights[days + 1]
            intervals = intervals_of(
                self._registry, self._schedule, slots, span, day_sums
            )
        return intervals, self.as_days(slots, days, meters, stored)

    def _members_with_days(
        self,
        slots: Codes,
        days: Codes,
        sums: Iterable[str],
    ) -> tuple[Codes, StoredDays]:
        """The members of distinct areas, and a stored day of each area with these sums."""
        self._members.add_enrolled(slots)
        sizes = self._members.count(slots).astype(np.int64)
        open_days = [
            self._places.open_days[slot].get(day)
            for slot, day in zip(slots.tolist(), days.tolist(), strict=True)
        ]
        stored = stored_days(self._pools, open_days, sizes, sums)
        return self._members.of(slots), stored

    def as_days(
        self,
        slots: Codes,
        days: Codes,
        meters: Codes,
        stored: StoredDays,
    ) -> DayRows:
        """Rows of Days and AreaDays from a stored day of each area."""
        start = self._schedule.midnights[days]
        end = self._schedule.midnights[days + 1]
        until = np.repeat(end, stored.sizes)
        records = self._registry.meters.rows_in_force(meters, until - 1)
        master = self._registry.meters.columns_of(records)
        in_force = (records > 0) & (until <= master["member_until"])
        present = in_force | (stored.rows["reads"] > 0)

        columns, expected = member_columns(
            stored, master, end - start, self._schedule.interval
        )
        spikes = int(np.count_nonzero(columns.pop("spike")[present]))
        totals = balances(columns, master, stored.rows["back"], present, stored.sizes)
        totals |= self._load_columns(slots, start, end, stored)
        sizes = whole_sums(present, stored.sizes)
        if not present.all():
            meters = meters[present]
            expected = expected[present]
            columns = {
                name: picked(column, present) for name, column in columns.items()
            }
        totals["read_share"], totals["others_share"] = read_shares(
            columns["reads"], expected, sizes
        )
        return DayRows(slots, days, end, sizes, meters, columns, totals, spikes)

    def _load_columns(
        self, slots: Codes, start: Times, end: Times, stored: StoredDays
    ) -> dict[str, Column]:
        """The columns of AreaDays that say what an area's transformer carried, and in what air."""
        if stored.blank:
            unknown = np.full((DAY_HOURS + 1, len(slots)), np.nan)
            return {"hourly_kva": unknown[:-1], "temperature": unknown[-1]}
        interval = self._schedule.interval
        return {
            "hourly_kva": hourly_kva(
                self._registry, slots, start, stored.sums, interval
            ),
            "temperature": mean_temperature(
                stored.sums["warmth"], end - start, interval
            ),
        }

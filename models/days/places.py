"""The open days of each area, and where their cells are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.days.amendments import Amendments
from models.days.members import Members
from models.days.pools import OpenDay, Pools
from models.days.schedule import Schedule
from models.days.stored_days import packed_as_bytes
from models.days.watermarks import Watermarks
from models.state.cells import Cells
from schemas.columns import Codes, Times

AHEAD_DAYS = 3  # open days beyond tomorrow that one area may have
CACHED_DAYS = 4  # days of an area whose places are found without a look-up
AreaDay = tuple[int, int]
"""An area and its day."""


class Places:
    """The open days of all areas; the places of each area's latest ones in the pools."""

    def __init__(
        self,
        schedule: Schedule,
        watermarks: Watermarks,
        members: Members,
        pools: Pools,
        amendments: Amendments,
    ) -> None:
        self._schedule = schedule
        self._watermarks = watermarks
        self._members = members
        self._pools = pools
        self._amendments = amendments
        self.open_days: dict[int, dict[int, OpenDay]] = {}  # by area and day
        self._cache = Cells(  # of an area's latest days in the pools
            day=np.full(CACHED_DAYS, -1, np.int32),
            base=np.zeros(CACHED_DAYS, np.int32),
            size=np.zeros(CACHED_DAYS, np.int32),
            sums_slot=np.zeros(CACHED_DAYS, np.int32),
            start=np.zeros(CACHED_DAYS, np.int64),
            closed_end=np.zeros(CACHED_DAYS, np.int64),  # 0 while it is not closed
        )

    def empty(self) -> None:
        """Forgets all areas and their days."""
        self.open_days = {}
        self._cache.load({})
        self._pools.empty()

    def begin(self, slot: int) -> None:
        """Takes in an area without open days."""
        self.open_days[slot] = {}
        self._cache.reserve(slot + 1)

    def find(self, slots: Codes, days: Codes, watermarks: Times) -> Codes:
        """Base, sums' slot, start and closed end of days of areas; base -1 if a day is given up."""
        cells = self._cache
        way = days % CACHED_DAYS
        cached = cells["day"][way, slots] == days
        cached &= cells["size"][way, slots] >= self._members.count(slots)
        places = np.array(
            [
                cells["base"][way, slots],
                cells["sums_slot"][way, slots],
                cells["start"][way, slots],
                cells["closed_end"][way, slots],
            ]
        )
        if cached.all():
            return places

        # Opening a day ahead of the watermark may give up another one: look up all.
        days_before = self._schedule.midnights[days - 1]
        ahead = (watermarks > 0) & (days_before >= watermarks)
        if (ahead & ~cached).any():
            cached[:] = False
        others = np.flatnonzero(~cached)
        places[:, others] = self._open_all(
            slots[others].tolist(),
            days[others].tolist(),
            watermarks[others].tolist(),
        )
        return places

    def _open_all(
        self,
        slots: Sequence[int],
        days: Sequence[int],
        watermarks: Sequence[int],
    ) -> Codes:
        """The places of days that are opened one after another."""
        opened = [
            self.open(slot, day, watermark)
            for slot, day, watermark in zip(slots, days, watermarks, strict=True)
        ]
        places = np.empty((4, len(opened)), np.int64)
        for n, open_day in enumerate(opened):
            kept = self.open_days[slots[n]].get(days[n]) is open_day
            base = open_day.base if kept else -1
            closed_end = open_day.end if open_day.closed else 0
            places[:, n] = base, open_day.sums_slot, open_day.start, closed_end
        return places

    def open(self, slot: int, day: int, watermark: int) -> OpenDay:
        """The open day of an area, in the pools with room for all members, new if need be."""
        open_day = self.open_days[slot].get(day)
        if open_day is None:
            open_day = self._new_day(slot, day, watermark)
        self._pools.place(open_day, len(self._members.meters[slot]))
        if open_day.closed:
            self._amendments.note_unpacked(slot)

        cells = self._cache
        way = day % CACHED_DAYS
        cells["day"][way, slot] = day
        cells["base"][way, slot] = open_day.base
        cells["size"][way, slot] = open_day.size
        cells["sums_slot"][way, slot] = open_day.sums_slot
        cells["start"][way, slot] = open_day.start
        cells["closed_end"][way, slot] = open_day.end if open_day.closed else 0
        return open_day

    def _new_day(self, slot: int, day: int, watermark: int) -> OpenDay:
        """A day that an area opens; far ones are given up."""
        midnights = self._schedule.midnights
        if watermark and midnights[day - 1] >= watermark:
            self._drop_far_days(slot, day, watermark)
        start, end = midnights[day : day + 2].tolist()
        last_day = int(self._watermarks["last_day"][slot])
        open_day = OpenDay(start, end, closed=day <= last_day)
        self.open_days[slot][day] = open_day
        return open_day

    def _drop_far_days(self, slot: int, day: int, watermark: int) -> None:
        """Drops open days so that, with a new day, at most AHEAD_DAYS lie beyond tomorrow."""
        midnights = self._schedule.midnights
        days = {*self.open_days[slot], day}
        ahead = sorted(day for day in days if midnights[day - 1] >= watermark)
        for far in ahead[AHEAD_DAYS:]:
            if far in self.open_days[slot]:
                self.drop(slot, [far])

    def drop(self, slot: int, days: Sequence[int]) -> None:
        """Drops open days of an area."""
        pooled: list[OpenDay] = []
        for day in days:
            self._forget_place(slot, day)
            open_day = self.open_days[slot].pop(day)
            if not open_day.packed:
                pooled.append(open_day)
        self._pools.release(pooled)

    def _forget_place(self, slot: int, day: int) -> None:
        """Forgets where a day is, if it is among the latest."""
        cached_days = self._cache["day"]
        way = day % CACHED_DAYS
        if cached_days[way, slot] == day:
            cached_days[way, slot] = -1

    def sums_slots(self, slots: Codes, days: Codes) -> Codes:
        """The slots of the sums of areas' days in the pools; -1 where it is to be looked up."""
        way = days % CACHED_DAYS
        cached = self._cache["day"][way, slots] == days
        sums_slots = self._cache["sums_slot"][way, slots]
        return np.where(cached, sums_slots, -1)

    def unpacking_rows(self, slots: Codes, at: Times) -> tuple[Codes, Codes]:
        """The first row of each packed day, and how many members the day has."""
        days = self._schedule.days_of(at)
        cached_days = self._cache["day"]
        known = np.flatnonzero(slots < cached_days.shape[1])
        way = days[known] % CACHED_DAYS
        cached = cached_days[way, slots[known]] == days[known]
        uncached = known[~cached]

        areas = slots[uncached].astype(np.int64)
        areas_and_days = areas << 32 | days[uncached]
        _, first = np.unique(areas_and_days, return_index=True)
        firsts = uncached[np.sort(first)]
        asked = zip(slots[firsts].tolist(), days[firsts].tolist(), strict=True)
        packed = [self._is_packed(slot, day) for slot, day in asked]
        rows = firsts[np.array(packed, np.bool_)]
        return rows, self._members.count(slots[rows])

    def _is_packed(self, slot: int, day: int) -> bool:
        """True if the area has the day open and packed."""
        open_day = self.open_days.get(slot, {}).get(day)
        return open_day is not None and bool(open_day.packed)

    def pack(self, days: Sequence[AreaDay]) -> None:
        """Packs open days of areas and takes them out of the pools."""
        if not days:
            return
        open_days = self._days(days)
        packed = self.packed(days)
        for open_day, as_bytes in zip(open_days, packed, strict=True):
            open_day.packed = as_bytes
        for slot, day in days:
            self._forget_place(slot, day)
        self._pools.release(open_days)

    def packed(self, days: Sequence[AreaDay]) -> list[bytes]:
        """The bytes of open days of areas that stand in the pools."""
        open_days = self._days(days)
        slots = np.array([slot for slot, _ in days], np.int64)
        room = np.array([open_day.size for open_day in open_days], np.int64)
        sizes = np.minimum(room, self._members.count(slots))
        return packed_as_bytes(self._pools, open_days, sizes)

    def _days(self, days: Sequence[AreaDay]) -> list[OpenDay]:
        """Some open days."""
        return [self.open_days[slot][day] for slot, day in days]

    def pack_closed(self, slots: Codes) -> None:
        """Packs the closed days of areas that stand in the pools."""
        self.pack(
            [
                (slot, day)
                for slot in slots.tolist()
                for day, open_day in self.open_days[slot].items()
                if open_day.closed and not open_day.packed
            ]
        )

"""The open days of every transformer area: what was read in which interval, when a window closes, what amends it.

An area's clock is the second-highest stamp of its meters, so that no single meter's clock moves it; where one
meter alone has reported over two days of its time, it is that meter's last stamp but one. An interval closes one
interval after its end, a day one to five hours after midnight, both on the area's clock. Later rows amend a closed
window, judged again at the area's next full hour, until the grace period of its day is over. Areas take turns at
closing days and at sealing those that can no longer change, so that readings of others need not wait long. All
sums are of integers or in a fixed order, so that the order of arrival cannot change them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from models.calendar import day_of, midnights
from models.cells import Array, Cells
from models.days import (
    DayRows,
    StoredDays,
    balances,
    mean_degrees,
    member_columns,
    read_shares,
)
from models.end_of_day import (
    EndOfDayValues,
    end_of_day_cells,
    end_of_day_values,
    keep_end_of_day,
)
from models.gaps import total, unknown, zeroed
from models.packed import check_day, packed_days, unpacked_days
from models.peaks import (
    EVEN_UNBALANCE,
    LOST_PHASE_VOLTAGE,
    keep_highest,
    peak_cells,
    spread_of,
    unbalance_factor,
)
from models.phases import hours_of, in_steps
from models.registry import Registry
from models.runs import ascending, runs, sizes_of, spread, whole_sums
from models.state import Owner, Schema, State, StateError, described, within
from models.turns import unique_passes
from schemas.columns import (
    LATEST_TIME,
    Codes,
    Column,
    Mask,
    Readings,
    Status,
    Times,
    picked,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STAGGER_SECONDS = 900  # seconds from one turn of areas to the next
CLOSE_SCHEDULE = (
    HOUR_SECONDS,
    16,
)  # seconds after midnight of the first turn to close days, and how many turns there are
SEAL_SCHEDULE = 5 * HOUR_SECONDS, 32  # the same of sealing, after the grace period
DAYS_AT_ONCE = 3  # days of an area that are closed at once, and sealed, so that each is scored by the peers' days before it
PEER_AGE_SECONDS = 4 * DAY_SECONDS  # before a day, the newest by which it is scored
SKIPPED_DAYS = (
    31  # silent days in a row that are closed as unread; more are passed over
)
AHEAD_DAYS = 3  # open days beyond tomorrow that one area may hold
LONE_METER_SECONDS = (
    2 * DAY_SECONDS
)  # of one meter's time without another's reading, from which it moves its area's clock alone
TENTH_MILLI = 10_000
INTERVAL_SUMS = (
    "gateway",
    "amps",
    "milli_va",
    "counted",
    "high_hz",
    "low_hz",
    "warmth",
)
DAY_SUMS = ("gateway_volts", "warmth")  # that a day's rows are made with
HUNDREDTHS_PER_DEGREE = 100  # of a degree
FREQUENCY_METERS = 3  # of an area that must agree on its frequency: catalogue 1.5
NOMINAL_HZ = 50.0
ONLY_ESTIMATED = 3  # an interval of which only estimates were read; else 0 unread, 1 read once, 2 more often
PORTION_ROWS = 8192  # meters' days that are closed, amended or sealed together
PACKED_AREAS = 64  # that are packed together, few enough for the processor's cache
CAPACITY_STEP = 16  # of which larger areas are given multiples
CACHED_DAYS = 4  # days of an area whose places are found without looking them up


class AreaIntervals(NamedTuple):
    """Rows of Intervals, of each area in order of time."""

    areas: Codes
    at: Times
    columns: dict[str, Column]


NO_VALUES = np.zeros(0)
NO_INTERVALS = AreaIntervals(
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    {
        "current": np.zeros((3, 0)),
        "kva": NO_VALUES,
        "neutral": NO_VALUES,
        "gateway": NO_VALUES,
        "coverage": NO_VALUES,
        "hz_above": NO_VALUES,
        "hz_below": NO_VALUES,
        "temperature": NO_VALUES,
    },
)


DayPart = tuple[
    Codes, Codes, dict[str, Array], Codes
]  # which areas, their days, and where the sums stand in what


class DueWindow(NamedTuple):
    """What became due on the clocks of some areas, with the rows of their windows as they stand now."""

    action: str  # interval, day, amend or seal
    areas: Codes
    intervals: AreaIntervals
    days: list[
        DayRows
    ]  # one day of each area, or as many turns of days as the area with the most open ones has


class WatermarkUpdate(NamedTuple):
    """A batch by area; of every row its area's clock before and after it, whether it came too late, and whose it is."""

    order: Codes  # rows by area, in order of arrival
    starts: Codes  # of each area's rows in it
    before: Times
    after: Times
    late: Mask  # its day was sealed, or is older than the area's history
    lone_meter: Mask  # the clock is none but the row's own meter's


class Facts(NamedTuple):
    """What the grid files of every row of a batch; phase columns are (3, rows)."""

    kwh: Column  # secondary
    amps: Column  # primary
    neutral: Column  # A, primary
    kva: Column  # primary
    unbalance: Column  # of the voltages
    by_magnitude: Mask  # it comes from magnitudes alone
    frequency: Column | None  # Hz; None without any
    temperature: Column | None  # deg C; None without any
    returned: Times  # energy that flowed back in the interval, micro kWh secondary
    read: Mask  # was read, not estimated
    volts: Column  # (3, rows) V
    has_voltage: Mask  # has a voltage
    energised: Mask  # has one above half of nominal
    gateway: Mask
    stale: Mask  # repeats the reading before it; found when it is judged
    end_of_day: EndOfDayValues


class OpenDay:
    """One area's local day: its members' rows and its sums, in the grid's pools or packed."""

    def __init__(
        self, start: int, end: int, *, closed: bool, packed: bytes = b""
    ) -> None:
        self.start, self.end, self.closed = start, end, closed
        self.packed = packed  # empty while the rows stand in the pools:
        self.base = self.size = self.sums_slot = (
            0  # from where and how many, and where its sums
        )


POSITION_COLUMNS = (
    "day",
    "base",
    "size",
    "number",
    "start",
    "passed",
)  # of a block, in an area's places


class _AreaState:
    """The members and open days of one area."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.open_days: dict[int, OpenDay] = {}
        self.dirty: set[int] = set()


class OpenDays(Owner):
    """The areas' clocks and open days."""

    def __init__(
        self, registry: Registry, zone: str, interval: int, grace: int
    ) -> None:
        self._registry, self._zone, self._interval, self._grace = (
            registry,
            zone,
            interval,
            grace,
        )
        self._days_at_once = (
            DAYS_AT_ONCE if grace <= PEER_AGE_SECONDS - DAY_SECONDS else 1
        )
        self._midnights = midnights(zone)
        self.areas: dict[int, _AreaState] = {}
        self._name_hashes = np.zeros(
            0, np.int64
        )  # of an area, by which it takes its turn
        self.watermarks = Cells(  # of an area
            highest=np.int64(0),
            holder=np.int32(-1),
            watermark=np.int64(0),  # highest stamp, whose it is, the area's clock
            latest=np.int32(-1),
            since=np.int64(
                0
            ),  # whose reading came last, and since when only that meter's came
            closed_to=np.int64(0),  # intervals that end by then are closed
            first_day=np.int32(0),  # the day the clock first stood in, 0 before
            last_day=np.int32(0),
            sealed_day=np.int32(0),  # the last closed and sealed days
        )
        self._member_numbers = Cells(number=np.int32(-1))  # of a meter slot in its area
        steps = max(
            -(-25 * HOUR_SECONDS // interval), 3
        )  # a day has its third-highest interval
        self._hour_of_step = hours_of(
            steps, interval
        )  # in which a step's voltage is kept
        hourly = np.zeros(
            max(self._hour_of_step.max() + 1, 2), np.uint16
        )  # in steps of voltage, 0 unknown
        self.member_rows = Cells(  # a member's day each
            kwh=np.full(steps, np.nan, np.float32),
            seen=np.zeros(steps, np.uint8),
            reads=np.int32(0),
            volted=np.int32(0),
            live=np.int32(0),
            back=np.int64(0),
            volts=hourly,
            **peak_cells(interval),
            **end_of_day_cells(),
        )
        self._area_sums = Cells(  # an area's day each, over its users
            amps=np.zeros((3, steps), np.int64),  # 0.1 mA primary
            milli_va=np.zeros(steps, np.int64),
            counted=np.zeros(steps, np.int32),
            gateway_volts=np.stack([hourly] * 3),
            gateway=np.full(
                (5, steps), np.nan
            ),  # A, B, C in A, kVA and neutral in A, primary
            high_hz=np.zeros(
                (FREQUENCY_METERS, steps), np.float32
            ),  # the highest frequencies, in ascending order
            low_hz=np.zeros(
                (FREQUENCY_METERS, steps), np.float32
            ),  # twice the nominal less the lowest
            warmth=np.zeros((2, steps), np.int64),  # 0.01 deg C, and how many tell them
        )
        self._free_rows: dict[int, list[int]] = {}  # bases by size
        self._free_sums: list[int] = []
        self._areas_to_amend: set[int] = (
            set()
        )  # areas with something to amend, or with a closed day that is not packed
        self._positions = (
            Cells(  # of an area's latest days, where they stand in the pools
                day=np.full(CACHED_DAYS, -1, np.int32),
                base=np.zeros(CACHED_DAYS, np.int32),
                size=np.zeros(CACHED_DAYS, np.int32),
                number=np.zeros(CACHED_DAYS, np.int32),
                start=np.zeros(CACHED_DAYS, np.int64),
                passed=np.zeros(CACHED_DAYS, np.int64),
                members=np.int32(0),  # that are numbered
            )
        )

    def advance_watermarks(
        self, areas: Codes, meters: Codes, at: Times, moves: Mask
    ) -> WatermarkUpdate:
        """Move the areas' clocks by the rows that may."""
        rows = np.arange(len(at))
        order = (
            rows
            if (areas[1:] >= areas[:-1]).all()
            else np.argsort(areas, kind="stable")
        )
        ours, moving = areas[order], moves[order]
        starts = runs(ours)
        for slot in ours[starts].tolist():
            if slot not in self.areas:
                self.areas[slot] = _AreaState()
                self.watermarks.reserve(slot + 1)
                self._positions.reserve(slot + 1)
        now, first = (
            self.watermarks["watermark"][areas],
            self.watermarks["first_day"][areas],
        )
        then, own = now.copy(), np.zeros(len(at), bool)
        if moving.any():
            places = rows if moving.all() else np.flatnonzero(moving)
            picked = order[places]
            now[picked], then[picked], own[picked] = self._move_watermarks(
                areas[picked], meters[picked], at[picked]
            )
            if len(picked) < len(
                at
            ):  # the others find the clock where the last row that moved left it
                last = np.maximum.accumulate(np.where(moving, rows, -1))
                rest = ~moving & (last >= np.repeat(starts, sizes_of(starts, len(at))))
                now[order[rest]] = then[order[rest]] = then[order[last[rest]]]
            for place in places[then[picked] - now[picked] > self._grace].tolist():
                if began := self._restart_history(
                    int(ours[place]), int(now[order[place]]), int(then[order[place]])
                ):
                    first[order[place + 1 :][ours[place + 1 :] == ours[place]]] = began
        days = day_of(at if moving.all() else np.where(moves, at, 0), self._zone)
        late = (now > 0) & (
            (self._midnights[days + 1] + self._grace <= now) | (days < first)
        )
        return WatermarkUpdate(order, starts, now, then, moves & late, own)

    def _move_watermarks(
        self, areas: Codes, meters: Codes, at: Times
    ) -> tuple[Times, Times, Mask]:
        """Move the clocks by rows that come by area; the clock before and after each row, and whether it is its own."""
        c, rows = self.watermarks, np.arange(len(at))
        starts = runs(areas)
        slots, sizes = areas[starts], sizes_of(starts, len(at))
        ends, first = starts + sizes - 1, np.repeat(starts, sizes)
        apart = np.repeat(np.arange(len(starts)) << 40, sizes)

        def highest(column: Times, least: Times) -> Times:
            return (
                np.maximum.accumulate(
                    np.maximum(column, np.repeat(least, sizes)) + apart
                )
                - apart
            )

        def before(after: Array, first: Array) -> Array:
            shifted = np.concatenate([after[:1], after[:-1]])
            shifted[starts] = first
            return shifted

        top, holder, second = (
            c["highest"][slots],
            c["holder"][slots],
            c["watermark"][slots],
        )
        tops = highest(at, top)
        high = before(tops, top)
        turn = np.maximum.accumulate(np.where(at > high, rows, -1))
        holders = np.where(turn >= first, meters[turn], np.repeat(holder, sizes))
        begins = runs(areas, meters)
        run = np.repeat(begins, sizes_of(begins, len(at)))
        since, on = at[run], meters[starts] == c["latest"][slots]
        if on.any():  # the meter that read last goes on
            since = np.where(
                np.repeat(on, sizes) & (run == first),
                np.repeat(c["since"][slots], sizes),
                since,
            )
        alone = (at - since > LONE_METER_SECONDS) | np.repeat(
            self._registry.size(slots) == 1, sizes
        )
        rival = np.where(
            (before(holders, holder) != meters) | alone, np.minimum(at, high), 0
        )
        clock = highest(rival, second)
        c["highest"][slots], c["holder"][slots], c["watermark"][slots] = (
            tops[ends],
            holders[ends],
            clock[ends],
        )
        c["latest"][slots], c["since"][slots] = meters[ends], since[ends]
        return before(clock, second), clock, alone

    def _restart_history(self, slot: int, now: int, then: int) -> int:
        """The new first day of an area whose clock leaps; 0 where the first day of its history has closed.

        So one clock that is far behind, among the first two to report, does not stretch it.
        """
        c = self.watermarks
        first = c["first_day"][slot]
        if first and now >= self._midnights[first + 1] + self._delay_after_midnight(
            slot, CLOSE_SCHEDULE
        ):
            return 0
        first = int(day_of(np.array([then]), self._zone)[0])
        c["first_day"][slot], c["last_day"][slot], c["sealed_day"][slot] = (
            first,
            first - 1,
            first - 1,
        )
        return first

    def _delay_after_midnight(self, slots: Any, schedule: tuple[int, int]) -> Any:
        """Seconds after midnight of areas' turns, which are drawn from the areas' names: the same in any engine."""
        if more := self._registry.area_index.pairs[len(self._name_hashes) :]:
            self._name_hashes = np.concatenate(
                [self._name_hashes, [crc32(area.encode()) for area, _ in more]]
            )
        first, count = schedule
        return first + self._name_hashes[slots] % count * STAGGER_SECONDS

    def rows_until_due(
        self,
        update: WatermarkUpdate,
        areas: Codes,
        at: Times,
        unsettled: Collection[int],
    ) -> Iterator[tuple[Codes, dict[int, int]]]:
        """Rows of a batch to judge and to file together, and the clock of each area whose windows are due after them.

        A window closes on exactly the rows that came before it was due. Where a row of an area comes after the close
        of its window, or an area is unsettled, its rows come round by round, else all at once.
        """
        order, starts, now, then, _, _ = update
        tardy = np.unique(areas[at <= (now // self._interval - 1) * self._interval])
        slow = (
            np.isin(areas, [*tardy.tolist(), *unsettled])
            if len(tardy) or unsettled
            else np.zeros(len(at), bool)
        )
        moved = order[(now // self._interval != then // self._interval)[order]]
        if not slow.all():
            moved = moved[
                slow[moved] | self._urgent_moves(areas[moved], now[moved], then[moved])
            ]
        leapt = np.zeros(len(at), np.int64)
        leapt[moved] = 1
        leapt = leapt[order]
        turn = (
            np.cumsum(leapt) - leapt
        )  # of each area's rows, how often its clock moved before
        turn -= np.repeat(turn[starts], sizes_of(starts, len(at)))
        turns = np.empty(len(at), np.int64)
        turns[order] = turn
        ends: list[dict[int, int]] = [
            {} for _ in range(int(turns[moved].max(initial=-1)) + 1)
        ]
        for n, slot, end in zip(
            turns[moved].tolist(),
            areas[moved].tolist(),
            then[moved].tolist(),
            strict=True,
        ):
            ends[n][slot] = end
        if not slow.any():
            yield np.arange(len(at)), ends[0] if ends else {}
            yield from ((order[:0], end) for end in ends[1:])
            return
        turns[~slow] = 0
        by_turn = np.argsort(turns, kind="stable")
        count = max(int(turns[by_turn[-1]]) + 1, len(ends))
        for n, rows in enumerate(
            np.split(by_turn, np.searchsorted(turns[by_turn], np.arange(1, count)))
        ):
            yield rows, ends[n] if n < len(ends) else {}

    def _urgent_moves(self, areas: Codes, now: Times, then: Times) -> Mask:
        """With which moves of areas' clocks something falls due that cannot wait for a later one of the same rows.

        These are an area's first and last, the first that comes to another hour, in which what the rows have amended is
        judged again, and those that close the last of a few days.
        """
        begins = runs(areas)
        told = np.zeros(len(areas), bool)
        told[begins] = told[begins[1:] - 1] = told[-1:] = True
        hours, came = (
            self._closed_until(clock) // HOUR_SECONDS for clock in (then, now)
        )
        changes = np.flatnonzero(hours != came)
        told[changes[runs(areas[changes])]] = True
        few = self._closed_and_sealed_days(areas, then)[0] // self._days_at_once
        told[1:] |= few[1:] != few[:-1]
        return told

    def _closed_until(self, watermarks: Times) -> Times:
        """Until when the intervals of areas are closed by some times of their clocks."""
        return (watermarks - self._interval) // self._interval * self._interval

    def store_rows(
        self,
        areas: Codes,
        at: Times,
        now: Times,
        meters: Codes,
        facts: Facts,
        rows: Codes,
        in_order: Mask,
    ) -> Mask:
        """Write some rows of a batch into their days; which of them were there already."""
        again = np.zeros(len(rows), bool)
        self._member_numbers.reserve(len(self._registry.meter_index))
        order = np.arange(len(rows))
        ours = areas[rows]
        if (ours[1:] < ours[:-1]).any():
            order = np.argsort(ours, kind="stable")
            rows = rows[order]
        days = day_of(at[rows], self._zone)
        steps = days * 128 + (at[rows] - self._midnights[days] - 1) // self._interval
        for part in unique_passes(meters[rows].astype(np.int64) << 32 | steps):
            some = rows[part]
            when = (days[part], at[some], now[some])
            again[order[part]] = self._write_unique(
                areas[some], when, meters[some], facts, some, in_order[some]
            )
        return again

    def _number_members(self, areas: Codes, meters: Codes) -> None:
        """Number the meters, whose areas come one after another, that have no number in their area yet."""
        nameless = np.flatnonzero(self._member_numbers["number"][meters] < 0)
        if not len(nameless):
            return
        fresh = nameless[np.sort(np.unique(meters[nameless], return_index=True)[1])]
        areas, meters = areas[fresh], meters[fresh]
        begins = runs(areas)
        sizes, slots, counts = (
            sizes_of(begins, len(areas)),
            areas[begins],
            self._positions["members"],
        )
        first = counts[slots] - begins
        self._member_numbers["number"][meters] = np.arange(len(meters)) + np.repeat(
            first, sizes
        )
        counts[slots] += sizes
        listed = meters.tolist()
        for slot, begin, size in zip(
            slots.tolist(), begins.tolist(), sizes.tolist(), strict=True
        ):
            self.areas[slot].members += listed[begin : begin + size]

    def _open_day(self, slot: int, day: int, now: int) -> OpenDay:
        """The block of a day with room for all members; of many days ahead of the clock only the nearest are kept."""
        state = self.areas[slot]
        block = state.open_days.get(day)
        if block is None:
            if now and self._midnights[day - 1] >= now:
                ahead = sorted(
                    d for d in {*state.open_days, day} if self._midnights[d - 1] >= now
                )  # beyond tomorrow
                for far in ahead[AHEAD_DAYS:]:
                    if far in state.open_days:
                        self._drop_days(slot, [far])
            start, end = self._midnights[day : day + 2].tolist()
            block = state.open_days[day] = OpenDay(
                start, end, closed=bool(day <= self.watermarks["last_day"][slot])
            )
        if block.packed or not block.size:
            self._allocate(block)
        if block.size < len(state.members):
            self._grow(block, len(state.members))
        if block.closed:
            self._areas_to_amend.add(slot)
        told = (
            day,
            block.base,
            block.size,
            block.sums_slot,
            block.start,
            block.end if block.closed else 0,
        )
        for name, value in zip(POSITION_COLUMNS, told, strict=True):
            self._positions[name][day % CACHED_DAYS, slot] = value
        return block

    def _positions_of(self, slots: Codes, days: Codes, now: Times) -> Codes:
        """Where days of areas stand in the pools: base, number, start, and end if closed; base -1 where given up."""
        p, way = self._positions, days % CACHED_DAYS
        found = (p["day"][way, slots] == days) & (
            p["size"][way, slots] >= p["members"][slots]
        )
        told = np.array(
            [p[name][way, slots] for name in ("base", "number", "start", "passed")]
        )
        if found.all():
            return told
        if (
            (now > 0) & (self._midnights[days - 1] >= now) & ~found
        ).any():  # a day may be given up
            found[:] = False
        others = np.flatnonzero(~found)
        owners = list(zip(slots[others].tolist(), days[others].tolist(), strict=True))
        blocks = [
            self._open_day(*owner, clock)
            for owner, clock in zip(owners, now[others].tolist(), strict=True)
        ]
        for n, (slot, day), b in zip(others.tolist(), owners, blocks, strict=True):
            kept = self.areas[slot].open_days.get(day) is b
            told[:, n] = (
                b.base if kept else -1,
                b.sums_slot,
                b.start,
                b.end if b.closed else 0,
            )
        return told

    def unpacking_rows(self, slots: Codes, at: Times) -> tuple[Codes, Codes]:
        """Where rows of areas are the first of a day that lies packed, and how many members that has."""
        days = day_of(at, self._zone)
        known = slots < self._positions["day"].shape[1]
        here = np.flatnonzero(known)
        away = here[
            self._positions["day"][days[here] % CACHED_DAYS, slots[here]] != days[here]
        ]
        _, first = np.unique(
            slots[away].astype(np.int64) << 32 | days[away], return_index=True
        )
        firsts = away[np.sort(first)]
        days_of_areas = zip(slots[firsts].tolist(), days[firsts].tolist(), strict=True)
        packed = [self._is_packed(slot, day) for slot, day in days_of_areas]
        rows = firsts[np.array(packed, np.bool_)]
        return rows, self._positions["members"][slots[rows]]

    def _is_packed(self, slot: int, day: int) -> bool:
        state = self.areas.get(slot)
        block = state.open_days.get(day) if state else None
        return block is not None and bool(block.packed)

    def _allocate(self, block: OpenDay) -> None:
        """Give a block, new or packed, its place in the pools."""
        block.sums_slot = (
            self._free_sums.pop() if self._free_sums else self._area_sums.used
        )
        self._area_sums.reserve(block.sums_slot + 1)
        if block.packed:
            told = unpacked_days(
                [block.packed], self.member_rows.empty, self._area_sums.empty
            )
            self._grow(block, int(told.sizes[0]))
            for name, array in self.member_rows.arrays.items():
                array[..., block.base : block.base + told.sizes[0]] = told.members[name]
            for name, array in self._area_sums.arrays.items():
                array[..., block.sums_slot] = told.areas[name][..., 0]
            block.packed = b""

    def _grow(self, block: OpenDay, members: int) -> None:
        """Move a block's rows to where there is room for so many members."""
        size = _capacity_for(members)
        spare = self._free_rows.get(size)
        base = spare.pop() if spare else self.member_rows.used
        self.member_rows.reserve(base + size)
        if block.size:
            old = slice(block.base, block.base + block.size)
            for array in self.member_rows.arrays.values():
                array[..., base : base + block.size] = array[..., old]
            self._release_rows([block])
        block.base, block.size = base, size

    def _release_rows(self, blocks: Sequence[OpenDay]) -> None:
        """Give the rows of some blocks back."""
        bases, sizes = np.array([(block.base, block.size) for block in blocks]).T
        self.member_rows.clear(
            np.repeat(bases - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        )
        for block in blocks:
            self._free_rows.setdefault(block.size, []).append(block.base)

    def _release_positions(self, blocks: Sequence[OpenDay]) -> None:
        """Give the places of some blocks in the pools back."""
        if not blocks:
            return
        self._release_rows(blocks)
        numbers = [block.sums_slot for block in blocks]
        self._area_sums.clear(np.array(numbers))
        self._free_sums += numbers
        for block in blocks:
            block.base = block.size = block.sums_slot = 0

    def _drop_days(self, slot: int, days: Sequence[int]) -> None:
        """Drop some days of an area."""
        state, place = self.areas[slot], self._positions["day"]
        for day in days:
            if place[day % CACHED_DAYS, slot] == day:
                place[day % CACHED_DAYS, slot] = -1
        blocks = [state.open_days.pop(day) for day in days]
        self._release_positions([block for block in blocks if not block.packed])

    def _pack(self, days: Sequence[tuple[int, int]]) -> None:
        """Take the blocks of some areas and days out of the pools."""
        if not days:
            return
        blocks = [self.areas[slot].open_days[day] for slot, day in days]
        for block, told in zip(blocks, self._as_packed(days), strict=True):
            block.packed = told
        slots, when = np.array(days).T
        place = self._positions["day"]
        known = place[when % CACHED_DAYS, slots] == when
        place[when[known] % CACHED_DAYS, slots[known]] = -1
        self._release_positions(blocks)

    def _as_packed(self, days: Sequence[tuple[int, int]]) -> list[bytes]:
        """What the blocks of some areas and days hold, each packed."""
        blocks = [self.areas[slot].open_days[day] for slot, day in days]
        members = (len(self.areas[slot].members) for slot, _ in days)
        sizes = np.array(
            [
                min(block.size, count)
                for block, count in zip(blocks, members, strict=True)
            ],
            np.int64,
        )
        told: list[bytes] = []
        for part in (
            slice(start, start + PACKED_AREAS)
            for start in range(0, len(blocks), PACKED_AREAS)
        ):
            held = self._stored_days(blocks[part], sizes[part], self._area_sums.empty)
            told += packed_days(held.rows, held.sums, held.sizes)
        return told

    def _stored_days(
        self, blocks: Sequence[OpenDay | None], sizes: Codes, sums: Iterable[str]
    ) -> StoredDays:
        """What some areas' blocks hold of so many members each, and these sums; fresh cells where there is none."""
        empty = {name: self._area_sums.empty[name] for name in sums}
        pooled = [n for n, block in enumerate(blocks) if block and not block.packed]
        packed = [n for n, block in enumerate(blocks) if block and block.packed]
        parts: list[
            tuple[list[int], dict[str, Array], dict[str, Array], Codes, Codes, Codes]
        ] = []
        if pooled:
            bases, rooms, numbers = np.array(
                [(b.base, b.size, b.sums_slot) for b in blocks if b and not b.packed]
            ).T
            if len(pooled) == len(blocks) and (rooms >= sizes).all():
                own = {
                    name: np.take(self._area_sums[name], numbers, axis=-1)
                    for name in empty
                }
                return StoredDays(
                    self.member_rows.read(spread(bases, sizes)), own, sizes, blank=False
                )
            parts.append(
                (
                    pooled,
                    self.member_rows.arrays,
                    self._area_sums.arrays,
                    bases,
                    rooms,
                    numbers,
                )
            )
        if packed:
            told = unpacked_days(
                [b.packed for b in blocks if b and b.packed],
                self.member_rows.empty,
                empty,
            )
            if len(packed) == len(blocks) and np.array_equal(told.sizes, sizes):
                return StoredDays(told.members, told.areas, sizes, blank=False)
            begins = np.cumsum(told.sizes) - told.sizes
            parts.append(
                (
                    packed,
                    told.members,
                    told.areas,
                    begins,
                    told.sizes,
                    np.arange(len(packed)),
                )
            )

        members, begins = int(sizes.sum()), np.cumsum(sizes) - sizes
        rows = _fresh_cells(self.member_rows.empty, members if parts else 1)
        areas = _fresh_cells(empty, len(blocks) if parts else 1)
        for which, held, summed, bases, rooms, numbers in parts:
            have = np.minimum(rooms, sizes[which])
            here, there = spread(begins[which], have), spread(bases, have)
            for name, array in rows.items():
                array[..., here] = held[name][..., there]
            for name, array in areas.items():
                array[..., which] = summed[name][..., numbers]
        return StoredDays(rows, areas, sizes, blank=not parts)

    def _write_unique(
        self,
        areas: Codes,
        when: tuple[Times, Times, Times],
        meters: Codes,
        facts: Facts,
        rows: Codes,
        in_order: Mask,
    ) -> Mask:
        """Write rows of distinct meters or intervals, by area; which of them were there already.

        `when` is each row's day, its time and its area's clock before it.
        """
        days, at, now = when
        self._number_members(areas, meters)
        begins = runs(areas, days)
        sizes, slots = sizes_of(begins, len(rows)), areas[begins]
        places = self._positions_of(slots, days[begins], now[begins])
        base, number, start, passed = np.repeat(places, sizes, axis=1)
        if not (
            kept := base >= 0
        ).all():  # a day was given up for nearer ones of the same rows
            again = np.zeros(len(rows), bool)
            times = (days[kept], at[kept], now[kept])
            again[kept] = self._write_unique(
                areas[kept], times, meters[kept], facts, rows[kept], in_order[kept]
            )
            return again
        cell, step = (
            base + self._member_numbers["number"][meters],
            (at - start - 1) // self._interval,
        )
        r, kwh = self.member_rows, facts.kwh[rows]
        read = facts.read[rows]
        parts = r["seen"][step, cell]
        seen: Mask = (parts > 0) & ~(read & (parts == ONLY_ESTIMATED))
        again = seen
        marks = np.where(read, 1, ONLY_ESTIMATED)
        if seen.any():
            before = r["kwh"][step, cell]
            revised = (
                (parts == 1)
                & ~in_order
                & ~np.isnan(kwh)
                & ~np.isnan(before)
                & (kwh != before)
            )
            again = seen & ~in_order & ~revised
            kwh = np.where(
                seen & in_order & ~np.isnan(before),
                before + zeroed(kwh),
                np.where(again, before, kwh),
            )
            marks = np.where(
                seen, np.where(in_order & (parts != ONLY_ESTIMATED), 2, parts), marks
            )
        r["kwh"][step, cell], r["seen"][step, cell] = kwh, marks
        stale = ~again & (
            at
            <= np.maximum(
                passed, np.repeat(self.watermarks["closed_to"][areas[begins]], sizes)
            )
        )
        for slot, day in set(
            zip(areas[stale].tolist(), days[stale].tolist(), strict=True)
        ):
            self._mark_dirty(slot, day)
        since, fresh = at - start, ~seen | in_order
        if not fresh.all():
            rows, cell, step, number, since = (
                c[fresh] for c in (rows, cell, step, number, since)
            )
            seen, read = seen[fresh], read[fresh]
        _add(r["reads"], cell, read)
        _add(r["volted"], cell, facts.has_voltage[rows])
        _add(r["live"], cell, facts.energised[rows])
        if (back := facts.returned[rows]).any():
            _add(r["back"], cell, back)
        self._keep_peaks(rows[~seen], cell[~seen], facts)
        if (
            hourly := np.flatnonzero(
                (self._hour_of_step[step] >= 0) & ~facts.stale[rows]
            )
        ).size:
            self._keep_hourly_volts(
                rows[hourly],
                cell[hourly],
                self._hour_of_step[step[hourly]],
                number[hourly],
                facts,
            )
        sound = np.flatnonzero(~facts.stale[rows]) if facts.stale.any() else slice(None)
        keep_end_of_day(
            self.member_rows,
            facts.end_of_day,
            rows[sound],
            cell[sound],
            since[sound],
            ~seen[sound],
        )
        self._add_to_sums(rows, step, number, facts, seen)
        return again

    def correct(
        self, areas: Codes, meters: Codes, at: Times, stored: Column, kwh: Column
    ) -> None:
        """Put energy in the place of what was filed, where nothing else has come since."""
        r, days = self.member_rows, day_of(at, self._zone).tolist()
        told = zip(
            areas.tolist(), days, meters.tolist(), at.tolist(), stored, kwh, strict=True
        )
        for slot, day, meter, end, old, new in told:
            state = self.areas[slot]
            if day <= self.watermarks["sealed_day"][slot] or day not in state.open_days:
                continue
            block = self._open_day(slot, day, 0)
            place = (
                (end - block.start - 1) // self._interval,
                block.base + self._member_numbers["number"][meter],
            )
            if r["seen"][place] == 1 and np.array_equal(
                r["kwh"][place], old, equal_nan=True
            ):
                r["kwh"][place] = new
                if block.closed:
                    self._mark_dirty(slot, day)

    def _mark_dirty(self, slot: int, day: int) -> None:
        """Note that a closed window of an area's day is to be amended."""
        self.areas[slot].dirty.add(day)
        self._areas_to_amend.add(slot)

    def _keep_peaks(self, rows: Codes, cell: Codes, facts: Facts) -> None:
        """Keep the highest load and unbalance of each day."""
        for name, column, least in (
            ("loads", facts.kva, 0),
            ("unbalances", facts.unbalance, EVEN_UNBALANCE),
        ):
            values = column[rows]
            known = ~np.isnan(values)
            if known.any():
                _add(self.member_rows[f"{name}_count"], cell, known)
                high = values > least
                keep_highest(self.member_rows[name], cell[high], values[high])
        if (guessed := facts.by_magnitude[rows]).any():
            _add(self.member_rows["by_magnitude"], cell, guessed)

    def _keep_hourly_volts(
        self, rows: Codes, cell: Codes, hour: Codes, number: Codes, facts: Facts
    ) -> None:
        """Keep the highest voltage of the intervals with which some hours end: the first phase's, all the gateway's."""
        volts, gateway = in_steps(facts.volts[:, rows]), facts.gateway[rows]
        held = self.member_rows["volts"]
        held[hour, cell] = np.maximum(held[hour, cell], volts[0])
        if gateway.any():
            held, hour, number = (
                self._area_sums["gateway_volts"],
                hour[gateway],
                number[gateway],
            )
            held[:, hour, number] = np.maximum(held[:, hour, number], volts[:, gateway])

    def _add_to_sums(
        self, rows: Codes, step: Codes, number: Codes, facts: Facts, seen: Mask
    ) -> None:
        """Add rows to the sums of their intervals; a user's first reading speaks for the interval."""
        gateway, kva, amps = facts.gateway[rows], facts.kva[rows], facts.amps[:, rows]
        if gateway.any():
            s = self._area_sums["gateway"]
            s[:3, step[gateway], number[gateway]] = amps[:, gateway]
            s[3, step[gateway], number[gateway]] = kva[gateway]
            s[4, step[gateway], number[gateway]] = facts.neutral[rows][gateway]
        if facts.frequency is not None:
            hertz = facts.frequency[rows]
            told = np.flatnonzero(~np.isnan(hertz) & ~seen & ~facts.stale[rows])
            places = step[told] * self._area_sums["high_hz"].shape[-1] + number[told]
            keep_highest(_flat(self._area_sums["high_hz"]), places, hertz[told])
            keep_highest(
                _flat(self._area_sums["low_hz"]),
                places,
                np.float32(2 * NOMINAL_HZ) - hertz[told],
            )
        if facts.temperature is not None:
            degrees = facts.temperature[rows]
            told = np.flatnonzero(~np.isnan(degrees) & ~seen & ~facts.stale[rows])
            hundredths = np.rint(
                degrees[told].astype(np.float64) * HUNDREDTHS_PER_DEGREE
            ).astype(np.int64)
            total, count = self._area_sums["warmth"]
            np.add.at(total, (step[told], number[told]), hundredths)
            np.add.at(count, (step[told], number[told]), 1)
        known = ~gateway & ~np.isnan(kva) & ~seen
        if not known.any():
            return
        where = (number * self._area_sums["counted"].shape[0] + step)[known]
        begins = runs(where)
        number, step = divmod(where[begins], self._area_sums["counted"].shape[0])
        np.add.at(
            self._area_sums["counted"],
            (step, number),
            sizes_of(begins, len(where)).astype(np.int32),
        )
        milli_va = np.rint(kva[known] * 1e6).astype(np.int64)
        np.add.at(
            self._area_sums["milli_va"],
            (step, number),
            np.add.reduceat(milli_va, begins),
        )
        tenths = np.rint(zeroed(amps[:, known]) * TENTH_MILLI).astype(np.int64)
        for amps, more in zip(
            self._area_sums["amps"],
            np.add.reduceat(tenths, begins, axis=1),
            strict=True,
        ):
            np.add.at(amps, (step, number), more)

    def tick(self, now: int, until: int = 0) -> Iterator[DueWindow]:
        """What becomes due as the clocks of areas that have begun come to `now` at least, on their way to `until`."""
        second = self.watermarks["watermark"]
        slots = np.flatnonzero((second > 0) & (second < now))
        second[slots] = now
        return self.due(dict.fromkeys(slots.tolist(), now), max(now, until))

    def portion(self, now: int) -> int:
        """How far areas' clocks may come on their way to `now` with no more than a portion of days falling due."""
        c, second = self.watermarks, self.watermarks["watermark"]
        slots = np.flatnonzero((second > 0) & (second < now))
        if not len(slots):
            return now
        sizes, (newest, oldest) = (
            self._positions["members"][slots],
            self._closed_and_sealed_days(slots, np.full(len(slots), now)),
        )
        closing = np.maximum(c["last_day"][slots], newest - SKIPPED_DAYS) + 2
        sealing = np.maximum(c["sealed_day"][slots], oldest - SKIPPED_DAYS) + 2
        due = np.concatenate(
            [
                self._midnights[closing]
                + self._delay_after_midnight(slots, CLOSE_SCHEDULE),
                self._midnights[sealing]
                + self._grace
                + self._delay_after_midnight(slots, SEAL_SCHEDULE),
            ]
        )
        if days := PORTION_ROWS // max(2 * int(sizes.sum()), 1):
            until = int(due.min()) + days * DAY_SECONDS
        else:
            order = np.argsort(due, kind="stable")
            last = np.searchsorted(
                np.cumsum(np.tile(sizes, 2)[order]), PORTION_ROWS, side="right"
            )
            until = int(due[order[last]])
        return min(
            -(-until // self._interval) * self._interval, now
        )  # a day closes when an interval has passed

    def _closed_and_sealed_days(
        self, slots: Codes, watermarks: Times
    ) -> tuple[Codes, Codes]:
        """The newest days of areas that are closed at some times of their clocks, and that are sealed."""
        closing, sealing = (
            watermarks - self._delay_after_midnight(slots, CLOSE_SCHEDULE),
            watermarks - self._grace - self._delay_after_midnight(slots, SEAL_SCHEDULE),
        )
        newest, oldest = (
            np.searchsorted(self._midnights, at, side="right") - 2
            for at in (closing, sealing)
        )
        return newest, oldest

    def due(self, watermarks: dict[int, int], until: int = 0) -> Iterator[DueWindow]:
        """What became due as areas' clocks reached `ends`: their intervals, then days, amendments and seals.

        Days that would be passed over as the clocks go on `until` then are passed over now.
        """
        if not watermarks:
            return
        slots, clock = np.array(list(watermarks)), np.array(list(watermarks.values()))
        c = self.watermarks
        before, closed = c["closed_to"][slots], self._closed_until(clock)
        if not (passed := closed > before).all():
            slots, clock, before, closed = (
                slots[passed],
                clock[passed],
                before[passed],
                closed[passed],
            )
        c["closed_to"][slots] = closed
        if len((rows := self._interval_rows(slots, before, closed)).at):
            yield DueWindow("interval", slots, rows, [])
        newest, oldest = self._closed_and_sealed_days(slots, clock)
        skipped = (
            self._closed_and_sealed_days(slots, np.maximum(clock, until))
            if until
            else (newest, oldest)
        )
        if len(
            ready := np.flatnonzero(newest > c["last_day"][slots])
        ):  # what is known of peers comes before
            ready = ready[
                [slot not in self._areas_to_amend for slot in slots[ready].tolist()]
            ]
            yield from self._seal(slots[ready], oldest[ready], skipped[1][ready])
        yield from self._close(slots, newest, skipped[0])
        hourly = slots[before // HOUR_SECONDS != closed // HOUR_SECONDS]
        yield from self._amend(
            hourly[[slot in self._areas_to_amend for slot in hourly.tolist()]]
        )
        yield from self._seal(slots, oldest, skipped[1])

    def _day_portions(
        self, slots: Codes, first: Codes, last: Codes, days_at_once: int = 1
    ) -> Iterator[tuple[Codes, Codes]]:
        """Areas and days of theirs, from the first to the last, so many of each and a portion of them at once."""
        count = int((last - first).max(initial=-1)) + 1
        for turn in range(0, count, days_at_once):
            steps = np.arange(turn, min(turn + days_at_once, count))[:, None]
            step, some = np.nonzero(first + steps <= last)
            days = first[some] + steps[step, 0]
            for part in _portions(self._positions["members"][slots[some]]):
                yield slots[some[part]], days[part]

    def _close(
        self, slots: Codes, newest: Codes, skipped: Codes
    ) -> Iterator[DueWindow]:
        """The days of areas up to the newest, after those that are skipped."""
        last = self.watermarks["last_day"]
        first = np.maximum(last[slots] + 1, skipped - SKIPPED_DAYS + 1)
        for some, days in self._day_portions(slots, first, newest, self._days_at_once):
            yield DueWindow("day", some, NO_INTERVALS, [self._day_rows(some, days)])
            held = [
                (s, d)
                for s, d in zip(some.tolist(), days.tolist(), strict=True)
                if d in self.areas[s].open_days
            ]
            for slot, day in held:
                self.areas[slot].open_days[day].closed = True
            self._pack(
                [
                    (slot, day)
                    for slot, day in held
                    if not self.areas[slot].open_days[day].packed
                ]
            )
        last[slots] = np.maximum(last[slots], newest)

    def _amend(self, slots: Codes) -> Iterator[DueWindow]:
        """The open windows of those areas in which something has changed; closed days are packed again."""
        c = self.watermarks
        days_open = np.clip(
            c["last_day"][slots] - c["sealed_day"][slots], 1, SKIPPED_DAYS
        )
        for part in _portions(self._positions["members"][slots] * days_open):
            some = slots[part]
            changed = some[[bool(self.areas[slot].dirty) for slot in some.tolist()]]
            if len(changed):
                last = c["last_day"][changed].astype(np.int64)
                first = np.maximum(
                    c["sealed_day"][changed] + 1, last - SKIPPED_DAYS + 1
                )
                rows = self._interval_rows(
                    changed, np.zeros(len(changed), np.int64), c["closed_to"][changed]
                )
                days = [
                    self._day_rows(*turn)
                    for turn in self._day_portions(changed, first, last)
                ]
                yield DueWindow("amend", changed, rows, days)
            for slot in some.tolist():
                self.areas[slot].dirty.clear()
                self._areas_to_amend.discard(slot)
            self._pack(
                [
                    (slot, day)
                    for slot in some.tolist()
                    for day, block in self.areas[slot].open_days.items()
                    if block.closed and not block.packed
                ]
            )

    def _seal(self, slots: Codes, oldest: Codes, skipped: Codes) -> Iterator[DueWindow]:
        """The days of areas that can no longer change, up to the oldest that can."""
        c = self.watermarks
        sealed, oldest = c["sealed_day"], np.minimum(oldest, c["last_day"][slots])
        first = np.maximum(sealed[slots] + 1, skipped - SKIPPED_DAYS + 1)
        for some, days in self._day_portions(slots, first, oldest, self._days_at_once):
            rows, sealed_days = self._sealed_rows(some, days)
            yield DueWindow("seal", some, rows, [sealed_days])
            sealed[some] = days
        for slot in slots[first <= oldest].tolist():
            if over := [
                day for day in self.areas[slot].open_days if day <= sealed[slot]
            ]:
                self._drop_days(slot, over)

    def schema(self) -> Schema:
        """The cells of areas and meters, and every open day, packed."""
        return {
            **self.watermarks.schema(),
            **self._member_numbers.schema(),
            "areas": list[tuple[int, Array, list[int]]],
            "days": list[tuple[int, int, int, int, bool, bytes]],
            "checksums": list[int],
            "cells": dict[str, str],
        }

    def state(self) -> State:
        """Everything remembered; every block packed."""
        pooled = [
            (slot, day)
            for slot, state in self.areas.items()
            for day, b in state.open_days.items()
            if not b.packed
        ]
        told = dict(zip(pooled, self._as_packed(pooled), strict=True))
        blocks = [
            (
                slot,
                day,
                block.start,
                block.end,
                block.closed,
                block.packed or told[slot, day],
            )
            for slot, state in self.areas.items()
            for day, block in state.open_days.items()
        ]
        return (
            self.watermarks.state()
            | self._member_numbers.state()
            | {
                "areas": [
                    (slot, np.array(a.members, np.int32), sorted(a.dirty))
                    for slot, a in self.areas.items()
                ],
                "days": blocks,
                "checksums": [crc32(block[-1]) for block in blocks],
                "cells": self._day_schema(),
            }
        )

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError where areas, members and days do not agree."""
        self.watermarks.load(state)
        self._member_numbers.load(state)
        for pool in (self.member_rows, self._area_sums):
            pool.load({name: array[..., :0] for name, array in pool.arrays.items()})
        self._free_rows, self._free_sums, self.areas, self._name_hashes = (
            {},
            [],
            {},
            self._name_hashes[:0],
        )
        for slot, members, dirty in state.get("areas", ()):
            self.areas[slot] = area = _AreaState()
            area.members, area.dirty = members.tolist(), set(dirty)
        self._check()
        blocks, known = state.get("days", ()), state.get("cells") == self._day_schema()
        if known and state.get("checksums") != [crc32(block[-1]) for block in blocks]:
            raise StateError("a packed day is damaged")
        for slot, day, start, end, closed, told in blocks:
            if (
                slot not in self.areas
                or day < 0
                or [start, end] != self._midnights[day : day + 2].tolist()
            ):
                raise StateError("a day is of no area, or does not begin at midnight")
            if not known:
                check_day(told, self.member_rows.empty, self._area_sums.empty)
            self.areas[slot].open_days[day] = OpenDay(
                start, end, closed=closed, packed=told
            )
        self._rebuild_positions()

    def _day_schema(self) -> dict[str, str]:
        """The schema of what a packed day holds."""
        return described(self.member_rows.schema()) | described(
            self._area_sums.schema()
        )

    def _check(self) -> None:
        """Raises StateError where the cells of areas and meters do not agree with the registry and each other."""
        within(
            "how many areas it has",
            self.watermarks.used,
            0,
            len(self._registry.area_index),
        )
        within(
            "how many meters it has",
            self._member_numbers.used,
            0,
            len(self._registry.meter_index),
        )
        within("an area", list(self.areas), 0, self.watermarks.used - 1)
        for name in ("highest", "watermark", "since", "closed_to"):
            within(f"a time of {name}", self.watermarks[name], 0, 2 * LATEST_TIME)
        for name in ("first_day", "last_day", "sealed_day"):
            within(
                f"a day of {name}", self.watermarks[name], -1, len(self._midnights) - 3
            )
        number = np.full(self._member_numbers.used, -1, np.int32)
        for state in self.areas.values():
            within("a member", state.members, 0, self._member_numbers.used - 1)
            number[state.members] = np.arange(len(state.members))
        if not np.array_equal(number, self._member_numbers["number"]):
            raise StateError(
                "its meters are not numbered as the members of their areas"
            )

    def _rebuild_positions(self) -> None:
        """Begin with what follows from the areas: whose days are to be amended, and how many members are numbered."""
        self._areas_to_amend = {
            slot for slot, state in self.areas.items() if state.dirty
        }
        self._positions = Cells(**self._positions.empty)
        self._positions.reserve(max(self.areas, default=-1) + 1)
        for slot, state in self.areas.items():
            self._positions["members"][slot] = len(state.members)

    def _interval_rows(self, slots: Codes, after: Times, until: Times) -> AreaIntervals:
        """The intervals with data of distinct areas that end in (after, until]."""
        first, last, sealed = (
            day_of(after + 1, self._zone),
            day_of(until, self._zone),
            self.watermarks["sealed_day"][slots],
        )
        way = first % CACHED_DAYS
        found = (
            (first == last)
            & (self._positions["day"][way, slots] == first)
            & (first > sealed)
        )
        known = np.flatnonzero(found)
        parts = [
            (
                known,
                first[known],
                self._area_sums.arrays,
                self._positions["number"][way[known], slots[known]],
            )
        ]
        others = [
            (n, day, block)
            for n in np.flatnonzero(~found).tolist()
            for day, block in sorted(self.areas[int(slots[n])].open_days.items())
            if max(first[n], sealed[n] + 1) <= day <= last[n]
        ]
        if loose := [
            (n, day, block.sums_slot) for n, day, block in others if not block.packed
        ]:
            which, days, numbers = np.array(loose).T
            parts.append((which, days, self._area_sums.arrays, numbers))
        packed = [(n, day, block.packed) for n, day, block in others if block.packed]
        for start in range(0, len(packed), PORTION_ROWS):
            which, days, told = zip(*packed[start : start + PORTION_ROWS], strict=True)
            sums = unpacked_days(
                told, {}, {name: self._area_sums.empty[name] for name in INTERVAL_SUMS}
            ).areas
            parts.append((np.array(which), np.array(days), sums, np.arange(len(told))))
        return self._measured_intervals(slots, after, until, parts)

    def _measured_intervals(
        self, slots: Codes, after: Times, until: Times, day_parts: Sequence[DayPart]
    ) -> AreaIntervals:
        """Areas' intervals with data that end in (after, until], in parts that say where their days are held."""
        told: list[
            tuple[Array, ...]
        ] = []  # of each: which area, ends, and INTERVAL_SUMS
        for which, days, sums, numbers in day_parts:
            start, end = self._midnights[days], self._midnights[days + 1]
            first = np.maximum((after[which] - start) // self._interval, 0)
            count = np.maximum(
                (np.minimum(until[which], end) - start) // self._interval - first, 0
            )
            step, number = spread(first, count), np.repeat(numbers, count)
            ends = np.repeat(start, count) + (step + 1) * self._interval
            told.append(
                (
                    np.repeat(which, count),
                    ends,
                    *(sums[name][..., step, number] for name in INTERVAL_SUMS),
                )
            )
        told = (
            told
            if len(told) == 1
            else [tuple(np.concatenate(p, axis=-1) for p in zip(*told, strict=True))]
        )
        which, ends, gateway, *_, counted, high, _, _ = told[0]
        rows = np.flatnonzero(~np.isnan(gateway[3]) | (counted > 0) | (high[0] > 0))
        if len(day_parts) > 1:
            rows = rows[np.lexsort((ends[rows], which[rows]))]
        which, at, *columns = (column[..., rows] for column in told[0])
        return self._as_intervals(
            slots[which], at, dict(zip(INTERVAL_SUMS, columns, strict=True))
        )

    def _as_intervals(
        self, slots: Codes, at: Times, sums: dict[str, Array]
    ) -> AreaIntervals:
        """Rows of Intervals of areas' sums."""
        gateway, counted = sums["gateway"], sums["counted"]
        measured, agreed = ~np.isnan(gateway[3]), sums["high_hz"][0] > 0
        coverage = np.ones(len(at))
        if not measured.all():
            summed = np.flatnonzero(~measured)
            coverage[summed] = counted[summed] / np.maximum(
                self._registry.users(slots[summed], at[summed]), 1
            )
        return AreaIntervals(
            slots,
            at,
            {
                "current": np.where(measured, gateway[:3], sums["amps"] / TENTH_MILLI),
                "kva": np.where(measured, gateway[3], sums["milli_va"] / 1e6),
                "neutral": np.where(measured, gateway[4], np.nan),
                "gateway": measured.astype(float),
                "coverage": coverage,
                "hz_above": np.where(agreed, sums["high_hz"][0] - NOMINAL_HZ, np.nan),
                "hz_below": np.where(agreed, sums["low_hz"][0] - NOMINAL_HZ, np.nan),
                "temperature": mean_degrees(sums["warmth"]),
            },
        )

    def _members_with_days(
        self, slots: Codes, days: Codes, sums: Iterable[str]
    ) -> tuple[Codes, StoredDays]:
        """The members of distinct areas, and what is held of a day of each, with these sums."""
        names = [self._registry.area_index.pairs[slot][0] for slot in slots.tolist()]
        enrolled = [self._registry.members.get(name, []) for name in names]
        owners = np.repeat(slots, [len(meters) for meters in enrolled])
        self._member_numbers.reserve(len(self._registry.meter_index))
        self._number_members(
            owners, np.fromiter(chain.from_iterable(enrolled), np.int64, len(owners))
        )
        states = [self.areas[slot] for slot in slots.tolist()]
        sizes = self._positions["members"][slots].astype(np.int64)
        meters = np.fromiter(
            chain.from_iterable(state.members for state in states),
            np.int32,
            sizes.sum(),
        )
        blocks = [
            state.open_days.get(day)
            for state, day in zip(states, days.tolist(), strict=True)
        ]
        return meters, self._stored_days(blocks, sizes, sums)

    def _day_rows(self, slots: Codes, days: Codes) -> DayRows:
        """A day of each of some areas as it stands now."""
        return self.as_days(
            slots, days, *self._members_with_days(slots, days, DAY_SUMS)
        )

    def _sealed_rows(self, slots: Codes, days: Codes) -> tuple[AreaIntervals, DayRows]:
        """The intervals of a day of each of some areas, and the day."""
        meters, filed = self._members_with_days(
            slots, days, (*DAY_SUMS, *INTERVAL_SUMS)
        )
        begin, end = self._midnights[days], self._midnights[days + 1]
        every = np.arange(len(slots))
        rows = (
            NO_INTERVALS
            if filed.blank
            else self._measured_intervals(
                slots, begin, end, [(every, days, filed.sums, every)]
            )
        )
        return rows, self.as_days(slots, days, meters, filed)

    def as_days(
        self, slots: Codes, days: Codes, meters: Codes, stored: StoredDays
    ) -> DayRows:
        """Rows of Days and AreaDays of what is held of a day of each of some areas."""
        begin, end = self._midnights[days], self._midnights[days + 1]
        until = np.repeat(end, stored.sizes)
        rows = self._registry.meters.rows_in_force(meters, until - 1)
        master = self._registry.meters.columns_of(rows)
        present = ((rows > 0) & (until <= master["member_until"])) | (
            stored.rows["reads"] > 0
        )
        columns, expected = member_columns(stored, master, end - begin, self._interval)
        spikes = int(np.count_nonzero(columns.pop("spike")[present]))
        totals = balances(columns, master, stored.rows["back"], present, stored.sizes)
        sizes = whole_sums(present, stored.sizes)
        if not present.all():
            meters, expected = meters[present], expected[present]
            columns = {
                name: picked(column, present) for name, column in columns.items()
            }
        totals["read_share"], totals["others_share"] = read_shares(
            columns["reads"], expected, sizes
        )
        return DayRows(slots, days, end, sizes, meters, columns, totals, spikes)


def _flat(cells: Array) -> Array:
    """A view of cells of the shape (n, steps, numbers) with one place for every step and number."""
    view = cells.view()
    view.shape = (len(cells), -1)
    return view


def _fresh_cells(empty: Mapping[str, Array], count: int) -> dict[str, Array]:
    """So many fresh cells."""
    return {
        name: np.repeat(value[..., None], count, axis=-1)
        for name, value in empty.items()
    }


def _capacity_for(members: int) -> int:
    """How many rows so many members are given, so that a few sizes do."""
    return (
        1 << (members - 1).bit_length()
        if members <= CAPACITY_STEP
        else -(-members // CAPACITY_STEP) * CAPACITY_STEP
    )


def _portions(sizes: Codes) -> Iterator[slice]:
    """Parts of areas with so many meters each, none with more than a portion of them where there are several.

    >>> list(_portions(np.array([PORTION_ROWS - 1, 1, 1])))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    start, ends = 0, np.cumsum(sizes)
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        end = max(
            int(np.searchsorted(ends, before + PORTION_ROWS, side="right")), start + 1
        )
        yield slice(start, end)
        start = end


def _add(cells: Array, where: Codes, values: Array) -> None:
    """Add values to cells, of which some may occur more than once."""
    if ascending(where):
        cells[where] += values
    else:
        np.add.at(cells, where, values.astype(cells.dtype))


def apparent_power(
    r: Readings, master: dict[str, Column], whole_p: Column, whole_q: Column
) -> Column:
    """Secondary kVA per row from the whole P and Q, else from U and I, else from I at nominal voltage; NaN without any.

    A three-wire meter's two elements measure line voltages: U and I of both make 2/sqrt(3) of the apparent power.
    """
    u, i, p, q, un = r.u, r.i, r.p, r.q, master["un"]
    absent = np.isnan(i)
    told: Mask = np.zeros(i.shape[1], bool)
    if not (unknown(p) or unknown(q)):
        missing = np.isnan(p)
        told = np.logical_not(
            (missing & ~absent).any(axis=0)
            | missing.all(axis=0)
            | np.isnan(q).all(axis=0)
        )
    kva = np.hypot(whole_p, whole_q) if told.any() else np.full(i.shape[1], np.nan)
    if told.all():
        return kva
    if unknown(i):
        return np.where(told, kva, np.nan)
    volts = np.broadcast_to(un, i.shape) if unknown(u) else np.where(np.isnan(u), un, u)
    product = volts * np.abs(i)
    blind = absent.all(axis=0) | (np.isnan(product) & ~absent).any(axis=0)
    wires = np.where(master["three_wire"] == 1, np.sqrt(3) / 2, 1)
    return np.where(told, kva, np.where(blind, np.nan, total(product) / 1000 * wires))


def facts_of(r: Readings, master: dict[str, Column], interval: int) -> Facts:
    """What the grid files of readings; the master columns are as of each row's time."""
    p, q = total(r.p), total(r.q)
    kva = apparent_power(r, master, p, q) * master["ratio"]
    volted = live = np.zeros(len(r), bool)
    if not unknown(r.u):
        volted = np.logical_not(np.isnan(r.u).all(axis=0))
        live = np.logical_or.reduce(r.u > 0.5 * master["un"])
    back = np.zeros(len(r), np.int64)
    if p.min(initial=0) < 0:
        energy = p * np.fmax(master["interval_s"], interval) / HOUR_SECONDS
        back = np.rint(np.maximum(-energy, 0) * 1e6).astype(np.int64)
    read = r.status != Status.ESTIMATED
    amps, neutral = r.i * master["ratio"], r.neutral * master["ratio"]
    unbalance, by_magnitude = _unbalance_of(r, master)
    return Facts(
        r.kwh,
        amps,
        neutral,
        kva,
        unbalance,
        by_magnitude,
        None if unknown(r.frequency) else r.frequency,
        None if unknown(r.temperature) else r.temperature,
        back,
        read,
        r.u,
        volted,
        live,
        master["is_gateway"] == 1,
        np.zeros(len(r), bool),
        end_of_day_values(r, p, q),
    )


def _unbalance_of(r: Readings, master: dict[str, Column]) -> tuple[Column, Mask]:
    """How unbalanced the voltages are where no phase is lost, and where magnitudes alone tell."""
    told, by_magnitude = np.full(len(r), np.nan), np.zeros(len(r), bool)
    rows = np.flatnonzero(master["phases"] == 3)
    if not len(rows) or unknown(r.u):
        return told, by_magnitude
    u = r.u if len(rows) == len(r) else r.u[:, rows]
    three_wire = master["three_wire"][rows]
    known = np.fmin.reduce(u) >= LOST_PHASE_VOLTAGE * master["un"][rows]
    by_angle = (
        np.full(len(rows), np.nan)
        if unknown(r.u_angle)
        else unbalance_factor(u, r.u_angle[:, rows], three_wire)
    )
    value = np.where(
        known, np.where(np.isnan(by_angle), spread_of(u), by_angle), np.nan
    )
    told[rows], by_magnitude[rows] = value, np.isnan(by_angle) & ~np.isnan(value)
    return told, by_magnitude

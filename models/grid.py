"""The open days of every transformer area: what was read in which interval, when a window closes, what amends it.

An area's clock is the second-highest stamp of its meters, so that no single meter's clock moves it; where one
meter alone has reported over two days of its time, it is that meter's last stamp but one. An interval closes one
interval after its end, a day one to five hours after midnight, both on the area's clock. Later rows amend a closed
window, judged again at the area's next full hour, until the grace period of its day is over. Areas take turns at
closing days and at sealing those that can no longer change, so that readings of others need not wait long. All
sums are of integers or in a fixed order, so that the order of arrival cannot change them.
"""
from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from models.calendar import day_of, midnights
from models.cells import Array, Cells
from models.freezes import Shown, freeze, freeze_columns, freezes, highest, shown
from models.gaps import total, unknown, zeroed
from models.heights import EVEN, LOST, height_columns, heights, keep_highest, spread_of, unbalance_factor
from models.packed import packed, unpacked
from models.phases import beside_gateway, hours_of, in_steps
from models.registry import Registry
from models.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Column, Mask, Readings, Status, Times

HOUR, DAY = 3600, 86_400
TURN = 900  # seconds from one turn of areas to the next
CLOSING = HOUR, 16  # seconds after midnight of the first turn to close days, and how many turns there are
SEALING = 5 * HOUR, 32  # the same of sealing, after the grace period
SKIPPED_DAYS = 31  # silent days in a row that are closed as unread; more are passed over
AHEAD_DAYS = 3  # open days beyond tomorrow that one area may hold
LONE = 2 * DAY  # of one meter's time without another's reading, from which it moves its area's clock alone
SPIKE, SPIKE_KWH = 5.0, 0.5  # times the day's third-highest interval, and at least: default of this project
TENTH_MILLI = 10_000
SUMS = ("gateway", "amps", "milli_va", "counted", "high_hz", "low_hz", "warmth")
HUNDREDTH = 100  # of a degree
TOLD_HOURS = 0.9  # of a day, in which its temperature must be told
POINTS = 3  # of an area that must agree on its frequency: catalogue 1.5
NOMINAL_HZ = 50.0
LAST_DIGIT = 0.01  # kWh that a register shows, secondary
GUESSED = 3  # an interval of which only estimates were read; else 0 unread, 1 read once, 2 more often


class AreaDay(NamedTuple):
    """A day of an area: its rows of Days and of AreaDays."""

    end: int  # the midnight that ends it
    meters: Codes
    columns: dict[str, Column]  # of Days
    totals: dict[str, float]  # of AreaDays
    spikes: int  # meters of which one interval stands out beyond belief


class AreaIntervals(NamedTuple):
    """Rows of Intervals, of each area in order of time."""

    areas: Codes
    at: Times
    columns: dict[str, Column]


NONE = np.zeros(0)
NO_INTERVALS = AreaIntervals(
    np.zeros(0, np.int64), np.zeros(0, np.int64),
    {"current": np.zeros((3, 0)), "kva": NONE, "neutral": NONE, "gateway": NONE, "coverage": NONE,
     "hz_above": NONE, "hz_below": NONE, "temperature": NONE},
)  # fmt: skip


class Window(NamedTuple):
    """Something that became due on an area's clock, with the rows of its windows as they stand now."""

    what: str  # interval (of any number of areas), day, amend or seal
    area: int
    day: int
    intervals: AreaIntervals
    days: list[AreaDay]


class Advanced(NamedTuple):
    """A batch by area; of every row its area's clock before and after it, whether it came too late, and whose it is."""

    order: Codes  # rows by area, in order of arrival
    starts: Codes  # of each area's rows in it
    now: Times
    then: Times
    late: Mask  # its day was sealed, or is older than the area's history
    own: Mask  # the clock is none but the row's own meter's


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
    back: Times  # energy that flowed back in the interval, micro kWh secondary
    read: Mask  # was read, not estimated
    volts: Column  # (3, rows) V
    volted: Mask  # has a voltage
    live: Mask  # has one above half of nominal
    gateway: Mask
    stale: Mask  # repeats the reading before it; found when it is judged
    shown: Shown


class Block:
    """One area's local day: its members' rows and its sums, in the grid's pools or packed."""

    def __init__(self, start: int, end: int, *, closed: bool, packed: bytes = b"") -> None:
        self.start, self.end, self.closed = start, end, closed
        self.packed = packed  # empty while the rows stand in the pools:
        self.base = self.size = self.number = 0  # from where and how many, and where its sums


class AreaState:
    """The members and open days of one area."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.dirty: set[int] = set()


class Grid:
    """The areas' clocks and open days."""

    def __init__(self, registry: Registry, zone: str, interval: int, grace: int) -> None:
        self.registry, self.zone, self.interval, self.grace = registry, zone, interval, grace
        self.midnights = midnights(zone)
        self.areas: dict[int, AreaState] = {}
        self.drawn = np.zeros(0, np.int64)  # of an area, by which it takes its turn
        self.clocks = Cells(  # of an area
            top=np.int64(0), holder=np.int32(-1), second=np.int64(0),  # highest stamp, whose it is, the area's clock
            latest=np.int32(-1), since=np.int64(0),  # whose reading came last, and since when only that meter's came
            closed_to=np.int64(0),  # intervals that end by then are closed
            first_day=np.int32(0),  # the day the clock first stood in, 0 before
            last_day=np.int32(0), sealed_day=np.int32(0),  # the last closed and sealed days
        )  # fmt: skip
        self.member = Cells(number=np.int32(-1))  # of a meter slot in its area
        steps = max(-(-25 * HOUR // interval), 3)  # a day has its third-highest interval
        self.hours = hours_of(steps, interval)  # in which a step's voltage is kept
        hourly = np.zeros(max(self.hours.max() + 1, 2), np.uint16)  # in steps of voltage, 0 unknown
        self.rows = Cells(  # a member's day each
            kwh=np.full(steps, np.nan, np.float32), seen=np.zeros(steps, np.uint8), reads=np.int32(0),
            volted=np.int32(0), live=np.int32(0), back=np.int64(0), volts=hourly, **heights(interval), **freezes(),
        )  # fmt: skip
        self.sums = Cells(  # an area's day each, over its users
            amps=np.zeros((3, steps), np.int64),  # 0.1 mA primary
            milli_va=np.zeros(steps, np.int64),
            counted=np.zeros(steps, np.int32),
            gateway_volts=np.stack([hourly] * 3),
            gateway=np.full((5, steps), np.nan),  # A, B, C in A, kVA and neutral in A, primary
            high_hz=np.zeros((POINTS, steps), np.float32),  # the highest frequencies, in ascending order
            low_hz=np.zeros((POINTS, steps), np.float32),  # twice the nominal less the lowest
            warmth=np.zeros((2, steps), np.int64),  # 0.01 deg C, and how many tell them
        )
        self.free_rows: dict[int, list[int]] = {}  # bases by size
        self.free_sums: list[int] = []

    def advance(self, areas: Codes, meters: Codes, at: Times, moves: Mask) -> Advanced:
        """Move the areas' clocks by the rows that may."""
        rows = np.arange(len(at))
        order = rows if (areas[1:] >= areas[:-1]).all() else np.argsort(areas, kind="stable")
        ours, moving = areas[order], moves[order]
        starts = runs(ours)
        for slot in ours[starts].tolist():
            if slot not in self.areas:
                self.areas[slot] = AreaState()
                self.clocks.room(slot + 1)
        now, first = self.clocks["second"][areas], self.clocks["first_day"][areas]
        then, own = now.copy(), np.zeros(len(at), bool)
        if moving.any():
            places = rows if moving.all() else np.flatnonzero(moving)
            picked = order[places]
            now[picked], then[picked], own[picked] = self.pace(areas[picked], meters[picked], at[picked])
            if len(picked) < len(at):  # the others find the clock where the last row that moved left it
                last = np.maximum.accumulate(np.where(moving, rows, -1))
                rest = ~moving & (last >= np.repeat(starts, sizes_of(starts, len(at))))
                now[order[rest]] = then[order[rest]] = then[order[last[rest]]]
            for place in places[then[picked] - now[picked] > self.grace].tolist():
                if began := self.begin(int(ours[place]), int(now[order[place]]), int(then[order[place]])):
                    first[order[place + 1 :][ours[place + 1 :] == ours[place]]] = began
        days = day_of(at if moving.all() else np.where(moves, at, 0), self.zone)
        late = (now > 0) & ((self.midnights[days + 1] + self.grace <= now) | (days < first))
        return Advanced(order, starts, now, then, moves & late, own)

    def pace(self, areas: Codes, meters: Codes, at: Times) -> tuple[Times, Times, Mask]:
        """Move the clocks by rows that come by area; the clock before and after each row, and whether it is its own."""
        c, rows = self.clocks, np.arange(len(at))
        starts = runs(areas)
        slots, sizes = areas[starts], sizes_of(starts, len(at))
        ends, first = starts + sizes - 1, np.repeat(starts, sizes)
        apart = np.repeat(np.arange(len(starts)) << 40, sizes)

        def highest(column: Times, least: Times) -> Times:
            return np.maximum.accumulate(np.maximum(column, np.repeat(least, sizes)) + apart) - apart

        def before(after: Array, first: Array) -> Array:
            shifted = np.concatenate([after[:1], after[:-1]])
            shifted[starts] = first
            return shifted

        top, holder, second = c["top"][slots], c["holder"][slots], c["second"][slots]
        tops = highest(at, top)
        high = before(tops, top)
        turn = np.maximum.accumulate(np.where(at > high, rows, -1))
        holders = np.where(turn >= first, meters[turn], np.repeat(holder, sizes))
        begins = runs(areas, meters)
        run = np.repeat(begins, sizes_of(begins, len(at)))
        since, on = at[run], meters[starts] == c["latest"][slots]
        if on.any():  # the meter that read last goes on
            since = np.where(np.repeat(on, sizes) & (run == first), np.repeat(c["since"][slots], sizes), since)
        alone = (at - since > LONE) | np.repeat([self.single(slot) for slot in slots.tolist()], sizes)
        rival = np.where((before(holders, holder) != meters) | alone, np.minimum(at, high), 0)
        clock = highest(rival, second)
        c["top"][slots], c["holder"][slots], c["second"][slots] = tops[ends], holders[ends], clock[ends]
        c["latest"][slots], c["since"][slots] = meters[ends], since[ends]
        return before(clock, second), clock, alone

    def begin(self, slot: int, now: int, then: int) -> int:
        """The new first day of an area whose clock leaps; 0 where the first day of its history has closed.

        So one clock that is far behind, among the first two to report, does not stretch it.
        """
        c = self.clocks
        first = c["first_day"][slot]
        if first and now >= self.midnights[first + 1] + self.turn(slot, CLOSING):
            return 0
        first = int(day_of(np.array([then]), self.zone)[0])
        c["first_day"][slot], c["last_day"][slot], c["sealed_day"][slot] = first, first - 1, first - 1
        return first

    def turn(self, slots: Any, turns: tuple[int, int]) -> Any:
        """Seconds after midnight of areas' turns, which are drawn from the areas' names: the same in any engine."""
        if more := self.registry.area_index.pairs[len(self.drawn) :]:
            self.drawn = np.concatenate([self.drawn, [crc32(area.encode()) for area, _ in more]])
        first, count = turns
        return first + self.drawn[slots] % count * TURN

    def single(self, slot: int) -> bool:
        """Whether the area has a single meter by the master data."""
        return len(self.registry.members.get(self.registry.area_index.pairs[slot][0], ())) == 1

    def rounds(
        self, advanced: Advanced, areas: Codes, at: Times, unsettled: Collection[int]
    ) -> Iterator[tuple[Codes, dict[int, int]]]:
        """Rows of a batch to judge and to file together, and the clock of each area whose windows are due after them.

        A window closes on exactly the rows that came before it was due. Where a row of an area comes after the close
        of its window, or an area is unsettled, its rows come round by round, else all at once.
        """
        order, starts, now, then, _, _ = advanced
        moved = (now // self.interval != then // self.interval)[order]
        turn = np.cumsum(moved) - moved  # of each area's rows, how often its clock moved before
        turn -= np.repeat(turn[starts], sizes_of(starts, len(at)))
        ends: list[dict[int, int]] = [{} for _ in range(int(turn[moved].max(initial=-1)) + 1)]
        leaps = order[moved]
        for n, slot, end in zip(turn[moved].tolist(), areas[leaps].tolist(), then[leaps].tolist(), strict=True):
            ends[n][slot] = end
        tardy = np.unique(areas[at <= (now // self.interval - 1) * self.interval])
        slow = np.isin(areas, [*tardy.tolist(), *unsettled]) if len(tardy) or unsettled else np.zeros(len(at), bool)
        if not slow.any():
            yield np.arange(len(at)), ends[0] if ends else {}
            yield from ((order[:0], end) for end in ends[1:])
            return
        turns = np.empty(len(at), np.int64)
        turns[order] = turn
        turns[~slow] = 0
        by_turn = np.argsort(turns, kind="stable")
        count = max(int(turns[by_turn[-1]]) + 1, len(ends))
        for n, rows in enumerate(np.split(by_turn, np.searchsorted(turns[by_turn], np.arange(1, count)))):
            yield rows, ends[n] if n < len(ends) else {}

    def file(
        self, areas: Codes, at: Times, now: Times, meters: Codes, facts: Facts, rows: Codes, in_order: Mask
    ) -> Mask:
        """Write some rows of a batch into their days; which of them were there already."""
        again = np.zeros(len(rows), bool)
        self.member.room(len(self.registry.meter_index))
        order = np.arange(len(rows))
        ours = areas[rows]
        if (ours[1:] < ours[:-1]).any():
            order = np.argsort(ours, kind="stable")
            rows = rows[order]
        days = day_of(at[rows], self.zone)
        steps = days * 128 + (at[rows] - self.midnights[days] - 1) // self.interval
        for part in waves(meters[rows].astype(np.int64) << 32 | steps):
            some = rows[part]
            when = (days[part], at[some], now[some])
            again[order[part]] = self.write(areas[some], when, meters[some], facts, some, in_order[some])
        return again

    def enlist(self, state: AreaState, meters: Codes) -> None:
        """Number the meters that have no number in their area yet."""
        meters = meters[self.member["number"][meters] < 0]
        fresh = meters[np.sort(np.unique(meters, return_index=True)[1])]
        self.member["number"][fresh] = np.arange(len(state.members), len(state.members) + len(fresh))
        state.members += fresh.tolist()

    def block(self, slot: int, day: int, now: int) -> Block:
        """The block of a day with room for all members; of many days ahead of the clock only the nearest are kept."""
        state = self.areas[slot]
        block = state.blocks.get(day)
        if block is None:
            today = int(day_of(np.array([now]), self.zone)[0])
            ahead = sorted(d for d in {*state.blocks, day} if d > today + 1) if now else []
            for far in ahead[AHEAD_DAYS:]:
                if far in state.blocks:
                    self.release(state.blocks.pop(far))
            start, end = self.midnights[day : day + 2].tolist()
            block = state.blocks[day] = Block(start, end, closed=day <= self.clocks["last_day"][slot])
        if block.packed or not block.size:
            self.open(block)
        if block.size < len(state.members):
            self.grow(block, -(-len(state.members) // 16) * 16)
        return block

    def open(self, block: Block) -> None:
        """Give a block, new or packed, its place in the pools."""
        block.number = self.free_sums.pop() if self.free_sums else self.sums.used
        self.sums.room(block.number + 1)
        if block.packed:
            cells = unpacked(block.packed)
            self.grow(block, cells["kwh"].shape[-1])
            for pool, where in ((self.rows, slice(block.base, block.base + block.size)), (self.sums, block.number)):
                for name, array in pool.arrays.items():
                    array[..., where] = cells[name]
            block.packed = b""

    def grow(self, block: Block, size: int) -> None:
        """Move a block's rows to where there is room for more."""
        spare = self.free_rows.get(size)
        base = spare.pop() if spare else self.rows.used
        self.rows.room(base + size)
        if block.size:
            old = slice(block.base, block.base + block.size)
            for array in self.rows.arrays.values():
                array[..., base : base + block.size] = array[..., old]
            self.vacate(block)
        block.base, block.size = base, size

    def vacate(self, block: Block) -> None:
        """Give a block's rows back."""
        self.rows.clear(np.arange(block.base, block.base + block.size))
        self.free_rows.setdefault(block.size, []).append(block.base)

    def release(self, block: Block) -> None:
        """Give a block's place in the pools back."""
        if not block.packed:
            self.vacate(block)
            self.sums.clear(np.array([block.number]))
            self.free_sums.append(block.number)
        block.base = block.size = block.number = 0

    def cells(self, block: Block) -> dict[str, Array]:
        """What a block holds."""
        if block.packed:
            return unpacked(block.packed)
        held = {name: a[..., block.base : block.base + block.size] for name, a in self.rows.arrays.items()}
        return held | {name: a[..., block.number] for name, a in self.sums.arrays.items()}

    def pack(self, block: Block) -> None:
        """Take a block out of the pools."""
        told = packed(self.cells(block))
        self.release(block)
        block.packed = told

    def write(
        self, areas: Codes, when: tuple[Times, Times, Times], meters: Codes, facts: Facts, rows: Codes, in_order: Mask
    ) -> Mask:
        """Write rows of distinct meters or intervals, by area; which of them were there already.

        `when` is each row's day, its time and its area's clock before it.
        """
        days, at, now = when
        if (nameless := np.flatnonzero(self.member["number"][meters] < 0)).size:
            for part in np.split(nameless, runs(areas[nameless])[1:]):
                self.enlist(self.areas[int(areas[part[0]])], meters[part])
        begins = runs(areas, days)
        sizes = sizes_of(begins, len(rows))
        owners = list(zip(areas[begins].tolist(), days[begins].tolist(), strict=True))
        blocks = [self.block(*owner, clock) for owner, clock in zip(owners, now[begins].tolist(), strict=True)]
        kept = np.array([self.areas[a].blocks.get(d) is b for (a, d), b in zip(owners, blocks, strict=True)])
        if not kept.all():  # a day was given up for nearer ones of the same rows
            kept, again = np.repeat(kept, sizes), np.zeros(len(rows), bool)
            times = (days[kept], at[kept], now[kept])
            again[kept] = self.write(areas[kept], times, meters[kept], facts, rows[kept], in_order[kept])
            return again
        places = np.array([(b.base, b.number, b.start, b.end if b.closed else 0) for b in blocks])
        base, number, start, passed = np.repeat(places.T, sizes, axis=1)
        cell, step = base + self.member["number"][meters], (at - start - 1) // self.interval
        r, kwh = self.rows, facts.kwh[rows]
        read = facts.read[rows]
        parts = r["seen"][step, cell]
        seen: Mask = (parts > 0) & ~(read & (parts == GUESSED))
        again = seen
        marks = np.where(read, 1, GUESSED)
        if seen.any():
            before = r["kwh"][step, cell]
            revised = (parts == 1) & ~in_order & ~np.isnan(kwh) & ~np.isnan(before) & (kwh != before)
            again = seen & ~in_order & ~revised
            kwh = np.where(seen & in_order & ~np.isnan(before), before + zeroed(kwh), np.where(again, before, kwh))
            marks = np.where(seen, np.where(in_order & (parts != GUESSED), 2, parts), marks)
        r["kwh"][step, cell], r["seen"][step, cell] = kwh, marks
        stale = ~again & (at <= np.maximum(passed, np.repeat(self.clocks["closed_to"][areas[begins]], sizes)))
        for k in np.unique(np.searchsorted(begins, np.flatnonzero(stale), side="right") - 1).tolist():
            self.areas[owners[k][0]].dirty.add(owners[k][1])
        since, fresh = at - start, ~seen | in_order
        if not fresh.all():
            rows, cell, step, number, since = (c[fresh] for c in (rows, cell, step, number, since))
            seen, read = seen[fresh], read[fresh]
        add(r["reads"], cell, read)
        add(r["volted"], cell, facts.volted[rows])
        add(r["live"], cell, facts.live[rows])
        if (back := facts.back[rows]).any():
            add(r["back"], cell, back)
        self.keep(rows[~seen], cell[~seen], facts)
        if (hourly := np.flatnonzero((self.hours[step] >= 0) & ~facts.stale[rows])).size:
            self.keep_volts(rows[hourly], cell[hourly], self.hours[step[hourly]], number[hourly], facts)
        sound = np.flatnonzero(~facts.stale[rows]) if facts.stale.any() else slice(None)
        freeze(self.rows, facts.shown, rows[sound], cell[sound], since[sound], ~seen[sound])
        self.sum_up(rows, step, number, facts, seen)
        return again

    def correct(self, areas: Codes, meters: Codes, at: Times, filed: Column, kwh: Column) -> None:
        """Put energy in the place of what was filed, where nothing else has come since."""
        r, days = self.rows, day_of(at, self.zone).tolist()
        told = zip(areas.tolist(), days, meters.tolist(), at.tolist(), filed, kwh, strict=True)
        for slot, day, meter, end, old, new in told:
            state = self.areas[slot]
            if day <= self.clocks["sealed_day"][slot] or day not in state.blocks:
                continue
            block = self.block(slot, day, 0)
            place = (end - block.start - 1) // self.interval, block.base + self.member["number"][meter]
            if r["seen"][place] == 1 and np.array_equal(r["kwh"][place], old, equal_nan=True):
                r["kwh"][place] = new
                if block.closed:
                    state.dirty.add(day)

    def keep(self, rows: Codes, cell: Codes, facts: Facts) -> None:
        """Keep the highest load and unbalance of each day."""
        for name, column, least in (("loads", facts.kva, 0), ("unbalances", facts.unbalance, EVEN)):
            values = column[rows]
            known = ~np.isnan(values)
            if known.any():
                add(self.rows[f"{name}_told"], cell, known)
                high = values > least
                keep_highest(self.rows[name], cell[high], values[high])
        if (guessed := facts.by_magnitude[rows]).any():
            add(self.rows["by_magnitude"], cell, guessed)

    def keep_volts(self, rows: Codes, cell: Codes, hour: Codes, number: Codes, facts: Facts) -> None:
        """Keep the highest voltage of the intervals with which some hours end: the first phase's, all the gateway's."""
        volts, gateway = in_steps(facts.volts[:, rows]), facts.gateway[rows]
        held = self.rows["volts"]
        held[hour, cell] = np.maximum(held[hour, cell], volts[0])
        if gateway.any():
            held, hour, number = self.sums["gateway_volts"], hour[gateway], number[gateway]
            held[:, hour, number] = np.maximum(held[:, hour, number], volts[:, gateway])

    def sum_up(self, rows: Codes, step: Codes, number: Codes, facts: Facts, seen: Mask) -> None:
        """Add rows to the sums of their intervals; a user's first reading speaks for the interval."""
        gateway, kva, amps = facts.gateway[rows], facts.kva[rows], facts.amps[:, rows]
        if gateway.any():
            s = self.sums["gateway"]
            s[:3, step[gateway], number[gateway]] = amps[:, gateway]
            s[3, step[gateway], number[gateway]] = kva[gateway]
            s[4, step[gateway], number[gateway]] = facts.neutral[rows][gateway]
        if facts.frequency is not None:
            hertz = facts.frequency[rows]
            told = np.flatnonzero(~np.isnan(hertz) & ~seen & ~facts.stale[rows])
            places = step[told] * self.sums["high_hz"].shape[-1] + number[told]
            keep_highest(flat(self.sums["high_hz"]), places, hertz[told])
            keep_highest(flat(self.sums["low_hz"]), places, np.float32(2 * NOMINAL_HZ) - hertz[told])
        if facts.temperature is not None:
            degrees = facts.temperature[rows]
            told = np.flatnonzero(~np.isnan(degrees) & ~seen & ~facts.stale[rows])
            hundredths = np.rint(degrees[told].astype(np.float64) * HUNDREDTH).astype(np.int64)
            total, count = self.sums["warmth"]
            np.add.at(total, (step[told], number[told]), hundredths)
            np.add.at(count, (step[told], number[told]), 1)
        known = ~gateway & ~np.isnan(kva) & ~seen
        if not known.any():
            return
        where = (number * self.sums["counted"].shape[0] + step)[known]
        begins = runs(where)
        number, step = divmod(where[begins], self.sums["counted"].shape[0])
        np.add.at(self.sums["counted"], (step, number), sizes_of(begins, len(where)).astype(np.int32))
        milli_va = np.rint(kva[known] * 1e6).astype(np.int64)
        np.add.at(self.sums["milli_va"], (step, number), np.add.reduceat(milli_va, begins))
        tenths = np.rint(zeroed(amps[:, known]) * TENTH_MILLI).astype(np.int64)
        for amps, more in zip(self.sums["amps"], np.add.reduceat(tenths, begins, axis=1), strict=True):
            np.add.at(amps, (step, number), more)

    def tick(self, now: int) -> Iterator[Window]:
        """What becomes due where the clocks of areas that have begun come as far as `now` at least."""
        second = self.clocks["second"]
        slots = np.flatnonzero((second > 0) & (second < now))
        second[slots] = now
        return self.due(dict.fromkeys(slots.tolist(), now))

    def due(self, ends: dict[int, int]) -> Iterator[Window]:
        """What became due as areas' clocks reached `ends`: the intervals of all areas, then each area's days."""
        if not ends:
            return
        slots, clock = np.array(list(ends)), np.array(list(ends.values()))
        c = self.clocks
        before, until = c["closed_to"][slots], (clock - self.interval) // self.interval * self.interval
        if not (passed := until > before).all():
            slots, clock, before, until = slots[passed], clock[passed], before[passed], until[passed]
        c["closed_to"][slots] = until
        spans = list(zip(slots.tolist(), before.tolist(), until.tolist(), strict=True))
        if len((rows := self.interval_rows(spans)).at):
            yield Window("interval", -1, 0, rows, [])
        newest = np.searchsorted(self.midnights, clock - self.turn(slots, CLOSING), side="right") - 2
        oldest = np.searchsorted(self.midnights, clock - self.grace - self.turn(slots, SEALING), side="right") - 2
        more = (newest > c["last_day"][slots]) | (oldest > c["sealed_day"][slots]) | (before // HOUR != until // HOUR)
        for k in np.flatnonzero(more).tolist():
            yield from self.close(spans[k], int(newest[k]), int(oldest[k]))

    def close(self, span: tuple[int, int, int], newest: int, oldest: int) -> list[Window]:
        """What became due beside intervals: days up to `newest`, seals up to `oldest`, at a full hour amendments.

        `span` is the area and the interval of time that its clock passed.
        """
        slot, before, until = span
        due: list[Window] = []
        c, state = self.clocks, self.areas[slot]
        last, sealed = int(c["last_day"][slot]), int(c["sealed_day"][slot])
        for day in range(max(last + 1, newest - SKIPPED_DAYS + 1), newest + 1):
            due.append(Window("day", slot, day, NO_INTERVALS, [self.day_row(slot, day)]))
            if day in state.blocks:
                state.blocks[day].closed = True
                self.pack(state.blocks[day])
        c["last_day"][slot] = last = max(last, newest)
        if before // HOUR != until // HOUR:
            if state.dirty:
                days = range(max(sealed + 1, last - SKIPPED_DAYS + 1), last + 1)
                rows = self.interval_rows([(slot, 0, until)])
                due.append(Window("amend", slot, min(state.dirty), rows, [self.day_row(slot, d) for d in days]))
                state.dirty.clear()
            for block in state.blocks.values():
                if block.closed and not block.packed:
                    self.pack(block)
        for day in range(max(sealed + 1, oldest - SKIPPED_DAYS + 1), min(oldest, last) + 1):
            rows = self.interval_rows([(slot, *self.midnights[day : day + 2].tolist())])
            due.append(Window("seal", slot, day, rows, [self.day_row(slot, day)]))
            c["sealed_day"][slot] = day
        if due and due[-1].what == "seal":
            for day in [d for d in state.blocks if d <= c["sealed_day"][slot]]:
                self.release(state.blocks.pop(day))
        return due

    def state(self) -> dict[str, Any]:
        """Everything remembered; every block packed."""
        blocks = [
            (slot, day, block.start, block.end, block.closed, block.packed or packed(self.cells(block)))
            for slot, state in self.areas.items() for day, block in state.blocks.items()
        ]  # fmt: skip
        return {
            "clocks": self.clocks.state(), "member": self.member.state(), "blocks": blocks,
            "areas": [(slot, np.array(a.members, np.int32), sorted(a.dirty)) for slot, a in self.areas.items()],
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.clocks.load(state["clocks"])
        self.member.load(state["member"])
        for pool in (self.rows, self.sums):
            pool.load({name: array[..., :0] for name, array in pool.arrays.items()})
        self.free_rows, self.free_sums, self.areas, self.drawn = {}, [], {}, self.drawn[:0]
        for slot, members, dirty in state["areas"]:
            self.areas[slot] = area = AreaState()
            area.members, area.dirty = members.tolist(), set(dirty)
        for slot, day, start, end, closed, told in state["blocks"]:
            self.areas[slot].blocks[day] = Block(start, end, closed=closed, packed=told)

    def interval_rows(self, spans: Iterable[tuple[int, int, int]]) -> AreaIntervals:
        """Areas' intervals with data that end in (after, until], by span of area, after and until."""
        parts: list[tuple[Array, ...]] = []  # of each: areas, ends, and SUMS
        pooled: list[tuple[int, int, int, int, int]] = []

        def flush() -> None:
            if not pooled:
                return
            slots, starts, numbers, firsts, sizes = np.array(pooled).T
            pooled.clear()
            k = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes - firsts, sizes)
            number = np.repeat(numbers, sizes)
            ends = np.repeat(starts, sizes) + (k + 1) * self.interval
            sums = (self.sums[name][..., k, number] for name in SUMS)
            parts.append((np.repeat(slots, sizes), ends, *sums))

        for slot, after, until in spans:
            for block in self.crossed(slot, after, until):
                first = max((after - block.start) // self.interval, 0)
                last = (min(until, block.end) - block.start) // self.interval
                if not block.packed:
                    pooled.append((slot, block.start, block.number, first, max(last - first, 0)))
                    continue
                flush()
                cells, k = unpacked(block.packed), np.arange(first, last)
                sums = (cells[name][..., k] for name in SUMS)
                parts.append((np.full(len(k), slot), block.start + (k + 1) * self.interval, *sums))
        flush()
        if not parts:
            return NO_INTERVALS
        parts = parts if len(parts) == 1 else [tuple(np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))]
        measured, agreed = ~np.isnan(parts[0][2][3]), parts[0][6][0] > 0
        rows = np.flatnonzero(measured | (parts[0][5] > 0) | agreed)
        slots, at, gateway, amps, milli_va, counted, high, low, warmth, measured, agreed = (
            c[..., rows] for c in (*parts[0], measured, agreed)
        )
        coverage = np.ones(len(rows))
        if not measured.all():
            summed = np.flatnonzero(~measured)
            coverage[summed] = counted[summed] / np.maximum(self.registry.users(slots[summed], at[summed]), 1)
        return AreaIntervals(slots, at, {
            "current": np.where(measured, gateway[:3], amps / TENTH_MILLI),
            "kva": np.where(measured, gateway[3], milli_va / 1e6), "neutral": np.where(measured, gateway[4], np.nan),
            "gateway": measured.astype(float), "coverage": coverage,
            "hz_above": np.where(agreed, high[0] - NOMINAL_HZ, np.nan),
            "hz_below": np.where(agreed, low[0] - NOMINAL_HZ, np.nan), "temperature": mean_of(warmth),
        })  # fmt: skip

    def crossed(self, slot: int, after: int, until: int) -> Iterator[Block]:
        """An area's open days with intervals that end in (after, until]."""
        blocks, sealed = self.areas[slot].blocks, self.clocks["sealed_day"][slot]
        for day in sorted(blocks):
            if day > sealed and blocks[day].start < until and blocks[day].end > after:
                yield blocks[day]

    def temperature(self, warmth: Array, length: int) -> float:
        """The mean of a day of so many seconds, each hour counting alike; NaN where less than 90 % of them tell it."""
        hours = np.arange(0, length // self.interval, max(HOUR // self.interval, 1))
        degrees = mean_of(np.add.reduceat(warmth[:, : length // self.interval], hours, axis=1))
        told = degrees[~np.isnan(degrees)]
        return float(told.mean()) if len(told) >= TOLD_HOURS * len(hours) else np.nan

    def day_row(self, slot: int, day: int) -> AreaDay:
        """One day of an area as it stands now."""
        state, (start, end) = self.areas[slot], self.midnights[day : day + 2].tolist()
        area = self.registry.area_index.pairs[slot][0]
        self.member.room(len(self.registry.meter_index))
        self.enlist(state, np.array(self.registry.members.get(area, []), np.int32))
        meters = np.array(state.members, np.int32)
        held = self.cells(state.blocks[day]) if day in state.blocks else {}
        cells = {name: widened(held.get(name), empty, len(meters)) for name, empty in self.rows.empty.items()}
        rows = self.registry.meters.rows(meters, np.full(len(meters), end - 1))
        master = self.registry.meters.at(rows)
        present = ((rows > 0) & (end <= master["member_until"])) | (cells["reads"] > 0)
        own = np.fmax(master["interval_s"], self.interval)
        expected = np.maximum((end - start) / own, 1)
        columns = day_columns(cells, expected) | height_columns(cells, expected, end - start)
        columns |= freeze_columns(cells, expected, end - start) | {"top_kw": highest(cells["kwh"], own, self.interval)}
        columns |= beside_gateway(cells["volts"], held.get("gateway_volts", self.sums.empty["gateway_volts"]), master)
        columns["temperature"] = np.full(len(meters), self.temperature(held["warmth"], end - start) if held else np.nan)
        spikes = int(np.count_nonzero(columns.pop("spike")[present]))
        totals = read_share(columns["reads"], expected, present) | area_day(columns, master, cells["back"], present)
        days = {name: column[..., present] for name, column in columns.items()}
        return AreaDay(end, meters[present], days, totals, spikes)


def mean_of(warmth: Array) -> Column:
    """Degrees from sums of hundredths and how many they are; NaN where none are."""
    total, count = warmth
    return np.where(count > 0, total / np.maximum(count, 1) / HUNDREDTH, np.nan)


def flat(cells: Array) -> Array:
    """A view of cells of the shape (n, steps, numbers) with one place for every step and number."""
    view = cells.view()
    view.shape = (len(cells), -1)
    return view


def widened(held: Array | None, empty: Array, size: int) -> Array:
    """The cells of `size` members, fresh where none are held."""
    have = 0 if held is None else held.shape[-1]
    if held is not None and have >= size:
        return held[..., :size]
    fresh = np.repeat(empty[..., None], size - have, axis=-1)
    return fresh if held is None else np.concatenate([held, fresh], axis=-1)


def add(cells: Array, where: Codes, values: Array) -> None:
    """Add values to cells, of which some may occur more than once."""
    if ascending(where):
        cells[where] += values
    else:
        np.add.at(cells, where, values.astype(cells.dtype))


def apparent(r: Readings, master: dict[str, Column], whole_p: Column, whole_q: Column) -> Column:
    """Secondary kVA per row from the whole P and Q, else from U and I, else from I at nominal voltage; NaN without any.

    A three-wire meter's two elements measure line voltages: U and I of both make 2/sqrt(3) of the apparent power.
    """
    u, i, p, q, un = r.u, r.i, r.p, r.q, master["un"]
    absent = np.isnan(i)
    told: Mask = np.zeros(i.shape[1], bool)
    if not (unknown(p) or unknown(q)):
        missing = np.isnan(p)
        told = np.logical_not((missing & ~absent).any(axis=0) | missing.all(axis=0) | np.isnan(q).all(axis=0))
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
    kva = apparent(r, master, p, q) * master["ratio"]
    volted = live = np.zeros(len(r), bool)
    if not unknown(r.u):
        volted = np.logical_not(np.isnan(r.u).all(axis=0))
        live = np.logical_or.reduce(r.u > 0.5 * master["un"])
    back = np.zeros(len(r), np.int64)
    if p.min(initial=0) < 0:
        energy = p * np.fmax(master["interval_s"], interval) / HOUR
        back = np.rint(np.maximum(-energy, 0) * 1e6).astype(np.int64)
    read = r.status != Status.ESTIMATED
    amps, neutral = r.i * master["ratio"], r.neutral * master["ratio"]
    unbalance, by_magnitude = unbalance_of(r, master)
    return Facts(
        r.kwh, amps, neutral, kva, unbalance, by_magnitude, None if unknown(r.frequency) else r.frequency,
        None if unknown(r.temperature) else r.temperature, back, read, r.u, volted, live, master["is_gateway"] == 1,
        np.zeros(len(r), bool), shown(r, p, q),
    )  # fmt: skip


def unbalance_of(r: Readings, master: dict[str, Column]) -> tuple[Column, Mask]:
    """How unbalanced the voltages are where no phase is lost, and where magnitudes alone tell."""
    told, by_magnitude = np.full(len(r), np.nan), np.zeros(len(r), bool)
    rows = np.flatnonzero(master["phases"] == 3)
    if not len(rows) or unknown(r.u):
        return told, by_magnitude
    u = r.u if len(rows) == len(r) else r.u[:, rows]
    three_wire = master["three_wire"][rows]
    known = np.fmin.reduce(u) >= LOST * master["un"][rows]
    by_angle = np.full(len(rows), np.nan) if unknown(r.u_angle) else unbalance_factor(u, r.u_angle[:, rows], three_wire)
    value = np.where(known, np.where(np.isnan(by_angle), spread_of(u), by_angle), np.nan)
    told[rows], by_magnitude[rows] = value, np.isnan(by_angle) & ~np.isnan(value)
    return told, by_magnitude


def day_columns(cells: dict[str, Array], expected: Column) -> dict[str, Column]:
    """The Days columns of every member's energy; `expected` is how many intervals a full day has."""
    kwh: Column = cells["kwh"].astype(np.float64)
    told = (~np.isnan(kwh)).sum(axis=0)
    coverage = np.minimum(told / expected, 1)
    filled = zeroed(kwh)
    total = np.where(told >= expected / 2, filled.sum(axis=0), np.nan)
    top = np.partition(np.where(np.isnan(kwh), -np.inf, kwh), -3, axis=0)
    third, most = top[-3], top[-1]
    spike: Mask = (most > SPIKE * third) & (most > SPIKE_KWH) & (told >= 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        live = np.where(cells["volted"] > 0, cells["live"] / cells["volted"], np.nan)
    return {"kwh": total, "coverage": coverage, "reads": cells["reads"].astype(float), "live": live,
            "curve": cells["kwh"], "returned_kwh": cells["back"] / 1e6, "spike": spike.astype(float)}  # fmt: skip


def read_share(reads: Column, expected: Column, present: Mask) -> dict[str, float]:
    """The share of the readings due in a day that were got, of all meters."""
    got, due = np.minimum(reads, expected)[present], expected[present]
    return {"read_share": float(got.sum() / due.sum()) if len(due) else np.nan}


def area_day(days: dict[str, Column], master: dict[str, Column], back: Times, present: Mask) -> dict[str, float]:
    """Energy read in and out, likely unread in and out, three deviations of all that, and the lesser coverage.

    Primary kWh; NaN without a gateway. What was not read of a meter is likely what its mean makes it, anything up to
    twice as much is possible; of a meter of which less than half was read, what its contract's share of the area makes
    likely. Registers are right to their last digit.
    """
    gateway, ratio = master["is_gateway"] == 1, zeroed(master["ratio"])
    users, through = present & ~gateway, present & gateway
    if not through.any() or not users.any() or np.isnan(master["ratio"][users]).all():
        return dict.fromkeys(("energy_in", "energy_out", "unread_in", "unread_out", "doubt", "coverage"), np.nan)
    micro = np.rint(zeroed(days["kwh"]) * ratio * 1e6).astype(np.int64)
    sent = np.rint(back * ratio).astype(np.int64)
    energy_in = int(micro[through].sum()) - int(sent[through].sum()) + int(sent[users].sum())
    energy_out = int(micro[users].sum())
    read, coverage = np.logical_not(np.isnan(days["kwh"])), np.maximum(days["coverage"], 0.5)
    unread = np.rint(np.where(read, micro * (1 / coverage - 1), 0)).astype(np.int64)
    if (dark := users & ~read).any():
        weights = np.rint(contract_shares(master["contract_kva"], users) * 1000).astype(np.int64)
        known = int(weights[users & read].sum())
        unread[dark] = np.rint(weights[dark] * (energy_out / known)) if known else 0
    milli = np.rint(np.hypot(unread[present] / 1e3, LAST_DIGIT * ratio[present] * 1e3)).astype(np.int64)
    return {
        "energy_in": energy_in / 1e6, "energy_out": energy_out / 1e6,
        "unread_in": int(unread[through].sum()) / 1e6, "unread_out": int(unread[users].sum()) / 1e6,
        "doubt": math.sqrt(3 * int(np.square(milli).sum())) / 1e3,
        "coverage": min(float(days["coverage"][through].mean()), float(days["coverage"][users].mean())),
    }  # fmt: skip


def contract_shares(contract: Column, users: Mask) -> Column:
    """By what users' energy is likely in proportion: their contract, or the mean contract where one has none."""
    told = users & (contract > 0)
    mean = contract[told].sum() / np.count_nonzero(told) if told.any() else 1.0
    return np.where(told, contract, mean)


def waves(slots: Codes) -> Iterator[Codes]:
    """Row numbers in parts that hold each slot at most once, every slot's rows in order of arrival."""
    if ascending(slots):
        if len(slots):
            yield np.arange(len(slots))
        return
    order = np.argsort(slots, kind="stable")
    starts = runs(slots[order])
    if len(starts) == len(slots):
        yield np.arange(len(slots))
        return
    turn = np.arange(len(slots)) - np.repeat(starts, sizes_of(starts, len(slots)))
    by_turn = np.argsort(turn, kind="stable")
    for part in np.split(order[by_turn], np.cumsum(np.bincount(turn))[:-1]):
        yield np.sort(part)


def grouped(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Each code with its rows, in order of arrival."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(order)]):
        yield int(ordered[start]), order[start:end]

"""The open days of every transformer area: what was read in which interval, when a window closes, what amends it.

An area's clock is the second-highest stamp of its meters, so that no single meter's clock moves it; where one meter
alone has reported over two days of its time, it is that meter's last stamp but one. An interval closes one
interval after its end, a day one hour after midnight, both on the area's clock. Later rows amend a closed window,
judged again at the area's next full hour, until the grace period seals its day. All sums are of integers or in a fixed
order, so that the order of arrival cannot change them.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from models.calendar import day_of, midnights
from models.cells import Array, Cells
from models.registry import Registry
from schemas.columns import Codes, Column, Mask, Readings, Status, Times, constant

HOUR, DAY = 3600, 86_400
DAY_PATIENCE = HOUR
SKIPPED_DAYS = 31  # silent days in a row that are closed as unread; more are passed over
AHEAD_DAYS = 3  # open days beyond tomorrow that one area may hold
LONE = 2 * DAY  # of one meter's time without another's reading, from which it moves its area's clock alone
SPIKE, SPIKE_KWH = 5.0, 0.5  # times the day's third-highest interval, and at least: default of this project
TENTH_MILLI = 10_000


class AreaDay(NamedTuple):
    """A day of an area: its rows of Days and of AreaDays."""

    end: int  # the midnight that ends it
    meters: Codes
    columns: dict[str, Column]  # of Days
    totals: tuple[float, float, float]  # of AreaDays: energy in, energy out, coverage
    spikes: int  # meters of which one interval stands out beyond belief


class Window(NamedTuple):
    """Something that became due on an area's clock, with the rows of its windows as they stand now."""

    area: int
    what: str  # interval, day, amend or seal
    day: int
    intervals: list[tuple[Any, ...]]  # rows of Intervals: at, A, B, C, kva, gateway, coverage
    days: list[AreaDay]


class Group(NamedTuple):
    """The rows of one area in a batch, in order of arrival, with the area's clock before and after each."""

    area: int
    rows: Codes
    clock: Times  # one longer than rows


class Advanced(NamedTuple):
    """A batch by area; of every row its area's clock before it, whether it came too late, and whose clock it is."""

    groups: list[Group]
    now: Times
    late: Mask  # its day was sealed, or is older than the area's history
    own: Mask  # the clock is none but the row's own meter's


class Facts(NamedTuple):
    """What the grid files of every row of a batch; phase columns are (3, rows)."""

    kwh: Column  # secondary
    amps: Column  # primary
    kva: Column  # primary
    back: Times  # energy that flowed back in the interval, micro kWh secondary
    read: Mask  # was read, not estimated
    volted: Mask  # has a voltage
    live: Mask  # has one above half of nominal
    gateway: Mask


class Block:
    """One area's local day: where its members' rows and its sums stand in the grid's pools."""

    def __init__(self, start: int, end: int, number: int) -> None:
        self.start, self.end, self.number = start, end, number
        self.base = self.size = 0  # of its members' rows
        self.closed = False


class AreaState:
    """What is remembered of one area."""

    def __init__(self) -> None:
        self.top, self.holder, self.second = 0, -1, 0  # highest stamp, whose it is, the area's clock
        self.latest, self.since = -1, 0  # whose reading came last, and since when only that meter's came
        self.closed_to = 0  # intervals that end by then are closed
        self.first_day = 0  # the day the clock first stood in, 0 before
        self.last_day = self.sealed_day = 0  # the last closed and sealed days
        self.members: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.dirty: set[int] = set()

    def saved(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return vars(self) | {
            "blocks": {day: vars(block) for day, block in self.blocks.items()}, "dirty": sorted(self.dirty),
        }  # fmt: skip

    @classmethod
    def load(cls, saved: dict[str, Any]) -> AreaState:
        """A state from what `saved` gave."""
        state = cls()
        vars(state).update(saved)
        state.members, state.dirty = list(saved["members"]), set(saved["dirty"])
        state.blocks = {}
        for day, block in saved["blocks"].items():
            state.blocks[day] = Block(0, 0, 0)
            vars(state.blocks[day]).update(block)
        return state


class Grid:
    """The areas' clocks and open days."""

    def __init__(self, registry: Registry, zone: str, interval: int, grace: int) -> None:
        self.registry, self.zone, self.interval, self.grace = registry, zone, interval, grace
        self.midnights = midnights(zone)
        self.areas: dict[int, AreaState] = {}
        self.member = Cells(number=np.int32(-1))  # of a meter slot in its area
        steps = -(-25 * HOUR // interval)
        self.rows = Cells(  # a member's day each
            kwh=np.full(steps, np.nan, np.float32), seen=np.zeros(steps, np.uint8), reads=np.int32(0),
            volted=np.int32(0), live=np.int32(0), back=np.int64(0),
        )  # fmt: skip
        self.sums = Cells(  # an area's day each, over its users
            amps=np.zeros((3, steps), np.int64),  # 0.1 mA primary
            milli_va=np.zeros(steps, np.int64),
            counted=np.zeros(steps, np.int32),
            gateway=np.full((4, steps), np.nan),  # A, B, C in A and kVA, primary
        )
        self.free_rows: dict[int, list[int]] = {}  # bases by size
        self.free_sums: list[int] = []

    def area(self, slot: int) -> AreaState:
        """The state of an area, new if need be."""
        return self.areas.setdefault(slot, AreaState())

    def advance(self, areas: Codes, meters: Codes, at: Times, moves: Mask) -> Advanced:
        """Move the areas' clocks by the rows that may."""
        now, own, first = np.zeros(len(at), np.int64), np.zeros(len(at), bool), np.zeros(len(at), np.int64)
        groups = []
        for slot, rows in grouped(areas):
            state, moving = self.area(slot), moves[rows]
            if not moving.any():
                now[rows], first[rows] = state.second, state.first_day
                groups.append(Group(slot, rows, np.full(len(rows) + 1, state.second)))
                continue
            stamps, whose = at[rows[moving]], meters[rows[moving]]
            high = np.maximum.accumulate(np.concatenate([[state.top], stamps]))
            turns = np.where(stamps > high[:-1], np.arange(1, len(high)), 0)
            turns = np.maximum.accumulate(np.concatenate([[0], turns]))
            holders = np.concatenate([[state.holder], whose])[turns]
            since = lone(whose, stamps, state.latest, state.since)
            state.latest, state.since = int(whose[-1]), int(since[-1])
            alone = (stamps - since > LONE) | self.single(slot)
            own[rows[moving]] = alone
            rival = np.where((holders[:-1] != whose) | alone, stamps, 0)
            clock = np.maximum.accumulate(np.concatenate([[state.second], np.minimum(rival, high[:-1])]))
            state.top, state.holder, state.second = int(high[-1]), int(holders[-1]), int(clock[-1])
            clock = clock[np.concatenate([[0], np.cumsum(moving)])]
            now[rows] = clock[:-1]
            first[rows] = self.begin(state, clock)
            groups.append(Group(slot, rows, clock))
        days = day_of(np.where(moves, at, 0), self.zone)
        late = (now > 0) & ((self.midnights[days + 1] + self.grace <= now) | (days < first))
        return Advanced(groups, now, moves & late, own)

    def begin(self, state: AreaState, clock: Times) -> Times:
        """The first day of the area's history, by row; it begins anew where its clock leaps before that day closed.

        So one clock that is far behind, among the first two to report, does not stretch it.
        """
        first = np.full(len(clock) - 1, state.first_day)
        for row in np.flatnonzero(np.diff(clock) > self.grace).tolist():
            if not state.first_day or clock[row] < self.midnights[state.first_day + 1] + DAY_PATIENCE:
                state.first_day = int(day_of(clock[row + 1 : row + 2], self.zone)[0])
                state.last_day = state.sealed_day = state.first_day - 1
                first[row + 1 :] = state.first_day
        return first

    def single(self, slot: int) -> bool:
        """Whether the area has a single meter by the master data."""
        return len(self.registry.members.get(self.registry.area_index.pairs[slot][0], ())) == 1

    def rounds(
        self, groups: list[Group], at: Times, now: Times, unsettled: Collection[int]
    ) -> Iterator[tuple[Codes, dict[int, int]]]:
        """Rows of a batch to judge and to file together, and the clock of each area whose windows are due after them.

        A window closes on exactly the rows that came before it was due. Where a row of an area comes after the close
        of its window, or an area is unsettled, its rows come round by round, else all at once.
        """
        turn = np.zeros(len(at), np.int64)
        ends: list[dict[int, int]] = [{}]  # by round: the clock at which each area closes what is due
        tardy = at <= (now // self.interval - 1) * self.interval
        slow = np.zeros(len(at), bool)
        for slot, rows, clock in groups:
            moved = np.diff(clock // self.interval) != 0
            if moved.any():
                turn[rows[1:]] = np.cumsum(moved)[:-1]
            slow[rows] = slot in unsettled or tardy[rows].any()
            for n, end in enumerate(clock[1:][moved].tolist()):
                if n == len(ends):
                    ends.append({})
                ends[n][slot] = end
        turn[~slow] = 0
        order = np.argsort(turn, kind="stable")
        last = int(turn[order[-1]])
        parts = np.split(order, np.searchsorted(turn[order], np.arange(1, max(last + 1, len(ends)))))
        for n, rows in enumerate(parts):
            yield rows, ends[n] if n < len(ends) else {}

    def file(
        self, areas: Codes, at: Times, now: Times, meters: Codes, facts: Facts, rows: Codes, in_order: Mask
    ) -> Mask:
        """Write some rows of a batch into their days; which of them were there already."""
        again = np.zeros(len(rows), bool)
        self.member.room(len(self.registry.meter_index))
        days = day_of(at[rows], self.zone)
        steps = days * 128 + (at[rows] - self.midnights[days] - 1) // self.interval
        for part in waves(meters[rows].astype(np.int64) << 32 | steps):
            some = rows[part]
            when = (days[part], at[some], now[some])
            again[part] = self.write(areas[some], when, meters[some], facts, some, in_order[some])
        return again

    def enlist(self, state: AreaState, meters: Codes) -> None:
        """Number the meters that have no number in their area yet."""
        for meter in meters[self.member["number"][meters] < 0].tolist():
            self.member["number"][meter] = len(state.members)
            state.members.append(meter)

    def block(self, state: AreaState, day: int, now: int) -> Block:
        """The block of a day with room for all members; of many days ahead of the clock only the nearest are kept."""
        block = state.blocks.get(day)
        if block is None:
            today = int(day_of(np.array([now]), self.zone)[0])
            ahead = sorted(d for d in {*state.blocks, day} if d > today + 1) if now else []
            for far in ahead[AHEAD_DAYS:]:
                if far in state.blocks:
                    self.drop(state, far)
            number = self.free_sums.pop() if self.free_sums else self.sums.used
            self.sums.room(number + 1)
            block = Block(int(self.midnights[day]), int(self.midnights[day + 1]), number)
            block.closed = day <= state.last_day
            state.blocks[day] = block
        if block.size < len(state.members):
            self.grow(block, -(-len(state.members) // 16) * 16)
        return block

    def grow(self, block: Block, size: int) -> None:
        """Move a block's rows to where there is room for more."""
        spare = self.free_rows.get(size)
        base = spare.pop() if spare else self.rows.used
        self.rows.room(base + size)
        if block.size:
            old = np.arange(block.base, block.base + block.size)
            self.rows.put(np.arange(base, base + block.size), self.rows.take(old))
            self.release(block)
        block.base, block.size = base, size

    def release(self, block: Block) -> None:
        """Give a block's rows back."""
        self.rows.clear(np.arange(block.base, block.base + block.size))
        self.free_rows.setdefault(block.size, []).append(block.base)

    def drop(self, state: AreaState, day: int) -> None:
        """Forget a day."""
        block = state.blocks.pop(day)
        self.release(block)
        self.sums.clear(np.array([block.number]))
        self.free_sums.append(block.number)

    def write(
        self, areas: Codes, when: tuple[Times, Times, Times], meters: Codes, facts: Facts, rows: Codes, in_order: Mask
    ) -> Mask:
        """Write rows of distinct meters or intervals; which of them were there already.

        `when` is each row's day, its time and its area's clock before it.
        """
        days, at, now = when
        key = areas.astype(np.int64) * len(self.midnights) + days
        pairs, first, which = np.unique(key, return_index=True, return_inverse=True)
        owners = [divmod(pair, len(self.midnights)) for pair in pairs.tolist()]
        for k in np.flatnonzero(self.member["number"][meters] < 0).tolist():
            self.enlist(self.areas[owners[which[k]][0]], meters[k : k + 1])
        blocks = [
            self.block(self.areas[slot], day, clock)
            for (slot, day), clock in zip(owners, now[first].tolist(), strict=True)
        ]  # fmt: skip
        kept = np.array([self.areas[a].blocks.get(d) is b for (a, d), b in zip(owners, blocks, strict=True)])[which]
        if not kept.all():  # a day was given up for nearer ones of the same rows
            again = np.zeros(len(rows), bool)
            times = (days[kept], at[kept], now[kept])
            again[kept] = self.write(areas[kept], times, meters[kept], facts, rows[kept], in_order[kept])
            return again
        cell = np.array([b.base for b in blocks])[which] + self.member["number"][meters]
        step = (at - np.array([b.start for b in blocks])[which] - 1) // self.interval
        r, kwh = self.rows, facts.kwh[rows]
        before, parts = r["kwh"][step, cell], r["seen"][step, cell]
        seen = parts > 0
        revised = (parts == 1) & ~in_order & ~np.isnan(kwh) & ~np.isnan(before) & (kwh != before)
        again = seen & ~in_order & ~revised
        added = np.where(seen & in_order & ~np.isnan(before), before + zeroed(kwh), np.where(again, before, kwh))
        r["kwh"][step, cell] = added
        r["seen"][step, cell] = np.where(seen & in_order, 2, np.maximum(parts, 1))
        passed = np.array([self.areas[slot].closed_to for slot, _ in owners])[which]
        stale = ~again & ((at <= passed) | np.array([b.closed for b in blocks])[which])
        for k in np.unique(which[stale]).tolist():
            self.areas[owners[k][0]].dirty.add(owners[k][1])
        if not (fresh := ~seen | in_order).all():
            rows, cell, step, which = rows[fresh], cell[fresh], step[fresh], which[fresh]
        np.add.at(r["reads"], cell, facts.read[rows])
        np.add.at(r["volted"], cell, facts.volted[rows])
        np.add.at(r["live"], cell, facts.live[rows])
        if (back := facts.back[rows]).any():
            np.add.at(r["back"], cell, back)
        number = np.array([b.number for b in blocks])[which]
        gateway = facts.gateway[rows]
        if gateway.any():
            s = self.sums["gateway"]
            s[:3, step[gateway], number[gateway]] = facts.amps[:, rows[gateway]]
            s[3, step[gateway], number[gateway]] = facts.kva[rows[gateway]]
        known = ~gateway & ~np.isnan(facts.kva[rows]) & ~seen[fresh]  # a user's first reading speaks for the interval
        rows, where = rows[known], (step * self.sums["counted"].shape[-1] + number)[known]
        np.add.at(self.sums["counted"].reshape(-1), where, 1)
        np.add.at(self.sums["milli_va"].reshape(-1), where, np.rint(facts.kva[rows] * 1e6).astype(np.int64))
        for phase, amps in enumerate(zeroed(facts.amps[:, rows])):
            np.add.at(self.sums["amps"][phase].reshape(-1), where, np.rint(amps * TENTH_MILLI).astype(np.int64))
        return again

    def sealed(self, clock: int) -> int:
        """The midnight up to which days are sealed."""
        return int(self.midnights[np.searchsorted(self.midnights, clock - self.grace, side="right") - 1])

    def correct(self, slot: int, meters: Codes, at: Times, filed: Column, kwh: Column) -> None:
        """Put energy in the place of what was filed, where nothing else has come since."""
        state, r = self.areas[slot], self.rows
        days = day_of(at, self.zone).tolist()
        for day, meter, end, old, new in zip(days, meters.tolist(), at.tolist(), filed, kwh, strict=True):
            if day <= state.sealed_day or (block := state.blocks.get(day)) is None:
                continue
            place = (end - block.start - 1) // self.interval, block.base + self.member["number"][meter]
            if r["seen"][place] == 1 and np.array_equal(r["kwh"][place], old, equal_nan=True):
                r["kwh"][place] = new
                if block.closed or end <= state.closed_to:
                    state.dirty.add(day)

    def close(self, slot: int, state: AreaState, clock: int) -> list[Window]:
        """What became due as the area's clock reached `clock`."""
        due: list[Window] = []
        before, until = state.closed_to, (clock - self.interval) // self.interval * self.interval
        if until <= before:
            return due
        state.closed_to = until
        if rows := self.interval_rows(slot, state, before, until):
            due.append(Window(slot, "interval", 0, rows, []))
        newest = int(np.searchsorted(self.midnights, clock - DAY_PATIENCE, side="right")) - 2
        for day in range(max(state.last_day + 1, newest - SKIPPED_DAYS + 1), newest + 1):
            state.last_day = day
            due.append(Window(slot, "day", day, [], [self.day_row(slot, state, day)]))
            if day in state.blocks:
                state.blocks[day].closed = True
        if state.dirty and before // HOUR != until // HOUR:
            first = state.sealed_day + 1
            span = range(max(first, state.last_day - SKIPPED_DAYS + 1), state.last_day + 1)
            rows = self.interval_rows(slot, state, 0, until)
            due.append(Window(slot, "amend", min(state.dirty), rows, [self.day_row(slot, state, d) for d in span]))
            state.dirty.clear()
        oldest = int(np.searchsorted(self.midnights, clock - self.grace, side="right")) - 2
        for day in range(max(state.sealed_day + 1, oldest - SKIPPED_DAYS + 1), min(oldest, state.last_day) + 1):
            start, end = int(self.midnights[day]), int(self.midnights[day + 1])
            rows = self.interval_rows(slot, state, start, end)
            due.append(Window(slot, "seal", day, rows, [self.day_row(slot, state, day)]))
            state.sealed_day = day
        if due and due[-1].what == "seal":
            for day in [d for d in state.blocks if d <= state.sealed_day]:
                self.drop(state, day)
        return due

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        return {"areas": {slot: state.saved() for slot, state in self.areas.items()}, "member": self.member.state(),
                "rows": self.rows.state(), "sums": self.sums.state(), "free_rows": self.free_rows,
                "free_sums": self.free_sums}  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.areas = {slot: AreaState.load(saved) for slot, saved in state["areas"].items()}
        self.member.load(state["member"])
        self.rows.load(state["rows"])
        self.sums.load(state["sums"])
        self.free_rows, self.free_sums = state["free_rows"], state["free_sums"]

    def interval_rows(self, slot: int, state: AreaState, after: int, until: int) -> list[tuple[Any, ...]]:
        """The area's intervals with data that end in (after, until]."""
        rows: list[tuple[Any, ...]] = []
        s = self.sums
        oldest = int(np.searchsorted(self.midnights, after, side="right")) - 1
        newest = int(np.searchsorted(self.midnights, until, side="left")) - 1
        for day in range(max(oldest, state.sealed_day + 1), newest + 1):
            if (block := state.blocks.get(day)) is None:
                continue
            first = max((after - block.start) // self.interval, 0)
            last = (min(until, block.end) - block.start) // self.interval
            for k in range(first, last):
                gateway, counted = s["gateway"][:, k, block.number], s["counted"][k, block.number]
                end = block.start + (k + 1) * self.interval
                if not np.isnan(gateway[3]):
                    rows.append((end, *gateway.tolist(), 1.0, 1.0))
                elif counted:
                    amps = (s["amps"][:, k, block.number] / TENTH_MILLI).tolist()
                    covered = counted / max(self.users(slot, end), 1)
                    rows.append((end, *amps, s["milli_va"][k, block.number] / 1e6, 0.0, covered))
        return rows

    def users(self, slot: int, at: int) -> int:
        """How many enrolled meters besides the gateway are in force."""
        meters = np.array(self.registry.members.get(self.registry.area_index.pairs[slot][0], []), np.int32)
        rows = self.registry.meters.rows(meters, np.full(len(meters), at - 1))
        master = self.registry.meters.at(rows)
        return int(np.count_nonzero((rows > 0) & (master["is_gateway"] == 0) & (at <= master["member_until"])))

    def day_row(self, slot: int, state: AreaState, day: int) -> AreaDay:
        """One day of an area as it stands now."""
        start, end = int(self.midnights[day]), int(self.midnights[day + 1])
        area = self.registry.area_index.pairs[slot][0]
        self.member.room(len(self.registry.meter_index))
        self.enlist(state, np.array(self.registry.members.get(area, []), np.int32))
        meters = np.array(state.members, np.int32)
        if day in state.blocks:
            block = self.block(state, day, state.second)
            cells = {name: a[..., block.base : block.base + len(meters)] for name, a in self.rows.arrays.items()}
        else:
            unread = Cells(**self.rows.empty)
            unread.room(len(meters))
            cells = {name: a[..., : len(meters)] for name, a in unread.arrays.items()}
        rows = self.registry.meters.rows(meters, np.full(len(meters), end - 1))
        master = self.registry.meters.at(rows)
        present = ((rows > 0) & (end <= master["member_until"])) | (cells["reads"] > 0)
        expected = np.maximum((end - start) / np.fmax(master["interval_s"], self.interval), 1)
        columns = day_columns(cells, expected)
        spikes = int(np.count_nonzero(columns.pop("spike")[present]))
        totals = area_day(columns, cells, master["ratio"], master["is_gateway"] == 1, present)
        days = {name: column[present] for name, column in columns.items()}
        return AreaDay(end, meters[present], days, totals, spikes)


def apparent(r: Readings, master: dict[str, Column]) -> Column:
    """Secondary kVA per row from P and Q, else from U and I, else from I at nominal voltage; NaN without any.

    A three-wire meter's two elements measure line voltages: U and I of both make 2/sqrt(3) of the apparent power.
    """
    u, i, p, q, un = r.u, r.i, r.p, r.q, master["un"]
    absent = np.isnan(i)
    if unknown(i):
        kva = np.full(i.shape[1], np.nan)
    else:
        volts = np.broadcast_to(un, i.shape) if unknown(u) else np.where(np.isnan(u), un, u)
        product = volts * np.abs(i)
        blind = absent.all(axis=0) | (np.isnan(product) & ~absent).any(axis=0)
        wires = np.where(master["three_wire"] == 1, np.sqrt(3) / 2, 1)
        kva = np.where(blind, np.nan, zeroed(product).sum(axis=0, dtype=np.float64) / 1000 * wires)
    if unknown(p) or unknown(q):
        return kva
    missing = np.isnan(p)
    told = ~((missing & ~absent).any(axis=0) | missing.all(axis=0) | np.isnan(q).all(axis=0))
    total_p, total_q = (zeroed(c).sum(axis=0, dtype=np.float64) for c in (p, q))
    return np.where(told, np.hypot(total_p, total_q), kva)


def facts_of(r: Readings, master: dict[str, Column], interval: int) -> Facts:
    """What the grid files of readings; the master columns are as of each row's time."""
    kva = apparent(r, master) * master["ratio"]
    none = np.zeros(len(r), bool)
    voltless, powerless = unknown(r.u), unknown(r.p)
    back = np.zeros(len(r), np.int64)
    if not powerless:
        flow = zeroed(r.p).sum(axis=0, dtype=np.float64) * np.fmax(master["interval_s"], interval) / HOUR
        back = np.rint(np.maximum(-flow, 0) * 1e6).astype(np.int64)
    volted = none if voltless else np.any(~np.isnan(r.u), axis=0)
    live = none if voltless else np.any(r.u > 0.5 * master["un"], axis=0)
    read = r.status != Status.ESTIMATED
    return Facts(r.kwh, r.i * master["ratio"], kva, back, read, volted, live, master["is_gateway"] == 1)


def unknown(column: Column) -> bool:
    """Whether a column was never given."""
    return constant(column) and bool(np.isnan(column[..., 0]).all())


def zeroed(column: Column) -> Column:
    """The column with 0 for NaN."""
    return np.where(np.isnan(column), column.dtype.type(0), column)


def day_columns(cells: dict[str, Array], expected: Column) -> dict[str, Column]:
    """The Days columns of every member; `expected` is how many intervals a full day has."""
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
            "spike": spike.astype(float)}  # fmt: skip


def area_day(
    days: dict[str, Column], cells: dict[str, Array], ratio: Column, gateway: Mask, present: Mask
) -> tuple[float, float, float]:
    """Energy in, energy out in primary kWh, and the lesser coverage of gateway and users; NaN without a gateway."""
    users = present & ~gateway
    if not (gateway & present).any() or not users.any() or np.isnan(ratio[users]).all():
        return np.nan, np.nan, np.nan
    micro = np.rint(zeroed(days["kwh"]) * zeroed(ratio) * 1e6).astype(np.int64)
    sent = np.rint(cells["back"] * zeroed(ratio)).astype(np.int64)
    energy_in = int(micro[gateway].sum()) - int(sent[gateway].sum()) + int(sent[users].sum())
    coverage = min(float(days["coverage"][gateway].mean()), float(days["coverage"][users].mean()))
    return energy_in / 1e6, int(micro[users].sum()) / 1e6, coverage


def lone(whose: Codes, at: Times, latest: int, since: int) -> Times:
    """Since when, before each row, only readings of its meter came; those of `latest` came since `since`.

    >>> lone(np.array([7, 7, 8]), np.array([30, 40, 45]), 7, 20).tolist()
    [20, 20, 45]
    """
    rows = np.arange(len(whose))
    starts = np.maximum.accumulate(np.where(np.diff(whose, prepend=-2) != 0, rows, 0))
    return np.where((starts == 0) & (whose[0] == latest), since, at[starts])


def waves(slots: Codes) -> Iterator[Codes]:
    """Row numbers in parts that hold each slot at most once, every slot's rows in order of arrival."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    if len(starts) == len(slots):
        if len(slots):
            yield np.arange(len(slots))
        return
    turn = np.arange(len(slots)) - np.repeat(starts, np.diff(starts, append=len(slots)))
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

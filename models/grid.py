"""The open days of every transformer area: what was read in which interval, when a window closes, what amends it.

An area's clock is the second-highest stamp of its meters, so that no single meter's clock moves it. An interval closes
one interval after its end, a day one hour after midnight, both on the area's clock. Later rows amend a closed window,
judged again at the area's next full hour, until the grace period seals its day. All sums are of integers or in a fixed
order, so that the order of arrival cannot change them.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from models.calendar import day_of, midnights
from models.cells import Array, Cells
from models.registry import Registry
from schemas.columns import AreaDays, Codes, Column, Days, Intervals, Mask, Readings, Times

HOUR, DAY = 3600, 86_400
DAY_PATIENCE = HOUR
SKIPPED_DAYS = 31  # silent days in a row that are closed as unread; more are passed over
AHEAD_DAYS = 2  # open days beyond tomorrow that one area may hold
TENTH_MILLI = 10_000


class Window(NamedTuple):
    """Something that became due on an area's clock, with the rows of its windows as they stand now."""

    area: int
    what: str  # interval, day, amend or seal
    day: int
    intervals: list[tuple[Any, ...]]  # rows of Intervals: at, A, B, C, kva, gateway, coverage
    days: list[tuple[int, Codes, dict[str, Column], tuple[float, float, float]]]  # midnight, meters, Days, AreaDays


class Group(NamedTuple):
    """The rows of one area in a batch, in order of arrival, with the area's clock before and after each."""

    area: int
    rows: Codes
    clock: Times  # one longer than rows


class Block:
    """One area's local day: members by intervals."""

    def __init__(self, start: int, end: int, interval: int, members: int) -> None:
        self.start, self.end, self.interval = start, end, interval
        n = -(-(end - start) // interval)
        self.members = Cells(
            kwh=np.full(n, np.nan, np.float32), seen=np.zeros(n, bool), reads=np.int32(0), volted=np.int32(0),
            live=np.int32(0), export=np.int64(0),
        )  # fmt: skip
        self.members.room(members)
        self.amps = np.zeros((3, n), np.int64)  # users' sum, 0.1 mA primary
        self.milli_va = np.zeros(n, np.int64)
        self.counted = np.zeros(n, np.int64)  # users in the sums
        self.gateway = np.full((4, n), np.nan)  # A, B, C in A and kVA, primary
        self.closed = False

    def saved(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return {"span": [self.start, self.end, self.interval], "members": self.members.state(), "amps": self.amps,
                "milli_va": self.milli_va, "counted": self.counted, "gateway": self.gateway,
                "closed": self.closed}  # fmt: skip

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Block:
        """A block from what `saved` gave."""
        block = cls(*saved["span"], 0)
        block.members.load(saved["members"])
        for name in ("amps", "milli_va", "counted", "gateway"):
            setattr(block, name, np.array(saved[name]))
        block.closed = saved["closed"]
        return block


class AreaState:
    """What is remembered of one area."""

    def __init__(self) -> None:
        self.top, self.holder, self.second = 0, -1, 0  # highest stamp, whose it is, the area's clock
        self.closed_to = 0  # intervals that end by then are closed
        self.last_day = 0  # last closed day, 0 before the first
        self.sealed_day = 0
        self.members: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.dirty: set[int] = set()

    def saved(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return vars(self) | {
            "blocks": {day: block.saved() for day, block in self.blocks.items()}, "dirty": sorted(self.dirty),
        }  # fmt: skip

    @classmethod
    def load(cls, saved: dict[str, Any]) -> AreaState:
        """A state from what `saved` gave."""
        state = cls()
        vars(state).update(saved)
        state.blocks = {day: Block.load(block) for day, block in saved["blocks"].items()}
        state.dirty = set(saved["dirty"])
        return state


class Grid:
    """The areas' clocks and open days."""

    def __init__(self, registry: Registry, zone: str, interval: int, grace: int) -> None:
        self.registry, self.zone, self.interval, self.grace = registry, zone, interval, grace
        self.midnights = midnights(zone)
        self.areas: dict[int, AreaState] = {}
        self.member = Cells(number=np.int32(-1))  # of a meter slot in its area

    def area(self, slot: int) -> AreaState:
        """The state of an area, new if need be."""
        return self.areas.setdefault(slot, AreaState())

    def clock(self, slot: int) -> int:
        """How far the area has come."""
        return self.areas[slot].second if slot in self.areas else 0

    def advance(self, areas: Codes, meters: Codes, at: Times, moves: Mask) -> tuple[list[Group], Times, Mask]:
        """Move the areas' clocks by the rows that may; the clock before each row, and which came after their seal."""
        late, now = np.zeros(len(at), bool), np.zeros(len(at), np.int64)
        groups = []
        for slot, rows in grouped(areas):
            state = self.area(slot)
            stamps = np.where(moves[rows], at[rows], 0)
            high = np.maximum.accumulate(np.r_[state.top, stamps])
            rising = np.r_[True, stamps > high[:-1]]
            turns = np.maximum.accumulate(np.where(rising, np.arange(len(rising)), 0))
            holders = np.r_[state.holder, meters[rows]][turns]
            rival = (holders[:-1] != meters[rows]) | self.alone(slot)
            clock = np.maximum.accumulate(np.r_[state.second, np.where(rival, np.minimum(stamps, high[:-1]), 0)])
            state.top, state.holder, state.second = int(high[-1]), int(holders[-1]), int(clock[-1])
            ends = self.midnights[day_of(np.where(moves[rows], at[rows], 0), self.zone) + 1]
            now[rows] = clock[:-1]
            late[rows] = moves[rows] & (ends + self.grace <= clock[:-1])
            groups.append(Group(slot, rows, clock))
        return groups, now, late

    def alone(self, slot: int) -> bool:
        """Whether the area has a single meter by the master data."""
        area = self.registry.areas.get(self.registry.area_index.pairs[slot][0])
        return area is not None and len({m.meter for m in area.meters}) == 1

    def fill(
        self, groups: list[Group], r: Readings, meters: Codes, master: dict[str, Column], in_order: Mask, kept: Mask
    ) -> tuple[Mask, Iterator[list[Window]]]:
        """Write the kept rows into their days; which rows were there already, and in rounds the windows now due."""
        again = np.zeros(len(r), bool)
        self.member.room(int(meters.max(initial=-1)) + 1)
        due: list[list[Window]] = []
        for slot, rows, clock in groups:
            state = self.areas[slot]
            steps = (clock - self.interval) // self.interval
            cuts = np.flatnonzero(np.diff(steps)) + 1
            windows: list[Window] = []
            for part, after in zip(np.split(np.arange(len(rows)), cuts), np.r_[cuts, len(rows)], strict=True):
                pick = rows[part]
                if not (use := kept[pick]).all():
                    pick = pick[use]
                if len(pick):
                    again[pick] = self.write(slot, state, r, pick, meters[pick], master, in_order[pick])
                windows += self.close(slot, state, int(clock[after]))
            due.append(windows)
        return again, rounds(due)

    def enlist(self, state: AreaState, meters: Codes) -> Codes:
        """The member numbers of some meters, new if need be."""
        numbers = self.member["number"][meters]
        if (numbers < 0).any():
            for meter in meters[numbers < 0].tolist():
                if self.member["number"][meter] < 0:
                    self.member["number"][meter] = len(state.members)
                    state.members.append(meter)
            numbers = self.member["number"][meters]
        return numbers

    def block(self, state: AreaState, day: int) -> Block:
        """The block of a day, new if need be; of many days ahead of the clock only the nearest are kept."""
        if day not in state.blocks:
            today = int(day_of(np.int64(state.second), self.zone))
            ahead = sorted(d for d in {*state.blocks, day} if d > today + 1) if state.second else []
            for far in ahead[AHEAD_DAYS:]:
                state.blocks.pop(far, None)
            start, end = int(self.midnights[day]), int(self.midnights[day + 1])
            block = Block(start, end, self.interval, len(state.members))
            block.closed = bool(state.last_day) and day <= state.last_day
            state.blocks[day] = block
        return state.blocks[day]

    def write(
        self, slot: int, state: AreaState, r: Readings, rows: Codes, meters: Codes, master: dict[str, Column],
        in_order: Mask,
    ) -> Mask:  # fmt: skip
        """Write one area's rows; which of them were there already."""
        members = self.enlist(state, meters)
        days = day_of(r.at[rows], self.zone)
        again = np.zeros(len(rows), bool)
        for day in np.unique(days).tolist():
            here = np.flatnonzero(days == day)
            block = self.block(state, day)
            block.members.room(len(state.members))
            step = (r.at[rows[here]] - block.start - 1) // block.interval
            _, first = np.unique(members[here].astype(np.int64) * 100_000 + step, return_index=True)
            repeat = np.ones(len(here), bool)
            repeat[first] = False
            for part in (~repeat, *(np.arange(len(here)) == n for n in np.flatnonzero(repeat))):
                if part.any():
                    pick = here[part]
                    again[pick] = self.write_once(
                        state, block, r, rows[pick], members[pick], step[part], master, in_order[pick]
                    )
            if (~again[here]).any() and (block.closed or (r.at[rows[here]] <= state.closed_to).any()):
                state.dirty.add(day)
        return again

    def write_once(
        self, state: AreaState, block: Block, r: Readings, rows: Codes, members: Codes, step: Codes,
        master: dict[str, Column], in_order: Mask,
    ) -> Mask:  # fmt: skip
        """Write rows of one day, each of another member or interval; which of them were there already."""
        cells = block.members
        kwh, before = r.kwh[rows], cells["kwh"][step, members]
        seen = cells["seen"][step, members]
        revised = seen & ~in_order & ~np.isnan(kwh) & ~np.isnan(before) & (kwh != before)
        again = seen & ~in_order & ~revised
        added = np.where(seen & in_order & ~np.isnan(before), before + np.nan_to_num(kwh), np.where(again, before, kwh))
        cells["kwh"][step, members] = added
        cells["seen"][step, members] = True
        fresh = ~seen | (in_order & seen)
        rows, members, step = rows[fresh], members[fresh], step[fresh]
        u, i = r.u[:, rows].astype(float), r.i[:, rows].astype(float)
        volted = ~np.isnan(u).all(axis=0)
        un = master["un"][rows]
        np.add.at(cells["reads"], members, 1)
        np.add.at(cells["volted"], members, volted)
        np.add.at(cells["live"], members, volted & (u > 0.5 * un).any(axis=0))
        p = r.p[:, rows].astype(float)
        back = np.maximum(-np.nan_to_num(p).sum(axis=0), 0) * block.interval / HOUR
        np.add.at(cells["export"], members, np.rint(back * 1e6).astype(np.int64))
        amps = i * master["ratio"][rows]
        kva = apparent(u, i, p, r.q[:, rows].astype(float), un) * master["ratio"][rows]
        gateway = master["is_gateway"][rows] == 1
        block.gateway[:, step[gateway]] = np.vstack([amps, kva])[:, gateway]
        known = ~gateway & ~np.isnan(kva) & ~np.isnan(amps).all(axis=0)
        where = step[known]
        np.add.at(block.counted, where, 1)
        np.add.at(block.milli_va, where, np.rint(kva[known] * 1e6).astype(np.int64))
        for phase in range(3):
            np.add.at(block.amps[phase], where, np.rint(np.nan_to_num(amps[phase, known]) * TENTH_MILLI).astype(np.int64))
        return again

    def close(self, slot: int, state: AreaState, clock: int) -> list[Window]:
        """What became due as the area's clock reached `clock`."""
        due: list[Window] = []
        before, until = state.closed_to, (clock - self.interval) // self.interval * self.interval
        if until <= before or not state.blocks:
            return due
        state.closed_to = until
        if rows := self.interval_rows(slot, state, before, until):
            due.append(Window(slot, "interval", 0, rows, []))
        if not state.last_day:
            state.last_day = state.sealed_day = min(state.blocks) - 1
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
        for day in [d for d in state.blocks if d <= state.sealed_day]:
            del state.blocks[day]
        return due

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        return {"areas": {slot: state.saved() for slot, state in self.areas.items()}, "member": self.member.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.areas = {slot: AreaState.load(saved) for slot, saved in state["areas"].items()}
        self.member.load(state["member"])

    def interval_rows(self, slot: int, state: AreaState, after: int, until: int) -> list[tuple[Any, ...]]:
        """The area's intervals with data that end in (after, until]."""
        rows: list[tuple[Any, ...]] = []
        for day in sorted(state.blocks):
            block = state.blocks[day]
            if block.end <= after or block.start >= until:
                continue
            ends = block.start + self.interval * np.arange(1, len(block.counted) + 1)
            metered = ~np.isnan(block.gateway[3])
            for k in np.flatnonzero((ends > after) & (ends <= until) & (metered | (block.counted > 0))).tolist():
                if metered[k]:
                    rows.append((int(ends[k]), *block.gateway[:, k].tolist(), 1.0, 1.0))
                else:
                    amps = (block.amps[:, k] / TENTH_MILLI).tolist()
                    users = max(len(state.members), 1)
                    rows.append((int(ends[k]), *amps, block.milli_va[k] / 1e6, 0.0, block.counted[k] / users))
        return rows

    def day_row(
        self, slot: int, state: AreaState, day: int
    ) -> tuple[int, Codes, dict[str, Column], tuple[float, float, float]]:
        """The day's Days columns by meter and its AreaDays row."""
        end = int(self.midnights[day + 1])
        area = self.registry.area_index.pairs[slot][0]
        self.member.room(len(self.registry.meter_index))
        self.enlist(state, np.array(self.registry.members.get(area, []), np.int32))
        meters = np.array(state.members, np.int32)
        block = state.blocks.get(day) or Block(int(self.midnights[day]), end, self.interval, 0)
        block.members.room(len(meters))
        cells = {name: array[..., : len(meters)] for name, array in block.members.arrays.items()}
        rows = self.registry.meters.rows(meters, np.full(len(meters), end - 1))
        master = self.registry.meters.at(rows)
        present = ((rows > 0) & (end <= master["member_until"])) | (cells["reads"] > 0)
        columns = day_columns(block, cells, np.where(rows > 0, master["interval_s"], self.interval))
        ratio = np.where(rows > 0, master["ratio"], np.nan)
        totals = area_day(columns, cells, ratio, master["is_gateway"] == 1, present)
        return end, meters[present], {name: column[present] for name, column in columns.items()}, totals


def apparent(u: Column, i: Column, p: Column, q: Column, un: Column) -> Column:
    """Secondary kVA per row from P and Q, else from U and I, else from I at nominal voltage; NaN without a current."""
    volts = np.where(np.isnan(u), un, u)
    from_ui = np.nansum(volts * np.abs(i), axis=0) / 1000
    blind = np.isnan(i).all(axis=0) | (np.isnan(volts) & ~np.isnan(i)).any(axis=0)
    from_pq = np.hypot(np.nansum(p, axis=0), np.nansum(q, axis=0))
    has_pq = ~(np.isnan(p) & ~np.isnan(i)).any(axis=0) & ~np.isnan(q).all(axis=0) & ~np.isnan(p).all(axis=0)
    return np.where(has_pq, from_pq, np.where(blind, np.nan, from_ui))


def day_columns(block: Block, cells: dict[str, Array], interval_s: Column) -> dict[str, Column]:
    """The Days columns of every member."""
    kwh = cells["kwh"].T.astype(np.float64)
    expected = np.maximum((block.end - block.start) / interval_s, 1)
    coverage = np.minimum(cells["seen"].sum(axis=0) / expected, 1)
    told = (~np.isnan(kwh)).sum(axis=1)
    filled = np.nan_to_num(kwh)
    total = np.where(told >= expected / 2, filled.sum(axis=1), np.nan)
    nights = filled[:, : 6 * HOUR // block.interval].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        night = np.where(total > 0, nights / total, np.nan)
        peak = np.where(total > 0, filled.max(axis=1, initial=0) * told / total, np.nan)
        live = np.where(cells["volted"] > 0, cells["live"] / cells["volted"], np.nan)
    return {"kwh": total, "coverage": coverage, "reads": cells["reads"].astype(float), "live": live, "night": night,
            "peak": peak}  # fmt: skip


def area_day(
    days: dict[str, Column], cells: dict[str, Array], ratio: Column, gateway: Mask, present: Mask
) -> tuple[float, float, float]:
    """Energy in, energy out in primary kWh, and the lesser coverage of gateway and users; NaN without a gateway."""
    users = present & ~gateway
    if not (gateway & present).any() or not users.any() or np.isnan(ratio[users]).all():
        return np.nan, np.nan, np.nan
    micro = np.rint(np.nan_to_num(days["kwh"]) * np.nan_to_num(ratio) * 1e6).astype(np.int64)
    sent = np.rint(cells["export"] * np.nan_to_num(ratio)).astype(np.int64)
    energy_in = int(micro[gateway].sum()) - int(sent[gateway].sum()) + int(sent[users].sum())
    coverage = min(float(days["coverage"][gateway].mean()), float(days["coverage"][users].mean()))
    return energy_in / 1e6, int(micro[users].sum()) / 1e6, coverage


def grouped(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Each code with its rows, in order of arrival."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(ordered[start]), order[start:end]


def rounds(due: list[list[Window]]) -> Iterator[list[Window]]:
    """The first window of every area, then the second, and so on."""
    for n in range(max(map(len, due), default=0)):
        yield [windows[n] for windows in due if n < len(windows)]

"""Items that should be done by a moment, and the marks on the way at which they are judged though nothing happens.

What is told of an item is kept, and everything else is computed from it: the answer does not depend on the order in
which it is told.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.cells import Cells
from models.index import Index
from schemas.columns import Arrears, Batch, Codes, Overdue, Payments, Progress, Stages, Times
from schemas.columns import Payment as PaymentKind

HOUR, DAY = 3600, 86_400
NEVER = 2**62
ORPHANED = 40 * DAY  # after which an end without a start, or a payment without its bill, is forgotten
Timeline = tuple[Codes, Times, dict[str, Any]]  # slots, when, and the columns of a kind
STAGE_LIMITS = {"reading": DAY, "checking": DAY, "review": DAY, "issue": 5 * DAY, "collection": 20 * DAY}
STAGE_MARKS = (0.8, 1.0, 2.0)  # shares of the limit
ARREARS_MARKS = (1.0, 7.0, 15.0, 30.0)  # days after the due date


class Visit(NamedTuple):
    """From `start` until `done`; a mark is at start + mark * unit, and a unit of 0 has none."""

    start: int
    unit: float
    done: int  # NEVER while it is open


class WorkItem(msgspec.Struct):
    """What was told of a work item in a stage, which may be entered again."""

    starts: dict[int, float] = {}  # the limit by time
    ends: list[int] = []

    def visits(self) -> list[Visit]:
        """Each start with the first end after it; a start while the stage is open tells nothing new."""
        visits: list[Visit] = []
        for start in sorted(self.starts):
            if not visits or visits[-1].done <= start:
                done = min((end for end in self.ends if end >= start), default=NEVER)
                visits.append(Visit(start, self.starts[start], done))
        return visits

    def row(self, visit: Visit, at: int, mark: float) -> tuple[float, ...]:
        """The columns of Overdue."""
        return mark, visit.unit / HOUR


class Bill(msgspec.Struct):
    """What was told of a bill: its latest issue, and what was paid on it."""

    issued: tuple[int, int, float] = (0, 0, 0.0)  # when, due and yuan
    paid: list[tuple[int, float]] = []  # when and yuan

    def visits(self) -> list[Visit]:
        """From the due date until the amount was paid; none before it was issued, and no marks without a due date."""
        issued, due, amount = self.issued
        return [Visit(due, DAY if due else 0, settled(self.paid, amount))] if issued else []

    def row(self, visit: Visit, at: int, mark: float) -> tuple[float, ...]:
        """The columns of Arrears."""
        return mark, self.issued[2] - sum(amount for when, amount in self.paid if when <= at)


class Told(NamedTuple):
    """What a batch told: the items concerned, the rows that told nothing new, and those that came too late."""

    touched: set[int]
    again: list[int]
    late: list[int]


class Deadlines:
    """The items of one kind, by slot."""

    kind: type[Batch]
    columns: tuple[str, ...]
    marks: tuple[float, ...]
    item: type[Any]

    def __init__(self, index: Index) -> None:
        self.index = index
        self.items: dict[int, Any] = {}
        self.cells = Cells(
            area=np.int32(-1),
            due=np.int64(NEVER),  # its next mark
            ended=np.int64(NEVER),  # when its last visit ended
            expires=np.int64(NEVER),  # when it is forgotten though it never began
        )  # fmt: skip
        self.earliest: Times = np.zeros(0, np.int64)  # next mark by area

    def open(self, area: str, item: str, at: int, sealed: int) -> int:
        """The slot of an item; -1 when a row of time `at` comes too late for one that is done or was never known."""
        known = self.index.known.get(area, {}).get(item, -1)
        if at < sealed and (known < 0 or self.cells["ended"][known] < sealed):
            return -1
        slot = self.index.slot(area, item)
        self.cells.room(slot + 1)
        return slot

    def note(self, told: Told, row: int, slot: int, area: int, at: int, *, new: bool) -> None:
        """File a row by whether it told something new of its item."""
        cells, visits = self.cells, self.items[slot].visits()
        cells["area"][slot] = area
        cells["ended"][slot] = visits[-1].done if visits else NEVER
        cells["expires"][slot] = NEVER if visits else at + ORPHANED
        if new:
            told.touched.add(slot)
        else:
            told.again.append(row)

    def due(self, clock: Times) -> Codes:
        """Items that passed a mark since they were last judged; `clock` is by area slot."""
        if len(self.earliest) < len(clock):
            self.survey(len(clock))
        if not (self.earliest <= clock).any():
            return np.zeros(0, np.int64)
        area, due = self.cells["area"][: len(self.index)], self.cells["due"][: len(self.index)]
        return np.flatnonzero((area >= 0) & (due <= clock[area]))

    def timeline(self, slots: Codes, clock: Times) -> Timeline:
        """Every row of some items so far: slot, when, and its columns; an end is a row of mark 0."""
        rows: list[tuple[Any, ...]] = []
        for slot in slots.tolist():
            item, now, due = self.items[slot], int(clock[self.cells["area"][slot]]), NEVER
            for visit in item.visits():
                until = now if visit.done == NEVER else visit.done - 1
                for mark in self.marks if visit.unit else ():
                    at = visit.start + round(mark * visit.unit)
                    if at <= until:
                        rows.append((slot, at, *item.row(visit, at, mark)))
                    elif visit.done == NEVER:
                        due = min(due, at)
                if visit.done < NEVER:
                    rows.append((slot, visit.done, *item.row(visit, visit.done, 0.0)))
            self.cells["due"][slot] = due
        self.survey(len(clock))
        where, at, *columns = zip(*rows, strict=True) if rows else ((),) * (2 + len(self.columns))
        return np.array(where, np.int64), np.array(at, np.int64), dict(zip(self.columns, columns, strict=True))

    def survey(self, areas: int) -> None:
        """Find each area's next mark."""
        self.earliest = np.full(areas, NEVER)
        area, due = self.cells["area"][: len(self.index)], self.cells["due"][: len(self.index)]
        np.minimum.at(self.earliest, area[area >= 0], due[area >= 0])

    def finished(self, clock: Times, grace: int) -> Codes:
        """Items that ended so long ago that nothing can change them, or never began."""
        c = {name: array[: len(self.index)] for name, array in self.cells.arrays.items()}
        now = clock[c["area"]]
        over = (c["ended"] < NEVER) & (np.minimum(c["ended"], now) + grace < now)
        return np.flatnonzero((c["area"] >= 0) & (over | (c["expires"] < now)))

    def forget(self, slots: Codes) -> None:
        """Drop some items."""
        self.cells.clear(slots)
        self.index.release(slots)
        for slot in slots.tolist():
            del self.items[slot]
        self.earliest = self.earliest[:0]

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        return {"cells": self.cells.state(), "items": self.items}

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.cells.load(state["cells"])
        self.items = {slot: msgspec.convert(saved, self.item) for slot, saved in state["items"].items()}
        self.earliest = np.zeros(0, np.int64)


class Work(Deadlines):
    """Work items by stage."""

    kind, columns, marks, item = Overdue, ("share", "limit_hours"), STAGE_MARKS, WorkItem

    def fold(self, batch: Stages, areas: Codes, sealed: Times) -> Told:
        """Note starts and ends; `sealed` is by row the time before which what has ended cannot change any more."""
        told = Told(set(), [], [])
        for n in range(len(batch)):
            stage, at, limit = batch.stages[batch.stage[n]], int(batch.at[n]), float(batch.limit[n])
            slot = self.open(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{stage}", at, sealed[n])
            if slot < 0:
                told.late.append(n)
                continue
            item = self.items.setdefault(slot, WorkItem())
            if batch.progress[n] == Progress.STARTED:
                limit = limit if 0 < limit < np.inf else float(STAGE_LIMITS.get(stage, 0))
                new = limit > item.starts.get(at, -1)
                item.starts[at] = max(item.starts.get(at, 0.0), limit)
            elif new := at not in item.ends:
                item.ends.append(at)
            self.note(told, n, slot, areas[n], at, new=new)
        return told


class Bills(Deadlines):
    """Bills until they are paid."""

    kind, columns, marks, item = Arrears, ("overdue_days", "unpaid"), ARREARS_MARKS, Bill

    def fold(self, batch: Payments, areas: Codes, sealed: Times) -> Told:
        """Note bills and what was paid on them; `sealed` is by row the time before which a paid bill cannot change."""
        told = Told(set(), [], [])
        for n in range(len(batch)):
            kind, name, at = int(batch.payment[n]), batch.bills[batch.bill[n]], int(batch.at[n])
            issued = kind == PaymentKind.BILL
            if not name or not (issued or (kind == PaymentKind.PAYMENT and batch.succeeded[n])):
                continue
            slot = self.open(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{name}", at, sealed[n])
            if slot < 0:
                told.late.append(n)
                continue
            bill = self.items.setdefault(slot, Bill())
            amount = float(np.nan_to_num(batch.amount[n]))
            news = (at, int(batch.due[n]), amount) if issued else (at, amount)
            new = news > bill.issued if issued else news not in bill.paid
            if issued and new:
                bill.issued = news
            elif new:
                bill.paid.append(news)
            self.note(told, n, slot, areas[n], at, new=new)
        return told


def settled(paid: list[tuple[int, float]], amount: float) -> int:
    """When what was paid reached the amount, or never.

    >>> settled([(20, 60.0), (10, 50.0)], 100.0)
    20
    """
    total = 0.0
    for at, part in sorted(paid):
        total += part
        if total >= amount - 0.005:
            return at
    return NEVER

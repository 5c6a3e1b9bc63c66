"""Items that should be done by a moment, and the marks on the way at which they are judged though nothing happens."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.cells import Cells
from models.index import Index
from schemas.columns import Codes, Column, Payments, Progress, Stages, Times
from schemas.columns import Payment as PaymentKind

DAY = 86_400
NEVER = 2**62
STAGE_LIMITS = {"reading": DAY, "checking": DAY, "review": DAY, "issue": 5 * DAY, "collection": 20 * DAY}
STAGE_MARKS = (0.8, 1.0, 2.0)  # shares of the limit
ARREARS_MARKS = (1.0, 7.0, 15.0, 30.0)  # days after the due date


class Told(NamedTuple):
    """What a batch told: the items concerned, the rows that told nothing new, and those that came too late."""

    touched: set[int]
    again: list[int]
    late: list[int]

    def note(self, row: int, slot: int, new: bool) -> None:
        """File a row by whether it told something new of its item."""
        if not new:
            self.again.append(row)
        else:
            self.touched.add(slot)


class Deadlines:
    """Starts, ends and marks of the items of one kind; the answer does not depend on the order of what is told."""

    def __init__(self, index: Index, marks: tuple[float, ...]) -> None:
        self.index, self.marks = index, marks
        self.cells = Cells(
            start=np.int64(NEVER), unit=np.float64(np.nan),  # a mark is at start + mark * unit
            done=np.int64(NEVER), fired=np.int64(0), amount=np.float64(np.nan), area=np.int32(-1),
        )  # fmt: skip

    def due(self, clock: Times) -> Codes:
        """Items that passed a mark since they were last judged; `clock` is by area slot."""
        n = len(self.index)
        self.cells.room(n)
        c = {name: array[..., :n] for name, array in self.cells.arrays.items()}
        now = np.where(c["area"] >= 0, clock[c["area"]], 0)
        last = np.where(c["done"] < NEVER, c["done"] - 1, now)
        marks = self.times(np.arange(n))
        return np.flatnonzero(((marks <= last) & (marks > c["fired"])).any(axis=0))

    def times(self, slots: Codes) -> Times:
        """When the marks of some items are, as (marks, items)."""
        start, unit = self.cells["start"][slots], self.cells["unit"][slots]
        known = (start < NEVER) & ~np.isnan(unit)
        ahead = np.rint(np.array(self.marks)[:, None] * np.where(known, unit, 0)).astype(np.int64)
        return np.where(known, np.where(known, start, 0) + ahead, NEVER)

    def timeline(self, slots: Codes, clock: Times) -> tuple[Codes, Times, Column]:
        """Every row of some items so far: slot, when, and the mark it passed, or 0 where it was done."""
        marks = self.times(slots)
        done, now = self.cells["done"][slots], clock[self.cells["area"][slots]]
        passed = marks <= np.where(done < NEVER, done - 1, now)
        n, k = np.nonzero(passed.T)
        self.cells["fired"][slots] = np.where(passed, marks, 0).max(axis=0, initial=0)
        finished = np.flatnonzero((done < NEVER) & (self.cells["start"][slots] < NEVER))
        where = np.concatenate([slots[n], slots[finished]])
        at = np.concatenate([marks[k, n], done[finished]])
        mark = np.concatenate([np.array(self.marks)[k], np.zeros(len(finished))])
        order = np.lexsort((at, where))
        return where[order], at[order], mark[order]

    def open(self, area: str, item: str, at: int, sealed: int) -> int:
        """The slot of an item; -1 when a row of time `at` comes too late for one that is done or was never known."""
        known = self.index.known.get(area, {}).get(item, -1)
        if known < 0 and at < sealed:
            return -1
        slot = self.index.slot(area, item)
        self.cells.room(slot + 1)
        return -1 if known >= 0 and self.cells["done"][slot] < sealed else slot

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        return {"cells": self.cells.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.cells.load(state["cells"])

    def finished(self, clock: Times, grace: int) -> Codes:
        """Items that ended so long ago that nothing can change them."""
        n = len(self.index)
        area, done = self.cells["area"][:n], self.cells["done"][:n]
        return np.flatnonzero((area >= 0) & (done < NEVER) & (done + grace < clock[area]))

    def forget(self, slots: Codes) -> None:
        """Drop some items."""
        self.cells.clear(slots)
        self.index.release(slots)


class Work(Deadlines):
    """Work items by stage."""

    def __init__(self, index: Index) -> None:
        super().__init__(index, STAGE_MARKS)

    def fold(self, batch: Stages, areas: Codes, sealed: Times) -> Told:
        """Note starts and ends; `sealed` is by row the time before which what has ended cannot change any more."""
        told = Told(set(), [], [])
        for n in range(len(batch)):
            stage, at, limit = batch.stages[batch.stage[n]], int(batch.at[n]), float(batch.limit[n])
            slot = self.open(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{stage}", at, sealed[n])
            if slot < 0:
                told.late.append(n)
                continue
            c = self.cells
            c["area"][slot] = areas[n]
            before = int(c["start"][slot]), int(c["done"][slot])
            if batch.progress[n] == Progress.STARTED:
                c["start"][slot] = min(before[0], at)
                c["unit"][slot] = limit if 0 < limit < np.inf else STAGE_LIMITS.get(stage, np.nan)
            else:
                c["done"][slot] = min(before[1], at)
            told.note(n, slot, before != (c["start"][slot], c["done"][slot]))
        return told

    def columns(self, slots: Codes, mark: Column) -> dict[str, Any]:
        """The columns of Overdue."""
        return {"share": mark, "limit_hours": self.cells["unit"][slots] / 3600}


class Bills(Deadlines):
    """Bills until they are paid."""

    def __init__(self, index: Index) -> None:
        super().__init__(index, ARREARS_MARKS)
        self.paid: dict[int, list[tuple[int, float]]] = {}  # time and yuan by slot

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        return super().state() | {"paid": self.paid}

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        super().load(state)
        self.paid = {slot: [(at, amount) for at, amount in paid] for slot, paid in state["paid"].items()}

    def fold(self, batch: Payments, areas: Codes, sealed: Times) -> Told:
        """Note bills and what was paid on them; `sealed` is by row the time before which a paid bill cannot change."""
        told = Told(set(), [], [])
        for n in range(len(batch)):
            kind, bill, at = int(batch.payment[n]), batch.bills[batch.bill[n]], int(batch.at[n])
            issued = kind == PaymentKind.BILL
            if not bill or not (issued or (kind == PaymentKind.PAYMENT and batch.succeeded[n])):
                continue
            slot = self.open(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{bill}", at, sealed[n])
            if slot < 0:
                told.late.append(n)
                continue
            c, paid = self.cells, self.paid.setdefault(slot, [])
            c["area"][slot] = areas[n]
            row = at, float(np.nan_to_num(batch.amount[n]))
            if issued:
                known = c["start"][slot] == batch.due[n] and c["amount"][slot] == row[1]
                c["start"][slot], c["amount"][slot], c["unit"][slot] = batch.due[n], row[1], DAY
            elif not (known := row in paid):
                paid.append(row)
            c["done"][slot] = settled(paid, float(c["amount"][slot]))
            told.note(n, slot, not known)
        return told

    def forget(self, slots: Codes) -> None:
        """Drop some bills."""
        super().forget(slots)
        for slot in slots.tolist():
            self.paid.pop(slot, None)

    def columns(self, slots: Codes, mark: Column) -> dict[str, Any]:
        """The columns of Arrears."""
        start = self.cells["start"][slots] + (mark * DAY).astype(np.int64)
        paid = [
            sum(amount for at, amount in self.paid.get(slot, []) if at <= when)
            for slot, when in zip(slots.tolist(), start.tolist(), strict=True)
        ]
        return {"overdue_days": mark, "unpaid": self.cells["amount"][slots] - np.array(paid)}


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

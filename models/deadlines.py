"""Items that should be done by a moment, and the marks on the way at which they are judged though nothing happens."""
from __future__ import annotations

from typing import Any

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
        last = np.minimum(now, c["done"] - 1)
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
        passed = marks <= np.minimum(now, done - 1)
        n, k = np.nonzero(passed.T)
        self.cells["fired"][slots] = np.where(passed, marks, 0).max(axis=0, initial=0)
        finished = np.flatnonzero((done < NEVER) & (self.cells["start"][slots] < NEVER))
        where = np.concatenate([slots[n], slots[finished]])
        at = np.concatenate([marks[k, n], done[finished]])
        mark = np.concatenate([np.array(self.marks)[k], np.zeros(len(finished))])
        order = np.lexsort((at, where))
        return where[order], at[order], mark[order]

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

    def fold(self, batch: Stages, areas: Codes) -> tuple[Codes, Codes]:
        """Note starts and ends; the items concerned, and the rows that told nothing new."""
        c = self.cells
        touched: list[tuple[int, int]] = []
        again: list[tuple[int, int]] = []
        for n in range(len(batch)):
            stage = batch.stages[batch.stage[n]]
            slot = self.index.slot(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{stage}")
            c.room(slot + 1)
            at, limit = int(batch.at[n]), float(batch.limit[n])
            c["area"][slot] = areas[n]
            before = int(c["start"][slot]), int(c["done"][slot])
            if batch.progress[n] == Progress.STARTED:
                c["start"][slot] = min(before[0], at)
                c["unit"][slot] = limit if 0 < limit < np.inf else STAGE_LIMITS.get(stage, np.nan)
            else:
                c["done"][slot] = min(before[1], at)
            (again if before == (c["start"][slot], c["done"][slot]) else touched).append((n, slot))
        return (np.array(sorted({slot for _, slot in touched}), np.int64), np.array([n for n, _ in again], np.int64))

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

    def fold(self, batch: Payments, areas: Codes) -> tuple[Codes, Codes]:
        """Note bills and what was paid on them; the bills concerned, and the rows that told nothing new."""
        c = self.cells
        touched: list[int] = []
        again: list[int] = []
        for n in range(len(batch)):
            kind, bill = int(batch.payment[n]), batch.bills[batch.bill[n]]
            issued = kind == PaymentKind.BILL
            if not bill or not (issued or (kind == PaymentKind.PAYMENT and batch.succeeded[n])):
                continue
            slot = self.index.slot(batch.areas[batch.area[n]], f"{batch.names[batch.subject[n]]}/{bill}")
            c.room(slot + 1)
            c["area"][slot] = areas[n]
            row = int(batch.at[n]), float(np.nan_to_num(batch.amount[n]))
            paid = self.paid.setdefault(slot, [])
            if issued:
                known = c["start"][slot] == batch.due[n] and c["amount"][slot] == row[1]
                c["start"][slot], c["amount"][slot], c["unit"][slot] = batch.due[n], row[1], DAY
            else:
                known = row in paid
                if not known:
                    paid.append(row)
            if known:
                again.append(n)
                continue
            touched.append(slot)
            c["done"][slot] = settled(paid, float(c["amount"][slot]))
        return np.array(sorted(set(touched)), np.int64), np.array(again, np.int64)

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

"""Items that should be done by a moment, and the marks on the way at which they are judged though nothing happens.

What is told of an item is kept, and everything else is computed from it: the answer does not depend on the order in
which it is told.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from math import isfinite, isnan, nan
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.calendar import from_day_of_month, from_month_end
from models.cells import Cells
from models.index import Index
from models.registry import Registry
from models.tariffs import Used
from models.tariffs import amount as amount_of
from schemas.columns import (
    EARLIEST,
    LATEST,
    Batch,
    Codes,
    Invoices,
    Overdue,
    Payments,
    Progress,
    Stages,
    Times,
)
from schemas.columns import Payment as PaymentKind

HOUR, DAY = 3600, 86_400
NEVER = 2**62
UNTOLD = -1e15  # beyond what the wire lets through
ORPHANED = 40 * DAY  # after which an end without a start, or what ended and still is in trouble, is forgotten
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


class Issue(NamedTuple):
    """A bill as it was issued; what was not told is UNTOLD."""

    at: int
    due: int
    amount: float
    read_at: int
    read_register: float
    frozen_register: float
    used: tuple[float, ...]  # as Used


class Bill(msgspec.Struct):
    """What was told of a bill: how it was issued, perhaps again, and what was paid on it."""

    customer: str = ""
    issues: list[Issue] = []  # in order of time
    paid: list[tuple[int, float]] = []  # when and yuan

    def visits(self) -> list[Visit]:
        """From the due date until the amount was paid; none before it was issued, and no marks without a due date."""
        if not self.issues:
            return []
        last = self.issues[-1]
        return [Visit(last.due, DAY if last.due else 0, settled(self.paid, self.owed, last.at))]

    @property
    def owed(self) -> float:
        """Yuan of the latest issue, 0 when none were told."""
        return 0.0 if self.issues[-1].amount == UNTOLD else self.issues[-1].amount

    def unpaid(self, at: int) -> float:
        """Yuan that are open at a time."""
        return self.owed - sum(amount for when, amount in self.paid if when <= at)


class Moment(NamedTuple):
    """When an item is judged, whether that is certain though the moment has not come, and what is told of it then."""

    at: int
    certain: bool
    columns: tuple[float, ...]


class Told(NamedTuple):
    """What a batch told: the items concerned, the rows that told nothing new, and those that came too late."""

    touched: set[int]
    again: list[int]
    late: list[int]


class Deadlines:
    """The items of one kind, by slot."""

    kind: type[Batch]
    columns: tuple[str, ...]
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

    def timeline(self, slots: Codes, clock: Times) -> tuple[Codes, Times, dict[str, Any]]:
        """Every row of some items so far: slot, when, and its columns; an end is a row of mark 0."""
        rows: list[tuple[Any, ...]] = []
        for slot in slots.tolist():
            now, due = int(clock[self.cells["area"][slot]]), NEVER
            for at, certain, columns in sorted(self.moments(slot), key=itemgetter(0)):
                if certain or at <= now:
                    rows.append((slot, at, *columns))
                else:
                    due = min(due, at)
            self.cells["due"][slot] = due
        self.survey(len(clock))
        where, when, *told = zip(*rows, strict=True) if rows else ((),) * (2 + len(self.columns))
        return np.array(where, np.int64), np.array(when, np.int64), dict(zip(self.columns, told, strict=True))

    def moments(self, slot: int) -> Iterator[Moment]:
        """Every moment at which an item is judged, as far as is known."""
        raise NotImplementedError

    def survey(self, areas: int) -> None:
        """Find each area's next mark."""
        self.earliest = np.full(areas, NEVER)
        area, due = self.cells["area"][: len(self.index)], self.cells["due"][: len(self.index)]
        np.minimum.at(self.earliest, area[area >= 0], due[area >= 0])

    def finished(self, clock: Times, grace: int, troubled: Iterable[int]) -> Codes:
        """Items that ended so long ago that nothing can change them, or never began; those in trouble stay longer."""
        c = {name: array[: len(self.index)] for name, array in self.cells.arrays.items()}
        now, kept = clock[c["area"]], np.full(len(self.index), grace)
        kept[list(troubled)] = ORPHANED
        over = (c["ended"] < NEVER) & (np.minimum(c["ended"], now) + kept < now)
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

    kind, columns, item = Overdue, ("share", "limit_hours"), WorkItem

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

    def moments(self, slot: int) -> Iterator[Moment]:
        """Of every visit the marks and the end."""
        for visit in self.items[slot].visits():
            for at, certain, share in passing(visit, STAGE_MARKS):
                yield Moment(at, certain, (share, visit.unit / HOUR))


class Bills(Deadlines):
    """Bills until they are paid."""

    kind, item = Invoices, Bill
    columns = ("overdue_days", "unpaid", "read_off", "short_kwh", "by_demand", "difference", "recomputed")

    def __init__(self, index: Index, registry: Registry, zone: str) -> None:
        super().__init__(index)
        self.registry, self.zone = registry, zone

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
            bill = self.items.setdefault(slot, Bill(customer=batch.names[batch.subject[n]]))
            news = issue_of(batch, n) if issued else (at, float(np.nan_to_num(batch.amount[n])))
            known: list[Any] = bill.issues if issued else bill.paid
            if new := news not in known:
                known.append(news)
                known.sort()
            self.note(told, n, slot, areas[n], at, new=new)
        return told

    def moments(self, slot: int) -> Iterator[Moment]:
        """Each issue, once more after a day, and what is overdue of the latest."""
        bill = self.items[slot]
        for visit in bill.visits():
            for at, certain, days in passing(visit, ARREARS_MARKS):
                yield Moment(at, certain, (days, bill.unpaid(at), *UNKNOWN))
        for issue, after in zip_longest(bill.issues, bill.issues[1:]):
            told = (nan, nan, *self.issued(self.index.pairs[slot][0], bill.customer, issue))
            yield Moment(issue.at, certain=True, columns=told)
            if after is None or after.at > issue.at + DAY:
                yield Moment(issue.at + DAY, after is not None, told)

    def issued(self, area: str, customer: str, issue: Issue) -> tuple[float, ...]:
        """What is told of an issue, from read_off on."""
        account, tariff = self.registry.account(area, customer, issue.at)
        by_demand = account is not None and (account.declared_kw is not None or (tariff and tariff.demand) is not None)
        day = account.read_day if account else 0
        off = short = recomputed = nan
        if EARLIEST <= issue.read_at < LATEST and (by_demand or day):
            zone = self.zone
            off = from_month_end(issue.read_at, zone) if by_demand else from_day_of_month(issue.read_at, day, zone)
        if UNTOLD not in (issue.read_register, issue.frozen_register):
            short = max(issue.frozen_register - issue.read_register, 0.0)
        if not isnan(short) or not isnan(off):
            short, off = (0.0 if isnan(value) else value for value in (short, off))
        if account and tariff:
            recomputed = amount_of(tariff, account, Used(*(nan if v == UNTOLD else v for v in issue.used)))
        difference = nan if issue.amount == UNTOLD else issue.amount - recomputed
        return off / HOUR, short, float(by_demand), difference, recomputed


UNKNOWN = (nan,) * (len(Bills.columns) - 2)


def issue_of(batch: Payments, row: int) -> Issue:
    """A bill as a row tells it."""
    amount, read, frozen, *used = (
        float(number) if isfinite(number := getattr(batch, name)[row]) else UNTOLD
        for name in ("amount", "read_register", "frozen_register", "billed_kwh", "billed_sharp", "billed_peak",
                     "billed_valley", "billed_kvarh", "billed_demand", "year_kwh")
    )  # fmt: skip
    return Issue(int(batch.at[row]), int(batch.due[row]), amount, int(batch.read_at[row]), read, frozen, tuple(used))


def passing(visit: Visit, marks: tuple[float, ...]) -> Iterator[tuple[int, bool, float]]:
    """When each mark of a visit passes, whether it surely does, and its end as a mark of 0."""
    for mark in marks if visit.unit else ():
        at = visit.start + round(mark * visit.unit)
        if at < visit.done:
            yield at, visit.done < NEVER, mark
    if visit.done < NEVER:
        yield visit.done, True, 0.0


def settled(paid: list[tuple[int, float]], amount: float, issued: int) -> int:
    """When what was paid reached the amount, or never; at once where nothing is to pay.

    >>> settled([(20, 60.0), (10, 50.0)], 100.0, 5), settled([], 0.0, 5)
    (20, 5)
    """
    if amount < 0.005:
        return issued
    total = 0.0
    for at, part in sorted(paid):
        total += part
        if total >= amount - 0.005:
            return at
    return NEVER

"""Bills: how they were issued, what was paid on them, and what they should come to."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterator
from itertools import accumulate, zip_longest
from math import inf, isfinite, isnan, nan
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.calendar import from_day_of_month, from_month_end, midnight, new_year
from models.days import LAST_DIGIT
from models.index import Index
from models.registry import Registry
from models.tariffs import BilledUse
from models.tariffs import amount as amount_of
from models.timelines import (
    NEVER_TIME,
    Observation,
    Recorded,
    Stay,
    Timelines,
    passed_marks,
)
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    Codes,
    Invoices,
    Payment,
    Payments,
    Times,
)
from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS

OVERDUE_MARKS = (1.0, 7.0, 15.0, 30.0)  # days after the due date
HOME_PENALTY_RATE, OTHER_PENALTY_RATE, PAST_YEAR_PENALTY_RATE = (
    0.001,
    0.002,
    0.003,
)  # a day of what homes owe, others, and others of past years
MISSING_NUMBER = -1e15  # beyond what the wire lets through
CREDIT_LEVELS = {"A": 1.0, "D": -1.0}
CUTOFF_DAYS, NOTICE_HOME, NOTICE_OTHER = (
    30,
    7,
    3,
)  # days overdue after which supply may be cut off, and of notice before it
REBATE_START = 1_688_140_800  # 2023-07-01 in China, when the first month with a rebate on demand was billed
PAID_RETENTION_SECONDS = (
    30 * DAY_SECONDS
)  # of a bill that is paid, for what may be paid once more or taken back
LEAST_OPEN = 0.005  # yuan, below which nothing is open


class Issue(NamedTuple):
    """A bill as it was issued; what was not told is MISSING_NUMBER."""

    at: int
    due: int
    amount: float
    read_at: int
    read_register: float
    frozen_register: float
    used: tuple[float, ...]  # as Used


class Paid(NamedTuple):
    """A payment on a bill; a negative one takes back what was paid."""

    at: int
    amount: float  # yuan
    reference: str = ""  # its number, "" where it has none


class Bill(msgspec.Struct):
    """What was told of a bill: how it was issued, perhaps again, what was paid on it, and what was taken back."""

    customer: str = ""
    issues: list[Issue] = []  # in order of time
    paid: list[Paid] = []  # the same
    returned: list[
        tuple[int, str]
    ] = []  # when a payment was told to have failed, and its number

    def stays(self) -> list[Stay]:
        """When it was open, from the due date on; none before it was issued, and no marks without a due date."""
        if not self.issues:
            return []
        last = self.issues[-1]
        spells = _unpaid_spells(self.entries(), self.owed, last.at, last.due)
        return [
            Stay(start, DAY_SECONDS if last.due else 0, done) for start, done in spells
        ]

    def entries(self) -> list[tuple[int, float]]:
        """What was paid and taken back, in order of time."""
        return [*_entries_of(self.paid, self.returned)]

    @property
    def owed(self) -> float:
        """Yuan of the latest issue, 0 when none were told."""
        return (
            0.0 if self.issues[-1].amount == MISSING_NUMBER else self.issues[-1].amount
        )

    def unpaid(self, at: int) -> float:
        """Yuan that are open at a time."""
        return self.owed - sum(amount for when, amount in self.entries() if when <= at)

    def overpaid(self) -> Iterator[tuple[int, float]]:
        """Yuan paid above the issue in force, by time of every issue and payment; NaN where no amount is owed yet."""
        entries = self.entries()
        issued = [issue.at for issue in self.issues]
        paid = [at for at, _ in entries]
        sums = [0.0, *accumulate(amount for _, amount in entries)]

        for at in sorted({*issued, *paid}):
            known = bisect_right(issued, at)
            owed = self.issues[known - 1].amount if known else MISSING_NUMBER
            yield (
                at,
                nan
                if owed == MISSING_NUMBER
                else round(sums[bisect_right(paid, at)] - owed, 2),
            )


class Bills(Timelines):
    """Bills until they are paid."""

    kind, item = Invoices, Bill
    columns = (
        "overdue_days",
        "unpaid",
        "penalty",
        "credit",
        "cutoff_days",
        "notice_days",
        "read_off",
        "short_kwh",
        "by_demand",
        "difference",
        "recomputed",
        "overpaid",
    )
    awaits = ("overdue_days", "read_off", "short_kwh")

    def __init__(self, index: Index, registry: Registry, zone: str) -> None:
        super().__init__(index)
        self._registry, self._zone = registry, zone

    def record(self, batch: Payments, areas: Codes, sealed: Times) -> Recorded:
        """Note bills and what was paid on them; `sealed` is by row the time before which a paid bill cannot change."""
        told = Recorded(set(), [], [])
        for n in range(len(batch)):
            name, at = batch.bills[batch.bill[n]], int(batch.at[n])
            news = _bill_change_of(batch, n)
            if not name or news is None:
                continue
            slot = self.open(
                batch.areas[batch.area[n]],
                f"{batch.names[batch.subject[n]]}/{name}",
                at,
                sealed[n],
            )
            if slot < 0:
                told.late.append(n)
                continue
            bill = self.items.setdefault(
                slot, Bill(customer=batch.names[batch.subject[n]])
            )
            known: list[Any] = getattr(bill, news.list_name)
            if new := news.entry not in known:
                insort(known, news.entry)
            self.record_row(told, n, slot, areas[n], at, new=new)
        return told

    def observations(self, slot: int) -> Iterator[Observation]:
        """Each issue, once more after a day, what is overdue of the latest, and what was paid beyond each."""
        bill = self.items[slot]
        for visit in bill.stays():
            for at, certain, days in passed_marks(visit, OVERDUE_MARKS):
                yield Observation(
                    at,
                    certain,
                    (
                        days,
                        bill.unpaid(at),
                        *self.arrears(slot, at, days),
                        *UNKNOWN_COLUMNS[6:],
                    ),
                )
        for at, yuan in bill.overpaid():
            yield Observation(at, certain=True, columns=(*UNKNOWN_COLUMNS[:-1], yuan))
        for issue, after in zip_longest(bill.issues, bill.issues[1:]):
            told = (
                *UNKNOWN_COLUMNS[:6],
                *self._issue_columns(self.index.pairs[slot][0], bill.customer, issue),
                nan,
            )
            yield Observation(issue.at, certain=True, columns=told)
            if after is None or after.at > issue.at + DAY_SECONDS:
                yield Observation(issue.at + DAY_SECONDS, after is not None, told)

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Bills that were paid so long ago that no second payment is looked for, or were never issued."""
        return super().finished(
            watermarks, max(grace, PAID_RETENTION_SECONDS), troubled
        )

    def since(self, slot: int, at: int) -> int:
        """From the first that was told of it."""
        bill = self.items[slot]
        return min(when for when, *_ in (*bill.issues, *bill.paid, *bill.returned))

    def arrears(self, slot: int, at: int, days: float) -> tuple[float, ...]:
        """What is told of a bill that is late by some days, from penalty to notice_days."""
        bill = self.items[slot]
        account, _ = self._registry.account(
            self.index.pairs[slot][0], bill.customer, bill.issues[-1].at
        )
        credit = CREDIT_LEVELS.get(account.credit, 0.0) if account else 0.0
        if account is None or not days:
            return nan, credit, nan, nan
        home = account.segment == "residential"
        notice = NOTICE_HOME if home else NOTICE_OTHER
        return (
            self._penalty(slot, at, home=home),
            credit,
            max(CUTOFF_DAYS - days, notice),
            float(notice),
        )

    def _penalty(self, slot: int, at: int, *, home: bool) -> float:
        """Yuan that being late has come to cost by a time."""
        bill = self.items[slot]
        due = bill.issues[-1].due
        year = midnight(
            new_year(min(max(due, EARLIEST_TIME), LATEST_TIME - 1), self._zone),
            self._zone,
        )
        days = range(due + DAY_SECONDS, at + 1, DAY_SECONDS)
        return float(
            sum(
                max(bill.unpaid(d), 0.0)
                * (
                    HOME_PENALTY_RATE
                    if home
                    else PAST_YEAR_PENALTY_RATE
                    if d > year
                    else OTHER_PENALTY_RATE
                )
                for d in days
            )
        )

    def _issue_columns(
        self, area: str, customer: str, issue: Issue
    ) -> tuple[float, ...]:
        """What is told of an issue, from read_off on; of read_off and short_kwh the one that is not known is -inf."""
        account, tariff = self._registry.account(area, customer, issue.at)
        by_demand = account is not None and (
            account.declared_kw is not None or (tariff and tariff.demand) is not None
        )
        day = account.read_day if account else 0
        off = short = recomputed = nan
        if EARLIEST_TIME <= issue.read_at < LATEST_TIME and (by_demand or day):
            zone = self._zone
            off = (
                from_month_end(issue.read_at, zone)
                if by_demand
                else from_day_of_month(issue.read_at, day, zone)
            )
        if MISSING_NUMBER not in (issue.read_register, issue.frozen_register):
            short = _short_kwh(issue, account)
        if not isnan(short) or not isnan(off):
            short, off = (-inf if isnan(value) else value for value in (short, off))
        if account and tariff:
            used = BilledUse(*(nan if v == MISSING_NUMBER else v for v in issue.used))
            recomputed = amount_of(
                tariff, account, used, rebate=issue.at >= REBATE_START
            )
        difference = (
            nan if issue.amount == MISSING_NUMBER else issue.amount - recomputed
        )
        return off / HOUR_SECONDS, short, float(by_demand), difference, recomputed


UNKNOWN_COLUMNS = (nan,) * len(Bills.columns)


def _short_kwh(issue: Issue, account: Meter | None) -> float:
    """Primary kWh that the reading billed is below the freeze; none within the last digits of both."""
    shown = issue.frozen_register - issue.read_register
    ratio = account.ct * account.pt if account else 1.0
    return shown * ratio if shown > 2 * LAST_DIGIT else 0.0


def _issue_of(batch: Payments, row: int) -> Issue:
    """A bill as a row tells it."""
    amount, read, frozen, *used = (
        float(number)
        if isfinite(number := getattr(batch, name)[row])
        else MISSING_NUMBER
        for name in (
            "amount",
            "read_register",
            "frozen_register",
            "billed_kwh",
            "billed_sharp",
            "billed_peak",
            "billed_valley",
            "billed_kvarh",
            "billed_demand",
            "year_kwh",
            "billed_deep_valley",
        )
    )
    return Issue(
        int(batch.at[row]),
        int(batch.due[row]),
        amount,
        int(batch.read_at[row]),
        read,
        frozen,
        tuple(used),
    )


class _BillChange(NamedTuple):
    """What a row tells of a bill, and to which list of it that belongs."""

    list_name: str
    entry: Any


def _bill_change_of(batch: Payments, row: int) -> _BillChange | None:
    """What a row tells of a bill: an issue, a payment, or that one is taken back; None where it tells nothing."""
    kind, at = int(batch.payment[row]), int(batch.at[row])
    reference, amount = (
        batch.references[batch.reference[row]],
        float(np.nan_to_num(batch.amount[row])),
    )
    if kind == Payment.BILL:
        return _BillChange("issues", _issue_of(batch, row))
    if kind == Payment.PAYMENT and batch.succeeded[row]:
        return _BillChange("paid", Paid(at, amount, reference))
    if kind == Payment.REVERSAL and not reference:
        return _BillChange("paid", Paid(at, -abs(amount)))
    if kind in (Payment.PAYMENT, Payment.REVERSAL) and reference:
        return _BillChange("returned", (at, reference))
    return None


def _entries_of(
    paid: list[Paid], returned: list[tuple[int, str]]
) -> Iterator[tuple[int, float]]:
    """What was paid and taken back: a number that fails takes back all that was paid under it before.

    One that fails in the same second was tried again, and went through.

    >>> list(_entries_of([Paid(10, 100.0, "R1"), Paid(30, 100.0, "R1")], [(5, "R1"), (20, "R1"), (25, "R1")]))
    [(10, 100.0), (20, -100.0), (30, 100.0)]
    """
    standing: dict[str, float] = {}
    failures = [(at, 0, 0.0, reference) for at, reference in returned]
    payments = [(payment.at, 1, payment.amount, payment.reference) for payment in paid]
    for at, went, amount, reference in sorted(failures + payments):
        if went:
            standing[reference] = standing.get(reference, 0.0) + amount
            yield at, amount
        elif taken_back := standing.pop(reference, 0.0):
            yield at, -taken_back


def _unpaid_spells(
    entries: list[tuple[int, float]], amount: float, issued: int, due: int
) -> Iterator[tuple[int, int]]:
    """From when until when a bill was open: since it is due, and again since a payment was taken back.

    >>> list(_unpaid_spells([(10, 50.0), (20, 60.0)], 100.0, 5, 15)) == [(15, 20)]
    True
    >>> list(_unpaid_spells([(20, 100.0), (30, -100.0)], 100.0, 5, 15)) == [(15, 20), (30, NEVER_TIME)]
    True
    >>> list(_unpaid_spells([], 0.0, 5, 15))
    [(15, 5)]
    """
    if amount < LEAST_OPEN:
        yield due, issued
        return

    total, start, is_open = 0.0, due, True
    for at, part in entries:
        total += part
        covered = total >= amount - LEAST_OPEN
        if is_open and covered:
            yield start, at
        elif not is_open and not covered:
            start = max(due, at)
        is_open = not covered
    if is_open:
        yield start, NEVER_TIME

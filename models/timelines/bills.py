"""Bills until they are paid: arrears, penalties, and the amounts that the tariffs give."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest
from math import inf, isfinite, isnan, nan
from typing import NamedTuple

import numpy as np

from models.days.balances import LAST_DIGIT
from models.master.calendar import from_day_of_month, from_month_end, midnight, new_year
from models.master.registry import Registry
from models.master.tariffs import BilledUse
from models.master.tariffs import amount as amount_of
from models.state.index import Index
from models.timelines.base import (
    Observation,
    Recorded,
    Timelines,
    named_rows,
    passed_marks,
)
from models.timelines.bill import MISSING_NUMBER, Bill, Issue, Paid, Returned
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
# a day, of the debt of homes, of others, and of others from past years
HOME_PENALTY_RATE = 0.001
OTHER_PENALTY_RATE = 0.002
PAST_YEAR_PENALTY_RATE = 0.003
CREDIT_LEVELS = {"A": 1.0, "D": -1.0}
CUTOFF_DAYS = 30  # days overdue after which supply may be cut off
NOTICE_HOME = 7  # days of notice before it
NOTICE_OTHER = 3  # days of notice before it
# 2023-07-01 in China, when the first month with a rebate on demand was billed
REBATE_START = 1_688_140_800
# of a paid bill, for second payments and reversals
PAID_RETENTION_SECONDS = 30 * DAY_SECONDS


class InvoiceColumns(NamedTuple):
    """The columns of Invoices at a moment, NaN where it says nothing of them."""

    overdue_days: float = nan
    unpaid: float = nan
    penalty: float = nan
    credit: float = nan
    cutoff_days: float = nan
    notice_days: float = nan
    read_off: float = nan
    short_kwh: float = nan
    by_demand: float = nan
    difference: float = nan
    recomputed: float = nan
    overpaid: float = nan


NO_COLUMNS = InvoiceColumns()  # of a moment that has not come


class Bills(Timelines):
    """Bills until they are paid."""

    kind = Invoices
    item = Bill
    columns = InvoiceColumns._fields
    awaits = ("overdue_days", "read_off", "short_kwh")

    def __init__(self, index: Index, registry: Registry, zone: str) -> None:
        super().__init__(index)
        self._registry = registry
        self._zone = zone

    def record(self, batch: Payments, areas: Codes, sealed: Times) -> Recorded:
        """Records bills and payments on them.

        Bills that were paid before `sealed`, by row, cannot change.
        """
        recorded = Recorded(set(), [], [])
        amounts = np.nan_to_num(batch.amount).tolist()
        for n, area, customer, at in named_rows(batch):
            bill_name = batch.bills[batch.bill[n]]
            event = _bill_event_of(batch, n, amounts[n]) if bill_name else None
            if event is None:
                continue
            slot = self.open(area, f"{customer}/{bill_name}", at, sealed[n])
            if slot < 0:
                recorded.late.append(n)
                continue

            bill = self.items.setdefault(slot, Bill(customer=customer))
            new = bill.add(event)
            self.record_row(recorded, n, slot, areas[n], at, new=new)
        return recorded

    def observations(self, slot: int, now: int) -> Iterator[Observation]:
        """Marks of the latest issue, payments beyond an issue, each issue, and a day later."""
        bill = self.items[slot]
        for stay in bill.stays():
            for at, certain, days in passed_marks(stay, OVERDUE_MARKS, now):
                is_next = at > now and not certain
                columns = NO_COLUMNS if is_next else self.arrears(slot, at, days)
                yield Observation(at, certain, columns)

        for at, yuan in bill.overpaid():
            columns = InvoiceColumns(overpaid=yuan)
            yield Observation(at, certain=True, columns=columns)

        area, _ = self.index.pairs[slot]
        for issue, following in zip_longest(bill.issues, bill.issues[1:]):
            columns = self._checks(area, bill.customer, issue)
            yield Observation(issue.at, certain=True, columns=columns)
            next_day = issue.at + DAY_SECONDS
            if following is None:
                yield Observation(next_day, certain=False, columns=columns)
            elif following.at > next_day:
                yield Observation(next_day, certain=True, columns=columns)

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Bills that were paid too long ago for a second payment, or were never issued."""
        retention = max(grace, PAID_RETENTION_SECONDS)
        return super().finished(watermarks, retention, troubled)

    def since(self, slot: int, at: int) -> int:
        """The time of its first event."""
        bill = self.items[slot]
        events = (*bill.issues, *bill.paid, *bill.returned)
        return min(when for when, *_ in events)

    def arrears(self, slot: int, at: int, days: float) -> InvoiceColumns:
        """The columns of a bill that is late by some days, up to notice_days."""
        bill = self.items[slot]
        area = self.index.pairs[slot][0]
        last_issue = bill.issues[-1]
        account, _ = self._registry.account(area, bill.customer, last_issue.at)
        credit = CREDIT_LEVELS.get(account.credit, 0.0) if account else 0.0
        unpaid = bill.unpaid(at)
        if account is None or not days:
            return InvoiceColumns(days, unpaid, credit=credit)

        home = account.segment == "residential"
        notice = NOTICE_HOME if home else NOTICE_OTHER
        return InvoiceColumns(
            overdue_days=days,
            unpaid=unpaid,
            penalty=self._penalty(slot, at, home=home),
            credit=credit,
            cutoff_days=max(CUTOFF_DAYS - days, notice),
            notice_days=float(notice),
        )

    def _penalty(self, slot: int, at: int, *, home: bool) -> float:
        """Yuan of penalty for late payment up to a time."""
        bill = self.items[slot]
        due = bill.issues[-1].due
        judged_due = min(max(due, EARLIEST_TIME), LATEST_TIME - 1)
        next_year = new_year(judged_due, self._zone)
        year_end = midnight(next_year, self._zone)

        penalties: list[float] = []
        for day in range(due + DAY_SECONDS, at + 1, DAY_SECONDS):
            rate = PAST_YEAR_PENALTY_RATE if day > year_end else OTHER_PENALTY_RATE
            if home:
                rate = HOME_PENALTY_RATE
            unpaid = max(bill.unpaid(day), 0.0)
            penalties.append(unpaid * rate)
        return float(sum(penalties))

    def _checks(self, area: str, customer: str, issue: Issue) -> InvoiceColumns:
        """The columns of an issue, from read_off on.

        Of read_off and short_kwh an unknown one is -inf.
        """
        account, tariff = self._registry.account(area, customer, issue.at)
        by_demand = account is not None and (
            account.declared_kw is not None or (tariff and tariff.demand) is not None
        )
        off = self._read_off(issue, account, by_demand=by_demand)
        short = nan
        if MISSING_NUMBER not in (issue.read_register, issue.frozen_register):
            short = _short_kwh(issue, account)
        if not isnan(short) or not isnan(off):
            short = -inf if isnan(short) else short
            off = -inf if isnan(off) else off

        recomputed = nan
        if account and tariff:
            known = (
                nan if number == MISSING_NUMBER else number for number in issue.used
            )
            used = BilledUse(*known)
            rebate = issue.at >= REBATE_START
            recomputed = amount_of(tariff, account, used, rebate=rebate)
        difference = nan
        if issue.amount != MISSING_NUMBER:
            difference = issue.amount - recomputed
        return InvoiceColumns(
            read_off=off / HOUR_SECONDS,
            short_kwh=short,
            by_demand=float(by_demand),
            difference=difference,
            recomputed=recomputed,
        )

    def _read_off(
        self, issue: Issue, account: Meter | None, *, by_demand: bool
    ) -> float:
        """Seconds between the billed reading and the day on which it is due.

        NaN where either is unknown.
        """
        day = account.read_day if account else 0
        if not EARLIEST_TIME <= issue.read_at < LATEST_TIME:
            return nan
        if by_demand:
            return from_month_end(issue.read_at, self._zone)
        return from_day_of_month(issue.read_at, day, self._zone) if day else nan


def _short_kwh(issue: Issue, account: Meter | None) -> float:
    """Primary kWh by which the billed reading is below the end-of-day register.

    0 within the last digits of both.
    """
    shown = issue.frozen_register - issue.read_register
    ratio = account.ct * account.pt if account else 1.0
    if shown > 2 * LAST_DIGIT:
        return shown * ratio
    return 0.0


NUMBER_COLUMNS = (
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


def _issue_of(batch: Payments, row: int) -> Issue:
    """The issue of a row."""
    numbers = [float(getattr(batch, name)[row]) for name in NUMBER_COLUMNS]
    amount, read, frozen, *used = (
        number if isfinite(number) else MISSING_NUMBER for number in numbers
    )
    return Issue(
        at=int(batch.at[row]),
        due=int(batch.due[row]),
        amount=amount,
        read_at=int(batch.read_at[row]),
        read_register=read,
        frozen_register=frozen,
        used=tuple(used),
    )


def _bill_event_of(
    batch: Payments, row: int, amount: float
) -> Issue | Paid | Returned | None:
    """The issue, payment or reversal of a row; None where it is none."""
    kind = int(batch.payment[row])
    at = int(batch.at[row])
    reference = batch.references[batch.reference[row]]

    if kind == Payment.BILL:
        return _issue_of(batch, row)
    if kind == Payment.PAYMENT and batch.succeeded[row]:
        return Paid(at, amount, reference)
    if kind == Payment.REVERSAL and not reference:
        return Paid(at, -abs(amount))
    if reference and kind in (Payment.PAYMENT, Payment.REVERSAL):
        return at, reference
    return None

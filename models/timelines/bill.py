"""A bill: its issues, the payments on it, and the spans in which it is open."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import accumulate
from math import nan
from typing import Any, NamedTuple

import msgspec

from models.timelines.base import Stay
from schemas.units import DAY_SECONDS, NEVER_TIME

MISSING_NUMBER = -1e15  # beyond what the wire lets through
LEAST_OPEN = 0.005  # yuan; a smaller debt is none


class Issue(NamedTuple):
    """A bill as it was issued; an unknown number is MISSING_NUMBER."""

    at: int
    due: int
    amount: float
    read_at: int
    read_register: float
    frozen_register: float
    used: tuple[float, ...]  # as BilledUse


class Paid(NamedTuple):
    """A payment on a bill; a negative amount is a reversal."""

    at: int
    amount: float  # yuan
    reference: str = ""  # its number, "" where it has none


# When a payment was reported as failed, and its number.
Returned = tuple[int, str]


class Bill(msgspec.Struct):
    """The events of a bill: its issue, perhaps again, the payments on it, and the reversals."""

    customer: str = ""
    issues: list[Issue] = []  # in order of time
    paid: list[Paid] = []  # the same
    returned: list[Returned] = []

    def add(self, event: Issue | Paid | Returned) -> bool:
        """Adds an event in order of time; False if it is known."""
        events: list[Any] = self.returned
        if isinstance(event, Issue):
            events = self.issues
        elif isinstance(event, Paid):
            events = self.paid

        if event in events:
            return False
        insort(events, event)
        return True

    def stays(self) -> list[Stay]:
        """The spans in which it is open, from the due date on; no marks without a due date."""
        if not self.issues:
            return []
        last = self.issues[-1]
        unit = DAY_SECONDS if last.due else 0
        spans = _unpaid_spans(self.entries(), self.owed, last.at, last.due)
        return [Stay(start, unit, done) for start, done in spans]

    def entries(self) -> list[tuple[int, float]]:
        """Payments and reversals, in order of time."""
        return [*_entries_of(self.paid, self.returned)]

    @property
    def owed(self) -> float:
        """Yuan of the latest issue, 0 where its amount is unknown."""
        amount = self.issues[-1].amount
        return 0.0 if amount == MISSING_NUMBER else amount

    def unpaid(self, at: int) -> float:
        """Yuan that are open at a time."""
        amounts = [amount for when, amount in self.entries() if when <= at]
        paid = sum(amounts)
        return self.owed - paid

    def overpaid(self) -> Iterator[tuple[int, float]]:
        """Yuan paid above the issue in force, at every issue and payment.

        NaN while no amount is owed.
        """
        entries = self.entries()
        issued = [issue.at for issue in self.issues]
        paid = [at for at, _ in entries]
        sums = [0.0, *accumulate(amount for _, amount in entries)]

        for at in sorted({*issued, *paid}):
            known = bisect_right(issued, at)
            owed = self.issues[known - 1].amount if known else MISSING_NUMBER
            if owed == MISSING_NUMBER:
                yield at, nan
                continue
            paid_so_far = sums[bisect_right(paid, at)]
            yield at, round(paid_so_far - owed, 2)


def _entries_of(
    paid: list[Paid], returned: list[Returned]
) -> Iterator[tuple[int, float]]:
    """Payments and reversals: a number that fails takes back all earlier payments under it.

    A number that fails in the same second was tried again, and went through.

    >>> paid = [Paid(10, 100.0, "R1"), Paid(30, 100.0, "R1")]
    >>> returned = [(5, "R1"), (20, "R1"), (25, "R1")]
    >>> list(_entries_of(paid, returned))
    [(10, 100.0), (20, -100.0), (30, 100.0)]
    """
    balances: dict[str, float] = {}
    failures = [(at, 0, 0.0, reference) for at, reference in returned]
    payments = [(payment.at, 1, payment.amount, payment.reference) for payment in paid]
    for at, is_payment, amount, reference in sorted(failures + payments):
        if is_payment:
            balance = balances.get(reference, 0.0)
            balances[reference] = balance + amount
            yield at, amount
        elif taken_back := balances.pop(reference, 0.0):
            yield at, -taken_back


def _unpaid_spans(
    entries: list[tuple[int, float]], amount: float, issued: int, due: int
) -> Iterator[tuple[int, int]]:
    """The spans in which a bill is open: since it is due, and again since a reversal.

    >>> list(_unpaid_spans([(10, 50.0), (20, 60.0)], 100.0, 5, 15)) == [(15, 20)]
    True
    >>> list(_unpaid_spans([(20, 100.0), (30, -100.0)], 100.0, 5, 15)) == [(15, 20), (30, NEVER_TIME)]
    True
    >>> list(_unpaid_spans([], 0.0, 5, 15))
    [(15, 5)]
    """
    if amount < LEAST_OPEN:
        yield due, issued
        return

    total = 0.0
    start = due
    is_open = True
    for at, yuan in entries:
        total += yuan
        covered = total >= amount - LEAST_OPEN
        if is_open and covered:
            yield start, at
        elif not is_open and not covered:
            start = max(due, at)
        is_open = not covered
    if is_open:
        yield start, NEVER_TIME

"""The town's bills, and how its customers pay them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from models.master.calendar import midnight, months_around
from models.master.tariffs import BilledUse, amount
from models.timelines.bills import REBATE_START
from replay.simulation.network import (
    RESIDENTIAL_SEGMENT,
    SEGMENT_NAMES,
    SEGMENT_TARIFFS,
    TOWN_ZONE,
    Grid,
)
from schemas.columns import Payment, Payments
from schemas.units import DAY_SECONDS, HOUR_SECONDS

CHANNEL_NAMES = ("", "WeChat", "Alipay", "bank", "counter", "kiosk")
CHANNEL_SHARES = (0.45, 0.35, 0.12, 0.05, 0.03)
YUAN_PER_KWH = 0.56  # a kWh, prepaid
PREPAID_SHARE = 0.02  # of the homes
TOPPED_UP = 200.0  # yuan
LEFT_DAYS = 8  # days of use that are left when a prudent customer pays
SETTLEMENT_DELAY = 3 * HOUR_SECONDS  # s after the midnight that ends the day settled
BILLED_COLUMNS = (
    "billed_kwh",
    "billed_sharp",
    "billed_peak",
    "billed_valley",
    "billed_kvarh",
    "billed_demand",
    "year_kwh",
    "billed_deep_valley",
)


class PaymentRow(NamedTuple):
    """A row of Payments."""

    at: int
    meter: int  # row of the grid
    payment: Payment
    amount: float
    channel: int = 0
    succeeded: bool = True
    due: int = 0
    reference: str = ""  # the channel's number
    used: BilledUse = BilledUse()
    read_at: int = 0


class TownBills:
    """Last month's bills, issued on the first day, due five days later; most customers pay at once.

    Every night each channel settles the payments of the day before. A few homes pay in advance instead: their balance
    is reported every morning.
    """

    def __init__(
        self, grid: Grid, start: int, days: int, seed: int, rng: np.random.Generator
    ) -> None:
        self.grid = grid
        self.rng = rng
        self.start = start
        self.end = start + days * DAY_SECONDS
        self.due = start + 6 * DAY_SECONDS
        self.month = _first_of_month(start)

        is_home = grid.segment == RESIDENTIAL_SEGMENT
        homes = np.flatnonzero(is_home & ~grid.gateway)
        self.advance = np.random.default_rng([seed, 6])
        shuffled = self.advance.permutation(homes)
        self.prepaid = shuffled[: round(PREPAID_SHARE * len(homes))]
        users = np.flatnonzero(~grid.gateway)
        self.customers = np.setdiff1d(users, self.prepaid)

        self.paid: dict[int, list[PaymentRow]] = {}
        self.bills: dict[int, PaymentRow] = {}
        self.unsettled: set[str] = set()  # numbers that their channels leave out
        self.doubled: set[str] = set()  # numbers that stand in the next file too
        self._issue_bills()
        self.balances = {
            int(row): self.balance(int(row), prudent=True) for row in self.prepaid
        }

    def _issue_bills(self) -> None:
        """Draws every customer's bill and payment."""
        grid = self.grid
        rng = self.rng
        count = len(self.customers)
        morning = self.start + 9 * HOUR_SECONDS
        issued = morning + grid.area[self.customers] * 60
        energy = np.round(
            grid.mean_kw[self.customers] * 24 * 30 * rng.uniform(0.8, 1.2, count)
        )

        # whole days to wait, then an hour of the day
        days = np.minimum(rng.exponential(1.2, count), 4)
        delay = days.astype(int) * DAY_SECONDS
        delay += rng.integers(HOUR_SECONDS, 12 * HOUR_SECONDS, count)
        numbers = np.arange(1, len(CHANNEL_NAMES))
        channels = rng.choice(numbers, count, p=CHANNEL_SHARES)
        fails = rng.random(count) < 0.008

        columns = (self.customers, issued, energy, delay, channels, fails)
        drawn = zip(*(column.tolist() for column in columns), strict=True)
        for row, at, kwh, wait, channel, failed in drawn:
            self.bills[row] = bill = self._bill_of(row, at, kwh)
            self.paid[row] = self.pays(
                row, at + wait, bill.amount, channel, int(failed)
            )

    def _bill_of(self, row: int, at: int, kwh: float) -> PaymentRow:
        """A bill of so many kWh, read at midnight as the month began."""
        grid = self.grid
        used = BilledUse(
            kwh,
            0.0,
            0.42 * kwh,
            0.18 * kwh,
            round(kwh * float(grid.tan[row])),
            0.8 * float(grid.cap_kw[row]),
        )

        total = amount(
            SEGMENT_TARIFFS[SEGMENT_NAMES[grid.segment[row]]],
            grid.meter(row, self.start),
            used,
            rebate=at >= REBATE_START,
        )
        return PaymentRow(
            at, row, Payment.BILL, total, due=self.due, used=used, read_at=self.month
        )

    def balance(self, row: int, *, prudent: bool) -> list[PaymentRow]:
        """The balance of every morning; the prudent pay in time, each as much again."""
        rng = np.random.default_rng([row, 6])
        daily = self.daily_cost(row)
        days_left = rng.uniform(9, 28) if prudent else rng.uniform(2, 9)
        left = TOPPED_UP / 4 + daily * days_left

        rows = []
        for at in range(self.start + 7 * HOUR_SECONDS, self.end, DAY_SECONDS):
            used = daily * rng.uniform(0.7, 1.3)
            left = round(left - used, 2)
            rows.append(PaymentRow(at, row, Payment.BALANCE, max(left, 0.0)))

            if prudent and left < max(TOPPED_UP / 4, LEFT_DAYS * daily):
                paid = max(TOPPED_UP, round(LEFT_DAYS * daily))
                left += paid
                rows.append(
                    PaymentRow(
                        at + HOUR_SECONDS,
                        row,
                        Payment.TOPUP,
                        paid,
                        1,
                        reference=f"{row}-{at}",
                    )
                )
        return rows

    def daily_cost(self, row: int) -> float:
        """Yuan that a prepaid home uses on a usual day."""
        return 24 * float(self.grid.mean_kw[row]) * YUAN_PER_KWH

    def pays(
        self, row: int, at: int, amount: float, channel: int, failures: int
    ) -> list[PaymentRow]:
        """A payment after so many failed tries, a quarter of an hour apart."""
        tries = [at + 900 * k for k in range(failures + 1)]
        return [
            PaymentRow(
                tried,
                row,
                Payment.PAYMENT,
                amount,
                channel,
                tried == tries[-1],
                reference=f"{row}-{tried}",
            )
            for tried in tries
        ]

    def _settlements(self) -> Iterator[PaymentRow]:
        """The lines of the channels' files."""
        for rows in (*self.paid.values(), *self.balances.values()):
            for paid in rows:
                if paid.payment in {Payment.PAYMENT, Payment.TOPUP} and paid.succeeded:
                    yield from self._settled(paid)

    def _settled(self, paid: PaymentRow) -> Iterator[PaymentRow]:
        """The lines of a payment: one, unless a fault leaves it out or repeats it a day later."""
        day = paid.at - (paid.at - self.start) % DAY_SECONDS
        at = day + DAY_SECONDS + SETTLEMENT_DELAY
        line = paid._replace(at=at, payment=Payment.SETTLEMENT)
        if paid.reference not in self.unsettled:
            yield line
        if paid.reference in self.doubled:
            yield line._replace(at=at + DAY_SECONDS)

    def bill_name(self, row: int) -> str:
        """The number of a customer's bill."""
        return f"{self.grid.customer(row)}-2026-02"

    def who(self, row: int) -> tuple[str, str]:
        """The area and the customer of a meter."""
        return self.grid.areas[self.grid.area[row]], self.grid.customer(row)

    def rows_in_order(self) -> Payments:
        """All rows until the town's end."""
        every = [
            *self.bills.values(),
            *chain.from_iterable(self.paid.values()),
            *self._settlements(),
            *chain.from_iterable(self.balances.values()),
        ]
        rows = sorted(row for row in every if row.at < self.end)

        # rows to columns, in the order of PaymentRow's fields
        (
            at,
            meter,
            payment,
            amount,
            channel,
            succeeded,
            due,
            reference,
            used,
            read_at,
        ) = zip(*rows, strict=True)
        billed = dict(zip(BILLED_COLUMNS, zip(*used, strict=True), strict=True))

        references = {name: n for n, name in enumerate(dict.fromkeys(reference))}
        names = tuple(map(self.grid.customer, range(len(self.grid))))
        return Payments.build(
            names,
            meter,
            self.grid.areas,
            self.grid.area[list(meter)],
            at,
            payment=payment,
            amount=amount,
            bill=[_bill_number(row) for row in rows],
            bills=("", *map(self.bill_name, range(len(names)))),
            channels=CHANNEL_NAMES,
            channel=channel,
            succeeded=succeeded,
            due=due,
            references=tuple(references),
            reference=[references[name] for name in reference],
            read_at=read_at,
            **billed,
        )


def _first_of_month(at: int) -> int:
    """The midnight at which the local month of a moment began."""
    return midnight(months_around(at, TOWN_ZONE)[1], TOWN_ZONE)


def _bill_number(row: PaymentRow) -> int:
    """The number of a customer's only bill; 0 where none is meant."""
    if row.payment in {Payment.TOPUP, Payment.BALANCE}:
        return 0
    return row.meter + 1

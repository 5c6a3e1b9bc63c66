"""Faults of bills and payments, planted in the town's office."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replay.simulation.bills import CHANNEL_NAMES, TownBills
from replay.simulation.happenings import Planted
from schemas.units import DAY_SECONDS, HOUR_SECONDS


def plant_bill_faults(bills: TownBills) -> Iterator[Planted]:
    """Customers who do not pay in time, and customers whose card is refused again and again."""
    victims = bills.rng.permutation(bills.customers).tolist()
    for _ in range(max(1, len(bills.customers) // 800)):
        if bills.due + 1.5 * DAY_SECONDS < bills.end:
            row = victims.pop()
            bills.paid[row] = []
            yield _planted(
                bills, row, "arrears", "arrears_tier", bills.due, "the bill is not paid"
            )

        row = victims.pop()
        at = (
            bills.start
            + int(bills.rng.integers(1, 5)) * DAY_SECONDS
            + int(bills.rng.integers(8, 18)) * HOUR_SECONDS
        )
        bill = bills.bills[row]
        bills.paid[row] = bills.pays(row, at, bill.amount, 3, 4)
        yield Planted(
            "card_refused",
            ("payment_failure_repeat",),
            *bills.who(row),
            at,
            at + DAY_SECONDS,
            "the bank refuses four times",
        )

    yield from _wrong_bills(bills, victims)
    yield from _forgetful(bills)
    largest_area = int(np.argmax(np.bincount(bills.grid.area)))
    yield from _channel_fails(bills, largest_area)
    yield from _ledger(bills, victims)


def _planted(
    bills: TownBills,
    row: int,
    kind: str,
    rule: str,
    start: int,
    note: str,
    end: int = 0,
) -> Planted:
    """A fault of a customer's bill, to the town's end unless it ends before."""
    area, customer = bills.who(row)
    subject = f"{customer}/{bills.bill_name(row)}"
    return Planted(kind, (rule,), area, subject, start, end or bills.end, note)


def _wrong_bills(bills: TownBills, victims: list[int]) -> Iterator[Planted]:
    """Bills that charge a tenth too much, and bills on readings of another day."""
    for _ in range(max(1, len(bills.customers) // 800)):
        row = victims.pop()
        bill = bills.bills[row]
        charged = round(1.1 * bill.amount, 2)
        bills.bills[row] = bill._replace(amount=charged)
        bills.paid[row] = [paid._replace(amount=charged) for paid in bills.paid[row]]
        yield _planted(
            bills,
            row,
            "bill_recalc_mismatch",
            "bill_recalc_mismatch",
            bill.at,
            "the bill charges a tenth more than its tariff gives",
            bill.at + DAY_SECONDS,
        )

        row = victims.pop()
        bill = bills.bills[row]
        read_at = bills.month - 3 * DAY_SECONDS
        bills.bills[row] = bill._replace(read_at=read_at)
        yield _planted(
            bills,
            row,
            "read_date_wrong",
            "read_date_wrong",
            bill.at,
            "the reading billed is three days too early",
            bill.at + DAY_SECONDS,
        )


def _forgetful(bills: TownBills) -> Iterator[Planted]:
    """Homes that pay in advance, and do not pay again."""
    shuffled = bills.advance.permutation(bills.prepaid)
    count = max(1, len(bills.customers) // 800)
    earliest = bills.start + 3 * DAY_SECONDS
    latest = bills.end - 3 * DAY_SECONDS

    for row in shuffled[:count].tolist():
        balance = bills.balance(row, prudent=False)
        limit = 1.15 * max(20, 3 * bills.daily_cost(row))
        low = [morning.at for morning in balance if morning.amount < limit]
        if low and earliest < low[0] < latest:
            bills.balances[row] = balance
            yield Planted(
                "low_balance",
                ("low_balance",),
                *bills.who(row),
                low[0],
                bills.end,
                "what was paid in advance runs out",
            )


def _channel_fails(bills: TownBills, area: int) -> Iterator[Planted]:
    """The second day's payments through the first channel fail twice before they go through."""
    begin = bills.start + DAY_SECONDS
    end = bills.start + 2 * DAY_SECONDS
    hit = [
        row
        for row, tries in bills.paid.items()
        if bills.grid.area[row] == area
        and len(tries) == 1
        and tries[0].channel == 1
        and begin <= tries[0].at < end
    ]
    for row in hit:
        at = bills.paid[row][0].at
        bill = bills.bills[row]
        bills.paid[row] = bills.pays(row, at, bill.amount, 1, 2)

    if len(hit) > 10:
        yield Planted(
            "channel_fails",
            ("payment_failure_burst",),
            bills.grid.areas[area],
            CHANNEL_NAMES[1],
            begin,
            end,
            f"two of three attempts of {len(hit)} customers fail",
        )


def _ledger(bills: TownBills, victims: list[int]) -> Iterator[Planted]:
    """Of three payments, one is not settled, one is settled twice and one is made twice."""
    common = [
        row
        for row in victims
        if len(bills.paid[row]) == 1
        and bills.paid[row][0].channel < 3
        and bills.paid[row][0].at + 2.5 * DAY_SECONDS < bills.end
    ]
    count = min(max(1, len(bills.customers) // 800), len(common) // 3)

    for _ in range(count):
        row = common.pop()
        bills.unsettled.add(bills.paid[row][0].reference)
        yield _planted_payment(
            bills,
            row,
            "unsettled",
            "payment_reconcile",
            "the channel's file leaves the payment out",
        )

        row = common.pop()
        bills.doubled.add(bills.paid[row][0].reference)
        yield _planted_payment(
            bills,
            row,
            "settled_twice",
            "payment_conflict",
            "the payment stands in the file of the day after too",
        )

        row = common.pop()
        (paid,) = bills.paid[row]
        bills.paid[row] += bills.pays(row, paid.at + DAY_SECONDS, paid.amount, 4, 0)
        yield _planted(
            bills,
            row,
            "paid_twice",
            "bill_overpaid",
            paid.at,
            "the bill is paid again at the counter",
        )


def _planted_payment(
    bills: TownBills, row: int, kind: str, rule: str, note: str
) -> Planted:
    """A fault of a customer's first payment, to the town's end."""
    area, customer = bills.who(row)
    paid = bills.paid[row][0]
    subject = f"{customer}/{paid.reference}"
    return Planted(kind, (rule,), area, subject, paid.at, bills.end, note)

"""The town's office: bills and how they are paid, and the work from reading to collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from models.master.calendar import midnight, months_around
from models.master.tariffs import BilledUse, amount
from models.timelines.bills import REBATE_START
from replay.simulation.happenings import Planted
from replay.simulation.network import (
    RESIDENTIAL_SEGMENT,
    SEGMENT_NAMES,
    SEGMENT_TARIFFS,
    TOWN_ZONE,
    Grid,
)
from schemas.columns import Payment, Payments, StageProgress, Stages
from schemas.units import DAY_SECONDS, HOUR_SECONDS

CHANNEL_NAMES = ("", "WeChat", "Alipay", "bank", "counter", "kiosk")
CHANNEL_SHARES = (0.45, 0.35, 0.12, 0.05, 0.03)
STAGE_HOURS = (  # hours allowed
    ("reading", 24),
    ("checking", 24),
    ("review", 24),
    ("issue", 120),
    ("collection", 480),
)
AREA_ROUTES = 4  # meter reader's routes an area; each is a new item of work every month
MONTH_DAYS = 31  # days
STUCK_ITEMS = 6  # items that nobody goes on with
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


class _PaymentRow(NamedTuple):
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


class _StageRow(NamedTuple):
    """A row of Stages."""

    at: int
    item: int  # a route
    stage: int  # into STAGE_HOURS
    progress: StageProgress


@dataclass(frozen=True)
class Office:
    """The office's rows of the town's days, in order of time, and the faults planted in them."""

    payments: Payments
    stages: Stages
    planted: tuple[Planted, ...]


def open_office(grid: Grid, start: int, days: int, seed: int, faults: bool) -> Office:
    """The office's work. The same arguments give the same work."""
    rng = np.random.default_rng([seed, 3])
    bills = _Bills(grid, start, days, seed, rng)
    work = _Work(grid, start, days, rng)
    planted = (*bills.plant(), *work.plant()) if faults else ()
    return Office(bills.rows_in_order(), work.rows_in_order(), tuple(planted))


def _first_of_month(at: int) -> int:
    """The midnight at which the local month of a moment began."""
    return midnight(months_around(at, TOWN_ZONE)[1], TOWN_ZONE)


class _Bills:
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

        homes = np.flatnonzero((grid.segment == RESIDENTIAL_SEGMENT) & ~grid.gateway)
        self.advance = np.random.default_rng([seed, 6])
        shuffled = self.advance.permutation(homes)
        self.prepaid = shuffled[: round(PREPAID_SHARE * len(homes))]
        self.customers = np.setdiff1d(np.flatnonzero(~grid.gateway), self.prepaid)

        self.paid: dict[int, list[_PaymentRow]] = {}
        self.bills: dict[int, _PaymentRow] = {}
        self.unsettled: set[str] = set()  # numbers that their channels leave out
        self.doubled: set[str] = set()  # numbers that stand in the next file too
        self._issue_bills()
        self.balances = {
            int(row): self._balance(int(row), prudent=True) for row in self.prepaid
        }

    def _issue_bills(self) -> None:
        """Draws every customer's bill and payment."""
        grid, rng, count = self.grid, self.rng, len(self.customers)
        issued = self.start + 9 * HOUR_SECONDS + grid.area[self.customers] * 60
        energy = np.round(
            grid.mean_kw[self.customers] * 24 * 30 * rng.uniform(0.8, 1.2, count)
        )

        # whole days to wait, then an hour of the day
        delay = np.minimum(rng.exponential(1.2, count), 4).astype(int) * DAY_SECONDS
        delay += rng.integers(HOUR_SECONDS, 12 * HOUR_SECONDS, count)
        channels = rng.choice(np.arange(1, len(CHANNEL_NAMES)), count, p=CHANNEL_SHARES)
        fails = rng.random(count) < 0.008

        columns = (self.customers, issued, energy, delay, channels, fails)
        drawn = zip(*(column.tolist() for column in columns), strict=True)
        for row, at, kwh, wait, channel, failed in drawn:
            self.bills[row] = bill = self._bill_of(row, at, kwh)
            self.paid[row] = self._pays(
                row, at + wait, bill.amount, channel, int(failed)
            )

    def _bill_of(self, row: int, at: int, kwh: float) -> _PaymentRow:
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
        return _PaymentRow(
            at, row, Payment.BILL, total, due=self.due, used=used, read_at=self.month
        )

    def _balance(self, row: int, *, prudent: bool) -> list[_PaymentRow]:
        """The balance of every morning; the prudent pay in time, each as much again."""
        rng = np.random.default_rng([row, 6])
        daily = self._daily_cost(row)
        days_left = rng.uniform(9, 28) if prudent else rng.uniform(2, 9)
        left = TOPPED_UP / 4 + daily * days_left

        rows = []
        for at in range(self.start + 7 * HOUR_SECONDS, self.end, DAY_SECONDS):
            left = round(left - daily * rng.uniform(0.7, 1.3), 2)
            rows.append(_PaymentRow(at, row, Payment.BALANCE, max(left, 0.0)))

            if prudent and left < max(TOPPED_UP / 4, LEFT_DAYS * daily):
                paid = max(TOPPED_UP, round(LEFT_DAYS * daily))
                left += paid
                rows.append(
                    _PaymentRow(
                        at + HOUR_SECONDS,
                        row,
                        Payment.TOPUP,
                        paid,
                        1,
                        reference=f"{row}-{at}",
                    )
                )
        return rows

    def _daily_cost(self, row: int) -> float:
        """Yuan that a prepaid home uses on a usual day."""
        return 24 * float(self.grid.mean_kw[row]) * YUAN_PER_KWH

    def _pays(
        self, row: int, at: int, amount: float, channel: int, failures: int
    ) -> list[_PaymentRow]:
        """A payment after so many failed tries, a quarter of an hour apart."""
        tries = [at + 900 * k for k in range(failures + 1)]
        return [
            _PaymentRow(
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

    def plant(self) -> Iterator[Planted]:
        """Customers who do not pay in time, and customers whose card is refused again and again."""
        victims = self.rng.permutation(self.customers).tolist()
        for _ in range(max(1, len(self.customers) // 800)):
            if self.due + 1.5 * DAY_SECONDS < self.end:
                row = victims.pop()
                self.paid[row] = []
                yield self._planted(
                    row, "arrears", "arrears_tier", self.due, "the bill is not paid"
                )

            row = victims.pop()
            at = (
                self.start
                + int(self.rng.integers(1, 5)) * DAY_SECONDS
                + int(self.rng.integers(8, 18)) * HOUR_SECONDS
            )
            self.paid[row] = self._pays(row, at, self.bills[row].amount, 3, 4)
            yield Planted(
                "card_refused",
                ("payment_failure_repeat",),
                *self._who(row),
                at,
                at + DAY_SECONDS,
                "the bank refuses four times",
            )

        yield from self._wrong_bills(victims)
        yield from self._forgetful()
        yield from self._channel_fails(int(np.argmax(np.bincount(self.grid.area))))
        yield from self._ledger(victims)

    def _planted(
        self, row: int, kind: str, rule: str, start: int, note: str, end: int = 0
    ) -> Planted:
        """A fault of a customer's bill, to the town's end unless it ends before."""
        area, customer = self._who(row)
        subject = f"{customer}/{self._bill(row)}"
        return Planted(kind, (rule,), area, subject, start, end or self.end, note)

    def _wrong_bills(self, victims: list[int]) -> Iterator[Planted]:
        """Bills that charge a tenth too much, and bills on readings of another day."""
        for _ in range(max(1, len(self.customers) // 800)):
            row = victims.pop()
            bill = self.bills[row]
            charged = round(1.1 * bill.amount, 2)
            self.bills[row] = bill._replace(amount=charged)
            self.paid[row] = [paid._replace(amount=charged) for paid in self.paid[row]]
            yield self._planted(
                row,
                "bill_recalc_mismatch",
                "bill_recalc_mismatch",
                bill.at,
                "the bill charges a tenth more than its tariff gives",
                bill.at + DAY_SECONDS,
            )

            row = victims.pop()
            bill = self.bills[row]
            self.bills[row] = bill._replace(read_at=self.month - 3 * DAY_SECONDS)
            yield self._planted(
                row,
                "read_date_wrong",
                "read_date_wrong",
                bill.at,
                "the reading billed is three days too early",
                bill.at + DAY_SECONDS,
            )

    def _forgetful(self) -> Iterator[Planted]:
        """Homes that pay in advance, and do not pay again."""
        shuffled = self.advance.permutation(self.prepaid)
        count = max(1, len(self.customers) // 800)
        earliest = self.start + 3 * DAY_SECONDS
        latest = self.end - 3 * DAY_SECONDS

        for row in shuffled[:count].tolist():
            balance = self._balance(row, prudent=False)
            limit = 1.15 * max(20, 3 * self._daily_cost(row))
            low = [morning.at for morning in balance if morning.amount < limit]
            if low and earliest < low[0] < latest:
                self.balances[row] = balance
                yield Planted(
                    "low_balance",
                    ("low_balance",),
                    *self._who(row),
                    low[0],
                    self.end,
                    "what was paid in advance runs out",
                )

    def _channel_fails(self, area: int) -> Iterator[Planted]:
        """The second day's payments through the first channel fail twice before they go through."""
        begin = self.start + DAY_SECONDS
        end = self.start + 2 * DAY_SECONDS
        hit = [
            row
            for row, tries in self.paid.items()
            if self.grid.area[row] == area
            and len(tries) == 1
            and tries[0].channel == 1
            and begin <= tries[0].at < end
        ]
        for row in hit:
            at, bill = self.paid[row][0].at, self.bills[row]
            self.paid[row] = self._pays(row, at, bill.amount, 1, 2)

        if len(hit) > 10:
            yield Planted(
                "channel_fails",
                ("payment_failure_burst",),
                self.grid.areas[area],
                CHANNEL_NAMES[1],
                begin,
                end,
                f"two of three attempts of {len(hit)} customers fail",
            )

    def _ledger(self, victims: list[int]) -> Iterator[Planted]:
        """Of three payments, one is not settled, one is settled twice and one is made twice."""
        common = [
            row
            for row in victims
            if len(self.paid[row]) == 1
            and self.paid[row][0].channel < 3
            and self.paid[row][0].at + 2.5 * DAY_SECONDS < self.end
        ]
        count = min(max(1, len(self.customers) // 800), len(common) // 3)

        for _ in range(count):
            row = common.pop()
            self.unsettled.add(self.paid[row][0].reference)
            yield self._planted_payment(
                row,
                "unsettled",
                "payment_reconcile",
                "the channel's file leaves the payment out",
            )

            row = common.pop()
            self.doubled.add(self.paid[row][0].reference)
            yield self._planted_payment(
                row,
                "settled_twice",
                "payment_conflict",
                "the payment stands in the file of the day after too",
            )

            row = common.pop()
            (paid,) = self.paid[row]
            self.paid[row] += self._pays(row, paid.at + DAY_SECONDS, paid.amount, 4, 0)
            yield self._planted(
                row,
                "paid_twice",
                "bill_overpaid",
                paid.at,
                "the bill is paid again at the counter",
            )

    def _planted_payment(self, row: int, kind: str, rule: str, note: str) -> Planted:
        """A fault of a customer's first payment, to the town's end."""
        area, customer = self._who(row)
        paid = self.paid[row][0]
        subject = f"{customer}/{paid.reference}"
        return Planted(kind, (rule,), area, subject, paid.at, self.end, note)

    def _settlements(self) -> Iterator[_PaymentRow]:
        """The lines of the channels' files."""
        for rows in (*self.paid.values(), *self.balances.values()):
            for paid in rows:
                if paid.payment in {Payment.PAYMENT, Payment.TOPUP} and paid.succeeded:
                    yield from self._settled(paid)

    def _settled(self, paid: _PaymentRow) -> Iterator[_PaymentRow]:
        """The lines of a payment: one, unless a fault leaves it out or repeats it a day later."""
        day = paid.at - (paid.at - self.start) % DAY_SECONDS
        at = day + DAY_SECONDS + SETTLEMENT_DELAY
        line = paid._replace(at=at, payment=Payment.SETTLEMENT)
        if paid.reference not in self.unsettled:
            yield line
        if paid.reference in self.doubled:
            yield line._replace(at=at + DAY_SECONDS)

    def _bill(self, row: int) -> str:
        return f"{self.grid.customer(row)}-2026-02"

    def _who(self, row: int) -> tuple[str, str]:
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

        # rows to columns, in the order of _PaymentRow's fields
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
            bills=("", *map(self._bill, range(len(names)))),
            channels=CHANNEL_NAMES,
            channel=channel,
            succeeded=succeeded,
            due=due,
            references=tuple(references),
            reference=[references[name] for name in reference],
            read_at=read_at,
            **billed,
        )


def _bill_number(row: _PaymentRow) -> int:
    """The number of a customer's only bill; 0 where none is meant."""
    return 0 if row.payment in {Payment.TOPUP, Payment.BALANCE} else row.meter + 1


class _Work:
    """Every route's bills go through the stages every month, well within the limits."""

    def __init__(
        self, grid: Grid, start: int, days: int, rng: np.random.Generator
    ) -> None:
        self.grid = grid
        self.start = start
        self.end = start + days * DAY_SECONDS
        self.rng = rng
        self.routes = AREA_ROUTES * len(grid.areas)
        self.steps: dict[int, list[_StageRow]] = {}

        for item in range(self.routes * -(-days // MONTH_DAYS)):
            first = item // self.routes * MONTH_DAYS
            day = first + int(rng.integers(0, min(days - first, MONTH_DAYS)))
            at = start + day * DAY_SECONDS + 8 * HOUR_SECONDS
            self.steps[item] = self._stages_of(item, at)

    def _stages_of(self, item: int, at: int) -> list[_StageRow]:
        """An item's way through all stages from a moment on."""
        steps = []
        for stage, (_, hours) in enumerate(STAGE_HOURS):
            steps.append(_StageRow(at, item, stage, StageProgress.STARTED))
            share = min(0.72, 0.35 * np.exp(0.4 * self.rng.standard_normal()))
            at += int(hours * HOUR_SECONDS * share)
            steps.append(_StageRow(at, item, stage, StageProgress.FINISHED))
            at += int(self.rng.integers(60, 1800))
        return steps

    def plant(self) -> Iterator[Planted]:
        """Items that start a stage and never finish it, and items that leave a stage out."""
        count = max(1, len(self.grid.areas) // 6)
        for stage in self.rng.permutation([0, 1, 2])[:count].tolist():
            yield from self._stalled(
                "stalled_stage", "stage_overdue", "stage_stall", stage, 0
            )
        for _ in range(count):
            yield from self._left_out()

        # only a long town shows how long a stay usually is
        if self.end > self.start + 1.3 * MONTH_DAYS * DAY_SECONDS:
            yield from self._stalled(
                "stage_stall", "stage_stall", "stage_overdue", 3, 1
            )
        else:
            yield from self._stuck(int(self.rng.integers(3)))

    def _left_out(self) -> Iterator[Planted]:
        """An item that goes from reading to review without checking."""
        whole = [
            item
            for item, steps in self.steps.items()
            if _is_whole(steps) and steps[4].at < self.end
        ]

        if whole:
            item = int(self.rng.choice(whole))
            at = self.steps[item][4].at
            del self.steps[item][2:4]
            yield Planted(
                "left_out",
                ("stage_disorder",),
                self._section(item),
                self._name(item),
                at,
                self.end,
                "review was started without checking",
            )

    def _stuck(self, stage: int) -> Iterator[Planted]:
        """Six items of a section, that enter a stage soon after each other, stay in it."""
        name, hours = STAGE_HOURS[stage]
        starts = {
            item: steps[2 * stage].at
            for item, steps in self.steps.items()
            if item < self.routes and _is_whole(steps)
        }
        needs = hours * HOUR_SECONDS + 1.5 * DAY_SECONDS
        early = [item for item, at in starts.items() if at + needs < self.end]
        if not early:
            return

        ((section, _),) = Counter(map(self._section, early)).most_common(1)
        entered = sorted(
            (starts[item], item) for item in early if self._section(item) == section
        )
        runs = [
            entered[n : n + STUCK_ITEMS] for n in range(len(entered) - STUCK_ITEMS + 1)
        ]
        if not runs:
            return

        densest = min(runs, key=lambda run: run[-1][0] - run[0][0])
        for _, item in densest:
            self.steps[item] = self.steps[item][: 2 * stage + 1]
        yield Planted(
            "stuck",
            ("stage_batch_stuck",),
            section,
            "",
            densest[0][0],
            self.end,
            f"{STUCK_ITEMS} items stay in {name}",
            ("stage_overdue", "stage_stall"),
        )

    def _stalled(
        self, kind: str, rule: str, echo: str, stage: int, month: int
    ) -> Iterator[Planted]:
        """An item of a month that stays in a stage."""
        name, hours = STAGE_HOURS[stage]
        allowed = hours * HOUR_SECONDS
        needs = 2.2 * hours * HOUR_SECONDS if month else allowed + DAY_SECONDS
        early = [
            item
            for item, steps in self.steps.items()
            if item // self.routes == month
            and _is_whole(steps)
            and steps[2 * stage].at + needs < self.end
        ]

        if early:
            item = int(self.rng.choice(early))
            at = self.steps[item][2 * stage].at
            self.steps[item] = self.steps[item][: 2 * stage + 1]
            yield Planted(
                kind,
                (rule,),
                self._section(item),
                f"{self._name(item)}/{name}",
                at,
                self.end,
                f"{name} was started and never finished",
                (echo,),
            )

    def _name(self, item: int) -> str:
        month, route = divmod(item, self.routes)
        area = self.grid.areas[route // AREA_ROUTES]
        return f"{area}-{route % AREA_ROUTES + 1}-2026-{3 + month:02}"

    def _section(self, item: int) -> str:
        return self.grid.sections[item % self.routes // AREA_ROUTES]

    def rows_in_order(self) -> Stages:
        """All rows until the town's end."""
        every = chain.from_iterable(self.steps.values())
        rows = sorted(step for step in every if step.at < self.end)
        at, items, stages, progress = zip(*rows, strict=True)

        sections = tuple(sorted(set(self.grid.sections)))
        return Stages.build(
            tuple(map(self._name, self.steps)),
            items,
            sections,
            [sections.index(self._section(item)) for item in items],
            at,
            stages=tuple(name for name, _ in STAGE_HOURS),
            stage=stages,
            progress=progress,
            limit=[STAGE_HOURS[stage][1] * HOUR_SECONDS for stage in stages],
        )


def _is_whole(steps: list[_StageRow]) -> bool:
    """True if an item still goes through every stage."""
    return len(steps) == 2 * len(STAGE_HOURS)

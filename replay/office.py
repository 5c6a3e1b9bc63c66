"""The town's office: bills and how they are paid, and the work from reading to collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.bills import REBATE_START
from models.calendar import midnight, months_around
from models.tariffs import BilledUse, amount
from replay.happenings import Planted
from replay.network import (
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
STAGE_HOURS = (
    ("reading", 24),
    ("checking", 24),
    ("review", 24),
    ("issue", 120),
    ("collection", 480),
)  # hours allowed
AREA_ROUTES = (
    4  # of the meter reader in each area; each is an item of work, every month anew
)
MONTH_DAYS = 31  # days
STUCK_ITEMS = 6  # items that nobody goes on with
YUAN_PER_KWH = 0.56  # a kWh, prepaid
PREPAID_SHARE = 0.02  # of the homes
TOPPED_UP, LEFT_DAYS = (
    200.0,
    8,
)  # yuan, and days of use that are left when the prudent pay
SETTLEMENT_DELAY = 3 * HOUR_SECONDS  # after midnight, of the day before


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
    """What the office did in the town's days, in order of time, and the faults planted in it."""

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
    """When the local month of a moment began."""
    return midnight(months_around(at, TOWN_ZONE)[1], TOWN_ZONE)


class _Bills:
    """Last month's bills, issued on the first day, due five days later; most customers pay at once.

    Every night each channel settles what went through it the day before. A few homes pay in advance instead: what is
    left is told every morning.
    """

    def __init__(
        self, grid: Grid, start: int, days: int, seed: int, rng: np.random.Generator
    ) -> None:
        self.grid, self.start, self.end, self.rng = (
            grid,
            start,
            start + days * DAY_SECONDS,
            rng,
        )
        self.due, self.month = start + 6 * DAY_SECONDS, _first_of_month(start)
        homes = np.flatnonzero((grid.segment == RESIDENTIAL_SEGMENT) & ~grid.gateway)
        self.advance = np.random.default_rng([seed, 6])
        self.prepaid = self.advance.permutation(homes)[
            : round(PREPAID_SHARE * len(homes))
        ]
        self.customers = np.setdiff1d(np.flatnonzero(~grid.gateway), self.prepaid)
        self.paid: dict[int, list[_PaymentRow]] = {}
        self.bills: dict[int, _PaymentRow] = {}
        self.unsettled: set[str] = set()  # numbers that their channels leave out
        self.doubled: set[str] = set()  # and those that stand in the next file too
        issued = start + 9 * HOUR_SECONDS + grid.area[self.customers] * 60
        energy = np.round(
            grid.mean_kw[self.customers] * 24 * 30 * rng.uniform(0.8, 1.2, len(issued))
        )
        delay = (
            np.minimum(rng.exponential(1.2, len(issued)), 4).astype(int) * DAY_SECONDS
        )
        delay += rng.integers(HOUR_SECONDS, 12 * HOUR_SECONDS, len(issued))
        channels = rng.choice(
            np.arange(1, len(CHANNEL_NAMES)), len(issued), p=CHANNEL_SHARES
        )
        fails = rng.random(len(issued)) < 0.008
        columns = (self.customers, issued, energy, delay, channels, fails)
        for row, at, kwh, wait, channel, failed in zip(
            *(c.tolist() for c in columns), strict=True
        ):
            self.bills[row] = bill = self._bill_of(row, at, kwh)
            self.paid[row] = self._pays(
                row, at + wait, bill.amount, channel, int(failed)
            )
        self.balances = {
            int(row): self._balance(int(row), prudent=True) for row in self.prepaid
        }

    def _bill_of(self, row: int, at: int, kwh: float) -> _PaymentRow:
        """A bill of so many kWh, read at midnight as the month began."""
        grid, meter = self.grid, self.grid.meter(row, self.start)
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
            meter,
            used,
            rebate=at >= REBATE_START,
        )
        return _PaymentRow(
            at, row, Payment.BILL, total, due=self.due, used=used, read_at=self.month
        )

    def _balance(self, row: int, *, prudent: bool) -> list[_PaymentRow]:
        """What is left every morning; the prudent pay in time, each as much again."""
        daily = 24 * float(self.grid.mean_kw[row]) * YUAN_PER_KWH
        rng, rows = np.random.default_rng([row, 6]), []
        left = TOPPED_UP / 4 + daily * (
            rng.uniform(9, 28) if prudent else rng.uniform(2, 9)
        )
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

    def _pays(
        self, row: int, at: int, amount: float, channel: int, failures: int
    ) -> list[_PaymentRow]:
        tries = [at + 900 * k for k in range(failures + 1)]
        return [
            _PaymentRow(
                t,
                row,
                Payment.PAYMENT,
                amount,
                channel,
                t == tries[-1],
                reference=f"{row}-{t}",
            )
            for t in tries
        ]

    def plant(self) -> Iterator[Planted]:
        """Customers who do not pay in time, and customers whose card is refused again and again."""
        victims = self.rng.permutation(self.customers).tolist()
        for _ in range(max(1, len(self.customers) // 800)):
            if self.due + 1.5 * DAY_SECONDS < self.end:
                row = victims.pop()
                self.paid[row] = []
                area, customer = self._who(row)
                yield Planted(
                    "arrears",
                    ("arrears_tier",),
                    area,
                    f"{customer}/{self._bill(row)}",
                    self.due,
                    self.end,
                    "the bill is not paid",
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

    def _wrong_bills(self, victims: list[int]) -> Iterator[Planted]:
        """Bills that charge a tenth more than their tariff gives, and bills on readings of another day."""
        for _ in range(max(1, len(self.customers) // 800)):
            row = victims.pop()
            bill = self.bills[row]
            self.bills[row] = bill._replace(amount=round(1.1 * bill.amount, 2))
            self.paid[row] = [
                paid._replace(amount=self.bills[row].amount) for paid in self.paid[row]
            ]
            area, customer = self._who(row)
            yield Planted(
                "bill_recalc_mismatch",
                ("bill_recalc_mismatch",),
                area,
                f"{customer}/{self._bill(row)}",
                bill.at,
                bill.at + DAY_SECONDS,
                "the bill charges a tenth more than its tariff gives",
            )
            row = victims.pop()
            bill = self.bills[row] = self.bills[row]._replace(
                read_at=self.month - 3 * DAY_SECONDS
            )
            area, customer = self._who(row)
            yield Planted(
                "read_date_wrong",
                ("read_date_wrong",),
                area,
                f"{customer}/{self._bill(row)}",
                bill.at,
                bill.at + DAY_SECONDS,
                "the reading billed is three days too early",
            )

    def _forgetful(self) -> Iterator[Planted]:
        """Homes that pay in advance, and do not pay again."""
        for row in self.advance.permutation(self.prepaid)[
            : max(1, len(self.customers) // 800)
        ].tolist():
            balance, daily = (
                self._balance(row, prudent=False),
                24 * float(self.grid.mean_kw[row]) * YUAN_PER_KWH,
            )
            low = [
                told.at for told in balance if told.amount < 1.15 * max(20, 3 * daily)
            ]
            if (
                low
                and self.start + 3 * DAY_SECONDS < low[0] < self.end - 3 * DAY_SECONDS
            ):
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
        begin, end = self.start + DAY_SECONDS, self.start + 2 * DAY_SECONDS
        hit = [
            r
            for r, tries in self.paid.items()
            if self.grid.area[r] == area
            and len(tries) == 1
            and tries[0].channel == 1
            and begin <= tries[0].at < end
        ]
        for row in hit:
            self.paid[row] = self._pays(
                row, self.paid[row][0].at, self.bills[row].amount, 1, 2
            )
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
        """Of customers who paid at once: one's line is missing, one's comes twice, and one pays twice."""
        common = [
            r
            for r in victims
            if len(self.paid[r]) == 1
            and self.paid[r][0].channel < 3
            and self.paid[r][0].at + 2.5 * DAY_SECONDS < self.end
        ]
        plans = (
            (
                "unsettled",
                "payment_reconcile",
                "the channel's file leaves the payment out",
            ),
            (
                "settled_twice",
                "payment_conflict",
                "the payment stands in the file of the day after too",
            ),
            ("paid_twice", "bill_overpaid", "the bill is paid again at the counter"),
        )
        for _ in range(
            min(max(1, len(self.customers) // 800), len(common) // len(plans))
        ):
            for kind, rule, note in plans:
                (paid,), (area, customer) = (
                    self.paid[row := common.pop()],
                    self._who(row),
                )
                subject = f"{customer}/{paid.reference}"
                if kind == "unsettled":
                    self.unsettled.add(paid.reference)
                elif kind == "settled_twice":
                    self.doubled.add(paid.reference)
                else:
                    self.paid[row] += self._pays(
                        row, paid.at + DAY_SECONDS, paid.amount, 4, 0
                    )
                    subject = f"{customer}/{self._bill(row)}"
                yield Planted(kind, (rule,), area, subject, paid.at, self.end, note)

    def _settlements(self) -> Iterator[_PaymentRow]:
        """The lines of the channels' files."""
        every = (
            row
            for rows in (*self.paid.values(), *self.balances.values())
            for row in rows
        )
        for paid in (
            r
            for r in every
            if r.payment in {Payment.PAYMENT, Payment.TOPUP} and r.succeeded
        ):
            at = (
                paid.at
                - (paid.at - self.start) % DAY_SECONDS
                + DAY_SECONDS
                + SETTLEMENT_DELAY
            )
            line = paid._replace(at=at, payment=Payment.SETTLEMENT)
            yield from [line] * (paid.reference not in self.unsettled)
            yield from [line._replace(at=at + DAY_SECONDS)] * (
                paid.reference in self.doubled
            )

    def _bill(self, row: int) -> str:
        return f"{self.grid.customer(row)}-2026-02"

    def _who(self, row: int) -> tuple[str, str]:
        return self.grid.areas[self.grid.area[row]], self.grid.customer(row)

    def rows_in_order(self) -> Payments:
        """All rows until the town's end."""
        every = [
            *self.bills.values(),
            *(r for tries in self.paid.values() for r in tries),
            *self._settlements(),
            *(r for rows in self.balances.values() for r in rows),
        ]
        rows = sorted(r for r in every if r.at < self.end)
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
        names = tuple(self.grid.customer(r) for r in range(len(self.grid)))
        return Payments.build(
            names,
            meter,
            self.grid.areas,
            self.grid.area[list(meter)],
            at,
            payment=payment,
            amount=amount,
            bill=[
                0 if p in {Payment.TOPUP, Payment.BALANCE} else m + 1
                for p, m in zip(payment, meter, strict=True)
            ],
            bills=("", *map(self._bill, range(len(names)))),
            channels=CHANNEL_NAMES,
            channel=channel,
            succeeded=succeeded,
            due=due,
            references=tuple(references),
            reference=[references[r] for r in reference],
            read_at=read_at,
            **billed,
        )


class _Work:
    """Every route's bills go through the stages, one after another, well within the limits; every month anew."""

    def __init__(
        self, grid: Grid, start: int, days: int, rng: np.random.Generator
    ) -> None:
        self.grid, self.start, self.end, self.rng = (
            grid,
            start,
            start + days * DAY_SECONDS,
            rng,
        )
        self.routes = AREA_ROUTES * len(grid.areas)
        self.steps: dict[int, list[_StageRow]] = {}
        for item in range(self.routes * -(-days // MONTH_DAYS)):
            first = item // self.routes * MONTH_DAYS
            at = (
                start
                + (first + int(rng.integers(0, min(days - first, MONTH_DAYS))))
                * DAY_SECONDS
                + 8 * HOUR_SECONDS
            )
            self.steps[item] = []
            for stage, (_, hours) in enumerate(STAGE_HOURS):
                self.steps[item].append(
                    _StageRow(at, item, stage, StageProgress.STARTED)
                )
                at += int(
                    hours
                    * HOUR_SECONDS
                    * min(0.72, 0.35 * np.exp(0.4 * rng.standard_normal()))
                )
                self.steps[item].append(
                    _StageRow(at, item, stage, StageProgress.FINISHED)
                )
                at += int(rng.integers(60, 1800))

    def plant(self) -> Iterator[Planted]:
        """Items that stall in a stage: started, and nothing after; others that leave a stage out."""
        count = max(1, len(self.grid.areas) // 6)
        for stage in self.rng.permutation([0, 1, 2])[:count].tolist():
            yield from self._stalled(
                "stalled_stage", "stage_overdue", "stage_stall", stage, 0
            )
        long = (
            self.end > self.start + 1.3 * MONTH_DAYS * DAY_SECONDS
        )  # enough that what is usual becomes known
        for _ in range(count):
            whole = [
                k
                for k, steps in self.steps.items()
                if len(steps) == 2 * len(STAGE_HOURS) and steps[4].at < self.end
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

        yield from (
            self._stalled("stage_stall", "stage_stall", "stage_overdue", 3, 1)
            if long
            else self._stuck(int(self.rng.integers(3)))
        )

    def _stuck(self, stage: int) -> Iterator[Planted]:
        """Six items of a section, that enter a stage soon after each other, stay in it."""
        whole = [
            k
            for k, steps in self.steps.items()
            if k < self.routes
            and len(steps) == 2 * len(STAGE_HOURS)
            and steps[2 * stage].at
            + STAGE_HOURS[stage][1] * HOUR_SECONDS
            + 1.5 * DAY_SECONDS
            < self.end
        ]
        section, _ = (
            Counter(map(self._section, whole)).most_common(1)[0] if whole else ("", 0)
        )
        mine = sorted(
            (self.steps[k][2 * stage].at, k)
            for k in whole
            if self._section(k) == section
        )
        rows = [mine[n : n + STUCK_ITEMS] for n in range(len(mine) - STUCK_ITEMS + 1)]
        if rows:
            items = min(rows, key=lambda row: row[-1][0] - row[0][0])
            at = items[0][0]
            for _, item in items:
                self.steps[item] = self.steps[item][: 2 * stage + 1]
            yield Planted(
                "stuck",
                ("stage_batch_stuck",),
                section,
                "",
                at,
                self.end,
                f"{STUCK_ITEMS} items stay in {STAGE_HOURS[stage][0]}",
                ("stage_overdue", "stage_stall"),
            )

    def _stalled(
        self, kind: str, rule: str, echo: str, stage: int, month: int
    ) -> Iterator[Planted]:
        """An item of a month that stays in a stage."""
        needs = (
            2.2 * STAGE_HOURS[stage][1] * HOUR_SECONDS
            if month
            else STAGE_HOURS[stage][1] * HOUR_SECONDS + DAY_SECONDS
        )
        early = [
            k
            for k, steps in self.steps.items()
            if k // self.routes == month
            and len(steps) == 2 * len(STAGE_HOURS)
            and steps[2 * stage].at + needs < self.end
        ]
        if early:
            item = int(self.rng.choice(early))
            at = self.steps[item][2 * stage].at
            self.steps[item] = self.steps[item][: 2 * stage + 1]
            name = STAGE_HOURS[stage][0]
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
        return f"{self.grid.areas[route // AREA_ROUTES]}-{route % AREA_ROUTES + 1}-2026-{3 + month:02}"

    def _section(self, item: int) -> str:
        return self.grid.sections[item % self.routes // AREA_ROUTES]

    def rows_in_order(self) -> Stages:
        """All rows until the town's end."""
        rows = sorted(
            step
            for steps in self.steps.values()
            for step in steps
            if step.at < self.end
        )
        at, items, stages, progress = zip(*rows, strict=True)
        sections = tuple(sorted(set(self.grid.sections)))
        return Stages.build(
            tuple(self._name(k) for k in self.steps),
            items,
            sections,
            [sections.index(self._section(k)) for k in items],
            at,
            stages=tuple(name for name, _ in STAGE_HOURS),
            stage=stages,
            progress=progress,
            limit=[STAGE_HOURS[s][1] * HOUR_SECONDS for s in stages],
        )

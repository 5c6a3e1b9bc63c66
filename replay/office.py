"""The town's office: bills and how they are paid, and the work from reading to collection."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from replay.network import Grid
from replay.planted import DAY, HOUR, Planted
from schemas.columns import Payment, Payments, Progress, Stages

CHANNELS = ("", "WeChat", "Alipay", "bank", "counter", "kiosk")
SHARES = (0.45, 0.35, 0.12, 0.05, 0.03)
STAGES = (("reading", 24), ("checking", 24), ("review", 24), ("issue", 120), ("collection", 480))  # hours allowed
ROUTES = 4  # of the meter reader in each area; each is an item of work
YUAN = 0.56  # a kWh
SETTLES = 3 * HOUR  # after midnight, of the day before


class Row(NamedTuple):
    """A row of Payments."""

    at: int
    meter: int  # row of the grid
    payment: Payment
    amount: float
    channel: int = 0
    succeeded: bool = True
    due: int = 0
    reference: str = ""  # the channel's number


class Step(NamedTuple):
    """A row of Stages."""

    at: int
    item: int  # a route
    stage: int  # into STAGES
    progress: Progress


@dataclass(frozen=True)
class Office:
    """What the office did in the town's days, in order of time, and the faults planted in it."""

    payments: Payments
    stages: Stages
    planted: tuple[Planted, ...]


def open_office(grid: Grid, start: int, days: int, seed: int, faults: bool) -> Office:
    """The office's work. The same arguments give the same work."""
    rng = np.random.default_rng([seed, 3])
    bills = _Bills(grid, start, days, rng)
    work = _Work(grid, start, days, rng)
    planted = (*bills.plant(), *work.plant()) if faults else ()
    return Office(bills.rows_in_order(), work.rows_in_order(), tuple(planted))


class _Bills:
    """Last month's bills, issued on the first day, due five days later; most customers pay at once.

    Every night each channel settles what went through it the day before.
    """

    def __init__(self, grid: Grid, start: int, days: int, rng: np.random.Generator) -> None:
        self.grid, self.start, self.end, self.rng = grid, start, start + days * DAY, rng
        self.due = start + 6 * DAY
        self.customers = np.flatnonzero(~grid.gateway)
        self.paid: dict[int, list[Row]] = {}
        self.bills: dict[int, Row] = {}
        self.unsettled: set[str] = set()  # numbers that their channels leave out
        self.doubled: set[str] = set()  # and those that stand in the next file too
        issued = start + 9 * HOUR + grid.area[self.customers] * 60
        amounts = np.round(grid.mean_kw[self.customers] * 24 * 30 * YUAN * rng.uniform(0.8, 1.2, len(issued)), 2)
        delay = np.minimum(rng.exponential(1.2, len(issued)), 4).astype(int) * DAY
        delay += rng.integers(HOUR, 12 * HOUR, len(issued))
        channels = rng.choice(np.arange(1, len(CHANNELS)), len(issued), p=SHARES)
        fails = rng.random(len(issued)) < 0.008
        columns = (self.customers, issued, amounts, delay, channels, fails)
        for row, at, amount, wait, channel, failed in zip(*(c.tolist() for c in columns), strict=True):
            self.bills[row] = Row(at, row, Payment.BILL, amount, due=self.due)
            self.paid[row] = self._pays(row, at + wait, amount, channel, int(failed))

    def _pays(self, row: int, at: int, amount: float, channel: int, failures: int) -> list[Row]:
        tries = [at + 900 * k for k in range(failures + 1)]
        return [Row(t, row, Payment.PAYMENT, amount, channel, t == tries[-1], reference=f"{row}-{t}") for t in tries]

    def plant(self) -> Iterator[Planted]:
        """Customers who do not pay in time, and customers whose card is refused again and again."""
        victims = self.rng.permutation(self.customers).tolist()
        for _ in range(max(1, len(self.customers) // 800)):
            if self.due + 1.5 * DAY < self.end:
                row = victims.pop()
                self.paid[row] = []
                area, customer = self._who(row)
                yield Planted("arrears", ("arrears_tier",), area, f"{customer}/{self._bill(row)}", self.due, self.end,
                              "the bill is not paid")  # fmt: skip
            row = victims.pop()
            at = self.start + int(self.rng.integers(1, 5)) * DAY + int(self.rng.integers(8, 18)) * HOUR
            self.paid[row] = self._pays(row, at, self.bills[row].amount, 3, 4)
            yield Planted("card_refused", ("payment_failure_repeat",), *self._who(row), at, at + DAY,
                          "the bank refuses four times")  # fmt: skip
        yield from self._channel_fails(int(np.argmax(np.bincount(self.grid.area))))
        yield from self._ledger(victims)

    def _channel_fails(self, area: int) -> Iterator[Planted]:
        """The second day's payments through the first channel fail twice before they go through."""
        begin, end = self.start + DAY, self.start + 2 * DAY
        hit = [r for r, tries in self.paid.items() if self.grid.area[r] == area and len(tries) == 1
               and tries[0].channel == 1 and begin <= tries[0].at < end]  # fmt: skip
        for row in hit:
            self.paid[row] = self._pays(row, self.paid[row][0].at, self.bills[row].amount, 1, 2)
        if len(hit) > 10:
            yield Planted("channel_fails", ("payment_failure_burst",), self.grid.areas[area], CHANNELS[1], begin, end,
                          f"two of three attempts of {len(hit)} customers fail")  # fmt: skip

    def _ledger(self, victims: list[int]) -> Iterator[Planted]:
        """Of customers who paid at once: one's line is missing, one's comes twice, and one pays twice."""
        common = [r for r in victims if len(self.paid[r]) == 1 and self.paid[r][0].channel < 3
                  and self.paid[r][0].at + 2.5 * DAY < self.end]  # fmt: skip
        plans = (("unsettled", "payment_reconcile", "the channel's file leaves the payment out"),
                 ("settled_twice", "payment_conflict", "the payment stands in the file of the day after too"),
                 ("paid_twice", "bill_overpaid", "the bill is paid again at the counter"))  # fmt: skip
        for _ in range(min(max(1, len(self.customers) // 800), len(common) // len(plans))):
            for kind, rule, note in plans:
                (paid,), (area, customer) = self.paid[row := common.pop()], self._who(row)
                subject = f"{customer}/{paid.reference}"
                if kind == "unsettled":
                    self.unsettled.add(paid.reference)
                elif kind == "settled_twice":
                    self.doubled.add(paid.reference)
                else:
                    self.paid[row] += self._pays(row, paid.at + DAY, paid.amount, 4, 0)
                    subject = f"{customer}/{self._bill(row)}"
                yield Planted(kind, (rule,), area, subject, paid.at, self.end, note)

    def _settlements(self) -> Iterator[Row]:
        """The lines of the channels' files."""
        for paid in (r for tries in self.paid.values() for r in tries if r.succeeded):
            at = paid.at - (paid.at - self.start) % DAY + DAY + SETTLES
            line = paid._replace(at=at, payment=Payment.SETTLEMENT)
            yield from [line] * (paid.reference not in self.unsettled)
            yield from [line._replace(at=at + DAY)] * (paid.reference in self.doubled)

    def _bill(self, row: int) -> str:
        return f"{self.grid.customer(row)}-2026-02"

    def _who(self, row: int) -> tuple[str, str]:
        return self.grid.areas[self.grid.area[row]], self.grid.customer(row)

    def rows_in_order(self) -> Payments:
        """All rows until the town's end."""
        every = [*self.bills.values(), *(r for tries in self.paid.values() for r in tries), *self._settlements()]
        rows = sorted(r for r in every if r.at < self.end)
        at, meter, payment, amount, channel, succeeded, due, reference = zip(*rows, strict=True)
        references = {name: n for n, name in enumerate(dict.fromkeys(reference))}
        names = tuple(self.grid.customer(r) for r in range(len(self.grid)))
        return Payments.build(
            names, meter, self.grid.areas, self.grid.area[list(meter)], at, payment=payment, amount=amount,
            bills=tuple(map(self._bill, range(len(names)))), bill=meter, channels=CHANNELS, channel=channel,
            succeeded=succeeded, due=due, references=tuple(references), reference=[references[r] for r in reference],
        )  # fmt: skip


class _Work:
    """Every route's bills go through the stages, one after another, well within the limits."""

    def __init__(self, grid: Grid, start: int, days: int, rng: np.random.Generator) -> None:
        self.grid, self.end, self.rng = grid, start + days * DAY, rng
        self.steps: dict[int, list[Step]] = {}
        for item in range(ROUTES * len(grid.areas)):
            at = start + int(rng.integers(0, days)) * DAY + 8 * HOUR
            self.steps[item] = []
            for stage, (_, hours) in enumerate(STAGES):
                self.steps[item].append(Step(at, item, stage, Progress.STARTED))
                at += int(hours * HOUR * min(0.72, 0.35 * np.exp(0.4 * rng.standard_normal())))
                self.steps[item].append(Step(at, item, stage, Progress.FINISHED))
                at += int(rng.integers(60, 1800))

    def plant(self) -> Iterator[Planted]:
        """Items that stall in checking or review: started, and nothing after."""
        for stage in self.rng.permutation([0, 1, 2])[: max(1, len(self.grid.areas) // 6)].tolist():
            limit = STAGES[stage][1] * HOUR
            early = [k for k, steps in self.steps.items()
                     if len(steps) == 2 * len(STAGES) and steps[2 * stage].at + limit + DAY < self.end]  # fmt: skip
            if not early:
                continue
            item = int(self.rng.choice(early))
            at = self.steps[item][2 * stage].at
            self.steps[item] = self.steps[item][: 2 * stage + 1]
            name, section = STAGES[stage][0], self._section(item)
            yield Planted("stalled_stage", ("stage_overdue",), section, f"{self._name(item)}/{name}", at, self.end,
                          f"{name} was started and never finished")  # fmt: skip

    def _name(self, item: int) -> str:
        return f"{self.grid.areas[item // ROUTES]}-{item % ROUTES + 1}-2026-03"

    def _section(self, item: int) -> str:
        return self.grid.sections[item // ROUTES]

    def rows_in_order(self) -> Stages:
        """All rows until the town's end."""
        rows = sorted(step for steps in self.steps.values() for step in steps if step.at < self.end)
        at, items, stages, progress = zip(*rows, strict=True)
        sections = tuple(sorted(set(self.grid.sections)))
        return Stages.build(
            tuple(self._name(k) for k in self.steps), items, sections,
            [sections.index(self._section(k)) for k in items], at, stages=tuple(name for name, _ in STAGES),
            stage=stages, progress=progress, limit=[STAGES[s][1] * HOUR for s in stages],
        )  # fmt: skip

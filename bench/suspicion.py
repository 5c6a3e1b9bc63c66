"""`python -m bench.suspicion` learns suspicion from visits to simulated customers, and prints how well it ranks others.

In towns with curves, thieves hide a share of their use by the attacks of the literature; in billing histories they
register 20 to 70 % of it. Visits are drawn by chance. Simulated customers show that the model finds what was planted,
not how much it would bring in a real utility.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from detectors.rule import ALL_RULES
from replay.history import Source, Tally, arranged
from replay.labels import Label, judged_rules
from replay.simulation.attacks import THEFT_ATTACKS, attacked
from replay.simulation.bills import YUAN_PER_KWH
from replay.simulation.network import START_TIME, TOWN_ZONE
from replay.simulation.town import Town
from replay.suspicion.fitting import SuspicionLesson, learn
from replay.suspicion.measures import RankingQuality
from replay.suspicion.visits import visits_of
from replay.suspicion.watch import watch
from schemas.columns import Batch, Column, Payment, Payments, Times
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS

MONTH_SECONDS = 30 * DAY_SECONDS  # s between two readings for a bill
VISITED_SHARE = 0.7  # of the customers
STEALING_SHARE = 0.06  # of the customers with bills
TOWN_STEALING_SHARE = 0.15  # of the customers of a town, of whom there are fewer
ESTIMATED_SHARE = 0.05  # of the bills, which then have no register
VACANT_SHARE = 0.05  # of the customers, who leave for some months
EARLIEST_DAY = 15  # of a theft in a town, and of a visit


def visit(
    subject: str, area: str, since: int, at: int, *, theft: bool, inclusion: float
) -> Label:
    """What a visit found."""
    outcome = "bypass" if theft else "nothing_found"
    return Label(
        subject=subject,
        area=area,
        since=since,
        until=at,
        outcome=outcome,
        verdict="true" if theft else "false",
        source="simulator",
        inclusion=inclusion,
        rules=judged_rules(outcome),
        where=f"visit to {subject}",
    )


def visited_town(meters: int, days: int, seed: int) -> tuple[Source, list[Label]]:
    """A town with thieves, and the visits to its customers; a theft ends with the visit that finds it."""
    town = Town(meters, days, seed, faults=False)
    rng = np.random.default_rng([seed, 11])
    kinds = list(THEFT_ATTACKS)
    labels = []
    for row in np.flatnonzero(~town.grid.gateway).tolist():
        steals, is_visited = rng.random(2) < (TOWN_STEALING_SHARE, VISITED_SHARE)
        began, seen = (
            town.start + int(day * DAY_SECONDS)
            for day in rng.uniform(EARLIEST_DAY, days, 2)
        )
        found = bool(steals and is_visited and began < seen - DAY_SECONDS)
        name, area = town.grid.names[row], town.grid.areas[town.grid.area[row]]

        if steals:
            span = (began, seen if found else town.end)
            kind = kinds[row % len(kinds)]
            town.happenings.append(attacked(town.grid, kind, row, span, seed))
        if is_visited:
            since = began if found else town.start
            labels.append(
                visit(name, area, since, seen, theft=found, inclusion=VISITED_SHARE)
            )
    return town.source(), labels


class _Theft(NamedTuple):
    """When a customer with bills steals and is visited, in months."""

    began: int
    seen: int
    steals: bool
    is_visited: bool

    @property
    def found(self) -> bool:
        """True if the visit finds the theft, of which a bill or more was issued."""
        return self.steals and self.is_visited and self.began < self.seen - 1


class _BilledCustomer(NamedTuple):
    """The bills of a customer, and the theft."""

    at: Times
    kwh: Column
    register: Column  # NaN of an estimated bill
    theft: _Theft


def _billed_customer(
    rng: np.random.Generator, start: int, months: int, stealing: float
) -> _BilledCustomer:
    """A customer's bills of months after a start."""
    month = np.arange(months)
    season = 1 + rng.uniform(0, 0.5) * np.cos(2 * np.pi * month / 12)
    kwh = rng.lognormal(5, 0.6) * season * rng.lognormal(0, 0.15, months)
    if rng.random() < VACANT_SHARE:
        left = int(rng.integers(months))
        kwh[left : left + 3] = 0

    steals, is_visited = rng.random(2) < (stealing, VISITED_SHARE)
    began = int(rng.integers(months // 3, months))
    seen = int(rng.integers(months // 2, months))
    theft = _Theft(began, seen, bool(steals), bool(is_visited))
    if steals:
        kwh[began : seen if theft.found else months] *= rng.uniform(0.2, 0.7)
    at = start + (month + 1) * MONTH_SECONDS + int(rng.integers(DAY_SECONDS))
    is_estimated = rng.random(months) < ESTIMATED_SHARE
    register = np.where(is_estimated, np.nan, np.cumsum(kwh) + rng.uniform(0, 1e4))
    return _BilledCustomer(at, kwh, register, theft)


def visited_bills(
    count: int, months: int, seed: int, stealing: float = STEALING_SHARE
) -> tuple[Source, list[Label]]:
    """A billing history without curves, and the visits to its customers in the later half; a share of them steals."""
    rng = np.random.default_rng([seed, 12])
    start = START_TIME - months * MONTH_SECONDS
    customers = {
        f"C{number}": _billed_customer(rng, start, months, stealing)
        for number in range(count)
    }

    labels = []
    for name, customer in customers.items():
        theft, at = customer.theft, customer.at
        if theft.is_visited:
            since = int(at[theft.began]) - MONTH_SECONDS if theft.found else start
            when = int(at[theft.seen]) - DAY_SECONDS
            labels.append(
                visit(
                    name, "A1", since, when, theft=theft.found, inclusion=VISITED_SHARE
                )
            )

    meters = [Meter(meter=f"M{name}", customer=name) for name in customers]
    source = Source(
        f"bills:{count}x{months}:{seed}",
        [Area(area="A1", meters=meters)],
        iter([_bills_of(customers)]),
        count * months,
        TOWN_ZONE,
        900,
    )
    return source, labels


def _bills_of(customers: Mapping[str, _BilledCustomer]) -> Batch:
    """All bills in order of time."""
    at = np.concatenate([customer.at for customer in customers.values()])
    kwh = np.concatenate([customer.kwh for customer in customers.values()])
    register = np.concatenate([customer.register for customer in customers.values()])
    months = len(at) // len(customers)

    bills = Payments.build(
        customers,
        np.repeat(np.arange(len(customers)), months),
        ["A1"],
        np.zeros(len(at), int),
        at,
        payment=np.full(len(at), Payment.BILL),
        amount=np.round(kwh * YUAN_PER_KWH, 2),
        bills=[f"B{month}" for month in range(months)],
        bill=np.tile(np.arange(months), len(customers)),
        read_at=at,
        billed_kwh=kwh,
        read_register=register,
    )
    return arranged(bills)


def lesson_of(source: Source, labels: list[Label]) -> SuspicionLesson:
    """What is learned from a history and its visits."""
    watched = watch(source, labels, list(ALL_RULES.values()))
    return learn(visits_of(watched, labels, Tally()), source.name)


def _line(name: str, lesson: SuspicionLesson, quality: RankingQuality) -> str:
    """A row of the table."""
    figures = (
        f"{quality.auc:.3f} | {quality.average_precision:.3f} | {quality.lift:.2f}"
    )
    return f"| {name} | {lesson.measured:,} | {lesson.thefts} | {figures} |"


def _page(name: str, lesson: SuspicionLesson) -> Iterator[str]:
    """How well a lesson ranks, line by line."""
    yield _line(f"{name}, {lesson.measured_on}", lesson, lesson.quality)
    for groups, quality in lesson.ablations.items():
        yield _line(f"without {' and '.join(groups)}", lesson, quality)
    yield _line("number of alerts", lesson, lesson.baseline)
    yield _line("by chance", lesson, RankingQuality(0.5, lesson.share, 1.0))
    yield f"Brier score {lesson.brier:.4f}, of the share {lesson.brier_by_share:.4f}; found by tenth of the chance:"
    for tenth in lesson.calibration:
        yield f"  {tenth.chance:.3f} {tenth.found.value:.3f} of {tenth.visits}"


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.suspicion", description=__doc__
    )
    parser.add_argument("--meters", type=int, default=1200)
    parser.add_argument("--days", type=int, default=42)
    parser.add_argument("--customers", type=int, default=3000, help="with bills alone")
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--seeds", type=int, default=3, help="of each kind")
    options = parser.parse_args()

    print("| Ranking | Visits | Thefts | AUC | Average precision | Lift |")
    print("|---|---|---|---|---|---|")
    for seed in range(1, options.seeds + 1):
        billed = visited_bills(options.customers, options.months, seed)
        print("\n".join(_page(billed[0].name, lesson_of(*billed))), flush=True)
    for seed in range(1, options.seeds + 1):
        town = visited_town(options.meters, options.days, seed)
        print("\n".join(_page(town[0].name, lesson_of(*town))), flush=True)


if __name__ == "__main__":
    main()

"""`python -m bench.theft [DATA]` plants thefts into real households and simulated towns, and compares who finds them.

Each of twelve attacks begins after thirty known days. Every method gives a score by customer and day; its line is the
lowest that keeps 1, or 10, false alerts per 10,000 meters and week among the honest customers. With the folder of the
real data sets the households are watched too. The tables go into docs/detection.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import numpy as np

from bench.real import CHECKOUT_FOLDER, filled
from bench.theft_days import (
    JUDGED_DAYS,
    WatchedDays,
    homes_days,
    read_homes,
    town_days,
)
from bench.theft_methods import (
    METHODS,
    Outcome,
    false_alerts,
    honest,
    line_for,
    outcomes,
)
from replay.history import SourceError
from replay.intervals import Estimate, median, rate, share
from replay.simulation.attacks import ALL_ATTACKS

PAGE_FILE = CHECKOUT_FOLDER / "docs" / "detection.md"
HOMES_FILE = "sgsc_25households_halfhourly.parquet"
BUDGETS = (1, 10)  # false alerts per 10,000 meters and week
PREVALENCES = (0.005, 0.01, 0.03)  # of the towns' customers, who steal
TOWN_METERS, QUICK_METERS = 1700, 200  # of each town
HOME_AREAS, HOME_THEFTS = 210, 72  # areas, and those with a thief
QUICK_AREAS = 12
Job = Callable[[], WatchedDays]


@dataclass(frozen=True)
class Swept:
    """A method at a budget of false alerts."""

    method: str
    budget: int
    false: int  # alerts of honest customers above the line
    exposure: float  # honest customers and weeks, in 10,000
    outcomes: list[Outcome]


def jobs(homes_file: Path | None, *, quick: bool) -> dict[str, list[Job]]:
    """What is watched, by name: parts that are joined."""
    meters = QUICK_METERS if quick else TOWN_METERS
    areas, thefts = (QUICK_AREAS, QUICK_AREAS) if quick else (HOME_AREAS, HOME_THEFTS)
    watched: dict[str, list[Job]] = {}
    for with_meter in (False, True):
        end = "with an area meter" if with_meter else "without an area meter"
        if homes_file:
            watched[f"Households {end}"] = [
                partial(_watched_homes, homes_file, areas, thefts, with_meter)
            ]
        watched[f"Towns {end}"] = [
            partial(
                town_days,
                meters,
                max(round(prevalence * meters), 1),
                seed,
                has_area_meter=with_meter,
            )
            for seed, prevalence in enumerate(PREVALENCES, 1)
        ]
    return watched


def _watched_homes(
    file: Path, areas: int, thefts: int, with_meter: bool
) -> WatchedDays:
    """The households of a file."""
    return homes_days(read_homes(file), areas, thefts, 1, has_area_meter=with_meter)


def _watched(job: Job) -> WatchedDays:
    return job()


def swept(days: WatchedDays) -> Iterator[Swept]:
    """Every method at every budget."""
    is_honest = honest(days)
    exposure = float(is_honest.sum()) * JUDGED_DAYS / 7 / 10_000
    for method, score_of in METHODS.items():
        score = score_of(days)
        for budget in BUDGETS:
            line = line_for(score[is_honest], int(budget * exposure))
            false = false_alerts(score[is_honest], line)
            yield Swept(method, budget, false, exposure, outcomes(days, score, line))


def table(watched: dict[str, WatchedDays]) -> Iterator[str]:
    """What the page says of them, line by line."""
    results = {name: list(swept(days)) for name, days in watched.items()}
    for name, days in watched.items():
        thefts, customers = len(days.thefts), len(days.places)
        exposure = results[name][0].exposure
        yield (
            f"- {name}: {customers:,} customers, {thefts} of them thieves ({thefts / customers:.1%}); the honest ones "
            f"were judged for {exposure:.2f} times 10,000 meters and a week."
        )
    yield ""
    yield "| Watched | Method | False alerts a week, 10,000 meters | Found | Share | After, median | kWh saved | Of those hidden |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, rows in results.items():
        yield from (_summary(name, row) for row in rows)

    yield ""
    for name, rows in results.items():
        yield from _by_attack(name, rows)
        yield ""


def _summary(name: str, row: Swept) -> str:
    """A method at a budget, all attacks together."""
    is_found = [each.days is not None for each in row.outcomes]
    delay = median([each.days for each in row.outcomes if each.days is not None])
    saved = sum(each.saved_kwh for each in row.outcomes)
    hidden = sum(float(each.theft.missing_kwh.sum()) for each in row.outcomes)
    found = share([1.0] * len(is_found), is_found)
    return (
        f"| {name} | {row.method} | {row.budget}: {_range(rate(row.false, row.exposure), '.1f')} | "
        f"{sum(is_found)} of {len(is_found)} | {_range(found, '.0%')} | "
        f"{'' if delay.value is None else f'{delay.value:.0f} days'} | {saved:,.0f} | {saved / hidden:.0%} |"
    )


def _range(estimate: Estimate, form: str) -> str:
    """A value and its interval of 90 %.

    >>> _range(Estimate(0.5, 0.25, 0.75), ".0%")
    '50% (25% to 75%)'
    """
    low, high = estimate.low or 0.0, estimate.high or 0.0
    return f"{estimate.value or 0.0:{form}} ({low:{form}} to {high:{form}})"


def _by_attack(name: str, rows: Sequence[Swept]) -> Iterator[str]:
    """How many of each attack every method finds, at each budget."""
    methods = list(dict.fromkeys(row.method for row in rows))
    yield f"| {name}: found at {' / '.join(map(str, BUDGETS))} | Planted | {' | '.join(methods)} |"
    yield f"|---|---|{'---|' * len(methods)}"
    for kind, attack in ALL_ATTACKS.items():
        cells = []
        planted = 0
        for method in methods:
            mine = [
                [each for each in row.outcomes if each.theft.kind == kind]
                for row in rows
                if row.method == method
            ]
            planted = len(mine[0])
            cells.append(
                " / ".join(
                    str(sum(each.days is not None for each in some)) for some in mine
                )
            )
        if planted:
            yield f"| {kind}: {attack.note} | {planted} | {' | '.join(cells)} |"


def _measure(watched: dict[str, list[Job]], processes: int) -> dict[str, WatchedDays]:
    """Watches everything, several at a time."""
    flat = [job for some in watched.values() for job in some]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        days = iter(list(pool.map(_watched, flat)))
    return {
        name: WatchedDays.join([next(days) for _ in some])
        for name, some in watched.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or prints the tables; exit code 2 if the data cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m bench.theft", description=__doc__)
    parser.add_argument(
        "data", type=Path, nargs="?", help="the folder with the real data sets"
    )
    parser.add_argument(
        "--quick", action="store_true", help="print small tables, to see that it works"
    )
    parser.add_argument(
        "--processes", type=int, help="default: as many as there are processors"
    )
    options = parser.parse_args(arguments)
    homes_file = options.data / HOMES_FILE if options.data else None
    try:
        if homes_file:
            read_homes(homes_file)
        watched = jobs(homes_file, quick=options.quick)
        days = _measure(watched, options.processes or cpu_count() or 1)
    except (OSError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    lines = list(table(days))
    if options.quick or not homes_file:
        print("\n".join(lines))
    else:
        page = filled(PAGE_FILE.read_text("utf-8"), {"thefts": lines}, "bench.theft")
        PAGE_FILE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

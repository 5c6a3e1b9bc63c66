"""`python -m bench.theft [DATA]` plants thefts into real households and simulated towns, and compares who finds them.

Each of twelve attacks begins after thirty known days. Every method gives a score by customer and day; its line is the
lowest that keeps 1, 10 or 100 false alerts per 10,000 meters and week among the honest customers. With the folder of
the real data sets the households are watched too, and the tables go into docs/detection.md.
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
from bench.theft_days import JUDGED_DAYS, WatchedDays, town_days
from bench.theft_homes import homes_days, read_homes
from bench.theft_methods import (
    ALL_METHODS,
    TheftOutcome,
    false_alerts,
    honest,
    line_for,
    of_rules,
    of_rules_or_model,
    outcomes,
)
from replay.history import SourceError
from replay.intervals import Estimate, median, rate, share
from replay.simulation.attacks import ALL_ATTACKS

PAGE_FILE = CHECKOUT_FOLDER / "docs" / "detection.md"
HOMES_FILE = "sgsc_25households_halfhourly.parquet"
FALSE_BUDGETS = (1, 10, 100)  # false alerts per 10,000 meters and week
FEW_THIEVES, MANY_THIEVES = 0.005, 0.03  # of the judged customers, who begin to steal
OLD_SHARE = (
    0.1  # of the customers, who steal from the first day on where history is poisoned
)
TOWN_METERS, QUICK_METERS = 1700, 200  # of each town
ALL_AREAS, QUICK_AREAS = 210, 12  # of households
AREA_HOMES = 12  # that are judged
BY_ATTACK = (  # methods whose finds are shown by attack
    "the rules",
    "rules and `model_score`",
    "`model_score`",
    "half-space trees",
    "isolation forest",
)
Job = Callable[[], WatchedDays]


@dataclass(frozen=True)
class MethodResult:
    """A method at a budget of false alerts."""

    method: str
    budget: int
    exposure: float  # honest customers and weeks, in 10,000
    outcomes: list[TheftOutcome]


def jobs(homes_file: Path | None, *, quick: bool) -> dict[str, list[Job]]:
    """What is watched, by name: parts that are joined."""
    meters = QUICK_METERS if quick else TOWN_METERS
    areas = QUICK_AREAS if quick else ALL_AREAS
    watched: dict[str, list[Job]] = {}
    plans = (
        ("0.5 %", FEW_THIEVES, 0.0),
        ("3 %", MANY_THIEVES, 0.0),
        ("3 %, poisoned", MANY_THIEVES, OLD_SHARE),
    )

    for seed, (name, prevalence, old_share) in enumerate(plans, 1):
        if homes_file:
            thefts = max(round(prevalence * areas * AREA_HOMES), 1)
            watched[f"Households, {name}"] = [
                partial(_watched_homes, homes_file, areas, thefts, seed, old_share)
            ]
        thefts = max(round(prevalence * meters), 1)
        watched[f"Towns, {name}"] = [
            partial(town_days, meters, thefts, seed, old_share)
        ]
    return watched


def _watched_homes(
    file: Path, areas: int, thefts: int, seed: int, old_share: float
) -> WatchedDays:
    """The households of a file."""
    return homes_days(read_homes(file), areas, thefts, seed, old_share)


def _days_of(job: Job) -> WatchedDays:
    """What a job watches."""
    return job()


def swept(days: WatchedDays) -> Iterator[MethodResult]:
    """Every method at every budget."""
    is_honest = honest(days)
    exposure = float(is_honest.sum()) * JUDGED_DAYS / 7 / 10_000
    for method, score_of in ALL_METHODS.items():
        score = score_of(days)
        for budget in FALSE_BUDGETS:
            line = line_for(score[is_honest], int(budget * exposure))
            yield MethodResult(method, budget, exposure, outcomes(days, score, line))


def table(watched: dict[str, WatchedDays]) -> Iterator[str]:
    """What the page says of them, line by line."""
    results = {name: list(swept(days)) for name, days in watched.items()}
    for name, days in watched.items():
        yield _sizes(name, days, results[name])

    yield ""
    heads = (
        f"At {budget}: found | After, median | kWh saved" for budget in FALSE_BUDGETS
    )
    yield f"| Watched | Method | {' | '.join(heads)} |"
    yield f"|---|---|{'---|---|---|' * len(FALSE_BUDGETS)}"
    for name, rows in results.items():
        for method in ALL_METHODS:
            cells = [_found_cells(row) for row in rows if row.method == method]
            yield f"| {name} | {method} | {' | '.join(cells)} |"

    for name, rows in results.items():
        yield ""
        yield from _by_attack(name, rows)


def _sizes(name: str, days: WatchedDays, rows: Sequence[MethodResult]) -> str:
    """How many were watched, and how well that shows how rare false alerts are."""
    thefts, customers = len(days.thefts), int(days.is_judged.sum())
    exposure = rows[0].exposure
    hidden = sum(theft.hidden_kwh() for theft in days.thefts)
    allowed = [int(budget * exposure) for budget in FALSE_BUDGETS]
    limits = "; ".join(
        f"{budget}: {count}, so a true rate of {_range(rate(count, exposure), '.1f')}"
        for budget, count in zip(FALSE_BUDGETS, allowed, strict=True)
    )
    return (
        f"- {name}: {customers:,} judged customers, {thefts} of them thieves ({thefts / customers:.1%}), who hide "
        f"{hidden:,.0f} kWh in {JUDGED_DAYS} days. The honest ones were judged for {exposure:.2f} times 10,000 meters "
        f"and a week. False alerts that the budgets allow: {limits}. {_as_published(days, exposure)}"
    )


def _as_published(days: WatchedDays, exposure: float) -> str:
    """What the rules find at the limits that they have, without an area meter, and with the model."""
    line, said = float(np.nextafter(1, 0)), []
    methods = {"rules": of_rules, "rules or the model": of_rules_or_model}
    for name, score_of in methods.items():
        score = score_of(days)
        false = false_alerts(score[honest(days)], line)
        found = sum(each.days is not None for each in outcomes(days, score, line))
        right = share([1.0] * (found + false), [True] * found + [False] * false)

        said.append(
            f"the {name} find {found} with {_range(rate(false, exposure), '.0f')} false alerts, so "
            f"{_range(right, '.0%')} of the alerts are right"
        )
    return f"At their own limits {'; '.join(said)}."


def _found_cells(row: MethodResult) -> str:
    """What a method found at a budget, all attacks together: three cells."""
    is_found = [each.days is not None for each in row.outcomes]
    found = share([1.0] * len(is_found), is_found)
    delay = median([each.days for each in row.outcomes if each.days is not None])
    after = "" if delay.value is None else f"{delay.value:.0f} days"

    saved = sum(each.saved_kwh for each in row.outcomes)
    hidden = sum(each.theft.hidden_kwh() for each in row.outcomes)
    part = f" ({saved / hidden:.0%})" if hidden else ""
    return f"{sum(is_found)}: {_range(found, '.0%')} | {after} | {saved:,.0f}{part}"


def _range(estimate: Estimate, form: str) -> str:
    """A value and its interval of 90 %.

    >>> _range(Estimate(0.5, 0.25, 0.75), ".0%")
    '50% (25% to 75%)'
    """
    low, high = estimate.low or 0.0, estimate.high or 0.0
    return f"{estimate.value or 0.0:{form}} ({low:{form}} to {high:{form}})"


def _by_attack(name: str, rows: Sequence[MethodResult]) -> Iterator[str]:
    """How many of each attack some methods find, at each budget."""
    heads = " | ".join(BY_ATTACK)
    yield f"| {name}: found at {' / '.join(map(str, FALSE_BUDGETS))} | Planted | {heads} |"
    yield f"|---|---|{'---|' * len(BY_ATTACK)}"

    for kind, attack in ALL_ATTACKS.items():
        planted = sum(each.theft.kind == kind for each in rows[0].outcomes)
        cells = [
            " / ".join(_found_of(kind, row) for row in rows if row.method == method)
            for method in BY_ATTACK
        ]
        if planted:
            yield f"| {kind}: {attack.note} | {planted} | {' | '.join(cells)} |"


def _found_of(kind: str, row: MethodResult) -> str:
    """How many of an attack were found."""
    mine = [each for each in row.outcomes if each.theft.kind == kind]
    return str(sum(each.days is not None for each in mine))


def _measure(watched: dict[str, list[Job]], processes: int) -> dict[str, WatchedDays]:
    """Watches everything, several at a time."""
    flat = [job for some in watched.values() for job in some]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        days = iter(list(pool.map(_days_of, flat)))
    return {
        name: WatchedDays.join([next(days) for _ in some])
        for name, some in watched.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the tables, or prints them if they are small or of towns only; exit code 2 if the data cannot be read."""
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

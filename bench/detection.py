"""`python -m bench.detection` plants faults of every kind in simulated towns; what is found, when, and what is false.

Five sorts of towns, each with several seeds. In one every kind of fault befalls somebody within three weeks, in one the
faults are little beyond the limits, in one, for two and a half months, they are what only months can show. In quiet
towns one customer in three of four areas registers less than it uses, as in the literature. And in clean towns nothing
is wrong, but much looks like it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from os import cpu_count
from typing import Any

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.meters.suspects import Suspects
from models.state.cells import Columns
from replay.scoring import Score, score
from replay.simulation.attacks import THEFT_ATTACKS, attacked
from replay.simulation.decoys import decoys, spring_festival
from replay.simulation.faults import ALL_FAULTS
from replay.simulation.happenings import Planted
from replay.simulation.network import START_TIME, build_grid
from replay.simulation.slow_faults import SLOW_FAULTS
from replay.simulation.small_faults import SMALL_FAULTS
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import Codes
from schemas.units import DAY_SECONDS
from streams.report.page import waited

DAILY_KWH = (
    15.0,
    25.0,
)  # a day that a customer uses at least who is to hide some of it
KNOWN_DAYS = (
    29  # days that a customer is known before a theft that begins in the history
)
NEW_YEAR = START_TIME - 13 * DAY_SECONDS  # Tuesday 2026-02-17, first of the lunar year


class _NotedSuspects(Suspects):
    """Remembers how strong the evidence against every meter was at best since a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.best: dict[int, float] = {}

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        out = super().columns_for(slots, columns)
        for slot, rho, kwh in zip(
            slots.tolist(), out["suspect_rho"], out["suspect_kwh"], strict=True
        ):
            if rho > 0 and kwh > 0:
                self.best[slot] = max(self.best.get(slot, 0.0), float(rho))
        return out


@dataclass(frozen=True)
class Found:
    """What became of something planted."""

    kind: str
    note: str
    rules: tuple[str, ...]  # that may raise an alert of it
    by: str  # the rule that raised one first, "" when none did
    days: float  # until then, NaN when none did
    always: bool = False  # whether it was there from the first day on
    rank: int = 0  # of a thief among the users of its area by correlation, 0 where it was no suspect


@dataclass(frozen=True)
class DetectionRun:
    """One town, watched."""

    found: list[Found]
    false: dict[str, int]  # alerts by rule that nothing planted explains
    clean: bool
    weeks: float  # of 10,000 meters


def _judge_town(town: Town) -> tuple[dict[str, Alert], Engine, _NotedSuspects]:
    """The last state of every alert of a town."""
    engine = Engine(zone=town.zone, interval=town.interval)
    noted = _NotedSuspects()
    features: Any = engine.judges.revisable["days"].live.features
    features[[type(feature) for feature in features].index(Suspects)] = noted
    engine.enroll(town.areas)
    last: dict[str, Alert] = {}
    for batch in town.batches():
        last |= {alert.id: alert for alert in engine.step(batch)}
    return last, engine, noted


def _run_of(town: Town, result: Score, *, clean: bool = False) -> DetectionRun:
    """What the watch of a town comes to."""
    found = [
        Found(
            finding.planted.kind,
            finding.planted.note,
            finding.planted.rules,
            finding.alert.rule if finding.alert else "",
            finding.days,
        )
        for finding in result.findings
    ]
    truth = {decoy.subject: f" In truth: {decoy.note}." for decoy in town.decoys}

    for alert in result.false:
        print(
            f"{town.name}: false: {alert.rule} {alert.area} {alert.subject}: {alert.en}"
            f"{truth.get(alert.subject, '')}",
            file=sys.stderr,
        )

    for finding in result.findings:
        if finding.alert is None:
            print(f"{town.name}: missed: {finding.planted}", file=sys.stderr)

    return DetectionRun(
        found,
        Counter(alert.rule for alert in result.false),
        clean,
        len(town.grid) * town.days / 70_000,
    )


def _of_every_kind(meters: int, days: int, seed: int) -> DetectionRun:
    """A town in which everything happens that days or weeks can show; what befalls areas takes turns."""
    first = 3 * seed % len(ALL_FAULTS.areas)
    kinds = replace(
        ALL_FAULTS, areas=ALL_FAULTS.areas[first:] + ALL_FAULTS.areas[:first]
    )
    town = Town(meters, days, seed, kinds=kinds)
    return _run_of(town, score(town.planted, _judge_town(town)[0].values()))


def _of_small_faults(meters: int, days: int, seed: int) -> DetectionRun:
    """A town of faults little beyond their rules' limits."""
    town = Town(meters, days, seed, kinds=SMALL_FAULTS)
    return _run_of(town, score(town.planted, _judge_town(town)[0].values()))


def _of_months(meters: int, days: int, seed: int) -> DetectionRun:
    """A town in which something happens that only months can show."""
    town = Town(meters, days, seed, kinds=SLOW_FAULTS)
    return _run_of(town, score(town.planted, _judge_town(town)[0].values()))


def _clean_town(meters: int, days: int, seed: int) -> DetectionRun:
    """A town in which nothing is wrong; every other goes through Spring Festival."""
    festive = seed % 2 == 0
    start = START_TIME - 6 * 7 * DAY_SECONDS if festive else START_TIME
    town = Town(meters, days, seed, kinds=decoys(build_grid(meters, seed)), start=start)
    town.happenings += spring_festival(town.grid, seed, NEW_YEAR) if festive else ()
    return _run_of(town, score([], _judge_town(town)[0].values()), clean=True)


def _of_thefts(meters: int, days: int, seed: int) -> DetectionRun:
    """A quiet town in which one customer in three of four areas registers less than it uses."""
    town = Town(meters, days, seed, faults=False)
    thefts = list(_planted_thefts(town, seed))
    last, engine, noted = _judge_town(town)
    result = score([planted for planted, _ in thefts], last.values())
    run, found = _run_of(town, result), []

    for one, (planted, always) in zip(run.found, thefts, strict=True):
        slot = engine.indexes.meters.slot(planted.area, planted.subject)
        others = [
            rho
            for other, rho in noted.best.items()
            if engine.indexes.meters.pairs[other][0] == planted.area and other != slot
        ]
        rank = (
            1 + sum(rho >= noted.best[slot] for rho in others)
            if slot in noted.best
            else 0
        )
        found.append(replace(one, always=always, rank=rank))

    return replace(run, found=found)


def _planted_thefts(town: Town, seed: int) -> Iterator[tuple[Planted, bool]]:
    """One theft in three of four areas, kinds in turn; a third of them from the first day on."""
    grid, rng, kinds = town.grid, np.random.default_rng([seed, 7]), list(THEFT_ATTACKS)
    for n, area in enumerate(
        number for number in range(len(grid.areas)) if number % 4 < 3
    ):
        kind, always = kinds[(n + 3 * seed) % len(kinds)], (n + seed) % 3 == 2
        big = (
            (grid.area == area)
            & ~grid.gateway
            & (grid.pv_kw == 0)
            & (24 * grid.mean_kw > rng.uniform(*DAILY_KWH))
        )
        row = int(rng.choice(np.flatnonzero(big & ~grid.three)))
        start = (
            town.start
            if always
            else town.start + (KNOWN_DAYS + int(rng.integers(0, 5))) * DAY_SECONDS
        )
        happening = attacked(grid, kind, row, (start, town.end), seed)
        town.happenings.append(happening)

        if happening.planted:
            yield happening.planted, always


Job = tuple[
    Callable[[int, int, int], DetectionRun], int, int, int
]  # what is planted, meters, days, seed


def jobs(quick: bool) -> list[Job]:
    """The towns, the longest first; the quick ones are too small and too short to find much."""
    if quick:
        return [
            (_of_every_kind, 300, 6, 1),
            (_of_thefts, 120, 3, 1),
            (_clean_town, 120, 3, 2),
        ]
    sizes = (
        (_of_thefts, 3000, 50, 6),
        (_clean_town, 3000, 56, 2),
        (_of_months, 800, 76, 3),
        (_of_every_kind, 3000, 21, 4),
        (_of_small_faults, 3000, 21, 2),
    )
    return [
        (plant, meters, days, seed + 1)
        for plant, meters, days, seeds in sizes
        for seed in range(seeds)
    ]


def _family(rules: Iterable[str]) -> str:
    """The family of the first of some rules."""
    return next(ALL_RULES[name].judge.__module__.rpartition(".")[2] for name in rules)


def page(runs: list[DetectionRun]) -> Iterator[str]:
    """The tables of docs/detection.md, line by line."""
    quiet = [run for run in runs if run.clean]
    weeks, false = sum(run.weeks for run in quiet), Counter[str]()
    beside, amid = Counter[str](), sum(run.weeks for run in runs if not run.clean)

    for run in runs:
        (false if run.clean else beside).update(run.false)

    planted = [
        found for run in runs for found in run.found if found.kind not in THEFT_ATTACKS
    ]
    small = [found for found in planted if found.kind.startswith("small_")]

    for part in ([found for found in planted if found not in small], small):
        if part:
            yield from _faults(part, false, weeks)
            yield ""

    yield "| Theft | What is registered | Begins | Found | After, median | At worst | Rank | First raised by |"
    yield "|---|---|---|---|---|---|---|---|"

    for kind, attack in THEFT_ATTACKS.items():
        for always in (False, True):
            mine = [
                found
                for run in runs
                for found in run.found
                if found.kind == kind and found.always == always
            ]
            if mine:
                by_rule = Counter(found.by for found in mine if found.by)
                ranks = [found.rank for found in mine if found.by and found.rank]
                rank = f"{np.median(ranks):.0f}" if ranks else ""
                yield (
                    f"| {kind} | {attack.note} | {'before' if always else 'in'} the history | {_found_count(mine)} | "
                    f"{_found_after(mine)} | {_found_after(mine, 100)} | {rank} | "
                    f"{', '.join(f'`{rule}` {n}' for rule, n in by_rule.most_common())} |"
                )

    yield ""
    yield "| False alarms | In clean towns | A week, 10,000 meters | Beside what was planted | A week, 10,000 meters |"
    yield "|---|---|---|---|---|"

    for rule in sorted({*false, *beside}):
        yield f"| `{rule}` | {false[rule]} | {false[rule] / weeks:.2f} | {beside[rule]} | {beside[rule] / amid:.2f} |"

    yield (
        f"| all | {false.total()} | {false.total() / weeks:.2f} | {beside.total()} | "
        f"{beside.total() / amid:.2f} |"
    )
    yield ""
    yield (
        f"Clean towns: {weeks:.1f} times 10,000 meters and a week; beside what was planted: {amid:.1f}. A rule that "
        f"is not in the last table has no false alert."
    )


def _faults(found: list[Found], false: Counter[str], weeks: float) -> Iterator[str]:
    """What became of each kind of fault, in the order of the families of rules."""
    yield "| What is wrong | Raised by | Found | After, median | At worst | False |"
    yield "|---|---|---|---|---|---|"
    kinds = {finding.kind: finding for finding in reversed(found)}
    for kind, one in sorted(
        kinds.items(), key=lambda item: (_family(item[1].rules), item[1].rules, item[0])
    ):
        mine = [finding for finding in found if finding.kind == kind]
        by = dict.fromkeys(rule for finding in mine for rule in _raised_by(finding))
        rate = sum(false[rule] for rule in by) / weeks
        yield (
            f"| {one.note} | {', '.join(f'`{rule}`' for rule in by)} | {_found_count(mine)} | {_found_after(mine)} | "
            f"{_found_after(mine, 100)} | {rate:.1f} |"
        )


def _raised_by(finding: Found) -> Sequence[str]:
    """The rule that raised an alert first, or all that may where none did."""
    return [finding.by] if finding.by else finding.rules


def _found_count(found: list[Found]) -> str:
    """How many were found."""
    return f"{sum(bool(finding.by) for finding in found)} of {len(found)}"


def _found_after(found: list[Found], percent: float = 50) -> str:
    """After how long they were found."""
    days = [finding.days for finding in found if finding.by]
    return waited(max(float(np.percentile(days, percent)), 0.0)) if days else ""


def _measure(quick: bool = False, processes: int | None = None) -> list[DetectionRun]:
    """Watches all towns, several at a time."""
    with ProcessPoolExecutor(processes or cpu_count(), get_context("spawn")) as pool:
        return list(pool.map(run_job, jobs(quick)))


def run_job(job: Job) -> DetectionRun:
    """One town, watched."""
    plant, meters, days, seed = job
    return plant(meters, days, seed)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.detection", description=__doc__
    )
    parser.add_argument(
        "--quick", action="store_true", help="small towns, to see that it works"
    )
    parser.add_argument(
        "--processes", type=int, help="default: as many as there are processors"
    )
    asked = parser.parse_args()
    print("\n".join(page(_measure(asked.quick, asked.processes))))


if __name__ == "__main__":
    main()

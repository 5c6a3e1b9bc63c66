"""`python -m bench.detection` plants thefts in quiet towns and tells what was found, when, and how many were suspected.

Every fourth area stays clean. In each of the others one customer registers less than it uses, from three weeks on or,
one in three, from the first day on; the gateway meter counts what flows. Seeds differ in town, customer, moment, share.
"""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.engine import Engine
from detectors.rule import RULES
from models.features import DAY, Columns
from models.suspects import Suspects
from replay.planted import ATTACKS, Planted, attacked
from replay.town import Town
from schemas.alert import Alert
from schemas.columns import Codes

WARM_UP = 20 * DAY  # before a theft that begins in the history
KWH = (15.0, 25.0)  # a day that the customer uses at least


class Noted(Suspects):
    """Remembers how strong the evidence against every meter was at best since a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.best: dict[int, float] = {}

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        out = super().fold(slots, columns)
        for slot, rho, kwh in zip(slots.tolist(), out["suspect_rho"], out["suspect_kwh"], strict=True):
            if rho > 0 and kwh > 0:
                self.best[slot] = max(self.best.get(slot, 0.0), float(rho))
        return out


@dataclass(frozen=True)
class Found:
    """What became of one theft."""

    planted: Planted
    always: bool  # from the first day of the history on
    use: float  # kWh a day
    days: float  # until it was told, NaN when it was not
    rank: int  # of the thief among the users of its area by correlation


@dataclass(frozen=True)
class Run:
    """One town, watched."""

    found: list[Found]
    clean: int  # alerts of meters in clean areas
    beside: int  # of other meters in the thieves' areas
    meters: int  # in clean areas
    weeks: float


def watch(town: Town, rules: list[str]) -> tuple[list[Alert], Engine, Noted]:
    """The last state of every alert of a town."""
    engine = Engine([RULES[name] for name in rules], zone=town.zone, interval=town.interval)
    noted = Noted()
    features: Any = engine.days.present.features
    features[[type(f) for f in features].index(Suspects)] = noted
    engine.enroll(town.areas)
    last: dict[str, Alert] = {}
    for batch in town.batches():
        last |= {alert.id: alert for alert in engine.step(batch)}
    return [a for a in last.values() if a.state != "withdrawn" and not a.held], engine, noted


def thefts(town: Town, kinds: list[str], seed: int) -> Iterator[tuple[Planted, bool]]:
    """One theft in three of four areas, kinds in turn."""
    grid, rng = town.grid, np.random.default_rng([seed, 7])
    for n, area in enumerate(a for a in range(len(grid.areas)) if a % 4 < 3):
        kind, always = kinds[(n + seed) % len(kinds)], (n + seed) // len(kinds) % 3 == 2
        big = (grid.area == area) & ~grid.gateway & (grid.pv_kw == 0) & (24 * grid.mean_kw > rng.uniform(*KWH))
        row = int(rng.choice(np.flatnonzero(big & ~grid.three)))
        start = town.start if always else town.start + WARM_UP + int(rng.integers(0, 7)) * DAY
        happening = attacked(grid, kind, row, (start, town.end), seed)
        town.happenings.append(happening)
        if happening.planted:
            yield happening.planted, always


def measure(meters: int, days: int, seed: int, kinds: list[str], rules: list[str]) -> Run:
    """What a town's watch finds of its thefts."""
    town = Town(meters, days, seed, faults=False)
    planted = list(thefts(town, kinds, seed))
    alerts, engine, noted = watch(town, rules)
    subjects = {(p.area, p.subject) for p, _ in planted}
    areas = {p.area for p, _ in planted}
    use = dict(zip(town.grid.names, 24 * town.grid.mean_kw, strict=True))
    found = []
    for p, always in planted:
        told = [a.raised for a in alerts if p.found_by(a)]
        slot = engine.meter_index.slot(p.area, p.subject)
        others = [rho for s, rho in noted.best.items() if engine.meter_index.pairs[s][0] == p.area and s != slot]
        rank = 1 + sum(rho >= noted.best.get(slot, 0.0) for rho in others) if slot in noted.best else 0
        wait = (min(told) - p.start) / DAY if told else float("nan")
        found.append(Found(p, always, float(use[p.subject]), wait, rank))
    accused = [a for a in alerts if a.subject and (a.area, a.subject) not in subjects]
    clean = np.count_nonzero([area not in areas for area in np.array(town.grid.areas)[town.grid.area].tolist()])
    return Run(found, sum(a.area not in areas for a in accused), sum(a.area in areas for a in accused), int(clean),
               days / 7)  # fmt: skip


def page(runs: list[Run]) -> Iterator[str]:
    """The table of docs/detection.md, line by line."""
    yield "| Attack | What is registered | Begins | Found | Days | Rank | kWh a day used |"
    yield "|---|---|---|---|---|---|---|"
    for kind, attack in ATTACKS.items():
        for always in (False, True):
            mine = [f for run in runs for f in run.found if f.planted.kind == kind and f.always == always]
            if not mine:
                continue
            told = [f.days for f in mine if f.days == f.days]
            ranks = [f.rank for f in mine if f.days == f.days]
            yield (
                f"| {kind} | {attack.note} | {'before' if always else 'in'} the history | {len(told)} of {len(mine)} | "
                f"{f'{np.median(told):.0f}' if told else ''} | {f'{np.median(ranks):.0f}' if ranks else ''} | "
                f"{np.median([f.use for f in mine]):.0f} |"
            )
    weeks = sum(run.meters * run.weeks for run in runs) / 10_000
    clean, beside = sum(run.clean for run in runs), sum(run.beside for run in runs)
    yield ""
    yield (
        f"In clean areas {clean} meters were suspected in {weeks:.2f} times 10,000 meters and a week. Beside "
        f"{sum(len(run.found) for run in runs)} customers who registered less, {beside} others."
    )


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.detection", description=__doc__)
    parser.add_argument("--meters", type=int, default=3000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--rules", nargs="*", default=["area_loss_high", "area_loss_correlation"])
    told = parser.parse_args()
    runs = [measure(told.meters, told.days, seed, told.kinds, told.rules) for seed in range(1, told.seeds + 1)]
    print("\n".join(page(runs)))


if __name__ == "__main__":
    main()

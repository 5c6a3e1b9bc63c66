"""What `compare` and `tune` cost beside one run: CPU time of judging, reading left out.

    python -m bench.tuning                 # 30 days of 3,000 meters of the simulated town, three times
    python -m bench.tuning town:300x6 --runs 1

An engine, two rule sets and 21 settings of a raise line judge each portion of the history in turns, so whatever else
the machine does slows all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied
from detectors.variants import Variants
from replay.history import Source
from replay.sources import open_sources
from schemas.columns import Batch
from schemas.rules import Edition, Rulebook
from streams.local.follow import Pace, portions
from streams.local.progress import Progress
from streams.sweep import sweep_of

DEFAULT_SOURCE = "town:3000x30"
PORTION_ROWS = 50_000
COMPARED_RULEBOOK = Rulebook(
    {
        "meter_current_unbalance": Edition(
            status="published", version=2, settings={"limit": 0.2}
        ),
        "voltage_deviation": Edition(
            status="published", version=2, settings={"over": 1.05, "under": 0.95}
        ),
        "usage_fluctuation": Edition(status="retired", version=2),
    }
)
SWEPT_RULE, SWEPT_SETTINGS = "meter_current_unbalance", "limit=0.2:0.58:0.02"
COST_GOALS = {"run": 1.0, "compare": 1.5, "tune": 2.0}  # in runs


class JudgeCost(NamedTuple):
    """A judge of batches, and the CPU seconds that each portion took."""

    judge: Callable[[Batch], object]
    seconds: list[float]


def rule_sets() -> dict[str, list[list[Rule]]]:
    """What each command judges by."""
    sweep = sweep_of(SWEPT_RULE, [SWEPT_SETTINGS], "", EMPTY_RULEBOOK, ALL_RULES)
    return {
        "compare": [applied(EMPTY_RULEBOOK), applied(COMPARED_RULEBOOK)],
        "tune": [applied(rulebook) for rulebook in sweep.rulebooks],
    }


def costs(source: Source) -> dict[str, float]:
    """CPU seconds of judging a history, by command."""
    interval = source.interval or 900
    engine = Engine(zone=source.zone, interval=interval)
    engine.enroll(source.areas)
    judges = {"run": JudgeCost(engine.step, [])}
    for name, rules in rule_sets().items():
        variants = Variants(rules, zone=source.zone, interval=interval)
        variants.enroll(source.areas)
        judges[name] = JudgeCost(variants.step, [])

    pace = Pace(PORTION_ROWS)
    for turn, (batch, _) in enumerate(portions(source.batches, Progress(""), pace)):
        order = list(judges.values())
        first = turn % len(order)
        for cost in [*order[first:], *order[:first]]:
            began = time.process_time()
            cost.judge(batch)
            cost.seconds.append(time.process_time() - began)
    return {name: sum(cost.seconds) for name, cost in judges.items()}


def show(runs: list[dict[str, float]], console: Console) -> None:
    """Prints a row for every command."""
    table = Table("", "rule sets", "CPU s", "runs", "goal", box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"

    counts = {name: len(sets) for name, sets in rule_sets().items()}
    for name, goal in COST_GOALS.items():
        seconds = median(found[name] for found in runs)
        ratio = median(found[name] / found["run"] for found in runs)
        table.add_row(
            name,
            str(counts.get(name, 1)),
            f"{seconds:.1f}",
            f"{ratio:.2f}",
            f"{goal:.1f}",
        )
    console.print(table)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning")
    parser.add_argument("source", nargs="?", default=DEFAULT_SOURCE)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = [costs(open_sources([options.source])) for _ in range(options.runs)]
    show(runs, Console(highlight=False))


if __name__ == "__main__":
    main()

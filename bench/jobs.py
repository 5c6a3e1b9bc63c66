"""How much faster several jobs are than one: `python -m bench.jobs [--jobs N] [--meters N] [--days N] [--runs N]`.

A simulated town and the same history as Parquet are scored with one job and with several, in turns; medians count.
CPU is that of all processes, their start included. Wall time counts only on a machine with as many free cores as jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.testbed import CHECKOUT_FOLDER
from replay.layout import write
from replay.simulation.town import Town


class Spent(NamedTuple):
    """What a command took and printed."""

    wall: float  # s
    cpu: float  # s of all its processes
    rows: int
    output: bytes


def score(history: str, jobs: int) -> Spent:
    """`meterwatch score` of a history."""
    command = [sys.executable, "-m", "streams.cli", "score", history, "--json"]
    began, before = time.perf_counter(), os.times()
    output = subprocess.run(
        [*command, "--jobs", str(jobs)],
        capture_output=True,
        check=True,
        cwd=CHECKOUT_FOLDER,
    ).stdout

    wall, after = time.perf_counter() - began, os.times()
    cpu = (
        after.children_user
        - before.children_user
        + after.children_system
        - before.children_system
    )
    return Spent(wall, cpu, json.loads(output)["rows"], output)


def show(name: str, history: str, jobs: int, runs: int) -> None:
    """Prints what one job and several take in turns. Raises RuntimeError if their results differ."""
    spent = [(score(history, 1), score(history, jobs)) for _ in range(runs)]
    if len({each.output for pair in spent for each in pair}) > 1:
        raise RuntimeError(f"{jobs} jobs give another result than one")

    one, several = (_median(each) for each in zip(*spent, strict=True))
    for count, (wall, cpu, rows, _) in ((1, one), (jobs, several)):
        print(
            f"{name:8} jobs {count}: {wall:6.1f} s, {one.wall / wall:.2f} times as fast;"
            f" {cpu:6.1f} s of CPU, {cpu / one.cpu:.2f} of one job's; {rows / wall:10,.0f} rows/s"
        )


def _median(spent: Sequence[Spent]) -> Spent:
    """The median times of runs with the same result."""
    wall = median(each.wall for each in spent)
    cpu = median(each.cpu for each in spent)
    return spent[0]._replace(wall=wall, cpu=cpu)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--meters", type=int, default=3000)
    arguments.add_argument("--days", type=int, default=12)
    arguments.add_argument("--runs", type=int, default=3)
    chosen = arguments.parse_args()
    with TemporaryDirectory() as folder:
        town = Town(chosen.meters, chosen.days)
        parquet = Path(folder) / "history"
        write(parquet, town.areas, town.batches())
        show("town", town.name, chosen.jobs, chosen.runs)
        show("Parquet", str(parquet), chosen.jobs, chosen.runs)


if __name__ == "__main__":
    main()

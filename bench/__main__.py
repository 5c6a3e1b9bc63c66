"""`python -m bench [--quick] [--duty SHARE] [NAME ...]` measures and prints each number against its bar.

At full speed it writes bench/latest.json. With a duty each process that is measured, the broker not, has that share of
the time, and the figures of the last run at full speed stand beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from rich.console import Console

from bench import (
    bridge,
    demo,
    engine,
    families,
    history,
    live,
    peer,
    replay,
    steady,
    sustained,
)
from bench.load import SLOTS_PER_DAY
from bench.results import ROW_GOALS, Result, figures, machine, versions, write
from bench.table import show
from bench.testbed import CHECKOUT_FOLDER, Testbed
from streams.kafka.broker import Broker

LATEST_RESULTS = CHECKOUT_FOLDER / "bench" / "latest.json"
FULL_METERS = 100_000


BATCH_SIZE_NAMES = frozenset(
    {"engine_rows_100", "engine_rows_1000", "engine_rows_5000"}
)
STEADY_NAMES = frozenset(
    {
        "alert_latency_p50",
        "alert_latency_p99",
        "recovery_seconds",
        "longest_pause_seconds",
    }
)


class Size(NamedTuple):
    """How much is measured."""

    meters: int
    runs: int
    few_runs: int  # of what takes long
    peer: int  # readings
    slots: dict[str, int]  # quarter-hours of all meters; 96 are a day with its midnight
    rows: dict[int, int]  # quarter-hours by rows a batch
    listen_seconds: (
        float  # seconds of alerts at most, where a day of event time takes longer
    )
    state_meters: int  # meters whose state is measured
    growth_slots: int  # quarter-hours of many meters
    many_meters: int  # meters
    small_areas: int  # areas of two meters
    days: int  # of the histories of few meters


FULL_SIZE = Size(
    meters=FULL_METERS,
    runs=3,
    few_runs=2,
    peer=30_000,
    rows={100: 12, 1000: 12, 5000: 12},
    listen_seconds=120,
    state_meters=FULL_METERS,
    growth_slots=8,
    many_meters=1_000_000,
    small_areas=10_000,
    days=730,
    slots={
        "live_packed": 96,
        "live_json_frames": 32,
        "live_single": 12,
        "live_payments": 96,
        "live_stages": 96,
        "live_events": 96,
        "bridge_json": 4,
        "sustained": 96,
        "replay_parquet": 96,
        "rules_growth": 12,
    },
)
QUICK_SIZE = Size(
    meters=40_000,
    runs=1,
    few_runs=1,
    peer=6_000,
    rows={100: 2, 1000: 3, 5000: 8},
    listen_seconds=5,
    state_meters=2_500,
    growth_slots=1,
    many_meters=100_000,
    small_areas=1_000,
    days=120,
    slots={
        "live_packed": 48,
        "live_json_frames": 24,
        "live_single": 12,
        "live_payments": 96,
        "live_stages": 96,
        "live_events": 96,
        "bridge_json": 4,
        "sustained": 48,
        "replay_parquet": 48,
        "rules_growth": 2,
    },
)


class Bench:
    """All measurements; full, or quick: fewer readings and runs, the same parts."""

    def __init__(self, brokers: str, folder: Path, size: Size) -> None:
        self._brokers, self._folder, self.size = brokers, folder, size
        self._sustained = 0.0  # readings a second
        self._peer_runs: list[peer.PeerRun] = []

    def measure(self, name: str) -> list[Result]:
        """The row of a name, and of what is measured together with it: batch sizes; alert latency and recovery.

        Once the naive peer is asked for it runs again behind each row that is held against it: machines change their
        speed within minutes. A ratio is to the mean of the runs right before and after.
        """
        if name == "naive_peer":
            self._peer_runs.append(self._naive_peer())
            return []
        before = self._peer_runs[-1:]
        found = self._results_of(name)
        goal = ROW_GOALS[name]
        if before and goal and goal.relative:
            self._peer_runs.append(self._naive_peer())
        beside = (
            mean(run.rate for run in before + self._peer_runs[-1:]) if before else nan
        )
        return [replace(result, peer=beside) for result in found]

    def _naive_peer(self) -> peer.PeerRun:
        """One run of the naive peer."""
        return peer.measure(
            self._brokers,
            self._folder,
            readings=self.size.peer,
            number=len(self._peer_runs),
        )

    def summary(self) -> list[Result]:
        """The row of the naive peer, when it ran."""
        if not self._peer_runs:
            return []
        row = peer.row(self._peer_runs)
        return [replace(row, peer=row.median)]

    def _results_of(self, name: str) -> list[Result]:
        """What is measured under a name."""
        size = self.size
        slots = size.slots.get(name, 0)
        if name in live.READING_SHAPES or name in live.DENSE_LOADS:
            return [self._throughput(name)]
        if name == "sustained":
            return [self._sustain()]

        if name in BATCH_SIZE_NAMES:
            return engine.batch_sizes(
                meters=size.meters, slots=size.rows, runs=size.runs
            )

        if name in history.HISTORY_MAKERS:
            return [history.measure(name, days=size.days, runs=size.runs)]
        if name in STEADY_NAMES:
            return steady.measure(
                self._brokers,
                self._folder,
                meters=size.meters,
                rate=self._half(),
                seconds=size.listen_seconds,
                runs=size.few_runs,
            )

        return [
            {
                "bridge_json": lambda: bridge.measure(
                    self._brokers,
                    self._folder,
                    meters=size.meters,
                    slots=slots,
                    runs=size.few_runs,
                ),
                "replay_parquet": lambda: replay.measure(
                    self._folder, meters=size.meters, slots=slots, runs=size.runs
                ),
                "bytes_per_meter": lambda: engine.bytes_per_meter(
                    meters=size.state_meters, days=5
                ),
                "meters_growth": lambda: engine.meters_growth(
                    few=10_000,
                    many=size.many_meters,
                    slots=size.growth_slots,
                    runs=size.few_runs,
                ),
                "many_small_areas": lambda: engine.many_small_areas(
                    areas=size.small_areas,
                    slots=engine.CLOSING_SLOTS,
                    runs=size.few_runs,
                ),
                "rules_growth": lambda: engine.rules_growth(
                    meters=size.meters, slots=slots, runs=size.few_runs
                ),
                "demo_seconds": lambda: demo.measure(self._folder, runs=size.few_runs),
            }[name]()
        ]

    def _throughput(self, name: str) -> Result:
        """One of the live rows."""
        size = self.size
        runs = (
            size.few_runs
            if name == "live_single" or name in live.DENSE_LOADS
            else size.runs
        )
        slots = size.slots[name]
        return live.measure(
            name,
            self._brokers,
            self._folder,
            meters=size.meters,
            slots=slots,
            runs=runs,
        )

    def _sustain(self) -> Result:
        """What a worker sustains of all topics."""
        size = self.size
        result = sustained.measure(
            self._brokers,
            self._folder,
            meters=size.meters,
            slots=size.slots["sustained"],
            runs=size.few_runs,
        )
        self._sustained = result.median
        return result

    def _half(self) -> float:
        """Half of what the worker sustains, in readings a second; measured first where it is not yet."""
        if not self._sustained:
            self._sustain()
        return self._sustained / 2


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(ROW_GOALS)}; all when none is named",
    )
    parser.add_argument(
        "--quick", action="store_true", help="in two minutes: fewer readings and runs"
    )
    parser.add_argument(
        "--duty",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of the time for each process: 0.5",
    )
    options = parser.parse_args()
    if not 0 < options.duty <= 1:
        parser.error(f"a duty of {options.duty:g} is no share of the time")

    Testbed.share = options.duty
    if unknown := set(options.names) - ROW_GOALS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    console = Console(highlight=False, soft_wrap=True)
    here = machine()
    console.print(
        f"{here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB, {here['system']}"
    )
    console.print(", ".join(f"{name} {number}" for name, number in versions().items()))

    console.print(f"python -m bench {' '.join(sys.argv[1:])}\n")
    results: list[Result] = []
    failed: set[str] = set()
    began = time.perf_counter()

    with (
        tempfile.TemporaryDirectory(prefix="meterwatch-bench-") as folder,
        Broker(Path(folder) / "kafka") as broker,
    ):
        bench = Bench(
            broker.address, Path(folder), QUICK_SIZE if options.quick else FULL_SIZE
        )
        for name in options.names or ROW_GOALS:
            if name not in {result.name for result in results} | failed:
                then = time.perf_counter()
                try:
                    results += bench.measure(name)
                    console.print(
                        f"{time.perf_counter() - then:5.0f} s for {name}", style="dim"
                    )
                except Exception:
                    failed |= next(
                        (
                            group
                            for group in (BATCH_SIZE_NAMES, STEADY_NAMES)
                            if name in group
                        ),
                        {name},
                    )
                    console.print_exception()

        results += bench.summary()

    results.sort(key=lambda result: list(ROW_GOALS).index(result.name))
    show(results, console, figures(LATEST_RESULTS) if options.duty < 1 else {})
    if options.duty == 1:
        write(LATEST_RESULTS, results)

    if not options.names and options.duty == 1:
        families.show(
            families.measure(meters=bench.size.meters // 5, slots=SLOTS_PER_DAY),
            console,
        )

    console.print(f"{time.perf_counter() - began:.0f} s in all")
    if failed:
        sys.exit(
            f"not measured: {', '.join(name for name in ROW_GOALS if name in failed)}"
        )


if __name__ == "__main__":
    main()

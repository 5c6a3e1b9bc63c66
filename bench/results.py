"""What is measured: its name, its bar, and the number that several runs come to."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

READINGS_PER_SECOND, ROWS_PER_SECOND = "readings/s", "rows/s"
MEASURED_PACKAGES = (
    "meterwatch",
    "numpy",
    "msgspec",
    "faust-streaming",
    "aiokafka",
    "pyarrow",
    "river",
)


class Goal(NamedTuple):
    """The bar and the stretch of a row; of its ratio to the naive peer, or of the number itself."""

    bar: float
    stretch: float
    relative: bool = False
    most: bool = True  # the number may be so large; else it must be

    def state(self, value: float) -> str:
        """Whether a value, or its ratio, reaches the stretch, the bar or neither.

        >>> Goal(50, 110, relative=True, most=False).state(70), Goal(1, 0.25).state(0.2), Goal(1, 0.25).state(2)
        ('bar', 'stretch', 'neither')
        """
        for name, line in (("stretch", self.stretch), ("bar", self.bar)):
            if value <= line if self.most else value >= line:
                return name
        return "neither"


def _times(bar: float, stretch: float) -> Goal:
    """So many times the naive peer's rate."""
    return Goal(bar, stretch, relative=True, most=False)


ROW_GOALS: dict[str, Goal | None] = {
    "naive_peer": None,
    "live_packed": _times(65, 110),
    "live_json_frames": _times(32, 60),
    "live_single": _times(25, 45),
    "live_payments": None,
    "live_stages": None,
    "live_events": None,
    "bridge_json": None,
    "sustained": None,
    "replay_parquet": _times(100, 250),
    "engine_rows_100": None,
    "engine_rows_1000": None,
    "engine_rows_5000": None,
    "alert_latency_p50": None,
    "alert_latency_p99": Goal(0.6, 0.25),
    "recovery_seconds": Goal(20, 10),
    "longest_pause_seconds": Goal(0.25, 0.05),
    "bytes_per_meter": Goal(1331, 512),
    "meters_growth": Goal(1.2, 1.05),
    "many_small_areas": None,
    "rules_growth": Goal(2, 1.5),
    "history_small_area": None,
    "history_households": None,
    "demo_seconds": None,
}
"""Every name there is, with its goal where the design sets one."""


@dataclass(frozen=True)
class Result:
    """A number with its spread over the runs."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    note: str = ""
    peer: float = nan  # rate of the naive peer beside it

    @property
    def ratio(self) -> float | None:
        """How many times the naive peer's rate it is; None for what is no rate, or without a peer."""
        return (
            None
            if self.unit not in {READINGS_PER_SECOND, ROWS_PER_SECOND}
            or isnan(self.peer)
            else self.median / self.peer
        )


def summed(name: str, unit: str, runs: Sequence[float], note: str = "") -> Result:
    """The median of the runs, the lowest and the highest.

    >>> summed("demo_seconds", "s", [3.0, 1.0, 2.0])
    Result(name='demo_seconds', unit='s', median=2.0, low=1.0, high=3.0, note='', peer=nan)
    """
    return Result(name, unit, statistics.median(runs), min(runs), max(runs), note)


def document(results: Sequence[Result]) -> dict[str, Any]:
    """What is written for machines."""
    return {
        "machine": machine(),
        "versions": versions(),
        "results": [
            {
                "name": result.name,
                "unit": result.unit,
                "median": result.median,
                "low": result.low,
                "high": result.high,
                "ratio": result.ratio,
            }
            for result in results
            if not isnan(result.median)
        ],
    }


def write(path: Path, results: Sequence[Result]) -> None:
    """Writes the document."""
    path.write_text(json.dumps(document(results), indent=1) + "\n", encoding="utf-8")


def figures(path: Path) -> dict[str, float]:
    """What was written of every name: the ratio to the naive peer, or the median of what is no rate."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
    except OSError:
        return {}
    return {
        row["name"]: row["median"] if row["ratio"] is None else row["ratio"]
        for row in results
    }


def machine() -> dict[str, Any]:
    """The processor, its cores, the memory and the system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (
            line.partition(":")[2].strip()
            for line in lines
            if line.startswith("model name")
        ),
        platform.machine(),
    )


def versions() -> dict[str, str]:
    """Python's and those of the packages that matter."""
    return {"python": platform.python_version()} | {
        name: version(name) for name in MEASURED_PACKAGES
    }

"""How many readings a second the engine takes from the project's own Parquet files, read as `meterwatch run` does."""
from __future__ import annotations

import time
from pathlib import Path

from bench.engine import BEFORE_MIDNIGHT, apart
from bench.load import ZONE, Load
from bench.results import RATE, Result, summed
from detectors.engine import Engine
from replay.layout import write
from replay.sources import open_sources


def measure(folder: Path, *, meters: int, slots: int, runs: int) -> Result:
    """So many runs over a folder that is written beforehand."""
    history = folder / "history"
    load = Load(meters, BEFORE_MIDNIGHT)
    write(history, load.areas(), load.slots(slots))
    return summed("replay_parquet", RATE, [apart(rate, history) for _ in range(runs)])


def rate(history: Path) -> float:
    """From the opening of the folder to its end, master data included."""
    began = time.perf_counter()
    source = open_sources([history])
    engine = Engine(zone=ZONE, interval=source.interval)
    engine.enroll(source.areas)
    for batch in source.batches:
        engine.step(batch)
    return engine.counts["readings", "judged", ""] / (time.perf_counter() - began)

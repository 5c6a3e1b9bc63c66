"""How many readings a second the engine takes from the project's own Parquet files, read as `meterwatch run` does."""
from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from bench.engine import MORNING, apart
from bench.load import ZONE, Load
from bench.results import RATE, Result, summed
from detectors.engine import Engine
from replay.layout import write
from replay.sources import open_sources


def measure(folder: Path, *, meters: int, slots: int, runs: int) -> Result:
    """So many runs over a folder that is written beforehand."""
    history = folder / "history"
    load = Load(meters, MORNING)
    write(history, load.areas(), load.slots(slots))
    found = [apart(replay, history) for _ in range(runs)]
    note = f"{median(cpu for _, cpu in found):.2f} µs CPU each"
    return summed("replay_parquet", RATE, [rate for rate, _ in found], note)


def replay(history: Path) -> tuple[float, float]:
    """Readings a second and microseconds of CPU each, from the opening of the folder to its end."""
    began, spent = time.perf_counter(), time.process_time()
    source = open_sources([history])
    engine = Engine(zone=ZONE, interval=source.interval)
    engine.enroll(source.areas)
    for batch in source.batches:
        engine.step(batch)
    judged = engine.counts["readings", "judged", ""]
    return judged / (time.perf_counter() - began), 1e6 * (time.process_time() - spent) / judged

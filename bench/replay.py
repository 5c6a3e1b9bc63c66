"""How many readings a second the engine takes from the project's own Parquet files, read as `meterwatch run` does."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from bench.engine import MORNING_SLOT, in_fresh_process
from bench.load import LOAD_ZONE, Load
from bench.results import READINGS_PER_SECOND, Result, summed
from detectors.engine import Engine
from replay.layout import write
from replay.sources import open_sources


def measure(folder: Path, *, meters: int, slots: int, runs: int) -> Result:
    """So many runs over a folder that is written beforehand."""
    history = folder / "history"
    load = Load(meters, MORNING_SLOT)
    write(history, load.areas(), load.slots(slots))
    found = [in_fresh_process(_replay, history) for _ in range(runs)]
    note = f"{median(cpu for _, cpu in found):.2f} µs CPU each"
    return summed(
        "replay_parquet", READINGS_PER_SECOND, [rate for rate, _ in found], note
    )


def _replay(history: Path) -> tuple[float, float]:
    """Readings a second and microseconds of CPU each, from the opening of the folder to its end."""
    began, spent = time.perf_counter(), time.process_time()
    source = open_sources([history])
    engine = Engine(zone=LOAD_ZONE, interval=source.interval)
    engine.enroll(source.areas)
    for batch in source.batches:
        engine.step(batch)
    judged = engine.counts["readings", "judged", ""]
    return judged / (time.perf_counter() - began), 1e6 * (
        time.process_time() - spent
    ) / judged

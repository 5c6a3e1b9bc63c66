"""How many rows a worker judges in a second, from a real broker on which they wait."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.engine import MORNING
from bench.load import Load
from bench.others import EventsLoad, Others, PaymentsLoad, StagesLoad
from bench.place import Place, total
from bench.results import RATE, ROWS, Result, summed
from replay.send import Shape, encoded
from schemas.columns import Batch, Readings
from schemas.wire import Encoded
from streams.topics import READS
from tests.workers import Samples, WorkerProcess

ROWS_JUDGED, STEPS, CPU = "meterwatch_rows_total", "meterwatch_step_seconds_count", "process_cpu_seconds_total"
LOOK = 0.1  # seconds between looks at the beginning and the end of a run
CHECKPOINT_SECONDS = 20  # thrice as often as by default, so that a run has its share
SHAPES: dict[str, Shape] = {"live_packed": "packed", "live_json_frames": "array", "live_single": "single"}
ALONE: dict[str, tuple[type[Others], float]] = {
    "live_payments": (PaymentsLoad, 100.0), "live_stages": (StagesLoad, 500.0), "live_events": (EventsLoad, 30.0),
}  # fmt: skip
"""The topics that are measured alone, and how many times denser than in life: 100,000 of each begin in a day."""


class Run(NamedTuple):
    """Once every meter is known."""

    rate: float  # rows a second
    cpu: float  # microseconds of the worker's CPU a row


def measure(name: str, brokers: str, folder: Path, *, meters: int, slots: int, runs: int) -> Result:
    """So many runs over the same quarter-hours, from a morning on."""
    found = []
    with Place(brokers, folder, name, checkpoint_seconds=CHECKPOINT_SECONDS) as place:
        load = Load(meters, MORNING)
        place.enroll(load.areas())
        kind, known, rows = Readings.kind, meters, meters * slots
        if name in SHAPES:
            place.produce((READS, message) for slot in load.slots(slots) for message in encoded(slot, SHAPES[name]))
        else:
            others, times = ALONE[name]
            batches = list(some(others(load, times), slots))
            kind, known, rows = batches[0].kind, 0, sum(map(len, batches))
            place.produce(packed(others.topic, batches))
        for number in range(runs):
            if number:
                place.renew()
            with place.worker() as worker:
                found.append(drain(worker, kind, known, rows))
    return told(name, found)


def some(others: Others, slots: int) -> Iterator[Batch]:
    """The rows of so many quarter-hours."""
    return (others.slot() for _ in range(slots))


def packed(topic: str, batches: Sequence[Batch]) -> Iterator[tuple[str, Encoded]]:
    """The messages of some batches of a topic, arrays of an area's rows."""
    return ((topic, message) for batch in batches for message in encoded(batch, "array"))


def told(name: str, found: Sequence[Run]) -> Result:
    """The runs as one result."""
    unit = RATE if name in SHAPES else ROWS
    return summed(name, unit, [run.rate for run in found], f"{median(run.cpu for run in found):.2f} µs CPU each")


def drain(worker: WorkerProcess, kind: str, known: int, rows: int) -> Run:
    """From when so many rows of a kind were judged to the last chunk's end: neither start-up nor first sight count.

    From when the worker holds its partitions where none need be known. Raises RuntimeError when that is no time at all.
    """
    began, first = look(worker)
    while judged(first, kind) < known or "holds partitions" not in worker.log.read_text():
        time.sleep(LOOK)
        began, first = look(worker)
    ended, last = began, first
    seen = first
    while judged(seen, kind) < rows:
        far = judged(seen, kind) < 0.7 * rows
        time.sleep(5 * LOOK if far else LOOK)
        now, seen = look(worker)
        if chunks(seen) > chunks(last):
            ended, last = now, seen
    if ended == began:
        raise RuntimeError(f"all {rows:,} rows were judged before anybody looked: measure more")
    left = rows - judged(first, kind)
    cpu = total(last, CPU) - total(first, CPU)
    return Run(left / (ended - began), 1e6 * cpu / left)


def look(worker: WorkerProcess) -> tuple[float, Samples]:
    """The metrics, and when they were read."""
    return time.perf_counter(), worker.scrape(ROWS_JUDGED, STEPS, CPU)


def judged(samples: Samples, kind: str) -> float:
    """How many rows of a kind were judged, told once a second."""
    return samples[ROWS_JUDGED, (kind,)]


def chunks(samples: Samples) -> float:
    """How many chunks were judged."""
    return total(samples, STEPS)

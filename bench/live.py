"""How many readings a worker judges in a second, from a real broker on which they wait."""
from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.engine import MORNING
from bench.load import Load
from bench.place import Place, total
from bench.results import RATE, Result, summed
from replay.send import Shape
from schemas.wire import encode_readings
from streams.topics import READS
from tests.workers import Samples, WorkerProcess

LOOK = 0.1  # seconds between looks at the beginning and the end of a run
CHECKPOINT_SECONDS = 20  # thrice as often as by default, so that a run has its share
SHAPES: dict[str, Shape] = {"live_packed": "packed", "live_json_frames": "array", "live_single": "single"}


class Run(NamedTuple):
    """Once every meter is known."""

    rate: float  # readings a second
    cpu: float  # microseconds of the worker's CPU a reading


def measure(name: str, brokers: str, folder: Path, *, meters: int, slots: int, runs: int) -> Result:
    """So many runs over the same quarter-hours, from a morning on."""
    found = []
    with Place(brokers, folder, name, checkpoint_seconds=CHECKPOINT_SECONDS) as place:
        load = Load(meters, MORNING)
        place.enroll(load.areas())
        place.produce(READS, chain.from_iterable(encode_readings(slot, SHAPES[name]) for slot in load.slots(slots)))
        for number in range(runs):
            if number:
                place.renew()
            with place.worker() as worker:
                found.append(drain(worker, meters, slots))
    return told(name, found)


def told(name: str, found: Sequence[Run]) -> Result:
    """The runs as one result."""
    return summed(name, RATE, [run.rate for run in found], f"{median(run.cpu for run in found):.2f} µs CPU each")


def drain(worker: WorkerProcess, meters: int, slots: int) -> Run:
    """From when every meter is known to the end of the last chunk: neither start-up nor first sight count.

    Raises RuntimeError when that is no time at all.
    """
    began, first = look(worker)
    while judged(first) < meters:
        time.sleep(LOOK)
        began, first = look(worker)
    ended, last = began, first
    seen = first
    while judged(seen) < meters * slots:
        far = judged(seen) < 0.7 * meters * slots
        time.sleep(5 * LOOK if far else LOOK)
        now, seen = look(worker)
        if chunks(seen) > chunks(last):
            ended, last = now, seen
    if ended == began:
        raise RuntimeError(f"all {slots} quarter-hours were judged before anybody looked: measure more")
    readings = meters * slots - judged(first)
    cpu = total(last, "process_cpu_seconds_total") - total(first, "process_cpu_seconds_total")
    return Run(readings / (ended - began), 1e6 * cpu / readings)


def look(worker: WorkerProcess) -> tuple[float, Samples]:
    """The metrics, and when they were read."""
    return time.perf_counter(), worker.scrape()


def judged(samples: Samples) -> float:
    """How many readings were judged, told once a second."""
    return total(samples, "meterwatch_judged_total")


def chunks(samples: Samples) -> float:
    """How many chunks were judged."""
    return total(samples, "meterwatch_step_seconds_count")

"""How many readings a worker judges in a second, from a real broker on which they wait."""
from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.load import Load
from bench.place import Place, Samples, WorkerProcess, total
from bench.results import RATE, Result, summed
from replay.send import Shape
from schemas.wire import encode_readings
from streams.topics import READS

LOOK = 0.1  # seconds between looks at the beginning and the end of a run
CHECKPOINT_SECONDS = 20  # thrice as often as by default, so that a run has its share
SHAPES: dict[str, Shape] = {"live_packed": "packed", "live_json_frames": "array", "live_single": "single"}


class Run(NamedTuple):
    """Between the first chunk and the last."""

    rate: float  # readings a second
    cpu: float  # microseconds of the worker's CPU a reading


def measure(name: str, brokers: str, folder: Path, *, meters: int, first: int, slots: int, runs: int) -> Result:
    """So many runs over the same quarter-hours."""
    place = Place(brokers, folder, name, checkpoint_seconds=CHECKPOINT_SECONDS)
    load = Load(meters, first)
    place.enroll(load.areas())
    place.produce(READS, chain.from_iterable(encode_readings(slot, SHAPES[name]) for slot in load.slots(slots)))
    found = []
    for number in range(runs):
        if number:
            place.renew()
        with place.worker() as worker:
            found.append(drain(worker, meters * slots))
    return told(name, found)


def told(name: str, found: Sequence[Run]) -> Result:
    """The runs as one result."""
    return summed(name, RATE, [run.rate for run in found], f"{median(run.cpu for run in found):.2f} µs CPU each")


def drain(worker: WorkerProcess, readings: int) -> Run:
    """From the end of the first chunks that are seen to the end of the last: start-up does not count."""
    began, first = look(worker)
    while not chunks(first):
        time.sleep(LOOK)
        began, first = look(worker)
    now, seen = began, first
    ended, last = began, first
    while total(seen, "meterwatch_judged_total") < readings:
        far = total(seen, "meterwatch_judged_total") < 0.7 * readings
        time.sleep(5 * LOOK if far and now - began > 5 else LOOK)
        now, seen = look(worker)
        if chunks(seen) > chunks(last):
            ended, last = now, seen
    judged = readings * (1 - chunks(first) / chunks(last))
    cpu = total(last, "process_cpu_seconds_total") - total(first, "process_cpu_seconds_total")
    return Run(judged / (ended - began), 1e6 * cpu / judged)


def look(worker: WorkerProcess) -> tuple[float, Samples]:
    """The metrics, and when they were read."""
    return time.perf_counter(), worker.scrape()


def chunks(samples: Samples) -> float:
    """How many chunks were judged."""
    return total(samples, "meterwatch_step_seconds_count")

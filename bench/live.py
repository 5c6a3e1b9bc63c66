"""How many rows a worker judges in a second, from a real broker on which they wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.engine import MORNING_SLOT
from bench.load import Load
from bench.others import EventsLoad, PaymentsLoad, StagesLoad, TopicLoad
from bench.results import READINGS_PER_SECOND, ROWS_PER_SECOND, Result, summed
from bench.testbed import Testbed, total
from schemas.columns import Batch, Readings
from schemas.topics import READS_TOPIC
from schemas.wire import Encoded, Shape, encode
from tests.workers import Samples, WorkerProcess

ROWS_JUDGED, STEPS_METRIC, CPU_METRIC = (
    "meterwatch_rows_total",
    "meterwatch_step_seconds_count",
    "process_cpu_seconds_total",
)
LOOK_SECONDS = 0.1  # seconds between looks at the beginning and the end of a run
CHECKPOINT_SECONDS = 20  # thrice as often as by default, so that a run has its share
READING_SHAPES: dict[str, Shape] = {
    "live_packed": "packed",
    "live_json_frames": "array",
    "live_single": "single",
}
DENSE_LOADS: dict[str, tuple[type[TopicLoad], float]] = {
    "live_payments": (PaymentsLoad, 100.0),
    "live_stages": (StagesLoad, 500.0),
    "live_events": (EventsLoad, 30.0),
}
"""The topics that are measured alone, and how many times denser than in life: 100,000 of each begin in a day."""


class Run(NamedTuple):
    """Once every meter is known."""

    rate: float  # rows a second
    cpu: float  # microseconds of the worker's CPU a row


def measure(
    name: str, brokers: str, folder: Path, *, meters: int, slots: int, runs: int
) -> Result:
    """So many runs over the same quarter-hours, from a morning on."""
    found = []
    with Testbed(brokers, folder, name, checkpoint_seconds=CHECKPOINT_SECONDS) as place:
        load = Load(meters, MORNING_SLOT)
        place.enroll(load.areas())
        kind, known, rows = Readings.kind, meters, meters * slots

        if name in READING_SHAPES:
            place.produce(
                (READS_TOPIC, message)
                for slot in load.slots(slots)
                for message in encode(slot, READING_SHAPES[name])
            )
        else:
            others, times = DENSE_LOADS[name]
            batches = list(_batches_of(others(load, times), slots))
            kind, known, rows = batches[0].kind, 0, sum(map(len, batches))
            place.produce(_messages_of(others.topic, batches))

        for number in range(runs):
            if number:
                place.renew()
            with place.worker() as worker:
                found.append(drain(worker, kind, known, rows))

    return _result_of(name, found)


def _batches_of(others: TopicLoad, slots: int) -> Iterator[Batch]:
    """The rows of so many quarter-hours."""
    return (others.slot() for _ in range(slots))


def _messages_of(topic: str, batches: Sequence[Batch]) -> Iterator[tuple[str, Encoded]]:
    """The messages of some batches of a topic, arrays of an area's rows."""
    return ((topic, message) for batch in batches for message in encode(batch, "array"))


def _result_of(name: str, found: Sequence[Run]) -> Result:
    """The runs as one result."""
    unit = READINGS_PER_SECOND if name in READING_SHAPES else ROWS_PER_SECOND
    return summed(
        name,
        unit,
        [run.rate for run in found],
        f"{median(run.cpu for run in found):.2f} µs CPU each",
    )


def drain(worker: WorkerProcess, kind: str, known: int, rows: int) -> Run:
    """From when so many rows of a kind were judged to the last chunk's end: neither start-up nor first sight count.

    From when the worker holds its partitions where none need be known. Raises RuntimeError when that is no time at all.
    """
    began, first = _scrape(worker)
    while (
        _rows_judged(first, kind) < known
        or "holds partitions" not in worker.log.read_text()
    ):
        time.sleep(LOOK_SECONDS)
        began, first = _scrape(worker)

    ended, last = began, first
    seen = first

    while _rows_judged(seen, kind) < rows:
        far = _rows_judged(seen, kind) < 0.7 * rows
        time.sleep(5 * LOOK_SECONDS if far else LOOK_SECONDS)
        now, seen = _scrape(worker)
        if _chunk_count(seen) > _chunk_count(last):
            ended, last = now, seen

    if ended == began:
        raise RuntimeError(
            f"all {rows:,} rows were judged before anybody looked: measure more"
        )

    left = rows - _rows_judged(first, kind)
    cpu = total(last, CPU_METRIC) - total(first, CPU_METRIC)
    return Run(left / (ended - began), 1e6 * cpu / left)


def _scrape(worker: WorkerProcess) -> tuple[float, Samples]:
    """The metrics, and when they were read."""
    return time.perf_counter(), worker.scrape(ROWS_JUDGED, STEPS_METRIC, CPU_METRIC)


def _rows_judged(samples: Samples, kind: str) -> float:
    """How many rows of a kind were judged; the metric changes once a second."""
    return samples[ROWS_JUDGED, (kind,)]


def _chunk_count(samples: Samples) -> float:
    """How many chunks were judged."""
    return total(samples, STEPS_METRIC)

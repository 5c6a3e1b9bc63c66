"""What a worker does under a steady load: how soon it tells, and how soon it is back when it was killed."""
from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.engine import BEFORE_MIDNIGHT
from bench.feed import Feed, waiting
from bench.load import AREA, SLOTS, Load
from bench.place import Place, total, wait
from bench.results import Result, summed
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.wire import decode_alert, encode_readings
from streams.cli import alert_partitions
from streams.logs import reader
from streams.settings import Settings
from streams.topics import READS
from tests.workers import WorkerProcess

RULE = "voltage_loss"
CHECKPOINT_SECONDS = 10  # six times as often as by default, so that some fall into every spell
SETTLE = 3.0  # seconds of keeping up before anything is measured
KEPT_UP = 1.5  # seconds of the load that may wait meanwhile: lag is looked at once a second
LOOK = 0.5  # seconds between looks
OPEN_DAYS = 4  # that an area holds
Told = tuple[float, Alert]


class Back(NamedTuple):
    """How soon a worker is back after a kill."""

    seconds: float  # until no more waits than before
    away: float  # of them, until the new worker holds all partitions


def measure(
    brokers: str, folder: Path, *, meters: int, rate: float, seconds: float, runs: int, history: bool
) -> list[Result]:
    """Alert latency in spells of so many seconds, then as many kills, all under one load.

    With a history the worker is first given a few quarter-hours of some days, so that all its days are open.
    """
    with Place(brokers, folder, "steady", checkpoint_seconds=CHECKPOINT_SECONDS, instance="one") as place:
        place.enroll(Load(meters).areas())
        if history:
            slots = days_before(meters)
            place.produce(READS, chain.from_iterable(encode_readings(slot, "packed") for slot in slots))
        with Feed(place, rate, meters, BEFORE_MIDNIGHT) as feed, ExitStack() as workers:

            def start() -> WorkerProcess:
                return workers.enter_context(place.worker(place.name))

            worker = start()
            settle(worker, rate)
            told = [asyncio.run(listen(place.settings, seconds)) for _ in range(runs)]
            kills = []
            for _ in range(runs):
                worker, back = followed(worker, start, rate)
                kills.append(back)
        sent = feed.sent()
    return [*latency(told, sent), recovery(kills)]


def days_before(meters: int) -> Iterator[Readings]:
    """Two quarter-hours of each of the days before; the registers end where a load's begin."""
    load = Load(meters, BEFORE_MIDNIGHT)
    first = load.register.copy()
    for _ in sparse(load):
        pass
    used = load.register - first
    load = Load(meters, BEFORE_MIDNIGHT)
    load.register -= used
    yield from sparse(load)


def sparse(load: Load) -> Iterator[Readings]:
    """Two quarter-hours of each of the days before."""
    for day in range(OPEN_DAYS):
        load.next = BEFORE_MIDNIGHT - (OPEN_DAYS - day) * SLOTS
        yield from load.slots(2)


def settle(worker: WorkerProcess, rate: float) -> None:
    """Returns when the worker keeps up. Raises TimeoutError when the machine is too busy for the load."""
    seen: deque[float] = deque(maxlen=round(SETTLE / LOOK))

    def kept_up() -> bool:
        behind = waiting(worker.scrape())
        seen.append(np.inf if behind is None else behind)
        return len(seen) == seen.maxlen and median(seen) <= KEPT_UP * rate / AREA

    wait(kept_up, "the worker keeps up with half of what was measured", every=LOOK)


def latency(told: Sequence[Sequence[Told]], sent: NDArray[np.void]) -> list[Result]:
    """From the sending of the frame with the evidence to the alert in a consumer's hands."""
    waits = [waited(spell, sent) for spell in told]
    note = f"{sum(map(len, waits)):,} alerts at {feed_rate(sent):,.0f} readings/s"
    return [
        summed(f"alert_latency_p{share}", "s", [float(np.percentile(spell, share)) for spell in waits], note)
        for share in (50, 99)
    ]


async def listen(settings: Settings, seconds: float) -> list[Told]:
    """The alerts that come in so many seconds, each with the time at which it could be read."""
    found: list[Told] = []
    async with reader(settings) as consumer:
        consumer.assign(alert_partitions(settings))
        await consumer.seek_to_end()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            fetched = await consumer.getmany(timeout_ms=int(1000 * left))
            now = time.time()
            found += [(now, decode_alert(record.value)) for records in fetched.values() for record in records]
    return found


def waited(told: Sequence[Told], sent: NDArray[np.void]) -> NDArray[np.float64]:
    """Seconds of every alert of the planted fault since its evidence was sent."""
    times = dict(zip(zip(sent["area"].tolist(), sent["at"].tolist(), strict=True), sent["sent"].tolist(), strict=True))
    return np.array([now - times[int(a.area[1:]), a.at] for now, a in told
                     if a.rule == RULE and (int(a.area[1:]), a.at) in times])  # fmt: skip


def feed_rate(sent: NDArray[np.void]) -> float:
    """Readings a second that were sent."""
    return float(len(sent) * AREA / (sent["sent"][-1] - sent["sent"][0]))


def recovery(kills: Sequence[Back]) -> Result:
    """From SIGKILL half-way between two checkpoints, with a new worker at once, until no more waits than before."""
    note = f"{median(kill.away for kill in kills):.1f} s until the state is restored and reading goes on"
    return summed("recovery_seconds", "s", [kill.seconds for kill in kills], note)


def followed(first: WorkerProcess, second: Callable[[], WorkerProcess], rate: float) -> tuple[WorkerProcess, Back]:
    """Kills a worker and starts the next one; that one, and how soon it is back."""
    settle(first, rate)
    wait(lambda: half_way(first), "checkpoints are half an interval old")
    before = max(waiting(first.scrape()) or 0, KEPT_UP * rate / AREA)
    killed = time.monotonic()
    first.kill()
    worker = second()
    wait(lambda: waiting(worker.scrape()) is not None, "the new worker holds all partitions")
    away = time.monotonic() - killed
    wait(lambda: caught_up(worker, before), "the new worker has caught up")
    return worker, Back(time.monotonic() - killed, away)


def half_way(worker: WorkerProcess) -> bool:
    """Whether the newest checkpoints are about half an interval old."""
    ages = [value for (name, _), value in worker.scrape().items() if name == "meterwatch_checkpoint_age_seconds"]
    return bool(ages) and abs(median(ages) - CHECKPOINT_SECONDS / 2) < 1


def caught_up(worker: WorkerProcess, before: float) -> bool:
    """Whether no more records wait than before."""
    samples = worker.scrape()
    behind = waiting(samples)
    return total(samples, "meterwatch_judged_total") > 0 and behind is not None and behind <= before

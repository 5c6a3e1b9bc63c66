"""What a worker does under a steady load of all topics: its delay, recovery and pauses."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.engine import BEFORE_MIDNIGHT
from bench.feed import LAG_METRIC, Feed, waiting
from bench.load import AREA_METERS, SLOTS_PER_DAY, Load
from bench.results import Result, summed
from bench.sustained import CHECKPOINT_SECONDS, history, sparse
from bench.testbed import Testbed, total, wait
from schemas.alert import Alert
from schemas.wire import decode_alert
from streams.kafka.alerts import alert_partitions
from streams.kafka.readers import reader
from streams.settings import Settings
from tests.workers import Samples, WorkerProcess

__all__ = ["measure", "sparse"]

PLANTED_RULE = "voltage_loss"
AGE_METRIC, JUDGED_METRIC = (
    "meterwatch_checkpoint_age_seconds",
    "meterwatch_judged_total",
)
SETTLE_SECONDS = 3.0  # seconds of keeping up before anything is measured
KEEP_UP_SECONDS = (
    1.5  # seconds of the load that may wait meanwhile: lag is looked at once a second
)
LOOK_SECONDS = 0.5  # seconds between looks
RECOVERY_SECONDS = (
    90.0  # seconds within which a kill is waited for and got over, mostly
)
NEAR_SHARE = (
    0.1  # of the time between two checkpoints, by which a kill may miss their middle
)
TimedAlert = tuple[float, Alert]


class Scraped(Protocol):
    """What gives its metrics."""

    def scrape(self, *names: str) -> Samples: ...


class _Recovery(NamedTuple):
    """How soon a worker is back after a kill."""

    seconds: float  # until no more waits than before
    away: float  # of them, until the new worker holds all partitions
    age: float  # of the checkpoints when it was killed, in seconds
    interval: float  # seconds between checkpoints


def measure(
    brokers: str, folder: Path, *, meters: int, rate: float, seconds: float, runs: int
) -> list[Result]:
    """Alert latency in spells of a day of event time or so many seconds, then as many kills, all under one load.

    The worker is first given some days of history, so that all its days are open.
    """
    spell = min(seconds, SLOTS_PER_DAY * meters / rate)
    with Testbed(
        brokers, folder, "steady", checkpoint_seconds=CHECKPOINT_SECONDS, instance="one"
    ) as place:
        place.enroll(Load(meters).areas())
        place.produce(history(meters))
        with ExitStack() as processes:

            def start() -> WorkerProcess:
                return processes.enter_context(place.worker(place.name))

            ahead = runs * (spell + RECOVERY_SECONDS)
            feed = processes.enter_context(
                Feed(place, rate, meters, BEFORE_MIDNIGHT, ahead=ahead)
            )
            worker = start()
            wait(
                lambda: waiting(worker.scrape(LAG_METRIC)) == 0,
                "the history is judged",
                every=LOOK_SECONDS,
            )
            feed.begin()
            _settle(worker, rate)
            spells = [asyncio.run(_listen(place.settings, spell)) for _ in range(runs)]
            kills, seen = [], []
            for _ in range(runs):
                seen.append(worker.scrape())
                worker, back = _kill_and_follow(worker, start, rate)
                kills.append(back)
            seen.append(worker.scrape())
        sent = feed.sent()
    return [*_latency(spells, sent), _recovery_result(kills), longest_pause(seen)]


def _settle(worker: WorkerProcess, rate: float) -> None:
    """Returns when the worker keeps up. Raises TimeoutError when the machine is too busy for the load."""
    seen: deque[float] = deque(maxlen=round(SETTLE_SECONDS / LOOK_SECONDS))

    def kept_up() -> bool:
        behind = waiting(worker.scrape(LAG_METRIC))
        seen.append(np.inf if behind is None else behind)
        return (
            len(seen) == seen.maxlen
            and median(seen) <= KEEP_UP_SECONDS * rate / AREA_METERS
        )

    wait(
        kept_up,
        f"the worker keeps up with {rate:,.0f} readings/s, half of what it sustained",
        every=LOOK_SECONDS,
    )


def _latency(
    spells: Sequence[Sequence[TimedAlert]], sent: NDArray[np.void]
) -> list[Result]:
    """From the sending of the frame with the evidence to the alert in a consumer's hands."""
    waits = [alert_delays(spell, sent) for spell in spells]
    note = f"{sum(map(len, waits)):,} alerts at {_feed_rate(sent):,.0f} readings/s"
    return [
        summed(
            f"alert_latency_p{share}",
            "s",
            [float(np.percentile(spell, share)) for spell in waits],
            note,
        )
        for share in (50, 99)
    ]


async def _listen(settings: Settings, seconds: float) -> list[TimedAlert]:
    """The alerts that come in so many seconds, each with the time at which it could be read."""
    found: list[TimedAlert] = []
    async with reader(settings) as consumer:
        consumer.assign(alert_partitions(settings))
        await consumer.seek_to_end()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            fetched = await consumer.getmany(timeout_ms=int(1000 * left))
            now = time.time()
            found += [
                (now, decode_alert(record.value))
                for records in fetched.values()
                for record in records
            ]
    return found


def alert_delays(
    alerts: Sequence[TimedAlert], sent: NDArray[np.void]
) -> NDArray[np.float64]:
    """Seconds of every alert of the planted fault since its evidence was sent."""
    times = dict(
        zip(
            zip(sent["area"].tolist(), sent["at"].tolist(), strict=True),
            sent["sent"].tolist(),
            strict=True,
        )
    )
    return np.array(
        [
            now - times[int(alert.area[1:]), alert.at]
            for now, alert in alerts
            if alert.rule == PLANTED_RULE and (int(alert.area[1:]), alert.at) in times
        ]
    )


def _feed_rate(sent: NDArray[np.void]) -> float:
    """Readings a second that were sent."""
    return float(len(sent) * AREA_METERS / (sent["sent"][-1] - sent["sent"][0]))


def _recovery_result(kills: Sequence[_Recovery]) -> Result:
    """From SIGKILL half-way between two checkpoints, with a new worker at once, until no more waits than before."""
    away, age, interval = (
        median(getattr(kill, name) for kill in kills)
        for name in ("away", "age", "interval")
    )
    note = f"{away:.1f} s until reading goes on; {age:.1f} s after checkpoints that come every {interval:.1f} s"
    return summed("recovery_seconds", "s", [kill.seconds for kill in kills], note)


def _kill_and_follow(
    first: WorkerProcess, second: Callable[[], WorkerProcess], rate: float
) -> tuple[WorkerProcess, _Recovery]:
    """Kills a worker and starts the next one; that one, and how soon it is back."""
    _settle(first, rate)
    age, interval = half_way(first)
    before = max(
        waiting(first.scrape(LAG_METRIC)) or 0, KEEP_UP_SECONDS * rate / AREA_METERS
    )
    killed = time.monotonic()
    first.kill()
    worker = second()

    wait(
        lambda: waiting(worker.scrape(LAG_METRIC)) is not None,
        "the new worker holds all partitions",
        every=LOOK_SECONDS / 5,
    )
    away = time.monotonic() - killed
    wait(
        lambda: _caught_up(worker, before),
        "the new worker has caught up",
        every=LOOK_SECONDS,
    )
    return worker, _Recovery(time.monotonic() - killed, away, age, interval)


def half_way(worker: Scraped) -> tuple[float, float]:
    """Returns when the newest checkpoints are half as old as they are apart: their age, and how far apart they are."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    before: dict[str, float] = {}

    def look() -> float:
        now, ages = time.monotonic(), _ages_of(worker.scrape(AGE_METRIC))
        for partition, age in ages.items():
            if age < before.get(partition, np.inf):
                taken[partition].append(now - age)
        before.update(ages)
        return median(ages.values()) if ages else np.inf

    def apart() -> bool:
        look()
        return bool(taken) and all(len(times) > 2 for times in taken.values())

    wait(apart, "every partition has had three checkpoints", every=LOOK_SECONDS)
    interval = median(
        later - sooner
        for times in taken.values()
        for sooner, later in pairwise(times[1:])
    )
    until = time.monotonic() + 2 * interval
    while (
        abs((age := look()) - interval / 2) > NEAR_SHARE * interval
        and time.monotonic() < until
    ):
        time.sleep(LOOK_SECONDS / 5)
    return age, interval


def _ages_of(samples: Samples) -> dict[str, float]:
    """Seconds since the last checkpoint of each partition."""
    return {
        labels[0]: value
        for (name, labels), value in samples.items()
        if name == AGE_METRIC
    }


def _caught_up(worker: WorkerProcess, before: float) -> bool:
    """Whether no more records wait than before."""
    samples = worker.scrape(LAG_METRIC, JUDGED_METRIC)
    behind = waiting(samples)
    return total(samples, JUDGED_METRIC) > 0 and behind is not None and behind <= before


def longest_pause(seen: Sequence[Samples]) -> Result:
    """The longest call of every cause, and how long the event loop was held at most, of some workers."""
    longest = longest_calls(seen)
    held = f"the event loop was held for {pause_at_most(seen):g} s at most"
    ordered = sorted(longest.items(), key=itemgetter(1), reverse=True)
    note = (
        f"{', '.join(f'{cause} {seconds:.2g}' for cause, seconds in ordered)}; {held}"
        if longest
        else "not exported"
    )
    return summed(
        "longest_pause_seconds", "s", [max(longest.values(), default=np.nan)], note
    )


def longest_calls(seen: Sequence[Samples]) -> dict[str, float]:
    """Seconds of the longest call by cause."""
    found: defaultdict[str, float] = defaultdict(float)
    for samples in seen:
        for (name, labels), value in samples.items():
            if name == "meterwatch_longest_call_seconds":
                found[labels[0]] = max(found[labels[0]], value)
    return dict(found)


def pause_at_most(seen: Sequence[Samples]) -> float:
    """The upper end of the highest bucket of pauses that is not empty; NaN without any."""
    highest = np.nan
    for samples in seen:
        buckets = sorted(
            (float(labels[0]), value)
            for (name, labels), value in samples.items()
            if name == "meterwatch_loop_pause_seconds_bucket"
        )
        filled = [
            end
            for (_, fewer), (end, more) in pairwise([(0.0, 0.0), *buckets])
            if more > fewer
        ]
        highest = np.fmax(highest, max(filled, default=np.nan))
    return float(highest)

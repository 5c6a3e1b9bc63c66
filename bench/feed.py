"""A steady load of all topics at an even pace; the times at which frames of readings are sent are written down.

`python -m bench.feed RATE METERS SLOT AHEAD SENT` is its process; the environment says where, as it does to a worker.
What it sends in the first AHEAD seconds is made before, so that the load takes little of the machine while it lasts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from math import isnan
from pathlib import Path
from typing import Self

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from bench.load import AREA_METERS, FIRST_MIDNIGHT, SLOT_SECONDS, Load
from bench.others import messages, topic_loads
from bench.testbed import CHECKOUT_FOLDER, PARTITION_COUNT, Testbed, partition_of
from schemas.topics import READS_TOPIC
from schemas.wire import Encoded
from streams.settings import Settings, load
from tests.workers import CpuShare, Samples

LAG_METRIC = "meterwatch_lag_records"
Quarter = tuple[
    int, list[tuple[str, Encoded]]
]  # its time, and its messages with their topics
SENT_DTYPE = np.dtype([("area", "i4"), ("at", "i8"), ("sent", "f8")])


class Feed:
    """The process: it sends from `begin` until the block ends; what it has sent can be read then."""

    def __init__(
        self,
        testbed: Testbed,
        rate: float,
        meters: int,
        slot: int,
        *,
        ahead: float = 0.0,
    ) -> None:
        self._path = testbed.folder / f"sent-{testbed.name}"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.feed",
                *map(str, (rate, meters, slot, ahead, self._path)),
            ],
            env=os.environ | testbed.environment,
            cwd=CHECKOUT_FOLDER,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._share = testbed.share
        self._throttle: CpuShare | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def begin(self) -> None:
        """Has it send, as soon as the first messages are made. Raises RuntimeError when it has ended."""
        if not (self._process.stdout and self._process.stdout.readline()):
            raise RuntimeError("the feed has ended by itself")
        self._throttle = CpuShare(self._process, self._share)
        self._process.send_signal(signal.SIGUSR1)

    def _end(self) -> None:
        """Ends it in good order."""
        if self._throttle:
            self._throttle.release()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def sent(self) -> NDArray[np.void]:
        """What was sent: the number of the area, the time of the readings, and when."""
        return np.fromfile(self._path, SENT_DTYPE)


def waiting(samples: Samples) -> float | None:
    """The frames of readings that wait for judgement, None while the worker does not hold all partitions."""
    lags = {
        labels: value for (name, labels), value in samples.items() if name == LAG_METRIC
    }
    known = [
        value
        for (_, topic), value in lags.items()
        if topic.endswith(READS_TOPIC) and not isnan(value)
    ]
    return sum(known) if len(known) == PARTITION_COUNT else None


class _Quarters:
    """The messages of one quarter-hour after the other, each with its time; some of them made before."""

    def __init__(self, load: Load, made: int) -> None:
        self._load, self._others = load, topic_loads(load)
        self._made = deque(self._next() for _ in range(max(made, 1)))

    async def __aiter__(self) -> AsyncIterator[Quarter]:
        while True:
            coming = (
                None
                if len(self._made) > 1
                else asyncio.ensure_future(asyncio.to_thread(self._next))
            )
            yield self._made.popleft()
            if coming:
                self._made.append(await coming)

    def _next(self) -> Quarter:
        return FIRST_MIDNIGHT + self._load.next * SLOT_SECONDS, list(
            messages(self._load, self._others)
        )


async def _feed(
    settings: Settings, rate: float, quarters: _Quarters, path: Path
) -> None:
    """Sends for ever, or until it is cancelled."""
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    started, count = time.monotonic(), 0

    try:
        with path.open("wb") as log:
            async for at, quarter in quarters:
                for topic, (key, value, content_type) in quarter:
                    if (
                        early := started + count * AREA_METERS / rate - time.monotonic()
                    ) > 0.001:
                        await asyncio.sleep(early)
                    if topic == READS_TOPIC:
                        log.write(
                            np.array(
                                (int(key[1:]), at, time.time()), SENT_DTYPE
                            ).tobytes()
                        )
                        count += 1
                    await producer.send(
                        settings.topic(topic),
                        value,
                        key,
                        partition_of(key, settings.partitions),
                        headers=[("content-type", content_type.encode())],
                    )
    finally:
        await producer.stop()


def main(rate: str, meters: str, slot: str, ahead: str, path: str) -> None:
    """Prints a line when the first messages are made; sends from SIGUSR1 on until it is ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    quarters = _Quarters(
        Load(int(meters), int(slot)), round(float(ahead) * float(rate) / int(meters))
    )
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})

    async def run() -> None:
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, task.cancel if task else int
        )
        await _feed(load(os.environ), float(rate), quarters, Path(path))

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])

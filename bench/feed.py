"""A steady load of all topics at an even pace; the times at which frames of readings are sent are written down.

`python -m bench.feed RATE METERS SLOT SENT` is its process; the environment says where, as it does to a worker.
"""
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from math import isnan
from pathlib import Path
from typing import Self

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from bench.load import AREA, MIDNIGHT, SLOT, Load
from bench.others import beside, messages
from bench.place import CHECKOUT, PARTITIONS, Place, partition_of
from streams.settings import Settings, load
from streams.topics import READS
from tests.workers import Held, Samples

LAG = "meterwatch_lag_records"
SENT = np.dtype([("area", "i4"), ("at", "i8"), ("sent", "f8")])


class Feed:
    """The process, ended with the block; what it has sent can be read then."""

    def __init__(self, place: Place, rate: float, meters: int, slot: int) -> None:
        self.rate, self.path = rate, place.folder / f"sent-{place.name}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.feed", str(rate), str(meters), str(slot), str(self.path)],
            env=os.environ | place.environment, cwd=CHECKOUT,
        )  # fmt: skip
        self.held = Held(self.process, place.share)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends it in good order."""
        self.held.release()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def sent(self) -> NDArray[np.void]:
        """What was sent: the number of the area, the time of the readings, and when."""
        return np.fromfile(self.path, SENT)


def waiting(samples: Samples) -> float | None:
    """The frames of readings that wait for judgement, None while the worker does not hold all partitions."""
    lags = {labels: value for (name, labels), value in samples.items() if name == LAG}
    known = [value for (_, topic), value in lags.items() if topic.endswith(READS) and not isnan(value)]
    return sum(known) if len(known) == PARTITIONS else None


async def feed(settings: Settings, rate: float, load: Load, path: Path) -> None:
    """Sends for ever, or until it is cancelled."""
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    others, started, count = beside(load), time.monotonic(), 0
    try:
        with path.open("wb") as log:
            while True:
                at = MIDNIGHT + load.next * SLOT
                for topic, (key, value, content_type) in messages(load, others):
                    if (early := started + count * AREA / rate - time.monotonic()) > 0.001:
                        await asyncio.sleep(early)
                    if topic == READS:
                        log.write(np.array((int(key[1:]), at, time.time()), SENT).tobytes())
                        count += 1
                    await producer.send(settings.topic(topic), value, key, partition_of(key, settings.partitions),
                                        headers=[("content-type", content_type.encode())])  # fmt: skip
    finally:
        await producer.stop()


def main(rate: str, meters: str, slot: str, path: str) -> None:
    """Sends until it is ended."""

    async def run() -> None:
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel if task else int)
        await feed(load(os.environ), float(rate), Load(int(meters), int(slot)), Path(path))

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])

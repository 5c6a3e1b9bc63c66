"""Where it is measured: a broker of its own, the project's topics, what is produced beforehand, and the worker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from replay.history import Source
from replay.send import send
from schemas.master import Area
from schemas.topics import ALERTS_TOPIC, ALL_TOPICS, CHECKPOINTS_TOPIC, REJECTS_TOPIC
from schemas.wire import Encoded
from streams.settings import Settings, load
from tests.workers import WORKER_COMMAND, Samples, WorkerProcess

PARTITION_COUNT = 8
CHECKOUT_FOLDER = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = (
    300  # seconds until something that should come is given up, on the slowest machine
)
UNLIMITED_MESSAGES = 1 << 30  # messages: as many as fill a batch of each partition
BATCH_BYTES = 512 << 10  # bytes that are produced at once


class Testbed:
    """Topics under a prefix of their own, and a worker's environment there; the topics end with the block."""

    share = 1.0  # of the time that the processes have which are measured here

    def __init__(
        self, brokers: str, folder: Path, name: str, **settings: object
    ) -> None:
        self.folder, self.name, self._worker_count = folder, name, 0
        self.environment = {
            "METERWATCH_BROKERS": brokers,
            "METERWATCH_PREFIX": f"{name}.",
            "METERWATCH_PARTITIONS": str(PARTITION_COUNT),
            "METERWATCH_CLOCK": "stream",
            "METERWATCH_METRICS_PORT": "0",
        } | {f"METERWATCH_{key.upper()}": str(value) for key, value in settings.items()}
        self._command("topics")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run(
            _delete(
                self.settings, [self.settings.topic(topic.name) for topic in ALL_TOPICS]
            )
        )

    @property
    def settings(self) -> Settings:
        """The settings of the worker."""
        return load(self.environment)

    def _command(self, *arguments: str) -> None:
        """Runs one of the project's own commands."""
        subprocess.run(
            [sys.executable, "-m", "streams.cli", *arguments],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            check=True,
            cwd=CHECKOUT_FOLDER,
        )

    def enroll(self, areas: list[Area]) -> None:
        """Fills the registry."""
        send(
            Source("registry", areas, iter(()), 0),
            self.settings.servers,
            prefix=self.settings.prefix,
        )

    def produce(
        self, messages: Iterable[tuple[str, Encoded]], at_once: int = UNLIMITED_MESSAGES
    ) -> None:
        """Puts messages on their topics in order; so many of them may come at the same time."""
        asyncio.run(_produce(self.settings, messages, at_once))

    def renew(self) -> None:
        """Forgets what workers have written, so that the next one begins at the beginning."""
        asyncio.run(
            _delete(
                self.settings,
                [
                    self.settings.topic(name)
                    for name in (CHECKPOINTS_TOPIC, ALERTS_TOPIC, REJECTS_TOPIC)
                ],
            )
        )
        self._command("topics")

    def worker(self, group: str = "") -> WorkerProcess:
        """A worker that starts now; in a group of its own when none is named."""
        self._worker_count += 1
        group = group or f"{self.name}-{self._worker_count}"
        log = self.folder / f"worker-{self.name}-{self._worker_count}.log"
        return WorkerProcess(
            self.environment | {"METERWATCH_GROUP": group},
            log,
            *WORKER_COMMAND,
            share=self.share,
        )


def total(samples: Samples, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for (found, _), value in samples.items() if found == name)


def wait(condition: Callable[[], object], what: str, every: float = 0.1) -> None:
    """Returns once the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"waited {PATIENCE_SECONDS} s until {what}; is the machine busy with other work?"
            )
        time.sleep(every)


def partition_of(key: bytes, partitions: int) -> int:
    """Where a key's messages are, as every Kafka client has it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


async def _produce(
    settings: Settings, messages: Iterable[tuple[str, Encoded]], at_once: int
) -> None:
    """Puts messages on their topics in order, in batches that are filled here: one by one takes ten times as long.

    The broker notes when a batch has come, and workers judge topics in that order: of some messages at once no topic
    is behind another.
    """
    producer = AIOKafkaProducer(
        **settings.client(),
        max_batch_size=BATCH_BYTES,
        max_request_size=4 * BATCH_BYTES,
    )
    await producer.start()
    sent: list[asyncio.Future[Any]] = []
    batches: defaultdict[tuple[str, int], BatchBuilder] = defaultdict(
        producer.create_batch
    )

    async def send(topic: str, partition: int) -> None:
        batch = batches.pop((topic, partition))
        sent.append(
            await producer.send_batch(batch, settings.topic(topic), partition=partition)
        )

    async def flush() -> None:
        for topic, partition in list(batches):
            await send(topic, partition)
        await asyncio.gather(*sent)
        sent.clear()

    try:
        for count, (topic, (key, value, content_type)) in enumerate(messages, 1):
            partition = partition_of(key, settings.partitions)
            record: dict[str, Any] = {
                "key": key,
                "value": value,
                "timestamp": None,
                "headers": [("content-type", content_type.encode())],
            }
            if batches[topic, partition].append(**record) is None:
                await send(topic, partition)
                batches[topic, partition].append(**record)
            if count % at_once == 0:
                await flush()
        await flush()
    finally:
        await producer.stop()


async def _delete(settings: Settings, topics: list[str]) -> None:
    """Deletes topics and returns when they are gone."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.delete_topics(topics)
        while any(  # noqa: ASYNC110
            not topic["error_code"] for topic in await admin.describe_topics(topics)
        ):
            await asyncio.sleep(0.1)
    finally:
        await admin.close()

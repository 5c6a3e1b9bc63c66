"""Where it is measured: a broker of its own, the project's topics, what is produced beforehand, and the worker."""
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from replay.history import Source
from replay.send import send
from schemas.master import Area
from schemas.wire import Encoded
from streams.settings import Settings, load
from streams.topics import ALERTS, CHECKPOINTS, REJECTS, TOPICS
from tests.workers import Samples, WorkerProcess

PARTITIONS = 8
CHECKOUT = Path(__file__).resolve().parents[1]
PATIENCE = 180  # seconds until something that should come is given up
BATCH = 512 << 10  # bytes that are produced at once


class Place:
    """Topics under a prefix of their own, and what a worker there is told; with the block's end they are deleted."""

    def __init__(self, brokers: str, folder: Path, name: str, **settings: object) -> None:
        self.folder, self.name, self.started = folder, name, 0
        self.environment = {
            "METERWATCH_BROKERS": brokers,
            "METERWATCH_PREFIX": f"{name}.",
            "METERWATCH_PARTITIONS": str(PARTITIONS),
            "METERWATCH_CLOCK": "stream",
            "METERWATCH_METRICS_PORT": "0",
        } | {f"METERWATCH_{key.upper()}": str(value) for key, value in settings.items()}
        self.command("topics")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run(delete(self.settings, [self.settings.topic(topic.name) for topic in TOPICS]))

    @property
    def settings(self) -> Settings:
        """The settings of the worker."""
        return load(self.environment)

    def command(self, *arguments: str) -> None:
        """Runs one of the project's own commands."""
        subprocess.run([sys.executable, "-m", "streams.cli", *arguments], env=os.environ | self.environment,
                       stdout=subprocess.DEVNULL, check=True, cwd=CHECKOUT)  # fmt: skip

    def enroll(self, areas: list[Area]) -> None:
        """Fills the registry."""
        send(Source("registry", areas, iter(()), 0), self.settings.servers, prefix=self.settings.prefix)

    def produce(self, topic: str, messages: Iterable[Encoded]) -> int:
        """Puts messages on a topic in order, many at a time; how many."""
        return asyncio.run(produce(self.settings, topic, messages))

    def renew(self) -> None:
        """Forgets what workers have written, so that the next one begins at the beginning."""
        asyncio.run(delete(self.settings, [self.settings.topic(name) for name in (CHECKPOINTS, ALERTS, REJECTS)]))
        self.command("topics")

    def worker(self, group: str = "") -> WorkerProcess:
        """A worker that starts now; in a group of its own when none is named."""
        self.started += 1
        group = group or f"{self.name}-{self.started}"
        log = self.folder / f"worker-{self.name}-{self.started}.log"
        return WorkerProcess(self.environment | {"METERWATCH_GROUP": group}, log)


def total(samples: Samples, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for (found, _), value in samples.items() if found == name)


def wait(condition: Callable[[], object], what: str, every: float = 0.1) -> None:
    """Returns once the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE} s until {what}; is the machine busy with other work?")
        time.sleep(every)


def partition_of(key: bytes, partitions: int) -> int:
    """Where a key's messages are, as every Kafka client has it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


async def produce(settings: Settings, topic: str, messages: Iterable[Encoded]) -> int:
    """Puts messages on a topic in order, in batches that are filled here: one by one takes ten times as long."""
    producer = AIOKafkaProducer(**settings.client(), max_batch_size=BATCH, max_request_size=4 * BATCH)
    await producer.start()
    count, told = 0, []
    batches = {partition: producer.create_batch() for partition in range(settings.partitions)}

    async def send(partition: int) -> None:
        told.append(await producer.send_batch(batches[partition], settings.topic(topic), partition=partition))
        batches[partition] = producer.create_batch()

    try:
        for key, value, content_type in messages:
            partition = partition_of(key, settings.partitions)
            record: dict[str, Any] = {"key": key, "value": value, "timestamp": None,
                                      "headers": [("content-type", content_type.encode())]}  # fmt: skip
            if batches[partition].append(**record) is None:
                await send(partition)
                batches[partition].append(**record)
            count += 1
        for partition in batches:
            await send(partition)
        await asyncio.gather(*told)
    finally:
        await producer.stop()
    return count


async def delete(settings: Settings, topics: list[str]) -> None:
    """Deletes topics and returns when they are gone."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.delete_topics(topics)
        while any(not topic["error_code"] for topic in await admin.describe_topics(topics)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    finally:
        await admin.close()

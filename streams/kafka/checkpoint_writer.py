"""Taking checkpoints: the state of a partition is captured at one moment, and written while judging goes on."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import EventT

from detectors.snapshots import Capture, pack_snapshot
from schemas.topics import CHECKPOINTS_TOPIC, SOURCE_TOPICS
from streams.kafka import checkpoints
from streams.kafka.checkpoints import CheckpointContents, Mark, PartitionProgress
from streams.kafka.deliveries import Deliveries, Producer, refusal_of
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.liveness import Liveness
from streams.kafka.memory import give_back
from streams.kafka.metrics import CHECKPOINT_STAGE, Metrics
from streams.kafka.outbox import Outbox
from streams.kafka.partitions import Partition
from streams.kafka.spans import Spans
from streams.settings import Settings


class CapturedCheckpoint(NamedTuple):
    """The content of a checkpoint, captured at one moment."""

    state: Capture
    offsets: dict[str, int]  # by topic, the next to judge
    begun: dict[str, int]  # by topic, rows from there on that are judged already
    paces: dict[str, float]  # by topic, rows a second of CPU
    agreed: int  # as in the manifest
    events: dict[str, EventT[Any]]  # acknowledged once the checkpoint is written
    marks: dict[str, Mark]  # as in the manifest


class CheckpointWriter:
    """Writes checkpoints, each after all that was published before it."""

    _producer: Producer

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        deliveries: Deliveries,
        engines: EngineThread,
        outbox: Outbox,
        liveness: Liveness,
        spans: Spans,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._deliveries = deliveries
        self._engines = engines
        self._outbox = outbox
        self._liveness = liveness
        self._spans = spans

    async def start(self) -> None:
        """Connects. Raises KafkaError."""
        self._producer = Producer(self._settings, self._deliveries)
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnects. Raises KafkaError."""
        await self._producer.stop()

    async def take(self, partition: Partition) -> None:
        """Takes a checkpoint of a partition that nobody judges meanwhile."""
        async with self.span(partition):
            await self.write(partition, await self.capture(partition))

    def span(self, partition: Partition) -> AbstractAsyncContextManager[None]:
        """The span of a checkpoint, from the wait for the engine until it is written."""
        return self._spans.work("checkpoint", [partition.number])

    async def capture(self, partition: Partition) -> CapturedCheckpoint:
        """The content of a checkpoint as of now."""
        if partition.reconciled:
            partition.agreed = max(
                partition.agreed, self._outbox.alert_offsets.get(partition.number, 0)
            )

        offsets = {topic: partition.judged[topic] for topic in SOURCE_TOPICS}
        begun = {topic: partition.begun.get(topic, 0) for topic in SOURCE_TOPICS}
        state = await self._engines.run("snapshot", partition.engine.capture)
        return CapturedCheckpoint(
            state,
            offsets,
            begun,
            partition.paces.by_topic(),
            partition.agreed,
            dict(partition.last_events),
            dict(partition.marks),
        )

    async def write(self, partition: Partition, captured: CapturedCheckpoint) -> None:
        """Writes a checkpoint after all that was published before it, then acknowledges."""
        began = time.monotonic()
        state = await asyncio.to_thread(pack_snapshot, captured.state)
        await self._outbox.settle(partition.number)
        self._liveness.check_awake()

        contents = CheckpointContents(
            state,
            captured.offsets,
            self._settings.partitions,
            partition.rulebook,
            captured.agreed,
            PartitionProgress(
                captured.begun, captured.paces, captured.marks, partition.epoch
            ),
        )
        tp = TopicPartition(self._settings.topic(CHECKPOINTS_TOPIC), partition.number)
        try:
            written = await checkpoints.write_checkpoint(
                self._producer, tp, contents, partition.written
            )
        except KafkaError as error:
            fatal(
                f"`{tp.topic}` does not take a checkpoint: {refusal_of(error)}",
                ExitCode.BROKERS,
            )

        seconds = time.monotonic() - began
        self._metrics.checkpoint_write.observe(seconds)
        self._metrics.busy(CHECKPOINT_STAGE, seconds)
        partition.note_checkpoint(written, captured.offsets, captured.begun)
        for event in captured.events.values():
            event.ack()
        await asyncio.to_thread(give_back)

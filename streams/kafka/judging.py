"""The judging of records: a step of each partition in turn, with its alerts and rejects published."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NoReturn

from schemas.alert import Alert
from schemas.columns import Readings
from schemas.topics import REGISTRY_TOPIC, TOPIC_KINDS
from schemas.wire import Rejection
from streams.kafka.backlog import Chunk
from streams.kafka.engine_thread import EngineThread
from streams.kafka.holdings import Holdings
from streams.kafka.intake import Intake, rejections_of, split_damage
from streams.kafka.liveness import BEAT_SECONDS, Liveness
from streams.kafka.metrics import PUBLISH_STAGE, Metrics
from streams.kafka.outbox import Outbox, Outgoing
from streams.kafka.partitions import Partition
from streams.kafka.records import Record, traces_of
from streams.kafka.spans import Spans
from streams.settings import Settings

PARTITIONS_AT_ONCE = 2  # partitions that are judged at once


class Judging:
    """Judges the backlog of the partitions held."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        holdings: Holdings,
        engines: EngineThread,
        intake: Intake,
        outbox: Outbox,
        liveness: Liveness,
        spans: Spans,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._holdings = holdings
        self._engines = engines
        self._intake = intake
        self._outbox = outbox
        self._liveness = liveness
        self._spans = spans
        self.arrived = asyncio.Event()  # set when records join a backlog
        self.capacity_freed = asyncio.Event()  # set when records leave one

    async def judge_loop(self) -> NoReturn:
        """Judges a step of each partition in turn, PARTITIONS_AT_ONCE at once to keep the engines' thread busy.

        A call that needs an engine or `partitions` waits for PARTITIONS_AT_ONCE steps at most.
        """
        while True:
            self.arrived.clear()
            busy = False
            numbers = list(self._holdings.partitions)

            for first in range(0, len(numbers), PARTITIONS_AT_ONCE):
                async with self._holdings.engine_lock:
                    moved = await asyncio.gather(
                        *map(self._advance, numbers[first : first + PARTITIONS_AT_ONCE])
                    )
                busy |= any(moved)
                await asyncio.sleep(0)

            if not busy:
                # Looks again after a beat: a partition may have waited long enough for a topic.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.arrived.wait(), BEAT_SECONDS)

    async def _advance(self, number: int) -> bool:
        """Judges a step of a partition; False if nothing waits."""
        partition = self._holdings.partitions.get(number)
        if not partition:
            return False
        in_hand = partition.in_hand
        chunk = in_hand.chunk if in_hand else partition.next_chunk()
        if chunk is None:
            return False

        with self._spans.step(self._settings.topic(chunk.topic), number, chunk):
            if not in_hand:
                await self._begin(partition, chunk)
            await self._step(partition)
        self.capacity_freed.set()
        return True

    async def _begin(self, partition: Partition, chunk: Chunk) -> None:
        """Decodes a chunk of a partition and takes it in hand; master data are enrolled."""
        topic = chunk.topic
        records, damage = split_damage(chunk.records)
        if damage:
            label = topic if topic == REGISTRY_TOPIC else TOPIC_KINDS[topic].kind
            await self._reject(partition, topic, label, damage, rejections_of(damage))
        if topic == REGISTRY_TOPIC:
            await self.enroll(partition, records)
            partition.finish_chunk(chunk, 0)
            return

        kind = TOPIC_KINDS[topic]
        registry = partition.engine.registry
        decoded = await self._engines.run(
            "decode", self._intake.decode, partition.number, registry, kind, records
        )
        partition.begin(chunk, decoded.batch, decoded.accepted)
        if decoded.rejections:
            await self._reject(partition, topic, kind.kind, records, decoded.rejections)

    async def _step(self, partition: Partition) -> None:
        """Judges the next step of a partition's chunk in hand, and publishes alerts and rejects."""
        in_hand = partition.in_hand
        if in_hand is None:
            return
        topic = self._settings.topic(in_hand.chunk.topic)
        records = in_hand.chunk.records

        judged = await self._engines.run("step", partition.judge, in_hand)
        partition.note_judged(in_hand, judged)
        self._metrics.step.observe(judged.seconds)
        self._spans.judged(judged.rows, len(judged.alerts))
        for rows, reason in judged.rejected:
            # Rows of other kinds were rejected when they were decoded.
            if isinstance(rows, Readings):
                await self._outbox.reject_rows(
                    topic, partition.number, records, rows, reason
                )
        await self.publish(
            partition, judged.alerts, in_hand.chunk.oldest_receipt, records
        )

    async def publish(
        self,
        partition: Partition,
        alerts: Sequence[Alert],
        evidence: float | None,
        records: Sequence[Record] = (),
    ) -> None:
        """Publishes alerts of a partition; `evidence` is the receipt time of their records, None for a timer's."""
        if not alerts:
            return
        self._liveness.check_awake()
        if not partition.reconciled:
            partition.published.update(alert.id for alert in alerts)
        began = time.monotonic()
        traces = traces_of(records)
        await self._outbox.publish_alerts(partition.number, alerts, evidence, traces)
        self._metrics.busy(PUBLISH_STAGE, time.monotonic() - began)

    async def publish_scores(
        self, partition: Partition, messages: Sequence[Outgoing]
    ) -> None:
        """Publishes daily scores of a partition."""
        if not messages:
            return
        self._liveness.check_awake()
        await self._outbox.publish_scores(partition.number, messages)
        self._metrics.score_rows.inc(len(messages))

    async def enroll(self, partition: Partition, records: Sequence[Record]) -> None:
        """Enrolls master data in the engine of a partition; publishes rejected records."""
        rejections = await self._engines.run(
            "enroll", self._intake.enroll, partition.number, partition.engine, records
        )
        if rejections:
            await self._reject(
                partition, REGISTRY_TOPIC, REGISTRY_TOPIC, records, rejections
            )

    async def _reject(
        self,
        partition: Partition,
        topic: str,
        kind: str,
        records: Sequence[Record],
        rejections: list[Rejection],
    ) -> None:
        """Counts and publishes rejected records of a partition."""
        for rejection in rejections:
            self._metrics.count_rejected(kind, rejection.reason, rejection.rows)
        await self._outbox.reject_records(
            self._settings.topic(topic), partition.number, records, rejections
        )

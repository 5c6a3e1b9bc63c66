"""The bridge: reads a topic of others, maps its records, looks areas up, and publishes rows to the project's topics.

At least once: offsets are committed when brokers have the rows, and never beyond a record whose rows wait for their
area. What a killed bridge sends again, engines drop as duplicates.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError
from numpy.typing import NDArray

from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.rows import values_by_column
from schemas.columns import Batch
from schemas.topics import ALL_TOPICS, KIND_TOPICS, REJECTS_TOPIC
from schemas.wire import Reason, Rejection, encode
from streams.kafka.answers import BoundedConsumer
from streams.kafka.bridge_metrics import BridgeMetrics
from streams.kafka.deliveries import Producer
from streams.kafka.fetched import install
from streams.kafka.intake import (
    messages_of,
    partition_of,
    rejections_of,
    split_damage,
)
from streams.kafka.mapped_records import RecordMapper
from streams.kafka.outbox import offset_range, producer, reject_message
from streams.kafka.parked_rows import ParkedBatch, ParkedRows
from streams.kafka.readers import FETCH_WAIT_MS, reader, unanswered
from streams.kafka.records import FetchedRange, Record
from streams.kafka.registry_follower import RegistryFollower
from streams.kafka.slices import Table
from streams.kafka.status_server import HEALTH_PATH, READY_PATH, serve
from streams.kafka.topics import TopicError
from streams.settings import Settings

FETCH_MS = 500  # that a fetch waits for records
# Of a partition at once: meters of an area stand in all partitions, and should be read in step.
FETCH_BYTES = 1 << 20
log = logging.getLogger("meterwatch")


async def bridge(settings: Settings, mapping: ColumnMapping) -> None:
    """Bridges until SIGINT or SIGTERM. Raises TopicError, UnansweredError and SchemaRegistryError."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)

    metrics = BridgeMetrics()
    async with reader(settings) as registry_consumer:
        registry = RegistryFollower(settings, registry_consumer)
        await registry.load()
        running = Bridge(settings, mapping, registry, metrics)
        try:
            if settings.metrics:
                _serve(settings, metrics, running)
            await running.start()
            known = len(registry.lookup)
            log.info("bridges `%s` with %d meters known", mapping.topic, known)
            while not stopped.is_set():
                await running.step()
        finally:
            await running.stop()


def _serve(settings: Settings, metrics: BridgeMetrics, running: Bridge) -> None:
    """Serves metrics and health, and logs where. Raises OSError."""
    host = settings.metrics_host
    probes = {HEALTH_PATH: running.fault, READY_PATH: running.fault}
    port = serve(metrics.registry, probes, host, settings.metrics_port)
    log.info("metrics on http://%s:%d/metrics", host, port)


class Bridge:
    """A consumer of the mapped topic and a producer of rows."""

    def __init__(
        self,
        settings: Settings,
        mapping: ColumnMapping,
        registry: RegistryFollower,
        metrics: BridgeMetrics,
    ) -> None:
        self._settings = settings
        self._mapping = mapping
        self._registry = registry
        self._metrics = metrics
        own_topics = {settings.topic(topic.name) for topic in ALL_TOPICS}
        if mapping.topic in own_topics:
            raise TopicError(
                f"`{mapping.topic}` is a topic of this project: nothing is bridged to itself"
            )
        self._mapper = RecordMapper(mapping, settings.schema_registry_authorization)
        self._parked = ParkedRows()
        self._topic = settings.topic(KIND_TOPICS[mapping.kind])
        self._read_to: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._pending: list[asyncio.Future[Any]] = []
        self._stepped_at = time.monotonic()  # when a step last ended
        # Held while records are on their way, so that partitions change between two steps.
        self._step = asyncio.Lock()
        self._producer: Producer = producer(settings)
        self._consumer = _consumer(settings, mapping.topic)

    async def start(self) -> None:
        """Connects. Raises TopicError if there is no such topic, and UnansweredError."""
        try:
            await self._producer.start()
            await self._consumer.start()
            # Whole fetches, with the damage in them.
            self._consumer._fetcher._records = Table()  # noqa: SLF001 - no other way in
            topics = await self._consumer.topics()
        except KafkaError as error:
            raise await unanswered(self._settings, error) from None
        if self._mapping.topic not in topics:
            raise TopicError(f"there is no topic `{self._mapping.topic}`")
        self._consumer.subscribe(
            [self._mapping.topic], listener=_Revoked(self._step, self._forget)
        )

    async def stop(self) -> None:
        """Disconnects; what was not committed is read again."""
        await self._consumer.stop()
        await self._producer.stop()

    async def step(self) -> None:
        """Publishes a fetch of records and the rows whose area is known by now, then commits."""
        fetched = await self._consumer.getmany(timeout_ms=FETCH_MS)
        async with self._step:
            batches: list[Batch] = []
            if await self._registry.follow():
                batches += self._parked.released(self._registry.lookup)
            for tp, spans in fetched.items():
                if tp in self._consumer.assignment():
                    for span in spans:
                        batches += await self._rows(tp, span)

            await self._publish(batches)
            await self._give_up()
            await self._settle()
            await self._commit()
        self._stepped_at = time.monotonic()
        self._observe()

    def fault(self) -> str:
        """Why nothing goes on, "" if all is well; brokers away are a reason too."""
        silence = time.monotonic() - self._stepped_at
        if silence > self._settings.stall_seconds:
            return f"no step has ended for {silence:.0f} s"
        return ""

    async def _rows(self, tp: TopicPartition, span: FetchedRange) -> list[Batch]:
        """The rows of a fetch whose area is known, as a batch if there are any; the other rows wait."""
        records, damage = split_damage(span.records)
        await self._reject(tp, damage, rejections_of(damage))
        self._metrics.records.inc(len(span.records))
        self._read_to[tp] = span.ends
        if not records:
            return []

        messages = messages_of(records)
        mapped = await asyncio.to_thread(self._mapper.mapped, messages)
        await self._reject(tp, records, mapped.rejections)
        if mapped.batch is None or not self._mapping.area_from_registry:
            return [mapped.batch] if mapped.batch else []
        return [self._located(tp, records, mapped.batch, mapped.records)]

    def _located(
        self,
        tp: TopicPartition,
        records: Sequence[Record],
        batch: Batch,
        record_of: NDArray[np.intp],
    ) -> Batch:
        """The rows whose area is known; the others are parked."""
        located, is_known = self._registry.lookup.located(batch)
        if is_known.all():
            return located
        waiting = ~is_known
        rows, now = batch.select(waiting), time.monotonic()
        self._parked.park(ParkedBatch.of(tp, rows, records, record_of[waiting], now))
        return located.select(is_known)

    async def _publish(self, batches: Sequence[Batch]) -> None:
        """Sends rows to the partitions of their areas."""
        if not batches:
            return
        rows = joined_by_time(batches)
        for key, value, content_type in encode(rows, "packed"):
            number = partition_of(key.decode(), self._settings.partitions)
            headers = [("content-type", content_type.encode())]
            sent = await self._producer.send(
                self._topic, value, key, number, headers=headers
            )
            self._pending.append(sent)
        self._metrics.rows.inc(len(rows))
        for column, count in values_by_column(self._mapping, rows).items():
            self._metrics.values.labels(column).inc(count)

    async def _reject(
        self,
        tp: TopicPartition,
        records: Sequence[Record],
        rejections: Sequence[Rejection],
    ) -> None:
        """Publishes rejected records with reason and place."""
        for rejection in rejections:
            record = records[rejection.index]
            key, value, headers = reject_message(
                record.key,
                rejection.value,
                rejection.reason,
                rejection.detail,
                tp.topic,
                tp.partition,
                offset_range(record),
            )

            topic = self._settings.topic(REJECTS_TOPIC)
            sent = await self._producer.send(topic, value, key, 0, headers=headers)
            self._pending.append(sent)
            self._metrics.rejected.labels(rejection.reason.value).inc(rejection.rows)

    async def _give_up(self) -> None:
        """Rejects rows that waited too long, or are too many."""
        for parked, why in self._parked.given_up(time.monotonic()):
            rejections = list(_no_area(parked, why))
            await self._reject(parked.tp, parked.records, rejections)

    async def _settle(self) -> None:
        """Returns when the brokers have all that was sent."""
        pending, self._pending = self._pending, []
        if pending:
            await asyncio.gather(*pending)

    async def _commit(self) -> None:
        """Commits up to the first record whose rows wait, in partitions that have moved."""
        offsets: dict[TopicPartition, int] = {}
        for tp, read_to in self._read_to.items():
            waiting = self._parked.first_offset(tp)
            offset = read_to if waiting is None else waiting
            if self._committed.get(tp) != offset:
                offsets[tp] = offset
        if not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except CommitFailedError:
            return  # another bridge has the partitions and reads them again
        self._committed |= offsets
        self._metrics.committed.set_to_current_time()

    def _forget(self, revoked: Sequence[TopicPartition]) -> None:
        """Lets partitions go."""
        self._parked.forget(revoked)
        for tp in revoked:
            self._read_to.pop(tp, None)
            self._committed.pop(tp, None)

    def _observe(self) -> None:
        """Sets the gauges."""
        self._metrics.parked.set(len(self._parked))
        self._metrics.parked_seconds.set(self._parked.oldest(time.monotonic()))
        self._metrics.known.set(len(self._registry.lookup))
        ends = [
            (self._consumer.highwater(tp) or offset) - offset
            for tp, offset in self._read_to.items()
        ]
        self._metrics.lag.set(sum(ends))


class _Revoked(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Waits for the end of a step before partitions are let go."""

    def __init__(self, step: asyncio.Lock, forget: Any) -> None:
        self._step = step
        self._forget = forget

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Lets partitions go between two steps."""
        async with self._step:
            self._forget(revoked)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Reads on from the committed offsets, as the consumer does by itself."""


def _consumer(settings: Settings, topic: str) -> BoundedConsumer:
    """A consumer of the group of a topic's bridges."""
    install()
    return BoundedConsumer(
        **settings.client(),
        group_id=f"{settings.group}.bridge.{topic}",
        group_instance_id=settings.instance or None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        session_timeout_ms=int(settings.session_seconds * 1000),
        isolation_level="read_committed",
    )


def joined_by_time(batches: Sequence[Batch]) -> Batch:
    """All rows in the order of time: each partition of the topic may hold days, and its rows come in one batch."""
    rows = batches[0].join(batches)
    return rows.select(np.argsort(rows.at, kind="stable"))


def _no_area(parked: ParkedBatch, why: str) -> Iterator[Rejection]:
    """The rejections of parked rows, one for each record."""
    rows = np.bincount(parked.record_of, minlength=len(parked.records))
    firsts = np.unique(parked.record_of, return_index=True)[1]
    for index, (record, first) in enumerate(zip(parked.records, firsts, strict=True)):
        subject = parked.batch.names[parked.batch.subject[first]]
        detail = f"{subject}: {why}"
        yield Rejection(
            record.value or b"", Reason.NO_AREA, detail, index, int(rows[index])
        )

"""The worker's output, alerts and rejects, published in batches."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from schemas.alert import Alert
from schemas.columns import Readings
from schemas.topics import (
    ALERTS_TOPIC,
    LARGEST_REJECT,
    REJECTS_TOPIC,
    SCORES_TOPIC,
)
from schemas.wire import Rejection, encode, encode_alert
from streams.kafka.deliveries import Deliveries, Producer, refusal_of
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.metrics import Metrics
from streams.kafka.records import TRACE_HEADER, Damage, Record
from streams.kafka.spans import Spans
from streams.settings import Settings

Headers = list[tuple[str, bytes]]
Outgoing = tuple[bytes | None, bytes, Headers]


def producer(settings: Settings) -> Producer:
    """A producer for a command or a test, without a watch over its deliveries."""
    return Producer(settings, Deliveries(), is_watched=False)


class Outbox:
    """Publishes for each partition, and knows which records are not on the broker yet."""

    _producer: Producer

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        deliveries: Deliveries,
        spans: Spans,
    ) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._alerts = settings.topic(ALERTS_TOPIC)
        self._scores = settings.topic(SCORES_TOPIC)
        self._rejects = settings.topic(REJECTS_TOPIC)
        self._metrics = metrics
        self._spans = spans
        self._pending: defaultdict[int, set[asyncio.Future[Any]]] = defaultdict(set)
        # By partition, the offset of the last batch of its alerts on their topic.
        self.alert_offsets: dict[int, int] = {}

    async def start(self) -> None:
        """Connects. Raises KafkaError."""
        self._producer = Producer(self._settings, self._deliveries)
        await self._producer.start()

    async def stop(self) -> None:
        """Sends what is left and closes."""
        await self._producer.stop()

    async def publish_alerts(
        self,
        number: int,
        alerts: Sequence[Alert],
        evidence: float | None,
        traces: Mapping[str, bytes],
    ) -> None:
        """Publishes alerts of a partition, in order; `evidence` is the receipt time of their records, if any.

        An alert has the trace of its area's record. Alerts go to the partition of the same number on their topic:
        whatever the clients' hash, all messages of an alert are in one partition.
        """
        sending = self._spans.sending(self._alerts, number, alerts, traces)
        messages = (_alert_message(alert, sending.traces) for alert in alerts)
        batches = await self._publish(self._alerts, number, messages, number)
        for sent, _ in batches[-1:]:
            sent.add_done_callback(sending.arrived)
        for sent, count in batches:
            if evidence is not None:
                sent.add_done_callback(partial(self._on_topic, evidence, count))

    async def publish_scores(self, number: int, messages: Iterable[Outgoing]) -> None:
        """Publishes daily scores of a partition, to the partition of the same number."""
        await self._publish(self._scores, number, messages, number)

    async def reject_records(
        self,
        topic: str,
        number: int,
        records: Sequence[Record],
        rejections: Iterable[Rejection],
    ) -> None:
        """Publishes unreadable records as they came, up to LARGEST_REJECT, with reason and place."""

        def message(rejection: Rejection) -> Outgoing:
            record = records[rejection.index]
            return reject_message(
                record.key,
                rejection.value,
                rejection.reason,
                rejection.detail,
                topic,
                number,
                offset_range(record),
            )

        messages = map(message, rejections)
        await self._publish(self._rejects, 0, messages, number)

    async def reject_rows(
        self,
        topic: str,
        number: int,
        records: Sequence[Record],
        rows: Readings,
        reason: str,
    ) -> None:
        """Publishes readings that the engine rejected, with the reason and the records they came in."""
        offsets = b"%d-%d" % (records[0].offset, records[-1].offset)
        messages = (
            reject_message(
                key, value, reason, "rejected by the engine", topic, number, offsets
            )
            for key, value, _ in encode(rows, "array")
        )
        await self._publish(self._rejects, 0, messages, number)

    async def settle(self, number: int) -> None:
        """Returns when all that was published for a partition so far is on the broker."""
        if pending := self._pending[number]:
            await asyncio.wait(set(pending))

    async def _publish(
        self, topic: str, partition: int, messages: Iterable[Outgoing], number: int
    ) -> list[tuple[asyncio.Future[Any], int]]:
        """Sends messages in batches; the future and the number of messages of each batch."""
        batches = []
        batch = self._producer.create_batch()
        for key, value, headers in messages:
            added = batch.append(key=key, value=value, timestamp=None, headers=headers)
            if added is None:  # the batch is full
                batches.append(batch)
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        if batch.record_count():
            batches.append(batch)

        sent = []
        for full in batches:
            count = full.record_count()
            future = await self._producer.send_batch(full, topic, partition=partition)
            self._pending[number].add(future)
            future.add_done_callback(partial(self._sent, topic, number))
            sent.append((future, count))
        return sent

    def _sent(self, topic: str, number: int, future: asyncio.Future[Any]) -> None:
        """Notes a delivery, and the offset of alerts; ends the worker if it failed."""
        self._pending[number].discard(future)
        if not future.cancelled() and (error := future.exception()):
            fatal(
                f"`{topic}` does not take what is published: {refusal_of(error)}",
                ExitCode.BROKERS,
            )
        elif topic == self._alerts and not future.cancelled():
            self.alert_offsets[number] = future.result().offset

    def _on_topic(
        self, evidence: float, count: int, future: asyncio.Future[Any]
    ) -> None:
        """Observes the delay of alerts that are on their topic."""
        if not future.cancelled() and future.exception() is None:
            seconds = max(0.0, time.time() - evidence)
            for _ in range(count):
                self._metrics.alert.observe(seconds)


def offset_range(record: Record) -> bytes:
    """The offset of a record, or the first and the last offset of damage."""
    last = record.last if isinstance(record, Damage) else record.offset
    if last == record.offset:
        return b"%d" % record.offset
    return b"%d-%d" % (record.offset, last)


def _alert_message(alert: Alert, traces: Mapping[str, bytes]) -> Outgoing:
    """A message for `alerts`, with the trace of its area if there is one."""
    key, value, headers = encode_alert(alert)
    if trace := traces.get(alert.area):
        headers.append((TRACE_HEADER, trace))
    return key, value, headers


def reject_message(
    key: bytes | None,
    value: bytes,
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: bytes,
) -> Outgoing:
    """A message for `rejects`; key and value are cut, for a decompressed value may be too large for the topic."""
    headers = [
        ("bytes", b"%d" % len(value)),
        ("reason", reason.encode()),
        ("detail", detail.encode()),
        ("topic", topic.encode()),
        ("partition", b"%d" % partition),
        ("offset", offset),
    ]
    return key and key[:LARGEST_REJECT], value[:LARGEST_REJECT], headers

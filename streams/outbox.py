"""What the worker publishes, alerts and rejects, in batches."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from schemas.alert import Alert
from schemas.columns import Readings
from schemas.wire import Rejection, encode_alert, encode_readings
from streams.deliveries import Deliveries, Producer
from streams.fetched import Damage, Record
from streams.metrics import Metrics
from streams.settings import Settings
from streams.topics import ALERTS_TOPIC, LARGEST_REJECT, REJECTS_TOPIC

Headers = list[tuple[str, bytes]]
Outgoing = tuple[bytes | None, bytes, Headers]


def producer(settings: Settings) -> Producer:
    """A producer for a command or a test, whose deliveries nobody watches."""
    return Producer(settings, Deliveries())


class Outbox:
    """Publishes for each part, and knows what of it is not on the broker yet."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        deliveries: Deliveries,
        failed: Callable[[str], None],
    ) -> None:
        self._alerts, self._rejects = (
            settings.topic(ALERTS_TOPIC),
            settings.topic(REJECTS_TOPIC),
        )
        self._metrics = metrics
        self._failed = failed
        self._pending: defaultdict[int, set[asyncio.Future[Any]]] = defaultdict(set)
        # by part, where the last batch of its alerts stands on their topic
        self.alert_offsets: dict[int, int] = {}
        self._producer = Producer(settings, deliveries)

    async def start(self) -> None:
        """Connects. Raises KafkaError."""
        await self._producer.start()

    async def stop(self) -> None:
        """Sends what is left and closes."""
        await self._producer.stop()

    async def publish_alerts(
        self, number: int, alerts: Sequence[Alert], evidence: float | None
    ) -> None:
        """Publishes alerts of a part, in order; evidence is when their records were sent, None for a timer's alerts.

        The partition is the part's number: whatever the clients' hash, all messages of an alert are in one.
        """
        for sent, count in await self._publish(
            self._alerts, number, map(encode_alert, alerts), number
        ):
            if evidence is not None:
                sent.add_done_callback(partial(self._on_topic, evidence, count))

    async def reject_records(
        self,
        topic: str,
        number: int,
        records: Sequence[Record],
        rejections: Iterable[Rejection],
    ) -> None:
        """Publishes what could not be read, as it came up to LARGEST_REJECT, with the reason and where it stands."""
        messages = (
            _reject_message(
                record.key,
                r.value,
                r.reason,
                r.detail,
                topic,
                number,
                _offset_range(record),
            )
            for r in rejections
            for record in [records[r.index]]
        )
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
            _reject_message(
                key, value, reason, "rejected by the engine", topic, number, offsets
            )
            for key, value, _ in encode_readings(rows, "array")
        )
        await self._publish(self._rejects, 0, messages, number)

    async def settle(self, number: int) -> None:
        """Returns when all that was published for a part so far is on the broker."""
        if pending := self._pending[number]:
            await asyncio.wait(set(pending))

    async def _publish(
        self, topic: str, partition: int, messages: Iterable[Outgoing], number: int
    ) -> list[tuple[asyncio.Future[Any], int]]:
        batches = []
        batch = self._producer.create_batch()
        for key, value, headers in messages:
            if (
                batch.append(key=key, value=value, timestamp=None, headers=headers)
                is None
            ):
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
        self._pending[number].discard(future)
        if not future.cancelled() and (error := future.exception()):
            self._failed(f"`{topic}` does not take what was told: {error!r}")
        elif topic == self._alerts and not future.cancelled():
            self.alert_offsets[number] = future.result().offset

    def _on_topic(
        self, evidence: float, count: int, future: asyncio.Future[Any]
    ) -> None:
        if not future.cancelled() and future.exception() is None:
            seconds = max(0.0, time.time() - evidence)
            for _ in range(count):
                self._metrics.alert.observe(seconds)


def _offset_range(record: Record) -> bytes:
    last = record.last if isinstance(record, Damage) else record.offset
    return (
        b"%d" % record.offset
        if last == record.offset
        else b"%d-%d" % (record.offset, last)
    )


def _reject_message(
    key: bytes | None,
    value: bytes,
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: bytes,
) -> Outgoing:
    """The first of a value, for what came compressed may be more than a topic takes, and all that is known of it."""
    headers = [
        ("bytes", b"%d" % len(value)),
        ("reason", reason.encode()),
        ("detail", detail.encode()),
        ("topic", topic.encode()),
        ("partition", b"%d" % partition),
        ("offset", offset),
    ]
    return key and key[:LARGEST_REJECT], value[:LARGEST_REJECT], headers

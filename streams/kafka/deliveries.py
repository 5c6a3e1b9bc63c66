"""The records on their way to the brokers, and for how long the brokers have taken none.

aiokafka never gives up a batch of an idempotent producer, so its own timeouts bound nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaTimeoutError,
    UnknownTopicOrPartitionError,
)

from schemas.topics import LARGEST_RECORD
from streams.kafka.answers import answered
from streams.settings import Settings

BATCH_BYTES = 256 << 10
# Seconds that a beat adds at most: brokers take records only while this process runs.
BEAT_SECONDS = 2.0
REQUEST_SECONDS = 30  # after which a request goes over another connection
# Seconds of a batch whose partition has no leader; the worker ends long before.
EXPIRY_SECONDS = 86_400


def refusal_of(error: BaseException) -> str:
    """Why brokers refused a record, in a few words."""
    if isinstance(error, InvalidTimestampError):
        return "the clock of this machine is far ahead of the brokers' (InvalidTimestampError)"
    return repr(error)


class Deliveries:
    """The futures of records that producers are sending, oldest first."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Future[Any], float] = {}
        self._clock = 0.0  # seconds that this process has been awake
        self._last_beat = time.monotonic()
        self._delivered = 0.0  # when the last record arrived

    def track(self, future: asyncio.Future[Any]) -> None:
        """Tracks a future until it is done."""
        self._since[future] = self._clock
        future.add_done_callback(self._arrived)

    def beat(self) -> None:
        """Lets time pass; called about every second."""
        now = time.monotonic()
        self._clock += min(now - self._last_beat, BEAT_SECONDS)
        self._last_beat = now

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest record has been on its way, 0 without one."""
        return self._clock - next(iter(self._since.values()), self._clock)

    @property
    def silence(self) -> float:
        """Seconds for which a record has been on its way and none has arrived."""
        return min(self.oldest, self._clock - self._delivered)

    def _arrived(self, future: asyncio.Future[Any]) -> None:
        del self._since[future]
        if not future.cancelled() and future.exception() is None:
            self._delivered = self._clock


class Producer(AIOKafkaProducer):  # type: ignore[misc] # aiokafka has no types
    """A producer that never loses, doubles or swaps records, takes large ones, and never gives up what it has taken.

    It waits for a broker that knows a topic if somebody watches the deliveries, else for REQUEST_SECONDS.
    """

    def __init__(
        self, settings: Settings, deliveries: Deliveries, *, is_watched: bool = True
    ) -> None:
        super().__init__(
            **settings.client(),
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=LARGEST_RECORD + BATCH_BYTES,
            request_timeout_ms=REQUEST_SECONDS * 1000,
        )
        self._message_accumulator._batch_ttl = EXPIRY_SECONDS  # noqa: SLF001 - no other way in
        self._deliveries = deliveries
        self._is_watched = is_watched

    async def start(self) -> None:
        """Connects. Raises KafkaError, also if no broker answers in time."""
        await answered(super().start())

    async def stop(self) -> None:
        """Sends what is left and closes. Raises KafkaTimeoutError if no broker takes it."""
        await answered(super().stop())

    async def send(
        self, topic: str, *record: Any, **options: Any
    ) -> asyncio.Future[Any]:
        """Sends as aiokafka does; waits while the buffer is full."""
        return await self._deliver(
            topic, partial(super().send, topic, *record, **options)
        )

    async def send_batch(
        self, batch: Any, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """Sends as aiokafka does; waits while the buffer is full."""
        return await self._deliver(
            topic, partial(super().send_batch, batch, topic, partition=partition)
        )

    async def _deliver(
        self, topic: str, send: Callable[[], Awaitable[asyncio.Future[Any]]]
    ) -> asyncio.Future[Any]:
        """Sends until the buffer takes it; the wait counts as a delivery on its way."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deliveries.track(waiting)
        try:
            while True:
                try:
                    sent = await send()
                except KafkaTimeoutError:
                    continue
                except UnknownTopicOrPartitionError:
                    # So aiokafka says too if no broker answers the first time that it asks for a topic.
                    has_answer = await self.client.force_metadata_update()
                    if has_answer and not self._knows(topic):
                        raise
                    if not has_answer and not self._is_watched:
                        raise KafkaTimeoutError(
                            f"no broker has answered for {REQUEST_SECONDS} s"
                        ) from None
                    continue
                break
        finally:
            waiting.cancel()
        self._deliveries.track(sent)
        return sent

    def _knows(self, topic: str) -> bool:
        """True if brokers have answered that there is such a topic."""
        return self.client.cluster.partitions_for_topic(topic) is not None

"""Waiting for brokers by this process's own clock: the clients' timeouts fail when a broker stops answering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

NO_LEADER = -1  # in a broker's description of a partition
ANSWER_SECONDS = 15.0  # that brokers have for an answer
STOP_SECONDS = 0.5  # that a client has to stop before it is cancelled again

Answer = TypeVar("Answer")


async def answered(
    request: Awaitable[Answer], seconds: float = ANSWER_SECONDS
) -> Answer:
    """The answer to a request. Raises KafkaTimeoutError if it does not come in time."""
    try:
        return await asyncio.wait_for(request, seconds)
    except TimeoutError:
        raise KafkaTimeoutError(f"no broker has answered for {seconds:g} s") from None


def without_leader(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> str:
    """The partitions that no broker leads, as far as a consumer knows; "" if there are none."""
    cluster = consumer._client.cluster  # noqa: SLF001 - no other way in
    found = [
        f"`{tp.topic}`, partition {tp.partition}"
        for tp in sorted(partitions)
        if cluster.leader_for_partition(tp) == NO_LEADER
    ]
    more = f" and {len(found) - 1} others" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


class BoundedConsumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
    """aiokafka's consumer with a time limit for every request. Each raises KafkaTimeoutError.

    `getmany` has its own timeout; `getone` and a loop over records wait for a record, not for an answer.
    """

    async def start(self) -> None:
        """Connects."""
        await answered(super().start())

    async def stop(self) -> None:
        """Disconnects, in any case.

        aiokafka's fetcher loses a cancellation that comes when its partitions change, and would be awaited in vain.
        """
        stopping = asyncio.ensure_future(super().stop())
        for _ in range(round(ANSWER_SECONDS / STOP_SECONDS)):
            if (await asyncio.wait({stopping}, timeout=STOP_SECONDS))[0]:
                stopping.result()
                return
            self._fetcher._fetch_task.cancel()  # noqa: SLF001 - no other way in
        stopping.cancel()

    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """The first offsets of partitions."""
        return await self._of_all(partitions, super().beginning_offsets(partitions))

    async def end_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """The offsets at which partitions end."""
        return await self._of_all(partitions, super().end_offsets(partitions))

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record."""
        return await answered(super().position(partition))

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Seeks to the earliest records."""
        await answered(super().seek_to_beginning(*partitions))

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Seeks to the ends, so that only new records are read."""
        await answered(super().seek_to_end(*partitions))

    async def _of_all(
        self, partitions: Sequence[TopicPartition], request: Awaitable[Answer]
    ) -> Answer:
        """The answer to a request about partitions; a timeout names those without a leader."""
        self._find(partitions)
        try:
            return await answered(request)
        except KafkaTimeoutError:
            if leaderless := without_leader(self, partitions):
                raise KafkaTimeoutError(f"no broker leads {leaderless}") from None
            raise

    def _find(self, partitions: Sequence[TopicPartition]) -> None:
        """Has the leaders of all partitions found in one request: aiokafka takes a tenth of a second for each topic."""
        for topic in {tp.topic for tp in partitions}:
            self._client.add_topic(topic)

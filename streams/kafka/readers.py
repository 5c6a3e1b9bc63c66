"""Consumers outside the group, and reading partitions to their present end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from streams.kafka.answers import ANSWER_SECONDS, BoundedConsumer
from streams.kafka.fetched import install
from streams.kafka.refusals import refusal, unreachable
from streams.settings import Settings

FETCH_BYTES = 8 << 20  # bytes of a partition at once
FETCH_SECONDS = 0.5  # that a fetch waits for records
FETCH_WAIT_MS = (
    500  # that a broker holds back a request without records, and the next one
)
Isolation = Literal["read_committed", "read_uncommitted"]


class UnansweredError(ConnectionError):
    """The brokers do not answer, or refuse this client; says at which addresses."""


async def unanswered(settings: Settings, error: KafkaError) -> UnansweredError:
    """The error of brokers that did not answer, with the reason as far as it can be found out."""
    fault = await unreachable(settings)
    if not fault and (refused := await refusal(settings)):
        return UnansweredError(
            f"the broker at {settings.servers[0]} refuses this client: {refused}"
        )
    return UnansweredError(
        f"no answer from the brokers at {settings.brokers}: {fault or error}"
    )


@asynccontextmanager
async def reader(
    settings: Settings,
    *,
    isolation: Isolation = "read_committed",
    fetch: int = FETCH_BYTES,
    wait_ms: int = FETCH_WAIT_MS,
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that belongs to no group and commits nothing. Raises UnansweredError.

    Its records and `end_offsets` stop at the first open transaction; with read_uncommitted, at the last record.
    """
    install()
    consumer = BoundedConsumer(
        **settings.client(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=fetch,
        fetch_max_wait_ms=wait_ms,
        isolation_level=isolation,
    )

    try:
        try:
            await consumer.start()
        except KafkaError as error:
            raise await unanswered(settings, error) from None
        # If it is stopped before its first task ran, aiokafka's consumer cancels its caller.
        await asyncio.sleep(0)
        yield consumer
    finally:
        await consumer.stop()


async def read_to_end(
    consumer: AIOKafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int] | None = None,
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """The records of partitions from `starts` to `ends`, or to their present ends, in order of each partition.

    Raises KafkaTimeoutError if nothing comes for ANSWER_SECONDS.
    """
    ends = await consumer.end_offsets(list(starts)) if ends is None else ends
    unread = {tp: end for tp, end in ends.items() if starts[tp] < end}
    if not unread:
        return
    consumer.assign(list(unread))
    for tp in unread:
        consumer.seek(tp, starts[tp])

    silence = 0.0
    while unread:
        fetched = await consumer.getmany(*unread, timeout_ms=int(FETCH_SECONDS * 1000))
        silence = 0.0 if fetched else silence + FETCH_SECONDS
        if silence > ANSWER_SECONDS:
            raise KafkaTimeoutError(
                f"no broker has sent what is left of {sorted(unread)} for {silence:g} s"
            )
        for tp, records in fetched.items():
            if within := [record for record in records if record.offset < ends[tp]]:
                yield tp, within
        for tp in list(unread):
            if await consumer.position(tp) >= ends[tp]:
                del unread[tp]
                consumer.pause(tp)

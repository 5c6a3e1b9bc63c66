"""Reading partitions from an offset to their present end, outside the consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from streams.answers import ANSWER_SECONDS, Consumer
from streams.settings import Settings

FETCH = 8 << 20  # bytes of a partition at once
FETCH_SECONDS = 0.5  # that a fetch waits for records


class UnansweredError(Exception):
    """Brokers that do not answer; says where they were looked for."""

    def __init__(self, settings: Settings, error: KafkaError) -> None:
        refused = ", or they refuse `sasl_username` and `sasl_password`" if settings.sasl else ""
        super().__init__(f"no answer from the brokers at {settings.brokers}{refused}: {error}")


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that belongs to no group and commits nothing. Raises UnansweredError."""
    consumer = Consumer(
        **settings.client(), enable_auto_commit=False, auto_offset_reset="earliest", max_partition_fetch_bytes=FETCH
    )
    try:
        try:
            await consumer.start()
        except KafkaError as error:
            raise UnansweredError(settings, error) from None
        await asyncio.sleep(0)  # stopped before its first task ran, aiokafka's consumer cancels whoever stops it
        yield consumer
    finally:
        await consumer.stop()


async def read_to_end(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """What stands in partitions from their starts to these ends, or those they have now, in order of each partition.

    Raises KafkaTimeoutError when nothing comes for ANSWER_SECONDS.
    """
    ends = await consumer.end_offsets(list(starts)) if ends is None else ends
    open_ = {tp: end for tp, end in ends.items() if starts[tp] < end}
    consumer.assign(list(open_))
    for tp in open_:
        consumer.seek(tp, starts[tp])
    silence = 0.0
    while open_:
        fetched = await consumer.getmany(*open_, timeout_ms=int(FETCH_SECONDS * 1000))
        silence = 0.0 if fetched else silence + FETCH_SECONDS
        if silence > ANSWER_SECONDS:
            raise KafkaTimeoutError(f"no broker has sent what is left of {sorted(open_)} for {silence:g} s")
        for tp, records in fetched.items():
            if within := [record for record in records if record.offset < ends[tp]]:
                yield tp, within
        for tp in list(open_):
            if await consumer.position(tp) >= ends[tp]:
                del open_[tp]
                consumer.pause(tp)

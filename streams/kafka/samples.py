"""The newest records of a topic, to look at."""

from __future__ import annotations

from aiokafka import TopicPartition

from schemas.master import Area
from schemas.wire import Message
from streams.kafka.answers import answered
from streams.kafka.intake import messages_of
from streams.kafka.readers import read_to_end, reader
from streams.kafka.registry_topic import held_areas
from streams.kafka.topics import TopicError
from streams.settings import Settings

SAMPLE_BYTES = 64 << 20  # of records, after which no more are read


async def sampled(settings: Settings, topic: str, count: int) -> list[Message]:
    """About so many of the newest records, of large ones fewer.

    Raises TopicError if there is no such topic or no record in it, and UnansweredError.
    """
    async with reader(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicError(f"there is no file and no topic `{topic}`")
        await answered(consumer._client.add_topic(topic))  # noqa: SLF001 - no other way in
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        tps = [TopicPartition(topic, number) for number in numbers]
        firsts = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)

        share = -(-count // max(len(tps), 1))
        starts = {tp: max(firsts[tp], ends[tp] - share) for tp in tps}
        messages: list[Message] = []
        size = 0
        async for _, records in read_to_end(consumer, starts, ends):
            messages += messages_of(records)
            size += sum(len(record.value or b"") for record in records)
            if size > SAMPLE_BYTES:
                break
    if not messages:
        raise TopicError(f"the topic `{topic}` has no records yet")
    return messages[:count]


async def registry_areas(settings: Settings) -> list[Area]:
    """The areas of the registry, none if it has no topic yet. Raises UnansweredError."""
    try:
        areas, _ = await held_areas(settings)
    except TopicError:
        return []
    return list(areas.values())

"""The newest records of a topic, to look at."""

from __future__ import annotations

from aiokafka import TopicPartition

from replay.mapping.areas import AreaLookup
from schemas.topics import REGISTRY_TOPIC
from schemas.wire import Message
from streams.kafka.answers import answered
from streams.kafka.intake import messages_of
from streams.kafka.readers import read_to_end, reader
from streams.kafka.registry_follower import RegistryFollower
from streams.kafka.topics import TopicError
from streams.settings import Settings


async def sampled(settings: Settings, topic: str, count: int) -> list[Message]:
    """About so many of the newest records. Raises TopicError if there is no such topic, and UnansweredError."""
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
        async for _, records in read_to_end(consumer, starts, ends):
            messages += messages_of(records)
    return messages[:count]


async def registry_lookup(settings: Settings) -> AreaLookup:
    """The areas of meters and customers by the registry's records, if there are any. Raises UnansweredError."""
    async with reader(settings) as consumer:
        registry = RegistryFollower(settings, consumer)
        if settings.topic(REGISTRY_TOPIC) in await consumer.topics():
            await registry.load()
    return registry.lookup

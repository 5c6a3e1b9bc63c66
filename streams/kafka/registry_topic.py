"""The areas on the registry."""

from __future__ import annotations

from aiokafka import TopicPartition

from schemas.master import Area
from schemas.topics import REGISTRY_TOPIC
from schemas.wire import decode_areas
from streams.kafka.intake import messages_of
from streams.kafka.readers import read_to_end, reader
from streams.kafka.topics import TopicError
from streams.settings import Settings


async def held_areas(settings: Settings) -> tuple[dict[str, Area], int]:
    """The newest record of each area, and how many records cannot be read.

    Raises TopicError without the topic, and UnansweredError.
    """
    areas: dict[str, Area] = {}
    unreadable = 0
    topic = settings.topic(REGISTRY_TOPIC)
    tps = [TopicPartition(topic, number) for number in range(settings.partitions)]

    async with reader(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicError(
                f"there is no topic `{topic}`; `meterwatch topics` creates it"
            )
        starts = await consumer.beginning_offsets(tps)
        async for _, records in read_to_end(consumer, starts):
            found, rejections = decode_areas(messages_of(records))
            areas |= {area.area: area for area in found}
            unreadable += len(rejections)
    return areas, unreadable

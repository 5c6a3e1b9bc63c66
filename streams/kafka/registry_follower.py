"""The areas of the registry, all at first and then as they come."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from replay.mapping.areas import AreaLookup
from schemas.topics import REGISTRY_TOPIC
from schemas.wire import decode_areas
from streams.kafka.intake import messages_of
from streams.kafka.readers import read_to_end
from streams.settings import Settings


class RegistryFollower:
    """Keeps a lookup up to date; a record that is no area is left to the workers to reject."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        self.lookup = AreaLookup()
        self._consumer = consumer
        topic = settings.topic(REGISTRY_TOPIC)
        self._tps = [
            TopicPartition(topic, number) for number in range(settings.partitions)
        ]

    async def load(self) -> None:
        """Takes in all records that there are. Raises KafkaTimeoutError."""
        starts = await self._consumer.beginning_offsets(self._tps)
        ends = await self._consumer.end_offsets(self._tps)
        async for _, records in read_to_end(self._consumer, starts, ends):
            self._enroll(records)
        self._consumer.assign(self._tps)
        for tp in self._tps:
            self._consumer.seek(tp, max(starts[tp], ends[tp]))

    async def follow(self) -> bool:
        """Takes in the records that have come since; True if there are any."""
        fetched = await self._consumer.getmany(timeout_ms=0)
        for records in fetched.values():
            self._enroll(records)
        return bool(fetched)

    def _enroll(self, records: list[ConsumerRecord]) -> None:
        areas, _ = decode_areas(messages_of(records))
        for area in areas:
            self.lookup.enroll(area)

"""Publishing labels to the topic of inspections, with the counts for people or machines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiokafka import TopicPartition

from replay.inspections import inspections_of, registered_labels
from schemas.inspection import Inspection
from schemas.master import Area
from schemas.topics import INSPECTIONS_TOPIC, REGISTRY_TOPIC
from schemas.wire import JSON_CONTENT_TYPE, decode_areas
from streams.json_output import show_json
from streams.judged_history import LabelFile
from streams.kafka.answers import answered
from streams.kafka.intake import messages_of
from streams.kafka.outbox import producer
from streams.kafka.readers import read_to_end, reader
from streams.kafka.rights import LABELS_RIGHTS
from streams.kafka.topics import ensure
from streams.sending import show_sent
from streams.settings import Settings

EMPTY_REGISTRY_NOTE = "the registry has no area yet, so subjects are not checked"


def send_labels(settings: Settings, path: str, *, json: bool) -> None:
    """Publishes the labels of a file as inspections; shows how many, and what is refused.

    Raises ValueError if no label can be used, TopicError and UnansweredError.
    """
    file = LabelFile.read(path, ())
    asyncio.run(ensure(settings, LABELS_RIGHTS))
    areas = asyncio.run(_registered(settings))
    if areas:
        file.labels = registered_labels(file.labels, areas, file.tally)
    else:
        file.tally.notes.append(EMPTY_REGISTRY_NOTE)
    inspections = inspections_of(file.labels, file.tally)
    file.check(len(inspections))
    asyncio.run(_publish(settings, inspections))

    sent = {settings.topic(INSPECTIONS_TOPIC): len(inspections)}
    if json:
        refused = dict(file.tally.rejected)
        show_json({"sent": sent, "refused": refused, "notes": file.tally.notes})
        return
    show_sent(sent, file.tally)


async def _registered(settings: Settings) -> list[Area]:
    """The areas on the registry, each as its newest record."""
    topic = settings.topic(REGISTRY_TOPIC)
    areas: dict[str, Area] = {}
    async with reader(settings) as consumer:
        tps = [TopicPartition(topic, n) for n in range(settings.partitions)]
        starts = await consumer.beginning_offsets(tps)
        async for _, records in read_to_end(consumer, starts):
            found, _ = decode_areas(messages_of(records))
            areas |= {area.area: area for area in found}
    return list(areas.values())


async def _publish(settings: Settings, inspections: Sequence[Inspection]) -> None:
    """Returns when the brokers have all inspections. Raises KafkaError."""
    topic = settings.topic(INSPECTIONS_TOPIC)
    headers = [("content-type", JSON_CONTENT_TYPE.encode())]
    async with producer(settings) as client:
        sent = []
        for inspection in inspections:
            value = msgspec.json.encode(inspection)
            key = inspection.inspection.encode()
            sent.append(await client.send(topic, value, key, headers=headers))
        await answered(asyncio.gather(*sent))

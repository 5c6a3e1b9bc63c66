"""The alerts on their topic."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert
from schemas.topics import ALERTS_TOPIC
from schemas.wire import RejectedError, decode_alert
from streams.kafka.readers import read_to_end, reader
from streams.settings import Settings

log = logging.getLogger("meterwatch")


def alert_partition(settings: Settings, number: int) -> TopicPartition:
    """The partition of the alerts topic with a number."""
    return TopicPartition(settings.topic(ALERTS_TOPIC), number)


def alert_partitions(settings: Settings) -> list[TopicPartition]:
    """All partitions of the alerts topic."""
    return [alert_partition(settings, number) for number in range(settings.partitions)]


def alert_of(record: ConsumerRecord) -> Alert | None:
    """The alert of a record of the alerts topic; None, with a log line, if it is no alert."""
    try:
        return decode_alert(record.value or b"")
    except RejectedError as error:
        reason = repr(str(error)) if record.value is not None else "it has no value"

        log.warning(
            "offset %d of `%s`, partition %d, is passed over: %s",
            record.offset,
            record.topic,
            record.partition,
            reason,
            extra={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
            },
        )
        return None


async def published_alerts(
    settings: Settings, *, past: bool
) -> AsyncGenerator[Alert, None]:
    """The alerts as they are published, for ever."""
    async with reader(settings) as consumer:
        tps = alert_partitions(settings)
        consumer.assign(tps)
        await (consumer.seek_to_beginning if past else consumer.seek_to_end)(*tps)
        async for record in consumer:
            if alert := alert_of(record):
                yield alert


async def last_states(settings: Settings) -> list[Alert]:
    """The last state of every alert that was not withdrawn, in the order they were raised."""
    last: dict[str, Alert] = {}
    async with reader(settings) as consumer:
        starts = await consumer.beginning_offsets(alert_partitions(settings))
        async for _, records in read_to_end(consumer, starts):
            for record in records:
                if alert := alert_of(record):
                    last[alert.id] = alert
                elif record.value is None:
                    last.pop((record.key or b"").decode(errors="replace"), None)
    standing = (alert for alert in last.values() if alert.state != "withdrawn")
    return sorted(standing, key=lambda alert: (alert.raised, alert.id))

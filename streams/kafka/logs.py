"""Reading partitions from an offset to their present end, outside the consumer group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert
from schemas.wire import RejectedError, decode_alert
from streams.kafka.answers import ANSWER_SECONDS, BoundedConsumer
from streams.kafka.fetched import install
from streams.settings import Settings

FETCH_BYTES = 8 << 20  # bytes of a partition at once
FETCH_SECONDS = 0.5  # that a fetch waits for records
FETCH_WAIT_MS = (
    500  # that a broker holds back a request without records, and the next one
)
Isolation = Literal["read_committed", "read_uncommitted"]
log = logging.getLogger("meterwatch")


class UnansweredError(Exception):
    """The brokers do not answer; says at which addresses."""

    def __init__(self, settings: Settings, error: KafkaError) -> None:
        refused = ""
        if settings.sasl:
            refused = ", or they refuse `sasl_username` and `sasl_password`"
        super().__init__(
            f"no answer from the brokers at {settings.brokers}{refused}: {error}"
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
            raise UnansweredError(settings, error) from None
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
        )
        return None


def visible(text: str) -> str:
    r"""A text without characters that move a terminal's cursor or change its colours.

    >>> visible("A1\x1b[2J 失压")
    'A1\\x1b[2J 失压'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in text
    )

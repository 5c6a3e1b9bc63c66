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
from streams.answers import ANSWER_SECONDS, BoundedConsumer
from streams.fetched import install
from streams.settings import Settings

FETCH_BYTES = 8 << 20  # bytes of a partition at once
FETCH_SECONDS = 0.5  # that a fetch waits for records
FETCH_WAIT_MS = 500  # that a broker holds a request without records back, and the next one on the same connection
Isolation = Literal["read_committed", "read_uncommitted"]
log = logging.getLogger("meterwatch")


class UnansweredError(Exception):
    """Brokers that do not answer; says where they were looked for."""

    def __init__(self, settings: Settings, error: KafkaError) -> None:
        refused = (
            ", or they refuse `sasl_username` and `sasl_password`"
            if settings.sasl
            else ""
        )
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

    What it reads ends, and `end_offsets` tell, where the first open transaction begins; with read_uncommitted, where
    the last record is.
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
        # stopped before its first task ran, aiokafka's consumer cancels whoever stops it
        await asyncio.sleep(0)
        yield consumer
    finally:
        await consumer.stop()


async def read_to_end(
    consumer: AIOKafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int] | None = None,
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """What stands in partitions from their starts to these ends, or those they have now, in order of each partition.

    Raises KafkaTimeoutError when nothing comes for ANSWER_SECONDS.
    """
    ends = await consumer.end_offsets(list(starts)) if ends is None else ends
    open_ = {tp: end for tp, end in ends.items() if starts[tp] < end}
    if not open_:
        return
    consumer.assign(list(open_))
    for tp in open_:
        consumer.seek(tp, starts[tp])
    silence = 0.0
    while open_:
        fetched = await consumer.getmany(*open_, timeout_ms=int(FETCH_SECONDS * 1000))
        silence = 0.0 if fetched else silence + FETCH_SECONDS
        if silence > ANSWER_SECONDS:
            raise KafkaTimeoutError(
                f"no broker has sent what is left of {sorted(open_)} for {silence:g} s"
            )
        for tp, records in fetched.items():
            if within := [record for record in records if record.offset < ends[tp]]:
                yield tp, within
        for tp in list(open_):
            if await consumer.position(tp) >= ends[tp]:
                del open_[tp]
                consumer.pause(tp)


def alert_of(record: ConsumerRecord) -> Alert | None:
    """The alert that a record of `alerts` is; None, with a word, where it is none of ours."""
    try:
        return decode_alert(record.value or b"")
    except RejectedError as error:
        reason = repr(str(error)) if record.value is not None else "it has no value"
        place = record.offset, record.topic, record.partition
        log.warning(
            "offset %d of `%s`, partition %d, is passed over: %s", *place, reason
        )
        return None


def visible(text: str) -> str:
    r"""A text in which nothing moves a terminal's cursor or turns its colours.

    >>> visible("A1\x1b[2J 失压")
    'A1\\x1b[2J 失压'
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    )

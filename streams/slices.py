"""A Faust transport that hands an agent all records fetched of one partition as one event, a slice.

Faust spends about 140 µs on every message whatever is in it; a slice pays that once. Reading goes on where the app says
(`next_offset`), not where the group has committed: an owner that lost its partition may put an older checkpoint in the
place of a newer one whose offsets are committed already. `perform_seek` runs before the fetcher resumes; a seek from
anywhere else is undone by messages in flight. Every topic the app reads comes in slices.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AiokafkaTransport
from faust.types import TP, AppT, Message

FETCH_WAIT_MS = 50
"""How long a broker may wait for records. A partition whose last records are not taken yet is left out of the next
request, and gets no other before that is answered: by Faust's own 1.5 s a worker stood still for most of the time."""


class Reader(Protocol):
    """What the transport asks of its app."""

    def next_offset(self, tp: TP) -> int | None:
        """Where to read on, None while that is not known."""

    async def room(self, asked: Iterable[TP]) -> set[TP]:
        """Those of some partitions for which there is room; waits a little for it."""


class Record(Protocol):
    """What is read of a record; its topic and partition are the slice's."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """Unix milliseconds."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The headers."""


class Slice:
    """What Faust takes for one message; its value is the list of records."""

    __slots__ = (
        "checksum", "headers", "key", "offset", "partition", "serialized_key_size", "serialized_value_size",
        "timestamp", "timestamp_type", "topic", "value",
    )  # fmt: skip

    def __init__(self, tp: TP, records: list[Record]) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset = tp.topic, tp.partition, last.offset
        self.timestamp, self.timestamp_type = last.timestamp, 1
        self.headers, self.key, self.value, self.checksum = (), None, records, None
        self.serialized_key_size = self.serialized_value_size = 0


class SliceSchema(faust.Schema[None, list[Record]]):
    """Takes a slice as it is."""

    def loads_key(self, app: AppT, message: Message, **_: Any) -> None:
        """A slice has no key."""

    def loads_value(self, app: AppT, message: Message, **_: Any) -> list[Record]:
        """The records of the slice."""
        return cast(list[Record], message.value)


class Batches:
    """What was fetched of a partition, a batch of records at a time: aiokafka's own way costs 2 µs a record more."""

    def __init__(self, fetched: PartitionRecords) -> None:
        self._records, self._check_crcs = fetched._records, fetched._check_crcs  # noqa: SLF001 - no other way in
        self.next_fetch_offset: int = fetched.next_fetch_offset

    def __iter__(self) -> Iterator[list[Record]]:
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"a checksum does not match after offset {self.next_fetch_offset}")
            if not batch.is_control_batch:
                yield [record for record in batch if record.offset >= self.next_fetch_offset]
            self.next_fetch_offset = batch.next_offset


class Fetched(OrderedDict[TopicPartition, Any]):
    """aiokafka's table of what was fetched and not taken yet, in batches."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult):
            result._partition_records = Batches(result._partition_records)  # noqa: SLF001 - no other way in
        super().__setitem__(tp, result)


class Thread(AIOKafkaConsumerThread):
    """Faust's thread for a consumer, with a shorter wait and records in batches."""

    async def on_start(self) -> None:
        """Runs in the thread, before anything is fetched."""
        await super().on_start()
        self._ensure_consumer()._fetcher._records = Fetched()  # noqa: SLF001 - no other way in

    def _create_worker_consumer(self, transport: AiokafkaTransport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer


class Consumer(AiokafkaConsumer):
    """Faust's consumer, in slices and from the checkpoint on."""

    @property
    def member(self) -> str:
        """What the group calls this process while it is of the group."""
        thread = cast(Thread, self._thread)
        return str(thread._ensure_consumer()._coordinator.member_id)  # noqa: SLF001 - no other way in

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float  # noqa: ASYNC109 - Faust names it
    ) -> Mapping[TP, list[Any]]:
        wanted = await cast(Reader, self.app).room(active_partitions or ())
        if not wanted:
            return {}
        fetched = await super()._getmany(wanted, timeout)
        whole = {tp: list(chain.from_iterable(batches)) for tp, batches in fetched.items()}
        return {tp: [Slice(tp, records)] for tp, records in whole.items() if records}

    async def perform_seek(self) -> None:
        """Seeks to where the app says, else to what was committed."""
        await super().perform_seek()
        reader = cast(Reader, self.app)
        for tp in self.assignment():
            if (offset := reader.next_offset(tp)) is not None:
                await self.seek(tp, offset)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Between the last offsets of two slices there is no gap."""

    def _new_offset(self, tp: TP) -> int | None:
        """What may be committed: a slice is acknowledged after all before it, so the highest covers them."""
        if not (acked := self._acked[tp]):
            return None
        highest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return highest + 1


class Transport(AiokafkaTransport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = Consumer

"""A Faust transport that hands an agent all fetched records of one partition as one event, a slice.

Faust spends about 140 µs on every message whatever its size; a slice pays that once. Reading goes on at the app's
`next_offset`, not at the committed offset: an owner that lost its partition may put an older checkpoint in the place of
a newer one whose offsets are committed already. `perform_seek` runs before the fetcher resumes; a seek from anywhere
else is undone by messages in flight. Every topic of the app comes in slices.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AiokafkaTransport
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP, AppT, Message

from streams.kafka.fetched import Fetch, install
from streams.kafka.records import FetchedRange

FETCH_WAIT_MS = 50
"""How long a broker may wait for records. A partition whose last records are not taken yet is left out of the next
request, and gets no other before its answer: by Faust's own 1.5 s, a worker stood still for most of the time."""

FETCH_MIN_BYTES = 256 << 10
"""The bytes that a broker gathers within this wait. Answered frame by frame, the thread of the fetches takes a third of
the interpreter's time from the engine, and alerts of a steady load come four times as late."""

FULL_WAIT_SECONDS = 0.02
"""How long a fetch waits for partitions with capacity while others have none: these have capacity again soon."""


class _Reader(Protocol):
    """The app, as the transport needs it."""

    def next_offset(self, tp: TP) -> int | None:
        """The offset to fetch next, None while it is unknown."""

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """The given partitions that have capacity; waits a little for one."""

    def first(self, tp: TP) -> bool:
        """True if records of a partition are handed out before records of others fetched with them."""

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Notes that the broker goes on at an earlier offset, for it has no record at the due one."""


class Slice:
    """A fetched range in the shape of one Faust message, at the last offset of the range."""

    __slots__ = (
        "checksum",
        "headers",
        "key",
        "offset",
        "partition",
        "serialized_key_size",
        "serialized_value_size",
        "timestamp",
        "timestamp_type",
        "topic",
        "value",
    )

    def __init__(self, tp: TP, span: FetchedRange) -> None:
        self.topic = tp.topic
        self.partition = tp.partition
        self.offset = span.ends - 1
        self.timestamp = (span.records[-1].timestamp or 0) if span.records else 0
        self.timestamp_type = 1
        self.headers = ()
        self.key = None
        self.value = span
        self.checksum = None
        self.serialized_key_size = self.serialized_value_size = 0


class SliceSchema(faust.Schema[None, FetchedRange]):
    """Takes a slice as it is."""

    def loads_key(self, app: AppT, message: Message, **_: Any) -> None:
        """A slice has no key."""

    def loads_value(self, app: AppT, message: Message, **_: Any) -> FetchedRange:
        """The range of the slice."""
        return cast(FetchedRange, message.value)


class _WholeFetch:
    """A fetch of a partition as one range: aiokafka's own way costs 2 µs more for each record."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @property
    def next_fetch_offset(self) -> int:
        """The offset to fetch next."""
        return self._fetch.next_fetch_offset

    def __iter__(self) -> Iterator[FetchedRange]:
        """The range, also without a record: control batches and aborted ones move the next offset."""
        span = self._fetch.fetched_range()
        if span.ends > span.begins:
            yield span


class Table(OrderedDict[TopicPartition, Any]):
    """aiokafka's table of fetches that were not taken yet, as ranges."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult):
            result._partition_records = _WholeFetch(result._partition_records)  # noqa: SLF001 - no other way in
        super().__setitem__(tp, result)


class _Thread(AIOKafkaConsumerThread):
    """Faust's thread for a consumer, with a shorter wait, ranges, and without aborted transactions."""

    async def on_start(self) -> None:
        """Runs in the thread, before the first fetch."""
        install()
        await super().on_start()
        self._ensure_consumer()._fetcher._records = Table()  # noqa: SLF001 - no other way in

    def _create_worker_consumer(self, transport: AiokafkaTransport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        consumer._fetch_min_bytes = FETCH_MIN_BYTES  # noqa: SLF001 - Faust has no setting for it
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - as above, but for its own transactions
        return consumer

    async def seek_assigned(self, offsets: Mapping[TP, int]) -> None:
        """Seeks in this thread; leaves out partitions that a rebalance has taken meanwhile.

        A seek drops a fetch that this thread may be handing out: from another thread, as Faust's `seek` does it, that
        ends the worker with a KeyError.
        """
        await self.call_thread(self._seek_assigned, offsets)

    async def _seek_assigned(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp in offsets.keys() & consumer.assignment():
            consumer.seek(tp, offsets[tp])


class Consumer(AiokafkaConsumer):
    """Faust's consumer, in slices and from the checkpoint on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The offset at which the next range of a partition is due.
        self._positions: dict[TP, int] = {}

    @property
    def member(self) -> str:
        """The name that the group gives this process."""
        consumer = self._own_thread._ensure_consumer()  # noqa: SLF001 - no other way in
        return str(consumer._coordinator.member_id)  # noqa: SLF001 - no other way in

    @property
    def _own_thread(self) -> _Thread:
        return cast(_Thread, self._thread)

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust names it
    ) -> Mapping[TP, list[Any]]:
        """The next slices of partitions with capacity, master data first."""
        reader = cast(_Reader, self.app)
        asked = active_partitions or set()
        wanted = await reader.with_capacity(asked)
        if not wanted:
            return {}

        before = dict(self._positions)
        fetched = await super()._getmany(
            wanted, timeout if wanted == asked else min(timeout, FULL_WAIT_SECONDS)
        )
        for tp, (span,) in fetched.items():
            due = self._positions.get(tp)
            # Unless the position was sought meanwhile.
            if due is not None and due == before.get(tp):
                if span.begins < due:
                    reader.begun_again(tp, due, span.begins)
                self._positions[tp] = span.ends
        ordered = sorted(fetched.items(), key=lambda item: not reader.first(item[0]))
        return {tp: [Slice(tp, span)] for tp, (span,) in ordered}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forgets the positions: until the next seek, partitions are read from the committed offsets."""
        self._positions.clear()
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Seeks to the app's offsets; without one, to the committed offset."""
        self._positions.clear()
        await super().perform_seek()
        reader = cast(_Reader, self.app)
        offsets = {
            tp: offset
            for tp in self.assignment()
            if (offset := reader.next_offset(tp)) is not None
        }
        await self._own_thread.seek_assigned(offsets)
        self._read_offset.update(offsets)
        self._positions.update(offsets)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._own_thread.seek_assigned({partition: offset})

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Does nothing: between two slices there is no gap."""

    def _new_offset(self, tp: TP) -> int | None:
        """The offset to commit: a slice is acknowledged after all before it, so the highest covers them."""
        acked = self._acked[tp]
        if not acked:
            return None
        highest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return highest + 1


class InOrder(DefaultSchedulingStrategy):
    """Hands slices out as they come; Faust's own strategy takes turns among topics."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Each slice, with its partition."""
        return ((tp, record) for tp, found in records.items() for record in found)


class Transport(AiokafkaTransport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = Consumer

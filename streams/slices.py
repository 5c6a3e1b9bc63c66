"""A Faust transport that hands an agent all records fetched of one partition as one event, a slice.

Faust spends about 140 µs on every message whatever is in it; a slice pays that once. Reading goes on where the app says
(`next_offset`), not where the group has committed: an owner that lost its partition may put an older checkpoint in the
place of a newer one whose offsets are committed already. `perform_seek` runs before the fetcher resumes; a seek from
anywhere else is undone by messages in flight. Every topic the app reads comes in slices.
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

from streams.fetched import Fetch, FetchedRange, install

FETCH_WAIT_MS = 50
"""How long a broker may wait for records. A partition whose last records are not taken yet is left out of the next
request, and gets no other before that is answered: by Faust's own 1.5 s a worker stood still for most of the time."""

FETCH_MIN_BYTES = 256 << 10
"""How much a broker gathers within that wait. Answered frame by frame, the thread of the fetches takes a third of the
interpreter's time from the engine, and alerts of a steady load come four times as late."""

FULL_WAIT_SECONDS = 0.02
"""How long the partitions that have room may be waited for while others have none: theirs is free again soon."""


class _Reader(Protocol):
    """What the transport asks of its app."""

    def next_offset(self, tp: TP) -> int | None:
        """Where to read on, None while that is not known."""

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """Those of some partitions for which there is room; waits a little for it."""

    def first(self, tp: TP) -> bool:
        """Whether what was fetched of a partition is handed out before what was fetched of others with it."""

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """The broker gives a partition from an earlier offset on, for it has none at the one that was due."""


class Slice:
    """What Faust takes for one message, at the last offset of its value, the span that was fetched."""

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
        self.topic, self.partition, self.offset = tp.topic, tp.partition, span.ends - 1
        self.timestamp, self.timestamp_type = (
            (span.records[-1].timestamp or 0) if span.records else 0,
            1,
        )
        self.headers, self.key, self.value, self.checksum = (), None, span, None
        self.serialized_key_size = self.serialized_value_size = 0


class SliceSchema(faust.Schema[None, FetchedRange]):
    """Takes a slice as it is."""

    def loads_key(self, app: AppT, message: Message, **_: Any) -> None:
        """A slice has no key."""

    def loads_value(self, app: AppT, message: Message, **_: Any) -> FetchedRange:
        """The span of the slice."""
        return cast(FetchedRange, message.value)


class _WholeFetch:
    """What was fetched of a partition, as one span: aiokafka's own way costs 2 µs a record more."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    @property
    def next_fetch_offset(self) -> int:
        """Where to read on."""
        return self._fetch.next_fetch_offset

    def __iter__(self) -> Iterator[FetchedRange]:
        """The span, also where it has no record: control batches, or aborted ones, move the place to read on."""
        if (span := self._fetch.fetched_range()).ends > span.begins:
            yield span


class Table(OrderedDict[TopicPartition, Any]):
    """aiokafka's table of what was fetched and not taken yet, in spans."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if isinstance(result, FetchResult):
            result._partition_records = _WholeFetch(result._partition_records)  # noqa: SLF001 - no other way in
        super().__setitem__(tp, result)


class _Thread(AIOKafkaConsumerThread):
    """Faust's thread for a consumer, with a shorter wait, records in spans, and none of aborted transactions."""

    async def on_start(self) -> None:
        """Runs in the thread, before anything is fetched."""
        install()
        await super().on_start()
        self._ensure_consumer()._fetcher._records = Table()  # noqa: SLF001 - no other way in

    def _create_worker_consumer(self, transport: AiokafkaTransport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        consumer._fetch_min_bytes = FETCH_MIN_BYTES  # noqa: SLF001 - Faust has no setting for it
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - as above, but for its own transactions
        return consumer


class Consumer(AiokafkaConsumer):
    """Faust's consumer, in slices and from the checkpoint on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # where the next span of a partition is to begin
        self._positions: dict[TP, int] = {}

    @property
    def member(self) -> str:
        """What the group calls this process while it is of the group."""
        thread = cast(_Thread, self._thread)
        return str(thread._ensure_consumer()._coordinator.member_id)  # noqa: SLF001 - no other way in

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust names it
    ) -> Mapping[TP, list[Any]]:
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
            # else it was sought meanwhile
            if (due := self._positions.get(tp)) is not None and due == before.get(tp):
                if span.begins < due:
                    reader.begun_again(tp, due, span.begins)
                self._positions[tp] = span.ends
        ordered = sorted(fetched.items(), key=lambda item: not reader.first(item[0]))
        return {tp: [Slice(tp, span)] for tp, (span,) in ordered}

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Until the next seek partitions are read from what was committed."""
        self._positions.clear()
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Seeks to where the app says, else to what was committed."""
        self._positions.clear()
        await super().perform_seek()
        reader = cast(_Reader, self.app)
        for tp in self.assignment():
            if (offset := reader.next_offset(tp)) is not None:
                await self.seek(tp, offset)
                self._positions[tp] = offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Between two slices there is no gap."""

    def _new_offset(self, tp: TP) -> int | None:
        """What may be committed: a slice is acknowledged after all before it, so the highest covers them."""
        if not (acked := self._acked[tp]):
            return None
        highest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return highest + 1


class InOrder(DefaultSchedulingStrategy):
    """Hands slices out as they come; Faust's own takes turns among topics."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Each slice, with its partition."""
        return ((tp, record) for tp, found in records.items() for record in found)


class Transport(AiokafkaTransport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = Consumer

"""Archives what passes: reads source topics, registry and inspections, and commits rows with their offsets.

The archive itself says where to read on, so no consumer group is needed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from replay.archive.manifest import ArchiveManifest
from replay.archive.storage import ArchiveError
from replay.archive.writing import ArchiveCommit, ArchiveWriter, open_writer
from schemas.columns import Batch
from schemas.inspection import Inspection
from schemas.master import Area
from schemas.topics import (
    INSPECTIONS_TOPIC,
    REGISTRY_TOPIC,
    SOURCE_TOPICS,
    TOPIC_KINDS,
)
from schemas.wire import (
    Message,
    Reason,
    Rejection,
    decode,
    decode_areas,
    decode_inspections,
)
from streams.kafka.intake import (
    messages_of,
    partition_of,
    rejections_of,
    split_damage,
)
from streams.kafka.readers import reader
from streams.kafka.records import FetchedRange
from streams.kafka.slices import Table
from streams.settings import Settings

FETCH_MS = 500  # that a fetch waits for records
COMPACTED_TOPICS = (REGISTRY_TOPIC, INSPECTIONS_TOPIC)  # whose older records go
ARCHIVED_TOPICS = (*SOURCE_TOPICS, *COMPACTED_TOPICS)
OnCommit = Callable[[ArchiveManifest], None]
log = logging.getLogger("meterwatch")


async def archive(
    settings: Settings,
    folder: str,
    *,
    once: bool = False,
    on_commit: OnCommit = lambda _: None,
) -> None:
    """Archives into a folder or URL until SIGINT or SIGTERM, or once up to the present ends of the topics.

    What has come by then is committed. Raises ArchiveError and UnansweredError.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stopped.set)

    writing = open_writer(
        folder,
        settings.zone,
        keep_days=settings.archive_days,
        least_free=int(settings.archive_free_gib * (1 << 30)),
        shard_rows=settings.archive_shard_rows,
    )
    with writing as writer:
        async with reader(settings) as consumer:
            # Whole fetches, with the damage in them.
            consumer._fetcher._records = Table()  # noqa: SLF001 - no other way in
            await _archive(settings, consumer, writer, stopped, once, on_commit)


async def _archive(
    settings: Settings,
    consumer: AIOKafkaConsumer,
    writer: ArchiveWriter,
    stopped: asyncio.Event,
    once: bool,
    on_commit: OnCommit,
) -> None:
    """Fetches and commits, and commits the rest at the end."""

    def commit(gathered: Gathered) -> None:
        writer.commit(gathered.commit(), time.time())
        on_commit(writer.manifest)

    topics = {settings.topic(name): name for name in ARCHIVED_TOPICS}
    tps = [
        TopicPartition(topic, number)
        for topic in topics
        for number in range(settings.partitions)
    ]
    ends = await consumer.end_offsets(tps)
    consumer.assign(tps)
    starts = await _starts(consumer, topics, writer.manifest, ends)
    for tp, offset in starts.items():
        consumer.seek(tp, offset)

    unread = {tp for tp in tps if starts[tp] < ends[tp]}
    gathered = Gathered(settings)
    while (unread or not once) and not stopped.is_set():
        fetched: Mapping[TopicPartition, list[FetchedRange]] = await consumer.getmany(
            timeout_ms=FETCH_MS
        )
        for tp, spans in fetched.items():
            for span in spans:
                topic = topics[tp.topic]
                _check_follows(
                    tp, span, starts[tp], compacted=topic in COMPACTED_TOPICS
                )
                gathered.add(topic, tp.partition, span)
                starts[tp] = span.ends
                if span.ends >= ends[tp]:
                    unread.discard(tp)

        if gathered.is_due():
            commit(gathered)
            gathered = Gathered(settings)
    if gathered.began_at < inf:
        commit(gathered)


async def _starts(
    consumer: AIOKafkaConsumer,
    topics: Mapping[str, str],
    manifest: ArchiveManifest,
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Where to read on in each partition. Raises ArchiveError if a topic ends before that."""
    firsts = await consumer.beginning_offsets(list(ends))
    starts: dict[TopicPartition, int] = {}
    for tp, first in firsts.items():
        due = manifest.offsets.get(topics[tp.topic], {}).get(tp.partition, first)
        if due > ends[tp]:
            raise _created_anew(tp, due, ends[tp])
        if due < first and topics[tp.topic] not in COMPACTED_TOPICS:
            _warn_of_deleted(tp, due, first)
        starts[tp] = max(due, first)
    return starts


def _check_follows(
    tp: TopicPartition, span: FetchedRange, due: int, *, compacted: bool
) -> None:
    """Warns of deleted records before a fetch. Raises ArchiveError if the fetch repeats records."""
    if span.begins < due:
        raise _created_anew(tp, due, span.begins)
    if span.begins > due and not compacted:
        _warn_of_deleted(tp, due, span.begins)


def _created_anew(tp: TopicPartition, due: int, found: int) -> ArchiveError:
    """The error of a topic that is no longer the one that was archived."""
    return ArchiveError(
        f"the archive contains `{tp.topic}`, partition {tp.partition} up to {due}, and the topic is at {found}: it was "
        "created anew; name another folder"
    )


def _warn_of_deleted(tp: TopicPartition, due: int, first: int) -> None:
    """Logs that the brokers have deleted records that were not archived."""
    log.warning(
        "`%s`, partition %d: records %d to %d were deleted before they were archived; retention is too short",
        tp.topic,
        tp.partition,
        due,
        first - 1,
        extra={"topic": tp.topic, "partition": tp.partition, "offset": due},
    )


class Gathered:
    """What has come since the last commit."""

    def __init__(self, settings: Settings) -> None:
        self.began_at = inf  # by the monotonic clock; when the first fetch came
        self._settings = settings
        self._batches: list[Batch] = []
        self._rows = 0
        self._areas: dict[str, Area] = {}
        self._inspections: dict[str, Inspection | None] = {}
        self._offsets: dict[str, dict[int, int]] = {}
        self._rejected: Counter[tuple[str, str]] = Counter()

    def add(self, topic: str, number: int, span: FetchedRange) -> None:
        """Takes in the records of a fetch."""
        self.began_at = min(self.began_at, time.monotonic())
        records, damage = split_damage(span.records)
        messages = messages_of(records)
        if self._settings.clock == "stream":  # a history has no time of receipt
            messages = [(*message[:3], 0) for message in messages]
        self._reject(topic, rejections_of(damage))

        if topic == REGISTRY_TOPIC:
            areas, rejections = decode_areas(messages)
            self._areas |= {area.area: area for area in areas}
            self._reject(topic, rejections)
        elif topic == INSPECTIONS_TOPIC:
            newest, rejections = decode_inspections(messages)
            self._inspections |= newest
            self._reject(topic, rejections)
        else:
            self._add_rows(topic, number, messages)
        self._offsets.setdefault(topic, {})[number] = span.ends

    def is_due(self) -> bool:
        """True if there is enough, or if it has waited long enough, for a commit."""
        waited = time.monotonic() - self.began_at
        return (
            self._rows >= self._settings.archive_rows
            or waited >= self._settings.archive_seconds
        )

    def commit(self) -> ArchiveCommit:
        """The commit of all that has come."""
        return ArchiveCommit(
            self._batches,
            list(self._areas.values()),
            self._inspections,
            self._offsets,
            self._rejected,
        )

    def _add_rows(self, topic: str, number: int, messages: list[Message]) -> None:
        """Decodes rows; rows of areas that belong to another partition are rejected as a worker rejects them."""
        batch, rejections = decode(TOPIC_KINDS[topic], messages)
        self._reject(topic, rejections)
        if batch is None:
            return

        if self._settings.misplaced == "reject":
            homes = [
                partition_of(area, self._settings.partitions) for area in batch.areas
            ]
            is_home = np.array(homes)[batch.area] == number
            misplaced = len(batch) - int(np.count_nonzero(is_home))
            if misplaced:
                self._rejected[topic, Reason.WRONG_PARTITION.value] += misplaced
                batch = batch.select(is_home)
        if len(batch):
            self._batches.append(batch)
            self._rows += len(batch)

    def _reject(self, topic: str, rejections: list[Rejection]) -> None:
        """Counts rejected rows by reason."""
        for rejection in rejections:
            self._rejected[topic, rejection.reason.value] += rejection.rows

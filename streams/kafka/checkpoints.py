"""Checkpoints: an engine's state with the source offsets it contains, on a compacted topic.

A checkpoint is chunks and, written after them, a manifest that makes it count. Two slots take turns, so neither a
half-written checkpoint nor compaction spoils the last whole one. Every record has a checksum. If a record of a
checkpoint is missing or spoilt, the checkpoint of the other slot is restored.

Two workers may write at once while the group changes hands: an owner that lost its partition can overwrite a slot with
an older state. Of the whole checkpoints the one that contains most records wins. Reading goes on from the offsets
inside it, so an older one repeats work and changes nothing.

Every record names the offset at which the last whole checkpoint known to its writer begins. So a restore reads at most
two checkpoints back from the last record of the partition, however long the topic is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from detectors.rulebook import EMPTY_RULEBOOK
from schemas.rules import Rulebook
from streams.kafka.exits import ExitCode
from streams.kafka.readers import read_to_end

log = logging.getLogger("meterwatch")

MANIFEST_LAYOUT = 1
CHUNK_BYTES = 512 << 10  # bytes, within what brokers take by default
SLOT_COUNT = 2
MANIFEST_KEY = "manifest"
NOTHING_BEGUN: Mapping[str, int] = MappingProxyType({})
UNKNOWN_PACES: Mapping[str, float] = MappingProxyType({})
NO_MARKS: Mapping[str, Mark] = MappingProxyType({})
WRITER_ID = os.urandom(6).hex()  # of this process among all that write checkpoints


class CheckpointError(Exception):
    """This version, or these topics, cannot go on from a checkpoint; says what to do."""

    exit_code = ExitCode.STATE


class TopicChangedError(CheckpointError):
    """A source topic is not the one that a checkpoint was taken of."""

    exit_code = ExitCode.TOPIC


class _ManifestError(ValueError):
    """A manifest cannot be read; says why and where."""


class _ManifestLayout(msgspec.Struct):
    """The layout of a manifest, which is read first."""

    layout: int


class Mark(NamedTuple):
    """Identifies a record, so that another record at its offset is noticed."""

    offset: int
    timestamp: int  # Unix milliseconds, 0 unknown
    checksum: int  # CRC-32 of key and value


def mark_of(
    offset: int, timestamp: int | None, key: bytes | None, value: bytes | None
) -> Mark:
    """The mark of a record."""
    return Mark(
        offset, timestamp or 0, zlib.crc32(value or b"", zlib.crc32(key or b""))
    )


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The record that makes a checkpoint count.

    An added field has a default, for older manifests; an unknown field is ignored.
    """

    layout: int
    set: str  # names the chunks of the checkpoint
    sequence: int  # counts the checkpoints of a partition, over all its owners
    partitions: int  # of the topics at the time
    offsets: dict[str, int]  # by topic, the first offset it does not contain
    checksums: list[int]  # CRC-32 of each chunk
    taken: float = 0.0  # Unix seconds
    rulebook: Rulebook = EMPTY_RULEBOOK  # of the engine
    # Offset on the alerts topic before which the state knows every alert; -1 unknown.
    agreed: int = -1
    begun: dict[str, int] = {}  # by topic, rows from its offset on that it contains
    paces: dict[str, float] = {}  # by topic, rows judged in a second of CPU
    marks: dict[str, Mark] = {}  # by topic, the last record that the state contains
    epoch: int = 0  # how often a topic that was created anew was begun again


class Checkpoint(NamedTuple):
    """A whole checkpoint and the offset of its first chunk."""

    manifest: Manifest
    state: bytes
    begins: int

    @property
    def contains(self) -> tuple[int, int, int]:
        """A measure of progress: topics begun again, then the sum of offsets, then the rows beyond them."""
        manifest = self.manifest
        return (
            manifest.epoch,
            sum(manifest.offsets.values()),
            sum(manifest.begun.values()),
        )


class WrittenCheckpoint(NamedTuple):
    """The last whole checkpoint of a partition, as far as its owner knows."""

    sequence: int = 0
    set: str = ""
    begins: int = 0
    taken: float = 0.0
    size: int = 0  # bytes
    agreed: int = -1  # as in the manifest


class PartitionProgress(NamedTuple):
    """The progress that a checkpoint keeps beside its offsets."""

    begun: Mapping[str, int]  # by topic, rows from the offset on that are judged
    paces: Mapping[str, float]  # by topic, rows a second of CPU
    marks: Mapping[str, Mark] = NO_MARKS  # by topic, the last record judged
    epoch: int = 0  # how often a topic that was created anew was begun again


NO_PROGRESS = PartitionProgress({}, {})


class CheckpointContents(NamedTuple):
    """The contents of a checkpoint that is to be written."""

    state: bytes  # a packed snapshot
    offsets: Mapping[str, int]  # by topic, the first offset it does not contain
    partitions: int  # of the topics
    rulebook: Rulebook = EMPTY_RULEBOOK
    agreed: int = -1  # as in the manifest
    progress: PartitionProgress = NO_PROGRESS


class CheckpointRecord(NamedTuple):
    """A record of the checkpoints topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode(
    contents: CheckpointContents, last: WrittenCheckpoint
) -> tuple[list[CheckpointRecord], CheckpointRecord]:
    """The chunks and the manifest of the checkpoint that follows the last."""
    sequence = last.sequence + 1
    name = f"{WRITER_ID}-{sequence}"
    slot = sequence % SLOT_COUNT
    headers = [("set", name.encode()), ("since", b"%d" % last.begins)]
    view = memoryview(contents.state)
    pieces = [
        bytes(view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES)
    ]

    progress = contents.progress
    manifest = Manifest(
        layout=MANIFEST_LAYOUT,
        set=name,
        sequence=sequence,
        partitions=contents.partitions,
        offsets=dict(contents.offsets),
        checksums=list(map(zlib.crc32, pieces)),
        taken=time.time(),
        rulebook=contents.rulebook,
        agreed=contents.agreed,
        begun={topic: rows for topic, rows in progress.begun.items() if rows},
        paces=dict(progress.paces),
        marks=dict(progress.marks),
        epoch=progress.epoch,
    )

    chunks = [
        CheckpointRecord(f"{slot}/{k}".encode(), piece, headers)
        for k, piece in enumerate(pieces)
    ]
    value = msgspec.msgpack.encode(manifest)
    checksum = ("checksum", b"%d" % zlib.crc32(value))
    key = f"{slot}/{MANIFEST_KEY}".encode()
    return chunks, CheckpointRecord(key, value, [*headers, checksum])


async def write_checkpoint(
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    contents: CheckpointContents,
    last: WrittenCheckpoint,
) -> WrittenCheckpoint:
    """Writes the checkpoint that follows `last`; it counts when this returns. Raises KafkaError."""
    chunks, manifest = await asyncio.to_thread(encode, contents, last)

    sent = [
        await producer.send(
            tp.topic, chunk.value, chunk.key, tp.partition, headers=chunk.headers
        )
        for chunk in chunks
    ]
    places = await asyncio.gather(*sent)
    end = await producer.send_and_wait(
        tp.topic, manifest.value, manifest.key, tp.partition, headers=manifest.headers
    )

    written = msgspec.msgpack.decode(manifest.value, type=Manifest)
    begins = min((place.offset for place in places), default=end.offset)
    return WrittenCheckpoint(
        written.sequence,
        written.set,
        begins,
        written.taken,
        len(contents.state),
        contents.agreed,
    )


def whole_checkpoint(
    records: Iterable[ConsumerRecord], partitions: int
) -> Checkpoint | None:
    """The whole checkpoint that contains most, None if there is none.

    An unreadable manifest is logged. Raises CheckpointError if it is unreadable and no other checkpoint is whole.
    """
    chunks: dict[str, dict[bytes, ConsumerRecord]] = {}  # by set
    best: Checkpoint | None = None
    unread: _ManifestError | None = None
    for record in records:
        if record.key is None or record.value is None:
            continue
        slot, _, name = record.key.partition(b"/")
        if name != MANIFEST_KEY.encode():
            chunks.setdefault(_header(record, "set"), {})[record.key] = record
            continue
        if _header(record, "checksum") != str(zlib.crc32(record.value)):
            continue

        try:
            manifest = _manifest(record, partitions)
        except _ManifestError as error:
            unread = error
            continue
        checkpoint = _assembled(record, slot, manifest, chunks.pop(manifest.set, {}))
        if checkpoint is None:
            continue
        if best is None or checkpoint.contains >= best.contains:
            best = checkpoint

    if unread and best is None:
        raise CheckpointError(f"{unread}. {START_AFRESH}")
    if unread:
        log.warning("%s: it is passed over for an older one", unread)
    return best


def _assembled(
    record: ConsumerRecord,
    slot: bytes,
    manifest: Manifest,
    chunks: Mapping[bytes, ConsumerRecord],
) -> Checkpoint | None:
    """The checkpoint of a manifest record and its chunks by key; None if a chunk is missing or spoilt."""
    found: list[ConsumerRecord] = []
    for k, checksum in enumerate(manifest.checksums):
        chunk = chunks.get(slot + b"/%d" % k)
        if chunk is None or zlib.crc32(chunk.value) != checksum:
            return None
        found.append(chunk)
    begins = min((chunk.offset for chunk in found), default=record.offset)
    state = b"".join(chunk.value for chunk in found)
    return Checkpoint(manifest, state, begins)


async def newest(
    consumer: AIOKafkaConsumer,
    topic: str,
    numbers: Iterable[int],
    known: Mapping[int, WrittenCheckpoint],
    partitions: int,
) -> dict[int, Checkpoint | None]:
    """The checkpoint to restore for each partition; without partitions whose last checkpoint is the known one."""
    tps = [TopicPartition(topic, number) for number in numbers]
    first = await consumer.beginning_offsets(tps)
    ends = await consumer.end_offsets(tps)
    last_records: dict[TopicPartition, ConsumerRecord] = {}
    starts = {tp: max(first[tp], ends[tp] - 1) for tp in tps}
    async for tp, records in read_to_end(consumer, starts):
        last_records[tp] = records[-1]

    wanted = [
        tp for tp in tps if not _is_known(last_records.get(tp), known.get(tp.partition))
    ]
    since = {tp: first[tp] for tp in wanted}
    for tp in wanted:
        if tp in last_records:
            since[tp] = max(first[tp], _since(last_records[tp]))

    # A partition is read from its first record only if the short way finds nothing.
    found: dict[int, Checkpoint | None] = {tp.partition: None for tp in wanted}
    for offsets in (since, first):
        left = {tp: offsets[tp] for tp in since if found[tp.partition] is None}
        read: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in left}
        async for tp, records in read_to_end(consumer, left):
            read[tp] += records
        for tp, records in read.items():
            try:
                found[tp.partition] = whole_checkpoint(records, partitions)
            except CheckpointError:
                if offsets is first:
                    raise
    return found


def _is_known(
    last_record: ConsumerRecord | None, known: WrittenCheckpoint | None
) -> bool:
    """True if the last record of a partition is the manifest of the known checkpoint."""
    if last_record is None or known is None:
        return False
    if not (last_record.key or b"").endswith(MANIFEST_KEY.encode()):
        return False
    return _header(last_record, "set") == known.set


def _manifest(record: ConsumerRecord, partitions: int) -> Manifest:
    """The manifest of a record. Raises CheckpointError if it is of other topics, _ManifestError if unreadable."""
    where = f"partition {record.partition} of `{record.topic}`"
    try:
        layout = msgspec.msgpack.decode(record.value, type=_ManifestLayout).layout
        if layout != MANIFEST_LAYOUT:
            raise _ManifestError(
                f"{where} holds a checkpoint of layout {layout}; this version reads layout {MANIFEST_LAYOUT}"
            )
        manifest = msgspec.msgpack.decode(record.value, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _ManifestError(
            f"{where} holds a checkpoint whose manifest cannot be read ({error})"
        ) from error

    if manifest.partitions != partitions:
        raise CheckpointError(
            f"the checkpoints in `{record.topic}` were taken with {manifest.partitions} partitions, the topics have "
            f"{partitions}. {START_AFRESH}"
        )
    return manifest


START_AFRESH = (
    "Run the version that wrote it, or start afresh: stop the workers and delete the topic; the worker creates it anew "
    "and judges its sources from their earliest record."
)


def _header(record: ConsumerRecord, name: str) -> str:
    """The value of a header, "" if there is none."""
    return next(
        (
            value.decode(errors="replace")
            for key, value in record.headers
            if key == name
        ),
        "",
    )


def _since(record: ConsumerRecord) -> int:
    """The offset at which the last whole checkpoint begins, by a record's header."""
    offset = _header(record, "since")
    return int(offset) if offset.isdecimal() else 0

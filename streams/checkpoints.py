"""Checkpoints: an engine's state with the source offsets it contains, on a compacted topic.

A checkpoint is chunks and, written after them, a manifest that makes it count; two slots take turns, so that neither a
half-written checkpoint nor compaction spoils the last whole one. Every record has a checksum; a checkpoint of which a
record is missing or spoilt is passed over for the older slot.

Two workers may write at once while the group changes hands: an owner that lost its partition can overwrite a slot with
an older state. Of the whole checkpoints the one that contains most records wins, and since reading goes on from the
offsets inside it, an older one repeats work and changes nothing.

Every record says where the last checkpoint that its writer knew to be whole begins, so that a restore reads from the
last record of the partition at most two checkpoints back, however long the topic is.
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
from streams.logs import read_to_end

log = logging.getLogger("meterwatch")

MANIFEST_LAYOUT = 1
CHUNK_BYTES = 512 << 10  # bytes, within what brokers take by default
SLOT_COUNT = 2
MANIFEST_KEY = "manifest"
NOTHING_BEGUN: Mapping[str, int] = MappingProxyType({})
UNKNOWN_PACES: Mapping[str, float] = MappingProxyType({})
NO_MARKS: Mapping[str, Mark] = MappingProxyType({})
WRITER_ID = os.urandom(6).hex()  # this process among all that write checkpoints


class CheckpointError(Exception):
    """A checkpoint that this version or these topics cannot go on from; says what to do."""


class _ManifestError(ValueError):
    """A manifest that cannot be read; says why and where."""


class _ManifestLayout(msgspec.Struct):
    """What a manifest of any layout says."""

    layout: int


class Mark(NamedTuple):
    """What tells a record from another in its place."""

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
    """What makes a checkpoint count.

    A field that is added has a default, for manifests from before it; one that is not known is passed over.
    """

    layout: int
    set: str  # names the chunks that belong to it
    sequence: int  # counts the checkpoints of a part, over all its owners
    partitions: int  # of the topics when it was taken
    offsets: dict[str, int]  # by topic, the first offset it does not contain
    checksums: list[int]  # CRC-32 of each chunk
    taken: float = 0.0  # Unix seconds
    rulebook: Rulebook = EMPTY_RULEBOOK  # by which what follows is judged
    agreed: int = -1  # offset of `alerts` before which nothing is told but what the state knows; -1 unknown
    # by topic, how many rows from its offset on the state contains as well
    begun: dict[str, int] = {}
    paces: dict[str, float] = {}  # by topic, rows that were judged in a second of CPU
    marks: dict[str, Mark] = {}  # by topic, the last record that the state contains
    epoch: int = 0  # how often a topic that was another was judged from its beginning


class Checkpoint(NamedTuple):
    """A whole checkpoint and where its first chunk stands."""

    manifest: Manifest
    state: bytes
    begins: int

    @property
    def contains(self) -> tuple[int, int, int]:
        """How many offsets of all topics it is past since they were judged anew, and how many rows beyond them."""
        manifest = self.manifest
        return (
            manifest.epoch,
            sum(manifest.offsets.values()),
            sum(manifest.begun.values()),
        )


class WrittenCheckpoint(NamedTuple):
    """The last whole checkpoint of a part, as far as its owner knows."""

    sequence: int = 0
    set: str = ""
    begins: int = 0
    taken: float = 0.0
    size: int = 0  # bytes
    agreed: int = -1  # as in the manifest


class CheckpointRecord(NamedTuple):
    """A record of the topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode(
    state: bytes,
    offsets: Mapping[str, int],
    partitions: int,
    last: WrittenCheckpoint,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    agreed: int = -1,
    begun: Mapping[str, int] = NOTHING_BEGUN,
    paces: Mapping[str, float] = UNKNOWN_PACES,
    marks: Mapping[str, Mark] = NO_MARKS,
    epoch: int = 0,
) -> tuple[list[CheckpointRecord], CheckpointRecord]:
    """The chunks and the manifest of the checkpoint that follows the last."""
    sequence = last.sequence + 1
    name, slot = f"{WRITER_ID}-{sequence}", sequence % SLOT_COUNT
    headers = [("set", name.encode()), ("since", b"%d" % last.begins)]
    view = memoryview(state)
    pieces = [
        bytes(view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES)
    ]
    manifest = Manifest(
        layout=MANIFEST_LAYOUT,
        set=name,
        sequence=sequence,
        partitions=partitions,
        offsets=dict(offsets),
        checksums=[zlib.crc32(piece) for piece in pieces],
        taken=time.time(),
        rulebook=rulebook,
        agreed=agreed,
        begun={topic: rows for topic, rows in begun.items() if rows},
        paces=dict(paces),
        marks=dict(marks),
        epoch=epoch,
    )
    chunks = [
        CheckpointRecord(f"{slot}/{k}".encode(), piece, headers)
        for k, piece in enumerate(pieces)
    ]
    value = msgspec.msgpack.encode(manifest)
    return chunks, CheckpointRecord(
        f"{slot}/{MANIFEST_KEY}".encode(),
        value,
        [*headers, ("checksum", b"%d" % zlib.crc32(value))],
    )


async def write_checkpoint(
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    state: bytes,
    offsets: Mapping[str, int],
    *,
    partitions: int,
    last: WrittenCheckpoint,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    agreed: int = -1,
    begun: Mapping[str, int] = NOTHING_BEGUN,
    paces: Mapping[str, float] = UNKNOWN_PACES,
    marks: Mapping[str, Mark] = NO_MARKS,
    epoch: int = 0,
) -> WrittenCheckpoint:
    """Writes the checkpoint that follows the last; it counts when this returns. Raises KafkaError."""
    chunks, manifest = await asyncio.to_thread(
        encode,
        state,
        offsets,
        partitions,
        last,
        rulebook,
        agreed,
        begun,
        paces,
        marks,
        epoch,
    )
    sent = [
        await producer.send(tp.topic, m.value, m.key, tp.partition, headers=m.headers)
        for m in chunks
    ]
    places = await asyncio.gather(*sent)
    end = await producer.send_and_wait(
        tp.topic, manifest.value, manifest.key, tp.partition, headers=manifest.headers
    )
    told = msgspec.msgpack.decode(manifest.value, type=Manifest)
    begins = min((place.offset for place in places), default=end.offset)
    return WrittenCheckpoint(
        told.sequence, told.set, begins, told.taken, len(state), agreed
    )


def whole_checkpoint(
    records: Iterable[ConsumerRecord], partitions: int
) -> Checkpoint | None:
    """The whole checkpoint that contains most, None when there is none.

    A manifest that cannot be read is passed over. Raises CheckpointError where no other is whole.
    """
    chunks: dict[str, dict[bytes, ConsumerRecord]] = {}
    best: Checkpoint | None = None
    unread: _ManifestError | None = None
    for record in records:
        if record.key is None or record.value is None:
            continue
        slot, _, part = record.key.partition(b"/")
        if part != MANIFEST_KEY.encode():
            chunks.setdefault(_header(record, "set"), {})[record.key] = record
            continue
        if _header(record, "checksum") != str(zlib.crc32(record.value)):
            continue
        try:
            manifest = _manifest(record, partitions)
        except _ManifestError as error:
            unread = error
            continue
        mine = chunks.pop(manifest.set, {})
        found = [mine.get(slot + b"/%d" % k) for k in range(len(manifest.checksums))]
        pieces = [
            r.value
            for r, crc in zip(found, manifest.checksums, strict=True)
            if r and zlib.crc32(r.value) == crc
        ]
        if len(pieces) < len(found):
            continue
        begins = min((r.offset for r in found if r), default=record.offset)
        checkpoint = Checkpoint(manifest, b"".join(pieces), begins)
        if best is None or checkpoint.contains >= best.contains:
            best = checkpoint
    if unread and best is None:
        raise CheckpointError(f"{unread}. {START_AFRESH}")
    if unread:
        log.warning("%s: it is passed over for an older one", unread)
    return best


async def newest(
    consumer: AIOKafkaConsumer,
    topic: str,
    numbers: Iterable[int],
    known: Mapping[int, WrittenCheckpoint],
    partitions: int,
) -> dict[int, Checkpoint | None]:
    """The checkpoint to go on from for each part; a part whose last checkpoint is the known one is left out."""
    tps = [TopicPartition(topic, number) for number in numbers]
    first, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    tails: dict[TopicPartition, ConsumerRecord] = {}
    async for tp, records in read_to_end(
        consumer, {tp: max(first[tp], ends[tp] - 1) for tp in tps}
    ):
        tails[tp] = records[-1]
    wanted = [tp for tp in tps if not _is_known(tails.get(tp), known.get(tp.partition))]
    since = {
        tp: max(first[tp], _since(tails[tp])) if tp in tails else first[tp]
        for tp in wanted
    }
    found: dict[int, Checkpoint | None] = {tp.partition: None for tp in wanted}
    # from the start only where the short way finds nothing
    for starts in (
        since,
        first,
    ):
        left = {tp: starts[tp] for tp in since if found[tp.partition] is None}
        kept: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in left}
        async for tp, records in read_to_end(consumer, left):
            kept[tp] += records
        for tp, records in kept.items():
            try:
                found[tp.partition] = whole_checkpoint(records, partitions)
            except CheckpointError:
                if starts is first:
                    raise
    return found


def _is_known(
    last_record: ConsumerRecord | None, known: WrittenCheckpoint | None
) -> bool:
    if (
        last_record is None
        or known is None
        or not (last_record.key or b"").endswith(MANIFEST_KEY.encode())
    ):
        return False
    return _header(last_record, "set") == known.set


def _manifest(record: ConsumerRecord, partitions: int) -> Manifest:
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
    return next(
        (
            value.decode(errors="replace")
            for key, value in record.headers
            if key == name
        ),
        "",
    )


def _since(record: ConsumerRecord) -> int:
    told = _header(record, "since")
    return int(told) if told.isdecimal() else 0

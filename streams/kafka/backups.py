"""A backup: the newest checkpoint of each partition and all records of four compacted topics, as files in a folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import (
    ALERTS_TOPIC,
    ALL_TOPICS,
    CHECKPOINTS_TOPIC,
    INSPECTIONS_TOPIC,
    REGISTRY_TOPIC,
    RULES_TOPIC,
    SOURCE_TOPICS,
)
from streams.kafka import checkpoints
from streams.kafka.answers import answered
from streams.kafka.checkpoints import (
    CheckpointContents,
    CheckpointError,
    Manifest,
    PartitionProgress,
    WrittenCheckpoint,
)
from streams.kafka.deliveries import Producer
from streams.kafka.outbox import producer
from streams.kafka.readers import read_to_end, reader
from streams.kafka.rights import BACKUP_RIGHTS, RESTORE_RIGHTS
from streams.kafka.topics import ensure
from streams.settings import Settings

BACKUP_FORM = 1
INDEX_FILE = "backup.json"
KEPT_TOPICS = (REGISTRY_TOPIC, RULES_TOPIC, INSPECTIONS_TOPIC, ALERTS_TOPIC)
SINGLE_TOPICS = {topic.name for topic in ALL_TOPICS if topic.single}
PORTION_RECORDS = 1_000  # records that brokers must take before more are sent
Content = TypeVar("Content")


class BackupError(ValueError):
    """A backup cannot be written or restored; says why."""


class KeptRecord(msgspec.Struct, array_like=True):
    """A record of a compacted topic."""

    offset: int
    timestamp: int  # Unix milliseconds
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class KeptCheckpoint(msgspec.Struct):
    """The newest checkpoint of a partition."""

    manifest: Manifest
    state: bytes


class KeptFile(msgspec.Struct):
    """A file of a backup."""

    topic: str  # without prefix
    partition: int
    bytes: int
    sha256: str


class BackupIndex(msgspec.Struct):
    """All files of a backup."""

    form: int
    version: str  # that wrote it
    taken: float  # Unix seconds
    partitions: int
    files: dict[str, KeptFile]  # by name

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.bytes for file in self.files.values())


async def back_up(settings: Settings, folder: Path) -> BackupIndex:
    """Writes a backup into a folder that there is not yet. Raises BackupError, UnansweredError and KafkaError."""
    partial = _begun(folder)
    try:
        index = await _filled(settings, partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return index


async def _filled(settings: Settings, partial: Path) -> BackupIndex:
    """Writes all files of a backup into an empty folder. Raises as `back_up` does."""
    await ensure(settings, BACKUP_RIGHTS)
    files: dict[str, KeptFile] = {}
    async with reader(settings) as consumer:
        # Alerts are read last, so that all that a checkpoint knows are among them.
        for number, checkpoint in (await _newest(consumer, settings)).items():
            _put(partial, files, CHECKPOINTS_TOPIC, number, checkpoint)
        for topic in KEPT_TOPICS:
            for tp in _partitions(settings, topic):
                records = await _records(consumer, tp)
                _put(partial, files, topic, tp.partition, records)

    index = BackupIndex(
        BACKUP_FORM, version("meterwatch"), time.time(), settings.partitions, files
    )
    _save(partial / INDEX_FILE, msgspec.json.format(msgspec.json.encode(index)))
    return index


async def restore(settings: Settings, folder: Path) -> BackupIndex:
    """Publishes a backup to topics that have never had a record. Raises as `back_up` does.

    A partition keeps its offsets in source topics that have records; the others are judged from their beginning.
    """
    index = read_index(folder)
    if index.partitions != settings.partitions:
        raise BackupError(
            f"{folder} was taken with {index.partitions} partitions, `partitions` is {settings.partitions}"
        )
    await ensure(settings, RESTORE_RIGHTS)
    async with reader(settings) as consumer:
        ends = await consumer.end_offsets(
            [
                tp
                for topic in (CHECKPOINTS_TOPIC, *KEPT_TOPICS, *SOURCE_TOPICS)
                for tp in _partitions(settings, topic)
            ]
        )
    _check_new(settings, ends)

    client = producer(settings)
    await client.start()
    try:
        known: dict[int, list[KeptRecord]] = {}
        for name, file in _named(index, *KEPT_TOPICS):
            records = _content(folder / name, list[KeptRecord])
            await _publish(client, settings, file, records)
            if file.topic == ALERTS_TOPIC:
                known[file.partition] = records
        # A checkpoint counts once its manifest is there: last.
        for name, file in _named(index, CHECKPOINTS_TOPIC):
            checkpoint = _content(folder / name, KeptCheckpoint)
            await _write(
                client, settings, file, checkpoint, ends, known.get(file.partition, [])
            )
    finally:
        await client.stop()
    return index


def read_index(folder: Path) -> BackupIndex:
    """The index of a backup whose files are all whole. Raises BackupError."""
    try:
        index = msgspec.json.decode(
            (folder / INDEX_FILE).read_bytes(), type=BackupIndex
        )
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{folder} is no backup: {error}") from None
    if index.form != BACKUP_FORM:
        raise BackupError(
            f"{folder} has form {index.form}; this version reads form {BACKUP_FORM}"
        )

    for name, file in index.files.items():
        try:
            with (folder / name).open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise BackupError(f"{folder} is damaged: {error}") from None
        if digest != file.sha256:
            raise BackupError(f"{folder / name} is damaged: its checksum differs")
    return index


def _begun(folder: Path) -> Path:
    """An empty folder that becomes the given one once it is whole. Raises BackupError."""
    if folder.exists():
        raise BackupError(f"{folder} exists already; a backup takes a new folder")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


async def _newest(
    consumer: AIOKafkaConsumer, settings: Settings
) -> dict[int, KeptCheckpoint]:
    """The newest checkpoint of each partition that has one. Raises BackupError."""
    try:
        found = await checkpoints.newest(
            consumer,
            settings.topic(CHECKPOINTS_TOPIC),
            range(settings.partitions),
            {},
            settings.partitions,
        )
    except CheckpointError as error:
        raise BackupError(str(error)) from error
    return {
        number: KeptCheckpoint(checkpoint.manifest, checkpoint.state)
        for number, checkpoint in found.items()
        if checkpoint
    }


async def _records(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[KeptRecord]:
    """All records of a partition."""
    starts = await consumer.beginning_offsets([tp])
    kept: list[KeptRecord] = []
    async for _, records in read_to_end(consumer, starts):
        kept.extend(
            KeptRecord(
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                list(record.headers),
            )
            for record in records
        )
    return kept


def _put(
    folder: Path, files: dict[str, KeptFile], topic: str, number: int, content: Any
) -> None:
    """Writes a file, and notes it."""
    name = f"{topic}-{number}.msgpack"
    encoded = msgspec.msgpack.encode(content)
    _save(folder / name, encoded)
    digest = hashlib.sha256(encoded).hexdigest()
    files[name] = KeptFile(topic, number, len(encoded), digest)


def _save(path: Path, content: bytes) -> None:
    """Writes a file, and returns when it is on the disk. Raises BackupError."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}; there is no backup"
        ) from error


def _content(path: Path, kind: type[Content]) -> Content:
    """What a file holds. Raises BackupError."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from error


def _named(index: BackupIndex, *topics: str) -> list[tuple[str, KeptFile]]:
    """The files of topics."""
    return [(name, file) for name, file in index.files.items() if file.topic in topics]


def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """The partitions of a topic."""
    count = 1 if topic in SINGLE_TOPICS else settings.partitions
    return [TopicPartition(settings.topic(topic), number) for number in range(count)]


def _check_new(settings: Settings, ends: Mapping[TopicPartition, int]) -> None:
    """Raises BackupError if a topic that a backup fills has or had records."""
    filled = {settings.topic(topic) for topic in (CHECKPOINTS_TOPIC, *KEPT_TOPICS)}
    used = sorted({tp.topic for tp, end in ends.items() if tp.topic in filled and end})
    if used:
        raise BackupError(
            f"`{'`, `'.join(used)}` have or had records: restore into new topics, by another `prefix` or "
            "after these were deleted"
        )


async def _publish(
    client: Producer, settings: Settings, file: KeptFile, records: Sequence[KeptRecord]
) -> None:
    """Publishes records in order. Raises KafkaError."""
    for begin in range(0, len(records), PORTION_RECORDS):
        sent = [
            await client.send(
                settings.topic(file.topic),
                record.value,
                record.key,
                file.partition,
                timestamp_ms=record.timestamp,
                headers=record.headers,
            )
            for record in records[begin : begin + PORTION_RECORDS]
        ]
        await answered(asyncio.gather(*sent))


async def _write(
    client: Producer,
    settings: Settings,
    file: KeptFile,
    checkpoint: KeptCheckpoint,
    ends: Mapping[TopicPartition, int],
    alerts: Sequence[KeptRecord],
) -> None:
    """Writes a checkpoint with the offsets of these topics. Raises KafkaError."""
    manifest = checkpoint.manifest
    judged = {
        topic
        for topic in manifest.offsets
        if ends[TopicPartition(settings.topic(topic), file.partition)]
    }
    agreed = sum(record.offset < manifest.agreed for record in alerts)

    progress = PartitionProgress(
        _only(manifest.begun, judged),
        manifest.paces,
        _only(manifest.marks, judged),
        manifest.epoch,
    )
    contents = CheckpointContents(
        checkpoint.state,
        _only(manifest.offsets, judged),
        manifest.partitions,
        manifest.rulebook,
        agreed if manifest.agreed >= 0 else -1,
        progress,
    )
    tp = TopicPartition(settings.topic(CHECKPOINTS_TOPIC), file.partition)
    await checkpoints.write_checkpoint(client, tp, contents, WrittenCheckpoint())


def _only(values: Mapping[str, Content], names: set[str]) -> dict[str, Content]:
    """The values of some names."""
    return {name: value for name, value in values.items() if name in names}

"""Backups: a watch that goes on from one on new topics, and backups that are refused with a line."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient

from detectors.engine import Engine
from replay.history import Source
from replay.send import send
from replay.simulation.town import Town
from schemas.columns import Batch
from schemas.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    INSPECTIONS_TOPIC,
    REGISTRY_TOPIC,
    RULES_TOPIC,
)
from streams.kafka import backups
from streams.kafka.backups import BackupError, BackupIndex, KeptFile
from streams.kafka.outbox import producer
from streams.settings import Settings, load
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    thinned,
    wait,
)

KEPT_CONTENT = b"\x90"  # no records


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(600, 3)


@pytest.fixture(scope="module")
def history(town: Town) -> list[Batch]:
    return thinned(town)


@pytest.fixture(scope="module")
def expected(town: Town, history: list[Batch]) -> dict[str, dict[str, Any]]:
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    return last_states(alert for batch in history for alert in engine.step(batch))


def publish(
    settings: Settings, town: Town, batches: list[Batch], *, areas: bool
) -> None:
    source = Source(
        town.name,
        town.areas if areas else [],
        iter(batches),
        sum(map(len, batches)),
        town.zone,
        town.interval,
    )
    send(source, [settings.brokers], prefix=settings.prefix)


async def publish_record(settings: Settings, topic: str, value: Any) -> None:
    client = producer(settings)
    await client.start()
    await client.send_and_wait(settings.topic(topic), value, b"key", 0)
    await client.stop()


def content(settings: Settings, topic: str) -> list[tuple[int, int, bytes, int]]:
    """Partition, offset, value and time of every record, in order."""
    found = (
        (record.partition, record.offset, record.value, record.timestamp)
        for record in asyncio.run(records(settings, topic))
    )
    return sorted(found)


def test_watch_goes_on_from_a_backup_on_new_topics(
    settings, environment, town, history, expected, tmp_path
):
    half = len(history) // 2
    folder = tmp_path / "backups" / "one"
    with WorkerProcess(environment, tmp_path / "before") as worker:
        asyncio.run(publish_record(settings, INSPECTIONS_TOPIC, b"found"))
        publish(settings, town, history[:half], areas=True)
        wait(lambda: all_checkpointed(settings))
        assert published_states(settings)
        index = asyncio.run(backups.back_up(settings, folder))  # while it works
        worker.kill()

    moved = environment | {"METERWATCH_PREFIX": f"{settings.prefix}moved."}
    moved |= {"METERWATCH_GROUP": f"{settings.group}-moved"}
    new_settings = load(moved)
    assert asyncio.run(backups.restore(new_settings, folder)) == index
    for topic in (REGISTRY_TOPIC, INSPECTIONS_TOPIC, ALERTS_TOPIC):
        assert content(new_settings, topic) == content(settings, topic)

    with WorkerProcess(moved, tmp_path / "after") as worker:
        publish(new_settings, town, history[half:], areas=False)
        wait(lambda: all_checkpointed(new_settings))
        assert worker.end() == 0
    assert published_states(new_settings) == expected


def test_restore_refuses_topics_that_are_not_new(settings, tmp_path):
    asyncio.run(backups.back_up(settings, tmp_path / "empty"))
    asyncio.run(publish_record(settings, REGISTRY_TOPIC, b"an area"))
    with pytest.raises(BackupError, match="`.*registry` have or had records: restore"):
        asyncio.run(backups.restore(settings, tmp_path / "empty"))
    with pytest.raises(BackupError, match="exists already"):
        asyncio.run(backups.back_up(settings, tmp_path / "empty"))


def test_partition_keeps_its_offsets_in_topics_that_have_records(
    settings, environment, town, history, tmp_path
):
    half = len(history) // 2
    with WorkerProcess(environment, tmp_path / "before") as worker:
        publish(settings, town, history[:half], areas=True)
        wait(lambda: all_checkpointed(settings))
        asyncio.run(backups.back_up(settings, tmp_path / "backup"))
        assert worker.end() == 0
    before = published_states(settings)

    lost = [
        settings.topic(topic) for topic in (CHECKPOINTS_TOPIC, *backups.KEPT_TOPICS)
    ]
    admin = KafkaAdminClient(bootstrap_servers=settings.brokers)
    admin.delete_topics(lost)
    wait(lambda: not set(lost) & set(admin.list_topics()))
    admin.close()
    asyncio.run(backups.restore(settings, tmp_path / "backup"))
    assert published_states(settings) == before

    with WorkerProcess(environment, tmp_path / "after") as worker:
        publish(settings, town, history[half:], areas=False)
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.rows() == sum(map(len, history[half:])))
        assert worker.end() == 0


def kept(folder: Path, **changes: Any) -> Path:
    """A backup of one file."""
    file = KeptFile(RULES_TOPIC, 0, 1, hashlib.sha256(KEPT_CONTENT).hexdigest())
    index = BackupIndex(backups.BACKUP_FORM, "0", 0.0, 8, {"rules-0.msgpack": file})
    folder.mkdir()
    (folder / "rules-0.msgpack").write_bytes(KEPT_CONTENT)
    changed = msgspec.structs.replace(index, **changes)
    (folder / backups.INDEX_FILE).write_bytes(msgspec.json.encode(changed))
    return folder


def refusal(folder: Path) -> str:
    """The line by which a backup is refused, before a broker is asked."""
    with pytest.raises(BackupError) as refused:
        asyncio.run(backups.restore(Settings(brokers="127.0.0.1:9"), folder))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_backup_that_a_full_disk_does_not_take_leaves_nothing(tmp_path, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def filled(_: Settings, folder: Path) -> None:
        backups._save(folder / "rules-0.msgpack", b"\x90")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(backups, "_filled", filled)
    with pytest.raises(
        BackupError,
        match=r"rules-0.msgpack cannot be written: No space left on device; there is no backup",
    ):
        asyncio.run(backups.back_up(Settings(), tmp_path / "today"))
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_backups_are_refused(tmp_path):
    assert "is no backup: " in refusal(tmp_path)

    cut = kept(tmp_path / "cut")
    (cut / "rules-0.msgpack").write_bytes(b"\x91")
    assert refusal(cut).endswith("rules-0.msgpack is damaged: its checksum differs")
    (cut / "rules-0.msgpack").unlink()
    assert "cut is damaged: " in refusal(cut)
    (cut / backups.INDEX_FILE).write_bytes(b"{")
    assert "is no backup: " in refusal(cut)

    newer = kept(tmp_path / "newer", form=2)
    assert refusal(newer).endswith("has form 2; this version reads form 1")
    other = kept(tmp_path / "other", partitions=3)
    assert refusal(other).endswith("taken with 3 partitions, `partitions` is 8")

"""Archiving from Kafka: what is gathered of the records, and a kill between two commits on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from replay.archive.manifest import read_manifest
from replay.archive.reading import archive_at
from replay.archive.storage import ArchiveError, storage_of
from replay.simulation.town import Town
from replay.sources import open_sources
from schemas.columns import Readings
from schemas.topics import READS_TOPIC, REGISTRY_TOPIC
from schemas.wire import Reason, encode_area
from streams.archive_lines import committed, committed_line
from streams.kafka.archiver import Gathered, _check_follows
from streams.kafka.intake import partition_of
from streams.kafka.outbox import producer
from streams.kafka.records import Damage, FetchedRange
from streams.settings import Settings
from tests.chaos import publish, publish_areas
from tests.test_archive import states_of
from tests.workers import WorkerProcess, wait

READ_TIME = 1_772_380_800
HOME_PARTITION = partition_of("A1", 8)
READS_PARTITION = TopicPartition(READS_TOPIC, 0)


def record(offset, value, key=b"A1"):
    return SimpleNamespace(
        offset=offset,
        key=key,
        value=value if isinstance(value, bytes) else json.dumps(value).encode(),
        headers=(("content-type", b"application/json"),),
        timestamp=(READ_TIME + 60) * 1000,
    )


def gathered(*records, topic=READS_TOPIC, number=HOME_PARTITION, **settings):
    gathered = Gathered(Settings(**settings))
    gathered.add(topic, number, FetchedRange(5, list(records), 5 + len(records)))
    return gathered


def reading(**fields):
    return {"meter": "M1", "area": "A1", "at": READ_TIME, "kwh": 1.5} | fields


def test_rows_are_kept_with_their_receipt_unless_they_are_history():
    for clock, received in (("wall", READ_TIME + 60), ("stream", 0)):
        commit = gathered(record(5, reading()), clock=clock).commit()
        (batch,) = commit.batches
        assert isinstance(batch, Readings)
        assert batch.received.tolist() == [received]
        assert commit.offsets == {READS_TOPIC: {HOME_PARTITION: 6}}
        assert not commit.rejected


def test_what_is_rejected_is_counted_by_reason():
    lost = Damage(8, 9, None, b"", Reason.CORRUPT, "a checksum")
    records = (
        record(5, b"{"),
        record(6, reading(at=5)),
        record(7, reading(area="A2"), key=b"A2"),
        lost,
    )

    commit = gathered(*records).commit()
    assert commit.batches == []
    assert commit.rejected == Counter(
        {
            (READS_TOPIC, "truncated"): 1,
            (READS_TOPIC, "bad_time"): 1,
            (READS_TOPIC, "wrong_partition"): 1,
            (READS_TOPIC, "corrupt"): 2,
        }
    )

    judged = gathered(*records, misplaced="judge").commit()
    assert [batch.areas for batch in judged.batches] == [("A2",)]


def test_the_newest_record_of_an_area_counts():
    town = Town(60, 1)
    _, value, _ = encode_area(town.areas[0])
    name = town.areas[0].area.encode()
    records = (record(5, value, name), record(6, value, name), record(7, b"?", b"A9"))
    commit = gathered(*records, topic=REGISTRY_TOPIC).commit()
    assert commit.areas == [town.areas[0]]
    assert commit.rejected.total() == 1


def test_a_commit_is_due_by_rows_or_by_seconds():
    assert not Gathered(Settings()).is_due()
    assert not gathered(record(5, reading())).is_due()
    assert gathered(record(5, reading()), archive_rows=1).is_due()
    assert gathered(record(5, b"{"), archive_seconds=1e-9).is_due()


def test_records_that_come_again_end_it_and_deleted_ones_are_logged(caplog):
    _check_follows(READS_PARTITION, FetchedRange(5, [], 6), 5, compacted=False)
    assert not caplog.records
    _check_follows(READS_PARTITION, FetchedRange(9, [], 10), 5, compacted=False)
    assert "records 5 to 8 were deleted" in caplog.text
    with pytest.raises(ArchiveError, match="created anew"):
        _check_follows(READS_PARTITION, FetchedRange(0, [], 6), 5, compacted=False)


def test_a_killed_archiver_goes_on_and_its_archive_gives_the_same_alerts(
    settings, environment, tmp_path
):
    town = Town(60, 2, 4)
    folder = tmp_path / "archive"
    batches = list(town.batches())
    half = len(batches) // 2
    brief = environment | {
        "METERWATCH_ARCHIVE_ROWS": "500",
        "METERWATCH_ARCHIVE_SECONDS": "0.5",
        "METERWATCH_ARCHIVE_FREE_GIB": "0",
    }

    async def send(sent, *, more=()):
        async with producer(settings) as client:
            await publish_areas(client, settings, town.areas)
            await publish(client, settings, sent, "packed")
            for value in more:
                await client.send(settings.topic(READS_TOPIC), value, b"A1")
            await client.flush()

    def rows():
        archive = archive_at(folder)
        return sum(file.rows for file in read_manifest(archive).files) if archive else 0

    command = ("-m", "streams.cli", "archive", str(folder))
    with WorkerProcess(brief, tmp_path / "first", *command) as archiver:
        asyncio.run(send(batches[:half]))
        wait(rows)
        archiver.kill()
    asyncio.run(send(batches[half:], more=[b"no record"]))
    with WorkerProcess(brief, tmp_path / "second", *command, "--once") as archiver:
        assert archiver.process.wait(60) == 0
    log = (tmp_path / "second").read_text()

    manifest = read_manifest(storage_of(folder))
    assert rows() == sum(map(len, batches))
    assert manifest.rejected == {READS_TOPIC: {"not_json": 1}}
    assert committed(manifest)["rows"]["readings"] == sum(
        len(batch) for batch in batches if isinstance(batch, Readings)
    )
    assert committed_line(manifest) in log
    expected = states_of(town.source())
    assert expected
    assert states_of(open_sources([folder])) == expected


def has_begun(log):
    """Whether the archiver of a log is reading."""
    return "commits after 300 s" in log.read_text()


def test_an_archiver_that_is_ended_commits_what_has_come(
    settings, environment, tmp_path
):
    town = Town(60, 1, 4)
    batches = list(town.batches())
    folder = tmp_path / "archive"
    brief = environment | {"METERWATCH_ARCHIVE_FREE_GIB": "0"}

    async def send():
        async with producer(settings) as client:
            await publish(client, settings, batches, "packed")

    asyncio.run(send())
    command = ("-m", "streams.cli", "archive", str(folder))
    archived_rows = 0
    for attempt in range(5):  # it may be ended before anything has come
        log = tmp_path / f"log{attempt}"
        with WorkerProcess(brief, log, *command) as archiver:
            wait(partial(has_begun, log))
            time.sleep(1 + 2 * attempt)
            archiver.process.terminate()
            assert archiver.process.wait(60) == 0
        manifest = read_manifest(storage_of(folder))
        archived_rows = sum(file.rows for file in manifest.files)
        if archived_rows == sum(map(len, batches)):
            return
    pytest.fail(f"{archived_rows} rows are archived of {sum(map(len, batches))}")

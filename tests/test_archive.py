"""The archive's files: every row once, whatever is killed, and a history that gives the source's alerts."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.engine import Engine
from replay.archive import compaction, writing
from replay.archive.manifest import publish_manifest, read_manifest
from replay.archive.storage import MANIFEST_NAME, ArchiveError, storage_of
from replay.archive.writing import ArchiveCommit, open_writer
from replay.history import SourceError, arrivals
from replay.simulation.network import TOWN_ZONE
from replay.simulation.town import Town
from replay.sources import open_source, open_sources
from schemas.columns import Readings
from schemas.topics import READS_TOPIC
from schemas.units import DAY_SECONDS
from tests.test_layout import START_TIME, history, sorted_rows
from tests.workers import last_states

COMMIT_TIME = START_TIME + 10 * DAY_SECONDS
STREAM_ROWS = 40


class KilledError(BaseException):
    """The process ends here."""


def readings(days, rows=20, received=None):
    """Rows spread over days, counted from the first."""
    times = START_TIME + DAY_SECONDS * np.resize(days, rows) + 900 * np.arange(rows)
    return Readings.build(
        ["M1", "M2", "M3"],
        np.arange(rows)[::-1] % 3,
        ["A2", "A1"],
        np.arange(rows) % 2,
        times,
        kwh=np.arange(rows),
        received=times if received is None else received,
    )


def archived(folder, *batches, now=COMMIT_TIME, **limits):
    """Commits each batch; returns the manifest."""
    with open_writer(folder, TOWN_ZONE, **limits) as writer:
        for batch in batches:
            writer.commit(ArchiveCommit([batch]), now)
        return writer.manifest


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}


@contextmanager
def killed_at(step: int | None) -> Iterator[None]:
    """Raises KilledError in the place of the step-th call that changes the disk for good."""
    calls = Counter[str]()

    def counted(action):
        def call(*arguments, **named):
            calls["made"] += 1
            if calls["made"] == step:
                raise KilledError
            return action(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        yield


def test_archive_reads_back_to_the_last_bit(tmp_path):
    areas, batches = history()
    with open_writer(tmp_path / "kept", TOWN_ZONE) as writer:
        writer.commit(ArchiveCommit(batches[:2], areas), COMMIT_TIME)
        writer.commit(ArchiveCommit(batches[2:], areas), COMMIT_TIME)
    source = open_source(tmp_path / "kept")
    assert source.areas == areas
    assert (source.zone, source.interval, source.rows) == (TOWN_ZONE, 900, 2406)
    assert sorted_rows(source.batches) == sorted_rows(batches)
    assert not source.rejected


@settings(max_examples=30)
@given(
    days=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 15), min_size=1, max_size=8),
    kills=st.lists(st.integers(1, 40), max_size=6),
    kept_seconds=st.sampled_from([-1, DAY_SECONDS]),
    shard_rows=st.sampled_from([4, 8, 1000]),
)
def test_every_row_is_archived_once_whatever_is_killed(
    days, cuts, kills, kept_seconds, shard_rows
):
    stream = readings(days, STREAM_ROWS)
    remaining = iter(kills)
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as name,
    ):
        patch.setattr(compaction, "MOST_FILES", 2)
        patch.setattr(compaction, "MOST_SHARD_FILES", 2)
        patch.setattr(writing, "KEPT_SECONDS", kept_seconds)
        folder, position = Path(name) / "kept", 0
        while position < STREAM_ROWS:
            try:
                with killed_at(next(remaining, None)):
                    archive_from_offsets(folder, stream, cuts, shard_rows)
            except KilledError:
                pass

            # Whoever reads now sees the rows up to the offsets, each once.
            if (folder / MANIFEST_NAME).exists():
                offsets = read_manifest(storage_of(folder)).offsets
                position = offsets.get(READS_TOPIC, {}).get(0, 0)
                assert sorted_rows(open_source(folder).batches) == sorted_rows(
                    [stream.select(slice(0, position))]
                )

        with open_writer(folder, TOWN_ZONE) as writer:
            named = {file.name for file in writer.manifest.files}
            waiting = {file.name for file in writer.manifest.replaced}
        assert files_of(folder) == named | waiting


def archive_from_offsets(folder, stream, cuts, shard_rows):
    with open_writer(folder, TOWN_ZONE, shard_rows=shard_rows) as writer:
        position = writer.manifest.offsets.get(READS_TOPIC, {}).get(0, 0)
        while position < len(stream):
            end = position + cuts[position % len(cuts)]
            rows = stream.select(slice(position, end))
            offsets = {READS_TOPIC: {0: position + len(rows)}}
            writer.commit(ArchiveCommit([rows], offsets=offsets), COMMIT_TIME)
            position += len(rows)


def test_late_rows_go_into_their_day_and_files_of_a_day_become_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(compaction, "MOST_FILES", 3)
    rows = readings([0], rows=8)
    first = archived(tmp_path, rows, readings([1], rows=8))
    late = [
        readings([0], rows=8, received=np.full(8, COMMIT_TIME - 2000 + k))
        for k in range(2)
    ]
    second = archived(tmp_path, late[0])
    assert [file.day for file in second.files].count(first.files[0].day) == 2

    third = archived(tmp_path, late[1], readings([0], rows=8))
    compact = [file for file in third.files if file.day == first.files[0].day]
    assert [file.rows for file in compact] == [32]
    assert len(third.replaced) == 4
    assert files_of(tmp_path) > {file.name for file in third.files}

    # a day later nobody reads them any more
    last = archived(tmp_path, readings([3], rows=8), now=COMMIT_TIME + 2 * DAY_SECONDS)
    assert files_of(tmp_path) == {file.name for file in last.files}
    assert sum(map(len, open_source(tmp_path).batches)) == 48


def test_a_large_file_is_not_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_FILES", 2)
    sizes = (4, 12, 3, 3, 3)
    batches = [readings([0], rows) for rows in sizes]
    manifest = archived(tmp_path, *batches, shard_rows=12)
    assert [file.rows for file in manifest.files] == [4, 12, 6, 3]


def test_files_are_sorted_by_area_and_meter(tmp_path):
    (file,) = archived(tmp_path, readings([0])).files
    table = pq.read_table(tmp_path / file.name, partitioning=None)
    columns = [table[name].to_pylist() for name in ("area", "meter", "at")]
    listed = list(zip(*columns, strict=True))
    assert listed == sorted(listed)
    assert "u_a" not in table.column_names
    group = pq.read_metadata(tmp_path / file.name).row_group(0)
    assert group.column(0).compression == "ZSTD"


def test_rows_come_in_the_order_in_which_they_arrived_over_days(tmp_path):
    late = readings([0], received=np.arange(20) + START_TIME + 3 * DAY_SECONDS)
    ahead = readings([2000], rows=3, received=np.full(3, START_TIME + 5))
    batches = [readings([1, 0, 2, 4]), late, ahead]
    archived(tmp_path, *batches)
    read = list(open_source(tmp_path).batches)
    times = np.concatenate([arrivals(batch) for batch in read])
    assert (np.diff(times) >= 0).all()
    assert sorted_rows(read) == sorted_rows(batches)


def test_days_past_the_retention_are_removed_and_counted(tmp_path):
    manifest = archived(tmp_path, readings([0], 4), readings([5], 8), keep_days=3)
    assert ([file.rows for file in manifest.files], manifest.expired) == ([8], 4)
    # a row that comes too late is counted, and one of the far future ages no day
    manifest = archived(tmp_path, readings([0], 2), readings([9000], 1), keep_days=8)
    assert (sum(file.rows for file in manifest.files), manifest.expired) == (9, 6)


def test_a_disk_that_is_too_full_takes_no_commit(tmp_path, monkeypatch):
    archived(tmp_path, readings([0]))
    before = files_of(tmp_path)
    full = SimpleNamespace(free=(1 << 30) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(ArchiveError, match="1,023 MiB free.*archive_free_gib"):
        archived(tmp_path, readings([1]), least_free=1 << 30)
    assert files_of(tmp_path) == before
    assert sum(map(len, open_source(tmp_path).batches)) == 20


@pytest.mark.parametrize("file", ["meterwatch-archive.json.new", "readings"])
def test_a_file_that_the_disk_does_not_take_is_named(file, tmp_path, monkeypatch):
    archived(tmp_path, readings([0]))
    write = Path.write_bytes

    def refuse(path: Path, content: bytes) -> int:
        if file in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(
        ArchiveError, match=f"{file}.* cannot be written: No space left on device"
    ):
        archived(tmp_path, readings([1]))
    monkeypatch.undo()
    assert sum(map(len, open_source(tmp_path).batches)) == 20


def test_an_archive_can_be_read_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_FILES", 1)
    first = readings([0, 1, 2])
    archived(tmp_path, first)
    source = open_source(tmp_path)
    archived(tmp_path, readings([0, 1, 2]))
    assert sorted_rows(source.batches) == sorted_rows([first])

    shutil.rmtree(tmp_path / "readings")
    with pytest.raises(SourceError, match="removed since the archive was opened"):
        open_source(tmp_path)


def test_offsets_and_rejects_add_up(tmp_path):
    rejected = Counter({(READS_TOPIC, "bad_time"): 2})
    with open_writer(tmp_path, TOWN_ZONE) as writer:
        for addition in (
            ArchiveCommit(offsets={READS_TOPIC: {0: 5, 1: 7}}, rejected=rejected),
            ArchiveCommit(offsets={READS_TOPIC: {1: 9}}, rejected=rejected),
        ):
            writer.commit(addition, COMMIT_TIME)
    manifest = read_manifest(storage_of(tmp_path))
    assert manifest.offsets == {READS_TOPIC: {0: 5, 1: 9}}
    assert manifest.rejected == {READS_TOPIC: {"bad_time": 4}}


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.csv").write_text("meter,area,at,kwh\n")
    with pytest.raises(ArchiveError, match="neither empty nor an archive"):
        archived(tmp_path / "own")
    kept = tmp_path / "kept"
    archived(kept, readings([0]))
    with (
        open_writer(kept, TOWN_ZONE),
        pytest.raises(ArchiveError, match="another process writes"),
    ):
        archived(kept)
    with (
        pytest.raises(ArchiveError, match=r"end in Asia/Shanghai, not in UTC"),
        open_writer(kept, "UTC"),
    ):
        pass

    publish_manifest(
        storage_of(kept),
        msgspec.structs.replace(read_manifest(storage_of(kept)), version=2),
    )
    with pytest.raises(ArchiveError, match="version 2"):
        open_source(kept)
    (kept / MANIFEST_NAME).write_text("{")
    with pytest.raises(ArchiveError, match="cannot be read"):
        open_source(kept)


def states_of(source):
    engine = Engine(zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)
    return last_states(
        alert for batch in source.batches for alert in engine.step(batch)
    )


def test_an_archived_town_gives_the_same_alerts(tmp_path):
    town = Town(120, 4, 4)
    with open_writer(tmp_path, town.zone) as writer:
        for batch in town.batches():
            writer.commit(ArchiveCommit([batch], town.areas), COMMIT_TIME)
        manifest = writer.manifest

    expected = states_of(town.source())
    assert len(expected) > 3
    assert states_of(open_sources([tmp_path])) == expected

    # a reading takes few bytes, though few of them share a file here
    named = [file for file in manifest.files if file.kind == "readings"]
    size = sum((tmp_path / file.name).stat().st_size for file in named)
    assert size / sum(file.rows for file in named) < 100

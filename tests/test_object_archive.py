"""Archives in object stores: every row once, whatever is killed, and one writer at a time."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from itertools import count

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from replay.archive import compaction, writing
from replay.archive.manifest import read_manifest
from replay.archive.reading import archive_at
from replay.archive.selection import ArchivedRows, WantedRows
from replay.archive.storage import (
    KEPT_MANIFESTS,
    MANIFEST_FOLDER,
    ArchiveError,
    LocalFolder,
    ObjectFolder,
    storage_of,
)
from replay.archive.writing import ArchiveCommit, open_writer
from replay.simulation.network import TOWN_ZONE
from replay.sources import open_source
from schemas.columns import Readings
from schemas.topics import READS_TOPIC
from streams.local.runner import identity
from tests.test_archive import (
    COMMIT_TIME,
    STREAM_ROWS,
    KilledError,
    archive_from_offsets,
    archived,
    readings,
)
from tests.test_layout import history, sorted_rows

PLACE_NUMBERS = count()
S3_BUCKET = "kept"
S3_REGION = "us-east-1"


@pytest.fixture
def memory_url():
    """A place in memory that no other test has."""
    return f"memory://archive{next(PLACE_NUMBERS)}/kept"


@pytest.fixture(scope="module")
def s3_url():
    """A place on a server of this machine with the interface of S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", S3_REGION)
        patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        ObjectFolder(f"s3://{S3_BUCKET}")._store.mkdir(S3_BUCKET)
        yield f"s3://{S3_BUCKET}/town"
    server.stop()


def rows_in(url):
    """The rows that a reader sees now."""
    return sorted_rows(open_source(url).batches)


@contextmanager
def killed_at(step):
    """Raises KilledError in the place of the step-th call that changes the store."""
    calls = Counter[str]()

    def counted(action):
        def call(*arguments, **named):
            calls["made"] += 1
            if calls["made"] == step:
                raise KilledError
            return action(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pipe_file", "rm_file"):
            action = counted(getattr(MemoryFileSystem, name))
            patch.setattr(MemoryFileSystem, name, action)
        yield


@settings(max_examples=12)
@given(
    days=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 15), min_size=1, max_size=8),
    kills=st.lists(st.integers(1, 40), max_size=6),
    shard_rows=st.sampled_from([4, 1000]),
)
def test_every_row_is_archived_once_whatever_is_killed(days, cuts, kills, shard_rows):
    url = f"memory://archive{next(PLACE_NUMBERS)}"
    stream = readings(days, STREAM_ROWS)
    remaining, position = iter(kills), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MOST_FILES", 2)
        patch.setattr(compaction, "MOST_SHARD_FILES", 2)
        patch.setattr(writing, "KEPT_SECONDS", -1)
        while position < STREAM_ROWS:
            try:
                with killed_at(next(remaining, None)):
                    archive_from_offsets(url, stream, cuts, shard_rows)
            except KilledError:
                pass

            if storage_of(url).manifest() is not None:
                offsets = read_manifest(storage_of(url)).offsets
                position = offsets.get(READS_TOPIC, {}).get(0, 0)
                seen = stream.select(slice(0, position))
                assert rows_in(url) == sorted_rows([seen])

        with open_writer(url, TOWN_ZONE) as writer:
            named = {file.name for file in writer.manifest.files}
    assert storage_of(url).names() == named


def test_of_two_writers_the_one_that_opened_last_commits(memory_url):
    with (
        open_writer(memory_url, TOWN_ZONE) as first,
        open_writer(memory_url, TOWN_ZONE) as second,
    ):
        second.commit(ArchiveCommit([readings([0], 8)]), COMMIT_TIME)
        with pytest.raises(ArchiveError, match="another process has opened"):
            first.commit(ArchiveCommit([readings([1], 8)]), COMMIT_TIME)
        second.commit(ArchiveCommit([readings([2], 8)]), COMMIT_TIME)
    assert rows_in(memory_url) == sorted_rows([readings([0], 8), readings([2], 8)])


def test_a_writer_that_slept_through_many_commits_is_refused(memory_url):
    """The manifests since its last commit are removed; it must not take their numbers."""
    with open_writer(memory_url, TOWN_ZONE) as sleeper:
        for day in range(KEPT_MANIFESTS + 2):
            archived(memory_url, readings([day], 4))
        with pytest.raises(ArchiveError, match="another process has opened"):
            sleeper.commit(ArchiveCommit([readings([0], 8)]), COMMIT_TIME)
    assert sum(map(len, open_source(memory_url).batches)) == 4 * (KEPT_MANIFESTS + 2)

    kept = ObjectFolder(memory_url)._listed(f"/{MANIFEST_FOLDER}")
    assert len(kept) <= KEPT_MANIFESTS + 1


def test_a_reader_keeps_the_commit_that_it_opened(memory_url):
    archived(memory_url, readings([0, 1]))
    source = open_source(memory_url)
    before = identity([memory_url])
    archived(memory_url, readings([2]))
    assert sorted_rows(source.batches) == sorted_rows([readings([0, 1])])
    assert identity([memory_url]) != before


def test_a_place_that_is_no_archive_is_refused(memory_url):
    with pytest.raises(ArchiveError, match="is no archive: it has no manifest"):
        open_source(memory_url)
    storage_of(memory_url).write("mine.csv", b"meter,area,at,kwh\n")
    with pytest.raises(ArchiveError, match="neither empty nor an archive"):
        archived(memory_url, readings([0]))
    with pytest.raises(ArchiveError, match="cannot be opened: .*nowhere"):
        open_source("nowhere://kept")


def test_a_file_url_is_a_folder(tmp_path):
    folder = tmp_path / "a b"
    archived(folder.as_uri(), readings([0]))
    storage = archive_at(folder.as_uri())
    assert isinstance(storage, LocalFolder)
    assert rows_in(folder.as_uri()) == rows_in(str(folder))


def test_an_s3_server_keeps_an_archive(s3_url):
    areas, batches = history()
    archived(s3_url, shard_rows=500)
    with open_writer(s3_url, TOWN_ZONE, shard_rows=500) as writer:
        writer.commit(ArchiveCommit(batches[:2], areas), COMMIT_TIME)
        writer.commit(ArchiveCommit(batches[2:], areas), COMMIT_TIME)
        with open_writer(s3_url, TOWN_ZONE) as second:
            second.commit(ArchiveCommit(), COMMIT_TIME)
        with pytest.raises(ArchiveError, match="another process has opened"):
            writer.commit(ArchiveCommit(batches, areas), COMMIT_TIME)

    source = open_source(s3_url)
    assert (source.areas, source.zone) == (areas, TOWN_ZONE)
    assert sorted_rows(source.batches) == sorted_rows(batches)

    of_kind = Readings.join([each for each in batches if isinstance(each, Readings)])
    area, meter = of_kind.areas[of_kind.area[0]], of_kind.names[of_kind.subject[0]]
    own = ArchivedRows(storage_of(s3_url)).rows(WantedRows(Readings, area, meter))
    is_own = (of_kind.subject == of_kind.subject[0]) & (of_kind.area == of_kind.area[0])
    assert sorted_rows([own]) == sorted_rows([of_kind.select(is_own)])


def test_a_bucket_that_is_not_there_is_named(s3_url):
    with pytest.raises(ArchiveError, match="s3://nobody/kept does not answer"):
        open_source("s3://nobody/kept")

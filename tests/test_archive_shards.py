"""Days of an archive as shards by area, and the rows of one subject out of them."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.rule import ALL_RULES
from detectors.rulebook import EMPTY_RULEBOOK
from replay.archive import compaction, day_files
from replay.archive.day_files import area_column
from replay.archive.selection import ArchivedRows, WantedRows
from replay.archive.storage import storage_of
from replay.archive.writing import ArchiveCommit, open_writer
from replay.history import SourceError
from replay.simulation.town import Town
from replay.sources import open_source
from schemas.columns import Payments, Readings, Stages
from schemas.units import DAY_SECONDS
from streams.judged_history import judged
from streams.report.evidence import CurveChart
from streams.report.page import pictured
from streams.report.subjects import JudgedBy
from streams.settings import Settings
from streams.shards import Jobs
from tests.test_archive import COMMIT_TIME, archived, files_of
from tests.test_layout import START_TIME, sorted_rows

AREA_NAMES = [f"A{number}" for number in range(6)]


def day_of_areas(day, areas=6, rows=24):
    """Rows of a day over some areas, each with two meters."""
    times = START_TIME + DAY_SECONDS * day + 900 * np.arange(rows)
    meter = np.arange(rows) % (2 * areas)
    names = [f"M{number}" for number in range(2 * areas)]
    kwh = np.arange(rows)
    return Readings.build(names, meter, AREA_NAMES[:areas], meter // 2, times, kwh=kwh)


def shards_of(manifest, day):
    """The files of a day: where their shard begins, and their areas."""
    names = sorted({file.day for file in manifest.files})
    return [
        (file.shard, file.areas) for file in manifest.files if file.day == names[day]
    ]


def test_a_day_that_is_over_is_cut_into_shards_by_area(tmp_path):
    batches = [day_of_areas(day) for day in range(4)]
    manifest = archived(tmp_path, *batches, shard_rows=8)
    cut = [("", ("A0", "A1")), ("A2", ("A2", "A3")), ("A4", ("A4", "A5"))]
    uncut = [(None, ("A0", "A5"))]
    assert [shards_of(manifest, day) for day in range(4)] == [cut, cut, uncut, uncut]

    for file in manifest.files:
        table = pq.read_table(tmp_path / file.name, partitioning=None)
        found = table["area"].to_pylist()
        assert (min(found), max(found)) == file.areas
        assert found == sorted(found)
    assert sorted_rows(open_source(tmp_path).batches) == sorted_rows(batches)


def test_late_rows_go_to_the_shard_of_their_area(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_SHARD_FILES", 2)
    batches = [day_of_areas(day) for day in range(4)]
    archived(tmp_path, *batches, shard_rows=9)
    late = [day_of_areas(0, areas=3, rows=6), day_of_areas(0, areas=2, rows=4)]
    manifest = archived(tmp_path, late[0], shard_rows=9)
    assert shards_of(manifest, 0) == [
        ("", ("A0", "A1")),
        ("", ("A0", "A1")),
        ("A2", ("A2", "A3")),
        ("A2", ("A2", "A2")),
        ("A4", ("A4", "A5")),
    ]

    # The files of the first shard become one, which has too many rows by then and is cut.
    manifest = archived(tmp_path, late[1], day_of_areas(5), shard_rows=9)
    assert shards_of(manifest, 0)[:3] == [
        ("", ("A0", "A0")),
        ("A1", ("A1", "A1")),
        ("A2", ("A2", "A3")),
    ]
    assert sorted_rows(open_source(tmp_path).batches) == sorted_rows(
        [*batches, *late, day_of_areas(5)]
    )


def test_an_area_stays_whole_and_a_small_day_is_not_written_again(tmp_path):
    first = archived(tmp_path, day_of_areas(0), shard_rows=3)
    names = files_of(tmp_path)
    second = archived(tmp_path, day_of_areas(3, areas=1), shard_rows=3)
    own = [(name, name) for name in AREA_NAMES]
    assert list(zip(*shards_of(second, 0), strict=True))[1] == tuple(own)
    assert len(first.files) == 1
    assert files_of(tmp_path) > names

    third = archived(tmp_path, day_of_areas(6), shard_rows=1000)
    assert shards_of(third, 1) == [("", ("A0", "A0"))]
    assert set(second.files[:6]) <= set(third.files)


@settings(max_examples=25)
@given(
    commits=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 30)),
        min_size=1,
        max_size=8,
    ),
    shard_rows=st.integers(3, 40),
    area=st.sampled_from(AREA_NAMES),
    meter=st.sampled_from(["", "M0", "M5"]),
    span=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_selected_rows_are_those_of_the_whole(commits, shard_rows, area, meter, span):
    batches = [day_of_areas(*commit) for commit in commits]
    since, until = (START_TIME + DAY_SECONDS * day + 1800 for day in span)
    with (
        TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(day_files, "GROUP_ROWS", 4)
        patch.setattr(compaction, "MOST_FILES", 2)
        archived(folder, *batches, shard_rows=shard_rows)
        wanted = WantedRows(Readings, area, meter, since, until)
        found = ArchivedRows(storage_of(folder)).rows(wanted)

    expected = []
    for batch in batches:
        fits = (batch.at >= since) & (batch.at <= until)
        fits &= np.array(batch.areas)[batch.area] == area
        if meter:
            fits &= np.array(batch.names)[batch.subject] == meter
        expected.append(batch.select(fits))
    assert sorted_rows([found]) == sorted_rows(expected)


def test_only_the_columns_that_are_wanted_are_read(tmp_path):
    archived(tmp_path, day_of_areas(0))
    rows = ArchivedRows(storage_of(tmp_path))
    wanted = WantedRows(Readings, "A1", columns=frozenset({"register"}))
    found = rows.rows(wanted)
    assert isinstance(found, Readings)
    assert np.isnan(found.kwh).all()
    assert len(rows.rows(wanted)) == 4
    assert not len(rows.rows(WantedRows(Readings, "A9")))

    for name in files_of(tmp_path):
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match="removed since it was opened"):
        rows.rows(wanted)


def test_pictures_of_an_archive_are_those_of_its_history(tmp_path):
    town = Town(120, 3, 4)
    batches = list(town.batches())
    with open_writer(tmp_path, town.zone) as writer:
        writer.commit(ArchiveCommit(batches, town.areas), COMMIT_TIME)
    source = open_source(tmp_path)
    settings = Settings(zone=town.zone)
    history = judged([str(tmp_path)], [EMPTY_RULEBOOK], settings, Jobs(1), quiet=True)
    (alerts,) = history.alerts

    by = JudgedBy(source.areas, [*ALL_RULES.values()], town.zone, 900)
    whole = pictured(alerts, open_source(tmp_path).batches, by)
    chosen = pictured(alerts, ArchivedRows(storage_of(tmp_path)), by)
    assert len(whole) > 3
    for (alert, one), (same_alert, other) in zip(whole, chosen, strict=True):
        assert alert == same_alert
        if isinstance(one, CurveChart):
            assert isinstance(other, CurveChart)
            assert np.array_equal(one.at, other.at)
            assert one.lines == other.lines
            for name, series in one.series.items():
                assert np.allclose(series, other.series[name], equal_nan=True)
        else:
            assert one == other


@pytest.mark.parametrize("kind", [Payments, Stages])
def test_rows_of_the_office_are_selected_whole(tmp_path, kind):
    town = Town(120, 3, 4)
    batches = [batch for batch in town.batches() if isinstance(batch, kind)]
    archived(tmp_path, *batches)
    rows = kind.join(batches)
    area = rows.areas[rows.area[0]]
    found = ArchivedRows(storage_of(tmp_path)).rows(WantedRows(kind, area))
    assert area_column(kind) in {"area", "section"}
    assert sorted_rows([found]) == sorted_rows([rows.select(rows.area == rows.area[0])])

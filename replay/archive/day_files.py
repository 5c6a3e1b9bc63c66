"""The files of a day: rows of one kind as Parquet, sorted by area and subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.master.calendar import FIRST_DATE, day_of
from replay import layout
from replay.archive.manifest import ArchiveFile
from replay.archive.storage import Storage
from replay.history import arrivals
from schemas.columns import KIND_COLUMNS, Batch
from schemas.units import DAY_SECONDS

GROUP_ROWS = 1 << 15  # rows of a row group: one area's rows are found by its statistics


def day_name(number: int) -> str:
    """The name of a day by its number.

    >>> day_name(0), day_name(31)
    ('1999-12-31', '2000-01-31')
    """
    return str(np.datetime64(FIRST_DATE) + number)


def day_before(day: str, days: int) -> str:
    """The name of the day so many days earlier.

    >>> day_before("2026-03-01", 1)
    '2026-02-28'
    """
    return str(np.datetime64(day) - days)


def today(now: float) -> str:
    """The day of a time that has begun anywhere on earth."""
    tomorrow = np.datetime64(int(now) + DAY_SECONDS, "s")
    return str(tomorrow.astype("datetime64[D]"))


def split_days(batch: Batch, zone: str) -> Iterator[tuple[str, Batch]]:
    """The rows of each day."""
    days = day_of(batch.at, zone)
    for number in np.unique(days).tolist():
        yield day_name(number), batch.select(days == number)


def split_shards(batch: Batch, starts: Sequence[str]) -> Iterator[tuple[str, Batch]]:
    """The rows of each shard; `starts` are the areas where shards begin, in order, from "" on."""
    firsts = np.array(starts, object)
    names = np.array(batch.areas, object)
    shards = np.searchsorted(firsts, names, "right") - 1
    of_rows = shards[batch.area]
    for shard in np.unique(of_rows).tolist():
        yield starts[shard], batch.select(of_rows == shard)


def write_rows(
    storage: Storage, name: str, day: str, batch: Batch, shard: str | None = None
) -> ArchiveFile:
    """Writes the rows of a day, or of a shard of it, as a file."""
    table = layout.table_of(batch)
    first = int(arrivals(batch).min())
    return write_table(storage, name, day, type(batch), table, first, shard)


def write_table(
    storage: Storage,
    name: str,
    day: str,
    kind: type[Batch],
    table: pa.Table,
    first: int,
    shard: str | None,
) -> ArchiveFile:
    """Writes the columns that hold anything; rows of one area, subject and time keep their order."""
    area = area_column(kind)
    order = (area, subject_column(kind), "at")
    filled = [
        column for column in table.column_names if table[column].null_count < len(table)
    ]
    ordered = pc.sort_indices(table, [(column, "ascending") for column in order])
    rows = table.select(filled).take(ordered)

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", row_group_size=GROUP_ROWS)
    storage.write(name, sink.getvalue().to_pybytes())
    names = rows[area]
    areas = names[0].as_py(), names[-1].as_py()
    return ArchiveFile(name, kind.kind, day, len(rows), first, shard, areas)


def read_files(
    storage: Storage, files: Sequence[ArchiveFile], words: Sequence[str] = ()
) -> pa.Table:
    """The rows of files, in order of the files; the columns `words` as dictionaries."""
    tables = [
        pq.read_table(
            file.name,
            filesystem=storage.files,
            partitioning=None,
            read_dictionary=words,
        )
        for file in files
    ]
    return pa.concat_tables(tables, promote_options="default")


def read_areas_between(
    storage: Storage,
    files: Sequence[ArchiveFile],
    kind: type[Batch],
    start: str,
    end: str | None,
) -> pa.Table:
    """The rows of files whose areas are from `start` on and before `end`, if it is not None."""
    area = area_column(kind)
    filters = [(area, ">=", start)]
    if end is not None:
        filters.append((area, "<", end))
    tables = [
        pq.read_table(
            file.name, filesystem=storage.files, partitioning=None, filters=filters
        )
        for file in files
        if file.meets(start, end)
    ]
    return pa.concat_tables(tables, promote_options="default")


def rows_by_area(
    storage: Storage, files: Sequence[ArchiveFile], kind: type[Batch]
) -> Counter[str]:
    """How many rows of files each area has."""
    rows: Counter[str] = Counter()
    area = area_column(kind)
    for file in files:
        table = pq.read_table(
            file.name,
            filesystem=storage.files,
            partitioning=None,
            columns=[area],
            read_dictionary=[area],
        )
        for found in pc.value_counts(table[area].unify_dictionaries()).to_pylist():
            rows[found["values"]] += found["counts"]
    return rows


def area_column(kind: type[Batch]) -> str:
    """The column of a file that holds the area of a row."""
    return KIND_COLUMNS[kind]["area"].outside_name


def subject_column(kind: type[Batch]) -> str:
    """The column of a file that holds the subject of a row."""
    return KIND_COLUMNS[kind]["subject"].outside_name

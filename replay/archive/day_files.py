"""The files of a day: rows of one kind as Parquet, sorted by area and subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.master.calendar import FIRST_DATE, day_of
from replay import layout
from replay.archive.manifest import ArchiveFile, sync
from replay.history import arrivals
from schemas.columns import KIND_COLUMNS, Batch
from schemas.units import DAY_SECONDS

GROUP_ROWS = 1 << 16  # rows of a row group: one area's rows are found by its statistics


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
    return str(np.datetime64(int(now) + DAY_SECONDS, "s").astype("datetime64[D]"))


def split_days(batch: Batch, zone: str) -> Iterator[tuple[str, Batch]]:
    """The rows of each day."""
    days = day_of(batch.at, zone)
    for number in np.unique(days).tolist():
        yield day_name(number), batch.select(days == number)


def write_rows(folder: Path, name: str, day: str, batch: Batch) -> ArchiveFile:
    """Writes the rows of a day as a file."""
    _write_table(folder / name, layout.table_of(batch), type(batch))
    first = int(arrivals(batch).min())
    return ArchiveFile(name, batch.kind, day, len(batch), first)


def compact_files(
    folder: Path, name: str, files: Sequence[ArchiveFile], kind: type[Batch]
) -> ArchiveFile:
    """Writes the rows of several files of a day as one."""
    table = read_files(folder, files)
    _write_table(folder / name, table, kind)
    first = min(file.first for file in files)
    return ArchiveFile(name, kind.kind, files[0].day, len(table), first)


def read_files(
    folder: Path, files: Sequence[ArchiveFile], words: Sequence[str] = ()
) -> pa.Table:
    """The rows of files, in order of the files; the columns `words` as dictionaries."""
    tables = [
        pq.read_table(folder / file.name, partitioning=None, read_dictionary=words)
        for file in files
    ]
    return pa.concat_tables(tables, promote_options="default")


def _write_table(path: Path, table: pa.Table, kind: type[Batch]) -> None:
    """Writes the columns that hold anything; rows of one area, subject and time keep their order."""
    declared = KIND_COLUMNS[kind]
    order = (declared["area"].outside_name, declared["subject"].outside_name, "at")
    filled = [
        name for name in table.column_names if table[name].null_count < len(table)
    ]
    ordered = pc.sort_indices(table, [(name, "ascending") for name in order])

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.select(filled).take(ordered),
        path,
        compression="zstd",
        row_group_size=GROUP_ROWS,
    )
    sync(path)
    sync(path.parent)

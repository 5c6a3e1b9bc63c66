"""Some rows of an archive: of an area or one subject, in a span of time.

The manifest names the files that may hold them, and the statistics of a file its row groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.master.calendar import day_of
from replay import layout
from replay.archive.day_files import area_column, day_name, subject_column
from replay.archive.manifest import read_manifest
from replay.archive.storage import Storage
from replay.history import SourceError, Tally, arranged
from replay.tables import Sheet
from schemas.columns import EARLIEST_TIME, KIND_COLUMNS, LATEST_TIME, Batch

READING_THREADS = 8  # files read at a time; more than cores, for stores far away
Bounds = Mapping[str, tuple[str | int, str | int]]  # lowest and highest, by column


class WantedRows(NamedTuple):
    """The rows of a kind and area that are wanted, at both ends of the span too."""

    kind: type[Batch]
    area: str
    subject: str = ""  # "" for all of the area
    since: int = EARLIEST_TIME
    until: int = LATEST_TIME - 1
    columns: frozenset[str] = frozenset()  # beside names and times; none means all

    def bounds(self) -> Bounds:
        """The values of a file's columns in wanted rows."""
        bounds: dict[str, tuple[str | int, str | int]] = {
            area_column(self.kind): (self.area, self.area),
            "at": (self.since, self.until),
        }
        if self.subject:
            bounds[subject_column(self.kind)] = self.subject, self.subject
        return bounds

    def reads(self, column: str) -> bool:
        """True if a column of files is read."""
        declared = KIND_COLUMNS[self.kind]
        cells = (cell for name in self.columns for cell in declared[name].cells)
        always = {"at", "received", *layout.word_columns(self.kind)}
        return not self.columns or column in always or column in cells


class ArchivedRows:
    """The rows of an archive by area, subject and time, as of the commit at which this was made."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._manifest = read_manifest(storage)

    def batches(self, wanted: Iterable[WantedRows]) -> Iterator[Batch]:
        """The rows of each wish that has any, in order of arrival. Raises SourceError."""
        return filter(len, map(self.rows, wanted))

    def rows(self, wanted: WantedRows) -> Batch:
        """The rows that are wanted, in order of arrival. Raises SourceError."""
        try:
            with ThreadPoolExecutor(READING_THREADS) as readers:
                found = readers.map(self._of_file, self._names(wanted), repeat(wanted))
                tables = [table for table in found if len(table)]
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(
                f"{self._storage.name} cannot be read, or was removed since it was opened: {error}"
            ) from error
        if not tables:
            return wanted.kind.build([], [], [], [], [])
        table = pa.concat_tables(tables, promote_options="default")
        sheet = Sheet(table, self._storage.name, Tally())
        return arranged(layout.Decoder(wanted.kind).batch(sheet))

    def _names(self, wanted: WantedRows) -> list[str]:
        """The files that may hold wanted rows."""
        span = np.array([wanted.since, wanted.until])
        first, last = map(day_name, day_of(span, self._manifest.zone).tolist())
        return [
            file.name
            for file in self._manifest.files
            if file.kind == wanted.kind.kind
            and first <= file.day <= last
            and file.meets(wanted.area, f"{wanted.area}\0")  # before any other area
        ]

    def _of_file(self, name: str, wanted: WantedRows) -> pa.Table:
        """The wanted rows of a file."""
        bounds = wanted.bounds()
        words = [area_column(wanted.kind), subject_column(wanted.kind)]
        with (
            self._storage.files.open_input_file(name) as opened,
            pq.ParquetFile(opened, read_dictionary=words, pre_buffer=True) as file,
        ):
            metadata = file.metadata
            paths = [
                metadata.schema.column(k).path for k in range(metadata.num_columns)
            ]
            places = {paths.index(column): bounds[column] for column in bounds}
            groups = [
                number
                for number in range(metadata.num_row_groups)
                if _may_hold(metadata.row_group(number), places)
            ]
            names = [path for path in paths if wanted.reads(path)]
            table = file.read_row_groups(groups, columns=names, use_threads=False)

        for column, limits in bounds.items():
            table = table.filter(_within(table[column], *limits))
        for column in words:  # without the words of other rows
            place = names.index(column)
            table = table.set_column(place, column, table[column].cast(pa.string()))
        return table


def _within(
    cells: pa.ChunkedArray, lowest: str | int, highest: str | int
) -> pa.ChunkedArray:
    """Which cells are in the bounds; of a dictionary, which have the word of both."""
    if not pa.types.is_dictionary(cells.type):
        return pc.and_(pc.greater_equal(cells, lowest), pc.less_equal(cells, highest))
    fits = (
        pc.equal(chunk.indices, pc.index(chunk.dictionary, lowest))
        for chunk in cells.chunks
    )
    return pa.chunked_array(fits, pa.bool_())


def _may_hold(group: Any, places: Mapping[int, tuple[str | int, str | int]]) -> bool:
    """True unless the statistics of a row group show that a column, given by its place, has no value in its bounds."""
    for place, (lowest, highest) in places.items():
        known = group.column(place).statistics
        if known is None or not known.has_min_max:
            continue
        if known.max < lowest or known.min > highest:
            return False
    return True

"""Parquet files, read as they stand where their order allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay import tables
from replay.history import SourceError, Tally

CHUNK_ROWS = 32_768  # decoded at a time
SORTED_ROWS = 5_000_000  # of a file, up to which it is read whole to be sorted


def reading_order(path: Path) -> str:
    """The order in which a Parquet file can be read as it stands.

    Either "arrival", or "time" if the file is too large to sort; "" if it must be sorted.
    """
    schema = pq.read_schema(path)
    times = [name for name in ("at", "received") if name in schema.names]
    kinds = {schema.field(name).type for name in times}
    if len(kinds) > 1 or not all(
        pa.types.is_integer(kind) or pa.types.is_timestamp(kind) for kind in kinds
    ):
        return ""

    last: tuple[int, int] | None = None
    by_time = by_arrival = True
    with pq.ParquetFile(path) as file:
        for chunk in file.iter_batches(1 << 20, columns=times):
            at = np.asarray(chunk.column("at").fill_null(-1).cast(pa.int64()))
            arrived = _arrivals(chunk)
            if chunk.column("at").null_count:
                return ""

            # the chunk before ends with `last`
            if last is not None:
                at = np.r_[last[0], at]
                arrived = np.r_[last[1], arrived]
            in_time = np.diff(at) >= 0
            later = np.diff(arrived)
            by_time &= bool(in_time.all())
            by_arrival &= bool(((later > 0) | ((later == 0) & in_time)).all())
            last = (int(at[-1]), int(arrived[-1])) if len(at) else last

        if by_arrival:
            return "arrival"
        return "time" if by_time and file.metadata.num_rows > SORTED_ROWS else ""


def _arrivals(rows: pa.RecordBatch | pa.Table) -> NDArray[np.int64]:
    """When each row arrived, in the Parquet file's own unit: its receipt, else its time."""
    at = rows.column("at").cast(pa.int64())
    if "received" not in rows.schema.names:
        return np.asarray(at)
    received = rows.column("received").cast(pa.int64())
    return np.asarray(
        pc.if_else(pc.greater(pc.fill_null(received, 0), 0), received, at)
    )


def sheets_of(
    path: Path, wanted: Sequence[str], tally: Tally
) -> Iterator[tables.Sheet]:
    """A Parquet file as it stands, in sheets of about CHUNK_ROWS rows that split no time.

    Columns that are empty are left out.
    """
    words = [
        field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)
    ]
    with pq.ParquetFile(path, read_dictionary=words) as file:
        names = [
            name for name in wanted if name == "at" or not _empty(file.metadata, name)
        ]
        start = 0
        waiting = file.schema_arrow.empty_table().select(names)
        for chunk in file.iter_batches(CHUNK_ROWS, columns=names):
            table = pa.Table.from_batches([chunk])
            if len(waiting):
                table = pa.concat_tables([waiting, table])

            # rows of the last time wait for the next chunk
            at = np.asarray(table["at"].cast(pa.int64()))
            earlier = np.flatnonzero(at != at[-1])
            cut = int(earlier[-1]) + 1 if len(earlier) else 0
            if cut:
                yield tables.Sheet(table.slice(0, cut), path.name, tally, start)
            start += cut
            waiting = table.slice(cut)
            if len(waiting) > SORTED_ROWS:
                raise SourceError(
                    f"{path} has more than {SORTED_ROWS:,} rows of one time, which no history has"
                )

        if len(waiting):
            yield tables.Sheet(waiting, path.name, tally, start)


def _empty(metadata: Any, name: str) -> bool:
    """True if a Parquet column holds nothing, by its statistics."""
    paths = [metadata.schema.column(k).path for k in range(metadata.num_columns)]
    if name not in paths:  # a column of lists or structs
        return False
    chunks = [
        metadata.row_group(k).column(paths.index(name))
        for k in range(metadata.num_row_groups)
    ]
    return all(
        chunk.is_stats_set and chunk.statistics.null_count == chunk.num_values
        for chunk in chunks
    )

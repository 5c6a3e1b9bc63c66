"""Columns of others as cells, by the text of their path: from tables, and from decoded records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from replay.history import SourceError
from replay.mapping.expressions import ColumnPath, walked
from replay.tables import meant
from schemas.columns import Mask

PLAIN_VALUES = (str, int, float, Decimal, datetime, date, UUID)
Paths = Mapping[str, ColumnPath]


def header_of(path: ColumnPath, header: Sequence[str]) -> str:
    """The column of a table in which a path begins, or that has its whole text as its name; "" without one.

    >>> header_of(("load", "V1"), ["load.V1"]), header_of(("load", "V1"), ["load"])
    ('load.V1', 'load')
    """
    whole = ".".join(map(str, path))
    return next((name for name in (whole, str(path[0])) if name in header), "")


def missing_columns(paths: Paths, header: Sequence[str], name: str) -> str:
    """A sentence on the columns that a table lacks, with the nearest; "" if it has all."""
    lacking = [
        f"{text}{meant(str(path[0]), header)}"
        for text, path in paths.items()
        if not header_of(path, header)
    ]
    return f"{name} has no column {', '.join(lacking)}" if lacking else ""


def cells_of_table(table: pa.Table, paths: Paths, name: str) -> pa.Table:
    """The columns of a table at some paths. Raises SourceError if a value within it is of mixed types."""
    columns: dict[str, pa.ChunkedArray] = {}
    nested: dict[str, list[Any]] = {}  # by header

    for text, path in paths.items():
        header = header_of(path, table.column_names)
        column = table[header]
        if header != str(path[0]) or len(path) == 1:
            columns[text] = column
            continue
        if header not in nested:
            nested[header] = column.to_pylist()
        values = [walked(value, path[1:]) for value in nested[header]]
        cells, wrong = cells_of_values(values)
        if wrong.any():
            raise SourceError(
                f"{name}: {text} is no plain value, as in row {wrong.argmax() + 1}"
            )
        columns[text] = pa.chunked_array([cells])
    return pa.table(columns)


def cells_of_records(
    records: Sequence[Any], paths: Paths
) -> tuple[pa.Table, dict[int, str]]:
    """The values of records at some paths, and by row the path of a value that is no plain one."""
    columns: dict[str, pa.Array] = {}
    wrong_paths: dict[int, str] = {}
    for text, path in paths.items():
        cells, wrong = cells_of_values(_values(records, path))
        columns[text] = cells
        for row in np.flatnonzero(wrong).tolist():
            wrong_paths.setdefault(row, text)
    return pa.table(columns), wrong_paths


def _values(records: Sequence[Any], path: ColumnPath) -> list[Any]:
    """The value of each record; a record is an object."""
    if len(path) == 1:
        return [record.get(path[0]) for record in records]
    return [walked(record, path) for record in records]


def cells_of_values(values: Sequence[Any]) -> tuple[pa.Array, Mask]:
    """Values as cells of one type, text if they are of several; and which are no plain values, left empty."""
    try:
        cells = pa.array(values)
        if _is_plain(cells.type):
            return cells, np.zeros(len(values), np.bool_)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        pass  # of mixed types

    texts = [_text(value) for value in values]
    wrong = [
        value is not None and text is None
        for value, text in zip(values, texts, strict=True)
    ]
    return pa.array(texts, pa.string()), np.array(wrong, np.bool_)


def _is_plain(kind: pa.DataType) -> bool:
    """True if cells of a type are numbers, text or times."""
    tests: Iterable[Any] = (
        pa.types.is_null,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_timestamp,
        pa.types.is_date,
    )
    return any(test(kind) for test in tests)


def _text(value: Any) -> str | None:
    """A plain value as text; None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, PLAIN_VALUES):
        return None
    return str(value).encode("utf-8", "replace").decode()

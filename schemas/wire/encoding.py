"""Batches to Kafka messages; a decoder restores them to the bit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from msgspec import Struct, json
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.alert import Alert
from schemas.columns import KIND_COLUMNS, Batch, Column, Readings
from schemas.declarations import Declaration
from schemas.master import Area
from schemas.scores import MeterScores
from schemas.wire.frame import pack
from schemas.wire.records import (
    FRAME_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    RECORD_TYPES,
)

Shape = Literal["single", "array", "packed"]
Encoded = tuple[bytes, bytes, str]
"""Key, value and content type."""

JSON_ENCODER = json.Encoder()
# The area is in the message key, and an event is given by its word.
OMITTED_FIELDS = {"area": "", "system": None, "code": ""}
LARGEST_SCORE = sys.float_info.max


def encode(batch: Batch, shape: Shape = "single", rows: int = 500) -> Iterator[Encoded]:
    """Messages of one area each, of at most so many rows; the rows of an area keep their order.

    Readings alone are packed; rows of another kind then come in arrays.
    """
    if shape == "single":
        yield from _single(batch)
        return
    for area, chosen in _areas(batch, rows):
        part = batch.select(chosen)
        if shape == "packed" and isinstance(part, Readings):
            yield area.encode(), pack(part, area), FRAME_CONTENT_TYPE
        else:
            yield area.encode(), JSON_ENCODER.encode(_records(part)), JSON_CONTENT_TYPE


def encode_area(area: Area) -> Encoded:
    """The registry's message for an area."""
    return area.area.encode(), JSON_ENCODER.encode(area), JSON_CONTENT_TYPE


def encode_alert(alert: Alert) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and the headers of a CloudEvents 1.0 event in binary mode.

    JSON has no infinity: evidence that is not finite is left out, and such a score is the largest double.
    """
    evidence = {
        name: value for name, value in alert.evidence.items() if math.isfinite(value)
    }
    score = min(alert.score, LARGEST_SCORE)
    value = JSON_ENCODER.encode(replace(alert, evidence=evidence, score=score))

    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.id}.{alert.revision}",
        "ce_source": "/meterwatch",
        "ce_type": f"meterwatch.alert.{alert.change}",
        "ce_time": datetime.fromtimestamp(alert.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ce_subject": alert.subject or alert.area,
        "content-type": JSON_CONTENT_TYPE,
    }
    encoded_headers = [(name, text.encode()) for name, text in headers.items()]
    return alert.id.encode(), value, encoded_headers


def encode_scores(row: MeterScores) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of a meter's daily scores."""
    headers = [("content-type", JSON_CONTENT_TYPE.encode())]
    return row.area.encode(), JSON_ENCODER.encode(row), headers


def _single(batch: Batch) -> Iterator[Encoded]:
    """A message of one record for each row."""
    keys = [name.encode() for name in batch.areas]
    for area, record in zip(batch.area.tolist(), _records(batch), strict=True):
        yield keys[area], JSON_ENCODER.encode(record), JSON_CONTENT_TYPE


def _areas(batch: Batch, rows: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """The rows of every area, at most so many at a time."""
    names = {name: code for code, name in enumerate(dict.fromkeys(batch.areas))}
    codes = np.array([names[name] for name in batch.areas], np.intp)[batch.area]
    order = np.argsort(codes, kind="stable")
    for area_rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        for first in range(0, len(area_rows), rows):
            chosen = area_rows[first : first + rows]
            yield batch.areas[batch.area[chosen[0]]], chosen


def _records(batch: Batch) -> list[Struct]:
    """The rows as records."""
    record = RECORD_TYPES[type(batch)]
    declared = KIND_COLUMNS[type(batch)]
    encodings = {codes: names for names, codes in batch.encodings().items()}
    columns: list[Any] = []
    for name in record.__struct_fields__:
        if name in OMITTED_FIELDS:
            columns.append([OMITTED_FIELDS[name]] * len(batch))
            continue

        column = getattr(batch, name)
        if name in encodings:
            words = getattr(batch, encodings[name])
            columns.append([words[code] for code in column.tolist()])
        else:
            columns.append(_values(column, declared[name]))
    return list(map(record, *columns))


def _values(column: NDArray[Any], declared: Declaration) -> list[Any]:
    """A column as the values of a record's field."""
    if declared.words:
        return [declared.words[code] for code in column.tolist()]
    if declared.form.axis == "phases":
        return _phases(column)
    if column.dtype.kind == "f":
        return _numbers(column).tolist()
    if declared.is_truth:
        return column.astype(bool).tolist()
    return column.tolist()


def _numbers(column: Column) -> NDArray[np.object_]:
    """The numbers in the fewest digits that distinguish them, None where unknown."""
    short = shortest(column) if column.dtype == np.float32 else column
    numbers = short.astype(object)
    numbers[np.isnan(column)] = None
    return numbers


def _phases(column: Column) -> list[Any]:
    """Each row as a tuple of phases, or as a number if it has phase A alone."""
    rows = zip(*_numbers(column), strict=True)
    only_a = (np.isnan(column[1]) & np.isnan(column[2])).tolist()
    return [row[0] if single else row for single, row in zip(only_a, rows, strict=True)]


def shortest(column: NDArray[np.float32]) -> NDArray[np.float64]:
    """The doubles with the fewest decimals that are equal as float32.

    >>> shortest(np.array([230.1, 0.001, 1e-9], np.float32)).tolist()
    [230.1, 0.001, 1e-09]
    """
    exact = column.astype(np.float64)
    short = np.round(exact)
    long = short.astype(np.float32) != column
    for decimals in range(1, 7):
        if not long.any():
            return short
        short[long] = np.round(exact[long], decimals)
        long = (short.astype(np.float32) != column) & ~np.isnan(column)
    short[long] = [float(str(number)) for number in column[long]]
    return short

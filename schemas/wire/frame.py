"""Readings of one area packed as columns: about 50 bytes a reading, and no work per row to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from schemas.columns import PHASE_COLUMNS, Readings
from schemas.declarations import Declaration
from schemas.wire.records import (
    FRAME_VERSION,
    MEASURED_COLUMNS,
    Frame,
    FrameHead,
    FrameVersion,
)
from schemas.wire.rejection import Reason, RejectedError, rejected_error

FRAME_DECODER = msgpack.Decoder(Frame)
VERSION_DECODER = msgpack.Decoder(FrameVersion)
FRAME_ENCODER = msgpack.Encoder()

TIME_TYPES = (np.dtype("<u4"), np.dtype("<i8"))


def _number_types(column: Declaration) -> tuple[np.dtype[Any], ...]:
    """The types that a column's numbers may have in a frame."""
    kept = np.dtype(column.form.dtype).newbyteorder("<")
    return TIME_TYPES if kept in TIME_TYPES else (kept,)


FRAME_LAYOUT: dict[str, tuple[np.dtype[Any], ...]] = {
    "meter": (np.dtype("<u2"), np.dtype("<u4")),
    "at": TIME_TYPES,
    **{name: _number_types(column) for name, column in MEASURED_COLUMNS.items()},
}
"""The types that the numbers of a column may have; the length of the column decides."""


def unpack(value: bytes) -> tuple[FrameHead, dict[str, NDArray[Any]]]:
    """A frame and its columns, phases in the shape (3, rows). Raises RejectedError."""
    try:
        frame = FRAME_DECODER.decode(value)
    except (ValueError, RecursionError) as error:
        raise _unknown_version(value) or rejected_error(error) from error

    columns = {}
    for name, types in FRAME_LAYOUT.items():
        packed = getattr(frame, name)
        if packed is not None:
            columns[name] = _column(name, packed, frame.rows, types)

    if columns["meter"].max() >= len(frame.meters):
        raise RejectedError(
            Reason.UNKNOWN_VALUE,
            f"a meter's code is beyond the {len(frame.meters)} meters",
        )
    return frame, columns


def _unknown_version(value: bytes) -> RejectedError | None:
    """An error if a value is a frame of another version."""
    try:
        version = VERSION_DECODER.decode(value).version
    except (ValueError, RecursionError):
        return None
    if version == FRAME_VERSION:
        return None
    return RejectedError(
        Reason.UNKNOWN_VERSION, f"a frame of version {version}, not {FRAME_VERSION}"
    )


def _column(
    name: str, packed: bytes, rows: int, types: Sequence[np.dtype[Any]]
) -> NDArray[Any]:
    """A packed column as an array. Raises RejectedError if its length fits no type."""
    for kind in types:
        if len(packed) == rows * kind.itemsize:
            column = np.frombuffer(packed, kind)
            return _phase_a(column) if name in PHASE_COLUMNS else column
        if name in PHASE_COLUMNS and len(packed) == 3 * rows * kind.itemsize:
            return np.frombuffer(packed, kind).reshape(3, rows)
    raise RejectedError(
        Reason.WRONG_LENGTH, f"{name} has {len(packed)} bytes for {rows} rows"
    )


def _phase_a(column: NDArray[Any]) -> NDArray[Any]:
    """A column of phase A as a phase column."""
    phases = np.full((3, len(column)), np.nan, column.dtype)
    phases[0] = column
    return phases


def stack(
    name: str, columns: Sequence[NDArray[Any] | None], rows: Sequence[int]
) -> NDArray[Any]:
    """The columns of several frames in a row, unknown where a frame has none."""
    kind = FRAME_LAYOUT[name][-1]
    unknown = np.nan if kind.kind == "f" else 0
    stacked = []
    for column, count in zip(columns, rows, strict=True):
        if column is None:
            shape = (3, count) if name in PHASE_COLUMNS else (count,)
            stacked.append(np.full(shape, unknown, kind))
        else:
            stacked.append(column)
    return np.concatenate(stacked, axis=-1)


def pack(batch: Readings, area: str) -> bytes:
    """A frame of rows that are all of one area."""
    meters, codes = np.unique(batch.subject, return_inverse=True)
    columns: dict[str, Any] = {
        name: _known(getattr(batch, name), FRAME_LAYOUT[name])
        for name in MEASURED_COLUMNS
    }
    frame = Frame(
        meters=[batch.names[code] for code in meters],
        meter=_bytes(codes, FRAME_LAYOUT["meter"]),
        at=_bytes(batch.at, TIME_TYPES),
        rows=len(batch),
        version=FRAME_VERSION,
        area=area,
        **columns,
    )
    return FRAME_ENCODER.encode(frame)


def _known(column: NDArray[Any], types: Sequence[np.dtype[Any]]) -> bytes | None:
    """The packed column, or its phase A if the others are unknown; None if all is unknown."""
    known = ~np.isnan(column) if column.dtype.kind == "f" else column != 0
    if not known.any():
        return None
    only_a = column.ndim > 1 and not known[1:].any()
    return _bytes(column[0] if only_a else column, types)


def _bytes(column: NDArray[Any], types: Sequence[np.dtype[Any]]) -> bytes:
    """The column, packed as the first of the types that can hold it."""
    for kind in types[:-1]:
        limits = np.iinfo(kind)
        if limits.min <= column.min() and column.max() <= limits.max:
            return column.astype(kind).tobytes()
    return column.astype(types[-1]).tobytes()

"""A batch, the forms of its columns, and how columns are picked and joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import chain, pairwise
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.declarations import ColumnForm, Declaration, declarations

Column = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# The forms of columns.
Float32 = Annotated[Column, ColumnForm(np.float32)]
Float64 = Annotated[Column, ColumnForm(np.float64)]
Phases32 = Annotated[Column, ColumnForm(np.float32, "phases")]
Curve32 = Annotated[Column, ColumnForm(np.float32, "intervals")]
Times = Annotated[NDArray[np.int64], ColumnForm(np.int64)]
Words = Annotated[NDArray[np.uint8], ColumnForm(np.uint8)]  # codes of an enumeration
Truths = Annotated[NDArray[np.uint8], ColumnForm(np.uint8)]  # 1 or 0
Names = Annotated[tuple[str, ...], ColumnForm(str)]
Codes = Annotated[
    NDArray[np.integer[Any]], ColumnForm(np.int32)
]  # into the names before it

PHASE_NAMES = ("A", "B", "C")
EARLIEST_TIME, LATEST_TIME = 946_684_800, 4_102_444_800
"""Plausible times: from 2000 on, and before 2100."""


def constant(column: NDArray[Any]) -> bool:
    """True if the column is one value broadcast over all rows."""
    return column.strides[-1] == 0 and column.shape[-1] > 1


def picked(column: NDArray[Any], pick: Any) -> NDArray[Any]:
    """The picked rows of a column; a broadcast column stays one."""
    if isinstance(pick, slice) or not constant(column):
        return column[..., pick]
    chosen = np.asarray(pick)
    rows = int(np.count_nonzero(chosen)) if chosen.dtype == bool else len(chosen)
    if rows <= column.shape[-1]:
        return column[..., :rows]
    return np.broadcast_to(column[..., :1], (*column.shape[:-1], rows))


def concatenated(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of columns in order; if all are broadcast with one value, the result is too.

    >>> _absent = np.broadcast_to(np.float32(np.nan), 3)
    >>> concatenated([_absent, _absent]).strides
    (0,)
    """
    if all(map(constant, columns)):
        values = np.stack([column[..., 0] for column in columns])
        is_nan = values.dtype.kind == "f" and np.isnan(values).all()
        if is_nan or (values == values[0]).all():
            first = columns[0]
            rows = sum(column.shape[-1] for column in columns)
            return np.broadcast_to(first[..., :1], (*first.shape[:-1], rows))
    return np.concatenate(columns, axis=-1)


@dataclass(frozen=True, slots=True)
class Batch:
    """The columns that batches of every kind have."""

    kind: ClassVar[str]
    made_of: ClassVar[str]  # the data without which there are no rows
    segments: ClassVar[tuple[str, ...]] = ()  # of its subjects

    names: Names
    subject: Codes
    areas: Names
    area: Annotated[Codes, "Transformer area (台区)"]
    at: Annotated[Times, "Event time"]

    def __len__(self) -> int:
        return len(self.subject)

    def select(self, pick: Any) -> Self:
        """The rows that a mask, an index array or a slice picks; names stay whole."""
        columns: dict[str, Any] = {
            column.name: getattr(self, column.name) for column in fields(self)
        }
        for name in columns.keys() - self.encodings().keys():
            columns[name] = picked(columns[name], pick)
        return type(self)(**columns)

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """One batch of all rows in order. Raises ValueError if there is no batch."""
        if not batches:
            raise ValueError("nothing to join")
        if len(batches) == 1:
            return batches[0]

        columns: dict[str, Any] = {}
        for names, codes in cls.encodings().items():
            lists = [getattr(batch, names) for batch in batches]
            if all(other is lists[0] for other in lists):
                columns[names] = lists[0]
                continue
            # The codes of each batch move behind the names of the batches before it.
            offsets = np.cumsum([0, *map(len, lists)])
            columns[names] = tuple(chain.from_iterable(lists))
            moved = [
                getattr(batch, codes) + np.int32(offset)
                for batch, offset in zip(batches, offsets, strict=False)
            ]
            columns[codes] = np.concatenate(moved)

        for column in fields(cls):
            name = column.name
            if name not in columns:
                columns[name] = concatenated(
                    [getattr(batch, name) for batch in batches]
                )
        return cls(**columns)

    @classmethod
    def encodings(cls) -> dict[str, str]:
        """For each field of names, the field of codes into it."""
        return KIND_ENCODINGS[cls]

    @classmethod
    def build(
        cls,
        names: Iterable[str],
        subject: Any,
        areas: Iterable[str],
        area: Any,
        at: Any,
        **columns: Any,
    ) -> Self:
        """A batch from whatever numpy can convert; an absent column is NaN or 0. Raises ValueError on a wrong shape."""
        times = np.asarray(at, np.int64)
        built: dict[str, Any] = {
            "names": tuple(names),
            "subject": np.asarray(subject, np.int32),
            "areas": tuple(areas),
            "area": np.asarray(area, np.int32),
            "at": times,
        }
        known = KIND_COLUMNS[cls]
        for name, column in known.items():
            if name not in built:
                given = columns.pop(name, None)
                built[name] = _column(column.form, given, len(times))
        if columns:
            raise ValueError(
                f"{cls.__name__} has no column {', '.join(sorted(columns))}"
            )

        for name, values in built.items():
            if not isinstance(values, np.ndarray):
                continue
            shape = _shape(known[name].form, len(times), values)
            if values.shape != shape:
                raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
        return cls(**built)


KindOfBatch = TypeVar("KindOfBatch", bound=Batch)

ALL_KINDS: dict[str, type[Batch]] = {}
"""Every kind of batch, by name. This table and the next five are filled by `declared`."""
KIND_COLUMNS: dict[type[Batch], dict[str, Declaration]] = {}
"""The columns of every kind, by name."""
KIND_ENCODINGS: dict[type[Batch], dict[str, str]] = {}
"""For each kind and field of names, the field of codes into it: the one after it."""
ALL_COLUMNS: dict[str, Declaration] = {}
"""Every column, by name: where kinds share a name, it has one form."""
COLUMN_TYPES: dict[str, Any] = {}
"""The type of every column, by name."""
PHASE_COLUMNS: set[str] = set()
"""The columns with a value for each phase."""


def declared(kind: type[KindOfBatch]) -> type[KindOfBatch]:
    """Add the decorated kind and its columns to the tables of this module."""
    columns = declarations(kind)
    ALL_KINDS[kind.kind] = kind
    KIND_COLUMNS[kind] = columns
    KIND_ENCODINGS[kind] = {
        names.name: codes.name
        for names, codes in pairwise(columns.values())
        if names.form.dtype is str
    }

    ALL_COLUMNS.update(columns)
    for name, column in columns.items():
        COLUMN_TYPES[name] = column.form.dtype
        if column.form.axis == "phases":
            PHASE_COLUMNS.add(name)
    return kind


def _column(form: ColumnForm, given: Any, rows: int) -> Any:
    """A column or a list of names; NaN, 0 or one empty name if it is not given."""
    kind = form.dtype
    if kind is str:
        return tuple(given or ("",))
    if given is not None:
        return np.asarray(given, kind)
    if np.dtype(kind).kind == "f":
        return _absent(kind, _shape(form, rows))
    return np.zeros(rows, kind)


def _shape(
    form: ColumnForm, rows: int, column: NDArray[Any] | None = None
) -> tuple[int, ...]:
    """The shape that a column must have."""
    if form.axis == "intervals":
        return (len(column) if column is not None and column.ndim == 2 else 1, rows)
    return (3, rows) if form.axis == "phases" else (rows,)


@lru_cache(maxsize=256)
def _absent(kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A column without any value: all NaN, broadcast."""
    return np.broadcast_to(np.asarray(np.nan, kind), shape)

"""Owners of state: each keeps columns under a name and version, and takes older state over.

A saved state has every owner's version and columns, each with a schema: dtype and shape per subject
of an array, the type of anything else. A column that a later version of an owner misses takes its
empty value, a column that it does not know is dropped, and columns with another meaning go through
the owner's `upgrade`. An owner that cannot take the saved state over starts afresh, if it may, and
is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.state.codec import captured

State = dict[str, Any]  # by column
# By column: an array as one subject without history has it, or the type of plain values.
Schema = Mapping[str, Any]


class StateError(ValueError):
    """Saved state that an owner cannot take over."""


class Saved(msgspec.Struct):
    """The state of one owner as it stands in a snapshot."""

    version: int = 1
    schema: dict[str, str] = {}
    columns: State = {}


class Owner:
    """An object with memory between batches."""

    # Raised when columns of the same name and type get another meaning.
    version: int = 1
    # Starts afresh if it cannot take over the saved state.
    expendable: ClassVar[bool] = False
    # Something is lost if nothing was saved of it.
    missed: ClassVar[bool] = True

    def schema(self) -> Schema:
        """The kinds of its columns."""
        raise NotImplementedError

    def state(self) -> State:
        """Everything remembered, by column; not a copy."""
        raise NotImplementedError

    def load(self, state: State) -> None:
        """Replaces everything by columns of the schema; a missing column is empty.

        Raises StateError.
        """
        raise NotImplementedError

    def reshaped(self, columns: State) -> State:
        """Columns of another shape in this owner's shape, if it knows how."""
        return columns

    def upgrade(self, version: int, columns: State) -> State | None:
        """State of an older version with this version's meaning; None if it cannot be derived."""
        return None


def saved(owner: Owner) -> Saved:
    """The state of an owner, with its schema."""
    return Saved(owner.version, described(owner.schema()), owner.state())


def capture_owner(owner: Owner) -> Saved:
    """The state of an owner, with its schema; later changes of the owner do not reach it."""
    found = saved(owner)
    columns = {name: captured(value) for name, value in found.columns.items()}
    return Saved(found.version, found.schema, columns)


def restore_owner(owner: Owner, found: Saved | None) -> bool:
    """Loads an owner's saved state; False if it starts afresh. Raises StateError if it may not."""
    try:
        columns = None if found is None else _fitted(owner, found)
    except StateError:
        if not owner.expendable:
            raise
        columns = None
    owner.load(columns or {})
    return columns is not None or not owner.missed


def _fitted(owner: Owner, found: Saved) -> State | None:
    """Saved columns by the owner's schema; None without an upgrade. Raises StateError."""
    columns: State | None = found.columns
    if found.version > owner.version:
        raise StateError(
            f"has version {found.version}, this program reads up to version {owner.version}"
        )
    if found.version < owner.version:
        columns = owner.upgrade(found.version, found.columns)
    if columns is None:
        return None

    schema = owner.schema()
    columns = owner.reshaped(columns)
    return {
        name: _fit(name, value, schema[name])
        for name, value in columns.items()
        if name in schema
    }


def _fit(name: str, value: Any, kind: Any) -> Any:
    """A saved value by its kind in the schema. Raises StateError."""
    if not isinstance(kind, np.ndarray):
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            raise StateError(f"its column {name} cannot be read ({error})") from error

    is_array = isinstance(value, np.ndarray) and value.ndim == kind.ndim + 1
    fits = is_array and value.shape[:-1] == kind.shape
    if not fits or not np.can_cast(value.dtype, kind.dtype, "safe"):
        raise StateError(
            f"its column {name} is not {_dtype_and_shape(kind)} per subject"
        )
    return value.astype(kind.dtype, copy=False)


def described(schema: Schema) -> dict[str, str]:
    """A schema as text."""
    texts: dict[str, str] = {}
    for name, kind in schema.items():
        is_array = isinstance(kind, np.ndarray)
        texts[name] = _dtype_and_shape(kind) if is_array else _type_text(kind)
    return texts


def _dtype_and_shape(empty: NDArray[Any]) -> str:
    """The dtype and shape of one subject's cell of an array.

    >>> _dtype_and_shape(np.zeros((3, 4), np.float32))
    'float32(3, 4)'
    """
    return _array_text(empty.dtype, empty.shape)


@cache
def _array_text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """A type and shape as text."""
    return f"{dtype.name}{shape or ''}"


@cache
def _type_text(kind: Any) -> str:
    """A type as text, with the fields of records.

    >>> _type_text(dict[str, list[int]])
    'dict[str, list[int]]'
    """
    if origin := get_origin(kind):
        arguments = ", ".join(map(_type_text, get_args(kind)))
        return f"{getattr(origin, '__name__', origin)}[{arguments}]"

    is_record = hasattr(kind, "_fields") or hasattr(kind, "__struct_fields__")
    hints = get_type_hints(kind) if is_record else {}
    if not hints:
        return getattr(kind, "__name__", repr(kind))
    texts = [f"{name}: {_type_text(hint)}" for name, hint in hints.items()]
    fields = ", ".join(texts)
    return f"{kind.__name__}({fields})"


def same_length(arrays: Iterable[NDArray[Any]]) -> int:
    """The number of subjects in each of some arrays. Raises StateError if they differ."""
    lengths = {array.shape[-1] for array in arrays}
    if len(lengths) > 1:
        raise StateError(f"its columns have {sorted(lengths)} subjects")
    return lengths.pop() if lengths else 0


def within(what: str, values: Any, least: int, most: int) -> None:
    """Raises StateError unless all whole numbers lie between two, both included."""
    numbers = np.asarray(values)
    if not numbers.size:
        return
    lowest = int(numbers.min())
    highest = int(numbers.max())
    if lowest < least or highest > most:
        raise StateError(f"{what} lies outside {least} to {most}")


class Attributes(Owner):
    """Attributes of an object: arrays by subject, dicts, counters or lists, each a column."""

    def __init__(self, target: object, **kinds: Any) -> None:
        self._target = target
        self._kinds = kinds

    def schema(self) -> Schema:
        """The kinds by name."""
        return self._kinds

    def state(self) -> State:
        """Everything remembered; a counter as pairs."""
        columns: State = {}
        for name in self._kinds:
            value = getattr(self._target, name)
            columns[name] = list(value.items()) if isinstance(value, Counter) else value
        return columns

    def load(self, state: State) -> None:
        """Replaces everything by `state`."""
        for name, kind in self._kinds.items():
            if isinstance(kind, np.ndarray):
                empty = np.repeat(kind[..., None], 0, axis=-1)
                setattr(self._target, name, np.array(state.get(name, empty)))
                continue
            make = type(getattr(self._target, name))
            value = state.get(name, ())
            if issubclass(make, dict):
                value = dict(value)
            setattr(self._target, name, make(value))

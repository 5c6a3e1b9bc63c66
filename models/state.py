"""Owners of state: what each keeps, under a name and a version of its own, and how it takes over what another kept.

A saved state holds of every owner its version and its columns, each with a schema: dtype and shape per subject of an
array, the type of anything else. What a later version of an owner does not find takes its own empty value, what it
does not know is dropped, and what has another meaning goes through the owner's `upgrade`. An owner that cannot take
over what was saved starts afresh, where it may, and is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.saved import captured

State = dict[str, Any]  # by column
Schema = Mapping[
    str, Any
]  # by column: an array as one subject without history has it, or the type of plain values


class StateError(ValueError):
    """Saved state that an owner cannot take over."""


class Saved(msgspec.Struct):
    """The state of one owner as it stands in a snapshot."""

    version: int = 1
    schema: dict[str, str] = {}
    columns: State = {}


class Owner:
    """What remembers something between batches."""

    version: int = (
        1  # raised where columns of the same name and type get another meaning
    )
    expendable: ClassVar[bool] = (
        False  # starts afresh where it cannot take over what was saved
    )
    missed: ClassVar[bool] = True  # something is lost where nothing was saved of it

    def schema(self) -> Schema:
        """What it keeps, by column."""
        raise NotImplementedError

    def state(self) -> State:
        """Everything remembered, by column; not a copy."""
        raise NotImplementedError

    def load(self, state: State) -> None:
        """Replace everything by columns of the schema; one that is missing is empty. Raises StateError."""
        raise NotImplementedError

    def reshaped(self, columns: State) -> State:
        """Columns of another shape as this one has them, where it knows how."""
        return columns

    def upgrade(self, version: int, columns: State) -> State | None:
        """State of an older version as this one means them; None where that cannot be told from them."""
        return None


def saved(owner: Owner) -> Saved:
    """The state of an owner, with its schema."""
    return Saved(owner.version, described(owner.schema()), owner.state())


def capture_owner(owner: Owner) -> Saved:
    """The state of an owner, with its schema; what the owner does later does not reach it."""
    found = saved(owner)
    columns = {name: captured(value) for name, value in found.columns.items()}
    return Saved(found.version, found.schema, columns)


def restore_owner(owner: Owner, found: Saved | None) -> bool:
    """Load what was saved of an owner; False where it starts afresh. Raises StateError where it must not."""
    try:
        columns = None if found is None else _fitted(owner, found)
    except StateError:
        if not owner.expendable:
            raise
        columns = None
    owner.load(columns or {})
    return columns is not None or not owner.missed


def _fitted(owner: Owner, found: Saved) -> State | None:
    """Saved columns as the owner's schema has them; None without an upgrade from their version. Raises StateError."""
    columns: State | None = found.columns
    if found.version > owner.version:
        raise StateError(
            f"has version {found.version}, this program reads up to version {owner.version}"
        )
    if found.version < owner.version:
        columns = owner.upgrade(found.version, found.columns)
    if columns is None:
        return None
    schema, columns = owner.schema(), owner.reshaped(columns)
    return {
        name: _fit(name, value, schema[name])
        for name, value in columns.items()
        if name in schema
    }


def _fit(name: str, value: Any, kind: Any) -> Any:
    """A saved value as a kind of the schema. Raises StateError."""
    if not isinstance(kind, np.ndarray):
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            raise StateError(f"its column {name} cannot be read ({error})") from error
    shown = f"its column {name} is not {_dtype_and_shape(kind)} per subject"
    if (
        not isinstance(value, np.ndarray)
        or value.shape[:-1] != kind.shape
        or value.ndim != kind.ndim + 1
    ):
        raise StateError(shown)
    if not np.can_cast(value.dtype, kind.dtype, "safe"):
        raise StateError(shown)
    return value.astype(kind.dtype, copy=False)


def described(schema: Schema) -> dict[str, str]:
    """A schema as text."""
    return {
        name: _dtype_and_shape(kind)
        if isinstance(kind, np.ndarray)
        else _type_text(kind)
        for name, kind in schema.items()
    }


def _dtype_and_shape(empty: NDArray[Any]) -> str:
    """How one subject's cell of an array is made.

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
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_type_text, get_args(kind)))}]"
    fields = (
        get_type_hints(kind)
        if hasattr(kind, "_fields") or hasattr(kind, "__struct_fields__")
        else {}
    )
    told = ", ".join(f"{name}: {_type_text(one)}" for name, one in fields.items())
    return (
        f"{kind.__name__}({told})" if fields else getattr(kind, "__name__", repr(kind))
    )


def same_length(arrays: Iterable[NDArray[Any]]) -> int:
    """For how many subjects some arrays have a cell. Raises StateError where they differ."""
    lengths = {array.shape[-1] for array in arrays}
    if len(lengths) > 1:
        raise StateError(f"its columns are of {sorted(lengths)} subjects")
    return lengths.pop() if lengths else 0


def within(what: str, values: Any, least: int, most: int) -> None:
    """Raises StateError unless all of some whole numbers lie between two, both included."""
    told = np.asarray(values)
    if told.size and not (least <= int(told.min()) and int(told.max()) <= most):
        raise StateError(f"{what} lies outside {least} to {most}")


class Attributes(Owner):
    """Attributes of something that are arrays by subject, dicts, counters or lists, each a column."""

    def __init__(self, target: object, **kinds: Any) -> None:
        self._target, self._kinds = target, kinds

    def schema(self) -> Schema:
        """The kinds by name."""
        return self._kinds

    def state(self) -> State:
        """Everything remembered; a counter as pairs."""
        values = {name: getattr(self._target, name) for name in self._kinds}
        return {
            name: list(v.items()) if isinstance(v, Counter) else v
            for name, v in values.items()
        }

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave."""
        for name, kind in self._kinds.items():
            if isinstance(kind, np.ndarray):
                setattr(
                    self._target,
                    name,
                    np.array(state.get(name, np.repeat(kind[..., None], 0, axis=-1))),
                )
                continue
            make, told = type(getattr(self._target, name)), state.get(name, ())
            setattr(
                self._target,
                name,
                make(dict(told)) if issubclass(make, dict) else make(told),
            )

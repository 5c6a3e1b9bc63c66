"""A column is declared by the annotation of its field: its form, and in any order its unit, bounds, words and text.

``u: Annotated[Phases32, Unit("V"), "Voltage of phases A, B, C"]`` says everything of a column that anything else
derives: types in memory and on the wire, JSON Schema, and the tables of docs/data-layout.md.
"""

from __future__ import annotations

from dataclasses import fields
from enum import EnumType
from sys import intern
from typing import Annotated, Any, Literal, NamedTuple, get_origin, get_type_hints

import numpy as np


class ColumnForm(NamedTuple):
    """How a column is kept: the type of its values, and its leading axis."""

    dtype: Any
    axis: Literal["", "phases", "intervals"] = ""


class Unit(NamedTuple):
    """The unit of a column by UCUM, and its side of current and voltage transformers."""

    name: str
    side: Literal["", "secondary", "primary"] = ""


def secondary(unit: str) -> Unit:
    """A unit of energy, power or current as the meter shows it."""
    return Unit(unit, "secondary")


def primary(unit: str) -> Unit:
    """A unit of energy, power or current of the customer or the transformer: secondary times CT and PT."""
    return Unit(unit, "primary")


class Plausible(NamedTuple):
    """The values that a meter can measure: up to a number or what its rating allows, negative ones if signed."""

    most: float | Literal["voltage", "current", "power", "energy"] | None = None
    signed: bool = False


class AsReported(NamedTuple):
    """A number that is no measurement, and is not validated."""


class OutsideName(NamedTuple):
    """The name of a column in records and files, where it differs."""

    name: str


class MadeOf(NamedTuple):
    """The data from which a column is computed, in words."""

    words: str


class Absence(NamedTuple):
    """A record may leave the column out; it then has this word, or this id."""

    value: str = ""


class Declaration(NamedTuple):
    """A column as its annotation declares it."""

    name: str
    form: ColumnForm
    unit: Unit
    plausible: Plausible | None  # None if it is not validated in a reading
    words: tuple[str, ...]  # by code; () if its values are not codes of words
    text: str
    outside_name: str
    absence: Absence | None

    @property
    def is_truth(self) -> bool:
        """True if its values are 1 or 0."""
        return self.form.dtype is np.uint8 and not self.words

    @property
    def required(self) -> bool:
        """True if it names something, and a row is nothing without that name."""
        names = bool(self.words) or self.form.dtype is np.int32
        return names and self.absence is None

    @property
    def description(self) -> str:
        """Its text with the side of the transformers."""
        return ", ".join(filter(None, (self.text, self.unit.side)))

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of a table that hold it: one, or one a phase."""
        if self.form.axis == "phases":
            return tuple(f"{self.outside_name}{phase}" for phase in "abc")
        return (self.outside_name,)


def declarations(kind: type) -> dict[str, Declaration]:
    """The columns of a kind of batch, by name, in order. Raises TypeError if one has no form."""
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    formless = [name for name in names if get_origin(hints[name]) is not Annotated]
    if formless:
        raise TypeError(f"{kind.__name__} does not declare a form of {formless}")
    return {name: _declaration(name, hints[name].__metadata__) for name in names}


def data_of(columns: type) -> dict[str, str]:
    """The data from which columns are computed, by the names of the columns that declare it."""
    hints = get_type_hints(columns, include_extras=True)
    return {
        name: mark.words
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, MadeOf)
    }


def _declaration(name: str, marks: tuple[Any, ...]) -> Declaration:
    """The declaration by the marks of an annotation; of two of one type the later counts."""
    by_type: dict[type, Any] = {type(mark): mark for mark in marks}
    codes = by_type.get(EnumType, ())
    form = by_type[ColumnForm]
    is_measured = np.dtype(form.dtype).kind == "f" and AsReported not in by_type
    return Declaration(
        name=name,
        form=form,
        unit=by_type.get(Unit, Unit("")),
        plausible=by_type.get(Plausible, Plausible()) if is_measured else None,
        words=tuple(intern(code.name.lower()) for code in codes),
        text=by_type.get(str, ""),
        outside_name=by_type.get(OutsideName, OutsideName(name)).name,
        absence=by_type.get(Absence),
    )

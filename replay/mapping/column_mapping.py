"""A mapping as it is checked: where the data is, and from what each column of the project is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from fractions import Fraction
from typing import NamedTuple

from replay.mapping.expressions import ColumnPath, Expression
from schemas.columns import Batch, Readings
from schemas.events import System

NO_WORDS: Mapping[str, str] = {}


class MappedColumn(NamedTuple):
    """A column of the project: an expression of columns of others, or a constant."""

    expression: Expression | None
    value: str = ""  # the constant
    factor: Fraction = Fraction(1)  # of the expression's unit
    words: Mapping[str, str] = NO_WORDS  # theirs to the project's
    system: System | None = None  # whose codes of events it has

    @property
    def is_computed(self) -> bool:
        """True if its values are numbers that are computed."""
        return self.expression is not None and (
            self.factor != 1 or not self.expression.is_path
        )


class PhaseRows(NamedTuple):
    """A row is of one phase: which column says so, and the place of each of its words among A, B and C."""

    expression: Expression
    places: Mapping[str, int]


class ColumnMapping(NamedTuple):
    """Where rows of others are, and how they become rows of a kind."""

    name: str  # of the file that says so
    columns: Mapping[str, MappedColumn]  # by the project's name
    kind: type[Batch] = Readings
    topic: str = ""
    files: str = ""  # a pattern, beside the mapping
    format: str = ""
    area_from_registry: bool = False  # by meter or customer
    registry: str = ""  # a file of areas, beside the mapping
    schema_registry: str = ""  # its address
    zone_name: str = ""
    zone: tzinfo = UTC  # of times that name none
    rows: ColumnPath = ()  # where the rows of a record stand in it
    phases: PhaseRows | None = None

    @property
    def paths(self) -> dict[str, ColumnPath]:
        """All paths that are read, by their text."""
        read = [column.expression for column in self.columns.values()]
        if self.phases:
            read.append(self.phases.expression)
        found: dict[str, ColumnPath] = {}
        for expression in filter(None, read):
            found |= expression.paths
        return found

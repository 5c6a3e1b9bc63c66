"""A mapping as it is checked: where the data is, and from what each column of the project is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from fractions import Fraction
from typing import NamedTuple

from replay.formats.readings import MeterRecords
from replay.mapping.cells import header_of
from replay.mapping.expressions import ColumnPath, Expression
from replay.moments import Order
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
    others: Sequence[Expression] = ()  # names that a table may have instead

    @property
    def is_computed(self) -> bool:
        """True if its values are numbers that are computed."""
        return self.expression is not None and (
            self.factor != 1 or not self.expression.is_path
        )

    @property
    def path(self) -> str:
        """The text of its only path, "" if it is a constant."""
        return self.expression.path if self.expression else ""


class PhaseRows(NamedTuple):
    """A row is of one phase: which column says so, and the place of each of its words among A, B and C."""

    expression: Expression
    places: Mapping[str, int]


class RowTime(NamedTuple):
    """How the time of a row is said, beside its column `at`."""

    clock: Expression | None = None  # the hour, if `at` is only the day
    plus: int = 0  # seconds until the end of the interval
    dates: Order = ""  # which comes first; "" if that is to be found
    zone: tzinfo = UTC  # of times that name none


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
    zone_name: str = ""  # in which days end
    time: RowTime = RowTime()
    rows: ColumnPath = ()  # where the rows of a record stand in it
    phases: PhaseRows | None = None
    cell: str = ""  # the name of the cells of columns that are times of the day
    empty: Sequence[str] = ()  # words that say that nothing is known
    needed: Sequence[str] = ()  # a row has one of these columns of the project
    meters: MeterRecords | None = None

    @property
    def paths(self) -> dict[str, ColumnPath]:
        """All paths that are read, by their text."""
        read = [column.expression for column in self.columns.values()]
        if self.phases:
            read.append(self.phases.expression)
        found: dict[str, ColumnPath] = {}
        for expression in filter(None, [*read, self.time.clock]):
            found |= expression.paths
        found.pop(self.cell, None)
        return found

    def paths_in(self, header: Sequence[str]) -> dict[str, ColumnPath]:
        """The same for a table; of a column's other names, the first that the table has."""
        found = self.paths
        for column in self.columns.values():
            for other in column.others:
                if header_of(found[column.path], header):
                    break
                found[column.path] = other.paths[other.path]
        return found

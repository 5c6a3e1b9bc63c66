"""A curve shows an alert: the values near it that its rule judged, and the lines it was judged by.

It is its signature, as a rule is. Positional parameters name columns of the rows near the alert, and master data as of
the alert; keyword-only parameters name settings of the alert's rule, as they are in force for its subject. It returns
series and limit lines by their names, whose Chinese is in `names.py`. Alerts of the office are shown by a timeline
instead: a function of rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from models.master.records import AREA_COLUMNS, METER_COLUMNS
from models.signature import signature_of
from schemas.columns import AreaDays, Batch, Column, Days, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NO_LINES: Mapping[str, float] = MappingProxyType({})


class Near(NamedTuple):
    """How far from an alert a curve reaches."""

    before: float  # seconds before the trouble began
    after: float  # seconds after the alert was raised


NEAR_READINGS = Near(18 * HOUR_SECONDS, 12 * HOUR_SECONDS)
NEAR_DAYS = Near(14 * DAY_SECONDS, 5 * DAY_SECONDS)
ALL_DAYS = Near(np.inf, np.inf)
DRAWN_COLUMNS: Mapping[type[Batch], frozenset[str]] = {
    Readings: frozenset(column.name for column in fields(Readings)),
    Days: frozenset({"kwh", "reads"}),
    AreaDays: frozenset({"energy_in", "energy_out"}),
}
"""By kind of rows, the columns that a curve may read."""
MASTER_COLUMNS = frozenset({*METER_COLUMNS, *AREA_COLUMNS})


class Drawn(NamedTuple):
    """The series of a curve and its limit lines, by their names; a single series has none."""

    series: Mapping[str, Column]
    lines: Mapping[str, float] = NO_LINES


@dataclass(frozen=True)
class Curve:
    """The values near an alert that show it, made from the function `draw`."""

    name: str
    kind: type[Batch]  # of the rows near the alert
    unit: str
    near: Near
    draw: Callable[..., Drawn]
    reads: tuple[str, ...]
    settings: tuple[str, ...]  # of the rule

    def drawn(self, columns: Mapping[str, Any], settings: Mapping[str, float]) -> Drawn:
        """The series and lines for rows and master data, by the settings in force."""
        arguments = [columns[name] for name in self.reads]
        in_force = {name: settings[name] for name in self.settings}
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.draw(*arguments, **in_force)


def curve(
    kind: type[Batch], unit: str, *, near: Near = NEAR_READINGS
) -> Callable[[Callable[..., Drawn]], Curve]:
    """Make the decorated function a curve of rows of a kind.

    Raises ValueError for a column that no such row has, and for a setting with a value of its own.
    """

    def declare(draw: Callable[..., Drawn]) -> Curve:
        reads, optional_reads, settings = signature_of(draw)
        unset = inspect.Parameter.empty
        given = [name for name, value in settings.items() if value is not unset]
        if own := [*optional_reads, *given]:
            raise ValueError(f"{draw.__name__}: {own[0]} is the rule's")

        unknown = {*reads} - DRAWN_COLUMNS[kind] - MASTER_COLUMNS
        if unknown:
            names = ", ".join(sorted(unknown))
            raise ValueError(f"{draw.__name__}: {kind.kind} have no column {names}")
        return Curve(draw.__name__, kind, unit, near, draw, reads, tuple(settings))

    return declare


class TimelineSpan(NamedTuple):
    """A stage or a bill: how long it lasted, and how long it was allowed to."""

    name: str
    start: int
    end: int  # 0 while it lasts
    limit: int = 0  # when it should have ended, 0 if nothing says so


class TimelineMark(NamedTuple):
    """A payment, refund or the like."""

    at: int
    name: str
    succeeded: bool


@dataclass(frozen=True)
class TimelineChart:
    """The spans and marks of a work item, a bill or a payment channel."""

    spans: Sequence[TimelineSpan] = ()
    marks: Sequence[TimelineMark] = ()


@dataclass(frozen=True)
class OfficeTimeline:
    """The rows of an area or section that show an alert: `draw` takes them and the alert's subject."""

    name: str
    kind: type[Batch]
    draw: Callable[[Any, str], TimelineChart]


def timeline(
    kind: type[Batch],
) -> Callable[[Callable[[Any, str], TimelineChart]], OfficeTimeline]:
    """Make the decorated function a timeline of rows of a kind."""

    def declare(draw: Callable[[Any, str], TimelineChart]) -> OfficeTimeline:
        return OfficeTimeline(draw.__name__, kind, draw)

    return declare

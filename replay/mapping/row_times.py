"""The time of each row, where its cell alone does not say it; and columns that are times of the day as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from replay.clocks import (
    has_one_offset,
    header_clocks,
    in_second_hours,
    in_zone,
    near_changes,
)
from replay.history import SourceError, Tally
from replay.mapping.column_mapping import ColumnMapping
from replay.moments import Order, bounded, clock_seconds
from replay.tables import Sheet
from schemas.columns import Codes, Readings
from schemas.units import DAY_SECONDS

CLOCK_COLUMN = " clock"  # of rows that were columns, a name that no path has
LOOKED_AT = 100  # rows that show whether times name a zone
OTHER_ZONE = timezone(timedelta(minutes=7))  # that nobody lives in


def moments_of(theirs: Sheet, mapping: ColumnMapping) -> NDArray[np.float64] | None:
    """Unix seconds at which each row ends, NaN where there is no such time; None if its cell says them."""
    time = mapping.time
    name = mapping.columns["at"].path
    made = bool(time.clock or mapping.cell or time.plus)
    if not name or (has_one_offset(time.zone) and not made):
        return None

    if time.clock or mapping.cell:
        found = in_zone(_clocks(theirs, mapping, name), time.zone)
    else:
        found = theirs.moments(name, time.zone)
    found = bounded(found)
    if not (theirs.alone or has_one_offset(time.zone)) and mapping.kind is Readings:
        found = _in_order(theirs, mapping, found)
    return found + time.plus


def lack_zone(theirs: Sheet, name: str) -> bool:
    """True if the first times of a column name no zone, also where the day or the month may come first."""
    first = _quiet(theirs.of(theirs.table.slice(0, LOOKED_AT)), name)
    orders: Sequence[Order] = [theirs.dates] if theirs.dates else ["day", "month"]
    for order in orders:
        first.dates = order
        seconds = first.moments(name, UTC)
        if (np.isfinite(seconds) & ~_names_zone(first, name, seconds)).any():
            return True
    return False


def has_either_dates(theirs: Sheet, name: str) -> bool:
    """True if dates of a column may have the day or the month first."""
    read = _quiet(theirs, name)
    read.moments(name, UTC)
    return name in read.unclear


def zone_notes(theirs: Sheet, mapping: ColumnMapping) -> list[str]:
    """A sentence if neither the times of a sheet nor its mapping name a zone."""
    at = mapping.columns["at"].path
    # a zone that is named is another object
    if not at or mapping.time.zone is not UTC or not lack_zone(theirs, at):
        return []
    advice = 'unless the mapping says zone = "..."'
    return [f"{theirs.name}: times name no zone and are read as UTC, {advice}"]


def clock_columns(header: Sequence[str], name: str) -> dict[str, int]:
    """The seconds after midnight of each column that is a time of the day. Raises SourceError without any.

    00:00 behind other times is the end of the day.

    >>> clock_columns(["meter", "12:00", "00:00"], "")
    {'12:00': 43200, '00:00': 86400}
    """
    found = header_clocks(header)
    if not found:
        raise SourceError(f"{name} has no column that is a time of the day")
    first = next(iter(found))
    return {
        column: seconds or (0 if column == first else DAY_SECONDS)
        for column, seconds in found.items()
    }


def rows_of_clocks(theirs: Sheet, seconds: Mapping[str, int], cell: str) -> Sheet:
    """A row for each cell of the columns of times that holds something. Raises SourceError."""
    columns = [pa.table({cell: theirs.table[name]}) for name in seconds]
    try:
        cells = pa.concat_tables(columns, promote_options="permissive")[cell]
    except pa.ArrowException as error:
        raise SourceError(
            f"{theirs.name}: columns of times hold different things: {error}"
        ) from None

    filled = np.flatnonzero(cells.is_valid())
    clock, row = np.divmod(filled, len(theirs))
    rows = pa.array(row)
    table = {cell: cells.combine_chunks().take(pa.array(filled))}
    for name in theirs.table.column_names:
        if name in seconds:
            continue
        column = theirs.table[name]
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
        table[name] = column.combine_chunks().take(rows)
    table[CLOCK_COLUMN] = pa.array(np.array(list(seconds.values()))[clock])
    return theirs.of(pa.table(table), row)


def _clocks(theirs: Sheet, mapping: ColumnMapping, name: str) -> NDArray[np.float64]:
    """What clocks show at each row, as seconds since 1970: a day and an hour."""
    zone = mapping.time.zone
    clocks = bounded(theirs.moments(name, UTC))
    named = _names_zone(theirs, name, clocks)
    days, place = np.unique(clocks[named], return_inverse=True)
    shown = [_local_clock(day, zone) for day in days.tolist()]
    clocks[named] = np.array(shown, np.float64)[place]
    midnights = np.where(clocks % DAY_SECONDS == 0, clocks, np.nan)

    if mapping.time.clock is None:
        return midnights + theirs.table[CLOCK_COLUMN].to_numpy()
    words, numbers = theirs.words(mapping.time.clock.path)
    hours = [clock_seconds(together) for together in theirs.read_together(words)]
    return midnights + np.concatenate([*hours, [np.nan]])[numbers]


def _names_zone(
    theirs: Sheet, name: str, seconds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The rows whose cell names its zone, or counts seconds: it is the same time in any zone."""
    elsewhere = _quiet(theirs, name).moments(name, OTHER_ZONE)
    return np.asarray(elsewhere == seconds)


def _local_clock(at: float, zone: tzinfo) -> float:
    """What the clocks of a zone show, as seconds since 1970."""
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return at + (offset.total_seconds() if offset else 0)


def _in_order(
    theirs: Sheet, mapping: ColumnMapping, found: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The times; of two rows of a meter and phase in an hour that comes twice, the second is in the second."""
    rows = near_changes(found, mapping.time.zone)
    if not len(rows):
        return found
    near = theirs.of(theirs.table.take(pa.array(rows)))
    keys = [mapping.columns["meter"].path]
    if mapping.phases:
        keys.append(mapping.phases.expression.path)
    codes: Codes = np.zeros(len(rows), np.int32)
    for key in filter(None, keys):
        words, numbers = near.words(key)
        codes = codes * (len(words) + 1) + numbers + 1

    ordered = in_second_hours(codes, found[rows], mapping.time.zone)
    named = _names_zone(near, mapping.columns["at"].path, found[rows])
    moved = found.copy()
    moved[rows] = np.where(named, found[rows], ordered)
    return moved


def _quiet(theirs: Sheet, name: str) -> Sheet:
    """A column of a sheet that is read once more, so that nothing is noted twice."""
    cells = theirs.table.select([name])
    return Sheet(cells, theirs.name, Tally(), dates=theirs.dates, alone=theirs.alone)

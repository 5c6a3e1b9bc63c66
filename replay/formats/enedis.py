"""A load curve as Enedis gives it to customers in France: mean power until each time, of one delivery point or more.

The delivery point and the unit stand in each row, or above the header. A power holds for the time since the row before
it, or until the row after where that is less; where hours occur twice, the second is the later one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from replay import tables
from replay.clocks import in_second_hours
from replay.formats.readings import (
    KW_PER_UNIT,
    KWH_PER_UNIT,
    NO_FLOW_BACK,
    MeterRows,
    history,
)
from replay.history import Names, Source, SourceError, Tally
from replay.moments import bounded, within
from schemas.columns import Codes, Mask, Times
from schemas.units import HOUR_SECONDS

UN_V = 230.0
AREA_NAME = "Enedis"
FRANCE_ZONE = ZoneInfo("Europe/Paris")
TIME_COLUMN = "horodate"
VALUE_COLUMN = "valeur"
POINT_COLUMN = "identifiant prm"
UNIT_COLUMN = "unite"
BUSINESS_COLUMN = "grandeur metier"
PLAIN_LETTERS = str.maketrans("éèêàç", "eeeac")
STEP_SECONDS = (300, 600, 900, 1800, 3600)  # seconds that a power may hold


def recognises(columns: Collection[str]) -> bool:
    """True if the columns are a load curve's."""
    return {TIME_COLUMN, VALUE_COLUMN} <= set(map(_plain, columns))


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The load curves of all files as one history of readings."""
    seen = Names()
    meter_rows = [_file_rows(path, seen, tally) for path in paths]
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        str(FRANCE_ZONE),
        meter_rows,
        tally,
        un_v=UN_V,
    )


def _file_rows(path: tables.File, seen: Names, tally: Tally) -> MeterRows:
    """The rows of a file that have a delivery point, a time, a unit and a value."""
    above = _above(path)
    names = _spelling(path, above)
    sheet = tables.read(path, list(filter(None, names.values())), tally)
    when = names[TIME_COLUMN]
    value = names[VALUE_COLUMN]
    unit = names[UNIT_COLUMN]
    produced = _is_produced(sheet, names[BUSINESS_COLUMN], above)
    who = _points(sheet, names[POINT_COLUMN], above, seen)
    at, timed = within(
        in_second_hours(who, bounded(sheet.moments(when, FRANCE_ZONE)), FRANCE_ZONE)
    )
    values = sheet.numbers(value).astype(np.float64)

    durations = _durations(who, at, timed & (who >= 0) & ~produced)
    factor, no_unit = _factors(sheet, unit, above, durations)
    keep = sheet.keep(
        *sheet.id_faults(names[POINT_COLUMN] or POINT_COLUMN, who),
        (~timed, sheet.no_time(when), when),
        (produced, NO_FLOW_BACK, names[BUSINESS_COLUMN]),
        (no_unit, "the unit is none of power or energy", unit),
        (np.isnan(values), f"{value} is missing", value),
    )
    values *= factor
    return MeterRows(who[keep], at[keep], {"kwh": values[keep]})


def _points(
    sheet: tables.Sheet, column: str, above: Mapping[str, str], seen: Names
) -> Codes:
    """The number of each row's delivery point, which may stand above the header."""
    if column:
        return sheet.ids(column, seen)
    return np.repeat(seen.numbers([above[POINT_COLUMN]]), len(sheet))


def _spelling(path: tables.File, above: Mapping[str, str]) -> dict[str, str]:
    """The file's spelling of each column, "" where the column is missing.

    Raises SourceError if the delivery point or the unit is neither a column nor above the header.
    """
    spelt = {_plain(name): name for name in tables.columns(path)}
    names = {TIME_COLUMN: spelt[TIME_COLUMN], VALUE_COLUMN: spelt[VALUE_COLUMN]}
    for name in (POINT_COLUMN, UNIT_COLUMN, BUSINESS_COLUMN):
        names[name] = spelt.get(name, "")

    for name, meaning in (
        (POINT_COLUMN, "the delivery point"),
        (UNIT_COLUMN, "the unit (W)"),
    ):
        if not names[name] and not above.get(name):
            raise SourceError(
                f"{path} is a load curve that does not name {meaning}: add a column {name.capitalize()}"
            )
    return names


def _is_produced(sheet: tables.Sheet, column: str, above: Mapping[str, str]) -> Mask:
    """The rows of energy that flows back."""
    words = _words(sheet, column, above.get(BUSINESS_COLUMN, ""))
    return np.array([word.upper().startswith("PROD") for word in words], np.bool_)


def _factors(
    sheet: tables.Sheet,
    column: str,
    above: Mapping[str, str],
    durations: NDArray[np.float64],
) -> tuple[NDArray[np.float64], Mask]:
    """The factor to kWh of each row, and the rows whose unit is none."""
    units = _words(sheet, column, above.get(UNIT_COLUMN, ""))
    names = [unit.lower() for unit in units]
    power = np.array([KW_PER_UNIT.get(name, np.nan) for name in names])
    energy = np.array([KWH_PER_UNIT.get(name, np.nan) for name in names])
    by_power = power * durations / HOUR_SECONDS
    factor = np.where(np.isnan(energy), by_power, energy)
    return factor, np.isnan(power) & np.isnan(energy)


def _above(path: tables.File) -> dict[str, str]:
    """The names of a row above the header, each with the text below it."""
    rows = path.above if isinstance(path, tables.EmbeddedTable) else ()
    named: dict[str, str] = {}
    for names, values in pairwise(rows):
        if any(_plain(name) == POINT_COLUMN for name in names):
            named |= dict(zip(map(_plain, names), values, strict=False))
    return named


def _plain(name: str) -> str:
    """A name in small letters without accents."""
    return name.lower().translate(PLAIN_LETTERS)


def _words(sheet: tables.Sheet, column: str, usual: str) -> list[str]:
    """The text of each row; the usual one where there is no column."""
    if not column:
        return [usual] * len(sheet)
    words, cells = sheet.words(column)
    return [[*words, ""][cell].strip() for cell in cells.tolist()]


def _durations(who: Codes, at: Times, rows: Mask) -> NDArray[np.float64]:
    """The seconds for which the power of some rows holds; NaN for the others.

    It is the lesser of the times since the row before and until the row after, so that a hole does not count.
    """
    order = np.flatnonzero(rows)[np.lexsort((at[rows], who[rows]))]
    same = np.diff(who[order]) == 0
    gap = np.where(same, np.diff(at[order]), 0)
    usual = gap[np.isin(gap, STEP_SECONDS)]
    step = float(np.median(usual)) if len(usual) else np.nan

    between = np.where(np.isin(gap, STEP_SECONDS), gap, np.inf)
    before = np.append(np.inf, between)
    after = np.append(between, np.inf)
    least = np.minimum(before, after)[: len(order)]
    durations = np.full(len(rows), np.nan)
    durations[order] = np.where(np.isfinite(least), least, step)
    return durations

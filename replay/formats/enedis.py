"""A load curve as Enedis gives it to customers in France: mean power until each time, of one delivery point or more.

The delivery point and the unit stand in each row, or above the header. A power holds for the time since the row before
it, or until the row after where that is less; where hours occur twice, the second is the later one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from replay import tables
from replay.formats.readings import (
    KW_PER_UNIT,
    KWH_PER_UNIT,
    NO_FLOW_BACK,
    MeterRows,
    history,
)
from replay.history import Names, Source, SourceError, Tally
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Codes, Mask
from schemas.units import HOUR_SECONDS

UN_V = 230.0
AREA_NAME = "Enedis"
FRANCE_ZONE = "Europe/Paris"
TIME_COLUMN, VALUE_COLUMN, POINT_COLUMN, UNIT_COLUMN, BUSINESS_COLUMN = (
    "horodate",
    "valeur",
    "identifiant prm",
    "unite",
    "grandeur metier",
)
PLAIN_LETTERS = str.maketrans("éèêàç", "eeeac")
STEP_SECONDS = (300, 600, 900, 1800, 3600)  # seconds that a power may hold


def recognises(columns: Collection[str]) -> bool:
    """Whether the columns are a load curve's."""
    return {TIME_COLUMN, VALUE_COLUMN} <= set(map(_plain, columns))


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The load curves of all files as one history of readings."""
    seen = Names()
    parts = [_file_rows(path, seen, tally) for path in paths]
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        FRANCE_ZONE,
        parts,
        tally,
        un_v=UN_V,
    )


def _file_rows(path: tables.File, seen: Names, tally: Tally) -> MeterRows:
    told = _above(path)
    spelt = {_plain(name): name for name in tables.columns(path)}
    when, value = spelt[TIME_COLUMN], spelt[VALUE_COLUMN]
    others = {
        name: spelt.get(name, "")
        for name in (POINT_COLUMN, UNIT_COLUMN, BUSINESS_COLUMN)
    }
    for name, way in (
        (POINT_COLUMN, "the delivery point"),
        (UNIT_COLUMN, "the unit (W)"),
    ):
        if not others[name] and not told.get(name):
            raise SourceError(
                f"{path} is a load curve that does not tell {way}: add a column {name.capitalize()}"
            )
    sheet = tables.read(path, [when, value, *filter(None, others.values())], tally)
    units, business = (
        _words(sheet, others[name], told.get(name, ""))
        for name in (UNIT_COLUMN, BUSINESS_COLUMN)
    )
    who = (
        sheet.ids(others[POINT_COLUMN], seen)
        if others[POINT_COLUMN]
        else np.repeat(seen.numbers([told[POINT_COLUMN]]), len(sheet))
    )
    at = _second_hours(who, sheet.moments(when, ZoneInfo(FRANCE_ZONE)))
    values = sheet.numbers(value).astype(np.float64)
    power = np.array([KW_PER_UNIT.get(unit.lower(), np.nan) for unit in units])
    energy = np.array([KWH_PER_UNIT.get(unit.lower(), np.nan) for unit in units])
    produced = np.array(
        [word.upper().startswith("PROD") for word in business], np.bool_
    )
    timed = (at >= EARLIEST_TIME) & (at < LATEST_TIME)
    held = _durations(who, at, timed & (who >= 0) & ~produced)
    keep = sheet.keep(
        *sheet.id_faults(others[POINT_COLUMN] or POINT_COLUMN, who),
        (~timed, sheet.no_time(when), when),
        (produced, NO_FLOW_BACK, others[BUSINESS_COLUMN]),
        (
            np.isnan(power) & np.isnan(energy),
            "the unit is none of power or energy",
            others[UNIT_COLUMN],
        ),
        (np.isnan(values), f"{value} is missing", value),
    )
    factor = np.where(np.isnan(energy), power * held / HOUR_SECONDS, energy)
    return MeterRows(
        who[keep], at[keep].astype(np.int64), {"kwh": (values * factor)[keep]}
    )


def _above(path: tables.File) -> dict[str, str]:
    """What a row above the header names, and the row below that tells."""
    rows = path.above if isinstance(path, tables.EmbeddedTable) else ()
    told: dict[str, str] = {}
    for names, values in pairwise(rows):
        if any(_plain(name) == POINT_COLUMN for name in names):
            told |= dict(zip(map(_plain, names), values, strict=False))
    return told


def _plain(name: str) -> str:
    return name.lower().translate(PLAIN_LETTERS)


def _words(sheet: tables.Sheet, column: str, usual: str) -> list[str]:
    if not column:
        return [usual] * len(sheet)
    words, cells = sheet.words(column)
    return [[*words, ""][cell].strip() for cell in cells.tolist()]


def _second_hours(who: Codes, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The times, of which a meter's that come again are an hour later where the clocks were put back."""
    order = np.lexsort((np.arange(len(at)), at, who))
    again = np.zeros(len(at), np.bool_)
    again[order[1:]] = (np.diff(at[order]) == 0) & (np.diff(who[order]) == 0)
    moved = at.copy()
    for row in np.flatnonzero(again):
        moved[row] += HOUR_SECONDS if _is_twice(at[row]) else 0
    return moved


def _is_twice(at: float) -> bool:
    """Whether the hour on the clock comes again."""
    now, later = (
        datetime.fromtimestamp(at + ahead, ZoneInfo(FRANCE_ZONE))
        for ahead in (0, HOUR_SECONDS)
    )
    return now.utcoffset() != later.utcoffset()


def _durations(who: Codes, at: NDArray[np.float64], rows: Mask) -> NDArray[np.float64]:
    """For how many seconds the power of some rows held; NaN for the others.

    It is the lesser of the times since the row before and until the row after, so that a hole does not count.
    """
    order = np.flatnonzero(rows)[np.lexsort((at[rows], who[rows]))]
    same = np.diff(who[order]) == 0
    gap = np.where(same, np.diff(at[order]), 0)
    usual = gap[np.isin(gap, STEP_SECONDS)]
    step = float(np.median(usual)) if len(usual) else np.nan
    between = np.where(np.isin(gap, STEP_SECONDS), gap, np.inf)
    least = np.minimum(np.append(np.inf, between), np.append(between, np.inf))[
        : len(order)
    ]
    held = np.full(len(rows), np.nan)
    held[order] = np.where(np.isfinite(least), least, step)
    return held

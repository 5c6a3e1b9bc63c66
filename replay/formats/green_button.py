"""Green Button's spreadsheet, North America's CSV of a customer's energy.

It has days and hours of the customer's clock and names no zone: its days are taken as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay import tables
from replay.formats.readings import (
    KWH_PER_UNIT,
    NO_FLOW_BACK,
    MeterRows,
    history,
)
from replay.history import Names, Source, SourceError, Tally
from replay.moments import within
from schemas.columns import Mask
from schemas.units import DAY_SECONDS

UN_V = 240.0  # between the two lines of a house
AREA_NAME = "Green Button"
CSV_COLUMNS = ("type", "date", "start time", "end time")
USAGE_COLUMN = re.compile(r"(?:usage|import)(?: \((\w+)\))?", re.IGNORECASE)
EXPORT_COLUMN = re.compile(r"export(?: \(\w+\))?", re.IGNORECASE)
ACCOUNT_LABEL = re.compile(r"account(?: number)?:?", re.IGNORECASE)
SLASH_DATE = r"^\s*(\d{1,2})/(\d{1,2})/(\d{4})\s*$"  # month first
ELECTRIC_KIND = re.compile(r"electric", re.IGNORECASE)
OWN_CLOCK = "times name no zone: days are those of the file's own clock"


def recognises_csv(columns: Collection[str]) -> bool:
    """True if the columns are the spreadsheet's."""
    return set(CSV_COLUMNS) <= {name.lower() for name in columns} and any(
        map(USAGE_COLUMN.fullmatch, columns)
    )


def open_csv(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The spreadsheets as one history of readings."""
    seen = Names()
    meter_rows = [_spreadsheet(path, seen, tally) for path in paths]
    tally.notes.append(f"Green Button: {OWN_CLOCK}")
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        "UTC",
        meter_rows,
        tally,
        un_v=UN_V,
    )


def _spreadsheet(path: tables.File, seen: Names, tally: Tally) -> MeterRows:
    """The electric rows of a spreadsheet that have an end, a unit of energy and a value."""
    header = tables.columns(path)
    spelt = {name.lower(): name for name in header}
    kind, date, start, end = (spelt[name] for name in CSV_COLUMNS)
    usage, unit = _usage(header)
    units = spelt.get("units", "")
    if not unit and not units:
        raise SourceError(
            f"{path} is Green Button and names no unit: call its column USAGE (kWh)"
        )
    _note_export(header, path, tally)
    sheet = tables.read(
        path, list(filter(None, (kind, date, start, end, usage, units))), tally
    )
    sheet = _with_dates(sheet, date, (start, end))

    at, timed = within(_ends(sheet, start, end))
    factor = _factors(sheet, units, unit)
    kwh = sheet.numbers(usage).astype(np.float64) * factor
    keep = sheet.keep(
        (~_is_electric(sheet, kind), f"{kind} is no electric usage", kind),
        (~timed, sheet.no_time(end), end),
        (np.isnan(factor), "the unit is none of energy", units or kind),
        (np.isnan(kwh), f"{usage} is missing", usage),
    )
    return MeterRows(
        np.repeat(seen.numbers([_account(path)]), keep.sum()),
        at[keep],
        {"kwh": kwh[keep]},
    )


def _usage(header: Sequence[str]) -> tuple[str, str]:
    """The first column of usage, and its unit; "" if it names none."""
    found = filter(None, map(USAGE_COLUMN.fullmatch, header))
    column = next(found)
    return column[0], column[1] or ""


def _note_export(header: Sequence[str], path: tables.File, tally: Tally) -> None:
    """Note a column of energy that flows back: it is not read."""
    if exported := next(filter(EXPORT_COLUMN.fullmatch, header), ""):
        tally.notes.append(f"{path.name}: {exported} is left out: {NO_FLOW_BACK}")


def _with_dates(sheet: tables.Sheet, date: str, names: Sequence[str]) -> tables.Sheet:
    """The same rows, with the date before the hours of some columns."""
    days = sheet.table[date].cast(pa.string())
    dates = pc.replace_substring_regex(days, SLASH_DATE, r"\3-\1-\2")
    for name in names:
        hours = sheet.table[name].cast(pa.string())
        when = pc.binary_join_element_wise(dates, hours, " ")
        number = sheet.table.column_names.index(name)
        table = sheet.table.set_column(number, name, when)
        sheet = tables.Sheet(table, sheet.name, sheet.tally)
    return sheet


def _ends(sheet: tables.Sheet, start: str, end: str) -> NDArray[np.float64]:
    """Unix seconds of each interval's end; an end before its start is on the next day."""
    began = sheet.moments(start, UTC)
    ended = sheet.moments(end, UTC)
    ended = np.where(ended < began, ended + DAY_SECONDS, ended)
    # 00:00 to 00:14 is until 00:15
    lacks_minute = (ended - began) % 300 == 240
    return ended + np.where(lacks_minute, 60, 0)


def _is_electric(sheet: tables.Sheet, column: str) -> Mask:
    """The rows whose kind is electric."""
    words = _words(sheet, column)
    return np.array(
        [ELECTRIC_KIND.search(word) is not None for word in words], np.bool_
    )


def _factors(sheet: tables.Sheet, column: str, unit: str) -> NDArray[np.float64]:
    """The factor to kWh of each row, by its unit, or by one unit if there is no column of units."""
    words = _words(sheet, column) if column else [unit] * len(sheet)
    return np.array(
        [KWH_PER_UNIT.get(word.strip().lower(), np.nan) for word in words], np.float64
    )


def _words(sheet: tables.Sheet, column: str) -> list[str]:
    """The text of each row."""
    words, cells = sheet.words(column)
    return [[*words, ""][cell] for cell in cells.tolist()]


def _account(path: tables.File) -> str:
    """The account that stands above the header, else the file's name."""
    for row in path.above if isinstance(path, tables.EmbeddedTable) else ():
        if len(row) > 1 and ACCOUNT_LABEL.fullmatch(row[0]) and row[1]:
            return row[1]
    return Path(path.name).stem

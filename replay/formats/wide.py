"""Tables that are wide: a row per meter and day with a column per time, or a column per meter with its unit.

A table without a unit is not read: the unit would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from replay import tables
from replay.clocks import header_clocks
from replay.formats.readings import KW_PER_UNIT, KWH_PER_UNIT, MeterRows, history
from replay.history import Names, Source, SourceError, Tally
from schemas.columns import Times
from schemas.units import DAY_SECONDS

AREA_NAME = "wide"
METER_COLUMNS = (
    "meter",
    "meter_id",
    "meterid",
    "meter_no",
    "meter_number",
    "serial",
    "serial_number",
    "nmi",
    "mpan",
    "mprn",
    "prm",
    "pod",
    "cups",
    "ean",
)
DAY_COLUMNS = (
    "day",
    "date",
    "reading_date",
    "read_date",
    "interval_date",
    "settlement_date",
)
TIME_COLUMNS = (
    "at",
    "time",
    "timestamp",
    "datetime",
    "date_time",
    "date",
    "local_time",
    "utc",
    "",
)
OF_METER = re.compile(r"(.+?)\s*[\[(_ ]\s*(kwh|wh|mwh|kw|w)\s*[\])]?", re.IGNORECASE)
FEWEST_TIMES = 12  # times of a day that make it wide


def recognises_days(columns: Collection[str]) -> bool:
    """True if there is a row per day: most columns are times, and a column is a day."""
    return (
        len(header_clocks(columns)) >= FEWEST_TIMES
        and _named(columns, DAY_COLUMNS) != ""
    )


def recognises_meters(columns: Collection[str]) -> bool:
    """True if there is a column per meter: the first is a time, each other an id with its unit."""
    first, *others = [*columns, ""]
    named = list(filter(None, others))
    return (
        first.lower() in TIME_COLUMNS
        and bool(named)
        and all(map(OF_METER.fullmatch, named))
    )


def open_days(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The rows of days of all files as one history of readings."""
    seen = Names()
    meter_rows: list[MeterRows] = []
    for path in paths:
        meter_rows += _days(path, seen, tally)
    tally.notes.append("times name no zone: days are those of the file's own clock")
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        "UTC",
        meter_rows,
        tally,
    )


def open_meters(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The columns of meters of all files as one history of readings."""
    seen = Names()
    meter_rows: list[MeterRows] = []
    for path in paths:
        meter_rows += _columns(path, seen, tally)
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        "UTC",
        meter_rows,
        tally,
    )


def _columns(path: tables.File, seen: Names, tally: Tally) -> Iterator[MeterRows]:
    """The rows of each meter of a file that has a column per meter."""
    first, *others = tables.columns(path)
    sheet = tables.read(path, [first, *filter(None, others)], tally)
    at, timed = sheet.times(first)
    keep = sheet.keep((~timed, sheet.no_time(first), first))
    step = _step(at[keep])

    for name in filter(None, others):
        if found := OF_METER.fullmatch(name):
            values = sheet.numbers(name).astype(np.float64)
            kwh = values * _factor(found[2], step)
            there = keep & np.isfinite(kwh)
            number = seen.numbers([found[1].strip()])[0]
            who = np.full(there.sum(), number, np.int32)
            yield MeterRows(who, at[there], {"kwh": kwh[there]})


def _days(path: tables.File, seen: Names, tally: Tally) -> Iterator[MeterRows]:
    """The rows of each time of a file that has a row per meter and day."""
    header = tables.columns(path)
    meter, day, unit = _needed(header, path)
    clocks = header_clocks(header)
    seconds = _ends(list(clocks.values()), path)
    sheet = tables.read(path, [meter, day, unit, *clocks], tally)
    who = sheet.ids(meter, seen)
    midnight, timed = sheet.times(day)

    factor = _factors(sheet, unit, seconds[1] - seconds[0])
    keep = sheet.keep(
        *sheet.id_faults(meter, who),
        (~timed, sheet.no_time(day), day),
        (np.isnan(factor), "the unit is none of power or energy", unit),
    )
    for name, ended in zip(clocks, seconds, strict=True):
        kwh = sheet.numbers(name).astype(np.float64) * factor
        there = keep & np.isfinite(kwh)
        yield MeterRows(who[there], midnight[there] + ended, {"kwh": kwh[there]})


def _factors(sheet: tables.Sheet, column: str, step: float) -> NDArray[np.float64]:
    """The factor to kWh of each row, by its unit; NaN where the unit is none."""
    words, cells = sheet.words(column)
    factors = [_factor(word.strip(), step) for word in words]
    return np.array([*factors, np.nan])[cells]


def _needed(header: Sequence[str], path: tables.File) -> tuple[str, str, str]:
    """The columns of the meter, the day and the unit. Raises SourceError where one is missing."""
    meter = _named(header, METER_COLUMNS)
    unit = _named(header, ("unit", "units", "uom"))
    needed = {"`meter`": meter, "`unit` (kWh, Wh, kW or W)": unit}
    missing = " and ".join(name for name, column in needed.items() if not column)
    if missing:
        shape = "a row per day and a column per time"
        raise SourceError(
            f"{path} has {shape}, and lacks a column {missing}: add it, or rename the one that is it"
        )
    return meter, _named(header, DAY_COLUMNS), unit


def _ends(begins: Sequence[int], path: object) -> list[int]:
    """The end of each column's interval, in seconds after midnight.

    Columns from 00:00 on name the beginning of an interval.

    >>> _ends([28800, 57600, 0], "x"), _ends([0, 28800, 57600], "x")
    ([28800, 57600, 86400], [28800, 57600, 86400])
    """
    named = [*begins[:-1], begins[-1] or DAY_SECONDS]
    steps = {later - earlier for earlier, later in pairwise(named)}
    if len(steps) != 1 or min(steps) <= 0:
        raise SourceError(
            f"{path} has columns of times that are in no order, or not equally far apart"
        )
    step = steps.pop()
    if named[0] == 0:
        return [second + step for second in named]
    return named


def _factor(unit: str, step: float) -> float:
    """The factor to kWh of a value that holds for so many seconds; NaN where the unit is none."""
    power = KW_PER_UNIT.get(unit.lower(), np.nan)
    return KWH_PER_UNIT.get(unit.lower(), power * step / 3600)


def _step(at: Times) -> float:
    """The median seconds between times, NaN where there is only one."""
    gaps = np.diff(np.unique(at))
    return float(np.median(gaps)) if len(gaps) else np.nan


def _named(columns: Collection[str], names: Sequence[str]) -> str:
    """The column that has one of the names, "" if there is none."""
    spelt = {name.lower().replace(" ", "_"): name for name in columns}
    return next((spelt[name] for name in names if name in spelt), "")

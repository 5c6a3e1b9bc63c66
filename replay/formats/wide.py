"""Tables that are wide: a row per meter and day with a column per time, or a column per meter with its unit.

Neither is read where it does not tell its unit, which would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np

from replay import tables
from replay.formats.readings import KW_PER_UNIT, KWH_PER_UNIT, MeterRows, history
from replay.history import Names, Source, SourceError, Tally
from schemas.columns import Times
from schemas.units import DAY_SECONDS

AREA_NAME = "wide"
TIME_PATTERN = re.compile(r"([01]?\d|2[0-4])[:h.]([0-5]\d)(?::00)?")
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
    """Whether there is a row per day: most columns are times, some column is a day."""
    clocks = [name for name in columns if TIME_PATTERN.fullmatch(name)]
    return len(clocks) >= FEWEST_TIMES and _named(columns, DAY_COLUMNS) != ""


def recognises_meters(columns: Collection[str]) -> bool:
    """Whether there is a column per meter: one is a time, each other one an id with its unit."""
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
    parts = [part for path in paths for part in _days(path, seen, tally)]
    tally.notes.append("times name no zone: days are those of the file's own clock")
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        "UTC",
        parts,
        tally,
    )


def open_meters(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The columns of meters of all files as one history of readings."""
    seen = Names()
    parts = []
    for path in paths:
        first, *others = tables.columns(path)
        sheet = tables.read(path, [first, *filter(None, others)], tally)
        at, timed = sheet.times(first)
        keep = sheet.keep((~timed, sheet.no_time(first), first))
        step = _step(at[keep])
        for name in filter(None, others):
            if found := OF_METER.fullmatch(name):
                kwh = sheet.numbers(name).astype(np.float64) * _factor(found[2], step)
                there = keep & np.isfinite(kwh)
                who = np.full(
                    there.sum(), seen.numbers([found[1].strip()])[0], np.int32
                )
                parts.append(MeterRows(who, at[there], {"kwh": kwh[there]}))
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        "UTC",
        parts,
        tally,
    )


def _days(path: tables.File, seen: Names, tally: Tally) -> list[MeterRows]:
    header = tables.columns(path)
    meter, day, unit = (
        _named(header, METER_COLUMNS),
        _named(header, DAY_COLUMNS),
        _named(header, ("unit", "units", "uom")),
    )
    if not meter or not unit:
        wanted = {"`meter`": meter, "`unit` (kWh, Wh, kW or W)": unit}
        missing = " and ".join(name for name, column in wanted.items() if not column)
        told = "a row per day and a column per time"
        raise SourceError(
            f"{path} has {told}, and lacks a column {missing}: add it, or rename the one that is it"
        )
    clocks = {name: _seconds(name) for name in header if TIME_PATTERN.fullmatch(name)}
    seconds = _ends(list(clocks.values()), path)
    sheet = tables.read(path, [meter, day, unit, *clocks], tally)
    who, (midnight, timed) = sheet.ids(meter, seen), sheet.times(day)
    words, cells = sheet.words(unit)
    step = seconds[1] - seconds[0]
    factor = np.array([*(_factor(word.strip(), step) for word in words), np.nan])[cells]
    keep = sheet.keep(
        *sheet.id_faults(meter, who),
        (~timed, sheet.no_time(day), day),
        (np.isnan(factor), "the unit is none of power or energy", unit),
    )
    parts = []
    for name, ended in zip(clocks, seconds, strict=True):
        kwh = sheet.numbers(name).astype(np.float64) * factor
        there = keep & np.isfinite(kwh)
        parts.append(
            MeterRows(who[there], midnight[there] + ended, {"kwh": kwh[there]})
        )
    return parts


def _ends(begins: Sequence[int], path: object) -> list[int]:
    """When each column's interval ends, in seconds after midnight; from 00:00 on columns tell when theirs begins.

    >>> _ends([28800, 57600, 0], "x"), _ends([0, 28800, 57600], "x")
    ([28800, 57600, 86400], [28800, 57600, 86400])
    """
    told = [*begins[:-1], begins[-1] or DAY_SECONDS]
    steps = {b - a for a, b in pairwise(told)}
    if len(steps) != 1 or min(steps) <= 0:
        raise SourceError(
            f"{path} has columns of times that are in no order, or not equally far apart"
        )
    step = steps.pop()
    return [second + step for second in told] if told[0] == 0 else told


def _seconds(name: str) -> int:
    found = TIME_PATTERN.fullmatch(name)
    return 3600 * int(found[1]) + 60 * int(found[2]) if found else -1


def _factor(unit: str, step: float) -> float:
    """What makes kWh of a value that holds for so many seconds; NaN where the unit is none."""
    return KWH_PER_UNIT.get(
        unit.lower(), KW_PER_UNIT.get(unit.lower(), np.nan) * step / 3600
    )


def _step(at: Times) -> float:
    gaps = np.diff(np.unique(at))
    return float(np.median(gaps)) if len(gaps) else np.nan


def _named(columns: Collection[str], names: Sequence[str]) -> str:
    """The column that has one of the names, "" where none has."""
    spelt = {name.lower().replace(" ", "_"): name for name in columns}
    return next((spelt[name] for name in names if name in spelt), "")

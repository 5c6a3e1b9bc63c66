"""Two sets of the UCI repository: a household's power by the minute, and the loads of a wholesaler's clients.

*Individual household electric power consumption* is one meter near Paris; it names no zone, and its days are taken as
they stand. *ElectricityLoadDiagrams20112014* is a column per client, kW of the quarter of an hour that ends then, on
Portugal's clock: the hour that spring skips is given as 0 and the hour that autumn repeats holds the use of two, so
both are left out, as are zeros before a client's first use.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from replay import tables
from replay.formats.readings import (
    DAY_FIRST,
    MeterRows,
    day_and_hour,
    history,
    one_phase,
)
from replay.history import Names, Source, Tally
from schemas.columns import EARLIEST_TIME

UN_V = 230.0
AREA_NAME = "UCI"
HOUSEHOLD_COLUMNS = (
    "Date",
    "Time",
    "Global_active_power",
    "Global_reactive_power",
    "Voltage",
    "Global_intensity",
)
CLIENT_COLUMN = re.compile(r"MT_\d{3}")
PORTUGAL_ZONE = ZoneInfo("Europe/Lisbon")
QUARTER_HOUR_SECONDS = 900  # seconds


def recognises_household(columns: Collection[str]) -> bool:
    """True if the columns are the household's."""
    return set(HOUSEHOLD_COLUMNS) <= set(columns)


def open_household(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The household's minutes as a history of readings."""
    meter_rows = [_household_rows(path, tally) for path in paths]
    tally.notes.append(
        "UCI household power: times name no zone: days are those of the file's own clock"
    )
    return history(
        " + ".join(path.name for path in paths),
        ["household"],
        AREA_NAME,
        "UTC",
        meter_rows,
        tally,
        un_v=UN_V,
    )


def _household_rows(path: tables.File, tally: Tally) -> MeterRows:
    """The minutes of a file that were measured."""
    sheet = tables.read(path, HOUSEHOLD_COLUMNS, tally).without("[?]")
    when = day_and_hour(sheet, "Date", "Time", DAY_FIRST)
    table = sheet.table.append_column("Date Time", when)
    sheet = tables.Sheet(table, path.name, tally)
    at, timed = sheet.times("Date Time")
    active, reactive, voltage, current = (
        sheet.numbers(name) for name in HOUSEHOLD_COLUMNS[2:]
    )

    unmeasured = np.isnan(active) & np.isnan(voltage)
    keep = sheet.keep(
        (~timed, sheet.no_time("Date Time"), "Date"),
        (unmeasured, "the minute was not measured", "Date"),
    )
    columns: dict[str, NDArray[Any]] = {
        "kwh": active / 60,
        "u": one_phase(voltage),
        "i": one_phase(current),
        "p": one_phase(active),
        "q": one_phase(reactive),
    }
    kept = {name: values[..., keep] for name, values in columns.items()}
    return MeterRows(np.zeros(keep.sum(), np.int32), at[keep], kept)


def recognises_clients(columns: Collection[str]) -> bool:
    """True if the columns are the clients'."""
    named = list(filter(None, columns))
    return (
        bool(named)
        and all(map(CLIENT_COLUMN.fullmatch, named))
        and len(named) == len(columns) - 1
    )


def open_clients(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The clients' loads as one history of readings."""
    seen = Names()
    meter_rows: list[MeterRows] = []
    for path in paths:
        meter_rows += _client_rows(path, seen, tally)
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        str(PORTUGAL_ZONE),
        meter_rows,
        tally,
        un_v=UN_V,
    )


def _client_rows(path: tables.File, seen: Names, tally: Tally) -> Iterator[MeterRows]:
    """The rows of each client of a file, from its first use on."""
    header = tables.columns(path)
    sheet = tables.read(path, header, tally)
    wall, timed = sheet.times("")
    known_walls = np.where(timed, wall, EARLIEST_TIME).tolist()
    ends = [_of_quarter(moment) for moment in known_walls]
    at, odd = np.array(ends, np.float64).reshape(-1, 2).T
    keep = sheet.keep(
        (~timed, "the first column is no time", ""),
        (odd > 0, "an hour that the change of the clocks skips or repeats", ""),
    )

    for name in filter(None, header):
        kwh = sheet.numbers(name).astype(np.float64) / 4
        is_used = np.nan_to_num(kwh) > 0
        has_begun = np.cumsum(is_used) > 0
        there = keep & np.isfinite(kwh) & has_begun
        number = seen.numbers([name])[0]
        who = np.full(there.sum(), number, np.int32)
        yield MeterRows(who, at[there].astype(np.int64), {"kwh": kwh[there]})


def _of_quarter(wall: float) -> tuple[float, bool]:
    """The end of a quarter of an hour on Portugal's clock, and True if its hour is skipped or repeated.

    >>> clocks = [datetime(2013, 10, 27, *clock, tzinfo=UTC) for clock in ((1, 0), (1, 15), (2, 0))]
    >>> [_of_quarter(moment.timestamp())[1] for moment in clocks]
    [False, True, True]
    """
    begins = datetime.fromtimestamp(wall - QUARTER_HOUR_SECONDS, UTC).replace(
        tzinfo=PORTUGAL_ZONE
    )
    odd = begins.utcoffset() != begins.replace(fold=1).utcoffset()
    return begins.timestamp() + QUARTER_HOUR_SECONDS, odd

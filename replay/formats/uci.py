"""ElectricityLoadDiagrams20112014 of the UCI repository, the loads of a wholesaler's clients.

It has a column per client, kW of the quarter of an hour that ends then, on Portugal's clock: the hour that spring skips
is given as 0 and the hour that autumn repeats holds the use of two, so both are left out, as are zeros before a
client's first use.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from replay import tables
from replay.formats.readings import MeterRows, history
from replay.history import Names, Source, Tally
from schemas.columns import EARLIEST_TIME

UN_V = 230.0
AREA_NAME = "UCI"
CLIENT_COLUMN = re.compile(r"MT_\d{3}")
PORTUGAL_ZONE = ZoneInfo("Europe/Lisbon")
QUARTER_HOUR_SECONDS = 900  # seconds


def recognises(columns: Collection[str]) -> bool:
    """True if the columns are the clients'."""
    named = list(filter(None, columns))
    return (
        bool(named)
        and all(map(CLIENT_COLUMN.fullmatch, named))
        and len(named) == len(columns) - 1
    )


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
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

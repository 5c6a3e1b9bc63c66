"""Times on the clocks of a zone, which skip an hour in spring and show one twice in autumn."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.columns import Codes, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

CLOCK_HEADER = re.compile(r"([01]?\d|2[0-4])[:h.]([0-5]\d)(?::([0-5]\d))?")


def header_clocks(header: Iterable[str]) -> dict[str, int]:
    """The seconds after midnight of each column whose name is a time of the day.

    >>> header_clocks(["meter", "0:15", "24:00:00"])
    {'0:15': 900, '24:00:00': 86400}
    """
    seconds = {}
    for name in header:
        if found := CLOCK_HEADER.fullmatch(name):
            hour, minute, second = (int(digits or 0) for digits in found.groups())
            seconds[name] = 3600 * hour + 60 * minute + second
    return seconds


def has_one_offset(zone: tzinfo) -> bool:
    """True if the clocks of a zone never change."""
    return zone.utcoffset(None) is not None


def in_zone(clocks: NDArray[np.float64], zone: tzinfo) -> NDArray[np.float64]:
    """Unix seconds of what clocks show, as seconds since 1970; NaN if they skip it, the earlier if they show it twice.

    >>> from zoneinfo import ZoneInfo
    >>> in_zone(np.array([86_400.0]), ZoneInfo("Etc/GMT-1")).tolist()
    [82800.0]
    """
    if offset := zone.utcoffset(None):
        return clocks - offset.total_seconds()
    if has_one_offset(zone):
        return clocks
    distinct, place = np.unique(clocks, return_inverse=True)
    found = [
        math.nan if math.isnan(clock) else of_clock(clock, zone)
        for clock in distinct.tolist()
    ]
    return np.array(found, np.float64)[place]


def comes_twice(at: float, zone: tzinfo) -> bool:
    """True if the clocks of a zone show the same an hour later."""
    now, later = (
        datetime.fromtimestamp(at + ahead, zone) for ahead in (0, HOUR_SECONDS)
    )
    return now.utcoffset() != later.utcoffset() and now.hour == later.hour


def in_second_hours(
    subjects: Codes, at: NDArray[np.float64], zone: tzinfo
) -> NDArray[np.float64]:
    """The times; where clocks are put back, a repeated time of a subject is an hour later."""
    order = np.lexsort((np.arange(len(at)), at, subjects))
    again = np.zeros(len(at), np.bool_)
    same_time = np.diff(at[order]) == 0
    same_subject = np.diff(subjects[order]) == 0
    again[order[1:]] = same_time & same_subject
    moved = at.copy()
    for row in np.flatnonzero(again):
        moved[row] += HOUR_SECONDS if comes_twice(at[row], zone) else 0
    return moved


def near_changes(at: NDArray[np.float64], zone: tzinfo) -> NDArray[np.intp]:
    """The rows of days on which the clocks of a zone change."""
    days = _whole(at) // DAY_SECONDS
    first = days.min(initial=0)
    changing = [
        day
        for day in np.flatnonzero(np.bincount(days - first)).tolist()
        if _offset((first + day) * DAY_SECONDS, zone)
        != _offset((first + day + 1) * DAY_SECONDS + HOUR_SECONDS, zone)
    ]
    return np.flatnonzero(np.isin(days, np.array(changing, np.int64) + first))


def _whole(seconds: NDArray[np.float64]) -> Times:
    """The same as whole numbers, which are divided faster; 0 where there is none."""
    return np.where(np.isfinite(seconds), seconds, 0).astype(np.int64)


def _offset(at: int, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()


def seconds_of_timestamps(cells: pa.ChunkedArray, zone: tzinfo) -> NDArray[np.float64]:
    """Unix seconds of timestamps; NaN where there is none, or where the clocks of the zone skip it."""
    if cells.type.tz is not None:
        return _seconds(cells)
    if has_one_offset(zone):
        return in_zone(_seconds(cells), zone)
    found = pc.assume_timezone(
        cells, str(zone), ambiguous="earliest", nonexistent="earliest"
    )
    # of a time that clocks skip, the moment before the change is found, at which they show another
    is_shown = pc.fill_null(pc.equal(pc.local_timestamp(found), cells), False)
    return np.where(is_shown.to_numpy(), _seconds(found), np.nan)


def _seconds(cells: pa.ChunkedArray) -> NDArray[np.float64]:
    seconds = cells.cast(pa.timestamp("s", cells.type.tz), safe=False).cast(pa.int64())
    return np.asarray(seconds.cast(pa.float64()).to_numpy(), np.float64)


def of_clock(seconds: float, zone: tzinfo) -> float:
    """Unix seconds of what the clocks of a zone show, as seconds since 1970; NaN if they skip it."""
    return of_local(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None), zone)


def of_local(when: datetime, zone: tzinfo) -> float:
    """Unix seconds of a time on the clocks of a zone; NaN if they skip it."""
    local = when.replace(tzinfo=zone)
    seconds = local.timestamp()
    if local.utcoffset() == local.replace(fold=1).utcoffset():
        return seconds
    shown = datetime.fromtimestamp(seconds, zone).replace(tzinfo=None)
    return seconds if abs(shown - when) < timedelta(minutes=1) else math.nan

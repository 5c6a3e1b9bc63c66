"""Local days: when each begins and ends, daylight saving included, and of what kind it is."""
from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from numpy.typing import NDArray

from schemas.columns import Times

FIRST, LAST = date(1999, 12, 31), date(2101, 1, 2)
HOLIDAY, FESTIVAL = 7, 8  # kinds of days after the weekdays, Monday 0
CHINA = frozenset({"Asia/Shanghai", "Asia/Urumqi", "Asia/Chongqing", "Asia/Harbin", "Asia/Kashgar", "PRC"})
DAYS_APART = 300  # at least, from one lunar new year to the next
SEASON = range(-10, 13)  # days around the lunar new year: factories close well before, most are back in two weeks


@lru_cache(maxsize=8)
def midnights(zone: str) -> Times:
    """Unix seconds of every local midnight from 1999 to 2101. Raises ZoneInfoNotFoundError for an unknown zone."""
    info = ZoneInfo(zone)
    return np.array([int(datetime(d.year, d.month, d.day, tzinfo=info).timestamp()) for d in dates()], np.int64)


def dates() -> list[date]:
    """The days of which `midnights` tells the beginnings."""
    return [FIRST + timedelta(n) for n in range((LAST - FIRST).days)]


def day_of(at: Times, zone: str) -> Times:
    """The day each interval that ends at `at` belongs to, as an index into midnights; midnight ends the day before.

    >>> day_of(np.array([946684800, 946684801]), "UTC").tolist()
    [0, 1]
    """
    if len(at):
        first, last = (np.searchsorted(midnights(zone), [at.min(), at.max()], side="left") - 1).tolist()
        if first == last:
            return np.full(len(at), first)
    return np.searchsorted(midnights(zone), at, side="left") - 1


@lru_cache(maxsize=8)
def day_kinds(zone: str) -> NDArray[np.int8]:
    """The kind of every day in `midnights`: its weekday, in China also holidays and the season of Spring Festival.

    A day off in a row that holds a public holiday is one; a weekend worked in exchange counts as a Friday.

    >>> start = int(day_of(np.array([1771171200]), "Asia/Shanghai")[0])  # Monday 2026-02-16
    >>> day_kinds("Asia/Shanghai")[start - 10:start - 7].tolist(), day_kinds("UTC")[start:start + 3].tolist()
    ([4, 8, 8], [6, 0, 1])
    """
    days = dates()
    kinds = np.array([day.weekday() for day in days], np.int8)
    if zone not in CHINA:
        return kinds
    public = holidays.country_holidays("CN", years=range(FIRST.year, LAST.year + 1), language="en_US")
    named = np.array([day in public for day in days])
    worked = np.array([day in public.weekend_workdays for day in days])
    off = named | ((kinds >= 5) & ~worked)
    row = np.cumsum(off & ~np.roll(off, 1))
    kinds[worked] = 4
    kinds[off & np.isin(row, row[named])] = HOLIDAY
    springs = np.flatnonzero([public.get(day, "") == "Chinese New Year (Spring Festival)" for day in days])
    for new_year in springs[np.diff(springs, prepend=-DAYS_APART) > DAYS_APART - 1]:
        kinds[max(new_year + SEASON.start, 0) : new_year + SEASON.stop] = FESTIVAL
    return kinds


@lru_cache(maxsize=1)
def months() -> NDArray[np.int8]:
    """The month of every day in `midnights`, January 0."""
    return np.array([day.month - 1 for day in dates()], np.int8)

"""Local days: when each begins and ends, daylight saving included, and of what kind it is."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from numpy.typing import NDArray

from schemas.columns import Codes, Mask, Times

FIRST_DATE, LAST_DATE = date(1999, 12, 31), date(2101, 1, 2)
HOLIDAY_KIND, FESTIVAL_KIND = 7, 8  # kinds of days after the weekdays, Monday 0
CHINA_ZONES = frozenset(
    {
        "Asia/Shanghai",
        "Asia/Urumqi",
        "Asia/Chongqing",
        "Asia/Harbin",
        "Asia/Kashgar",
        "PRC",
    }
)
DAYS_APART = 300  # at least, from one lunar new year to the next
FESTIVAL_DAYS = range(
    -10, 13
)  # days around the lunar new year: factories close well before, most are back in two weeks


@lru_cache(maxsize=8)
def midnights(zone: str) -> Times:
    """Unix seconds of every local midnight from 1999 to 2101. Raises ZoneInfoNotFoundError for an unknown zone."""
    info = ZoneInfo(zone)
    return np.array(
        [
            int(datetime(d.year, d.month, d.day, tzinfo=info).timestamp())
            for d in _dates()
        ],
        np.int64,
    )


def _dates() -> list[date]:
    """The days of which `midnights` tells the beginnings."""
    return [FIRST_DATE + timedelta(n) for n in range((LAST_DATE - FIRST_DATE).days)]


def day_of(at: Times, zone: str) -> Times:
    """The day each interval that ends at `at` belongs to, as an index into midnights; midnight ends the day before.

    >>> day_of(np.array([946684800, 946684801]), "UTC").tolist()
    [0, 1]
    """
    if len(at):
        first, last = (
            np.searchsorted(midnights(zone), [at.min(), at.max()], side="left") - 1
        ).tolist()
        if first == last:
            return np.full(len(at), first)
    return np.searchsorted(midnights(zone), at, side="left") - 1


def month_of(days: Codes) -> tuple[Codes, Codes]:
    """The month of some days, indices into midnights, counted from January 1970 on, and the day of the month.

    >>> [part.tolist() for part in month_of(np.array([1, 31, 32]))]
    [[360, 360, 361], [1, 31, 1]]
    """
    dates = np.datetime64(FIRST_DATE) + days
    months = dates.astype("datetime64[M]")
    return months.astype(np.int64), (dates - months.astype("datetime64[D]")).astype(
        np.int64
    ) + 1


@lru_cache(maxsize=8)
def _worked_seconds(zone: str) -> Times:
    """Seconds of working days since 1999 at every local midnight.

    In China public holidays are none, and weekends worked in exchange are, as far as `holidays` knows what is decreed
    for each year; elsewhere all weekdays are.
    """
    lengths = np.diff(midnights(zone))
    off = (
        _days_off()[: len(lengths)]
        if zone in CHINA_ZONES
        else (np.arange(len(lengths)) + FIRST_DATE.weekday()) % 7 > 4
    )
    return np.concatenate([[0], np.cumsum(lengths * ~off)])


def worked_after(at: int, seconds: float, zone: str) -> int:
    """When so many seconds of working days have passed since a moment.

    >>> friday_noon = 946641600 + 7 * 86400
    >>> (worked_after(friday_noon, 86400, "UTC") - friday_noon) / 86400
    3.0
    """
    nights, work = midnights(zone), _worked_seconds(zone)
    day = int(np.searchsorted(nights, at, side="right")) - 1
    target = (
        int(work[day])
        + min(at - int(nights[day]), int(work[day + 1] - work[day]))
        + round(seconds)
    )
    last = int(np.searchsorted(work, target, side="left")) - 1
    return int(nights[last]) + target - int(work[last])


def midnight(day: date, zone: str) -> int:
    """When a local day begins."""
    return int(midnights(zone)[(day - FIRST_DATE).days])


def months_around(at: int, zone: str) -> list[date]:
    """The first days of the local month before, of that of `at`, and of the one after."""
    today = datetime.fromtimestamp(at, ZoneInfo(zone))
    months = (
        divmod(12 * today.year + today.month - 1 + step, 12) for step in (-1, 0, 1)
    )
    return [date(year, month + 1, 1) for year, month in months]


def from_month_end(at: int, zone: str) -> int:
    """Seconds between a moment and the nearest end of a local month.

    >>> from_month_end(946684800 - 7200, "UTC")
    7200
    """
    return min(abs(at - midnight(first, zone)) for first in months_around(at, zone))


def from_day_of_month(at: int, day: int, zone: str) -> int:
    """Seconds between a moment and the nearest such day of a month, 0 within it; a short month's last stands for it.

    >>> from_day_of_month(946684800, 31, "UTC"), from_day_of_month(946684800, 3, "UTC")
    (0, 172800)
    """
    days = [
        first.replace(day=min(day, monthrange(first.year, first.month)[1]))
        for first in months_around(at, zone)
    ]
    return min(
        max(midnight(d, zone) - at, at - midnight(d + timedelta(1), zone), 0)
        for d in days
    )


def new_year(at: int, zone: str) -> date:
    """The first day of the local year after that of a moment."""
    return date(datetime.fromtimestamp(at, ZoneInfo(zone)).year + 1, 1, 1)


@cache
def _public_holidays() -> holidays.HolidayBase:
    """China's, and the weekends that are worked in exchange."""
    return holidays.country_holidays(
        "CN", years=range(FIRST_DATE.year, LAST_DATE.year + 1), language="en_US"
    )


@cache
def _days_off() -> Mask:
    """Whether China has each day in `midnights` off.

    >>> [bool(off) for off in _days_off()[-FIRST_DATE.toordinal() + date(2026, 2, 14).toordinal() :][:4]]
    [False, True, True, True]
    """
    public = _public_holidays()
    return np.array(
        [
            d in public or (d.weekday() > 4 and d not in public.weekend_workdays)
            for d in _dates()
        ]
    )


@lru_cache(maxsize=8)
def day_kinds(zone: str) -> NDArray[np.int8]:
    """The kind of every day in `midnights`: its weekday, in China also holidays and the season of Spring Festival.

    A day off in a row that holds a public holiday is one; a weekend worked in exchange counts as a Friday.

    >>> start = int(day_of(np.array([1771171200]), "Asia/Shanghai")[0])  # Sunday 2026-02-15
    >>> day_kinds("Asia/Shanghai")[start - 9 : start - 7].tolist(), day_kinds("UTC")[start : start + 2].tolist()
    ([4, 8], [6, 0])
    """
    days = _dates()
    kinds = np.array([day.weekday() for day in days], np.int8)
    if zone not in CHINA_ZONES:
        return kinds
    public, off = _public_holidays(), _days_off()
    named = np.array([day in public for day in days])
    row = np.cumsum(off & ~np.roll(off, 1))
    kinds[(kinds >= 5) & ~off] = 4
    kinds[off & np.isin(row, row[named])] = HOLIDAY_KIND
    springs = np.flatnonzero(
        [public.get(day, "") == "Chinese New Year (Spring Festival)" for day in days]
    )
    for first in springs[np.diff(springs, prepend=-DAYS_APART) > DAYS_APART - 1]:
        kinds[max(first + FESTIVAL_DAYS.start, 0) : first + FESTIVAL_DAYS.stop] = (
            FESTIVAL_KIND
        )
    return kinds

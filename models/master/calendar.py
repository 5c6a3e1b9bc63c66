"""Local days: their beginnings and ends, daylight saving included, and their kinds."""

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
# Days around the lunar new year: factories close well before it, and most are back in
# two weeks.
FESTIVAL_DAYS = range(-10, 13)


@lru_cache(maxsize=8)
def midnights(zone: str) -> Times:
    """Unix seconds of every local midnight from 1999 to 2101.

    Raises ZoneInfoNotFoundError for an unknown zone.
    """
    info = ZoneInfo(zone)
    starts = [datetime(day.year, day.month, day.day, tzinfo=info) for day in _dates()]
    return np.array([int(start.timestamp()) for start in starts], np.int64)


def _dates() -> list[date]:
    """The days that begin at `midnights`."""
    count = (LAST_DATE - FIRST_DATE).days
    return [FIRST_DATE + timedelta(n) for n in range(count)]


def day_of(at: Times, zone: str) -> Times:
    """The day of each interval that ends `at`, an index into midnights; midnight ends a day.

    >>> day_of(np.array([946684800, 946684801]), "UTC").tolist()
    [0, 1]
    """
    if len(at):
        ends = [at.min(), at.max()]
        days = np.searchsorted(midnights(zone), ends, side="left") - 1
        first, last = days.tolist()
        if first == last:
            return np.full(len(at), first)
    return np.searchsorted(midnights(zone), at, side="left") - 1


def month_of(days: Codes) -> tuple[Codes, Codes]:
    """The month of days, indices into midnights, counted from January 1970, and the day of month.

    >>> [part.tolist() for part in month_of(np.array([1, 31, 32]))]
    [[360, 360, 361], [1, 31, 1]]
    """
    dates = np.datetime64(FIRST_DATE) + days
    months = dates.astype("datetime64[M]")
    since_first = dates - months.astype("datetime64[D]")
    return months.astype(np.int64), since_first.astype(np.int64) + 1


@lru_cache(maxsize=8)
def _worked_seconds(zone: str) -> Times:
    """Seconds of working days since 1999 at every local midnight.

    In China public holidays are no working days, and weekends worked in exchange are, as far as
    `holidays` knows the decrees of each year; elsewhere all weekdays are working days.
    """
    lengths = np.diff(midnights(zone))
    if zone in CHINA_ZONES:
        off = _days_off()[: len(lengths)]
    else:
        numbers = np.arange(len(lengths)) + FIRST_DATE.weekday()
        weekday = numbers % 7
        off = weekday > 4
    worked = np.cumsum(lengths * ~off)
    return np.concatenate([[0], worked])


def worked_after(at: int, seconds: float, zone: str) -> int:
    """The moment when so many seconds of working days have passed since `at`.

    >>> friday_noon = 946641600 + 7 * 86400
    >>> (worked_after(friday_noon, 86400, "UTC") - friday_noon) / 86400
    3.0
    """
    nights = midnights(zone)
    work = _worked_seconds(zone)
    day = int(np.searchsorted(nights, at, side="right")) - 1
    since_midnight = at - int(nights[day])
    workday = int(work[day + 1] - work[day])
    worked = int(work[day]) + min(since_midnight, workday)
    target = worked + round(seconds)
    last = int(np.searchsorted(work, target, side="left")) - 1
    rest = target - int(work[last])
    return int(nights[last]) + rest


def midnight(day: date, zone: str) -> int:
    """The beginning of a local day."""
    return int(midnights(zone)[(day - FIRST_DATE).days])


def months_around(at: int, zone: str) -> list[date]:
    """The first days of the local month of `at`, of the month before and of the month after."""
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
    ends = [midnight(first, zone) for first in months_around(at, zone)]
    return min(abs(at - end) for end in ends)


def from_day_of_month(at: int, day: int, zone: str) -> int:
    """Seconds between a moment and the nearest such day of a month, 0 within it.

    The last day of a short month stands for a day that it lacks.

    >>> from_day_of_month(946684800, 31, "UTC"), from_day_of_month(946684800, 3, "UTC")
    (0, 172800)
    """
    days = [
        first.replace(day=min(day, monthrange(first.year, first.month)[1]))
        for first in months_around(at, zone)
    ]
    return min(
        max(midnight(near, zone) - at, at - midnight(near + timedelta(1), zone), 0)
        for near in days
    )


def new_year(at: int, zone: str) -> date:
    """The first day of the local year after that of a moment."""
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    return date(local.year + 1, 1, 1)


@cache
def _public_holidays() -> holidays.HolidayBase:
    """China's public holidays, and the weekends that are worked in exchange."""
    return holidays.country_holidays(
        "CN", years=range(FIRST_DATE.year, LAST_DATE.year + 1), language="en_US"
    )


@cache
def _days_off() -> Mask:
    """True for each day in `midnights` that China has off.

    >>> [bool(off) for off in _days_off()[-FIRST_DATE.toordinal() + date(2026, 2, 14).toordinal() :][:4]]
    [False, True, True, True]
    """
    public = _public_holidays()
    exchanged = public.weekend_workdays
    off = [
        day in public or (day.weekday() > 4 and day not in exchanged)
        for day in _dates()
    ]
    return np.array(off)


@lru_cache(maxsize=8)
def day_kinds(zone: str) -> NDArray[np.int8]:
    """The kind of each day in `midnights`: its weekday; in China also holidays, Spring Festival.

    A day off counts as a holiday if a public holiday is among the days off in a row with it; a
    weekend worked in exchange counts as a Friday.

    >>> start = int(day_of(np.array([1771171200]), "Asia/Shanghai")[0])  # Sunday 2026-02-15
    >>> day_kinds("Asia/Shanghai")[start - 9 : start - 7].tolist(), day_kinds("UTC")[start : start + 2].tolist()
    ([4, 8], [6, 0])
    """
    days = _dates()
    kinds = np.array([day.weekday() for day in days], np.int8)
    if zone not in CHINA_ZONES:
        return kinds

    public = _public_holidays()
    off = _days_off()
    named = np.array([day in public for day in days])
    row = np.cumsum(off & ~np.roll(off, 1))
    kinds[(kinds >= 5) & ~off] = 4
    kinds[off & np.isin(row, row[named])] = HOLIDAY_KIND

    # The season of Spring Festival lies around each lunar new year.
    springs = np.flatnonzero(
        [public.get(day, "") == "Chinese New Year (Spring Festival)" for day in days]
    )
    for first in springs[np.diff(springs, prepend=-DAYS_APART) > DAYS_APART - 1]:
        begin = first + FESTIVAL_DAYS.start
        end = first + FESTIVAL_DAYS.stop
        kinds[max(begin, 0) : end] = FESTIVAL_KIND
    return kinds

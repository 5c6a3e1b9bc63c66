"""Dates and hours as text, in the forms of spreadsheets, head-ends and national standards.

Whether 03/04/2024 is in March or in April is decided over a whole column, and noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from replay.clocks import of_clock, of_local
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Mask, Times
from schemas.units import DAY_SECONDS

# which comes first; "" where it is not known
Order = Literal["year", "day", "month", ""]
TICKS_PER_SECOND = (1, 1_000, 1_000_000, 1_000_000_000)  # in which systems count
SPREADSHEET_EPOCH = datetime(1899, 12, 30, tzinfo=UTC).timestamp()  # s, their day 0
# how many times shorter a column's span must be by the order that is chosen
COMPACT_FACTOR = 5
MONTH_NAMES = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
# hours ahead of UTC of abbreviations that mean one zone; CST, EST and IST mean several
ZONE_OFFSETS = {
    "z": 0,
    "utc": 0,
    "gmt": 0,
    "wet": 0,
    "west": 1,
    "bst": 1,
    "cet": 1,
    "mez": 1,
    "cest": 2,
    "mesz": 2,
    "eet": 2,
    "eest": 3,
    "msk": 3,
    "sgt": 8,
    "hkt": 8,
    "jst": 9,
    "kst": 9,
    "aest": 10,
    "aedt": 11,
    "nzst": 12,
    "nzdt": 13,
}
MORNING_WORDS = ("am", "上午", "凌晨", "早上")
AFTERNOON_WORDS = ("pm", "下午", "晚上", "中午")

_DIGITS_ONLY = re.compile(r"\d+(\.\d*)?")
_DAY_PART = re.compile(r"0?\.\d+|0|1(\.0*)?")  # up to 1
_CUT_HOUR = re.compile(r"\d+[.,]\d")  # of which a spreadsheet may have cut a zero
_COMPACT_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)[T ]?(?:(\d\d):?(\d\d)(?::?(\d\d))?)?$")
_DATE_PATTERN = re.compile(
    r"""
    (?:[a-z]{2,9}\.?,?\ +)??                      # the name of a weekday
    (?: (?P<a>\d{1,4}) (?:(?P<s>[-/.年])\ ?|\ )?
        (?P<b>(?<=\D)\d{1,2}|[a-z]{3,9}\.?) (?:[-/.,月]\ ?|\ )?
        (?P<c>(?<=\D)\d{1,4}) [日.]?
      | (?P<m>[a-z]{3,9})\.?\ (?P<d>\d{1,2}),?\ (?P<y>\d{4}) )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HOUR_PATTERN = re.compile(
    rf"""
    (?P<early>{"|".join((*MORNING_WORDS, *AFTERNOON_WORDS))})?\ ?
    (?P<h>\d{{1,2}})
    (?: [:.h时点]\ ? (?P<m>\d{{1,2}})?
        (?: [:.分]\ ? (?P<s>\d{{1,2}}) (?:[.,](?P<f>\d+))? 秒? | 分 )? )?
    (?:\ ?(?P<half>[ap]\.?m\.?))?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ZONE_PATTERN = re.compile(
    r"""
    (?: (?:utc|gmt)?\ ?(?P<sign>[-+])(?P<h>\d{1,2})(?::?(?P<m>\d\d))? )?
    (?: \ ?\[(?P<name>[\w/+-]+)\] )?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_FOUR_DIGITS = re.compile(r"(\d\d)(\d\d)(\d\d)?(?![\d:.])")
_NO_ZONE = timezone(timedelta(hours=23))  # stands for a zone that nobody knows


class _ParsedTime(NamedTuple):
    """The parts of a date and time as they stand."""

    numbers: tuple[int, int, int]  # of the date, in the order in which they stand
    order: Order  # "" where the first may be the day or the month
    seconds: float  # after midnight
    zone: tzinfo | None


def seconds_of(
    texts: Sequence[str], zone: tzinfo, given: Order = ""
) -> tuple[list[float], Order]:
    """Unix seconds of a column's distinct texts, and which number its dates begin with, unless it is given.

    Texts that name no zone are in the given zone. NaN stands for a text that cannot be read, for a time that the clocks
    skip, and for every date that may have the day or the month first.

    >>> seconds_of(["1970-01-02", "2/1/1970 0:00:05", "13/1/1970", "31.1.1970"], UTC)
    ([86400.0, 86405.0, 1036800.0, 2592000.0], 'day')
    """
    numbers = [_number_of(text, zone) for text in texts]
    parsed_times = [
        None if not math.isnan(number) else _read(text)
        for number, text in zip(numbers, texts, strict=True)
    ]
    open_dates = [
        parsed.numbers
        for parsed in parsed_times
        if parsed and not parsed.order and all(parsed.numbers[:2])
    ]

    order = given or _order_of(open_dates)
    found = [
        number if parsed is None else _at(parsed, parsed.order or order, zone)
        for number, parsed in zip(numbers, parsed_times, strict=True)
    ]
    return found, order if open_dates and not given else "year"


def seconds_of_numbers(
    values: NDArray[np.float64], zone: tzinfo
) -> NDArray[np.float64]:
    """Unix seconds of numbers; NaN where a number is no time.

    A number counts seconds or fractions of them since 1970, or the days of a spreadsheet in a zone.
    """
    if len(values) and values.min() >= EARLIEST_TIME and values.max() < LATEST_TIME:
        return values

    found = np.full(len(values), np.nan)
    for unit in TICKS_PER_SECOND:
        fits = (values >= EARLIEST_TIME * unit) & (values < LATEST_TIME * unit)
        found[fits] = values[fits] / unit

    first_day = (EARLIEST_TIME - SPREADSHEET_EPOCH) / DAY_SECONDS
    last_day = (LATEST_TIME - SPREADSHEET_EPOCH) / DAY_SECONDS
    serial = (values >= first_day) & (values < last_day)
    found[serial] = [_of_serial(value, zone) for value in values[serial].tolist()]
    return found


def clock_seconds(words: Sequence[str]) -> NDArray[np.float64]:
    """Seconds after midnight of a column's distinct hours; NaN where a text is none.

    Digits alone are hours, or hours and minutes if any of them is more than an hour. Numbers are a spreadsheet's parts
    of a day if all are up to 1; among others, 0.3 may have lost a zero.

    >>> clock_seconds(["7:30 PM", "24:00", "7", "0.3"]).tolist()
    [70200.0, 86400.0, 25200.0, nan]
    >>> clock_seconds(["0", "15", "2345"]).tolist(), clock_seconds(["0.5", "1"]).tolist()
    ([0.0, 900.0, 85500.0], [43200.0, 86400.0])
    """
    texts = [word.strip() for word in words]
    if all(map(_DAY_PART.fullmatch, texts)) and "." in "".join(texts):
        return np.round(np.array(texts, np.float64) * DAY_SECONDS)

    digits = [text for text in texts if text.isdecimal()]
    longest = max(map(len, digits), default=0)
    most = max(map(int, digits), default=0)
    width = 6 if longest > 4 else 4 if longest > 2 or most > 24 else 0
    return np.array([_seconds_of_hour(text, width) for text in texts], np.float64)


def _seconds_of_hour(text: str, width: int) -> float:
    """Seconds after midnight of an hour whose digits alone are so many; NaN where it is none, or names a zone."""
    clock = _clock(text.zfill(width) if text.isdecimal() else text)
    if not text or clock is None or clock[1] or _CUT_HOUR.fullmatch(text):
        return math.nan
    return clock[0]


def bounded(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same Unix seconds; NaN where they are not from 2000 to 2100."""
    good = (seconds >= EARLIEST_TIME) & (seconds < LATEST_TIME)
    return np.where(good, seconds, np.nan)


def within(seconds: NDArray[np.float64]) -> tuple[Times, Mask]:
    """Whole Unix seconds, and which are from 2000 to 2100; 0 for the others."""
    good = ~np.isnan(bounded(seconds))
    return np.where(good, seconds, 0).astype(np.int64), good


def _number_of(text: str, zone: tzinfo) -> float:
    """Unix seconds of digits alone, by `seconds_of_numbers`; NaN where they are no time.

    >>> _number_of("1456790400", UTC), _number_of("1456790400000", UTC)
    (1456790400.0, 1456790400.0)
    >>> _number_of("42430.5", UTC)
    1456833600.0
    """
    digits = text.strip()
    if not _DIGITS_ONLY.fullmatch(digits):
        return math.nan
    return float(seconds_of_numbers(np.array([float(digits)]), zone)[0])


def _read(text: str) -> _ParsedTime | None:
    """The parts of a date and time; None where the text is none."""
    line = " ".join(text.split())
    if found := _COMPACT_DATE.match(line):
        year, month, day, *clock_digits = (
            int(digits or 0) for digits in found.groups()
        )
        hour, minute, second = clock_digits
        seconds = 3600.0 * hour + 60 * minute + second
        return _ParsedTime((year, month, day), "year", seconds, None)

    date = _DATE_PATTERN.match(line)
    if date is None:
        return None
    numbers, order = _date(date)
    rest = line[date.end() :]
    joined = rest[:1].lower() in ("", " ", "t", ",", ":") or date[0].endswith("日")
    clock = _clock(rest.lstrip("Tt,: ")) if joined else None
    if clock is None or numbers is None:
        return None
    return _ParsedTime(numbers, order, *clock)


def _order_of(dates: Sequence[tuple[int, int, int]]) -> Order:
    """The first of day and month: by a number above twelve, else by dates close to one another.

    >>> _order_of([(1, 2, 2024), (13, 2, 2024)])
    'day'
    >>> _order_of([(n, 3, 2024) for n in range(1, 9)])
    'day'
    >>> _order_of([(1, 2, 2024)])
    ''
    """
    day_first = any(first > 12 for first, _, _ in dates)
    month_first = any(second > 12 for _, second, _ in dates)
    if day_first != month_first:
        return "day" if day_first else "month"
    if day_first or not dates:
        return ""

    spans = {order: _span(dates, order) for order in ("day", "month")}
    if all(first == second for first, second, _ in dates):
        return "day"  # the same by both
    if spans["day"] * COMPACT_FACTOR < spans["month"]:
        return "day"
    if spans["month"] * COMPACT_FACTOR < spans["day"]:
        return "month"
    return ""


def _span(dates: Sequence[tuple[int, int, int]], order: Order) -> float:
    """Seconds from the first to the last date, by an order."""
    moments = [
        datetime(*_year_first(date, order), tzinfo=UTC).timestamp()
        for date in set(dates)
    ]
    return max(moments) - min(moments)


def _year_first(numbers: tuple[int, int, int], order: Order) -> tuple[int, int, int]:
    """Year, month and day of a date's numbers; years below 100 are of this century."""
    if order == "year":
        return numbers
    first, second, last = numbers
    year = last if last > 99 else 2000 + last
    if order == "day":
        return (year, second, first)
    return (year, first, second)


def _date(found: re.Match[str]) -> tuple[tuple[int, int, int] | None, Order]:
    """The numbers of a date and their order; None where a word is no month."""
    if found["m"]:  # March 1, 2024
        month = _month(found["m"])
        date = (int(found["y"]), month, int(found["d"])) if month else None
        return date, "year"

    first = found["a"]
    second = found["b"]
    last = found["c"]
    if not second.isdigit():  # 1 March 2024, or 2024 March 1
        month = _month(second)
        day, year = (last, first) if len(first) > 2 else (first, last)
        return ((int(day), month, int(year)) if month else None), "day"

    numbers = (int(first), int(second), int(last))
    if len(first) == 4:
        return numbers, "year"
    return numbers, "day" if found["s"] == "." else ""


def _month(name: str) -> int:
    """The number of a month by its English name; 0 where the name is none."""
    short = name[:3].lower()
    if short in MONTH_NAMES:
        return MONTH_NAMES.index(short) + 1
    return 0


def _clock(text: str) -> tuple[float, tzinfo | None] | None:
    """Seconds after midnight and the zone; None where it is neither hour nor zone."""
    if not text:
        return 0.0, None
    if found := _FOUR_DIGITS.match(text):
        hour, minute, second = (int(digits or 0) for digits in found.groups())
        fraction = 0.0
    elif found := _HOUR_PATTERN.match(text):
        hour, minute, second = (int(found[name] or 0) for name in "hms")
        fraction = float(f"0.{found['f'] or 0}")
        half = (found["half"] or "").replace(".", "").lower() or found["early"] or ""
        if half:
            hour = hour % 12 + 12 * (half in AFTERNOON_WORDS)
    else:
        return None

    zone = _zone(text[found.end() :].strip())
    seconds = 3600 * hour + 60 * minute + second + fraction
    wrong = minute > 59 or second > 59 or seconds > DAY_SECONDS or zone is _NO_ZONE
    return None if wrong else (seconds, zone)


def _zone(text: str) -> tzinfo | None:
    """The zone that a text names; None where there is no text."""
    if not text:
        return None
    if text.lower() in ZONE_OFFSETS:
        return timezone(timedelta(hours=ZONE_OFFSETS[text.lower()]))

    found = _ZONE_PATTERN.fullmatch(text)
    if found is None:
        return _NO_ZONE
    if found["sign"]:
        return _offset(found)
    try:
        return ZoneInfo(found["name"])
    except (ZoneInfoNotFoundError, ValueError):
        return _NO_ZONE


def _offset(found: re.Match[str]) -> tzinfo:
    """The zone of a signed offset of 14 hours at most."""
    minutes = 60 * int(found["h"]) + int(found["m"] or 0)
    if minutes > 14 * 60:
        return _NO_ZONE
    return timezone(timedelta(minutes=int(f"{found['sign']}{minutes}")))


def _at(parsed: _ParsedTime, order: Order, zone: tzinfo) -> float:
    """Unix seconds of a parsed time; NaN where its order or its date is none."""
    if not order:
        return math.nan
    try:
        # the zone comes with the hour
        midnight = datetime(*_year_first(parsed.numbers, order))  # noqa: DTZ001
        when = midnight + timedelta(seconds=parsed.seconds)
    except (ValueError, OverflowError):
        return math.nan
    return of_local(when, parsed.zone or zone)


def _of_serial(value: float, zone: tzinfo) -> float:
    """Unix seconds of a spreadsheet's days in a zone."""
    return of_clock(round(SPREADSHEET_EPOCH + value * DAY_SECONDS), zone)

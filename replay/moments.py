"""Dates and hours as text, in every form that spreadsheets, head-ends and national standards give them.

Whether 03/04/2024 is in March or in April is decided over a whole column, and said.
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

from schemas.columns import EARLIEST_TIME, LATEST_TIME
from schemas.units import DAY_SECONDS

Order = Literal[
    "year", "day", "month", ""
]  # which comes first; "" where it cannot be told
TICKS_PER_SECOND = (
    1,
    1_000,
    1_000_000,
    1_000_000_000,
)  # of a second, in which systems count
SPREADSHEET_EPOCH = datetime(
    1899, 12, 30, tzinfo=UTC
).timestamp()  # day 0 of spreadsheets
COMPACT_FACTOR = 5  # times shorter is the span of a column by the one order than by the other, before it decides
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
}  # hours ahead of UTC of abbreviations that mean one zone; CST, EST and IST mean several
MORNING_WORDS, AFTERNOON_WORDS = (
    ("am", "上午", "凌晨", "早上"),
    ("pm", "下午", "晚上", "中午"),
)

_DIGITS_ONLY = re.compile(r"\d+(\.\d*)?")
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
    """The parts of a stamp as they stand."""

    numbers: tuple[int, int, int]  # of the date, in the order in which they stand
    order: Order  # "" where the first may be the day or the month
    seconds: float  # after midnight
    zone: tzinfo | None


def seconds_of(texts: Sequence[str], zone: tzinfo) -> tuple[list[float], Order]:
    """Unix seconds of a column's distinct texts, in the zone where one names none, and what dates of it begin with.

    NaN is what cannot be read, and every date of which it cannot be told whether the day or the month comes first.

    >>> seconds_of(["1970-01-02", "2/1/1970 0:00:05", "13/1/1970", "31.1.1970"], UTC)
    ([86400.0, 86405.0, 1036800.0, 2592000.0], 'day')
    """
    numbers = [_number_of(text, zone) for text in texts]
    stamps = [
        None if not math.isnan(number) else _read(text)
        for number, text in zip(numbers, texts, strict=True)
    ]
    open_dates = [stamp.numbers for stamp in stamps if stamp and not stamp.order]
    order = _order_of(open_dates)
    found = [
        number if stamp is None else _at(stamp, stamp.order or order, zone)
        for number, stamp in zip(numbers, stamps, strict=True)
    ]
    return found, order if open_dates else "year"


def seconds_of_numbers(
    values: NDArray[np.float64], zone: tzinfo
) -> NDArray[np.float64]:
    """Unix seconds of numbers: seconds or parts of them since 1970, or days of a spreadsheet in a zone; else NaN."""
    if len(values) and values.min() >= EARLIEST_TIME and values.max() < LATEST_TIME:
        return values
    found = np.full(len(values), np.nan)
    for unit in TICKS_PER_SECOND:
        fits = (values >= EARLIEST_TIME * unit) & (values < LATEST_TIME * unit)
        found[fits] = values[fits] / unit
    serial = (values >= (EARLIEST_TIME - SPREADSHEET_EPOCH) / DAY_SECONDS) & (
        values < (LATEST_TIME - SPREADSHEET_EPOCH) / DAY_SECONDS
    )
    found[serial] = [_of_serial(value, zone) for value in values[serial].tolist()]
    return found


def _number_of(text: str, zone: tzinfo) -> float:
    """Unix seconds of digits alone: seconds or parts of them since 1970, days of a spreadsheet, YYYYMMDD; else NaN.

    >>> _number_of("1456790400", UTC), _number_of("1456790400000", UTC), _number_of("42430.5", UTC)
    (1456790400.0, 1456790400.0, 1456833600.0)
    """
    told = text.strip()
    if not _DIGITS_ONLY.fullmatch(told):
        return math.nan
    return float(seconds_of_numbers(np.array([float(told)]), zone)[0])


def _read(text: str) -> _ParsedTime | None:
    """The parts of a stamp; None where it is none."""
    told = " ".join(text.split())
    if found := _COMPACT_DATE.match(told):
        year, month, day, hour, minute, second = (
            int(part or 0) for part in found.groups()
        )
        return _ParsedTime(
            (year, month, day), "year", 3600.0 * hour + 60 * minute + second, None
        )
    date = _DATE_PATTERN.match(told)
    if date is None:
        return None
    numbers, order = _date(date)
    rest = told[date.end() :]
    joined = rest[:1].lower() in ("", " ", "t", ",", ":") or date[0].endswith("日")
    clock = _clock(rest.lstrip("Tt,: ")) if joined else None
    return (
        None
        if clock is None or numbers is None
        else _ParsedTime(numbers, order, *clock)
    )


def _order_of(dates: Sequence[tuple[int, int, int]]) -> Order:
    """Whether days or months come first: a number above twelve tells, else that dates lie close to one another.

    >>> _order_of([(1, 2, 2024), (13, 2, 2024)]), _order_of([(n, 3, 2024) for n in range(1, 9)]), _order_of([(1, 2, 2024)])
    ('day', 'day', '')
    """
    first, second = any(a > 12 for a, _, _ in dates), any(b > 12 for _, b, _ in dates)
    if first != second:
        return "day" if first else "month"
    if first or not dates:
        return ""
    spans = {order: _span(dates, order) for order in ("day", "month")}
    if all(a == b for a, b, _ in dates):
        return "day"  # the same by both
    if spans["day"] * COMPACT_FACTOR < spans["month"]:
        return "day"
    return "month" if spans["month"] * COMPACT_FACTOR < spans["day"] else ""


def _span(dates: Sequence[tuple[int, int, int]], order: Order) -> float:
    days = [
        datetime(*_year_first(date, order), tzinfo=UTC).timestamp()
        for date in set(dates)
    ]
    return max(days) - min(days)


def _year_first(numbers: tuple[int, int, int], order: Order) -> tuple[int, int, int]:
    a, b, c = numbers
    if order == "year":
        return a, b, c
    year = c if c > 99 else 2000 + c
    return (year, b, a) if order == "day" else (year, a, b)


def _date(found: re.Match[str]) -> tuple[tuple[int, int, int] | None, Order]:
    if found["m"]:
        return (
            (int(found["y"]), month, int(found["d"]))
            if (month := _month(found["m"]))
            else None
        ), "year"
    a, b, c = found["a"], found["b"], found["c"]
    if not b.isdigit():
        month = _month(b)
        day, year = (c, a) if len(a) > 2 else (a, c)
        return ((int(day), month, int(year)) if month else None), "day"
    if len(a) == 4:
        return (int(a), int(b), int(c)), "year"
    return (int(a), int(b), int(c)), "day" if found["s"] == "." else ""


def _month(name: str) -> int:
    short = name[:3].lower()
    return MONTH_NAMES.index(short) + 1 if short in MONTH_NAMES else 0


def _clock(text: str) -> tuple[float, tzinfo | None] | None:
    """Seconds after midnight and the zone; None where it is neither hour nor zone."""
    if not text:
        return 0.0, None
    if found := _FOUR_DIGITS.match(text):
        hour, minute, second = (int(part or 0) for part in found.groups())
        fraction = 0.0
    elif found := _HOUR_PATTERN.match(text):
        hour, minute, second = (int(found[part] or 0) for part in "hms")
        fraction = float(f"0.{found['f'] or 0}")
        half = (found["half"] or "").replace(".", "").lower() or found["early"] or ""
        hour = hour % 12 + 12 * (half in AFTERNOON_WORDS) if half else hour
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
        minutes = 60 * int(found["h"]) + int(found["m"] or 0)
        return (
            timezone(timedelta(minutes=int(f"{found['sign']}{minutes}")))
            if minutes <= 14 * 60
            else _NO_ZONE
        )
    try:
        return ZoneInfo(found["name"])
    except (ZoneInfoNotFoundError, ValueError):
        return _NO_ZONE


def _at(parsed: _ParsedTime, order: Order, zone: tzinfo) -> float:
    if not order:
        return math.nan
    try:
        midnight = datetime(*_year_first(parsed.numbers, order))  # noqa: DTZ001 - the zone comes with the hour
    except ValueError:
        return math.nan
    return _local(midnight + timedelta(seconds=parsed.seconds), parsed.zone or zone)


def _of_serial(value: float, zone: tzinfo) -> float:
    return _local(
        datetime.fromtimestamp(
            round(SPREADSHEET_EPOCH + value * DAY_SECONDS), UTC
        ).replace(tzinfo=None),
        zone,
    )


def _local(when: datetime, zone: tzinfo) -> float:
    return when.replace(tzinfo=zone).timestamp()

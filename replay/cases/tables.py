"""The tables of case files, whose columns are two or more spaces apart, and what their cells mean.

at        `d1 08:00`, a day of the case and its local time; `d1 24:00` is `d2 00:00`; `d1..d3 08:00` is every day,
          `d1 00:15..24:00` every interval of a day, `d1 10:00..11:00 /5` every five minutes; with both, all of them
values    `-` is missing; `220/0/220` are the phases, `220` all phases of the meter; `100+0.5` grows by 0.5 a row;
          `10~2` spreads evenly from 8 to 12; `M1..M9` is a row for each of nine subjects
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

import numpy as np

from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai, d1 of every case
GOLDEN_RATIO = (5**0.5 - 1) / 2
MISSING_CELL = "-"
DAY_PATTERN = r"d[1-9]\d{0,3}"
TIME_PATTERN = r"\d+:\d\d(?::\d\d)?"
TIMES_PATTERN = re.compile(
    rf"({DAY_PATTERN})(?:\.\.({DAY_PATTERN}))? ({TIME_PATTERN})(?:\.\.({TIME_PATTERN}))?(?: /([\d.]+))?"
)
TableRow = dict[str, str]


class CaseError(ValueError):
    """A case file, a case or a cell that cannot be understood; says which and why."""


def table_rows(text: str) -> Iterator[TableRow]:
    """The rows of a table, by column. Raises CaseError if a row does not fit the columns."""
    text_lines = text.strip().splitlines()
    lines = [re.split(r" {2,}", line.strip()) for line in text_lines]
    if not lines:
        return
    columns = lines[0]
    for cells in lines[1:]:
        if len(cells) != len(columns):
            raise CaseError(
                f"the row {'  '.join(cells)!r} has {len(cells)} cells, and there are {len(columns)} columns; "
                f"two spaces or more part them, and {MISSING_CELL} stands for a missing value"
            )
        yield dict(zip(columns, cells, strict=True))


def format_table(rows: list[TableRow]) -> str:
    """Rows as the text of a table."""
    if not rows:
        return "(none)"
    text_rows = [list(rows[0])]
    text_rows += [list(row.values()) for row in rows]
    columns = zip(*text_rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    text: list[str] = []
    for line in text_rows:
        cells = map(str.ljust, line, widths)
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def subjects(cell: str) -> list[str]:
    """Every subject that a cell names.

    >>> subjects("M1..M3"), subjects("-")
    (['M1', 'M2', 'M3'], [''])
    """
    if (found := re.fullmatch(r"([A-Za-z]+)(\d+)\.\.\1(\d+)", cell)) is None:
        return ["" if cell == MISSING_CELL else cell]
    letters, first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [f"{letters}{n}" for n in numbers]


def parse_time(cell: str) -> int:
    """A single time; 0 for none. Raises CaseError."""
    if cell == MISSING_CELL:
        return 0
    times = parse_times(cell, DAY_SECONDS)
    if len(times) != 1:
        raise CaseError(f"{cell!r} is more than one time")
    return times[0]


def parse_times(cell: str, interval: int) -> list[int]:
    """Every time that a cell names; ranges of a day go by `interval` seconds. Raises CaseError.

    >>> [format_time(at) for at in parse_times("d1..d2 10:00..10:30 /15", 3600)]
    ['d1 10:00', 'd1 10:15', 'd1 10:30', 'd2 10:00', 'd2 10:15', 'd2 10:30']
    """
    if cell == MISSING_CELL:
        return [0]
    found = TIMES_PATTERN.fullmatch(cell)
    if found is None:
        raise CaseError(
            f"{cell!r} is no time such as `d1 08:00` or `d1..d3 00:15..24:00`"
        )
    first_day, last_day, first, last, minutes = found.groups()

    first_midnight = _midnight(first_day)
    last_midnight = _midnight(last_day or first_day)
    midnights = range(first_midnight, last_midnight + 1, DAY_SECONDS)

    step = round(float(minutes) * MINUTE_SECONDS) if minutes else interval
    if step < 1:
        raise CaseError(f"{cell!r} has steps of {step} seconds")
    first_second = _second_of_day(first)
    last_second = _second_of_day(last or first)
    seconds = range(first_second, last_second + 1, step)
    return [midnight + second for midnight in midnights for second in seconds]


def _midnight(day: str) -> int:
    number = int(day.removeprefix("d"))
    return START_TIME + (number - 1) * DAY_SECONDS


def _second_of_day(time: str) -> int:
    hours, minutes, *seconds = map(int, time.split(":"))
    return hours * HOUR_SECONDS + minutes * MINUTE_SECONDS + sum(seconds)


def format_time(at: int) -> str:
    """A time as the cells of `at` have it.

    >>> format_time(1_772_380_800 + 86_400 + 930)
    'd2 00:15:30'
    """
    day, second = divmod(at - START_TIME, DAY_SECONDS)
    minutes, seconds = divmod(second, MINUTE_SECONDS)
    hour, minute = divmod(minutes, 60)
    text = f"d{day + 1} {hour:02}:{minute:02}"
    return f"{text}:{seconds:02}" if seconds else text


class CellValues:
    """The numbers of a table's cells."""

    def __init__(self) -> None:
        self._spread_counts: Counter[str] = Counter()

    def value(self, cell: str, n: int) -> float:
        """A cell's value in its n-th row; NaN if it is missing. Raises CaseError."""
        if cell == MISSING_CELL:
            return np.nan
        try:
            if "~" in cell:
                middle, width = map(float, cell.split("~"))
                self._spread_counts[cell] += 1
                share = self._spread_counts[cell] * GOLDEN_RATIO % 1
                return middle + width * (2 * share - 1)

            start, grows, step = cell.partition("+")
            growth = n * float(step) if grows else 0.0
            return float(start) + growth
        except ValueError:
            raise CaseError(
                f"{cell!r} is no number, such as 220, 100+0.5 or 10~2"
            ) from None

    def phases(self, cell: str, n: int, wiring: str) -> list[float]:
        """A cell's values on the three phases in its n-th row. Raises CaseError."""
        values = [self.value(phase, n) for phase in cell.split("/")]
        if len(values) == 1:
            if wiring == "1P2W":
                return [*values, np.nan, np.nan]
            return values * 3
        if len(values) != 3:
            raise CaseError(f"{cell!r} has {len(values)} phases, not 3")
        return values


def code(cell: str, codes: Mapping[str, int]) -> int:
    """The code of a word. Raises CaseError for an unknown word."""
    if cell not in codes:
        raise CaseError(unknown("word", cell, codes))
    return codes[cell]


def unknown(thing: str, name: str, known: Iterable[str]) -> str:
    """That a name is not known, with the nearest that is."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return f"there is no {thing} {name}; {advice}"

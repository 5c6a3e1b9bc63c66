"""How the rows of a table are laid out, guessed from its header and its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import NamedTuple

import numpy as np

from replay.clocks import header_clocks
from replay.moments import clock_seconds, seconds_of
from replay.tables import Sheet
from schemas.units import DAY_SECONDS

LOOKED_AT = 50  # distinct words of a column
FEWEST_CLOCKS = 12  # columns of times that make a table wide
PHASE_HEADER = re.compile(r"ph|phase|phase_?(id|no)|.*相序|相别", re.IGNORECASE)
PHASE_WORD = re.compile(r"(?:L|phase ?)?([ABC123])相?", re.IGNORECASE)
DAY_HEADER = re.compile(r".*(date|day|datum|tag|fecha|jour|日期).*", re.IGNORECASE)
HOUR_HEADER = re.compile(
    r".*(time|hour|clock|zeit|stunde|heure|hora|时间|时刻)", re.IGNORECASE
)
EMPTY_WORD = re.compile(r"n/?a|#n/a|null|none|nan|nil|-+|无", re.IGNORECASE)


class RowShape(NamedTuple):
    """What a row is, beside a meter and a time with all values."""

    clocks: Sequence[str] = ()  # columns that are times of the day
    day: str = ""  # the columns of the day and of the hour, if there are two
    hour: str = ""
    phase: str = ""  # the column that says of which phase a row is
    words: Mapping[str, Sequence[str]] = {}  # of A, B and C
    empty: Sequence[str] = ()  # words that say that nothing is known
    cell: str = "cell"  # of columns of times


NO_SHAPE = RowShape()


def shape_of(theirs: Sheet) -> RowShape:
    """How the rows of a sheet are laid out, by its columns' names and words."""
    names = theirs.table.column_names
    clocks = list(header_clocks(name.strip("`") for name in names))
    words = {name: theirs.words(name)[0] for name in names}
    empty = {word for found in words.values() for word in found if _is_empty(word)}
    day, hour = next(_days_and_hours(words), ("", ""))
    phase = next(filter(None, map(_phase, words.items())), ("", {}))
    wide = len(clocks) >= FEWEST_CLOCKS
    return RowShape(
        clocks if wide else (),
        day,
        "" if wide else hour,
        *phase,
        empty=sorted({word.strip().upper() for word in empty}),
    )


def _is_empty(word: str) -> bool:
    return EMPTY_WORD.fullmatch(word.strip()) is not None


def _days_and_hours(words: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Two columns, one of days and one of hours."""
    days = []
    hours = []
    for name, found in words.items():
        known = [word for word in found[:LOOKED_AT] if not _is_empty(word)]
        if DAY_HEADER.fullmatch(name.strip("`")) and _are_days(known):
            days.append(name)
        elif HOUR_HEADER.fullmatch(name.strip("`")) and _are_hours(known):
            hours.append(name)
    yield from zip(days, hours, strict=False)


def _are_hours(words: Sequence[str]) -> bool:
    """True if words are hours, and no times with their day."""
    moments, _ = seconds_of(words, UTC, "day")
    no_moment = bool(np.isnan(moments).all())
    return bool(words) and no_moment and not np.isnan(clock_seconds(words)).any()


def _are_days(words: Sequence[str]) -> bool:
    """True if words are days without an hour, whichever number comes first."""
    for order in ("day", "month"):
        moments, _ = seconds_of(words, UTC, order)
        if words and (np.array(moments) % DAY_SECONDS == 0).all():
            return True
    return False


def _phase(
    column: tuple[str, Sequence[str]],
) -> tuple[str, Mapping[str, Sequence[str]]] | None:
    """A column of phases and its words for each; None if it is none."""
    name, words = column
    if not PHASE_HEADER.fullmatch(name.strip("`")):
        return None
    found: dict[str, list[str]] = {}
    for word in words:
        if phase := PHASE_WORD.fullmatch(word.strip()):
            letter = "ABC"["ABC123".index(phase[1].upper()) % 3]
            found.setdefault(letter, []).append(word.strip())
    return (name, dict(sorted(found.items()))) if len(found) > 1 else None

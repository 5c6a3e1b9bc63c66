"""Records become columns, and faults of a batch are found column by column."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.columns import (
    COLUMN_TYPES,
    EARLIEST_TIME,
    LATEST_TIME,
    PHASE_COLUMNS,
    Batch,
    Codes,
    Mask,
    Names,
)
from schemas.events import System, event_of, is_area_wide
from schemas.wire.records import LARGEST_NUMBER, WORDS_BY_CODE
from schemas.wire.rejection import Reason, RejectedError

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_SECOND = timedelta(seconds=1)
CODES_BY_WORD = {
    name: {word: code for code, word in enumerate(words)}
    for name, words in WORDS_BY_CODE.items()
}


def coded(words: Sequence[str]) -> tuple[Names, Codes]:
    """The distinct words, and the code of each word.

    >>> names, codes = coded(["b", "a", "b"])
    >>> names, codes.tolist()
    (('b', 'a'), [0, 1, 0])
    """
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(word, len(known)) for word in words], np.int32)
    return tuple(known), codes


def column(name: str, values: Sequence[Any]) -> NDArray[Any] | None:
    """A field of all records as a column; None if no record has it."""
    kind = COLUMN_TYPES[name]
    if name in CODES_BY_WORD:
        if values.count(values[0]) == len(values):
            return np.full(len(values), CODES_BY_WORD[name][values[0]], kind)
        codes = map(CODES_BY_WORD[name].__getitem__, values)
        return np.fromiter(codes, kind, len(values))

    if kind is np.int64:
        return _times(values)
    if values[0] is None and values.count(None) == len(values):
        return None
    numbers = _phases(values) if name in PHASE_COLUMNS else np.array(values, np.float64)
    with np.errstate(over="ignore"):
        return numbers.astype(kind, order="C")


def events(
    words: tuple[str | None, ...],
    systems: tuple[System | None, ...],
    codes: tuple[str, ...],
) -> tuple[tuple[Any, ...], dict[int, RejectedError]]:
    """The word of each device event, given as a word or by a code; and the rows without one."""
    faulty: dict[int, RejectedError] = {}
    if None not in words and not any(codes) and not any(systems):
        return words, faulty

    event_words = WORDS_BY_CODE["event"]
    found: list[str] = []
    for row, (word, system, code) in enumerate(zip(words, systems, codes, strict=True)):
        event = event_of(system, code) if system and code else None
        by_code = event_words[event] if event is not None else None
        error = _event_fault(word, system, code, by_code)
        if error is not None:
            faulty[row] = error
        found.append(word or by_code or event_words[0])
    return tuple(found), faulty


def _event_fault(
    word: str | None, system: System | None, code: str, by_code: str | None
) -> RejectedError | None:
    """The fault of a device event with a word, a code, and the word that the code means."""
    if bool(system) != bool(code):
        return RejectedError(Reason.MISSING_FIELD, "system and code come together")

    if code and by_code is None:
        return RejectedError(
            Reason.UNKNOWN_CODE,
            f"{system} has no code {code} that means anything here",
        )
    if word and by_code and word != by_code:
        return RejectedError(
            Reason.UNKNOWN_VALUE, f"event is {word}, but code {code} is {by_code}"
        )
    if not (word or by_code):
        return RejectedError(
            Reason.MISSING_FIELD,
            "Object missing required field `event`, and has no code",
        )
    return None


def subjects(
    meters: tuple[str, ...], systems: tuple[System | None, ...], codes: tuple[str, ...]
) -> tuple[str, ...]:
    """The meter of each device event, "" if its code is about the whole area."""
    if not any(systems):
        return meters
    rows = zip(meters, systems, codes, strict=True)
    return tuple(
        "" if is_area_wide(system, code) else meter for meter, system, code in rows
    )


def _times(values: Sequence[int | datetime]) -> NDArray[np.int64]:
    """Unix seconds."""
    try:
        return np.fromiter(values, np.int64, len(values))
    except TypeError:
        seconds = [
            (value - UNIX_EPOCH) // ONE_SECOND if isinstance(value, datetime) else value
            for value in values
        ]
        return np.array(seconds, np.int64)


def _phases(values: Sequence[Any]) -> NDArray[np.float64]:
    """Values as phases A, B and C of all rows; a number is phase A."""
    kinds = set(map(type, values))
    if tuple not in kinds:
        phases = np.full((3, len(values)), np.nan)
        phases[0] = values
        return phases
    if kinds != {tuple}:
        values = [
            value if type(value) is tuple else (value, np.nan, np.nan)
            for value in values
        ]

    # Packing is faster than np.array, but cannot pack None.
    cells = list(chain.from_iterable(values))
    try:
        flat = np.frombuffer(struct.pack(f"{len(cells)}d", *cells), np.float64)
    except struct.error:
        flat = np.array(cells, np.float64)
    return flat.reshape(-1, 3).T


def faults(batch: Batch) -> dict[int, RejectedError]:
    """The rows that must not be judged, with the first fault of each."""
    found: dict[int, RejectedError] = {}

    def note(rows: Mask, reason: Reason, detail: str) -> None:
        error = RejectedError(reason, detail)
        for row in np.flatnonzero(rows).tolist():
            found.setdefault(row, error)

    for names, codes in batch.encodings().items():
        words = getattr(batch, names)
        if not "".join(words).isprintable():
            odd = [code for code, word in enumerate(words) if not word.isprintable()]
            rows = np.isin(getattr(batch, codes), odd)
            note(rows, Reason.BAD_ID, f"{codes} is not printable")

    for field in fields(batch):
        name = field.name
        values = getattr(batch, name)
        kind = COLUMN_TYPES[name]
        if name in WORDS_BY_CODE:
            count = len(WORDS_BY_CODE[name])
            rows = values >= count
            note(rows, Reason.UNKNOWN_VALUE, f"{name} has {count} codes, from 0")
        elif kind is np.int64:
            outside = (values < EARLIEST_TIME) | (values >= LATEST_TIME)
            rows = outside & ((name == "at") | (values != 0))
            detail = f"{name} is not within 2000 to 2100 in Unix seconds"
            note(rows, Reason.BAD_TIME, detail)
        elif np.dtype(kind).kind == "f" and values.strides[-1]:
            huge = np.abs(values) > LARGEST_NUMBER
            if huge.any():
                infinite = _rows(np.isinf(values))
                note(infinite, Reason.NOT_FINITE, f"{name} is not finite")
                detail = f"{name} is beyond {LARGEST_NUMBER:g}"
                note(_rows(huge), Reason.OUT_OF_RANGE, detail)
    return found


def _rows(cells: Mask) -> Mask:
    """The rows in which any phase is true."""
    return np.logical_or.reduce(np.atleast_2d(cells))

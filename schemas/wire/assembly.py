"""Records become columns, and what is wrong in a batch is found column by column."""

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
    """A field of all records as a column; None when no record tells it."""
    kind = COLUMN_TYPES.get(name, np.int64)
    if name in CODES_BY_WORD:
        if values.count(values[0]) == len(values):
            return np.full(len(values), CODES_BY_WORD[name][values[0]], kind)
        return np.fromiter(
            map(CODES_BY_WORD[name].__getitem__, values), kind, len(values)
        )
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
    """The word of each device event, told as such or by a code, and which rows tell none."""
    astray: dict[int, RejectedError] = {}
    if None not in words and not any(codes) and not any(systems):
        return words, astray
    told: list[str] = []
    for row, (word, system, code) in enumerate(zip(words, systems, codes, strict=True)):
        known = event_of(system, code) if system and code else None
        meant = WORDS_BY_CODE["event"][known] if known is not None else None
        if bool(system) != bool(code):
            astray[row] = RejectedError(
                Reason.MISSING_FIELD, "system and code come together"
            )
        elif code and meant is None:
            astray[row] = RejectedError(
                Reason.UNKNOWN_CODE,
                f"{system} has no code {code} that means anything here",
            )
        elif word and meant and word != meant:
            astray[row] = RejectedError(
                Reason.UNKNOWN_VALUE, f"event is {word}, but code {code} is {meant}"
            )
        elif not (word or meant):
            astray[row] = RejectedError(
                Reason.MISSING_FIELD,
                "Object missing required field `event`, and has no code",
            )
        told.append(word or meant or WORDS_BY_CODE["event"][0])
    return tuple(told), astray


def subjects(
    meters: tuple[str, ...], systems: tuple[System | None, ...], codes: tuple[str, ...]
) -> tuple[str, ...]:
    """The meter of each device event, "" where its code tells of the whole area."""
    if not any(systems):
        return meters
    told = zip(meters, systems, codes, strict=True)
    return tuple(
        "" if is_area_wide(system, code) else meter for meter, system, code in told
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
    cells = list(chain.from_iterable(values))
    try:
        flat = np.frombuffer(struct.pack(f"{len(cells)}d", *cells), np.float64)
    except struct.error:
        flat = np.array(cells, np.float64)
    return flat.reshape(-1, 3).T


def faults(batch: Batch) -> dict[int, RejectedError]:
    """The rows that must not stay."""
    found: dict[int, RejectedError] = {}

    def fault(rows: Mask, reason: Reason, detail: str) -> None:
        error = RejectedError(reason, detail)
        for row in np.flatnonzero(rows).tolist():
            found.setdefault(row, error)

    for names, codes in batch.encodings().items():
        words = getattr(batch, names)
        if not "".join(words).isprintable():
            odd = [code for code, word in enumerate(words) if not word.isprintable()]
            fault(
                np.isin(getattr(batch, codes), odd),
                Reason.BAD_ID,
                f"{codes} is not printable",
            )
    for field in fields(batch):
        name, values = field.name, getattr(batch, field.name)
        if name in WORDS_BY_CODE:
            fault(
                values >= len(WORDS_BY_CODE[name]),
                Reason.UNKNOWN_VALUE,
                f"{name} has {len(WORDS_BY_CODE[name])} codes, from 0",
            )
        elif name == "at" or COLUMN_TYPES.get(name) is np.int64:
            astray = ((values < EARLIEST_TIME) | (values >= LATEST_TIME)) & (
                (name == "at") | (values != 0)
            )
            fault(
                astray,
                Reason.BAD_TIME,
                f"{name} is not within 2000 to 2100 in Unix seconds",
            )
        elif np.dtype(COLUMN_TYPES.get(name, str)).kind == "f" and values.strides[-1]:
            huge = np.abs(values) > LARGEST_NUMBER
            if huge.any():
                infinite = np.isinf(values)
                fault(_rows(infinite), Reason.NOT_FINITE, f"{name} is not finite")
                fault(
                    _rows(huge),
                    Reason.OUT_OF_RANGE,
                    f"{name} is beyond {LARGEST_NUMBER:g}",
                )
    return found


def _rows(cells: Mask) -> Mask:
    return np.logical_or.reduce(np.atleast_2d(cells))

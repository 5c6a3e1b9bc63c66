"""Ids as text: marks of programs around an id are taken off, lost digits are recognised."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from replay.history import Names
from schemas.columns import Codes, Mask
from schemas.wire.records import LONGEST_ID

FORMULA_CELL = re.compile(r'="(.*)"')
SCIENTIFIC_NUMBER = re.compile(r"\d([.,]\d+)?E\+\d{1,3}", re.IGNORECASE)
# Unicode categories of characters that nobody sees at the end of a cell
INVISIBLE_CATEGORIES = {"Cc", "Cf", "Zs", "Zl", "Zp"}
MISSING_ID, LOST_DIGITS, NO_ID = -1, -2, -3  # for the number of an id


def clean(text: str) -> str:
    r"""The id without blanks, tabs and marks around it, `="..."`, quotes, or an apostrophe before it.

    >>> clean("\t3700 "), clean('="3700"'), clean("'3700"), clean("\ufeff\x1f3700")
    ('3700', '3700', '3700', '3700')
    >>> clean("O'Hara")
    "O'Hara"
    """
    trimmed = _trim(text)
    if found := FORMULA_CELL.fullmatch(trimmed):
        trimmed = _trim(found[1])
    if len(trimmed) > 1 and trimmed[0] == trimmed[-1] and trimmed[0] in "'\"":
        trimmed = _trim(trimmed[1:-1])
    if trimmed[:1] == "'":
        return _trim(trimmed[1:])
    return trimmed


def has_lost_digits(text: str) -> bool:
    """True if a spreadsheet has made a number of the id, and shows only its first digits.

    >>> has_lost_digits("2.31282E+13"), has_lost_digits("2,31282e+13")
    (True, True)
    >>> has_lost_digits("1E10")
    False
    """
    return SCIENTIFIC_NUMBER.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """True if a subject may be called so."""
    return 0 < len(text) <= LONGEST_ID and text.isprintable()


def numbered(words: Sequence[str], seen: Names) -> tuple[Codes, Mask]:
    """The number of each word, and whether it was mended; the last stands for an empty cell."""
    number = np.append(seen.known(words), np.int32(MISSING_ID))
    mended = np.zeros(len(number), np.bool_)
    fresh = {}
    for k in np.flatnonzero(number[:-1] < 0).tolist():
        text = clean(words[k])
        if has_lost_digits(text):
            number[k] = LOST_DIGITS
        elif is_id(text):
            fresh[k] = text
            mended[k] = text != words[k]
        elif text:
            number[k] = NO_ID
    number[list(fresh)] = seen.numbers(fresh.values())
    return number, mended


def shortened(word: str) -> str:
    """The word, cut to the length of an id; a digest keeps it apart from others."""
    if len(word) <= LONGEST_ID:
        return word
    beginning = word[: LONGEST_ID - 10]
    return f"{beginning} {_digest(word)}"


def _digest(word: str) -> str:
    return blake2b(word.encode(), digest_size=4).hexdigest()


def _trim(text: str) -> str:
    first = 0
    last = len(text)
    while first < last and unicodedata.category(text[first]) in INVISIBLE_CATEGORIES:
        first += 1
    while last > first and unicodedata.category(text[last - 1]) in INVISIBLE_CATEGORIES:
        last -= 1
    return text[first:last]

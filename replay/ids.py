"""Ids as text: what programs put around one to keep it whole is taken off, and one that has lost digits is known."""

from __future__ import annotations

import re
import unicodedata

from schemas.wire.records import LONGEST_ID

FORMULA_CELL = re.compile(r'="(.*)"')
SCIENTIFIC_NUMBER = re.compile(r"\d([.,]\d+)?E\+\d{1,3}", re.IGNORECASE)
INVISIBLE_CATEGORIES = {
    "Cc",
    "Cf",
    "Zs",
    "Zl",
    "Zp",
}  # categories of characters that nobody sees at the end of a cell


def clean(text: str) -> str:
    r"""The id without blanks, tabs and marks around it, `="..."`, quotes, or an apostrophe before it.

    >>> clean("\t3700 "), clean('="3700"'), clean("'3700"), clean("\ufeff\x1f3700"), clean("O'Hara")
    ('3700', '3700', '3700', '3700', "O'Hara")
    """
    told = _trim(text)
    if found := FORMULA_CELL.fullmatch(told):
        told = _trim(found[1])
    if len(told) > 1 and told[0] == told[-1] and told[0] in "'\"":
        told = _trim(told[1:-1])
    return _trim(told[1:]) if told[:1] == "'" else told


def has_lost_digits(text: str) -> bool:
    """Whether a spreadsheet has made a number of the id, of which it shows the first digits.

    >>> has_lost_digits("2.31282E+13"), has_lost_digits("2,31282e+13"), has_lost_digits("1E10")
    (True, True, False)
    """
    return SCIENTIFIC_NUMBER.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether a subject may be called so."""
    return 0 < len(text) <= LONGEST_ID and text.isprintable()


def _trim(text: str) -> str:
    first, last = 0, len(text)
    while first < last and unicodedata.category(text[first]) in INVISIBLE_CATEGORIES:
        first += 1
    while last > first and unicodedata.category(text[last - 1]) in INVISIBLE_CATEGORIES:
        last -= 1
    return text[first:last]

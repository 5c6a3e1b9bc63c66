"""Numbers as text in any country's way; the decimal mark is decided over a whole file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

DecimalMark = Literal[".", ",", "both", ""]
NUMBER_PATTERN = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[nN][aA][nN]$"
THOUSANDS_SEPARATOR = "[ '\u00a0\u202f]"  # thousands, where it is no mark
GROUPED_NUMBER = rf"^[-+]?\d{{1,3}}({THOUSANDS_SEPARATOR}\d{{3}})+([.,]\d+)?$"


def decimal_mark(columns: Iterable[pa.ChunkedArray]) -> DecimalMark:
    """The mark that some cell proves; "both" where cells contradict one another.

    It is "" where no cell has a comma. 1,234 alone may be a thousand or one: it proves nothing.

    >>> decimal_mark([pa.chunked_array([["1.234,5", "7"]])])
    ','
    >>> decimal_mark([pa.chunked_array([["1,234", "0.5"]])])
    '.'
    """
    texts = list(columns)
    if not any(pc.any(pc.match_substring(cells, ",")).as_py() for cells in texts):
        return ""
    comma = any(_shows(cells, ",") for cells in texts)
    point = any(_shows(cells, ".") for cells in texts)
    if comma and point:
        return "both"
    return "," if comma else "." if point else ""


def plain(cells: pa.ChunkedArray, mark: DecimalMark) -> pa.ChunkedArray:
    """Cells with a point for a mark and nothing between thousands; null where a cell is no number.

    >>> plain(pa.chunked_array([["1.234,5", "-7", "1,5", "a", None]]), ",").to_pylist()
    ['1234.5', '-7', '1.5', None, None]
    """
    texts = pc.utf8_trim_whitespace(cells)
    grouped = pc.match_substring_regex(texts, GROUPED_NUMBER)
    joined = pc.replace_substring_regex(texts, THOUSANDS_SEPARATOR, "")
    texts = pc.if_else(grouped, joined, texts)

    # the other mark may stand between thousands
    if mark in (",", "."):
        apart = "." if mark == "," else ","
        thousands = pc.match_substring_regex(
            texts, rf"^[-+]?\d{{1,3}}(\{apart}\d{{3}})+(\{mark}\d+)?$"
        )
        texts = pc.if_else(thousands, pc.replace_substring(texts, apart, ""), texts)
    if mark == ",":
        with_point = pc.match_substring(texts, ".")
        texts = pc.if_else(with_point, None, pc.replace_substring(texts, ",", "."))
    return pc.if_else(pc.match_substring_regex(texts, NUMBER_PATTERN), texts, None)


def _shows(cells: pa.ChunkedArray, mark: str) -> bool:
    """True if a cell can only be read with this decimal mark."""
    mark, apart = (",", r"\.") if mark == "," else (r"\.", ",")
    sure = (
        rf"\d*{mark}(\d{{1,2}}|\d{{4,}})",  # thousands are three digits each
        rf"(0+|\d{{4,}}){mark}\d+",
        rf"\d{{1,3}}({apart}\d{{3}})+{mark}\d+",
    )
    found = pc.match_substring_regex(cells, rf"^\s*[-+]?({'|'.join(sure)})\s*$")
    return bool(pc.any(found).as_py())

"""Numbers as text in any country's way: which of comma and point is the decimal mark is decided over a whole file."""

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
    """The mark of which some cell leaves no doubt; "both" where cells contradict one another.

    It is "" where no cell has a comma. 1,234 alone may be a thousand or one: it says nothing.

    >>> decimal_mark([pa.chunked_array([["1.234,5", "7"]])]), decimal_mark([pa.chunked_array([["1,234", "0.5"]])])
    (',', '.')
    """
    told = list(columns)
    if not any(pc.any(pc.match_substring(cells, ",")).as_py() for cells in told):
        return ""
    found = {mark for cells in told for mark in (".", ",") if _shows(cells, mark)}
    if len(found) > 1:
        return "both"
    return "," if "," in found else "." if "." in found else ""


def plain(cells: pa.ChunkedArray, mark: DecimalMark) -> pa.ChunkedArray:
    """Cells with a point for a mark and nothing between thousands; null where a cell is no number by that mark.

    >>> plain(pa.chunked_array([["1.234,5", "-7", "1,5", "a", None]]), ",").to_pylist()
    ['1234.5', '-7', '1.5', None, None]
    """
    told = pc.utf8_trim_whitespace(cells)
    grouped = pc.match_substring_regex(told, GROUPED_NUMBER)
    told = pc.if_else(
        grouped, pc.replace_substring_regex(told, THOUSANDS_SEPARATOR, ""), told
    )
    if mark in (",", "."):
        apart = "." if mark == "," else ","
        thousands = pc.match_substring_regex(
            told, rf"^[-+]?\d{{1,3}}(\{apart}\d{{3}})+(\{mark}\d+)?$"
        )
        told = pc.if_else(thousands, pc.replace_substring(told, apart, ""), told)
    if mark == ",":
        told = pc.if_else(
            pc.match_substring(told, "."), None, pc.replace_substring(told, ",", ".")
        )
    return pc.if_else(pc.match_substring_regex(told, NUMBER_PATTERN), told, None)


def _shows(cells: pa.ChunkedArray, mark: str) -> bool:
    """Whether some cell can only be read with this decimal mark."""
    mark, apart = (",", r"\.") if mark == "," else (r"\.", ",")
    sure = (
        rf"\d*{mark}(\d{{1,2}}|\d{{4,}})",  # thousands are three digits each
        rf"(0+|\d{{4,}}){mark}\d+",
        rf"\d{{1,3}}({apart}\d{{3}})+{mark}\d+",
    )
    return bool(
        pc.any(
            pc.match_substring_regex(cells, rf"^\s*[-+]?({'|'.join(sure)})\s*$")
        ).as_py()
    )

"""Delimited text as people save it: encoding, delimiter and header are found."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from replay import contents
from replay.history import SourceError, Tally

SEARCHED_LINES = 40  # lines among which the header is looked for
LONGEST_LINE = 1 << 20  # bytes
KNOWN_DELIMITERS = ",;\t|"
# a first line that spreadsheets write and read: the delimiter of the other lines
DELIMITER_HINT = re.compile(r"""sep=(.)\r?\n""")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
REPLACEMENT_CHARACTER = "\ufffd"
RAGGED_ROW = "the row has more or fewer cells than the header"
SWALLOWED_ROWS = "a quote that is not closed swallows rows"


class Head(NamedTuple):
    """The header of a text, and how the text is written."""

    names: tuple[str, ...]  # of the columns, in order; "" where a column has none
    delimiter: str
    encoding: str
    lines: int  # of text until the first row


def head(path: Path) -> Head:
    """The header of a file. Raises SourceError if there is none, OSError and ArrowInvalid."""
    return _head_of(contents.beginning(path), path)


def heads(path: Path) -> Iterator[tuple[int, Head]]:
    """Every header that may stand below so many lines. Raises SourceError as `head` does."""
    content = _beginning(path)
    for line in range(min(content.count(b"\n"), SEARCHED_LINES)):
        rest = content[_end_of_lines(content, line) :]
        if rest[:1].strip():  # not an empty line
            try:
                yield line, _head_of(rest, path)
            except SourceError:
                continue


def is_header(path: Path) -> bool:
    """True if the first line can only name columns: it has no values, and the next row has some."""
    rows = [row for row in first_lines(path, SEARCHED_LINES) if any(row)][:2]
    return (
        len(rows) == 2
        and not any(map(_is_value, rows[0]))
        and any(map(_is_value, rows[1]))
    )


def first_lines(path: Path, lines: int) -> list[list[str]]:
    """The cells of the first lines."""
    content = _beginning(path)
    text = content[: _end_of_lines(content, lines)].decode("utf-8", "replace")
    delimiter = max(KNOWN_DELIMITERS, key=text.count)
    return [
        [clean(cell) for cell in row]
        for row in csv.reader(text.splitlines(), delimiter=delimiter)
    ]


def _head_of(content: bytes, path: Path) -> Head:
    """The header at the beginning of a text. Raises SourceError when there is none."""
    code = encoding(content)
    text = _lines(content).decode(code, "replace")
    if len(content) >= contents.HEAD_BYTES and "\n" not in text:
        which = "its first line, which should name the columns,"
        raise SourceError(
            f"{path}: {which} is longer than {contents.HEAD_BYTES:,} bytes"
        )

    hint = DELIMITER_HINT.match(text)
    begins = hint.end() if hint else 0
    records = {}
    for delimiter in hint[1] if hint else KNOWN_DELIMITERS:
        if record := _record(text[begins:], delimiter):
            records[delimiter] = record
    if not records:
        raise SourceError(
            f"{path}: its first line, which should name the columns, has a quote that is not closed"
        )

    # the delimiter that gives the most cells
    delimiter = max(records, key=lambda mark: len(records[mark][0]))
    cells, lines = records[delimiter]
    if not any(cells):
        raise SourceError(f"{path} is empty: its first line should name the columns")
    return Head(tuple(map(clean, cells)), delimiter, code, lines + (1 if hint else 0))


def encoding(content: bytes) -> str:
    """UTF-8, UTF-16 by its byte order mark, or the GB 18030 of Chinese office programs.

    >>> encoding("电压".encode("gb18030")), encoding("电压".encode("utf-16"))
    ('gb18030', 'utf-16')
    >>> encoding("电压".encode()[:-1])
    'utf-8'
    """
    for mark, name in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return name
    try:
        # the end may be cut within a character
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


def clean(name: str) -> str:
    r"""The name of a column without the marks that programs put around it.

    >>> clean("\ufeff meter\t"), clean('="kwh"')
    ('meter', 'kwh')
    """
    return re.sub(r'^="(.*)"$', r"\1", name.strip("\ufeff \t\r\n\u00a0"))


def read(path: Path, names: Sequence[str], tally: Tally) -> pa.Table:
    """The named columns as text, null where a cell is empty; rows that do not fit are refused."""
    content, found = _read(path, 0, tally)
    places = [found.names.index(name) for name in names]
    return _table(content, found, places, path, tally)


def read_below(path: Path, lines: int, tally: Tally) -> pa.Table:
    """All columns as text, of a header that stands below so many lines."""
    content, found = _read(path, lines, tally)
    positions = [place for place, name in enumerate(found.names) if name]
    return _table(content, found, positions, path, tally)


def _read(path: Path, lines: int, tally: Tally) -> tuple[bytes, Head]:
    """The rows below the header, which stands below so many lines, and the header."""
    most = contents.MOST_UNFOLDED if lines else contents.MOST_BYTES
    content = _lines(contents.whole(path, most))
    found = _head_of(content[: contents.HEAD_BYTES], path)
    content = _as_utf8(content, found.encoding, path, tally)
    if lines:
        content = content[_end_of_lines(content, lines) :]
        found = _head_of(content[: contents.HEAD_BYTES], path)
    return content[_end_of_lines(content, found.lines) :], found


def _table(
    rows: bytes, found: Head, positions: Sequence[int], path: Path, tally: Tally
) -> pa.Table:
    """The columns at some positions as text; rows that do not fit the header are refused."""
    names = [found.names[place] for place in positions]
    if not rows.strip():
        empty = [pa.array([], pa.string()) for _ in names]
        return pa.Table.from_arrays(empty, names)
    count = len(found.names) + _ends_with_delimiter(rows, found)
    columns = [str(place) for place in range(count)]

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        swallowed = row.text.count("\n")
        where = f"{path.name} row {row.number}"
        tally.reject(SWALLOWED_ROWS if swallowed else RAGGED_ROW, where, swallowed + 1)
        return "skip"

    # one thread, so that rows have numbers
    how_to_read = pyarrow.csv.ReadOptions(
        column_names=columns, use_threads=False, block_size=LONGEST_LINE
    )
    how_to_parse = pyarrow.csv.ParseOptions(
        delimiter=found.delimiter, invalid_row_handler=refuse
    )
    how_to_convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        include_columns=[str(place) for place in positions],
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(rows), how_to_read, how_to_parse, how_to_convert
        )
    except pa.ArrowInvalid as error:
        why = f"a row is longer than {LONGEST_LINE:,} bytes, or it is no text"
        raise SourceError(f"{path} cannot be read: {why}") from error
    return table.rename_columns(names)


def _is_value(cell: str) -> bool:
    """True if a cell holds a number or a time, and not a name."""
    return re.fullmatch(r"[\d.,:/ +\-TZ%]*\d[\d.,:/ +\-TZ%]*", cell) is not None


def _record(text: str, delimiter: str) -> tuple[list[str], int] | None:
    """The cells of the first record and its lines; None where quotes do not fit the delimiter."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        cells = next(reader, [])
    except csv.Error:
        return None
    return cells, reader.line_num


def _lines(content: bytes) -> bytes:
    """The text with line feeds, also where it has only carriage returns."""
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def _as_utf8(content: bytes, code: str, path: Path, tally: Tally) -> bytes:
    """The text as UTF-8; characters of no encoding are counted."""
    if content.isascii():
        return content

    # a header of ASCII proves nothing of the rows
    whole = encoding(content) if code == "utf-8" else code
    text = content.decode(whole, "replace")
    there = 0
    if whole.startswith("utf-8"):
        there = content.count(REPLACEMENT_CHARACTER.encode())
    lost = text.count(REPLACEMENT_CHARACTER) - there
    tally.reject("a character of no encoding", path.name, lost)
    return text.encode()


def _beginning(path: Path) -> bytes:
    """The beginning of a file as UTF-8."""
    content = _lines(contents.beginning(path))
    text = content.decode(encoding(content), "replace").lstrip("\ufeff")
    return text.encode("utf-8", "replace")


def _end_of_lines(content: bytes, lines: int) -> int:
    """The position after so many lines."""
    place = 0
    for _ in range(lines):
        place = content.find(b"\n", place) + 1 or len(content)
    return place


def _ends_with_delimiter(rows: bytes, found: Head) -> int:
    """1 if the first row has one more cell than the header, and it is empty; else 0."""
    begins = rows[: contents.HEAD_BYTES].decode("utf-8", "replace")
    record = _record(begins, found.delimiter)
    return int(
        record is not None
        and len(record[0]) == len(found.names) + 1
        and not record[0][-1]
    )

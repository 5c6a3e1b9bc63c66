"""Delimited text as people save it: encoding, delimiter and header are found by the rules that rows are read by."""
from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from replay.history import SourceError, Tally

HEAD = 1 << 16  # bytes in which the header is looked for
DELIMITERS = ",;\t|"
HINT = re.compile(r"""sep=(.)\r?\n""")  # a first line that spreadsheets write and read: the delimiter of the others
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
REPLACED = "\ufffd"
RAGGED = "the row has more or fewer cells than the header"
SWALLOWED = "a quote that is not closed swallows rows"


class Head(NamedTuple):
    """What is said before the first row."""

    names: tuple[str, ...]  # of the columns, in order; "" where a column has none
    delimiter: str
    encoding: str
    lines: int  # of text until the first row


def head(path: Path) -> Head:
    """The header of a file. Raises SourceError when there is none, OSError and ArrowInvalid as reading does."""
    with pa.input_stream(str(path)) as stream:
        content = stream.read(HEAD)
    return head_of(content, path)


def head_of(content: bytes, path: Path) -> Head:
    """The header at the beginning of some text. Raises SourceError when there is none."""
    code = encoding(content)
    text = _lines(content).decode(code, "replace")
    hint = HINT.match(text)
    begins = hint.end() if hint else 0
    records = {one: _record(text[begins:], one) for one in (hint[1] if hint else DELIMITERS)}
    told = {one: record for one, record in records.items() if record}
    if not told:
        raise SourceError(f"{path}: its first line, which should name the columns, has a quote that is not closed")
    delimiter = max(told, key=lambda one: len(told[one][0]))
    cells, lines = told[delimiter]
    if not any(cells):
        raise SourceError(f"{path} is empty: its first line should name the columns")
    return Head(tuple(map(clean, cells)), delimiter, code, lines + (1 if hint else 0))


def encoding(content: bytes) -> str:
    """UTF-8, UTF-16 where a byte order mark says so, or the GB 18030 that Chinese office programs write.

    >>> encoding("电压".encode("gb18030")), encoding("电压".encode("utf-16")), encoding("电压".encode()[:-1])
    ('gb18030', 'utf-16', 'utf-8')
    """
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)  # the end may be cut within a character
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


def clean(name: str) -> str:
    r"""The name of a column without what programs put around it.

    >>> clean("\ufeff meter\t"), clean('="kwh"')
    ('meter', 'kwh')
    """
    return re.sub(r'^="(.*)"$', r"\1", name.strip("\ufeff \t\r\n\u00a0"))


def read(path: Path, names: Sequence[str], tally: Tally) -> pa.Table:
    """The named columns as text, "" where a cell is empty; rows that do not fit the header are refused."""
    with pa.input_stream(str(path)) as stream:
        content = _lines(stream.read())
    found = head_of(content[:HEAD], path)
    content = _as_utf8(content, found.encoding, path, tally)
    rows = content[_end_of_lines(content, found.lines) :]
    columns = [str(place) for place in range(len(found.names) + _ends_with_delimiter(rows, found))]
    places = [str(found.names.index(name)) for name in names]
    if not rows.strip():
        return pa.table({name: pa.array([], pa.string()) for name in names})

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        swallowed = row.text.count("\n")
        where = f"{path.name} row {row.number}"
        tally.refuse(SWALLOWED if swallowed else RAGGED, where, swallowed + 1)
        return "skip"

    table = pyarrow.csv.read_csv(
        pa.py_buffer(rows),
        read_options=pyarrow.csv.ReadOptions(column_names=columns, use_threads=False),  # so that rows have numbers
        parse_options=pyarrow.csv.ParseOptions(delimiter=found.delimiter, invalid_row_handler=refuse),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), include_columns=places, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=True,
        ),
    )  # fmt: skip
    return table.rename_columns(list(names))


def _record(text: str, delimiter: str) -> tuple[list[str], int] | None:
    """The cells of the first record, and of how many lines it is; None where quotes do not fit the delimiter."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        cells = next(reader, [])
    except csv.Error:
        return None
    return cells, reader.line_num


def _lines(content: bytes) -> bytes:
    """The text with line feeds, where it has carriage returns alone."""
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def _as_utf8(content: bytes, code: str, path: Path, tally: Tally) -> bytes:
    if content.isascii():
        return content
    whole = encoding(content) if code == "utf-8" else code  # a header of ASCII says nothing of the rows
    text = content.decode(whole, "replace")
    there = content.count(REPLACED.encode()) if whole.startswith("utf-8") else 0
    tally.refuse("a character of no encoding", path.name, text.count(REPLACED) - there)
    return text.encode()


def _end_of_lines(content: bytes, lines: int) -> int:
    place = 0
    for _ in range(lines):
        place = content.find(b"\n", place) + 1 or len(content)
    return place


def _ends_with_delimiter(rows: bytes, found: Head) -> int:
    """1 when the first row has one cell more than the header, and that is empty."""
    record = _record(rows[:HEAD].decode("utf-8", "replace"), found.delimiter)
    return int(record is not None and len(record[0]) == len(found.names) + 1 and not record[0][-1])

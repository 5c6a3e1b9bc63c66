"""Workbooks (xlsx): each sheet is a table, whose cells become the text that CSV would hold.

Rows are read one by one. A file that would unfold beyond any sheet's size, or has a document type, is refused before
it unfolds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import pyarrow as pa

from replay import contents
from replay.delimited import SEARCHED_LINES, clean
from replay.extras import missing_extra
from replay.history import SourceError, Tally
from replay.tables import EmbeddedTable

MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384  # of a sheet
CHUNK_ROWS = 50_000  # rows that are turned into columns at a time
CHUNK_BYTES = 1 << 20  # bytes of a member that are searched at a time
LONG_NUMBER = 10**15  # from which on a workbook has lost digits
DOCTYPE_MARKS = (
    b"<!DOCTYPE",
    "<!DOCTYPE".encode("utf-16-le"),
    "<!DOCTYPE".encode("utf-16-be"),
)
SheetRow = list[str | None]


def is_workbook(path: Path) -> bool:
    """True if the file is a workbook. Raises SourceError for any other zip."""
    if not contents.magic(path).startswith(b"PK\x03\x04"):
        return False
    try:
        with ZipFile(path) as file:
            names = file.namelist()
    except (BadZipFile, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if any(name.startswith("xl/") for name in names):
        return True
    if "mimetype" in names:
        raise SourceError(f"{path} is an OpenDocument sheet: save it as xlsx")
    raise SourceError(f"{path} is a zip: unpack it first")


def sheets(
    path: Path, known: Callable[[Collection[str]], bool], tally: Tally
) -> list[EmbeddedTable]:
    """The sheets that have a header of a known layout. Raises SourceError where none has."""
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - an extra
    except ImportError as error:
        needed = missing_extra(error) or error
        raise SourceError(
            f"{path} is a workbook: {needed}; or save each sheet as CSV"
        ) from error

    _check(path)
    found = []
    others = []
    try:
        with (
            path.open("rb") as file,
            closing(load_workbook(file, read_only=True, data_only=True)) as book,
        ):
            for sheet in book.worksheets:
                name = f"{path.name} {sheet.title}"
                if table := _embedded_table(name, _rows(sheet, path), known):
                    found.append(table)
                else:
                    others.append(sheet.title)
    except SourceError:
        raise
    # openpyxl raises whatever its parsers do on a damaged part
    except Exception as error:
        raise SourceError(
            f"{path} cannot be read as a workbook: {type(error).__name__}"
        ) from error

    if not found:
        raise SourceError(
            f"{path} has no sheet with the columns of a known layout in its first {SEARCHED_LINES} rows"
        )
    tally.notes += [
        f"{path.name}: the sheet {title!r} is of no known layout and left out"
        for title in others
    ]
    return found


def _check(path: Path) -> None:
    """Raises SourceError if a member has a document type, or all unpack to too much."""
    left = contents.MOST_BYTES
    try:
        with ZipFile(path) as file:
            for member in file.infolist():
                is_xml = member.filename.endswith((".xml", ".rels"))
                with file.open(member) as stream:
                    left = _left_after(stream, left, path if is_xml else None)
    except (BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error

    if left < 0:
        raise SourceError(
            f"{path} unpacks to more than {contents.MOST_BYTES >> 20:,} MiB: save its sheets as CSV"
        )


def _left_after(stream: IO[bytes], left: int, xml: Path | None) -> int:
    """The bytes that are left to read after a member, below 0 if it has more.

    Raises SourceError if the workbook's member is XML and has a document type.
    """
    before = b""
    while left >= 0 and (chunk := stream.read(CHUNK_BYTES)):
        left -= len(chunk)
        searched = before + chunk if xml else b""
        if any(mark in searched for mark in DOCTYPE_MARKS):
            raise SourceError(
                f"{xml} has a document type (DTD), as no workbook has: it is not read"
            )
        before = chunk[-32:]  # a mark may begin in this chunk
    return left


def _rows(sheet: Any, path: Path) -> Iterator[SheetRow]:
    """The rows of a sheet that are not empty, as text."""
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if number > MOST_ROWS:
            raise SourceError(f"{path} has more rows than a sheet may have")
        row = [
            _text_of(cell.value, getattr(cell, "number_format", ""))
            for cell in cells[:MOST_COLUMNS]
        ]
        if any(row):
            yield row


def _embedded_table(
    name: str, rows: Iterator[SheetRow], known: Callable[[Collection[str]], bool]
) -> EmbeddedTable | None:
    """The table below the first row that a layout knows; None if it knows none of the first."""
    above: list[tuple[str, ...]] = []
    for row in rows:
        header = tuple(clean(cell or "") for cell in row)
        if known(header):
            break
        above.append(header)
        if len(above) >= SEARCHED_LINES:
            return None
    else:
        return None
    while header and not header[-1]:
        header = header[:-1]

    tables = []
    chunk = []
    for row in rows:
        missing = len(header) - len(row)
        chunk.append([*row[: len(header)], *[None] * missing])
        if len(chunk) == CHUNK_ROWS:
            tables.append(_table(header, chunk))
            chunk = []
    tables.append(_table(header, chunk))
    return EmbeddedTable(name, pa.concat_tables(tables), tuple(above))


def _table(header: tuple[str, ...], rows: list[SheetRow]) -> pa.Table:
    """Rows as columns of text."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    cells = [pa.array(list(column), pa.string()) for column in columns]
    return pa.Table.from_arrays(cells, list(header))


def _text_of(value: object, shown: str = "") -> str | None:  # noqa: PLR0911
    """A cell as CSV would hold it; a number that is shown with leading zeros has them.

    >>> _text_of(231282.0), _text_of(7, "00000"), _text_of(0.25), _text_of(" ")
    ('231282', '00007', '0.25', None)
    >>> _text_of(datetime(2024, 3, 1, 0, 15))
    '2024-03-01 00:15:00'
    """
    match value:
        case None:
            return None
        case bool():
            return str(int(value))
        case int() | float() if abs(value) >= LONG_NUMBER:
            return f"{value:E}"
        case int() | float() if value == int(value):
            # a format of zeros alone gives the digits
            zeros = len(shown) if shown and not shown.strip("0") else 0
            return str(int(value)).zfill(zeros)
        case datetime():
            rounded = value + timedelta(milliseconds=500)
            return rounded.replace(microsecond=0).isoformat(" ")
        case date() | time():
            return value.isoformat()
        case timedelta():
            seconds = round(value.total_seconds())
            return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        case _:
            return str(value) if str(value).strip() else None

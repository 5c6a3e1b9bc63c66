"""The content of a file in bounded memory, packed or not, known by its first bytes."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replay.history import SourceError

MOST_BYTES = 1 << 30  # of text that is read whole, unpacked
MOST_UNFOLDED = 1 << 28  # of text whose parts become objects of their own
MOST_ROWS = 20_000_000  # of a table that is read whole
HEAD_BYTES = (
    1 << 18
)  # bytes in which the header, or the mark of a format, is looked for
CHUNK_BYTES = 1 << 24  # bytes read at a time
COMPRESSION_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
UNREADABLE_MAGIC = {
    b"PK\x05\x06": "an empty zip: give the file that should be in it",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"\xfd7zXZ": "packed with xz: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"\xd0\xcf\x11\xe0": "an old workbook (xls): save it as xlsx or CSV",
    b"%PDF": "a PDF: ask for the same as CSV",
    b"SQLite format 3": "a database: write its table as CSV or Parquet",
}
SPLIT_ADVICE = "split it by time, or write it as Parquet in order of time"


def check(path: Path) -> None:
    """Raises SourceError for a pipe, a socket or a device, which cannot be read twice."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        what = "a pipe" if stat.S_ISFIFO(mode) else "no file, but a device or a socket"
        raise SourceError(f"{path} is {what}: save what comes out of it as a file")


def beginning(path: Path) -> bytes:
    """The first bytes, unpacked. Raises SourceError."""
    left = HEAD_BYTES
    chunks = []
    for chunk in _chunks(path, HEAD_BYTES):
        chunks.append(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            break
    return b"".join(chunks)


def whole(path: Path, most: int) -> bytes:
    """All bytes, unpacked. Raises SourceError, also where they are too many to be read whole."""
    size = rows = 0
    chunks = []
    for chunk in _chunks(path, CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        rows += chunk.count(b"\n")
        if size > most:
            raise SourceError(
                f"{path} holds more than {most >> 20:,} MiB of text, too much to be read whole: {SPLIT_ADVICE}"
            )
        if rows > MOST_ROWS:
            raise SourceError(
                f"{path} has more than {MOST_ROWS:,} rows, too many to be read whole: {SPLIT_ADVICE}"
            )

    return b"".join(chunks)


def magic(path: Path) -> bytes:
    """The first bytes as they stand in the file. Raises SourceError."""
    check(path)
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def is_parquet(path: Path) -> bool:
    """True if the file is Parquet, by its first bytes or by its name."""
    return magic(path).startswith(b"PAR1") or path.suffix.lower() == ".parquet"


def is_text(kind: pa.DataType) -> bool:
    """True if cells of a kind are texts."""
    is_string = pa.types.is_string(kind)
    return bool(is_string or pa.types.is_large_string(kind))


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns of Parquet. Raises SourceError."""
    try:
        return tuple(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def parquet_table(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of Parquet. Raises SourceError, also where they are too much to be read whole."""
    try:
        if pq.read_metadata(path).num_rows > MOST_ROWS:
            too_many = f"more than {MOST_ROWS:,} rows that are in no order, too many to be read whole"
            raise SourceError(f"{path} has {too_many}: {SPLIT_ADVICE}")
        words = [field.name for field in pq.read_schema(path) if is_text(field.type)]
        table = pq.read_table(path, columns=names, read_dictionary=words)
        return _written_out(table, path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _written_out(table: pa.Table, path: Path) -> pa.Table:
    """The table with its words in each row. Raises SourceError where that is too much."""
    for number, field in enumerate(table.schema):
        if not (pa.types.is_dictionary(field.type) and is_text(field.type.value_type)):
            continue

        cells = table[field.name]
        lengths = (
            pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py()
            for chunk in cells.chunks
        )
        if sum(filter(None, lengths)) > MOST_BYTES:
            text = (
                f"more than {MOST_BYTES >> 20:,} MiB of text in the column {field.name}"
            )
            raise SourceError(f"{path} holds {text}: {SPLIT_ADVICE}")
        table = table.set_column(number, field.name, cells.cast(field.type.value_type))
    return table


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    """The bytes, unpacked, so many at a time. Raises SourceError."""
    first = magic(path)
    for mark, what in UNREADABLE_MAGIC.items():
        if first.startswith(mark):
            raise SourceError(f"{path} is {what}")
    packing = next(
        (name for mark, name in COMPRESSION_MAGIC.items() if first.startswith(mark)),
        "detect",
    )
    try:
        with pa.input_stream(str(path), compression=packing) as stream:
            while chunk := stream.read(size):
                yield chunk
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error

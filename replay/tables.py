"""Files as Arrow tables, and cells as numpy columns; unreadable cells are counted."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, tzinfo
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay import contents, delimited, numerals
from replay.clocks import seconds_of_timestamps
from replay.contents import is_text
from replay.history import Names, SourceError, Tally
from replay.ids import LOST_DIGITS, MISSING_ID, NO_ID, numbered, shortened
from replay.moments import Order, seconds_of, seconds_of_numbers, within
from schemas.columns import Codes, Mask, Times
from schemas.wire.records import LARGEST_NUMBER, LONGEST_ID

JSON_LINES = ".jsonl"
# rows, why they are refused, and the column that shows it
RowFault = tuple[Mask, str, str]
COMMA_NUMBER = r"^\s*[-+]?\d*,\d+\s*$"


@dataclass(frozen=True, eq=False)
class EmbeddedTable:
    """A table that stands on a sheet of a file, or below some lines of it."""

    name: str
    table: pa.Table
    above: tuple[tuple[str, ...], ...] = ()  # the rows above the header

    def __str__(self) -> str:
        return self.name


File = Path | EmbeddedTable


def is_parquet(file: File) -> bool:
    """True if the rows stand in Parquet. Raises SourceError."""
    return isinstance(file, Path) and contents.is_parquet(file)


def columns(file: File) -> tuple[str, ...]:
    """The column names of a table. Raises SourceError when there are none."""
    if isinstance(file, EmbeddedTable):
        return tuple(file.table.column_names)
    if not is_parquet(file):
        return delimited.head(file).names
    return contents.parquet_columns(file)


def wanted(path: File, names: Collection[str]) -> list[str]:
    """The columns of a file that are among the names, in its order.

    Raises SourceError if a column is there twice.
    """
    found = [name for name in columns(path) if name in names]
    if doubled := sorted({name for name in found if found.count(name) > 1}):
        raise SourceError(
            f"{path} has more than one column {', '.join(doubled)}: which one counts?"
        )
    return found


def note_unknown(path: File, names: Collection[str], tally: Tally) -> None:
    """Note the columns of a file that are not among the names, each with the nearest of them."""
    for column in filter(None, columns(path)):
        if column not in names:
            tally.notes.append(
                f"{path.name}: the column {column!r} is not known and left out{meant(column, names)}"
            )


def meant(word: str, names: Collection[str]) -> str:
    """The question for the nearest of some names, "" if none is near.

    >>> meant("KWh", ["kwh", "meter"]), meant("x", ["kwh"])
    ('; did you mean kwh?', '')
    """
    known = {name.lower(): name for name in names}
    nearest = get_close_matches(word.lower(), known, 1)
    return f"; did you mean {known[nearest[0]]}?" if nearest else ""


def read(file: File, names: Collection[str], tally: Tally) -> Sheet:
    """The named columns of a table, text if it is CSV; rows that do not fit are refused."""
    names = wanted(file, names)
    if isinstance(file, EmbeddedTable):
        return Sheet(file.table.select(names), file.name, tally)
    if not is_parquet(file):
        return Sheet(delimited.read(file, names, tally), file.name, tally)

    return Sheet(contents.parquet_table(file, names), file.name, tally)


class Sheet:
    """Rows of a file. Unreadable cells are counted with the file's name and the row, from 1."""

    def __init__(
        self,
        table: pa.Table,
        name: str,
        tally: Tally,
        start: int = 0,
        *,
        zone: tzinfo = UTC,
        dates: Order = "",
        faults: dict[int, str] | None = None,
        rows: NDArray[np.int64] | None = None,
        alone: bool = False,
    ) -> None:
        self.table = table
        self.name = name
        self.tally = tally
        self._start = start
        # of times that name none
        self._zone = zone
        # which comes first in dates; "" if that is to be found
        self.dates = dates
        # of the file, by row, if they are not as they stand there
        self._rows = rows
        # by row its first fault, where somebody asks for them
        self.faults = faults
        # True: no cell decides how another is read, so rows may be cut anywhere
        self.alone = alone
        # columns of dates that may have the day or the month first
        self.unclear: set[str] = set()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def of(self, table: pa.Table, rows: NDArray[np.int64] | None = None) -> Sheet:
        """The same rows with other columns; or a table with the file's row of each of its own."""
        return Sheet(
            table,
            self.name,
            self.tally,
            self._start,
            zone=self._zone,
            dates=self.dates,
            faults=self.faults,
            rows=self._rows if rows is None else rows,
            alone=self.alone,
        )

    def without(self, pattern: str) -> Sheet:
        """The same rows, with no text in the cells that match a pattern as a whole."""
        table = self.table
        for number, name in enumerate(table.column_names):
            cells = table[name]
            if is_text(cells.type):
                matched = pc.match_substring_regex(cells, rf"^\s*({pattern})\s*$")
                emptied = pc.if_else(matched, pa.scalar(None, cells.type), cells)
                table = table.set_column(number, name, emptied)
        return self.of(table)

    def shortened(self, column: str) -> Sheet:
        """The same rows, with texts too long for an id cut to a beginning that no other has."""
        words, cells = self.words(column)
        cut = [shortened(word) for word in words]
        if cut == words:
            return self

        differs = [short != word for short, word in zip(cut, words, strict=True)]
        longer = np.array([*differs, False])[cells]
        self.tally.mend(
            f"{column} is longer than {LONGEST_ID} characters and was cut",
            self.name,
            int(longer.sum()),
        )

        texts = pa.array([*cut, None], pa.string())
        number = self.table.column_names.index(column)
        table = self.table.set_column(
            number, column, texts.take(pa.array(cells % (len(cut) + 1)))
        )
        return self.of(table)

    def ids(self, column: str, seen: Names) -> Codes:
        """The number of each cell's id among the names seen.

        MISSING_ID where the cell is empty, LOST_DIGITS where the id has lost digits, NO_ID where it cannot be one.
        Marks that programs put around an id are taken off, and counted.
        """
        numbers = [np.full(0, MISSING_ID, np.int32)]
        mended = [np.zeros(0, np.bool_)]
        for chunk in self._distinct(column).chunks:
            # chunks of a file mostly share their dictionary
            if seen.latest is None or not seen.latest[0].equals(chunk.dictionary):
                words = chunk.dictionary.to_pylist()
                seen.latest = (chunk.dictionary, *numbered(words, seen))
            codes = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            numbers.append(seen.latest[1][codes])
            mended.append(seen.latest[2][codes])

        rows = np.flatnonzero(np.concatenate(mended))
        if len(rows):
            cell = self.table[column][int(rows[0])].as_py()
            place = f"{self._place(rows[0])}: {cell!r}"
            self.tally.mend(f"{column} had something around it", place, len(rows))
        return np.concatenate(numbers)

    def id_faults(
        self, column: str, numbers: Codes
    ) -> tuple[RowFault, RowFault, RowFault]:
        """The rows that lack an id, for `keep`."""
        return (
            (
                numbers == NO_ID,
                f"{column} is longer than {LONGEST_ID} characters, or cannot be printed",
                "",
            ),
            (
                numbers == LOST_DIGITS,
                f"{column} has lost digits, as numbers do in a spreadsheet",
                column,
            ),
            (numbers == MISSING_ID, f"{column} is missing", column),
        )

    def words(self, column: str) -> tuple[list[str], Codes]:
        """The distinct texts of a column, and the number of each cell's; -1 where it is empty."""
        seen = Names()
        cells = [np.full(0, -1, np.int32)]
        for chunk in self._distinct(column).chunks:
            codes = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            numbers = seen.numbers(chunk.dictionary.to_pylist())
            with_none = np.append(numbers, np.int32(-1))
            cells.append(with_none[codes])
        return list(seen.names), np.concatenate(cells)

    def read_together(self, words: list[str]) -> list[list[str]]:
        """The texts of a column in parts, each of which shows how its own are written."""
        return [[word] for word in words] if self.alone else [words]

    def _distinct(self, column: str) -> pa.ChunkedArray:
        cells = self.table[column]
        if pa.types.is_dictionary(cells.type) and is_text(cells.type.value_type):
            return cells
        return self._cast(column, cells, pa.string()).dictionary_encode()

    def numbers(self, column: str) -> NDArray[np.floating[Any]]:
        """The cells as numbers; NaN where a cell is empty, or no number of sane size.

        A column of floats keeps its precision.
        """
        cells = self.table[column]
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if is_text(cells.type):
            cells = self._parsed(column, cells)
        if not (pa.types.is_float32(cells.type) or pa.types.is_float64(cells.type)):
            cells = self._cast(column, cells, pa.float64())

        # two reductions show whether any cell is too large
        values: NDArray[np.floating[Any]] = cells.to_numpy()
        highest = np.fmax.reduce(values, initial=0)
        lowest = np.fmin.reduce(values, initial=0)
        if max(highest, -lowest) > LARGEST_NUMBER:
            wild = np.abs(values) > LARGEST_NUMBER
            self._reject(wild, f"{column} is larger than any quantity", cells)
            values = np.where(wild, np.nan, values)
        return values

    def times(self, column: str) -> tuple[Times, Mask]:
        """Unix seconds, and which cells hold a time from 2000 to 2100."""
        return within(self.moments(column, self._zone))

    def times_or_none(self, column: str) -> Times:
        """Unix seconds; 0 where the cell is empty or 0, and where it is refused as no time."""
        seconds, good = self.times(column)
        cells = self.table[column]
        whole = pa.types.is_integer(cells.type)
        zero = pc.equal(cells, 0) if whole else pc.equal(cells.cast(pa.string()), "0")
        empty = np.asarray(pc.fill_null(zero, True).to_numpy(), np.bool_)
        self._reject(~good & ~empty, self.no_time(column), cells)
        return seconds

    def moments(self, column: str, zone: tzinfo) -> NDArray[np.float64]:
        """Unix seconds of timestamps, numbers or text; NaN where there is no time.

        Cells that name no zone are in the given zone.
        """
        cells = self.table[column]
        if pa.types.is_date(cells.type):
            cells = cells.cast(pa.timestamp("s"))
        if pa.types.is_timestamp(cells.type):
            return seconds_of_timestamps(cells, zone)
        if not (is_text(cells.type) or pa.types.is_dictionary(cells.type)):
            values = self._cast(column, cells, pa.float64()).to_numpy()
            return seconds_of_numbers(np.asarray(values, np.float64), zone)

        words, numbers = self.words(column)
        seconds: list[float] = []
        for together in self.read_together(words):
            found, first = seconds_of(together, zone, self.dates)
            seconds += found
            if not first:
                self.unclear.add(column)
            elif first != "year" and not self.alone:
                self.tally.notes.append(
                    f"{self.name}: dates of the column {column} are read with the {first} first"
                )
        return np.array([*seconds, math.nan])[numbers]

    def no_time(self, column: str) -> str:
        """The reason why a cell of a column is no time."""
        if column in self.unclear:
            return f"{column} may have the day or the month first"
        return f"{column} is no time"

    def keep(self, *faults: RowFault) -> Mask:
        """The rows without a fault; others are refused for their first, with its cell."""
        fine = np.ones(len(self), np.bool_)
        for wrong, reason, column in faults:
            known = column in self.table.column_names
            self._reject(fine & wrong, reason, self.table[column] if known else None)
            fine &= ~wrong
        return fine

    @cached_property
    def _mark(self) -> numerals.DecimalMark:
        """The decimal mark of the file's numbers; none of rows that are read alone."""
        if self.alone:
            return ""
        return numerals.decimal_mark(
            column for column in self.table.columns if is_text(column.type)
        )

    def _parsed(self, column: str, cells: pa.ChunkedArray) -> pa.ChunkedArray:
        """The numbers of a column of text, by the fast way where every cell is plain."""
        if self._mark == ",":
            return self._numerals(column, cells)
        try:
            return cells.cast(pa.float64())
        except pa.ArrowInvalid:
            return self._numerals(column, cells)

    def _numerals(self, column: str, cells: pa.ChunkedArray) -> pa.ChunkedArray:
        """The numbers of a column of text; cells that are none are refused."""
        plain = numerals.plain(cells, self._mark)
        wrong = pc.and_(pc.is_null(plain), pc.is_valid(cells)).to_numpy()
        apart = " where others have points" if self._mark == "both" else ""
        commas = pc.fill_null(pc.match_substring_regex(cells, COMMA_NUMBER), False)
        with_comma = wrong & np.equal(commas.to_numpy(), True)

        self._reject(
            with_comma,
            f"{column} has a comma{apart}, of decimals or of thousands",
            cells,
        )
        self._reject(wrong & ~with_comma, f"{column} is no number", cells)
        if self._mark == ",":
            count = int(pc.count(plain).as_py())
            self.tally.mend("a decimal comma", f"{self.name}: {column}", count)
        return plain.cast(pa.float64())

    def _cast(
        self, column: str, cells: pa.ChunkedArray, kind: pa.DataType
    ) -> pa.ChunkedArray:
        try:
            # an integer beyond 2^53, such as a time in nanoseconds, is rounded
            return cells.cast(kind, safe=not pa.types.is_integer(cells.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(
                f"{self.name}: the column {column} cannot hold {cells.type}"
            ) from error

    def _place(self, row: int) -> str:
        """Where a row stands."""
        number = self._start + row if self._rows is None else self._rows[row]
        return f"{self.name} row {number + 1}"

    def _reject(
        self, wrong: Mask, reason: str, cells: pa.ChunkedArray | None = None
    ) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            cell = None if cells is None else cells[int(rows[0])].as_py()
            shown = "" if cell is None else f": {cell!r}"
            place = f"{self._place(rows[0])}{shown}"
            self.tally.reject(reason, place, len(rows))
            if self.faults is not None:
                for row in rows.tolist():
                    self.faults.setdefault(row, reason)

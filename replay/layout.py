"""The project's own layout: Parquet or CSV for batches, JSON lines for areas.

docs/data-layout.md describes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay import contents, tables
from replay.history import (
    BATCH_KINDS,
    Names,
    Source,
    SourceError,
    Tally,
    arranged,
    merge,
    read_ahead,
    split_batch,
)
from replay.ids import MISSING_ID
from replay.inferred import sure_steps
from replay.parquet import reading_order, sheets_of
from schemas.columns import KIND_COLUMNS, Batch, Mask, Readings, Times
from schemas.declarations import Declaration
from schemas.master import Area
from schemas.wire import RejectedError, check_texts
from schemas.wire.records import WORDS_BY_CODE

LOOKED_AT = 100_000  # rows of a file that show how often its readings come
LONGEST_AREA = 64 << 20  # bytes of a line of master data
# bytes of names that are written once; beyond them a file has a name with every row
DICTIONARY_BYTES = 16 << 20


def _kind_of(columns: Collection[str]) -> type[Batch] | None:
    """The kind of the rows with these columns; None if they are not of this layout."""
    for kind in BATCH_KINDS:
        declared = KIND_COLUMNS[kind]
        needed = {declared["area"].outside_name, "at", _distinctive(kind)}
        if needed <= set(columns) and (
            kind is not Readings or cell_columns(kind).keys() & set(columns)
        ):
            return kind
    return None


def _distinctive(kind: type[Batch]) -> str:
    """The column that shows the kind of a file: the first of its own that a row must have, else the subject."""
    declared = KIND_COLUMNS[kind]
    own = (
        column.outside_name
        for name, column in declared.items()
        if column.required and name not in {"subject", "area"}
    )
    return next(own, declared["subject"].outside_name)


def recognises(columns: Collection[str]) -> bool:
    """True if the columns are of this layout."""
    return _kind_of(columns) is not None


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The files as one history with the steps of its readings; JSON lines hold its areas."""
    rows = sum(
        pq.read_metadata(path).num_rows
        for path in paths
        if isinstance(path, Path) and tables.is_parquet(path)
    )
    return one_history([(path.name, _read(path, tally)) for path in paths], rows, tally)


def one_history(
    named: Sequence[tuple[str, Iterator[Batch]]], rows: int, tally: Tally
) -> Source:
    """Histories, each with its name and of one kind, as one with the steps of its readings."""
    histories = []
    steps: dict[tuple[str, str], int] = {}
    for name, history in named:
        batches = tally.named.note(name, history)
        first = list(_first(batches))
        steps |= _steps([batch for batch in first if isinstance(batch, Readings)])
        histories.append(chain(first, batches))

    return Source(
        name=" + ".join(name for name, _ in named),
        areas=[],
        batches=merge(histories),
        rows=rows,
        steps=steps,
        tally=tally,
    )


def _steps(batches: Sequence[Readings]) -> dict[tuple[str, str], int]:
    """The steps that meters keep, by area and meter."""
    if not batches:
        return {}
    readings = Readings.join(batches)
    areas = dict(zip(readings.subject.tolist(), readings.area.tolist(), strict=True))
    return {
        (readings.areas[areas[number]], readings.names[number]): step
        for number, step in sure_steps(readings).items()
    }


def _first(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The first batches, until they have LOOKED_AT rows."""
    rows = 0
    for batch in batches:
        yield batch
        rows += len(batch)
        if rows >= LOOKED_AT:
            return


def read_areas(path: Path, tally: Tally) -> list[Area]:
    """The areas of a JSON lines file; a line that is none is refused."""
    contents.check(path)
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(LONGEST_AREA), b"")
        return areas_of(lines, path.name, tally)


def areas_of(lines: Iterable[bytes], name: str, tally: Tally) -> list[Area]:
    """The areas of JSON lines; a line that is none is refused. Raises SourceError."""
    areas = []
    for number, line in enumerate(lines, 1):
        if len(line) == LONGEST_AREA:
            raise SourceError(
                f"{name} line {number} is longer than {LONGEST_AREA >> 20} MiB: it is no area"
            )
        if not line.strip():
            continue

        try:
            area = msgspec.json.decode(line, type=Area)
            check_texts(area)
        except (msgspec.DecodeError, RejectedError) as error:
            tally.reject("the line is no area", f"{name} line {number}: {error}")
            continue
        areas.append(area)
        meters = [meter.meter for meter in area.meters]
        customers = [meter.customer for meter in area.meters if meter.customer]
        tally.named.add("meters", name, "areas", meters)
        tally.named.add("customers", name, "areas", customers)
    return areas


def write_areas(path: Path, areas: Iterable[Area]) -> None:
    """A JSON lines file of areas, one a line."""
    with path.open("wb") as lines:
        lines.writelines(msgspec.json.encode(area) + b"\n" for area in areas)


def write(
    folder: Path,
    areas: Iterable[Area],
    batches: Iterable[Batch],
    form: Literal["parquet", "csv"] = "parquet",
) -> Counter[str]:
    """A folder that opens as the same history: areas.jsonl and a file per kind.

    Returns the rows written per kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_areas(folder / "areas.jsonl", areas)
    written: Counter[str] = Counter()

    with ExitStack() as files:
        writers: dict[str, Any] = {}
        for batch in batches:
            table = table_of(batch)
            if batch.kind not in writers:
                path = folder / f"{batch.kind}.{form}"
                writers[batch.kind] = files.enter_context(
                    _writer(path, table.schema, form)
                )
            writers[batch.kind].write_table(table)
            written[batch.kind] += len(batch)
    return written


def _writer(path: Path, schema: pa.Schema, form: Literal["parquet", "csv"]) -> Any:
    """An open file that takes tables of a schema."""
    if form == "csv":
        return pyarrow.csv.CSVWriter(path, schema)
    return pq.ParquetWriter(
        path, schema, compression="zstd", dictionary_pagesize_limit=DICTIONARY_BYTES
    )


def word_columns(kind: type[Batch]) -> list[str]:
    """The columns of a file that hold names."""
    return [
        KIND_COLUMNS[kind][codes].outside_name for codes in kind.encodings().values()
    ]


def cell_columns(kind: type[Batch]) -> dict[str, tuple[str, int | None]]:
    """The column of the batch, and the phase, that each column of a file fills."""
    cells: dict[str, tuple[str, int | None]] = {}
    encoded = {*kind.encodings(), *kind.encodings().values(), "at"}
    for name, column in KIND_COLUMNS[kind].items():
        if name not in encoded:
            for phase, cell in enumerate(column.cells):
                cells[cell] = (name, phase if column.form.axis else None)
    return cells


def table_of(batch: Batch) -> pa.Table:
    """The batch as a table of this layout."""
    declared = KIND_COLUMNS[type(batch)]
    columns: dict[str, Any] = {}
    for names, codes in batch.encodings().items():
        words = pa.array(getattr(batch, names), pa.string())
        header = declared[codes].outside_name
        columns[header] = words.take(pa.array(getattr(batch, codes)))

    columns["at"] = pa.array(batch.at)
    for name, (column, phase) in cell_columns(type(batch)).items():
        values = getattr(batch, column)
        if phase is not None:
            values = values[phase]
        if name in WORDS_BY_CODE:
            columns[name] = pa.array(np.array(WORDS_BY_CODE[name])[values])
        else:
            columns[name] = pa.array(values, from_pandas=values.dtype.kind == "f")
    return pa.table(columns)


def _read(path: tables.File, tally: Tally) -> Iterator[Batch]:
    """The batches of a file, in order of arrival where the file can be sorted."""
    header = tables.columns(path)
    kind = _kind_of(header)
    if kind is None:
        raise SourceError(f"{path} is not of the project's layout")

    known = {"at", *word_columns(kind), *cell_columns(kind)}
    wanted = tables.wanted(path, known)
    tables.note_unknown(path, known, tally)
    decoder = Decoder(kind)

    # a file in order streams; any other is read whole and sorted
    if (
        isinstance(path, Path)
        and tables.is_parquet(path)
        and (order := reading_order(path))
    ):
        batches = (decoder.batch(sheet) for sheet in sheets_of(path, wanted, tally))
        ordered = batches if order == "arrival" else map(arranged, batches)
        # a thread begins after the rows that opening the file reads: jobs are forked then
        yield from _first(ordered)
        yield from read_ahead(ordered)
        return
    batch = decoder.batch(tables.read(path, wanted, tally))
    yield from split_batch(arranged(batch))


class Decoder:
    """Rows of files to batches of one kind, whose names keep their numbers from batch to batch.

    A row has a value in one of the needed columns, if any are named; `lacking` says that it has none.
    """

    def __init__(
        self, kind: type[Batch], needed: Sequence[str] = (), lacking: str = ""
    ) -> None:
        self.kind = kind
        self._needed = needed
        self._lacking = lacking
        self.declared = KIND_COLUMNS[kind]
        self.names = {
            codes: (names, Names()) for names, codes in kind.encodings().items()
        }

    def batch(
        self, sheet: tables.Sheet, *given: tables.RowFault, at: Times | None = None
    ) -> Batch:
        """The rows that have a subject, an area, a time and known words, without the given faults.

        Times that are given are not read from the sheet.
        """
        timed = np.ones(len(sheet), np.bool_)
        if at is None:
            at, timed = sheet.times("at")
        columns: dict[str, Any] = {"at": at}
        faults = [*given, (~timed, sheet.no_time("at"), "at")]
        self._add_names(sheet, columns, faults)

        for name, (column, phase) in cell_columns(self.kind).items():
            if name not in sheet.table.column_names:
                continue
            if name in WORDS_BY_CODE:
                columns[name], known = _words(sheet, self.declared[name])
                faults.append((~known, f"{name} is no known word", name))
            elif self.declared[column].form.dtype is np.int64:
                columns[name] = sheet.times_or_none(name)
            elif phase is None:
                columns[name] = sheet.numbers(name)
            else:
                if column not in columns:
                    columns[column] = np.full((3, len(sheet)), np.nan, np.float32)
                columns[column][phase] = sheet.numbers(name)

        if self._needed:
            unknown = np.ones(len(sheet), np.bool_)
            for name in self._needed:
                column, phase = cell_columns(self.kind)[name]
                values = columns[column]
                unknown &= np.isnan(values if phase is None else values[phase])
            faults.append((unknown, self._lacking, ""))

        for name, declared in self.declared.items():
            if declared.is_truth:  # an empty cell is true
                truth = columns.get(name, np.ones(len(sheet)))
                columns[name] = np.nan_to_num(truth, nan=1.0) != 0
        keep = sheet.keep(*faults)
        batch = self.kind.build(**columns)
        return batch if keep.all() else batch.select(keep)

    def _add_names(
        self,
        sheet: tables.Sheet,
        columns: dict[str, Any],
        faults: list[tables.RowFault],
    ) -> None:
        """Adds the columns of names and their codes, and the rows without an id."""
        for codes, (names, seen) in self.names.items():
            header = self.declared[codes].outside_name
            if header in sheet.table.column_names:
                numbers = sheet.ids(header, seen)
            else:
                numbers = np.full(len(sheet), MISSING_ID, np.int32)
            if self.declared[codes].absence:
                missing = numbers == MISSING_ID
                numbers = np.where(missing, seen.numbers([""])[0], numbers)

            faults += sheet.id_faults(header, numbers)
            columns[codes] = numbers
            columns[names] = seen.names


def _words(sheet: tables.Sheet, column: Declaration) -> tuple[NDArray[np.uint8], Mask]:
    """The code of each cell's word, and which words are known."""
    words, cells = sheet.words(column.name)
    code_of = {word: code for code, word in enumerate(column.words)}
    empty = code_of[column.absence.value] if column.absence else -1
    codes = [code_of.get(word.strip().lower(), -1) for word in words]
    numbers = np.array([*codes, empty])[cells]
    return np.maximum(numbers, 0).astype(np.uint8), numbers >= 0

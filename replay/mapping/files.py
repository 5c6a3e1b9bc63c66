"""Files of others as a history, by a mapping."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from replay import contents, delimited, layout, tables
from replay.formats import workbook
from replay.formats.readings import history_of
from replay.history import (
    Source,
    SourceError,
    Tally,
    arranged,
    nothing_read,
    split_batch,
)
from replay.mapping.areas import AreaLookup
from replay.mapping.cells import (
    cells_of_records,
    cells_of_table,
    header_of,
    missing_columns,
)
from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.expressions import walked
from replay.mapping.file import read_mapping
from replay.mapping.row_times import clock_columns, rows_of_clocks, zone_notes
from replay.mapping.rows import RowMapper
from schemas.columns import Batch, Readings
from schemas.master import Area

MAPPING_ENDING = ".toml"
UNKNOWN_AREA = "no area of the registry has the meter or customer"
NOT_OBJECT = "the row is no JSON object"


def open_mapping(path: Path, listed: Sequence[Area], tally: Tally) -> Source:
    """The files of a mapping as one history. Raises SourceError."""
    mapping = read_mapping(path)
    if mapping.topic:
        raise SourceError(
            f"{path} maps the topic {mapping.topic}: `meterwatch bridge` reads it"
        )
    areas = list(listed)
    if mapping.registry:
        areas += layout.read_areas(path.parent / mapping.registry, tally)

    files = mapped_files(path, mapping)
    lookup = AreaLookup(areas) if mapping.area_from_registry else None
    mapper = RowMapper(mapping)
    sheets = chain.from_iterable(sheets_of(file, mapping, tally) for file in files)
    if mapping.meters:
        return metered(mapping.files, map(mapper.batch, sheets), mapping, tally)
    named = [(theirs.name, _batches(theirs, mapper, lookup)) for theirs in sheets]
    source = layout.one_history(named, 0, tally)
    return replace(source, areas=areas, zone=mapping.zone_name)


def metered(
    name: str, batches: Iterable[Batch], mapping: ColumnMapping, tally: Tally
) -> Source:
    """Readings as one history whose meters have records. Raises SourceError when there is no row."""
    readings = Readings.join(
        [batch for batch in batches if isinstance(batch, Readings)]
    )
    if not len(readings):
        raise nothing_read(name, tally)
    order = np.lexsort((readings.subject, readings.at))
    zone = mapping.zone_name
    return history_of(name, readings.select(order), zone, tally, mapping.meters)


def mapped_files(path: Path, mapping: ColumnMapping) -> list[Path]:
    """The files that a mapping's pattern finds beside it. Raises SourceError if it finds none."""
    found = files_of(mapping.files, path.parent)
    if not found:
        raise SourceError(
            f"{path}: `files` is {mapping.files!r}, and there is no such file"
        )
    return found


def files_of(pattern: str, folder: Path) -> list[Path]:
    """The files that a pattern finds, beside a folder unless it is absolute. Raises SourceError."""
    relative = Path(pattern)
    if relative.is_absolute():
        folder = Path(relative.anchor)
        relative = relative.relative_to(folder)
    try:
        if (folder / relative).is_file():  # a name may have the characters of a pattern
            return [folder / relative]
        return sorted(file for file in folder.glob(str(relative)) if file.is_file())
    except (ValueError, NotImplementedError, OSError) as error:
        raise SourceError(f"{pattern!r} is no pattern of files: {error}") from None


def sheets_of(
    file: Path, mapping: ColumnMapping, tally: Tally
) -> Iterator[tables.Sheet]:
    """The cells of a file's tables by the text of their path. Raises SourceError."""
    if mapping.format == "json":
        sheets = iter([_sheet_of_lines(file, mapping, tally)])
    else:
        found = tables_of(file, partial(has_columns, mapping), tally)
        sheets = (sheet_of(table, mapping, tally) for table in found)

    for sheet in sheets:
        tally.notes += zone_notes(sheet, mapping)
        yield sheet


def has_columns(mapping: ColumnMapping, columns: Collection[str]) -> bool:
    """True if a table has all columns that are mapped."""
    header = list(columns)
    paths = mapping.paths_in(header).values()
    return all(header_of(path, header) for path in paths)


def sheet_of(table: tables.File, mapping: ColumnMapping, tally: Tally) -> tables.Sheet:
    """The cells of a table by the text of their path. Raises SourceError."""
    header = tables.columns(table)
    paths = mapping.paths_in(header)
    if lacking := missing_columns(paths, header, table.name):
        raise SourceError(lacking)
    seconds = clock_columns(header, table.name) if mapping.cell else {}
    names = {header_of(path, header) for path in paths.values()}
    theirs = tables.read(table, names | seconds.keys(), tally).table
    cells = cells_of_table(theirs, paths, table.name)
    for name in seconds:
        cells = cells.append_column(name, theirs[name])

    sheet = sheet_of_cells(cells, table.name, tally, mapping)
    return rows_of_clocks(sheet, seconds, mapping.cell) if seconds else sheet


def sheet_of_cells(
    cells: pa.Table,
    name: str,
    tally: Tally,
    mapping: ColumnMapping,
    faults: dict[int, str] | None = None,
) -> tables.Sheet:
    """Cells as a mapping says that they are to be read; each record of a topic alone."""
    time = mapping.time
    sheet = tables.Sheet(
        cells,
        name,
        tally,
        zone=time.zone,
        dates=time.dates,
        faults=faults,
        alone=bool(mapping.topic),
    )
    if not mapping.empty:
        return sheet
    words = "|".join(map(re.escape, mapping.empty))
    return sheet.without(f"(?i:{words})")


def tables_of(
    file: Path, known: Callable[[Collection[str]], bool], tally: Tally
) -> list[tables.File]:
    """The tables of a file with known columns; a header may stand below other lines, or on several sheets."""
    if workbook.is_workbook(file):
        return list(workbook.sheets(file, known, tally))
    if contents.is_parquet(file) or known(delimited.head(file).names):
        return [file]
    for lines, head in delimited.heads(file):
        if known(head.names):
            table = delimited.read_below(file, lines, tally)
            return [tables.EmbeddedTable(file.name, table)]
    return [file]


def _sheet_of_lines(file: Path, mapping: ColumnMapping, tally: Tally) -> tables.Sheet:
    """The cells of a file of JSON lines."""
    rows: list[Any] = []
    for number, record in enumerate(json_records(file, tally), 1):
        found = rows_of(record, mapping)
        sound = [row for row in found if isinstance(row, dict)]
        place = f"{file.name} record {number}"
        tally.reject(NOT_OBJECT, place, len(found) - len(sound))
        rows += sound

    cells, wrong = cells_of_records(rows, mapping.paths)
    for row, path in wrong.items():
        tally.reject(f"{path} is no plain value", f"{file.name} row {row + 1}")
    return sheet_of_cells(cells, file.name, tally, mapping)


def json_records(file: Path, tally: Tally) -> list[Any]:
    """The values of a file of JSON lines; a line that is none is counted."""
    records = []
    content = contents.whole(file, contents.MOST_UNFOLDED)
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                records.append(msgspec.json.decode(line))
            except (ValueError, RecursionError) as error:
                place = f"{file.name} line {number}: {error}"
                tally.reject("the line is no JSON", place)
    return records


def rows_of(record: Any, mapping: ColumnMapping) -> list[Any]:
    """The rows of a decoded record: itself, its elements, or the elements at a path, with the fields around them."""
    if isinstance(record, list):
        return record
    if not mapping.rows:
        return [record]
    rows = walked(record, mapping.rows)
    if not isinstance(rows, list):
        return [None]
    return [record | row if isinstance(row, dict) else None for row in rows]


def _batches(
    theirs: tables.Sheet, mapper: RowMapper, lookup: AreaLookup | None
) -> Iterator[Batch]:
    """The rows of a table in order of arrival."""
    batch = mapper.batch(theirs)
    if lookup is not None:
        batch = with_areas(batch, lookup, theirs)
    yield from split_batch(arranged(batch))


def with_areas(batch: Batch, lookup: AreaLookup, theirs: tables.Sheet) -> Batch:
    """The rows whose area the records know; the others are counted."""
    located, is_known = lookup.located(batch)
    if is_known.all():
        return located
    first = batch.names[batch.subject[int(np.argmin(is_known))]]
    unknown = len(batch) - int(np.count_nonzero(is_known))
    theirs.tally.reject(UNKNOWN_AREA, f"{theirs.name}: {first!r}", unknown)
    return located.select(is_known)

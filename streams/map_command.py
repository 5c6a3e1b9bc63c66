"""A sample of data of others, the mapping guessed from it, and what the mapping makes of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from replay import contents, layout, tables
from replay.extras import missing_extra
from replay.history import Source, SourceError, Tally
from replay.inferred import with_steps
from replay.mapping.areas import AreaLookup
from replay.mapping.cells import cells_of_records
from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.expressions import ColumnPath, path_text
from replay.mapping.file import (
    KINDS_BY_NAME,
    mapping_of,
    read_mapping,
)
from replay.mapping.files import (
    MAPPING_ENDING,
    files_of,
    json_records,
    mapped_files,
    rows_of,
    sheets_of,
    tables_of,
)
from replay.mapping.guess import (
    GuessedColumn,
    guessed_columns,
    leaf_paths,
    list_of_rows,
    mapping_text,
    recognises,
)
from replay.mapping.rows import RowMapper, values_by_column
from replay.tables import meant
from schemas.columns import Batch
from schemas.master import Area
from schemas.wire import Message, RejectedError
from streams.json_output import show_json
from streams.kafka.foreign_records import record_decoder
from streams.kafka.mapped_records import RecordMapper
from streams.settings import Settings
from streams.source_summary import show_source_summary, summary_of
from streams.terminal import plain_output

OTHER_ZONE = ZoneInfo("Etc/GMT-1")
ZONE_NOTE = (
    'times name no zone and are read as UTC, unless the mapping says zone = "..."'
)
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
out = plain_output()


class MappedPlace(NamedTuple):
    """Where data of others are, as the command line says it."""

    source: str
    kind: str
    format: str
    schema_registry: str


class _Checked(NamedTuple):
    """What a mapping makes of a sample."""

    rows: int
    batch: Batch
    tally: Tally


def show_mapped(
    place: MappedPlace, file: Path, count: int, settings: Settings, *, as_json: bool
) -> None:
    """Shows a mapping and what it makes of so many rows; writes it if it is guessed. Raises ValueError."""
    columns: list[GuessedColumn] = []
    if place.kind not in KINDS_BY_NAME:
        nearest = meant(place.kind, KINDS_BY_NAME)
        raise SourceError(f"there is no kind {place.kind!r}{nearest}")
    if Path(place.source).suffix == MAPPING_ENDING:
        path = Path(place.source)
        mapping = read_mapping(path)
        messages = _messages(mapping, settings, count)
    else:
        path = file
        if file.exists():
            raise SourceError(f"{file} exists: name another --out, or map {file}")
        entries, records, messages = _sample(place, file.parent, settings, count)
        held = _registry_areas(settings) if messages else []
        known_ids = AreaLookup(held).ids(KINDS_BY_NAME[place.kind])
        columns, text = guess(records, entries, place.kind, known_ids)
        file.write_text(text, "utf-8")
        with _to_be_mended(file, columns):
            mapping = mapping_of(text, str(file))

    with _to_be_mended(file, columns):
        checked = _check(path, mapping, messages, count, settings)
    lookup, areas = _lookup(path, mapping, settings)
    source, unknown = _source(checked, mapping, lookup, areas)
    source.tally.notes += _empty_columns(mapping, checked.batch)
    if not mapping.zone_name and _names_no_zone(
        path, mapping, messages, checked, settings
    ):
        source.tally.notes.append(ZONE_NOTE)
    summary = summary_of(source, settings)
    found = {
        "mapping": str(path),
        "columns": [column._asdict() for column in columns],
        "checked": checked.rows,
        "accepted": len(checked.batch),
        "unknown_subjects": unknown,
        "summary": summary,
    }
    if as_json:
        show_json(found)
        return
    _show_columns(columns or _mapped_columns(mapping))
    out.print(f"\n{checked.rows:,} rows, {len(checked.batch):,} accepted by {path}")
    if unknown:
        out.print(f"{unknown:,} ids are in no area of the registry")
    show_source_summary(summary, out)


def _sample(
    place: MappedPlace, folder: Path, settings: Settings, count: int
) -> tuple[dict[str, str], list[Any], list[Message]]:
    """What a mapping says of the place, and records from it; the messages of a topic. Raises SourceError."""
    files = files_of(place.source, Path())
    if files:
        pattern = os.path.relpath(place.source, folder)
        entries = {"files": Path(pattern).as_posix()}
        if files[0].suffix.lower() in JSON_ENDINGS:
            return (
                entries | {"format": "json"},
                json_records(files[0], Tally())[:count],
                [],
            )
        return entries, _table_records(files[0], KINDS_BY_NAME[place.kind], count), []
    if "/" in place.source or Path(place.source).suffix in (
        ".csv",
        ".parquet",
        ".xlsx",
    ):
        raise SourceError(f"{place.source} does not exist")

    entries = {"topic": place.source, "format": place.format}
    if place.schema_registry:
        entries["schema_registry"] = place.schema_registry
    bare = ColumnMapping(
        "", {}, format=place.format, schema_registry=place.schema_registry
    )
    decoded = record_decoder(bare, settings.schema_registry_authorization)
    try:
        messages = _newest(settings, place.source, count)
    except ModuleNotFoundError as error:
        needed = missing_extra(error) or error
        raise SourceError(
            f"there is no file {place.source}; if it is a topic, {needed}"
        ) from error
    records = []
    fault = ""
    for message in messages:
        try:
            records.append(decoded(message[1] or b""))
        except RejectedError as error:
            fault = str(error)  # counted when the mapping is checked
    if not records:
        raise SourceError(_undecoded(place, fault, messages))
    return entries, records, messages


def _undecoded(place: MappedPlace, fault: str, messages: Sequence[Message]) -> str:
    """That no record is of the format, and which it may be."""
    framed = sum((message[1] or b"")[:1] == b"\0" for message in messages)
    advice = "; they begin as records of a schema registry do: --format avro or protobuf, --schema-registry URL"
    is_other = place.format == "json" and framed > len(messages) / 2
    return (
        f"none of {len(messages):,} records of `{place.source}` is {place.format}, the last: {fault}"
        f"{advice if is_other else ''}"
    )


def _table_records(file: Path, kind: type[Batch], count: int) -> list[Any]:
    """The first rows of a file's first table as records. Raises SourceError."""
    (table, *_) = tables_of(file, lambda columns: recognises(columns, kind), Tally())
    if isinstance(table, Path) and contents.is_parquet(table):
        with pq.ParquetFile(table) as opened:
            batches = list(opened.iter_batches(count))[:1]
        return pa.Table.from_batches(batches).to_pylist() if batches else []
    names = [name for name in tables.columns(table) if name]
    return tables.read(table, names, Tally()).table.slice(0, count).to_pylist()


def guess(
    records: Sequence[Any],
    entries: dict[str, str],
    kind_name: str,
    known_ids: Collection[str],
) -> tuple[list[GuessedColumn], str]:
    """The columns that are guessed from records, and the mapping. Raises SourceError."""
    kind = KINDS_BY_NAME[kind_name]
    within = () if _is_table(entries) else next(map(list_of_rows, records), ())
    if within:
        entries["rows"] = path_text(within)
    whole = ColumnMapping("", {}, rows=within)
    found = [row for record in records for row in rows_of(record, whole)]
    rows = [row for row in found if isinstance(row, dict)]

    paths: dict[str, ColumnPath] = {}
    for row in rows:
        for path in leaf_paths(row):
            if not within or path[: len(within)] != within:
                paths[path_text(path)] = path
    if not paths:
        raise SourceError("there is no row to guess a mapping from")
    cells, _ = cells_of_records(rows, paths)
    columns = guessed_columns(tables.Sheet(cells, "", Tally()), kind, known_ids)
    return columns, mapping_text(columns, entries, kind)


@contextmanager
def _to_be_mended(file: Path, columns: Sequence[GuessedColumn]) -> Iterator[None]:
    """Shows the columns of a guess that is not enough, and how to go on. Raises SourceError."""
    try:
        yield
    except SourceError as error:
        if not columns:
            raise
        _show_columns(columns)
        raise SourceError(
            f"{error}\n{file} is written: mend it, then `meterwatch map {file}` checks it"
        ) from None


def _is_table(entries: Mapping[str, str]) -> bool:
    """True if the rows are a table's, and no record holds a list of them."""
    return "files" in entries and "format" not in entries


def _messages(mapping: ColumnMapping, settings: Settings, count: int) -> list[Message]:
    """A sample of a mapping's topic; nothing of files."""
    return _newest(settings, mapping.topic, count) if mapping.topic else []


def _newest(settings: Settings, topic: str, count: int) -> list[Message]:
    """About so many of a topic's newest records. Raises TopicError, UnansweredError."""
    from streams.kafka.samples import sampled  # noqa: PLC0415 - an extra

    return asyncio.run(sampled(settings, topic, count))


def _registry_areas(settings: Settings) -> list[Area]:
    """The areas of the registry. Raises UnansweredError."""
    from streams.kafka.samples import registry_areas  # noqa: PLC0415 - an extra

    return asyncio.run(registry_areas(settings))


def _check(
    path: Path,
    mapping: ColumnMapping,
    messages: Sequence[Message],
    count: int,
    settings: Settings,
) -> _Checked:
    """What a mapping makes of the messages, or of the first rows of its files."""
    tally = Tally()
    if mapping.topic:
        mapper = RecordMapper(mapping, settings.schema_registry_authorization)
        mapped = mapper.mapped(messages)
        for rejection in mapped.rejections:
            place = f"record {rejection.index + 1}: {rejection.detail}"
            tally.reject(rejection.reason.value, place, rejection.rows)
        if mapped.batch is None:
            raise SourceError(
                f"{path}: every record would be rejected: {'; '.join(tally.reasons(tally.rejected))}"
            )
        return _Checked(len(mapped.batch) + tally.rejected.total(), mapped.batch, tally)

    row_mapper = RowMapper(mapping)
    batches, rows = [], 0
    for file in mapped_files(path, mapping):
        for sheet in sheets_of(file, mapping, tally):
            part = sheet.of(sheet.table.slice(0, count - rows))
            batches.append(row_mapper.batch(part))
            rows += len(part)
        if rows >= count:
            break
    return _Checked(rows, mapping.kind.join(batches), tally)


def _empty_columns(mapping: ColumnMapping, batch: Batch) -> Iterator[str]:
    """A sentence for each mapped number that no row of a sample has."""
    for name, count in values_by_column(mapping, batch).items():
        expression = mapping.columns[name].expression
        if not count and expression:
            yield f"`{name}` has no value in any row: is `{expression.text}` right?"


def _names_no_zone(
    path: Path,
    mapping: ColumnMapping,
    messages: Sequence[Message],
    checked: _Checked,
    settings: Settings,
) -> bool:
    """True if times of a sample depend on the zone of times that name none."""
    elsewhere = mapping._replace(zone=OTHER_ZONE)
    again = _check(path, elsewhere, messages, checked.rows, settings)
    return not np.array_equal(again.batch.at, checked.batch.at)


def _lookup(
    path: Path, mapping: ColumnMapping, settings: Settings
) -> tuple[AreaLookup | None, list[Area]]:
    """The areas of meters, if the mapping looks them up, and the areas that a file lists."""
    if mapping.topic:
        areas = _registry_areas(settings)
        return AreaLookup(areas) if mapping.area_from_registry else None, areas
    if not mapping.area_from_registry:
        return None, []
    if not mapping.registry:
        return AreaLookup(), []
    areas = layout.read_areas(path.parent / mapping.registry, Tally())
    return AreaLookup(areas), areas


def _source(
    checked: _Checked,
    mapping: ColumnMapping,
    lookup: AreaLookup | None,
    areas: Iterable[Area],
) -> tuple[Source, int]:
    """The accepted rows as a history, and how many subjects are in no area; if all are, they count as one area."""
    batch, unknown = checked.batch, 0
    if lookup is not None:
        located, is_known = lookup.located(batch)
        unknown = len(np.unique(batch.subject[~is_known]))
        batch = located.select(is_known) if is_known.any() else batch
    name = mapping.topic or mapping.files
    source = layout.one_history([(name, iter([batch]))], len(batch), checked.tally)
    known, interval = with_steps(areas, source.steps, checked.tally.notes)
    zone = mapping.zone_name
    return replace(source, areas=known, interval=interval, zone=zone), unknown


def _mapped_columns(mapping: ColumnMapping) -> list[GuessedColumn]:
    """The columns of a mapping as a guess would give them."""
    return [
        GuessedColumn(
            column.expression.text if column.expression else column.value, name
        )
        for name, column in mapping.columns.items()
    ]


def _show_columns(columns: Iterable[GuessedColumn]) -> None:
    """Prints for each column of others the project's."""
    table = Table("theirs", "", "the project's", "", box=None, pad_edge=False)
    for column in columns:
        if column.ours:
            table.add_row(column.theirs, "->", column.ours, column.unit)
        else:
            such = f", such as {column.examples[0]}" if column.examples else ""
            table.add_row(
                column.theirs, "", "not known", f"left out{column.nearest}{such}"
            )
    out.print(table, markup=False)

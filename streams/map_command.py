"""A sample of data of others, the mapping guessed from it, and what the mapping makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from replay import layout, tables
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
    mapped_files,
    metered,
    rows_of,
    sheets_of,
)
from replay.mapping.guess import (
    GuessedColumn,
    guessed_columns,
    leaf_paths,
    list_of_rows,
    mapping_text,
)
from replay.mapping.known_mappings import KnownMapping
from replay.mapping.row_shape import NO_SHAPE, shape_of
from replay.mapping.row_times import has_either_dates, lack_zone
from replay.mapping.rows import RowMapper, values_by_column
from replay.tables import meant
from schemas.columns import Batch
from schemas.master import Area
from schemas.wire import Message
from streams.json_output import show_json
from streams.kafka.mapped_records import RecordMapper
from streams.map_sample import (
    MappedPlace,
    known_mapping_of,
    newest,
    pattern_of,
    sample,
)
from streams.settings import Settings
from streams.source_summary import show_source_summary, summary_of
from streams.terminal import plain_output

out = plain_output()


class _Guess(NamedTuple):
    """The mapping of a place, by guessed columns or as the project has it; and the messages of a topic."""

    text: str
    columns: list[GuessedColumn]
    known: KnownMapping | None
    messages: list[Message]


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
    known = None
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
        text, columns, known, messages = _guess(place, file.parent, count, settings)
        file.write_text(text, "utf-8")
        with _to_be_mended(file, columns):
            mapping = mapping_of(text, str(file))

    with _to_be_mended(file, columns):
        checked = _check(path, mapping, messages, count, settings)
        lookup, areas = _lookup(path, mapping, settings)
        source, unknown = _source(checked, mapping, lookup, areas)
        source.tally.notes += _empty_columns(mapping, checked.batch)
        summary = summary_of(source, settings)
    found = {
        "mapping": str(path),
        "known": known.name if known else "",
        "columns": [column._asdict() for column in columns],
        "checked": checked.rows,
        "accepted": len(checked.batch),
        "unknown_subjects": unknown,
        "summary": summary,
    }
    if as_json:
        show_json(found)
        return
    if known:
        out.print(f"known without a mapping: {known.title}\n", markup=False)
    _show_columns(columns or _mapped_columns(mapping))
    out.print(f"\n{checked.rows:,} rows, {len(checked.batch):,} accepted by {path}")
    if unknown:
        out.print(f"{unknown:,} ids are in no area of the registry")
    show_source_summary(summary, out)


def _guess(place: MappedPlace, folder: Path, count: int, settings: Settings) -> _Guess:
    """The mapping for a folder, from so many rows of a place. Raises SourceError."""
    if known := known_mapping_of(place):
        return _Guess(known.text_for(pattern_of(place, folder)), [], known, [])

    entries, records, messages = sample(place, folder, settings, count)
    held = _registry_areas(settings) if messages else []
    known_ids = AreaLookup(held).ids(KINDS_BY_NAME[place.kind])
    columns, text = guess(records, entries, place.kind, known_ids, settings.zone)
    return _Guess(text, columns, None, messages)


def guess(
    records: Sequence[Any],
    entries: dict[str, str],
    kind_name: str,
    known_ids: Collection[str],
    zone: str,
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
    sheet = tables.Sheet(cells, "", Tally(), alone="topic" in entries)
    shape = shape_of(sheet) if _is_table(entries) else NO_SHAPE
    columns = guessed_columns(sheet, kind, shape, known_ids)
    at = next((column.theirs for column in columns if column.ours == "at"), "")
    if at and lack_zone(sheet, at):
        entries["zone"] = zone
    either = bool(at) and has_either_dates(sheet, at)
    return columns, mapping_text(columns, entries, kind, shape, either_dates=either)


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
    return newest(settings, mapping.topic, count) if mapping.topic else []


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
        rejected = {rejection.index for rejection in mapped.rejections}
        sound = [message for k, message in enumerate(messages) if k not in rejected]
        tally.notes += mapper.zone_notes(sound)
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
    if mapping.meters:
        return metered(name, [batch], mapping, checked.tally), unknown
    source = layout.one_history([(name, iter([batch]))], len(batch), checked.tally)
    known, interval = with_steps(areas, source.steps, checked.tally.notes)
    zone = mapping.zone_name
    return replace(source, areas=known, interval=interval, zone=zone), unknown


def _mapped_columns(mapping: ColumnMapping) -> list[GuessedColumn]:
    """The columns of a mapping as a guess would give them."""
    clock = mapping.time.clock
    return [
        GuessedColumn(
            column.expression.text if column.expression else column.value,
            name,
            hour=clock.text if clock and name == "at" else "",
        )
        for name, column in mapping.columns.items()
    ]


def _show_columns(columns: Iterable[GuessedColumn]) -> None:
    """Prints for each column of others the project's."""
    table = Table("theirs", "", "the project's", "", box=None, pad_edge=False)
    for column in columns:
        if column.ours:
            theirs = " + ".join(filter(None, (column.theirs, column.hour)))
            table.add_row(theirs, "->", column.ours, column.unit)
        else:
            such = f", such as {column.examples[0]}" if column.examples else ""
            table.add_row(
                column.theirs, "", "not known", f"left out{column.nearest}{such}"
            )
    out.print(table, markup=False)

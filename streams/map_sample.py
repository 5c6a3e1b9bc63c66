"""A sample of data of others: rows of files, or the newest records of a topic."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from replay import contents, tables
from replay.extras import missing_extra
from replay.history import SourceError, Tally
from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.file import KINDS_BY_NAME
from replay.mapping.files import files_of, json_records, tables_of
from replay.mapping.guess import recognises
from replay.mapping.known_mappings import KnownMapping, known_mapping
from schemas.columns import Batch, Readings
from schemas.wire import Message, RejectedError
from streams.kafka.foreign_records import record_decoder
from streams.settings import Settings

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")


class MappedPlace(NamedTuple):
    """Where data of others are, as the command line says it."""

    source: str
    kind: str
    format: str
    schema_registry: str


def sample(
    place: MappedPlace, folder: Path, settings: Settings, count: int
) -> tuple[dict[str, str], list[Any], list[Message]]:
    """What a mapping says of the place, and records from it; the messages of a topic. Raises SourceError."""
    files = files_of(place.source, Path())
    if files:
        entries = {"files": pattern_of(place, folder)}
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
        messages = newest(settings, place.source, count)
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


def pattern_of(place: MappedPlace, folder: Path) -> str:
    """The pattern of the files beside a mapping in a folder."""
    return Path(os.path.relpath(place.source, folder)).as_posix()


def known_mapping_of(place: MappedPlace) -> KnownMapping | None:
    """The project's mapping of the files, None if it has none. Raises SourceError."""
    files = files_of(place.source, Path())
    if not files or files[0].suffix.lower() in JSON_ENDINGS:
        return None
    if place.kind != Readings.kind:
        return None
    table = _first_table(files[0], Readings)
    return known_mapping(tables.columns(table))


def _first_table(file: Path, kind: type[Batch]) -> tables.File:
    """The first table of a file that may be guessed, or that is known. Raises SourceError."""

    def fits(columns: Collection[str]) -> bool:
        return recognises(columns, kind) or known_mapping(columns) is not None

    return tables_of(file, fits, Tally())[0]


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
    table = _first_table(file, kind)
    if isinstance(table, Path) and contents.is_parquet(table):
        with pq.ParquetFile(table) as opened:
            batches = list(opened.iter_batches(count))[:1]
        return pa.Table.from_batches(batches).to_pylist() if batches else []
    names = [name for name in tables.columns(table) if name]
    return tables.read(table, names, Tally()).table.slice(0, count).to_pylist()


def newest(settings: Settings, topic: str, count: int) -> list[Message]:
    """About so many of a topic's newest records. Raises TopicError, UnansweredError."""
    from streams.kafka.samples import sampled  # noqa: PLC0415 - an extra

    return asyncio.run(sampled(settings, topic, count))

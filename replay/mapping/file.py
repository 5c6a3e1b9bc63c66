"""The file of a mapping, read and checked: every fault with its line, unknown words with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from replay import layout
from replay.addresses import is_address
from replay.formats.readings import MeterRecords
from replay.history import BATCH_KINDS, SourceError
from replay.mapping.column_entries import ColumnEntries
from replay.mapping.column_mapping import (
    ColumnMapping,
    MappedColumn,
    RowTime,
)
from replay.mapping.entry_lines import CheckedEntries
from replay.mapping.targets import phase_stems, targets
from replay.moments import Order
from replay.tables import meant
from schemas.columns import KIND_COLUMNS, Batch, Readings, Stages

LONGEST_FILE = 1 << 20  # bytes
TOPIC_FORMATS = ("json", "avro", "protobuf")
FILE_FORMATS = ("csv", "parquet", "xlsx", "json")
SCHEMA_FORMATS = ("avro", "protobuf")
KINDS_BY_NAME = {kind.kind: kind for kind in BATCH_KINDS}
TEXT_ENTRIES = (
    "topic",
    "files",
    "format",
    "kind",
    "area",
    "registry",
    "schema_registry",
    "zone",
    "clock",
    "dates",
    "rows",
)
LIST_ENTRIES = ("empty", "needed")
TABLE_ENTRIES = ("columns", "phases", "words", "times", "meters")
DATE_ORDERS = ("day", "month")
RECORD_ENTRIES = ("un_v", "interval_s")  # of [meters]


class MappingError(SourceError):
    """A file that is no mapping; a line for each fault."""


def read_mapping(path: Path) -> ColumnMapping:
    """The mapping of a file. Raises MappingError."""
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
        if len(content) > LONGEST_FILE:
            raise MappingError(f"{path} is longer than {LONGEST_FILE:,} bytes")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} cannot be read: {error}") from None
    return mapping_of(text, str(path))


def mapping_of(text: str, name: str) -> ColumnMapping:
    """The mapping of a text. Raises MappingError with all its faults."""
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MappingError(f"{name}: {error}") from None

    entries = CheckedEntries(name, text, given)
    mapping = _Check(entries).mapping(name)
    if entries.faults:
        raise MappingError("\n".join(line for _, line in sorted(entries.faults)))
    return mapping


class _Check:
    """The entries of a file as a mapping; faults are gathered."""

    def __init__(self, entries: CheckedEntries) -> None:
        self._given = entries
        self._fault = entries.fault
        self._entries = entries.entries

    def mapping(self, name: str) -> ColumnMapping:
        """The mapping, as far as there are no faults."""
        known = (*TEXT_ENTRIES, *LIST_ENTRIES, *TABLE_ENTRIES)
        self._given.check_words(self._entries, known, "", "entry")
        text = {entry: self._given.text(entry) for entry in TEXT_ENTRIES}
        kind = self._kind(text["kind"])
        self._check_place(text)
        self._check_area(text, kind)

        given = ColumnEntries(self._given, kind)
        columns = given.columns()
        rows = (
            self._given.expression("", "rows", text["rows"]) if text["rows"] else None
        )
        if rows and not rows.is_path:
            self._fault("`rows` is no path to the rows of a record", "", "rows")
        self._check_needed(kind, columns, from_registry=text["area"] == "registry")

        hour, plus = given.clock()
        zone = self._zone("clock", text["clock"] or text["zone"])
        return ColumnMapping(
            name,
            columns,
            kind,
            topic=text["topic"],
            files=text["files"],
            format=text["format"] or ("json" if text["topic"] else ""),
            area_from_registry=text["area"] == "registry",
            registry=text["registry"],
            schema_registry=text["schema_registry"],
            zone_name=str(self._zone("zone", text["zone"])) if text["zone"] else "",
            time=RowTime(hour, plus, self._dates(text["dates"]), zone),
            rows=next(iter(rows.paths.values())) if rows else (),
            phases=given.phases(columns),
            cell=self._cell(text, columns.values()),
            empty=self._given.texts("empty"),
            needed=self._needed(kind, columns),
            meters=self._meters(text, kind),
        )

    def _kind(self, name: str) -> type[Batch]:
        if name and name not in KINDS_BY_NAME:
            known = ", ".join(KINDS_BY_NAME)
            nearest = meant(name, KINDS_BY_NAME)
            self._fault(f"`kind` is {name!r}{nearest}; known are {known}", "", "kind")
        return KINDS_BY_NAME.get(name, Readings)

    def _check_place(self, text: Mapping[str, str]) -> None:
        """The topic or the files, and their format."""
        if bool(text["topic"]) == bool(text["files"]):
            self._fault("a mapping has either `topic` or `files`", "", "topic")
        formats = FILE_FORMATS if text["files"] else TOPIC_FORMATS
        if text["format"] and text["format"] not in formats:
            known = ", ".join(formats)
            sentence = f"`format` is {text['format']!r}; known are {known}"
            self._fault(sentence, "", "format")

        address = text["schema_registry"]
        if text["format"] in SCHEMA_FORMATS and not address:
            self._fault(f"{text['format']} needs `schema_registry`", "", "format")
        if address and not is_address(address):
            sentence = "`schema_registry` is no address such as http://127.0.0.1:8081"
            self._fault(sentence, "", "schema_registry")
        if text["topic"] and "phases" in self._entries and not text["rows"]:
            self._fault(
                "[phases] of a topic needs `rows`: a record has all phases", "phases"
            )
        if text["rows"] and text["files"] and text["format"] != "json":
            self._fault('`rows` needs `format = "json"`', "", "rows")

    def _check_area(self, text: Mapping[str, str], kind: type[Batch]) -> None:
        """How the area is found."""
        if text["area"] not in {"", "registry"}:
            sentence = '`area` is "registry" or absent; a column with the area stands in [columns]'
            self._fault(sentence, "", "area")
        elif text["area"] and kind is Stages:
            self._fault(
                "work items are in no area of the registry: map `section`", "", "area"
            )
        elif text["area"] and "area" in self._given.table("columns"):
            self._fault(
                "the area is looked up: [columns] may not map it too", "columns", "area"
            )

        if text["registry"] and not (text["area"] and text["files"]):
            sentence = (
                '`registry` is a file of areas beside `files`, with `area = "registry"`'
            )
            self._fault(sentence, "", "registry")

    def _check_needed(
        self,
        kind: type[Batch],
        columns: Mapping[str, MappedColumn],
        *,
        from_registry: bool,
    ) -> None:
        """The columns without which there is no row."""
        for name in _missing(kind, columns, from_registry=from_registry):
            advice = ', nor `area = "registry"` given' if name == "area" else ""
            if name not in self._given.table("columns"):
                self._fault(f"`{name}` is not mapped{advice}", "columns")
        if columns and not any(column.expression for column in columns.values()):
            self._fault("no column of others is mapped", "columns")
        measured = {*layout.cell_columns(kind), *phase_stems(kind)}
        if kind is Readings and not measured & set(columns) and not self._given.faults:
            self._fault("no column with a value is mapped", "columns")

    def _zone(self, entry: str, name: str) -> Any:
        try:
            return ZoneInfo(name) if name else UTC
        except (ZoneInfoNotFoundError, ValueError, OSError):
            sentence = (
                f"`{entry}` is {name!r}, which is not a time zone such as Asia/Shanghai"
            )
            if entry in self._entries:
                self._fault(sentence, "", entry)
            return UTC

    def _dates(self, order: str) -> Order:
        """Which comes first in dates."""
        if order and order not in DATE_ORDERS:
            known = " and ".join(DATE_ORDERS)
            self._fault(f"`dates` is {order!r}; known are {known}", "", "dates")
        return cast(Order, order)

    def _cell(self, text: Mapping[str, str], columns: Iterable[MappedColumn]) -> str:
        """The name of the cells of columns that are times of the day."""
        if "times" not in self._entries:
            return ""
        given = self._given.table("times")
        self._given.check_words(given, ("cell",), "times", "entry")
        name = given.get("cell")
        if not isinstance(name, str) or not name.isidentifier():
            self._fault("[times] has no `cell` that names the cells of times", "times")
            return ""

        read = [column.expression for column in columns if column.expression]
        if not any(name in expression.paths for expression in read):
            self._fault(f"[times]: no column is made of `{name}`", "times", "cell")
        if text["topic"] or text["format"] == "json":
            self._fault("[times]: only a table has columns of times", "times")
        at = self._given.table("columns").get("at")
        if isinstance(at, dict) and "time" in at:
            self._fault("[times]: `at` is a day, and its hours are columns", "times")
        return name

    def _needed(
        self, kind: type[Batch], columns: Mapping[str, MappedColumn]
    ) -> list[str]:
        """The columns of which a row must have one."""
        known = [name for name, target in targets(kind).items() if target.numeric]
        mapped = [name for name in known if name in columns]
        needed = self._given.texts("needed")
        for name in needed:
            if name not in mapped:
                sentence = (
                    f"`needed`: {name} is no number that is mapped{meant(name, mapped)}"
                )
                self._fault(sentence, "", "needed")
        return [name for name in needed if name in mapped]

    def _meters(
        self, text: Mapping[str, str], kind: type[Batch]
    ) -> MeterRecords | None:
        """What is said of every meter."""
        if "meters" not in self._entries:
            return None
        given = self._given.table("meters")
        self._given.check_words(given, RECORD_ENTRIES, "meters", "entry")
        if text["topic"] or text["area"] or kind is not Readings:
            sentence = "[meters] makes records of readings in files, without a registry"
            self._fault(sentence, "meters")

        for name, least, most in (("un_v", 1, 1_000_000), ("interval_s", 60, 86_400)):
            value = given.get(name, 0 if name == "un_v" else least)
            if type(value) not in (int, float) or not least <= value <= most:
                sentence = f"`{name}` is no number from {least} to {most}"
                self._fault(sentence, "meters", name)
                return None
        return MeterRecords(float(given["un_v"]), int(given.get("interval_s", 0)))


def _missing(
    kind: type[Batch], columns: Collection[str], *, from_registry: bool
) -> Iterator[str]:
    """The needed columns that are not mapped."""
    declared = KIND_COLUMNS[kind]
    for column in declared.values():
        name = column.outside_name
        if from_registry and name == "area":
            continue
        if (column.required or name == "at") and name not in columns:
            yield name

"""The file of a mapping, read and checked: every fault with its line, unknown words with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from replay import layout
from replay.addresses import is_address
from replay.history import BATCH_KINDS, SourceError
from replay.mapping.column_mapping import ColumnMapping, MappedColumn, PhaseRows
from replay.mapping.entry_lines import entry_lines
from replay.mapping.expressions import Expression, ExpressionError, parsed
from replay.mapping.targets import (
    ColumnTarget,
    phase_stems,
    targets,
    words_of,
)
from replay.mapping.units import units_for
from replay.tables import meant
from schemas.columns import KIND_COLUMNS, Batch, Readings, Stages
from schemas.events import System

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
    "rows",
)
TABLE_ENTRIES = ("columns", "phases", "words")
COLUMN_ENTRIES = ("from", "unit", "value", "system")
PHASE_LETTERS = ("A", "B", "C")


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
        entries = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MappingError(f"{name}: {error}") from None

    check = _Check(name, text, entries)
    mapping = check.mapping()
    if check.faults:
        raise MappingError("\n".join(line for _, line in sorted(check.faults)))
    return mapping


class _Check:
    """The entries of a file as a mapping; faults are gathered."""

    def __init__(self, name: str, text: str, entries: Mapping[str, Any]) -> None:
        self.faults: list[tuple[int, str]] = []
        self._name = name
        self._entries = entries
        self._lines = entry_lines(text)

    def _fault(self, sentence: str, table: str = "", entry: str = "") -> None:
        tables = ((table, entry), (f"{table}.{entry}", ""), (table, ""))
        line = next(filter(None, map(self._lines.get, tables)), 0)
        place = f"{self._name} line {line}" if line else self._name
        self.faults.append((line, f"{place}: {sentence}"))

    def mapping(self) -> ColumnMapping:
        """The mapping, as far as there are no faults."""
        self._check_words(self._entries, (*TEXT_ENTRIES, *TABLE_ENTRIES), "", "entry")
        text = {entry: self._text(entry) for entry in TEXT_ENTRIES}
        kind = self._kind(text["kind"])
        self._check_place(text)
        self._check_area(text, kind)
        columns = self._columns(kind)
        rows = self._expression("", "rows", text["rows"]) if text["rows"] else None
        if rows and not rows.is_path:
            self._fault("`rows` is no path to the rows of a record", "", "rows")
        self._check_needed(kind, columns, from_registry=text["area"] == "registry")

        zone_name = text["zone"]
        return ColumnMapping(
            self._name,
            columns,
            kind,
            topic=text["topic"],
            files=text["files"],
            format=text["format"] or ("json" if text["topic"] else ""),
            area_from_registry=text["area"] == "registry",
            registry=text["registry"],
            schema_registry=text["schema_registry"],
            zone_name=zone_name,
            zone=self._zone(zone_name) if zone_name else UTC,
            rows=next(iter(rows.paths.values())) if rows else (),
            phases=self._phases(kind, columns),
        )

    def _check_words(
        self, given: Mapping[str, Any], known: Collection[str], table: str, noun: str
    ) -> None:
        for word in given:
            if word not in known:
                self._fault(
                    f"there is no {noun} `{word}`{meant(word, known)}", table, word
                )

    def _text(self, entry: str) -> str:
        value = self._entries.get(entry, "")
        if not isinstance(value, str):
            self._fault(f"`{entry}` is no text", "", entry)
            return ""
        return value

    def _table(self, *names: str) -> Mapping[str, Any]:
        """The entries of a table, none if it is missing."""
        found: Any = self._entries
        for name in names:
            found = found.get(name, {})
            if not isinstance(found, dict):
                self._fault(f"`{'.'.join(names)}` is no table", "", names[0])
                return {}
        return found

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
        elif text["area"] and "area" in self._table("columns"):
            self._fault(
                "the area is looked up: [columns] may not map it too", "columns", "area"
            )

        if text["registry"] and not (text["area"] and text["files"]):
            sentence = (
                '`registry` is a file of areas beside `files`, with `area = "registry"`'
            )
            self._fault(sentence, "", "registry")

    def _zone(self, name: str) -> Any:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            sentence = (
                f"`zone` is {name!r}, which is not a time zone such as Asia/Shanghai"
            )
            self._fault(sentence, "", "zone")
            return UTC

    def _expression(self, table: str, entry: str, text: str) -> Expression | None:
        try:
            return parsed(text)
        except ExpressionError as error:
            self._fault(f"`{entry}`: {text!r} {error}", table, entry)
            return None

    def _columns(self, kind: type[Batch]) -> dict[str, MappedColumn]:
        """The columns that are mapped without a fault."""
        known = targets(kind)
        if "phases" in self._entries:
            known |= phase_stems(kind)
        entries = self._table("columns")
        self._check_words(entries, known, "columns", f"column of {kind.kind}")
        words = self._words(known, entries)

        columns = {}
        for name, entry in entries.items():
            target = known.get(name)
            column = self._column(name, entry, target) if target else None
            if column:
                columns[name] = column._replace(words=words.get(name, {}))
        return columns

    def _column(
        self, name: str, entry: Any, target: ColumnTarget
    ) -> MappedColumn | None:
        """A column by its entry, None with a fault."""
        given = {"from": entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or not all(
            isinstance(text, str) for text in given.values()
        ):
            sentence = (
                f'`{name}` is no name, expression or {{ from = "...", unit = "..." }}'
            )
            self._fault(sentence, "columns", name)
            return None
        unknown = [word for word in given if word not in COLUMN_ENTRIES]
        if unknown or ("from" in given) == ("value" in given):
            wrong = (
                f"has `{unknown[0]}`{meant(unknown[0], COLUMN_ENTRIES)}"
                if unknown
                else ""
            )
            either = "has either `from` or `value`"
            self._fault(f"`{name}` {wrong or either}", "columns", name)
            return None
        if "value" in given:
            return MappedColumn(None, given["value"])

        expression = self._expression("columns", name, given["from"])
        if expression is None:
            return None
        if not (target.numeric or expression.is_path):
            self._fault(
                f"`{name}` is no number: nothing can be computed", "columns", name
            )
        return MappedColumn(
            expression,
            factor=self._factor(name, given.get("unit", ""), target),
            system=self._system(name, given.get("system", "")),
        )

    def _factor(self, name: str, unit: str, target: ColumnTarget) -> Fraction:
        known = units_for(target.unit)
        if unit and unit not in known:
            can = f"known are {', '.join(known)}" if known else "the column has no unit"
            sentence = f"`{name}` cannot be in {unit!r}{meant(unit, known)}; {can}"
            self._fault(sentence, "columns", name)
        return known.get(unit, Fraction(1))

    def _system(self, name: str, system: str) -> System | None:
        if not system:
            return None
        known = get_args(System)
        if name != "event" or system not in known:
            sentence = f"`system` says whose codes `event` has: {', '.join(known)}{meant(system, known)}"
            self._fault(sentence, "columns", name)
        return cast(System, system)

    def _words(
        self, known: Mapping[str, ColumnTarget], mapped: Collection[str]
    ) -> dict[str, dict[str, str]]:
        """By column the project's word for each of theirs."""
        found = {}
        for name in self._table("words"):
            table = f"words.{name}"
            if name not in mapped:
                self._fault(
                    f"[{table}]: {name} is not mapped{meant(name, mapped)}", table
                )
                continue
            words = self._table("words", name)
            for theirs, ours in words.items():
                self._check_word(table, theirs, ours, known.get(name))
            found[name] = {str(theirs): str(ours) for theirs, ours in words.items()}
        return found

    def _check_word(
        self, table: str, theirs: str, ours: Any, target: ColumnTarget | None
    ) -> None:
        words = words_of(target) if target else ()
        if not isinstance(ours, str):
            self._fault(f"the word for {theirs!r} is no text", table, theirs)
        elif words and ours not in words:
            can = meant(ours, words) or f"; known are {', '.join(words)}"
            self._fault(f"there is no word `{ours}`{can}", table, theirs)

    def _phases(self, kind: type[Batch], columns: Collection[str]) -> PhaseRows | None:
        """How rows of one phase are known; None if rows have all phases."""
        given = self._table("phases")
        if "phases" not in self._entries:
            return None
        self._check_words(given, ("column", *PHASE_LETTERS), "phases", "entry")
        column = given.get("column")
        if not isinstance(column, str):
            self._fault(
                "[phases] has no `column` that names the phase of a row", "phases"
            )
            return None
        if not set(phase_stems(kind)) & set(columns):
            stems = ", ".join(phase_stems(kind)) or "none"
            self._fault(
                f"[phases] needs a column of a phase in [columns]: {stems}", "phases"
            )

        places: dict[str, int] = {}
        for place, letter in enumerate(PHASE_LETTERS):
            words = given.get(letter, [letter])
            if not isinstance(words, list) or not all(
                isinstance(word, str) for word in words
            ):
                self._fault(
                    f'`{letter}` is no list of words, such as ["L1"]', "phases", letter
                )
                continue
            places |= dict.fromkeys(words, place)
        expression = self._expression("phases", "column", column)
        return PhaseRows(expression, places) if expression else None

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
            if name not in self._table("columns"):
                self._fault(f"`{name}` is not mapped{advice}", "columns")
        if columns and not any(column.expression for column in columns.values()):
            self._fault("no column of others is mapped", "columns")
        measured = {*layout.cell_columns(kind), *phase_stems(kind)}
        if kind is Readings and not measured & set(columns) and not self.faults:
            self._fault("no column with a value is mapped", "columns")


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

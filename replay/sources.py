"""Opens history of any layout: by its columns, not by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from replay import contents, curves, delimited, eventlog, layout, tables
from replay.formats import enedis, green_button, households, nem12, uci, wide, workbook
from replay.history import Source, SourceError, Tally, merge
from replay.inferred import with_steps
from replay.town import named_town
from schemas.master import Area

__all__ = ["Source", "SourceError", "open_source", "open_sources"]

FILE_ENDINGS = (
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".jsonl",
    ".xlsx",
    ".xml",
    ".nem12",
)  # of a folder's files
PACKED_ENDINGS = (".gz", ".zst", ".bz2")
LAYOUT_ADVICE = (
    "write its rows with the columns meter, area, at and kwh, see docs/data-layout.md"
)


class _Layout(NamedTuple):
    """A layout of history."""

    name: str
    recognises: Callable[[Collection[str]], bool]
    open_files: Callable[[Sequence[tables.File], Tally], Source]


class _Format(NamedTuple):
    """A format of text that is no table."""

    name: str
    recognises: Callable[[str], bool]  # how it begins
    open_files: Callable[[Sequence[tables.File], Tally], Source]


TABLE_LAYOUTS = (
    _Layout(
        "the project's own layout (meter, area, at, ...)",
        layout.recognises,
        layout.open_files,
    ),
    _Layout(
        "a utility's curve export (电表局编号, 日期, 相序, 00:00:00, ...)",
        curves.recognises,
        curves.open_files,
    ),
    _Layout(
        "household energy (customer_id, reading_datetime, general_supply_kwh; LCLid, DateTime, KWH/hh)",
        households.recognises,
        households.open_files,
    ),
    _Layout(
        "an event log (case_id, activity, timestamp, or the names of XES)",
        eventlog.recognises,
        eventlog.open_files,
    ),
    _Layout(
        "Green Button CSV (TYPE, DATE, START TIME, END TIME, USAGE)",
        green_button.recognises_csv,
        green_button.open_csv,
    ),
    _Layout(
        "an Enedis load curve (Horodate, Valeur)", enedis.recognises, enedis.open_files
    ),
    _Layout(
        "UCI household power (Date, Time, Global_active_power, Voltage)",
        uci.recognises_household,
        uci.open_household,
    ),
    _Layout(
        "UCI ElectricityLoadDiagrams (MT_001, ...)",
        uci.recognises_clients,
        uci.open_clients,
    ),
    _Layout(
        "a row per meter and day (meter, day, unit, 00:30, 01:00, ...)",
        wide.recognises_days,
        wide.open_days,
    ),
    _Layout(
        "a column per meter (time, M1 (kWh), M2 (kWh), ...)",
        wide.recognises_meters,
        wide.open_meters,
    ),
)
TEXT_FORMATS = (
    _Format("NEM12", nem12.recognises, nem12.open_files),
    _Format("Green Button XML", green_button.recognises_feed, green_button.open_feed),
)
UNREAD_FORMATS = (  # how a text begins that is known and not read
    (
        nem12.is_nem13,
        "NEM13, reads of registers: write each read with the columns meter, area, at and register",
    ),
    (re.compile(r"\s*UN[AB][:+]").match, f"EDIFACT (MSCONS): {LAYOUT_ADVICE}"),
    (
        re.compile(r"\s*[\[{]").match,
        f"JSON: {LAYOUT_ADVICE}; areas go into a file that ends in .jsonl",
    ),
    (re.compile(r"\s*<").match, f"XML of no known kind: {LAYOUT_ADVICE}"),
)


def open_source(path: str | Path) -> Source:
    """The history in a file, or in all files of a folder. Raises SourceError."""
    return open_sources([path])


def open_sources(paths: Iterable[str | Path]) -> Source:
    """One history of several files, folders and simulated towns, in order of arrival. Raises SourceError.

    Areas told in JSON lines replace those that a layout infers.
    """
    tally = Tally()
    towns = {
        path: None if Path(path).exists() else named_town(str(path)) for path in paths
    }
    files = list(
        dict.fromkeys(
            chain.from_iterable(
                _files(Path(path)) for path, town in towns.items() if not town
            )
        )
    )
    told: list[Area] = []
    found: dict[_Layout | _Format, list[tables.File]] = {}
    read_as: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == tables.JSON_LINES:
            told += layout.read_areas(path, tally)
            continue
        for kind, file in _recognised(path, tally):
            found.setdefault(kind, []).append(file)
            read_as[file.name] = kind.name
    parts = [town.source() for town in towns.values() if town]
    parts += [_opened(kind, group, tally) for kind, group in found.items()]
    if not parts:
        raise SourceError(f"{' '.join(map(str, towns)) or 'nothing'} holds no history")
    zones = {part.zone for part in parts} - {""}
    if len(zones) > 1:
        raise SourceError(
            f"histories of different zones ({', '.join(sorted(zones))}) must be opened apart"
        )
    areas = {area.area: area for area in chain(*(part.areas for part in parts), told)}
    steps = {key: step for part in parts for key, step in part.steps.items()}
    known, interval = with_steps(areas.values(), steps, tally.notes)
    return Source(
        name=" + ".join(part.name for part in parts),
        areas=known,
        batches=merge([part.batches for part in parts]),
        rows=sum(part.rows for part in parts),
        zone="".join(zones),
        interval=interval
        or min((part.interval for part in parts if part.interval), default=0),
        read_as=read_as,
        tally=tally,
    )


def _opened(
    kind: _Layout | _Format, files: Sequence[tables.File], tally: Tally
) -> Source:
    source = kind.open_files(files, tally)
    if kind.open_files not in (
        layout.open_files,
        curves.open_files,
    ):  # which know what each file names
        source.batches = tally.named.note(source.name, source.batches)
    return source


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(
            file for file in path.iterdir() if _is_named(file) and not file.is_dir()
        )
        if not files:
            raise SourceError(
                f"{path} holds no file that ends in {', '.join(FILE_ENDINGS)}"
            )
        return files
    if str(path) == "-":
        raise SourceError(
            "standard input is no source: a history is read from its beginning more than once, save it"
        )
    if not path.exists():
        raise SourceError(f"{path} does not exist")
    return [path]


def _is_named(file: Path) -> bool:
    """Whether a file of a folder ends as history does, packed or not."""
    ending = (
        file.with_suffix("").suffix
        if file.suffix.lower() in PACKED_ENDINGS
        else file.suffix
    )
    return ending.lower() in FILE_ENDINGS


def _recognised(
    path: Path, tally: Tally
) -> list[tuple[_Layout | _Format, tables.File]]:
    """The tables of a file with their layouts, known by what they hold. Raises SourceError where none is known."""
    if workbook.is_workbook(path):
        held = workbook.sheets(
            path, lambda columns: _layout(columns) is not None, tally
        )
        return [
            (kind, sheet) for sheet in held if (kind := _layout(tables.columns(sheet)))
        ]
    if contents.is_parquet(path):
        if kind := _layout(tables.columns(path)):
            return [(kind, path)]
        raise _unknown(path, tables.columns(path))
    begins = contents.beginning(path)
    text = begins.decode(delimited.encoding(begins), "replace").lstrip("\ufeff")
    for form in TEXT_FORMATS:
        if form.recognises(text):
            return [(form, path)]
    for is_unread, what in UNREAD_FORMATS:
        if is_unread(text):
            raise SourceError(f"{path} is {what}")
    return [_text_table(path, tally)]


def _text_table(path: Path, tally: Tally) -> tuple[_Layout, tables.File]:
    """The table of a text whose header stands in its first line, or below some others."""
    first = delimited.head(path)
    if kind := _layout(first.names):
        return kind, path
    for lines, head in delimited.heads(path):
        if kind := _layout(head.names):
            above = tuple(map(tuple, delimited.first_lines(path, lines)))
            return kind, tables.EmbeddedTable(
                path.name, delimited.read_below(path, lines, tally), above
            )
    raise _unknown(path, first.names if delimited.is_header(path) else ())


def _layout(columns: Collection[str]) -> _Layout | None:
    return next((known for known in TABLE_LAYOUTS if known.recognises(columns)), None)


def _unknown(path: Path, columns: Sequence[str]) -> SourceError:
    """What to say of a table of no known layout; of a first line that may be no header nothing is repeated."""
    names = "; ".join(known.name for known in (*TABLE_LAYOUTS, *TEXT_FORMATS))
    if not columns:
        return SourceError(
            f"{path} has no line that names the columns: {LAYOUT_ADVICE}; known are {names}"
        )
    told = ", ".join(name[:40] for name in columns[:8])
    more = ", ..." if len(columns) > 8 else ""
    return SourceError(
        f"{path} has the columns {told}{more}; known are {names}; of another: {LAYOUT_ADVICE}"
    )

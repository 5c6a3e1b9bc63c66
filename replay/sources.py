"""Opens history of any layout: by its columns, not by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from replay import contents, curves, delimited, eventlog, layout, tables
from replay.archive.reading import archive_at, open_archive
from replay.formats import (
    enedis,
    espi,
    green_button,
    nem12,
    state_grid,
    uci,
    wide,
    workbook,
)
from replay.history import Source, SourceError, Tally, merge
from replay.inferred import with_steps
from replay.mapping.files import MAPPING_ENDING, open_mapping
from replay.mapping.known_mappings import known_mappings
from replay.simulation.town import named_town
from schemas.master import Area

__all__ = ["Source", "SourceError", "open_source", "open_sources"]

FILE_ENDINGS = (  # of a folder's files
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".jsonl",
    ".xlsx",
    ".xml",
    ".nem12",
)
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


TABLE_LAYOUTS: tuple[_Layout, ...] = (
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
        "a customer file of a marketing system (台区编号, 户号, 电能表资产号, 用电类别, 合同容量, ...)",
        state_grid.recognises,
        state_grid.open_files,
    ),
    *(
        _Layout(known.title, known.recognises, known.open_files)
        for known in known_mappings()
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
        "UCI ElectricityLoadDiagrams (MT_001, ...)", uci.recognises, uci.open_files
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
    _Format("Green Button XML", espi.recognises, espi.open_files),
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
    """One history of several files, folders, mappings, archives and simulated towns, in order of arrival.

    Areas in JSON lines replace areas of a customer file, and these replace areas that a layout infers. Raises
    SourceError.
    """
    tally = Tally()
    whole = {path: _town_or_archive(path, tally) for path in paths}
    others = [Path(path) for path, source in whole.items() if not source]
    mappings = [path for path in others if path.suffix.lower() == MAPPING_ENDING]
    folders = [_files(path) for path in others if path not in mappings]
    listed: list[Area] = []
    found: dict[_Layout | _Format, list[tables.File]] = {}
    read_as: dict[str, str] = {}
    for path in dict.fromkeys(chain.from_iterable(folders)):
        if path.suffix.lower() == tables.JSON_LINES:
            listed += layout.read_areas(path, tally)
            continue
        for kind, file in _recognised(path, tally):
            found.setdefault(kind, []).append(file)
            read_as[file.name] = kind.name

    sources = [source for source in whole.values() if source]
    sources += [open_mapping(path, listed, tally) for path in mappings]
    for kind, files in found.items():
        source = _opened(kind, files, tally)
        sources.append(source)
        if kind.open_files is state_grid.open_files:
            listed = [*source.areas, *listed]
    if not sources:
        raise SourceError(f"{' '.join(map(str, whole)) or 'nothing'} holds no history")
    return _as_one(sources, listed, read_as, tally)


def _town_or_archive(path: str | Path, tally: Tally) -> Source | None:
    """The source of a simulated town or an archive; None if it is files."""
    if archive := archive_at(path):
        return open_archive(archive, tally)
    town = None if Path(path).exists() else named_town(str(path))
    return town.source() if town else None


def _as_one(
    sources: Sequence[Source],
    listed: Sequence[Area],
    read_as: dict[str, str],
    tally: Tally,
) -> Source:
    """The sources as one, with the areas that JSON lines list. Raises SourceError."""
    zones = {source.zone for source in sources} - {""}
    if len(zones) > 1:
        raise SourceError(
            f"histories of different zones ({', '.join(sorted(zones))}) must be opened apart"
        )

    inferred = chain.from_iterable(source.areas for source in sources)
    areas = {area.area: area for area in chain(inferred, listed)}
    steps: dict[tuple[str, str], int] = {}
    for source in sources:
        steps |= source.steps
    known, interval = with_steps(areas.values(), steps, tally.notes)
    intervals = [source.interval for source in sources if source.interval]
    return Source(
        name=" + ".join(source.name for source in sources),
        areas=known,
        batches=merge([source.batches for source in sources]),
        rows=sum(source.rows for source in sources),
        zone="".join(zones),
        interval=interval or min(intervals, default=0),
        read_as=read_as,
        tally=tally,
    )


def _opened(
    kind: _Layout | _Format, files: Sequence[tables.File], tally: Tally
) -> Source:
    """The files of a kind as one history, whose meters and customers are noted."""
    source = kind.open_files(files, tally)
    # layout and curves note themselves what each file names
    if kind.open_files not in (layout.open_files, curves.open_files):
        source.batches = tally.named.note(source.name, source.batches)
    return source


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder that may hold history. Raises SourceError."""
    if path.is_dir():
        entries = [file for file in path.iterdir() if _is_named(file)]
        files = sorted(file for file in entries if not file.is_dir())
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
    """True if a file of a folder ends as history does, packed or not."""
    ending = file.suffix
    if ending.lower() in PACKED_ENDINGS:
        ending = file.with_suffix("").suffix
    return ending.lower() in FILE_ENDINGS


def _recognised(
    path: Path, tally: Tally
) -> list[tuple[_Layout | _Format, tables.File]]:
    """The tables of a file with their layouts. Raises SourceError where none is known."""
    if workbook.is_workbook(path):
        sheets = workbook.sheets(
            path, lambda columns: _layout(columns) is not None, tally
        )
        kinds = [_layout(tables.columns(sheet)) for sheet in sheets]
        return [
            (kind, sheet) for kind, sheet in zip(kinds, sheets, strict=True) if kind
        ]
    if contents.is_parquet(path):
        columns = tables.columns(path)
        if kind := _layout(columns):
            return [(kind, path)]
        raise _unknown(path, columns)

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
    """The table of a text whose header stands in its first line, or below other lines."""
    first = delimited.head(path)
    if kind := _layout(first.names):
        return kind, path
    for lines, head in delimited.heads(path):
        if kind := _layout(head.names):
            above = tuple(map(tuple, delimited.first_lines(path, lines)))
            table = delimited.read_below(path, lines, tally)
            return kind, tables.EmbeddedTable(path.name, table, above)
    raise _unknown(path, first.names if delimited.is_header(path) else ())


def _layout(columns: Collection[str]) -> _Layout | None:
    return next((known for known in TABLE_LAYOUTS if known.recognises(columns)), None)


def _unknown(path: Path, columns: Sequence[str]) -> SourceError:
    """The error of a table of no known layout; it repeats no line that may be data."""
    layouts: Sequence[_Layout | _Format] = (*TABLE_LAYOUTS, *TEXT_FORMATS)
    names = "; ".join(known.name for known in layouts)
    if not columns:
        return SourceError(
            f"{path} has no line that names the columns: {LAYOUT_ADVICE}; known are {names}"
        )
    shown = ", ".join(name[:40] for name in columns[:8])
    more = ", ..." if len(columns) > 8 else ""
    return SourceError(
        f"{path} has the columns {shown}{more}; known are {names}; of another: {LAYOUT_ADVICE}"
    )

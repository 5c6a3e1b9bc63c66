"""Opens history of any layout: by its columns, not by its name."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from replay import curves, eventlog, households, layout, tables
from replay.history import Source, SourceError, Tally, merge
from replay.inferred import with_steps
from replay.town import named_town
from schemas.master import Area

__all__ = ["Source", "SourceError", "open_source", "open_sources"]


class Layout(NamedTuple):
    """A layout of history."""

    name: str
    recognises: Callable[[Collection[str]], bool]
    open_files: Callable[[Sequence[Path], Tally], Source]


LAYOUTS = tuple(
    Layout(name, module.recognises, module.open_files)
    for name, module in (
        ("the project's own layout (meter, area, at, ...)", layout),
        ("a utility's curve export (电表局编号, 日期, 相序, 00:00:00, ...)", curves),
        ("household energy (customer_id, reading_datetime, general_supply_kwh)", households),
        ("an event log (case_id, activity, timestamp, or the names of XES)", eventlog),
    )
)


def open_source(path: str | Path) -> Source:
    """The history in a file, or in all files of a folder. Raises SourceError."""
    return open_sources([path])


def open_sources(paths: Iterable[str | Path]) -> Source:
    """One history of several files, folders and simulated towns, in order of arrival. Raises SourceError.

    Areas told in JSON lines replace those that a layout infers.
    """
    tally = Tally()
    towns = {path: None if Path(path).exists() else named_town(str(path)) for path in paths}
    files = list(dict.fromkeys(chain.from_iterable(_files(Path(path)) for path, town in towns.items() if not town)))
    told: list[Area] = []
    found: dict[Layout, list[Path]] = {}
    for file in files:
        if tables.suffix(file) in tables.JSON_LINES:
            told += layout.read_areas(file, tally)
        else:
            found.setdefault(_layout(file), []).append(file)
    parts = [town.source() for town in towns.values() if town]
    parts += [kind.open_files(group, tally) for kind, group in found.items()]
    if not parts:
        raise SourceError(f"{' '.join(map(str, towns)) or 'nothing'} holds no history")
    zones = {part.zone for part in parts} - {""}
    if len(zones) > 1:
        raise SourceError(f"histories of different zones ({', '.join(sorted(zones))}) must be opened apart")
    areas = {area.area: area for area in chain(*(part.areas for part in parts), told)}
    steps = {key: step for part in parts for key, step in part.steps.items()}
    known, interval = with_steps(areas.values(), steps, tally.notes)
    return Source(
        name=" + ".join(part.name for part in parts),
        areas=known,
        batches=merge([part.batches for part in parts]),
        rows=sum(part.rows for part in parts),
        zone="".join(zones),
        interval=interval or min((part.interval for part in parts if part.interval), default=0),
        tally=tally,
    )


def _files(path: Path) -> list[Path]:
    known = (*tables.CSV, *tables.PARQUET, *tables.JSON_LINES)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if tables.suffix(file) in known)
        if not files:
            raise SourceError(f"{path} holds no file that ends in {', '.join(known)}")
        return files
    if not path.exists():
        raise SourceError(f"{path} does not exist")
    if tables.suffix(path) not in known:
        raise SourceError(f"{path} does not end in {', '.join(known)}")
    return [path]


def _layout(path: Path) -> Layout:
    columns = tables.columns(path)
    for known in LAYOUTS:
        if known.recognises(columns):
            return known
    raise SourceError(
        f"{path} has the columns {', '.join(columns[:8])}{', ...' if len(columns) > 8 else ''}; "
        f"known are {'; '.join(known.name for known in LAYOUTS)}"
    )

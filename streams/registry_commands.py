"""The commands for master data: load, sync, show, dump and check."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.console import Console

from replay.master_data.changes import Change, changes
from replay.master_data.merging import merged
from replay.master_data.queries import load as load_queries
from schemas.master import Area
from streams.command_options import Json, load_settings
from streams.json_output import show_json
from streams.kafka.registry_topic import held_areas
from streams.kafka.topics import ensure
from streams.registry_lines import area_lines, change_line, summary
from streams.settings import Settings
from streams.terminal import plain_output

app = typer.Typer(
    help="Master data: areas with their meters, customers and transformers.",
    no_args_is_help=True,
)
out = plain_output()
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@app.command()
def load(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines, an area each.")],
    json: Json = False,
) -> None:
    """Publishes areas to the registry; an area replaces its earlier record."""
    from replay.history import Source, Tally  # noqa: PLC0415 - as `send`
    from replay.layout import read_areas  # noqa: PLC0415 - as `send`
    from streams.sending import send_source  # noqa: PLC0415 - as `send`

    tally = Tally()
    areas = read_areas(file, tally)
    for reason, count in tally.rejected.items():
        raise ValueError(
            f"{file} has {count} lines that are no area ({reason}, first at {tally.first[reason]})"
        )

    send_source(
        load_settings(context),
        Source(str(file), areas, iter(()), 0),
        "single",
        None,
        json=json,
    )


@app.command()
def sync(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A database and its SELECTs, in TOML.")],
    send: Annotated[
        bool, typer.Option("--send", help="Publish what the diff shows.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Also if a SELECT gives no row.")
    ] = False,
    json: Json = False,
) -> None:
    """Shows how a database differs from the registry; with --send, publishes the areas that differ."""
    from replay.history import Source  # noqa: PLC0415 - as `send`
    from replay.send import send as publish  # noqa: PLC0415 - as `send`

    settings = load_settings(context)
    found = _registry_diff(settings, file, allow_empty=allow_empty)
    if send and found.areas:
        publish(
            Source(str(file), found.areas, iter(()), 0),
            settings.servers,
            security=settings.security(),
            prefix=settings.prefix,
        )

    if json:
        show_json({**found._asdict(), "areas": len(found.areas), "sent": send})
        return
    for change in found.changes:
        out.print(change_line(change, settings.zone))
    for reason in found.refused:
        err.print(f"refused: {reason}")
    if found.kept:
        err.print(found.kept)
    out.print(summary(found.changes, len(found.areas), sent=send))


class _RegistryDiff(NamedTuple):
    """How a database differs from the registry."""

    changes: list[Change]
    areas: list[Area]  # that differ, as they should be
    refused: list[str]  # why rows are refused
    kept: str  # which meters are not ended because of them


def _registry_diff(
    settings: Settings, file: Path, *, allow_empty: bool
) -> _RegistryDiff:
    """Compares a database with the registry. Raises QueriesError, UnansweredError."""
    from replay.history import Tally  # noqa: PLC0415 - as `send`
    from replay.master_data.database import read_tables  # noqa: PLC0415 - as `send`
    from replay.master_data.rows import selected  # noqa: PLC0415 - as `send`

    rows, columns = read_tables(load_queries(file), file)
    empty = [table for table, found in rows.items() if not found]
    if empty and not allow_empty:
        raise ValueError(
            f"{file}: no rows of {', '.join(empty)}, which would end them; --allow-empty if that is so"
        )
    tally = Tally()
    tables = selected(rows, columns, settings.zone, tally)

    asyncio.run(ensure(settings))
    held = _held(settings)
    after = merged(held, tables, _today(settings))
    found = changes(held, after)
    touched = dict.fromkeys(change.area for change in found)
    return _RegistryDiff(
        found,
        [after[name] for name in touched],
        tally.reasons(tally.rejected),
        _kept(tables.refused),
    )


def _kept(refused: Collection[tuple[str, str]]) -> str:
    """Which meters are not ended because of refused rows; "" if there are none."""
    if not refused:
        return ""
    if all(meter for _, meter in refused):
        return "a meter of a refused row stays as the registry has it"
    return "a refused row names no meter, so no meter of its area is ended"


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An area or a meter.")],
    json: Json = False,
) -> None:
    """Shows what the registry says of an area, or of a meter wherever it stands."""
    settings = load_settings(context)
    areas = _held(settings)
    meters = _with_meter(areas.values(), name)
    found = [areas[name]] if name in areas else list(meters)
    if not found:
        raise ValueError(
            f"none of the {len(areas):,} areas of the registry is or has {name}"
        )

    if json:
        show_json(found)
        return
    for area in found:
        for line in area_lines(area, settings.zone):
            out.print(line)


@app.command()
def dump(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Files or folders, whose areas are inferred or listed."),
    ] = None,
) -> None:
    """Writes areas as JSON lines: of the registry, or as the readers of files understand them."""
    from replay.sources import open_sources  # noqa: PLC0415 - as `send`

    if sources:
        source = open_sources(sources)
        areas = source.areas
        for reason in source.tally.reasons(source.rejected):
            err.print(f"left out: {reason}")
    else:
        areas = list(_held(load_settings(context)).values())
    for area in areas:
        sys.stdout.buffer.write(msgspec.json.encode(area) + b"\n")
    sys.stdout.buffer.flush()


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON lines, an area each.")],
    json: Json = False,
) -> None:
    """Shows what is wrong with a file of areas, with its lines. Ends with exit code 1 if anything is."""
    from replay.master_data.checking import problems  # noqa: PLC0415 - as `send`

    found = list(problems(file))
    if json:
        show_json(found)
    else:
        for problem in found:
            out.print(f"{file} line {problem.line}: {problem.text}")
        out.print(f"{file}: {len(found):,} problems")
    if found:
        raise typer.Exit(1)


def _with_meter(areas: Iterable[Area], name: str) -> Iterator[Area]:
    """The areas in which a meter stands or stood, with its records alone."""
    for area in areas:
        if meters := [meter for meter in area.meters if meter.meter == name]:
            yield msgspec.structs.replace(area, meters=meters)


def _held(settings: Settings) -> dict[str, Area]:
    """The areas of the registry; a line says how many records cannot be read."""
    areas, unreadable = asyncio.run(held_areas(settings))
    if unreadable:
        err.print(f"{unreadable:,} records of the registry cannot be read")
    return areas


def _today(settings: Settings) -> int:
    """The local midnight at which today began."""
    zone = ZoneInfo(settings.zone)
    today = datetime.now(zone).date()
    return int(datetime.combine(today, time(), zone).timestamp())

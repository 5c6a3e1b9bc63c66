"""What the commands for master data do: the registry beside a database, shown, and written as areas."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, time
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console

from replay.history import Source, Tally
from replay.master_data.changes import Change, changes
from replay.master_data.database import read_tables
from replay.master_data.merging import merged, standing_meters
from replay.master_data.queries import load as load_queries
from replay.master_data.rows import selected
from replay.sources import open_sources
from schemas.master import Area
from streams.json_output import show_json
from streams.registry_lines import area_lines, change_line, summary
from streams.settings import Settings
from streams.terminal import plain_output

# A sync ends at most so many meters, or so large a share of them, unless it is allowed: a SELECT may be wrong.
MOST_ENDS, MOST_ENDED_SHARE = 20, 0.1
ENDS_ADVICE = "--allow-ends if that is so"
out = plain_output()
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def sync_registry(
    settings: Settings, file: Path, *, send: bool, allow_ends: bool, as_json: bool
) -> None:
    """Shows how a database differs from the registry; publishes the areas that differ if asked."""
    found = _registry_diff(settings, file, allow_ends=allow_ends)
    if send and found.ends:
        raise ValueError(f"{file}: {found.ends}")
    if send and found.areas:
        from replay.send import send as publish  # noqa: PLC0415 - an extra

        publish(
            Source(str(file), found.areas, iter(()), 0),
            settings.servers,
            security=settings.security(),
            prefix=settings.prefix,
        )

    if as_json:
        show_json({**found._asdict(), "areas": len(found.areas), "sent": send})
        return
    for change in found.changes:
        out.print(change_line(change, settings.zone))
    for reason in found.refused:
        err.print(f"refused: {reason}")
    for sentence in filter(None, (found.kept, found.ends)):
        err.print(sentence)
    out.print(summary(found.changes, len(found.areas), sent=send))


def show_registry(settings: Settings, name: str, *, as_json: bool) -> None:
    """Shows what the registry says of an area, or of a meter wherever it stands."""
    areas = _held(settings)
    meters = _with_meter(areas.values(), name)
    found = [areas[name]] if name in areas else list(meters)
    if not found:
        raise ValueError(
            f"none of the {len(areas):,} areas of the registry is or has {name}"
        )

    if as_json:
        show_json(found)
        return
    for area in found:
        for line in area_lines(area, settings.zone):
            out.print(line)


def dump_areas(settings: Settings, sources: list[str]) -> None:
    """Writes areas as JSON lines: of the registry, or as the readers of files understand them."""
    if sources:
        source = open_sources(sources)
        areas = source.areas
        for reason in source.tally.reasons(source.rejected):
            err.print(f"left out: {reason}")
    else:
        areas = list(_held(settings).values())
    for area in areas:
        sys.stdout.buffer.write(msgspec.json.encode(area) + b"\n")
    sys.stdout.buffer.flush()


class _RegistryDiff(NamedTuple):
    """How a database differs from the registry."""

    changes: list[Change]
    areas: list[Area]  # that differ, as they should be
    refused: list[str]  # why rows are refused
    kept: str  # which meters are not ended because of them
    ends: str  # that so many meters would be ended that the SELECTs are doubtful


def _registry_diff(
    settings: Settings, file: Path, *, allow_ends: bool
) -> _RegistryDiff:
    """Compares a database with the registry. Raises QueriesError, UnansweredError."""
    rows, columns = read_tables(load_queries(file), file)
    empty = [table for table, found in rows.items() if not found]
    if empty and not allow_ends:
        raise ValueError(
            f"{file}: no rows of {', '.join(empty)}, which would end them; {ENDS_ADVICE}"
        )
    tally = Tally()
    tables = selected(rows, columns, settings.zone, tally)

    _check_registry(settings)
    held = _held(settings)
    after = merged(held, tables, _today(settings))
    found = changes(held, after)
    touched = dict.fromkeys(change.area for change in found)
    return _RegistryDiff(
        found,
        [after[name] for name in touched],
        tally.reasons(tally.rejected),
        _kept(tables.refused),
        "" if allow_ends else _too_many_ends(held, after, _today(settings)),
    )


def _kept(refused: Collection[tuple[str, str]]) -> str:
    """Which meters are not ended because of refused rows; "" if there are none."""
    if not refused:
        return ""
    if all(meter for _, meter in refused):
        return "a meter of a refused row stays as the registry has it"
    return "a refused row names no meter, so no meter of its area is ended"


def _too_many_ends(
    held: Mapping[str, Area], after: Mapping[str, Area], today: int
) -> str:
    """How many meters would be ended, if these are too many for one sync; else ""."""
    standing = standing_meters(held.values(), today)
    ended = len(standing - standing_meters(after.values(), today))
    if ended <= max(MOST_ENDS, MOST_ENDED_SHARE * len(standing)):
        return ""
    return f"{ended:,} of the {len(standing):,} meters would be ended; {ENDS_ADVICE}"


def _with_meter(areas: Iterable[Area], name: str) -> Iterator[Area]:
    """The areas in which a meter stands or stood, with its records alone."""
    for area in areas:
        if meters := [meter for meter in area.meters if meter.meter == name]:
            yield msgspec.structs.replace(area, meters=meters)


def _check_registry(settings: Settings) -> None:
    """Creates or checks the topic of the registry. Raises TopicError, UnansweredError."""
    from streams.kafka.rights import REGISTRY_RIGHTS  # noqa: PLC0415 - an extra
    from streams.kafka.topics import ensure  # noqa: PLC0415 - the same

    asyncio.run(ensure(settings, REGISTRY_RIGHTS))


def _held(settings: Settings) -> dict[str, Area]:
    """The areas of the registry; a line says how many records cannot be read."""
    from streams.kafka.registry_topic import held_areas  # noqa: PLC0415 - an extra

    areas, unreadable = asyncio.run(held_areas(settings))
    if unreadable:
        err.print(f"{unreadable:,} records of the registry cannot be read")
    return areas


def _today(settings: Settings) -> int:
    """The local midnight at which today began."""
    zone = ZoneInfo(settings.zone)
    today = datetime.now(zone).date()
    return int(datetime.combine(today, time(), zone).timestamp())

"""Histories as the commands open them, whole or in shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from replay.archive.reading import archive_at
from replay.archive.selection import ArchivedRows
from replay.history import Source
from replay.shards import Shard, WholeHistory, sharded
from replay.sources import open_sources
from schemas.columns import Batch
from schemas.master import Area
from streams.local.progress import Passed, Progress
from streams.settings import Settings
from streams.shards import Jobs, OnPassed

NO_PLACES: Mapping[str, int] = MappingProxyType({})


def section_of(areas: Iterable[Area]) -> Callable[[str], str]:
    """The section that looks after an area; the area itself if it is not known."""
    sections = {area.area: area.section for area in areas}
    return lambda area: sections.get(area, area)


def opened(paths: Sequence[str], settings: Settings) -> Source:
    """The source of the paths, with a zone and an interval."""
    return completed(open_sources(paths), settings)


def completed(source: Source, settings: Settings) -> Source:
    """A source with the zone and the interval of the settings where it names none."""
    return replace(
        source,
        zone=source.zone or settings.zone,
        interval=source.interval or settings.interval,
    )


def read_again(paths: Sequence[str]) -> Iterable[Batch] | ArchivedRows:
    """The rows of the paths for another reading; of an archive, only the rows that are asked for."""
    archive = archive_at(paths[0]) if len(paths) == 1 else None
    return ArchivedRows(archive) if archive else open_sources(paths).batches


def opened_for_jobs(
    paths: Sequence[str], settings: Settings, jobs: Jobs
) -> Source | None:
    """The source of the paths, opened once for all jobs of this machine, which share its memory.

    None if each shard opens it: for a single job, on a cluster, and of archives, whose stores no other process can use.
    """
    if jobs.count == 1 or jobs.scheduler or any(map(archive_at, paths)):
        return None
    return opened(paths, settings)


def opened_shard(
    paths: Sequence[str],
    settings: Settings,
    shard: Shard,
    known: Mapping[str, int] = NO_PLACES,
    source: Source | None = None,
) -> tuple[Source, WholeHistory | None]:
    """A shard of the source, else of that of the paths, and what it knows of the whole if it is not the whole."""
    source = source or opened(paths, settings)
    if shard.count == 1:
        return source, None
    return sharded(source, shard, known)


def passed_of(source: Source, on_passed: OnPassed) -> Callable[[Progress], None]:
    """Passes on how much of a source has been judged."""

    def note(progress: Progress) -> None:
        on_passed(
            Passed(
                progress.rows,
                source.rows,
                progress.last,
                progress.seconds,
                source.zone,
            )
        )

    return note

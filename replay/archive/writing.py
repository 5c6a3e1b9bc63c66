"""Writes an archive: a commit adds rows, master data, inspections and offsets, all or nothing.

New files are written beside the others and count once the manifest names them. If the process is killed at any moment,
the manifest names the files of the last whole commit, and its offsets say where to read on.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec

from replay.archive.compaction import Compaction
from replay.archive.day_files import (
    day_before,
    split_days,
    split_shards,
    today,
    write_rows,
)
from replay.archive.kept_records import read_archived_areas, read_inspections, written
from replay.archive.manifest import (
    ArchiveFile,
    ArchiveManifest,
    Counts,
    ReplacedFile,
    publish_manifest,
    read_manifest,
)
from replay.archive.storage import ArchiveError, Storage, storage_of
from replay.history import BATCH_KINDS, Tally
from schemas.columns import Batch
from schemas.inspection import Inspection
from schemas.master import Area
from schemas.units import DAY_SECONDS

KEPT_SECONDS = DAY_SECONDS  # that a replaced file stays for those who read it
SHARD_ROWS = 1_000_000  # of a shard, unless the settings say otherwise
OWN_FILE = re.compile(
    rf"((areas|inspections)-\d+\.jsonl|({'|'.join(kind.kind for kind in BATCH_KINDS)})/[^/]+/[^/]+\.parquet)"
)


@dataclass
class ArchiveCommit:
    """What a commit adds."""

    batches: Sequence[Batch] = ()
    areas: Sequence[Area] = ()
    # The newest record of each id, None if it was withdrawn.
    inspections: Mapping[str, Inspection | None] = field(default_factory=dict)
    # The offsets that follow, by topic and partition.
    offsets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)


class ArchiveWriter:
    """The one writer of an archive; made by `open_writer`."""

    def __init__(
        self, storage: Storage, keep_days: int, least_free: int, shard_rows: int
    ) -> None:
        self.storage = storage
        self.manifest = read_manifest(storage)
        if not storage.has_lock:
            self._claim()

        self._keep_days = keep_days  # 0: for ever
        self._least_free = least_free  # bytes
        self._shard_rows = shard_rows
        self._areas = {
            area.area: area
            for area in read_archived_areas(storage, self.manifest, Tally())
        }
        self._inspections = {
            found.inspection: found
            for found in read_inspections(storage, self.manifest)
        }
        self._serial = count()  # of a file in its commit
        self._remove_uncommitted()

    def commit(self, addition: ArchiveCommit, now: float) -> None:
        """Adds all of a commit. Raises ArchiveError if the disk is too full or another writer was faster.

        Then nothing is added.
        """
        self._check_space()
        before = self.manifest
        self._serial = count()
        files = [*before.files, *self._write(addition.batches)]
        newest = _newest(files, today(now))
        files, expired = self._retained(files, newest)
        compaction = Compaction(self.storage, self._shard_rows, newest, self._next_name)
        files, dropped = compaction.compacted(files)
        dropped += [file.name for file in expired]

        areas = self._areas | {area.area: area for area in addition.areas}
        inspections = _newer(self._inspections, addition.inspections)
        lines = (
            self._lines(before.areas, "areas", self._areas, areas),
            self._lines(
                before.inspections, "inspections", self._inspections, inspections
            ),
        )
        dropped += {before.areas, before.inspections} - {*lines, ""}
        replaced = [
            *before.replaced,
            *(ReplacedFile(name, int(now)) for name in dropped),
        ]
        after = ArchiveManifest(
            zone=before.zone,
            commits=before.commits + 1,
            offsets=_merged(before.offsets, addition.offsets),
            areas=lines[0],
            inspections=lines[1],
            files=tuple(files),
            replaced=tuple(file for file in replaced if file.at > now - KEPT_SECONDS),
            rejected=_added(before.rejected, addition.rejected),
            expired=before.expired + sum(file.rows for file in expired),
        )
        publish_manifest(self.storage, after)
        self.manifest = after
        self._areas = areas
        self._inspections = inspections
        for file in replaced:
            if file.at <= now - KEPT_SECONDS:
                self.storage.remove(file.name)

    def _claim(self) -> None:
        """Makes a commit without rows, so that no earlier writer can make it. Raises ArchiveError."""
        number = self.manifest.commits + 1
        claimed = msgspec.structs.replace(self.manifest, commits=number)
        publish_manifest(self.storage, claimed)
        self.manifest = claimed

    def _check_space(self) -> None:
        """Raises ArchiveError if less than the space that must stay free is left."""
        free = self.storage.free_bytes()
        if free < self._least_free:
            raise ArchiveError(
                f"{self.storage.name} has {int(free) >> 20:,} MiB free, less than `archive_free_gib`: make room or "
                "keep fewer days by `archive_days`, then start again; nothing is lost while the brokers keep the "
                "records"
            )

    def _next_name(self, kind: str, day: str) -> str:
        """The name of a further file of the next commit."""
        number = self.manifest.commits + 1
        serial = next(self._serial)
        return f"{kind}/{day}/{number:08}-{serial}.parquet"

    def _write(self, batches: Sequence[Batch]) -> Iterator[ArchiveFile]:
        """Writes a file for each kind and day, and for each shard of a day that has shards."""
        starts = self._shard_starts()
        for kind in BATCH_KINDS:
            rows = [batch for batch in batches if isinstance(batch, kind)]
            if not rows:
                continue
            for day, of_day in split_days(kind.join(rows), self.manifest.zone):
                known = sorted(starts[kind.kind, day])
                parts = split_shards(of_day, known) if known else [(None, of_day)]
                for shard, batch in parts:
                    name = self._next_name(kind.kind, day)
                    yield write_rows(self.storage, name, day, batch, shard)

    def _shard_starts(self) -> dict[tuple[str, str], set[str]]:
        """Where the shards of each kind and day begin."""
        starts: dict[tuple[str, str], set[str]] = defaultdict(set)
        for file in self.manifest.files:
            if file.shard is not None:
                starts[file.kind, file.day].add(file.shard)
        return starts

    def _retained(
        self, files: list[ArchiveFile], newest: str
    ) -> tuple[list[ArchiveFile], list[ArchiveFile]]:
        """The files of days that are kept, and the others."""
        if not self._keep_days:
            return files, []
        oldest = day_before(newest, self._keep_days - 1)
        kept = [file for file in files if file.day >= oldest]
        return kept, [file for file in files if file.day < oldest]

    def _lines(
        self,
        present: str,
        what: str,
        before: Mapping[str, Area | Inspection],
        after: Mapping[str, Area | Inspection],
    ) -> str:
        """The name of the file of records: the present one, unless they have changed and are written anew."""
        if after == before:
            return present
        name = f"{what}-{self.manifest.commits + 1:08}.jsonl"
        self.storage.write(name, written(after.values()))
        return name

    def _remove_uncommitted(self) -> None:
        """Removes files of a commit that a killed process did not finish, and replaced files that it left."""
        named = {file.name for file in self.manifest.files}
        named |= {file.name for file in self.manifest.replaced}
        named |= {self.manifest.areas, self.manifest.inspections}
        for name in self.storage.names() - named:
            if OWN_FILE.fullmatch(name):
                self.storage.remove(name)


@contextmanager
def open_writer(
    path: str | Path,
    zone: str,
    *,
    keep_days: int = 0,
    least_free: int = 0,
    shard_rows: int = SHARD_ROWS,
) -> Iterator[ArchiveWriter]:
    """The writer of a folder or URL: new, empty or an archive. Raises ArchiveError if it is not, or has a writer.

    An object store lets the last writer that opened the archive commit, and no earlier one.
    """
    storage = storage_of(path)

    with storage.claimed():
        if storage.manifest() is None:
            if storage.names():
                raise ArchiveError(
                    f"{storage.name} is neither empty nor an archive: name another folder"
                )
            publish_manifest(storage, ArchiveManifest(zone=zone))

        known = read_manifest(storage)
        if known.zone != zone:
            raise ArchiveError(
                f"the days of {storage.name} end in {known.zone}, not in {zone}: set `zone`, or name "
                "another folder"
            )
        yield ArchiveWriter(storage, keep_days, least_free, shard_rows)


def _newest(files: Sequence[ArchiveFile], present: str) -> str:
    """The newest day of files; a day in the future ages no other."""
    return min(max((file.day for file in files), default=present), present)


def _newer(
    before: Mapping[str, Inspection], after: Mapping[str, Inspection | None]
) -> dict[str, Inspection]:
    """The inspections that count: the newest of each id that was not withdrawn."""
    known: dict[str, Inspection | None] = {**before, **after}
    return {name: found for name, found in known.items() if found is not None}


def _merged(
    before: Mapping[str, Mapping[int, int]], after: Mapping[str, Mapping[int, int]]
) -> dict[str, dict[int, int]]:
    """The offsets before, each replaced where a later one is known."""
    topics = sorted({*before, *after})
    return {
        topic: {**before.get(topic, {}), **after.get(topic, {})} for topic in topics
    }


def _added(before: Counts, rejected: Counter[tuple[str, str]]) -> Counts:
    """The counts with further ones."""
    counts = {topic: dict(reasons) for topic, reasons in before.items()}
    for (topic, reason), rows in rejected.items():
        reasons = counts.setdefault(topic, {})
        reasons[reason] = reasons.get(reason, 0) + rows
    return counts

"""Writes an archive: a commit adds rows, master data and offsets, all or nothing.

New files are written beside the others and count once the manifest names them. If the process is killed at any moment,
the manifest names the files of the last whole commit, and its offsets say where to read on.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from replay.archive.day_files import (
    compact_files,
    day_before,
    split_days,
    today,
    write_rows,
)
from replay.archive.manifest import (
    MANIFEST_NAME,
    ArchiveError,
    ArchiveFile,
    ArchiveManifest,
    Counts,
    ReplacedFile,
    publish_manifest,
    read_manifest,
    sync,
)
from replay.history import BATCH_KINDS, Tally
from replay.layout import read_areas, write_areas
from schemas.columns import ALL_KINDS, Batch
from schemas.master import Area
from schemas.units import DAY_SECONDS

LOCK_NAME = "archive.lock"
MOST_FILES = 32  # of a kind and day, before they become one
LARGE_ROWS = 2_000_000  # rows of a file that is not written again
KEPT_SECONDS = DAY_SECONDS  # that a replaced file stays for those who read it


@dataclass
class ArchiveCommit:
    """What a commit adds."""

    batches: Sequence[Batch] = ()
    areas: Sequence[Area] = ()
    # The offsets that follow, by topic and partition.
    offsets: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)


class ArchiveWriter:
    """The one writer of an archive's folder; made by `open_writer`."""

    def __init__(self, folder: Path, keep_days: int, least_free: int) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._keep_days = keep_days  # 0: for ever
        self._least_free = least_free  # bytes
        self._areas: dict[str, Area] = {}
        if self.manifest.areas:
            listed = read_areas(folder / self.manifest.areas, Tally())
            self._areas = {area.area: area for area in listed}
        self._remove_uncommitted()

    def commit(self, addition: ArchiveCommit, now: float) -> None:
        """Adds rows, master data and offsets. Raises ArchiveError if the disk is too full; then nothing is added."""
        self._check_space()
        number = self.manifest.commits + 1
        before = self.manifest
        files = [*before.files, *self._write(addition.batches, number)]
        files, dropped = self._compacted(files, number)
        files, expired = self._retained(files, today(now))

        known = self._areas | {area.area: area for area in addition.areas}
        areas = self._write_areas(known, number)
        dropped += [file.name for file in expired]
        if before.areas not in {areas, ""}:
            dropped.append(before.areas)
        replaced = [
            *before.replaced,
            *(ReplacedFile(name, int(now)) for name in dropped),
        ]

        after = ArchiveManifest(
            zone=before.zone,
            commits=number,
            offsets=_merged(before.offsets, addition.offsets),
            areas=areas,
            files=tuple(files),
            replaced=tuple(file for file in replaced if file.at > now - KEPT_SECONDS),
            rejected=_added(before.rejected, addition.rejected),
            expired=before.expired + sum(file.rows for file in expired),
        )
        publish_manifest(self.folder, after)
        self.manifest, self._areas = after, known
        for file in replaced:
            if file.at <= now - KEPT_SECONDS:
                (self.folder / file.name).unlink(missing_ok=True)

    def _check_space(self) -> None:
        """Raises ArchiveError if less than the space that must stay free is left."""
        free = shutil.disk_usage(self.folder).free
        if free < self._least_free:
            raise ArchiveError(
                f"{self.folder} has {free >> 20:,} MiB free, less than `archive_free_gib`: make room or keep "
                "fewer days by `archive_days`, then start again; nothing is lost while the brokers keep the records"
            )

    def _write(self, batches: Sequence[Batch], number: int) -> Iterator[ArchiveFile]:
        """Writes a file for each kind and day."""
        for kind in BATCH_KINDS:
            rows = [batch for batch in batches if isinstance(batch, kind)]
            if not rows:
                continue
            for day, batch in split_days(kind.join(rows), self.manifest.zone):
                name = f"{kind.kind}/{day}/{number:08}.parquet"
                yield write_rows(self.folder, name, day, batch)

    def _compacted(
        self, files: Sequence[ArchiveFile], number: int
    ) -> tuple[list[ArchiveFile], list[str]]:
        """The files, small ones of a kind and day as one where they are many; and the names of the files replaced."""
        groups: dict[tuple[str, str], list[ArchiveFile]] = defaultdict(list)
        for file in files:
            groups[file.kind, file.day].append(file)

        kept: list[ArchiveFile] = []
        dropped: list[str] = []
        for (kind, day), group in groups.items():
            # Only files behind the last large one, so that rows keep the order in which they came.
            large = [k for k, file in enumerate(group) if file.rows >= LARGE_ROWS]
            begins = large[-1] + 1 if large else 0
            small = group[begins:]
            if len(small) <= MOST_FILES:
                kept += group
                continue

            name = f"{kind}/{day}/{number:08}-compact.parquet"
            compact = compact_files(self.folder, name, small, ALL_KINDS[kind])
            kept += [*group[:begins], compact]
            dropped += [file.name for file in small]
        return kept, dropped

    def _retained(
        self, files: list[ArchiveFile], present: str
    ) -> tuple[list[ArchiveFile], list[ArchiveFile]]:
        """The files of days that are kept, and the others. A day in the future ages no other."""
        if not self._keep_days or not files:
            return files, []
        newest = min(max(file.day for file in files), present)
        oldest = day_before(newest, self._keep_days - 1)
        kept = [file for file in files if file.day >= oldest]
        return kept, [file for file in files if file.day < oldest]

    def _write_areas(self, known: Mapping[str, Area], number: int) -> str:
        """Writes the master data if it has changed; returns the name of its file."""
        if known == self._areas:
            return self.manifest.areas
        name = f"areas-{number:08}.jsonl"
        write_areas(self.folder / name, known.values())
        sync(self.folder / name)
        return name

    def _remove_uncommitted(self) -> None:
        """Removes files of a commit that a killed process did not finish, and replaced files that it left."""
        named = {file.name for file in self.manifest.files}
        named |= {file.name for file in self.manifest.replaced}
        named.add(self.manifest.areas)
        found = [*self.folder.glob("areas-*.jsonl")]
        for kind in BATCH_KINDS:
            found += self.folder.glob(f"{kind.kind}/*/*.parquet")
        for path in found:
            if path.relative_to(self.folder).as_posix() not in named:
                path.unlink()


@contextmanager
def open_writer(
    folder: Path, zone: str, *, keep_days: int = 0, least_free: int = 0
) -> Iterator[ArchiveWriter]:
    """The writer of a folder, which is new, empty or an archive. Raises ArchiveError if it is not, or has a writer."""
    folder.mkdir(parents=True, exist_ok=True)
    others = {entry.name for entry in folder.iterdir()} - {
        LOCK_NAME,
        f"{MANIFEST_NAME}.new",
    }
    if others and MANIFEST_NAME not in others:
        raise ArchiveError(
            f"{folder} is neither empty nor an archive: name another folder"
        )

    with (folder / LOCK_NAME).open("wb") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(
                f"another process writes to {folder}: wait for its end"
            ) from None
        if MANIFEST_NAME not in others:
            publish_manifest(folder, ArchiveManifest(zone=zone))
        writer = ArchiveWriter(folder, keep_days, least_free)
        if writer.manifest.zone != zone:
            raise ArchiveError(
                f"the days of {folder} end in {writer.manifest.zone}, not in {zone}: set `zone`, or name another folder"
            )
        yield writer


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

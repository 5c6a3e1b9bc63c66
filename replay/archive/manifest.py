"""The manifest of an archive: the files that count, and the offsets of the records that they contain."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

MANIFEST_NAME = "meterwatch-archive.json"
MANIFEST_VERSION = 1
Counts = dict[str, dict[str, int]]


class ArchiveError(ValueError):
    """An archive cannot be written or read; says why and what to do."""


class ArchiveFile(msgspec.Struct, frozen=True):
    """A file with rows of one kind and one day."""

    name: str  # within the folder
    kind: str
    day: str  # in which the rows' intervals end, as 2026-03-02
    rows: int
    first: int  # arrival of the earliest row, Unix seconds


class ReplacedFile(msgspec.Struct, frozen=True):
    """A file that no longer counts; it stays for a while, for those who read it."""

    name: str
    at: int  # when it was replaced, Unix seconds


class ArchiveManifest(msgspec.Struct, frozen=True, kw_only=True):
    """An archive after a commit."""

    version: int = MANIFEST_VERSION
    zone: str  # in which days end
    commits: int = 0
    offsets: dict[str, dict[int, int]] = {}  # that follow, by topic and partition
    areas: str = ""  # the file of master data
    files: tuple[ArchiveFile, ...] = ()
    replaced: tuple[ReplacedFile, ...] = ()
    rejected: Counts = {}  # rows, by topic and reason
    expired: int = 0  # rows whose day has passed the retention


def read_manifest(folder: Path) -> ArchiveManifest:
    """The manifest of a folder. Raises ArchiveError."""
    path = folder / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=ArchiveManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from None
    if manifest.version != MANIFEST_VERSION:
        raise ArchiveError(
            f"{path} is of version {manifest.version}, this program reads version {MANIFEST_VERSION}: use a newer one"
        )
    return manifest


def publish_manifest(folder: Path, manifest: ArchiveManifest) -> None:
    """Puts a manifest in the place of the last one by a rename, so a reader sees one or the other."""
    fresh = folder / f"{MANIFEST_NAME}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    sync(fresh)
    fresh.replace(folder / MANIFEST_NAME)
    sync(folder)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

"""The manifest of an archive: the files that count, and the offsets of the records that they contain."""

from __future__ import annotations

import msgspec

from replay.archive.storage import ArchiveError, Storage

MANIFEST_VERSION = 1
Counts = dict[str, dict[str, int]]


class ArchiveFile(msgspec.Struct, frozen=True):
    """A file with rows of one kind and one day."""

    name: str  # within the archive
    kind: str
    day: str  # in which the rows' intervals end, as 2026-03-02
    rows: int
    first: int  # arrival of the earliest row, Unix seconds
    # The area where the file's shard of the day begins; None while the day has no shards.
    shard: str | None = None
    areas: tuple[str, str] = ("", "")  # the first and the last; "" if not known

    def meets(self, start: str, end: str | None) -> bool:
        """True unless all its areas are before `start`, or at `end` or behind it."""
        first, last = self.areas
        if not last:
            return True
        reaches = end is None or first < end
        return start <= last and reaches


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
    inspections: str = ""  # the file of what was found on site
    files: tuple[ArchiveFile, ...] = ()
    replaced: tuple[ReplacedFile, ...] = ()
    rejected: Counts = {}  # rows, by topic and reason
    expired: int = 0  # rows whose day has passed the retention


def read_manifest(storage: Storage) -> ArchiveManifest:
    """The manifest of an archive. Raises ArchiveError."""
    content = storage.manifest()
    if content is None:
        raise ArchiveError(f"{storage.name} is no archive: it has no manifest")
    try:
        manifest = msgspec.json.decode(content, type=ArchiveManifest)
    except msgspec.DecodeError as error:
        raise ArchiveError(
            f"the manifest of {storage.name} cannot be read: {error}"
        ) from None

    if manifest.version != MANIFEST_VERSION:
        raise ArchiveError(
            f"{storage.name} is of version {manifest.version}, this program reads version {MANIFEST_VERSION}: "
            "use a newer one"
        )
    return manifest


def publish_manifest(storage: Storage, manifest: ArchiveManifest) -> None:
    """Makes a manifest the last one of an archive. Raises ArchiveError if another writer was faster."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    storage.publish(manifest.commits, content)

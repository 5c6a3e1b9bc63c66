"""Records of which the newest counts: the master data of an archive, and what was found on site, as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replay import layout
from replay.archive.manifest import ArchiveManifest
from replay.archive.storage import ArchiveError, Storage
from replay.history import Tally
from schemas.inspection import Inspection
from schemas.master import Area


def written(records: Iterable[Area | Inspection]) -> bytes:
    """Records as JSON lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def read_archived_areas(
    storage: Storage, manifest: ArchiveManifest, tally: Tally
) -> list[Area]:
    """The master data of an archive; a line that is no area is refused. Raises ArchiveError."""
    lines = _lines(storage, manifest.areas)
    return layout.areas_of(lines, f"{storage.name}/{manifest.areas}", tally)


def read_inspections(storage: Storage, manifest: ArchiveManifest) -> list[Inspection]:
    """What was found on site, by an archive. Raises ArchiveError."""
    try:
        return [
            msgspec.json.decode(line, type=Inspection)
            for line in _lines(storage, manifest.inspections)
        ]
    except msgspec.DecodeError as error:
        raise ArchiveError(
            f"{storage.name}/{manifest.inspections} cannot be read: {error}"
        ) from None


def _lines(storage: Storage, name: str) -> list[bytes]:
    """The lines of a file; none without a name. Raises ArchiveError."""
    if not name:
        return []
    try:
        return storage.read(name).splitlines()
    except OSError as error:
        raise ArchiveError(f"{storage.name}/{name} cannot be read: {error}") from None

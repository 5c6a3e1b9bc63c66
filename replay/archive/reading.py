"""An archive as a history. Files that the manifest does not name are not read, so it may be written meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from replay import layout, tables
from replay.archive.day_files import read_files
from replay.archive.kept_records import read_archived_areas
from replay.archive.manifest import ArchiveFile, read_manifest
from replay.archive.storage import Storage, is_url, storage_of
from replay.history import (
    BATCH_KINDS,
    SharedNumbering,
    Source,
    SourceError,
    Tally,
    arranged,
    arrivals,
    split_batch,
)
from schemas.columns import Batch


def archive_at(path: str | Path) -> Storage | None:
    """The archive of a folder or URL; None if a folder or file is none. Raises ArchiveError for a URL that is none."""
    if not is_url(path) and not Path(path).is_dir():
        return None
    storage = storage_of(path)
    if storage.manifest() is not None:
        return storage
    if is_url(path):
        read_manifest(storage)  # says what is wrong
    return None


def open_archive(storage: Storage, tally: Tally) -> Source:
    """The rows of an archive as of now, in order of arrival, with its master data. Raises ArchiveError."""
    manifest = read_manifest(storage)
    histories: list[tuple[str, Iterator[Batch]]] = []
    for kind in BATCH_KINDS:
        files = [file for file in manifest.files if file.kind == kind.kind]
        if files:
            name = f"{storage.name}/{kind.kind}"
            rows_of_kind = _in_order_of_arrival(storage, kind, files, tally)
            histories.append((name, rows_of_kind))

    rows = sum(file.rows for file in manifest.files)
    source = layout.one_history(histories, rows, tally)
    source.name = storage.name
    source.zone = manifest.zone
    source.areas = read_archived_areas(storage, manifest, tally)
    return source


def _in_order_of_arrival(
    storage: Storage, kind: type[Batch], files: Sequence[ArchiveFile], tally: Tally
) -> Iterator[Batch]:
    """The rows of a kind, a day in memory at a time; a row waits until no row of another day came before."""
    decoder = layout.Decoder(kind)
    common = SharedNumbering()
    days: dict[str, list[ArchiveFile]] = defaultdict(list)
    starts: dict[str, int] = {}
    for file in files:
        days[file.day].append(file)
        starts[file.day] = min(file.first, starts.get(file.day, file.first))
    ordered = sorted(days, key=lambda day: (starts[day], day))

    waiting: list[Batch] = []
    for k, day in enumerate(ordered):
        sheet = _sheet(storage, days[day], kind, tally)
        rows = [*waiting, decoder.batch(sheet)]
        batch = arranged(common.join(kind, list(enumerate(rows))))
        ready = len(batch)
        if k + 1 < len(ordered):
            horizon = starts[ordered[k + 1]]
            ready = int(np.searchsorted(arrivals(batch), horizon, "left"))

        if ready:
            yield from split_batch(batch.select(slice(0, ready)))
        waiting = [batch.select(slice(ready, None))] if ready < len(batch) else []


def _sheet(
    storage: Storage, files: Sequence[ArchiveFile], kind: type[Batch], tally: Tally
) -> tables.Sheet:
    """The rows of files of one day. Raises SourceError."""
    name = f"{storage.name}/{kind.kind}/{files[0].day}"
    try:
        table = read_files(storage, files, layout.word_columns(kind))
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(
            f"{name} cannot be read, or was removed since the archive was opened: {error}"
        ) from error
    return tables.Sheet(table, name, tally)

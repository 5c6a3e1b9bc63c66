"""Few files of many: small files of a day become one, and a day that is over becomes shards by area.

Areas are read range by range, so that as many rows as a shard has are in memory, and not a whole day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from replay.archive.day_files import (
    day_before,
    read_areas_between,
    rows_by_area,
    write_table,
)
from replay.archive.manifest import ArchiveFile
from replay.archive.storage import Storage
from schemas.columns import ALL_KINDS

MOST_FILES = 32  # of a kind and day, before small ones become one
MOST_SHARD_FILES = 4  # of a shard, before small ones become one
SETTLED_DAYS = 2  # behind the newest day, a day is cut into shards
MOST_REWRITTEN_ROWS = 4_000_000  # of settled days in a commit, or one day


class Compacted(NamedTuple):
    """The files that count after a compaction, and the names of the files that they replace."""

    files: list[ArchiveFile]
    replaced: list[str]


class Compaction:
    """Compacts the files of an archive in a commit."""

    def __init__(
        self,
        storage: Storage,
        shard_rows: int,
        newest_day: str,
        next_name: Callable[[str, str], str],
    ) -> None:
        self._storage = storage
        self._shard_rows = shard_rows
        self._settled = day_before(newest_day, SETTLED_DAYS)
        self._next_name = next_name  # of a file, by its kind and day

    def compacted(self, files: Sequence[ArchiveFile]) -> Compacted:
        """The files of each kind and day, fewer where they were many or where a day is over."""
        days: dict[tuple[str, str], list[ArchiveFile]] = defaultdict(list)
        for file in files:
            days[file.kind, file.day].append(file)

        kept: list[ArchiveFile] = []
        replaced: list[str] = []
        rewritten = 0
        for (_, day), group in days.items():
            rows = sum(file.rows for file in group)
            is_cut = any(file.shard is not None for file in group)
            fits = not rewritten or rewritten + rows <= MOST_REWRITTEN_ROWS
            if not is_cut and day <= self._settled and fits:
                rewritten += rows
                after = self._settle(group)
            else:
                after = list(self._fewer(group))
            names = {file.name for file in after}
            replaced += [file.name for file in group if file.name not in names]
            kept += after
        return Compacted(kept, replaced)

    def _settle(self, group: Sequence[ArchiveFile]) -> list[ArchiveFile]:
        """The files of a day, cut into shards by area."""
        if len(group) == 1 and group[0].rows <= self._shard_rows:
            return [msgspec.structs.replace(group[0], shard="")]
        return list(self._cut(group, ""))

    def _fewer(self, group: Sequence[ArchiveFile]) -> Iterator[ArchiveFile]:
        """The files of a day; in each shard small ones as one where they are many."""
        shards: dict[str | None, list[ArchiveFile]] = defaultdict(list)
        for file in group:
            shards[file.shard].append(file)

        for shard, files in shards.items():
            most = MOST_FILES if shard is None else MOST_SHARD_FILES
            begins = _leading(files, self._shard_rows) if len(files) > most else 0
            if len(files) <= most or len(files) - begins < 2:
                yield from files
                continue
            yield from files[:begins]
            yield from self._cut(files[begins:], shard)

    def _cut(
        self, files: Sequence[ArchiveFile], shard: str | None
    ) -> Iterator[ArchiveFile]:
        """Writes the rows of files of one kind and day as one file, or as several with an area range each.

        They belong to the given shard; if it is one, each further file begins a shard of its own.
        """
        kind = ALL_KINDS[files[0].kind]
        day = files[0].day
        counts = rows_by_area(self._storage, files, kind)
        first = min(file.first for file in files)
        for start, end in pairwise([*shard_starts(counts, self._shard_rows), None]):
            table = read_areas_between(self._storage, files, kind, start or "", end)
            own = start or shard if shard is not None else None
            name = self._next_name(kind.kind, day)
            yield write_table(self._storage, name, day, kind, table, first, own)


def shard_starts(rows_by_area: Mapping[str, int], most_rows: int) -> list[str]:
    """The areas where shards begin, of which the first is "": an area stays whole, whatever rows it has.

    >>> shard_starts({"A1": 5, "A2": 4, "A3": 4, "A4": 9}, 8)
    ['', 'A2', 'A4']
    """
    starts = [""]
    rows = 0
    for area in sorted(rows_by_area):
        if rows and rows + rows_by_area[area] > most_rows:
            starts.append(area)
            rows = 0
        rows += rows_by_area[area]
    return starts


def _leading(files: Sequence[ArchiveFile], large_rows: int) -> int:
    """How many files stay as they are: up to the last large one, and then as long as one outweighs all behind it.

    The others are behind them, so that rows keep the order in which they came.
    """
    large = [k for k, file in enumerate(files) if file.rows >= large_rows]
    begins = large[-1] + 1 if large else 0
    behind = sum(file.rows for file in files[begins:])
    for file in files[begins:]:
        behind -= file.rows
        if file.rows <= behind:
            break
        begins += 1
    return begins

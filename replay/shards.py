"""A history in shards. Each has some of the areas, whole, for no area influences another's alerts.

A shard reads the whole history, so every shard knows the same of it: meters' intervals, refused rows, ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from replay.history import BATCH_ROWS, Source, arrivals
from schemas.columns import Batch

LOOKED_AT = 100_000  # rows of a history that show how many rows each area has


@dataclass(frozen=True)
class Shard:
    """One of so many shards."""

    number: int  # from 0
    count: int

    def __str__(self) -> str:
        return f"{self.number + 1} of {self.count}"


WHOLE_HISTORY = Shard(0, 1)


class Division:
    """The areas of each shard, the same for the same beginning of a history."""

    def __init__(
        self, count: int, rows: Mapping[str, int], known: Mapping[str, int]
    ) -> None:
        """Shares out areas by their rows, the largest first; `known` ones stay in the shard they are in."""
        self.count = count
        self.places = dict(known)
        loads = Counter(dict.fromkeys(range(count), 0))
        for area, number in known.items():
            loads[number] += rows.get(area, 0)
        for area in sorted(
            rows.keys() - known.keys(), key=lambda name: (-rows[name], name)
        ):
            number = min(range(count), key=lambda k: (loads[k], k))
            self.places[area] = number
            loads[number] += rows[area]

    def shard_of(self, area: str) -> int:
        """The number of the shard that has an area; by a hash of its name if it was not shared out.

        >>> division = Division(2, {"A1": 5, "A2": 9, "A3": 3}, {})
        >>> [division.shard_of(area) for area in ("A1", "A2", "A3")]
        [1, 0, 1]
        """
        if area not in self.places:
            self.places[area] = crc32(area.encode()) % self.count
        return self.places[area]


@dataclass
class WholeHistory:
    """What a shard knows of the history that it is of."""

    places: Mapping[str, int]  # the shard of each area; more as they come
    first: int  # when its first row arrived; 0 if it has none
    began: int  # time of its first row
    last: int = 0  # when the last of the rows arrived that have been read

    def note(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, with their arrival noted."""
        for batch in batches:
            if len(batch):
                self.last = max(self.last, int(arrivals(batch).max()))
            yield batch


def sharded(
    source: Source, shard: Shard, known: Mapping[str, int]
) -> tuple[Source, WholeHistory]:
    """The areas and rows of a shard. Areas that are `known` to be in a shard stay there."""
    head = list(_head(source.batches))
    rows: Counter[str] = Counter()
    for batch in head:
        counts = np.bincount(batch.area, minlength=len(batch.areas)).tolist()
        for area, count in zip(batch.areas, counts, strict=True):
            rows[area] += count

    division = Division(shard.count, +rows, known)
    areas = [
        area for area in source.areas if division.shard_of(area.area) == shard.number
    ]
    first, began = 0, 0
    if head:
        first, began = int(arrivals(head[0])[0]), int(head[0].at[0])
    whole = WholeHistory(division.places, first, began)
    rows_of_all = whole.note(chain(head, source.batches))
    batches = _filled(_selected(rows_of_all, shard, division))
    return replace(source, areas=areas, batches=batches), whole


def joined_source(parts: Sequence[Source]) -> Source:
    """The history of its shards, with all areas, and with what the shard that read most left out."""

    def left_out(part: Source) -> int:
        return part.tally.rejected.total() + part.tally.mended.total()

    areas = chain.from_iterable(part.areas for part in parts)
    fullest = max(parts, key=left_out)
    return replace(fullest, areas=sorted(areas, key=lambda area: area.area))


def _head(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The first batches that have rows, until they have LOOKED_AT."""
    rows = 0
    for batch in batches:
        if len(batch):
            yield batch
        rows += len(batch)
        if rows >= LOOKED_AT:
            return


def _selected(
    batches: Iterable[Batch], shard: Shard, division: Division
) -> Iterator[Batch]:
    """The rows of a shard."""
    names: tuple[str, ...] = ()
    is_own: NDArray[np.bool_] = np.zeros(0, np.bool_)
    for batch in batches:
        if batch.areas is not names:
            names = batch.areas
            own = (division.shard_of(area) == shard.number for area in names)
            is_own = np.fromiter(own, np.bool_, len(names))
        rows = is_own[batch.area]
        if rows.all():
            yield batch
        elif rows.any():
            yield batch.select(np.flatnonzero(rows))


def _filled(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same rows in the same order, in batches of about BATCH_ROWS where kind and names stay."""
    waiting: list[Batch] = []
    rows = 0
    for batch in batches:
        if waiting and (rows + len(batch) > BATCH_ROWS or not _fits(waiting[0], batch)):
            yield type(waiting[0]).join(waiting)
            waiting, rows = [], 0
        waiting.append(batch)
        rows += len(batch)
    if waiting:
        yield type(waiting[0]).join(waiting)


def _fits(first: Batch, batch: Batch) -> bool:
    """Whether a batch has the kind and the very names of another."""
    return type(first) is type(batch) and all(
        getattr(first, names) is getattr(batch, names) for names in first.encodings()
    )

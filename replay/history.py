"""A history: its areas, and its batches in the order in which they arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.columns import (
    Batch,
    Codes,
    DeviceEvents,
    Payments,
    Readings,
    Stages,
    Times,
)
from schemas.master import Area

BATCH_ROWS = 20_000  # that a batch has, about: rows of one time stay together
MIXED_SPAN = 3600  # seconds that a batch covers at most where kinds are mixed
BATCH_KINDS: tuple[type[Batch], ...] = (DeviceEvents, Payments, Stages, Readings)
SUBJECT_WORDS: dict[type[Batch], str] = {
    DeviceEvents: "meters",
    Readings: "meters",
    Payments: "customers",
}
EXAMPLE_IDS, MOST_LINES = 3, 10  # ids that a line names, and lines


class SourceError(ValueError):
    """A file or folder that cannot be read as a history."""


@dataclass
class Named:
    """The meters and customers that each file names, to tell which of them no other file does."""

    ids: dict[tuple[str, str, str], set[str]] = field(
        default_factory=dict
    )  # by what they are, file, and its content

    def add(self, what: str, file: str, content: str, ids: Iterable[str]) -> None:
        """Take in ids that a file of some content names."""
        self.ids.setdefault((what, file, content), set()).update(ids)

    def note(self, file: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, whose meters and customers are noted as the file's; names keep their numbers."""
        noted: dict[str, NDArray[np.bool_]] = {}
        for batch in batches:
            if what := SUBJECT_WORDS.get(type(batch)):
                fresh = np.zeros(len(batch.names), np.bool_)
                fresh[batch.subject] = True
                before = noted.get(batch.kind, fresh[:0])
                noted[batch.kind] = fresh.copy()
                noted[batch.kind][: len(before)] |= before
                fresh[: len(before)] &= ~before
                ids = (batch.names[number] for number in np.flatnonzero(fresh).tolist())
                self.add(what, file, batch.kind, filter(None, ids))
            yield batch

    def strangers(self) -> list[str]:
        """For each file, how many of its ids are in no other one; nothing of files that only share out the ids."""
        lines = []
        for what in sorted({what for what, *_ in self.ids}):
            files = {
                (file, content): ids
                for (of, file, content), ids in self.ids.items()
                if of == what and ids
            }
            times = Counter(one for ids in files.values() for one in ids)
            if len({content for _, content in files}) == 1 and times.total() == len(
                times
            ):
                continue
            for (file, _), ids in files.items():
                alone = sorted(one for one in ids if times[one] == 1)
                if alone and len(files) > 1:
                    told = f"{len(alone):,} of {len(ids):,} {what} are in none of the other files"
                    lines.append(
                        f"{file}: {told}, such as {', '.join(alone[:EXAMPLE_IDS])}"
                    )
        more = (
            [f"as in {len(lines) - MOST_LINES:,} more files"]
            if len(lines) > MOST_LINES
            else []
        )
        return [*lines[:MOST_LINES], *more]


@dataclass
class Tally:
    """What could not be taken as it stood, by reason, with the place where each reason was first met."""

    rejected: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(
        default_factory=list
    )  # what else a reader of the result should know, a sentence each
    named: Named = field(default_factory=Named)

    def reject(self, reason: str, where: str, count: int = 1) -> None:
        """Count cells or rows that are left out."""
        self._add(self.rejected, reason, where, count)

    def mend(self, reason: str, where: str, count: int = 1) -> None:
        """Count cells that are taken after a repair."""
        self._add(self.mended, reason, where, count)

    def reasons(self, counts: Mapping[str, int]) -> list[str]:
        """Reasons with how often and where each was first met, the most frequent first."""
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [
            f"{reason} {count:,}, first at {self.first[reason]}"
            for reason, count in ordered
        ]

    def _add(self, counter: Counter[str], reason: str, where: str, count: int) -> None:
        if count:
            counter[reason] += count
            self.first.setdefault(reason, where)


def nothing_read(name: str, tally: Tally) -> SourceError:
    """What to say of a history of which no row could be taken."""
    why = "; ".join(tally.reasons(tally.rejected)) or "it has no rows"
    return SourceError(f"nothing could be read of {name}: {why}")


@dataclass
class Source:
    """A history that can be read once."""

    name: str
    areas: list[Area]
    batches: Iterator[Batch]
    rows: int  # about, for a progress bar; 0 when unknown
    zone: str = ""  # in which its days end, "" when it does not say
    interval: int = (
        0  # seconds between a meter's readings, usually; 0 when it does not say
    )
    steps: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # by area and meter, as the readings show them
    read_as: dict[str, str] = field(
        default_factory=dict
    )  # the layout of each file or sheet
    tally: Tally = field(default_factory=Tally)

    @property
    def rejected(self) -> Counter[str]:
        """Cells and rows left out so far, by reason; complete when the batches have been read."""
        return self.tally.rejected


class Names:
    """Names numbered as they come. A number never changes, and equal names give the same tuple.

    >>> seen = Names()
    >>> seen.numbers(("b", "a")).tolist(), seen.numbers(("a", "c")).tolist(), seen.names
    ([0, 1], [1, 2], ('b', 'a', 'c'))
    """

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._names: tuple[str, ...] = ()
        self.latest: Any = (
            None  # the words that a reader numbered last, and what it found
        )

    def numbers(self, names: Iterable[str]) -> Codes:
        """The number of each name, new ones included."""
        number = self._number
        return np.fromiter(
            (number.setdefault(name, len(number)) for name in names), np.int32
        )

    def known(self, names: Sequence[str]) -> Codes:
        """The number of each name, -1 where it is new."""
        return np.fromiter(
            map(self._number.get, names, repeat(-1)), np.int32, len(names)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All names so far, by number."""
        if len(self._names) < len(self._number):
            self._names = tuple(self._number)
        return self._names


def edges(times: NDArray[np.int64], rows: int = BATCH_ROWS) -> list[int]:
    """Where to cut ordered times so that a piece has about so many rows and no time is split.

    >>> edges(np.array([1, 1, 1, 2, 3]), rows=2)
    [0, 3, 5]
    """
    cuts, here = [0], 0
    while here < len(times):
        last = times[min(here + rows, len(times)) - 1]
        here = int(np.searchsorted(times, last, "right"))
        cuts.append(here)
    return cuts


def arrivals(batch: Batch) -> Times:
    """When each row arrived: readings by their receipt, where it is told; all else at its own time."""
    if not isinstance(batch, Readings) or not batch.received.any():
        return batch.at
    return np.where(batch.received > 0, batch.received, batch.at)


def arranged(batch: Batch) -> Batch:
    """A batch in order of arrival; what arrived together, in order of time."""
    return batch.select(np.lexsort((batch.at, arrivals(batch))))


def _in_order(batch: Batch) -> Batch:
    """A batch, arranged if it is not."""
    return batch if (np.diff(arrivals(batch)) >= 0).all() else arranged(batch)


def arrival_groups(batch: Batch) -> NDArray[np.int64]:
    """Which turn each row of an arranged batch has: rows of one arrival and one time have the same."""
    arrived = arrivals(batch)
    return np.cumsum(
        (np.diff(arrived, prepend=0) != 0) | (np.diff(batch.at, prepend=0) != 0)
    )


def split_batch(batch: Batch, rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """An arranged batch, cut at its edges."""
    return (
        batch.select(slice(a, b))
        for a, b in pairwise(edges(arrival_groups(batch), rows))
    )


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, of which the next is read while one is judged."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def merge(histories: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Parts, each without split times, as one history in order of arrival, as far as the parts are.

    Where kinds are mixed a batch covers an hour at most, and events, payments and stages come before the readings
    of the same hour.
    """
    if len(histories) == 1:
        yield from histories[0]
        return
    ordered = [map(_in_order, part) for part in histories]
    heads: list[Batch | None] = [next(part, None) for part in ordered]
    common = SharedNumbering()
    while live := [head for head in heads if head is not None]:
        arrived = [None if head is None else arrivals(head) for head in heads]
        told = [times for times in arrived if times is not None]
        horizon = min(int(times[-1]) for times in told)
        if len({head.kind for head in live}) > 1:
            horizon = min(
                horizon,
                (min(int(times[0]) for times in told) // MIXED_SPAN + 1) * MIXED_SPAN
                - 1,
            )
        ready: dict[type[Batch], list[tuple[int, Batch]]] = {}
        for k, (head, times) in enumerate(zip(heads, arrived, strict=True)):
            if head is None or times is None:
                continue
            if cut := int(np.searchsorted(times, horizon, "right")):
                ready.setdefault(type(head), []).append((k, head.select(slice(0, cut))))
                heads[k] = (
                    head.select(slice(cut, None))
                    if cut < len(head)
                    else next(ordered[k], None)
                )
        for kind in BATCH_KINDS:
            if kind in ready:
                yield common.join(kind, ready[kind])


class SharedNumbering:
    """One numbering of the names of several parts, so that their rows join without repeating names."""

    def __init__(self) -> None:
        self._seen: dict[tuple[type[Batch], str], Names] = {}
        self._last: dict[
            tuple[int, type[Batch], str], tuple[tuple[str, ...], Codes]
        ] = {}

    def join(self, kind: type[Batch], batches: Sequence[tuple[int, Batch]]) -> Batch:
        """One ordered batch of pieces, each given with the number of the part it comes from."""
        columns: dict[str, Any] = {}
        for names, codes in kind.encodings().items():
            seen = self._seen.setdefault((kind, names), Names())
            columns[codes] = np.concatenate(
                [
                    self._numbers(seen, (part, kind, names), getattr(b, names))[
                        getattr(b, codes)
                    ]
                    for part, b in batches
                ]
            )
            columns[names] = seen.names
        for column in fields(kind):
            if column.name not in columns:
                columns[column.name] = np.concatenate(
                    [getattr(b, column.name) for _, b in batches], axis=-1
                )
        joined = kind(**columns)
        return joined if len(batches) == 1 else arranged(joined)

    def _numbers(
        self, seen: Names, key: tuple[int, type[Batch], str], names: tuple[str, ...]
    ) -> Codes:
        last = self._last.get(key)
        if last is None or last[0] is not names:
            last = self._last[key] = names, seen.numbers(names)
        return last[1]

"""A history: its areas, and its batches in the order in which they arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.columns import KIND_COLUMNS, Batch, Codes, Readings, Stages, Times
from schemas.master import Area
from schemas.topics import KIND_TOPICS

BATCH_ROWS = 20_000  # that a batch has, about: rows of one time stay together
MIXED_SPAN = 3600  # seconds that a batch covers at most where kinds are mixed
BATCH_KINDS = tuple(KIND_TOPICS)
SUBJECT_NOUNS = {
    kind.kind: f"{KIND_COLUMNS[kind]['subject'].outside_name}s" for kind in BATCH_KINDS
}
EXAMPLE_IDS = 3  # ids that a note names
MOST_LINES = 10  # notes of files whose ids stand alone


class SourceError(ValueError):
    """A file or folder that cannot be read as a history."""


@dataclass
class Named:
    """The meters and customers of each file, to find ids that no other file has."""

    # by what they are (meters or customers), file, and its content
    ids: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)

    def add(self, what: str, file: str, content: str, ids: Iterable[str]) -> None:
        """Take in ids that a file of some content names."""
        self.ids.setdefault((what, file, content), set()).update(ids)

    def note(self, file: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, with meters and customers noted; names keep their numbers."""
        noted: dict[str, NDArray[np.bool_]] = {}
        for batch in batches:
            if not isinstance(batch, Stages):  # whose items no other file names
                fresh = np.zeros(len(batch.names), np.bool_)
                fresh[batch.subject] = True
                before = noted.get(batch.kind, fresh[:0])
                noted[batch.kind] = fresh.copy()
                noted[batch.kind][: len(before)] |= before

                # only names that are new in this batch
                fresh[: len(before)] &= ~before
                ids = (batch.names[number] for number in np.flatnonzero(fresh).tolist())
                nouns = SUBJECT_NOUNS[batch.kind]
                self.add(nouns, file, batch.kind, filter(None, ids))
            yield batch

    def strangers(self) -> list[str]:
        """A line for each file with ids that no other has, unless the files share out the ids."""
        lines: list[str] = []
        for what in sorted({what for what, *_ in self.ids}):
            files = {
                (file, content): ids
                for (kind, file, content), ids in self.ids.items()
                if kind == what and ids
            }
            lines += _strangers_of(what, files)

        if len(lines) > MOST_LINES:
            more = f"as in {len(lines) - MOST_LINES:,} more files"
            return [*lines[:MOST_LINES], more]
        return lines


def _strangers_of(
    what: str, files: Mapping[tuple[str, str], Collection[str]]
) -> Iterator[str]:
    """A line for each file, by name and content, with ids that no other file has."""
    times = Counter(chain.from_iterable(files.values()))
    shared_out = times.total() == len(times)
    if len({content for _, content in files}) == 1 and shared_out:
        return
    if len(files) < 2:
        return

    for (file, _), ids in files.items():
        alone = sorted(name for name in ids if times[name] == 1)
        if alone:
            count = f"{len(alone):,} of {len(ids):,} {what}"
            examples = ", ".join(alone[:EXAMPLE_IDS])
            yield f"{file}: {count} are in none of the other files, such as {examples}"


@dataclass
class Tally:
    """Counts of rejected and mended cells and rows, by reason, with each reason's first place."""

    rejected: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # further sentences for the user
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
    """The error of a history of which no row could be read."""
    why = "; ".join(tally.reasons(tally.rejected)) or "it has no rows"
    return SourceError(f"nothing could be read of {name}: {why}")


@dataclass
class Source:
    """A history that can be read once."""

    name: str
    areas: list[Area]
    batches: Iterator[Batch]
    rows: int  # about, for a progress bar; 0 when unknown
    zone: str = ""  # in which its days end; "" if it names none
    interval: int = 0  # usual seconds between a meter's readings; 0 if it names none
    # seconds by area and meter, as the readings show them
    steps: dict[tuple[str, str], int] = field(default_factory=dict)
    # the layout of each file or sheet
    read_as: dict[str, str] = field(default_factory=dict)
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
        # the words that a reader numbered last, and their numbers
        self.latest: Any = None

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
    """Cuts of ordered times: about so many rows between cuts, and no time is split.

    >>> edges(np.array([1, 1, 1, 2, 3]), rows=2)
    [0, 3, 5]
    """
    cuts = [0]
    here = 0
    while here < len(times):
        end = min(here + rows, len(times))
        last = times[end - 1]
        here = int(np.searchsorted(times, last, "right"))
        cuts.append(here)
    return cuts


def arrivals(batch: Batch) -> Times:
    """When each row arrived: readings at their receipt, if known; other rows at their time."""
    if not isinstance(batch, Readings) or not batch.received.any():
        return batch.at
    return np.where(batch.received > 0, batch.received, batch.at)


def arranged(batch: Batch) -> Batch:
    """A batch in order of arrival; rows that arrived together, in order of time."""
    order = np.lexsort((batch.at, arrivals(batch)))
    return batch.select(order)


def _in_order(batch: Batch) -> Batch:
    """A batch, arranged if it is not."""
    if (np.diff(arrivals(batch)) >= 0).all():
        return batch
    return arranged(batch)


def arrival_groups(batch: Batch) -> NDArray[np.int64]:
    """The group of each row of an arranged batch: rows of one arrival and one time share it."""
    arrives_later = np.diff(arrivals(batch), prepend=0) != 0
    is_later = np.diff(batch.at, prepend=0) != 0
    return np.cumsum(arrives_later | is_later)


def split_batch(batch: Batch, rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """An arranged batch, cut at its edges."""
    cuts = edges(arrival_groups(batch), rows)
    return (batch.select(slice(first, last)) for first, last in pairwise(cuts))


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; the next is read while one is judged."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def merge(histories: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Histories, each without split times, as one in order of arrival.

    Where kinds are mixed a batch covers an hour at most, and events, payments and stages come before the readings
    of the same hour.
    """
    if len(histories) == 1:
        yield from histories[0]
        return

    ordered = [map(_in_order, history) for history in histories]
    heads: list[Batch | None] = [next(history, None) for history in ordered]
    common = SharedNumbering()
    while live := [head for head in heads if head is not None]:
        arrived = [None if head is None else arrivals(head) for head in heads]
        known = [times for times in arrived if times is not None]
        horizon = min(int(times[-1]) for times in known)
        if len({head.kind for head in live}) > 1:
            first = min(int(times[0]) for times in known)
            next_span = (first // MIXED_SPAN + 1) * MIXED_SPAN
            horizon = min(horizon, next_span - 1)

        # every history gives its rows up to the horizon
        ready: dict[type[Batch], list[tuple[int, Batch]]] = {}
        for k, (head, times) in enumerate(zip(heads, arrived, strict=True)):
            if head is None or times is None:
                continue
            cut = int(np.searchsorted(times, horizon, "right"))
            if cut:
                of_kind = ready.setdefault(type(head), [])
                of_kind.append((k, head.select(slice(0, cut))))
                if cut < len(head):
                    heads[k] = head.select(slice(cut, None))
                else:
                    heads[k] = next(ordered[k], None)

        for kind in BATCH_KINDS:
            if kind in ready:
                yield common.join(kind, ready[kind])


class SharedNumbering:
    """One numbering of the names of several histories, so that rows join without repeats."""

    def __init__(self) -> None:
        self._seen: dict[tuple[type[Batch], str], Names] = {}
        self._last: dict[
            tuple[int, type[Batch], str], tuple[tuple[str, ...], Codes]
        ] = {}

    def join(self, kind: type[Batch], batches: Sequence[tuple[int, Batch]]) -> Batch:
        """One ordered batch of several, each given with the number of the history it comes from."""
        columns: dict[str, Any] = {}
        for names, codes in kind.encodings().items():
            seen = self._seen.setdefault((kind, names), Names())
            numbered = []
            for history, batch in batches:
                numbers = self._numbers(
                    seen, (history, kind, names), getattr(batch, names)
                )
                numbered.append(numbers[getattr(batch, codes)])
            columns[codes] = np.concatenate(numbered)
            columns[names] = seen.names

        for column in fields(kind):
            if column.name not in columns:
                values = [getattr(batch, column.name) for _, batch in batches]
                columns[column.name] = np.concatenate(values, axis=-1)
        joined = kind(**columns)
        return joined if len(batches) == 1 else arranged(joined)

    def _numbers(
        self, seen: Names, key: tuple[int, type[Batch], str], names: tuple[str, ...]
    ) -> Codes:
        """The number of each name; a history's last numbers if its names are the same."""
        last = self._last.get(key)
        if last is None or last[0] is not names:
            last = self._last[key] = names, seen.numbers(names)
        return last[1]

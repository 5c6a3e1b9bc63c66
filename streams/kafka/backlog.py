"""The backlog of a partition: fetched records that wait to be judged, by topic."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import inf
from typing import Any, NamedTuple

from schemas.topics import REGISTRY_TOPIC, SOURCE_TOPICS
from streams.kafka.records import Record

BYTES_PER_ROW = 50.0  # of a packed frame, until a topic has been measured


class GapError(Exception):
    """A slice begins after the offset that comes next."""


class Arrival(NamedTuple):
    """A slice in the backlog, with the event that acknowledges it; it may have no records."""

    records: list[Record]
    ends: int  # offset after the slice
    size: int  # bytes
    event: Any  # Faust's, of the slice's last record; None without that record
    enqueued: float  # Unix seconds

    def within(self, capacity: float, until: float) -> int:
        """How many records, from the first, have about `capacity` bytes and came by `until`, Unix ms."""
        count = len(self.records)
        if self.size > max(capacity, 0):
            count = int(len(self.records) * capacity / self.size)
        if until < inf:
            return min(count, bisect_right(self.records, until, key=receipt_ms))
        return count

    def split(self, count: int) -> tuple[Arrival, Arrival]:
        """The first `count` records, and the rest."""
        size = self.size * count // len(self.records)
        ends = self.records[count].offset
        first = self._replace(
            records=self.records[:count], ends=ends, size=size, event=None
        )
        rest = self._replace(records=self.records[count:], size=self.size - size)
        return first, rest


def receipt_ms(record: Record) -> int:
    """The receipt time of a record, Unix milliseconds; 0 if it is unknown."""
    return record.timestamp or 0


class Chunk(NamedTuple):
    """Arrivals of one topic that are judged together."""

    topic: str
    arrivals: list[Arrival]

    @property
    def records(self) -> list[Record]:
        """All records in order."""
        return [record for arrival in self.arrivals for record in arrival.records]

    @property
    def oldest_receipt(self) -> float:
        """The receipt time of the oldest record, Unix seconds."""
        first_records = (
            arrival.records[0] for arrival in self.arrivals if arrival.records
        )
        return min(map(receipt_ms, first_records)) / 1000


class PartitionBacklog:
    """The arrivals of each topic in order, and their bytes."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Arrival]] = {
            topic: deque() for topic in (REGISTRY_TOPIC, *SOURCE_TOPICS)
        }
        self.waiting_bytes = dict.fromkeys(self._waiting, 0)
        self._row_bytes = dict.fromkeys(self._waiting, BYTES_PER_ROW)

    def add(self, topic: str, arrival: Arrival) -> None:
        """Adds an arrival behind the others of its topic."""
        self._waiting[topic].append(arrival)
        self.waiting_bytes[topic] += arrival.size

    @property
    def size(self) -> int:
        """The bytes of all that waits."""
        return sum(self.waiting_bytes.values())

    def oldest(self, topic: str) -> float:
        """The receipt time of a topic's first record, Unix seconds; 0 if none waits, or it is unknown."""
        for arrival in self._waiting[topic]:
            if arrival.records:
                return receipt_ms(arrival.records[0]) / 1000
        return 0.0

    def waits(self, topic: str) -> bool:
        """True if anything of a topic waits."""
        return bool(self._waiting[topic])

    def heads(self) -> dict[str, int]:
        """By topic, the receipt time of the first record, Unix milliseconds; before that, empty slices are taken."""
        return {
            topic: receipt_ms(waiting[0].records[0])
            for topic in SOURCE_TOPICS
            if (waiting := self._waiting[topic])
        }

    def take_empty(self) -> Chunk | None:
        """Takes a slice without records, which only moves the offset of its topic; None if there is none."""
        for topic in SOURCE_TOPICS:
            if self._waiting[topic] and not self._waiting[topic][0].records:
                return Chunk(topic, [self._waiting[topic].popleft()])
        return None

    def take(self, topic: str, rows: int, until: float = inf, least: int = 1) -> Chunk:
        """Takes about `rows` rows from the backlog: `least` records at least, none received after `until`, Unix ms."""
        waiting = self._waiting[topic]
        capacity = rows * self._row_bytes[topic]
        taken: list[Arrival] = []
        while waiting:
            count = max(waiting[0].within(capacity, until), 0 if taken else least)
            if count < len(waiting[0].records):
                if count:
                    first, waiting[0] = waiting[0].split(count)
                    taken.append(first)
                break
            taken.append(waiting.popleft())
            capacity -= taken[-1].size

        self.waiting_bytes[topic] -= sum(arrival.size for arrival in taken)
        return Chunk(topic, taken)

    def note_rows(self, chunk: Chunk, rows: int) -> None:
        """Notes how many rows the records of a chunk had."""
        size = sum(arrival.size for arrival in chunk.arrivals)
        self._row_bytes[chunk.topic] = size / rows

    def clear(self) -> None:
        """Forgets everything that waits."""
        for waiting in self._waiting.values():
            waiting.clear()
        self.waiting_bytes = dict.fromkeys(self._waiting, 0)

"""Rows of meters that no area has yet: they wait for the registry's record, up to a time and a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from aiokafka import TopicPartition
from numpy.typing import NDArray

from replay.mapping.areas import AreaLookup
from schemas.columns import Batch
from streams.kafka.records import Record

MOST_PARKED_ROWS = 200_000
MOST_PARKED_BYTES = 256 << 20  # of their records
PARKED_SECONDS = 3600.0  # that a row waits


class ParkedBatch(NamedTuple):
    """Rows of a fetch that wait, with the records they came in."""

    tp: TopicPartition
    batch: Batch
    records: Sequence[Record]
    record_of: NDArray[np.intp]  # the record of each row
    since: float  # by the monotonic clock
    size: int  # bytes of the records

    @classmethod
    def of(
        cls,
        tp: TopicPartition,
        batch: Batch,
        records: Sequence[Record],
        record_of: NDArray[np.intp],
        since: float,
    ) -> ParkedBatch:
        """Rows with the records that they came in, others are let go."""
        used, kept = np.unique(record_of, return_inverse=True)
        chosen = [records[index] for index in used.tolist()]
        size = sum(len(record.value or b"") for record in chosen)
        return cls(tp, batch, chosen, kept, since, size)

    def picked(self, rows: NDArray[np.bool_]) -> ParkedBatch:
        """Some of the rows."""
        record_of = self.record_of[rows]
        return ParkedBatch.of(
            self.tp, self.batch.select(rows), self.records, record_of, self.since
        )


class ParkedRows:
    """The rows that wait, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[ParkedBatch] = []

    def __len__(self) -> int:
        return sum(len(parked.batch) for parked in self._waiting)

    def park(self, parked: ParkedBatch) -> None:
        """Has rows wait."""
        if len(parked.batch):
            self._waiting.append(parked)

    def released(self, lookup: AreaLookup) -> Iterator[Batch]:
        """The rows whose area is known by now, in their order; they wait no more."""
        still: list[ParkedBatch] = []
        for parked in self._waiting:
            located, is_known = lookup.located(parked.batch)
            if is_known.any():
                yield located.select(is_known)
            if not is_known.all():
                still.append(parked.picked(~is_known) if is_known.any() else parked)
        self._waiting = still

    def given_up(self, now: float) -> Iterator[tuple[ParkedBatch, str]]:
        """The rows that waited too long, or are too many, with a sentence; they wait no more."""
        rows, size = len(self), sum(parked.size for parked in self._waiting)
        while self._waiting:
            oldest = self._waiting[0]
            if now - oldest.since > PARKED_SECONDS:
                why = f"no area after {PARKED_SECONDS:g} s"
            elif rows > MOST_PARKED_ROWS or size > MOST_PARKED_BYTES:
                why = "no area, and too many rows wait for theirs"
            else:
                return
            rows, size = rows - len(oldest.batch), size - oldest.size
            del self._waiting[0]
            yield oldest, why

    def forget(self, tps: Sequence[TopicPartition]) -> None:
        """Lets go the rows of partitions that another owner reads again."""
        self._waiting = [parked for parked in self._waiting if parked.tp not in tps]

    def first_offset(self, tp: TopicPartition) -> int | None:
        """The offset of the oldest record of a partition that waits."""
        offsets = (
            parked.records[0].offset for parked in self._waiting if parked.tp == tp
        )
        return min(offsets, default=None)

    def oldest(self, now: float) -> float:
        """Seconds for which the oldest row has waited, 0 without one."""
        return now - self._waiting[0].since if self._waiting else 0.0

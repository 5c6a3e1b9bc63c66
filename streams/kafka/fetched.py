"""The records of a fetch, whatever its bytes: damage takes the place of unreadable records, and reading goes on.

aiokafka's own reader ends the consumer at a header name that is not UTF-8, at a checksum that does not match and at a
compression that it does not know.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.structs import ConsumerRecord

from schemas.wire import Reason, RejectedError
from streams.kafka.batches import end_of, records_of, whole_batch
from streams.kafka.compression import CODEC_BITS, LARGEST_BATCH, inflated
from streams.kafka.records import Damage, DamagedError, FetchedRange, Record

# Base offset, bytes that follow, leader epoch, magic.
BATCH_PREFIX = struct.Struct(">qiib")
LOG_OVERHEAD = 12  # bytes of base offset and length
SMALLEST_LENGTH = 14  # bytes after the length, of any magic
log = logging.getLogger("meterwatch")


class FetchedBytes:
    """The bytes of a fetch; replaces aiokafka's MemoryRecords, which hides them."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """True if there are any bytes."""
        return bool(self.data)

    def size_in_bytes(self) -> int:
        """The number of bytes."""
        return len(self.data)


class Fetch:
    """Iterates over the fetched records of a partition; replaces aiokafka's PartitionRecords.

    Iteration logs damage and passes over it; `fetched_range` returns it with the records.
    """

    def __init__(
        self,
        tp: TopicPartition,
        records: FetchedBytes,
        aborted_transactions: Sequence[tuple[int, int]] | None,
        fetch_offset: int,
        _key: Any,
        _value: Any,
        _check_crcs: bool,
        isolation_level: int,
    ) -> None:
        self.next_fetch_offset = fetch_offset
        self._tp = tp
        self._data = records.data
        self._committed = isolation_level == READ_COMMITTED
        # Producer and first offset of each aborted transaction, in order of offset.
        self._aborted = sorted(
            aborted_transactions or (),
            key=lambda producer_and_first: producer_and_first[1],
        )
        # Producers whose transaction at the present place of reading was aborted.
        self._aborting: set[int] = set()
        # Made when it is needed: it refers to the fetch, which would wait for a garbage collection with all its bytes.
        self._records: Iterator[ConsumerRecord] | None = None

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self

    def __next__(self) -> ConsumerRecord:
        if self._records is None:
            self._records = self._one_by_one()
        return next(self._records)

    def fetched_range(self) -> FetchedRange:
        """The whole fetch, or the next LARGEST_BATCH bytes of a compressed one."""
        begins = self.next_fetch_offset
        records: list[Record] = []
        for batch in self._batches():
            records += batch
        return FetchedRange(begins, records, self.next_fetch_offset)

    def _batches(self) -> Iterator[list[Record]]:
        """The records of each batch; none for control batches and aborted ones."""
        data = self._data
        size = len(data)
        taken = 0  # bytes, as if not compressed
        at = 0
        while size - at >= LOG_OVERHEAD and taken < LARGEST_BATCH:
            base, length = struct.unpack_from(">qi", data, at)
            end = at + LOG_OVERHEAD + length
            if length < SMALLEST_LENGTH or (end > size and at == 0):
                error = DamagedError("the length of a batch is wrong")
                yield [self._damage(error, data[at:], base, self.next_fetch_offset)]
                self.next_fetch_offset += 1
                return
            if end > size:
                return

            # The base offset of the batch behind this one.
            behind = struct.unpack_from(">q", data, end)[0] if size - end >= 8 else None
            whole = memoryview(data)[at:end]
            try:
                records, ends, plain_bytes = self._read(whole)
                if self._offset_is_wrong(ends, behind, first=at == 0):
                    raise DamagedError("the offset of a batch is wrong")
            except Exception as error:
                ends = end_of(whole, base, self.next_fetch_offset, behind)
                ends = max(ends, self.next_fetch_offset + 1)
                records = [self._damage(error, bytes(whole), base, ends - 1)]
                plain_bytes = 0
            taken += max(plain_bytes, end - at)
            at = end
            yield records
            self.next_fetch_offset = max(ends, self.next_fetch_offset)

    def _read(self, whole: memoryview) -> tuple[list[Record], int, int]:
        """The records of a batch, the offset after it, and its bytes without compression. Raises Exception."""
        magic = BATCH_PREFIX.unpack_from(whole)[3]
        if magic not in (0, 1, 2):
            raise RejectedError(Reason.UNKNOWN_MAGIC, f"a batch has magic {magic}")
        batch = LegacyRecordBatch(whole, magic) if magic < 2 else whole_batch(whole)
        if not batch.validate_crc():
            raise DamagedError("the checksum of a batch does not match")
        if magic < 2:
            records = self._from_here(list(batch))
            return records, batch.next_offset, len(whole)
        if self._is_aborted(batch) or batch.is_control_batch:
            return [], batch.next_offset, len(whole)

        plain = whole
        if codec := batch.attributes & CODEC_BITS:
            plain = inflated(whole, codec)
            batch = DefaultRecordBatch(plain)
        return self._from_here(records_of(batch, plain)), batch.next_offset, len(plain)

    def _offset_is_wrong(self, ends: int, behind: int | None, *, first: bool) -> bool:
        """True if a batch does not fit its neighbours; its checksum does not cover its offset."""
        due = self.next_fetch_offset
        if ends <= due:
            return not (first and behind is not None and behind <= due)
        return behind is not None and due <= behind < ends

    def _from_here(self, records: list[Any]) -> list[Any]:
        """The records from the requested offset on, for a batch is fetched whole."""
        if records and records[0].offset >= self.next_fetch_offset:
            return records
        return [record for record in records if record.offset >= self.next_fetch_offset]

    def _is_aborted(self, batch: DefaultRecordBatch) -> bool:
        """True if a batch belongs to an aborted transaction; False for the abort marker itself."""
        if not self._committed:
            return False
        while self._aborted and self._aborted[0][1] < batch.next_offset:
            self._aborting.add(self._aborted.pop(0)[0])

        if batch.is_control_batch:
            if ControlRecord.parse(next(iter(batch)).key) == ABORT_MARKER:
                self._aborting.discard(batch.producer_id)
            return False
        return batch.is_transactional and batch.producer_id in self._aborting

    def _damage(self, error: Exception, value: bytes, base: int, last: int) -> Damage:
        reason = error.reason if isinstance(error, RejectedError) else Reason.CORRUPT
        return Damage(
            offset=min(max(base, self.next_fetch_offset), last),
            last=last,
            timestamp=None,
            value=value,
            reason=reason,
            detail=f"{error}"[:200],
        )

    def _one_by_one(self) -> Iterator[ConsumerRecord]:
        """The records in aiokafka's type; damage is logged and passed over."""
        topic, partition = self._tp
        for batch in self._batches():
            for record in batch:
                if isinstance(record, Damage):
                    offsets = f"offset {record.offset}"
                    if record.last != record.offset:
                        offsets = f"offsets {record.offset} to {record.last}"
                    log.warning(
                        "%s of `%s`, partition %d: %s; passed over",
                        offsets,
                        topic,
                        partition,
                        record.detail,
                        extra={
                            "topic": topic,
                            "partition": partition,
                            "offset": record.offset,
                        },
                    )
                    continue

                self.next_fetch_offset = record.offset + 1
                yield ConsumerRecord(
                    topic=topic,
                    partition=partition,
                    offset=record.offset,
                    timestamp=record.timestamp,
                    timestamp_type=0,
                    key=record.key,
                    value=record.value,
                    checksum=None,
                    serialized_key_size=_size_of(record.key),
                    serialized_value_size=_size_of(record.value),
                    headers=tuple(record.headers),
                )


def _size_of(content: bytes | None) -> int:
    """The bytes of a key or a value, -1 for none."""
    return -1 if content is None else len(content)


def install() -> None:
    """Puts `Fetch` in the place of aiokafka's reader, for all consumers of this process."""
    fetcher.MemoryRecords = FetchedBytes
    fetcher.PartitionRecords = Fetch

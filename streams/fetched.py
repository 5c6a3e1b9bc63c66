"""The records of a fetch, whatever its bytes: what cannot be read is damage with its place, and reading goes on behind.

aiokafka's own reader ends the consumer at a header name that is not UTF-8, at a checksum that does not match and at a
compression that it does not know.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import cramjam
import numpy as np
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.structs import ConsumerRecord

from schemas.wire import Reason, RejectedError

# bytes of a batch when it is not compressed, and about of what is taken of a fetch at once
LARGEST_BATCH = 64 << 20
# base offset, bytes that follow, leader epoch, magic
BATCH_PREFIX = struct.Struct(">qiib")
LOG_OVERHEAD = 12  # bytes of base offset and length
# of a batch of magic 2: all before its records
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
ATTRIBUTE_BYTES = slice(21, 23)  # bytes of that
SMALLEST_LENGTH = 14  # bytes after the length, of any magic
CODEC_BITS, LOG_APPEND_TIME = 0x07, 0x08  # bits of the attributes
GZIP_CODEC, SNAPPY_CODEC, LZ4_CODEC, ZSTD_CODEC = 1, 2, 3, 4
XERIAL_MAGIC = b"\x82SNAPPY\x00"  # begins a stream of blocks, after 16 bytes
log = logging.getLogger("meterwatch")


class Record(Protocol):
    """What is read of a record; its topic and partition are the slice's."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Unix milliseconds, None where its producer told none."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers."""


class _SalvagedRecord(NamedTuple):
    """A record of a batch that aiokafka cannot read."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Damage(NamedTuple):
    """A record or a batch that cannot be read, in the place of its records."""

    offset: int  # the first of it
    last: int
    timestamp: int | None
    value: bytes
    reason: Reason
    detail: str
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class FetchedRange(NamedTuple):
    """What a fetch has of a partition: all records from one offset to before another, and none is between them."""

    begins: int
    records: list[Record]
    ends: int


class FetchedBytes:
    """The bytes of a fetch, in the place of aiokafka's MemoryRecords, which keeps them to itself."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """Whether there is anything."""
        return bool(self.data)

    def size_in_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.data)


class Fetch:
    """Iterates over the records fetched of a partition, in the place of aiokafka's PartitionRecords.

    Damage is logged and passed over; `spans` gives it with the records.
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
        self._tp, self._data = tp, records.data
        self._committed = isolation_level == READ_COMMITTED
        self._aborted = sorted(
            aborted_transactions or (),
            key=lambda producer_and_first: producer_and_first[1],
        )
        # producers that were to abort, where reading has come to
        self._aborting: set[int] = set()
        self._records = self._one_by_one()

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self

    def __next__(self) -> ConsumerRecord:
        return next(self._records)

    def fetched_range(self) -> FetchedRange:
        """All of it, or of a fetch that was compressed LARGEST_BATCH at a time."""
        begins, records = self.next_fetch_offset, list[Record]()
        for batch in self._batches():
            records += batch
        return FetchedRange(begins, records, self.next_fetch_offset)

    def _batches(self) -> Iterator[list[Record]]:
        """The records of each batch; control batches and what was aborted have none."""
        data, size, taken = self._data, len(self._data), 0
        at = 0
        while size - at >= LOG_OVERHEAD and taken < LARGEST_BATCH:
            base, length = struct.unpack_from(">qi", data, at)
            end = at + LOG_OVERHEAD + length
            if length < SMALLEST_LENGTH or (end > size and at == 0):
                wrong = _DamagedError("the length of a batch is wrong")
                yield [self._damage(wrong, data[at:], base, self.next_fetch_offset)]
                self.next_fetch_offset += 1
                return
            if end > size:
                return

            behind = struct.unpack_from(">q", data, end)[0] if size - end >= 8 else None
            whole = memoryview(data)[at:end]
            try:
                records, ends, plain = self._read(whole)
                if self._offset_is_wrong(ends, behind, first=at == 0):
                    raise _DamagedError("the offset of a batch is wrong")
            except Exception as error:
                ends = max(
                    _end_of(whole, base, self.next_fetch_offset, behind),
                    self.next_fetch_offset + 1,
                )
                records, plain = [self._damage(error, bytes(whole), base, ends - 1)], 0
            taken += max(plain, end - at)
            at = end
            yield records
            self.next_fetch_offset = max(ends, self.next_fetch_offset)

    def _read(self, whole: memoryview) -> tuple[list[Record], int, int]:
        """The records of a batch, the offset behind it, and its bytes when it is not compressed. Raises Exception."""
        magic = BATCH_PREFIX.unpack_from(whole)[3]
        if magic not in (0, 1, 2):
            raise RejectedError(Reason.UNKNOWN_MAGIC, f"a batch has magic {magic}")
        batch = (
            DefaultRecordBatch(_headed(whole))
            if magic == 2
            else LegacyRecordBatch(whole, magic)
        )
        if not batch.validate_crc():
            raise _DamagedError("the checksum of a batch does not match")
        if magic < 2:
            records = self._from_here(list(batch))
            return records, batch.next_offset, len(whole)
        if self._is_aborted(batch) or batch.is_control_batch:
            return [], batch.next_offset, len(whole)

        plain = whole
        if codec := batch.attributes & CODEC_BITS:
            plain = _inflated(whole, codec)
            batch = DefaultRecordBatch(plain)
        return self._from_here(_records(batch, plain)), batch.next_offset, len(plain)

    def _offset_is_wrong(self, ends: int, behind: int | None, *, first: bool) -> bool:
        """Whether a batch is not where its neighbours are; its checksum says nothing of its offset."""
        due = self.next_fetch_offset
        if ends <= due:
            return not (first and behind is not None and behind <= due)
        return behind is not None and due <= behind < ends

    def _from_here(self, records: list[Any]) -> list[Any]:
        """Without those before the offset that was asked for: a batch is fetched whole."""
        if records and records[0].offset >= self.next_fetch_offset:
            return records
        return [record for record in records if record.offset >= self.next_fetch_offset]

    def _is_aborted(self, batch: DefaultRecordBatch) -> bool:
        """Whether a batch is of a transaction that was aborted, the mark of it aside."""
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
            min(max(base, self.next_fetch_offset), last),
            last,
            None,
            value,
            reason,
            f"{error}"[:200],
        )

    def _one_by_one(self) -> Iterator[ConsumerRecord]:
        tp = self._tp
        for batch in self._batches():
            for r in batch:
                if isinstance(r, Damage):
                    place = (
                        f"offset {r.offset}"
                        if r.offset == r.last
                        else f"offsets {r.offset} to {r.last}"
                    )
                    log.warning(
                        "%s of `%s`, partition %d: %s; passed over",
                        place,
                        tp.topic,
                        tp.partition,
                        r.detail,
                    )
                    continue
                sizes = [-1 if part is None else len(part) for part in (r.key, r.value)]
                self.next_fetch_offset = r.offset + 1
                yield ConsumerRecord(
                    tp.topic,
                    tp.partition,
                    r.offset,
                    r.timestamp,
                    0,
                    r.key,
                    r.value,
                    None,
                    *sizes,
                    tuple(r.headers),
                )


class _DamagedError(RejectedError):
    """Bytes that are no records."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.CORRUPT, detail)


def _headed(whole: memoryview) -> memoryview:
    if len(whole) < BATCH_HEADER.size:
        raise _DamagedError("a batch is shorter than its header")
    return whole


def _end_of(whole: memoryview, base: int, due: int, behind: int | None) -> int:
    """Behind a damaged batch: where the next begins, which no checksum says anything of, else by its header."""
    if behind is not None and behind > due:
        return behind
    if len(whole) < BATCH_HEADER.size:
        return base + 1
    return base + max(0, int(BATCH_HEADER.unpack_from(whole)[6])) + 1


def _records(batch: DefaultRecordBatch, plain: memoryview) -> list[Any]:
    """The records of a batch that is not compressed."""
    try:
        records = list(batch)
    except Exception:
        return list(_salvaged(bytes(plain)))
    offsets = [record.offset for record in records]
    if offsets == list(range(batch.base_offset, batch.next_offset)) or _ascend(
        offsets, batch
    ):
        return records
    return list(_salvaged(bytes(plain)))


def _ascend(offsets: Sequence[int], batch: DefaultRecordBatch) -> bool:
    """Whether offsets are of a batch that has lost some of its records to compaction."""
    places = [batch.base_offset - 1, *offsets, batch.next_offset]
    return all(one < other for one, other in pairwise(places))


def _salvaged(plain: bytes) -> Iterator[_SalvagedRecord | Damage]:
    """The records of a batch one by one, and damage in the place of those that cannot be read."""
    base, _, _, _, _, attributes, last_delta, first_at, latest_at, _, _, _, count = (
        BATCH_HEADER.unpack_from(plain)
    )
    due, last, at, left = base, base + last_delta, BATCH_HEADER.size, count
    loose = count <= last_delta  # some were lost to compaction
    while left > 0:
        try:
            length, begins = _varint(plain, at)
        except _DamagedError:
            break
        if length < 0 or begins + length > len(plain):
            break

        at, left = begins + length, left - 1
        try:
            record = _record(plain[begins:at], base, first_at)
            if not due <= record.offset <= (last if loose else due):
                raise _DamagedError("the offset of a record is wrong")
        except _DamagedError as error:
            yield Damage(
                due, due, latest_at, plain[begins:at], error.reason, str(error)
            )
            due += 1
        else:
            yield (
                record._replace(timestamp=latest_at)
                if attributes & LOG_APPEND_TIME
                else record
            )
            due = record.offset + 1
    if due <= last and (left or at < len(plain)):
        yield Damage(
            due,
            last,
            latest_at,
            plain[at:],
            Reason.CORRUPT,
            "the records of a batch end early",
        )


def _record(content: bytes, base: int, first_at: int) -> _SalvagedRecord:
    """A record from behind its length. A header name that is not UTF-8 is read as far as it is. Raises DamagedError."""
    since, at = _varint(content, 1)
    offset, at = _varint(content, at)
    key, at = _bytes(content, at)
    value, at = _bytes(content, at)
    count, at = _varint(content, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _bytes(content, at)
        told, at = _bytes(content, at)
        headers.append(((name or b"").decode(errors="replace"), told))
    if at != len(content) or count < 0:
        raise _DamagedError("the length of a record is wrong")
    return _SalvagedRecord(base + offset, first_at + since, key, value, headers)


def _bytes(content: bytes, at: int) -> tuple[bytes | None, int]:
    """Bytes behind their length, -1 for none, and where they end. Raises DamagedError."""
    length, begins = _varint(content, at)
    if length < -1 or begins + length > len(content):
        raise _DamagedError("the length of a key, a value or a header is wrong")
    return (
        (None, begins)
        if length < 0
        else (content[begins : begins + length], begins + length)
    )


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A zigzag number of 64 bits at most, and where it ends. Raises DamagedError."""
    number = 0
    for place, byte in enumerate(content[at : at + 10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + place + 1
    raise _DamagedError("a number has no end")


def _inflated(whole: memoryview, codec: int) -> memoryview:
    """A batch as if it had not been compressed. Raises Exception."""
    packed = bytes(whole[BATCH_HEADER.size :])
    if codec == GZIP_CODEC:
        content = _gunzipped(packed)
    elif codec == SNAPPY_CODEC:
        content = _unsnapped(packed)
    elif codec in (LZ4_CODEC, ZSTD_CODEC):
        content = _unframed(packed, cramjam.lz4 if codec == LZ4_CODEC else cramjam.zstd)
    else:
        raise RejectedError(
            Reason.UNKNOWN_CODEC,
            f"a batch is compressed in way {codec}, which is none of Kafka's",
        )
    attributes = BATCH_HEADER.unpack_from(whole)[5] & ~CODEC_BITS
    head = bytearray(whole[: BATCH_HEADER.size])
    head[ATTRIBUTE_BYTES] = attributes.to_bytes(2, "big", signed=True)
    return memoryview(bytes(head) + content)


def _gunzipped(packed: bytes) -> bytes:
    parts: list[bytes] = []
    room = LARGEST_BATCH
    while packed.rstrip(b"\0"):
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(packed, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise _too_large()
        if not member.eof:
            raise _DamagedError("gzip ends early")
        packed = member.unused_data
    return b"".join(parts)


def _unsnapped(packed: bytes) -> bytes:
    """What is one block of snappy or, as Java's clients write it, a stream of them."""
    blocks, at = [] if (stream := packed.startswith(XERIAL_MAGIC)) else [packed], 16
    while stream and at < len(packed):
        (length,) = struct.unpack_from(">I", packed, at)
        blocks.append(packed[at + 4 : at + 4 + length])
        at += 4 + length
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > LARGEST_BATCH:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _unframed(packed: bytes, codec: Any) -> bytes:
    room = np.empty(LARGEST_BATCH, np.uint8)
    try:
        return room[: codec.decompress_into(packed, room)].tobytes()
    except cramjam.DecompressionError as error:
        raise (
            _too_large() if "whole buffer" in str(error) else _DamagedError(f"{error}")
        ) from error


def _too_large() -> RejectedError:
    return RejectedError(
        Reason.TOO_LARGE,
        f"a batch is more than {LARGEST_BATCH} bytes when it is not compressed",
    )


def install() -> None:
    """Puts `Fetch` in the place of aiokafka's reader, for all consumers of this process."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = FetchedBytes, Fetch

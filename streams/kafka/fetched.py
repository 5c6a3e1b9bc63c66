"""The records of a fetch, whatever its bytes: damage takes the place of unreadable records, and reading goes on.

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

# Bytes of a batch without compression, and about the bytes of a fetch that are read at once.
LARGEST_BATCH = 64 << 20
# Base offset, bytes that follow, leader epoch, magic.
BATCH_PREFIX = struct.Struct(">qiib")
LOG_OVERHEAD = 12  # bytes of base offset and length
# The header of a batch of magic 2: all before its records.
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
ATTRIBUTE_BYTES = slice(21, 23)  # in the header
SMALLEST_LENGTH = 14  # bytes after the length, of any magic
CODEC_BITS, LOG_APPEND_TIME = 0x07, 0x08  # bits of the attributes
GZIP_CODEC, SNAPPY_CODEC, LZ4_CODEC, ZSTD_CODEC = 1, 2, 3, 4
XERIAL_MAGIC = b"\x82SNAPPY\x00"  # begins a stream of blocks
XERIAL_HEADER = 16  # bytes before the first block
log = logging.getLogger("meterwatch")


class Record(Protocol):
    """The fields of a record; its topic and partition are those of the slice."""

    @property
    def offset(self) -> int:
        """The offset in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Unix milliseconds, None if the producer gave none."""

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

    offset: int  # of the first record
    last: int  # offset of the last record
    timestamp: int | None
    value: bytes
    reason: Reason
    detail: str
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class FetchedRange(NamedTuple):
    """All records of a partition from offset `begins` to before offset `ends`."""

    begins: int
    records: list[Record]
    ends: int


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
        self._records = self._one_by_one()

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self

    def __next__(self) -> ConsumerRecord:
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
                error = _DamagedError("the length of a batch is wrong")
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
                    raise _DamagedError("the offset of a batch is wrong")
            except Exception as error:
                ends = _end_of(whole, base, self.next_fetch_offset, behind)
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
        batch = LegacyRecordBatch(whole, magic) if magic < 2 else _whole_batch(whole)
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


class _DamagedError(RejectedError):
    """The bytes are not records."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.CORRUPT, detail)


def _whole_batch(whole: memoryview) -> DefaultRecordBatch:
    """A batch of magic 2. Raises DamagedError if it is shorter than its header."""
    if len(whole) < BATCH_HEADER.size:
        raise _DamagedError("a batch is shorter than its header")
    return DefaultRecordBatch(whole)


def _end_of(whole: memoryview, base: int, due: int, behind: int | None) -> int:
    """The offset after a damaged batch: where the next begins, else by its header."""
    if behind is not None and behind > due:
        return behind
    if len(whole) < BATCH_HEADER.size:
        return base + 1
    return base + max(0, int(BATCH_HEADER.unpack_from(whole)[6])) + 1


def _records(batch: DefaultRecordBatch, plain: memoryview) -> list[Any]:
    """The records of a batch that is not compressed; salvaged if aiokafka cannot read them all."""
    try:
        records = list(batch)
    except Exception:
        return list(_salvaged(bytes(plain)))
    offsets = [record.offset for record in records]
    is_whole = offsets == list(range(batch.base_offset, batch.next_offset))
    if is_whole or _ascend(offsets, batch):
        return records
    return list(_salvaged(bytes(plain)))


def _ascend(offsets: Sequence[int], batch: DefaultRecordBatch) -> bool:
    """True if the offsets ascend within the batch: it may have lost records to compaction."""
    places = [batch.base_offset - 1, *offsets, batch.next_offset]
    return all(offset < following for offset, following in pairwise(places))


def _salvaged(plain: bytes) -> Iterator[_SalvagedRecord | Damage]:
    """The records of a batch, with damage in the place of unreadable ones."""
    base, _, _, _, _, attributes, last_delta, first_at, latest_at, _, _, _, left = (
        BATCH_HEADER.unpack_from(plain)
    )
    due = base
    last = base + last_delta
    at = BATCH_HEADER.size
    compacted = left <= last_delta  # some records were lost to compaction
    while left > 0:
        try:
            length, begins = _varint(plain, at)
        except _DamagedError:
            break
        if length < 0 or begins + length > len(plain):
            break

        at = begins + length
        left -= 1
        content = plain[begins:at]
        try:
            record = _record(content, base, first_at)
            if not due <= record.offset <= (last if compacted else due):
                raise _DamagedError("the offset of a record is wrong")
        except _DamagedError as error:
            yield Damage(due, due, latest_at, content, error.reason, str(error))
            due += 1
        else:
            if attributes & LOG_APPEND_TIME:
                record = record._replace(timestamp=latest_at)
            yield record
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
    """A record from the bytes after its length. Raises DamagedError.

    A header name that is not UTF-8 is read as far as it is.
    """
    since, at = _varint(content, 1)
    offset, at = _varint(content, at)
    key, at = _bytes(content, at)
    value, at = _bytes(content, at)
    count, at = _varint(content, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _bytes(content, at)
        header, at = _bytes(content, at)
        headers.append(((name or b"").decode(errors="replace"), header))
    if at != len(content) or count < 0:
        raise _DamagedError("the length of a record is wrong")
    return _SalvagedRecord(base + offset, first_at + since, key, value, headers)


def _bytes(content: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes after their length, None for length -1, and where they end. Raises DamagedError."""
    length, begins = _varint(content, at)
    if length < -1 or begins + length > len(content):
        raise _DamagedError("the length of a key, a value or a header is wrong")
    if length < 0:
        return None, begins
    ends = begins + length
    return content[begins:ends], ends


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A zigzag number of 64 bits at most, and where it ends. Raises DamagedError."""
    number = 0
    for place, byte in enumerate(content[at : at + 10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + place + 1
    raise _DamagedError("a number has no end")


def _inflated(whole: memoryview, codec: int) -> memoryview:
    """A batch as it was before compression. Raises Exception."""
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

    # The header of the same batch without compression.
    attributes = BATCH_HEADER.unpack_from(whole)[5] & ~CODEC_BITS
    head = bytearray(whole[: BATCH_HEADER.size])
    head[ATTRIBUTE_BYTES] = attributes.to_bytes(2, "big", signed=True)
    return memoryview(bytes(head) + content)


def _gunzipped(packed: bytes) -> bytes:
    members: list[bytes] = []
    capacity = LARGEST_BATCH
    while packed.rstrip(b"\0"):
        member = zlib.decompressobj(wbits=31)
        members.append(member.decompress(packed, capacity + 1))
        capacity -= len(members[-1])
        if capacity < 0:
            raise _too_large()
        if not member.eof:
            raise _DamagedError("gzip ends early")
        packed = member.unused_data
    return b"".join(members)


def _unsnapped(packed: bytes) -> bytes:
    """The content of one block of snappy or, as Java's clients write it, of a stream of blocks."""
    blocks = [packed]
    if packed.startswith(XERIAL_MAGIC):
        blocks = []
        at = XERIAL_HEADER
        while at < len(packed):
            (length,) = struct.unpack_from(">I", packed, at)
            blocks.append(packed[at + 4 : at + 4 + length])
            at += 4 + length
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > LARGEST_BATCH:
        raise _too_large()
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _unframed(packed: bytes, codec: Any) -> bytes:
    content = np.empty(LARGEST_BATCH, np.uint8)
    try:
        return content[: codec.decompress_into(packed, content)].tobytes()
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise _too_large() from error
        raise _DamagedError(f"{error}") from error


def _too_large() -> RejectedError:
    return RejectedError(
        Reason.TOO_LARGE,
        f"a batch is more than {LARGEST_BATCH} bytes when it is not compressed",
    )


def install() -> None:
    """Puts `Fetch` in the place of aiokafka's reader, for all consumers of this process."""
    fetcher.MemoryRecords = FetchedBytes
    fetcher.PartitionRecords = Fetch

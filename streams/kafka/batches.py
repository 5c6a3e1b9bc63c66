"""A batch of records in its bytes: aiokafka reads it, and what it cannot read is salvaged record by record."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch

from schemas.wire import Reason
from streams.kafka.records import Damage, DamagedError

# The header of a batch of magic 2: all before its records.
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
LOG_APPEND_TIME = 0x08  # bit of the attributes


class _SalvagedRecord(NamedTuple):
    """A record of a batch that aiokafka cannot read."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def whole_batch(whole: memoryview) -> DefaultRecordBatch:
    """A batch of magic 2. Raises DamagedError if it is shorter than its header."""
    if len(whole) < BATCH_HEADER.size:
        raise DamagedError("a batch is shorter than its header")
    return DefaultRecordBatch(whole)


def end_of(whole: memoryview, base: int, due: int, behind: int | None) -> int:
    """The offset after a damaged batch: where the next begins, else by its header."""
    if behind is not None and behind > due:
        return behind
    if len(whole) < BATCH_HEADER.size:
        return base + 1
    return base + max(0, int(BATCH_HEADER.unpack_from(whole)[6])) + 1


def records_of(batch: DefaultRecordBatch, plain: memoryview) -> list[Any]:
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
        except DamagedError:
            break
        if length < 0 or begins + length > len(plain):
            break

        at = begins + length
        left -= 1
        content = plain[begins:at]
        try:
            record = _record(content, base, first_at)
            if not due <= record.offset <= (last if compacted else due):
                raise DamagedError("the offset of a record is wrong")
        except DamagedError as error:
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
        raise DamagedError("the length of a record is wrong")
    return _SalvagedRecord(base + offset, first_at + since, key, value, headers)


def _bytes(content: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes after their length, None for length -1, and where they end. Raises DamagedError."""
    length, begins = _varint(content, at)
    if length < -1 or begins + length > len(content):
        raise DamagedError("the length of a key, a value or a header is wrong")
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
    raise DamagedError("a number has no end")

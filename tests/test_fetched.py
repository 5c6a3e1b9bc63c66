"""Whatever the bytes of a fetch, every readable record is read, and the rest is damage with its offset."""

from __future__ import annotations

import gc
import gzip
import struct
import weakref
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from schemas.wire import Reason
from streams.kafka import compression, fetched
from streams.kafka.batches import BATCH_HEADER
from streams.kafka.compression import GZIP_CODEC, LZ4_CODEC, SNAPPY_CODEC, ZSTD_CODEC
from streams.kafka.fetched import Fetch, FetchedBytes
from streams.kafka.records import Damage, FetchedRange

FIRST_OFFSET = 100  # offset
FIRST_TIMESTAMP = 1_700_000_000_000
TP_3 = TopicPartition("meter.reads", 3)
CODEC_ENCODERS = {
    GZIP_CODEC: gzip_encode,
    SNAPPY_CODEC: snappy_encode,
    LZ4_CODEC: lz4_encode,
    ZSTD_CODEC: zstd_encode,
}


def batch(
    first: int,
    count: int = 1,
    *,
    producer: int = -1,
    transactional: bool = False,
    control: bool = False,
    key: bytes = b"A1",
) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, 0, transactional, producer, 0 if producer >= 0 else -1, 0, 1 << 20
    )
    for k in range(count):
        builder.append(
            k,
            FIRST_TIMESTAMP + k,
            key,
            b"value %d" % (first + k),
            [("content-type", b"json")],
        )
    return rebased(bytes(builder.build()), first, 0x20 if control else 0)


def rebased(content: bytes, first: int, attributes: int = 0) -> bytes:
    """A batch at an offset, with further attributes and a checksum that fits again."""
    fields = list(BATCH_HEADER.unpack_from(content))
    fields[0], fields[1] = first, len(content) - 12
    fields[5] |= attributes
    content = BATCH_HEADER.pack(*fields) + content[BATCH_HEADER.size :]
    return content[:17] + struct.pack(">I", calc_crc32c(content[21:])) + content[21:]


def compressed(first: int, codec: int, content: bytes, count: int = 3) -> bytes:
    return rebased(batch(first, count)[: BATCH_HEADER.size] + content, first, codec)


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    return batch(
        offset,
        producer=producer,
        transactional=True,
        control=True,
        key=b"\0\0" + bytes([0, commit]),
    )


def fetch(
    content: bytes, offset: int = FIRST_OFFSET, aborted: Any = None
) -> FetchedRange:
    return Fetch(
        TP_3, FetchedBytes(content), aborted, offset, None, None, True, 1
    ).fetched_range()


def shown(record: Any) -> tuple[Any, ...]:
    return (
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )


def offsets(span: FetchedRange) -> list[int]:
    return [record.offset for record in span.records if not isinstance(record, Damage)]


def damages(span: FetchedRange) -> list[tuple[int, int, Reason]]:
    return [
        (record.offset, record.last, record.reason)
        for record in span.records
        if isinstance(record, Damage)
    ]


def test_aborted_transactions_are_left_out_between_other_batches():
    content = (
        batch(100, 2, producer=7, transactional=True)  # aborted at 108
        + batch(102, 2, producer=8, transactional=True)  # committed at 109
        + batch(104, 2)
        + batch(106, 2, producer=7, transactional=True)
        + marker(108, 7, commit=False)
        + marker(109, 8, commit=True)
        # the next of this producer, committed
        + batch(110, 2, producer=7, transactional=True)
        + marker(112, 7, commit=True)
        + batch(113, 1, producer=7, transactional=True)  # and again aborted
        + batch(114, 1, producer=9)  # idempotent only
        + marker(115, 7, commit=False)
    )

    span = fetch(content, aborted=[(7, 113), (7, 100)])
    assert offsets(span) == [102, 103, 104, 105, 110, 111, 114]
    assert (span.begins, span.ends) == (100, 116)
    assert offsets(
        fetch(content[len(batch(100, 2)) :], 102, [(7, 100), (7, 113)])
    ) == offsets(span)


def test_span_with_only_markers_moves_on():
    assert fetch(marker(FIRST_OFFSET, 7, commit=True)) == (
        FIRST_OFFSET,
        [],
        FIRST_OFFSET + 1,
    )
    content = batch(FIRST_OFFSET, 3, producer=7, transactional=True) + marker(
        103, 7, commit=False
    )
    assert fetch(content, aborted=[(7, FIRST_OFFSET)]) == (
        FIRST_OFFSET,
        [],
        FIRST_OFFSET + 4,
    )


def test_a_compacted_batch_end_moves_on():
    content = batch(FIRST_OFFSET, 2)
    fields = list(BATCH_HEADER.unpack_from(content))
    fields[6] = 9  # its last record was at 109, once
    span = fetch(
        rebased(BATCH_HEADER.pack(*fields) + content[BATCH_HEADER.size :], FIRST_OFFSET)
    )
    assert (offsets(span), damages(span), span.ends) == ([100, 101], [], 110)


@pytest.mark.parametrize("codec", CODEC_ENCODERS)
def test_every_compression_is_read(codec):
    plain = batch(FIRST_OFFSET, 3)
    span = fetch(
        compressed(
            FIRST_OFFSET, codec, CODEC_ENCODERS[codec](plain[BATCH_HEADER.size :])
        )
        + batch(103)
    )
    assert list(map(shown, span.records)) == list(
        map(shown, fetch(plain + batch(103)).records)
    )


def test_raw_snappy_and_members_of_gzip_are_read():
    plain = batch(FIRST_OFFSET, 3)
    content = plain[BATCH_HEADER.size :]
    expected = list(map(shown, fetch(plain).records))
    members = gzip.compress(content[:9]) + gzip.compress(content[9:])
    for codec, packed in (
        (SNAPPY_CODEC, bytes(cramjam.snappy.compress_raw(content))),
        (GZIP_CODEC, members),
    ):
        assert (
            list(map(shown, fetch(compressed(FIRST_OFFSET, codec, packed)).records))
            == expected
        )


@pytest.mark.parametrize("codec", CODEC_ENCODERS)
def test_batch_too_large_when_decompressed_is_rejected(codec, monkeypatch):
    monkeypatch.setattr(compression, "LARGEST_BATCH", 1 << 20)
    span = fetch(
        compressed(FIRST_OFFSET, codec, CODEC_ENCODERS[codec](bytes(2 << 20)))
        + batch(103)
    )
    assert (damages(span), offsets(span), span.ends) == (
        [(100, 102, Reason.TOO_LARGE)],
        [103],
        104,
    )


def test_large_compressed_fetch_is_read_in_portions(monkeypatch):
    monkeypatch.setattr(fetched, "LARGEST_BATCH", 150)
    records = [
        compressed(first, ZSTD_CODEC, zstd_encode(batch(first, 3)[BATCH_HEADER.size :]))
        for first in (100, 103, 106)
    ]
    ends, taken = FIRST_OFFSET, []
    while ends < 109:
        span = fetch(b"".join(records[(ends - FIRST_OFFSET) // 3 :]), ends)
        taken += offsets(span)
        assert ends < span.ends
        ends = span.ends
    assert taken == list(range(100, 109))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        # its last byte
        (
            lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
            Reason.CORRUPT,
        ),
        # its number of offsets
        (
            lambda whole: whole[:25] + b"\xff" + whole[26:],
            Reason.CORRUPT,
        ),
        (lambda whole: rebased(whole, 103, 5), Reason.UNKNOWN_CODEC),
        (lambda whole: rebased(whole, 103, GZIP_CODEC), Reason.CORRUPT),
        (lambda whole: rebased(whole, 103, LZ4_CODEC), Reason.CORRUPT),
        (lambda whole: rebased(whole, 103, SNAPPY_CODEC), Reason.CORRUPT),
        (lambda whole: rebased(whole, 103, ZSTD_CODEC), Reason.CORRUPT),
        (lambda whole: whole[:16] + b"\x03" + whole[17:], Reason.UNKNOWN_MAGIC),
        (lambda whole: whole[:16] + b"\xff" + whole[17:], Reason.UNKNOWN_MAGIC),
        # not the layout it has
        (
            lambda whole: whole[:16] + b"\x01" + whole[17:],
            Reason.CORRUPT,
        ),
        # shorter than its header
        (
            lambda whole: whole[:8] + struct.pack(">i", 20) + whole[12:32],
            Reason.CORRUPT,
        ),
    ],
)
def test_unreadable_batch_is_damage_and_reading_goes_on_after_it(spoil, reason):
    broken = spoil(batch(103, 5))
    span = fetch(batch(FIRST_OFFSET, 3) + broken + batch(108, 2))
    assert damages(span) == [(103, 107, reason)]
    assert offsets(span) == [100, 101, 102, 108, 109]
    (damage,) = (record for record in span.records if isinstance(record, Damage))
    assert damage.value == broken
    assert damage.detail
    assert span.ends == 110


def test_unreadable_last_batch_ends_at_the_offset_in_its_header():
    span = fetch(batch(103, 5)[:-1] + b"?", 104)
    assert (damages(span), span.ends) == ([(104, 107, Reason.CORRUPT)], 108)


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 13, 1 << 30])
def test_invalid_length_skips_one_offset(length):
    content = batch(FIRST_OFFSET)
    span = fetch(content[:8] + struct.pack(">i", length) + content[12:])
    assert (damages(span), span.ends) == (
        [(FIRST_OFFSET, FIRST_OFFSET, Reason.CORRUPT)],
        FIRST_OFFSET + 1,
    )


def varint(number: int) -> bytes:
    number, encoded = number << 1 if number >= 0 else (-number << 1) - 1, b""
    while number > 0x7F:
        encoded, number = encoded + bytes([number & 0x7F | 0x80]), number >> 7
    return encoded + bytes([number])


def record(
    offset: int, name: bytes = b"trace", *, delta: bytes | None = None, size: int = 2
) -> bytes:
    body = (
        b"\0"
        + varint(0)
        + (varint(offset - FIRST_OFFSET) if delta is None else delta)
        + varint(size)
        + b"A1"
    )
    body += varint(1) + b"v" + varint(1) + varint(len(name)) + name + varint(-1)
    return varint(len(body)) + body


def batch_of_records(*records: bytes, count: int | None = None) -> bytes:
    content = batch(FIRST_OFFSET, len(records))
    fields = list(BATCH_HEADER.unpack_from(content))
    fields[12] = len(records) if count is None else count
    return rebased(BATCH_HEADER.pack(*fields) + b"".join(records), FIRST_OFFSET)


def test_header_name_that_is_not_utf8_does_no_harm():
    span = fetch(
        batch_of_records(record(100), record(101, name=b"trace-\xe4"), record(102))
    )
    assert damages(span) == []
    names = ["trace", "trace-\ufffd", "trace"]
    expected = [
        (offset, FIRST_TIMESTAMP, b"A1", b"v", ((name, None),))
        for offset, name in enumerate(names, 100)
    ]
    assert list(map(shown, span.records)) == expected


@pytest.mark.parametrize(
    "broken",
    [
        varint(3) + b"\0\0\0",  # ends within the record
        record(101)[:-1] + b"\xff",  # a number that has no end
        record(101, delta=b"\xff" * 12),
        record(101, delta=varint(-5)),
        record(101, delta=varint(1 << 40)),
        record(101, size=(1 << 63) - 1),
        record(101, size=1 << 40),
        record(101, size=-7),
    ],
)
def test_unreadable_record_is_damage_and_its_neighbours_are_read(broken):
    span = fetch(batch_of_records(record(100), broken, record(102)) + batch(103))
    assert damages(span) == [(101, 101, Reason.CORRUPT)]
    assert offsets(span) == [100, 102, 103]


@pytest.mark.parametrize(
    "broken", [varint(1 << 40) + b"?", varint(-3) + b"?", b"\xff" * 20]
)
def test_record_of_invalid_length_is_damage_to_the_end_of_its_batch(broken):
    span = fetch(batch_of_records(record(100), broken, record(102)) + batch(103))
    assert damages(span) == [(101, 102, Reason.CORRUPT)]
    assert offsets(span) == [100, 103]


@pytest.mark.parametrize(("count", "read"), [(-1, 0), (1, 1), (1 << 30, 3)])
def test_a_wrong_count_of_records_hides_none(count, read):
    span = fetch(
        batch_of_records(record(100), record(101), record(102), count=count)
        + batch(103)
    )
    assert offsets(span) == [*range(100, 100 + read), 103]
    assert damages(span) == ([(100 + read, 102, Reason.CORRUPT)] if read < 3 else [])


def test_old_layouts_are_read_next_to_the_new():
    batches = []
    for magic, first in ((0, 100), (1, 101)):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 10)
        builder.append(first, FIRST_TIMESTAMP, b"A1", b"v")
        batches.append(bytes(builder.build()))
    assert offsets(fetch(batch(98, 2) + b"".join(batches) + batch(102), 98)) == [
        98,
        99,
        100,
        101,
        102,
    ]


def all_offsets(span: FetchedRange) -> list[int]:
    """The first and last offsets of all that is in a span."""
    return [
        offset
        for record in span.records
        for offset in (
            (record.offset, record.last)
            if isinstance(record, Damage)
            else (record.offset,)
        )
    ]


def spoilt(data: st.DataObject, sound: bytes, begin: int = 0) -> bytes:
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(begin, len(sound) - 1))] = data.draw(
            st.integers(0, 255)
        )
    return bytes(content)


@given(st.data())
def test_whatever_is_fetched_ends_in_order_and_moves_on(data):
    sound = (
        batch(FIRST_OFFSET, 3)
        + compressed(103, ZSTD_CODEC, zstd_encode(batch(103, 3)[BATCH_HEADER.size :]))
        + batch(106, 3)
    )
    content = spoilt(data, sound)[: data.draw(st.integers(12, len(sound)))]
    span = fetch(content)
    assert span.ends > FIRST_OFFSET
    assert all_offsets(span) == sorted(all_offsets(span))
    assert all(FIRST_OFFSET <= offset < span.ends for offset in all_offsets(span))


@given(st.data())
def test_whatever_the_records_of_a_batch_are_each_offset_is_read_or_rejected(data):
    broken = rebased(
        spoilt(data, batch(FIRST_OFFSET, 5), BATCH_HEADER.size), FIRST_OFFSET
    )
    span = fetch(broken + batch(105))
    read = offsets(span)
    lost = [k for first, last, _ in damages(span) for k in range(first, last + 1)]
    assert sorted(read + lost) == [*range(100, 106)]


def test_readers_skip_damage_and_log_it(caplog):
    content = batch(FIRST_OFFSET, 3)[:-1] + b"?" + batch(103, 2)
    fetch = Fetch(TP_3, FetchedBytes(content), None, FIRST_OFFSET, None, None, True, 1)
    assert [record.offset for record in fetch] == [103, 104]
    assert fetch.next_fetch_offset == 105
    assert "offsets 100 to 102 of `meter.reads`, partition 3" in caplog.text


@pytest.mark.parametrize("as_range", [True, False])
def test_the_bytes_of_a_fetch_are_let_go_without_a_garbage_collection(as_range):
    """A bridge kept a topic of large records: it makes too few objects for a collection."""
    content = batch(FIRST_OFFSET, 3)
    fetch = Fetch(TP_3, FetchedBytes(content), None, FIRST_OFFSET, None, None, True, 1)
    gone = weakref.ref(fetch)
    gc.disable()
    try:
        records = fetch.fetched_range().records if as_range else list(fetch)
        del fetch
        assert gone() is None
        assert len(records) == 3
    finally:
        gc.enable()

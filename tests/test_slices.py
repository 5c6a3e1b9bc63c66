"""What is fetched comes in slices that hold what aiokafka itself would give, and only while there is room."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from streams import worker
from streams.metrics import Metrics
from streams.settings import Settings
from streams.slices import Batches, Fetched, Slice
from streams.worker import Worker

FIRST = 100  # offset
TP_3 = TopicPartition("meter.reads", 3)


def batch(first: int, count: int, magic: int = 2) -> bytes:
    builder = DefaultRecordBatchBuilder(magic, 0, False, -1, -1, -1, 1 << 20)
    for k in range(count):
        builder.append(k, 1_700_000_000_000 + k, b"A1", b"value %d" % (first + k), [("content-type", b"json")])
    whole = builder.build()
    whole[:8] = first.to_bytes(8, "big")
    return bytes(whole)


def fetched(content: bytes, offset: int) -> PartitionRecords:
    return PartitionRecords(TP_3, MemoryRecords(content), None, offset, None, None, True, 0)


@pytest.mark.parametrize("offset", [FIRST, FIRST + 2, FIRST + 5])
def test_batches_hold_what_aiokafka_gives_one_by_one(offset):
    content = batch(FIRST, 5) + batch(FIRST + 5, 3)
    usual = fetched(content, offset)
    expected = [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in usual]
    batches = Batches(fetched(content, offset))
    assert [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for part in batches for r in part] == expected
    assert len(expected) == FIRST + 8 - offset
    assert batches.next_fetch_offset == usual.next_fetch_offset == FIRST + 8


def test_a_batch_whose_checksum_does_not_match_is_not_taken():
    spoilt = bytearray(batch(FIRST, 5) + batch(FIRST + 5, 3))
    spoilt[-1] ^= 1
    batches = Batches(fetched(bytes(spoilt), FIRST))
    parts = iter(batches)
    assert len(next(parts)) == 5
    with pytest.raises(CorruptRecordException):
        next(parts)
    assert batches.next_fetch_offset == FIRST + 5


def test_a_fetch_is_taken_in_batches_and_moves_the_place_to_read_on():
    async def take() -> tuple[list[int], int]:
        assignment = Assignment([TP_3])
        assignment.state_value(TP_3).reset_to(FIRST)
        content = batch(FIRST, 5) + batch(FIRST + 5, 3)
        table = Fetched()
        table[TP_3] = FetchResult(TP_3, assignment=assignment, partition_records=fetched(content, FIRST), backoff=0.1)
        return [len(part) for part in table[TP_3].getall(None)], assignment.state_value(TP_3).position

    assert asyncio.run(take()) == ([5, 3], FIRST + 8)


def test_a_slice_stands_at_its_last_record():
    records = [record for part in Batches(fetched(batch(FIRST, 5), FIRST)) for record in part]
    it = Slice(TP("meter.reads", 3), records)
    assert (it.topic, it.partition, it.offset, it.timestamp) == ("meter.reads", 3, FIRST + 4, 1_700_000_000_004)


def test_what_has_its_share_waiting_is_not_fetched_and_keeps_no_other_away(monkeypatch):
    monkeypatch.setattr(worker, "ROOM_SECONDS", 0.01)
    share = worker.WAITING_BYTES // 10  # of five topics in two parts

    async def ask(reads: int, payments: int) -> set[TP]:
        it = Worker(Settings(), Metrics())
        waiting = {"meter.reads": reads, "payments": payments}
        it.parts = {3: SimpleNamespace(waiting_bytes=waiting), 4: SimpleNamespace()}  # type: ignore[dict-item]
        return await it.room([TP("meter.reads", 3), TP("payments", 3)])

    assert asyncio.run(ask(share, share)) == {TP("meter.reads", 3), TP("payments", 3)}
    assert asyncio.run(ask(100 * share, 0)) == {TP("payments", 3)}
    assert asyncio.run(ask(share + 1, share + 1)) == set()

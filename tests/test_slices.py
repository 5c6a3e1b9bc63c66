"""Fetches come in slices with the records that aiokafka itself would give, and only while there is capacity."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import faust.transport.drivers.aiokafka
import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from streams.kafka import slices, worker
from streams.kafka.fetched import Fetch, FetchedBytes
from streams.kafka.metrics import Metrics
from streams.kafka.records import FetchedRange
from streams.kafka.slices import Slice, Table
from streams.kafka.worker import Worker
from streams.settings import Settings
from tests.test_fetched import FIRST_OFFSET, TP_3, batch, marker, shown

TP_1, TP_2 = TP("meter.reads", 1), TP("meter.reads", 2)


@pytest.mark.parametrize("offset", [FIRST_OFFSET, FIRST_OFFSET + 2, FIRST_OFFSET + 5])
def test_span_has_the_same_records_as_aiokafka(offset):
    content = batch(FIRST_OFFSET, 5) + batch(FIRST_OFFSET + 5, 3)
    usual = PartitionRecords(
        TP_3, MemoryRecords(content), None, offset, None, None, True, 0
    )
    expected = [shown(record) for record in usual]
    fetch = Fetch(TP_3, FetchedBytes(content), None, offset, None, None, True, 0)
    span = fetch.fetched_range()

    assert [shown(record) for record in span.records] == expected
    assert len(expected) == FIRST_OFFSET + 8 - offset
    assert span.begins == offset
    assert (
        span.ends
        == fetch.next_fetch_offset
        == usual.next_fetch_offset
        == FIRST_OFFSET + 8
    )


@pytest.mark.parametrize(
    ("content", "offsets"),
    [
        (
            batch(FIRST_OFFSET, 5) + batch(FIRST_OFFSET + 5, 3),
            [*range(FIRST_OFFSET, FIRST_OFFSET + 8)],
        ),
        (
            batch(FIRST_OFFSET, 5) + batch(FIRST_OFFSET + 5, 3)[:-1],
            [*range(FIRST_OFFSET, FIRST_OFFSET + 5)],
        ),
        (
            marker(FIRST_OFFSET, 7, commit=True)
            + marker(FIRST_OFFSET + 1, 7, commit=False),
            [],
        ),
    ],
)
def test_a_fetch_is_taken_as_a_span_and_moves_the_position(content, offsets):
    async def take() -> tuple[list[FetchedRange], int]:
        assignment = Assignment([TP_3])
        assignment.state_value(TP_3).reset_to(FIRST_OFFSET)
        fetch = Fetch(
            TP_3, FetchedBytes(content), None, FIRST_OFFSET, None, None, True, 1
        )
        table = Table()
        table[TP_3] = FetchResult(
            TP_3, assignment=assignment, partition_records=fetch, backoff=0.1
        )
        return table[TP_3].getall(None), assignment.state_value(TP_3).position

    (span,), position = asyncio.run(take())
    assert [record.offset for record in span.records] == offsets
    assert (span.begins, span.ends, position) == (
        FIRST_OFFSET,
        FIRST_OFFSET + (len(offsets) or 2),
        FIRST_OFFSET + (len(offsets) or 2),
    )


def test_slice_has_its_last_offset():
    span = Fetch(
        TP_3,
        FetchedBytes(batch(FIRST_OFFSET, 5)),
        None,
        FIRST_OFFSET,
        None,
        None,
        True,
        0,
    ).fetched_range()
    part_of_state = Slice(TP("meter.reads", 3), span)

    assert (
        part_of_state.topic,
        part_of_state.partition,
        part_of_state.offset,
        part_of_state.timestamp,
    ) == (
        "meter.reads",
        3,
        FIRST_OFFSET + 4,
        1_700_000_000_004,
    )

    part_of_state = Slice(
        TP("meter.reads", 3), FetchedRange(FIRST_OFFSET, [], FIRST_OFFSET + 2)
    )
    assert (
        part_of_state.offset,
        part_of_state.timestamp,
        part_of_state.value.records,
    ) == (FIRST_OFFSET + 1, 0, [])


def test_partition_with_a_full_share_is_not_fetched_and_blocks_no_other(monkeypatch):
    monkeypatch.setattr(worker, "CAPACITY_SECONDS", 0.01)
    share = worker.WAITING_BYTES // 10  # five topics in two partitions

    async def ask(reads: int, payments: int) -> set[TP]:
        fetcher = Worker(Settings(), Metrics())
        waiting = {"meter.reads": reads, "payments": payments}
        backlog = SimpleNamespace(waiting_bytes=waiting)
        partition: Any = SimpleNamespace(backlog=backlog)
        empty: Any = SimpleNamespace()
        fetcher.holdings.partitions = {3: partition, 4: empty}
        return await fetcher.with_capacity([TP("meter.reads", 3), TP("payments", 3)])

    assert asyncio.run(ask(share, share)) == {TP("meter.reads", 3), TP("payments", 3)}
    assert asyncio.run(ask(100 * share, 0)) == {TP("payments", 3)}
    assert asyncio.run(ask(share + 1, share + 1)) == set()


@pytest.mark.parametrize(
    ("wanted", "longest"), [({TP_1}, slices.FULL_WAIT_SECONDS), ({TP_1, TP_2}, 1.0)]
)
def test_partitions_with_capacity_are_not_waited_for_while_others_have_none(
    monkeypatch, wanted, longest
):
    waits = []

    async def getmany(_, partitions, timeout):  # noqa: ASYNC109 - as Faust has it
        waits.append((partitions, timeout))
        return {}

    async def with_capacity(partitions):
        return wanted

    monkeypatch.setattr(faust.transport.drivers.aiokafka.Consumer, "_getmany", getmany)
    consumer = object.__new__(slices.Consumer)
    vars(consumer).update(
        app=SimpleNamespace(with_capacity=with_capacity), _positions={}
    )
    asyncio.run(consumer._getmany({TP_1, TP_2}, 1.0))
    assert waits == [(wanted, longest)]


def test_master_data_come_before_other_records_of_a_fetch(monkeypatch):
    registry = [TP("registry", number) for number in (2, 5)]

    async def getmany(*_):
        return {
            tp: [FetchedRange(0, [], 1)]
            for tp in (TP_1, registry[1], TP_2, registry[0])
        }

    async def with_capacity(partitions):
        return partitions

    monkeypatch.setattr(faust.transport.drivers.aiokafka.Consumer, "_getmany", getmany)
    consumer = object.__new__(slices.Consumer)
    app = SimpleNamespace(with_capacity=with_capacity, first=registry.__contains__)
    vars(consumer).update(app=app, _positions={})
    fetched = asyncio.run(consumer._getmany({TP_1, TP_2, *registry}, 1.0))
    scheduler = slices.InOrder()  # type: ignore[abstract]  # Faust declares its constructor so

    assert [tp for tp, _ in scheduler.iterate(fetched)] == [
        registry[1],
        registry[0],
        TP_1,
        TP_2,
    ]

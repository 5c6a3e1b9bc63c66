"""A partition takes every record once and in order, whatever Faust hands over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from models.timelines.base import PORTION_ITEMS
from schemas.columns import Readings, Stages
from schemas.topics import EVENTS_TOPIC, PAYMENTS_TOPIC, READS_TOPIC, WORKFLOW_TOPIC
from schemas.units import DAY_SECONDS
from streams.kafka.backlog import Chunk, GapError
from streams.kafka.checkpoints import PartitionProgress, WrittenCheckpoint
from streams.kafka.paces import STEP_SECONDS
from streams.kafka.partitions import (
    AWAIT_SECONDS,
    Partition,
)
from streams.kafka.records import FetchedRange

START_TIME = 1_772_380_800


def new_partition(meters: int = 1_000) -> Partition:
    partition = Partition(3, Engine(), {}, WrittenCheckpoint())
    for k in range(meters):
        partition.engine.indexes.meters.slot("A1", f"M{k}")
    partition.start(READS_TOPIC, 100)
    for topic in (EVENTS_TOPIC, PAYMENTS_TOPIC, WORKFLOW_TOPIC):
        partition.start(topic, 0)
    return partition


def taken(partition: Partition) -> Chunk:
    chunk = partition.next_chunk()
    assert chunk
    return chunk


def records(first, last):
    return span_of(first, ((900 + offset) * 1000 for offset in range(first, last)))


def span_of(first, timestamps, ends=None):
    """Records from an offset on, received at these milliseconds, in a span to their end or beyond."""
    at = enumerate(timestamps, first)
    records: list[Any] = [
        SimpleNamespace(offset=offset, key=b"", value=b"x" * 10, timestamp=received)
        for offset, received in at
    ]
    return FetchedRange(first, records, first + len(records) if ends is None else ends)


@given(st.lists(st.tuples(st.integers(90, 130), st.integers(1, 20)), max_size=30))
def test_every_record_enters_the_backlog_once_and_in_order(slices):
    partition, offsets = new_partition(), []
    for first, count in slices:
        due = partition.enqueued[READS_TOPIC]
        try:
            partition.enqueue(READS_TOPIC, records(first, first + count), None)
        except GapError:
            assert first > due

    while chunk := partition.next_chunk():
        offsets += [record.offset for record in chunk.records]
        partition.finish_chunk(chunk, len(chunk.records))
    assert offsets == list(range(100, 100 + len(offsets)))
    assert (
        partition.judged[READS_TOPIC]
        == partition.enqueued[READS_TOPIC]
        == 100 + len(offsets)
    )
    assert not any(partition.backlog.waiting_bytes.values())


def test_dropped_backlog_is_read_again_from_the_judged_offset():
    partition = new_partition()
    partition.enqueue(READS_TOPIC, records(100, 110), None)
    partition.finish_chunk(taken(partition), 10)
    partition.enqueue(READS_TOPIC, records(110, 120), None)
    partition.drop()
    assert partition.next_chunk() is None
    assert partition.enqueued[READS_TOPIC] == 110


def test_chunk_joins_arrived_records_up_to_one_step():
    partition = new_partition()
    for k in range(100, 200, 10):
        partition.enqueue(READS_TOPIC, records(k, k + 10), None)
    assert len(taken(partition).arrivals) == 10
    for k in range(200, 300, 10):
        partition.enqueue(READS_TOPIC, records(k, k + 10), None)
    # very many rows in very few bytes
    partition.finish_chunk(chunk := taken(partition), 100_000)
    assert len(chunk.arrivals) == 10
    for k in range(300, 400, 10):
        partition.enqueue(READS_TOPIC, records(k, k + 10), None)
    assert len(taken(partition).arrivals) == 2


def judge_whole_chunk(partition: Partition, rows: int) -> None:
    """Takes a chunk of `rows` rows, and judges it to its end."""
    partition.enqueue(
        READS_TOPIC,
        records(partition.enqueued[READS_TOPIC], partition.enqueued[READS_TOPIC] + 1),
        None,
    )
    partition.begin(
        taken(partition),
        Readings.build(["M1"], [0] * rows, ["A1"], [0] * rows, range(rows)),
    )
    while hand := partition.in_hand:
        partition.note_judged(hand, partition.judge(hand))


def test_a_step_of_a_slow_history_is_short(monkeypatch):
    partition = new_partition()
    clock = [0.0]
    steps = []

    def step(batch):
        clock[0] += len(batch) / 250  # rows a second
        steps.append(batch.at.tolist())
        return []

    monkeypatch.setattr("streams.kafka.partitions.time.thread_time", lambda: clock[0])
    monkeypatch.setattr(partition.engine, "step", step)
    judge_whole_chunk(partition, 400)
    assert len(steps[0]) == 100
    assert max(map(len, steps[1:])) == 25
    assert [row for at in steps for row in at] == list(range(400))
    assert (partition.judged[READS_TOPIC], partition.begun[READS_TOPIC]) == (101, 0)


def test_topic_of_few_slow_rows_leaves_the_steps_of_others_whole(monkeypatch):
    partition = new_partition()
    clock = [0.0]
    steps = []

    def step(batch):
        clock[0] += 0.004 + len(batch) / 100_000
        steps.append((batch.kind, len(batch)))
        return []

    monkeypatch.setattr("streams.kafka.partitions.time.thread_time", lambda: clock[0])
    monkeypatch.setattr(partition.engine, "step", step)
    for _ in range(2):
        judge_whole_chunk(partition, 8_000)
    steps.clear()
    partition.enqueue(WORKFLOW_TOPIC, span_of(0, [0]), None)
    partition.begin(
        taken(partition), Stages.build(["W1"], [0], ["S1"], [0], [0], stages=["s"])
    )

    assert partition.in_hand

    partition.note_judged(partition.in_hand, partition.judge(partition.in_hand))
    judge_whole_chunk(partition, 8_000)
    assert steps == [("stages", 1), ("readings", 8_000)]


@pytest.mark.parametrize("records_again", [1, 2])
def test_records_contained_beyond_the_offsets_are_not_judged_again(
    monkeypatch, records_again
):
    """The rows that follow the offsets may come again in one chunk or in several."""
    steps: list[int] = []

    def step(batch):
        steps.extend(batch.at.tolist())
        return []

    monkeypatch.setattr(Engine, "step", lambda _, batch: step(batch))
    first = new_partition()
    first.enqueue(READS_TOPIC, records(100, 102), None)
    first.begin(
        taken(first), Readings.build(["M1"], [0] * 6, ["A1"], [0] * 6, range(6))
    )
    first.paces._known[READS_TOPIC] = 4 / STEP_SECONDS

    assert first.in_hand

    first.note_judged(first.in_hand, first.judge(first.in_hand))
    assert (first.judged[READS_TOPIC], first.begun[READS_TOPIC]) == (100, 4)

    second = Partition(
        3,
        Engine(),
        first.judged,
        WrittenCheckpoint(),
        progress=PartitionProgress(first.begun, first.paces.by_topic()),
    )
    second.start(READS_TOPIC, 100)

    for offset in range(100, 102, 2 // records_again):
        second.enqueue(READS_TOPIC, records(offset, offset + 2 // records_again), None)
        rows = range(6)[(offset - 100) * 3 :][: 6 // records_again]
        second.begin(
            taken(second),
            Readings.build(["M1"], [0] * len(rows), ["A1"], [0] * len(rows), rows),
        )
        while hand := second.in_hand:
            second.note_judged(hand, second.judge(hand))

    assert steps == [0, 1, 2, 3, 4, 5]
    assert (second.judged[READS_TOPIC], second.begun[READS_TOPIC]) == (102, 0)


def order(partition: Partition) -> list[tuple[str, list[int]]]:
    """Topics and offsets in the order in which they are taken."""
    return [
        (chunk.topic, [record.offset for record in chunk.records])
        for chunk in iter(partition.next_chunk, None)
    ]


def test_earliest_record_is_judged_first_and_events_before_readings_of_the_same_time():
    partition = new_partition()
    partition.enqueue(EVENTS_TOPIC, span_of(0, [100, 200, 900]), None)
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [150, 950]), None)
    partition.enqueue(READS_TOPIC, span_of(100, [200, 300]), None)
    partition.enqueue(READS_TOPIC, span_of(102, [400]), None)
    assert order(partition) == [
        (EVENTS_TOPIC, [0]),
        (PAYMENTS_TOPIC, [0]),
        (EVENTS_TOPIC, [1]),
        (READS_TOPIC, [100, 101, 102]),
        (EVENTS_TOPIC, [2]),
        (PAYMENTS_TOPIC, [1]),
    ]
    assert not any(partition.backlog.waiting_bytes.values())


def test_other_topics_overtake_one_another_by_an_hour_at_most_up_to_the_next_reading():
    partition = new_partition()
    partition.backlog._row_bytes |= dict.fromkeys(
        (EVENTS_TOPIC, PAYMENTS_TOPIC, WORKFLOW_TOPIC), 10.0
    )
    partition.engine.counts["readings", "in", ""] = 100_000
    # two in an hour
    partition.engine.counts["events", "in", ""] = partition.engine.counts[
        "payments", "in", ""
    ] = 50
    partition.enqueue(EVENTS_TOPIC, span_of(0, [100, 110, 300, 310, 320, 330]), None)
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [150, 200, 700]), None)
    partition.enqueue(WORKFLOW_TOPIC, span_of(0, [200, 340]), None)
    partition.enqueue(READS_TOPIC, span_of(100, [400, 500]), None)

    assert order(partition) == [
        (EVENTS_TOPIC, [0, 1, 2, 3]),
        (PAYMENTS_TOPIC, [0, 1]),
        (WORKFLOW_TOPIC, [0]),
        (EVENTS_TOPIC, [4, 5]),
        (WORKFLOW_TOPIC, [1]),
        (READS_TOPIC, [100, 101]),
        (PAYMENTS_TOPIC, [2]),
    ]


def test_readings_go_ahead_of_others_by_an_hour_at_most():
    partition = new_partition(meters=2)
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [115]), None)
    partition.enqueue(READS_TOPIC, span_of(100, range(100, 200)), None)
    partition.backlog._row_bytes[READS_TOPIC] = 10
    assert order(partition) == [
        (READS_TOPIC, [*range(100, 108)]),
        (READS_TOPIC, [*range(108, 116)]),
        (PAYMENTS_TOPIC, [0]),
        (READS_TOPIC, [*range(116, 200)]),
    ]


def test_only_the_last_of_a_slice_acknowledges_it():
    partition = new_partition(meters=30)
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [300]), None)
    for first in (100, 300):
        partition.enqueue(READS_TOPIC, span_of(first, range(200)), f"to {first + 200}")
    partition.backlog._row_bytes[READS_TOPIC] = 10

    acknowledged = []
    while chunk := partition.next_chunk():
        partition.finish_chunk(chunk, len(chunk.records))
        acknowledged.append(
            (partition.judged[READS_TOPIC], partition.last_events.get(READS_TOPIC))
        )

    assert acknowledged == [
        (220, None),
        (340, "to 300"),
        (460, "to 300"),
        (500, "to 500"),
        (500, "to 500"),
    ]


def test_nothing_is_judged_while_an_earlier_record_may_be_in_flight():
    partition = new_partition()
    partition.note_ends({READS_TOPIC: 103, PAYMENTS_TOPIC: 2})
    partition.enqueue(READS_TOPIC, span_of(100, [300]), None)
    assert partition.next_chunk() is None
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [100]), None)
    assert order(partition) == [(PAYMENTS_TOPIC, [0])]
    partition.enqueue(PAYMENTS_TOPIC, span_of(1, [200]), None)
    assert order(partition) == [(PAYMENTS_TOPIC, [1]), (READS_TOPIC, [100])]


def test_missing_record_is_not_awaited_for_ever(monkeypatch):
    partition, now = new_partition(), 1000.0
    monkeypatch.setattr(
        "streams.kafka.partitions.time",
        SimpleNamespace(monotonic=lambda: now, time=lambda: now),
    )
    partition.note_ends({READS_TOPIC: 101, PAYMENTS_TOPIC: 1})  # deleted meanwhile
    partition.enqueue(READS_TOPIC, span_of(100, [300]), None)
    assert partition.next_chunk() is None
    now += AWAIT_SECONDS
    assert taken(partition).topic == READS_TOPIC
    partition.enqueue(READS_TOPIC, span_of(101, [400]), None)
    assert taken(partition).topic == READS_TOPIC


def test_records_larger_than_a_chunk_and_empty_ones_after_them_are_taken():
    partition = new_partition(meters=0)
    partition.enqueue(PAYMENTS_TOPIC, span_of(0, [100]), None)
    partition.enqueue(READS_TOPIC, span_of(100, [50]), None)
    partition.enqueue(
        READS_TOPIC,
        FetchedRange(
            101, [SimpleNamespace(offset=101, key=b"", value=None, timestamp=60)], 102
        ),
        None,
    )
    assert order(partition) == [(READS_TOPIC, [100, 101]), (PAYMENTS_TOPIC, [0])]


def test_a_span_without_records_is_taken_at_once_and_acknowledges_what_it_covers():
    partition = new_partition()
    partition.note_ends({READS_TOPIC: 103, EVENTS_TOPIC: 2, PAYMENTS_TOPIC: 1})
    partition.enqueue(READS_TOPIC, span_of(100, [300]), "to 101")
    partition.enqueue(READS_TOPIC, FetchedRange(101, [], 103), "to 103")
    partition.enqueue(EVENTS_TOPIC, FetchedRange(0, [], 2), "to 2")
    while chunk := partition.next_chunk():
        partition.finish_chunk(chunk, len(chunk.records))

    # payments are awaited
    assert (partition.judged[EVENTS_TOPIC], partition.last_events) == (
        2,
        {EVENTS_TOPIC: "to 2"},
    )

    partition.enqueue(PAYMENTS_TOPIC, FetchedRange(0, [], 1), None)
    while chunk := partition.next_chunk():
        partition.finish_chunk(chunk, len(chunk.records))
    assert (
        partition.note_ends({READS_TOPIC: 103, EVENTS_TOPIC: 2, PAYMENTS_TOPIC: 1}) == 0
    )
    assert not any(partition.lags.values())
    assert partition.last_events[READS_TOPIC] == "to 103"


def test_records_in_an_open_transaction_lag_and_are_no_standstill(monkeypatch):
    partition = new_partition()
    now = 1000.0
    monkeypatch.setattr(
        "streams.kafka.partitions.time",
        SimpleNamespace(monotonic=lambda: now, time=lambda: now),
    )
    assert partition.note_ends({READS_TOPIC: 100}, {READS_TOPIC: 104}) == 0
    now += 500
    assert partition.note_ends({READS_TOPIC: 100}, {READS_TOPIC: 104}) == 0
    assert partition.lags == {READS_TOPIC: 4}
    assert not partition.awaits
    now += 5
    assert partition.note_ends({READS_TOPIC: 104}, {READS_TOPIC: 104}) == 5


def test_settled_partition_has_judged_everything_its_last_owner_published():
    partition = new_partition()
    partition.resume({READS_TOPIC: 101, EVENTS_TOPIC: 0}, alerts_end=7, until=2_000)
    assert partition.agreed == 7
    partition.enqueue(READS_TOPIC, span_of(100, [300]), None)
    partition.ticked = 2_000
    assert not partition.settled
    partition.finish_chunk(taken(partition), 1)
    assert partition.settled
    partition.resume({READS_TOPIC: 101, EVENTS_TOPIC: 0}, alerts_end=9, until=2_001)
    assert not partition.settled  # a timer may have fired meanwhile
    partition.note_checkpoint(WrittenCheckpoint(agreed=5), {}, {})
    partition.resume({READS_TOPIC: 101}, alerts_end=9, until=0)
    assert (partition.settled, partition.agreed) == (True, 5)


def test_standing_still_before_waiting_records_is_noticed(monkeypatch):
    partition = new_partition()
    now = 1000.0
    monkeypatch.setattr(
        "streams.kafka.partitions.time",
        SimpleNamespace(monotonic=lambda: now, time=lambda: now),
    )
    assert partition.note_ends({READS_TOPIC: 100}) == 0
    now += 50
    assert partition.note_ends({READS_TOPIC: 105}) == 50
    partition.judged[READS_TOPIC] += 1
    assert partition.note_ends({READS_TOPIC: 105}) == 0
    now += 7
    assert partition.note_ends({READS_TOPIC: 105}) == 7
    assert partition.note_ends({READS_TOPIC: 101}) == 0


def test_time_passes_by_itself_no_further_than_a_topic_that_lags():
    partition = new_partition()
    assert partition.time_bound(2_000) == 0  # not checked yet

    partition.note_ends({READS_TOPIC: 100, EVENTS_TOPIC: 0})
    assert partition.time_bound(2_000) == 2_000

    partition.note_ends({READS_TOPIC: 105, EVENTS_TOPIC: 0})
    assert partition.time_bound(2_000) == 0

    partition.enqueue(READS_TOPIC, records(100, 110), None)
    partition.finish_chunk(taken(partition), 10)
    assert partition.time_bound(2_000) == 1_009
    assert partition.time_bound(1_000) == 1_000

    partition.note_ends({READS_TOPIC: 110, EVENTS_TOPIC: 0})
    assert partition.time_bound(2_000) == 2_000

    partition.enqueue(READS_TOPIC, records(110, 111), None)  # arrived since
    assert partition.time_bound(2_000) == 1_009

    partition.drop()
    assert partition.time_bound(2_000) == 0


def test_gap_error_names_topic_partition_and_offsets():
    with pytest.raises(
        GapError, match="`meter.reads`, partition 3: 105 came, 100 was due"
    ):
        new_partition().enqueue(READS_TOPIC, records(105, 106), None)


def test_time_passes_in_portions_after_a_long_silence():
    """If many items fall due each minute, one call handles about PORTION_ITEMS of them."""
    partition, count = new_partition(), 3 * PORTION_ITEMS
    alerts = partition.engine.step(
        Stages.build(
            [f"W{n}" for n in range(count)],
            range(count),
            ["S1"],
            [0] * count,
            [START_TIME + 10 * n for n in range(count)],
            stages=["review"],
            stage=[0] * count,
            limit=[DAY_SECONDS] * count,
        )
    )
    now = START_TIME + 30 * DAY_SECONDS
    times = []
    raised = 0

    assert not alerts

    partition.note_checkpoint(WrittenCheckpoint(), partition.judged, partition.begun)
    while partition.ticked < now:
        alerts = partition.tick(now)
        raised += sum(
            (alert.rule, alert.change) == ("stage_overdue", "raised")
            and bool(alert.subject)
            for alert in alerts
        )
        times.append(partition.ticked)

    assert raised == count
    assert len(times) > 6  # each item passes several marks
    assert times == sorted(times)
    assert partition.unsaved  # a checkpoint is due though no record was judged

    partition.note_checkpoint(WrittenCheckpoint(), partition.judged, partition.begun)
    partition.tick(now + 1)
    assert not partition.unsaved

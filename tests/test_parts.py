"""A part files every record once and in order, whatever Faust hands over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from models.deadlines import PORTION_ITEMS
from schemas.columns import Readings, Stages
from streams.checkpoints import Written
from streams.fetched import Span
from streams.parts import AWAITED, STEP_SECONDS, Chunk, GapError, Part, Progress
from streams.topics import EVENTS, PAYMENTS, READS, WORKFLOW

START, DAY = 1_772_380_800, 86_400


def part(meters: int = 1_000) -> Part:
    part = Part(3, Engine(), {}, Written())
    for k in range(meters):
        part.engine.meter_index.slot("A1", f"M{k}")
    part.start(READS, 100)
    for topic in (EVENTS, PAYMENTS, WORKFLOW):
        part.start(topic, 0)
    return part


def taken(it: Part) -> Chunk:
    chunk = it.take()
    assert chunk
    return chunk


def records(first, last):
    return came(first, ((900 + offset) * 1000 for offset in range(first, last)))


def came(first, timestamps, ends=None):
    """Records from an offset on that came at these milliseconds, in a span to their end or behind it."""
    at = enumerate(timestamps, first)
    them: list[Any] = [SimpleNamespace(offset=place, key=b"", value=b"x" * 10, timestamp=came) for place, came in at]
    return Span(first, them, first + len(them) if ends is None else ends)


@given(st.lists(st.tuples(st.integers(90, 130), st.integers(1, 20)), max_size=30))
def test_every_record_is_filed_once_and_in_order(slices):
    it, filed = part(), []
    for first, count in slices:
        due = it.filed[READS]
        try:
            it.file(READS, records(first, first + count), None)
        except GapError:
            assert first > due
    while chunk := it.take():
        filed += [record.offset for record in chunk.records]
        it.done(chunk, len(chunk.records))
    assert filed == list(range(100, 100 + len(filed)))
    assert it.judged[READS] == it.filed[READS] == 100 + len(filed)
    assert not any(it.waiting_bytes.values())


def test_dropped_it_is_read_again_from_what_is_judged():
    it = part()
    it.file(READS, records(100, 110), None)
    it.done(taken(it), 10)
    it.file(READS, records(110, 120), None)
    it.drop()
    assert it.take() is None
    assert it.filed[READS] == 110


def test_a_chunk_joins_what_has_arrived_up_to_a_step():
    it = part()
    for k in range(100, 200, 10):
        it.file(READS, records(k, k + 10), None)
    assert len(taken(it).arrivals) == 10
    for k in range(200, 300, 10):
        it.file(READS, records(k, k + 10), None)
    it.done(chunk := taken(it), 100_000)  # so many rows in so few bytes
    assert len(chunk.arrivals) == 10
    for k in range(300, 400, 10):
        it.file(READS, records(k, k + 10), None)
    assert len(taken(it).arrivals) == 2


def judged_in_pieces(it: Part, rows: int) -> None:
    """Takes a chunk of so many rows in hand, and judges it to its end."""
    it.file(READS, records(it.filed[READS], it.filed[READS] + 1), None)
    it.begin(taken(it), Readings.build(["M1"], [0] * rows, ["A1"], [0] * rows, range(rows)))
    while hand := it.in_hand:
        it.contain(hand, it.judge(hand))


def test_a_step_of_a_slow_history_is_short(monkeypatch):
    it, clock, steps = part(), [0.0], []

    def step(batch):
        clock[0] += len(batch) / 250  # rows a second
        steps.append(batch.at.tolist())
        return []

    monkeypatch.setattr("streams.parts.time.thread_time", lambda: clock[0])
    monkeypatch.setattr(it.engine, "step", step)
    judged_in_pieces(it, 400)
    assert len(steps[0]) == 100
    assert max(map(len, steps[1:])) == 25
    assert [row for at in steps for row in at] == list(range(400))
    assert (it.judged[READS], it.begun[READS]) == (101, 0)


def test_a_topic_of_few_slow_rows_makes_no_pieces_of_the_others(monkeypatch):
    it, clock, steps = part(), [0.0], []

    def step(batch):
        clock[0] += 0.004 + len(batch) / 100_000
        steps.append((batch.kind, len(batch)))
        return []

    monkeypatch.setattr("streams.parts.time.thread_time", lambda: clock[0])
    monkeypatch.setattr(it.engine, "step", step)
    for _ in range(2):
        judged_in_pieces(it, 8_000)
    steps.clear()
    it.file(WORKFLOW, came(0, [0]), None)
    it.begin(taken(it), Stages.build(["W1"], [0], ["S1"], [0], [0], stages=["s"]))
    assert it.in_hand
    it.contain(it.in_hand, it.judge(it.in_hand))
    judged_in_pieces(it, 8_000)
    assert steps == [("stages", 1), ("readings", 8_000)]


@pytest.mark.parametrize("records_again", [1, 2])
def test_what_is_contained_beyond_the_offsets_is_not_judged_again(monkeypatch, records_again):
    """However the rows that follow the offsets come the next time: in one chunk or in several."""
    steps: list[int] = []

    def step(batch):
        steps.extend(batch.at.tolist())
        return []

    monkeypatch.setattr(Engine, "step", lambda _, batch: step(batch))
    first = part()
    first.file(READS, records(100, 102), None)
    first.begin(taken(first), Readings.build(["M1"], [0] * 6, ["A1"], [0] * 6, range(6)))
    first._paces[READS] = 4 / STEP_SECONDS
    assert first.in_hand
    first.contain(first.in_hand, first.judge(first.in_hand))
    assert (first.judged[READS], first.begun[READS]) == (100, 4)

    second = Part(3, Engine(), first.judged, Written(), progress=Progress(first.begun, first.paces))
    second.start(READS, 100)
    for offset in range(100, 102, 2 // records_again):
        second.file(READS, records(offset, offset + 2 // records_again), None)
        rows = range(6)[(offset - 100) * 3 :][: 6 // records_again]
        second.begin(taken(second), Readings.build(["M1"], [0] * len(rows), ["A1"], [0] * len(rows), rows))
        while hand := second.in_hand:
            second.contain(hand, second.judge(hand))
    assert steps == [0, 1, 2, 3, 4, 5]
    assert (second.judged[READS], second.begun[READS]) == (102, 0)


def order(it: Part) -> list[tuple[str, list[int]]]:
    """What is taken until nothing is left: topics and offsets."""
    return [(chunk.topic, [record.offset for record in chunk.records]) for chunk in iter(it.take, None)]


def test_what_came_first_is_judged_first_and_events_before_readings_that_came_at_once():
    it = part()
    it.file(EVENTS, came(0, [100, 200, 900]), None)
    it.file(PAYMENTS, came(0, [150, 950]), None)
    it.file(READS, came(100, [200, 300]), None)
    it.file(READS, came(102, [400]), None)
    assert order(it) == [
        (EVENTS, [0]), (PAYMENTS, [0]), (EVENTS, [1]), (READS, [100, 101, 102]), (EVENTS, [2]), (PAYMENTS, [1])
    ]  # fmt: skip
    assert not any(it.waiting_bytes.values())


def test_others_go_ahead_of_one_another_up_to_the_next_reading_by_what_comes_in_an_hour():
    it = part()
    it._row_bytes |= dict.fromkeys((EVENTS, PAYMENTS, WORKFLOW), 10.0)
    it.engine.counts["readings", "in", ""] = 100_000
    it.engine.counts["events", "in", ""] = it.engine.counts["payments", "in", ""] = 50  # two in an hour
    it.file(EVENTS, came(0, [100, 110, 300, 310, 320, 330]), None)
    it.file(PAYMENTS, came(0, [150, 200, 700]), None)
    it.file(WORKFLOW, came(0, [200, 340]), None)
    it.file(READS, came(100, [400, 500]), None)
    assert order(it) == [
        (EVENTS, [0, 1, 2, 3]), (PAYMENTS, [0, 1]), (WORKFLOW, [0]), (EVENTS, [4, 5]), (WORKFLOW, [1]),
        (READS, [100, 101]), (PAYMENTS, [2]),
    ]  # fmt: skip


def test_readings_go_ahead_of_others_by_an_hour_at_most():
    it = part(meters=2)
    it.file(PAYMENTS, came(0, [115]), None)
    it.file(READS, came(100, range(100, 200)), None)
    it._row_bytes[READS] = 10
    assert order(it) == [
        (READS, [*range(100, 108)]), (READS, [*range(108, 116)]), (PAYMENTS, [0]), (READS, [*range(116, 200)])
    ]  # fmt: skip


def test_only_the_last_of_a_slice_acknowledges_it():
    it = part(meters=30)
    it.file(PAYMENTS, came(0, [300]), None)
    for first in (100, 300):
        it.file(READS, came(first, range(200)), f"to {first + 200}")
    it._row_bytes[READS] = 10
    acknowledged = []
    while chunk := it.take():
        it.done(chunk, len(chunk.records))
        acknowledged.append((it.judged[READS], it.last_events.get(READS)))
    assert acknowledged == [(220, None), (340, "to 300"), (460, "to 300"), (500, "to 500"), (500, "to 500")]


def test_nothing_is_judged_while_what_may_have_come_before_is_still_to_be_fetched():
    it = part()
    it.look({READS: 103, PAYMENTS: 2})
    it.file(READS, came(100, [300]), None)
    assert it.take() is None
    it.file(PAYMENTS, came(0, [100]), None)
    assert order(it) == [(PAYMENTS, [0])]
    it.file(PAYMENTS, came(1, [200]), None)
    assert order(it) == [(PAYMENTS, [1]), (READS, [100])]


def test_what_does_not_come_keeps_nobody_waiting_for_ever(monkeypatch):
    it, now = part(), 1000.0
    monkeypatch.setattr("streams.parts.time", SimpleNamespace(monotonic=lambda: now))
    it.look({READS: 101, PAYMENTS: 1})  # deleted meanwhile
    it.file(READS, came(100, [300]), None)
    assert it.take() is None
    now += AWAITED
    assert taken(it).topic == READS
    it.file(READS, came(101, [400]), None)
    assert taken(it).topic == READS


def test_records_larger_than_a_chunk_and_empty_ones_after_them_are_taken():
    it = part(meters=0)
    it.file(PAYMENTS, came(0, [100]), None)
    it.file(READS, came(100, [50]), None)
    it.file(READS, Span(101, [SimpleNamespace(offset=101, key=b"", value=None, timestamp=60)], 102), None)
    assert order(it) == [(READS, [100, 101]), (PAYMENTS, [0])]


def test_a_span_without_records_is_taken_at_once_and_acknowledges_what_it_covers():
    it = part()
    it.look({READS: 103, EVENTS: 2, PAYMENTS: 1})
    it.file(READS, came(100, [300]), "to 101")
    it.file(READS, Span(101, [], 103), "to 103")
    it.file(EVENTS, Span(0, [], 2), "to 2")
    while chunk := it.take():
        it.done(chunk, len(chunk.records))
    assert (it.judged[EVENTS], it.last_events) == (2, {EVENTS: "to 2"})  # payments are awaited
    it.file(PAYMENTS, Span(0, [], 1), None)
    while chunk := it.take():
        it.done(chunk, len(chunk.records))
    assert it.look({READS: 103, EVENTS: 2, PAYMENTS: 1}) == 0
    assert not any(it.lags.values())
    assert it.last_events[READS] == "to 103"


def test_what_waits_for_the_end_of_a_transaction_lags_and_is_no_standstill(monkeypatch):
    it = part()
    now = 1000.0
    monkeypatch.setattr("streams.parts.time", SimpleNamespace(monotonic=lambda: now))
    assert it.look({READS: 100}, {READS: 104}) == 0
    now += 500
    assert it.look({READS: 100}, {READS: 104}) == 0
    assert it.lags == {READS: 4}
    assert not it.awaits
    now += 5
    assert it.look({READS: 104}, {READS: 104}) == 5


def test_settled_is_what_has_judged_all_that_another_may_have_told_of():
    it = part()
    it.resume({READS: 101, EVENTS: 0}, alerts=7, until=2_000)
    assert it.agreed == 7
    it.file(READS, came(100, [300]), None)
    it.ticked = 2_000
    assert not it.settled
    it.done(taken(it), 1)
    assert it.settled
    it.resume({READS: 101, EVENTS: 0}, alerts=9, until=2_001)
    assert not it.settled  # a timer may have fired meanwhile
    it.keep(Written(agreed=5), {}, {})
    it.resume({READS: 101}, alerts=9, until=0)
    assert (it.settled, it.agreed) == (True, 5)


def test_standing_still_before_waiting_records_is_noticed(monkeypatch):
    it = part()
    now = 1000.0
    monkeypatch.setattr("streams.parts.time", SimpleNamespace(monotonic=lambda: now))
    assert it.look({READS: 100}) == 0
    now += 50
    assert it.look({READS: 105}) == 50
    it.judged[READS] += 1
    assert it.look({READS: 105}) == 0
    now += 7
    assert it.look({READS: 105}) == 7
    assert it.look({READS: 101}) == 0


def test_time_passes_by_itself_no_further_than_a_topic_that_is_behind():
    it = part()
    assert it.clock(2_000) == 0  # nobody has looked yet
    it.look({READS: 100, EVENTS: 0})
    assert it.clock(2_000) == 2_000
    it.look({READS: 105, EVENTS: 0})
    assert it.clock(2_000) == 0
    it.file(READS, records(100, 110), None)
    it.done(taken(it), 10)
    assert it.clock(2_000) == 1_009
    assert it.clock(1_000) == 1_000
    it.look({READS: 110, EVENTS: 0})
    assert it.clock(2_000) == 2_000
    it.file(READS, records(110, 111), None)  # came since
    assert it.clock(2_000) == 1_009
    it.drop()
    assert it.clock(2_000) == 0


def test_a_gap_names_the_place():
    with pytest.raises(GapError, match="`meter.reads`, partition 3: 105 came, 100 was due"):
        part().file(READS, records(105, 106), None)


def test_time_passes_in_portions_after_a_long_silence():
    """Of many items that fall due each minute, about PORTION_ITEMS do so in one call."""
    it, count = part(), 3 * PORTION_ITEMS
    alerts = it.engine.step(Stages.build([f"W{n}" for n in range(count)], range(count), ["S1"], [0] * count,
                                         [START + 10 * n for n in range(count)], stages=["review"],
                                         stage=[0] * count, limit=[DAY] * count))  # fmt: skip
    now, times, raised = START + 30 * DAY, [], 0
    assert not alerts
    it.keep(Written(), it.judged, it.begun)
    while it.ticked < now:
        alerts = it.tick(now)
        raised += sum((a.rule, a.change) == ("stage_overdue", "raised") and bool(a.subject) for a in alerts)
        times.append(it.ticked)
    assert raised == count
    assert len(times) > 6  # each item passes several marks
    assert times == sorted(times)
    assert it.unsaved  # a checkpoint is due though no record was judged
    it.keep(Written(), it.judged, it.begun)
    it.tick(now + 1)
    assert not it.unsaved

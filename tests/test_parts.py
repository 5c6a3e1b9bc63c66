"""A part files every record once and in order, whatever Faust hands over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from schemas.columns import Readings
from streams.checkpoints import Written
from streams.parts import Chunk, GapError, Part
from streams.topics import EVENTS, READS


def part() -> Part:
    part = Part(3, Engine(), {}, Written())
    part.start(READS, 100)
    part.start(EVENTS, 0)
    return part


def taken(it: Part) -> Chunk:
    chunk = it.take()
    assert chunk
    return chunk


def records(first, last):
    return [
        SimpleNamespace(topic=READS, offset=offset, value=b"x" * 10, timestamp=(900 + offset) * 1000)
        for offset in range(first, last)
    ]


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
    assert it.waiting_bytes == 0


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


def test_a_step_of_a_slow_history_is_short(monkeypatch):
    it, clock, steps = part(), [0.0], []

    def step(batch):
        clock[0] += len(batch) / 250  # rows a second
        steps.append(batch.at.tolist())
        return []

    monkeypatch.setattr("streams.parts.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(it.engine, "step", step)
    assert len(list(it.pieces(Readings.build(["M1"], [0] * 1_000, ["A1"], [0] * 1_000, range(1_000))))) == len(steps)
    assert [len(at) for at in steps] == [500, 125, 125, 125, 125]
    assert [row for at in steps for row in at] == list(range(1_000))


def test_events_come_before_the_readings_they_may_mute():
    it = part()
    it.file(READS, records(100, 101), None)
    it.file(EVENTS, records(0, 1), None)
    assert [taken(it).topic, taken(it).topic] == [EVENTS, READS]


def test_standing_still_before_waiting_records_is_noticed(monkeypatch):
    it = part()
    now = 1000.0
    monkeypatch.setattr("streams.parts.time", SimpleNamespace(monotonic=lambda: now))
    assert it.look({READS: 0}) == 0
    now += 50
    assert it.look({READS: 5}) == 50
    it.judged[READS] += 1
    assert it.look({READS: 4}) == 0
    now += 7
    assert it.look({READS: 4}) == 7
    assert it.look({READS: 0}) == 0


def test_time_passes_by_itself_no_further_than_a_topic_that_is_behind():
    it = part()
    assert it.clock(2_000) == 0  # nobody has looked yet
    it.look({READS: 0, EVENTS: 0})
    assert it.clock(2_000) == 2_000
    it.look({READS: 5, EVENTS: 0})
    assert it.clock(2_000) == 0
    it.file(READS, records(100, 110), None)
    it.done(taken(it), 10)
    assert it.clock(2_000) == 1_009
    assert it.clock(1_000) == 1_000
    it.look({READS: 0, EVENTS: 0})
    assert it.clock(2_000) == 2_000
    it.file(READS, records(110, 111), None)  # came since
    assert it.clock(2_000) == 1_009
    it.drop()
    assert it.clock(2_000) == 0


def test_a_gap_names_the_place():
    with pytest.raises(GapError, match="`meter.reads`, partition 3: 105 came, 100 was due"):
        part().file(READS, records(105, 106), None)

"""A part: the engine of one partition number, shared by the topics that are keyed alike, and its place in each."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from detectors.engine import Engine
from detectors.rulebook import EMPTY_RULEBOOK
from schemas.alert import Alert
from schemas.columns import Batch, DeviceEvents, Mask, Payments, Readings, Stages
from schemas.rules import Rulebook
from streams.checkpoints import NO_MARKS, Mark, WrittenCheckpoint, mark_of
from streams.fetched import Damage, FetchedRange, Record
from streams.topics import (
    EVENTS_TOPIC,
    PAYMENTS_TOPIC,
    READS_TOPIC,
    REGISTRY_TOPIC,
    SOURCE_TOPICS,
    WORKFLOW_TOPIC,
)

AHEAD_SECONDS = 3600  # seconds of event time by which a topic may be judged before what came before it
AWAIT_SECONDS = 10.0  # seconds that a topic may keep the others waiting
STEP_ROWS = 20_000  # rows that a chunk holds, about
STEP_SECONDS = (
    0.1  # CPU that a step takes, about: what waits for the engine waits for a few
)
INITIAL_PACE = (
    1_000.0  # rows a second of CPU, until the part has seen how fast a topic goes
)
BYTES_PER_ROW = 50.0  # of a packed frame, until the part has seen what its topics carry
BATCH_TYPES: dict[str, type[Batch]] = {
    READS_TOPIC: Readings,
    EVENTS_TOPIC: DeviceEvents,
    PAYMENTS_TOPIC: Payments,
    WORKFLOW_TOPIC: Stages,
}


class GapError(Exception):
    """A slice begins after the offset that comes next."""


class Arrival(NamedTuple):
    """A slice that waits for judgement, with what acknowledges it; it may have no record."""

    records: list[Record]
    ends: int  # offset behind it
    size: int  # bytes
    event: Any  # Faust's, of its last record; None when that is not here

    def within(self, capacity: float, until: float) -> int:
        """How many of the first records have about so many bytes and came by so many Unix milliseconds."""
        count = (
            len(self.records)
            if self.size <= max(capacity, 0)
            else int(len(self.records) * capacity / self.size)
        )
        return (
            min(count, bisect_right(self.records, until, key=_receipt_ms))
            if until < inf
            else count
        )

    def split(self, count: int) -> tuple[Arrival, Arrival]:
        """The first so many records, and the others."""
        size, ends = self.size * count // len(self.records), self.records[count].offset
        rest = Arrival(self.records[count:], self.ends, self.size - size, self.event)
        return Arrival(self.records[:count], ends, size, None), rest


def _receipt_ms(record: Record) -> int:
    """When a record came, Unix milliseconds; 0 where that is not known."""
    return record.timestamp or 0


class Chunk(NamedTuple):
    """Arrivals of one topic that are judged together."""

    topic: str
    arrivals: list[Arrival]

    @property
    def records(self) -> list[Record]:
        """All records in order."""
        return [record for arrival in self.arrivals for record in arrival.records]

    @property
    def oldest_receipt(self) -> float:
        """Unix seconds at which the oldest of the records came."""
        return (
            min(
                _receipt_ms(arrival.records[0])
                for arrival in self.arrivals
                if arrival.records
            )
            / 1000
        )


class StepResult(NamedTuple):
    """What a step gave."""

    rows: int
    alerts: list[Alert]
    rejected: list[tuple[Batch, str]]
    seconds: float  # CPU


class InHand(NamedTuple):
    """A chunk that is being judged, a piece at a time."""

    chunk: Chunk
    batch: Batch
    rows: int  # that the engine contains
    accepted: Mask | None = None  # those of all that may be judged, None for all


class PartitionProgress(NamedTuple):
    """What a checkpoint says beside its offsets: rows judged from there on, and how fast the part has been."""

    begun: Mapping[str, int]
    paces: Mapping[str, float]  # by topic, rows a second of CPU
    marks: Mapping[str, Mark] = NO_MARKS  # by topic, the last record judged
    epoch: int = 0  # how often a topic that was another was judged from its beginning


NO_PROGRESS = PartitionProgress({}, {})


class Partition:
    """One engine and, by topic, what is filed, what is judged and what waits between the two."""

    def __init__(
        self,
        number: int,
        engine: Engine,
        contained: Mapping[str, int],
        written: WrittenCheckpoint,
        rulebook: Rulebook = EMPTY_RULEBOOK,
        progress: PartitionProgress = NO_PROGRESS,
    ) -> None:
        self.number = number
        self.engine = engine
        self.rulebook = rulebook  # by which it judges
        # by topic, where it ended when the part was taken over
        self._ends: Mapping[str, int] = {}
        self._settle_after = 0  # Unix seconds to which time must pass until timers that another may have told of have fired
        self.ticked = 0  # Unix seconds to which time has passed by itself
        self.agreed = written.agreed  # offset of `alerts_end` before which nothing is told but what this engine knows
        self.alerts_end = (
            0  # offset of `alerts_end` at which they ended when the part was taken over
        )
        self.reconciled = (
            False  # whether what another worker told until then has been set right
        )
        # ids of alerts of which messages were published since, until it is
        self.published: set[str] = set()
        # by topic, the next offset to judge: the engine contains what is before
        self.judged = dict(contained)
        # by topic, how many rows of what is next the engine contains already
        self.begun = dict(progress.begun)
        self.in_hand: InHand | None = None
        self.enqueued = dict(contained)  # by topic, the next offset to file
        self.marks = dict(progress.marks)  # by topic, the last record judged
        # how often a topic that was another has been judged from its beginning
        self.epoch = progress.epoch
        self.written = written  # the last whole checkpoint
        # by topic, where it ended when last looked at
        self._latest_ends: dict[str, int] = {}
        # by topic, records not judged when last looked at; empty before
        self.lags: Mapping[str, int] = {}
        # by topic, Unix seconds at which the last record judged came
        self.reached: dict[str, int] = {}
        self._waiting: dict[str, deque[Arrival]] = {
            topic: deque() for topic in (REGISTRY_TOPIC, *SOURCE_TOPICS)
        }
        self.waiting_bytes = dict.fromkeys(self._waiting, 0)
        # by topic, Faust's event of the last slice judged
        self.last_events: dict[str, Any] = {}
        self.counted_rows = Counter(engine.counts)  # what the metrics have
        self.counted_alerts = Counter(engine.alert_counts)
        # by topic, since when what comes next is deleted
        self._stranded: dict[str, float] = {}
        # by topic, since when it has nothing at hand and more is there
        self._missed: dict[str, float] = {}
        self._paces = dict(progress.paces)
        self._catching_up = False  # whether time has passed in several portions since the last checkpoint
        self._row_bytes = dict.fromkeys(self._waiting, BYTES_PER_ROW)
        # what the last checkpoint contains
        self._saved = (
            dict(contained),
            dict(progress.begun),
        )
        self._saved_at = self._moved_at = time.monotonic()
        self._last_position = self._position

    def resume(self, ends: Mapping[str, int], alerts_end: int, until: int) -> None:
        """Notes where the topics and `alerts_end` end now, and what time it is: another may have judged and told so far."""
        self._ends, self._settle_after, self.ticked = ends, until, 0
        self._latest_ends.update(ends)
        self.alerts_end = alerts_end
        self.agreed = (
            alerts_end
            if self.written.agreed < 0
            else min(self.written.agreed, alerts_end)
        )
        self.reconciled = False
        self.published.clear()

    def start_anew(self, topic: str, offset: int) -> None:
        """Goes on with a topic that is another, from its beginning."""
        self.start(topic, offset)
        self.marks.pop(topic, None)
        self.epoch += 1
        self._saved = {}, {}

    def start(self, topic: str, offset: int) -> None:
        """Goes on with a topic at an offset."""
        if self.judged.get(topic) != offset:
            self.begun.pop(topic, None)
        self.judged[topic] = self.enqueued[topic] = offset

    def enqueue(self, topic: str, span: FetchedRange, event: Any) -> None:
        """Puts a slice in its place, without records that are there already. Raises GapError when some are missing.

        Faust may hand a slice over twice, and drops what it fetched when a rebalance comes between.
        """
        due, records = self.enqueued[topic], span.records
        if span.ends <= due:
            return
        if span.begins > due:
            raise GapError(
                f"`{topic}`, partition {self.number}: {span.begins} came, {due} was due"
            )
        if span.begins < due:
            records = [record for record in records if record.offset >= due]
        size = sum(len(record.value or b"") for record in records)
        self._waiting[topic].append(Arrival(records, span.ends, size, event))
        self.waiting_bytes[topic] += size
        self.enqueued[topic] = span.ends

    @property
    def paces(self) -> dict[str, float]:
        """By topic, rows that were judged in a second of CPU lately."""
        return dict(self._paces)

    @property
    def settled(self) -> bool:
        """Whether all that another worker may have told of before this one took the part over has been judged."""
        return self.ticked >= self._settle_after and all(
            self.judged[topic] >= end for topic, end in self._ends.items()
        )

    @property
    def awaits(self) -> bool:
        """Whether records are still to be fetched that may have come before some that wait; for AWAIT_SECONDS seconds.

        They need not come: they may have been deleted since.
        """
        missing = [
            t
            for t in SOURCE_TOPICS
            if not self._waiting[t] and self.enqueued[t] < self._latest_ends.get(t, 0)
        ]
        now = time.monotonic()
        self._missed = {topic: self._missed.get(topic, now) for topic in missing}
        return any(now - since < AWAIT_SECONDS for since in self._missed.values())

    def stranded(self, topic: str, first: int) -> bool:
        """Whether nothing waits of a topic, and what comes next has been deleted for AWAIT_SECONDS seconds."""
        if self.enqueued[topic] >= first or self.judged[topic] < self.enqueued[topic]:
            self._stranded.pop(topic, None)
            return False
        now = time.monotonic()
        return now - self._stranded.setdefault(topic, now) >= AWAIT_SECONDS

    def skip(self, topic: str, offset: int) -> None:
        """Files on at an offset: there is nothing before it."""
        if self.judged[topic] == self.enqueued[topic]:
            self.begun.pop(topic, None)
        self.enqueued[topic] = offset

    def next_chunk(self) -> Chunk | None:
        """Records of the topic whose next came first; None when there are none, or while some are awaited.

        Topics are judged in the order in which their records came, since a payment of last week is late when readings
        of today are judged before it. The rows that a part receives in AHEAD_SECONDS may go ahead: readings of all others, up
        to STEP_ROWS, and the others of one another, up to the next reading. So rows that alternate share a step.
        """
        if self._waiting[REGISTRY_TOPIC]:
            return self._chunk(REGISTRY_TOPIC, STEP_ROWS)
        for topic in SOURCE_TOPICS:
            if self._waiting[topic] and not self._waiting[topic][0].records:
                return Chunk(topic, [self._waiting[topic].popleft()])
        heads = {
            topic: _receipt_ms(waiting[0].records[0])
            for topic in SOURCE_TOPICS
            if (waiting := self._waiting[topic])
        }
        if not heads or self.awaits:
            return None
        topic = min(heads, key=heads.__getitem__)
        del heads[topic]
        if topic == READS_TOPIC and heads:
            return self._chunk(READS_TOPIC, min(STEP_ROWS, self._ahead(READS_TOPIC)))
        chunk = self._chunk(topic, STEP_ROWS, min(heads.values(), default=inf))
        if READS_TOPIC in heads:
            chunk.arrivals.extend(
                self._chunk(
                    topic, self._ahead(topic), heads[READS_TOPIC], least=0
                ).arrivals
            )
        return chunk

    def _ahead(self, topic: str) -> int:
        """About how many rows of a topic a part receives in AHEAD_SECONDS, by the readings and rows received so far."""
        received = self.engine.counts
        readings = self.engine.meters * AHEAD_SECONDS // self.engine.interval
        if topic == READS_TOPIC:
            return readings
        share = received[BATCH_TYPES[topic].kind, "in", ""] / max(
            received[Readings.kind, "in", ""], 1
        )
        return int(readings * share)

    def _chunk(
        self, topic: str, rows: int, until: float = inf, least: int = 1
    ) -> Chunk:
        """About so many rows of what waits, some records at least, and no other that came after some milliseconds."""
        waiting, room = self._waiting[topic], rows * self._row_bytes[topic]
        taken: list[Arrival] = []
        while waiting:
            count = max(waiting[0].within(room, until), 0 if taken else least)
            if count < len(waiting[0].records):
                if count:
                    first, waiting[0] = waiting[0].split(count)
                    taken.append(first)
                break
            taken.append(waiting.popleft())
            room -= taken[-1].size
        self.waiting_bytes[topic] -= sum(arrival.size for arrival in taken)
        return Chunk(topic, taken)

    def begin(
        self, chunk: Chunk, batch: Batch | None, accepted: Mask | None = None
    ) -> None:
        """Takes a chunk in hand, as decoded; rows that the engine contains already are not judged again.

        Rows that are not kept count all the same, for another time others may be.
        """
        if batch is None:
            self.finish_chunk(chunk, 0)
        else:
            self.in_hand = InHand(
                chunk, batch, min(self.begun.get(chunk.topic, 0), len(batch)), accepted
            )

    def judge(self, in_hand: InHand) -> StepResult:
        """Judges the next piece of what is in hand, of about STEP_SECONDS: a history of few meters goes slowly."""
        rows = max(
            1, int(self._paces.get(in_hand.chunk.topic, INITIAL_PACE) * STEP_SECONDS)
        )
        whole = in_hand.rows == 0 and rows >= len(in_hand.batch)
        began = time.thread_time()
        piece = (
            in_hand.batch
            if whole
            else in_hand.batch.select(slice(in_hand.rows, in_hand.rows + rows))
        )
        if (reach := self.engine.rows_within_cost(piece)) < len(piece):
            piece = piece.select(slice(0, reach))
        kept = (
            piece
            if in_hand.accepted is None
            else piece.select(
                in_hand.accepted[in_hand.rows : in_hand.rows + len(piece)]
            )
        )
        alerts = self.engine.step(kept)
        return StepResult(
            len(piece), alerts, self.engine.rejected, time.thread_time() - began
        )

    def note_judged(self, in_hand: InHand, judged: StepResult) -> None:
        """Notes that the engine contains a piece of what is in hand; the chunk is done with its last."""
        rows = in_hand.rows + judged.rows
        topic = in_hand.chunk.topic
        if judged.rows and in_hand.accepted is None:
            pace = judged.rows / max(judged.seconds, 1e-6)
            # else its rows were few
            if judged.seconds > STEP_SECONDS / 4 or pace > self._paces.get(
                topic, INITIAL_PACE
            ):
                self._paces[topic] = pace
        self.begun[topic] = max(self.begun.get(topic, 0), rows)
        self.in_hand = in_hand._replace(rows=rows)
        if rows == len(in_hand.batch):
            self.in_hand = None
            self.finish_chunk(in_hand.chunk, rows)

    def tick(self, now: int) -> list[Alert]:
        """Lets time pass towards a moment, by a portion of what falls due."""
        self.ticked = self.engine.portion(now)
        self._catching_up |= self.ticked < now
        return self.engine.pass_time(self.ticked, now)

    def finish_chunk(self, chunk: Chunk, rows: int) -> None:
        """The engine contains this chunk."""
        last, records = chunk.arrivals[-1], chunk.records
        self.judged[chunk.topic] = last.ends
        self.begun[chunk.topic] = max(self.begun.get(chunk.topic, 0) - rows, 0)
        if events := [
            arrival.event for arrival in chunk.arrivals if arrival.event is not None
        ]:
            self.last_events[chunk.topic] = events[-1]
        if records and not isinstance(newest := records[-1], Damage):
            self.marks[chunk.topic] = mark_of(
                newest.offset, newest.timestamp, newest.key, newest.value
            )
            self.reached[chunk.topic] = _receipt_ms(newest) // 1000
        if rows:
            self._row_bytes[chunk.topic] = (
                sum(arrival.size for arrival in chunk.arrivals) / rows
            )

    def drop(self) -> None:
        """Forgets what waits; it is read again from what is judged."""
        for waiting in self._waiting.values():
            waiting.clear()
        self.in_hand = None
        self.waiting_bytes = dict.fromkeys(self._waiting, 0)
        self.enqueued, self._latest_ends, self.lags = dict(self.judged), {}, {}
        self.last_events.clear()

    def note_checkpoint(
        self,
        written: WrittenCheckpoint,
        contained: Mapping[str, int],
        begun: Mapping[str, int],
    ) -> None:
        """Notes a checkpoint that was written."""
        self.written, self._saved, self._saved_at = (
            written,
            (dict(contained), dict(begun)),
            time.monotonic(),
        )
        self._catching_up = False

    def note_ends(
        self,
        ends: Mapping[str, int],
        high_watermarks: Mapping[str, int] | None = None,
        *,
        busy: bool = False,
    ) -> float:
        """Notes where topics end; returns for how many seconds records have waited without progress, `busy` apart.

        Lag counts up to the high watermarks, if they are told; what waits for the end of a transaction may wait.
        """
        now = time.monotonic()
        self._latest_ends.update(ends)
        self.lags = {
            topic: max(0, end - self.judged[topic])
            for topic, end in (high_watermarks or ends).items()
        }
        still = self._position == self._last_position and any(
            self.judged[topic] < end for topic, end in ends.items()
        )
        if busy or not still:
            self._moved_at, self._last_position = now, self._position
        return now - self._moved_at

    def time_bound(self, now: int) -> int:
        """How far time may pass by itself: not beyond what has been judged of a topic that is behind; 0 not at all."""
        behind = (
            self.reached.get(topic, 0)
            for topic, lag in self.lags.items()
            if lag or self._waiting[topic]
        )
        return min([now, *behind]) if self.lags else 0

    @property
    def unsaved(self) -> bool:
        """Whether the engine contains records, or has passed much time, that the last checkpoint does not."""
        judged, begun = self._saved
        return self._catching_up or any(
            (self.judged[topic], self.begun.get(topic, 0))
            != (judged.get(topic), begun.get(topic, 0))
            for topic in SOURCE_TOPICS
        )

    @property
    def _position(self) -> tuple[dict[str, int], dict[str, int]]:
        """How far the engine has come: by topic, the next offset, and how many rows from there on it contains."""
        return dict(self.judged), dict(self.begun)

    def since_saved(self) -> float:
        """Seconds since the last checkpoint, or since the part was taken over."""
        return time.monotonic() - self._saved_at

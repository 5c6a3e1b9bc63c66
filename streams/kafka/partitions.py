"""A partition: one engine for the topics that are keyed alike, with an offset and a backlog in each topic."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any

from detectors.engine import Engine
from detectors.rule_counts import no_counts
from detectors.rulebook import EMPTY_RULEBOOK
from schemas.alert import Alert
from schemas.columns import Batch, Mask, Readings
from schemas.rules import Rulebook
from schemas.topics import READS_TOPIC, REGISTRY_TOPIC, SOURCE_TOPICS, TOPIC_KINDS
from streams.kafka.backlog import (
    Arrival,
    Chunk,
    GapError,
    PartitionBacklog,
    receipt_ms,
)
from streams.kafka.checkpoints import (
    NO_PROGRESS,
    PartitionProgress,
    WrittenCheckpoint,
    mark_of,
)
from streams.kafka.paces import Paces
from streams.kafka.records import Damage, FetchedRange
from streams.kafka.steps import InHand, StepResult

# Seconds of event time by which rows of a topic may be judged before earlier ones of another.
AHEAD_SECONDS = 3600
AWAIT_SECONDS = 10.0  # seconds that a topic may keep the others waiting
STEP_ROWS = 20_000  # rows of a chunk, about


class Partition:
    """An engine and, by topic, the offsets enqueued and judged and the backlog between them."""

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
        self.rulebook = rulebook  # of the engine
        self.written = written  # the last whole checkpoint

        # Offsets by topic. `begun` counts the rows after `judged` that the engine contains already.
        self.judged = dict(contained)  # the next offset to judge
        self.begun = dict(progress.begun)
        self.enqueued = dict(contained)  # the next offset to put into the backlog
        self.marks = dict(progress.marks)  # the last record judged
        self.reached: dict[str, int] = {}  # receipt time of that, Unix seconds
        self.epoch = progress.epoch  # as in the checkpoint

        self.backlog = PartitionBacklog()
        self.in_hand: InHand | None = None
        self.last_events: dict[str, Any] = {}  # Faust's event of the last slice judged
        self.paces = Paces(progress.paces)

        # Where topics end, by topic: when the partition was taken over, and when last looked at.
        self._ends: Mapping[str, int] = {}
        self._latest_ends: dict[str, int] = {}
        self.lags: Mapping[str, int] = {}  # records not judged; empty before a look
        # Since when, by topic, records are known to wait, Unix seconds.
        self._waiting_since: dict[str, float] = {}
        # Since when the next offset is deleted, and since when the backlog is empty although more is there.
        self._stranded: dict[str, float] = {}
        self._missed: dict[str, float] = {}

        # Alerts of the worker before this one, which must be reconciled. `agreed` is the offset on the
        # alerts topic before which this engine knows all alerts; `alerts_end` is where the topic ended
        # when the partition was taken over; `published` has the ids of alerts published since then.
        self.agreed = written.agreed
        self.alerts_end = 0
        self.reconciled = False
        self.published: set[str] = set()

        # Time that passes without records, Unix seconds: reached, and needed until all timers have
        # fired that the worker before may have published alerts of.
        self.ticked = 0
        self._settle_after = 0
        self._catching_up = False  # True after a tick that was only a portion

        self.counted_rows = Counter(engine.counts)  # as in the metrics
        self.counted_alerts = Counter(engine.alert_counts)
        self.counted_rules = no_counts()
        self.counted_sums: dict[tuple[str, str], float] = {}  # of sections
        engine.judges.measure_by(time.perf_counter)
        # `judged` and `begun` of the last checkpoint.
        self._saved = (dict(contained), dict(progress.begun))
        self._saved_at = self._moved_at = time.monotonic()
        self._last_position = self._position

    def resume(self, ends: Mapping[str, int], alerts_end: int, until: int) -> None:
        """Notes where the topics and `alerts_end` end now, and the time.

        Another worker may have judged and published up to there.
        """
        self._ends = ends
        self._latest_ends.update(ends)
        self._settle_after = until
        self.ticked = 0
        self.alerts_end = alerts_end
        if self.written.agreed < 0:
            self.agreed = alerts_end
        else:
            self.agreed = min(self.written.agreed, alerts_end)
        self.reconciled = False
        self.published.clear()

    def start_anew(self, topic: str, offset: int) -> None:
        """Begins a topic again that was created anew."""
        self.start(topic, offset)
        self.marks.pop(topic, None)
        self.epoch += 1
        self._saved = {}, {}

    def start(self, topic: str, offset: int) -> None:
        """Sets a topic to an offset, to judge and to fetch from there on."""
        if self.judged.get(topic) != offset:
            self.begun.pop(topic, None)
        self.judged[topic] = self.enqueued[topic] = offset

    def enqueue(self, topic: str, span: FetchedRange, event: Any) -> None:
        """Puts a slice into the backlog, without records that are there already. Raises GapError if some are missing.

        Faust may hand a slice over twice, and drops fetched records when a rebalance comes between.
        """
        due = self.enqueued[topic]
        records = span.records
        if span.ends <= due:
            return
        if span.begins > due:
            raise GapError(
                f"`{topic}`, partition {self.number}: {span.begins} came, {due} was due"
            )
        if span.begins < due:
            records = [record for record in records if record.offset >= due]

        size = sum(len(record.value or b"") for record in records)
        self.backlog.add(topic, Arrival(records, span.ends, size, event, time.time()))
        self.enqueued[topic] = span.ends

    @property
    def settled(self) -> bool:
        """True once all is judged of which the worker before may have published alerts."""
        return self.ticked >= self._settle_after and all(
            self.judged[topic] >= end for topic, end in self._ends.items()
        )

    @property
    def awaits(self) -> bool:
        """True while an earlier record of another topic may still be in flight, at most AWAIT_SECONDS.

        The record need not exist: it may have been deleted since.
        """
        missing = [
            topic
            for topic in SOURCE_TOPICS
            if not self.backlog.waits(topic)
            and self.enqueued[topic] < self._latest_ends.get(topic, 0)
        ]
        now = time.monotonic()
        self._missed = {topic: self._missed.get(topic, now) for topic in missing}
        return any(now - since < AWAIT_SECONDS for since in self._missed.values())

    def stranded(self, topic: str, first: int) -> bool:
        """True if a topic has no backlog, and its next offset has been deleted for AWAIT_SECONDS."""
        if self.enqueued[topic] >= first or self.judged[topic] < self.enqueued[topic]:
            self._stranded.pop(topic, None)
            return False
        now = time.monotonic()
        return now - self._stranded.setdefault(topic, now) >= AWAIT_SECONDS

    def skip(self, topic: str, offset: int) -> None:
        """Enqueues from an offset on: there is no record before it."""
        if self.judged[topic] == self.enqueued[topic]:
            self.begun.pop(topic, None)
        self.enqueued[topic] = offset

    def next_chunk(self) -> Chunk | None:
        """The next records to judge: of the topic with the oldest head. None if none wait, or some are awaited.

        Topics are judged in the order in which their records came, since a payment of last week is late when readings
        of today are judged before it. The rows that come in AHEAD_SECONDS may go ahead: readings before all others, up
        to STEP_ROWS, and other rows before one another, up to the next reading. So rows that alternate share a step.
        """
        if self.backlog.waits(REGISTRY_TOPIC):
            return self.backlog.take(REGISTRY_TOPIC, STEP_ROWS)
        if empty := self.backlog.take_empty():
            return empty

        heads = self.backlog.heads()
        if not heads or self.awaits:
            return None
        oldest = min(heads, key=heads.__getitem__)
        del heads[oldest]

        if oldest == READS_TOPIC and heads:
            rows = min(STEP_ROWS, self._rows_ahead(READS_TOPIC))
            return self.backlog.take(READS_TOPIC, rows)
        chunk = self.backlog.take(oldest, STEP_ROWS, min(heads.values(), default=inf))
        if READS_TOPIC in heads:
            rows = self._rows_ahead(oldest)
            ahead = self.backlog.take(oldest, rows, heads[READS_TOPIC], least=0)
            chunk.arrivals.extend(ahead.arrivals)
        return chunk

    def _rows_ahead(self, topic: str) -> int:
        """Rows of a topic that come in AHEAD_SECONDS, estimated from the rows received so far."""
        meters = len(self.engine.indexes.meters)
        readings = meters * AHEAD_SECONDS // self.engine.settings.interval
        if topic == READS_TOPIC:
            return readings
        received = self.engine.counts
        rows = received[TOPIC_KINDS[topic].kind, "in", ""]
        share = rows / max(received[Readings.kind, "in", ""], 1)
        return int(readings * share)

    def begin(
        self, chunk: Chunk, batch: Batch | None, accepted: Mask | None = None
    ) -> None:
        """Takes a decoded chunk in hand, without the rows that the engine contains already.

        Rows that are not accepted count as well, for they may be accepted after a restart.
        """
        if batch is None:
            self.finish_chunk(chunk, 0)
            return
        rows = min(self.begun.get(chunk.topic, 0), len(batch))
        self.in_hand = InHand(chunk, batch, rows, accepted)

    def judge(self, in_hand: InHand) -> StepResult:
        """Judges the next rows in hand, as many as a step may have."""
        rows = self.paces.step_rows(in_hand.chunk.topic)
        first = in_hand.rows
        began = time.thread_time()

        batch = in_hand.batch
        if first > 0 or rows < len(batch):
            batch = batch.select(slice(first, first + rows))
        affordable = self.engine.cost.affordable_rows(batch)
        if affordable < len(batch):
            batch = batch.select(slice(0, affordable))
        accepted = batch
        if in_hand.accepted is not None:
            accepted = batch.select(in_hand.accepted[first : first + len(batch)])

        alerts = self.engine.step(accepted)
        seconds = time.thread_time() - began
        return StepResult(len(batch), alerts, self.engine.rejected, seconds)

    def note_judged(self, in_hand: InHand, judged: StepResult) -> None:
        """Notes that the engine contains the rows of a step; the chunk is done with its last row."""
        rows = in_hand.rows + judged.rows
        topic = in_hand.chunk.topic
        if judged.rows and in_hand.accepted is None:
            self.paces.note_step(topic, judged.rows, judged.seconds)
        self.begun[topic] = max(self.begun.get(topic, 0), rows)
        self.in_hand = in_hand._replace(rows=rows)
        if rows == len(in_hand.batch):
            self.in_hand = None
            self.finish_chunk(in_hand.chunk, rows)

    def tick(self, now: int) -> list[Alert]:
        """Lets time pass towards `now`, by a portion of the timers that are due."""
        self.ticked = self.engine.portion(now)
        self._catching_up |= self.ticked < now
        return self.engine.pass_time(self.ticked, now)

    def finish_chunk(self, chunk: Chunk, rows: int) -> None:
        """Notes that the engine contains a chunk."""
        topic = chunk.topic
        self.judged[topic] = chunk.arrivals[-1].ends
        self.begun[topic] = max(self.begun.get(topic, 0) - rows, 0)
        for arrival in chunk.arrivals:
            if arrival.event is not None:
                self.last_events[topic] = arrival.event

        records = chunk.records
        if records and not isinstance(newest := records[-1], Damage):
            self.marks[topic] = mark_of(
                newest.offset, newest.timestamp, newest.key, newest.value
            )
            self.reached[topic] = receipt_ms(newest) // 1000
        if rows:
            self.backlog.note_rows(chunk, rows)

    def drop(self) -> None:
        """Forgets the backlog, which will be fetched again from the judged offsets."""
        self.backlog.clear()
        self.in_hand = None
        self.enqueued = dict(self.judged)
        self._latest_ends = {}
        self.lags = {}
        self.last_events.clear()

    def note_checkpoint(
        self,
        written: WrittenCheckpoint,
        contained: Mapping[str, int],
        begun: Mapping[str, int],
    ) -> None:
        """Notes a checkpoint that was written."""
        self.written = written
        self._saved = (dict(contained), dict(begun))
        self._saved_at = time.monotonic()
        self._catching_up = False

    def note_ends(
        self,
        ends: Mapping[str, int],
        high_watermarks: Mapping[str, int] | None = None,
        *,
        busy: bool = False,
    ) -> float:
        """Notes where topics end; returns the seconds that records have waited without progress, `busy` apart.

        Lag counts up to the high watermarks, if they are given. Records may wait for the end of their transaction.
        """
        now = time.monotonic()
        self._latest_ends.update(ends)
        self.lags = {
            topic: max(0, end - self.judged[topic])
            for topic, end in (high_watermarks or ends).items()
        }

        waiting = [topic for topic, lag in self.lags.items() if lag]
        since = self._waiting_since
        self._waiting_since = {
            topic: since.get(topic, time.time()) for topic in waiting
        }
        still = self._position == self._last_position and any(
            self.judged[topic] < end for topic, end in ends.items()
        )
        if busy or not still:
            self._moved_at = now
            self._last_position = self._position
        return now - self._moved_at

    def oldest_waiting(self) -> dict[str, float]:
        """When the oldest record of each topic came that is not judged yet, Unix seconds.

        A record that is not fetched yet counts from when it was first known to wait.
        """
        oldest: dict[str, float] = {}
        for topic, since in self._waiting_since.items():
            came = self.backlog.oldest(topic)
            if self.in_hand and self.in_hand.chunk.topic == topic:
                came = self.in_hand.chunk.oldest_receipt or came
            oldest[topic] = came or since
        return oldest

    def time_bound(self, now: int) -> int:
        """How far time may pass without records: up to the receipt times of topics that lag; 0 for not at all."""
        behind = (
            self.reached.get(topic, 0)
            for topic, lag in self.lags.items()
            if lag or self.backlog.waits(topic)
        )
        return min([now, *behind]) if self.lags else 0

    @property
    def unsaved(self) -> bool:
        """True if the engine contains records, or much time, that the last checkpoint does not."""
        judged, begun = self._saved
        return self._catching_up or any(
            (self.judged[topic], self.begun.get(topic, 0))
            != (judged.get(topic), begun.get(topic, 0))
            for topic in SOURCE_TOPICS
        )

    @property
    def _position(self) -> tuple[dict[str, int], dict[str, int]]:
        """The progress of the engine by topic: the next offset, and rows after it that are judged."""
        return dict(self.judged), dict(self.begun)

    def since_saved(self) -> float:
        """Seconds since the last checkpoint, or since the partition was taken over."""
        return time.monotonic() - self._saved_at

"""A part: the engine of one partition number, shared by the topics that are keyed alike, and its place in each."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from detectors.engine import Engine
from detectors.rulebook import NOTHING
from schemas.alert import Alert
from schemas.columns import Batch, DeviceEvents, Mask, Payments, Readings, Stages
from schemas.rules import Rulebook
from streams.checkpoints import UNMARKED, Mark, Written, mark_of
from streams.fetched import Damage, Record, Span
from streams.topics import EVENTS, PAYMENTS, READS, REGISTRY, SOURCES, WORKFLOW

AHEAD = 3600  # seconds of event time by which a topic may be judged before what came before it
AWAITED = 10.0  # seconds that a topic may keep the others waiting
STEP_ROWS = 20_000  # rows that a chunk holds, about
STEP_SECONDS = 0.1  # CPU that a step takes, about: what waits for the engine waits for a few
PACE = 1_000.0  # rows a second of CPU, until the part has seen how fast a topic goes
BYTES_PER_ROW = 50.0  # of a packed frame, until the part has seen what its topics carry
KINDS: dict[str, type[Batch]] = {READS: Readings, EVENTS: DeviceEvents, PAYMENTS: Payments, WORKFLOW: Stages}


class GapError(Exception):
    """A slice begins after the offset that comes next."""


class Arrival(NamedTuple):
    """A slice that waits for judgement, with what acknowledges it; it may have no record."""

    records: list[Record]
    ends: int  # offset behind it
    size: int  # bytes
    event: Any  # Faust's, of its last record; None when that is not here

    def within(self, room: float, until: float) -> int:
        """How many of the first records have about so many bytes and came by so many Unix milliseconds."""
        count = len(self.records) if self.size <= max(room, 0) else int(len(self.records) * room / self.size)
        return min(count, bisect_right(self.records, until, key=came)) if until < inf else count

    def split(self, count: int) -> tuple[Arrival, Arrival]:
        """The first so many records, and the others."""
        size, ends = self.size * count // len(self.records), self.records[count].offset
        rest = Arrival(self.records[count:], self.ends, self.size - size, self.event)
        return Arrival(self.records[:count], ends, size, None), rest


def came(record: Record) -> int:
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
    def came(self) -> float:
        """Unix seconds at which the oldest of the records came."""
        return min(came(arrival.records[0]) for arrival in self.arrivals if arrival.records) / 1000


class Judged(NamedTuple):
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
    kept: Mask | None = None  # those of all that may be judged, None for all


class Progress(NamedTuple):
    """What a checkpoint says beside its offsets: rows judged from there on, and how fast the part has been."""

    begun: Mapping[str, int]
    paces: Mapping[str, float]  # by topic, rows a second of CPU
    marks: Mapping[str, Mark] = UNMARKED  # by topic, the last record judged
    epoch: int = 0  # how often a topic that was another was judged from its beginning


NO_PROGRESS = Progress({}, {})


class Part:
    """One engine and, by topic, what is filed, what is judged and what waits between the two."""

    def __init__(
        self, number: int, engine: Engine, contained: Mapping[str, int], written: Written, rulebook: Rulebook = NOTHING,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.number = number
        self.engine = engine
        self.rulebook = rulebook  # by which it judges
        self.ends: Mapping[str, int] = {}  # by topic, where it ended when the part was taken over
        self.until = 0  # Unix seconds to which time must pass until timers that another may have told of have fired
        self.ticked = 0  # Unix seconds to which time has passed by itself
        self.agreed = written.agreed  # offset of `alerts` before which nothing is told but what this engine knows
        self.alerts = 0  # offset of `alerts` at which they ended when the part was taken over
        self.reconciled = False  # whether what another worker told until then has been set right
        self.published: set[str] = set()  # ids of alerts of which messages were published since, until it is
        self.judged = dict(contained)  # by topic, the next offset to judge: the engine contains what is before
        self.begun = dict(progress.begun)  # by topic, how many rows of what is next the engine contains already
        self.in_hand: InHand | None = None
        self.filed = dict(contained)  # by topic, the next offset to file
        self.marks = dict(progress.marks)  # by topic, the last record judged
        self.epoch = progress.epoch  # how often a topic that was another has been judged from its beginning
        self.written = written  # the last whole checkpoint
        self.there: dict[str, int] = {}  # by topic, where it ended when last looked at
        self.lags: Mapping[str, int] = {}  # by topic, records not judged when last looked at; empty before
        self.reached: dict[str, int] = {}  # by topic, Unix seconds at which the last record judged came
        self.waiting: dict[str, deque[Arrival]] = {topic: deque() for topic in (REGISTRY, *SOURCES)}
        self.waiting_bytes = dict.fromkeys(self.waiting, 0)
        self.last_events: dict[str, Any] = {}  # by topic, Faust's event of the last slice judged
        self.counted = Counter(engine.counts)  # what the metrics have
        self.told = Counter(engine.told)
        self._stranded: dict[str, float] = {}  # by topic, since when what comes next is deleted
        self._missed: dict[str, float] = {}  # by topic, since when it has nothing at hand and more is there
        self._paces = dict(progress.paces)
        self._catching_up = False  # whether time has passed in several portions since the last checkpoint
        self._row_bytes = dict.fromkeys(self.waiting, BYTES_PER_ROW)
        self._saved = dict(contained), dict(progress.begun)  # what the last checkpoint contains
        self._saved_at = self._moved_at = time.monotonic()
        self._seen = self.place

    def resume(self, ends: Mapping[str, int], alerts: int, until: int) -> None:
        """Notes where the topics and `alerts` end now, and what time it is: another may have judged and told so far."""
        self.ends, self.until, self.ticked = ends, until, 0
        self.there.update(ends)
        self.alerts = alerts
        self.agreed = alerts if self.written.agreed < 0 else min(self.written.agreed, alerts)
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
        self.judged[topic] = self.filed[topic] = offset

    def file(self, topic: str, span: Span, event: Any) -> None:
        """Puts a slice in its place, without records that are there already. Raises GapError when some are missing.

        Faust may hand a slice over twice, and drops what it fetched when a rebalance comes between.
        """
        due, records = self.filed[topic], span.records
        if span.ends <= due:
            return
        if span.begins > due:
            raise GapError(f"`{topic}`, partition {self.number}: {span.begins} came, {due} was due")
        if span.begins < due:
            records = [record for record in records if record.offset >= due]
        size = sum(len(record.value or b"") for record in records)
        self.waiting[topic].append(Arrival(records, span.ends, size, event))
        self.waiting_bytes[topic] += size
        self.filed[topic] = span.ends

    @property
    def paces(self) -> dict[str, float]:
        """By topic, rows that were judged in a second of CPU lately."""
        return dict(self._paces)

    @property
    def settled(self) -> bool:
        """Whether all that another worker may have told of before this one took the part over has been judged."""
        return self.ticked >= self.until and all(self.judged[topic] >= end for topic, end in self.ends.items())

    @property
    def awaits(self) -> bool:
        """Whether records are still to be fetched that may have come before some that wait; for AWAITED seconds.

        They need not come: they may have been deleted since.
        """
        missing = [t for t in SOURCES if not self.waiting[t] and self.filed[t] < self.there.get(t, 0)]
        now = time.monotonic()
        self._missed = {topic: self._missed.get(topic, now) for topic in missing}
        return any(now - since < AWAITED for since in self._missed.values())

    def stranded(self, topic: str, first: int) -> bool:
        """Whether nothing waits of a topic, and what comes next has been deleted for AWAITED seconds."""
        if self.filed[topic] >= first or self.judged[topic] < self.filed[topic]:
            self._stranded.pop(topic, None)
            return False
        now = time.monotonic()
        return now - self._stranded.setdefault(topic, now) >= AWAITED

    def skip(self, topic: str, offset: int) -> None:
        """Files on at an offset: there is nothing before it."""
        if self.judged[topic] == self.filed[topic]:
            self.begun.pop(topic, None)
        self.filed[topic] = offset

    def take(self) -> Chunk | None:
        """Records of the topic whose next came first; None when there are none, or while some are awaited.

        Topics are judged in the order in which their records came, since a payment of last week is late when readings
        of today are judged before it. The rows that a part receives in AHEAD may go ahead: readings of all others, up
        to STEP_ROWS, and the others of one another, up to the next reading. So rows that alternate share a step.
        """
        if self.waiting[REGISTRY]:
            return self._chunk(REGISTRY, STEP_ROWS)
        for topic in SOURCES:
            if self.waiting[topic] and not self.waiting[topic][0].records:
                return Chunk(topic, [self.waiting[topic].popleft()])
        heads = {topic: came(waiting[0].records[0]) for topic in SOURCES if (waiting := self.waiting[topic])}
        if not heads or self.awaits:
            return None
        topic = min(heads, key=heads.__getitem__)
        del heads[topic]
        if topic == READS and heads:
            return self._chunk(READS, min(STEP_ROWS, self._ahead(READS)))
        chunk = self._chunk(topic, STEP_ROWS, min(heads.values(), default=inf))
        if READS in heads:
            chunk.arrivals.extend(self._chunk(topic, self._ahead(topic), heads[READS], least=0).arrivals)
        return chunk

    def _ahead(self, topic: str) -> int:
        """About how many rows of a topic a part receives in AHEAD, by the readings and rows received so far."""
        received = self.engine.counts
        readings = self.engine.meters * AHEAD // self.engine.interval
        if topic == READS:
            return readings
        share = received[KINDS[topic].kind, "in", ""] / max(received[Readings.kind, "in", ""], 1)
        return int(readings * share)

    def _chunk(self, topic: str, rows: int, until: float = inf, least: int = 1) -> Chunk:
        """About so many rows of what waits, some records at least, and no other that came after some milliseconds."""
        waiting, room = self.waiting[topic], rows * self._row_bytes[topic]
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

    def begin(self, chunk: Chunk, batch: Batch | None, kept: Mask | None = None) -> None:
        """Takes a chunk in hand, as decoded; rows that the engine contains already are not judged again.

        Rows that are not kept count all the same, for another time others may be.
        """
        if batch is None:
            self.done(chunk, 0)
        else:
            self.in_hand = InHand(chunk, batch, min(self.begun.get(chunk.topic, 0), len(batch)), kept)

    def judge(self, hand: InHand) -> Judged:
        """Judges the next piece of what is in hand, of about STEP_SECONDS: a history of few meters goes slowly."""
        rows = max(1, int(self._paces.get(hand.chunk.topic, PACE) * STEP_SECONDS))
        whole = hand.rows == 0 and rows >= len(hand.batch)
        began = time.thread_time()
        piece = hand.batch if whole else hand.batch.rows(slice(hand.rows, hand.rows + rows))
        if (reach := self.engine.reach(piece)) < len(piece):
            piece = piece.rows(slice(0, reach))
        kept = piece if hand.kept is None else piece.rows(hand.kept[hand.rows : hand.rows + len(piece)])
        alerts = self.engine.step(kept)
        return Judged(len(piece), alerts, self.engine.rejected, time.thread_time() - began)

    def contain(self, hand: InHand, judged: Judged) -> None:
        """Notes that the engine contains a piece of what is in hand; the chunk is done with its last."""
        rows = hand.rows + judged.rows
        topic = hand.chunk.topic
        if judged.rows and hand.kept is None:
            pace = judged.rows / max(judged.seconds, 1e-6)
            if judged.seconds > STEP_SECONDS / 4 or pace > self._paces.get(topic, PACE):  # else its rows were few
                self._paces[topic] = pace
        self.begun[topic] = max(self.begun.get(topic, 0), rows)
        self.in_hand = hand._replace(rows=rows)
        if rows == len(hand.batch):
            self.in_hand = None
            self.done(hand.chunk, rows)

    def tick(self, now: int) -> list[Alert]:
        """Lets time pass towards a moment, by a portion of what falls due."""
        self.ticked = self.engine.portion(now)
        self._catching_up |= self.ticked < now
        return self.engine.pass_time(self.ticked, now)

    def done(self, chunk: Chunk, rows: int) -> None:
        """The engine contains this chunk."""
        last, records = chunk.arrivals[-1], chunk.records
        self.judged[chunk.topic] = last.ends
        self.begun[chunk.topic] = max(self.begun.get(chunk.topic, 0) - rows, 0)
        if events := [arrival.event for arrival in chunk.arrivals if arrival.event is not None]:
            self.last_events[chunk.topic] = events[-1]
        if records and not isinstance(newest := records[-1], Damage):
            self.marks[chunk.topic] = mark_of(newest.offset, newest.timestamp, newest.key, newest.value)
            self.reached[chunk.topic] = came(newest) // 1000
        if rows:
            self._row_bytes[chunk.topic] = sum(arrival.size for arrival in chunk.arrivals) / rows

    def drop(self) -> None:
        """Forgets what waits; it is read again from what is judged."""
        for waiting in self.waiting.values():
            waiting.clear()
        self.in_hand = None
        self.waiting_bytes = dict.fromkeys(self.waiting, 0)
        self.filed, self.there, self.lags = dict(self.judged), {}, {}
        self.last_events.clear()

    def keep(self, written: Written, contained: Mapping[str, int], begun: Mapping[str, int]) -> None:
        """Notes a checkpoint that was written."""
        self.written, self._saved, self._saved_at = written, (dict(contained), dict(begun)), time.monotonic()
        self._catching_up = False

    def look(self, ends: Mapping[str, int], marks: Mapping[str, int] | None = None, *, busy: bool = False) -> float:
        """Notes where topics end; returns for how many seconds records have waited without progress, `busy` apart.

        Lag counts up to the high watermarks, if they are told; what waits for the end of a transaction may wait.
        """
        now = time.monotonic()
        self.there.update(ends)
        self.lags = {topic: max(0, end - self.judged[topic]) for topic, end in (marks or ends).items()}
        still = self.place == self._seen and any(self.judged[topic] < end for topic, end in ends.items())
        if busy or not still:
            self._moved_at, self._seen = now, self.place
        return now - self._moved_at

    def clock(self, now: int) -> int:
        """How far time may pass by itself: not beyond what has been judged of a topic that is behind; 0 not at all."""
        behind = (self.reached.get(topic, 0) for topic, lag in self.lags.items() if lag or self.waiting[topic])
        return min([now, *behind]) if self.lags else 0

    @property
    def unsaved(self) -> bool:
        """Whether the engine contains records, or has passed much time, that the last checkpoint does not."""
        judged, begun = self._saved
        return self._catching_up or any(
            (self.judged[topic], self.begun.get(topic, 0)) != (judged.get(topic), begun.get(topic, 0))
            for topic in SOURCES
        )

    @property
    def place(self) -> tuple[dict[str, int], dict[str, int]]:
        """How far the engine has come: by topic, the next offset, and how many rows from there on it contains."""
        return dict(self.judged), dict(self.begun)

    def since_saved(self) -> float:
        """Seconds since the last checkpoint, or since the part was taken over."""
        return time.monotonic() - self._saved_at

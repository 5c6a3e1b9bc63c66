"""What a worker does with the partitions it is given: judge what arrives, publish, take checkpoints, hand over.

The order is: alerts and rejects on the broker, then the checkpoint, then the acknowledgement. A crash between any two
repeats work and changes nothing. Whatever makes it doubtful that state and offsets belong together ends the process:
the next one goes on from the checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from faust.types import TP, EventT

from detectors.engine import Capture, Engine, SnapshotError, packed
from detectors.rulebook import NOTHING, applied, changes, problems, rules_of
from models import peers
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.rules import RulebookError
from schemas.wire import (
    Refusal,
    decode_events,
    decode_payments,
    decode_readings,
    decode_stages,
)
from streams import checkpoints
from streams.answers import answered
from streams.checkpoints import CheckpointError, Mark, Written
from streams.deliveries import Deliveries, Producer
from streams.fetched import Record, Span
from streams.intake import Decode, Intake, refusals_of, sound
from streams.logs import UnansweredError, alert_of, read_to_end, reader
from streams.memory import give_back
from streams.metrics import Metrics
from streams.outage import Outage
from streams.outbox import Outbox
from streams.parts import KINDS, GapError, Part, Progress
from streams.places import advice, change_of, marks_at
from streams.rules import published
from streams.settings import Settings
from streams.thread import EngineThread
from streams.topics import ALERTS, CHECKPOINTS, EVENTS, PAYMENTS, READS, REGISTRY, RULES, SOURCES, WORKFLOW

WAITING_BYTES = 32 << 20  # that may wait for judgement before nothing more is fetched
ROOM_SECONDS = 1.0  # that a fetch waits for room: Faust may want to stop
TOGETHER = 2  # parts that are judged at once
BEAT = 1.0  # seconds between looks at progress, lag and clock
PULSE = 0.1  # seconds between looks at how late the event loop is
SLEEP = 0.8  # of a session: the last heartbeat may have been a while before
ANSWER = 5.0  # seconds that the brokers have to say where their partitions end
SILENT_SECONDS = 10.0  # without an answer, after which brokers count as away: a last checkpoint waits no longer
HASTE_MS = 20  # that a broker holds a request back while a take-over has others to ask
NOWHERE: Mapping[str, int] = MappingProxyType({})


class Captured(NamedTuple):
    """What a checkpoint is to hold."""

    state: Capture
    offsets: dict[str, int]  # by topic, the next to judge
    begun: dict[str, int]  # by topic, how many rows from there on are judged already
    paces: dict[str, float]  # by topic, rows a second of CPU
    agreed: int  # as in the manifest
    events: dict[str, EventT[Any]]  # that are acknowledged when it is written
    marks: dict[str, Mark]  # as in the manifest


DECODERS: dict[str, tuple[str, Decode]] = {
    READS: ("readings", decode_readings),
    EVENTS: ("events", decode_events),
    PAYMENTS: ("payments", decode_payments),
    WORKFLOW: ("stages", decode_stages),
}
log = logging.getLogger("meterwatch")


def fatal(reason: str) -> NoReturn:
    """Ends the process at once with exit code 1, as if killed: what it had in hand is done again by the next one."""
    log.critical("%s; this worker ends", reason)
    logging.shutdown()
    os._exit(1)


class Worker:
    """The parts this process holds, and the tasks that serve them."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.topics = {settings.topic(name): name for name in (REGISTRY, *SOURCES)}
        self.parts: dict[int, Part] = {}
        self.generation = -1  # of the group, in which the parts were taken over
        self.rules = rules_of(settings.voltage_limits)
        self.rulebook = NOTHING  # the last that was published and fits; each part goes on by it in its own time
        self._rules_known = asyncio.Event()
        self._assigned: set[int] | None = None  # numbers, None while the group changes hands
        self._changed_at = time.monotonic()
        self._stopping = False
        self._kept: dict[int, Part] = {}  # handed over, and perhaps taken back unchanged
        self._engines = EngineThread(metrics)
        self._intake = Intake(settings, metrics)
        self._suspects: set[int] = set()  # partitions of which a topic may be another than was judged
        self._turn = asyncio.Lock()  # held by whoever moves an engine or the parts
        self._writing = asyncio.Lock()  # held while a checkpoint is written; taken before the turn
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[NoReturn]] = []
        self._awake = time.monotonic()
        self._deliveries = Deliveries()
        self._outage = Outage()
        self._unanswered = 0.0  # seconds for which the brokers have not said where their partitions end

    async def start(self) -> None:
        """Connects and starts to serve. Raises KafkaError."""
        self._outbox = Outbox(self.settings, self.metrics, self._deliveries, fatal)
        self._producer = Producer(self.settings, self._deliveries)
        await self._outbox.start()
        await self._producer.start()
        tasks = (self._follow_rules, self._judge, self._tend, self._watch, self._beat)
        self._tasks = [asyncio.create_task(self._serve(task)) for task in tasks]
        threading.Thread(target=self._watch_loop, name="watch-loop", daemon=True).start()

    async def stop(self) -> None:
        """Hands everything over and disconnects; ends the process when no broker answers for SILENT_SECONDS."""
        self._stopping = True
        if not self._tasks:
            return
        await self._within(self.hand_over())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(KafkaError):  # all that was published is on the brokers
            await asyncio.gather(self._outbox.stop(), self._producer.stop())
        log.info("ended; the last checkpoint is taken")

    def next_offset(self, tp: TP) -> int | None:
        """Where to read a partition on, None when this worker does not hold it."""
        part = self.parts.get(tp.partition)
        return part.filed[self.topics[tp.topic]] if part else None

    async def room(self, asked: Iterable[TP]) -> set[TP]:
        """Those of some partitions of which less waits than their share of WAITING_BYTES; waits a little for one.

        Each has a share of its own, so that none keeps another away that the others must wait for.
        """
        deadline = time.monotonic() + ROOM_SECONDS
        while not (wanted := {tp for tp in asked if self._wanted(tp)}):
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), deadline - time.monotonic())
            except TimeoutError:
                break
        return wanted

    async def file(self, event: EventT[Any]) -> None:
        """Puts a slice where it waits for judgement."""
        message = event.message
        topic, span = self.topics[message.topic], cast(Span, event.value)
        while message.generation_id == self.generation and (part := self.parts.get(message.partition)):
            try:
                part.file(topic, span, event)
            except GapError as gap:
                due = part.filed[topic]
                await self._explain(gap, TopicPartition(message.topic, message.partition), span.begins)
                async with self._turn:
                    if part.filed[topic] == due:
                        await self._lose(part, topic, due, span.begins)
                        part.skip(topic, span.begins)
                continue
            self._arrived.set()
            return

    def expect(self, assigned: Iterable[TP]) -> None:
        """Notes what is about to be taken over."""
        self._assigned, self._changed_at = {tp.partition for tp in assigned}, time.monotonic()

    async def take_over(self, assigned: Iterable[TP], generation: int) -> None:
        """Restores the parts of the assigned partitions: checkpoints, and master data from the registry.

        A part that begins takes a checkpoint first, which says by which rules. Reading must not go on before this
        returns.
        """
        held = set(assigned)
        numbers = {tp.partition for tp in held}
        if held != {TP(topic, number) for topic in self.topics for number in numbers}:
            missing = sorted(set(self.topics) - {tp.topic for tp in held})
            fatal(f"partitions of one number come apart: do all workers read the same topics, and is {missing} there?")
        await self._rules_known.wait()
        async with self._writing, self._turn:
            started = time.monotonic()
            while not self._stopping:
                try:
                    async with reader(self.settings, wait_ms=HASTE_MS) as consumer, reader(self.settings) as asked:
                        self.parts = await self._restore(consumer, asked, sorted(numbers))
                    break
                except CheckpointError as error:
                    fatal(str(error))
                except (KafkaError, UnansweredError) as error:
                    log.warning("partitions %s cannot be taken over yet: %s", sorted(numbers), error)
                    await asyncio.sleep(BEAT)
            else:
                return
            for part in self.parts.values():
                if not part.written.set:
                    await self._write(part, await self._capture(part))
            self.generation = generation
            self._kept.clear()
            meters = sum(part.engine.meters for part in self.parts.values())
            log.info(
                "holds partitions %s with %d meters after %.1f s", sorted(numbers), meters, time.monotonic() - started
            )

    async def hand_over(self) -> None:
        """Takes a last checkpoint of every part and lets go of it."""
        async with self._writing, self._turn:
            if self.parts:
                log.info("hands over %d partitions", len(self.parts))
            for part in self.parts.values():
                if part.unsaved:
                    await self._write(part, await self._capture(part))
                await self._outbox.settle(part.number)
            self._kept, self.parts = self.parts, {}
            for part in self._kept.values():
                self._count(part)
                part.drop()
                self.metrics.forget(self.topics, part.number)
            self._assigned, self._changed_at = None, time.monotonic()
            self._room.set()

    async def _within(self, work: Awaitable[Any]) -> None:
        """Returns when work is done; ends the process once brokers have been away for SILENT_SECONDS."""
        task, began = asyncio.ensure_future(work), time.monotonic()
        while not (await asyncio.wait({task}, timeout=BEAT))[0]:
            self._deliveries.beat()
            silent = max(self._deliveries.silence, self._unanswered)
            if min(silent, time.monotonic() - began) > SILENT_SECONDS:
                fatal("no broker takes the last checkpoint; the next worker goes on from the one before")
        await task

    def _wanted(self, tp: TP) -> bool:
        part = self.parts.get(tp.partition)
        share = WAITING_BYTES / max(len(self.parts) * len(self.topics), 1)
        return part is None or part.waiting_bytes[self.topics[tp.topic]] <= share

    def _alerts(self, number: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(ALERTS), number)

    async def _restore(
        self, consumer: AIOKafkaConsumer, asked: AIOKafkaConsumer, numbers: Sequence[int]
    ) -> dict[int, Part]:
        """Parts as their checkpoints have them; `asked` answers at once where topics end, for it fetches nothing."""
        known = {number: part.written for number, part in self._kept.items()}
        topic, partitions = self.settings.topic(CHECKPOINTS), self.settings.partitions
        tps = [TopicPartition(topic, number) for topic in self.topics for number in numbers]
        alert_tps = [self._alerts(number) for number in numbers]
        found, first = await asyncio.gather(
            checkpoints.newest(consumer, topic, numbers, known, partitions), asked.beginning_offsets([*tps, *alert_tps])
        )
        ends, alerts = await asked.end_offsets(tps), await asked.end_offsets(alert_tps)
        until = int(time.time()) if self.settings.clock == "wall" else 0
        parts: dict[int, Part] = {}
        for number in numbers:
            if number in found:
                parts[number] = await self._engines.run("restore", self._revive, number, found[number])
            else:
                parts[number] = self._kept[number]
            parts[number].resume(self._of(parts[number], ends), alerts[self._alerts(number)], until)
        await self._read_on(parts, first, ends)
        registry = [TopicPartition(self.settings.topic(REGISTRY), number) for number in numbers]
        async for tp, records in read_to_end(consumer, {tp: first[tp] for tp in registry}):
            await self._enroll(parts[tp.partition], records)
        for tp in registry:
            parts[tp.partition].start(REGISTRY, ends[tp])
        return parts

    async def _read_on(
        self, parts: Mapping[int, Part], first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        """Has parts go on with their source topics after what they contain. Raises CheckpointError."""
        changes = await self._changes(parts, first, ends)
        for tp in (tp for tp in ends if self.topics[tp.topic] != REGISTRY):
            part, topic = parts[tp.partition], self.topics[tp.topic]
            contained = part.judged.get(topic)
            self.metrics.gone.labels(tp.topic, str(tp.partition))  # begins at 0
            if contained is None:
                part.start(topic, first[tp])
            elif change := changes.get(tp):
                if self.settings.topic_changed == "stop":
                    raise CheckpointError(change)
                log.warning("%s; it is judged from its beginning", change)
                part.start_anew(topic, first[tp])
            else:
                part.start(topic, max(contained, first[tp]))
                await self._lose(part, topic, contained, first[tp])

    async def _changes(
        self, parts: Mapping[int, Part], first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, str]:
        """The source topics that are others than were judged, and what to do about each."""
        marks: dict[TopicPartition, Mark] = {}
        judged: dict[TopicPartition, int] = {}
        for tp in ends:
            topic, part = self.topics[tp.topic], parts[tp.partition]
            if topic != REGISTRY and topic in part.judged:
                judged[tp] = part.judged[topic]
                if topic in part.marks:
                    marks[tp] = part.marks[topic]
        places = {tp: mark.offset for tp, mark in marks.items() if first[tp] <= mark.offset < ends[tp]}
        found = await marks_at(self.settings, places)
        changes = {tp: change_of(at, marks.get(tp), found.get(tp), ends[tp]) for tp, at in judged.items()}
        return {tp: advice(tp, judged[tp], change) for tp, change in changes.items() if change}

    async def _lose(self, part: Part, topic: str, due: int, first: int) -> None:
        """Notes that records were deleted before they were judged; what may have come with them cannot be told."""
        if due >= first or topic == REGISTRY:
            return
        name = self.settings.topic(topic)
        told = "are gone before they were judged; retention is too short, and what they may have told is not missed"
        log.warning("`%s`, partition %d: records %d to %d %s", name, part.number, due, first - 1, told)
        self.metrics.gone.labels(name, str(part.number)).inc(first - due)
        await self._engines.run("restore", part.engine.lose, KINDS[topic])

    def _revive(self, number: int, checkpoint: checkpoints.Checkpoint | None) -> Part:
        rulebook = checkpoint.manifest.rulebook if checkpoint else self.rulebook
        engine = Engine(applied(rulebook, self.rules), zone=self.settings.zone, interval=self.settings.interval)
        if checkpoint is None:
            return Part(number, engine, {}, Written(), rulebook)
        for fault in problems(rulebook):
            log.error("partition %d: judged as in code, for this version has other rules: %s", number, fault)
        try:
            afresh = engine.restore(checkpoint.state)
        except SnapshotError as error:
            raise CheckpointError(f"partition {number}: {error}. {checkpoints.START_AFRESH}") from error
        for owner in afresh:
            self.metrics.reset.labels(owner).inc()
        if afresh:
            log.warning(
                "partition %d: the checkpoint was written by another version; these start afresh, and rules that wait "
                "for them cannot tell yet: %s", number, ", ".join(afresh),
            )  # fmt: skip
        told = checkpoint.manifest
        written = Written(told.sequence, told.set, checkpoint.begins, told.taken, len(checkpoint.state), told.agreed)
        progress = Progress(told.begun, told.paces, told.marks, told.epoch)
        return Part(number, engine, told.offsets, written, rulebook, progress)

    async def _follow_rules(self) -> NoReturn:
        """Keeps to what is published of rules."""
        tp = TopicPartition(self.settings.topic(RULES), 0)
        async with reader(self.settings) as consumer:
            ends = await consumer.end_offsets([tp])
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            while True:
                if not self._rules_known.is_set() and await consumer.position(tp) >= ends[tp]:
                    self._rules_known.set()
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    self._hear_rules(record.key, record.value, record.offset)

    def _hear_rules(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        try:
            rulebook = published(key, value, self.rulebook)
        except RulebookError as error:
            self.metrics.refuse(RULES, "rulebook", 1)
            log.warning("offset %d of `rules` is refused, the rulebook before stays in force: %s", offset, error)
            return
        for name, told in changes(rulebook, self.rulebook).items():
            log.info("%s has version %d: %s", name, rulebook.rules[name].version, ", ".join(told))
        self.rulebook = rulebook

    async def _judge(self) -> NoReturn:
        """Judges a piece of each part in turn, of TOGETHER parts at once, so that the engines' thread is kept busy.

        A call that needs an engine or the parts waits for TOGETHER pieces at most.
        """
        loaded: asyncio.Future[None] | None = None
        while True:
            self._arrived.clear()
            busy = False
            numbers = list(self.parts)
            for first in range(0, len(numbers), TOGETHER):
                async with self._turn:
                    moved = await asyncio.gather(*map(self._advance, numbers[first : first + TOGETHER]))
                busy |= any(moved)
                await asyncio.sleep(0)
            if not busy:
                if numbers and loaded is None:
                    loaded = asyncio.ensure_future(asyncio.to_thread(peers.load))
                with contextlib.suppress(TimeoutError):  # a part may have waited long enough for a topic
                    await asyncio.wait_for(self._arrived.wait(), BEAT)

    async def _advance(self, number: int) -> bool:
        """Judges a piece of a part; whether there was something."""
        part = self.parts.get(number)
        if not part or not (part.in_hand or await self._take(part)):
            return False
        await self._step(part)
        self._room.set()
        return True

    async def _take(self, part: Part) -> bool:
        """Takes what is next of a part in hand; whether there was something."""
        chunk = part.take()
        if chunk is None:
            return False
        records, damage = sound(chunk.records)
        if damage:
            kind = REGISTRY if chunk.topic == REGISTRY else DECODERS[chunk.topic][0]
            await self._refuse(part, chunk.topic, kind, damage, refusals_of(damage))
        if chunk.topic == REGISTRY:
            await self._enroll(part, records)
            part.done(chunk, 0)
            return True

        kind, decode = DECODERS[chunk.topic]
        registry = part.engine.registry
        decoded = await self._engines.run("decode", self._intake.decode, part.number, registry, decode, records)
        part.begin(chunk, decoded.batch, decoded.kept)
        if decoded.refusals:
            await self._refuse(part, chunk.topic, kind, records, decoded.refusals)
        return True

    async def _step(self, part: Part) -> None:
        """Judges the next piece of what a part has in hand, and publishes what it gave."""
        if (hand := part.in_hand) is None:
            return
        topic, records = self.settings.topic(hand.chunk.topic), hand.chunk.records
        judged = await self._engines.run("step", part.judge, hand)
        part.contain(hand, judged)
        self.metrics.step.observe(judged.seconds)
        for rows, reason in judged.rejected:
            if isinstance(rows, Readings):  # what else the engine rejects, the wire has refused before
                await self._outbox.set_aside(topic, part.number, records, rows, reason)
        await self._publish(part, judged.alerts, hand.chunk.came)

    async def _publish(self, part: Part, alerts: Sequence[Alert], evidence: float | None) -> None:
        """Publishes alerts of a part; evidence is when their records were sent, None for a timer's alerts."""
        if not alerts:
            return
        self._check_awake()
        if not part.reconciled:
            part.published.update(alert.id for alert in alerts)
        await self._outbox.tell(part.number, alerts, evidence)

    async def _enroll(self, part: Part, records: Sequence[Record]) -> None:
        refusals = await self._engines.run("enroll", self._intake.enroll, part.number, part.engine, records)
        if refusals:
            await self._refuse(part, REGISTRY, REGISTRY, records, refusals)

    async def _refuse(
        self, part: Part, topic: str, kind: str, records: Sequence[Record], refusals: list[Refusal]
    ) -> None:
        for refusal in refusals:
            self.metrics.refuse(kind, refusal.reason, refusal.rows)
        await self._outbox.refuse(self.settings.topic(topic), part.number, records, refusals)

    async def _tend(self) -> NoReturn:
        """Ticks, reconciles and takes checkpoints when they are due."""
        behind = False
        while True:
            await asyncio.sleep(0 if behind else BEAT)
            behind = False
            for part in list(self.parts.values()):
                if self.settings.clock == "wall":
                    behind |= await self._tick(part)
                if not part.reconciled and part.settled:
                    await self._reconcile(part)
                if part.rulebook != self.rulebook and part.reconciled:
                    await self._adopt(part)
                elif part.unsaved and part.since_saved() >= self.settings.checkpoint_seconds:
                    await self._save(part)

    async def _tick(self, part: Part) -> bool:
        """Lets time pass, a portion at a time; whether there is more of it."""
        async with self._turn:
            now = part.clock(int(time.time()))
            if now <= 0 or self.parts.get(part.number) is not part:
                return False
            alerts = await self._engines.run("tick", part.tick, now)
            await self._publish(part, alerts, None)
            return part.ticked < now

    async def _reconcile(self, part: Part) -> None:
        """Sets right what another worker told that this engine, which judged topics in another order, does not say."""
        told: list[Alert] = []
        tp, end = self._alerts(part.number), part.alerts
        if part.agreed < end:
            try:
                async with reader(self.settings) as consumer:
                    async for _, records in read_to_end(consumer, {tp: part.agreed}, {tp: end}):
                        told += await self._engines.run("reconcile", _alerts_of, records)
            except (KafkaError, UnansweredError) as error:
                log.warning("partition %d: what was told before cannot be read yet: %r", part.number, error)
                return
        async with self._turn:
            if self.parts.get(part.number) is not part or part.alerts != end:
                return
            part.agreed, part.reconciled = end, True
            alerts = await self._engines.run("reconcile", part.engine.reconcile, told, part.published)
            part.published.clear()
            await self._publish(part, alerts, None)
            if alerts:
                log.info("partition %d: sets right %d alerts of %d told before", part.number, len(alerts), len(told))

    async def _adopt(self, part: Part) -> None:
        """Goes on by another rulebook, from a checkpoint that says so."""
        async with self._writing, self._turn:
            if self.parts.get(part.number) is not part:
                return
            part.rulebook = self.rulebook
            alerts = await self._engines.run("adopt", part.engine.adopt, applied(part.rulebook, self.rules))
            await self._publish(part, alerts, None)
            await self._write(part, await self._capture(part))
            log.info("partition %d goes on by another rulebook", part.number)

    async def _save(self, part: Part) -> None:
        async with self._writing:
            async with self._turn:
                if self.parts.get(part.number) is not part:
                    return
                captured = await self._capture(part)
            await self._write(part, captured)

    async def _capture(self, part: Part) -> Captured:
        if part.reconciled:
            part.agreed = max(part.agreed, self._outbox.told.get(part.number, 0))
        offsets = {topic: part.judged[topic] for topic in SOURCES}
        begun = {topic: part.begun.get(topic, 0) for topic in SOURCES}
        state = await self._engines.run("snapshot", part.engine.capture)
        return Captured(state, offsets, begun, part.paces, part.agreed, dict(part.last_events), dict(part.marks))

    async def _write(self, part: Part, captured: Captured) -> None:
        state = await asyncio.to_thread(packed, captured.state)
        await self._outbox.settle(part.number)
        self._check_awake()
        tp = TopicPartition(self.settings.topic(CHECKPOINTS), part.number)
        try:
            written = await checkpoints.write(
                self._producer, tp, state, captured.offsets, partitions=self.settings.partitions,
                last=part.written, rulebook=part.rulebook, agreed=captured.agreed, begun=captured.begun,
                paces=captured.paces, marks=captured.marks, epoch=part.epoch,
            )  # fmt: skip
        except KafkaError as error:
            fatal(f"`{tp.topic}` does not take a checkpoint: {error!r}")
        part.keep(written, captured.offsets, captured.begun)
        for event in captured.events.values():
            event.ack()
        await asyncio.to_thread(give_back)

    async def _watch(self) -> NoReturn:
        """Measures lag, and ends the process when there is no progress."""
        rules = [TopicPartition(self.settings.topic(RULES), 0)]  # asked about while no part is held
        uncommitted = reader(self.settings, isolation="read_uncommitted")
        async with reader(self.settings) as stable, uncommitted as whole:
            while True:
                await asyncio.sleep(BEAT)
                self._check_assignment()
                parts = list(self.parts.values())
                tps = [TopicPartition(topic, part.number) for part in parts for topic in self.topics]
                asked = time.monotonic()
                try:
                    ends = await answered(stable.end_offsets(tps or rules), ANSWER)
                    marks = await answered(whole.end_offsets(tps or rules), ANSWER)
                    first = await answered(stable.beginning_offsets(tps or rules), ANSWER)
                except KafkaError:
                    self._unanswered += BEAT + min(time.monotonic() - asked, ANSWER)
                    continue
                self._unanswered = 0.0
                self.metrics.answered()
                await self._check_suspects(first, marks)
                for part in parts:
                    self._look(part, self._of(part, ends), self._of(part, marks))
                    await self._pass_over(part, self._of(part, first))

    async def _check_suspects(
        self, first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        """Ends the process when a topic under suspicion is another than was judged."""
        suspects = {number: part for number, part in self.parts.items() if number in self._suspects}
        self._suspects.clear()
        with contextlib.suppress(KafkaError, UnansweredError):
            here = {tp: end for tp, end in ends.items() if tp.partition in suspects and tp.topic in self.topics}
            for change in (await self._changes(suspects, first, here)).values():
                fatal(change)

    async def _pass_over(self, part: Part, first: Mapping[str, int]) -> None:
        """Goes on behind what was deleted of topics of which nothing came since."""
        for topic, offset in first.items():
            if part.stranded(topic, offset):
                async with self._turn:
                    if self.parts.get(part.number) is part and part.stranded(topic, offset):
                        await self._lose(part, topic, part.judged[topic], offset)
                        part.start(topic, offset)

    def _of(self, part: Part, offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
        """What a part has of offsets, by topic."""
        return {self.topics[tp.topic]: offset for tp, offset in offsets.items() if tp.partition == part.number}

    def _check_assignment(self) -> None:
        """Ends the process when it has not come to hold what it is assigned."""
        waited = time.monotonic() - self._changed_at
        if self._assigned != set(self.parts) and waited > self.settings.stall_seconds:
            fatal(f"after {waited:.0f} s this worker holds partitions {sorted(self.parts)} and not {self._assigned}")

    def _look(self, part: Part, ends: Mapping[str, int], marks: Mapping[str, int] = NOWHERE) -> None:
        """Takes note of where a part's topics end, for who reads what is committed, and beyond that."""
        if self.parts.get(part.number) is not part:
            return
        if (still := part.look(ends, marks, busy=self._engines.busy)) > self.settings.stall_seconds:
            told = f"has {sum(part.lags.values())} records waiting and has not moved for {still:.0f} s: {part.lags}"
            fatal(f"partition {part.number} {told}")
        self.metrics.measured(part.number, {self.settings.topic(name): lag for name, lag in part.lags.items()})
        self._count(part)

    def _count(self, part: Part) -> None:
        """Brings the metrics up to what the engine has counted."""
        engine = part.engine
        counted, told = Counter(engine.counts), Counter(engine.told)  # copied once: the engine's thread counts on
        self.metrics.count(counted - part.counted)
        self.metrics.tell(told - part.told)
        part.counted, part.told = counted, told
        self.metrics.meters.labels(str(part.number)).set(engine.meters)
        strangers = self._intake.unknown_meters(part.number, engine)
        self.metrics.unknown_meters.labels(str(part.number)).set(strangers)
        self.metrics.saved(part.number, part.written.taken, part.written.size)

    async def _beat(self) -> NoReturn:
        """Notes that the event loop moves, and by how much it is late."""
        while True:
            due = time.monotonic() + PULSE
            await asyncio.sleep(PULSE)
            self.metrics.pause.observe(time.monotonic() - due)
            self._check_awake()
            self._awake = time.monotonic()
            self._check_brokers()

    def _watch_loop(self) -> NoReturn:
        """In a thread: ends the process when the event loop or the engine's thread hangs."""
        while True:
            time.sleep(BEAT)
            if (still := time.monotonic() - self._awake) > self.settings.stall_seconds:
                faulthandler.dump_traceback()
                fatal(f"the event loop has not moved for {still:.0f} s")
            if wedged := self._engines.wedged(BEAT, self.settings.stall_seconds):
                faulthandler.dump_traceback()
                fatal(wedged)

    def _check_awake(self) -> None:
        """Ends the process when it slept through its session: others hold its partitions, what it would say is old."""
        if (asleep := time.monotonic() - self._awake) > SLEEP * self.settings.session_seconds:
            session = self.settings.session_seconds
            fatal(
                f"this process stood still for {asleep:.1f} s; `session_seconds` is {session:g}, of which it may miss "
                f"{SLEEP * session:g} before others take its partitions: give it more CPU, or a longer session"
            )

    def _check_brokers(self) -> None:
        """Says when brokers stop to answer or to take records; ends the process when they take none for too long."""
        self._deliveries.beat()
        if (oldest := self._deliveries.oldest) > (stall := self.settings.stall_seconds):
            fatal(f"what was published {oldest:.0f} s ago is on no broker yet (`stall_seconds` is {stall:g})")
        fault = ""
        if self._unanswered > SILENT_SECONDS:
            fault = f"at {self.settings.brokers} do not answer"
        elif self._deliveries.silence > SILENT_SECONDS:
            fault = f"at {self.settings.brokers} take nothing"
        self._outage.look(fault, max(self._unanswered, self._deliveries.silence))
        self.metrics.brokers_answer.set(not fault)

    async def _explain(self, gap: GapError, tp: TopicPartition, came: int) -> None:
        """Returns when the brokers have nothing before an offset any more; else it was lost here: ends the process."""
        first = -1
        while first < 0:
            try:
                async with reader(self.settings) as consumer:
                    first = (await answered(consumer.beginning_offsets([tp])))[tp]
            except (KafkaError, UnansweredError) as error:
                log.warning("%s, and the brokers do not say why yet: %s", gap, error)
                await asyncio.sleep(BEAT)
        if first < came:
            fatal(f"{gap}, and {first} exists")
        log.warning("%s: the brokers have no record between", gap)

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Suspects a topic of being another: it has none of what was due."""
        log.warning("`%s`, partition %d begins again at %d, and %d was due", tp.topic, tp.partition, begins, due)
        self._suspects.add(tp.partition)

    async def _serve(self, task: Callable[[], Any]) -> NoReturn:
        try:
            await task()
        except asyncio.CancelledError:
            if self._stopping:
                raise
        except (KafkaError, UnansweredError) as error:
            fatal(f"{task.__name__.strip('_')}: {error}")
        except Exception:
            log.exception("%s has failed", task.__name__)
        fatal("a task has ended")


def _alerts_of(records: Sequence[ConsumerRecord]) -> list[Alert]:
    return [alert for record in records if (alert := alert_of(record))]

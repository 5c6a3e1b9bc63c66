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

from detectors.engine import Capture, Engine, SnapshotError, pack_snapshot
from detectors.rulebook import EMPTY_RULEBOOK, applied, changes, problems, rules_of
from models import peers
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.rules import RulebookError
from schemas.wire import (
    Rejection,
    decode_events,
    decode_payments,
    decode_readings,
    decode_stages,
)
from streams import checkpoints
from streams.answers import answered
from streams.checkpoints import CheckpointError, Mark, WrittenCheckpoint
from streams.deliveries import Deliveries, Producer
from streams.fetched import FetchedRange, Record
from streams.intake import Decode, Intake, rejections_of, split_damage
from streams.logs import UnansweredError, alert_of, read_to_end, reader
from streams.memory import give_back
from streams.metrics import Metrics
from streams.outage import Outage
from streams.outbox import Outbox
from streams.partitions import BATCH_TYPES, GapError, Partition, PartitionProgress
from streams.places import advice, change_of, marks_at
from streams.rules import published
from streams.settings import Settings
from streams.thread import EngineThread
from streams.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    EVENTS_TOPIC,
    PAYMENTS_TOPIC,
    READS_TOPIC,
    REGISTRY_TOPIC,
    RULES_TOPIC,
    SOURCE_TOPICS,
    WORKFLOW_TOPIC,
)

WAITING_BYTES = 32 << 20  # that may wait for judgement before nothing more is fetched
CAPACITY_SECONDS = 1.0  # that a fetch waits for room: Faust may want to stop
PARTITIONS_AT_ONCE = 2  # parts that are judged at once
BEAT_SECONDS = 1.0  # seconds between looks at progress, lag and clock
PULSE_SECONDS = 0.1  # seconds between looks at how late the event loop is
SLEEP_SHARE = 0.8  # of a session: the last heartbeat may have been a while before
OFFSETS_ANSWER_SECONDS = (
    5.0  # seconds that the brokers have to say where their partitions end
)
SILENT_SECONDS = 10.0  # without an answer, after which brokers count as away: a last checkpoint waits no longer
HASTE_MS = 20  # that a broker holds a request back while a take-over has others to ask
NO_OFFSETS: Mapping[str, int] = MappingProxyType({})


class _Captured(NamedTuple):
    """What a checkpoint is to hold."""

    state: Capture
    offsets: dict[str, int]  # by topic, the next to judge
    begun: dict[str, int]  # by topic, how many rows from there on are judged already
    paces: dict[str, float]  # by topic, rows a second of CPU
    agreed: int  # as in the manifest
    events: dict[str, EventT[Any]]  # that are acknowledged when it is written
    marks: dict[str, Mark]  # as in the manifest


TOPIC_DECODERS: dict[str, tuple[str, Decode]] = {
    READS_TOPIC: ("readings", decode_readings),
    EVENTS_TOPIC: ("events", decode_events),
    PAYMENTS_TOPIC: ("payments", decode_payments),
    WORKFLOW_TOPIC: ("stages", decode_stages),
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
        self._metrics = metrics
        self.topics = {
            settings.topic(name): name for name in (REGISTRY_TOPIC, *SOURCE_TOPICS)
        }
        self.partitions: dict[int, Partition] = {}
        self.generation = -1  # of the group, in which the parts were taken over
        self._rules = rules_of(settings.voltage_limits)
        self._rulebook = EMPTY_RULEBOOK  # the last that was published and fits; each part goes on by it in its own time
        self._rules_known = asyncio.Event()
        self._assigned: set[int] | None = (
            None  # numbers, None while the group changes hands
        )
        self._changed_at = time.monotonic()
        self._stopping = False
        # handed over, and perhaps taken back unchanged
        self._handed_over: dict[int, Partition] = {}
        self._engines = EngineThread(metrics)
        self._intake = Intake(settings, metrics)
        # partitions of which a topic may be another than was judged
        self._suspects: set[int] = set()
        # held by whoever moves an engine or the parts
        self._engine_lock = asyncio.Lock()
        # held while a checkpoint is written; taken before the turn
        self._checkpoint_lock = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._capacity_freed = asyncio.Event()
        self._tasks: list[asyncio.Task[NoReturn]] = []
        self._awake = time.monotonic()
        self._deliveries = Deliveries()
        self._outage = Outage()
        self._unanswered = 0.0  # seconds for which the brokers have not said where their partitions end

    async def start(self) -> None:
        """Connects and starts to serve. Raises KafkaError."""
        self._outbox = Outbox(self.settings, self._metrics, self._deliveries, fatal)
        self._producer = Producer(self.settings, self._deliveries)
        await self._outbox.start()
        await self._producer.start()
        tasks = (
            self._follow_rules,
            self._judge_loop,
            self._maintain,
            self._monitor_lag,
            self._heartbeat,
        )
        self._tasks = [asyncio.create_task(self._serve(task)) for task in tasks]
        threading.Thread(
            target=self._loop_watchdog, name="watch-loop", daemon=True
        ).start()

    async def stop(self) -> None:
        """Hands everything over and disconnects; ends the process when no broker answers for SILENT_SECONDS."""
        self._stopping = True
        if not self._tasks:
            return
        await self._within(self.hand_over())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # all that was published is on the brokers
        with contextlib.suppress(KafkaError):
            await asyncio.gather(self._outbox.stop(), self._producer.stop())
        log.info("ended; the last checkpoint is taken")

    def next_offset(self, tp: TP) -> int | None:
        """Where to read a partition on, None when this worker does not hold it."""
        part = self.partitions.get(tp.partition)
        return part.enqueued[self.topics[tp.topic]] if part else None

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """Those of some partitions of which less waits than their share of WAITING_BYTES; waits a little for one.

        Each has a share of its own, so that none keeps another away that the others must wait for.
        """
        deadline = time.monotonic() + CAPACITY_SECONDS
        while not (wanted := {tp for tp in asked if self._has_capacity(tp)}):
            self._capacity_freed.clear()
            try:
                await asyncio.wait_for(
                    self._capacity_freed.wait(), deadline - time.monotonic()
                )
            except TimeoutError:
                break
        return wanted

    async def enqueue(self, event: EventT[Any]) -> None:
        """Puts a slice where it waits for judgement."""
        message = event.message
        topic, span = self.topics[message.topic], cast(FetchedRange, event.value)
        while message.generation_id == self.generation and (
            part := self.partitions.get(message.partition)
        ):
            try:
                part.enqueue(topic, span, event)
            except GapError as gap:
                due = part.enqueued[topic]
                await self._explain(
                    gap, TopicPartition(message.topic, message.partition), span.begins
                )
                async with self._engine_lock:
                    if part.enqueued[topic] == due:
                        await self._lose(part, topic, due, span.begins)
                        part.skip(topic, span.begins)
                continue
            self._arrived.set()
            return

    def expect(self, assigned: Iterable[TP]) -> None:
        """Notes what is about to be taken over."""
        self._assigned, self._changed_at = (
            {tp.partition for tp in assigned},
            time.monotonic(),
        )

    async def take_over(self, assigned: Iterable[TP], generation: int) -> None:
        """Restores the parts of the assigned partitions: checkpoints, and master data from the registry.

        A part that begins takes a checkpoint first, which says by which rules. Reading must not go on before this
        returns.
        """
        held = set(assigned)
        numbers = {tp.partition for tp in held}
        if held != {TP(topic, number) for topic in self.topics for number in numbers}:
            missing = sorted(set(self.topics) - {tp.topic for tp in held})
            fatal(
                f"partitions of one number come apart: do all workers read the same topics, and is {missing} there?"
            )
        await self._rules_known.wait()
        async with self._checkpoint_lock, self._engine_lock:
            started = time.monotonic()
            while not self._stopping:
                try:
                    async with (
                        reader(self.settings, wait_ms=HASTE_MS) as consumer,
                        reader(self.settings) as asked,
                    ):
                        self.partitions = await self._restore(
                            consumer, asked, sorted(numbers)
                        )
                    break
                except CheckpointError as error:
                    fatal(str(error))
                except (KafkaError, UnansweredError) as error:
                    log.warning(
                        "partitions %s cannot be taken over yet: %s",
                        sorted(numbers),
                        error,
                    )
                    await asyncio.sleep(BEAT_SECONDS)
            else:
                return
            for part in self.partitions.values():
                if not part.written.set:
                    await self._write(part, await self._capture(part))
            self.generation = generation
            self._handed_over.clear()
            meters = sum(part.engine.meters for part in self.partitions.values())
            log.info(
                "holds partitions %s with %d meters after %.1f s",
                sorted(numbers),
                meters,
                time.monotonic() - started,
            )

    async def hand_over(self) -> None:
        """Takes a last checkpoint of every part and lets go of it."""
        async with self._checkpoint_lock, self._engine_lock:
            if self.partitions:
                log.info("hands over %d partitions", len(self.partitions))
            for part in self.partitions.values():
                if part.unsaved:
                    await self._write(part, await self._capture(part))
                await self._outbox.settle(part.number)
            self._handed_over, self.partitions = self.partitions, {}
            for part in self._handed_over.values():
                self._count(part)
                part.drop()
                self._metrics.forget(self.topics, part.number)
            self._assigned, self._changed_at = None, time.monotonic()
            self._capacity_freed.set()

    async def _within(self, work: Awaitable[Any]) -> None:
        """Returns when work is done; ends the process once brokers have been away for SILENT_SECONDS."""
        task, began = asyncio.ensure_future(work), time.monotonic()
        while not (await asyncio.wait({task}, timeout=BEAT_SECONDS))[0]:
            self._deliveries.beat()
            silent = max(self._deliveries.silence, self._unanswered)
            if min(silent, time.monotonic() - began) > SILENT_SECONDS:
                fatal(
                    "no broker takes the last checkpoint; the next worker goes on from the one before"
                )
        await task

    def _has_capacity(self, tp: TP) -> bool:
        part = self.partitions.get(tp.partition)
        share = WAITING_BYTES / max(len(self.partitions) * len(self.topics), 1)
        return part is None or part.waiting_bytes[self.topics[tp.topic]] <= share

    def _alerts(self, number: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(ALERTS_TOPIC), number)

    async def _restore(
        self,
        consumer: AIOKafkaConsumer,
        asked: AIOKafkaConsumer,
        numbers: Sequence[int],
    ) -> dict[int, Partition]:
        """Parts as their checkpoints have them; `asked` answers at once where topics end, for it fetches nothing."""
        known = {number: part.written for number, part in self._handed_over.items()}
        topic, partitions = (
            self.settings.topic(CHECKPOINTS_TOPIC),
            self.settings.partitions,
        )
        tps = [
            TopicPartition(topic, number) for topic in self.topics for number in numbers
        ]
        alert_tps = [self._alerts(number) for number in numbers]
        found, first = await asyncio.gather(
            checkpoints.newest(consumer, topic, numbers, known, partitions),
            asked.beginning_offsets([*tps, *alert_tps]),
        )
        ends, alerts = await asked.end_offsets(tps), await asked.end_offsets(alert_tps)
        until = int(time.time()) if self.settings.clock == "wall" else 0
        parts: dict[int, Partition] = {}
        for number in numbers:
            if number in found:
                parts[number] = await self._engines.run(
                    "restore", self._restored_partition, number, found[number]
                )
            else:
                parts[number] = self._handed_over[number]
            parts[number].resume(
                self._offsets_of(parts[number], ends),
                alerts[self._alerts(number)],
                until,
            )
        await self._read_on(parts, first, ends)
        registry = [
            TopicPartition(self.settings.topic(REGISTRY_TOPIC), number)
            for number in numbers
        ]
        async for tp, records in read_to_end(
            consumer, {tp: first[tp] for tp in registry}
        ):
            await self._enroll(parts[tp.partition], records)
        for tp in registry:
            parts[tp.partition].start(REGISTRY_TOPIC, ends[tp])
        return parts

    async def _read_on(
        self,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Has parts go on with their source topics after what they contain. Raises CheckpointError."""
        changes = await self._changes(partitions, first, ends)
        for tp in (tp for tp in ends if self.topics[tp.topic] != REGISTRY_TOPIC):
            part, topic = partitions[tp.partition], self.topics[tp.topic]
            contained = part.judged.get(topic)
            # begins at 0
            self._metrics.deleted_offsets.labels(tp.topic, str(tp.partition))
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
        self,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, str]:
        """The source topics that are others than were judged, and what to do about each."""
        marks: dict[TopicPartition, Mark] = {}
        judged: dict[TopicPartition, int] = {}
        for tp in ends:
            topic, part = self.topics[tp.topic], partitions[tp.partition]
            if topic != REGISTRY_TOPIC and topic in part.judged:
                judged[tp] = part.judged[topic]
                if topic in part.marks:
                    marks[tp] = part.marks[topic]
        places = {
            tp: mark.offset
            for tp, mark in marks.items()
            if first[tp] <= mark.offset < ends[tp]
        }
        found = await marks_at(self.settings, places)
        changes = {
            tp: change_of(at, marks.get(tp), found.get(tp), ends[tp])
            for tp, at in judged.items()
        }
        return {
            tp: advice(tp, judged[tp], change)
            for tp, change in changes.items()
            if change
        }

    async def _lose(
        self, partition: Partition, topic: str, due: int, first: int
    ) -> None:
        """Notes that records were deleted before they were judged; what may have come with them cannot be told."""
        if due >= first or topic == REGISTRY_TOPIC:
            return
        name = self.settings.topic(topic)
        told = "are gone before they were judged; retention is too short, and what they may have told is not missed"
        log.warning(
            "`%s`, partition %d: records %d to %d %s",
            name,
            partition.number,
            due,
            first - 1,
            told,
        )
        self._metrics.deleted_offsets.labels(name, str(partition.number)).inc(
            first - due
        )
        await self._engines.run(
            "restore", partition.engine.note_lost_rows, BATCH_TYPES[topic]
        )

    def _restored_partition(
        self, number: int, checkpoint: checkpoints.Checkpoint | None
    ) -> Partition:
        rulebook = checkpoint.manifest.rulebook if checkpoint else self._rulebook
        engine = Engine(
            applied(rulebook, self._rules),
            zone=self.settings.zone,
            interval=self.settings.interval,
        )
        if checkpoint is None:
            return Partition(number, engine, {}, WrittenCheckpoint(), rulebook)
        for fault in problems(rulebook):
            log.error(
                "partition %d: judged as in code, for this version has other rules: %s",
                number,
                fault,
            )
        try:
            afresh = engine.restore(checkpoint.state)
        except SnapshotError as error:
            raise CheckpointError(
                f"partition {number}: {error}. {checkpoints.START_AFRESH}"
            ) from error
        for owner in afresh:
            self._metrics.reset.labels(owner).inc()
        if afresh:
            log.warning(
                "partition %d: the checkpoint was written by another version; these start afresh, and rules that wait "
                "for them cannot tell yet: %s",
                number,
                ", ".join(afresh),
            )
        told = checkpoint.manifest
        written = WrittenCheckpoint(
            told.sequence,
            told.set,
            checkpoint.begins,
            told.taken,
            len(checkpoint.state),
            told.agreed,
        )
        progress = PartitionProgress(told.begun, told.paces, told.marks, told.epoch)
        return Partition(number, engine, told.offsets, written, rulebook, progress)

    async def _follow_rules(self) -> NoReturn:
        """Keeps to what is published of rules."""
        tp = TopicPartition(self.settings.topic(RULES_TOPIC), 0)
        async with reader(self.settings) as consumer:
            ends = await consumer.end_offsets([tp])
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            while True:
                if (
                    not self._rules_known.is_set()
                    and await consumer.position(tp) >= ends[tp]
                ):
                    self._rules_known.set()
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    self._receive_rules(record.key, record.value, record.offset)

    def _receive_rules(
        self, key: bytes | None, value: bytes | None, offset: int
    ) -> None:
        try:
            rulebook = published(key, value, self._rulebook)
        except RulebookError as error:
            self._metrics.count_rejected(RULES_TOPIC, "rulebook", 1)
            log.warning(
                "offset %d of `_rules` is refused, the rulebook before stays in force: %s",
                offset,
                error,
            )
            return
        for name, told in changes(rulebook, self._rulebook).items():
            log.info(
                "%s has version %d: %s",
                name,
                rulebook.rules[name].version,
                ", ".join(told),
            )
        self._rulebook = rulebook

    async def _judge_loop(self) -> NoReturn:
        """Judges a piece of each part in turn, of PARTITIONS_AT_ONCE parts at once, so that the engines' thread is kept busy.

        A call that needs an engine or the parts waits for PARTITIONS_AT_ONCE pieces at most.
        """
        loaded: asyncio.Future[None] | None = None
        while True:
            self._arrived.clear()
            busy = False
            numbers = list(self.partitions)
            for first in range(0, len(numbers), PARTITIONS_AT_ONCE):
                async with self._engine_lock:
                    moved = await asyncio.gather(
                        *map(self._advance, numbers[first : first + PARTITIONS_AT_ONCE])
                    )
                busy |= any(moved)
                await asyncio.sleep(0)
            if not busy:
                if numbers and loaded is None:
                    loaded = asyncio.ensure_future(
                        asyncio.to_thread(peers.import_river)
                    )
                # a part may have waited long enough for a topic
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), BEAT_SECONDS)

    async def _advance(self, number: int) -> bool:
        """Judges a piece of a part; whether there was something."""
        part = self.partitions.get(number)
        if not part or not (part.in_hand or await self._start_chunk(part)):
            return False
        await self._step(part)
        self._capacity_freed.set()
        return True

    async def _start_chunk(self, partition: Partition) -> bool:
        """Takes what is next of a part in hand; whether there was something."""
        chunk = partition.next_chunk()
        if chunk is None:
            return False
        records, damage = split_damage(chunk.records)
        if damage:
            kind = (
                REGISTRY_TOPIC
                if chunk.topic == REGISTRY_TOPIC
                else TOPIC_DECODERS[chunk.topic][0]
            )
            await self._reject(
                partition, chunk.topic, kind, damage, rejections_of(damage)
            )
        if chunk.topic == REGISTRY_TOPIC:
            await self._enroll(partition, records)
            partition.finish_chunk(chunk, 0)
            return True

        kind, decode = TOPIC_DECODERS[chunk.topic]
        registry = partition.engine.registry
        decoded = await self._engines.run(
            "decode", self._intake.decode, partition.number, registry, decode, records
        )
        partition.begin(chunk, decoded.batch, decoded.accepted)
        if decoded.rejections:
            await self._reject(
                partition, chunk.topic, kind, records, decoded.rejections
            )
        return True

    async def _step(self, partition: Partition) -> None:
        """Judges the next piece of what a part has in hand, and publishes what it gave."""
        if (hand := partition.in_hand) is None:
            return
        topic, records = self.settings.topic(hand.chunk.topic), hand.chunk.records
        judged = await self._engines.run("step", partition.judge, hand)
        partition.note_judged(hand, judged)
        self._metrics.step.observe(judged.seconds)
        for rows, reason in judged.rejected:
            # what else the engine rejects, the wire has refused before
            if isinstance(rows, Readings):
                await self._outbox.reject_rows(
                    topic, partition.number, records, rows, reason
                )
        await self._publish(partition, judged.alerts, hand.chunk.oldest_receipt)

    async def _publish(
        self, partition: Partition, alerts: Sequence[Alert], evidence: float | None
    ) -> None:
        """Publishes alerts of a part; evidence is when their records were sent, None for a timer's alerts."""
        if not alerts:
            return
        self._check_awake()
        if not partition.reconciled:
            partition.published.update(alert.id for alert in alerts)
        await self._outbox.publish_alerts(partition.number, alerts, evidence)

    async def _enroll(self, partition: Partition, records: Sequence[Record]) -> None:
        refusals = await self._engines.run(
            "enroll", self._intake.enroll, partition.number, partition.engine, records
        )
        if refusals:
            await self._reject(
                partition, REGISTRY_TOPIC, REGISTRY_TOPIC, records, refusals
            )

    async def _reject(
        self,
        partition: Partition,
        topic: str,
        kind: str,
        records: Sequence[Record],
        rejections: list[Rejection],
    ) -> None:
        for refusal in rejections:
            self._metrics.count_rejected(kind, refusal.reason, refusal.rows)
        await self._outbox.reject_records(
            self.settings.topic(topic), partition.number, records, rejections
        )

    async def _maintain(self) -> NoReturn:
        """Ticks, reconciles and takes checkpoints when they are due."""
        behind = False
        while True:
            await asyncio.sleep(0 if behind else BEAT_SECONDS)
            behind = False
            for part in list(self.partitions.values()):
                if self.settings.clock == "wall":
                    behind |= await self._tick(part)
                if not part.reconciled and part.settled:
                    await self._reconcile(part)
                if part.rulebook != self._rulebook and part.reconciled:
                    await self._adopt(part)
                elif (
                    part.unsaved
                    and part.since_saved() >= self.settings.checkpoint_seconds
                ):
                    await self._save(part)

    async def _tick(self, partition: Partition) -> bool:
        """Lets time pass, a portion at a time; whether there is more of it."""
        async with self._engine_lock:
            now = partition.time_bound(int(time.time()))
            if now <= 0 or self.partitions.get(partition.number) is not partition:
                return False
            alerts = await self._engines.run("tick", partition.tick, now)
            await self._publish(partition, alerts, None)
            return partition.ticked < now

    async def _reconcile(self, partition: Partition) -> None:
        """Sets right what another worker told that this engine, which judged topics in another order, does not say."""
        told: list[Alert] = []
        tp, end = self._alerts(partition.number), partition.alerts_end
        if partition.agreed < end:
            try:
                async with reader(self.settings) as consumer:
                    async for _, records in read_to_end(
                        consumer, {tp: partition.agreed}, {tp: end}
                    ):
                        told += await self._engines.run(
                            "reconcile", _alerts_of, records
                        )
            except (KafkaError, UnansweredError) as error:
                log.warning(
                    "partition %d: what was told before cannot be read yet: %r",
                    partition.number,
                    error,
                )
                return
        async with self._engine_lock:
            if (
                self.partitions.get(partition.number) is not partition
                or partition.alerts_end != end
            ):
                return
            partition.agreed, partition.reconciled = end, True
            alerts = await self._engines.run(
                "reconcile", partition.engine.reconcile, told, partition.published
            )
            partition.published.clear()
            await self._publish(partition, alerts, None)
            if alerts:
                log.info(
                    "partition %d: sets right %d alerts of %d told before",
                    partition.number,
                    len(alerts),
                    len(told),
                )

    async def _adopt(self, partition: Partition) -> None:
        """Goes on by another rulebook, from a checkpoint that says so."""
        async with self._checkpoint_lock, self._engine_lock:
            if self.partitions.get(partition.number) is not partition:
                return
            partition.rulebook = self._rulebook
            alerts = await self._engines.run(
                "adopt",
                partition.engine.adopt,
                applied(partition.rulebook, self._rules),
            )
            await self._publish(partition, alerts, None)
            await self._write(partition, await self._capture(partition))
            log.info("partition %d goes on by another rulebook", partition.number)

    async def _save(self, partition: Partition) -> None:
        async with self._checkpoint_lock:
            async with self._engine_lock:
                if self.partitions.get(partition.number) is not partition:
                    return
                captured = await self._capture(partition)
            await self._write(partition, captured)

    async def _capture(self, partition: Partition) -> _Captured:
        if partition.reconciled:
            partition.agreed = max(
                partition.agreed, self._outbox.alert_offsets.get(partition.number, 0)
            )
        offsets = {topic: partition.judged[topic] for topic in SOURCE_TOPICS}
        begun = {topic: partition.begun.get(topic, 0) for topic in SOURCE_TOPICS}
        state = await self._engines.run("snapshot", partition.engine.capture)
        return _Captured(
            state,
            offsets,
            begun,
            partition.paces,
            partition.agreed,
            dict(partition.last_events),
            dict(partition.marks),
        )

    async def _write(self, partition: Partition, captured: _Captured) -> None:
        state = await asyncio.to_thread(pack_snapshot, captured.state)
        await self._outbox.settle(partition.number)
        self._check_awake()
        tp = TopicPartition(self.settings.topic(CHECKPOINTS_TOPIC), partition.number)
        try:
            written = await checkpoints.write_checkpoint(
                self._producer,
                tp,
                state,
                captured.offsets,
                partitions=self.settings.partitions,
                last=partition.written,
                rulebook=partition.rulebook,
                agreed=captured.agreed,
                begun=captured.begun,
                paces=captured.paces,
                marks=captured.marks,
                epoch=partition.epoch,
            )
        except KafkaError as error:
            fatal(f"`{tp.topic}` does not take a checkpoint: {error!r}")
        partition.note_checkpoint(written, captured.offsets, captured.begun)
        for event in captured.events.values():
            event.ack()
        await asyncio.to_thread(give_back)

    async def _monitor_lag(self) -> NoReturn:
        """Measures lag, and ends the process when there is no progress."""
        # asked about while no part is held
        rules = [TopicPartition(self.settings.topic(RULES_TOPIC), 0)]
        uncommitted = reader(self.settings, isolation="read_uncommitted")
        async with reader(self.settings) as stable, uncommitted as whole:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                self._check_assignment()
                parts = list(self.partitions.values())
                tps = [
                    TopicPartition(topic, part.number)
                    for part in parts
                    for topic in self.topics
                ]
                asked = time.monotonic()
                try:
                    ends = await answered(
                        stable.end_offsets(tps or rules), OFFSETS_ANSWER_SECONDS
                    )
                    marks = await answered(
                        whole.end_offsets(tps or rules), OFFSETS_ANSWER_SECONDS
                    )
                    first = await answered(
                        stable.beginning_offsets(tps or rules), OFFSETS_ANSWER_SECONDS
                    )
                except KafkaError:
                    self._unanswered += BEAT_SECONDS + min(
                        time.monotonic() - asked, OFFSETS_ANSWER_SECONDS
                    )
                    continue
                self._unanswered = 0.0
                self._metrics.answered()
                await self._check_suspects(first, marks)
                for part in parts:
                    self._check_progress(
                        part,
                        self._offsets_of(part, ends),
                        self._offsets_of(part, marks),
                    )
                    await self._skip_deleted(part, self._offsets_of(part, first))

    async def _check_suspects(
        self, first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        """Ends the process when a topic under suspicion is another than was judged."""
        suspects = {
            number: part
            for number, part in self.partitions.items()
            if number in self._suspects
        }
        self._suspects.clear()
        with contextlib.suppress(KafkaError, UnansweredError):
            here = {
                tp: end
                for tp, end in ends.items()
                if tp.partition in suspects and tp.topic in self.topics
            }
            for change in (await self._changes(suspects, first, here)).values():
                fatal(change)

    async def _skip_deleted(
        self, partition: Partition, first: Mapping[str, int]
    ) -> None:
        """Goes on behind what was deleted of topics of which nothing came since."""
        for topic, offset in first.items():
            if partition.stranded(topic, offset):
                async with self._engine_lock:
                    if self.partitions.get(
                        partition.number
                    ) is partition and partition.stranded(topic, offset):
                        await self._lose(
                            partition, topic, partition.judged[topic], offset
                        )
                        partition.start(topic, offset)

    def _offsets_of(
        self, partition: Partition, offsets: Mapping[TopicPartition, int]
    ) -> dict[str, int]:
        """What a part has of offsets, by topic."""
        return {
            self.topics[tp.topic]: offset
            for tp, offset in offsets.items()
            if tp.partition == partition.number
        }

    def _check_assignment(self) -> None:
        """Ends the process when it has not come to hold what it is assigned."""
        waited = time.monotonic() - self._changed_at
        if (
            self._assigned != set(self.partitions)
            and waited > self.settings.stall_seconds
        ):
            fatal(
                f"after {waited:.0f} s this worker holds partitions {sorted(self.partitions)} and not {self._assigned}"
            )

    def _check_progress(
        self,
        partition: Partition,
        ends: Mapping[str, int],
        high_watermarks: Mapping[str, int] = NO_OFFSETS,
    ) -> None:
        """Takes note of where a part's topics end, for who reads what is committed, and beyond that."""
        if self.partitions.get(partition.number) is not partition:
            return
        if (
            still := partition.note_ends(ends, high_watermarks, busy=self._engines.busy)
        ) > self.settings.stall_seconds:
            told = f"has {sum(partition.lags.values())} records waiting and has not moved for {still:.0f} s: {partition.lags}"
            fatal(f"partition {partition.number} {told}")
        self._metrics.measured(
            partition.number,
            {self.settings.topic(name): lag for name, lag in partition.lags.items()},
        )
        self._count(partition)

    def _count(self, partition: Partition) -> None:
        """Brings the metrics up to what the engine has counted."""
        engine = partition.engine
        # copied once: the engine's thread counts on
        counted, told = (
            Counter(engine.counts),
            Counter(engine.alert_counts),
        )
        self._metrics.count(counted - partition.counted_rows)
        self._metrics.count_alerts(told - partition.counted_alerts)
        partition.counted_rows, partition.counted_alerts = counted, told
        self._metrics.meters.labels(str(partition.number)).set(engine.meters)
        strangers = self._intake.unknown_meters(partition.number, engine)
        self._metrics.unknown_meters.labels(str(partition.number)).set(strangers)
        self._metrics.saved(
            partition.number, partition.written.taken, partition.written.size
        )

    async def _heartbeat(self) -> NoReturn:
        """Notes that the event loop moves, and by how much it is late."""
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self._metrics.pause.observe(time.monotonic() - due)
            self._check_awake()
            self._awake = time.monotonic()
            self._check_brokers()

    def _loop_watchdog(self) -> NoReturn:
        """In a thread: ends the process when the event loop or the engine's thread hangs."""
        while True:
            time.sleep(BEAT_SECONDS)
            if (still := time.monotonic() - self._awake) > self.settings.stall_seconds:
                faulthandler.dump_traceback()
                fatal(f"the event loop has not moved for {still:.0f} s")
            if wedged := self._engines.wedged(
                BEAT_SECONDS, self.settings.stall_seconds
            ):
                faulthandler.dump_traceback()
                fatal(wedged)

    def _check_awake(self) -> None:
        """Ends the process when it slept through its session: others hold its partitions, what it would say is old."""
        if (
            asleep := time.monotonic() - self._awake
        ) > SLEEP_SHARE * self.settings.session_seconds:
            session = self.settings.session_seconds
            fatal(
                f"this process stood still for {asleep:.1f} s; `session_seconds` is {session:g}, of which it may miss "
                f"{SLEEP_SHARE * session:g} before others take its partitions: give it more CPU, or a longer session"
            )

    def _check_brokers(self) -> None:
        """Says when brokers stop to answer or to take records; ends the process when they take none for too long."""
        self._deliveries.beat()
        if (oldest := self._deliveries.oldest) > (stall := self.settings.stall_seconds):
            fatal(
                f"what was published {oldest:.0f} s ago is on no broker yet (`stall_seconds` is {stall:g})"
            )
        fault = ""
        if self._unanswered > SILENT_SECONDS:
            fault = f"at {self.settings.brokers} do not answer"
        elif self._deliveries.silence > SILENT_SECONDS:
            fault = f"at {self.settings.brokers} take nothing"
        self._outage.note_fault(fault, max(self._unanswered, self._deliveries.silence))
        self._metrics.brokers_answer.set(not fault)

    async def _explain(self, gap: GapError, tp: TopicPartition, begins: int) -> None:
        """Returns when the brokers have nothing before an offset any more; else it was lost here: ends the process."""
        first = -1
        while first < 0:
            try:
                async with reader(self.settings) as consumer:
                    first = (await answered(consumer.beginning_offsets([tp])))[tp]
            except (KafkaError, UnansweredError) as error:
                log.warning("%s, and the brokers do not say why yet: %s", gap, error)
                await asyncio.sleep(BEAT_SECONDS)
        if first < begins:
            fatal(f"{gap}, and {first} exists")
        log.warning("%s: the brokers have no record between", gap)

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Suspects a topic of being another: it has none of what was due."""
        log.warning(
            "`%s`, partition %d begins again at %d, and %d was due",
            tp.topic,
            tp.partition,
            begins,
            due,
        )
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

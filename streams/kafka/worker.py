"""The worker: judges the partitions it is assigned, publishes alerts, takes checkpoints and hands over.

Alerts and rejects go to the broker first, then the checkpoint, then the acknowledgement. A crash between any two
repeats work and changes nothing. If state and offsets may not belong together, the process ends, and the next
worker restores the last checkpoint.
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
from models.meters import peers
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.rules import RulebookError
from schemas.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    REGISTRY_TOPIC,
    RULES_TOPIC,
    SOURCE_TOPICS,
    TOPIC_KINDS,
)
from schemas.wire import (
    Rejection,
)
from streams.kafka import checkpoints
from streams.kafka.answers import answered
from streams.kafka.checkpoints import CheckpointError, Mark, WrittenCheckpoint
from streams.kafka.deliveries import Deliveries, Producer
from streams.kafka.fetched import FetchedRange, Record
from streams.kafka.intake import Intake, rejections_of, split_damage
from streams.kafka.logs import UnansweredError, alert_of, read_to_end, reader
from streams.kafka.memory import give_back
from streams.kafka.metrics import Metrics
from streams.kafka.outage import Outage
from streams.kafka.outbox import Outbox
from streams.kafka.partitions import GapError, Partition, PartitionProgress
from streams.kafka.thread import EngineThread
from streams.kafka.topic_identity import advice, change_of, marks_at
from streams.rules import published
from streams.settings import Settings

WAITING_BYTES = 32 << 20  # bytes of backlog at which a worker stops fetching
CAPACITY_SECONDS = 1.0  # that a fetch waits for capacity: Faust may want to stop
PARTITIONS_AT_ONCE = 2  # partitions that are judged at once
BEAT_SECONDS = 1.0  # seconds between looks at progress, lag and clock
PULSE_SECONDS = 0.1  # seconds between looks at how late the event loop is
SLEEP_SHARE = 0.8  # of a session: the last heartbeat may have been a while before
OFFSETS_ANSWER_SECONDS = 5.0  # that the brokers have to say where partitions end
# Seconds without an answer after which the brokers count as away, and the last checkpoint waits no longer.
SILENT_SECONDS = 10.0
HASTE_MS = 20  # that a broker holds a request back while a take-over has more to ask
NO_OFFSETS: Mapping[str, int] = MappingProxyType({})


class _Captured(NamedTuple):
    """The content of a checkpoint, captured at one moment."""

    state: Capture
    offsets: dict[str, int]  # by topic, the next to judge
    begun: dict[str, int]  # by topic, rows from there on that are judged already
    paces: dict[str, float]  # by topic, rows a second of CPU
    agreed: int  # as in the manifest
    events: dict[str, EventT[Any]]  # acknowledged once the checkpoint is written
    marks: dict[str, Mark]  # as in the manifest


log = logging.getLogger("meterwatch")


def fatal(reason: str) -> NoReturn:
    """Ends the process at once with exit code 1, as if killed: the next worker repeats what was unfinished."""
    log.critical("%s; this worker ends", reason)
    logging.shutdown()
    os._exit(1)


class Worker:
    """The partitions that this process has, and the tasks that serve them."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self.topics = {
            settings.topic(name): name for name in (REGISTRY_TOPIC, *SOURCE_TOPICS)
        }

        self.partitions: dict[int, Partition] = {}
        self.generation = -1  # of the group in which the partitions were taken over

        self._rules = rules_of(settings.voltage_limits)
        # The last rulebook that was published and is valid; each partition adopts it in its own time.
        self._rulebook = EMPTY_RULEBOOK
        self._rules_known = asyncio.Event()

        # Partition numbers; None while the group changes hands.
        self._assigned: set[int] | None = None
        self._changed_at = time.monotonic()
        self._stopping = False
        # Partitions that were handed over, and may be taken back unchanged.
        self._handed_over: dict[int, Partition] = {}

        self._engines = EngineThread(metrics)
        self._intake = Intake(settings, metrics)
        # Partitions with a topic that may have been created anew since it was judged.
        self._suspects: set[int] = set()

        # Held by whoever changes an engine or `partitions`.
        self._engine_lock = asyncio.Lock()
        # Held while a checkpoint is written; taken before the engine lock.
        self._checkpoint_lock = asyncio.Lock()

        self._arrived = asyncio.Event()
        self._capacity_freed = asyncio.Event()
        self._tasks: list[asyncio.Task[NoReturn]] = []

        self._awake = time.monotonic()
        self._deliveries = Deliveries()
        self._outage = Outage()
        self._unanswered = 0.0  # seconds since the brokers last gave their offsets

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
        """Hands everything over and disconnects. Ends the process if no broker answers for SILENT_SECONDS."""
        self._stopping = True
        if not self._tasks:
            return

        await self._within(self.hand_over())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # All that was published is on the brokers.
        with contextlib.suppress(KafkaError):
            await asyncio.gather(self._outbox.stop(), self._producer.stop())
        log.info("ended; the last checkpoint is taken")

    def next_offset(self, tp: TP) -> int | None:
        """The offset to fetch next; None if this worker does not have the partition."""
        partition = self.partitions.get(tp.partition)
        return partition.enqueued[self.topics[tp.topic]] if partition else None

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """The given topic partitions with a backlog below their share of WAITING_BYTES; waits a little for one.

        Each has its own share, so a full one never blocks another that must be judged first.
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
        """Puts a slice into the backlog of its partition; drops it if that was handed over since."""
        message = event.message
        topic = self.topics[message.topic]
        span = cast(FetchedRange, event.value)

        while message.generation_id == self.generation and (
            partition := self.partitions.get(message.partition)
        ):
            try:
                partition.enqueue(topic, span, event)
            except GapError as gap:
                due = partition.enqueued[topic]
                tp = TopicPartition(message.topic, message.partition)
                await self._explain(gap, tp, span.begins)
                # Others may have moved the partition meanwhile.
                async with self._engine_lock:
                    if partition.enqueued[topic] == due:
                        await self._lose(partition, topic, due, span.begins)
                        partition.skip(topic, span.begins)
                continue
            self._arrived.set()
            return

    def expect(self, assigned: Iterable[TP]) -> None:
        """Notes which topic partitions are about to be taken over."""
        self._assigned = {tp.partition for tp in assigned}
        self._changed_at = time.monotonic()

    async def take_over(self, assigned: Iterable[TP], generation: int) -> None:
        """Restores the assigned partitions from checkpoints, and master data from the registry.

        A partition without a checkpoint takes one first, which records its rulebook. Reading must not go on before
        this returns.
        """
        tps = set(assigned)
        numbers = sorted({tp.partition for tp in tps})
        if tps != {TP(topic, number) for topic in self.topics for number in numbers}:
            missing = sorted(set(self.topics) - {tp.topic for tp in tps})
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
                        self.partitions = await self._restore(consumer, asked, numbers)
                    break
                except CheckpointError as error:
                    fatal(str(error))
                except (KafkaError, UnansweredError) as error:
                    log.warning(
                        "partitions %s cannot be taken over yet: %s",
                        numbers,
                        error,
                    )
                    await asyncio.sleep(BEAT_SECONDS)
            else:
                return

            for partition in self.partitions.values():
                if not partition.written.set:
                    await self._write(partition, await self._capture(partition))

            self.generation = generation
            self._handed_over.clear()
            meters = sum(
                partition.engine.meters for partition in self.partitions.values()
            )
            log.info(
                "holds partitions %s with %d meters after %.1f s",
                numbers,
                meters,
                time.monotonic() - started,
            )

    async def hand_over(self) -> None:
        """Takes a last checkpoint of every partition and hands it over."""
        async with self._checkpoint_lock, self._engine_lock:
            if self.partitions:
                log.info("hands over %d partitions", len(self.partitions))
            for partition in self.partitions.values():
                if partition.unsaved:
                    await self._write(partition, await self._capture(partition))
                await self._outbox.settle(partition.number)

            self._handed_over = self.partitions
            self.partitions = {}
            for partition in self._handed_over.values():
                self._count(partition)
                partition.drop()
                self._metrics.forget(self.topics, partition.number)
            self._assigned = None
            self._changed_at = time.monotonic()
            self._capacity_freed.set()

    async def _within(self, work: Awaitable[Any]) -> None:
        """Returns when `work` is done; ends the process once brokers have been away for SILENT_SECONDS."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        while not (await asyncio.wait({task}, timeout=BEAT_SECONDS))[0]:
            self._deliveries.beat()
            silent = max(self._deliveries.silence, self._unanswered)
            if min(silent, time.monotonic() - began) > SILENT_SECONDS:
                fatal(
                    "no broker takes the last checkpoint; the next worker goes on from the one before"
                )
        await task

    def _has_capacity(self, tp: TP) -> bool:
        partition = self.partitions.get(tp.partition)
        share = WAITING_BYTES / max(len(self.partitions) * len(self.topics), 1)
        if partition is None:
            return True
        return partition.waiting_bytes[self.topics[tp.topic]] <= share

    def _alerts_tp(self, number: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(ALERTS_TOPIC), number)

    async def _restore(
        self,
        consumer: AIOKafkaConsumer,
        asked: AIOKafkaConsumer,
        numbers: Sequence[int],
    ) -> dict[int, Partition]:
        """The partitions as of their checkpoints.

        `asked` fetches nothing, so it answers at once where topics begin and end.
        """
        tps = [
            TopicPartition(topic, number) for topic in self.topics for number in numbers
        ]
        alert_tps = [self._alerts_tp(number) for number in numbers]
        found, first = await asyncio.gather(
            checkpoints.newest(
                consumer,
                self.settings.topic(CHECKPOINTS_TOPIC),
                numbers,
                {number: kept.written for number, kept in self._handed_over.items()},
                self.settings.partitions,
            ),
            asked.beginning_offsets([*tps, *alert_tps]),
        )
        ends = await asked.end_offsets(tps)
        alert_ends = await asked.end_offsets(alert_tps)

        until = int(time.time()) if self.settings.clock == "wall" else 0
        partitions: dict[int, Partition] = {}
        for number in numbers:
            if number in found:
                partition = await self._engines.run(
                    "restore", self._restored_partition, number, found[number]
                )
            else:
                partition = self._handed_over[number]
            partitions[number] = partition
            partition.resume(
                self._offsets_of(partition, ends),
                alert_ends[self._alerts_tp(number)],
                until,
            )

        await self._read_on(partitions, first, ends)
        await self._read_registry(consumer, partitions, first, ends)
        return partitions

    async def _read_registry(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Enrolls the master data of partitions from the beginning of the registry."""
        topic = self.settings.topic(REGISTRY_TOPIC)
        starts = {
            tp: first[tp]
            for tp in (TopicPartition(topic, number) for number in partitions)
        }
        async for tp, records in read_to_end(consumer, starts):
            await self._enroll(partitions[tp.partition], records)
        for tp in starts:
            partitions[tp.partition].start(REGISTRY_TOPIC, ends[tp])

    async def _read_on(
        self,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Sets each source topic to the offset after the checkpoint. Raises CheckpointError."""
        changes = await self._changes(partitions, first, ends)
        for tp in ends:
            topic = self.topics[tp.topic]
            if topic == REGISTRY_TOPIC:
                continue
            partition = partitions[tp.partition]
            contained = partition.judged.get(topic)
            # The metric shows 0 from now on.
            self._metrics.deleted_offsets.labels(tp.topic, str(tp.partition))

            if contained is None:
                partition.start(topic, first[tp])
            elif change := changes.get(tp):
                if self.settings.topic_changed == "stop":
                    raise CheckpointError(change)
                log.warning("%s; it is judged from its beginning", change)
                partition.start_anew(topic, first[tp])
            else:
                partition.start(topic, max(contained, first[tp]))
                await self._lose(partition, topic, contained, first[tp])

    async def _changes(
        self,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, str]:
        """The source topics that were created anew since they were judged, with advice on each."""
        marks: dict[TopicPartition, Mark] = {}
        judged: dict[TopicPartition, int] = {}
        for tp in ends:
            topic = self.topics[tp.topic]
            partition = partitions[tp.partition]
            if topic != REGISTRY_TOPIC and topic in partition.judged:
                judged[tp] = partition.judged[topic]
                if topic in partition.marks:
                    marks[tp] = partition.marks[topic]

        # Compare the last judged record with the record at its offset now.
        places = {
            tp: mark.offset
            for tp, mark in marks.items()
            if first[tp] <= mark.offset < ends[tp]
        }
        found = await marks_at(self.settings, places)
        changes = {
            tp: change_of(offset, marks.get(tp), found.get(tp), ends[tp])
            for tp, offset in judged.items()
        }
        return {
            tp: advice(tp, judged[tp], change)
            for tp, change in changes.items()
            if change
        }

    async def _lose(
        self, partition: Partition, topic: str, due: int, first: int
    ) -> None:
        """Notes that records were deleted before they were judged, so that rules which need them cannot tell."""
        if due >= first or topic == REGISTRY_TOPIC:
            return

        name = self.settings.topic(topic)
        log.warning(
            "`%s`, partition %d: records %d to %d were deleted before they were judged; retention is too short, "
            "and alerts that need them are not raised",
            name,
            partition.number,
            due,
            first - 1,
        )

        deleted = self._metrics.deleted_offsets.labels(name, str(partition.number))
        deleted.inc(first - due)
        await self._engines.run(
            "restore", partition.engine.note_lost_rows, TOPIC_KINDS[topic]
        )

    def _restored_partition(
        self, number: int, checkpoint: checkpoints.Checkpoint | None
    ) -> Partition:
        """A partition with the engine of a checkpoint; with a new engine if there is none."""
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
                "partition %d: this version has other rules, and judges as in code: %s",
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

        manifest = checkpoint.manifest
        written = WrittenCheckpoint(
            manifest.sequence,
            manifest.set,
            checkpoint.begins,
            manifest.taken,
            len(checkpoint.state),
            manifest.agreed,
        )
        progress = PartitionProgress(
            manifest.begun, manifest.paces, manifest.marks, manifest.epoch
        )
        return Partition(number, engine, manifest.offsets, written, rulebook, progress)

    async def _follow_rules(self) -> NoReturn:
        """Follows the rulebooks that are published."""
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
                fetched = await consumer.getmany(tp, timeout_ms=500)
                for record in fetched.get(tp, []):
                    self._receive_rules(record.key, record.value, record.offset)

    def _receive_rules(
        self, key: bytes | None, value: bytes | None, offset: int
    ) -> None:
        """Keeps a valid rulebook; logs and counts any other."""
        try:
            rulebook = published(key, value, self._rulebook)
        except RulebookError as error:
            self._metrics.count_rejected(RULES_TOPIC, "rulebook", 1)
            log.warning(
                "offset %d of `_rules` is rejected, the rulebook before stays in force: %s",
                offset,
                error,
            )
            return

        for name, lines in changes(rulebook, self._rulebook).items():
            log.info(
                "%s has version %d: %s",
                name,
                rulebook.rules[name].version,
                ", ".join(lines),
            )
        self._rulebook = rulebook

    async def _judge_loop(self) -> NoReturn:
        """Judges a step of each partition in turn, PARTITIONS_AT_ONCE at once to keep the engines' thread busy.

        A call that needs an engine or `partitions` waits for PARTITIONS_AT_ONCE steps at most.
        """
        imported: asyncio.Future[None] | None = None
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
                # An idle moment is the time for the slow import of river.
                if numbers and imported is None:
                    imported = asyncio.ensure_future(
                        asyncio.to_thread(peers.import_river)
                    )
                # Looks again after a beat: a partition may have waited long enough for a topic.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), BEAT_SECONDS)

    async def _advance(self, number: int) -> bool:
        """Judges a step of a partition; False if nothing waits."""
        partition = self.partitions.get(number)
        if not partition:
            return False
        if not (partition.in_hand or await self._start_chunk(partition)):
            return False
        await self._step(partition)
        self._capacity_freed.set()
        return True

    async def _start_chunk(self, partition: Partition) -> bool:
        """Decodes the next chunk of a partition; False if nothing waits."""
        chunk = partition.next_chunk()
        if chunk is None:
            return False
        topic = chunk.topic
        records, damage = split_damage(chunk.records)
        if damage:
            label = topic if topic == REGISTRY_TOPIC else TOPIC_KINDS[topic].kind
            await self._reject(partition, topic, label, damage, rejections_of(damage))
        if topic == REGISTRY_TOPIC:
            await self._enroll(partition, records)
            partition.finish_chunk(chunk, 0)
            return True

        kind = TOPIC_KINDS[topic]
        registry = partition.engine.registry
        decoded = await self._engines.run(
            "decode", self._intake.decode, partition.number, registry, kind, records
        )
        partition.begin(chunk, decoded.batch, decoded.accepted)
        if decoded.rejections:
            await self._reject(partition, topic, kind.kind, records, decoded.rejections)
        return True

    async def _step(self, partition: Partition) -> None:
        """Judges the next step of a partition's chunk in hand, and publishes alerts and rejects."""
        in_hand = partition.in_hand
        if in_hand is None:
            return
        topic = self.settings.topic(in_hand.chunk.topic)
        records = in_hand.chunk.records

        judged = await self._engines.run("step", partition.judge, in_hand)
        partition.note_judged(in_hand, judged)
        self._metrics.step.observe(judged.seconds)
        for rows, reason in judged.rejected:
            # Rows of other kinds were rejected when they were decoded.
            if isinstance(rows, Readings):
                await self._outbox.reject_rows(
                    topic, partition.number, records, rows, reason
                )
        await self._publish(partition, judged.alerts, in_hand.chunk.oldest_receipt)

    async def _publish(
        self, partition: Partition, alerts: Sequence[Alert], evidence: float | None
    ) -> None:
        """Publishes alerts of a partition; `evidence` is the receipt time of their records, None for a timer's."""
        if not alerts:
            return
        self._check_awake()
        if not partition.reconciled:
            partition.published.update(alert.id for alert in alerts)
        await self._outbox.publish_alerts(partition.number, alerts, evidence)

    async def _enroll(self, partition: Partition, records: Sequence[Record]) -> None:
        rejections = await self._engines.run(
            "enroll", self._intake.enroll, partition.number, partition.engine, records
        )
        if rejections:
            await self._reject(
                partition, REGISTRY_TOPIC, REGISTRY_TOPIC, records, rejections
            )

    async def _reject(
        self,
        partition: Partition,
        topic: str,
        kind: str,
        records: Sequence[Record],
        rejections: list[Rejection],
    ) -> None:
        for rejection in rejections:
            self._metrics.count_rejected(kind, rejection.reason, rejection.rows)
        await self._outbox.reject_records(
            self.settings.topic(topic), partition.number, records, rejections
        )

    async def _maintain(self) -> NoReturn:
        """Ticks, reconciles and takes checkpoints when they are due."""
        behind = False
        while True:
            await asyncio.sleep(0 if behind else BEAT_SECONDS)
            behind = False
            for partition in list(self.partitions.values()):
                if self.settings.clock == "wall":
                    behind |= await self._tick(partition)
                if not partition.reconciled and partition.settled:
                    await self._reconcile(partition)

                if partition.rulebook != self._rulebook and partition.reconciled:
                    await self._adopt(partition)
                elif (
                    partition.unsaved
                    and partition.since_saved() >= self.settings.checkpoint_seconds
                ):
                    await self._save(partition)

    async def _tick(self, partition: Partition) -> bool:
        """Lets a portion of the time pass; True while more is due."""
        async with self._engine_lock:
            now = partition.time_bound(int(time.time()))
            if now <= 0 or self.partitions.get(partition.number) is not partition:
                return False
            alerts = await self._engines.run("tick", partition.tick, now)
            await self._publish(partition, alerts, None)
            return partition.ticked < now

    async def _reconcile(self, partition: Partition) -> None:
        """Corrects the alerts that another worker published and this engine does not confirm.

        The two may have judged topics in another order.
        """
        earlier: list[Alert] = []
        tp = self._alerts_tp(partition.number)
        end = partition.alerts_end
        if partition.agreed < end:
            try:
                async with reader(self.settings) as consumer:
                    async for _, records in read_to_end(
                        consumer, {tp: partition.agreed}, {tp: end}
                    ):
                        earlier += await self._engines.run(
                            "reconcile", _alerts_of, records
                        )
            except (KafkaError, UnansweredError) as error:
                log.warning(
                    "partition %d: the alerts published before cannot be read yet: %r",
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
            partition.agreed = end
            partition.reconciled = True
            alerts = await self._engines.run(
                "reconcile", partition.engine.reconcile, earlier, partition.published
            )
            partition.published.clear()
            await self._publish(partition, alerts, None)
            if alerts:
                log.info(
                    "partition %d: corrects %d alerts of %d published before",
                    partition.number,
                    len(alerts),
                    len(earlier),
                )

    async def _adopt(self, partition: Partition) -> None:
        """Switches a partition to the published rulebook, and takes a checkpoint that contains it."""
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
            log.info("partition %d adopts another rulebook", partition.number)

    async def _save(self, partition: Partition) -> None:
        """Takes a checkpoint; the partition goes on being judged while it is written."""
        async with self._checkpoint_lock:
            async with self._engine_lock:
                if self.partitions.get(partition.number) is not partition:
                    return
                captured = await self._capture(partition)
            await self._write(partition, captured)

    async def _capture(self, partition: Partition) -> _Captured:
        """The content of a checkpoint as of now."""
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
        """Writes a checkpoint after all that was published before it, then acknowledges."""
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
        # Asked about while this worker has no partition.
        rules_tps = [TopicPartition(self.settings.topic(RULES_TOPIC), 0)]
        uncommitted = reader(self.settings, isolation="read_uncommitted")
        async with reader(self.settings) as stable, uncommitted as whole:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                self._check_assignment()
                partitions = list(self.partitions.values())
                tps = [
                    TopicPartition(topic, partition.number)
                    for partition in partitions
                    for topic in self.topics
                ]

                began = time.monotonic()
                try:
                    ends = await answered(
                        stable.end_offsets(tps or rules_tps), OFFSETS_ANSWER_SECONDS
                    )
                    high_watermarks = await answered(
                        whole.end_offsets(tps or rules_tps), OFFSETS_ANSWER_SECONDS
                    )
                    first = await answered(
                        stable.beginning_offsets(tps or rules_tps),
                        OFFSETS_ANSWER_SECONDS,
                    )
                except KafkaError:
                    self._unanswered += BEAT_SECONDS + min(
                        time.monotonic() - began, OFFSETS_ANSWER_SECONDS
                    )
                    continue
                self._unanswered = 0.0
                self._metrics.answered()

                await self._check_suspects(first, high_watermarks)
                for partition in partitions:
                    self._check_progress(
                        partition,
                        self._offsets_of(partition, ends),
                        self._offsets_of(partition, high_watermarks),
                    )
                    await self._skip_deleted(
                        partition, self._offsets_of(partition, first)
                    )

    async def _check_suspects(
        self, first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        """Ends the process when a suspected topic was created anew since it was judged."""
        suspects = {
            number: partition
            for number, partition in self.partitions.items()
            if number in self._suspects
        }
        self._suspects.clear()

        with contextlib.suppress(KafkaError, UnansweredError):
            suspect_ends = {
                tp: end
                for tp, end in ends.items()
                if tp.partition in suspects and tp.topic in self.topics
            }
            changes = await self._changes(suspects, first, suspect_ends)
            for change in changes.values():
                fatal(change)

    async def _skip_deleted(
        self, partition: Partition, first: Mapping[str, int]
    ) -> None:
        """Goes on behind deleted records of topics of which nothing has come since."""
        for topic, offset in first.items():
            if not partition.stranded(topic, offset):
                continue
            async with self._engine_lock:
                if self.partitions.get(partition.number) is not partition:
                    continue
                if partition.stranded(topic, offset):
                    await self._lose(partition, topic, partition.judged[topic], offset)
                    partition.start(topic, offset)

    def _offsets_of(
        self, partition: Partition, offsets: Mapping[TopicPartition, int]
    ) -> dict[str, int]:
        """The offsets of a partition, by topic."""
        return {
            self.topics[tp.topic]: offset
            for tp, offset in offsets.items()
            if tp.partition == partition.number
        }

    def _check_assignment(self) -> None:
        """Ends the process when it does not get the partitions it is assigned."""
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
        """Notes where a partition's topics end, as committed and as written; ends the process if it is stuck."""
        if self.partitions.get(partition.number) is not partition:
            return
        still = partition.note_ends(ends, high_watermarks, busy=self._engines.busy)
        if still > self.settings.stall_seconds:
            waiting = sum(partition.lags.values())
            fatal(
                f"partition {partition.number} has {waiting} records waiting and has not moved for {still:.0f} s: "
                f"{partition.lags}"
            )
        self._metrics.measured(
            partition.number,
            {self.settings.topic(name): lag for name, lag in partition.lags.items()},
        )
        self._count(partition)

    def _count(self, partition: Partition) -> None:
        """Brings the metrics up to the counts of the engine."""
        engine = partition.engine
        number = str(partition.number)
        # Copied once, for the engine's thread counts on.
        counted_rows = Counter(engine.counts)
        counted_alerts = Counter(engine.alert_counts)
        self._metrics.count(counted_rows - partition.counted_rows)
        self._metrics.count_alerts(counted_alerts - partition.counted_alerts)
        partition.counted_rows = counted_rows
        partition.counted_alerts = counted_alerts

        self._metrics.meters.labels(number).set(engine.meters)
        unknown = self._intake.unknown_meters(partition.number, engine)
        self._metrics.unknown_meters.labels(number).set(unknown)
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
        """Runs in a thread; ends the process when the event loop or the engines' thread hangs."""
        while True:
            time.sleep(BEAT_SECONDS)
            stall = self.settings.stall_seconds
            still = time.monotonic() - self._awake
            if still > stall:
                faulthandler.dump_traceback()
                fatal(f"the event loop has not moved for {still:.0f} s")
            if wedged := self._engines.wedged(BEAT_SECONDS, stall):
                faulthandler.dump_traceback()
                fatal(wedged)

    def _check_awake(self) -> None:
        """Ends the process when it slept through its session: others have its partitions, and its state is old."""
        asleep = time.monotonic() - self._awake
        session = self.settings.session_seconds
        if asleep > SLEEP_SHARE * session:
            fatal(
                f"this process stood still for {asleep:.1f} s; `session_seconds` is {session:g}, of which it may miss "
                f"{SLEEP_SHARE * session:g} before others take its partitions: give it more CPU, or a longer session"
            )

    def _check_brokers(self) -> None:
        """Logs when brokers stop answering or taking records; ends the process when they take none for too long."""
        self._deliveries.beat()
        oldest = self._deliveries.oldest
        stall = self.settings.stall_seconds
        if oldest > stall:
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
        """Returns if the brokers have deleted all before `begins`; else records were lost here: ends the process."""
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
        """Suspects that a topic was created anew: it has no record at the offset that was due."""
        log.warning(
            "`%s`, partition %d begins again at %d, and %d was due",
            tp.topic,
            tp.partition,
            begins,
            due,
        )
        self._suspects.add(tp.partition)

    async def _serve(self, task: Callable[[], Any]) -> NoReturn:
        """Runs a task that must not end, and ends the process if it does."""
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

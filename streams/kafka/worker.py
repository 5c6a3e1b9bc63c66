"""The worker: takes partitions over, has them judged, and hands them over.

Alerts and rejects go to the broker first, then the checkpoint, then the acknowledgement. A crash between any two
repeats work and changes nothing. If state and offsets may not belong together, the process ends, and the next
worker restores the last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

from aiokafka.errors import KafkaError
from faust.types import TP, EventT

from streams.kafka.answers import STOP_SECONDS
from streams.kafka.backlog import GapError
from streams.kafka.checkpoint_writer import CheckpointWriter
from streams.kafka.checkpoints import CheckpointError
from streams.kafka.deleted_records import DeletedRecords
from streams.kafka.deliveries import Deliveries
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.holdings import Holdings
from streams.kafka.intake import Intake
from streams.kafka.judging import Judging
from streams.kafka.lag import LagMonitor
from streams.kafka.liveness import BEAT_SECONDS, Liveness
from streams.kafka.maintenance import Maintenance
from streams.kafka.metrics import Metrics
from streams.kafka.outbox import Outbox
from streams.kafka.partitions import Partition
from streams.kafka.readers import UnansweredError, reader
from streams.kafka.records import FetchedRange
from streams.kafka.restoring import Restoring
from streams.kafka.rulebooks import PublishedRulebook
from streams.kafka.spans import NO_SPANS, Spans
from streams.kafka.verdicts import VerdictCounts
from streams.settings import Settings

WAITING_BYTES = 32 << 20  # bytes of backlog at which a worker stops fetching
CAPACITY_SECONDS = 1.0  # that a fetch waits for capacity: Faust may want to stop
HASTE_MS = 20  # that a broker holds a request back while a take-over has more to ask
log = logging.getLogger("meterwatch")


class Worker:
    """The partitions that this process has, and the tasks that serve them."""

    def __init__(
        self, settings: Settings, metrics: Metrics, spans: Spans = NO_SPANS
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._spans = spans
        metrics.configure(settings.partitions, settings.session_seconds, WAITING_BYTES)
        self._stopping = False
        self._tasks: list[asyncio.Task[NoReturn]] = []

        self.holdings = Holdings(settings)
        self.generation = -1  # of the group in which the partitions were taken over
        # Partitions that were handed over, and may be taken back unchanged.
        self._handed_over: dict[int, Partition] = {}

        deliveries = Deliveries()
        engines = EngineThread(metrics, spans)
        intake = Intake(settings, metrics)
        self._outbox = Outbox(settings, metrics, deliveries, spans)
        self._liveness = Liveness(settings, metrics, deliveries, engines)
        self._published = PublishedRulebook(settings, metrics)
        self._verdicts = VerdictCounts(settings, metrics)
        self._checkpoints = CheckpointWriter(
            settings,
            metrics,
            deliveries,
            engines,
            self._outbox,
            self._liveness,
            spans,
        )

        self._judging = Judging(
            settings,
            metrics,
            self.holdings,
            engines,
            intake,
            self._outbox,
            self._liveness,
            spans,
        )
        self._deleted = DeletedRecords(settings, metrics, self.holdings, engines)
        self._restoring = Restoring(
            settings,
            metrics,
            self.holdings,
            engines,
            self._published,
            self._judging,
            self._deleted,
        )
        self._maintenance = Maintenance(
            settings,
            self.holdings,
            engines,
            self._published,
            self._judging,
            self._checkpoints,
        )
        self._lag = LagMonitor(
            settings,
            metrics,
            self.holdings,
            engines,
            intake,
            self._liveness,
            self._deleted,
        )

    async def start(self) -> None:
        """Connects and starts to serve. Raises KafkaError."""
        await self._outbox.start()
        await self._checkpoints.start()

        tasks = (
            self._published.follow_rules,
            self._verdicts.follow_inspections,
            self._judging.judge_loop,
            self._maintenance.maintain,
            self._lag.monitor_lag,
            self._liveness.heartbeat,
        )
        self._tasks = [asyncio.create_task(self._serve(task)) for task in tasks]
        threading.Thread(
            target=self._liveness.loop_watchdog, name="watch-loop", daemon=True
        ).start()

    async def stop(self) -> None:
        """Hands everything over and disconnects. Ends the process if no broker answers for SILENT_SECONDS."""
        self._stopping = True
        if not self._tasks:
            return

        await self._liveness.unless_silent(self.hand_over())
        # Again and again: a client that is about to connect loses a cancellation.
        running = set(self._tasks)
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=STOP_SECONDS)
        # All that was published is on the brokers.
        with contextlib.suppress(KafkaError):
            await asyncio.gather(self._outbox.stop(), self._checkpoints.stop())
        log.info("ended; the last checkpoint is taken")

    def health_fault(self) -> str:
        """Why this process should be restarted, "" if it is well."""
        return self._liveness.fault()

    def readiness_fault(self) -> str:
        """Why this process does not judge yet, "" if it does: also if the group gave it no partition."""
        if self.generation < 0 or not self.holdings.settled:
            return self.holdings.waits_for
        return self._liveness.fault() or self._liveness.brokers_fault

    def next_offset(self, tp: TP) -> int | None:
        """The offset to fetch next; None if this worker does not have the partition."""
        partition = self.holdings.partitions.get(tp.partition)
        return partition.enqueued[self.holdings.topics[tp.topic]] if partition else None

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """The given topic partitions with a backlog below their share of WAITING_BYTES; waits a little for one.

        Each has its own share, so a full one never blocks another that must be judged first.
        """
        deadline = time.monotonic() + CAPACITY_SECONDS
        while not (wanted := {tp for tp in asked if self._has_capacity(tp)}):
            self._judging.capacity_freed.clear()
            try:
                await asyncio.wait_for(
                    self._judging.capacity_freed.wait(), deadline - time.monotonic()
                )
            except TimeoutError:
                break
        return wanted

    async def enqueue(self, event: EventT[Any]) -> None:
        """Puts a slice into the backlog of its partition; drops it if that was handed over since."""
        message = event.message
        topic = self.holdings.topics[message.topic]
        span = cast(FetchedRange, event.value)

        while message.generation_id == self.generation and (
            partition := self.holdings.partitions.get(message.partition)
        ):
            try:
                partition.enqueue(topic, span, event)
            except GapError as gap:
                await self._deleted.close_gap(gap, partition, topic, span.begins)
                continue
            self._judging.arrived.set()
            return

    def expect(self, assigned: Iterable[TP]) -> None:
        """Notes which topic partitions are about to be taken over."""
        self.holdings.expect({tp.partition for tp in assigned})

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Suspects that a topic was created anew: it has no record at the offset that was due."""
        self._lag.begun_again(tp, due, begins)

    async def take_over(self, assigned: Iterable[TP], generation: int) -> None:
        """Restores the assigned partitions from checkpoints, and master data from the registry.

        A partition without a checkpoint takes one first, which records its rulebook. Reading must not go on before
        this returns.
        """
        tps = set(assigned)
        numbers = sorted({tp.partition for tp in tps})
        if tps != {
            TP(topic, number) for topic in self.holdings.topics for number in numbers
        }:
            missing = sorted(set(self.holdings.topics) - {tp.topic for tp in tps})
            fatal(
                f"partitions of one number come apart: do all workers read the same topics, and is {missing} there?",
                ExitCode.GROUP,
            )

        await self._published.known.wait()
        async with (
            self.holdings.checkpoint_lock,
            self.holdings.engine_lock,
            self._spans.work("take over", numbers),
        ):
            started = time.monotonic()
            while not self._stopping:
                try:
                    async with (
                        reader(self._settings, wait_ms=HASTE_MS) as consumer,
                        reader(self._settings) as asked,
                    ):
                        self.holdings.partitions = await self._restoring.restore(
                            consumer, asked, numbers, self._handed_over
                        )
                    break
                except CheckpointError as error:
                    fatal(str(error), error.exit_code)
                except (KafkaError, UnansweredError) as error:
                    log.warning(
                        "partitions %s cannot be taken over yet: %s",
                        numbers,
                        error,
                    )
                    await asyncio.sleep(BEAT_SECONDS)
            else:
                return

            # They are new and small: their checkpoints are on their way together.
            new = [
                partition
                for partition in self.holdings.partitions.values()
                if not partition.written.set
            ]
            await asyncio.gather(*map(self._checkpoints.take, new))

            self.generation = generation
            self._handed_over.clear()
            meters = sum(
                len(partition.engine.indexes.meters)
                for partition in self.holdings.partitions.values()
            )
            for partition in list(self.holdings.partitions.values()):
                await self._lag.count_sections(partition)
            seconds = time.monotonic() - started
            self._metrics.take_over.observe(seconds)
            log.info(
                "holds partitions %s with %d meters after %.1f s",
                numbers,
                meters,
                seconds,
            )

    async def hand_over(self) -> None:
        """Takes a last checkpoint of every partition and hands it over."""
        async with (
            self.holdings.checkpoint_lock,
            self.holdings.engine_lock,
            self._spans.work("hand over", sorted(self.holdings.partitions)),
        ):
            if self.holdings.partitions:
                log.info("hands over %d partitions", len(self.holdings.partitions))
            for partition in self.holdings.partitions.values():
                if partition.unsaved:
                    await self._checkpoints.take(partition)
                await self._outbox.settle(partition.number)
                await self._lag.count_sections(partition)

            self._handed_over = self.holdings.partitions
            self.holdings.partitions = {}
            for partition in self._handed_over.values():
                self._lag.count(partition)
                partition.drop()
                self._metrics.partitions.forget(self.holdings.topics, partition.number)
                self._metrics.sections.forget(partition.number)
            self.holdings.expect(None)
            self._judging.capacity_freed.set()

    def _has_capacity(self, tp: TP) -> bool:
        partition = self.holdings.partitions.get(tp.partition)
        share = WAITING_BYTES / max(
            len(self.holdings.partitions) * len(self.holdings.topics), 1
        )
        if partition is None:
            return True
        return partition.backlog.waiting_bytes[self.holdings.topics[tp.topic]] <= share

    async def _serve(self, task: Callable[[], Any]) -> NoReturn:
        """Runs a task that must not end, and ends the process if it does."""
        try:
            await task()
        except asyncio.CancelledError:
            if self._stopping:
                raise
        except (KafkaError, UnansweredError) as error:
            fatal(f"{task.__name__}: {error}", ExitCode.BROKERS)
        except Exception:
            log.exception("%s has failed", task.__name__)
        fatal("a task has ended", ExitCode.FAILED)

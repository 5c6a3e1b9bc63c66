"""The Faust app: an agent per topic that enqueues slices, and the worker's place in Faust's life."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust import Stream
from faust.tables import TableManager
from faust.types import TP, EventT, StreamT

from schemas.topics import REGISTRY_TOPIC
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.metrics import Metrics
from streams.kafka.slices import Consumer, InOrder, SliceSchema, Transport
from streams.kafka.spans import NO_SPANS, Spans, spans_of
from streams.kafka.status_server import HEALTH_PATH, READY_PATH, serve
from streams.kafka.worker import Worker
from streams.settings import Settings

BUFFER_SLICES = 4096  # of an agent: never full, for Faust stops fetching for a full one
FETCH_BYTES = 2 << 20  # bytes of a partition at once
BROKER_ANSWER_SECONDS = 30.0  # for an answer, beyond a session or a rebalance
HEARTBEAT_SECONDS = 3.0  # between two heartbeats, or a tenth of a short session
# Seconds that a hand-over may take at least before the group goes on without this worker.
REBALANCE_SECONDS = 60.0
# Times `stall_seconds` without a fetch: the worker's own watch ends it long before.
POLL_STALLS = 10.0
STOP_SECONDS = 60.0  # for the hand-over of a worker that is to end
LEAVE_SECONDS = 10.0  # for leaving the group after that
log = logging.getLogger("meterwatch")


class _NoTables(TableManager):
    """Starts at once: Faust's own manager waits a second for tables to be declared."""

    async def on_start(self) -> None:
        """Lets the consumer subscribe, for there are no tables."""
        await self._update_channels()
        await self.recovery.start()


class _Process(faust.Worker):
    """Ends at once: Faust's own waits a second before it closes the event loop."""

    async def _sentinel_task(self) -> None:
        """Lets the loop run once more."""
        await asyncio.sleep(0)


class App(faust.App):
    """Faust with slices for messages and a worker that judges them; it needs no tables, no disk and no web server."""

    def __init__(
        self, settings: Settings, metrics: Metrics, spans: Spans = NO_SPANS
    ) -> None:
        rebalance = max(settings.stall_seconds, REBALANCE_SECONDS)
        heartbeat = min(settings.session_seconds / 10, HEARTBEAT_SECONDS)
        super().__init__(
            settings.group,
            broker=[f"aiokafka://{server}" for server in settings.servers],
            broker_credentials=credentials(settings),
            broker_session_timeout=settings.session_seconds,
            broker_heartbeat_interval=heartbeat,
            broker_rebalance_timeout=rebalance,
            broker_max_poll_interval=POLL_STALLS * rebalance,
            broker_request_timeout=max(settings.session_seconds, rebalance)
            + BROKER_ANSWER_SECONDS,
            broker_commit_livelock_soft_timeout=settings.checkpoint_seconds
            + settings.stall_seconds,
            consumer_max_fetch_size=FETCH_BYTES,
            consumer_group_instance_id=settings.instance or None,
            stream_buffer_maxsize=BUFFER_SLICES,
            stream_wait_empty=False,  # unacknowledged slices are read again
            topic_disable_leader=True,
            topic_allow_declare=False,
            web_enabled=False,
            TableManager=_NoTables,
            ConsumerScheduler=InOrder,
        )

        self._instance = settings.instance
        self._member = ""
        self.transport = Transport(self.conf.broker, self)
        self._worker = Worker(settings, metrics, spans)
        for name in self._worker.holdings.topics:
            topic = self.topic(name, schema=SliceSchema())
            self.agent(topic, name=name, concurrency=1)(self._enqueue)
        self.on_partitions_assigned.connect(self._expect)
        self.on_rebalance_complete.connect(self._take_over)
        self.on_partitions_revoked.connect(self._hand_over)
        self.on_before_shutdown.connect(self._stop)

    def health_fault(self) -> str:
        """Why this process should be restarted, "" if it is well."""
        return self._worker.health_fault()

    def readiness_fault(self) -> str:
        """Why this process does not judge yet, "" if it does."""
        return self._worker.readiness_fault()

    def next_offset(self, tp: TP) -> int | None:
        """The offset to fetch next."""
        return self._worker.next_offset(tp)

    async def with_capacity(self, asked: Iterable[TP]) -> set[TP]:
        """The given partitions that have capacity; waits a little for one."""
        return await self._worker.with_capacity(asked)

    def first(self, tp: TP) -> bool:
        """True for master data, which are enqueued before the rows that need them."""
        return self._worker.holdings.topics[tp.topic] == REGISTRY_TOPIC

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Notes that a partition has no record at the offset that was due."""
        self._worker.begun_again(tp, due, begins)

    async def on_start(self) -> None:
        """Starts the worker before the first partition is assigned."""
        await super().on_start()
        try:
            await self._worker.start()
        except KafkaError as error:
            fatal(f"no answer from the brokers: {error}", ExitCode.BROKERS)

    async def on_stop(self) -> None:
        """Ends within STOP_SECONDS and LEAVE_SECONDS, whatever the brokers do."""
        self._deadline = _after(
            STOP_SECONDS,
            partial(
                fatal,
                f"the hand-over did not end within {STOP_SECONDS:g} s",
                ExitCode.STALLED,
            ),
        )
        await super().on_stop()

    def _create_directories(self) -> None:
        """Does nothing, for nothing is kept on disk."""

    async def _enqueue(self, stream: StreamT[Any]) -> None:
        event: EventT[Any]
        async for event in cast(Stream[Any], stream).noack().events():
            await self._worker.enqueue(event)

    async def _expect(self, *sent: Any, **_: Any) -> None:
        _app, assigned = sent
        self._worker.expect(assigned)

    async def _take_over(self, *_: Any, **__: Any) -> None:
        """Runs before `perform_seek` in the same task, while heartbeats go on, unlike `on_partitions_assigned`."""
        before = self._member
        self._member = cast(Consumer, self.consumer).member
        if self._instance and before not in ("", self._member):
            fatal(
                f"another worker has the `instance` {self._instance}, or this one was away for longer than its session",
                ExitCode.GROUP,
            )
        try:
            await self._worker.take_over(
                self.consumer.assignment(), self.consumer_generation_id
            )
        except Exception:
            log.exception("the partitions could not be taken over")
            fatal("no state to go on from", ExitCode.STATE)

    async def _hand_over(self, *_: Any, **__: Any) -> None:
        await self._worker.hand_over()

    async def _stop(self, *_: Any, **__: Any) -> None:
        await self._worker.stop()
        self._deadline.cancel()
        self._deadline = _after(LEAVE_SECONDS, self._leave)

    def _leave(self) -> None:
        """Exits as if the group had been left; the group misses this worker when its session ends."""
        logging.shutdown()
        os._exit(int(self.crashed))


def credentials(
    settings: Settings,
) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """SASL and TLS as Faust takes them."""
    context = settings.ssl_context()
    if settings.sasl:
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password.reveal(),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def _after(seconds: float, end: Callable[[], object]) -> threading.Timer:
    """Calls `end` by a thread, which no event loop can delay."""
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then exits with code 0; exits with code 1 on a failure."""
    metrics = Metrics()
    spans = spans_of(settings)
    app = App(settings, metrics, spans)
    if settings.metrics:
        port = serve(
            metrics.registry,
            {HEALTH_PATH: app.health_fault, READY_PATH: app.readiness_fault},
            settings.metrics_host,
            settings.metrics_port,
        )
        log.info("metrics on http://%s:%d/metrics", settings.metrics_host, port)
    log.info(
        "meterwatch %s joins the group `%s` at %s; partitions of a killed worker come when its session ends",
        version("meterwatch"),
        settings.group,
        settings.brokers,
    )

    worker = _Process(app, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    finally:
        spans.close()

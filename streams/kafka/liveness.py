"""Whether this process, its engines and the brokers still move; ends the process if they do not."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections.abc import Awaitable
from typing import Any, NoReturn

from streams.kafka.deliveries import Deliveries
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.metrics import Metrics
from streams.kafka.outage import Outage
from streams.settings import Settings

BEAT_SECONDS = 1.0  # seconds between looks at progress, lag and clock
PULSE_SECONDS = 0.1  # seconds between looks at how late the event loop is
SLEEP_SHARE = 0.8  # of a session: the last heartbeat may have been a while before
# Seconds without an answer after which the brokers count as away, and the last checkpoint waits no longer.
SILENT_SECONDS = 10.0


class Liveness:
    """When the event loop last moved, and for how long the brokers have been silent."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        deliveries: Deliveries,
        engines: EngineThread,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._deliveries = deliveries
        self._engines = engines
        self._outage = Outage()
        self.brokers_fault = ""  # what the brokers fail to do, "" if nothing
        self._awake = time.monotonic()
        self._unanswered = 0.0  # seconds since the brokers last gave their offsets
        self._leaderless = ""  # partitions that no broker leads

    @property
    def _silence(self) -> float:
        """Seconds for which the brokers have taken or answered nothing."""
        return max(self._deliveries.silence, self._unanswered)

    def fault(self) -> str:
        """Why this process hangs, "" if it does not; may be asked by any thread."""
        still = time.monotonic() - self._awake
        if still > self._settings.stall_seconds:
            return f"the event loop has not moved for {still:.0f} s"
        return ""

    def note_answer(self) -> None:
        """Notes that the brokers have given their offsets."""
        self._unanswered = 0.0
        self._metrics.answered()

    def note_silence(self, seconds: float, leaderless: str) -> None:
        """Notes that the brokers have given no offsets for some more seconds, and which partitions none leads."""
        self._unanswered += seconds
        self._leaderless = leaderless

    async def unless_silent(self, work: Awaitable[Any]) -> None:
        """Returns when `work` is done; ends the process once brokers have been away for SILENT_SECONDS."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        while not (await asyncio.wait({task}, timeout=BEAT_SECONDS))[0]:
            self._deliveries.beat()
            if min(self._silence, time.monotonic() - began) > SILENT_SECONDS:
                fatal(
                    "no broker takes the last checkpoint; the next worker goes on from the one before",
                    ExitCode.BROKERS,
                )
        await task

    async def heartbeat(self) -> NoReturn:
        """Notes that the event loop moves, and by how much it is late."""
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self._metrics.paused(time.monotonic() - due)
            self.check_awake()
            self._awake = time.monotonic()
            self._check_brokers()

    def loop_watchdog(self) -> NoReturn:
        """Runs in a thread; ends the process when the event loop or the engines' thread hangs."""
        while True:
            time.sleep(BEAT_SECONDS)
            stall = self._settings.stall_seconds
            if fault := self.fault() or self._engines.wedged(BEAT_SECONDS, stall):
                faulthandler.dump_traceback()
                fatal(fault, ExitCode.STALLED)

    def check_awake(self) -> None:
        """Ends the process when it slept through its session: others have its partitions, and its state is old."""
        asleep = time.monotonic() - self._awake
        session = self._settings.session_seconds
        if asleep > SLEEP_SHARE * session:
            fatal(
                f"this process stood still for {asleep:.1f} s; `session_seconds` is {session:g}, of which it may miss "
                f"{SLEEP_SHARE * session:g} before others take its partitions: give it more CPU, or a longer session",
                ExitCode.STARVED,
            )

    def _check_brokers(self) -> None:
        """Logs when brokers stop answering or taking records; ends the process when they take none for too long."""
        self._deliveries.beat()
        oldest = self._deliveries.oldest
        stall = self._settings.stall_seconds
        if oldest > stall:
            fatal(
                f"what was published {oldest:.0f} s ago is on no broker yet (`stall_seconds` is {stall:g})",
                ExitCode.BROKERS,
            )
        fault = ""
        if self._unanswered > SILENT_SECONDS and self._leaderless:
            fault = f"at {self._settings.brokers} do not lead {self._leaderless}"
        elif self._unanswered > SILENT_SECONDS:
            fault = f"at {self._settings.brokers} do not answer"
        elif self._deliveries.silence > SILENT_SECONDS:
            fault = f"at {self._settings.brokers} take nothing"

        self.brokers_fault = fault and f"the brokers {fault}"
        self._outage.note_fault(fault, self._silence)
        self._metrics.brokers_answer.set(not fault)

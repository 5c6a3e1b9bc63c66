"""The chaos run: workers and broker killed, frozen, added and removed at random under load; the alerts must agree.

`python -m tests.chaos --kills 100` prints the figures. The seed repeats the plan, not the machine's timing. With
`--share 0.2` every worker has a fifth of the time from its start on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from detectors.engine import Engine
from replay import layout
from replay.history import Source
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Batch, Payments, Readings
from schemas.master import Area
from schemas.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    KIND_TOPICS,
    LARGEST_RECORD,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
)
from schemas.units import DAY_SECONDS
from schemas.wire import Shape, decode_alert, encode, encode_area
from streams.kafka import checkpoints
from streams.kafka.broker import Broker, BrokerError
from streams.kafka.outbox import producer
from streams.kafka.readers import reader
from streams.kafka.topics import ensure
from streams.local.follow import follow
from streams.local.progress import Progress
from streams.local.runner import identity
from streams.local.store import Store
from streams.settings import Settings, load
from tests.adversarial import (
    Row,
    Stream,
    adversarial_stream,
    with_closing_readings,
    with_work_items,
)
from tests.crash_points import CRASH_POINTS
from tests.outcomes import Outcomes, balanced, count_outcomes, order_independent
from tests.workers import WorkerProcess, all_checkpointed, last_states, records

CRASH_SCRIPT = str(Path(__file__).with_name("crash_points.py"))
WORKER_CRASH_POINTS = [moment for moment in CRASH_POINTS if moment != "stored"]
EARLY_CRASH_POINTS = (
    "about to take over",
    "checkpoints read",
    "about to read on",
    "reading on",
    "about to hand over",
    "handed over",
)
MESSAGE_SHAPES: tuple[Shape, ...] = ("single", "array", "packed")
INTERVAL_SECONDS = 3600  # between readings
QUIET_SECONDS = 6 * 3600  # before the last reading, so that the last day closes
SETTLING_SECONDS = 300  # until everything is judged after the chaos
MOST_WORKERS = 4  # workers at once
WORKER_ENVIRONMENT = {
    "METERWATCH_CLOCK": "stream",
    "METERWATCH_INTERVAL": str(INTERVAL_SECONDS),
    "METERWATCH_CHECKPOINT_SECONDS": "1",
    "METERWATCH_SESSION_SECONDS": "6",
    "METERWATCH_METRICS_PORT": "0",
    "METERWATCH_UNKNOWN_AREA": "judge",
}
BROKER_RESTARTS = 3  # attempts
TAKEOVER_SECONDS = 15.0  # for workers to take partitions over before the next kill
EXPECTED_ENDS = (
    "stood still for",
    "no answer from the brokers",
    "this worker holds partitions",
    "does not take",
    "no state to go on from",
    "Unable to bootstrap",
    "is on no broker yet",
    "no broker takes the last checkpoint",
)

States = dict[str, dict[str, Any]]
PlannedAct = tuple[float, int, Callable[[], None]]  # when, tie-breaker, act


def adversarial_areas(count: int, seed: int) -> Stream:
    """So many adversarial streams side by side, in order of arrival."""
    ranked: list[tuple[float, int, Row]] = []
    areas: list[Area] = []
    for k in range(count):
        stream = adversarial_stream(1000 * seed + k, interval=INTERVAL_SECONDS)
        stream = with_work_items(stream, 1000 * seed + k)
        stream = with_closing_readings(stream, QUIET_SECONDS)
        areas += [_renamed(area, k) for area in stream.areas]
        rows = [
            _transportable(row)
            for row in _with_late_rows(stream.rows, k)
            if EARLIEST_TIME <= row.at < LATEST_TIME
        ]

        # A row's rank is its share of its own stream.
        ranked += [
            (n / len(rows), k, replace(row, area=f"{k}-{row.area}"))
            for n, row in enumerate(rows)
        ]
    ranked.sort(key=lambda ranks: ranks[:2])
    rows_in_order = tuple(row for _, _, row in ranked)
    return Stream(areas, rows_in_order, "Asia/Shanghai", INTERVAL_SECONDS)


def _renamed(area: Any, k: int) -> Any:
    fields = {name: getattr(area, name) for name in area.__struct_fields__}
    return type(area)(
        **fields | {"area": f"{k}-{area.area}", "section": f"{k}-{area.section}"}
    )


def _with_late_rows(rows: Iterable[Row], seed: int) -> Iterator[Row]:
    """The rows, and among them a few readings of a month before: late rows."""
    rng = random.Random(seed)
    for row in rows:
        yield row
        if row.kind is Readings and rng.random() < 0.01:
            yield replace(row, at=row.at - 30 * DAY_SECONDS)


def _transportable(row: Row) -> Row:
    """The row as all shapes of a message carry it: without infinities, and with its receipt time.

    Kafka knows when a reading arrived, a history does not. Only with a receipt time is an event time of the future
    rejected in both.
    """
    if row.kind is not Readings:
        return row
    columns = {
        name: np.where(np.isinf(value), np.nan, value)
        for name, value in row.columns.items()
    }
    return replace(
        row, columns=columns | {"received": row.columns["received"] or row.at}
    )


def portions(stream: Stream, count: int) -> Iterator[list[Batch]]:
    """The stream in so many portions: a batch of every kind with rows in it."""
    done: Counter[type[Batch]] = Counter()
    for rows in np.array_split(np.arange(len(stream.rows)), count):
        here = Counter(stream.rows[n].kind for n in rows)
        yield [
            stream.batch_by_kind[kind].select(slice(done[kind], done[kind] + size))
            for kind, size in here.items()
        ]
        done.update(here)


@dataclass
class ExpectedResult:
    """The result of an undisturbed engine on a stream."""

    states: States
    messages: int
    outcomes: Outcomes
    rejected: set[tuple[bytes, bytes]]  # area and reading, as on `rejects`


def undisturbed(stream: Stream, settings: Settings) -> ExpectedResult:
    """The engine alone, in one process and without a break."""
    engine = Engine(zone=settings.zone, interval=settings.interval)
    engine.enroll(stream.areas)
    alerts: list[Alert] = []
    rejected: set[tuple[bytes, bytes]] = set()
    for portion in portions(stream, 100):
        for batch in portion:
            alerts += engine.step(batch)

            for rows, _ in engine.rejected:
                assert isinstance(rows, Readings)
                for key, value, _ in encode(rows, "array"):
                    rejected.update(each_reading(key, value))
    return ExpectedResult(
        last_states(alerts), len(alerts), count_outcomes(engine), rejected
    )


def each_reading(area: bytes, readings: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The area and every reading of an array."""
    for reading in msgspec.json.decode(readings, type=list[msgspec.Raw]):
        yield area, bytes(reading)


def checkpointed_outcomes(settings: Settings) -> Outcomes:
    """The outcomes that the last checkpoints of all partitions have counted together."""

    async def restore() -> list[Engine]:
        async with reader(settings) as consumer:
            numbers = range(settings.partitions)
            topic = settings.topic(CHECKPOINTS_TOPIC)
            newest = await checkpoints.newest(
                consumer, topic, numbers, {}, settings.partitions
            )

        engines: list[Engine] = []
        for checkpoint in newest.values():
            if checkpoint is not None:
                engines.append(Engine(zone=settings.zone, interval=settings.interval))
                engines[-1].restore(checkpoint.state)
        return engines

    return count_outcomes(*asyncio.run(restore()))


async def publish_areas(
    client: AIOKafkaProducer, settings: Settings, areas: Iterable[Area]
) -> None:
    """Send master data, and wait until the brokers have it."""
    for area in areas:
        key, value, _ = encode_area(area)
        await client.send(settings.topic(REGISTRY_TOPIC), value, key)
    await client.flush()


async def publish(
    client: AIOKafkaProducer, settings: Settings, batches: Iterable[Batch], shape: Shape
) -> None:
    """Send rows in their own order; `replay.send` puts them in order of time."""
    for batch in batches:
        topic = settings.topic(KIND_TOPICS[type(batch)])
        for key, value, content in encode(batch, shape):
            await client.send(
                topic, value, key, headers=[("content-type", content.encode())]
            )


def tampered(batch: Batch) -> Batch:
    """The rows with other values: a worker that judges them invents alerts, and takes the true rows for duplicates."""
    if isinstance(batch, Readings):
        return replace(batch, u=batch.u / 2, kwh=batch.kwh * 3)
    if isinstance(batch, Payments):
        return replace(batch, amount=2 * batch.amount)
    return batch


def transactional(settings: Settings) -> AIOKafkaProducer:
    """A producer whose records count once their transaction is committed."""
    return AIOKafkaProducer(
        **settings.client(), transactional_id="sender", max_request_size=LARGEST_RECORD
    )


async def publish_in_transactions(
    client: AIOKafkaProducer, settings: Settings, batches: Sequence[Batch], shape: Shape
) -> None:
    """Send tampered rows in a transaction that is aborted, then the true rows in a committed one."""
    await client.begin_transaction()
    await publish(client, settings, map(tampered, batches), shape)
    await client.flush()
    await client.abort_transaction()
    async with client.transaction():
        await publish(client, settings, batches, shape)


class Sender(threading.Thread):
    """Publishes a stream in all shapes, a fifth of it in transactions, up to `share`."""

    PORTION_COUNT = 400
    IN_TRANSACTIONS = 0.2  # share of the portions

    def __init__(self, settings: Settings, stream: Stream, rng: random.Random) -> None:
        super().__init__(name="sender", daemon=True)
        self.settings, self.stream = settings, stream
        self.shapes = rng.choices(MESSAGE_SHAPES, k=self.PORTION_COUNT)
        self.in_transaction = [
            rng.random() < self.IN_TRANSACTIONS for _ in range(self.PORTION_COUNT)
        ]
        self.rows: Counter[str] = Counter()
        self.transactions = 0  # committed, each after an aborted one
        self.share = 0.0  # of the stream that may be sent
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:
            self.error = error

    async def _send(self) -> None:
        settings = self.settings
        async with (
            producer(settings) as client,
            transactional(settings) as transactions,
        ):
            await publish_areas(client, settings, self.stream.areas)
            for n, portion in enumerate(portions(self.stream, self.PORTION_COUNT)):
                while n >= self.share * self.PORTION_COUNT:  # noqa: ASYNC110 - another thread moves it
                    await asyncio.sleep(0.05)

                shape = self.shapes[n]
                if self.in_transaction[n]:
                    await publish_in_transactions(
                        transactions, settings, portion, shape
                    )
                    self.transactions += 1
                else:
                    # Topics keep the order of their rows, even after the broker was away.
                    await publish(client, settings, portion, shape)
                    await client.flush()
                self.rows.update({batch.kind: len(batch) for batch in portion})

    def finish(self, seconds: float) -> None:
        """Send the rest at once, within so many seconds. Raises the error of the thread."""
        self.share = 1.0
        self.join(seconds)
        if self.error:
            raise self.error
        assert not self.is_alive(), "the brokers do not take the load"


@dataclass
class Figures:
    """The disturbances of a chaos run, and its result."""

    seed: int
    rows: Counter[str] = field(default_factory=Counter)  # by kind
    kills: Counter[str] = field(default_factory=Counter)  # by moment
    disturbances: Counter[str] = field(default_factory=Counter)  # everything else
    ends: Counter[str] = field(default_factory=Counter)  # of workers, by reason
    takeovers: int = 0
    expected: int = 0
    found: int = 0
    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    messages: int = 0
    necessary: int = 0
    seconds: float = 0.0

    def table(self) -> Table:
        """All figures for people."""
        rows = {"kills of a worker (SIGKILL)": self.kills.total()}
        rows |= {f"  {moment}": n for moment, n in self.kills.most_common()}
        rows |= sorted(self.disturbances.items())
        for reason, n in self.ends.most_common():
            rows[f"workers that ended themselves: {reason}"] = n
        rows["times a worker took partitions over"] = self.takeovers
        rows |= {f"rows of {kind}": n for kind, n in self.rows.most_common()}
        rows |= {
            "alerts expected": self.expected,
            "alerts found": self.found,
            "lost": len(self.lost),
            "invented": len(self.invented),
            "different": len(self.different),
            "alert messages": self.messages,
            "of them repeats": self.messages - self.necessary,
            "seconds": round(self.seconds),
        }

        table = Table("chaos run", f"seed {self.seed}", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        for name, value in rows.items():
            if value or name in ("lost", "invented", "different"):
                table.add_row(name, f"{value:,}")
        return table


@dataclass
class Member:
    """A worker of the run, and how it is to end."""

    worker: WorkerProcess
    crash_point: str  # at which it kills itself, or "never"
    leaving: bool = False

    @property
    def code(self) -> int | None:
        """How the process has ended, None while it runs."""
        return self.worker.process.poll()


class ChaosRun:
    """Two workers, more for a while, their broker and a load; all disturbances are drawn from a seed."""

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        *,
        seed: int,
        kills: int,
        areas: int,
        share: float = 1.0,
    ) -> None:
        self.broker, self.folder, self.share = broker, folder, share
        self.environment = WORKER_ENVIRONMENT | {"METERWATCH_BROKERS": broker.address}
        self.settings = load(self.environment)
        self.rng = random.Random(seed)
        self.kills = kills
        self.stream = adversarial_areas(areas, seed)
        self.figures = Figures(seed)

        self.members: list[Member] = []
        self.wanted = 2
        self.started = 0
        self.plan: list[PlannedAct] = []  # by share of the run
        self.due: list[PlannedAct] = []  # by time
        self.ties = count()
        self.last_kill = 0.0  # its time
        self.takeovers_before = 0  # the takeovers until then
        self.restart: threading.Thread | None = None
        self.over = False

    def note(self, text: str) -> None:
        """Add a line to the log of the run."""
        with (self.folder / "chaos.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {text}\n")

    def run(self) -> Figures:
        """Raises AssertionError, with the difference, unless the result is that of an undisturbed engine."""
        expected = undisturbed(self.stream, self.settings)
        asyncio.run(ensure(self.settings))
        sender = Sender(self.settings, self.stream, self.rng)

        # A broker that is away is no news here.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        began = self.last_kill = time.monotonic()
        self._draw()
        try:
            sender.start()
            while self.figures.kills.total() < self.kills:
                assert sender.error is None, sender.error
                sender.share = self._share()
                self._pass()
            self._calm()
            sender.finish(SETTLING_SECONDS / self.share)
            self.note("all rows are sent")
            self._wait_until_judged()
            self.note("all rows are judged")
            self._end_members()
        finally:
            self.figures.seconds = time.monotonic() - began
            for member in self.members:
                member.worker.kill()
            if self.restart:
                self.restart.join()  # before its folder is removed

        assert all_checkpointed(self.settings)
        disturbances = self.figures.disturbances
        disturbances["transactions aborted, and committed"] = sender.transactions
        self._compare(expected, sender.rows)
        return self.figures

    def _wait_until_judged(self) -> None:
        """Wait until the checkpoints contain all rows."""
        deadline = time.monotonic() + SETTLING_SECONDS / self.share
        while not all_checkpointed(self.settings):
            self._replace_ended()
            assert time.monotonic() < deadline, "the workers do not come to the end"
            time.sleep(0.2)

    def _end_members(self) -> None:
        """End the workers; while others leave a worker may still reach its crash point."""
        for member in self.members:
            code = member.worker.end()
            if code == -signal.SIGKILL and member.crash_point != "never":
                self.figures.kills[member.crash_point] += 1
            else:
                assert code == 0, member.worker.log.read_text()[-4000:]

    def _draw(self) -> None:
        """Plan all disturbances but the kills, which depend on the workers."""
        n = max(2, self.kills // 15)
        for act in (
            self._kill_broker,
            self._freeze,
            self._doze,
            self._add,
            self._remove,
            self._remove_and_kill,
        ):
            # One within each of n equal spans of the run.
            for k in range(n):
                share = 0.9 * (k + self.rng.random()) / n
                self.plan.append((share, next(self.ties), act))

        self.plan.sort()
        self._after(0, 3, self._kill)

    def _after(self, least: float, most: float, act: Callable[[], None]) -> None:
        at = time.monotonic() + self.rng.uniform(least, most)
        self.due.append((at, next(self.ties), act))
        self.due.sort()

    @property
    def _pause_seconds(self) -> float:
        return TAKEOVER_SECONDS / self.share

    def _share(self) -> float:
        """The share of the run that is over; the time since the last kill counts towards the next."""
        waited = min(1.0, (time.monotonic() - self.last_kill) / self._pause_seconds)
        return min(0.99, (self.figures.kills.total() + waited) / self.kills)

    def _pass(self) -> None:
        """Replace workers that have ended, and do all acts that are due."""
        self._replace_ended()
        while self.plan and self.plan[0][0] <= self._share():
            self.plan.pop(0)[2]()
        while self.due and self.due[0][0] <= time.monotonic():
            self.due.pop(0)[2]()
        time.sleep(0.05)

    def _kill_when_served(self) -> None:
        """Kill once workers have taken all partitions over, or once that takes too long."""
        served = self._takeovers() >= self.takeovers_before + len(self.members)
        if served or time.monotonic() > self.last_kill + self._pause_seconds:
            self._after(0, 4 / self.share, self._kill)
        else:
            self._after(0.3, 0.3, self._kill_when_served)

    def _takeovers(self) -> int:
        return sum(
            len(re.findall(r"holds partitions", log.read_text()))
            for log in self.folder.glob("worker-*.log")
        )

    def _replace_ended(self) -> None:
        """Count workers that have ended, and start others in their place."""
        for member in list(self.members):
            if (code := member.code) is None:
                continue

            log = member.worker.log
            self.members.remove(member)
            self.note(f"{log.name} has ended with {code}, {member.crash_point}")
            if code == -signal.SIGKILL:
                self.figures.kills[member.crash_point] += 1
            elif code > 0:
                self.figures.ends[reason(log)] += 1
            else:
                text = log.read_text()[-4000:]
                assert member.leaving, f"a worker ended with {code}:\n{text}"

        while len(self.members) < self.wanted:
            self._start()

    def _start(self) -> None:
        moment, calls = "never", 1
        if not self.over and self.rng.random() < 0.4:
            moment = self.rng.choice(WORKER_CRASH_POINTS)
            calls = self.rng.randint(1, 2 if moment in EARLY_CRASH_POINTS else 12)

        log = self.folder / f"worker-{self.started}.log"
        self.started += 1
        command = (CRASH_SCRIPT, moment, str(calls), "worker")
        worker = WorkerProcess(self.environment, log, *command, share=self.share)
        self.members.append(Member(worker, moment))
        self.note(f"{log.name} starts, to crash: {moment} {calls}")

    def _random_member(self) -> Member | None:
        awake = [
            member
            for member in self.members
            if not member.worker.cpu_share.frozen and member.code is None
        ]
        return self.rng.choice(awake) if awake else None

    def _kill(self) -> None:
        if member := self._random_member():
            self._kill_member(member, "at random")
        self.last_kill = time.monotonic()
        self.takeovers_before = self._takeovers()
        if self.rng.random() < 0.35:
            self._after(0, 2, self._kill)
        else:
            self._kill_when_served()

    def _kill_member(self, member: Member, crash_point: str) -> None:
        if member.code is None:
            member.crash_point = crash_point
            member.worker.kill()
            self.note(f"{member.worker.log.name} is killed {crash_point}")

    def _freeze(self) -> None:
        """Freeze a worker beyond its session: others take over, so it must publish nothing once it wakes."""
        self._pause("frozen beyond the session (SIGSTOP)", 1.3, 1.8)

    def _doze(self) -> None:
        self._pause("frozen within the session", 0.1, 0.6)

    def _pause(self, name: str, least: float, most: float) -> None:
        if member := self._random_member():
            self.figures.disturbances[name] += 1
            self.note(f"{member.worker.log.name} is {name}")
            member.worker.cpu_share.freeze()
            session = self.settings.session_seconds
            self._after(least * session, most * session, partial(self._wake, member))

    def _wake(self, member: Member) -> None:
        if member.worker.cpu_share.frozen and member.code is None:
            member.worker.cpu_share.wake()
            self.note(f"{member.worker.log.name} wakes")

    def _add(self) -> None:
        self.figures.disturbances["workers added"] += 1
        self.wanted = min(self.wanted + 1, MOST_WORKERS)

    def _remove(self) -> None:
        """End a worker in good order; if it was one of two, another takes its place."""
        self.figures.disturbances["workers removed (SIGTERM)"] += 1
        self.wanted = max(self.wanted - 1, 2)
        if member := self._random_member():
            member.leaving = True
            member.worker.process.terminate()
            self.note(f"{member.worker.log.name} is ended")

    def _remove_and_kill(self) -> None:
        """Kill a worker while it hands over."""
        if member := self._random_member():
            member.leaving = True
            member.worker.process.terminate()
            self.note(f"{member.worker.log.name} is ended")
            kill = partial(self._kill_member, member, "while it hands over")
            self._after(0, 0.4, kill)

    def _kill_broker(self) -> None:
        if self.restart and self.restart.is_alive():
            return
        self.figures.disturbances["broker killed and restarted (SIGKILL)"] += 1
        self.broker.kill()
        self.note("the broker is killed")
        self.restart = threading.Timer(self.rng.uniform(0, 4), self._restart_broker)
        self.restart.start()

    def _restart_broker(self) -> None:
        """Start the broker, up to three times if it does not answer in time, as on a very busy machine."""
        for _ in range(BROKER_RESTARTS):
            try:
                self.broker.start()
            except BrokerError as error:
                self.note(str(error))
            else:
                return

    def _calm(self) -> None:
        """End the disturbances: the broker starts, and frozen workers wake."""
        self.over, self.wanted = True, max(2, len(self.members))
        self.plan.clear()
        self.due.clear()
        self.note("the chaos is over")
        if self.restart:
            self.restart.join()
        assert self.broker.process, "the broker has not started again"
        for member in self.members:
            self._wake(member)

    def _compare(self, expected: ExpectedResult, sent: Counter[str]) -> None:
        """Compare alerts, outcomes and rejects with the undisturbed engine's."""
        figures, settings = self.figures, self.settings
        published = asyncio.run(records(settings, ALERTS_TOPIC))
        found = last_states(decode_alert(record.value) for record in published)
        figures.rows = sent
        figures.expected, figures.found = len(expected.states), len(found)
        figures.messages, figures.necessary = len(published), expected.messages
        figures.lost = sorted(expected.states.keys() - found.keys())
        figures.invented = sorted(found.keys() - expected.states.keys())
        figures.different = sorted(
            key
            for key in found.keys() & expected.states.keys()
            if found[key] != expected.states[key]
        )
        figures.takeovers = self._takeovers()

        outcomes = checkpointed_outcomes(settings)
        balanced(outcomes)
        assert {kind: rows["in"] for kind, rows in outcomes.items()} == dict(sent)
        assert order_independent(outcomes) == order_independent(expected.outcomes), (
            outcomes,
            expected.outcomes,
        )

        rejects: set[tuple[bytes, bytes]] = set()
        for record in asyncio.run(records(settings, REJECTS_TOPIC)):
            rejects.update(each_reading(record.key, record.value))
        assert rejects == expected.rejected
        wrong = [*figures.lost, *figures.invented, *figures.different][:3]
        assert not wrong, [(found.get(key), expected.states.get(key)) for key in wrong]


def reason(log: Path) -> str:
    """Why a worker has ended itself. Raises AssertionError for a reason that no disturbance explains."""
    lines = log.read_text().splitlines()
    errors = [
        line for line in lines if " CRITICAL " in line or line.startswith("error: ")
    ]
    for known in EXPECTED_ENDS:
        if errors and known in errors[-1]:
            return known
    raise AssertionError("a worker ended itself:\n" + "\n".join(lines[-60:]))


def chaos_over_local_runs(
    folder: Path, *, seed: int, kills: int, areas: int
) -> Figures:
    """A local run killed at random moments, started again until it ends. Raises AssertionError as ChaosRun does."""
    figures = Figures(seed)
    stream = adversarial_areas(areas, seed)
    [whole] = portions(stream, 1)
    layout.write(folder / "history", stream.areas, iter(whole))
    paths = [str(folder / "history")]

    expected, expected_alerts = followed(folder / "undisturbed.db", paths)
    began = time.monotonic()
    kill_local_runs(folder, paths, figures, kills=kills)
    found, alerts = followed(folder / "killed.db", paths)

    figures.seconds = time.monotonic() - began
    rows = {kind: outcomes["in"][""] for kind, outcomes in found.counts.items()}
    figures.rows = Counter(rows)
    figures.expected, figures.found = len(expected_alerts), len(alerts)
    assert alerts == expected_alerts
    assert found.counts == expected.counts
    outcomes: Outcomes = {}
    for kind, reasons in found.counts.items():
        totals = {outcome: sum(rows.values()) for outcome, rows in reasons.items()}
        outcomes[kind] = Counter(totals)
    balanced(outcomes)
    return figures


def followed(path: Path, paths: list[str]) -> tuple[Progress, list[Alert]]:
    """The progress and the alerts of a local run that comes to its end."""
    with Store(path) as store:
        progress = follow(open_history(paths), store, identity(paths), every=1e9)
        return progress, store.alerts()


def kill_local_runs(
    folder: Path, paths: list[str], figures: Figures, *, kills: int
) -> None:
    """Local runs on one store, each killed at random or at a crash point, until one comes to its end."""
    rng = random.Random(figures.seed)
    store = folder / "killed.db"
    for n in range(kills):
        moment = rng.choice(("never", "within a save", "stored"))
        calls = str(rng.randint(1, 6))
        crashing = (sys.executable, CRASH_SCRIPT, moment, calls)
        arguments = ("run", *paths, str(store), str(INTERVAL_SECONDS))
        log_file = folder / f"run-{n}.log"
        with log_file.open("wb") as log:
            run = subprocess.Popen((*crashing, *arguments), stdout=log, stderr=log)

        if moment == "never":
            time.sleep(rng.uniform(0, 4))
            run.kill()
        code = run.wait(SETTLING_SECONDS)
        if code == 0:
            break  # it came to the end first
        assert code == -signal.SIGKILL, log_file.read_text()
        figures.kills["at random" if moment == "never" else moment] += 1
    assert figures.kills, "no run was killed"


def open_history(paths: list[str]) -> Source:
    """The files as the command reads them."""
    return replace(open_sources(paths), zone=Settings().zone, interval=INTERVAL_SECONDS)


def main() -> None:
    """A chaos run with a broker of its own, then one over local runs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=main.__doc__
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of the time that each worker has [default: all]",
    )
    options = parser.parse_args()

    console = Console()
    console.print(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    console.print(f"logs in {folder}")
    with Broker(folder / "kafka") as broker:
        areas = max(40, options.kills)
        chaos = ChaosRun(
            broker,
            folder,
            seed=options.seed,
            kills=options.kills,
            areas=areas,
            share=options.share,
        )
        try:
            chaos.run()
        finally:
            console.print(chaos.figures.table())
    local = chaos_over_local_runs(
        folder, seed=options.seed, kills=max(6, options.kills // 5), areas=40
    )
    console.print("local runs", local.table())
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

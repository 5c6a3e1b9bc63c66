"""Workers and their broker killed, frozen, added and removed at random under load, and what is left of it in the end.

`python -m tests.chaos --kills 100` prints the figures; the seed repeats the plan, not the machine's timing. With
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
from replay.send import KIND_TOPICS, Shape, encoded
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Batch, Payments, Readings
from schemas.master import Area
from schemas.units import DAY_SECONDS
from schemas.wire import decode_alert, encode_area, encode_readings
from streams import checkpoints
from streams.broker import Broker, BrokerError
from streams.local import Store, follow, identity
from streams.logs import reader
from streams.outbox import producer
from streams.settings import Settings, load
from streams.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    LARGEST_RECORD,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
    ensure,
)
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

CRASH_SCRIPT = str(Path(__file__).with_name("doomed.py"))
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
INTERVAL_SECONDS = 3600  # seconds between readings
QUIET_SECONDS = 6 * 3600  # seconds to the last reading, in which the last day closes
SETTLING_SECONDS = 300  # seconds until everything is judged when the storm is over
MOST_WORKERS = 4  # workers at once
WORKER_ENVIRONMENT = {
    "METERWATCH_CLOCK": "stream",
    "METERWATCH_INTERVAL": str(INTERVAL_SECONDS),
    "METERWATCH_CHECKPOINT_SECONDS": "1",
    "METERWATCH_SESSION_SECONDS": "6",
    "METERWATCH_METRICS_PORT": "0",
    "METERWATCH_UNKNOWN_AREA": "judge",
}
BROKER_RESTARTS = 3  # that a broker may need
TAKEOVER_SECONDS = (
    15.0  # seconds that partitions may take to find their workers before the next kill
)
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


def adversarial_areas(count: int, seed: int) -> Stream:
    """So many hostile streams side by side, in order of arrival."""
    ranked: list[tuple[float, int, Row]] = []
    areas = []
    for k in range(count):
        stream = adversarial_stream(1000 * seed + k, interval=INTERVAL_SECONDS)
        stream = with_closing_readings(
            with_work_items(stream, 1000 * seed + k), QUIET_SECONDS
        )
        areas += [_renamed(area, k) for area in stream.areas]
        rows = [
            _transportable(row)
            for row in _with_late_rows(stream.rows, k)
            if EARLIEST_TIME <= row.at < LATEST_TIME
        ]
        ranked += [
            (n / len(rows), k, replace(row, area=f"{k}-{row.area}"))
            for n, row in enumerate(rows)
        ]
    ranked.sort(key=lambda ranks: ranks[:2])
    return Stream(
        areas, tuple(row for _, _, row in ranked), "Asia/Shanghai", INTERVAL_SECONDS
    )


def _renamed(area: Any, k: int) -> Any:
    fields = {name: getattr(area, name) for name in area.__struct_fields__}
    return type(area)(
        **fields | {"area": f"{k}-{area.area}", "section": f"{k}-{area.section}"}
    )


def _with_late_rows(rows: Iterable[Row], seed: int) -> Iterator[Row]:
    """The rows, and among them some readings of a month before, too late for anything."""
    rng = random.Random(seed)
    for row in rows:
        yield row
        if row.kind is Readings and rng.random() < 0.01:
            yield replace(row, at=row.at - 30 * DAY_SECONDS)


def _transportable(row: Row) -> Row:
    """As all shapes of a message carry it: without infinities, and with the time at which it was received.

    Kafka knows when a reading arrived, a history does not: a stamp of the future is one in both only when told.
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
    """The stream in so many portions: a batch of every kind that has rows in it."""
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
    """What an undisturbed engine tells of a stream."""

    states: States
    messages: int
    outcomes: Outcomes
    rejected: set[tuple[bytes, bytes]]  # area and reading, as `rejects` shows them


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
                rejected.update(
                    *(
                        each_reading(key, value)
                        for key, value, _ in encode_readings(rows, "array")
                    )
                )
    return ExpectedResult(
        last_states(alerts), len(alerts), count_outcomes(engine), rejected
    )


def each_reading(area: bytes, readings: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The area and every reading of an array."""
    for reading in msgspec.json.decode(readings, type=list[msgspec.Raw]):
        yield area, bytes(reading)


def checkpointed_outcomes(settings: Settings) -> Outcomes:
    """What the last checkpoints of all partitions have counted together."""

    async def restore() -> list[Engine]:
        async with reader(settings) as consumer:
            numbers, topic = (
                range(settings.partitions),
                settings.topic(CHECKPOINTS_TOPIC),
            )
            newest = await checkpoints.newest(
                consumer, topic, numbers, {}, settings.partitions
            )
        engines = []
        for checkpoint in newest.values():
            if checkpoint is not None:
                engines.append(Engine(zone=settings.zone, interval=settings.interval))
                engines[-1].restore(checkpoint.state)
        return engines

    return count_outcomes(*asyncio.run(restore()))


async def publish_areas(
    client: AIOKafkaProducer, settings: Settings, areas: Iterable[Area]
) -> None:
    """Sends master data and returns when the brokers have it."""
    for area in areas:
        key, value, _ = encode_area(area)
        await client.send(settings.topic(REGISTRY_TOPIC), value, key)
    await client.flush()


async def publish(
    client: AIOKafkaProducer, settings: Settings, batches: Iterable[Batch], shape: Shape
) -> None:
    """Sends rows in the order in which they stand; `replay.send` puts them in order of time."""
    for batch in batches:
        topic = settings.topic(KIND_TOPICS[type(batch)])
        for key, value, content in encoded(batch, shape):
            await client.send(
                topic, value, key, headers=[("content-type", content.encode())]
            )


def tampered(batch: Batch) -> Batch:
    """The rows with other values: whoever judges them finds what is not so, and takes the true ones for duplicates."""
    if isinstance(batch, Readings):
        return replace(batch, u=batch.u / 2, kwh=batch.kwh * 3)
    return (
        replace(batch, amount=2 * batch.amount)
        if isinstance(batch, Payments)
        else batch
    )


def transactional(settings: Settings) -> AIOKafkaProducer:
    """A producer whose records count when their transaction is committed."""
    return AIOKafkaProducer(
        **settings.client(), transactional_id="sender", max_request_size=LARGEST_RECORD
    )


async def publish_in_transactions(
    client: AIOKafkaProducer, settings: Settings, batches: Sequence[Batch], shape: Shape
) -> None:
    """Sends tampered rows in a transaction that is aborted, then the true ones in one that is committed."""
    await client.begin_transaction()
    await publish(client, settings, map(tampered, batches), shape)
    await client.flush()
    await client.abort_transaction()
    async with client.transaction():
        await publish(client, settings, batches, shape)


class Sender(threading.Thread):
    """Publishes a stream in all shapes, some of it in transactions, as far as it is let."""

    PORTION_COUNT = 400  # portions
    IN_TRANSACTIONS = 0.2  # of them

    def __init__(self, settings: Settings, stream: Stream, rng: random.Random) -> None:
        super().__init__(name="sender", daemon=True)
        self.settings, self.stream = settings, stream
        self.shapes = rng.choices(MESSAGE_SHAPES, k=self.PORTION_COUNT)
        self.in_transaction = [
            rng.random() < self.IN_TRANSACTIONS for _ in range(self.PORTION_COUNT)
        ]
        self.rows: Counter[str] = Counter()
        self.transactions = 0  # committed, each after one that was aborted
        self.share = 0.0  # of the stream that may be sent
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:
            self.error = error

    async def _send(self) -> None:
        async with (
            producer(self.settings) as client,
            transactional(self.settings) as sealing,
        ):
            await publish_areas(client, self.settings, self.stream.areas)
            for n, portion in enumerate(portions(self.stream, self.PORTION_COUNT)):
                while n >= self.share * self.PORTION_COUNT:  # noqa: ASYNC110 - another thread moves it
                    await asyncio.sleep(0.05)
                if self.in_transaction[n]:
                    await publish_in_transactions(
                        sealing, self.settings, portion, self.shapes[n]
                    )
                    self.transactions += 1
                else:
                    await publish(client, self.settings, portion, self.shapes[n])
                    await (
                        client.flush()
                    )  # topics come as their rows do, also when the broker was away
                self.rows.update({batch.kind: len(batch) for batch in portion})

    def finish(self, seconds: float) -> None:
        """Sends what is left at once, within so many seconds. Raises what went wrong."""
        self.share = 1.0
        self.join(seconds)
        if self.error:
            raise self.error
        assert not self.is_alive(), "the brokers do not take the load"


@dataclass
class Figures:
    """What a storm did and what came of it."""

    seed: int
    rows: Counter[str] = field(default_factory=Counter)  # by kind
    kills: Counter[str] = field(default_factory=Counter)  # by moment
    disturbances: Counter[str] = field(default_factory=Counter)  # everything else
    ends: Counter[str] = field(
        default_factory=Counter
    )  # workers that ended themselves, by reason
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
        """All of it for people."""
        table = Table("storm", f"seed {self.seed}", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        rows = {
            "kills of a worker (SIGKILL)": self.kills.total(),
            **{f"  {moment}": n for moment, n in self.kills.most_common()},
            **dict(sorted(self.disturbances.items())),
            **{
                f"workers that ended themselves: {reason}": n
                for reason, n in self.ends.most_common()
            },
            "times a worker took partitions over": self.takeovers,
            **{f"rows of {kind}": n for kind, n in self.rows.most_common()},
            "alerts expected": self.expected,
            "alerts found": self.found,
            "lost": len(self.lost),
            "invented": len(self.invented),
            "different": len(self.different),
            "alert messages": self.messages,
            "of them repeats": self.messages - self.necessary,
            "seconds": round(self.seconds),
        }
        for name, value in rows.items():
            if value or name in ("lost", "invented", "different"):
                table.add_row(name, f"{value:,}")
        return table


@dataclass
class Member:
    """A worker that takes part, and how it is to end."""

    worker: WorkerProcess
    crash_point: str  # at which it kills itself, "never" when it does not
    leaving: bool = False

    @property
    def code(self) -> int | None:
        """How the process has ended, None while it runs."""
        return self.worker.process.poll()


class ChaosRun:
    """Two workers, more for a while, their broker and a load; everything that happens is drawn from a seed."""

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
        self.plan: list[
            tuple[float, int, Callable[[], None]]
        ] = []  # share of the storm, tie-breaker, act
        self.due: list[
            tuple[float, int, Callable[[], None]]
        ] = []  # moment, tie-breaker, act
        self.ties = count()
        self.last_kill = 0.0  # when a worker was killed last
        self.takeovers_before = 0  # how often workers had taken partitions over by then
        self.restart: threading.Thread | None = None
        self.over = False

    def note(self, what: str) -> None:
        """Adds a line to the log of the storm."""
        with (self.folder / "storm.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {what}\n")

    def run(self) -> Figures:
        """Raises AssertionError, with what is wrong, unless all is as if nothing had happened."""
        told = undisturbed(self.stream, self.settings)
        asyncio.run(ensure(self.settings))
        sender = Sender(self.settings, self.stream, self.rng)
        logging.getLogger("aiokafka").setLevel(
            logging.CRITICAL
        )  # brokers that are away are no news here
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
            self.note("all is sent")
            deadline = time.monotonic() + SETTLING_SECONDS / self.share
            while not all_checkpointed(self.settings):
                self._replace_ended()
                assert time.monotonic() < deadline, "the workers do not come to the end"
                time.sleep(0.2)
            self.note("all is judged")
            for member in self.members:
                code = member.worker.end()
                if code == -signal.SIGKILL and member.crash_point != "never":
                    self.figures.kills[member.crash_point] += (
                        1  # the others' leaving brought its moment
                    )
                else:
                    assert code == 0, member.worker.log.read_text()[-4000:]
        finally:
            self.figures.seconds = time.monotonic() - began
            for member in self.members:
                member.worker.kill()
            if self.restart:
                self.restart.join()  # no broker starts when its folder is gone
        assert all_checkpointed(self.settings)
        self.figures.disturbances["transactions aborted, and committed"] = (
            sender.transactions
        )
        self._compare(told, sender.rows)
        return self.figures

    def _draw(self) -> None:
        """Plans everything but the kills, which depend on how the workers fare."""
        n = max(2, self.kills // 15)
        for act in (
            self._kill_broker,
            self._freeze,
            self._doze,
            self._add,
            self._remove,
            self._remove_and_kill,
        ):
            for k in range(n):  # spread: one within each of so many equal spans
                self.plan.append(
                    (0.9 * (k + self.rng.random()) / n, next(self.ties), act)
                )
        self.plan.sort()
        self._after(0, 3, self._kill)

    def _after(self, least: float, most: float, act: Callable[[], None]) -> None:
        self.due.append(
            (time.monotonic() + self.rng.uniform(least, most), next(self.ties), act)
        )
        self.due.sort()

    @property
    def _pause_seconds(self) -> float:
        return TAKEOVER_SECONDS / self.share

    def _share(self) -> float:
        """How much of the storm is over, the time since the last kill counted as a part of the next."""
        waited = min(1.0, (time.monotonic() - self.last_kill) / self._pause_seconds)
        return min(0.99, (self.figures.kills.total() + waited) / self.kills)

    def _pass(self) -> None:
        """One look at everything."""
        self._replace_ended()
        while self.plan and self.plan[0][0] <= self._share():
            self.plan.pop(0)[2]()
        while self.due and self.due[0][0] <= time.monotonic():
            self.due.pop(0)[2]()
        time.sleep(0.05)

    def _kill_when_served(self) -> None:
        """Lets a kill follow when the partitions have found their workers, or it takes too long."""
        if (
            self._takeovers() >= self.takeovers_before + len(self.members)
            or time.monotonic() > self.last_kill + self._pause_seconds
        ):
            self._after(0, 4 / self.share, self._kill)
        else:
            self._after(0.3, 0.3, self._kill_when_served)

    def _takeovers(self) -> int:
        return sum(
            len(re.findall(r"holds partitions", log.read_text()))
            for log in self.folder.glob("worker-*.log")
        )

    def _replace_ended(self) -> None:
        """Starts again what has ended."""
        for member in list(self.members):
            if (code := member.code) is None:
                continue
            self.members.remove(member)
            self.note(
                f"{member.worker.log.name} has ended with {code}, {member.crash_point}"
            )
            if code == -signal.SIGKILL:
                self.figures.kills[member.crash_point] += 1
            elif code > 0:
                self.figures.ends[reason(member.worker.log)] += 1
            else:
                assert member.leaving, (
                    f"a worker ended with {code}:\n{member.worker.log.read_text()[-4000:]}"
                )
        while len(self.members) < self.wanted:
            self._start()

    def _start(self) -> None:
        moment, calls = "never", 1
        if not self.over and self.rng.random() < 0.4:
            moment = self.rng.choice(WORKER_CRASH_POINTS)
            calls = self.rng.randint(1, 2 if moment in EARLY_CRASH_POINTS else 12)
        log = self.folder / f"worker-{self.started}.log"
        self.started += 1
        worker = WorkerProcess(
            self.environment,
            log,
            CRASH_SCRIPT,
            moment,
            str(calls),
            "worker",
            share=self.share,
        )
        self.members.append(Member(worker, moment))
        self.note(f"{log.name} is started, to die: {moment} {calls}")

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
        self.last_kill, self.takeovers_before = time.monotonic(), self._takeovers()
        self._after(
            0, 2, self._kill
        ) if self.rng.random() < 0.35 else self._kill_when_served()

    def _kill_member(self, member: Member, crash_point: str) -> None:
        if member.code is None:
            member.crash_point = crash_point
            member.worker.kill()
            self.note(f"{member.worker.log.name} is killed {crash_point}")

    def _freeze(self) -> None:
        """Beyond its session: others take its partitions, and when it wakes it must not say what it had in hand."""
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
        """Ended in good order; another takes its place when it was one of two."""
        self.figures.disturbances["workers removed (SIGTERM)"] += 1
        self.wanted = max(self.wanted - 1, 2)
        if member := self._random_member():
            member.leaving = True
            member.worker.process.terminate()
            self.note(f"{member.worker.log.name} is ended")

    def _remove_and_kill(self) -> None:
        """Killed while it hands over."""
        if member := self._random_member():
            member.leaving = True
            member.worker.process.terminate()
            self.note(f"{member.worker.log.name} is ended")
            self._after(
                0, 0.4, partial(self._kill_member, member, "while it hands over")
            )

    def _kill_broker(self) -> None:
        if self.restart and self.restart.is_alive():
            return
        self.figures.disturbances["broker killed and restarted (SIGKILL)"] += 1
        self.broker.kill()
        self.note("the broker is killed")
        self.restart = threading.Timer(self.rng.uniform(0, 4), self._restart_broker)
        self.restart.start()

    def _restart_broker(self) -> None:
        """Again when it does not answer in time, as on a very busy machine."""
        for _ in range(BROKER_RESTARTS):
            try:
                self.broker.start()
            except BrokerError as error:
                self.note(str(error))
            else:
                return

    def _calm(self) -> None:
        """Nothing more happens; what was begun is ended."""
        self.over, self.wanted = True, max(2, len(self.members))
        self.plan.clear()
        self.due.clear()
        self.note("the storm is over")
        if self.restart:
            self.restart.join()
        assert self.broker.process, "the broker has not started again"
        for member in self.members:
            self._wake(member)

    def _compare(self, expected: ExpectedResult, sent: Counter[str]) -> None:
        figures, settings = self.figures, self.settings
        alerts = [
            decode_alert(r.value) for r in asyncio.run(records(settings, ALERTS_TOPIC))
        ]
        found = last_states(alerts)
        figures.rows = sent
        figures.expected, figures.found = len(expected.states), len(found)
        figures.messages, figures.necessary = len(alerts), expected.messages
        figures.lost = sorted(expected.states.keys() - found.keys())
        figures.invented = sorted(found.keys() - expected.states.keys())
        figures.different = sorted(
            k
            for k in found.keys() & expected.states.keys()
            if found[k] != expected.states[k]
        )
        figures.takeovers = self._takeovers()
        counted = checkpointed_outcomes(settings)
        balanced(counted)
        assert {kind: rows["in"] for kind, rows in counted.items()} == dict(sent)
        assert order_independent(counted) == order_independent(expected.outcomes), (
            counted,
            expected.outcomes,
        )
        rejects = {
            reading
            for r in asyncio.run(records(settings, REJECTS_TOPIC))
            for reading in each_reading(r.key, r.value)
        }
        assert rejects == expected.rejected
        wrong = [*figures.lost, *figures.invented, *figures.different][:3]
        assert not wrong, [(found.get(k), expected.states.get(k)) for k in wrong]


def reason(log: Path) -> str:
    """Why a worker has ended itself. Raises AssertionError for a reason that no storm explains."""
    lines = log.read_text().splitlines()
    last = next(
        (
            line
            for line in reversed(lines)
            if " CRITICAL " in line or line.startswith("error: ")
        ),
        "",
    )
    for known in EXPECTED_ENDS:
        if known in last:
            return known
    raise AssertionError("a worker ended itself:\n" + "\n".join(lines[-60:]))


def chaos_over_local_runs(
    folder: Path, *, seed: int, kills: int, areas: int
) -> Figures:
    """A local run killed at random moments, started again until it ends. Raises AssertionError as Storm does."""
    rng, figures = random.Random(seed), Figures(seed)
    stream = adversarial_areas(areas, seed)
    layout.write(
        folder / "history",
        stream.areas,
        (batch for portion in portions(stream, 1) for batch in portion),
    )
    paths = [str(folder / "history")]
    with Store(folder / "undisturbed.db") as store:
        whole = follow(open_history(paths), store, identity(paths), every=1e9)
        expected = store.alerts()
    began, path = time.monotonic(), folder / "killed.db"
    for n in range(kills):
        moment = rng.choice(("never", "within a save", "stored"))
        command = [
            sys.executable,
            CRASH_SCRIPT,
            moment,
            str(rng.randint(1, 6)),
            "run",
            *paths,
            str(path),
            str(INTERVAL_SECONDS),
        ]
        with (folder / f"run-{n}.log").open("wb") as log:
            run = subprocess.Popen(command, stdout=log, stderr=log)
        if moment == "never":
            time.sleep(rng.uniform(0, 4))
            run.kill()
        if (code := run.wait(SETTLING_SECONDS)) == 0:
            break  # it came to the end first
        assert code == -signal.SIGKILL, (folder / f"run-{n}.log").read_text()
        figures.kills["at random" if moment == "never" else moment] += 1
    assert figures.kills, "no run was killed"
    with Store(path) as store:
        place = follow(open_history(paths), store, identity(paths), every=1e9)
        found = store.alerts()
    figures.seconds = time.monotonic() - began
    figures.rows = Counter(
        {kind: told["in"][""] for kind, told in place.counts.items()}
    )
    figures.expected, figures.found = len(expected), len(found)
    assert found == expected
    assert place.counts == whole.counts
    balanced(
        {
            kind: Counter({o: sum(n.values()) for o, n in told.items()})
            for kind, told in place.counts.items()
        }
    )
    return figures


def open_history(paths: list[str]) -> Source:
    """The files as the command reads them."""
    return replace(open_sources(paths), zone=Settings().zone, interval=INTERVAL_SECONDS)


def main() -> None:
    """A storm of its own, with a broker of its own."""
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
    told = parser.parse_args()
    console = Console()
    console.print(f"seed {told.seed}")
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    console.print(f"logs in {folder}")
    with Broker(folder / "kafka") as broker:
        areas = max(40, told.kills)
        storm = ChaosRun(
            broker,
            folder,
            seed=told.seed,
            kills=told.kills,
            areas=areas,
            share=told.share,
        )
        try:
            storm.run()
        finally:
            console.print(storm.figures.table())
    local = chaos_over_local_runs(
        folder, seed=told.seed, kills=max(6, told.kills // 5), areas=40
    )
    console.print("local runs", local.table())
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

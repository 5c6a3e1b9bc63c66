"""Brokers that are away, frozen or full: a worker waits, logs little, gives up by its own clock and obeys SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaTimeoutError,
    UnknownTopicOrPartitionError,
)
from faust.types import TP

from detectors.engine import Engine
from replay.history import Source
from replay.layout import write_areas
from replay.send import send
from replay.simulation.town import Town
from streams.cli import main
from streams.kafka import answers, deliveries, log_limit, topics
from streams.kafka.answers import answered
from streams.kafka.broker import Broker
from streams.kafka.deliveries import Deliveries, Producer
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode
from streams.kafka.liveness import Liveness
from streams.kafka.log_limit import (
    LIBRARY_LINES,
    OWN_LINES,
    WINDOW_SECONDS,
    LogLimit,
)
from streams.kafka.metrics import Metrics
from streams.kafka.outage import Outage
from streams.kafka.outbox import Outbox
from streams.kafka.readers import UnansweredError, unanswered
from streams.kafka.spans import NO_SPANS
from streams.kafka.topics import TopicError, ensure
from streams.kafka.verdicts import VerdictCounts
from streams.kafka.worker import Worker
from streams.settings import Settings, load
from tests.workers import (
    WAIT_SECONDS,
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    thinned,
    wait,
)

MOST_LINES = 20  # of a log during an outage
RULES_FILE = Path(__file__).parents[1] / "deploy" / "rules.toml"


class Clock:
    """A stand-in for `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (log_limit, deliveries):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("streams.kafka.outage.time", clock)
    return clock


class Lines(logging.Handler):
    """The lines that pass a log limit."""

    def __init__(self, limit: LogLimit) -> None:
        super().__init__()
        self.addFilter(limit)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter("%(name)s %(message)s").format(record))


@pytest.fixture
def limit(clock: Clock) -> Iterator[tuple[LogLimit, Lines]]:
    limit = LogLimit()
    lines, root = Lines(limit), logging.getLogger()
    root.addHandler(lines)
    yield limit, lines
    root.removeHandler(lines)


def babble(seconds: int, clock: Clock) -> int:
    """Logs as libraries do while a broker is away: with templates, already formatted, and with tracebacks."""
    refused = KafkaConnectionError("Connection at 127.0.0.1:9092 refused")
    count = 0
    for second in range(seconds):
        clock.now += 1
        for n in range(50):
            logging.getLogger("aiokafka.producer.sender").warning(
                "Got error produce response: %s", refused
            )
            logging.getLogger("aiokafka.client").error(
                f"Unable connect to node {n} at {second}: 0x{n:x}"  # noqa: G004
            )
            logging.getLogger(f"aiokafka.conn{n}").error(
                "of one of many loggers\nand a second line"
            )
            logging.getLogger("kafka.conn").warning("%s is not ready", f"<node {n}>")
            logging.getLogger("another.library").error("failed", exc_info=refused)
            count += 5

    return count


def test_repeated_library_messages_are_logged_once_a_minute(limit, clock):
    log_limit, lines = limit
    line_count = babble(300, clock)
    assert len(lines.found) <= 3 * LIBRARY_LINES * (300 / WINDOW_SECONDS + 1)
    assert log_limit.kept_back() == line_count - len(lines.found)
    assert not any("\n" in line for line in lines.found)
    repeats = [line for line in lines.found if "Got error produce response" in line]
    assert repeats[0].endswith("refused")
    assert repeats[1].endswith(f"({50 * 60 - 1:,} more like it were kept back)")


def test_outage_is_logged_once_a_minute(limit, clock, monkeypatch):
    log_limit, lines = limit
    monkeypatch.setattr("streams.kafka.outage.LOG_LIMIT", log_limit)
    outage, line_count = Outage(), 0
    for second in range(150):
        outage.note_fault("do not answer" if 10 <= second < 140 else "", 10)
        line_count += babble(1, clock) if 10 <= second < 140 else 0
    assert lines.found == [
        "meterwatch the brokers do not answer; this worker waits for them",
        f"meterwatch the brokers do not answer, now for 70 s; {60 * 250} log lines of libraries were kept back",
        f"meterwatch the brokers do not answer, now for 130 s; {60 * 250} log lines of libraries were kept back",
        f"meterwatch the brokers are back after 140 s; {10 * 250} log lines of libraries were kept back",
    ]
    assert line_count == 130 * 250


def test_messages_beyond_an_outage_are_logged_whole(limit):
    _, lines = limit
    try:
        raise ValueError("of our own making")
    except ValueError:
        logging.getLogger("faust.agents").exception("agent has crashed")

    logging.getLogger("aiokafka").critical("critical")
    logging.getLogger("aiokafka").critical("critical")
    logging.getLogger("meterwatch").warning("offset %d is refused", 1)
    logging.getLogger("meterwatch").warning("offset %d is refused", 2)
    logging.getLogger("meterwatch").warning("offset %d is refused", 2)
    template = "%s and %s"
    logging.getLogger("kafka").warning(template, "one")

    assert "Traceback" in lines.found[0]
    assert lines.found[1:] == [
        "aiokafka critical",
        "aiokafka critical",
        "meterwatch offset 1 is refused",
        "meterwatch offset 2 is refused",
        "kafka %s and %s",
    ]


def test_many_lines_of_one_kind_leave_the_others_their_room(limit):
    _, lines = limit
    own = logging.getLogger("meterwatch")
    for offset in range(5 * OWN_LINES):
        own.warning("offset %d is refused", offset)
    own.warning("the brokers do not answer")
    assert len(lines.found) == OWN_LINES + 1
    assert lines.found[-1] == "meterwatch the brokers do not answer"


def test_usual_messages_of_starts_and_rebalances_are_not_logged(limit):
    _, lines = limit
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    coordinator.error(
        "Group Coordinator Request failed: %s", CoordinatorNotAvailableError()
    )
    coordinator.warning(
        "Heartbeat failed for group %s because it is rebalancing", "meterwatch"
    )
    logging.getLogger("mode.timers").warning(
        "Timer %s is overlapping (interval=%r runtime=%r)", "livelock", 7.0, 59.9
    )

    assert lines.found == []

    coordinator.error(
        "Group Coordinator Request failed: %s", GroupAuthorizationFailedError()
    )
    assert lines.found == [
        f"{coordinator.name} Group Coordinator Request failed: {GroupAuthorizationFailedError()}"
    ]


def test_delivery_delay_counts_only_while_the_process_runs(clock):
    async def deliver() -> None:
        deliveries = Deliveries()
        first, second, third = (
            asyncio.get_running_loop().create_future() for _ in range(3)
        )
        deliveries.beat()
        deliveries.track(first)
        deliveries.track(second)
        for _ in range(30):
            clock.now += 1
            deliveries.beat()

        assert (deliveries.oldest, deliveries.silence) == (30, 30)

        second.set_result(None)
        await asyncio.sleep(0)
        assert (deliveries.oldest, deliveries.silence) == (30, 0)

        clock.now += 1000  # the process stood still
        deliveries.beat()
        assert deliveries.oldest < 40

        first.set_exception(KafkaTimeoutError())
        await asyncio.sleep(0)
        assert (deliveries.oldest, deliveries.silence) == (0, 0)

        first.exception()
        deliveries.track(third)
        third.cancel()
        await asyncio.sleep(0)

        assert deliveries.oldest == 0

    asyncio.run(deliver())


def asking_producer(*answers: bool, topics: tuple[str, ...] = ()) -> Producer:
    """A producer whose brokers answer so to requests for their topics."""
    given = iter(answers)

    async def asked() -> bool:
        return next(given)

    known = {topic: {0} for topic in topics}
    sender = object.__new__(Producer)
    sender._closed = True
    sender._deliveries, sender._is_watched = Deliveries(), True
    sender.client = SimpleNamespace(
        force_metadata_update=asked,
        cluster=SimpleNamespace(partitions_for_topic=known.get),
    )
    return sender


@pytest.fixture
def attempts(monkeypatch) -> Counter[str]:
    """How often aiokafka was asked to send to each topic; it knows one from the second attempt on."""
    counts: Counter[str] = Counter()

    async def send(_: object, topic: str, *__: object) -> asyncio.Future[None]:
        counts[topic] += 1
        if topic != "checkpoints" or counts[topic] == 1:
            raise UnknownTopicOrPartitionError
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent

    monkeypatch.setattr(aiokafka.AIOKafkaProducer, "send", send)
    return counts


def test_topic_is_asked_for_until_brokers_answer(attempts):
    """Aiokafka calls a topic unknown though no broker has answered."""
    sender = asking_producer(False, False, True)
    with pytest.raises(UnknownTopicOrPartitionError):
        asyncio.run(sender.send("missing", b"1"))
    assert attempts["missing"] == 3
    assert sender._deliveries.oldest == 0

    sender = asking_producer(False)
    sender._is_watched = False
    with pytest.raises(KafkaTimeoutError, match="no broker has answered for 30 s"):
        asyncio.run(sender.send("missing", b"1"))


@pytest.mark.parametrize("is_watched", [True, False])
def test_brokers_that_come_back_while_they_are_asked_take_the_record(
    attempts, is_watched
):
    sender = asking_producer(True, topics=("checkpoints",))
    sender._is_watched = is_watched
    asyncio.run(sender.send("checkpoints", b"1"))
    assert attempts["checkpoints"] == 2


def consumer_without_leaders(*without: TopicPartition) -> Any:
    """A consumer whose brokers answer no request about partitions, and lead all but some."""
    consumer = object.__new__(answers.BoundedConsumer)
    consumer._closed = True
    leaders = dict.fromkeys(without, answers.NO_LEADER)
    consumer._client = SimpleNamespace(
        add_topic=lambda _: None,
        cluster=SimpleNamespace(leader_for_partition=lambda tp: leaders.get(tp, 1)),
    )
    return consumer


def test_partition_without_leader_is_named_where_brokers_do_not_answer(monkeypatch):
    tps = [TopicPartition(topic, number) for topic in "ab" for number in range(3)]

    async def silent(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(answered, "__defaults__", (0.01,))
    monkeypatch.setattr(aiokafka.AIOKafkaConsumer, "end_offsets", silent)
    for without, message in (
        ([], "no broker has answered"),
        (tps[4:5], "no broker leads `b`, partition 1$"),
        (tps[1:4], "no broker leads `a`, partition 1 and 2 others"),
    ):
        with pytest.raises(KafkaTimeoutError, match=message):
            asyncio.run(consumer_without_leaders(*without).end_offsets(tps))


def test_worker_says_which_partition_has_no_leader(clock, monkeypatch):
    monkeypatch.setattr("streams.kafka.liveness.time", clock)
    metrics = Metrics()
    liveness = Liveness(load({}), metrics, Deliveries(), EngineThread(metrics))
    for leaderless, fault in (
        ("`meter.reads`, partition 1", "do not lead `meter.reads`, partition 1"),
        ("", "do not answer"),
    ):
        liveness.note_silence(11, leaderless)
        liveness._check_brokers()
        assert liveness.brokers_fault == f"the brokers at 127.0.0.1:9092 {fault}"
    liveness.note_answer()
    liveness._check_brokers()
    assert liveness.brokers_fault == ""


def test_verdicts_wait_for_brokers_and_end_no_worker(monkeypatch, caplog):
    counts = VerdictCounts(load({}), Metrics())
    waits: list[float] = []
    errors = [KafkaTimeoutError("no broker leads it"), TopicError("no right")]

    async def follow() -> None:
        raise errors[len(waits)]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == len(errors):
            raise asyncio.CancelledError

    monkeypatch.setattr(counts, "_follow", follow)
    monkeypatch.setattr("streams.kafka.verdicts.asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(counts.follow_inspections())
    assert waits == [60, 3600]
    assert caplog.text.count("verdicts of inspections are not counted: ") == 2


def test_refusal_of_a_record_from_the_future_names_the_clock(monkeypatch):
    monkeypatch.setattr("streams.kafka.outbox.fatal", lambda why, _: pytest.fail(why))
    outbox = Outbox(load({}), Metrics(), Deliveries(), NO_SPANS)

    async def refuse() -> None:
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(InvalidTimestampError())
        outbox._sent("alerts", 0, refused)

    message = "`alerts` does not take .* the clock of this machine is far ahead"
    with pytest.raises(pytest.fail.Exception, match=message):
        asyncio.run(refuse())


def test_worker_does_not_wait_forever_for_an_answer():
    async def ask() -> None:
        with pytest.raises(
            KafkaTimeoutError, match=r"no broker has answered for 0\.01 s"
        ):
            await answered(asyncio.get_running_loop().create_future(), 0.01)
        assert await answered(asyncio.sleep(0, "yes")) == "yes"

    asyncio.run(ask())


def test_takeover_waits_for_the_brokers_and_stops_when_the_worker_ends(
    monkeypatch, caplog
):
    worker, attempts = Worker(load({}), Metrics()), 0

    @asynccontextmanager
    async def absent(settings: Settings, **_: object) -> AsyncIterator[object]:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            worker._stopping = True
        raise UnansweredError(f"no answer from the brokers at {settings.brokers}")
        yield object()

    monkeypatch.setattr("streams.kafka.worker.reader", absent)
    monkeypatch.setattr("streams.kafka.worker.BEAT_SECONDS", 0.0)
    worker._published.known.set()
    asyncio.run(worker.take_over({TP(topic, 0) for topic in worker.holdings.topics}, 1))

    assert attempts == 3
    assert (
        caplog.text.count(
            "partitions [0] cannot be taken over yet: no answer from the brokers at"
        )
        == 3
    )
    assert worker.generation == -1


def test_last_checkpoint_is_given_up_if_brokers_are_silent_and_not_if_it_is_slow(
    clock, monkeypatch
):
    monkeypatch.setattr("streams.kafka.liveness.fatal", pytest.fail)
    monkeypatch.setattr("streams.kafka.liveness.time", clock)
    monkeypatch.setattr("streams.kafka.liveness.BEAT_SECONDS", 0.0)
    metrics, sent = Metrics(), Deliveries()
    liveness = Liveness(load({}), metrics, sent, EngineThread(metrics))

    async def long(beats: int) -> None:
        for _ in range(beats):
            clock.now += 1
            await asyncio.sleep(0)

    asyncio.run(liveness.unless_silent(long(1000)))

    async def frozen() -> None:
        sent.track(asyncio.get_running_loop().create_future())
        await long(1000)

    with pytest.raises(
        pytest.fail.Exception, match="no broker takes the last checkpoint"
    ):
        asyncio.run(liveness.unless_silent(frozen()))


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers, as a frozen broker."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "command",
    [
        "topics",
        "worker",
        "alerts",
        "alerts --once",
        "send town:60x1",
        "registry load areas.jsonl",
        "rules list --published",
        f"rules publish {RULES_FILE}",
    ],
)
@pytest.mark.parametrize("brokers", ["closed", "silent"])
def test_command_without_brokers_ends_with_an_error(
    command, brokers, request, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(answered, "__defaults__", (0.5,))
    monkeypatch.setenv("METERWATCH_BROKERS", request.getfixturevalue(brokers))
    monkeypatch.chdir(tmp_path)
    write_areas(tmp_path / "areas.jsonl", Town(60, 1).areas)
    monkeypatch.setattr(sys, "argv", ["meterwatch", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert ended.value.code == 2
    assert re.fullmatch(
        r"error: no answer from the brokers at 127\.0\.0\.1:\d+: .*\n", output.err
    )
    assert output.out == ""


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("", "Connection refused"),
        ("nowhere.invalid:9092", "(Name|Temporary).*"),
        ("[::1]:1", "(Connection refused|Cannot assign .*|Address family .*)"),
    ],
)
def test_an_address_that_cannot_be_reached_says_why(host, fault, closed):
    settings = load({"METERWATCH_BROKERS": host or closed})
    with pytest.raises(UnansweredError) as ended:
        asyncio.run(ensure(settings))
    assert re.fullmatch(
        rf"no answer from the brokers at {re.escape(settings.brokers)}: {fault}",
        str(ended.value),
    )


def test_a_broker_that_cannot_be_reached_is_not_asked_why_it_refuses(
    closed, monkeypatch
):
    """It would take as long again as the answer that did not come."""
    monkeypatch.setattr("streams.kafka.readers.refusal", lambda _: pytest.fail("asked"))
    settings = load(
        {
            "METERWATCH_BROKERS": closed,
            "METERWATCH_SECURITY_PROTOCOL": "SSL",
        }
    )
    error = asyncio.run(unanswered(settings, KafkaTimeoutError("late")))
    assert str(error) == f"no answer from the brokers at {closed}: Connection refused"


def test_topic_that_may_not_be_created_names_who_creates_it():
    async def refuse(_: object) -> SimpleNamespace:
        code = ClusterAuthorizationFailedError.errno
        return SimpleNamespace(topic_errors=[("alerts", code, None)])

    with pytest.raises(TopicError, match="run `meterwatch topics` as a user who may"):
        asyncio.run(topics._create(SimpleNamespace(create_topics=refuse), []))


def test_end_of_a_worker_that_logs_json_is_a_line_of_json(closed):
    environment = os.environ | {
        "METERWATCH_BROKERS": closed,
        "METERWATCH_LOG_FORMAT": "json",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", "worker"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    (line,) = map(json.loads, ended.stderr.splitlines())
    assert (ended.returncode, line["exit_code"], line["level"]) == (2, 2, "CRITICAL")
    assert line["message"].startswith(f"no answer from the brokers at {closed}")
    assert "exception" not in line


class BrokerTown:
    """A town's history on a broker of its own, which a worker judges in thirds."""

    def __init__(self, broker: Broker, folder: Path, **changed: str) -> None:
        self.broker, self.folder = broker, folder
        self.environment = {
            "METERWATCH_BROKERS": broker.address,
            "METERWATCH_CLOCK": "stream",
            "METERWATCH_METRICS_PORT": "0",
            "METERWATCH_CHECKPOINT_SECONDS": "3",
            "METERWATCH_SESSION_SECONDS": "6",
            "METERWATCH_PARTITIONS": "2",
        } | changed
        self.settings = load(self.environment)
        self.town = Town(300, 3)
        self.history = thinned(self.town)
        asyncio.run(ensure(self.settings))

    def publish(self, third: int) -> int:
        """Sends a third and returns its number of rows."""
        size = len(self.history) // 3
        end = (third + 1) * size if third < 2 else None
        batches = self.history[third * size : end]
        source = Source(
            self.town.name,
            self.town.areas,
            iter(batches),
            sum(map(len, batches)),
            self.town.zone,
            self.town.interval,
        )
        send(source, self.settings.servers, prefix=self.settings.prefix)
        return sum(map(len, batches))

    def worker(self, name: str, **changed: str) -> WorkerProcess:
        return WorkerProcess(self.environment | changed, self.folder / name)

    def expected(self) -> dict[str, dict[str, Any]]:
        """The alerts of an engine that nothing disturbs."""
        engine = Engine(zone=self.town.zone, interval=self.town.interval)
        engine.enroll(self.town.areas)
        return last_states(
            alert for batch in self.history for alert in engine.step(batch)
        )

    def publish_and_wait(self, worker: WorkerProcess, third: int) -> None:
        """Returns when a worker has judged a third, perhaps before a checkpoint contains it."""
        before = worker.rows()
        sent = self.publish(third)
        wait(lambda: worker.rows() == before + sent)

    def freeze(self) -> None:
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self.broker.process
        return self.broker.process


@pytest.mark.broker
def test_worker_logs_little_during_an_outage_resumes_and_obeys_sigterm(
    own_broker, tmp_path
):
    town = BrokerTown(own_broker, tmp_path)
    with town.worker("one") as worker:
        town.publish_and_wait(worker, 0)
        wait(lambda: all_checkpointed(town.settings))
        wait(lambda: worker.sample("meterwatch_brokers_answer") == 1)
        before = worker.log.read_text().count("\n")
        answer = worker.sample("meterwatch_broker_answer_time_seconds")

        town.publish_and_wait(worker, 1)
        town.freeze()
        wait(lambda: worker.sample("meterwatch_brokers_answer") == 0)
        town.thaw()
        wait(lambda: worker.sample("meterwatch_brokers_answer") == 1)
        wait(lambda: all_checkpointed(town.settings))

        assert worker.sample("meterwatch_broker_answer_time_seconds") > answer

        log = worker.log.read_text()
        assert log.count("the brokers are back after") == 1
        assert log.count("\n") - before < MOST_LINES
        assert worker.end() == 0

    with town.worker("two", METERWATCH_CHECKPOINT_SECONDS="3600") as worker:
        town.publish_and_wait(worker, 2)
        before = worker.log.read_text().count("\n")
        own_broker.kill()
        wait(lambda: worker.sample("meterwatch_brokers_answer") == 0)
        assert worker.end() == ExitCode.BROKERS
        log = worker.log.read_text()
        assert (
            "no broker takes the last checkpoint; the next worker goes on from the one before"
            in log
        )
        assert log.count("\n") - before < MOST_LINES

    own_broker.start()
    with town.worker("three") as worker:
        wait(lambda: all_checkpointed(town.settings))
        assert worker.end() == 0
        assert worker.log.read_text().endswith("ended; the last checkpoint is taken\n")

    assert published_states(town.settings) == town.expected()


@pytest.mark.broker
def test_worker_ends_if_brokers_accept_nothing_for_stall_seconds(own_broker, tmp_path):
    town = BrokerTown(
        own_broker,
        tmp_path,
        METERWATCH_STALL_SECONDS="15",
        METERWATCH_CHECKPOINT_SECONDS="10",
    )
    with town.worker("log") as worker:
        town.publish_and_wait(worker, 0)
        wait(lambda: all_checkpointed(town.settings))
        town.publish_and_wait(worker, 1)
        town.freeze()
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.BROKERS
        message = r"what was published \d+ s ago is on no broker yet \(`stall_seconds` is 15\); this worker ends"
        assert re.search(message, worker.log.read_text().splitlines()[-1])


def test_client_stops_though_its_fetcher_lost_its_cancellation(monkeypatch):
    """As aiokafka's fetcher does if partitions change and the client stops at once."""
    monkeypatch.setattr(answers, "STOP_SECONDS", 0.01)
    released = asyncio.Event()

    async def stop(_) -> None:
        await released.wait()

    monkeypatch.setattr(aiokafka.AIOKafkaConsumer, "stop", stop)
    consumer = object.__new__(answers.BoundedConsumer)
    consumer._closed = True
    consumer._fetcher = SimpleNamespace(
        _fetch_task=SimpleNamespace(cancel=released.set)
    )
    asyncio.run(asyncio.wait_for(consumer.stop(), 5))
    assert released.is_set()


def test_topics_are_found_together_before_their_offsets_are_asked_for(monkeypatch):
    """One by one, aiokafka takes a tenth of a second for each."""
    found: set[str] = set()
    tps = [TopicPartition(topic, number) for topic in "abc" for number in range(2)]

    async def offsets(_, partitions):
        assert found == {"a", "b", "c"}
        found.clear()
        return dict.fromkeys(partitions, 7)

    for name in ("beginning_offsets", "end_offsets"):
        monkeypatch.setattr(aiokafka.AIOKafkaConsumer, name, offsets)
        consumer = object.__new__(answers.BoundedConsumer)
        consumer._closed = True
        consumer._client = SimpleNamespace(add_topic=found.add)
        ask = getattr(consumer, name)
        assert asyncio.run(ask(tps)) == dict.fromkeys(tps, 7)

"""The worker on a real broker: its alerts, its counts, and its end and successor when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from detectors.engine import Engine
from replay.history import Source
from replay.send import send
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import Batch, Readings, Stages
from schemas.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    LARGEST_REJECT,
    READS_TOPIC,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
    SOURCE_TOPICS,
)
from schemas.wire import (
    JSON_CONTENT_TYPE,
    decode,
    decode_alert,
    encode_alert,
)
from streams.kafka import checkpoints
from streams.kafka.checkpoints import WrittenCheckpoint
from streams.kafka.deliveries import Deliveries
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode
from streams.kafka.holdings import Holdings
from streams.kafka.liveness import Liveness
from streams.kafka.metrics import Metrics
from streams.kafka.partitions import Partition
from streams.kafka.worker import Worker
from streams.settings import Settings, load
from tests.workers import (
    WAIT_SECONDS,
    WORKER_COMMAND,
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    thinned,
    wait,
)


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(600, 3)


@pytest.fixture(scope="module")
def history(town: Town) -> list[Batch]:
    return thinned(town)


@pytest.fixture(scope="module")
def expected(town: Town, history: list[Batch]) -> dict[str, dict[str, Any]]:
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    alerts = last_states(alert for batch in history for alert in engine.step(batch))
    assert len(alerts) > 5
    return alerts


def publish(
    settings: Settings, town: Town, batches: list[Batch], shape: Any = "packed"
) -> None:
    source = Source(
        town.name,
        town.areas,
        iter(batches),
        sum(map(len, batches)),
        town.zone,
        town.interval,
    )
    send(source, settings.servers, shape, prefix=settings.prefix)


def test_killed_worker_continues_from_the_checkpoint(
    settings, environment, town, history, expected, tmp_path
):
    third = len(history) // 3
    with WorkerProcess(environment, tmp_path / "one") as worker:
        publish(settings, town, history[:third], "array")
        wait(lambda: all_checkpointed(settings))
        publish(settings, town, history[third : third + 2], "array")
        worker.kill()

    with WorkerProcess(
        environment | {"METERWATCH_CHECKPOINT_SECONDS": "3600"}, tmp_path / "two"
    ) as worker:
        publish(settings, town, history[third + 2 : 2 * third], "array")
        before = len(asyncio.run(records(settings, ALERTS_TOPIC)))
        # and no checkpoint contains them
        wait(lambda: len(asyncio.run(records(settings, ALERTS_TOPIC))) > before)
        worker.kill()

    with WorkerProcess(environment, tmp_path / "three"):
        publish(settings, town, history[2 * third :], "array")
        wait(lambda: all_checkpointed(settings))
        assert published_states(settings) == expected


def test_successor_withdraws_alerts_that_only_the_killed_worker_found(
    settings, environment, town, history, expected, tmp_path
):
    with WorkerProcess(environment, tmp_path / "one") as worker:
        publish(settings, town, history[:-1])
        wait(lambda: all_checkpointed(settings))
        worker.kill()

    [first, *_] = [
        decode_alert(record.value)
        for record in asyncio.run(records(settings, ALERTS_TOPIC))
    ]
    orphan = msgspec.structs.replace(
        first, id="0" * 16, subject="of another order of topics"
    )

    async def publish_orphan() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            for number in range(settings.partitions):
                for value in (b"of nobody", encode_alert(orphan)[1]):
                    await producer.send_and_wait(
                        settings.topic(ALERTS_TOPIC), value, b"0", number
                    )

    asyncio.run(publish_orphan())
    with WorkerProcess(environment, tmp_path / "two") as worker:
        publish(settings, town, history[-1:])
        wait(
            lambda: (
                worker.log.read_text().count("corrects 1 alerts of")
                == settings.partitions
            )
        )
        wait(lambda: all_checkpointed(settings))

    alerts = [
        decode_alert(record.value)
        for record in asyncio.run(records(settings, ALERTS_TOPIC))
        if record.value != b"of nobody"
    ]

    assert last_states(alerts) == expected


def test_ended_worker_takes_a_last_checkpoint(
    settings, environment, town, history, expected, tmp_path
):
    publish(settings, town, history)
    sent = sum(map(len, history))
    unsaved = environment | {"METERWATCH_CHECKPOINT_SECONDS": "3600"}
    # as a user starts it, in no fork
    with WorkerProcess(unsaved, tmp_path / "log", *WORKER_COMMAND) as worker:
        wait(lambda: worker.rows() == sent)
        assert not all_checkpointed(settings)
        assert worker.end() == 0
    assert all_checkpointed(settings)
    assert published_states(settings) == expected


def test_worker_counts_sent_records(
    settings, environment, town, history, expected, tmp_path
):
    publish(settings, town, history)
    sent = Counter[str]()
    for batch in history:
        sent[batch.kind] += len(batch)
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.rows() == sent.total())
        counted = worker.scrape()
        assert worker.end() == 0

    totals = Counter[str]()
    for (name, labels), value in counted.items():
        totals[name] += value
        if name == "meterwatch_rows_total":
            assert value == sent[labels[0]]
        assert not any(re.fullmatch(r"M\d+|C\d+", label) for label in labels)

    outcomes = ("judged", "rejected", "duplicate", "late")
    assert (
        sum(totals[f"meterwatch_{outcome}_total"] for outcome in outcomes)
        == sent.total()
    )
    assert totals["meterwatch_meters"] > 100
    assert totals["meterwatch_lag_records"] == 0
    assert totals["meterwatch_checkpoint_bytes"] > 0
    assert totals["meterwatch_step_seconds_count"] > 0

    published = asyncio.run(records(settings, ALERTS_TOPIC))
    assert totals["meterwatch_evidence_to_alert_seconds_count"] == len(published)
    assert totals["meterwatch_alerts_total"] + totals[
        "meterwatch_alerts_suppressed_total"
    ] == len(published)


def test_unreadable_records_are_rejected_with_their_reason(
    settings, environment, tmp_path
):
    huge = b"[" + b" " * (20 << 20) + b"]"  # larger than `rejects` accepts uncompressed
    poison = [
        b"{",
        b"",
        b"null",
        b'{"meter": "M1"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"\x93\x01\x02",
        huge,
    ]
    good = b'{"meter": "M1", "at": 1772380800, "kwh": 1}'

    async def produce() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=settings.brokers,
            max_request_size=30 << 20,
            compression_type="gzip",
        ) as producer:
            for value in [*poison, good]:
                headers = (
                    [("content-type", JSON_CONTENT_TYPE.encode())]
                    if value == good
                    else []
                )
                await producer.send_and_wait(
                    settings.topic(READS_TOPIC), value, b"A1", headers=headers
                )

    asyncio.run(produce())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        rejects = asyncio.run(records(settings, REJECTS_TOPIC))
        wait(
            lambda: (
                worker.sample("meterwatch_rows_total", "readings") == len(rejects) + 1
            )
        )
        counted = worker.scrape()

    values = [value[:LARGEST_REJECT] for value in poison]
    assert [record.value for record in rejects] == values
    assert counted["meterwatch_judged_total", ("readings",)] == 1

    for offset, record in enumerate(rejects):
        headers = {name: value.decode() for name, value in record.headers}
        assert record.key == b"A1"
        assert headers.pop("reason")
        assert headers.pop("detail")

        size = str(len(poison[offset]))
        assert headers == {
            "topic": settings.topic(READS_TOPIC),
            "partition": "3",
            "offset": str(offset),
            "bytes": size,
        }
        assert (
            counted[
                "meterwatch_rejected_total",
                ("readings", dict(record.headers)["reason"].decode()),
            ]
            > 0
        )


def test_reading_from_the_future_is_rejected(settings, environment, tmp_path):
    value = b'{"meter":"M1","at":1772380800,"received":1772370000,"kwh":1.0}'

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            await producer.send_and_wait(settings.topic(READS_TOPIC), value, b"A1")

    asyncio.run(produce())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        rejects = asyncio.run(records(settings, REJECTS_TOPIC))
        wait(
            lambda: (
                worker.sample("meterwatch_rejected_total", "readings", "future") == 1
            )
        )

    (record,) = rejects
    rejected_again, _ = decode(Readings, [(b"A1", record.value, "", 0)])
    assert rejected_again is not None
    assert rejected_again.at.tolist() == [1772380800]
    assert dict(record.headers)["reason"] == b"future"
    assert dict(record.headers)["offset"] == b"0-0"


def test_worker_refuses_a_checkpoint_of_another_layout(
    settings, environment, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoints, "MANIFEST_LAYOUT", 99)

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            tp = TopicPartition(settings.topic(CHECKPOINTS_TOPIC), 1)
            contents = checkpoints.CheckpointContents(b"state", {}, settings.partitions)
            await checkpoints.write_checkpoint(
                producer, tp, contents, checkpoints.WrittenCheckpoint()
            )

    asyncio.run(write())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.STATE
        assert "holds a checkpoint of layout 99" in worker.log.read_text()


def test_with_the_wall_clock_a_timer_fires_when_no_event_comes(
    settings, environment, tmp_path
):
    now = int(time.time())
    started = Stages.build(
        ["W1"],
        [0],
        ["S1"],
        [0],
        [now - 7200],
        stages=["review"],
        stage=[0],
        limit=[3600.0],
    )
    source = Source("stages", [], iter([started]), 1)
    send(source, settings.servers, prefix=settings.prefix)
    with WorkerProcess(environment | {"METERWATCH_CLOCK": "wall"}, tmp_path / "log"):
        wait(lambda: published_states(settings))
    [alert] = published_states(settings).values()

    assert (alert["rule"], alert["subject"]) == ("stage_overdue", "W1/review")
    assert alert["raised"] < now


@pytest.mark.parametrize(
    ("hangs", "reason"),
    [
        (
            "from detectors.engine import Engine; Engine.step",
            "`step` has not come to an end after",
        ),
        (
            "from streams.kafka.partitions import Partition; Partition.enqueue",
            "the event loop has not moved for",
        ),
    ],
)
def test_a_worker_that_hangs_ends(
    settings, environment, town, history, tmp_path, hangs, reason
):
    publish(settings, town, history[-1:])
    hang = f"import time; {hangs} = lambda *_: time.sleep(1000)"
    run = f"import sys; {hang}; from streams.cli import main; sys.argv = ['meterwatch', 'worker']; main()"
    with WorkerProcess(
        environment | {"METERWATCH_STALL_SECONDS": "10"}, tmp_path / "log", "-c", run
    ) as worker:
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.STALLED
        assert reason in worker.log.read_text()


def test_partition_that_stands_still_ends_the_worker(monkeypatch):
    monkeypatch.setattr("streams.kafka.lag.fatal", pytest.fail)
    worker = Worker(load({"METERWATCH_STALL_SECONDS": "1"}), Metrics())
    partition = worker.holdings.partitions[0] = Partition(
        0,
        Engine(),
        dict.fromkeys([REGISTRY_TOPIC, *SOURCE_TOPICS], 7),
        WrittenCheckpoint(),
    )
    worker._lag.check_progress(partition, {READS_TOPIC: 7})
    partition._moved_at -= 2
    worker._lag.check_progress(partition, {READS_TOPIC: 7})
    partition._moved_at -= 2

    with pytest.raises(
        pytest.fail.Exception,
        match="partition 0 has 2 records waiting and has not moved for 2 s",
    ):
        worker._lag.check_progress(partition, {READS_TOPIC: 9})


def test_time_passes_up_to_the_judged_records_under_steady_flow(monkeypatch):
    worker = Worker(load({}), Metrics())
    partition = worker.holdings.partitions[0] = Partition(
        0,
        Engine(),
        dict.fromkeys([REGISTRY_TOPIC, *SOURCE_TOPICS], 7),
        WrittenCheckpoint(),
    )
    ticks: list[int] = []

    def pass_time(then: int, _: int) -> list[Alert]:
        ticks.append(then)
        return []

    monkeypatch.setattr(partition.engine, "pass_time", pass_time)
    asyncio.run(worker._maintenance._tick(partition))
    worker._lag.check_progress(partition, {READS_TOPIC: 9})
    partition.reached[READS_TOPIC] = 1_772_380_800
    asyncio.run(worker._maintenance._tick(partition))

    assert ticks == [1_772_380_800]


def test_a_worker_that_never_gets_what_it_is_assigned_ends(monkeypatch):
    monkeypatch.setattr("streams.kafka.holdings.fatal", pytest.fail)
    holdings = Holdings(load({"METERWATCH_STALL_SECONDS": "5"}))
    holdings.check_assignment()
    holdings._changed_at -= 6
    assert "the group `meterwatch` has given this worker no" in holdings.waits_for
    holdings.note_silence(2)  # of brokers that could not have given any
    holdings.check_assignment()
    holdings._changed_at -= 2
    with pytest.raises(
        pytest.fail.Exception,
        match=r"for 6 s the group `meterwatch` has given this worker no partitions",
    ):
        holdings.check_assignment()

    holdings.expect({1, 0})
    assert holdings.waits_for == "partitions [0, 1] are not taken over yet"
    holdings._changed_at -= 6
    with pytest.raises(
        pytest.fail.Exception,
        match=r"holds partitions \[\], and the group has given it \[0, 1\]",
    ):
        holdings.check_assignment()
    holdings.expect(set())
    holdings._changed_at -= 6
    holdings.check_assignment()


def test_a_worker_ends_though_a_task_loses_its_cancellation(monkeypatch):
    """As a client does that is about to connect."""
    worker = Worker(load({}), Metrics())
    ended: list[str] = []

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def end(name: str) -> None:
        ended.append(name)

    async def stop() -> None:
        worker._tasks = [asyncio.create_task(worker._serve(deaf))]
        await asyncio.sleep(0)
        await worker.stop()

    monkeypatch.setattr("streams.kafka.worker.STOP_SECONDS", 0.01)
    for part in (worker._outbox, worker._checkpoints):
        monkeypatch.setattr(part, "stop", partial(end, type(part).__name__))
    asyncio.run(asyncio.wait_for(stop(), 30))
    assert sorted(ended) == ["CheckpointWriter", "Outbox"]
    assert worker._tasks[0].cancelled()


def test_a_worker_without_partitions_waits_its_turn(
    environment, town, history, tmp_path
):
    environment["METERWATCH_PARTITIONS"] = "1"
    settings = load(environment)
    with WorkerProcess(environment, tmp_path / "one") as one:
        wait(lambda: "holds partitions [0]" in one.log.read_text())
        with WorkerProcess(environment, tmp_path / "two") as two:
            wait(
                lambda: (
                    "holds partitions []" in one.log.read_text() + two.log.read_text()
                )
            )
            spare = two if "holds partitions []" in two.log.read_text() else one
            assert (one if spare is two else two).end() == 0
            publish(settings, town, history[:10])
            wait(lambda: all_checkpointed(settings))


def test_worker_that_slept_through_its_session_ends(monkeypatch):
    monkeypatch.setattr("streams.kafka.liveness.fatal", pytest.fail)
    settings, metrics = load({"METERWATCH_SESSION_SECONDS": "6"}), Metrics()
    liveness = Liveness(settings, metrics, Deliveries(), EngineThread(metrics))
    liveness.check_awake()
    liveness._awake -= 7
    with pytest.raises(
        pytest.fail.Exception,
        match=r"stood still for 7\.\d s; `session_seconds` is 6, of which",
    ):
        liveness.check_awake()


def test_restarted_worker_of_the_same_name_gets_its_partitions_before_its_session_ends(
    settings, environment, town, history, expected, tmp_path
):
    third = len(history) // 3
    lasting = environment | {"METERWATCH_SESSION_SECONDS": str(1.5 * WAIT_SECONDS)}
    with WorkerProcess(
        lasting | {"METERWATCH_INSTANCE": "two"}, tmp_path / "two"
    ) as two:
        with WorkerProcess(
            lasting | {"METERWATCH_INSTANCE": "one"}, tmp_path / "one"
        ) as one:
            publish(settings, town, history[:third])
            wait(
                lambda: (
                    all_checkpointed(settings)
                    and logged_partitions(one)
                    and logged_partitions(two)
                )
            )
            before = logged_partitions(one)
            one.kill()

        publish(settings, town, history[third : 2 * third])
        with WorkerProcess(
            lasting | {"METERWATCH_INSTANCE": "one"}, tmp_path / "again"
        ) as successor:
            wait(lambda: logged_partitions(successor))
            assert logged_partitions(successor) == before

            wait(lambda: all_checkpointed(settings))
            successor.process.send_signal(signal.SIGSTOP)
            with WorkerProcess(
                lasting | {"METERWATCH_INSTANCE": "one"}, tmp_path / "other"
            ) as other:
                wait(lambda: logged_partitions(other))
                successor.process.send_signal(signal.SIGCONT)
                # another worker has its name
                assert successor.process.wait(WAIT_SECONDS) in (
                    ExitCode.GROUP,
                    ExitCode.STARVED,
                )

            with WorkerProcess(
                lasting | {"METERWATCH_INSTANCE": "one"}, tmp_path / "last"
            ):
                publish(settings, town, history[2 * third :])
                wait(lambda: all_checkpointed(settings))
                assert published_states(settings) == expected


def logged_partitions(worker: WorkerProcess) -> str:
    """The partitions that a worker logged last, or "" if it logged none."""
    holdings = re.findall(r"holds partitions (\[.*?\])", worker.log.read_text())
    return holdings[-1] if holdings else ""

"""A worker on a real broker: transactions, unreadable records, and records that are not its own."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import ConsumerRecord
from kafka import KafkaProducer

from detectors.rulebook import EMPTY_RULEBOOK
from replay.sources import open_sources
from schemas.topics import (
    ALERTS_TOPIC,
    CHECKPOINTS_TOPIC,
    EVENTS_TOPIC,
    PAYMENTS_TOPIC,
    READS_TOPIC,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
    RULES_TOPIC,
    WORKFLOW_TOPIC,
)
from streams.kafka.alerts import alert_of
from streams.kafka.broker import Broker
from streams.kafka.compression import LZ4_CODEC
from streams.kafka.exits import ExitCode
from streams.kafka.intake import partition_of
from streams.kafka.readers import reader
from streams.kafka.rulebooks import newest
from streams.kafka.topics import ensure
from streams.sending import send_source
from streams.settings import Settings, load
from tests.test_fetched import rebased
from tests.workers import (
    WAIT_SECONDS,
    Samples,
    WorkerProcess,
    all_checkpointed,
    published_states,
    records,
    wait,
)

START_TIME = 1_709_251_200  # 2024-03-01T00:00:00Z
STALL_SECONDS = "3"  # seconds
DATA_FOLDER = Path(__file__).parent / "data"
JSON_HEADERS = (("content-type", b"application/json"),)
Rows = Sequence[dict[str, Any]]


def registers(area: str, first: int = 1, steps: int = 4) -> list[dict[str, Any]]:
    """Registers of three meters of an area, a quarter of an hour apart."""
    return [
        {
            "meter": meter,
            "area": area,
            "at": START_TIME + 900 * k,
            "register": 1000 + 0.1 * k,
        }
        for k in range(first, first + steps)
        for meter in ("M1", "M2", "M3")
    ]


def area_of(name: str) -> dict[str, Any]:
    return {
        "area": name,
        "meters": [
            {"meter": meter, "customer": f"C{meter}", "effective": 1}
            for meter in ("M1", "M2", "M3")
        ],
    }


class JsonProducer:
    """A producer of JSON_HEADERS, if asked in transactions that stay open until they are ended."""

    def __init__(self, settings: Settings, transaction: str | None = None) -> None:
        self._settings, self._transaction = settings, transaction

    async def __aenter__(self) -> Self:
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.servers, transactional_id=self._transaction
        )
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    async def send(
        self,
        topic: str,
        rows: Rows,
        partition: int | None = None,
        *,
        keyed: bool = True,
    ) -> None:
        for row in rows:
            key = str(row.get("area", row.get("section"))).encode()
            await self.put(
                topic, json.dumps(row).encode(), key if keyed else None, partition
            )

    async def put(
        self, topic: str, value: bytes, key: bytes | None, partition: int | None
    ) -> None:
        await self.producer.send_and_wait(
            self._settings.topic(topic),
            value,
            key,
            partition,
            headers=list(JSON_HEADERS),
        )


class Name(str):
    """The name of a header that is not UTF-8, as clients write it that treat names as bytes."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"trace-\xe4"


async def send(
    settings: Settings,
    topic: str,
    rows: Rows,
    *,
    transaction: str | None = None,
    abort: bool = False,
) -> None:
    async with JsonProducer(settings, transaction) as sender:
        if transaction:
            await sender.producer.begin_transaction()
        await sender.send(topic, rows)
        if transaction:
            await (
                sender.producer.abort_transaction()
                if abort
                else sender.producer.commit_transaction()
            )


def lag(worker: WorkerProcess) -> float:
    return worker.scrape("meterwatch_lag_records").total()


def judged(worker: WorkerProcess) -> float:
    return worker.sample("meterwatch_judged_total", "readings")


def await_judged(worker: WorkerProcess, count: int) -> None:
    wait(lambda: judged(worker) == count)


def balanced(counted: Samples, kind: str) -> Counter[str]:
    """The outcomes of the rows of a kind; they add up to the rows in."""
    outcomes = Counter[str]()
    for (name, labels), value in counted.items():
        if labels[:1] == (kind,):
            outcomes[name.removeprefix("meterwatch_").removesuffix("_total")] += int(
                value
            )
    assert outcomes["rows"] == sum(
        outcomes[name] for name in ("judged", "rejected", "duplicate", "late")
    )
    return outcomes


def stays_alive(worker: WorkerProcess, seconds: float) -> None:
    """Fails unless a worker lives on for longer than it may stand still."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert worker.process.poll() is None
        time.sleep(0.2)


@pytest.fixture
def brief(environment):
    return environment | {"METERWATCH_STALL_SECONDS": STALL_SECONDS}


def test_transaction_marker_at_the_end_is_no_lag(settings, brief, tmp_path):
    asyncio.run(
        send(
            settings,
            REGISTRY_TOPIC,
            [area_of("A1"), area_of("A2")],
            transaction="files",
        )
    )
    asyncio.run(
        send(
            settings,
            READS_TOPIC,
            registers("A1") + registers("A2"),
            transaction="head-end",
        )
    )

    asyncio.run(
        send(
            settings,
            READS_TOPIC,
            registers("A1", 9),
            transaction="head-end",
            abort=True,
        )
    )

    for turn in ("first", "again"):
        with WorkerProcess(brief, tmp_path / turn) as worker:
            wait(
                lambda: (
                    "holds partitions" in worker.log.read_text()
                    and all_checkpointed(settings)
                )
            )
            stays_alive(worker, 2 * float(STALL_SECONDS))
            assert lag(worker) == 0
            if turn == "first":
                assert judged(worker) == 24
                asyncio.run(
                    send(settings, REGISTRY_TOPIC, [area_of("A3")], transaction="files")
                )
                stays_alive(worker, 2 * float(STALL_SECONDS))
                assert lag(worker) == 0
            assert worker.end() == 0


def test_aborted_records_are_not_judged_and_open_ones_wait(settings, brief, tmp_path):
    async def interleave() -> None:
        async with (
            JsonProducer(settings, "one") as one,
            JsonProducer(settings, "two") as two,
            JsonProducer(settings) as plain,
        ):
            await one.producer.begin_transaction()
            await two.producer.begin_transaction()
            for k in range(4):
                await one.send(READS_TOPIC, registers("A1", 1 + k, 1))
                await two.send(READS_TOPIC, registers("A1", 11 + k, 1))
                await plain.send(READS_TOPIC, registers("A1", 21 + k, 1))

            await one.producer.abort_transaction()
            await plain.send(READS_TOPIC, registers("A1", 31, 1))
            await two.producer.commit_transaction()
            await one.producer.begin_transaction()
            await one.send(READS_TOPIC, registers("A1", 41, 2))
            await one.producer.commit_transaction()
            await one.producer.begin_transaction()
            await one.send(READS_TOPIC, registers("A1", 51, 2))
            await plain.send(READS_TOPIC, registers("A1", 61, 2))
            await one.producer.abort_transaction()

    async def leave_open(worker: WorkerProcess) -> None:
        async with (
            JsonProducer(settings, "three") as three,
            JsonProducer(settings) as plain,
        ):
            await three.producer.begin_transaction()
            await three.send(READS_TOPIC, registers("A1", 71, 2))
            await plain.send(READS_TOPIC, registers("A1", 81, 2))
            await asyncio.to_thread(wait, lambda: lag(worker) == 12)
            await asyncio.to_thread(stays_alive, worker, 2 * float(STALL_SECONDS))
            assert judged(worker) == done
            await three.producer.commit_transaction()

    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    asyncio.run(interleave())
    done = 3 * (4 + 4 + 1 + 2 + 2)
    with WorkerProcess(brief, tmp_path / "log") as worker:
        wait(lambda: judged(worker) == done)
        wait(lambda: all_checkpointed(settings))
        stays_alive(worker, 2 * float(STALL_SECONDS))
        asyncio.run(leave_open(worker))
        wait(lambda: judged(worker) == done + 12)
        wait(lambda: lag(worker) == 0)
        assert worker.end() == 0

    assert published_states(settings) == {}


def test_header_name_that_is_not_utf8_does_no_harm(settings, environment, tmp_path):
    producer = KafkaProducer(bootstrap_servers=settings.servers)
    for n, row in enumerate(registers("A1")):
        headers = [(Name("trace"), b"1")] if n == 4 else list(JSON_HEADERS)
        producer.send(
            settings.topic(READS_TOPIC),
            json.dumps(row).encode(),
            b"A1",
            headers=headers,
        )

    for topic in (REGISTRY_TOPIC, RULES_TOPIC, ALERTS_TOPIC):
        producer.send(
            settings.topic(topic),
            b"?",
            b"A1",
            headers=[(Name("trace"), b"1")],
            partition=0,
        )

    producer.close()
    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: judged(worker) == 12)
        assert worker.end() == 0

    rejected = asyncio.run(records(settings, REJECTS_TOPIC))
    assert [(record.value, dict(record.headers)["reason"]) for record in rejected] == [
        (b"?", b"not_json")
    ]


def batches_of(segment: Path) -> list[tuple[int, bytearray]]:
    """The batches of a segment with their positions."""
    content = segment.read_bytes()
    at = 0
    batches = []
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at + 8 : at + 12], "big")
        batches.append((at, bytearray(content[at:end])))
        at = end
    return batches


def spoil(
    broker: Broker,
    topic: str,
    partition: int,
    how: Callable[[bytes], bytes],
    which: int,
) -> bytes:
    """Replaces a batch on the disk of a broker that is down."""
    segment = broker.folder / "data" / f"{topic}-{partition}" / f"{0:020}.log"
    at, content = batches_of(segment)[which]
    broken = how(bytes(content))
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(broken)
    return broken


def flipped(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 0x10]) + content[-2:]


def test_batches_damaged_on_disk_are_rejected_and_reading_continues(
    tmp_path, environment
):
    damages: list[tuple[Callable[[bytes], bytes], str]] = [
        (flipped, "corrupt"),
        (
            lambda content: rebased(content, int.from_bytes(content[:8], "big"), 7),
            "unknown_codec",
        ),
        (
            lambda content: rebased(
                content, int.from_bytes(content[:8], "big"), LZ4_CODEC
            ),
            "corrupt",
        ),
        (lambda content: content[:16] + b"\x09" + content[17:], "unknown_magic"),
    ]

    with Broker(tmp_path / "kafka") as broker:
        environment = environment | {
            "METERWATCH_BROKERS": broker.address,
            "METERWATCH_PARTITIONS": "1",
        }
        settings = load(environment)
        asyncio.run(ensure(settings))
        asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A0"), area_of("A1")]))
        asyncio.run(send(settings, READS_TOPIC, registers("A1")))

        with WorkerProcess(environment, tmp_path / "first") as worker:
            wait(lambda: all_checkpointed(settings))
            wait(lambda: judged(worker) == 12)
            assert worker.end() == 0

        asyncio.run(send(settings, READS_TOPIC, registers("A1", 11)))
        asyncio.run(send(settings, ALERTS_TOPIC, [{"area": "A1"}, {"area": "A1"}]))
        asyncio.run(send(settings, RULES_TOPIC, [{"area": "A1"}, {"area": "A1"}]))
        broker.stop()
        broken = [
            spoil(broker, settings.topic(READS_TOPIC), 0, how, 12 + 3 * k)
            for k, (how, _) in enumerate(damages)
        ]
        for topic in (REGISTRY_TOPIC, ALERTS_TOPIC, RULES_TOPIC):
            spoil(broker, settings.topic(topic), 0, flipped, 0)
        # the worker continues from its older slot
        spoil(broker, settings.topic(CHECKPOINTS_TOPIC), 0, flipped, -1)
        broker.start()

        with WorkerProcess(environment, tmp_path / "second") as worker:
            wait(lambda: all_checkpointed(settings))
            wait(
                lambda: (
                    worker.sample("meterwatch_rejected_total", "readings", "corrupt")
                    == 2
                )
            )
            counted = worker.scrape()
            assert worker.end() == 0

        rejects = asyncio.run(records(settings, REJECTS_TOPIC))
        listed = [
            alert_of(record) for record in asyncio.run(records(settings, ALERTS_TOPIC))
        ]
        rulebook = asyncio.run(newest(settings))

    assert (listed, rulebook) == ([None], EMPTY_RULEBOOK)
    assert [
        (
            reject.value,
            dict(reject.headers)["reason"].decode(),
            int(dict(reject.headers)["offset"]),
        )
        for reject in rejects
    ] == [
        (content, reason, 12 + 3 * k)
        for k, (content, (_, reason)) in enumerate(zip(broken, damages, strict=True))
    ]
    assert balanced(counted, "readings")["rejected"] == 4


def areas_in_partition(settings: Settings, partition: int, count: int = 2) -> list[str]:
    """Areas of a partition."""
    names = (f"A{k}" for k in range(10_000))
    return list(
        islice(
            (
                name
                for name in names
                if partition_of(name, settings.partitions) == partition
            ),
            count,
        )
    )


def reasons(rejected: Sequence[ConsumerRecord]) -> Counter[tuple[str, str]]:
    """The number of rejected records by topic and reason."""
    return Counter(
        (
            dict(record.headers)["topic"].decode(),
            dict(record.headers)["reason"].decode(),
        )
        for record in rejected
    )


@pytest.mark.parametrize("misplaced", ["reject", "judge"])
def test_area_in_the_wrong_partition_is_rejected_and_named(
    settings, environment, tmp_path, misplaced
):
    """As by librdkafka's default partitioner, and by a client that sends no key."""
    (here, there, keyless) = areas_in_partition(settings, 1, 3)
    (other,) = areas_in_partition(settings, 2, 1)
    now = time.time()
    rows: dict[str, dict[str, Any]] = {
        READS_TOPIC: {"meter": "M1", "at": START_TIME, "kwh": 1},
        EVENTS_TOPIC: {"meter": "M1", "at": START_TIME, "event": "cover_open"},
        PAYMENTS_TOPIC: {
            "customer": "CM1",
            "at": int(now),
            "payment": "topup",
            "amount": 1,
        },
    }

    async def scatter() -> None:
        async with JsonProducer(settings) as sender:
            for area in (here, there, keyless):
                await sender.send(REGISTRY_TOPIC, [area_of(area)], 1)
            await sender.send(REGISTRY_TOPIC, [area_of(other)], 1)
            for topic, row in rows.items():
                await sender.send(
                    topic, [row | {"area": here}, row | {"area": there}], 1
                )
                await sender.send(
                    topic, [row | {"area": there}, row | {"area": other}], 0
                )
                await sender.send(
                    topic, [row | {"area": here}, row | {"area": other}], 1, keyed=False
                )

            stage = {
                "item": "W1",
                "at": int(now),
                "stage": "review",
                "progress": "started",
            }
            await sender.send(WORKFLOW_TOPIC, [stage | {"section": here}], 1)
            await sender.send(WORKFLOW_TOPIC, [stage | {"section": here}], 3)
            both = [
                rows[READS_TOPIC] | {"area": area, "at": START_TIME + 900}
                for area in (here, other)
            ]
            await sender.put(READS_TOPIC, json.dumps(both).encode(), None, 1)

    asyncio.run(scatter())
    with WorkerProcess(
        environment | {"METERWATCH_MISPLACED": misplaced}, tmp_path / "log"
    ) as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.sample("meterwatch_rows_total", "readings") == 8)
        time.sleep(2)
        counted, log = worker.scrape(), worker.log.read_text()
        assert worker.end() == 0

    reject_counts = reasons(asyncio.run(records(settings, REJECTS_TOPIC)))
    for kind, count in (("readings", 4), ("events", 3), ("payments", 3), ("stages", 1)):
        assert counted["meterwatch_misplaced_total", (kind,)] == count
        balanced(counted, kind)

    assert log.count("wrong_partition: ") == 3  # once for each partition that has one
    assert f"{there} belongs to partition 1 by Kafka's murmur2, not to 0" in log

    if misplaced == "judge":
        assert not reject_counts
        return
    assert reject_counts == {
        (settings.topic(REGISTRY_TOPIC), "wrong_partition"): 1,
        (settings.topic(WORKFLOW_TOPIC), "wrong_partition"): 1,
        **{(settings.topic(topic), "wrong_partition"): 2 for topic in rows},
        **{
            (settings.topic(topic), "no_key"): 1
            for topic in (EVENTS_TOPIC, PAYMENTS_TOPIC)
        },
        (settings.topic(READS_TOPIC), "no_key"): 2,
    }


def test_unknown_area_is_rejected_and_unknown_meters_are_counted(
    settings, environment, tmp_path
):
    known, unknown = areas_in_partition(settings, 1)
    environment = {
        name: value
        for name, value in environment.items()
        if name != "METERWATCH_UNKNOWN_AREA"
    }
    strangers = [row | {"meter": "M9"} for row in registers(known)]
    later = [row | {"area": unknown} for row in registers(known, 21)]
    payment = {"at": int(time.time()), "payment": "topup", "amount": 1, "area": known}

    async def fill() -> None:
        await send(settings, REGISTRY_TOPIC, [area_of(known)])
        await send(settings, READS_TOPIC, registers(known) + strangers)
        await send(
            settings, READS_TOPIC, [row | {"area": unknown} for row in registers(known)]
        )
        opened = {"area": known, "at": START_TIME, "event": "cover_open"}
        await send(
            settings,
            EVENTS_TOPIC,
            [opened | {"meter": meter} for meter in ("M1", "M8")],
        )
        await send(
            settings,
            EVENTS_TOPIC,
            [{"area": unknown, "at": START_TIME, "event": "planned_outage"}],
        )

        await send(
            settings,
            PAYMENTS_TOPIC,
            [payment | {"customer": name} for name in ("CM1", "C8", "C9")],
        )

    asyncio.run(fill())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.sample("meterwatch_unknown_meters", "1") == 1)
        counted = worker.scrape()
        assert balanced(counted, "readings")["rejected"] == 12

        asyncio.run(send(settings, REGISTRY_TOPIC, [area_of(unknown)]))
        wait(lambda: worker.sample("meterwatch_meters", "1") == 7)
        asyncio.run(send(settings, READS_TOPIC, later))
        wait(lambda: worker.sample("meterwatch_rows_total", "readings") == 48)

        assert worker.sample("meterwatch_rejected_total", "readings", "no_area") == 12

        log = worker.log.read_text()
        assert worker.end() == 0

    assert counted["meterwatch_unknown_rows_total", ("events",)] == 1
    assert counted["meterwatch_unknown_rows_total", ("payments",)] == 2
    assert counted["meterwatch_rejected_total", ("events", "no_area")] == 1
    assert (
        log.count("1 meters are in no record of the registry, such as M9 of " + known)
        == 1
    )
    assert f"the registry has no record of 1 areas, such as {unknown}" in log

    reject_counts = reasons(asyncio.run(records(settings, REJECTS_TOPIC)))
    assert reject_counts == {
        (settings.topic(READS_TOPIC), "no_area"): 12,
        (settings.topic(EVENTS_TOPIC), "no_area"): 1,
    }


def test_sent_files_bring_the_areas_inferred_from_their_layout(
    settings, environment, tmp_path, capsys
):
    environment = {
        name: value
        for name, value in environment.items()
        if name != "METERWATCH_UNKNOWN_AREA"
    }
    source = open_sources(
        [DATA_FOLDER / "garden4_current.csv.gz", DATA_FOLDER / "garden4_voltage.csv.gz"]
    )
    send_source(settings, source, "packed", None, json=False)

    assert "without a record" not in capsys.readouterr().out

    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.sample("meterwatch_rows_total", "readings") == source.rows)
        assert balanced(worker.scrape(), "readings")["rejected"] == 0
        assert worker.end() == 0


def test_send_names_files_with_unknown_areas(settings, tmp_path, capsys):
    (tmp_path / "own.csv").write_text(
        "meter,area,at,kwh\nM1,A7,2026-03-01T00:00:00Z,1\n"
    )
    send_source(
        settings, open_sources([tmp_path / "own.csv"]), "packed", None, json=False
    )
    assert "1 areas came without a record, such as A7" in capsys.readouterr().out


async def renewed(settings: Settings, *topics: str) -> None:
    """Deletes topics and creates them again, empty."""
    names = [settings.topic(topic) for topic in topics]
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.delete_topics(names)
        while any(  # noqa: ASYNC110
            not topic["error_code"] for topic in await admin.describe_topics(names)
        ):
            await asyncio.sleep(0.2)
    finally:
        await admin.close()
    await ensure(settings)


@pytest.mark.parametrize("more", [-3, 0, 6])
def test_recreated_topic_stops_the_worker_or_is_judged_from_its_beginning(
    settings, environment, tmp_path, more
):
    """The topic has fewer records than were judged, as many, or more."""
    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    asyncio.run(send(settings, READS_TOPIC, registers("A1")))
    with WorkerProcess(environment, tmp_path / "first") as worker:
        wait(lambda: all_checkpointed(settings))
        assert worker.end() == 0

    asyncio.run(renewed(settings, READS_TOPIC))
    asyncio.run(send(settings, READS_TOPIC, registers("A1", 11, 4 + more // 3)))
    with WorkerProcess(environment, tmp_path / "second") as worker:
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.TOPIC
        log = worker.log.read_text()

    change = "it ends at 9" if more < 0 else "record 11 is not the one that was judged"
    assert (
        f"the checkpoint contains `{settings.topic(READS_TOPIC)}`, partition 3 up to 12, and {change}"
        in log
    )
    assert 'With `topic_changed = "judge"`' in log

    for count in (12 + more, 0):
        with WorkerProcess(
            environment | {"METERWATCH_TOPIC_CHANGED": "judge"}, tmp_path / f"{count}"
        ) as worker:
            wait(
                lambda: (
                    "holds partitions" in worker.log.read_text()
                    and all_checkpointed(settings)
                )
            )
            await_judged(worker, count)
            assert worker.end() == 0

        assert ("it is judged from its beginning" in worker.log.read_text()) == (
            count > 0
        )


def test_worker_ends_if_a_topic_is_recreated(settings, environment, tmp_path):
    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    asyncio.run(send(settings, READS_TOPIC, registers("A1")))
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        asyncio.run(renewed(settings, READS_TOPIC))
        asyncio.run(send(settings, READS_TOPIC, registers("A1", 11, 2)))
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.TOPIC
    with WorkerProcess(
        environment | {"METERWATCH_TOPIC_CHANGED": "judge"}, tmp_path / "again"
    ) as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: judged(worker) == 6)


async def deleted(settings: Settings, topic: str) -> None:
    """Deletes all records of a topic."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        async with reader(settings) as consumer:
            tps = [
                TopicPartition(settings.topic(topic), number)
                for number in range(settings.partitions)
            ]
            ends = await consumer.end_offsets(tps)
        await admin.delete_records(
            {tp: RecordsToDelete(end) for tp, end in ends.items()}
        )
    finally:
        await admin.close()


def records_lost(worker: WorkerProcess) -> dict[str, float]:
    samples = worker.scrape("meterwatch_deleted_offsets_total").items()
    return {
        labels[1]: value
        for (name, labels), value in samples
        if name == "meterwatch_deleted_offsets_total" and value
    }


def test_records_deleted_before_they_are_judged_are_counted(settings, brief, tmp_path):
    reads = settings.topic(READS_TOPIC)
    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    asyncio.run(send(settings, READS_TOPIC, registers("A1")))
    with WorkerProcess(brief, tmp_path / "first") as worker:
        wait(lambda: all_checkpointed(settings))
        assert worker.end() == 0

    asyncio.run(send(settings, READS_TOPIC, registers("A1", 11)))
    asyncio.run(deleted(settings, READS_TOPIC))
    with WorkerProcess(brief, tmp_path / "second") as worker:
        wait(
            lambda: (
                all_checkpointed(settings)
                and "holds partitions" in worker.log.read_text()
            )
        )
        wait(lambda: records_lost(worker) == {reads: 12})

        assert (
            "records 12 to 23 were deleted before they were judged"
            in worker.log.read_text()
        )

        asyncio.run(send(settings, READS_TOPIC, registers("A1", 21)))
        wait(lambda: judged(worker) == 12)
        assert worker.end() == 0


def test_records_deleted_ahead_of_a_held_worker_do_not_stop_it(
    settings, brief, tmp_path
):
    """The worker is stopped while records come and are deleted."""
    asyncio.run(send(settings, REGISTRY_TOPIC, [area_of("A1")]))
    asyncio.run(send(settings, READS_TOPIC, registers("A1")))
    patient = brief | {
        "METERWATCH_SESSION_SECONDS": "30",
        "METERWATCH_STALL_SECONDS": "30",
    }

    with WorkerProcess(patient, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        worker.process.send_signal(signal.SIGSTOP)
        asyncio.run(send(settings, READS_TOPIC, registers("A1", 11)))
        asyncio.run(deleted(settings, READS_TOPIC))
        worker.process.send_signal(signal.SIGCONT)
        wait(
            lambda: (
                records_lost(worker).get(settings.topic(READS_TOPIC), 0)
                + judged(worker)
                == 24
            )
        )
        asyncio.run(send(settings, READS_TOPIC, registers("A1", 21)))
        wait(lambda: all_checkpointed(settings))

        assert worker.end() == 0

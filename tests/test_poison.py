"""Poison on a real broker: among whatever is sent, the worker lives, gives the reason, and judges good rows."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord

from detectors.engine import Engine
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from schemas.topics import (
    CHECKPOINTS_TOPIC,
    EVENTS_TOPIC,
    LARGEST_RECORD,
    LARGEST_REJECT,
    PAYMENTS_TOPIC,
    READS_TOPIC,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
    WORKFLOW_TOPIC,
)
from schemas.wire import FRAME_CONTENT_TYPE, Encoded, Reason, encode, encode_area
from schemas.wire.shapes import LARGEST_VALUE_BYTES
from streams.kafka import checkpoints
from streams.kafka.broker import Broker
from streams.kafka.checkpoints import CheckpointContents, WrittenCheckpoint
from streams.kafka.exits import ExitCode
from streams.kafka.topics import ensure
from streams.settings import Settings, load
from tests.adversarial import Stream, town
from tests.test_wire import BAD_READINGS, GOOD_READING, READING_TIME, packed
from tests.workers import (
    WAIT_SECONDS,
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    wait,
)

TOPIC_KINDS: dict[str, type[Batch]] = {
    READS_TOPIC: Readings,
    EVENTS_TOPIC: DeviceEvents,
    PAYMENTS_TOPIC: Payments,
    WORKFLOW_TOPIC: Stages,
}


class Poison(NamedTuple):
    """A message, and the reasons for which it or its bad rows are rejected."""

    value: bytes | None
    reasons: tuple[str, ...]
    key: bytes | None = b"A1"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    rows: int = 1  # rows for each reason


Sent = tuple[str, bytes | None, bytes | None, str]  # topic, key, value, content type


def record(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def common_poison(good: bytes) -> list[Poison]:
    """Messages that every topic rejects."""
    return [
        # no record
        Poison(b"", (Reason.EMPTY,)),
        Poison(b"hello", (Reason.NOT_JSON,)),
        Poison(b"null", (Reason.NOT_JSON,)),
        Poison(good[:-1], (Reason.TRUNCATED,)),
        Poison(good + good, (Reason.NOT_JSON,)),
        Poison(b"\xff\xfe", (Reason.NOT_JSON,)),
        # bad bytes and bad keys
        Poison(good.replace(b'1"', b'1\xff"', 1), (Reason.NOT_UTF8,)),
        Poison(good, (Reason.NOT_UTF8,), b"\xc3\x28"),
        Poison(good, (Reason.BAD_ID,), b"A" * 129),
        Poison(good, (Reason.BAD_ID,), b"A\0"),
        # too deep, too large, of another format
        Poison(b'{"a":' * 100_000, (Reason.UNKNOWN_FIELD,)),
        Poison(b"{" + b" " * (10 << 20) + good[1:], (Reason.TOO_LARGE,)),
        Poison(
            good[:-1] + b" " * (LARGEST_VALUE_BYTES - len(good)) + b"}}",
            (Reason.TOO_LARGE,),
        ),
        Poison(
            good,
            (Reason.NOT_FRAME,),
            headers=(("content-type", FRAME_CONTENT_TYPE.encode()),),
        ),
        Poison(b"{}", (Reason.MISSING_FIELD,)),
        Poison(
            good[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            (Reason.UNKNOWN_FIELD,),
        ),
    ]


def rejected(**fields: Any) -> Poison:
    reason = fields.pop("reason")
    return Poison(record(**fields), (reason,))


GOOD_EVENT = record(meter="M1", at=READING_TIME, event="cover_open")
GOOD_PAYMENT = record(customer="C1", at=READING_TIME, payment="payment", amount=5)
GOOD_STAGE = record(item="W1", at=READING_TIME, stage="review", progress="started")
GOOD_AREA = record(area="A1", meters=[{"meter": "M1"}])
TOPIC_POISON = {
    READS_TOPIC: [
        *common_poison(GOOD_READING),
        *(
            Poison(value, (reason,))
            for value, reason in BAD_READINGS
            if value and len(value) < 1 << 20
        ),
        Poison(None, (Reason.EMPTY,)),
        Poison(GOOD_READING, (Reason.NO_AREA,), None),
        Poison(
            b"[7, " + GOOD_READING.replace(b"1700000000", b"0") + b"]",
            (Reason.BAD_TIME, Reason.WRONG_TYPE),
        ),
        Poison(
            packed(kwh=np.array([np.inf, -np.inf], "<f4").tobytes()),
            (Reason.NOT_FINITE,),
            rows=2,
        ),
        Poison(
            packed(meter=np.array([0, 9], "<u2").tobytes()), (Reason.UNKNOWN_VALUE,)
        ),
    ],
    EVENTS_TOPIC: [
        *common_poison(GOOD_EVENT),
        Poison(None, (Reason.EMPTY,)),
        Poison(GOOD_EVENT, (Reason.NO_AREA,), None),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(
            meter="M1", at=READING_TIME, event="explosion", reason=Reason.UNKNOWN_VALUE
        ),
        rejected(meter="M1", at=READING_TIME, event=2, reason=Reason.WRONG_TYPE),
        rejected(
            meter=["M1"], at=READING_TIME, event="cover_open", reason=Reason.WRONG_TYPE
        ),
        rejected(
            meter="M1", at=-READING_TIME, event="cover_open", reason=Reason.BAD_TIME
        ),
        rejected(
            meter="M1",
            at=READING_TIME,
            event="cover_open",
            until=5,
            reason=Reason.BAD_TIME,
        ),
        rejected(
            meter="M1",
            at="9999-12-31T23:59:59-23:59",
            event="cover_open",
            reason=Reason.BAD_TIME,
        ),
        Poison(b"[[], 1e400]", (Reason.OUT_OF_RANGE, Reason.WRONG_TYPE)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
    ],
    PAYMENTS_TOPIC: [
        *common_poison(GOOD_PAYMENT),
        Poison(None, (Reason.EMPTY,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="payment",
            amount="5",
            reason=Reason.WRONG_TYPE,
        ),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="payment",
            amount=1e300,
            reason=Reason.OUT_OF_RANGE,
        ),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="payment",
            amount=-1e13,
            reason=Reason.OUT_OF_RANGE,
        ),
        rejected(
            customer="C1", at=READING_TIME, payment="theft", reason=Reason.UNKNOWN_VALUE
        ),
        rejected(customer="", at=READING_TIME, payment="bill", reason=Reason.BAD_ID),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="payment",
            succeeded=1,
            reason=Reason.WRONG_TYPE,
        ),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="payment",
            area="A2",
            reason=Reason.AREA_MISMATCH,
        ),
        rejected(
            customer="C1",
            at=READING_TIME,
            payment="bill",
            due=2**70,
            reason=Reason.BAD_TIME,
        ),
        Poison(GOOD_PAYMENT.replace(b"5", b"Infinity"), (Reason.NOT_JSON,)),
        Poison(GOOD_PAYMENT.replace(b"5", b"1e999"), (Reason.OUT_OF_RANGE,)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
    ],
    WORKFLOW_TOPIC: [
        *common_poison(GOOD_STAGE),
        Poison(None, (Reason.EMPTY,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(
            item="W1",
            at=READING_TIME,
            stage="review",
            progress="stalled",
            reason=Reason.UNKNOWN_VALUE,
        ),
        rejected(
            item="W1",
            at=READING_TIME,
            stage=[],
            progress="started",
            reason=Reason.WRONG_TYPE,
        ),
        rejected(
            item="W1",
            at=READING_TIME,
            stage="review",
            progress="started",
            limit=True,
            reason=Reason.WRONG_TYPE,
        ),
        rejected(
            item="W1",
            at=READING_TIME,
            stage="review",
            progress="started",
            limit=1e30,
            reason=Reason.OUT_OF_RANGE,
        ),
        Poison(GOOD_STAGE[:-1] + b',"limit":NaN}', (Reason.NOT_JSON,)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
        rejected(
            item="W\n1",
            at=READING_TIME,
            stage="review",
            progress="started",
            reason=Reason.BAD_ID,
        ),
        rejected(
            item="W1",
            at=READING_TIME / 3,
            stage="review",
            progress="started",
            reason=Reason.WRONG_TYPE,
        ),
    ],
    REGISTRY_TOPIC: [
        *common_poison(GOOD_AREA),
        Poison(b"[" * 100_000, (Reason.WRONG_TYPE,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        Poison(b"[" + GOOD_AREA + b"]", (Reason.WRONG_TYPE,)),
        rejected(
            area="A1", meters=[{"meter": "M1", "ct": 0}], reason=Reason.OUT_OF_RANGE
        ),
        rejected(
            area="A1", meters=[{"meter": "M1", "ct": -1e9}], reason=Reason.OUT_OF_RANGE
        ),
        rejected(
            area="A1", meters=[{"meter": "M1", "wiring": 3}], reason=Reason.WRONG_TYPE
        ),
        rejected(
            area="A1",
            meters=[{"meter": "M1", "interval_s": 10**9}],
            reason=Reason.OUT_OF_RANGE,
        ),
        rejected(
            area="A1", transformers=[{"rating_kva": 1e300}], reason=Reason.OUT_OF_RANGE
        ),
        rejected(
            area="A1", transformers=[{"rating_kva": None}], reason=Reason.WRONG_TYPE
        ),
        rejected(area="A2", reason=Reason.AREA_MISMATCH),
    ],
}
KIND_ENCODERS: dict[type[Batch], Callable[[Any], Iterable[Encoded]]] = {
    Readings: lambda batch: encode(batch, "packed", 3),
    DeviceEvents: lambda batch: encode(batch, "single"),
    Payments: lambda batch: encode(batch, "array", 5),
    Stages: lambda batch: encode(batch, "single"),
}


@dataclass
class Aftermath:
    """The messages sent, and their outcomes."""

    stream: Stream
    engine: Engine  # of the good rows only
    expected: dict[str, dict[str, Any]]
    prefix: str = ""  # of the topics
    # by topic, partition and offset
    sent: dict[tuple[str, int, int], Poison] = field(default_factory=dict)
    rejects: list[ConsumerRecord] = field(default_factory=list)
    counted: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)


def unharmed() -> Aftermath:
    """Several days of a town with an area without master data, and an engine's alerts of them."""
    living = town(7, interval=3600)
    finite = [
        row
        for row in living.rows
        if not any(
            np.isinf(value).any()
            for value in row.columns.values()
            if not isinstance(value, str)
        )
    ]
    living = living.with_rows(finite)
    engine = Engine(zone=living.zone, interval=living.interval)
    engine.enroll(living.areas)

    return Aftermath(
        living,
        engine,
        last_states(
            alert for batch in living.batches() for alert in engine.step(batch)
        ),
    )


@pytest.fixture(scope="module")
def aftermath(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """The outcomes of a worker with poison from before its start and poison while it runs."""
    after = unharmed()
    folder = tmp_path_factory.mktemp("poison")
    environment = {
        "METERWATCH_BROKERS": broker.address,
        "METERWATCH_PREFIX": f"{folder.name}.",  # another one each time
        "METERWATCH_GROUP": folder.name,
        "METERWATCH_PARTITIONS": "2",
        "METERWATCH_CLOCK": "stream",
        "METERWATCH_METRICS_PORT": "0",
        "METERWATCH_CHECKPOINT_SECONDS": "0.5",
        "METERWATCH_ZONE": after.stream.zone,
        "METERWATCH_INTERVAL": str(after.stream.interval),
        "METERWATCH_UNKNOWN_AREA": "judge",
        "METERWATCH_MISPLACED": "judge",  # poison lies among good messages
    }

    settings = load(environment)
    after.prefix = settings.prefix
    asyncio.run(ensure(settings))
    good = [
        (topic, *message)
        for batch in after.stream.batches()
        for topic, kind in TOPIC_KINDS.items()
        if type(batch) is kind
        for message in KIND_ENCODERS[kind](batch)
    ]
    areas = [(REGISTRY_TOPIC, *encode_area(area)) for area in after.stream.areas]
    asyncio.run(send(settings, after, [*areas, *good[: len(good) // 2]], "lz4"))

    with WorkerProcess(environment, folder / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        asyncio.run(send(settings, after, good[len(good) // 2 :], "zstd"))
        asyncio.run(send(settings, after, areas, "snappy"))
        refused = sum(
            len(poison.reasons) * poison.rows for poison in after.sent.values()
        )
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.rows() >= sum(map(len, after.stream.batches())) + refused)
        after.counted = worker.scrape()

        after.rejects = asyncio.run(records(settings, REJECTS_TOPIC))
        after.alerts = published_states(settings)
        assert worker.end() == 0

    # its checkpoints can be restored
    with WorkerProcess(environment, folder / "successor") as successor:
        wait(lambda: "holds partitions [0, 1]" in successor.log.read_text())
        assert successor.end() == 0
    return after


async def send(
    settings: Settings, after: Aftermath, good: Sequence[Sent], compression: str
) -> None:
    """Good messages in order, compressed; after each, its share of its topic's poison in the same partition."""
    left = {topic: list(poison) for topic, poison in TOPIC_POISON.items()}
    share = {
        topic: -(-len(left[topic]) // count)
        for topic, count in Counter(topic for topic, *_ in good).items()
    }
    async with (
        AIOKafkaProducer(
            bootstrap_servers=settings.brokers, compression_type=compression
        ) as producer,
        AIOKafkaProducer(
            bootstrap_servers=settings.brokers, max_request_size=15 << 20
        ) as poisoner,
    ):
        for number, (topic, key, value, content) in enumerate(good):
            headers = [("content-type", None if number % 2 else content.encode())]
            position = await producer.send_and_wait(
                settings.topic(topic), value, key, headers=headers
            )
            for poison in left[topic][: share[topic]]:
                poison_position = await poisoner.send_and_wait(
                    settings.topic(topic),
                    poison.value,
                    poison.key,
                    position.partition,
                    headers=list(poison.headers),
                )
                after.sent[topic, poison_position.partition, poison_position.offset] = (
                    poison
                )

            del left[topic][: share[topic]]


@pytest.mark.parametrize("topic", TOPIC_POISON)
def test_poison_is_rejected_with_its_reason_and_reads_back(aftermath, topic):
    reasons: dict[tuple[int, int], list[str]] = {}
    for reject in aftermath.rejects:
        headers = {name: value.decode() for name, value in reject.headers}
        assert headers.keys() == {
            "topic",
            "partition",
            "offset",
            "reason",
            "detail",
            "bytes",
        }
        assert headers["detail"]

        if headers["topic"] == f"{aftermath.prefix}{topic}":
            position = int(headers["partition"]), int(headers["offset"])
            poison = aftermath.sent[topic, *position]
            assert reject.key == poison.key
            if len(poison.reasons) == poison.rows:  # rejected unchanged
                assert reject.value == (poison.value or b"")[:LARGEST_REJECT]
                assert headers["bytes"] == str(len(poison.value or b""))
            reasons.setdefault(position, []).append(headers["reason"])

    sent = {
        tuple(position): sorted(poison.reasons)
        for (name, *position), poison in aftermath.sent.items()
        if name == topic
    }

    assert len(sent) >= len(TOPIC_POISON[topic])
    assert {position: sorted(names) for position, names in reasons.items()} == sent


def test_good_rows_next_to_poison_are_judged_as_if_alone(aftermath):
    assert len(aftermath.expected) > 10
    assert any(alert["area"] == "unknown" for alert in aftermath.expected.values())
    assert aftermath.alerts == aftermath.expected


@pytest.mark.parametrize("topic", TOPIC_POISON)
def test_rows_in_are_judged_rejected_duplicate_or_late(aftermath, topic):
    kind = TOPIC_KINDS[topic].kind if topic in TOPIC_KINDS else REGISTRY_TOPIC
    counted = {
        name.split("_")[1]: n
        for (name, labels), n in aftermath.counted.items()
        if labels == (kind,)
    }
    refused = Counter(
        str(reason)
        for (name, *_), poison in aftermath.sent.items()
        if name == topic
        for reason in poison.reasons
        for _ in range(poison.rows)
    )
    rejected = Counter(
        {
            labels[1]: int(n)
            for (name, labels), n in aftermath.counted.items()
            if name == "meterwatch_rejected_total" and labels[0] == kind
        }
    )

    assert rejected == refused
    assert (
        counted["rows"]
        == counted.get("judged", 0)
        + counted.get("duplicate", 0)
        + counted.get("late", 0)
        + rejected.total()
    )

    counts = aftermath.engine.counts
    assert counted["rows"] == counts[kind, "in", ""] + refused.total()

    for (topic_kind, outcome, reason), n in counts.items():
        if topic_kind == kind and outcome in ("judged", "late", "duplicate"):
            assert counted.get(outcome, 0) == n
        elif topic_kind == kind and outcome == "implausible":
            assert (
                aftermath.counted["meterwatch_implausible_total", (kind, reason)] == n
            )


def test_implausible_values_are_counted_and_unknown_meters_are_judged(aftermath):
    reasons = {
        reason
        for (_, outcome, reason) in aftermath.engine.counts
        if outcome == "implausible"
    }
    assert reasons >= {"negative", "sentinel", "estimated"}
    known = {area.area for area in aftermath.stream.areas}
    assert {row.area for row in aftermath.stream.rows} > known


async def publish(
    settings: Settings, value: bytes, compression: str | None = None
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=settings.brokers,
        max_request_size=1 << 30,
        compression_type=compression,
    ) as producer:
        await producer.send_and_wait(settings.topic(READS_TOPIC), value, b"A1")


def test_value_too_large_for_a_topic_fails_at_the_sender(settings):
    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(publish(settings, b"[" + b" " * LARGEST_RECORD + b"]"))


def test_small_record_that_decompresses_to_a_huge_value_is_rejected(
    settings, environment, tmp_path
):
    asyncio.run(publish(settings, b"[" + b" " * (40 << 20) + b"]", "gzip"))
    asyncio.run(publish(settings, GOOD_READING))
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: all_checkpointed(settings))
        wait(lambda: worker.rows() == 2)
        [reject] = asyncio.run(records(settings, REJECTS_TOPIC))
        assert worker.sample("meterwatch_judged_total", "readings") == 1
    headers = dict(reject.headers)
    assert (headers["reason"], headers["bytes"]) == (
        b"too_large",
        b"%d" % ((40 << 20) + 2),
    )
    assert len(reject.value) == LARGEST_REJECT


def test_checkpoint_of_an_older_engine_layout_ends_the_worker_with_advice(
    settings, environment, tmp_path
):
    state = gzip.decompress(
        (Path(__file__).parent / "data" / "state_layout1.msgpack.gz").read_bytes()
    )

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            tp = TopicPartition(settings.topic(CHECKPOINTS_TOPIC), 1)
            await checkpoints.write_checkpoint(
                producer,
                tp,
                CheckpointContents(state, {}, settings.partitions),
                WrittenCheckpoint(),
            )

    asyncio.run(write())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        assert worker.process.wait(WAIT_SECONDS) == ExitCode.STATE
        log = worker.log.read_text()

    assert "the snapshot has layout 1, this version reads layout" in log
    assert "start afresh: stop the workers and delete the topic" in log

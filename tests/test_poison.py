"""Poison on a real broker: whatever is sent among good rows, the worker lives, says why, and judges what is good."""

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
from schemas.wire import (
    FRAME,
    Encoded,
    Reason,
    encode_area,
    encode_events,
    encode_payments,
    encode_readings,
    encode_stages,
)
from schemas.wire.decoding import LARGEST
from streams import checkpoints
from streams.broker import Broker
from streams.checkpoints import Written
from streams.settings import Settings, load
from streams.topics import (
    CHECKPOINTS,
    EVENTS,
    LARGEST_RECORD,
    LARGEST_REJECT,
    PAYMENTS,
    READS,
    REGISTRY,
    REJECTS,
    WORKFLOW,
    ensure,
)
from tests.hostile import Stream, town
from tests.test_wire import AT, BAD_READINGS, READING, packed
from tests.workers import PATIENCE, WorkerProcess, contained, last_states, records, rows, told, wait

TOPICS: dict[str, type[Batch]] = {READS: Readings, EVENTS: DeviceEvents, PAYMENTS: Payments, WORKFLOW: Stages}


class Poison(NamedTuple):
    """What is sent, and the reasons for which it, or what is bad in it, is refused."""

    value: bytes | None
    reasons: tuple[str, ...]
    key: bytes | None = b"A1"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    rows: int = 1  # that each reason is for


Sent = tuple[str, bytes | None, bytes | None, str]  # topic, key, value, content type


def record(**told: Any) -> bytes:
    return msgspec.json.encode(told)


def anywhere(good: bytes) -> list[Poison]:
    """What no topic takes."""
    return [
        Poison(b"", (Reason.EMPTY,)),
        Poison(b"hello", (Reason.NOT_JSON,)),
        Poison(b"null", (Reason.NOT_JSON,)),
        Poison(good[:-1], (Reason.TRUNCATED,)),
        Poison(good + good, (Reason.NOT_JSON,)),
        Poison(b"\xff\xfe", (Reason.NOT_JSON,)),
        Poison(good.replace(b'1"', b'1\xff"', 1), (Reason.NOT_UTF8,)),
        Poison(good, (Reason.NOT_UTF8,), b"\xc3\x28"),
        Poison(good, (Reason.BAD_ID,), b"A" * 129),
        Poison(good, (Reason.BAD_ID,), b"A\0"),
        Poison(b'{"a":' * 100_000, (Reason.UNKNOWN_FIELD,)),
        Poison(b"{" + b" " * (10 << 20) + good[1:], (Reason.TOO_LARGE,)),
        Poison(good[:-1] + b" " * (LARGEST - len(good)) + b"}}", (Reason.TOO_LARGE,)),
        Poison(good, (Reason.NOT_FRAME,), headers=(("content-type", FRAME.encode()),)),
        Poison(b"{}", (Reason.MISSING_FIELD,)),
        Poison(good[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", (Reason.UNKNOWN_FIELD,)),
    ]


def rejected(**told: Any) -> Poison:
    reason = told.pop("reason")
    return Poison(record(**told), (reason,))


EVENT = record(meter="M1", at=AT, event="cover_open")
PAYMENT = record(customer="C1", at=AT, payment="payment", amount=5)
STAGE = record(item="W1", at=AT, stage="review", progress="started")
AREA = record(area="A1", meters=[{"meter": "M1"}])
POISON = {
    READS: [
        *anywhere(READING),
        *(Poison(value, (reason,)) for value, reason in BAD_READINGS if value and len(value) < 1 << 20),
        Poison(None, (Reason.EMPTY,)),
        Poison(READING, (Reason.NO_AREA,), None),
        Poison(b"[7, " + READING.replace(b"1700000000", b"0") + b"]", (Reason.BAD_TIME, Reason.WRONG_TYPE)),
        Poison(packed(kwh=np.array([np.inf, -np.inf], "<f4").tobytes()), (Reason.NOT_FINITE,), rows=2),
        Poison(packed(meter=np.array([0, 9], "<u2").tobytes()), (Reason.UNKNOWN_VALUE,)),
    ],
    EVENTS: [
        *anywhere(EVENT),
        Poison(None, (Reason.EMPTY,)),
        Poison(EVENT, (Reason.NO_AREA,), None),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(meter="M1", at=AT, event="explosion", reason=Reason.UNKNOWN_VALUE),
        rejected(meter="M1", at=AT, event=2, reason=Reason.WRONG_TYPE),
        rejected(meter=["M1"], at=AT, event="cover_open", reason=Reason.WRONG_TYPE),
        rejected(meter="M1", at=-AT, event="cover_open", reason=Reason.BAD_TIME),
        rejected(meter="M1", at=AT, event="cover_open", until=5, reason=Reason.BAD_TIME),
        rejected(meter="M1", at="9999-12-31T23:59:59-23:59", event="cover_open", reason=Reason.BAD_TIME),
        Poison(b"[[], 1e400]", (Reason.OUT_OF_RANGE, Reason.WRONG_TYPE)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
    ],
    PAYMENTS: [
        *anywhere(PAYMENT),
        Poison(None, (Reason.EMPTY,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(customer="C1", at=AT, payment="payment", amount="5", reason=Reason.WRONG_TYPE),
        rejected(customer="C1", at=AT, payment="payment", amount=1e300, reason=Reason.OUT_OF_RANGE),
        rejected(customer="C1", at=AT, payment="payment", amount=-1e13, reason=Reason.OUT_OF_RANGE),
        rejected(customer="C1", at=AT, payment="theft", reason=Reason.UNKNOWN_VALUE),
        rejected(customer="", at=AT, payment="bill", reason=Reason.BAD_ID),
        rejected(customer="C1", at=AT, payment="payment", succeeded=1, reason=Reason.WRONG_TYPE),
        rejected(customer="C1", at=AT, payment="payment", area="A2", reason=Reason.AREA_MISMATCH),
        rejected(customer="C1", at=AT, payment="bill", due=2**70, reason=Reason.BAD_TIME),
        Poison(PAYMENT.replace(b"5", b"Infinity"), (Reason.NOT_JSON,)),
        Poison(PAYMENT.replace(b"5", b"1e999"), (Reason.OUT_OF_RANGE,)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
    ],
    WORKFLOW: [
        *anywhere(STAGE),
        Poison(None, (Reason.EMPTY,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        rejected(item="W1", at=AT, stage="review", progress="stalled", reason=Reason.UNKNOWN_VALUE),
        rejected(item="W1", at=AT, stage=[], progress="started", reason=Reason.WRONG_TYPE),
        rejected(item="W1", at=AT, stage="review", progress="started", limit=True, reason=Reason.WRONG_TYPE),
        rejected(item="W1", at=AT, stage="review", progress="started", limit=1e30, reason=Reason.OUT_OF_RANGE),
        Poison(STAGE[:-1] + b',"limit":NaN}', (Reason.NOT_JSON,)),
        Poison(b"[" * 100_000, (Reason.TOO_DEEP,)),
        rejected(item="W\n1", at=AT, stage="review", progress="started", reason=Reason.BAD_ID),
        rejected(item="W1", at=AT / 3, stage="review", progress="started", reason=Reason.WRONG_TYPE),
    ],
    REGISTRY: [
        *anywhere(AREA),
        Poison(b"[" * 100_000, (Reason.WRONG_TYPE,)),
        Poison(packed(), (Reason.NOT_JSON,)),
        Poison(b"[" + AREA + b"]", (Reason.WRONG_TYPE,)),
        rejected(area="A1", meters=[{"meter": "M1", "ct": 0}], reason=Reason.OUT_OF_RANGE),
        rejected(area="A1", meters=[{"meter": "M1", "ct": -1e9}], reason=Reason.OUT_OF_RANGE),
        rejected(area="A1", meters=[{"meter": "M1", "wiring": 3}], reason=Reason.WRONG_TYPE),
        rejected(area="A1", meters=[{"meter": "M1", "interval_s": 10**9}], reason=Reason.OUT_OF_RANGE),
        rejected(area="A1", transformers=[{"rating_kva": 1e300}], reason=Reason.OUT_OF_RANGE),
        rejected(area="A1", transformers=[{"rating_kva": None}], reason=Reason.WRONG_TYPE),
        rejected(area="A2", reason=Reason.AREA_MISMATCH),
    ],
}
KINDS: dict[type[Batch], Callable[[Any], Iterable[Encoded]]] = {
    Readings: lambda batch: encode_readings(batch, "packed", 3),
    DeviceEvents: lambda batch: encode_events(batch, "single"),
    Payments: lambda batch: encode_payments(batch, "array", 5),
    Stages: lambda batch: encode_stages(batch, "single"),
}


@dataclass
class Aftermath:
    """What was sent, and what became of it."""

    living: Stream
    engine: Engine  # that has seen the good rows alone
    expected: dict[str, dict[str, Any]]
    sent: dict[tuple[str, int, int], Poison] = field(default_factory=dict)  # by topic, partition and offset
    rejects: list[ConsumerRecord] = field(default_factory=list)
    counted: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)


def unharmed() -> Aftermath:
    """Some days of a town, with an area that no master data know, and what an engine tells of them."""
    living = town(7, interval=3600)
    finite = [row for row in living.rows if not any(np.isinf(value).any() for value in row.columns.values()
                                                    if not isinstance(value, str))]  # fmt: skip
    living = living.with_rows(finite)
    engine = Engine(zone=living.zone, interval=living.interval)
    engine.enroll(living.areas)
    return Aftermath(living, engine, last_states(alert for batch in living.batches() for alert in engine.step(batch)))


@pytest.fixture(scope="module")
def aftermath(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """What a worker made of everything at once: poison that was there when it started, poison while it ran."""
    after = unharmed()
    environment = {
        "METERWATCH_BROKERS": broker.address, "METERWATCH_PREFIX": "poison.", "METERWATCH_GROUP": "poison",
        "METERWATCH_PARTITIONS": "2", "METERWATCH_CLOCK": "stream", "METERWATCH_METRICS_PORT": "0",
        "METERWATCH_CHECKPOINT_SECONDS": "0.5", "METERWATCH_ZONE": after.living.zone,
        "METERWATCH_INTERVAL": str(after.living.interval),
        "METERWATCH_UNKNOWN_AREA": "judge", "METERWATCH_MISPLACED": "judge",  # poison is where good messages are
    }  # fmt: skip
    settings = load(environment)
    asyncio.run(ensure(settings))
    good = [
        (topic, *message) for batch in after.living.batches() for topic, kind in TOPICS.items() if type(batch) is kind
        for message in KINDS[kind](batch)
    ]  # fmt: skip
    areas = [(REGISTRY, *encode_area(area)) for area in after.living.areas]
    asyncio.run(send(settings, after, [*areas, *good[: len(good) // 2]], "lz4"))
    with WorkerProcess(environment, tmp_path_factory.mktemp("poison") / "log") as worker:
        wait(lambda: contained(settings))
        asyncio.run(send(settings, after, good[len(good) // 2 :], "zstd"))
        asyncio.run(send(settings, after, areas, "snappy"))
        refused = sum(len(poison.reasons) * poison.rows for poison in after.sent.values())
        wait(lambda: contained(settings))
        wait(lambda: rows(worker.scrape()) >= sum(map(len, after.living.batches())) + refused)
        after.counted = worker.scrape()
        after.rejects = asyncio.run(records(settings, REJECTS))
        after.alerts = told(settings)
        assert worker.end() == 0
    return after


async def send(settings: Settings, after: Aftermath, good: Sequence[Sent], compression: str) -> None:
    """Good messages in order, compressed; after each, its share of its topic's poison in the same partition."""
    left = {topic: list(poison) for topic, poison in POISON.items()}
    share = {topic: -(-len(left[topic]) // count) for topic, count in Counter(topic for topic, *_ in good).items()}
    async with (
        AIOKafkaProducer(bootstrap_servers=settings.brokers, compression_type=compression) as producer,
        AIOKafkaProducer(bootstrap_servers=settings.brokers, max_request_size=15 << 20) as poisoner,
    ):
        for number, (topic, key, value, content) in enumerate(good):
            headers = [("content-type", None if number % 2 else content.encode())]
            place = await producer.send_and_wait(settings.topic(topic), value, key, headers=headers)
            for poison in left[topic][: share[topic]]:
                spot = await poisoner.send_and_wait(
                    settings.topic(topic), poison.value, poison.key, place.partition, headers=list(poison.headers)
                )
                after.sent[topic, spot.partition, spot.offset] = poison
            del left[topic][: share[topic]]


@pytest.mark.parametrize("topic", POISON)
def test_each_is_rejected_with_its_reason_and_can_be_read_back(aftermath, topic):
    reasons: dict[tuple[int, int], list[str]] = {}
    for reject in aftermath.rejects:
        headers = {name: value.decode() for name, value in reject.headers}
        assert headers.keys() == {"topic", "partition", "offset", "reason", "detail", "bytes"}
        assert headers["detail"]
        if headers["topic"] == f"poison.{topic}":
            place = int(headers["partition"]), int(headers["offset"])
            poison = aftermath.sent[topic, *place]
            assert reject.key == poison.key
            if len(poison.reasons) == poison.rows:  # it was refused as it came
                assert reject.value == (poison.value or b"")[:LARGEST_REJECT]
                assert headers["bytes"] == str(len(poison.value or b""))
            reasons.setdefault(place, []).append(headers["reason"])
    sent = {tuple(place): sorted(poison.reasons) for (name, *place), poison in aftermath.sent.items() if name == topic}
    assert len(sent) >= len(POISON[topic])
    assert {place: sorted(found) for place, found in reasons.items()} == sent


def test_what_is_good_beside_it_is_judged_as_if_alone(aftermath):
    assert len(aftermath.expected) > 10
    assert any(alert["area"] == "unknown" for alert in aftermath.expected.values())
    assert aftermath.alerts == aftermath.expected


@pytest.mark.parametrize("topic", POISON)
def test_rows_in_are_judged_rejected_twice_or_late(aftermath, topic):
    kind = TOPICS[topic].kind if topic in TOPICS else REGISTRY
    told = {name.split("_")[1]: n for (name, labels), n in aftermath.counted.items() if labels == (kind,)}
    refused = Counter(str(reason) for (name, *_), poison in aftermath.sent.items() if name == topic
                      for reason in poison.reasons for _ in range(poison.rows))  # fmt: skip
    rejected = Counter({labels[1]: int(n) for (name, labels), n in aftermath.counted.items()
                        if name == "meterwatch_rejected_total" and labels[0] == kind})  # fmt: skip
    assert rejected == refused
    assert told["rows"] == told.get("judged", 0) + told.get("duplicate", 0) + told.get("late", 0) + rejected.total()
    counts = aftermath.engine.counts
    assert told["rows"] == counts[kind, "in", ""] + refused.total()
    for (what, outcome, reason), n in counts.items():
        if what == kind and outcome in ("judged", "late", "duplicate"):
            assert told.get(outcome, 0) == n
        elif what == kind and outcome == "doubted":
            assert aftermath.counted["meterwatch_doubted_total", (kind, reason)] == n


def test_absurd_values_are_doubted_and_meters_nobody_knows_are_judged(aftermath):
    doubted = {reason for (_, outcome, reason) in aftermath.engine.counts if outcome == "doubted"}
    assert doubted >= {"negative", "sentinel", "estimated"}
    assert {row.area for row in aftermath.living.rows} > {area.area for area in aftermath.living.areas}


async def publish(settings: Settings, value: bytes, compression: str | None = None) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=settings.brokers, max_request_size=1 << 30, compression_type=compression
    ) as producer:
        await producer.send_and_wait(settings.topic(READS), value, b"A1")


def test_a_value_beyond_what_a_topic_takes_comes_back_to_who_sent_it(settings):
    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(publish(settings, b"[" + b" " * LARGEST_RECORD + b"]"))


def test_a_small_record_that_is_a_huge_value_is_rejected(settings, environment, tmp_path):
    asyncio.run(publish(settings, b"[" + b" " * (40 << 20) + b"]", "gzip"))
    asyncio.run(publish(settings, READING))
    with WorkerProcess(environment, tmp_path / "log") as worker:
        wait(lambda: contained(settings))
        wait(lambda: rows(worker.scrape()) == 2)
        [reject] = asyncio.run(records(settings, REJECTS))
        assert worker.scrape()["meterwatch_judged_total", ("readings",)] == 1
    headers = dict(reject.headers)
    assert (headers["reason"], headers["bytes"]) == (b"too_large", b"%d" % ((40 << 20) + 2))
    assert len(reject.value) == LARGEST_REJECT


def test_a_checkpoint_of_an_engine_of_an_older_layout_ends_the_worker_with_what_to_do(settings, environment, tmp_path):
    state = gzip.decompress((Path(__file__).parent / "data" / "state_layout1.msgpack.gz").read_bytes())

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            tp = TopicPartition(settings.topic(CHECKPOINTS), 1)
            await checkpoints.write(producer, tp, state, {}, partitions=settings.partitions, last=Written())

    asyncio.run(write())
    with WorkerProcess(environment, tmp_path / "log") as worker:
        assert worker.process.wait(PATIENCE) == 1
        said = worker.log.read_text()
    assert "the snapshot has layout 1, this version reads layout" in said
    assert "start afresh: stop the workers and delete the topic" in said

"""Sending history to a real broker, at full speed and in real time."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError

from replay import send as module
from replay.history import Source
from replay.send import SendError, send
from replay.sources import open_sources
from schemas.columns import Readings, Stages
from schemas.wire import decode, decode_areas
from tests.test_layout import sorted_rows

DATA_FOLDER = Path(__file__).parent / "data"
GARDEN_FILES = (
    DATA_FOLDER / "garden4_current.csv.gz",
    DATA_FOLDER / "garden4_voltage.csv.gz",
)


def create(address, *topics):
    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        admin.create_topics(
            [
                NewTopic(topic, num_partitions=3, replication_factor=1)
                for topic in topics
            ]
        )
    finally:
        admin.close()


def received(address, topic, count):
    """Messages as decoders take them, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        consumer_timeout_ms=15_000,
    )
    consumer.assign([TopicPartition(topic, partition) for partition in range(3)])
    messages = defaultdict(list)

    try:
        for received_count, record in enumerate(consumer, 1):
            (header,) = record.headers
            assert header[0] == "content-type"
            messages[record.partition].append(
                (record.key, record.value, header[1].decode(), 0)
            )
            if received_count == count:
                return messages
    finally:
        consumer.close()

    pytest.fail(f"{count} messages expected, {sum(map(len, messages.values()))} came")


@pytest.mark.parametrize("shape", ["packed", "array", "single"])
def test_sent_history_reads_back_the_same(broker, shape):
    prefix = f"send-{shape}-"
    create(broker.address, prefix + "meter.reads", prefix + "registry")
    source = open_sources(GARDEN_FILES)
    batches_read = []
    sent = send(
        source,
        [broker.address],
        shape,
        prefix=prefix,
        progress=lambda *so_far: batches_read.append(so_far),
    )

    assert sent == {prefix + "registry": 1, prefix + "meter.reads": source.rows}
    assert batches_read[-1] == (source.rows, 1_469_980_800 - 900)

    registry = received(broker.address, prefix + "registry", 1)
    areas, refused = decode_areas(
        [message for partition in registry.values() for message in partition]
    )

    assert (areas, refused) == (source.areas, [])

    count = source.rows if shape == "single" else -(-source.rows // 500)
    (messages,) = received(broker.address, prefix + "meter.reads", count).values()
    readings, refused = decode(Readings, messages)
    assert not refused
    assert sorted_rows([readings]) == sorted_rows(open_sources(GARDEN_FILES).batches)


def test_stages_are_keyed_by_section(broker):
    create(broker.address, "stages-workflow", "stages-registry")
    source = open_sources([DATA_FOLDER / "hospital_billing_300cases.parquet"])
    sent = send(source, [broker.address], "array", prefix="stages-")
    assert sent["stages-workflow"] == source.rows
    (messages,) = received(
        broker.address, "stages-workflow", -(-source.rows // 500)
    ).values()
    assert {key for key, *_ in messages} == {b"workflow"}
    stages, refused = decode(Stages, messages)
    assert isinstance(stages, Stages)
    assert (len(stages), refused) == (source.rows, [])


def test_missing_topic_is_an_error(broker, monkeypatch):
    monkeypatch.setattr(module, "BROKER_TIMEOUT", 1)
    with pytest.raises(SendError, match="absent-registry"):
        send(open_sources(GARDEN_FILES), [broker.address], prefix="absent-")


def test_missing_broker_is_an_error(monkeypatch):
    # a real producer without a broker leaves its sockets open
    def nobody(
        **settings,
    ):
        raise KafkaTimeoutError(settings["bootstrap_servers"])

    monkeypatch.setattr(module, "KafkaProducer", nobody)
    with pytest.raises(SendError, match="no answer from the brokers at 127.0.0.1:9"):
        send(Source("nothing", [], iter(()), 0), ["127.0.0.1:9"])


def test_the_pace_is_a_multiple_of_life(monkeypatch):
    clock = Counter[str]()
    monkeypatch.setattr("replay.send.time.monotonic", lambda: float(clock["now"]))
    monkeypatch.setattr(
        "replay.send.time.sleep", lambda seconds: clock.update(now=seconds)
    )
    at = [900, 900, 1800, 4500]
    readings = Readings.build(["m", "n"], [0, 1, 0, 0], ["a"], [0] * 4, at)
    paced = [
        (batch.at.tolist(), clock["now"])
        for batch in module.paced(iter([readings]), 90)
    ]
    assert paced == [([900, 900], 0), ([1800], 10), ([4500], 40)]

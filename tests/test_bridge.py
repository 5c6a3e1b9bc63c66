"""The bridge on a real broker: a topic of others, keyed by device, gives the alerts of the project's own topics."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError
from typer.testing import CliRunner

from detectors.engine import Engine
from replay import layout
from replay.history import Source
from replay.mapping.areas import AreaLookup
from replay.mapping.file import read_mapping
from replay.send import send
from replay.simulation.town import Town
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.topics import READS_TOPIC, REJECTS_TOPIC
from schemas.wire import decode, encode_area
from streams.cli import app
from streams.kafka import parked_rows, samples
from streams.kafka.bridge import joined_by_time
from streams.kafka.intake import messages_of
from streams.kafka.parked_rows import ParkedBatch, ParkedRows
from tests.chaos import CRASH_SCRIPT
from tests.crash_points import BRIDGE_CRASH_POINTS
from tests.schema_registry import SchemaServer, framed
from tests.test_foreign_records import (
    COLUMN_LINES,
    avro_bytes,
    protobuf_files,
    protobuf_reading,
)
from tests.workers import (
    WAIT_SECONDS,
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    thinned,
    wait,
)

PARTITION_COUNT = 3
READ_AT = 1_709_251_200


async def _create(settings, topic):
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITION_COUNT, 1)])
    finally:
        await admin.close()


async def _produce(settings, topic, keyed):
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    try:
        sent = [await producer.send(topic, value, key) for key, value in keyed]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


@pytest.fixture
def topic(settings):
    """A topic of others."""
    name = f"{settings.prefix}ami"
    asyncio.run(_create(settings, name))
    return name


def produce(settings, topic, keyed):
    asyncio.run(_produce(settings, topic, keyed))


def mapping(folder, topic, *lines):
    path = folder / "columns.toml"
    path.write_text(f'topic = "{topic}"\n' + "\n".join(lines))
    return path


def bridge(environment, path, log):
    return WorkerProcess(environment, log, "-m", "streams.cli", "bridge", str(path))


def committed(settings, topic):
    """How far the group of the bridges has committed, over all partitions."""

    async def ask():
        admin = AIOKafkaAdminClient(**settings.client())
        await admin.start()
        try:
            group = f"{settings.group}.bridge.{topic}"
            tps = [TopicPartition(topic, number) for number in range(PARTITION_COUNT)]
            found = await admin.list_consumer_group_offsets(group, partitions=tps)
        except GroupCoordinatorNotAvailableError:
            return 0  # a fresh broker has no groups yet
        finally:
            await admin.close()
        return sum(max(offset.offset, 0) for offset in found.values())

    return asyncio.run(ask())


def published(settings):
    """The readings on their topic, as meter, area and register."""
    found = asyncio.run(records(settings, READS_TOPIC))
    batch, rejections = decode(Readings, messages_of(found))
    assert not rejections
    if batch is None:
        return []
    rows = zip(batch.subject, batch.area, batch.register.tolist(), strict=True)
    return sorted(
        (batch.names[meter], batch.areas[area], register)
        for meter, area, register in rows
    )


def rejected(settings):
    found = asyncio.run(records(settings, REJECTS_TOPIC))
    return sorted(dict(record.headers)["reason"].decode() for record in found)


def foreign_readings(batches):
    """The readings of a town as another head-end sends them: a record each, keyed by device, in watt-hours."""
    for batch in batches:
        for row in layout.table_of(batch).to_pylist():
            row["register"] *= 1024
            row.pop("area")
            known = {
                f"their {name}": value
                for name, value in row.items()
                if value is not None
            }
            yield (
                row["meter"].encode(),
                json.dumps({"device": row["meter"], "body": known}).encode(),
            )


def test_a_killed_bridge_gives_the_alerts_of_a_direct_send(
    settings, environment, topic, tmp_path
):
    town = Town(600, 3)
    history = thinned(town)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    expected = last_states(alert for batch in history for alert in engine.step(batch))
    readings = [batch for batch in history if isinstance(batch, Readings)]
    others = [batch for batch in history if not isinstance(batch, Readings)]

    columns = set(layout.table_of(readings[0]).column_names) - {
        "area",
        "meter",
        "register",
    }
    lines = [f'{name} = "body.`their {name}`"' for name in sorted(columns)]
    path = mapping(
        tmp_path,
        topic,
        'area = "registry"\n[columns]\nmeter = "device"\nregister = "body.`their register` / 1024"',
        *lines,
    )
    source = Source(town.name, town.areas, iter(others), 0, town.zone, town.interval)
    send(source, settings.servers, "array", prefix=settings.prefix)
    count = sum(map(len, readings))

    share = -(-len(readings) // len(BRIDGE_CRASH_POINTS))
    with WorkerProcess(environment, tmp_path / "worker"):
        for number, moment in enumerate(BRIDGE_CRASH_POINTS):
            part = readings[number * share : (number + 1) * share]
            produce(settings, topic, foreign_readings(part))
            command = (CRASH_SCRIPT, moment, "1", "bridge", str(path))
            with WorkerProcess(environment, tmp_path / moment, *command) as killed:
                assert killed.process.wait(WAIT_SECONDS) == -signal.SIGKILL
        with bridge(environment, path, tmp_path / "last"):
            wait(lambda: committed(settings, topic) == count)
            wait(lambda: all_checkpointed(settings))
            assert published_states(settings) == expected
    assert not rejected(settings)


def test_rows_wait_for_the_record_of_their_area(settings, environment, topic, tmp_path):
    def reading(meter, wh, **more):
        record = {"deviceId": meter, "ts": READ_AT, "wh": wh} | more
        return meter.encode(), json.dumps(record).encode()

    def load(area, *meters):
        record = Area(area=area, meters=[Meter(meter=meter) for meter in meters])
        key, value, _ = encode_area(record)
        produce(settings, settings.topic("registry"), [(key, value)])

    load("A", "m1")
    path = mapping(tmp_path, topic, COLUMN_LINES)
    sent = [
        reading("m1", 1000),
        reading("m2", 2000),
        reading("m2", 3000, ts="x"),
        reading("m1", 4000),
    ]
    produce(settings, topic, sent)
    with bridge(environment, path, tmp_path / "one") as running:
        wait(lambda: published(settings) == [("m1", "A", 1), ("m1", "A", 4)])
        wait(lambda: rejected(settings) == ["bad_time"])
        wait(lambda: running.sample("meterwatch_bridge_parked_rows") == 1)
        assert committed(settings, topic) < len(sent)

    # the next bridge reads the waiting record again, and then knows its area
    with bridge(environment, path, tmp_path / "two") as running:
        wait(lambda: running.sample("meterwatch_bridge_parked_rows") == 1)
        load("B", "m2")
        wait(lambda: ("m2", "B", 2) in published(settings))
        wait(lambda: committed(settings, topic) == len(sent))
        assert running.sample("meterwatch_bridge_rejected_rows_total", "bad_time") >= 1
        assert running.end() == 0


@pytest.mark.parametrize("form", ["avro", "protobuf"])
def test_records_of_a_schema_registry_reach_the_topic(
    settings, environment, topic, tmp_path, form
):
    record = Area(area="A", meters=[Meter(meter="m1")])
    produce(settings, settings.topic("registry"), [encode_area(record)[:2]])
    with SchemaServer() as server:
        if form == "avro":
            schema = {
                "type": "record",
                "name": "R",
                "fields": [
                    {"name": name, "type": kind}
                    for name, kind in (
                        ("deviceId", "string"),
                        ("ts", "long"),
                        ("wh", "double"),
                    )
                ],
            }
            server.register(9, schema)
            value = framed(
                9, avro_bytes(schema, {"deviceId": "m1", "ts": READ_AT, "wh": 1500})
            )
        else:
            volts, reading = protobuf_files()
            server.register(7, volts, "volts")
            server.register(9, reading, references=[("volts.proto", "volts")])
            value = framed(
                9, protobuf_reading("m1", 230.0, 1500, "MEASURED"), bytes([4, 2, 0])
            )

        place = f'format = "{form}"\nschema_registry = "{server.address}"'
        columns = (
            COLUMN_LINES
            if form == "protobuf"
            else COLUMN_LINES.replace('ua = "volts.a"\n', "")
            .replace('status = "quality"\n', "")
            .split("[words")[0]
        )
        path = mapping(tmp_path, topic, place, columns)
        produce(
            settings, topic, [(b"m1", value), (b"m1", framed(1, b"")), (b"m1", b"{}")]
        )
        with bridge(environment, path, tmp_path / "log"):
            wait(lambda: published(settings) == [("m1", "A", 1.5)])
            wait(
                lambda: rejected(settings) == sorted([f"not_{form}", "unknown_schema"])
            )


def test_a_topic_is_guessed_and_checked(settings, environment, topic, tmp_path):
    record = Area(area="A", meters=[Meter(meter="m1")])
    produce(settings, settings.topic("registry"), [encode_area(record)[:2]])
    values = [
        {"deviceId": f"m{k % 2}", "ts": READ_AT + 900 * k, "energy_wh": k}
        for k in range(20)
    ]
    keyed = [(None, json.dumps(value).encode()) for value in values]
    produce(settings, topic, [*keyed, (None, b"{cut"), (None, b'{"deviceId": "m1"}')])

    path = tmp_path / "columns.toml"
    arguments = ["map", topic, "--out", str(path), "--check", "60"]
    shown = CliRunner(env=environment).invoke(app, arguments)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    found = read_mapping(path)
    assert (found.topic, found.format, found.area_from_registry) == (
        topic,
        "json",
        True,
    )
    assert {"meter", "at", "register"} == set(found.columns)
    assert "22 rows, 20 accepted" in shown.output
    assert "1 ids are in no area of the registry" in shown.output
    assert "refused: missing_field 1" in shown.output
    missing = CliRunner(env=environment).invoke(app, ["map", "no.such"])
    assert "there is no file and no topic `no.such`" in str(missing.exception)


def test_a_topic_that_cannot_be_guessed_says_why(settings, environment, topic):
    def fault(*options):
        arguments = ["map", topic, "--out", "unwritten.toml", *options]
        return str(CliRunner(env=environment).invoke(app, arguments).exception)

    wait(lambda: fault() == f"the topic `{topic}` has no records yet")
    produce(settings, topic, [(b"m", framed(1, b"\2m")), (b"m", None)])
    assert "none of 2 records" in fault()
    assert "--schema-registry URL" not in fault()
    produce(settings, topic, [(b"m", framed(1, b"\2m")), (b"m", framed(1, b"\2m"))])
    assert "--format avro or protobuf, --schema-registry URL" in fault()


def test_a_sample_of_large_records_is_bounded(settings, topic, monkeypatch):
    monkeypatch.setattr(samples, "SAMPLE_BYTES", 100_000)
    produce(settings, topic, [(b"m", b"x" * 900_000) for _ in range(40)])
    found = asyncio.run(samples.sampled(settings, topic, 40))
    assert 0 < len(found) < 40


def test_partitions_that_hold_days_are_published_by_time():
    def of_days(meter, days, kwh):
        at = [READ_AT + 86_400 * day for day in days]
        columns = {"kwh": np.full(len(at), kwh, np.float32)}
        zeros = [0] * len(at)
        return Readings.build([meter], zeros, ["A"], zeros, at, **columns)

    found = joined_by_time(
        [of_days("m1", [0, 1, 1], 1), of_days("m2", [0, 1], 2), of_days("m1", [1], 3)]
    )
    assert isinstance(found, Readings)
    rows = [(found.names[meter], kwh) for meter, kwh in zip(found.subject, found.kwh)]
    assert rows[:2] == [("m1", 1), ("m2", 2)]
    assert rows[2:] == [("m1", 1), ("m1", 1), ("m2", 2), ("m1", 3)]
    assert (np.diff(found.at) >= 0).all()


def test_a_topic_of_the_project_is_not_bridged_to_itself(
    settings, environment, tmp_path
):
    columns = ['meter = "m"', 'at = "t"', 'area = "a"', 'kwh = "e"']
    path = mapping(tmp_path, settings.topic(READS_TOPIC), "[columns]", *columns)
    with bridge(environment, path, tmp_path / "log") as process:
        assert process.process.wait() == 2
    assert "nothing is bridged to itself" in (tmp_path / "log").read_text()


def test_a_port_in_use_is_named(settings, environment, topic, tmp_path):
    columns = ['meter = "m"', 'at = "t"', 'area = "a"', 'kwh = "e"']
    path = mapping(tmp_path, topic, "[columns]", *columns)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        log = tmp_path / "log"
        changed = {"METERWATCH_METRICS": "true", "METERWATCH_METRICS_PORT": port}
        with bridge(environment | changed, path, log) as process:
            assert process.process.wait() == 2
    assert f"127.0.0.1:{port}: Address already in use" in log.read_text()
    assert "set `metrics_port`, 0 for a free one" in log.read_text()
    assert "Unclosed" not in log.read_text()


class _Value:
    """A record, as far as parking looks at it."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.value = b"x" * 10


def parked_batch(offset: int, meters: Any, since: float) -> ParkedBatch:
    batch = Readings.build(
        meters,
        range(len(meters)),
        ["?"],
        np.zeros(len(meters)),
        [READ_AT] * len(meters),
    )
    values: Any = [_Value(offset + k) for k in range(len(meters))]
    tp = TopicPartition("t", 0)
    return ParkedBatch.of(tp, batch, values, np.arange(len(meters)), since)


def test_parked_rows_are_released_in_order_and_given_up_when_old_or_too_many(
    monkeypatch,
):
    parked = ParkedRows()
    parked.park(parked_batch(5, ["a", "b"], since=0.0))
    parked.park(parked_batch(9, ["b", "c"], since=1000.0))
    tp = TopicPartition("t", 0)
    assert (len(parked), parked.first_offset(tp), parked.oldest(1500.0)) == (
        4,
        5,
        1500.0,
    )

    lookup = AreaLookup([Area(area="A", meters=[Meter(meter="b")])])
    released = [batch.names[batch.subject[0]] for batch in parked.released(lookup)]
    assert released == ["b", "b"]
    assert (len(parked), parked.first_offset(tp)) == (2, 5)

    assert list(parked.given_up(parked_rows.PARKED_SECONDS)) == []
    ((old, why),) = parked.given_up(parked_rows.PARKED_SECONDS + 1)
    assert old.batch.names[old.batch.subject[0]] == "a"
    assert "no area after 3600 s" in why
    assert (len(parked), parked.first_offset(tp)) == (1, 10)

    monkeypatch.setattr(parked_rows, "MOST_PARKED_ROWS", 0)
    ((_, why),) = parked.given_up(1001.0)
    assert "too many" in why
    parked.park(parked_batch(20, ["d"], since=0.0))
    parked.forget([tp])
    assert (len(parked), parked.first_offset(tp)) == (0, None)

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka import broker as module
from streams.kafka.broker import (
    CACHE_FOLDER,
    Broker,
    BrokerError,
    BrokerUnavailableError,
    answers,
    free_ports,
)


async def create(address: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, num_partitions=1, replication_factor=1)]
        )
    finally:
        await admin.close()


async def send(address: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def receive(address: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=address, auto_offset_reset="earliest"
    ) as consumer:
        return [
            (await asyncio.wait_for(consumer.getone(), 30)).value for _ in range(count)
        ]


def test_sent_messages_are_received(broker: Broker):
    asyncio.run(create(broker.address, "broker-test"))
    asyncio.run(send(broker.address, "broker-test", b"one", b"two"))
    assert asyncio.run(receive(broker.address, "broker-test", 2)) == [b"one", b"two"]


def test_broker_folder_survives_sigkill(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # an identity that begins with a dash
    monkeypatch.setattr("streams.kafka.broker.os.urandom", lambda size: b"\xfb" * size)
    with Broker(tmp_path) as restarted:
        asyncio.run(create(restarted.address, "kept"))
        asyncio.run(send(restarted.address, "kept", b"before"))
        restarted.kill()
        assert not answers(restarted.port)
        restarted.start()
        asyncio.run(send(restarted.address, "kept", b"after"))
        assert asyncio.run(receive(restarted.address, "kept", 2)) == [
            b"before",
            b"after",
        ]

    assert not answers(restarted.port)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_interrupted(broker: Broker, sign: signal.Signals):
    port, _ = free_ports()
    command = [sys.executable, "-m", "streams.kafka.broker", "--port", str(port)]
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith(f"Kafka listens on 127.0.0.1:{port}"), (
                line + process.stdout.read()
            )
            assert answers(port)
            process.send_signal(sign)
            assert process.stdout.read() == ""

        assert process.returncode == 0
        assert not answers(port)
    finally:
        shutil.rmtree(CACHE_FOLDER / f"broker-{port}")


def test_taken_port_is_reported(tmp_path: Path):
    with (
        socket.create_server(("127.0.0.1", 0)) as socket_in_use,
        pytest.raises(BrokerError, match="listens .* already"),
    ):
        Broker(tmp_path, port=socket_in_use.getsockname()[1]).start()


def test_failed_start_names_the_log(broker: Broker, tmp_path: Path):
    spoilt = tmp_path / "data" / "meta.properties"
    spoilt.parent.mkdir()
    spoilt.write_text("version=1\nnode.id=2\n")
    with pytest.raises(BrokerError, match="(?s)did not start.*meta.properties"):
        Broker(tmp_path).start()


def test_without_java_there_is_no_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        BrokerUnavailableError, match="Java 17 or newer: `java` is not on the path"
    ):
        Broker(tmp_path).start()


def test_without_maven_there_are_no_jars(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "CACHE_FOLDER", tmp_path)
    with pytest.raises(BrokerUnavailableError, match="`mvn` is not on the path"):
        module.jars()

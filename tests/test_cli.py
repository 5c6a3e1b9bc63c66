"""The commands, as a user types them."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from msgspec.structs import replace

from replay.layout import write_areas
from replay.town import Town
from schemas.alert import Alert
from schemas.wire import encode_alert
from streams.cli import main
from streams.settings import load
from streams.topics import ALERTS, TOPICS

ALERT = Alert(
    id="a1", rule="voltage_loss", version=1, kind="readings", area="A1", subject="M1", state="raised", change="raised",
    revision=0, severity=1, since=1772380800, raised=1772380800, at=1772380800, score=1.5, phase="A", evidence={},
    held="", en="Phase A [of 3] has lost its voltage.", zh="A相失压。",
)  # fmt: skip


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def on_broker(broker, monkeypatch, request):
    monkeypatch.setenv("METERWATCH_BROKERS", broker.address)
    monkeypatch.setenv("METERWATCH_PREFIX", f"{request.node.name}.")
    monkeypatch.setenv("METERWATCH_PARTITIONS", "2")


def test_history_is_watched_by_the_settings(command, monkeypatch, tmp_path):
    (tmp_path / "own.csv").write_text("meter,area,at,kwh\nM1,A1,2026-03-01T00:00:00Z,1\n")
    (tmp_path / "other.toml").write_text('zone = "Australia/Sydney"\n')
    assert "2026-03-01 11:00" in command("--settings", "other.toml", "run", "own.csv", "--store", "one.db")[1]
    monkeypatch.setenv("METERWATCH_ZONE", "UTC")
    assert "2026-03-01 00:00" in command("run", "own.csv", "--store", "two.db")[1]
    monkeypatch.setenv("METERWATCH_ZONE", "no/where")
    code, _, error = command("run", "own.csv")
    assert code == 2
    assert "METERWATCH_ZONE: `zone` is 'no/where', which is not a time zone" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "nowhere.parquet"], "nowhere.parquet"),
        (["send", "town:1x1"], "a town has at least 50 meters"),
        (["run", "nowhere.parquet"], "nowhere.parquet"),
        (["registry", "load", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--settings", "nowhere.toml", "topics"], "nowhere.toml: there is no such file"),
        (["topics"], "no answer from the brokers at 127.0.0.1:1"),
        (["alerts", "--once"], "127.0.0.1"),
        (["worker"], "no answer from the brokers at 127.0.0.1:1"),
        (["--settings", "nowhere.toml", "run", "town:60x1"], "nowhere.toml: there is no such file"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_what_a_user_did_wrong_is_said_in_a_line(command, monkeypatch, arguments, said):
    monkeypatch.setenv("METERWATCH_BROKERS", "127.0.0.1:1")
    code, output, error = command(*arguments)
    assert (code, output) == (2, "")
    assert said in error
    assert "Traceback" not in error


def test_topics_are_created_once_and_then_checked(command, on_broker, monkeypatch):
    code, output, _ = command("topics", "--json")
    created = json.loads(output)
    assert code == 0
    assert {topic["state"] for topic in created} == {"created"}
    assert sorted(topic["partitions"] for topic in created) == [1] + [2] * (len(TOPICS) - 1)
    code, output, _ = command("topics")
    assert code == 0
    assert output.count("there") == len(TOPICS)
    monkeypatch.setenv("METERWATCH_PARTITIONS", "3")
    code, _, error = command("topics")
    assert code == 2
    assert "meter.reads` has 2 partitions, not 3" in error


def test_a_source_topic_takes_the_brokers_clock(command, on_broker, broker):
    prefix = "test_a_source_topic_takes_the_brokers_clock."
    command("topics")

    async def stamp() -> int:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            sent = await producer.send_and_wait(f"{prefix}payments", b"{}", timestamp_ms=1_000)
            return sent.timestamp

    assert asyncio.run(stamp()) == pytest.approx(time.time() * 1000, abs=60_000)


def test_a_source_topic_that_takes_its_producers_clocks_is_said(command, on_broker, broker):
    name = "test_a_source_topic_that_takes_its_producers_clocks_is_said.payments"

    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
        await admin.close()

    asyncio.run(create())
    command("topics")  # what is as new as this need not be known to every broker yet
    code, _, error = command("topics")
    assert code == 2
    assert f"`{name}` keep the producers' time stamps: set their message.timestamp.type to LogAppendTime" in error


def test_areas_go_to_the_registry(command, on_broker, tmp_path):
    areas = Town(300, 1).areas
    write_areas(tmp_path / "areas.jsonl", areas)
    code, output, _ = command("registry", "load", "areas.jsonl", "--json")
    assert code == 0
    assert json.loads(output)["sent"] == {"test_areas_go_to_the_registry.registry": len(areas)}


def test_a_line_that_is_no_area_is_refused(command, on_broker, tmp_path):
    (tmp_path / "areas.jsonl").write_text('{"area": "A1"}\n{"area": 2}\n')
    code, _, error = command("registry", "load", "areas.jsonl")
    assert code == 2
    assert "areas.jsonl has 1 lines that are no area" in error


def test_alerts_are_listed_by_their_last_state(command, on_broker, broker):
    command("topics")
    settings = load({"METERWATCH_PREFIX": "test_alerts_are_listed_by_their_last_state.", "METERWATCH_PARTITIONS": "2"})
    alerts = [
        ALERT,
        replace(ALERT, id="a2", held="repeat", raised=ALERT.raised + 1),
        replace(ALERT, id="a3"),
        replace(ALERT, id="a3", state="withdrawn", change="withdrawn", revision=1),
    ]

    async def tell() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            for alert in alerts:
                key, value, headers = encode_alert(alert)
                await producer.send_and_wait(settings.topic(ALERTS), value, key, headers=headers)

    asyncio.run(tell())
    code, output, _ = command("alerts", "--once")
    assert code == 0
    assert output.splitlines() == [
        "2026-03-02 00:00 1 raised    A1 M1                    Phase A [of 3] has lost its voltage."
    ]
    _, output, _ = command("alerts", "--once", "--held", "--zh")
    assert output.splitlines()[1].endswith("A相失压。 (held: repeat)")
    _, output, _ = command("alerts", "--once", "--held", "--json")
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["a1", "a2"]


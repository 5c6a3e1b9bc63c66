"""Rulebooks on a real broker reach workers, from the same row on, whatever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from aiokafka import AIOKafkaProducer

from detectors.engine import Engine
from detectors.rulebook import applied
from replay.history import Source
from replay.send import send
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.rules import Edition, Rulebook
from schemas.topics import ALERTS_TOPIC, RULES_TOPIC
from schemas.wire import decode_alert
from streams.kafka import rulebooks
from streams.settings import Settings
from tests.test_rulebook import edition
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    thinned,
    wait,
)

CHANGED_RULEBOOK = Rulebook(
    {
        "voltage_deviation": edition(2, settings={"over": 1.03}),
        "clock_drift": edition(2, status="retired"),
        "current_loss": edition(2, status="shadow"),
        "model_score": edition(2),
    }
)


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(600, 3)


@pytest.fixture(scope="module")
def history(town: Town) -> list[Batch]:
    return thinned(town)


def publish(settings: Settings, town: Town, batches: list[Batch]) -> None:
    source = Source(
        town.name,
        town.areas,
        iter(batches),
        sum(map(len, batches)),
        town.zone,
        town.interval,
    )
    send(source, settings.servers, "packed", prefix=settings.prefix)


def by_hand(town: Town, batches: Iterable[Batch], change: int) -> list[Alert]:
    """The alerts of an engine that changes to the other rulebook after so many batches."""
    engine, alerts = Engine(zone=town.zone, interval=town.interval), []
    engine.enroll(town.areas)
    for n, batch in enumerate(batches):
        if n == change:
            alerts += engine.adopt(applied(CHANGED_RULEBOOK))
        alerts += engine.step(batch)
    return alerts


def went_on(settings: Settings, worker: WorkerProcess) -> bool:
    return (
        worker.log.read_text().count("adopts another rulebook") == settings.partitions
    )


def test_change_applies_from_the_same_row_whatever_is_killed(
    settings, environment, town, history, tmp_path
):
    half, late = len(history) // 2, 3 * len(history) // 4
    alerts = by_hand(town, history, half)
    never = environment | {"METERWATCH_CHECKPOINT_SECONDS": "3600"}
    with WorkerProcess(never, tmp_path / "one") as worker:
        publish(settings, town, history[:half])
        wait(lambda: worker.rows() == sum(map(len, history[:half])))
        wait(lambda: asyncio.run(records(settings, ALERTS_TOPIC)))
        worker.kill()

    asyncio.run(rulebooks.send(settings, CHANGED_RULEBOOK))
    with WorkerProcess(never, tmp_path / "two") as worker:
        # after the alerts of the rulebook before, however often
        wait(lambda: went_on(settings, worker))
        assert all_checkpointed(settings)
        publish(settings, town, history[half:late])
        wait(lambda: worker.rows() == sum(map(len, history[:late])))
        worker.kill()

    with WorkerProcess(environment, tmp_path / "three"):
        publish(settings, town, history[late:])
        wait(lambda: all_checkpointed(settings))
    assert published_states(settings) == last_states(alerts)

    versions = {
        (alert["rule"], alert["version"])
        for alert in published_states(settings).values()
    }

    assert {("voltage_deviation", 2), ("meter_current_unbalance", 1)} <= versions

    withdrawn = {alert.rule for alert in alerts if alert.state == "withdrawn"}
    assert withdrawn <= {
        alert.rule
        for alert in map(decoded, asyncio.run(records(settings, ALERTS_TOPIC)))
        if alert.state == "withdrawn"
    }
    assert withdrawn & {"clock_drift", "current_loss"}


def decoded(record) -> Alert:
    return decode_alert(record.value)


def test_running_worker_takes_valid_rulebooks_and_refuses_others(
    settings, environment, town, history, tmp_path
):
    half = len(history) // 2
    unapproved = Rulebook({"voltage_loss": Edition(status="retired", version=2)})

    async def spoil() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            for key, value in (
                (b"rules", b"{"),
                (b"others", b'{"rules": {}}'),
                (b"rules", None),
            ):
                await producer.send_and_wait(settings.topic(RULES_TOPIC), value, key)
        await rulebooks.send(settings, unapproved)

    with WorkerProcess(environment, tmp_path / "log") as worker:
        publish(settings, town, history[:half])
        wait(lambda: all_checkpointed(settings))
        asyncio.run(spoil())
        wait(
            lambda: worker.sample("meterwatch_rejected_total", "rules", "rulebook") == 3
        )
        asyncio.run(rulebooks.send(settings, CHANGED_RULEBOOK))
        wait(lambda: went_on(settings, worker))
        asyncio.run(rulebooks.send(settings, unapproved))
        wait(
            lambda: worker.sample("meterwatch_rejected_total", "rules", "rulebook") == 4
        )

        publish(settings, town, history[half:])
        wait(lambda: all_checkpointed(settings))
        log = worker.log.read_text()

    assert published_states(settings) == last_states(by_hand(town, history, half))
    assert "clock_drift has version 2: status published -> retired" in log

    for fault in (
        "the key is b'others', not b'rules'",
        "voltage_loss: `proposed_by` does not say whose version 2 is",
        "clock_drift: version 2 is in force",
    ):
        assert fault in log


def test_new_worker_judges_by_the_published_rulebook(
    settings, environment, town, history, tmp_path
):
    publish(settings, town, history)  # creates the topics
    asyncio.run(rulebooks.send(settings, CHANGED_RULEBOOK))
    with WorkerProcess(environment, tmp_path / "log"):
        wait(lambda: all_checkpointed(settings))
    assert published_states(settings) == last_states(by_hand(town, history, 0))

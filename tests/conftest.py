"""Fixtures that several test modules share."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from streams.kafka.broker import Broker, BrokerUnavailableError
from streams.kafka.topics import ensure
from streams.settings import Settings, load

hypothesis.settings.register_profile("untimed", deadline=None)  # machines differ
hypothesis.settings.load_profile("untimed")
if "METERWATCH_FUZZ_SECONDS" not in os.environ:
    # Hypothesis mixes in constants of whatever modules the process has imported. Without
    # them the draws are the same in every process and checkout.
    providers._get_local_constants = providers.Constants  # type: ignore[attr-defined]
CASE_MODULES = ("test_cases", "test_rules")
LOGGER_NAMES = ("aiokafka", "faust", "kafka", "meterwatch", "mode")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Restores the loggers: a command that runs in the process of its test sets up the log of the whole process."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LOGGER_NAMES)]
    levels = [logger.level for logger in loggers]
    handlers = {handler: [*handler.filters] for handler in logging.getLogger().handlers}
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler, filters in handlers.items():
        handler.filters[:] = filters


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka for the session, started by the first test that needs it."""
    try:
        with Broker(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker
    except BrokerUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that a test may freeze and kill."""
    try:
        with Broker(tmp_path / "kafka") as broker:
            yield broker
            if broker.process is not None:
                broker.process.send_signal(signal.SIGCONT)
    except BrokerUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def environment(broker: Broker, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a worker: topics and a group of its own for each test."""
    name = re.sub(r"\W+", "-", request.node.name)
    return {
        "METERWATCH_BROKERS": broker.address,
        "METERWATCH_PREFIX": f"{name}.",
        "METERWATCH_GROUP": name,
        "METERWATCH_CLOCK": "stream",
        "METERWATCH_CHECKPOINT_SECONDS": "0.5",
        "METERWATCH_SESSION_SECONDS": "6",
        "METERWATCH_METRICS_PORT": "0",
        "METERWATCH_UNKNOWN_AREA": "judge",  # most tests send no master data
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings that a worker reads from this environment; the topics exist."""
    settings = load(environment)
    asyncio.run(ensure(settings))
    return settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need the broker, and puts those on a rule's cases together: one process runs the cases."""
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker("broker")
    items.sort(key=rule_of_cases)


def rule_of_cases(item: pytest.Item) -> str:
    """The rule whose cases a test is about; none of most tests."""
    if item.path.stem not in CASE_MODULES or not hasattr(item, "callspec"):
        return ""
    parameters = item.callspec.params
    rule = parameters.get("rule", parameters.get("name", ""))
    return rule if isinstance(rule, str) else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Fails a skipped test in CI."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI must not skip: {report.longreprtext}"
    return report

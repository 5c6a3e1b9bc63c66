"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from streams.broker import Broker, BrokerUnavailableError

hypothesis.settings.register_profile("untimed", deadline=None)  # machines differ
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka for the session, started by the first test that asks."""
    try:
        with Broker(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker
    except BrokerUnavailableError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be skipped."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI must not skip: {report.longreprtext}"
    return report

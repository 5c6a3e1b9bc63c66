"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from streams.broker import Broker, BrokerUnavailableError


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka for the session, started by the first test that asks."""
    try:
        with Broker(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker
    except BrokerUnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must not skip: {error}")
        pytest.skip(str(error))

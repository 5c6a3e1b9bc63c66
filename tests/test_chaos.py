"""Workers, their broker and local runs are killed under load; the alerts end the same as without."""

from __future__ import annotations

import os

import pytest

from streams.kafka.broker import Broker
from tests.chaos import ChaosRun, chaos_over_local_runs

KILL_COUNT = 12
seeded = pytest.mark.parametrize("seed", [int(os.environ.get("SEED") or 5)])


@pytest.mark.broker
@seeded
def test_chaos_under_workers_changes_nothing(tmp_path, seed):
    with Broker(tmp_path / "kafka") as broker:
        figures = ChaosRun(
            broker, tmp_path, seed=seed, kills=KILL_COUNT, areas=20
        ).run()
    assert figures.kills.total() >= KILL_COUNT
    assert figures.disturbances["broker killed and restarted (SIGKILL)"] == 2
    assert figures.expected > 300
    assert figures.disturbances["transactions aborted, and committed"] > 50
    assert (
        min(figures.rows[kind] for kind in ("readings", "events", "payments", "stages"))
        > 1000
    )
    assert figures.messages > figures.necessary, "nobody had to do anything again"


@seeded
def test_chaos_under_local_runs_changes_nothing(tmp_path, seed):
    figures = chaos_over_local_runs(tmp_path, seed=seed, kills=8, areas=20)
    assert figures.expected > 200

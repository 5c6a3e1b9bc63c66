"""The way from one number of partitions to another: an archive is sent to new topics, and the alerts are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streams.settings import Settings, load
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    published_states,
    wait,
)


def meterwatch(environment: dict[str, str], *words: str) -> None:
    """Runs a command as its user does."""
    subprocess.run(
        [sys.executable, "-m", "streams.cli", *words],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )


def test_twice_the_partitions_by_way_of_an_archive_give_the_same_alerts(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    meterwatch(environment, "send", "town:200x3")
    with WorkerProcess(environment, tmp_path / "before.log") as worker:
        wait(lambda: all_checkpointed(settings))
        assert worker.end() == 0

    archive = tmp_path / "archive"
    meterwatch(environment, "archive", "--once", str(archive))
    prefix = f"{settings.prefix}two."
    wider = environment | {
        "METERWATCH_PREFIX": prefix,
        "METERWATCH_PARTITIONS": str(2 * settings.partitions),
        "METERWATCH_GROUP": f"{settings.group}-two",
    }
    meterwatch(wider, "topics")
    meterwatch(wider, "send", str(archive))
    with WorkerProcess(wider, tmp_path / "after.log") as worker:
        wait(lambda: all_checkpointed(load(wider)))
        assert worker.end() == 0

    before = published_states(settings)
    assert len(before) > 5
    assert published_states(load(wider)) == before

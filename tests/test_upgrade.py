"""Today's worker and local runner continue from the state of an older commit."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from replay import layout
from replay.history import Source
from replay.send import send
from replay.simulation.town import Town
from schemas.columns import Batch, Readings
from streams.local.store import Store
from streams.settings import Settings
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    wait,
)

PROJECT_ROOT = Path(__file__).parents[1]
LATEST_COMMIT = "df15c20"  # the last commit whose state had no versions
EARLIER_COMMIT = (
    "b43326a"  # days without temperatures, and one feature with fewer columns
)
FIRST_COMMIT = "f4350d2"  # also without a backlog and two features, and with fewer levels of a rule
# after FIRST_COMMIT, among others
AFRESH_OWNERS = {
    "backlog",
    "days/Coupling",
    "days/FirstMonth",
}
# their scores have had another meaning since
RESTATED_RULES = {rule.name for rule in ALL_RULES.values() if rule.meaning > 1}
# these end later since
CALMED_RULES = {rule.name for rule in ALL_RULES.values() if rule.chronic} | {
    "unregistered_reverse"
}
# had 0 for unknown values; had 95 % also for stages that never end
REWORDED_RULES = {
    "read_date_wrong",
    "stage_stall",
}
TEXT_FIELDS = {"en", "zh", "evidence"}

Checkout = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A folder with the files of a commit."""

    def unpack(commit: str) -> Path:
        result = subprocess.run(
            ["git", "archive", commit],
            cwd=PROJECT_ROOT,
            capture_output=True,
            check=False,
        )
        if result.returncode:
            pytest.skip(
                f"the history has no commit {commit} here: {result.stderr.decode().strip()}"
            )
        folder = tmp_path_factory.mktemp(commit)
        with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
            archive.extractall(folder, filter="data")
        return folder

    return unpack


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(300, 4)


@pytest.fixture(scope="module")
def halves(town: Town) -> list[list[Batch]]:
    """Two halves of two days, without temperatures, which not every version on the wire knows."""
    batches = [
        replace(batch, temperature=np.full_like(batch.temperature, np.nan))
        if isinstance(batch, Readings)
        else batch
        for batch in town.batches()
    ]
    return [
        batches[start:end]
        for start, end in pairwise([0, len(batches) // 2, len(batches)])
    ]


@pytest.fixture(scope="module")
def expected(town: Town, halves: list[list[Batch]]) -> dict[str, dict[str, Any]]:
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    alerts = last_states(
        alert for half in halves for batch in half for alert in engine.step(batch)
    )
    assert len({alert["rule"] for alert in alerts.values()}) > 3
    return alerts


def without_restated(states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The alerts of rules with the same meaning, without their sentence if its wording has changed."""
    return {
        key: {
            name: value
            for name, value in alert.items()
            if alert["rule"] not in REWORDED_RULES or name not in TEXT_FIELDS
        }
        for key, alert in states.items()
        if alert["rule"] not in RESTATED_RULES | CALMED_RULES
    }


def new_names(checkout: Path) -> set[str]:
    """The rules and features of today that an older version does not have."""
    older = "\n".join(
        path.read_text("utf-8")
        for folder in ("detectors", "models")
        for path in (checkout / folder).rglob("*.py")
    )
    features = {
        type(feature).__name__
        for judge in Engine().judges.revisable.values()
        for feature in judge.live.features
    }
    rules = {rule for rule in ALL_RULES if f"def {rule}(" not in older}
    return rules | {name for name in features if f"class {name}" not in older}


def source(town: Town, batches: list[Batch]) -> Source:
    return Source(
        town.name,
        town.areas,
        iter(batches),
        sum(map(len, batches)),
        town.zone,
        town.interval,
    )


def publish(settings: Settings, town: Town, batches: list[Batch]) -> None:
    send(source(town, batches), settings.servers, "packed", prefix=settings.prefix)


@pytest.mark.parametrize("commit", [LATEST_COMMIT, EARLIER_COMMIT, FIRST_COMMIT])
def test_current_worker_continues_from_the_checkpoint_of_an_older_one(
    commit, checkout, settings, environment, town, halves, expected, tmp_path
):
    # unknown to older workers; the town sends its master data
    del environment["METERWATCH_UNKNOWN_AREA"]
    # None is killed, so none waits for the end of a session; on a busy machine a short one ends by itself.
    environment["METERWATCH_SESSION_SECONDS"] = "60"
    older = environment | {"PYTHONPATH": str(checkout(commit))}
    publish(settings, town, halves[0])
    with WorkerProcess(
        older, tmp_path / "older", "-P", "-m", "streams.cli", "worker"
    ) as worker:
        wait(lambda: all_checkpointed(settings))
        assert worker.end() == 0

    with WorkerProcess(environment, tmp_path / "today") as worker:
        wait(lambda: "holds partitions" in worker.log.read_text())
        publish(settings, town, halves[1])
        wait(lambda: all_checkpointed(settings))
        counted = worker.scrape().items()
        afresh = {
            labels[0]
            for (name, labels), n in counted
            if name == "meterwatch_state_reset_total" and n
        }
        assert worker.end() == 0

    if commit == FIRST_COMMIT:
        assert afresh >= AFRESH_OWNERS
        assert all(owner in (tmp_path / "today").read_text() for owner in afresh)
        return

    names = {name.rpartition("/")[2] for name in afresh}
    assert RESTATED_RULES <= names <= RESTATED_RULES | new_names(checkout(commit))
    assert without_restated(published_states(settings)) == without_restated(expected)


@pytest.mark.parametrize("commit", [LATEST_COMMIT, EARLIER_COMMIT, FIRST_COMMIT])
def test_current_local_runner_continues_from_the_store_of_an_older_one(
    commit, checkout, town, halves, expected, tmp_path
):
    for name, half in zip(("first", "second"), halves, strict=True):
        layout.write(tmp_path / name, town.areas, half)
    run = ["-P", "-m", "streams.cli", "run"]
    for name, path in (("first", checkout(commit)), ("second", PROJECT_ROOT)):
        words = [
            sys.executable,
            *run,
            str(tmp_path / name),
            "--store",
            str(tmp_path / "alerts.db"),
        ]
        env = os.environ | {"PYTHONPATH": str(path)}
        done = subprocess.run(
            words, env=env, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr

    with Store(tmp_path / "alerts.db") as store:
        alerts = last_states(store.alerts())
    if commit == FIRST_COMMIT:
        assert all(owner in done.stderr for owner in AFRESH_OWNERS)
        return

    afresh = re.search(r"afresh: ((?:\S+, )*\S+)", " ".join(done.stderr.split()))
    assert afresh is not None
    names = {name.rpartition("/")[2] for name in afresh[1].split(", ")}
    assert RESTATED_RULES <= names <= RESTATED_RULES | new_names(checkout(commit))
    assert without_restated(alerts) == without_restated(expected)

"""Any driver, the same answer: two workers on a real broker, replay over files, and the local runner."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from detectors.engine import Engine
from replay import layout
from replay.history import Source
from replay.send import Shape, send
from replay.sources import open_sources
from replay.town import Town
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from streams.local import Store, follow
from streams.settings import Settings, load
from streams.topics import ensure
from tests.storm import Fates, States, balanced, checkpointed, fates, hostile_areas, portions
from tests.workers import WorkerProcess, contained, last_states, told, wait

AS_IT_HAPPENED: Sequence[Sequence[type[Batch]]] = [(DeviceEvents, Payments, Stages, Readings)]
READS_FIRST = [(Readings,), (Payments,), (Stages,), (DeviceEvents,)]
EVENTS_FIRST_PAYMENTS_LAST = [(DeviceEvents,), (Stages,), (Readings,), (Payments,)]


class Outcome(NamedTuple):
    """What a driver ends with."""

    states: States
    fates: Fates


def replayed(source: Source) -> Outcome:
    engine = Engine(zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)
    return Outcome(last_states(alert for batch in source.batches for alert in engine.step(batch)), fates(engine))


def run_locally(source: Source, store: Path) -> Outcome:
    with Store(store) as kept:
        counts = follow(source, kept, source.name).counts
        states = last_states(kept.alerts())
    rows = {
        kind: Counter({o: sum(n.values()) for o, n in outcomes.items() if o not in ("doubted", "flagged")})
        for kind, outcomes in counts.items()
    }
    return Outcome(states, rows)


def opened(path: Path) -> Source:
    """A history as the commands open it, in the default zone where it does not say its own."""
    source = open_sources([path])
    return replace(source, zone=source.zone or Settings().zone, interval=source.interval or Settings().interval)


def hostile_source(seed: int = 5) -> Source:
    """What no file holds, for a file is in order: rows late, again and astray."""
    stream = hostile_areas(20, seed)
    batches = [batch for portion in portions(stream, 60) for batch in portion]
    return Source("hostile", stream.areas, iter(batches), len(stream.rows), stream.zone, stream.interval)


@pytest.fixture(scope="module")
def town_folder(tmp_path_factory) -> Path:
    """Two days of a town of nine areas: the meters with a planted fault and every twentieth other."""
    town = Town(1600, 2)
    planted = {fault.subject for fault in town.planted}
    kept = np.array([k % 20 == 0 or name in planted for k, name in enumerate(town.grid.names)])

    def batches() -> Iterator[Batch]:
        for batch in town.batches():
            yield batch.rows(kept[batch.subject]) if isinstance(batch, Readings) else batch

    folder = tmp_path_factory.mktemp("town")
    layout.write(folder, town.areas, batches())
    return folder


@pytest.fixture
def watched(environment, tmp_path) -> Iterator[Callable[[Source, Shape, Sequence[Sequence[type[Batch]]]], Outcome]]:
    """Has two workers watch a source, sent in a shape, some topics after others; returns what they end with."""
    with ExitStack() as workers:

        def watch(source: Source, shape: Shape, order: Sequence[Sequence[type[Batch]]]) -> Outcome:
            told_all = environment | {"METERWATCH_INTERVAL": str(source.interval)}
            settings = load(told_all)
            asyncio.run(ensure(settings))
            for name in ("one", "two"):
                workers.enter_context(WorkerProcess(told_all, tmp_path / name))
            batches = list(source.batches)
            for topics in order:
                some = [batch for batch in batches if isinstance(batch, tuple(topics))]
                send(replace(source, batches=iter(some)), settings.servers, shape, prefix=settings.prefix)
                wait(lambda: contained(settings))
            for name in ("one", "two"):
                assert "holds partitions [" in (tmp_path / name).read_text()
            return Outcome(told(settings), checkpointed(settings))

        yield watch


def agree(one: Outcome, other: Outcome) -> None:
    assert one.states.keys() == other.states.keys()
    assert [(one.states[k], other.states[k]) for k in one.states if one.states[k] != other.states[k]] == []
    balanced(one.fates)
    assert one.fates == other.fates


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ("single", AS_IT_HAPPENED),
        ("array", AS_IT_HAPPENED),
        ("packed", AS_IT_HAPPENED),
        ("array", EVENTS_FIRST_PAYMENTS_LAST),
        ("packed", READS_FIRST),
    ],
    ids=["single", "array", "packed", "array-events-first-payments-last", "packed-reads-first"],
)
def test_two_workers_end_with_what_replay_and_the_local_runner_end_with(watched, shape, order, tmp_path):
    expected = replayed(hostile_source())
    assert len(expected.states) > 150
    agree(run_locally(hostile_source(), tmp_path / "store.db"), expected)
    agree(watched(hostile_source(), shape, order), expected)


def test_files_of_all_kinds_end_the_same(watched, town_folder, tmp_path):
    expected = replayed(opened(town_folder))
    assert len({state["rule"] for state in expected.states.values()}) > 5
    agree(run_locally(opened(town_folder), tmp_path / "store.db"), expected)
    agree(watched(opened(town_folder), "packed", AS_IT_HAPPENED), expected)


def test_real_curves_end_the_same(watched, tmp_path):
    files = sorted((Path(__file__).parent / "data").glob("garden4_*"))
    expected = replayed(open_sources(files))
    assert expected.states
    agree(run_locally(open_sources(files), tmp_path / "store.db"), expected)
    agree(watched(open_sources(files), "array", AS_IT_HAPPENED), expected)

"""Every driver gives the same answer: two workers on a real broker, replay over files, and the local runner."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from detectors.engine import Engine
from replay import layout
from replay.history import Source
from replay.simulation.town import Town
from replay.sources import open_sources
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from schemas.master import Area
from schemas.wire import Shape
from streams.kafka.outbox import producer
from streams.kafka.topics import ensure
from streams.local.follow import follow
from streams.local.store import Store
from streams.settings import Settings, load
from tests.chaos import (
    States,
    adversarial_areas,
    checkpointed_outcomes,
    portions,
    publish,
    publish_areas,
)
from tests.outcomes import Outcomes, balanced, count_outcomes, order_independent
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    wait,
)

# topics after a tuple are sent when everything in it is judged
Order = Sequence[tuple[type[Batch], ...]]

ALL_AT_ONCE: Order = [(DeviceEvents, Payments, Stages, Readings)]
READS_FIRST: Order = [(Readings,), (Payments, Stages), (DeviceEvents,)]
EVENTS_FIRST_PAYMENTS_LAST: Order = [(DeviceEvents,), (Stages, Readings), (Payments,)]


@dataclass
class DriverHistory:
    """A history in portions, how it is judged, and the alerts of replay and the local runner."""

    portions: list[list[Batch]]
    areas: list[Area]
    interval: int
    states: States
    outcomes: Outcomes

    def judge_on_workers(
        self, environment: dict[str, str], folder: Path, shape: Shape, order: Order
    ) -> None:
        """Two workers judge it; fails, and says where, unless they end with the same alerts."""
        environment |= {
            "METERWATCH_INTERVAL": str(self.interval),
            "METERWATCH_SESSION_SECONDS": "60",
        }
        settings = load(environment)
        asyncio.run(ensure(settings))

        with (
            WorkerProcess(environment, folder / "one") as one,
            WorkerProcess(environment, folder / "two") as two,
        ):
            wait(
                lambda: all(
                    "holds partitions" in worker.log.read_text()
                    for worker in (one, two)
                )
            )
            asyncio.run(self._publish(settings, shape, order))
            agree(published_states(settings), checkpointed_outcomes(settings), self)

    async def _publish(self, settings: Settings, shape: Shape, order: Order) -> None:
        async with producer(settings) as client:
            await publish_areas(client, settings, self.areas)
            for batches in self.portions:
                for topics in order:
                    await publish(
                        client,
                        settings,
                        [batch for batch in batches if isinstance(batch, topics)],
                        shape,
                    )
                    await client.flush()
                    await asyncio.to_thread(wait, lambda: all_checkpointed(settings))


def history(sources: Sequence[Source], folder: Path) -> DriverHistory:
    """Replays sources one after the other, as the local runner does, and compares the two."""
    zone = sources[0].zone or Settings().zone
    interval = sources[0].interval or Settings().interval
    engine = Engine(zone=zone, interval=interval)
    engine.enroll(sources[0].areas)
    source_batches = [list(source.batches) for source in sources]
    states = last_states(
        alert
        for batches in source_batches
        for batch in batches
        for alert in engine.step(batch)
    )
    replayed = DriverHistory(
        source_batches, sources[0].areas, interval, states, count_outcomes(engine)
    )

    counted: Outcomes = {}
    with Store(folder / "local.db") as store:
        for n, batches in enumerate(source_batches):
            counts = follow(
                Source("", replayed.areas, iter(batches), 0, zone, interval),
                store,
                str(n),
            ).counts
            for kind, outcomes in counts.items():
                rows = {
                    outcome: sum(reasons.values())
                    for outcome, reasons in outcomes.items()
                    if outcome not in ("implausible", "flagged")
                }
                counted.setdefault(kind, Counter()).update(rows)

        agree(last_states(store.alerts()), counted, replayed)

    return replayed


def agree(states: States, rows: Outcomes, history: DriverHistory) -> None:
    assert states.keys() - history.states.keys() == set()
    assert history.states.keys() - states.keys() == set()
    assert [
        (state, history.states[k])
        for k, state in states.items()
        if state != history.states[k]
    ] == []
    balanced(rows)
    assert order_independent(rows) == order_independent(history.outcomes)


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory) -> DriverHistory:
    """Late, duplicate and out-of-order rows, which no file holds; in halves, within the grace period."""
    stream = adversarial_areas(12, seed=5)
    batches = list(portions(stream, 60))
    halves = [
        [batch for portion in half for batch in portion]
        for half in (batches[:30], batches[30:])
    ]
    sources = [
        Source("", stream.areas, iter(half), 0, stream.zone, stream.interval)
        for half in halves
    ]
    return history(sources, tmp_path_factory.mktemp("adversarial"))


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> DriverHistory:
    """Files of all kinds with three days of a town: the meters with a planted fault and every twentieth other."""
    town = Town(1000, 3)
    planted = {fault.subject for fault in town.planted}
    kept_meters = np.array(
        [k % 20 == 0 or name in planted for k, name in enumerate(town.grid.names)]
    )

    def batches() -> Iterator[Batch]:
        for batch in town.batches():
            yield (
                batch.select(kept_meters[batch.subject])
                if isinstance(batch, Readings)
                else batch
            )

    folder = tmp_path_factory.mktemp("town")
    layout.write(folder / "files", town.areas, batches())
    return history([open_sources([folder / "files"])], folder)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ("single", ALL_AT_ONCE),
        ("array", ALL_AT_ONCE),
        ("packed", ALL_AT_ONCE),
        ("array", EVENTS_FIRST_PAYMENTS_LAST),
        ("packed", READS_FIRST),
    ],
    ids=[
        "single",
        "array",
        "packed",
        "array-events-first-payments-last",
        "packed-reads-first",
    ],
)
def test_all_drivers_end_with_the_same_alerts(
    adversarial, environment, tmp_path, shape, order
):
    assert len(adversarial.states) > 150
    adversarial.judge_on_workers(environment, tmp_path, shape, order)


def test_drivers_agree_on_files_of_all_kinds(town, environment, tmp_path):
    assert len({state["rule"] for state in town.states.values()}) > 5
    town.judge_on_workers(environment, tmp_path, "packed", ALL_AT_ONCE)


def test_drivers_agree_on_real_curves(environment, tmp_path):
    curves = history(
        [open_sources(sorted((Path(__file__).parent / "data").glob("garden4_*")))],
        tmp_path,
    )
    assert curves.states
    curves.judge_on_workers(environment, tmp_path, "array", ALL_AT_ONCE)

"""`python -m bench.use_class` gives some customers of quiet towns a wrong use class, and prints which are found.

The model is learned from a town whose files are as wrong, and watches others, made with other seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from replay.history import Source
from replay.simulation.network import SEGMENT_NAMES
from replay.simulation.town import Town
from replay.use_class import Lesson, labelled_meters, learn
from schemas.alert import Alert
from schemas.master import Area
from schemas.use_class import UseClassModel

Wrong = dict[
    tuple[str, str], str
]  # by area and meter, the class it should be filed under


class _UseClassRun(NamedTuple):
    """One town, watched."""

    wrong: Wrong
    alerts: list[Alert]
    meters: int
    weeks: float


def _mislabelled(
    areas: list[Area], share: float, seed: int
) -> tuple[list[Area], Wrong]:
    """The areas with a share of their customers filed under another class, each class as likely."""
    rng, wrong = np.random.default_rng([seed, 8]), Wrong()
    changed = []
    for area in areas:
        meters = list(area.meters)
        for n, meter in enumerate(meters):
            if meter.meter != area.gateway and rng.random() < share:
                others = [name for name in SEGMENT_NAMES if name != meter.segment]
                wrong[area.area, meter.meter] = meter.segment
                meters[n] = msgspec.structs.replace(meter, segment=rng.choice(others))

        changed.append(msgspec.structs.replace(area, meters=meters))
    return changed, wrong


def _town_of(meters: int, days: int, seed: int, share: float) -> tuple[Source, Wrong]:
    """A quiet town's readings, and its files."""
    town = Town(meters, days, seed, faults=False)
    areas, wrong = _mislabelled(town.areas, share, seed)
    return replace(town.source(), areas=areas, batches=town.readings()), wrong


def _lesson(meters: int, days: int, seed: int, share: float) -> Lesson:
    """What is learned from a town."""
    return learn(labelled_meters(_town_of(meters, days, seed, share)[0]))


def _judge_town(
    model: UseClassModel, meters: int, days: int, seed: int, share: float
) -> _UseClassRun:
    """The alerts of another town."""
    source, wrong = _town_of(meters, days, seed, share)
    judged = replace(ALL_RULES["tariff_misuse"], status="published", model=model)
    engine = Engine([judged], zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)
    alerts = {
        alert.id: alert for batch in source.batches for alert in engine.step(batch)
    }
    return _UseClassRun(
        wrong,
        [alert for alert in alerts.values() if alert.state != "withdrawn"],
        meters,
        days / 7,
    )


def _page(learned: Lesson, runs: list[_UseClassRun]) -> Iterator[str]:
    """What was found, line by line."""
    yield f"model {learned.model.name}; log loss {learned.log_loss:.4f} on customers left out"
    found = [
        alert
        for run in runs
        for alert in run.alerts
        if (alert.area, alert.subject) in run.wrong
    ]
    others = [
        alert
        for run in runs
        for alert in run.alerts
        if (alert.area, alert.subject) not in run.wrong
    ]
    right = [
        alert
        for run in runs
        for alert in run.alerts
        if SEGMENT_NAMES[int(alert.evidence["other_class"])]
        == run.wrong.get((alert.area, alert.subject))
    ]
    wrong = sum(len(run.wrong) for run in runs)
    yield "| Under a wrong class | Found | With their true class | Others raised | Precision | Recall |"

    yield "|---|---|---|---|---|---|"
    precision = len(found) / max(len(found) + len(others), 1)
    yield f"| {wrong} | {len(found)} | {len(right)} | {len(others)} | {precision:.3f} | {len(found) / wrong:.3f} |"
    weeks = sum(run.meters * run.weeks for run in runs) / 10_000
    yield f"{len(others) / weeks:.2f} others in 10,000 meters and a week, of {weeks:.1f}"

    for true in SEGMENT_NAMES:
        mine = {
            key for run in runs for key, segment in run.wrong.items() if segment == true
        }
        found_of_class = sum(
            (alert.area, alert.subject) in run.wrong
            and run.wrong[alert.area, alert.subject] == true
            for run in runs
            for alert in run.alerts
        )
        yield f"{true}: {found_of_class} of {len(mine)} found"


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.use_class", description=__doc__
    )
    parser.add_argument("--meters", type=int, default=2400)
    parser.add_argument("--days", type=int, default=52)
    parser.add_argument("--seeds", type=int, default=2, help="towns that are watched")
    parser.add_argument(
        "--wrong", type=float, default=0.02, help="share of files that are wrong"
    )
    options = parser.parse_args()

    learned = _lesson(options.meters, options.days, 100, options.wrong)
    runs = [
        _judge_town(learned.model, options.meters, options.days, seed, options.wrong)
        for seed in range(1, options.seeds + 1)
    ]
    print("\n".join(_page(learned, runs)))


if __name__ == "__main__":
    main()

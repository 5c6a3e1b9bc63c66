"""Stages that were told as stalled against those that truly took longest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.work import WorkItem
from schemas.alert import Alert
from schemas.columns import Batch, StageProgress, Stages
from schemas.master import Area
from schemas.units import DAY_SECONDS

Stays = dict[tuple[str, str, str], WorkItem]  # by section, item and stage
LONGEST_SHARE = 0.05  # of a stage's stays


class StageStalls(NamedTuple):
    """What became of a stage's stays; one that is open counts until the history's end."""

    stage: str
    stays: int
    told: int
    longest: int  # stays among the longest 5 %
    found: int  # of the longest that were told
    days: float  # from the alert to the stay's end, in the middle, of those found


def compare(
    areas: Iterable[Area], batches: Iterable[Batch], zone: str
) -> list[StageStalls]:
    """Watch a history of work by stage_stall alone, and look back at its end."""
    engine = Engine([ALL_RULES["stage_stall"]], zone=zone)
    engine.enroll(areas)
    stays: Stays = defaultdict(WorkItem)
    alerts: dict[str, Alert] = {}
    end = 0
    for batch in batches:
        if isinstance(batch, Stages):
            end = max(end, int(batch.at.max()))
            _note(batch, stays)
            alerts |= {alert.id: alert for alert in engine.step(batch)}
    return _looked_back(stays, alerts.values(), end)


def _note(batch: Stages, stays: Stays) -> None:
    """Keep who entered and left which stage when."""
    for n in range(len(batch)):
        name, stage = batch.names[batch.subject[n]], batch.stages[batch.stage[n]]
        item, at = stays[batch.areas[batch.area[n]], name, stage], int(batch.at[n])
        if batch.progress[n] == StageProgress.STARTED:
            item.starts[at] = 0.0, False
        elif batch.progress[n] == StageProgress.FINISHED:
            item.ends.append(at)


def _looked_back(stays: Stays, alerts: Iterable[Alert], end: int) -> list[StageStalls]:
    """Every stage with what was told of it, the most told first."""
    raised: dict[tuple[str, str], list[int]] = defaultdict(list)
    for alert in alerts:
        if alert.state != "withdrawn":
            raised[alert.area, alert.subject].append(alert.raised)
    took: dict[str, list[tuple[int, int]]] = defaultdict(
        list
    )  # by stage: how long, and when it was told, 0 for never
    for (section, name, stage), item in stays.items():
        item.ends.sort()
        for visit in item.stays():
            done = min(visit.done, end)
            when = next(
                (
                    at
                    for at in raised.get((section, f"{name}/{stage}"), ())
                    if visit.start < at <= done
                ),
                0,
            )
            took[stage].append((done - visit.start, when - visit.start if when else 0))
    stages = []
    for stage, pairs in took.items():
        length, told = np.array(pairs).T
        longest = np.zeros(len(length), bool)
        longest[
            np.argsort(-length, kind="stable")[
                : max(round(LONGEST_SHARE * len(length)), 1)
            ]
        ] = True
        found = longest & (told > 0)
        days = (
            float(np.median((length - told)[found])) / DAY_SECONDS
            if found.any()
            else float("nan")
        )
        many, top, both = (
            int(np.count_nonzero(stays)) for stays in (told, longest, found)
        )
        stages.append(StageStalls(stage, len(length), many, top, both, days))
    return sorted(stages, key=lambda stage: (-stage.told, stage.stage))

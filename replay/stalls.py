"""Stages that raised a stall alert against the stages that truly took longest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.timelines.work_item import WorkItem
from schemas.alert import Alert
from schemas.columns import Batch, StageProgress, Stages
from schemas.master import Area
from schemas.units import DAY_SECONDS

Stays = dict[tuple[str, str, str], WorkItem]  # by section, item and stage
LONGEST_SHARE = 0.05  # of a stage's stays


class StageStalls(NamedTuple):
    """Counts of a stage's stays; an open stay counts until the history's end."""

    stage: str
    stays: int
    alerted: int  # stays that raised an alert
    longest: int  # stays among the longest 5 %
    found: int  # stays of the longest 5 % that raised an alert
    days: float  # from the alert to the stay's end, median of those found


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
    """Keep when each item entered and left each stage."""
    started = int(StageProgress.STARTED)
    finished = int(StageProgress.FINISHED)
    columns = (batch.area, batch.subject, batch.stage, batch.progress, batch.at)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for area, subject, stage, progress, at in rows:
        name = batch.names[subject]
        item = stays[batch.areas[area], name, batch.stages[stage]]
        if progress == started:
            item.starts[at] = 0.0, False
        elif progress == finished:
            item.ends.append(at)


def _looked_back(stays: Stays, alerts: Iterable[Alert], end: int) -> list[StageStalls]:
    """Every stage with its stays and alerts, the most alerts first."""
    raised: dict[tuple[str, str], list[int]] = defaultdict(list)
    for alert in alerts:
        if alert.state != "withdrawn":
            raised[alert.area, alert.subject].append(alert.raised)

    # by stage: how long a stay took, and after how long it was raised, 0 for never
    took: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (section, name, stage), item in stays.items():
        item.ends.sort()
        moments = raised.get((section, f"{name}/{stage}"), [])
        for stay in item.stays():
            done = min(stay.done, end)
            inside = (at - stay.start for at in moments if stay.start < at <= done)
            took[stage].append((done - stay.start, next(inside, 0)))

    stages = [_stage_stalls(stage, pairs) for stage, pairs in took.items()]
    return sorted(stages, key=lambda stage: (-stage.alerted, stage.stage))


def _stage_stalls(stage: str, pairs: list[tuple[int, int]]) -> StageStalls:
    """The counts of a stage from the seconds of its stays, and the seconds until their alerts."""
    length, alerted = np.array(pairs).T
    most = max(round(LONGEST_SHARE * len(length)), 1)
    longest = np.zeros(len(length), bool)
    by_length = np.argsort(-length, kind="stable")
    longest[by_length[:most]] = True
    found = longest & (alerted > 0)

    days = float("nan")
    if found.any():
        later = (length - alerted)[found]
        days = float(np.median(later)) / DAY_SECONDS
    return StageStalls(
        stage,
        len(length),
        int(np.count_nonzero(alerted)),
        int(np.count_nonzero(longest)),
        int(np.count_nonzero(found)),
        days,
    )

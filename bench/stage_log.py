"""A log of stays in stages: its rows, and its stays with limits that the log itself gives.

A stage's limit is the time in which 90 % of its stays of the first half year were done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.state.cells import Array, Columns
from replay.sources import open_sources
from schemas.columns import StageProgress, Stages
from schemas.units import DAY_SECONDS, HOUR_SECONDS, NEVER_TIME, WEEK_SECONDS

LIMIT_DAYS = 182  # at the beginning, whose stays set the limits
LIMIT_SHARE = 0.9  # of them, done within the limit
LEAST_STAYS = 50  # of them, for a limit
SHORTEST_LIMIT = 60  # s


class StageLog(NamedTuple):
    """The stays of a log, by column."""

    items: list[str]
    stages: list[str]
    start: Array
    done: Array  # NEVER_TIME while it is open
    limit: Array  # s, NaN where it has none
    facts: Columns
    end: int  # of the log


def read_rows(path: Path) -> tuple[Stages, str]:
    """The rows of a log, and its time zone."""
    source = open_sources([path])
    batches = [batch for batch in source.batches if isinstance(batch, Stages)]
    return _joined(batches), source.zone or "UTC"


def _joined(batches: Sequence[Stages]) -> Stages:
    """The batches of one source as one."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("subject", "area", "at", "stage", "progress", "limit")
    }
    return replace(batches[0], **columns)


def stays_of(rows: Stages) -> StageLog:
    """The stays of a log whose items are in one stage at a time."""
    items: list[str] = []
    stages: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    before: list[str] = []
    came_after: list[int] = []
    open_stays: dict[str, int] = {}
    for code, stage_code, progress, at in zip(
        rows.subject.tolist(),
        rows.stage.tolist(),
        rows.progress.tolist(),
        rows.at.tolist(),
        strict=True,
    ):
        item = rows.names[code]
        last = open_stays.get(item, -1)
        if progress == StageProgress.FINISHED:
            ends[last] = at
            continue
        open_stays[item] = len(items)
        before.append(stages[last] if last >= 0 else "")
        came_after.append(at - starts[last] if last >= 0 else 0)
        items.append(item)
        stages.append(rows.stages[stage_code])
        starts.append(at)
        ends.append(NEVER_TIME)

    facts = {
        "stage": _codes(stages),
        "previous": _codes(before),
        "came_after": np.array(came_after, float),
    }
    start, done = np.array(starts), np.array(ends)
    limit = _limits(stages, start, done)
    facts |= _deadline_facts(start + np.nan_to_num(limit))
    facts["backlog"] = _backlog(facts["stage"], start, done)
    return StageLog(items, stages, start, done, limit, facts, int(rows.at.max()))


def _codes(names: Sequence[str]) -> Array:
    """Names as numbers."""
    return np.unique(np.array(names), return_inverse=True)[1]


def _deadline_facts(deadline: Array) -> Columns:
    """Weekday and hour at which limits pass; the first of January 1970 was a Thursday."""
    weekday = (deadline // DAY_SECONDS + 3) % (WEEK_SECONDS // DAY_SECONDS)
    return {"weekday": weekday, "hour": deadline % DAY_SECONDS // HOUR_SECONDS}


def _limits(stages: Sequence[str], start: Array, done: Array) -> Array:
    """The limit of every stay by its stage; NaN where the first half year had too few stays."""
    limit = np.full(len(start), np.nan)
    names = np.array(stages)
    first = start < start.min() + LIMIT_DAYS * DAY_SECONDS
    for stage in Counter(stages):
        of_stage = names == stage
        ended = of_stage & first & (done < NEVER_TIME)
        if np.count_nonzero(ended) >= LEAST_STAYS:
            seconds = np.quantile((done - start)[ended], LIMIT_SHARE)
            limit[of_stage] = np.round(seconds)
    limit[limit < SHORTEST_LIMIT] = np.nan
    return limit


def _backlog(stage: Array, start: Array, done: Array) -> Array:
    """The open items of each stay's stage as it began."""
    backlog = np.zeros(len(start))
    for code in np.unique(stage).tolist():
        of_stage = stage == code
        begun = np.searchsorted(np.sort(start[of_stage]), start[of_stage])
        ended = np.searchsorted(np.sort(done[of_stage]), start[of_stage])
        backlog[of_stage] = begun - ended
    return backlog

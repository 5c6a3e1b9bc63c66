"""A workflow's event log: case_id, activity, timestamp and perhaps resource.

Each activity starts a stage, the next event of its case finishes it. An activity that is the last of its case more
often than not ends the case: it starts no stage, so that a case that is done is not overdue for ever.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from replay import tables
from replay.history import Names, Source, Tally, nothing_read, pieces
from schemas.columns import Codes, Progress, Stages, Times

SECTION = "workflow"
COLUMNS = ("case_id", "activity", "timestamp")


def recognises(columns: Collection[str]) -> bool:
    """Whether the columns are an event log's."""
    return set(COLUMNS) <= set(columns)


def open_files(paths: Sequence[Path], tally: Tally) -> Source:
    """The logs of all files as one history of stages, all of one section."""
    cases, activities = Names(), Names()
    parts = []
    for path in paths:
        sheet = tables.read(path, COLUMNS, tally)
        case, activity = sheet.ids("case_id", cases), sheet.ids("activity", activities)
        at, timed = sheet.times("timestamp")
        keep = sheet.keep(
            *sheet.id_faults("case_id", case),
            *sheet.id_faults("activity", activity),
            (~timed, sheet.no_time("timestamp"), "timestamp"),
        )
        parts.append((case[keep], activity[keep], at[keep]))
    case, activity, at = (np.concatenate(column) for column in zip(*parts, strict=True))
    name = " + ".join(path.name for path in paths)
    if not len(case):
        raise nothing_read(name, tally)
    stages = _stages(case, activity, at, cases.names, activities.names)
    return Source(name=name, areas=[], batches=pieces(stages), rows=len(stages), zone="UTC", tally=tally)


def _stages(case: Codes, activity: Codes, at: Times, cases: tuple[str, ...], activities: tuple[str, ...]) -> Stages:
    order = np.lexsort((np.arange(len(at)), at, case))
    case, activity, at = case[order], activity[order], at[order]
    last = np.append(np.diff(case) != 0, True)
    ends = np.bincount(activity[last], minlength=len(activities)) * 2 > np.bincount(activity, minlength=len(activities))
    starts = ~ends[activity]
    finishes = np.flatnonzero(starts & ~last)
    rows = np.concatenate([finishes, np.flatnonzero(starts)])
    when = np.concatenate([at[finishes + 1], at[starts]])
    progress = np.repeat([Progress.FINISHED, Progress.STARTED], [len(finishes), starts.sum()])
    order = np.lexsort((rows * 2 + progress, when))  # a stage finishes before the next one of its case starts
    rows = rows[order]
    return Stages.build(
        cases, case[rows], [SECTION], np.zeros(len(rows)), when[order],
        stages=activities, stage=activity[rows], progress=progress[order],
    )  # fmt: skip

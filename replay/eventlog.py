"""A workflow's event log: case_id, activity, timestamp and perhaps a deadline, by these names or by those of XES.

Each activity starts a stage, the next event of its case finishes it. An activity that is the last of its case more
often than not ends the case: it starts no stage, so that a case that is done is not overdue for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from replay import tables
from replay.history import Names, Source, Tally, nothing_read, split_batch
from schemas.columns import Codes, StageProgress, Stages, Times

SECTION_NAME = "workflow"
COLUMN_NAMES = {
    "case_id": ("case_id", "case:concept:name"),
    "activity": ("activity", "concept:name"),
    "timestamp": ("timestamp", "time:timestamp"),
}
DEADLINE_COLUMNS = (
    "deadline",
    "due",
    "due_date",
)  # when the activity should have ended


def recognises(columns: Collection[str]) -> bool:
    """Whether the columns are an event log's."""
    return all(set(names) & set(columns) for names in COLUMN_NAMES.values())


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The logs of all files as one history of stages, all of one section."""
    cases, activities = Names(), Names()
    parts = []
    for path in paths:
        columns = tables.columns(path)
        of_case, of_activity, of_time = (
            next(name for name in names if name in columns)
            for names in COLUMN_NAMES.values()
        )
        of_deadline = next((name for name in DEADLINE_COLUMNS if name in columns), "")
        sheet = tables.read(
            path,
            [name for name in (of_case, of_activity, of_time, of_deadline) if name],
            tally,
        )
        sheet = sheet.shortened(of_activity)
        case, activity = sheet.ids(of_case, cases), sheet.ids(of_activity, activities)
        at, timed = sheet.times(of_time)
        due = (
            sheet.times_or_none(of_deadline)
            if of_deadline
            else np.zeros(len(sheet), np.int64)
        )
        keep = sheet.keep(
            *sheet.id_faults(of_case, case),
            *sheet.id_faults(of_activity, activity),
            (~timed, sheet.no_time(of_time), of_time),
        )
        parts.append((case[keep], activity[keep], at[keep], due[keep]))
    case, activity, at, due = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    name = " + ".join(path.name for path in paths)
    if not len(case):
        raise nothing_read(name, tally)
    stages = _stages(case, activity, at, due, cases.names, activities.names)
    return Source(
        name=name,
        areas=[],
        batches=split_batch(stages),
        rows=len(stages),
        zone="UTC",
        tally=tally,
    )


def _stages(
    case: Codes,
    activity: Codes,
    at: Times,
    due: Times,
    cases: tuple[str, ...],
    activities: tuple[str, ...],
) -> Stages:
    order = np.lexsort((np.arange(len(at)), at, case))
    case, activity, at, due = case[order], activity[order], at[order], due[order]
    limit = np.where(due > at, (due - at).astype(np.float64), np.nan)
    last = np.append(np.diff(case) != 0, True)
    ends = np.bincount(activity[last], minlength=len(activities)) * 2 > np.bincount(
        activity, minlength=len(activities)
    )
    starts = ~ends[activity]
    finishes = np.flatnonzero(starts & ~last)
    rows = np.concatenate([finishes, np.flatnonzero(starts)])
    when = np.concatenate([at[finishes + 1], at[starts]])
    progress = np.repeat(
        [StageProgress.FINISHED, StageProgress.STARTED], [len(finishes), starts.sum()]
    )
    order = np.lexsort(
        (rows * 2 + progress, when)
    )  # a stage finishes before the next one of its case starts
    rows, progress = rows[order], progress[order]
    return Stages.build(
        cases,
        case[rows],
        [SECTION_NAME],
        np.zeros(len(rows)),
        when[order],
        stages=activities,
        stage=activity[rows],
        progress=progress,
        limit=np.where(progress == StageProgress.STARTED, limit[rows], np.nan),
    )

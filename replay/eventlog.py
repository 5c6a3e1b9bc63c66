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
DEADLINE_COLUMNS = ("deadline", "due", "due_date")  # of the activity


def recognises(columns: Collection[str]) -> bool:
    """True if the columns are an event log's."""
    return all(set(names) & set(columns) for names in COLUMN_NAMES.values())


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The logs of all files as one history of stages, all of one section."""
    cases = Names()
    activities = Names()
    logs = [_log(path, cases, activities, tally) for path in paths]
    case, activity, at, due = (
        np.concatenate(column) for column in zip(*logs, strict=True)
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


def _log(
    path: tables.File, cases: Names, activities: Names, tally: Tally
) -> tuple[Codes, Codes, Times, Times]:
    """Case, activity, time and deadline of each row of a file; 0 if there is no deadline."""
    columns = tables.columns(path)
    of_case, of_activity, of_time = (
        next(name for name in names if name in columns)
        for names in COLUMN_NAMES.values()
    )
    of_deadline = next((name for name in DEADLINE_COLUMNS if name in columns), "")
    names = [of_case, of_activity, of_time, of_deadline]
    sheet = tables.read(path, list(filter(None, names)), tally)

    sheet = sheet.shortened(of_activity)
    case = sheet.ids(of_case, cases)
    activity = sheet.ids(of_activity, activities)
    at, timed = sheet.times(of_time)
    due = np.zeros(len(sheet), np.int64)
    if of_deadline:
        due = sheet.times_or_none(of_deadline)
    keep = sheet.keep(
        *sheet.id_faults(of_case, case),
        *sheet.id_faults(of_activity, activity),
        (~timed, sheet.no_time(of_time), of_time),
    )
    return case[keep], activity[keep], at[keep], due[keep]


def _stages(
    case: Codes,
    activity: Codes,
    at: Times,
    due: Times,
    cases: tuple[str, ...],
    activities: tuple[str, ...],
) -> Stages:
    """The stages that a log's events start and finish, in order of time."""
    order = np.lexsort((np.arange(len(at)), at, case))
    case = case[order]
    activity = activity[order]
    at = at[order]
    due = due[order]
    allowed = (due - at).astype(np.float64)
    limit = np.where(due > at, allowed, np.nan)

    # an activity that is mostly the last of its case starts no stage
    last = np.append(np.diff(case) != 0, True)
    times_last = np.bincount(activity[last], minlength=len(activities))
    times = np.bincount(activity, minlength=len(activities))
    starts = ~(times_last * 2 > times)[activity]
    finishes = np.flatnonzero(starts & ~last)

    rows = np.concatenate([finishes, np.flatnonzero(starts)])
    when = np.concatenate([at[finishes + 1], at[starts]])
    progress = np.repeat(
        [StageProgress.FINISHED, StageProgress.STARTED], [len(finishes), starts.sum()]
    )
    # a stage finishes before the next one of its case starts
    order = np.lexsort((rows * 2 + progress, when))
    rows = rows[order]
    progress = progress[order]

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

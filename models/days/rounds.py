"""Which rows of a batch are judged and stored together, so that windows close on the right rows.

A window closes on exactly the rows that came before it was due. If a row of an area comes after its
window closed, or the area is unsettled, its rows come round by round, else all at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from models.days.schedule import DAYS_AT_ONCE, Schedule
from models.days.watermarks import WatermarkUpdate
from models.state.runs import runs, sizes_of
from schemas.columns import Codes, Mask, Times
from schemas.units import HOUR_SECONDS

Round = tuple[Codes, dict[int, int]]
"""Rows of a batch, and the watermarks that areas reach after them."""


def rounds_of(
    schedule: Schedule,
    update: WatermarkUpdate,
    areas: Codes,
    at: Times,
    unsettled: Collection[int],
) -> Iterator[Round]:
    """The rounds of a batch, in order."""
    order = update.order
    before = update.before
    after = update.after
    interval = schedule.interval
    slow = _slow_rows(interval, areas, at, before, unsettled)
    opens_interval = before // interval != after // interval
    moves = order[opens_interval[order]]
    if not slow.all():
        urgent = _urgent_moves(schedule, areas[moves], before[moves], after[moves])
        moves = moves[slow[moves] | urgent]

    rounds = _rounds_after(update, moves)
    due = _watermarks_by_round(rounds[moves], areas[moves], after[moves])
    if slow.any():
        rounds[~slow] = 0
        yield from _rows_by_round(rounds, due)
        return
    yield np.arange(len(at)), due[0] if due else {}
    for watermarks in due[1:]:
        yield order[:0], watermarks


def _slow_rows(
    interval: int,
    areas: Codes,
    at: Times,
    before: Times,
    unsettled: Collection[int],
) -> Mask:
    """True for rows of areas that are unsettled or have a row after its window closed."""
    closed_to = (before // interval - 1) * interval
    out_of_order = np.unique(areas[at <= closed_to])
    if len(out_of_order) or unsettled:
        return np.isin(areas, [*out_of_order.tolist(), *unsettled])
    return np.zeros(len(at), bool)


def _urgent_moves(
    schedule: Schedule,
    areas: Codes,
    before: Times,
    after: Times,
) -> Mask:
    """The moves of watermarks whose windows cannot wait for a later move of the same rows.

    These are an area's first and last move, its first move to another hour, in which rows that
    amend are judged again, and moves that close the last of a few days.
    """
    first = runs(areas)
    last = first[1:] - 1
    urgent = np.zeros(len(areas), bool)
    urgent[first] = True
    urgent[last] = True
    urgent[-1:] = True

    hours_before = schedule.closed_until(before) // HOUR_SECONDS
    hours_after = schedule.closed_until(after) // HOUR_SECONDS
    changes = np.flatnonzero(hours_after != hours_before)
    first_changes = runs(areas[changes])
    urgent[changes[first_changes]] = True

    groups = schedule.closed_days(areas, after) // DAYS_AT_ONCE
    urgent[runs(groups)] = True
    return urgent


def _rounds_after(update: WatermarkUpdate, moves: Codes) -> Codes:
    """The round of each row: how often the watermark of its area has moved before it."""
    order = update.order
    starts = update.starts
    rows = len(order)
    moved = np.zeros(rows, np.int64)
    moved[moves] = 1
    moved = moved[order]
    moves_before = np.cumsum(moved) - moved
    at_start = np.repeat(moves_before[starts], sizes_of(starts, rows))
    rounds = np.empty(rows, np.int64)
    rounds[order] = moves_before - at_start
    return rounds


def _watermarks_by_round(
    rounds: Codes,
    areas: Codes,
    watermarks: Times,
) -> list[dict[int, int]]:
    """The watermarks that areas reach in each round."""
    last_round = int(rounds.max(initial=-1))
    due: list[dict[int, int]] = [{} for _ in range(last_round + 1)]
    moves = np.array([rounds, areas, watermarks]).T
    for number, slot, watermark in moves.tolist():
        due[number][slot] = watermark
    return due


def _rows_by_round(rounds: Codes, due: Sequence[dict[int, int]]) -> Iterator[Round]:
    """The rows of each round, and the watermarks that areas reach in it."""
    order = np.argsort(rounds, kind="stable")
    last_round = int(rounds[order[-1]])
    count = max(last_round + 1, len(due))
    later_rounds = np.arange(1, count)
    starts = np.searchsorted(rounds[order], later_rounds)
    parts = np.split(order, starts)
    for n, rows in enumerate(parts):
        yield rows, due[n] if n < len(due) else {}

"""Where a meter lacks a reading, and how long the missing reading is awaited."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from detectors.reorder.row_log import RowLog
from models.master.registry import Registry
from models.state.cells import Cells, Columns
from models.state.index import Index
from models.state.runs import runs
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Codes, Column, Mask, Times

GAP_INTERVALS = 1.5  # of a meter: readings further apart have one missing between them
GAP_PATIENCE = 86_400  # s after a reading, within which a reading before it may come


class WaitingGaps:
    """The first gap of each meter that waits for a missing reading."""

    def __init__(self, index: Index, registry: Registry, interval: int) -> None:
        self._index = index
        self._registry = registry
        self._interval = interval

        # by meter: the time of the last reading before its first gap, 0 if its buffer is
        # closed; and its area
        self.starts = Cells(at=np.int64(0), area=np.int32(0))

    def widest(self, interval: Column) -> Column:
        """Seconds that may be between two readings if none is missing, by the intervals of meters."""
        return GAP_INTERVALS * np.fmax(interval, self._interval)

    def _widest_of(self, slots: Codes, at: Times) -> Column:
        """Seconds that may be between each reading and the one before it if none is missing."""
        meters = self._registry.meters
        rows = meters.rows_in_force(slots, at - 1)
        return self.widest(meters.column("interval_s", rows))

    def waiting(self, slots: Codes) -> Mask:
        """Which of `slots` have a gap."""
        return self.starts["at"][slots] > 0

    def after_gap(self, slots: Codes, at: Times) -> Mask:
        """Which rows come after the first gap of their meter."""
        since = self.starts["at"][slots]
        return (since > 0) & (at > since)

    def alerts_of_waiting(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts of meters with a gap."""
        since = self.starts["at"]
        return [
            alert
            for alert in alerts
            if since[self._index.slot(alert.area, alert.subject)] > 0
        ]

    def may_open(self, slots: Codes, at: Times, before: Times, in_order: Mask) -> Mask:
        """Which meters may get a gap by rows in order, by slot."""
        shortest = GAP_INTERVALS * self._interval
        follows = in_order & (before > 0)
        missing = follows & (at - before > shortest)

        opening = np.zeros(len(self._index), bool)
        opening[slots[missing]] = True
        return opening

    def opening(
        self, at: Times, slots: Codes, rows: Codes, before: Times, master: Columns
    ) -> tuple[Codes, Codes]:
        """The meters whose first gap is before one of `rows`, and each one's first row after it."""
        before = before[rows]
        slots = slots[rows]
        widest = self.widest(master["interval_s"][rows])
        missing = (before > 0) & (at[rows] - before > widest)
        opening = np.flatnonzero(missing & ~self.waiting(slots))
        if not len(opening):
            return opening, opening

        opened, places = np.unique(slots[opening], return_index=True)
        return opened, rows[opening[places]]

    def open(self, slots: Codes, areas: Codes, since: Times) -> None:
        """Note the first gap of meters, and the time of each one's last reading before it."""
        self.starts["at"][slots] = since
        self.starts["area"][slots] = areas

    def times_before(self, slots: Codes, at: Times) -> Times:
        """The time of the reading before each buffered row of its meter."""
        is_first = np.diff(slots, prepend=-1) != 0
        since = self.starts["at"][slots]
        last = np.concatenate([[0], at[:-1]])
        return np.where(is_first, since, last)

    def first_after(self, slots: Codes, log: RowLog, watermarks: Times) -> Times:
        """The time of each meter's first reading after a waiting gap; LATEST_TIME without a gap.

        `watermarks` are those of the meters' areas; `slots` are in ascending order.
        """
        row_slots, at = log.times(slots)
        gap = at - self.times_before(row_slots, at)
        missing = gap > self._widest_of(row_slots, at)
        places = np.searchsorted(slots, row_slots)
        waits = missing & (watermarks[places] <= at + GAP_PATIENCE)

        first_after = np.full(len(slots), LATEST_TIME)
        np.minimum.at(first_after, places[waits], at[waits])
        return first_after

    def awaited(
        self, log: RowLog, slots: Codes, at: Times, watermarks: Times
    ) -> list[int]:
        """Which late readings fill a gap that still waits, after the late readings before them."""
        buffers = self._buffered_times(log, slots)
        since = self.starts["at"][slots]
        widest = self._widest_of(slots, at)
        columns = (slots, at, since, watermarks, widest)
        rows = zip(*(column.tolist() for column in columns), strict=True)

        joined = []
        for n, (slot, time, start, watermark, width) in enumerate(rows):
            times, widths = buffers.get(slot, ([], []))
            place = bisect_left(times, time)
            if place == len(times) or times[place] == time:
                continue
            before = max(times[place - 1] if place else 0, start)
            is_gap = times[place] - before > widths[place]
            if is_gap and watermark <= times[place] + GAP_PATIENCE:
                times.insert(place, time)
                widths.insert(place, width)
                joined.append(n)
        return joined

    def _buffered_times(
        self, log: RowLog, slots: Codes
    ) -> dict[int, tuple[list[int], list[float]]]:
        """By meter, the times of its buffered readings and how wide no gap may be before each."""
        row_slots, times = log.times(np.unique(slots))
        widest = self._widest_of(row_slots, times)

        buffers: dict[int, tuple[list[int], list[float]]] = {}
        starts = runs(row_slots).tolist()
        for start, end in pairwise([*starts, len(row_slots)]):
            here = slice(start, end)
            slot = int(row_slots[start])
            buffers[slot] = times[here].tolist(), widest[here].tolist()
        return buffers


def rows_before_gap(opened: Codes, first: Codes, slots: Codes, rows: Codes) -> Mask:
    """Which rows arrive before the first row after a gap of their meter, if one opens."""
    row_slots = slots[rows]
    place = np.searchsorted(opened, row_slots)
    place = np.minimum(place, len(opened) - 1)
    opens = opened[place] == row_slots

    position = np.arange(len(rows))
    arrival = np.empty(len(slots), np.int64)
    arrival[rows] = position
    first_position = arrival[first]
    return opens & (position < first_position[place])

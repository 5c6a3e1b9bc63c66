"""How much of a batch a step can judge at a bounded cost."""

from __future__ import annotations

import numpy as np

from detectors.area_times import AreaTimes
from detectors.reorder.buffer import ReorderBuffer
from models.days.open_days import OpenDays
from models.master.registry import Registry
from schemas.columns import Batch, Codes, Column, Readings, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

SILENCE_SECONDS = DAY_SECONDS // 4  # of an area; then many days may fall due at once
STEP_DAYS = 2_000  # meter days that a step may close, about
AMENDED_ROWS = 30  # rows that cost as much to judge again as a day to close
UNPACKED_MEMBERS = 2  # members of a day that cost as much to unpack as a day to close


class StepCost:
    """The cost of what readings make due, in meter days to close."""

    def __init__(
        self,
        registry: Registry,
        open_days: OpenDays,
        reorder: ReorderBuffer,
        areas: AreaTimes,
    ) -> None:
        self._registry = registry
        self._open_days = open_days
        self._reorder = reorder
        self._areas = areas

    def affordable_rows(self, batch: Batch) -> int:
        """How many of a batch's first rows may be judged at once.

        They are few where silent areas have days to close, or where days have to be unpacked, as right after a
        restore. So the cost of a step is bounded by what falls due, like that of time that passes without rows.
        """
        if not isinstance(batch, Readings) or not len(batch):
            return len(batch)
        areas = self._areas.slots(batch)
        cost = np.zeros(len(batch))  # at the row that causes it
        first, days = self._closing(batch.at, areas)
        cost[first] = days
        unpacking, members = self._open_days.places.unpacking_rows(areas, batch.at)
        cost[unpacking] += members / UNPACKED_MEMBERS

        costly = np.flatnonzero(cost)
        affordable = np.searchsorted(np.cumsum(cost[costly]), STEP_DAYS, "right")
        reached = max(int(affordable), 1)
        return int(costly[reached]) if reached < len(costly) else len(batch)

    def _closing(self, at: Times, areas: Codes) -> tuple[Codes, Column]:
        """The rows that close days after a silence or let late rows be judged again, and the cost of each."""
        watermarks = self._areas.watermarks
        now = watermarks[areas]
        silence = np.where(now > 0, np.maximum(at - now, 0), 0)
        late_hours = self._reorder.late_hours(len(watermarks))[areas]
        is_due = (silence > SILENCE_SECONDS) | (at // HOUR_SECONDS > late_hours)
        due = np.flatnonzero(is_due)
        _, places, counts = np.unique(areas[due], return_index=True, return_counts=True)
        first = np.sort(due[places[counts > 1]])  # a single row moves no watermark

        silent = areas[first].tolist()
        pairs = self._areas.index.pairs
        known = self._registry.meter_index.known
        meters = [len(known.get(pairs[area][0], ())) for area in silent]
        amended = self._reorder.late_rows(silent) / AMENDED_ROWS
        return first, np.array(meters) * silence[first] / DAY_SECONDS + amended

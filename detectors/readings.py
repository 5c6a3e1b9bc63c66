"""Judges readings as they come, and closes the windows that they make due."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectors.area_times import AreaTimes
from detectors.buffered_clocks import ClockObservation
from detectors.outcomes import RowOutcomes
from detectors.reorder import ReorderBuffer
from detectors.windows import WindowJudges
from models.days.open_days import Facts, OpenDays, WatermarkUpdate, facts_of
from models.master.registry import Registry
from models.meters.basics import Columns
from schemas.alert import Alert
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    Codes,
    Column,
    Mask,
    Readings,
    Times,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS

FUTURE_TOLERANCE = 300  # s an event time may be ahead of its receipt, design section 4
SILENCE_SECONDS = DAY_SECONDS // 4  # of an area; then many days may fall due at once
STEP_DAYS = 2_000  # meter days that a step may close, about
AMENDED_ROWS = 30  # rows that cost as much to judge again as a day to close
UNPACKED_MEMBERS = 2  # members of a day that cost as much to unpack as a day to close


class ReadingRows(NamedTuple):
    """A batch of readings, and what the order of its rows says of each."""

    readings: Readings
    slots: Codes  # of meters
    areas: Codes
    update: WatermarkUpdate
    accepted: Mask
    in_order: Mask
    before: Times  # of the meter's reading in order before each row
    observation: ClockObservation
    master: Columns


class ReadingWatch:
    """The order of readings and their open days, and the judges of both."""

    def __init__(
        self,
        registry: Registry,
        open_days: OpenDays,
        reorder: ReorderBuffer,
        windows: WindowJudges,
        areas: AreaTimes,
        outcomes: RowOutcomes,
        interval: int,
    ) -> None:
        self._registry = registry
        self._open_days = open_days
        self._reorder = reorder
        self._validation = reorder.live
        self._windows = windows
        self._areas = areas
        self._outcomes = outcomes
        self._interval = interval

    def step(self, readings: Readings, areas: Codes) -> list[Alert]:
        """Validate, judge and store readings, and judge the windows that they make due."""
        rows = self._sequenced(readings, areas)
        with np.errstate(invalid="ignore", divide="ignore"):
            alerts, duplicate = self._judge(rows)

        watermarks = self._open_days.watermarks["watermark"]
        self._areas.watermarks[areas] = np.maximum(
            self._areas.watermarks[areas], watermarks[areas]
        )
        self._count(rows, duplicate)
        return alerts

    def pass_time(self, quiet_time: int, until: int) -> list[Alert]:
        """Judge what falls due in silent areas by `quiet_time`, on the way to `until`."""
        alerts = self._judge_late(dict.fromkeys(self._reorder.late, quiet_time))
        for window in self._open_days.tick(quiet_time, until):
            alerts += self._windows.push(window)
        return alerts + self._windows.flush()

    def rows_within_cost(self, readings: Readings, areas: Codes) -> int:
        """How many of a batch's first rows may be judged at once.

        They are few where silent areas have days to close, or where days have to be unpacked, as right after a
        restore. So the cost of a step is bounded by what falls due, like that of time that passes without rows.
        """
        cost = np.zeros(len(readings))  # in meter days, at the row that causes it
        first, days = self._closing_cost(readings.at, areas)
        cost[first] = days
        unpacking, members = self._open_days.unpacking_rows(areas, readings.at)
        cost[unpacking] += members / UNPACKED_MEMBERS

        costly = np.flatnonzero(cost)
        affordable = np.searchsorted(np.cumsum(cost[costly]), STEP_DAYS, "right")
        reached = max(int(affordable), 1)
        return int(costly[reached]) if reached < len(costly) else len(readings)

    def _closing_cost(self, at: Times, areas: Codes) -> tuple[Codes, Column]:
        """The rows that close days after a silence or judge late rows again, and the cost in meter days."""
        watermarks = self._areas.watermarks
        silence = np.where(
            watermarks[areas] > 0, np.maximum(at - watermarks[areas], 0), 0
        )
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

    def _sequenced(self, readings: Readings, areas: Codes) -> ReadingRows:
        """Readings with their place in the order of their meters and areas; advances the watermarks."""
        meters = self._registry.meter_index
        slots = meters.slots(readings)
        self._validation.order.reserve(len(meters))

        # which rows count
        at = readings.at
        future = (readings.received > 0) & (at > readings.received + FUTURE_TOLERANCE)
        odd = (at < EARLIEST_TIME) | (at >= LATEST_TIME)
        timely = ~(future | odd)
        update = self._open_days.advance_watermarks(areas, slots, at, timely)
        accepted = timely & ~update.late
        for reason, rows in (("future", future), ("implausible_time", odd & ~future)):
            if rows.any():
                self._outcomes.reject(readings, rows, reason)

        # the order of each meter's rows, and the error of its clock
        in_order, before, strayed = self._validation.order.sequence(
            slots, at, accepted, update.before
        )
        slow = self._validation.order.slow_clocks(
            slots, readings, update.late & (at < before)
        )
        observation = _clock_observations(
            readings,
            future | slow,
            strayed & ~update.lone_meter & in_order,
            in_order,
            update.before,
        )

        versions = self._registry.meters
        master = versions.columns_of(versions.rows_in_force(slots, at - 1))
        return ReadingRows(
            readings,
            slots,
            areas,
            update,
            accepted,
            in_order,
            before,
            observation,
            master,
        )

    def _judge(self, rows: ReadingRows) -> tuple[list[Alert], Mask]:
        """Judge and store rows and close windows, each in its turn; the alerts, and the duplicates."""
        readings = self._validation.bounds(rows.readings, rows.master, self._interval)
        facts = facts_of(readings, rows.master, self._interval)
        rows = rows._replace(readings=readings)
        unsettled = self._reorder.areas_with_late(
            rows.areas,
            rows.slots,
            readings.at,
            rows.before,
            rows.in_order,
            rows.accepted,
        )

        judged: list[Alert] = []
        closed: list[Alert] = []
        duplicate = np.zeros(len(readings), bool)
        for turn, ends in self._open_days.rows_until_due(
            rows.update, rows.areas, readings.at, unsettled
        ):
            alerts, validated = self._judge_rows(rows, turn, facts)
            judged += alerts
            stored = turn[rows.accepted[turn]]
            duplicate[stored] = self._store(rows, stored, validated)
            if unsettled:
                behind = stored[~(rows.in_order | duplicate)[stored]]
                self._add_late(rows, behind, validated)

            judged += self._judge_late(ends)
            for window in self._open_days.due(ends):
                closed += self._windows.push(window)
        closed += self._windows.flush()
        return judged + closed, duplicate

    def _judge_rows(
        self, rows: ReadingRows, turn: Codes, facts: Facts
    ) -> tuple[list[Alert], Facts]:
        """Judge some rows; the alerts, and the facts with these rows as validated."""
        return self._reorder.judge(
            rows.readings,
            rows.slots,
            rows.areas,
            turn,
            rows.in_order,
            rows.before,
            rows.master,
            facts,
            rows.observation,
        )

    def _store(self, rows: ReadingRows, stored: Codes, facts: Facts) -> Mask:
        """Store some rows in their open days; which of them are duplicates."""
        return self._open_days.store_rows(
            rows.areas,
            rows.readings.at,
            rows.update.before,
            rows.slots,
            facts,
            stored,
            rows.in_order,
        )

    def _add_late(self, rows: ReadingRows, behind: Codes, facts: Facts) -> None:
        """Let rows that are behind others of their meters be judged in order later."""
        self._reorder.add_late(
            rows.readings, rows.slots, rows.areas, rows.update.before, facts, behind
        )

    def _judge_late(self, watermarks: dict[int, int]) -> list[Alert]:
        """Judge late readings again, in areas whose watermarks have reached another hour."""
        meters = self._reorder.late_meters(watermarks)
        if not len(meters):
            return []

        areas = self._reorder.gap_starts["area"]
        alerts, corrected = self._reorder.judge_again(meters)
        self._open_days.correct(areas[corrected.meters], *corrected)
        reached = [watermarks[area] for area in areas[meters].tolist()]
        self._reorder.release(meters, np.array(reached, np.int64))
        return alerts

    def _count(self, rows: ReadingRows, duplicate: Mask) -> None:
        """Count the readings of a step by outcome, and its implausible values."""
        counts = self._outcomes.counts
        for outcome, mask in (("late", rows.update.late), ("duplicate", duplicate)):
            if count := int(np.count_nonzero(mask)):
                counts[Readings.kind, outcome, ""] += count
        for reason, count in self._validation.implausible.items():
            counts[Readings.kind, "implausible", reason] += count
        self._validation.implausible.clear()

        unjudged = int(np.count_nonzero(duplicate | ~rows.accepted))
        self._outcomes.count(rows.readings, "judged", len(rows.readings) - unjudged)


def _clock_observations(
    readings: Readings, off: Mask, strayed: Mask, in_order: Mask, watermarks: Times
) -> ClockObservation:
    """Errors of meters' clocks: against the receipt time if `off`, the watermark if `strayed`."""
    at = readings.at
    observed = off | strayed | (in_order & np.isfinite(readings.clock_offset))
    if not observed.any():
        return ClockObservation(observed, at, at, readings.clock_offset)

    reported = readings.clock_offset.astype(np.float64)
    offset = np.where(
        off, at - readings.received, np.where(strayed, at - watermarks, reported)
    )
    order_time = np.where(off, readings.received, at)
    observed_at = np.where(strayed & ~off, watermarks, order_time)
    return ClockObservation(observed, order_time, observed_at, offset)

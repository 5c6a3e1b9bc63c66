"""Judges readings as they come, and closes the windows that they make due."""

from __future__ import annotations

import numpy as np

from detectors.area_times import AreaTimes
from detectors.outcomes import RowOutcomes
from detectors.reorder.buffer import ReorderBuffer
from detectors.reorder.reading_batch import ClockObservation, ReadingBatch
from detectors.step_end import StepEnd
from detectors.windows import WindowJudges
from models.days.facts import Facts, facts_of
from models.days.open_days import OpenDays
from models.days.rounds import rounds_of
from models.master.registry import Registry
from models.meters.bounds import within_bounds
from schemas.alert import Alert
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    Codes,
    Mask,
    Readings,
    Times,
)
from schemas.units import HOUR_SECONDS

QUIET_DELAY = 2 * HOUR_SECONDS  # s of a silent area's watermark behind wall time
FUTURE_TOLERANCE = 300  # s an event time may be ahead of its receipt, design section 4


class ReadingWatch:
    """Judges readings in the order of their meters, and the windows that they make due."""

    def __init__(
        self,
        registry: Registry,
        open_days: OpenDays,
        reorder: ReorderBuffer,
        windows: WindowJudges,
        step_end: StepEnd,
        areas: AreaTimes,
        outcomes: RowOutcomes,
        interval: int,
    ) -> None:
        self._registry = registry
        self._open_days = open_days
        self._reorder = reorder
        self._validation = reorder.validation
        self._windows = windows
        self._step_end = step_end
        self._areas = areas
        self._outcomes = outcomes
        self._interval = interval

    def step(self, readings: Readings, areas: Codes) -> list[Alert]:
        """Validate, judge and store readings, judge the windows that they make due, and publish."""
        batch = self._sequenced(readings, areas)
        with np.errstate(invalid="ignore", divide="ignore"):
            alerts, duplicate = self._judge(batch)

        watermarks = self._open_days.reading_watermarks
        self._areas.watermarks[areas] = np.maximum(
            self._areas.watermarks[areas], watermarks[areas]
        )
        self._count(batch, duplicate)
        return self._step_end.publish(alerts)

    def portion(self, now: int) -> int:
        """How far time may pass towards `now` with at most a portion of days falling due."""
        return self._open_days.windows.portion(now - QUIET_DELAY) + QUIET_DELAY

    def pass_time(self, then: int, now: int) -> list[Alert]:
        """Judge, and do not yet publish, what falls due in silent areas by `then`, on the way to `now`."""
        quiet_time = then - QUIET_DELAY
        alerts = self._judge_late(dict.fromkeys(self._reorder.late, quiet_time))
        windows = self._open_days.windows
        for window in windows.tick(quiet_time, now - QUIET_DELAY):
            alerts += self._windows.push(window)
        return alerts + self._windows.flush()

    def _sequenced(self, readings: Readings, areas: Codes) -> ReadingBatch:
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
        return ReadingBatch(
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

    def _judge(self, batch: ReadingBatch) -> tuple[list[Alert], Mask]:
        """Judge and store rows and close windows, each in its turn; the alerts, and the duplicates."""
        implausible = self._validation.implausible
        readings = within_bounds(
            batch.readings, batch.master, self._interval, implausible
        )
        facts = facts_of(readings, batch.master, self._interval)
        batch = batch._replace(readings=readings)
        unsettled = self._reorder.areas_with_late(batch)

        judged: list[Alert] = []
        closed: list[Alert] = []
        duplicate = np.zeros(len(readings), bool)
        schedule = self._open_days.schedule
        for rows, ends in rounds_of(
            schedule, batch.update, batch.areas, readings.at, unsettled
        ):
            alerts, validated = self._reorder.judge(batch, rows, facts)
            judged += alerts
            stored = rows[batch.accepted[rows]]
            duplicate[stored] = self._store(batch, stored, validated)
            if unsettled:
                behind = stored[~(batch.in_order | duplicate)[stored]]
                self._reorder.add_late(batch, behind, validated)

            judged += self._judge_late(ends)
            for window in self._open_days.windows.due(ends):
                closed += self._windows.push(window)
        closed += self._windows.flush()
        return judged + closed, duplicate

    def _store(self, batch: ReadingBatch, stored: Codes, facts: Facts) -> Mask:
        """Store some rows in their open days; which of them are duplicates."""
        return self._open_days.store_rows(
            batch.areas,
            batch.readings.at,
            batch.update.before,
            batch.slots,
            facts,
            stored,
            batch.in_order,
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

    def _count(self, batch: ReadingBatch, duplicate: Mask) -> None:
        """Count the readings of a step by outcome, and its implausible values."""
        counts = self._outcomes.counts
        for outcome, mask in (("late", batch.update.late), ("duplicate", duplicate)):
            if count := int(np.count_nonzero(mask)):
                counts[Readings.kind, outcome, ""] += count
        for reason, count in self._validation.implausible.items():
            counts[Readings.kind, "implausible", reason] += count
        self._validation.implausible.clear()

        unjudged = int(np.count_nonzero(duplicate | ~batch.accepted))
        self._outcomes.count(batch.readings, "judged", len(batch.readings) - unjudged)


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

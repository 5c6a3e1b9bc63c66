"""How far each area's event time has come.

An area's watermark is the second-highest event time among its meters, so no single meter's clock
moves it. If only one meter has reported for two days of its time, its previous reading sets the
watermark.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.days.schedule import Schedule
from models.master.registry import Registry
from models.state.cells import Array, Cells
from models.state.runs import runs, sizes_of
from schemas.columns import Codes, Mask, Times
from schemas.units import DAY_SECONDS

# Seconds of one meter's time without a reading of another meter, after which it moves
# its area's watermark alone.
LONE_METER_SECONDS = 2 * DAY_SECONDS
TIME_BITS = 40  # of a time; the bits above hold a number


class WatermarkUpdate(NamedTuple):
    """A batch by area, with the watermark of each row's area before and after the row."""

    order: Codes  # rows by area, in order of arrival
    starts: Codes  # of each area's rows in `order`
    before: Times
    after: Times
    late: Mask  # its day is sealed, or older than the area's history
    lone_meter: Mask  # the row's own meter alone sets the watermark


class _AreaRuns:
    """Rows sorted by area, for running values that begin anew with each area."""

    def __init__(self, areas: Codes) -> None:
        self.starts = runs(areas)
        self.slots = areas[self.starts]
        self.sizes = sizes_of(self.starts, len(areas))
        self.ends = self.starts + self.sizes - 1
        self.first = self.by_row(self.starts)  # the first row of a row's area
        # Added to times, it lets one running maximum serve all areas.
        numbers = np.arange(len(self.starts))
        self._apart = self.by_row(numbers << TIME_BITS)

    def by_row(self, values: Array) -> Array:
        """The value of each row's area."""
        return np.repeat(values, self.sizes)

    def highest(self, times: Times, least: Times) -> Times:
        """The highest time up to each row of its area, and at least the area's `least`."""
        floored = np.maximum(times, self.by_row(least))
        highest = np.maximum.accumulate(floored + self._apart)
        return highest - self._apart

    def before(self, after: Array, first: Array) -> Array:
        """The value of the row before each row; of an area's first row, the area's `first`."""
        shifted = np.concatenate([after[:1], after[:-1]])
        shifted[self.starts] = first
        return shifted


class Watermarks(Cells):
    """The watermarks of areas, and how far their intervals and days are closed."""

    def __init__(self, registry: Registry, schedule: Schedule) -> None:
        super().__init__(
            highest=np.int64(0),  # highest event time
            holder=np.int32(-1),  # the meter with the highest event time
            watermark=np.int64(0),
            latest=np.int32(-1),  # the meter that read last
            since=np.int64(0),  # since when only that meter has read
            closed_to=np.int64(0),  # intervals that end by then are closed
            first_day=np.int32(0),  # the watermark's first day, 0 before
            last_day=np.int32(0),  # the last closed day
            sealed_day=np.int32(0),  # the last sealed day
        )
        self._registry = registry
        self._schedule = schedule

    def advance(
        self,
        areas: Codes,
        meters: Codes,
        at: Times,
        moves: Mask,
    ) -> WatermarkUpdate:
        """Advances the areas' watermarks by the rows of `moves`."""
        order = np.arange(len(at))
        if (areas[1:] < areas[:-1]).any():
            order = np.argsort(areas, kind="stable")
        self.reserve(int(areas.max(initial=-1)) + 1)

        before = self["watermark"][areas]
        first_days = self["first_day"][areas]
        after = before.copy()
        starts = runs(areas[order])
        lone_meter = np.zeros(len(at), bool)
        if moves.any():
            moving = moves[order]
            movers = order if moves.all() else order[moving]
            before[movers], after[movers], lone_meter[movers] = self._move(
                areas[movers], meters[movers], at[movers]
            )
            if len(movers) < len(at):
                _follow_movers(order, starts, moving, before, after)
            self._restart_histories(areas, order, before, after, first_days)

        late = moves & self._is_late(at, moves, before, first_days)
        return WatermarkUpdate(order, starts, before, after, late, lone_meter)

    def _is_late(
        self,
        at: Times,
        moves: Mask,
        watermarks: Times,
        first_days: Codes,
    ) -> Mask:
        """True for rows of `moves` whose day is sealed or older than the history of their area."""
        schedule = self._schedule
        days = schedule.days_of(at if moves.all() else np.where(moves, at, 0))
        ends = schedule.midnights[days + 1]
        sealed = ends + schedule.grace <= watermarks
        too_old = sealed | (days < first_days)
        return (watermarks > 0) & too_old

    def _move(
        self,
        areas: Codes,
        meters: Codes,
        at: Times,
    ) -> tuple[Times, Times, Mask]:
        """Moves watermarks by rows sorted by area: before and after each row, and lone meters."""
        by_area = _AreaRuns(areas)
        slots = by_area.slots
        first_highest = self["highest"][slots]
        first_holder = self["holder"][slots]
        first_watermark = self["watermark"][slots]

        # The highest event time of the area, and the meter that holds it.
        highest = by_area.highest(at, first_highest)
        highest_before = by_area.before(highest, first_highest)
        rises = np.where(at > highest_before, np.arange(len(at)), -1)
        latest_rise = np.maximum.accumulate(rises)
        holders = np.where(
            latest_rise >= by_area.first,
            meters[latest_rise],
            by_area.by_row(first_holder),
        )

        # A row of another meter than the holder raises the second-highest event time.
        lone_meter = self._lone_meters(by_area, areas, meters, at)
        others = by_area.before(holders, first_holder) != meters
        lower = np.minimum(at, highest_before)
        second = np.where(others | lone_meter, lower, 0)
        watermark = by_area.highest(second, first_watermark)

        self["highest"][slots] = highest[by_area.ends]
        self["holder"][slots] = holders[by_area.ends]
        self["watermark"][slots] = watermark[by_area.ends]
        return by_area.before(watermark, first_watermark), watermark, lone_meter

    def _lone_meters(
        self,
        by_area: _AreaRuns,
        areas: Codes,
        meters: Codes,
        at: Times,
    ) -> Mask:
        """True for rows whose meter is its area's only one, or alone for LONE_METER_SECONDS."""
        slots = by_area.slots
        begins = runs(areas, meters)
        sizes = sizes_of(begins, len(at))
        run = np.repeat(begins, sizes)
        since = at[run]

        # The meter that read last in the batch before goes on.
        goes_on = meters[by_area.starts] == self["latest"][slots]
        if goes_on.any():
            first_run = run == by_area.first
            continued = by_area.by_row(goes_on) & first_run
            since_before = by_area.by_row(self["since"][slots])
            since = np.where(continued, since_before, since)

        self["latest"][slots] = meters[by_area.ends]
        self["since"][slots] = since[by_area.ends]
        only_meter = by_area.by_row(self._registry.size(slots) == 1)
        return (at - since > LONE_METER_SECONDS) | only_meter

    def _restart_histories(
        self,
        areas: Codes,
        order: Codes,
        before: Times,
        after: Times,
        first_days: Codes,
    ) -> None:
        """Restarts the history of areas whose watermarks leap; later rows get the new first day."""
        leaps = after - before > self._schedule.grace
        for place in np.flatnonzero(leaps[order]).tolist():
            row = order[place]
            began = self._restart_history(areas[row], before[row], after[row])
            if began:
                later = order[place + 1 :]
                same_area = areas[later] == areas[row]
                first_days[later[same_area]] = began

    def _restart_history(self, slot: int, before: int, after: int) -> int:
        """The new first day of an area whose watermark leaps; 0 if its first day has closed.

        So a clock that is far behind, among the first two to report, does not stretch the history.
        """
        slots = np.array([slot])
        first_days = self["first_day"][slots]
        closing_times = self._schedule.closing_times(slots, first_days)
        if first_days[0] and before >= closing_times[0]:
            return 0

        first = int(self._schedule.days_of(np.array([after])).item())
        self["first_day"][slot] = first
        self["last_day"][slot] = first - 1
        self["sealed_day"][slot] = first - 1
        return first


def _follow_movers(
    order: Codes,
    starts: Codes,
    moving: Mask,
    before: Times,
    after: Times,
) -> None:
    """Gives rows that do not move a watermark where the last mover of their area left it.

    `moving` and `starts` are in `order`; watermarks `before` and `after` are by row.
    """
    places = np.arange(len(order))
    last_mover = np.where(moving, places, -1)
    last_mover = np.maximum.accumulate(last_mover)
    sizes = sizes_of(starts, len(order))
    first = np.repeat(starts, sizes)
    follows = ~moving & (last_mover >= first)
    rows = order[follows]
    movers = order[last_mover[follows]]
    before[rows] = after[rows] = after[movers]

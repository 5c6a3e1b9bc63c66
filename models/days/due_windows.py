"""Which windows fall due as watermarks advance: intervals, days, amendments and seals.

An interval closes one interval after its end, a day in its area's turn. Later rows amend a closed
window: it is judged again at the area's next full hour, until the grace period of its day is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np

from models.days.amendments import Amendments
from models.days.day_rows import DayRows
from models.days.intervals import NO_INTERVALS, AreaIntervals
from models.days.members import Members
from models.days.places import AreaDay, Places
from models.days.schedule import Schedule
from models.days.watermarks import Watermarks
from models.days.window_rows import WindowRows
from schemas.columns import Codes, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

SKIPPED_DAYS = 31  # silent days in a row that close as unread; older ones are skipped
PORTION_ROWS = 8192  # meters' days that are closed, amended or sealed together


class DueWindow(NamedTuple):
    """Windows of some areas that fall due together, with their rows as they stand now."""

    action: str  # interval, day, amend or seal
    areas: Codes
    intervals: AreaIntervals
    # A day of each area, or as many passes over the areas as the most open days need.
    days: list[DayRows]


class DueWindows:
    """Closes, amends and seals the windows of areas."""

    def __init__(
        self,
        schedule: Schedule,
        watermarks: Watermarks,
        members: Members,
        places: Places,
        amendments: Amendments,
        rows: WindowRows,
    ) -> None:
        self._schedule = schedule
        self._watermarks = watermarks
        self._members = members
        self._places = places
        self._amendments = amendments
        self._rows = rows

    def tick(self, now: int, until: int) -> Iterator[DueWindow]:
        """Advances watermarks to `now` on their way to `until`; the windows that fall due."""
        watermarks = self._watermarks["watermark"]
        slots = np.flatnonzero((watermarks > 0) & (watermarks < now))
        watermarks[slots] = now
        return self.due(dict.fromkeys(slots.tolist(), now), max(now, until))

    def portion(self, now: int) -> int:
        """How far watermarks may advance towards `now` with at most PORTION_ROWS days due."""
        watermarks = self._watermarks["watermark"]
        slots = np.flatnonzero((watermarks > 0) & (watermarks < now))
        if not len(slots):
            return now

        sizes = self._members.count(slots)
        due = self._next_due(slots, now)
        whole_days = PORTION_ROWS // max(2 * int(sizes.sum()), 1)
        if whole_days:
            until = int(due.min()) + whole_days * DAY_SECONDS
        else:
            order = np.argsort(due, kind="stable")
            rows = np.cumsum(np.tile(sizes, 2)[order])
            last = np.searchsorted(rows, PORTION_ROWS, side="right")
            until = int(due[order[last]])
        # A day closes when an interval has passed.
        interval = self._schedule.interval
        return min(ceil(until / interval) * interval, now)

    def _next_due(self, slots: Codes, now: int) -> Times:
        """The times at which each area's next day closes, then the times at which it seals."""
        schedule = self._schedule
        then = np.full(len(slots), now)
        last_closed = self._watermarks["last_day"][slots]
        unskipped = schedule.closed_days(slots, then) - SKIPPED_DAYS
        closing = np.maximum(last_closed, unskipped) + 1
        last_sealed = self._watermarks["sealed_day"][slots]
        unskipped = schedule.sealed_days(slots, then) - SKIPPED_DAYS
        sealing = np.maximum(last_sealed, unskipped) + 1
        return np.concatenate(
            [
                schedule.closing_times(slots, closing),
                schedule.sealing_times(slots, sealing),
            ]
        )

    def due(self, watermarks: dict[int, int], until: int) -> Iterator[DueWindow]:
        """The windows due as areas reach `watermarks`: intervals, days, amendments, seals.

        Days that would be skipped as the watermarks go on to `until` are skipped now.
        """
        if not watermarks:
            return
        slots = np.array(list(watermarks))
        reached = np.array(list(watermarks.values()))
        closed_to = self._watermarks["closed_to"]
        before = closed_to[slots]
        closed = self._schedule.closed_until(reached)
        advanced = closed > before
        if not advanced.all():
            slots, reached = slots[advanced], reached[advanced]
            before, closed = before[advanced], closed[advanced]

        closed_to[slots] = closed
        intervals = self._rows.intervals(slots, before, closed)
        if len(intervals.at):
            yield DueWindow("interval", slots, intervals, [])

        closed_days = self._schedule.closed_days(slots, reached)
        sealed_days = self._schedule.sealed_days(slots, reached)
        skipped_closed, skipped_sealed = closed_days, sealed_days
        if until:
            later = np.maximum(reached, until)
            skipped_closed = self._schedule.closed_days(slots, later)
            skipped_sealed = self._schedule.sealed_days(slots, later)

        # Areas with nothing to amend seal first, so that their peers' days are known.
        ready = np.flatnonzero(closed_days > self._watermarks["last_day"][slots])
        if len(ready):
            ready = ready[~self._amendments.unsettled(slots[ready])]
            yield from self._seal(
                slots[ready], sealed_days[ready], skipped_sealed[ready]
            )
        yield from self._close(slots, closed_days, skipped_closed)
        hourly = slots[before // HOUR_SECONDS != closed // HOUR_SECONDS]
        yield from self._amend(hourly[self._amendments.unsettled(hourly)])
        yield from self._seal(slots, sealed_days, skipped_sealed)

    def _day_portions(
        self, slots: Codes, first: Codes, last: Codes, days_at_once: int = 1
    ) -> Iterator[tuple[Codes, Codes]]:
        """Areas and their days from the first to the last, so many of each and a portion at once."""
        count = int((last - first).max(initial=-1)) + 1
        for start in range(0, count, days_at_once):
            steps = np.arange(start, min(start + days_at_once, count))[:, None]
            step, area = np.nonzero(first + steps <= last)
            days = first[area] + steps[step, 0]
            areas = slots[area]
            for portion in _portions(self._members.count(areas)):
                yield areas[portion], days[portion]

    def _close(
        self, slots: Codes, newest: Codes, skipped: Codes
    ) -> Iterator[DueWindow]:
        """Closes the days of areas up to the newest; days too far before `skipped` are skipped."""
        last_day = self._watermarks["last_day"]
        first = np.maximum(last_day[slots] + 1, skipped - SKIPPED_DAYS + 1)
        at_once = self._schedule.days_at_once
        for areas, days in self._day_portions(slots, first, newest, at_once):
            day_rows = self._rows.days(areas, days)
            yield DueWindow("day", areas, NO_INTERVALS, [day_rows])

            to_pack: list[AreaDay] = []
            for slot, day in zip(areas.tolist(), days.tolist(), strict=True):
                open_day = self._places.open_days[slot].get(day)
                if open_day is not None:
                    open_day.closed = True
                    if not open_day.packed:
                        to_pack.append((slot, day))
            self._places.pack(to_pack)
        last_day[slots] = np.maximum(last_day[slots], newest)

    def _amend(self, slots: Codes) -> Iterator[DueWindow]:
        """Judges the open windows of changed areas again; packs closed days again."""
        last_day = self._watermarks["last_day"][slots]
        days_open = last_day - self._watermarks["sealed_day"][slots]
        days_open = np.clip(days_open, 1, SKIPPED_DAYS)
        for portion in _portions(self._members.count(slots) * days_open):
            areas = slots[portion]
            changed = areas[self._amendments.changed(areas)]
            if len(changed):
                yield self._amended_windows(changed)
            self._amendments.settle(areas)
            self._places.pack_closed(areas)

    def _amended_windows(self, slots: Codes) -> DueWindow:
        """The windows of areas that are closed and not sealed, as they stand now."""
        last = self._watermarks["last_day"][slots].astype(np.int64)
        unsealed = self._watermarks["sealed_day"][slots] + 1
        first = np.maximum(unsealed, last - SKIPPED_DAYS + 1)
        always = np.zeros(len(slots), np.int64)
        closed_to = self._watermarks["closed_to"][slots]
        intervals = self._rows.intervals(slots, always, closed_to)
        day_rows = [
            self._rows.days(areas, days)
            for areas, days in self._day_portions(slots, first, last)
        ]
        return DueWindow("amend", slots, intervals, day_rows)

    def _seal(self, slots: Codes, newest: Codes, skipped: Codes) -> Iterator[DueWindow]:
        """Seals the closed days of areas up to the newest that can no longer change."""
        sealed_day = self._watermarks["sealed_day"]
        last = np.minimum(newest, self._watermarks["last_day"][slots])
        first = np.maximum(sealed_day[slots] + 1, skipped - SKIPPED_DAYS + 1)
        at_once = self._schedule.days_at_once
        for areas, days in self._day_portions(slots, first, last, at_once):
            intervals, day_rows = self._rows.sealed(areas, days)
            yield DueWindow("seal", areas, intervals, [day_rows])
            sealed_day[areas] = days

        for slot in slots[first <= last].tolist():
            open_days = self._places.open_days[slot]
            over = [day for day in open_days if day <= sealed_day[slot]]
            if over:
                self._places.drop(slot, over)


def _portions(sizes: Codes) -> Iterator[slice]:
    """Slices of areas with so many meters each; several areas hold at most PORTION_ROWS together.

    >>> list(_portions(np.array([PORTION_ROWS - 1, 1, 1])))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    ends = np.cumsum(sizes)
    start = rows_before = 0
    while start < len(sizes):
        fitting = np.searchsorted(ends, rows_before + PORTION_ROWS, side="right")
        end = max(int(fitting), start + 1)
        yield slice(start, end)
        start = end
        rows_before = int(ends[end - 1])

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
from models.days.schedule import DAYS_AT_ONCE, Schedule
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


class _NewestDays(NamedTuple):
    """The newest days of areas that are closed, and that are sealed."""

    closed: Codes
    sealed: Codes


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
        slots = self._areas_before(now)
        self._watermarks["watermark"][slots] = now
        return self.due(dict.fromkeys(slots.tolist(), now), max(now, until))

    def _areas_before(self, now: int) -> Codes:
        """The areas whose watermarks have not come as far as `now`."""
        watermarks = self._watermarks["watermark"]
        return np.flatnonzero((watermarks > 0) & (watermarks < now))

    def portion(self, now: int) -> int:
        """How far watermarks may advance towards `now` with at most PORTION_ROWS days due."""
        slots = self._areas_before(now)
        if not len(slots):
            return now

        sizes = self._members.count(slots)
        due = self._next_due(slots, now)
        rows_a_day = max(2 * int(sizes.sum()), 1)
        whole_days = PORTION_ROWS // rows_a_day
        if whole_days:
            until = int(due.min()) + whole_days * DAY_SECONDS
        else:
            order = np.argsort(due, kind="stable")
            rows = np.tile(sizes, 2)[order]
            rows_so_far = np.cumsum(rows)
            last = np.searchsorted(rows_so_far, PORTION_ROWS, side="right")
            until = int(due[order[last]])
        # A day closes when an interval has passed.
        interval = self._schedule.interval
        return min(ceil(until / interval) * interval, now)

    def _next_due(self, slots: Codes, now: int) -> Times:
        """The times at which each area's next day closes, then the times at which it seals."""
        schedule = self._schedule
        newest = self._newest_days(slots, np.full(len(slots), now))
        last_closed = self._watermarks["last_day"][slots]
        closing = 1 + np.maximum(last_closed, newest.closed - SKIPPED_DAYS)
        last_sealed = self._watermarks["sealed_day"][slots]
        sealing = 1 + np.maximum(last_sealed, newest.sealed - SKIPPED_DAYS)
        return np.concatenate(
            [
                schedule.closing_times(slots, closing),
                schedule.sealing_times(slots, sealing),
            ]
        )

    def due(self, watermarks: dict[int, int], until: int = 0) -> Iterator[DueWindow]:
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
            slots = slots[advanced]
            reached = reached[advanced]
            before = before[advanced]
            closed = closed[advanced]

        closed_to[slots] = closed
        intervals = self._rows.intervals(slots, before, closed)
        if len(intervals.at):
            yield DueWindow("interval", slots, intervals, [])

        newest = skipped = self._newest_days(slots, reached)
        if until:
            skipped = self._newest_days(slots, np.maximum(reached, until))

        yield from self._close(slots, newest.closed, skipped.closed)
        hour_closed = before // HOUR_SECONDS != closed // HOUR_SECONDS
        hourly = slots[hour_closed]
        unsettled = self._amendments.unsettled(hourly)
        yield from self._amend(hourly[unsettled])
        yield from self._seal(slots, newest.sealed, skipped.sealed)

    def _newest_days(self, slots: Codes, watermarks: Times) -> _NewestDays:
        """The newest days of areas that are closed and sealed at these watermarks."""
        return _NewestDays(
            self._schedule.closed_days(slots, watermarks),
            self._schedule.sealed_days(slots, watermarks),
        )

    def _day_portions(
        self,
        slots: Codes,
        first: Codes,
        last: Codes,
        days_at_once: int = 1,
    ) -> Iterator[tuple[Codes, Codes]]:
        """Areas and their days from the first to the last, so many of each and a portion at once."""
        counts = last - first + 1
        most = int(counts.max(initial=0))
        for start in range(0, most, days_at_once):
            end = min(start + days_at_once, most)
            steps = np.arange(start, end)
            step, area = np.nonzero(steps[:, None] < counts)
            days = first[area] + steps[step]
            areas = slots[area]
            for portion in _portions(self._members.count(areas)):
                yield areas[portion], days[portion]

    def _close(
        self,
        slots: Codes,
        newest: Codes,
        skipped: Codes,
    ) -> Iterator[DueWindow]:
        """Closes the days of areas up to the newest; days too far before `skipped` are skipped."""
        last_day = self._watermarks["last_day"]
        first = 1 + np.maximum(last_day[slots], skipped - SKIPPED_DAYS)
        for areas, days in self._day_portions(slots, first, newest, DAYS_AT_ONCE):
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
        sealed = self._watermarks["sealed_day"][slots]
        first = 1 + np.maximum(sealed, last - SKIPPED_DAYS)
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
        first = 1 + np.maximum(sealed_day[slots], skipped - SKIPPED_DAYS)
        for areas, days in self._day_portions(slots, first, last, DAYS_AT_ONCE):
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

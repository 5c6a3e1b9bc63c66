"""Judges windows that close, change or are sealed: intervals of areas, and days of areas and meters."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

import numpy as np

from detectors.area_times import AreaTimes
from detectors.outcomes import RowOutcomes
from detectors.pipelines import Judges
from detectors.revisable import JudgeInput
from models.days.day_rows import DayRows, joined_days
from models.days.due_windows import PORTION_ROWS, DueWindow
from models.master.audit import MasterDataAudit
from models.master.registry import Registry
from models.state.cells import Columns
from models.state.passes import unique_passes
from models.state.runs import whole_sums
from models.timelines.device_reports import Reports
from schemas.alert import Alert
from schemas.columns import AreaDays, Days, Intervals, MasterRecords, Readings
from schemas.units import DAY_SECONDS

# columns of meters' days, and the columns of their area's day that they repeat
BALANCE_COLUMNS = {
    "area_unusual_kwh": "unusual_kwh",
    "area_excess_kwh": "excess_kwh",
}


class PendingWindows:
    """Windows that are judged together: each area has one day of an action at most."""

    def __init__(self) -> None:
        self.windows: dict[str, list[DueWindow]] = {
            "interval": [],
            "day": [],
            "seal": [],
        }
        self._areas: dict[str, set[int]] = {name: set() for name in self.windows}
        self._rows = 0

    def admits(self, window: DueWindow) -> bool:
        """True if a window may be judged together with those before it."""
        if window.action == "amend":
            return False
        # a day is closed before it is sealed
        blocking = self._areas["day"] | self._areas[window.action]
        is_free = _areas_with_days(window).isdisjoint(blocking)
        return is_free and self._rows + _day_count(window) <= PORTION_ROWS

    def add(self, window: DueWindow) -> None:
        """Let a window wait."""
        self.windows[window.action].append(window)
        self._areas[window.action] |= _areas_with_days(window)
        self._rows += _day_count(window)


class WindowJudges:
    """The judges of intervals, area days, days and master data."""

    def __init__(
        self,
        judges: Judges,
        registry: Registry,
        areas: AreaTimes,
        reports: Reports,
        outcomes: RowOutcomes,
    ) -> None:
        self._intervals = judges.revisable["intervals"]
        self._area_days = judges.revisable["area_days"]
        self._days = judges.revisable["days"]
        self._master_records = judges.plain["master_records"]
        self._registry = registry
        self._audit = MasterDataAudit(registry)
        self._areas = areas
        self._reports = reports
        self._outcomes = outcomes
        self._pending = PendingWindows()

    def push(self, window: DueWindow) -> list[Alert]:
        """Let a window wait for others, or judge the waiting ones before it."""
        alerts: list[Alert] = []
        if not self._pending.admits(window):
            alerts += self.flush()
        if window.action == "amend":
            return alerts + self._amend(window)
        self._pending.add(window)
        return alerts

    def flush(self) -> list[Alert]:
        """Judge the windows that wait, seals first."""
        pending, self._pending = self._pending.windows, PendingWindows()
        if sealing := pending["seal"]:
            self._intervals.seal(*self._interval_rows(sealing))
            self._seal_days(self._without_lost(_days_of(sealing)))

        alerts: list[Alert] = []
        if closing := pending["interval"]:
            alerts += self._intervals.close(*self._interval_rows(closing))
        if closing := pending["day"]:
            days = _days_of(closing)
            if days.spikes:
                self._outcomes.counts["readings", "flagged", "spike"] += days.spikes
            alerts += self._close_days(self._without_lost(days))
        return alerts

    def _seal_days(self, days: DayRows) -> None:
        """Judge days for good."""
        if not len(days.areas):
            return
        self._area_days.seal(*self._area_day_rows(days))
        balance = self._area_days.final.feature_columns
        self._days.seal(*self._day_rows(days, balance))
        for area_days in days.unique_passes():
            self._reports.store_days(area_days)

    def _close_days(self, days: DayRows) -> list[Alert]:
        """Judge days first, with the master data as of their ends."""
        if not len(days.areas):
            return []
        alerts = self._area_days.close(*self._area_day_rows(days))
        balance = self._area_days.live.feature_columns
        self._outcomes.sections.note_days(days, balance)
        alerts += self._days.close(*self._day_rows(days, balance))
        alerts += self._master_records.judge(*self._record_rows(days))
        return sorted(alerts, key=attrgetter("at"))

    def _amend(self, window: DueWindow) -> list[Alert]:
        """Judge the open windows of the window's areas again."""
        kept = [self._without_lost(days) for days in window.days]
        all_days = [days for days in kept if len(days.areas)]
        balances: list[Columns] = []

        def area_day_inputs() -> Iterator[JudgeInput]:
            for days in all_days:
                yield self._area_day_rows(days)
                balances.append(self._area_days.live.feature_columns)

        areas = window.areas.astype(np.int64)
        alerts = self._intervals.amend(areas, [self._interval_rows([window])])
        alerts += self._area_days.amend(areas, area_day_inputs())

        no_meters = np.zeros(0, np.int64)
        meters = np.concatenate([no_meters, *(days.meters for days in all_days)])
        day_inputs = [
            self._day_rows(days, balance)
            for days, balance in zip(all_days, balances, strict=True)
        ]
        return alerts + self._days.amend(np.unique(meters).astype(np.int64), day_inputs)

    def _without_lost(self, days: DayRows) -> DayRows:
        """The days of areas that lost no readings in them."""
        holes = self._areas.holes
        if Readings.kind not in holes.spans:
            return days
        pairs = zip(days.areas.tolist(), days.ends.tolist(), strict=True)
        lost = [
            holes.touch(Readings.kind, area, end - DAY_SECONDS, end)
            for area, end in pairs
        ]
        return days.select(~np.array(lost, bool))

    def _interval_rows(self, windows: list[DueWindow]) -> JudgeInput:
        """The windows' rows of Intervals."""
        intervals = [window.intervals for window in windows]
        slots = np.concatenate([rows.areas for rows in intervals])
        at = np.concatenate([rows.at for rows in intervals])
        columns: Columns = {}
        for name in intervals[0].columns:
            column = np.concatenate([rows.columns[name] for rows in intervals], axis=-1)
            columns[name] = column.astype(np.float32)

        names, codes = self._areas.names(slots)
        no_subjects = np.zeros(len(slots), np.int32)
        batch = Intervals(("",), no_subjects, names, codes, at, **columns)
        return JudgeInput(batch, slots)

    def _area_day_rows(self, days: DayRows) -> JudgeInput:
        """Rows of AreaDays."""
        names, codes = self._areas.names(days.areas)
        batch = AreaDays.build(
            ("",), np.zeros(len(codes)), names, codes, days.ends, **days.totals
        )
        passes = list(unique_passes(days.areas))
        return JudgeInput(batch, days.areas, passes=passes)

    def _day_rows(self, days: DayRows, balance: Columns) -> JudgeInput:
        """Rows of Days, with the master data and their areas' balances."""
        slots = days.meters.astype(np.int64)
        at = np.repeat(days.ends, days.sizes)
        names, codes = self._areas.names(days.areas)
        batch = Days.build(
            ("",),
            np.zeros(len(slots)),
            names,
            np.repeat(codes, days.sizes),
            at,
            **days.columns,
        )

        more = {
            name: np.repeat(balance[of_area], days.sizes)
            for name, of_area in BALANCE_COLUMNS.items()
        }
        area_reads = whole_sums(days.columns["reads"] > 0, days.sizes)
        more["area_reads"] = np.repeat(area_reads, days.sizes)
        more["connected_days"] = self._registry.connected_days(slots, at)
        columns = self._registry.enrich(slots, batch) | more
        return JudgeInput(batch, slots, columns, days.unique_pass_rows())

    def _record_rows(self, days: DayRows) -> JudgeInput:
        """The master data of the days' areas as of the end of each day."""
        names, codes = self._areas.names(days.areas)
        sizes, slots, columns = self._audit.records(
            [names[code] for code in codes.tolist()], days.ends
        )
        batch = MasterRecords.build(
            ("",),
            np.zeros(len(slots)),
            names,
            np.repeat(codes, sizes),
            np.repeat(days.ends, sizes),
            **columns,
        )
        return JudgeInput(batch, slots)


def _areas_with_days(window: DueWindow) -> set[int]:
    """The areas of which a window has a day."""
    return set(window.areas.tolist()) if window.days else set()


def _day_count(window: DueWindow) -> int:
    """How many days of meters a window has."""
    return sum(len(day.meters) for day in window.days)


def _days_of(windows: list[DueWindow]) -> DayRows:
    """The days of some windows."""
    return joined_days([day for window in windows for day in window.days])

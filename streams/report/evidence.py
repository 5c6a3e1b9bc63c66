"""The rows around alerts, and the pictures that their rules draw from them.

A second reading of the history keeps only the rows of the subjects that are shown; of an archive only these are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detectors.curves.contract import (
    DRAWN_COLUMNS,
    Curve,
    Near,
    OfficeTimeline,
    TimelineChart,
)
from detectors.curves.names import shown_name
from detectors.rule import Rule
from models.master.calendar import day_of, midnights
from models.state.runs import grouped
from replay.archive.selection import ArchivedRows, WantedRows
from schemas.alert import Alert
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    AreaDays,
    Batch,
    Column,
    Days,
    Mask,
    Names,
    Payments,
    Readings,
    Stages,
)
from schemas.units import DAY_SECONDS
from streams.report.subjects import JudgedBy, Subjects

Columns = dict[str, Column]


@dataclass(frozen=True)
class CurveChart:
    """Values over time, and the limit lines they were judged by."""

    unit: str
    at: Column  # Unix seconds; the middle of the day when daily
    series: Mapping[str, Column]
    lines: Mapping[str, float] = field(default_factory=dict)
    daily: bool = False


class Evidence:
    """Keeps the rows that the pictures of the given alerts need."""

    def __init__(self, alerts: Iterable[Alert], judged_by: JudgedBy) -> None:
        alerts = list(alerts)
        self._rules = {rule.name: rule for rule in judged_by.rules}
        self._zone = judged_by.zone
        self._subjects = Subjects(alerts, judged_by)

        # What is shown: meters, whole areas, and rows of the office by kind and area.
        self._meters: dict[tuple[str, str], tuple[int, int]] = {}  # with their spans
        self._balanced: set[str] = set()
        self._offices: dict[type[Batch], set[str]] = defaultdict(set)
        self._reading_columns = {"at", "kwh"}
        for alert in alerts:
            curve = self._rules[alert.rule].curve
            if isinstance(curve, OfficeTimeline):
                self._offices[curve.kind].add(alert.area)
            elif curve is None or not self._subjects.is_known(alert):
                continue
            elif curve.kind is AreaDays:
                self._balanced.add(alert.area)
            else:
                self._widen(self._subjects.meter(alert), curve.near, alert)
                self._reading_columns |= {*curve.reads} & DRAWN_COLUMNS[Readings]

        self._names: Names = ()  # of the latest readings
        self._is_shown: Mask = np.zeros(0, bool)  # by name
        self._readings: dict[tuple[str, str], list[Columns]] = defaultdict(list)
        # kWh in and out by area and day
        self._energy: dict[str, dict[int, Column]] = defaultdict(dict)
        self._office_rows: dict[type[Batch], list[Batch]] = defaultdict(list)

    def wanted(self) -> list[WantedRows]:
        """The rows that the pictures need, each once."""
        columns = frozenset(self._reading_columns - {"at"})
        areas = [WantedRows(Readings, area, columns=columns) for area in self._balanced]
        meters = [
            WantedRows(Readings, area, meter, *span, columns)
            for (area, meter), span in self._meters.items()
            if area not in self._balanced
        ]
        office = [
            WantedRows(kind, area)
            for kind, names in self._offices.items()
            for area in names
        ]
        return sorted([*areas, *meters, *office], key=lambda wish: wish[1:3])

    def _widen(self, meter: tuple[str, str], near: Near, alert: Alert) -> None:
        """Makes a meter's span of time reach around an alert."""
        since = max(alert.since - near.before, EARLIEST_TIME)
        until = min(alert.raised + near.after, LATEST_TIME - 1)
        known = self._meters.get(meter, (LATEST_TIME, EARLIEST_TIME))
        self._meters[meter] = min(known[0], int(since)), max(known[1], int(until))

    def collect(self, batch: Batch) -> None:
        """Keeps the rows of a batch that are needed."""
        if isinstance(batch, Readings):
            self._keep_readings(batch)
            if self._balanced:
                self._balance(batch.select(_in_areas(batch, self._balanced)))
        elif isinstance(batch, Payments | Stages):
            shown = _in_areas(batch, self._offices[type(batch)])
            if shown.any():
                self._office_rows[type(batch)].append(batch.select(shown))

    def _keep_readings(self, batch: Readings) -> None:
        """Keeps the readings of the meters that are shown."""
        if batch.names is not self._names:
            self._names = batch.names
            shown_names = {name for _, name in self._meters}
            self._is_shown = np.array(
                [name in shown_names for name in batch.names], bool
            )

        shown = batch.select(self._is_shown[batch.subject])
        # An id may stand in more than one area.
        meters = shown.area.astype(np.int64) * len(batch.names) + shown.subject
        for code, rows in grouped(meters):
            area, subject = divmod(code, len(batch.names))
            meter = batch.areas[area], batch.names[subject]
            if meter in self._meters:
                columns = {
                    name: getattr(shown, name)[..., rows].astype(np.float64)
                    for name in self._reading_columns
                }
                self._readings[meter].append(columns)

    def _balance(self, batch: Readings) -> None:
        """Adds the primary energy of whole areas to their days."""
        energy, is_gateway = self._subjects.energy(batch)
        days = day_of(batch.at, self._zone)

        for area, rows in grouped(batch.area):
            by_day = self._energy[batch.areas[area]]
            for day, places in grouped(days[rows]):
                day_rows = rows[places]
                energy_in = energy[day_rows][is_gateway[day_rows]].sum()
                energy_out = energy[day_rows].sum() - energy_in
                balance = by_day.setdefault(day, np.zeros(2))
                balance += energy_in, energy_out

    def gather(self, history: Iterable[Batch] | ArchivedRows) -> None:
        """Keeps the rows that are needed of a history; of an archive only these are read."""
        if isinstance(history, ArchivedRows):
            history = history.batches(self.wanted())
        for batch in history:
            self.collect(batch)

    def settings(self, alert: Alert, rule: Rule) -> dict[str, float]:
        """The settings of a rule in force for an alert's subject; none if its area has no record."""
        if rule.kind.segments and not self._subjects.is_known(alert):
            return {}
        return self._subjects.settings(alert, rule)

    def picture(
        self, alert: Alert, rule: Rule | None = None, *, chinese: bool = False
    ) -> CurveChart | TimelineChart | None:
        """The values the alert was judged on; None if none were kept.

        The limits are those of its rule, or of the given one, which another rule set has.
        """
        rule = rule or self._rules[alert.rule]
        if isinstance(rule.curve, OfficeTimeline):
            return self._timeline(rule.curve, alert)
        if rule.curve is None or not self._subjects.is_known(alert):
            return None
        columns = self._columns_near(rule.curve, alert)
        if not len(columns["at"]):
            return None

        values = columns | self._subjects.master(alert)
        drawn = rule.curve.drawn(values, self._subjects.settings(alert, rule))
        if not any(np.isfinite(series).any() for series in drawn.series.values()):
            return None
        series = {
            shown_name(name, chinese=chinese): values
            for name, values in drawn.series.items()
        }
        lines = {
            shown_name(name, chinese=chinese): float(level)
            for name, level in drawn.lines.items()
            if np.isfinite(level)
        }
        unit = shown_name(rule.curve.unit, chinese=chinese)
        is_daily = rule.curve.kind is not Readings
        return CurveChart(unit, columns["at"], series, lines, daily=is_daily)

    def _timeline(self, timeline: OfficeTimeline, alert: Alert) -> TimelineChart:
        """The timeline of an alert, from the rows of its area."""
        batches = self._office_rows[timeline.kind]
        if not batches:
            return TimelineChart()
        rows = timeline.kind.join(batches)
        in_area = rows.select(_in_areas(rows, {alert.area}))
        return timeline.draw(in_area, alert.subject)

    def _columns_near(self, curve: Curve, alert: Alert) -> Columns:
        """The rows near an alert, of the kind that a curve is drawn from."""
        if curve.kind is AreaDays:
            return self._area_days(alert.area)
        batches = self._readings[self._subjects.meter(alert)]
        if not batches:
            return {"at": np.zeros(0)}
        columns = {
            name: np.concatenate([batch[name] for batch in batches], axis=-1)
            for name in self._reading_columns
        }

        at = columns["at"]
        first = alert.since - curve.near.before
        if curve.kind is Days:
            first = self._day_start(first)
        last = alert.raised + curve.near.after
        near = (at > first) & (at <= last)
        rows = {name: column[..., near] for name, column in columns.items()}
        return self._days(rows, alert.raised) if curve.kind is Days else rows

    def _day_start(self, at: float) -> int:
        """The beginning of the local day that begins next to a time; a reading at it belongs to the day before."""
        middle = np.array([max(at, EARLIEST_TIME) + DAY_SECONDS // 2], np.int64)
        return int(midnights(self._zone)[day_of(middle, self._zone)[0]])

    def _days(self, rows: Columns, raised: int) -> Columns:
        """The local days of readings, up to the day of the alert at least."""
        row_days = day_of(rows["at"].astype(np.int64), self._zone)
        raised_day = int(day_of(np.array([raised]), self._zone)[0])
        last = max(int(row_days.max(initial=0)), raised_day)
        days = np.arange(row_days.min(initial=last), last + 1)
        places = row_days - days[0]
        energy = np.nan_to_num(rows["kwh"])
        return {
            "at": _middles(days, self._zone),
            "kwh": np.bincount(places, energy, len(days)).astype(np.float64),
            "reads": np.bincount(places, minlength=len(days)).astype(np.float64),
        }

    def _area_days(self, area: str) -> Columns:
        """The days of an area with its energy."""
        by_day = self._energy[area]
        days = np.array(sorted(by_day), np.int64)
        energy = np.array([by_day[day] for day in days.tolist()]).reshape(-1, 2)
        return {
            "at": _middles(days, self._zone),
            "energy_in": energy[:, 0],
            "energy_out": energy[:, 1],
        }


def _in_areas(batch: Batch, areas: set[str]) -> Mask:
    """The rows of a batch that are of some areas."""
    is_wanted = np.array([name in areas for name in batch.areas], bool)
    return is_wanted[batch.area]


def _middles(days: NDArray[np.int64], zone: str) -> Column:
    """Unix seconds in the middle of local days."""
    starts = midnights(zone)
    return (starts[days] + starts[days + 1]) / 2

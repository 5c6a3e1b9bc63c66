"""Curves around alerts: the values an alert was judged on, and the lines it was judged by.

A second reading of the history keeps only the rows of the subjects that are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.rule import ALL_RULES
from models.master.calendar import day_of, midnights
from schemas.alert import Alert
from schemas.columns import (
    PHASE_NAMES,
    Batch,
    Flag,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
)
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS

LOSS_RULE = "area_loss_high"
MONEY_KINDS = {"payments", "attempts", "invoices", "transfers"}  # kinds of alerts
WORK_KINDS = {"overdue", "traces"}  # kinds of alerts
READING_COLUMNS = (
    "at",
    "register",
    "kwh",
    "u",
    "i",
    "p",
    "q",
    "neutral",
    "terminal_p",
    "flags",
    "clock_offset",
)
Numbers = NDArray[np.float64]
NamedValues = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """Values over time, and the limit lines they were judged by."""

    unit: str
    at: Numbers  # Unix seconds; the middle of the day when daily
    series: Mapping[str, Numbers]
    lines: Mapping[str, float] = field(default_factory=dict)
    daily: bool = False


class TimelineSpan(NamedTuple):
    """A stage or a bill: how long it lasted, and how long it was allowed to."""

    name: str
    start: int
    end: int  # 0 while it lasts
    limit: int = 0  # when it should have ended, 0 if nothing says so


class TimelineMark(NamedTuple):
    """A payment, refund or the like."""

    at: int
    name: str
    succeeded: bool


@dataclass(frozen=True)
class TimelineChart:
    """The spans and marks of a work item, a bill or a payment channel."""

    spans: Sequence[TimelineSpan] = ()
    marks: Sequence[TimelineMark] = ()


@dataclass(frozen=True)
class _AlertReadings:
    """An alert with the readings of its meter, or of its area's gateway meter."""

    alert: Alert
    area: Area
    rows: NamedValues  # columns of readings in order of time
    zone: str

    @property
    def meter(self) -> Meter:
        """The meter that the readings are of."""
        name = self.alert.subject or self.area.gateway
        return next(
            (meter for meter in self.area.meters if meter.meter == name),
            Meter(meter=name),
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the alert's rule."""
        return ALL_RULES[self.alert.rule].settings

    def near(
        self, before: float = 18 * HOUR_SECONDS, after: float = 12 * HOUR_SECONDS
    ) -> NamedValues:
        """The readings from `before` seconds before the episode to `after` seconds after the alert."""
        at = self.rows["at"]
        near = (at >= self.alert.since - before) & (at <= self.alert.raised + after)
        return {name: column[..., near] for name, column in self.rows.items()}

    def by_phase(
        self, column: str, unit: str, times: float = 1, **lines: float
    ) -> Curve:
        """A phase column around the alert, times a factor; phases without values are left out."""
        rows = self.near()
        values = rows[column].astype(float) * times
        measured = {
            phase: values[k]
            for k, phase in enumerate(PHASE_NAMES)
            if not np.isnan(values[k]).all()
        }
        series = measured if len(measured) > 1 else {"": values[0]}
        levels = {name.replace("_", " "): level for name, level in lines.items()}
        return Curve(unit, rows["at"], series, levels)

    def by_day(
        self, unit: str, values: Callable[[NamedValues, NDArray[np.bool_]], float]
    ) -> Curve:
        """A number for each local day, from two weeks before the episode to five days after the alert."""
        rows = self.near(14 * DAY_SECONDS, 5 * DAY_SECONDS)
        row_days = day_of(rows["at"], self.zone)
        raised_day = int(day_of(np.array([self.alert.raised]), self.zone)[0])
        last = max(int(row_days.max(initial=0)), raised_day)
        days = np.arange(row_days.min(initial=last), last + 1)

        totals = np.array([values(rows, row_days == day) for day in days])
        return Curve(unit, _middles(days, self.zone), {"": totals}, daily=True)

    def load(self) -> tuple[NamedValues, Numbers]:
        """The readings around the alert, and the apparent power in kVA, primary."""
        rows = self.near()
        P = np.nansum(rows["p"], axis=0)
        Q = np.nansum(rows["q"], axis=0)
        kva = np.hypot(P, Q) * self.meter.ct * self.meter.pt
        return rows, np.where(np.isnan(rows["p"][0]), np.nan, kva)


def _middles(days: NDArray[np.int64], zone: str) -> Numbers:
    """Unix seconds in the middle of local days."""
    starts = midnights(zone)
    return (starts[days] + starts[days + 1]) / 2


def _total_power(rows: NamedValues) -> Numbers:
    """Active power of all phases in kW, NaN where the first has none."""
    return np.where(np.isnan(rows["p"][0]), np.nan, np.nansum(rows["p"], axis=0))


def _unbalance(case: _AlertReadings) -> Curve:
    curve = case.by_phase("i", "%")
    mean = np.mean(list(curve.series.values()), axis=0)
    off = {phase: 100 * np.abs(I - mean) / mean for phase, I in curve.series.items()}
    lines = {"limit": 100 * case.settings["limit"]}
    return Curve("% off the mean current", curve.at, off, lines)


def _deviation(case: _AlertReadings) -> Curve:
    nominal = case.meter.un_v
    return case.by_phase(
        "u",
        "V",
        highest=case.settings["over"] * nominal,
        lowest=case.alert.evidence["under"] * nominal,
    )


def _angles(case: _AlertReadings) -> Curve:
    rows = case.near(24 * HOUR_SECONDS)
    sector = case.settings["sector"]
    lags = {
        phase: np.degrees(np.arctan2(rows["q"][k], rows["p"][k]))
        for k, phase in enumerate(PHASE_NAMES)
    }
    lines = {"lagging": sector, "leading": -sector}
    return Curve("degrees of lag", rows["at"], lags, lines)


def _neutral(case: _AlertReadings) -> Curve:
    rows = case.near()
    currents = {"phase": np.abs(rows["i"][0]), "neutral": np.abs(rows["neutral"])}
    return Curve("A", rows["at"], currents)


def _transformer_neutral(case: _AlertReadings) -> Curve:
    rows = case.near()
    rating_kva = case.area.transformers[-1].rating_kva
    rated = rating_kva * 1000 / np.sqrt(3) / case.settings["line_volts"]  # A
    neutral = np.abs(rows["neutral"]) * case.meter.ct
    return Curve(
        "% of the rated current",
        rows["at"],
        {"neutral": 100 * neutral / rated},
        {"limit": 100 * case.alert.evidence["limit"]},
    )


def _differential(case: _AlertReadings) -> Curve:
    rows = case.near()
    powers = {
        "meter": _total_power(rows),
        "terminal": rows["terminal_p"].astype(float),
    }
    return Curve("kW", rows["at"], powers)


def _sequence(case: _AlertReadings) -> Curve:
    rows = case.near()
    known = np.isfinite(rows["flags"])
    flag = np.where(known, rows["flags"], 0).astype(int) & Flag.REVERSED_SEQUENCE
    return Curve("sequence reversed", rows["at"], {"": np.where(known, flag, np.nan)})


# The limit lines of the rules on contracts, by the setting each is drawn from.
CONTRACT_LINES = {
    "over_contract_capacity": {"warning": "warn"},
    "suspended_use": {"limit": "margin"},
    "capacity_expansion": {"on five days": "share", "for two hours": "times"},
}


def _contract(case: _AlertReadings) -> Curve:
    rows, kva = case.load()
    contract = (case.meter.contract_kva or np.nan) - case.meter.suspended_kva
    share = 100 * kva / max(contract, case.settings["least"])
    lines = {
        name: 100 * case.settings[setting]
        for name, setting in CONTRACT_LINES[case.alert.rule].items()
    }
    return Curve("% of the contract", rows["at"], {"": share}, lines)


def _overload(case: _AlertReadings) -> Curve:
    rows, kva = case.load()
    rating = case.area.transformers[-1].rating_kva
    lines = {"heavy": 100 * case.settings["heavy"], "overload": 100.0}
    return Curve("% of the rating", rows["at"], {"": 100 * kva / rating}, lines)


def _area_unbalance(case: _AlertReadings) -> Curve:
    rating_kva = case.area.transformers[-1].rating_kva
    half = rating_kva * case.settings["loaded"] * 1000 / 3 / case.meter.un_v
    return case.by_phase("i", "A", case.meter.ct, half_load=half)


def _stopped(case: _AlertReadings) -> Curve:
    rows = case.near()
    counted = rows["kwh"] * 4.0  # kWh of a quarter of an hour, as kW
    return Curve("kW", rows["at"], {"flows": _total_power(rows), "counted": counted})


def _clock(case: _AlertReadings) -> Curve:
    rows = case.near()
    warn = case.settings["warn"]
    lines = {"warning": warn, "alarm": 2 * warn}
    return Curve("s ahead", rows["at"], {"": rows["clock_offset"]}, lines)


def _register(case: _AlertReadings) -> Curve:
    rows = case.near(12 * HOUR_SECONDS, 12 * HOUR_SECONDS)
    return Curve("kWh on the register", rows["at"], {"": rows["register"]})


def _daily_kwh(case: _AlertReadings) -> Curve:
    return case.by_day(
        "kWh a day",
        lambda rows, day: float(np.nansum(rows["kwh"][day]) * case.meter.ct),
    )


def _voltages(case: _AlertReadings, setting: str, line: str) -> Curve:
    """Phase voltages with the levels of a setting and of the setting `back`, shares of nominal."""
    nominal = case.meter.un_v
    lines = {
        line: case.settings[setting] * nominal,
        "back": case.settings["back"] * nominal,
    }
    return case.by_phase("u", "V", **lines)


def _lost_voltage(case: _AlertReadings) -> Curve:
    return _voltages(case, "lost", "lost")


def _broken_phase(case: _AlertReadings) -> Curve:
    return _voltages(case, "broken", "broken")


def _lost_current(case: _AlertReadings) -> Curve:
    return case.by_phase("i", "A", load=case.settings["some"] * case.meter.ib_a)


def _relay(case: _AlertReadings) -> Curve:
    return case.by_phase("i", "A", none=case.settings["load"] * case.meter.ib_a)


def _polarity(case: _AlertReadings) -> Curve:
    return case.by_phase("p", "kW", turned_round=0.0)


def _daily_readings(case: _AlertReadings) -> Curve:
    return case.by_day("readings a day", lambda _, day: float(day.sum()))


RULE_CURVES: dict[str, Callable[[_AlertReadings], Curve]] = {
    "voltage_loss": _lost_voltage,
    "phase_break": _broken_phase,
    "current_loss": _lost_current,
    "reverse_polarity": _polarity,
    "all_voltage_loss": _lost_voltage,
    "current_break": _lost_current,
    "relay_mismatch": _relay,
    "wrong_wiring_vector": _angles,
    "neutral_phase_mismatch": _neutral,
    "neutral_current_high": _transformer_neutral,
    "power_differential": _differential,
    "reverse_sequence": _sequence,
    "meter_current_unbalance": _unbalance,
    "voltage_deviation": _deviation,
    **dict.fromkeys(CONTRACT_LINES, _contract),
    "transformer_overload": _overload,
    "area_load_unbalance": _area_unbalance,
    "meter_stopped": _stopped,
    "clock_drift": _clock,
    "register_decrease": _register,
    "zero_usage": _daily_kwh,
    "read_failure": _daily_readings,
}


def _default_curve(case: _AlertReadings) -> Curve:
    """For a rule without its own curve: the first phase column it reads, else the energy by day."""
    units = {"u": "V", "i": "A", "p": "kW", "q": "kvar"}
    for name in ALL_RULES[case.alert.rule].reads:
        if name in units:
            return case.by_phase(name, units[name])
    return _daily_kwh(case)


class Evidence:
    """Keeps the rows that the pictures of the given alerts need."""

    def __init__(
        self, alerts: Iterable[Alert], areas: Iterable[Area], zone: str
    ) -> None:
        chosen = list(alerts)
        self._zone = zone
        self._areas = {area.area: area for area in areas}
        self._office_areas = {
            alert.area for alert in chosen if alert.kind in MONEY_KINDS | WORK_KINDS
        }

        # An alert of an area is shown by its gateway meter.
        known = [alert for alert in chosen if alert.area in self._areas]
        self._meters = {
            alert.subject or self._areas[alert.area].gateway for alert in known
        } - {""}
        self._loss_areas = {alert.area for alert in known if alert.rule == LOSS_RULE}
        self._ratios: dict[str, float] = {}
        for name in self._loss_areas:
            for meter in self._areas[name].meters:
                self._ratios[meter.meter] = meter.ct * meter.pt

        self._readings: dict[str, list[tuple[Any, ...]]] = {}
        # kWh by area, by True for the gateway meter and False for the others, and by day
        self._energy: Counter[tuple[str, bool, int]] = Counter()
        self._payments: list[NamedValues] = []
        self._stages: list[NamedValues] = []
        self._names: tuple[str, ...] = ()

    def collect(self, batch: Batch) -> None:
        """Keeps the rows of a batch that are needed."""
        if isinstance(batch, Readings):
            self._collect_readings(batch)
        elif isinstance(batch, Payments | Stages):
            kept = self._payments if isinstance(batch, Payments) else self._stages
            wanted = np.array([name in self._office_areas for name in batch.areas])
            kept += _rows(batch.select(wanted[batch.area]))

    def _collect_readings(self, batch: Readings) -> None:
        if batch.names is not self._names:
            self._names = batch.names
            self._shown = np.array([name in self._meters for name in batch.names])
            self._factors = np.array(
                [self._ratios.get(name, np.nan) for name in batch.names]
            )

        shown = batch.select(self._shown[batch.subject])
        for code in np.unique(shown.subject).tolist():
            rows = shown.subject == code
            columns = tuple(getattr(shown, name)[..., rows] for name in READING_COLUMNS)
            self._readings.setdefault(batch.names[code], []).append(columns)
        if self._loss_areas:
            self._balance(batch)

    def _balance(self, batch: Readings) -> None:
        """Adds the energy of a batch to the days of the areas with a loss alert."""
        metered = batch.select(~np.isnan(self._factors[batch.subject]))
        energy = np.nan_to_num(metered.kwh) * self._factors[metered.subject]
        days = day_of(metered.at, self._zone)

        for code in np.unique(metered.area).tolist():
            area = metered.areas[code]
            gateway = metered.names.index(self._areas[area].gateway)
            for day in np.unique(days).tolist():
                rows = (metered.area == code) & (days == day)
                whole = energy[rows].sum()
                through = energy[rows & (metered.subject == gateway)].sum()
                self._energy[area, True, day] += through
                self._energy[area, False, day] += whole - through

    def picture(self, alert: Alert) -> Curve | TimelineChart | None:
        """The values the alert was judged on; None if none were kept."""
        if alert.kind == "area_days":
            has_energy = alert.rule == LOSS_RULE and self._energy
            return self._loss(alert) if has_energy else None
        if alert.kind in WORK_KINDS:
            return self._work(alert)
        if alert.kind in MONEY_KINDS:
            return self._paid(alert)

        area = self._areas.get(alert.area)
        batches = self._readings.get(alert.subject or (area.gateway if area else ""))
        if not batches or area is None:
            return None
        columns = {
            name: np.concatenate([batch[k] for batch in batches], axis=-1)
            for k, name in enumerate(READING_COLUMNS)
        }
        case = _AlertReadings(alert, area, columns, self._zone)
        curve = RULE_CURVES.get(alert.rule, _default_curve)(case)
        is_drawn = any(np.isfinite(values).any() for values in curve.series.values())
        return curve if is_drawn else None

    def _loss(self, alert: Alert) -> Curve:
        """The share of the area's energy that is lost, by day."""
        days = np.array(
            sorted({day for area, _, day in self._energy if area == alert.area})
        )
        supplied = np.array([self._energy[alert.area, True, day] for day in days])
        used = np.array([self._energy[alert.area, False, day] for day in days])
        lost = 100 * (supplied - used) / supplied

        settings = ALL_RULES[alert.rule].settings
        lines = {"limit": 100 * settings["limit"], "hard limit": 100 * settings["hard"]}
        return Curve(
            "% of the energy lost",
            _middles(days, self._zone),
            {"": lost},
            lines,
            daily=True,
        )

    def _work(self, alert: Alert) -> TimelineChart:
        """The stages of the alert's work item."""
        item = alert.subject
        if alert.kind == "overdue":
            item = alert.subject.rpartition("/")[0]

        spans: dict[str, TimelineSpan] = {}
        for row in self._stages:
            if row["subject"] != item or row["area"] != alert.area:
                continue
            stage = row["stage"]
            if row["progress"] == StageProgress.STARTED:
                has_limit = not np.isnan(row["limit"])
                limit = int(row["at"] + row["limit"]) if has_limit else 0
                spans[stage] = TimelineSpan(stage, row["at"], 0, limit)
            elif row["progress"] == StageProgress.FINISHED and stage in spans:
                spans[stage] = spans[stage]._replace(end=row["at"])
        return TimelineChart(spans=list(spans.values()))

    def _paid(self, alert: Alert) -> TimelineChart:
        """The payments of the alert's channel, transfer or bill."""
        rows = [row for row in self._payments if row["area"] == alert.area]
        attempts = [
            row for row in rows if row["payment"] in (Payment.PAYMENT, Payment.TOPUP)
        ]
        if alert.kind == "attempts":
            marks = [
                TimelineMark(row["at"], row["subject"], bool(row["succeeded"]))
                for row in attempts
                if row["channel"] == alert.subject
            ]
            return TimelineChart(marks=marks)

        customer, _, bill = alert.subject.partition("/")
        if alert.kind == "transfers":
            return _transfer(rows, customer, bill)

        marks = [
            TimelineMark(row["at"], row["channel"], bool(row["succeeded"]))
            for row in attempts
            if row["subject"] == customer
        ]
        paid = next((mark.at for mark in marks if mark.succeeded), 0)
        bills = [
            TimelineSpan(
                f"bill of {row['amount']:.2f} yuan", row["at"], paid, row["due"]
            )
            for row in rows
            if row["payment"] == Payment.BILL
            and (row["subject"], row["bill"]) == (customer, bill)
        ]
        return TimelineChart(bills, marks)


def _transfer(
    rows: Iterable[NamedValues], customer: str, reference: str
) -> TimelineChart:
    """The messages about one transfer; a settlement counts as succeeded."""
    marks = []
    for row in rows:
        if (row["subject"], row["reference"]) == (customer, reference):
            name = Payment(row["payment"]).name.lower()
            succeeded = name == "settlement" or bool(row["succeeded"])
            marks.append(TimelineMark(row["at"], name, succeeded))
    return TimelineChart(marks=marks)


def _rows(batch: Payments | Stages) -> list[NamedValues]:
    """The rows of a batch by column name, with codes replaced by the names they stand for."""
    encodings = batch.encodings()
    columns = {
        column.name: getattr(batch, column.name).tolist()
        for column in fields(batch)
        if column.name not in encodings
    }
    for names, codes in encodings.items():
        code_names = getattr(batch, names)
        columns[codes] = [code_names[code] for code in columns[codes]]
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]

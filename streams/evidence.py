"""Curves around alerts: what an alert was judged on, with the lines it was judged by.

A second reading of the history keeps only the rows of the subjects that are to be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.rule import ALL_RULES
from models.calendar import day_of, midnights
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
# kinds of alerts
MONEY_KINDS, WORK_KINDS = (
    {"payments", "attempts", "invoices", "transfers"},
    {"overdue", "traces"},
)
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
    """Values over time and the levels they were judged by."""

    unit: str
    at: Numbers  # Unix seconds; the middle of the day when daily
    series: Mapping[str, Numbers]
    lines: Mapping[str, float] = field(default_factory=dict)
    daily: bool = False


class TimelineSpan(NamedTuple):
    """Something that lasted, and how long it might have."""

    name: str
    start: int
    end: int  # 0 while it lasts
    limit: int = 0  # when it should have ended, 0 when nothing says


class TimelineMark(NamedTuple):
    """Something that happened."""

    at: int
    name: str
    succeeded: bool


@dataclass(frozen=True)
class TimelineChart:
    """What happened when."""

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
        """Whose readings they are."""
        name = self.alert.subject or self.area.gateway
        return next((m for m in self.area.meters if m.meter == name), Meter(meter=name))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the alert's rule."""
        return ALL_RULES[self.alert.rule].settings

    def near(
        self, before: float = 18 * HOUR_SECONDS, after: float = 12 * HOUR_SECONDS
    ) -> NamedValues:
        """The readings from before the trouble began until after the alert was raised."""
        at = self.rows["at"]
        pick = (at >= self.alert.since - before) & (at <= self.alert.raised + after)
        return {name: column[..., pick] for name, column in self.rows.items()}

    def by_phase(
        self, column: str, unit: str, times: float = 1, **lines: float
    ) -> Curve:
        """A phase column around the alert."""
        rows = self.near()
        values = rows[column].astype(float) * times
        told = {
            phase: values[k]
            for k, phase in enumerate(PHASE_NAMES)
            if not np.isnan(values[k]).all()
        }
        series = told if len(told) > 1 else {"": values[0]}
        return Curve(
            unit,
            rows["at"],
            series,
            {name.replace("_", " "): level for name, level in lines.items()},
        )

    def by_day(
        self, unit: str, values: Callable[[NamedValues, NDArray[np.bool_]], float]
    ) -> Curve:
        """A number for each local day, from two weeks before the alert until five days after."""
        rows = self.near(14 * DAY_SECONDS, 5 * DAY_SECONDS)
        day = day_of(rows["at"], self.zone)
        last = max(
            int(day.max(initial=0)),
            int(day_of(np.array([self.alert.raised]), self.zone)[0]),
        )
        days = np.arange(day.min(initial=last), last + 1)
        middle = (midnights(self.zone)[days] + midnights(self.zone)[days + 1]) / 2
        return Curve(
            unit,
            middle,
            {"": np.array([values(rows, day == d) for d in days])},
            daily=True,
        )

    def load(self) -> tuple[NamedValues, Numbers]:
        """The readings around the alert, and the apparent power in kVA, primary."""
        rows = self.near()
        p, q = (np.nansum(rows[name], axis=0) for name in "pq")
        return rows, np.where(
            np.isnan(rows["p"][0]),
            np.nan,
            np.hypot(p, q) * self.meter.ct * self.meter.pt,
        )


def _unbalance(case: _AlertReadings) -> Curve:
    curve = case.by_phase("i", "%")
    mean = np.mean(list(curve.series.values()), axis=0)
    off = {phase: 100 * np.abs(i - mean) / mean for phase, i in curve.series.items()}
    return Curve(
        "% off the mean current", curve.at, off, {"limit": 100 * case.settings["limit"]}
    )


def _deviation(case: _AlertReadings) -> Curve:
    un = case.meter.un_v
    return case.by_phase(
        "u",
        "V",
        highest=case.settings["over"] * un,
        lowest=case.alert.evidence["under"] * un,
    )


def _angles(case: _AlertReadings) -> Curve:
    rows, sector = case.near(24 * HOUR_SECONDS), case.settings["sector"]
    lags = {
        phase: np.degrees(np.arctan2(rows["q"][k], rows["p"][k]))
        for k, phase in enumerate(PHASE_NAMES)
    }
    return Curve(
        "degrees of lag", rows["at"], lags, {"lagging": sector, "leading": -sector}
    )


def _neutral(case: _AlertReadings) -> Curve:
    rows = case.near()
    return Curve(
        "A",
        rows["at"],
        {"phase": np.abs(rows["i"][0]), "neutral": np.abs(rows["neutral"])},
    )


def _transformer_neutral(case: _AlertReadings) -> Curve:
    rows, limit = case.near(), case.alert.evidence["limit"]
    rated = (
        case.area.transformers[-1].rating_kva
        * 1000
        / np.sqrt(3)
        / case.settings["line_volts"]
    )
    amps = np.abs(rows["neutral"]) * case.meter.ct
    return Curve(
        "% of the rated current",
        rows["at"],
        {"neutral": 100 * amps / rated},
        {"limit": 100 * limit},
    )


def _differential(case: _AlertReadings) -> Curve:
    rows = case.near()
    power = np.where(np.isnan(rows["p"][0]), np.nan, np.nansum(rows["p"], axis=0))
    return Curve(
        "kW", rows["at"], {"meter": power, "terminal": rows["terminal_p"].astype(float)}
    )


def _sequence(case: _AlertReadings) -> Curve:
    rows = case.near()
    told = np.isfinite(rows["flags"])
    flag = np.where(told, rows["flags"], 0).astype(int) & Flag.REVERSED_SEQUENCE
    return Curve("sequence reversed", rows["at"], {"": np.where(told, flag, np.nan)})


CONTRACT_LINES = {
    "over_contract_capacity": {"warning": "warn"},
    "suspended_use": {"limit": "margin"},
    "capacity_expansion": {"on five days": "share", "for two hours": "times"},
}


def _contract(case: _AlertReadings) -> Curve:
    rows, kva = case.load()
    contract = (case.meter.contract_kva or np.nan) - case.meter.suspended_kva
    lines = {
        name: 100 * case.settings[setting]
        for name, setting in CONTRACT_LINES[case.alert.rule].items()
    }
    return Curve(
        "% of the contract",
        rows["at"],
        {"": 100 * kva / max(contract, case.settings["least"])},
        lines,
    )


def _overload(case: _AlertReadings) -> Curve:
    rows, kva = case.load()
    rating = case.area.transformers[-1].rating_kva
    lines = {"heavy": 100 * case.settings["heavy"], "overload": 100.0}
    return Curve("% of the rating", rows["at"], {"": 100 * kva / rating}, lines)


def _area_unbalance(case: _AlertReadings) -> Curve:
    half = (
        case.area.transformers[-1].rating_kva
        * case.settings["loaded"]
        * 1000
        / 3
        / case.meter.un_v
    )
    return case.by_phase("i", "A", case.meter.ct, half_load=half)


def _stopped(case: _AlertReadings) -> Curve:
    rows = case.near()
    power = np.where(np.isnan(rows["p"][0]), np.nan, np.nansum(rows["p"], axis=0))
    return Curve("kW", rows["at"], {"flows": power, "counted": rows["kwh"] * 4.0})


def _clock(case: _AlertReadings) -> Curve:
    rows, warn = case.near(), case.settings["warn"]
    return Curve(
        "s ahead",
        rows["at"],
        {"": rows["clock_offset"]},
        {"warning": warn, "alarm": 2 * warn},
    )


def _register(case: _AlertReadings) -> Curve:
    rows = case.near(12 * HOUR_SECONDS, 12 * HOUR_SECONDS)
    return Curve("kWh on the register", rows["at"], {"": rows["register"]})


def _daily_kwh(case: _AlertReadings) -> Curve:
    return case.by_day(
        "kWh a day",
        lambda rows, day: float(np.nansum(rows["kwh"][day]) * case.meter.ct),
    )


RULE_CURVES: dict[str, Callable[[_AlertReadings], Curve]] = {
    "voltage_loss": lambda c: c.by_phase(
        "u",
        "V",
        lost=c.settings["lost"] * c.meter.un_v,
        back=c.settings["back"] * c.meter.un_v,
    ),
    "phase_break": lambda c: c.by_phase(
        "u",
        "V",
        broken=c.settings["broken"] * c.meter.un_v,
        back=c.settings["back"] * c.meter.un_v,
    ),
    "current_loss": lambda c: c.by_phase(
        "i", "A", load=c.settings["some"] * c.meter.ib_a
    ),
    "reverse_polarity": lambda c: c.by_phase("p", "kW", turned_round=0.0),
    "all_voltage_loss": lambda c: c.by_phase(
        "u",
        "V",
        lost=c.settings["lost"] * c.meter.un_v,
        back=c.settings["back"] * c.meter.un_v,
    ),
    "current_break": lambda c: c.by_phase(
        "i", "A", load=c.settings["some"] * c.meter.ib_a
    ),
    "relay_mismatch": lambda c: c.by_phase(
        "i", "A", none=c.settings["load"] * c.meter.ib_a
    ),
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
    "read_failure": lambda c: c.by_day(
        "readings a day", lambda _, day: float(day.sum())
    ),
}


def _default_curve(case: _AlertReadings) -> Curve:
    """For a rule without a curve of its own: the first phase column it reads, else the days' energy."""
    read = [
        name
        for name in ALL_RULES[case.alert.rule].reads
        if name in ("u", "i", "p", "q")
    ]
    return (
        case.by_phase(read[0], {"u": "V", "i": "A", "p": "kW", "q": "kvar"}[read[0]])
        if read
        else _daily_kwh(case)
    )


class Evidence:
    """Keeps what the chosen alerts need to be shown."""

    def __init__(
        self, alerts: Iterable[Alert], areas: Iterable[Area], zone: str
    ) -> None:
        self._alerts, self._zone = list(alerts), zone
        self._areas = {area.area: area for area in areas}
        self._office_areas = {
            a.area for a in self._alerts if a.kind in MONEY_KINDS | WORK_KINDS
        }
        self._meters = {
            a.subject or self._areas[a.area].gateway
            for a in self._alerts
            if a.area in self._areas
        } - {""}
        self._loss_areas = {
            a.area
            for a in self._alerts
            if a.rule == LOSS_RULE and a.area in self._areas
        }
        self._ratios = {
            m.meter: m.ct * m.pt
            for name in self._loss_areas
            for m in self._areas[name].meters
        }
        self._readings: dict[str, list[tuple[Any, ...]]] = {}
        # kWh by area, whether at the gateway, day
        self._energy: Counter[tuple[str, bool, int]] = Counter()
        self._payments: list[NamedValues] = []
        self._stages: list[NamedValues] = []
        self._names: tuple[str, ...] = ()

    def collect(self, batch: Batch) -> None:
        """Keep the rows that are needed."""
        if isinstance(batch, Readings):
            if batch.names is not self._names:
                self._names = batch.names
                self._shown = np.array([name in self._meters for name in batch.names])
                self._factors = np.array(
                    [self._ratios.get(name, np.nan) for name in batch.names]
                )
            part = batch.select(self._shown[batch.subject])
            for code in np.unique(part.subject).tolist():
                rows = part.subject == code
                columns = tuple(
                    getattr(part, name)[..., rows] for name in READING_COLUMNS
                )
                self._readings.setdefault(batch.names[code], []).append(columns)
            if self._loss_areas:
                self._balance(batch)
        elif isinstance(batch, Payments | Stages):
            kept = self._payments if isinstance(batch, Payments) else self._stages
            wanted = np.array([name in self._office_areas for name in batch.areas])
            kept += _rows(batch.select(wanted[batch.area]))

    def _balance(self, batch: Readings) -> None:
        part = batch.select(~np.isnan(self._factors[batch.subject]))
        energy = np.nan_to_num(part.kwh) * self._factors[part.subject]
        days = day_of(part.at, self._zone)
        for code in np.unique(part.area).tolist():
            gateway = self._areas[part.areas[code]].gateway
            for day in np.unique(days).tolist():
                rows = (part.area == code) & (days == day)
                whole = energy[rows].sum()
                through = energy[
                    rows & (part.subject == part.names.index(gateway))
                ].sum()
                self._energy[part.areas[code], True, day] += through
                self._energy[part.areas[code], False, day] += whole - through

    def picture(self, alert: Alert) -> Curve | TimelineChart | None:
        """What the alert was judged on; None when nothing was kept."""
        if alert.kind == "area_days":
            return (
                self._loss(alert) if alert.rule == LOSS_RULE and self._energy else None
            )
        if alert.kind in WORK_KINDS:
            return self._work(alert)
        if alert.kind in MONEY_KINDS:
            return self._paid(alert)
        area = self._areas.get(alert.area)
        parts = self._readings.get(alert.subject or (area.gateway if area else ""))
        if not parts or area is None:
            return None
        columns = {
            name: np.concatenate([part[k] for part in parts], axis=-1)
            for k, name in enumerate(READING_COLUMNS)
        }
        case = _AlertReadings(alert, area, columns, self._zone)
        drawn = RULE_CURVES.get(alert.rule, _default_curve)(case)
        return (
            drawn
            if any(np.isfinite(values).any() for values in drawn.series.values())
            else None
        )

    def _loss(self, alert: Alert) -> Curve:
        days = np.array(
            sorted({day for area, _, day in self._energy if area == alert.area})
        )
        got, used = (
            np.array([self._energy[alert.area, gateway, d] for d in days])
            for gateway in (True, False)
        )
        middle = (midnights(self._zone)[days] + midnights(self._zone)[days + 1]) / 2
        settings = ALL_RULES[alert.rule].settings
        lines = {"limit": 100 * settings["limit"], "hard limit": 100 * settings["hard"]}
        return Curve(
            "% of the energy lost",
            middle,
            {"": 100 * (got - used) / got},
            lines,
            daily=True,
        )

    def _work(self, alert: Alert) -> TimelineChart:
        item = (
            alert.subject.rpartition("/")[0]
            if alert.kind == "overdue"
            else alert.subject
        )
        spans: dict[str, TimelineSpan] = {}
        for row in self._stages:
            if row["subject"] == item and row["area"] == alert.area:
                if row["progress"] == StageProgress.STARTED:
                    limit = (
                        0 if np.isnan(row["limit"]) else int(row["at"] + row["limit"])
                    )
                    spans[row["stage"]] = TimelineSpan(
                        row["stage"], row["at"], 0, limit
                    )
                elif (
                    row["progress"] == StageProgress.FINISHED and row["stage"] in spans
                ):
                    spans[row["stage"]] = spans[row["stage"]]._replace(end=row["at"])
        return TimelineChart(spans=list(spans.values()))

    def _paid(self, alert: Alert) -> TimelineChart:
        rows = [r for r in self._payments if r["area"] == alert.area]
        tried = [r for r in rows if r["payment"] in (Payment.PAYMENT, Payment.TOPUP)]
        if alert.kind == "attempts":
            tried = [r for r in tried if r["channel"] == alert.subject]
            return TimelineChart(
                marks=[
                    TimelineMark(r["at"], r["subject"], bool(r["succeeded"]))
                    for r in tried
                ]
            )
        customer, _, bill = alert.subject.partition("/")
        if alert.kind == "transfers":
            mine = [
                r for r in rows if (r["subject"], r["reference"]) == (customer, bill)
            ]
            told = [
                (r["at"], Payment(r["payment"]).name.lower(), bool(r["succeeded"]))
                for r in mine
            ]
            return TimelineChart(
                marks=[
                    TimelineMark(at, name, name == "settlement" or well)
                    for at, name, well in told
                ]
            )
        marks = [
            TimelineMark(r["at"], r["channel"], bool(r["succeeded"]))
            for r in tried
            if r["subject"] == customer
        ]
        issued = [
            r
            for r in rows
            if r["payment"] == Payment.BILL
            and (r["subject"], r["bill"]) == (customer, bill)
        ]
        paid = next((mark.at for mark in marks if mark.succeeded), 0)
        return TimelineChart(
            [
                TimelineSpan(f"bill of {r['amount']:.2f} yuan", r["at"], paid, r["due"])
                for r in issued
            ],
            marks,
        )


def _rows(batch: Payments | Stages) -> list[NamedValues]:
    encoded = {
        codes: getattr(batch, names) for names, codes in batch.encodings().items()
    }
    columns = {
        name: getattr(batch, name).tolist()
        for f in fields(batch)
        if (name := f.name) not in batch.shared
    }
    for name, names in encoded.items():
        columns[name] = [names[code] for code in columns[name]]
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]

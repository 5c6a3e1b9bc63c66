"""Small adversarial streams of every kind, each a pure function of a seed, and what may go wrong on their way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from schemas.columns import (
    Batch,
    DeviceEvents,
    Event,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
    Status,
)
from schemas.master import Area, Meter, Tariff, Transformer, VectorGroup, Wiring
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NOT_A_NUMBER = float("nan")
BILL_COLUMNS = (
    "read_register",
    "frozen_register",
    "billed_kwh",
    "billed_peak",
    "billed_demand",
)
BLANK_BILL: dict[str, Any] = dict.fromkeys(BILL_COLUMNS, NOT_A_NUMBER) | dict(read_at=0)
STREAM_DAYS = {900: 1, 3600: 3, 7200: 10}  # days of a stream by its interval
STREAM_STARTS = (
    ("Asia/Shanghai", 2025, 1, 27),
    ("Europe/Berlin", 2025, 3, 28),  # loses an hour on the 30th
    ("Europe/Berlin", 2025, 10, 24),  # has one twice on the 26th
    ("America/St_Johns", 2025, 3, 8),  # half an hour off, and loses one on the 9th
)
READING_FAULTS = (
    "voltage_loss",
    "phase_break",
    "current_loss",
    "reversed",
    "unbalanced",
    "low",
    "heavy",
    "stopped",
    "backward",
    "idle",
    "unread",
    "drift",
    "odd",
    "estimated",
    "unmetered",
)
NOISE_FAULTS = ("odd", "unread", "drift", "estimated", "low_register", "blank")

ALL_PHASES = slice(None)
# By fault: the phases, None for a single one, and a factor.
Effects = dict[str, tuple[slice | None, float]]
CURRENT_EFFECTS: Effects = {
    "heavy": (ALL_PHASES, 9),
    "idle": (ALL_PHASES, 0),
    "unbalanced": (None, 4),
    "phase_break": (None, 0),
    "current_loss": (None, 0),
}
VOLTAGE_EFFECTS: Effects = {
    "low": (ALL_PHASES, 0.83),
    "voltage_loss": (None, 0.5),
    "phase_break": (None, 0.25),
}
POWER_EFFECTS: Effects = {"reversed": (None, -1)}
TOWN_TARIFFS = [
    Tariff(tariff="home", flat=0.5),
    Tariff(tariff="shop", flat=0.6, peak=0.9),
    Tariff(tariff="works", flat=0.6, demand=30.0),
]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a topic."""

    kind: type[Batch]
    area: str
    subject: str
    at: int
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """Master data, and rows in order of arrival."""

    areas: list[Area]
    rows: tuple[Row, ...]
    zone: str
    interval: int

    @cached_property
    def batch_by_kind(self) -> dict[type[Batch], Batch]:
        """One batch of every kind, rows in order of arrival."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        return {
            kind: batch_of([row for row in self.rows if row.kind is kind])
            for kind in kinds
        }

    def batches(self, cuts: Iterable[int] = ()) -> Iterator[Batch]:
        """The rows in order: a new batch at every cut and wherever the kind changes."""
        starts = {0, *(n for n in cuts if 0 < n < len(self.rows))}
        for n, (before, row) in enumerate(pairwise(self.rows), 1):
            if row.kind is not before.kind:
                starts.add(n)

        done = dict.fromkeys(self.batch_by_kind, 0)
        for start, end in pairwise([*sorted(starts), len(self.rows)]):
            kind = self.rows[start].kind
            first = done[kind]
            done[kind] += end - start
            yield self.batch_by_kind[kind].select(slice(first, done[kind]))

    def with_rows(self, rows: Iterable[Row]) -> Stream:
        """The same master data with other rows."""
        return Stream(self.areas, tuple(rows), self.zone, self.interval)


def batch_of(rows: Sequence[Row]) -> Batch:
    """One batch of rows of one kind."""
    kind = rows[0].kind
    encodings = kind.encodings()
    columns: dict[str, Any] = {}
    for name, code in encodings.items():
        texts = [text_of(row, code) for row in rows]
        known = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        columns[name] = tuple(known)
        columns[code] = [known[text] for text in texts]
    for name in rows[0].columns:
        if name not in encodings.values():
            columns[name] = np.array([row.columns[name] for row in rows]).T
    return kind.build(at=[row.at for row in rows], **columns)


def text_of(row: Row, code: str) -> str:
    """The text of an encoded column."""
    own: dict[str, str] = {"subject": row.subject, "area": row.area}
    return own.get(code, row.columns.get(code, ""))


# A town.


class StreamSpan(NamedTuple):
    """The time of a stream."""

    start: int
    end: int
    interval: int

    def time(self, rng: np.random.Generator) -> int:
        """A time in the span."""
        return int(rng.integers(self.start, self.end))


def town(seed: int, *, interval: int = 0, noise: bool = True) -> Stream:
    """A few areas over some days, in event-time order.

    `noise` adds faults of single readings, which only validation and rules on readings notice.
    """
    rng = np.random.default_rng(seed)
    interval = interval or int(rng.choice(list(STREAM_DAYS)))
    zone, year, month, day = STREAM_STARTS[rng.integers(len(STREAM_STARTS))]
    start = int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())
    span = StreamSpan(start, start + STREAM_DAYS[interval] * DAY_SECONDS, interval)
    names = rng.permutation(["A1", "A2", "A3"])[: rng.integers(2, 4)].tolist()
    areas: list[Area] = []
    for name in names:
        area = with_capacity_limits(area_of(rng, name, span), seed)
        areas.append(with_contracts(area, seed, span.end))

    rows: list[Row] = []
    devices = np.random.default_rng([seed, 1])
    for area in areas:
        rows += device_reports(devices, area, span)
        rows += metered(rng, area, *span, noise=noise)
        rows += outages(rng, area, span)
        rows += bills_and_payments(rng, area, span)
    if rng.random() < 0.5:
        stranger = Area(area="unknown", meters=[Meter(meter="M1"), Meter(meter="M2")])
        rows += metered(rng, stranger, *span, noise=noise)
    rows += work_items(rng, span)
    rows += settlements(rows, seed, span.end)
    rows += newcomers(areas, seed, span)
    distort(rows, seed)

    ranks = rng.random(len(rows))
    order = sorted(
        range(len(rows)), key=lambda n: (rows[n].at, rows[n].kind.kind, ranks[n])
    )
    return Stream(areas, tuple(rows[n] for n in order), zone, interval)


# Master data.


def area_of(rng: np.random.Generator, name: str, span: StreamSpan) -> Area:
    """An area of two to five meters, perhaps with a gateway, with master data that changes on the way."""
    gateway = f"{name}G" if rng.random() < 0.6 else ""
    middle = span.time(rng) // HOUR_SECONDS * HOUR_SECONDS
    meters: list[Meter] = []
    if gateway:
        record = Meter(
            meter=gateway,
            wiring="3P4W",
            ct=20.0,
            imax_a=10.0,
            interval_s=span.interval,
        )
        meters.append(record)
    for n in range(int(rng.integers(1 if gateway else 2, 4))):
        meters += customer_records(rng, n, middle, span.interval)

    group: VectorGroup = "Dyn11" if rng.random() < 0.3 else "Yyn0"
    rating_kva = float(rng.choice([8, 60]))
    transformers = [Transformer(rating_kva=rating_kva, vector_group=group)]
    if rng.random() < 0.3:
        transformers.append(Transformer(rating_kva=10.0, effective=middle))
    return Area(
        area=name,
        section=f"S{name}",
        gateway=gateway,
        transformers=transformers,
        meters=meters,
        tariffs=TOWN_TARIFFS,
    )


def customer_records(
    rng: np.random.Generator, n: int, middle: int, interval: int
) -> list[Meter]:
    """The records of the n-th customer's meter: one, one that ends, or two."""
    three_phases = rng.random() < 0.5
    wiring: Wiring = "1P2W"
    if three_phases:
        wiring = "3P3W" if rng.random() < 0.2 else "3P4W"

    record = Meter(
        meter=f"M{n}",
        interval_s=interval,
        wiring=wiring,
        contract_kva=float(rng.choice([3, 20])) if rng.random() < 0.7 else None,
        segment="commercial" if rng.random() < 0.6 else "residential",
        pv_kva=5.0 if rng.random() < 0.1 else 0.0,
        customer=f"C{n}",
        tariff=("home", "works", "shop")[n],
        declared_kw=50.0 if n == 1 else None,
        read_day=5 if n == 0 else 0,
        credit=("", "A", "D")[n],
    )

    if rng.random() < 0.3:
        ct = 2.0 if three_phases else 1.0
        return [record, meter_with(record, effective=middle, contract_kva=2.0, ct=ct)]
    if rng.random() < 0.1:
        return [meter_with(record, until=middle)]
    return [record]


def with_contracts(area: Area, seed: int, end: int) -> Area:
    """The area with contracts, trades and dates of calibration, not all of them in order."""
    rng = np.random.default_rng([seed, 2, *area.area.encode()])

    def time_after(chance: float, first_day: int, last_day: int) -> int:
        if rng.random() >= chance:
            return 0
        return end + int(rng.integers(first_day * DAY_SECONDS, last_day * DAY_SECONDS))

    def contracted(meter: Meter) -> Meter:
        signed_kva = float(rng.choice([3, 20]))
        return meter_with(
            meter,
            trade=str(rng.choice(["", "", "A", "C", "K"])),
            signed_kva=signed_kva if rng.random() < 0.5 else None,
            calibration_due=time_after(0.4, -100, 1),
            contract_until=time_after(0.6, -9, 70),
            phase=str(rng.choice(["", "A", "B", "C"])),
        )

    meters = [contracted(meter) for meter in area.meters]
    return msgspec.structs.replace(area, meters=meters)


def with_capacity_limits(area: Area, seed: int) -> Area:
    """The area with customers who have suspended capacity, have a transformer of their own or too small a meter."""
    rng = np.random.default_rng([seed, 1, *area.area.encode()])

    def limited(meter: Meter) -> Meter:
        chance = rng.random()
        if meter.meter == area.gateway or chance > 0.6:
            return meter
        if chance < 0.2 and meter.contract_kva:
            share = float(rng.choice([0.9, 1.0]))
            return meter_with(meter, suspended_kva=share * meter.contract_kva)
        if chance < 0.4:
            return meter_with(meter, own_transformer_kva=1.5)
        return meter_with(meter, imax_a=12.0)

    fields = {name: getattr(area, name) for name in area.__struct_fields__}
    return Area(**fields | {"meters": [limited(meter) for meter in area.meters]})


def meter_with(meter: Meter, **changes: Any) -> Meter:
    """A meter's record with other values in some fields."""
    fields = {name: getattr(meter, name) for name in meter.__struct_fields__}
    return Meter(**fields | changes)


def newcomers(areas: list[Area], seed: int, span: StreamSpan) -> list[Row]:
    """Customers who are connected to some areas on the way, and their readings, if there are any."""
    rng = np.random.default_rng([seed, 4])
    rows: list[Row] = []
    for n, area in enumerate(areas):
        if rng.random() >= 0.4:
            continue
        new = msgspec.structs.replace(
            area.meters[-1],
            meter="new",
            customer="CN",
            effective=span.time(rng),
            until=0,
        )
        areas[n] = msgspec.structs.replace(area, meters=[*area.meters, new])

        # The meter alone, or none: then only a stranger may report.
        alone = Area(area=area.area, meters=[new] * int(rng.integers(2)))
        readings = metered(rng, alone, *span, noise=False)
        readings = [row for row in readings if row.subject == "new"]
        rows += [row for row in readings if row.at > new.effective]
    return rows


# Readings.


def metered(
    rng: np.random.Generator,
    area: Area,
    start: int,
    end: int,
    interval: int,
    *,
    noise: bool,
) -> list[Row]:
    """Every meter's readings; a gateway measures all that its users draw, and more when they steal."""
    times = np.arange(start + interval, end + 1, interval)
    meters = {meter.meter: meter for meter in reversed(area.meters)}
    if rng.random() < 0.4:
        meters["stranger"] = Meter(meter="stranger")

    rows: list[Row] = []
    drawn = np.zeros((3, len(times)))
    for name, meter in meters.items():
        if name != area.gateway:
            amps, readings = meter_readings(rng, meter, times, interval, noise=noise)
            drawn += amps
            rows += rows_of(area.area, name, times, readings)
    if area.gateway:
        days = int(rng.integers(STREAM_DAYS[interval]))
        later = times > start + days * DAY_SECONDS
        amps = drawn * np.where(later, rng.choice([1.0, 1.3]), 1.0) / 20
        volts = np.full_like(amps, 230.0)
        readings = reading_columns(amps, volts, amps * 0.23, interval)
        rows += rows_of(area.area, area.gateway, times, readings)
    return rows


def rows_of(
    area: str, meter: str, times: Any, readings: list[dict[str, Any]]
) -> list[Row]:
    """The rows of a meter's readings; an empty reading was not made."""
    return [
        Row(Readings, area, meter, int(at), columns)
        for at, columns in zip(times, readings, strict=True)
        if columns
    ]


def reading_columns(I: Any, U: Any, P: Any, interval: int) -> list[dict[str, Any]]:
    """The columns of a meter's readings from its currents, voltages and powers by phase and time."""
    I, U, P = (np.round(column, 3).astype(np.float32) for column in (I, U, P))
    energy = np.nan_to_num(P).sum(axis=0) * interval / HOUR_SECONDS
    kwh = np.round(energy, 3).astype(np.float32)
    register = np.round(1000 + np.cumsum(kwh.astype(float)), 2)

    return [
        dict(
            u=U[:, n],
            i=I[:, n],
            p=P[:, n],
            q=np.float32(0.2) * P[:, n],
            kwh=kwh[n],
            register=register[n],
            clock_offset=NOT_A_NUMBER,
            received=0,
            status=Status.MEASURED,
        )
        for n in range(I.shape[1])
    ]


def meter_readings(
    rng: np.random.Generator, meter: Meter, times: Any, interval: int, *, noise: bool
) -> tuple[Any, list[dict[str, Any]]]:
    """The primary currents that a customer draws, and the readings of the meter."""
    size = len(times)
    other_phases = meter.wiring != "1P2W"
    measured = np.broadcast_to([[True], [other_phases], [other_phases]], (3, size))
    I = np.where(measured, np.abs(rng.normal(2, 0.3, (3, size))), 0.0)
    U = np.where(measured, rng.normal(228, 2, (3, size)), NOT_A_NUMBER)
    direction = np.ones((3, size))

    # A few faults for a time, in one phase or in all.
    phase = int(rng.integers(3)) if meter.wiring == "3P4W" else 0
    fault_spans: dict[str, slice] = {}
    for fault in rng.permutation(READING_FAULTS)[: rng.integers(0, 4)].tolist():
        fault_spans[fault] = at = fault_span(rng, fault, size)
        for column, effects in (
            (I, CURRENT_EFFECTS),
            (U, VOLTAGE_EFFECTS),
            (direction, POWER_EFFECTS),
        ):
            phases, factor = effects.get(fault, (None, 1))
            column[phases or phase, at] *= factor
    P = np.where(measured, I * np.nan_to_num(U) / 1000 * direction, NOT_A_NUMBER)
    amps = np.where(measured, I, NOT_A_NUMBER)
    readings = reading_columns(amps, U, P, interval)

    # Faults of single readings.
    for fault, at in fault_spans.items():
        for n in range(size)[at]:
            spoil(rng, readings, n, fault, first=n == at.start)
    for n in np.flatnonzero(rng.random(size) < 0.04 * noise).tolist():
        spoil(rng, readings, n, str(rng.choice(NOISE_FAULTS)), first=True)
    return I * meter.ct, readings


def fault_span(rng: np.random.Generator, fault: str, size: int) -> slice:
    """The readings with a fault; `idle` and `unread` begin early and last."""
    begin = int(rng.integers(size))
    length = int(rng.integers(2, size))
    if fault in ("idle", "unread"):
        begin = int(rng.integers(size // 8, size // 4))
        length = size
    return slice(begin, begin + length)


def spoil(  # noqa: C901
    rng: np.random.Generator,
    readings: list[dict[str, Any]],
    n: int,
    fault: str,
    *,
    first: bool,
) -> None:
    """Let one reading of a meter suffer a fault."""
    columns = readings[n]
    if fault == "unread" or not columns:
        columns.clear()

    # The register.
    elif fault == "stopped":
        columns["register"] = readings[max(n - 1, 0)].get("register", NOT_A_NUMBER)
    elif fault == "backward" and first:
        for later in readings[n:]:
            if later:
                later["register"] -= 50
    elif fault == "low_register":
        columns["register"] -= 300

    # Other columns.
    elif fault == "drift":
        columns["clock_offset"] = float(rng.choice([30, 400, -700]))
    elif fault == "odd":
        name = str(rng.choice(["u", "i", "p", "kwh", "register"]))
        odd = np.float32(rng.choice([-5, 65535, np.inf, -np.inf, 4294967.295]))
        known = ~np.isnan(columns[name])
        columns[name] = np.where(known, odd, columns[name])
    elif fault == "estimated":
        columns["status"] = Status.ESTIMATED
    elif fault == "unmetered":
        columns["kwh"] = columns["kwh"] / np.float32(2)
    elif fault == "blank":
        for name in ("u", "i", "p", "q"):
            columns[name] = np.full_like(columns[name], NOT_A_NUMBER)


def distort(rows: list[Row], seed: int) -> None:
    """Add frequency, temperature, harmonics and angles to all readings; a few meters measure badly for a time."""
    rng = np.random.default_rng([seed, 2])
    readings = [row for row in rows if row.kind is Readings]
    first = min(row.at for row in readings)
    last = max(row.at for row in readings)

    # By meter: when it measures badly, and how its angles turn, if it has any.
    bad: dict[tuple[str, str], range] = {}
    turned: dict[tuple[str, str], Any] = {}
    for key in sorted({(row.area, row.subject) for row in readings}):
        begin = end = int(rng.integers(first, last))
        if rng.random() < 0.3:
            end += int(rng.integers(HOUR_SECONDS, DAY_SECONDS))
        bad[key] = range(begin, end)
        turned[key] = np.float32(rng.choice([1, -1, NOT_A_NUMBER]))

    # By area: when its frequency is off, for half a day.
    areas = sorted({row.area for row in readings})
    off_since = {area: int(rng.integers(first, last)) for area in areas}
    draws = rng.random((len(readings), 3))
    for row, noise in zip(readings, draws, strict=True):
        key = row.area, row.subject
        since = off_since[row.area]
        off = 0.0
        if 0 <= row.at - since < 12 * HOUR_SECONDS:
            off = 0.3 * (-1) ** (since % 2)
        distort_reading(row, noise, turned[key], off, is_bad=row.at in bad[key])


def distort_reading(
    row: Row, noise: Any, turn: Any, hertz_off: float, *, is_bad: bool
) -> None:
    """Add a reading's frequency, temperature, harmonics and angles."""
    columns = row.columns
    sign = np.sign(columns["u"])
    columns["u"] = columns["u"] * np.array([1, 0.9 if is_bad else 1, 1], np.float32)
    angle = noise + np.array([0, 125 if is_bad else 120, 240])
    columns["u_angle"] = np.float32(turn * sign * angle)

    hertz = 47 if is_bad else 0.1 * noise[1] + 49.95 + hertz_off
    columns["frequency"] = np.float32(hertz)
    celsius = 70 * noise[1] - 20
    if noise[2] < 0.2:
        celsius = NOT_A_NUMBER
    elif noise[2] > 0.995:
        celsius = 999
    columns["temperature"] = np.float32(celsius)
    thd = 65535 if noise[0] < 0.005 else noise + (4.3 if is_bad else 2.0)
    columns["thd"] = np.float32(sign * thd)


# Device events.


def outages(rng: np.random.Generator, area: Area, span: StreamSpan) -> list[Row]:
    """Outages, vacancies and meter changes of an area."""
    rows: list[Row] = []
    for event in (
        Event.POWER_OFF,
        Event.PLANNED_OUTAGE,
        Event.VACANCY,
        Event.METER_CHANGE,
        Event.COVER_OPEN,
    ):
        if rng.random() >= 0.4:
            continue

        at, end = sorted(rng.integers(span.start, span.end, 2).tolist())
        wide = event in (Event.POWER_OFF, Event.PLANNED_OUTAGE)
        subject = "" if wide else area.meters[-1].meter
        until = end if rng.random() < 0.6 else 0
        rows.append(event_row(area.area, subject, at, event, until=until))
        if event == Event.POWER_OFF:
            rows.append(event_row(area.area, "", end, Event.POWER_ON))
    return rows


def event_row(area: str, subject: str, at: int, event: Event, **more: float) -> Row:
    """A device event."""
    columns = dict(event=event, until=0, residual=NOT_A_NUMBER, seconds=NOT_A_NUMBER)
    return Row(DeviceEvents, area, subject, at, columns | more)


def device_reports(  # noqa: C901
    rng: np.random.Generator, area: Area, span: StreamSpan
) -> list[Row]:
    """The events that meters report, and the orders, inspections and planned outages beside them."""
    rows: list[Row] = []

    def add_event(
        subject: str, event: Event, times: int = 1, *, after: int = 0, **more: float
    ) -> int:
        at = after or span.time(rng)
        for n in range(times):
            at += int(rng.integers(1, DAY_SECONDS // 2)) if n else 0
            rows.append(event_row(area.area, subject, at, event, **more))
        return at

    def drawn_float(*values: float) -> float:
        return float(rng.choice(values))

    def add_openings(meter: str, event: Event) -> None:
        at = add_event(meter, event, int(rng.integers(1, 3)))
        for visit in (Event.WORK_ORDER, Event.INSPECTED):
            if rng.random() < 0.3:
                later = int(rng.integers(-2 * DAY_SECONDS, 2 * DAY_SECONDS))
                add_event(meter, visit, after=at + later)

    def add_field(meter: str) -> None:
        seconds = drawn_float(NOT_A_NUMBER, 20, 59.5, 60, 7000)
        at = add_event(meter, Event.MAGNETIC_FIELD, seconds=seconds)
        if rng.random() < 0.5:
            end = at + int(rng.choice([30, 60, 400]))
            add_event(meter, Event.MAGNETIC_FIELD_END, after=end)

    def add_relay_failures(meter: str) -> None:
        at = add_event(meter, Event.RELAY_FAILED, int(rng.integers(2, 5)))
        later = int(rng.integers(-DAY_SECONDS, DAY_SECONDS))
        add_event(meter, Event.RELAY_CLOSED, after=at + later)

    def add_sags(meter: str) -> None:
        residual = drawn_float(NOT_A_NUMBER, 0.05, 0.5, 0.95, 1.2)
        seconds = drawn_float(NOT_A_NUMBER, 0.005, 0.2, 90)
        times = int(rng.integers(1, 5))
        add_event(meter, Event.VOLTAGE_SAG, times, residual=residual, seconds=seconds)

    for meter in ("", *sorted({record.meter for record in area.meters}), "nobody"):
        for event in (
            Event.COVER_OPEN,
            Event.TERMINAL_OPEN,
            Event.DOOR_OPEN,
            Event.PARAM_CHANGE,
        ):
            if rng.random() < 0.3 and meter:
                add_openings(meter, event)
        if rng.random() < 0.3 and meter:
            add_field(meter)
        if rng.random() < 0.3 and meter:
            add_relay_failures(meter)
        if rng.random() < 0.4 and meter:
            add_sags(meter)
        if rng.random() < 0.4:
            add_event(meter, Event.POWER_OFF, int(rng.integers(2, 6)))
        if rng.random() < 0.2:
            at = add_event(meter, Event.PLANNED_OUTAGE)
            add_event("", Event.WORK_ORDER, after=at, until=at + DAY_SECONDS)
    return rows


# Payments.


def bills_and_payments(
    rng: np.random.Generator, area: Area, span: StreamSpan
) -> list[Row]:
    """Bills, partial payments, failures, and a channel that breaks down."""
    rows: list[Row] = []

    def add(
        at: float, customer: str, payment: Payment, amount: float, **more: Any
    ) -> None:
        columns = dict(
            payment=payment, amount=amount, bill="", channel="", succeeded=1, due=0
        )
        columns |= BLANK_BILL | more
        rows.append(Row(Payments, area.area, customer, int(at), columns))

    for n in range(int(rng.integers(0, 4))):
        customer = f"C{n}"
        issued = span.time(rng)
        due = issued + int(rng.integers(0, 2 * DAY_SECONDS))
        bill_rng = np.random.default_rng([issued, n])
        for at, bill in bill_issues(bill_rng, issued, span.end):
            add(at, customer, Payment.BILL, 100.0, bill="B", due=due, **bill)
        for amount in rng.choice([40, 60, 100], rng.integers(0, 4)).tolist():
            paid = dict(bill="B", channel="bank", succeeded=int(rng.random() < 0.5))
            add(span.time(rng), customer, Payment.PAYMENT, amount, **paid)
        add(span.time(rng), customer, Payment.BALANCE, 5.0)

    if rng.random() < 0.4:
        begin = span.time(rng) - DAY_SECONDS
        for n in range(100):
            topup = dict(channel="app", succeeded=int(n < 80))
            add(begin + 60 * n, f"C{n % 6}", Payment.TOPUP, n, **topup)
    return rows


def bill_issues(
    rng: np.random.Generator, issued: int, end: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """When and on which readings a bill of 100 yuan was issued: right or wrong, and perhaps once more."""
    delays = (0, int(rng.integers(HOUR_SECONDS, 3 * DAY_SECONDS)))
    issues = 1 + (rng.random() < 0.5)
    for delay in delays[:issues]:
        columns: dict[str, Any] = {}
        if rng.random() < 0.8:
            columns["read_at"] = issued - int(rng.integers(0, 30 * DAY_SECONDS))
        if rng.random() < 0.6:
            columns["read_register"] = 500.0
            columns["frozen_register"] = 500.0 + float(rng.choice([-2, 0, 0.5, 9]))
        if rng.random() < 0.8:
            columns["billed_kwh"] = float(rng.choice([200, 201, 150]))
            columns["billed_peak"] = 40.0
            columns["billed_demand"] = float(rng.choice([45, 60, NOT_A_NUMBER]))
        yield min(issued + delay, end), columns


def settlements(rows: list[Row], seed: int, end: int) -> list[Row]:
    """References for payments, a few of them twice, and their settlements: missing, twice or of another amount."""
    rng = np.random.default_rng([seed, 3])
    banks = np.random.default_rng([seed, 4])
    lines: list[Row] = []
    for n, row in enumerate(rows):
        if not is_payment(row) or rng.random() >= 0.8:
            continue
        row.columns["reference"] = f"R{n if rng.random() < 0.95 else n // 7 * 7}"
        settled = row.columns | dict(payment=Payment.SETTLEMENT)
        if rng.random() < 0.05:
            settled["amount"] += 1
        at = row.at + int(rng.integers(-HOUR_SECONDS, 30 * HOUR_SECONDS))
        times = [at, at + int(rng.integers(0, DAY_SECONDS))]
        count = rng.choice(3, p=[0.1, 0.85, 0.05])
        times = [at for at in times[:count] if at <= end]
        lines += [replace(row, at=at, columns=settled) for at in times]

        # The same payment under another reference, and a return.
        if row.columns["bill"] and rng.random() < 0.5:
            columns = row.columns | dict(reference=f"T{n}")
            again = min(row.at + HOUR_SECONDS, end)
            lines.append(replace(row, at=again, columns=columns))
        if row.columns["payment"] == Payment.PAYMENT and banks.random() < 0.3:
            lines.append(returned(banks, row, end))
    return lines


def is_payment(row: Row) -> bool:
    """Whether a row is a payment or a top-up."""
    paid = (Payment.PAYMENT, Payment.TOPUP)
    return row.kind is Payments and row.columns["payment"] in paid


def returned(rng: np.random.Generator, row: Row, end: int) -> Row:
    """A row by which a payment is taken back, or by which it had failed before it went through."""
    at = min(row.at + int(rng.integers(-HOUR_SECONDS, 3 * DAY_SECONDS)), end)
    changes = (
        dict(succeeded=0),
        dict(payment=Payment.REVERSAL),
        dict(amount=-row.columns["amount"], reference=f"B{at}"),
        dict(payment=Payment.REVERSAL, reference=""),
    )
    change = changes[int(rng.integers(len(changes)))]
    return replace(row, at=at, columns=row.columns | change)


# Work items.


def work_items(rng: np.random.Generator, span: StreamSpan) -> list[Row]:
    """Work items of two sections; a few stall, others are done in time or end before they begin."""
    rows: list[Row] = []
    for n in range(int(rng.integers(0, 8))):
        stage = str(rng.choice(["reading", "review", "unheard of"]))
        begun = span.time(rng)
        limit = float(rng.choice([HOUR_SECONDS, 6 * HOUR_SECONDS, NOT_A_NUMBER]))
        section = str(rng.choice(["S1", "S2"]))

        moves = [(begun, StageProgress.STARTED, limit)]
        if rng.random() < 0.7:
            done = begun + int(rng.integers(-HOUR_SECONDS, 2 * DAY_SECONDS))
            moves.append((done, StageProgress.FINISHED, NOT_A_NUMBER))
        for at, progress in pauses(np.random.default_rng([span.start, n]), begun):
            moves.append((at, progress, NOT_A_NUMBER))
        rows += [
            stage_row(section, f"W{n}", at, stage, progress, limit)
            for at, progress, limit in moves
        ]
    return rows


def stage_row(
    section: str,
    item: str,
    at: int,
    stage: str,
    progress: StageProgress,
    limit: float,
) -> Row:
    """A move of a work item."""
    columns = dict(stage=stage, progress=progress, limit=limit)
    return Row(Stages, section, item, at, columns)


def pauses(rng: np.random.Generator, begun: int) -> Iterator[tuple[int, StageProgress]]:
    """When an item waits for somebody else, and goes on; a few never do."""
    at = begun
    for _ in range(int(rng.choice(3, p=[0.6, 0.3, 0.1]))):
        at += int(rng.integers(-HOUR_SECONDS, 6 * HOUR_SECONDS))
        yield at, StageProgress.PAUSED
        if rng.random() < 0.8:
            at += int(rng.integers(0, 9 * HOUR_SECONDS))
            yield at, StageProgress.RESUMED


# On the way.


def in_order(stream: Stream, arrivals: Iterable[tuple[float, Row]]) -> Stream:
    """The stream with rows in order of their places; rows of one place keep their order."""
    return stream.with_rows(row for _, row in sorted(arrivals, key=itemgetter(0)))


def in_place(stream: Stream) -> list[tuple[float, Row]]:
    """The rows, each with its place."""
    return [(float(n), row) for n, row in enumerate(stream.rows)]


def with_closing_readings(stream: Stream, after: int) -> Stream:
    """One more empty reading of every meter, so many seconds after the end: every window before it closes."""
    readings = [row for row in stream.rows if row.kind is Readings]
    meters = dict.fromkeys((row.area, row.subject) for row in readings)
    at = max(row.at for row in stream.rows) // HOUR_SECONDS * HOUR_SECONDS + after
    blank = {
        name: value
        if name in ("received", "status")
        else np.full_like(value, NOT_A_NUMBER)
        for name, value in readings[0].columns.items()
    }
    closing = [Row(Readings, area, meter, at, blank) for area, meter in meters]
    return stream.with_rows([*stream.rows, *closing])


def with_work_items(stream: Stream, seed: int, items: int = 12) -> Stream:
    """Beside the rows a section that takes items through five stages; a few stay in one."""
    rng = np.random.default_rng([seed, 5])
    times = [row.at for row in stream.rows]
    first, last = np.quantile(times, [0.1, 0.9]).astype(int).tolist()
    moves: list[Row] = []
    for n in range(items):
        at = int(rng.integers(first, last))
        for stage in range(1, int(rng.integers(2, 7))):
            for progress in (StageProgress.STARTED, StageProgress.FINISHED):
                name = f"stage{stage}"
                row = stage_row("S3", f"I{n}", at, name, progress, HOUR_SECONDS)
                moves.append(row)
                at += int(rng.integers(60, 3 * HOUR_SECONDS))

    arrivals = in_place(stream)
    for row in moves:
        if row.at < last:
            place = (row.at - first) / (last - first) * len(stream.rows)
            arrivals.append((place, row))
    return in_order(stream, arrivals)


def first_readings(stream: Stream) -> set[int]:
    """The places of the rows that are the first readings of their meters."""
    first: dict[tuple[str, str], int] = {}
    for n, row in enumerate(stream.rows):
        if row.kind is Readings:
            first.setdefault((row.area, row.subject), n)
    return set(first.values())


def shuffled(stream: Stream, seed: int, within: int) -> Stream:
    """Rows delayed by up to `within` seconds, but for the first of each meter; payments of an area keep their order."""
    rng = np.random.default_rng(seed)
    first = first_readings(stream)
    last_payment = dict.fromkeys((row.area for row in stream.rows), 0)
    arrivals: list[tuple[int, int]] = []
    for n, row in enumerate(stream.rows):
        arrival = row.at + int(rng.integers(0, within + 1)) * (n not in first)
        if row.kind is Payments:
            arrival = max(arrival, last_payment[row.area])
            last_payment[row.area] = arrival
        arrivals.append((arrival, n))
    return stream.with_rows(stream.rows[n] for _, n in sorted(arrivals))


def by_topic(
    stream: Stream, span: int = DAY_SECONDS, *, events_last: bool = False
) -> Stream:
    """One topic after the other, a span of time at once; device events first or last."""

    def place(row: Row) -> tuple[int, bool, str]:
        last = events_last and row.kind is DeviceEvents
        return row.at // span, last, row.kind.kind

    return stream.with_rows(sorted(stream.rows, key=place))


def drawn_topics(stream: Stream, rng: np.random.Generator) -> Stream:
    """One topic after the other, in an order that is drawn."""
    kinds = sorted({row.kind.kind for row in stream.rows})
    order = rng.permutation(kinds).tolist()
    return stream.with_rows(
        sorted(stream.rows, key=lambda row: order.index(row.kind.kind))
    )


def staggered_areas(stream: Stream, seed: int) -> Stream:
    """Areas come at paces of their own: one may have ended before another begins."""
    rng = np.random.default_rng(seed)
    areas = sorted({row.area for row in stream.rows})
    delays = {area: int(rng.integers(len(stream.rows))) for area in areas}
    order = sorted(
        range(len(stream.rows)), key=lambda n: n + delays[stream.rows[n].area]
    )
    return stream.with_rows(stream.rows[n] for n in order)


def by_meter(stream: Stream, span: int = DAY_SECONDS) -> Stream:
    """One meter after the other, a span of time at once; the other topics in between, as they come."""

    def place(row: Row) -> tuple[int, str]:
        return row.at // span, row.subject if row.kind is Readings else ""

    return stream.with_rows(sorted(stream.rows, key=place))


def straggling(
    stream: Stream, seed: int, least: int, most: int, share: float = 0.05
) -> Stream:
    """A share of the readings, but never a meter's first, come `least` to `most` seconds late, out of order."""
    rng = np.random.default_rng(seed)
    first = first_readings(stream)
    arrivals: list[tuple[int, int]] = []
    for n, row in enumerate(stream.rows):
        late = row.kind is Readings and n not in first and rng.random() < share
        delay = int(rng.integers(least, most)) if late else 0
        arrivals.append((row.at + delay, n))
    return stream.with_rows(stream.rows[n] for _, n in sorted(arrivals))


def duplicated(stream: Stream, seed: int, share: float = 0.1) -> Stream:
    """A share of the rows come twice, at once or much later."""
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(rng.random(len(stream.rows)) < share).tolist()
    arrivals = in_place(stream)
    for n in places:
        later = rng.choice([0.5, 50, len(stream.rows)]) * rng.random()
        arrivals.append((n + float(later) + 0.01, stream.rows[n]))
    return in_order(stream, arrivals)


def corrected(stream: Stream, seed: int, share: float = 0.03) -> Stream:
    """A share of the readings come a second time with half of their energy."""
    rng = np.random.default_rng(seed)
    arrivals = in_place(stream)
    for n, row in enumerate(stream.rows):
        if row.kind is Readings and rng.random() < share:
            columns = row.columns | {"kwh": row.columns["kwh"] / np.float32(2)}
            place = n + float(rng.integers(1, 200)) + 0.5
            arrivals.append((place, replace(row, columns=columns)))
    return in_order(stream, arrivals)


def with_wrong_clock(
    stream: Stream, area: str, subject: str, ahead: int, *, received: bool = False
) -> Stream:
    """One meter's clock is wrong from the start; with `received` the head-end notes every receipt time."""
    rows: list[Row] = []
    for row in stream.rows:
        if row.kind is not Readings:
            rows.append(row)
            continue

        is_wrong = (row.area, row.subject) == (area, subject)
        at = row.at + ahead if is_wrong else row.at
        columns = row.columns | ({"received": row.at} if received else {})
        rows.append(replace(row, at=at, columns=columns))
    return stream.with_rows(rows)


def mistimed(stream: Stream, seed: int) -> Stream:
    """Among the readings a few with event times of 1970, 2038 and beyond."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for row in stream.rows:
        rows.append(row)
        if row.kind is Readings and rng.random() < 0.02:
            at = int(rng.choice([0, 1, 100_000, 2**31 - 1, 2**31, 2**32, 2**40]))
            is_received = at in (2**31 - 1, 2**31) or rng.random() < 0.5
            columns = row.columns | {"received": row.at if is_received else 0}
            rows.append(replace(row, at=at, columns=columns))
    return stream.with_rows(rows)


def adversarial_stream(seed: int, *, interval: int = 0) -> Stream:
    """A town with all that can happen at once."""
    stream = town(seed, interval=interval)
    stream = straggling(stream, seed, 0, 2 * DAY_SECONDS)
    stream = straggling(stream, seed + 1, 3 * DAY_SECONDS, 6 * DAY_SECONDS, 0.02)
    stream = duplicated(corrected(stream, seed), seed)
    first = next(row for row in stream.rows if row.kind is Readings)
    if seed % 3 == 0:
        ahead = DAY_SECONDS + HOUR_SECONDS * (seed % 5)
        stream = with_wrong_clock(stream, first.area, first.subject, ahead)
    return mistimed(stream, seed)

"""Small streams of every kind, as hostile as life: a pure function of a seed, and what can happen to one on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from typing import Any
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
from schemas.master import Area, Meter, Tariff, Transformer, VectorGroup
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

ALL_PHASES = slice(None)
Effects = dict[
    str, tuple[slice | None, float]
]  # by fault: which phases, None for a single one, and a factor
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
        starts |= {
            n
            for n in range(1, len(self.rows))
            if self.rows[n].kind is not self.rows[n - 1].kind
        }
        done = dict.fromkeys(self.batch_by_kind, 0)
        for start, end in pairwise([*sorted(starts), len(self.rows)]):
            kind = self.rows[start].kind
            yield self.batch_by_kind[kind].select(
                slice(done[kind], done[kind] + end - start)
            )
            done[kind] += end - start

    def with_rows(self, rows: Iterable[Row]) -> Stream:
        """The same master data with other rows."""
        return Stream(self.areas, tuple(rows), self.zone, self.interval)


def batch_of(rows: Sequence[Row]) -> Batch:
    """One batch of rows of one kind."""
    kind = rows[0].kind
    texts = kind.encodings()
    columns: dict[str, Any] = {}
    for name, code in texts.items():
        told = [
            {"subject": r.subject, "area": r.area}.get(code, r.columns.get(code, ""))
            for r in rows
        ]
        known = {text: n for n, text in enumerate(dict.fromkeys(told))}
        columns[name], columns[code] = tuple(known), [known[text] for text in told]
    for name in rows[0].columns:
        if name not in texts.values():
            columns[name] = np.array([r.columns[name] for r in rows]).T
    return kind.build(at=[r.at for r in rows], **columns)


def town(seed: int, *, interval: int = 0, noise: bool = True) -> Stream:
    """A few areas over some days, in event-time order; `noise` adds what only point rules and validation notice."""
    g = np.random.default_rng(seed)
    interval = interval or int(g.choice(list(STREAM_DAYS)))
    zone, year, month, day = STREAM_STARTS[g.integers(len(STREAM_STARTS))]
    start = int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())
    end = start + STREAM_DAYS[interval] * DAY_SECONDS
    names = g.permutation(["A1", "A2", "A3"])[: g.integers(2, 4)].tolist()
    areas = [
        with_contracts(
            with_capacity_limits(area_of(g, name, start, end, interval), seed),
            seed,
            end,
        )
        for name in names
    ]
    rows: list[Row] = []
    devices = np.random.default_rng([seed, 1])
    for area in areas:
        rows += reported(devices, area, start, end)
        rows += metered(g, area, start, end, interval, noise=noise)
        rows += outages(g, area, start, end) + paid(g, area, start, end)
    if g.random() < 0.5:
        stranger = Area(area="unknown", meters=[Meter(meter="M1"), Meter(meter="M2")])
        rows += metered(g, stranger, start, end, interval, noise=noise)
    rows += staged(g, start, end)
    rows += settlements(rows, seed, end)
    rows += connected(areas, seed, start, end, interval)
    distort(rows, seed)
    ranks = g.random(len(rows))
    order = sorted(
        range(len(rows)), key=lambda n: (rows[n].at, rows[n].kind.kind, ranks[n])
    )
    return Stream(areas, tuple(rows[n] for n in order), zone, interval)


def area_of(
    g: np.random.Generator, name: str, start: int, end: int, interval: int
) -> Area:
    """An area of two to five meters, perhaps with a gateway, with master data that changes on the way."""
    gateway = f"{name}G" if g.random() < 0.6 else ""
    middle = int(g.integers(start, end)) // HOUR_SECONDS * HOUR_SECONDS
    meters = []
    if gateway:
        meters.append(
            Meter(
                meter=gateway, wiring="3P4W", ct=20.0, imax_a=10.0, interval_s=interval
            )
        )
    for n in range(int(g.integers(1 if gateway else 2, 4))):
        three = g.random() < 0.5
        record = Meter(
            meter=f"M{n}",
            interval_s=interval,
            wiring="1P2W" if not three else "3P3W" if g.random() < 0.2 else "3P4W",
            contract_kva=float(g.choice([3, 20])) if g.random() < 0.7 else None,
            segment="commercial" if g.random() < 0.6 else "residential",
            pv_kva=5.0 if g.random() < 0.1 else 0.0,
            customer=f"C{n}",
            tariff=("home", "works", "shop")[n],
            declared_kw=50.0 if n == 1 else None,
            read_day=5 if n == 0 else 0,
            credit=("", "A", "D")[n],
        )
        meters.append(record)
        if g.random() < 0.3:
            meters.append(
                meter_with(
                    record, effective=middle, contract_kva=2.0, ct=2.0 if three else 1.0
                )
            )
        elif g.random() < 0.1:
            meters[-1] = meter_with(record, until=middle)
    group: VectorGroup = "Dyn11" if g.random() < 0.3 else "Yyn0"
    transformers = [
        Transformer(rating_kva=float(g.choice([8, 60])), vector_group=group)
    ]
    if g.random() < 0.3:
        transformers.append(Transformer(rating_kva=10.0, effective=middle))
    return Area(
        area=name,
        section=f"S{name}",
        gateway=gateway,
        transformers=transformers,
        meters=meters,
        tariffs=TOWN_TARIFFS,
    )


def with_contracts(area: Area, seed: int, end: int) -> Area:
    """The area with contracts, trades and dates of calibration, not all of them in order."""
    g = np.random.default_rng([seed, 2, *area.area.encode()])

    def one(meter: Meter) -> Meter:
        signed = float(g.choice([3, 20]))
        return meter_with(
            meter,
            trade=str(g.choice(["", "", "A", "C", "K"])),
            signed_kva=signed if g.random() < 0.5 else None,
            calibration_due=end + int(g.integers(-100 * DAY_SECONDS, DAY_SECONDS))
            if g.random() < 0.4
            else 0,
            contract_until=end + int(g.integers(-9 * DAY_SECONDS, 70 * DAY_SECONDS))
            if g.random() < 0.6
            else 0,
            phase=str(g.choice(["", "A", "B", "C"])),
        )

    return msgspec.structs.replace(area, meters=[one(meter) for meter in area.meters])


def connected(
    areas: list[Area], seed: int, start: int, end: int, interval: int
) -> list[Row]:
    """The readings, if there are any, of customers who are connected to some areas on the way."""
    g, rows = np.random.default_rng([seed, 4]), list[Row]()
    for n, area in enumerate(areas):
        if g.random() < 0.4:
            told = dict(
                meter="new",
                customer="CN",
                effective=int(g.integers(start, end)),
                until=0,
            )
            new = msgspec.structs.replace(area.meters[-1], **told)
            areas[n] = msgspec.structs.replace(area, meters=[*area.meters, new])
            alone = Area(area=area.area, meters=[new] * int(g.integers(2)))
            read = metered(g, alone, start, end, interval, noise=False)
            rows += [
                row for row in read if row.subject == "new" and row.at > new.effective
            ]
    return rows


def meter_with(meter: Meter, **changes: Any) -> Meter:
    """A meter's record with some fields changed."""
    return Meter(**{f: getattr(meter, f) for f in meter.__struct_fields__} | changes)


def with_capacity_limits(area: Area, seed: int) -> Area:
    """The area with customers who have suspended capacity, have a transformer of their own or too small a meter."""
    g = np.random.default_rng([seed, 1, *area.area.encode()])

    def one(meter: Meter) -> Meter:
        chance = g.random()
        if meter.meter == area.gateway or chance > 0.6:
            return meter
        if chance < 0.2 and meter.contract_kva:
            return meter_with(
                meter, suspended_kva=float(g.choice([0.9, 1.0])) * meter.contract_kva
            )
        return (
            meter_with(meter, own_transformer_kva=1.5)
            if chance < 0.4
            else meter_with(meter, imax_a=12.0)
        )

    return Area(
        **{f: getattr(area, f) for f in area.__struct_fields__}
        | {"meters": [one(m) for m in area.meters]}
    )


def distort(rows: list[Row], seed: int) -> None:
    """Let readings tell frequency and harmonics, and of some meters angles; at a few all goes bad for a time."""
    g = np.random.default_rng([seed, 2])
    reads = [row for row in rows if row.kind is Readings]
    first, last = min(row.at for row in reads), max(row.at for row in reads)
    bad, turned = {}, {}
    for key in sorted({(row.area, row.subject) for row in reads}):
        begin = int(g.integers(first, last))
        bad[key] = range(
            begin,
            begin + int(g.integers(HOUR_SECONDS, DAY_SECONDS))
            if g.random() < 0.3
            else begin,
        )
        turned[key] = np.float32(g.choice([1, -1, NOT_A_NUMBER]))
    spans = {
        area: int(g.integers(first, last))
        for area in sorted({row.area for row in reads})
    }
    for row, noise in zip(reads, g.random((len(reads), 3)), strict=True):
        c, worse, lit = (
            row.columns,
            row.at in bad[row.area, row.subject],
            np.sign(row.columns["u"]),
        )
        c["u"] = c["u"] * np.array([1, 0.9 if worse else 1, 1], np.float32)
        angle = noise + np.array([0, 125 if worse else 120, 240])
        c["u_angle"] = np.float32(turned[row.area, row.subject] * lit * angle)
        off = 0.3 if 0 <= row.at - spans[row.area] < 12 * HOUR_SECONDS else 0
        c["frequency"] = np.float32(
            47
            if worse
            else 0.1 * noise[1] + 49.95 + off * (-1) ** (spans[row.area] % 2)
        )
        c["temperature"] = np.float32(
            NOT_A_NUMBER
            if noise[2] < 0.2
            else 999
            if noise[2] > 0.995
            else 70 * noise[1] - 20
        )
        c["thd"] = np.float32(
            lit * (65535 if noise[0] < 0.005 else noise + (4.3 if worse else 2.0))
        )


def metered(
    g: np.random.Generator,
    area: Area,
    start: int,
    end: int,
    interval: int,
    *,
    noise: bool,
) -> list[Row]:
    """Every meter's readings; a gateway sees what its users use, more when they steal."""
    times = np.arange(start + interval, end + 1, interval)
    meters = {m.meter: m for m in reversed(area.meters)}
    if g.random() < 0.4:
        meters["stranger"] = Meter(meter="stranger")
    users = [m for m in meters.values() if m.meter != area.gateway]
    rows: list[Row] = []
    drawn = np.zeros((3, len(times)))
    for m in users:
        amps, told = user(g, m, times, interval, noise=noise)
        drawn += amps
        rows += [
            Row(Readings, area.area, m.meter, int(t), c)
            for t, c in zip(times, told, strict=True)
            if c
        ]
    if area.gateway:
        lost = np.where(
            times > start + g.integers(STREAM_DAYS[interval]) * DAY_SECONDS,
            g.choice([1.0, 1.3]),
            1.0,
        )
        amps = drawn * lost / 20
        told = reading_columns(amps, np.full_like(amps, 230.0), amps * 0.23, interval)
        rows += [
            Row(Readings, area.area, area.gateway, int(t), c)
            for t, c in zip(times, told, strict=True)
        ]
    return rows


def reading_columns(i: Any, u: Any, p: Any, interval: int) -> list[dict[str, Any]]:
    """The columns of a meter's readings from its currents, voltages and powers by phase and time."""
    i, u, p = (np.round(column, 3).astype(np.float32) for column in (i, u, p))
    kwh = np.round(np.nan_to_num(p).sum(axis=0) * interval / HOUR_SECONDS, 3).astype(
        np.float32
    )
    register = np.round(1000 + np.cumsum(kwh.astype(float)), 2)
    return [
        dict(
            u=u[:, n],
            i=i[:, n],
            p=p[:, n],
            q=np.float32(0.2) * p[:, n],
            kwh=kwh[n],
            register=register[n],
            clock_offset=NOT_A_NUMBER,
            received=0,
            status=Status.MEASURED,
        )
        for n in range(i.shape[1])
    ]


def user(
    g: np.random.Generator, m: Meter, times: Any, interval: int, *, noise: bool
) -> tuple[Any, list[dict[str, Any]]]:
    """The primary currents a customer draws, and what the meter tells; an empty reading was not made."""
    size = len(times)
    lit = np.array([[1], [m.wiring != "1P2W"], [m.wiring != "1P2W"]], bool) & np.ones(
        (3, size), bool
    )
    i = np.where(lit, np.abs(g.normal(2, 0.3, (3, size))), 0.0)
    u = np.where(lit, g.normal(228, 2, (3, size)), NOT_A_NUMBER)
    phase = int(g.integers(3)) if m.wiring == "3P4W" else 0
    back = np.ones((3, size))
    spans: dict[str, slice] = {}
    for fault in g.permutation(READING_FAULTS)[: g.integers(0, 4)].tolist():
        begin, length = int(g.integers(size)), int(g.integers(2, size))
        if fault in ("idle", "unread"):
            begin, length = int(g.integers(size // 8, size // 4)), size
        spans[fault] = at = slice(begin, begin + length)
        for column, effects in (
            (i, CURRENT_EFFECTS),
            (u, VOLTAGE_EFFECTS),
            (back, POWER_EFFECTS),
        ):
            phases, factor = effects.get(fault, (None, 1))
            column[phases or phase, at] *= factor
    p = i * np.nan_to_num(u) / 1000 * back
    told = reading_columns(
        np.where(lit, i, NOT_A_NUMBER), u, np.where(lit, p, NOT_A_NUMBER), interval
    )
    for fault, at in spans.items():
        for n in range(size)[at]:
            spoil(g, told, n, fault, first=n == at.start)
    for n in np.flatnonzero(g.random(size) < 0.04 * noise).tolist():
        fault = str(
            g.choice(["odd", "unread", "drift", "estimated", "low_register", "blank"])
        )
        spoil(g, told, n, fault, first=True)
    return i * m.ct, told


def spoil(  # noqa: C901
    g: np.random.Generator,
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
    elif fault == "stopped":
        columns["register"] = readings[max(n - 1, 0)].get("register", NOT_A_NUMBER)
    elif fault == "backward" and first:
        for later in readings[n:]:
            if later:
                later["register"] -= 50
    elif fault == "low_register":
        columns["register"] -= 300
    elif fault == "drift":
        columns["clock_offset"] = float(g.choice([30, 400, -700]))
    elif fault == "odd":
        name = str(g.choice(["u", "i", "p", "kwh", "register"]))
        odd = g.choice([-5, 65535, np.inf, -np.inf, 4294967.295])
        columns[name] = np.where(
            np.isnan(columns[name]), columns[name], np.float32(odd)
        )
    elif fault == "estimated":
        columns["status"] = Status.ESTIMATED
    elif fault == "unmetered":
        columns["kwh"] = columns["kwh"] / np.float32(2)
    elif fault == "blank":
        for name in ("u", "i", "p", "q"):
            columns[name] = np.full_like(columns[name], NOT_A_NUMBER)


def outages(g: np.random.Generator, area: Area, start: int, end: int) -> list[Row]:
    """Outages, vacancies and meter changes of an area."""
    rows = []
    for event in (
        Event.POWER_OFF,
        Event.PLANNED_OUTAGE,
        Event.VACANCY,
        Event.METER_CHANGE,
        Event.COVER_OPEN,
    ):
        if g.random() < 0.4:
            at, until = sorted(g.integers(start, end, 2).tolist())
            subject = (
                ""
                if event in (Event.POWER_OFF, Event.PLANNED_OUTAGE)
                else area.meters[-1].meter
            )
            told = until if g.random() < 0.6 else 0
            rows.append(event_row(area.area, subject, at, event, until=told))
            if event == Event.POWER_OFF:
                rows.append(event_row(area.area, "", until, Event.POWER_ON))
    return rows


def event_row(area: str, subject: str, at: int, event: Event, **more: float) -> Row:
    """A device event."""
    return Row(
        DeviceEvents,
        area,
        subject,
        at,
        dict(event=event, until=0, residual=NOT_A_NUMBER, seconds=NOT_A_NUMBER) | more,
    )


def reported(g: np.random.Generator, area: Area, start: int, end: int) -> list[Row]:  # noqa: C901
    """What meters report of themselves, and the orders, visits and planned outages beside it."""
    rows = []

    def add_event(
        subject: str, event: Event, times: int = 1, *, after: int = 0, **more: float
    ) -> int:
        at = after or int(g.integers(start, end))
        for n in range(times):
            at += int(g.integers(1, DAY_SECONDS // 2)) if n else 0
            rows.append(event_row(area.area, subject, at, event, **more))
        return at

    for meter in ("", *sorted({m.meter for m in area.meters}), "nobody"):
        for event in (
            Event.COVER_OPEN,
            Event.TERMINAL_OPEN,
            Event.DOOR_OPEN,
            Event.PARAM_CHANGE,
        ):
            if g.random() < 0.3 and meter:
                at = add_event(meter, event, int(g.integers(1, 3)))
                for visit in (Event.WORK_ORDER, Event.INSPECTED):
                    if g.random() < 0.3:
                        add_event(
                            meter,
                            visit,
                            after=at
                            + int(g.integers(-2 * DAY_SECONDS, 2 * DAY_SECONDS)),
                        )
        if g.random() < 0.3 and meter:
            at = add_event(
                meter,
                Event.MAGNETIC_FIELD,
                seconds=float(g.choice([NOT_A_NUMBER, 20, 59.5, 60, 7000])),
            )
            if g.random() < 0.5:
                add_event(
                    meter,
                    Event.MAGNETIC_FIELD_END,
                    after=at + int(g.choice([30, 60, 400])),
                )
        if g.random() < 0.3 and meter:
            done = add_event(meter, Event.RELAY_FAILED, int(g.integers(2, 5)))
            add_event(
                meter,
                Event.RELAY_CLOSED,
                after=done + int(g.integers(-DAY_SECONDS, DAY_SECONDS)),
            )
        if g.random() < 0.4 and meter:
            depth, length = (
                float(g.choice([NOT_A_NUMBER, 0.05, 0.5, 0.95, 1.2])),
                float(g.choice([NOT_A_NUMBER, 0.005, 0.2, 90])),
            )
            add_event(
                meter,
                Event.VOLTAGE_SAG,
                int(g.integers(1, 5)),
                residual=depth,
                seconds=length,
            )
        if g.random() < 0.4:
            add_event(meter, Event.POWER_OFF, int(g.integers(2, 6)))
        if g.random() < 0.2:
            at = add_event(meter, Event.PLANNED_OUTAGE)
            add_event("", Event.WORK_ORDER, after=at, until=at + DAY_SECONDS)
    return rows


def paid(g: np.random.Generator, area: Area, start: int, end: int) -> list[Row]:
    """Bills, payments in parts, failures, and a channel that breaks down."""

    def row(
        at: float, customer: str, payment: Payment, amount: float, **more: Any
    ) -> Row:
        columns = dict(
            payment=payment, amount=amount, bill="", channel="", succeeded=1, due=0
        )
        return Row(Payments, area.area, customer, int(at), columns | BLANK_BILL | more)

    def sometime() -> int:
        return int(g.integers(start, end))

    rows = []
    for n in range(int(g.integers(0, 4))):
        issued = sometime()
        due = issued + int(g.integers(0, 2 * DAY_SECONDS))
        for at, told in issues(np.random.default_rng([issued, n]), issued, end):
            rows.append(
                row(at, f"C{n}", Payment.BILL, 100.0, bill="B", due=due, **told)
            )
        for amount in g.choice([40, 60, 100], g.integers(0, 4)).tolist():
            told = dict(bill="B", channel="bank", succeeded=int(g.random() < 0.5))
            rows.append(row(sometime(), f"C{n}", Payment.PAYMENT, amount, **told))
        rows.append(row(sometime(), f"C{n}", Payment.BALANCE, 5.0))
    if g.random() < 0.4:
        begin = sometime() - DAY_SECONDS
        for n in range(100):
            told = dict(channel="app", succeeded=int(n < 80))
            rows.append(row(begin + 60 * n, f"C{n % 6}", Payment.TOPUP, n, **told))
    return rows


def settlements(rows: list[Row], seed: int, end: int) -> list[Row]:
    """Numbers for payments, some of which come once more, and the lines that settle them, missing, twice or off."""
    g, banks = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 4])
    lines: list[Row] = []
    for n, row in enumerate(rows):
        if (
            row.kind is Payments
            and row.columns["payment"] in (Payment.PAYMENT, Payment.TOPUP)
            and g.random() < 0.8
        ):
            row.columns["reference"] = f"R{n if g.random() < 0.95 else n // 7 * 7}"
            told = row.columns | dict(payment=Payment.SETTLEMENT)
            if g.random() < 0.05:
                told["amount"] += 1
            came = row.at + int(g.integers(-HOUR_SECONDS, 30 * HOUR_SECONDS))
            times = [came, came + int(g.integers(0, DAY_SECONDS))][
                : g.choice(3, p=[0.1, 0.85, 0.05])
            ]
            lines += [replace(row, at=at, columns=told) for at in times if at <= end]
            if row.columns["bill"] and g.random() < 0.5:
                lines.append(
                    replace(
                        row,
                        at=min(row.at + HOUR_SECONDS, end),
                        columns=row.columns | dict(reference=f"T{n}"),
                    )
                )
            if row.columns["payment"] == Payment.PAYMENT and banks.random() < 0.3:
                lines.append(returned(banks, row, end))
    return lines


def returned(g: np.random.Generator, row: Row, end: int) -> Row:
    """A row by which a payment is taken back, or by which it had failed before it went through."""
    at = min(row.at + int(g.integers(-HOUR_SECONDS, 3 * DAY_SECONDS)), end)
    ways = (
        dict(succeeded=0),
        dict(payment=Payment.REVERSAL),
        dict(amount=-row.columns["amount"], reference=f"B{at}"),
        dict(payment=Payment.REVERSAL, reference=""),
    )
    return replace(row, at=at, columns=row.columns | ways[int(g.integers(len(ways)))])


def issues(
    g: np.random.Generator, issued: int, end: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """When and on what a bill of 100 yuan was issued: rightly or wrongly, and perhaps once more."""
    for wait in (0, int(g.integers(HOUR_SECONDS, 3 * DAY_SECONDS)))[
        : 1 + (g.random() < 0.5)
    ]:
        told: dict[str, Any] = {}
        if g.random() < 0.8:
            told["read_at"] = issued - int(g.integers(0, 30 * DAY_SECONDS))
        if g.random() < 0.6:
            told |= dict(
                read_register=500.0,
                frozen_register=500.0 + float(g.choice([-2, 0, 0.5, 9])),
            )
        if g.random() < 0.8:
            told |= dict(billed_kwh=float(g.choice([200, 201, 150])), billed_peak=40.0)
            told["billed_demand"] = float(g.choice([45, 60, NOT_A_NUMBER]))
        yield min(issued + wait, end), told


def staged(g: np.random.Generator, start: int, end: int) -> list[Row]:
    """Work items of two sections; some stall, some are done in time, some end before they begin."""
    rows = []
    for n in range(int(g.integers(0, 8))):
        stage = str(g.choice(["reading", "review", "unheard of"]))
        begun = int(g.integers(start, end))
        limit = float(g.choice([HOUR_SECONDS, 6 * HOUR_SECONDS, NOT_A_NUMBER]))
        section = str(g.choice(["S1", "S2"]))
        rows.append(
            Row(
                Stages,
                section,
                f"W{n}",
                begun,
                dict(stage=stage, progress=StageProgress.STARTED, limit=limit),
            )
        )
        if g.random() < 0.7:
            done = begun + int(g.integers(-HOUR_SECONDS, 2 * DAY_SECONDS))
            rows.append(
                Row(
                    Stages,
                    section,
                    f"W{n}",
                    done,
                    dict(
                        stage=stage, progress=StageProgress.FINISHED, limit=NOT_A_NUMBER
                    ),
                )
            )
        for at, progress in waits(np.random.default_rng([start, n]), begun):
            rows.append(
                Row(
                    Stages,
                    section,
                    f"W{n}",
                    at,
                    dict(stage=stage, progress=progress, limit=NOT_A_NUMBER),
                )
            )
    return rows


def waits(g: np.random.Generator, begun: int) -> Iterator[tuple[int, StageProgress]]:
    """When an item waits for somebody else, and goes on; some never do."""
    at = begun
    for _ in range(int(g.choice(3, p=[0.6, 0.3, 0.1]))):
        yield (
            (at := at + int(g.integers(-HOUR_SECONDS, 6 * HOUR_SECONDS))),
            StageProgress.PAUSED,
        )
        if g.random() < 0.8:
            yield (
                (at := at + int(g.integers(0, 9 * HOUR_SECONDS))),
                StageProgress.RESUMED,
            )


# What can happen on the way.


def with_closing_readings(stream: Stream, after: int) -> Stream:
    """One more reading of every meter, all at one moment so long after the end: every window before it closes."""
    subjects = dict.fromkeys(
        (r.area, r.subject) for r in stream.rows if r.kind is Readings
    )
    at = max(r.at for r in stream.rows) // HOUR_SECONDS * HOUR_SECONDS + after
    model = next(r.columns for r in stream.rows if r.kind is Readings)
    blank = {
        n: value if n in ("received", "status") else np.full_like(value, NOT_A_NUMBER)
        for n, value in model.items()
    }
    return stream.with_rows(
        [*stream.rows, *(Row(Readings, a, s, at, blank) for a, s in subjects)]
    )


def with_work_items(stream: Stream, seed: int, items: int = 12) -> Stream:
    """Beside the rows a section that takes items through five stages; some stay in one."""
    g = np.random.default_rng([seed, 5])
    first, last = (
        np.quantile([row.at for row in stream.rows], [0.1, 0.9]).astype(int).tolist()
    )
    moves: list[Row] = []
    for n in range(items):
        at = int(g.integers(first, last))
        for stage in range(1, int(g.integers(2, 7))):
            for progress in (StageProgress.STARTED, StageProgress.FINISHED):
                moves.append(
                    Row(
                        Stages,
                        "S3",
                        f"I{n}",
                        at,
                        dict(
                            stage=f"stage{stage}", progress=progress, limit=HOUR_SECONDS
                        ),
                    )
                )
                at += int(g.integers(60, 3 * HOUR_SECONDS))
    arrivals = [(float(n), row) for n, row in enumerate(stream.rows)]
    arrivals += [
        ((row.at - first) / (last - first) * len(stream.rows), row)
        for row in moves
        if row.at < last
    ]
    return stream.with_rows(row for _, row in sorted(arrivals, key=itemgetter(0)))


def first_readings(stream: Stream) -> set[int]:
    """Which rows are the first readings of their meters."""
    first: dict[tuple[str, str], int] = {}
    for n, row in enumerate(stream.rows):
        if row.kind is Readings:
            first.setdefault((row.area, row.subject), n)
    return set(first.values())


def shuffled(stream: Stream, seed: int, within: int) -> Stream:
    """Rows delayed by up to `within` seconds, but for the first of each meter; payments of an area keep their order."""
    g = np.random.default_rng(seed)
    first, paid = (
        first_readings(stream),
        dict.fromkeys((row.area for row in stream.rows), 0),
    )
    arrivals = []
    for n, row in enumerate(stream.rows):
        came = row.at + int(g.integers(0, within + 1)) * (n not in first)
        if row.kind is Payments:
            came = paid[row.area] = max(came, paid[row.area])
        arrivals.append((came, n))
    return stream.with_rows(stream.rows[n] for _, n in sorted(arrivals))


def by_topic(
    stream: Stream, span: int = DAY_SECONDS, *, events_last: bool = False
) -> Stream:
    """One topic after the other, a span of time at once; device events first or last."""
    return stream.with_rows(
        sorted(
            stream.rows,
            key=lambda r: (
                r.at // span,
                events_last and r.kind is DeviceEvents,
                r.kind.kind,
            ),
        )
    )


def drawn_topics(stream: Stream, g: np.random.Generator) -> Stream:
    """One topic after the other, in an order that is drawn."""
    order = g.permutation(sorted({row.kind.kind for row in stream.rows})).tolist()
    return stream.with_rows(
        sorted(stream.rows, key=lambda row: order.index(row.kind.kind))
    )


def staggered_areas(stream: Stream, seed: int) -> Stream:
    """Areas come at paces of their own: one may have told all before another begins."""
    g = np.random.default_rng(seed)
    waits = {
        area: int(g.integers(len(stream.rows)))
        for area in sorted({row.area for row in stream.rows})
    }
    order = sorted(
        range(len(stream.rows)), key=lambda n: n + waits[stream.rows[n].area]
    )
    return stream.with_rows(stream.rows[n] for n in order)


def by_meter(stream: Stream, span: int = DAY_SECONDS) -> Stream:
    """One meter after the other, a span of time at once; the other topics in between, as they come."""
    return stream.with_rows(
        sorted(
            stream.rows,
            key=lambda row: (
                row.at // span,
                row.subject if row.kind is Readings else "",
            ),
        )
    )


def straggling(
    stream: Stream, seed: int, least: int, most: int, share: float = 0.05
) -> Stream:
    """Some readings, but never a meter's first, come so many seconds late, after their meter's newer ones."""
    g = np.random.default_rng(seed)
    first = first_readings(stream)
    arrivals = []
    for n, row in enumerate(stream.rows):
        late = row.kind is Readings and n not in first and g.random() < share
        arrivals.append((row.at + (int(g.integers(least, most)) if late else 0), n))
    return stream.with_rows(stream.rows[n] for _, n in sorted(arrivals))


def duplicated(stream: Stream, seed: int, share: float = 0.1) -> Stream:
    """Some rows come again, at once or much later."""
    g = np.random.default_rng(seed)
    again = np.flatnonzero(g.random(len(stream.rows)) < share).tolist()
    arrivals = [(float(n), row) for n, row in enumerate(stream.rows)]
    arrivals += [
        (
            n + float(g.choice([0.5, 50, len(stream.rows)]) * g.random()) + 0.01,
            stream.rows[n],
        )
        for n in again
    ]
    return stream.with_rows(row for _, row in sorted(arrivals, key=itemgetter(0)))


def corrected(stream: Stream, seed: int, share: float = 0.03) -> Stream:
    """Some readings come again with other energy."""
    g = np.random.default_rng(seed)
    rows: list[tuple[float, Row]] = [
        (float(n), row) for n, row in enumerate(stream.rows)
    ]
    for n, row in enumerate(stream.rows):
        if row.kind is Readings and g.random() < share:
            other = replace(
                row, columns=row.columns | {"kwh": row.columns["kwh"] / np.float32(2)}
            )
            rows.append((n + float(g.integers(1, 200)) + 0.5, other))
    return stream.with_rows(row for _, row in sorted(rows, key=itemgetter(0)))


def with_wrong_clock(
    stream: Stream, area: str, subject: str, ahead: int, *, received: bool = False
) -> Stream:
    """One meter's clock is wrong from the start; with `received` the head-end notes when each reading really came."""
    rows = []
    for row in stream.rows:
        if row.kind is not Readings:
            rows.append(row)
            continue
        ours = (row.area, row.subject) == (area, subject)
        at = row.at + ahead if ours else row.at
        rows.append(
            replace(
                row,
                at=at,
                columns=row.columns | ({"received": row.at} if received else {}),
            )
        )
    return stream.with_rows(rows)


def mistimed(stream: Stream, seed: int) -> Stream:
    """Among the readings some with stamps of 1970, 2038 and beyond."""
    g = np.random.default_rng(seed)
    rows: list[Row] = []
    for row in stream.rows:
        rows.append(row)
        if row.kind is Readings and g.random() < 0.02:
            stamp = int(g.choice([0, 1, 100_000, 2**31 - 1, 2**31, 2**32, 2**40]))
            received = row.at if stamp in (2**31 - 1, 2**31) or g.random() < 0.5 else 0
            rows.append(
                replace(row, at=stamp, columns=row.columns | {"received": received})
            )
    return stream.with_rows(rows)


def adversarial_stream(seed: int, *, interval: int = 0) -> Stream:
    """A town with all that can happen at once."""
    stream = town(seed, interval=interval)
    stream = straggling(stream, seed, 0, 2 * DAY_SECONDS)
    stream = straggling(stream, seed + 1, 3 * DAY_SECONDS, 6 * DAY_SECONDS, 0.02)
    stream = duplicated(corrected(stream, seed), seed)
    first = next(row for row in stream.rows if row.kind is Readings)
    if seed % 3 == 0:
        stream = with_wrong_clock(
            stream, first.area, first.subject, DAY_SECONDS + HOUR_SECONDS * (seed % 5)
        )
    return mistimed(stream, seed)

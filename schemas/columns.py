"""The data that flows: batches of columns, in which row i of every column is one observation of one subject.

Subjects and areas are dictionary-encoded: ``names[subject[i]]`` is the subject of row i. Phase columns have the
shape (3, rows), phases A, B and C, a curve (intervals, rows). A missing value is NaN. Times are Unix seconds, UTC.
Electrical values are as the meter shows them (secondary); the master data's ``ct`` and ``pt`` make them primary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from functools import lru_cache
from itertools import chain, pairwise
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from schemas.declarations import (
    Absence,
    ColumnForm,
    Declaration,
    OutsideName,
    Unit,
    declarations,
    primary,
    secondary,
)

Column = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# The forms of columns.
Float32 = Annotated[Column, ColumnForm(np.float32)]
Float64 = Annotated[Column, ColumnForm(np.float64)]
Phases32 = Annotated[Column, ColumnForm(np.float32, "phases")]
Curve32 = Annotated[Column, ColumnForm(np.float32, "intervals")]
Times = Annotated[NDArray[np.int64], ColumnForm(np.int64)]
Words = Annotated[NDArray[np.uint8], ColumnForm(np.uint8)]  # codes of an enumeration
Truths = Annotated[NDArray[np.uint8], ColumnForm(np.uint8)]  # 1 or 0
Names = Annotated[tuple[str, ...], ColumnForm(str)]
Codes = Annotated[
    NDArray[np.integer[Any]], ColumnForm(np.int32)
]  # into the names before it

PHASE_NAMES = ("A", "B", "C")
EARLIEST_TIME, LATEST_TIME = 946_684_800, 4_102_444_800
"""Plausible times: from 2000 on, and before 2100."""
METER_SEGMENTS = (
    "residential",
    "commercial",
    "industrial",
    "agricultural",
    "single_phase",
    "three_wire",
    "four_wire",
    "medium_voltage",  # 6 to 20 kV
    "high_voltage",  # 35 to 66 kV
    "highest_voltage",  # from 110 kV
    "pv",
)
AREA_SEGMENTS = ("yyn0", "dyn11")
SEGMENT_NAMES = (*METER_SEGMENTS, *AREA_SEGMENTS)
"""The segments of meters and areas. If several have a setting of a rule, the last in this order counts."""


class Status(IntEnum):
    """The origin of a reading."""

    MEASURED = 0
    ESTIMATED = 1
    EDITED = 2


class Flag(IntFlag):
    """Bits of a meter's status word."""

    REVERSED_SEQUENCE = 1
    BATTERY_LOW = 2
    RELAY_OPEN = 4


class Payment(IntEnum):
    """The kind of a row of Payments."""

    BILL = 0
    PAYMENT = 1
    TOPUP = 2
    BALANCE = 3
    SETTLEMENT = 4
    REVERSAL = 5  # takes back what was paid under its reference, or its amount


class Event(IntEnum):
    """The kind of a row of DeviceEvents."""

    POWER_OFF = 0
    POWER_ON = 1
    COVER_OPEN = 2
    TERMINAL_OPEN = 3
    MAGNETIC_FIELD = 4
    CLOCK_SET = 5
    METER_CHANGE = 6
    PLANNED_OUTAGE = 7
    VACANCY = 8
    DOOR_OPEN = 9
    COVER_CLOSED = 10
    TERMINAL_CLOSED = 11
    MAGNETIC_FIELD_END = 12
    PARAM_CHANGE = 13
    RELAY_OPENED = 14
    RELAY_CLOSED = 15
    RELAY_FAILED = 16  # a command to the relay was not carried out
    VOLTAGE_SAG = 17
    VOLTAGE_SWELL = 18
    INTERRUPTION = 19
    WORK_ORDER = 20  # somebody is sent to the meter, from then until `until`
    INSPECTED = 21  # somebody has looked
    BATTERY_LOW = 22
    CLOCK_FAULT = 23
    VOLTAGE_LOSS = 24
    UNDERVOLTAGE = 25
    OVERVOLTAGE = 26
    PHASE_BREAK = 27
    ALL_VOLTAGE_LOSS = 28
    CURRENT_LOSS = 29
    CURRENT_BREAK = 30
    OVERCURRENT = 31
    REVERSE_POWER = 32
    REVERSE_SEQUENCE = 33
    UNBALANCE = 34
    OVERLOAD = 35
    DEMAND_EXCEEDED = 36
    LOW_POWER_FACTOR = 37
    NEUTRAL_CURRENT = 38
    ENERGY_MISMATCH = 39
    REGISTER_DECREASE = 40
    METER_RUNAWAY = 41
    METER_STOPPED = 42
    READ_FAILURE = 43
    UNKNOWN_METER = 44
    FOREIGN_METER = 45  # of another area
    METER_FAULT = 46  # the meter reports itself, or its supply, broken
    HARMONICS = 47
    VOLTAGE_DEVIATION = 48  # beyond a limit, above or below


class StageProgress(IntEnum):
    """The kind of a row of Stages."""

    STARTED = 0
    FINISHED = 1
    PAUSED = 2  # it waits for another party, and its limit stands still
    RESUMED = 3


def constant(column: NDArray[Any]) -> bool:
    """True if the column is one value broadcast over all rows."""
    return column.strides[-1] == 0 and column.shape[-1] > 1


def picked(column: NDArray[Any], pick: Any) -> NDArray[Any]:
    """The picked rows of a column; a broadcast column stays one."""
    if isinstance(pick, slice) or not constant(column):
        return column[..., pick]
    chosen = np.asarray(pick)
    rows = int(np.count_nonzero(chosen)) if chosen.dtype == bool else len(chosen)
    if rows <= column.shape[-1]:
        return column[..., :rows]
    return np.broadcast_to(column[..., :1], (*column.shape[:-1], rows))


def concatenated(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of columns in order; if all are broadcast with one value, the result is too.

    >>> _absent = np.broadcast_to(np.float32(np.nan), 3)
    >>> concatenated([_absent, _absent]).strides
    (0,)
    """
    if all(map(constant, columns)):
        values = np.stack([column[..., 0] for column in columns])
        is_nan = values.dtype.kind == "f" and np.isnan(values).all()
        if is_nan or (values == values[0]).all():
            first = columns[0]
            rows = sum(column.shape[-1] for column in columns)
            return np.broadcast_to(first[..., :1], (*first.shape[:-1], rows))
    return np.concatenate(columns, axis=-1)


@lru_cache(maxsize=256)
def _absent(kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A column without any value: all NaN, broadcast."""
    return np.broadcast_to(np.asarray(np.nan, kind), shape)


@dataclass(frozen=True, slots=True)
class Batch:
    """The columns that batches of every kind have."""

    kind: ClassVar[str]
    made_of: ClassVar[str]  # the data without which there are no rows
    segments: ClassVar[tuple[str, ...]] = ()  # of its subjects

    names: Names
    subject: Codes
    areas: Names
    area: Annotated[Codes, "Transformer area (台区)"]
    at: Annotated[Times, "Event time"]

    def __len__(self) -> int:
        return len(self.subject)

    def select(self, pick: Any) -> Self:
        """The rows that a mask, an index array or a slice picks; names stay whole."""
        columns: dict[str, Any] = {
            column.name: getattr(self, column.name) for column in fields(self)
        }
        for name in columns.keys() - self.encodings().keys():
            columns[name] = picked(columns[name], pick)
        return type(self)(**columns)

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """One batch of all rows in order. Raises ValueError if there is no batch."""
        if not batches:
            raise ValueError("nothing to join")
        if len(batches) == 1:
            return batches[0]

        columns: dict[str, Any] = {}
        for names, codes in cls.encodings().items():
            lists = [getattr(batch, names) for batch in batches]
            if all(other is lists[0] for other in lists):
                columns[names] = lists[0]
                continue
            # The codes of each batch move behind the names of the batches before it.
            offsets = np.cumsum([0, *map(len, lists)])
            columns[names] = tuple(chain.from_iterable(lists))
            moved = [
                getattr(batch, codes) + np.int32(offset)
                for batch, offset in zip(batches, offsets, strict=False)
            ]
            columns[codes] = np.concatenate(moved)

        for column in fields(cls):
            name = column.name
            if name not in columns:
                columns[name] = concatenated(
                    [getattr(batch, name) for batch in batches]
                )
        return cls(**columns)

    @classmethod
    def encodings(cls) -> dict[str, str]:
        """For each field of names, the field of codes into it."""
        return KIND_ENCODINGS[cls]

    @classmethod
    def build(
        cls,
        names: Iterable[str],
        subject: Any,
        areas: Iterable[str],
        area: Any,
        at: Any,
        **columns: Any,
    ) -> Self:
        """A batch from whatever numpy can convert; an absent column is NaN or 0. Raises ValueError on a wrong shape."""
        times = np.asarray(at, np.int64)
        built: dict[str, Any] = {
            "names": tuple(names),
            "subject": np.asarray(subject, np.int32),
            "areas": tuple(areas),
            "area": np.asarray(area, np.int32),
            "at": times,
        }
        for column in fields(cls):
            name = column.name
            if name not in built:
                built[name] = _column(name, columns.pop(name, None), len(times))
        if columns:
            raise ValueError(
                f"{cls.__name__} has no column {', '.join(sorted(columns))}"
            )

        for name, values in built.items():
            if not isinstance(values, np.ndarray):
                continue
            shape = _shape(name, len(times), values)
            if values.shape != shape:
                raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
        return cls(**built)


def _column(name: str, given: Any, rows: int) -> Any:
    """A column or a list of names; NaN, 0 or one empty name if it is not given."""
    kind = COLUMN_TYPES[name]
    if kind is str:
        return tuple(given or ("",))
    if given is not None:
        return np.asarray(given, kind)
    if np.dtype(kind).kind == "f":
        return _absent(kind, _shape(name, rows))
    return np.zeros(rows, kind)


def _shape(name: str, rows: int, column: NDArray[Any] | None = None) -> tuple[int, ...]:
    """The shape that a column must have."""
    if name in CURVE_COLUMNS:
        return (len(column) if column is not None and column.ndim == 2 else 1, rows)
    return (3, rows) if name in PHASE_COLUMNS else (rows,)


@dataclass(frozen=True, slots=True)
class Readings(Batch):
    """A meter at a point in time; interval values cover the interval that ends then. All as the meter shows it."""

    kind: ClassVar[str] = "readings"
    made_of: ClassVar[str] = "readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    subject: Annotated[Codes, OutsideName("meter"), "Meter"]
    at: Annotated[Times, "End of the interval"]
    register: Annotated[Float64, secondary("kWh"), "Energy imported since ever"]
    export_register: Annotated[Float64, secondary("kWh"), "Energy exported since ever"]
    kwh: Annotated[Float32, secondary("kWh"), "Energy imported in the interval"]
    u: Annotated[Phases32, Unit("V"), "Voltage of phases A, B, C, secondary"]
    i: Annotated[Phases32, secondary("A"), "Current of phases A, B, C"]
    p: Annotated[
        Phases32,
        secondary("kW"),
        "Active power of phases A, B, C, negative when it flows back",
    ]
    q: Annotated[Phases32, secondary("kvar"), "Reactive power of phases A, B, C"]
    register_sharp: Annotated[
        Float64, secondary("kWh"), "Energy of the sharp hours (尖)"
    ]
    register_peak: Annotated[Float64, secondary("kWh"), "Energy of the peak hours (峰)"]
    register_flat: Annotated[Float64, secondary("kWh"), "Energy of the flat hours (平)"]
    register_valley: Annotated[
        Float64, secondary("kWh"), "Energy of the valley hours (谷)"
    ]
    demand: Annotated[Float32, secondary("kW"), "Highest demand since its reset"]
    demand_resets: Annotated[Float32, "How often the demand was reset"]
    neutral: Annotated[Float32, secondary("A"), "Current of the neutral conductor"]
    frequency: Annotated[Float32, Unit("Hz"), "Frequency"]
    temperature: Annotated[
        Float32,
        Unit("Cel"),
        "Temperature of the air outside; one terminal of an area is enough",
    ]
    thd: Annotated[
        Phases32, Unit("%"), "Harmonic distortion of the voltage, phases A, B, C"
    ]
    u_angle: Annotated[
        Phases32, Unit("deg"), "Angle of the voltages of phases A, B, C to one another"
    ]
    terminal_p: Annotated[
        Float32,
        secondary("kW"),
        "Active power as the terminal measures it beside the meter",
    ]
    meter_ratio: Annotated[
        Float32, "CT x PT ratio that the meter or its terminal is set to"
    ]
    flags: Annotated[
        Float32, "Status bits: 1 reversed phase sequence, 2 battery low, 4 relay open"
    ]
    clock_offset: Annotated[
        Float32, Unit("s"), "How far the meter's clock is ahead of the head-end's"
    ]
    received: Annotated[
        Times, "When the head-end received it; else the message's timestamp counts"
    ]
    status: Annotated[Words, Status, Absence("measured"), "How the values came about"]


@dataclass(frozen=True, slots=True)
class DeviceEvents(Batch):
    """A report of a meter, or of the head-end on a meter or a whole area."""

    kind: ClassVar[str] = "events"
    made_of: ClassVar[str] = "device events"

    subject: Annotated[
        Codes,
        OutsideName("meter"),
        Absence(),
        "Meter; absent when the whole area is meant",
    ]
    event: Annotated[Words, Event, "Event"]
    until: Annotated[
        Times,
        "End of a lasting event; absent if open or a moment; equal to `at`: called off",
    ]
    residual: Annotated[
        Float32,
        Unit("pu"),
        "Lowest or highest voltage of a sag, swell or interruption",
    ]
    seconds: Annotated[
        Float32, Unit("s"), "How long it lasted, if `until` is too coarse"
    ]


@dataclass(frozen=True, slots=True)
class Payments(Batch):
    """A customer's bill, payment attempt, top-up or balance, or a line of a channel's settlement file."""

    kind: ClassVar[str] = "payments"
    made_of: ClassVar[str] = "payments, top-ups or balances"

    subject: Annotated[Codes, OutsideName("customer"), "Customer"]
    payment: Annotated[Words, Payment, "What happened"]
    amount: Annotated[Float64, Unit("CNY"), "Amount"]
    bills: Names
    bill: Annotated[Codes, Absence(), "The bill it is or settles, if it names one"]
    channels: Names
    channel: Annotated[Codes, Absence(), "How it was paid, if it names it"]
    references: Names
    reference: Annotated[Codes, Absence(), "The channel's own number of a payment"]
    succeeded: Annotated[Truths, "Whether the attempt went through"]
    due: Annotated[Times, "When a bill is due"]
    read_at: Annotated[Times, "When the register was read for a bill"]
    read_register: Annotated[
        Float64, secondary("kWh"), "Register to which a bill counts"
    ]
    frozen_register: Annotated[
        Float64, secondary("kWh"), "Register frozen at the month's end"
    ]
    billed_kwh: Annotated[Float64, primary("kWh"), "Energy of a bill"]
    billed_sharp: Annotated[
        Float64, primary("kWh"), "Energy of it in the sharp hours (尖)"
    ]
    billed_peak: Annotated[
        Float64, primary("kWh"), "Energy of it in the peak hours (峰)"
    ]
    billed_valley: Annotated[
        Float64, primary("kWh"), "Energy of it in the valley hours (谷)"
    ]
    billed_kvarh: Annotated[Float64, primary("kvarh"), "Reactive energy of a bill"]
    billed_demand: Annotated[Float64, primary("kW"), "Highest demand of a bill's month"]
    year_kwh: Annotated[
        Float64, primary("kWh"), "Energy billed in the year before this bill"
    ]
    billed_deep_valley: Annotated[
        Float64, primary("kWh"), "Energy of it in the deep valley (深谷)"
    ]


@dataclass(frozen=True, slots=True)
class Stages(Batch):
    """A work item enters or leaves a stage."""

    kind: ClassVar[str] = "stages"
    made_of: ClassVar[str] = "stages of work"

    subject: Annotated[Codes, OutsideName("item"), "Work item"]
    area: Annotated[Codes, OutsideName("section"), "Section that works on it"]
    stages: Names
    stage: Annotated[Codes, "Stage of the work"]
    progress: Annotated[
        Words, StageProgress, "Whether the item enters, leaves or waits in it"
    ]
    limit: Annotated[
        Float64,
        Unit("s"),
        "How long the stage may take, when not the section's own limit",
    ]


@dataclass(frozen=True, slots=True)
class Clocks(Batch):
    """An observation of a meter's clock."""

    kind: ClassVar[str] = "clocks"
    made_of: ClassVar[str] = "clock_offset or received of readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    offset: Annotated[Float64, Unit("s"), "How far the meter's clock is ahead"]


@dataclass(frozen=True, slots=True)
class Attempts(Batch):
    """A payment attempt. The subject is the channel, the area the channel's."""

    kind: ClassVar[str] = "attempts"
    made_of: ClassVar[str] = "payments through a channel"

    failed: Annotated[Float32, "1 if the attempt failed"]


@dataclass(frozen=True, slots=True)
class Invoices(Batch):
    """A bill when it is issued, overdue by a number of days, or settled. The subject is customer/bill."""

    kind: ClassVar[str] = "invoices"
    made_of: ClassVar[str] = "bills"

    overdue_days: Annotated[Float64, Unit("d"), "Since it was due; 0 once settled"]
    unpaid: Annotated[Float64, Unit("CNY"), "The part of the bill that is unpaid"]
    penalty: Annotated[Float64, Unit("CNY"), "For being late, so far"]
    credit: Annotated[
        Float64, "1 if the customer's level is the best, -1 if the worst, else 0"
    ]
    cutoff_days: Annotated[
        Float64, Unit("d"), "Until supply may be cut off, if notice is given now"
    ]
    notice_days: Annotated[Float64, Unit("d"), "By which the notice must come before"]
    read_off: Annotated[
        Float64,
        Unit("h"),
        "Between the reading and the moment, or the day, at which the contract wants it",
    ]
    short_kwh: Annotated[
        Float64,
        secondary("kWh"),
        "By which the register frozen at the month's end is above the reading billed",
    ]
    by_demand: Annotated[Float64, "1 if the tariff has a price of demand"]
    difference: Annotated[Float64, Unit("CNY"), "By which the bill is above the tariff"]
    recomputed: Annotated[Float64, Unit("CNY"), "The bill by the tariff"]
    overpaid: Annotated[
        Float64,
        Unit("CNY"),
        "Paid above the amount of the bill as issued at the time",
    ]


@dataclass(frozen=True, slots=True)
class Transfers(Batch):
    """A payment with the lines that settle it, at a moment. The subject is customer/reference."""

    kind: ClassVar[str] = "transfers"
    made_of: ClassVar[str] = "payments with their references"

    unmatched_hours: Annotated[
        Float64,
        Unit("h"),
        "For which one side waits for the other; 0 once both are known, NaN if none must come",
    ]
    difference: Annotated[
        Float64,
        Unit("CNY"),
        "By which the lines are above the payments; a missing side counts as the other repeated",
    ]
    paid: Annotated[Float64, Unit("CNY"), "The payments"]
    settled: Annotated[Float64, Unit("CNY"), "The lines"]


@dataclass(frozen=True, slots=True)
class Overdue(Batch):
    """A work item's stage at a moment. The subject is item/stage, the area its section."""

    kind: ClassVar[str] = "overdue"
    made_of: ClassVar[str] = "stages of work"

    share: Annotated[
        Float64, "Of the limit that has passed, 0 once the stage is finished"
    ]
    limit_hours: Annotated[Float64, Unit("h"), "The limit of the stage"]
    stalled: Annotated[
        Float64, "Times the usual that it has taken, 0 once it is finished"
    ]
    usual_hours: Annotated[
        Float64, Unit("h"), "Within which 95 % of such stages were done"
    ]


@dataclass(frozen=True, slots=True)
class Backlogs(Batch):
    """A stage of a section's work at a local midnight. The subject is the stage, the area its section."""

    kind: ClassVar[str] = "backlogs"
    made_of: ClassVar[str] = "stages of work"

    stuck: Annotated[
        Float64, "Items in the stage past their limit, or past twice the usual"
    ]
    open_items: Annotated[Float64, "Items of the section, in any stage"]
    stuck_share: Annotated[Float64, "Share of the open items"]


@dataclass(frozen=True, slots=True)
class Traces(Batch):
    """A work item when it enters or leaves a stage. The subject is the item, the area its section."""

    kind: ClassVar[str] = "traces"
    made_of: ClassVar[str] = "stages of work"

    unfinished: Annotated[
        Float64, "Stages it has not finished before the furthest it has entered"
    ]


@dataclass(frozen=True, slots=True)
class MasterRecords(Batch):
    """A meter's master data at the end of a local day: the midnight ``at``. A count of faults is 0 if there is none."""

    kind: ClassVar[str] = "master_records"
    made_of: ClassVar[str] = "master data"

    calibration_days: Annotated[
        Float64, Unit("d"), "Past the date of its calibration, negative before"
    ]
    contract_days: Annotated[
        Float64, Unit("d"), "Until the contract ends, negative afterwards"
    ]
    gaps: Annotated[
        Float32, "Empty fields of the contract that others of the area have"
    ]
    signed_off: Annotated[
        Float32, "Share by which the signed capacity is off the recorded"
    ]
    no_customer: Annotated[
        Float32, "1 if it names no customer, though others of the area do"
    ]
    doubled: Annotated[Float32, "Further records of the same effective date"]
    bad_capacity: Annotated[
        Float32, "1 if the capacity is 0, or absent and no household's"
    ]
    bad_ratio: Annotated[Float32, "1 if no transformer has such a ratio"]
    bad_class: Annotated[Float32, "1 if the use class is not that of the trade"]
    no_gateway: Annotated[Float32, "1 if the area's gateway meter has no record"]


@dataclass(frozen=True, slots=True)
class Incidents(Batch):
    """A report of a meter, or of a whole area (subject ""), when it counts. NaN: no answer."""

    kind: ClassVar[str] = "incidents"
    made_of: ClassVar[str] = "device events"

    event: Annotated[Words, Event, "Event that is reported"]
    openings: Annotated[Float32, "Without a work order, since the last inspection"]
    changes: Annotated[
        Float32, "Of parameters without a work order, since the last inspection"
    ]
    field_s: Annotated[
        Float64, Unit("s"), "The longest magnetic field since the last inspection"
    ]
    use_drop: Annotated[
        Float32, "Share by which daily use fell after it; -inf until it is known"
    ]
    relay_failures: Annotated[Float32, "Commands in a row that were not carried out"]
    disturbances: Annotated[Float32, "Sags, swells and interruptions within a day"]
    residual: Annotated[Float32, Unit("pu"), "Voltage of the last disturbance"]
    seconds: Annotated[Float32, Unit("s"), "How long the last disturbance lasted"]
    outages: Annotated[Float32, "Unplanned, within 30 days"]


@dataclass(frozen=True, slots=True)
class Days(Batch):
    """A meter's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "days"
    made_of: ClassVar[str] = "readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    kwh: Annotated[
        Float32, secondary("kWh"), "Energy imported; NaN below half coverage"
    ]
    coverage: Annotated[Float32, "Share of the day's intervals that were read"]
    reads: Annotated[Float32, "Readings of any kind in the day"]
    live: Annotated[
        Float32,
        "Share of the day's readings with voltage on some phase, NaN if none has a voltage",
    ]
    curve: Annotated[
        Curve32,
        secondary("kWh"),
        "Energy of each interval since midnight; NaN if it was not read",
    ]
    register: Annotated[
        Float64, secondary("kWh"), "At the day's last reading with a register"
    ]
    register_age: Annotated[Float32, Unit("s"), "From that reading to midnight"]
    export_register: Annotated[
        Float64, secondary("kWh"), "Energy exported, of the same reading"
    ]
    tariff_sum: Annotated[
        Float64, secondary("kWh"), "Registers of the tariffs, of the same reading"
    ]
    tariffs: Annotated[Float32, "How many registers of tariffs that reading has"]
    mean_kw: Annotated[
        Float32, secondary("kW"), "Mean power drawn; NaN below half coverage"
    ]
    mean_kw_error: Annotated[
        Float32, secondary("kW"), "Its standard error, if power is read at moments"
    ]
    mean_kvar: Annotated[
        Float32,
        secondary("kvar"),
        "Mean unsigned reactive power, if read beside all power",
    ]
    power_coverage: Annotated[Float32, "Share of the day's intervals with power"]
    returned_kwh: Annotated[
        Float32, secondary("kWh"), "Energy that flowed back by the power readings"
    ]
    top_kw: Annotated[
        Float32,
        secondary("kW"),
        "Highest mean power of an interval, of the intervals that follow one that was read",
    ]
    demand: Annotated[
        Float32, secondary("kW"), "Of the day's last reading with a demand"
    ]
    demand_resets: Annotated[Float32, "How often it was reset, of the same reading"]
    meter_ratio: Annotated[
        Float32, "CT x PT ratio that the meter was last set to in the day"
    ]
    kva_p99: Annotated[
        Float32,
        primary("kVA"),
        "Below which 99 % of the readings lie, the second highest at a quarter-hour; NaN below 90 % coverage",
    ]
    kva_2h: Annotated[
        Float32,
        primary("kVA"),
        "Reached for two hours of the day in all; NaN below 90 % coverage",
    ]
    unbalance_p95: Annotated[
        Float32,
        "Of the voltages, below which 95 % of the readings lie; NaN below 90 % coverage",
    ]
    unbalance_top: Annotated[
        Float32, "Of the voltages, the highest; NaN below 90 % coverage"
    ]
    by_magnitude: Annotated[
        Float32, "Share of them that come from magnitudes, for lack of angles"
    ]
    voltage_apart: Annotated[
        Curve32,
        Unit("V"),
        "That an hour changed the voltage more than the gateway's A, B and C: 3 x hours",
    ]
    temperature: Annotated[
        Float32,
        Unit("Cel"),
        "Of the air outside, the day's mean; NaN if an area has it for less than 90 %",
    ]


@dataclass(frozen=True, slots=True)
class Intervals(Batch):
    """A transformer area's closed interval; ``at`` ends it."""

    kind: ClassVar[str] = "intervals"
    made_of: ClassVar[str] = "p, i or a gateway meter"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    current: Annotated[
        Phases32, primary("A"), "Of the gateway meter, else the sum of the users'"
    ]
    kva: Annotated[Float32, primary("kVA"), "Apparent power"]
    neutral: Annotated[
        Float32,
        primary("A"),
        "Through the transformer's neutral, by the gateway meter",
    ]
    gateway: Annotated[
        Float32, "1 if measured by the gateway meter, 0 if summed over users"
    ]
    hz_above: Annotated[
        Float32,
        Unit("Hz"),
        "Above nominal, by at least three of the area's meters; NaN if fewer show it",
    ]
    hz_below: Annotated[
        Float32,
        Unit("Hz"),
        "Below nominal, by at least three of the area's meters; NaN if fewer show it",
    ]
    temperature: Annotated[
        Float32, Unit("Cel"), "Of the air outside, mean over the meters that have it"
    ]
    coverage: Annotated[Float32, "Share of the area's meters that were read"]


@dataclass(frozen=True, slots=True)
class AreaDays(Batch):
    """A transformer area's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "area_days"
    made_of: ClassVar[str] = "a gateway meter"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    energy_in: Annotated[Float64, primary("kWh"), "Through the gateway meter"]
    energy_out: Annotated[Float64, primary("kWh"), "Of all users"]
    unread_in: Annotated[
        Float64, primary("kWh"), "Likely came in besides, in intervals not read"
    ]
    unread_out: Annotated[Float64, primary("kWh"), "Likely used besides by the users"]
    doubt: Annotated[
        Float64,
        primary("kWh"),
        "Three standard deviations of the unread and of the registers' last digits",
    ]
    coverage: Annotated[
        Float32, "Share of intervals read, the lesser of the gateway's and the users'"
    ]
    read_share: Annotated[Float32, "Readings received of those due, of all meters"]
    others_share: Annotated[
        Float32, "The same of all meters but the one that lacks most"
    ]


# Of a kind and the class that `slots=True` has replaced by it, the kind comes later.
ALL_KINDS = {kind.kind: kind for kind in Batch.__subclasses__()}
"""Every kind of batch, by name."""
KIND_COLUMNS: dict[type[Batch], dict[str, Declaration]] = {
    kind: declarations(kind) for kind in ALL_KINDS.values()
}
"""The columns of every kind, by name."""
KIND_ENCODINGS = {
    kind: {
        names.name: codes.name
        for names, codes in pairwise(columns.values())
        if names.form.dtype is str
    }
    for kind, columns in KIND_COLUMNS.items()
}
ALL_COLUMNS = dict(chain.from_iterable(map(dict.items, KIND_COLUMNS.values())))
"""Every column, by name: where kinds share a name, it has one form."""
COLUMN_TYPES: dict[str, Any] = {
    name: column.form.dtype for name, column in ALL_COLUMNS.items()
}
PHASE_COLUMNS = frozenset(
    name for name, column in ALL_COLUMNS.items() if column.form.axis == "phases"
)
CURVE_COLUMNS = frozenset(
    name for name, column in ALL_COLUMNS.items() if column.form.axis == "intervals"
)

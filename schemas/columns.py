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
from itertools import chain
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.floating[Any]]
# Energy, power or current as the meter shows it.
Secondary = Annotated[Column, "secondary"]
# Energy, power or current of the customer or the transformer: secondary times CT and PT.
Primary = Annotated[Column, "primary"]
Codes = NDArray[np.integer[Any]]
Times = NDArray[np.int64]
Mask = NDArray[np.bool_]
Names = tuple[str, ...]

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
    shared: ClassVar[frozenset[str]] = frozenset({"names", "areas"})
    segments: ClassVar[tuple[str, ...]] = ()  # of its subjects

    names: Names
    subject: Codes  # into names
    areas: Names
    area: Codes  # into areas
    at: Times  # event time

    def __len__(self) -> int:
        return len(self.subject)

    def select(self, pick: Any) -> Self:
        """The rows that a mask, an index array or a slice picks; names stay whole."""
        columns: dict[str, Any] = {
            column.name: getattr(self, column.name) for column in fields(self)
        }
        for name in columns.keys() - self.shared:
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
        return {"names": "subject", "areas": "area"}

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
    """A meter at a point in time; interval columns cover the interval that ends then."""

    kind: ClassVar[str] = "readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    register: Secondary  # kWh imported since ever, secondary
    export_register: Secondary  # kWh exported since ever, secondary
    kwh: Secondary  # kWh imported in the interval, secondary
    u: Column  # (3, rows) V, secondary
    i: Secondary  # (3, rows) A, secondary
    p: Secondary  # (3, rows) kW, secondary, negative when it flows back
    q: Secondary  # (3, rows) kvar, secondary
    # kWh of the tariff's registers, secondary: sharp (尖), peak (峰), flat (平) and valley (谷) hours
    register_sharp: Secondary
    register_peak: Secondary
    register_flat: Secondary
    register_valley: Secondary
    demand: Secondary  # kW, the highest since the last reset of demand, secondary
    demand_resets: Column  # how often demand was reset
    neutral: Secondary  # A through the neutral conductor, secondary
    frequency: Column  # Hz
    temperature: Column  # deg C of the air outside, by a terminal for its area
    thd: Column  # (3, rows) % total harmonic distortion of the voltage
    # (3, rows) degrees of the voltages, in any direction from any origin.
    u_angle: Column
    # KW of all phases by the terminal beside the meter, secondary.
    terminal_p: Secondary
    meter_ratio: Column  # CT x PT ratio that the meter or its terminal is set to
    flags: Column  # Flag bits
    clock_offset: Column  # s, the meter's clock less the head-end's at the reading
    received: Times  # receipt time at the head-end or the broker, 0 if unknown
    status: NDArray[np.uint8]  # Status


@dataclass(frozen=True, slots=True)
class DeviceEvents(Batch):
    """A report of a meter, or of the head-end on a meter or a whole area. Subject "" is the whole area."""

    kind: ClassVar[str] = "events"

    event: NDArray[np.uint8]  # Event
    until: Times  # end of a lasting event, 0 if open or a moment
    residual: Column  # pu, lowest (or highest) voltage of a sag, swell or interruption
    seconds: Column  # how long it lasted, if `until` is too coarse


@dataclass(frozen=True, slots=True)
class Payments(Batch):
    """A customer's bill, payment attempt, top-up or balance, or a line of a channel's settlement file."""

    kind: ClassVar[str] = "payments"
    shared: ClassVar[frozenset[str]] = frozenset(
        {"names", "areas", "bills", "channels", "references"}
    )

    payment: NDArray[np.uint8]  # Payment
    amount: Column  # yuan
    bills: Names
    bill: Codes  # into bills; "" if the payment names none
    channels: Names
    channel: Codes  # into channels; "" if there is none
    references: Names
    reference: Codes  # into references, the channel's number of a payment; "" if none
    succeeded: NDArray[np.uint8]  # 1 if the attempt went through
    due: Times  # of a bill, else 0
    read_at: Times  # when the register was read for a bill, 0 if unknown
    read_register: Secondary  # kWh of the register up to which a bill counts, secondary
    frozen_register: Secondary  # kWh, frozen when the bill's month ended, secondary
    billed_kwh: Primary  # kWh of a bill, primary
    billed_sharp: Primary  # kWh of it in the tariff's sharp hours (尖)
    billed_peak: Primary  # kWh of it in the peak hours (峰)
    # kWh of it in the valley hours (谷); the rest, deep valley apart, is flat
    billed_valley: Primary
    billed_kvarh: Primary  # kvarh of a bill
    billed_demand: Primary  # kW, the month's highest demand, primary
    year_kwh: Primary  # kWh billed in the year before this bill
    billed_deep_valley: Primary  # kWh of it in the tariff's deep valley (深谷)

    @classmethod
    def encodings(cls) -> dict[str, str]:
        """For each field of names, the field of codes into it."""
        return {
            "names": "subject",
            "areas": "area",
            "bills": "bill",
            "channels": "channel",
            "references": "reference",
        }


@dataclass(frozen=True, slots=True)
class Stages(Batch):
    """A work item enters or leaves a stage. The area is the section that works on it."""

    kind: ClassVar[str] = "stages"
    shared: ClassVar[frozenset[str]] = frozenset({"names", "areas", "stages"})

    stages: Names
    stage: Codes  # into stages
    progress: NDArray[np.uint8]  # StageProgress
    limit: Column  # seconds the stage may take, NaN for the section's own limit

    @classmethod
    def encodings(cls) -> dict[str, str]:
        """For each field of names, the field of codes into it."""
        return {"names": "subject", "areas": "area", "stages": "stage"}


@dataclass(frozen=True, slots=True)
class Clocks(Batch):
    """An observation of a meter's clock."""

    kind: ClassVar[str] = "clocks"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    offset: Column  # seconds the meter's clock is ahead


@dataclass(frozen=True, slots=True)
class Attempts(Batch):
    """A payment attempt. The subject is the channel, the area the channel's."""

    kind: ClassVar[str] = "attempts"

    failed: Column  # 1 if the attempt failed


@dataclass(frozen=True, slots=True)
class Invoices(Batch):
    """A bill when it is issued, overdue by a number of days, or settled. The subject is customer/bill."""

    kind: ClassVar[str] = "invoices"

    overdue_days: Column  # 0 once it is settled
    unpaid: Column  # yuan
    penalty: Column  # yuan for being late, so far
    credit: Column  # 1 if the customer's level is the best, -1 if the worst, else 0
    cutoff_days: Column  # until supply may be cut off, if notice is given now
    notice_days: Column  # by which the notice must come before
    # Hours between the reading and the moment, or the day, at which the contract wants it.
    read_off: Column
    # kWh by which the register frozen at the month's end is above the reading billed, secondary.
    short_kwh: Secondary
    by_demand: Column  # 1 if the tariff has a price of demand
    difference: Column  # yuan by which the bill is above the tariff
    recomputed: Column  # yuan by the tariff
    overpaid: Column  # yuan paid above the amount of the bill as issued at the time


@dataclass(frozen=True, slots=True)
class Transfers(Batch):
    """A payment with the lines that settle it, at a moment. The subject is customer/reference."""

    kind: ClassVar[str] = "transfers"

    # Hours for which one side waits for the other; 0 once both are known, NaN if none must come.
    unmatched_hours: Column
    # Yuan by which the lines are above the payments; a missing side counts as the other repeated.
    difference: Column
    paid: Column  # yuan
    settled: Column  # yuan


@dataclass(frozen=True, slots=True)
class Overdue(Batch):
    """A work item's stage at a moment. The subject is item/stage, the area its section."""

    kind: ClassVar[str] = "overdue"

    share: Column  # of the limit that has passed, 0 once the stage is finished
    limit_hours: Column
    stalled: Column  # times the usual that it has taken, 0 once it is finished
    usual_hours: Column  # within which 95 % of such stages were done


@dataclass(frozen=True, slots=True)
class Backlogs(Batch):
    """A stage of a section's work at a local midnight. The subject is the stage, the area its section."""

    kind: ClassVar[str] = "backlogs"

    stuck: Column  # items in the stage past their limit, or past twice the usual
    open_items: Column  # of the section, in any stage
    stuck_share: Column  # of the open items


@dataclass(frozen=True, slots=True)
class Traces(Batch):
    """A work item when it enters or leaves a stage. The subject is the item, the area its section."""

    kind: ClassVar[str] = "traces"

    unfinished: Column  # stages it has not finished before the furthest it has entered


@dataclass(frozen=True, slots=True)
class MasterRecords(Batch):
    """A meter's master data at the end of a local day: the midnight ``at``. A count of faults is 0 if there is none."""

    kind: ClassVar[str] = "master_records"

    calibration_days: Column  # past the date of its calibration, negative before
    contract_days: Column  # until the contract ends, negative afterwards
    gaps: Column  # empty fields of the contract that others of the area have
    signed_off: Column  # share by which the signed capacity is off the recorded
    no_customer: Column  # 1 if it names no customer, though others of the area do
    doubled: Column  # further records of the same effective date
    bad_capacity: Column  # 1 if the capacity is 0, or absent and no household's
    bad_ratio: Column  # 1 if no transformer has such a ratio
    bad_class: Column  # 1 if the use class is not that of the trade
    no_gateway: Column  # 1 if the area's gateway meter has no record


@dataclass(frozen=True, slots=True)
class Incidents(Batch):
    """A report of a meter, or of a whole area (subject ""), when it counts. NaN: no answer."""

    kind: ClassVar[str] = "incidents"

    event: NDArray[np.uint8]  # Event that is reported
    openings: Column  # without a work order, since the last inspection
    changes: Column  # of parameters without a work order, since the last inspection
    field_s: Column  # s of the longest magnetic field since the last inspection
    use_drop: Column  # share by which daily use fell after it; -inf until it is known
    relay_failures: Column  # commands in a row that were not carried out
    disturbances: Column  # sags, swells and interruptions within a day
    residual: Column  # pu, of the last
    seconds: Column  # of the last
    outages: Column  # unplanned, within 30 days


@dataclass(frozen=True, slots=True)
class Days(Batch):
    """A meter's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "days"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    kwh: Secondary  # kWh imported, secondary; NaN below half coverage
    coverage: Column  # share of the day's intervals that were read
    reads: Column  # readings of any kind in the day
    # Share of the day's readings with voltage on some phase, NaN if none has a voltage.
    live: Column
    # (intervals, rows) kWh of each interval since midnight, secondary; NaN if it was not read.
    curve: Secondary
    register: Secondary  # kWh at the day's last reading with a register, secondary
    register_age: Column  # seconds from that reading to midnight
    export_register: Secondary  # kWh exported, of the same reading
    # KWh of the tariffs' registers, of the same reading, secondary.
    tariff_sum: Secondary
    tariffs: Column  # how many registers of tariffs that reading has
    mean_kw: Secondary  # mean power drawn, secondary; NaN below half coverage
    mean_kw_error: Secondary  # its standard error, if power is read at moments
    mean_kvar: Secondary  # mean unsigned reactive power, if read beside all power
    power_coverage: Column  # share of the day's intervals with power
    returned_kwh: Secondary  # kWh that flowed back by the power readings, secondary
    # Highest mean power of an interval, of the intervals that follow one that was read, secondary.
    top_kw: Secondary
    demand: Secondary  # kW, of the day's last reading with a demand, secondary
    demand_resets: Column  # how often it was reset, of the same reading
    meter_ratio: Column  # CT x PT ratio that the meter was last set to in the day
    # Primary kVA below which 99 % of the readings lie, the second highest at a quarter-hour, and
    # primary kVA reached for two hours of the day in all; both NaN below 90 % coverage.
    kva_p99: Primary
    kva_2h: Primary
    # Of the voltages, below which 95 % of the readings lie, and the highest; NaN below 90 % coverage.
    unbalance_p95: Column
    unbalance_top: Column
    by_magnitude: Column  # share of them that come from magnitudes, for lack of angles
    # (3 x hours, rows) V that an hour changed the voltage more than the gateway's A, B and C.
    voltage_apart: Column
    # deg C of the air outside, the day's mean; NaN if an area has it for less than 90 %.
    temperature: Column


@dataclass(frozen=True, slots=True)
class Intervals(Batch):
    """A transformer area's closed interval; ``at`` ends it."""

    kind: ClassVar[str] = "intervals"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    current: Primary  # (3, rows) A of the gateway meter, else the sum of the users'
    kva: Primary  # apparent power, primary
    neutral: Primary  # A through the transformer's neutral, by the gateway meter
    gateway: Column  # 1 if measured by the gateway meter, 0 if summed over users
    # Hz above and below nominal that at least three of the area's meters show; NaN if fewer do.
    hz_above: Column
    hz_below: Column
    temperature: Column  # deg C of the air outside, mean over the meters that have it
    coverage: Column  # share of the area's meters that were read


@dataclass(frozen=True, slots=True)
class AreaDays(Batch):
    """A transformer area's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "area_days"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    energy_in: Primary  # kWh through the gateway meter, primary
    energy_out: Primary  # kWh of all users, primary
    unread_in: Primary  # kWh that likely came in besides, in intervals not read
    unread_out: Primary  # kWh that the users likely used besides
    # kWh, three standard deviations of the unread and of the registers' last digits.
    doubt: Primary
    # Share of intervals read, the lesser of the gateway's and the users'.
    coverage: Column
    read_share: Column  # readings received of those due, of all meters
    others_share: Column  # the same of all meters but the one that lacks most


COLUMN_TYPES: dict[str, Any] = {
    "register": np.float64, "export_register": np.float64, "kwh": np.float32, "u": np.float32, "i": np.float32,
    "p": np.float32, "q": np.float32,
    "register_sharp": np.float64, "register_peak": np.float64, "register_flat": np.float64,
    "register_valley": np.float64, "demand": np.float32, "demand_resets": np.float32, "neutral": np.float32,
    "frequency": np.float32, "temperature": np.float32, "thd": np.float32, "u_angle": np.float32,
    "terminal_p": np.float32, "meter_ratio": np.float32, "flags": np.float32, "clock_offset": np.float32,
    "received": np.int64, "status": np.uint8, "event": np.uint8, "until": np.int64, "residual": np.float32,
    "seconds": np.float32,
    "calibration_days": np.float64, "contract_days": np.float64, "gaps": np.float32, "signed_off": np.float32,
    "no_customer": np.float32, "doubled": np.float32, "bad_capacity": np.float32, "bad_ratio": np.float32,
    "bad_class": np.float32, "no_gateway": np.float32,
    "openings": np.float32, "changes": np.float32, "field_s": np.float64, "use_drop": np.float32,
    "relay_failures": np.float32, "disturbances": np.float32, "outages": np.float32,
    "payment": np.uint8, "amount": np.float64, "bills": str, "bill": np.int32, "channels": str, "channel": np.int32,
    "references": str, "reference": np.int32, "succeeded": np.uint8, "due": np.int64, "read_at": np.int64,
    "read_register": np.float64, "frozen_register": np.float64, "billed_kwh": np.float64, "billed_sharp": np.float64,
    "billed_peak": np.float64, "billed_valley": np.float64, "billed_kvarh": np.float64, "billed_demand": np.float64,
    "year_kwh": np.float64, "billed_deep_valley": np.float64,
    "stages": str, "stage": np.int32, "progress": np.uint8, "limit": np.float64,
    "offset": np.float64, "failed": np.float32, "overdue_days": np.float64, "unpaid": np.float64, "penalty": np.float64,
    "share": np.float64,
    "read_off": np.float64, "short_kwh": np.float64, "by_demand": np.float64, "difference": np.float64,
    "recomputed": np.float64, "overpaid": np.float64,
    "credit": np.float64, "cutoff_days": np.float64, "notice_days": np.float64,
    "unmatched_hours": np.float64, "paid": np.float64, "settled": np.float64,
    "limit_hours": np.float64, "stalled": np.float64, "usual_hours": np.float64, "unfinished": np.float64,
    "stuck": np.float64, "open_items": np.float64, "stuck_share": np.float64,
    "register_age": np.float32, "tariff_sum": np.float64, "tariffs": np.float32, "mean_kw": np.float32,
    "mean_kw_error": np.float32, "mean_kvar": np.float32, "power_coverage": np.float32, "returned_kwh": np.float32,
    "top_kw": np.float32, "curve": np.float32,
    "coverage": np.float32, "reads": np.float32, "live": np.float32, "kva_p99": np.float32, "kva_2h": np.float32,
    "unbalance_p95": np.float32, "unbalance_top": np.float32, "by_magnitude": np.float32,
    "voltage_apart": np.float32,
    "current": np.float32, "kva": np.float32, "gateway": np.float32, "hz_above": np.float32, "hz_below": np.float32,
    "energy_in": np.float64, "energy_out": np.float64,
    "unread_in": np.float64, "unread_out": np.float64, "doubt": np.float64, "read_share": np.float32,
    "others_share": np.float32,
}  # fmt: skip
PHASE_COLUMNS = frozenset({"u", "i", "p", "q", "thd", "u_angle", "current"})
# with a leading axis of intervals
CURVE_COLUMNS = frozenset({"curve", "voltage_apart"})

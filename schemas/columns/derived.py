"""The kinds of batches that the engine makes of the others: windows, timelines, clocks and master data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.columns.batch import (
    Batch,
    Curve32,
    Float32,
    Float64,
    Phases32,
    Words,
    declared,
)
from schemas.columns.enumerations import AREA_SEGMENTS, METER_SEGMENTS, Event
from schemas.declarations import MadeOf, Unit, primary, secondary


@declared
@dataclass(frozen=True, slots=True)
class Clocks(Batch):
    """An observation of a meter's clock."""

    kind: ClassVar[str] = "clocks"
    made_of: ClassVar[str] = "clock_offset or received of readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    offset: Annotated[Float64, Unit("s"), "How far the meter's clock is ahead"]


@declared
@dataclass(frozen=True, slots=True)
class Attempts(Batch):
    """A payment attempt. The subject is the channel, the area the channel's."""

    kind: ClassVar[str] = "attempts"
    made_of: ClassVar[str] = "payments through a channel"

    failed: Annotated[Float32, "1 if the attempt failed"]


@declared
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


@declared
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


@declared
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
    overdue_chance: Annotated[
        Float64, "Chance that it passes its limit, 0 once it is finished"
    ]
    used_share: Annotated[Float64, "Of the limit that has passed as it is judged so"]


@declared
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


@declared
@dataclass(frozen=True, slots=True)
class Traces(Batch):
    """A work item when it enters or leaves a stage. The subject is the item, the area its section."""

    kind: ClassVar[str] = "traces"
    made_of: ClassVar[str] = "stages of work"

    unfinished: Annotated[
        Float64, "Stages it has not finished before the furthest it has entered"
    ]


@declared
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


@declared
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


@declared
@dataclass(frozen=True, slots=True)
class Days(Batch):
    """A meter's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "days"
    made_of: ClassVar[str] = "readings"
    segments: ClassVar[tuple[str, ...]] = METER_SEGMENTS

    kwh: Annotated[
        Float32, secondary("kWh"), "Energy imported; NaN below half coverage"
    ]
    coverage: Annotated[
        Float32, MadeOf("kwh"), "Share of the day's intervals that were read"
    ]
    reads: Annotated[Float32, "Readings of any kind in the day"]
    live: Annotated[
        Float32,
        MadeOf("u"),
        "Share of the day's readings with voltage on some phase, NaN if none has a voltage",
    ]
    curve: Annotated[
        Curve32,
        secondary("kWh"),
        MadeOf("kwh"),
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
        Float32,
        secondary("kW"),
        MadeOf("p"),
        "Mean power drawn; NaN below half coverage",
    ]
    mean_kw_error: Annotated[
        Float32, secondary("kW"), "Its standard error, if power is read at moments"
    ]
    mean_kvar: Annotated[
        Float32,
        secondary("kvar"),
        MadeOf("q"),
        "Mean unsigned reactive power, if read beside all power",
    ]
    power_coverage: Annotated[Float32, "Share of the day's intervals with power"]
    returned_kwh: Annotated[
        Float32, secondary("kWh"), "Energy that flowed back by the power readings"
    ]
    top_kw: Annotated[
        Float32,
        secondary("kW"),
        MadeOf("kwh"),
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
        MadeOf("p and q, or i"),
        "Below which 99 % of the readings lie, the second highest at a quarter-hour; NaN below 90 % coverage",
    ]
    kva_2h: Annotated[
        Float32,
        primary("kVA"),
        MadeOf("p and q, or i"),
        "Reached for two hours of the day in all; NaN below 90 % coverage",
    ]
    unbalance_p95: Annotated[
        Float32,
        MadeOf("u of three phases"),
        "Of the voltages, below which 95 % of the readings lie; NaN below 90 % coverage",
    ]
    unbalance_top: Annotated[
        Float32,
        MadeOf("u of three phases"),
        "Of the voltages, the highest; NaN below 90 % coverage",
    ]
    by_magnitude: Annotated[
        Float32,
        MadeOf("u of three phases"),
        "Share of them that come from magnitudes, for lack of angles",
    ]
    voltage_apart: Annotated[
        Curve32,
        Unit("V"),
        MadeOf("u, and of a gateway meter"),
        "That an hour changed the voltage more than the gateway's A, B and C: 3 x hours",
    ]
    temperature: Annotated[
        Float32,
        Unit("Cel"),
        "Of the air outside, the day's mean; NaN if an area has it for less than 90 %",
    ]


@declared
@dataclass(frozen=True, slots=True)
class Intervals(Batch):
    """A transformer area's closed interval; ``at`` ends it."""

    kind: ClassVar[str] = "intervals"
    made_of: ClassVar[str] = "p, i or a gateway meter"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    current: Annotated[
        Phases32,
        primary("A"),
        MadeOf("i"),
        "Of the gateway meter, else the sum of the users'",
    ]
    kva: Annotated[Float32, primary("kVA"), MadeOf("p and q, or i"), "Apparent power"]
    neutral: Annotated[
        Float32,
        primary("A"),
        MadeOf("neutral of a gateway meter"),
        "Through the transformer's neutral, by the gateway meter",
    ]
    gateway: Annotated[
        Float32, "1 if measured by the gateway meter, 0 if summed over users"
    ]
    hz_above: Annotated[
        Float32,
        Unit("Hz"),
        MadeOf("frequency"),
        "Above nominal, by at least three of the area's meters; NaN if fewer show it",
    ]
    hz_below: Annotated[
        Float32,
        Unit("Hz"),
        MadeOf("frequency"),
        "Below nominal, by at least three of the area's meters; NaN if fewer show it",
    ]
    temperature: Annotated[
        Float32, Unit("Cel"), "Of the air outside, mean over the meters that have it"
    ]
    coverage: Annotated[Float32, "Share of the area's meters that were read"]


@declared
@dataclass(frozen=True, slots=True)
class AreaDays(Batch):
    """A transformer area's closed local day; ``at`` is the midnight that ends it."""

    kind: ClassVar[str] = "area_days"
    made_of: ClassVar[str] = "a gateway meter"
    segments: ClassVar[tuple[str, ...]] = AREA_SEGMENTS

    energy_in: Annotated[
        Float64,
        primary("kWh"),
        MadeOf("kwh of a gateway meter"),
        "Through the gateway meter",
    ]
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
    hourly_kva: Annotated[
        Curve32,
        primary("kVA"),
        MadeOf("p and q, or i"),
        "Mean load of each hour since midnight, 24; NaN if it is not known",
    ]
    temperature: Annotated[
        Float32,
        Unit("Cel"),
        "Of the air outside, the day's mean; NaN if it is known for less than 90 %",
    ]

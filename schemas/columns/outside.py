"""The kinds of batches that come from outside: one for each topic of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.columns.batch import (
    Batch,
    Codes,
    Float32,
    Float64,
    Names,
    Phases32,
    Times,
    Truths,
    Words,
    declared,
)
from schemas.columns.enumerations import (
    METER_SEGMENTS,
    Event,
    Payment,
    StageProgress,
    Status,
)
from schemas.declarations import (
    Absence,
    AsReported,
    OutsideName,
    Plausible,
    Unit,
    primary,
    secondary,
)


@declared
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
    kwh: Annotated[
        Float32,
        secondary("kWh"),
        Plausible("energy"),
        "Energy imported in the interval",
    ]
    u: Annotated[
        Phases32,
        Unit("V"),
        Plausible("voltage"),
        "Voltage of phases A, B, C, secondary",
    ]
    i: Annotated[
        Phases32,
        secondary("A"),
        Plausible("current", signed=True),
        "Current of phases A, B, C",
    ]
    p: Annotated[
        Phases32,
        secondary("kW"),
        Plausible("power", signed=True),
        "Active power of phases A, B, C, negative when it flows back",
    ]
    q: Annotated[
        Phases32,
        secondary("kvar"),
        Plausible("power", signed=True),
        "Reactive power of phases A, B, C",
    ]
    register_sharp: Annotated[
        Float64, secondary("kWh"), "Energy of the sharp hours (尖)"
    ]
    register_peak: Annotated[Float64, secondary("kWh"), "Energy of the peak hours (峰)"]
    register_flat: Annotated[Float64, secondary("kWh"), "Energy of the flat hours (平)"]
    register_valley: Annotated[
        Float64, secondary("kWh"), "Energy of the valley hours (谷)"
    ]
    demand: Annotated[
        Float32,
        secondary("kW"),
        Plausible("power"),
        "Highest demand since its reset",
    ]
    demand_resets: Annotated[Float32, AsReported(), "How often the demand was reset"]
    neutral: Annotated[
        Float32,
        secondary("A"),
        Plausible("current", signed=True),
        "Current of the neutral conductor",
    ]
    frequency: Annotated[Float32, Unit("Hz"), Plausible(100.0), "Frequency"]
    temperature: Annotated[
        Float32,
        Unit("Cel"),
        Plausible(70.0, signed=True),
        "Temperature of the air outside; one terminal of an area is enough",
    ]
    thd: Annotated[
        Phases32,
        Unit("%"),
        Plausible(100.0),
        "Harmonic distortion of the voltage, phases A, B, C",
    ]
    u_angle: Annotated[
        Phases32,
        Unit("deg"),
        Plausible(360.0, signed=True),
        "Angle of the voltages of phases A, B, C to one another",
    ]
    terminal_p: Annotated[
        Float32,
        secondary("kW"),
        Plausible("power", signed=True),
        "Active power as the terminal measures it beside the meter",
    ]
    meter_ratio: Annotated[
        Float32,
        AsReported(),
        "CT x PT ratio that the meter or its terminal is set to",
    ]
    flags: Annotated[
        Float32,
        AsReported(),
        "Status bits: 1 reversed phase sequence, 2 battery low, 4 relay open",
    ]
    clock_offset: Annotated[
        Float32,
        Unit("s"),
        AsReported(),
        "How far the meter's clock is ahead of the head-end's",
    ]
    received: Annotated[
        Times, "When the head-end received it; else the message's timestamp counts"
    ]
    status: Annotated[Words, Status, Absence("measured"), "How the values came about"]


@declared
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


@declared
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


@declared
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

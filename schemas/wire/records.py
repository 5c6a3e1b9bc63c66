"""One observation as a JSON object: names, types, units and limits of every field."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from sys import intern
from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    Event,
    Payment,
    StageProgress,
    Status,
)
from schemas.events import System

LARGEST_NUMBER = 1e12  # of any quantity, either sign; its square still is a float32
LONGEST_ID = 128  # characters


def _described(description: str, unit: str = "") -> Meta:
    """The description and unit of a field in the JSON Schema."""
    return Meta(
        description=description, extra_json_schema={"x-unit": unit} if unit else {}
    )


Number = Annotated[
    float,
    Meta(extra_json_schema={"minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}),
]
Phases = tuple[Number | None, Number | None, Number | None] | Number | None
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Time = (
    Annotated[int, Meta(ge=EARLIEST_TIME, lt=LATEST_TIME)]
    | Annotated[datetime, Meta(tz=True)]
)
AreaId = Annotated[
    Id,
    _described(
        "Transformer area (台区); the message key's when absent, equal to it when given"
    ),
]
Instant = Annotated[
    Time,
    _described(
        "Unix seconds, or RFC 3339 with an offset; from 2000 on, before 2100", "s"
    ),
]

# No Meta(ge, le) on Number: inside a union with a fixed tuple, msgspec 0.22 reads the limits from the wrong memory.


class UsualReadingRecord(
    Struct,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"subject": "meter"},
):
    """A reading with the fields of most readings: looking for the others too takes a tenth longer."""

    subject: Annotated[Id, _described("Meter")]
    at: Annotated[Instant, _described("End of the interval")]
    area: AreaId = ""
    register: Annotated[
        Number | None, _described("Energy imported since ever, secondary", "kWh")
    ] = None
    export_register: Annotated[
        Number | None, _described("Energy exported since ever, secondary", "kWh")
    ] = None
    kwh: Annotated[
        Number | None, _described("Energy imported in the interval, secondary", "kWh")
    ] = None
    u: Annotated[
        Phases,
        _described("Voltage of phases A, B, C, secondary; a number is phase A", "V"),
    ] = None
    i: Annotated[
        Phases,
        _described("Current of phases A, B, C, secondary; a number is phase A", "A"),
    ] = None
    p: Annotated[
        Phases,
        _described(
            "Active power of phases A, B, C, secondary; negative flows back", "kW"
        ),
    ] = None
    q: Annotated[
        Phases, _described("Reactive power of phases A, B, C, secondary", "kvar")
    ] = None
    clock_offset: Annotated[
        Number | None,
        _described("How far the meter's clock is ahead of the head-end's", "s"),
    ] = None
    received: Annotated[
        Instant,
        _described(
            "When the head-end received it; else the message's timestamp counts"
        ),
    ] = 0
    status: Literal["measured", "estimated", "edited"] = "measured"


class ReadingRecord(UsualReadingRecord):
    """A meter at a point in time; interval values cover the interval that ends then. All as the meter shows it."""

    register_sharp: Annotated[
        Number | None, _described("Energy of the sharp hours (尖), secondary", "kWh")
    ] = None
    register_peak: Annotated[
        Number | None, _described("Energy of the peak hours (峰), secondary", "kWh")
    ] = None
    register_flat: Annotated[
        Number | None, _described("Energy of the flat hours (平), secondary", "kWh")
    ] = None
    register_valley: Annotated[
        Number | None, _described("Energy of the valley hours (谷), secondary", "kWh")
    ] = None
    demand: Annotated[
        Number | None, _described("Highest demand since its reset, secondary", "kW")
    ] = None
    demand_resets: Annotated[
        Number | None, _described("How often the demand was reset")
    ] = None
    neutral: Annotated[
        Number | None, _described("Current of the neutral conductor, secondary", "A")
    ] = None
    frequency: Annotated[Number | None, _described("Frequency", "Hz")] = None
    temperature: Annotated[
        Number | None, _described("Temperature of the air outside", "Cel")
    ] = None
    thd: Annotated[
        Phases,
        _described(
            "Harmonic distortion of the voltage, phases A, B, C; a number is phase A",
            "%",
        ),
    ] = None
    u_angle: Annotated[
        Phases,
        _described("Angle of the voltages of phases A, B, C to one another", "deg"),
    ] = None
    terminal_p: Annotated[
        Number | None,
        _described("Active power as the terminal measures it beside the meter", "kW"),
    ] = None
    meter_ratio: Annotated[
        Number | None,
        _described("CT x PT ratio that the meter or its terminal is set to"),
    ] = None
    flags: Annotated[
        Number | None,
        _described(
            "Status bits: 1 reversed phase sequence, 2 battery low, 4 relay open"
        ),
    ] = None


class EventRecord(
    Struct,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"subject": "meter"},
):
    """A report of a meter, or of the head-end on a meter or a whole area."""

    at: Instant
    event: (
        Literal[
            "power_off",
            "power_on",
            "cover_open",
            "terminal_open",
            "magnetic_field",
            "clock_set",
            "meter_change",
            "planned_outage",
            "vacancy",
            "door_open",
            "cover_closed",
            "terminal_closed",
            "magnetic_field_end",
            "param_change",
            "relay_opened",
            "relay_closed",
            "relay_failed",
            "voltage_sag",
            "voltage_swell",
            "interruption",
            "work_order",
            "inspected",
            "battery_low",
            "clock_fault",
            "voltage_loss",
            "undervoltage",
            "overvoltage",
            "phase_break",
            "all_voltage_loss",
            "current_loss",
            "current_break",
            "overcurrent",
            "reverse_power",
            "reverse_sequence",
            "unbalance",
            "overload",
            "demand_exceeded",
            "low_power_factor",
            "neutral_current",
            "energy_mismatch",
            "register_decrease",
            "meter_runaway",
            "meter_stopped",
            "read_failure",
            "unknown_meter",
            "foreign_meter",
            "meter_fault",
            "harmonics",
            "voltage_deviation",
        ]
        | None
    ) = None
    system: Annotated[
        System | None, _described("Whose code it is, if the event is given by a code")
    ] = None
    code: Annotated[
        Id,
        _described(
            "The event's code in that system, such as 301B, ERC37 or 3.12.141.212"
        ),
    ] = ""
    subject: Annotated[Id, _described("Meter; absent when the whole area is meant")] = (
        ""
    )
    area: AreaId = ""
    until: Annotated[
        Instant,
        _described(
            "End of a lasting event; absent if open or a moment; equal to `at`: called off"
        ),
    ] = 0
    residual: Annotated[
        Number | None,
        _described("Lowest or highest voltage of a sag, swell or interruption", "pu"),
    ] = None
    seconds: Annotated[
        Number | None,
        _described("How long it lasted, if `until` is too coarse", "s"),
    ] = None


class PaymentRecord(
    Struct,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"subject": "customer"},
):
    """A customer's bill, payment attempt, top-up or balance, or a line of a channel's settlement file."""

    subject: Annotated[Id, _described("Customer")]
    at: Instant
    payment: Literal["bill", "payment", "topup", "balance", "settlement", "reversal"]
    area: AreaId = ""
    amount: Annotated[Number | None, _described("Amount", "CNY")] = None
    bill: Annotated[Id, _described("The bill it is or settles, if it names one")] = ""
    channel: Annotated[Id, _described("How it was paid, if it names it")] = ""
    reference: Annotated[Id, _described("The channel's own number of a payment")] = ""
    succeeded: Annotated[bool, _described("Whether the attempt went through")] = True
    due: Annotated[Instant, _described("When a bill is due")] = 0
    read_at: Annotated[Instant, _described("When the register was read for a bill")] = 0
    read_register: Annotated[
        Number | None, _described("Register to which a bill counts, secondary", "kWh")
    ] = None
    frozen_register: Annotated[
        Number | None,
        _described("Register frozen at the month's end, secondary", "kWh"),
    ] = None
    billed_kwh: Annotated[
        Number | None, _described("Energy of a bill, primary", "kWh")
    ] = None
    billed_sharp: Annotated[
        Number | None, _described("Energy of it in the sharp hours (尖)", "kWh")
    ] = None
    billed_peak: Annotated[
        Number | None, _described("Energy of it in the peak hours (峰)", "kWh")
    ] = None
    billed_valley: Annotated[
        Number | None, _described("Energy of it in the valley hours (谷)", "kWh")
    ] = None
    billed_kvarh: Annotated[
        Number | None, _described("Reactive energy of a bill", "kvarh")
    ] = None
    billed_demand: Annotated[
        Number | None, _described("Highest demand of a bill's month, primary", "kW")
    ] = None
    year_kwh: Annotated[
        Number | None, _described("Energy billed in the year before this bill", "kWh")
    ] = None
    billed_deep_valley: Annotated[
        Number | None, _described("Energy of it in the deep valley (深谷)", "kWh")
    ] = None


class StageRecord(
    Struct,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"subject": "item", "area": "section"},
):
    """A work item enters or leaves a stage."""

    subject: Annotated[Id, _described("Work item")]
    at: Instant
    stage: Id
    progress: Literal["started", "finished", "paused", "resumed"]
    area: Annotated[
        Id,
        _described(
            "Section that works on it; the message key's when absent, equal to it when given"
        ),
    ] = ""
    limit: Annotated[
        Number | None,
        _described(
            "How long the stage may take, when not the section's own limit", "s"
        ),
    ] = None


class Frame(Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """Readings of one area as columns of packed little-endian numbers, in msgpack; an absent column is unknown.

    Times are u4 or i8, codes u2 or u4, distinguished by the length; energy registers f8, all else f4. A phase column
    holds phase A, then B, then C of all rows, or phase A alone.
    """

    meters: Annotated[list[Id], _described("The meters that the codes refer to")]
    meter: Annotated[bytes, _described("u2 or u4 code of each row's meter")]
    at: Annotated[bytes, _described("u4 or i8 Unix seconds", "s")]
    rows: Annotated[int, Meta(ge=1)]
    version: Literal[1]
    area: AreaId = ""
    register: Annotated[bytes | None, _described("f8", "kWh")] = None
    export_register: Annotated[bytes | None, _described("f8", "kWh")] = None
    kwh: Annotated[bytes | None, _described("f4", "kWh")] = None
    u: Annotated[bytes | None, _described("f4, phases", "V")] = None
    i: Annotated[bytes | None, _described("f4, phases", "A")] = None
    p: Annotated[bytes | None, _described("f4, phases", "kW")] = None
    q: Annotated[bytes | None, _described("f4, phases", "kvar")] = None
    register_sharp: Annotated[bytes | None, _described("f8", "kWh")] = None
    register_peak: Annotated[bytes | None, _described("f8", "kWh")] = None
    register_flat: Annotated[bytes | None, _described("f8", "kWh")] = None
    register_valley: Annotated[bytes | None, _described("f8", "kWh")] = None
    demand: Annotated[bytes | None, _described("f4", "kW")] = None
    demand_resets: Annotated[bytes | None, _described("f4")] = None
    neutral: Annotated[bytes | None, _described("f4", "A")] = None
    frequency: Annotated[bytes | None, _described("f4", "Hz")] = None
    temperature: Annotated[bytes | None, _described("f4", "Cel")] = None
    thd: Annotated[bytes | None, _described("f4, phases", "%")] = None
    u_angle: Annotated[bytes | None, _described("f4, phases", "deg")] = None
    terminal_p: Annotated[bytes | None, _described("f4", "kW")] = None
    meter_ratio: Annotated[bytes | None, _described("f4")] = None
    flags: Annotated[
        bytes | None,
        _described("f4: 1 reversed phase sequence, 2 battery low, 4 relay open"),
    ] = None
    clock_offset: Annotated[bytes | None, _described("f4", "s")] = None
    received: Annotated[
        bytes | None, _described("u4 or i8 Unix seconds, 0 if unknown", "s")
    ] = None
    status: Annotated[
        bytes | None, _described("u1: 0 measured, 1 estimated, 2 edited")
    ] = None


class FrameVersion(Struct, gc=False):
    """The one field that every version of a frame has."""

    version: int


JSON_CONTENT_TYPE = "application/json"
FRAME_VERSION: Literal[1] = 1
FRAME_CONTENT_TYPE = "application/vnd.meterwatch.frame+msgpack"

CODE_ENUMS: dict[str, type[IntEnum]] = {
    "status": Status,
    "event": Event,
    "payment": Payment,
    "progress": StageProgress,
}
WORDS_BY_CODE = {
    field: tuple(intern(code.name.lower()) for code in codes)
    for field, codes in CODE_ENUMS.items()
}
"""The words on the wire, in the order of their codes; interned, for msgspec compares defaults by identity."""

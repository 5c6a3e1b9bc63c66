"""The words that columns hold as codes, and the segments of subjects."""

from enum import IntEnum, IntFlag

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

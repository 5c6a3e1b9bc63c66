"""Device events by the codes of others: what each is called here.

DL/T 698.45 objects 3000 to 3112 and 376.1 ERC24 to ERC39 were read in public terminal firmware, the names of GXF (the
Open Smart Grid Platform) in its sources, the codes of IEC 61968-9 in two vendors' public sources. Those in `UNCHECKED`
come from general knowledge of the standards and were not compared with their text. What no rule and no policy can use
has no word here and is refused as unknown.
"""
from __future__ import annotations

from typing import Literal

from schemas.columns import Event

System = Literal["dlt698.45", "376.1", "gxf", "iec61968-9"]

DLT698 = {
    "3000": Event.VOLTAGE_LOSS, "3001": Event.UNDERVOLTAGE, "3002": Event.OVERVOLTAGE, "3003": Event.PHASE_BREAK,
    "3004": Event.CURRENT_LOSS, "3005": Event.OVERCURRENT, "3006": Event.CURRENT_BREAK, "3007": Event.REVERSE_POWER,
    "3008": Event.OVERLOAD, "3009": Event.DEMAND_EXCEEDED, "300A": Event.DEMAND_EXCEEDED, "300B": Event.DEMAND_EXCEEDED,
    "300D": Event.ALL_VOLTAGE_LOSS, "300F": Event.REVERSE_SEQUENCE, "3010": Event.REVERSE_SEQUENCE,
    "3011": Event.POWER_OFF, "3012": Event.PARAM_CHANGE, "3016": Event.CLOCK_SET, "301B": Event.COVER_OPEN,
    "301C": Event.TERMINAL_OPEN, "301D": Event.UNBALANCE, "301E": Event.UNBALANCE, "302A": Event.MAGNETIC_FIELD,
    "302B": Event.RELAY_FAILED, "302D": Event.UNBALANCE, "302E": Event.CLOCK_FAULT, "303B": Event.LOW_POWER_FACTOR,
    "3040": Event.NEUTRAL_CURRENT, "310B": Event.REGISTER_DECREASE, "310C": Event.ENERGY_MISMATCH,
    "310D": Event.METER_RUNAWAY, "310E": Event.METER_STOPPED, "310F": Event.READ_FAILURE,
    "3111": Event.UNKNOWN_METER, "3112": Event.FOREIGN_METER,
}  # fmt: skip

ERC = {
    "ERC8": Event.PARAM_CHANGE, "ERC11": Event.REVERSE_SEQUENCE, "ERC12": Event.CLOCK_FAULT, "ERC17": Event.UNBALANCE,
    "ERC25": Event.OVERCURRENT, "ERC26": Event.OVERLOAD, "ERC27": Event.REGISTER_DECREASE,
    "ERC28": Event.ENERGY_MISMATCH, "ERC29": Event.METER_RUNAWAY, "ERC30": Event.METER_STOPPED,
    "ERC31": Event.READ_FAILURE, "ERC35": Event.UNKNOWN_METER, "ERC37": Event.COVER_OPEN, "ERC38": Event.TERMINAL_OPEN,
    "ERC39": Event.READ_FAILURE, "ERC40": Event.MAGNETIC_FIELD,
}  # fmt: skip

GXF = {
    "POWER_FAILURE": Event.POWER_OFF, "POWER_RETURNED": Event.POWER_ON, "POWER_UP": Event.POWER_ON,
    "LAST_GASP": Event.POWER_OFF, "CLOCK_UPDATE": Event.CLOCK_SET, "CLOCK_ADJUSTED_NEW_TIME": Event.CLOCK_SET,
    "CLOCK_INVALID": Event.CLOCK_FAULT, "REPLACE_BATTERY": Event.BATTERY_LOW, "BATTERY_VOLTAGE_LOW": Event.BATTERY_LOW,
    "TERMINAL_COVER_REMOVED": Event.TERMINAL_OPEN, "TERMINAL_COVER_CLOSED": Event.TERMINAL_CLOSED,
    "STRONG_DC_FIELD_DETECTED": Event.MAGNETIC_FIELD, "NO_STRONG_DC_FIELD_ANYMORE": Event.MAGNETIC_FIELD_END,
    "METER_COVER_REMOVED": Event.COVER_OPEN, "METER_COVER_CLOSED": Event.COVER_CLOSED,
    "CONFIGURATION_CHANGE": Event.PARAM_CHANGE,
} | {
    f"{name}_L{phase}": event
    for name, event in (
        ("PHASE_OUTAGE_DETECTED", Event.PHASE_BREAK), ("VOLTAGE_SAG_IN_PHASE_DETECTED", Event.VOLTAGE_SAG),
        ("VOLTAGE_SWELL_IN_PHASE_DETECTED", Event.VOLTAGE_SWELL),
    )
    for phase in (1, 2, 3)
}  # fmt: skip

IEC = {  # without the first part, the kind of device; the first code of a word is the one that alerts carry
    "26.0.85": Event.POWER_OFF, "26.38.85": Event.POWER_OFF, "26.0.216": Event.POWER_ON, "26.38.49": Event.POWER_ON,
    "12.141.212": Event.COVER_OPEN, "12.141.16": Event.COVER_CLOSED, "12.29.212": Event.TERMINAL_OPEN,
    "12.29.16": Event.TERMINAL_CLOSED, "12.66.242": Event.MAGNETIC_FIELD, "12.66.243": Event.MAGNETIC_FIELD_END,
    "7.31.24": Event.PARAM_CHANGE, "7.0.24": Event.PARAM_CHANGE, "7.83.24": Event.PARAM_CHANGE,
    "36.116.13": Event.CLOCK_SET, "36.116.24": Event.CLOCK_SET, "36.114.35": Event.CLOCK_FAULT,
    "36.0.79": Event.CLOCK_FAULT, "2.22.150": Event.BATTERY_LOW, "2.0.85": Event.BATTERY_LOW,
    "31.26.68": Event.RELAY_OPENED, "31.26.42": Event.RELAY_CLOSED, "31.0.85": Event.RELAY_FAILED,
    "26.79.223": Event.VOLTAGE_SAG, "26.79.248": Event.VOLTAGE_SWELL, "26.25.85": Event.PHASE_BREAK,
    "26.131.223": Event.UNDERVOLTAGE, "26.131.248": Event.OVERVOLTAGE, "26.25.100": Event.CURRENT_LOSS,
    "26.25.45": Event.REVERSE_SEQUENCE, "26.38.98": Event.UNBALANCE, "26.137.93": Event.NEUTRAL_CURRENT,
    "12.6.219": Event.REVERSE_POWER, "8.0.177": Event.DEMAND_EXCEEDED,
}  # fmt: skip

TABLES: dict[System, dict[str, Event]] = {"dlt698.45": DLT698, "376.1": ERC, "gxf": GXF, "iec61968-9": IEC}

UNCHECKED: dict[System, tuple[str, ...]] = {
    "dlt698.45": ("3012", "3016", "301B", "301C", "302A", "302B"),
    "376.1": ("ERC8", "ERC11", "ERC12", "ERC17", "ERC35", "ERC40"),
    "iec61968-9": ("31.0.85",),
}

ELECTRIC_METER = "3"
CODES = {event: f"{ELECTRIC_METER}.{code}" for code, event in reversed(IEC.items())}
"""The IEC 61968-9 code of an event, where there is one."""


def event_of(system: System, code: str) -> Event | None:
    """What a code means; None when its table has no such code.

    >>> event_of("376.1", "erc37"), event_of("iec61968-9", "26.12.141.212").name, event_of("gxf", "RAM_ERROR")
    (<Event.COVER_OPEN: 2>, 'COVER_OPEN', None)
    """
    code = code.strip().upper()
    if system == "iec61968-9":
        code = code.partition(".")[2]
    elif system == "376.1" and code.isdecimal():
        code = f"ERC{int(code)}"
    elif system == "gxf":
        code = code.replace("_L_", "_L")
    return TABLES[system].get(code)

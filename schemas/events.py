"""Device events by the codes of other systems, and their names here.

Objects 3000 to 3201 of DL/T 698.45, ERC1 to ERC41 of 376.1 and the data identifiers of DL/T 645-2007 come from two
public sources each, firmware of terminals and meters or head-ends; the names of GXF (the Open Smart Grid Platform)
from its sources, the codes of IEC 61968-9 from two vendors' public sources. Events that no rule and no policy can use
have no word and are rejected as unknown: versions, messages, flows of data, settings of the terminal itself.
"""

from __future__ import annotations

from typing import Literal

from schemas.columns import Event

System = Literal["dlt698.45", "dlt645-2007", "376.1", "gxf", "iec61968-9"]

DLT698_EVENTS = {
    "3000": Event.VOLTAGE_LOSS, "3001": Event.UNDERVOLTAGE, "3002": Event.OVERVOLTAGE, "3003": Event.PHASE_BREAK,
    "3004": Event.CURRENT_LOSS, "3005": Event.OVERCURRENT, "3006": Event.CURRENT_BREAK, "3007": Event.REVERSE_POWER,
    "3008": Event.OVERLOAD, "3009": Event.DEMAND_EXCEEDED, "300A": Event.DEMAND_EXCEEDED, "300B": Event.DEMAND_EXCEEDED,
    "300C": Event.LOW_POWER_FACTOR, "300D": Event.ALL_VOLTAGE_LOSS, "300F": Event.REVERSE_SEQUENCE,
    "3010": Event.REVERSE_SEQUENCE, "3011": Event.POWER_OFF, "3012": Event.PARAM_CHANGE, "3013": Event.PARAM_CHANGE,
    "3014": Event.PARAM_CHANGE, "3015": Event.PARAM_CHANGE, "3016": Event.CLOCK_SET, "3017": Event.PARAM_CHANGE,
    "3018": Event.PARAM_CHANGE, "3019": Event.PARAM_CHANGE, "301A": Event.PARAM_CHANGE, "301B": Event.COVER_OPEN,
    "301C": Event.TERMINAL_OPEN, "301D": Event.UNBALANCE, "301E": Event.UNBALANCE, "301F": Event.RELAY_OPENED,
    "3020": Event.RELAY_CLOSED, "3021": Event.PARAM_CHANGE, "3022": Event.PARAM_CHANGE, "3023": Event.PARAM_CHANGE,
    "3024": Event.PARAM_CHANGE, "3025": Event.PARAM_CHANGE, "302A": Event.MAGNETIC_FIELD, "302B": Event.RELAY_FAILED,
    "302C": Event.METER_FAULT, "302D": Event.UNBALANCE, "302E": Event.CLOCK_FAULT, "302F": Event.METER_FAULT,
    "303B": Event.LOW_POWER_FACTOR, "303C": Event.CLOCK_SET, "3040": Event.NEUTRAL_CURRENT, "3105": Event.CLOCK_FAULT,
    "3106": Event.POWER_OFF, "310A": Event.METER_FAULT, "310B": Event.REGISTER_DECREASE,
    "310C": Event.ENERGY_MISMATCH, "310D": Event.METER_RUNAWAY, "310E": Event.METER_STOPPED,
    "310F": Event.READ_FAILURE, "3111": Event.UNKNOWN_METER, "3112": Event.FOREIGN_METER, "3115": Event.RELAY_OPENED,
    "3116": Event.ENERGY_MISMATCH, "3119": Event.CURRENT_LOSS, "311B": Event.CLOCK_SET, "311C": Event.PARAM_CHANGE,
    "3200": Event.RELAY_OPENED, "3201": Event.RELAY_OPENED,
}  # fmt: skip

DLT645_EVENTS = (
    {  # the first six digits: what, and of which phase; the last two say which of the ten latest records it is
        "030500": Event.ALL_VOLTAGE_LOSS,
        "031100": Event.POWER_OFF,
        "210000": Event.REVERSE_POWER,
        "033000": Event.PARAM_CHANGE,
        "033001": Event.PARAM_CHANGE,
        "033002": Event.PARAM_CHANGE,
        "033003": Event.PARAM_CHANGE,
        "033004": Event.CLOCK_SET,
        "033005": Event.PARAM_CHANGE,
        "033006": Event.PARAM_CHANGE,
        "033007": Event.PARAM_CHANGE,
        "033008": Event.PARAM_CHANGE,
        "033009": Event.PARAM_CHANGE,
        "03300A": Event.PARAM_CHANGE,
        "03300B": Event.PARAM_CHANGE,
        "03300C": Event.PARAM_CHANGE,
        "03300D": Event.COVER_OPEN,
        "03300E": Event.TERMINAL_OPEN,
        "03300F": Event.PARAM_CHANGE,
        "033010": Event.PARAM_CHANGE,
        "033500": Event.MAGNETIC_FIELD,
        "033600": Event.RELAY_FAILED,
        "033700": Event.METER_FAULT,
        "1400FF": Event.REVERSE_SEQUENCE,
        "1500FF": Event.REVERSE_SEQUENCE,
        "1600FF": Event.UNBALANCE,
        "1700FF": Event.UNBALANCE,
        "1D00FF": Event.RELAY_OPENED,
        "1E00FF": Event.RELAY_CLOSED,
        "1F00FF": Event.LOW_POWER_FACTOR,
        "2000FF": Event.UNBALANCE,
    }
    | {f"0312{way:02}": Event.DEMAND_EXCEEDED for way in range(1, 7)}
    | {
        f"{kind}{phase:02}FF": event
        for kind, event in (
            ("10", Event.VOLTAGE_LOSS),
            ("11", Event.UNDERVOLTAGE),
            ("12", Event.OVERVOLTAGE),
            ("13", Event.PHASE_BREAK),
            ("18", Event.CURRENT_LOSS),
            ("19", Event.OVERCURRENT),
            ("1A", Event.CURRENT_BREAK),
            ("1B", Event.REVERSE_POWER),
            ("1C", Event.OVERLOAD),
        )
        for phase in (1, 2, 3)
    }
)
DLT645_RECORDS = 10  # records of an event that a DL/T 645-2007 meter keeps; record 0 is how many there were

ERC_EVENTS = {
    "ERC5": Event.RELAY_OPENED, "ERC6": Event.RELAY_OPENED, "ERC7": Event.RELAY_OPENED, "ERC8": Event.PARAM_CHANGE,
    "ERC9": Event.CURRENT_LOSS, "ERC10": Event.VOLTAGE_LOSS, "ERC11": Event.REVERSE_SEQUENCE,
    "ERC12": Event.CLOCK_FAULT, "ERC13": Event.METER_FAULT, "ERC14": Event.POWER_OFF, "ERC15": Event.HARMONICS,
    "ERC17": Event.UNBALANCE, "ERC22": Event.ENERGY_MISMATCH, "ERC24": Event.VOLTAGE_DEVIATION,
    "ERC25": Event.OVERCURRENT,
    "ERC26": Event.OVERLOAD, "ERC27": Event.REGISTER_DECREASE, "ERC28": Event.ENERGY_MISMATCH,
    "ERC29": Event.METER_RUNAWAY, "ERC30": Event.METER_STOPPED, "ERC31": Event.READ_FAILURE,
    "ERC34": Event.CURRENT_LOSS, "ERC35": Event.UNKNOWN_METER, "ERC37": Event.COVER_OPEN, "ERC38": Event.TERMINAL_OPEN,
    "ERC39": Event.READ_FAILURE, "ERC40": Event.MAGNETIC_FIELD,
}  # fmt: skip

AREA_WIDE_CODES = frozenset({("dlt698.45", "3106"), ("376.1", "ERC14")})
"""Reports of a terminal on its own supply, and so on its whole area: that it is off, until it is on again."""

GXF_EVENTS = {
    "POWER_FAILURE": Event.POWER_OFF,
    "POWER_RETURNED": Event.POWER_ON,
    "POWER_UP": Event.POWER_ON,
    "LAST_GASP": Event.POWER_OFF,
    "CLOCK_UPDATE": Event.CLOCK_SET,
    "CLOCK_ADJUSTED_NEW_TIME": Event.CLOCK_SET,
    "CLOCK_INVALID": Event.CLOCK_FAULT,
    "REPLACE_BATTERY": Event.BATTERY_LOW,
    "BATTERY_VOLTAGE_LOW": Event.BATTERY_LOW,
    "TERMINAL_COVER_REMOVED": Event.TERMINAL_OPEN,
    "TERMINAL_COVER_CLOSED": Event.TERMINAL_CLOSED,
    "STRONG_DC_FIELD_DETECTED": Event.MAGNETIC_FIELD,
    "NO_STRONG_DC_FIELD_ANYMORE": Event.MAGNETIC_FIELD_END,
    "METER_COVER_REMOVED": Event.COVER_OPEN,
    "METER_COVER_CLOSED": Event.COVER_CLOSED,
    "CONFIGURATION_CHANGE": Event.PARAM_CHANGE,
} | {
    f"{name}_L{phase}": event
    for name, event in (
        ("PHASE_OUTAGE_DETECTED", Event.PHASE_BREAK),
        ("VOLTAGE_SAG_IN_PHASE_DETECTED", Event.VOLTAGE_SAG),
        ("VOLTAGE_SWELL_IN_PHASE_DETECTED", Event.VOLTAGE_SWELL),
    )
    for phase in (1, 2, 3)
}

IEC_EVENTS = {  # without the first part, the kind of device; the first code of a word is the one that alerts carry
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

EVENT_TABLES: dict[System, dict[str, Event]] = {
    "dlt698.45": DLT698_EVENTS,
    "dlt645-2007": DLT645_EVENTS,
    "376.1": ERC_EVENTS,
    "gxf": GXF_EVENTS,
    "iec61968-9": IEC_EVENTS,
}

ELECTRIC_METER = "3"
IEC_CODES = {
    event: f"{ELECTRIC_METER}.{code}" for code, event in reversed(IEC_EVENTS.items())
}
"""The IEC 61968-9 code of an event that has one."""


def event_of(system: System, code: str) -> Event | None:
    """The event that a code means; None if its table has no such code.

    >>> event_of("376.1", "erc37"), event_of("iec61968-9", "26.12.141.212").name, event_of("gxf", "RAM_ERROR")
    (<Event.COVER_OPEN: 2>, 'COVER_OPEN', None)
    >>> event_of("dlt645-2007", "03300D0A").name, event_of("dlt645-2007", "03300D00")
    ('COVER_OPEN', None)
    """
    return EVENT_TABLES[system].get(_key(system, code))


def is_area_wide(system: System | None, code: str) -> bool:
    """True if a code is about the whole area, whatever device names it.

    >>> is_area_wide("376.1", "ERC14"), is_area_wide("376.1", "ERC37")
    (True, False)
    """
    return system is not None and (system, _key(system, code)) in AREA_WIDE_CODES


def _key(system: System, code: str) -> str:
    """A code in the form of its table."""
    code = code.strip().upper()
    if system == "iec61968-9":
        return code.partition(".")[2]
    if system == "376.1" and code.isdecimal():
        return f"ERC{int(code)}"
    if system == "gxf":
        return code.replace("_L_", "_L")
    if system == "dlt645-2007":
        digits = code.replace("-", "").replace(" ", "")
        latest = f"{DLT645_RECORDS:02X}"
        return digits[:6] if len(digits) == 8 and "01" <= digits[6:] <= latest else ""
    return code

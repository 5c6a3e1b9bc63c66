"""The master-data audit: the faults of every record at the end of every day."""

from __future__ import annotations

import math

from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from tests.oracle.meters import record
from tests.oracle.scores import MASTER_DATA_RULES
from tests.oracle.watch import Endings, Facts, judge

SEGMENT_TRADES = {
    "agricultural": "A",
    "industrial": "BCD",
    "commercial": "EFGHIJKLMNOPQRST",
}
MISSING_GATEWAY: Facts = {
    "late": None,
    "left": None,
    "gaps": 0,
    "off": 0.0,
    "faults": 1,
}


def master_data_endings(area: Area, days: list[tuple[int, int]]) -> Endings:
    """How the episodes end that stem from master data."""
    diaries: dict[str, list[Facts]] = {}
    for _, end in days:
        connected: dict[str, Meter] = {}
        for name in dict.fromkeys(meter.meter for meter in area.meters):
            meter = record(area, name, end)
            if meter and not 0 < meter.until < end:
                connected[name] = meter

        users = [meter for meter in connected.values() if meter.meter != area.gateway]
        for name, meter in connected.items():
            diaries.setdefault(name, []).append(record_facts(meter, area, users, end))
        if area.gateway and area.gateway not in connected:
            diaries.setdefault(area.gateway, []).append({"at": end} | MISSING_GATEWAY)

    endings: Endings = {}
    for name, diary in diaries.items():
        judge(MASTER_DATA_RULES, area.area, name, diary, endings)
    return endings


def record_facts(meter: Meter, area: Area, users: list[Meter], end: int) -> Facts:
    """One record at the end of a day."""
    due, until = meter.calibration_due, meter.contract_until
    signed, contract = meter.signed_kva, meter.contract_kva
    is_gateway = meter.meter == area.gateway
    return {
        "at": end,
        "late": (end - due) / DAY_SECONDS if due else None,
        "left": (until - end) / DAY_SECONDS if until else None,
        "gaps": 0 if is_gateway else contract_gaps(meter, users),
        "faults": record_faults(meter, area, users),
        "off": abs(signed - contract) / contract if signed and contract else -math.inf,
    }


def record_faults(meter: Meter, area: Area, users: list[Meter]) -> int:
    """The number of faults in a record: a duplicate, no customer, no contract, a wrong ratio, another class's trade."""
    same = [
        other
        for other in area.meters
        if other.meter == meter.meter and other.effective == meter.effective
    ]
    faults = len(same) - 1
    if meter.meter != area.gateway:
        faults += not meter.customer and any(user.customer for user in users)
        residential = meter.segment == "residential"
        faults += meter.contract_kva == 0
        faults += meter.contract_kva is None and not residential

    wrong_ct = meter.ct < 1 or meter.ct > 2000 or (meter.ct > 1 and is_single(meter))
    wrong_pt = meter.pt < 1 or (meter.pt > 1 and meter.un_v > 200)
    faults += wrong_ct or wrong_pt
    trades = SEGMENT_TRADES.get(meter.segment, "")
    faults += bool(meter.trade) and meter.trade not in trades
    return faults


def is_single(meter: Meter) -> bool:
    """Whether a meter measures a single phase."""
    return meter.wiring == "1P2W"


def contract_gaps(meter: Meter, users: list[Meter]) -> int:
    """The number of contract fields that a record lacks and another user's record has."""
    gaps = 0
    gaps += not meter.tariff and any(user.tariff for user in users)
    gaps += not meter.contract_until and any(user.contract_until for user in users)
    gaps += not meter.signed_kva and any(user.signed_kva for user in users)
    return gaps

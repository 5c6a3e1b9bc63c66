"""What is wrong with the files of an area, day by day, as a clerk would find who lays them side by side."""

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


def master_data_endings(area: Area, days: list[tuple[int, int]]) -> Endings:
    """How the episodes end that stem from master data."""
    told: Endings = {}
    diaries: dict[str, list[Facts]] = {}
    for _, end in days:
        there = {
            name: m
            for name in dict.fromkeys(m.meter for m in area.meters)
            if (m := record(area, name, end)) and not 0 < m.until < end
        }
        users = [m for m in there.values() if m.meter != area.gateway]
        for name, m in there.items():
            diaries.setdefault(name, []).append(record_facts(m, area, users, end))
        if area.gateway and area.gateway not in there:
            fact = {
                "at": end,
                "late": None,
                "left": None,
                "gaps": 0,
                "off": 0.0,
                "faults": 1,
            }
            diaries.setdefault(area.gateway, []).append(fact)
    for name, diary in diaries.items():
        judge(MASTER_DATA_RULES, area.area, name, diary, told)
    return told


def record_facts(m: Meter, area: Area, users: list[Meter], end: int) -> Facts:
    """One file at the end of a day."""
    gateway = m.meter == area.gateway
    faults = (
        sum(
            other.meter == m.meter and other.effective == m.effective
            for other in area.meters
        )
        - 1
    )
    faults += not gateway and not m.customer and any(u.customer for u in users)
    faults += not gateway and (
        m.contract_kva == 0 or (m.contract_kva is None and m.segment != "residential")
    )
    faults += (
        m.ct < 1
        or m.pt < 1
        or m.ct > 2000
        or (m.ct > 1 and m.wiring == "1P2W")
        or (m.pt > 1 and m.un_v > 200)
    )
    faults += bool(m.trade) and m.trade not in SEGMENT_TRADES.get(m.segment, "")
    gaps = 0
    if not gateway:
        gaps += not m.tariff and any(u.tariff for u in users)
        gaps += not m.contract_until and any(u.contract_until for u in users)
        gaps += not m.signed_kva and any(u.signed_kva for u in users)
    return {
        "at": end,
        "late": (end - m.calibration_due) / DAY_SECONDS if m.calibration_due else None,
        "left": (m.contract_until - end) / DAY_SECONDS if m.contract_until else None,
        "gaps": gaps,
        "faults": faults,
        "off": abs(m.signed_kva - m.contract_kva) / m.contract_kva
        if m.signed_kva and m.contract_kva
        else -math.inf,
    }

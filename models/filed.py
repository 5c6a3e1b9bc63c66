"""What the file of each meter says on a day, beside the files of its area."""
from __future__ import annotations

from collections import Counter

import numpy as np

from models.registry import Registry, Versions
from schemas.columns import Codes, Column, Mask
from schemas.master import Area, Meter

DAY = 86_400
RECORD = ("until", "gateway", "customer", "tariff", "contract_until", "signed_kva", "contract_kva", "calibration_due",
          "doubled", "bad_capacity", "bad_ratio", "bad_class")  # fmt: skip
FOUND = ("calibration_days", "contract_days", "gaps", "signed_off", "no_customer", "doubled", "bad_capacity",
         "bad_ratio", "bad_class", "no_gateway")  # fmt: skip
KEPT = ("customer", "tariff", "contract_until", "signed_kva")  # where one file of the area has it, every file should
SINGLE_PHASE, LARGEST_CT, LOW_VOLTAGE = "1P2W", 2000.0, 200.0  # 10 kA on 5 A; V, above which there is no transformer
CLASSES = {"A": "agricultural"} | dict.fromkeys("BCD", "industrial") | dict.fromkeys("EFGHIJKLMNOPQRST", "commercial")
"""The class of use of each section of trades in GB/T 4754."""


def record_row(m: Meter, gateway: bool, doubled: int) -> list[float]:
    """The RECORD columns of a meter's record."""
    absent = m.contract_kva is None and m.segment != "residential"
    bad_ratio = (
        min(m.ct, m.pt) < 1 or m.ct > LARGEST_CT or (m.ct > 1 and m.wiring == SINGLE_PHASE)
        or (m.pt > 1 and m.un_v > LOW_VOLTAGE)
    )  # fmt: skip
    return [
        m.until or np.inf, gateway, bool(m.customer), bool(m.tariff), m.contract_until or np.nan,
        np.nan if m.signed_kva is None else m.signed_kva, np.nan if m.contract_kva is None else m.contract_kva,
        m.calibration_due or np.nan, doubled, not gateway and (absent or m.contract_kva == 0), bad_ratio,
        CLASSES.get(m.trade, m.segment) != m.segment,
    ]  # fmt: skip


class Filed:
    """The files of all meters, each from its effective date on."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.versions: dict[str, tuple[Area, Versions]] = {}  # by area, of the master data as it is known

    def files(self, name: str, end: int) -> tuple[Codes, dict[str, Column]]:
        """The meters of an area in force at the end of a day, and the columns of Files; also its gateway, if named."""
        area = self.registry.areas.get(name)
        if area is None:
            return np.zeros(0, np.int64), dict.fromkeys(FOUND, np.zeros(0))
        if name not in self.versions or self.versions[name][0] is not area:
            self.versions[name] = area, self.compiled(area)
        members = self.registry.members[name]
        gateway = [self.registry.meter_index.slot(name, area.gateway)] if area.gateway else []
        slots = np.array(sorted({*members, *gateway}), np.int64)
        versions = self.versions[name][1]
        rows = versions.rows(slots, np.full(len(slots), end - 1))
        held = versions.at(rows)
        there = (rows > 0) & (end <= held["until"])
        missing = np.isin(slots, gateway) & ~there
        columns = told(held, there, end) | {"no_gateway": missing.astype(float)}
        kept = there | missing
        return slots[kept], {column: values[kept] for column, values in columns.items()}

    def compiled(self, area: Area) -> Versions:
        """The records of an area by meter and effective date."""
        versions, alike = Versions(RECORD), Counter((m.meter, m.effective) for m in area.meters)
        records: dict[int, list[tuple[int, list[float]]]] = {}
        for m in area.meters:
            row = record_row(m, m.meter == area.gateway, alike[m.meter, m.effective] - 1)
            records.setdefault(self.registry.meter_index.slot(area.area, m.meter), []).append((m.effective, row))
        versions.replace(records)
        return versions


def told(held: dict[str, Column], there: Mask, end: int) -> dict[str, Column]:
    """What is wrong with the files of an area's meters at the end of a day."""
    users = there & (held["gateway"] != 1)
    empty = {name: np.isnan(held[name]) | (held[name] == 0) for name in KEPT}
    lacks = {name: (users & empty[name] & (users & ~empty[name]).any()).astype(float) for name in KEPT}
    with np.errstate(invalid="ignore", divide="ignore"):
        signed_off = np.abs(held["signed_kva"] - held["contract_kva"]) / held["contract_kva"]
    return {
        "calibration_days": (end - held["calibration_due"]) / DAY,
        "contract_days": (held["contract_until"] - end) / DAY,
        "gaps": lacks["tariff"] + lacks["contract_until"] + lacks["signed_kva"],
        "signed_off": np.where(np.isfinite(signed_off), signed_off, 0.0), "no_customer": lacks["customer"],
        **{name: np.where(there, held[name], 0.0) for name in ("doubled", "bad_capacity", "bad_ratio", "bad_class")},
    }  # fmt: skip

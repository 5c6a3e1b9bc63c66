"""What the file of each meter says on a day, beside the files of its area."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from models.registry import Registry, Versions
from models.runs import whole_sums
from schemas.columns import Codes, Column, Mask, Times
from schemas.master import Area, Meter

DAY = 86_400
RECORD = ("until", "gateway", "customer", "tariff", "contract_until", "signed_kva", "contract_kva", "calibration_due",
          "doubled", "bad_capacity", "bad_ratio", "bad_class")  # fmt: skip
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


class Files(NamedTuple):
    """Whose files an area has."""

    area: Area | None
    meters: list[int]
    gateway: int  # -1 where it names none


NO_FILES = Files(None, [], -1)


class Filed:
    """The files of all meters, each from its effective date on."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.enrolled = registry, registry.meters
        self.versions = Versions(RECORD)
        self.known: dict[str, Files] = {}  # by area

    def files(self, names: Sequence[str], ends: Times) -> tuple[Codes, Codes, dict[str, Column]]:
        """The meters of some areas in force at the end of a day each: how many, which, and the columns of Files.

        Also its gateway, where an area names one.
        """
        self.compile([area for name in names if (area := self.registry.areas.get(name))])
        areas = [self.known.get(name, NO_FILES) for name in names]
        sizes = np.array([len(area.meters) for area in areas], np.int64)
        slots = np.fromiter(chain.from_iterable(area.meters for area in areas), np.int64, sizes.sum())
        gateway = slots == np.repeat([area.gateway for area in areas], sizes)
        end = np.repeat(ends, sizes)
        rows = self.versions.rows(slots, end - 1)
        held = self.versions.at(rows)
        there = (rows > 0) & (end <= held["until"])
        missing = gateway & ~there
        columns = told(held, there, end, sizes) | {"no_gateway": missing.astype(float)}
        kept = there | missing
        if kept.all():
            return sizes, slots, columns
        return whole_sums(kept, sizes), slots[kept], {column: values[kept] for column, values in columns.items()}

    def compile(self, areas: Sequence[Area]) -> None:
        """Take in the records of those areas that are known otherwise, by meter and effective date."""
        if self.enrolled is not self.registry.meters:  # another index
            self.enrolled, self.versions, self.known = self.registry.meters, Versions(RECORD), {}
        index = self.registry.meter_index
        records: dict[int, list[tuple[int, list[float]]]] = {}
        for area in areas:
            if (known := self.known.get(area.area)) and known.area is area:
                continue
            gateway = index.slot(area.area, area.gateway) if area.gateway else -1
            meters = sorted({*self.registry.members[area.area], *([gateway] if area.gateway else [])})
            records |= {slot: [] for slot in (known.meters if known else meters)}
            alike = Counter((m.meter, m.effective) for m in area.meters)
            ours: dict[int, list[tuple[int, list[float]]]] = {}
            for m in area.meters:
                row = record_row(m, m.meter == area.gateway, alike[m.meter, m.effective] - 1)
                ours.setdefault(index.slot(area.area, m.meter), []).append((m.effective, row))
            records |= ours
            self.known[area.area] = Files(area, meters, gateway)
        if records:
            self.versions.replace(records)


def told(held: dict[str, Column], there: Mask, end: Times, sizes: Codes) -> dict[str, Column]:
    """What is wrong with the files of some areas' meters at the end of their days."""
    users = there & (held["gateway"] != 1)
    empty = {name: np.isnan(held[name]) | (held[name] == 0) for name in KEPT}
    lacks = {
        name: (users & empty[name] & np.repeat(whole_sums(users & ~empty[name], sizes) > 0, sizes)).astype(float)
        for name in KEPT
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        signed_off = np.abs(held["signed_kva"] - held["contract_kva"]) / held["contract_kva"]
    return {
        "calibration_days": (end - held["calibration_due"]) / DAY,
        "contract_days": (held["contract_until"] - end) / DAY,
        "gaps": lacks["tariff"] + lacks["contract_until"] + lacks["signed_kva"],
        "signed_off": np.where(np.isfinite(signed_off), signed_off, -np.inf), "no_customer": lacks["customer"],
        **{name: np.where(there, held[name], 0.0) for name in ("doubled", "bad_capacity", "bad_ratio", "bad_class")},
    }  # fmt: skip

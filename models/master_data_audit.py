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
from schemas.units import DAY_SECONDS

RECORD_COLUMNS = (
    "until",
    "gateway",
    "customer",
    "tariff",
    "contract_until",
    "signed_kva",
    "contract_kva",
    "calibration_due",
    "doubled",
    "bad_capacity",
    "bad_ratio",
    "bad_class",
)
EXPECTED_FIELDS = (
    "customer",
    "tariff",
    "contract_until",
    "signed_kva",
)  # where one file of the area has it, every file should
SINGLE_PHASE, LARGEST_CT, LOW_VOLTAGE = (
    "1P2W",
    2000.0,
    200.0,
)  # 10 kA on 5 A; V, above which there is no transformer
USE_CLASS_OF_TRADE = (
    {"A": "agricultural"}
    | dict.fromkeys("BCD", "industrial")
    | dict.fromkeys("EFGHIJKLMNOPQRST", "commercial")
)
"""The class of use of each section of trades in GB/T 4754."""


def _record_row(m: Meter, gateway: bool, doubled: int) -> list[float]:
    """The RECORD_COLUMNS of a meter's record."""
    absent = m.contract_kva is None and m.segment != "residential"
    bad_ratio = (
        min(m.ct, m.pt) < 1
        or m.ct > LARGEST_CT
        or (m.ct > 1 and m.wiring == SINGLE_PHASE)
        or (m.pt > 1 and m.un_v > LOW_VOLTAGE)
    )
    return [
        m.until or np.inf,
        gateway,
        bool(m.customer),
        bool(m.tariff),
        m.contract_until or np.nan,
        np.nan if m.signed_kva is None else m.signed_kva,
        np.nan if m.contract_kva is None else m.contract_kva,
        m.calibration_due or np.nan,
        doubled,
        not gateway and (absent or m.contract_kva == 0),
        bad_ratio,
        USE_CLASS_OF_TRADE.get(m.trade, m.segment) != m.segment,
    ]


class _AreaRecords(NamedTuple):
    """Whose files an area has."""

    area: Area | None
    meters: list[int]
    gateway: int  # -1 where it names none


NO_RECORDS = _AreaRecords(None, [], -1)


class MasterDataAudit:
    """The files of all meters, each from its effective date on."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._enrolled = registry, registry.meters
        self._versions = Versions(RECORD_COLUMNS)
        self._known: dict[str, _AreaRecords] = {}  # by area

    def records(
        self, names: Sequence[str], ends: Times
    ) -> tuple[Codes, Codes, dict[str, Column]]:
        """The meters of some areas in force at the end of a day each: how many, which, and the columns of Files.

        Also its gateway, where an area names one.
        """
        self._compile(
            [area for name in names if (area := self._registry.areas.get(name))]
        )
        areas = [self._known.get(name, NO_RECORDS) for name in names]
        sizes = np.array([len(area.meters) for area in areas], np.int64)
        slots = np.fromiter(
            chain.from_iterable(area.meters for area in areas), np.int64, sizes.sum()
        )
        gateway = slots == np.repeat([area.gateway for area in areas], sizes)
        end = np.repeat(ends, sizes)
        rows = self._versions.rows_in_force(slots, end - 1)
        held = self._versions.columns_of(rows)
        there = (rows > 0) & (end <= held["until"])
        missing = gateway & ~there
        columns = _record_faults(held, there, end, sizes) | {
            "no_gateway": missing.astype(float)
        }
        kept = there | missing
        if kept.all():
            return sizes, slots, columns
        return (
            whole_sums(kept, sizes),
            slots[kept],
            {column: values[kept] for column, values in columns.items()},
        )

    def _compile(self, areas: Sequence[Area]) -> None:
        """Take in the records of those areas that are known otherwise, by meter and effective date."""
        if self._enrolled is not self._registry.meters:  # another index
            self._enrolled, self._versions, self._known = (
                self._registry.meters,
                Versions(RECORD_COLUMNS),
                {},
            )
        index = self._registry.meter_index
        records: dict[int, list[tuple[int, list[float]]]] = {}
        for area in areas:
            if (known := self._known.get(area.area)) and known.area is area:
                continue
            gateway = index.slot(area.area, area.gateway) if area.gateway else -1
            meters = sorted(
                {
                    *self._registry.members[area.area],
                    *([gateway] if area.gateway else []),
                }
            )
            records |= {slot: [] for slot in (known.meters if known else meters)}
            alike = Counter((m.meter, m.effective) for m in area.meters)
            ours: dict[int, list[tuple[int, list[float]]]] = {}
            for m in area.meters:
                row = _record_row(
                    m, m.meter == area.gateway, alike[m.meter, m.effective] - 1
                )
                ours.setdefault(index.slot(area.area, m.meter), []).append(
                    (m.effective, row)
                )
            records |= ours
            self._known[area.area] = _AreaRecords(area, meters, gateway)
        if records:
            self._versions.replace(records)


def _record_faults(
    records: dict[str, Column], in_force: Mask, end: Times, sizes: Codes
) -> dict[str, Column]:
    """What is wrong with the files of some areas' meters at the end of their days."""
    users = in_force & (records["gateway"] != 1)
    empty = {
        name: np.isnan(records[name]) | (records[name] == 0) for name in EXPECTED_FIELDS
    }
    lacks = {
        name: (
            users
            & empty[name]
            & np.repeat(whole_sums(users & ~empty[name], sizes) > 0, sizes)
        ).astype(float)
        for name in EXPECTED_FIELDS
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        signed_off = (
            np.abs(records["signed_kva"] - records["contract_kva"])
            / records["contract_kva"]
        )
    return {
        "calibration_days": (end - records["calibration_due"]) / DAY_SECONDS,
        "contract_days": (records["contract_until"] - end) / DAY_SECONDS,
        "gaps": lacks["tariff"] + lacks["contract_until"] + lacks["signed_kva"],
        "signed_off": np.where(np.isfinite(signed_off), signed_off, -np.inf),
        "no_customer": lacks["customer"],
        **{
            name: np.where(in_force, records[name], 0.0)
            for name in ("doubled", "bad_capacity", "bad_ratio", "bad_class")
        },
    }

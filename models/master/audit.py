"""The record of each meter on a day, beside the records of its area."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from models.master.registry import Registry
from models.master.versions import Histories, Versions
from models.state.runs import whole_sums
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
# If a record of the area has one of these fields, every record should.
EXPECTED_FIELDS = ("customer", "tariff", "contract_until", "signed_kva")
SINGLE_PHASE = "1P2W"
LARGEST_CT = 2000.0  # 10 kA on 5 A
LOW_VOLTAGE = 200.0  # V, above which there is no transformer
USE_CLASS_OF_TRADE = (
    {"A": "agricultural"}
    | dict.fromkeys("BCD", "industrial")
    | dict.fromkeys("EFGHIJKLMNOPQRST", "commercial")
)
"""The use class of each section of trades in GB/T 4754."""


def _record_row(meter: Meter, gateway: bool, duplicates: int) -> list[float]:
    """The RECORD_COLUMNS of a meter's record, of which there are so many duplicates."""
    no_contract = meter.contract_kva is None and meter.segment != "residential"
    bad_ratio = (
        min(meter.ct, meter.pt) < 1
        or meter.ct > LARGEST_CT
        or (meter.ct > 1 and meter.wiring == SINGLE_PHASE)
        or (meter.pt > 1 and meter.un_v > LOW_VOLTAGE)
    )
    signed_kva = meter.signed_kva
    contract_kva = meter.contract_kva
    use_class = USE_CLASS_OF_TRADE.get(meter.trade, meter.segment)

    return [
        meter.until or np.inf,
        gateway,
        bool(meter.customer),
        bool(meter.tariff),
        meter.contract_until or np.nan,
        np.nan if signed_kva is None else signed_kva,
        np.nan if contract_kva is None else contract_kva,
        meter.calibration_due or np.nan,
        duplicates,
        not gateway and (no_contract or contract_kva == 0),
        bad_ratio,
        use_class != meter.segment,
    ]


class _AreaRecords(NamedTuple):
    """The meters whose records an area has."""

    area: Area | None
    meters: list[int]
    gateway: int  # -1 if it names none


NO_RECORDS = _AreaRecords(None, [], -1)


class MasterDataAudit:
    """The records of all meters, each from its effective date on."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._enrolled = registry.meters
        self._versions = Versions(RECORD_COLUMNS)
        self._known: dict[str, _AreaRecords] = {}  # by area

    def records(
        self, names: Sequence[str], ends: Times
    ) -> tuple[Codes, Codes, dict[str, Column]]:
        """The meters of areas in force at the end of a day each: counts, slots, columns of MasterRecords.

        Also the gateway of an area that names one.
        """
        enrolled = [self._registry.areas.get(name) for name in names]
        self._compile([area for area in enrolled if area])
        areas = [self._known.get(name, NO_RECORDS) for name in names]
        sizes = np.array([len(area.meters) for area in areas], np.int64)
        meters = chain.from_iterable(area.meters for area in areas)
        slots = np.fromiter(meters, np.int64, sizes.sum())

        gateway = slots == np.repeat([area.gateway for area in areas], sizes)
        end = np.repeat(ends, sizes)
        rows = self._versions.rows_in_force(slots, end - 1)
        records = self._versions.columns_of(rows)
        in_force = (rows > 0) & (end <= records["until"])
        missing = gateway & ~in_force
        columns = _record_faults(records, in_force, end, sizes)
        columns["no_gateway"] = missing.astype(float)

        kept = in_force | missing
        if kept.all():
            return sizes, slots, columns
        columns = {name: column[kept] for name, column in columns.items()}
        return whole_sums(kept, sizes), slots[kept], columns

    def _compile(self, areas: Sequence[Area]) -> None:
        """Takes in the records of areas that have changed, by meter and effective date."""
        # The registry of another index begins anew.
        if self._enrolled is not self._registry.meters:
            self._enrolled = self._registry.meters
            self._versions = Versions(RECORD_COLUMNS)
            self._known = {}

        records: Histories = {}
        for area in areas:
            known = self._known.get(area.area)
            if known and known.area is area:
                continue
            meters = set(self._registry.members[area.area])
            gateway = -1
            if area.gateway:
                gateway = self._registry.meter_index.slot(area.area, area.gateway)
                meters.add(gateway)
            listed = sorted(meters)
            records |= {slot: [] for slot in (known.meters if known else listed)}
            records |= self._records_of(area)
            self._known[area.area] = _AreaRecords(area, listed, gateway)
        if records:
            self._versions.replace(records)

    def _records_of(self, area: Area) -> Histories:
        """The records of an area's meters by slot."""
        counts = Counter((meter.meter, meter.effective) for meter in area.meters)
        records: Histories = {}
        for meter in area.meters:
            duplicates = counts[meter.meter, meter.effective] - 1
            row = _record_row(meter, meter.meter == area.gateway, duplicates)
            slot = self._registry.meter_index.slot(area.area, meter.meter)
            records.setdefault(slot, []).append((meter.effective, row))
        return records


def _record_faults(
    records: dict[str, Column], in_force: Mask, end: Times, sizes: Codes
) -> dict[str, Column]:
    """The faults in the records of areas' meters at the end of their days."""
    users = in_force & (records["gateway"] != 1)
    lacks: dict[str, Column] = {}
    for name in EXPECTED_FIELDS:
        empty = np.isnan(records[name]) | (records[name] == 0)
        filled = whole_sums(users & ~empty, sizes)
        any_filled = np.repeat(filled > 0, sizes)
        lacks[name] = (users & empty & any_filled).astype(float)

    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(records["signed_kva"] - records["contract_kva"])
        signed_off = difference / records["contract_kva"]
    faults = {
        name: np.where(in_force, records[name], 0.0)
        for name in ("doubled", "bad_capacity", "bad_ratio", "bad_class")
    }
    return {
        "calibration_days": (end - records["calibration_due"]) / DAY_SECONDS,
        "contract_days": (records["contract_until"] - end) / DAY_SECONDS,
        "gaps": lacks["tariff"] + lacks["contract_until"] + lacks["signed_kva"],
        "signed_off": np.where(np.isfinite(signed_off), signed_off, -np.inf),
        "no_customer": lacks["customer"],
        **faults,
    }

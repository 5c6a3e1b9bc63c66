"""Master data by slot and effective date."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec.structs import replace

from models.cells import Array
from models.index import Index
from schemas.columns import Codes, Column, Times
from schemas.master import Area, Meter, Transformer

METER_COLUMNS = ("un", "ib", "imax", "ct", "ratio", "contract_kva", "suspended_kva", "pv_kva", "phases", "three_wire",
                 "residential", "is_gateway", "interval_s", "elements",
                 "effective", "register_span", "member_until")  # fmt: skip
AREA_COLUMNS = ("rating_kva", "dyn11")
ELEMENTS = {"1P2W": 1, "3P3W": 2, "3P4W": 3}
UNKNOWN = {"is_gateway": 0.0, "effective": -1.0}


def meter_row(m: Meter, gateway: bool) -> list[float]:
    """The METER_COLUMNS of one record."""
    contract = np.nan if m.contract_kva is None else m.contract_kva
    return [m.un_v, m.ib_a, m.imax_a, m.ct, m.ct * m.pt, contract, m.suspended_kva, m.pv_kva,
            1 if m.wiring == "1P2W" else 3, m.wiring == "3P3W", m.segment == "residential", gateway, m.interval_s,
            ELEMENTS[m.wiring], m.effective, 10.0**m.register_digits, m.until or np.inf]  # fmt: skip


def transformer_row(t: Transformer) -> list[float]:
    """The AREA_COLUMNS of one record."""
    return [t.rating_kva, t.vector_group == "Dyn11"]


class Versions:
    """Rows of numbers by slot, each from its effective time on."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.records: dict[int, list[tuple[int, list[float]]]] = {}
        self.keys: Times = np.zeros(0, np.int64)
        self.table: Array = np.array([[UNKNOWN.get(c, np.nan)] for c in columns])
        self.count = self.first = np.zeros(0, np.int64)

    def replace(self, records: dict[int, list[tuple[int, list[float]]]]) -> None:
        """Set the whole history of some slots."""
        self.records |= records
        flat = [(slot, max(when, 0), row) for slot, rows in sorted(self.records.items()) for when, row in sorted(rows)]
        self.keys = np.array([slot << 33 | when for slot, when, _ in flat], np.int64)
        unknown = [UNKNOWN.get(c, np.nan) for c in self.columns]
        self.table = np.array([unknown, *(row for _, _, row in flat)], float).T.copy()
        owners = np.array([slot for slot, _, _ in flat], np.int64)
        self.count = np.bincount(owners)
        self.first = np.searchsorted(owners, np.arange(len(self.count)))

    def rows(self, slots: Codes, at: Times) -> Codes:
        """The row of the table in force; 0 where nothing is known."""
        near = np.minimum(slots, len(self.count) - 1)
        if not len(self.keys):
            return np.zeros(len(slots), np.int64)
        count, row = np.where(near == slots, self.count[near], 0), self.first[near]
        key = slots.astype(np.int64) << 33 | at
        if (many := count > 1).any():
            row[many] = np.maximum(np.searchsorted(self.keys, key[many], side="right") - 1, row[many])
        row = np.minimum(row, len(self.keys) - 1)
        return np.where((count > 0) & (self.keys[row] <= key), row + 1, 0)

    def at(self, rows: Codes) -> dict[str, Column]:
        """The columns of some rows of the table."""
        return dict(zip(self.columns, self.table[:, rows], strict=True))


class Registry:
    """The areas that are enrolled, their transformers and meters."""

    def __init__(self, meters: Index, areas: Index) -> None:
        self.meter_index, self.area_index = meters, areas
        self.meters, self.transformers = Versions(METER_COLUMNS), Versions(AREA_COLUMNS)
        self.areas: dict[str, Area] = {}
        self.members: dict[str, list[int]] = {}  # meter slots by area

    def clear(self) -> None:
        """Forget every area."""
        self.meters, self.transformers = Versions(METER_COLUMNS), Versions(AREA_COLUMNS)
        self.areas, self.members = {}, {}

    def enroll(self, areas: Iterable[Area]) -> None:
        """Take areas in, each in place of what was known of it."""
        meters: dict[int, list[tuple[int, list[float]]]] = {}
        transformers: dict[int, list[tuple[int, list[float]]]] = {}
        for area in areas:
            for slot in self.members.get(area.area, []):
                meters[slot] = []
            self.areas[area.area] = area
            ours: dict[int, list[tuple[int, list[float]]]] = {}
            pv_kva = sum({m.meter: m.pv_kva for m in area.meters}.values())
            for m in area.meters:
                gateway = m.meter == area.gateway
                row = m.effective, meter_row(replace(m, pv_kva=pv_kva) if gateway else m, gateway)
                ours.setdefault(self.meter_index.slot(area.area, m.meter), []).append(row)
            self.members[area.area] = list(ours)
            meters |= ours
            slot = self.area_index.slot(area.area, "")
            transformers[slot] = [(t.effective, transformer_row(t)) for t in area.transformers]
        self.meters.replace(meters)
        self.transformers.replace(transformers)

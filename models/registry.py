"""Master data by slot and effective date."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from msgspec.structs import replace

from models.cells import Array
from models.index import Index
from models.runs import runs, sizes_of
from models.tariffs import in_force
from schemas.columns import (
    PHASE_NAMES,
    SEGMENT_NAMES,
    AreaDays,
    Batch,
    Clocks,
    Codes,
    Column,
    Days,
    Intervals,
    Readings,
    Times,
)
from schemas.master import Area, Meter, Segment, Stage, Tariff, Transformer, Wiring
from schemas.units import DAY_SECONDS

METER_COLUMNS = ("un", "ib", "imax", "ct", "ratio", "contract_kva", "suspended_kva", "pv_kva", "phases", "three_wire",
                 "residential", "is_gateway", "interval_s", "elements",
                 "effective", "register_span", "member_until", "own_kva", "declared_kw", "stopped",
                 "valley_from", "valley_until", "filed_phase", "segments")  # fmt: skip
AREA_COLUMNS = ("rating_kva", "segments")
WIRING_ELEMENTS = {"1P2W": 1, "3P3W": 2, "3P4W": 3}
WIRING_SEGMENTS = {"1P2W": "single_phase", "3P3W": "three_wire", "3P4W": "four_wire"}
VOLTAGE_SEGMENTS = (
    ("medium_voltage", 1, 30),
    ("high_voltage", 30, 100),
    ("highest_voltage", 100, np.inf),
)  # kV
DEFAULT_STAGES = [
    Stage(stage=stage, hours=hours)
    for stage, hours in (
        ("reading", 24),
        ("checking", 24),
        ("review", 24),
        ("issue", 120),
        ("collection", 480),
    )
]
NEW_CUSTOMER_DAYS = 30  # days for which alerts tell that a customer is new
UNKNOWN_RECORD = {"is_gateway": 0.0, "effective": -1.0, "segments": 0.0, "users": 0.0}


def segments_code(*segments: str) -> int:
    """A bit for each segment, in their order."""
    return sum(1 << SEGMENT_NAMES.index(segment) for segment in segments)


@lru_cache(maxsize=1024)
def _segments_of(
    segment: Segment, wiring: Wiring, un_v: float, pt: float, pv: bool
) -> int:
    """A bit for each segment of a meter, the supply's nominal voltage between lines included; none at low voltage."""
    kv = un_v * pt / 1000 * (1 if wiring == "3P3W" else math.sqrt(3))
    voltages = [name for name, above, most in VOLTAGE_SEGMENTS if above < kv <= most]
    return segments_code(segment, WIRING_SEGMENTS[wiring], *["pv"] * pv, *voltages)


def _meter_row(m: Meter, gateway: bool) -> list[float]:
    """The METER_COLUMNS of one record."""
    contract = np.nan if m.contract_kva is None else m.contract_kva
    return [
        m.un_v,
        m.ib_a,
        m.imax_a,
        m.ct,
        m.ct * m.pt,
        contract,
        m.suspended_kva,
        m.pv_kva,
        1 if m.wiring == "1P2W" else 3,
        m.wiring == "3P3W",
        m.segment == "residential",
        gateway,
        m.interval_s,
        WIRING_ELEMENTS[m.wiring],
        m.effective,
        10.0**m.register_digits,
        m.until or np.inf,
        m.own_transformer_kva or np.nan,
        m.declared_kw or np.nan,
        m.stopped or np.inf,
        m.valley_from,
        m.valley_until,
        PHASE_NAMES.index(m.phase) if m.phase and m.wiring == "1P2W" else np.nan,
        _segments_of(m.segment, m.wiring, m.un_v, m.pt, m.pv_kva > 0),
    ]


def _transformer_row(t: Transformer) -> list[float]:
    """The AREA_COLUMNS of one record."""
    return [t.rating_kva, segments_code(t.vector_group.lower())]


class Versions:
    """Rows of numbers by slot, each from its effective time on."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self.keys: Times = np.zeros(0, np.int64)  # slot and effective time
        self._table: Array = np.array(
            [[UNKNOWN_RECORD.get(c, np.nan)] for c in columns]
        )  # of every key, after the unknown
        self.newest = np.zeros(
            0, np.int64
        )  # by slot: its last row of the table, 0 when nothing is known
        self._latest = 0  # from when on every slot's newest row is in force
        self._last_lookup: tuple[Codes, dict[str, Column]] = (
            np.full(1, -1),
            {},
        )  # the last rows asked for, and what was told

    def replace(self, records: dict[int, list[tuple[int, list[float]]]]) -> None:
        """Set the whole history of some slots."""
        slots = np.array(list(records), np.int64)
        kept = ~np.isin(self.keys >> 33, slots)
        told = sorted(
            (slot << 33 | max(when, 0), row)
            for slot, rows in records.items()
            for when, row in rows
        )
        keys = np.concatenate(
            [self.keys[kept], np.array([key for key, _ in told], np.int64)]
        )
        rows = (
            np.array([row for _, row in told], float)
            .reshape(len(told), len(self._columns))
            .T
        )
        order = np.argsort(keys, kind="stable")
        known = np.concatenate([self._table[:, 1:][:, kept], rows], axis=1)[:, order]
        self.fill(keys[order], known, int(slots.max(initial=-1)) + 1)

    def fill(self, keys: Times, rows: Array, slots: int = 0) -> None:
        """Set the whole history of all slots, of which there are so many at least."""
        self.keys = keys
        self._table = np.ascontiguousarray(
            np.concatenate([self._table[:, :1], rows], axis=1)
        )  # else take copies it
        self._latest = int((self.keys & (1 << 33) - 1).max(initial=0))
        self.newest = np.zeros(
            max(slots, len(self.newest), int(keys[-1] >> 33) + 1 if len(keys) else 0),
            np.int64,
        )
        self.newest[self.keys >> 33] = np.arange(1, len(keys) + 1)
        self._last_lookup = np.full(1, -1), {}

    def rows_in_force(self, slots: Codes, at: Times) -> Codes:
        """The row of the table in force; 0 where nothing is known."""
        if (more := int(slots.max(initial=-1)) + 1 - len(self.newest)) > 0:
            self.newest = np.concatenate([self.newest, np.zeros(more, np.int64)])
        row = self.newest[slots]
        if int(at.min(initial=self._latest)) < self._latest:
            before = np.searchsorted(
                self.keys, slots.astype(np.int64) << 33 | at, side="right"
            )
            known = (before > 0) & (row > 0)
            row = np.where(
                known & (self.keys[np.maximum(before, 1) - 1] >> 33 == slots), before, 0
            )
        return row

    def column(self, name: str, rows: Codes) -> Column:
        """One column of some rows of the table."""
        column: Column = self._table[self._columns.index(name)][rows]
        return column

    def columns_of(self, rows: Codes) -> dict[str, Column]:
        """The columns of some rows of the table, not to be written to."""
        before, told = self._last_lookup
        if not np.array_equal(rows, before):
            picked = np.take(self._table, rows, axis=1)
            picked.flags.writeable = False
            told = dict(zip(self._columns, picked, strict=True))
            self._last_lookup = rows, told
        return dict(told)


def _newcomers(area: Area) -> dict[str, int]:
    """Since when each meter measures a customer who came when half of the area's meters stood, and at no other meter.

    >>> records = [("M1", "C1", 0), ("M2", "C2", 0), ("M3", "C2", 9), ("M4", "C4", 9), ("M4", "C4", 11)]
    >>> _newcomers(Area(area="A1", meters=[Meter(meter=m, customer=c, effective=at) for m, c, at in records]))
    {'M4': 9}
    """
    ordered = sorted(area.meters, key=lambda m: m.effective)
    meters = {
        m.meter: m for m in reversed(ordered) if m.customer and m.meter != area.gateway
    }
    customers = {m.customer: m.effective for m in reversed(ordered)}
    begun = sorted({m.meter: m.effective for m in reversed(ordered)}.values())
    return {
        meter: m.effective
        for meter, m in meters.items()
        if begun[(len(begun) - 1) // 2] < m.effective == customers[m.customer]
    }


class Registry:
    """The areas that are enrolled, their transformers and meters."""

    def __init__(self, meters: Index, areas: Index) -> None:
        self.meter_index, self.area_index = meters, areas
        self.meters, self._transformers = (
            Versions(METER_COLUMNS),
            Versions(AREA_COLUMNS),
        )
        self.areas: dict[str, Area] = {}
        self.members: dict[str, list[int]] = {}  # meter slots by area
        self._connected: Column = np.zeros(
            0
        )  # by meter slot: since when its customer is new to the area, else NaN
        self._accounts: dict[
            str, dict[str, list[Meter]]
        ] = {}  # by area and customer, where they were asked for
        self._area_of = np.zeros(
            0, np.int64
        )  # by meter slot, of those that were ever enrolled
        self.sizes = np.zeros(0, np.int64)  # by area slot: how many meters it has
        self._user_counts: Versions | None = (
            None  # how many users an area has, where it was asked for
        )

    def enroll(self, areas: Iterable[Area]) -> None:
        """Take areas in, each in place of what was known of it."""
        areas = list(areas)
        meters: dict[int, list[tuple[int, list[float]]]] = {}
        transformers: dict[int, list[tuple[int, list[float]]]] = {}
        owners: dict[int, int] = {}
        for area in areas:
            for slot in self.members.get(area.area, []):
                meters[slot] = []
            self.areas[area.area] = area
            self._accounts.pop(area.area, None)
            ours: dict[int, list[tuple[int, list[float]]]] = {}
            pv_kva = sum({m.meter: m.pv_kva for m in area.meters}.values())
            for m in area.meters:
                gateway = m.meter == area.gateway
                row = (
                    m.effective,
                    _meter_row(replace(m, pv_kva=pv_kva) if gateway else m, gateway),
                )
                ours.setdefault(self.meter_index.slot(area.area, m.meter), []).append(
                    row
                )
            self.members[area.area] = list(ours)
            meters |= ours
            slot = self.area_index.slot(area.area, "")
            owners |= dict.fromkeys(ours, slot)
            transformers[slot] = [
                (t.effective, _transformer_row(t)) for t in area.transformers
            ]
        self.meters.replace(meters)
        self._transformers.replace(transformers)
        more = len(self.meter_index) - len(self._connected)
        self._connected = np.concatenate([self._connected, np.full(more, np.nan)])
        self._area_of = np.concatenate(
            [self._area_of, np.full(len(self.meter_index) - len(self._area_of), -1)]
        )
        self.sizes = np.concatenate(
            [self.sizes, np.zeros(len(self.area_index) - len(self.sizes), np.int64)]
        )
        self._area_of[list(owners)] = list(owners.values())
        self.sizes[list(transformers)] = [
            len(self.members[self.area_index.pairs[slot][0]]) for slot in transformers
        ]
        self._user_counts = None
        self._connected[list(meters)] = np.nan
        for area in areas:
            for meter, since in _newcomers(area).items():
                self._connected[self.meter_index.slot(area.area, meter)] = since

    def section(self, area: str) -> str:
        """The section that looks after an area; the area itself when it is not enrolled."""
        known = self.areas.get(area)
        return known.section if known else area

    def enrich(self, slots: Codes, batch: Batch) -> dict[str, Column]:
        """Master data columns for rows by slot, as of their event time."""
        if isinstance(batch, (Readings, Days, Clocks)):
            return self.meters.columns_of(
                self.meters.rows_in_force(slots, batch.at - 1)
            )
        if isinstance(batch, (Intervals, AreaDays)):
            return self._transformers.columns_of(
                self._transformers.rows_in_force(slots, batch.at - 1)
            )
        return {}

    def installed(self, meter: int, at: int) -> dict[str, float]:
        """For how many days a new customer has been connected, in the first month."""
        days = float(self.connected_days(np.array([meter]), np.array([at]))[0])
        return (
            {"installed_days": round(days, 2)} if 0 <= days <= NEW_CUSTOMER_DAYS else {}
        )

    def connected_days(self, meters: Codes, at: Times) -> Column:
        """Days for which some meters' customers have been connected; NaN where they are none of its newcomers."""
        since = (
            self._connected[np.minimum(meters, len(self._connected) - 1)]
            if len(self._connected)
            else np.nan
        )
        return np.where(
            meters < len(self._connected), (at - since) / DAY_SECONDS, np.nan
        )

    def account(
        self, area: str, customer: str, at: int
    ) -> tuple[Meter | None, Tariff | None]:
        """The record of a customer's meter in force at a time, and its tariff; the first of several meters."""
        if (known := self.areas.get(area)) is None:
            return None, None
        if area not in self._accounts:
            records: dict[str, list[Meter]] = {}
            for m in sorted(known.meters, key=lambda m: -m.effective):
                records.setdefault(m.customer, []).append(m)
            self._accounts[area] = records
        mine = (
            m
            for m in self._accounts[area].get(customer, [])
            if m.effective <= at and not 0 < m.until < at
        )
        meter = next(mine, None)
        return meter, in_force(known.tariffs, meter.tariff, at) if meter else None

    def stages(self, section: str, at: int) -> list[Stage]:
        """The stages of a section's work at a time, in their order; the project's own where it has none."""
        known = self.areas.get(section)
        if known is None or not known.stages:
            return DEFAULT_STAGES
        in_force: dict[str, Stage] = {}
        for stage in sorted(known.stages, key=lambda stage: stage.effective):
            if stage.effective <= at:
                in_force[stage.stage] = stage
        names = dict.fromkeys(stage.stage for stage in known.stages)
        return [in_force[name] for name in names if name in in_force]

    def size(self, areas: Codes) -> Codes:
        """How many meters some areas have by the master data."""
        known = areas < len(self.sizes)
        if known.all():
            return self.sizes[areas]
        sizes = np.zeros(len(areas), np.int64)
        sizes[known] = self.sizes[areas[known]]
        return sizes

    def users(self, areas: Codes, at: Times) -> Codes:
        """How many enrolled meters besides the gateway are in force in the intervals that end at some times."""
        if self._user_counts is None:
            self._user_counts = self._counted_users()
        return self._user_counts.column(
            "users", self._user_counts.rows_in_force(areas, at)
        ).astype(np.int64)

    def _counted_users(self) -> Versions:
        """How many users each area has, and from when on."""
        keys, held = (
            self.meters.keys,
            self.meters.columns_of(1 + np.arange(len(self.meters.keys))),
        )
        meters, since = keys >> 33, (keys & (1 << 33) - 1) + 1
        replaced = np.where(
            np.append(meters[1:], -1) == meters, np.append(since[1:], 0), np.inf
        )[: len(keys)]
        until = np.minimum(replaced, held["member_until"] + 1)
        users, areas = (
            (held["is_gateway"] == 0) & (until > since),
            self._area_of[meters] << 33,
        )
        leaving = users & np.isfinite(until)
        come, gone = (
            areas[users] | since[users],
            areas[leaving] | until[leaving].astype(np.int64),
        )

        marks = np.concatenate([come, gone])
        order = np.argsort(marks, kind="stable")
        marks, so_far = (
            marks[order],
            np.cumsum(np.repeat([1, -1], [len(come), len(gone)])[order]),
        )
        ends = np.flatnonzero(np.append(marks[1:], -1) != marks)
        marks, so_far = marks[ends], so_far[ends]
        begins = runs(marks >> 33)
        before = np.repeat(np.append(0, so_far)[begins], sizes_of(begins, len(marks)))
        crowds = Versions(("users",))
        crowds.fill(marks, (so_far - before)[None].astype(float))
        return crowds

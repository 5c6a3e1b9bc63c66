"""Master data by slot and effective date."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from msgspec.structs import replace

from models.master.tariffs import in_force
from models.state.cells import Array
from models.state.index import Index
from models.state.runs import runs, sizes_of
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
VOLTAGE_SEGMENTS = (  # kV: above, and at most
    ("medium_voltage", 1, 30),
    ("high_voltage", 30, 100),
    ("highest_voltage", 100, np.inf),
)
DEFAULT_STAGES = [
    Stage(stage="reading", hours=24),
    Stage(stage="checking", hours=24),
    Stage(stage="review", hours=24),
    Stage(stage="issue", hours=120),
    Stage(stage="collection", hours=480),
]
NEW_CUSTOMER_DAYS = 30  # days for which alerts name a customer as new
UNKNOWN_RECORD = {"is_gateway": 0.0, "effective": -1.0, "segments": 0.0, "users": 0.0}


def segments_code(*segments: str) -> int:
    """A bit for each segment, in their order."""
    return sum(1 << SEGMENT_NAMES.index(segment) for segment in segments)


@lru_cache(maxsize=1024)
def _segments_of(
    segment: Segment, wiring: Wiring, un_v: float, pt: float, pv: bool
) -> int:
    """A bit for each segment of a meter, with that of the supply's line voltage above 1 kV."""
    kv = un_v * pt / 1000 * (1 if wiring == "3P3W" else math.sqrt(3))
    voltages = [name for name, above, most in VOLTAGE_SEGMENTS if above < kv <= most]
    return segments_code(segment, WIRING_SEGMENTS[wiring], *["pv"] * pv, *voltages)


def _meter_row(meter: Meter, gateway: bool) -> list[float]:
    """The METER_COLUMNS of one record."""
    contract = np.nan if meter.contract_kva is None else meter.contract_kva
    single_phase = meter.wiring == "1P2W"
    filed_phase = np.nan
    if meter.phase and single_phase:
        filed_phase = PHASE_NAMES.index(meter.phase)
    segments = _segments_of(
        meter.segment, meter.wiring, meter.un_v, meter.pt, meter.pv_kva > 0
    )

    return [
        meter.un_v,
        meter.ib_a,
        meter.imax_a,
        meter.ct,
        meter.ct * meter.pt,
        contract,
        meter.suspended_kva,
        meter.pv_kva,
        1 if single_phase else 3,
        meter.wiring == "3P3W",
        meter.segment == "residential",
        gateway,
        meter.interval_s,
        WIRING_ELEMENTS[meter.wiring],
        meter.effective,
        10.0**meter.register_digits,
        meter.until or np.inf,
        meter.own_transformer_kva or np.nan,
        meter.declared_kw or np.nan,
        meter.stopped or np.inf,
        meter.valley_from,
        meter.valley_until,
        filed_phase,
        segments,
    ]


def _transformer_row(transformer: Transformer) -> list[float]:
    """The AREA_COLUMNS of one record."""
    return [transformer.rating_kva, segments_code(transformer.vector_group.lower())]


class Versions:
    """Rows of numbers by slot, each from its effective time on."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self.keys: Times = np.zeros(0, np.int64)  # slot and effective time
        # The unknown record, then the record of every key.
        self._table: Array = np.array(
            [[UNKNOWN_RECORD.get(name, np.nan)] for name in columns]
        )
        # By slot its last row of the table, 0 if nothing is known.
        self.newest = np.zeros(0, np.int64)
        self._latest = 0  # from when on every slot's newest row is in force
        # The rows of the last look-up, and their columns.
        self._last_lookup: tuple[Codes, dict[str, Column]] = (np.full(1, -1), {})

    def replace(self, records: dict[int, list[tuple[int, list[float]]]]) -> None:
        """Sets the whole history of some slots."""
        slots = np.array(list(records), np.int64)
        kept = ~np.isin(self.keys >> 33, slots)
        new = sorted(
            (slot << 33 | max(when, 0), row)
            for slot, rows in records.items()
            for when, row in rows
        )
        new_keys = np.array([key for key, _ in new], np.int64)
        new_rows = np.array([row for _, row in new], float)
        new_rows = new_rows.reshape(len(new), len(self._columns)).T

        keys = np.concatenate([self.keys[kept], new_keys])
        rows = np.concatenate([self._table[:, 1:][:, kept], new_rows], axis=1)
        order = np.argsort(keys, kind="stable")
        self.fill(keys[order], rows[:, order], int(slots.max(initial=-1)) + 1)

    def fill(self, keys: Times, rows: Array, slots: int = 0) -> None:
        """Sets the whole history of all slots, at least so many."""
        self.keys = keys
        table = np.concatenate([self._table[:, :1], rows], axis=1)
        self._table = np.ascontiguousarray(table)  # else take copies it
        self._latest = int((self.keys & (1 << 33) - 1).max(initial=0))
        slots_of_keys = int(keys[-1] >> 33) + 1 if len(keys) else 0
        count = max(slots, len(self.newest), slots_of_keys)
        self.newest = np.zeros(count, np.int64)
        self.newest[self.keys >> 33] = np.arange(1, len(keys) + 1)
        self._last_lookup = np.full(1, -1), {}

    def rows_in_force(self, slots: Codes, at: Times) -> Codes:
        """The row of the table in force; 0 if nothing is known."""
        if (more := int(slots.max(initial=-1)) + 1 - len(self.newest)) > 0:
            self.newest = np.concatenate([self.newest, np.zeros(more, np.int64)])
        row = self.newest[slots]
        if int(at.min(initial=self._latest)) < self._latest:
            wanted = slots.astype(np.int64) << 33 | at
            before = np.searchsorted(self.keys, wanted, side="right")
            known = (before > 0) & (row > 0)
            same_slot = self.keys[np.maximum(before, 1) - 1] >> 33 == slots
            row = np.where(known & same_slot, before, 0)
        return row

    def column(self, name: str, rows: Codes) -> Column:
        """One column of some rows of the table."""
        column: Column = self._table[self._columns.index(name)][rows]
        return column

    def columns_of(self, rows: Codes) -> dict[str, Column]:
        """The columns of some rows of the table, not to be written to."""
        last_rows, columns = self._last_lookup
        if not np.array_equal(rows, last_rows):
            picked = np.take(self._table, rows, axis=1)
            picked.flags.writeable = False
            columns = dict(zip(self._columns, picked, strict=True))
            self._last_lookup = rows, columns
        return dict(columns)


def _newcomers(area: Area) -> dict[str, int]:
    """Since when a meter has a customer who came after half of the meters and had none before.

    >>> records = [("M1", "C1", 0), ("M2", "C2", 0), ("M3", "C2", 9), ("M4", "C4", 9), ("M4", "C4", 11)]
    >>> _newcomers(Area(area="A1", meters=[Meter(meter=m, customer=c, effective=at) for m, c, at in records]))
    {'M4': 9}
    """
    latest_first = sorted(area.meters, key=lambda meter: meter.effective)[::-1]
    # Of several records of a meter or customer, the first counts.
    meters = {
        meter.meter: meter
        for meter in latest_first
        if meter.customer and meter.meter != area.gateway
    }
    customers = {meter.customer: meter.effective for meter in latest_first}
    begun = sorted({meter.meter: meter.effective for meter in latest_first}.values())
    return {
        name: meter.effective
        for name, meter in meters.items()
        if begun[(len(begun) - 1) // 2] < meter.effective == customers[meter.customer]
    }


class Registry:
    """The areas that are enrolled, their transformers and meters."""

    def __init__(self, meters: Index, areas: Index) -> None:
        self.meter_index, self.area_index = meters, areas
        self.meters = Versions(METER_COLUMNS)
        self._transformers = Versions(AREA_COLUMNS)
        self.areas: dict[str, Area] = {}
        self.members: dict[str, list[int]] = {}  # meter slots by area
        self.sizes = np.zeros(0, np.int64)  # by area slot: how many meters it has

        # By meter slot: since when its customer is new to the area, else NaN.
        self._connected: Column = np.zeros(0)
        # By area and customer, of areas that were asked for.
        self._accounts: dict[str, dict[str, list[Meter]]] = {}
        # The area of each meter slot that was ever enrolled.
        self._area_of = np.zeros(0, np.int64)
        # The users of each area, once they were asked for.
        self._user_counts: Versions | None = None

    def enroll(self, areas: Iterable[Area]) -> None:
        """Takes areas in; each replaces what was known of it."""
        areas = list(areas)
        meters: dict[int, list[tuple[int, list[float]]]] = {}
        transformers: dict[int, list[tuple[int, list[float]]]] = {}
        owners: dict[int, int] = {}
        for area in areas:
            for slot in self.members.get(area.area, []):
                meters[slot] = []
            self.areas[area.area] = area
            self._accounts.pop(area.area, None)
            records = self._meter_records(area)
            self.members[area.area] = list(records)
            meters |= records

            slot = self.area_index.slot(area.area, "")
            owners |= dict.fromkeys(records, slot)
            transformers[slot] = [
                (transformer.effective, _transformer_row(transformer))
                for transformer in area.transformers
            ]
        self.meters.replace(meters)
        self._transformers.replace(transformers)
        self._reserve()
        self._area_of[list(owners)] = list(owners.values())
        self.sizes[list(transformers)] = [
            len(self.members[self.area_index.pairs[slot][0]]) for slot in transformers
        ]
        self._user_counts = None
        self._connected[list(meters)] = np.nan
        for area in areas:
            for name, since in _newcomers(area).items():
                self._connected[self.meter_index.slot(area.area, name)] = since

    def _meter_records(self, area: Area) -> dict[int, list[tuple[int, list[float]]]]:
        """The records of an area's meters by slot; the gateway has the generation of all."""
        records: dict[int, list[tuple[int, list[float]]]] = {}
        pv_kva = sum({meter.meter: meter.pv_kva for meter in area.meters}.values())
        for meter in area.meters:
            gateway = meter.meter == area.gateway
            record = replace(meter, pv_kva=pv_kva) if gateway else meter
            slot = self.meter_index.slot(area.area, meter.meter)
            row = _meter_row(record, gateway)
            records.setdefault(slot, []).append((meter.effective, row))
        return records

    def _reserve(self) -> None:
        """Makes room for all slots of meters and areas."""
        more_meters = len(self.meter_index) - len(self._connected)
        fresh = np.full(more_meters, np.nan)
        self._connected = np.concatenate([self._connected, fresh])
        more_meters = len(self.meter_index) - len(self._area_of)
        self._area_of = np.concatenate([self._area_of, np.full(more_meters, -1)])
        more_areas = len(self.area_index) - len(self.sizes)
        self.sizes = np.concatenate([self.sizes, np.zeros(more_areas, np.int64)])

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
        """The days that a new customer has been connected, in the first month."""
        days = float(self.connected_days(np.array([meter]), np.array([at]))[0])
        if 0 <= days <= NEW_CUSTOMER_DAYS:
            return {"installed_days": round(days, 2)}
        return {}

    def connected_days(self, meters: Codes, at: Times) -> Column:
        """The days that meters' customers have been connected; NaN if they are not newcomers."""
        count = len(self._connected)
        since: Any = np.nan
        if count:
            since = self._connected[np.minimum(meters, count - 1)]
        return np.where(meters < count, (at - since) / DAY_SECONDS, np.nan)

    def account(
        self, area: str, customer: str, at: int
    ) -> tuple[Meter | None, Tariff | None]:
        """The record of a customer's first meter in force at a time, and its tariff."""
        if (known := self.areas.get(area)) is None:
            return None, None
        if area not in self._accounts:
            records: dict[str, list[Meter]] = {}
            for record in sorted(known.meters, key=lambda meter: -meter.effective):
                records.setdefault(record.customer, []).append(record)
            self._accounts[area] = records

        in_force_then = (
            record
            for record in self._accounts[area].get(customer, [])
            if record.effective <= at and not 0 < record.until < at
        )
        meter = next(in_force_then, None)
        return meter, in_force(known.tariffs, meter.tariff, at) if meter else None

    def stages(self, section: str, at: int) -> list[Stage]:
        """The stages of a section's work at a time, in order; DEFAULT_STAGES if it has none."""
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
        """The number of meters of areas by the master data."""
        known = areas < len(self.sizes)
        if known.all():
            return self.sizes[areas]
        sizes = np.zeros(len(areas), np.int64)
        sizes[known] = self.sizes[areas[known]]
        return sizes

    def users(self, areas: Codes, at: Times) -> Codes:
        """The number of enrolled meters besides gateways in force in the intervals that end `at`."""
        if self._user_counts is None:
            self._user_counts = self._counted_users()
        rows = self._user_counts.rows_in_force(areas, at)
        return self._user_counts.column("users", rows).astype(np.int64)

    def _counted_users(self) -> Versions:
        """The number of users of each area from each time on."""
        keys = self.meters.keys
        records = self.meters.columns_of(1 + np.arange(len(keys)))
        meters, since = keys >> 33, (keys & (1 << 33) - 1) + 1

        # A record ends with the next one of its meter, or with the membership.
        next_since = np.append(since[1:], 0)
        same_meter = np.append(meters[1:], -1) == meters
        replaced = np.where(same_meter, next_since, np.inf)[: len(keys)]
        until = np.minimum(replaced, records["member_until"] + 1)
        users = (records["is_gateway"] == 0) & (until > since)
        areas = self._area_of[meters] << 33
        leaving = users & np.isfinite(until)
        return _running_counts(
            areas[users] | since[users],
            areas[leaving] | until[leaving].astype(np.int64),
        )


def _running_counts(arrivals: Times, departures: Times) -> Versions:
    """The number of users that are there, from areas and times at which they come and leave."""
    times = np.concatenate([arrivals, departures])
    changes = np.repeat([1, -1], [len(arrivals), len(departures)])
    order = np.argsort(times, kind="stable")
    times, so_far = times[order], np.cumsum(changes[order])

    # Of several changes at one time, the last counts; each area begins at 0.
    ends = np.flatnonzero(np.append(times[1:], -1) != times)
    times, so_far = times[ends], so_far[ends]
    begins = runs(times >> 33)
    before = np.repeat(np.append(0, so_far)[begins], sizes_of(begins, len(times)))
    counts = Versions(("users",))
    counts.fill(times, (so_far - before)[None].astype(float))
    return counts

"""The areas that are enrolled: their meters, transformers, customers and stages of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from statistics import median_low

import numpy as np
from msgspec.structs import replace

from models.master.records import (
    AREA_COLUMNS,
    METER_COLUMNS,
    meter_row,
    transformer_row,
)
from models.master.tariffs import in_force
from models.master.versions import (
    Histories,
    Versions,
    extended,
    keys_of,
    slots_of,
    times_of,
)
from models.state.index import Index
from models.state.runs import runs, sizes_of
from schemas.columns import (
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
from schemas.master import Area, Meter, Stage, Tariff
from schemas.units import DAY_SECONDS

DEFAULT_STAGES = [
    Stage(stage="reading", hours=24),
    Stage(stage="checking", hours=24),
    Stage(stage="review", hours=24),
    Stage(stage="issue", hours=120),
    Stage(stage="collection", hours=480),
]
NEW_CUSTOMER_DAYS = 30  # days for which alerts name a customer as new


def _newcomers(area: Area) -> dict[str, int]:
    """Since when a meter has a customer who came after half of the meters and had none before.

    >>> records = [("M1", "C1", 0), ("M2", "C2", 0), ("M3", "C2", 9), ("M4", "C4", 9), ("M4", "C4", 11)]
    >>> _newcomers(Area(area="A1", meters=[Meter(meter=m, customer=c, effective=at) for m, c, at in records]))
    {'M4': 9}
    """
    latest_first = sorted(area.meters, key=attrgetter("effective"))
    latest_first.reverse()
    # Of several records of a meter or customer, the first counts.
    meters = {
        meter.meter: meter
        for meter in latest_first
        if meter.customer and meter.meter != area.gateway
    }
    customers = {meter.customer: meter.effective for meter in latest_first}
    begun = {meter.meter: meter.effective for meter in latest_first}
    median = median_low(begun.values()) if begun else 0
    return {
        name: meter.effective
        for name, meter in meters.items()
        if median < meter.effective == customers[meter.customer]
    }


class Registry:
    """The areas that are enrolled, their transformers and meters."""

    def __init__(self, meters: Index, areas: Index) -> None:
        self.meter_index = meters
        self.area_index = areas
        self.meters = Versions(METER_COLUMNS)
        self._transformers = Versions(AREA_COLUMNS)
        self.areas: dict[str, Area] = {}
        self.members: dict[str, list[int]] = {}  # meter slots by area
        self.sizes = np.zeros(0, np.int64)  # by area slot: how many meters it has

        # By section: how many areas and meters it has.
        self.section_areas: Counter[str] = Counter()
        self.section_meters: Counter[str] = Counter()

        # By meter slot: since when its customer is new to the area, else NaN.
        self._connected: Column = np.zeros(0)
        # By area and customer, of areas that were asked for.
        self._accounts: dict[str, dict[str, list[Meter]]] = {}
        # The area of each meter slot that was ever enrolled.
        self._area_of = np.zeros(0, np.int64)
        # The users of each area, once they were asked for.
        self._user_counts: Versions | None = None

    def enroll(self, areas: Iterable[Area]) -> dict[str, Codes]:
        """Takes areas in; each replaces what was known of it. Returns the meters that left, by area."""
        areas = list(areas)
        before = {area.area: self.members.get(area.area, ()) for area in areas}
        meters: Histories = {}
        transformers: Histories = {}
        owners: dict[int, int] = {}
        for area in areas:
            left = self.members.get(area.area, [])
            meters |= {slot: [] for slot in left}
            records = self._meter_records(area)
            meters |= records
            if known := self.areas.get(area.area):
                self._count_section(known.section, -1, -len(left))
            self._count_section(area.section, 1, len(records))
            self.areas[area.area] = area
            self.members[area.area] = list(records)
            self._accounts.pop(area.area, None)

            slot = self.area_index.slot(area.area, "")
            owners |= dict.fromkeys(records, slot)
            transformers[slot] = [
                (transformer.effective, transformer_row(transformer))
                for transformer in area.transformers
            ]

        self.meters.replace(meters)
        self._transformers.replace(transformers)
        self._reserve()
        self._user_counts = None
        self._area_of[list(owners)] = list(owners.values())
        for slot in transformers:
            name, _ = self.area_index.pairs[slot]
            self.sizes[slot] = len(self.members[name])

        self._connected[list(meters)] = np.nan
        for area in areas:
            for name, since in _newcomers(area).items():
                self._connected[self.meter_index.slot(area.area, name)] = since

        departed = {
            name: np.array(sorted(set(meters).difference(self.members[name])))
            for name, meters in before.items()
        }
        return {name: meters for name, meters in departed.items() if len(meters)}

    def _count_section(self, section: str, areas: int, meters: int) -> None:
        """Adds to the areas and meters of a section."""
        self.section_areas[section] += areas
        self.section_meters[section] += meters

    def _meter_records(self, area: Area) -> Histories:
        """The records of an area's meters by slot; the gateway has the generation of all."""
        records: Histories = {}
        generation = {meter.meter: meter.pv_kva for meter in area.meters}
        pv_kva = sum(generation.values())
        for meter in area.meters:
            gateway = meter.meter == area.gateway
            record = replace(meter, pv_kva=pv_kva) if gateway else meter
            slot = self.meter_index.slot(area.area, meter.meter)
            row = meter_row(record, gateway)
            records.setdefault(slot, []).append((meter.effective, row))
        return records

    def _reserve(self) -> None:
        """Makes room for all slots of meters and areas."""
        meters = len(self.meter_index)
        areas = len(self.area_index)
        self._connected = extended(self._connected, meters, np.nan)
        self._area_of = extended(self._area_of, meters, -1)
        self.sizes = extended(self.sizes, areas, 0)

    def section(self, area: str) -> str:
        """The section that looks after an area; the area itself when it is not enrolled."""
        known = self.areas.get(area)
        return known.section if known else area

    def enrich(self, slots: Codes, batch: Batch) -> dict[str, Column]:
        """Master data columns for rows by slot, as of their event time."""
        if isinstance(batch, (Readings, Days, Clocks)):
            versions = self.meters
        elif isinstance(batch, (Intervals, AreaDays)):
            versions = self._transformers
        else:
            return {}
        rows = versions.rows_in_force(slots, batch.at - 1)
        return versions.columns_of(rows)

    def installed(self, meter: int, at: int) -> dict[str, float]:
        """The days that a new customer has been connected, in the first month."""
        connected = self.connected_days(np.array([meter]), np.array([at]))
        days = float(connected[0])
        if 0 <= days <= NEW_CUSTOMER_DAYS:
            return {"installed_days": round(days, 2)}
        return {}

    def connected_days(self, meters: Codes, at: Times) -> Column:
        """The days that meters' customers have been connected; NaN if they are not newcomers."""
        days = np.full(len(meters), np.nan)
        known = np.flatnonzero(meters < len(self._connected))
        since = self._connected[meters[known]]
        days[known] = (at[known] - since) / DAY_SECONDS
        return days

    def account(
        self, area: str, customer: str, at: int
    ) -> tuple[Meter | None, Tariff | None]:
        """The record of a customer's first meter in force at a time, and its tariff."""
        if (known := self.areas.get(area)) is None:
            return None, None
        if area not in self._accounts:
            self._accounts[area] = _records_by_customer(known)

        in_force_then = (
            record
            for record in self._accounts[area].get(customer, [])
            if record.effective <= at and not 0 < record.until < at
        )
        meter = next(in_force_then, None)
        if meter is None:
            return None, None
        return meter, in_force(known.tariffs, meter.tariff, at)

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
        meters = slots_of(keys)
        since = times_of(keys) + 1
        every_row = 1 + np.arange(len(keys))
        records = self.meters.columns_of(every_row)

        # A record ends with the next one of its meter, or with the membership.
        until = records["member_until"] + 1
        followed = np.flatnonzero(meters[1:] == meters[:-1])
        next_since = since[followed + 1]
        until[followed] = np.minimum(until[followed], next_since)

        users = (records["is_gateway"] == 0) & (until > since)
        leaving = users & np.isfinite(until)
        areas = self._area_of[meters]
        arrivals = keys_of(areas[users], since[users])
        left_at = until[leaving].astype(np.int64)
        departures = keys_of(areas[leaving], left_at)
        return _running_counts(arrivals, departures)


def _records_by_customer(area: Area) -> dict[str, list[Meter]]:
    """The records of an area's meters by their customer, the latest first."""
    records: dict[str, list[Meter]] = {}
    for record in sorted(area.meters, key=lambda meter: -meter.effective):
        records.setdefault(record.customer, []).append(record)
    return records


def _running_counts(arrivals: Times, departures: Times) -> Versions:
    """The number of users that are there, from keys of areas and times: they come and leave."""
    keys = np.concatenate([arrivals, departures])
    changes = np.ones(len(keys), np.int64)
    changes[len(arrivals) :] = -1
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    so_far = np.cumsum(changes[order])

    # Of several changes at one time, the last counts.
    following = np.append(keys[1:], -1)
    ends = np.flatnonzero(following != keys)
    keys = keys[ends]
    so_far = so_far[ends]

    # Each area begins at 0.
    begins = runs(slots_of(keys))
    sizes = sizes_of(begins, len(keys))
    counts_before = np.append(0, so_far)[begins]
    users = so_far - np.repeat(counts_before, sizes)

    counts = Versions(("users",))
    counts.fill(keys, users[None].astype(float))
    return counts

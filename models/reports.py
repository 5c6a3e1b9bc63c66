"""What meters report is kept for a while, and judged anew each time something is learned of it.

So the order in which it is told does not matter. Rows older than a month are final; what was told of a meter is
forgotten forty days after it has become so.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
import numpy as np

from models.calendar import day_of, midnights
from models.cells import Cells
from models.days import DayRows
from models.incidents import (
    JUDGED_EVENTS,
    MONTH_SECONDS,
    OPENING_EVENTS,
    Drop,
    IncidentRow,
    Notebook,
    Report,
)
from models.index import Index
from models.registry import Registry
from models.state import Schema, State, within
from models.timelines import NEVER_TIME, Recorded, Timeline, Timelines
from models.turns import unique_passes
from schemas.columns import Codes, DeviceEvents, Event, Incidents, Times
from schemas.units import DAY_SECONDS

REPORT_RETENTION_SECONDS = (
    41 * DAY_SECONDS
)  # of what was told, before the rows that are not final
MOST_DAILY_REPORTS = 5  # reports of one event, meter and day that are kept, the earliest: a chattering contact tells no more by more
COMPARED_DAYS, LEAST_KNOWN_DAYS, LEAST_DAILY_KWH = (
    7,
    6,
    0.5,
)  # days before and after that are compared, that must be known, and kWh a day worth it
REMEMBERED_DAYS = 2 * COMPARED_DAYS + 2  # that are remembered
FOLLOWED_EVENTS = OPENING_EVENTS | {
    Event.MAGNETIC_FIELD
}  # after which it is looked at how much is used
INCIDENT_COLUMNS = (
    "openings",
    "changes",
    "field_s",
    "use_drop",
    "relay_failures",
    "disturbances",
    "residual",
    "seconds",
    "outages",
)


class Reported(msgspec.Struct):
    """What was told of a meter or a whole area, and by how much use fell after what was told at some times."""

    reports: list[Report] = []
    drops: dict[int, float] = {}


class Reports(Timelines):
    """The reports of meters and areas, by slot."""

    kind, columns, item = Incidents, INCIDENT_COLUMNS, Reported
    complete = False  # what no rule hears of has a slot too

    def __init__(self, index: Index, registry: Registry, zone: str, grace: int) -> None:
        super().__init__(index)
        self._registry, self._zone, self._grace, self._midnights = (
            registry,
            zone,
            grace,
            midnights(zone),
        )
        self.cells = Cells(
            area=np.int32(-1), due=np.int64(NEVER_TIME), final=np.int64(0)
        )
        self._energy = Cells(
            kwh=np.full(REMEMBERED_DAYS, np.nan, np.float32), last=np.int32(0)
        )  # primary, sealed days, by meter

    def unique_passes(self, batch: DeviceEvents, slots: Codes) -> Iterator[Codes]:
        """Rows in parts that hold each meter at most once; a row of a whole area stands alone."""
        wide = np.array([not name for name in batch.names])[batch.subject]
        runs = 2 * np.cumsum(wide) - wide
        for rows in np.split(np.arange(len(batch)), np.flatnonzero(np.diff(runs)) + 1):
            for part in unique_passes(slots[rows]):
                yield rows[part]

    def record(
        self, batch: DeviceEvents, slots: Codes, areas: Codes, watermarks: Times
    ) -> Recorded:
        """Note reports of distinct meters; what no rule hears of tells nothing new."""
        told = Recorded(set(), [], [])
        self.cells.reserve(len(self.index))
        for n, (slot, area) in enumerate(
            zip(slots.tolist(), areas.tolist(), strict=True)
        ):
            report, final = _report_of(batch, n), _final_of(int(watermarks[area]))
            if report.event not in JUDGED_EVENTS:
                told.duplicates.append(n)
            elif report.at <= final:
                told.late.append(n)
            elif self._keep(slot, area, report, final):
                told.touched.update(self._concerned(slot))
            else:
                told.duplicates.append(n)
        return told

    def _keep(self, slot: int, area: int, report: Report, final: int) -> bool:
        """Keep a report; whether it was new."""
        if slot not in self.items:
            self.items[slot] = Reported()
            self.cells["area"][slot], self.cells["final"][slot] = area, final
        known = self.items[slot].reports
        if report in known:
            return False
        insort(known, report)
        alike = [
            r
            for r in known
            if r.event == report.event
            and r.at // DAY_SECONDS == report.at // DAY_SECONDS
        ]
        if len(alike) > MOST_DAILY_REPORTS:
            known.remove(alike[-1])
        if report.event in FOLLOWED_EVENTS:
            self._note_use_drop(slot, report.at)
        return True

    def _concerned(self, slot: int) -> list[int]:
        """The slots of which a report of one tells: of a whole area also its meters'."""
        area, meter = self.index.pairs[slot]
        return (
            [slot]
            if meter
            else [
                other
                for other in self.index.known[area].values()
                if other in self.items
            ]
        )

    def store_days(self, sealed: DayRows) -> None:
        """Take a sealed day of each of some areas in, and see what became of use a week after meters reported."""
        self._energy.reserve(len(self._registry.meter_index))
        held, last = self._energy["kwh"], self._energy["last"]
        meters, day, before = (
            sealed.meters,
            np.repeat(sealed.days, sealed.sizes),
            last[sealed.meters],
        )
        for back in range(1, min(REMEMBERED_DAYS, int((day - before).max(initial=0)))):
            missed = np.flatnonzero(before < day - back)
            held[(day[missed] - back) % REMEMBERED_DAYS, meters[missed]] = np.nan
        records = self._registry.meters.rows_in_force(
            meters, np.repeat(sealed.ends, sealed.sizes) - 1
        )
        ratio = self._registry.meters.column("ratio", records)
        held[day % REMEMBERED_DAYS, meters] = sealed.columns["kwh"] * np.nan_to_num(
            ratio, nan=1.0
        )  # as shown where no file says
        last[meters] = day
        reported = self.cells["area"][: len(self.index)]
        days = dict(zip(sealed.areas.tolist(), sealed.days.tolist(), strict=True))
        for slot in np.flatnonzero(np.isin(reported, sealed.areas)).tolist():
            for report in self.items[slot].reports:
                if (
                    report.event in FOLLOWED_EVENTS
                    and self._day_of(report.at) + COMPARED_DAYS
                    == days[int(reported[slot])]
                ):
                    self._note_use_drop(slot, report.at)

    def _note_use_drop(self, slot: int, at: int) -> None:
        """Note by how much use fell in the week after a day, when that week is sealed and both weeks are remembered."""
        area, name = self.index.pairs[slot]
        meter, day = (
            self._registry.meter_index.known.get(area, {}).get(name, -1),
            self._day_of(at),
        )
        if not (
            0 <= meter < self._energy.used
            and day + COMPARED_DAYS
            <= self._energy["last"][meter]
            < day + COMPARED_DAYS + 2
        ):
            return
        days = np.arange(1, COMPARED_DAYS + 1)
        before, after = (
            self._energy["kwh"][(day + d) % REMEMBERED_DAYS, meter].astype(np.float64)
            for d in (-days, days)
        )
        if min((~np.isnan(before)).sum(), (~np.isnan(after)).sum()) < LEAST_KNOWN_DAYS:
            return

        if np.nanmean(before) > LEAST_DAILY_KWH:
            self.items[slot].drops[at] = max(
                float(1 - np.nanmean(after) / np.nanmean(before)), 0.0
            )
            self.cells["due"][slot] = min(
                int(self.cells["due"][slot]), self._seen_at(at)
            )
            self.earliest = self.earliest[:0]

    def _day_of(self, at: int) -> int:
        """The local day of a time."""
        return int(day_of(np.array([at]), self._zone)[0])

    def _seen_at(self, at: int) -> int:
        """When the week after a time's day is sealed."""
        return int(self._midnights[self._day_of(at) + COMPARED_DAYS + 1]) + self._grace

    def _incident_rows(self, slot: int) -> list[IncidentRow]:
        """All rows of a meter, in order of time."""
        item, (area, meter) = self.items[slot], self.index.pairs[slot]
        whole = self.items.get(self.index.known[area].get("", -1)) if meter else None
        drops = [Drop(at, self._seen_at(at), share) for at, share in item.drops.items()]
        lost = self.lost(int(self.cells["area"][slot]))
        return Notebook(
            item.reports, whole.reports if whole else [], drops, lost
        ).incident_rows()

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """Every row of some meters that is not final, as far as their areas' clocks have come."""
        self.cells["due"][slots] = NEVER_TIME
        found: list[tuple[int, IncidentRow]] = []
        for slot in slots.tolist():
            final, now = (
                int(self.cells["final"][slot]),
                int(watermarks[self.cells["area"][slot]]),
            )
            rows = [row for row in self._incident_rows(slot) if row.at > final]
            found += [(slot, row) for row in rows if row.at <= now]
            self.cells["due"][slot] = min(
                (row.at for row in rows if row.at > now), default=NEVER_TIME
            )
        self.update_earliest(len(watermarks))
        return _as_timeline(found)

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """The rows of some areas that become final; what was told long before is forgotten."""
        found: list[tuple[int, IncidentRow]] = []
        ours = np.flatnonzero(
            np.isin(self.cells["area"][: len(self.index)], areas)
        ).tolist()
        finals = {
            slot: _final_of(int(watermarks[self.cells["area"][slot]])) for slot in ours
        }
        for slot, final in finals.items():
            found += [
                (slot, row)
                for row in self._incident_rows(slot)
                if self.cells["final"][slot] < row.at <= final
            ]
        for slot, final in finals.items():
            item, self.cells["final"][slot] = self.items[slot], final
            item.reports = [
                report
                for report in item.reports
                if max(report.at, report.until) > final - REPORT_RETENTION_SECONDS
            ]
            item.drops = {
                at: share
                for at, share in item.drops.items()
                if at > final - REPORT_RETENTION_SECONDS
            }
        return _as_timeline(found)

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Meters of which nothing that was told is remembered, and that are not in trouble."""
        return np.array(
            [
                slot
                for slot, item in self.items.items()
                if not item.reports and slot not in troubled
            ],
            np.int64,
        )

    def schema(self) -> Schema:
        """The reports of meters and areas, and the energy of every meter's last days."""
        return {**super().schema(), **self._energy.schema()}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | self._energy.state()

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError."""
        super().load(state)
        self._energy.load(state)
        within(
            "how many meters it has",
            self._energy.used,
            0,
            len(self._registry.meter_index),
        )


def _report_of(batch: DeviceEvents, n: int) -> Report:
    """A row of a batch."""
    residual, seconds = (
        float(np.nan_to_num(column[n], nan=-1))
        for column in (batch.residual, batch.seconds)
    )
    return Report(
        int(batch.at[n]), int(batch.event[n]), int(batch.until[n]), residual, seconds
    )


def _final_of(watermark: int) -> int:
    """Up to when rows are final, by an area's clock."""
    return watermark // DAY_SECONDS * DAY_SECONDS - MONTH_SECONDS


def _as_timeline(found: list[tuple[int, IncidentRow]]) -> Timeline:
    """Slot, time and the columns of Incidents of some rows, NaN where a row says nothing."""
    slots, at = (
        np.array([(slot, row.at) for slot, row in found], np.int64).reshape(-1, 2).T
    )
    columns: dict[str, Any] = {
        name: [row.columns.get(name, np.nan) for _, row in found]
        for name in INCIDENT_COLUMNS
    }
    return slots, at, columns | {"event": [row.event for _, row in found]}

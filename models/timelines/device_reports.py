"""The reports of meters, kept for a while and judged anew whenever news of them come.

So the order in which they come does not matter. Rows older than a month are final; a report is
forgotten when it is 41 days older than the rows that are not final.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.days.day_rows import DayRows
from models.master.calendar import day_of, midnights
from models.master.registry import Registry
from models.state.cells import Array, Cells
from models.state.index import Index
from models.state.owners import Schema, State, within
from models.state.passes import unique_passes
from models.timelines.base import Recorded, Timeline, Timelines
from models.timelines.incidents import (
    JUDGED_EVENTS,
    MONTH_SECONDS,
    OPENING_EVENTS,
    Drop,
    IncidentRow,
    Notebook,
    Report,
)
from schemas.columns import Codes, DeviceEvents, Event, Incidents, Times
from schemas.units import DAY_SECONDS, NEVER_TIME

# of reports, before the rows that are not final
REPORT_RETENTION_SECONDS = 41 * DAY_SECONDS
# earliest reports of one event, meter and day that are kept: a chattering contact sends many
MOST_DAILY_REPORTS = 5
COMPARED_DAYS = 7  # days before and after a report that are compared
LEAST_KNOWN_DAYS = 6  # of them
LEAST_DAILY_KWH = 0.5  # before the report, to be compared
REMEMBERED_DAYS = 2 * COMPARED_DAYS + 2
# events after which the use is compared
FOLLOWED_EVENTS = OPENING_EVENTS | {Event.MAGNETIC_FIELD}
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
    """The reports of a meter or a whole area, and the falls in use after some of them, by time."""

    reports: list[Report] = []
    drops: dict[int, float] = {}


class FoundRow(NamedTuple):
    """A row of incidents, and the slot of its meter."""

    slot: int
    row: IncidentRow


class Reports(Timelines):
    """The reports of meters and areas, by slot."""

    kind = Incidents
    columns = INCIDENT_COLUMNS
    item = Reported
    complete = False  # meters without judged reports have a slot too

    def __init__(self, index: Index, registry: Registry, zone: str, grace: int) -> None:
        super().__init__(index)
        self._registry = registry
        self._zone = zone
        self._grace = grace
        self._midnights = midnights(zone)
        self.cells = Cells(
            area=np.int32(-1), due=np.int64(NEVER_TIME), final=np.int64(0)
        )
        # primary energy of sealed days, by meter
        self._energy = Cells(
            kwh=np.full(REMEMBERED_DAYS, np.nan, np.float32), last=np.int32(0)
        )

    def unique_passes(self, batch: DeviceEvents, slots: Codes) -> Iterator[Codes]:
        """Groups of rows that have each meter at most once; a row of a whole area stands alone."""
        is_wide = np.array([not name for name in batch.names])
        wide = is_wide[batch.subject]
        runs = 2 * np.cumsum(wide) - wide
        begins = np.flatnonzero(np.diff(runs)) + 1
        all_rows = np.arange(len(batch))
        for rows in np.split(all_rows, begins):
            for distinct in unique_passes(slots[rows]):
                yield rows[distinct]

    def record(
        self, batch: DeviceEvents, slots: Codes, areas: Codes, watermarks: Times
    ) -> Recorded:
        """Records reports of distinct meters; events that no rule judges count as duplicates."""
        recorded = Recorded(set(), [], [])
        self.cells.reserve(len(self.index))

        pairs = zip(slots.tolist(), areas.tolist(), strict=True)
        for n, (slot, area) in enumerate(pairs):
            report = _report_of(batch, n)
            final = _final_of(int(watermarks[area]))
            if report.event not in JUDGED_EVENTS:
                recorded.duplicates.append(n)
            elif report.at <= final:
                recorded.late.append(n)
            elif self._keep(slot, area, report, final):
                recorded.touched.update(self._concerned(slot))
            else:
                recorded.duplicates.append(n)
        return recorded

    def _keep(self, slot: int, area: int, report: Report, final: int) -> bool:
        """Keeps a report; False where it is known."""
        if slot not in self.items:
            self.items[slot] = Reported()
            self.cells["area"][slot] = area
            self.cells["final"][slot] = final
        known = self.items[slot].reports
        if report in known:
            return False

        insort(known, report)
        day = report.at // DAY_SECONDS
        same_event = [other for other in known if other.event == report.event]
        alike = [other for other in same_event if other.at // DAY_SECONDS == day]
        if len(alike) > MOST_DAILY_REPORTS:
            known.remove(alike[-1])
        if report.event in FOLLOWED_EVENTS:
            self._note_use_drop(slot, report.at)
        return True

    def _concerned(self, slot: int) -> list[int]:
        """The slots that a report of a slot changes: for a whole area also those of its meters."""
        area, meter = self.index.pairs[slot]
        if meter:
            return [slot]
        slots = self.index.known[area].values()
        return [other for other in slots if other in self.items]

    def store_days(self, sealed: DayRows) -> None:
        """Stores a sealed day of some areas, and compares the use a week after followed reports."""
        self._store_energy(sealed)
        areas = self._column("area")
        days = dict(zip(sealed.areas.tolist(), sealed.days.tolist(), strict=True))
        slots = np.flatnonzero(np.isin(areas, sealed.areas))
        for slot in slots.tolist():
            compared = days[int(areas[slot])] - COMPARED_DAYS
            for report in self.items[slot].reports:
                followed = report.event in FOLLOWED_EVENTS
                if followed and self._day_of(report.at) == compared:
                    self._note_use_drop(slot, report.at)

    def _store_energy(self, sealed: DayRows) -> None:
        """Stores the primary energy of each meter on a sealed day.

        Days that were skipped are NaN.
        """
        self._energy.reserve(len(self._registry.meter_index))
        meters = sealed.meters
        day = np.repeat(sealed.days, sealed.sizes)
        self._forget_skipped_days(meters, day)

        # As the meter shows it where its record has no ratio.
        ends = np.repeat(sealed.ends, sealed.sizes)
        records = self._registry.meters.rows_in_force(meters, ends - 1)
        ratio = self._registry.meters.column("ratio", records)
        kwh = sealed.columns["kwh"] * np.nan_to_num(ratio, nan=1.0)
        self._energy["kwh"][day % REMEMBERED_DAYS, meters] = kwh
        self._energy["last"][meters] = day

    def _forget_skipped_days(self, meters: Codes, day: Codes) -> None:
        """Makes the days unknown that each meter skipped before a day."""
        energy = self._energy["kwh"]
        skipped = day - self._energy["last"][meters]
        most_skipped = int(skipped.max(initial=0))
        for back in range(1, min(REMEMBERED_DAYS, most_skipped)):
            missed = np.flatnonzero(skipped > back)
            missed_day = day[missed] - back
            energy[missed_day % REMEMBERED_DAYS, meters[missed]] = np.nan

    def _note_use_drop(self, slot: int, at: int) -> None:
        """Notes the fall in use after a day.

        The week after it must be sealed and both weeks known.
        """
        meter = self._meter_of(slot)
        day = self._day_of(at)
        if not self._is_week_sealed(meter, day):
            return
        days = np.arange(1, COMPARED_DAYS + 1)
        before = self._energy_of(meter, day - days)
        after = self._energy_of(meter, day + days)
        if min(_count_known(before), _count_known(after)) < LEAST_KNOWN_DAYS:
            return

        usual = np.nanmean(before)
        if usual > LEAST_DAILY_KWH:
            share = float(1 - np.nanmean(after) / usual)
            self.items[slot].drops[at] = max(share, 0.0)
            due = int(self.cells["due"][slot])
            self.cells["due"][slot] = min(due, self._seen_at(at))
            self.forget_earliest()

    def _meter_of(self, slot: int) -> int:
        """The slot of a meter in the registry; -1 without readings."""
        area, name = self.index.pairs[slot]
        meters = self._registry.meter_index.known.get(area, {})
        return meters.get(name, -1)

    def _is_week_sealed(self, meter: int, day: int) -> bool:
        """True if the week after a day was sealed for a meter within two days."""
        if not 0 <= meter < self._energy.used:
            return False
        sealed_days = self._energy["last"][meter] - day - COMPARED_DAYS
        return bool(0 <= sealed_days < 2)

    def _energy_of(self, meter: int, days: Codes) -> Array:
        """The energy of a meter on some of its last days, NaN where it is unknown."""
        kwh = self._energy["kwh"][days % REMEMBERED_DAYS, meter]
        return kwh.astype(np.float64)

    def _day_of(self, at: int) -> int:
        """The local day of a time."""
        days = day_of(np.array([at]), self._zone)
        return int(days[0])

    def _seen_at(self, at: int) -> int:
        """The time at which the week after a day is sealed."""
        day_after = self._day_of(at) + COMPARED_DAYS + 1
        return int(self._midnights[day_after]) + self._grace

    def _incident_rows(self, slot: int) -> list[IncidentRow]:
        """All rows of a meter, in order of time."""
        item = self.items[slot]
        area, meter = self.index.pairs[slot]
        area_reports: list[Report] = []
        area_slot = self.index.known[area].get("", -1)
        if meter and area_slot in self.items:
            area_reports = self.items[area_slot].reports

        drops = [Drop(at, self._seen_at(at), share) for at, share in item.drops.items()]
        lost = self.lost(int(self.cells["area"][slot]))
        notebook = Notebook(item.reports, area_reports, drops, lost)
        return notebook.incident_rows()

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """Every row of some meters that is not final, up to their areas' watermarks."""
        found: list[FoundRow] = []
        areas = self.cells["area"][slots]
        for slot, now in zip(slots.tolist(), watermarks[areas].tolist(), strict=True):
            final = int(self.cells["final"][slot])
            due = NEVER_TIME

            for row in self._incident_rows(slot):
                if row.at <= final:
                    continue
                if row.at <= now:
                    found.append(FoundRow(slot, row))
                else:
                    due = min(due, row.at)
            self.cells["due"][slot] = due
        self.update_earliest(len(watermarks))
        return _as_timeline(found)

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """The rows of some areas that become final; forgets old reports."""
        reported = self._column("area")
        sealed = np.flatnonzero(np.isin(reported, areas))
        now = watermarks[reported[sealed]]
        states = map(_final_of, now.tolist())
        finals = dict(zip(sealed.tolist(), states, strict=True))
        found: list[FoundRow] = []
        for slot, final in finals.items():
            before = self.cells["final"][slot]
            rows = self._incident_rows(slot)
            new = [row for row in rows if before < row.at <= final]
            found += [FoundRow(slot, row) for row in new]

        # Reports of a whole area count for its meters: all rows come before any forgetting.
        for slot, final in finals.items():
            self.cells["final"][slot] = final
            item = self.items[slot]
            kept_from = final - REPORT_RETENTION_SECONDS
            item.reports = [
                report
                for report in item.reports
                if max(report.at, report.until) > kept_from
            ]
            item.drops = {
                at: share for at, share in item.drops.items() if at > kept_from
            }
        return _as_timeline(found)

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Meters without reports that are not in trouble."""
        slots = [
            slot
            for slot, item in self.items.items()
            if not item.reports and slot not in troubled
        ]
        return np.array(slots, np.int64)

    def schema(self) -> Schema:
        """The reports of meters and areas, and the energy of every meter's last days."""
        return {**super().schema(), **self._energy.schema()}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | self._energy.state()

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        super().load(state)
        self._energy.load(state)
        meters = len(self._registry.meter_index)
        within("its number of meters", self._energy.used, 0, meters)


def _report_of(batch: DeviceEvents, row: int) -> Report:
    """The report of a row."""
    return Report(
        at=int(batch.at[row]),
        event=int(batch.event[row]),
        until=int(batch.until[row]),
        residual=float(np.nan_to_num(batch.residual[row], nan=-1)),
        seconds=float(np.nan_to_num(batch.seconds[row], nan=-1)),
    )


def _count_known(values: Array) -> int:
    """The number of values that are not NaN."""
    return int(np.count_nonzero(~np.isnan(values)))


def _final_of(watermark: int) -> int:
    """The time up to which rows are final, by an area's watermark."""
    return watermark // DAY_SECONDS * DAY_SECONDS - MONTH_SECONDS


def _as_timeline(found: list[FoundRow]) -> Timeline:
    """Slot, time and the columns of Incidents of some rows, NaN where a row has no value."""
    rows = [found_row.row for found_row in found]
    slots = [found_row.slot for found_row in found]
    at = [row.at for row in rows]
    columns: dict[str, Any] = {}
    for name in INCIDENT_COLUMNS:
        columns[name] = [row.columns.get(name, np.nan) for row in rows]
    columns["event"] = [row.event for row in rows]
    return Timeline(
        slots=np.array(slots, np.int64),
        at=np.array(at, np.int64),
        columns=columns,
    )

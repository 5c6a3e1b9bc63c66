"""The reports of meters, kept for a while and judged anew whenever news of them come.

So the order in which they come does not matter. Rows older than a month are final; a report is
forgotten when it is 41 days older than the rows that are not final.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
import numpy as np

from models.days.day_rows import DayRows
from models.master.calendar import day_of, midnights
from models.master.registry import Registry
from models.state.cells import Cells
from models.state.index import Index
from models.state.owners import Schema, State, within
from models.state.passes import unique_passes
from models.timelines.base import NEVER_TIME, Recorded, Timeline, Timelines
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
from schemas.units import DAY_SECONDS

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


class Reports(Timelines):
    """The reports of meters and areas, by slot."""

    kind, columns, item = Incidents, INCIDENT_COLUMNS, Reported
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
        wide = np.array([not name for name in batch.names])[batch.subject]
        runs = 2 * np.cumsum(wide) - wide
        begins = np.flatnonzero(np.diff(runs)) + 1
        for rows in np.split(np.arange(len(batch)), begins):
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
        alike = [
            other
            for other in known
            if other.event == report.event and other.at // DAY_SECONDS == day
        ]
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
        return [
            other for other in self.index.known[area].values() if other in self.items
        ]

    def store_days(self, sealed: DayRows) -> None:
        """Stores a sealed day of some areas, and compares the use a week after followed reports."""
        self._store_energy(sealed)
        reported = self.cells["area"][: len(self.index)]
        days = dict(zip(sealed.areas.tolist(), sealed.days.tolist(), strict=True))
        for slot in np.flatnonzero(np.isin(reported, sealed.areas)).tolist():
            day = days[int(reported[slot])]
            for report in self.items[slot].reports:
                followed = report.event in FOLLOWED_EVENTS
                if followed and self._day_of(report.at) + COMPARED_DAYS == day:
                    self._note_use_drop(slot, report.at)

    def _store_energy(self, sealed: DayRows) -> None:
        """Stores the primary energy of each meter on a sealed day.

        Days that were skipped are NaN.
        """
        self._energy.reserve(len(self._registry.meter_index))
        energy = self._energy["kwh"]
        last = self._energy["last"]
        meters = sealed.meters
        day = np.repeat(sealed.days, sealed.sizes)

        skipped = day - last[meters]
        for back in range(1, min(REMEMBERED_DAYS, int(skipped.max(initial=0)))):
            missed = np.flatnonzero(skipped > back)
            energy[(day[missed] - back) % REMEMBERED_DAYS, meters[missed]] = np.nan

        # As the meter shows it where its record has no ratio.
        ends = np.repeat(sealed.ends, sealed.sizes)
        records = self._registry.meters.rows_in_force(meters, ends - 1)
        ratio = self._registry.meters.column("ratio", records)
        kwh = sealed.columns["kwh"] * np.nan_to_num(ratio, nan=1.0)
        energy[day % REMEMBERED_DAYS, meters] = kwh
        last[meters] = day

    def _note_use_drop(self, slot: int, at: int) -> None:
        """Notes the fall in use after a day.

        The week after it must be sealed and both weeks known.
        """
        area, name = self.index.pairs[slot]
        meter = self._registry.meter_index.known.get(area, {}).get(name, -1)
        if not 0 <= meter < self._energy.used:
            return
        day = self._day_of(at)
        sealed_days = self._energy["last"][meter] - day - COMPARED_DAYS
        if not 0 <= sealed_days < 2:
            return

        days = np.arange(1, COMPARED_DAYS + 1)
        before = self._energy["kwh"][(day - days) % REMEMBERED_DAYS, meter]
        before = before.astype(np.float64)
        after = self._energy["kwh"][(day + days) % REMEMBERED_DAYS, meter]
        after = after.astype(np.float64)
        if min((~np.isnan(before)).sum(), (~np.isnan(after)).sum()) < LEAST_KNOWN_DAYS:
            return

        usual = np.nanmean(before)
        if usual > LEAST_DAILY_KWH:
            share = max(float(1 - np.nanmean(after) / usual), 0.0)
            due = min(int(self.cells["due"][slot]), self._seen_at(at))
            self.items[slot].drops[at] = share
            self.cells["due"][slot] = due
            self.earliest = self.earliest[:0]

    def _day_of(self, at: int) -> int:
        """The local day of a time."""
        return int(day_of(np.array([at]), self._zone)[0])

    def _seen_at(self, at: int) -> int:
        """The time at which the week after a day is sealed."""
        return int(self._midnights[self._day_of(at) + COMPARED_DAYS + 1]) + self._grace

    def _incident_rows(self, slot: int) -> list[IncidentRow]:
        """All rows of a meter, in order of time."""
        item = self.items[slot]
        area, meter = self.index.pairs[slot]
        whole_area = None
        if meter:
            whole_area = self.items.get(self.index.known[area].get("", -1))
        area_reports = whole_area.reports if whole_area else []
        drops = [Drop(at, self._seen_at(at), share) for at, share in item.drops.items()]
        lost = self.lost(int(self.cells["area"][slot]))
        return Notebook(item.reports, area_reports, drops, lost).incident_rows()

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """Every row of some meters that is not final, up to their areas' watermarks."""
        self.cells["due"][slots] = NEVER_TIME
        found: list[tuple[int, IncidentRow]] = []
        for slot in slots.tolist():
            final = int(self.cells["final"][slot])
            now = int(watermarks[self.cells["area"][slot]])
            rows = [row for row in self._incident_rows(slot) if row.at > final]
            found += [(slot, row) for row in rows if row.at <= now]
            due = min((row.at for row in rows if row.at > now), default=NEVER_TIME)
            self.cells["due"][slot] = due
        self.update_earliest(len(watermarks))
        return _as_timeline(found)

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """The rows of some areas that become final; forgets old reports."""
        is_sealed = np.isin(self.cells["area"][: len(self.index)], areas)
        finals = {
            slot: _final_of(int(watermarks[self.cells["area"][slot]]))
            for slot in np.flatnonzero(is_sealed).tolist()
        }
        found: list[tuple[int, IncidentRow]] = []
        for slot, final in finals.items():
            before = self.cells["final"][slot]
            rows = self._incident_rows(slot)
            found += [(slot, row) for row in rows if before < row.at <= final]

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


def _final_of(watermark: int) -> int:
    """The time up to which rows are final, by an area's watermark."""
    return watermark // DAY_SECONDS * DAY_SECONDS - MONTH_SECONDS


def _as_timeline(found: list[tuple[int, IncidentRow]]) -> Timeline:
    """Slot, time and the columns of Incidents of some rows, NaN where a row has no value."""
    times = [(slot, row.at) for slot, row in found]
    slots, at = np.array(times, np.int64).reshape(-1, 2).T
    columns: dict[str, Any] = {
        name: [row.columns.get(name, np.nan) for _, row in found]
        for name in INCIDENT_COLUMNS
    }
    return slots, at, columns | {"event": [row.event for _, row in found]}

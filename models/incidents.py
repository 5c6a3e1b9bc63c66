"""What the reports of a meter come to: what counts at which moment, computed from all that is known of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.columns import Event
from schemas.units import DAY_SECONDS

MONTH_SECONDS = 30 * 86_400
ORDER_MARGIN_SECONDS = DAY_SECONDS  # before and after a work order or a visit in which a meter may be opened or set, catalogue 1.3
LONG_FIELD_SECONDS = 60  # seconds after which a field that still lasts is looked at
SHORTEST_DISTURBANCE, LONGEST_DISTURBANCE, LOW_RESIDUAL, HIGH_RESIDUAL = (
    0.01,
    60.0,
    0.9,
    1.1,
)  # a short disturbance: seconds and pu, IEEE 1159
LAST_GASP_SECONDS = (
    900  # seconds before an area's outage in which its meters' last gasps belong to it
)

OPENING_EVENTS = frozenset({Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN})
CHANGE_EVENTS = frozenset({Event.PARAM_CHANGE})
DISTURBANCE_EVENTS = frozenset(
    {Event.VOLTAGE_SAG, Event.VOLTAGE_SWELL, Event.INTERRUPTION}
)
VISIT_EVENTS = frozenset({Event.WORK_ORDER, Event.INSPECTED, Event.METER_CHANGE})
ARRANGED_EVENTS = frozenset(
    {Event.PLANNED_OUTAGE, Event.VACANCY, Event.WORK_ORDER}
)  # what may be called off
RELAY_EVENTS = frozenset({Event.RELAY_OPENED, Event.RELAY_CLOSED, Event.RELAY_FAILED})
JUDGED_EVENTS = (
    OPENING_EVENTS
    | CHANGE_EVENTS
    | DISTURBANCE_EVENTS
    | VISIT_EVENTS
    | RELAY_EVENTS
    | {
        Event.MAGNETIC_FIELD,
        Event.MAGNETIC_FIELD_END,
        Event.POWER_OFF,
        Event.POWER_ON,
        Event.PLANNED_OUTAGE,
    }
)


def called_off(event: int, at: int, until: int) -> bool:
    """Whether what is told calls off what was to begin then: it ends as it begins."""
    return event in ARRANGED_EVENTS and until == at


def all_called_off(events: Iterable[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """Which events, and of when, were called off; told are events, from when until when."""
    return {(event, at) for event, at, until in events if called_off(event, at, until)}


class Report(NamedTuple):
    """What a meter told; -1 where it told no voltage or length."""

    at: int
    event: int
    until: int
    residual: float
    seconds: float

    @property
    def length(self) -> float:
        """How many seconds it lasted, infinite where nothing tells."""
        return (
            self.seconds
            if self.seconds >= 0
            else self.until - self.at
            if self.until
            else math.inf
        )


class IncidentRow(NamedTuple):
    """When something counts, of which event it tells, and the columns of Incidents beside it."""

    at: int
    event: int
    columns: dict[str, float]


class Drop(NamedTuple):
    """By how much use fell after a report, as was seen later."""

    report_at: int
    seen: int
    share: float


def _in_force(reports: list[Report]) -> list[Report]:
    """Reports without those that were called off, whichever came first."""
    off = all_called_off((r.event, r.at, r.until) for r in reports)
    return [report for report in reports if (report.event, report.at) not in off]


class Notebook:
    """The reports of a meter, those of its whole area, and what became of its use."""

    def __init__(
        self,
        reports: list[Report],
        area_reports: list[Report],
        drops: list[Drop],
        lost: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._lost = lost  # spans of which reports were lost
        self._by_event: dict[int, list[Report]] = defaultdict(list)
        for report in _in_force(reports):
            self._by_event[report.event].append(report)
        self._area_reports, self._drops = _in_force(area_reports), drops
        self._inspected = [report.at for report in self._reports_of({Event.INSPECTED})]
        visits = [
            *self._reports_of(VISIT_EVENTS),
            *(report for report in area_reports if report.event in VISIT_EVENTS),
        ]
        self._visits = [
            (r.at - ORDER_MARGIN_SECONDS, max(r.until, r.at) + ORDER_MARGIN_SECONDS)
            for r in visits
        ]

    def _may_be_lost(self, start: int, end: int) -> bool:
        """Whether a report from one time to another may have been lost."""
        return any(since < end and start <= until for since, until in self._lost)

    def _reports_of(self, events: Collection[Event]) -> list[Report]:
        """The reports of some events, in order of time."""
        return sorted(
            report for event in events for report in self._by_event.get(event, ())
        )

    def incident_rows(self) -> list[IncidentRow]:
        """Everything that counts, in order of time."""
        rows = [
            *self._unordered(OPENING_EVENTS, "openings"),
            *self._unordered(CHANGE_EVENTS, "changes"),
            *self._magnetic_fields(),
            *self._disturbances(),
            *self._relay_failures(),
            *self._outages(),
        ]
        return sorted(rows, key=lambda row: (row.at, row.event))

    def _last_inspection(self, at: int) -> int:
        """When the meter was last inspected."""
        return max((visit for visit in self._inspected if visit <= at), default=-1)

    def _largest_drop(self, at: int, reports: list[Report]) -> float:
        """The most by which use was seen to have fallen after some reports since the last inspection; -inf unknown."""
        known, last = {report.at for report in reports}, self._last_inspection(at)
        return max(
            (
                d.share
                for d in self._drops
                if d.report_at in known and last < d.report_at and d.seen <= at
            ),
            default=-math.inf,
        )

    def _unordered(self, events: Collection[Event], name: str) -> Iterator[IncidentRow]:
        """What was done without a work order or a visit: counted when it is told, and when an order has had its day."""
        reports = self._reports_of(events)
        alone = [
            r
            for r in reports
            if not any(since <= r.at <= until for since, until in self._visits)
            and not self._may_be_lost(
                r.at - ORDER_MARGIN_SECONDS, r.at + ORDER_MARGIN_SECONDS
            )
        ]
        moments = {
            (at, r.event) for r in reports for at in (r.at, r.at + ORDER_MARGIN_SECONDS)
        }
        moments |= {
            (d.seen, r.event) for d in self._drops for r in alone if d.report_at == r.at
        }
        moments |= {(at, int(Event.INSPECTED)) for at in self._inspected}
        for at, event in sorted(moments):
            count = sum(self._last_inspection(at) < r.at <= at for r in alone)
            yield IncidentRow(
                at, event, {name: count, "use_drop": self._largest_drop(at, alone)}
            )

    def _magnetic_fields(self) -> Iterator[IncidentRow]:
        """Magnetic fields: the longest since the last inspection."""
        ends = [report.at for report in self._reports_of({Event.MAGNETIC_FIELD_END})]
        told = self._reports_of({Event.MAGNETIC_FIELD})
        length = {
            r: min([r.length, *(end - r.at for end in ends if end >= r.at)])
            for r in told
        }
        fields = [
            r
            for r in told
            if length[r] <= LONG_FIELD_SECONDS
            or not self._may_be_lost(r.at, r.at + LONG_FIELD_SECONDS)
        ]
        moments = {
            math.ceil(r.at + min(some, LONG_FIELD_SECONDS))
            for r, some in length.items()
        }
        moments |= {
            math.ceil(r.at + some) for r, some in length.items() if some < math.inf
        }
        moments |= {
            d.seen for d in self._drops if any(d.report_at == r.at for r in fields)
        }
        for at in sorted(moments | {*self._inspected}):
            here = [r for r in fields if self._last_inspection(at) < r.at <= at]
            longest = max((min(length[r], at - r.at) for r in here), default=0.0)
            lasting = [r for r in here if length[r] >= LONG_FIELD_SECONDS]
            yield IncidentRow(
                at,
                Event.MAGNETIC_FIELD,
                {"field_s": longest, "use_drop": self._largest_drop(at, lasting)},
            )

    def _disturbances(self) -> Iterator[IncidentRow]:
        """Sags, swells and interruptions: how many in a day; a record without depth or length tells nothing."""
        records = [
            r
            for r in self._reports_of(DISTURBANCE_EVENTS)
            if r.residual >= 0 and r.length < math.inf
        ]
        short = [
            r
            for r in records
            if SHORTEST_DISTURBANCE <= r.length <= LONGEST_DISTURBANCE
            and not LOW_RESIDUAL < r.residual < HIGH_RESIDUAL
        ]
        for at in sorted({at for r in records for at in (r.at, r.at + DAY_SECONDS)}):
            last = [r for r in records if r.at <= at][-1]
            count = sum(at - DAY_SECONDS < r.at <= at for r in short)
            yield IncidentRow(
                at,
                last.event,
                {
                    "disturbances": count,
                    "residual": last.residual,
                    "seconds": last.length,
                },
            )

    def _relay_failures(self) -> Iterator[IncidentRow]:
        """How often in a row the relay did not do as it was told."""
        failures, before = 0.0, 0
        for report in self._reports_of(RELAY_EVENTS):
            failures = failures + 1 if report.event == Event.RELAY_FAILED else 0
            if failures > 1 and self._may_be_lost(before, report.at):
                failures = math.nan  # until it answers
            before = report.at
            yield IncidentRow(report.at, report.event, {"relay_failures": failures})

    def _outages(self) -> Iterator[IncidentRow]:
        """How many outages in a month that nobody planned; one of the whole area is the area's, not its meters'."""
        offs = self._reports_of({Event.POWER_OFF})
        planned = [
            (r.at, r.until or r.at + DAY_SECONDS)
            for r in [*self._reports_of({Event.PLANNED_OUTAGE}), *self._area_reports]
            if r.event == Event.PLANNED_OUTAGE
        ]
        ons = [r.at for r in self._area_reports if r.event == Event.POWER_ON]
        shared = [
            (
                r.at - LAST_GASP_SECONDS,
                r.until
                or min([on for on in ons if on > r.at], default=r.at + DAY_SECONDS),
            )
            for r in self._area_reports
            if r.event == Event.POWER_OFF
        ]
        own = [
            r.at
            for r in offs
            if not any(since <= r.at <= until for since, until in planned + shared)
            and not self._may_be_lost(r.at - DAY_SECONDS, r.at)
        ]
        for at in sorted({at for r in offs for at in (r.at, r.at + MONTH_SECONDS)}):
            yield IncidentRow(
                at,
                Event.POWER_OFF,
                {"outages": sum(at - MONTH_SECONDS < off <= at for off in own)},
            )

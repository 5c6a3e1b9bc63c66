"""The incidents of a meter: the counts at each moment, computed from all its known reports."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from schemas.columns import Event
from schemas.units import DAY_SECONDS

MONTH_SECONDS = 30 * 86_400
# before and after a work order or a visit, in which a meter may be opened or set: catalogue 1.3
ORDER_MARGIN_SECONDS = DAY_SECONDS
LONG_FIELD_SECONDS = 60  # after which a magnetic field that still lasts is judged
# a short disturbance: seconds and pu, IEEE 1159
SHORTEST_DISTURBANCE = 0.01
LONGEST_DISTURBANCE = 60.0
LOW_RESIDUAL = 0.9
HIGH_RESIDUAL = 1.1
# before an area's outage, in which its meters' last gasps belong to it
LAST_GASP_SECONDS = 900

OPENING_EVENTS = frozenset({Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN})
CHANGE_EVENTS = frozenset({Event.PARAM_CHANGE})
DISTURBANCE_EVENTS = frozenset(
    {Event.VOLTAGE_SAG, Event.VOLTAGE_SWELL, Event.INTERRUPTION}
)
VISIT_EVENTS = frozenset({Event.WORK_ORDER, Event.INSPECTED, Event.METER_CHANGE})
# events that may be called off
ARRANGED_EVENTS = frozenset({Event.PLANNED_OUTAGE, Event.VACANCY, Event.WORK_ORDER})
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


Span = tuple[int, int]  # since, until


def called_off(event: int, at: int, until: int) -> bool:
    """True for the cancellation of an arranged event: it ends as it begins."""
    return event in ARRANGED_EVENTS and until == at


def all_called_off(events: Iterable[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """The cancelled events, each with its beginning.

    `events` are of an event, its beginning and its end.
    """
    return {(event, at) for event, at, until in events if called_off(event, at, until)}


class Report(NamedTuple):
    """The report of a meter; -1 where it has no voltage or length."""

    at: int
    event: int
    until: int
    residual: float
    seconds: float

    @property
    def length(self) -> float:
        """Seconds that it lasted; infinite where it is unknown."""
        if self.seconds >= 0:
            return self.seconds
        return self.until - self.at if self.until else math.inf


class IncidentRow(NamedTuple):
    """A moment at which a meter is judged, the event, and its columns of Incidents."""

    at: int
    event: int
    columns: dict[str, float]


class Drop(NamedTuple):
    """The share by which use fell after a report, as it was seen later."""

    report_at: int
    seen: int
    share: float


def _in_force(reports: list[Report]) -> list[Report]:
    """Reports without the cancelled events, whichever report came first."""
    events = ((report.event, report.at, report.until) for report in reports)
    cancelled = all_called_off(events)
    return [report for report in reports if (report.event, report.at) not in cancelled]


def _span_of_visit(visit: Report) -> Span:
    """The span around an order or a visit in which the meter may be opened or set."""
    since = visit.at - ORDER_MARGIN_SECONDS
    until = max(visit.until, visit.at) + ORDER_MARGIN_SECONDS
    return since, until


def _within(at: int, spans: Iterable[Span]) -> bool:
    """True where a time lies in one of some spans."""
    return any(since <= at <= until for since, until in spans)


def _between(reports: Iterable[Report], after: int, until: int) -> list[Report]:
    """The reports after one time, up to another."""
    return [report for report in reports if after < report.at <= until]


class Notebook:
    """The reports of a meter and of its whole area, and the falls in its use."""

    def __init__(
        self,
        reports: list[Report],
        area_reports: list[Report],
        drops: list[Drop],
        lost: Iterable[Span] = (),
    ) -> None:
        self._lost = lost  # spans of which reports were lost
        self._by_event: dict[int, list[Report]] = defaultdict(list)
        for report in _in_force(reports):
            self._by_event[report.event].append(report)
        self._area_reports = _in_force(area_reports)
        self._drops = drops
        self._inspected = [report.at for report in self._reports_of({Event.INSPECTED})]

        visits = self._reports_of(VISIT_EVENTS)
        visits += [report for report in area_reports if report.event in VISIT_EVENTS]
        self._visits = list(map(_span_of_visit, visits))

    def _may_be_lost(self, start: int, end: int) -> bool:
        """True where a report between two times may have been lost."""
        return any(since < end and start <= until for since, until in self._lost)

    def _reports_of(self, events: Collection[Event]) -> list[Report]:
        """The reports of some events, in order of time."""
        return sorted(
            report for event in events for report in self._by_event.get(event, ())
        )

    def incident_rows(self) -> list[IncidentRow]:
        """Every row of the meter, in order of time."""
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
        """The time of the last inspection up to a time; -1 without any."""
        visits = [visit for visit in self._inspected if visit <= at]
        return max(visits, default=-1)

    def _largest_drop(self, at: int, reports: list[Report]) -> float:
        """The largest known fall in use after some reports since the last inspection.

        -inf where unknown.
        """
        inspected = self._last_inspection(at)
        report_times = {report.at for report in reports if report.at > inspected}
        seen = [drop for drop in self._drops if drop.seen <= at]
        shares = [drop.share for drop in seen if drop.report_at in report_times]
        return max(shares, default=-math.inf)

    def _unordered(self, events: Collection[Event], name: str) -> Iterator[IncidentRow]:
        """Events without a work order or a visit.

        They are judged again a day later, when no order can come any more.
        """
        reports = self._reports_of(events)
        alone = [report for report in reports if self._is_unordered(report)]
        moments = {(at, int(Event.INSPECTED)) for at in self._inspected}
        for report in reports:
            moments.add((report.at, report.event))
            moments.add((report.at + ORDER_MARGIN_SECONDS, report.event))
        for drop in self._drops:
            moments.update(
                (drop.seen, report.event)
                for report in alone
                if report.at == drop.report_at
            )

        for at, event in sorted(moments):
            count = len(_between(alone, self._last_inspection(at), at))
            use_drop = self._largest_drop(at, alone)
            yield IncidentRow(at, event, {name: count, "use_drop": use_drop})

    def _is_unordered(self, report: Report) -> bool:
        """True without a work order or visit around a report, where none can be lost."""
        if _within(report.at, self._visits):
            return False
        first = report.at - ORDER_MARGIN_SECONDS
        last = report.at + ORDER_MARGIN_SECONDS
        return not self._may_be_lost(first, last)

    def _magnetic_fields(self) -> Iterator[IncidentRow]:
        """Magnetic fields: the longest since the last inspection."""
        lengths = self._field_lengths()
        fields = [
            report
            for report, length in lengths.items()
            if length <= LONG_FIELD_SECONDS
            or not self._may_be_lost(report.at, report.at + LONG_FIELD_SECONDS)
        ]

        # Moments: a minute after the beginning, the end, and when a fall in use is seen.
        moments = {*self._inspected}
        for report, length in lengths.items():
            judged = min(length, LONG_FIELD_SECONDS)
            moments.add(math.ceil(report.at + judged))
            if length < math.inf:
                moments.add(math.ceil(report.at + length))
        field_times = {field.at for field in fields}
        moments.update(
            drop.seen for drop in self._drops if drop.report_at in field_times
        )

        for at in sorted(moments):
            begun = _between(fields, self._last_inspection(at), at)
            lasted = [min(lengths[field], at - field.at) for field in begun]
            longest = max(lasted, default=0.0)
            lasting = [field for field in begun if lengths[field] >= LONG_FIELD_SECONDS]
            use_drop = self._largest_drop(at, lasting)
            columns = {"field_s": longest, "use_drop": use_drop}
            yield IncidentRow(at, Event.MAGNETIC_FIELD, columns)

    def _field_lengths(self) -> dict[Report, float]:
        """The seconds that each magnetic field lasted, by its report or until the end that was reported."""
        ends = [report.at for report in self._reports_of({Event.MAGNETIC_FIELD_END})]
        lengths: dict[Report, float] = {}
        for report in self._reports_of({Event.MAGNETIC_FIELD}):
            until_end = [end - report.at for end in ends if end >= report.at]
            lengths[report] = min([report.length, *until_end])
        return lengths

    def _disturbances(self) -> Iterator[IncidentRow]:
        """Sags, swells and interruptions: the number in a day.

        A record without depth or length is left out.
        """
        records = [
            report
            for report in self._reports_of(DISTURBANCE_EVENTS)
            if report.residual >= 0 and report.length < math.inf
        ]
        short = [
            record
            for record in records
            if SHORTEST_DISTURBANCE <= record.length <= LONGEST_DISTURBANCE
            and not LOW_RESIDUAL < record.residual < HIGH_RESIDUAL
        ]

        begins = {record.at for record in records}
        day_later = {begin + DAY_SECONDS for begin in begins}
        for at in sorted(begins | day_later):
            last = [record for record in records if record.at <= at][-1]
            columns = {
                "disturbances": len(_between(short, at - DAY_SECONDS, at)),
                "residual": last.residual,
                "seconds": last.length,
            }
            yield IncidentRow(at, last.event, columns)

    def _relay_failures(self) -> Iterator[IncidentRow]:
        """The number of failures in a row of the relay to switch as commanded."""
        failures = 0.0
        before = 0
        for report in self._reports_of(RELAY_EVENTS):
            failures = failures + 1 if report.event == Event.RELAY_FAILED else 0
            if failures > 1 and self._may_be_lost(before, report.at):
                failures = math.nan  # until it switches
            before = report.at
            yield IncidentRow(report.at, report.event, {"relay_failures": failures})

    def _outages(self) -> Iterator[IncidentRow]:
        """Unplanned outages in a month.

        An outage of the whole area does not count for its meters.
        """
        outages = [report.at for report in self._reports_of({Event.POWER_OFF})]
        explained = self._planned_outages() + self._area_outages()
        unplanned = [
            at
            for at in outages
            if not _within(at, explained)
            and not self._may_be_lost(at - DAY_SECONDS, at)
        ]
        month_later = [outage + MONTH_SECONDS for outage in outages]
        for at in sorted({*outages, *month_later}):
            count = sum(at - MONTH_SECONDS < outage <= at for outage in unplanned)
            yield IncidentRow(at, Event.POWER_OFF, {"outages": count})

    def _planned_outages(self) -> list[Span]:
        """The spans of planned outages of the meter and of its area."""
        reports = [*self._reports_of({Event.PLANNED_OUTAGE}), *self._area_reports]
        return [
            (report.at, report.until or report.at + DAY_SECONDS)
            for report in reports
            if report.event == Event.PLANNED_OUTAGE
        ]

    def _area_outages(self) -> list[Span]:
        """The spans of outages of the whole area, with the last gasps before them."""
        power_on = [
            report.at for report in self._area_reports if report.event == Event.POWER_ON
        ]
        spans: list[Span] = []
        for report in self._area_reports:
            if report.event == Event.POWER_OFF:
                later = [at for at in power_on if at > report.at]
                until = report.until or min(later, default=report.at + DAY_SECONDS)
                spans.append((report.at - LAST_GASP_SECONDS, until))
        return spans

"""What the reports of a meter come to: what counts at which moment, computed from all that is known of it."""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.columns import Event

DAY, MONTH = 86_400, 30 * 86_400
ORDERED = DAY  # before and after a work order or a visit in which a meter may be opened or set, catalogue 1.3
LONG = 60  # seconds after which a field that still lasts is looked at
SHORTEST, LONGEST, LOW, HIGH = 0.01, 60.0, 0.9, 1.1  # a short disturbance: seconds and pu, IEEE 1159
NEAR = 900  # seconds before an area's outage in which its meters' last gasps belong to it

OPENINGS = frozenset({Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN})
CHANGES = frozenset({Event.PARAM_CHANGE})
DISTURBANCES = frozenset({Event.VOLTAGE_SAG, Event.VOLTAGE_SWELL, Event.INTERRUPTION})
VISITS = frozenset({Event.WORK_ORDER, Event.INSPECTED, Event.METER_CHANGE})
ARRANGED = frozenset({Event.PLANNED_OUTAGE, Event.VACANCY, Event.WORK_ORDER})  # what may be called off
RELAY = frozenset({Event.RELAY_OPENED, Event.RELAY_CLOSED, Event.RELAY_FAILED})
HEARD = OPENINGS | CHANGES | DISTURBANCES | VISITS | RELAY | {
    Event.MAGNETIC_FIELD, Event.MAGNETIC_FIELD_END, Event.POWER_OFF, Event.POWER_ON, Event.PLANNED_OUTAGE,
}  # fmt: skip


def called_off(event: int, at: int, until: int) -> bool:
    """Whether what is told calls off what was to begin then: it ends as it begins."""
    return event in ARRANGED and until == at


def all_called_off(told: Iterable[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """Which events, and of when, were called off; told are events, from when until when."""
    return {(event, at) for event, at, until in told if called_off(event, at, until)}


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
        return self.seconds if self.seconds >= 0 else self.until - self.at if self.until else math.inf


class Row(NamedTuple):
    """When something counts, of which event it tells, and the columns of Incidents beside it."""

    at: int
    event: int
    columns: dict[str, float]


class Drop(NamedTuple):
    """By how much use fell after a report, as was seen later."""

    of: int
    seen: int
    share: float


def in_force(reports: list[Report]) -> list[Report]:
    """Reports without those that were called off, whichever came first."""
    off = all_called_off((r.event, r.at, r.until) for r in reports)
    return [report for report in reports if (report.event, report.at) not in off]


class Notebook:
    """The reports of a meter, those of its whole area, and what became of its use."""

    def __init__(
        self, told: list[Report], wide: list[Report], drops: list[Drop], lost: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.lost = lost  # spans of which reports were lost
        self.by_event: dict[int, list[Report]] = defaultdict(list)
        for report in in_force(told):
            self.by_event[report.event].append(report)
        self.wide, self.drops = in_force(wide), drops
        self.inspected = [report.at for report in self.of({Event.INSPECTED})]
        visits = [*self.of(VISITS), *(report for report in wide if report.event in VISITS)]
        self.visits = [(r.at - ORDERED, max(r.until, r.at) + ORDERED) for r in visits]

    def unsure(self, start: int, end: int) -> bool:
        """Whether a report from one time to another may have been lost."""
        return any(since < end and start <= until for since, until in self.lost)

    def of(self, events: Collection[Event]) -> list[Report]:
        """The reports of some events, in order of time."""
        return sorted(report for event in events for report in self.by_event.get(event, ()))

    def rows(self) -> list[Row]:
        """Everything that counts, in order of time."""
        rows = [*self.unordered(OPENINGS, "openings"), *self.unordered(CHANGES, "changes"), *self.fields(),
                *self.disturbances(), *self.relay(), *self.outages()]  # fmt: skip
        return sorted(rows, key=lambda row: (row.at, row.event))

    def before(self, at: int) -> int:
        """When the meter was last inspected."""
        return max((visit for visit in self.inspected if visit <= at), default=-1)

    def drop(self, at: int, reports: list[Report]) -> float:
        """The most by which use was seen to have fallen after some reports since the last inspection; -inf unknown."""
        known, last = {report.at for report in reports}, self.before(at)
        return max((d.share for d in self.drops if d.of in known and last < d.of and d.seen <= at), default=-math.inf)

    def unordered(self, events: Collection[Event], name: str) -> Iterator[Row]:
        """What was done without a work order or a visit: counted when it is told, and when an order has had its day."""
        reports = self.of(events)
        alone = [
            r for r in reports
            if not any(since <= r.at <= until for since, until in self.visits)
            and not self.unsure(r.at - ORDERED, r.at + ORDERED)
        ]  # fmt: skip
        moments = {(at, r.event) for r in reports for at in (r.at, r.at + ORDERED)}
        moments |= {(d.seen, r.event) for d in self.drops for r in alone if d.of == r.at}
        moments |= {(at, int(Event.INSPECTED)) for at in self.inspected}
        for at, event in sorted(moments):
            count = sum(self.before(at) < r.at <= at for r in alone)
            yield Row(at, event, {name: count, "use_drop": self.drop(at, alone)})

    def fields(self) -> Iterator[Row]:
        """Magnetic fields: the longest since the last inspection."""
        ends = [report.at for report in self.of({Event.MAGNETIC_FIELD_END})]
        told = self.of({Event.MAGNETIC_FIELD})
        length = {r: min([r.length, *(end - r.at for end in ends if end >= r.at)]) for r in told}
        fields = [r for r in told if length[r] <= LONG or not self.unsure(r.at, r.at + LONG)]
        moments = {math.ceil(r.at + min(some, LONG)) for r, some in length.items()}
        moments |= {math.ceil(r.at + some) for r, some in length.items() if some < math.inf}
        moments |= {d.seen for d in self.drops if any(d.of == r.at for r in fields)}
        for at in sorted(moments | {*self.inspected}):
            here = [r for r in fields if self.before(at) < r.at <= at]
            longest = max((min(length[r], at - r.at) for r in here), default=0.0)
            lasting = [r for r in here if length[r] >= LONG]
            yield Row(at, Event.MAGNETIC_FIELD, {"field_s": longest, "use_drop": self.drop(at, lasting)})

    def disturbances(self) -> Iterator[Row]:
        """Sags, swells and interruptions: how many in a day; a record without depth or length tells nothing."""
        records = [r for r in self.of(DISTURBANCES) if r.residual >= 0 and r.length < math.inf]
        short = [r for r in records if SHORTEST <= r.length <= LONGEST and not LOW < r.residual < HIGH]
        for at in sorted({at for r in records for at in (r.at, r.at + DAY)}):
            last = [r for r in records if r.at <= at][-1]
            count = sum(at - DAY < r.at <= at for r in short)
            yield Row(at, last.event, {"disturbances": count, "residual": last.residual, "seconds": last.length})

    def relay(self) -> Iterator[Row]:
        """How often in a row the relay did not do as it was told."""
        failures, before = 0.0, 0
        for report in self.of(RELAY):
            failures = failures + 1 if report.event == Event.RELAY_FAILED else 0
            if failures > 1 and self.unsure(before, report.at):
                failures = math.nan  # until it answers
            before = report.at
            yield Row(report.at, report.event, {"relay_failures": failures})

    def outages(self) -> Iterator[Row]:
        """How many outages in a month that nobody planned; one of the whole area is the area's, not its meters'."""
        offs = self.of({Event.POWER_OFF})
        planned = [(r.at, r.until or r.at + DAY) for r in [*self.of({Event.PLANNED_OUTAGE}), *self.wide]
                   if r.event == Event.PLANNED_OUTAGE]  # fmt: skip
        ons = [r.at for r in self.wide if r.event == Event.POWER_ON]
        shared = [(r.at - NEAR, r.until or min([on for on in ons if on > r.at], default=r.at + DAY))
                  for r in self.wide if r.event == Event.POWER_OFF]  # fmt: skip
        own = [
            r.at for r in offs
            if not any(since <= r.at <= until for since, until in planned + shared)
            and not self.unsure(r.at - DAY, r.at)
        ]  # fmt: skip
        for at in sorted({at for r in offs for at in (r.at, r.at + MONTH)}):
            yield Row(at, Event.POWER_OFF, {"outages": sum(at - MONTH < off <= at for off in own)})

"""The device events of every meter, looked at again whenever an event comes or falls due."""

from __future__ import annotations

import math
from typing import Any

from schemas.columns import Event
from schemas.units import DAY_SECONDS
from tests.adversarial import Row
from tests.oracle.scores import INCIDENT_RULES
from tests.oracle.watch import Endings, Facts, judge

OPENING_EVENTS = (Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN)
ARRANGED_EVENTS = (Event.WORK_ORDER, Event.PLANNED_OUTAGE)
ORDER_EVENTS = (Event.WORK_ORDER, Event.INSPECTED, Event.METER_CHANGE)
RELAY_EVENTS = (Event.RELAY_OPENED, Event.RELAY_CLOSED)
DISTURBANCE_EVENTS = (Event.VOLTAGE_SAG, Event.VOLTAGE_SWELL, Event.INTERRUPTION)
GRACE_SECONDS = 3 * DAY_SECONDS  # after which a day is sealed
OUTAGE_LEAD = 900  # s by which a meter may report an outage before its area does
Used = dict[str, dict[int, tuple[int, float]]]  # by meter and day: its end, its kWh
Falls = dict[
    int, tuple[int, float]
]  # by event: when the fall of use is known, its share


def device_endings(
    area: str, rows: list[Row], watermark: int, used: Used, nights: list[int]
) -> Endings:
    """How the episodes of device events end, up to the watermark."""
    endings: Endings = {}
    rows = not_cancelled(rows)
    area_rows = [row for row in rows if not row.subject]
    for subject in dict.fromkeys(row.subject for row in rows):
        own_rows = [row for row in rows if row.subject == subject]
        own_rows.sort(key=lambda row: row.at)

        # An area's own outages and orders are in its own rows.
        wide = area_rows if subject else []
        falls = {
            row.at: fall(row.at, used.get(subject, {}), nights)
            for row in own_rows
            if event_of(row) in (*OPENING_EVENTS, Event.MAGNETIC_FIELD)
        }
        facts = [
            at_moment(at, own_rows, wide, falls)
            for at in moments(own_rows, falls)
            if at <= watermark
        ]
        judge(INCIDENT_RULES, area, subject, facts, endings)
    return endings


def event_of(row: Row) -> Event:
    """The event of a row."""
    event: Event = row.columns["event"]
    return event


def not_cancelled(rows: list[Row]) -> list[Row]:
    """The rows without orders and planned outages that end as they begin."""
    cancelled = {
        (row.subject, event_of(row), row.at)
        for row in rows
        if row.columns["until"] == row.at and event_of(row) in ARRANGED_EVENTS
    }
    return [
        row for row in rows if (row.subject, event_of(row), row.at) not in cancelled
    ]


def moments(own_rows: list[Row], falls: Falls) -> list[int]:
    """The times at which a fact may change: an event, the end of its time, of its field, or a fall that is known."""
    times: set[int] = set()
    for row in own_rows:
        times |= {row.at + later for later in (0, 60, DAY_SECONDS, 30 * DAY_SECONDS)}
        length = lasted(row, own_rows)
        if length < math.inf:
            times.add(math.ceil(row.at + length))
    return sorted(times | {seen for seen, _ in falls.values()})


def fall(
    at: int, days: dict[int, tuple[int, float]], nights: list[int]
) -> tuple[int, float]:
    """When the fall of use after an event is known, and its share; 0 where too little is known."""
    today = [n for n in range(len(nights) - 1) if nights[n] < at <= nights[n + 1]]
    if not today or today[0] + 7 not in days:
        return 0, 0.0
    day = today[0]

    def known(span: range) -> list[float]:
        used = [days[n][1] for n in span if n in days]
        return [kwh for kwh in used if not math.isnan(kwh)]

    before = known(range(day - 7, day))
    after = known(range(day + 1, day + 8))
    if len(before) < 6 or len(after) < 6 or sum(before) / len(before) <= 0.5:
        return 0, 0.0
    seen = days[day + 7][0] + GRACE_SECONDS
    return seen, 1 - (sum(after) / len(after)) / (sum(before) / len(before))


def lasted(row: Row, own_rows: list[Row]) -> float:
    """How long a field lasted, in seconds."""
    columns: Any = row.columns
    length = columns["until"] - row.at if columns["until"] else math.inf
    if not math.isnan(columns["seconds"]):
        length = columns["seconds"]
    ends = [
        other.at - row.at
        for other in own_rows
        if event_of(other) == Event.MAGNETIC_FIELD_END and other.at >= row.at
    ]
    return min([length, *ends])


def at_moment(at: int, own_rows: list[Row], wide: list[Row], falls: Falls) -> Facts:
    """The facts of a device at a moment; an inspection ends all openings, changes and fields before it."""
    so_far = [row for row in own_rows if row.at <= at]
    inspections = [row.at for row in so_far if event_of(row) == Event.INSPECTED]
    since = max(inspections, default=-1)

    def unordered(*events: Event) -> list[Row]:
        found = without_order(events, own_rows, wide)
        return [row for row in found if since < row.at <= at]

    def worst_fall(rows: list[Row]) -> float:
        known = [falls[row.at] for row in rows if 0 < falls[row.at][0] <= at]
        return max((share for _, share in known), default=0)

    openings = unordered(*OPENING_EVENTS)
    fields = [
        row
        for row in so_far
        if event_of(row) == Event.MAGNETIC_FIELD and row.at > since
    ]
    lengths = [min(lasted(row, own_rows), at - row.at) for row in fields]
    day = [row for row in so_far if row.at > at - DAY_SECONDS]
    month = [row for row in so_far if row.at > at - 30 * DAY_SECONDS]
    return {
        "at": at,
        "openings": len(openings),
        "failures": relay_failures(so_far),
        "changes": len(unordered(Event.PARAM_CHANGE)),
        "field_s": max(lengths, default=0),
        "drop_opened": worst_fall(openings),
        "drop_field": worst_fall(
            [row for row in fields if lasted(row, own_rows) >= 60]
        ),
        "disturbances": sum(is_short(row) for row in day),
        "outages": sum(is_unplanned(row, own_rows, wide) for row in month),
    }


def relay_failures(so_far: list[Row]) -> int:
    """The failures of a relay since it last moved."""
    failures = 0
    for row in so_far:
        if event_of(row) in RELAY_EVENTS:
            failures = 0
        failures += event_of(row) == Event.RELAY_FAILED
    return failures


def without_order(
    events: tuple[Event, ...], own_rows: list[Row], wide: list[Row]
) -> list[Row]:
    """The events without an order, inspection or meter change from a day before to a day after."""

    def ordered(row: Row) -> bool:
        for order in own_rows + wide:
            if event_of(order) in ORDER_EVENTS:
                end = max(order.at, order.columns["until"])
                if order.at - DAY_SECONDS <= row.at <= end + DAY_SECONDS:
                    return True
        return False

    return [row for row in own_rows if event_of(row) in events and not ordered(row)]


def is_short(row: Row) -> bool:
    """Whether an event is a disturbance of the voltage from 10 ms to a minute."""
    columns: Any = row.columns
    if event_of(row) not in DISTURBANCE_EVENTS:
        return False
    deep = columns["residual"] <= 0.9 or columns["residual"] >= 1.1
    return bool(0.01 <= columns["seconds"] <= 60 and deep)


def is_unplanned(row: Row, own_rows: list[Row], wide: list[Row]) -> bool:
    """Whether an event is an outage that was not planned and is not the outage of the whole area."""
    if event_of(row) != Event.POWER_OFF:
        return False
    for other in own_rows + wide:
        if event_of(other) == Event.PLANNED_OUTAGE:
            until = other.columns["until"] or other.at + DAY_SECONDS
            if other.at <= row.at <= until:
                return False
    for other in wide:
        began = other.at - OUTAGE_LEAD
        is_outage = event_of(other) == Event.POWER_OFF
        if is_outage and began <= row.at <= outage_end(other, wide):
            return False
    return True


def outage_end(outage: Row, wide: list[Row]) -> int:
    """When an area's outage ended: as reported, by the power's return, else after a day."""
    until: int = outage.columns["until"]
    returns = [
        row.at for row in wide if event_of(row) == Event.POWER_ON and row.at > outage.at
    ]
    return until or min(returns, default=outage.at + DAY_SECONDS)

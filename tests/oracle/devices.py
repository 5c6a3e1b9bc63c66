"""What meters report, looked at by a clerk who has all reports before him and walks through every moment."""

from __future__ import annotations

import math
from typing import Any

from schemas.columns import Event
from schemas.units import DAY_SECONDS
from tests.adversarial import Row
from tests.oracle.scores import INCIDENT_RULES
from tests.oracle.watch import Endings, Facts, judge

OPENING_EVENTS = (Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN)
Used = dict[
    str, dict[int, tuple[int, float]]
]  # by meter and day: the day's end, and what was used


def device_endings(
    area: str, rows: list[Row], watermark: int, used: Used, nights: list[int]
) -> Endings:
    """How the episodes end that stem from reports of meters, as far as the area's clock has come."""
    told: Endings = {}
    arranged = (Event.WORK_ORDER, Event.PLANNED_OUTAGE)
    off = {
        (row.subject, row.columns["event"], row.at)
        for row in rows
        if row.columns["until"] == row.at and row.columns["event"] in arranged
    }
    rows = [
        row for row in rows if (row.subject, row.columns["event"], row.at) not in off
    ]
    wide = [row for row in rows if not row.subject]
    for subject in dict.fromkeys(row.subject for row in rows):
        mine = sorted(
            (row for row in rows if row.subject == subject), key=lambda row: row.at
        )
        others = wide if subject else []
        falls = {
            row.at: fall(row.at, used.get(subject, {}), nights)
            for row in mine
            if row.columns["event"] in (*OPENING_EVENTS, Event.MAGNETIC_FIELD)
        }
        moments = {
            row.at + later
            for row in mine
            for later in (0, 60, DAY_SECONDS, 30 * DAY_SECONDS)
        }
        moments |= {seen for seen, _ in falls.values()}
        moments |= {
            math.ceil(row.at + lasted(row, mine))
            for row in mine
            if lasted(row, mine) < math.inf
        }
        facts = [
            at_moment(at, mine, others, falls)
            for at in sorted(moments)
            if at <= watermark
        ]
        judge(INCIDENT_RULES, area, subject, facts, told)
    return told


def fall(
    at: int, days: dict[int, tuple[int, float]], nights: list[int]
) -> tuple[int, float]:
    """When it is known by how much use fell after a time, and by how much; 0 where too little is known."""
    day = next(
        (n for n in range(len(nights) - 1) if nights[n] < at <= nights[n + 1]), -1
    )
    if day < 0 or day + 7 not in days:
        return 0, 0.0
    before, after = (
        [days[d][1] for d in span if d in days and not math.isnan(days[d][1])]
        for span in (range(day - 7, day), range(day + 1, day + 8))
    )
    seen = days[day + 7][0] + 3 * DAY_SECONDS
    if len(before) < 6 or len(after) < 6 or sum(before) / len(before) <= 0.5:
        return 0, 0.0
    return seen, 1 - (sum(after) / len(after)) / (sum(before) / len(before))


def lasted(row: Row, mine: list[Row]) -> float:
    """How long a field lasted."""
    told: Any = row.columns
    ends = [
        r.at - row.at
        for r in mine
        if r.columns["event"] == Event.MAGNETIC_FIELD_END and r.at >= row.at
    ]
    length = told["until"] - row.at if told["until"] else math.inf
    return min([length if math.isnan(told["seconds"]) else told["seconds"], *ends])


def at_moment(
    at: int, mine: list[Row], wide: list[Row], falls: dict[int, tuple[int, float]]
) -> Facts:
    """What counts at a moment."""
    so_far = [row for row in mine if row.at <= at]
    visited = max(
        (row.at for row in so_far if row.columns["event"] == Event.INSPECTED),
        default=-1,
    )
    fields = [
        row
        for row in so_far
        if row.columns["event"] == Event.MAGNETIC_FIELD and row.at > visited
    ]
    openings = [
        r for r in without_order(OPENING_EVENTS, mine, wide) if visited < r.at <= at
    ]
    long = [row for row in fields if lasted(row, mine) >= 60]
    failures = 0
    for row in so_far:
        if row.columns["event"] in (Event.RELAY_OPENED, Event.RELAY_CLOSED):
            failures = 0
        failures += row.columns["event"] == Event.RELAY_FAILED
    return {
        "at": at,
        "openings": len(openings),
        "failures": failures,
        "changes": len(
            [
                r
                for r in without_order((Event.PARAM_CHANGE,), mine, wide)
                if visited < r.at <= at
            ]
        ),
        "field_s": max(
            (min(lasted(row, mine), at - row.at) for row in fields), default=0
        ),
        "drop_opened": max(
            (falls[r.at][1] for r in openings if 0 < falls[r.at][0] <= at), default=0
        ),
        "drop_field": max(
            (falls[r.at][1] for r in long if 0 < falls[r.at][0] <= at), default=0
        ),
        "disturbances": len(
            [r for r in so_far if short(r) and r.at > at - DAY_SECONDS]
        ),
        "outages": len(
            [
                r
                for r in so_far
                if r.at > at - 30 * DAY_SECONDS and unplanned(r, mine, wide)
            ]
        ),
    }


def without_order(
    events: tuple[Event, ...], mine: list[Row], wide: list[Row]
) -> list[Row]:
    """What was done though nobody had been sent, a day before or after."""
    sent = [
        r
        for r in mine + wide
        if r.columns["event"] in (Event.WORK_ORDER, Event.INSPECTED, Event.METER_CHANGE)
    ]
    return [
        row
        for row in mine
        if row.columns["event"] in events
        and not any(
            v.at - DAY_SECONDS <= row.at <= max(v.at, v.columns["until"]) + DAY_SECONDS
            for v in sent
        )
    ]


def short(row: Row) -> bool:
    """Whether it is a short disturbance of the voltage."""
    told: Any = row.columns
    if told["event"] not in (
        Event.VOLTAGE_SAG,
        Event.VOLTAGE_SWELL,
        Event.INTERRUPTION,
    ):
        return False
    return 0.01 <= told["seconds"] <= 60 and (
        told["residual"] <= 0.9 or told["residual"] >= 1.1
    )


def unplanned(row: Row, mine: list[Row], wide: list[Row]) -> bool:
    """Whether it is an outage that was not planned, and of a meter not that of its whole area."""
    if row.columns["event"] != Event.POWER_OFF:
        return False
    for other in mine + wide:
        until = other.columns["until"] or other.at + DAY_SECONDS
        if (
            other.columns["event"] == Event.PLANNED_OUTAGE
            and other.at <= row.at <= until
        ):
            return False
    for other in wide:
        back = [
            w.at
            for w in wide
            if w.columns["event"] == Event.POWER_ON and w.at > other.at
        ]
        until = other.columns["until"] or min(back, default=other.at + DAY_SECONDS)
        if (
            other.columns["event"] == Event.POWER_OFF
            and other.at - 900 <= row.at <= until
        ):
            return False
    return True

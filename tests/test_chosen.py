"""Meters read on chosen days only are recognised, and missed only after longer than usual."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream, with_closing_readings
from tests.test_promises import agree, judge_stream, last

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai
HISTORY_DAYS = 150
READING_CALENDARS: dict[str, Callable[[int], bool]] = {
    "Mondays and Thursdays": lambda day: day % 7 in (0, 3),
    "Mondays": lambda day: day % 7 == 0,
    "every fifth day": lambda day: day % 5 == 0,
    "every month": lambda day: day % 30 == 0,
}


def read_on(days: dict[str, Iterable[int]]) -> Stream:
    """Meters of an area that send a day's energy at noon, each on its own days."""
    meters = [Meter(meter=meter, interval_s=DAY_SECONDS) for meter in days]
    plain = dict(
        u=np.full(3, NOT_A_NUMBER, np.float32),
        register=NOT_A_NUMBER,
        clock_offset=NOT_A_NUMBER,
        received=0,
        status=0,
    )
    rows = [
        Row(
            Readings,
            "A1",
            meter,
            START_TIME + day * DAY_SECONDS + 12 * HOUR_SECONDS,
            plain | {"kwh": np.float32(5)},
        )
        for meter, days_read in days.items()
        for day in days_read
    ]

    rows.sort(key=lambda row: (row.at, row.subject))
    return Stream([Area(area="A1", meters=meters)], tuple(rows), "Asia/Shanghai", 3600)


def raised(stream: Stream, rule: str) -> list[tuple[str, int]]:
    """The subjects of a rule's alerts and the days on which they were raised."""
    alerts = [
        alert
        for alert in last(judge_stream(stream)[1]).values()
        if alert.rule == rule and not alert.suppressed_by
    ]
    return sorted(
        (alert.subject, (alert.raised - START_TIME) // DAY_SECONDS) for alert in alerts
    )


@pytest.mark.parametrize("calendar", READING_CALENDARS)
def test_meter_is_missed_only_after_longer_than_usual(calendar: str):
    days_read = [day for day in range(HISTORY_DAYS) if READING_CALENDARS[calendar](day)]
    longest = max(later - earlier for earlier, later in pairwise(days_read))
    other_meters = {f"M{n}": range(HISTORY_DAYS) for n in range(1, 60)}
    usual = raised(read_on(other_meters | {"M0": days_read}), "read_failure")

    # unknown before the second reading
    assert all(day <= days_read[1] for _, day in usual)

    stopped = [day for day in days_read if day < 95]
    missed = [
        day
        for _, day in raised(read_on(other_meters | {"M0": stopped}), "read_failure")
        if day > days_read[1]
    ]

    assert len(missed) == 1
    assert stopped[-1] + longest < missed[0] <= stopped[-1] + 1.5 * longest + 5


def test_area_read_on_working_days_fails_when_it_stops_and_not_at_weekends():
    worked = [day for day in range(HISTORY_DAYS) if day % 7 < 5]
    stream = read_on({f"M{n}": worked for n in range(30)})
    assert [day for _, day in raised(stream, "read_success_rate") if day > 14] == []
    stops = [day for day in worked if not 100 <= day < 118]
    stream = read_on({f"M{n}": stops for n in range(30)})
    assert [day for _, day in raised(stream, "read_success_rate") if day > 14] == [102]


def test_the_slow_twin_agrees():
    days: dict[str, Iterable[int]] = {f"M{n}": range(HISTORY_DAYS) for n in range(4)}
    for name, chosen in READING_CALENDARS.items():
        days[name] = [day for day in range(HISTORY_DAYS) if chosen(day) and day != 70]
    agree(with_closing_readings(read_on(days), DAY_SECONDS))
    worked = [
        day for day in range(HISTORY_DAYS) if day % 7 < 5 and not 100 <= day < 118
    ]
    agree(
        with_closing_readings(read_on({f"M{n}": worked for n in range(8)}), DAY_SECONDS)
    )

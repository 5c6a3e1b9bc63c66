"""Device events over weeks: the use after them, when they become final, when they are forgotten."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import DeviceEvents, Event, Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import (
    Row,
    Stream,
    event_row,
    reading_columns,
    shuffled,
    with_closing_readings,
)
from tests.test_promises import (
    agree,
    engine_of,
    exactly,
    examples,
    judge_stream,
    last,
    same,
    ticked,
)

START_TIME, INTERVAL_SECONDS = 1_772_380_800, 4 * HOUR_SECONDS
OPENING_EVENTS = (Event.COVER_OPEN, Event.TERMINAL_OPEN, Event.DOOR_OPEN)


def weeks(seed: int, days: int = 28) -> Stream:
    """Meters of one area that are opened or exposed to a magnet; some use less afterwards."""
    rng = np.random.default_rng(seed)
    meters = [Meter(meter=f"M{n}", interval_s=INTERVAL_SECONDS) for n in range(5)]
    times = START_TIME + INTERVAL_SECONDS * np.arange(
        1, days * DAY_SECONDS // INTERVAL_SECONDS + 1
    )

    rows: list[Row] = []
    for meter in meters:
        at = START_TIME + int(rng.integers(5 * DAY_SECONDS, 12 * DAY_SECONDS))
        event = Event(rng.choice([*OPENING_EVENTS, Event.MAGNETIC_FIELD]))
        rows.append(event_row("A1", meter.meter, at, event))
        for further, chance in (
            (Event.WORK_ORDER, 0.2),
            (Event.INSPECTED, 0.3),
            (Event.COVER_OPEN, 0.5),
        ):
            if rng.random() < chance:
                then = at + int(rng.integers(-2 * DAY_SECONDS, 14 * DAY_SECONDS))
                rows.append(event_row("A1", meter.meter, then, further))

        amps = np.where(
            times > at + DAY_SECONDS, rng.choice([1.0, 0.65, 0.3]), 1.0
        ) * rng.normal(2, 0.1, len(times))
        i = np.vstack([amps, np.full((2, len(times)), np.nan)])
        columns = reading_columns(
            i, np.where(np.isnan(i), np.nan, 230.0), i * 0.23, INTERVAL_SECONDS
        )
        rows += [
            Row(Readings, "A1", meter.meter, int(time), row_columns)
            for time, row_columns in zip(times, columns, strict=True)
            if rng.random() > 0.02
        ]

    rows.sort(key=lambda row: row.at)
    return with_closing_readings(
        Stream(
            [Area(area="A1", meters=meters)],
            tuple(rows),
            "Asia/Shanghai",
            INTERVAL_SECONDS,
        ),
        DAY_SECONDS,
    )


def incidents(alerts):
    """The alerts that come from device events."""
    return [alert for alert in alerts if alert.kind == "incidents"]


def test_openings_and_magnets_in_the_streams_escalate():
    severities = Counter(
        (alert.rule, alert.severity)
        for seed in range(4)
        for alert in last(judge_stream(weeks(seed))[1]).values()
    )
    assert all(
        severities[rule, 1] for rule in ("seal_or_cover_event", "magnetic_field")
    )


@examples(3)
@given(seed=st.integers(0, 1000))
def test_any_cut_publishes_exactly_the_same(seed: int):
    stream = weeks(seed)
    alerts = exactly(judge_stream(stream)[1])
    for cuts in (
        range(len(stream.rows)),
        np.random.default_rng(seed).integers(0, len(stream.rows), 20).tolist(),
    ):
        assert exactly(judge_stream(stream, cuts)[1]) == alerts


@examples(3)
@given(seed=st.integers(0, 1000))
def test_order_restarts_and_the_slow_twin(seed: int):
    stream = weeks(seed)
    expected = judge_stream(stream)[1]
    agree(stream, expected)
    same(
        incidents(judge_stream(shuffled(stream, seed, 20 * HOUR_SECONDS))[1]),
        incidents(expected),
    )
    same(
        incidents(ticked(stream, 7 * HOUR_SECONDS, stream.rows[-1].at)),
        incidents(expected),
    )
    engine, alerts = engine_of(stream), []

    for batch in stream.batches(range(0, len(stream.rows), 97)):
        saved, engine = engine.snapshot(), engine_of(stream)
        engine.restore(saved)
        alerts += engine.step(batch)

    assert exactly(alerts) == exactly(expected)


def reporting(*rows: Row) -> Stream:
    """A quiet meter with its events in order of arrival, among its readings of a third of a year."""
    area = Area(
        area="A1",
        meters=[
            Meter(meter="M1", interval_s=DAY_SECONDS),
            Meter(meter="M2", interval_s=DAY_SECONDS),
        ],
    )
    read = [
        Row(
            Readings,
            "A1",
            meter,
            START_TIME + DAY_SECONDS * n,
            {"kwh": np.float32(5), "received": 0, "status": 0},
        )
        for n in range(1, 120)
        for meter in ("M1", "M2")
    ]

    arrivals = sorted([*read, *rows], key=lambda row: row.at)
    return Stream([area], tuple(arrivals), "Asia/Shanghai", DAY_SECONDS // 24)


def day(n: float, event: Event, **more: float) -> Row:
    return event_row("A1", "M1", START_TIME + round(n * DAY_SECONDS), event, **more)


def test_opening_stays_open_until_it_is_inspected():
    stream = reporting(day(1.3, Event.COVER_OPEN), day(110.5, Event.INSPECTED))
    alerts = incidents(judge_stream(stream)[1])
    assert [alert.change for alert in alerts] == ["raised", "cleared"]
    assert alerts[-1].at == START_TIME + round(110.5 * DAY_SECONDS)
    assert exactly(
        incidents(judge_stream(stream, range(len(stream.rows)))[1])
    ) == exactly(alerts)


def test_inspected_incidents_are_forgotten():
    engine, alerts = judge_stream(
        reporting(day(1.3, Event.COVER_OPEN), day(3.5, Event.INSPECTED))
    )
    assert [alert.change for alert in incidents(alerts)] == ["raised", "cleared"]
    assert not engine.timelines.reports.items
    assert len(engine.indexes.reporting.free) == 1


def test_chattering_contact_stays_bounded_and_publishes_the_same_in_any_order():
    rows = [day(2 + n / 5000, Event.TERMINAL_OPEN) for n in range(300)]
    engine, alerts = judge_stream(reporting(*rows, day(30.5, Event.INSPECTED)))
    assert len(engine.timelines.reports.items) <= 1

    backward = reporting(*rows, day(30.5, Event.INSPECTED))
    events = sorted(
        (
            row
            for row in backward.rows
            if row.kind is DeviceEvents and row.at < START_TIME + 3 * DAY_SECONDS
        ),
        key=lambda row: -row.at,
    )
    other_rows = [row for row in backward.rows if row not in events]
    after = next(
        n for n, row in enumerate(other_rows) if row.at > START_TIME + 2 * DAY_SECONDS
    )
    disordered = [*other_rows[:after], *events, *other_rows[after:]]
    again = judge_stream(backward.with_rows(disordered))[1]
    same(incidents(again), incidents(alerts))


def test_report_of_long_ago_is_late():
    stream = reporting(day(1.3, Event.COVER_OPEN))
    event = next(row for row in stream.rows if row.kind is DeviceEvents)
    engine, alerts = judge_stream(
        stream.with_rows([*(row for row in stream.rows if row is not event), event])
    )
    assert engine.counts["events", "late", ""] == 1
    assert not incidents(alerts)


def test_two_phases_of_one_sag_are_two_records():
    sag = {"seconds": 0.2}
    rows = [
        day(2.3, Event.VOLTAGE_SAG, residual=depth, **sag)
        for depth in (0.5, 0.6, 0.7, 0.7)
    ]
    engine, alerts = judge_stream(reporting(*rows))
    assert engine.counts["events", "duplicate", ""] == 1
    assert [
        alert.severity for alert in incidents(alerts) if alert.change != "cleared"
    ] == [2]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Event.COVER_OPEN, "3.12.141.212"),
        (Event.PARAM_CHANGE, "3.7.31.24"),
        (Event.DOOR_OPEN, ""),
    ],
)
def test_an_alert_carries_the_code_of_its_event(event, code):
    (alert,) = incidents(judge_stream(reporting(day(2.3, event)))[1])
    assert alert.code == code

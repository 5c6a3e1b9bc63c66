"""Days of 23 and 25 hours, wrong clocks, and office rows with event times years ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from schemas.alert import Alert
from schemas.columns import (
    Batch,
    Event,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
)
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.wire import decode, encode
from tests.adversarial import Row, Stream, event_row, town, with_closing_readings
from tests.fuzz import bounded
from tests.outcomes import balanced, count_outcomes
from tests.test_promises import judge_stream, same

QUARTER_SECONDS = 900
THREE_METER_AREA = Area(
    area="A1", meters=[Meter(meter=name) for name in ("M0", "M1", "M2")]
)
START_TIME = int(datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp())
# 2000, 2038, the next, 2099
OTHER_YEARS = [
    946_684_800,
    2**31,
    START_TIME + 365 * DAY_SECONDS,
    4_102_444_799,
]


def engine_of(zone: str = "Asia/Shanghai") -> Engine:
    engine = Engine(zone=zone)
    engine.enroll([THREE_METER_AREA])
    return engine


def readings(
    first: int, count: int, ahead: dict[str, int] | None = None, received: int = 1
) -> Readings:
    """1 kWh of every meter per quarter-hour; some clocks are ahead."""
    names = [meter.meter for meter in THREE_METER_AREA.meters]
    true = np.repeat(first + QUARTER_SECONDS * np.arange(1, count + 1), len(names))
    subject = np.tile(np.arange(len(names)), count)
    shift = np.array([(ahead or {}).get(name, 0) for name in names])[subject]
    return Readings.build(
        names,
        subject,
        ["A1"],
        np.zeros(len(true)),
        true + shift,
        kwh=np.ones(len(true)),
        received=true * received,
    )


def closed(
    engine: Engine, batches: Iterable[Batch]
) -> list[tuple[int, list[float], list[float], list[float]]]:
    """The days that close while an engine judges the batches: end, and the meters' kWh, coverage and reads."""
    days: list[Any] = []
    day_judge = engine.judges.revisable["days"]
    judge = day_judge.close

    def close(rows: Any, *more: Any) -> list[Alert]:
        for end in np.unique(rows.at).tolist():
            day = rows.select(rows.at == end)
            days.append(
                (end, day.kwh.tolist(), day.coverage.tolist(), day.reads.tolist())
            )
        return judge(rows, *more)

    day_judge.close = close  # type: ignore[method-assign,assignment]
    for batch in batches:
        engine.step(batch)
        balanced(count_outcomes(engine))
    return days


@pytest.mark.parametrize(
    ("zone", "day", "quarters"),
    [
        ("Europe/Berlin", (2025, 3, 30), 92),
        ("Europe/Berlin", (2025, 10, 26), 100),
        ("America/St_Johns", (2025, 3, 9), 92),
        ("America/St_Johns", (2025, 11, 2), 100),
        ("Australia/Lord_Howe", (2025, 4, 6), 98),  # half an hour
        ("Asia/Shanghai", (2025, 3, 30), 96),
    ],
)
def test_day_length_follows_the_time_zone(zone, day, quarters):
    year, month, first = day
    start = int(datetime(year, month, first, tzinfo=ZoneInfo(zone)).timestamp())
    rows = readings(start, quarters + 96)
    days = closed(
        engine_of(zone),
        [rows.select(slice(n, n + 30)) for n in range(0, len(rows), 30)],
    )
    assert days[0] == (
        start + quarters * QUARTER_SECONDS,
        [quarters] * 3,
        [1] * 3,
        [quarters] * 3,
    )


def test_readings_of_the_repeated_hour_are_no_duplicates():
    start = int(datetime(2025, 10, 26, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    engine = engine_of("Europe/Berlin")
    engine.step(readings(start, 100))
    assert {outcome for (_, outcome, _), rows in engine.counts.items() if rows} == {
        "in",
        "judged",
    }


def test_clock_a_day_ahead_raises_an_alert_and_moves_no_other_meter():
    sound, astray = engine_of(), engine_of()
    days = closed(sound, [readings(START_TIME, 300)])
    windows = closed(
        astray, [readings(START_TIME, 300, {"M2": DAY_SECONDS}, received=0)]
    )

    others_seen = [
        [(end, kwh[:2], coverage[:2]) for end, kwh, coverage, _ in closed_days]
        for closed_days in (windows, days)
    ]
    assert others_seen[0] == others_seen[1]
    assert len(days) == 3

    alerts = engine_of().step(
        readings(START_TIME, 300, {"M2": DAY_SECONDS + HOUR_SECONDS}, received=0)
    )
    assert {
        (alert.rule, alert.subject) for alert in alerts if alert.rule == "clock_drift"
    } == {("clock_drift", "M2")}


class TestAClockThatWentBack:
    """Late readings with their receipt time: a slow clock raises an alert, a backlog that is sent on does not."""

    @staticmethod
    def alerts(lag: Iterable[int]) -> list[tuple[str, str]]:
        """The alerts of M1 if its hourly readings are received so many seconds after their event times."""
        engine = engine_of()
        engine.step(readings(START_TIME, 8))
        engine.step(readings(START_TIME + 20 * DAY_SECONDS, 8))
        received = (
            START_TIME
            + 20 * DAY_SECONDS
            + 9 * QUARTER_SECONDS
            + HOUR_SECONDS * np.arange(6)
        )
        at = received - np.array(list(lag))
        rows = Readings.build(
            ["M1"],
            np.zeros(6),
            ["A1"],
            np.zeros(6),
            at,
            kwh=np.ones(6),
            received=received,
        )

        return [
            (alert.rule, alert.subject)
            for alert in engine.step(rows)
            if alert.rule == "clock_drift"
        ]

    def test_raises_an_alert(self):
        assert self.alerts([10 * DAY_SECONDS] * 6) == [("clock_drift", "M1")]

    def test_raises_an_alert_though_times_are_rounded(self):
        assert self.alerts([10 * DAY_SECONDS + n % 2 * 60 for n in range(6)]) == [
            ("clock_drift", "M1")
        ]

    def test_is_not_a_backlog_that_catches_up(self):
        assert (
            self.alerts([10 * DAY_SECONDS - n * HOUR_SECONDS for n in range(6)]) == []
        )

    def test_is_not_a_backlog_of_a_meter_without_later_times(self):
        engine = engine_of()
        engine.step(readings(START_TIME, 8))
        others = readings(START_TIME + 20 * DAY_SECONDS, 8)
        engine.step(others.select(others.subject != 1))
        received = (
            START_TIME
            + 20 * DAY_SECONDS
            + 9 * QUARTER_SECONDS
            + HOUR_SECONDS * np.arange(6)
        )
        queued = Readings.build(
            ["M1"],
            np.zeros(6),
            ["A1"],
            np.zeros(6),
            received - 10 * DAY_SECONDS,
            kwh=np.ones(6),
            received=received,
        )

        assert not [
            alert for alert in engine.step(queued) if alert.rule == "clock_drift"
        ]


@pytest.mark.parametrize(
    "ahead", [HOUR_SECONDS, DAY_SECONDS, 365 * DAY_SECONDS, 2**31 - START_TIME]
)
def test_reading_from_the_future_is_rejected_by_its_receipt_time(ahead):
    engine, alerts = engine_of(), []
    for first in range(START_TIME, START_TIME + 2 * DAY_SECONDS, QUARTER_SECONDS):
        ahead_rows = readings(first, 1, {"M2": ahead}, received=0)
        sent = [
            (key, value, "", first + QUARTER_SECONDS)
            for key, value, _ in encode(ahead_rows, "single")
        ]
        batch, refusals = decode(Readings, sent)
        assert batch is not None
        assert not refusals
        alerts += engine.step(batch)

    assert engine.counts["readings", "rejected", "future"] == 192
    assert engine.counts["readings", "judged", ""] == 2 * 192
    assert {(alert.rule, alert.subject) for alert in alerts} >= {("clock_drift", "M2")}
    assert engine.areas.watermarks.tolist() == [START_TIME + 2 * DAY_SECONDS]

    balanced(count_outcomes(engine))


def ghosts(stream: Stream, seed: int) -> Stream:
    """An unknown subject in every area, with event times of other years on every topic but readings."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for row in stream.rows:
        rows.append(row)
        if rng.random() < 0.1 and row.kind is not Readings:
            at = int(rng.choice(OTHER_YEARS))
            columns = row.columns | ({"due": at} if row.kind is Payments else {})
            rows.append(replace(row, subject="ghost", at=at, columns=columns))
        elif rng.random() < 0.01:
            at = int(rng.choice(OTHER_YEARS))
            event = Event(
                rng.choice(
                    [
                        Event.VACANCY,
                        Event.METER_CHANGE,
                        Event.COVER_OPEN,
                        Event.CLOCK_SET,
                    ]
                )
            )
            rows.append(event_row(row.area, "ghost", at, event))

    return stream.with_rows(rows)


def worked_on(stream: Stream) -> Stream:
    """Two more items of every section, so that every due alert is published whichever item is the latest."""
    sections = dict.fromkeys(row.area for row in stream.rows if row.kind is Stages)
    columns = {
        "stage": "unheard of",
        "progress": StageProgress.STARTED,
        "limit": np.nan,
    }
    at = max(row.at for row in stream.rows) + DAY_SECONDS

    more = [
        Row(Stages, section, item, at, columns)
        for section in sections
        for item in ("E1", "E2")
    ]
    return stream.with_rows([*stream.rows, *more])


def others(alerts: list[Alert]) -> list[Alert]:
    """The alerts of subjects that are no ghosts; a channel's failures concern everybody."""
    return [
        alert
        for alert in alerts
        if alert.subject.split("/")[0] != "ghost"
        and alert.rule != "payment_failure_burst"
    ]


@bounded(6)
@given(st.integers(0, 10_000))
def test_one_customer_item_or_device_with_times_of_other_years_harms_nobody(seed):
    stream = worked_on(with_closing_readings(town(seed), DAY_SECONDS))
    same(others(judge_stream(ghosts(stream, seed))[1]), others(judge_stream(stream)[1]))


def stage(item: str, at: int, progress: StageProgress) -> Stages:
    return Stages.build(
        [item],
        [0],
        ["S1"],
        [0],
        [at],
        stages=["review"],
        stage=[0],
        progress=[progress],
        limit=[HOUR_SECONDS],
    )


@pytest.mark.parametrize("future", OTHER_YEARS[1:])
def test_items_of_future_years_are_rejected_and_harm_no_section(future):
    def watched(batches: Iterable[Stages], now: int) -> Engine:
        engine = Engine()
        for batch in batches:
            messages = [
                (key, value, content, now)
                for key, value, content in encode(batch, "single")
            ]
            decoded, _ = decode(Stages, messages)
            if decoded:
                alerts.extend(engine.step(decoded))
        return engine

    alerts: list[Alert] = []
    work = [
        stage(f"W{n}", START_TIME + n * HOUR_SECONDS, StageProgress.STARTED)
        for n in range(20)
    ]
    engine = watched(
        [
            stage("X1", future, StageProgress.STARTED),
            stage("X2", future, StageProgress.STARTED),
            *work,
        ],
        START_TIME + DAY_SECONDS,
    )

    assert engine.counts["stages", "judged", ""] == 20
    assert engine.counts["stages", "late", ""] == 0
    # the watermark is the second-highest event time
    due = {f"W{n}/review" for n in range(18)}
    assert {alert.subject for alert in alerts} == due


@pytest.mark.parametrize("at", [0, 1, 100_000, 946_684_799, 4_102_444_800, 2**40])
def test_office_rows_of_implausible_time_are_rejected(at):
    engine = Engine()
    paid = Payments.build(
        ["C1"],
        [0],
        ["A1"],
        [0],
        [at],
        payment=[Payment.PAYMENT],
        amount=[1.0],
        succeeded=[0],
    )

    for batch in (paid, stage("W1", at, StageProgress.STARTED)):
        assert engine.step(batch) == []
        assert engine.counts[batch.kind, "rejected", "implausible_time"] == 1
        assert [reason for _, reason in engine.rejected] == ["implausible_time"]

    balanced(count_outcomes(engine))
    assert not engine.areas.watermarks.any()


def test_days_uploaded_late_withdraw_their_read_failure():
    engine, rows = engine_of(), readings(START_TIME, 6 * 96, received=0)
    late = (
        (rows.subject == 2)
        & (rows.at > START_TIME + DAY_SECONDS)
        & (rows.at <= START_TIME + 4 * DAY_SECONDS)
    )
    before = rows.at <= START_TIME + 4 * DAY_SECONDS + 2 * HOUR_SECONDS
    missed = engine.step(rows.select(before & ~late))
    missing = [("read_failure", "M2")]  # alone, so its area has no low reading success

    raised = [(*key, "raised") for key in missing]
    assert [(alert.rule, alert.subject, alert.state) for alert in missed] == raised

    alerts = missed + engine.step(rows.select(late)) + engine.step(rows.select(~before))
    taken_back = sorted(
        (alert.rule, alert.subject, alert.state) for alert in alerts[len(missing) :]
    )

    assert taken_back == sorted((*key, "withdrawn") for key in missing)

    same(alerts, engine_of().step(rows))
    assert engine.counts["readings", "late", ""] == 0

    balanced(count_outcomes(engine))

"""Time as it comes: days of 23 and 25 hours, clocks that are wrong, and what the office stamps with years to come."""

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
from schemas.columns import Batch, Event, Payment, Payments, Progress, Readings, Stages
from schemas.master import Area, Meter
from schemas.wire import decode_readings, decode_stages, encode_readings, encode_stages
from tests.fates import balanced, fates
from tests.fuzz import bounded
from tests.hostile import DAY, HOUR, Row, Stream, event_row, quieted, town
from tests.test_promises import same, watch

QUARTER = 900
AREA = Area(area="A1", meters=[Meter(meter=name) for name in ("M0", "M1", "M2")])
START = int(datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp())
YEARS = [946_684_800, 2**31, START + 365 * DAY, 4_102_444_799]  # 2000, 2038, the next, 2099


def engine_of(zone: str = "Asia/Shanghai") -> Engine:
    engine = Engine(zone=zone)
    engine.enroll([AREA])
    return engine


def readings(first: int, count: int, ahead: dict[str, int] | None = None, received: int = 1) -> Readings:
    """A kilowatt hour of every meter a quarter-hour; some clocks are ahead."""
    names = [meter.meter for meter in AREA.meters]
    true = np.repeat(first + QUARTER * np.arange(1, count + 1), len(names))
    subject = np.tile(np.arange(len(names)), count)
    shift = np.array([(ahead or {}).get(name, 0) for name in names])[subject]
    return Readings.build(names, subject, ["A1"], np.zeros(len(true)), true + shift, kwh=np.ones(len(true)),
                          received=true * received)  # fmt: skip


def closed(engine: Engine, batches: Iterable[Batch]) -> list[tuple[int, list[float], list[float], list[float]]]:
    """The days that close while an engine sees the batches: when each ends, and its meters' kWh, coverage and reads."""
    days: list[Any] = []
    judge = engine.days.close

    def close(rows: Any, *more: Any) -> list[Alert]:
        for end in np.unique(rows.at).tolist():
            day = rows.rows(rows.at == end)
            days.append((end, day.kwh.tolist(), day.coverage.tolist(), day.reads.tolist()))
        return judge(rows, *more)

    engine.days.close = close  # type: ignore[method-assign,assignment]
    for batch in batches:
        engine.step(batch)
        balanced(fates(engine))
    return days


@pytest.mark.parametrize(("zone", "day", "quarters"), [
    ("Europe/Berlin", (2025, 3, 30), 92),
    ("Europe/Berlin", (2025, 10, 26), 100),
    ("America/St_Johns", (2025, 3, 9), 92),
    ("America/St_Johns", (2025, 11, 2), 100),
    ("Australia/Lord_Howe", (2025, 4, 6), 98),  # half an hour
    ("Asia/Shanghai", (2025, 3, 30), 96),
])  # fmt: skip
def test_a_day_is_as_long_as_it_is_where_the_meters_are(zone, day, quarters):
    year, month, first = day
    start = int(datetime(year, month, first, tzinfo=ZoneInfo(zone)).timestamp())
    whole = readings(start, quarters + 96)
    days = closed(engine_of(zone), [whole.rows(slice(n, n + 30)) for n in range(0, len(whole), 30)])
    assert days[0] == (start + quarters * QUARTER, [quarters] * 3, [1] * 3, [quarters] * 3)


def test_no_reading_of_the_hour_that_comes_twice_counts_as_a_repeat():
    start = int(datetime(2025, 10, 26, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    engine = engine_of("Europe/Berlin")
    engine.step(readings(start, 100))
    assert {outcome for (_, outcome, _), rows in engine.counts.items() if rows} == {"in", "judged"}


def test_a_clock_a_day_ahead_is_told_and_moves_no_other():
    right, wrong = engine_of(), engine_of()
    days = closed(right, [readings(START, 300)])
    seen = closed(wrong, [readings(START, 300, {"M2": DAY}, received=0)])
    assert [(end, kwh[:2], coverage[:2]) for end, kwh, coverage, _ in seen] == [
        (end, kwh[:2], coverage[:2]) for end, kwh, coverage, _ in days]  # fmt: skip
    assert len(days) == 3
    told = engine_of().step(readings(START, 300, {"M2": DAY + HOUR}, received=0))
    assert {(alert.rule, alert.subject) for alert in told if alert.rule == "clock_drift"} == {("clock_drift", "M2")}


class TestAClockThatWentBack:
    """Late readings with their receipt: a clock that is behind is told, what was held back and sent on is not."""

    @staticmethod
    def told(lag: Iterable[int]) -> list[tuple[str, str]]:
        """What is told of M1 once its readings, an hour apart, are received so many seconds after their stamps."""
        engine = engine_of()
        engine.step(readings(START, 8))
        engine.step(readings(START + 20 * DAY, 8))
        received = START + 20 * DAY + 9 * QUARTER + HOUR * np.arange(6)
        at = received - np.array(list(lag))
        rows = Readings.build(["M1"], np.zeros(6), ["A1"], np.zeros(6), at, kwh=np.ones(6), received=received)
        return [(alert.rule, alert.subject) for alert in engine.step(rows) if alert.rule == "clock_drift"]

    def test_is_told(self):
        assert self.told([10 * DAY] * 6) == [("clock_drift", "M1")]

    def test_is_told_though_stamps_are_rounded(self):
        assert self.told([10 * DAY + n % 2 * 60 for n in range(6)]) == [("clock_drift", "M1")]

    def test_is_not_what_is_sent_on_ever_less_late(self):
        assert self.told([10 * DAY - n * HOUR for n in range(6)]) == []

    def test_is_not_what_has_not_been_before_the_meters_own_stamps(self):
        engine = engine_of()
        engine.step(readings(START, 8))
        others = readings(START + 20 * DAY, 8)
        engine.step(others.rows(others.subject != 1))
        received = START + 20 * DAY + 9 * QUARTER + HOUR * np.arange(6)
        queued = Readings.build(["M1"], np.zeros(6), ["A1"], np.zeros(6), received - 10 * DAY, kwh=np.ones(6),
                                received=received)  # fmt: skip
        assert not [alert for alert in engine.step(queued) if alert.rule == "clock_drift"]



@pytest.mark.parametrize("ahead", [HOUR, DAY, 365 * DAY, 2**31 - START])
def test_a_reading_from_the_future_is_set_aside_by_when_the_broker_got_it(ahead):
    engine, told = engine_of(), []
    for first in range(START, START + 2 * DAY, QUARTER):
        wrong = readings(first, 1, {"M2": ahead}, received=0)
        sent = [(key, value, "", first + QUARTER) for key, value, _ in encode_readings(wrong, "single")]
        batch, refusals = decode_readings(sent)
        assert batch is not None
        assert not refusals
        told += engine.step(batch)
    assert engine.counts["readings", "rejected", "future"] == 192
    assert engine.counts["readings", "judged", ""] == 2 * 192
    assert {(alert.rule, alert.subject) for alert in told} >= {("clock_drift", "M2")}
    assert engine.clock.tolist() == [START + 2 * DAY]
    balanced(fates(engine))


def ghosts(stream: Stream, seed: int) -> Stream:
    """In every area somebody nobody knows, with stamps of other years on every topic but that of readings."""
    g = np.random.default_rng(seed)
    rows: list[Row] = []
    for row in stream.rows:
        rows.append(row)
        if g.random() < 0.1 and row.kind is not Readings:
            at = int(g.choice(YEARS))
            columns = row.columns | ({"due": at} if row.kind is Payments else {})
            rows.append(replace(row, subject="ghost", at=at, columns=columns))
        elif g.random() < 0.01:
            at = int(g.choice(YEARS))
            event = Event(g.choice([Event.VACANCY, Event.METER_CHANGE, Event.COVER_OPEN, Event.CLOCK_SET]))
            rows.append(event_row(row.area, "ghost", at, event))
    return stream.with_rows(rows)


def worked_on(stream: Stream) -> Stream:
    """Two more items of every section, so that whoever is the latest, all that is due by then has been told."""
    sections = dict.fromkeys(row.area for row in stream.rows if row.kind is Stages)
    columns = {"stage": "unheard of", "progress": Progress.STARTED, "limit": np.nan}
    at = max(row.at for row in stream.rows) + DAY
    return stream.with_rows([*stream.rows, *(Row(Stages, s, i, at, columns) for s in sections for i in ("E1", "E2"))])


def others(alerts: list[Alert]) -> list[Alert]:
    """What is told of those who are no ghosts; a channel's failures are everybody's."""
    return [a for a in alerts if a.subject.split("/")[0] != "ghost" and a.rule != "payment_failure_burst"]


@bounded(6)
@given(st.integers(0, 10_000))
def test_one_customer_item_or_device_with_stamps_of_other_years_harms_nobody(seed):
    stream = worked_on(quieted(town(seed), DAY))
    same(others(watch(ghosts(stream, seed))[1]), others(watch(stream)[1]))


def stage(item: str, at: int, progress: Progress) -> Stages:
    return Stages.build([item], [0], ["S1"], [0], [at], stages=["review"], stage=[0], progress=[progress], limit=[HOUR])


@pytest.mark.parametrize("wrong", YEARS[1:])
def test_several_items_of_years_to_come_are_refused_and_stop_no_section(wrong):
    def watched(batches: Iterable[Stages], now: int) -> Engine:
        engine = Engine()
        for batch in batches:
            messages = [(key, value, content, now) for key, value, content in encode_stages(batch, "single")]
            decoded, _ = decode_stages(messages)
            if decoded:
                told.extend(engine.step(decoded))
        return engine

    told: list[Alert] = []
    work = [stage(f"W{n}", START + n * HOUR, Progress.STARTED) for n in range(20)]
    engine = watched([stage("X1", wrong, Progress.STARTED), stage("X2", wrong, Progress.STARTED), *work], START + DAY)
    assert engine.counts["stages", "judged", ""] == 20
    assert engine.counts["stages", "late", ""] == 0
    assert {alert.subject for alert in told} == {f"W{n}/review" for n in range(18)}  # the clock is the second-latest


@pytest.mark.parametrize("at", [0, 1, 100_000, 946_684_799, 4_102_444_800, 2**40])
def test_what_the_office_stamps_with_no_time_at_all_is_set_aside(at):
    engine = Engine()
    paid = Payments.build(["C1"], [0], ["A1"], [0], [at], payment=[Payment.PAYMENT], amount=[1.0], succeeded=[0])
    for batch in (paid, stage("W1", at, Progress.STARTED)):
        assert engine.step(batch) == []
        assert engine.counts[batch.kind, "rejected", "implausible_time"] == 1
        assert [reason for _, reason in engine.rejected] == ["implausible_time"]
    balanced(fates(engine))
    assert not engine.clock.any()


def test_days_uploaded_late_take_the_failure_to_read_them_back():
    engine, whole = engine_of(), readings(START, 6 * 96, received=0)
    late = (whole.subject == 2) & (whole.at > START + DAY) & (whole.at <= START + 4 * DAY)
    before = whole.at <= START + 4 * DAY + 2 * HOUR
    missed = engine.step(whole.rows(before & ~late))
    missing = [("read_failure", "M2")]  # alone: no low reading success of its area
    assert [(a.rule, a.subject, a.state) for a in missed] == [(*who, "raised") for who in missing]
    told = missed + engine.step(whole.rows(late)) + engine.step(whole.rows(~before))
    taken_back = sorted((a.rule, a.subject, a.state) for a in told[len(missing) :])
    assert taken_back == sorted((*who, "withdrawn") for who in missing)
    same(told, engine_of().step(whole))
    assert engine.counts["readings", "late", ""] == 0
    balanced(fates(engine))

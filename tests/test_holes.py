"""Rows lost before they were judged: no alert says that their contents are missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from detectors.engine import Engine
from models.state.lost_rows import Holes, Span
from schemas.columns import (
    Batch,
    DeviceEvents,
    Event,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.chaos import adversarial_areas, portions
from tests.workers import last_states

START_TIME = 1_772_380_800
ABSENCE_RULES = {
    "payment_reconcile",
    "arrears_tier",
    "read_date_wrong",
    "stage_overdue",
    "stage_stall",
    "stage_disorder",
    "stage_batch_stuck",
    "seal_or_cover_event",
    "param_change_unordered",
    "magnetic_field",
    "relay_unanswered",
    "frequent_outage",
    "read_success_rate",
    "read_failure",
    "meter_runaway",
    "payment_failure_repeat",
    "low_balance",
}


def test_hole_lasts_a_day_beyond_the_first_row_after_it():
    holes = Holes()
    holes.open("payments", np.array([10, 20]))
    assert holes.spans_of("payments", 0) == [Span(10, 2**62)]
    # an area that was not known
    assert holes.spans_of("payments", 2) == [Span(0, 2**62)]
    assert holes.spans_of("stages", 0) == []

    holes.close("payments", np.array([2, 0, 2, 0]), np.array([70, 5, 50, 900]))
    assert holes.spans_of("payments", 0) == [Span(10, 10 + DAY_SECONDS)]
    assert holes.spans_of("payments", 1) == [Span(20, 2**62)]
    assert holes.spans_of("payments", 2) == [Span(0, 70 + DAY_SECONDS)]

    for _ in range(20):
        holes.open("payments", np.array([10**6]))
    assert len(holes.spans_of("payments", 1)) == 8
    assert holes.touch("payments", 0, 11, 12)


def paid(at: list[int], kinds: list[Payment], references: list[str]) -> Payments:
    """Payments of two customers in turn, since one alone moves no watermark."""
    count = len(at)

    return Payments.build(
        ["C0", "C1"],
        [n // 2 % 2 for n in range(count)],
        ["A1"],
        [0] * count,
        at,
        payment=kinds,
        amount=[10.0] * count,
        references=references,
        reference=list(range(count)),
        channels=["bank"],
        channel=[0] * count,
        succeeded=[1] * count,
    )


def standing_alerts(engine: Engine, *batches: Batch) -> Counter[tuple[str, str]]:
    """Rules and subjects of the alerts that are open in the end."""
    states = last_states(alert for batch in batches for alert in engine.step(batch))
    return Counter((alert["rule"], alert["subject"]) for alert in states.values())


def settling(first: int, last: int) -> Payments:
    """A payment every six hours, each settled three hours later."""
    hours = range(first, last, 6)
    at = [
        START_TIME + HOUR_SECONDS * hour + late
        for hour in hours
        for late in (0, 3 * HOUR_SECONDS)
    ]
    names = [f"R{hour}" for hour in hours for _ in range(2)]
    return paid(at, [Payment.PAYMENT, Payment.SETTLEMENT] * len(hours), names)


def lone_payment(hour: int, name: str) -> Payments:
    return paid([START_TIME + hour * HOUR_SECONDS], [Payment.PAYMENT], [name])


@pytest.mark.parametrize("lost", [True, False])
def test_settlement_that_may_be_lost_raises_no_alert(lost):
    engine = Engine()
    assert not standing_alerts(engine, settling(0, 240), lone_payment(240, "open"))

    if lost:
        engine.note_lost_rows(Payments)
        restored = Engine()
        restored.restore(engine.snapshot())
        engine = restored

    payments = (
        settling(402, 480),
        lone_payment(403, "near"),
        settling(480, 540),
        lone_payment(540, "later"),
        settling(546, 700),
    )
    alerts = standing_alerts(engine, *payments)
    unsure = [] if lost else ["C0/near", "C0/open"]

    assert sorted(
        subject for rule, subject in alerts if rule == "payment_reconcile"
    ) == ["C0/later", *unsure]


def test_alert_from_before_the_hole_stays_until_its_settlement_comes():
    engine = Engine()
    before = standing_alerts(
        engine, settling(0, 240), lone_payment(240, "open"), settling(246, 288)
    )
    assert before == {("payment_reconcile", "C0/open"): 1}
    engine.note_lost_rows(Payments)
    assert not [
        alert for alert in engine.step(settling(402, 480)) if alert.subject == "C0/open"
    ]
    [alert] = engine.step(
        paid([START_TIME + 481 * HOUR_SECONDS], [Payment.SETTLEMENT], ["open"])
    )
    assert (alert.subject, alert.change) == ("C0/open", "cleared")


def begun(*hours: int) -> Stages:
    """Work that begins at these hours and may take an hour."""
    names, count = [f"W{hour}" for hour in hours], len(hours)
    return Stages.build(
        names,
        list(range(count)),
        ["S1"],
        [0] * count,
        [START_TIME + hour * HOUR_SECONDS for hour in hours],
        stages=["review"],
        stage=[0] * count,
        progress=[StageProgress.STARTED] * count,
        limit=[3600.0] * count,
    )


@pytest.mark.parametrize("lost", [True, False])
def test_work_that_may_be_finished_is_not_overdue(lost):
    engine = Engine()
    assert not standing_alerts(engine, begun(0))
    if lost:
        engine.note_lost_rows(Stages)
    alerts = standing_alerts(engine, begun(6, 60, 61, 90, 91))
    overdue = {subject for rule, subject in alerts if rule == "stage_overdue"}
    assert overdue == {"W60/review", "W61/review"} | (
        {"W0/review", "W6/review"} if not lost else set()
    )


def reported(events: list[Event], at: list[int]) -> DeviceEvents:
    count = len(events)
    return DeviceEvents.build(
        ["M1"], [0] * count, ["A1"], [0] * count, at, event=events
    )


@pytest.mark.parametrize("lost", [True, False])
def test_meter_that_may_be_opened_by_order_is_not_suspected(lost):
    engine = Engine()
    engine.step(reported([Event.COVER_CLOSED], [START_TIME]))
    if lost:
        engine.note_lost_rows(DeviceEvents)
    alerts = standing_alerts(
        engine,
        reported([Event.COVER_OPEN], [START_TIME + HOUR_SECONDS]),
        reported([Event.BATTERY_LOW], [START_TIME + 3 * DAY_SECONDS]),
    )
    alerts += Counter(
        (alert.rule, alert.subject)
        for alert in engine.tick(START_TIME + 6 * DAY_SECONDS)
    )

    assert bool(alerts["seal_or_cover_event", "M1"]) != lost

    alerts = standing_alerts(
        engine, reported([Event.COVER_OPEN], [START_TIME + 9 * DAY_SECONDS])
    )
    alerts += Counter(
        (alert.rule, alert.subject)
        for alert in engine.tick(START_TIME + 12 * DAY_SECONDS)
    )

    assert alerts["seal_or_cover_event", "M1"] or not lost


def test_hole_in_adversarial_streams_raises_no_alert_for_lost_rows():
    stream = adversarial_areas(4, 5)
    cut = list(portions(stream, 6))

    def watch(
        cut_batches: list[list[Batch]], lost: int | None
    ) -> dict[str, dict[str, Any]]:
        engine = Engine(zone=stream.zone, interval=stream.interval)
        engine.enroll(stream.areas)
        alerts = []
        for n, portion in enumerate(cut_batches):
            if n == lost:
                for kind in (Readings, Payments, Stages, DeviceEvents):
                    engine.note_lost_rows(kind)
            alerts += [alert for batch in portion for alert in engine.step(batch)]
        return last_states(alerts)

    undisturbed = watch(cut, None)
    known = {
        (alert["rule"], alert["area"], alert["subject"])
        for alert in undisturbed.values()
    }

    def accused(lost: int | None) -> set[str]:
        states = watch(cut[:3] + cut[5:], lost)
        fresh = [states[key] for key in states.keys() - undisturbed.keys()]
        return {
            alert["rule"]
            for alert in fresh
            if (alert["rule"], alert["area"], alert["subject"]) not in known
        } & ABSENCE_RULES

    assert accused(3) == set()
    assert "payment_reconcile" in accused(None)

"""States that come and go by the hour are one episode, revised after a day and every week with its hours."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES, CHRONIC_CALM
from schemas.alert import Alert
from schemas.columns import Intervals, Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai
LIVE_KINDS = (Readings, Intervals)
CHRONIC_RULES = sorted(rule.name for rule in ALL_RULES.values() if rule.chronic)


def engine() -> Engine:
    watch = Engine([ALL_RULES["voltage_deviation"]])
    watch.enroll(
        [
            Area(
                area="A1",
                meters=[
                    Meter(meter="M1", wiring="1P2W"),
                    Meter(meter="M2", wiring="1P2W"),
                ],
            )
        ]
    )
    return watch


def nights(first: int, days: int, volts: float, hours: float) -> Readings:
    """Quarter-hours of days that begin with `hours` hours at a voltage."""
    at = START_TIME + first * DAY_SECONDS + 900 * np.arange(1, 96 * days + 1)
    low = (at - START_TIME) % DAY_SECONDS <= hours * HOUR_SECONDS
    low &= (at - START_TIME) % DAY_SECONDS > 0
    phase_volts = np.where(low, volts, 225.0)
    both = np.repeat(phase_volts, 2)
    absent = np.full(2 * len(at), np.nan)
    return Readings.build(
        ["M1", "M2"],
        np.tile([0, 1], len(at)),
        ["A1"],
        np.zeros(2 * len(at)),
        np.repeat(at, 2),
        u=np.stack([np.where(np.arange(2 * len(at)) % 2, 225.0, both), absent, absent]),
    )


def test_alert_gives_the_hours_of_seven_days():
    alerts = engine().step(nights(0, 15, 238.0, 6))
    assert [alert.change for alert in alerts] == ["raised", "revised", "revised"]
    assert "week_hours" not in alerts[0].evidence
    assert [alert.evidence["week_hours"] for alert in alerts[1:]] == [
        6.5,
        pytest.approx(6 * 6 + 0.75),
    ]
    assert alerts[1].en.endswith("It was so for 6.5 hours of the last seven days.")
    assert alerts[1].zh.endswith("近七天累计6.5小时。")


def test_hours_of_a_fortnight_ago_do_not_count():
    watch = engine()
    watch.step(nights(0, 2, 238.0, 12))
    [revised] = watch.step(nights(2, 8, 238.0, 1))
    assert revised.change == "revised"
    assert revised.evidence["week_hours"] <= 11  # of 32


def test_a_restored_engine_goes_on_counting():
    engine_kept, engine_restored = engine(), engine()
    for first in (0, 5):
        alerts = engine_kept.step(nights(first, 5, 238.0, 6))
        assert [
            alert.evidence for alert in engine_restored.step(nights(first, 5, 238.0, 6))
        ] == [alert.evidence for alert in alerts]
        saved, engine_restored = engine_kept.snapshot(), engine()
        engine_restored.restore(saved)


@pytest.mark.parametrize("name", CHRONIC_RULES)
def test_chronic_rule_is_live_and_waits_for_the_trouble_to_return(name):
    assert ALL_RULES[name].kind in LIVE_KINDS
    assert ALL_RULES[name].release >= CHRONIC_CALM


def test_no_rule_on_supply_or_load_raises_every_evening():
    """By family: an alert at every reading lasts for days, or is a fault that a visit ends."""
    faults = {
        "voltage_loss",
        "phase_break",
        "current_loss",
        "all_voltage_loss",
        "frequency_deviation",
        "reverse_sequence",
        "relay_mismatch",
        "meter_stopped",
    }
    brief = {
        rule.name
        for rule in ALL_RULES.values()
        if rule.kind in LIVE_KINDS and rule.release < DAY_SECONDS
    }

    assert brief == faults


def test_shown_alerts_have_one_id():
    alerts: list[Alert] = engine().step(nights(0, 9, 238.0, 6))
    assert len({alert.id for alert in alerts}) == 1

"""Meters that move between areas or are supplied again: open alerts end and new ones begin as they should."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai


def area(name: str, *meters: str) -> Area:
    return Area(
        area=name,
        meters=[
            Meter(meter=meter, wiring="1P2W", customer=f"C{meter}") for meter in meters
        ],
    )


def volts(name: str, first: int, **readings: float) -> Readings:
    """An hour of quarter-hours of several meters of an area."""
    count = len(readings)
    at = START_TIME + 900 * np.repeat(np.arange(first, first + 4), count)
    phase_volts = np.full((3, 4 * count), np.nan)
    phase_volts[0] = np.tile(list(readings.values()), 4)
    return Readings.build(
        list(readings),
        np.tile(np.arange(count), 4),
        [name],
        np.zeros(4 * count),
        at,
        u=phase_volts,
    )


@pytest.fixture
def engine() -> Engine:
    watch = Engine([ALL_RULES["voltage_deviation"]])
    watch.enroll([area("A1", "M1", "M2", "M3"), area("A2", "M7", "M8")])
    assert [
        alert.subject
        for alert in watch.step(volts("A1", 1, M1=240.0, M2=225.0, M3=225.0))
    ] == ["M1"]
    return watch


def changes_of(alerts: list[Alert]) -> list[tuple[str, str, str]]:
    return [(alert.area, alert.subject, alert.change) for alert in alerts]


class TestAMeterThatIsMoved:
    def test_ends_in_the_old_area_and_begins_in_the_new(self, engine):
        engine.enroll([area("A1", "M2", "M3"), area("A2", "M1", "M7", "M8")])
        [ended] = engine.step(volts("A1", 5, M2=225.0, M3=225.0))
        assert changes_of([ended]) == [("A1", "M1", "cleared")]
        assert ended.en.endswith("The meter has left the area.")
        assert ended.at == START_TIME + 4 * 900

        assert changes_of(
            engine.step(volts("A2", 5, M1=240.0, M7=225.0, M8=225.0))
        ) == [("A2", "M1", "raised")]
        assert changes_of(engine.step(volts("A1", 9, M2=225.0, M3=225.0))) == []

    def test_clears_once_by_an_engine_restored_in_between(self, engine):
        areas = [area("A1", "M2", "M3"), area("A2", "M1", "M7", "M8")]
        engine.enroll(areas)
        restored = Engine([ALL_RULES["voltage_deviation"]])
        restored.enroll(areas)
        restored.restore(engine.snapshot())
        rows = volts("A1", 5, M2=225.0, M3=225.0)
        assert (
            changes_of(restored.step(rows))
            == changes_of(engine.step(rows))
            == [("A1", "M1", "cleared")]
        )

    def test_has_a_new_alert_when_it_comes_back(self, engine):
        engine.enroll([area("A1", "M2", "M3")])
        engine.step(volts("A1", 5, M2=225.0, M3=225.0))
        engine.enroll([area("A1", "M1", "M2", "M3")])
        [raised_again] = engine.step(volts("A1", 9, M1=240.0, M2=225.0, M3=225.0))
        assert (raised_again.change, raised_again.since) == (
            "raised",
            START_TIME + 9 * 900,
        )

    def test_is_not_a_meter_whose_record_is_repeated_or_changed(self, engine):
        engine.enroll([area("A1", "M1", "M2", "M3")])
        engine.enroll([area("A1", "M1", "M2", "M3", "M4")])
        assert engine.step(volts("A1", 5, M1=240.0, M2=225.0, M3=225.0)) == []
        engine.enroll([area("A1", "M1", "M2")])  # another meter has left
        assert engine.step(volts("A1", 9, M1=240.0, M2=225.0)) == []


def use(first_day: int, days: int, kwh: float) -> Readings:
    """Hours of two meters; the second uses as much as always."""
    at = (
        START_TIME
        + first_day * DAY_SECONDS
        + 3600 * np.repeat(np.arange(1, 24 * days + 1), 2)
    )
    both = np.tile([kwh, 0.5], 24 * days)
    register = (
        np.tile([0.0, 0.0], 24 * days)
        + 1000
        + np.repeat(np.arange(24 * days), 2) * both
        + first_day * 24 * both
    )

    return Readings.build(
        ["M1", "M2"],
        np.tile([0, 1], 24 * days),
        ["A1"],
        np.zeros(48 * days),
        at,
        kwh=both,
        register=register,
    )


def supplied(**stopped: int) -> Area:
    """Two meters; the first is stopped and supplied again at these times."""
    records = [
        Meter(meter="M1", customer="C1", interval_s=3600),
        Meter(meter="M2", customer="C2", interval_s=3600),
    ]
    if "stopped" in stopped:
        records.append(
            Meter(
                meter="M1",
                customer="C1",
                interval_s=3600,
                effective=stopped["stopped"],
                stopped=stopped["stopped"],
            )
        )

    if "resumed" in stopped:
        records.append(
            Meter(
                meter="M1", customer="C1", interval_s=3600, effective=stopped["resumed"]
            )
        )

    return Area(area="A1", meters=records)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_supply_that_is_resumed_may_be_used(resumed):
    engine = Engine([ALL_RULES["use_after_stop"]], interval=3600)
    times = {"stopped": START_TIME + 2 * DAY_SECONDS} | (
        {"resumed": START_TIME + 4 * DAY_SECONDS} if resumed else {}
    )
    engine.enroll([supplied(**times)])
    alerts = (
        engine.step(use(0, 2, 0.5))
        + engine.step(use(2, 2, 0.0))
        + engine.step(use(4, 5, 0.5))
    )
    assert bool(alerts) is not resumed

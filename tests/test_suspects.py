"""Suspects of a loss: the promises of the core over weeks, and the meaning of the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from models.meters.suspects import compared, ranks, rise
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from tests.adversarial import (
    Row,
    Stream,
    duplicated,
    reading_columns,
    shuffled,
    straggling,
    with_closing_readings,
)
from tests.test_promises import agree, exactly, judge_stream, restored, same

START_TIME = 1_772_380_800
STEP_SECONDS = 21_600
DAY_COUNT = 44
USER_COUNT = 7
PER_DAY = DAY_SECONDS // STEP_SECONDS
LOSS_RULE = "area_loss_correlation"


def weeks(seed: int) -> Stream:
    """Two areas: one user registers a third for a while, another has always registered half."""
    rng = np.random.default_rng(seed)
    areas, rows = [], []
    for name in ("A1", "A2"):
        used = (
            8
            * np.exp(rng.normal(0, 0.4, (USER_COUNT, DAY_COUNT, 1)))
            * rng.uniform(0.6, 1.4, (USER_COUNT, DAY_COUNT, PER_DAY))
        )
        used[2] *= 3
        registered = used.copy()

        if name == "A1":
            registered[2, 18:33] *= 0.33
        else:
            registered[2] *= 0.5

        through = used.sum(axis=0) * (1.02 + 0.00001 * used.sum(axis=0))
        meters = [Meter(meter=f"{name}G", wiring="3P4W", interval_s=STEP_SECONDS)]
        meters += [
            Meter(meter=f"M{k}", interval_s=STEP_SECONDS, pv_kva=3.0 * (k == 6))
            for k in range(USER_COUNT)
        ]
        areas.append(Area(area=name, gateway=f"{name}G", meters=meters))

        for meter, kwh in zip(meters, (through, *registered), strict=True):
            power = np.full((3, DAY_COUNT * PER_DAY), np.nan)
            power[0] = kwh.reshape(-1) * 3600 / STEP_SECONDS
            lost = rng.random(DAY_COUNT * PER_DAY) < 0.001
            if meter.meter == "M4":
                lost[25 * PER_DAY : 26 * PER_DAY] = True

            volts = np.full_like(power, 230.0)
            readings = reading_columns(power / 0.23, volts, power, STEP_SECONDS)
            for n, columns in enumerate(readings):
                if not lost[n]:
                    at = START_TIME + STEP_SECONDS * (n + 1)
                    rows.append(Row(Readings, name, meter.meter, at, columns))

    order = sorted(range(len(rows)), key=lambda n: (rows[n].at, n))
    return Stream(areas, tuple(rows[n] for n in order), "Asia/Shanghai", STEP_SECONDS)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return with_closing_readings(weeks(1), DAY_SECONDS)


@pytest.fixture(scope="module")
def alerts(stream):
    return judge_stream(stream)[1]


def test_both_thefts_are_found_and_nobody_else(alerts):
    last = {alert.id: alert for alert in alerts if alert.rule == LOSS_RULE}.values()
    assert {(alert.area, alert.subject, alert.state) for alert in last} == {
        ("A1", "M2", "cleared"),
        ("A2", "M2", "raised"),
    }


def test_the_slow_twin_agrees(stream, alerts):
    agree(stream, alerts)


def test_the_slow_twin_agrees_when_rows_come_shuffled_late_and_duplicated(stream):
    disordered = shuffled(straggling(weeks(1), 3, 0, DAY_SECONDS), 1, 6 * 3600)
    agree(with_closing_readings(duplicated(disordered, 2), DAY_SECONDS))


def test_any_cut_publishes_exactly_the_same(stream, alerts):
    size = len(stream.rows)
    for cuts in (
        range(0, size, 3),
        np.random.default_rng(1).integers(0, size, 30).tolist(),
    ):
        assert exactly(judge_stream(stream, cuts)[1]) == exactly(alerts)


def test_an_engine_restored_again_and_again_goes_on_undisturbed(stream, alerts):
    assert exactly(restored(stream, 97)) == exactly(alerts)


def test_readings_two_days_late_amend_the_suspicions(stream, alerts):
    disordered = straggling(weeks(1), 5, DAY_SECONDS, 2 * DAY_SECONDS)
    late = judge_stream(with_closing_readings(disordered, DAY_SECONDS))[1]
    same(
        [alert for alert in late if alert.rule == LOSS_RULE],
        [alert for alert in alerts if alert.rule == LOSS_RULE],
    )


def noise(seed, days=30, users=200):
    rng = np.random.default_rng(seed)
    return rng, 8 * np.exp(rng.normal(0, 0.2, (days, users))) * np.exp(
        rng.normal(0, 0.1, (days, 1))
    )


def test_missing_share_correlates_with_registered_use():
    rng, energy = noise(1)
    energy[:, 7] *= 4
    comparison = compared(
        rng.normal(0, 2, 30) + energy[:, 7], energy, np.zeros(200, bool)
    )
    assert np.argmax(comparison.strength()) == 7
    assert comparison.kwh[7] == pytest.approx(energy[:, 7].mean(), 0.5)


def test_use_no_longer_registered_raises_the_loss():
    rng, energy = noise(2)
    used = 4 * energy[:, 7]
    energy[:, 7] = np.where(np.arange(30) < 20, used, used / 4)
    comparison = compared(
        rng.normal(0, 2, 30) + used - energy[:, 7], energy, np.zeros(200, bool)
    )
    assert np.argmax(comparison.strength()) == 7
    assert comparison.kwh[7] == pytest.approx((used - energy[:, 7])[20:].mean(), 0.2)
    sunny = compared(
        rng.normal(0, 2, 30) + used - energy[:, 7], energy, np.arange(200) == 7
    )
    assert sunny.strength()[7] < 3.5


def test_several_suspects_share_the_loss():
    rng, energy = noise(3)
    energy[:, [3, 9]] *= 5
    comparison = compared(
        rng.normal(0, 1, 30) + energy[:, 3] + energy[:, 9] / 2,
        energy,
        np.zeros(200, bool),
    )
    assert {*np.argsort(-comparison.kwh)[:2]} == {3, 9}


def test_cold_days_alone_raise_no_suspicion():
    rng, energy = noise(4)
    total = energy.sum(axis=1)
    comparison = compared(
        total**2 / total.mean() / 30 + rng.normal(0, 2, 30), energy, np.zeros(200, bool)
    )
    assert np.percentile(comparison.strength(), 99) < 3.5


def test_fluctuating_loss_is_no_rise():
    rng = np.random.default_rng(5)
    assert all(rise(rng.normal(0, 1, 30)) == 0 for _ in range(50))
    assert rise(np.r_[np.zeros(12), np.full(18, 9.0)] + rng.normal(0, 1, 30)) == 12


def test_equal_values_have_equal_ranks():
    assert ranks(np.array([3.0, 0, 0, np.nan]))[:3].tolist() == [2.5, 1, 1]

"""Homes over years: vacancies, seasons and changed use are no theft, and their alerts end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream, with_closing_readings
from tests.test_promises import agree, judge_stream, last

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai
INTERVAL_SECONDS, INTERVALS_PER_DAY = 14_400, DAY_SECONDS // 14_400
DAY_SHAPE = np.array([0.6, 0.7, 1.4, 1.2, 2.6, 3.2])
NOISE_SIGMA = 0.15
ON_USE = {
    "step_drop",
    "usage_fluctuation",
    "near_zero_usage",
    "zero_usage",
    "low_usage",
    "flat_profile",
    "clipped_profile",
    "timed_zero_block",
    "tou_inversion",
}


def home_stream(
    levels: Sequence[float],
    *,
    segment: str = "residential",
    pv_kva: float = 0.0,
    nights_until: int = 10_000,
    seed: int = 0,
) -> Stream:
    """One customer with these kWh a day, in much the same hourly shape; nights have a load for so many days."""
    rng = np.random.default_rng(seed)
    days = (
        np.asarray(levels)[:, None]
        * DAY_SHAPE
        / DAY_SHAPE.sum()
        * np.exp(rng.normal(0, NOISE_SIGMA, (len(levels), INTERVALS_PER_DAY)))
    )
    days[nights_until:, :2] = 0
    meter = Meter(
        meter="M1",
        segment=cast("Any", segment),
        pv_kva=pv_kva,
        interval_s=INTERVAL_SECONDS,
    )

    plain = dict(
        u=np.full(3, NOT_A_NUMBER, np.float32),
        register=NOT_A_NUMBER,
        clock_offset=NOT_A_NUMBER,
        received=0,
        status=0,
    )
    rows = tuple(
        Row(
            Readings,
            "A1",
            "M1",
            START_TIME + INTERVAL_SECONDS * (n + 1),
            plain | {"kwh": np.float32(round(kwh, 3))},
        )
        for n, kwh in enumerate(days.reshape(-1).tolist())
    )

    return Stream(
        [Area(area="A1", meters=[meter])], rows, "Asia/Shanghai", INTERVAL_SECONDS
    )


def usage_alerts(stream: Stream) -> dict[str, tuple[int, int, str]]:
    """The days of first raise and last change and the state of each rule on use, suppressed or not."""
    days_by_rule: dict[str, tuple[int, int, str]] = {}
    for alert in sorted(
        last(judge_stream(stream)[1]).values(), key=lambda alert: alert.raised
    ):
        if alert.rule in ON_USE and alert.suppressed_by in ("", "same_trouble"):
            first = days_by_rule.get(
                alert.rule, ((alert.raised - START_TIME) // DAY_SECONDS, 0, "")
            )[0]
            days_by_rule[alert.rule] = (
                first,
                (alert.at - START_TIME) // DAY_SECONDS,
                alert.state,
            )
    return days_by_rule


@pytest.mark.parametrize("segment", ["residential", "commercial"])
@pytest.mark.parametrize("left", [0.07, 0.05, 0.01])
def test_fall_to_under_a_tenth_is_raised_by_the_eighth_day(left: float, segment: str):
    alerts = usage_alerts(home_stream([20] * 60 + [20 * left] * 20, segment=segment))
    assert alerts.keys() == {"near_zero_usage"}
    assert alerts["near_zero_usage"][0] <= 60 + 8


@pytest.mark.parametrize(
    "levels",
    [
        [10] * 60 + [1.3] * 6 + [10] * 20,
        [10] * 60 + [0.5] * 6 + [10] * 20,
        [10] * 60 + ([0.5] * 5 + [10] * 9) * 4,
    ],
    ids=[
        "half a week with the refrigerator",
        "six days with a clock",
        "working weeks elsewhere",
    ],
)
def test_days_away_raise_no_drop(levels: list[float]):
    assert usage_alerts(home_stream(levels)).keys() <= {"usage_fluctuation"}


@pytest.mark.parametrize(
    "levels",
    [
        [16.8] * 60 + [1.0] * 40 + [6.0] * 40,
        [16.0] * 60 + [0.8] * 60 + [16.0] * 60,
        [16.0] * 60 + [0.8] * 200 + [16.0] * 60,
        [16.0] * 60 + ([0.8] * 20 + [15.0] * 2) * 8,
        [16.0] * 60 + [0.8] * 130 + [15.0] * 3 + [0.8] * 100,
    ],
    ids=[
        "back at a third",
        "back as ever",
        "back after half a year",
        "visited",
        "visited once",
    ],
)
def test_empty_home_is_near_zero_usage_and_its_return_no_drop_or_rise(
    levels: list[float],
):
    alerts = usage_alerts(home_stream(levels))
    assert alerts.keys() <= {"near_zero_usage", "low_usage"}
    assert alerts["near_zero_usage"][2] == "cleared"


@pytest.mark.parametrize("left", [0.5, 0.33, 0.2, 0.15, 0.12, 0.08, 0.05, 0.02])
def test_lasting_change_of_use_clears_its_alerts(left: float):
    alerts = usage_alerts(home_stream([16] * 60 + [16 * left] * 320))
    assert alerts.keys() & {"step_drop", "near_zero_usage"}
    assert {state for _, _, state in alerts.values()} == {"cleared"}
    assert all(
        ended < 60 + 210
        for rule, (_, ended, _) in alerts.items()
        if rule != "low_usage"
    )


@pytest.mark.parametrize(
    "phase", [20, 100, 250], ids=["heating soon", "heating now", "summer"]
)
@pytest.mark.parametrize("winter", [2.5, 4.0])
def test_season_of_last_year_raises_nothing_this_year(winter: float, phase: int):
    year = [10.0] * 120 + [10.0 * winter] * 120 + [10.0] * 125
    days = (year * 4)[phase : phase + 3 * 365]
    both_years = usage_alerts(home_stream(days[:365])), usage_alerts(home_stream(days))
    raise_days = [
        {rule: raised for rule, (raised, _, _) in alerts.items()}
        for alerts in both_years
    ]
    assert raise_days[0] == raise_days[1]
    alerts = last(judge_stream(home_stream(days))[1]).values()
    assert [
        alert
        for alert in alerts
        if alert.rule in ON_USE and alert.raised > START_TIME + 400 * DAY_SECONDS
    ] == []


def test_drop_in_the_second_year_is_raised_as_in_the_first():
    year = [10.0] * 120 + [25.0] * 120 + [10.0] * 125
    stolen = np.array([*year, *year[:200]]) * np.where(np.arange(565) >= 540, 0.35, 1.0)
    alerts = last(judge_stream(home_stream(stolen.tolist()))[1]).values()
    assert [
        alert.rule
        for alert in alerts
        if alert.rule == "step_drop"
        and 540 < (alert.raised - START_TIME) // DAY_SECONDS < 550
    ] == ["step_drop"]


def test_registered_generation_silences_rules_on_use_alone():
    rise = [10] * 60 + [40] * 30
    assert usage_alerts(home_stream(rise)).keys() == {"usage_fluctuation"}
    assert usage_alerts(home_stream(rise, pv_kva=4.0)) == {}


def test_the_slow_twin_agrees_over_two_years():
    year = [10.0] * 120 + [25.0] * 120 + [10.0] * 125
    days = np.array(year * 2)
    days[300:460] *= 0.06
    days[470:475] *= 0.06
    days[560:] *= 0.3
    stream = with_closing_readings(home_stream(days.tolist()), DAY_SECONDS)
    assert {"near_zero_usage", "step_drop"} <= usage_alerts(stream).keys()
    agree(stream)


def test_alert_clears_when_no_standing_load_is_left_to_compare():
    alerts = usage_alerts(home_stream([12] * 60 + [4.5] * 200, nights_until=60))
    assert alerts["step_drop"][0] < 70
    assert alerts["step_drop"][1:] == (alerts["step_drop"][1], "cleared")

"""Homes over years: vacancies, seasons and changed use are no theft, and their alerts end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from schemas.alert import Alert
from schemas.columns import Readings
from schemas.master import Area, Meter, Segment
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


UsageAlerts = dict[str, tuple[int, int, str]]


@dataclass(frozen=True)
class Home:
    """One customer with these kWh a day, in much the same hourly shape; nights have a load for so many days."""

    levels: Sequence[float]
    segment: Segment = "residential"
    pv_kva: float = 0.0
    nights_until: int = 10_000

    def stream(self) -> Stream:
        """The readings of the home's meter, alone in its area."""
        rng = np.random.default_rng(0)
        days = (
            np.asarray(self.levels)[:, None]
            * DAY_SHAPE
            / DAY_SHAPE.sum()
            * np.exp(rng.normal(0, NOISE_SIGMA, (len(self.levels), INTERVALS_PER_DAY)))
        )
        days[self.nights_until :, :2] = 0
        meter = Meter(
            meter="M1",
            segment=self.segment,
            pv_kva=self.pv_kva,
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


def side_by_side(homes: Iterable[Home]) -> Stream:
    """Homes in one stream, each in an area of its own: an engine judges many about as fast as one."""
    areas: list[Area] = []
    rows: list[Row] = []
    for n, home in enumerate(homes):
        stream, name = home.stream(), area_name(n)
        areas += [msgspec.structs.replace(area, area=name) for area in stream.areas]
        rows += [replace(row, area=name) for row in stream.rows]
    rows.sort(key=lambda row: row.at)
    return Stream(areas, tuple(rows), "Asia/Shanghai", INTERVAL_SECONDS)


def area_name(n: int) -> str:
    """The area of the n-th home."""
    return f"A{n + 1}"


def alerts_by_home(homes: Mapping[str, Home]) -> dict[str, list[Alert]]:
    """The last state of each home's alerts."""
    alerts = last(judge_stream(side_by_side(homes.values()))[1]).values()
    return {
        name: [alert for alert in alerts if alert.area == area_name(n)]
        for n, name in enumerate(homes)
    }


def usage_alerts(homes: Mapping[str, Home]) -> dict[str, UsageAlerts]:
    """The days of each home's alerts on use."""
    return {name: usage_days(alerts) for name, alerts in alerts_by_home(homes).items()}


def usage_days(alerts: Iterable[Alert]) -> UsageAlerts:
    """The days of first raise and last change and the state of each rule on use among the alerts of a home."""
    days_by_rule: UsageAlerts = {}
    for alert in sorted(alerts, key=lambda alert: alert.raised):
        if alert.rule in ON_USE and alert.suppressed_by in ("", "same_trouble"):
            raised = (alert.raised - START_TIME) // DAY_SECONDS
            first, _, _ = days_by_rule.get(alert.rule, (raised, 0, ""))
            changed = (alert.at - START_TIME) // DAY_SECONDS
            days_by_rule[alert.rule] = first, changed, alert.state
    return days_by_rule


def test_fall_to_under_a_tenth_is_raised_by_the_eighth_day():
    segments: tuple[Segment, ...] = ("residential", "commercial")
    homes = {
        f"{segment}, {left} left": Home([20] * 60 + [20 * left] * 20, segment)
        for segment in segments
        for left in (0.07, 0.05, 0.01)
    }
    for name, alerts in usage_alerts(homes).items():
        assert alerts.keys() == {"near_zero_usage"}, name
        assert alerts["near_zero_usage"][0] <= 60 + 8, name


def test_days_away_raise_no_drop():
    homes = {
        "half a week with the refrigerator": Home([10] * 60 + [1.3] * 6 + [10] * 20),
        "six days with a clock": Home([10] * 60 + [0.5] * 6 + [10] * 20),
        "working weeks elsewhere": Home([10] * 60 + ([0.5] * 5 + [10] * 9) * 4),
    }
    for name, alerts in usage_alerts(homes).items():
        assert alerts.keys() <= {"usage_fluctuation"}, name


def test_empty_home_is_near_zero_usage_and_its_return_no_drop_or_rise():
    homes = {
        "back at a third": Home([16.8] * 60 + [1.0] * 40 + [6.0] * 40),
        "back as ever": Home([16.0] * 60 + [0.8] * 60 + [16.0] * 60),
        "back after half a year": Home([16.0] * 60 + [0.8] * 200 + [16.0] * 60),
        "visited": Home([16.0] * 60 + ([0.8] * 20 + [15.0] * 2) * 8),
        "visited once": Home([16.0] * 60 + [0.8] * 130 + [15.0] * 3 + [0.8] * 100),
    }
    for name, alerts in usage_alerts(homes).items():
        assert alerts.keys() <= {"near_zero_usage", "low_usage"}, name
        assert alerts["near_zero_usage"][2] == "cleared", name


def test_lasting_change_of_use_clears_its_alerts():
    homes = {
        f"{left} left": Home([16] * 60 + [16 * left] * 320)
        for left in (0.5, 0.33, 0.2, 0.15, 0.12, 0.08, 0.05, 0.02)
    }
    for name, alerts in usage_alerts(homes).items():
        assert alerts.keys() & {"step_drop", "near_zero_usage"}, name
        assert {state for _, _, state in alerts.values()} == {"cleared"}, name
        assert all(
            ended < 60 + 210
            for rule, (_, ended, _) in alerts.items()
            if rule != "low_usage"
        ), name


def test_season_of_last_year_raises_nothing_this_year():
    homes: dict[str, Home] = {}
    for season, phase in (("heating soon", 20), ("heating now", 100), ("summer", 250)):
        for winter in (2.5, 4.0):
            year = [10.0] * 120 + [10.0 * winter] * 120 + [10.0] * 125
            days = (year * 4)[phase : phase + 3 * 365]
            homes[f"{season}, {winter} in winter"] = Home(days)

    first_year = {
        f"{name}, first year": replace(home, levels=home.levels[:365])
        for name, home in homes.items()
    }
    by_home = alerts_by_home(homes | first_year)
    for name in homes:
        raise_days, first_raise_days = (
            {rule: raised for rule, (raised, _, _) in usage_days(by_home[key]).items()}
            for key in (name, f"{name}, first year")
        )
        assert raise_days == first_raise_days, name
        assert [
            alert
            for alert in by_home[name]
            if alert.rule in ON_USE and alert.raised > START_TIME + 400 * DAY_SECONDS
        ] == [], name


def test_drop_in_the_second_year_is_raised_as_in_the_first():
    year = [10.0] * 120 + [25.0] * 120 + [10.0] * 125
    stolen = np.array([*year, *year[:200]]) * np.where(np.arange(565) >= 540, 0.35, 1.0)
    alerts = last(judge_stream(Home(stolen.tolist()).stream())[1]).values()
    assert [
        alert.rule
        for alert in alerts
        if alert.rule == "step_drop"
        and 540 < (alert.raised - START_TIME) // DAY_SECONDS < 550
    ] == ["step_drop"]


def test_registered_generation_silences_rules_on_use_alone():
    rise = [10.0] * 60 + [40.0] * 30
    alerts = usage_alerts({"without": Home(rise), "with": Home(rise, pv_kva=4.0)})
    assert alerts["without"].keys() == {"usage_fluctuation"}
    assert alerts["with"] == {}


def test_the_slow_twin_agrees_over_two_years():
    year = [10.0] * 120 + [25.0] * 120 + [10.0] * 125
    days = np.array(year * 2)
    days[300:460] *= 0.06
    days[470:475] *= 0.06
    days[560:] *= 0.3
    stream = with_closing_readings(Home(days.tolist()).stream(), DAY_SECONDS)
    alerts = judge_stream(stream)[1]
    assert {"near_zero_usage", "step_drop"} <= usage_days(last(alerts).values()).keys()
    agree(stream, alerts)


def test_alert_clears_when_no_standing_load_is_left_to_compare():
    home = Home([12] * 60 + [4.5] * 200, nights_until=60)
    alerts = usage_alerts({"without nights": home})["without nights"]
    assert alerts["step_drop"][0] < 70
    assert alerts["step_drop"][1:] == (alerts["step_drop"][1], "cleared")

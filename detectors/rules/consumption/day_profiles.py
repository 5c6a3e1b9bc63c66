"""The course of a customer's days: dark hours, clipped tops, flat and shifted curves."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import Explanation, gated, rule
from detectors.rules.consumption.established import established
from schemas.columns import Column, Days
from schemas.units import DAY_SECONDS


@rule(
    Days,
    severity=2,
    release=7 * DAY_SECONDS,
    title=("Timed zero block", "定时零电量"),
    text=(
        (
            "On {dark_days:.0f} of 7 days (limit {days:.0f}) nothing was used in the same four hours[ from "
            "{dark_from:.0f}:00, usually {dark_kwh:.1f} kWh]; voltage was there, and the rest of the day was as ever."
        ),
        (
            "7天中有{dark_days:.0f}天(限值{days:.0f}天)[自{dark_from:.0f}时起]同一4小时零电量[,平时用电{dark_kwh:.1f}kWh];"
            "电压正常,其余时段照常用电。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY, Explanation.METER_CHANGE),
)
def timed_zero_block(
    dark_days: Column,
    dark_before: Column,
    live: Column,
    known_days: Column,
    pv_kva: Column,
    *,
    days: float = 3.0,
    before: float = 0.15,
    alive: float = 0.9,
    history: float = 28.0,
) -> Column:
    """The same four hours without use on 3 of 7 days, with voltage, for a customer who had no such hours (定时零电量).

    Four hours are the length of the attacks in catalogue 2.1; the rest are defaults of this project.
    """
    lit = (dark_before <= before) & (live >= alive)
    known = established(known_days, pv_kva, history)
    return gated(dark_days / days, lit & known)


@rule(
    Days,
    severity=2,
    release=7 * DAY_SECONDS,
    title=("Clipped profile", "负荷削顶"),
    text=(
        (
            "For {clipped_days:.0f} days (limit {days:.0f}) many intervals stood at the same top of "
            "{clip_kwh:.3f} kWh; peaks of {usual_high_kwh:.3f} kWh were usual."
        ),
        (
            "已有{clipped_days:.0f}天(限值{days:.0f}天)多个时段停在同一最高值{clip_kwh:.3f}kWh,"
            "平时高峰为{usual_high_kwh:.3f}kWh。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY, Explanation.METER_CHANGE),
)
def clipped_profile(
    clipped_days: Column,
    clip_kwh: Column,
    usual_high_kwh: Column,
    excess: Column,
    expected_kwh: Column,
    known_days: Column,
    pv_kva: Column,
    *,
    days: float = 5.0,
    high: float = 1.3,
    level: float = 0.5,
    history: float = 28.0,
    usual: float = 3.0,
) -> Column:
    """Five days whose top is the same and shared by many intervals, well below the usual peaks (负荷削顶).

    A twentieth of the intervals lie within 1 % of it, and the usual 95th percentile is 1.3 times it. The form of less
    than 3 kWh a day says little. Defaults of this project.
    """
    score = np.minimum(clipped_days / days, usual_high_kwh / (high * clip_kwh))
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(score, (excess >= np.log(level)) & known)


@rule(
    Days,
    severity=3,
    hold=2 * DAY_SECONDS,
    release=4 * DAY_SECONDS,
    title=("Flat profile", "负荷曲线平直"),
    text=(
        (
            "The day's hours differ by {variation:.0%} of their mean (before {usual_variation:.0%}) and swing by "
            "{rhythm:.0%} (before {usual_rhythm:.0%}); energy flows as before, or nearly."
        ),
        (
            "日内各小时用电离散度{variation:.0%}(以往{usual_variation:.0%}),日节律{rhythm:.0%}(以往{usual_rhythm:.0%}),"
            "总电量与以往相近。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY, Explanation.METER_CHANGE),
)
def flat_profile(
    variation: Column,
    usual_variation: Column,
    rhythm: Column,
    usual_rhythm: Column,
    excess: Column,
    expected_kwh: Column,
    known_days: Column,
    pv_kva: Column,
    *,
    flat: float = 0.05,
    faint: float = 0.2,
    calm: float = 0.5,
    varied: float = 0.2,
    level: float = 0.35,
    most: float = 1.2,
    history: float = 28.0,
    usual: float = 3.0,
) -> Column:
    """Three days without ups and downs, or with a fifth of the daily swing, at much the same energy (负荷曲线平直).

    Hours spread by under 5 % of the mean, or by half as much as usual with that faint swing. The form of less than
    3 kWh a day says little. Defaults of this project.
    """
    swing = faint * usual_rhythm / np.maximum(rhythm, 0.005)
    quiet = calm * usual_variation / np.maximum(variation, 0.005)
    score = np.maximum(flat / np.maximum(variation, 0.005), np.minimum(swing, quiet))
    fed = (
        (excess >= np.log(level))
        & (excess <= np.log(most))
        & (usual_variation >= varied)
    )
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(score, fed & known)


@rule(
    Days,
    severity=3,
    hold=2 * DAY_SECONDS,
    release=14 * DAY_SECONDS,
    title=("Use moved into valley hours", "峰谷倒置"),
    text=(
        (
            "Lately {valley_rise:.0%} of the use (limit {rise:.0%}) moved into the valley hours[, usually "
            "{valley_usual:.0%}], peers considered, at {kept_lately:.0%} of the usual energy."
        ),
        (
            "近日有{valley_rise:.0%}的电量(限值{rise:.0%})移入谷段[,原占比{valley_usual:.0%}],已扣除同类用户的共同变化,"
            "总电量为平时的{kept_lately:.0%}。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY,),
)
def tou_inversion(
    valley_rise: Column,
    kept_lately: Column,
    expected_kwh: Column,
    known_days: Column,
    pv_kva: Column,
    *,
    rise: float = 0.2,
    within: float = 0.1,
    history: float = 28.0,
    usual: float = 3.0,
) -> Column:
    """A fifth of the use has moved into the tariff's valley hours, the total within 10 % (峰谷倒置).

    The form of less than 3 kWh a day says little. Defaults of this project.
    """
    same = np.abs(np.log(np.maximum(kept_lately, 0.01))) <= np.log1p(within)
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(valley_rise / rise, same & known)

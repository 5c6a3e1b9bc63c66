"""Whether a customer's use looks like that customer."""
from __future__ import annotations

import numpy as np

from detectors.rule import DAY, gated, rule
from schemas.columns import Column, Days


@rule(
    Days, severity=3, release=2 * DAY, title=("Zero usage", "零电量"),
    text=("No use for {zero_days:.0f} days where {usual_kwh:.1f} kWh a day were usual.",
          "连续{zero_days:.0f}天零电量,平时日用电{usual_kwh:.1f}kWh。"),
)  # fmt: skip
def zero_usage(
    zero_days: Column, usual_kwh: Column, residential: Column, *, days: float = 7.0, days_residential: float = 30.0,
    usual: float = 0.5,
) -> Column:  # fmt: skip
    """Nothing used for 7 days, residential 30, read well, alive, after real use (零电量). Defaults of this project."""
    need = np.where(residential == 1, days_residential, days)
    return gated(zero_days / need, usual_kwh > usual)


@rule(
    Days, severity=3, hold=2 * DAY, release=6 * DAY, status="shadow",
    title=("Unusual beside its peers", "模型评分异常"),
    text=("The change of daily use is more unusual than that of {peer_score:.2%} of its peers in the area.",
          "日用电变化比本台区{peer_score:.2%}的同类用户更异常。"),
)  # fmt: skip
def model_score(peer_score: Column, *, top: float = 0.999) -> Column:
    """The online peer model puts the day's change in the top 0.1 %, three days (模型评分). Default of this project."""
    return peer_score / top


@rule(
    Days, severity=2, hold=4 * DAY, release=14 * DAY, title=("Sustained drop", "电量突降"),
    text=("For {slide_days:.0f} days the point has used less than usual: of late {kept:.0%} of {expected_kwh:.1f} kWh a day, "
          "and its standing load fell to {kept_standing:.0%}, so it is hardly just empty.",
          "{slide_days:.0f}天来用电持续偏低:近日为平时日电量{expected_kwh:.1f}kWh的{kept:.0%},基础负荷也降至{kept_standing:.0%},"
          "不像单纯无人居住。"),
)  # fmt: skip
def step_drop(
    slide: Column, slide_days: Column, excess: Column, kept: Column, kept_standing: Column, expected_kwh: Column,
    known_days: Column, pv_kva: Column, *, limit: float = 8.0, level: float = 0.6, standing: float = 0.75,
    nothing: float = 0.1, history: float = 28.0, usual: float = 1.0,
) -> Column:  # fmt: skip
    """Use has fallen to 60 % or less of the usual for 5 days, beyond what peers share (电量突降); CUSUM of 8 spreads.

    The standing load must have fallen too: an empty home keeps it, a bypass does not. Defaults of this project.
    """
    score = np.minimum(slide / limit, level / np.maximum(kept, 0.01))
    lives = (kept_standing <= standing) & (excess >= np.log(nothing))
    return gated(score, lives & (known_days >= history) & (expected_kwh >= usual) & (pv_kva == 0))


@rule(
    Days, severity=3, hold=2 * DAY, release=5 * DAY, title=("Big rise or fall", "电量波动"),
    text=("Daily use is {excess:+.1f} on the log scale beside the {expected_kwh:.1f} kWh to be expected of the day.",
          "日电量与当日应有的{expected_kwh:.1f}kWh相比,对数偏差{excess:+.1f}。"),
)  # fmt: skip
def usage_fluctuation(
    excess: Column, spread: Column, kept_standing: Column, expected_kwh: Column, known_days: Column,
    residential: Column, *, times: float = 1.5, times_residential: float = 2.0, spreads: float = 3.0,
    standing: float = 0.75, nothing: float = 0.1, history: float = 28.0, usual: float = 1.0,
) -> Column:  # fmt: skip
    """Three days at twice or half the expected use, a business at 1.5 times (电量波动). Defaults of this project."""
    limit = np.log(np.where(residential == 1, times_residential, times))
    score = np.abs(excess) / np.maximum(limit, spreads * spread)
    lives = (excess > 0) | ((kept_standing <= standing) & (excess >= np.log(nothing)))
    return gated(score, lives & (known_days >= history) & (expected_kwh >= usual))


@rule(
    Days, severity=2, release=7 * DAY, title=("Dark hours", "定时零电量"),
    text=("On {dark_days:.0f} of the last 7 days nothing was used for four hours from {dark_from:.0f}:00, "
          "where {dark_kwh:.1f} kWh are usual and voltage was there.",
          "近7天有{dark_days:.0f}天自{dark_from:.0f}时起连续4小时零电量,平时该时段用电{dark_kwh:.1f}kWh,且电压正常。"),
)  # fmt: skip
def timed_zero_block(
    dark_days: Column, dark_from: Column, dark_kwh: Column, dark_before: Column, live: Column, known_days: Column,
    pv_kva: Column, *, days: float = 3.0, before: float = 0.15, alive: float = 0.9, history: float = 28.0,
) -> Column:  # fmt: skip
    """Four hours without use at the same time on 3 of 7 days, new and with voltage (定时零电量).

    The four hours are those of catalogue attacks h2 and FDI4; the rest is a default of this project.
    """
    return gated(dark_days / days, (dark_before <= before) & (live >= alive) & (known_days >= history) & (pv_kva == 0))


@rule(
    Days, severity=2, release=7 * DAY, title=("Clipped profile", "负荷削顶"),
    text=("On {clipped_days:.0f} days {top_share:.0%} of the intervals stood at the same highest value of {top_kwh:.3f} kWh, "
          "where {usual_high_kwh:.3f} kWh were usual at the top.",
          "{clipped_days:.0f}天中每天有{top_share:.0%}的时段停在同一最高值{top_kwh:.3f}kWh,平时高峰为{usual_high_kwh:.3f}kWh。"),
)  # fmt: skip
def clipped_profile(
    clipped_days: Column, top_share: Column, top_kwh: Column, usual_high_kwh: Column, kept: Column, known_days: Column,
    pv_kva: Column, *, days: float = 5.0, high: float = 1.3, level: float = 0.5, history: float = 28.0,
) -> Column:  # fmt: skip
    """The day's top is the same on 5 days and well below the usual peaks (负荷削顶). Defaults of this project."""
    score = np.minimum(clipped_days / days, usual_high_kwh / (high * top_kwh))
    return gated(score, (kept >= level) & (known_days >= history) & (pv_kva == 0))


@rule(
    Days, severity=3, hold=2 * DAY, release=4 * DAY, title=("Flat profile", "负荷曲线平直"),
    text=("The hours of the day differ by only {variation:.0%} of their mean, by {usual_variation:.0%} before; "
          "the day's rhythm is {rhythm:.2f}, before {usual_rhythm:.2f}.",
          "日内各小时用电仅相差均值的{variation:.0%},以往为{usual_variation:.0%};日节律{rhythm:.2f},以往{usual_rhythm:.2f}。"),
)  # fmt: skip
def flat_profile(
    variation: Column, usual_variation: Column, rhythm: Column, usual_rhythm: Column, kept: Column, known_days: Column,
    pv_kva: Column, *, flat: float = 0.05, faint: float = 0.2, half: float = 0.5, varied: float = 0.2,
    level: float = 0.35, most: float = 1.2, history: float = 28.0,
) -> Column:  # fmt: skip
    """The day has lost its ups and downs, though energy still flows (负荷曲线平直). Defaults of this project."""
    calmer = np.minimum(faint * usual_rhythm / np.maximum(rhythm, 0.005), half * usual_variation / np.maximum(variation, 0.005))
    score = np.maximum(flat / np.maximum(variation, 0.005), calmer)
    normal = (kept >= level) & (kept <= most) & (usual_variation >= varied)
    return gated(score, normal & (known_days >= history) & (pv_kva == 0))


@rule(
    Days, severity=3, hold=2 * DAY, release=14 * DAY, title=("Use moved to valley hours", "峰谷倒置"),
    text=("The valley hours' share of use was {valley_rise:.0%} above the usual {valley_usual:.0%} in the last week, "
          "at {kept_week:.0%} of the usual energy.",
          "近一周谷段电量占比较平时的{valley_usual:.0%}高出{valley_rise:.0%},总电量为平时的{kept_week:.0%}。"),
)  # fmt: skip
def tou_inversion(
    valley_rise: Column, valley_usual: Column, kept_week: Column, known_days: Column, pv_kva: Column, *,
    rise: float = 0.2, within: float = 0.1, history: float = 28.0,
) -> Column:  # fmt: skip
    """A fifth of the use has moved into the valley hours, the total is the same (峰谷倒置). Default of this project."""
    same = np.abs(np.log(np.maximum(kept_week, 0.01))) <= np.log1p(within)
    return gated(valley_rise / rise, same & (known_days >= history) & (pv_kva == 0))


@rule(
    Days, severity=3, hold=28 * DAY, title=("Below its peers", "低于同类用户"),
    text=("In the last month it used {month_kwh:.1f} kWh a day, {peer_share:.0%} of what {peers:.0f} peers use by capacity.",
          "上月日均{month_kwh:.1f}kWh,按容量仅为{peers:.0f}户同类的{peer_share:.0%}。"),
)  # fmt: skip
def peer_shortfall(
    below_peers: Column, peer_share: Column, peers: Column, month_kwh: Column, usual_rhythm: Column, *,
    deviations: float = 3.0, least: float = 30.0, lived_in: float = 0.15,
) -> Column:  # fmt: skip
    """Two months more than 3 robust deviations below the area's peers by capacity (低于同类). Defaults of this project."""
    return gated(below_peers / deviations, (peers >= least) & (usual_rhythm >= lived_in))


@rule(
    Days, severity=3, hold=28 * DAY, title=("Low usage", "低电量"),
    text=("In the last month it used {month_kwh:.2f} kWh a day, under a tenth of its usual month or a twentieth of its peers'.",
          "上月日均{month_kwh:.2f}kWh,不足自身平常月份的一成或同类的二十分之一。"),
)  # fmt: skip
def low_usage(month_kwh: Column, own_share: Column, peer_share: Column, *, own: float = 0.1, peer: float = 0.05) -> Column:
    """Two months under 10 % of the same month's usual or 5 % of the peers' load factor (低电量). Defaults of this project."""
    return np.maximum(own / np.maximum(own_share, 0.001), peer / np.maximum(peer_share, 0.001))

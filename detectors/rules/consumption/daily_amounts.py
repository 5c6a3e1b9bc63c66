"""The energy of a customer's days: nothing, less or more than was usual."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import NOT_KNOWN, Explanation, Level, gated, rule
from detectors.rules.consumption.established import established
from schemas.columns import Column, Days
from schemas.units import DAY_SECONDS


@rule(
    Days,
    severity=3,
    worse=(Level(2.0, 2, 0),),
    release=2 * DAY_SECONDS,
    segments={"residential": {"days": 30.0}},
    title=("Zero usage", "零电量"),
    text=(
        (
            "No use for {zero_days:.0f} days (limit {days:.0f}) where {usual_kwh:.1f} kWh a day were usual[; the area "
            "loses {lost_kwh:.1f} kWh a day beyond the usual]."
        ),
        (
            "连续{zero_days:.0f}天零电量(限值{days:.0f}天),平时日用电{usual_kwh:.1f}kWh"
            "[;本台区日损失电量超常{lost_kwh:.1f}kWh]。"
        ),
    ),
    curve=daily_energy,
    explained_by=(
        Explanation.OUTAGE,
        Explanation.VACANCY,
        Explanation.METER_CHANGE,
        Explanation.SAME_TROUBLE,
    ),
)
def zero_usage(
    zero_days: Column,
    usual_kwh: Column,
    lossy: Column,
    suspended_kva: Column,
    contract_kva: Column = NOT_KNOWN,
    *,
    days: float = 7.0,
    usual: float = 0.5,
) -> Column:
    """Nothing used for 7 days, residential 30, read well, alive, after real use (零电量). Defaults of this project.

    Not while the whole contract is suspended. More severe if the area loses more than usual (catalogue 1.6): the score
    is 2 or more then, else below 2.
    """
    is_suspended = (suspended_kva > 0) & (suspended_kva >= contract_kva)
    score = gated(zero_days / days, (usual_kwh > usual) & ~is_suspended)
    return np.where((lossy > 0) & (score >= 1), 1 + score, np.minimum(score, 1.9))


@rule(
    Days,
    severity=3,
    worse=(Level(2.0, 2, 6 * DAY_SECONDS),),
    hold=6 * DAY_SECONDS,
    release=2 * DAY_SECONDS,
    title=("Next to no use left", "电量骤降近零"),
    text=(
        (
            "For a week under {nothing:.0%} of the expected {expected_kwh:.1f} kWh a day, last {left:.1%}[; the "
            "standing load is at {kept_standing:.0%}][; the voltage was there for {live:.0%} of the day]"
            "[; peers are at {peers_left:.0%}][; the area loses {lost_kwh:.1f} kWh a day beyond the usual]. "
            "So is an empty home."
        ),
        (
            "一周来不足应有日电量{expected_kwh:.1f}kWh的{nothing:.0%},最近为{left:.1%}"
            "[;基础负荷为平时的{kept_standing:.0%}][;全天{live:.0%}时间电压正常][;同类用户为平时的{peers_left:.0%}][;本台区日损失电量超常{lost_kwh:.1f}kWh]。"
            "空置亦如此。"
        ),
    ),
    curve=daily_energy,
    explained_by=(
        Explanation.OUTAGE,
        Explanation.VACANCY,
        Explanation.METER_CHANGE,
        Explanation.SAME_TROUBLE,
    ),
)
def near_zero_usage(
    left: Column,
    used_kwh: Column,
    expected_kwh: Column,
    known_days: Column,
    lossy: Column,
    suspended_kva: Column,
    pv_kva: Column,
    year_least_kwh: Column = NOT_KNOWN,
    *,
    nothing: float = 0.1,
    season: float = 0.3,
    history: float = 28.0,
    usual: float = 1.0,
) -> Column:
    """A week under a tenth of the expected use, yet not nothing, raised by the eighth day (电量骤降近零).

    Nor was it so at this time of last year. More severe if the area loses more than usual; the evidence has the signs
    of a vacancy. Nothing at all is `zero_usage`. Defaults of this project.
    """
    score = nothing / np.maximum(left, 0.001)
    fell = (used_kwh > 0) & ~(suspended_kva > 0) & ~(used_kwh > season * year_least_kwh)
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    judged = gated(score, fell & known)
    return np.where((lossy > 0) & (judged >= 1), 1 + judged, np.minimum(judged, 1.9))


@rule(
    Days,
    severity=3,
    worse=(Level(1.0, 2, 7 * DAY_SECONDS),),
    hold=4 * DAY_SECONDS,
    release=14 * DAY_SECONDS,
    title=("Sustained drop", "电量突降"),
    text=(
        (
            "Lately {kept:.0%} of the expected {expected_kwh:.1f} kWh a day (limit {level:.0%}), peers considered[, on "
            "a slide of {slide_days:.0f} days]; the standing load fell to {kept_standing:.0%} too: hardly just empty."
        ),
        (
            "近日用电为应有日电量{expected_kwh:.1f}kWh的{kept:.0%}(限值{level:.0%}),已扣除同类变化"
            "[,已走低{slide_days:.0f}天];基础负荷也降至{kept_standing:.0%},不像单纯空置。"
        ),
    ),
    curve=daily_energy,
    explained_by=(
        Explanation.VACANCY,
        Explanation.METER_CHANGE,
        Explanation.SAME_TROUBLE,
    ),
)
def step_drop(
    slide: Column,
    excess: Column,
    kept: Column,
    expected_kwh: Column,
    known_days: Column,
    emptied: Column,
    pv_kva: Column,
    suspended_kva: Column,
    kept_standing: Column = NOT_KNOWN,
    used_kwh: Column = NOT_KNOWN,
    kept_year: Column = NOT_KNOWN,
    before_kwh: Column = NOT_KNOWN,
    *,
    limit: float = 8.0,
    level: float = 0.6,
    standing: float = 0.75,
    in_step: float = 1.5,
    nothing: float = 0.1,
    history: float = 28.0,
    usual: float = 1.0,
) -> Column:
    """Five days at 60 % of the usual or less, a shortfall of 8 spreads that peers do not share (电量突降).

    More severe after eight. From the second year on use must be that low beside the same season a year before too. The
    standing load must have fallen in step: an empty home keeps it, or most of it, a bypass does not. Nothing is
    suspended, and use that returns after next to nothing is no drop. Defaults of this project.
    """
    score = np.minimum(
        slide / limit, level / np.maximum(np.fmax(kept, kept_year), 0.01)
    )
    lives = (
        (excess >= np.log(nothing))
        & (emptied == 0)
        & ~(used_kwh < nothing * before_kwh)
        & ~(suspended_kva > 0)
    )
    lives &= kept_standing <= np.minimum(standing, in_step * kept)
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(score, lives & known)


@rule(
    Days,
    severity=3,
    hold=2 * DAY_SECONDS,
    release=5 * DAY_SECONDS,
    segments={"residential": {"times": 2.0}},
    title=("Big rise or fall", "电量波动"),
    text=(
        (
            "Use is more than {times:.1f} times from what such days bring, peers considered:"
            "[ {used_kwh:.1f} kWh] where {expected_kwh:.1f} kWh were to be expected."
        ),
        (
            "日电量与应有值相差{times:.1f}倍以上,已扣除同类用户的共同变化:[{used_kwh:.1f}kWh,]应有{expected_kwh:.1f}kWh。"
        ),
    ),
    curve=daily_energy,
    explained_by=(
        Explanation.VACANCY,
        Explanation.METER_CHANGE,
        Explanation.SAME_TROUBLE,
    ),
)
def usage_fluctuation(
    excess: Column,
    spread: Column,
    kept: Column,
    expected_kwh: Column,
    known_days: Column,
    emptied: Column,
    suspended_kva: Column,
    pv_kva: Column,
    kept_standing: Column = NOT_KNOWN,
    used_kwh: Column = NOT_KNOWN,
    kept_year: Column = NOT_KNOWN,
    over_year: Column = NOT_KNOWN,
    before_kwh: Column = NOT_KNOWN,
    *,
    times: float = 1.5,
    spreads: float = 3.0,
    standing: float = 0.75,
    in_step: float = 1.5,
    nothing: float = 0.1,
    history: float = 28.0,
    usual: float = 1.0,
) -> Column:
    """Three days beyond 1.5 times the expected use either way, households 2, and 3 of its own spreads (电量波动).

    From the second year on also beside the same season a year before. A fall counts if the standing load fell in step,
    some use is left, nothing is suspended, and use does not return after next to nothing; a rise that ends a vacancy of
    months does not count. Defaults of this project.
    """
    rise_in_year = np.log(np.maximum(over_year, 0.01))
    fall_in_year = -np.log(np.maximum(kept_year, 0.01))
    in_year = np.where(excess > 0, rise_in_year, fall_in_year)
    moved = np.fmin(np.abs(excess), in_year)
    score = np.maximum(moved, 0) / np.maximum(np.log(times), spreads * spread)

    lives = (excess >= np.log(nothing)) & (emptied == 0) & ~(suspended_kva > 0)
    lives &= ~(used_kwh < nothing * before_kwh)
    fell = lives & (kept_standing <= np.minimum(standing, in_step * kept))
    rose = (excess > 0) & ~(used_kwh <= times * before_kwh)

    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(score, (rose | fell) & known)

"""Whether a customer's use looks like that customer."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import NOT_KNOWN, Explanation, Level, gated, rule
from schemas.columns import Column, Days, Mask
from schemas.units import DAY_SECONDS


def _established(known_days: Column, pv_kva: Column, history: float) -> Mask:
    """Whether enough days of a customer are known, and no generator is beside the load."""
    return (known_days >= history) & (pv_kva == 0)


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
    *,
    days: float = 7.0,
    usual: float = 0.5,
) -> Column:
    """Nothing used for 7 days, residential 30, read well, alive, after real use (零电量). Defaults of this project.

    More severe if the area loses more than usual (catalogue 1.6): the score is 2 or more then, else below 2.
    """
    score = gated(zero_days / days, usual_kwh > usual)
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
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
    judged = gated(score, fell & known)
    return np.where((lossy > 0) & (judged >= 1), 1 + judged, np.minimum(judged, 1.9))


@rule(
    Days,
    severity=3,
    hold=2 * DAY_SECONDS,
    release=6 * DAY_SECONDS,
    status="shadow",
    title=("Unusual beside its peers", "模型评分异常"),
    text=(
        "The change of daily use is more unusual than that of {peer_score:.2%} of its peers in the area.",
        "日用电变化比本台区{peer_score:.2%}的同类用户更异常。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.OUTAGE, Explanation.VACANCY),
)
def model_score(peer_score: Column, *, top: float = 0.999) -> Column:
    """The online peer model puts the day's change in the top 0.1 %, three days (模型评分). Default of this project."""
    return peer_score / top


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
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
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

    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(score, (rose | fell) & known)


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
    known = _established(known_days, pv_kva, history)
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
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
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
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
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
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return gated(valley_rise / rise, same & known)


@rule(
    Days,
    severity=3,
    hold=31 * DAY_SECONDS,
    title=("Below its peers", "低于同类用户"),
    text=(
        (
            "Two months far below {peers:.0f} peers by contract capacity[: {month_kwh:.1f} kWh a day, "
            "{peer_share:.0%} of their median], {below_peers:.1f} spreads under it (limit {deviations:.1f})."
        ),
        (
            "连续两月按合同容量远低于{peers:.0f}户同类[:日均{month_kwh:.1f}kWh,为其中位数的{peer_share:.0%}],"
            "低{below_peers:.1f}个离差(限值{deviations:.1f})。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY,),
)
def peer_shortfall(
    below_peers: Column,
    peers: Column,
    usual_rhythm: Column,
    month_kwh: Column,
    *,
    deviations: float = 3.0,
    least: float = 30.0,
    lived_in: float = 0.15,
    nothing: float = 0.0,
) -> Column:
    """Two months 3 robust deviations below the area's peers by capacity, in premises that show life (低于同类用户).

    It needs no history of its own, so it finds use that never was metered in full; months of nothing at all belong to
    `zero_usage`. Defaults of this project.
    """
    return gated(
        below_peers / deviations,
        (peers >= least) & (usual_rhythm >= lived_in) & (month_kwh > nothing),
    )


@rule(
    Days,
    severity=3,
    hold=31 * DAY_SECONDS,
    title=("Low usage", "低电量"),
    text=(
        (
            "Two months of hardly any use, the last of {month_kwh:.2f} kWh a day: under {own:.0%} of what the month is "
            "usually, or under {peer:.0%} of what peers use by contract capacity."
        ),
        (
            "连续两月电量极低,上月日均{month_kwh:.2f}kWh:不足自身同月常值的{own:.0%},"
            "或不足同类按合同容量用电的{peer:.0%}。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.VACANCY, Explanation.SAME_TROUBLE),
)
def low_usage(
    own_share: Column,
    peer_share: Column,
    month_kwh: Column,
    *,
    own: float = 0.1,
    peer: float = 0.05,
    nothing: float = 0.0,
) -> Column:
    """Two months under 10 % of the same month's usual, or under 5 % of the peers' load factor (低电量).

    Months of nothing at all belong to `zero_usage`. Defaults of this project.
    """
    score = np.maximum(
        own / np.maximum(own_share, 0.001), peer / np.maximum(peer_share, 0.001)
    )
    return gated(score, month_kwh > nothing)


@rule(
    Days,
    severity=2,
    hold=30 * DAY_SECONDS,
    release=DAY_SECONDS,
    status="shadow",
    title=("Other class of use", "用电类别不符"),
    text=(
        (
            "For a month the days have looked like those of another class of use, with a probability of "
            "{other_chance:.0%} (limit {chance:.0%})[: filed as {filed_class:class}, likely {other_class:class}]."
        ),
        (
            "近一月负荷形态像另一类用电,概率{other_chance:.0%}(限值{chance:.0%})"
            "[:档案为{filed_class:类别},疑似{other_class:类别}]。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def tariff_misuse(
    other_chance: Column,
    known_days: Column,
    expected_kwh: Column,
    pv_kva: Column,
    *,
    chance: float = 0.9,
    history: float = 14.0,
    usual: float = 1.0,
) -> Column:
    """The fleet model gives a class that is not filed a probability of 0.9, for 30 days (用电类别不符). Catalogue 1.6.

    It cannot tell with less than two weeks or 1 kWh a day, beside a generator, or without a model.
    """
    known = _established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return np.where(known, other_chance / chance, np.nan)


@rule(
    Days,
    severity=2,
    segments={"residential": {"load": 0.002}},
    title=("New connection not as it should be", "新装异常"),
    text=(
        (
            "[No valid reading came in the {unread_days:.0f} days since the customer was connected (limit {days:.0f}).]"
            "[The first month's load is {first_load:.2%} of the contract (limit {load:.1%}).]"
        ),
        "[新装{unread_days:.0f}天无有效示数(限值{days:.0f}天)。][首月负荷率{first_load:.2%}(限值{load:.1%})。]",
    ),
    curve=daily_energy,
    explained_by=(Explanation.UNREAD_AREA,),
)
def new_install_check(
    unread_days: Column, first_load: Column, *, days: float = 3.0, load: float = 0.02
) -> Column:
    """A new customer is not read by the third day, or the first month's load is below 2 % of the contract (新装).

    Catalogue 1.7; homes 0.2 %, since a new home often is empty: default of this project. A customer is new if the first
    record takes effect when half of the area's meters exist, at a meter that does not follow another of the same
    customer. The load counts from the 30th to the 60th day. Any other alert of such a meter within 30 days mentions it.
    """
    return np.maximum(unread_days / days, load / np.maximum(first_load, 1e-6))


@rule(
    Days,
    severity=2,
    hold=2 * DAY_SECONDS,
    release=14 * DAY_SECONDS,
    title=("Voltage dips without load", "电压电流脱耦"),
    text=(
        (
            "Suspected load beside the meter: registered load used to explain {explained:.0%} of the voltage's "
            "changes ({dip:.2f} V a kW), of late {explained_week:.0%}; "
            "{unexplained:.1f} times as much is left unexplained."
        ),
        (
            "疑似表外用电:电压变化原有{explained:.0%}可由计量负荷解释(每千瓦降{dip:.2f}V),近日仅{explained_week:.0%},"
            "无法解释的部分为平时的{unexplained:.1f}倍。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def voltage_current_decoupling(
    dip: Column,
    explained: Column,
    explained_week: Column,
    unexplained: Column,
    *,
    limit: float = 1.8,
    kept: float = 0.85,
    clearly: float = 0.5,
    least: float = 0.02,
) -> Column:
    """The voltage dips as with load, but no longer with what the meter registers (旁路). Catalogue 1.3, US 11079417.

    Only if load once explained half of the changes, at 0.02 V a kW or more. Limits: defaults of this project.
    """
    score = np.minimum(
        unexplained / limit, kept * explained / np.maximum(explained_week, 0.01)
    )
    return np.where((explained >= clearly) & (dip >= least), score, np.nan)

"""Use that is not typical of such a user: beside peers, class, contract and voltage."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import Explanation, gated, rule
from detectors.rules.consumption.established import established
from schemas.columns import Column, Days
from schemas.units import DAY_SECONDS


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
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
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

"""Whether an area's energy balance closes, and whether its meters are read."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import area_loss, daily_energy
from detectors.rule import NOT_KNOWN, Explanation, Level, rule
from schemas.columns import AreaDays, Column, Days
from schemas.units import DAY_SECONDS


@rule(
    AreaDays,
    severity=2,
    release=6 * DAY_SECONDS,
    title=("High area line loss", "台区线损异常"),
    text=(
        "Of 7 days 3 lost {loss_third:.1%} or more, 3 {loss_least_third:.1%} or less (usual {usual_loss:.1%}).",
        "近七天中三天线损不低于{loss_third:.1%},三天不高于{loss_least_third:.1%}(平时{usual_loss:.1%})。",
    ),
    curve=area_loss,
    explained_by=(Explanation.OUTAGE,),
)
def area_loss_high(
    loss_third: Column,
    loss_least_third: Column,
    usual_loss: Column,
    usual_spread: Column,
    loss_seen: Column,
    *,
    limit: float = 0.07,
    hard: float = 0.10,
    widths: float = 3.0,
    negative: float = -0.01,
    learned: float = 6.0,
    margin: float = 0.01,
) -> Column:
    """3 of 7 well-covered days lost, whatever was not read, over max(7 %, usual + 3 sigma) or 10 %, or under -1 %.

    Usual is the area's loss at that load. Limits: Zhao County case. 3 sigma count as at least one point, and until
    `learned` days are known the line is 10 %: defaults of this project.
    """
    usual = usual_loss + np.maximum(widths * usual_spread, margin)
    line = np.where(loss_seen >= learned, np.clip(usual, limit, hard), hard)
    return np.maximum(loss_third / line, loss_least_third / negative)


@rule(
    AreaDays,
    severity=3,
    hold=DAY_SECONDS,
    clear=0.5,
    meaning=2,
    title=("Low reading success", "采集成功率低"),
    text=(
        (
            "[Of the readings due in a day {read_share:.1%} arrived; ]without the meter that lacks most it is "
            "{others_share:.1%} (limit {limit:.1%})."
        ),
        "[当日采集成功率{read_share:.1%},]除缺数最多的一户外{others_share:.1%},低于{limit:.1%}。",
    ),
    explains=Explanation.UNREAD_AREA,
    curve=None,
    explained_by=(Explanation.OUTAGE,),
    outcome="communication_fault",
)
def read_success_rate(
    others_share: Column,
    usual_read: Column = NOT_KNOWN,
    *,
    limit: float = 0.98,
    due: float = 0.5,
) -> Column:
    """Under 98 % of an area's readings arrived, two days in a row (采集成功率), until 99 % do.

    The meter that lacks most is left out: below fifty meters a single meter is 2 %, and `read_failure` reports it. On a
    day of the week on which the area is not usually read no reading is due. Defaults of this project.
    """
    score = (1 - others_share) / (1 - limit)
    return np.where((usual_read < due) & (score >= 1), np.nan, score)


@rule(
    Days,
    severity=2,
    worse=(Level(2.0, 1, 0),),
    hold=2 * DAY_SECONDS,
    release=6 * DAY_SECONDS,
    title=("Use that goes with the area's loss", "台区线损关联"),
    text=(
        (
            "Suspected: what the area loses beyond the usual goes with this meter's use, at a correlation "
            "of {suspect_rho:.2f} in {suspect_days:.0f} days; {suspect_kwh:.0f} kWh a day may be missing "
            "(limit {least:g}).[ Its voltage is {found_apart:.2f} V off this transformer's, "
            "the area's others {area_apart:.2f} V.]"
        ),
        (
            "疑似:台区超常线损电量与该户用电量相关系数{suspect_rho:.2f}({suspect_days:.0f}天),"
            "估算少计约{suspect_kwh:.0f}kWh/日(限值{least:g})。"
            "[其电压变化与本台区变压器相差{found_apart:.2f}V,本台区其他电表为{area_apart:.2f}V。]"
        ),
    ),
    strengthened_by=("openings", "fields"),
    curve=daily_energy,
    explained_by=(Explanation.OUTAGE, Explanation.VACANCY, Explanation.METER_CHANGE),
)
def area_loss_correlation(
    suspect_rho: Column,
    suspect_days: Column,
    suspect_kwh: Column,
    area_excess_kwh: Column,
    unexplained: Column = NOT_KNOWN,
    slide: Column = NOT_KNOWN,
    *,
    correlated: float = 0.6,
    chance: float = 3.5,
    least: float = 10.0,
    dips: float = 1.8,
    drop: float = 8.0,
) -> Column:
    """Of the users of an area that loses too much, one whose energy explains it: correlation 0.6 and 10 kWh a day.

    Either a share is always missing, by Pearson and by rank, beside the area's load; or use fell as the loss rose. The
    correlation exceeds chance among hundreds of users (3.5 deviations of Fisher's z), three days in a row; it is well
    once the area is. One statistic is no proof: severity 1 needs the customer's own history too, by the limits of
    `voltage_current_decoupling` or `step_drop`, or an opening without an order or a magnetic field within 30 days.
    Cut-offs: defaults of this project.
    """
    line = np.maximum(
        correlated, np.tanh(chance / np.sqrt(np.maximum(suspect_days - 5, 1)))
    )
    score = np.where(
        area_excess_kwh > 0, np.minimum(suspect_rho / line, suspect_kwh / least), 0.0
    )
    twice = (unexplained >= dips) | (slide >= drop)
    return np.where(twice & (score >= 1), 1 + score, np.minimum(score, 1.9))

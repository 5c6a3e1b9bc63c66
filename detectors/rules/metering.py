"""Whether the meter itself is sound."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import (
    clock_offset,
    daily_energy,
    daily_readings,
    power_and_register,
    register,
)
from detectors.rule import (
    DISPROVED_SCORE,
    NOT_KNOWN,
    Explanation,
    Level,
    between,
    gated,
    rule,
)
from schemas.columns import Clocks, Column, Days, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS


@rule(
    Readings,
    severity=1,
    hold=4 * HOUR_SECONDS,
    title=("Meter stopped", "停走"),
    text=(
        "Suspected stopped meter: the register stands still although {still_kwh:.2f} kWh have flowed since.",
        "疑似停走:示值不变,其间按功率已用电{still_kwh:.2f}kWh。",
    ),
    curve=power_and_register,
    explained_by=(Explanation.OUTAGE, Explanation.METER_CHANGE),
)
def meter_stopped(
    register_delta: Column, still_kwh: Column, *, least: float = 0.1
) -> Column:
    """The register stands still while power flows (停走). 0.1 kWh secondary, 4 h, as in public terminal firmware."""
    return between((register_delta == 0) & (still_kwh >= least), register_delta > 0)


@rule(
    Readings,
    severity=1,
    release=30 * DAY_SECONDS,
    title=("Register went backward", "示值倒走"),
    text=(
        "Suspected backward register: it fell by {register_drop:.2f} kWh, confirmed by a second reading.",
        "疑似倒走:示值下降{register_drop:.2f}kWh,经再次抄读确认。",
    ),
    curve=register,
    explained_by=(Explanation.METER_CHANGE,),
)
def register_decrease(register_drop: Column, *, least: float = 0.01) -> Column:
    """The register fell by more than its last digit, confirmed by re-read, no rollover or change-out (倒走, ERC27).

    A register that is back where it was before, and went on from there, never fell: the episode ends at once.
    """
    score = between(register_drop > least, register_drop <= least)
    return np.where(np.isneginf(register_drop), DISPROVED_SCORE, score)


@rule(
    Clocks,
    severity=4,
    hold=1,
    clear=0.4,
    worse=(Level(2.0, 3, 1),),
    title=("Clock drift", "时钟异常"),
    text=(
        "The meter's clock is {offset:.0f} s away from the head-end's (warning at {warn:.0f} s).",
        "电表时钟偏差{offset:.0f}s(预警{warn:.0f}s)。",
    ),
    curve=clock_offset,
    explained_by=(),
    outcome="clock_fault",
)
def clock_drift(offset: Column, *, warn: float = 300.0) -> Column:
    """The meter's clock is off, twice in a row (时钟异常). Warn 5 min, alarm 10 min, clear 2 min: terminal defaults."""
    return np.abs(offset) / warn


@rule(
    Days,
    severity=3,
    title=("Point not read", "抄表失败"),
    text=(
        (
            "Nothing was read for {missing_days:.0f} days (limit {days:.0f}[, and {unread_usual:.0f} more "
            "as this meter is read on chosen days]); a supplementary reading is due."
        ),
        "连续{missing_days:.0f}天无抄表数据(限值{days:.0f}天[,该表按选定日抄表,另加{unread_usual:.0f}天]),需补抄。",
    ),
    ends=(
        " The meter is gone: still nothing, though its area is read.",
        "该表已失联,台区其他表均有数据,按拆除处理。",
    ),
    curve=daily_readings,
    explained_by=(
        Explanation.OUTAGE,
        Explanation.METER_CHANGE,
        Explanation.UNREAD_AREA,
    ),
    outcome="communication_fault",
)
def read_failure(
    missing_days: Column, unread_usual: Column = NOT_KNOWN, *, days: float = 3.0
) -> Column:
    """No daily reading for 3 days (抄表失败, ERC39 logic), more for a meter that is read on chosen days.

    After 60 days without a reading the meter counts as gone, if its area is read: that ends the episode. A meter that
    is read again is new. Default of this project.
    """
    return missing_days / (days + np.nan_to_num(unread_usual))


@rule(
    Days,
    severity=2,
    hold=1,
    title=("Tariff registers do not add up", "示值不平"),
    text=(
        "The tariffs' registers are {tariff_gap:.2f} kWh off the total, on a day of {register_kwh:.1f} kWh.",
        "各费率示值之和与总示值相差{tariff_gap:.2f}kWh,当日电量{register_kwh:.1f}kWh。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def register_sum_mismatch(
    tariff_gap: Column,
    register_kwh: Column,
    *,
    least: float = 0.1,
    share: float = 0.005,
) -> Column:
    """Total and tariffs' registers apart by 0.1 kWh and 0.5 % of the day, two days (示值不平).

    Defaults of this project.
    """
    return tariff_gap / np.maximum(least, share * register_kwh)


@rule(
    Days,
    severity=1,
    release=2 * DAY_SECONDS,
    title=("Meter runaway", "电表飞走"),
    text=(
        "Suspected runaway: the register moved {register_kwh:.1f} kWh; power or contract make {explained_kwh:.1f}.",
        "疑似飞走:示值走{register_kwh:.1f}kWh,按功率或合同容量应为{explained_kwh:.1f}kWh。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def meter_runaway(
    register_kwh: Column,
    explained_kwh: Column,
    by_power: Column,
    *,
    times: float = 10.0,
    over: float = 1.2,
    known: float = 0.01,
    least: float = 3.0,
) -> Column:
    """The register moved ten times the energy of the power readings, or 1.2 times the contract's (飞走).

    Times and the floor of 0.01 kWh: terminal defaults. Without power the contract counts, day and night. At least
    3 kWh, since short uses may fall between two readings of power: defaults of this project.
    """
    limit = np.where(by_power == 1, times, over) * explained_kwh
    return gated(register_kwh / limit, (explained_kwh > known) & (register_kwh > least))


@rule(
    Days,
    severity=2,
    release=DAY_SECONDS,
    title=("Energy and power disagree", "电能量超差"),
    text=(
        "Of 3 days 2 counted {ratio_under:.0%} or less of what power makes, 2 {ratio_over:.0%} or more.",
        "三天中两天示值电量不高于功率电量{ratio_under:.0%},两天不低于{ratio_over:.0%}。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def energy_ratio_error(
    ratio_over: Column, ratio_under: Column, *, band: float = 0.1
) -> Column:
    """Two days of three the register moved 10 % more or less than power makes (超差). Default of this project.

    Two standard errors of power, which is read at moments, are deducted; three days in the band clear it.
    """
    return np.maximum(ratio_over - 1, 1 - ratio_under) / band


@rule(
    Days,
    severity=4,
    release=DAY_SECONDS,
    title=("Register and intervals differ", "示值与曲线电量不符"),
    text=(
        "The register moved {register_kwh:.2f} kWh from midnight to midnight, the intervals add up to {kwh:.2f} kWh.",
        "零点示值差{register_kwh:.2f}kWh,当日曲线电量合计{kwh:.2f}kWh。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def register_interval_sum(
    register_kwh: Column,
    kwh: Column,
    coverage: Column,
    midnights: Column,
    *,
    digit: float = 0.01,
    share: float = 0.01,
    least: float = 1.0,
) -> Column:
    """A day's register and its intervals differ by 1 % and two last digits, all read (VEE sum check). Catalogue 1.1."""
    score = np.abs(register_kwh - kwh) / np.maximum(2 * digit, share * kwh)
    return np.where((coverage >= least) & (midnights == 1), score, np.nan)


@rule(
    Days,
    severity=1,
    hold=2 * DAY_SECONDS,
    title=("Ratio on file is not the meter's", "倍率不符"),
    text=(
        "The meter is set to a ratio of {meter_ratio:g}, the file says {ratio:g}: energy is billed by the wrong one.",
        "电表设置倍率{meter_ratio:g},档案倍率{ratio:g},电量可能按错误倍率计算。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def ct_ratio_mismatch(
    meter_ratio: Column,
    ratio: Column,
    *,
    band: float = 0.02,
    same: float = 0.01,
    unset: float = 1.0,
) -> Column:
    """The ratio in the meter is not the file's, three days (倍率不符). 2 % apart; a meter left at 1 was never set.

    Defaults of this project.
    """
    apart = np.abs(meter_ratio / ratio - 1)
    return between((apart > band) & (meter_ratio != unset), apart < same)


@rule(
    Days,
    severity=2,
    hold=2 * DAY_SECONDS,
    release=DAY_SECONDS,
    title=("Ratio changed on file alone", "倍率变更不符"),
    text=(
        "The ratio on file became {ratio_factor:.2f} times as high, what the meter shows {shown_factor:.2f} times.",
        "档案倍率变为原来的{ratio_factor:.2f}倍,电表日电量为原来的{shown_factor:.2f}倍。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def ct_ratio_step(
    ratio_factor: Column,
    shown_factor: Column,
    *,
    least: float = 1.25,
    near: float = 0.25,
    apart: float = 0.5,
) -> Column:
    """The file's ratio changed by a quarter or more, and the meter shows the same as before, three days (倍率变更).

    New transformers divide the meter's energy by as much; a quarter of the way to that is near.
    Defaults of this project.
    """
    due, seen = np.abs(np.log(ratio_factor)), np.abs(np.log(shown_factor))
    return between(
        (due >= np.log(least)) & (seen < near * due),
        (due < np.log(least)) | (seen > apart * due),
    )


@rule(
    Days,
    severity=2,
    hold=1,
    release=30 * DAY_SECONDS,
    title=("Export without registered generation", "反向电量异常"),
    text=(
        (
            "{export_kwh:.1f} kWh flowed back in a day (limit {least:.1f}, or two of the register's last digits), and "
            "no generation is on file."
        ),
        "日反向电量{export_kwh:.1f}kWh(一次侧,限值{least:.1f}kWh或示值两个末位),档案无分布式电源。",
    ),
    ends=(" It is on file now.", "现已有档案。"),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def unregistered_reverse(
    export_kwh: Column,
    pv_kva: Column,
    ratio: Column,
    *,
    least: float = 1.0,
    quiet: float = 0.1,
    digit: float = 0.01,
) -> Column:
    """More than 1 kWh a day exported, two days, without generation on file (反向电量). Default of this project.

    Behind transformers it is two of the register's last digits if that is more. A month without export clears it, so
    that dull weeks do not; generation on file clears it at once.
    """
    limit = np.maximum(least, 2 * digit * ratio)
    return np.where(
        pv_kva > 0,
        DISPROVED_SCORE,
        between(export_kwh > limit, export_kwh < quiet * limit),
    )


@rule(
    Days,
    severity=1,
    title=("Use after the supply was stopped", "停电销户后用电"),
    text=(
        (
            "{stopped_kwh:.2f} kWh were used since the supply was stopped or the account closed (limit {least:.2f}, or "
            "two of the register's last digits)."
        ),
        "停电或销户后仍用电{stopped_kwh:.2f}kWh(一次侧,限值{least:.2f}kWh或示值两个末位)。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def use_after_stop(
    stopped_kwh: Column, ratio: Column, *, least: float = 0.1, digit: float = 0.01
) -> Column:
    """More than 0.1 kWh since the supply was stopped (销户停电用电); resumed supply clears it. Catalogue 1.3.

    Behind transformers it is two of the register's last digits if that is more.
    """
    return between(stopped_kwh > np.maximum(least, 2 * digit * ratio), stopped_kwh == 0)


@rule(
    Days,
    severity=2,
    clear=0.97,
    title=("Demand register is wrong", "需量异常"),
    text=(
        "The demand register shows {demand:.3f} kW; the highest mean power since its reset is {demand_floor:.3f} kW.",
        "需量示值{demand:.3f}kW,复零以来最大平均功率{demand_floor:.3f}kW。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.METER_CHANGE,),
)
def demand_register_error(
    demand: Column,
    demand_floor: Column,
    demand_ceiling: Column,
    *,
    under: float = 0.95,
    over: float = 1.1,
    digit: float = 0.05,
) -> Column:
    """The demand register stands below 95 % or above 110 % of the highest quarter-hour since its reset (需量异常).

    Defaults of this project; 0.05 kW is the last digit of a quarter-hour's energy.
    """
    short = (under * demand_floor - digit - demand) / demand_floor
    return np.maximum(1 + short, demand / (over * demand_ceiling + digit))

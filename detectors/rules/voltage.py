"""Voltage, phase and current rules of the meter: whether metering is intact."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import (
    broken_phase,
    current_unbalance,
    lost_current,
    lost_voltage,
    phase_powers,
    supply_band,
    voltages,
)
from detectors.rule import (
    CountryLimits,
    Explanation,
    Level,
    between,
    gated,
    rule,
)
from schemas.columns import Column, Readings
from schemas.units import HOUR_SECONDS, MINUTE_SECONDS

WIDE_LIMITS = {"under": 0.90, "over": 1.10}
NARROW_LIMITS = {"under": 0.94, "over": 1.06}


@rule(
    Readings,
    severity=1,
    hold=MINUTE_SECONDS,
    release=MINUTE_SECONDS,
    title=("Voltage loss", "失压"),
    text=(
        "Suspected voltage loss on phase {phase}: {u:.1f} V is below {lost:.0%} of {un:.0f} V while {i:.2f} A flow.",
        "疑似失压:{phase}相电压{u:.1f}V低于额定{un:.0f}V的{lost:.0%},仍有电流{i:.2f}A。",
    ),
    curve=lost_voltage,
    explained_by=(Explanation.OUTAGE,),
)
def voltage_loss(
    u: Column,
    i: Column,
    un: Column,
    ib: Column,
    *,
    lost: float = 0.78,
    back: float = 0.85,
    load: float = 0.005,
) -> Column:
    """A phase has lost its voltage but still carries current (失压). Limits: meter event defaults, Q/GDW 1354-2013."""
    return between((u < lost * un) & (np.abs(i) > load * ib), u > back * un)


@rule(
    Readings,
    severity=2,
    hold=MINUTE_SECONDS,
    release=MINUTE_SECONDS,
    title=("Phase break", "断相"),
    text=(
        "Suspected phase break on phase {phase}: {u:.1f} V is below {broken:.0%} of {un:.0f} V and no current flows.",
        "疑似断相:{phase}相电压{u:.1f}V低于额定{un:.0f}V的{broken:.0%},且无电流。",
    ),
    curve=broken_phase,
    explained_by=(Explanation.OUTAGE,),
)
def phase_break(
    u: Column,
    i: Column,
    most_u: Column,
    un: Column,
    ib: Column,
    *,
    broken: float = 0.60,
    back: float = 0.70,
    load: float = 0.005,
) -> Column:
    """A phase has neither voltage nor current beside a live one (断相). Q/GDW 1354-2013; clear line: this project."""
    return between(
        (u < broken * un) & (np.abs(i) < load * ib) & (most_u > back * un),
        u > back * un,
    )


@rule(
    Readings,
    severity=1,
    hold=MINUTE_SECONDS,
    release=MINUTE_SECONDS,
    title=("Current loss", "失流"),
    text=(
        "Suspected current loss on phase {phase}: {i:.3f} A at {u:.1f} V while another phase carries {most_i:.2f} A.",
        "疑似失流:{phase}相电压{u:.1f}V正常而电流仅{i:.3f}A,另一相电流{most_i:.2f}A。",
    ),
    curve=lost_current,
    explained_by=(Explanation.OUTAGE,),
)
def current_loss(
    u: Column,
    i: Column,
    most_i: Column,
    un: Column,
    ib: Column,
    *,
    alive: float = 0.70,
    none: float = 0.005,
    some: float = 0.05,
) -> Column:
    """A phase carries nothing while another is loaded (失流). Limits: meter event defaults, Q/GDW 1354-2013."""
    return between(
        (u > alive * un) & (np.abs(i) < none * ib) & (most_i > some * ib),
        np.abs(i) > some * ib,
    )


@rule(
    Readings,
    severity=1,
    hold=MINUTE_SECONDS,
    title=("All-phase voltage loss", "全失压"),
    text=(
        "Suspected loss of all voltages: at most {highest_u:.1f} V, under {lost:.0%} of {un:.0f}, at {most_i:.2f} A.",
        "疑似全失压:各相电压不超过{highest_u:.1f}V,低于额定{un:.0f}V的{lost:.0%},仍有电流{most_i:.2f}A。",
    ),
    curve=lost_voltage,
    explained_by=(Explanation.OUTAGE,),
)
def all_voltage_loss(
    highest_u: Column,
    most_i: Column,
    un: Column,
    ib: Column,
    elements: Column,
    *,
    lost: float = 0.60,
    back: float = 0.70,
    load: float = 0.05,
) -> Column:
    """A three-phase meter has lost every voltage, yet current flows (全失压). 60 s: meter default; levels: catalogue.

    Well again with one phase above 70 %, as for phase_break: default of this project.
    """
    trouble = (highest_u < lost * un) & (most_i > load * ib)
    return np.where(elements > 1, between(trouble, highest_u > back * un), np.nan)


@rule(
    Readings,
    severity=3,
    hold=HOUR_SECONDS,
    chronic=True,
    title=("Open current circuit", "断流"),
    text=(
        "Suspected open current circuit: phase {phase}, usually loaded ({busy:.0%}), carries {i:.3f} A at {u:.1f} V.",
        "疑似断流:{phase}相电压{u:.1f}V而电流仅{i:.3f}A,此前{busy:.0%}的时间带载。",
    ),
    curve=lost_current,
    explained_by=(Explanation.OUTAGE, Explanation.VACANCY),
)
def current_break(
    u: Column,
    i: Column,
    busy: Column,
    most_i: Column,
    un: Column,
    ib: Column,
    *,
    alive: float = 0.60,
    none: float = 0.005,
    some: float = 0.05,
    usual: float = 0.80,
) -> Column:
    """A phase that is nearly always loaded carries nothing, others still do (断流). Levels: meter defaults.

    The guard by history is the catalogue's; 80 % of the time, an hour, and that others carry: defaults of this project.
    """
    idle = (u > alive * un) & (np.abs(i) < none * ib) & (most_i > none * ib)
    return between(idle & (busy > usual), np.abs(i) > some * ib)


@rule(
    Readings,
    severity=2,
    hold=MINUTE_SECONDS,
    chronic=True,
    title=("Voltage unbalance at the meter", "电压不平衡"),
    text=(
        "Suspected broken neutral: phase {phase} over {limit:.0%} off the mean: {u_a:.0f}, {u_b:.0f}, {u_c:.0f} V.",
        "疑似中性线断线:{phase}相偏离三相平均超过{limit:.0%}({u_a:.0f}/{u_b:.0f}/{u_c:.0f}V)。",
    ),
    curve=voltages,
    explained_by=(Explanation.OUTAGE,),
)
def meter_voltage_unbalance(
    u: Column,
    lowest_u: Column,
    highest_u: Column,
    un: Column,
    *,
    limit: float = 0.30,
    dead: float = 0.60,
    high: float = 1.15,
) -> Column:
    """A phase voltage over 30 % off the mean, max|U - mean| / mean (电压不平衡): meter default, formula: catalogue.

    A dead phase is a break, no unbalance, unless another is above 115 % as behind a broken neutral: this project.
    """
    mean = u.mean(axis=0)
    return gated(
        np.abs(u - mean) / mean / limit,
        (lowest_u > dead * un) | (highest_u > high * un),
    )


@rule(
    Readings,
    severity=1,
    hold=15 * MINUTE_SECONDS,
    chronic=True,
    title=("Reverse polarity", "反极性"),
    text=(
        "Suspected reverse polarity on phase {phase}: {p:.3f} kW flow back at a point without registered generation.",
        "疑似反极性:{phase}相有功{p:.3f}kW反向,该点无发电备案。",
    ),
    curve=phase_powers,
    explained_by=(),
)
def reverse_polarity(
    p: Column,
    most_p: Column,
    total_p: Column,
    elements: Column,
    un: Column,
    ib: Column,
    pv_kva: Column,
    *,
    floor: float = 0.005,
) -> Column:
    """A phase sends power back, others do not, nothing generates (反极性). Terminal defaults: 0.5 % Un Ib, 15 min."""
    back = (p < -floor * un * ib / 1000) & (pv_kva == 0)
    others = np.where(elements == 2, total_p < 0, (most_p > 0) | (elements == 1))
    return between(back & others, p >= 0)


@rule(
    Readings,
    severity=3,
    hold=HOUR_SECONDS,
    chronic=True,
    worse=(Level(3.0, 2, HOUR_SECONDS),),
    title=("Current unbalance at the meter", "电流不平衡"),
    text=(
        "Phase currents differ: phase {phase} carries {i:.2f} A beside a mean of {mean_i:.2f} A (limit {limit:.0%}).",
        "电流不平衡:{phase}相{i:.2f}A,三相平均{mean_i:.2f}A(限值{limit:.0%})。",
    ),
    curve=current_unbalance,
    explained_by=(),
)
def meter_current_unbalance(
    i: Column,
    mean_i: Column,
    most_i: Column,
    ib: Column,
    *,
    limit: float = 0.30,
    load: float = 0.05,
) -> Column:
    """Phase currents far from their mean (电流不平衡): 30 %, severe 90 %, raised above 5 % Ib only: meter defaults.

    An hour to raise: default of this project.
    """
    return gated(np.abs(np.abs(i) - mean_i) / mean_i / limit, most_i > load * ib)


@rule(
    Readings,
    severity=3,
    hold=HOUR_SECONDS // 2,
    chronic=True,
    segments={
        "single_phase": {"under": 0.90},
        "high_voltage": WIDE_LIMITS,
        "highest_voltage": WIDE_LIMITS,
    },
    countries={
        "europe": CountryLimits(WIDE_LIMITS),  # EN 50160
        # Electricity Safety, Quality and Continuity Regulations 2002: +10/-6 %, high voltage +-6 %
        "britain": CountryLimits(
            {"under": 0.94, "over": 1.10},
            {
                "single_phase": {"under": 0.94},
                "medium_voltage": NARROW_LIMITS,
                "high_voltage": NARROW_LIMITS,
            },
        ),
    },
    title=("Voltage deviation", "电压越限"),
    text=(
        "Supply voltage of phase {phase} outside its band: {u:.1f} V, not {under:.0%} to {over:.0%} of {un:.0f} V.",
        "电压越限:{phase}相电压{u:.1f}V,不在额定{un:.0f}V的{under:.0%}至{over:.0%}之间。",
    ),
    curve=supply_band,
    explained_by=(Explanation.OUTAGE,),
)
def voltage_deviation(
    u: Column,
    un: Column,
    *,
    over: float = 1.07,
    under: float = 0.93,
    inside: float = 0.01,
    dead: float = 0.60,
) -> Column:
    """Supply voltage outside GB/T 12325-2008: +-7 %, 220 V +7/-10 %. Below 60 % it is a break, no deviation.

    From 35 kV the standard limits the sum of both deviations to 10 %, which one reading can only break alone. Elsewhere
    the setting `voltage_limits` gives the limits of the country.
    """
    ratio = u / un
    trouble = (ratio > over) | ((ratio < under) & (ratio > dead))
    return between(trouble, (ratio < over - inside) & (ratio > under + inside))

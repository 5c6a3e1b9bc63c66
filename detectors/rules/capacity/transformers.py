"""Whether a transformer is loaded beyond what it may carry."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from detectors.curves.measured import area_currents, daily_energy, transformer_load
from detectors.rule import Level, gated, rule
from detectors.rules.capacity.customers import OVERLOAD_LEVELS
from schemas.columns import AreaDays, Column, Intervals
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS


@rule(
    Intervals,
    severity=3,
    hold=2 * HOUR_SECONDS,
    chronic=True,
    clear=0.75 / 0.80,
    worse=OVERLOAD_LEVELS,
    title=("Transformer overload", "变压器重过载"),
    text=(
        "The transformer carries {kva:.0f} kVA of its {rating_kva:.0f} kVA (heavy from {heavy:.0%}).",
        "变压器负载{kva:.0f}kVA,额定{rating_kva:.0f}kVA(重载线{heavy:.0%})。",
    ),
    curve=transformer_load,
    explained_by=(),
)
def transformer_overload(
    kva: Column,
    rating_kva: Column,
    coverage: Column,
    *,
    heavy: float = 0.80,
    least: float = 0.90,
) -> Column:
    """A transformer above 80 % (重载), 100 % (过载), 150 % of its rating; clear below 75 %. Limits: catalogue 1.4."""
    return np.where(coverage >= least, kva / rating_kva / heavy, np.nan)


@rule(
    AreaDays,
    severity=3,
    release=DAY_SECONDS,
    clear=0.75 / 0.80,
    worse=(Level(1.0 / 0.8, 2, 0),),
    title=("Transformer overload expected", "变压器重过载预警"),
    text=(
        (
            "A load of {peak_kva:.0f} kVA is expected within two days[, {peak_hours:.0f} hours after midnight]"
            "[ (90 % interval {peak_low:.0f} to {peak_high:.0f} kVA)]; {heavy:.0%} of the transformer's "
            "{rating_kva:.0f} kVA are heavy."
        ),
        (
            "预计两日内变压器最大负载{peak_kva:.0f}kVA[,约在零点后{peak_hours:.0f}小时]"
            "[(90%区间{peak_low:.0f}至{peak_high:.0f}kVA)],额定{rating_kva:.0f}kVA(重载线{heavy:.0%})。"
        ),
    ),
    curve=transformer_load,
    explained_by=(),
)
def transformer_overload_expected(
    peak_kva: Column,
    peak_error: Column,
    rating_kva: Column,
    *,
    heavy: float = 0.80,
    chance: float = 0.80,
) -> Column:
    """A transformer will pass 80 % of its rating (重载) within two days with a chance of 80 %, or 100 % (过载).

    By a forecast of its own load for each of 48 hours, made at the midnight that ends a day: trouble is known by the
    evening before. An hour counts by its mean. The forecast's peaks are off by a normal error. Limits as of
    transformer_overload, cleared below 75 %; the chance: default of this project.
    """
    return (peak_kva - ndtri(chance) * peak_error) / rating_kva / heavy


@rule(
    Intervals,
    severity=1,
    hold=15 * MINUTE_SECONDS,
    chronic=True,
    clear=0.95,
    title=("Transformer hot by its load", "变压器热点温度过高"),
    text=(
        (
            "By its load the transformer's hot spot is {hot_spot_rise:.0f} K, its top oil {top_oil_rise:.0f} K "
            "above the air[ of {air:.0f} deg C] (limits {hot:.0f} and {oil:.0f} deg C; "
            "unknown air counts as {ambient:.0f})."
        ),
        (
            "按负载推算,变压器热点温升{hot_spot_rise:.0f}K、顶层油温升{top_oil_rise:.0f}K[,实测气温{air:.0f}℃]"
            "(热点限值{hot:.0f}℃、顶层油限值{oil:.0f}℃;无气温时按{ambient:.0f}℃)。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def transformer_thermal(
    top_oil_rise: Column,
    hot_spot_rise: Column,
    heated_hours: Column,
    air: Column,
    *,
    ambient: float = 20.0,
    hot: float = 120.0,
    oil: float = 105.0,
    span: float = 100.0,
    settled: float = 12.0,
) -> Column:
    """Hot spot above 120 deg C or top oil above 105 by the load of the last hours (IEC 60076-7), cleared 5 K below.

    If no terminal sends the air's temperature, it counts as 20 deg C, the standard's yearly mean. It is well only once
    the load of four oil time constants is known, and takes two intervals to raise: defaults of this project. 0.01 of
    the score is a kelvin.
    """
    around = np.where(np.isfinite(air), air, ambient)
    kelvins = np.maximum(hot_spot_rise - (hot - around), top_oil_rise - (oil - around))
    score = 1 + kelvins / span
    return np.where((score >= 1) | (heated_hours >= settled), score, np.nan)


@rule(
    Intervals,
    severity=3,
    hold=2 * HOUR_SECONDS,
    chronic=True,
    segments={"dyn11": {"limit": 0.25}},
    title=("Transformer load unbalance", "台区三相不平衡"),
    text=(
        "Phase loads {current_a:.0f}, {current_b:.0f}, {current_c:.0f} A differ over {limit:.0%} at {kva:.0f} kVA.",
        "台区三相负荷不平衡超过{limit:.0%}:{current_a:.0f}/{current_b:.0f}/{current_c:.0f}A,负载{kva:.0f}kVA。",
    ),
    curve=area_currents,
    explained_by=(),
)
def area_load_unbalance(
    current: Column,
    kva: Column,
    rating_kva: Column,
    gateway: Column,
    *,
    limit: float = 0.15,
    loaded: float = 0.50,
    band: float = 0.05,
) -> Column:
    """(Imax - Imin) / Imax above 15 % (Yyn0) or 25 % (Dyn11), at half load or more. Q/GDW 1519; gate, band: catalogue.

    Only the gateway meter counts: a single-phase meter does not send the phase of the feeder it is connected to.
    """
    amps = np.abs(current)
    spread = 1 - amps.min(axis=0) / amps.max(axis=0)
    score = np.where(
        spread > limit, spread / limit, np.where(spread < limit - band, 0.0, 0.95)
    )
    return np.where(gateway == 1, gated(score, kva > loaded * rating_kva), np.nan)

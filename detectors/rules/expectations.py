"""Whether trouble is to be expected that can still be averted."""

from __future__ import annotations

from scipy.special import ndtri

from detectors.curves.measured import transformer_load
from detectors.rule import Level, rule
from schemas.columns import AreaDays, Column
from schemas.units import DAY_SECONDS


@rule(
    AreaDays,
    severity=3,
    release=DAY_SECONDS,
    clear=0.75 / 0.80,
    worse=(Level(1.0 / 0.8, 2, 0),),
    title=("Transformer overload expected", "变压器重过载预警"),
    text=(
        (
            "Within two days the transformer is expected to carry {peak_kva:.0f} of its {rating_kva:.0f} kVA, in "
            "{peak_hours:.0f} hours[ (90 % interval {peak_low:.0f} to {peak_high:.0f} kVA)]; heavy load is from "
            "{heavy:.0%}."
        ),
        (
            "预计两日内变压器最大负载{peak_kva:.0f}kVA,额定{rating_kva:.0f}kVA,约{peak_hours:.0f}小时后出现"
            "[(90%区间{peak_low:.0f}至{peak_high:.0f}kVA)],重载线{heavy:.0%}。"
        ),
    ),
    curve=transformer_load,
    explained_by=(),
)
def transformer_overload_expected(
    peak_kva: Column,
    peak_error: Column,
    peak_hours: Column,
    rating_kva: Column,
    *,
    heavy: float = 0.80,
    chance: float = 0.80,
) -> Column:
    """A transformer will pass 80 % of its rating (重载) within two days with a chance of 80 %, or 100 % (过载).

    By a forecast of the area's own load, hour by hour for 48 hours, at the midnight that ends a day; an hour counts by
    its mean. The chance is that of a normal error of the forecast's peaks. Limits as of `transformer_overload`, cleared
    below 75 %; the chance: default of this project.
    """
    sure_kva = peak_kva - ndtri(chance) * peak_error
    return sure_kva / rating_kva / heavy

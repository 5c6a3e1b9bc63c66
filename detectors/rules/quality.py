"""Whether the supply is of the quality that standards promise."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import rule
from schemas.columns import Column, Days, Intervals, Readings
from schemas.units import DAY_SECONDS, MINUTE_SECONDS


@rule(
    Readings,
    severity=3,
    hold=5 * MINUTE_SECONDS,
    chronic=True,
    clear=0.95,
    title=("Voltage harmonics", "谐波超限"),
    segments={
        "medium_voltage": {"limit": 4.0},
        "high_voltage": {"limit": 3.0},
        "highest_voltage": {"limit": 2.0},
    },
    text=(
        "Harmonics distort the voltage of phase {phase} by {thd:.2f} % (limit {limit:.0f} %).",
        "谐波超限:{phase}相电压总谐波畸变率{thd:.2f}%(限值{limit:.0f}%)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def harmonics_thd(thd: Column, un: Column, *, limit: float = 5.0) -> Column:  # noqa: ARG001 - the class is that of un
    """Harmonic distortion of the voltage above GB/T 14549-93 (谐波): 5 % at 0.38 kV, 4, 3 and 2 % at higher classes.

    Five minutes; cleared below 95 % of the limit, which at 0.38 kV is the terminal's 4.75 %.
    """
    return thd / limit


@rule(
    Days,
    severity=3,
    release=2 * DAY_SECONDS,
    title=("Voltage unbalance of the supply", "三相电压不平衡度超限"),
    text=(
        (
            "Voltages are unbalanced: 95 % of the day's values lie up to {unbalance_p95:.1%}, the highest is "
            "{unbalance_top:.1%} (limits {limit:.0%} and {brief:.0%}, {stand_in:.0f} times that without angles: "
            "{by_magnitude:.0%} of the values are from magnitudes alone)."
        ),
        (
            "三相电压不平衡度超限:当日95%概率大值{unbalance_p95:.1%},最大值{unbalance_top:.1%}"
            "(限值{limit:.0%}、短时{brief:.0%};其中{by_magnitude:.0%}仅由幅值近似,限值按{stand_in:.0f}倍)。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def pq_voltage_unbalance(
    unbalance_p95: Column,
    unbalance_top: Column,
    by_magnitude: Column,
    *,
    limit: float = 0.02,
    brief: float = 0.04,
    stand_in: float = 2.0,
) -> Column:
    """Unbalance of voltages U2/U1 above GB/T 15543-2008 (不平衡度): 2 % for 95 % of a day's values, 4 % at any time.

    Without angles the greatest distance from the mean replaces it. This counts the zero sequence too, which is larger
    at low voltage, so it must be twice as much; three calm days to clear: defaults of this project.
    """
    return np.maximum(unbalance_p95 / limit, unbalance_top / brief) / np.where(
        by_magnitude > 0, stand_in, 1
    )


@rule(
    Intervals,
    severity=3,
    hold=MINUTE_SECONDS,
    release=MINUTE_SECONDS,
    title=("Frequency deviation", "频率偏差"),
    text=(
        (
            "The area's third highest meter shows {hz_above:+.2f} Hz above nominal, the third lowest "
            "{hz_below:+.2f} Hz below (limit {limit:.1f} Hz)."
        ),
        "台区内第三高的电表频率高于额定{hz_above:+.2f}Hz,第三低的低于额定{hz_below:+.2f}Hz(限值{limit:.1f}Hz)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def frequency_deviation(
    hz_above: Column, hz_below: Column, *, limit: float = 0.2
) -> Column:
    """At least three meters of an area show a frequency 0.2 Hz off nominal for a minute (频率偏差): GB/T 15945.

    0.2 Hz hold for systems from 3 GW on, 0.5 Hz for smaller ones. A single interval does not raise an alert.
    """
    return np.maximum(hz_above, hz_below) / limit

"""Whether the supply is of the quality that standards promise."""
from __future__ import annotations

import numpy as np

from detectors.rule import MINUTE, rule
from schemas.columns import Column, Readings


@rule(
    Readings, severity=3, hold=5 * MINUTE, release=5 * MINUTE, clear=0.95, title=("Voltage harmonics", "谐波超限"),
    text=("Harmonics of the voltage on phase {phase}: {thd:.2f} % at a supply of {line_kv:.3g} kV (limit {low:.0f} % "
          "at 0.38 kV, {medium:.0f} % from 6 kV, {high:.0f} % from 35 kV, {highest:.0f} % from 110 kV).",
          "谐波超限:{phase}相电压总谐波畸变率{thd:.2f}%,供电电压{line_kv:.3g}kV"
          "(限值:0.38kV {low:.0f}%,6kV起{medium:.0f}%,35kV起{high:.0f}%,110kV起{highest:.0f}%)。"),
)  # fmt: skip
def harmonics_thd(
    thd: Column, line_kv: Column, *, low: float = 5.0, medium: float = 4.0, high: float = 3.0, highest: float = 2.0,
    medium_kv: float = 6.0, high_kv: float = 35.0, highest_kv: float = 110.0, nominal: float = 0.97,
) -> Column:  # fmt: skip
    """Harmonic distortion of the voltage above GB/T 14549-93 for its class (谐波); cleared below 95 % of it, 4.75 % at 0.38 kV.

    The class is that of the nominal voltage; one may lie 3 % below its class: default of this project.
    """
    at_least = [line_kv >= nominal * kv for kv in (highest_kv, high_kv, medium_kv)]
    return thd / np.select(at_least, [highest, high, medium], low)

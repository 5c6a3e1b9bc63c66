"""Whether the supply is of the quality that standards promise."""
from __future__ import annotations

from detectors.rule import MINUTE, rule
from schemas.columns import Column, Readings


@rule(
    Readings, severity=3, hold=5 * MINUTE, release=5 * MINUTE, clear=0.95, title=("Voltage harmonics", "谐波超限"),
    segments={"medium_voltage": {"limit": 4.0}, "high_voltage": {"limit": 3.0}, "highest_voltage": {"limit": 2.0}},
    text=("Harmonics distort the voltage of phase {phase} by {thd:.2f} % (limit {limit:.0f} %).",
          "谐波超限:{phase}相电压总谐波畸变率{thd:.2f}%(限值{limit:.0f}%)。"),
)  # fmt: skip
def harmonics_thd(thd: Column, un: Column, *, limit: float = 5.0) -> Column:  # noqa: ARG001 - the class is that of un
    """Harmonic distortion of the voltage above GB/T 14549-93 (谐波): 5 % at 0.38 kV, 4, 3 and 2 % at higher classes.

    Five minutes; cleared below 95 % of the limit, which at 0.38 kV is the terminal's 4.75 %.
    """
    return thd / limit

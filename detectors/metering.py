"""Whether the meter itself is sound."""
from __future__ import annotations

import numpy as np

from detectors.rule import DAY, HOUR, Level, between, rule
from schemas.columns import Clocks, Column, Days, Readings


@rule(
    Readings, severity=1, hold=4 * HOUR, title=("Meter stopped", "停走"),
    text=("Suspected stopped meter: the register stands still although {still_kwh:.2f} kWh have flowed since.",
          "疑似停走:示值不变,其间按功率已用电{still_kwh:.2f}kWh。"),
)  # fmt: skip
def meter_stopped(register_delta: Column, still_kwh: Column, *, least: float = 0.1) -> Column:
    """The register stands still while power flows (停走). 0.1 kWh secondary, 4 h, as in public terminal firmware."""
    return between((register_delta == 0) & (still_kwh >= least), register_delta > 0)


@rule(
    Readings, severity=1, release=30 * DAY, title=("Register went backward", "示值倒走"),
    text=("Suspected backward register: it fell by {register_drop:.2f} kWh, confirmed by a second reading.",
          "疑似倒走:示值下降{register_drop:.2f}kWh,经再次抄读确认。"),
)  # fmt: skip
def register_decrease(register_drop: Column, *, least: float = 0.01) -> Column:
    """The register fell by more than its last digit, confirmed by re-read, no rollover or change-out (倒走, ERC27)."""
    return between(register_drop > least, register_drop <= least)


@rule(
    Clocks, severity=4, hold=1, clear=0.4, worse=(Level(2.0, 3, 1),), title=("Clock drift", "时钟异常"),
    text=("The meter's clock is {offset:.0f} s away from the head-end's (warning at {warn:.0f} s).",
          "电表时钟偏差{offset:.0f}s(预警{warn:.0f}s)。"),
)  # fmt: skip
def clock_drift(offset: Column, *, warn: float = 300.0) -> Column:
    """The meter's clock is off, twice in a row (时钟异常). Warn 5 min, alarm 10 min, clear 2 min: terminal defaults."""
    return np.abs(offset) / warn


@rule(
    Days, severity=3, title=("Point not read", "抄表失败"),
    text=("Nothing was read for {missing_days:.0f} days (limit {days:.0f}); a supplementary reading is due.",
          "连续{missing_days:.0f}天无抄表数据(限值{days:.0f}天),需补抄。"),
)  # fmt: skip
def read_failure(missing_days: Column, *, days: float = 3.0) -> Column:
    """No daily reading for 3 days (抄表失败, ERC39 logic)."""
    return missing_days / days

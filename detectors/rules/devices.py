"""Reports of meters, beside the orders of the time and the use afterwards."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import Explanation, Level, between, rule
from schemas.columns import Column, Incidents
from schemas.units import DAY_SECONDS


@rule(
    Incidents,
    severity=2,
    hold=DAY_SECONDS,
    worse=(Level(2.0, 1, 0),),
    title=("Meter opened without an order", "无工单开盖"),
    text=(
        "Suspected opening of cover or terminals without an order: {openings:.0f}[; use fell by {use_drop:.0%}].",
        "疑似无工单开启表盖、端钮盒或计量门,共{openings:.0f}次[;此后用电下降{use_drop:.0%}]。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def seal_or_cover_event(
    openings: Column, use_drop: Column, *, least: float = 1.0, fallen: float = 0.4
) -> Column:
    """Cover, terminals or door opened, no order or visit a day before or after (开盖, ERC37, ERC38), until inspected.

    More severe when the week after uses 60 % or less of the week before: default of this project.
    """
    opened = between(openings >= least, openings == 0)
    return np.where(
        (openings >= least) & (use_drop >= fallen), opened + use_drop / fallen, opened
    )


@rule(
    Incidents,
    severity=2,
    worse=(Level(2.0, 1, 0),),
    title=("Magnetic field", "恒定磁场"),
    text=(
        "Suspected magnetic field at the meter, {field_s:.0f} s (limit {least:.0f} s)[; use fell by {use_drop:.0%}].",
        "疑似恒定磁场作用于电表{field_s:.0f}s(限值{least:.0f}s)[;此后用电下降{use_drop:.0%}]。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def magnetic_field(
    field_s: Column, use_drop: Column, *, least: float = 60.0, fallen: float = 0.3
) -> Column:
    """A constant magnetic field of 60 s, a meter event default, until inspected (恒定磁场).

    Of severity 1 only with a second evidence, the week after using 30 % less than the week before: catalogue 5.
    """
    lasted = field_s / least
    return np.where(
        lasted < 1, lasted, np.where(use_drop >= fallen, 1 + use_drop / fallen, 1.0)
    )


@rule(
    Incidents,
    severity=2,
    hold=DAY_SECONDS,
    title=("Parameters changed without an order", "无工单编程"),
    text=(
        "Suspected setting of the meter's parameters without a work order, {changes:.0f} in all (limit {least:.0f}).",
        "疑似无工单修改电表参数,共{changes:.0f}次(限值{least:.0f}次)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def param_change_unordered(changes: Column, *, least: float = 1.0) -> Column:
    """Tariff, constant, ratio or reading day set, no order or visit a day before or after (编程异常). Catalogue 1.1."""
    return between(changes >= least, changes == 0)


@rule(
    Incidents,
    severity=2,
    title=("Relay does not answer", "费控执行失败"),
    text=(
        "The relay did not carry out {relay_failures:.0f} commands in a row (limit {times:.0f}).",
        "费控命令连续{relay_failures:.0f}次执行失败(限值{times:.0f}次)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def relay_unanswered(relay_failures: Column, *, times: float = 3.0) -> Column:
    """Three commands to the relay fail in a row (费控异常), until one succeeds. Default of this project."""
    return relay_failures / times


@rule(
    Incidents,
    severity=3,
    worse=(Level(3.0, 2, 0),),
    title=("Voltage sag or swell", "电压骤降骤升"),
    text=(
        "{disturbances:.0f} short disturbances in a day (limit {least:.0f}), last {residual:.2f} pu {seconds:.2f} s.",
        "24小时内短时电压扰动{disturbances:.0f}次(限值{least:.0f}次),末次{residual:.2f}pu、{seconds:.2f}s。",
    ),
    curve=daily_energy,
    explained_by=(Explanation.OUTAGE,),
)
def voltage_sag(
    disturbances: Column,
    residual: Column,  # noqa: ARG001 - evidence
    seconds: Column,  # noqa: ARG001 - evidence
    *,
    least: float = 1.0,
) -> Column:
    """Sag, swell or interruption (骤降): outside 0.9 to 1.1 pu for 10 ms to 1 min as in IEEE 1159; worse three a day.

    Means over a quarter-hour cannot show a sag: without a record of depth and length the rule cannot tell. Three a day,
    and a day without a sag to clear: defaults of this project.
    """
    return disturbances / least


@rule(
    Incidents,
    severity=3,
    title=("Frequent outages", "频繁停电"),
    text=(
        "{outages:.0f} unplanned outages within 30 days (limit {times:.0f}).",
        "30天内非计划停电{outages:.0f}次(限值{times:.0f}次)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def frequent_outage(outages: Column, *, times: float = 3.0) -> Column:
    """Three unplanned outages in 30 days of a meter or of a whole area (频繁停电). Default of this project."""
    return outages / times

"""Whether bills are right."""

from __future__ import annotations

import numpy as np

from detectors.curves.office import payments_of_customer
from detectors.rule import rule
from schemas.columns import Column, Invoices
from schemas.units import DAY_SECONDS


@rule(
    Invoices,
    severity=2,
    hold=DAY_SECONDS,
    title=("Wrong read date", "抄表日期不符"),
    text=(
        (
            "The reading that was billed is wrong[: taken {read_off:.1f} hours off its day]"
            "[: {short_kwh:.1f} kWh below the month-end freeze]."
        ),
        (
            "结算示数有误[:抄录时间偏离规定{read_off:.1f}小时][:比月末冻结示数低{short_kwh:.1f}kWh],"
            "24小时内未补抄。"
        ),
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def read_date_wrong(
    read_off: Column,
    short_kwh: Column,
    by_demand: Column,
    *,
    demand_hours: float = 1.0,
    other_hours: float = 24.0,
    least_kwh: float = 1.0,
) -> Column:
    """A bill stands on a reading of a wrong day or below the month-end freeze, a day without supplement (漏补抄).

    By demand: 1 h from 24:00 of the month's last day; others: 1 day from their read day. Defaults of this project.
    """
    limit = np.where(by_demand > 0, demand_hours, other_hours)
    return np.maximum(read_off / limit, short_kwh / least_kwh)


@rule(
    Invoices,
    severity=2,
    title=("Bill differs from its recomputation", "电费复核不符"),
    text=(
        "The bill is {difference:+.2f} yuan off the {recomputed:.2f} that its energy, demand and tariff give.",
        "账单与按其电量、需量和电价复算的{recomputed:.2f}元相差{difference:+.2f}元。",
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def bill_recalc_mismatch(
    difference: Column, recomputed: Column, *, least: float = 1.0, share: float = 0.005
) -> Column:
    """A bill differs from the amount that its tariff gives by more than 1 yuan and 0.5 %. Defaults of this project."""
    return np.abs(difference) / np.maximum(least, share * np.abs(recomputed))

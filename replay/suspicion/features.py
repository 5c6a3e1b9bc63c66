"""The facts of a customer that suspicion is learned from: their names, groups, words, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, expm1
from typing import Literal, NamedTuple

import numpy as np

from schemas.columns import Column

FactGroup = Literal["use", "alerts", "file", "missing", "exchange"]


def _as_it_is(value: float) -> float:
    return value


class Fact(NamedTuple):
    """A fact of a customer, its words, and the form in which people read it."""

    group: FactGroup
    en: str
    zh: str
    shown: Callable[[float], float] = _as_it_is


ALL_FACTS: dict[str, Fact] = {
    # curves
    "day_level": Fact("use", "kWh a day of late", "近期日均电量(kWh)", expm1),
    "day_change": Fact("use", "use of late over before", "近期与此前电量之比", exp),
    "day_spread": Fact("use", "spread of the days' use", "日电量波动"),
    "zero_days": Fact("use", "share of days without use", "零电量天数占比"),
    "beyond_peers": Fact(
        "use", "use over expected, beside neighbours", "与预期及邻户相比的用电", exp
    ),
    "slide": Fact("use", "lasting shortfall", "持续下滑程度", expm1),
    # bills
    "bill_level": Fact("use", "billed kWh a day of late", "近期账单日均电量", expm1),
    "bill_change": Fact("use", "latest bills over before", "近期账单与此前之比", exp),
    "bill_year": Fact(
        "use", "latest bills over a year before", "近期账单与上年同期之比", exp
    ),
    "bill_trend": Fact("use", "trend a bill", "账单电量趋势", exp),
    "bill_spread": Fact("use", "spread of the bills", "账单电量波动"),
    "zero_bills": Fact("use", "share of zero bills", "零电量账单占比"),
    "zero_run": Fact("use", "zero bills in a row", "连续零电量账单数"),
    # alerts of the rules
    "consumption_alerts": Fact("alerts", "alerts of use", "用电告警数", expm1),
    "metering_alerts": Fact("alerts", "alerts of metering", "计量告警数", expm1),
    "device_alerts": Fact("alerts", "alerts of devices", "设备告警数", expm1),
    "payment_alerts": Fact("alerts", "alerts of bills", "缴费告警数", expm1),
    "other_alerts": Fact("alerts", "other alerts", "其他告警数", expm1),
    # master data
    "commercial": Fact("file", "filed as commercial", "商业用户"),
    "industrial": Fact("file", "filed as industrial", "工业用户"),
    "agricultural": Fact("file", "filed as agricultural", "农业用户"),
    "tariff_changes": Fact("file", "changes of tariff", "电价变更次数"),
    # what was not read
    "no_curve": Fact("missing", "without a curve", "无用电曲线"),
    "no_bills": Fact("missing", "without bills", "无账单"),
    "missing_share": Fact("missing", "share of intervals not read", "缺数占比"),
    "estimated_bills": Fact("missing", "share of estimated bills", "估抄账单占比"),
    "reading_gap": Fact("missing", "months between readings", "抄表间隔月数"),
    "read_failures": Fact("missing", "failed readings", "抄表失败次数", expm1),
    # what follows a visit in public data
    "meter_changes": Fact("exchange", "meter changes", "换表次数"),
    "parameter_changes": Fact("exchange", "parameter changes", "参数变更次数"),
    "register_falls": Fact("exchange", "falls of the register", "示值回退次数"),
    "index_jumps": Fact("exchange", "bills beside the register", "账单与示值不符次数"),
}
"""Every fact, by name. Unknown ones are NaN."""
FACT_NAMES = tuple(ALL_FACTS)
FACT_PLACES = {name: number for number, name in enumerate(FACT_NAMES)}
GROUP_NAMES: Mapping[FactGroup, tuple[str, str]] = {
    "missing": ("missing values", "缺失值"),
    "exchange": ("meter changes and registers", "换表与示值"),
}
"""The groups that an ablation leaves out."""
SMALL_KWH = 0.05  # kWh a day, beside which changes do not count


def facts_row(values: Mapping[str, float]) -> Column:
    """The facts in their order; a fact that is not given is NaN. Raises KeyError for an unknown name."""
    row = np.full(len(FACT_NAMES), np.nan)
    for name, value in values.items():
        row[FACT_PLACES[name]] = value
    return row


def ratio(part: float, whole: float) -> float:
    """The log of one use over another, kWh a day each."""
    share = (part + SMALL_KWH) / (whole + SMALL_KWH)
    return float(np.log(share))

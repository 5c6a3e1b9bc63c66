"""Whether a customer is loaded beyond what the contract, the meter or the transformer may carry."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import (
    contract_load,
    currents,
    daily_energy,
    expanded_load,
    suspended_load,
)
from detectors.rule import Level, gated, rule
from schemas.columns import Column, Days, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS

# beside heavy load, which is 80 %
OVERLOAD_LEVELS = (
    Level(1.0 / 0.8, 2, 2 * HOUR_SECONDS),
    Level(1.5 / 0.8, 1, 15 * MINUTE_SECONDS),
)


@rule(
    Readings,
    severity=3,
    hold=2 * HOUR_SECONDS,
    chronic=True,
    clear=1 / 1.05,
    worse=(Level(1.2 / 1.05, 2, 2 * HOUR_SECONDS),),
    title=("Over contract capacity", "超合同容量"),
    text=(
        (
            "{kva:.1f} kVA[ at a power factor of {power_factor:.2f}] exceed the contract's {contract_kva:.0f} kVA "
            "less {suspended_kva:.0f} kVA suspended."
        ),
        "用电{kva:.1f}kVA[(功率因数{power_factor:.2f})]超过合同容量{contract_kva:.0f}kVA(暂停{suspended_kva:.0f}kVA)。",
    ),
    curve=contract_load,
    explained_by=(),
)
def over_contract_capacity(
    kva: Column,
    contract_kva: Column,
    suspended_kva: Column,
    *,
    warn: float = 1.05,
    least: float = 1.0,
) -> Column:
    """Apparent power above the contract less suspensions (超容). 1.05 warn, 1.2 alarm: terminal defaults; 2 h.

    Active power alone shows no overload: apparent power is that of P and Q, else of U and I.
    """
    return kva / np.maximum(contract_kva - suspended_kva, least) / warn


@rule(
    Days,
    severity=2,
    release=30 * DAY_SECONDS,
    title=("Suspected capacity expansion", "疑似私自增容"),
    text=(
        (
            "Suspected expansion: {kva_2h:.1f} kVA lasted for two hours of the day at a contract of "
            "{contract_kva:.0f} kVA[; the fifth highest day of 30 reached {share_fifth:.0%} of it]."
        ),
        (
            "疑似私自增容:当日累计两小时达{kva_2h:.1f}kVA,合同容量{contract_kva:.0f}kVA"
            "[;近30天中第五高日达合同容量的{share_fifth:.0%}]。"
        ),
    ),
    curve=expanded_load,
    explained_by=(),
)
def capacity_expansion(
    share_fifth: Column,
    kva_2h: Column,
    contract_kva: Column,
    suspended_kva: Column,
    *,
    share: float = 1.10,
    times: float = 1.50,
    least: float = 1.0,
) -> Column:
    """More than 110 % of the contract on 5 of 30 days, or 150 % for two hours of a day (私自增容). Catalogue 1.4.

    A registered transformer would not carry 150 % for hours without a trip. A day counts with 90 % of its readings, by
    the load that 99 % of them stay below. Two hours, and 30 days to clear: defaults of this project.
    """
    lasting = kva_2h / np.maximum(contract_kva - suspended_kva, least) / times
    return np.maximum(share_fifth / share, lasting)


@rule(
    Readings,
    severity=1,
    hold=HOUR_SECONDS,
    chronic=True,
    clear=1 / 1.05,
    title=("Suspended capacity in use", "启用暂停设备"),
    text=(
        "Suspected: {kva:.1f} kVA used although {suspended_kva:.0f} of {contract_kva:.0f} kVA are suspended.",
        "疑似启用暂停设备:合同容量{contract_kva:.0f}kVA中暂停{suspended_kva:.0f}kVA,仍用电{kva:.1f}kVA。",
    ),
    curve=suspended_load,
    explained_by=(),
)
def suspended_use(
    kva: Column,
    contract_kva: Column,
    suspended_kva: Column,
    *,
    margin: float = 1.05,
    sealed: float = 0.005,
    least: float = 1.0,
) -> Column:
    """More than a suspension leaves, or any load if all is suspended, for an hour (启用暂停设备): catalogue.

    Any load is more than 0.5 % of the contract and than 1 kVA: default of this project.
    """
    limit = np.maximum(
        margin * (contract_kva - suspended_kva),
        np.maximum(sealed * contract_kva, least),
    )
    return np.where(suspended_kva > 0, kva / limit, 0.0)


@rule(
    Readings,
    severity=3,
    hold=2 * HOUR_SECONDS,
    chronic=True,
    clear=0.75 / 0.80,
    worse=OVERLOAD_LEVELS,
    title=("Customer's transformer overload", "专变重过载"),
    text=(
        "{kva:.0f} of {own_kva:.0f} kVA[ at power factor {power_factor:.2f}] are heavy load (from {heavy:.0%}).",
        "专变负载{kva:.0f}kVA[(功率因数{power_factor:.2f})],额定{own_kva:.0f}kVA(重载线{heavy:.0%})。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def customer_transformer_overload(
    kva: Column, own_kva: Column, suspended_kva: Column, *, heavy: float = 0.80
) -> Column:
    """A customer's own transformer, as a public one, above 80 % (重载), 100 % (过载), 150 % (catalogue 1.4, note A).

    Suspended capacity does not carry. Cleared below 75 %: default of this project.
    """
    rating = own_kva - suspended_kva
    return np.where(rating > 0, kva / rating / heavy, np.nan)


@rule(
    Readings,
    severity=2,
    hold=MINUTE_SECONDS,
    chronic=True,
    clear=1.05 / 1.2,
    title=("Current above the meter's rating", "过流"),
    text=(
        "Phase {phase} carries {i:.2f} A, over {limit:.1f} times the rating (meter {imax:.3g} A, CT ratio {ct:.0f}).",
        "过流:{phase}相电流{i:.2f}A,超过额定的{limit:.1f}倍(电表{imax:.3g}A,电流互感器变比{ct:.0f})。",
    ),
    curve=currents,
    explained_by=(),
)
def meter_overcurrent(
    i: Column, imax: Column, ct: Column, *, limit: float = 1.2, transformed: float = 5.0
) -> Column:
    """A phase carries 1.2 times the rating of meter or transformer (过流), cleared at 1.05: meter event defaults.

    Behind a current transformer the rating is its secondary 5 A, or the meter's Imax if that is less.
    """
    return np.abs(i) / np.where(ct > 1, np.minimum(imax, transformed), imax) / limit


@rule(
    Days,
    severity=3,
    clear=1 / 1.05,
    title=("Demand over the declared", "需量超限"),
    text=(
        "A demand of {demand:.2f} kW x {ratio:g} is above the {declared_kw:.0f} kW that are declared.",
        "最大需量{demand:.2f}kW×{ratio:g},超过核定需量{declared_kw:.0f}kW。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def demand_over_contract(
    demand: Column, ratio: Column, declared_kw: Column, *, most: float = 1.05
) -> Column:
    """Demand above 105 % of the declared (需量超限); beyond this it is charged double. Catalogue 1.4."""
    return demand * ratio / declared_kw / most


@rule(
    Readings,
    severity=3,
    hold=HOUR_SECONDS,
    chronic=True,
    title=("Low power factor", "功率因数过低"),
    text=(
        "{total_p:.2f} kW x {ratio:g} of {kva:.1f} kVA: a power factor below {least:.2f}.",
        "有功{total_p:.2f}kW×{ratio:g},视在{kva:.1f}kVA,功率因数低于{least:.2f}。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def low_power_factor(
    total_p: Column,
    kva: Column,
    ratio: Column,
    most_i: Column,
    ib: Column,
    pv_kva: Column,
    *,
    least: float = 0.3,
    load: float = 0.05,
) -> Column:
    """A power factor below 0.3 at 5 % Ib or more, without generation (功率因数越下限). Meter defaults.

    An hour, where meters take 60 s: default of this project for quarter-hours.
    """
    short = least - np.abs(total_p) * ratio / kva
    return np.where(pv_kva == 0, gated(1 + short, most_i > load * ib), np.nan)


@rule(
    Days,
    severity=3,
    clear=0.99,
    segments={
        "industrial": {"least_large": 0.90},
        "agricultural": {"least": 0.80, "least_large": 0.80},
    },
    title=("Low power factor of a month", "月功率因数不达标"),
    text=(
        (
            "A month's power factor of {month_factor:.2f} at {contract_kva:.0f} kVA (due {least:.2f}, from {large:.0f} "
            "kVA {least_large:.2f})."
        ),
        "月功率因数{month_factor:.2f},合同容量{contract_kva:.0f}kVA(标准{least:.2f},{large:.0f}kVA及以上{least_large:.2f})。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def monthly_power_factor(
    month_factor: Column,
    contract_kva: Column,
    residential: Column,
    pv_kva: Column,
    *,
    least: float = 0.85,
    least_large: float = 0.85,
    large: float = 160.0,
    smallest: float = 100.0,
) -> Column:
    """A calendar month's power factor below 0.90 in industry from 160 kVA on, 0.80 on farms, else 0.85 (功率因数).

    By 功率因数调整电费办法 of 1983, which begins at 100 kVA. Homes and smaller customers are not charged by it, and
    generation behind the meter takes from the active energy alone: cannot tell. Catalogue 1.4.
    """
    due = np.where(contract_kva >= large, least_large, least)
    charged = (contract_kva >= smallest) & (residential == 0) & (pv_kva == 0)
    return np.where(charged, 1 + due - month_factor, np.nan)

"""What a bill comes to by its tariff: energy by hours and tiers, demand or capacity, the power factor's adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, isnan, nan
from typing import NamedTuple

from schemas.master import Meter, Tariff

DECLARED_TOLERANCE, EXCESS_FACTOR = (
    1.05,
    2.0,
)  # demand above 105 % of the declared counts twice
LEAST_DECLARED = 0.4  # of the capacity, below which a declared demand does not count
BUSY_KWH_PER_KVA = (
    260.0  # kWh of a month for each kVA of the contract, from which demand costs less
)
STEEP_HUNDREDTHS, STEEPER_HUNDREDTHS = (
    20,
    25,
)  # hundredths below the standard power factor, beyond which one costs 1 % and 2 %, not 0.5 %
BEST_FACTORS = {
    80: 92,
    85: 94,
    90: 95,
}  # by the standard, above which power factor nothing more is taken off


class BilledUse(NamedTuple):
    """What a bill charges for; NaN is not told."""

    kwh: float = nan
    sharp: float = nan
    peak: float = nan
    valley: float = nan
    kvarh: float = nan
    demand: float = nan
    year_kwh: float = nan  # before this bill
    deep_valley: float = nan


def amount(
    tariff: Tariff, account: Meter, used: BilledUse, *, rebate: bool = False
) -> float:
    """Yuan to be billed, to the fen; NaN when something the tariff charges for is not told.

    `rebate` is whether the demand of those who use much of their capacity costs less (发改价格〔2023〕526号).

    >>> amount(Tariff(tariff="T", flat=0.5), Meter(meter="M1"), BilledUse(kwh=90))
    45.0
    """
    fee = _energy_fee(tariff, used) + _basic_fee(tariff, account, used, rebate=rebate)
    if tariff.power_factor is not None:
        adjusted = fee - (tariff.surcharge or 0.0) * used.kwh
        fee += adjusted * _adjustment(
            tariff.power_factor, _power_factor(used.kwh, used.kvarh)
        )
    return round(fee + _tier_fee(tariff, used), 2)


def _energy_fee(tariff: Tariff, used: BilledUse) -> float:
    """For energy by hours; what is in no priced hours is flat."""
    hours = (
        (used.sharp, tariff.sharp),
        (used.peak, tariff.peak),
        (used.valley, tariff.valley),
        (used.deep_valley, tariff.deep_valley),
    )
    priced = [(kwh, price) for kwh, price in hours if price is not None]
    flat = used.kwh - sum(kwh for kwh, _ in priced)
    return flat * tariff.flat + sum(kwh * price for kwh, price in priced)


def _tier_fee(tariff: Tariff, used: BilledUse) -> float:
    """What tiers add to energy above their limits (阶梯), counted over the month or over the year so far."""
    if not tariff.tiers:
        return 0.0
    before = used.year_kwh if tariff.tiers_of == "year" else 0.0
    return sum(
        tier.extra
        * (_above(before + used.kwh, tier.above_kwh) - _above(before, tier.above_kwh))
        for tier in tariff.tiers
    )


def _above(value: float, limit: float) -> float:
    """By how much a value is above a limit; NaN of NaN."""
    return nan if isnan(value) else max(value - limit, 0.0)


def _basic_fee(
    tariff: Tariff, account: Meter, used: BilledUse, *, rebate: bool
) -> float:
    """Of a two-part tariff: by capacity less what is suspended, or by the declared demand; above 105 % of it double."""
    contract = nan if account.contract_kva is None else account.contract_kva
    if tariff.capacity is not None:
        return tariff.capacity * (contract - account.suspended_kva)
    if tariff.demand is None:
        return 0.0

    price = tariff.demand
    if rebate and tariff.demand_rebate:
        price *= (
            1 - tariff.demand_rebate * (used.kwh >= BUSY_KWH_PER_KVA * contract)
            if contract > 0
            else nan
        )
    if account.declared_kw is None:
        return price * used.demand
    declared = (
        account.declared_kw
        if isnan(contract)
        else max(account.declared_kw, LEAST_DECLARED * contract)
    )
    return price * (
        declared + EXCESS_FACTOR * _above(used.demand, DECLARED_TOLERANCE * declared)
    )


def _power_factor(kwh: float, kvarh: float) -> float:
    """Of a month's energy, to the hundredth."""
    return round(kwh / hypot(kwh, kvarh), 2) if kwh > 0 else nan


def _adjustment(standard: float, factor: float) -> float:
    """By which share the power factor changes a bill (功率因数调整电费办法, 1983).

    >>> [round(100 * _adjustment(0.90, factor), 2) for factor in (0.60, 0.66, 0.85, 0.90, 0.93, 0.99)]
    [25.0, 14.0, 2.5, 0.0, -0.45, -0.75]
    >>> [round(100 * _adjustment(0.85, factor), 2) for factor in (0.80, 0.88, 0.93, 0.99)]
    [2.5, -0.3, -0.95, -1.1]
    """
    if isnan(factor):
        return nan
    line, reached = round(100 * standard), round(100 * factor)
    if reached <= line:
        below = line - reached
        return (
            0.5 * min(below, STEEP_HUNDREDTHS)
            + max(min(below, STEEPER_HUNDREDTHS) - STEEP_HUNDREDTHS, 0)
            + 2 * max(below - STEEPER_HUNDREDTHS, 0)
        ) / 100
    reached = min(reached, BEST_FACTORS.get(line, 95))
    return -(0.1 * max(min(reached, 90) - line, 0) + 0.15 * max(reached - 90, 0)) / 100


def in_force(tariffs: Sequence[Tariff], name: str, at: int) -> Tariff | None:
    """The newest tariff of a name that has taken effect."""
    known = [
        tariff for tariff in tariffs if tariff.tariff == name and tariff.effective <= at
    ]
    return max(known, key=lambda tariff: tariff.effective, default=None)

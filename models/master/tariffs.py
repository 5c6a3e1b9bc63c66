"""The amount of a bill by its tariff: energy, tiers, demand or capacity, power factor."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, isnan, nan
from typing import NamedTuple

from schemas.master import Meter, Tariff

# demand above 105 % of the declared counts twice
DECLARED_TOLERANCE = 1.05
EXCESS_FACTOR = 2.0
LEAST_DECLARED = 0.4  # of the capacity, the least declared demand that is billed
# kWh of a month for each kVA of the contract, from which demand costs less
BUSY_KWH_PER_KVA = 260.0
# hundredths below the standard power factor, beyond which each costs 1 % and 2 %, not 0.5 %
STEEP_HUNDREDTHS = 20
STEEPER_HUNDREDTHS = 25
# by standard, the power factor in hundredths above which the discount grows no more
BEST_FACTORS = {80: 92, 85: 94, 90: 95}


class BilledUse(NamedTuple):
    """The quantities that a bill charges for; NaN is unknown."""

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
    """Yuan to be billed, to the fen; NaN where a quantity that the tariff charges for is unknown.

    With `rebate`, demand costs less for customers who use much of their capacity (发改价格〔2023〕526号).

    >>> amount(Tariff(tariff="T", flat=0.5), Meter(meter="M1"), BilledUse(kwh=90))
    45.0
    """
    fee = _energy_fee(tariff, used) + _basic_fee(tariff, account, used, rebate=rebate)
    if tariff.power_factor is not None:
        adjusted = fee - (tariff.surcharge or 0.0) * used.kwh
        power_factor = _power_factor(used.kwh, used.kvarh)
        fee += adjusted * _adjustment(tariff.power_factor, power_factor)
    return round(fee + _tier_fee(tariff, used), 2)


def _energy_fee(tariff: Tariff, used: BilledUse) -> float:
    """Yuan for energy by hours; energy outside the priced hours has the flat price."""
    hours = (
        (used.sharp, tariff.sharp),
        (used.peak, tariff.peak),
        (used.valley, tariff.valley),
        (used.deep_valley, tariff.deep_valley),
    )
    priced = [(kwh, price) for kwh, price in hours if price is not None]
    flat = used.kwh - sum(kwh for kwh, _ in priced)
    beside_flat = sum(kwh * price for kwh, price in priced)
    return flat * tariff.flat + beside_flat


def _tier_fee(tariff: Tariff, used: BilledUse) -> float:
    """Yuan that tiers (阶梯) add above their limits, over the month or the year so far."""
    if not tariff.tiers:
        return 0.0
    before = used.year_kwh if tariff.tiers_of == "year" else 0.0
    fees = []
    for tier in tariff.tiers:
        above = _above(before + used.kwh, tier.above_kwh)
        fees.append(tier.extra * (above - _above(before, tier.above_kwh)))
    return sum(fees)


def _above(value: float, limit: float) -> float:
    """The excess of a value over a limit; NaN of NaN."""
    return nan if isnan(value) else max(value - limit, 0.0)


def _basic_fee(
    tariff: Tariff, account: Meter, used: BilledUse, *, rebate: bool
) -> float:
    """Yuan of a two-part tariff, by capacity less the suspended, or by demand.

    Demand above 105 % of the declared counts double.
    """
    contract = nan if account.contract_kva is None else account.contract_kva
    if tariff.capacity is not None:
        return tariff.capacity * (contract - account.suspended_kva)
    if tariff.demand is None:
        return 0.0

    price = tariff.demand
    if rebate and tariff.demand_rebate:
        if contract > 0:
            busy = used.kwh >= BUSY_KWH_PER_KVA * contract
            price *= 1 - tariff.demand_rebate * busy
        else:
            price *= nan
    if account.declared_kw is None:
        return price * used.demand

    declared = account.declared_kw
    if not isnan(contract):
        declared = max(declared, LEAST_DECLARED * contract)
    excess = _above(used.demand, DECLARED_TOLERANCE * declared)
    return price * (declared + EXCESS_FACTOR * excess)


def _power_factor(kwh: float, kvarh: float) -> float:
    """The power factor of a month's energy, to the hundredth."""
    if kwh > 0:
        return round(kwh / hypot(kwh, kvarh), 2)
    return nan


def _adjustment(standard: float, factor: float) -> float:
    """The share by which the power factor changes a bill (功率因数调整电费办法, 1983).

    >>> [round(100 * _adjustment(0.90, factor), 2) for factor in (0.60, 0.66, 0.85, 0.90, 0.93, 0.99)]
    [25.0, 14.0, 2.5, 0.0, -0.45, -0.75]
    >>> [round(100 * _adjustment(0.85, factor), 2) for factor in (0.80, 0.88, 0.93, 0.99)]
    [2.5, -0.3, -0.95, -1.1]
    """
    if isnan(factor):
        return nan

    line = round(100 * standard)
    reached = round(100 * factor)
    if reached <= line:
        below = line - reached
        slight = min(below, STEEP_HUNDREDTHS)
        steep = max(min(below, STEEPER_HUNDREDTHS) - STEEP_HUNDREDTHS, 0)
        steeper = max(below - STEEPER_HUNDREDTHS, 0)
        return (0.5 * slight + steep + 2 * steeper) / 100

    reached = min(reached, BEST_FACTORS.get(line, 95))
    above_line = max(min(reached, 90) - line, 0)
    above_90 = max(reached - 90, 0)
    return -(0.1 * above_line + 0.15 * above_90) / 100


def in_force(tariffs: Sequence[Tariff], name: str, at: int) -> Tariff | None:
    """The latest tariff of a name that has taken effect."""
    known = [
        tariff for tariff in tariffs if tariff.tariff == name and tariff.effective <= at
    ]
    return max(known, key=lambda tariff: tariff.effective, default=None)

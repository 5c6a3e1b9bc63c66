"""Which user's energy goes with an area's unusual loss: correlation, shares of the loss, and a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.meters import single
from tests.oracle.watch import Facts

Curve = Sequence[float]


class SuspectFinding(NamedTuple):
    """The evidence against a user."""

    rho: float  # correlation with the loss
    days: float
    explained: float  # kWh a day

    def strength(self) -> float:
        """Standard deviations of Fisher's z."""
        return math.atanh(min(self.rho, 0.9999)) * math.sqrt(max(self.days - 5, 0))


def suspect(
    diaries: dict[str, list[Facts]], balances: list[Facts], gateway: str
) -> None:
    """Add rho, suspect_days, explained and excess to the days of every user."""
    losses = {
        day["at"]: single(day["unusual"])
        for day in balances
        if not math.isnan(day["unusual"])
    }
    excess = {day["at"]: day["excess"] for day in balances}
    energy: dict[str, dict[int, float]] = {}
    for meter, diary in diaries.items():
        for day in diary:
            day.update(
                dict.fromkeys(("rho", "suspect_days", "explained"), NOT_A_NUMBER)
            )
            day["excess"] = excess.get(day["at"], NOT_A_NUMBER)
        if meter != gateway:
            energy[meter] = daily_energy(diary)

    for at in losses:
        ends = [end for end in losses if at - 29.5 * DAY_SECONDS < end <= at]
        here = days_at(at, {meter: diaries[meter] for meter in energy})
        if len(ends) < 14 or not here:
            continue
        for day in here.values():
            day |= {"rho": 0.0, "suspect_days": 0.0, "explained": 0.0}
        if excess[at] > 0:
            curves = {
                meter: [energy[meter].get(end, NOT_A_NUMBER) for end in ends]
                for meter in here
            }
            generating = {meter for meter, day in here.items() if day["pv"] > 0}
            found = compared([losses[end] for end in ends], curves, generating)
            for meter, (rho, days, kwh) in found.items():
                here[meter] |= {"rho": rho, "suspect_days": days, "explained": kwh}


def daily_energy(diary: list[Facts]) -> dict[int, float]:
    """The primary kWh of the days of a meter that were read."""
    return {
        day["at"]: single(day["kwh"] * day["ratio"])
        for day in diary
        if day["coverage"] >= 0.9 and not math.isnan(day["kwh"] * day["ratio"])
    }


def days_at(at: int, diaries: dict[str, list[Facts]]) -> dict[str, Facts]:
    """By meter the day that ends at a time."""
    days: dict[str, Facts] = {}
    for meter, diary in diaries.items():
        for day in diary:
            if day["at"] == at:
                days.setdefault(meter, day)
    return days


def compared(
    loss: Curve, curves: dict[str, list[float]], generating: set[str]
) -> dict[str, SuspectFinding]:
    """The stronger evidence against each user: a share of the energy registered, or energy no longer registered."""
    step = rise(loss)
    filled = [fill(curve) for curve in curves.values()]
    total = [sum(values) for values in zip(*filled, strict=True)]
    after = {meter: curve[step:] for meter, curve in curves.items()}

    # Correlation since the step; ten days at least.
    found: dict[str, SuspectFinding] = {}
    for meter, curve in after.items():
        days = float(len(known(curve)))
        rho = share(loss[step:], curve, total[step:])
        found[meter] = SuspectFinding(rho if days >= 10 else 0.0, days, 0.0)

    # The eight strongest share the loss.
    suspects = [meter for meter in found if found[meter].rho > 0]
    suspects = sorted(suspects, key=lambda meter: -found[meter].strength())[:8]
    suspect_curves = [fill(after[meter]) for meter in suspects]
    shares = shared(loss[step:], suspect_curves, total[step:])
    for meter, beta in zip(suspects, shares, strict=True):
        explained = beta * mean(known(after[meter]))
        found[meter] = found[meter]._replace(explained=explained)

    # Energy that is no longer registered since the step.
    for meter, curve in curves.items():
        if step and meter not in generating:
            fall = withheld(loss, curve, total, step)
            if fall.strength() > found[meter].strength():
                found[meter] = fall
    return found


def rise(loss: Curve) -> int:
    """The day from which the loss is higher by most standard errors, five at least; 0 for none."""
    most, step = 5.0, 0
    for n in range(5, len(loss) - 2):
        before, after = loss[:n], loss[n:]
        squares = squares_around_mean(before) + squares_around_mean(after)
        variance = squares / (len(loss) - 2)
        error = math.sqrt(variance * (1 / len(before) + 1 / len(after)))
        higher = mean(after) - mean(before)
        if higher > most * error:
            most, step = higher / error, n
    return step


def share(loss: Curve, curve: Curve, total: Curve) -> float:
    """The partial correlation of loss and energy beside the total, by value or by rank, whichever is less."""
    days = [n for n, kwh in enumerate(curve) if not math.isnan(kwh)]
    by_rank = beside(
        picked(ranks(loss), days),
        ranks(picked(curve, days)),
        picked(ranks(total), days),
    )
    by_value = beside(picked(loss, days), picked(curve, days), picked(total, days))
    return max(min(by_value, by_rank), 0.0)


def withheld(loss: Curve, curve: Curve, total: Curve, step: int) -> SuspectFinding:
    """The correlation of the loss with the energy that a user's share of the total no longer brings since the step."""
    usual = mean(known(curve[:step]))
    missing = [
        usual * area_kwh / mean(total[:step]) - kwh
        for area_kwh, kwh in zip(total, curve, strict=True)
    ]
    days = [n for n, kwh in enumerate(missing) if not math.isnan(kwh)]
    since = known(missing[step:])
    if len(known(curve[:step])) < 5 or len(since) < 3:
        return SuspectFinding(0.0, float(len(days)), 0.0)

    rho = correlation(picked(loss, days), picked(missing, days))
    more_lost = mean(loss[step:]) - mean(loss[:step])
    explained = min(max(mean(since), 0.0), more_lost)
    return SuspectFinding(max(rho, 0.0), float(len(days)), explained)


def shared(loss: Curve, curves: list[list[float]], total: Curve) -> list[float]:
    """The shares, none below 0, by which users' curves beside the total explain the loss best: coordinate descent."""
    target = straightened(loss, total)
    columns = [straightened(curve, total) for curve in curves]
    betas = [0.0] * len(curves)
    for _ in range(20_000):
        for k, column in enumerate(columns):
            others = [(betas[j], columns[j]) for j in range(len(columns)) if j != k]
            squares = sum(value * value for value in column)
            product = dot(rest_of(target, others), column)
            betas[k] = max(product / squares, 0.0) if squares else 0.0
        if all(abs(slope) < 1e-9 for slope in gradients(target, columns, betas)):
            break
    return betas


def rest_of(target: Curve, explained: list[tuple[float, list[float]]]) -> list[float]:
    """The target less the shares of the columns that explain it."""
    return [
        value - sum(beta * column[n] for beta, column in explained)
        for n, value in enumerate(target)
    ]


def gradients(
    target: Curve, columns: list[list[float]], betas: list[float]
) -> list[float]:
    """By how much each share could still be better, relative to its curve."""
    rest = rest_of(target, list(zip(betas, columns, strict=True)))
    slopes: list[float] = []
    for beta, column in zip(betas, columns, strict=True):
        squares = sum(value * value for value in column) or 1
        slope = dot(rest, column) / squares
        slopes.append(slope if beta else max(slope, 0.0))
    return slopes


def straightened(curve: Curve, total: Curve) -> list[float]:
    """A curve without its mean and without its regression on the total."""
    middle, centre = mean(curve), mean(total)
    squares = squares_around_mean(total)
    products = [
        (kwh - middle) * (area_kwh - centre)
        for kwh, area_kwh in zip(curve, total, strict=True)
    ]
    slope = sum(products) / squares if squares else 0.0
    return [
        kwh - middle - slope * (area_kwh - centre)
        for kwh, area_kwh in zip(curve, total, strict=True)
    ]


def beside(loss: Curve, curve: Curve, total: Curve) -> float:
    """The partial correlation of loss and curve beside the total."""
    direct = correlation(loss, curve)
    by_curve = correlation(total, curve)
    by_loss = correlation(loss, total)
    rest = max((1 - by_curve * by_curve) * (1 - by_loss * by_loss), 1e-12)
    return min(max((direct - by_curve * by_loss) / math.sqrt(rest), -1.0), 1.0)


def correlation(first: Curve, second: Curve) -> float:
    """Pearson's; 0 where a curve does not move."""
    one, two = around_mean(first), around_mean(second)
    size = math.sqrt(dot(one, one) * dot(two, two))
    return dot(one, two) / size if size > 0 else 0.0


def ranks(values: Curve) -> list[float]:
    """The rank of each value; equal values have the same."""
    found: list[float] = []
    for value in values:
        lower = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        found.append(lower + equal / 2)
    return found


def picked(values: Curve, days: list[int]) -> list[float]:
    return [values[n] for n in days]


def known(values: Curve) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def fill(values: Curve) -> list[float]:
    return [mean(known(values)) if math.isnan(value) else value for value in values]


def mean(values: Curve) -> float:
    return sum(values) / len(values) if values else 0.0


def around_mean(values: Curve) -> list[float]:
    return [value - mean(values) for value in values]


def squares_around_mean(values: Curve) -> float:
    return sum(apart**2 for apart in around_mean(values))


def dot(first: Curve, second: Curve) -> float:
    return sum(one * two for one, two in zip(first, second, strict=True))

"""Whose energy goes with what an area lost beyond the usual, as a clerk with a ruler would work it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.meters import single
from tests.oracle.watch import Facts

Curve = Sequence[float]


def suspect(
    diaries: dict[str, list[Facts]], balances: list[Facts], gateway: str
) -> None:
    """Adds rho, days, explained and excess to the days of every user."""
    losses = {
        day["at"]: single(day["unusual"])
        for day in balances
        if not math.isnan(day["unusual"])
    }
    excess = {day["at"]: day["excess"] for day in balances}
    energy: dict[str, dict[int, float]] = {}
    for meter, diary in diaries.items():
        for day in diary:
            day |= {
                "rho": NOT_A_NUMBER,
                "suspect_days": NOT_A_NUMBER,
                "explained": NOT_A_NUMBER,
                "excess": excess.get(day["at"], NOT_A_NUMBER),
            }
        if meter != gateway:
            energy[meter] = {
                day["at"]: single(day["kwh"] * day["ratio"])
                for day in diary
                if day["coverage"] >= 0.9 and not math.isnan(day["kwh"] * day["ratio"])
            }
    for at in losses:
        ends = [end for end in losses if at - 29.5 * DAY_SECONDS < end <= at]
        here = {
            meter: next(d for d in diaries[meter] if d["at"] == at)
            for meter in energy
            if any(d["at"] == at for d in diaries[meter])
        }
        if len(ends) < 14 or not here:
            continue
        for day in here.values():
            day |= {"rho": 0.0, "suspect_days": 0.0, "explained": 0.0}
        if excess[at] > 0:
            curves = {
                meter: [energy[meter].get(end, NOT_A_NUMBER) for end in ends]
                for meter in here
            }
            sun = {meter for meter, day in here.items() if day["pv"] > 0}
            for meter, (rho, days, kwh) in compared(
                [losses[end] for end in ends], curves, sun
            ).items():
                here[meter] |= {"rho": rho, "suspect_days": days, "explained": kwh}


Found = tuple[float, float, float]  # correlation, days, kWh a day


def strength(found: Found) -> float:
    """Standard deviations of Fisher's z."""
    return math.atanh(min(found[0], 0.9999)) * math.sqrt(max(found[1] - 5, 0))


def compared(
    loss: Curve, curves: dict[str, list[float]], sun: set[str]
) -> dict[str, Found]:
    """The stronger evidence against each user: a share of what is registered, or what used to be registered."""
    step = rise(loss)
    filled = {meter: fill(curve) for meter, curve in curves.items()}
    total = [sum(curve[n] for curve in filled.values()) for n in range(len(loss))]
    after = {meter: curve[step:] for meter, curve in curves.items()}
    found = {
        meter: (share(loss[step:], curve, total[step:]), float(len(known(curve))), 0.0)
        for meter, curve in after.items()
    }
    found = {meter: f if f[1] >= 10 else (0.0, f[1], 0.0) for meter, f in found.items()}
    first = sorted(
        (m for m in found if found[m][0] > 0), key=lambda m: -strength(found[m])
    )[:8]
    for meter, beta in zip(
        first,
        shared(loss[step:], [fill(after[m]) for m in first], total[step:]),
        strict=True,
    ):
        rho, days, _ = found[meter]
        found[meter] = rho, days, beta * mean(known(after[meter]))
    for meter in curves if step else ():
        if meter not in sun and strength(
            fall := withheld(loss, curves[meter], total, step)
        ) > strength(found[meter]):
            found[meter] = fall
    return found


def rise(loss: Curve) -> int:
    """The day from which the loss is higher by most standard errors, five at least."""
    best, day = 5.0, 0
    for n in range(5, len(loss) - 2):
        before, after = loss[:n], loss[n:]
        squares = sum((x - mean(before)) ** 2 for x in before) + sum(
            (x - mean(after)) ** 2 for x in after
        )
        error = math.sqrt(
            squares / (len(loss) - 2) * (1 / len(before) + 1 / len(after))
        )
        if mean(after) - mean(before) > best * error:
            best, day = (mean(after) - mean(before)) / error, n
    return day


def share(loss: Curve, curve: Curve, total: Curve) -> float:
    """How far the loss goes with a user's energy beside what both owe to the total, by value and by rank."""
    days = [n for n, x in enumerate(curve) if not math.isnan(x)]
    by_rank = beside(
        picked(ranks(loss), days),
        ranks(picked(curve, days)),
        picked(ranks(total), days),
    )
    return max(
        min(
            beside(picked(loss, days), picked(curve, days), picked(total, days)),
            by_rank,
        ),
        0.0,
    )


def withheld(loss: Curve, curve: Curve, total: Curve, step: int) -> Found:
    """How far the loss goes with what a user no longer registers, for its part of the total before the step."""
    usual = mean(known(curve[:step]))
    missing = [
        usual * x / mean(total[:step]) - y for x, y in zip(total, curve, strict=True)
    ]
    days = [n for n, x in enumerate(missing) if not math.isnan(x)]
    if len(known(curve[:step])) < 5 or len(known(missing[step:])) < 3:
        return 0.0, float(len(days)), 0.0
    rho = correlation(picked(loss, days), picked(missing, days))
    most = mean(loss[step:]) - mean(loss[:step])
    return (
        max(rho, 0.0),
        float(len(days)),
        min(max(mean(known(missing[step:])), 0.0), most),
    )


def shared(loss: Curve, curves: list[list[float]], total: Curve) -> list[float]:
    """Shares, none below 0, by which some users' curves explain the loss best, beside the total; one after another."""
    y, columns = (
        straightened(loss, total),
        [straightened(curve, total) for curve in curves],
    )
    betas = [0.0] * len(curves)
    for _ in range(20_000):
        for k, column in enumerate(columns):
            rest = [
                y[n] - sum(betas[j] * c[n] for j, c in enumerate(columns) if j != k)
                for n in range(len(y))
            ]
            squares = sum(x * x for x in column)
            betas[k] = (
                max(
                    sum(a * b for a, b in zip(rest, column, strict=True)) / squares, 0.0
                )
                if squares
                else 0.0
            )
        if all(abs(moved) < 1e-9 for moved in gradients(y, columns, betas)):
            break
    return betas


def gradients(y: Curve, columns: list[list[float]], betas: list[float]) -> list[float]:
    """How much better each share could still be made, relative to its curve."""
    rest = [
        y[n] - sum(b * c[n] for b, c in zip(betas, columns, strict=True))
        for n in range(len(y))
    ]
    slopes = [
        sum(a * b for a, b in zip(rest, c, strict=True)) / (sum(x * x for x in c) or 1)
        for c in columns
    ]
    return [
        slope if beta else max(slope, 0.0)
        for slope, beta in zip(slopes, betas, strict=True)
    ]


def straightened(curve: Curve, total: Curve) -> list[float]:
    """What is left of a curve beside a level and the total."""
    middle, centre = mean(curve), mean(total)
    squares = sum((t - centre) ** 2 for t in total)
    slope = (
        sum((x - middle) * (t - centre) for x, t in zip(curve, total, strict=True))
        / squares
        if squares
        else 0.0
    )
    return [
        x - middle - slope * (t - centre) for x, t in zip(curve, total, strict=True)
    ]


def beside(one: Curve, two: Curve, third: Curve) -> float:
    """The partial correlation."""
    a, b, c = correlation(one, two), correlation(third, two), correlation(one, third)
    return min(
        max((a - b * c) / math.sqrt(max((1 - b * b) * (1 - c * c), 1e-12)), -1.0), 1.0
    )


def correlation(one: Curve, two: Curve) -> float:
    """Pearson's; 0 where a curve does not move."""
    x, y = [v - mean(one) for v in one], [v - mean(two) for v in two]
    size = math.sqrt(sum(v * v for v in x) * sum(v * v for v in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / size if size > 0 else 0.0


def ranks(values: Curve) -> list[float]:
    """The rank of each value, equal ones the same."""
    return [
        sum(other < x for other in values) + sum(other == x for other in values) / 2
        for x in values
    ]


def picked(values: Curve, days: list[int]) -> list[float]:
    return [values[n] for n in days]


def known(values: Curve) -> list[float]:
    return [x for x in values if not math.isnan(x)]


def fill(values: Curve) -> list[float]:
    return [mean(known(values)) if math.isnan(x) else x for x in values]


def mean(values: Curve) -> float:
    return sum(values) / len(values) if values else 0.0

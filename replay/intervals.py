"""Estimates with intervals of 90 %: of shares, of rates and of medians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, chi2, norm

TAIL_CHANCE = 0.05  # on either side of an interval
NORMAL_QUANTILE = float(norm.ppf(1 - TAIL_CHANCE))


@dataclass(frozen=True)
class Estimate:
    """A value with its interval of 90 %; None is not known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def share(weights: Sequence[float], hits: Sequence[bool]) -> Estimate:
    """The weighted share of hits, by Wilson at the effective number (Kish) of the weights."""
    if not weights:
        return Estimate()
    weight = np.asarray(weights, np.float64)
    total = weight.sum()
    squares = np.square(weight).sum()
    number = float(total**2 / squares)
    is_hit = np.asarray(hits, np.bool_)
    part = float(weight[is_hit].sum() / total)

    square = NORMAL_QUANTILE**2
    scale = 1 + square / number
    middle = (part + square / (2 * number)) / scale
    spread = part * (1 - part) / number
    variance = spread + square / (4 * number**2)
    half = NORMAL_QUANTILE * float(np.sqrt(variance)) / scale
    low = max(middle - half, 0.0)
    high = min(middle + half, 1.0)
    return Estimate(part, low, high)


def rate(count: int, exposure: float) -> Estimate:
    """Events by exposure, with the exact interval of a Poisson count (Garwood)."""
    if exposure <= 0:
        return Estimate()
    least = 0.0
    if count:
        least = float(chi2.ppf(TAIL_CHANCE, 2 * count)) / 2
    upper = chi2.ppf(1 - TAIL_CHANCE, 2 * count + 2)
    most = float(upper) / 2
    return Estimate(count / exposure, least / exposure, most / exposure)


def median(values: Sequence[float]) -> Estimate:
    """The median, between two order statistics; fewer than five values give no interval.

    >>> median([9, 1, 2, 3, 4])
    Estimate(value=3.0, low=1.0, high=9.0)
    """
    if not values:
        return Estimate()
    ordered = sorted(map(float, values))
    number = len(ordered)
    middle = float(np.median(ordered))

    # the highest rank that lies above the median with a chance of 5 % at most
    rank = int(binom.ppf(TAIL_CHANCE, number, 0.5))
    if binom.cdf(rank, number, 0.5) > TAIL_CHANCE:
        rank -= 1
    if rank < 0:
        return Estimate(middle)
    return Estimate(middle, ordered[rank], ordered[number - 1 - rank])

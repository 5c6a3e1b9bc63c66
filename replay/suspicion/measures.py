"""How well a ranking finds thefts: area under the curve, average precision, lift, calibration, all weighted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from replay.intervals import Estimate, share
from schemas.columns import Column, Mask

TOP_SHARE = 0.1  # of the visits, the highest ranked
CALIBRATION_BINS = 10  # of as many visits each


@dataclass(frozen=True)
class RankingQuality:
    """How well scores rank visits."""

    auc: float
    average_precision: float  # of a ranking by chance: the share of thefts
    lift: float  # thefts in the top decile over those of a ranking by chance


@dataclass(frozen=True)
class CalibrationBin:
    """Visits of about the same chance."""

    visits: int
    chance: float  # mean
    found: Estimate  # share that found theft


def ranking_quality(found: Mask, scores: Column, weights: Column) -> RankingQuality:
    """The quality of scores, of which higher ones come first; visits of one score share their place."""
    return RankingQuality(
        auc=float(roc_auc_score(found, scores, sample_weight=weights)),
        average_precision=float(
            average_precision_score(found, scores, sample_weight=weights)
        ),
        lift=lift(found, scores, weights),
    )


def lift(found: Mask, scores: Column, weights: Column) -> float:
    """Thefts in the top decile over those of a ranking by chance.

    >>> lift(np.arange(10) == 3, np.ones(10), np.ones(10))
    1.0
    >>> lift(np.arange(10) == 3, np.arange(10) == 3, np.ones(10))
    10.0
    """
    falling = -np.asarray(scores, np.float64)
    _, group = np.unique(falling, return_inverse=True)
    weight = np.bincount(group, weights)
    thefts = np.bincount(group, weights * found)
    room = TOP_SHARE * weight.sum()
    before = np.cumsum(weight) - weight
    taken = np.clip((room - before) / weight, 0, 1)
    found = (taken * thefts).sum()
    return float(found / (TOP_SHARE * thefts.sum()))


def brier(found: Mask, chances: Column, weights: Column) -> float:
    """The mean square by which chances were off."""
    return float(np.average(np.square(chances - found), weights=weights))


def calibration(found: Mask, chances: Column, weights: Column) -> list[CalibrationBin]:
    """The visits by tenths of their chance, the lowest first."""
    order = np.argsort(chances, kind="stable")
    bins = []
    for rows in np.array_split(order, CALIBRATION_BINS):
        if len(rows):
            mean = float(np.average(chances[rows], weights=weights[rows]))
            seen = share(weights[rows].tolist(), found[rows].tolist())
            bins.append(CalibrationBin(len(rows), mean, seen))
    return bins

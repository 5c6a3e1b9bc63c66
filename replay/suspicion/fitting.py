"""Learning the model of suspicion from visits, by scikit-learn, and measuring it on visits to other customers.

The weights of visits are 1 / the chance with which a customer was chosen, so that a chance is of all customers and not
of those whom somebody chose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from replay.suspicion.features import ALL_FACTS, FACT_NAMES, FactGroup
from replay.suspicion.measures import (
    CalibrationBin,
    RankingQuality,
    brier,
    calibration,
    ranking_quality,
)
from replay.suspicion.ranking import MOST_DEVIATIONS, chances_of
from replay.suspicion.visits import Visits
from schemas.columns import Codes, Column
from schemas.suspicion import SuspicionFeature, SuspicionModel

VALIDATION_FOLDS = 5
INVERSE_REGULARISATIONS = (0.01, 0.1, 1.0)  # tried; the best is taken
LATER_SHARE = 0.3  # of the visits, the latest, are left out to measure
LEAST_MEASURED = 10  # visits of either finding, among the earlier and the later ones
LEFT_OUT_GROUPS: tuple[tuple[FactGroup, ...], ...] = (
    ("missing",),
    ("exchange",),
    ("missing", "exchange"),
)
MeasuredOn = Literal["later visits", "other customers"]


class LeftOut(NamedTuple):
    """Rows to fit, and rows of other customers to measure on."""

    fit: Codes
    rest: Codes


@dataclass(frozen=True)
class SuspicionLesson:
    """A model, and how one like it did on visits that were left out."""

    model: SuspicionModel
    measured_on: MeasuredOn
    measured: int  # visits
    thefts: int  # that these found
    share: float  # of them, weighted
    quality: RankingQuality
    baseline: RankingQuality  # of the number of alerts of all rules
    ablations: dict[tuple[FactGroup, ...], RankingQuality]  # by what is left out
    brier: float
    brier_by_share: float  # if every chance were the share of thefts
    calibration: list[CalibrationBin]

    @property
    def is_better(self) -> bool:
        """True if the model ranks better than the number of alerts, and its chances are better than the share."""
        ranks = self.quality.average_precision > self.baseline.average_precision
        return ranks and self.brier < self.brier_by_share


def learn(visits: Visits, name: str) -> SuspicionLesson:
    """Fits a model to visits of a history, and measures its like on visits that are left out."""
    measured_on, parts = split(visits)
    rest = np.concatenate([part.rest for part in parts])
    found = visits.found[rest]
    weights = visits.weights[rest]

    with threadpool_limits(1):
        chances = _left_out(visits, parts, FACT_NAMES)
        ablations = {}
        for groups in LEFT_OUT_GROUPS:
            names = [each for each in FACT_NAMES if ALL_FACTS[each].group not in groups]
            without = _left_out(visits, parts, names)
            ablations[groups] = ranking_quality(found, without, weights)
        model = fitted(visits, np.arange(len(visits)), FACT_NAMES, name)

    share = float(np.average(found, weights=weights))
    return SuspicionLesson(
        model=model,
        measured_on=measured_on,
        measured=len(rest),
        thefts=int(found.sum()),
        share=share,
        quality=ranking_quality(found, chances, weights),
        baseline=ranking_quality(found, visits.alerts[rest], weights),
        ablations=ablations,
        brier=brier(found, chances, weights),
        brier_by_share=brier(found, np.full(len(rest), share), weights),
        calibration=calibration(found, chances, weights),
    )


def split(visits: Visits) -> tuple[MeasuredOn, list[LeftOut]]:
    """What is fitted and what is left out: the latest visits, or customers by turns where dates are too few.

    No customer is on both sides.
    """
    days = np.sort(visits.days)
    earlier = int((1 - LATER_SHARE) * len(days))
    begin = days[earlier]
    rest = np.flatnonzero(visits.days >= begin)
    is_earlier = visits.days < begin
    is_other = ~np.isin(visits.customers, visits.customers[rest])
    fit = np.flatnonzero(is_earlier & is_other)
    if all(_has_both(visits, rows) for rows in (fit, rest)):
        return "later visits", [LeftOut(fit, rest)]
    return "other customers", _folds(visits, np.arange(len(visits)))


def _has_both(visits: Visits, rows: Codes) -> bool:
    """True if enough visits in some rows found theft, and enough found none."""
    thefts = int(visits.found[rows].sum())
    return min(thefts, len(rows) - thefts) >= LEAST_MEASURED


def _folds(visits: Visits, rows: Codes) -> list[LeftOut]:
    """Customers by turns, of the visits in some rows; folds without theft or without anything else are left out."""
    customers = visits.customers[rows]
    count = min(VALIDATION_FOLDS, len(np.unique(customers)))
    folds = GroupKFold(count).split(rows, groups=customers)
    parts = [LeftOut(rows[fit], rows[rest]) for fit, rest in folds]
    return [part for part in parts if len(np.unique(visits.found[part.fit])) > 1]


def _left_out(visits: Visits, parts: Sequence[LeftOut], names: Sequence[str]) -> Column:
    """The chances of the visits that are left out, part by part, by models that saw none of their customers."""
    return np.concatenate(
        [
            chances_of(fitted(visits, part.fit, names), visits.facts[part.rest])
            for part in parts
        ]
    )


def fitted(
    visits: Visits, rows: Codes, names: Iterable[str], name: str = "-"
) -> SuspicionModel:
    """A model of the visits in some rows, by some facts; how much it is regularised is chosen on their customers."""
    names = list(names)
    parts = _folds(visits, rows)

    def loss(strength: float) -> float:
        """The log loss on customers by turns."""
        chances = [
            chances_of(
                _regressed(visits, part.fit, names, strength, name),
                visits.facts[part.rest],
            )
            for part in parts
        ]
        rest = np.concatenate([part.rest for part in parts])
        return float(
            log_loss(
                visits.found[rest],
                np.concatenate(chances),
                sample_weight=visits.weights[rest],
                labels=[False, True],
            )
        )

    best = min(INVERSE_REGULARISATIONS, key=loss)
    return _regressed(visits, rows, names, best, name)


def _regressed(
    visits: Visits, rows: Codes, names: Sequence[str], strength: float, name: str
) -> SuspicionModel:
    """A logistic regression on standardised facts, in numbers of six digits; a fact that never varies is left out."""
    facts = visits.facts[rows]
    known = [fact[np.isfinite(fact)] for fact in facts.T]
    varies = [len(np.unique(values)) > 1 for values in known]
    is_used = np.isin(FACT_NAMES, list(names)) & varies
    facts = facts[:, is_used]
    weights = visits.weights[rows] / visits.weights[rows].mean()

    scaler = StandardScaler().fit(facts, sample_weight=weights)
    standard = np.nan_to_num(scaler.transform(facts))
    standard = standard.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    regression = LogisticRegression(C=strength, max_iter=2000)
    regression.fit(standard, visits.found[rows], sample_weight=weights)
    numbers = zip(
        np.array(FACT_NAMES)[is_used],
        scaler.mean_,
        scaler.scale_,
        regression.coef_[0],
        strict=True,
    )
    return SuspicionModel(
        features=[
            SuspicionFeature(
                name=str(fact),
                mean=_short(mean),
                scale=_short(scale),
                weight=_short(weight),
            )
            for fact, mean, scale, weight in numbers
        ],
        bias=_short(regression.intercept_[0]),
        learned_from=name,
        visits=len(rows),
        thefts=int(visits.found[rows].sum()),
    )


def _short(value: float) -> float:
    """A number of six digits."""
    return float(f"{value:.6g}")

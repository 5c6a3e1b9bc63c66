"""Learning the fleet model of the classes of use from a history, by scikit-learn.

The labels are the files' own: a few per cent of them are wrong, which a linear model outvotes. How good it is, is told
of customers that it was not learned from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.profiles import USE_CLASS_COUNT, Darkness, Form, Routine
from models.use_class import shapes
from replay.history import Source
from schemas.columns import Codes, Column, Readings
from schemas.master import Segment
from schemas.use_class import UseClassModel

CLASS_NAMES: tuple[Segment, ...] = get_args(Segment)
VALIDATION_FOLDS = 5
LEAST_CUSTOMERS = 20  # customers of a class
INVERSE_REGULARISATIONS = (
    0.01,
    0.1,
    1.0,
)  # inverse regularisation, of which the best is taken
REACH_QUANTILE = 0.99  # of each class's meters lie within the model's reach


class LearnError(ValueError):
    """A history that no model can be learned from; says what is missing."""


class LabelledMeters(NamedTuple):
    """Meters of which a history tells enough."""

    shapes: Column  # (meters, features)
    labels: Codes
    customers: list[tuple[str, str]]  # with their areas
    name: str  # the history, its first and its last day


class Lesson(NamedTuple):
    """A model and how it did on customers that were left out."""

    model: UseClassModel
    confusion: Codes  # (filed, likeliest)
    log_loss: float
    sure: Codes  # the same, of those with the probability at which the rule speaks

    @property
    def alert_count(self) -> int:
        """How many meters would be told."""
        return int(self.sure.sum() - self.sure.trace())


def labelled_meters(source: Source) -> LabelledMeters:
    """What the engine remembers of a history's meters at its end. Raises LearnError."""
    engine = Engine([], zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)
    first, last = 2**62, 0
    for batch in source.batches:
        if isinstance(batch, Readings) and len(batch):
            engine.step(batch)
            first, last = (
                min(first, int(batch.at.min())),
                max(last, int(batch.at.max())),
            )
    slots, judge = np.arange(engine.meters), engine.days.live
    judge.reserve()
    found: dict[type, Any] = {type(f): f.cells.read(slots) for f in judge.features}
    told = shapes(
        *(
            found[owner][name].astype(np.float64)
            for owner, name in (
                (Darkness, "usual"),
                (Routine, "kinds"),
                (Form, "variation"),
            )
        )
    )
    master = engine.registry.meters.columns_of(
        engine.registry.meters.rows_in_force(slots, np.full(len(slots), last))
    )
    filed = master["segments"].astype(np.int64) & (1 << USE_CLASS_COUNT) - 1
    limits = ALL_RULES["tariff_misuse"].settings
    enough = (found[Routine]["seen"] >= limits["history"]) & (
        found[Routine]["level"] >= limits["usual"]
    )
    rows = np.flatnonzero(
        enough & (filed > 0) & (master["pv_kva"] == 0) & np.isfinite(told).all(axis=0)
    )
    if not len(rows):
        raise LearnError(
            f"{source.name} has no meter with master data, {limits['history']:.0f} days and enough use"
        )
    owners = {
        (area.area, m.meter): m.customer or m.meter
        for area in source.areas
        for m in area.meters
    }
    pairs = [engine.meter_index.pairs[slot] for slot in rows.tolist()]
    days = [
        datetime.fromtimestamp(at, ZoneInfo(source.zone)).date()
        for at in (first, last - 1)
    ]
    return LabelledMeters(
        told[:, rows].T,
        np.log2(filed[rows]).astype(np.int64),
        [(p[0], owners[p]) for p in pairs],
        f"{source.name}, {days[0]} to {days[1]}",
    )


def learn(seen: LabelledMeters) -> Lesson:
    """Fit a model, and try its like on customers left out. Raises LearnError where a class has too few customers."""
    classes = np.unique(seen.labels)
    _, groups = np.unique(np.array(seen.customers), axis=0, return_inverse=True)
    for code in classes.tolist():
        if (count := len(np.unique(groups[seen.labels == code]))) < LEAST_CUSTOMERS:
            raise LearnError(
                f"{CLASS_NAMES[code]} has {count} customers to learn from, {LEAST_CUSTOMERS} are needed"
            )
    if len(classes) < 2:
        raise LearnError(
            f"all meters are {CLASS_NAMES[classes[0]]}: there is nothing to tell apart"
        )
    parts = list(
        StratifiedGroupKFold(VALIDATION_FOLDS).split(seen.shapes, seen.labels, groups)
    )

    def left_out(strength: float) -> Column:
        """The probabilities of every meter, by models that saw neither it nor its customer's other meters."""
        chances = np.zeros((len(seen.labels), len(classes)))
        for known, rest in parts:
            chances[rest] = fitted(
                seen.shapes[known], seen.labels[known], strength
            ).predict_proba(seen.shapes[rest])
        return chances

    with threadpool_limits(1):
        tried = {strength: left_out(strength) for strength in INVERSE_REGULARISATIONS}
    losses = {
        strength: float(log_loss(seen.labels, chances))
        for strength, chances in tried.items()
    }
    best = min(losses, key=lambda strength: losses[strength])
    chances, place = tried[best], np.searchsorted(classes, seen.labels)
    likeliest, sure = (
        chances.argmax(axis=1),
        chances.max(axis=1) >= ALL_RULES["tariff_misuse"].settings["chance"],
    )
    return Lesson(
        _model_of(seen, best),
        _counted(place, likeliest, len(classes)),
        losses[best],
        _counted(place[sure], likeliest[sure], len(classes)),
    )


def fitted(shapes: Column, labels: Codes, strength: float) -> Pipeline:
    """A multinomial logistic regression on standardised features."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=2000)
    ).fit(shapes, labels)


def _model_of(seen: LabelledMeters, strength: float) -> UseClassModel:
    """What is learned of all meters, in numbers of six digits."""
    with threadpool_limits(1):
        pipeline = fitted(seen.shapes, seen.labels, strength)
    scaler, regression = pipeline[0], pipeline[-1]
    weights, bias = regression.coef_, regression.intercept_
    if len(weights) == 1:  # of two classes only the second's against the first
        weights, bias = (
            np.concatenate([-weights, weights]) / 2,
            np.concatenate([-bias, bias]) / 2,
        )
    distance = np.mean(scaler.transform(seen.shapes) ** 2, axis=1)

    def short(values: Any) -> list[float]:
        return [float(f"{value:.6g}") for value in values]

    return UseClassModel(
        classes=[CLASS_NAMES[code] for code in regression.classes_],
        mean=short(scaler.mean_),
        scale=short(scaler.scale_),
        weights=[short(row) for row in weights],
        bias=short(bias),
        reach=short(
            [
                max(
                    np.quantile(distance[seen.labels == code], REACH_QUANTILE)
                    for code in regression.classes_
                )
            ]
        )[0],
        learned_from=seen.name,
        meters=[
            int(np.count_nonzero(seen.labels == code)) for code in regression.classes_
        ],
    )


def _counted(one: Codes, other: Codes, size: int) -> Codes:
    """How often each pair of classes comes."""
    return np.bincount(one * size + other, minlength=size * size).reshape(size, size)

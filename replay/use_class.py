"""Learning the fleet model of the classes of use from a history, by scikit-learn.

The labels come from the master data: a few per cent of them are wrong, which a linear model outvotes. The model is
measured on customers that it was not learned from.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.meters.darkness import Darkness
from models.meters.form import Form
from models.meters.peer_days import use_class_bits
from models.meters.routine import Routine
from models.meters.use_class import shapes
from replay.history import Source
from schemas.columns import Codes, Column, Readings
from schemas.master import Area, Segment
from schemas.use_class import UseClassModel

CLASS_NAMES: tuple[Segment, ...] = get_args(Segment)
VALIDATION_FOLDS = 5
LEAST_CUSTOMERS = 20  # customers of a class
INVERSE_REGULARISATIONS = (0.01, 0.1, 1.0)  # tried; the best is taken
REACH_QUANTILE = 0.99  # of each class's meters lie within the model's reach


class LearnError(ValueError):
    """A history that no model can be learned from; says what is missing."""


class LabelledMeters(NamedTuple):
    """Meters of which a history shows enough."""

    shapes: Column  # (meters, features)
    labels: Codes
    customers: list[tuple[str, str]]  # with their areas
    name: str  # the history, with its first and its last day


class Lesson(NamedTuple):
    """A model and how it did on customers that were left out."""

    model: UseClassModel
    confusion: Codes  # (filed, likeliest)
    log_loss: float
    sure: Codes  # the same, of meters with the probability at which the rule raises

    @property
    def alert_count(self) -> int:
        """The number of meters that would raise an alert."""
        return int(self.sure.sum() - self.sure.trace())


def labelled_meters(source: Source) -> LabelledMeters:
    """The engine's knowledge of a history's meters at its end. Raises LearnError."""
    engine = Engine([], zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)
    first = 2**62
    last = 0
    for batch in source.batches:
        if isinstance(batch, Readings) and len(batch):
            engine.step(batch)
            first = min(first, int(batch.at.min()))
            last = max(last, int(batch.at.max()))

    slots = np.arange(len(engine.indexes.meters))
    found = _remembered(engine, slots)
    features = shapes(
        found[Darkness]["usual"].astype(np.float64),
        found[Routine]["kinds"].astype(np.float64),
        found[Form]["variation"].astype(np.float64),
    )
    registered = engine.registry.meters
    master = registered.columns_of(
        registered.rows_in_force(slots, np.full(len(slots), last))
    )
    filed = use_class_bits(master["segments"])

    limits = ALL_RULES["tariff_misuse"].settings
    rows = np.flatnonzero(
        (found[Routine]["seen"] >= limits["history"])
        & (found[Routine]["level"] >= limits["usual"])
        & (filed > 0)
        & (master["pv_kva"] == 0)
        & np.isfinite(features).all(axis=0)
    )
    if not len(rows):
        raise LearnError(
            f"{source.name} has no meter with master data, {limits['history']:.0f} days and enough use"
        )

    days = [
        datetime.fromtimestamp(at, ZoneInfo(source.zone)).date()
        for at in (first, last - 1)
    ]
    return LabelledMeters(
        features[:, rows].T,
        np.log2(filed[rows]).astype(np.int64),
        _customers(engine, source.areas, rows),
        f"{source.name}, {days[0]} to {days[1]}",
    )


def _remembered(engine: Engine, slots: NDArray[np.intp]) -> dict[type, Any]:
    """The state of the engine's features of days, by their class."""
    judge = engine.judges.revisable["days"].live
    judge.reserve()
    return {type(feature): feature.cells.read(slots) for feature in judge.features}


def _customers(
    engine: Engine, areas: Iterable[Area], rows: NDArray[np.intp]
) -> list[tuple[str, str]]:
    """Area and customer of the meters in some rows; a meter without a customer is its own."""
    owners = {}
    for area in areas:
        for meter in area.meters:
            owners[area.area, meter.meter] = meter.customer or meter.meter
    pairs = [engine.indexes.meters.pairs[slot] for slot in rows.tolist()]
    return [(pair[0], owners[pair]) for pair in pairs]


def learn(seen: LabelledMeters) -> Lesson:
    """Fit a model, and measure its like on customers left out.

    Raises LearnError where a class has too few customers.
    """
    classes = np.unique(seen.labels)
    _, groups = np.unique(np.array(seen.customers), axis=0, return_inverse=True)
    _check_counts(seen, classes, groups)
    folds = list(
        StratifiedGroupKFold(VALIDATION_FOLDS).split(seen.shapes, seen.labels, groups)
    )

    def left_out(strength: float) -> Column:
        """The probabilities of every meter, by models that saw none of its customer's meters."""
        chances = np.zeros((len(seen.labels), len(classes)))
        for known, rest in folds:
            pipeline = fitted(seen.shapes[known], seen.labels[known], strength)
            chances[rest] = pipeline.predict_proba(seen.shapes[rest])
        return chances

    with threadpool_limits(1):
        tried = {strength: left_out(strength) for strength in INVERSE_REGULARISATIONS}
    losses = {
        strength: float(log_loss(seen.labels, chances))
        for strength, chances in tried.items()
    }
    best = min(losses, key=lambda strength: losses[strength])

    chances = tried[best]
    place = np.searchsorted(classes, seen.labels)
    likeliest = chances.argmax(axis=1)
    sure = chances.max(axis=1) >= ALL_RULES["tariff_misuse"].settings["chance"]
    return Lesson(
        _model_of(seen, best),
        _counted(place, likeliest, len(classes)),
        losses[best],
        _counted(place[sure], likeliest[sure], len(classes)),
    )


def _check_counts(seen: LabelledMeters, classes: Codes, groups: Codes) -> None:
    """Raises LearnError where there are too few customers or classes to learn from."""
    for code in classes.tolist():
        if (count := len(np.unique(groups[seen.labels == code]))) < LEAST_CUSTOMERS:
            raise LearnError(
                f"{CLASS_NAMES[code]} has {count} customers to learn from, {LEAST_CUSTOMERS} are needed"
            )
    if len(classes) < 2:
        raise LearnError(
            f"all meters are {CLASS_NAMES[classes[0]]}: there is nothing to distinguish"
        )


def fitted(shapes: Column, labels: Codes, strength: float) -> Pipeline:
    """A multinomial logistic regression on standardised features."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=2000)
    ).fit(shapes, labels)


def _model_of(seen: LabelledMeters, strength: float) -> UseClassModel:
    """The model of all meters, in numbers of six digits."""
    with threadpool_limits(1):
        pipeline = fitted(seen.shapes, seen.labels, strength)
    scaler = pipeline[0]
    regression = pipeline[-1]
    weights = regression.coef_
    bias = regression.intercept_
    if len(weights) == 1:  # of two classes only the second's against the first
        weights = np.concatenate([-weights, weights]) / 2
        bias = np.concatenate([-bias, bias]) / 2

    standard = scaler.transform(seen.shapes)
    distance = np.mean(standard**2, axis=1)
    by_class = [distance[seen.labels == code] for code in regression.classes_]
    reach = max(np.quantile(distances, REACH_QUANTILE) for distances in by_class)

    def short(values: Any) -> list[float]:
        return [float(f"{value:.6g}") for value in values]

    return UseClassModel(
        classes=[CLASS_NAMES[code] for code in regression.classes_],
        mean=short(scaler.mean_),
        scale=short(scaler.scale_),
        weights=[short(row) for row in weights],
        bias=short(bias),
        reach=short([reach])[0],
        learned_from=seen.name,
        meters=[len(distances) for distances in by_class],
    )


def _counted(one: Codes, other: Codes, size: int) -> Codes:
    """The count of each pair of classes."""
    pairs = one * size + other
    counts = np.bincount(pairs, minlength=size * size)
    return counts.reshape(size, size)

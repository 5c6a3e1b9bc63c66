"""The use class that a meter's days look like, by the fleet model in force.

The model is linear, learned from a history.
"""

from __future__ import annotations

import numpy as np

from models.master.calendar import HOLIDAY_KIND
from models.meters.basics import Columns, Feature
from models.meters.profiles import DAY_HOURS, USE_CLASS_COUNT
from models.state.cells import Cells
from schemas.columns import METER_SEGMENTS, Codes, Column
from schemas.use_class import UseClassModel

SATURDAY_KIND = 5  # the first weekend day among the kinds of days


def shapes(hours: Column, kinds: Column, variation: Column) -> Column:
    """A meter's features, one a row: use of hours and weekend days, and spread of the hours.

    Use is over the mean.

    The amount of use is left out on purpose: size is not class.
    """
    hourly = hours * DAY_HOURS / np.sum(hours, axis=0)
    weekend = kinds[SATURDAY_KIND:HOLIDAY_KIND] / np.mean(kinds[:SATURDAY_KIND], axis=0)
    features: Column = np.concatenate([hourly, weekend, variation[None]])
    return features


class Fleet:
    """The fleet model in force, as arrays; without a model no class is likely."""

    def __init__(self, model: UseClassModel | None) -> None:
        self.adopt(model)

    def adopt(self, model: UseClassModel | None) -> None:
        """Switches to another model."""
        self.model = model
        if model:
            self.codes = np.array(
                [METER_SEGMENTS.index(name) for name in model.classes]
            )
            self._weights = np.array(model.weights)
            self._bias = np.array(model.bias)
            self._mean = np.array(model.mean)
            self._scale = np.array(model.scale)
            self._reach = model.reach

    def chances(self, features: Column) -> Column:
        """The probability of each class by the features.

        NaN of a shape unlike all shapes that the model has seen.

        Summed feature by feature: a row's answer is the same to the last bit whatever rows stand
        beside it.
        """
        meters = features.shape[1]
        logits = np.repeat(self._bias[:, None], meters, axis=1)
        distance = np.zeros(meters)
        for feature, weights, mean, scale in zip(
            features, self._weights.T, self._mean, self._scale, strict=True
        ):
            scaled = (feature - mean) / scale
            logits += weights[:, None] * scaled
            distance += scaled * scaled

        likelihoods = np.exp(logits - logits.max(axis=0))
        total = np.zeros(meters)
        for likelihood in likelihoods:
            total += likelihood
        seen = distance <= self._reach * len(features)
        return np.where(seen, likelihoods / total, np.nan)


class UseClass(Feature):
    """The use class besides the filed one that a meter's usual days look like.

    It has no memory of its own.
    """

    reads: tuple[str, ...] = ("usual_hours", "usual_kinds", "usual_variation")
    takes: tuple[str, ...] = ("segments",)
    gives: tuple[str, ...] = ("filed_class", "other_class", "other_chance")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self.cells = fleet, Cells()

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the filed class and the likeliest class besides it.

        filed_class: by the master data
        other_class, other_chance: the likeliest besides it, and its probability

        Classes are numbered as residential, commercial, industrial, agricultural. NaN without a
        model, without master data, and where the model does not know the filed class or the shape.
        """
        if self._fleet.model is None:
            return dict.fromkeys(self.gives, np.full(len(slots), np.nan))
        bits = columns["segments"].astype(np.int64) & (1 << USE_CLASS_COUNT) - 1
        filed = np.where(bits > 0, np.log2(np.maximum(bits, 1)), np.nan)
        chances = self._fleet.chances(shapes(*(columns[name] for name in self.reads)))

        is_filed = self._fleet.codes[:, None] == filed
        others = np.where(is_filed | np.isnan(chances), -1.0, chances)
        likeliest = others.argmax(axis=0)
        chance = others[likeliest, np.arange(len(slots))]
        known = is_filed.any(axis=0) & ~np.isnan(chances[0])
        return {
            "filed_class": filed,
            "other_class": np.where(known, self._fleet.codes[likeliest], np.nan),
            "other_chance": np.where(known, chance, np.nan),
        }

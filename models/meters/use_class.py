"""The use class that a meter's days look like, by the fleet model in force.

The model is linear, learned from a history.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import HOLIDAY_KIND
from models.meters.peer_days import use_class_bits
from models.state.cells import Cells
from models.state.missing_values import only
from schemas.columns import METER_SEGMENTS, Codes, Column
from schemas.units import DAY_HOURS
from schemas.use_class import UseClassModel

SATURDAY_KIND = 5  # the first weekend day among the kinds of days


def shapes(hours: Column, kinds: Column, variation: Column) -> Column:
    """A meter's features, one a row: use of hours and weekend days, and spread of the hours.

    Use is over the mean.

    The amount of use is left out on purpose: size is not class.
    """
    hourly = hours * DAY_HOURS / np.sum(hours, axis=0)
    workday = np.mean(kinds[:SATURDAY_KIND], axis=0)
    weekend = kinds[SATURDAY_KIND:HOLIDAY_KIND] / workday
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
        return only(seen, likelihoods / total)


class UseClassColumns(NamedTuple):
    """Given by UseClass: classes as residential 0, commercial, industrial, agricultural 3.

    NaN without a model, without master data, and where the model does not know the filed class or
    the shape.
    """

    filed_class: Column  # by the master data, known also where the shape is not
    other_class: Column  # likeliest class besides it
    other_chance: Column  # probability of that class


class UseClass(Feature):
    """The use class besides the filed one that a meter's usual days look like.

    It has no memory of its own.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self.cells = fleet, Cells()

    def fold(
        self,
        slots: Codes,
        usual_hours: Column,
        usual_kinds: Column,
        usual_variation: Column,
        *,
        segments: Column,
    ) -> UseClassColumns:
        """The filed class and the likeliest class besides it."""
        if self._fleet.model is None:
            nothing = np.full(len(slots), np.nan)
            return UseClassColumns(nothing, nothing, nothing)
        bits = use_class_bits(segments)
        numbers = np.log2(np.maximum(bits, 1))
        filed = only(bits > 0, numbers)
        meter_shapes = shapes(usual_hours, usual_kinds, usual_variation)
        chances = self._fleet.chances(meter_shapes)

        is_filed = self._fleet.codes[:, None] == filed
        others = np.where(is_filed | np.isnan(chances), -1.0, chances)
        likeliest = others.argmax(axis=0)
        chance = others[likeliest, np.arange(len(slots))]
        known = is_filed.any(axis=0) & ~np.isnan(chances[0])
        other_class = self._fleet.codes[likeliest]
        return UseClassColumns(
            filed_class=filed,
            other_class=only(known, other_class),
            other_chance=only(known, chance),
        )

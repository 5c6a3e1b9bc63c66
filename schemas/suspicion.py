"""A fleet model of suspicion: learned offline from what visits found, kept in a file, read to rank customers."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Annotated

import msgspec


class SuspicionFeature(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A fact of a customer and what it weighs."""

    name: str
    mean: float  # among the customers that were visited
    scale: Annotated[float, msgspec.Meta(gt=0)]  # standard deviation among them
    weight: float  # of the standardised fact, log odds

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.mean, self.scale, self.weight))):
            raise ValueError("numbers are finite")


class SuspicionModel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A logistic regression on standardised facts; an unknown fact weighs nothing."""

    features: Annotated[list[SuspicionFeature], msgspec.Meta(min_length=1)]
    bias: float  # log odds
    learned_from: str  # the history, and the first and last date of the visits
    visits: Annotated[int, msgspec.Meta(ge=1)]  # it was learned from
    thefts: Annotated[int, msgspec.Meta(ge=1)]  # that these found

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise ValueError("numbers are finite")
        if len({feature.name for feature in self.features}) != len(self.features):
            raise ValueError("a feature is named twice")

    @property
    def name(self) -> str:
        """The history it was learned from, and a digest of all its content."""
        digest = blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()
        return f"{self.learned_from} {digest}"

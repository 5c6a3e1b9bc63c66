"""A fleet model of the classes of use: learned offline, kept in a file, published with the rule it serves."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Annotated

import msgspec

from schemas.master import Segment

FEATURE_COUNT = 27  # the shares of 24 hours, of Saturday and of Sunday, and the hours' spread: models/use_class.py
Numbers = Annotated[
    list[float], msgspec.Meta(min_length=FEATURE_COUNT, max_length=FEATURE_COUNT)
]


class UseClassModel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How likely each class is by the shape of a meter's days: a softmax over weighted, standardised features."""

    classes: Annotated[list[Segment], msgspec.Meta(min_length=2, max_length=4)]
    mean: Numbers  # of each feature among the meters it was learned from
    scale: Numbers  # and its standard deviation
    weights: list[Numbers]  # of each class
    bias: list[float]  # of each class
    # mean square of the standardised features, beyond which none was seen
    reach: Annotated[float, msgspec.Meta(gt=0)]
    learned_from: str  # the history, its first and its last day
    meters: list[int]  # of each class that it was learned from

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        if (
            not len(self.classes)
            == len(self.weights)
            == len(self.bias)
            == len(self.meters)
        ):
            raise ValueError(
                "every class has its weights, a bias and a number of meters"
            )
        numbers = [
            *self.mean,
            *self.scale,
            *self.bias,
            self.reach,
            *(w for row in self.weights for w in row),
        ]
        if not all(map(math.isfinite, numbers)) or min(self.scale) <= 0:
            raise ValueError("numbers are finite, and scales above 0")

    @property
    def name(self) -> str:
        """What it was learned from, and a digest of all it holds."""
        return f"{self.learned_from} {blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()}"

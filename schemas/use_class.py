"""A fleet model of use classes: learned offline, kept in a file, published with the rule it serves."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Annotated

import msgspec

from schemas.master import Segment

# The shares of 24 hours, of Saturday and of Sunday, and the hours' spread: models/meters/use_class.py.
FEATURE_COUNT = 27
Numbers = Annotated[
    list[float], msgspec.Meta(min_length=FEATURE_COUNT, max_length=FEATURE_COUNT)
]


class UseClassModel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """How likely each class is by the shape of a meter's days: a softmax over weighted, standardised features."""

    classes: Annotated[list[Segment], msgspec.Meta(min_length=2, max_length=4)]
    mean: Numbers  # of each feature among the meters it was learned from
    scale: Numbers  # standard deviation of each feature among them
    weights: list[Numbers]  # of each class
    bias: list[float]  # of each class
    # The largest mean square of the standardised features that was seen.
    reach: Annotated[float, msgspec.Meta(gt=0)]
    learned_from: str  # the history, its first and its last day
    meters: list[int]  # how many of each class it was learned from

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        counts = {
            len(self.classes),
            len(self.weights),
            len(self.bias),
            len(self.meters),
        }
        if len(counts) > 1:
            raise ValueError(
                "every class has its weights, a bias and a number of meters"
            )

        numbers = [*self.mean, *self.scale, *self.bias, self.reach]
        for class_weights in self.weights:
            numbers += class_weights
        if not all(map(math.isfinite, numbers)) or min(self.scale) <= 0:
            raise ValueError("numbers are finite, and scales above 0")

    @property
    def name(self) -> str:
        """The history it was learned from, and a digest of all its content."""
        digest = blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()
        return f"{self.learned_from} {digest}"

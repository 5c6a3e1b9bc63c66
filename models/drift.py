"""Drift: the error of an online model has risen for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from models.state.cells import Array
from schemas.columns import Column, Mask


class WatchedModel(Protocol):
    """An online model whose drift is watched."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def gives(self) -> tuple[str, ...]:
        """The columns that it gives."""

    @property
    def drifted(self) -> int:
        """How many subjects are learned anew since the error of the model drifted."""


class WatchedErrors(NamedTuple):
    """The memory of a test after some errors, and where the errors have drifted."""

    memory: Array  # (4, rows)
    drifted: Mask


@dataclass(frozen=True)
class PageHinkley:
    """The test of Page and Hinkley for a mean that rises, one memory for each subject.

    The memory of a subject is four numbers: how many errors were seen, their mean, the sum of what they
    were above the mean and the tolerance, and the lowest that the sum has been. After a drift it is empty.
    """

    tolerance: float  # above the mean, which an error may be for ever
    most: float  # above the mean, that one error counts
    limit: float  # of the sum above its lowest

    @property
    def empty(self) -> Array:
        """The memory of a subject without errors."""
        return np.zeros(4)

    def watch(self, memory: Array, errors: Column) -> WatchedErrors:
        """The memory after one error of each subject; NaN changes nothing.

        >>> test, memory = PageHinkley(tolerance=0.1, most=0.6, limit=1.0), np.zeros((4, 1))
        >>> for error in [0.0, 0.1, -0.1, 0.0, 9.0, 0.9]:
        ...     memory, drifted = test.watch(memory, np.array([error]))
        >>> bool(drifted[0]), bool(test.watch(memory, np.array([0.9])).drifted[0])
        (False, True)
        """
        count, mean, total, lowest = memory
        count = count + 1
        above = errors - mean
        above = np.where(count > 1, np.minimum(above, self.most), above)
        mean = mean + above / count
        weight = 1 - 1 / count
        total = total + above * weight - self.tolerance
        lowest = np.minimum(lowest, total)

        after = np.where(np.isnan(errors), memory, [count, mean, total, lowest])
        drifted = after[2] - after[3] > self.limit
        return WatchedErrors(np.where(drifted, 0.0, after), drifted)

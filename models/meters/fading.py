"""Weights that fade with time."""

from __future__ import annotations

import numpy as np

from models.state.cells import Array


def faded(elapsed: Array, half_life: float) -> Array:
    """The rest of a weight after some time; all of it where time has gone backward.

    >>> faded(np.array([-1e15, 0.0, 14.0, 1e15]), 14.0).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """
    return np.exp2(-np.maximum(elapsed, 0) / half_life)


def kept_share(half_life: float) -> float:
    """The share of a memory that is left after one day, of a half-life in days."""
    return float(2 ** (-1 / half_life))

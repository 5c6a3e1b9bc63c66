"""Columns in which values are missing: NaN."""

from __future__ import annotations

import numpy as np

from models.state.cells import Array
from schemas.columns import Column, Mask, constant


def unknown(column: Column) -> bool:
    """True if a column was never given."""
    if not constant(column):
        return False
    first = column[..., :1]
    return np.count_nonzero(np.isnan(first)) == first.size


def zeroed(column: Column) -> Column:
    """The column with 0 for NaN."""
    missing = np.isnan(column)
    if np.count_nonzero(missing):
        return np.where(missing, column.dtype.type(0), column)
    return column


def total(phases: Column) -> Column:
    """The sum over the phases, in double precision."""
    return zeroed(phases).sum(axis=0, dtype=np.float64)


def only(mask: Mask, values: Array | float) -> Array:
    """Values where a mask is true, else NaN.

    >>> only(np.array([True, False]), np.array([1, 2])).tolist()
    [1.0, nan]
    """
    return np.where(mask, values, np.nan)

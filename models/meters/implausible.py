"""Values that cannot be true: they become NaN, counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from schemas.columns import Column, Mask, Readings


def replace_implausible(
    counts: Counter[str], column: Column, where: Mask, reason: str
) -> Column:
    """The column with NaN for implausible values, which are counted by reason."""
    where = where & ~np.isnan(column)
    found = int(np.count_nonzero(where))
    if not found:
        return column
    counts[reason] += found
    return np.where(where, np.array(np.nan, column.dtype), column)


def with_columns(readings: Readings, **columns: Any) -> Readings:
    """The readings with some columns replaced."""
    return replace(readings, **columns) if columns else readings

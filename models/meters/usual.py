"""The usual of a customer's days, and how a day teaches it.

Trouble teaches little: a day counts within half to twice the usual.
"""

from __future__ import annotations

import numpy as np

from models.master.calendar import HOLIDAY_KIND
from models.meters.fading import kept_share
from models.state.cells import Cells, Columns
from schemas.columns import Codes, Column, Mask

COVERED_SHARE = 0.9  # of a day's intervals, measured
HALF_LIFE = 28.0  # days over which the usual fades
YOUNG_DAYS = 7  # days after which an unusual value counts for less
LEAST_LEARNED = 0.05  # learned beyond twice the usual, so that zero can grow


def learned(
    usual: Column,
    value: Column,
    seen: Column,
    rate: Column | float = 1.0,
    least: float = LEAST_LEARNED,
    untamed: Mask | bool = False,
) -> Column:
    """The usual after a day's value, within half to twice the usual after the first week.

    NaN teaches nothing.
    """
    within = np.clip(value, usual / 2, 2 * usual + least)
    tamed = np.where((seen < YOUNG_DAYS) | untamed, value, within)
    share = teaching_share(seen) * rate
    moved = usual + share * (tamed - usual)
    after = np.where(np.isnan(usual), value, moved)
    return np.where(np.isnan(value), usual, after)


def teaching_share(seen: Column) -> Column:
    """The weight of a day in the usual: of a plain mean at first, later of the half-life."""
    of_mean = 1 / (seen + 1)
    return np.asarray(np.maximum(1 - kept_share(HALF_LIFE), of_mean))


def remembered(cells: Cells, slots: Codes) -> Columns:
    """The cells of some slots, in double precision."""
    return {
        name: array[..., slots].astype(np.float64)
        for name, array in cells.arrays.items()
    }


def ordinary_days(known_days: Column, day_kind: Column) -> Mask:
    """True on a known customer's days except holidays and the weeks around Spring Festival."""
    return np.asarray(~np.isnan(known_days) & (day_kind < HOLIDAY_KIND))

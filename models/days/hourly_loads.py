"""An area's mean load in each hour of a day."""

from __future__ import annotations

import numpy as np

from models.days.area_sums import MILLI_PER_KILO, whole
from models.master.registry import Registry
from models.state.cells import Array
from models.state.missing_values import only, zeroed
from schemas.columns import Codes, Column, Times
from schemas.units import DAY_HOURS, HOUR_SECONDS

# of an area's users that must have been read where no gateway meter was
LEAST_COVERAGE = 0.9


def hourly_kva(
    registry: Registry,
    areas: Codes,
    starts: Times,
    sums: dict[str, Array],
    interval: int,
) -> Column:
    """The load of areas' days that began at `starts`, kVA, (24, areas); NaN where it is not known.

    The load of an hour is the mean of its intervals that are known. A 25th hour is left out.
    """
    steps = -(-DAY_HOURS * HOUR_SECONDS // interval)
    measured = sums["gateway"][3, :steps]
    counted = sums["counted"][:steps]
    is_measured = ~np.isnan(measured)
    milli_va = whole(zeroed(measured) * MILLI_PER_KILO)
    milli_va = np.where(is_measured, milli_va, sums["milli_va"][:steps])

    # Without a gateway's value nearly all users must have been read.
    summed, which = np.nonzero(~is_measured & (counted > 0))
    ends = starts[which] + (summed + 1) * interval
    users = registry.users(areas[which], ends)
    is_known = is_measured.copy()
    least = LEAST_COVERAGE * users
    is_known[summed, which] = counted[summed, which] >= least
    begins = np.arange(DAY_HOURS) * HOUR_SECONDS / interval
    if interval >= HOUR_SECONDS:
        of_hour = begins.astype(np.int64)
        return only(is_known, milli_va / MILLI_PER_KILO)[of_hour]

    of_hour = np.ceil(begins).astype(np.int64)
    counts = np.add.reduceat(is_known.astype(np.int64), of_hour, axis=0)
    totals = np.add.reduceat(milli_va * is_known, of_hour, axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(totals / counts / MILLI_PER_KILO)

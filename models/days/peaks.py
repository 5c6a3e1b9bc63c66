"""The highest values of each meter's day: the load it reached and the unbalance of its voltages.

Only the few highest readings of a day are kept, in ascending order, so that the order of arrival
does not matter. Voltages that are as good as even count as 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.state.cells import Array
from models.state.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Column
from schemas.units import HOUR_SECONDS

LASTING_LOAD_SECONDS = 2 * HOUR_SECONDS  # of a day, for which kva_2h was reached
KNOWN_SHARE = 0.9  # of a day's intervals that must be known
# Unbalance that is no trouble anywhere: half of the limit for the public grid.
EVEN_UNBALANCE = 0.01
# Of nominal: below it a phase is lost, which is no unbalance; the meter's own limit of
# voltage loss.
LOST_PHASE_VOLTAGE = 0.78


def peak_cells(interval: int) -> dict[str, Any]:
    """The empty cells of a meter's day."""
    steps = -(-25 * HOUR_SECONDS // interval)
    loads = max(-(-LASTING_LOAD_SECONDS // interval), steps // 100 + 1, 2)
    return {
        "loads": np.zeros(loads, np.float32),
        "loads_count": np.uint16(0),
        "unbalances": np.zeros(steps // 20 + 1, np.float32),
        "unbalances_count": np.uint16(0),
        "by_magnitude": np.uint16(0),
    }


def keep_highest(highest: Array, where: Codes, values: Column) -> None:
    """Puts values among the highest of their cells, which stay in ascending order."""
    rising = np.flatnonzero(values > highest[0, where])
    if not len(rising):
        return

    # Each cell gets one value: shift the lower ones down.
    if ascending(where):
        cells, values = where[rising], values[rising]
        before = np.take(highest, cells, axis=1)
        raised = np.maximum(before, values)
        np.minimum(raised[:-1], before[1:], out=raised[:-1])
        for rank, new in zip(highest, raised, strict=True):
            rank[cells] = new
        return

    # Else sort each cell's highest new values with the old ones.
    order = rising[np.lexsort((values[rising], where[rising]))]
    where, values = where[order], values[order]
    begins = runs(where)
    sizes = sizes_of(begins, len(where))
    ranks = np.arange(1, min(int(sizes.max()), len(highest)) + 1)
    places = begins + sizes - ranks[:, None]
    fresh = np.where(places >= begins, values[places], 0)
    cells = where[begins]
    ordered = np.sort(np.concatenate([highest[:, cells], fresh]), axis=0)
    highest[:, cells] = ordered[-len(highest) :]


def peak_columns(
    cells: dict[str, Array], expected: Column, length: Column
) -> dict[str, Column]:
    """The Days columns of every member, whose day of `length` seconds has `expected` intervals."""
    loads_known = cells["loads_count"] >= KNOWN_SHARE * expected
    unbalances_known = cells["unbalances_count"] >= KNOWN_SHARE * expected

    def load(rank: Column) -> Column:
        return np.where(loads_known, _nth_highest(cells["loads"], rank), np.nan)

    def unbalance(rank: Column) -> Column:
        highest = _nth_highest(cells["unbalances"], rank)
        return np.where(unbalances_known, highest, np.nan)

    share = cells["by_magnitude"] / np.maximum(cells["unbalances_count"], 1)
    lasting_rank = np.maximum(LASTING_LOAD_SECONDS * expected // length, 1)
    return {
        "kva_p99": load(np.maximum(expected // 100 + 1, 2)),
        "kva_2h": load(lasting_rank),
        "unbalance_p95": unbalance(expected // 20 + 1),
        "unbalance_top": unbalance(np.ones(len(expected))),
        "by_magnitude": np.where(unbalances_known, share, np.nan),
    }


def _nth_highest(highest: Array, rank: Column) -> Column:
    """The value of a rank, counted from the highest."""
    places = np.maximum(len(highest) - rank.astype(np.int64), 0)
    values: Column = np.take_along_axis(highest, places[None], axis=0)[0]
    return values.astype(np.float64)


def unbalance_factor(U: Column, angle: Column, three_wire: Column) -> Column:
    """Negative over positive sequence from the line voltages (GB/T 15543); NaN without angles.

    The voltages of a three-wire meter are two line voltages, from which the third follows.
    """
    phase_a, phase_b, phase_c = U.astype(np.float64)
    angle_a, angle_b, angle_c = np.radians(angle.astype(np.float64))
    line_ab = _line_square(phase_a, phase_b, angle_a - angle_b)
    line_bc = _line_square(phase_b, phase_c, angle_b - angle_c)
    line_ca = _line_square(phase_c, phase_a, angle_c - angle_a)

    squares = np.where(
        three_wire == 1,
        [phase_a * phase_a, phase_c * phase_c, line_ca],
        [line_ab, line_bc, line_ca],
    )
    fourths = (squares**2).sum(axis=0)
    root = np.sqrt(np.maximum(3 - 6 * fourths / squares.sum(axis=0) ** 2, 0))
    return np.asarray(np.sqrt((1 - root) / (1 + root)))


def _line_square(one: Column, two: Column, apart: Column) -> Column:
    """The square of the voltage between two phases, which are `apart` radians from each other."""
    return one * one + two * two - 2 * one * two * np.cos(apart)


def spread_of(U: Column) -> Column:
    """How far a phase is from the mean of the three; stands for the factor without angles."""
    mean = U.sum(axis=0, dtype=np.float64) / 3
    return np.asarray(np.abs(U - mean).max(axis=0) / mean)

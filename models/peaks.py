"""The highest values of each meter's day: the load it reached and the unbalance of its voltages.

Only the few highest readings of a day are kept, in ascending order, so that the order of arrival does not matter.
Voltages that are as good as even count as 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.cells import Array
from models.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Column
from schemas.units import HOUR_SECONDS

LASTING_LOAD_SECONDS = (
    2 * HOUR_SECONDS
)  # of a day, that a load was reached for to count as kva_2h
KNOWN_SHARE = 0.9  # of a day's intervals that must be known
EVEN_UNBALANCE = (
    0.01  # unbalance that is no trouble anywhere: half of the limit for the public grid
)
LOST_PHASE_VOLTAGE = 0.78  # of nominal: below it a phase is lost, and no unbalance; the meter's own limit of voltage loss


def peak_cells(interval: int) -> dict[str, Any]:
    """The empty cells of a meter's day."""
    steps = -(-25 * HOUR_SECONDS // interval)
    return {
        "loads": np.zeros(
            max(-(-LASTING_LOAD_SECONDS // interval), steps // 100 + 1, 2), np.float32
        ),
        "loads_count": np.uint16(0),
        "unbalances": np.zeros(steps // 20 + 1, np.float32),
        "unbalances_count": np.uint16(0),
        "by_magnitude": np.uint16(0),
    }


def keep_highest(highest: Array, where: Codes, values: Column) -> None:
    """Let values take their places among the highest of their cells."""
    hot = np.flatnonzero(values > highest[0, where])
    if not len(hot):
        return
    if ascending(where):
        cells, values = where[hot], values[hot]
        before = np.take(highest, cells, axis=1)
        raised = np.maximum(before, values)
        np.minimum(raised[:-1], before[1:], out=raised[:-1])
        for held, new in zip(highest, raised, strict=True):
            held[cells] = new
        return
    order = hot[np.lexsort((values[hot], where[hot]))]
    where, values = where[order], values[order]
    begins = runs(where)
    sizes = sizes_of(begins, len(where))
    places = (
        begins + sizes - np.arange(1, min(int(sizes.max()), len(highest)) + 1)[:, None]
    )
    fresh = np.where(places >= begins, values[places], 0)
    cells = where[begins]
    highest[:, cells] = np.sort(np.concatenate([highest[:, cells], fresh]), axis=0)[
        -len(highest) :
    ]


def peak_columns(
    cells: dict[str, Array], expected: Column, length: Column
) -> dict[str, Column]:
    """The Days columns of every member; `expected` is how many intervals each one's day of so many seconds has."""
    loaded, unbalanced = (
        cells[name] >= KNOWN_SHARE * expected
        for name in ("loads_count", "unbalances_count")
    )
    ranks = (
        np.maximum(expected // 100 + 1, 2),
        np.maximum(LASTING_LOAD_SECONDS * expected // length, 1),
    )
    p99, lasting = (
        np.where(loaded, _nth_highest(cells["loads"], rank), np.nan) for rank in ranks
    )
    p95, top = (
        np.where(unbalanced, _nth_highest(cells["unbalances"], rank), np.nan)
        for rank in (expected // 20 + 1, np.ones(len(expected)))
    )
    share = np.where(
        unbalanced,
        cells["by_magnitude"] / np.maximum(cells["unbalances_count"], 1),
        np.nan,
    )
    return {
        "kva_p99": p99,
        "kva_2h": lasting,
        "unbalance_p95": p95,
        "unbalance_top": top,
        "by_magnitude": share,
    }


def _nth_highest(highest: Array, rank: Column) -> Column:
    """The value of a rank, counted from the highest."""
    places = np.maximum(len(highest) - rank.astype(np.int64), 0)
    told: Column = np.take_along_axis(highest, places[None], axis=0)[0]
    return told.astype(np.float64)


def unbalance_factor(u: Column, angle: Column, three_wire: Column) -> Column:
    """Negative over positive sequence of the voltage, from the three line voltages (GB/T 15543); NaN without angles.

    The voltages of a three-wire meter are two line voltages, from which the third follows.
    """
    (a, b, c), (x, y, z) = u.astype(np.float64), np.radians(angle.astype(np.float64))
    ab, bc, ca = (
        one * one + two * two - 2 * one * two * np.cos(apart)
        for one, two, apart in ((a, b, x - y), (b, c, y - z), (c, a, z - x))
    )
    squares = np.where(three_wire == 1, [a * a, c * c, ca], [ab, bc, ca])
    root = np.sqrt(
        np.maximum(3 - 6 * (squares**2).sum(axis=0) / squares.sum(axis=0) ** 2, 0)
    )
    return np.asarray(np.sqrt((1 - root) / (1 + root)))


def spread_of(u: Column) -> Column:
    """How far a phase is from the mean of the three: what stands in for the factor where there are no angles."""
    mean = u.sum(axis=0, dtype=np.float64) / 3
    return np.asarray(np.abs(u - mean).max(axis=0) / mean)

"""The highest values of each meter's day: the load it reached and the unbalance of its voltages.

Only the few highest readings of a day are kept, in ascending order, so that the order of arrival
does not matter. Voltages that are as good as even count as 0.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from models.state.cells import Array, Cells, add_to
from models.state.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Column, Mask
from schemas.units import HOUR_SECONDS

LONGEST_DAY_SECONDS = 25 * HOUR_SECONDS  # on which clocks are set back
LASTING_LOAD_SECONDS = 2 * HOUR_SECONDS  # of a day, for which kva_2h was reached
KNOWN_SHARE = 0.9  # of a day's intervals that must be known
# Unbalance that is no trouble anywhere: half of the limit for the public grid.
EVEN_UNBALANCE = 0.01
# Of nominal: below it a phase is lost, which is no unbalance; the meter's own limit of
# voltage loss.
LOST_PHASE_VOLTAGE = 0.78


def peak_cells(interval: int) -> dict[str, Any]:
    """The empty cells of a meter's day."""
    steps = ceil(LONGEST_DAY_SECONDS / interval)
    lasting = ceil(LASTING_LOAD_SECONDS / interval)
    loads = max(lasting, steps // 100 + 1, 2)
    return {
        "loads": np.zeros(loads, np.float32),
        "loads_count": np.uint16(0),
        "unbalances": np.zeros(steps // 20 + 1, np.float32),
        "unbalances_count": np.uint16(0),
        "by_magnitude": np.uint16(0),
    }


def keep_peaks(
    cells: Cells,
    where: Codes,
    loads: Column,
    unbalances: Column,
    by_magnitude: Mask,
) -> None:
    """Keeps the highest loads and unbalances of rows in the cells of their days."""
    _keep_known(cells, "loads", where, loads, least=0)
    _keep_known(cells, "unbalances", where, unbalances, least=EVEN_UNBALANCE)
    if by_magnitude.any():
        add_to(cells["by_magnitude"], where, by_magnitude)


def _keep_known(
    cells: Cells,
    name: str,
    where: Codes,
    values: Column,
    least: float,
) -> None:
    """Counts the values that are known, and keeps the highest of those above the least."""
    known = ~np.isnan(values)
    if known.any():
        add_to(cells[f"{name}_count"], where, known)
        high = values > least
        keep_highest(cells[name], where[high], values[high])


def keep_highest(highest: Array, where: Codes, values: Column) -> None:
    """Puts values among the highest of their cells, which stay in ascending order."""
    lowest_kept = highest[0, where]
    rising = np.flatnonzero(values > lowest_kept)
    if not len(rising):
        return
    if ascending(where):
        _shift_down(highest, where[rising], values[rising])
        return

    by_cell_and_size = np.lexsort((values[rising], where[rising]))
    order = rising[by_cell_and_size]
    _merge_sorted(highest, where[order], values[order])


def _shift_down(highest: Array, cells: Codes, values: Column) -> None:
    """Puts a value into each cell: the lower ones shift down."""
    before = np.take(highest, cells, axis=1)
    raised = np.maximum(before, values)
    shifted = raised[:-1]
    np.minimum(shifted, before[1:], out=shifted)
    for rank, new in zip(highest, raised, strict=True):
        rank[cells] = new


def _merge_sorted(highest: Array, where: Codes, values: Column) -> None:
    """Puts values, sorted by cell and size, among the highest of their cells."""
    begins = runs(where)
    sizes = sizes_of(begins, len(where))
    count = len(highest)
    most = min(int(sizes.max()), count)
    ranks = 1 + np.arange(most)
    places = begins + sizes - ranks[:, None]
    has_rank = places >= begins
    fresh = np.where(has_rank, values[places], 0)

    cells = where[begins]
    kept = highest[:, cells]
    ordered = np.sort(np.concatenate([kept, fresh]), axis=0)
    highest[:, cells] = ordered[-count:]


def peak_columns(
    cells: dict[str, Array],
    expected: Column,
    length: Column,
) -> dict[str, Column]:
    """The Days columns of every member, whose day of `length` seconds has `expected` intervals."""
    least_known = KNOWN_SHARE * expected
    loads_known = cells["loads_count"] >= least_known
    unbalances_known = cells["unbalances_count"] >= least_known

    def load(rank: Column) -> Column:
        highest = _nth_highest(cells["loads"], rank)
        return np.where(loads_known, highest, np.nan)

    def unbalance(rank: Column) -> Column:
        highest = _nth_highest(cells["unbalances"], rank)
        return np.where(unbalances_known, highest, np.nan)

    share = cells["by_magnitude"] / np.maximum(cells["unbalances_count"], 1)
    lasting = LASTING_LOAD_SECONDS * expected // length
    lasting_rank = np.maximum(lasting, 1)
    hundredth_rank = np.maximum(expected // 100 + 1, 2)
    return {
        "kva_p99": load(hundredth_rank),
        "kva_2h": load(lasting_rank),
        "unbalance_p95": unbalance(expected // 20 + 1),
        "unbalance_top": unbalance(np.ones(len(expected))),
        "by_magnitude": np.where(unbalances_known, share, np.nan),
    }


def _nth_highest(highest: Array, rank: Column) -> Column:
    """The value of a rank, counted from the highest."""
    whole_rank = rank.astype(np.int64)
    places = np.maximum(len(highest) - whole_rank, 0)
    values = np.take_along_axis(highest, places[None], axis=0)
    return values[0].astype(np.float64)


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
    fourths = np.square(squares).sum(axis=0)
    square_sum = np.square(squares.sum(axis=0))
    beta_6 = 6 * fourths / square_sum
    root = np.sqrt(np.maximum(3 - beta_6, 0))
    ratio = (1 - root) / (1 + root)
    return np.asarray(np.sqrt(ratio))


def _line_square(one: Column, two: Column, apart: Column) -> Column:
    """The square of the voltage between two phases, which are `apart` radians from each other."""
    product = 2 * one * two
    squares = one * one + two * two
    return squares - product * np.cos(apart)


def spread_of(U: Column) -> Column:
    """How far a phase is from the mean of the three; stands for the factor without angles."""
    mean = U.sum(axis=0, dtype=np.float64) / 3
    farthest = np.abs(U - mean).max(axis=0)
    return np.asarray(farthest / mean)

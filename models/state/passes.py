"""Rows of a batch in passes: the state after a row is there before the next row of its slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np

from models.state.cells import Array
from models.state.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Mask


def unique_passes(slots: Codes) -> Iterator[Codes]:
    """Row numbers in passes with each slot at most once, every slot's rows in order of arrival."""
    if len(slots):
        order, ends = _in_passes(slots)
        yield from (order[start:end] for start, end in pairwise([0, *ends]))


def _in_passes(slots: Codes) -> tuple[Codes, list[int]]:
    """Rows by pass, then by arrival, and the end of each pass.

    A row's pass is the number of rows of its slot before it.
    """
    count = len(slots)
    rows = np.arange(count)
    if ascending(slots):
        return rows, [count]
    by_slot = np.argsort(slots, kind="stable")
    starts = runs(slots[by_slot])
    if len(starts) == count:
        return rows, [count]

    first = np.repeat(starts, sizes_of(starts, count))
    passes = np.empty(count, np.int64)
    passes[by_slot] = rows - first
    ends = np.cumsum(np.bincount(passes))
    return np.argsort(passes, kind="stable"), ends.tolist()


class UniquePasses:
    """Rows of any slots, each row after those of its slot that came before it."""

    def __init__(self, slots: Codes) -> None:
        self._slots = slots
        self._order, self._ends = _in_passes(slots)

    @cached_property
    def _by_slot(self) -> tuple[Codes, Codes]:
        """Rows by slot, then by arrival, and where in them each row's slot begins."""
        by_slot = np.argsort(self._slots, kind="stable")
        starts = runs(self._slots[by_slot])
        sizes = sizes_of(starts, len(by_slot))
        return by_slot, np.repeat(starts, sizes)

    def earlier(self, values: Array, first: Array, mask: Mask | None = None) -> Array:
        """The value of the row of the same slot before each, among rows of `mask`; else `first`.

        >>> passes = UniquePasses(np.array([7, 5, 7]))
        >>> passes.earlier(np.array([1, 2, 3]), np.array([0, 0, 0])).tolist()
        [0, 0, 1]
        """
        if len(self._ends) <= 1:
            return first
        by_slot, starts = self._by_slot
        last = np.arange(-1, len(by_slot) - 1)
        if mask is not None:
            chosen = np.where(mask[by_slot], last + 1, -1)
            last[1:] = np.maximum.accumulate(chosen)[:-1]

        known = last >= starts
        rows = by_slot[known]
        rows_before = by_slot[last[known]]
        before = np.array(first)
        before[rows] = values[rows_before]
        return before

    def scan(self, cells: Array, step: Callable[..., Array], *columns: Array) -> Array:
        """The cells of each row's slot before it; `step` makes the cells after it.

        `step` gets the cells before the row and the row's columns.

        >>> sums, passes = np.zeros(8), UniquePasses(np.array([7, 5, 7]))
        >>> before = passes.scan(sums, np.add, np.array([1.0, 2.0, 3.0]))
        >>> before.tolist(), sums[[5, 7]].tolist()
        ([0.0, 0.0, 1.0], [2.0, 4.0])
        """
        slots = self._slots
        if len(self._ends) <= 1:
            before = np.take(cells, slots, axis=-1)
            cells[..., slots] = step(before, *columns)
            return before

        slots = slots[self._order]
        ordered = [column[..., self._order] for column in columns]
        shape = (*cells.shape[:-1], len(slots))
        known = np.empty(shape, cells.dtype)
        for start, end in pairwise([0, *self._ends]):
            here = slots[start:end]
            before = cells.take(here, axis=-1)
            known[..., start:end] = before
            of_pass = (column[..., start:end] for column in ordered)
            cells[..., here] = step(before, *of_pass)

        # Back to the order of arrival.
        by_row = np.empty_like(known)
        by_row[..., self._order] = known
        return by_row

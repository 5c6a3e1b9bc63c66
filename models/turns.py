"""Rows of a batch in turns: what one leaves behind is there before the next of its slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np

from models.cells import Array
from models.runs import ascending, runs, sizes_of
from schemas.columns import Codes, Column, Mask


def unique_passes(slots: Codes) -> Iterator[Codes]:
    """Row numbers in parts that hold each slot at most once, every slot's rows in order of arrival."""
    if len(slots):
        order, ends = _in_passes(slots)
        yield from (order[start:end] for start, end in pairwise([0, *ends.tolist()]))


def _in_passes(slots: Codes) -> tuple[Codes, Codes]:
    """Rows by how many of their slot came before, and then by arrival, and where each such part ends."""
    rows = np.arange(len(slots))
    if ascending(slots):
        return rows, np.array([len(slots)])
    by_slot = np.argsort(slots, kind="stable")
    starts = runs(slots[by_slot])
    if len(starts) == len(slots):
        return rows, np.array([len(slots)])
    turn = np.empty(len(slots), np.int64)
    turn[by_slot] = rows - np.repeat(starts, sizes_of(starts, len(slots)))
    return np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))


class UniquePasses:
    """Rows of any slots, each row after those of its slot that came before it."""

    def __init__(self, slots: Codes) -> None:
        self._slots = slots
        self._order, self._ends = _in_passes(slots)

    @cached_property
    def _by_slot(self) -> tuple[Codes, Codes]:
        """Rows by slot, each slot's in order of arrival, and where in them each row's slot begins."""
        by_slot = np.argsort(self._slots, kind="stable")
        starts = runs(self._slots[by_slot])
        return by_slot, np.repeat(starts, sizes_of(starts, len(by_slot)))

    def earlier(
        self, values: Column, first: Column, mask: Mask | None = None
    ) -> Column:
        """The value of the row of the same slot before each, of those that are told; else the first.

        >>> UniquePasses(np.array([7, 5, 7])).earlier(np.array([1, 2, 3]), np.array([0, 0, 0])).tolist()
        [0, 0, 1]
        """
        if len(self._ends) <= 1:
            return first
        by_slot, starts = self._by_slot
        last = np.arange(-1, len(by_slot) - 1)
        if mask is not None:
            last[1:] = np.maximum.accumulate(np.where(mask[by_slot], last + 1, -1))[:-1]
        known = last >= starts
        before = np.array(first)
        before[by_slot[known]] = values[by_slot[last[known]]]
        return before

    def scan(self, cells: Array, step: Callable[..., Array], *columns: Array) -> Array:
        """The cells of each row's slot before it; `step` makes of them and the row's columns what is there after it.

        >>> sums = np.zeros(8)
        >>> UniquePasses(np.array([7, 5, 7])).scan(sums, np.add, np.array([1.0, 2.0, 3.0])).tolist(), sums[[5, 7]].tolist()
        ([0.0, 0.0, 1.0], [2.0, 4.0])
        """
        if len(self._ends) <= 1:
            before = np.take(cells, self._slots, axis=-1)
            cells[..., self._slots] = step(before, *columns)
            return before
        slots, known = (
            self._slots[self._order],
            np.empty((*cells.shape[:-1], len(self._slots)), cells.dtype),
        )
        ordered = [column[..., self._order] for column in columns]
        for start, end in pairwise([0, *self._ends.tolist()]):
            here = slots[start:end]
            known[..., start:end] = before = cells.take(here, axis=-1)
            cells[..., here] = step(
                before, *(column[..., start:end] for column in ordered)
            )
        told = np.empty_like(known)
        told[..., self._order] = known
        return told

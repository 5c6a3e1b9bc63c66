"""Runs of rows that belong together: of equal codes, or of given sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from schemas.columns import Codes, Column, Mask


def runs(*codes: Codes) -> Codes:
    """The rows at which runs begin: rows whose codes differ from the row before.

    >>> runs(np.array([5, 5, 7]), np.array([1, 2, 2])).tolist()
    [0, 1, 2]
    """
    first, *others = codes
    begins = np.ones(len(first), bool)
    if len(begins):
        begins[1:] = first[1:] != first[:-1]
        for more in others:
            begins[1:] |= more[1:] != more[:-1]
    return begins.nonzero()[0]


def sizes_of(begins: Codes, end: int) -> Codes:
    """The number of rows of each run; the last run ends at `end`."""
    return np.concatenate([begins[1:], [end]]) - begins


def numbered(sizes: Codes) -> Codes:
    """The number of each row's run, of runs of so many rows.

    >>> numbered(np.array([2, 0, 1])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(sizes)), sizes)


def spread(begins: Codes, sizes: Codes) -> Codes:
    """Consecutive numbers from each beginning on, so many each.

    >>> spread(np.array([10, 5]), np.array([2, 3])).tolist()
    [10, 11, 5, 6, 7]
    """
    before = np.cumsum(sizes) - sizes
    numbers = np.arange(sizes.sum())
    return numbers + np.repeat(begins - before, sizes)


def ascending(codes: Codes) -> bool:
    """True if every code is greater than the code before, so that none occurs twice."""
    steps = codes[1:] > codes[:-1]
    return np.count_nonzero(steps) == len(steps)


def grouped(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Each code with its rows, in order of arrival."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = runs(ordered).tolist()
    for start, end in pairwise([*starts, len(order)]):
        yield int(ordered[start]), order[start:end]


def crowded(codes: Codes, least: int) -> Iterator[tuple[int, Codes]]:
    """Each code of at least `least` rows, with its rows in order of arrival.

    >>> [(code, rows.tolist()) for code, rows in crowded(np.array([7, 5, 7]), 2)]
    [(7, [0, 2])]
    """
    _, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    many = np.flatnonzero(counts[places] >= least)
    for code, rows in grouped(codes[many]):
        yield code, many[rows]


def whole_sums(values: Codes | Mask, sizes: Codes) -> Codes:
    """The sum of each run of so many integers; 0 for an empty run."""
    sums = np.cumsum(values, dtype=np.int64)
    so_far = np.concatenate([[0], sums])
    ends = np.cumsum(sizes)
    return np.asarray(so_far[ends] - so_far[ends - sizes])


def float_sums(values: Column, sizes: Codes) -> Column:
    """The sum of each run of floats, to the last bit as if it stood alone; 0 for an empty run."""
    begins = np.cumsum(sizes) - sizes
    sums = np.zeros(len(sizes))
    for size in np.unique(sizes[sizes > 0]).tolist():
        alike = np.flatnonzero(sizes == size)
        places = begins[alike, None] + np.arange(size)
        sums[alike] = values[places].sum(axis=1)
    return sums

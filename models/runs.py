"""Runs of equal codes in rows."""
from __future__ import annotations

import numpy as np

from schemas.columns import Codes


def runs(*codes: Codes) -> Codes:
    """Where rows begin whose codes are not those of the row before.

    >>> runs(np.array([5, 5, 7]), np.array([1, 2, 2])).tolist()
    [0, 1, 2]
    """
    begins = np.ones(len(codes[0]), bool)
    if len(begins):
        begins[1:] = codes[0][1:] != codes[0][:-1]
        for more in codes[1:]:
            begins[1:] |= more[1:] != more[:-1]
    return begins.nonzero()[0]


def sizes_of(begins: Codes, end: int) -> Codes:
    """How many rows each run has, of which the last ends at `end`."""
    return np.concatenate([begins[1:], [end]]) - begins


def ascending(codes: Codes) -> bool:
    """Whether every code is greater than the one before, so that none occurs twice."""
    return bool((codes[1:] > codes[:-1]).all())

"""Spans of time of which rows were lost, by area: what may have come with them cannot be told to be missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.timelines import NEVER_TIME
from schemas.columns import Codes, Times
from schemas.units import DAY_SECONDS

MOST_SPANS = 8  # spans of a kind that are told apart
Lapses = dict[str, list[tuple[list[int], list[int]]]]
"""By kind of rows, and area slot, since and until when some were lost."""


class Span(NamedTuple):
    """From when to when rows of an area may have been that were lost; NEVER while none has come since."""

    since: int
    until: int


class Holes:
    """The spans of each kind of rows. They are found by area slot; one that is unknown yet lost all from the start."""

    def __init__(self) -> None:
        self.spans: Lapses = {}

    def open(self, kind: str, watermarks: Times) -> None:
        """Note that rows of a kind were lost; `clock` is by area slot how far it has come."""
        known = self.spans.setdefault(kind, [])
        known.append((watermarks.tolist(), [NEVER_TIME] * len(watermarks)))
        if len(known) > MOST_SPANS:
            (first, _), (_, last) = known[:2]
            known[:2] = [
                (_grown(first, len(last), 0), _grown(last, len(first), NEVER_TIME))
            ]

    def close(self, kind: str, areas: Codes, at: Times) -> None:
        """Note the first rows of areas that came since: what was lost is from before, or of the day that follows."""
        if kind not in self.spans:
            return
        slots, first = np.unique(areas, return_index=True)
        size = int(slots.max(initial=-1)) + 1
        for since, until in self.spans[kind]:
            since.extend([0] * (size - len(since)))
            until.extend([NEVER_TIME] * (size - len(until)))
            for slot, row in zip(slots.tolist(), first.tolist(), strict=True):
                if until[slot] == NEVER_TIME:
                    until[slot] = max(int(at[row]), since[slot]) + DAY_SECONDS

    def spans_of(self, kind: str, area: int) -> list[Span]:
        """The spans of an area."""
        return [
            Span(since[area], until[area]) if area < len(since) else Span(0, NEVER_TIME)
            for since, until in self.spans.get(kind, ())
        ]

    def touch(self, kind: str, area: int, start: int, end: int) -> bool:
        """Whether something of an area from one time to another may have been lost."""
        return any(
            since < end and start <= until for since, until in self.spans_of(kind, area)
        )


def _grown(times: list[int], size: int, fresh: int) -> list[int]:
    """Times for so many slots at least."""
    return times + [fresh] * (size - len(times))

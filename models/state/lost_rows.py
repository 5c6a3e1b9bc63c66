"""Spans of time whose rows were lost, by area.

An event of such a span may have been lost, so nothing can say that it is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.columns import Codes, Times
from schemas.units import DAY_SECONDS, NEVER_TIME

MOST_SPANS = 8  # spans of a kind that are kept apart
Lapses = dict[str, list[tuple[list[int], list[int]]]]
"""By kind of rows, spans: by area slot, since and until when rows were lost."""


class Span(NamedTuple):
    """The time of lost rows of an area; until NEVER_TIME while no row has come since."""

    since: int
    until: int


class Holes:
    """The spans of each kind of rows, by area slot; an unknown area lost all from the start."""

    def __init__(self) -> None:
        self.spans: Lapses = {}

    def open(self, kind: str, watermarks: Times) -> None:
        """Notes that rows of a kind were lost; `watermarks` are by area slot."""
        known = self.spans.setdefault(kind, [])
        since = watermarks.tolist()
        until = [NEVER_TIME] * len(since)
        known.append((since, until))

        if len(known) > MOST_SPANS:
            (since, _), (_, until) = known[:2]
            _grow(since, len(until), 0)
            _grow(until, len(since), NEVER_TIME)
            known[:2] = [(since, until)]

    def close(self, kind: str, areas: Codes, at: Times) -> None:
        """Notes the first rows of areas since a loss: lost rows are older, or of the next day."""
        if kind not in self.spans:
            return
        slots, first = np.unique(areas, return_index=True)
        size = int(slots.max(initial=-1)) + 1
        times = at[first].tolist()
        first_times = dict(zip(slots.tolist(), times, strict=True))
        for since, until in self.spans[kind]:
            _grow(since, size, 0)
            _grow(until, size, NEVER_TIME)
            for slot, time in first_times.items():
                if until[slot] == NEVER_TIME:
                    until[slot] = max(time, since[slot]) + DAY_SECONDS

    def spans_of(self, kind: str, area: int) -> list[Span]:
        """The spans of an area."""
        return [
            Span(since[area], until[area]) if area < len(since) else Span(0, NEVER_TIME)
            for since, until in self.spans.get(kind, ())
        ]

    def touch(self, kind: str, area: int, start: int, end: int) -> bool:
        """True if rows of an area from one time to another may have been lost."""
        spans = self.spans_of(kind, area)
        return any(since < end and start <= until for since, until in spans)


def _grow(times: list[int], size: int, fresh: int) -> None:
    """Makes room in times for so many slots."""
    times.extend([fresh] * (size - len(times)))

"""How long stages usually take: counts of durations by section, stage, and day on which they ended."""
from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2, nan
from typing import Any

DAY = 86_400
SHORTEST, FINENESS = 60.0, 8  # seconds; classes to an octave, so that a class is 9 % wide
WINDOW = 180  # days that count
LEAST = 20  # stages that must have ended in them; both defaults of this project

Group = tuple[str, str]  # section and stage


class Durations:
    """Counts of classes of durations by the day on which they ended; they add up in any order."""

    def __init__(self) -> None:
        self.days: dict[Group, dict[int, dict[int, int]]] = {}  # by group and day: how many of which class
        self.known: dict[Group, dict[int, float]] = {}  # quantiles that were asked for, by group and day

    def count(self, group: Group, start: int, done: int, sign: int) -> None:
        """Add a duration, or take it away again."""
        day, size = done // DAY, class_of(done - start)
        classes = self.days.setdefault(group, {}).setdefault(day, {})
        classes[size] = classes.get(size, 0) + sign
        if not classes[size]:
            del classes[size]
        known = self.known.get(group, {})
        for later in [asked for asked in known if asked > day]:
            del known[later]

    def usual(self, group: Group, before: int, share: float = 0.95) -> float:
        """Seconds within which such a share of what ended before a day was done; NaN where too little has ended."""
        known = self.known.setdefault(group, {})
        if before not in known:
            sums: dict[int, int] = {}
            for day, classes in self.days.get(group, {}).items():
                if before - WINDOW <= day < before:
                    for size, count in classes.items():
                        sums[size] = sums.get(size, 0) + count
            known[before] = quantile(sums, share)
        return known[before]

    def forget(self, before: Mapping[str, int]) -> None:
        """Drop the days before one, by section."""
        for group in [group for group in self.days if group[0] in before]:
            kept = {day: classes for day, classes in self.days[group].items() if day >= before[group[0]]}
            self.known.pop(group, None)
            if kept:
                self.days[group] = kept
            else:
                del self.days[group]

    def state(self) -> list[Any]:
        """Everything remembered."""
        return [
            [group, day, list(classes.items())] for group, days in self.days.items() for day, classes in days.items()
        ]

    def load(self, state: list[Any]) -> None:
        """Replace everything by what `state` gave."""
        self.days, self.known = {}, {}
        for (section, stage), day, classes in state:
            self.days.setdefault((section, stage), {})[day] = dict(classes)


def class_of(duration: float) -> int:
    """The class of a duration in seconds; those up to a minute share the first.

    >>> [class_of(seconds) for seconds in (1, 60, 61, 120, 86_400)]
    [0, 0, 1, 8, 84]
    """
    return ceil(FINENESS * log2(max(duration, SHORTEST) / SHORTEST))


def quantile(counts: dict[int, int], share: float) -> float:
    """The upper end of the class in which a share of the counted is reached.

    >>> quantile({0: 10, 8: 10}, 0.5), quantile({0: 10, 8: 10}, 0.95)
    (60.0, 120.0)
    """
    total, reached = sum(counts.values()), 0
    for size in sorted(counts) if total >= LEAST else ():
        reached += counts[size]
        if reached >= share * total:
            return float(SHORTEST * 2 ** (size / FINENESS))
    return nan

"""How long items usually stay in a stage of a section, as far as it was known on some day."""
from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isnan, log2, nan
from typing import Any

from models.state import Schema, State

DAY = 86_400
SHORTEST, FINENESS = 60.0, 8  # seconds; classes to an octave, so that a class is 9 % wide
WINDOW = 180  # days whose stays count
LEAST = 20  # stays that must have ended
OLD, NEARLY = 90, 0.99  # days after which what has not ended is likely not to, and the share of what ended that counts

Group = tuple[str, str]  # section and stage
Counts = dict[int, int]
Stays = tuple[tuple[int, int], int]  # first day and class, and how many


class Durations:
    """Counts of stays by the days on which they began and ended, and by classes; they add up in any order."""

    def __init__(self) -> None:
        self.begun: dict[Group, Counts] = {}  # by group and day
        self.ended: dict[Group, dict[int, dict[tuple[int, int], int]]] = {}  # by group and day: by first day and class
        self.known: dict[Group, dict[tuple[int, float], float]] = {}  # quantiles that were asked for, by day and share

    def count(self, group: Group, start: int, done: int | None, sign: int, waited: int = 0) -> None:
        """Add a stay that lasts until `done`, None while it does, or take it away again.

        The seconds for which it was paused do not count.
        """
        first = start // DAY
        add(self.begun.setdefault(group, {}), first, sign)
        if done is not None:
            stays = self.ended.setdefault(group, {}).setdefault(done // DAY, {})
            add(stays, (first, class_of(done - start - waited)), sign)
        known = self.known.get(group, {})
        for later in [asked for asked in known if asked[0] > first]:
            del known[later]

    def usual(self, group: Group, before: int, share: float = 0.95) -> float:
        """Seconds within which such a share of what began before a day was done; NaN where it is not known.

        What still lasted then counts as longer than it had lasted (Kaplan-Meier), else only short stays would be usual
        at first. Where many never end, as in a stage that may be the last, it is the time in which NEARLY all were done
        that ended of what is OLD. All of this is by default of this project.
        """
        known = self.known.setdefault(group, {})
        if (before, share) not in known:
            lasting = {day: n for day, n in self.begun.get(group, {}).items() if before - WINDOW <= day < before}
            ended: Counts = {}
            of_old: Counts = {}
            for day, stays in self.ended.get(group, {}).items():
                for (first, size), n in stays.items() if day < before else ():
                    if first in lasting:
                        lasting[first] -= n
                        add(ended, size, n)
                        add(of_old, size, n * (first < before - OLD))
            longer: Counts = {}
            for first, n in lasting.items():
                add(longer, class_of((before - first) * DAY), n)
            of_all = quantile(ended, longer, share)
            known[before, share] = quantile(of_old, {}, NEARLY) if isnan(of_all) else of_all
        return known[before, share]

    def forget(self, before: Mapping[str, int]) -> None:
        """Drop the days before one, by section."""
        for days in (self.begun, self.ended):
            for group in [group for group in days if group[0] in before]:
                for day in [day for day in days[group] if day < before[group[0]]]:
                    del days[group][day]
                if not days[group]:
                    del days[group]
                self.known.pop(group, None)

    def schema(self) -> Schema:
        """Stays by group and day."""
        begun, ended = list[tuple[Group, list[tuple[int, int]]]], list[tuple[Group, int, list[Stays]]]
        return {"stays_begun": begun, "stays_ended": ended}

    def state(self) -> State:
        """Everything remembered."""
        ended = [(group, day, list(stays.items())) for group, days in self.ended.items() for day, stays in days.items()]
        begun = [(group, list(days.items())) for group, days in self.begun.items()]
        return {"stays_begun": begun, "stays_ended": ended}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave."""
        self.begun = {group: dict(days) for group, days in state.get("stays_begun", ())}
        self.ended, self.known = {}, {}
        for group, day, stays in state.get("stays_ended", ()):
            self.ended.setdefault(group, {})[day] = dict(stays)


def add(counts: dict[Any, int], key: Any, sign: int) -> None:
    """Count one more or less; what comes to nothing is not kept."""
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


def class_of(duration: float) -> int:
    """The class of a duration in seconds; those up to a minute share the first.

    >>> [class_of(seconds) for seconds in (1, 60, 61, 120, 86_400)]
    [0, 0, 1, 8, 84]
    """
    return ceil(FINENESS * log2(max(duration, SHORTEST) / SHORTEST))


def quantile(ended: Counts, longer: Counts, share: float) -> float:
    """The upper end of the class in which a share was done, from classes of what ended, and of what lasted longer.

    >>> quantile({0: 10, 8: 10}, {}, 0.5), quantile({0: 10, 8: 10}, {}, 0.95), quantile({0: 20}, {4: 20}, 0.95)
    (60.0, 120.0, nan)
    """
    lasting, left = 1.0, sum(ended.values()) + sum(longer.values())
    for size in sorted({*ended, *longer}) if sum(ended.values()) >= LEAST else ():
        lasting *= 1 - ended.get(size, 0) / left
        if lasting <= 1 - share + 1e-9:
            return float(SHORTEST * 2 ** (size / FINENESS))
        left -= ended.get(size, 0) + longer.get(size, 0)
    return nan

"""The usual stay of items in a stage of a section, as it was known on a day."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isnan, log2, nan
from typing import Any

from models.state.owners import Schema, State
from schemas.units import DAY_SECONDS

SHORTEST_SECONDS = 60.0  # up to here all durations share the first class
CLASSES_PER_OCTAVE = 8  # so that a class is 9 % wide
WINDOW_DAYS = 180  # days whose stays count
LEAST_STAYS = 20  # stays that must have ended
OLD_DAYS = 90  # days after which a stay that has not ended is likely never to end
NEARLY_ALL_SHARE = 0.99  # of the old stays that ended

Group = tuple[str, str]  # section and stage
Counts = dict[int, int]
StayClass = tuple[int, int]  # first day, and class of the duration
StayCount = tuple[StayClass, int]


class Durations:
    """Counts of stays by the days on which they began and ended, and by classes.

    They add up in any order.
    """

    def __init__(self) -> None:
        # by day, and by day and class
        self._begun: dict[Group, Counts] = {}
        self._ended: dict[Group, dict[int, dict[StayClass, int]]] = {}
        # quantiles that were asked for, by day and share
        self._known_quantiles: dict[Group, dict[tuple[int, float], float]] = {}

    def count(
        self, group: Group, start: int, done: int | None, sign: int, waited: int = 0
    ) -> None:
        """Adds (sign 1) or removes (sign -1) a stay that ends at `done`, None while it lasts.

        The seconds for which it was paused, `waited`, do not count.
        """
        first = start // DAY_SECONDS
        _add(self._begun.setdefault(group, {}), first, sign)
        if done is not None:
            days = self._ended.setdefault(group, {})
            stays = days.setdefault(done // DAY_SECONDS, {})
            _add(stays, (first, _class_of(done - start - waited)), sign)

        known = self._known_quantiles.get(group, {})
        for later in [asked for asked in known if asked[0] > first]:
            del known[later]

    def usual(self, group: Group, before: int, share: float = 0.95) -> float:
        """Seconds within which a share of the stays that began before a day was done.

        NaN where it is not known.

        A stay that still lasted then counts as longer than it had lasted (Kaplan-Meier); otherwise
        only short stays would be usual at first. Where many stays never end, as in a stage that may
        be the last, it is the time in which NEARLY_ALL_SHARE of the ended stays older than OLD_DAYS
        were done. All of this is by default of this project.
        """
        known = self._known_quantiles.setdefault(group, {})
        if (before, share) not in known:
            known[before, share] = self._quantile_before(group, before, share)
        return known[before, share]

    def _quantile_before(self, group: Group, before: int, share: float) -> float:
        """The same, computed."""
        lasting = {
            day: count
            for day, count in self._begun.get(group, {}).items()
            if before - WINDOW_DAYS <= day < before
        }
        ended: Counts = {}
        ended_old: Counts = {}
        for day, stays in self._ended.get(group, {}).items():
            if day >= before:
                continue
            for (first, size), count in stays.items():
                if first not in lasting:
                    continue
                lasting[first] -= count
                _add(ended, size, count)
                if first < before - OLD_DAYS:
                    _add(ended_old, size, count)

        longer: Counts = {}
        for first, count in lasting.items():
            lasted = (before - first) * DAY_SECONDS
            _add(longer, _class_of(lasted), count)
        quantile = _quantile(ended, longer, share)
        if isnan(quantile):
            return _quantile(ended_old, {}, NEARLY_ALL_SHARE)
        return quantile

    def forget(self, before: Mapping[str, int]) -> None:
        """Drops the days before a first day, by section."""
        for days_by_group in (self._begun, self._ended):
            for group in [group for group in days_by_group if group[0] in before]:
                days = days_by_group[group]
                for day in [day for day in days if day < before[group[0]]]:
                    del days[day]
                if not days:
                    del days_by_group[group]
                self._known_quantiles.pop(group, None)

    def schema(self) -> Schema:
        """Stays by group and day."""
        return {
            "stays_begun": list[tuple[Group, list[tuple[int, int]]]],
            "stays_ended": list[tuple[Group, int, list[StayCount]]],
        }

    def state(self) -> State:
        """Everything remembered."""
        ended = [
            (group, day, list(stays.items()))
            for group, days in self._ended.items()
            for day, stays in days.items()
        ]
        begun = [(group, list(days.items())) for group, days in self._begun.items()]
        return {"stays_begun": begun, "stays_ended": ended}

    def load(self, state: State) -> None:
        """Replaces everything by a state."""
        self._begun = {
            group: dict(days) for group, days in state.get("stays_begun", ())
        }
        self._ended = {}
        self._known_quantiles = {}
        for group, day, stays in state.get("stays_ended", ()):
            self._ended.setdefault(group, {})[day] = dict(stays)


def _add(counts: dict[Any, int], key: Any, sign: int) -> None:
    """Adds to a count; a count of 0 is not kept."""
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


def _class_of(duration: float) -> int:
    """The class of a duration in seconds; durations up to a minute share the first.

    >>> [_class_of(seconds) for seconds in (1, 60, 61, 120, 86_400)]
    [0, 0, 1, 8, 84]
    """
    octaves = log2(max(duration, SHORTEST_SECONDS) / SHORTEST_SECONDS)
    return ceil(CLASSES_PER_OCTAVE * octaves)


def _quantile(ended: Counts, longer: Counts, share: float) -> float:
    """The upper end of the class in which a share was done, by ended and longer stays.

    >>> _quantile({0: 10, 8: 10}, {}, 0.5), _quantile({0: 10, 8: 10}, {}, 0.95), _quantile({0: 20}, {4: 20}, 0.95)
    (60.0, 120.0, nan)
    """
    if sum(ended.values()) < LEAST_STAYS:
        return nan
    lasting = 1.0
    left = sum(ended.values()) + sum(longer.values())
    for size in sorted({*ended, *longer}):
        done = ended.get(size, 0)
        lasting *= 1 - done / left
        if lasting <= 1 - share + 1e-9:
            octaves = size / CLASSES_PER_OCTAVE
            return float(SHORTEST_SECONDS * 2**octaves)
        left -= done + longer.get(size, 0)
    return nan

"""How long items usually stay in a stage of a section, as far as it was known on some day."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isnan, log2, nan
from typing import Any

from models.state import Schema, State
from schemas.units import DAY_SECONDS

SHORTEST_SECONDS, CLASSES_PER_OCTAVE = (
    60.0,
    8,
)  # seconds; classes to an octave, so that a class is 9 % wide
WINDOW_DAYS = 180  # days whose stays count
LEAST_STAYS = 20  # stays that must have ended
OLD_DAYS, NEARLY_ALL_SHARE = (
    90,
    0.99,
)  # days after which what has not ended is likely not to, and the share of what ended that counts

Group = tuple[str, str]  # section and stage
Counts = dict[int, int]
StayCount = tuple[tuple[int, int], int]  # first day and class, and how many


class Durations:
    """Counts of stays by the days on which they began and ended, and by classes; they add up in any order."""

    def __init__(self) -> None:
        self._begun: dict[Group, Counts] = {}  # by group and day
        self._ended: dict[
            Group, dict[int, dict[tuple[int, int], int]]
        ] = {}  # by group and day: by first day and class
        self._known_quantiles: dict[
            Group, dict[tuple[int, float], float]
        ] = {}  # quantiles that were asked for, by day and share

    def count(
        self, group: Group, start: int, done: int | None, sign: int, waited: int = 0
    ) -> None:
        """Add a stay that lasts until `done`, None while it does, or take it away again.

        The seconds for which it was paused do not count.
        """
        first = start // DAY_SECONDS
        _add(self._begun.setdefault(group, {}), first, sign)
        if done is not None:
            stays = self._ended.setdefault(group, {}).setdefault(
                done // DAY_SECONDS, {}
            )
            _add(stays, (first, _class_of(done - start - waited)), sign)
        known = self._known_quantiles.get(group, {})
        for later in [asked for asked in known if asked[0] > first]:
            del known[later]

    def usual(self, group: Group, before: int, share: float = 0.95) -> float:
        """Seconds within which such a share of what began before a day was done; NaN where it is not known.

        What still lasted then counts as longer than it had lasted (Kaplan-Meier), else only short stays would be usual
        at first. Where many never end, as in a stage that may be the last, it is the time in which NEARLY_ALL_SHARE all were done
        that ended of what is OLD_DAYS. All of this is by default of this project.
        """
        known = self._known_quantiles.setdefault(group, {})
        if (before, share) not in known:
            lasting = {
                day: n
                for day, n in self._begun.get(group, {}).items()
                if before - WINDOW_DAYS <= day < before
            }
            ended: Counts = {}
            of_old: Counts = {}
            for day, stays in self._ended.get(group, {}).items():
                for (first, size), n in stays.items() if day < before else ():
                    if first in lasting:
                        lasting[first] -= n
                        _add(ended, size, n)
                        _add(of_old, size, n * (first < before - OLD_DAYS))
            longer: Counts = {}
            for first, n in lasting.items():
                _add(longer, _class_of((before - first) * DAY_SECONDS), n)
            of_all = _quantile(ended, longer, share)
            known[before, share] = (
                _quantile(of_old, {}, NEARLY_ALL_SHARE) if isnan(of_all) else of_all
            )
        return known[before, share]

    def forget(self, before: Mapping[str, int]) -> None:
        """Drop the days before one, by section."""
        for days in (self._begun, self._ended):
            for group in [group for group in days if group[0] in before]:
                for day in [day for day in days[group] if day < before[group[0]]]:
                    del days[group][day]
                if not days[group]:
                    del days[group]
                self._known_quantiles.pop(group, None)

    def schema(self) -> Schema:
        """Stays by group and day."""
        begun, ended = (
            list[tuple[Group, list[tuple[int, int]]]],
            list[tuple[Group, int, list[StayCount]]],
        )
        return {"stays_begun": begun, "stays_ended": ended}

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
        """Replace everything by what `state` gave."""
        self._begun = {
            group: dict(days) for group, days in state.get("stays_begun", ())
        }
        self._ended, self._known_quantiles = {}, {}
        for group, day, stays in state.get("stays_ended", ()):
            self._ended.setdefault(group, {})[day] = dict(stays)


def _add(counts: dict[Any, int], key: Any, sign: int) -> None:
    """Count one more or less; what comes to nothing is not kept."""
    counts[key] = counts.get(key, 0) + sign
    if not counts[key]:
        del counts[key]


def _class_of(duration: float) -> int:
    """The class of a duration in seconds; those up to a minute share the first.

    >>> [_class_of(seconds) for seconds in (1, 60, 61, 120, 86_400)]
    [0, 0, 1, 8, 84]
    """
    return ceil(
        CLASSES_PER_OCTAVE * log2(max(duration, SHORTEST_SECONDS) / SHORTEST_SECONDS)
    )


def _quantile(ended: Counts, longer: Counts, share: float) -> float:
    """The upper end of the class in which a share was done, from classes of what ended, and of what lasted longer.

    >>> _quantile({0: 10, 8: 10}, {}, 0.5), _quantile({0: 10, 8: 10}, {}, 0.95), _quantile({0: 20}, {4: 20}, 0.95)
    (60.0, 120.0, nan)
    """
    lasting, left = 1.0, sum(ended.values()) + sum(longer.values())
    for size in sorted({*ended, *longer}) if sum(ended.values()) >= LEAST_STAYS else ():
        lasting *= 1 - ended.get(size, 0) / left
        if lasting <= 1 - share + 1e-9:
            return float(SHORTEST_SECONDS * 2 ** (size / CLASSES_PER_OCTAVE))
        left -= ended.get(size, 0) + longer.get(size, 0)
    return nan

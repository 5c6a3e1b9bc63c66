"""How likely an item lasts until its limit has passed, by a logistic model in plain loops."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import NamedTuple
from zlib import crc32

from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER

Weight = tuple[int, int]  # a quarter of the limit, and a hash


class PartFacts(NamedTuple):
    """A quarter of a stay's limit, and what is known when it begins."""

    item: tuple[str, str]  # a work item and its stage
    start: int
    n: int  # 0 to 2, without the first quarter
    begin: int
    end: float
    done: float
    before: tuple[float, str]  # when it entered the stage before, and which
    deadline: datetime  # local

    @property
    def known(self) -> float:
        """When it was known whether the item lasted."""
        return min(self.end, self.done)

    def names(self) -> list[str]:
        """What has a weight."""
        stage = self.item[1]
        entered, previous = self.before
        seconds = self.start - entered
        if seconds >= 180 * DAY_SECONDS:
            previous, seconds = "", 0
        digits = len(f"{int(seconds // 60):b}") if seconds >= 60 else 0

        weekday, hour = self.deadline.weekday(), self.deadline.hour
        return [
            stage,
            f"{stage}\tfrom {previous}",
            f"{stage}\tafter {digits}",
            f"{stage}\tday {weekday}",
            f"{stage}\thour {hour}",
            f"{stage}\ttime {weekday} {hour // 3}",
        ]

    def weights(self, n: int) -> list[Weight]:
        """The weights that it has in a quarter."""
        return [(n, crc32(name.encode()) % 2048) for name in self.names()]


class PlainLateness:
    """The model of a section, learned from all that its stays came to."""

    def __init__(self, parts: list[PartFacts]) -> None:
        self.parts = parts

    def chance(self, part: PartFacts) -> float:
        """The chance that an item lasts until its limit, as known three days before the quarter."""
        last_day = (part.begin - 3 * DAY_SECONDS) // DAY_SECONDS
        learned = [
            other for other in self.parts if other.known < last_day * DAY_SECONDS
        ]
        stage = part.item[1]
        if sum(other.n == 0 and other.item[1] == stage for other in learned) < 50:
            return NOT_A_NUMBER

        weights = learned_weights(learned)
        chance = 1.0
        for n in range(part.n, 3):
            total = sum(weights[weight] for weight in part.weights(n))
            chance *= 1 / (1 + math.exp(-total))
        return chance


def learned_weights(parts: list[PartFacts]) -> dict[Weight, float]:
    """The weights after one step for every day on which something was known."""
    weights: dict[Weight, float] = defaultdict(float)
    curvature: dict[Weight, float] = defaultdict(float)
    by_day: dict[int, list[PartFacts]] = defaultdict(list)
    for part in parts:
        by_day[int(part.known) // DAY_SECONDS].append(part)

    for day in sorted(by_day):
        slope: dict[Weight, float] = defaultdict(float)
        bend: dict[Weight, float] = defaultdict(float)
        for part in by_day[day]:
            own = part.weights(part.n)
            expected = 1 / (1 + math.exp(-math.fsum(weights[weight] for weight in own)))
            for weight in own:
                slope[weight] += expected - (part.end < part.done)
                bend[weight] += expected * (1 - expected)

        for weight in curvature:
            curvature[weight] *= 0.999
        for weight, total in slope.items():
            curvature[weight] += bend[weight]
            weights[weight] -= 0.3 * total / (curvature[weight] + 1)
    return weights

"""How likely an item lasts until its limit has passed, by a logistic model in plain loops."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import NamedTuple
from zlib import crc32

from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.drift import RisingMean

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
        self.models: dict[float, PlainModel] = {}  # by the day before which

    def chance(self, part: PartFacts) -> float:
        """The chance that an item lasts until its limit, as known three days before the quarter."""
        last_day = (part.begin - 3 * DAY_SECONDS) // DAY_SECONDS
        if last_day not in self.models:
            before = [
                other for other in self.parts if other.known < last_day * DAY_SECONDS
            ]
            self.models[last_day] = learned_model(before)

        model = self.models[last_day]
        if not model.knows(part):
            return NOT_A_NUMBER
        chance = 1.0
        for n in range(part.n, 3):
            chance *= model.chance(part, n)
        return chance


class PlainModel:
    """Weights that have learned nothing yet."""

    def __init__(self) -> None:
        self.weights: dict[Weight, float] = defaultdict(float)
        self.curvature: dict[Weight, float] = defaultdict(float)
        self.stays: dict[str, int] = defaultdict(int)
        # by quarter: outcomes less their chances since the last error, and whether chances are too low or too high
        self.off: list[list[float]] = [[], [], []]
        self.too_low = [RisingMean(tolerance=0.1, most=0.5, limit=2) for _ in range(3)]
        self.too_high = [RisingMean(tolerance=0.1, most=0.5, limit=2) for _ in range(3)]

    def knows(self, part: PartFacts) -> bool:
        """True if fifty stays of its stage were learned."""
        return self.stays[part.item[1]] >= 50

    def chance(self, part: PartFacts, n: int) -> float:
        """The chance that an item lasts through a quarter."""
        total = math.fsum(self.weights[weight] for weight in part.weights(n))
        return 1 / (1 + math.exp(-total))

    def drifts(self, parts: list[PartFacts]) -> bool:
        """Take what a day's parts came to; true if the chances are off for good."""
        for part in parts:
            if self.knows(part):
                lasted = part.end < part.done
                self.off[part.n].append(lasted - self.chance(part, part.n))

        drifted = False
        for n, off in enumerate(self.off):
            if len(off) >= 10:
                mean = math.fsum(off) / len(off)
                drifted |= self.too_low[n].rises(mean)
                drifted |= self.too_high[n].rises(-mean)
                self.off[n] = []
        return drifted

    def learn(self, parts: list[PartFacts]) -> None:
        """Make one step by what a day's parts came to."""
        slope: dict[Weight, float] = defaultdict(float)
        bend: dict[Weight, float] = defaultdict(float)
        for part in parts:
            expected = self.chance(part, part.n)
            for weight in part.weights(part.n):
                slope[weight] += expected - (part.end < part.done)
                bend[weight] += expected * (1 - expected)
            self.stays[part.item[1]] += part.n == 0

        for weight in self.curvature:
            self.curvature[weight] *= 0.999
        for weight, total in slope.items():
            self.curvature[weight] += bend[weight]
            self.weights[weight] -= 0.3 * total / (self.curvature[weight] + 1)


def learned_model(parts: list[PartFacts]) -> PlainModel:
    """The model after one step for every day on which something was known; after a drift a new one."""
    by_day: dict[int, list[PartFacts]] = defaultdict(list)
    for part in parts:
        by_day[int(part.known) // DAY_SECONDS].append(part)

    model = PlainModel()
    for day in sorted(by_day):
        if model.drifts(by_day[day]):
            model = PlainModel()
        model.learn(by_day[day])
    return model

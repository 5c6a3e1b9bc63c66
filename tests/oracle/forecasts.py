"""The load of a transformer on the next two days, from the days before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.units import DAY_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.drift import RisingMean
from tests.oracle.profiles import kind_of
from tests.oracle.watch import Facts

HALF_LIVES = (2, 5, 15, 60)
DAY_HOURS = range(24)
ERROR_RATE = 1 - 2 ** (-1 / 14)
Hours = list[float]


def forecasted(days: Iterable[Facts], zone: str) -> Iterator[Facts]:
    """An area's days with the highest load of the next two, and the error of such a forecast."""
    forecaster = Forecaster(zone)
    for day in days:
        facts = {"peak": NOT_A_NUMBER, "peak_error": NOT_A_NUMBER}
        known = [kva for kva in day["hourly"] if not math.isnan(kva)]
        if len(known) >= 20:
            forecaster.see(day["at"], day["hourly"], day["temperature"])
            if forecaster.known_days >= 21:
                facts = forecaster.peak()
        yield day | facts


class Forecaster:
    """What is remembered of an area's load."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.at = 0
        self.restart()

    def restart(self) -> None:
        """Forget all."""
        self.known_days = 0
        self.load: Hours = []

        self.profiles: list[Hours] = []
        self.kinds: dict[str, Hours] = {}
        self.kind_days: dict[str, int] = {}
        self.air = self.usual_air = NOT_A_NUMBER

        self.squares: list[Hours] = []
        self.products: Hours = []
        self.expected: Hours = []  # of the next day
        self.sizes: Hours = []  # of errors, by hour
        self.judged_days = 0
        self.peaks: Hours = []  # of two days each, the latest forecast last
        self.bias = self.variance = 0.0
        self.peak_days = 0
        self.watched = RisingMean(tolerance=0.15, most=1, limit=4)

    def see(self, at: int, hourly: Hours, temperature: float) -> None:
        """Take a day of which most hours are known."""
        passed = round((at - self.at) / DAY_SECONDS)
        errors = [NOT_A_NUMBER] * 24
        if passed == 1 and self.expected:
            errors = [hourly[hour] - self.expected[hour] for hour in DAY_HOURS]
        else:
            self.expected, self.peaks = [], []
        if self.judge(errors) or (self.at and passed > 30):
            self.restart()
            errors = [NOT_A_NUMBER] * 24
        self.judge_peak(hourly)
        if self.known_days >= 7 and self.expected:
            self.learn(hourly, errors, self.kind(at))

        self.remember(at, hourly, temperature)
        self.at = at
        self.expect(at)

    def judge(self, errors: Hours) -> bool:
        """Take the errors of a day; true if they have drifted."""
        known = [abs(error) for error in errors if not math.isnan(error)]
        if not known:
            return False
        rate = max(1 / (self.judged_days + 1), ERROR_RATE)
        for hour in DAY_HOURS:
            if not math.isnan(errors[hour]):
                self.sizes[hour] += rate * (abs(errors[hour]) - self.sizes[hour])
        self.judged_days += 1
        if self.judged_days <= 3:
            return False

        share = max(sum(known) / len(known) / self.level(), 0.02)
        return self.watched.rises(math.log(share))

    def judge_peak(self, hourly: Hours) -> None:
        """Take the highest hour of the last two days, if it was forecast before them."""
        if len(self.peaks) < 2:
            return
        highest = max(kva for kva in [*hourly, *self.load] if not math.isnan(kva))
        rate = max(1 / (self.peak_days + 1), ERROR_RATE)
        step = highest - self.peaks[-2] - self.bias
        self.variance = (1 - rate) * (self.variance + rate * step * step)
        self.bias += rate * step
        self.peak_days += 1

    def learn(self, hourly: Hours, errors: Hours, kind: str) -> None:
        """Add a day to what the weights are learned from; a far-off hour counts by its size."""
        kept = 2 ** (-1 / 60)
        usual = sum(self.sizes) / 24
        terms = self.terms(kind, self.kind(self.at))
        count = len(terms)
        squares = self.squares or empty_matrix(count)
        products = self.products or [0.0] * count
        self.squares = [faded_by(kept, row) for row in squares]
        self.products = faded_by(kept, products)

        for hour in DAY_HOURS:
            if math.isnan(errors[hour]):
                continue
            weight = 1 / max(abs(errors[hour]) / usual, 1) if usual else 1.0
            for i in range(count):
                self.products[i] += weight * terms[i][hour] * hourly[hour]
                for j in range(count):
                    self.squares[i][j] += weight * terms[i][hour] * terms[j][hour]

    def remember(self, at: int, hourly: Hours, temperature: float) -> None:
        """Take the day into the profiles, its kind's difference and the usual air."""
        known = [kva for kva in hourly if not math.isnan(kva)]
        likely = [sum(known) / len(known)] * 24
        if self.known_days:
            likely = self.expected or self.profiles[0]
        load = [
            likely[hour] if math.isnan(hourly[hour]) else hourly[hour]
            for hour in DAY_HOURS
        ]
        self.profiles = self.moved(load)
        self.load = load
        self.known_days += 1

        kind = self.kind(at)
        rate = max(1 / (self.kind_days.get(kind, 0) + 3), 0.05)
        before = self.kinds.get(kind, [0.0] * 24)
        self.kinds[kind] = [
            before[hour] + rate * (load[hour] - self.profiles[-1][hour] - before[hour])
            for hour in DAY_HOURS
        ]
        self.kind_days[kind] = self.kind_days.get(kind, 0) + 1

        if math.isnan(self.usual_air):
            self.usual_air = temperature
        self.air = temperature - self.usual_air
        if not math.isnan(self.air):
            self.usual_air += (1 - 2 ** (-1 / 5)) * self.air

    def moved(self, load: Hours) -> list[Hours]:
        """The profiles after one more day."""
        if not self.known_days:
            return [list(load) for _ in HALF_LIVES]
        rates = [
            max(1 / (self.known_days + 1), 1 - 2 ** (-1 / half_life))
            for half_life in HALF_LIVES
        ]
        return [
            faded(profile, load, rate)
            for profile, rate in zip(self.profiles, rates, strict=True)
        ]

    def level(self) -> float:
        """The usual load."""
        return sum(self.profiles[-1]) / 24

    def kind(self, at: int, later: int = 0) -> str:
        """Whether the day that ends, or one some days later, is a working day, of a weekend or a holiday."""
        ends = datetime.fromtimestamp(at - 1, ZoneInfo(self.zone))
        kind = kind_of(ends.date() + timedelta(later), self.zone)
        if kind in {"holiday", "festival"}:
            return "holiday"
        return "weekend" if kind in {"5", "6"} else "workday"

    def terms(self, kind: str, last_kind: str) -> list[Hours]:
        """The terms of each hour of a day of a kind after the last one."""
        none = [0.0] * 24
        weekend = self.kinds.get("weekend", none)
        ahead, now = self.kinds.get(kind, weekend), self.kinds.get(last_kind, weekend)
        off = [self.load[hour] - self.profiles[1][hour] for hour in DAY_HOURS]
        late = [math.exp(-(23 - hour) / 2) for hour in DAY_HOURS]
        at_midnight = sum(off[hour] * late[hour] for hour in DAY_HOURS) / sum(late)
        warmer = 0.0 if math.isnan(self.air) else self.air / 10 * self.level()

        terms = [
            self.load,
            *self.profiles,
            [ahead[hour] - now[hour] for hour in DAY_HOURS],
        ]
        for span in (3, 12):
            carried = [at_midnight * math.exp(-hour / span) for hour in DAY_HOURS]
            terms.append(carried)
        terms.append([warmer] * 24)
        terms += [[sum(off[k : k + 6]) / 6] * 24 for k in range(0, 24, 6)]
        return terms

    def expect(self, at: int) -> None:
        """The load of the next two days."""
        tomorrow = self.kind(at, 1)
        weights = self.weights(len(self.terms(tomorrow, self.kind(at))))
        first = combined(weights, self.terms(tomorrow, self.kind(at)))

        # The second day, as if the first had been as expected.
        kept = self.load, self.profiles, self.air
        self.profiles, self.load, self.air = self.moved(first), first, NOT_A_NUMBER
        after = self.kind(at, 2)
        second = combined(weights, self.terms(after, tomorrow))
        self.load, self.profiles, self.air = kept
        self.expected = first
        self.sizes = self.sizes or [0.0] * 24
        self.peaks.append(max([*first, *second]))

    def weights(self, count: int) -> Hours:
        """The weights of the terms by a ridge regression."""
        usual = [0.0, *[1 / 4] * 4, 0.5, *[0.0] * (count - 6)]
        ridge = max(0.03 * 24 * self.level() ** 2, 1e-9)
        squares = self.squares or empty_matrix(count)
        products = self.products or [0.0] * count
        matrix = [[*squares[i], products[i] + ridge * usual[i]] for i in range(count)]
        for i in range(count):
            matrix[i][i] += ridge
        return solved(matrix)

    def peak(self) -> Facts:
        """The highest load of the next two days, and its standard error."""
        error = max(math.sqrt(self.variance), 0.02 * self.level())
        return {"peak": self.peaks[-1] + self.bias, "peak_error": error}


def faded(profile: Hours, load: Hours, rate: float) -> Hours:
    """A profile after one more day."""
    return [profile[hour] + rate * (load[hour] - profile[hour]) for hour in DAY_HOURS]


def faded_by(kept: float, values: Hours) -> Hours:
    """Numbers of which a share is kept."""
    return [kept * value for value in values]


def empty_matrix(count: int) -> list[Hours]:
    """So many rows and columns of zeros."""
    return [[0.0] * count for _ in range(count)]


def combined(weights: Hours, terms: list[Hours]) -> Hours:
    """The weighted sum of the terms of each hour; no load is below zero."""
    return [
        max(
            sum(
                weight * term[hour] for weight, term in zip(weights, terms, strict=True)
            ),
            0.0,
        )
        for hour in DAY_HOURS
    ]


def solved(matrix: list[Hours]) -> Hours:
    """The solution of linear equations, each a row with its right side last."""
    count = len(matrix)
    for i in range(count):
        pivot = max(range(i, count), key=lambda row: abs(matrix[row][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        for row in range(i + 1, count):
            factor = matrix[row][i] / matrix[i][i]
            for k in range(i, count + 1):
                matrix[row][k] -= factor * matrix[i][k]

    values = [0.0] * count
    for i in reversed(range(count)):
        rest = sum(matrix[i][k] * values[k] for k in range(i + 1, count))
        values[i] = (matrix[i][count] - rest) / matrix[i][i]
    return values

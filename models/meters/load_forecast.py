"""The load of a transformer on the next two days, hour by hour, with what it may be off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from models.drift import PageHinkley
from models.feature import Feature
from models.master.calendar import HOLIDAY_KIND, day_kinds, day_of
from models.meters.fading import kept_share
from models.state.cells import Array, Cells
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_HOURS

AHEAD_DAYS = 2
HALF_LIVES = (2.0, 5.0, 15.0, 60.0)  # days, of the profiles
LATE_HOURS = 2.0  # before midnight, over which what the load was off fades
CARRY_HOURS = (3.0, 12.0)  # after midnight, the same
DAY_PARTS = 4
ON_WORKDAY, ON_WEEKEND, ON_HOLIDAY = range(3)
FIRST_DAY_OFF = 5
# terms of the forecast of an hour: the last day, the profiles, the kind of day, the air, what midnight was
# off, and what each part of the last day was off
TERM_COUNT = 1 + len(HALF_LIVES) + 2 + len(CARRY_HOURS) + DAY_PARTS
INTERVAL_TAIL = 0.05  # beyond the interval on each side
INTERVAL_DEVIATIONS = 1.645  # that 90 % lie within, of a normal error


class LoadForecastColumns(NamedTuple):
    """Given by LoadForecast; NaN until three weeks are known, and after a drift until three more are."""

    # kVA of each hour of the next two days, (48, rows): the forecast, and what 90 % lie between
    expected_kva: Column
    lowest_kva: Column
    highest_kva: Column
    # kVA: the highest hour of the next two days, what 90 % lie between, its standard deviation
    peak_kva: Column
    peak_low: Column
    peak_high: Column
    peak_error: Column
    peak_hours: Column  # h from the midnight to the end of that hour
    drifts: Column  # how often the error has drifted


@dataclass
class _Learned:
    """The cells of LoadForecast, areas first."""

    known_days: Array
    day: Array
    load: Array
    profiles: Array
    kinds: Array
    kind_days: Array
    air: Array
    usual_air: Array
    squares: Array
    products: Array
    expected: Array
    errors: Array
    tails: Array
    error_days: Array
    peaks: Array
    peak_bias: Array
    peak_variance: Array
    peak_days: Array
    drift: Array
    drifts: Array


class LoadForecast(Feature):
    """An area's load on the next two days, learned online from its own days.

    The load of an hour is a weighted sum of what the same hour was on the last day, in profiles that fade, and by the
    kind of day, and of how much warmer and otherwise the last day was than usual. The weights are those of a ridge
    regression that fades; a far-off hour counts by its size, not by its square. The second day follows from the first.
    """

    LEARNED_DAYS = 21
    LEAST_HOURS = 20  # of a day, that must be known
    FADING_DAYS = 60.0  # half-life of what the weights are learned from
    RIDGE = 0.03  # days of a usual load that stand for the weights before any day
    FIRST_DAYS = 7  # that make the profiles before the weights are learned
    KIND_WEIGHT = 0.5  # of a kind's difference, before any day
    KIND_RATE = 0.05  # of a day, at least, to its kind's difference
    ERROR_DAYS = 14.0  # half-life of errors
    TAIL_RATE = 0.3  # of a day, to the tails of the interval
    AIR_DAYS = 5.0  # half-life of the usual temperature
    FEW_DAYS = 3  # after which errors say how wide an interval is
    LEAST_ERROR = 0.02  # of the usual load, that any hour may be off
    FORGOTTEN_DAYS = 30  # without a known day, after which all is learned anew
    # of the logarithm of a day's mean error
    DRIFT = PageHinkley(tolerance=0.15, most=1.0, limit=4.0)

    relearns = LEARNED_DAYS
    model = "load_forecast"

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._keep = kept_share(self.FADING_DAYS)
        self._error_rate = 1 - kept_share(self.ERROR_DAYS)
        self._profile_rates = 1 - np.array([kept_share(days) for days in HALF_LIVES])
        hours = np.arange(DAY_HOURS)
        self._carry = np.exp(-hours / np.array(CARRY_HOURS)[:, None])
        late = np.exp(-hours / LATE_HOURS)[::-1]
        self._late = late / late.sum()
        self.cells = Cells(
            known_days=np.int64(0),
            day=np.int64(0),  # the last known, an index into midnights
            load=np.zeros(DAY_HOURS, np.float32),
            profiles=np.zeros((len(HALF_LIVES), DAY_HOURS), np.float32),
            # above the slowest profile
            kinds=np.zeros((ON_HOLIDAY + 1, DAY_HOURS), np.float32),
            kind_days=np.zeros(ON_HOLIDAY + 1),
            air=np.float64(np.nan),  # K above the usual
            usual_air=np.float64(np.nan),
            # sums of products of the terms with one another, and with the load
            squares=np.zeros((TERM_COUNT, TERM_COUNT)),
            products=np.zeros(TERM_COUNT),
            # kVA expected of the next day, of the same a day earlier, of the day after the next
            expected=np.full((3, DAY_HOURS), np.nan, np.float32),
            errors=np.zeros((AHEAD_DAYS, DAY_HOURS), np.float32),
            tails=np.full((AHEAD_DAYS, 2), 2.0),  # errors below and above
            error_days=np.zeros(AHEAD_DAYS),
            # expected of the next two days, and a day earlier
            peaks=np.full(AHEAD_DAYS, np.nan),
            peak_bias=np.float64(0),
            peak_variance=np.float64(0),
            peak_days=np.float64(0),
            drift=self.DRIFT.empty,
            drifts=np.int64(0),
        )

    @property
    def drifted(self) -> int:
        """How many areas are learned anew since the error drifted."""
        has_drifted = self.cells["drifts"] > 0
        learns = self.cells["known_days"] < self.LEARNED_DAYS
        return int(np.count_nonzero(has_drifted & learns))

    def fold(
        self, slots: Codes, hourly_kva: Column, *, temperature: Column, at: Times
    ) -> LoadForecastColumns:
        """The forecast after a day; a day of which much is unknown teaches nothing."""
        load = _rows_first(hourly_kva)
        known_hours = (~np.isnan(load)).sum(axis=1)
        rows = np.flatnonzero(known_hours >= self.LEAST_HOURS)
        load = load[rows]
        days = day_of(at[rows], self._zone)
        cells = self.cells.read(slots[rows])
        memory = _Learned(**{name: _rows_first(array) for name, array in cells.items()})

        # What was expected of the day, and how far that was off.
        follows = days - memory.day == 1
        self._settle(memory, load, follows)
        lapsed = days - memory.day > self.FORGOTTEN_DAYS
        self._restart(memory, self._drifted(memory, load) | lapsed)

        self._learn(memory, load, self._kinds_of(days))
        self._remember(memory, load, days, temperature[rows])
        expected = self._expect(memory, days)
        self.cells.write(
            slots[rows],
            {name: np.moveaxis(values, 0, -1) for name, values in vars(memory).items()},
        )
        return self._columns(memory, expected, rows, len(slots))

    def _kinds_of(self, days: Codes) -> Codes:
        """Whether days, indices into midnights, are working days, of a weekend, or holidays."""
        kinds = day_kinds(self._zone)[days]
        off = np.where(kinds >= FIRST_DAY_OFF, ON_WEEKEND, ON_WORKDAY)
        return np.where(kinds >= HOLIDAY_KIND, ON_HOLIDAY, off)

    def _settle(self, memory: _Learned, load: Array, follows: Mask) -> None:
        """Learns how far the forecasts of a day were off; forgets them where days were missed."""
        memory.expected[~follows] = np.nan
        memory.peaks[~follows] = np.nan
        least = self.LEAST_ERROR * _level(memory)[:, None]
        for ahead in range(AHEAD_DAYS):
            error = load - memory.expected[:, ahead]
            usual = memory.errors[:, ahead]
            count = memory.error_days[:, ahead]
            judged = (~np.isnan(error)).sum(axis=1)
            ratio = error / np.maximum(usual, least)

            # The tails of the interval, as it was before the day.
            tails = memory.tails[:, ahead]
            below = ratio < -tails[:, :1]
            above = ratio > tails[:, 1:]
            beyond = np.stack([below.sum(axis=1), above.sum(axis=1)], axis=1)
            shares = beyond / judged[:, None]
            wider = np.maximum(tails + self.TAIL_RATE * (shares - INTERVAL_TAIL), 0.5)
            is_sure = (judged > 0) & (count >= self.FEW_DAYS)
            memory.tails[:, ahead] = np.where(is_sure[:, None], wider, tails)

            rate = np.maximum(1 / (count + 1), self._error_rate)[:, None]
            moved = usual + rate * (np.abs(error) - usual)
            memory.errors[:, ahead] = np.where(np.isnan(error), usual, moved)
            memory.error_days[:, ahead] += judged > 0
        self._settle_peaks(memory, load)

    def _settle_peaks(self, memory: _Learned, load: Array) -> None:
        """Learns how far the highest hour of the last two days was off."""
        last_highest = memory.load.max(axis=1)
        highest = np.fmax(np.nanmax(load, axis=1), last_highest)
        error = highest - memory.peaks[:, 1]
        known = ~np.isnan(error)
        rate = np.maximum(1 / (memory.peak_days + 1), self._error_rate)
        step = error - memory.peak_bias
        more = rate * step * step
        variance = (1 - rate) * (memory.peak_variance + more)

        memory.peak_variance = np.where(known, variance, memory.peak_variance)
        memory.peak_bias += np.where(known, rate * step, 0)
        memory.peak_days += known

    def _drifted(self, memory: _Learned, load: Array) -> Mask:
        """Where the error of a day shows that errors have risen for good."""
        sizes = np.abs(load - memory.expected[:, 0])
        known = ~np.isnan(sizes)
        total = np.where(known, sizes, 0).sum(axis=1)
        error = total / known.sum(axis=1)
        share = np.maximum(error / _level(memory), self.LEAST_ERROR)
        is_sure = memory.error_days[:, 0] > self.FEW_DAYS
        watched = self.DRIFT.watch(memory.drift.T, only(is_sure, np.log(share)))
        memory.drift = watched.memory.T
        memory.drifts += watched.drifted
        return watched.drifted

    def _restart(self, memory: _Learned, rows: Mask) -> None:
        """Forgets all but the number of drifts."""
        for name, empty in self.cells.empty.items():
            if name != "drifts":
                getattr(memory, name)[rows] = empty

    def _learn(self, memory: _Learned, load: Array, kinds: Codes) -> None:
        """Learns the weights from a day that follows a known one."""
        error = load - memory.expected[:, 0]
        is_settled = memory.known_days >= self.FIRST_DAYS
        known = ~np.isnan(error) & is_settled[:, None]
        usual = memory.errors[:, 0].mean(axis=1, keepdims=True)
        times_usual = np.abs(error) / usual
        weight = np.where(known, 1 / np.maximum(times_usual, 1), 0.0)
        weight = np.where(known & (usual == 0), 1.0, weight)
        terms = self._terms(memory, kinds)
        weighted = terms * weight[:, None]

        kept = np.where(known.any(axis=1), self._keep, 1.0)
        squares = weighted @ np.ascontiguousarray(terms.transpose(0, 2, 1))
        products = weighted @ np.where(known, load, 0.0)[:, :, None]
        memory.squares = kept[:, None, None] * memory.squares + squares
        memory.products = kept[:, None] * memory.products + products[:, :, 0]

    def _remember(
        self, memory: _Learned, load: Array, days: Codes, temperature: Column
    ) -> None:
        """Learns the profiles, the kind of day and the air from a day."""
        count = memory.known_days
        # An hour that is unknown is as expected, or as lately.
        mean = np.nanmean(load, axis=1)[:, None]
        lately = np.where(count[:, None] > 0, memory.profiles[:, 0], mean)
        expected = memory.expected[:, 0]
        likely = np.where(np.isnan(expected), lately, expected)
        load = np.where(np.isnan(load), likely, load)
        memory.profiles = self._moved(memory.profiles, load, count)
        memory.load = load
        memory.day = days
        memory.known_days = count + 1

        rows = np.arange(len(load))
        kinds = self._kinds_of(days)
        above = memory.kinds[rows, kinds]
        count = memory.kind_days[rows, kinds]
        rate = np.maximum(1 / (count + 3), self.KIND_RATE)
        step = load - memory.profiles[:, -1] - above
        memory.kinds[rows, kinds] = above + rate[:, None] * step
        memory.kind_days[rows, kinds] += 1

        usual = memory.usual_air
        usual = np.where(np.isnan(usual), temperature, usual)
        warmer = temperature - usual
        usual_after = usual + (1 - kept_share(self.AIR_DAYS)) * warmer
        memory.air = warmer
        memory.usual_air = np.where(np.isnan(warmer), usual, usual_after)

    def _moved(self, profiles: Array, load: Array, count: Array) -> Array:
        """The profiles after one more day."""
        rates = np.maximum(1 / (count[:, None] + 1), self._profile_rates)
        off = load[:, None] - profiles
        return profiles + rates[:, :, None] * off

    def _terms(self, memory: _Learned, kinds: Codes) -> Array:
        """The terms of each hour of a day of a kind that follows the last, (rows, TERM_COUNT, 24)."""
        load = memory.load
        profiles = memory.profiles
        last_kinds = self._kinds_of(memory.day.astype(np.int64))
        of_kind = _above(memory, kinds) - _above(memory, last_kinds)
        off = load - profiles[:, 1]
        at_midnight = (off * self._late).sum(axis=1)
        parts = off.reshape(-1, DAY_PARTS, DAY_HOURS // DAY_PARTS).mean(axis=2)
        warmer = np.nan_to_num(memory.air) / 10 * _level(memory)

        by_hour = [
            load[:, None],
            profiles,
            of_kind[:, None],
            at_midnight[:, None, None] * self._carry,
        ]
        by_day = [warmer[:, None], parts]
        daily = np.concatenate(by_day, axis=1)
        spans = np.repeat(daily[:, :, None], DAY_HOURS, axis=2)
        return np.concatenate([*by_hour, spans], axis=1)

    def _weights(self, memory: _Learned) -> Array:
        """The weight of each term; before any day the mean of the profiles with most of the kind of day."""
        usual = np.zeros(TERM_COUNT)
        usual[1 : 1 + len(HALF_LIVES)] = 1 / len(HALF_LIVES)
        usual[1 + len(HALF_LIVES)] = self.KIND_WEIGHT
        few_days = self.RIDGE * DAY_HOURS * _level(memory) ** 2
        ridge = np.maximum(few_days, 1e-9)
        squares = memory.squares + ridge[:, None, None] * np.eye(TERM_COUNT)
        products = memory.products + ridge[:, None] * usual
        return np.linalg.solve(squares, products[:, :, None])[:, :, 0]

    def _expect(self, memory: _Learned, days: Codes) -> Array:
        """The load of the next two days, (rows, 48); remembers it."""
        weights = self._weights(memory)[:, None]
        first = self._day_after(memory, weights, days + 1)

        # The second day, as if the first had been as expected.
        profiles = self._moved(memory.profiles, first, memory.known_days)
        no_air = np.full(len(days), np.nan)
        later = replace(memory, load=first, profiles=profiles, day=days + 1, air=no_air)
        second = self._day_after(later, weights, days + 2)

        earlier = memory.expected[:, 2]
        memory.expected = np.stack([first, earlier, second], axis=1)
        both = np.concatenate([first, second], axis=1)
        highest = both.max(axis=1)
        memory.peaks = np.stack([highest, memory.peaks[:, 0]], axis=1)
        return both

    def _day_after(self, memory: _Learned, weights: Array, days: Codes) -> Array:
        """The load of days that follow the last, by the weights of the terms."""
        terms = self._terms(memory, self._kinds_of(days))
        load = (weights @ terms)[:, 0]
        return np.maximum(load, 0)

    def _columns(
        self, memory: _Learned, expected: Array, rows: Codes, count: int
    ) -> LoadForecastColumns:
        """The columns of so many rows, of which `rows` have a forecast."""
        learned = memory.known_days >= self.LEARNED_DAYS
        least = self.LEAST_ERROR * _level(memory)
        errors = np.maximum(memory.errors, least[:, None, None])
        widths = errors[:, :, None] * memory.tails[:, :, :, None]
        by_side = widths.transpose(2, 0, 1, 3)
        lower, upper = by_side.reshape(2, len(rows), AHEAD_DAYS * DAY_HOURS)
        peak = memory.peaks[:, 0] + memory.peak_bias
        peak_error = np.maximum(np.sqrt(memory.peak_variance), least)

        def spread(values: Array) -> Column:
            """Values of the rows with a forecast, NaN elsewhere; rows last."""
            column = np.full((*values.shape[1:], count), np.nan)
            column[..., rows] = only(learned, np.moveaxis(values, 0, -1))
            return column

        return LoadForecastColumns(
            expected_kva=spread(expected),
            lowest_kva=spread(np.maximum(expected - lower, 0)),
            highest_kva=spread(expected + upper),
            peak_kva=spread(peak),
            peak_low=spread(peak - INTERVAL_DEVIATIONS * peak_error),
            peak_high=spread(peak + INTERVAL_DEVIATIONS * peak_error),
            peak_error=spread(peak_error),
            peak_hours=spread(expected.argmax(axis=1) + 1.0),
            drifts=spread(memory.drifts.astype(float)),
        )


def _rows_first(column: Array) -> Array:
    """A column with its rows first, in double precision, each row's values side by side."""
    return np.ascontiguousarray(np.moveaxis(column, -1, 0), np.float64)


def _above(memory: _Learned, kinds: Codes) -> Array:
    """What each hour of a kind of day is above the slowest profile; an unseen kind counts as the weekend."""
    rows = np.arange(len(kinds))
    is_seen = memory.kind_days[rows, kinds] > 0
    return memory.kinds[rows, np.where(is_seen, kinds, ON_WEEKEND)]


def _level(memory: _Learned) -> Array:
    """The usual load of an area, kVA."""
    return memory.profiles[:, -1].mean(axis=1)

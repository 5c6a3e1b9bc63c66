"""An area's energy balance: its line loss on a day, and its usual loss at that day's load."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import day_of
from models.meters.fading import faded
from models.state.cells import Array, Cells, Columns, pushed
from models.state.missing_values import only
from schemas.columns import Codes, Column, Times
from schemas.units import DAY_SECONDS, WEEK_SECONDS

WINDOW_DAYS = 7  # well-covered days
# of the intervals of the gateway and of the users: catalogue, section 5
COVERED_SHARE = 0.98


class LossesColumns(NamedTuple):
    """Given by Losses; NaN on a day that is not well covered."""

    through_kwh: Column  # primary; energy in
    loss_kwh: Column  # primary; energy in less energy out
    # of seven well-covered days, the third-highest of the least shares that may be lost
    loss_third: Column
    loss_least_third: Column  # of the same, the third-lowest of the highest shares


class Losses(Feature):
    """An area's line loss, day by day, as an interval: unread energy may be on either side."""

    relearns = 7

    def __init__(self) -> None:
        self.cells = Cells(
            low=np.full(WINDOW_DAYS, np.nan), high=np.full(WINDOW_DAYS, np.nan)
        )

    def fold(
        self,
        slots: Codes,
        energy_in: Column,
        *,
        energy_out: Column,
        unread_in: Column,
        unread_out: Column,
        doubt: Column,
        coverage: Column,
    ) -> LossesColumns:
        """The energy in and the loss, with the shares lost in the last seven days."""
        through = energy_in + unread_in
        known = (energy_in > 0) & (coverage >= COVERED_SHARE)
        loss = through - energy_out - unread_out
        loss = only(known, loss)

        least_share = (loss - doubt) / through
        most_share = (loss + doubt) / through
        low = _remember_latest(self.cells, "low", slots, least_share)
        high = _remember_latest(self.cells, "high", slots, most_share)
        return LossesColumns(
            through_kwh=only(known, through),
            loss_kwh=loss,
            loss_third=only(known, _third_highest(low)),
            loss_least_third=only(known, -_third_highest(-high)),
        )


class ReadDaysColumns(NamedTuple):
    """Given by ReadDays."""

    # share of the readings that arrived on earlier days of this weekday; NaN before the first
    usual_read: Column


class ReadDays(Feature):
    """The days of the week on which an area is read at all."""

    LEARNING_RATE = 0.3  # of a day, to the usual of its weekday

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            usual=np.full(7, np.nan, np.float32),  # by weekday
            read=np.int64(0),  # event time of the latest day with readings
        )

    def fold(self, slots: Codes, read_share: Column, *, at: Times) -> ReadDaysColumns:
        """The usual share before the day.

        A week without any reading is a failure, and teaches nothing.
        """
        share = read_share.astype(np.float64)
        weekday = day_of(at, self._zone) % 7
        usual = self.cells["usual"][weekday, slots].astype(np.float64)
        last_read = np.where(share > 0, at, self.cells["read"][slots])

        learned = usual + self.LEARNING_RATE * (share - usual)
        learned = np.where(np.isnan(usual), share, learned)
        teaches = ~np.isnan(share) & (at - last_read < WEEK_SECONDS)
        self.cells["usual"][weekday, slots] = np.where(teaches, learned, usual)
        self.cells["read"][slots] = last_read
        return ReadDaysColumns(usual_read=usual)


class UsualLossColumns(NamedTuple):
    """Given by UsualLoss, as things stood before the day."""

    usual_loss: Column  # share of the energy in
    usual_spread: Column  # share of the energy in
    loss_seen: Column  # number of days that taught them
    unusual_kwh: Column  # primary; loss less the usual loss
    # least average loss beyond the usual one in the last seven days, by three deviations of
    # the readings' errors, of the days, and of the usual loss
    excess_kwh: Column  # primary


class UsualLoss(Feature):
    """The usual loss of an area at its load, a + b E^2, and its loss beyond that.

    Lines lose by the square of the load, meters and bad contacts by the hour. Once some days are
    known, a day counts as one spread at most, so that a lasting loss is usual only after many
    months.
    """

    HALF_LIFE = 30 * DAY_SECONDS
    FEW_DAYS = 3
    LEARNED_DAYS = 6
    LONG_DAYS = 30
    # of the usual loss, by which a day may differ while few days are known
    EARLY_TOLERANCE = 0.3
    LEAST_SPREAD = 0.0005  # of the energy in, the least spread
    # of the energy in, within which a day's loss must be known to be judged
    SURE_SHARE = 0.01
    # of the energy in, beyond which no loss is taken for usual: catalogue 1.3
    LOSS_LIMIT = 0.07
    # spread of E^2, relative, up to which the loss is taken to be proportional to it
    PRIOR_SPREAD = 0.1

    def __init__(self) -> None:
        nothing = np.float64(0)
        week = np.full(WINDOW_DAYS, np.nan)
        self.cells = Cells(
            loss=np.float64(np.nan),
            square=nothing,
            spread=nothing,
            together=nothing,
            var=nothing,
            then=np.int64(0),
            seen=np.int32(0),
            excess=week,
            doubt=week,
        )

    def fold(
        self,
        slots: Codes,
        loss_kwh: Column,
        *,
        through_kwh: Column,
        doubt: Column,
        at: Times,
    ) -> UsualLossColumns:
        """The usual loss before each day, and the loss beyond it."""
        sure = doubt <= self.SURE_SHARE * through_kwh
        loss = only(sure, loss_kwh)
        seen = self.cells["seen"][slots]
        expected = self._expected(slots, np.square(through_kwh))
        spread = np.sqrt(self.cells["var"][slots])
        spread = np.maximum(spread, self.LEAST_SPREAD * through_kwh)
        first = np.where(seen > 0, expected, loss)
        known = ~np.isnan(loss)
        self._learn(
            slots[known], at[known], loss[known], through_kwh[known], first[known]
        )

        # The last week, each day weighted by its deviation.
        limit = self.LOSS_LIMIT * through_kwh
        lowest = np.minimum(expected, limit)
        usual = np.where(seen >= self.LEARNED_DAYS, lowest, limit)
        week = _remember_latest(self.cells, "excess", slots, loss - usual)
        deviation = only(known, np.hypot(spread, doubt / 3))
        deviation = _remember_latest(self.cells, "doubt", slots, deviation)
        excess = self._least_excess(week, deviation, spread, seen)
        return UsualLossColumns(
            usual_loss=expected / through_kwh,
            usual_spread=spread / through_kwh,
            loss_seen=seen.astype(float),
            unusual_kwh=loss - expected,
            excess_kwh=only(known, excess),
        )

    def _least_excess(
        self, week: Array, deviation: Array, spread: Column, seen: Codes
    ) -> Column:
        """The average excess of a week, less three errors; NaN of fewer than three days."""
        weight = 1 / np.square(deviation)
        weights = np.nansum(weight, axis=0)
        average = np.nansum(weight * week, axis=0) / weights
        days_of_usual = np.clip(seen, 1, self.LONG_DAYS)
        usual_error = np.square(spread) / days_of_usual
        error = np.sqrt(1 / weights + usual_error)
        days = (~np.isnan(week)).sum(axis=0)
        return only(days >= 3, average - 3 * error)

    def _expected(self, slots: Codes, square: Column) -> Column:
        """The loss to expect at some squares of the day's energy; NaN before the first day."""
        loss = self.cells["loss"][slots]
        mean = self.cells["square"][slots]
        spread = self.cells["spread"][slots]
        together = self.cells["together"][slots]

        # With few days known, the loss is as good as proportional to the square.
        prior = np.square(self.PRIOR_SPREAD * mean)
        product = together + prior * loss / mean
        slope = np.maximum(product / (spread + prior), 0)
        by_slope = loss + slope * (square - mean)
        seen = self.cells["seen"][slots]
        return np.where(seen > 1, by_slope, loss)

    def _learn(
        self, slots: Codes, at: Times, loss: Column, through: Column, expected: Column
    ) -> None:
        """Learns days whose loss is known."""
        memory = self.cells.read(slots)
        narrow, widest = self._tolerances(memory, through, expected)
        step = loss - expected
        after = expected + np.clip(step, -widest, widest)
        step = np.clip(step, -narrow, narrow)

        # Fading means, squares and products of the loss and the square of the energy.
        seen = memory["seen"]
        keep = faded(at - memory["then"], self.HALF_LIFE)
        keep = np.minimum(keep, 1 - 1 / (seen + 1))
        learn = 1 - keep
        more = np.square(through) - memory["square"]
        off = after - np.where(seen > 0, memory["loss"], after)
        learned = {
            "loss": after - keep * off,
            "square": memory["square"] + learn * more,
            "spread": keep * (memory["spread"] + learn * more * more),
            "together": keep * (memory["together"] + learn * more * off),
            "var": keep * (memory["var"] + learn * np.square(step)),
            "then": at,
            "seen": seen + 1,
        }
        self.cells.write(slots, learned)

    def _tolerances(
        self, memory: Columns, through: Column, expected: Column
    ) -> tuple[Column, Column]:
        """The steps of a day that count: for the spread, and, wider in early days, for the loss."""
        seen = memory["seen"]
        spread = np.sqrt(memory["var"])
        narrow = np.maximum(spread, self.LEAST_SPREAD * through)
        narrow = np.where(seen < self.FEW_DAYS, np.inf, narrow)
        early = np.maximum(narrow, self.EARLY_TOLERANCE * np.abs(expected))
        return narrow, np.where(seen < self.LEARNED_DAYS, early, narrow)


def _remember_latest(cells: Cells, name: str, slots: Codes, values: Column) -> Array:
    """The latest values of some slots after new ones, of which NaN is skipped; remembers them."""
    before = cells[name][:, slots]
    after = np.where(np.isnan(values), before, pushed(before, values))
    cells[name][:, slots] = after
    return after


def _third_highest(values: Array) -> Column:
    """The third-highest value of each column; NaN where there are fewer.

    >>> _third_highest(np.array([[1.0, np.nan], [3.0, 2.0], [2.0, np.nan], [5.0, 1.0]])).tolist()
    [2.0, nan]
    """
    known = np.where(np.isnan(values), -np.inf, values)
    third = np.sort(known, axis=0)[-3]
    return only(np.isfinite(third), third)

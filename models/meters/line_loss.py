"""An area's energy balance: its line loss on a day, and its usual loss at that day's load."""

from __future__ import annotations

import numpy as np

from models.master.calendar import day_of
from models.meters.basics import Columns, Feature, faded
from models.state.cells import Array, Cells
from schemas.columns import Codes, Column
from schemas.units import DAY_SECONDS

WINDOW_DAYS = 7  # well-covered days
# of the intervals of the gateway and of the users: catalogue, section 5
COVERED_SHARE = 0.98


class Losses(Feature):
    """An area's line loss, day by day, as an interval: unread energy may be on either side."""

    relearns = 7
    reads: tuple[str, ...] = ("energy_in",)
    takes: tuple[str, ...] = (
        "energy_out",
        "unread_in",
        "unread_out",
        "doubt",
        "coverage",
    )
    gives: tuple[str, ...] = (
        "through_kwh",
        "loss_kwh",
        "loss_third",
        "loss_least_third",
    )

    def __init__(self) -> None:
        self.cells = Cells(
            low=np.full(WINDOW_DAYS, np.nan), high=np.full(WINDOW_DAYS, np.nan)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the energy in and the loss; NaN on a day that is not well covered.

        through_kwh: energy in
        loss_kwh: energy in less energy out
        loss_third: of seven well-covered days, the third-highest of the least shares that may be
            lost
        loss_least_third: of the same days, the third-lowest of the highest shares
        """
        through = columns["energy_in"] + columns["unread_in"]
        error = columns["doubt"]
        known = (columns["energy_in"] > 0) & (columns["coverage"] >= COVERED_SHARE)
        loss = through - columns["energy_out"] - columns["unread_out"]
        loss = np.where(known, loss, np.nan)

        low = _remember_latest(self.cells, "low", slots, (loss - error) / through)
        high = _remember_latest(self.cells, "high", slots, (loss + error) / through)
        return {
            "through_kwh": np.where(known, through, np.nan),
            "loss_kwh": loss,
            "loss_third": np.where(known, _third_highest(low), np.nan),
            "loss_least_third": np.where(known, -_third_highest(-high), np.nan),
        }


class ReadDays(Feature):
    """The days of the week on which an area is read at all."""

    reads: tuple[str, ...] = ("read_share",)
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("usual_read",)

    LEARNING_RATE = 0.3  # of a day, to the usual of its weekday
    WEEK_SECONDS = 7 * DAY_SECONDS

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            usual=np.full(7, np.nan, np.float32),  # by weekday
            read=np.int64(0),  # event time of the latest day with readings
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds usual_read, the share that arrived on earlier days of this weekday.

        NaN before the first.

        A week without any reading is a failure, and teaches nothing.
        """
        at = columns["at"]
        share = columns["read_share"].astype(np.float64)
        weekday = day_of(at, self._zone) % 7
        usual = self.cells["usual"][weekday, slots].astype(np.float64)
        last_read = np.where(share > 0, at, self.cells["read"][slots])

        learned = usual + self.LEARNING_RATE * (share - usual)
        learned = np.where(np.isnan(usual), share, learned)
        teaches = ~np.isnan(share) & (at - last_read < self.WEEK_SECONDS)
        self.cells["usual"][weekday, slots] = np.where(teaches, learned, usual)
        self.cells["read"][slots] = last_read
        return {"usual_read": usual}


class UsualLoss(Feature):
    """The usual loss of an area at its load, a + b E^2, and its loss beyond that.

    Lines lose by the square of the load, meters and bad contacts by the hour. Once some days are
    known, a day counts as one spread at most, so that a lasting loss is usual only after many
    months.
    """

    reads: tuple[str, ...] = ("loss_kwh",)
    takes: tuple[str, ...] = ("through_kwh", "doubt", "at")
    gives: tuple[str, ...] = (
        "usual_loss",
        "usual_spread",
        "loss_seen",
        "unusual_kwh",
        "excess_kwh",
    )

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

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the usual loss before each day, and the loss beyond it.

        usual_loss, usual_spread: shares of the energy in
        loss_seen: number of days that taught them
        unusual_kwh: loss less the usual loss
        excess_kwh: least average loss beyond the usual one in the last seven days, by three
            deviations of the readings' errors, of the days, and of the usual loss
        """
        through = columns["through_kwh"]
        error = columns["doubt"]
        sure = error <= self.SURE_SHARE * through
        loss = np.where(sure, columns["loss_kwh"], np.nan)
        seen = self.cells["seen"][slots]
        expected = self._expected(slots, np.square(through))
        spread = np.sqrt(self.cells["var"][slots])
        spread = np.maximum(spread, self.LEAST_SPREAD * through)
        self._learn(slots, loss, columns, np.where(seen > 0, expected, loss))

        # The last week, each day weighted by its deviation.
        limit = self.LOSS_LIMIT * through
        usual = np.where(seen >= self.LEARNED_DAYS, np.minimum(expected, limit), limit)
        week = _remember_latest(self.cells, "excess", slots, loss - usual)
        deviation = np.where(np.isnan(loss), np.nan, np.hypot(spread, error / 3))
        deviation = _remember_latest(self.cells, "doubt", slots, deviation)
        excess = self._least_excess(week, deviation, spread, seen)
        return {
            "usual_loss": expected / through,
            "usual_spread": spread / through,
            "loss_seen": seen.astype(float),
            "unusual_kwh": loss - expected,
            "excess_kwh": np.where(np.isnan(loss), np.nan, excess),
        }

    def _least_excess(
        self, week: Array, deviation: Array, spread: Column, seen: Codes
    ) -> Column:
        """The average excess of a week, less three errors; NaN of fewer than three days."""
        weight = 1 / np.square(deviation)
        weights = np.nansum(weight, axis=0)
        usual_error = np.square(spread) / np.clip(seen, 1, self.LONG_DAYS)
        error = np.sqrt(1 / weights + usual_error)
        excess = np.nansum(weight * week, axis=0) / weights - 3 * error
        days = (~np.isnan(week)).sum(axis=0)
        return np.where(days < 3, np.nan, excess)

    def _expected(self, slots: Codes, square: Column) -> Column:
        """The loss to expect at some squares of the day's energy; NaN before the first day."""
        loss = self.cells["loss"][slots]
        mean = self.cells["square"][slots]
        spread = self.cells["spread"][slots]
        together = self.cells["together"][slots]

        prior = np.square(self.PRIOR_SPREAD * mean)
        slope = np.maximum((together + prior * loss / mean) / (spread + prior), 0)
        by_slope = loss + slope * (square - mean)
        return np.where(self.cells["seen"][slots] > 1, by_slope, loss)

    def _learn(
        self, slots: Codes, loss: Column, columns: Columns, expected: Column
    ) -> None:
        """Learns a day whose loss is known."""
        known = ~np.isnan(loss)
        slots = slots[known]
        expected = expected[known]
        at = columns["at"][known]
        through = columns["through_kwh"][known]
        names = ("loss", "square", "spread", "together", "var", "then", "seen")
        memory = {name: self.cells[name][slots] for name in names}

        step = loss[known] - expected
        narrow, widest = self._tolerances(memory, through, expected)
        after = expected + np.clip(step, -widest, widest)
        step = np.clip(step, -narrow, narrow)

        # Fading means, squares and products of the loss and the square of the energy.
        keep = faded(at - memory["then"], self.HALF_LIFE)
        keep = np.minimum(keep, 1 - 1 / (memory["seen"] + 1))
        learn = 1 - keep
        more = np.square(through) - memory["square"]
        off = after - np.where(memory["seen"] > 0, memory["loss"], after)
        self.cells.write(
            slots,
            {
                "loss": after - keep * off,
                "square": memory["square"] + learn * more,
                "spread": keep * (memory["spread"] + learn * more * more),
                "together": keep * (memory["together"] + learn * more * off),
                "var": keep * (memory["var"] + learn * np.square(step)),
                "then": at,
                "seen": memory["seen"] + 1,
            },
        )

    def _tolerances(
        self, memory: Columns, through: Column, expected: Column
    ) -> tuple[Column, Column]:
        """The steps of a day that count: for the spread, and, wider in early days, for the loss."""
        seen = memory["seen"]
        narrow = np.maximum(np.sqrt(memory["var"]), self.LEAST_SPREAD * through)
        narrow = np.where(seen < self.FEW_DAYS, np.inf, narrow)
        early = np.maximum(narrow, self.EARLY_TOLERANCE * np.abs(expected))
        return narrow, np.where(seen < self.LEARNED_DAYS, early, narrow)


def _remember_latest(cells: Cells, name: str, slots: Codes, values: Column) -> Array:
    """The latest values of some slots after new ones, of which NaN is skipped; remembers them."""
    before = cells[name][:, slots]
    pushed = np.concatenate([before[1:], values[None]])
    after = np.where(np.isnan(values), before, pushed)
    cells[name][:, slots] = after
    return after


def _third_highest(values: Array) -> Column:
    """The third-highest value of each column; NaN where there are fewer.

    >>> _third_highest(np.array([[1.0, np.nan], [3.0, 2.0], [2.0, np.nan], [5.0, 1.0]])).tolist()
    [2.0, nan]
    """
    high = np.sort(np.where(np.isnan(values), -np.inf, values), axis=0)[-3]
    return np.where(np.isfinite(high), high, np.nan)

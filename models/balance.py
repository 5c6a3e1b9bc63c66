"""An area's energy balance: what it loses of a day's energy, and what it usually loses at that day's load."""

from __future__ import annotations

import numpy as np

from models.calendar import day_of
from models.cells import Array, Cells
from models.features import Columns, Feature, faded
from schemas.columns import Codes, Column
from schemas.units import DAY_SECONDS

WINDOW_DAYS = 7  # well-covered days
COVERED_SHARE = (
    0.98  # of the intervals of the gateway and of the users: catalogue, section 5
)


class Losses(Feature):
    """An area's line loss, day by day, as an interval: what was not read may have come in or gone out."""

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
        """Adds energy in and loss; of 7 well-covered days, the third-highest of the least shares and the reverse.

        NaN on a day that is not well covered.
        """
        through, doubt = columns["energy_in"] + columns["unread_in"], columns["doubt"]
        told = (columns["energy_in"] > 0) & (columns["coverage"] >= COVERED_SHARE)
        loss = np.where(
            told, through - columns["energy_out"] - columns["unread_out"], np.nan
        )
        third = _third_highest(
            _remember_latest(self.cells, "low", slots, (loss - doubt) / through)
        )
        least = -_third_highest(
            -_remember_latest(self.cells, "high", slots, (loss + doubt) / through)
        )
        return {
            "through_kwh": np.where(told, through, np.nan),
            "loss_kwh": loss,
            "loss_third": np.where(told, third, np.nan),
            "loss_least_third": np.where(told, least, np.nan),
        }


class ReadDays(Feature):
    """On which days of the week an area is read at all."""

    reads: tuple[str, ...] = ("read_share",)
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("usual_read",)

    LEARNING_RATE = 0.3  # of a day, to the usual of its weekday
    WEEK_SECONDS = 7 * DAY_SECONDS

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            usual=np.full(7, np.nan, np.float32), read=np.int64(0)
        )  # by weekday; when something was

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds usual_read, the share that arrived on earlier days of this weekday; NaN before the first.

        A week without any reading is a failure, and teaches nothing.
        """
        c, at, share = (
            self.cells,
            columns["at"],
            columns["read_share"].astype(np.float64),
        )
        weekday = day_of(at, self._zone) % 7
        usual = c["usual"][weekday, slots].astype(np.float64)
        lately = np.where(share > 0, at, c["read"][slots])
        after = np.where(
            np.isnan(usual), share, usual + self.LEARNING_RATE * (share - usual)
        )
        told = ~np.isnan(share) & (at - lately < self.WEEK_SECONDS)
        c["usual"][weekday, slots] = np.where(told, after, usual)
        c["read"][slots] = lately
        return {"usual_read": usual}


class UsualLoss(Feature):
    """What an area usually loses at its load, a + b E^2, and what it lost beyond that.

    Lines lose by the square of the load, meters and bad contacts by the hour. A day counts as one spread at most, once
    some are known, so that a loss that came to stay is usual only after many months.
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
    FEW_DAYS, LEARNED_DAYS, LONG_DAYS = 3, 6, 30  # days
    EARLY_TOLERANCE = (
        0.3  # of the usual loss, that a day may differ while few are known
    )
    LEAST_SPREAD = 0.0005  # of the energy in, that the spread counts for at least
    SURE_SHARE = 0.01  # of the energy in, within which the loss must be known to tell of more than the usual
    LOSS_LIMIT = (
        0.07  # of the energy in, beyond which no loss is taken for usual: catalogue 1.3
    )
    PRIOR_SPREAD = 0.1  # spread of E^2, relative, up to which the loss is taken to be in proportion to it

    def __init__(self) -> None:
        nothing, week = np.float64(0), np.full(WINDOW_DAYS, np.nan)
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
        """Adds, as shares of the energy in, the usual loss before each day and its spread, and of how many days.

        Then, in kWh, the loss less the usual one, and what the last seven days lost beyond it at least, on average and
        by three deviations of what the readings leave open, of the days, and of what is known of the usual loss.
        """
        c, through, doubt = self.cells, columns["through_kwh"], columns["doubt"]
        loss = np.where(doubt <= self.SURE_SHARE * through, columns["loss_kwh"], np.nan)
        seen, expected = c["seen"][slots], self._expected(slots, np.square(through))
        spread = np.maximum(np.sqrt(c["var"][slots]), self.LEAST_SPREAD * through)
        self._learn(slots, loss, columns, np.where(seen > 0, expected, loss))
        usual = np.where(
            seen >= self.LEARNED_DAYS,
            np.minimum(expected, self.LOSS_LIMIT * through),
            self.LOSS_LIMIT * through,
        )
        week = _remember_latest(c, "excess", slots, loss - usual)
        weight = 1 / np.square(
            _remember_latest(
                c,
                "doubt",
                slots,
                np.where(np.isnan(loss), np.nan, np.hypot(spread, doubt / 3)),
            )
        )
        days, weights = (~np.isnan(week)).sum(axis=0), np.nansum(weight, axis=0)
        error = np.sqrt(
            1 / weights + np.square(spread) / np.clip(seen, 1, self.LONG_DAYS)
        )
        excess = np.nansum(weight * week, axis=0) / weights - 3 * error
        return {
            "usual_loss": expected / through,
            "usual_spread": spread / through,
            "loss_seen": seen.astype(float),
            "unusual_kwh": loss - expected,
            "excess_kwh": np.where(np.isnan(loss) | (days < 3), np.nan, excess),
        }

    def _expected(self, slots: Codes, square: Column) -> Column:
        """The loss to expect at some squares of the day's energy; NaN before the first day."""
        loss, mean, spread, together = (
            self.cells[n][slots] for n in ("loss", "square", "spread", "together")
        )
        prior = np.square(self.PRIOR_SPREAD * mean)
        slope = np.maximum((together + prior * loss / mean) / (spread + prior), 0)
        return np.where(
            self.cells["seen"][slots] > 1, loss + slope * (square - mean), loss
        )

    def _learn(
        self, slots: Codes, loss: Column, columns: Columns, expected: Column
    ) -> None:
        """Take a day into what is usual."""
        told = ~np.isnan(loss)
        c, slots, expected = self.cells, slots[told], expected[told]
        at, through = columns["at"][told], columns["through_kwh"][told]
        seen, var = c["seen"][slots], c["var"][slots]
        keep = np.minimum(
            faded(at - c["then"][slots], self.HALF_LIFE), 1 - 1 / (seen + 1)
        )
        narrow = np.where(
            seen < self.FEW_DAYS,
            np.inf,
            np.maximum(np.sqrt(var), self.LEAST_SPREAD * through),
        )
        widest = np.where(
            seen < self.LEARNED_DAYS,
            np.maximum(narrow, self.EARLY_TOLERANCE * np.abs(expected)),
            narrow,
        )
        step = loss[told] - expected
        after = expected + np.clip(step, -widest, widest)
        more, off = (
            np.square(through) - c["square"][slots],
            after - np.where(seen > 0, c["loss"][slots], after),
        )
        c["loss"][slots] = after - keep * off
        c["square"][slots] += (1 - keep) * more
        c["spread"][slots] = keep * (c["spread"][slots] + (1 - keep) * more * more)
        c["together"][slots] = keep * (c["together"][slots] + (1 - keep) * more * off)
        c["var"][slots] = keep * (
            var + (1 - keep) * np.square(np.clip(step, -narrow, narrow))
        )
        c["then"][slots], c["seen"][slots] = at, seen + 1


def _remember_latest(cells: Cells, name: str, slots: Codes, values: Column) -> Array:
    """The last values of some slots with these among them, where they are not NaN; remembers them."""
    before = cells[name][:, slots]
    after = np.where(
        np.isnan(values), before, np.concatenate([before[1:], values[None]])
    )
    cells[name][:, slots] = after
    return after


def _third_highest(values: Array) -> Column:
    """The third-highest value of each column; NaN where there are fewer.

    >>> _third_highest(np.array([[1.0, np.nan], [3.0, 2.0], [2.0, np.nan], [5.0, 1.0]])).tolist()
    [2.0, nan]
    """
    high = np.sort(np.where(np.isnan(values), -np.inf, values), axis=0)[-3]
    return np.where(np.isfinite(high), high, np.nan)

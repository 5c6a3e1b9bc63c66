"""An area's energy balance: what it loses of a day's energy, and what it usually loses at that day's load."""
from __future__ import annotations

import numpy as np

from models.cells import Array, Cells
from models.features import DAY, Columns
from schemas.columns import Codes, Column

WINDOW = 7  # well-covered days
COVERED = 0.98  # of the intervals of the gateway and of the users: catalogue, section 5


class Losses:
    """An area's line loss, day by day, as an interval: what was not read may have come in or gone out."""

    reads: tuple[str, ...] = ("energy_in",)
    takes: tuple[str, ...] = ("energy_out", "doubt_in", "doubt_out", "coverage")
    gives: tuple[str, ...] = ("loss_kwh", "loss_low_kwh", "loss_high_kwh", "loss_third", "loss_least_third")

    def __init__(self) -> None:
        self.cells = Cells(low=np.full(WINDOW, np.nan), high=np.full(WINDOW, np.nan))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the interval's middle and ends; of 7 well-covered days the third-highest least share, and the reverse.

        NaN on a day that is not well covered.
        """
        through = columns["energy_in"]
        told = (through > 0) & (columns["coverage"] >= COVERED)
        loss = np.where(told, through - columns["energy_out"], np.nan)
        low, high = loss - columns["doubt_out"], loss + columns["doubt_in"]
        third = third_highest(latest(self.cells, "low", slots, low / through))
        least = -third_highest(-latest(self.cells, "high", slots, high / through))
        return {
            "loss_kwh": (low + high) / 2, "loss_low_kwh": low, "loss_high_kwh": high,
            "loss_third": np.where(np.isnan(low), np.nan, third),
            "loss_least_third": np.where(np.isnan(low), np.nan, least),
        }  # fmt: skip


class UsualLoss:
    """What an area usually loses at its load, a + b E^2, and what it lost beyond that.

    Lines lose by the square of the load, meters and bad contacts by the hour. A day counts as three spreads at most and
    widens no spread by more than one, so that a loss that came to stay is usual only after many months.
    """

    reads: tuple[str, ...] = ("loss_kwh",)
    takes: tuple[str, ...] = ("energy_in", "loss_low_kwh", "at")
    gives: tuple[str, ...] = ("usual_loss", "usual_spread", "loss_seen", "unusual_kwh", "excess_kwh", "excess_third")

    HALF_LIFE = 30 * DAY
    FEW, LEARNED = 3, 6  # days
    TOLD = 0.1  # of the usual loss, that the spread counts for at least where it limits what is learned
    LEAST = 0.001  # of the energy in, that it counts for at least elsewhere
    LIMIT = 0.07  # of the energy in, beyond which no loss is taken for usual: catalogue 1.3
    PRIOR = 0.1  # spread of E^2, relative, up to which the loss is taken to be in proportion to it

    def __init__(self) -> None:
        nothing = np.float64(0)
        self.cells = Cells(
            loss=np.float64(np.nan), square=nothing, spread=nothing, together=nothing, var=nothing,
            then=np.int64(0), seen=np.int32(0), excess=np.full(WINDOW, np.nan),
        )  # fmt: skip

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds, as shares of the energy in, the usual loss before each day and its spread, and of how many days.

        Then, in kWh, the loss less the usual one, less what is tolerable too, and of 7 days the third-highest excess
        that is beyond doubt.
        """
        c, loss, through = self.cells, columns["loss_kwh"], columns["energy_in"]
        known = {name: c[name][slots] for name in ("loss", "square", "spread", "together", "var", "then", "seen")}
        mean, square, seen = known["loss"], known["square"], known["seen"]
        prior = np.square(self.PRIOR * square)
        slope = np.maximum((known["together"] + prior * mean / square) / (known["spread"] + prior), 0)
        expected = np.where(seen > 1, mean + slope * (np.square(through) - square), mean)
        spread = np.maximum(np.sqrt(known["var"]), self.LEAST * through)
        self.learn(slots, columns, np.where(seen > 0, expected, loss))
        usual = np.where(seen >= self.LEARNED, np.minimum(expected, self.LIMIT * through), self.LIMIT * through)
        sure = columns["loss_low_kwh"] - usual - 3 * spread
        excess = third_highest(latest(c, "excess", slots, sure))
        return {
            "usual_loss": np.where(seen > 0, expected, np.nan) / through, "usual_spread": spread / through,
            "loss_seen": seen.astype(float), "unusual_kwh": loss - np.where(seen > 0, expected, np.nan),
            "excess_kwh": loss - usual, "excess_third": np.where(np.isnan(loss), np.nan, excess),
        }  # fmt: skip

    def learn(self, slots: Codes, columns: Columns, expected: Column) -> None:
        """Take a day into what is usual."""
        told = ~np.isnan(columns["loss_kwh"])
        c, slots, expected = self.cells, slots[told], expected[told]
        at, loss, square = columns["at"][told], columns["loss_kwh"][told], np.square(columns["energy_in"][told])
        seen = c["seen"][slots]
        keep = np.minimum(np.exp2((c["then"][slots] - at) / self.HALF_LIFE), 1 - 1 / (seen + 1))
        spread = np.maximum(np.sqrt(c["var"][slots]), self.TOLD * np.abs(expected))
        widest = np.where(seen < self.FEW, np.inf, spread)
        step = np.clip(loss - expected, -3 * widest, 3 * widest)
        more, off = square - c["square"][slots], expected + step - np.where(seen > 0, c["loss"][slots], loss)
        c["loss"][slots] = expected + step - keep * off
        c["square"][slots] += (1 - keep) * more
        c["spread"][slots] = keep * (c["spread"][slots] + (1 - keep) * more * more)
        c["together"][slots] = keep * (c["together"][slots] + (1 - keep) * more * off)
        c["var"][slots] = keep * (c["var"][slots] + (1 - keep) * np.square(np.clip(step, -widest, widest)))
        c["then"][slots], c["seen"][slots] = at, seen + 1


def latest(cells: Cells, name: str, slots: Codes, values: Column) -> Array:
    """The last values of some slots with these among them, where they are not NaN; remembers them."""
    before = cells[name][:, slots]
    after = np.where(np.isnan(values), before, np.concatenate([before[1:], values[None]]))
    cells[name][:, slots] = after
    return after


def third_highest(values: Array) -> Column:
    """The third-highest value of each column; NaN where there are fewer.

    >>> third_highest(np.array([[1.0, np.nan], [3.0, 2.0], [2.0, np.nan], [5.0, 1.0]])).tolist()
    [2.0, nan]
    """
    high = np.sort(np.where(np.isnan(values), -np.inf, values), axis=0)[-3]
    return np.where(np.isfinite(high), high, np.nan)

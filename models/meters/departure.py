"""How far a customer's last days depart from the usual, in level and in form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.fading import kept_share
from models.state.cells import Cells
from models.state.missing_values import only
from schemas.columns import Codes, Column


class DepartureColumns(NamedTuple):
    """Given by Departure: fading geometric means of the last days; NaN while too few had use."""

    level_left: Column  # share of the expected use, peers considered
    form_left: Column  # share of the usual ups and downs of the hours


class Departure(Feature):
    """How far a customer's last days depart from the usual, in level and in form.

    A single day counts little: it is cut off at a limit. A day with next to nothing says that nobody is there, and is
    left out.
    """

    FADE = kept_share(3.0)
    LEAST_WEIGHT = 2.0  # of the last days: three days on end weigh 2.4
    LEAST_LEFT = 0.1  # of the expected use: with less, nobody is there
    MOST_FALLEN, MOST_FLATTENED = 1.5, 1.0  # logs that one day may count, either way
    LEAST_FORM = 0.05  # ups and downs of the hours over their mean: less is flat

    def __init__(self) -> None:
        self.cells = Cells(
            fallen=np.float32(0), flattened=np.float32(0), weight=np.float32(0)
        )

    def fold(
        self,
        slots: Codes,
        excess: Column,
        variation: Column,
        rhythm: Column,
        usual_variation: Column,
        usual_rhythm: Column,
    ) -> DepartureColumns:
        """The means of the last days, this day among them."""
        by_spread = self._log_form(usual_variation) - self._log_form(variation)
        by_swing = self._log_form(usual_rhythm) - self._log_form(rhythm)
        flattened = np.minimum(by_spread, by_swing)
        day = {
            "fallen": np.clip(-excess, -self.MOST_FALLEN, self.MOST_FALLEN),
            "flattened": np.clip(flattened, -self.MOST_FLATTENED, self.MOST_FLATTENED),
            "weight": np.ones(len(slots)),
        }

        # On a known day all fades, and a day with use is added.
        known = ~np.isnan(excess) & ~np.isnan(flattened)
        lived_in = excess > np.log(self.LEAST_LEFT)
        sums = self.cells.read(slots)
        for name, value in day.items():
            after = self.FADE * sums[name] + np.where(lived_in, value, 0.0)
            sums[name] = np.where(known, after, sums[name])
        self.cells.write(slots, sums)

        known &= sums["weight"] >= self.LEAST_WEIGHT
        weight = only(known, sums["weight"])
        return DepartureColumns(
            level_left=np.exp(-sums["fallen"] / weight),
            form_left=np.exp(-sums["flattened"] / weight),
        )

    def _log_form(self, form: Column) -> Column:
        """The log of ups and downs, of all flat days the same."""
        return np.log(np.maximum(form, self.LEAST_FORM))

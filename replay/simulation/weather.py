"""The air and the sun over the simulated town."""

from __future__ import annotations

import numpy as np

from replay.simulation.network import DAY_SLOTS, Values
from schemas.columns import Codes

MEAN_AIR = 8.0  # deg C, a usual day's mean
COLD_DROP = 3.0  # deg C less on a cold day
DAILY_SWING = 4.0  # deg C more in the afternoon
COLD_LOADS = (0.1, 0.05, 0.0)  # of a segment's load, more on a cold day
COLDEST_SLOT = DAY_SLOTS // 12  # two in the morning


class Weather:
    """How cold and how clear each day is, and what follows for loads and roofs."""

    def __init__(self, days: int, rng: np.random.Generator) -> None:
        cold = np.clip(rng.standard_normal(days), -1.5, 1.5)
        more_load = np.outer(cold, COLD_LOADS)
        self.load_times = 1 + more_load.astype(np.float32)  # by day and segment

        slots = np.arange(DAY_SLOTS) - COLDEST_SLOT
        hours = 2 * np.pi * slots / DAY_SLOTS
        swing = -DAILY_SWING * np.cos(hours)
        mean = MEAN_AIR - COLD_DROP * cold
        self.air = (mean[:, None] + swing).reshape(-1)  # deg C, by slot of the town
        clear = rng.uniform(0.25, 1, days)
        self._clear = clear.astype(np.float32)

    def light(self, day: int, slots: Codes) -> Values:
        """The share of a roof's power that the sun brings in each slot of a day."""
        height = np.clip((slots - 26) / 44, 0, 1)
        light = np.sin(np.pi * height).astype(np.float32)
        return np.asarray(light * self._clear[day])

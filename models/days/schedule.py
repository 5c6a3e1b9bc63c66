"""When an area's windows close and its days are sealed, by how far its watermark has come.

An interval closes one interval after its end, a day one to five hours after midnight. Areas take
turns at closing days, and at sealing days that can no longer change, so that readings of other
areas need not wait long. An area's turn follows from its name, so it is the same in any engine.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import numpy as np

from models.master.calendar import day_of, midnights
from models.master.registry import Registry
from schemas.columns import Codes, Times
from schemas.units import HOUR_SECONDS

STAGGER_SECONDS = 900  # seconds from one turn of areas to the next
DAYS_AT_ONCE = 3  # of an area, closed at once and sealed at once


class _Turns(NamedTuple):
    """The turns in which areas close or seal a day."""

    first: int  # s after midnight, or after the grace period
    number: int  # of turns


CLOSING_TURNS = _Turns(HOUR_SECONDS, 16)
SEALING_TURNS = _Turns(5 * HOUR_SECONDS, 32)


class Schedule:
    """The zone's midnights, and the areas' turns."""

    def __init__(
        self,
        registry: Registry,
        zone: str,
        interval: int,
        grace: int,
    ) -> None:
        self._registry = registry
        self._zone = zone
        self.interval = interval
        self.grace = grace
        self.midnights = midnights(zone)
        self._name_hashes = np.zeros(0, np.int64)  # by area

    def forget_names(self) -> None:
        """Forgets the names of areas, whose index was replaced."""
        self._name_hashes = self._name_hashes[:0]

    def days_of(self, at: Times) -> Codes:
        """The day of each interval that ends `at`, an index into the midnights."""
        return day_of(at, self._zone)

    def closed_until(self, watermarks: Times) -> Times:
        """The ends of the last intervals that are closed at these watermarks."""
        intervals = watermarks // self.interval - 1
        return intervals * self.interval

    def closing_times(self, slots: Codes, days: Codes) -> Times:
        """The watermarks at which areas close these days."""
        delays = self._delays(slots, CLOSING_TURNS)
        return self.midnights[days + 1] + delays

    def sealing_times(self, slots: Codes, days: Codes) -> Times:
        """The watermarks at which areas seal these days."""
        delays = self.grace + self._delays(slots, SEALING_TURNS)
        return self.midnights[days + 1] + delays

    def closed_days(self, slots: Codes, watermarks: Times) -> Codes:
        """The newest days of areas that are closed at these watermarks."""
        delays = self._delays(slots, CLOSING_TURNS)
        return self._last_full_days(watermarks - delays)

    def sealed_days(self, slots: Codes, watermarks: Times) -> Codes:
        """The newest days of areas that are sealed at these watermarks."""
        delays = self.grace + self._delays(slots, SEALING_TURNS)
        return self._last_full_days(watermarks - delays)

    def _last_full_days(self, times: Times) -> Codes:
        """The last days that are over at these times."""
        return np.searchsorted(self.midnights, times, side="right") - 2

    def _delays(self, slots: Codes, turns: _Turns) -> Times:
        """The seconds of areas' turns after the first one, and of the first one."""
        pairs = self._registry.area_index.pairs[len(self._name_hashes) :]
        if pairs:
            hashes = [crc32(area.encode()) for area, _ in pairs]
            self._name_hashes = np.concatenate([self._name_hashes, hashes])
        turn = self._name_hashes[slots] % turns.number
        return turns.first + turn * STAGGER_SECONDS

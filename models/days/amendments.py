"""Which areas have closed windows that are to be judged again."""

from __future__ import annotations

import numpy as np

from schemas.columns import Codes, Mask


class Amendments:
    """The closed windows of areas that later rows have changed."""

    def __init__(self) -> None:
        self.days: dict[int, set[int]] = {}  # with a changed window, by area
        # Areas with something to amend, or with a closed day that is not packed.
        self._unsettled: set[int] = set()

    def empty(self) -> None:
        """Forgets all areas."""
        self.days = {}
        self._unsettled = set()

    def begin(self, slot: int, days: set[int]) -> None:
        """Takes in an area, of which these days have changed."""
        self.days[slot] = days
        if days:
            self._unsettled.add(slot)

    def mark(self, slot: int, day: int) -> None:
        """Notes that a closed window of an area's day has changed."""
        self.days[slot].add(day)
        self._unsettled.add(slot)

    def note_unpacked(self, slot: int) -> None:
        """Notes that a closed day of an area is not packed."""
        self._unsettled.add(slot)

    def unsettled(self, slots: Codes) -> Mask:
        """True for areas with something to amend or pack."""
        found = [slot in self._unsettled for slot in slots.tolist()]
        return np.array(found, np.bool_)

    def changed(self, slots: Codes) -> Mask:
        """True for areas with something to amend."""
        found = [bool(self.days[slot]) for slot in slots.tolist()]
        return np.array(found, np.bool_)

    def settle(self, slots: Codes) -> None:
        """Notes that the windows of areas are amended, and their closed days packed."""
        for slot in slots.tolist():
            self.days[slot].clear()
            self._unsettled.discard(slot)

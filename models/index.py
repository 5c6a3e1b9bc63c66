"""Dense slots for subjects: the same area and subject have the same slot for good."""
from __future__ import annotations

from typing import Any

import numpy as np

from schemas.columns import Batch, Codes

FREE = ("", "")


class Index:
    """Numbers (area, subject) pairs in the order they are first seen.

    >>> index = Index()
    >>> index.slot("A1", "M1"), index.slot("A1", "M2"), index.slot("A1", "M1")
    (0, 1, 0)
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.known: dict[str, dict[str, int]] = {}  # by area
        self.free: list[int] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def slot(self, area: str, subject: str) -> int:
        """The slot of one pair, new if need be."""
        known = self.known.setdefault(area, {})
        slot = known.get(subject)
        if slot is None:
            pair = str(area), str(subject)
            if self.free:
                slot = self.free.pop()
                self.pairs[slot] = pair
            else:
                slot = len(self.pairs)
                self.pairs.append(pair)
            known[pair[1]] = slot
        return slot

    def release(self, slots: Codes) -> None:
        """Forget some pairs; their slots are given out again."""
        for slot in slots.tolist():
            area, subject = self.pairs[slot]
            del self.known[area][subject]
            self.pairs[slot] = FREE
            self.free.append(slot)

    def slots(self, batch: Batch) -> Codes:
        """The slot of every row's area and subject."""
        known = [self.known.setdefault(area, {}) for area in batch.areas]
        names = batch.names
        found = [
            known[a].get(names[n], -1) for a, n in zip(batch.area.tolist(), batch.subject.tolist(), strict=True)
        ]  # fmt: skip
        slots = np.array(found, np.int32)
        for row in np.flatnonzero(slots < 0).tolist():
            slots[row] = self.slot(batch.areas[batch.area[row]], names[batch.subject[row]])
        return slots

    def load(self, state: list[Any]) -> None:
        """Replace everything by what `state` gave."""
        pairs = [(area, subject) for area, subject in state[0]]
        self.free = list(state[1])
        self.pairs, self.known = list(pairs), {}
        for slot, (area, subject) in enumerate(pairs):
            if (area, subject) != FREE:
                self.known.setdefault(area, {})[subject] = slot

    def state(self) -> list[Any]:
        """The pairs and the free slots, in order."""
        return [self.pairs, self.free]

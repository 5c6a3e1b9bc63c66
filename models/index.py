"""Dense slots for subjects: the same area and subject have the same slot for good."""
from __future__ import annotations

import numpy as np

from schemas.columns import Batch, Codes


class Index:
    """Numbers (area, subject) pairs in the order they are first seen.

    >>> index = Index()
    >>> index.slot("A1", "M1"), index.slot("A1", "M2"), index.slot("A1", "M1")
    (0, 1, 0)
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.known: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def slot(self, area: str, subject: str) -> int:
        """The slot of one pair, new if need be."""
        pair = (area, subject)
        slot = self.known.setdefault(pair, len(self.pairs))
        if slot == len(self.pairs):
            self.pairs.append(pair)
        return slot

    def slots(self, batch: Batch) -> Codes:
        """The slot of every row's area and subject."""
        pairs, rows = np.unique(batch.area.astype(np.int64) * len(batch.names) + batch.subject, return_inverse=True)
        areas, names = np.divmod(pairs, max(len(batch.names), 1))
        found = [self.slot(batch.areas[a], batch.names[n]) for a, n in zip(areas.tolist(), names.tolist(), strict=True)]
        return np.array(found, np.int32)[rows]

    def load(self, pairs: list[tuple[str, str]]) -> None:
        """Replace everything by a saved list of pairs."""
        self.pairs = pairs
        self.known = {pair: n for n, pair in enumerate(pairs)}

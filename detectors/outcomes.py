"""What becomes of rows: judged, rejected, duplicate or late."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import numpy as np

from detectors.section_counts import SectionCounts
from models.state.owners import Attributes
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Batch, Codes, Mask

Records = TypeVar("Records", bound=Batch)


class RowOutcomes:
    """Counts of rows by kind, outcome and reason, sums by section, and the rows that the last step rejected."""

    def __init__(self, sections: SectionCounts) -> None:
        self.sections = sections
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.rejected: list[tuple[Batch, str]] = []

    def owner(self) -> Attributes:
        """The counts."""
        counted = list[tuple[tuple[str, str, str], int]]
        return Attributes(self, counts=counted)

    def count(self, batch: Batch, outcome: str, rows: int) -> None:
        """Count rows of a batch."""
        self.counts[batch.kind, outcome, ""] += rows

    def reject(self, batch: Batch, rows: Mask, reason: str) -> None:
        """Reject rows, and count them by reason."""
        self.counts[batch.kind, "rejected", reason] += int(np.count_nonzero(rows))
        self.rejected.append((batch.select(rows), reason))

    def at_plausible_times(self, batch: Records, areas: Codes) -> tuple[Records, Codes]:
        """The rows of a batch with a plausible time, and their areas; rejects the others."""
        odd = (batch.at < EARLIEST_TIME) | (batch.at >= LATEST_TIME)
        if not odd.any():
            return batch, areas
        self.reject(batch, odd, "implausible_time")
        return batch.select(~odd), areas[~odd]

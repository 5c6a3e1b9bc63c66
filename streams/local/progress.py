"""How far a source has been read, and the counts of its rows."""

from __future__ import annotations

from collections import Counter

import msgspec

from schemas.units import DAY_SECONDS


class Progress(msgspec.Struct):
    """How far a source has been read, and the counts of its rows."""

    source: str
    batches: int = 0  # that are judged
    within: int = 0  # rows of the next batch that are judged
    first: int = 0  # event time, 0 before the first row
    last: int = 0
    seconds: float = 0.0
    meters: int = 0
    meter_days: float = 0.0  # of each meter from its first reading to its last
    shared: int = 0  # meters that stand in more than one area
    done: bool = False
    strangers: list[str] = []  # a line for each file with ids that no other file has
    # Rows by kind, outcome and reason.
    counts: dict[str, dict[str, dict[str, int]]] = {}

    @property
    def rows(self) -> int:
        """Rows read of all kinds."""
        return sum(
            outcomes.get("in", {}).get("", 0) for outcomes in self.counts.values()
        )

    @property
    def days(self) -> float:
        """Days between the first and the last row."""
        return (self.last - self.first) / DAY_SECONDS

    def count(self, rows: Counter[tuple[str, str, str]]) -> None:
        """Adds rows keyed by kind, outcome and reason."""
        for (kind, outcome, reason), count in rows.items():
            reasons = self.counts.setdefault(kind, {}).setdefault(outcome, {})
            reasons[reason] = reasons.get(reason, 0) + count

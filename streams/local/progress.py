"""How far a source has been read, and the counts of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import msgspec

from schemas.units import DAY_SECONDS


class Passed(msgspec.Struct):
    """How much of a source has been judged, for a progress bar."""

    rows: int
    expected: int  # rows of the source, about; 0 if unknown
    last: int  # event time
    seconds: float
    zone: str

    @classmethod
    def of_shards(cls, parts: Sequence[Passed]) -> Passed:
        """What the shards that have begun have judged."""
        return cls(
            rows=sum(part.rows for part in parts),
            expected=max(part.expected for part in parts),
            last=max(part.last for part in parts),
            seconds=max(part.seconds for part in parts),
            zone=parts[0].zone,
        )


class Progress(msgspec.Struct):
    """How far a source has been read, and the counts of its rows."""

    source: str
    batches: int = 0  # that are judged
    within: int = 0  # rows of the next batch that are judged
    first: int = 0  # event time, 0 before the first row
    began: int = (
        0  # event time of the first row; earlier days of a meter are another source's
    )
    last: int = 0
    seconds: float = 0.0
    meters: int = 0
    meter_days: float = 0.0  # of each meter from its first reading to its last
    shared: int = 0  # meters that stand in more than one area
    done: bool = False
    strangers: list[str] = []  # a line for each file with ids that no other file has
    meter_ids: list[
        str
    ] = []  # of a shard that is done; an id once for each of its areas
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

    def watched(self, seconds: int) -> None:
        """Adds seconds of meters; the sum is exact."""
        self.meter_days = (round(self.meter_days * DAY_SECONDS) + seconds) / DAY_SECONDS

    def count(self, rows: Counter[tuple[str, str, str]]) -> None:
        """Adds rows keyed by kind, outcome and reason."""
        for (kind, outcome, reason), count in rows.items():
            reasons = self.counts.setdefault(kind, {}).setdefault(outcome, {})
            reasons[reason] = reasons.get(reason, 0) + count


def joined_progress(parts: Sequence[Progress]) -> Progress:
    """The progress of a whole source, of all its shards."""
    if len(parts) == 1:
        return parts[0]
    whole = Progress(
        parts[0].source,
        batches=sum(part.batches for part in parts),
        within=sum(part.within for part in parts),
        first=min((part.first for part in parts if part.first), default=0),
        began=min((part.began for part in parts if part.began), default=0),
        last=max(part.last for part in parts),
        seconds=max(part.seconds for part in parts),
        meters=sum(part.meters for part in parts),
        done=all(part.done for part in parts),
        strangers=max((part.strangers for part in parts), key=len),
    )
    areas_of_ids = Counter(chain.from_iterable(part.meter_ids for part in parts))
    whole.shared = sum(areas > 1 for areas in areas_of_ids.values())

    for part in parts:
        whole.watched(round(part.meter_days * DAY_SECONDS))
        for kind, outcomes in part.counts.items():
            for outcome, reasons in outcomes.items():
                rows = {(kind, outcome, reason): n for reason, n in reasons.items()}
                whole.count(Counter(rows))
    return whole

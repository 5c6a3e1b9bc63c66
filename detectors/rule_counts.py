"""How often rules have a score, and what they cost; counted since the engine was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class RuleCounts(NamedTuple):
    """Counts by rule, and seconds by family."""

    decided: Counter[str]  # rows with a score
    undecided: Counter[str]  # rows without one, for something is unknown
    seconds: dict[str, float]  # of scoring

    def since(self, before: RuleCounts) -> RuleCounts:
        """What was counted since `before`."""
        seconds = {
            family: seconds - before.seconds.get(family, 0.0)
            for family, seconds in self.seconds.items()
        }
        return RuleCounts(
            self.decided - before.decided, self.undecided - before.undecided, seconds
        )


def no_counts() -> RuleCounts:
    """Counts at 0."""
    return RuleCounts(Counter(), Counter(), {})


def sum_of(counts: Iterable[RuleCounts]) -> RuleCounts:
    """The counts of several judges as one; another thread may count on meanwhile."""
    total = no_counts()
    for each in counts:
        total.decided.update(Counter(each.decided))
        total.undecided.update(Counter(each.undecided))
        for family, seconds in dict(each.seconds).items():
            total.seconds[family] = total.seconds.get(family, 0.0) + seconds
    return total

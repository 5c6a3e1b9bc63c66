"""Does the work move?"""
from __future__ import annotations

from detectors.rule import Level, rule
from schemas.columns import Column, Overdue


@rule(
    Overdue, severity=3, worse=(Level(1.25, 2, 0), Level(2.5, 1, 0)), title=("Stage overdue", "环节超时"),
    text=("The stage has taken {share:.0%} of its limit of {limit:.0f} s.", "该环节已用时限{limit:.0f}s的{share:.0%}。"),
)  # fmt: skip
def stage_overdue(share: Column, limit: Column, *, warn: float = 0.80) -> Column:
    """A stage nears (80 %), passes (100 %) or doubles its time limit, though nothing happens (环节超时). Catalogue 1.7."""
    return share / warn

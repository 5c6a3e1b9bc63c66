"""Whether work moves."""
from __future__ import annotations

from detectors.rule import Level, rule
from schemas.columns import Column, Overdue


@rule(
    Overdue, severity=3, worse=(Level(1.25, 2, 0), Level(2.5, 1, 0)), title=("Stage overdue", "环节超时"),
    text=("The stage has taken {share:.0%} of its {limit_hours:.0f} hours.",
          "该环节已用{limit_hours:.0f}小时时限的{share:.0%}。"),
)  # fmt: skip
def stage_overdue(share: Column, limit_hours: Column, *, warn: float = 0.80) -> Column:  # noqa: ARG001 - evidence
    """A stage nears (80 %), passes or doubles its time limit, though nothing happens (环节超时). Catalogue 1.7."""
    return share / warn

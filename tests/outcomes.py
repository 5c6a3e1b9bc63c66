"""What becomes of rows: each that comes in is judged, rejected, a duplicate or late."""

from __future__ import annotations

from collections import Counter

from detectors.engine import Engine

Outcomes = dict[str, Counter[str]]  # rows by kind and outcome


def count_outcomes(*engines: Engine) -> Outcomes:
    """Rows by kind and outcome that engines have counted together."""
    found: Outcomes = {}
    for engine in engines:
        for (kind, outcome, _), rows in engine.counts.items():
            if outcome not in ("implausible", "flagged"):
                found.setdefault(kind, Counter())[outcome] += rows
    return found


def order_independent(outcomes: Outcomes) -> Outcomes:
    """What is the same however topics interleave.

    A payment, a line or a device event that comes again as what is known of it is let go counts as a duplicate or as
    late by how far readings have moved the area's clock meanwhile; its alerts are the same.
    """
    found = {kind: Counter(rows) for kind, rows in outcomes.items()}
    for kind in ("payments", "events"):
        if rows := found.get(kind):
            rows["late"] += rows.pop("duplicate", 0)
    return found


def balanced(outcomes: Outcomes) -> None:
    """Every row that came in has exactly one fate."""
    for kind, rows in outcomes.items():
        assert (
            rows["in"]
            == rows["judged"] + rows["rejected"] + rows["duplicate"] + rows["late"]
        ), (kind, rows)

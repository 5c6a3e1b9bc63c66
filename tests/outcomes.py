"""The outcomes of rows: every row that comes in is judged, rejected, a duplicate or late."""

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
    """The outcomes that are the same however topics interleave.

    A payment, settlement or device event may come twice when the memory of the first is about to end. The second is
    then a duplicate or late, by how far readings have moved the area's watermark. Its alerts are the same.
    """
    found = {kind: Counter(rows) for kind, rows in outcomes.items()}
    for kind in ("payments", "events"):
        if rows := found.get(kind):
            rows["late"] += rows.pop("duplicate", 0)
    return found


def balanced(outcomes: Outcomes) -> None:
    """Fails unless every row that came in has exactly one outcome."""
    for kind, rows in outcomes.items():
        counted = rows["judged"] + rows["rejected"] + rows["duplicate"] + rows["late"]
        assert rows["in"] == counted, (kind, rows)

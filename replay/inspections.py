"""Labels as inspections: each finding under an id, so that it may be published again and replaces itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from detectors.rule import ALL_RULES
from replay.history import Tally
from replay.labels import Label, judged_rules, known_labels, utc_text
from replay.observed import Observed
from schemas.columns import LATEST_TIME
from schemas.inspection import Inspection
from schemas.master import Area
from schemas.wire import JSON_CONTENT_TYPE, decode_inspections

OFFICE_FAMILIES = ("payments", "workflow")
OFFICE_RULES = frozenset(
    name for name, rule in ALL_RULES.items() if rule.family in OFFICE_FAMILIES
)
"""Rules of which the registry need not have the subjects: channels and work items."""


def registered_labels(
    labels: Iterable[Label], areas: Iterable[Area], tally: Tally
) -> list[Label]:
    """The labels of subjects that the registry has, and of channels and work items; the others are refused."""
    labels = list(labels)
    of_office = [label for label in labels if label.rules <= OFFICE_RULES]
    of_meters = [label for label in labels if not label.rules <= OFFICE_RULES]
    known = known_labels(of_meters, Observed(areas), tally, "the registry")
    return [*known, *of_office]


def inspections_of(labels: Iterable[Label], tally: Tally) -> list[Inspection]:
    """Labels as inspections; one that a reader of the topic would reject is refused.

    A label without an id has that of its place and time; if several have the same, they are numbered.
    """
    found: dict[str, Inspection] = {}
    counts: Counter[str] = Counter()
    for label in labels:
        place = " ".join(filter(None, (label.area, label.subject)))
        name = label.inspection or f"{place} {utc_text(label.since)}"
        counts[name] += 1
        if not label.inspection and counts[name] > 1:
            name = f"{name} {counts[name]}"
        if name in found:
            reason = "an earlier row has the same inspection (give each its own id)"
            tally.reject(reason, f"{label.where}: {name!r}")
            continue

        inspection = _inspection(name, label)
        value = msgspec.json.encode(inspection)
        _, rejections = decode_inspections([(None, value, JSON_CONTENT_TYPE, 0)])
        for rejection in rejections:
            tally.reject(rejection.detail, label.where)
        if not rejections:
            found[name] = inspection
    return list(found.values())


def _inspection(name: str, label: Label) -> Inspection:
    """A label as the inspection of a name; rules that its outcome judges are left out."""
    by_outcome = label.rules == judged_rules(label.outcome)
    return Inspection(
        inspection=name,
        subject=label.subject,
        area=label.area,
        since=label.since,
        until=0 if label.until == LATEST_TIME else label.until,
        outcome=label.outcome,
        verdict=label.verdict,
        source=label.source,
        inclusion=label.inclusion,
        rules=[] if by_outcome else sorted(label.rules),
        echoes=sorted(label.echoes),
    )

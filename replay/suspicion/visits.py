"""Visits: labels of customers with what was found, and what was known of the customer when the day began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from replay.history import Tally
from replay.labels import Label
from replay.suspicion.watch import Known, WatchedCustomers, visit_day
from schemas.columns import LATEST_TIME, Codes, Column, Mask, Times
from schemas.inspection import OUTCOME_CODES

THEFT_GROUP = "theft"
OTHER_WORK = ("billing", "grid", "late")  # groups of outcomes that no visit finds
LEAST_VISITS = 30  # that found theft, and that found none


class TooFewVisitsError(ValueError):
    """Too few visits to learn from; says how many there are."""


@dataclass(frozen=True)
class Visits:
    """Visits by date; row i of every column is a visit."""

    facts: Column  # (visits, facts)
    found: Mask  # True where it found theft
    weights: Column  # 1 / the chance with which the customer was chosen
    customers: Codes  # the same number for the same customer
    days: Times  # the midnight that began its day
    alerts: Column  # of all rules, that stood before it

    def __len__(self) -> int:
        return len(self.found)

    @property
    def thefts(self) -> int:
        """How many found theft."""
        return int(self.found.sum())


def labels_of_visits(labels: Iterable[Label], tally: Tally) -> list[Label]:
    """The labels that say whether a visit found theft, and when; the others are refused."""
    fine = []
    for label in labels:
        group = OUTCOME_CODES[label.outcome].group
        reason = ""
        if label.verdict == "cannot_tell" or group == "unknown":
            reason = "the visit found no answer"
        elif group in OTHER_WORK:
            reason = "the label is of no visit to a customer"
        elif label.until >= LATEST_TIME:
            reason = "the label has no until (write the time of the visit)"

        if reason:
            tally.reject(reason, f"{label.where}: {label.subject!r}")
        else:
            fine.append(label)
    return fine


def visits_of(
    watched: WatchedCustomers, labels: Sequence[Label], tally: Tally
) -> Visits:
    """The visits of labels of which enough is known; the others are refused. Raises TooFewVisitsError."""
    usable = set(map(id, labels))
    rows: list[tuple[Label, Known]] = []
    for label, known in watched.visited:
        if id(label) not in usable:
            continue
        if known:
            rows.append((label, known))
            continue
        ended = visit_day(label, watched.source.zone) > watched.last
        reason = (
            "the history ends before the visit"
            if ended
            else "nothing is known of the customer before the visit, or several areas have the id"
        )
        tally.reject(reason, f"{label.where}: {label.subject!r}")

    numbers: dict[tuple[str, str], int] = {}
    customers = [numbers.setdefault(known.place, len(numbers)) for _, known in rows]
    found = [_found_theft(label) for label, _ in rows]
    thefts = sum(found)
    others = len(found) - sum(found)
    if min(thefts, others) < LEAST_VISITS:
        why = "; ".join(tally.reasons(tally.rejected))
        raise TooFewVisitsError(
            f"suspicion needs {LEAST_VISITS} visits that found theft and {LEAST_VISITS} that found none, "
            f"and has {thefts} and {others}: give more labels or a longer history{why and f' (refused: {why})'}"
        )
    days = [visit_day(label, watched.source.zone) for label, _ in rows]
    return Visits(
        facts=np.stack([known.facts for _, known in rows]),
        found=np.array(found),
        weights=np.array([1 / label.inclusion for label, _ in rows]),
        customers=np.array(customers),
        days=np.array(days),
        alerts=np.array([known.alerts for _, known in rows]),
    )


def _found_theft(label: Label) -> bool:
    """True if a visit found theft."""
    is_theft = OUTCOME_CODES[label.outcome].group == THEFT_GROUP
    return is_theft and label.verdict == "true"

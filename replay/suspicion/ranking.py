"""Customers ranked by a model of suspicion, with the reasons that weigh most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from replay.suspicion.features import ALL_FACTS, FACT_PLACES
from replay.suspicion.watch import Known
from schemas.columns import Column
from schemas.suspicion import SuspicionModel

MOST_DEVIATIONS = 4.0  # standard deviations that a fact counts at most
REASON_COUNT = 3  # of a customer, at most


class SuspicionReason(NamedTuple):
    """A fact that raises suspicion."""

    fact: str
    value: float  # as people read it
    usual: float  # of the customers that were visited
    weight: float  # log odds that it adds


@dataclass(frozen=True)
class Suspect:
    """A customer in the ranking."""

    rank: int  # from 1
    area: str
    customer: str
    chance: float  # that a visit finds theft
    reasons: list[SuspicionReason]  # the strongest first


def unknown_facts(model: SuspicionModel) -> list[str]:
    """The features of a model that are no facts of this program."""
    return [each.name for each in model.features if each.name not in ALL_FACTS]


def contributions(model: SuspicionModel, facts: Column) -> Column:
    """The log odds that each feature of a model adds; shape (customers, features). An unknown fact adds 0."""
    columns = [FACT_PLACES[each.name] for each in model.features]
    mean = np.array([each.mean for each in model.features])
    scale = np.array([each.scale for each in model.features])
    weight = np.array([each.weight for each in model.features])
    deviation = facts[:, columns] - mean
    standard = np.nan_to_num(deviation / scale)
    added: Column = standard.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS) * weight
    return added


def chances_of(model: SuspicionModel, facts: Column) -> Column:
    """The chance that a visit finds theft, by customer."""
    odds = contributions(model, facts).sum(axis=1) + model.bias
    return np.asarray(1 / (1 + np.exp(-odds)))


def ranked(model: SuspicionModel, customers: Sequence[Known]) -> list[Suspect]:
    """All customers, the most suspect first; those of one chance by area and name."""
    if not customers:
        return []
    facts = np.stack([known.facts for known in customers])
    added = contributions(model, facts)
    chances = chances_of(model, facts)
    order = sorted(
        range(len(customers)), key=lambda row: (-chances[row], customers[row].place)
    )

    return [
        Suspect(
            rank,
            *customers[row].place,
            float(chances[row]),
            _reasons(model, added[row], facts[row]),
        )
        for rank, row in enumerate(order, 1)
    ]


def _reasons(
    model: SuspicionModel, added: Column, facts: Column
) -> list[SuspicionReason]:
    """The facts that add most, if they add."""
    strongest = np.argsort(-added, kind="stable")[:REASON_COUNT].tolist()
    reasons = []
    for number in strongest:
        if added[number] <= 0:
            continue
        feature = model.features[number]
        shown = ALL_FACTS[feature.name].shown
        value = float(facts[FACT_PLACES[feature.name]])
        reasons.append(
            SuspicionReason(
                feature.name, shown(value), shown(feature.mean), float(added[number])
            )
        )
    return reasons

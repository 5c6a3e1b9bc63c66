"""The sweep of one rule's settings: a rulebook for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from detectors.rule import Rule
from detectors.rulebook import PUBLISHED_STATUS, edited, unknown_entries
from replay.tuning import AlertBudget, Point, Swept, budget_of, grid, swept_of
from schemas.rules import Edition, Rulebook


class Sweep(NamedTuple):
    """The settings of one rule that are tried, and the alerts that are allowed."""

    rule: str
    points: list[Point]  # the first is in force
    rulebooks: list[Rulebook]  # by point
    budget: AlertBudget | None  # None: as many alerts as in force


def sweep_of(
    name: str,
    texts: Sequence[str],
    budget: str,
    rulebook: Rulebook,
    limits: Mapping[str, Rule],
) -> Sweep:
    """The sweep of a rule, which is judged as published. Raises ValueError, which names the settings that there are."""
    edition = rulebook.rules.get(name)
    if faults := unknown_entries(Rulebook({name: _blank_edition()}), limits):
        raise ValueError(faults[0])
    rule = edited(limits[name], edition)
    if not texts:
        raise ValueError(f"give --set NAME=VALUES: {name} has {_settings_text(rule)}")

    sweeps = [swept_of(text) for text in texts]
    base = edition or msgspec.structs.replace(_blank_edition(), version=rule.version)
    base = msgspec.structs.replace(base, status=PUBLISHED_STATUS)
    now = {swept.name: _value_in_force(rule, swept) for swept in sweeps}
    points = [now, *(point for point in grid(sweeps) if point != now)]
    editions = [base, *(_tuned_edition(base, point) for point in points[1:])]
    rulebooks = [Rulebook({**rulebook.rules, name: each}) for each in editions]
    for each in editions:
        if faults := unknown_entries(Rulebook({name: each}), limits):
            raise ValueError(f"--set: {faults[0]}")
    return Sweep(name, points, rulebooks, budget_of(budget) if budget else None)


def _blank_edition() -> Edition:
    """A rule as in code, published."""
    return Edition(status=PUBLISHED_STATUS, version=1)


def _settings_text(rule: Rule) -> str:
    """The settings of a rule with their values."""
    settings = (f"{name} ({value:g})" for name, value in rule.settings.items())
    return ", ".join(settings) or "no settings"


def _value_in_force(rule: Rule, swept: Swept) -> float:
    """The value of a setting now; NaN if the rule has no such setting."""
    segment, _, name = swept.name.rpartition(".")
    value = rule.settings.get(name, float("nan"))
    return float(rule.segments.get(segment, {}).get(name, value))


def _tuned_edition(base: Edition, point: Point) -> Edition:
    """An edition with the values of a point, not yet proposed by anybody."""
    settings = dict(base.settings)
    segments = {segment: dict(values) for segment, values in base.segments.items()}
    for key, value in point.items():
        segment, _, name = key.rpartition(".")
        (segments.setdefault(segment, {}) if segment else settings)[name] = value
    return msgspec.structs.replace(
        base,
        version=base.version + 1,
        settings=settings,
        segments=segments,
        proposed_by="",
        approved_by="",
        approved_at=None,
    )

"""Several rule sets judge the same rows in one pass: each has the alerts that an engine with this set alone gives.

What depends on no rule is done once: validation, open days, features and timelines. A rule that sets share is judged
once, and each set has a policy of its own. Rules change two things that other rules see: the fleet model, and the ended
items of timelines that an open alert keeps. Sets that differ there are judged by an engine each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

from detectors.engine import Engine
from detectors.pipelines import AllTimelines
from detectors.rule import Rule, fleet_model_of, judged_rules
from detectors.shared_publication import SharedPublication, distinct_rules
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.master import Area
from schemas.use_class import UseClassModel

TIMELINE_KINDS = frozenset(
    timelines.kind for timelines in get_type_hints(AllTimelines).values()
)


class Variants:
    """Judges by several rule sets, in as few engines as may be."""

    def __init__(
        self,
        rule_sets: Sequence[Sequence[Rule]],
        *,
        zone: str,
        interval: int,
        has_brakes: bool = True,
    ) -> None:
        """Raises ValueError unless all sets name the same rules in the same order."""
        names = {tuple(map(attrgetter("name"), rules)) for rules in rule_sets}
        if len(names) != 1:
            raise ValueError("rule sets of one pass name the same rules in one order")
        engine_of = partial(Engine, zone=zone, interval=interval, has_brakes=has_brakes)
        self._passes = [
            _SharedPass(numbers, rule_sets, engine_of)
            for numbers in _sharing(rule_sets)
        ]

    @property
    def engines(self) -> int:
        """How many engines judge."""
        return len(self._passes)

    @property
    def lead(self) -> Engine:
        """The engine of the first set, by which rows and meters are counted."""
        return self._passes[0].engine

    def enroll(self, areas: Iterable[Area]) -> None:
        """Replace the master data of `areas`."""
        areas = list(areas)
        for shared in self._passes:
            shared.engine.enroll(areas)

    def step(self, batch: Batch) -> list[list[Alert]]:
        """Judge a batch; the alerts by rule set, those in shadow last."""
        by_number: dict[int, list[Alert]] = {}
        for shared in self._passes:
            by_number |= zip(shared.numbers, shared.step(batch), strict=True)
        return [by_number[number] for number in sorted(by_number)]


class _SharedPass:
    """An engine that judges by all rules of some sets, of which it has the numbers."""

    def __init__(
        self,
        numbers: Sequence[int],
        rule_sets: Sequence[Sequence[Rule]],
        engine_of: Callable[..., Engine],
    ) -> None:
        self.numbers = numbers
        own_sets = [rule_sets[number] for number in numbers]
        rules, names = distinct_rules(own_sets)

        def publication_of(
            _: Iterable[Rule], section: Callable[[str], str], has_brakes: bool
        ) -> SharedPublication:
            self._publication = SharedPublication(own_sets, names, section, has_brakes)
            return self._publication

        self.engine = engine_of(rules, publication_of=publication_of)

    def step(self, batch: Batch) -> list[list[Alert]]:
        """Judge a batch; the alerts by rule set."""
        self.engine.step(batch)
        return self._publication.published()


class _Unshared(NamedTuple):
    """What rules change that other rules see: the fleet model, and how long ended items are kept."""

    model: UseClassModel | None
    keeping: list[tuple[Any, ...]]  # what decides when alerts on timelines are open


def _sharing(rule_sets: Sequence[Sequence[Rule]]) -> list[list[int]]:
    """The numbers of the sets that share an engine, by engine; the first engine has the first set."""
    groups: list[tuple[_Unshared, list[int]]] = []
    for number, rules in enumerate(rule_sets):
        unshared = _unshared(judged_rules(rules))
        group = next((numbers for own, numbers in groups if own == unshared), None)
        if group is None:
            groups.append((unshared, [number]))
        else:
            group.append(number)
    return [numbers for _, numbers in groups]


def _unshared(rules: Sequence[Rule]) -> _Unshared:
    """What a rule set changes that other rules see."""
    keeping = [
        (rule.name, rule.settings, rule.segments, rule.levels, rule.clear, rule.release)
        for rule in rules
        if rule.kind in TIMELINE_KINDS
    ]
    return _Unshared(fleet_model_of(rules), keeping)

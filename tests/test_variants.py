"""Rule sets that share a pass: each has the alerts that an engine with this set alone gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given

from detectors.engine import Engine
from detectors.rule import Rule
from detectors.variants import Variants
from schemas.alert import Alert
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import (
    Stream,
    shuffled,
    straggling,
    town,
    with_work_items,
)
from tests.casebook import rules_with_models
from tests.test_promises import ANY_SEED, examples

DRAWN_STATUSES = ("published", "published", "published", "shadow", "draft")
MANY = slice(None)


def drawn_rules(rng: np.random.Generator, share: float) -> list[Rule]:
    """All rules, a share of them with other settings, holds, levels and status."""
    return [
        drawn_edition(rule, rng) if rng.random() < share else rule
        for rule in rules_with_models()
    ]


def drawn_edition(rule: Rule, rng: np.random.Generator) -> Rule:
    """A rule with drawn settings, a drawn hold and a drawn status."""
    settings = {
        name: value * float(rng.choice([0.5, 0.9, 1.0, 1.2]))
        for name, value in rule.settings.items()
    }
    first, *worse = rule.levels
    hold = int(rng.choice([0, HOUR_SECONDS, first.hold]))
    return replace(
        rule,
        settings=settings,
        levels=(first._replace(hold=hold), *worse),
        status=str(rng.choice(DRAWN_STATUSES)),
        version=rule.version + int(rng.integers(2)),
    )


def alone(stream: Stream, rules: Sequence[Rule], cuts: Sequence[int]) -> list[Alert]:
    """The alerts of an engine with one rule set."""
    engine = Engine(rules, zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)
    alerts: list[Alert] = []
    for batch in stream.batches(cuts):
        alerts += [*engine.step(batch), *engine.shadowed]
    return alerts


def together(
    stream: Stream, rule_sets: Sequence[Sequence[Rule]], cuts: Sequence[int]
) -> list[list[Alert]]:
    """The alerts by rule set of one pass."""
    variants = Variants(rule_sets, zone=stream.zone, interval=stream.interval)
    variants.enroll(stream.areas)
    alerts: list[list[Alert]] = [[] for _ in rule_sets]
    for batch in stream.batches(cuts):
        for own, published in zip(alerts, variants.step(batch), strict=True):
            own += published
    return alerts


def assert_parity(
    stream: Stream, rule_sets: Sequence[Sequence[Rule]], cuts: Sequence[int]
) -> None:
    """Every message of every set is the same, in the same order."""
    shared = together(stream, rule_sets, cuts)
    for rules, alerts in zip(rule_sets, shared, strict=True):
        assert alerts == alone(stream, rules, cuts)


@examples(6)
@given(ANY_SEED)
def test_sets_of_one_pass_do_not_see_one_another(seed):
    rng = np.random.default_rng(seed)
    stream = with_work_items(town(seed), seed)
    stream = straggling(
        shuffled(stream, seed, HOUR_SECONDS), seed, HOUR_SECONDS, DAY_SECONDS
    )
    cuts = rng.integers(len(stream.rows), size=int(rng.choice([0, 5, 40]))).tolist()
    rule_sets = [rules_with_models(), *(drawn_rules(rng, 0.3) for _ in range(2))]
    assert_parity(stream, rule_sets, cuts)

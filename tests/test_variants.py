"""Rule sets that share a pass: each has the alerts that an engine with this set alone gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from detectors.shared_publication import distinct_rules
from detectors.variants import TIMELINE_KINDS, Variants
from schemas.alert import Alert
from schemas.columns import Batch, Readings
from schemas.master import Area
from schemas.rules import EditionStatus
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import Stream, shuffled, straggling, town, with_work_items
from tests.casebook import rules_with_models
from tests.test_promises import ANY_SEED, examples

DRAWN_STATUSES: tuple[EditionStatus, ...] = (
    "published",
    "published",
    "shadow",
    "draft",
)


def drawn_rules(
    seed: int, *, share: float = 0.4, shares_engine: bool = False
) -> list[Rule]:
    """All rules, a share of them edited; none whose edition takes an engine of its own if `shares_engine`."""
    rng = np.random.default_rng(seed)
    return [
        rule
        if rng.random() > share or (shares_engine and takes_an_engine(rule))
        else drawn_edition(rule, rng)
        for rule in rules_with_models()
    ]


def takes_an_engine(rule: Rule) -> bool:
    """Whether sets that differ in the rule cannot share an engine."""
    return rule.kind in TIMELINE_KINDS or rule.model is not None


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
        status=DRAWN_STATUSES[rng.integers(len(DRAWN_STATUSES))],
        version=rule.version + int(rng.integers(2)),
    )


def batches_of(
    stream: Stream, cuts: Sequence[int], moved: Sequence[Area] = ()
) -> list[Batch | Sequence[Area]]:
    """The batches of a stream; half-way the areas are enrolled as `moved` has them."""
    batches: list[Batch | Sequence[Area]] = list(stream.batches(cuts))
    middle = len(batches) // 2
    return [*batches[:middle], moved, *batches[middle:]]


def alone(
    stream: Stream, rules: Sequence[Rule], batches: Sequence[Batch | Sequence[Area]]
) -> list[Alert]:
    """The alerts of an engine with one rule set."""
    engine = Engine(rules, zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)
    alerts: list[Alert] = []
    for batch in batches:
        if isinstance(batch, Batch):
            alerts += [*engine.step(batch), *engine.shadowed]
        else:
            engine.enroll(batch)
    return alerts


def assert_parity(
    stream: Stream,
    rule_sets: Sequence[Sequence[Rule]],
    batches: Sequence[Batch | Sequence[Area]],
) -> None:
    """Every message of every set is that of an engine alone, in the same order."""
    variants = Variants(rule_sets, zone=stream.zone, interval=stream.interval)
    variants.enroll(stream.areas)
    shared: list[list[Alert]] = [[] for _ in rule_sets]
    for batch in batches:
        if isinstance(batch, Batch):
            for alerts, published in zip(shared, variants.step(batch), strict=True):
                alerts.extend(published)
        else:
            variants.enroll(batch)

    for rules, alerts in zip(rule_sets, shared, strict=True):
        assert alerts == alone(stream, rules, batches)


@examples(3)
@given(ANY_SEED)
def test_sets_of_one_pass_do_not_see_one_another(seed):
    rng = np.random.default_rng(seed)
    stream = shuffled(with_work_items(town(seed), seed), seed, HOUR_SECONDS)
    stream = straggling(stream, seed, HOUR_SECONDS, DAY_SECONDS)
    cuts = rng.integers(len(stream.rows), size=int(rng.choice([5, 40]))).tolist()
    rule_sets = [
        rules_with_models(),
        drawn_rules(seed, shares_engine=True),
        drawn_rules(seed + 1),
    ]
    assert_parity(stream, rule_sets, batches_of(stream, cuts))


def test_episodes_of_meters_that_leave_end_in_every_set():
    stream = town(7, interval=3600)
    moved = [
        msgspec.structs.replace(area, meters=area.meters[:1]) for area in stream.areas
    ]
    rule_sets = [rules_with_models(), drawn_rules(7, share=0.9, shares_engine=True)]
    cuts = range(0, len(stream.rows), 50)
    assert_parity(stream, rule_sets, batches_of(stream, cuts, moved))


def test_a_rule_is_judged_once_for_the_sets_that_have_it():
    code = list(ALL_RULES.values())
    tuned = edited("zero_usage", version=2)
    retired = edited("zero_usage", status="retired")
    rules, names = distinct_rules([code, tuned, code, retired])

    judged = [rule for rule in code if rule.status in ("published", "shadow")]
    assert len(rules) == len(judged) + 1
    assert names[0] == names[2] == {rule.name: rule.name for rule in judged}
    (other,) = {rule.name for rule in rules} - names[0].keys()
    assert names[1] == {
        other if name == "zero_usage" else name: name for name in names[0]
    }
    assert names[3].keys() == names[0].keys() - {"zero_usage"}


def edited(name: str, **fields: Any) -> list[Rule]:
    """The rules of the code, one of them otherwise."""
    return [
        replace(rule, **fields) if rule.name == name else rule
        for rule in ALL_RULES.values()
    ]


@pytest.mark.parametrize(
    ("other", "engines"),
    [
        (edited("zero_usage", clear=0.5), 1),
        (edited("stage_overdue", version=2), 1),
        (edited("stage_overdue", release=HOUR_SECONDS), 2),
        (rules_with_models(), 2),
    ],
)
def test_sets_share_an_engine_unless_other_rules_would_see_it(other, engines):
    rule_sets = [list(ALL_RULES.values()), other]
    assert Variants(rule_sets, zone="Asia/Shanghai", interval=900).engines == engines


def test_sets_that_name_other_rules_are_refused():
    rules = list(ALL_RULES.values())
    with pytest.raises(ValueError, match="the same rules in one order"):
        Variants([rules, rules[::-1]], zone="Asia/Shanghai", interval=900)


def test_rules_with_the_same_scores_are_scored_once(monkeypatch):
    stream = town(3, interval=7200)
    scored = []
    score = Rule.score

    def noted(rule, columns, missing):
        scored.append(rule.name)
        return score(rule, columns, missing)

    monkeypatch.setattr(Rule, "score", noted)
    name = "voltage_deviation"
    held = edited(name, levels=(ALL_RULES[name].levels[0]._replace(hold=60),))
    rule_sets = [list(ALL_RULES.values()), held]
    variants = Variants(rule_sets, zone=stream.zone, interval=stream.interval)
    variants.enroll(stream.areas)
    variants.step(stream.batch_by_kind[Readings])
    assert name in scored
    assert not [each for each in scored if each.startswith(f"{name} ")]


def test_rules_that_read_other_columns_are_scored_apart():
    loss = ALL_RULES["voltage_loss"]
    renamed = replace(loss, name="other", reads=("u", *loss.reads[1:][::-1]))
    assert loss.scores_like(replace(loss, name="other", version=9))
    assert not loss.scores_like(renamed)

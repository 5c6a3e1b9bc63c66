"""Which rules a history can be judged by: those that tell something of it, and no others."""
from __future__ import annotations

import pytest

from detectors.needs import Needs
from detectors.rule import RULES
from tests.casebook import Case, batches, casebook, master, rules_with_a_file


def lacking(rule: str, case: Case) -> list[str]:
    """What a rule lacks to judge a case."""
    needs = Needs([master(case)] if case.known else [], "Asia/Shanghai", case.interval)
    for batch in batches(case):
        needs.step(batch)
    return needs.lacks(rule)


def first(rule: str, shows: str) -> Case:
    return next(case for case in casebook(rule).case if case.shows == shows and not case.now)


def has(rule: str, shows: str) -> bool:
    return any(case.shows == shows and not case.now for case in casebook(rule).case)


HAVE_ONE = [rule for rule in rules_with_a_file() if not RULES[rule].modelled and has(rule, "fires")]


@pytest.mark.parametrize("rule", HAVE_ONE)
def test_a_rule_that_fires_lacks_nothing(rule):
    assert lacking(rule, first(rule, "fires")) == []


@pytest.mark.parametrize("rule", [rule for rule in HAVE_ONE if has(rule, "cannot tell")])
def test_a_rule_that_cannot_tell_says_what_it_lacks(rule):
    assert lacking(rule, first(rule, "cannot tell"))


def test_a_rule_that_needs_a_model_says_so():
    assert lacking("tariff_misuse", first("zero_usage", "fires")) == ["a fleet model"]


def test_what_is_lacking_is_named():
    needs = Needs([], "UTC", 900)
    assert needs.lacks("arrears_tier") == ["bills"]
    assert needs.lacks("magnetic_field") == ["device events"]

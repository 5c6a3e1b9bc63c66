"""Which rules can judge a history: rules that need data it lacks are named."""

from __future__ import annotations

import re

import pytest

from detectors.needs import Needs
from detectors.rule import ALL_RULES
from replay.cases.case import Case, batches, master_data
from replay.simulation.network import START_TIME
from schemas.columns import KIND_COLUMNS, Readings
from schemas.master import Area, Meter
from tests.casebook import casebook, rules_with_a_file


def lacking(rule: str, case: Case) -> list[str]:
    """The data that a rule lacks to judge a case."""
    needs = Needs(
        [master_data(case)] if case.known else [], "Asia/Shanghai", case.interval
    )
    for batch in batches(case):
        needs.step(batch)
    return needs.lacks(rule)


def first_case(rule: str, shows: str) -> Case:
    return next(
        case for case in casebook(rule).case if case.shows == shows and not case.now
    )


def has_case(rule: str, shows: str) -> bool:
    return any(case.shows == shows and not case.now for case in casebook(rule).case)


FIRING_RULES = [
    rule
    for rule in rules_with_a_file()
    if not ALL_RULES[rule].modelled and has_case(rule, "fires")
]


@pytest.mark.parametrize("rule", FIRING_RULES)
def test_a_rule_that_fires_lacks_nothing(rule):
    assert lacking(rule, first_case(rule, "fires")) == []


@pytest.mark.parametrize(
    "rule", [rule for rule in FIRING_RULES if has_case(rule, "cannot tell")]
)
def test_rule_that_cannot_tell_names_what_it_lacks(rule):
    assert lacking(rule, first_case(rule, "cannot tell"))


def test_rule_that_needs_a_model_lacks_it():
    assert lacking("tariff_misuse", first_case("zero_usage", "fires")) == [
        "a fleet model"
    ]


def test_missing_data_is_named():
    needs = Needs([], "UTC", 900)
    assert needs.lacks("arrears_tier") == ["bills"]
    assert needs.lacks("magnetic_field") == ["device events"]


def test_data_that_a_rule_on_readings_lacks_is_a_column_of_files():
    meter = Meter(meter="M1", wiring="3P4W", contract_kva=8.0, pv_kva=0.0)
    needs = Needs([Area(area="A1", meters=[meter])], "UTC", 900)
    needs.step(
        Readings.build(("M1",), [0], ("A1",), [0], [START_TIME + 900], frequency=[50.0])
    )

    lacking_data = {
        word
        for name, rule in needs.rules.items()
        if rule.kind is Readings
        for word in needs.lacks(name)
        if not word.endswith("of the master data")
    }
    named = {name for words in lacking_data for name in re.split(", or | and ", words)}
    assert {"u", "i", "p", "q", "flags", "register"} <= named
    assert named <= KIND_COLUMNS[Readings].keys()

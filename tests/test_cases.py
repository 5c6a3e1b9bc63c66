"""Every rule has a file of cases, and every case ends as the file says."""

from __future__ import annotations

import pytest

import detectors  # noqa: F401 - its rules come with it
from detectors.rule import ALL_RULES
from replay.cases.judging import CASE_KINDS, faults
from tests.casebook import casebook, rules_with_a_file, run_case

CASE_BOOKS = {rule: casebook(rule) for rule in rules_with_a_file()}
ALL_CASES = [
    pytest.param(rule, n, id=f"{rule}: {case.name}")
    for rule, book in CASE_BOOKS.items()
    for n, case in enumerate(book.case)
]


def test_every_rule_has_a_case_file_and_every_file_a_rule():
    without_file = sorted(ALL_RULES.keys() - CASE_BOOKS.keys())
    without_rule = sorted(CASE_BOOKS.keys() - ALL_RULES.keys())
    assert not without_file, (
        "tests/cases/ needs a file of each; CONTRIBUTING.md says how"
    )
    assert not without_rule, "no rule has the name of the file"


@pytest.mark.parametrize("rule", CASE_BOOKS)
def test_case_file_shows_what_an_expert_asks_for(rule):
    book = CASE_BOOKS[rule]
    shown = [case.shows for case in book.case]
    assert set(shown) <= set(CASE_KINDS), f"a case shows one of {', '.join(CASE_KINDS)}"
    assert set(shown) >= {"fires", "near miss", "cannot tell", "clears"}
    assert all((book.meaning, book.inspector, book.false_positive))
    assert set(book.worse) <= set(ALL_RULES[rule].reads)
    assert set(book.worse.values()) <= {"higher", "lower"}


@pytest.mark.parametrize(("rule", "n"), ALL_CASES)
def test_case(rule, n):
    alerts, recording = run_case(rule, n)
    assert not "\n".join(faults(CASE_BOOKS[rule].case[n], alerts, recording))

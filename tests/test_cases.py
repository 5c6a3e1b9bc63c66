"""Every rule has a file of cases, and every case ends as the file says."""

from __future__ import annotations

import pytest

import detectors  # noqa: F401 - its rules come with it
from detectors.rule import ALL_RULES
from tests.casebook import (
    CASE_KINDS,
    alert_rows,
    casebook,
    expected,
    format_table,
    rules_with_a_file,
    run_case,
)

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
        "tests/cases/ needs a file of each; tests/casebook.py says how"
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
    case = CASE_BOOKS[rule].case[n]
    alerts, watched = run_case(rule, n)
    want = expected(case)
    columns = tuple(want[0]) if want else ()
    got = alert_rows(alerts, columns) if want else alert_rows(alerts)

    assert format_table(got) == format_table(want)
    assert not case.says or case.says in (alerts[0].en, alerts[0].zh)

    changes = {alert.change for alert in alerts}
    if case.shows == "fires":
        assert "raised" in changes
    elif case.shows == "clears":
        assert "cleared" in changes
    elif case.shows == "cannot tell":
        assert not watched.judged_anything(), "the rule has an answer"
    elif case.shows == "near miss":
        assert not alerts
        assert watched.judged_anything(), (
            "silent for lack of data, not because all is well"
        )

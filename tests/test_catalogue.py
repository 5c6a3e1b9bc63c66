"""The page of all rules is that of the rules, and every rule has what a reader asks for."""

from __future__ import annotations

import re
import tomllib

import pytest

from detectors.catalogue import PAGE, RULEBOOK, entry, notes, page, rulebook
from detectors.rule import RULES
from detectors.rulebook import applied, changes, problems, unapproved
from schemas.rules import rulebook_of


def test_page_and_rulebook_are_as_the_rules_make_them():
    for path, text in ((PAGE, page()), (RULEBOOK, rulebook())):
        assert path.read_text("utf-8") == text, f"`python -m detectors.catalogue` writes {path.name} anew"


def test_the_rulebook_has_every_rule_and_changes_none():
    book = rulebook_of(tomllib.loads(rulebook()))
    assert book.rules.keys() == RULES.keys()
    assert problems(book) == unapproved(book) == []
    assert changes(book) == {}
    assert applied(book) == list(RULES.values())


def test_a_rule_has_a_line_in_the_tables_and_a_part_of_its_own():
    lines = page().splitlines()
    for rule in RULES:
        assert sum(f"](#{rule})" in line for line in lines) == 1
        assert lines.count(f"## {rule}") == 1


@pytest.mark.parametrize("name", RULES)
def test_all_of_a_rule_is_told(name):
    rule, text = RULES[name], "\n".join(entry(RULES[name], notes(name)))
    assert all(f"`{column}`" in text for column in rule.reads)
    assert all(re.search(rf"`{setting}` -?[\d.]", text) for setting in rule.settings)
    assert all(f"In the segment {segment}: " in text for segment in rule.segments)
    assert all(said in text for said in (*rule.title, *rule.text, notes(name).meaning, notes(name).inspector))

"""The case files of the project's rules; replay/cases/ reads and judges them.

A file explains the rule, its false positives and the inspector's task. Its cases are master data and rows in, alerts
out; replay/cases/tables.py explains the tables.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache, lru_cache

import msgspec

from detectors.rule import ALL_RULES, Rule
from detectors.rule_notes import CASES_FOLDER, Notes
from replay.cases.case import Case
from replay.cases.judging import RecordingRule, judged
from schemas.alert import Alert
from schemas.use_class import UseClassModel

MOST_CASES = 100  # kept after they were run


class Casebook(Notes, forbid_unknown_fields=True, kw_only=True):
    """A domain expert's notes and cases for a rule."""

    worse: dict[str, str]  # columns in which trouble has a direction: higher or lower
    model: UseClassModel | None = None  # of a rule that judges by a model
    case: list[Case]


def rules_with_a_file() -> list[str]:
    return sorted(path.stem for path in CASES_FOLDER.glob("*.toml"))


@cache
def casebook(rule: str) -> Casebook:
    """The notes and cases of a rule; nobody changes them."""
    with (CASES_FOLDER / f"{rule}.toml").open("rb") as file:
        return msgspec.convert(tomllib.load(file), Casebook)


def rules_with_models() -> list[Rule]:
    """All rules; a rule that judges by a model has the model of its cases and is published."""
    rules: list[Rule] = []
    for name, rule in ALL_RULES.items():
        if rule.modelled:
            model = casebook(name).model
            rules.append(replace(rule, model=model, status="published"))
        else:
            rules.append(rule)
    return rules


def run(case: Case, rule: Rule) -> tuple[list[Alert], RecordingRule]:
    """The alerts of one rule on a case."""
    return judged(case, rule, casebook(rule.name).model)


@lru_cache(maxsize=MOST_CASES)
def run_case(rule: str, n: int) -> tuple[list[Alert], RecordingRule]:
    """The alerts of a rule on its n-th case; the cases of the last rules are kept."""
    return run(casebook(rule).case[n], ALL_RULES[rule])

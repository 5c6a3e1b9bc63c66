"""The notes of a domain expert on a rule stand at the head of its case file in tests/cases/, English and Chinese."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

CASES_FOLDER = Path(__file__).parents[1] / "tests" / "cases"


class FalsePositive(msgspec.Struct, forbid_unknown_fields=True):
    """A case that looks like trouble and is none."""

    what: str
    suppressed: str  # the reason why the rule does not raise, or is suppressed
    zh: str  # both in Chinese


class ChineseNotes(msgspec.Struct, forbid_unknown_fields=True):
    """The meaning of a rule and the inspector's task in Chinese."""

    meaning: str
    inspector: str


class Notes(msgspec.Struct):
    """The notes of a domain expert on a rule."""

    meaning: str
    inspector: str  # what to do
    zh: ChineseNotes
    false_positive: list[FalsePositive]


def notes(rule: str) -> Notes:
    """The notes on a rule. Raises OSError without a case file."""
    text = (CASES_FOLDER / f"{rule}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Notes)

"""What is made from the rules and their files of cases, by ``python -m detectors.catalogue``.

docs/rules.md tells all of every rule, and deploy/rules.toml is the rulebook that sets each as the code does.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import groupby
from pathlib import Path

import msgspec

from detectors.rule import ALL_RULES, Level, Rule
from schemas.columns import SEGMENT_NAMES
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS

PROJECT_ROOT = Path(__file__).parents[1]
RULES_PAGE, RULEBOOK_FILE, CASES_FOLDER = (
    PROJECT_ROOT / "docs" / "rules.md",
    PROJECT_ROOT / "deploy" / "rules.toml",
    PROJECT_ROOT / "tests" / "cases",
)
RULEBOOK_HEADER = """# Every rule as the code sets it; `python -m detectors.catalogue` makes this file. Change a copy, and
# `meterwatch rules publish` it; what a copy leaves out is as the code sets it.
#
# status       draft and retired are not judged, shadow is judged and counted, published is told
# version      raise it with every change: alerts carry it
# settings     what the rule compares with; docs/rules.md says what each means
# model        the file of the fleet model that a rule is judged by, beside this one: `meterwatch classes` writes it
# segments     settings of the rows that belong to one; of several the last counts, in this order:
#              {segments}
# proposed_by, approved_by, approved_at    two people, for every change to what is told
"""
PAGE_HEADER = """# Rules

What every rule means, when it speaks and what to do then. `python -m detectors.catalogue` writes this page from the
rules in `detectors/` and their files in `tests/cases/`; numbers that are settings may be published otherwise
([operations.md](operations.md)).

Severity 1 asks for a visit the same day, 2 within three days, 3 goes into the next batch, 4 is for information. A score
of 1 is trouble and raises once it has lasted as long as is said here; below the line at which it clears all is well;
between the two nothing changes. A rule that lacks what it reads cannot tell, and says nothing.
"""


class FalsePositive(msgspec.Struct, forbid_unknown_fields=True):
    """What looks like trouble and is none."""

    what: str
    suppressed: str  # by what


class Notes(msgspec.Struct):
    """What a domain expert says of a rule, at the head of its file of cases."""

    meaning: str
    inspector: str  # what to do
    false_positive: list[FalsePositive]


def notes(rule: str) -> Notes:
    """What is said of a rule. Raises OSError without a file of cases."""
    return msgspec.convert(
        tomllib.loads((CASES_FOLDER / f"{rule}.toml").read_text("utf-8")), Notes
    )


def page() -> str:
    """All rules: a table by family, then each."""
    rules = sorted(ALL_RULES.values(), key=lambda rule: rule.family)
    return "\n".join(
        [
            PAGE_HEADER,
            *_overview(rules),
            *(line for rule in rules for line in entry(rule, notes(rule.name))),
        ]
    )


def rulebook() -> str:
    """The rulebook that changes nothing."""
    told = [RULEBOOK_HEADER.format(segments=", ".join(SEGMENT_NAMES))]
    for rule in sorted(ALL_RULES.values(), key=lambda rule: rule.family):
        told.append(f"[{rule.name}]  # {rule.title[0]} {rule.title[1]}")
        told.append(f'status = "{rule.status}"\nversion = {rule.version}')
        told += [
            f"settings.{name} = {value!r}" for name, value in rule.settings.items()
        ]
        for segment, settings in rule.segments.items():
            told += [
                f"segments.{segment}.{name} = {value!r}"
                for name, value in settings.items()
            ]
        told.append("")
    return "\n".join(told)


def _overview(rules: Iterable[Rule]) -> Iterator[str]:
    """A table of each family."""
    for family, members in groupby(rules, lambda rule: rule.family):
        yield f"**{family}**: {inspect.getdoc(import_module(f'detectors.{family}'))}\n"
        yield "| Rule | | | Judged on | Severity |\n|---|---|---|---|---|"
        for rule in members:
            severity = ", ".join(str(level.severity) for level in rule.levels)
            shadow = "" if rule.status == "published" else f", in {rule.status}"
            yield f"| [{rule.name}](#{rule.name}) | {' | '.join(rule.title)} | {rule.kind.kind} | {severity}{shadow} |"
        yield ""


def entry(rule: Rule, said: Notes) -> Iterator[str]:
    """All of one rule."""
    yield f"## {rule.name}\n\n**{rule.title[0]} · {rule.title[1]}** ({rule.family})\n\n{said.meaning}\n"
    yield f"{inspect.getdoc(rule.judge)}\n"
    yield from facts(rule)
    yield "- Looks like it and is not:"
    yield from (f"  - {one.what} {one.suppressed}" for one in said.false_positive)
    yield f"- What to do: {said.inspector}\n"


def facts(rule: Rule) -> Iterator[str]:
    """What a rule reads, is set to and says, and when."""
    yield f"- Reads {', '.join(f'`{name}`' for name in rule.reads)} of {rule.kind.kind}."
    if rule.modelled:
        yield "- Judged by a fleet model, which the rulebook names; without one it cannot tell."
    if rule.settings:
        yield f"- Settings: {_listed(rule.settings)}."
    for segment, settings in rule.segments.items():
        yield f"- In the segment {segment}: {_listed(settings)}."
    yield f"- Raises with {'; '.join(map(_raising, rule.levels))}."
    yield f"- Clears below {rule.clear:.3g}, {_lasting(rule.release)}."
    yield f"- Says: `{rule.text[0]}` `{rule.text[1]}`"


def _raising(level: Level) -> str:
    """When an episode has a severity."""
    return f"severity {level.severity} from a score of {level.score:.3g}, {_lasting(level.hold)}"


def _listed(settings: Mapping[str, float]) -> str:
    """Settings with their values."""
    return ", ".join(f"`{name}` {value:g}" for name, value in settings.items())


def _lasting(seconds: int) -> str:
    """How long something must last.

    >>> lasting(0), lasting(7200), lasting(86400)
    ('at once', 'lasting 2 hours', 'lasting 1 day')
    """
    for size, name in (
        (DAY_SECONDS, "day"),
        (HOUR_SECONDS, "hour"),
        (MINUTE_SECONDS, "minute"),
        (1, "second"),
    ):
        if seconds and seconds % size == 0:
            return f"lasting {seconds // size} {name}{'s' * (seconds > size)}"
    return "at once"


if __name__ == "__main__":
    RULES_PAGE.write_text(page(), "utf-8")
    RULEBOOK_FILE.write_text(rulebook(), "utf-8")

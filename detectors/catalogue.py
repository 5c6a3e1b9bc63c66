"""Writes docs/rules.md, docs/zh/rules.md and deploy/rules.toml, by ``python -m detectors.catalogue``.

The pages describe every rule from its code and its case file; deploy/rules.toml is the rulebook that sets every
rule as the code does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import groupby
from pathlib import Path

from detectors.chinese_catalogue import CHINESE_PAGE, chinese_page
from detectors.engine import Engine
from detectors.rule import ALL_RULES, Level, Rule
from detectors.rule_notes import Notes, notes
from schemas.columns import SEGMENT_NAMES
from schemas.units import whole_units

PROJECT_ROOT = Path(__file__).parents[1]
RULES_PAGE = PROJECT_ROOT / "docs" / "rules.md"
RULEBOOK_FILE = PROJECT_ROOT / "deploy" / "rules.toml"
RULEBOOK_HEADER = """# Every rule as the code sets it; `python -m detectors.catalogue` makes this file. Change a copy,
# and `meterwatch rules publish` it; a rule that a copy leaves out is as the code sets it.
#
# status       draft and retired are not judged, shadow is judged and counted, published is shown too
# version      raise it with every change: alerts carry it
# settings     the numbers that the rule compares with; docs/rules.md explains each
# model        the file of the fleet model that judges the rule, beside this file: `meterwatch use-classes` writes it
# segments     settings of the rows of a segment; of several the last counts, in this order:
#              {segments}
# proposed_by, approved_by, approved_at    two people, for every change to published rules
"""
PAGE_HEADER = """# Rules

The meaning of every rule, when it raises an alert, and what to do then. `python -m detectors.catalogue` writes this
page from the rules in `detectors/` and their files in `tests/cases/`; a rulebook may change the settings
([operations.md](operations.md)).

Severity 1 asks for a visit the same day, 2 within three days, 3 goes into the next batch, 4 is for information. A score
of 1 is trouble and raises an alert once it has lasted for the time given here; below the clear line all is well;
between the two nothing changes. A rule that lacks a column it reads cannot tell, and raises nothing. An alert that an
event or another alert explains is suppressed, with one of the reasons given here.
"""


def page() -> str:
    """All rules: a table by family, then each."""
    rules = sorted(ALL_RULES.values(), key=lambda rule: rule.family)
    lines = [PAGE_HEADER, *_overview(rules)]
    for rule in rules:
        lines += entry(rule, notes(rule.name))
    return "\n".join(lines)


def rulebook() -> str:
    """The rulebook that changes nothing."""
    lines = [RULEBOOK_HEADER.format(segments=", ".join(SEGMENT_NAMES))]
    for rule in sorted(ALL_RULES.values(), key=lambda rule: rule.family):
        lines.append(f"[{rule.name}]  # {rule.title[0]} {rule.title[1]}")
        lines.append(f'status = "{rule.status}"\nversion = {rule.version}')
        lines += [
            f"settings.{name} = {value!r}" for name, value in rule.settings.items()
        ]
        for segment, settings in rule.segments.items():
            lines += [
                f"segments.{segment}.{name} = {value!r}"
                for name, value in settings.items()
            ]
        lines.append("")
    return "\n".join(lines)


def _overview(rules: Iterable[Rule]) -> Iterator[str]:
    """A table of each family."""
    for family, members in groupby(rules, lambda rule: rule.family):
        yield f"**{family}**: {inspect.getdoc(import_module(f'detectors.rules.{family}'))}\n"
        yield "| Rule | | | Judged on | Severity |\n|---|---|---|---|---|"
        for rule in members:
            severity = ", ".join(str(level.severity) for level in rule.levels)
            shadow = "" if rule.status == "published" else f", in {rule.status}"
            yield f"| [{rule.name}](#{rule.name}) | {' | '.join(rule.title)} | {rule.kind.kind} | {severity}{shadow} |"
        yield ""


def entry(rule: Rule, expert: Notes) -> Iterator[str]:
    """The lines on one rule."""
    english, chinese = rule.title
    yield f"## {rule.name}\n\n**{english} · {chinese}** ({rule.family})\n"
    yield f"{expert.meaning}\n"
    yield f"{inspect.getdoc(rule.judge)}\n"
    yield from facts(rule)
    yield "- Looks like it and is not:"
    for case in expert.false_positive:
        yield f"    - {case.what} {case.suppressed}"
    yield f"- What to do: {expert.inspector}\n"


def facts(rule: Rule) -> Iterator[str]:
    """The columns and settings of a rule, its levels and its sentence."""
    yield f"- Reads {', '.join(f'`{name}`' for name in rule.reads)} of {rule.kind.kind}."
    if rule.modelled:
        yield "- Judged by a fleet model, which the rulebook names; without one it cannot tell."
    for model in _online_models(rule):
        yield (
            f"- Judged by the online model {model}. Once its error drifts it cannot tell of a subject until it has "
            f'learned anew: `meterwatch_drifted{{model="{model}"}}`.'
        )

    if rule.settings:
        yield f"- Settings: {_listed(rule.settings)}."
    for segment, settings in rule.segments.items():
        yield f"- In the segment {segment}: {_listed(settings)}."
    yield f"- Raises with {'; '.join(map(_raising, rule.levels))}."
    yield f"- Clears below {rule.clear:.3g}, {_lasting(rule.release)}."
    yield from _accounted(rule)
    yield f"- Says: `{rule.text[0]}` `{rule.text[1]}`"


def _online_models(rule: Rule) -> list[str]:
    """The models, watched for drift, whose columns a rule reads."""
    return [
        name
        for name, model in Engine().judges.models().items()
        if not {*model.gives}.isdisjoint(rule.reads)
    ]


def _accounted(rule: Rule) -> Iterator[str]:
    """What explains a rule's alerts, what they explain, and what makes them graver."""
    reasons = [reason for each in rule.explained_by for reason in each.reasons]
    yield f"- Explained by: {', '.join(map(_words, reasons)) or 'nothing'}."
    if rule.explains:
        explained = [
            f"`{other.name}`"
            for other in ALL_RULES.values()
            if rule.explains in other.explained_by
        ]
        yield f"- Explains, in its area: {', '.join(explained)}."
    if rule.strengthened_by:
        yield f"- Severity 1 with a second evidence: {', '.join(rule.strengthened_by)}."


def _words(reason: str) -> str:
    """A reason as words.

    >>> _words("planned_outage")
    'planned outage'
    """
    return reason.replace("_", " ")


def _raising(level: Level) -> str:
    """When an episode gets a severity."""
    return f"severity {level.severity} from a score of {level.score:.3g}, {_lasting(level.hold)}"


def _listed(settings: Mapping[str, float]) -> str:
    """Settings with their values."""
    return ", ".join(f"`{name}` {value:g}" for name, value in settings.items())


def _lasting(seconds: int) -> str:
    """How long something must last.

    >>> _lasting(0), _lasting(7200), _lasting(86400)
    ('at once', 'lasting 2 hours', 'lasting 1 day')
    """
    count, unit = whole_units(seconds)
    return f"lasting {count} {unit}{'s' * (count > 1)}" if count else "at once"


if __name__ == "__main__":
    RULES_PAGE.write_text(page(), "utf-8")
    CHINESE_PAGE.write_text(chinese_page(), "utf-8")
    RULEBOOK_FILE.write_text(rulebook(), "utf-8")

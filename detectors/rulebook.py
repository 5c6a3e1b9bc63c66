"""Rules as a rulebook sets them, and what is wrong with a rulebook: beside the code, and beside the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches

import msgspec

from detectors.rule import ALL_RULES, Rule
from schemas.rules import Edition, Rulebook, RulebookError

PUBLISHED_STATUS = "published"
EMPTY_RULEBOOK = Rulebook()  # all rules as in code
VOLTAGE_LIMITS: dict[str, tuple[dict[str, float], dict[str, dict[str, float]]]] = {
    "china": ({}, {}),  # GB/T 12325-2008, as in code
    "europe": ({"over": 1.10, "under": 0.90}, {}),  # EN 50160
    "britain": (  # Electricity Safety, Quality and Continuity Regulations 2002: +10/-6 %, high voltage +-6 %
        {"over": 1.10, "under": 0.94},
        {"single_phase": {"under": 0.94}, "medium_voltage": {"over": 1.06, "under": 0.94},
         "high_voltage": {"over": 1.06, "under": 0.94}},
    ),
}  # fmt: skip
"""By country, the limits of `voltage_deviation`: settings, and settings by segment."""


def rules_of(limits: str) -> Mapping[str, Rule]:
    """The rules as in code, with the voltage limits of a country."""
    settings, segments = VOLTAGE_LIMITS[limits]
    rule = ALL_RULES["voltage_deviation"]
    return {
        **ALL_RULES,
        rule.name: replace(
            rule.tuned(**settings), segments={**rule.segments, **segments}
        ),
    }


def applied(rulebook: Rulebook, rules: Mapping[str, Rule] = ALL_RULES) -> list[Rule]:
    """The rules as they are set; an edition that does not fit this version's rule is passed over."""
    return [edited(rule, rulebook.rules.get(name)) for name, rule in rules.items()]


def edited(rule: Rule, edition: Edition | None) -> Rule:
    """A rule as an edition sets it."""
    if edition is None or any(_misfits(rule, edition)):
        return rule
    own = {segment: dict(settings) for segment, settings in rule.segments.items()}
    for segment, settings in edition.segments.items():
        own[segment] = own.get(segment, {}) | settings
    settings = {**rule.settings, **edition.settings}
    return replace(
        rule,
        status=edition.status,
        version=edition.version,
        settings=settings,
        segments=own,
        model=edition.model,
    )


def problems(
    rulebook: Rulebook,
    before: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> list[str]:
    """Why a rulebook cannot follow the one before, a line each; approval apart."""
    return unknown_entries(rulebook, rules) or unraised(rulebook, before, rules)


def unknown_entries(
    rulebook: Rulebook, rules: Mapping[str, Rule] = ALL_RULES
) -> list[str]:
    """What of a rulebook this version does not know, a line each; it is judged as in code."""
    return [
        fault
        for name, edition in rulebook.rules.items()
        for fault in _misplaced(name, edition, rules)
    ]


def unraised(
    rulebook: Rulebook,
    before: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> list[str]:
    """Which versions were not raised as they must be, a line each; of editions that this version knows."""
    found: list[str] = []
    for name in {**before.rules, **rulebook.rules}:
        after = rulebook.rules.get(name)
        if name in rules and not (after and any(_misfits(rules[name], after))):
            found += _outdated(rules[name], before.rules.get(name), after)
    return found


def unapproved(
    rulebook: Rulebook,
    before: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> list[str]:
    """Which changes to what is told lack one person who proposed them and another who approved them."""
    found = []
    for name, edition in rulebook.rules.items():
        if name not in rules:
            continue
        was, now = (
            edited(rules[name], book.rules.get(name)) for book in (before, rulebook)
        )
        if edition.approved_by and edition.approved_by == edition.proposed_by:
            found.append(
                f"{name}: {edition.approved_by} has proposed and approved version {edition.version}"
            )
        elif PUBLISHED_STATUS not in (was.status, now.status) or not _differs(was, now):
            continue
        elif not edition.proposed_by:
            found.append(
                f"{name}: `proposed_by` does not say whose version {edition.version} is"
            )
        elif not (edition.approved_by and edition.approved_at):
            found.append(f"{name}: version {edition.version} is not approved")
    return found


def check(rulebook: Rulebook, before: Rulebook = EMPTY_RULEBOOK) -> None:
    """Raises RulebookError unless the rulebook fits the rules and may follow the one before."""
    if faults := problems(rulebook, before) or unapproved(rulebook, before):
        raise RulebookError(faults)


def signed(
    rulebook: Rulebook, before: Rulebook, approver: str, at: datetime
) -> Rulebook:
    """What to publish after the rulebook before: its changes with who approved them, and what was published already."""
    editions: dict[str, Edition] = {}
    for name, edition in rulebook.rules.items():
        was, now = (
            edited(ALL_RULES[name], book.rules.get(name)) for book in (before, rulebook)
        )
        if was.version == now.version:
            if name in before.rules:
                editions[name] = before.rules[name]
        elif (
            approver
            and not edition.approved_by
            and PUBLISHED_STATUS in (was.status, now.status)
        ):
            editions[name] = msgspec.structs.replace(
                edition, approved_by=approver, approved_at=at
            )
        else:
            editions[name] = edition
    return Rulebook(editions)


def changes(
    rulebook: Rulebook,
    before: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> dict[str, list[str]]:
    """By rule, what is judged otherwise than before."""
    found = {}
    for name in rules:
        was, now = (
            edited(rules[name], book.rules.get(name)) for book in (before, rulebook)
        )
        if told := list(_differences(was, now)):
            found[name] = told
    return found


def _misplaced(name: str, edition: Edition, rules: Mapping[str, Rule]) -> Iterator[str]:
    """What of an edition fits no rule."""
    if (rule := rules.get(name)) is None:
        near = get_close_matches(name, rules, 1)
        yield f"{name}: there is no such rule" + (
            f"; did you mean {near[0]}?" if near else ""
        )
        return
    yield from (f"{name}: {fault}" for fault in _misfits(rule, edition))


def _misfits(rule: Rule, edition: Edition) -> Iterator[str]:
    """What of an edition this version's rule does not have."""
    has = ", ".join(rule.settings) or "none"
    for setting, value in edition.settings.items():
        if setting not in rule.settings:
            yield f"there is no setting `{setting}`; it has {has}"
        elif not _same_sign(value, rule.settings[setting]):
            yield f"`{setting}` is {value:g}, not of the sign of the code's {rule.settings[setting]:g}"
    yield from _crossed_limits(rule, edition)
    if edition.model and not rule.modelled:
        yield "it is judged by no model"
    for segment, settings in edition.segments.items():
        if segment not in rule.kind.segments:
            yield f"there is no segment `{segment}`; {rule.kind.kind} have {', '.join(rule.kind.segments) or 'none'}"
        for setting, value in settings.items():
            if setting not in rule.settings:
                yield f"there is no setting `{setting}`, set in the segment {segment}; it has {has}"
            elif not _same_sign(value, rule.settings[setting]):
                told = f"`{setting}` in the segment {segment} is {value:g}"
                yield f"{told}, not of the sign of the code's {rule.settings[setting]:g}"


def _crossed_limits(rule: Rule, edition: Edition) -> Iterator[str]:
    """Whether an edition's band has no inside: what is nominal must be within it."""
    if not {"under", "over"} <= rule.settings.keys():
        return
    base = {**rule.settings, **edition.settings}
    for segment in ("", *edition.segments):
        band = (
            base
            | dict(rule.segments.get(segment, {}))
            | edition.segments.get(segment, {})
        )
        if not band["under"] < 1 < band["over"]:
            where = f" in the segment {segment}" if segment else ""
            yield f"`under` {band['under']:g} and `over` {band['over']:g}{where} must be below and above 1"


def _same_sign(value: float, own: float) -> bool:
    """Whether a value has the sign of the code's: a limit of 0 or of the other sign would judge nonsense."""
    return own == 0 or value * own > 0


def _outdated(
    rule: Rule, before: Edition | None, after: Edition | None
) -> Iterator[str]:
    """Whether the version was not raised as it must be."""
    was, now = edited(rule, before), edited(rule, after)
    if before is not None and after is None:
        yield f"{rule.name}: version {was.version} is in force; what is to be as in code again is a version too"
    elif now.version < was.version or (
        now.version == was.version and _differs(was, now)
    ):
        yield f"{rule.name}: version {was.version} is in force; raise `version` above it"


def _differs(one: Rule, other: Rule) -> bool:
    """Whether two editions of a rule judge or tell otherwise."""
    return any(_differences(one, other))


def _differences(was: Rule, now: Rule) -> Iterator[str]:
    """What two editions of a rule have otherwise."""
    if was.status != now.status:
        yield f"status {was.status} -> {now.status}"
    if was.model != now.model:
        yield f"model {' -> '.join(rule.model.name if rule.model else 'none' for rule in (was, now))}"
    for name in was.settings:
        if was.settings[name] != now.settings[name]:
            yield f"{name} {was.settings[name]:g} -> {now.settings[name]:g}"
        for segment in was.kind.segments:
            old, new = (rule.segments.get(segment, {}).get(name) for rule in (was, now))
            if old != new:
                shown = (
                    "not set" if value is None else f"{value:g}" for value in (old, new)
                )
                yield f"{name} in the segment {segment} {' -> '.join(shown)}"

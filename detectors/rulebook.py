"""Rules as a rulebook sets them, and its faults against the code and the rulebook before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches

import msgspec

from detectors.rule import ALL_RULES, Rule
from schemas.rules import Edition, EditionStatus, Rulebook, RulebookError

PUBLISHED_STATUS: EditionStatus = "published"
EMPTY_RULEBOOK = Rulebook()  # all rules as in code


def rules_of(country: str) -> Mapping[str, Rule]:
    """The rules as in code, with the limits of a country."""
    return {name: rule.in_country(country) for name, rule in ALL_RULES.items()}


def applied(rulebook: Rulebook, rules: Mapping[str, Rule] = ALL_RULES) -> list[Rule]:
    """The rules as the rulebook sets them, without editions that do not fit this version's rules."""
    return [edited(rule, rulebook.rules.get(name)) for name, rule in rules.items()]


def edited(rule: Rule, edition: Edition | None) -> Rule:
    """A rule as an edition sets it."""
    if edition is None or any(_misfits(rule, edition)):
        return rule
    segments = {segment: dict(settings) for segment, settings in rule.segments.items()}
    for segment, settings in edition.segments.items():
        segments[segment] = segments.get(segment, {}) | settings
    return replace(
        rule,
        status=edition.status,
        version=edition.version,
        settings={**rule.settings, **edition.settings},
        segments=segments,
        model=edition.model,
    )


def problems(
    rulebook: Rulebook,
    before: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> list[str]:
    """Why a rulebook cannot follow the rulebook before, a line each; approval apart."""
    return unknown_entries(rulebook, rules) or unraised(rulebook, before, rules)


def unknown_entries(
    rulebook: Rulebook, rules: Mapping[str, Rule] = ALL_RULES
) -> list[str]:
    """Entries of a rulebook that are unknown here, a line each; their rules stay as in code."""
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
    """Versions that were not raised as they must be, a line each; of editions known here."""
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
    """The changes to published rules that lack a proposer and another person who approved them."""
    found = []
    for name, edition in rulebook.rules.items():
        if name not in rules:
            continue
        old = edited(rules[name], before.rules.get(name))
        new = edited(rules[name], edition)
        version = edition.version

        if edition.approved_by and edition.approved_by == edition.proposed_by:
            found.append(
                f"{name}: {edition.approved_by} has proposed and approved version {version}"
            )
        elif PUBLISHED_STATUS not in (old.status, new.status) or not _differs(old, new):
            continue
        elif not edition.proposed_by:
            found.append(
                f"{name}: `proposed_by` does not say whose version {version} is"
            )
        elif not (edition.approved_by and edition.approved_at):
            found.append(f"{name}: version {version} is not approved")
    return found


def check(rulebook: Rulebook, before: Rulebook = EMPTY_RULEBOOK) -> None:
    """Raises RulebookError unless the rulebook fits the rules and may follow the rulebook before."""
    if faults := problems(rulebook, before) or unapproved(rulebook, before):
        raise RulebookError(faults)


def signed(
    rulebook: Rulebook, before: Rulebook, approver: str, at: datetime
) -> Rulebook:
    """The rulebook to publish after `before`: changes with their approver, the rest as before."""
    editions: dict[str, Edition] = {}
    for name, edition in rulebook.rules.items():
        old = edited(ALL_RULES[name], before.rules.get(name))
        new = edited(ALL_RULES[name], edition)
        is_published = PUBLISHED_STATUS in (old.status, new.status)

        if old.version == new.version:
            if name in before.rules:
                editions[name] = before.rules[name]
        elif approver and not edition.approved_by and is_published:
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
    """By rule, its differences from the rulebook before."""
    found = {}
    for name in rules:
        old = edited(rules[name], before.rules.get(name))
        new = edited(rules[name], rulebook.rules.get(name))
        if differences := list(_differences(old, new)):
            found[name] = differences
    return found


def _misplaced(name: str, edition: Edition, rules: Mapping[str, Rule]) -> Iterator[str]:
    """The faults of an edition against its rule."""
    rule = rules.get(name)
    if rule is None:
        near = get_close_matches(name, rules, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{name}: there is no such rule{hint}"
        return
    yield from (f"{name}: {fault}" for fault in _misfits(rule, edition))


def _misfits(rule: Rule, edition: Edition) -> Iterator[str]:
    """The entries of an edition that do not fit this version's rule."""
    known = ", ".join(rule.settings) or "none"
    for setting, value in edition.settings.items():
        if setting not in rule.settings:
            yield f"there is no setting `{setting}`; it has {known}"
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
                yield f"there is no setting `{setting}`, set in the segment {segment}; it has {known}"
            elif not _same_sign(value, rule.settings[setting]):
                yield (
                    f"`{setting}` in the segment {segment} is {value:g}, "
                    f"not of the sign of the code's {rule.settings[setting]:g}"
                )


def _crossed_limits(rule: Rule, edition: Edition) -> Iterator[str]:
    """The bands of an edition that do not contain the nominal value."""
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


def _same_sign(value: float, code_value: float) -> bool:
    """Whether a value has the sign of the code's: a limit of 0 or another sign is nonsense."""
    return code_value == 0 or value * code_value > 0


def _outdated(
    rule: Rule, before: Edition | None, after: Edition | None
) -> Iterator[str]:
    """The fault of a version that was not raised as it must be."""
    old, new = edited(rule, before), edited(rule, after)
    unraised = new.version == old.version and _differs(old, new)
    if before is not None and after is None:
        yield (
            f"{rule.name}: version {old.version} is in force; "
            "going back to the code's settings needs a version too"
        )
    elif new.version < old.version or unraised:
        yield f"{rule.name}: version {old.version} is in force; raise `version` above it"


def _differs(old: Rule, new: Rule) -> bool:
    """Whether two editions of a rule differ."""
    return any(_differences(old, new))


def _differences(old: Rule, new: Rule) -> Iterator[str]:
    """The differences between two editions of a rule."""
    if old.status != new.status:
        yield f"status {old.status} -> {new.status}"
    if old.model != new.model:
        models = (rule.model.name if rule.model else "none" for rule in (old, new))
        yield f"model {' -> '.join(models)}"

    for name in old.settings:
        if old.settings[name] != new.settings[name]:
            yield f"{name} {old.settings[name]:g} -> {new.settings[name]:g}"
        for segment in old.kind.segments:
            values = [rule.segments.get(segment, {}).get(name) for rule in (old, new)]
            if values[0] != values[1]:
                shown = (
                    "not set" if value is None else f"{value:g}" for value in values
                )
                yield f"{name} in the segment {segment} {' -> '.join(shown)}"

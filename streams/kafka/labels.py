"""All label sets of the counters. Each begins at 0, for Prometheus misses the first rise of a new counter."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.engine import Engine
from detectors.policy.budget import BUDGET_REASON
from detectors.policy.notices import NOTICE_REASON
from detectors.policy.repeat import REPEAT_REASON
from detectors.policy.shadow import SHADOW_REASON
from detectors.policy.storm import STORM_REASON
from detectors.revisable import FINAL_SUFFIX
from detectors.rule import ALL_RULES, Rule
from schemas.columns import DeviceEvents, Readings
from schemas.topics import REGISTRY_TOPIC, RULES_TOPIC, TOPIC_KINDS
from schemas.wire import Reason

KIND_NAMES = tuple(kind.kind for kind in TOPIC_KINDS.values())
# Topics whose records are counted as a kind when they are rejected.
TOPICS_AS_KINDS = (REGISTRY_TOPIC, RULES_TOPIC)
# Reasons beside the reasons of the wire, by kind.
REJECTED_BY_ENGINE = {
    Readings.kind: ("future", "implausible_time"),
    DeviceEvents.kind: ("implausible_time",),
}
# Reasons for which a single value of a reading is taken for unknown.
IMPLAUSIBLE_REASONS = (
    "sentinel",
    "not_finite",
    "estimated",
    "negative",
    "beyond_bound",
    "repeated_snapshot",
    "backfill_lump",
    "transient_low",
    "transient_high",
    "register_zero",
)
RULEBOOK_REASON = "rulebook"  # for which a record of the topic `rules` is rejected
# Reasons for which the alert of any rule is suppressed.
SUPPRESSION_REASONS = (
    REPEAT_REASON,
    STORM_REASON,
    BUDGET_REASON,
    SHADOW_REASON,
    NOTICE_REASON,
)


def rejects() -> Iterator[tuple[str, str]]:
    """Kind and reason of rejected rows."""
    for kind in (*KIND_NAMES, REGISTRY_TOPIC):
        for reason in (*Reason, *REJECTED_BY_ENGINE.get(kind, ())):
            yield kind, str(reason)
    yield RULES_TOPIC, RULEBOOK_REASON


def implausible() -> Iterator[tuple[str, str]]:
    """Kind and reason of single values that are taken for unknown."""
    for reason in IMPLAUSIBLE_REASONS:
        yield Readings.kind, reason


def alerts() -> Iterator[tuple[str, str, str]]:
    """Rule, severity and change of alerts."""
    for rule in ALL_RULES.values():
        for severity in sorted({level.severity for level in rule.levels}):
            for change in _changes(rule):
                yield rule.name, str(severity), change


def suppressed() -> Iterator[tuple[str, str]]:
    """Rule and reason of alerts that are suppressed."""
    for name, rule in ALL_RULES.items():
        for reason in SUPPRESSION_REASONS:
            yield name, reason
        for explanation in rule.explained_by:
            for reason in explanation.reasons:
                yield name, reason


def families() -> Iterator[tuple[str]]:
    """The families of rules."""
    for family in sorted({rule.family for rule in ALL_RULES.values()}):
        yield (family,)


def owners() -> Iterator[tuple[str]]:
    """The owners of state that may start afresh, by name."""
    for name, owner in Engine().state.owners().items():
        if owner.missed and not name.endswith(FINAL_SUFFIX):
            yield (name,)


def models() -> Iterator[str]:
    """The online models whose drift is watched."""
    yield from Engine().judges.models()


def _changes(rule: Rule) -> tuple[str, ...]:
    escalated = ("escalated",) if len(rule.levels) > 1 else ()
    return ("raised", *escalated, "revised", "cleared", "withdrawn")

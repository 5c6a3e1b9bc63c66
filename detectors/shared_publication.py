"""The way of alerts to several topics: each rule set takes the alerts of its own rules, by a policy of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from detectors.publication import Publication, publication_by
from detectors.rule import Rule, judged_rules
from schemas.alert import Alert, alert_id
from schemas.columns import DeviceEvents


class DistinctRules(NamedTuple):
    """The rules that any of several sets judges, each once and under a name of its own."""

    rules: list[Rule]
    names: list[dict[str, str]]  # by set: the name of each of its rules in the set


def distinct_rules(rule_sets: Sequence[Sequence[Rule]]) -> DistinctRules:
    """The rules of sets that name the same rules in the same order; it is kept. The first edition keeps its name."""
    rules: list[Rule] = []
    names: list[dict[str, str]] = [{} for _ in rule_sets]
    for editions in zip(*rule_sets, strict=True):
        found: list[Rule] = []
        for edition, own_names in zip(editions, names, strict=True):
            if judged_rules([edition]):
                if edition not in found:
                    found.append(edition)
                name = _distinct_name(edition, found.index(edition))
                own_names[name] = edition.name

        rules += [
            replace(edition, name=_distinct_name(edition, number))
            for number, edition in enumerate(found)
        ]
    return DistinctRules(rules, names)


def _distinct_name(rule: Rule, number: int) -> str:
    """The name under which an edition of a rule is judged."""
    return f"{rule.name} {number + 1}" if number else rule.name


class SetPublication:
    """The publication of one of several rule sets, with what it has shown in a step."""

    def __init__(
        self,
        rules: Iterable[Rule],
        names: Mapping[str, str],
        section: Callable[[str], str],
        has_brakes: bool,
    ) -> None:
        self._names = names
        self._publication = publication_by(judged_rules(rules), section, has_brakes)
        self.policy = self._publication.policy
        self._shown: list[Alert] = []

    def begin_step(self) -> None:
        """Forget what the step before has published."""
        self._shown = []
        self._publication.begin_step()

    def apply(self, alerts: Iterable[Alert]) -> None:
        """Publish those of judged alerts that are of the set."""
        self._shown += self._publication.apply(self._own(alerts))

    def end_step(self, judged: Iterable[Alert], due: Iterable[Alert]) -> None:
        """Publish those of judged alerts that are of the set, and of episodes that end."""
        own = self._own(judged), self._own(due)
        self._shown += self._publication.end_step(*own)

    def note_events(self, events: DeviceEvents) -> list[int]:
        """Publish the alerts that events revise; the rows that were known."""
        revised, known_rows = self._publication.note_events(events)
        self._shown += revised
        return known_rows

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget what is too old to concern anything."""
        self._publication.forget(watermarks)

    def end_membership(
        self, area: str, meters: set[str], kinds: set[str], watermark: int
    ) -> None:
        """Let the alerts of meters that left their area end with the next step."""
        self._publication.end_membership(area, meters, kinds, watermark)

    def published(self) -> list[Alert]:
        """The alerts of the step, those in shadow last."""
        return [*self._shown, *self._publication.shadowed]

    def _own(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts of its rules, under the names that the set has for them."""
        names = self._names
        own = (alert for alert in alerts if alert.rule in names)
        return [_renamed(alert, names[alert.rule]) for alert in own]


class SharedPublication(Publication):
    """The publications of several rule sets; the engine that judges by all of them shows no alert itself."""

    def __init__(
        self,
        rule_sets: Sequence[Sequence[Rule]],
        names: Sequence[Mapping[str, str]],
        section: Callable[[str], str],
        has_brakes: bool,
    ) -> None:
        pairs = zip(rule_sets, names, strict=True)
        self._sets = [SetPublication(*pair, section, has_brakes) for pair in pairs]
        super().__init__(self._sets[0].policy)

    def published(self) -> list[list[Alert]]:
        """The alerts of the step by rule set."""
        return [each.published() for each in self._sets]

    def begin_step(self) -> None:
        """Forget what the step before has published."""
        for each in self._sets:
            each.begin_step()

    def apply(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Publish judged alerts as the policy of each set has them."""
        alerts = list(alerts)
        for each in self._sets:
            each.apply(alerts)
        return []

    def end_step(self, judged: Iterable[Alert], due: Iterable[Alert]) -> list[Alert]:
        """Publish judged alerts, those of episodes that end, and those of timelines that fell due."""
        judged, due = list(judged), list(due)
        for each in self._sets:
            each.end_step(judged, due)
        return []

    def note_events(self, events: DeviceEvents) -> tuple[list[Alert], list[int]]:
        """Publish the alerts that events revise; the rows that the first set knew."""
        known_rows, *_ = [each.note_events(events) for each in self._sets]
        return [], known_rows

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget what is too old to concern anything, by the watermark of each area."""
        for each in self._sets:
            each.forget(watermarks)

    def end_membership(
        self, area: str, meters: set[str], kinds: set[str], watermark: int
    ) -> None:
        """Let the alerts of some kinds, of meters that left their area, end with the next step."""
        for each in self._sets:
            each.end_membership(area, meters, kinds, watermark)


def _renamed(alert: Alert, name: str) -> Alert:
    """An alert of a rule under another name."""
    if alert.rule == name:
        return alert
    key = alert_id(name, alert.area, alert.subject, alert.since)
    return msgspec.structs.replace(alert, rule=name, id=key)

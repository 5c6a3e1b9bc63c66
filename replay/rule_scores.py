"""Alerts against labels: rate, precision, recall and delay of each rule, with intervals of 90 %."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from replay.intervals import Estimate, median, rate, share
from replay.labels import Label
from replay.observed import Observed
from schemas.alert import Alert
from schemas.inspection import Verdict
from schemas.units import DAY_SECONDS

VISIT_HOURS = {1: 2.0, 2: 1.5, 3: 1.0, 4: 0.0}
"""Hours of an inspector for an alert, by severity, with the way there. Defaults of this project: an alert of severity 1
is a journey of its own, those of severity 3 share one, and severity 4 sends nobody out."""


@dataclass(frozen=True)
class RuleScore:
    """The alerts of a rule in a segment, "" for all."""

    rule: str
    segment: str
    alerts: int  # that are shown
    rate: Estimate  # a 1,000 meters and day
    true: int
    false: int
    unknown: int  # without a label
    precision: Estimate
    labels: int  # true labels that judge the rule
    found: int
    recall: Estimate  # weighted by inclusion probability
    delay: Estimate  # days from the label's begin to the evidence
    suppressed: dict[str, int]  # alerts by reason
    hours: float  # of inspectors


@dataclass(frozen=True)
class Scores:
    """The score of all rules, of each, and the true labels that no alert found."""

    rules: list[RuleScore]
    missed: list[Label]


@dataclass(frozen=True)
class _JudgedAlert:
    """An alert, the segment of its subject, and whether labels call it true."""

    alert: Alert
    segment: str
    verdict: Literal["true", "false", "unknown"]


@dataclass(frozen=True)
class _FoundLabel:
    """A true label, the segment of its subject, and the first alert of each rule that found it."""

    label: Label
    segment: str
    by_rule: Mapping[str, Alert]


def rule_scores(
    alerts: Iterable[Alert],
    labels: Iterable[Label],
    observed: Observed,
    also: Collection[tuple[str, str]] = (),
) -> Scores:
    """Compares the last states of alerts with the labels of subjects that a history has.

    `also` names rules, each with a segment, that are scored even if they have no alert.
    """
    standing = [alert for alert in alerts if alert.state != "withdrawn"]
    standing.sort(key=lambda alert: (alert.raised, alert.id))
    comparison = _Comparison(labels, observed)
    judged = [comparison.judged(alert) for alert in standing]
    found = comparison.found(standing)

    days = observed.meter_days()
    scores = [_score("", "", judged, found, days)]
    counts = Counter({rule: 0 for rule, _ in also})
    counts.update({each.alert.rule: 0 for each in judged})
    counts.update(each.alert.rule for each in judged if not each.alert.suppressed_by)
    several = len(days) > 2  # that of all is one
    for rule in sorted(counts, key=lambda name: (-counts[name], name)):
        mine = [each for each in judged if each.alert.rule == rule]
        scores.append(_score(rule, "", mine, found, days))
        if not several:
            continue
        segments = {each.segment for each in mine}
        segments |= {segment for name, segment in also if name == rule}
        scores += [
            _score(rule, segment, mine, found, days)
            for segment in sorted(segments - {""})
        ]
    missed = [each.label for each in found if not each.by_rule]
    return Scores(scores, missed)


class _Comparison:
    """Labels by area and subject, to compare alerts with."""

    def __init__(self, labels: Iterable[Label], observed: Observed) -> None:
        self._observed = observed
        self._labels = list(labels)
        self._by_subject: dict[tuple[str, str], list[Label]] = defaultdict(list)
        self._echoing: dict[str, list[Label]] = defaultdict(list)  # by area
        for label in self._labels:
            areas = [label.area] if label.area else observed.areas(label.subject)
            for area in areas:
                self._by_subject[area, label.subject].append(label)
                if label.echoes:
                    self._echoing[area].append(label)

    def judged(self, alert: Alert) -> _JudgedAlert:
        """The alert with the verdict of its labels: true if any says so."""
        verdicts = {
            label.verdict
            for label in self._about(alert)
            if alert.rule in label.rules or alert.rule in label.echoes
        }
        if alert.subject in ("", alert.area):
            verdicts |= self._echoed(alert)

        verdict: Literal["true", "false", "unknown"] = "unknown"
        if "true" in verdicts:
            verdict = "true"
        elif "false" in verdicts:
            verdict = "false"
        segment = self._observed.segment(alert.area, alert.subject, alert.raised)
        return _JudgedAlert(alert, segment, verdict)

    def found(self, alerts: Iterable[Alert]) -> list[_FoundLabel]:
        """The true labels with the shown alerts that found them, given as they were raised."""
        first: dict[int, dict[str, Alert]] = defaultdict(dict)
        for alert in alerts:
            if alert.suppressed_by:
                continue
            for label in self._about(alert):
                if alert.rule in label.rules:
                    first[id(label)].setdefault(alert.rule, alert)

        found = []
        for label in self._labels:
            if label.verdict == "true":
                area = label.area or min(self._observed.areas(label.subject))
                segment = self._observed.segment(area, label.subject, label.since)
                found.append(_FoundLabel(label, segment, first[id(label)]))
        return found

    def _about(self, alert: Alert) -> Iterator[Label]:
        """The labels of an alert's time on its subject, on the owner of it, or on its area."""
        area = alert.area
        subject = alert.subject
        for each in self._observed.names(area, subject):
            for label in self._by_subject.get((area, each), ()):
                if label.meets(alert):
                    yield label

    def _echoed(self, alert: Alert) -> set[Verdict]:
        """The verdicts of labels whose consequences an area's alert may show."""
        return {
            label.verdict
            for label in self._echoing.get(alert.area, ())
            if alert.rule in label.echoes and label.meets(alert)
        }


def _score(
    rule: str,
    segment: str,
    judged: Iterable[_JudgedAlert],
    found: Iterable[_FoundLabel],
    meter_days: Mapping[str, float],
) -> RuleScore:
    """The score of a rule in a segment, "" for all of them."""
    mine = [each for each in judged if segment in ("", each.segment)]
    shown = [each for each in mine if not each.alert.suppressed_by]
    verdicts = Counter(each.verdict for each in shown)
    known = [each.verdict == "true" for each in shown if each.verdict != "unknown"]
    reasons = Counter(each.alert.suppressed_by for each in mine)
    del reasons[""]

    about = [
        each
        for each in found
        if segment in ("", each.segment) and (not rule or rule in each.label.rules)
    ]
    weights = [1 / each.label.inclusion for each in about]
    first = [_first(each, rule) for each in about]
    delays = [
        (alert.raised - each.label.since) / DAY_SECONDS
        for each, alert in zip(about, first, strict=True)
        if alert
    ]

    return RuleScore(
        rule=rule,
        segment=segment,
        alerts=len(shown),
        rate=rate(len(shown), meter_days.get(segment, 0) / 1000),
        true=verdicts["true"],
        false=verdicts["false"],
        unknown=verdicts["unknown"],
        precision=share([1.0] * len(known), known),
        labels=len(about),
        found=len(delays),
        recall=share(weights, [alert is not None for alert in first]),
        delay=median(delays),
        suppressed=dict(sorted(reasons.items())),
        hours=_hours(shown),
    )


def _first(found: _FoundLabel, rule: str) -> Alert | None:
    """The first alert of a rule, or of any, that found the label."""
    if rule:
        return found.by_rule.get(rule)
    alerts = found.by_rule.values()
    return min(alerts, key=lambda alert: (alert.raised, alert.id), default=None)


def _hours(shown: Collection[_JudgedAlert]) -> float:
    """The hours of inspectors for alerts."""
    return sum(VISIT_HOURS[each.alert.severity] for each in shown)

"""The alerts of two rule sets, A and B, on one history: what only one of them raises, and what both raise otherwise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from replay.labels import Label
from replay.observed import Observed
from replay.rule_scores import RuleScore, rule_scores
from schemas.alert import Alert

FIGURE_MEANINGS = {
    "only_a": "alerts that only A raises",
    "only_b": "alerts that only B raises",
    "changed": "alerts of both with another time or severity",
    "same": "alerts of both that are the same",
    "hours": "hours of inspectors that B adds; below 0, it saves them",
    "false": "alerts of B that a label calls false",
    "false_added": "false alerts of B less those of A",
    "true_lost": "true alerts of A less those of B",
}
"""The figures of a comparison, for conditions."""
LABEL_FIGURES = frozenset({"false", "false_added", "true_lost"})


@dataclass(frozen=True)
class AlertPair:
    """One episode as A and as B raise it."""

    by_a: Alert
    by_b: Alert

    @property
    def is_changed(self) -> bool:
        """True if time or severity differ."""
        return _essence(self.by_a) != _essence(self.by_b)


@dataclass
class MatchedAlerts:
    """The shown alerts of A and B: of both, and of one only."""

    same: list[AlertPair]
    changed: list[AlertPair]
    only_a: list[Alert]
    only_b: list[Alert]


@dataclass(frozen=True)
class RuleDifference:
    """How A and B differ in a rule and segment, "" for all."""

    rule: str
    segment: str
    same: int
    changed: int
    only_a: int
    only_b: int
    hours: float  # of inspectors that B adds
    by_a: RuleScore
    by_b: RuleScore

    @property
    def differences(self) -> int:
        """How many alerts are not the same."""
        return self.changed + self.only_a + self.only_b


@dataclass(frozen=True)
class Differences:
    """How A and B differ: in all rules first, then by rule and segment, most differences first."""

    rules: list[RuleDifference]
    alerts: MatchedAlerts

    def figures(self) -> dict[str, float]:
        """The value of every figure."""
        whole = self.rules[0]
        return {
            "only_a": whole.only_a,
            "only_b": whole.only_b,
            "changed": whole.changed,
            "same": whole.same,
            "hours": whole.hours,
            "false": whole.by_b.false,
            "false_added": whole.by_b.false - whole.by_a.false,
            "true_lost": whole.by_a.true - whole.by_b.true,
        }


def differences(
    alerts_a: Collection[Alert],
    alerts_b: Collection[Alert],
    labels: Collection[Label],
    observed: Observed,
) -> Differences:
    """Compares the last states of the alerts of A and B, and both with labels."""

    def place(alert: Alert) -> tuple[str, str]:
        segment = observed.segment(alert.area, alert.subject, alert.raised)
        return alert.rule, segment

    places = {place(alert) for alert in [*alerts_a, *alerts_b]}
    scores_a = _scores_by_place(alerts_a, labels, observed, places)
    scores_b = _scores_by_place(alerts_b, labels, observed, places)

    matched = matched_alerts(alerts_a, alerts_b)
    same = _counts(place(pair.by_a) for pair in matched.same)
    changed = _counts(place(pair.by_a) for pair in matched.changed)
    only_a = _counts(map(place, matched.only_a))
    only_b = _counts(map(place, matched.only_b))
    found = [
        RuleDifference(
            rule=rule,
            segment=segment,
            same=same[rule, segment],
            changed=changed[rule, segment],
            only_a=only_a[rule, segment],
            only_b=only_b[rule, segment],
            hours=scores_b[rule, segment].hours - score.hours,
            by_a=score,
            by_b=scores_b[rule, segment],
        )
        for (rule, segment), score in scores_a.items()
    ]
    return Differences(_in_order(found), matched)


def matched_alerts(
    alerts_a: Iterable[Alert], alerts_b: Iterable[Alert]
) -> MatchedAlerts:
    """Pairs the shown alerts of one rule, area and subject whose episodes overlap; those with one id first."""
    by_id_a = _shown_by_id(alerts_a)
    by_id_b = _shown_by_id(alerts_b)
    pairs = [
        AlertPair(alert, by_id_b[key])
        for key, alert in by_id_a.items()
        if key in by_id_b
    ]
    for pair in pairs:
        del by_id_a[pair.by_a.id], by_id_b[pair.by_b.id]

    only_a: list[Alert] = []
    only_b: list[Alert] = []
    rest_a = _by_subject(by_id_a.values())
    rest_b = _by_subject(by_id_b.values())
    for subject in rest_a.keys() | rest_b.keys():
        episodes_a = _Episodes(rest_a.get(subject, ()))
        episodes_b = _Episodes(rest_b.get(subject, ()))
        while episodes_a.first and episodes_b.first:
            if _end(episodes_a.first) < episodes_b.first.since:
                only_a.append(episodes_a.take())
            elif _end(episodes_b.first) < episodes_a.first.since:
                only_b.append(episodes_b.take())
            else:
                pairs.append(AlertPair(episodes_a.take(), episodes_b.take()))
        only_a += episodes_a.rest
        only_b += episodes_b.rest

    pairs.sort(key=lambda pair: _order(pair.by_b))
    same = [pair for pair in pairs if not pair.is_changed]
    changed = [pair for pair in pairs if pair.is_changed]
    return MatchedAlerts(
        same, changed, sorted(only_a, key=_order), sorted(only_b, key=_order)
    )


class _Episodes:
    """The episodes of a subject that wait for their pair, as they began."""

    def __init__(self, alerts: Iterable[Alert]) -> None:
        self.rest = sorted(alerts, key=lambda alert: (alert.since, alert.id))

    @property
    def first(self) -> Alert | None:
        """The earliest that waits."""
        return self.rest[0] if self.rest else None

    def take(self) -> Alert:
        """Takes the earliest out."""
        return self.rest.pop(0)


def _scores_by_place(
    alerts: Iterable[Alert],
    labels: Iterable[Label],
    observed: Observed,
    places: Collection[tuple[str, str]],
) -> dict[tuple[str, str], RuleScore]:
    """The scores of a rule set by rule and segment, with all of the places."""
    scores = rule_scores(alerts, labels, observed, places).rules
    return {(score.rule, score.segment): score for score in scores}


def _counts(places: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
    """How many there are by rule and segment, and of all under ""."""
    counts: Counter[tuple[str, str]] = Counter()
    for rule, segment in places:
        counts.update({("", ""), (rule, ""), (rule, segment)})
    return counts


def _in_order(found: Iterable[RuleDifference]) -> list[RuleDifference]:
    """That of all rules first, then rules by their differences, each with its segments."""
    rows = list(found)
    totals = {row.rule: row.differences for row in rows if not row.segment}
    return sorted(
        rows, key=lambda row: (row.rule != "", -totals[row.rule], row.rule, row.segment)
    )


def _shown_by_id(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """The alerts that are shown, by id."""
    return {
        alert.id: alert
        for alert in alerts
        if alert.state != "withdrawn" and not alert.suppressed_by
    }


def _by_subject(alerts: Iterable[Alert]) -> dict[tuple[str, str, str], list[Alert]]:
    """The alerts by rule, area and subject."""
    groups = defaultdict(list)
    for alert in alerts:
        groups[alert.rule, alert.area, alert.subject].append(alert)
    return groups


def _end(alert: Alert) -> float:
    """When an episode ends; one that was not cleared has no end."""
    return alert.at if alert.state == "cleared" else float("inf")


def _essence(alert: Alert) -> tuple[int, int, int]:
    """Time and severity, by which alerts of one episode are compared."""
    return alert.since, alert.raised, alert.severity


def _order(alert: Alert) -> tuple[int, int, str]:
    """The gravest first, then the latest."""
    return alert.severity, -alert.raised, alert.id

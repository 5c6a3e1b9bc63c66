"""The alerts that two rule sets, A and B, raise otherwise, as cards with the limits and settings of both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from detectors.curves.contract import TimelineChart
from detectors.rule import Rule
from replay.archive.selection import ArchivedRows
from replay.comparison import AlertPair, MatchedAlerts
from schemas.alert import Alert
from schemas.columns import Batch
from streams.report.cards import card_in
from streams.report.charts import ShadedSpan, chart_of, span_of
from streams.report.evidence import CurveChart, Evidence
from streams.report.score_page import PageSection
from streams.report.subjects import JudgedBy
from streams.times import local_time

RAISED_WORDS = ("raised by", "告警方")
NOT_JUDGED_TEXT = ("not judged", "未启用")
UNJUDGED_STATUSES = frozenset({"draft", "retired"})


class ComparedAlert(NamedTuple):
    """An alert that differs, and when A, B or both raised it."""

    alert: Alert
    raised: Mapping[str, int]  # Unix seconds, by "A" and "B"

    def shaded(self, *, chinese: bool) -> ShadedSpan:
        """The time in which the alert stood, and when A and B raised it."""
        names: dict[int, str] = {}
        for name, at in self.raised.items():
            names[at] = f"{names[at]}, {name}" if at in names else name
        words = RAISED_WORDS[chinese]
        marks = {f"{words} {letters}": at for at, letters in names.items()}
        return span_of(self.alert)._replace(marks=marks)


def examples_of(matched: MatchedAlerts, count: int) -> list[list[ComparedAlert]]:
    """The first alerts that only A raises, that only B raises, and that both raise otherwise."""
    by_a = [
        ComparedAlert(alert, {"A": alert.raised}) for alert in matched.only_a[:count]
    ]
    by_b = [
        ComparedAlert(alert, {"B": alert.raised}) for alert in matched.only_b[:count]
    ]
    return [by_a, by_b, list(map(_of_both, matched.changed[:count]))]


def _of_both(pair: AlertPair) -> ComparedAlert:
    """An alert as B raises it, over the time of both."""
    over_both = msgspec.structs.replace(
        pair.by_b,
        since=min(pair.by_a.since, pair.by_b.since),
        raised=max(pair.by_a.raised, pair.by_b.raised),
    )
    return ComparedAlert(over_both, {"A": pair.by_a.raised, "B": pair.by_b.raised})


def example_sections(
    headings: Iterable[str],
    kinds: Sequence[Sequence[ComparedAlert]],
    history: Iterable[Batch] | ArchivedRows,
    judged_by: tuple[JudgedBy, JudgedBy],
    end: int,
    *,
    chinese: bool,
) -> Iterator[PageSection]:
    """A section of cards for each kind of difference that has examples; reads the history once."""
    by_a, by_b = judged_by
    evidence = Evidence((each.alert for kind in kinds for each in kind), by_a)
    if any(kinds):
        evidence.gather(history)
    rules_a = {rule.name: rule for rule in by_a.rules}
    rules_b = {rule.name: rule for rule in by_b.rules}

    for heading, examples in zip(headings, kinds, strict=True):
        cards = []
        for example in examples:
            name = example.alert.rule
            rules = rules_a[name], rules_b[name]
            alert = example.alert
            picture = picture_by_both(evidence, alert, rules, chinese=chinese)
            chart = ""
            if picture is not None:
                shaded = example.shaded(chinese=chinese)
                chart = chart_of(picture, shaded, by_a.zone, end)
            facts = [local_time(example.alert.raised, by_a.zone), example.alert.id]
            settings = _setting_lines(evidence, example.alert, rules, chinese=chinese)
            cards.append(
                card_in(example.alert, chart, facts, settings, chinese=chinese)
            )
        if cards:
            yield PageSection(heading, f'<div class="cards">{"".join(cards)}</div>')


def picture_by_both(
    evidence: Evidence, alert: Alert, rules: tuple[Rule, Rule], *, chinese: bool
) -> CurveChart | TimelineChart | None:
    """The values near an alert, with the limits of A and of B by name where they differ."""
    by_a, by_b = (evidence.picture(alert, rule, chinese=chinese) for rule in rules)
    if not isinstance(by_a, CurveChart) or not isinstance(by_b, CurveChart):
        return by_b

    lines = {}
    levels = [
        {} if rule.status in UNJUDGED_STATUSES else picture.lines
        for rule, picture in zip(rules, (by_a, by_b), strict=True)
    ]
    for name in {**levels[0], **levels[1]}:
        level_a, level_b = (each.get(name, math.nan) for each in levels)
        if level_a == level_b:
            lines[name] = level_a
            continue
        both = {
            f"A {name} {level_a:.4g}": level_a,
            f"B {name} {level_b:.4g}": level_b,
        }
        lines |= {text: level for text, level in both.items() if math.isfinite(level)}
    return replace(by_b, lines=lines)


def _setting_lines(
    evidence: Evidence, alert: Alert, rules: tuple[Rule, Rule], *, chinese: bool
) -> Iterator[str]:
    """The settings of A and of B, in force for the alert's subject, that differ."""
    in_force = [evidence.settings(alert, rule) for rule in rules]
    of_a, of_b = in_force
    differing = [name for name in of_a | of_b if of_a.get(name) != of_b.get(name)]
    statuses = {rule.status for rule in rules}
    if not differing and len(statuses) == 1:
        return

    for letter, rule, settings in zip("AB", rules, in_force, strict=True):
        texts = [f"{name} {settings[name]:g}" for name in differing]
        if rule.status in UNJUDGED_STATUSES:
            texts = [NOT_JUDGED_TEXT[chinese]]
        yield f"{letter}: {', '.join(texts) or rule.status}"

"""The highest scores of subjects on which a rule never raised an alert, and what kept the rule silent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Literal

import numpy as np

from detectors.rule import ALL_RULES, Rule
from models.state.cells import Cells
from models.state.index import Index
from replay.day_scores import DayScores, Place, RuleDay
from replay.explanation import NEAR_SCORE
from schemas.alert import Alert
from schemas.units import DAY_SECONDS

Silence = Literal[
    "below", "held", "cannot_tell", "unfinished", "suppressed", "withdrawn"
]


@dataclass(frozen=True)
class NearScore:
    """The highest score of a subject by a rule that never raised an alert on it."""

    rule: str
    area: str
    subject: str
    score: float
    at: int
    trouble: int  # s for which the score was 1 or more, the longest
    hold: int  # s for which it must be
    last_trouble: int  # time of its last score if that was 1 or more, else 0
    silence: Silence = "below"
    suppressed_by: str = ""


class NearScores:
    """Keeps the highest score of every rule and subject."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._places: dict[str, Index] = defaultdict(Index)
        self._best: dict[str, Cells] = {}

    def note(self, of_days: Iterable[RuleDay]) -> None:
        """Takes in days of rules; of equal scores the first counts."""
        for of_day in of_days:
            name = of_day.rule.name
            if name not in self._rules:
                self._rules[name] = of_day.rule
                self._best[name] = Cells(
                    score=np.float64(-np.inf), at=np.int64(0), trouble=np.int64(0)
                )
            near = np.flatnonzero(of_day.score >= NEAR_SCORE)
            index = self._places[name]
            slots = np.array(
                [index.slot(*of_day.subjects[row]) for row in near.tolist()], np.int64
            )

            best = self._best[name]
            best.reserve(len(index))
            score = of_day.score[near]
            at = of_day.at[near]
            before = best["score"][slots]
            first = best["at"][slots]
            is_earlier = (score == before) & (at < first)
            higher = (score > before) | is_earlier
            best["score"][slots[higher]] = score[higher]
            best["at"][slots[higher]] = at[higher]
            trouble = np.maximum(best["trouble"][slots], of_day.trouble[near])
            best["trouble"][slots] = trouble

    def highest(
        self, count: int, alerts: Iterable[Alert], scores: DayScores
    ) -> list[NearScore]:
        """By rule the highest scores of subjects without a shown alert, and those of subjects with one.

        The brakes, which span areas, may still suppress the alerts of the latter.
        """
        shown: dict[str, set[Place]] = defaultdict(set)
        for alert in alerts:
            if alert.state != "withdrawn" and not alert.suppressed_by:
                shown[alert.rule].add((alert.area, alert.subject))

        kept: list[NearScore] = []
        for rule in self._rules:
            found = self._of_rule(rule, scores)
            silent = [
                near for near in found if (near.area, near.subject) not in shown[rule]
            ]
            kept += nsmallest(count, silent, _order)
            kept += [near for near in found if (near.area, near.subject) in shown[rule]]
        return kept

    def _of_rule(self, name: str, scores: DayScores) -> list[NearScore]:
        """The near scores of a rule."""
        last = scores.in_trouble(name)
        best = self._best[name].state()
        columns = (best[column].tolist() for column in ("score", "at", "trouble"))
        hold = self._rules[name].levels[0].hold
        places = self._places[name].pairs

        found = []
        for (area, subject), score, at, trouble in zip(places, *columns, strict=True):
            in_trouble = last.get((area, subject), 0)
            found.append(
                NearScore(name, area, subject, score, at, trouble, hold, in_trouble)
            )
        return found


def never_raised(
    found: Iterable[NearScore], alerts: Iterable[Alert], count: int, end: int
) -> list[NearScore]:
    """The highest scores of each rule whose subjects have no shown alert, with what kept each silent.

    `alerts` are in their last states, with the withdrawn ones; the history ends at `end`.
    """
    by_subject: dict[tuple[str, str, str], list[Alert]] = defaultdict(list)
    for alert in alerts:
        by_subject[alert.rule, alert.area, alert.subject].append(alert)

    by_rule: dict[str, list[NearScore]] = defaultdict(list)
    for near in found:
        own = by_subject[near.rule, near.area, near.subject]
        if explained := _silent(near, own, end):
            by_rule[near.rule].append(explained)
    ordered = [rule for rule in ALL_RULES if rule in by_rule]
    return [
        near for rule in ordered for near in nsmallest(count, by_rule[rule], _order)
    ]


def _silent(near: NearScore, alerts: Sequence[Alert], end: int) -> NearScore | None:
    """A near score with what kept the rule silent; None if an alert is shown."""
    standing = [alert for alert in alerts if alert.state != "withdrawn"]
    if any(not alert.suppressed_by for alert in standing):
        return None

    if standing:
        reason = min(standing, key=lambda alert: abs(alert.raised - near.at))
        by = reason.suppressed_by
        return replace(near, silence="suppressed", suppressed_by=by)
    if alerts:
        return replace(near, silence="withdrawn")
    if near.score < 1:
        return near
    if not near.last_trouble:
        return replace(near, silence="held")
    is_cut = end - near.last_trouble >= DAY_SECONDS
    return replace(near, silence="cannot_tell" if is_cut else "unfinished")


def _order(near: NearScore) -> tuple[float, int, str, str]:
    """The highest first, then the earliest."""
    return -near.score, near.at, near.area, near.subject

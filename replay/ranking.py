"""Ranks subjects by their daily scores: how rare, how grave and how lasting the scores of their rules are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from detectors.policy.policy import UNEXPLAINED_REASONS
from detectors.policy.shadow import SHADOW_REASON
from detectors.rule import Rule
from models.state.cells import Array, Cells
from models.state.index import Index
from replay.day_scores import Place
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Codes, Column, Mask, Times

KEPT_SHARE = 0.8  # of yesterday's points that count today: a state that lasts has five times those of one day
REASON_COUNT = 3
LEAST_POINTS = 0.01  # of a reason
NEAR_WEIGHT = 0.25  # of a score just below the raise line
NEARNESS_POWER = 3  # a score of 0.5 counts an eighth of one on the raise line
SEVERITY_WEIGHTS = np.array([0.0, 1.0, 0.75, 0.5, 0.25])  # by severity
SCORE_EDGES = np.r_[np.linspace(0, 2, 401), np.geomspace(2.02, 1e4, 400)]
"""The scores between which subjects are counted."""


class UsualScores:
    """How often each rule has which scores, over all subjects and days."""

    def __init__(self) -> None:
        self._counts: dict[str, Array] = defaultdict(
            lambda: np.zeros(len(SCORE_EDGES) + 1, np.int64)
        )

    def note(self, rule: str, scores: Column) -> None:
        """Counts scores."""
        places = np.searchsorted(SCORE_EDGES, scores, "right")
        count = len(SCORE_EDGES) + 1
        self._counts[rule] += np.bincount(places, minlength=count)

    def rarity(self, rule: str, scores: Column) -> Column:
        """How rare scores as high are: 3 for one in a thousand subjects and days."""
        counts = self._counts[rule]
        as_high = np.cumsum(counts[::-1])[::-1]
        places = np.searchsorted(SCORE_EDGES, scores, "right")
        rarity: Column = np.log10(counts.sum() / as_high[places])
        return rarity


class ExplainedSpans:
    """When policy explains what a rule sees of a subject: an outage, a vacancy, a meter change, a mute."""

    def __init__(self, alerts: Iterable[Alert]) -> None:
        # by rule and place: since and until
        self._spans: dict[str, dict[Place, list[tuple[int, int]]]] = defaultdict(dict)
        for alert in alerts:
            if alert.suppressed_by in (SHADOW_REASON, *UNEXPLAINED_REASONS):
                continue
            until = alert.at if alert.state == "cleared" else LATEST_TIME
            by_place = self._spans[alert.rule]
            spans = by_place.setdefault((alert.area, alert.subject), [])
            spans.append((alert.since, until))

    def cover(self, rule: str, places: Sequence[Place], at: Times) -> Mask:
        """The rows of subjects that are explained."""
        covered = np.zeros(len(at), np.bool_)
        by_place = self._spans.get(rule)
        if not by_place:
            return covered
        for row, place in enumerate(places):
            spans = by_place.get(place, ())
            time = at[row]
            covered[row] = any(since <= time <= until for since, until in spans)
        return covered


class DayRanking(NamedTuple):
    """The subjects of a day, first to last. Reasons are of the shape (3, subjects), the strongest first."""

    day: str
    places: list[Place]
    points: Column
    highest: Column  # score of any rule on the day; NaN if no rule could judge
    highest_rule: list[str]  # "" if no rule could judge
    reasons: list[list[str]]  # rules; "" where there are fewer
    reason_points: Column
    reason_scores: Column  # of the day that counts most today
    reason_times: Times

    def __len__(self) -> int:
        return len(self.places)

    def table(self) -> pa.Table:
        """A row per subject."""
        areas, subjects = zip(*self.places, strict=True) if self.places else ((), ())
        columns: dict[str, Any] = {
            "rank": np.arange(1, len(self) + 1),
            "area": pa.array(areas, "string"),
            "subject": pa.array(subjects, "string"),
            "points": self.points,
            "score": self.highest,
            "score_rule": pa.array(self.highest_rule, "string"),
        }

        for n, rules in enumerate(self.reasons):
            columns[f"reason_{n + 1}"] = pa.array(rules, "string")
            columns[f"points_{n + 1}"] = self.reason_points[n]
            columns[f"score_{n + 1}"] = self.reason_scores[n]
            columns[f"at_{n + 1}"] = self.reason_times[n]
        return pa.table(columns)


class Ranking:
    """Adds up the points of subjects day by day."""

    def __init__(
        self, usual: UsualScores, rules: Iterable[Rule], explained: ExplainedSpans
    ) -> None:
        self._usual = usual
        self._rules = {rule.name: rule for rule in rules}
        self._explained = explained
        self._places = Index()
        self._cells = {
            name: Cells(
                points=np.float64(0),
                strongest=np.float64(0),  # points of the day that counts most today
                score=np.float64(0),  # of that day
                at=np.int64(0),
            )
            for name in self._rules
        }

    def ranked(self, day: str, scores: pa.Table) -> DayRanking:
        """The ranking of the next day, by its scores."""
        numbers, places = self._numbers(scores)
        count = len(self._places)
        for cells in self._cells.values():
            cells.reserve(count)
            for column in ("points", "strongest"):
                cells[column][:] *= KEPT_SHARE

        highest = np.full(count, np.nan)
        highest_rule = np.full(count, "", object)
        rules = np.array(scores["rule"].to_pylist(), object)
        score, at = (scores[name].to_numpy() for name in ("score", "at"))
        for name in np.unique(rules).tolist():
            rows = np.flatnonzero(rules == name)
            own = numbers[rows]
            own_score = score[rows]
            self._add(name, own, own_score, at[rows], [places[row] for row in rows])
            is_higher = ~(highest[own] >= own_score)
            highest[own[is_higher]] = own_score[is_higher]
            highest_rule[own[is_higher]] = name
        return self._ordered(day, highest, highest_rule)

    def _numbers(self, scores: pa.Table) -> tuple[Codes, list[Place]]:
        """The number of each row's subject, and the subject."""
        places = list(
            zip(scores["area"].to_pylist(), scores["subject"].to_pylist(), strict=True)
        )
        numbers = [self._places.slot(*place) for place in places]
        return np.array(numbers, np.int64), places

    def _add(
        self,
        name: str,
        numbers: Codes,
        scores: Column,
        at: Times,
        places: Sequence[Place],
    ) -> None:
        """Adds the points of a rule's scores."""
        rule = self._rules[name]
        points = points_of(rule, self._usual.rarity(name, scores), scores)
        points[self._explained.cover(name, places, at)] = 0
        cells = self._cells[name]
        cells["points"][numbers] += points
        is_strongest = points > cells["strongest"][numbers]
        strongest = numbers[is_strongest]
        cells["strongest"][strongest] = points[is_strongest]
        cells["score"][strongest] = scores[is_strongest]
        cells["at"][strongest] = at[is_strongest]

    def knows(self, place: Place) -> bool:
        """True if a rule could judge the subject on a day so far."""
        area, subject = place
        return subject in self._places.known.get(area, {})

    def _ordered(self, day: str, highest: Column, highest_rule: Array) -> DayRanking:
        """All subjects with a score on the day or with points, in order."""
        count = len(self._places)
        points = self._stacked("points")
        rules = np.argsort(-points, axis=0, kind="stable")[:REASON_COUNT]
        strongest = np.take_along_axis(points, rules, 0)
        total = strongest.sum(axis=0)

        places = self._places.pairs
        by_name = np.empty(count, np.int64)
        named = sorted(range(count), key=places.__getitem__)
        by_name[named] = np.arange(count)
        known_highest = np.nan_to_num(highest, nan=-np.inf)
        order = np.lexsort((by_name, -known_highest, -total))
        is_shown = (total >= LEAST_POINTS) | ~np.isnan(highest)
        ranked = order[is_shown[order]]

        is_reason = strongest[:, ranked] >= LEAST_POINTS
        numbers = np.where(is_reason, rules[:, ranked], len(self._cells))
        names = np.array([*self._cells, ""], object)
        return DayRanking(
            day,
            [places[number] for number in ranked.tolist()],
            total[ranked],
            highest[ranked],
            highest_rule[ranked].tolist(),
            names[numbers].tolist(),
            np.where(is_reason, strongest[:, ranked], 0.0),
            self._stacked("score")[rules[:, ranked], ranked],
            self._stacked("at")[rules[:, ranked], ranked],
        )

    def _stacked(self, column: str) -> Array:
        """A column of all rules and subjects."""
        count = len(self._places)
        columns = [cells[column][:count] for cells in self._cells.values()]
        return np.stack(columns)


def points_of(rule: Rule, rarity: Column, scores: Column) -> Column:
    """What a day's scores of a rule count: rare ones more, grave ones more, those below the raise line less."""
    severity = np.full(len(scores), rule.levels[0].severity)
    for level in rule.levels[1:]:
        reached = scores >= level.score
        severity[reached] = np.minimum(severity[reached], level.severity)
    nearness = np.clip(scores, 0.0, 1.0) ** NEARNESS_POWER
    is_raised = scores >= rule.levels[0].score
    weight = np.where(is_raised, 1.0, NEAR_WEIGHT * nearness)
    points: Column = rarity * weight * SEVERITY_WEIGHTS[severity]
    return points


def rank_days(
    days: Callable[[], Iterable[tuple[str, pa.Table]]],
    rules: Iterable[Rule],
    alerts: Iterable[Alert],
) -> Iterator[tuple[Ranking, DayRanking]]:
    """The ranking after each day. `days` gives the scores of all days, in order, and is called twice.

    What is usual is of the whole history, with its last days.
    """
    usual = UsualScores()
    for _, scores in days():
        names = np.array(scores["rule"].to_pylist(), object)
        values = scores["score"].to_numpy()
        for name in np.unique(names).tolist():
            usual.note(name, values[names == name])

    ranking = Ranking(usual, rules, ExplainedSpans(alerts))
    for day, scores in days():
        yield ranking, ranking.ranked(day, scores)

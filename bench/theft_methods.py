"""The ways to find thieves that `bench.theft` compares, each a score of every day, swept at equal false alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from river.anomaly import HalfSpaceTrees
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest

from bench.theft_days import (
    ATTACK_RULES,
    JUDGED_DAYS,
    KNOWN_DAYS,
    MODEL_RULE,
    WATCHED_DAYS,
    Theft,
    WatchedDays,
)
from detectors.rule import ALL_RULES
from replay.ranking import KEPT_SHARE, REASON_COUNT, UsualScores, points_of
from replay.simulation.attacks import SUSPECT_RULE
from schemas.columns import Column, Mask
from schemas.units import DAY_HOURS, DAY_SECONDS

USUAL_DAYS, LATELY_DAYS = 28, 7  # of a customer's own level
HELD_DAYS = 3  # for which a forest's day or a fall must last, as for most rules
NIGHT_HOURS = 6
LITTLE_KWH = 0.05  # added to a day, so that none has no logarithm
PLAIN_RULES = tuple(name for name in ATTACK_RULES if name != SUSPECT_RULE)
FIT_DAYS = slice(KNOWN_DAYS - 14, KNOWN_DAYS)  # by which a forest learns
JUDGED_SPAN = slice(KNOWN_DAYS, KNOWN_DAYS + JUDGED_DAYS)


def lasting(score: Column, days: int) -> Column:
    """The score that so many days in a row reach, the day and those before it; NaN counts as 0."""
    known = np.nan_to_num(score)
    held = known.copy()
    for back in range(1, days):
        held[:, back:] = np.minimum(held[:, back:], known[:, :-back])
        held[:, :back] = 0
    return held


def ranked(score: Column) -> Column:
    """The share of all days whose score is lower, 0 for a score of 0; of equal scores all have the lowest."""
    ranks = rankdata(score, method="min").reshape(score.shape) - 1
    return np.where(score > 0, ranks / score.size, 0.0)


def of_rule(days: WatchedDays, name: str) -> Column:
    """A rule's score, for as long as it asks for before it raises an alert."""
    hold = ALL_RULES[name].levels[0].hold // DAY_SECONDS
    return lasting(days.scores[name], hold + 1)


def of_rules(days: WatchedDays) -> Column:
    """The highest score of the rules for thefts that need no area meter; at 1 one of them raises an alert."""
    return np.max([of_rule(days, name) for name in PLAIN_RULES], axis=0)


def of_rules_with_loss(days: WatchedDays) -> Column:
    """The highest score of all rules for thefts."""
    return np.maximum(of_rules(days), of_rule(days, SUSPECT_RULE))


def of_ranking(days: WatchedDays) -> Column:
    """The points by which `meterwatch rank` orders customers, of the rules that need no area meter."""
    return _points(days, PLAIN_RULES)


def of_ranking_with_model(days: WatchedDays) -> Column:
    """The same points, of the rules and the model."""
    return _points(days, [*PLAIN_RULES, MODEL_RULE])


def _points(days: WatchedDays, names: Iterable[str]) -> Column:
    """The points of some rules: how rare, how grave and how lasting their scores are."""
    usual, by_rule = UsualScores(), []
    for name in names:
        score = days.scores[name]
        usual.note(name, score[~np.isnan(score)])

        points, total = np.zeros(score.shape), np.zeros(len(score))
        for day in range(WATCHED_DAYS):
            known = np.flatnonzero(~np.isnan(score[:, day]))
            today = score[known, day]
            total *= KEPT_SHARE
            total[known] += points_of(ALL_RULES[name], usual.rarity(name, today), today)
            points[:, day] = total
        by_rule.append(points)
    strongest: Column = np.sort(by_rule, axis=0)[-REASON_COUNT:]
    return strongest.sum(axis=0)


def of_model(days: WatchedDays) -> Column:
    """The score of the ensemble."""
    return of_rule(days, MODEL_RULE)


def of_both(days: WatchedDays) -> Column:
    """The rules and the model, each by its rank among all days."""
    return np.maximum(ranked(of_rules(days)), ranked(of_model(days)))


def of_both_with_loss(days: WatchedDays) -> Column:
    """All rules for thefts and the model, each by its rank among all days."""
    return np.maximum(ranked(of_rules_with_loss(days)), ranked(of_model(days)))


def of_rules_or_model(days: WatchedDays) -> Column:
    """The rules and the model, each beside its own limit; at 1 one of them raises an alert."""
    return np.maximum(of_rules(days), of_model(days))


def of_half_spaces(days: WatchedDays) -> Column:
    """River's half-space trees for homes and some for others; they score each day's vectors and then learn them."""
    vectors = day_vectors(days)[:, FIT_DAYS.start :]
    score = np.full(days.used_kwh.shape, np.nan)
    for group in _groups(days):
        known = ~np.isnan(vectors).any(axis=2) & group[:, np.newaxis]
        if not known.any():
            continue
        low, high = np.quantile(vectors[known], (0.01, 0.99), axis=0)
        scaled = np.clip((vectors - low) / np.maximum(high - low, 1e-9), 0, 1)

        trees = HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=1)
        for day in range(known.shape[1]):
            rows = np.flatnonzero(known[:, day])
            today = [dict(enumerate(row)) for row in scaled[rows, day].tolist()]
            score[rows, FIT_DAYS.start + day] = [trees.score_one(row) for row in today]
            for row in today:
                trees.learn_one(row)
    return lasting(score, HELD_DAYS)


def of_ranked_statistics(days: WatchedDays) -> Column:
    """How rare a customer's level, night share, spread and form are in its segment, in sum, over a week."""
    vectors = day_vectors(days)
    shares, statistics = vectors[:, :, :DAY_HOURS], vectors[:, :, DAY_HOURS:]
    usual = np.nan_to_num(shares[:, :KNOWN_DAYS]).mean(axis=1, keepdims=True)
    moved = np.abs(shares - usual).sum(axis=2)
    fallen = -statistics[:, :, :2]  # against own history and against peers
    values = np.concatenate([fallen, statistics[:, :, 2:], moved[:, :, None]], axis=2)

    rarity = np.full(values.shape, np.nan)
    for group in _groups(days):
        for n in range(values.shape[2]):
            known = np.sort(values[group, FIT_DAYS, n], axis=None)
            known = known[~np.isnan(known)]
            rank = np.searchsorted(known, values[group, :, n]) / (len(known) + 1)
            rarity[group, :, n] = -np.log(1 - rank)
    total = np.where(np.isnan(values), np.nan, rarity).sum(axis=2)

    week = np.zeros(total.shape)
    for day in range(LATELY_DAYS, WATCHED_DAYS):
        week[:, day] = _mean(total[:, day - LATELY_DAYS + 1 : day + 1])
    return np.nan_to_num(week)


def of_forest(days: WatchedDays) -> Column:
    """An isolation forest for homes and one for others, on day vectors, learned in the fortnight before."""
    vectors = day_vectors(days)
    known = ~np.isnan(vectors).any(axis=2)
    score = np.full(known.shape, np.nan)
    for group in _groups(days):
        scored = np.where(group[:, np.newaxis], known, False)
        learned = scored.copy()
        learned[:, : FIT_DAYS.start] = learned[:, FIT_DAYS.stop :] = False
        scored[:, : KNOWN_DAYS - HELD_DAYS] = False  # before any judged day
        if learned.any():
            forest = IsolationForest(random_state=1).fit(vectors[learned])
            score[scored] = -forest.score_samples(vectors[scored])
    return lasting(score, HELD_DAYS)


def of_fall(days: WatchedDays) -> Column:
    """By how much the last week's use is below that of the four weeks before."""
    score = np.full(days.used_kwh.shape, np.nan)
    for day in range(KNOWN_DAYS, WATCHED_DAYS):
        lately = days.used_kwh[:, day - LATELY_DAYS + 1 : day + 1]
        begin = max(day - LATELY_DAYS + 1 - USUAL_DAYS, 0)
        usual = days.used_kwh[:, begin : day - LATELY_DAYS + 1]
        score[:, day] = 1 - _mean(lately) / np.maximum(_mean(usual), LITTLE_KWH)
    return np.maximum(np.nan_to_num(score), 0)


def day_vectors(days: WatchedDays) -> Column:
    """Of shape (places, days, 28): 24 shares, level against own history and against peers, night share, spread."""
    level = np.log(days.used_kwh + LITTLE_KWH)
    shares = np.moveaxis(days.hours / (days.used_kwh + LITTLE_KWH), 0, 2)
    usual, spread = (np.full(level.shape, np.nan) for _ in range(2))
    for day in range(LATELY_DAYS, WATCHED_DAYS):
        usual[:, day] = _mean(level[:, max(day - USUAL_DAYS, 0) : day])
        steps = np.diff(level[:, day - LATELY_DAYS : day + 1], axis=1)
        spread[:, day] = np.sqrt(_mean(steps**2))

    peers = np.full(level.shape, np.nan)
    areas = np.array([area for area, _ in days.places])
    for area in np.unique(areas):
        for group in _groups(days):
            rows = group & (areas == area)
            peers[rows] = level[rows] - _mean(level[rows].T)
    night = np.nansum(shares[:, :, :NIGHT_HOURS], axis=2)
    return np.concatenate(
        [shares, np.stack([level - usual, peers, night, spread], axis=2)], axis=2
    )


def _groups(days: WatchedDays) -> list[Mask]:
    """The places that are homes, and the others."""
    homes: Mask = days.is_home
    return [homes, np.logical_not(homes)]


def _mean(values: Column) -> Column:
    """The mean of each row's known values; NaN where there is none."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


ALL_METHODS: dict[str, Callable[[WatchedDays], Column]] = {
    "the rules with an area meter": of_rules_with_loss,
    "rules and `model_score` with one": of_both_with_loss,
    "the rules": of_rules,
    "rules and `model_score`": of_both,
    "`meterwatch rank`": of_ranking,
    "the same with `model_score`": of_ranking_with_model,
    "`model_score`": of_model,
    "half-space trees": of_half_spaces,
    "ranks of statistics": of_ranked_statistics,
    "isolation forest": of_forest,
    "a fall of a week": of_fall,
}


@dataclass(frozen=True)
class TheftOutcome:
    """What became of a theft: when it was found, and what that saved of what it would have hidden in JUDGED_DAYS."""

    theft: Theft
    days: (
        int | None
    )  # from its beginning to the midnight of the alert, None if it was not found
    saved_kwh: float


def false_alerts(score: Column, line: float) -> int:
    """How many alerts scores above a line are: days in a row are one, and those of before do not count."""
    above = score[:, KNOWN_DAYS - 1 : JUDGED_SPAN.stop] > line
    return int(np.count_nonzero(above[:, 1:] & ~above[:, :-1]))


def line_for(score: Column, allowed: int) -> float:
    """The lowest of the scores of honest days above which there are no more alerts than allowed."""
    line = np.inf
    for candidate in np.unique(score[:, JUDGED_SPAN])[::-1].tolist():
        if false_alerts(score, candidate) > allowed:
            break
        line = candidate
    return line


def outcomes(days: WatchedDays, score: Column, line: float) -> list[TheftOutcome]:
    """What becomes of every theft if scores above the line raise an alert."""
    row_of = {place: row for row, place in enumerate(days.places)}
    found = []
    for theft in days.thefts:
        above = np.flatnonzero(score[row_of[theft.place], JUDGED_SPAN] > line)
        after = int(above[0]) + 1 if len(above) else None
        saved = 0.0 if after is None else theft.hidden_kwh(after)
        found.append(TheftOutcome(theft, after, saved))
    return found


def honest(days: WatchedDays) -> Mask:
    """The judged places without a theft."""
    thieves = {theft.place for theft in days.thefts}
    return days.is_judged & [place not in thieves for place in days.places]

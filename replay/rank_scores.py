"""A ranking against labels: how many of the first subjects were rightly ranked, and how many faults they hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from replay.intervals import Estimate, share
from replay.labels import Label
from replay.observed import Observed
from replay.ranking import DayRanking
from schemas.units import DAY_SECONDS

LABEL_DAYS = 7  # after its end for which a label still judges a ranking


@dataclass(frozen=True)
class RankScore:
    """The first subjects of a ranking against labels."""

    count: int
    true: int
    false: int
    unknown: int  # without a label
    precision: Estimate
    labels: int  # true labels of the time
    found: int
    recall: Estimate  # weighted by inclusion probability


def rank_score(
    ranking: DayRanking,
    labels: Iterable[Label],
    observed: Observed,
    count: int,
    end: int,
) -> RankScore:
    """Compares the first subjects of a ranking with the labels of its time; the day of the ranking ends at `end`.

    A label judges a subject if one of its reasons is a rule that the label judges.
    """
    current = [
        label
        for label in labels
        if label.since <= end <= label.until + LABEL_DAYS * DAY_SECONDS
    ]
    by_place: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for label in current:
        areas = [label.area] if label.area else observed.areas(label.subject)
        for area in areas:
            by_place[area, label.subject].append(label)

    verdicts: Counter[str] = Counter()
    found: set[int] = set()
    first = ranking.places[:count]
    for row, (area, subject) in enumerate(first):
        reasons = {rules[row] for rules in ranking.reasons}
        names = observed.names(area, subject)
        about = [label for name in names for label in by_place.get((area, name), ())]
        found |= {id(label) for label in about if reasons & label.rules}
        answers = {
            label.verdict for label in about if reasons & (label.rules | label.echoes)
        }
        known = [verdict for verdict in ("true", "false") if verdict in answers]
        verdicts[known[0] if known else "unknown"] += 1

    true = [label for label in current if label.verdict == "true"]
    hits = [id(label) in found for label in true]
    is_right = [True] * verdicts["true"] + [False] * verdicts["false"]
    return RankScore(
        count=len(first),
        true=verdicts["true"],
        false=verdicts["false"],
        unknown=verdicts["unknown"],
        precision=share([1.0] * len(is_right), is_right),
        labels=len(true),
        found=sum(hits),
        recall=share([1 / label.inclusion for label in true], hits),
    )

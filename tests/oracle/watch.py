"""An episode by its definition: a score, runs above a line, calm below another, and how the episode ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.units import DAY_SECONDS, WEEK_SECONDS
from tests.adversarial import NOT_A_NUMBER

RETURN_SECONDS = 2 * DAY_SECONDS
Facts = dict[str, Any]
Key = tuple[str, str, str, int]  # rule, area, subject, since


class Ending(NamedTuple):
    """How an episode stood when the stream had ended."""

    state: str
    severity: int
    raised: int
    at: int
    score: float
    phase: str


Endings = dict[Key, Ending]


@dataclass
class OracleRule:
    """A raise line at 1 with its hold, worse lines, a clear line with its release, and the lull that ends a run."""

    score: Callable[[Facts], float | list[float]]
    severity: int
    hold: int = 0
    release: int = 0
    clear: float = 0.9
    worse: tuple[tuple[float, int, int], ...] = ()  # score, severity, hold
    lull: float = math.inf  # s
    chronic: bool = False  # published again after a day, then every week


@dataclass
class EpisodeTracker:
    """The episodes of one rule on one subject."""

    rule: OracleRule
    runs: dict[int, int] = field(default_factory=dict)  # since when, by level
    calm: int | None = None
    severity: int = 0
    since: int = 0
    published_at: int = 0
    endings: dict[int, Ending] = field(default_factory=dict)

    def see(self, at: int, score: float, phase: str, gap: float) -> None:
        """Take one score; NaN cannot tell and changes nothing."""
        if math.isnan(score):
            return
        worst = self.worst_level(at, score, gap)

        # Below the clear line: calm, and cleared at the end of the release.
        if self.severity and score < self.rule.clear:
            self.calm = at if self.calm is None else min(self.calm, at)
            if at - self.calm >= self.rule.release or score == -math.inf:
                self.clear_at(at)
            return

        # Raised or escalated; a chronic episode is published again.
        self.calm = None
        if worst and (not self.severity or worst < self.severity):
            raised = self.endings[self.since].raised if self.severity else at
            self.severity = worst
            self.since = self.runs[0]
            self.endings[self.since] = Ending("raised", worst, raised, at, score, phase)
            self.published_at = at
        elif self.severity and score >= 1 and self.may_repeat(at):
            ending = self.endings[self.since]
            self.endings[self.since] = ending._replace(at=at, score=score, phase=phase)
            self.published_at = at

    def worst_level(self, at: int, score: float, gap: float) -> int:
        """The severity of the worst level that has held long enough; 0 if none has."""
        rule = self.rule
        if not self.severity and gap > max(rule.lull, rule.hold):
            self.runs = {}

        levels = [(1.0, rule.severity, rule.hold), *rule.worse]
        for n, (line, _, _) in enumerate(levels):
            if score >= line:
                self.runs.setdefault(n, at)
            elif n or not self.severity:
                self.runs.pop(n, None)

        reached = [
            severity
            for n, (line, severity, hold) in enumerate(levels)
            if score >= line and at - self.runs[n] >= hold
        ]
        return min(reached, default=0)

    def clear_at(self, at: int) -> None:
        """End the episode."""
        ending = self.endings[self.since]
        self.endings[self.since] = ending._replace(state="cleared", at=at)
        self.severity = 0
        self.calm = None
        self.runs = {}

    def may_repeat(self, at: int) -> bool:
        """Whether a chronic episode is due again: a day after it was raised, then every week."""
        first_day = self.published_at - self.since < DAY_SECONDS
        pause = DAY_SECONDS if first_day else WEEK_SECONDS
        return self.rule.chronic and at - self.published_at >= pause


def between(trouble: bool, well: bool) -> float:
    """1 in trouble and 0 when well; 0.95 in between, which changes nothing."""
    return 1.0 if trouble else 0.0 if well else 0.95


def gated(score: float, gate: bool) -> float:
    """The score; at most 0.95, which raises nothing, while the gate is closed."""
    return score if gate else min(score, 0.95)


def by_phase(
    judge: Callable[[Facts, int], float], *needs: str
) -> Callable[[Facts], list[float]]:
    """A score per phase; NaN where a needed fact is NaN, of the phase or of the whole meter."""

    def phase_score(facts: Facts, n: int) -> float:
        values = [facts[need] for need in needs]
        of_phase = [value[n] if isinstance(value, list) else value for value in values]
        return NOT_A_NUMBER if any(map(math.isnan, of_phase)) else judge(facts, n)

    return lambda facts: [phase_score(facts, n) for n in range(3)]


def whole(judge: Callable[[Facts], float], *needs: str) -> Callable[[Facts], float]:
    """One score; NaN where a needed fact is NaN."""
    return lambda facts: (
        NOT_A_NUMBER if any(math.isnan(facts[need]) for need in needs) else judge(facts)
    )


def judge(
    rules: dict[str, OracleRule],
    area: str,
    subject: str,
    rows: Iterable[Facts],
    endings: Endings,
) -> None:
    """Judge all rows of one subject by every rule, and add how the episodes end."""
    trackers = {name: EpisodeTracker(rule) for name, rule in rules.items()}
    before = None
    for facts in rows:
        gap = math.inf if before is None else facts["at"] - before
        before = facts["at"]
        for tracker in trackers.values():
            score, phase = worst_phase(tracker.rule, facts)
            tracker.see(facts["at"], score, phase, gap)

    for name, tracker in trackers.items():
        for since, ending in tracker.endings.items():
            endings[name, area, subject, since] = ending


TIED_SHARE = 1e-6  # of the highest score, within which phases are equally bad


def worst_phase(rule: OracleRule, facts: Facts) -> tuple[float, str]:
    """The highest score and its phase; NaN while the phase without a score might be the one in trouble."""
    score = rule.score(facts)
    if not isinstance(score, list):
        return score, ""
    known = {n: value for n, value in enumerate(score) if not math.isnan(value)}
    highest = most(score)
    if math.isnan(highest):
        return NOT_A_NUMBER, ""
    if highest < rule.clear and len(known) < facts["elements"]:
        return NOT_A_NUMBER, ""
    worst = next(
        n for n in known if known[n] >= min(highest, highest * (1 - TIED_SHARE))
    )
    return known[worst], "ABC"[worst]


def most(values: list[float]) -> float:
    """The largest of the known values."""
    known = [value for value in values if not math.isnan(value)]
    return max(known, default=NOT_A_NUMBER)


def total(values: list[float]) -> float:
    """The sum of the known values; NaN when there is none."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) if known else NOT_A_NUMBER

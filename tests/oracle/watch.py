"""What an episode is to a clerk with a notebook: scores, runs, calms and how each ends."""

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
    """A raise line at 1 with its hold, worse lines, a clear line with its release, and what silence ends a run."""

    score: Callable[[Facts], float | list[float]]
    severity: int
    hold: int = 0
    release: int = 0
    clear: float = 0.9
    worse: tuple[tuple[float, int, int], ...] = ()  # score, severity, hold
    lull: float = math.inf
    chronic: bool = False  # told again after a day, then every week


@dataclass
class EpisodeTracker:
    """One rule on one subject: what it would remember if it were a clerk with a notebook."""

    rule: OracleRule
    runs: dict[int, int] = field(
        default_factory=dict
    )  # since when each level has been reached, by its number
    calm: int | None = None
    severity: int = 0
    since: int = 0
    published_at: int = 0
    endings: dict[int, Ending] = field(default_factory=dict)

    def see(self, at: int, score: float, phase: str, gap: float) -> None:
        """Take one observation; one that cannot tell changes nothing."""
        rule = self.rule
        if math.isnan(score):
            return
        if not self.severity and gap > max(rule.lull, rule.hold):
            self.runs = {}
        levels = [(1.0, rule.severity, rule.hold), *rule.worse]
        for n, (line, _, _) in enumerate(levels):
            if score >= line:
                self.runs.setdefault(n, at)
            elif n or not self.severity:
                self.runs.pop(n, None)
        worst = min(
            (
                s
                for n, (line, s, hold) in enumerate(levels)
                if score >= line and at - self.runs[n] >= hold
            ),
            default=0,
        )
        if self.severity and score < rule.clear:
            self.calm = at if self.calm is None else min(self.calm, at)
            if at - self.calm >= rule.release or score == -math.inf:
                self.endings[self.since] = self.endings[self.since]._replace(
                    state="cleared", at=at
                )
                self.severity, self.calm, self.runs = 0, None, {}
        else:
            self.calm = None
            if worst and (not self.severity or worst < self.severity):
                raised = self.endings[self.since].raised if self.severity else at
                self.severity, self.since = worst, self.runs[0]
                self.endings[self.since], self.published_at = (
                    Ending("raised", worst, raised, at, score, phase),
                    at,
                )
            elif (
                rule.chronic
                and self.severity
                and score >= 1
                and at - self.published_at >= self.pause()
            ):
                told = self.endings[self.since]
                self.endings[self.since], self.published_at = (
                    told._replace(at=at, score=score, phase=phase),
                    at,
                )

    def pause(self) -> int:
        """Seconds after which a chronic state is told again."""
        return (
            DAY_SECONDS
            if self.published_at - self.since < DAY_SECONDS
            else WEEK_SECONDS
        )


def between(trouble: bool, well: bool) -> float:
    """1 in trouble, 0 when well, between the two nothing changes."""
    return 1.0 if trouble else 0.0 if well else 0.95


def gated(score: float, gate: bool) -> float:
    """Behind a closed gate there is no trouble."""
    return score if gate else min(score, 0.95)


def by_phase(
    judge: Callable[[Facts, int], float], *needs: str
) -> Callable[[Facts], list[float]]:
    """A score per phase; NaN where a need is NaN, of the phase or of the whole."""

    def score(f: Facts) -> list[float]:
        told = []
        for n in range(3):
            values = [
                f[need][n] if isinstance(f[need], list) else f[need] for need in needs
            ]
            told.append(
                NOT_A_NUMBER if any(math.isnan(v) for v in values) else judge(f, n)
            )
        return told

    return score


def whole(judge: Callable[[Facts], float], *needs: str) -> Callable[[Facts], float]:
    """One score; NaN where a need is NaN."""
    return lambda f: (
        NOT_A_NUMBER if any(math.isnan(f[need]) for need in needs) else judge(f)
    )


def judge(
    rules: dict[str, OracleRule],
    area: str,
    subject: str,
    rows: Iterable[Facts],
    endings: Endings,
) -> None:
    """Let every rule see every row of one subject; NaN of a phase that a meter has is no proof that all is well."""
    watches = {name: EpisodeTracker(rule) for name, rule in rules.items()}
    before = None
    for f in rows:
        gap = math.inf if before is None else f["at"] - before
        before = f["at"]
        for watch in watches.values():
            score, phase = watch.rule.score(f), ""
            if isinstance(score, list):
                known = {n: s for n, s in enumerate(score) if not math.isnan(s)}
                best = max(known, key=lambda n: (known[n], -n), default=None)
                if best is None or (
                    known[best] < watch.rule.clear and len(known) < f["elements"]
                ):
                    continue
                score, phase = known[best], "ABC"[best]
            watch.see(f["at"], score, phase, gap)
    for name, watch in watches.items():
        endings |= {
            (name, area, subject, since): ending
            for since, ending in watch.endings.items()
        }


def most(values: list[float]) -> float:
    """The largest that is known."""
    return max((v for v in values if not math.isnan(v)), default=NOT_A_NUMBER)


def total(values: list[float]) -> float:
    """The sum of what is known, NaN when nothing is."""
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) if known else NOT_A_NUMBER

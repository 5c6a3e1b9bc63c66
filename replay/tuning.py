"""The settings of a sweep, what each costs in alerts and what it gains, and which keeps a budget of alerts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod

from replay.labels import Label
from replay.near_misses import NearMiss
from replay.observed import Observed
from replay.rule_scores import RuleScore, rule_scores
from schemas.alert import Alert
from schemas.units import DAY_SECONDS, WEEK_SECONDS

MOST_SETTINGS = 200  # of one sweep
BUDGET_FORM = re.compile(r"(\d+(?:\.\d+)?)(?:/(\d+))?/(day|week)", re.ASCII)
PERIOD_SECONDS = {"day": DAY_SECONDS, "week": WEEK_SECONDS}
Point = Mapping[str, float]  # values by `setting` or `segment.setting`


@dataclass(frozen=True)
class Swept:
    """A setting, of a segment if its name begins with one, and the values that are tried."""

    name: str
    values: tuple[float, ...]


def swept_of(text: str) -> Swept:
    """A setting with values: each, or from, to and step. Raises ValueError.

    >>> swept_of("limit=0.6:0.8:0.1"), swept_of("residential.days=5,7")
    (Swept(name='limit', values=(0.6, 0.7, 0.8)), Swept(name='residential.days', values=(5.0, 7.0)))
    """
    name, _, given = text.partition("=")
    try:
        if ":" in given:
            values = _range_of(*map(Decimal, given.split(":")))
        else:
            values = tuple(Decimal(each) for each in given.split(","))
        if not name or not all(value.is_finite() for value in values):
            raise ValueError
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(
            f"--set {text!r}: write a name with values, as in limit=5,7,10, or with first, last and step, "
            "as in limit=0.6:1.2:0.1"
        ) from None
    return Swept(name.strip(), tuple(dict.fromkeys(map(float, values))))


def _range_of(first: Decimal, last: Decimal, step: Decimal) -> tuple[Decimal, ...]:
    """The values from the first to the last. Raises ValueError if they never come there."""
    if step <= 0 or last < first:
        raise ValueError
    count = min(int((last - first) / step), MOST_SETTINGS)
    return tuple(first + step * n for n in range(count + 1))


def grid(sweeps: Sequence[Swept]) -> list[Point]:
    """Every combination of values. Raises ValueError if a setting comes twice or there are too many."""
    names = [swept.name for swept in sweeps]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--set names {twice[0]} twice: give all its values at once")
    count = prod(len(swept.values) for swept in sweeps)
    if count > MOST_SETTINGS:
        raise ValueError(
            f"{count:,} combinations of settings are more than {MOST_SETTINGS}: give fewer values to --set"
        )
    combinations = product(*(swept.values for swept in sweeps))
    return [dict(zip(names, values, strict=True)) for values in combinations]


@dataclass(frozen=True)
class AlertBudget:
    """So many alerts in a period, of so many meters, or of the whole history if `meters` is 0."""

    alerts: float
    meters: int
    seconds: int

    def allowed(self, meter_days: float, days: float) -> float:
        """How many alerts a history of so many days and meter days may have."""
        exposure = meter_days / self.meters if self.meters else days
        return self.alerts * exposure * DAY_SECONDS / self.seconds


def budget_of(text: str) -> AlertBudget:
    """The budget that a text states. Raises ValueError.

    >>> budget_of("2/1000/day"), budget_of("30/week")
    (AlertBudget(alerts=2.0, meters=1000, seconds=86400), AlertBudget(alerts=30.0, meters=0, seconds=604800))
    """
    form = BUDGET_FORM.fullmatch(text)
    if form is None or (form[2] and not int(form[2])):
        raise ValueError(
            f"--budget {text!r}: write alerts, meters and day or week, as in 2/1000/day, or 30/week for all meters"
        )
    alerts, meters, period = form.groups()
    return AlertBudget(float(alerts), int(meters or 0), PERIOD_SECONDS[period])


@dataclass(frozen=True)
class TunedSetting:
    """A setting of the swept rule and its figures."""

    settings: Point
    in_force: bool
    score: RuleScore
    covered: int  # near misses of the rule in force that this setting raises
    on_pareto_line: bool = False

    def gain(self, *, by_recall: bool) -> float:
        """What it finds: recall, or near misses that it raises."""
        return (self.score.recall.value or 0.0) if by_recall else self.covered


def tuned_setting(
    settings: Point,
    alerts: Iterable[Alert],
    labels: Collection[Label],
    observed: Observed,
    misses: Collection[NearMiss],
    *,
    rule: str,
    in_force: bool,
) -> TunedSetting:
    """The figures of a setting; `alerts` are those of the rule by it, `misses` those of the rule in force."""
    own = [alert for alert in alerts if alert.rule == rule]
    scores = rule_scores(own, labels, observed, {(rule, "")}).rules
    score = next(each for each in scores if (each.rule, each.segment) == (rule, ""))

    shown: dict[tuple[str, str], list[Alert]] = {}
    for alert in own:
        if not alert.suppressed_by:
            shown.setdefault((alert.area, alert.subject), []).append(alert)
    covered = sum(
        any(map(miss.meets, shown.get((miss.area, miss.subject), ())))
        for miss in misses
    )
    return TunedSetting(settings, in_force, score, covered)


def pareto_line(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other point has at most the cost and at least the gain, and one of them better.

    >>> pareto_line([(1, 0.2), (2, 0.2), (3, 0.9), (3, 0.8)])
    [True, False, True, False]
    """
    return [
        not any(
            (other_cost <= cost and other_gain >= gain)
            and (other_cost, other_gain) != (cost, gain)
            for other_cost, other_gain in points
        )
        for cost, gain in points
    ]


def best_within(
    tuned: Sequence[TunedSetting], allowed: float, *, by_recall: bool
) -> TunedSetting | None:
    """The setting with at most the allowed alerts that gains most; of equal ones that with the fewest alerts."""
    within = [each for each in tuned if each.score.alerts <= allowed]

    def worth(each: TunedSetting) -> tuple[float, int, bool]:
        return each.gain(by_recall=by_recall), -each.score.alerts, each.in_force

    return max(within, key=worth, default=None)

"""What a rule made of one subject at a time: its columns and score, and why it raised an alert or did not."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.episode_alerts import evidence_of
from detectors.episodes import LULL_SECONDS
from detectors.judge import Judge
from detectors.pipelines import Pipeline
from detectors.policy import braked
from detectors.revisable import RevisableJudge
from detectors.rule import Rule
from models.feature import Feature
from models.state.cells import Cells, Columns
from models.state.index import Index
from schemas.alert import Alert
from schemas.columns import PHASE_NAMES, Batch, Codes, Column, Mask
from schemas.declarations import declarations
from schemas.units import DAY_SECONDS

CONTEXT_ROWS = 5  # before and after the explained row
NEAR_ROWS = 30  # before and after it, of the days around, if fewer are near in time
NEAR_SECONDS = 3 * DAY_SECONDS
NEAR_SCORE = 0.8  # from which a score that raised nothing is a near miss
NAME_UNITS = {"kwh": "kWh", "kva": "kVA", "kw": "kW", "days": "d", "hours": "h"}
"""By the last word of a column's name: the unit of a column that no kind declares."""
MASTER_UNITS = {"un": "V", "ib": "A", "imax": "A"}
"""The units of master data, whose names in records end with them."""
OVER_PHASES = ("mean", "most", "total")  # first words of columns made of phases
Outcome = Literal["raised", "suppressed", "held", "quiet", "cannot_tell"]


class ScoredRow(NamedTuple):
    """A row as the rule read and scored it."""

    at: int
    score: float  # of the worst phase; NaN: cannot tell
    values: dict[str, float | None]  # by column, one a phase; None if not known
    missing: tuple[str, ...]  # columns that the rule needs and that are NaN
    settings: dict[str, float]  # in force for the row
    gap: float  # s since the row before; 0 where rows have no gaps


class NotedColumns(NamedTuple):
    """Given by RowNotes."""

    is_noted: Mask  # True in rows of the subject


class RowNotes(Feature):
    """Notes the rows of one subject, scored by one rule; it comes after all features that the rule may read."""

    distinct = False

    def __init__(self, rule: Rule, index: Index, subject: str, area: str) -> None:
        self.cells = Cells()
        self._rule = rule
        self._index = index
        self._subject = subject
        self._area = area  # "" for any
        # by area and time; a row that is judged again replaces its earlier score
        self.rows: dict[str, dict[int, ScoredRow]] = defaultdict(dict)

    def places(self) -> dict[str, int]:
        """The slot of the subject by area."""
        areas = [self._area] if self._area else list(self._index.known)
        found = {
            area: self._index.known.get(area, {}).get(self._subject) for area in areas
        }
        return {area: slot for area, slot in found.items() if slot is not None}

    def fold(self, slots: Codes) -> NotedColumns:
        """Finds the rows of the subject."""
        return NotedColumns(np.isin(slots, list(self.places().values())))

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        """Notes the rows of the subject in whole columns, and gives what `fold` does."""
        for area, slot in self.places().items():
            picked = np.flatnonzero(slots == slot)
            if not len(picked):
                continue
            own = {name: column[..., picked] for name, column in columns.items()}
            rows = scored_rows(self._rule, own)
            self.rows[area].update((row.at, row) for row in rows)
        return self.fold(slots)._asdict()


def scored_rows(rule: Rule, columns: Columns) -> Iterator[ScoredRow]:
    """Every row of columns, scored by a rule."""
    missing = {name: np.isnan(columns[name]) for name in rule.reads}
    scores = rule.score(columns, missing)
    needed = _value_names(rule.reads, columns)
    names = [*needed, *_value_names(rule.beside, columns)]

    for row, at in enumerate(columns["at"].tolist()):
        score = scores[..., row]
        if score.ndim:
            score = _worst(score, rule.clear, int(columns["elements"][row]))
        evidence, shown = evidence_of(rule, columns, row, -1)
        values = {name: evidence.get(name) for name in names}
        yield ScoredRow(
            at=at,
            score=float(score),
            values=values,
            missing=tuple(name for name in needed if values[name] is None),
            settings={name: shown[name] for name in rule.settings},
            gap=float(columns["gap"][row]) if "gap" in columns else 0.0,
        )


def _worst(scores: Column, clear: float, elements: int) -> Column:
    """The highest score of a meter's phases; NaN if it is well but a phase is NaN."""
    known = scores[~np.isnan(scores)]
    worst = known.max(initial=-np.inf)
    if not len(known) or (worst < clear and len(known) < elements):
        return np.array(np.nan)
    return np.asarray(worst)


def _value_names(columns_read: Iterable[str], columns: Columns) -> list[str]:
    """The names of the values of columns, one a phase."""
    names: list[str] = []
    for name in columns_read:
        if columns[name].ndim > 1:
            names += [f"{name}_{phase.lower()}" for phase in PHASE_NAMES]
        else:
            names.append(name)
    return names


@dataclass(frozen=True)
class ExplainedRow:
    """A row of a subject, the rows around it, and what became of its score."""

    outcome: Outcome
    row: ScoredRow
    around: Sequence[ScoredRow]  # with the row
    near: Sequence[ScoredRow]  # of the days around, with the row
    episodes: Sequence[Alert]  # of the subject in these days, as they began
    alert: Alert | None  # whose episode the row belongs to
    withdrawn: bool  # True if an alert on the row was withdrawn later
    trouble: int  # s for which the score has been 1 or more
    hold: int  # s for which it must be

    @property
    def is_near_miss(self) -> bool:
        """True if the score came close to the raise line and raised nothing."""
        return self.outcome == "quiet" and self.row.score >= NEAR_SCORE

    def marked(self, alerts: Mapping[str, Alert]) -> ExplainedRow:
        """The same with alerts as policy has them in the end, by id."""
        alert = self.alert and alerts.get(self.alert.id, self.alert)
        episodes = [alerts.get(each.id, each) for each in self.episodes]
        outcome = self.outcome
        if alert and outcome in ("raised", "suppressed"):
            outcome = "suppressed" if alert.suppressed_by else "raised"
        return replace(self, outcome=outcome, alert=alert, episodes=episodes)


@dataclass(frozen=True)
class FoundSubject:
    """What a history, or a shard of one, shows of a subject until a time."""

    name: str
    rows: Mapping[str, ExplainedRow | None]  # by area: the last row until the time
    near: Sequence[str]  # names like it, if no area has it
    times: Sequence[int]  # the first and the last, none without rows
    alerts: Sequence[Alert]  # of all subjects, that stand

    @classmethod
    def joined(
        cls, parts: Sequence[FoundSubject], section: Callable[[str], str]
    ) -> FoundSubject:
        """What the shards of a history show, with storm brake and budget, which span areas."""
        alerts = braked(chain.from_iterable(part.alerts for part in parts), section)
        by_id = {alert.id: alert for alert in alerts}
        rows = {
            area: row and row.marked(by_id)
            for part in parts
            for area, row in part.rows.items()
        }
        near = sorted(chain.from_iterable(part.near for part in parts))
        times = list(chain.from_iterable(part.times for part in parts))
        return cls(parts[0].name, rows, near, times, alerts)

    def area(self, rule: Rule) -> str:
        """The area of the subject that a rule judges. Raises ValueError if it is in none or in several."""
        areas = sorted(self.rows)
        if len(areas) == 1:
            return areas[0]
        if areas:
            raise ValueError(
                f"{self.name} is in the areas {', '.join(areas)}: choose one by --area"
            )
        near = get_close_matches(self.name, self.near, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{rule.name} judges {rule.kind.kind}, and none is of {self.name}{hint}"
        )


class ExplainedHistory:
    """A history judged by all rules, with notes on one rule and subject.

    A rule of areas needs the area alone, as the area or as the subject.
    """

    def __init__(self, engine: Engine, rule: Rule, subject: str, area: str) -> None:
        self._engine = engine
        self._rule = rule
        pipeline = pipeline_of(engine, rule)
        self._is_of_areas = pipeline.index is engine.indexes.areas
        if self._is_of_areas:
            subject, area = "", area or subject
        self._name = subject or area
        self._subject = subject
        self._index = pipeline.index
        self._notes = RowNotes(rule, pipeline.index, subject, area)
        note_rows(engine, pipeline, self._notes)

        self._alerts: dict[str, Alert] = {}  # by id, in their last states
        self._times: list[int] = []  # the first and last of each batch

    def judge(self, batches: Iterable[Batch]) -> None:
        """Judges batches."""
        for batch in batches:
            if not len(batch):
                continue
            self._times.append(int(batch.at.min()))
            self._times.append(int(batch.at.max()))
            for alert in [*self._engine.step(batch), *self._engine.shadowed]:
                self._alerts[alert.id] = alert

    def found(self, at: int) -> FoundSubject:
        """What the history shows of the subject until a time."""
        rows = {area: self._row(area, at) for area in self._notes.places()}
        own_times = [at for rows in self._notes.rows.values() for at in rows]
        times = [*self._times, *own_times]
        span = [min(times), max(times)] if self._times else []
        near = [] if rows else self._near_names()
        standing = [each for each in self._alerts.values() if each.state != "withdrawn"]
        return FoundSubject(self._name, rows, near, span, standing)

    def _near_names(self) -> list[str]:
        """The name that is most like the subject's, if any is like it."""
        names = set(self._index.known)
        if not self._is_of_areas:
            names = {name for known in self._index.known.values() for name in known}
        return get_close_matches(self._name, sorted(names), 1)

    def _row(self, area: str, at: int) -> ExplainedRow | None:
        """The explanation of the last row in an area until a time; None if there is no such row."""
        by_time = self._notes.rows.get(area, {})
        rows = [by_time[each] for each in sorted(by_time)]
        times = [row.at for row in rows]
        place = bisect_right(times, at) - 1
        if place < 0:
            return None

        first = max(place - CONTEXT_ROWS, 0)
        around = rows[first : place + CONTEXT_ROWS + 1]
        near_first = bisect_left(times, times[place] - NEAR_SECONDS)
        near_end = bisect_right(times, times[place] + NEAR_SECONDS)
        near_first = max(min(near_first, place - NEAR_ROWS), 0)
        near_end = max(near_end, place + NEAR_ROWS + 1)
        near = rows[near_first:near_end]
        own = self._rule.name, area, self._subject
        alerts = [
            alert
            for alert in self._alerts.values()
            if (alert.rule, alert.area, alert.subject) == own
        ]
        return _explanation(self._rule, rows[: place + 1], around, near, alerts)


def pipeline_of(engine: Engine, rule: Rule) -> Pipeline:
    """The pipeline whose rows a rule judges."""
    pipelines = engine.judges.pipelines
    return next(each for each in pipelines if each.kind is rule.kind)


def note_rows(engine: Engine, pipeline: Pipeline, notes: Feature) -> None:
    """Let a feature see all rows of a pipeline, after its other features."""
    for judge in _judges_of(engine.judges.by_name[pipeline.name]):
        judge.features = [*judge.features, notes]


def _judges_of(judge: RevisableJudge | Judge) -> tuple[Judge, ...]:
    """The judges of a pipeline; the final one must have the features of the live one."""
    if isinstance(judge, RevisableJudge):
        return judge.final, judge.live
    return (judge,)


def _explanation(
    rule: Rule,
    rows: Sequence[ScoredRow],
    around: Sequence[ScoredRow],
    near: Sequence[ScoredRow],
    alerts: Iterable[Alert],
) -> ExplainedRow:
    """Explains the last of a subject's rows."""
    row = rows[-1]
    known = sorted(alerts, key=lambda each: (each.since, each.id))
    begun = [alert for alert in known if alert.since <= row.at]
    nearby = [
        alert
        for alert in known
        if alert.since <= near[-1].at and _end(alert) >= near[0].at
    ]
    episodes = [alert for alert in begun if _is_open(alert, row.at)]
    alert = max(episodes, key=lambda each: each.since, default=None)
    ended = [each for each in begun if each.at >= row.at]
    withdrawn = any(each.state == "withdrawn" for each in ended)

    outcome: Outcome = "quiet"
    if alert and alert.raised <= row.at:
        outcome = "suppressed" if alert.suppressed_by else "raised"
    elif np.isnan(row.score):
        outcome = "cannot_tell"
    elif row.score >= rule.levels[0].score:
        outcome = "held"
    trouble = _trouble_seconds(rule, rows)
    hold = rule.levels[0].hold
    return ExplainedRow(
        outcome, row, around, near, nearby, alert, withdrawn, trouble, hold
    )


def _end(alert: Alert) -> float:
    """When an episode ended; infinite if it lasts."""
    return math.inf if alert.state == "raised" else alert.at


def _is_open(alert: Alert, at: int) -> bool:
    """True if an episode that had begun was not over at a time."""
    if alert.state == "cleared":
        return at < alert.at
    return alert.state == "raised"


def _trouble_seconds(rule: Rule, rows: Sequence[ScoredRow]) -> int:
    """For how long a row and those before it have had a score of trouble, without a lull between them."""
    line, _, hold = rule.levels[0]
    longest_gap = max(LULL_SECONDS.get(rule.kind, 0), hold)
    last = since = rows[-1].at
    for row in reversed(rows):
        if np.isnan(row.score):
            continue
        if row.score < line:
            break
        since = row.at
        if not row.gap <= longest_gap:
            break
    return last - since


def units(rule: Rule, names: Iterable[str]) -> dict[str, str]:
    """The unit of each value that a rule reads, "" if nothing declares it.

    >>> from detectors.rule import ALL_RULES
    >>> units(ALL_RULES["zero_usage"], ["zero_days", "usual_kwh", "lossy"])
    {'zero_days': 'd', 'usual_kwh': 'kWh', 'lossy': ''}
    >>> units(ALL_RULES["voltage_loss"], ["u_a", "most_i", "un"])
    {'u_a': 'V', 'most_i': 'A', 'un': 'V'}
    """
    declared = {
        name: column.unit.name for name, column in declarations(rule.kind).items()
    }
    known = NAME_UNITS | MASTER_UNITS | declared
    return {name: _unit(name, known) for name in names}


def _unit(name: str, known: Mapping[str, str]) -> str:
    """The unit of a value by its column's name, its phase left out, or by its last word; "" if none is known."""
    if name in known:
        return known[name]
    column, _, last = name.rpartition("_")
    if last.upper() in PHASE_NAMES and column in known:
        return known[column]
    if column in OVER_PHASES:
        return known.get(last, "")
    return NAME_UNITS.get(last, "")

"""Near misses of a rule: scores between 0.8 and the raise line where the rule raised no alert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.judge import worst_of
from detectors.rule import Rule
from models.feature import Feature
from models.state.cells import Cells, Columns
from models.state.index import Index
from replay.explanation import NEAR_SCORE, note_rows, pipeline_of
from schemas.alert import Alert
from schemas.columns import AreaDays, Codes, Column, Days, Mask
from schemas.units import DAY_SECONDS

Place = tuple[str, str]  # area and subject


class NearMiss(NamedTuple):
    """Days in a row on which a subject came near the raise line."""

    area: str
    subject: str
    since: int  # the first near row
    until: int  # the last

    def meets(self, alert: Alert) -> bool:
        """Whether an alert on the subject stood at the time."""
        end = alert.at if alert.state == "cleared" else self.until
        return alert.since <= self.until and end >= self.since


class NearColumns(NamedTuple):
    """Given by NearRows."""

    is_near: Mask


class NearRows(Feature):
    """Notes where a rule's scores are near its raise line; it comes after all features that the rule may read."""

    distinct = False

    def __init__(self, rule: Rule, index: Index) -> None:
        self.cells = Cells()
        self._rule = rule
        self._index = index
        # by day and subject: the first and the last near row
        self._spans: dict[int, dict[Place, tuple[int, int]]] = defaultdict(dict)

    def fold(self, slots: Codes) -> NearColumns:
        """No row is near without a score."""
        return NearColumns(np.zeros(len(slots), np.bool_))

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        """Scores whole columns and notes the near rows; a day that is judged again replaces what was noted of it."""
        near = self._near(columns)
        at = columns["at"]
        days = at // DAY_SECONDS
        if self._rule.kind in (Days, AreaDays):
            self._forget(slots, days)

        for row in np.flatnonzero(near).tolist():
            place = self._index.pairs[slots[row]]
            time = int(at[row])
            spans = self._spans[int(days[row])]
            first, last = spans.get(place, (time, time))
            spans[place] = min(first, time), max(last, time)
        return NearColumns(near)._asdict()

    def _near(self, columns: Columns) -> Mask:
        """The rows whose score is near the raise line."""
        missing = {name: np.isnan(columns[name]) for name in self._rule.reads}
        scores: Column = self._rule.score(columns, missing)
        if scores.ndim == 2:
            scores = worst_of(scores, self._rule.clear, columns["elements"])
        line = self._rule.levels[0].score
        near: Mask = (scores >= NEAR_SCORE) & (scores < line)
        return near

    def _forget(self, slots: Codes, days: Codes) -> None:
        """Forget what was noted of the days of subjects."""
        for day in set(days.tolist()) & self._spans.keys():
            spans = self._spans[day]
            for slot in slots[days == day].tolist():
                spans.pop(self._index.pairs[slot], None)

    def misses(self, alerts: Iterable[Alert]) -> list[NearMiss]:
        """The near misses by area, subject and time; `alerts` are the rule's."""
        raised: dict[Place, list[Alert]] = defaultdict(list)
        for alert in alerts:
            raised[alert.area, alert.subject].append(alert)

        return sorted(
            miss
            for miss in self._near_spans()
            if not any(map(miss.meets, raised[miss.area, miss.subject]))
        )

    def _near_spans(self) -> list[NearMiss]:
        """The near days of every subject; days in a row are one."""
        spans: list[NearMiss] = []
        lasting: dict[Place, NearMiss] = {}  # with the day before
        yesterday = -1
        for day in sorted(self._spans):
            before = lasting if day == yesterday + 1 else {}
            spans += () if before else lasting.values()
            lasting = {}
            for place, (first, last) in self._spans[day].items():
                since = before.pop(place).since if place in before else first
                lasting[place] = NearMiss(*place, since, last)
            spans += before.values()
            yesterday = day
        return [*spans, *lasting.values()]


def note_near_rows(engine: Engine, name: str) -> NearRows:
    """Let an engine note the near rows of a rule that it judges."""
    rule = next(rule for rule in engine.rules if rule.name == name)
    pipeline = pipeline_of(engine, rule)
    notes = NearRows(rule, pipeline.index)
    note_rows(engine, pipeline, notes)
    return notes

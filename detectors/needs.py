"""The rules that can judge a history, and the data that the other rules lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from detectors.engine import Engine
from detectors.judge import Judge
from detectors.reorder.reading_columns import JudgedColumns
from detectors.revisable import RevisableJudge
from detectors.rule import ALL_RULES, Level, Rule
from detectors.windows import BALANCE_COLUMNS
from models.feature import Feature
from models.master.records import AREA_COLUMNS, METER_COLUMNS
from schemas.columns import ALL_KINDS, AreaDays, Batch, Column, Days, Readings
from schemas.declarations import data_of
from schemas.master import Area

LONGER_HISTORY = "a longer history"
MASTER_COLUMNS = frozenset({*METER_COLUMNS, *AREA_COLUMNS})


@dataclass(frozen=True)
class _SilentRule(Rule):
    """A rule that raises nothing, and counts the rows that it could judge."""

    counts: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def answerable_rows(self) -> int:
        """How many rows it could judge."""
        return self.counts["rows"]

    def score(self, columns: Mapping[str, Any], missing: Mapping[str, Any]) -> Column:
        """NaN for every row."""
        score = super().score(columns, missing)
        self.counts["rows"] += int(np.count_nonzero(~np.isnan(score)))
        return np.full(score.shape, np.nan)


class Needs:
    """An engine that publishes nothing."""

    def __init__(self, areas: Iterable[Area], zone: str, interval: int) -> None:
        self._features = _features_of(Engine(zone=zone, interval=interval))
        self.rules = {name: _silenced(rule) for name, rule in ALL_RULES.items()}
        self._columns = {
            (kind.kind, column): _probe(kind, column)
            for kind, column in self._columns_read()
        }
        rules = [*self.rules.values(), *self._columns.values()]
        self._engine = Engine(rules, zone=zone, interval=interval)
        self._engine.enroll(areas)
        self._given: set[str] = set()  # what the batches were made of

    def step(self, batch: Batch) -> None:
        """Judge a batch, and publish nothing."""
        self._given.add(batch.made_of)
        self._engine.step(batch)

    def lacks(self, name: str) -> list[str]:
        """The data that a rule lacks to judge any row, in words; empty if it could judge one."""
        rule = self.rules[name]
        if rule.answerable_rows:
            return []
        if rule.modelled and rule.model is None:
            return ["a fleet model"]

        kind = rule.kind.kind
        columns = [column for of, column in self._columns if of == kind]
        if not any(self._known(kind, column) for column in columns):
            made_of = rule.kind.made_of
            return [LONGER_HISTORY if made_of in self._given else made_of]
        words: set[str] = set()
        for column in rule.reads:
            if not self._known(kind, column):
                words.update(self._bases(kind, column))
        return sorted(words) or [LONGER_HISTORY]

    def _known(self, kind: str, column: str) -> bool:
        return self._columns[kind, column].answerable_rows > 0

    def _bases(self, kind: str, column: str) -> Iterator[str]:
        """The data for lack of which a column is missing: other columns, master data, or time."""
        if kind == Days.kind and column in BALANCE_COLUMNS:
            yield from self._bases(AreaDays.kind, BALANCE_COLUMNS[column])
            return

        makers = (
            feature for feature in self._features[kind] if column in feature.gives
        )
        feature = next(makers, None)
        if feature is None:
            yield _data_of(kind, column)
            return

        unknown = [name for name in feature.uses if self._missing(kind, name)]
        for name in unknown:
            yield from self._bases(kind, name)
        if not unknown:
            yield "a longer history"

    def _missing(self, kind: str, column: str) -> bool:
        return (kind, column) in self._columns and not self._known(kind, column)

    def _columns_read(self) -> set[tuple[type[Batch], str]]:
        """Every column that a rule or a feature reads, with its kind."""
        kinds = {rule.kind.kind: rule.kind for rule in ALL_RULES.values()}
        columns: set[tuple[type[Batch], str]] = set()
        for rule in ALL_RULES.values():
            columns.update((rule.kind, column) for column in rule.reads)
        for kind, features in self._features.items():
            if kind in kinds:
                for feature in features:
                    columns.update((kinds[kind], column) for column in feature.reads)
        return columns


def _data_of(kind: str, column: str) -> str:
    """The data from which a column is computed that no feature gives."""
    if column in MASTER_COLUMNS:
        return f"{column} of the master data"
    declared = data_of(ALL_KINDS[kind])
    if kind == Readings.kind:
        declared |= data_of(JudgedColumns)
    return declared.get(column, column)


def _features_of(engine: Engine) -> dict[str, list[Feature]]:
    """The features of each kind of rows."""
    found: dict[str, list[Feature]] = {}
    for judge in engine.judges.by_name.values():
        live: Judge = judge.live if isinstance(judge, RevisableJudge) else judge
        found[live.kind.kind] = list(live.features)
    return found


def _silenced(rule: Rule) -> _SilentRule:
    return _SilentRule(
        **{attribute.name: getattr(rule, attribute.name) for attribute in fields(Rule)}
    )


def _probe(kind: type[Batch], column: str) -> _SilentRule:
    """A rule that could judge every row in which a column is known."""
    return _SilentRule(
        f"{column} of {kind.kind}",
        kind,
        (Level(1.0, 4, 0),),
        0,
        0.9,
        _itself,
        (column,),
        {},
        ("", ""),
        ("", ""),
        explained_by=(),
    )


def _itself(column: Column) -> Column:
    return np.asarray(column, np.float64)

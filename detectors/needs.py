"""What rules need: by which of them a history can be judged, and what the others lack of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from detectors.engine import Engine
from detectors.judge import Judge
from detectors.revisable import RevisableJudge
from detectors.rule import ALL_RULES, Level, Rule
from models.features import Feature
from models.registry import AREA_COLUMNS, METER_COLUMNS
from schemas.columns import Batch, Column
from schemas.master import Area

MASTER_COLUMNS = frozenset({*METER_COLUMNS, *AREA_COLUMNS})
WITHOUT_ROWS = {  # by kind: what makes its rows
    "readings": "readings", "days": "readings", "clocks": "clock_offset or received of readings",
    "intervals": "p, i or a gateway meter", "area_days": "a gateway meter", "incidents": "device events",
    "payments": "payments, top-ups or balances", "attempts": "payments through a channel", "invoices": "bills",
    "transfers": "payments with their references", "overdue": "stages of work", "backlogs": "stages of work",
    "traces": "stages of work", "master_records": "master data",
}  # fmt: skip
MADE_OF = {  # of readings, days and intervals: columns that are worked out before any feature sees them
    "total_p": "p", "most_p": "p", "kva": "p and q, or i", "power_factor": "p and q", "most_i": "i", "mean_i": "i",
    "most_u": "u", "register_delta": "register", "register_drop": "register", "mean_kw": "p", "mean_kvar": "q",
    "kva_p99": "p and q, or i", "kva_2h": "p and q, or i", "unbalance_p95": "u of three phases",
    "unbalance_top": "u of three phases", "by_magnitude": "u of three phases", "curve": "kwh", "coverage": "kwh",
    "live": "u", "voltage_apart": "u, and of a gateway meter", "area_excess_kwh": "kwh of a gateway meter",
    "area_unusual_kwh": "kwh of a gateway meter", "energy_in": "kwh of a gateway meter", "current": "i",
    "top_kw": "kwh", "highest_u": "u", "lowest_u": "u", "whole_p": "p",
}  # fmt: skip


@dataclass(frozen=True)
class _SilentRule(Rule):
    """A rule that tells nothing, and counts the rows of which it could tell."""

    counts: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def answerable_rows(self) -> int:
        """Of how many rows it could have told."""
        return self.counts["rows"]

    def score(self, columns: Mapping[str, Any], missing: Mapping[str, Any]) -> Column:
        """NaN of every row."""
        score = super().score(columns, missing)
        self.counts["rows"] += int(np.count_nonzero(~np.isnan(score)))
        return np.full(score.shape, np.nan)


class Needs:
    """An engine that only listens."""

    def __init__(self, areas: Iterable[Area], zone: str, interval: int) -> None:
        self._features = _features_of(Engine(zone=zone, interval=interval))
        self.rules = {name: _silenced(rule) for name, rule in ALL_RULES.items()}
        self._columns = {
            (kind.kind, column): _probe(kind, column) for kind, column in self._asked()
        }
        self._engine = Engine(
            [*self.rules.values(), *self._columns.values()],
            zone=zone,
            interval=interval,
        )
        self._engine.enroll(areas)

    def step(self, batch: Batch) -> None:
        """Listen to a batch."""
        self._engine.step(batch)

    def lacks(self, name: str) -> list[str]:
        """What a rule would need to tell of any row, in words; nothing where it could tell."""
        rule = self.rules[name]
        if rule.answerable_rows:
            return []
        if rule.modelled and rule.model is None:
            return ["a fleet model"]
        kind = rule.kind.kind
        if not any(
            self._known(kind, column) for of, column in self._columns if of == kind
        ):
            return [WITHOUT_ROWS[kind]]
        missing = [column for column in rule.reads if not self._known(kind, column)]
        words = {word for column in missing for word in self._bases(kind, column)}
        return sorted(words) or ["a longer history"]

    def _known(self, kind: str, column: str) -> bool:
        return self._columns[kind, column].answerable_rows > 0

    def _bases(self, kind: str, column: str) -> Iterator[str]:
        """What a column is missing for: other columns, master data, or time."""
        feature = next(
            (feature for feature in self._features[kind] if column in feature.gives),
            None,
        )
        if feature is None:
            yield (
                f"{column} of the master data"
                if column in MASTER_COLUMNS
                else MADE_OF.get(column, column)
            )
            return
        unknown = [
            read
            for read in (*feature.reads, *feature.takes)
            if self._missing(kind, read)
        ]
        for read in unknown:
            yield from self._bases(kind, read)
        if not unknown:
            yield "a longer history"

    def _missing(self, kind: str, column: str) -> bool:
        return (kind, column) in self._columns and not self._known(kind, column)

    def _asked(self) -> set[tuple[type[Batch], str]]:
        """Every column that a rule or a feature reads, with its kind."""
        kinds = {rule.kind.kind: rule.kind for rule in ALL_RULES.values()}
        asked = {
            (rule.kind, column) for rule in ALL_RULES.values() for column in rule.reads
        }
        for kind, features in self._features.items():
            asked |= {
                (kinds[kind], column)
                for feature in features
                for column in feature.reads
                if kind in kinds
            }
        return asked


def _features_of(engine: Engine) -> dict[str, list[Feature]]:
    """The features of each kind of rows."""
    found: dict[str, list[Feature]] = {}
    for judge in engine.judges().values():
        one: Judge = judge.live if isinstance(judge, RevisableJudge) else judge
        found[one.kind.kind] = list(one.features)
    return found


def _silenced(rule: Rule) -> _SilentRule:
    return _SilentRule(**{one.name: getattr(rule, one.name) for one in fields(Rule)})


def _probe(kind: type[Batch], column: str) -> _SilentRule:
    """A rule that could tell of every row of which a column is known."""
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
    )


def _itself(column: Column) -> Column:
    return np.asarray(column, np.float64)

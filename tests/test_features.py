"""A feature's signature names the columns that it reads and gives; the rows of its kind have what it reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.judge import Judge
from detectors.rule import ALL_RULES
from models.feature import Feature
from models.meters.readings import Standstill
from models.state.cells import Cells
from replay.cases.judging import engine_of_one
from schemas.columns import Codes, Column, Days, Times
from tests.adversarial import adversarial_stream
from tests.test_promises import judge_stream


class CountedColumns(NamedTuple):
    doubled: Column
    gap: Times


class Misspelt(Feature):
    """Reads a column that nothing has, and gives one that its rows have."""

    def __init__(self) -> None:
        self.cells = Cells()

    def fold(self, slots: Codes, register_detla: Column) -> CountedColumns:
        return CountedColumns(register_detla, np.zeros(len(slots), np.int64))


class KindColumns(NamedTuple):
    features: Sequence[Feature]
    columns: Collection[str]  # of the rows, before any feature adds some


@pytest.fixture(scope="module")
def kinds() -> dict[str, KindColumns]:
    """The features of every kind that is judged, and the columns of its rows."""
    found: dict[str, KindColumns] = {}
    add_features: Any = Judge._add_features

    def noted(judge: Judge, columns: dict[str, Any], *rows: Any) -> None:
        found[judge.kind.kind] = KindColumns(judge.features, set(columns))
        add_features(judge, columns, *rows)

    with patch.object(Judge, "_add_features", noted):
        judge_stream(adversarial_stream(7))
    return found


def faults(features: Sequence[Feature], columns: Collection[str]) -> Iterator[str]:
    """Everything wrong with the columns of features that follow one another."""
    known = set(columns)
    for feature in features:
        name = type(feature).__name__
        for column in feature.uses:
            if column not in known:
                yield f"{name} reads {column}, which its rows do not have"
        for column in feature.gives:
            if column in known:
                yield f"{name} gives {column}, which its rows have already"
        known.update(feature.gives)


def test_every_column_that_a_feature_reads_is_known_to_its_kind(kinds):
    assert {"readings", "days", "intervals", "area_days", "attempts"} <= kinds.keys()
    assert [
        f"{kind}: {fault}" for kind in kinds for fault in faults(*kinds[kind])
    ] == []


def test_unknown_column_is_named_with_its_feature(kinds):
    features, columns = kinds["readings"]
    assert list(faults([*features, Misspelt()], columns)) == [
        "Misspelt reads register_detla, which its rows do not have",
        "Misspelt gives gap, which its rows have already",
    ]


def test_names_of_columns_are_those_of_the_signature():
    assert Standstill.reads == ("register_delta", "total_p")
    assert Standstill.takes == ("at",)
    assert Standstill.gives == ("still_kwh",)


def many(self: Feature, slots: Codes, *columns: Column) -> CountedColumns:
    raise NotImplementedError


def optional(self: Feature, slots: Codes, u: float = 0.0) -> CountedColumns:
    raise NotImplementedError


def without_slots(self: Feature, u: Column) -> CountedColumns:
    raise NotImplementedError


def nameless(self: Feature, slots: Codes, u: Column) -> tuple[Column, Times]:
    raise NotImplementedError


def silent(self: Feature, slots: Codes, u: Column):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (many, r"many: \*columns: 'Column' names no column"),
        (optional, "Bad.fold takes slots, then columns"),
        (without_slots, "Bad.fold takes slots, then columns"),
        (nameless, "Bad.fold does not return a NamedTuple"),
        (silent, "Bad.fold does not return a NamedTuple"),
    ],
)
def test_feature_of_another_form_is_refused_when_it_is_defined(fold, message):
    with pytest.raises(TypeError, match=message):
        type("Bad", (Feature,), {"fold": fold})


@pytest.mark.parametrize("rule", ALL_RULES.values(), ids=ALL_RULES)
def test_an_engine_of_one_rule_keeps_all_that_the_rule_reads(rule):
    features = Engine([rule]).judges.revisable["days"].live.features
    kept = engine_of_one(rule, 900).judges.revisable["days"].live.features
    names = [type(feature).__name__ for feature in kept]
    assert names == [
        type(feature).__name__
        for feature in features
        if type(feature).__name__ in names
    ]

    of_days = {*rule.reads, *rule.beside} if rule.kind is Days else set()
    read = of_days.union(*(feature.uses for feature in kept))
    given = {name for feature in features for name in feature.gives}
    assert read & given <= {name for feature in kept for name in feature.gives}
    assert all(read.intersection(feature.gives) for feature in kept)

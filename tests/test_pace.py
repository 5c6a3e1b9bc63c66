"""Long histories of few meters: one call judges many event times and publishes the same."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.history import HISTORY_MAKERS, METER_NAMES
from detectors.engine import Engine
from detectors.episodes import Episodes
from detectors.judge import Judge
from detectors.rule import ALL_RULES, DISPROVED_SCORE
from models.feature import Feature
from models.meters.loading import Heat
from models.meters.readings import Elapsed, Standstill
from models.meters.wiring import NeutralMismatch, PhaseLoad
from models.state.cells import Cells
from models.state.codec import dumps
from models.state.passes import UniquePasses, unique_passes
from schemas.alert import Alert
from schemas.columns import Batch, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

SLOT_COUNT, ROW_COUNT = 5, 400
FEATURE_TYPES = {
    "elapsed": Elapsed,
    "standstill": Standstill,
    "neutral": NeutralMismatch,
    "load": PhaseLoad,
    "heat": lambda: Heat(900),
}


def drawn(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows of a few slots in order of time, with the columns that features read; some values are unknown."""
    rng = np.random.default_rng(seed)

    def some(values: np.ndarray, share: float = 0.2) -> np.ndarray:
        return np.where(rng.random(values.shape) < share, np.nan, values)

    at = 10**9 + np.cumsum(rng.choice([0, 60, 900, 5 * HOUR_SECONDS], ROW_COUNT))
    columns = {
        "at": at,
        "register_delta": some(rng.choice([0.0, 0.5], ROW_COUNT)),
        "total_p": some(rng.normal(1, 1, ROW_COUNT)).astype(np.float32),
        "neutral": some(rng.normal(3, 1, ROW_COUNT)).astype(np.float32),
        "most_i": some(rng.gamma(2, 1, ROW_COUNT)).astype(np.float32),
        "ib": np.full(ROW_COUNT, 5.0, np.float32),
        "elements": rng.choice([1.0, 3.0], ROW_COUNT),
        "i": some(rng.gamma(2, 0.2, (3, ROW_COUNT))).astype(np.float32),
        "kva": some(rng.gamma(2, 100, ROW_COUNT)).astype(np.float32),
        "rating_kva": np.full(ROW_COUNT, 200.0, np.float32),
        "coverage": rng.choice([0.5, 1.0], ROW_COUNT),
        "temperature": some(rng.normal(20, 5, ROW_COUNT), 0.7).astype(np.float32),
    }

    return rng.integers(0, SLOT_COUNT, ROW_COUNT), columns


@pytest.mark.parametrize("name", FEATURE_TYPES)
@pytest.mark.parametrize("seed", range(3))
def test_feature_gives_the_same_for_many_rows_as_one_by_one(name: str, seed: int):
    slots, columns = drawn(seed)
    batched, alone = FEATURE_TYPES[name](), FEATURE_TYPES[name]()
    for feature in (batched, alone):
        feature.cells.reserve(SLOT_COUNT)
    folded = batched.columns_for(slots, columns)
    each = [one_by_one(alone, slots, columns, row) for row in range(ROW_COUNT)]
    for column in batched.gives:
        np.testing.assert_array_equal(
            folded[column], np.concatenate([row[column] for row in each], axis=-1)
        )
    for column, expected in alone.cells.arrays.items():
        np.testing.assert_array_equal(batched.cells[column], expected)


def one_by_one(
    feature: Feature, slots: np.ndarray, columns: dict[str, np.ndarray], row: int
) -> dict[str, np.ndarray]:
    single = slice(row, row + 1)
    return feature.columns_for(
        slots[single], {name: column[..., single] for name, column in columns.items()}
    )


@pytest.mark.parametrize(
    "name", ["current_loss", "meter_current_unbalance", "read_failure", "voltage_loss"]
)
@pytest.mark.parametrize("seed", range(5))
def test_episodes_are_the_same_for_many_rows_as_one_by_one(name: str, seed: int):
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, SLOT_COUNT, ROW_COUNT)
    at = 10**9 + np.cumsum(rng.choice([60, 900, 3 * HOUR_SECONDS], ROW_COUNT))
    lasting = np.repeat(
        rng.choice([0.2, 0.95, 1.0, 1.3, 2.5, DISPROVED_SCORE], ROW_COUNT // 8), 8
    )
    score = np.where(
        rng.random(ROW_COUNT) < 0.9, lasting, rng.choice([0.2, 0.95, 1.0], ROW_COUNT)
    )
    gap = np.where(
        rng.random(ROW_COUNT) < 0.1,
        np.nan,
        rng.choice([900.0, 9 * HOUR_SECONDS], ROW_COUNT),
    )

    rows: tuple[Any, ...] = np.arange(ROW_COUNT), slots, at, score, gap
    batched, alone = episodes_of(name), episodes_of(name)
    changes = batched.update(*rows)
    assert changes
    assert sorted(changes) == [
        change
        for n in range(ROW_COUNT)
        for change in alone.update(*(column[n : n + 1] for column in rows))
    ]

    for key, expected in alone.cells.items():
        np.testing.assert_array_equal(batched.cells[key], expected)


def episodes_of(name: str) -> Episodes:
    watching = Cells(rules=np.uint8(0))
    watching.reserve(SLOT_COUNT)
    return Episodes(ALL_RULES[name], watching)


def test_unique_passes_keep_the_order_of_arrival():
    slots = np.array([7, 5, 7, 7, 5])
    assert [rows.tolist() for rows in unique_passes(slots)] == [[0, 1], [2, 4], [3]]
    earlier = UniquePasses(slots).earlier(
        np.arange(5.0), np.full(5, -1.0), np.array([True, True, False, True, True])
    )
    assert earlier.tolist() == [-1, -1, 0, 0, 1]


def history(days: int) -> Readings:
    """A small area with late rows, and with an hour in which nothing is read."""
    make, _ = HISTORY_MAKERS["history_small_area"]
    rows = make(days)
    rows = rows.select(rows.at % (7 * DAY_SECONDS) > HOUR_SECONDS)
    arrival = rows.at + np.where(np.arange(len(rows)) % 211 == 0, 7 * HOUR_SECONDS, 0)
    return rows.select(np.argsort(arrival, kind="stable"))


def judged(batches: list[Batch]) -> tuple[Counter[bytes], dict[str, bytes]]:
    """The alerts of batches, and the state after them but for the row layout of reorder buffers."""
    engine = Engine(interval=900)
    alerts = [alert for batch in batches for alert in engine.step(batch)]
    owners = {
        name: dumps(state)
        for name, state in engine.capture()["owners"].items()
        if not name.startswith("reorder")
    }
    return Counter(map(msgspec.json.encode, alerts)), owners


def test_history_in_one_batch_publishes_the_same_as_in_slices():
    rows = history(24)
    cuts = [
        0,
        *(np.flatnonzero(np.diff(rows.at // (6 * HOUR_SECONDS)) > 0) + 1).tolist(),
        len(rows),
    ]
    alerts, owners = judged([rows])
    alerts_of_slices, owners_of_slices = judged(
        [rows.select(slice(start, end)) for start, end in pairwise(cuts)]
    )

    assert alerts == alerts_of_slices
    assert owners.keys() == owners_of_slices.keys()
    assert [name for name in owners if owners[name] != owners_of_slices[name]] == []


def test_judge_calls_grow_with_days_and_not_with_event_times(monkeypatch):
    make, interval = HISTORY_MAKERS["history_households"]
    calls: Counter[str] = Counter()
    fold = Judge.judge

    def counted(self: Judge, batch: Batch, *arguments: Any) -> list[Alert]:
        calls[batch.kind] += 1
        return fold(self, batch, *arguments)

    monkeypatch.setattr(Judge, "judge", counted)
    Engine(interval=interval).step(make(days := 30))
    assert len(METER_NAMES) * days * 48 == 36_000
    assert calls["intervals"] <= days
    assert calls["days"] <= days

"""How likely items pass their limits: the promises of the core, on a section whose stays depend on their paths."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.state.owners import StateError
from models.timelines.hazard import (
    Example,
    Hazard,
    StayFacts,
    learn_day,
    new_model,
    weight_columns,
)
from models.timelines.paths import Before, Paths
from schemas.alert import Alert
from schemas.columns import StageProgress, Stages
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream, duplicated, shuffled
from tests.test_promises import agree, engine_of, exactly, judge_stream, restored, same

ZONE_NAME = "Asia/Shanghai"
ITEM_COUNT = 150
DAY_COUNT = 26
RULE_NAME = "stage_overdue_expected"


def item_rows(rng: np.random.Generator, n: int, start: int) -> list[Row]:
    """An item that is checked and repaired; after a check of the other kind the repair is mostly late."""
    checked = str(rng.choice(["check", "recheck"]))
    slow = checked == "recheck" and rng.random() < 0.95
    begun = start + int(rng.integers(0, (DAY_COUNT - 3) * DAY_SECONDS))
    repaired = begun + int(rng.integers(HOUR_SECONDS, 3 * HOUR_SECONDS))
    took = int((14 if slow else 5) * HOUR_SECONDS * rng.uniform(0.8, 1.2))

    limit = float(10 * HOUR_SECONDS)
    moves = [
        (begun, checked, StageProgress.STARTED, NOT_A_NUMBER),
        (repaired, checked, StageProgress.FINISHED, NOT_A_NUMBER),
        (repaired, "repair", StageProgress.STARTED, limit),
    ]
    if rng.random() < 0.2:
        paused = repaired + int(rng.integers(0, 4 * HOUR_SECONDS))
        resumed = paused + int(rng.integers(0, 4 * HOUR_SECONDS))
        moves.append((paused, "repair", StageProgress.PAUSED, NOT_A_NUMBER))
        moves.append((resumed, "repair", StageProgress.RESUMED, NOT_A_NUMBER))
        took += resumed - paused
    if rng.random() < 0.97:
        moves.append((repaired + took, "repair", StageProgress.FINISHED, NOT_A_NUMBER))
    return [
        Row(
            Stages, "S1", f"W{n}", at, dict(stage=stage, progress=progress, limit=limit)
        )
        for at, stage, progress, limit in moves
    ]


def repairs(seed: int) -> Stream:
    """A section's month."""
    rng = np.random.default_rng(seed)
    start = int(datetime(2026, 3, 2, tzinfo=ZoneInfo(ZONE_NAME)).timestamp())
    rows = [row for n in range(ITEM_COUNT) for row in item_rows(rng, n, start)]
    return Stream([], tuple(sorted(rows, key=lambda row: row.at)), ZONE_NAME, 900)


def raised_items(stream: Stream) -> dict[str, list[int]]:
    """When each item was expected to be late."""
    raised: dict[str, list[int]] = {}
    for alert in judge_stream(stream)[1]:
        if alert.rule == RULE_NAME and alert.change == "raised":
            raised.setdefault(alert.subject, []).append(alert.at)
    return raised


@pytest.mark.parametrize("seed", [0, 1])
def test_the_slow_twin_agrees(seed):
    stream = repairs(seed)
    assert len(raised_items(stream)) > 5
    agree(stream)
    agree(duplicated(shuffled(stream, seed, 20 * HOUR_SECONDS), seed))


def test_items_that_will_be_late_are_found_before_their_limit():
    stream = repairs(2)
    ended: Counter[str] = Counter()
    begun: dict[str, int] = {}
    for row in stream.rows:
        if row.columns["stage"] != "repair":
            continue
        if row.columns["progress"] == StageProgress.STARTED:
            begun[f"{row.subject}/repair"] = row.at
        elif row.columns["progress"] == StageProgress.FINISHED:
            ended[f"{row.subject}/repair"] = row.at

    raised = raised_items(stream)
    late = {item for item in raised if ended[item] - begun[item] > 10 * HOUR_SECONDS}
    assert len(late) > 0.8 * len(raised)
    assert all(
        at - begun[item] < 14 * HOUR_SECONDS for item in late for at in raised[item]
    )


def test_any_cut_publishes_exactly_the_same():
    stream = shuffled(repairs(3), 3, 20 * HOUR_SECONDS)
    expected = exactly(judge_stream(stream)[1])
    for every in (1, 97):
        cuts = range(0, len(stream.rows), every)
        assert exactly(judge_stream(stream, cuts)[1]) == expected


def test_rows_may_come_in_any_order():
    stream = repairs(5)
    late = shuffled(stream, 5, 60 * HOUR_SECONDS)
    same(judge_stream(late)[1], judge_stream(stream)[1])


def test_timers_need_no_events_and_no_certain_step():
    stream = repairs(4)
    cut = len(stream.rows) * 3 // 4
    alerts: list[list[Alert]] = []

    for step in (HOUR_SECONDS, 40 * DAY_SECONDS):
        engine = engine_of(stream)
        found = [
            alert
            for batch in stream.with_rows(stream.rows[:cut]).batches([0])
            for alert in engine.step(batch)
        ]
        now = stream.rows[cut - 1].at
        end = now + 40 * DAY_SECONDS
        while now < end:
            now = min(now + step, end)
            found += engine.tick(now)
        alerts.append(found)
    same(*alerts)
    assert any(alert.rule == RULE_NAME for alert in alerts[0])


def test_an_engine_restored_again_and_again_goes_on_undisturbed():
    stream = repairs(6)
    expected = [
        exactly([alert])
        for alert in judge_stream(stream, range(0, len(stream.rows), 60))[1]
    ]
    assert [exactly([alert]) for alert in restored(stream, 60)] == expected


# The model and the paths.


def example(n: int, *, lasted: bool) -> Example:
    return Example(n, 0, lasted, StayFacts("repair", "check", n % 3, n % 7, n % 24))


def test_model_does_not_depend_on_the_order_of_a_days_examples():
    examples = [example(n, lasted=n % 3 == 0) for n in range(80)]
    one = learn_day(new_model(), Counter(examples))
    other = learn_day(new_model(), Counter(reversed(examples)))
    assert (one.weights == other.weights).all()
    assert one.stays["repair"] == 80


def test_model_approaches_the_share_that_lasted():
    model = new_model()
    rng = np.random.default_rng(0)
    for _ in range(200):
        drawn = (
            example(int(n), lasted=rng.random() < 0.2) for n in rng.integers(0, 99, 30)
        )
        model = learn_day(model, Counter(drawn))
    columns = weight_columns(example(5, lasted=True).facts)
    chance = 1 / (1 + np.exp(-model.weights[0, columns].sum()))
    assert chance == pytest.approx(0.2, abs=0.06)


def test_hazard_refuses_a_state_without_weights():
    with pytest.raises(StateError, match="a section has no weights"):
        Hazard().load({"hazard_sections": [("S1", 3, {"repair": 9})]})


def test_move_that_comes_late_changes_only_the_move_behind_it():
    paths = Paths()
    paths.note("S1", "W1", (100, "check"), 0)
    paths.note("S1", "W1", (300, "repair"), 0)
    paths.note("S1", "W1", (400, "close"), 0)
    assert paths.note("S1", "W1", (200, "plan"), 0) == [(300, "repair")]
    assert paths.before("S1", "W1", 300) == Before("plan", 100)
    assert paths.before("S1", "W1", 400) == Before("repair", 100)


def test_paths_keep_little_and_forget_old_items():
    paths = Paths()
    for at in range(1000):
        paths.note("S1", "W1", (at, "check"), at - 10)
    assert len(paths.state()["moves"]["S1"][0][1]) <= 12
    paths.forget({"S1": 1000 + 181 * DAY_SECONDS})
    assert not paths.state()["moves"]
    assert paths.before("S1", "W1", 1000) == Before()

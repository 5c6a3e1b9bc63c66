"""A section whose work changes for good: its model drifts, cannot tell, and learns anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from math import isnan
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detectors.catalogue import facts
from detectors.rule import ALL_RULES
from models.timelines.hazard import (
    DRIFT_TEST,
    LEAST_STAYS,
    Example,
    Hazard,
    Learned,
    StayFacts,
    learn_day,
    new_model,
)
from schemas.columns import StageProgress, Stages
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream, shuffled
from tests.oracle.lateness import PartFacts, PlainLateness
from tests.test_promises import engine_of, exactly, judge_stream, restored

ZONE_NAME = "Asia/Shanghai"
MODEL_NAME = "stage_lateness"
RULE_NAME = "stage_overdue_expected"
LIMIT_HOURS = 10
ITEMS_A_DAY = 15
FIRST_DAY = datetime(2026, 3, 2, tzinfo=ZoneInfo(ZONE_NAME))


def hours_of_work(rng: np.random.Generator, *, times: float) -> float:
    """Two to eight hours, or as many times as long."""
    return times * rng.uniform(2, 8)


def parts_of_day(
    rng: np.random.Generator, day: int, *, times: float
) -> Iterator[PartFacts]:
    """What a day's work comes to, part by part."""
    for n in range(ITEMS_A_DAY):
        entered = day * DAY_SECONDS + int(rng.integers(0, 8 * HOUR_SECONDS))
        start = entered + HOUR_SECONDS
        done = start + int(hours_of_work(rng, times=times) * HOUR_SECONDS)
        limit = LIMIT_HOURS * HOUR_SECONDS
        deadline = datetime.fromtimestamp(start + limit, ZoneInfo(ZONE_NAME))

        for part in range(3):
            begin = start + (part + 1) * limit // 4
            if begin < done:
                yield PartFacts(
                    (f"W{day}.{n}", "repair"),
                    start,
                    part,
                    begin,
                    begin + limit // 4,
                    done,
                    (entered, "check"),
                    deadline,
                )


def example_of(part: PartFacts) -> Example:
    """A part as the model learns it."""
    before = (part.start - int(part.before[0])) // 60
    weekday, hour = part.deadline.weekday(), part.deadline.hour
    known = StayFacts("repair", "check", before.bit_length(), weekday, hour)
    return Example(int(part.known), part.n, part.end < part.done, known)


@cache
def work(seed: int, usual_days: int, other_days: int, times: float) -> list[PartFacts]:
    """The parts of a section's days, whose work takes several times as long after the usual ones."""
    rng = np.random.default_rng(seed)
    return [
        part
        for day in range(usual_days + other_days)
        for part in parts_of_day(rng, day, times=times if day >= usual_days else 1)
    ]


def learned_days(parts: list[PartFacts]) -> list[Learned]:
    """The model after every day."""
    days: dict[int, Counter[Example]] = defaultdict(Counter)
    for part in parts:
        example = example_of(part)
        days[example.at // DAY_SECONDS][example] += 1
    model, models = new_model(), list[Learned]()
    for day in sorted(days):
        model = learn_day(model, days[day])
        models.append(model)
    return models


def drifts_of(model: Learned) -> int:
    """How often a model has drifted."""
    return int(model.errors[-1].sum())


@pytest.mark.parametrize("times", [3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_a_section_whose_work_changes_drifts_and_learns_anew(seed, times):
    models = learned_days(work(seed, 60, 40, times))
    drifts = [drifts_of(model) for model in models]
    first = next(day for day, count in enumerate(drifts) if count)

    assert 60 < first < 80
    assert models[first].drifted
    assert models[first].stays["repair"] < LEAST_STAYS
    assert not models[-1].drifted


@pytest.mark.parametrize("seed", range(3))
def test_steady_work_does_not_drift(seed):
    models = learned_days(work(seed, 300, 0, 1))
    assert drifts_of(models[-1]) == 0


def test_one_odd_day_is_no_drift():
    usual = work(4, 60, 30, 1)
    odd = work(4, 60, 1, 3)
    models = learned_days(
        [
            *(part for part in odd if part.start < 61 * DAY_SECONDS),
            *(part for part in usual if part.start >= 61 * DAY_SECONDS),
        ]
    )
    assert drifts_of(models[-1]) == 0


def test_a_new_stage_is_no_drift():
    parts = work(5, 60, 0, 1)
    later = [
        part._replace(item=(part.item[0], "close"))
        for part in work(6, 60, 60, 3)
        if part.start >= 60 * DAY_SECONDS
    ]

    model = new_model()
    for day_parts in (parts, later):
        by_day: dict[int, Counter[Example]] = defaultdict(Counter)
        for part in day_parts:
            example = example_of(part)
            named = example.facts._replace(stage=part.item[1])
            by_day[example.at // DAY_SECONDS][example._replace(facts=named)] += 1
        for day in sorted(by_day):
            model = learn_day(model, by_day[day])
    assert drifts_of(model) == 0
    assert {*model.stays} == {"repair", "close"}


def test_the_slow_twin_drifts_on_the_same_day():
    parts = work(7, 50, 25, 3)
    hazard, twin = Hazard(), PlainLateness(parts)
    for part in parts:
        hazard.count("S1", [example_of(part)], 1)

    chances: list[float] = []
    for part in parts:
        day = (part.begin - 3 * DAY_SECONDS) // DAY_SECONDS
        if day < 48 or part.n or part.item[0].partition(".")[2] not in {"1", "2"}:
            continue
        chance = hazard.chance("S1", day, part.n, example_of(part).facts)
        assert chance == pytest.approx(twin.chance(part), nan_ok=True, abs=1e-9)
        chances.append(chance)

    silent = [isnan(chance) for chance in chances]
    assert not silent[0]
    assert not silent[-1]
    assert any(silent)
    assert chances[0] < 0.2
    assert chances[-1] > 0.6


def test_errors_come_back_from_a_state_and_are_empty_without():
    hazard = Hazard()
    for part in work(8, 70, 0, 1):
        hazard.count("S1", [example_of(part)], 1)
    hazard.forget({"S1": 60})
    state = hazard.state()
    assert state["hazard_errors"].any()

    restored = Hazard()
    restored.load(state)
    assert (restored.state()["hazard_errors"] == state["hazard_errors"]).all()

    del state["hazard_errors"]
    restored.load(state)
    assert not restored.state()["hazard_errors"].any()
    some_facts = example_of(work(8, 70, 0, 1)[0]).facts
    assert restored.chance("S1", 60, 0, some_facts) == hazard.chance(
        "S1", 60, 0, some_facts
    )


# The same in the engine.


@cache
def slowing() -> Stream:
    """Forty days of a section's work, then twenty of work that takes three times as long."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    for n in range(60 * ITEMS_A_DAY):
        day = n // ITEMS_A_DAY
        start = int(FIRST_DAY.timestamp()) + day * DAY_SECONDS
        start += int(rng.integers(0, 10 * HOUR_SECONDS))
        hours = hours_of_work(rng, times=3 if day >= 40 else 1)
        done = start + int(hours * HOUR_SECONDS)

        for at, progress, limit in (
            (start, StageProgress.STARTED, LIMIT_HOURS * float(HOUR_SECONDS)),
            (done, StageProgress.FINISHED, NOT_A_NUMBER),
        ):
            columns = dict(stage="repair", progress=progress, limit=limit)
            rows.append(Row(Stages, "S1", f"W{n}", at, columns))
    ordered = tuple(sorted(rows, key=lambda row: row.at))
    return Stream([], ordered, ZONE_NAME, 900)


def test_the_rule_cannot_tell_of_a_section_until_it_has_learned_anew():
    stream = slowing()
    engine = engine_of(stream)
    model = engine.judges.models()[MODEL_NAME]
    drifted: dict[int, int] = {}
    raised: Counter[int] = Counter()
    for batch in stream.batches(range(0, len(stream.rows), 10)):
        alerts = engine.step(batch)
        day = (int(batch.at[0]) - int(FIRST_DAY.timestamp())) // DAY_SECONDS
        drifted[day] = model.drifted
        raised[day] += sum(
            alert.rule == RULE_NAME and alert.change == "raised" for alert in alerts
        )

    silent = [day for day, count in drifted.items() if count]
    assert 43 < silent[0] < 56
    assert len(silent) == silent[-1] - silent[0] + 1
    assert not any(raised[day] for day in silent[1:-1])
    assert any(raised[day] for day in range(silent[-1] + 1, 60))


def test_any_cut_and_any_restart_publish_exactly_the_same():
    stream = shuffled(slowing(), 3, 20 * HOUR_SECONDS)
    expected = exactly(judge_stream(stream)[1])
    cuts = range(0, len(stream.rows), 97)
    assert exactly(judge_stream(stream, cuts)[1]) == expected
    assert exactly(restored(stream, 97)) == expected


def test_the_page_of_rules_says_that_drift_is_watched():
    lines = list(facts(ALL_RULES[RULE_NAME]))
    assert any(f'meterwatch_drifted{{model="{MODEL_NAME}"}}' in line for line in lines)
    others = facts(ALL_RULES["stage_overdue"])
    assert not any("online model" in line for line in others)


def test_an_error_counts_for_so_much_that_no_single_one_is_a_drift():
    assert DRIFT_TEST.most - DRIFT_TEST.tolerance < DRIFT_TEST.limit / 3

"""The promises of the core on work items and working days: months of work in small sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest

from models.timelines.durations import Durations
from schemas.columns import StageProgress, Stages
from schemas.master import Area, Stage
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import (
    NOT_A_NUMBER,
    STREAM_STARTS,
    Row,
    Stream,
    duplicated,
    shuffled,
)
from tests.test_promises import agree, engine_of, exactly, judge_stream, same

DAY_COUNT = 24
OWN_STAGES = [
    Stage(stage="survey", hours=20, working_days=True),
    Stage(stage="design"),
    Stage(stage="build", hours=60),
]


def sections(seed: int) -> Stream:
    """The work of two sections, one with its own stages and limits; some stalls, is sent back or skipped."""
    rng = np.random.default_rng(seed)
    zone, year, month, day = STREAM_STARTS[seed % len(STREAM_STARTS)]
    start = int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())
    rows: list[Row] = []
    for section, stages in (
        ("S1", ("survey", "design", "build")),
        ("S2", ("reading", "checking", "review")),
    ):
        for n in range(60):
            at = start + int(rng.integers(0, (DAY_COUNT - 4) * DAY_SECONDS))
            for stage in stages:
                if rng.random() < 0.04:
                    continue  # skipped
                took = int(
                    6
                    * HOUR_SECONDS
                    * np.exp(0.3 * rng.standard_normal())
                    * (9 if rng.random() < 0.06 else 1)
                )

                if (
                    stage in ("build", "checking")
                    and 6 * DAY_SECONDS < at - start < 12 * DAY_SECONDS
                ):
                    took += 5 * DAY_SECONDS  # a stuck batch

                repeats = int(rng.random() < 0.05)
                for begun in (at, at + took + HOUR_SECONDS)[: 1 + repeats]:
                    columns = dict(
                        stage=stage,
                        limit=float(
                            rng.choice([NOT_A_NUMBER, NOT_A_NUMBER, 9 * HOUR_SECONDS])
                        ),
                    )
                    started = columns | dict(progress=StageProgress.STARTED)
                    rows.append(Row(Stages, section, f"W{n}", begun, started))

                    done = columns | dict(
                        progress=StageProgress.FINISHED, limit=NOT_A_NUMBER
                    )
                    rows.append(Row(Stages, section, f"W{n}", begun + took, done))

                at += (1 + repeats) * (took + HOUR_SECONDS)

    rows = [row for row in rows if row.at < start + DAY_COUNT * DAY_SECONDS]
    return Stream(
        [Area(area="S1", stages=OWN_STAGES)],
        tuple(sorted(rows, key=lambda row: row.at)),
        zone,
        900,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_slow_twin_agrees(seed):
    stream = sections(seed)
    alerts = judge_stream(stream)[1]
    raised_counts = Counter(alert.rule for alert in alerts if alert.change == "raised")

    rules = ("stage_stall", "stage_disorder", "stage_overdue", "stage_batch_stuck")
    assert min(raised_counts[rule] for rule in rules) > 1

    agree(stream, alerts)
    agree(duplicated(shuffled(stream, seed, 20 * HOUR_SECONDS), seed))


def test_any_cut_publishes_exactly_the_same():
    stream = shuffled(sections(3), 3, 20 * HOUR_SECONDS)
    expected = exactly(judge_stream(stream)[1])
    for every in (1, 100):
        assert (
            exactly(judge_stream(stream, range(0, len(stream.rows), every))[1])
            == expected
        )


def test_rows_may_come_in_any_order():
    stream = sections(5)
    same(
        judge_stream(shuffled(stream, 5, 60 * HOUR_SECONDS))[1], judge_stream(stream)[1]
    )


def test_an_engine_restored_again_and_again_goes_on_undisturbed():
    stream = shuffled(sections(4), 4, 20 * HOUR_SECONDS)
    engine, restarted = engine_of(stream), engine_of(stream)
    for batch in stream.batches(range(0, len(stream.rows), 60)):
        saved = restarted.snapshot()
        restarted = engine_of(stream)
        restarted.restore(saved)
        assert exactly(restarted.step(batch)) == exactly(engine.step(batch))
    assert restarted.snapshot() == engine.snapshot()


def test_corrected_rows_count_once():
    durations = Durations()
    for n in range(20):
        durations.count(("S1", "review"), 0, HOUR_SECONDS + n, 1)
    durations.count(("S1", "review"), 0, DAY_SECONDS, 1)
    assert durations.usual(("S1", "review"), 9, 0.99) == pytest.approx(
        DAY_SECONDS, rel=0.1
    )
    durations.count(("S1", "review"), 0, DAY_SECONDS, -1)
    assert durations.usual(("S1", "review"), 9, 0.99) == pytest.approx(
        HOUR_SECONDS, rel=0.1
    )
    durations.forget({"S1": 9})
    assert durations.state() == {"stays_begun": [], "stays_ended": []}


def test_open_stay_counts_as_longer_than_so_far():
    durations = Durations()
    for n in range(40):
        durations.count(("S1", "review"), 0, HOUR_SECONDS if n < 30 else None, 1)
    assert np.isnan(durations.usual(("S1", "review"), 9))
    assert durations.usual(("S1", "review"), 9, 0.75) == pytest.approx(
        HOUR_SECONDS, rel=0.1
    )


def test_usual_duration_comes_from_old_stays_if_many_never_end():
    durations, group = Durations(), ("S1", "last")
    for n in range(100):
        durations.count(
            group,
            n * DAY_SECONDS,
            None if n % 5 == 0 else n * DAY_SECONDS + HOUR_SECONDS,
            1,
        )
    # work of the last three months may still end
    assert np.isnan(durations.usual(group, 60))
    assert durations.usual(group, 130) == pytest.approx(HOUR_SECONDS, rel=0.1)


def test_stage_that_is_always_last_is_an_end():
    durations, group = Durations(), ("S1", "billed")
    for n in range(100):
        durations.count(
            group,
            n * DAY_SECONDS,
            n * DAY_SECONDS + HOUR_SECONDS if n % 10 == 0 else None,
            1,
        )
    assert np.isnan(durations.usual(group, 130))


def stage_rows(item: str, *moves: tuple[StageProgress, int]) -> list[Row]:
    return [
        Row(
            Stages,
            "S9",
            item,
            at,
            dict(stage="survey", limit=NOT_A_NUMBER, progress=move),
        )
        for move, at in moves
    ]


def test_a_stage_may_have_a_slash_in_its_name():
    def renamed(name: str) -> str:
        return name.replace("survey", "site/the/survey")

    def renamed_row(row: Row) -> Row:
        return replace(
            row, columns=row.columns | {"stage": renamed(row.columns["stage"])}
        )

    def states(stream: Stream, name: Callable[[str], str]) -> list[tuple[Any, ...]]:
        return sorted(
            (alert.rule, name(alert.subject), alert.since, alert.at, alert.change)
            for alert in judge_stream(stream)[1]
        )

    plain = sections(1)
    slashed = replace(
        plain,
        areas=[
            msgspec.structs.replace(
                area,
                stages=[
                    msgspec.structs.replace(stage, stage=renamed(stage.stage))
                    for stage in area.stages
                ],
            )
            for area in plain.areas
        ],
        rows=tuple(map(renamed_row, plain.rows)),
    )
    expected = states(plain, renamed)
    assert expected
    assert states(slashed, str) == expected


def test_waiting_for_others_is_not_part_of_the_usual_duration():
    """Stays of two hours, each after a day of waiting; a stay of five hours has stalled."""
    start, rows = 1_772_380_800, list[Row]()
    for n in range(30):
        at = start + n * HOUR_SECONDS
        rows += stage_rows(
            f"W{n}",
            (StageProgress.STARTED, at),
            (StageProgress.PAUSED, at + HOUR_SECONDS),
            (StageProgress.RESUMED, at + HOUR_SECONDS + DAY_SECONDS),
            (StageProgress.FINISHED, at + 2 * HOUR_SECONDS + DAY_SECONDS),
        )

    late = start + 8 * DAY_SECONDS
    rows += stage_rows("W99", (StageProgress.STARTED, late)) + stage_rows(
        "W98", (StageProgress.STARTED, late + 20 * HOUR_SECONDS)
    )
    rows += stage_rows("W97", (StageProgress.STARTED, late + 21 * HOUR_SECONDS))
    stream = Stream(
        [], tuple(sorted(rows, key=lambda row: row.at)), "Asia/Shanghai", 900
    )
    alerts = judge_stream(stream)[1]
    stalled = [alert for alert in alerts if alert.rule == "stage_stall"]

    assert [alert.subject for alert in stalled] == ["W99/survey"]
    assert stalled[0].evidence["usual_hours"] == pytest.approx(2, rel=0.1)

    agree(stream, alerts)
    agree(duplicated(shuffled(stream, 1, 20 * HOUR_SECONDS), 1))

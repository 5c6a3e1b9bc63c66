"""The daily scores of meters while rows come: those of `rank`, each once, whatever is cut, restored or killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from msgspec import json

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from detectors.score_feed import settled_at
from models.master.calendar import day_of
from models.state.owners import StateError
from replay.archive.day_files import day_name
from replay.day_scores import DayScores
from replay.score_files import score_days
from replay.simulation.town import Town
from schemas.columns import Clocks, Days, MasterRecords, Readings
from schemas.scores import MeterScores
from schemas.topics import SCORES_TOPIC
from schemas.units import DAY_SECONDS
from schemas.wire import encode_scores
from schemas.wire.encoding import LARGEST_SCORE
from streams.kafka.intake import partition_of
from streams.kafka.outbox import producer
from tests.chaos import publish, publish_areas
from tests.test_score import START_TIME, command
from tests.workers import WorkerProcess, all_checkpointed, records, wait

__all__ = ["command"]  # a fixture

METER_KINDS = (Readings, Clocks, Days, MasterRecords)
ALL_ROWS = 1_000_000
SHADOWED_RULE = "zero_usage"
SHADOWED_RULES = [
    replace(rule, status="shadow") if rule.name == SHADOWED_RULE else rule
    for rule in ALL_RULES.values()
]


def rounded(score):
    """A score as it stands on the topic."""
    return round(float(np.float32(score)), 4)


def by_place(rows):
    """The scores of rows by place and day; a repeated row must be the same."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        place = (row.area, row.meter, row.day)
        assert found.setdefault(place, row.scores) == row.scores
    return found


def new_engine(town, **options):
    engine = Engine(SHADOWED_RULES, zone=town.zone, interval=town.interval, **options)
    engine.enroll(town.areas)
    return engine


@pytest.fixture(scope="module")
def long_town():
    """A town of eight days, of which the first four can no longer change."""
    town = Town(60, 8, 2)
    return town, list(town.batches())


@pytest.fixture(scope="module")
def expected(long_town):
    """The scores of the settled days of meters by place and day, as `rank` has them."""
    town, batches = long_town
    engine = new_engine(town)
    scores = DayScores(engine)
    for batch in batches:
        engine.step(batch)

    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for each in scores.rest():
        if each.rule.kind not in METER_KINDS:
            continue
        due = settled_at(each.day, engine.settings)
        for (area, meter), score in zip(each.subjects, each.score, strict=True):
            if engine.areas.watermark_of(area) >= due:
                of_day = found.setdefault((area, meter, day_name(each.day)), {})
                of_day[each.rule.name] = rounded(score)
    assert len({day for _, _, day in found}) == 4
    return found


@pytest.mark.parametrize("most", [7, ALL_ROWS])
def test_rows_are_those_of_rank_for_any_cut_and_over_a_restore(
    long_town, expected, most
):
    town, batches = long_town
    engine = new_engine(town, keeps_scores=True)
    rows: list[MeterScores] = []
    for n, batch in enumerate(batches):
        middle = len(batch) // 3
        for part in (slice(0, middle), slice(middle, None)):
            engine.step(batch.select(part))
            rows += engine.scores.settled(most)
        if n % 50 == 25:
            restored = new_engine(town, keeps_scores=True)
            assert restored.restore(engine.snapshot()) == []
            engine = restored
    while more := engine.scores.settled(most):
        assert len(more) <= most
        rows += more
    assert len(rows) == len(expected)  # each comes once
    assert by_place(rows) == expected

    named = {rule for of_day in expected.values() for rule in of_day}
    assert {ALL_RULES[rule].kind for rule in named} == set(METER_KINDS)
    assert SHADOWED_RULE in named


def test_days_that_had_begun_when_scores_were_turned_on_are_left_out(
    long_town, expected
):
    town, batches = long_town
    engine = new_engine(town)
    cut = len(batches) // 8
    for batch in batches[:cut]:
        engine.step(batch)
    begun = day_of(engine.areas.watermarks, town.zone).max()
    first_day = day_name(int(begun) + 2)  # a meter may be a day ahead
    assert engine.scores is None

    feeding = new_engine(town, keeps_scores=True)
    assert feeding.restore(engine.snapshot()) == []
    for batch in batches[cut:]:
        feeding.step(batch)
    found = by_place(feeding.scores.settled(ALL_ROWS))
    assert found == {
        place: scores for place, scores in expected.items() if place[2] >= first_day
    }
    assert 0 < len(found) < len(expected)

    # and turned off again
    assert new_engine(town).restore(feeding.snapshot()) == []


def observed(scores):
    """An engine that has seen scores of a meter's reading and lets its day settle."""
    engine = Engine(zone="UTC", keeps_scores=True)
    engine.areas.index.slot("A1", "")
    slots = np.array([engine.indexes.meters.slot("A1", "M1")])
    for name, score in scores.items():
        rule = ALL_RULES[name]
        observe = engine.judges.revisable[rule.kind.kind].live.observe
        assert observe
        columns = {"at": np.array([START_TIME]), "elements": np.ones(1)}
        observe(rule, slots, columns, np.array([score]))
    engine.areas.watermarks = np.array([START_TIME + 6 * DAY_SECONDS])
    return engine


def test_a_row_leaves_out_rules_without_an_answer_and_has_no_infinity():
    scores = {"voltage_loss": np.nan, "zero_usage": np.inf, "current_loss": 0.123449}
    (row,) = observed(scores).scores.settled(ALL_ROWS)
    assert row.scores == {"zero_usage": LARGEST_SCORE, "current_loss": 0.1234}
    key, value, headers = encode_scores(row)
    assert key == b"A1"
    assert json.decode(value, type=MeterScores) == row
    assert headers == [("content-type", b"application/json")]
    assert observed({"voltage_loss": np.nan}).scores.settled(ALL_ROWS) == []


def test_a_day_may_still_change_until_a_day_after_its_grace_period():
    engine = observed({"current_loss": 1.5})
    day_end = -(-START_TIME // DAY_SECONDS) * DAY_SECONDS
    engine.areas.watermarks[:] = day_end + 4 * DAY_SECONDS - 1
    assert engine.scores.settled(ALL_ROWS) == []
    engine.areas.watermarks += 1
    assert len(engine.scores.settled(ALL_ROWS)) == 1


def test_damaged_scores_are_refused():
    feed = observed({"current_loss": 1.5}).scores
    state = feed.state()
    for count in (2, 3):  # of one rule and one meter
        with pytest.raises(StateError):
            feed.load(state | {"scores": np.zeros(count, np.float32)})
    with pytest.raises(StateError):
        feed.load(state | {"parts": [*state["parts"], (1, "a")]})


def published(settings):
    """The rows on the topic, each in the partition of its area."""
    rows = []
    for record in asyncio.run(records(settings, SCORES_TOPIC)):
        rows.append(json.decode(record.value, type=MeterScores))
        assert record.key.decode() == rows[-1].area
        assert record.partition == partition_of(rows[-1].area, settings.partitions)
    return rows


def has_all(settings, count):
    """Whether so many days of meters are on the topic."""
    return len(by_place(published(settings))) >= count


def test_workers_publish_the_scores_that_rank_has_of_the_archive(
    settings, environment, tmp_path, command, monkeypatch, long_town, expected
):
    town, batches = long_town
    environment = environment | {
        "METERWATCH_SCORES": "true",
        "METERWATCH_ARCHIVE_FREE_GIB": "0",
    }

    async def send(sent):
        async with producer(settings) as client:
            await publish_areas(client, settings, town.areas)
            await publish(client, settings, sent, "packed")
            await client.flush()

    cut = 7 * len(batches) // 8
    slow = environment | {"METERWATCH_CHECKPOINT_SECONDS": "3600"}
    with WorkerProcess(slow, tmp_path / "one") as worker:
        asyncio.run(send(batches[:cut]))
        wait(partial(has_all, settings, 1))
        worker.kill()
    before = len(published(settings))
    assert 0 < before < len(expected)
    with WorkerProcess(environment, tmp_path / "two") as worker:
        asyncio.run(send(batches[cut:]))
        wait(partial(has_all, settings, len(expected)))
        wait(partial(all_checkpointed, settings))
        rows = worker.sample("meterwatch_score_rows_total")
    found = published(settings)
    assert by_place(found) == expected
    assert len(found) == before + rows > len(expected)  # the second repeats the first

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert command("archive", "kept", "--once")[0] == 0
    assert command("rank", "kept", "--scores", "ranked")[0] == 0
    ranked: dict[tuple[str, str, str], dict[str, float]] = {}
    kinds = {kind.kind for kind in METER_KINDS}
    for day, table in score_days(tmp_path / "ranked"):
        for row in table.to_pylist():
            if row["kind"] in kinds:
                place = (row["area"], row["subject"], day)
                ranked.setdefault(place, {})[row["rule"]] = rounded(row["score"])
    assert expected == {place: ranked[place] for place in expected}

"""Daily scores against a plain count, the highest that never raised, and the ranking; both commands."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.engine import Engine
from detectors.episodes import LULL_SECONDS
from detectors.rule import ALL_RULES
from models.master.calendar import day_of
from replay.day_scores import DayScores, RuleDay
from replay.labels import Label
from replay.near_scores import NearScore, never_raised
from replay.observed import Observed
from replay.rank_scores import rank_score
from replay.ranking import (
    KEPT_SHARE,
    NEAR_WEIGHT,
    ExplainedSpans,
    Ranking,
    UsualScores,
    points_of,
)
from replay.simulation.town import Town
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from tests.test_score import START_TIME, alert, command

__all__ = ["command"]  # a fixture

TOWN_NAME = "town:60x3:2"
LOSS_RULE = ALL_RULES["voltage_loss"]  # of readings, hold 60 s
USAGE_RULE = ALL_RULES["zero_usage"]  # of days


def plain_days(of_days):
    """Scores by rule, place and day."""
    found = {}
    for each in of_days:
        columns = (each.score.tolist(), each.at.tolist(), each.trouble.tolist())
        for place, *values in zip(each.subjects, *columns, strict=True):
            key = (each.rule.name, place, each.day)
            assert key not in found  # a day comes once
            found[key] = tuple(values)
    return found


def judged_days(batches, town, *, is_settled):
    """The daily scores of batches, taken when days are settled or at the end."""
    engine = Engine(zone=town.source().zone, interval=town.source().interval)
    engine.enroll(town.source().areas)
    scores = DayScores(engine)
    taken: list[RuleDay] = []
    for batch in batches:
        engine.step(batch)
        if is_settled:
            taken += scores.settled()
    return plain_days([*taken, *scores.rest()])


@pytest.fixture(scope="module")
def small_town():
    """A town of 60 meters, its batches, and its daily scores."""
    town = Town(60, 5, 2)
    batches = list(town.source().batches)
    return town, batches, judged_days(batches, town, is_settled=False)


# ---- Daily scores ----


def test_any_cut_and_any_time_of_taking_give_the_same_days(small_town):
    town, batches, expected = small_town
    parts = []
    for batch in batches:
        middle = len(batch) // 3
        parts += [batch.select(slice(0, middle)), batch.select(slice(middle, None))]
    assert judged_days(parts, town, is_settled=True) == expected
    assert {rule for rule, _, _ in expected} >= {"voltage_loss", "zero_usage"}


def test_scores_of_readings_are_those_of_a_plain_count(small_town):
    town, batches, found = small_town
    engine = Engine(zone=town.source().zone, interval=town.source().interval)
    engine.enroll(town.source().areas)
    expected: dict[tuple[str, tuple[str, str], int], float]
    expected = defaultdict(lambda: -np.inf)

    def note(rule, slots, columns, scores):
        days = day_of(columns["at"], town.source().zone)
        for row, slot in enumerate(slots.tolist()):
            score = scores[..., row]
            if score.ndim == 0 and not np.isnan(score):
                key = (rule.name, engine.indexes.meters.pairs[slot], int(days[row]))
                expected[key] = max(expected[key], float(score))

    engine.judges.revisable["readings"].live.observe = note
    for batch in batches:
        engine.step(batch)
    assert len(expected) > 1000
    assert {key: found[key][0] for key in expected} == expected


def observed_rows(rule, rows):
    """The days of rows of a rule, given in batches, each row as subject, time, score and gap."""
    engine = Engine(zone="UTC")
    scores = DayScores(engine)
    kind = "readings" if rule.kind is Readings else "days"
    index = engine.indexes.meters

    for batch in rows:
        slots = np.array([index.slot("A1", name) for name, *_ in batch])
        columns = {
            "at": np.array([START_TIME + at for _, at, _, _ in batch]),
            "gap": np.array([gap for *_, gap in batch], float),
            "elements": np.ones(len(batch)),
        }
        values = np.array([score for _, _, score, _ in batch], float)
        observe = engine.judges.revisable[kind].live.observe
        assert observe
        observe(rule, slots, columns, values)
    return plain_days(scores.rest()), scores


def test_a_day_that_is_judged_again_is_replaced_and_readings_are_not():
    first = [("M1", DAY_SECONDS, 1.5, 0), ("M2", DAY_SECONDS, 0.3, 0)]
    again = [("M1", DAY_SECONDS, 0.2, 0)]
    days, _ = observed_rows(USAGE_RULE, [first, again])
    assert sorted(score for score, _, _ in days.values()) == [0.2, 0.3]
    readings, _ = observed_rows(LOSS_RULE, [first, again])
    assert sorted(score for score, _, _ in readings.values()) == [0.3, 1.5]


def longest_troubles(rows, max_gap):
    """For each subject the longest time in trouble, row by row."""
    since: dict[str, int] = {}
    longest: dict[str, int] = defaultdict(int)
    for name, at, score, gap in rows:
        if np.isnan(score):
            continue
        longest[name] = max(longest[name], 0)
        if score < 1:
            since.pop(name, None)
            continue
        if not gap <= max_gap:
            since.pop(name, None)
        begun = since.setdefault(name, at)
        longest[name] = max(longest[name], at - begun)
    return dict(longest)


SCORED_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["M1", "M2", "M3"]),
        st.sampled_from([0.2, 1.0, 1.7, float("nan")]),
        st.sampled_from([900, 900, 5 * 3600]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(SCORED_ROWS, st.integers(1, 7))
def test_time_in_trouble_is_that_of_a_plain_count(drawn, size):
    rows = [
        (name, 900 * n, score, gap) for n, (name, score, gap) in enumerate(drawn, 1)
    ]
    batches = [rows[n : n + size] for n in range(0, len(rows), size)]
    found, _ = observed_rows(LOSS_RULE, batches)
    max_gap = max(LULL_SECONDS[Readings], LOSS_RULE.levels[0].hold)
    by_subject = {place[1]: trouble for (_, place, _), (_, _, trouble) in found.items()}
    assert by_subject == longest_troubles(rows, max_gap)


# ---- The highest scores that never raised ----


def near(subject, score, **others):
    """A near score of a rule that needs two days."""
    known = {"at": START_TIME, "trouble": 0, "hold": 2 * DAY_SECONDS, "last_trouble": 0}
    return NearScore("zero_usage", "A1", subject, score, **(known | others))


def test_every_silence_has_its_reason():
    end = START_TIME + 9 * DAY_SECONDS
    found = [
        near("M0", 0.9),
        near("M1", 3.0),  # raised
        near("M2", 2.0, trouble=DAY_SECONDS),
        near("M3", 1.9, last_trouble=end - 3 * DAY_SECONDS),
        near("M4", 1.8, last_trouble=end - 60),
        near("M5", 1.7),
        near("M6", 1.6),
    ]

    withdrawn = msgspec.structs.replace(alert("M6"), state="withdrawn")
    alerts = [alert("M1"), alert("M5", suppressed_by="storm"), withdrawn]
    silent = never_raised(found, alerts, 9, end)
    assert [(each.subject, each.silence, each.suppressed_by) for each in silent] == [
        ("M2", "held", ""),
        ("M3", "cannot_tell", ""),
        ("M4", "unfinished", ""),
        ("M5", "suppressed", "storm"),
        ("M6", "withdrawn", ""),
        ("M0", "below", ""),
    ]
    assert [each.subject for each in never_raised(found, alerts, 2, end)] == [
        "M2",
        "M3",
    ]


def test_score_lists_near_scores_alike_for_any_number_of_jobs(command, tmp_path):
    page = tmp_path / "page.html"
    options = ("score", "town:300x1:2", "--near", "2")
    code, output, error = command(*options, "--json")
    assert code == 0, error
    listed = json.loads(output)["near"]
    rules = [each["rule"] for each in listed]
    assert len(rules) > 5
    assert max(rules.count(rule) for rule in rules) == 2
    assert all(each["score"] >= 0.8 for each in listed)

    code, text, _ = command(*options, "--report", page)
    assert text.count("below 1") == sum(each["silence"] == "below" for each in listed)
    assert "never raised an alert</h2>" in page.read_text()
    assert command(*options, "--jobs", "2", "--report", page)[1] == text
    assert "kept silent by" not in command("score", TOWN_NAME)[1]


# ---- The ranking ----


def test_rarity_counts_subjects_and_days():
    usual = UsualScores()
    usual.note("zero_usage", np.r_[np.zeros(990), np.full(9, 0.5), 3.0])
    rarity = usual.rarity("zero_usage", np.array([-np.inf, 0.0, 0.5, 3.0]))
    assert rarity == pytest.approx([0, 0, 2, 3])


def test_points_are_for_rare_grave_and_reached_scores():
    rare = np.full(3, 2.0)
    points = points_of(LOSS_RULE, rare, np.array([0.0, 0.999, 1.0]))
    severity = LOSS_RULE.levels[0].severity
    assert points == pytest.approx(
        np.array([0, NEAR_WEIGHT, 1]) * 2 * (5 - severity) / 4, rel=0.01
    )


def scores_of(rows):
    """A day's scores as a file has them: subject, rule, score."""
    return pa.table(
        {
            "area": ["A1"] * len(rows),
            "subject": [subject for subject, _, _ in rows],
            "rule": [rule for _, rule, _ in rows],
            "at": [START_TIME] * len(rows),
            "score": [score for _, _, score in rows],
        }
    )


def ranking_of(alerts=()):
    """A ranking of two rules by which one of a hundred scores is trouble."""
    usual = UsualScores()
    for rule in ("voltage_loss", "zero_usage"):
        usual.note(rule, np.r_[np.zeros(99), 1.5])
    return Ranking(usual, [LOSS_RULE, USAGE_RULE], ExplainedSpans(alerts))


def test_what_lasts_comes_first_and_a_quiet_subject_has_a_score():
    ranking = ranking_of()
    for day in range(3):
        rows = [("M1", "voltage_loss", 1.5), ("M2", "voltage_loss", 0.1)]
        rows.append(("M3", "voltage_loss", 1.5 if day == 2 else 0.0))
        ranked = ranking.ranked(f"day {day}", scores_of(rows))
    assert [subject for _, subject in ranked.places] == ["M1", "M3", "M2"]
    lasting = 1 + KEPT_SHARE + KEPT_SHARE**2
    assert ranked.points[0] == pytest.approx(lasting * ranked.points[1])
    assert ranked.highest.tolist() == [1.5, 1.5, 0.1]
    assert ranked.reasons[0] == ["voltage_loss", "voltage_loss", ""]
    assert ranked.reasons[1] == ["", "", ""]
    assert ranked.table()["rank"].to_pylist() == [1, 2, 3]


def test_what_policy_explains_has_no_points_and_brakes_explain_nothing():
    alerts = [
        alert("M1", day=1, suppressed_by="vacancy"),
        alert("M2", day=1, suppressed_by="storm"),
        alert("M3", day=1, suppressed_by="shadow"),
    ]
    rows = [(subject, "zero_usage", 1.5) for subject in ("M1", "M2", "M3")]
    ranked = ranking_of(alerts).ranked("day", scores_of(rows))
    assert [subject for _, subject in ranked.places] == ["M2", "M3", "M1"]
    assert ranked.points[2] == 0 < ranked.points[1] == ranked.points[0]


def test_labels_judge_the_first_subjects_by_their_reasons():
    observed = Observed(
        [
            Area(
                area="A1",
                meters=[Meter(meter=f"M{n}", customer=f"C{n}") for n in range(5)],
            )
        ]
    )

    def label(subject, verdict="true", rules=("zero_usage",), days=9, inclusion=1.0):
        return Label(
            subject=subject,
            since=START_TIME - days * DAY_SECONDS,
            until=START_TIME - (days - 1) * DAY_SECONDS,
            outcome="bypass",
            verdict=verdict,
            inclusion=inclusion,
            rules=frozenset(rules),
        )

    rows = [(f"M{n}", "zero_usage", 1.5 - n / 10) for n in range(5)]
    ranked = ranking_of().ranked("day", scores_of(rows))
    labels = [
        label("C0", days=1),  # true, by its customer
        label("M1", "false", days=1),
        label("M2", rules=("voltage_loss",), days=1),  # its reason is another
        label("M4", days=1, inclusion=0.5),  # not among the first
        label("M3", days=30),  # over
    ]
    score = rank_score(ranked, labels, observed, 3, START_TIME)
    assert (score.count, score.true, score.false, score.unknown) == (3, 1, 1, 1)
    assert (score.labels, score.found) == (3, 1)
    assert score.precision.value == 0.5
    assert score.recall.value == 0.25


def test_rank_is_the_same_for_any_number_of_jobs(command, tmp_path):
    options = ("rank", "town:300x1:2", "--top", "4")
    code, text, error = command(*options, "--scores", tmp_path / "one")
    assert code == 0, error
    assert command(*options, "--scores", tmp_path / "two", "--jobs", "2")[1] == text

    files = sorted((tmp_path / "one").rglob("*.parquet"))
    assert {file.parent.name for file in files} == {"scores", "ranking"}
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert other.read_bytes() == file.read_bytes()
    table = pq.read_table(files[-1]).to_pylist()
    keys = [(row["area"], row["subject"], row["rule"]) for row in table]
    assert keys == sorted(set(keys))


def test_rank_answers_for_machines_in_chinese_and_as_a_page(command, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "subject,since,outcome,verdict\n"
        "M000001,2026-03-01,wiring_fault,true\nM000002,2026-03-01,nothing_found,false\n"
    )
    page = tmp_path / "page.html"
    options = ("rank", TOWN_NAME, "--top", "3", "--labels", labels, "--report", page)
    code, output, error = command(*options, "--json")
    assert code == 0, error
    answer = json.loads(output)
    assert [each["rank"] for each in answer["ranking"]] == [1, 2, 3]
    points = [each["points"] for each in answer["ranking"]]
    assert points == sorted(points, reverse=True)
    assert answer["precision"]["labels"] == 1

    _, text, _ = command(*options, "--zh")
    first = answer["ranking"][0]
    assert f"{first['area']} {first['subject']}" in text.splitlines()[2]
    assert "无法判断：0块电能表" in text
    assert ALL_RULES[first["reasons"][0]["rule"]].title[1] in page.read_text()


def write_readings(path, currents):
    """Writes the readings of a meter with currents, and one of a meter without; the master data have a third."""
    meters = [Meter(meter=f"M{n}", wiring="3P4W", un_v=220, ib_a=5) for n in (1, 2, 3)]
    area = Area(area="A1", meters=meters)
    path.with_name("areas.jsonl").write_bytes(msgspec.json.encode(area))
    times = [START_TIME + 900 * n for n in range(60)]
    lines = [f"M1,A1,{at},1,{currents}" for at in times]
    heads = "meter,area,at,kwh,ua,ub,uc,ia,ib,ic"
    path.write_text("\n".join([heads, *lines, f"M2,A1,{times[-1]},1,,,,,,"]))


def test_meters_that_nothing_judges_are_counted(command, tmp_path):
    write_readings(tmp_path / "readings.csv", "220,220,220,2,2,1")
    code, output, error = command("rank", str(tmp_path))
    assert code == 0, error
    assert "cannot tell: 2 meters" in output

    write_readings(tmp_path / "readings.csv", ",,,,,")
    code, _, error = command("rank", str(tmp_path))
    assert code == 2
    assert "no rule could judge" in error


def test_bad_folder_ends_with_one_line(command, tmp_path):
    (tmp_path / "note").touch()
    code, _, error = command("rank", TOWN_NAME, "--scores", tmp_path)
    assert code == 2
    assert "is not empty: name another folder for --scores" in error
    assert list(Path(tmp_path).iterdir()) == [tmp_path / "note"]

"""The sweep of one rule's settings: its grid, its near misses, what is best, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from detectors.rule import ALL_RULES
from models.state.index import Index
from replay.intervals import Estimate
from replay.near_misses import NearMiss, NearRows
from replay.observed import Observed
from replay.rule_scores import rule_scores
from replay.tuning import (
    TunedSetting,
    best_within,
    budget_of,
    grid,
    pareto_line,
    swept_of,
    tuned_setting,
)
from schemas.rules import Edition, Rulebook
from schemas.units import DAY_SECONDS
from streams.rulebook_files import draft_text, load
from streams.sweep import sweep_of
from tests.casebook import casebook
from tests.test_score import START_TIME, alert, command, label, observed

__all__ = ["command", "observed"]  # fixtures

TOWN_NAME = "town:300x3:2"
RULE_NAME = "over_contract_capacity"
SWEEP_OPTIONS = ("--set", "warn=0.6:1:0.2")
SCORED_RULE = replace(  # a column is its score
    ALL_RULES["zero_usage"],
    judge=lambda score: score,
    reads=("score",),
    optional_reads=(),
    settings={},
    segments={},
    curve=None,
)


def test_ranges_have_both_ends_without_rounding():
    assert swept_of("limit=0.1:0.7:0.2").values == (0.1, 0.3, 0.5, 0.7)
    assert swept_of("limit=5:8:2").values == (5, 7)
    assert swept_of("limit=7,5,7").values == (7, 5)


def test_grid_has_every_combination():
    points = grid([swept_of("limit=1,2"), swept_of("days=5,7")])
    assert [tuple(point.values()) for point in points] == [
        (1, 5),
        (1, 7),
        (2, 5),
        (2, 7),
    ]


def test_budget_counts_by_meters_or_by_time():
    assert budget_of("2/1000/day").allowed(meter_days=30_000, days=10) == 60
    assert budget_of("14/week").allowed(meter_days=0, days=10) == 20


def tuned(alerts, recall, *, in_force=False):
    """A setting with so many alerts and a recall."""
    (score, *_) = rule_scores([], [], Observed([])).rules
    score = replace(score, alerts=alerts, recall=Estimate(recall, 0, 1))
    return TunedSetting({}, in_force, score, covered=0)


def test_best_keeps_the_budget():
    settings = [tuned(9, 0.9), tuned(4, 0.5), tuned(3, 0.5), tuned(1, 0.1)]
    assert best_within(settings, 5, by_recall=True) is settings[2]
    assert best_within(settings, 9, by_recall=True) is settings[0]
    assert best_within(settings, 0.5, by_recall=True) is None
    now = tuned(3, 0.5, in_force=True)
    assert best_within([*settings, now], 5, by_recall=True) is now


def test_pareto_line_has_what_nothing_beats():
    assert pareto_line([(1, 1), (1, 1), (2, 1), (0, 0), (2, 3)]) == [
        True,
        True,
        False,
        True,
        True,
    ]


def near_rows(*batches, alerts=()):
    """The near misses of a rule, with first and last day; batches have rows of subject, day and score."""
    index = Index()
    notes = NearRows(SCORED_RULE, index)
    for rows in batches:
        slots = [index.slot("A1", name) for name, _, _ in rows]
        at = [START_TIME + day * DAY_SECONDS for _, day, _ in rows]
        score = [score for _, _, score in rows]
        columns = {"at": np.array(at), "score": np.array(score)}
        notes.columns_for(np.array(slots), columns)

    return [
        (miss.subject, *((at - START_TIME) // DAY_SECONDS for at in miss[2:]))
        for miss in notes.misses(alerts)
    ]


def test_near_days_in_a_row_are_one_near_miss():
    days = [
        ("M1", day, score)
        for day, score in enumerate([0.9, 0.8, 0.1, 0.99, 1.0, np.nan])
    ]
    assert near_rows(days) == [("M1", 0, 1), ("M1", 3, 3)]
    assert near_rows([("M1", 0, 0.9), ("M2", 1, 0.9)], [("M1", 4, 0.9)]) == [
        ("M1", 0, 0),
        ("M1", 4, 4),
        ("M2", 1, 1),
    ]


def test_a_day_that_is_judged_again_counts_as_judged_last():
    assert near_rows([("M1", 2, 0.9), ("M2", 2, 0.9)], [("M1", 2, 0.1)]) == [
        ("M2", 2, 2)
    ]


def test_what_raised_an_alert_is_no_near_miss():
    raised = alert("M1", day=3)
    assert near_rows(
        [("M1", 2, 0.9), ("M1", 4, 0.9), ("M2", 2, 0.9)], alerts=[raised]
    ) == [("M2", 2, 2)]
    ended = msgspec.structs.replace(raised, state="cleared", at=raised.raised)
    assert near_rows([("M1", 4, 0.9)], alerts=[ended]) == [("M1", 4, 4)]


def test_shown_alerts_of_the_rule_cover_near_misses(observed):
    misses = [
        NearMiss(
            "A1", f"M{n}", START_TIME + 4 * DAY_SECONDS, START_TIME + 6 * DAY_SECONDS
        )
        for n in range(4)
    ]
    alerts = [
        alert("M0"),
        alert("M1", "clock_drift"),
        alert("M2", suppressed_by="repeat"),
        alert("M3", day=9),
    ]
    labels = [label("M0"), label("M3")]

    found = tuned_setting(
        {}, alerts, labels, observed, misses, rule="zero_usage", in_force=False
    )
    assert found.covered == 1
    assert (found.score.rule, found.score.alerts) == ("zero_usage", 2)
    assert found.score.recall.value == 1


def test_sweep_begins_with_what_is_in_force():
    edition = Edition(
        status="shadow",
        version=4,
        settings={"warn": 0.8},
        proposed_by="A",
        approved_by="B",
    )
    other = Edition(status="retired", version=2)
    rulebook = Rulebook({RULE_NAME: edition, "zero_usage": other})
    sweep = sweep_of(
        RULE_NAME, ["warn=0.7:0.9:0.1", "residential.least=2"], "", rulebook, ALL_RULES
    )
    assert sweep.points[0] == {"warn": 0.8, "residential.least": 1.0}
    assert [point["warn"] for point in sweep.points[1:]] == [0.7, 0.8, 0.9]

    now, first, *_ = sweep.rulebooks
    assert now.rules == {
        RULE_NAME: msgspec.structs.replace(edition, status="published"),
        "zero_usage": other,
    }
    assert first.rules[RULE_NAME] == Edition(
        status="published",
        version=5,
        settings={"warn": 0.7},
        segments={"residential": {"least": 2.0}},
    )


def test_drafts_are_read_as_they_were_written(tmp_path):
    tuned_edition = Edition(
        status="published",
        version=2,
        settings={"warn": 0.1},
        segments={"residential": {"least": 2.5}},
        model=casebook("tariff_misuse").model,
    )
    other = Edition(
        status="shadow",
        version=3,
        proposed_by='Zoë "Z"',
        approved_by="B",
        approved_at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    )
    rulebook = Rulebook({RULE_NAME: tuned_edition, "zero_usage": other})

    file = tmp_path / "draft.toml"
    file.write_text(draft_text(RULE_NAME, rulebook, ["evidence"]), "utf-8")
    assert load(file) == rulebook
    assert file.read_text("utf-8").startswith(f"# evidence\n[{RULE_NAME}]\n")


def test_compare_reproduces_what_tune_has_found(command, tmp_path):
    code, output, error = command(
        "tune",
        RULE_NAME,
        TOWN_NAME,
        *SWEEP_OPTIONS,
        "--budget",
        "100/1000/day",
        "--json",
        "--draft",
        "draft.toml",
    )
    assert code == 0, error
    found = json.loads(output)
    now, *others = found["settings"]
    best = found["best"]
    assert now["in_force"]
    assert [each["settings"]["warn"] for each in others] == [0.6, 0.8, 1.0]
    assert best["settings"] == {"warn": 0.6}
    covered = {each["settings"]["warn"]: each["covered"] for each in found["settings"]}
    assert 0 == covered[1.05] < covered[0.8] < covered[0.6] <= len(found["near_misses"])
    assert (tmp_path / "draft.toml").read_text("utf-8") == found["draft"]
    assert load(tmp_path / "draft.toml").rules[RULE_NAME].proposed_by == ""

    code, output, error = command(
        "compare", TOWN_NAME, "--rules", "draft.toml", "--json"
    )
    assert code == 0, error
    rows = json.loads(output)["rules"]
    (row,) = [row for row in rows if (row["rule"], row["segment"]) == (RULE_NAME, "")]
    assert row["by_a"] == now["score"]
    assert row["by_b"] == best["score"]


def test_table_and_page_by_labels(command, tmp_path):
    labels = "subject,since,until,outcome,verdict,rules\n" + "".join(
        f"M{n:06},2026-03-01,2026-03-05,capacity_breach,true,{RULE_NAME}\n"
        for n in (1, 2, 3)
    )
    (tmp_path / "visits.csv").write_text(labels)
    code, output, error = command(
        "tune",
        RULE_NAME,
        TOWN_NAME,
        *SWEEP_OPTIONS,
        "--labels",
        "visits.csv",
        "--zh",
        "--report",
        "page.html",
        "--jobs",
        "2",
    )
    assert code == 0, error

    title, heads, first, *_ = output.splitlines()
    assert title.startswith(f"规则{RULE_NAME}的4组参数")
    assert "召回率" in heads
    assert "现行, 帕累托前沿, 预算内最佳" in first
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<circle") >= 4
    assert "帕累托前沿" in page
    assert not re.search(r"https?://|src=", page)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["over_contract_capacit", *SWEEP_OPTIONS],
            "did you mean over_contract_capacity?",
        ),
        (
            [RULE_NAME],
            f"give --set NAME=VALUES: {RULE_NAME} has warn (1.05), least (1)",
        ),
        (
            [RULE_NAME, "--set", "wurn=1"],
            "there is no setting `wurn`; it has warn, least",
        ),
        ([RULE_NAME, "--set", "flat.warn=1"], "there is no segment `flat`"),
        ([RULE_NAME, "--set", "warn=-1"], "`warn` is -1, not of the sign"),
        ([RULE_NAME, "--set", "warn"], "write a name with values"),
        ([RULE_NAME, "--set", "warn=1:2"], "write a name with values"),
        ([RULE_NAME, "--set", "warn=2:1:1"], "write a name with values"),
        ([RULE_NAME, "--set", "warn=nan"], "write a name with values"),
        ([RULE_NAME, "--set", "warn=1", "--set", "warn=2"], "--set names warn twice"),
        ([RULE_NAME, "--set", "warn=1:3:0.001"], "more than 200"),
        (
            [RULE_NAME, *SWEEP_OPTIONS, "--budget", "2 a day"],
            "write alerts, meters and day or week",
        ),
        (
            [RULE_NAME, *SWEEP_OPTIONS, "--rules", "none.toml"],
            "none.toml: there is no such file",
        ),
    ],
)
def test_bad_input_is_an_error_of_one_line(command, options, message):
    name, *others = options
    code, output, error = command("tune", name, TOWN_NAME, *others)
    assert (code, output) == (2, "")
    assert error.count("\n") == 1
    assert message in error

"""Two rule sets on one history: matched alerts, figures, conditions, and the command."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from replay.comparison import FIGURE_MEANINGS, differences, matched_alerts
from replay.conditions import condition_of
from schemas.units import DAY_SECONDS
from streams.report.comparison_page import examples_of
from tests.test_score import START_TIME, alert, command, label, observed

__all__ = ["command", "observed"]  # fixtures

TOWN_NAME = "town:300x3:2"
TUNED_RULES = """
[meter_current_unbalance]
status = "published"
version = 2
settings = { limit = 0.2 }

[voltage_deviation]
status = "published"
version = 2
settings = { over = 1.05, under = 0.95 }

[voltage_loss]
status = "published"
version = 2
settings = { lost = 0.1, back = 0.2 }
"""
RETIRED_RULE = '[voltage_loss]\nstatus = "retired"\nversion = 2\n'


def cleared(episode, day):
    """The alert, cleared on a day."""
    return changed(
        episode, state="cleared", change="cleared", at=START_TIME + day * DAY_SECONDS
    )


def changed(episode, **fields):
    """The alert with other fields."""
    return msgspec.structs.replace(episode, **fields)


def test_equal_alerts_are_the_same():
    alerts = [alert("M0"), alert("M1", "clock_drift")]
    matched = matched_alerts(alerts, alerts)
    assert len(matched.same) == 2
    assert (matched.changed, matched.only_a, matched.only_b) == ([], [], [])


def test_an_episode_that_begins_earlier_is_changed():
    late, early = alert("M0", day=5), cleared(alert("M0", day=3), 9)
    matched = matched_alerts([late], [early])
    (pair,) = matched.changed
    assert (pair.by_a, pair.by_b) == (late, early)
    assert (matched.only_a, matched.only_b) == ([], [])


def test_another_severity_is_a_change():
    grave = changed(alert("M0"), severity=1, score=4.0)
    assert len(matched_alerts([alert("M0")], [grave]).changed) == 1
    assert (
        len(matched_alerts([alert("M0")], [changed(alert("M0"), score=4.0)]).same) == 1
    )


def test_episodes_that_do_not_overlap_are_two():
    before, after = cleared(alert("M0", day=2), 3), alert("M0", day=8)
    matched = matched_alerts([before], [after])
    assert (matched.only_a, matched.only_b) == ([before], [after])


def test_each_episode_has_one_pair():
    one_long = cleared(alert("M0", day=2), 9)
    parts = [cleared(alert("M0", day=3), 4), cleared(alert("M0", day=6), 8)]
    matched = matched_alerts([one_long], parts)
    assert [pair.by_b for pair in matched.changed] == parts[:1]
    assert matched.only_b == parts[1:]


@pytest.mark.parametrize(
    "other",
    [
        alert("M1", day=4),
        alert("M0", "clock_drift", day=4),
        changed(alert("M0", day=4), area="A2"),
    ],
)
def test_other_subjects_areas_and_rules_do_not_match(other):
    matched = matched_alerts([alert("M0")], [other])
    assert (len(matched.only_a), len(matched.only_b)) == (1, 1)


def test_suppressed_and_withdrawn_alerts_are_not_raised():
    for hidden in (
        alert("M0", suppressed_by="mute"),
        changed(alert("M0"), state="withdrawn"),
    ):
        assert matched_alerts([alert("M0")], [hidden]).only_a == [alert("M0")]


def test_figures_of_a_small_case(observed):
    alerts_a = [alert("M0"), alert("M1"), alert("M4", "clock_drift", severity=4)]
    alerts_b = [alert("M0", day=4), alert("M2", severity=1), alert("M3")]
    labels = [label("M0"), label("M1"), label("M2", "nothing_found", "false")]
    found = differences(alerts_a, alerts_b, labels, observed)

    assert found.figures() == {
        "only_a": 2,
        "only_b": 2,
        "changed": 1,
        "same": 0,
        "hours": 2.0,
        "false": 1,
        "false_added": 1,
        "true_lost": 1,
    }
    assert set(found.figures()) == set(FIGURE_MEANINGS)
    places = [(row.rule, row.segment, row.differences) for row in found.rules]
    assert places == [
        ("", "", 5),
        ("zero_usage", "", 4),
        ("zero_usage", "residential", 4),
        ("clock_drift", "", 1),
        ("clock_drift", "commercial", 1),
    ]
    zero_usage = found.rules[1]
    assert (zero_usage.by_a.recall.value, zero_usage.by_b.recall.value) == (1, 0.5)
    assert (zero_usage.by_a.precision.value, zero_usage.by_b.precision.value) == (
        1,
        0.5,
    )
    clock = found.rules[3]
    assert (clock.by_a.alerts, clock.by_b.alerts) == (1, 0)


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("false > 5", 5, False),
        ("false>=5", 5, True),
        (" hours < -1.5 ", -2, True),
        ("only_a == 0", 0, True),
        ("changed != 0", 0, False),
        ("same <= 3", 4, False),
    ],
)
def test_conditions(text, value, holds):
    assert condition_of(text, FIGURE_MEANINGS).holds(value) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("falze > 5", "no figure falze, did you mean false?; there are only_a"),
        ("false = 5", "'false = 5' is no condition: write a name"),
        ("false > nan", "is no condition"),
        ("__import__('os')", "is no condition"),
        ("hours > 1 or 1", "is no condition"),
        ("hours", "is no condition"),
    ],
)
def test_a_text_that_is_no_condition_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        condition_of(text, FIGURE_MEANINGS)


def test_one_rulebook_twice_gives_no_difference(command, tmp_path):
    (tmp_path / "mine.toml").write_text(TUNED_RULES)
    code, output, error = command(
        *("compare", TOWN_NAME, "--rules", "mine.toml", "--rules", "mine.toml"),
        *("--fail-if", "only_a > 0", "--fail-if", "only_b > 0", "--json"),
        *("--fail-if", "changed > 0"),
    )
    assert (code, error) == (0, "")
    found = json.loads(output)
    whole = found["rules"][0]
    assert whole["same"] == whole["by_a"]["alerts"] == whole["by_b"]["alerts"] > 8
    assert (found["changes"], found["failed"], found["changed"]) == ({}, [], [])


def test_differences_are_those_of_two_runs(command, tmp_path):
    (tmp_path / "mine.toml").write_text(TUNED_RULES)
    runs: list[dict[str, object]] = []
    for options in ([], ["--rules", "mine.toml"]):
        store = f"{len(runs)}.db"
        code, output, error = command(
            "run", TOWN_NAME, "--json", "--store", store, *options
        )
        assert code == 0, error
        listed = json.loads(output)["list"]
        runs.append({each["id"]: each for each in listed if not each["suppressed_by"]})

    code, output, error = command(
        *("compare", TOWN_NAME, "--rules", "mine.toml", "--json"),
        *("--fail-if", "only_a > 0", "--fail-if", "only_b > 99"),
    )
    assert (code, error) == (1, "failed: only_a > 0: only_a is 1\n")
    found = json.loads(output)
    assert found["failed"] == ["only_a > 0: only_a is 1"]

    by_code, by_mine = runs
    pairs = [(pair["by_a"], pair["by_b"]) for pair in found["changed"]]
    assert pairs
    assert all(by_code[one["id"]] == one for one, _ in pairs)
    assert all(by_mine[other["id"]] == other for _, other in pairs)
    alone = by_code.keys() - by_mine - {one["id"] for one, _ in pairs}
    added = by_mine.keys() - by_code - {other["id"] for _, other in pairs}
    assert found["only_a"] == [by_code[key] for key in alone] != []
    assert found["only_b"] == [by_mine[key] for key in added] != []


def test_the_code_is_compared_with_one_rulebook(command, tmp_path):
    (tmp_path / "mine.toml").write_text(RETIRED_RULE)
    code, output, error = command(
        "compare", TOWN_NAME, "--rules", "mine.toml", "--zh", "--report", "page.html"
    )
    assert code == 0, error
    _, first, second, edit, heads, whole, *_ = output.splitlines()
    assert (first, second) == ("A: 代码默认设置", "B: mine.toml")
    assert edit == "voltage_loss: status published -> retired"
    assert "增加工时" in heads
    assert whole.startswith("全部")
    assert "仅A有" in output

    page = (tmp_path / "page.html").read_text("utf-8")
    assert "voltage_loss: status published" in page
    assert "失压" in page
    assert "A 失压限值 171.6" in page
    assert "B 失压限值" not in page
    assert "A: published" in page
    assert "B: 未启用" in page
    assert not re.search(r"https?://|src=", page)
    assert not list(tmp_path.glob("*.db"))


def test_the_page_draws_the_limits_of_both(command, tmp_path):
    (tmp_path / "tuned.toml").write_text(TUNED_RULES)
    options = ("--rules", "tuned.toml", "--report", "page.html", "--json")
    code, output, error = command("compare", TOWN_NAME, *options)
    assert code == 0, error
    found = json.loads(output)
    page = (tmp_path / "page.html").read_text("utf-8")

    shown = [alert["id"] for alert in [*found["only_a"], *found["only_b"]]]
    shown += [pair["by_b"]["id"] for pair in found["changed"]]
    assert shown
    assert all(page.count(key) == 1 for key in shown)
    assert page.count("<svg") == len(shown)
    assert "only in A (1)" in page
    for text in ("A lost 171.6", "B lost 22", "A: lost 0.78", "B: lost 0.1"):
        assert text in page


def test_times_of_both_are_marked():
    late, early = alert("M0", day=5), cleared(alert("M0", day=3), 9)
    ((), (), (example,)) = map(tuple, examples_of(matched_alerts([late], [early]), 10))
    shaded = example.shaded(chinese=False)
    assert (shaded.since, shaded.until) == (early.since, early.at)
    assert shaded.marks == {
        "raised by A": late.raised,
        "raised by B": early.raised,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --rules once, to compare"),
        (["--rules", "mine.toml"] * 3, "give --rules once, to compare"),
        (["--rules", "none.toml"], "none.toml: there is no such file"),
        (["--rules", "mine.toml", "--fail-if", "fals > 1"], "did you mean false?"),
        (
            ["--rules", "mine.toml", "--fail-if", "false > 1"],
            "'false > 1' needs labels",
        ),
        (["--rules", "unknown.toml"], "did you mean zero_usage?"),
    ],
)
def test_bad_input_is_an_error_of_one_line(command, tmp_path, options, message):
    (tmp_path / "mine.toml").write_text(TUNED_RULES)
    (tmp_path / "unknown.toml").write_text(
        '[zero_use]\nstatus = "shadow"\nversion = 2\n'
    )
    code, output, error = command("compare", TOWN_NAME, *options)
    assert (code, output) == (2, "")
    assert error.count("\n") == 1
    assert message in error

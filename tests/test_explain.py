"""What a rule made of a subject at a time: raised, held, near miss, cannot tell; and the command."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from replay.explanation import ExplainedHistory
from replay.sources import open_sources
from schemas.master import Area, Meter
from tests.test_score import command

__all__ = ["command"]  # a fixture

TOWN_NAME = "town:300x3:2"
SMALL_TOWN_NAME = "town:60x3:2"
START_TIME = 1_772_323_200  # 2026-03-01 UTC
STEP_SECONDS = 900


def asked(at):
    """A time as the command takes it."""
    return datetime.fromtimestamp(at, ZoneInfo("Asia/Shanghai")).isoformat()[:19]


@pytest.fixture
def explain(command):
    """Explains a rule's answer in the town."""

    def run(rule, at, *options):
        code, output, error = command(
            "explain", TOWN_NAME, "--rule", rule, "--at", at, *options, "--json"
        )
        assert code == 0, error
        return json.loads(output)

    return run


@pytest.fixture
def current_history(tmp_path):
    """A meter whose phases carry unequal currents from the fifth reading on, at a share of the limit."""

    def judged(least_share):
        lines = ["meter,area,at,kwh,ua,ub,uc,ia,ib,ic"]
        for n in range(12):
            spread = 0.05 if n < 5 else 0.3 * least_share
            least = 4 * (1 - spread) / (2 + spread)  # that far below the mean
            currents = f"{least},2,2"
            at = START_TIME + n * STEP_SECONDS
            lines.append(f"M1,A1,{at},1,220,220,220,{currents}")
        (tmp_path / "readings.csv").write_text("\n".join(lines))
        source = open_sources([str(tmp_path)])

        engine = Engine(zone="UTC", interval=STEP_SECONDS)
        engine.enroll([Area(area="A1", meters=[Meter(meter="M1", customer="C1")])])
        rule = ALL_RULES["meter_current_unbalance"]
        history = ExplainedHistory(engine, rule, "M1", "")
        history.judge(source.batches)
        return history

    return judged


def row_of(history, at):
    """The explanation of the last row of M1 until a time."""
    return history.found(at).rows["A1"]


def test_values_of_a_raised_alert_are_its_evidence(command, explain):
    code, output, error = command("run", TOWN_NAME, "--json", "--store", "town.db")
    assert code == 0, error
    alerts = [each for each in json.loads(output)["list"] if each["revision"] == 0]
    by_rule = {alert["rule"]: alert for alert in alerts}

    for rule in ("voltage_loss", "pq_voltage_unbalance", "bill_overpaid"):
        alert = by_rule[rule]
        found = explain(rule, asked(alert["raised"]), "--subject", alert["subject"])
        known = {
            each["column"]: each["value"]
            for each in found["columns"]
            if each["value"] is not None
        }
        assert found["outcome"] == "raised"
        assert known.items() <= alert["evidence"].items()
        assert found["alert"]["id"] == alert["id"]
        assert found["score"] == pytest.approx(alert["score"])


def test_a_hold_that_is_not_over_is_said(explain):
    found = explain("meter_current_unbalance", "2026-03-03T11:45", "--meter", "M000002")
    assert found["outcome"] == "held"
    assert (found["trouble_seconds"], found["hold_seconds"]) == (1800, 3600)
    assert found["reason"] == "in trouble for 0.5 of 1 hours; raised 2026-03-03 12:15"
    assert len(found["around"]) == 11


def test_what_suppresses_an_alert_is_said(explain):
    found = explain("register_decrease", "2026-03-03T09:30", "--meter", "M000042")
    assert found["outcome"] == "suppressed"
    assert found["reason"].endswith("suppressed by meter_change")


def test_a_missing_column_is_named(explain):
    found = explain("zero_usage", "2026-03-02", "--meter", "M000050")
    assert (found["outcome"], found["score"]) == ("cannot_tell", None)
    assert found["reason"] == "column usual_kwh is missing"
    (usual,) = [each for each in found["columns"] if each["column"] == "usual_kwh"]
    assert usual == {"column": "usual_kwh", "value": None, "unit": "kWh"}
    assert found["settings"]["days"] == 30  # of its segment


def test_an_area_is_a_subject_of_its_own(explain):
    by_area = explain("area_loss_high", "2026-03-03", "--area", "A001")
    by_subject = explain("area_loss_high", "2026-03-03", "--subject", "A001")
    assert by_area == by_subject
    assert by_area["at"] == "2026-03-04 00:00"


def test_a_score_close_to_the_line_is_a_near_miss(current_history):
    explained = row_of(current_history(0.9), START_TIME + 8 * STEP_SECONDS)
    assert (explained.outcome, explained.alert) == ("quiet", None)
    assert 0.8 <= explained.row.score < 1
    assert explained.is_near_miss


def test_trouble_shorter_than_the_hold_is_no_alert(current_history):
    history = current_history(3)
    short, raised = (row_of(history, START_TIME + n * STEP_SECONDS) for n in (7, 9))
    assert (short.outcome, short.trouble, short.hold) == ("held", 1800, 3600)
    assert raised.outcome == "raised"
    assert raised.alert.raised == START_TIME + 9 * STEP_SECONDS
    assert row_of(history, START_TIME - 1) is None


def test_the_answer_is_printed_for_people(command):
    options = ("--rule", "meter_current_unbalance", "--meter", "M000002")
    asked_at = ("--at", "2026-03-03T11:45")
    code, output, error = command("explain", TOWN_NAME, *options, *asked_at)
    assert (code, error) == (0, "")
    head, reason, _, columns, *_ = output.splitlines()
    assert head == "meter_current_unbalance: A001 M000002, 2026-03-03 11:45"
    assert reason == "held: in trouble for 0.5 of 1 hours; raised 2026-03-03 12:15"
    assert columns.split() == ["column", "value", "unit"]
    assert ">  2026-03-03 11:45   3.33" in output

    code, output, error = command("explain", TOWN_NAME, *options, *asked_at, "--zh")
    assert (code, error) == (0, "")
    assert "等待确认: 已异常0.5小时，需1小时" in output


def test_an_id_means_the_evidence_that_raised_the_alert(command, tmp_path):
    code, output, error = command("run", TOWN_NAME, "--json", "--store", "town.db")
    assert code == 0, error
    alerts = json.loads(output)["list"]
    wanted = {"voltage_loss": "raised", "register_decrease": "suppressed"}
    for rule, outcome in wanted.items():
        alert = next(each for each in alerts if each["rule"] == rule)
        options = ("--json", "--report", "page.html")
        code, output, error = command("explain", alert["id"], TOWN_NAME, *options)
        assert code == 0, error
        in_three = command("explain", alert["id"], TOWN_NAME, "--json", "--jobs", "3")
        assert in_three[1] == output
        found = json.loads(output)
        assert (found["outcome"], found["subject"]) == (outcome, alert["subject"])
        assert found["at"] == asked(alert["raised"])[:16].replace("T", " ")
        assert alert["id"] in [each["id"] for each in found["episodes"]]

        page = (tmp_path / "page.html").read_text("utf-8")
        assert page.count("<svg") == 2
        assert f"{alert['id']} raised" in page
        assert "raise line" in page
    assert "suppressed by meter_change" in page
    assert "http" not in page


def test_the_page_of_a_quiet_row_marks_what_is_asked(command, tmp_path):
    question = ("--rule", "voltage_loss", "--meter", "M000010", "--at", "2026-03-03")
    options = ("--zh", "--report", "page.html")
    code, _, error = command("explain", SMALL_TOWN_NAME, *question, *options)
    assert (code, error) == (0, "")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    assert "所问时刻" in page
    assert ">失压限值<" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["0123456789abcdef", "town:60x1:2"], "has no alert 0123456789abcdef"),
        (["0123456789abcdef"], "name the history"),
        (["0123456789abcdef", "town:60x1:2", "--at", "2026-03-03"], "leave out"),
        (["town:60x1:2"], "give the id of an alert before the history, or --rule"),
    ],
)
def test_an_id_that_says_too_little_or_too_much(command, options, message):
    code, output, error = command("explain", *options)
    assert (code, output) == (2, "")
    assert message in error


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("zero_use", ["--meter", "M000050"], "did you mean zero_usage?"),
        ("zero_usage", ["--meter", "M00050"], "none is of M00050; did you mean M0"),
        ("zero_usage", ["--area", "A001"], "none is of A001"),
        ("area_loss_high", ["--area", "A01"], "none is of A01; did you mean A001?"),
        ("zero_usage", [], "name the subject by --meter"),
        ("zero_usage", ["--meter", "M000050", "--at", "soon"], "soon is no time"),
        (
            "zero_usage",
            ["--meter", "M000050", "--at", "2026-04-01"],
            "is outside the history, 2026-03-02 00:",
        ),
        (
            "zero_usage",
            ["--meter", "M000050", "--at", "2026-03-02T12:00"],
            "has judged no days of M000050 until 2026-03-02T12:00",
        ),
        (
            "zero_usage",
            ["--meter", "M000050", "--rules", "mine.toml"],
            "zero_usage is not judged, its status is retired",
        ),
    ],
)
def test_bad_questions_are_errors_of_one_line(
    command, tmp_path, rule, options, message
):
    (tmp_path / "mine.toml").write_text(
        '[zero_usage]\nstatus = "retired"\nversion = 2\n'
    )
    at = () if "--at" in options else ("--at", "2026-03-03")
    question = ("explain", SMALL_TOWN_NAME, "--rule", rule, *at, *options)
    code, output, error = command(*question)
    assert (code, output) == (2, "")
    assert error.count("\n") == 1
    assert message in error
    assert command(*question, "--jobs", "2") == (2, "", error)

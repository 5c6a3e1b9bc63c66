"""Rules against labels: expected numbers of a small case, intervals of published values, and the command."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from replay.intervals import Estimate, median, rate, share
from replay.labels import Label, judged_rules
from replay.observed import Observed
from replay.rule_scores import RuleScore, rule_scores
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from streams.cli import main

START_TIME = 1_772_323_200  # 2026-03-01 UTC
TOWN_NAME = "town:300x3:2"


def alert(subject, rule="zero_usage", day=5, severity=2, suppressed_by=""):
    """An alert that is raised on a day."""
    raised = START_TIME + day * DAY_SECONDS
    return Alert(
        id=f"{rule} {subject} {day}",
        rule=rule,
        version=1,
        kind="days",
        area="A1",
        subject=subject,
        state="raised",
        change="raised",
        revision=0,
        severity=severity,
        since=raised - DAY_SECONDS,
        raised=raised,
        at=raised,
        score=1.5,
        phase="",
        evidence={},
        suppressed_by=suppressed_by,
        en="",
        zh="",
    )


def label(subject, outcome="bypass", verdict="true", first=1, last=9, **others):
    """A label of some days."""
    return Label(
        subject=subject,
        since=START_TIME + first * DAY_SECONDS,
        until=START_TIME + last * DAY_SECONDS,
        outcome=outcome,
        verdict=verdict,
        rules=judged_rules(outcome),
        **others,
    )


@pytest.fixture
def observed(tmp_path):
    """Four homes and a shop, read for ten days."""
    meters = [
        Meter(
            meter=f"M{n}",
            customer=f"C{n}",
            segment="commercial" if n == 4 else "residential",
        )
        for n in range(5)
    ]
    rows = [
        f"{meter.meter},A1,{START_TIME + hour * 3600},1"
        for hour in range(0, 241, 6)
        for meter in meters
    ]

    (tmp_path / "readings.csv").write_text("meter,area,at,kwh\n" + "\n".join(rows))
    observed = Observed([Area(area="A1", meters=meters)])
    for _ in observed.note(open_sources([str(tmp_path)]).batches):
        pass
    return observed


def test_meter_days_are_counted_by_segment(observed):
    assert observed.meter_days() == {"": 50, "residential": 40, "commercial": 10}


def test_scores_of_a_small_case(observed):
    alerts = [
        alert("M0"),  # true by the label of its meter, after 4 days
        alert("M1", day=3, severity=1),  # true by its customer's label, after 2 days
        alert("M2"),  # false
        alert("M3"),  # nobody looked
        alert("M4", day=8),  # true, after 7 days
        alert("M0", "clock_drift", severity=4),  # the bypass says nothing of the clock
        alert("M3", day=9, suppressed_by="mute"),
    ]
    labels = [
        label("M0"),
        label("C1", inclusion=0.25),
        label("M2", "nothing_found", "false"),
        label("M3", first=12, last=20),  # missed: the alerts were before
        label("M4"),
        label("M3", "no_access", "cannot_tell"),
    ]
    scores = rule_scores(alerts, labels, observed)

    whole, zero_usage, shops, homes, clock, _ = scores.rules
    assert (whole.rule, whole.alerts, whole.hours) == ("", 6, 8.0)
    assert zero_usage == RuleScore(
        rule="zero_usage",
        segment="",
        alerts=5,
        rate=rate(5, 0.05),
        true=3,
        false=1,
        unknown=1,
        precision=share([1] * 4, [True, True, False, True]),
        labels=4,
        found=3,
        recall=share([1, 4, 1, 1], [True, True, False, True]),
        delay=Estimate(4),
        suppressed={"mute": 1},
        hours=8.0,
    )
    assert zero_usage.rate.value == pytest.approx(100)
    assert zero_usage.precision.value == 0.75
    assert zero_usage.recall.value == pytest.approx(6 / 7)

    assert (shops.segment, shops.alerts, shops.rate.value) == ("commercial", 1, 100)
    assert (homes.segment, homes.alerts, homes.labels) == ("residential", 4, 3)
    assert (clock.rule, clock.unknown, clock.precision) == (
        "clock_drift",
        1,
        Estimate(),
    )
    assert scores.missed == [labels[3]]


def test_an_echo_is_true_and_finds_nothing(observed):
    theft = replace(
        label("M0"),
        rules=frozenset({"zero_usage"}),
        echoes=frozenset({"area_loss_high"}),
    )
    whole, *_ = rule_scores([alert("", "area_loss_high")], [theft], observed).rules
    assert (whole.true, whole.found, whole.labels) == (1, 0, 1)


def test_a_label_of_an_area_judges_its_meters(observed):
    whole, *_ = rule_scores([alert("M0")], [label("A1")], observed).rules
    assert (whole.true, whole.found) == (1, 1)


def test_withdrawn_alerts_count_for_nothing(observed):
    import msgspec

    withdrawn = msgspec.structs.replace(alert("M0"), state="withdrawn")
    (whole,) = rule_scores([withdrawn], [label("M0")], observed).rules
    assert (whole.alerts, whole.found, whole.labels) == (0, 0, 1)


@pytest.mark.parametrize(("hits", "number"), [(8, 10), (0, 7), (7, 7), (1, 300)])
def test_interval_of_a_share_is_wilsons(hits, number):
    found = share([1] * number, [True] * hits + [False] * (number - hits))
    expected = binomtest(hits, number).proportion_ci(0.9, "wilson")
    assert found.value == hits / number
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_weights_widen_the_interval_of_a_share():
    even = share([1] * 12, [True, False] * 6)
    uneven = share([1, 5] * 6, [True, False] * 6)
    assert uneven.value == pytest.approx(1 / 6)
    assert uneven.low == pytest.approx(0.0465, abs=1e-4)
    assert share([9] * 12, [True, False] * 6) == even
    assert share([], []) == Estimate()


def test_interval_of_a_rate_is_garwoods():
    assert rate(10, 2).low == pytest.approx(5.425 / 2, abs=1e-3)
    assert rate(10, 2).high == pytest.approx(16.962 / 2, abs=1e-3)
    assert rate(0, 1).low == 0
    assert rate(0, 1).high == pytest.approx(2.996, abs=1e-3)
    assert rate(3, 0) == Estimate()


def test_interval_of_a_median_is_between_order_statistics():
    assert median([9, 1, 2, 3, 4]) == Estimate(3, 1, 9)
    assert median(range(20)) == Estimate(9.5, 5, 14)
    assert median([1, 2, 3, 4]) == Estimate(2.5)
    assert median([]) == Estimate()


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_demo_writes_labels_that_score_reads(command, tmp_path):
    code, _, _ = command(
        *("demo", "--meters", "300", "--days", "3", "--seed", "2"),
        *("--labels", "planted.csv"),
    )
    assert code == 0
    (tmp_path / "mine.toml").write_text(
        '[voltage_loss]\nstatus = "retired"\nversion = 1\n'
    )

    code, output, error = command(
        "score", TOWN_NAME, "--labels", "planted.csv", "--json"
    )
    assert code == 0, error
    found = json.loads(output)
    whole, *rules = found["scores"]
    assert found["labels"]["refused"] == {}
    assert whole["labels"] == found["labels"]["used"] > 8
    assert whole["found"] + len(found["missed"]) == whole["labels"]
    assert whole["recall"]["low"] > 0.6
    assert whole["false"] == 0
    assert whole["precision"]["value"] == 1
    names = {score["rule"] for score in rules}
    assert "voltage_loss" in names
    assert not list(tmp_path.glob("*.db"))

    code, output, error = command(
        *("score", TOWN_NAME, "--labels", "planted.csv", "--rules", "mine.toml"),
        *("--zh", "--report", "page.html"),
    )
    assert code == 0
    assert "approved" not in error
    head, columns, whole_line, *lines = output.splitlines()
    assert "302块电能表" in head
    assert "召回率" in columns
    assert whole_line.startswith("全部")
    assert any(line.startswith("漏报: ") for line in lines)
    assert not any(line.startswith("失压") for line in lines)

    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'lang="zh"' in page
    assert page.count("<tr>") == len(lines) + 2 - sum("漏报" in line for line in lines)
    assert not re.search(r"https?://|src=", page)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "M1,2026-03-01,bypass,",
            "the label has no verdict (write true, false or cannot_tell) 1, first at l.csv row 1",
        ),
        (
            "NOBODY,2026-03-01,bypass,true",
            "the history has no such subject (correct the id) 1, first at l.csv row 1: 'NOBODY'",
        ),
    ],
)
def test_labels_of_no_use_are_an_error(command, tmp_path, row, message):
    (tmp_path / "l.csv").write_text(f"subject,since,outcome,verdict\n{row}\n")
    code, output, error = command("score", "town:50x1", "--labels", "l.csv", "--json")
    assert (code, output) == (2, "")
    assert error == f"error: l.csv has no label that can be used: {message}\n"


def test_an_unknown_rule_is_an_error(command, tmp_path):
    (tmp_path / "mine.toml").write_text('[zero_use]\nstatus = "shadow"\nversion = 2\n')
    code, _, error = command("score", TOWN_NAME, "--rules", "mine.toml")
    assert code == 2
    assert error.count("\n") == 1
    assert "did you mean zero_usage?" in error


def test_a_label_of_a_customer_judges_its_bills(observed):
    bill = alert("C0/2026-02", "bill_recalc_mismatch")
    labels = [label("C0", "computed_wrongly"), label("C1/2026-02", "computed_wrongly")]
    whole, *_ = rule_scores([bill], labels, observed).rules
    assert (whole.true, whole.found, whole.labels) == (1, 1, 2)

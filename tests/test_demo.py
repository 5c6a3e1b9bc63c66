"""The demo finds the planted faults, and its report opens offline."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from html.parser import HTMLParser

import msgspec
import pytest

from detectors.engine import Engine
from replay.scoring import score
from replay.simulation.happenings import Planted
from replay.simulation.town import Town
from schemas.alert import Alert
from streams.report.demo import demo
from streams.report.page import waited


class Checked(HTMLParser):
    """Elements open and close in pairs."""

    def __init__(self, page):
        super().__init__()
        self.within: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.within.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.within

    def handle_endtag(self, tag):
        assert self.within.pop() == tag


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo's output without a terminal, and its page."""
    file, output = tmp_path_factory.mktemp("demo") / "report.html", io.StringIO()
    with contextlib.redirect_stdout(output):
        demo(meters=500, days=5, seed=2, report=file)
    return output.getvalue(), file.read_text(encoding="utf-8")


def test_every_planted_fault_is_found_and_every_alert_has_a_cause(shown):
    output, _ = shown
    match = re.search(
        r"(\d+) of (\d+) planted faults found, (\d+) missed; (\d+) of (\d+) alerts\s+false",
        output,
    )
    assert match is not None, output
    assert int(match[1]) == int(match[2]) > 8
    assert int(match[4]) == 0
    assert "readings in" in output


def test_the_page_needs_no_network_and_is_well_formed(shown):
    _, page = shown
    assert not re.search(r"https?://|url\(|@import|<script|<link|<img", page)
    assert Checked(page).within == []


def test_page_shows_each_kind_of_alert_with_its_curve_in_two_languages(shown):
    output, page = shown
    rules = set(re.findall(r"^\d\d-\d\d \d\d:\d\d  \d  (\w+)", output, re.MULTILINE))
    cards = re.findall(r'<figure class="card">.*?</figure>', page, re.DOTALL)
    assert len(cards) == len(rules) > 6
    for card in cards:
        assert re.search(r'class="(curve|bar|span|well|failed)', card), card
        assert re.search(r'class="raised"', card)
        assert re.search(r"[一-鿿]", card)
        assert "nan" not in card


def test_quiet_town_raises_no_alert():
    """A clean baseline: ordinary days, people who move out, a new meter, an announced outage."""
    town = Town(400, 9, seed=3, faults=False)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    alerts = {
        alert.id: alert for batch in town.batches() for alert in engine.step(batch)
    }
    assert (
        Counter(
            alert.rule
            for alert in alerts.values()
            if not alert.suppressed_by and alert.state != "withdrawn"
        )
        == Counter()
    )


def alert(**known):
    usual = Alert(
        id="1",
        rule="voltage_loss",
        version=1,
        kind="readings",
        area="A1",
        subject="M1",
        state="raised",
        change="raised",
        revision=0,
        severity=1,
        since=1000,
        raised=1900,
        at=1900,
        score=1.0,
        phase="A",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )

    return msgspec.structs.replace(usual, **known)


def test_alert_is_true_false_or_suppressed():
    fault = Planted(
        "voltage_loss",
        ("voltage_loss",),
        "A1",
        "M1",
        900,
        5000,
        "",
        echoes=("area_loss_high",),
    )
    true_alert, echo = alert(), alert(id="2", rule="area_loss_high", subject="")
    false = [
        alert(id="3", subject="M2"),
        alert(id="4", raised=800),
        alert(id="5", rule="zero_usage"),
    ]

    suppressed = alert(id="6", suppressed_by="repeat")
    withdrawn = alert(id="7", state="withdrawn", raised=950)
    result = score([fault], [true_alert, echo, *false, suppressed, withdrawn])

    assert [finding.alert for finding in result.findings] == [true_alert]
    assert result.true == [true_alert, echo]
    assert sorted(false_alert.id for false_alert in result.false) == ["3", "4", "5"]
    assert result.suppressed == [suppressed]
    assert result.findings[0].days == pytest.approx(1000 / 86_400)
    assert score([fault], [suppressed]).found == 0


def test_times_are_written_in_words():
    assert [waited(seconds) for seconds in (0.01, 0.2, 1.9, 7.25)] == [
        "14 min",
        "5 h",
        "46 h",
        "7.2 days",
    ]

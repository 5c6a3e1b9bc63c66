"""Healthy data stays quiet: a month of a clean town, and real data with few faults, each with a budget.

A budget is the number of alerts that a rule may raise there, suppressed ones left out. A rule without a budget may
raise none; whoever raises a budget says why an inspector would still go out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from replay.history import Source
from replay.simulation.town import Town
from replay.sources import open_sources
from tests.test_real_streams import JULY_2016

DATA_FOLDER = Path(__file__).parent / "data"
TOWN_BUDGET: dict[str, int] = {}
GARDEN_BUDGET = {"meter_current_unbalance": 1}  # chronic, and true
# of four households one is a quarter of the area
HOUSEHOLDS_BUDGET = {
    "read_failure": 1,
    "read_success_rate": 6,
}


def alert_counts(source: Source, first: int = 0) -> Counter[str]:
    """The number of alerts by rule, of rows from a time on, neither withdrawn nor suppressed."""
    engine = Engine(zone=source.zone, interval=source.interval or 900)
    engine.enroll(source.areas)
    states = {
        alert.id: alert
        for batch in source.batches
        for alert in engine.step(batch.select(batch.at > first))
    }
    return Counter(
        alert.rule
        for alert in states.values()
        if alert.state != "withdrawn" and not alert.suppressed_by
    )


def within(alert_counts: Counter[str], budget: dict[str, int]) -> None:
    """Fails, and names the rules, if a rule raised more alerts than its budget."""
    assert set(budget) <= set(ALL_RULES)
    excess = {
        rule: f"{count} of {budget.get(rule, 0)}"
        for rule, count in alert_counts.items()
        if count > budget.get(rule, 0)
    }
    assert not excess, f"more alerts than their budget: {excess}"


def test_clean_town_stays_within_budget_for_a_month():
    within(alert_counts(Town(300, 30, seed=11, faults=False).source()), TOWN_BUDGET)


@pytest.mark.parametrize(
    ("pattern", "first", "budget"),
    [("garden4_*", JULY_2016, GARDEN_BUDGET), ("sgsc_*", 0, HOUSEHOLDS_BUDGET)],
)
def test_real_data_stays_within_budget(pattern, first, budget):
    within(alert_counts(open_sources(sorted(DATA_FOLDER.glob(pattern))), first), budget)


def test_a_rule_over_its_budget_fails():
    with pytest.raises(AssertionError, match=r"voltage_loss': '2 of 1'"):
        within(
            Counter(voltage_loss=2, zero_usage=1), {"voltage_loss": 1, "zero_usage": 1}
        )

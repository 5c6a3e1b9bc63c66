"""Customers are judged the same with and without current transformers: limits are primary."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest

import detectors  # noqa: F401 - its rules come with it
from detectors.rule import ALL_RULES
from replay.cases.case import Case, batches, master_data
from replay.cases.judging import (
    RecordingRule,
    alert_rows,
    engine_of_one,
    expected_rows,
)
from replay.cases.tables import format_table, parse_time
from schemas.alert import Alert
from schemas.columns import ALL_KINDS, KIND_COLUMNS, Batch
from schemas.declarations import Declaration
from tests.casebook import casebook, rules_with_a_file

TRANSFORMER_RATIO = 4.0
OF_THE_METER = {  # rules with limits of the meter itself, whatever transformers it has
    "share of the basic current": (
        "all_voltage_loss",
        "current_break",
        "current_loss",
        "meter_current_unbalance",
        "meter_overcurrent",
        "neutral_phase_mismatch",
        "phase_break",
        "relay_mismatch",
        "reverse_polarity",
        "voltage_loss",
    ),
    "what the meter can carry or count": (
        "meter_runaway",
        "meter_stopped",
        "register_decrease",
        "register_sum_mismatch",
        "register_interval_sum",
    ),
    "the last digits of many meters": ("area_loss_high",),
    "the file, in which a ratio is another file": ("file_inconsistency",),
}
JUDGED_RULES = [
    rule
    for rule in rules_with_a_file()
    if all(rule not in rules for rules in OF_THE_METER.values())
]
RULE_CASES = [
    pytest.param(rule, case, id=f"{rule}: {case.name}")
    for rule in JUDGED_RULES
    for case in casebook(rule).case
    if case.known and "  ct" not in case.meters and case.shows in ("fires", "near miss")
]


def sided(kind: type[Batch], side: str) -> set[str]:
    """The columns of a kind on a side of the transformers."""
    columns = KIND_COLUMNS[kind].items()
    return {name for name, column in columns if column.unit.side == side}


def measures(column: Declaration) -> bool:
    """True if a column is energy, power or current by its name or unit."""
    by_name = re.search(
        r"(^|_)(kwh|kw|kva|kvar|kvarh|register|energy|current|neutral|tariff_sum)(_|$)",
        column.name,
    )
    by_unit = column.unit.name in {"kWh", "kW", "kvar", "kvarh", "kVA", "A"}
    return bool(by_name) or by_unit


@pytest.mark.parametrize("kind", KIND_COLUMNS, ids=ALL_KINDS)
def test_every_energy_power_and_current_is_primary_or_secondary(kind):
    unsided = {"register_age", "limit_hours"}
    columns = KIND_COLUMNS[kind].values()
    measured = {column.name for column in columns if measures(column)}
    assert measured - unsided <= sided(kind, "secondary") | sided(kind, "primary")
    for column in columns:
        other = {"secondary": "primary", "primary": "secondary"}.get(column.unit.side)
        assert not other or other not in column.text


def behind_transformers(batch: Batch) -> Batch:
    """The same rows as meters behind current transformers show them."""
    shown = {
        name: getattr(batch, name) / TRANSFORMER_RATIO
        for name in sided(type(batch), "secondary")
    }
    return replace(batch, **shown)


def alerts_of(case: Case, rule: str) -> list[Alert]:
    area, model = master_data(case), casebook(rule).model
    judged = ALL_RULES[rule]
    if judged.modelled:
        judged = replace(judged, model=model)
    watched = RecordingRule.of(judged)
    engine = engine_of_one(watched, case.interval)
    meters = [
        msgspec.structs.replace(meter, ct=TRANSFORMER_RATIO) for meter in area.meters
    ]
    engine.enroll([msgspec.structs.replace(area, meters=meters)])

    alerts = [
        alert
        for batch in batches(case)
        for alert in engine.step(behind_transformers(batch))
    ]
    return alerts + (engine.tick(parse_time(case.now)) if case.now else [])


@pytest.mark.parametrize(("rule", "case"), RULE_CASES)
def test_case_behind_current_transformers_ends_the_same(rule, case):
    want = expected_rows(case)
    columns = tuple(want[0]) if want else None
    alerts = alerts_of(case, rule)
    assert format_table(
        alert_rows(alerts, columns) if columns else alert_rows(alerts)
    ) == format_table(want)


def test_rules_on_the_meter_exist():
    assert {
        rule for rules in OF_THE_METER.values() for rule in rules
    } <= ALL_RULES.keys()

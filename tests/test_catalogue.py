"""The page of all rules matches the rules, and documents all that a reader asks for."""

from __future__ import annotations

import re
import tomllib

import pytest

from detectors.catalogue import RULEBOOK_FILE, RULES_PAGE, entry, page, rulebook
from detectors.chinese_catalogue import CHINESE_PAGE, chinese_entry, chinese_page
from detectors.rule import ALL_RULES
from detectors.rule_notes import notes
from detectors.rulebook import applied, changes, problems, unapproved
from schemas.rules import rulebook_of

WANTED_RULES = """
    register_sum_mismatch meter_runaway energy_ratio_error register_decrease meter_stopped register_interval_sum
    demand_register_error clock_drift ct_ratio_mismatch param_change_unordered calibration_due relay_mismatch
    voltage_loss phase_break all_voltage_loss current_loss current_break reverse_polarity reverse_sequence
    wrong_wiring_vector meter_voltage_unbalance meter_current_unbalance area_load_unbalance neutral_current_high
    seal_or_cover_event magnetic_field neutral_phase_mismatch voltage_current_decoupling area_loss_high
    area_loss_correlation power_differential step_drop clipped_profile flat_profile timed_zero_block
    tou_inversion peer_shortfall unregistered_reverse use_after_stop model_score
    over_contract_capacity demand_over_contract suspended_use transformer_overload transformer_thermal
    meter_overcurrent low_power_factor
    voltage_deviation pq_voltage_unbalance frequency_deviation harmonics_thd voltage_sag frequent_outage
    zero_usage low_usage usage_fluctuation tariff_misuse bill_recalc_mismatch read_date_wrong arrears_tier
    low_balance payment_failure_burst payment_reconcile
    stage_overdue stage_stall read_success_rate read_failure file_inconsistency contract_gap new_install_check
"""
ADDITIONAL_RULES = {
    "ct_ratio_mismatch": {"ct_ratio_step"}, "relay_mismatch": {"relay_unanswered"},
    "over_contract_capacity": {"capacity_expansion"},
    "transformer_overload": {"customer_transformer_overload", "transformer_overload_expected"},
    "low_power_factor": {"monthly_power_factor"}, "payment_failure_burst": {"payment_failure_repeat"},
    "payment_reconcile": {"payment_conflict", "bill_overpaid"}, "stage_stall": {"stage_disorder", "stage_batch_stuck"},
    "stage_overdue": {"stage_overdue_expected"}, "contract_gap": {"contract_expiry"}, "zero_usage": {"near_zero_usage"},
    "file_inconsistency": {"phase_mismatch", "area_mismatch"},
}  # fmt: skip


def test_every_requested_detector_is_one_or_more_rules():
    wanted = {*WANTED_RULES.split()}
    assert len(wanted) == 70
    assert wanted <= ALL_RULES.keys()
    assert ADDITIONAL_RULES.keys() <= wanted
    assert set().union(*ADDITIONAL_RULES.values()) <= ALL_RULES.keys() - wanted


def test_page_and_rulebook_match_the_rules():
    for path, text in (
        (RULES_PAGE, page()),
        (CHINESE_PAGE, chinese_page()),
        (RULEBOOK_FILE, rulebook()),
    ):
        assert path.read_text("utf-8") == text, (
            f"`python -m detectors.catalogue` writes {path.name} anew"
        )


def test_the_rulebook_has_every_rule_and_changes_none():
    book = rulebook_of(tomllib.loads(rulebook()))
    assert book.rules.keys() == ALL_RULES.keys()
    assert problems(book) == unapproved(book) == []
    assert changes(book) == {}
    assert applied(book) == list(ALL_RULES.values())


def test_rule_has_a_table_line_and_a_section_of_its_own():
    lines = page().splitlines()
    for rule in ALL_RULES:
        assert sum(f"](#{rule})" in line for line in lines) == 1
        assert lines.count(f"## {rule}") == 1


@pytest.mark.parametrize("name", ALL_RULES)
def test_page_documents_everything_of_a_rule(name):
    rule, text = ALL_RULES[name], "\n".join(entry(ALL_RULES[name], notes(name)))
    assert all(f"`{column}`" in text for column in rule.reads)
    assert all(re.search(rf"`{setting}` -?[\d.]", text) for setting in rule.settings)
    assert all(f"In the segment {segment}: " in text for segment in rule.segments)
    assert all(
        text_part in text
        for text_part in (
            *rule.title,
            *rule.text,
            notes(name).meaning,
            notes(name).inspector,
        )
    )


def test_every_rule_has_a_table_line_and_a_section_in_chinese():
    lines = chinese_page().splitlines()
    for name, rule in ALL_RULES.items():
        heading = f"{rule.title[1]} {name}"
        assert lines.count(f"## {heading}") == 1
        anchor = f"](#{heading.replace(' ', '-')})"
        assert sum(anchor in line for line in lines) == 1


@pytest.mark.parametrize("name", ALL_RULES)
def test_chinese_page_says_what_a_rule_means_and_what_to_check(name):
    rule, expert = ALL_RULES[name], notes(name)
    text = "\n".join(chinese_entry(rule, expert))
    in_chinese = [expert.zh.meaning, expert.zh.inspector]
    in_chinese += [case.zh for case in expert.false_positive]
    assert all(re.search("[一-龥]{2}", note) and note in text for note in in_chinese)
    assert rule.text[1] in text
    assert all(f"{level.severity}级" in text for level in rule.levels)

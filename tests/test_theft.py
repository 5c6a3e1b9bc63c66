"""The comparison of methods that find thieves: what is planted, what is swept, and the command."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench import theft
from bench.theft_days import (
    ATTACK_RULES,
    JUDGED_DAYS,
    KNOWN_DAYS,
    MODEL_RULE,
    WATCHED_DAYS,
    Theft,
    WatchedDays,
    measured,
    town_days,
)
from bench.theft_homes import Homes, homes_days
from bench.theft_methods import (
    ALL_METHODS,
    day_vectors,
    false_alerts,
    honest,
    lasting,
    line_for,
    of_fall,
    outcomes,
    ranked,
)
from detectors.rule import ALL_RULES
from models.meters.suspects import Suspects
from replay.simulation.attacks import ALL_ATTACKS, SUSPECT_RULE, attacked
from replay.simulation.town import Town

HOMES_MIDNIGHT = 1_400_162_400  # 2014-05-16 in Sydney
SOME_SCORES = arrays(
    np.float64, (6, WATCHED_DAYS), elements=st.sampled_from([0, 0.3, 0.7, 2])
)


def some_homes(count=4, days=WATCHED_DAYS + 3):
    """Homes that use about 12 kWh a day, mostly in the evening."""
    rng = np.random.default_rng(3)
    hour = np.arange(48) / 2
    usual = 0.12 + 0.5 * np.exp(-0.5 * ((hour - 19) / 2) ** 2)
    kwh = np.tile(usual, days) * rng.lognormal(0, 0.3, (count, 48 * days))
    return Homes([f"H{n}" for n in range(count)], HOMES_MIDNIGHT, kwh)


def watched(scores, thefts=()):
    """Days of customers of whom one score is known, by every rule."""
    places = [("A", f"M{n}") for n in range(len(scores))]
    used = np.full(scores.shape, 10.0)
    hours = np.broadcast_to(10 / 24, (24, *scores.shape))
    by_rule = {name: np.zeros(scores.shape) for name in (*ATTACK_RULES, MODEL_RULE)}
    by_rule["flat_profile"] = scores
    all_places = np.ones(len(places), np.bool_)
    return WatchedDays(
        places, all_places, all_places, by_rule, used, hours, list(thefts)
    )


def test_an_attack_takes_from_one_home_what_it_says():
    with_thief, without = (homes_days(some_homes(), 1, thefts, 7) for thefts in (1, 0))
    (planted,) = with_thief.thefts
    thief = with_thief.places.index(planted.place)
    missing = without.used_kwh - with_thief.used_kwh
    judged = missing[thief, KNOWN_DAYS : KNOWN_DAYS + JUDGED_DAYS]
    np.testing.assert_allclose(judged, planted.missing_kwh, atol=0.01)
    assert planted.hidden_kwh() > 10

    missing[thief, KNOWN_DAYS:] = 0
    closed = missing[:, : WATCHED_DAYS - 1]
    np.testing.assert_allclose(closed, 0, atol=1e-9)


def test_homes_by_which_limits_were_chosen_and_old_thieves_are_not_judged():
    homes = some_homes(20)
    days = homes_days(homes, 4, 4, 1, old_share=0.1)
    judged = [
        place
        for place, is_judged in zip(days.places, days.is_judged, strict=True)
        if is_judged
    ]
    assert {name for _, name in judged} <= {*homes.names[1::2]}
    assert {theft.place for theft in days.thefts} <= {*judged}
    unpoisoned = homes_days(homes, 4, 4, 1)
    assert unpoisoned.is_judged.sum() == 40

    # two old thieves an area, of whom no more than two were judged before
    assert 32 <= len(judged) < 40
    steals = unpoisoned.used_kwh - days.used_kwh
    early = np.abs(steals[:, :KNOWN_DAYS]).max(axis=1) > 0.01
    assert not days.is_judged[early].any()
    assert early.sum() == 8


def test_old_thieves_of_a_town_are_not_judged():
    days = town_days(100, 2, seed=1, old_share=0.1)
    assert np.count_nonzero(~days.is_judged) == 10
    judged = [
        place
        for place, is_judged in zip(days.places, days.is_judged, strict=True)
        if is_judged
    ]
    assert {theft.place for theft in days.thefts} <= {*judged}


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_scores_every_day(method):
    rng = np.random.default_rng(5)
    days = watched(rng.uniform(0, 0.9, (60, WATCHED_DAYS)))
    days.used_kwh[:] *= rng.lognormal(0, 0.1, days.used_kwh.shape)
    score = ALL_METHODS[method](days)
    assert score.shape == (60, WATCHED_DAYS)
    assert np.isfinite(score).all()


@pytest.mark.parametrize("method", ["half-space trees", "ranks of statistics"])
def test_a_day_unlike_all_others_is_rare(method):
    days = watched(np.zeros((60, WATCHED_DAYS)))
    rng = np.random.default_rng(5)
    hours = days.hours * rng.lognormal(0, 0.1, days.hours.shape)
    hours[:12, 0, KNOWN_DAYS:] = 0
    odd = replace(days, hours=hours, used_kwh=hours.sum(axis=0))
    score = ALL_METHODS[method](odd)[:, KNOWN_DAYS + 7]
    assert score.argmax() == 0


def test_attacks_take_turns_and_area_meters_are_no_customers():
    days = homes_days(some_homes(), 3, 2, 1)
    assert [planted.kind for planted in days.thefts] == [*ALL_ATTACKS][:2]
    assert len(days.places) == 12


@pytest.mark.parametrize("kind", ["h1", "h5", "FDI4"])
def test_what_a_theft_of_a_town_hides_is_measured(kind):
    honest_town, town = (Town(50, 2, seed=2, faults=False) for _ in range(2))
    grid = town.grid
    row = int(np.argmax(np.where(grid.three | grid.gateway, 0, grid.mean_kw)))
    missing = np.zeros(2)
    happening = attacked(grid, kind, row, (town.start, town.end), 1)
    town.happenings.append(measured(happening, grid, row, missing))
    honest_kwh, registered_kwh = (
        sum(batch.kwh[batch.subject == row].sum() for batch in each.readings())
        for each in (honest_town, town)
    )  # but for one reading in two hundred
    hidden = (honest_kwh - registered_kwh) * grid.ratio[row]
    assert missing.sum() == pytest.approx(hidden, abs=0.05 * float(honest_kwh))


def test_rules_without_an_area_meter_read_nothing_of_the_areas_loss():
    names = {"lossy", "lost_kwh", "area_excess_kwh", *Suspects.gives}
    for name in {*ATTACK_RULES, MODEL_RULE} - {SUSPECT_RULE}:
        rule = ALL_RULES[name]
        assert names.isdisjoint((*rule.reads, *rule.optional_reads))


@given(SOME_SCORES, st.integers(1, 4))
def test_a_lasting_score_is_the_lowest_of_its_days(scores, days):
    held = lasting(scores, days)
    for day in range(WATCHED_DAYS):
        lowest = scores[:, max(day - days + 1, 0) : day + 1].min(axis=1)
        np.testing.assert_array_equal(held[:, day], lowest if day >= days - 1 else 0)


@given(SOME_SCORES, st.integers(0, 5))
def test_a_line_keeps_the_budget_and_no_lower_one_does(scores, allowed):
    line = line_for(scores, allowed)
    assert np.isinf(line) or false_alerts(scores, line) <= allowed
    judged = scores[:, KNOWN_DAYS : KNOWN_DAYS + JUDGED_DAYS]
    lower = np.unique(judged[judged < line])
    if len(lower):
        assert false_alerts(scores, lower[-1]) > allowed


@given(SOME_SCORES)
def test_ranks_keep_the_order_of_scores(scores):
    ranks = ranked(scores)
    assert (ranks >= 0).all()
    assert (ranks < 1).all()
    flat = np.argsort(scores, axis=None, kind="stable")
    assert (np.diff(ranks.reshape(-1)[flat]) >= 0).all()


def test_what_is_found_after_some_days_saves_the_rest():
    scores = np.zeros((2, WATCHED_DAYS))
    scores[0, KNOWN_DAYS + 3 :] = 1
    thefts = [Theft("h1", ("A", f"M{n}"), np.full(JUDGED_DAYS, 2.0)) for n in (0, 1)]
    days = watched(scores, thefts)
    found, missed = outcomes(days, scores, 0.5)
    assert (found.days, found.saved_kwh) == (4, 20)
    assert (missed.days, missed.saved_kwh) == (None, 0)
    assert not honest(days).any()


def test_an_alert_of_before_is_no_false_alert_and_days_in_a_row_are_one():
    scores = np.zeros((3, WATCHED_DAYS))
    scores[0, KNOWN_DAYS - 2 : KNOWN_DAYS + 2] = 1
    scores[1, KNOWN_DAYS + 2 : KNOWN_DAYS + 5] = 1
    scores[2, KNOWN_DAYS + JUDGED_DAYS :] = 1
    assert false_alerts(scores, 0.5) == 1


def test_a_fall_and_a_day_vector_show_a_customer_that_halves():
    days = watched(np.zeros((5, WATCHED_DAYS)))
    days.used_kwh[0, KNOWN_DAYS:] = 5
    fall = of_fall(days)
    assert fall[0, KNOWN_DAYS + 6] == pytest.approx(0.5, abs=0.01)
    assert fall[1:].max() == pytest.approx(0)

    vectors = day_vectors(days)
    assert vectors.shape == (5, WATCHED_DAYS, 28)
    own, peers = vectors[0, KNOWN_DAYS, 24:26]
    assert own == pytest.approx(np.log(0.5), abs=0.01)
    assert peers < vectors[1, KNOWN_DAYS, 25]


def test_the_tables_say_what_each_method_finds():
    scores = np.zeros((40, WATCHED_DAYS))
    scores[0, KNOWN_DAYS + 1 :] = 3
    thefts = [Theft("h5", ("A", f"M{n}"), np.full(JUDGED_DAYS, 1.0)) for n in (0, 1)]
    days = watched(scores, thefts)
    lines = list(theft.table({"Some": days}))
    assert lines[0].startswith("- Some: 40 judged customers, 2 of them thieves (5.0%)")
    assert "At their own limits the rules find 1 with 0 (0 to " in lines[0]
    assert "so 100% (" in lines[0]
    (rules,) = [line for line in lines if line.startswith("| Some | the rules |")]
    assert re.search(r"\| 1: 50% \(.*\) \| 4 days \| 10 \(36%\) \|", rules)
    (by_attack,) = [line for line in lines if line.startswith("| h5: ")]
    assert "| 2 | 1 / 1 / 1 |" in by_attack
    assert by_attack.count("|") == 3 + len(theft.BY_ATTACK)


def test_several_watches_join_into_one():
    days = watched(np.ones((2, WATCHED_DAYS)))
    renamed = replace(days, places=[("B", "M0"), ("B", "M1")])
    joined = WatchedDays.join([days, renamed])
    assert joined.places == [*days.places, *renamed.places]
    assert joined.scores["flat_profile"].shape == (4, WATCHED_DAYS)
    assert joined.hours.shape == (24, 4, WATCHED_DAYS)


@pytest.mark.parametrize("content", [None, "customer_id"])
def test_data_that_cannot_be_read_are_one_line(tmp_path, capsys, content):
    if content:
        (tmp_path / theft.HOMES_FILE).write_text(content)
    assert theft.main([str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_quick_prints_tables_and_writes_nothing(monkeypatch, capsys):
    before = theft.PAGE_FILE.read_text("utf-8")
    monkeypatch.setattr(
        theft, "_measure", lambda *_: {"Some": watched(np.zeros((4, WATCHED_DAYS)))}
    )
    assert theft.main(["--quick"]) == 0
    assert "| Some | the rules |" in capsys.readouterr().out
    assert theft.PAGE_FILE.read_text("utf-8") == before


def test_tables_of_households_and_towns_go_into_the_page(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(theft.PAGE_FILE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(theft, "PAGE_FILE", page)
    monkeypatch.setattr(theft, "read_homes", lambda _: some_homes())
    days = watched(np.zeros((4, WATCHED_DAYS)))
    monkeypatch.setattr(theft, "_measure", lambda jobs, _: dict.fromkeys(jobs, days))
    assert theft.main([str(tmp_path)]) == 0
    written = page.read_text("utf-8")
    for name in ("Households, 0.5 %", "Towns, 3 %, poisoned"):
        assert f"- {name}: 4 judged customers, 0 of them thieves (0.0%)" in written


def test_windows_begin_at_a_midnight_of_the_homes():
    homes = some_homes(days=WATCHED_DAYS + 5)
    late = replace(
        homes, start=HOMES_MIDNIGHT + 8 * 3600
    )  # the data begin in the morning
    days = homes_days(late, 2, 0, 1)
    assert np.isfinite(days.used_kwh[:, : WATCHED_DAYS - 1]).all()
    assert set(late.midnights().tolist()).isdisjoint([late.start])
    assert HOMES_MIDNIGHT + 86_400 in late.midnights()

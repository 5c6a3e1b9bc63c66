"""Suspicion: facts frozen at the day of a visit, learning, measuring, ranking, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.suspicion import lesson_of, visit, visited_bills, visited_town
from detectors.rule import ALL_RULES
from models.state.index import Index
from replay.history import Tally, merge
from replay.labels import write_labels
from replay.shards import Shard, sharded
from replay.simulation.network import START_TIME
from replay.suspicion.bills import BillNotes
from replay.suspicion.customers import Customers
from replay.suspicion.days import KEPT_DAYS, DayNotes
from replay.suspicion.features import FACT_NAMES, FACT_PLACES, facts_row
from replay.suspicion.fitting import fitted, learn, split
from replay.suspicion.measures import brier, calibration, ranking_quality
from replay.suspicion.ranking import chances_of, contributions, ranked
from replay.suspicion.visits import (
    TooFewVisitsError,
    Visits,
    labels_of_visits,
    visits_of,
)
from replay.suspicion.watch import Known, joined, visit_day, watch, watch_shard
from schemas.columns import LATEST_TIME, Payment, Payments
from schemas.master import Area, Meter
from schemas.suspicion import SuspicionModel
from schemas.units import DAY_SECONDS
from tests.test_cli import command  # noqa: F401

ALL_THE_RULES = list(ALL_RULES.values())
THIEF_PLACE = FACT_PLACES["bill_change"]
ZONE_NAME = "Asia/Shanghai"


@pytest.fixture(scope="module")
def billed():
    """A billing history, watched, with its visits."""
    source, labels = visited_bills(500, 24, 5, 0.3)
    watched = watch(source, labels, ALL_THE_RULES)
    return watched, visits_of(watched, labels, Tally()), labels


def made_visits(count=400, seed=1, *, days=100, customers=None, signal=2.0):
    """Visits by chance, of which the one fact shows the thefts."""
    rng = np.random.default_rng(seed)
    found = rng.random(count) < 0.3
    facts = np.full((count, len(FACT_NAMES)), np.nan)
    facts[:, THIEF_PLACE] = rng.normal(0, 1, count) - signal * found
    facts[:, FACT_PLACES["bill_level"]] = rng.normal(0, 1, count)
    when = START_TIME + DAY_SECONDS * rng.integers(0, days, count)
    return Visits(
        facts=facts,
        found=found,
        weights=np.ones(count),
        customers=np.arange(count) if customers is None else customers,
        days=when,
        alerts=np.zeros(count),
    )


# ---- Facts ----


def bills_of(kwh, register=None, *, gap=30, start=START_TIME, repeats=1):
    """Bills of a customer, issued so many times."""
    count = len(kwh)
    at = start + DAY_SECONDS * gap * np.arange(count)
    columns = dict(
        payment=np.full(count, Payment.BILL),
        bills=[f"B{number}" for number in range(count)],
        bill=np.arange(count),
        billed_kwh=kwh,
        read_register=np.cumsum(kwh) if register is None else register,
        read_at=at,
    )

    batch = Payments.build(
        ["C1"], np.zeros(count, int), ["A1"], np.zeros(count, int), at, **columns
    )
    notes = BillNotes()
    for _ in range(repeats):
        notes.add(batch)
    return notes, int(at[-1]) + 1


def bill_facts(kwh, register=None, **more):
    notes, end = bills_of(kwh, register, **more)
    return notes.facts_of("A1", "C1", end)


def test_steady_bills_show_no_change():
    facts = bill_facts([300.0] * 20)
    assert facts["bill_change"] == pytest.approx(0, abs=0.01)
    assert facts["bill_year"] == pytest.approx(0, abs=0.01)
    assert facts["bill_trend"] == pytest.approx(0, abs=0.01)
    assert facts["index_jumps"] == facts["estimated_bills"] == facts["zero_run"] == 0
    assert np.expm1(facts["bill_level"]) == pytest.approx(10, abs=0.01)


def test_halved_bills_show_a_change():
    facts = bill_facts([300.0] * 17 + [150.0] * 3)
    assert np.exp(facts["bill_change"]) == pytest.approx(0.5, abs=0.01)
    assert np.exp(facts["bill_year"]) == pytest.approx(0.5, abs=0.01)
    assert facts["bill_trend"] < 0


def test_zero_estimated_and_odd_bills_are_counted():
    kwh = np.array([300.0, 300, 0, 0, 0, 300, 300, 300, 300, 300])
    register = np.cumsum(kwh)
    register[[1, 7]] = np.nan
    register[9] -= 250
    facts = bill_facts(kwh, register, gap=61)
    assert facts["zero_run"] == 3
    assert facts["zero_bills"] == pytest.approx(0.3)
    assert facts["estimated_bills"] == pytest.approx(0.2)
    assert facts["index_jumps"] == 1
    assert facts["reading_gap"] == pytest.approx(2, abs=0.01)


def test_a_bill_that_is_issued_again_counts_once():
    kwh = np.linspace(100, 300, 9)
    assert bill_facts(kwh, repeats=3) == bill_facts(kwh)


@given(st.integers(1, 12), st.floats(0, 1e4))
@settings(max_examples=20)
def test_later_bills_change_no_fact(known, later):
    kwh = [100.0 + 10 * number for number in range(12)]
    notes, _ = bills_of(kwh[:known] + [later] * (12 - known))
    before = START_TIME + DAY_SECONDS * 30 * known
    expected, _ = bills_of(kwh[:known])
    assert notes.facts_of("A1", "C1", before) == expected.facts_of("A1", "C1", before)


def noted_days(used, *, coverage=1.0):
    """Days of a meter from the first day on, in an order that is not theirs."""
    index = Index()
    slot = index.slot("A1", "M1")
    notes = DayNotes(index, ZONE_NAME)
    order = np.random.default_rng(1).permutation(len(used))
    columns = dict(
        at=START_TIME + DAY_SECONDS * order,
        used_kwh=np.asarray(used, float)[order],
        coverage=np.full(len(used), coverage),
        excess=np.zeros(len(used)),
        slide=np.zeros(len(used)),
        register=np.cumsum(used)[order],
    )
    notes.columns_for(np.full(len(used), slot), columns)
    return notes, slot


def test_days_show_level_change_and_what_is_missing():
    notes, slot = noted_days([8.0] * 40 + [2.0] * 14, coverage=0.75)
    last = first_day() + 54
    facts = notes.facts_of([(slot, 0)], last)
    assert np.exp(facts["day_change"]) == pytest.approx(0.25, abs=0.01)
    assert np.expm1(facts["day_level"]) == pytest.approx(2)
    assert facts["missing_share"] == pytest.approx(0.25)
    assert facts["zero_days"] == facts["register_falls"] == 0
    earlier = notes.facts_of([(slot, 0)], last - 14)
    assert np.exp(earlier["day_change"]) == pytest.approx(1)
    assert notes.facts_of([(slot, last)], last) == {}, "the meter was another's"


def first_day():
    """The number of the local day that the first row of noted_days ends."""
    notes, slot = noted_days([1.0] * 3)
    return int(notes._day[slot][notes._day[slot] >= 0].min())


def test_only_the_latest_days_are_kept():
    notes, slot = noted_days(np.arange(1.0, 2 * KEPT_DAYS))
    assert notes._facts.shape[1] == KEPT_DAYS
    assert (notes._day[slot] >= 0).all()


def test_customer_of_a_meter_is_that_of_its_record_in_force():
    meters = [
        Meter(meter="M1", customer="C1", effective=0),
        Meter(meter="M1", customer="C2", effective=START_TIME, tariff="T2"),
        Meter(meter="M2", effective=0),
    ]
    known = Customers([Area(area="A1", meters=meters)])
    assert known.owner("A1", "M1", START_TIME) == "C1"
    assert known.owner("A1", "M1", START_TIME + 1) == "C2"
    assert known.owner("A1", "M2", START_TIME) == "M2"
    assert [held.record.meter for held in known.held("A1", "C2", LATEST_TIME)] == ["M1"]
    assert known.held("A1", "C1", START_TIME + 1) == []


# ---- Freezing ----


def test_facts_of_a_visit_ignore_what_came_later(billed):
    watched, _, labels = billed
    cut = int(np.median([label.until for label in labels]))
    source, _ = visited_bills(500, 24, 5, 0.3)
    (batch,) = source.batches
    early = batch.select(batch.at < cut)
    again = watch(replace(source, batches=iter([early])), labels, ALL_THE_RULES)
    known = {label.where: known for label, known in watched.visited}
    same = 0
    for label, before in again.visited:
        if before and visit_day(label, ZONE_NAME) <= early.at[-1]:
            np.testing.assert_array_equal(before.facts, known[label.where].facts)
            same += 1
    assert same > 100


def test_facts_do_not_depend_on_the_cut_into_batches(billed):
    watched, _, labels = billed
    source, _ = visited_bills(500, 24, 5, 0.3)
    (batch,) = source.batches
    parts = [batch.select(slice(k, k + 997)) for k in range(0, len(batch), 997)]
    again = watch(replace(source, batches=iter(parts)), labels, ALL_THE_RULES)
    for (_, one), (_, other) in zip(watched.visited, again.visited, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.facts, other.facts)


def test_curves_of_a_town_are_frozen_too():
    source, labels = visited_town(50, 17, 1)
    batches = list(source.batches)
    watched = watch(replace(source, batches=iter(batches)), labels, ALL_THE_RULES)
    facts = {label.where: known for label, known in watched.visited if known}
    assert len(facts) > 20
    rows = np.stack([known.facts for known in facts.values()])
    for name in ("day_level", "zero_days", "missing_share", "slide"):
        assert np.isfinite(rows[:, FACT_PLACES[name]]).all()
    gateways = {area.gateway for area in source.areas}
    assert {known.place[1] for known in watched.customers}.isdisjoint(gateways)

    early = batches[: len(batches) * 16 // 17]
    again = watch(replace(source, batches=iter(early)), labels, ALL_THE_RULES)
    frozen = {label.where: known for label, known in again.visited if known}
    assert len(frozen) > 5
    for where, known in frozen.items():
        np.testing.assert_array_equal(known.facts, facts[where].facts)


def test_shards_of_towns_give_what_the_whole_gives():
    source, labels, hushed = two_towns()
    batches = list(source.batches)
    whole = watch(replace(source, batches=iter(batches)), labels, ALL_THE_RULES)
    parts = []
    for number in range(2):
        again = replace(source, batches=iter(batches))
        own, known = sharded(again, Shard(number, 2), {})
        parts.append(watch_shard(own, labels, ALL_THE_RULES, known))
    found = joined(parts, labels)

    assert (found.first, found.last) == (whole.first, whole.last)
    assert found.observed.meter_days() == whole.observed.meter_days()
    of_labels, visited = zip(*whole.visited, strict=True)
    of_labels_found, visited_found = zip(*found.visited, strict=True)
    assert of_labels_found == of_labels
    assert any(each.place[0] == hushed for each in visited if each)
    assert_same_customers(filter(None, visited_found), filter(None, visited))
    assert_same_customers(found.customers, whole.customers)


def two_towns():
    """A history of two towns with visits, and the area that has no rows of the last days, on which it is visited."""
    one, labels = visited_town(50, 17, 1)
    hushed = one.areas[0].area
    other, others = moved_town(*visited_town(50, 17, 2))
    early = (without_late_rows(batch, hushed) for batch in one.batches)
    batches = merge([filter(len, early), other.batches])
    areas = [*one.areas, *other.areas]
    return replace(one, areas=areas, batches=batches), [*labels, *others], hushed


def moved_town(town, labels):
    """A town and its labels, in areas of other names."""
    moved = [
        msgspec.structs.replace(area, area=f"B {area.area}") for area in town.areas
    ]
    batches = (
        replace(batch, areas=tuple(f"B {area}" for area in batch.areas))
        for batch in town.batches
    )
    labels = [replace(label, area=f"B {label.area}") for label in labels]
    return replace(town, areas=moved, batches=batches), labels


def assert_same_customers(found, expected):
    """Each customer is that of the other list, with the same facts."""
    columns = [zip(*customers, strict=True) for customers in (found, expected)]
    (places, facts, alerts), (own_places, own_facts, own_alerts) = columns
    assert (places, alerts) == (own_places, own_alerts)
    np.testing.assert_array_equal(np.stack(facts), np.stack(own_facts))


def without_late_rows(batch, area):
    """A batch without the rows of an area from the sixteenth day on."""
    is_late = batch.at >= START_TIME + 15 * DAY_SECONDS
    is_own = np.array(batch.areas)[batch.area] == area
    return batch.select(np.flatnonzero(~(is_late & is_own)))


# ---- Learning ----


def test_planted_theft_is_found_among_bills(billed):
    _, visits, _ = billed
    lesson = learn(visits, "bills")
    assert lesson.measured_on == "later visits"
    assert lesson.quality.auc > 0.7
    assert lesson.quality.lift > 3
    assert lesson.quality.average_precision > 2 * lesson.baseline.average_precision
    assert lesson.brier < lesson.brier_by_share
    assert lesson.is_better


def test_nothing_is_found_where_nothing_is():
    lesson = learn(made_visits(600, signal=0.0), "noise")
    assert 0.35 < lesson.quality.auc < 0.65
    assert lesson.brier < lesson.brier_by_share + 0.02


def test_learning_is_deterministic(billed):
    _, visits, _ = billed
    assert learn(visits, "bills") == learn(visits, "bills")


def test_chances_are_calibrated():
    lesson = learn(made_visits(2000), "made")
    off = [abs(tenth.chance - (tenth.found.value or 0)) for tenth in lesson.calibration]
    assert max(off) < 0.2
    assert np.mean(off) < 0.06


def test_later_visits_are_measured_and_no_customer_is_on_both_sides():
    customers = np.random.default_rng(3).integers(0, 150, 400)
    visits = made_visits(customers=customers)
    measured_on, [part] = split(visits)
    assert measured_on == "later visits"
    assert visits.days[part.fit].max() < visits.days[part.rest].min()
    assert not set(customers[part.fit]) & set(customers[part.rest])


def test_visits_of_one_date_are_measured_on_other_customers():
    customers = np.repeat(np.arange(80), 5)
    visits = made_visits(days=1, customers=customers)
    measured_on, parts = split(visits)
    assert measured_on == "other customers"
    assert sorted(np.concatenate([part.rest for part in parts])) == list(range(400))
    for part in parts:
        assert not set(customers[part.fit]) & set(customers[part.rest])


def test_weights_bring_back_the_share_of_all_customers():
    """Suspects are all visited, others one in ten: the weighted mean chance is the share among all."""
    visits = made_visits(3000)
    kept = visits.found | (np.random.default_rng(2).random(3000) < 0.1)
    drawn = Visits(
        facts=visits.facts[kept],
        found=visits.found[kept],
        weights=np.where(visits.found[kept], 1.0, 10.0),
        customers=visits.customers[kept],
        days=visits.days[kept],
        alerts=visits.alerts[kept],
    )
    model = fitted(drawn, np.arange(len(drawn)), FACT_NAMES)
    chances = chances_of(model, visits.facts)
    assert chances.mean() == pytest.approx(visits.found.mean(), abs=0.04)


def test_an_ablation_leaves_its_facts_out():
    visits = made_visits()
    names = [name for name in FACT_NAMES if name != "bill_change"]
    model = fitted(visits, np.arange(len(visits)), names)
    assert [feature.name for feature in model.features] == ["bill_level"]


# ---- Measures ----


def test_measures_of_a_perfect_and_of_a_reversed_ranking():
    found = np.arange(100) >= 90
    weights = np.ones(100)
    places = np.arange(100.0)
    perfect = ranking_quality(found, places, weights)
    assert perfect.auc == pytest.approx(1)
    assert perfect.average_precision == pytest.approx(1)
    assert perfect.lift == pytest.approx(10)
    assert ranking_quality(found, -places, weights).lift == 0
    assert brier(found, found.astype(float), weights) == 0


def test_calibration_has_every_visit_once():
    chances = np.random.default_rng(1).random(123)
    tenths = calibration(chances > 0.5, chances, np.ones(123))
    assert sum(tenth.visits for tenth in tenths) == 123
    means = [tenth.chance for tenth in tenths]
    assert means == sorted(means)


# ---- Ranking ----


def model_by_change():
    visits = made_visits()
    return fitted(visits, np.arange(len(visits)), FACT_NAMES, "made")


def known(name, **facts):
    return Known(("A1", name), facts_row(facts), 0.0)


def test_customers_are_ranked_with_their_reasons():
    model = model_by_change()
    suspects = ranked(
        model,
        [known("C1", bill_change=0.5), known("C2", bill_change=-3.0), known("C3")],
    )
    assert [suspect.customer for suspect in suspects] == ["C2", "C3", "C1"]
    assert [suspect.rank for suspect in suspects] == [1, 2, 3]
    reason = suspects[0].reasons[0]
    assert reason.fact == "bill_change"
    assert reason.value == pytest.approx(np.exp(-3))
    assert suspects[1].reasons == [], "an unknown fact is no reason"
    assert ranked(model, []) == []


def test_a_fact_beyond_all_others_weighs_no_more_than_its_limit():
    model = model_by_change()
    facts = np.stack([facts_row({"bill_change": value}) for value in (-1e3, -1e6)])
    one, other = contributions(model, facts)
    np.testing.assert_array_equal(one, other)


# ---- Labels ----


def test_labels_that_are_no_visits_are_refused():
    label = visit("C1", "A1", START_TIME, START_TIME, theft=True, inclusion=1)
    others = [
        replace(label, verdict="cannot_tell"),
        replace(label, outcome="no_access"),
        replace(label, outcome="stage_late"),
        replace(label, until=LATEST_TIME),
    ]
    tally = Tally()
    assert labels_of_visits([label, *others], tally) == [label]
    assert sum(tally.rejected.values()) == 4
    assert "write the time of the visit" in " ".join(tally.rejected)


def test_too_few_visits_are_an_error_with_their_number(billed):
    watched, _, labels = billed
    few = labels[:20]
    with pytest.raises(TooFewVisitsError, match="needs 30 visits that found theft"):
        visits_of(watched, few, Tally())


# ---- Commands ----


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A billing history and its visits as files, with visits that cannot be used."""
    folder = tmp_path_factory.mktemp("bills")
    source, labels = visited_bills(400, 24, 7, 0.3)
    (bills,) = source.batches
    assert isinstance(bills, Payments)
    rows = ["customer,area,at,payment,amount,bill,read_at,read_register,billed_kwh"]
    for row in range(len(bills)):
        number = bills.read_register[row]
        register = "" if np.isnan(number) else f"{number:.3f}"
        at, bill = int(bills.at[row]), bills.bills[bills.bill[row]]
        name = bills.names[bills.subject[row]]
        rows.append(
            f"{name},A1,{at},bill,{bills.amount[row]},{bill},{at},{register},{bills.billed_kwh[row]:.3f}"
        )
    (folder / "bills.csv").write_text("\n".join(rows) + "\n")
    areas = b"".join(msgspec.json.encode(area) + b"\n" for area in source.areas)
    (folder / "areas.jsonl").write_bytes(areas)

    visits = folder.parent / f"{folder.name}-visits.csv"
    stranger = replace(labels[0], subject="C40000", where="")
    late = replace(
        labels[1], until=labels[1].until + 10**8, since=labels[1].until + 10**8
    )
    write_labels(visits, [*labels, stranger, late])
    few = folder.parent / f"{folder.name}-few.csv"
    write_labels(few, labels[:20])
    return folder, visits, few


def test_command_learns_prints_and_writes(command, history, tmp_path):  # noqa: F811
    folder, visits, _ = history
    code, output, _ = command(
        *("learn", "suspicion", str(folder), "--labels", str(visits)),
        *("--json", "--report", "page.html", "--zh"),
    )
    found = json.loads(output)
    assert code == 0
    assert found["quality"]["auc"] > found["baseline"]["auc"]
    assert set(found["without"]) == {"missing", "exchange", "missing+exchange"}
    assert len(found["customers"]) == 400
    assert len(found["customers"][0]["reasons"]) == 3
    assert sum(found["labels"]["refused"].values()) == 2
    page = (tmp_path / "page.html").read_text()
    assert "嫌疑模型" in page
    assert "http" not in page
    model = msgspec.json.decode(
        (tmp_path / "suspicion.json").read_bytes(), type=SuspicionModel
    )
    assert model.name == found["model"]

    code, output, _ = command("suspects", str(folder), "--json")
    assert code == 0
    assert json.loads(output)["customers"] == found["customers"]
    code, in_two, _ = command("suspects", str(folder), "--json", "--jobs", "2")
    assert (code, in_two) == (0, output)
    code, output, _ = command("suspects", str(folder), "--top", "3")
    assert (code, output.count("(usual")) == (0, 9)


def test_command_prints_measures_and_why_it_is_in_shadow(command, history):  # noqa: F811
    folder, visits, _ = history
    code, output, _ = command(
        "learn", "suspicion", str(folder), "--labels", str(visits), "--top", "5"
    )
    assert code == 0
    for text in ("In shadow because", "number of alerts", "by chance", "Brier score"):
        assert text in output
    assert "without missing values and meter changes" in output


def test_bad_input_is_one_line(command, history, tmp_path):  # noqa: F811
    folder, _, few = history
    learning = ("learn", "suspicion", str(folder), "--labels")
    code, _, errors = command(*learning, str(few))
    assert (code, errors.count("\n")) == (2, 1)
    assert "give more labels" in errors

    (tmp_path / "none.csv").write_text("subject,since\n")
    assert command(*learning, "none.csv")[0] == 2

    (tmp_path / "suspicion.json").write_text("{}")
    code, _, errors = command("suspects", str(folder))
    assert (code, errors.count("\n")) == (2, 1)
    assert "no model of suspicion" in errors
    model = msgspec.to_builtins(model_by_change())
    model["features"][0]["name"] = "shoe_size"
    (tmp_path / "suspicion.json").write_text(json.dumps(model))
    assert "shoe_size" in command("suspects", str(folder))[2]
    assert command("suspects", str(folder), "--model", "absent.json")[0] == 2


def test_lesson_of_bench_is_that_of_the_command():
    lesson = lesson_of(*visited_bills(500, 24, 5, 0.3))
    assert lesson.model.thefts >= 30
    assert [tenth.visits for tenth in lesson.calibration]


@pytest.mark.parametrize(
    "change",
    [
        {"bias": float("nan")},
        {"features": []},
        {"visits": 0},
    ],
)
def test_models_without_sense_are_refused(change):
    model = msgspec.to_builtins(model_by_change()) | change
    with pytest.raises((ValueError, msgspec.ValidationError)):
        msgspec.convert(model, SuspicionModel)

"""Classes of use: what is learned from a history, how it is published, and that wrong files are found by it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rulebook import applied, changes, problems, unapproved
from models.classes import Fleet
from replay import classes
from replay.classes import LearnError, Lesson, Seen, fitted, learn, watched
from replay.history import Source
from replay.network import daily_shapes
from replay.town import Town
from schemas.classes import ClassModel
from schemas.columns import Batch, Readings
from schemas.rules import Edition, Rulebook, RulebookError
from streams import rules
from tests.casebook import DAY, START, batches, casebook, master
from tests.test_cli import command  # noqa: F401 - a fixture
from tests.test_rulebook import edition

BOOK = casebook("tariff_misuse")
assert BOOK.model
MODEL: ClassModel = BOOK.model


def crowd(customers: int = 60, meters: int = 2, wrong: float = 0.0) -> Seen:
    """Customers of three classes, each with some meters, and a share of the files wrong."""
    g = np.random.default_rng(1)
    hours = daily_shapes()[:, 0].reshape(3, 24, 4).mean(axis=2)
    middle = np.concatenate([hours, [[1.2, 1.2, 0.7], [1.05, 1.05, 0.6], [0.5, 0.5, 0.5]]], axis=1)
    filed = np.repeat(np.arange(customers) % 3, meters)
    told = middle[filed] + g.normal(0, 0.1, (len(filed), middle.shape[1]))
    flipped = np.repeat(g.random(customers) < wrong, meters)
    filed = np.where(flipped, (filed + 1) % 3, filed)
    return Seen(told, filed, [("A1", f"C{n // meters}") for n in range(len(filed))], "a crowd")


@cache
def taught() -> Lesson:
    """What the crowd teaches."""
    return learn(crowd())


def of(seen: Seen, some: np.ndarray) -> Seen:
    """Some of its meters."""
    rows = np.flatnonzero(some)
    return seen._replace(shapes=seen.shapes[rows], filed=seen.filed[rows], customers=[seen.customers[n] for n in rows])


@pytest.mark.parametrize("kinds", [3, 2])
def test_the_chances_are_scikit_learns_own(kinds):
    seen = of(crowd(90), crowd(90).filed < kinds)
    fleet = Fleet(learn(seen).model)
    losses = [np.abs(fleet.chances(seen.shapes.T).T - fitted(seen.shapes, seen.filed, strength).predict_proba(
        seen.shapes)) for strength in classes.STRENGTHS]  # fmt: skip
    assert min(float(np.nanmax(loss)) for loss in losses) < 1e-4


def test_learning_again_gives_the_same_file():
    one, other = (msgspec.json.encode(lesson.model) for lesson in (taught(), learn(crowd())))
    assert one == other
    assert msgspec.json.decode(one, type=ClassModel) == taught().model


def test_a_row_has_the_same_chances_in_any_company():
    told, fleet = crowd().shapes.T, Fleet(taught().model)
    alone = np.concatenate([fleet.chances(told[:, [n]]) for n in range(told.shape[1])], axis=1)
    assert np.array_equal(alone, fleet.chances(told), equal_nan=True)


def test_a_shape_like_none_cannot_be_told():
    fleet, lamp = Fleet(taught().model), np.repeat([2.0, 0.0, 1.0], [12, 12, 3])
    assert np.isnan(fleet.chances(lamp[:, None])).all()
    assert np.isnan(fleet.chances(np.full((27, 1), np.nan))).all()


def test_wrong_files_are_outvoted():
    seen, true = crowd(180, 1, 0.06), crowd(180, 1).filed
    lesson = learn(seen)
    wrong = np.count_nonzero(seen.filed != true)
    assert lesson.confusion.sum() - lesson.confusion.trace() == lesson.told == wrong > 2


def test_a_customer_is_left_out_with_all_its_meters():
    g = np.random.default_rng(2)
    known_by_heart = Seen(np.repeat(g.normal(0, 1, (60, 27)), 4, axis=0), np.repeat(g.permutation(60) % 2, 4),
                          [("A1", f"C{n // 4}") for n in range(240)], "noise")  # fmt: skip
    lesson = learn(known_by_heart)
    assert lesson.log_loss > 0.68


@pytest.mark.parametrize(
    ("seen", "said"),
    [(of(crowd(), crowd().filed == 1), "all meters are commercial"),
     (crowd(45), "residential has 15 customers to learn from, 20 are needed")],
)  # fmt: skip
def test_a_history_that_teaches_too_little_is_refused(seen, said):
    with pytest.raises(LearnError, match=said):
        learn(seen)


def town(meters: int, days: int, seed: int) -> Source:
    """A quiet town's energy, of every hour the last quarter four times; that of its factories without a file."""
    built = Town(meters, days, seed, faults=False)
    areas = [msgspec.structs.replace(a, meters=[m for m in a.meters if m.segment != "industrial"]) for a in built.areas]
    hours = [hourly(batch.rows(batch.at % 3600 == 0)) for batch in built.readings()]
    by_day = (Readings.join(hours[n : n + 24]) for n in range(0, len(hours), 24))
    return replace(built.source(), areas=areas, batches=by_day, interval=3600)


def hourly(r: Readings) -> Readings:
    """Of a quarter-hour four times its energy, and nothing else."""
    return Readings.build(r.names, r.subject, r.areas, r.area, r.at, kwh=4 * r.kwh)


def test_wrong_files_of_a_town_are_told_by_what_another_town_taught():
    model = learn(watched(town(150, 16, 2))).model
    assert model.learned_from == "quiet-town:150x16:2, 2026-03-02 to 2026-03-17"
    source = town(60, 46, 6)
    [area] = source.areas
    users = [m for m in area.meters if m.meter != area.gateway and not m.pv_kva]
    wrong = {next(m.meter for m in users if m.segment == was): now
             for was, now in (("residential", "commercial"), ("commercial", "residential"))}  # fmt: skip
    files = [msgspec.structs.replace(m, segment=wrong.get(m.meter, m.segment)) for m in area.meters]
    engine = Engine(applied(Rulebook({"tariff_misuse": edition(model=model)})), source.zone, source.interval)
    engine.enroll([msgspec.structs.replace(area, meters=files)])
    told = [alert for batch in source.batches for alert in engine.step(batch)]
    assert {a.subject for a in told if a.rule == "tariff_misuse"} == wrong.keys()


def test_a_history_without_files_or_days_enough_is_refused():
    with pytest.raises(LearnError, match="no meter with master data, 14 days and enough use"):
        watched(town(50, 3, 1))


def shop() -> tuple[list[Batch], Rulebook]:
    """A shop that is filed as a home, and the rulebook by which it is told."""
    longer = msgspec.structs.replace(BOOK.case[0], readings=BOOK.case[0].readings.replace("d46", "d50"))
    return list(batches(longer)), Rulebook({"tariff_misuse": edition(model=MODEL)})


def test_a_model_counts_from_when_it_is_published_and_a_restored_engine_goes_on_by_it():
    days, book = shop()
    engine = Engine(interval=3600)
    engine.enroll([master(BOOK.case[0])])
    assert [alert for batch in days[:18] for alert in engine.step(batch)] == []
    assert engine.adopt(applied(book)) == []
    assert [alert for batch in days[18:30] for alert in engine.step(batch)] == []
    other = Engine(applied(book), interval=3600)
    other.enroll([master(BOOK.case[0])])
    other.restore(engine.snapshot())
    told = [[alert for batch in days[30:] for alert in one.step(batch)] for one in (engine, other)]
    [raised] = told[0]
    assert told[0] == told[1]
    assert (raised.version, raised.since) == (2, START + 18 * DAY)


def test_a_model_is_a_change_that_takes_a_version_and_two_people():
    told = shop()[1]
    unsigned = Rulebook({"tariff_misuse": Edition(status="published", version=2, model=MODEL)})
    assert problems(told) == unapproved(told) == []
    assert unapproved(unsigned) == ["tariff_misuse: `proposed_by` does not say whose version 2 is"]
    said = ["tariff_misuse: version 2 is in force; raise `version` above it"]
    other = msgspec.structs.replace(MODEL, reach=0.5)
    assert problems(Rulebook({"tariff_misuse": edition(model=other)}), told) == said
    assert changes(told) == {"tariff_misuse": ["status shadow -> published", f"model none -> {MODEL.name}"]}
    assert problems(Rulebook({"voltage_loss": edition(model=MODEL)})) == ["voltage_loss: it is judged by no model"]


def test_a_rulebook_has_its_model_in_a_file_beside_it(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text('[tariff_misuse]\nstatus = "shadow"\nversion = 2\nmodel = "classes.json"\n')
    with pytest.raises(RulebookError, match=r"classes\.json: there is no such file"):
        rules.load(file)
    (tmp_path / "classes.json").write_bytes(msgspec.json.encode(MODEL))
    assert rules.load(file).rules["tariff_misuse"].model == MODEL


def spoiled(**other: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(MODEL) | other)


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"{", "rules.toml: "), (b"3", "Expected `object"), (spoiled(more=1), "unknown field `more`"),
     (spoiled(mean=[1.0]), "length >= 27"), (spoiled(classes=["residential", "farm"]), "Invalid enum value 'farm'"),
     (spoiled(classes=["residential"] * 2), "a class is named twice"), (spoiled(bias=[0.0]), "every class has"),
     (spoiled(scale=[0.0] * 27), "scales above 0")],
)  # fmt: skip
def test_what_is_no_model_is_refused(value, said, tmp_path):
    (tmp_path / "rules.toml").write_text('[tariff_misuse]\nstatus = "shadow"\nversion = 2\nmodel = "classes.json"\n')
    (tmp_path / "classes.json").write_bytes(value)
    with pytest.raises(RulebookError, match=said):
        rules.load(tmp_path / "rules.toml")


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="numbers are finite"):
        msgspec.structs.replace(MODEL, bias=[0.0, float("nan")])


def test_the_command_writes_a_model_and_says_how_good_it_is(command, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(classes, "watched", lambda _: crowd(90, 1, 0.05))
    code, out, _ = command("classes", "town:50x1", "-o", "own.json")
    written = msgspec.json.decode((tmp_path / "own.json").read_bytes(), type=ClassModel)
    assert (code, written) == (0, learn(crowd(90, 1, 0.05)).model)
    assert "industrial" in out
    assert "log loss" in out
    monkeypatch.setattr(classes, "watched", lambda _: crowd(9))
    assert command("classes", "town:50x1")[0] == 2

"""Use classes: learning from a history, publishing the model, and finding wrong master data by it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rulebook import applied, changes, problems, unapproved
from models.meters.use_class import Fleet
from replay import use_class
from replay.cases.case import batches, master_data
from replay.cases.tables import START_TIME
from replay.history import Source
from replay.simulation.network import daily_shapes
from replay.simulation.town import Town
from replay.use_class import (
    LabelledMeters,
    LearnError,
    Lesson,
    fitted,
    labelled_meters,
    learn,
)
from schemas.columns import Batch, Readings
from schemas.rules import Edition, Rulebook, RulebookError
from schemas.units import DAY_SECONDS
from schemas.use_class import UseClassModel
from streams import rulebook_files
from tests.casebook import casebook
from tests.test_cli import command  # noqa: F401 - a fixture
from tests.test_rulebook import edition

TARIFF_CASEBOOK = casebook("tariff_misuse")
assert TARIFF_CASEBOOK.model
CLASS_MODEL: UseClassModel = TARIFF_CASEBOOK.model


def crowd(
    customers: int = 60, meters: int = 2, wrong_share: float = 0.0
) -> LabelledMeters:
    """Customers of three use classes with several meters each; a share of their records is wrong."""
    rng = np.random.default_rng(1)
    hours = daily_shapes()[:, 0].reshape(3, 24, 4).mean(axis=2)
    middle = np.concatenate(
        [hours, [[1.2, 1.2, 0.7], [1.05, 1.05, 0.6], [0.5, 0.5, 0.5]]], axis=1
    )
    filed = np.repeat(np.arange(customers) % 3, meters)
    shapes = middle[filed] + rng.normal(0, 0.1, (len(filed), middle.shape[1]))
    flipped = np.repeat(rng.random(customers) < wrong_share, meters)
    filed = np.where(flipped, (filed + 1) % 3, filed)
    return LabelledMeters(
        shapes, filed, [("A1", f"C{n // meters}") for n in range(len(filed))], "a crowd"
    )


@cache
def taught() -> Lesson:
    """The lesson from the crowd."""
    return learn(crowd())


def select_meters(labelled: LabelledMeters, chosen: np.ndarray) -> LabelledMeters:
    """The chosen meters only."""
    rows = np.flatnonzero(chosen)
    return labelled._replace(
        shapes=labelled.shapes[rows],
        labels=labelled.labels[rows],
        customers=[labelled.customers[n] for n in rows],
    )


@pytest.mark.parametrize("kinds", [3, 2])
def test_probabilities_equal_those_of_scikit_learn(kinds):
    labelled = select_meters(crowd(90), crowd(90).labels < kinds)
    fleet = Fleet(learn(labelled).model)
    chances = fleet.chances(labelled.shapes.T).T

    differences = []
    for strength in use_class.INVERSE_REGULARISATIONS:
        model = fitted(labelled.shapes, labelled.labels, strength)
        expected = model.predict_proba(labelled.shapes)
        differences.append(float(np.nanmax(np.abs(chances - expected))))
    assert min(differences) < 1e-4


def test_learning_twice_gives_the_same_file():
    first, second = (
        msgspec.json.encode(lesson.model) for lesson in (taught(), learn(crowd()))
    )
    assert first == second
    assert msgspec.json.decode(first, type=UseClassModel) == taught().model


def test_probabilities_of_a_row_do_not_depend_on_other_rows():
    shapes, fleet = crowd().shapes.T, Fleet(taught().model)
    alone = np.concatenate(
        [fleet.chances(shapes[:, [n]]) for n in range(shapes.shape[1])], axis=1
    )
    assert np.array_equal(alone, fleet.chances(shapes), equal_nan=True)


def test_unfamiliar_shape_has_no_probabilities():
    fleet, lamp = Fleet(taught().model), np.repeat([2.0, 0.0, 1.0], [12, 12, 3])
    assert np.isnan(fleet.chances(lamp[:, None])).all()
    assert np.isnan(fleet.chances(np.full((27, 1), np.nan))).all()


def test_wrong_use_classes_are_outvoted():
    labelled, true = crowd(180, 1, 0.06), crowd(180, 1).labels
    lesson = learn(labelled)
    wrong_count = np.count_nonzero(labelled.labels != true)
    assert (
        lesson.confusion.sum() - lesson.confusion.trace()
        == lesson.alert_count
        == wrong_count
        > 2
    )


def test_a_customer_is_left_out_with_all_its_meters():
    rng = np.random.default_rng(2)
    known_by_heart = LabelledMeters(
        np.repeat(rng.normal(0, 1, (60, 27)), 4, axis=0),
        np.repeat(rng.permutation(60) % 2, 4),
        [("A1", f"C{n // 4}") for n in range(240)],
        "noise",
    )
    lesson = learn(known_by_heart)
    assert lesson.log_loss > 0.68


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (select_meters(crowd(), crowd().labels == 1), "all meters are commercial"),
        (crowd(45), "residential has 15 customers to learn from, 20 are needed"),
    ],
)
def test_history_with_too_few_labels_is_refused(labelled, message):
    with pytest.raises(LearnError, match=message):
        learn(labelled)


def town(meters: int, days: int, seed: int) -> Source:
    """A quiet town by the hour, four times the last quarter-hour; its factories have no master data."""
    built = Town(meters, days, seed, faults=False)
    areas = []
    for area in built.areas:
        meters_filed = [meter for meter in area.meters if meter.segment != "industrial"]
        areas.append(msgspec.structs.replace(area, meters=meters_filed))
    hours = [hourly(batch.select(batch.at % 3600 == 0)) for batch in built.readings()]
    by_day = (Readings.join(hours[n : n + 24]) for n in range(0, len(hours), 24))
    return replace(built.source(), areas=areas, batches=by_day, interval=3600)


def hourly(rows: Readings) -> Readings:
    """Readings with four times the energy of a quarter-hour, and no other column."""
    return Readings.build(
        rows.names, rows.subject, rows.areas, rows.area, rows.at, kwh=4 * rows.kwh
    )


def test_wrong_use_classes_are_found_by_the_model_of_another_town():
    model = learn(labelled_meters(town(150, 16, 2))).model
    assert model.learned_from == "quiet-town:150x16:2, 2026-03-02 to 2026-03-17"

    source = town(60, 46, 6)
    [area] = source.areas
    users = [
        meter
        for meter in area.meters
        if meter.meter != area.gateway and not meter.pv_kva
    ]
    filed_as = {
        next(meter.meter for meter in users if meter.segment == was): now
        for was, now in (("residential", "commercial"), ("commercial", "residential"))
    }
    records = [
        msgspec.structs.replace(meter, segment=filed_as.get(meter.meter, meter.segment))
        for meter in area.meters
    ]

    engine = Engine(
        applied(Rulebook({"tariff_misuse": edition(model=model)})),
        source.zone,
        source.interval,
    )
    engine.enroll([msgspec.structs.replace(area, meters=records)])
    alerts = [alert for batch in source.batches for alert in engine.step(batch)]

    found = {alert.subject for alert in alerts if alert.rule == "tariff_misuse"}
    assert found == filed_as.keys()


def test_history_without_records_or_enough_days_is_refused():
    with pytest.raises(
        LearnError, match="no meter with master data, 14 days and enough use"
    ):
        labelled_meters(town(50, 3, 1))


def shop() -> tuple[list[Batch], Rulebook]:
    """A shop that is registered as a home, and the rulebook that finds it."""
    longer = msgspec.structs.replace(
        TARIFF_CASEBOOK.case[0],
        readings=TARIFF_CASEBOOK.case[0].readings.replace("d46", "d50"),
    )
    return list(batches(longer)), Rulebook(
        {"tariff_misuse": edition(model=CLASS_MODEL)}
    )


def test_model_applies_from_its_publication_and_after_a_restore():
    days, book = shop()
    engine = Engine(interval=3600)
    engine.enroll([master_data(TARIFF_CASEBOOK.case[0])])
    assert [alert for batch in days[:18] for alert in engine.step(batch)] == []
    assert engine.adopt(applied(book)) == []
    assert [alert for batch in days[18:30] for alert in engine.step(batch)] == []

    restored = Engine(applied(book), interval=3600)
    restored.enroll([master_data(TARIFF_CASEBOOK.case[0])])
    restored.restore(engine.snapshot())
    alerts = [
        [alert for batch in days[30:] for alert in watch.step(batch)]
        for watch in (engine, restored)
    ]
    [raised] = alerts[0]

    assert alerts[0] == alerts[1]
    assert (raised.version, raised.since) == (2, START_TIME + 18 * DAY_SECONDS)


def test_new_model_needs_a_version_and_two_people():
    rulebook = shop()[1]
    unsigned = Rulebook(
        {"tariff_misuse": Edition(status="published", version=2, model=CLASS_MODEL)}
    )

    assert problems(rulebook) == unapproved(rulebook) == []
    assert unapproved(unsigned) == [
        "tariff_misuse: `proposed_by` does not say whose version 2 is"
    ]

    problem = ["tariff_misuse: version 2 is in force; raise `version` above it"]
    changed = msgspec.structs.replace(CLASS_MODEL, reach=0.5)
    assert (
        problems(Rulebook({"tariff_misuse": edition(model=changed)}), rulebook)
        == problem
    )
    assert changes(rulebook) == {
        "tariff_misuse": [
            "status shadow -> published",
            f"model none -> {CLASS_MODEL.name}",
        ]
    }
    assert problems(Rulebook({"voltage_loss": edition(model=CLASS_MODEL)})) == [
        "voltage_loss: it is judged by no model"
    ]


def test_a_rulebook_has_its_model_in_a_file_beside_it(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(
        '[tariff_misuse]\nstatus = "shadow"\nversion = 2\nmodel = "classes.json"\n'
    )
    with pytest.raises(RulebookError, match=r"classes\.json: there is no such file"):
        rulebook_files.load(file)
    (tmp_path / "classes.json").write_bytes(msgspec.json.encode(CLASS_MODEL))
    assert rulebook_files.load(file).rules["tariff_misuse"].model == CLASS_MODEL


def spoiled(**fields: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(CLASS_MODEL) | fields)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "rules.toml: "),
        (b"3", "Expected `object"),
        (spoiled(more=1), "unknown field `more`"),
        (spoiled(mean=[1.0]), "length >= 27"),
        (spoiled(classes=["residential", "farm"]), "Invalid enum value 'farm'"),
        (spoiled(classes=["residential"] * 2), "a class is named twice"),
        (spoiled(bias=[0.0]), "every class has"),
        (spoiled(scale=[0.0] * 27), "scales above 0"),
    ],
)
def test_invalid_model_is_refused(value, message, tmp_path):
    (tmp_path / "rules.toml").write_text(
        '[tariff_misuse]\nstatus = "shadow"\nversion = 2\nmodel = "classes.json"\n'
    )
    (tmp_path / "classes.json").write_bytes(value)
    with pytest.raises(RulebookError, match=message):
        rulebook_files.load(tmp_path / "rules.toml")


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="numbers are finite"):
        msgspec.structs.replace(CLASS_MODEL, bias=[0.0, float("nan")])


def test_command_writes_a_model_and_prints_its_quality(command, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(use_class, "labelled_meters", lambda _: crowd(90, 1, 0.05))
    code, output, _ = command("use-classes", "town:50x1", "-o", "own.json")
    written = msgspec.json.decode(
        (tmp_path / "own.json").read_bytes(), type=UseClassModel
    )
    assert (code, written) == (0, learn(crowd(90, 1, 0.05)).model)
    assert "industrial" in output
    assert "log loss" in output
    monkeypatch.setattr(use_class, "labelled_meters", lambda _: crowd(9))
    assert command("use-classes", "town:50x1")[0] == 2

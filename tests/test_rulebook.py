"""Rulebooks: the reasons of refusals, and engines that change to another rulebook."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import pytest

from detectors.engine import Engine
from detectors.revisable import RevisableJudge
from detectors.rule import ALL_RULES
from detectors.rulebook import (
    EMPTY_RULEBOOK,
    applied,
    changes,
    edited,
    problems,
    rules_of,
    unapproved,
)
from models.master.records import segments_code
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.rules import Edition, Rulebook, RulebookError, decode_rulebook, rulebook_of
from streams.kafka.checkpoints import (
    CheckpointContents,
    Manifest,
    WrittenCheckpoint,
    encode,
)
from streams.kafka.rulebooks import published
from streams.settings import Settings
from tests.adversarial import adversarial_stream
from tests.casebook import casebook
from tests.test_promises import engine_of, exactly, judge_stream

START_TIME = 1_772_380_800
APPROVAL_TIME = datetime(2026, 3, 2, tzinfo=UTC)


def book(text: str) -> Rulebook:
    return rulebook_of(tomllib.loads(text))


def edition(version: int = 2, **changes: Any) -> Edition:
    signed = {
        "status": "published",
        "proposed_by": "Li",
        "approved_by": "Wang",
        "approved_at": APPROVAL_TIME,
        "version": version,
    }
    return msgspec.convert(signed | changes, Edition)


MALFORMED_RULEBOOKS = [
    ("voltage_loss = 3", "voltage_loss: an edition is a table, not 3"),
    ('[voltage_loss]\nstatus = "published"', "voltage_loss: `version` is missing"),
    ("[voltage_loss]\nversion = 2", "voltage_loss: `status` is missing"),
    (
        '[voltage_loss]\nstatus = "on"\nversion = 2',
        "voltage_loss: `status` is 'on', not one of draft, shadow, published, retired",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 0',
        "voltage_loss: Expected `int` >= 1 - at `$.version`",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nsettings.lost = "0.8"',
        "voltage_loss: `lost` is '0.8', which is no number",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nsettings.lost = true',
        "voltage_loss: `lost` is True, which is no number",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nsettings.lost = nan',
        "voltage_loss: `lost` is nan, which is not finite",
    ),
    (
        f'[voltage_loss]\nstatus = "draft"\nversion = 2\nsegments.pv.lost = {10**400}',
        f"voltage_loss: `lost` in the segment pv is {10**400!r:.40}, which is not finite",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nholds = 3',
        "voltage_loss: Object contains unknown field `holds`",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nsettings = 3',
        "voltage_loss: Expected `object`, got `int` - at `$.settings`",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\nsegments = 3',
        "voltage_loss: Expected `object`, got `int` - at `$.segments`",
    ),
    (
        '[voltage_loss]\nstatus = "draft"\nversion = 2\napproved_at = 2026-03-02T00:00:00',
        "voltage_loss: Expected `datetime` with a timezone component - at `$.approved_at`",
    ),
]


@pytest.mark.parametrize(
    ("text", "message"),
    MALFORMED_RULEBOOKS,
    ids=[message for _, message in MALFORMED_RULEBOOKS],
)
def test_invalid_rulebook_is_refused_with_its_reason(text, message):
    with pytest.raises(RulebookError) as error:
        book(text)
    assert str(error.value) == message


def test_every_fault_is_listed_at_once():
    with pytest.raises(RulebookError) as error:
        book(
            '[a]\nversion = 2\n[b]\nstatus = "on"\nversion = 2\n[c]\nsettings = {a = nan, b = inf}'
        )
    assert [fault.partition(":")[0] for fault in error.value.faults] == [
        "a",
        "b",
        "c",
        "c",
        "c",
        "c",
    ]


VERSION_PROBLEM = "voltage_loss: version 1 is in force; raise `version` above it"
PROBLEM_RULEBOOKS = [
    (
        '[voltage_los]\nstatus = "draft"\nversion = 2',
        "voltage_los: there is no such rule; did you mean voltage_loss?",
    ),
    ('[qwerty]\nstatus = "draft"\nversion = 2', "qwerty: there is no such rule"),
    (
        '[voltage_loss]\nstatus = "published"\nversion = 2\nsettings.low = 0.8',
        "voltage_loss: there is no setting `low`; it has lost, back, load",
    ),
    (
        '[area_loss_high]\nstatus = "published"\nversion = 2\nsegments.pv.limit = 0.8',
        "area_loss_high: there is no segment `pv`; area_days have yyn0, dyn11",
    ),
    (
        '[stage_overdue]\nstatus = "published"\nversion = 2\nsegments.pv.warn = 0.8',
        "stage_overdue: there is no segment `pv`; overdue have none",
    ),
    (
        '[voltage_loss]\nstatus = "published"\nversion = 2\nsegments.pv.low = 0.8',
        "voltage_loss: there is no setting `low`, set in the segment pv; it has lost, back, load",
    ),
    (
        '[zero_usage]\nstatus = "published"\nversion = 2\nsettings.days = 0',
        "zero_usage: `days` is 0, not of the sign of the code's 7",
    ),
    (
        '[area_loss_high]\nstatus = "published"\nversion = 2\nsegments.yyn0.negative = 0.01',
        "area_loss_high: `negative` in the segment yyn0 is 0.01, not of the sign of the code's -0.01",
    ),
    (
        '[voltage_deviation]\nstatus = "published"\nversion = 2\nsettings.over = 0.95',
        "voltage_deviation: `under` 0.93 and `over` 0.95 must be below and above 1",
    ),
    (
        '[voltage_deviation]\nstatus = "published"\nversion = 2\nsegments.single_phase.under = 230.0',
        "voltage_deviation: `under` 230 and `over` 1.07 in the segment single_phase must be below and above 1",
    ),
    (
        '[voltage_loss]\nstatus = "published"\nversion = 1\nsettings.lost = 0.8',
        VERSION_PROBLEM,
    ),
    ('[voltage_loss]\nstatus = "retired"\nversion = 1', VERSION_PROBLEM),
]


@pytest.mark.parametrize(
    ("text", "message"),
    PROBLEM_RULEBOOKS,
    ids=[message for _, message in PROBLEM_RULEBOOKS],
)
def test_edition_that_fits_no_rule_or_raises_no_version_is_a_problem(text, message):
    assert problems(book(text)) == [message]


def test_version_in_force_stays_or_is_raised():
    before = Rulebook({"voltage_loss": edition(4, settings={"lost": 0.8})})
    same = Rulebook(
        {"voltage_loss": edition(4, settings={"lost": 0.8}, approved_by="Zhao")}
    )

    assert (
        problems(same, before)
        == problems(before, before)
        == unapproved(same, before)
        == []
    )
    raised = Rulebook({"voltage_loss": edition(5, settings={"lost": 0.7})})
    assert problems(raised, before) == []

    message = ["voltage_loss: version 4 is in force; raise `version` above it"]
    changed = Rulebook({"voltage_loss": edition(4, settings={"lost": 0.7})})
    assert problems(changed, before) == message
    lowered = Rulebook({"voltage_loss": edition(3, settings={"lost": 0.8})})
    assert problems(lowered, before) == message

    withdrawal = "voltage_loss: version 4 is in force; going back to the code's settings needs a version too"
    assert problems(Rulebook(), before) == [withdrawal]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"approved_by": "Li"}, "voltage_loss: Li has proposed and approved version 2"),
        (
            {"proposed_by": ""},
            "voltage_loss: `proposed_by` does not say whose version 2 is",
        ),
        ({"approved_by": ""}, "voltage_loss: version 2 is not approved"),
        ({"approved_at": None}, "voltage_loss: version 2 is not approved"),
        (
            {"approved_by": "", "status": "retired"},
            "voltage_loss: version 2 is not approved",
        ),
    ],
)
def test_change_of_a_published_rule_needs_two_people(fields, message):
    change = Rulebook({"voltage_loss": edition(settings={"lost": 0.8})})
    assert unapproved(change) == []
    assert unapproved(
        Rulebook({"voltage_loss": edition(**({"settings": {"lost": 0.8}} | fields))})
    ) == [message]


def test_a_draft_and_the_version_in_force_need_no_approval():
    draft = Edition(status="draft", version=2, settings={"chance": 0.95})
    assert unapproved(Rulebook({"tariff_misuse": draft})) == []
    assert (
        unapproved(Rulebook({"voltage_loss": Edition(status="published", version=1)}))
        == []
    )


def test_changes_are_listed_setting_by_setting():
    changed = edition(
        status="shadow",
        settings={"days": 10.0},
        segments={"residential": {"days": 45.0, "usual": 1.0}},
    )
    assert changes(Rulebook({"zero_usage": changed, "voltage_loss": edition()})) == {
        "zero_usage": [
            "status published -> shadow",
            "days 7 -> 10",
            "days in the segment residential 30 -> 45",
            "usual in the segment residential not set -> 1",
        ],
    }


def test_segments_of_the_code_stay_where_the_rulebook_does_not_set_them():
    judged = edited(
        ALL_RULES["zero_usage"],
        edition(segments={"residential": {"usual": 1.0}, "pv": {"days": 14.0}}),
    )
    assert judged.segments == {
        "residential": {"days": 30.0, "usual": 1.0},
        "pv": {"days": 14.0},
    }


def test_edition_of_another_code_version_is_skipped():
    rulebook = Rulebook(
        {"zero_usage": edition(settings={"days_residential": 40.0}), "gone": edition()}
    )
    assert applied(rulebook) == list(ALL_RULES.values())


def test_rulebook_is_the_same_after_encoding_and_decoding():
    rulebook = Rulebook(
        {
            "zero_usage": edition(
                settings={"days": 10}, segments={"pv": {"days": 14.5}}
            ),
            "tariff_misuse": edition(model=casebook("tariff_misuse").model),
        }
    )
    assert decode_rulebook(msgspec.json.encode(rulebook)) == rulebook


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"rules": 3}',
        b'{"voltage_loss": {}}',
        b"\xff" * 9,
        b"[" * 100_000,
        b'{"rules": {"a": {"status": [], "version": 1}}}',
    ],
)
def test_unreadable_value_is_a_rulebook_error(value):
    with pytest.raises(RulebookError):
        decode_rulebook(value)


LATER_RULEBOOK = msgspec.json.encode(
    {
        "judged_by": "a later version",
        "rules": {
            "voltage_loss": msgspec.to_builtins(edition(settings={"lost": 0.8}))
            | {"waits": 3},
            "zero_usage": msgspec.to_builtins(edition(settings={"nights": 4.0})),
            "rule_of_tomorrow": msgspec.to_builtins(edition(settings={"limit": 1.0})),
            "meter_runaway": msgspec.to_builtins(edition(status="retired")),
        },
    }
)


def test_unknown_editions_of_a_later_version_are_logged_and_the_rest_stays_in_force(
    caplog,
):
    rulebook = published(b"rules", LATER_RULEBOOK, EMPTY_RULEBOOK)
    assert published(b"rules", msgspec.json.encode(rulebook), rulebook) == rulebook
    judged = {rule.name: rule for rule in applied(rulebook)}
    assert judged["voltage_loss"].settings["lost"] == 0.8
    assert judged["zero_usage"] == ALL_RULES["zero_usage"]
    assert judged["meter_runaway"].status == "retired"
    message = " ".join(caplog.messages)
    for fault in (
        "unknown field `waits`",
        "no setting `nights`",
        "rule_of_tomorrow: there is no such rule",
    ):
        assert fault in message


def test_unknown_edition_can_follow_a_known_one():
    before = Rulebook(
        {"zero_usage": edition(4, settings={"days": 9.0}), "voltage_loss": edition(3)}
    )
    after = Rulebook(
        {
            "zero_usage": edition(5, settings={"nights": 4.0}),
            "voltage_loss": edition(4, status="retired"),
        }
    )
    assert published(b"rules", msgspec.json.encode(after), before) == after
    late = Rulebook(after.rules | {"voltage_loss": edition(2, status="retired")})
    with pytest.raises(RulebookError, match="version 3 is in force"):
        published(b"rules", msgspec.json.encode(late), before)


def test_a_manifest_of_a_later_version_is_read():
    rulebook = Rulebook({"voltage_loss": edition()})
    contents = CheckpointContents(b"state", {}, 4, rulebook)
    _, manifest = encode(contents, WrittenCheckpoint())
    fields = msgspec.msgpack.decode(manifest.value)
    fields["tides"] = fields["rulebook"]["of"] = fields["rulebook"]["rules"][
        "voltage_loss"
    ]["waits"] = 3
    read = msgspec.convert(fields, Manifest)
    assert (read.set, read.rulebook) == (
        fields["set"],
        Rulebook({"voltage_loss": edition()}),
    )


TWO_METER_AREA = Area(area="A1", meters=[Meter(meter="M1"), Meter(meter="M2")])


def volts(first: int, *readings: float) -> Readings:
    """Quarter-hours of a meter next to a sound one."""
    count = len(readings)
    phase_volts = np.full((3, 2 * count), np.nan)
    phase_volts[0, ::2], phase_volts[0, 1::2] = readings, 220
    at = START_TIME + 900 * np.repeat(np.arange(first, first + count), 2)
    return Readings.build(
        ["M1", "M2"],
        np.tile([0, 1], count),
        ["A1"],
        np.zeros(2 * count),
        at,
        u=phase_volts,
    )


def engine_by(rulebook: Rulebook) -> Engine:
    engine = Engine(applied(rulebook))
    engine.enroll([TWO_METER_AREA])
    return engine


def deviation(**fields) -> Rulebook:
    return Rulebook({"voltage_deviation": edition(**fields)})


def test_episode_goes_on_and_its_later_alerts_have_the_new_version():
    engine = engine_by(Rulebook())
    [raised] = engine.step(volts(1, 238, 238, 238))
    assert engine.adopt(applied(deviation(settings={"over": 1.05}))) == []
    # within the old band, outside the new
    assert engine.step(volts(4, 230, 230, 230)) == []
    [cleared] = engine.step(volts(7, *[225.0] * 193))  # two days
    assert (cleared.id, cleared.change, raised.version, cleared.version) == (
        raised.id,
        "cleared",
        1,
        2,
    )


@pytest.mark.parametrize("status", ["retired", "draft", "shadow"])
def test_alert_of_a_rule_no_longer_published_is_withdrawn(status):
    engine = engine_by(Rulebook())
    [raised] = engine.step(volts(1, 238, 238, 238))
    [withdrawn] = engine.adopt(applied(deviation(status=status)))
    assert (withdrawn.id, withdrawn.state, withdrawn.revision) == (
        raised.id,
        "withdrawn",
        raised.revision + 1,
    )
    assert engine.step(volts(4, 250, 250, 250, 220, 220, 220)) == []
    assert (engine.alert_counts["voltage_deviation", 3, "raised", "shadow"] > 0) == (
        status == "shadow"
    )


def test_rule_that_leaves_shadow_raises_trouble_that_lasts():
    engine = engine_by(deviation(status="shadow"))
    assert engine.step(volts(1, 238, 238, 238)) == []
    assert engine.adopt(applied(deviation(version=3))) == []
    [raised] = engine.step(volts(4, 238, 238, 238))
    assert (raised.since, raised.version) == (START_TIME + 4 * 900, 3)


def test_reorder_buffer_continues_when_rules_read_more_columns():
    dark = Rulebook({name: edition(status="draft") for name in ALL_RULES})
    engine = engine_by(dark)
    engine.step(volts(1, 220))
    engine.step(volts(3, 238))
    assert len(engine.reorder.buffered_readings.log.columns()["slot"]) == 2
    reads = replace(
        ALL_RULES["voltage_deviation"],
        judge=lambda thd, u, un, **_: thd + u + un,
        reads=("thd", "u", "un"),
    )
    engine.adopt([reads])
    engine.step(volts(2, 238))
    assert engine.step(volts(4, 238)) == engine.step(volts(5, 238, 238, 238, 238)) == []


@pytest.mark.parametrize("seed", [3, 4014])
def test_the_same_rules_again_change_nothing(seed):
    stream = adversarial_stream(seed)
    engine, alerts = engine_of(stream), []
    for batch in stream.batches(range(0, len(stream.rows), 23)):
        alerts += engine.step(batch)
        assert engine.adopt(ALL_RULES.values()) == []
    unchanged, expected = judge_stream(stream)
    assert exactly(alerts) == exactly(expected)
    assert engine.alert_counts == unchanged.alert_counts


def rules_by_judge(engine: Engine) -> list[int]:
    """The number of tracked rules over all subjects, by judge."""
    owners = [
        engine.reorder.readings,
        engine.reorder.clocks,
        *engine.judges.by_name.values(),
    ]
    judges = [
        judge
        for owner in owners
        for judge in (
            (owner.final, owner.live) if isinstance(owner, RevisableJudge) else (owner,)
        )
    ]
    return [int(judge._tracked["rules"].sum()) for judge in judges]


@pytest.mark.parametrize("seed", [3, 4014])
def test_restored_engine_continues_as_one_that_changed_rules(seed):
    stream = adversarial_stream(seed)
    names = sorted(ALL_RULES)
    drawn = np.random.default_rng(seed).choice(
        ["published", "published", "shadow", "retired"], (20, len(names))
    )
    books = []
    for n, statuses in enumerate(drawn):
        editions = {
            name: edition(n + 2, status=status)
            for name, status in zip(names, statuses, strict=True)
        }
        books.append(Rulebook(editions))

    engine = engine_of(stream)
    for n, batch in enumerate(
        stream.batches(range(0, len(stream.rows), len(stream.rows) // 19))
    ):
        engine.adopt(applied(books[n % 20]))
        saved = engine.snapshot()
        restored = Engine(applied(books[n % 20]), stream.zone, stream.interval)
        restored.enroll(stream.areas)
        restored.restore(saved)
        assert restored.snapshot() == saved
        assert rules_by_judge(restored) == rules_by_judge(engine)
        assert exactly(restored.step(batch)) == exactly(engine.step(batch))
        assert restored.snapshot() == engine.snapshot()


@pytest.mark.parametrize(
    ("limits", "wiring", "within", "outside"),
    [
        ("china", "1P2W", (0.91, 1.06), (0.89, 1.08)),
        ("china", "3P4W", (0.94, 1.06), (0.92, 1.08)),
        ("europe", "1P2W", (0.91, 1.09), (0.89, 1.11)),
        ("europe", "3P4W", (0.91, 1.09), (0.89, 1.11)),
        ("britain", "1P2W", (0.95, 1.09), (0.93, 1.11)),
        ("britain", "3P4W", (0.95, 1.09), (0.93, 1.11)),
    ],
)
def test_voltage_is_judged_by_the_law_of_the_country(limits, wiring, within, outside):
    rule = rules_of(limits)["voltage_deviation"]
    segment = segments_code({"1P2W": "single_phase", "3P4W": "four_wire"}[wiring])
    columns = {
        "u": 230 * np.array([*within, *outside]),
        "un": np.full(4, 230.0),
        "segments": np.full(4, segment),
    }
    raised = rule.score(columns, {"u": None, "un": None}) >= 1
    assert raised.tolist() == [False, False, True, True]


def test_no_other_rule_depends_on_the_country():
    assert rules_of("china") == dict(ALL_RULES)
    countries = {
        country: name for name, rule in ALL_RULES.items() for country in rule.countries
    }
    for country in countries:
        assert {
            name for name, rule in rules_of(country).items() if rule != ALL_RULES[name]
        } == {"voltage_deviation"}
    named = set(get_args(get_type_hints(Settings)["voltage_limits"]))
    assert named == {"china", *countries}


def test_rulebook_overrides_the_law():
    rulebook = Rulebook({"voltage_deviation": edition(settings={"over": 1.12})})
    [rule] = (
        rule
        for rule in applied(rulebook, rules_of("britain"))
        if rule.name == "voltage_deviation"
    )
    assert (rule.settings["over"], rule.segments["single_phase"]) == (
        1.12,
        {"under": 0.94},
    )

"""Every decoder survives any bytes, sound messages beside them stay as they are, and the engine takes all rows."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from detectors.rulebook import EMPTY_RULEBOOK, applied, changes
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Batch, DeviceEvents, Payments, Readings
from schemas.inspection import Inspection
from schemas.master import Area, Meter, Transformer
from schemas.rules import Rulebook, RulebookError
from schemas.wire import (
    Message,
    Reason,
    RejectedError,
    Rejection,
    Shape,
    decode,
    decode_alert,
    decode_areas,
    decode_inspections,
    encode,
    encode_alert,
    encode_area,
)
from schemas.wire.frame import unpack
from schemas.wire.record_decoders import ARRAY_DECODER
from schemas.wire.records import RECORD_TYPES
from streams.kafka.rulebooks import published
from tests.casebook import casebook
from tests.fuzz import bounded
from tests.fuzz.mutations import CONTENT_TYPES, EVENT_TIME, corrupted
from tests.outcomes import balanced, count_outcomes
from tests.test_rulebook import edition
from tests.test_wire import GOOD_ALERT, batches, table

ALL_SHAPES: tuple[Shape, ...] = ("single", "array", "packed")
SAMPLE_AREA = Area(
    area="A1",
    section="S1",
    gateway="M0",
    transformers=[
        Transformer(rating_kva=400),
        Transformer(rating_kva=200, effective=EVENT_TIME, vector_group="Dyn11"),
    ],
    meters=[
        Meter(meter="M0", wiring="3P4W", ct=80.0),
        Meter(meter="M1", customer="C1", contract_kva=8.0),
        Meter(
            meter="M2",
            wiring="3P3W",
            effective=EVENT_TIME,
            interval_s=3600,
            segment="commercial",
        ),
    ],
)


SAMPLE_INSPECTION = Inspection(
    inspection="case 7",
    subject="M1",
    area="A1",
    since=EVENT_TIME,
    outcome="bypass",
    verdict="true",
    inclusion=0.25,
    rules=["zero_usage"],
)
SAMPLE_RULEBOOK = Rulebook(
    {
        "zero_usage": edition(
            settings={"days": 10.0},
            segments={"residential": {"days": 45.0}, "pv": {"usual": 1.0}},
        ),
        "model_score": edition(7),
        "tariff_misuse": edition(model=casebook("tariff_misuse").model),
    }
)


@st.composite
def lifelike(draw: st.DrawFn, kind: type[Batch]) -> Batch:
    """Rows as they might be: a few subjects of one area over some days."""
    rows = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    at = EVENT_TIME + np.sort(rng.integers(0, 5 * 96, rows)) * 900
    columns: dict[str, Any] = {
        "names": ["M0", "M1", "M2"],
        "subject": rng.integers(0, 3, rows),
        "areas": ["A1"],
        "area": np.zeros(rows),
        "at": at,
    }

    if kind is Readings:
        columns |= {
            "u": rng.normal(230, 20, (3, rows)),
            "i": rng.normal(3, 2, (3, rows)),
            "p": rng.normal(1, 1, (3, rows)),
            "kwh": rng.random(rows),
            "register": 100 + at / 900,
            "received": at,
            "clock_offset": rng.normal(0, 60, rows),
            "status": rng.integers(0, 3, rows),
        }
    elif kind is DeviceEvents:
        columns |= {
            "event": rng.integers(0, 9, rows),
            "until": np.where(rng.random(rows) < 0.5, 0, at + 7200),
        }
    elif kind is Payments:
        columns |= {
            "payment": rng.integers(0, 4, rows),
            "amount": rng.random(rows) * 100,
            "bills": ["", "B"],
            "bill": rng.integers(0, 2, rows),
            "channels": ["", "app"],
            "channel": rng.integers(0, 2, rows),
            "succeeded": rng.integers(0, 2, rows),
            "due": at,
        }
    else:
        columns |= {
            "stages": ["reading", "review"],
            "stage": rng.integers(0, 2, rows),
            "progress": rng.integers(0, 2, rows),
            "limit": np.where(rng.random(rows) < 0.5, np.nan, 3600),
        }
    return kind.build(**columns)


@st.composite
def sound(draw: st.DrawFn, kind: type[Batch]) -> list[Message]:
    """Messages without fault."""
    batch = draw(lifelike(kind) | batches(kind))
    shape = draw(st.sampled_from(ALL_SHAPES))
    encoded = encode(batch, shape, draw(st.integers(1, 4)))
    return [(key, value, content, 0) for key, value, content in encoded]


@st.composite
def unsound(draw: st.DrawFn, kind: type[Batch]) -> Message:
    """A message with anything wrong."""
    whole = sound(kind).map(lambda messages: messages[0][1] or b"")
    key = draw(
        st.sampled_from([None, b"", b"A1", b"A1", b"A1"]) | st.binary(max_size=4)
    )
    value = draw(st.none() | corrupted(whole) | corrupted(whole) | corrupted(whole))
    content = draw(CONTENT_TYPES)
    received = draw(st.integers(-1, LATEST_TIME) | st.just(EVENT_TIME))
    return key, value, content, received


@st.composite
def mixed(draw: st.DrawFn, kind: type[Batch]) -> list[tuple[bool, Message]]:
    """Messages, and whether each is sound."""
    good = [(True, message) for message in draw(sound(kind))]
    others = draw(st.lists(unsound(kind), min_size=1, max_size=4))
    bad = [(False, message) for message in others]
    return draw(st.permutations(good + bad))


def claimed_rows(value: bytes | None) -> int:
    """The number of rows that a value claims; 1 when it claims nothing readable."""
    value = value or b""
    try:
        return max(1, len(ARRAY_DECODER.decode(value)))
    except (ValueError, RecursionError):
        pass
    try:
        return unpack(value)[0].rows
    except RejectedError:
        return 1


def check_decoder(
    kind: type[Batch], messages: list[tuple[bool, Message]]
) -> Batch | None:
    """The rows of all messages; fails unless each message decodes as it does alone, with every row accounted for."""
    batch, refusals = decode(kind, [message for _, message in messages])
    alone: list[tuple[Any, ...]] = []
    refused: list[Rejection] = []
    for index, (good, message) in enumerate(messages):
        decoded, rejections = decode(kind, [message])
        rows = len(decoded) if decoded else 0
        lost = sum(rejection.rows for rejection in rejections)
        assert rows + lost == (claimed_rows(message[1]) if rows or lost > 1 else 1)
        assert not (good and rejections)
        alone += table(decoded) if decoded else []
        refused += [
            msgspec.structs.replace(rejection, index=index) for rejection in rejections
        ]

    # Together they give the same rows and rejections.
    assert sorted(alone) == sorted(table(batch) if batch else [])
    key = attrgetter("index", "value", "reason", "detail")
    assert sorted(refused, key=key) == sorted(refusals, key=key)
    indexes = [refusal.index for refusal in refusals]
    assert indexes == sorted(indexes)
    for refusal in refusals:
        assert refusal.reason in Reason
        assert 0 < len(refusal.detail.encode()) <= 800
    return batch


@bounded(37)
@given(
    st.sampled_from(list(RECORD_TYPES)).flatmap(
        lambda kind: st.tuples(st.just(kind), mixed(kind))
    )
)
def test_decoder_reads_or_rejects_each_message_as_if_alone(case):
    check_decoder(*case)


@bounded(25)
@given(
    st.lists(corrupted(st.just(encode_area(SAMPLE_AREA)[1])), max_size=3),
    st.lists(
        st.sampled_from(list(RECORD_TYPES)).flatmap(
            lambda kind: st.tuples(st.just(kind), mixed(kind))
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(-2, 40),
)
def test_the_engine_takes_whatever_was_decoded(areas, cases, days):
    engine = Engine()
    values = [encode_area(SAMPLE_AREA)[1], *areas]
    known, refusals = decode_areas([(None, value, "", 0) for value in values])
    assert len(known) + len(refusals) == 1 + len(areas)
    engine.enroll(known)

    for kind, messages in cases:
        batch, _ = decode(kind, [message for _, message in messages])
        if batch:
            engine.step(batch)
            balanced(count_outcomes(engine))

    saved = engine.snapshot()
    engine.tick(EVENT_TIME + days * 86_400)
    balanced(count_outcomes(engine))
    engine.restore(saved)
    assert engine.snapshot() == saved


@bounded(37)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, b"A1"]) | st.binary(max_size=3),
            st.none() | corrupted(st.just(encode_area(SAMPLE_AREA)[1])),
        ),
        max_size=4,
    )
)
def test_areas_are_read_or_rejected(damaged_areas):
    good = (b"A1", encode_area(SAMPLE_AREA)[1], "", 0)
    messages = [good, *((key, value, "", 0) for key, value in damaged_areas), good]
    areas, refusals = decode_areas(messages)
    assert areas[0] == areas[-1] == SAMPLE_AREA
    values = [value for _, value, *_ in messages if value is not None]
    assert len(areas) + len(refusals) == len(values)
    for area in areas:
        assert decode_areas([(*encode_area(area), 0)]) == ([area], [])


@bounded(37)
@given(st.lists(corrupted(st.just(msgspec.json.encode(SAMPLE_INSPECTION))), max_size=4))
def test_inspections_are_read_or_rejected(values):
    for value in values:
        found, refusals = decode_inspections([(None, value, "", 0)])
        assert len(found) + len(refusals) == 1
        for name, inspection in found.items():
            again = msgspec.json.encode(inspection)
            kept = decode_inspections([(name.encode(), again, "", 0)])
            assert kept == ({name: inspection}, [])


@bounded(37)
@given(corrupted(st.just(encode_alert(GOOD_ALERT)[1])))
def test_alert_is_read_or_rejected(value):
    try:
        assert isinstance(decode_alert(value), Alert)
    except RejectedError as error:
        assert error.reason in Reason  # noqa: PT017 - some inputs are fine


@bounded(37)
@given(corrupted(st.just(msgspec.json.encode(SAMPLE_RULEBOOK))))
def test_a_rulebook_is_read_or_refused_and_rules_go_by_it(value):
    try:
        rulebook = published(b"rules", value, EMPTY_RULEBOOK)
    except RulebookError as error:
        assert error.faults  # noqa: PT017 - some inputs are fine
        return
    assert published(b"rules", msgspec.json.encode(rulebook), rulebook) == rulebook
    assert changes(rulebook, rulebook) == {}
    Engine().adopt(applied(rulebook))


@bounded(50)
@given(corrupted(sound(Readings).map(lambda messages: messages[0][1] or b"")))
def test_frame_is_unpacked_or_rejected(value):
    try:
        frame, columns = unpack(value)
    except RejectedError as error:
        assert error.reason in Reason  # noqa: PT017 - some inputs are fine
    else:
        assert {column.shape[-1] for column in columns.values()} == {frame.rows}

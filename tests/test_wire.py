"""The wire: valid messages read back equal to the bit, all others are rejected with their reason."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.alert import Alert
from schemas.columns import (
    COLUMN_TYPES,
    EARLIEST_TIME,
    LATEST_TIME,
    PHASE_COLUMNS,
    Batch,
    DeviceEvents,
    Payments,
    Readings,
    Stages,
)
from schemas.master import Area, Meter, Stage, Tariff, Transformer
from schemas.wire import (
    FRAME_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    Message,
    Reason,
    RejectedError,
    Rejection,
    decode,
    decode_alert,
    decode_areas,
    decode_inspections,
    encode,
    encode_alert,
    encode_area,
)
from schemas.wire.decoding import FUTURE_TOLERANCE_SECONDS
from schemas.wire.encoding import shortest
from schemas.wire.frame import FRAME_DECODER
from schemas.wire.records import RECORD_TYPES, WORDS_BY_CODE, Frame
from schemas.wire.shapes import LARGEST_VALUE_BYTES

READING_TIME = 1_700_000_000
GOOD_READING = b'{"meter":"M1","at":1700000000,"kwh":1}'
Decoder = Callable[[list[Message]], tuple[Any, list[Rejection]]]
ALL_DECODERS: list[Decoder] = [
    *(partial(decode, kind) for kind in RECORD_TYPES),
    decode_areas,
    decode_inspections,
]


def message(
    value: bytes | None,
    key: bytes | None = b"A1",
    content_type: str = "",
    received: int = 0,
) -> Message:
    return key, value, content_type, received


def decoded(messages: Sequence[Message]) -> tuple[Readings, list[Rejection]]:
    batch, refusals = decode(Readings, messages)
    assert batch is not None
    return batch, refusals


def reading(**fields: Any) -> bytes:
    return msgspec.json.encode({"meter": "M1", "at": READING_TIME, "kwh": 1} | fields)


def packed(**fields: Any) -> bytes:
    """A frame of two rows of one meter."""
    frame = {
        "meters": ["M1"],
        "meter": np.zeros(2, "<u2").tobytes(),
        "at": np.full(2, READING_TIME, "<u4").tobytes(),
        "rows": 2,
        "version": 1,
        "area": "A1",
        "kwh": np.ones(2, "<f4").tobytes(),
    }
    return msgspec.msgpack.encode(
        {name: value for name, value in (frame | fields).items() if value is not None}
    )


def table(batch: Batch) -> list[tuple[Any, ...]]:
    """The rows of each area in order, with names for codes and bits for numbers."""
    columns = []
    for names, codes in batch.encodings().items():
        words = getattr(batch, names)
        columns.append([words[code] for code in getattr(batch, codes)])
    for name in [field.name for field in fields(batch)]:
        column = getattr(batch, name)
        if isinstance(column, np.ndarray) and name not in batch.encodings().values():
            assert column.dtype == COLUMN_TYPES[name], name
            columns.append([row.tobytes() for row in np.ascontiguousarray(column.T)])
    return sorted(zip(*columns, strict=True), key=lambda row: row[1])


ids = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
times = st.integers(EARLIEST_TIME, LATEST_TIME - 1)


def numbers(name: str, rows: int) -> st.SearchStrategy[Any]:
    kind = COLUMN_TYPES[name]
    floats = st.floats(
        -(2.0**39), 2.0**39, allow_nan=False, width=64 if kind is np.float64 else 32
    ) | st.just(np.nan)
    return st.none() | arrays.arrays(
        kind, (3, rows) if name in PHASE_COLUMNS else rows, elements=floats
    )


@st.composite
def batches(draw: st.DrawFn, kind: type[Batch]) -> Batch:
    rows = draw(st.integers(1, 6))

    def many(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(strategy, min_size=rows, max_size=rows))

    columns: dict[str, Any] = {"at": many(times)}
    for names, codes in kind.encodings().items():
        blank = names in ("bills", "channels") or (
            kind is DeviceEvents and names == "names"
        )
        columns[names] = [""] * blank + draw(
            st.lists(ids, min_size=1, max_size=3, unique=True)
        )
        columns[codes] = many(st.integers(0, len(columns[names]) - 1))

    for name in [field.name for field in fields(kind)]:
        if name in columns:
            continue
        if name in WORDS_BY_CODE:
            columns[name] = many(st.integers(0, len(WORDS_BY_CODE[name]) - 1))
        elif name == "succeeded":
            columns[name] = many(st.integers(0, 1))
        elif COLUMN_TYPES[name] is np.int64:
            columns[name] = many(st.just(0) | times)
        else:
            columns[name] = draw(numbers(name, rows))

    return kind.build(**columns)


@settings(max_examples=150, deadline=None)
@given(
    batches(Readings),
    st.sampled_from(["single", "array", "packed"]),
    st.integers(1, 4),
    st.booleans(),
)
def test_readings_come_back_equal_to_the_bit(batch, shape, rows, named):
    sent = list(encode(batch, shape, rows))
    back, refusals = decoded(
        [(key, value, content if named else "", 0) for key, value, content in sent]
    )
    assert not refusals
    assert table(back) == table(batch)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["single", "array"]), st.integers(1, 4))
@pytest.mark.parametrize(
    "kind", [kind for kind in RECORD_TYPES if kind is not Readings]
)
def test_what_the_office_sends_comes_back_equal_to_the_bit(kind, data, shape, rows):
    batch = data.draw(batches(kind))
    back, refusals = decode(kind, [(*sent, 0) for sent in encode(batch, shape, rows)])
    assert not refusals
    assert back is not None
    assert table(back) == table(batch)


def test_a_message_is_of_one_area_and_no_longer_than_asked():
    rows = 1200
    batch = Readings.build(
        ["M1"],
        np.zeros(rows),
        ["A1", "A2"],
        np.arange(rows) % 2,
        np.full(rows, READING_TIME),
    )

    for shape in ("array", "packed"):
        sent = list(encode(batch, shape, 500))
        assert [key for key, _, _ in sent] == [b"A1", b"A1", b"A2", b"A2"]
        assert [len(decoded([(*encoded, 0)])[0]) for encoded in sent] == [
            500,
            100,
            500,
            100,
        ]

    assert len(list(encode(batch, "single"))) == rows


def test_a_packed_reading_takes_about_fifty_bytes():
    rows = 500
    columns = {name: np.ones(rows) for name in ("register", "kwh")}
    columns |= {name: np.ones((3, rows)) for name in ("u", "i", "p")}
    names = [f"M{number:09}" for number in range(250)]
    batch = Readings.build(
        names,
        np.arange(rows) % 250,
        ["A1"],
        np.zeros(rows),
        np.full(rows, READING_TIME),
        **columns,
    )
    ((_, value, _),) = encode(batch, "packed")
    assert 45 < len(value) / rows < 65


@given(arrays.arrays(np.float32, 20, elements=st.floats(width=32)))
def test_the_shortest_double_is_the_same_float32(column):
    assert np.array_equal(shortest(column).astype(np.float32), column, equal_nan=True)


def test_numbers_on_the_wire_are_as_short_as_they_were_typed():
    volts, i = [[230.1], [np.nan], [0.001]], [[7], [np.nan], [np.nan]]
    batch = Readings.build(
        ["M1"], [0], ["A1"], [0], [READING_TIME], kwh=[-0.0], u=volts, i=i
    )
    ((key, value, _),) = encode(batch, "single")
    assert key == b"A1"
    assert (
        value
        == b'{"meter":"M1","at":1700000000,"kwh":-0.0,"u":[230.1,null,0.001],"i":7.0}'
    )


def test_received_time_is_the_brokers_where_the_value_has_none():
    dated = reading(received=READING_TIME + 60)
    for value in (
        b"[%b,%b]" % (dated, reading()),
        packed(received=np.array([READING_TIME + 60, 0], "<u4").tobytes()),
    ):
        batch, _ = decoded([message(value, received=READING_TIME + 9)])
        assert batch.received.tolist() == [READING_TIME + 60, READING_TIME + 9]
    batch, _ = decoded([message(reading(), received=-1)])
    assert batch.received.tolist() == [0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Payments, {"customer": "C1", "payment": "payment", "amount": 5.0}),
        (Stages, {"item": "W1", "stage": "review", "progress": "started"}),
    ],
)
def test_future_rows_of_an_office_are_rejected(kind, value):
    times = [
        READING_TIME,
        READING_TIME + FUTURE_TOLERANCE_SECONDS,
        READING_TIME + FUTURE_TOLERANCE_SECONDS + 1,
        2**31,
    ]
    values = [msgspec.json.encode(value | {"at": at}) for at in times]
    batch, refusals = decode(
        kind, [message(value, received=READING_TIME) for value in values]
    )
    assert batch is not None

    assert batch.at.tolist() == times[:2]
    assert [(refusal.reason, refusal.index) for refusal in refusals] == [
        (Reason.BAD_TIME, 2),
        (Reason.BAD_TIME, 3),
    ]

    # without a receipt time nothing is known to be in the future
    batch, refusals = decode(kind, [message(value) for value in values])
    assert batch is not None
    assert batch.at.tolist() == times

    planned = msgspec.json.encode(
        {"at": READING_TIME + 30 * FUTURE_TOLERANCE_SECONDS, "event": "planned_outage"}
    )
    assert decode(DeviceEvents, [message(planned, received=READING_TIME)])[1] == []


def test_times_are_read_with_any_offset():
    times = [
        "2023-11-14T22:13:20Z",
        "2023-11-15T06:13:20+08:00",
        "2023-11-14T22:13:20.999Z",
        READING_TIME,
    ]
    batch, refusals = decoded([message(reading(at=time)) for time in times])
    assert batch.at.tolist() == [READING_TIME] * 4
    assert not refusals


def test_the_year_2038_passes():
    batch, _ = decoded(
        [message(reading(at=2**31)), message(reading(at="2038-01-19T03:14:08Z"))]
    )
    assert batch.at.tolist() == [2**31, 2**31]


def test_one_number_or_null_phases_is_a_single_phase():
    values = [
        reading(u=230.5),
        reading(u=[230.5, None, None]),
        reading(),
        reading(u=None),
        reading(u=[None, None, 1]),
    ]
    batch, _ = decoded([message(value) for value in values])
    nan = np.nan
    assert np.array_equal(
        batch.u,
        [[230.5, 230.5, nan, nan, nan], [nan] * 5, [nan, nan, nan, nan, 1]],
        equal_nan=True,
    )


def test_the_area_is_the_keys_or_the_values():
    batch, refusals = decoded(
        [
            message(reading()),
            message(reading(area="A2"), None),
            message(reading(area="A1")),
            message(reading(area="A2"), b""),
            message(packed(area=None)),
            message(b"[" + reading(area="A1") + b"," + reading() + b"]"),
        ]
    )

    assert [batch.areas[code] for code in batch.area] == [
        "A1",
        "A2",
        "A1",
        "A2",
        "A1",
        "A1",
        "A1",
        "A1",
    ]
    assert not refusals


BAD_READINGS = [
    (None, Reason.EMPTY),
    (b"", Reason.EMPTY),
    (b"[]", Reason.EMPTY),
    (b"   ", Reason.NOT_JSON),
    (b"hello", Reason.NOT_JSON),
    (b"\x00\x00\x00\x00\x07Avro", Reason.NOT_JSON),
    (b"\xef\xbb\xbf" + GOOD_READING, Reason.NOT_JSON),
    (GOOD_READING + b"," + GOOD_READING, Reason.NOT_JSON),
    (GOOD_READING + b",\n" + GOOD_READING, Reason.NOT_JSON),
    (GOOD_READING + b"x", Reason.NOT_JSON),
    (GOOD_READING[:-1], Reason.TRUNCATED),
    (b"[" + GOOD_READING, Reason.TRUNCATED),
    (b'{"meter":"M1","at":1700000000,"kwh":NaN}', Reason.NOT_JSON),
    (b'{"meter":"M1","at":1700000000,"kwh":-Infinity}', Reason.NOT_JSON),
    (b'{"meter":"M1","at":1700000000,"kwh":1e999}', Reason.OUT_OF_RANGE),
    (b'{"meter":"M1","at":1700000000,"kwh":' + b"9" * 5000 + b"}", Reason.OUT_OF_RANGE),
    (reading(kwh=1e300), Reason.NOT_FINITE),
    (reading(register=-1e13), Reason.OUT_OF_RANGE),
    (reading(u=[1, 2, 1e13]), Reason.OUT_OF_RANGE),
    (reading(kwh="1"), Reason.WRONG_TYPE),
    (reading(kwh=True), Reason.WRONG_TYPE),
    (reading(u=[1, 2]), Reason.WRONG_LENGTH),
    (reading(u=[[1], 2, 3]), Reason.WRONG_TYPE),
    (reading(meter=7), Reason.WRONG_TYPE),
    (reading(meter=""), Reason.BAD_ID),
    (reading(meter="M" * 129), Reason.BAD_ID),
    (reading(meter="M\0"), Reason.BAD_ID),
    (reading(meter="M\n1"), Reason.BAD_ID),
    (b'{"meter":"\\ud800","at":1700000000}', Reason.NOT_JSON),
    (b'{"meter":"M\xff","at":1700000000}', Reason.NOT_UTF8),
    (reading(area="A2"), Reason.AREA_MISMATCH),
    (reading(at=0), Reason.BAD_TIME),
    (reading(at=-1), Reason.BAD_TIME),
    (reading(at=READING_TIME * 1000), Reason.BAD_TIME),
    (reading(at=LATEST_TIME), Reason.BAD_TIME),
    (reading(at="2100-01-01T00:00:00Z"), Reason.BAD_TIME),
    (b'{"meter":"M1","at":' + b"9" * 500 + b"}", Reason.BAD_TIME),
    (reading(at="1970-01-01T00:00:00Z"), Reason.BAD_TIME),
    (reading(at="0001-01-01T00:00:00+23:59"), Reason.BAD_TIME),
    (reading(at="9999-12-31T23:59:59-23:59"), Reason.BAD_TIME),
    (reading(at="2024-01-01T00:00:00"), Reason.BAD_TIME),
    (reading(at="yesterday"), Reason.BAD_TIME),
    (reading(at=None), Reason.WRONG_TYPE),
    (reading(at=float(READING_TIME)), Reason.WRONG_TYPE),
    (reading(received=5), Reason.BAD_TIME),
    (b'{"meter":"M1"}', Reason.MISSING_FIELD),
    (b"{}", Reason.MISSING_FIELD),
    (reading(voltage=230), Reason.UNKNOWN_FIELD),
    (reading(status="guessed"), Reason.UNKNOWN_VALUE),
    (b'{"meter":"M1","at":1700000000,"u":' + b"[" * 100_000, Reason.WRONG_TYPE),
    (b"[" * 100_000, Reason.TOO_DEEP),
    (b'{"a":' * 100_000, Reason.UNKNOWN_FIELD),
    (b"{" + b" " * LARGEST_VALUE_BYTES + b"}", Reason.TOO_LARGE),
    (b"9" * 10_000_000, Reason.TOO_LARGE),
    (packed()[:-3], Reason.TRUNCATED),
    (packed() + b"x", Reason.NOT_FRAME),
    (b"\x81\xa6meters\xdd\xff\xff\xff\xff", Reason.TRUNCATED),
    (b"\x81" * 100_000, Reason.WRONG_TYPE),
    (packed(version=2, layout="new"), Reason.UNKNOWN_VERSION),
    (packed(version=None), Reason.MISSING_FIELD),
    (packed(rows=10**9), Reason.WRONG_LENGTH),
    (packed(rows=0), Reason.OUT_OF_RANGE),
    (packed(rows=2**63), Reason.WRONG_LENGTH),
    (packed(kwh=b"123"), Reason.WRONG_LENGTH),
    (packed(u=np.ones(4, "<f4").tobytes()), Reason.WRONG_LENGTH),
    (packed(at=None), Reason.MISSING_FIELD),
    (packed(voltage=b""), Reason.UNKNOWN_FIELD),
    (packed(meters=[]), Reason.UNKNOWN_VALUE),
    (packed(meters=[""]), Reason.BAD_ID),
    (packed(meter=np.ones(2, "<u2").tobytes()), Reason.UNKNOWN_VALUE),
    (packed(area="A2"), Reason.AREA_MISMATCH),
    (packed(kwh="12345678"), Reason.WRONG_TYPE),
]


@pytest.mark.parametrize(
    ("value", "reason"), BAD_READINGS, ids=range(len(BAD_READINGS))
)
def test_only_the_bad_value_is_rejected_with_its_reason(value, reason):
    good = message(GOOD_READING)
    batch, refusals = decoded([good, good, message(value), good])
    assert [(refusal.reason, refusal.index, refusal.value) for refusal in refusals] == [
        (reason, 2, value or b"")
    ]
    assert 0 < len(refusals[0].detail) <= 200
    assert len(batch) == 3


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (value, reason)
        for value, reason in BAD_READINGS
        if value
        and value[:1] == b"{"
        and value[-1:] == b"}"
        and len(value) < LARGEST_VALUE_BYTES
        and b"," + GOOD_READING not in value
        and b",\n" + GOOD_READING not in value
    ],
)
def test_only_the_bad_element_is_rejected_with_its_reason(value, reason):
    if reason is Reason.NOT_JSON:
        batch, refusals = decoded(
            [message(b"[" + GOOD_READING + b"," + value + b"]"), message(GOOD_READING)]
        )
        assert [refusal.reason for refusal in refusals] == [reason]
        assert len(batch) == 1
        return

    batch, refusals = decoded(
        [
            message(GOOD_READING),
            message(b"[" + GOOD_READING + b", " + value + b" ," + GOOD_READING + b"]"),
        ]
    )

    assert [(refusal.reason, refusal.index, refusal.value) for refusal in refusals] == [
        (reason, 1, value)
    ]
    assert len(batch) == 3


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"kwh": np.array([1, np.inf], "<f4").tobytes()}, Reason.NOT_FINITE),
        ({"u": np.array([1, 1, 1, 1, 1, 1e13], "<f4").tobytes()}, Reason.OUT_OF_RANGE),
        ({"at": np.array([READING_TIME, 0], "<u4").tobytes()}, Reason.BAD_TIME),
        (
            {"at": np.array([READING_TIME, LATEST_TIME], "<u4").tobytes()},
            Reason.BAD_TIME,
        ),
        ({"at": np.array([READING_TIME, -5], "<i8").tobytes()}, Reason.BAD_TIME),
        ({"received": np.array([0, 5], "<u4").tobytes()}, Reason.BAD_TIME),
        ({"status": np.array([0, 9], "u1").tobytes()}, Reason.UNKNOWN_VALUE),
        (
            {"meters": ["M1", "M\t2"], "meter": np.array([0, 1], "<u4").tobytes()},
            Reason.BAD_ID,
        ),
    ],
)
def test_only_the_bad_row_of_a_frame_is_rejected_and_again_if_resent(columns, reason):
    batch, refusals = decoded([message(packed(**columns))])
    assert len(batch) == 1
    assert [refusal.reason for refusal in refusals] == [reason]
    assert FRAME_DECODER.decode(refusals[0].value).rows == 1
    nothing, refused_again = decode(Readings, [message(refusals[0].value)])
    assert nothing is None
    assert refused_again == [refusals[0]]


def test_rows_of_a_frame_with_one_fault_are_rejected_together():
    at = np.array([0, READING_TIME, 0, READING_TIME, READING_TIME], "<u4")
    kwh = np.array([1, np.inf, 1, 2, np.inf], "<f4")
    value = packed(
        rows=5, meter=np.zeros(5, "<u2").tobytes(), at=at.tobytes(), kwh=kwh.tobytes()
    )
    batch, refusals = decoded([message(value)])
    assert batch.kwh.tolist() == [2]
    assert [(refusal.reason, refusal.rows) for refusal in refusals] == [
        (Reason.BAD_TIME, 2),
        (Reason.NOT_FINITE, 2),
    ]
    assert [FRAME_DECODER.decode(refusal.value).rows for refusal in refusals] == [2, 2]


def peak_memory(value: bytes) -> tuple[list[Rejection], int]:
    """The rejections of a value, and the peak of memory to find them."""
    tracemalloc.start()
    try:
        batch, refusals = decode(Readings, [message(value)])
        assert batch is None
        return refusals, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value",
    [
        packed(rows=10**9),
        packed(rows=2**63),
        b"\x81\xa6meters\xdd\xff\xff\xff\xff",
        b"\x81\xa5meter\xc6\xff\xff\xff\xff",
        b"[" * 1_000_000,
        b'{"u":' * 200_000,
        b"\x91" * 1_000_000,
        b"9" * 1_000_000,
        b'{"meter":"' + b"\\u00e9" * 100_000,
        packed(rows=100_000, meter=bytes(200_000), at=bytes(400_000), kwh=None),
        b"[" + b"0," * 600_000 + b"0]",
    ],
)
def test_claimed_size_does_not_allocate_memory(value):
    refusals, bytes_used = peak_memory(value)
    assert len(refusals) == 1
    assert bytes_used < (1 << 20) + 100 * len(value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, GOOD_READING, Reason.NO_AREA),
        (b"", packed(area=None), Reason.NO_AREA),
        (None, b"[" + GOOD_READING + b"]", Reason.NO_AREA),
        (b"\xff", GOOD_READING, Reason.NOT_UTF8),
        (b"A" * 129, GOOD_READING, Reason.BAD_ID),
        (b"A\n", GOOD_READING, Reason.BAD_ID),
        (b"\xff", None, Reason.NOT_UTF8),
    ],
)
def test_a_bad_key_is_rejected_with_its_reason(key, value, reason):
    batch, refusals = decoded([message(GOOD_READING), message(value, key)])
    assert [(refusal.reason, refusal.index) for refusal in refusals] == [(reason, 1)]
    assert len(batch) == 1


def test_value_that_contradicts_its_header_is_rejected():
    assert [
        refusal.reason
        for refusal in decode(
            Readings, [message(packed(), content_type=JSON_CONTENT_TYPE)]
        )[1]
    ] == [Reason.NOT_JSON]
    assert [
        refusal.reason
        for refusal in decode(
            Readings, [message(GOOD_READING, content_type=FRAME_CONTENT_TYPE)]
        )[1]
    ] == [Reason.NOT_FRAME]


@pytest.mark.parametrize(
    "values",
    [
        [
            b'{"meter":"M1","at":1700000000},{"meter":"M2","at":1700000000}',
            b'{"meter":"x}',
            b'{","at":1700000000}',
        ],
        [
            b'{"meter":"M1","at":1700000000},\n{"meter":"M2","at":1700000000}',
            b'{"meter":"x}',
            b'{","at":1700000000}',
        ],
        [
            GOOD_READING + b"," + GOOD_READING,
            b'{"meter":"M1","at":1700000000,"u":[{}',
            b"{}]}",
        ],
        [
            GOOD_READING + b"," + GOOD_READING,
            b'{"meter":"M1","at":1700000000,"z":[{}',
            b"{}]}",
        ],
    ],
)
def test_no_object_reaches_from_one_message_into_the_next(values):
    batch, refusals = decode(Readings, [message(value) for value in values])
    assert batch is None
    assert [refusal.value for refusal in refusals] == values


def test_reading_after_an_invalid_element_is_rejected_as_itself():
    huge = GOOD_READING.replace(b'"kwh":1', b'"kwh":1e300')
    batch, refusals = decoded(
        [
            message(GOOD_READING, b"A2"),
            message(b"[1," + GOOD_READING + b"," + huge + b"]"),
        ]
    )
    assert len(batch) == 2
    assert [refusal.value for refusal in refusals] == [b"1", huge]


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b",",
        b"]",
        b",\n" + GOOD_READING,
        b',\n{"meter":"M2"',
        b"," + GOOD_READING[:-1],
    ],
)
def test_bytes_after_an_object_do_not_join_the_next_value(rest):
    batch, refusals = decoded(
        [message(GOOD_READING), message(GOOD_READING + rest), message(GOOD_READING)]
    )
    assert len(batch) == 3 - (rest != b"")
    assert [refusal.value for refusal in refusals] == (
        [GOOD_READING + rest] if rest else []
    )


def test_rows_keep_the_order_of_their_messages_across_shapes():
    readings = [reading(meter=f"M{number}") for number in range(6)]
    values = [
        readings[1],
        packed(meters=["M2"]),
        b"[" + readings[3] + b"]",
        readings[4],
        b"",
        readings[5],
    ]
    batch, refusals = decoded([message(value) for value in values])

    assert [batch.names[code] for code in batch.subject] == [
        "M1",
        "M2",
        "M2",
        "M3",
        "M4",
        "M5",
    ]
    assert [refusal.index for refusal in refusals] == [4]


def test_no_messages_decode_to_nothing():
    for read in ALL_DECODERS:
        batch, refusals = read([])
        assert not batch
        assert not refusals


FIELD_NAMES = sorted(
    {
        name
        for record in RECORD_TYPES.values()
        for name in record.__struct_encode_fields__
    }
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=9)
)
nested = st.recursive(
    plain | st.sampled_from([READING_TIME, "M1", "bill", "started"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)
GOOD_MESSAGES = [
    GOOD_READING,
    packed(),
    b"[" + GOOD_READING + b"," + GOOD_READING + b"]",
]
anything = st.one_of(
    st.binary(max_size=80),
    nested.map(lambda value: json.dumps(value).encode()),
    nested.map(msgspec.msgpack.encode),
    st.dictionaries(st.sampled_from(FIELD_NAMES), nested, max_size=3).map(
        lambda fields: reading(**fields)
    ),
    st.dictionaries(
        st.sampled_from(Frame.__struct_fields__),
        nested | st.binary(max_size=24),
        max_size=3,
    ).map(lambda fields: packed(**fields)),
    st.builds(
        lambda good, at, noise: good[:at] + noise + good[at + 1 :],
        st.sampled_from(GOOD_MESSAGES),
        st.integers(0, 90),
        st.binary(max_size=2),
    ),
)
messages_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from([None, b"A1"]) | st.binary(max_size=4),
        st.none() | anything,
        st.sampled_from(["", JSON_CONTENT_TYPE, FRAME_CONTENT_TYPE, "text/plain"]),
        st.integers(-1, LATEST_TIME),
    ),
    max_size=5,
)


@settings(max_examples=400, deadline=None)
@given(messages_of_any_kind)
def test_a_decoder_reads_or_rejects_whatever_the_bytes(messages):
    for read in ALL_DECODERS:
        batch, refusals = read(messages)
        indices = [refusal.index for refusal in refusals]
        assert indices == sorted(indices)

        for refusal in refusals:
            key, value, content_type, received = messages[refusal.index]
            decoded_again = read([(key, refusal.value, content_type, received)])
            if refusal.value == value or refusal.value[:1] == b"{":
                assert not decoded_again[0]
                assert [rejected.reason for rejected in decoded_again[1]] == [
                    refusal.reason
                ]

        if isinstance(batch, Batch):
            assert len(batch) > 0
            assert EARLIEST_TIME <= batch.at.min() <= batch.at.max() < LATEST_TIME


GOOD_AREA = Area(
    area="A1",
    section="S1",
    gateway="G1",
    transformers=[Transformer(rating_kva=400)],
    meters=[
        Meter(meter="M1", customer="C1", contract_kva=8.0),
        Meter(meter="G1", wiring="3P4W", ct=80.0),
    ],
)


def test_area_reads_back():
    assert decode_areas([(*encode_area(GOOD_AREA), 0), message(None)]) == (
        [GOOD_AREA],
        [],
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"[]", Reason.WRONG_TYPE),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"area":"A2"}', Reason.AREA_MISMATCH),
        (b'{"area":""}', Reason.BAD_ID),
        (b'{"area":"A1","meters":[{"meter":"\\n"}]}', Reason.BAD_ID),
        (
            b'{"area":"A1","meters":[{"meter":"M1","wiring":"5P"}]}',
            Reason.UNKNOWN_VALUE,
        ),
        (b'{"area":"A1","meters":[{"meter":"M1","ct":0}]}', Reason.OUT_OF_RANGE),
        (
            b'{"area":"A1","meters":[{"meter":"M1","interval_s":0}]}',
            Reason.OUT_OF_RANGE,
        ),
        (
            b'{"area":"A1","meters":[{"meter":"M1","contract_kva":-1}]}',
            Reason.OUT_OF_RANGE,
        ),
        (
            b'{"area":"A1","meters":[{"meter":"M1","until":99999999999999999999999999}]}',
            Reason.BAD_TIME,
        ),
        (b'{"area":"A1","transformers":[{"rating_kva":-5}]}', Reason.OUT_OF_RANGE),
        (b'{"area":"A1","transformers":[{"rating_kva":1e300}]}', Reason.OUT_OF_RANGE),
    ],
)
def test_a_bad_area_is_rejected_with_its_reason(value, reason):
    areas, refusals = decode_areas([message(value), (*encode_area(GOOD_AREA), 0)])
    assert areas == [GOOD_AREA]
    assert [(refusal.reason, refusal.index) for refusal in refusals] == [(reason, 0)]


TEXT_FIELDS = [
    (name, kind, field.name)
    for name, kind in (
        ("", Area),
        ("tariffs", Tariff),
        ("stages", Stage),
        ("meters", Meter),
    )
    for field in msgspec.structs.fields(kind)
    if field.type is str
]


@pytest.mark.parametrize(("name", "kind", "field"), TEXT_FIELDS)
@pytest.mark.parametrize("text", ["\x1b[31m", "a\nb", "\u202e", "x" * 129, "\x00"])
def test_text_of_master_data_has_no_control_characters_and_fits_an_id(
    name, kind, field, text
):
    needed = {"tariff": "T", "stage": "S", "meter": "M", "flat": 0.5, "area": "A1"}
    fields = {
        struct_field.name: needed[struct_field.name]
        for struct_field in msgspec.structs.fields(kind)
        if struct_field.name in needed
    } | {field: text}
    record = fields if kind is Area else {"area": "A1", name: [fields]}
    areas, refusals = decode_areas([message(msgspec.json.encode(record))])
    assert not areas
    assert [refusal.reason for refusal in refusals] == [Reason.BAD_ID]


GOOD_ALERT = Alert(
    id="00112233aabbccdd",
    rule="voltage_loss",
    version=1,
    kind="readings",
    area="A1",
    subject="M1",
    state="raised",
    change="raised",
    revision=2,
    severity=1,
    since=READING_TIME - 900,
    raised=READING_TIME,
    at=READING_TIME,
    score=1.25,
    phase="B",
    evidence={"u": 0.1},
    suppressed_by="",
    en="Suspected loss of voltage",
    zh="疑似失压",
)


def test_an_alert_is_a_cloud_event():
    key, value, headers = encode_alert(GOOD_ALERT)
    assert key == b"00112233aabbccdd"
    assert decode_alert(value) == GOOD_ALERT
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"00112233aabbccdd.2",
        "ce_source": b"/meterwatch",
        "ce_type": b"meterwatch.alert.raised",
        "ce_time": b"2023-11-14T22:13:20Z",
        "ce_subject": b"M1",
        "content-type": b"application/json",
    }


def test_an_alert_that_is_not_finite_can_be_read_back():
    _, value, _ = encode_alert(
        msgspec.structs.replace(
            GOOD_ALERT, evidence={"u": 0.1, "i": np.nan, "p": np.inf}
        )
    )
    assert decode_alert(value) == GOOD_ALERT
    _, value, _ = encode_alert(msgspec.structs.replace(GOOD_ALERT, score=np.inf))
    assert decode_alert(value).score == sys.float_info.max


@given(anything)
def test_an_alert_is_read_or_rejected(value):
    try:
        decode_alert(value)
    except RejectedError as error:
        assert error.reason in Reason  # noqa: PT017 - some inputs are fine


def test_readings_with_rare_fields_and_without_come_together():
    usual = b'{"meter":"M1","at":1767225600,"kwh":1}'
    rare = b'{"meter":"M2","at":1767225600,"kwh":2,"neutral":0.5}'
    arrays = [
        b"[" + b",".join(records) + b"]"
        for records in ((usual,), (rare, usual), (usual, b"{}"), (rare,))
    ]

    for values in (arrays, [usual, rare, b"{}", usual]):
        batch, refusals = decode(Readings, [(b"A1", value, "", 0) for value in values])
        assert batch is not None
        names = [batch.names[code] for code in batch.subject.tolist()]
        assert names == (
            ["M1", "M2", "M1", "M1", "M2"] if values is arrays else ["M1", "M2", "M1"]
        )
        neutral = [0.5 if name == "M2" else np.nan for name in names]
        np.testing.assert_array_equal(batch.neutral, np.array(neutral, np.float32))
        assert [refusal.reason for refusal in refusals] == [Reason.MISSING_FIELD]

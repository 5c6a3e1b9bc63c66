"""Records of mapped topics: JSON, and Avro and Protobuf by a schema registry, whatever their bytes."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from typing import Any

import fastavro
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP_FILE
from hypothesis import given
from hypothesis import strategies as st

from replay.extras import missing_extra
from replay.mapping.file import mapping_of
from schemas.columns import Readings
from schemas.wire import Reason
from streams.kafka.mapped_records import RecordMapper
from streams.kafka.schema_registry import SchemaRegistryError
from streams.settings import Secret, Settings
from tests.schema_registry import SchemaServer, framed

COLUMN_LINES = """
area = "registry"
[columns]
meter = "deviceId"
at = "ts"
ua = "volts.a"
register = { from = "wh", unit = "Wh" }
status = "quality"
[words.status]
GUESSED = "estimated"
MEASURED = "measured"
"""
AVRO_VOLTS: dict[str, Any] = {
    "type": "record",
    "name": "Volts",
    "fields": [{"name": "a", "type": ["null", "double"]}],
}
AVRO_READING: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "deviceId", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "volts", "type": "Volts"},
        {"name": "wh", "type": "long"},
        {
            "name": "quality",
            "type": {"type": "enum", "name": "Q", "symbols": ["MEASURED", "GUESSED"]},
        },
    ],
}
READ_AT = datetime(2024, 3, 1, 0, 15, tzinfo=UTC)


def mapper(place):
    return RecordMapper(mapping_of(place + COLUMN_LINES, "columns.toml"))


def mapped(place, *values):
    return mapper(place).mapped([(b"key", value, "", 0) for value in values])


def reasons(found):
    return [(rejection.index, rejection.reason) for rejection in found.rejections]


def check_two_readings(batch):
    assert [batch.names[code] for code in batch.subject] == ["m1", "m2"]
    assert batch.at.tolist() == [int(READ_AT.timestamp())] * 2
    assert batch.u[0].tolist() == [230.5, 0.0]
    assert batch.register.tolist() == [1.5, 0.0]
    assert batch.status.tolist() == [1, 0]


def avro_bytes(schema, record):
    content = io.BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(schema), record)
    return content.getvalue()


def avro_reading(meter, volts, wh, quality):
    whole = json.loads(json.dumps(AVRO_READING))
    whole["fields"][2]["type"] = AVRO_VOLTS
    record = {
        "deviceId": meter,
        "ts": READ_AT,
        "volts": {"a": volts},
        "wh": wh,
        "quality": quality,
    }
    return avro_bytes(whole, record)


def avro_place(server):
    return f'topic = "t"\nformat = "avro"\nschema_registry = "{server.address}"\n'


def test_avro_by_a_schema_with_a_reference():
    with SchemaServer() as server:
        server.register(7, AVRO_VOLTS, "volts")
        server.register(9, AVRO_READING, references=[("Volts", "volts")])
        one = framed(9, avro_reading("m1", 230.5, 1500, "GUESSED"))
        two = framed(9, avro_reading("m2", 0.0, 0, "MEASURED"))
        found = mapped(avro_place(server), one, two)
        check_two_readings(found.batch)
        assert len(server.asked) == 2
        assert server.authorizations == {None}

        named = Settings(
            schema_registry_username="name", schema_registry_password=Secret("word")
        )
        text = avro_place(server) + COLUMN_LINES
        mapping = mapping_of(text, "columns.toml")
        authorized = RecordMapper(mapping, named.schema_registry_authorization)
        check_two_readings(
            authorized.mapped([(b"", one, "", 0), (b"", two, "", 0)]).batch
        )
        assert server.authorizations == {None, "Basic bmFtZTp3b3Jk"}


def test_avro_of_no_use_is_rejected_with_its_reason():
    endless = {
        "type": "record",
        "name": "N",
        "fields": [{"name": "n", "type": ["null", "N"]}],
    }
    nothing = {"type": "array", "items": "null"}
    with SchemaServer() as server:
        server.register(1, AVRO_READING | {"fields": AVRO_READING["fields"][:2]})
        server.register(2, endless)
        server.register(
            3,
            {"type": "record", "name": "L", "fields": [{"name": "l", "type": nothing}]},
        )
        server.register(4, {"type": "no type"})
        server.register(5, FileDescriptorProto(name="p"))
        sound = avro_bytes(
            AVRO_READING | {"fields": AVRO_READING["fields"][:2]},
            {"deviceId": "m", "ts": READ_AT},
        )
        values = [
            framed(1, sound),
            b"{}",
            b"",
            b"\0\0",
            framed(404, b""),
            framed(1, sound[:-2]),
            framed(1, sound + b"x"),
        ]
        values += [
            framed(2, b"\x02" * 100_000),
            framed(3, b"\xfe" * 9 + b"\x01"),
            framed(4, b""),
            framed(5, b""),
        ]
        found = mapped(avro_place(server), *values, framed(404, b""))
        assert reasons(found) == [
            (1, Reason.NOT_AVRO),
            (2, Reason.EMPTY),
            (3, Reason.NOT_AVRO),
            (4, Reason.UNKNOWN_SCHEMA),
            (5, Reason.NOT_AVRO),
            (6, Reason.NOT_AVRO),
            (7, Reason.UNKNOWN_SCHEMA),
            (8, Reason.UNKNOWN_SCHEMA),
            (9, Reason.UNKNOWN_SCHEMA),
            (10, Reason.UNKNOWN_SCHEMA),
            (11, Reason.UNKNOWN_SCHEMA),
        ]
        assert found.batch.subject.tolist() == [0]
        # a schema is asked for once, be it there or not
        assert len(server.asked) == len(set(server.asked)) == 6

        server.broken = True
        with pytest.raises(SchemaRegistryError, match=server.address):
            mapped(avro_place(server), framed(1, sound))


def field(name, number, kind, type_name="", label=FieldDescriptorProto.LABEL_OPTIONAL):
    return FieldDescriptorProto(
        name=name, number=number, type=kind, type_name=type_name or None, label=label
    )


def protobuf_files():
    """Two files: a reading within an envelope, and the volts that it imports."""
    volts = FileDescriptorProto(name="volts.proto", package="ami", syntax="proto3")
    volts.message_type.add(name="Volts").field.append(
        field("a", 1, FieldDescriptorProto.TYPE_DOUBLE)
    )
    reading = FileDescriptorProto(
        name="reading.proto",
        package="ami",
        syntax="proto3",
        dependency=["volts.proto", TIMESTAMP_FILE.name],
    )

    quality = reading.enum_type.add(name="Quality")
    quality.value.add(name="MEASURED", number=0)
    quality.value.add(name="GUESSED", number=1)
    reading.message_type.add(name="Other")
    message = reading.message_type.add(name="Envelope").nested_type.add(name="Reading")
    message.field.extend(
        [
            field("deviceId", 1, FieldDescriptorProto.TYPE_STRING),
            field(
                "ts", 2, FieldDescriptorProto.TYPE_MESSAGE, ".google.protobuf.Timestamp"
            ),
            field("volts", 3, FieldDescriptorProto.TYPE_MESSAGE, ".ami.Volts"),
            field("wh", 4, FieldDescriptorProto.TYPE_INT64),
            field("quality", 5, FieldDescriptorProto.TYPE_ENUM, ".ami.Quality"),
        ]
    )
    return volts, reading


def protobuf_class():
    pool = DescriptorPool()
    pool.AddSerializedFile(TIMESTAMP_FILE.serialized_pb)
    for file in protobuf_files():
        pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("ami.Envelope.Reading")
    )


def protobuf_reading(meter, volts, wh, quality):
    message = protobuf_class()(deviceId=meter, wh=wh, quality=quality)
    message.ts.FromDatetime(READ_AT)
    message.volts.a = volts
    return message.SerializeToString()


def protobuf_place(server):
    return f'topic = "t"\nformat = "protobuf"\nschema_registry = "{server.address}"\n'


def test_protobuf_by_the_indexes_of_its_message():
    volts, reading = protobuf_files()
    nested = bytes([4, 2, 0])  # two indexes: 1, 0
    with SchemaServer() as server:
        server.register(7, volts, "volts")
        server.register(9, reading, references=[("volts.proto", "volts")])
        one = framed(9, protobuf_reading("m1", 230.5, 1500, "GUESSED"), nested)
        two = framed(9, protobuf_reading("m2", 0.0, 0, "MEASURED"), nested)
        found = mapped(protobuf_place(server), one, two)
        check_two_readings(found.batch)

        sound = protobuf_reading("m1", 1.0, 1, "MEASURED")
        values = [
            framed(9, sound, b"\x02\x0e"),  # no such message
            framed(9, sound, b"\xff" * 11),
            framed(9, b"\x0a\x7f", nested),
            framed(9, b"", b"\0"),  # the first message, which has no such fields
            framed(404, sound, nested),
        ]
        assert reasons(mapped(protobuf_place(server), *values)) == [
            (0, Reason.NOT_PROTOBUF),
            (1, Reason.NOT_PROTOBUF),
            (2, Reason.NOT_PROTOBUF),
            (4, Reason.UNKNOWN_SCHEMA),
            (3, Reason.MISSING_FIELD),
        ]


JSON_PLACE = 'topic = "t"\n'


def test_json_with_and_without_a_schema_before_it():
    record = {
        "deviceId": "m1",
        "ts": READ_AT.isoformat(),
        "volts": {"a": 230.5},
        "wh": 1500,
        "quality": "GUESSED",
    }
    other = record | {"deviceId": "m2", "volts": {"a": 0}, "wh": 0, "quality": None}
    found = mapped(
        JSON_PLACE, json.dumps(record).encode(), framed(1, json.dumps(other).encode())
    )
    check_two_readings(found.batch)
    assert found.records.tolist() == [0, 1]


def test_a_record_with_a_fault_is_rejected_whole():
    sound = {"deviceId": "m1", "ts": 1_709_251_200}
    faulty = [
        sound | {"ts": "yesterday"},
        {"ts": 1_709_251_200},
        sound | {"wh": "many"},
        sound | {"wh": True},
        sound | {"wh": 1e300},
        sound | {"wh": 10**400},
        sound | {"volts": {"a": [1]}},
        sound | {"deviceId": "x" * 200},
        sound | {"quality": "odd"},
        [sound, sound | {"ts": 1}],
        [],
        [1],
        7,
    ]

    values = [json.dumps(record).encode() for record in (sound, *faulty)]
    deep, cut, bytes_of_no_text = b"[" * 100_000, b'{"deviceId', b'{"deviceId": "\xff"}'
    found = mapped(JSON_PLACE, *values, deep, cut, bytes_of_no_text, None)
    assert dict(reasons(found)) == {
        1: Reason.BAD_TIME,
        2: Reason.MISSING_FIELD,
        3: Reason.WRONG_TYPE,
        4: Reason.WRONG_TYPE,
        5: Reason.OUT_OF_RANGE,
        6: Reason.OUT_OF_RANGE,
        7: Reason.WRONG_TYPE,
        8: Reason.BAD_ID,
        9: Reason.UNKNOWN_VALUE,
        10: Reason.BAD_TIME,
        11: Reason.EMPTY,
        12: Reason.WRONG_TYPE,
        13: Reason.WRONG_TYPE,
        14: Reason.TOO_DEEP,
        15: Reason.TRUNCATED,
        16: Reason.NOT_UTF8,
        17: Reason.EMPTY,
    }
    assert found.records.tolist() == [0, 10]


def test_no_record_decides_how_another_is_read():
    """A comma elsewhere made 1.234 a thousand, and a date elsewhere decided between day and month."""
    lines = 'topic = "t"\n[columns]\nmeter = "m"\narea = "a"\nat = "t"\nkwh = "e"\n'
    mapper = RecordMapper(mapping_of(lines, "columns.toml"))
    values = [
        {"m": "m1", "a": "A", "t": at, "e": energy}
        for at in ("2024-03-13 00:15", "13/03/2024 00:15", "04/03/2024", 1_709_251_200)
        for energy in ("1.234", "1,5", "1,234", 2.5, "2.50")
    ]
    messages = [(None, json.dumps(value).encode(), "", 0) for value in values]

    def read(chosen):
        batch, _, rejections = mapper.mapped(chosen)
        reasons = [(found.reason, found.detail) for found in rejections]
        if batch is None:
            return [], reasons
        assert isinstance(batch, Readings)
        return list(zip(batch.at.tolist(), batch.kwh.tolist(), strict=True)), reasons

    rows, reasons = read(messages)
    alone = [read([message]) for message in messages]
    assert rows == [row for found, _ in alone for row in found]
    assert sorted(reasons) == sorted(reason for _, found in alone for reason in found)
    assert {kwh for _, kwh in rows} == {np.float32(1.234), 2.5}
    assert len(rows) == 9
    assert {reason for reason, _ in reasons} == {Reason.BAD_TIME, Reason.WRONG_TYPE}


def test_phases_within_a_record_are_joined_and_not_over_records():
    text = (
        'topic = "t"\nrows = "values"\n[columns]\nmeter = "id"\narea = "area"\nat = "ts"\nu = "v"\n'
        '[phases]\ncolumn = "phase"\nA = ["L1"]\nB = ["L2"]\n'
    )
    record = {"id": "m", "area": "A", "ts": 1_709_251_200}
    record["values"] = [
        {"phase": "L1", "v": 230},
        {"phase": "L2", "v": 231},
        {"phase": "L9", "v": 1},
    ]

    message = (None, json.dumps(record).encode(), "", 0)
    found = RecordMapper(mapping_of(text, "columns.toml")).mapped([message, message])
    assert isinstance(found.batch, Readings)
    assert found.batch.u[:2].T.tolist() == [[230, 231]] * 2
    assert found.records.tolist() == [0, 1]
    assert [(one.reason, one.rows) for one in found.rejections] == [
        (Reason.UNKNOWN_VALUE, 1)
    ] * 2


field_names = st.sampled_from(["deviceId", "ts", "volts", "a", "wh", "quality"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(field_names, inner),
    max_leaves=12,
)


@given(st.lists(json_values | st.binary(max_size=40), max_size=6))
def test_each_record_is_mapped_or_rejected(records):
    values = [
        record if isinstance(record, bytes) else json.dumps(record).encode()
        for record in records
    ]
    found = mapped(JSON_PLACE, *values)
    rejected = {rejection.index for rejection in found.rejections}
    assert rejected | set(np.unique(found.records).tolist()) == set(range(len(values)))


@pytest.fixture(scope="module")
def registered():
    """A registry with an Avro schema 1 and a Protobuf schema 2 of many types."""
    kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
    types: list[Any] = [
        *kinds,
        {"type": "array", "items": "double"},
        {"type": "map", "values": ["null", "string"]},
        {"type": "fixed", "name": "F", "size": 3},
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        {"type": "int", "logicalType": "date"},
        {"type": "long", "logicalType": "timestamp-micros"},
    ]
    fields = [{"name": f"f{place}", "type": kind} for place, kind in enumerate(types)]

    volts, reading = protobuf_files()
    with SchemaServer() as server:
        server.register(1, {"type": "record", "name": "Many", "fields": fields})
        server.register(7, volts, "volts")
        server.register(2, reading, references=[("volts.proto", "volts")])
        yield server


@pytest.mark.parametrize("form", ["avro", "protobuf"])
@given(content=st.binary(max_size=80))
def test_any_bytes_of_a_schema_are_mapped_or_rejected(registered, form, content):
    place = (
        f'topic = "t"\nformat = "{form}"\nschema_registry = "{registered.address}"\n'
    )
    value = (
        framed(1, content) if form == "avro" else framed(2, content, bytes([4, 2, 0]))
    )
    found = mapped(place, value, content)
    rejected = {rejection.index for rejection in found.rejections}
    assert rejected | set(found.records.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("format_name", "module"),
    [("avro", "fastavro"), ("protobuf", "google.protobuf.message_factory")],
)
def test_a_bridge_without_its_extra_names_it_before_it_reads(
    monkeypatch, format_name, module
):
    monkeypatch.setitem(sys.modules, module, None)
    lines = (
        f'topic = "t"\nformat = "{format_name}"\nschema_registry = "http://127.0.0.1:1"'
    )
    with pytest.raises(ModuleNotFoundError) as error:
        RecordMapper(mapping_of(lines + COLUMN_LINES, "columns.toml"))
    needed = missing_extra(error.value)
    assert needed
    assert "pip install 'meterwatch[bridge]'" in needed

"""A column and a topic are declared once: all that derives from the declarations is there for each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from replay import layout
from replay.history import BATCH_KINDS
from schemas.columns import ALL_COLUMNS, ALL_KINDS, KIND_COLUMNS, Batch, Readings
from schemas.declarations import declarations
from schemas.documents import asyncapi, schema
from schemas.pages import column_table, pages, topic_table
from schemas.topics import ALL_TOPICS, KIND_TOPICS, SOURCE_TOPICS, TOPIC_KINDS
from schemas.wire import decode, encode
from schemas.wire.records import FIELD_TYPES, MEASURED_COLUMNS, RECORD_TYPES, Frame
from streams.kafka.labels import KIND_NAMES
from streams.source_summary import RECORD_NAMES

PLAUSIBLE_TIME = 1_700_000_000
COMMON_COLUMNS = frozenset(field.name for field in fields(Batch))


def one_row(kind: type[Batch]) -> Batch:
    """A row with a name in every list of names, and nothing else known."""
    columns: dict[str, Any] = {names: ["N1"] for names in kind.encodings()}
    return kind.build(**columns, subject=[0], area=[0], at=[PLAUSIBLE_TIME])


@pytest.mark.parametrize("kind", KIND_COLUMNS, ids=ALL_KINDS)
def test_every_column_of_a_batch_is_declared(kind):
    declared = KIND_COLUMNS[kind]
    batch = one_row(kind)
    assert list(declared) == [field.name for field in fields(kind)]
    for name, column in declared.items():
        assert column.form == ALL_COLUMNS[name].form, "kinds share a name, not a form"
        values = getattr(batch, name)
        if column.form.dtype is str:
            assert values == ("N1",)
            continue
        assert values.dtype == column.form.dtype
        assert values.ndim == 1 + bool(column.form.axis)
        assert column.text or name in COMMON_COLUMNS


def test_a_column_without_a_form_is_refused():
    @dataclass
    class Formless:
        kwh: float

    with pytest.raises(TypeError, match="Formless does not declare a form of .'kwh'"):
        declarations(Formless)


def test_every_kind_has_a_name_of_its_own():
    assert set(ALL_KINDS.values()) == set(KIND_COLUMNS)
    assert all(declarations(kind) == KIND_COLUMNS[kind] for kind in KIND_COLUMNS)


def test_every_form_that_travels_has_a_field():
    for kind in RECORD_TYPES:
        forms = {column.form for column in KIND_COLUMNS[kind].values()}
        assert {form for form in forms if form.dtype is not str} <= FIELD_TYPES.keys()
    assert {*Frame.__struct_fields__} >= MEASURED_COLUMNS.keys()


@pytest.mark.parametrize("topic", SOURCE_TOPICS)
def test_a_source_is_encoded_decoded_and_known_everywhere(topic):
    kind = TOPIC_KINDS[topic]
    batch = one_row(kind)
    for shape in ("single", "array", "packed"):
        messages = [(*message, 0) for message in encode(batch, shape)]
        back, rejections = decode(kind, messages)
        assert (len(messages), rejections) == (1, [])
        assert back is not None
        for name in KIND_COLUMNS[kind]:
            assert np.array_equal(
                np.asarray(getattr(back, name)),
                np.asarray(getattr(batch, name)),
                equal_nan=np.asarray(getattr(batch, name)).dtype.kind == "f",
            )

    assert KIND_TOPICS[kind] == topic
    assert kind in BATCH_KINDS
    assert kind.kind in KIND_NAMES
    cells = [cell for column in KIND_COLUMNS[kind].values() for cell in column.cells]
    assert layout._kind_of(cells) is kind


@pytest.mark.parametrize("topic", SOURCE_TOPICS)
def test_every_column_of_a_source_is_documented(topic):
    kind = TOPIC_KINDS[topic]
    properties = schema(RECORD_NAMES[kind.kind])["properties"]
    table = column_table(kind)
    for name, column in KIND_COLUMNS[kind].items():
        if name in kind.encodings():
            continue
        assert column.outside_name in properties
        assert all(f"`{cell}`" in table for cell in column.cells)
        assert all(f"`{word}`" in table for word in column.words)


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_every_topic_is_documented(topic):
    document = asyncapi()
    assert document["channels"][topic.name]["title"] == topic.title
    for action in topic.actions:
        assert f"{action}.{topic.name}" in document["operations"]
    assert f"| `{topic.name}` |" in topic_table()


def test_tables_are_made_in_the_pages_that_need_them():
    text = "".join(pages().values())
    assert topic_table() in text
    assert column_table(Readings) in text

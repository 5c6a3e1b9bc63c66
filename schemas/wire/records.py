"""One observation as a JSON object, and many of an area as a frame: their fields follow from the columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal, cast

import numpy as np
from msgspec import Meta, Struct, defstruct

from schemas.columns import (
    ALL_COLUMNS,
    EARLIEST_TIME,
    KIND_COLUMNS,
    LATEST_TIME,
    Batch,
    DeviceEvents,
    Payments,
    Readings,
    Stages,
)
from schemas.declarations import ColumnForm, Declaration
from schemas.events import System

READING_COLUMNS = KIND_COLUMNS[Readings]
MEASURED_COLUMNS = {
    name: column
    for name, column in READING_COLUMNS.items()
    if name not in {field.name for field in fields(Batch)}
}
"""The columns that readings alone have."""
LARGEST_NUMBER = 1e12  # of any quantity, either sign; its square still is a float32
LONGEST_ID = 128  # characters
# Looking for the other fields of a reading too takes a tenth longer.
USUAL_COLUMNS = frozenset(
    {
        "subject",
        "at",
        "area",
        "register",
        "export_register",
        "kwh",
        "u",
        "i",
        "p",
        "q",
        "clock_offset",
        "received",
        "status",
    }
)

FRAME_DESCRIPTION = """Readings of one area as columns of packed little-endian numbers, in msgpack; an absent column is
unknown.

Times are u4 or i8, codes u2 or u4, distinguished by the length; energy registers f8, all else f4. A phase column
holds phase A, then B, then C of all rows, or phase A alone.
"""


def _described(description: str, unit: str = "") -> Meta:
    """The description and unit of a field in the JSON Schema."""
    return Meta(
        description=description,
        extra_json_schema={"x-unit": unit} if unit else {},
    )


Number = Annotated[
    float,
    Meta(extra_json_schema={"minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}),
]
Phases = tuple[Number | None, Number | None, Number | None] | Number | None
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Time = (
    Annotated[int, Meta(ge=EARLIEST_TIME, lt=LATEST_TIME)]
    | Annotated[datetime, Meta(tz=True)]
)
TIME_FORM = "; Unix seconds, or RFC 3339 with an offset; from 2000 on, before 2100"
PHASES_FORM = "; a number is phase A"
AREA_FORM = "; the message key's when absent, equal to it when given"

# No Meta(ge, le) on Number: inside a union with a fixed tuple, msgspec 0.22 reads the limits from the wrong memory.

FIELD_TYPES: dict[ColumnForm, tuple[Any, Any]] = {
    ColumnForm(np.float32): (Number | None, None),
    ColumnForm(np.float64): (Number | None, None),
    ColumnForm(np.float32, "phases"): (Phases, None),
    ColumnForm(np.int64): (Time, 0),
    ColumnForm(np.uint8): (bool, True),
    ColumnForm(np.int32): (Id, ""),
}
"""The type of a field by the form of its column, and its default unless it is required."""
Field = tuple[str, Any] | tuple[str, Any, Any]
"""A name, a type, and a default unless it is required."""


def _unit(column: Declaration) -> str:
    """The unit of a column in the JSON Schema."""
    return "s" if column.form.dtype is np.int64 else column.unit.name


def _field(column: Declaration) -> Field:
    """A column as a field of a record."""
    value, default = FIELD_TYPES[column.form]
    if column.words:
        value = Literal[column.words]
    if column.absence:
        default = column.absence.value

    text = column.description
    if column.form.axis:
        text += PHASES_FORM
    if column.form.dtype is np.int64:
        text += TIME_FORM
    if column.name == "area":
        text += AREA_FORM
    field = column.name, Annotated[value, _described(text, _unit(column))]
    if column.name == "at" or (column.required and column.name != "area"):
        return field
    return (*field, default)


def _record(
    name: str,
    kind: type[Batch],
    columns: Iterable[str] = (),
    own: Iterable[Field] = (),
    base: type[Struct] | None = None,
) -> type[Struct]:
    """A record of columns of a kind, of all if none are named, and of fields of its own; the required come first."""
    declared = KIND_COLUMNS[kind]
    chosen = columns or declared
    found = {field[0]: field for field in own}
    for column in declared.values():
        if column.name in chosen and column.name not in {*kind.encodings(), *found}:
            found[column.name] = _field(column)

    return defstruct(
        name,
        sorted(found.values(), key=len),
        bases=(base,) if base else None,
        namespace={"__doc__": kind.__doc__},
        module=__name__,
        rename={column.name: column.outside_name for column in declared.values()},
        gc=False,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )


UsualReadingRecord = _record(
    "UsualReadingRecord",
    Readings,
    columns=USUAL_COLUMNS,
)
ReadingRecord = _record(
    "ReadingRecord",
    Readings,
    columns=READING_COLUMNS.keys() - USUAL_COLUMNS,
    base=UsualReadingRecord,
)
EventRecord = _record(
    "EventRecord",
    DeviceEvents,
    own=[
        ("event", Literal[KIND_COLUMNS[DeviceEvents]["event"].words] | None, None),
        (
            "system",
            Annotated[
                System | None,
                _described("Whose code it is, if the event is given by a code"),
            ],
            None,
        ),
        (
            "code",
            Annotated[
                Id,
                _described(
                    "The event's code in that system, such as 301B, ERC37 or 3.12.141.212"
                ),
            ],
            "",
        ),
    ],
)
PaymentRecord = _record("PaymentRecord", Payments)
StageRecord = _record("StageRecord", Stages)
RECORD_TYPES: dict[type[Batch], type[Struct]] = {
    Readings: ReadingRecord,
    DeviceEvents: EventRecord,
    Payments: PaymentRecord,
    Stages: StageRecord,
}
"""The kinds that travel."""


class FrameHead(Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of a frame that say whose rows its columns hold."""

    meters: Annotated[list[Id], _described("The meters that the codes refer to")]
    meter: Annotated[bytes, _described("u2 or u4 code of each row's meter")]
    at: Annotated[bytes, _described("u4 or i8 Unix seconds", "s")]
    rows: Annotated[int, Meta(ge=1)]
    version: Literal[1]
    area: Annotated[Id, _described(READING_COLUMNS["area"].text + AREA_FORM)] = ""


def _packed(column: Declaration) -> Field:
    """A column as a field of a frame."""
    form = np.dtype(column.form.dtype).str[1:]
    if column.words:
        words = enumerate(column.words)
        form += ": " + ", ".join(f"{code} {word}" for code, word in words)
    elif form == "i8":
        form = "u4 or i8 Unix seconds, 0 if unknown"
    elif column.form.axis:
        form += ", phases"

    meta = _described(f"{column.description}; {form}", _unit(column))
    return column.name, Annotated[bytes | None, meta], None


# Not a class statement, for its fields follow from the columns of readings.
Frame = cast(
    type[FrameHead],
    defstruct(
        "Frame",
        map(_packed, MEASURED_COLUMNS.values()),
        bases=(FrameHead,),
        namespace={"__doc__": FRAME_DESCRIPTION},
        module=__name__,
    ),
)


class FrameVersion(Struct, gc=False):
    """The one field that every version of a frame has."""

    version: int


JSON_CONTENT_TYPE = "application/json"
FRAME_VERSION: Literal[1] = 1
FRAME_CONTENT_TYPE = "application/vnd.meterwatch.frame+msgpack"

WORDS_BY_CODE = {
    name: column.words for name, column in ALL_COLUMNS.items() if column.words
}
"""The words on the wire, in the order of their codes; interned, for msgspec compares defaults by identity."""

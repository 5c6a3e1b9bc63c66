"""Kafka messages to batches. Whatever the bytes, a decoder returns: what cannot be read is refused, the rest lives."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from msgspec import Raw, json, msgpack
from msgspec.structs import astuple
from numpy.typing import NDArray

from schemas.alert import Alert
from schemas.columns import (
    COLUMN_TYPES,
    PHASE_COLUMNS,
    Batch,
    Codes,
    DeviceEvents,
    Names,
    Payments,
    Readings,
    Stages,
)
from schemas.master import Area
from schemas.wire.frame import pack, stack, unpack
from schemas.wire.records import (
    FIRST,
    FRAME,
    JSON,
    LARGEST_NUMBER,
    LAST,
    LONGEST_ID,
    WORDS,
    EventRecord,
    Frame,
    PaymentRecord,
    ReadingRecord,
    StageRecord,
)
from schemas.wire.refusal import Reason, Refusal, Refused, refused

Message = tuple[bytes | None, bytes | None, str, int]
"""Key, value, content type ("" when unknown), and when the broker received it in Unix seconds (0 when unknown)."""

LARGEST = 4 << 20  # bytes of a value
SHAPES = {ord("{"): "single", ord("["): "array"} | dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], "packed")
"""What a value's first byte tells; a msgpack map begins with 0x80 to 0x8f, 0xde or 0xdf."""

OPEN, CLOSE = b"{}"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

B = TypeVar("B", bound=Batch)


class Decoders(NamedTuple):
    """How the records of a kind are read from JSON."""

    one: json.Decoder[Any]
    many: json.Decoder[list[Any]]
    columns: Names


def _decoders(record: Any) -> Decoders:
    return Decoders(json.Decoder(record), json.Decoder(list[record]), record.__struct_fields__)


DECODERS: dict[type[Batch], Decoders] = {
    Readings: _decoders(ReadingRecord),
    DeviceEvents: _decoders(EventRecord),
    Payments: _decoders(PaymentRecord),
    Stages: _decoders(StageRecord),
}
AREAS = json.Decoder(Area)
ALERTS = json.Decoder(Alert)
ELEMENTS = json.Decoder(list[Raw])


def decode_readings(messages: Sequence[Message]) -> tuple[Readings | None, list[Refusal]]:
    """Readings in the order of their messages, None when there are none; and what was refused."""
    return _Intake(Readings, messages).decode()


def decode_events(messages: Sequence[Message]) -> tuple[DeviceEvents | None, list[Refusal]]:
    """Device events in the order of their messages, None when there are none; and what was refused."""
    return _Intake(DeviceEvents, messages).decode()


def decode_payments(messages: Sequence[Message]) -> tuple[Payments | None, list[Refusal]]:
    """Payments in the order of their messages, None when there are none; and what was refused."""
    return _Intake(Payments, messages).decode()


def decode_stages(messages: Sequence[Message]) -> tuple[Stages | None, list[Refusal]]:
    """Stage events in the order of their messages, None when there are none; and what was refused."""
    return _Intake(Stages, messages).decode()


def decode_areas(messages: Sequence[Message]) -> tuple[list[Area], list[Refusal]]:
    """Areas in the order of their messages, and what was refused. A tombstone (no value) is neither."""
    areas: list[Area] = []
    refusals: list[Refusal] = []
    for index, (key, value, content_type, _) in enumerate(messages):
        if value is None:
            continue
        try:
            _shape(value, content_type)
            area: Area = AREAS.decode(value)
            for name in (area.area, *(meter.meter for meter in area.meters)):
                _check_id(name)
            _area(area.area, _key(key))
        except (ValueError, RecursionError) as error:
            refusals.append(_refusal(value, error, index))
        else:
            areas.append(area)
    return areas, refusals


def decode_alert(value: bytes) -> Alert:
    """The alert. Raises Refused."""
    try:
        return ALERTS.decode(value)
    except (ValueError, RecursionError) as error:
        raise refused(error) from error


def _shape(value: bytes | None, content_type: str) -> str:
    """The shape that the first byte tells. Raises Refused."""
    if not value:
        raise Refused(Reason.EMPTY, "no value")
    if len(value) > LARGEST:
        raise Refused(Reason.TOO_LARGE, f"{len(value)} bytes, more than {LARGEST}")
    shape = SHAPES.get(value[0]) or SHAPES.get((value[:64].lstrip() or b" ")[0], "")
    if content_type == FRAME and shape != "packed":
        raise Refused(Reason.NOT_FRAME, "announced as a frame, but begins no msgpack map")
    if not shape or (content_type == JSON and shape == "packed"):
        raise Refused(Reason.NOT_JSON, "begins neither an object nor an array")
    return shape


def _key(key: bytes | None) -> str:
    """The area a message key names, "" when there is none. Raises Refused."""
    if not key:
        return ""
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise Refused(Reason.NOT_UTF8, f"key: {error}") from error
    _check_id(text)
    return text


def _check_id(text: str) -> None:
    if not (0 < len(text) <= LONGEST_ID and text.isprintable()):
        raise Refused(Reason.BAD_ID, f"an id is not 1 to {LONGEST_ID} printable characters")


def _area(told: str, key: str) -> str:
    """The area that value and key agree on. Raises Refused."""
    if not (told or key):
        raise Refused(Reason.NO_AREA, "no area in key or value")
    if told and key and told != key:
        raise Refused(Reason.AREA_MISMATCH, f"key {key}, value {told}")
    return told or key


def _refusal(value: bytes | None, error: Exception, index: int) -> Refusal:
    why = refused(error)
    return Refusal(value or b"", why.reason, str(why), index)


class _Rows(NamedTuple, Generic[B]):
    """A batch, and per row the message it came from and its place in that message."""

    batch: B
    messages: NDArray[np.intp]
    places: NDArray[np.intp]
    faults: dict[int, Refused]  # of rows that stand in the batch but must not stay


class _Intake(Generic[B]):
    """One decoding of a sequence of messages."""

    def __init__(self, kind: type[B], messages: Sequence[Message]) -> None:
        self.kind = kind
        self.messages = messages
        self.refusals: list[Refusal] = []
        self.keys: dict[bytes | None, str] = {}  # the area each key names

    def decode(self) -> tuple[B | None, list[Refusal]]:
        readers = {"single": self.singles, "array": self.arrays, "packed": self.frames}
        shapes: dict[int, str] = {}
        for index, (key, value, content_type, _) in enumerate(self.messages):
            try:
                if key not in self.keys:
                    self.keys[key] = _key(key)
                shapes[index] = _shape(value, content_type)
            except Refused as error:
                self.refuse(value, error, index)
        batches = []
        for shape, run in groupby(shapes, shapes.__getitem__):
            rows = readers[shape](list(run))
            if rows is not None:
                batches.append(self.sound(rows, shape))
        self.refusals.sort(key=lambda refusal: refusal.index)
        return self.kind.join(batches) if batches else None, self.refusals

    def refuse(self, value: bytes | None, error: Exception, index: int) -> None:
        self.refusals.append(_refusal(value, error, index))

    def singles(self, run: list[int]) -> _Rows[B] | None:
        """Messages of one record each."""
        values = [self.value(index) for index in run]
        records = self.joined(values)
        if records is None:
            records, kept = self.one_by_one(values, run)
            run = [run[place] for place in kept]
        return self.rows(records, run, [0] * len(run))

    def arrays(self, run: list[int]) -> _Rows[B] | None:
        """Messages of an array of records each."""
        records: list[Any] = []
        messages: list[int] = []
        places: list[int] = []
        decode = DECODERS[self.kind].many.decode
        for index in run:
            value = self.value(index)
            try:
                found = decode(value)
                kept: Iterable[int] = range(len(found))
            except (ValueError, RecursionError):
                try:
                    elements = [bytes(raw) for raw in ELEMENTS.decode(value)]
                except (ValueError, RecursionError) as error:
                    self.refuse(value, error, index)
                    continue
                found, kept = self.one_by_one(elements, [index] * len(elements))
            else:
                if not found:
                    self.refuse(value, Refused(Reason.EMPTY, "an empty array"), index)
            records += found
            messages += [index] * len(found)
            places += kept
        return self.rows(records, messages, places)

    def frames(self, run: list[int]) -> _Rows[B] | None:
        """Messages of a packed frame each."""
        messages: list[int] = []
        areas: list[str] = []
        frames: list[Frame] = []
        parts: list[dict[str, NDArray[Any]]] = []
        for index in run:
            value = self.value(index)
            try:
                if self.kind is not Readings:
                    raise Refused(Reason.NOT_JSON, "only readings come in frames")
                frame, columns = unpack(value)
                areas.append(_area(frame.area, self.keys[self.messages[index][0]]))
            except Refused as error:
                self.refuse(value, error, index)
            else:
                messages.append(index)
                frames.append(frame)
                parts.append(columns)
        if not frames:
            return None
        rows = [frame.rows for frame in frames]
        first = np.cumsum([0, *(len(frame.meters) for frame in frames)])
        names, codes = _coded(areas)
        batch = self.kind.build(
            names=chain.from_iterable(frame.meters for frame in frames),
            subject=np.concatenate([part.pop("meter") + code for part, code in zip(parts, first, strict=False)]),
            areas=names,
            area=np.repeat(codes, rows),
            **{name: stack(name, [part.get(name) for part in parts], rows) for name in set().union(*parts)},
        )
        return self.received(_Rows(batch, np.repeat(messages, rows), np.zeros(len(batch), np.intp), {}))

    def value(self, index: int) -> bytes:
        return self.messages[index][1] or b""

    def joined(self, values: list[bytes]) -> list[Any] | None:
        """The records of values that hold one object each, decoded at once; None when any is bad.

        No object can reach from one value into the next: each value begins and ends with a brace, no record nests
        objects, and a string cannot hold the raw line feed that parts two values.
        """
        if not all(value[0] == OPEN and value[-1] == CLOSE for value in values):
            return None
        try:
            records = DECODERS[self.kind].many.decode(b"[" + b",\n".join(values) + b"]")
        except (ValueError, RecursionError):
            return None
        return records if len(records) == len(values) else None

    def one_by_one(self, values: Sequence[bytes], messages: Sequence[int]) -> tuple[list[Any], list[int]]:
        """The records of the values that hold one, and the places of those values."""
        records, kept = [], []
        decode = DECODERS[self.kind].one.decode
        for place, value in enumerate(values):
            try:
                records.append(decode(value))
                kept.append(place)
            except (ValueError, RecursionError) as error:
                self.refuse(value, error, messages[place])
        return records, kept

    def rows(self, records: list[Any], messages: Sequence[int], places: Sequence[int]) -> _Rows[B] | None:
        """The records as columns."""
        if not records:
            return None
        told = dict(zip(DECODERS[self.kind].columns, zip(*map(astuple, records), strict=True), strict=True))
        areas, faults = self.areas(told.pop("area"), messages)
        columns: dict[str, Any] = dict(zip(("areas", "area"), _coded(areas), strict=True))
        for names, codes in self.kind.encodings().items():
            if codes in told:
                columns[names], columns[codes] = _coded(told.pop(codes))
        for name, values in told.items():
            columns[name] = _column(name, values)
        batch = self.kind.build(**columns)
        return self.received(_Rows(batch, np.array(messages, np.intp), np.array(places, np.intp), faults))

    def areas(self, told: Sequence[str], messages: Sequence[int]) -> tuple[list[str], dict[int, Refused]]:
        """Each row's area by its record or the key of its message, and which rows have none."""
        areas = [self.keys[self.messages[index][0]] for index in messages]
        faults: dict[int, Refused] = {}
        if any(told) or not all(areas):
            for row, (by_record, by_key) in enumerate(zip(told, areas, strict=True)):
                try:
                    areas[row] = _area(by_record, by_key)
                except Refused as error:
                    faults[row] = error
        return areas, faults

    def received(self, rows: _Rows[B]) -> _Rows[B]:
        """Readings that do not tell when they were received were so when the broker got their message."""
        if not isinstance(rows.batch, Readings):
            return rows
        broker = np.array([when if FIRST <= when <= LAST else 0 for _, _, _, when in self.messages], np.int64)
        received = np.where(rows.batch.received == 0, broker[rows.messages], rows.batch.received)
        return rows._replace(batch=replace(rows.batch, received=received))

    def sound(self, rows: _Rows[B], shape: str) -> B:
        """The rows without fault; the others are refused."""
        faults = _faults(rows.batch) | rows.faults
        if not faults:
            return rows.batch
        elements: dict[int, list[Raw]] = {}
        for row, error in faults.items():
            index = int(rows.messages[row])
            value = self.value(index)
            if shape == "array":
                if index not in elements:
                    elements[index] = ELEMENTS.decode(value)
                value = bytes(elements[index][rows.places[row]])
            elif shape == "packed":
                value = pack(rows.batch.rows([row]), rows.batch.areas[rows.batch.area[row]])
            self.refuse(value, error, index)
        keep = np.ones(len(rows.batch), bool)
        keep[list(faults)] = False
        return rows.batch.rows(keep)


def _coded(words: Sequence[str]) -> tuple[Names, Codes]:
    names = tuple(dict.fromkeys(words))
    codes = dict(zip(names, range(len(names)), strict=True))
    return names, np.fromiter(map(codes.__getitem__, words), np.int32, len(words))


def _column(name: str, values: Sequence[Any]) -> NDArray[Any] | None:
    """A field of all records as a column; None when none tells it."""
    if name in WORDS:
        codes = {word: code for code, word in enumerate(WORDS[name])}
        return np.fromiter(map(codes.__getitem__, values), np.uint8, len(values))
    kind = COLUMN_TYPES.get(name, np.int64)
    types = set(map(type, values))
    if types == {type(None)}:
        return None
    if datetime in types:
        return np.array([_seconds(value) for value in values], np.int64)
    if name not in PHASE_COLUMNS:
        numbers = np.array(values, np.float64 if kind is np.float32 else kind)
    elif types == {tuple}:
        numbers = np.array(list(chain.from_iterable(values)), np.float64).reshape(-1, 3).T
    else:
        phases = [value if type(value) is tuple else (value, None, None) for value in values]
        numbers = np.array(phases, np.float64).T
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers, kind)


def _seconds(value: int | datetime) -> int:
    return (value - EPOCH) // SECOND if isinstance(value, datetime) else value


def _faults(batch: Batch) -> dict[int, Refused]:
    """What is wrong in the rows, found column by column."""
    faults: dict[int, Refused] = {}

    def fault(rows: Any, reason: Reason, detail: str) -> None:
        for row in np.flatnonzero(rows).tolist():
            faults.setdefault(row, Refused(reason, detail))

    for names, codes in batch.encodings().items():
        words = getattr(batch, names)
        if not "".join(words).isprintable():
            odd = [code for code, word in enumerate(words) if not word.isprintable()]
            fault(np.isin(getattr(batch, codes), odd), Reason.BAD_ID, f"{codes} is not printable")
    for field in fields(batch):
        name, column = field.name, getattr(batch, field.name)
        if name in WORDS:
            fault(column >= len(WORDS[name]), Reason.UNKNOWN_VALUE, f"{name} is none of {len(WORDS[name])} codes")
        elif name == "at" or COLUMN_TYPES.get(name) is np.int64:
            odd_times = (column < FIRST) | (column > LAST)
            fault(
                odd_times if name == "at" else odd_times & (column != 0),
                Reason.BAD_TIME,
                f"{name} is not in 2000 to 2100; it is in Unix seconds",
            )
        elif isinstance(column, np.ndarray) and column.dtype.kind == "f" and column.strides[-1]:
            huge = np.abs(column) > LARGEST_NUMBER
            if huge.any():
                rows = huge.any(axis=0) if huge.ndim > 1 else huge
                infinite = np.isinf(column).any(axis=0) if huge.ndim > 1 else np.isinf(column)
                fault(infinite, Reason.NOT_FINITE, f"{name} is not finite")
                fault(rows, Reason.OUT_OF_RANGE, f"{name} is beyond {LARGEST_NUMBER:g}")
    return faults

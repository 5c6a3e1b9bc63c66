"""Kafka messages to batches. Whatever the bytes, a decoder returns: what cannot be read is refused, the rest lives."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from msgspec import Raw, json
from msgspec.structs import astuple
from numpy.typing import NDArray

from schemas.alert import Alert
from schemas.columns import EARLIEST, LATEST, Batch, Codes, DeviceEvents, Names, Payments, Readings, Stages
from schemas.master import Area, texts
from schemas.wire.assembly import coded, column, events, faults, subjects
from schemas.wire.frame import pack, stack, unpack
from schemas.wire.records import (
    FRAME,
    JSON,
    LONGEST_ID,
    EventRecord,
    Frame,
    PaymentRecord,
    ReadingRecord,
    StageRecord,
    UsualReadingRecord,
)
from schemas.wire.refusal import Reason, Refusal, RefusedError, refused

Message = tuple[bytes | None, bytes | None, str, int]
"""Key, value, content type ("" when unknown), and when the broker received it in Unix seconds (0 when unknown)."""

LARGEST = 4 << 20  # bytes of a value
MOST = LARGEST // 32  # elements of an array that are looked at one by one
PIECE = 1 << 16  # bytes of values that are decoded at once
AHEAD = 86_400  # seconds that payments and stage events may be ahead of the broker: their stamps move clocks
OPEN = b"{"
SHAPES = {ord("{"): "single", ord("["): "array"} | dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], "packed")
"""What a value's first byte tells; a msgpack map begins with 0x80 to 0x8f, 0xde or 0xdf."""

B = TypeVar("B", bound=Batch)


class Decoders(NamedTuple):
    """How records are read from JSON; many of them first as what most are."""

    one: json.Decoder[Any]
    many: json.Decoder[list[Any]]
    usual: json.Decoder[list[Any]]

    def array(self, value: bytes) -> list[Any]:
        """The records of an array, all of one type. Raises ValueError or RecursionError when it is none."""
        try:
            return self.usual.decode(value)
        except ValueError:
            if self.usual is self.many:
                raise
            return self.many.decode(value)


def _decoders(record: Any, usual: Any = None) -> Decoders:
    many = json.Decoder(list[record])
    return Decoders(json.Decoder(record), many, json.Decoder(list[usual]) if usual else many)


DECODERS: dict[type[Batch], Decoders] = {
    Readings: _decoders(ReadingRecord, UsualReadingRecord),
    DeviceEvents: _decoders(EventRecord),
    Payments: _decoders(PaymentRecord),
    Stages: _decoders(StageRecord),
}
AREAS = json.Decoder(Area)
ALERTS = json.Decoder(Alert)
ELEMENTS = json.Decoder(list[Raw])


def decode_readings(messages: Sequence[Message]) -> tuple[Readings | None, list[Refusal]]:
    """Readings in the order of their messages, None when there are none; and what was refused."""
    return _decode(Readings, messages)


def decode_events(messages: Sequence[Message]) -> tuple[DeviceEvents | None, list[Refusal]]:
    """Device events in the order of their messages, None when there are none; and what was refused."""
    return _decode(DeviceEvents, messages)


def decode_payments(messages: Sequence[Message]) -> tuple[Payments | None, list[Refusal]]:
    """Payments in the order of their messages, None when there are none; and what was refused."""
    return _decode(Payments, messages)


def decode_stages(messages: Sequence[Message]) -> tuple[Stages | None, list[Refusal]]:
    """Stage events in the order of their messages, None when there are none; and what was refused."""
    return _decode(Stages, messages)


def decode_areas(messages: Sequence[Message]) -> tuple[list[Area], list[Refusal]]:
    """Areas in the order of their messages, and what was refused. A tombstone (no value) is neither."""
    areas: list[Area] = []
    refusals: list[Refusal] = []
    for index, (key, value, content_type, _) in enumerate(messages):
        if value is None:
            continue
        try:
            shape = _shape(value, content_type)
            if isinstance(shape, RefusedError):
                raise shape
            area = AREAS.decode(value)
            check_texts(area)
            _agreed(area.area, _area(key))
        except (ValueError, RecursionError) as error:
            refusals.append(_refusal(value, error, index))
        else:
            areas.append(area)
    return areas, refusals


def decode_alert(value: bytes) -> Alert:
    """The alert. Raises RefusedError."""
    try:
        alert = ALERTS.decode(value)
    except (ValueError, RecursionError) as error:
        raise refused(error) from error
    if not all(0 <= at < LATEST for at in (alert.since, alert.raised, alert.at)):
        raise RefusedError(Reason.BAD_TIME, "since, raised or at is not within 1970 to 2100 in Unix seconds")
    return alert


def _decode(kind: type[B], messages: Sequence[Message]) -> tuple[B | None, list[Refusal]]:
    if not messages:
        return None, []
    intake = _Intake(kind, messages)
    batches = [batch for shape, piece in intake.pieces() if (batch := intake.batch(shape, piece)) is not None]
    refusals = sorted(intake.refusals, key=lambda refusal: refusal.index)
    return kind.join(batches) if batches else None, refusals


def _shape(value: bytes | None, content_type: str) -> str | RefusedError:
    """The shape that the first byte tells."""
    if not value:
        return RefusedError(Reason.EMPTY, "no value")
    if len(value) > LARGEST:
        return RefusedError(Reason.TOO_LARGE, f"{len(value)} bytes, more than {LARGEST}")
    shape: str = SHAPES.get(value[0]) or SHAPES.get((value[:64].lstrip() or b" ")[0], "")
    if content_type == FRAME and shape != "packed":
        return RefusedError(Reason.NOT_FRAME, "announced as a frame, but begins no msgpack map")
    if not shape or (content_type == JSON and shape == "packed"):
        return RefusedError(Reason.NOT_JSON, "begins neither an object nor an array")
    return shape


def _shapes(values: Sequence[bytes | None], content_types: Sequence[str]) -> list[str | RefusedError]:
    """The shape of each value; those that begin alike and are announced alike are of one."""
    begin = {value and value[:1] for value in values}
    if len(begin) == 1 == len(set(content_types)) and max(len(value or b"") for value in values) <= LARGEST:
        first = values[0]
        if first and first[0] in SHAPES:
            return [_shape(first, content_types[0])] * len(values)
    return list(map(_shape, values, content_types))


def _area(key: bytes | None) -> str:
    """The area a message key names, "" when it names none. Raises RefusedError."""
    if not key:
        return ""
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(Reason.NOT_UTF8, f"key: {error}") from error
    _check_id(text)
    return text


def check_texts(area: Area) -> None:
    """Raises RefusedError where text of a record is longer than an id or not printable."""
    for name in (area.area, *(meter.meter for meter in area.meters)):
        _check_id(name)
    for text in filter(None, texts(area)):
        _check_id(text)


def _check_id(text: str) -> None:
    if not (0 < len(text) <= LONGEST_ID and text.isprintable()):
        raise RefusedError(Reason.BAD_ID, f"an id is not 1 to {LONGEST_ID} printable characters")


def _agreed(told: str, key: str) -> str:
    """The area that value and key agree on. Raises RefusedError."""
    if not (told or key):
        raise RefusedError(Reason.NO_AREA, "no area in key or value")
    if told and key and told != key:
        raise RefusedError(Reason.AREA_MISMATCH, f"key {key}, value {told}")
    return told or key


def _refusal(value: bytes | None, error: Exception, index: int) -> Refusal:
    why = refused(error)
    return Refusal(value or b"", why.reason, str(why), index)


def alike(records: list[Any]) -> list[Any]:
    """The records as of one type: the usual ones, where others have more fields, as those."""
    kinds: set[Any] = set(map(type, records))
    if len(kinds) < 2:
        return records
    widest = max(kinds, key=lambda kind: len(kind.__struct_fields__))
    return [r if type(r) is widest else widest(**{n: getattr(r, n) for n in r.__struct_fields__}) for r in records]


class _Rows(NamedTuple, Generic[B]):
    """A batch; per row its message; per array the places of its rows; and the rows already known to be bad."""

    batch: B
    messages: NDArray[np.intp]
    places: Sequence[Sequence[int]]
    faults: dict[int, RefusedError]


class _Intake(Generic[B]):
    """Messages as columns, on their way to batches."""

    def __init__(self, kind: type[B], messages: Sequence[Message]) -> None:
        keys = [message[0] for message in messages]
        named: dict[bytes | None, str] = {}
        unreadable: dict[bytes | None, RefusedError] = {}
        for key in set(keys):
            try:
                named[key] = _area(key)
            except RefusedError as error:
                named[key], unreadable[key] = "", error
        self.kind = kind
        self.values: list[Any] = [message[1] for message in messages]
        self.area_names, codes = coded(list(named.values()))  # that the keys name
        number = dict(zip(named, codes.tolist(), strict=True))
        self.areas = np.array([number[key] for key in keys], np.int32)  # into area_names
        self.times = np.array([message[3] for message in messages], np.int64)
        self.times[(self.times < EARLIEST) | (self.times >= LATEST)] = 0
        self.refusals: list[Refusal] = []
        self.verdicts = _shapes(self.values, [message[2] for message in messages])
        if unreadable:
            verdicts = zip(keys, self.verdicts, strict=True)
            self.verdicts = [unreadable.get(key, verdict) for key, verdict in verdicts]

    def pieces(self) -> Iterator[tuple[str, list[int]]]:
        """The readable messages by shape, in order; those in JSON in pieces whose records fit a processor's cache."""
        shapes: dict[int, str] = {}
        for index, verdict in enumerate(self.verdicts):
            if isinstance(verdict, str):
                shapes[index] = verdict
            else:
                self.refuse(self.values[index], verdict, index)
        for shape, group in groupby(shapes, shapes.__getitem__):
            run = list(group)
            passed = np.cumsum([len(self.values[index]) for index in run]) // PIECE
            cuts = [] if shape == "packed" else (np.flatnonzero(np.diff(passed)) + 1).tolist()
            for first, last in pairwise([0, *cuts, len(run)]):
                yield shape, run[first:last]

    def batch(self, shape: str, piece: list[int]) -> B | None:
        """The rows of a piece that are sound, None when there are none."""
        readers = {"single": self.singles, "array": self.arrays, "packed": self.frames}
        rows = readers[shape](piece)
        return None if rows is None else self.sound(rows, shape)

    def refuse(self, value: bytes | None, error: Exception, index: int) -> None:
        self.refusals.append(_refusal(value, error, index))

    def singles(self, run: list[int]) -> _Rows[B] | None:
        """The rows of messages of one record each."""
        values = [self.values[index] for index in run]
        records = self.joined(values)
        if records is None:
            records, kept = self.one_by_one(values, run)
            run = [run[place] for place in kept]
        return self.rows(records, np.array(run, np.intp), ())

    def arrays(self, run: list[int]) -> _Rows[B] | None:
        """The rows of messages of an array of records each."""
        records: list[Any] = []
        messages: list[int] = []
        places: list[Sequence[int]] = []
        for index in run:
            try:
                found, kept = self.elements(index)
            except (ValueError, RecursionError) as error:
                self.refuse(self.values[index], error, index)
            else:
                records += found
                messages.append(index)
                places.append(kept)
        return self.rows(alike(records), np.repeat(np.array(messages, np.intp), list(map(len, places))), places)

    def elements(self, index: int) -> tuple[list[Any], Sequence[int]]:
        """The records of an array, and their places in it. Raises ValueError or RecursionError when it is none."""
        try:
            records = DECODERS[self.kind].array(self.values[index])
        except (ValueError, RecursionError):
            values = [bytes(raw) for raw in ELEMENTS.decode(self.values[index])]
            if len(values) > MOST:
                raise RefusedError(Reason.TOO_LARGE, f"{len(values)} elements, not all of them records") from None
            return self.one_by_one(values, [index] * len(values))
        if not records:
            raise RefusedError(Reason.EMPTY, "an empty array")
        return records, range(len(records))

    def joined(self, values: list[bytes]) -> list[Any] | None:
        """The records of values that hold one object each, decoded at once; None when any is bad.

        No object can reach from one value into the next: each value begins an object, no record nests objects, and a
        string cannot hold the raw line feed that parts two values.
        """
        if {value[:1] for value in values} != {OPEN}:
            return None
        try:
            records = DECODERS[self.kind].array(b"[" + b",\n".join(values) + b"]")
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

    def rows(
        self, records: list[Any], messages: NDArray[np.intp], places: Sequence[Sequence[int]]
    ) -> _Rows[B] | None:
        """The records as columns."""
        if not records:
            return None
        told = dict(zip(records[0].__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
        columns: dict[str, Any] = {}
        columns["areas"], columns["area"], astray = self.agreed(told.pop("area"), messages)
        if self.kind is DeviceEvents:
            systems, codes = told.pop("system"), told.pop("code")
            told["event"], unread = events(told["event"], systems, codes)
            told["subject"] = subjects(told["subject"], systems, codes)
            astray = unread | astray
        for names, codes in self.kind.encodings().items():
            if codes in told:
                columns[names], columns[codes] = coded(told.pop(codes))
        for name, values in told.items():
            columns[name] = column(name, values)
        return self.received(_Rows(self.kind.build(**columns), messages, places, astray))

    def agreed(
        self, told: Sequence[str], messages: NDArray[np.intp]
    ) -> tuple[Names, Codes, dict[int, RefusedError]]:
        """The area of each row, by its record or the key of its message, and which rows have none."""
        codes = self.areas[messages]
        astray: dict[int, RefusedError] = {}
        if all(self.area_names) and not any(told):
            return self.area_names, codes, astray
        areas = [self.area_names[code] for code in codes.tolist()]
        for row, (by_record, by_key) in enumerate(zip(told, areas, strict=True)):
            try:
                areas[row] = _agreed(by_record, by_key)
            except RefusedError as error:
                astray[row] = error
        return (*coded(areas), astray)

    def frames(self, run: list[int]) -> _Rows[B] | None:
        """The rows of messages of a packed frame each."""
        messages: list[int] = []
        areas: list[str] = []
        frames: list[Frame] = []
        parts: list[dict[str, NDArray[Any]]] = []
        for index in run:
            try:
                if self.kind is not Readings:
                    raise RefusedError(Reason.NOT_JSON, "only readings come in frames")
                frame, columns = unpack(self.values[index])
                areas.append(_agreed(frame.area, self.area_names[self.areas[index]]))
            except RefusedError as error:
                self.refuse(self.values[index], error, index)
            else:
                messages.append(index)
                frames.append(frame)
                parts.append(columns)
        if not frames:
            return None
        rows = [frame.rows for frame in frames]
        first = np.cumsum([0, *(len(frame.meters) for frame in frames)])
        names, codes = coded(areas)
        batch = self.kind.build(
            names=chain.from_iterable(frame.meters for frame in frames),
            subject=np.concatenate([part.pop("meter") + code for part, code in zip(parts, first, strict=False)]),
            areas=names,
            area=np.repeat(codes, rows),
            **{name: stack(name, [part.get(name) for part in parts], rows) for name in set().union(*parts)},
        )
        return self.received(_Rows(batch, np.repeat(messages, rows), (), {}))

    def received(self, rows: _Rows[B]) -> _Rows[B]:
        """Readings that do not tell when they were received were so when the broker got their message."""
        if not isinstance(rows.batch, Readings):
            return rows
        told = rows.batch.received
        return rows._replace(batch=replace(rows.batch, received=np.where(told, told, self.times[rows.messages])))

    def early(self, rows: _Rows[B]) -> dict[int, RefusedError]:
        """The payments and stage events that say they come from the future."""
        if not isinstance(rows.batch, (Payments, Stages)):
            return {}
        received = self.times[rows.messages]
        early = np.flatnonzero((received > 0) & (rows.batch.at > received + AHEAD)).tolist()
        return dict.fromkeys(early, RefusedError(Reason.BAD_TIME, "at is more than a day ahead of the broker's clock"))

    def sound(self, rows: _Rows[B], shape: str) -> B | None:
        """The rows without fault, None when there are none; the others are refused."""
        batch = rows.batch
        bad = self.early(rows) | faults(batch) | rows.faults
        if not bad:
            return batch
        places = list(chain.from_iterable(rows.places))
        elements: dict[int, list[Raw]] = {}
        alike: dict[tuple[int, RefusedError], list[int]] = {}
        for row, error in bad.items():
            index = int(rows.messages[row])
            value = self.values[index]
            if shape == "array":
                if index not in elements:
                    elements[index] = ELEMENTS.decode(value)
                value = bytes(elements[index][places[row]])
            elif shape == "packed":
                alike.setdefault((index, error), []).append(row)
                continue
            self.refuse(value, error, index)
        for (index, error), same in alike.items():
            if isinstance(batch, Readings):
                value = pack(batch.rows(same), batch.areas[batch.area[same[0]]])
                self.refusals.append(Refusal(value, error.reason, str(error), index, len(same)))
        keep = np.ones(len(batch), bool)
        keep[list(bad)] = False
        return batch.rows(keep) if keep.any() else None

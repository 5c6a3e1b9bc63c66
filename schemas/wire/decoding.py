"""Kafka messages to batches. Whatever the bytes, a decoder returns: what cannot be read is refused, the rest lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Raw, json
from msgspec.structs import astuple
from numpy.typing import NDArray

from schemas.alert import Alert, renamed_fields
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    Batch,
    Codes,
    DeviceEvents,
    Names,
    Payments,
    Readings,
    Stages,
)
from schemas.master import Area, texts
from schemas.wire.assembly import coded, column, events, faults, subjects
from schemas.wire.frame import pack, stack, unpack
from schemas.wire.records import (
    FRAME_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    LONGEST_ID,
    EventRecord,
    Frame,
    PaymentRecord,
    ReadingRecord,
    StageRecord,
    UsualReadingRecord,
)
from schemas.wire.rejection import Reason, RejectedError, Rejection, rejected_error

Message = tuple[bytes | None, bytes | None, str, int]
"""Key, value, content type ("" when unknown), and when the broker received it in Unix seconds (0 when unknown)."""

LARGEST_VALUE_BYTES = 4 << 20  # bytes of a value
# elements of an array that are looked at one by one
LARGEST_MIXED_ARRAY = LARGEST_VALUE_BYTES // 32
DECODED_BYTES = 1 << 16  # bytes of values that are decoded at once
FUTURE_TOLERANCE_SECONDS = 86_400  # seconds that payments and stage events may be ahead of the broker: their stamps move clocks
OBJECT_START = b"{"
SHAPES_BY_BYTE = {ord("{"): "single", ord("["): "array"} | dict.fromkeys(
    [*range(0x80, 0x90), 0xDE, 0xDF], "packed"
)
"""What a value's first byte tells; a msgpack map begins with 0x80 to 0x8f, 0xde or 0xdf."""

AnyBatch = TypeVar("AnyBatch", bound=Batch)


class _RecordDecoders(NamedTuple):
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


def _decoders(record: Any, usual: Any = None) -> _RecordDecoders:
    many = json.Decoder(list[record])
    return _RecordDecoders(
        json.Decoder(record), many, json.Decoder(list[usual]) if usual else many
    )


RECORD_DECODERS: dict[type[Batch], _RecordDecoders] = {
    Readings: _decoders(ReadingRecord, UsualReadingRecord),
    DeviceEvents: _decoders(EventRecord),
    Payments: _decoders(PaymentRecord),
    Stages: _decoders(StageRecord),
}
AREA_DECODER = json.Decoder(Area)
ALERT_DECODER = json.Decoder(Alert)
ARRAY_DECODER = json.Decoder(list[Raw])


def decode_readings(
    messages: Sequence[Message],
) -> tuple[Readings | None, list[Rejection]]:
    """Readings in the order of their messages, None when there are none; and what was refused."""
    return _decode(Readings, messages)


def decode_events(
    messages: Sequence[Message],
) -> tuple[DeviceEvents | None, list[Rejection]]:
    """Device events in the order of their messages, None when there are none; and what was refused."""
    return _decode(DeviceEvents, messages)


def decode_payments(
    messages: Sequence[Message],
) -> tuple[Payments | None, list[Rejection]]:
    """Payments in the order of their messages, None when there are none; and what was refused."""
    return _decode(Payments, messages)


def decode_stages(messages: Sequence[Message]) -> tuple[Stages | None, list[Rejection]]:
    """Stage events in the order of their messages, None when there are none; and what was refused."""
    return _decode(Stages, messages)


def decode_areas(messages: Sequence[Message]) -> tuple[list[Area], list[Rejection]]:
    """Areas in the order of their messages, and what was refused. A tombstone (no value) is neither."""
    areas: list[Area] = []
    refusals: list[Rejection] = []
    for index, (key, value, content_type, _) in enumerate(messages):
        if value is None:
            continue
        try:
            shape = _shape(value, content_type)
            if isinstance(shape, RejectedError):
                raise shape
            area = AREA_DECODER.decode(value)
            check_texts(area)
            _agreed(area.area, _area(key))
        except (ValueError, RecursionError) as error:
            refusals.append(_rejection(value, error, index))
        else:
            areas.append(area)
    return areas, refusals


def decode_alert(value: bytes) -> Alert:
    """The alert. Raises RefusedError."""
    try:
        alert = (
            ALERT_DECODER.decode(value)
            if b'"held":' not in value
            else _older_alert(value)
        )
    except (ValueError, RecursionError) as error:
        raise rejected_error(error) from error
    if not all(0 <= at < LATEST_TIME for at in (alert.since, alert.raised, alert.at)):
        raise RejectedError(
            Reason.BAD_TIME,
            "since, raised or at is not within 1970 to 2100 in Unix seconds",
        )
    return alert


def _older_alert(value: bytes) -> Alert:
    """An alert published before its fields had the names of today. Raises ValueError."""
    fields = msgspec.json.decode(value, type=dict[str, Any])
    return msgspec.convert(
        renamed_fields(fields) if "held" in fields else fields, Alert
    )


def _decode(
    kind: type[AnyBatch], messages: Sequence[Message]
) -> tuple[AnyBatch | None, list[Rejection]]:
    if not messages:
        return None, []
    intake = _BatchDecoder(kind, messages)
    batches = [
        batch
        for shape, piece in intake.chunks()
        if (batch := intake.batch(shape, piece)) is not None
    ]
    refusals = sorted(intake.rejections, key=lambda refusal: refusal.index)
    return kind.join(batches) if batches else None, refusals


def _shape(value: bytes | None, content_type: str) -> str | RejectedError:
    """The shape that the first byte tells."""
    if not value:
        return RejectedError(Reason.EMPTY, "no value")
    if len(value) > LARGEST_VALUE_BYTES:
        return RejectedError(
            Reason.TOO_LARGE, f"{len(value)} bytes, more than {LARGEST_VALUE_BYTES}"
        )
    shape: str = SHAPES_BY_BYTE.get(value[0]) or SHAPES_BY_BYTE.get(
        (value[:64].lstrip() or b" ")[0], ""
    )
    if content_type == FRAME_CONTENT_TYPE and shape != "packed":
        return RejectedError(
            Reason.NOT_FRAME, "announced as a frame, but begins no msgpack map"
        )
    if not shape or (content_type == JSON_CONTENT_TYPE and shape == "packed"):
        return RejectedError(Reason.NOT_JSON, "begins neither an object nor an array")
    return shape


def _shapes(
    values: Sequence[bytes | None], content_types: Sequence[str]
) -> list[str | RejectedError]:
    """The shape of each value; those that begin alike and are announced alike are of one."""
    begin = {value and value[:1] for value in values}
    if (
        len(begin) == 1 == len(set(content_types))
        and max(len(value or b"") for value in values) <= LARGEST_VALUE_BYTES
    ):
        first = values[0]
        if first and first[0] in SHAPES_BY_BYTE:
            return [_shape(first, content_types[0])] * len(values)
    return list(map(_shape, values, content_types))


def _area(key: bytes | None) -> str:
    """The area a message key names, "" when it names none. Raises RefusedError."""
    if not key:
        return ""
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(Reason.NOT_UTF8, f"key: {error}") from error
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
        raise RejectedError(
            Reason.BAD_ID, f"an id is not 1 to {LONGEST_ID} printable characters"
        )


def _agreed(in_value: str, key: str) -> str:
    """The area that value and key agree on. Raises RefusedError."""
    if not (in_value or key):
        raise RejectedError(Reason.NO_AREA, "no area in key or value")
    if in_value and key and in_value != key:
        raise RejectedError(Reason.AREA_MISMATCH, f"key {key}, value {in_value}")
    return in_value or key


def _rejection(value: bytes | None, error: Exception, index: int) -> Rejection:
    why = rejected_error(error)
    return Rejection(value or b"", why.reason, str(why), index)


def _of_one_type(records: list[Any]) -> list[Any]:
    """The records as of one type: the usual ones, where others have more fields, as those."""
    kinds: set[Any] = set(map(type, records))
    if len(kinds) < 2:
        return records
    widest = max(kinds, key=lambda kind: len(kind.__struct_fields__))
    return [
        r
        if type(r) is widest
        else widest(**{n: getattr(r, n) for n in r.__struct_fields__})
        for r in records
    ]


class _Rows(NamedTuple, Generic[AnyBatch]):
    """A batch; per row its message; per array the places of its rows; and the rows already known to be bad."""

    batch: AnyBatch
    messages: NDArray[np.intp]
    positions: Sequence[Sequence[int]]
    faults: dict[int, RejectedError]


class _BatchDecoder(Generic[AnyBatch]):
    """Messages as columns, on their way to batches."""

    def __init__(self, kind: type[AnyBatch], messages: Sequence[Message]) -> None:
        keys = [message[0] for message in messages]
        named: dict[bytes | None, str] = {}
        unreadable: dict[bytes | None, RejectedError] = {}
        for key in set(keys):
            try:
                named[key] = _area(key)
            except RejectedError as error:
                named[key], unreadable[key] = "", error
        self._kind = kind
        self._values: list[Any] = [message[1] for message in messages]
        self._area_names, codes = coded(list(named.values()))  # that the keys name
        number = dict(zip(named, codes.tolist(), strict=True))
        # into area_names
        self._areas = np.array([number[key] for key in keys], np.int32)
        self._broker_times = np.array([message[3] for message in messages], np.int64)
        self._broker_times[
            (self._broker_times < EARLIEST_TIME) | (self._broker_times >= LATEST_TIME)
        ] = 0
        self.rejections: list[Rejection] = []
        self._verdicts = _shapes(self._values, [message[2] for message in messages])
        if unreadable:
            verdicts = zip(keys, self._verdicts, strict=True)
            self._verdicts = [unreadable.get(key, verdict) for key, verdict in verdicts]

    def chunks(self) -> Iterator[tuple[str, list[int]]]:
        """The readable messages by shape, in order; those in JSON in pieces whose records fit a processor's cache."""
        shapes: dict[int, str] = {}
        for index, verdict in enumerate(self._verdicts):
            if isinstance(verdict, str):
                shapes[index] = verdict
            else:
                self._reject(self._values[index], verdict, index)
        for shape, group in groupby(shapes, shapes.__getitem__):
            run = list(group)
            passed = (
                np.cumsum([len(self._values[index]) for index in run]) // DECODED_BYTES
            )
            cuts = (
                []
                if shape == "packed"
                else (np.flatnonzero(np.diff(passed)) + 1).tolist()
            )
            for first, last in pairwise([0, *cuts, len(run)]):
                yield shape, run[first:last]

    def batch(self, shape: str, chunk: list[int]) -> AnyBatch | None:
        """The rows of a piece that are sound, None when there are none."""
        readers = {
            "single": self._single_rows,
            "array": self._array_rows,
            "packed": self._frame_rows,
        }
        rows = readers[shape](chunk)
        return None if rows is None else self._without_faults(rows, shape)

    def _reject(self, value: bytes | None, error: Exception, index: int) -> None:
        self.rejections.append(_rejection(value, error, index))

    def _single_rows(self, run: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of one record each."""
        values = [self._values[index] for index in run]
        records = self._decode_joined(values)
        if records is None:
            records, kept = self._decode_each(values, run)
            run = [run[place] for place in kept]
        return self._rows_of(records, np.array(run, np.intp), ())

    def _array_rows(self, run: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of an array of records each."""
        records: list[Any] = []
        messages: list[int] = []
        places: list[Sequence[int]] = []
        for index in run:
            try:
                found, kept = self._array_records(index)
            except (ValueError, RecursionError) as error:
                self._reject(self._values[index], error, index)
            else:
                records += found
                messages.append(index)
                places.append(kept)
        return self._rows_of(
            _of_one_type(records),
            np.repeat(np.array(messages, np.intp), list(map(len, places))),
            places,
        )

    def _array_records(self, index: int) -> tuple[list[Any], Sequence[int]]:
        """The records of an array, and their places in it. Raises ValueError or RecursionError when it is none."""
        try:
            records = RECORD_DECODERS[self._kind].array(self._values[index])
        except (ValueError, RecursionError):
            values = [bytes(raw) for raw in ARRAY_DECODER.decode(self._values[index])]
            if len(values) > LARGEST_MIXED_ARRAY:
                raise RejectedError(
                    Reason.TOO_LARGE, f"{len(values)} elements, not all of them records"
                ) from None
            return self._decode_each(values, [index] * len(values))
        if not records:
            raise RejectedError(Reason.EMPTY, "an empty array")
        return records, range(len(records))

    def _decode_joined(self, values: list[bytes]) -> list[Any] | None:
        """The records of values that hold one object each, decoded at once; None when any is bad.

        No object can reach from one value into the next: each value begins an object, no record nests objects, and a
        string cannot hold the raw line feed that parts two values.
        """
        if {value[:1] for value in values} != {OBJECT_START}:
            return None
        try:
            records = RECORD_DECODERS[self._kind].array(
                b"[" + b",\n".join(values) + b"]"
            )
        except (ValueError, RecursionError):
            return None
        return records if len(records) == len(values) else None

    def _decode_each(
        self, values: Sequence[bytes], messages: Sequence[int]
    ) -> tuple[list[Any], list[int]]:
        """The records of the values that hold one, and the places of those values."""
        records, kept = [], []
        decode = RECORD_DECODERS[self._kind].one.decode
        for place, value in enumerate(values):
            try:
                records.append(decode(value))
                kept.append(place)
            except (ValueError, RecursionError) as error:
                self._reject(value, error, messages[place])
        return records, kept

    def _rows_of(
        self,
        records: list[Any],
        messages: NDArray[np.intp],
        positions: Sequence[Sequence[int]],
    ) -> _Rows[AnyBatch] | None:
        """The records as columns."""
        if not records:
            return None
        told = dict(
            zip(
                records[0].__struct_fields__,
                zip(*map(astuple, records), strict=True),
                strict=True,
            )
        )
        columns: dict[str, Any] = {}
        columns["areas"], columns["area"], astray = self._row_areas(
            told.pop("area"), messages
        )
        if self._kind is DeviceEvents:
            systems, codes = told.pop("system"), told.pop("code")
            told["event"], unread = events(told["event"], systems, codes)
            told["subject"] = subjects(told["subject"], systems, codes)
            astray = unread | astray
        for names, codes in self._kind.encodings().items():
            if codes in told:
                columns[names], columns[codes] = coded(told.pop(codes))
        for name, values in told.items():
            columns[name] = column(name, values)
        return self._with_receipt_times(
            _Rows(self._kind.build(**columns), messages, positions, astray)
        )

    def _row_areas(
        self, record_areas: Sequence[str], messages: NDArray[np.intp]
    ) -> tuple[Names, Codes, dict[int, RejectedError]]:
        """The area of each row, by its record or the key of its message, and which rows have none."""
        codes = self._areas[messages]
        astray: dict[int, RejectedError] = {}
        if all(self._area_names) and not any(record_areas):
            return self._area_names, codes, astray
        areas = [self._area_names[code] for code in codes.tolist()]
        for row, (by_record, by_key) in enumerate(
            zip(record_areas, areas, strict=True)
        ):
            try:
                areas[row] = _agreed(by_record, by_key)
            except RejectedError as error:
                astray[row] = error
        return (*coded(areas), astray)

    def _frame_rows(self, run: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of a packed frame each."""
        messages: list[int] = []
        areas: list[str] = []
        frames: list[Frame] = []
        parts: list[dict[str, NDArray[Any]]] = []
        for index in run:
            try:
                if self._kind is not Readings:
                    raise RejectedError(Reason.NOT_JSON, "only readings come in frames")
                frame, columns = unpack(self._values[index])
                areas.append(_agreed(frame.area, self._area_names[self._areas[index]]))
            except RejectedError as error:
                self._reject(self._values[index], error, index)
            else:
                messages.append(index)
                frames.append(frame)
                parts.append(columns)
        if not frames:
            return None
        rows = [frame.rows for frame in frames]
        first = np.cumsum([0, *(len(frame.meters) for frame in frames)])
        names, codes = coded(areas)
        batch = self._kind.build(
            names=chain.from_iterable(frame.meters for frame in frames),
            subject=np.concatenate(
                [
                    part.pop("meter") + code
                    for part, code in zip(parts, first, strict=False)
                ]
            ),
            areas=names,
            area=np.repeat(codes, rows),
            **{
                name: stack(name, [part.get(name) for part in parts], rows)
                for name in set().union(*parts)
            },
        )
        return self._with_receipt_times(_Rows(batch, np.repeat(messages, rows), (), {}))

    def _with_receipt_times(self, rows: _Rows[AnyBatch]) -> _Rows[AnyBatch]:
        """Readings that do not tell when they were received were so when the broker got their message."""
        if not isinstance(rows.batch, Readings):
            return rows
        told = rows.batch.received
        return rows._replace(
            batch=replace(
                rows.batch,
                received=np.where(told, told, self._broker_times[rows.messages]),
            )
        )

    def _from_future(self, rows: _Rows[AnyBatch]) -> dict[int, RejectedError]:
        """The payments and stage events that say they come from the future."""
        if not isinstance(rows.batch, (Payments, Stages)):
            return {}
        received = self._broker_times[rows.messages]
        early = np.flatnonzero(
            (received > 0) & (rows.batch.at > received + FUTURE_TOLERANCE_SECONDS)
        ).tolist()
        return dict.fromkeys(
            early,
            RejectedError(
                Reason.BAD_TIME, "at is more than a day ahead of the broker's clock"
            ),
        )

    def _without_faults(self, rows: _Rows[AnyBatch], shape: str) -> AnyBatch | None:
        """The rows without fault, None when there are none; the others are refused."""
        batch = rows.batch
        bad = self._from_future(rows) | faults(batch) | rows.faults
        if not bad:
            return batch
        places = list(chain.from_iterable(rows.positions))
        elements: dict[int, list[Raw]] = {}
        alike: dict[tuple[int, RejectedError], list[int]] = {}
        for row, error in bad.items():
            index = int(rows.messages[row])
            value = self._values[index]
            if shape == "array":
                if index not in elements:
                    elements[index] = ARRAY_DECODER.decode(value)
                value = bytes(elements[index][places[row]])
            elif shape == "packed":
                alike.setdefault((index, error), []).append(row)
                continue
            self._reject(value, error, index)
        for (index, error), same in alike.items():
            if isinstance(batch, Readings):
                value = pack(batch.select(same), batch.areas[batch.area[same[0]]])
                self.rejections.append(
                    Rejection(value, error.reason, str(error), index, len(same))
                )
        keep = np.ones(len(batch), bool)
        keep[list(bad)] = False
        return batch.select(keep) if keep.any() else None

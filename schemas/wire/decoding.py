"""Kafka messages to batches. Whatever the bytes, a decoder returns: the unreadable is rejected, the rest decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from msgspec import Raw
from msgspec.structs import astuple
from numpy.typing import NDArray

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
from schemas.wire.assembly import coded, column, events, faults, subjects
from schemas.wire.frame import pack, stack, unpack
from schemas.wire.ids import agreed, area_of_key
from schemas.wire.record_decoders import ARRAY_DECODER, RECORD_DECODERS, of_one_type
from schemas.wire.records import FrameHead
from schemas.wire.rejection import Reason, RejectedError, Rejection, rejection_of
from schemas.wire.shapes import LARGEST_VALUE_BYTES, Message, shapes_of

# Elements of an array that are decoded one by one.
LARGEST_MIXED_ARRAY = LARGEST_VALUE_BYTES // 32
DECODED_BYTES = 1 << 16  # bytes of values that are decoded at once
# Seconds that payments and stage events may be ahead of the broker: their times move watermarks.
FUTURE_TOLERANCE_SECONDS = 86_400
OBJECT_START = b"{"
AnyBatch = TypeVar("AnyBatch", bound=Batch)


def decode(
    kind: type[AnyBatch], messages: Sequence[Message]
) -> tuple[AnyBatch | None, list[Rejection]]:
    """The rows of messages as one batch in their order, None if there are none; and the rejections."""
    if not messages:
        return None, []
    decoder = _BatchDecoder(kind, messages)
    batches = []
    for shape, chunk in decoder.chunks():
        batch = decoder.batch(shape, chunk)
        if batch is not None:
            batches.append(batch)
    rejections = sorted(decoder.rejections, key=lambda rejection: rejection.index)
    return kind.join(batches) if batches else None, rejections


class _Rows(NamedTuple, Generic[AnyBatch]):
    """A batch; by row its message; by array the positions of its rows; and the rows known to be faulty."""

    batch: AnyBatch
    messages: NDArray[np.intp]
    positions: Sequence[Sequence[int]]
    faults: dict[int, RejectedError]


class _BatchDecoder(Generic[AnyBatch]):
    """The decoder of one batch of messages, with their values, areas and times as columns."""

    def __init__(self, kind: type[AnyBatch], messages: Sequence[Message]) -> None:
        keys = [message[0] for message in messages]
        self._kind = kind
        self._values: list[Any] = [message[1] for message in messages]
        self.rejections: list[Rejection] = []

        # The area that each key names.
        named: dict[bytes | None, str] = {}
        unreadable: dict[bytes | None, RejectedError] = {}
        for key in set(keys):
            try:
                named[key] = area_of_key(key)
            except RejectedError as error:
                named[key] = ""
                unreadable[key] = error
        self._area_names, codes = coded(list(named.values()))
        code_of = dict(zip(named, codes.tolist(), strict=True))
        self._areas = np.array([code_of[key] for key in keys], np.int32)

        # Implausible receipt times count as unknown.
        received = np.array([message[3] for message in messages], np.int64)
        received[(received < EARLIEST_TIME) | (received >= LATEST_TIME)] = 0
        self._broker_times = received

        # The shape of each message, or why it is rejected.
        self._verdicts = shapes_of(self._values, [message[2] for message in messages])
        if unreadable:
            verdicts = zip(keys, self._verdicts, strict=True)
            self._verdicts = [unreadable.get(key, verdict) for key, verdict in verdicts]

    def chunks(self) -> Iterator[tuple[str, list[int]]]:
        """The readable messages by shape, in order; JSON in chunks whose records fit a processor's cache."""
        shapes: dict[int, str] = {}
        for index, verdict in enumerate(self._verdicts):
            if isinstance(verdict, str):
                shapes[index] = verdict
            else:
                self._reject(self._values[index], verdict, index)

        for shape, group in groupby(shapes, shapes.__getitem__):
            indices = list(group)
            cuts: list[int] = []
            if shape != "packed":
                sizes = np.cumsum([len(self._values[index]) for index in indices])
                cuts = (np.flatnonzero(np.diff(sizes // DECODED_BYTES)) + 1).tolist()
            for first, last in pairwise([0, *cuts, len(indices)]):
                yield shape, indices[first:last]

    def batch(self, shape: str, chunk: list[int]) -> AnyBatch | None:
        """The rows of a chunk without faults, None if there are none."""
        readers = {
            "single": self._single_rows,
            "array": self._array_rows,
            "packed": self._frame_rows,
        }
        rows = readers[shape](chunk)
        return None if rows is None else self._without_faults(rows, shape)

    def _reject(self, value: bytes | None, error: Exception, index: int) -> None:
        self.rejections.append(rejection_of(value, error, index))

    def _single_rows(self, chunk: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of one record each."""
        values = [self._values[index] for index in chunk]
        records = self._decode_joined(values)
        if records is None:
            records, decoded = self._decode_each(values, chunk)
            chunk = [chunk[position] for position in decoded]
        return self._rows_of(records, np.array(chunk, np.intp), ())

    def _array_rows(self, chunk: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of an array of records each."""
        records: list[Any] = []
        messages: list[int] = []
        positions: list[Sequence[int]] = []
        for index in chunk:
            try:
                found, decoded = self._array_records(index)
            except (ValueError, RecursionError) as error:
                self._reject(self._values[index], error, index)
            else:
                records += found
                messages.append(index)
                positions.append(decoded)

        rows = list(map(len, positions))
        return self._rows_of(
            of_one_type(records),
            np.repeat(np.array(messages, np.intp), rows),
            positions,
        )

    def _array_records(self, index: int) -> tuple[list[Any], Sequence[int]]:
        """The records of an array, and their positions in it. Raises ValueError or RecursionError."""
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
        """The records of values that hold one object each, decoded at once; None if any is bad.

        No object can reach from one value into the next: each value begins an object, no record nests objects, and a
        string cannot contain the raw line feed that separates two values.
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
        """The records of the values that hold one, and the positions of these values."""
        records, decoded = [], []
        decode = RECORD_DECODERS[self._kind].one.decode
        for position, value in enumerate(values):
            try:
                records.append(decode(value))
                decoded.append(position)
            except (ValueError, RecursionError) as error:
                self._reject(value, error, messages[position])
        return records, decoded

    def _rows_of(
        self,
        records: list[Any],
        messages: NDArray[np.intp],
        positions: Sequence[Sequence[int]],
    ) -> _Rows[AnyBatch] | None:
        """The records as columns, None without a record."""
        if not records:
            return None
        names = records[0].__struct_fields__
        given = dict(zip(names, zip(*map(astuple, records), strict=True), strict=True))

        columns: dict[str, Any] = {}
        areas = self._row_areas(given.pop("area"), messages)
        columns["areas"], columns["area"], faulty = areas
        if self._kind is DeviceEvents:
            systems = given.pop("system")
            codes = given.pop("code")
            given["event"], unknown = events(given["event"], systems, codes)
            given["subject"] = subjects(given["subject"], systems, codes)
            faulty = unknown | faulty

        for names_field, codes_field in self._kind.encodings().items():
            if codes_field in given:
                encoded = coded(given.pop(codes_field))
                columns[names_field], columns[codes_field] = encoded
        for name, values in given.items():
            columns[name] = column(name, values)
        batch = self._kind.build(**columns)
        return self._with_receipt_times(_Rows(batch, messages, positions, faulty))

    def _row_areas(
        self, record_areas: Sequence[str], messages: NDArray[np.intp]
    ) -> tuple[Names, Codes, dict[int, RejectedError]]:
        """The area of each row, by its record or the key of its message; and the rows without an area."""
        codes = self._areas[messages]
        faulty: dict[int, RejectedError] = {}
        if all(self._area_names) and not any(record_areas):
            return self._area_names, codes, faulty

        areas = [self._area_names[code] for code in codes.tolist()]
        pairs = zip(record_areas, areas, strict=True)
        for row, (by_record, by_key) in enumerate(pairs):
            try:
                areas[row] = agreed(by_record, by_key)
            except RejectedError as error:
                faulty[row] = error
        return (*coded(areas), faulty)

    def _frame_rows(self, chunk: list[int]) -> _Rows[AnyBatch] | None:
        """The rows of messages of a packed frame each."""
        messages: list[int] = []
        areas: list[str] = []
        frames: list[FrameHead] = []
        frame_columns: list[dict[str, NDArray[Any]]] = []
        for index in chunk:
            try:
                if self._kind is not Readings:
                    raise RejectedError(Reason.NOT_JSON, "only readings come in frames")
                frame, columns = unpack(self._values[index])
                areas.append(agreed(frame.area, self._area_names[self._areas[index]]))
            except RejectedError as error:
                self._reject(self._values[index], error, index)
            else:
                messages.append(index)
                frames.append(frame)
                frame_columns.append(columns)
        if not frames:
            return None

        # The meter codes of each frame move behind the names of the frames before it.
        first = np.cumsum([0, *(len(frame.meters) for frame in frames)])
        subject = np.concatenate(
            [
                columns.pop("meter") + code
                for columns, code in zip(frame_columns, first, strict=False)
            ]
        )

        rows = [frame.rows for frame in frames]
        area_names, codes = coded(areas)
        stacked = {
            name: stack(name, [columns.get(name) for columns in frame_columns], rows)
            for name in set().union(*frame_columns)
        }
        batch = self._kind.build(
            names=chain.from_iterable(frame.meters for frame in frames),
            subject=subject,
            areas=area_names,
            area=np.repeat(codes, rows),
            **stacked,
        )
        return self._with_receipt_times(_Rows(batch, np.repeat(messages, rows), (), {}))

    def _with_receipt_times(self, rows: _Rows[AnyBatch]) -> _Rows[AnyBatch]:
        """Readings without a receipt time of their own have that of their message at the broker."""
        if not isinstance(rows.batch, Readings):
            return rows
        own_times = rows.batch.received
        received = np.where(own_times, own_times, self._broker_times[rows.messages])
        return rows._replace(batch=replace(rows.batch, received=received))

    def _from_future(self, rows: _Rows[AnyBatch]) -> dict[int, RejectedError]:
        """The payments and stage events with a time in the future."""
        if not isinstance(rows.batch, (Payments, Stages)):
            return {}
        received = self._broker_times[rows.messages]
        is_early = rows.batch.at > received + FUTURE_TOLERANCE_SECONDS
        early = np.flatnonzero((received > 0) & is_early).tolist()
        error = RejectedError(
            Reason.BAD_TIME, "at is more than a day ahead of the broker's clock"
        )
        return dict.fromkeys(early, error)

    def _without_faults(self, rows: _Rows[AnyBatch], shape: str) -> AnyBatch | None:
        """The rows without faults, None if there are none; the others are rejected."""
        batch = rows.batch
        faulty = self._from_future(rows) | faults(batch) | rows.faults
        if not faulty:
            return batch

        if shape == "packed":
            self._reject_frame_rows(rows, faulty)
        else:
            self._reject_records(rows, faulty, shape)
        sound = np.ones(len(batch), bool)
        sound[list(faulty)] = False
        return batch.select(sound) if sound.any() else None

    def _reject_records(
        self, rows: _Rows[AnyBatch], faulty: dict[int, RejectedError], shape: str
    ) -> None:
        """Rejects faulty rows with the bytes of their records."""
        positions = list(chain.from_iterable(rows.positions))
        elements: dict[int, list[Raw]] = {}  # of arrays, by message
        for row, error in faulty.items():
            index = int(rows.messages[row])
            value = self._values[index]
            if shape == "array":
                if index not in elements:
                    elements[index] = ARRAY_DECODER.decode(value)
                value = bytes(elements[index][positions[row]])
            self._reject(value, error, index)

    def _reject_frame_rows(
        self, rows: _Rows[AnyBatch], faulty: dict[int, RejectedError]
    ) -> None:
        """Rejects the faulty rows of a frame that have one error as one frame."""
        batch = rows.batch
        if not isinstance(batch, Readings):
            return
        alike: dict[tuple[int, RejectedError], list[int]] = {}
        for row, error in faulty.items():
            index = int(rows.messages[row])
            alike.setdefault((index, error), []).append(row)
        for (index, error), same in alike.items():
            value = pack(batch.select(same), batch.areas[batch.area[same[0]]])
            self.rejections.append(
                Rejection(value, error.reason, str(error), index, len(same))
            )

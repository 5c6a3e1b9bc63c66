"""Decoders of JSON records, of each kind of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import Raw, Struct, json

from schemas.columns import Batch, Readings
from schemas.wire.records import RECORD_TYPES, UsualReadingRecord


class RecordDecoders(NamedTuple):
    """Decoders of JSON records: one record, an array, and an array of the usual type, which is tried first."""

    one: json.Decoder[Any]
    many: json.Decoder[list[Any]]
    usual: json.Decoder[list[Any]]

    def array(self, value: bytes) -> list[Any]:
        """The records of an array, all of one type. Raises ValueError or RecursionError if it is no such array."""
        try:
            return self.usual.decode(value)
        except ValueError:
            if self.usual is self.many:
                raise
            return self.many.decode(value)


def _decoders(record: Any, usual: Any) -> RecordDecoders:
    many = json.Decoder(list[record])
    first = json.Decoder(list[usual]) if usual else many
    return RecordDecoders(json.Decoder(record), many, first)


USUAL_RECORDS: dict[type[Batch], type[Struct]] = {Readings: UsualReadingRecord}
RECORD_DECODERS = {
    kind: _decoders(record, USUAL_RECORDS.get(kind))
    for kind, record in RECORD_TYPES.items()
}
ARRAY_DECODER = json.Decoder(list[Raw])


def of_one_type(records: list[Any]) -> list[Any]:
    """The records as of one type, the one with most fields."""
    kinds: set[Any] = set(map(type, records))
    if len(kinds) < 2:
        return records
    widest = max(kinds, key=lambda kind: len(kind.__struct_fields__))
    return [_widened(record, widest) for record in records]


def _widened(record: Any, widest: Any) -> Any:
    """A record as of a type that has all its fields."""
    if type(record) is widest:
        return record
    return widest(**{name: getattr(record, name) for name in record.__struct_fields__})

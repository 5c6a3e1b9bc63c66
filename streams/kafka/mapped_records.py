"""Records of a mapped topic as rows of the project; a record with any fault is rejected whole, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.history import SourceError, Tally
from replay.mapping.cells import cells_of_records
from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.files import NOT_OBJECT, rows_of
from replay.mapping.rows import RowMapper, joined_phases
from replay.tables import Sheet
from schemas.columns import Batch
from schemas.wire import Message, Reason, RejectedError, Rejection
from schemas.wire.shapes import LARGEST_VALUE_BYTES
from streams.kafka.foreign_records import record_decoder

LARGEST_ROWS = 100_000  # of one record
NO_PLAIN_VALUE = "is no plain value"
REASONS_BY_ENDING = (
    ("is missing", Reason.MISSING_FIELD),
    ("is no time", Reason.BAD_TIME),
    ("may have the day or the month first", Reason.BAD_TIME),
    ("is no known word", Reason.UNKNOWN_VALUE),
    ("words", Reason.UNKNOWN_VALUE),  # of a phase
    ("larger than any quantity", Reason.OUT_OF_RANGE),
    ("in a spreadsheet", Reason.BAD_ID),
    ("cannot be printed", Reason.BAD_ID),
    ("", Reason.WRONG_TYPE),
)
"""How a sentence of a reader ends, and the reason that it means."""


class MappedRecords(NamedTuple):
    """The rows of records, the record of each row, and the rejections."""

    batch: Batch | None
    records: NDArray[np.intp]
    rejections: list[Rejection]


class RecordMapper:
    """Maps the records of a topic."""

    def __init__(self, mapping: ColumnMapping, authorization: str = "") -> None:
        self.mapping = mapping
        self._decoded = record_decoder(mapping, authorization)
        self._mapper = RowMapper(mapping)

    def mapped(self, messages: Sequence[Message]) -> MappedRecords:
        """The rows of records in their order. Raises SchemaRegistryError without an answer."""
        rows: list[Any] = []
        places: list[int] = []
        rejections: list[Rejection] = []
        for index, message in enumerate(messages):
            value = message[1] or b""
            try:
                found = self._rows(value)
            except RejectedError as error:
                rejections.append(Rejection(value, error.reason, str(error), index))
            else:
                rows += found
                places += [index] * len(found)

        records = np.array(places, np.intp)
        faults = self._faults(rows)
        rejections += _rejections(messages, records, faults)
        sound = [row for k, row in enumerate(rows) if k not in faults]
        records = np.delete(records, list(faults))
        if not sound:
            return MappedRecords(None, records, rejections)
        sheet = self._sheet(sound)
        batch = self._mapper.rows(sheet)
        if self.mapping.phases is not None:
            batch, first = joined_phases(batch, records, sheet)
            records = records[first]
        return MappedRecords(batch, records, rejections)

    def _rows(self, value: bytes) -> list[Any]:
        """The rows of a record. Raises RejectedError."""
        if not value:
            raise RejectedError(Reason.EMPTY, "no value")
        if len(value) > LARGEST_VALUE_BYTES:
            raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes")
        rows = rows_of(self._decoded(value), self.mapping)
        if not rows:
            raise RejectedError(Reason.EMPTY, "no row in it")
        if len(rows) > LARGEST_ROWS:
            raise RejectedError(Reason.TOO_LARGE, f"{len(rows)} rows")
        if not all(isinstance(row, dict) for row in rows):
            raise RejectedError(Reason.WRONG_TYPE, NOT_OBJECT)
        return rows

    def _faults(self, rows: Sequence[Any]) -> dict[int, str]:
        """The first fault of each row that has one."""
        faults: dict[int, str] = {}
        if rows:
            try:
                self._mapper.rows(self._sheet(rows, faults))
            except SourceError as error:  # a column of a type that holds no such values
                if len(rows) == 1:
                    return {0: str(error)}
                half = len(rows) // 2
                later = self._faults(rows[half:])
                return self._faults(rows[:half]) | {
                    half + row: fault for row, fault in later.items()
                }
        return faults

    def _sheet(
        self, rows: Sequence[Any], faults: dict[int, str] | None = None
    ) -> Sheet:
        """The cells of rows, whose faults are noted if asked for."""
        cells, wrong = cells_of_records(rows, self.mapping.paths)
        if faults is not None:
            faults |= {row: f"{path} {NO_PLAIN_VALUE}" for row, path in wrong.items()}
        zone = self.mapping.zone
        return Sheet(cells, "", Tally(), zone=zone, faults=faults, alone=True)


def _rejections(
    messages: Sequence[Message], records: NDArray[np.intp], faults: dict[int, str]
) -> list[Rejection]:
    """The records with faulty rows, once for each fault, with the number of rows."""
    alike: dict[tuple[int, str], int] = {}
    for row in sorted(faults):
        key = int(records[row]), faults[row]
        alike[key] = alike.get(key, 0) + 1
    return [
        Rejection(messages[index][1] or b"", reason_of(fault), fault[:200], index, rows)
        for (index, fault), rows in alike.items()
    ]


def reason_of(fault: str) -> Reason:
    """The reason that a reader's sentence means.

    >>> reason_of("at is no time"), reason_of("V1 is no number")
    (<Reason.BAD_TIME: 'bad_time'>, <Reason.WRONG_TYPE: 'wrong_type'>)
    """
    return next(
        reason for ending, reason in REASONS_BY_ENDING if fault.endswith(ending)
    )

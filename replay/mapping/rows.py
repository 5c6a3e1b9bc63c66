"""Cells of others as rows of the project: renamed, computed, worded, then decoded as the project's own layout is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay import layout
from replay.ids import clean
from replay.mapping.areas import NO_AREA
from replay.mapping.column_mapping import ColumnMapping, MappedColumn
from replay.mapping.expressions import Expression
from replay.mapping.targets import TRUTH_CELLS, phase_stems, targets
from replay.tables import RowFault, Sheet
from schemas.columns import KIND_COLUMNS, PHASE_COLUMNS, Batch
from schemas.events import event_of, is_area_wide
from schemas.wire.records import WORDS_BY_CODE

NO_PHASE = "the phase is none of the mapping's words"
PHASE_TWICE = "a value of a phase comes twice for one meter and time"
PHASE_CELLS = "abc"


class RowMapper:
    """Sheets of others, with their columns by the text of their paths, to batches of one kind."""

    def __init__(self, mapping: ColumnMapping) -> None:
        self.mapping = mapping
        self._decoder = layout.Decoder(mapping.kind)
        self._targets = targets(mapping.kind)

    def batch(self, theirs: Sheet) -> Batch:
        """The rows without a fault, those of the phases of a meter and time joined."""
        rows = self.rows(theirs)
        if self.mapping.phases is None:
            return rows
        joined, _ = joined_phases(rows, np.zeros(len(rows)), theirs)
        return joined

    def rows(self, theirs: Sheet) -> Batch:
        """The rows without a fault, one for each of the sheet. An area that is looked up stays open."""
        columns = {
            name: self._cells(theirs, name, column)
            for name, column in self.mapping.columns.items()
        }
        if self.mapping.area_from_registry:
            columns["area"] = pa.array([NO_AREA] * len(theirs), pa.string())
        self._leave_to_area(theirs, columns)

        phases = self.mapping.phases
        untimed = np.asarray(columns["at"].is_null())
        faults: list[RowFault] = [(untimed, "at is missing", "")]
        if self.mapping.area_from_registry:  # by a subject that events need not have
            subject = KIND_COLUMNS[self.mapping.kind]["subject"].outside_name
            faults.append((_empty(columns[subject]), f"{subject} is missing", ""))
        if phases is None:
            return self._decoder.batch(theirs.of(pa.table(columns)), *faults)

        # each row has the values of its phase alone
        words, numbers = theirs.words(_path(phases.expression))
        places = [phases.places.get(word.strip(), -1) for word in words]
        place = np.array([*places, -1])[numbers]
        for stem in phase_stems(self.mapping.kind):
            if stem in columns:
                columns |= _spread(stem, columns.pop(stem), place)
        no_phase = (place < 0, NO_PHASE, "")
        return self._decoder.batch(theirs.of(pa.table(columns)), no_phase, *faults)

    def _cells(self, theirs: Sheet, name: str, column: MappedColumn) -> Any:
        """The cells of a column of the project."""
        expression = column.expression
        if expression is None:
            return pa.array([column.value] * len(theirs), pa.string())
        if column.is_computed:
            return pa.array(_computed(theirs, expression, column), from_pandas=True)

        cells = theirs.table[_path(expression)]
        words = column.words
        target = self._targets.get(name)
        if target and target.declared.is_truth:
            said = {theirs: TRUTH_CELLS[ours] for theirs, ours in words.items()}
            words = {**TRUTH_CELLS, **said}
        if column.system:
            words = _event_words(theirs, expression, column)
        return _worded(theirs, expression, words) if words else cells

    def _leave_to_area(self, theirs: Sheet, columns: dict[str, Any]) -> None:
        """Leaves out the meter of an event whose code is about its whole area."""
        event = self.mapping.columns.get("event")
        if event is None or not event.system or "meter" not in columns:
            return
        words, numbers = theirs.words(_path(event.expression))
        wide = [is_area_wide(event.system, clean(word)) for word in words]
        columns["meter"] = _where(~np.array([*wide, False])[numbers], columns["meter"])


def values_by_column(mapping: ColumnMapping, batch: Batch) -> dict[str, int]:
    """How many values each mapped number has in a batch."""
    found = {}
    for cell, (name, phase) in layout.cell_columns(mapping.kind).items():
        values = getattr(batch, name)
        if cell in mapping.columns and values.dtype.kind == "f":
            values = values if phase is None else values[phase]
            found[cell] = int(np.count_nonzero(~np.isnan(values)))
    return found


def _path(expression: Expression | None) -> str:
    """The text of the only path of an expression."""
    return next(iter(expression.paths)) if expression else ""


def _computed(
    theirs: Sheet, expression: Expression, column: MappedColumn
) -> NDArray[np.float64]:
    """The numbers of an expression in the unit of the column."""
    read = {path: theirs.numbers(path).astype(np.float64) for path in expression.paths}
    values = expression.evaluate(read)
    return values * column.factor.numerator / column.factor.denominator


def _event_words(
    theirs: Sheet, expression: Expression, column: MappedColumn
) -> dict[str, str]:
    """The word of each code of a system that means an event here."""
    words = WORDS_BY_CODE["event"]
    codes, _ = theirs.words(_path(expression))
    found = {}
    for code in codes:
        event = event_of(column.system, clean(code)) if column.system else None
        if event is not None:
            found[code] = words[event]
    return found | dict(column.words)


def _worded(theirs: Sheet, expression: Expression, words: Mapping[str, str]) -> Any:
    """The cells with the project's words; a text without one stays as it is."""
    texts, numbers = theirs.words(_path(expression))
    said = [words.get(text.strip(), text) for text in texts]
    return pa.array([*said, None], pa.string()).take(
        pa.array(np.where(numbers < 0, len(said), numbers))
    )


def _empty(cells: Any) -> NDArray[np.bool_]:
    """Which cells hold nothing, or blanks."""
    if not pa.types.is_string(cells.type):
        return np.asarray(cells.is_null())
    return np.asarray(pc.equal(pc.utf8_trim_whitespace(cells), "").fill_null(True))


def _where(rows: NDArray[np.bool_], cells: Any) -> Any:
    """The cells of some rows, the others empty."""
    return pc.if_else(pa.array(rows), cells, pa.scalar(None, cells.type))


def _spread(stem: str, cells: Any, place: NDArray[np.int64]) -> dict[str, Any]:
    """The cells of one phase a row, as a column for each phase."""
    return {
        f"{stem}{letter}": _where(place == number, cells)
        for number, letter in enumerate(PHASE_CELLS)
    }


def joined_phases(
    batch: Batch, records: NDArray[Any], sheet: Sheet
) -> tuple[Batch, NDArray[np.intp]]:
    """The rows of one meter, area, time and record as one, and the first row of each.

    A value that comes twice is counted, and the later one taken.
    """
    keys = np.stack([batch.subject, batch.area, batch.at, records.astype(np.int64)])
    _, first, row_of = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    row_of = row_of.reshape(-1)

    columns: dict[str, Any] = {}
    for column in fields(batch):
        values = getattr(batch, column.name)
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            codes = isinstance(values, np.ndarray)
            columns[column.name] = values[first] if codes else values
            continue
        joined = np.full((*values.shape[:-1], len(first)), np.nan, values.dtype)
        for row, known in zip(
            np.atleast_2d(joined), np.atleast_2d(values), strict=True
        ):
            there = ~np.isnan(known)
            row[row_of[there]] = known[there]
            if column.name in PHASE_COLUMNS:
                _count_twice(sheet, np.bincount(row_of[there]))
        columns[column.name] = joined
    return type(batch)(**columns), first


def _count_twice(sheet: Sheet, times: Sequence[int] | NDArray[np.int64]) -> None:
    """Counts values of a phase of which a later one is taken."""
    twice = int(np.maximum(np.asarray(times) - 1, 0).sum())
    sheet.tally.reject(PHASE_TWICE, sheet.name, twice)

"""The columns of the project that data of others can be mapped to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from replay import layout
from schemas.columns import KIND_COLUMNS, Batch
from schemas.declarations import Declaration
from schemas.wire.records import WORDS_BY_CODE

# The cell of each word for a truth.
TRUTH_CELLS: Mapping[str, str] = {"true": "1", "false": "0", "1": "1", "0": "0"}


class ColumnTarget(NamedTuple):
    """A column of a table of the project's own layout."""

    declared: Declaration
    unit: str
    numeric: bool


def targets(kind: type[Batch]) -> dict[str, ColumnTarget]:
    """The columns that rows of a kind may have, by the name that they have in files."""
    declared = KIND_COLUMNS[kind]
    found = {"at": ColumnTarget(declared["at"], "", numeric=False)}
    for codes in kind.encodings().values():
        column = declared[codes]
        found[column.outside_name] = ColumnTarget(column, "", numeric=False)
    for cell, (name, _) in layout.cell_columns(kind).items():
        column = declared[name]
        numeric = np.dtype(column.form.dtype).kind == "f"
        found[cell] = ColumnTarget(column, column.unit.name, numeric=numeric)
    return found


def words_of(target: ColumnTarget) -> Sequence[str]:
    """The words that a column may hold; none of a column without."""
    if target.declared.is_truth:
        return tuple(TRUTH_CELLS)
    return WORDS_BY_CODE.get(target.declared.name, ())


def phase_stems(kind: type[Batch]) -> dict[str, ColumnTarget]:
    """The columns with a value a phase, by the name that stands for all three."""
    return {
        column.outside_name: ColumnTarget(column, column.unit.name, numeric=True)
        for column in KIND_COLUMNS[kind].values()
        if column.form.axis == "phases"
    }

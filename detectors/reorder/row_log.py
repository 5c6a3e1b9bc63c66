"""The rows of meters that lack a reading, until they are judged for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.state.owners import Owner, Schema, State, same_length, within
from schemas.columns import COLUMN_TYPES, PHASE_COLUMNS, Codes, Mask, Times

LOG_TYPES = COLUMN_TYPES | {"slot": np.int32, "stored_kwh": np.float32}


class RowLog(Owner):
    """Rows by meter slot, in order of arrival."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = ("slot", *names)
        self.size = 0
        # by position: dropped rows stay until they are half of all rows
        self._dropped = np.zeros(0, bool)
        self.arrays: dict[str, Any] = {}
        self.resize(0)

    def resize(self, capacity: int) -> None:
        """Remove dropped rows, and make room for `capacity` rows."""
        kept = self._kept().nonzero()[0]
        for name in self.names:
            shape = (3, capacity) if name in PHASE_COLUMNS else (capacity,)
            array = np.empty(shape, LOG_TYPES.get(name, np.int64))
            if len(kept):
                array[..., : len(kept)] = self.arrays[name][..., kept]
            self.arrays[name] = array

        self._dropped = np.zeros(capacity, bool)
        self.size = len(kept)

    def _kept(self) -> Mask:
        """Which rows are not dropped."""
        return ~self._dropped[: self.size]

    def append(self, **columns: Any) -> None:
        """Append rows."""
        count = len(columns["slot"])
        if self.size + count > len(self._dropped):
            self.resize((self.size + count) * 3 // 2)

        added = slice(self.size, self.size + count)
        for name in self.names:
            self.arrays[name][..., added] = columns[name]
        self.size += count

    def columns(self) -> dict[str, Any]:
        """All rows, and the slot of each."""
        if self._dropped.any():
            self.resize(self.size)
        return {name: array[..., : self.size] for name, array in self.arrays.items()}

    def positions(self, slots: Codes) -> Codes:
        """The positions of the rows of `slots`."""
        row_slots = self.arrays["slot"][: self.size]
        highest = max(row_slots.max(initial=-1), slots.max(initial=-1))
        wanted = np.zeros(int(highest) + 1, bool)
        wanted[slots] = True
        found = wanted[row_slots] & self._kept()
        return np.flatnonzero(found)

    def _ordered(self, slots: Codes) -> tuple[Codes, Codes, Times]:
        """The positions of the rows of `slots`, by slot and then by time, their slots and times."""
        positions = self.positions(slots)
        row_slots = self.arrays["slot"][positions]
        at = self.arrays["at"][positions]
        order = np.lexsort((at, row_slots))
        return positions[order], row_slots[order], at[order]

    def times(self, slots: Codes) -> tuple[Codes, Times]:
        """The slots and the times of the rows of `slots`, by slot and then by time."""
        _, row_slots, at = self._ordered(slots)
        return row_slots, at

    def select(self, slots: Codes) -> tuple[Codes, dict[str, Any]]:
        """The positions of the rows of `slots`, by slot and then by time, and these rows."""
        positions, _, _ = self._ordered(slots)
        return positions, self._rows(positions)

    def select_before(self, slots: Codes, ends: Times) -> tuple[Codes, dict[str, Any]]:
        """As `select`, of the rows before the end of their slot; `slots` are in ascending order."""
        positions, row_slots, at = self._ordered(slots)
        places = np.searchsorted(slots, row_slots)
        positions = positions[at < ends[places]]
        return positions, self._rows(positions)

    def _rows(self, positions: Codes) -> dict[str, Any]:
        """The rows at `positions`."""
        return {name: array[..., positions] for name, array in self.arrays.items()}

    def row_counts(self, slots: Codes) -> Codes:
        """How many rows each of `slots` has."""
        row_slots = self.arrays["slot"][: self.size]
        highest = int(slots.max(initial=-1))
        counts = np.bincount(row_slots[self._kept()], minlength=highest + 1)
        return counts[slots]

    def write(self, name: str, positions: Codes, values: Any) -> None:
        """Put values in a column at `positions`."""
        self.arrays[name][positions] = values

    def drop(self, positions: Codes) -> None:
        """Drop the rows at `positions`."""
        self._dropped[positions] = True
        left = int(np.count_nonzero(self._kept()))
        if 2 * left < self.size:
            self.resize(left * 3 // 2)

    def schema(self) -> Schema:
        """An empty row, by column."""
        return {
            name: np.zeros(array.shape[:-1], array.dtype)
            for name, array in self.arrays.items()
        }

    def state(self) -> State:
        """All rows."""
        return self.columns()

    def load(self, state: State) -> None:
        """Replace all rows by those of `state`; a column that is missing is NaN. Raises StateError."""
        self._dropped[:] = True
        self.resize(0)
        rows = same_length(state.values())
        within("the number of rows", rows, 0, len(state.get("slot", ())))

        unknown = {
            name: np.nan if array.dtype.kind == "f" else 0
            for name, array in self.arrays.items()
        }
        self.append(**{"slot": self.arrays["slot"], **unknown, **state})

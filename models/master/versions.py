"""The versions of records, and which of them is in force at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.state.cells import Array
from schemas.columns import Codes, Column, Times

TIME_BITS = 33  # of a key, for its time
NO_ROWS = np.full(1, -1)  # unlike the rows of any look-up
UNKNOWN_RECORD = {  # NaN in its other columns
    "is_gateway": 0.0,
    "effective": -1.0,
    "segments": 0.0,
    "users": 0.0,
}
Version = tuple[int, list[float]]
"""A row of numbers, with the time from which on it is in force."""
Histories = dict[int, list[Version]]
"""Versions by slot."""


def keys_of(slots: Codes, at: Times) -> Times:
    """A key for each slot and time, in order of slots, then of times.

    >>> keys = keys_of(np.array([2, 1]), np.array([5, 9]))
    >>> slots_of(keys).tolist(), times_of(keys).tolist()
    ([2, 1], [5, 9])
    """
    return slots.astype(np.int64) << TIME_BITS | at


def slots_of(keys: Times) -> Codes:
    """The slots of keys."""
    return keys >> TIME_BITS


def times_of(keys: Times) -> Times:
    """The times of keys."""
    return keys & (1 << TIME_BITS) - 1


def extended(values: Array, size: int, fresh: float) -> Array:
    """The values, with fresh ones up to a size."""
    missing = size - len(values)
    if missing <= 0:
        return values
    more = np.full(missing, fresh, values.dtype)
    return np.concatenate([values, more])


class Versions:
    """Rows of numbers by slot, each from its effective time on."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self.keys: Times = np.zeros(0, np.int64)  # slot and effective time
        # The unknown record, then the record of every key.
        unknown = [UNKNOWN_RECORD.get(name, np.nan) for name in columns]
        self._table: Array = np.array(unknown)[:, None]
        # By slot the last row of the table, 0 if nothing is known.
        self.newest = np.zeros(0, np.int64)
        self._latest = 0  # from when on every slot's newest row is in force
        # Of the last look-up.
        self._last_rows: Codes = NO_ROWS
        self._last_columns: dict[str, Column] = {}

    def replace(self, histories: Histories) -> None:
        """Sets the whole history of some slots."""
        slots = np.array(list(histories), np.int64)
        new = sorted(
            (slot << TIME_BITS | max(since, 0), row)
            for slot, versions in histories.items()
            for since, row in versions
        )
        new_keys = np.array([key for key, _ in new], np.int64)
        new_rows = np.array([row for _, row in new], float)
        new_rows = new_rows.reshape(len(new), len(self._columns))

        kept = ~np.isin(slots_of(self.keys), slots)
        old_columns = self._table[:, 1:][:, kept]
        keys = np.concatenate([self.keys[kept], new_keys])
        columns = np.concatenate([old_columns, new_rows.T], axis=1)
        order = np.argsort(keys, kind="stable")
        highest = int(slots.max(initial=-1))
        self.fill(keys[order], columns[:, order], highest + 1)

    def fill(self, keys: Times, columns: Array, count: int = 0) -> None:
        """Sets the whole history of all slots, so many at least; keys are in order."""
        self.keys = keys
        unknown = self._table[:, :1]
        table = np.concatenate([unknown, columns], axis=1)
        self._table = np.ascontiguousarray(table)  # else take copies it

        self._latest = int(times_of(keys).max(initial=0))
        slots = slots_of(keys)
        highest = int(slots.max(initial=-1))
        count = max(count, len(self.newest), highest + 1)
        self.newest = np.zeros(count, np.int64)
        self.newest[slots] = 1 + np.arange(len(keys))
        self._last_rows = NO_ROWS

    def rows_in_force(self, slots: Codes, at: Times) -> Codes:
        """The row of the table in force; 0 if nothing is known."""
        highest = int(slots.max(initial=-1))
        self.newest = extended(self.newest, highest + 1, 0)
        newest = self.newest[slots]
        if int(at.min(initial=self._latest)) >= self._latest:
            return newest

        before = np.searchsorted(self.keys, keys_of(slots, at), side="right")
        known = (before > 0) & (newest > 0)
        last_keys = self.keys[np.maximum(before, 1) - 1]
        same_slot = slots_of(last_keys) == slots
        return np.where(known & same_slot, before, 0)

    def column(self, name: str, rows: Codes) -> Column:
        """One column of some rows of the table."""
        place = self._columns.index(name)
        column: Column = self._table[place][rows]
        return column

    def columns_of(self, rows: Codes) -> dict[str, Column]:
        """The columns of some rows of the table, not to be written to."""
        if not np.array_equal(rows, self._last_rows):
            picked = np.take(self._table, rows, axis=1)
            picked.flags.writeable = False
            self._last_columns = dict(zip(self._columns, picked, strict=True))
            self._last_rows = rows
        return dict(self._last_columns)

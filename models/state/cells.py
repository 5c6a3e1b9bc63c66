"""Growable columns of state: one cell per slot and name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.state.owners import Owner, Schema, State, same_length
from models.state.runs import ascending
from schemas.columns import Codes, Mask

Array = NDArray[Any]
Columns = dict[str, Array]


class Cells(Owner):
    """Named arrays of the shape (*lead, slots); a fresh cell holds its array's empty value.

    >>> cells = Cells(mean=np.float64(np.nan))
    >>> cells.reserve(2)
    >>> cells["mean"][:2].tolist()
    [nan, nan]
    """

    def __init__(self, **empty: Any) -> None:
        self.empty: dict[str, Array] = {
            name: np.asarray(value) for name, value in empty.items()
        }
        self.arrays: dict[str, Array] = {
            name: self._fresh(name, 0) for name in self.empty
        }
        self.used = 0

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def _fresh(self, name: str, slots: int) -> Array:
        empty = self.empty[name]
        return np.repeat(empty[..., None], slots, axis=-1)

    def reserve(self, slots: int) -> None:
        """Makes cells for all slots below `slots`."""
        if slots <= self.used:
            return
        self.used = slots
        for name, array in self.arrays.items():
            size = array.shape[-1]
            if size < slots:
                capacity = max(slots, size + size // 4, 64)
                fresh = self._fresh(name, capacity - size)
                self.arrays[name] = np.concatenate([array, fresh], axis=-1)

    def read(self, slots: Codes) -> Columns:
        """Copies of the cells of slots."""
        return {
            name: np.take(array, slots, axis=-1) for name, array in self.arrays.items()
        }

    def write(self, slots: Codes, columns: Columns) -> None:
        """Writes cells back that `read` gave."""
        for name, array in columns.items():
            self.arrays[name][..., slots] = array

    def write_where(self, slots: Codes, mask: Mask, columns: Columns) -> None:
        """Writes the cells of the rows of a mask."""
        written = slots[mask]
        for name, array in columns.items():
            self.arrays[name].T[written] = array.T[mask]

    def clear(self, slots: Codes) -> None:
        """Makes the cells of slots fresh."""
        for name, array in self.arrays.items():
            array[..., slots] = self.empty[name][..., None]

    def schema(self) -> Schema:
        """The cell of one subject, by column."""
        return self.empty

    def state(self) -> State:
        """The used part of every array; not a copy."""
        return {name: array[..., : self.used] for name, array in self.arrays.items()}

    def load(self, state: State) -> None:
        """Replaces everything by `state`; a column that is missing is fresh. Raises StateError."""
        saved = {name: state[name] for name in self.empty if name in state}
        self.used = same_length(saved.values())
        self.arrays = {
            name: np.array(saved[name])
            if name in saved
            else self._fresh(name, self.used)
            for name in self.empty
        }


def add_to(array: Array, slots: Codes, values: Array) -> None:
    """Adds values to the cells of slots; a slot may occur more than once."""
    if ascending(slots):
        array[slots] += values
    else:
        np.add.at(array, slots, values.astype(array.dtype))


def pushed(latest: Array, now: Array) -> Array:
    """The latest values, oldest first, with one more in place of the oldest.

    >>> pushed(np.array([[1, 4], [2, 5]]), np.array([3, 6])).tolist()
    [[2, 5], [3, 6]]
    """
    return np.concatenate([latest[1:], now[None]])

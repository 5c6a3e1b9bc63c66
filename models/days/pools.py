"""The cells of open days: in pools while rows are added to them, packed in between."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from models.days.area_sums import sum_cells
from models.days.member_rows import member_cells
from models.days.peaks import LONGEST_DAY_SECONDS
from models.state.cells import Cells
from models.state.owners import described
from models.state.packing import check_day, unpacked_days
from models.state.runs import spread

CAPACITY_STEP = 16  # larger areas get multiples of so many rows
SPIKE_INTERVALS = 3  # of a day at least: a spike stands out from the third-highest


class OpenDay:
    """One area's local day: its members' rows and its sums, in the pools or packed."""

    def __init__(
        self,
        start: int,
        end: int,
        *,
        closed: bool,
        packed: bytes = b"",
    ) -> None:
        self.start = start
        self.end = end
        self.closed = closed
        self.packed = packed  # empty while the day stands in the pools
        # Its rows' place in the pool of rows, and its sums' slot in the pool of sums.
        self.base = self.size = self.sums_slot = 0


class Pools:
    """The cells of the open days that are not packed, and the free places between them."""

    def __init__(self, interval: int) -> None:
        self.steps = max(ceil(LONGEST_DAY_SECONDS / interval), SPIKE_INTERVALS)
        self.member_rows = Cells(**member_cells(self.steps, interval))
        self.area_sums = Cells(**sum_cells(self.steps, interval))
        self._free_rows: dict[int, list[int]] = {}  # bases by size
        self._free_sums: list[int] = []

    def empty(self) -> None:
        """Gives up all places."""
        self.member_rows.load({})
        self.area_sums.load({})
        self._free_rows = {}
        self._free_sums = []

    def day_schema(self) -> dict[str, str]:
        """The schema of a packed day."""
        rows = described(self.member_rows.schema())
        return rows | described(self.area_sums.schema())

    def check(self, packed: bytes) -> None:
        """Raises StateError if a packed day cannot be read, or its columns have other cells."""
        check_day(packed, self.member_rows.empty, self.area_sums.empty)

    def place(self, open_day: OpenDay, members: int) -> None:
        """Gives an open day, new or packed, a place with room for so many members."""
        if open_day.packed or not open_day.size:
            self._allocate(open_day)
        if open_day.size < members:
            self._grow(open_day, members)

    def _allocate(self, open_day: OpenDay) -> None:
        """Gives an open day the place of its sums; unpacks it, if it is packed."""
        if self._free_sums:
            open_day.sums_slot = self._free_sums.pop()
        else:
            open_day.sums_slot = self.area_sums.used
            self.area_sums.reserve(open_day.sums_slot + 1)
        if not open_day.packed:
            return

        unpacked = unpacked_days(
            [open_day.packed], self.member_rows.empty, self.area_sums.empty
        )
        size = int(unpacked.sizes[0])
        self._grow(open_day, size)
        rows = np.arange(open_day.base, open_day.base + size)
        self.member_rows.write(rows, unpacked.members)
        self.area_sums.write(np.array([open_day.sums_slot]), unpacked.areas)
        open_day.packed = b""

    def _grow(self, open_day: OpenDay, members: int) -> None:
        """Moves an open day's rows to where there is room for so many members."""
        size = _capacity_for(members)
        spare = self._free_rows.get(size)
        base = spare.pop() if spare else self.member_rows.used
        self.member_rows.reserve(base + size)
        if open_day.size:
            old = slice(open_day.base, open_day.base + open_day.size)
            new = slice(base, base + open_day.size)
            for array in self.member_rows.arrays.values():
                array[..., new] = array[..., old]
            self._release_rows([open_day])
        open_day.base = base
        open_day.size = size

    def _release_rows(self, open_days: Sequence[OpenDay]) -> None:
        """Gives the rows of open days back to the pool."""
        bases = np.array([day.base for day in open_days])
        sizes = np.array([day.size for day in open_days])
        self.member_rows.clear(spread(bases, sizes))
        for day in open_days:
            self._free_rows.setdefault(day.size, []).append(day.base)

    def release(self, open_days: Sequence[OpenDay]) -> None:
        """Gives the places of open days back."""
        if not open_days:
            return
        self._release_rows(open_days)
        sums_slots = [day.sums_slot for day in open_days]
        self.area_sums.clear(np.array(sums_slots))
        self._free_sums += sums_slots
        for day in open_days:
            day.base = day.size = day.sums_slot = 0


def _capacity_for(members: int) -> int:
    """The rows that so many members get; a few sizes serve all, so that rows are used again."""
    if members <= CAPACITY_STEP:
        return 1 << (members - 1).bit_length()
    return ceil(members / CAPACITY_STEP) * CAPACITY_STEP

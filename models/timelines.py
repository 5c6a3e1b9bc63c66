"""Items that should be done by a moment, and the marks on the way at which they are judged though nothing happens.

What is told of an item is kept, and everything else is computed from it: the answer does not depend on the order in
which it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from math import nan
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models.cells import Cells
from models.index import Index
from models.state import Owner, Schema, State, StateError, within
from schemas.columns import Batch, Codes, Times
from schemas.units import DAY_SECONDS

NEVER_TIME = 2**62
PORTION_ITEMS = 1000  # that pass a mark in one call, about
ORPHAN_RETENTION_SECONDS = (
    40 * DAY_SECONDS
)  # after which an end without a start, or what ended and still is in trouble, is forgotten
Timeline = tuple[Codes, Times, dict[str, Any]]  # slots, when, and the columns of a kind


class Stay(NamedTuple):
    """From `start` until `done`; a mark is at start + mark * unit, and a unit of 0 has none."""

    start: int
    unit: float
    done: int  # NEVER_TIME while it is open


class Observation(NamedTuple):
    """When an item is judged, whether that is certain though the moment has not come, and what is told of it then."""

    at: int
    certain: bool
    columns: tuple[float, ...]


class Recorded(NamedTuple):
    """What a batch told: the items concerned, the rows that told nothing new, and those that came too late."""

    touched: set[int]
    duplicates: list[int]
    late: list[int]


class Timelines(Owner):
    """The items of one kind, by slot."""

    kind: type[Batch]
    columns: tuple[str, ...]
    item: type[Any]
    complete: ClassVar[bool] = True  # every pair of the index is an item
    awaits: tuple[str, ...] = ()  # columns that are above 0 for lack of something
    awaits_when_certain = False  # whether they may be so at moments that are certain

    def __init__(self, index: Index) -> None:
        self.index = index
        self.lost: Callable[[int], Sequence[tuple[int, int]]] = (
            _nothing_lost  # by area slot, spans of lost rows
        )
        self.items: dict[int, Any] = {}
        self.cells = Cells(
            area=np.int32(-1),
            due=np.int64(NEVER_TIME),  # its next mark
            ended=np.int64(NEVER_TIME),  # when its last visit ended
            expires=np.int64(NEVER_TIME),  # when it is forgotten though it never began
        )
        self.earliest: Times = np.zeros(0, np.int64)  # next mark by area

    def open(self, area: str, item: str, at: int, sealed: int) -> int:
        """The slot of an item; -1 when a row of time `at` comes too late for one that is done or was never known."""
        known = self.index.known.get(area, {}).get(item, -1)
        if at < sealed and (known < 0 or self.cells["ended"][known] < sealed):
            return -1
        slot = self.index.slot(area, item)
        self.cells.reserve(slot + 1)
        return slot

    def record_row(
        self, recorded: Recorded, row: int, slot: int, area: int, at: int, *, new: bool
    ) -> None:
        """File a row by whether it told something new of its item."""
        cells, visits = self.cells, self.stays(slot)
        cells["area"][slot] = area
        cells["ended"][slot] = visits[-1].done if visits else NEVER_TIME
        cells["expires"][slot] = NEVER_TIME if visits else at + ORPHAN_RETENTION_SECONDS
        if new:
            recorded.touched.add(slot)
        else:
            recorded.duplicates.append(row)

    def due(self, watermarks: Times) -> Codes:
        """Items that passed a mark since they were last judged; `clock` is by area slot."""
        if len(self.earliest) < len(watermarks):
            self.update_earliest(len(watermarks))
        if not (self.earliest <= watermarks).any():
            return np.zeros(0, np.int64)
        area, due = (
            self.cells["area"][: len(self.index)],
            self.cells["due"][: len(self.index)],
        )
        return np.flatnonzero((area >= 0) & (due <= watermarks[area]))

    def portion(self, until: int) -> int:
        """How far time may pass on its way to `until` with about PORTION_ITEMS passing a mark."""
        due = self.cells["due"][: len(self.index)]
        due = due[(self.cells["area"][: len(self.index)] >= 0) & (due <= until)]
        return (
            until
            if len(due) <= PORTION_ITEMS
            else int(np.partition(due, PORTION_ITEMS)[PORTION_ITEMS])
        )

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """Every row of some items so far: slot, when, and its columns; an end is a row of mark 0."""
        rows: list[tuple[Any, ...]] = []
        for slot in slots.tolist():
            now, due = int(watermarks[self.cells["area"][slot]]), NEVER_TIME
            lost = self.lost(int(self.cells["area"][slot]))
            for at, certain, columns in sorted(
                self.observations(slot), key=itemgetter(0)
            ):
                if certain or at <= now:
                    doubted = lost and (
                        self.awaits_when_certain or not certain
                    )  # what has ended is told from end to end
                    rows.append(
                        (
                            slot,
                            at,
                            *(self._masked(slot, at, columns) if doubted else columns),
                        )
                    )
                else:
                    due = min(due, at)
            self.cells["due"][slot] = due
        self.update_earliest(len(watermarks))
        where, when, *told = (
            zip(*rows, strict=True) if rows else ((),) * (2 + len(self.columns))
        )
        return (
            np.array(where, np.int64),
            np.array(when, np.int64),
            dict(zip(self.columns, told, strict=True)),
        )

    def _masked(
        self, slot: int, at: int, columns: tuple[float, ...]
    ) -> tuple[float, ...]:
        """The columns of a moment, NaN where what is missing may have come in a span of lost rows."""
        start = self.since(slot, at)
        if not any(
            since < at and start <= until
            for since, until in self.lost(int(self.cells["area"][slot]))
        ):
            return columns
        named = zip(self.columns, columns, strict=True)
        return tuple(
            nan if name in self.awaits and value > 0 else value for name, value in named
        )

    def since(self, slot: int, at: int) -> int:
        """From when on what an item lacks at a time may have come."""
        starts = [visit.start for visit in self.stays(slot)]
        return max(
            (start for start in starts if start <= at), default=min(starts, default=at)
        )

    def stays(self, slot: int) -> list[Stay]:
        """When an item was open."""
        visits: list[Stay] = self.items[slot].stays()
        return visits

    def observations(self, slot: int) -> Iterator[Observation]:
        """Every moment at which an item is judged, as far as is known."""
        raise NotImplementedError

    def update_earliest(self, areas: int) -> None:
        """Find each area's next mark."""
        self.earliest = np.full(areas, NEVER_TIME)
        area, due = (
            self.cells["area"][: len(self.index)],
            self.cells["due"][: len(self.index)],
        )
        np.minimum.at(self.earliest, area[area >= 0], due[area >= 0])

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Items that ended so long ago that nothing can change them, or never began; those in trouble stay longer."""
        c = {
            name: array[: len(self.index)] for name, array in self.cells.arrays.items()
        }
        now, kept = watermarks[c["area"]], np.full(len(self.index), grace)
        kept[list(troubled)] = ORPHAN_RETENTION_SECONDS
        over = (c["ended"] < NEVER_TIME) & (np.minimum(c["ended"], now) + kept < now)
        return np.flatnonzero((c["area"] >= 0) & (over | (c["expires"] < now)))

    def forget(self, slots: Codes) -> None:
        """Drop some items."""
        self.cells.clear(slots)
        self.index.release(slots)
        for slot in slots.tolist():
            del self.items[slot]
        self.earliest = self.earliest[:0]

    def schema(self) -> Schema:
        """The cells of every item, and what was told of it."""
        return {**self.cells.schema(), "items": dict[int, self.item]}  # type: ignore[name-defined]

    def state(self) -> State:
        """Everything remembered."""
        return {**self.cells.state(), "items": self.items}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError where index, items and cells do not agree."""
        self.load_cells(state)
        self.items = state.get("items", {})
        if self.items.keys() != set(np.flatnonzero(self.cells["area"] >= 0).tolist()):
            raise StateError("its items are not those of its cells")
        if self.complete and self.items.keys() != self.index.used_slots():
            raise StateError("its items are not those of its index")

    def load_cells(self, state: State) -> None:
        """Replace the cells by what `state` gave. Raises StateError where one is of no item."""
        self.cells.load(state)
        self.earliest = np.zeros(0, np.int64)
        within("how many items it has", self.cells.used, 0, len(self.index))
        self.cells.reserve(len(self.index))


def _nothing_lost(_: int) -> Sequence[tuple[int, int]]:
    """No spans."""
    return ()


def seconds_after(start: int, seconds: float) -> int:
    """So many seconds after a moment, whatever the day."""
    return start + round(seconds)


def passed_marks(
    stay: Stay,
    marks: Sequence[float],
    after: Callable[[int, float], int] = seconds_after,
) -> Iterator[tuple[int, bool, float]]:
    """When each mark of a visit passes, whether it surely does, and its end as a mark of 0."""
    for mark in marks if stay.unit > 0 else ():
        at = after(stay.start, mark * stay.unit)
        if at < stay.done:
            yield at, stay.done < NEVER_TIME, mark
    if stay.done < NEVER_TIME:
        yield stay.done, True, 0.0

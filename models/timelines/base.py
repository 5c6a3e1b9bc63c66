"""Items with a deadline, and the marks at which they are judged although nothing happens.

The events of an item are kept, and everything else is computed from them: the result does not
depend on the order in which they come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from math import nan
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models.drift import WatchedModel
from models.state.cells import Array, Cells
from models.state.index import Index
from models.state.owners import Owner, Schema, State, StateError, within
from schemas.columns import Batch, Codes, Times
from schemas.units import DAY_SECONDS, NEVER_TIME

PORTION_ITEMS = 1000  # about, that pass a mark in one call
# after which an end without a start, or an ended item still in trouble, is forgotten
ORPHAN_RETENTION_SECONDS = 40 * DAY_SECONDS


class Stay(NamedTuple):
    """A span from `start` to `done`; a mark is at start + mark * unit, a unit of 0 has no marks."""

    start: int
    unit: float
    done: int  # NEVER_TIME while it is open


# a mark of a stay, 0 for its end: event time, whether it is certain before it comes, and the mark
PassedMark = tuple[int, bool, float]


class Timeline(NamedTuple):
    """Rows of a kind: the slots of their items, event times, and columns."""

    slots: Codes
    at: Times
    columns: dict[str, Any]


class Observation(NamedTuple):
    """A moment at which an item is judged, with its columns; it may be certain before it comes."""

    at: int
    certain: bool
    columns: tuple[float, ...]


class Recorded(NamedTuple):
    """The items that a batch changes, its rows without news, and its late rows."""

    touched: set[int]
    duplicates: list[int]
    late: list[int]


class Timelines(Owner):
    """The items of one kind, by slot."""

    kind: type[Batch]
    columns: tuple[str, ...]
    item: type[Any]
    complete: ClassVar[bool] = True  # every pair of the index is an item
    awaits: tuple[str, ...] = ()  # columns that are above 0 while an event is missing
    awaits_when_certain = False  # whether they may be so at certain moments
    watched_model: WatchedModel | None = None

    def __init__(self, index: Index) -> None:
        self.index = index
        # by area slot, spans of lost rows
        self.lost: Callable[[int], Sequence[tuple[int, int]]] = _nothing_lost
        self.items: dict[int, Any] = {}
        self.cells = Cells(
            area=np.int32(-1),
            due=np.int64(NEVER_TIME),  # its next mark
            ended=np.int64(NEVER_TIME),  # when its last stay ended
            expires=np.int64(NEVER_TIME),  # when it is forgotten if it never began
        )
        self.earliest: Times = np.zeros(0, np.int64)  # next mark by area

    def open(self, area: str, item: str, at: int, sealed: int) -> int:
        """The slot of an item.

        -1 where a row of time `at` is late for an item that is done or unknown.
        """
        items = self.index.known.get(area, {})
        known = items.get(item, -1)
        if at < sealed:
            is_done = known >= 0 and self.cells["ended"][known] < sealed
            if known < 0 or is_done:
                return -1
        slot = self.index.slot(area, item)
        self.cells.reserve(slot + 1)
        return slot

    def record_row(
        self, recorded: Recorded, row: int, slot: int, area: int, at: int, *, new: bool
    ) -> list[Stay]:
        """Notes a row in `recorded`, by whether it is new, and updates the cells of its item, whose stays it gives."""
        cells = self.cells
        stays = self.stays(slot)
        cells["area"][slot] = area
        cells["ended"][slot] = stays[-1].done if stays else NEVER_TIME
        cells["expires"][slot] = NEVER_TIME if stays else at + ORPHAN_RETENTION_SECONDS
        if new:
            recorded.touched.add(slot)
        else:
            recorded.duplicates.append(row)
        return stays

    def due(self, watermarks: Times) -> Codes:
        """Items that passed a mark since they were last judged; `watermarks` is by area slot."""
        if len(self.earliest) < len(watermarks):
            self.update_earliest(len(watermarks))
        if not (self.earliest <= watermarks).any():
            return np.zeros(0, np.int64)

        area = self._column("area")
        passed = self._column("due") <= watermarks[area]
        return np.flatnonzero((area >= 0) & passed)

    def portion(self, until: int) -> int:
        """The time up to `until` by which about PORTION_ITEMS items pass a mark."""
        due = self._column("due")
        is_item = self._column("area") >= 0
        due = due[is_item & (due <= until)]
        if len(due) <= PORTION_ITEMS:
            return until
        return int(np.partition(due, PORTION_ITEMS)[PORTION_ITEMS])

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """Every row of some items so far; the end of a stay is a row of mark 0."""
        rows: list[tuple[Any, ...]] = []
        for slot in slots.tolist():
            area = int(self.cells["area"][slot])
            now = int(watermarks[area])
            due = NEVER_TIME
            lost = self.lost(area)
            observations = self.observations(slot, now)
            for observation in sorted(observations, key=itemgetter(0)):
                at, certain, columns = observation
                if not certain and at > now:
                    due = min(due, at)
                    continue
                # Every event of an item that has ended is known, if it has a start.
                if lost and (self.awaits_when_certain or not certain):
                    columns = self._masked(slot, at, columns)
                rows.append((slot, at, *columns))
            self.cells["due"][slot] = due
        self.update_earliest(len(watermarks))
        return self._as_timeline(rows)

    def _as_timeline(self, rows: list[tuple[Any, ...]]) -> Timeline:
        """Rows of slot, event time and columns."""
        transposed = list(zip(*rows, strict=True))
        if not rows:
            transposed = [() for _ in range(2 + len(self.columns))]
        slots, at, *columns = transposed
        named = zip(self.columns, columns, strict=True)
        return Timeline(
            slots=np.array(slots, np.int64),
            at=np.array(at, np.int64),
            columns=dict(named),
        )

    def _masked(
        self, slot: int, at: int, columns: tuple[float, ...]
    ) -> tuple[float, ...]:
        """The columns of a moment, NaN where the missing event may be among lost rows."""
        start = self.since(slot, at)
        area = int(self.cells["area"][slot])
        lost = self.lost(area)
        if not any(since < at and start <= until for since, until in lost):
            return columns
        named = zip(self.columns, columns, strict=True)
        return tuple(
            nan if name in self.awaits and value > 0 else value for name, value in named
        )

    def since(self, slot: int, at: int) -> int:
        """The earliest time of the event that an item lacks at a time."""
        starts = [stay.start for stay in self.stays(slot)]
        earliest = min(starts, default=at)
        return max((start for start in starts if start <= at), default=earliest)

    def stays(self, slot: int) -> list[Stay]:
        """The spans in which an item was open."""
        stays: list[Stay] = self.items[slot].stays()
        return stays

    def observations(self, slot: int, now: int) -> Iterator[Observation]:
        """Every known moment at which an item is judged up to now, and at least the next one."""
        raise NotImplementedError

    def update_earliest(self, areas: int) -> None:
        """Finds each area's next mark."""
        self.earliest = np.full(areas, NEVER_TIME)
        area = self._column("area")
        due = self._column("due")
        is_item = area >= 0
        np.minimum.at(self.earliest, area[is_item], due[is_item])

    def forget_earliest(self) -> None:
        """Has the next marks found anew when they are asked for."""
        self.earliest = self.earliest[:0]

    def _column(self, name: str) -> Array:
        """The cells of every slot of the index."""
        return self.cells[name][: len(self.index)]

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Items that ended too long ago to change, or never began; items in trouble stay longer."""
        area = self._column("area")
        ended = self._column("ended")
        now = watermarks[area]
        retention = np.full(len(area), grace)
        retention[list(troubled)] = ORPHAN_RETENTION_SECONDS

        forgotten_at = np.minimum(ended, now) + retention
        over = (ended < NEVER_TIME) & (forgotten_at < now)
        expired = self._column("expires") < now
        return np.flatnonzero((area >= 0) & (over | expired))

    def forget(self, slots: Codes) -> None:
        """Drops some items."""
        self.cells.clear(slots)
        self.index.release(slots)
        for slot in slots.tolist():
            del self.items[slot]
        self.forget_earliest()

    def schema(self) -> Schema:
        """The cells and the events of every item."""
        return {**self.cells.schema(), "items": dict[int, self.item]}  # type: ignore[name-defined]

    def state(self) -> State:
        """Everything remembered."""
        return {**self.cells.state(), "items": self.items}

    def load(self, state: State) -> None:
        """Replaces everything by a state.

        Raises StateError where index, items and cells do not agree.
        """
        self.load_cells(state)
        self.items = state.get("items", {})
        slots = np.flatnonzero(self.cells["area"] >= 0)
        if self.items.keys() != set(slots.tolist()):
            raise StateError("its items are not those of its cells")
        if self.complete and self.items.keys() != self.index.used_slots():
            raise StateError("its items are not those of its index")

    def load_cells(self, state: State) -> None:
        """Replaces the cells by those of a state. Raises StateError if a cell has no item."""
        self.cells.load(state)
        self.earliest = np.zeros(0, np.int64)
        within("its number of items", self.cells.used, 0, len(self.index))
        self.cells.reserve(len(self.index))


def named_rows(batch: Batch) -> Iterator[tuple[int, str, str, int]]:
    """Each row: its number, area, subject and event time."""
    columns = (batch.area.tolist(), batch.subject.tolist(), batch.at.tolist())
    for n, (area, subject, at) in enumerate(zip(*columns, strict=True)):
        yield n, batch.areas[area], batch.names[subject], at


def _nothing_lost(_: int) -> Sequence[tuple[int, int]]:
    """No spans."""
    return ()


def seconds_after(start: int, seconds: float) -> int:
    """The moment some seconds after another, on any day."""
    return start + round(seconds)


def passed_marks(
    stay: Stay,
    marks: Sequence[float],
    now: int,
    after: Callable[[int, float], int] = seconds_after,
) -> Iterator[PassedMark]:
    """Each mark that a stay passes, in ascending order, and its end; of an open stay only the next one after now."""
    is_done = stay.done < NEVER_TIME
    for mark in marks if stay.unit > 0 else ():
        at = after(stay.start, mark * stay.unit)
        if at >= stay.done:
            break
        yield at, is_done, mark
        if at > now and not is_done:
            break
    if is_done:
        yield stay.done, True, 0.0

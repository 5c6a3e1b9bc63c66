"""How many of a section's open items are stuck in each stage at every local midnight."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from models.calendar import midnights
from models.cells import Array, Cells
from models.runs import runs
from models.state import Schema, State, within
from models.timelines import NEVER_TIME, Timeline, Timelines
from models.work import Work
from schemas.columns import LATEST_TIME, Backlogs, Codes, Stages, Times


class _StayColumns(NamedTuple):
    """Every stay of a section's items in a stage, by when it begins, when it is stuck and when it ends."""

    stage: Codes  # slot
    start: Times
    stuck: Times
    end: Times


class Backlog(Timelines):
    """The stages of sections, by slot. Midnights within the grace period are counted anew when work is told late."""

    kind = Backlogs
    columns = ("stuck", "open_items", "stuck_share")

    def __init__(self, work: Work, zone: str, grace: int) -> None:
        super().__init__(work.queues)
        self._work, self._grace, self._midnights = work, grace, midnights(zone)
        self.cells = Cells(
            area=np.int32(-1), due=np.int64(NEVER_TIME), final=np.int64(0)
        )

    def record(
        self, batch: Stages, areas: Codes, now: Times, watermarks: Times
    ) -> set[int]:
        """The stages that must be counted anew, since of their section something from before a midnight was told."""
        touched: set[int] = set()
        self.cells.reserve(len(self.index))
        behind, final = (
            batch.at < self._last_midnight(watermarks[areas]),
            self._last_midnight(now - self._grace),
        )
        for n in range(len(batch)):
            known = self.index.known.get(batch.areas[batch.area[n]], {})
            slot = known.get(batch.stages[batch.stage[n]], -1)
            if slot >= 0 and self.cells["area"][slot] < 0:
                self.cells["area"][slot], self.cells["final"][slot] = areas[n], final[n]
                self.cells["due"][slot] = self._next_midnight(int(final[n]))
                self.earliest = self.earliest[:0]
            if behind[n]:
                touched.update(known.values())
        return touched

    def _last_midnight(self, watermarks: Any) -> Any:
        """The last midnight before or at some times."""
        return self._midnights[
            np.maximum(
                np.searchsorted(self._midnights, watermarks, side="right") - 1, 0
            )
        ]

    def _next_midnight(self, midnight: Any) -> Any:
        """The next one."""
        return self._midnights[np.searchsorted(self._midnights, midnight, side="right")]

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """What is counted at the midnights that are not final."""
        parts: list[tuple[Array, ...]] = []
        for area, stages in self._by_section(slots):
            now = int(watermarks[area])
            parts.append(self._count_midnights(area, stages, now))
            self.cells["due"][stages] = self._next_midnight(
                np.maximum(self.cells["final"][stages], now)
            )
        self.update_earliest(len(watermarks))
        return self._as_timeline(parts)

    def _by_section(self, slots: Codes) -> Iterator[tuple[int, Codes]]:
        """The area slot of each section of some stages, and its stages."""
        areas = self.cells["area"][slots]
        order = np.argsort(areas, kind="stable")
        for part in np.split(slots[order], runs(areas[order])[1:]):
            if len(part):
                yield int(self.cells["area"][part[0]]), part

    def _count_midnights(
        self, area: int, stages: Codes, until: int
    ) -> tuple[Array, ...]:
        """Slot, midnight and columns at the midnights after what is final of some stages of a section, up to a time.

        A section of which nothing is final yet is counted from its first stay on.
        """
        stays = self._stays_of(area)
        begin = int(self.cells["final"][stages].min())
        if begin == self._midnights[0]:
            begin = int(stays.start.min(initial=until))
        first = np.searchsorted(self._midnights, begin, side="right")
        last = np.searchsorted(self._midnights, until, side="right")
        nights = self._midnights[first : max(first, last)]
        total = _count_before(stays.start, nights) - _count_before(stays.end, nights)

        late = stays.stuck <= stays.end
        columns: list[tuple[Array, ...]] = []
        for slot in stages.tolist():
            ours = late & (stays.stage == slot)
            stuck = _count_before(stays.stuck[ours] - 1, nights) - _count_before(
                stays.end[ours], nights
            )
            new = nights > self.cells["final"][slot]
            share = stuck / np.maximum(total, 1)
            columns.append(
                (
                    np.full(len(nights), slot)[new],
                    nights[new],
                    stuck[new],
                    total[new],
                    share[new],
                )
            )
        return tuple(np.concatenate(column) for column in zip(*columns, strict=True))

    def _stays_of(self, area: int) -> _StayColumns:
        """Every stay of a section's items, those before the last too."""
        c = {
            name: array[: len(self._work.index)]
            for name, array in self._work.cells.arrays.items()
        }
        ours = np.flatnonzero((c["area"] == area) & (c["since"] < NEVER_TIME))
        stays = np.stack(
            [c["queue"][ours], c["since"][ours], c["stuck"][ours], c["ended"][ours]]
        )
        earlier = [
            (c["queue"][item], visit.start, self._work.stuck(item, visit), visit.done)
            for item in ours[c["again"][ours]].tolist()
            for visit in self._work.items[item].stays()[:-1]
        ]
        if earlier:
            stays = np.concatenate([stays, np.array(earlier, np.int64).T], axis=1)
        stage, start, stuck, end = stays
        for since, until in self._work.lost(
            area
        ):  # what may have ended with lost rows is open until then
            unsure = (end == NEVER_TIME) & (start <= until)
            end = np.where(unsure, np.maximum(start, since), end)
        return _StayColumns(stage, start, np.maximum(stuck, start + 1), end)

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """What becomes final in some areas."""
        parts: list[tuple[Array, ...]] = []
        slots = np.flatnonzero(np.isin(self.cells["area"][: len(self.index)], areas))
        for area, stages in self._by_section(slots):
            last = int(self._last_midnight(int(watermarks[area]) - self._grace))
            parts.append(self._count_midnights(area, stages, last))
            self.cells["final"][stages] = np.maximum(self.cells["final"][stages], last)
        return self._as_timeline(parts)

    def _as_timeline(self, counts: list[tuple[Array, ...]]) -> Timeline:
        """Parts of slots, times and columns as one."""
        none = (np.zeros(0, np.int64),) * 2 + (np.zeros(0),) * len(self.columns)
        where, at, *columns = (
            np.concatenate(column) for column in zip(none, *counts, strict=True)
        )
        return where, at, dict(zip(self.columns, columns, strict=True))

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Stages of which no work is remembered."""
        kept = [*self._work.cells["queue"].tolist(), *troubled]
        return np.setdiff1d(np.flatnonzero(self.cells["area"] >= 0), kept)

    def forget(self, slots: Codes) -> None:
        """Drop some stages."""
        self.cells.clear(slots)
        self.index.release(slots)
        self.earliest = self.earliest[:0]

    def schema(self) -> Schema:
        """The cells of every stage."""
        return self.cells.schema()

    def state(self) -> State:
        """Everything remembered."""
        return self.cells.state()

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError where a cell is of no stage."""
        self.load_cells(state)
        within("a midnight", self.cells["final"], 0, LATEST_TIME)


def _count_before(times: Times, nights: Times) -> Codes:
    """How many of some times are before each midnight.

    >>> _count_before(np.array([5, 9, 10]), np.array([5, 10, 11])).tolist()
    [0, 2, 3]
    """
    return np.searchsorted(np.sort(times), nights, side="left")

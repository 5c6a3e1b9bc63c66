"""The number of a section's open items that are stuck in each stage, at every local midnight."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from models.master.calendar import midnights
from models.state.cells import Array, Cells
from models.state.owners import Schema, State, within
from models.state.runs import runs
from models.timelines.base import NEVER_TIME, Timeline, Timelines
from models.timelines.work import Work
from schemas.columns import LATEST_TIME, Backlogs, Codes, Stages, Times


class _StayColumns(NamedTuple):
    """Stays of a section's items: stage, start, the time from which it is stuck, and end."""

    stage: Codes  # slot
    start: Times
    stuck: Times
    end: Times


class Backlog(Timelines):
    """The stages of sections, by slot.

    Midnights within the grace period are counted anew after late work.
    """

    kind = Backlogs
    columns = ("stuck", "open_items", "stuck_share")

    def __init__(self, work: Work, zone: str, grace: int) -> None:
        super().__init__(work.queues)
        self._work = work
        self._grace = grace
        self._midnights = midnights(zone)
        self.cells = Cells(
            area=np.int32(-1), due=np.int64(NEVER_TIME), final=np.int64(0)
        )

    def record(
        self, batch: Stages, areas: Codes, now: Times, watermarks: Times
    ) -> set[int]:
        """The stages to count anew: rows of their section are older than its last midnight."""
        touched: set[int] = set()
        self.cells.reserve(len(self.index))
        before_midnight = batch.at < self._last_midnight(watermarks[areas])
        final = self._last_midnight(now - self._grace)

        for n in range(len(batch)):
            stages = self.index.known.get(batch.areas[batch.area[n]], {})
            slot = stages.get(batch.stages[batch.stage[n]], -1)
            if slot >= 0 and self.cells["area"][slot] < 0:
                self.cells["area"][slot] = areas[n]
                self.cells["final"][slot] = final[n]
                self.cells["due"][slot] = self._next_midnight(int(final[n]))
                self.earliest = self.earliest[:0]
            if before_midnight[n]:
                touched.update(stages.values())
        return touched

    def _last_midnight(self, watermarks: Any) -> Any:
        """The last midnight before or at some times."""
        following = np.searchsorted(self._midnights, watermarks, side="right")
        return self._midnights[np.maximum(following - 1, 0)]

    def _next_midnight(self, midnight: Any) -> Any:
        """The midnight after some others."""
        return self._midnights[np.searchsorted(self._midnights, midnight, side="right")]

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """The counts at the midnights that are not final."""
        counts: list[tuple[Array, ...]] = []
        for area, stages in self._by_section(slots):
            now = int(watermarks[area])
            counts.append(self._count_midnights(area, stages, now))
            counted = np.maximum(self.cells["final"][stages], now)
            self.cells["due"][stages] = self._next_midnight(counted)
        self.update_earliest(len(watermarks))
        return self._as_timeline(counts)

    def _by_section(self, slots: Codes) -> Iterator[tuple[int, Codes]]:
        """Each section of some stages: its area slot, and its stages."""
        areas = self.cells["area"][slots]
        order = np.argsort(areas, kind="stable")
        for stages in np.split(slots[order], runs(areas[order])[1:]):
            if len(stages):
                yield int(self.cells["area"][stages[0]]), stages

    def _count_midnights(
        self, area: int, stages: Codes, until: int
    ) -> tuple[Array, ...]:
        """The counts of some stages of a section at the midnights up to a time that are not final.

        A section without final midnights is counted from its first stay on.
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
        counts: list[tuple[Array, ...]] = []
        for slot in stages.tolist():
            of_stage = late & (stays.stage == slot)
            stuck = _count_before(stays.stuck[of_stage] - 1, nights)
            stuck = stuck - _count_before(stays.end[of_stage], nights)
            share = stuck / np.maximum(total, 1)
            new = nights > self.cells["final"][slot]
            columns = (np.full(len(nights), slot), nights, stuck, total, share)
            counts.append(tuple(column[new] for column in columns))
        return tuple(np.concatenate(column) for column in zip(*counts, strict=True))

    def _stays_of(self, area: int) -> _StayColumns:
        """Every stay of a section's items, also the stays before the last."""
        work = self._work
        count = len(work.index)
        cells = {name: array[:count] for name, array in work.cells.arrays.items()}
        items = np.flatnonzero((cells["area"] == area) & (cells["since"] < NEVER_TIME))
        names = ("queue", "since", "stuck", "ended")
        stays = np.stack([cells[name][items] for name in names])

        earlier = [
            (cells["queue"][item], stay.start, work.stuck(item, stay), stay.done)
            for item in items[cells["again"][items]].tolist()
            for stay in work.items[item].stays()[:-1]
        ]
        if earlier:
            stays = np.concatenate([stays, np.array(earlier, np.int64).T], axis=1)
        stage, start, stuck, end = stays

        # A stay whose end may be among lost rows is open until then.
        for since, until in work.lost(area):
            unsure = (end == NEVER_TIME) & (start <= until)
            end = np.where(unsure, np.maximum(start, since), end)
        return _StayColumns(stage, start, np.maximum(stuck, start + 1), end)

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """The counts that become final in some areas."""
        counts: list[tuple[Array, ...]] = []
        slots = np.flatnonzero(np.isin(self.cells["area"][: len(self.index)], areas))
        for area, stages in self._by_section(slots):
            last = int(self._last_midnight(int(watermarks[area]) - self._grace))
            counts.append(self._count_midnights(area, stages, last))
            self.cells["final"][stages] = np.maximum(self.cells["final"][stages], last)
        return self._as_timeline(counts)

    def _as_timeline(self, counts: list[tuple[Array, ...]]) -> Timeline:
        """Slots, times and columns of all counts."""
        none = (np.zeros(0, np.int64),) * 2 + (np.zeros(0),) * len(self.columns)
        joined = [np.concatenate(column) for column in zip(none, *counts, strict=True)]
        slots, at, *columns = joined
        return slots, at, dict(zip(self.columns, columns, strict=True))

    def finished(
        self, watermarks: Times, grace: int, troubled: Collection[int]
    ) -> Codes:
        """Stages without work."""
        in_use = [*self._work.cells["queue"].tolist(), *troubled]
        return np.setdiff1d(np.flatnonzero(self.cells["area"] >= 0), in_use)

    def forget(self, slots: Codes) -> None:
        """Drops some stages."""
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
        """Replaces everything by a state. Raises StateError if a cell has no stage."""
        self.load_cells(state)
        within("a midnight", self.cells["final"], 0, LATEST_TIME)


def _count_before(times: Times, nights: Times) -> Codes:
    """The number of times before each midnight.

    >>> _count_before(np.array([5, 9, 10]), np.array([5, 10, 11])).tolist()
    [0, 2, 3]
    """
    return np.searchsorted(np.sort(times), nights, side="left")

"""The number of a section's open items that are stuck in each stage, at every local midnight."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from models.master.calendar import midnights
from models.state.cells import Array, Cells
from models.state.owners import Schema, State, within
from models.state.runs import runs
from models.timelines.base import Timeline, Timelines, named_rows
from models.timelines.work import Work
from schemas.columns import LATEST_TIME, Backlogs, Codes, Stages, Times
from schemas.units import NEVER_TIME

# The cells of an item's last stay, in the order of _StayColumns.
LAST_STAY_CELLS = ("queue", "since", "stuck", "ended")


class _StayColumns(NamedTuple):
    """Stays of a section's items: stage, start, the time from which it is stuck, and end."""

    stage: Codes  # slot
    start: Times
    stuck: Times
    end: Times


class _MidnightCounts(NamedTuple):
    """The items of stages at midnights."""

    stage: Codes  # slot
    at: Times
    stuck: Array
    open_items: Array  # of the section
    stuck_share: Array


class Backlog(Timelines):
    """The stages of sections, by slot.

    Midnights within the grace period are counted anew after late work.
    """

    kind = Backlogs
    columns = _MidnightCounts._fields[2:]

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

        for n, section, _, _ in named_rows(batch):
            stages = self.index.known.get(section, {})
            stage = batch.stages[batch.stage[n]]
            slot = stages.get(stage, -1)
            if slot >= 0 and self.cells["area"][slot] < 0:
                self._begin(slot, areas[n], final[n])
            if before_midnight[n]:
                touched.update(stages.values())
        return touched

    def _begin(self, slot: int, area: int, final: int) -> None:
        """Notes a stage that had no items; it is counted after its final midnight."""
        self.cells["area"][slot] = area
        self.cells["final"][slot] = final
        self.cells["due"][slot] = self._next_midnight(final)
        self.forget_earliest()

    def _last_midnight(self, watermarks: Any) -> Any:
        """The last midnight before or at some times."""
        following = np.searchsorted(self._midnights, watermarks, side="right")
        last = np.maximum(following - 1, 0)
        return self._midnights[last]

    def _next_midnight(self, midnight: Any) -> Any:
        """The midnight after some others."""
        following = np.searchsorted(self._midnights, midnight, side="right")
        return self._midnights[following]

    def timeline(self, slots: Codes, watermarks: Times) -> Timeline:
        """The counts at the midnights that are not final."""
        counts: list[_MidnightCounts] = []
        for area, stages in self._by_section(slots):
            now = int(watermarks[area])
            counts.append(self._count_midnights(area, stages, now))
            counted = np.maximum(self.cells["final"][stages], now)
            self.cells["due"][stages] = self._next_midnight(counted)
        self.update_earliest(len(watermarks))
        return self._timeline_of(counts)

    def _by_section(self, slots: Codes) -> Iterator[tuple[int, Codes]]:
        """Each section of some stages: its area slot, and its stages."""
        areas = self.cells["area"][slots]
        order = np.argsort(areas, kind="stable")
        begins = runs(areas[order])[1:]
        for stages in np.split(slots[order], begins):
            if len(stages):
                area = self.cells["area"][stages[0]]
                yield int(area), stages

    def _count_midnights(self, area: int, stages: Codes, until: int) -> _MidnightCounts:
        """The counts of some stages of a section at the midnights up to a time that are not final.

        A section without final midnights is counted from its first stay on.
        """
        stays = self._stays_of(area)
        begin = int(self.cells["final"][stages].min())
        if begin == self._midnights[0]:
            begin = int(stays.start.min(initial=until))
        nights = self._nights_between(begin, until)
        total = _count_open(stays.start, stays.end, nights)

        late = stays.stuck <= stays.end
        counts: list[_MidnightCounts] = []
        for slot in stages.tolist():
            of_stage = late & (stays.stage == slot)
            begins = stays.stuck[of_stage] - 1
            ends = stays.end[of_stage]
            stuck = _count_open(begins, ends, nights)

            new = nights > self.cells["final"][slot]
            new_count = _MidnightCounts(
                stage=np.full(np.count_nonzero(new), slot),
                at=nights[new],
                stuck=stuck[new],
                open_items=total[new],
                stuck_share=stuck[new] / np.maximum(total[new], 1),
            )
            counts.append(new_count)
        return _joined(counts)

    def _nights_between(self, begin: int, until: int) -> Times:
        """The midnights after one time, up to another."""
        first = np.searchsorted(self._midnights, begin, side="right")
        last = np.searchsorted(self._midnights, until, side="right")
        return self._midnights[first : max(first, last)]

    def _stays_of(self, area: int) -> _StayColumns:
        """Every stay of a section's items, also the stays before the last."""
        cells = self._work.cells
        has_begun = cells["since"] < NEVER_TIME
        items = np.flatnonzero(has_begun & (cells["area"] == area))
        last = np.stack([cells[name][items] for name in LAST_STAY_CELLS])
        earlier = self._earlier_stays(items)
        stays = np.concatenate([last, earlier], axis=1)
        stage, start, stuck, end = stays

        # A stay whose end may be among lost rows is open until then.
        for since, until in self._work.lost(area):
            is_open = end == NEVER_TIME
            unsure = is_open & (start <= until)
            end = np.where(unsure, np.maximum(start, since), end)
        stuck = np.maximum(stuck, start + 1)
        return _StayColumns(stage, start, stuck, end)

    def _earlier_stays(self, items: Codes) -> Codes:
        """The same columns of the items' stays before their last."""
        work = self._work
        stays: list[tuple[int, ...]] = []
        again = work.cells["again"][items]
        for item in items[again].tolist():
            queue = int(work.cells["queue"][item])
            for stay in work.items[item].stays()[:-1]:
                stuck_from = work.stuck(item, stay)
                stays.append((queue, stay.start, stuck_from, stay.done))
        columns = np.array(stays, np.int64).reshape(-1, len(LAST_STAY_CELLS))
        return columns.T

    def seal(self, areas: Codes, watermarks: Times) -> Timeline:
        """The counts that become final in some areas."""
        counts: list[_MidnightCounts] = []
        final = self.cells["final"]
        slots = np.flatnonzero(np.isin(self._column("area"), areas))
        for area, stages in self._by_section(slots):
            sealed = int(watermarks[area]) - self._grace
            last = int(self._last_midnight(sealed))
            counts.append(self._count_midnights(area, stages, last))
            final[stages] = np.maximum(final[stages], last)
        return self._timeline_of(counts)

    def _timeline_of(self, counts: list[_MidnightCounts]) -> Timeline:
        """Slots, times and columns of all counts."""
        no_times = np.zeros(0, np.int64)
        none = np.zeros(0)
        empty = _MidnightCounts(no_times, no_times, none, none, none)
        joined = _joined([empty, *counts])
        columns = {
            "stuck": joined.stuck,
            "open_items": joined.open_items,
            "stuck_share": joined.stuck_share,
        }
        return Timeline(joined.stage, joined.at, columns)

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
        self.forget_earliest()

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


def _joined(counts: list[_MidnightCounts]) -> _MidnightCounts:
    """Some counts, one behind the other."""
    columns = zip(*counts, strict=True)
    return _MidnightCounts(*map(np.concatenate, columns))


def _count_open(begins: Times, ends: Times, nights: Times) -> Codes:
    """The number of spans that have begun and not ended before each midnight."""
    return _count_before(begins, nights) - _count_before(ends, nights)


def _count_before(times: Times, nights: Times) -> Codes:
    """The number of times before each midnight.

    >>> _count_before(np.array([5, 9, 10]), np.array([5, 10, 11])).tolist()
    [0, 2, 3]
    """
    return np.searchsorted(np.sort(times), nights, side="left")

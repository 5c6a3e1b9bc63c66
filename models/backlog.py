"""How many of a section's open items are stuck in each stage at every local midnight."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from models.calendar import midnights
from models.cells import Array, Cells
from models.deadlines import NEVER, Deadlines, Timeline
from models.runs import runs
from models.state import Schema, State, within
from models.work import Work
from schemas.columns import LATEST, Backlogs, Codes, Stages, Times


class Stays(NamedTuple):
    """Every stay of a section's items in a stage, by when it begins, when it is stuck and when it ends."""

    stage: Codes  # slot
    start: Times
    stuck: Times
    end: Times


class Backlog(Deadlines):
    """The stages of sections, by slot. Midnights within the grace period are counted anew when work is told late."""

    kind = Backlogs
    columns = ("stuck", "open_items", "stuck_share")

    def __init__(self, work: Work, zone: str, grace: int) -> None:
        super().__init__(work.queues)
        self.work, self.grace, self.midnights = work, grace, midnights(zone)
        self.cells = Cells(area=np.int32(-1), due=np.int64(NEVER), final=np.int64(0))

    def fold(self, batch: Stages, areas: Codes, now: Times, clock: Times) -> set[int]:
        """The stages that must be counted anew, since of their section something from before a midnight was told."""
        touched: set[int] = set()
        self.cells.room(len(self.index))
        behind, final = batch.at < self.passed(clock[areas]), self.passed(now - self.grace)
        for n in range(len(batch)):
            known = self.index.known.get(batch.areas[batch.area[n]], {})
            slot = known.get(batch.stages[batch.stage[n]], -1)
            if slot >= 0 and self.cells["area"][slot] < 0:
                self.cells["area"][slot], self.cells["final"][slot] = areas[n], final[n]
                self.cells["due"][slot] = self.after(int(final[n]))
                self.earliest = self.earliest[:0]
            if behind[n]:
                touched.update(known.values())
        return touched

    def passed(self, clock: Any) -> Any:
        """The last midnight before or at some times."""
        return self.midnights[np.maximum(np.searchsorted(self.midnights, clock, side="right") - 1, 0)]

    def after(self, midnight: Any) -> Any:
        """The next one."""
        return self.midnights[np.searchsorted(self.midnights, midnight, side="right")]

    def timeline(self, slots: Codes, clock: Times) -> Timeline:
        """What is counted at the midnights that are not final."""
        parts: list[tuple[Array, ...]] = []
        for area, stages in self.by_section(slots):
            now = int(clock[area])
            parts.append(self.counted(area, stages, now))
            self.cells["due"][stages] = self.after(np.maximum(self.cells["final"][stages], now))
        self.survey(len(clock))
        return self.as_timeline(parts)

    def by_section(self, slots: Codes) -> Iterator[tuple[int, Codes]]:
        """The area slot of each section of some stages, and its stages."""
        areas = self.cells["area"][slots]
        order = np.argsort(areas, kind="stable")
        for part in np.split(slots[order], runs(areas[order])[1:]):
            if len(part):
                yield int(self.cells["area"][part[0]]), part

    def counted(self, area: int, stages: Codes, until: int) -> tuple[Array, ...]:
        """Slot, midnight and columns at the midnights after what is final of some stages of a section, up to a time.

        A section of which nothing is final yet is counted from its first stay on.
        """
        stays = self.stays(area)
        begin = int(self.cells["final"][stages].min())
        if begin == self.midnights[0]:
            begin = int(stays.start.min(initial=until))
        first = np.searchsorted(self.midnights, begin, side="right")
        last = np.searchsorted(self.midnights, until, side="right")
        nights = self.midnights[first : max(first, last)]
        total = before(stays.start, nights) - before(stays.end, nights)

        late = stays.stuck <= stays.end
        columns: list[tuple[Array, ...]] = []
        for slot in stages.tolist():
            ours = late & (stays.stage == slot)
            stuck = before(stays.stuck[ours] - 1, nights) - before(stays.end[ours], nights)
            new = nights > self.cells["final"][slot]
            share = stuck / np.maximum(total, 1)
            columns.append((np.full(len(nights), slot)[new], nights[new], stuck[new], total[new], share[new]))
        return tuple(np.concatenate(column) for column in zip(*columns, strict=True))

    def stays(self, area: int) -> Stays:
        """Every stay of a section's items, those before the last too."""
        c = {name: array[: len(self.work.index)] for name, array in self.work.cells.arrays.items()}
        ours = np.flatnonzero((c["area"] == area) & (c["since"] < NEVER))
        stays = np.stack([c["queue"][ours], c["since"][ours], c["stuck"][ours], c["ended"][ours]])
        earlier = [
            (c["queue"][item], visit.start, self.work.stuck(item, visit), visit.done)
            for item in ours[c["again"][ours]].tolist()
            for visit in self.work.items[item].visits()[:-1]
        ]
        if earlier:
            stays = np.concatenate([stays, np.array(earlier, np.int64).T], axis=1)
        stage, start, stuck, end = stays
        for since, until in self.work.lost(area):  # what may have ended with lost rows is open until then
            unsure = (end == NEVER) & (start <= until)
            end = np.where(unsure, np.maximum(start, since), end)
        return Stays(stage, start, np.maximum(stuck, start + 1), end)

    def seal(self, areas: Codes, clock: Times) -> Timeline:
        """What becomes final in some areas."""
        parts: list[tuple[Array, ...]] = []
        slots = np.flatnonzero(np.isin(self.cells["area"][: len(self.index)], areas))
        for area, stages in self.by_section(slots):
            last = int(self.passed(int(clock[area]) - self.grace))
            parts.append(self.counted(area, stages, last))
            self.cells["final"][stages] = np.maximum(self.cells["final"][stages], last)
        return self.as_timeline(parts)

    def as_timeline(self, parts: list[tuple[Array, ...]]) -> Timeline:
        """Parts of slots, times and columns as one."""
        none = (np.zeros(0, np.int64),) * 2 + (np.zeros(0),) * len(self.columns)
        where, at, *columns = (np.concatenate(column) for column in zip(none, *parts, strict=True))
        return where, at, dict(zip(self.columns, columns, strict=True))

    def finished(self, clock: Times, grace: int, troubled: Collection[int]) -> Codes:
        """Stages of which no work is remembered."""
        kept = [*self.work.cells["queue"].tolist(), *troubled]
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
        within("a midnight", self.cells["final"], 0, LATEST)

def before(times: Times, nights: Times) -> Codes:
    """How many of some times are before each midnight.

    >>> before(np.array([5, 9, 10]), np.array([5, 10, 11])).tolist()
    [0, 2, 3]
    """
    return np.searchsorted(np.sort(times), nights, side="left")

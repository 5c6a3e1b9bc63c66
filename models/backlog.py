"""How many of a section's open items are stuck in each stage at every local midnight."""
from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from models.calendar import midnights
from models.cells import Cells
from models.deadlines import NEVER, Deadlines, Timeline
from models.work import Work
from schemas.columns import Backlogs, Codes, Stages, Times


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

    def after(self, midnight: int) -> int:
        """The next one."""
        return int(self.midnights[np.searchsorted(self.midnights, midnight, side="right")])

    def timeline(self, slots: Codes, clock: Times) -> Timeline:
        """What is counted at the midnights that are not final."""
        rows: list[tuple[float, ...]] = []
        for slot in slots.tolist():
            now, at = int(clock[self.cells["area"][slot]]), self.after(int(self.cells["final"][slot]))
            while at <= now:
                rows.append((slot, at, *self.counted(slot, at)))
                at = self.after(at)
            self.cells["due"][slot] = at
        self.survey(len(clock))
        return self.as_timeline(rows)

    def counted(self, slot: int, at: int) -> tuple[float, ...]:
        """Items stuck in a stage, and open in its section, at a midnight; and the share."""
        c = {name: array[: len(self.work.index)] for name, array in self.work.cells.arrays.items()}
        ours = (c["area"] == self.cells["area"][slot]) & (c["ended"] >= at)
        there = ours & (c["since"] < at)
        in_stage = c["queue"] == slot
        total, stuck = int(there.sum()), int((there & in_stage & (c["stuck"] <= at)).sum())
        for other in np.flatnonzero(ours & ~there & c["again"]).tolist():
            for visit in self.work.items[other].visits()[:-1]:
                if visit.start < at <= visit.done:
                    total += 1
                    stuck += bool(in_stage[other]) and self.work.stuck(other, visit) <= at
        return float(stuck), float(total), stuck / max(total, 1)

    def seal(self, areas: Codes, clock: Times) -> Timeline:
        """What becomes final in some areas."""
        rows: list[tuple[float, ...]] = []
        for slot in np.flatnonzero(np.isin(self.cells["area"][: len(self.index)], areas)).tolist():
            last = int(self.passed(clock[self.cells["area"][slot]] - self.grace))
            at = self.after(int(self.cells["final"][slot]))
            while at <= last:
                rows.append((slot, at, *self.counted(slot, at)))
                at = self.after(at)
            self.cells["final"][slot] = max(last, int(self.cells["final"][slot]))
        return self.as_timeline(rows)

    def as_timeline(self, rows: list[tuple[float, ...]]) -> Timeline:
        """Rows of slot, time and columns."""
        where, at, *told = zip(*rows, strict=True) if rows else ((),) * (2 + len(self.columns))
        return np.array(where, np.int64), np.array(at, np.int64), dict(zip(self.columns, told, strict=True))

    def finished(self, clock: Times, grace: int, troubled: Collection[int]) -> Codes:
        """Stages of which no work is remembered."""
        kept = [*self.work.cells["queue"].tolist(), *troubled]
        return np.setdiff1d(np.flatnonzero(self.cells["area"] >= 0), kept)

    def forget(self, slots: Codes) -> None:
        """Drop some stages."""
        self.cells.clear(slots)
        self.index.release(slots)
        self.earliest = self.earliest[:0]

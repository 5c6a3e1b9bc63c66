"""Work: how long items stay in a stage, against the section's limit and against what is usual, and in which order."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from functools import partial
from math import nan
from typing import Any

import msgspec
import numpy as np

from models.calendar import worked_after
from models.cells import Cells
from models.durations import WINDOW_DAYS, Durations
from models.index import Index
from models.registry import Registry
from models.state import Schema, State, StateError, within
from models.timelines import (
    NEVER_TIME,
    Observation,
    Recorded,
    Stay,
    Timelines,
    passed_marks,
    seconds_after,
)
from schemas.columns import Codes, Overdue, StageProgress, Stages, Times, Traces
from schemas.units import DAY_SECONDS, HOUR_SECONDS

LIMIT_MARKS = (0.8, 1.0, 2.0)  # shares of the limit
NOT_COUNTED = -1
LATE_RATIO, STALLED_RATIO = (
    1.0,
    2.0,
)  # times the limit, and what is usual, from which an item is stuck
STALL_MARKS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # times what is usual


class WorkItem(msgspec.Struct):
    """What was told of a work item in a stage, which may be entered again."""

    starts: dict[
        int, tuple[float, bool]
    ] = {}  # by time the limit in seconds, and whether working days alone count
    ends: list[int] = []  # in order of time
    pauses: list[int] = []  # the same
    resumes: list[int] = []  # the same
    usual: dict[
        int, float
    ] = {}  # by start, within which time such stages were done before it
    counted: dict[
        int, int | None
    ] = {}  # ends, None while there is none, of the visits that tell what is usual
    waited: dict[
        int, int
    ] = {}  # by start, the seconds for which such a visit was paused

    def stays(self) -> list[Stay]:
        """Each start with the first end after it; a start while the stage is open tells nothing new."""
        visits: list[Stay] = []
        done = 0
        for start in sorted(self.starts):
            if done <= start:
                after = bisect_left(self.ends, start)
                done = self.ends[after] if after < len(self.ends) else NEVER_TIME
                visits.append(Stay(start, self.starts[start][0], done))
        return visits

    def _pause_spans(self) -> Iterator[tuple[int, int]]:
        """From when until when its clock stands still: each pause until it is resumed."""
        until = 0
        for since in self.pauses:
            if until <= since:
                after = bisect_left(self.resumes, since)
                until = self.resumes[after] if after < len(self.resumes) else NEVER_TIME
                yield since, until

    def waited_for(self, start: int, done: int | None) -> int:
        """For how many seconds it was paused in a visit that has ended."""
        if done is None:
            return 0
        return sum(
            max(min(until, done) - max(since, start), 0)
            for since, until in self._pause_spans()
        )

    def put_off(self, start: int, at: int) -> int:
        """When a moment that was to come at a time comes, by the pauses since a start; never while it is paused.

        >>> WorkItem(pauses=[20], resumes=[50]).put_off(10, 30)
        60
        >>> WorkItem(pauses=[20]).put_off(10, 30) == NEVER_TIME, WorkItem(pauses=[40]).put_off(10, 30)
        (True, 30)
        """
        for since, until in self._pause_spans():
            if until <= start:
                continue
            if since >= at:
                break
            at = NEVER_TIME if until == NEVER_TIME else at + until - max(since, start)
        return at


class Work(Timelines):
    """Work items by stage, and how long each section's stages usually take."""

    kind, item = Overdue, WorkItem
    columns = ("share", "limit_hours", "stalled", "usual_hours")
    awaits = ("share", "stalled")

    def __init__(
        self, index: Index, queues: Index, registry: Registry, zone: str, grace: int
    ) -> None:
        super().__init__(index)
        self._registry, self._zone, self._grace = registry, zone, grace
        self._durations, self.queues = Durations(), queues
        self.cells = Cells(
            **self.cells.empty,
            queue=np.int32(-1),  # the stage of its section
            since=np.int64(NEVER_TIME),
            stuck=np.int64(NEVER_TIME),
            again=np.bool_(0),  # its last visit, and whether others were
        )

    def record(self, batch: Stages, areas: Codes, sealed: Times) -> Recorded:
        """Note starts and ends; `sealed` is by row the time before which what has ended cannot change any more."""
        told = Recorded(set(), [], [])
        for n in range(len(batch)):
            section, stage, at = (
                batch.areas[batch.area[n]],
                batch.stages[batch.stage[n]],
                int(batch.at[n]),
            )
            slot = self.open(
                section, f"{batch.names[batch.subject[n]]}/{stage}", at, sealed[n]
            )
            if slot < 0:
                told.late.append(n)
                continue
            item = self.items.setdefault(slot, WorkItem())
            if batch.progress[n] == StageProgress.STARTED:
                limit = self._limit(section, stage, at, float(batch.limit[n]))
                new = limit > item.starts.get(at, (-1.0, False))
                item.starts[at] = max(item.starts.get(at, limit), limit)
                if at < sealed[n]:
                    item.usual.setdefault(at, nan)
            else:
                known = self._times_of(item, int(batch.progress[n]))
                if new := at not in known:
                    insort(known, at)
            self.record_row(told, n, slot, areas[n], at, new=new)
            self.cells["queue"][slot] = self.queues.slot(section, stage)
            if new:
                self._learn(item, (section, stage), int(sealed[n]))
        return told

    @staticmethod
    def _times_of(item: WorkItem, progress: int) -> list[int]:
        """When an item was told to end, to pause or to go on."""
        return {
            StageProgress.FINISHED: item.ends,
            StageProgress.PAUSED: item.pauses,
        }.get(StageProgress(progress), item.resumes)

    def _limit(
        self, section: str, stage: str, at: int, own: float
    ) -> tuple[float, bool]:
        """The seconds that an item may stay, 0 when nobody says, and whether working days alone count."""
        if 0 < own < np.inf:
            return own, False
        known = next(
            (
                known
                for known in self._registry.stages(section, at)
                if known.stage == stage
            ),
            None,
        )
        return (
            (float(HOUR_SECONDS * (known.hours or 0)), known.working_days)
            if known
            else (0.0, False)
        )

    def _learn(self, item: WorkItem, group: tuple[str, str], sealed: int) -> None:
        """Count the visits as they are now; what began or ended before the seal stays as it is."""
        visits = {
            v.start: None if v.done == NEVER_TIME else v.done for v in item.stays()
        }
        now: dict[int, int | None] = {}
        waits: dict[int, int] = {}
        for start in {*item.counted, *visits}:
            before, done = (
                item.counted.get(start, NOT_COUNTED),
                visits.get(start, NOT_COUNTED),
            )
            if start < sealed and (
                NOT_COUNTED in {before, done} or (before or done or sealed) < sealed
            ):
                done = before
            was = item.waited.get(start, 0)
            waited = (
                was
                if before == done and (done or sealed) < sealed
                else item.waited_for(start, done)
            )
            if done != NOT_COUNTED:
                now[start] = done
            if waited:
                waits[start] = waited
            for counted, paused, sign in ((before, was, -1), (done, waited, 1)):
                if (before, was) != (done, waited) and counted != NOT_COUNTED:
                    self._durations.count(group, start, counted, sign, paused)
        item.counted, item.waited = now, waits

    def timeline(
        self, slots: Codes, watermarks: Times
    ) -> tuple[Codes, Times, dict[str, Any]]:
        """Every row of some items so far. What is usual counts as it was known when the stage was entered."""
        for slot in slots.tolist():
            item, now = self.items[slot], int(watermarks[self.cells["area"][slot]])
            section, subject = self.index.pairs[slot]
            for visit in item.stays():
                if visit.start <= now and visit.start not in item.usual:
                    day = (visit.start - self._grace) // DAY_SECONDS
                    item.usual[visit.start] = self._durations.usual(
                        (section, subject.rpartition("/")[2]), day
                    )
            self._note_last_stay(slot, item.stays())
        return super().timeline(slots, watermarks)

    def stuck(self, slot: int, stay: Stay) -> int:
        """From when on an item is stuck in a visit: past its limit, or stalled."""
        usual = self.items[slot].usual.get(stay.start, nan)
        late = (
            self._time_after(slot, stay.start, LATE_RATIO * stay.unit)
            if stay.unit > 0
            else NEVER_TIME
        )
        return min(
            late,
            self._calendar_time_after(slot, stay.start, STALLED_RATIO * usual)
            if usual > 0
            else NEVER_TIME,
        )

    def _time_after(self, slot: int, start: int, seconds: float) -> int:
        """When so many seconds have passed since an item entered its stage, working days alone where they count.

        What it was paused for is added as it passes by the calendar.
        """
        item = self.items[slot]
        at = (
            worked_after(start, seconds, self._zone)
            if item.starts[start][1]
            else seconds_after(start, seconds)
        )
        return item.put_off(start, at)

    def _calendar_time_after(self, slot: int, start: int, seconds: float) -> int:
        """The same, whatever the days."""
        return self.items[slot].put_off(start, seconds_after(start, seconds))

    def observations(self, slot: int) -> Iterator[Observation]:
        """Of every visit the marks of its limit, those of what is usual, and the end."""
        item = self.items[slot]
        for visit in item.stays():
            limit, usual = visit.unit, item.usual.get(visit.start, nan)
            if visit.start not in item.usual:
                yield Observation(
                    visit.start, certain=False, columns=(nan,) * len(self.columns)
                )
            for at, certain, share in passed_marks(
                visit, LIMIT_MARKS, partial(self._time_after, slot)
            ):
                if share:
                    yield Observation(
                        at, certain, (share, limit / HOUR_SECONDS, nan, nan)
                    )
            for at, certain, times in passed_marks(
                visit._replace(unit=usual),
                STALL_MARKS,
                partial(self._calendar_time_after, slot),
            ):
                ended = (0.0, limit / HOUR_SECONDS) if not times else (nan, nan)
                yield Observation(at, certain, (*ended, times, usual / HOUR_SECONDS))

    def expire(self, watermarks: Mapping[str, int]) -> None:
        """Drop the durations of some sections that nothing can ask for any more."""
        self._durations.forget(
            {
                section: (now - self._grace) // DAY_SECONDS - WINDOW_DAYS - 1
                for section, now in watermarks.items()
            }
        )

    def schema(self) -> Schema:
        """The items, and how long stages usually take."""
        return {**super().schema(), **self._durations.schema()}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | self._durations.state()

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError."""
        super().load(state)
        self._durations.load(state)
        within("a queue", self.cells["queue"], -1, len(self.queues) - 1)
        if "queue" not in state:
            self._restore_queues()

    def _restore_queues(self) -> None:
        """Put every item into the queue of its stage, as it is since its last visit began."""
        for slot, item in self.items.items():
            section, subject = self.index.pairs[slot]
            self.cells["queue"][slot] = self.queues.slot(
                section, subject.rpartition("/")[2]
            )
            self._note_last_stay(slot, item.stays())

    def _note_last_stay(self, slot: int, stays: list[Stay]) -> None:
        """Note of an item since when it is in its stage, from when on it is stuck, and whether it was there before."""
        for visit in stays[-1:]:
            self.cells["since"][slot], self.cells["stuck"][slot] = (
                visit.start,
                self.stuck(slot, visit),
            )
        self.cells["again"][slot] = len(stays) > 1


class Trace(msgspec.Struct):
    """When an item entered and left its stages."""

    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}

    def times(self) -> list[int]:
        """Every moment at which it moved."""
        return sorted(
            {
                at
                for told in (self.starts, self.ends)
                for times in told.values()
                for at in times
            }
        )


class StageOrder(Timelines):
    """Work items on their way through the stages of their section."""

    kind, item = Traces, Trace
    columns = ("unfinished",)
    awaits = ("unfinished",)
    awaits_when_certain = True

    def __init__(self, index: Index, registry: Registry) -> None:
        super().__init__(index)
        self._registry = registry

    def record(self, batch: Stages, areas: Codes, sealed: Times) -> Recorded:
        """Note starts and ends of stages that have an order."""
        told = Recorded(set(), [], [])
        for n in range(len(batch)):
            section, stage, at = (
                batch.areas[batch.area[n]],
                batch.stages[batch.stage[n]],
                int(batch.at[n]),
            )
            if batch.progress[n] not in (StageProgress.STARTED, StageProgress.FINISHED):
                continue
            if all(
                known.stage != stage for known in self._registry.stages(section, at)
            ):
                continue
            slot = self.open(section, batch.names[batch.subject[n]], at, sealed[n])
            if slot < 0:
                continue
            item = self.items.setdefault(slot, Trace())
            times = (
                item.starts if batch.progress[n] == StageProgress.STARTED else item.ends
            ).setdefault(stage, [])
            if new := at not in times:
                times.append(at)
            self.record_row(told, n, slot, areas[n], at, new=new)
        return told

    def since(self, slot: int, at: int) -> int:
        """From its first move on."""
        return self.items[slot].times()[0]

    def _order(self, slot: int) -> list[str]:
        """The stages of an item's section, as they were when it set out."""
        return [
            known.stage
            for known in self._registry.stages(
                self.index.pairs[slot][0], self.items[slot].times()[0]
            )
        ]

    def stays(self, slot: int) -> list[Stay]:
        """From its first move until the last stage of all is done."""
        item = self.items[slot]
        done = min(item.ends.get(self._order(slot)[-1], [NEVER_TIME]))
        return [Stay(item.times()[0], 0.0, done)] if done < NEVER_TIME else []

    def observations(self, slot: int) -> Iterator[Observation]:
        """Every move, with the stages before the furthest it has entered that it has not finished by then."""
        item, order = self.items[slot], self._order(slot)
        for at in item.times():
            entered = {s for s in order if min(item.starts.get(s, [NEVER_TIME])) <= at}
            left = {s for s in order if min(item.ends.get(s, [NEVER_TIME])) <= at}
            seen = [n for n, stage in enumerate(order) if stage in entered | left]
            furthest = max(
                (n for n, stage in enumerate(order) if stage in entered), default=0
            )
            missing = sum(stage not in left for stage in order[seen[0] : furthest])
            yield Observation(at, certain=True, columns=(float(missing),))

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError."""
        super().load(state)
        if not all(item.times() for item in self.items.values()):
            raise StateError("an item has never moved")

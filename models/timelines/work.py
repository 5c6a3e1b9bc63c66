"""Work: the stays of items in stages, beside limit and usual stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from math import nan
from typing import NamedTuple

import numpy as np

from models.master.calendar import worked_after
from models.master.registry import Registry
from models.state.cells import Cells
from models.state.index import Index
from models.state.owners import Schema, State, within
from models.timelines.base import (
    Observation,
    Recorded,
    Stay,
    Timelines,
    named_rows,
    passed_marks,
    seconds_after,
)
from models.timelines.durations import WINDOW_DAYS, Durations, Group
from models.timelines.hazard import PART_MARKS
from models.timelines.lateness import Lateness, PartSpan
from models.timelines.work_item import START_KIND, WorkItem
from schemas.columns import Codes, Overdue, Stages, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS, NEVER_TIME

LIMIT_MARKS = (0.8, 1.0, 2.0)  # shares of the limit
NOT_COUNTED = -1
LATE_RATIO = 1.0  # times the limit, from which an item is stuck
PART_BOUNDS = tuple(pairwise((*PART_MARKS, LATE_RATIO)))  # of the parts of a limit
STALLED_RATIO = 2.0  # times the usual stay, from which an item is stuck
STALL_MARKS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # times the usual stay


class WorkColumns(NamedTuple):
    """The columns of Overdue at a moment, NaN where it says nothing of them."""

    share: float = nan
    limit_hours: float = nan
    stalled: float = nan
    usual_hours: float = nan
    overdue_chance: float = nan
    used_share: float = nan


class Work(Timelines):
    """Work items by stage, and the usual stays in each section's stages."""

    kind, item = Overdue, WorkItem
    columns = WorkColumns._fields
    awaits = ("share", "stalled", "overdue_chance")

    def __init__(
        self, index: Index, queues: Index, registry: Registry, zone: str, grace: int
    ) -> None:
        super().__init__(index)
        self._registry = registry
        self._zone = zone
        self._grace = grace
        self._durations = Durations()
        self.lateness = self.watched_model = Lateness(zone, grace)
        self.queues = queues
        self.cells = Cells(
            **self.cells.empty,
            queue=np.int32(-1),  # the stage of its section
            # its last stay, and whether it had others
            since=np.int64(NEVER_TIME),
            stuck=np.int64(NEVER_TIME),
            again=np.bool_(0),
        )

    def record(self, batch: Stages, areas: Codes, sealed: Times) -> Recorded:
        """Records starts and ends.

        Stays that ended before `sealed`, by row, cannot change any more.
        """
        recorded = Recorded(set(), [], [])
        kinds = batch.progress.tolist()
        seals = sealed.tolist()
        for n, section, subject, at in named_rows(batch):
            stage = batch.stages[batch.stage[n]]
            seal = seals[n]
            slot = self.open(section, f"{subject}/{stage}", at, seal)
            if slot < 0:
                recorded.late.append(n)
                continue

            item = self.items.get(slot) or self.items.setdefault(slot, WorkItem())
            is_start = kinds[n] == START_KIND
            if is_start:
                limit = self._limit(section, stage, at, float(batch.limit[n]))
                new = item.add_start(at, limit)
                if at < seal:
                    item.usual.setdefault(at, nan)
            else:
                new = item.add(kinds[n], at)

            stays = self.record_row(recorded, n, slot, areas[n], at, new=new)
            self.cells["queue"][slot] = self.queues.slot(section, stage)
            relearned = {slot} if new else set()
            if is_start and at >= seal:
                relearned.update(self._note_path(slot, at, seal))
            if new:
                self._learn(item, (section, stage), stays, seal)
            for other in relearned:
                others_stays = stays if other == slot else self.stays(other)
                self._learn_lateness(other, others_stays, seal)
            recorded.touched.update(relearned)
        return recorded

    def _note_path(self, slot: int, at: int, sealed: int) -> Iterator[int]:
        """Notes that an item entered its stage; the slots that it is then known to have entered from another."""
        section, stage = self._section_and_stage(slot)
        item = self.index.pairs[slot][1].removesuffix(f"/{stage}")
        slots = self.index.known[section]
        moves = self.lateness.note_move(section, item, (at, stage), sealed)
        for entered, entered_stage in moves:
            other = slots.get(f"{item}/{entered_stage}", -1)
            if other < 0:
                continue
            outlook = self.items[other].outlook
            if self.lateness.note_before(outlook, section, item, entered):
                yield other

    def _learn_lateness(self, slot: int, stays: Iterable[Stay], sealed: int) -> None:
        """Learns from an item's stays, as they are now, whether they pass their limits."""
        item = self.items[slot]
        spans = self._part_spans(item, stays)
        self.lateness.learn(item.outlook, self._section_and_stage(slot), spans, sealed)

    def _limit(
        self, section: str, stage: str, at: int, seconds: float
    ) -> tuple[float, bool]:
        """The seconds that an item may stay, 0 if unlimited, and if only working days count."""
        if 0 < seconds < np.inf:
            return seconds, False
        for known in self._registry.stages(section, at):
            if known.stage == stage:
                return float(HOUR_SECONDS * (known.hours or 0)), known.working_days
        return 0.0, False

    def _learn(
        self, item: WorkItem, group: Group, stays: Iterable[Stay], sealed: int
    ) -> None:
        """Counts the stays as they are now.

        A stay that began or ended before the seal stays as it is.
        """
        ends = {
            stay.start: None if stay.done == NEVER_TIME else stay.done for stay in stays
        }
        counted: dict[int, int | None] = {}
        waits: dict[int, int] = {}
        for start in {*item.counted, *ends}:
            before = item.counted.get(start, NOT_COUNTED)
            done = ends.get(start, NOT_COUNTED)
            if start < sealed and (
                NOT_COUNTED in {before, done} or (before or done or sealed) < sealed
            ):
                done = before

            waited_before = item.waited.get(start, 0)
            waited = waited_before
            if before != done or (done or sealed) >= sealed:
                waited = item.waited_for(start, done)
            if done != NOT_COUNTED:
                counted[start] = done
            if waited:
                waits[start] = waited

            if (before, waited_before) == (done, waited):
                continue
            if before != NOT_COUNTED:
                self._durations.count(group, start, before, -1, waited_before)
            if done != NOT_COUNTED:
                self._durations.count(group, start, done, 1, waited)
        item.counted = counted
        item.waited = waits

    def observations(self, slot: int, now: int) -> Iterator[Observation]:
        """Of every stay the marks of its limit, the marks of the usual stay, and the end.

        What is usual and what is likely is as it was known when the stage was entered, and when the mark was passed.
        """
        item = self.items[slot]
        group = self._section_and_stage(slot)
        stays = item.stays()
        for stay in stays:
            if stay.start <= now and stay.start not in item.usual:
                day = (stay.start - self._grace) // DAY_SECONDS
                item.usual[stay.start] = self._durations.usual(group, day)
        self._note_last_stay(slot, stays)

        chances = list(self._chance_observations(item, group, stays, now))
        yield from self._stay_observations(item, stays, now)
        yield from chances

    def _chance_observations(
        self, item: WorkItem, group: Group, stays: Iterable[Stay], now: int
    ) -> Iterator[Observation]:
        """The marks at which a chance is known, up to the first after now."""
        for span in self._part_spans(item, stays):
            if span.begin > now:
                yield Observation(span.begin, certain=False, columns=WorkColumns())
                return
            columns = WorkColumns(
                limit_hours=item.starts[span.start][0] / HOUR_SECONDS,
                overdue_chance=self.lateness.chance(item.outlook, group, span),
                used_share=PART_MARKS[span.part],
            )
            yield Observation(span.begin, certain=False, columns=columns)

    def _stay_observations(
        self, item: WorkItem, stays: Iterable[Stay], now: int
    ) -> Iterator[Observation]:
        """The marks of limits and of usual stays, and the ends."""
        for stay in stays:
            limit_hours = stay.unit / HOUR_SECONDS
            usual = item.usual.get(stay.start, nan)
            if stay.start not in item.usual:
                yield Observation(stay.start, certain=False, columns=WorkColumns())

            clock = self._limit_clock(item, stay.start)
            limit_marks = passed_marks(stay, LIMIT_MARKS, now, clock)
            for at, certain, share in limit_marks:
                if share:
                    columns = WorkColumns(share, limit_hours)
                    yield Observation(at, certain, columns)

            usual_stay = Stay(stay.start, usual, stay.done)
            usual_hours = usual / HOUR_SECONDS
            marks = passed_marks(usual_stay, STALL_MARKS, now, item.seconds_after)
            for at, certain, times in marks:
                if times:
                    columns = WorkColumns(nan, nan, times, usual_hours)
                else:
                    over = 0.0 if item.outlook.knew(stay.start, at) else nan
                    columns = WorkColumns(
                        0.0, limit_hours, times, usual_hours, over, over
                    )
                yield Observation(at, certain, columns)

    def stuck(self, slot: int, stay: Stay) -> int:
        """The time from which an item is stuck in a stay: past its limit, or stalled."""
        item = self.items[slot]
        late = stalled = NEVER_TIME
        if stay.unit > 0:
            clock = self._limit_clock(item, stay.start)
            late = clock(stay.start, LATE_RATIO * stay.unit)
        usual = item.usual.get(stay.start, nan)
        if usual > 0:
            stalled = item.seconds_after(stay.start, STALLED_RATIO * usual)
        return min(late, stalled)

    def _limit_clock(self, item: WorkItem, start: int) -> Callable[[int, float], int]:
        """The clock of a stay's limit: the time some seconds after its start, of working days where these count.

        Its pauses are added by the calendar.
        """
        _, working_days = item.starts[start]
        if not working_days:
            return item.seconds_after

        def after(start: int, seconds: float) -> int:
            return item.put_off(start, worked_after(start, seconds, self._zone))

        return after

    def _part_spans(self, item: WorkItem, stays: Iterable[Stay]) -> Iterator[PartSpan]:
        """The parts of the limits that an item's stays have reached or will reach."""
        for start, limit, done in stays:
            if not limit > 0:
                continue
            _, working_days = item.starts[start]
            clock = self._limit_clock(item, start)

            end = clock(start, PART_MARKS[0] * limit)
            for part, (mark, next_mark) in enumerate(PART_BOUNDS):
                begin = end
                if begin >= done:
                    break
                end = clock(start, next_mark * limit)
                left = limit - mark * limit
                deadline = seconds_after(begin, left)
                if working_days:
                    deadline = worked_after(begin, left, self._zone)
                yield PartSpan(part, start, begin, end, deadline, done)

    def expire(self, watermarks: Mapping[str, int]) -> None:
        """Drops what was learned of some sections and is too old to be used again."""
        first_days = {
            section: (now - self._grace) // DAY_SECONDS - WINDOW_DAYS - 1
            for section, now in watermarks.items()
        }
        self._durations.forget(first_days)
        self.lateness.expire(watermarks)

    def schema(self) -> Schema:
        """The items, the durations of stages, and what was learned of limits."""
        own = super().schema()
        return {**own, **self._durations.schema(), **self.lateness.schema()}

    def state(self) -> State:
        """Everything remembered."""
        learned = self._durations.state() | self.lateness.state()
        return super().state() | learned

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        super().load(state)
        self._durations.load(state)
        self.lateness.load(state)
        within("a queue", self.cells["queue"], -1, len(self.queues) - 1)
        if "queue" not in state:
            self._restore_queues()

    def _restore_queues(self) -> None:
        """Puts every item into the queue of its stage, as it is since its last stay began."""
        for slot, item in self.items.items():
            section, subject = self.index.pairs[slot]
            stage = subject.rpartition("/")[2]
            self.cells["queue"][slot] = self.queues.slot(section, stage)
            self._note_last_stay(slot, item.stays())

    def _section_and_stage(self, slot: int) -> tuple[str, str]:
        """The section and the stage of an item."""
        return self.queues.pairs[self.cells["queue"][slot]]

    def _note_last_stay(self, slot: int, stays: list[Stay]) -> None:
        """Notes when an item's last stay began, when it is stuck, and whether it had others."""
        if stays:
            last = stays[-1]
            self.cells["since"][slot] = last.start
            self.cells["stuck"][slot] = self.stuck(slot, last)
        self.cells["again"][slot] = len(stays) > 1

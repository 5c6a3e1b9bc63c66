"""The order of stages: work items on their way through the stages of their section."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import msgspec

from models.master.registry import Registry
from models.state.index import Index
from models.state.owners import State, StateError
from models.timelines.base import Observation, Recorded, Stay, Timelines, named_rows
from models.timelines.work_item import START_KIND
from schemas.columns import Codes, StageProgress, Stages, Times, Traces

MOVE_KINDS = (START_KIND, int(StageProgress.FINISHED))


class Trace(msgspec.Struct):
    """The times at which an item entered and left its stages."""

    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}

    def times(self) -> list[int]:
        """Every time at which it moved."""
        return sorted(set().union(*self.starts.values(), *self.ends.values()))


class StageOrder(Timelines):
    """Work items on their way through the stages of their section."""

    kind = Traces
    item = Trace
    columns = ("unfinished",)
    awaits = ("unfinished",)
    awaits_when_certain = True

    def __init__(self, index: Index, registry: Registry) -> None:
        super().__init__(index)
        self._registry = registry

    def record(self, batch: Stages, areas: Codes, sealed: Times) -> Recorded:
        """Records starts and ends of stages that have an order."""
        recorded = Recorded(set(), [], [])
        kinds = batch.progress.tolist()
        for n, section, subject, at in named_rows(batch):
            kind = kinds[n]
            if kind not in MOVE_KINDS:
                continue
            stage = batch.stages[batch.stage[n]]
            if stage not in self._order(section, at):
                continue
            slot = self.open(section, subject, at, sealed[n])
            if slot < 0:
                continue

            item = self.items.get(slot) or self.items.setdefault(slot, Trace())
            stages = item.starts if kind == START_KIND else item.ends
            times = stages.setdefault(stage, [])
            new = at not in times
            if new:
                times.append(at)
            self.record_row(recorded, n, slot, areas[n], at, new=new)
        return recorded

    def since(self, slot: int, at: int) -> int:
        """The time of its first move."""
        return self.items[slot].times()[0]

    def _order(self, section: str, at: int) -> list[str]:
        """The stages of a section, as they are at a time; for an item that is its first move."""
        return [known.stage for known in self._registry.stages(section, at)]

    def stays(self, slot: int) -> list[Stay]:
        """From its first move until the last stage of the section is done."""
        item = self.items[slot]
        first = item.times()[0]
        last_stage = self._order(self.index.pairs[slot][0], first)[-1]
        if last_stage not in item.ends:
            return []
        done = min(item.ends[last_stage])
        return [Stay(first, 0.0, done)]

    def observations(self, slot: int, now: int) -> Iterator[Observation]:
        """Every move, with the number of unfinished stages before the furthest stage entered."""
        item = self.items[slot]
        times = item.times()
        order = self._order(self.index.pairs[slot][0], times[0])
        all_entered = _first_times(order, item.starts)
        all_left = _first_times(order, item.ends)
        for at in times:
            entered = [place for place, since in all_entered if since <= at]
            left = [place for place, since in all_left if since <= at]
            first = min(entered[:1] + left[:1])
            furthest = entered[-1] if entered else first
            missing = furthest - first - bisect_left(left, furthest)
            yield Observation(at, certain=True, columns=(float(missing),))

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        super().load(state)
        if not all(item.times() for item in self.items.values()):
            raise StateError("an item has never moved")


def _first_times(
    order: list[str], times: dict[str, list[int]]
) -> list[tuple[int, int]]:
    """The places in the order of the stages that have a time, with the first."""
    return [
        (place, min(times[stage]))
        for place, stage in enumerate(order)
        if stage in times
    ]

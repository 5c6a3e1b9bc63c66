"""The order of stages: work items on their way through the stages of their section."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from models.master.registry import Registry
from models.state.index import Index
from models.state.owners import State, StateError
from models.timelines.base import Observation, Recorded, Stay, Timelines, named_rows
from schemas.columns import Codes, StageProgress, Stages, Times, Traces


class Trace(msgspec.Struct):
    """The times at which an item entered and left its stages."""

    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}

    def times(self) -> list[int]:
        """Every time at which it moved."""
        times: set[int] = set()
        times.update(*self.starts.values(), *self.ends.values())
        return sorted(times)


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
        for n, section, subject, at in named_rows(batch):
            progress = batch.progress[n]
            if progress not in (StageProgress.STARTED, StageProgress.FINISHED):
                continue
            stage = batch.stages[batch.stage[n]]
            ordered = self._registry.stages(section, at)
            if all(known.stage != stage for known in ordered):
                continue
            slot = self.open(section, subject, at, sealed[n])
            if slot < 0:
                continue

            item = self.items.setdefault(slot, Trace())
            stages = item.starts if progress == StageProgress.STARTED else item.ends
            times = stages.setdefault(stage, [])
            new = at not in times
            if new:
                times.append(at)
            self.record_row(recorded, n, slot, areas[n], at, new=new)
        return recorded

    def since(self, slot: int, at: int) -> int:
        """The time of its first move."""
        return self.items[slot].times()[0]

    def _order(self, slot: int) -> list[str]:
        """The stages of an item's section, as they were at its first move."""
        section = self.index.pairs[slot][0]
        stages = self._registry.stages(section, self.items[slot].times()[0])
        return [known.stage for known in stages]

    def stays(self, slot: int) -> list[Stay]:
        """From its first move until the last stage of the section is done."""
        item = self.items[slot]
        last_stage = self._order(slot)[-1]
        if last_stage not in item.ends:
            return []
        done = min(item.ends[last_stage])
        return [Stay(item.times()[0], 0.0, done)]

    def observations(self, slot: int) -> Iterator[Observation]:
        """Every move, with the number of unfinished stages before the furthest stage entered."""
        item = self.items[slot]
        order = self._order(slot)
        for at in item.times():
            entered = _reached(order, item.starts, at)
            left = _reached(order, item.ends, at)
            first = min(entered + left)
            furthest = max(entered, default=0)
            missing = [k for k in range(first, furthest) if k not in left]
            yield Observation(at, certain=True, columns=(float(len(missing)),))

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        super().load(state)
        if not all(item.times() for item in self.items.values()):
            raise StateError("an item has never moved")


def _reached(order: list[str], times: dict[str, list[int]], at: int) -> list[int]:
    """The places in the order of the stages that have a time up to a moment."""
    return [
        place
        for place, stage in enumerate(order)
        if stage in times and min(times[stage]) <= at
    ]

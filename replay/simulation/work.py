"""The work of the town's office, from reading to collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from replay.simulation.happenings import Planted
from replay.simulation.network import Grid
from schemas.columns import StageProgress, Stages
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STAGE_HOURS = (  # hours allowed
    ("reading", 24),
    ("checking", 24),
    ("review", 24),
    ("issue", 120),
    ("collection", 480),
)
AREA_ROUTES = 4  # meter reader's routes an area; each is a new item of work every month
MONTH_DAYS = 31  # days
STUCK_ITEMS = 6  # items that nobody goes on with


class StageRow(NamedTuple):
    """A row of Stages."""

    at: int
    item: int  # a route
    stage: int  # into STAGE_HOURS
    progress: StageProgress


class TownWork:
    """Every route's bills go through the stages every month, well within the limits."""

    def __init__(
        self, grid: Grid, start: int, days: int, rng: np.random.Generator
    ) -> None:
        self.grid = grid
        self.start = start
        self.end = start + days * DAY_SECONDS
        self.rng = rng
        self.routes = AREA_ROUTES * len(grid.areas)
        self.steps: dict[int, list[StageRow]] = {}

        for item in range(self.routes * -(-days // MONTH_DAYS)):
            first = item // self.routes * MONTH_DAYS
            days_left = min(days - first, MONTH_DAYS)
            day = first + int(rng.integers(0, days_left))
            at = start + day * DAY_SECONDS + 8 * HOUR_SECONDS
            self.steps[item] = self._stages_of(item, at)

    def _stages_of(self, item: int, at: int) -> list[StageRow]:
        """An item's way through all stages from a moment on."""
        steps = []
        for stage, (_, hours) in enumerate(STAGE_HOURS):
            steps.append(StageRow(at, item, stage, StageProgress.STARTED))
            drawn = np.exp(0.4 * self.rng.standard_normal())
            share = min(0.72, 0.35 * drawn)
            at += int(hours * HOUR_SECONDS * share)
            steps.append(StageRow(at, item, stage, StageProgress.FINISHED))
            at += int(self.rng.integers(60, 1800))
        return steps

    def plant(self) -> Iterator[Planted]:
        """Items that start a stage and never finish it, and items that leave a stage out."""
        count = max(1, len(self.grid.areas) // 6)
        for stage in self.rng.permutation([0, 1, 2])[:count].tolist():
            yield from self._stalled(
                "stalled_stage", "stage_overdue", "stage_stall", stage, 0
            )
        for _ in range(count):
            yield from self._left_out()

        # only a long town shows how long a stay usually is
        if self.end > self.start + 1.3 * MONTH_DAYS * DAY_SECONDS:
            yield from self._stalled(
                "stage_stall", "stage_stall", "stage_overdue", 3, 1
            )
        else:
            yield from self._stuck(int(self.rng.integers(3)))

    def _left_out(self) -> Iterator[Planted]:
        """An item that goes from reading to review without checking."""
        whole = [
            item
            for item, steps in self.steps.items()
            if _is_whole(steps) and steps[4].at < self.end
        ]

        if whole:
            item = int(self.rng.choice(whole))
            at = self.steps[item][4].at
            del self.steps[item][2:4]
            yield Planted(
                "left_out",
                ("stage_disorder",),
                self._section(item),
                self._name(item),
                at,
                self.end,
                "review was started without checking",
            )

    def _stuck(self, stage: int) -> Iterator[Planted]:
        """Six items of a section, that enter a stage soon after each other, stay in it."""
        name, hours = STAGE_HOURS[stage]
        starts = {
            item: steps[2 * stage].at
            for item, steps in self.steps.items()
            if item < self.routes and _is_whole(steps)
        }
        needs = hours * HOUR_SECONDS + 1.5 * DAY_SECONDS
        early = [item for item, at in starts.items() if at + needs < self.end]
        if not early:
            return

        ((section, _),) = Counter(map(self._section, early)).most_common(1)
        entered = sorted(
            (starts[item], item) for item in early if self._section(item) == section
        )
        runs = [
            entered[n : n + STUCK_ITEMS] for n in range(len(entered) - STUCK_ITEMS + 1)
        ]
        if not runs:
            return

        spans = [run[-1][0] - run[0][0] for run in runs]
        densest = runs[spans.index(min(spans))]
        for _, item in densest:
            self.steps[item] = self.steps[item][: 2 * stage + 1]
        yield Planted(
            "stuck",
            ("stage_batch_stuck",),
            section,
            "",
            densest[0][0],
            self.end,
            f"{STUCK_ITEMS} items stay in {name}",
            ("stage_overdue", "stage_stall"),
        )

    def _stalled(
        self, kind: str, rule: str, echo: str, stage: int, month: int
    ) -> Iterator[Planted]:
        """An item of a month that stays in a stage."""
        name, hours = STAGE_HOURS[stage]
        allowed = hours * HOUR_SECONDS
        needs = 2.2 * hours * HOUR_SECONDS if month else allowed + DAY_SECONDS
        early = [
            item
            for item, steps in self.steps.items()
            if item // self.routes == month
            and _is_whole(steps)
            and steps[2 * stage].at + needs < self.end
        ]

        if early:
            item = int(self.rng.choice(early))
            at = self.steps[item][2 * stage].at
            self.steps[item] = self.steps[item][: 2 * stage + 1]
            yield Planted(
                kind,
                (rule,),
                self._section(item),
                f"{self._name(item)}/{name}",
                at,
                self.end,
                f"{name} was started and never finished",
                (echo,),
            )

    def _name(self, item: int) -> str:
        month, route = divmod(item, self.routes)
        area = self.grid.areas[route // AREA_ROUTES]
        number = route % AREA_ROUTES + 1
        return f"{area}-{number}-2026-{3 + month:02}"

    def _section(self, item: int) -> str:
        return self.grid.sections[item % self.routes // AREA_ROUTES]

    def rows_in_order(self) -> Stages:
        """All rows until the town's end."""
        every = chain.from_iterable(self.steps.values())
        rows = sorted(step for step in every if step.at < self.end)
        at, items, stages, progress = zip(*rows, strict=True)

        sections = tuple(sorted(set(self.grid.sections)))
        return Stages.build(
            tuple(map(self._name, self.steps)),
            items,
            sections,
            [sections.index(self._section(item)) for item in items],
            at,
            stages=tuple(name for name, _ in STAGE_HOURS),
            stage=stages,
            progress=progress,
            limit=[STAGE_HOURS[stage][1] * HOUR_SECONDS for stage in stages],
        )


def _is_whole(steps: list[StageRow]) -> bool:
    """True if an item still goes through every stage."""
    return len(steps) == 2 * len(STAGE_HOURS)

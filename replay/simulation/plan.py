"""The plan of a town: whom faults and ordinary events befall, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from replay.simulation.changes import load, loads, register_starts, unread
from replay.simulation.customers import home, shop
from replay.simulation.happenings import Block, Happening, Notice, Planted, RecordChange
from replay.simulation.network import RESIDENTIAL_SEGMENT, Grid, Rows
from schemas.columns import Event, Mask
from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS


@dataclass(frozen=True)
class Fault:
    """A kind of fault of one meter: whom it befalls and what it does."""

    kind: str  # the rule that finds it, unless `rules` names others
    note: str
    eligible: Callable[[Grid], Mask]
    before: Callable[[int, int, Block], None] | None = None  # row, start, block
    after: Callable[[int, int, Block], None] | None = None
    echoes: tuple[str, ...] = ()
    times: float = 2  # in a town of 4,000 meters
    needs: float = 1.0  # days until it can be seen
    lasts: float = 0.0  # days, 0 for good
    rules: tuple[str, ...] | None = None  # a decoy has none
    earliest: float = 1.0  # days that the town must have been watched before
    # the meter's record from the fault's start on
    record: Callable[[Meter, int], Meter] | None = None
    # whether the meter is connected then; its changes apply from the town's start on
    new: bool = False
    # hours after which an event is reported
    events: tuple[tuple[float, Event], ...] = ()
    # pu and seconds of the events
    depth: tuple[float, float] = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Kinds:
    """Faults to plant: of single meters, and of whole areas that the plan chooses."""

    meters: tuple[Fault, ...]
    areas: tuple[Callable[[Plan, int], Iterator[Happening]], ...]
    office: bool = True  # whether faults of the office are planted too


class Plan:
    """Chooses victims and moments; the same arguments give the same plan."""

    def __init__(self, grid: Grid, start: int, days: int, seed: int) -> None:
        self.grid = grid
        self.days = days
        self.seed = seed
        self.end = start + days * DAY_SECONDS
        self.rng = np.random.default_rng([seed, 2])
        self.used = np.array(grid.gateway)
        self._start = start
        shuffled = self.rng.permutation(len(grid.areas))
        self._order = [int(k) for k in shuffled]
        self._moment = 0.0

    def ordinary(self) -> Iterator[Happening]:
        """Moving out, new meters, a planned outage: nothing to alert on."""
        for _ in range(max(1, len(self.grid) // 800)):
            for row in self._victims(home):
                at = self.when(0)
                yield Happening(
                    at,
                    self.end,
                    before=partial(load, row, 0.0),
                    notices=(self._notice(at, row, Event.VACANCY),),
                )
            for row in self._victims(home):
                at = self.when(0)
                yield Happening(
                    at,
                    at + HOUR_SECONDS,
                    before=partial(register_starts, row),
                    notices=(self._notice(at, row, Event.METER_CHANGE),),
                )

        area = self._order[-1]
        at = self.when(0)
        until = at + 3 * HOUR_SECONDS
        rows = np.flatnonzero(self.grid.area == area)
        outage = Notice(at, self.grid.areas[area], "", Event.PLANNED_OUTAGE, until)
        yield Happening(
            at,
            until,
            before=partial(loads, rows, 0.0),
            after=partial(unread, rows),
            notices=(outage,),
        )

    def decoys(self) -> Iterator[Happening]:
        """A happening that looks like a fault and is none: a shop that closes without notice."""
        if self.days <= 9:
            return
        for row in self._victims(shop):
            at = self.when(8.5)
            decoy = Planted(
                "closed_shop",
                (),
                self.grid.areas[self.grid.area[row]],
                self.grid.names[row],
                at,
                self.end,
                "the shop closed without notice",
            )
            yield Happening(at, self.end, before=partial(load, row, 0.0), planted=decoy)

    def faults(self, kinds: Kinds) -> Iterator[Happening]:
        """Faults of whole areas, in different areas as far as they go, then of single meters."""
        for befall in kinds.areas[: max(1, len(self._order) // 2)]:
            yield from befall(self, self._order[0])
            if len(self._order) > 1:
                self._order.pop(0)

        for fault in kinds.meters:
            for _ in range(max(1, round(fault.times * len(self.grid) / 4000))):
                if fault.earliest + fault.needs + 0.3 <= self.days:
                    yield from (
                        self._befall(fault, row)
                        for row in self._victims(fault.eligible)
                    )

    def _victims(self, eligible: Callable[[Grid], Mask]) -> Iterator[int]:
        """One unused meter, of another area than the last; none in a town too small."""
        free = eligible(self.grid) & ~self.used
        for _ in self._order:
            self._order.append(self._order.pop(0))
            in_area = self.grid.area == self._order[-1]
            rows = np.flatnonzero(free & in_area)
            if len(rows):
                row = int(self.rng.choice(rows))
                self.used[row] = True
                yield row
                return

    def when(self, needs: float, earliest: float = 1.0) -> int:
        """An hour after the earliest day, so many days before the end; the hours spread evenly."""
        self._moment = (self._moment + 0.618) % 1
        free_days = self.days - needs - earliest - 0.3
        span = max(0, free_days)
        day = earliest + self._moment * span
        hours = int(day * 24)
        return self._start + hours * HOUR_SECONDS

    def _notice(self, at: int, row: int, event: Event) -> Notice:
        area = self.grid.areas[self.grid.area[row]]
        return Notice(at, area, self.grid.names[row], event)

    def _befall(self, fault: Fault, row: int) -> Happening:
        """A fault of a meter, at a moment of the plan's choice."""
        at = self.when(fault.needs, fault.earliest)
        end = self.end
        if fault.lasts:
            end = min(end, at + round(fault.lasts * DAY_SECONDS))
        area = self.grid.areas[self.grid.area[row]]
        meter = self.grid.names[row]

        rules = (fault.kind,) if fault.rules is None else fault.rules
        planted = Planted(
            fault.kind, rules, area, meter, at, end, fault.note, fault.echoes
        )
        residual, seconds = fault.depth
        notices = tuple(
            Notice(
                at + round(hours * HOUR_SECONDS),
                area,
                meter,
                event,
                0,
                residual,
                seconds,
            )
            for hours, event in fault.events
        )
        record = fault.record
        change = None
        if record:
            change = RecordChange(
                area, meter, at, lambda usual: record(usual, at), fault.new
            )

        return Happening(
            self._start if fault.new else at,
            end,
            partial(fault.before, row, at) if fault.before else None,
            partial(fault.after, row, at) if fault.after else None,
            planted,
            notices,
            change,
        )

    def heating(self, area: int, peak: float) -> tuple[Rows, float]:
        """An area's single-phase homes, and the times their load that bring this peak."""
        grid = self.grid
        homes = np.flatnonzero(
            (grid.area == area)
            & (grid.segment == RESIDENTIAL_SEGMENT)
            & ~grid.three
            & ~grid.gateway
        )
        used = grid.expected_kw(homes)
        others = grid.expected_kw(grid.area == area) - used
        evening = int(np.argmax(used))
        highest_kw = peak * grid.rating[area] * 0.95
        allowed = highest_kw - others[evening]
        return homes, float(allowed / used[evening])

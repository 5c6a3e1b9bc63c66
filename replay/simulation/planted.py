"""Happenings planted in the simulated town: faults to be found, and ordinary events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from replay.simulation.happenings import (
    LOSS_RULES,
    Block,
    Happening,
    Notice,
    Planted,
    RecordChange,
    bridged,
    clock_ahead,
    crossed,
    current,
    distorted,
    flagged,
    hung,
    load,
    loads,
    lost_phase,
    miscounts,
    register_falls,
    register_starts,
    sagged,
    stands_still,
    third_harmonics,
    uneven,
    unread,
    voltage,
    voltages,
)
from replay.simulation.network import (
    COMMERCIAL_SEGMENT,
    RESIDENTIAL_SEGMENT,
    Grid,
    Rows,
)
from schemas.columns import Event, Flag, Mask
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


def through_ct(grid: Grid) -> Mask:
    """Users behind current transformers."""
    return grid.three & (grid.ratio > 1)


def home(grid: Grid) -> Mask:
    """Homes without a roof of their own, that use something."""
    return (
        (grid.segment == RESIDENTIAL_SEGMENT)
        & (grid.pv_kw == 0)
        & (grid.mean_kw > 0.25)
    )


def _direct(grid: Grid) -> Mask:
    """Users whose three phases go through the meter."""
    return grid.three & (grid.ratio == 1)


def _shop(grid: Grid) -> Mask:
    """Shops on one phase."""
    return (grid.segment == COMMERCIAL_SEGMENT) & ~grid.three & (grid.mean_kw > 0.6)


def office(grid: Grid) -> Mask:
    """Shops and offices behind current transformers."""
    return (grid.segment == COMMERCIAL_SEGMENT) & through_ct(grid)


# rules that find lost energy where a terminal measures beside the meter
TERMINAL_LOSS_RULES = ("power_differential", *LOSS_RULES)
USUAL_METER_FAULTS = (
    Fault(
        "voltage_loss",
        "phase B of the voltage circuit has a bad contact, 40 % of the voltage is left",
        through_ct,
        after=lambda row, _, block: voltage(row, 1, 0.4, block),
        lasts=2,
        echoes=("voltage_deviation", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "phase_break",
        "the fuse of phase C has blown",
        through_ct,
        before=lambda row, _, block: lost_phase(row, 2, block),
        after=lambda row, _, block: voltage(row, 2, 0.04, block),
        lasts=1,
        echoes=("meter_current_unbalance", "voltage_deviation"),
    ),
    Fault(
        "current_loss",
        "the current transformer of phase A is short-circuited",
        through_ct,
        after=lambda row, _, block: current(row, slice(0, 1), 0.0, block),
        lasts=3,
        echoes=("meter_current_unbalance", "current_break", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "reverse_polarity",
        "the current transformer of phase C is connected the wrong way round",
        through_ct,
        after=lambda row, _, block: current(row, slice(2, 3), -1.0, block),
        lasts=3,
        echoes=("wrong_wiring_vector", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "meter_current_unbalance",
        "most of the load hangs on phase A",
        through_ct,
        before=lambda row, _, block: uneven(row, (0.62, 0.2, 0.18), block),
        lasts=3,
        echoes=("area_load_unbalance",),
    ),
    Fault(
        "voltage_deviation",
        "a bad contact in the service line takes 38 V",
        home,
        after=lambda row, _, block: sagged(row, 38, block),
        lasts=2,
    ),
    Fault(
        "over_contract_capacity",
        "a new workshop at more than twice the load of the contract",
        office,
        before=lambda row, _, block: load(row, 2.2, block),
        needs=3.5,
        echoes=("capacity_expansion",),
    ),
    Fault(
        "meter_stopped",
        "the register stands still while power flows",
        home,
        after=lambda row, _, block: stands_still(row, block),
        echoes=("zero_usage", "energy_ratio_error", *LOSS_RULES),
    ),
    Fault(
        "energy_ratio_error",
        "the meter counts 60 % of what flows",
        office,
        after=lambda row, _, block: miscounts(row, 0.6, block),
        needs=4.5,
        echoes=LOSS_RULES,
    ),
    Fault(
        "register_decrease",
        "the register shows 150 kWh less than before",
        home,
        before=lambda row, start, block: register_falls(
            row, 150.0 * (block.start == start), block
        ),
    ),
    Fault(
        "zero_usage",
        "the whole meter is bypassed, voltage is there",
        _shop,
        after=lambda row, _, block: current(row, slice(None), 0.0, block),
        needs=9,
        echoes=LOSS_RULES,
    ),
    Fault(
        "read_failure",
        "the communication module is dead",
        home,
        after=lambda row, _, block: unread(row, block),
        needs=4.5,
        echoes=("read_success_rate",),
    ),
    Fault(
        "clock_drift",
        "the clock gains a minute an hour",
        home,
        before=clock_ahead,
        needs=1.5,
    ),
    Fault(
        "all_voltage_loss",
        "the voltage circuit is open behind the test block, 15 % are left",
        through_ct,
        after=lambda row, _, block: voltages(row, (0.15, 0.14, 0.16), block),
        lasts=2,
        echoes=("voltage_loss", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "reverse_sequence",
        "two phases of the supply are exchanged, with their currents",
        through_ct,
        after=lambda row, _, block: flagged(row, Flag.REVERSED_SEQUENCE, block),
        lasts=2,
    ),
    Fault(
        "wrong_wiring_vector",
        "the currents of phases A and B are crossed",
        through_ct,
        after=lambda row, _, block: crossed(row, block),
        lasts=3,
        needs=1.5,
        echoes=("reverse_polarity", "low_power_factor", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "neutral_phase_mismatch",
        "60 % of the phase current goes around the meter, the neutral carries all",
        home,
        after=lambda row, _, block: bridged(row, 0.4, block),
        needs=2,
        echoes=LOSS_RULES,
    ),
    Fault(
        "meter_voltage_unbalance",
        "the neutral before the meter is broken",
        _direct,
        after=lambda row, _, block: voltages(row, (1.4, 0.8, 0.9), block),
        lasts=0.5,
        echoes=("voltage_deviation", "pq_voltage_unbalance", *LOSS_RULES),
    ),
    Fault(
        "power_differential",
        "a burden on the current transformers takes a fifth of what the meter measures",
        through_ct,
        after=lambda row, _, block: bridged(row, 0.8, block),
        lasts=3,
        echoes=LOSS_RULES,
    ),
    Fault(
        "relay_mismatch",
        "the relay was ordered to open, its contacts are welded",
        home,
        after=lambda row, _, block: flagged(row, Flag.RELAY_OPEN, block),
        lasts=3,
    ),
    Fault(
        "phase_mismatch",
        "the home was moved to the next phase, the file was not",
        home,
        before=lambda row, _, block: hung(row, (int(block.phase[row]) + 1) % 3, block),
        needs=16,
    ),
    Fault(
        "harmonics_thd",
        "a rectifier without a filter distorts the voltage",
        through_ct,
        after=lambda row, _, block: distorted(row, 4.0, block),
        lasts=2,
    ),
)


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
        self._order = [int(k) for k in self.rng.permutation(len(grid.areas))]
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
        for row in self._victims(_shop):
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
            rows = np.flatnonzero(free & (self.grid.area == self._order[-1]))
            if len(rows):
                row = int(self.rng.choice(rows))
                self.used[row] = True
                yield row
                return

    def when(self, needs: float, earliest: float = 1.0) -> int:
        """An hour after the earliest day, so many days before the end; the hours spread evenly."""
        self._moment = (self._moment + 0.618) % 1
        span = max(0, self.days - needs - earliest - 0.3)
        hours = int((earliest + self._moment * span) * 24)
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
        area, meter = self.grid.areas[self.grid.area[row]], self.grid.names[row]

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
        allowed = peak * grid.rating[area] * 0.95 - others[evening]
        return homes, float(allowed / used[evening])


def _thefts(plan: Plan, area: int) -> Iterator[Happening]:
    """Meters that see a third of the use (attack h1), until 13 % of the energy are missing."""
    if plan.days < 7:
        return

    grid, seen = plan.grid, 0.33
    rows = plan.rng.permutation(
        np.flatnonzero((grid.area == area) & ~grid.gateway & (grid.pv_kw == 0))
    )
    bypassed = np.cumsum(grid.mean_kw[rows]) * (1 - seen)
    missing = bypassed / grid.mean_kw[grid.area == area].sum()
    rows = rows[: 1 + int(np.searchsorted(missing, 0.13))]
    plan.used[rows] = True

    at = plan.when(plan.days - 4)
    note = f"{len(rows)} customers bypass two thirds of what they use"
    planted = Planted("theft", LOSS_RULES, grid.areas[area], "", at, plan.end, note)
    yield Happening(
        at, plan.end, after=partial(current, rows, slice(None), seen), planted=planted
    )


def _overload(plan: Plan, area: int) -> Iterator[Happening]:
    """Heating doubles and trebles the homes' use: the evening peak is 15 % above the rating."""
    if plan.days < 4:
        return

    homes, times = plan.heating(area, 1.15)
    at = plan.when(3.5)
    planted = Planted(
        "transformer_overload",
        ("transformer_overload",),
        plan.grid.areas[area],
        "",
        at,
        at + 2 * DAY_SECONDS,
        f"electric heating: homes use {times:.1f} times as much",
        (
            "transformer_overload_expected",
            "area_load_unbalance",
            "voltage_deviation",
            "meter_current_unbalance",
            "meter_overcurrent",
            "neutral_current_high",
        ),
    )
    yield Happening(
        at, at + 2 * DAY_SECONDS, before=partial(loads, homes, times), planted=planted
    )


def _unbalance(plan: Plan, area: int) -> Iterator[Happening]:
    """After line work too many single-phase customers hang on phase A, in cold days."""
    if plan.days < 4:
        return

    homes, times = plan.heating(area, 0.62)
    moved = plan.rng.permutation(homes[plan.grid.phase[homes] > 0])[: len(homes) // 5]
    at = plan.when(plan.days - 2)
    planted = Planted(
        "area_load_unbalance",
        ("area_load_unbalance",),
        plan.grid.areas[area],
        "",
        at,
        plan.end,
        f"{len(moved)} customers were moved to phase A",
        (
            "meter_current_unbalance",
            "voltage_deviation",
            "neutral_current_high",
            "phase_mismatch",
        ),
    )

    def change(block: Block) -> None:
        hung(moved, 0, block)
        loads(homes, times, block)

    yield Happening(at, plan.end, before=change, planted=planted)


def _harmonics(plan: Plan, area: int) -> Iterator[Happening]:
    """The third harmonics of a hall's lamps add up in the neutral."""
    if plan.days < 4:
        return

    grid, at = plan.grid, plan.when(2)
    gateway = int(np.flatnonzero(grid.gateway & (grid.area == area))[0])
    amps = 0.6 * float(grid.rating[area]) * 1000 / np.sqrt(3) / 400
    planted = Planted(
        "neutral_current_high",
        ("neutral_current_high",),
        grid.areas[area],
        "",
        at,
        at + 2 * DAY_SECONDS,
        f"third harmonics of {amps:.0f} A in the transformer's neutral",
    )
    change = partial(third_harmonics, gateway, amps / float(grid.ratio[gateway]))
    yield Happening(at, at + 2 * DAY_SECONDS, after=change, planted=planted)


USUAL_FAULTS = Kinds(
    USUAL_METER_FAULTS, (_thefts, _overload, _unbalance, _thefts, _harmonics)
)

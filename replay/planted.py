"""What happens in the simulated town: faults that must be found, and ordinary events that must not be taken for one."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from replay.network import COMMERCIAL, RESIDENTIAL, Grid, Rows, Values
from schemas.alert import Alert
from schemas.columns import Codes, Event, Flag, Mask
from schemas.master import Meter

HOUR, DAY = 3600, 86_400


@dataclass(frozen=True)
class Planted:
    """A fault that was put into the town, and the rules that should tell of it; a decoy has none."""

    kind: str
    rules: tuple[str, ...]  # any of them finds it
    area: str
    subject: str  # "" for a whole area
    start: int
    end: int
    note: str
    echoes: tuple[str, ...] = ()  # rules that may rightly tell of its consequences

    def found_by(self, alert: Alert) -> bool:
        """Whether the alert is the one to expect."""
        return alert.rule in self.rules and self.subject in ("", alert.subject) and self._meets(alert)

    def explains(self, alert: Alert) -> bool:
        """Whether the alert is no false alarm, because of this fault."""
        near = self.subject in ("", alert.subject) or not alert.subject
        return self.found_by(alert) or (alert.rule in self.echoes and near and self._meets(alert))

    def _meets(self, alert: Alert) -> bool:
        return alert.area == self.area and self.start <= alert.raised and alert.since <= self.end + DAY


@dataclass
class Block:
    """Some slots of the town in the making: what changes before the physics is true, what changes after is metered."""

    start: int  # Unix seconds at which its first interval begins
    scale: Values  # (rows,) times the usual load
    cap_kw: Values  # (rows,) what the supply lets through
    fed: Codes  # (rows,) area whose transformer feeds a single-phase meter
    phase: Codes  # (rows,) that it hangs on
    share: Values  # (3, rows) of a three-phase user's load
    tan: Values  # (rows,) reactive over active power
    pv_kw: Values  # (rows,) that the sun brings at noon
    register: NDArray[np.float64]  # (rows,) kWh, secondary
    counts: Values  # (rows,) share of what flows that the meter counts
    curve: Values  # (rows,) share of what it counts that its intervals show
    by_tariff: Values  # (rows,) share of what it counts that its tariffs' registers show
    demand: Values  # (rows,) share of the highest power that its demand register shows
    set_ratio: Values  # (rows,) ratio that it is set to
    hertz: Values  # (rows,) Hz off the town's frequency
    clock: Values  # (rows,) seconds the meter's clock is ahead
    read: Mask  # (slots, rows)
    u: Values  # (3, slots, rows) V
    i: Values  # (3, slots, rows) A, secondary
    p: Values  # (3, slots, rows) kW, secondary
    q: Values  # (3, slots, rows) kvar, secondary
    neutral: Values  # (slots, rows) A, secondary
    thd: Values  # (3, slots, rows) %
    terminal: Values  # (slots, rows) kW, secondary, as a terminal measures it beside the meter
    flags: Codes  # (rows,) Flag bits


Change = Callable[[Block], None]
MISSING = ("area_loss_high", "area_loss_correlation")  # what tells of energy that a meter no longer counts


@dataclass(frozen=True)
class Notice:
    """A device event that reports a happening."""

    at: int
    area: str
    subject: str
    event: Event
    until: int = 0
    residual: float = float("nan")  # pu
    seconds: float = float("nan")


@dataclass(frozen=True)
class Filed:
    """What the file of a meter says from a moment on, as long as what happens lasts."""

    area: str
    meter: str
    since: int
    change: Callable[[Meter], Meter]
    new: bool = False  # whether there was no such meter before


@dataclass(frozen=True)
class Happening:
    """A change to the blocks that start within a span of time."""

    start: int
    end: int
    before: Change | None = None  # the physics
    after: Change | None = None
    planted: Planted | None = None
    notices: tuple[Notice, ...] = ()
    filed: Filed | None = None

    def during(self, block: Block) -> bool:
        """Whether the block starts within the span."""
        return self.start <= block.start < self.end


def load(row: int, times: float, block: Block) -> None:
    """Multiplies a customer's load; the fuses let 60 % more through than before."""
    block.scale[row] *= times
    block.cap_kw[row] *= 1.6


def loads(rows: Rows, times: float, block: Block) -> None:
    """Multiplies the load of many."""
    block.scale[rows] *= times


def uneven(row: int, shares: tuple[float, float, float], block: Block) -> None:
    """Spreads a three-phase customer's load unevenly."""
    block.share[:, row] = shares


def hung(rows: int | Rows, phase: int, block: Block) -> None:
    """Hangs single-phase customers on another phase."""
    block.phase[rows] = phase


def lost_phase(row: int, phase: int, block: Block) -> None:
    """A blown fuse: the load on that phase is gone."""
    block.scale[row] *= 1 - block.share[phase, row]
    block.share[phase, row] = 0
    block.share[:, row] /= block.share[:, row].sum()


def voltage(row: int, phase: int, times: float, block: Block) -> None:
    """The meter sees less voltage on a phase, and so less power."""
    for column in (block.u, block.p, block.q):
        column[phase, :, row] *= times


def current(rows: int | Rows, phases: slice, times: float, block: Block) -> None:
    """The meter sees only part of the current, all of it backwards when `times` is negative.

    What goes around a whole meter goes around its neutral and its terminal too.
    """
    if phases == slice(None):
        block.neutral[:, rows] *= abs(times)
        block.terminal[:, rows] *= times
    block.i[phases, :, rows] *= abs(times)
    block.p[phases, :, rows] *= times
    block.q[phases, :, rows] *= times


def voltages(row: int, times: tuple[float, float, float], block: Block) -> None:
    """The meter sees other voltages, and so other powers."""
    for phase in range(3):
        voltage(row, phase, times[phase], block)


def crossed(row: int, block: Block) -> None:
    """The currents of phases A and B go through each other's element."""
    one, other = slice(0, 2), slice(1, None, -1)
    power = (block.p[other, :, row] + 1j * block.q[other, :, row]) * np.exp(2j * np.pi / 3 * np.array([[1], [-1]]))
    block.i[one, :, row] = block.i[other, :, row]
    block.p[one, :, row], block.q[one, :, row] = power.real, power.imag


def flagged(row: int, flag: Flag, block: Block) -> None:
    """A bit of the status word is set."""
    block.flags[row] |= flag


def third_harmonics(row: int, amps: float, block: Block) -> None:
    """Currents of the third order of all phases add up in the neutral, secondary amperes."""
    block.neutral[:, row] = np.hypot(block.neutral[:, row], amps)


def bridged(row: int, seen: float, block: Block) -> None:
    """A link or a burden beside a meter's elements, which see part of the current."""
    for column in (block.i, block.p, block.q):
        column[:, :, row] *= seen


def sagged(row: int, volts: float, block: Block) -> None:
    """A bad contact in the service line takes some volts."""
    block.u[0, :, row] -= volts


def stands_still(row: int, block: Block) -> None:
    """The register no longer moves."""
    block.counts[row] = 0


def miscounts(row: int, share: float, block: Block) -> None:
    """The meter counts a share of what flows."""
    block.counts[row] = share


def register_falls(row: int, kwh: float, block: Block) -> None:
    """The register shows less than before, once."""
    block.register[row] -= kwh


def register_starts(row: int, block: Block) -> None:
    """A new meter's register."""
    block.register[row] = 0.2


def distorted(row: int, percent: float, block: Block) -> None:
    """Harmonics of the customer's own currents come to those of the supply's voltage."""
    block.thd[:, :, row] += percent


def unread(rows: int | Rows, block: Block) -> None:
    """No reading arrives."""
    block.read[:, rows] = False


def clock_ahead(row: int, start: int, block: Block) -> None:
    """The meter's clock gains a minute an hour, twenty at most."""
    block.clock[row] = min(1200, (block.start - start) / 60)


@dataclass(frozen=True)
class Fault:
    """A kind of fault of one meter: whom it befalls and what it does."""

    kind: str  # the rule that tells of it, where `rules` are not told
    note: str
    who: Callable[[Grid], Mask]
    before: Callable[[int, int, Block], None] | None = None  # row, start, block
    after: Callable[[int, int, Block], None] | None = None
    echoes: tuple[str, ...] = ()
    times: float = 2  # in a town of 4,000 meters
    needs: float = 1.0  # days until it can be seen
    lasts: float = 0.0  # days, 0 for good
    rules: tuple[str, ...] | None = None  # a decoy has none
    earliest: float = 1.0  # days that the town must have been watched before
    filed: Callable[[Meter, int], Meter] | None = None  # what the file says from the start on
    new: bool = False  # whether the meter is connected then, and what it does is told from the town's start on
    told: tuple[tuple[float, Event], ...] = ()  # hours after which an event is reported
    depth: tuple[float, float] = (float("nan"), float("nan"))  # pu and seconds of what is reported


@dataclass(frozen=True)
class Kinds:
    """What is planted: faults of single meters, and of whole areas, each of which befalls an area of the plan."""

    meters: tuple[Fault, ...]
    areas: tuple[Callable[[Plan, int], Iterator[Happening]], ...]
    office: bool = True  # whether faults of the office are planted too


def through_ct(grid: Grid) -> Mask:
    """Users behind current transformers."""
    return grid.three & (grid.ratio > 1)


def home(grid: Grid) -> Mask:
    """Homes without a roof of their own, that use something."""
    return (grid.segment == RESIDENTIAL) & (grid.pv_kw == 0) & (grid.mean_kw > 0.25)


def direct(grid: Grid) -> Mask:
    """Users whose three phases go through the meter."""
    return grid.three & (grid.ratio == 1)


def shop(grid: Grid) -> Mask:
    """Shops on one phase."""
    return (grid.segment == COMMERCIAL) & ~grid.three & (grid.mean_kw > 0.6)


def office(grid: Grid) -> Mask:
    """Shops and offices behind current transformers."""
    return (grid.segment == COMMERCIAL) & through_ct(grid)


BESIDE = ("power_differential", *MISSING)  # and where a terminal measures beside it
FAULTS = (
    Fault("voltage_loss", "phase B of the voltage circuit has a bad contact, 40 % of the voltage is left", through_ct,
          after=lambda row, _, b: voltage(row, 1, 0.4, b), lasts=2, echoes=("voltage_deviation", *BESIDE)),
    Fault("phase_break", "the fuse of phase C has blown", through_ct, before=lambda row, _, b: lost_phase(row, 2, b),
          after=lambda row, _, b: voltage(row, 2, 0.04, b), lasts=1,
          echoes=("meter_current_unbalance", "voltage_deviation")),
    Fault("current_loss", "the current transformer of phase A is short-circuited", through_ct,
          after=lambda row, _, b: current(row, slice(0, 1), 0.0, b), lasts=3,
          echoes=("meter_current_unbalance", "current_break", *BESIDE)),
    Fault("reverse_polarity", "the current transformer of phase C is connected the wrong way round", through_ct,
          after=lambda row, _, b: current(row, slice(2, 3), -1.0, b), lasts=3,
          echoes=("wrong_wiring_vector", *BESIDE)),
    Fault("meter_current_unbalance", "most of the load hangs on phase A", through_ct,
          before=lambda row, _, b: uneven(row, (0.62, 0.2, 0.18), b), lasts=3, echoes=("area_load_unbalance",)),
    Fault("voltage_deviation", "a bad contact in the service line takes 38 V", home,
          after=lambda row, _, b: sagged(row, 38, b), lasts=2),
    Fault("over_contract_capacity", "a new workshop at more than twice the load of the contract", office,
          before=lambda row, _, b: load(row, 2.2, b), needs=3.5, echoes=("capacity_expansion",)),
    Fault("meter_stopped", "the register stands still while power flows", home,
          after=lambda row, _, b: stands_still(row, b), echoes=("zero_usage", "energy_ratio_error", *MISSING)),
    Fault("energy_ratio_error", "the meter counts 60 % of what flows", office,
          after=lambda row, _, b: miscounts(row, 0.6, b), needs=4.5, echoes=MISSING),
    Fault("register_decrease", "the register shows 150 kWh less than before", home,
          before=lambda row, start, b: register_falls(row, 150.0 * (b.start == start), b)),
    Fault("zero_usage", "the whole meter is bypassed, voltage is there", shop,
          after=lambda row, _, b: current(row, slice(None), 0.0, b), needs=9, echoes=MISSING),
    Fault("read_failure", "the communication module is dead", home, after=lambda row, _, b: unread(row, b), needs=4.5,
          echoes=("read_success_rate",)),
    Fault("clock_drift", "the clock gains a minute an hour", home,
          before=clock_ahead, needs=1.5),
    Fault("all_voltage_loss", "the voltage circuit is open behind the test block, 15 % are left", through_ct,
          after=lambda row, _, b: voltages(row, (0.15, 0.14, 0.16), b), lasts=2, echoes=("voltage_loss", *BESIDE)),
    Fault("reverse_sequence", "two phases of the supply are exchanged, with their currents", through_ct,
          after=lambda row, _, b: flagged(row, Flag.REVERSED_SEQUENCE, b), lasts=2),
    Fault("wrong_wiring_vector", "the currents of phases A and B are crossed", through_ct,
          after=lambda row, _, b: crossed(row, b), lasts=3, needs=1.5,
          echoes=("reverse_polarity", "low_power_factor", *BESIDE)),
    Fault("neutral_phase_mismatch", "60 % of the phase current goes around the meter, the neutral carries all", home,
          after=lambda row, _, b: bridged(row, 0.4, b), needs=2, echoes=MISSING),
    Fault("meter_voltage_unbalance", "the neutral before the meter is broken", direct,
          after=lambda row, _, b: voltages(row, (1.4, 0.8, 0.9), b), lasts=0.5,
          echoes=("voltage_deviation", "pq_voltage_unbalance", *MISSING)),
    Fault("power_differential", "a burden on the current transformers takes a fifth of what the meter measures",
          through_ct, after=lambda row, _, b: bridged(row, 0.8, b), lasts=3, echoes=MISSING),
    Fault("relay_mismatch", "the relay was told to open, its contacts are welded", home,
          after=lambda row, _, b: flagged(row, Flag.RELAY_OPEN, b), lasts=3),
    Fault("phase_mismatch", "the home was moved to the next phase, the file was not", home,
          before=lambda row, _, b: hung(row, (int(b.phase[row]) + 1) % 3, b), needs=16),
    Fault("harmonics_thd", "a rectifier without a filter distorts the voltage", through_ct,
          after=lambda row, _, b: distorted(row, 4.0, b), lasts=2),
)  # fmt: skip


class Plan:
    """Chooses victims and moments; the same arguments give the same plan."""

    def __init__(self, grid: Grid, start: int, days: int, seed: int) -> None:
        self.grid, self.start, self.days, self.seed = grid, start, days, seed
        self.end = start + days * DAY
        self.rng = np.random.default_rng([seed, 2])
        self.order = [int(k) for k in self.rng.permutation(len(grid.areas))]
        self.used = np.array(grid.gateway)
        self.moment = 0.0

    def ordinary(self) -> Iterator[Happening]:
        """Moving out, new meters, a planned outage: nothing to alert on."""
        for _ in range(max(1, len(self.grid) // 800)):
            for row in self.victims(home):
                moved = self._notice(at := self.when(0), row, Event.VACANCY)
                yield Happening(at, self.end, before=partial(load, row, 0.0), notices=(moved,))
            for row in self.victims(home):
                changed = self._notice(at := self.when(0), row, Event.METER_CHANGE)
                yield Happening(at, at + HOUR, before=partial(register_starts, row), notices=(changed,))
        area, at = self.order[-1], self.when(0)
        rows, until = np.flatnonzero(self.grid.area == area), at + 3 * HOUR
        outage = Notice(at, self.grid.areas[area], "", Event.PLANNED_OUTAGE, until)
        yield Happening(at, until, before=partial(loads, rows, 0.0), after=partial(unread, rows), notices=(outage,))

    def decoys(self) -> Iterator[Happening]:
        """What looks like a fault and is none: a shop that closes and tells nobody."""
        if self.days > 9:
            for row in self.victims(shop):
                at = self.when(8.5)
                area, meter = self.grid.areas[self.grid.area[row]], self.grid.names[row]
                decoy = Planted("closed_shop", (), area, meter, at, self.end, "the shop closed and told nobody")
                yield Happening(at, self.end, before=partial(load, row, 0.0), planted=decoy)

    def faults(self, kinds: Kinds) -> Iterator[Happening]:
        """Faults of whole areas, each in an area of its own as far as they go, then those of single meters."""
        for befall in kinds.areas[: max(1, len(self.order) // 2)]:
            yield from befall(self, self.order[0])
            if len(self.order) > 1:
                self.order.pop(0)
        for fault in kinds.meters:
            for _ in range(max(1, round(fault.times * len(self.grid) / 4000))):
                if fault.earliest + fault.needs + 0.3 <= self.days:
                    yield from (self._befall(fault, row) for row in self.victims(fault.who))

    def victims(self, who: Callable[[Grid], Mask]) -> Iterator[int]:
        """One meter that nothing has happened to, of another area than the last; none in a town too small."""
        free = who(self.grid) & ~self.used
        for _ in self.order:
            self.order.append(self.order.pop(0))
            if len(rows := np.flatnonzero(free & (self.grid.area == self.order[-1]))):
                row = int(self.rng.choice(rows))
                self.used[row] = True
                yield row
                return

    def when(self, needs: float, earliest: float = 1.0) -> int:
        """An hour after the earliest that leaves so many days until the end; the hours spread evenly."""
        self.moment = (self.moment + 0.618) % 1
        return self.start + int((earliest + self.moment * max(0, self.days - needs - earliest - 0.3)) * 24) * HOUR

    def _notice(self, at: int, row: int, event: Event) -> Notice:
        return Notice(at, self.grid.areas[self.grid.area[row]], self.grid.names[row], event)

    def _befall(self, fault: Fault, row: int) -> Happening:
        at = self.when(fault.needs, fault.earliest)
        end = min(self.end, at + round(fault.lasts * DAY)) if fault.lasts else self.end
        area, meter = self.grid.areas[self.grid.area[row]], self.grid.names[row]
        rules = (fault.kind,) if fault.rules is None else fault.rules
        planted = Planted(fault.kind, rules, area, meter, at, end, fault.note, fault.echoes)
        file, (residual, seconds) = fault.filed, fault.depth
        return Happening(
            self.start if fault.new else at, end, partial(fault.before, row, at) if fault.before else None,
            partial(fault.after, row, at) if fault.after else None, planted,
            tuple(Notice(at + round(h * HOUR), area, meter, event, 0, residual, seconds) for h, event in fault.told),
            Filed(area, meter, at, lambda m: file(m, at), fault.new) if file else None,
        )  # fmt: skip

    def heating(self, area: int, peak: float) -> tuple[Rows, float]:
        """The single-phase homes of an area, and how much more they must use for a peak of so much of the rating."""
        grid = self.grid
        homes = np.flatnonzero((grid.area == area) & (grid.segment == RESIDENTIAL) & ~grid.three & ~grid.gateway)
        used = grid.expected_kw(homes)
        others = grid.expected_kw(grid.area == area) - used
        evening = int(np.argmax(used))
        return homes, float((peak * grid.rating[area] * 0.95 - others[evening]) / used[evening])


def thefts(plan: Plan, area: int) -> Iterator[Happening]:
    """Meters that see a third of what is used (attack h1), as many as it takes to miss 13 % of the energy."""
    if plan.days < 7:
        return
    grid, seen = plan.grid, 0.33
    rows = plan.rng.permutation(np.flatnonzero((grid.area == area) & ~grid.gateway & (grid.pv_kw == 0)))
    missing = np.cumsum(grid.mean_kw[rows]) * (1 - seen) / grid.mean_kw[grid.area == area].sum()
    rows = rows[: 1 + int(np.searchsorted(missing, 0.13))]
    plan.used[rows] = True
    at = plan.when(plan.days - 4)
    note = f"{len(rows)} customers bypass two thirds of what they use"
    planted = Planted("theft", MISSING, grid.areas[area], "", at, plan.end, note)
    yield Happening(at, plan.end, after=partial(current, rows, slice(None), seen), planted=planted)


def overload(plan: Plan, area: int) -> Iterator[Happening]:
    """Heating doubles and trebles what homes use until the evening peak is 15 % above the rating."""
    if plan.days < 4:
        return
    homes, times = plan.heating(area, 1.15)
    at = plan.when(3.5)
    planted = Planted(
        "transformer_overload", ("transformer_overload",), plan.grid.areas[area], "", at, at + 2 * DAY,
        f"electric heating: homes use {times:.1f} times as much",
        ("area_load_unbalance", "voltage_deviation", "meter_current_unbalance", "meter_overcurrent",
         "neutral_current_high"),
    )  # fmt: skip
    yield Happening(at, at + 2 * DAY, before=partial(loads, homes, times), planted=planted)


def unbalance(plan: Plan, area: int) -> Iterator[Happening]:
    """After line work too many single-phase customers hang on phase A, in cold days."""
    if plan.days < 4:
        return
    homes, times = plan.heating(area, 0.62)
    moved = plan.rng.permutation(homes[plan.grid.phase[homes] > 0])[: len(homes) // 5]
    at = plan.when(plan.days - 2)
    planted = Planted(
        "area_load_unbalance", ("area_load_unbalance",), plan.grid.areas[area], "", at, plan.end,
        f"{len(moved)} customers were moved to phase A",
        ("meter_current_unbalance", "voltage_deviation", "neutral_current_high", "phase_mismatch"),
    )  # fmt: skip

    def change(block: Block) -> None:
        hung(moved, 0, block)
        loads(homes, times, block)

    yield Happening(at, plan.end, before=change, planted=planted)


def harmonics(plan: Plan, area: int) -> Iterator[Happening]:
    """The third harmonics of a hall's lamps add up in the neutral."""
    if plan.days < 4:
        return
    grid, at = plan.grid, plan.when(2)
    gateway = int(np.flatnonzero(grid.gateway & (grid.area == area))[0])
    amps = 0.6 * float(grid.rating[area]) * 1000 / np.sqrt(3) / 400
    rules, note = ("neutral_current_high",), f"third harmonics of {amps:.0f} A in the transformer's neutral"
    planted = Planted("neutral_current_high", rules, grid.areas[area], "", at, at + 2 * DAY, note)
    change = partial(third_harmonics, gateway, amps / float(grid.ratio[gateway]))
    yield Happening(at, at + 2 * DAY, after=change, planted=planted)


USUAL = Kinds(FAULTS, (thefts, overload, unbalance, thefts, harmonics))

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
        near = self.subject in ("", alert.subject) or alert.rule.startswith(("area_", "transformer_"))
        return self.found_by(alert) or (alert.rule in self.echoes and near and self._meets(alert))

    def _meets(self, alert: Alert) -> bool:
        return alert.area == self.area and self.start <= alert.raised and alert.since <= self.end + DAY


@dataclass
class Block:
    """Some slots of the town in the making: what changes before the physics is true, what changes after is metered."""

    start: int  # Unix seconds at which its first interval begins
    scale: Values  # (rows,) times the usual load
    cap_kw: Values  # (rows,) what the supply lets through
    phase: Codes  # (rows,) that a single-phase meter hangs on
    share: Values  # (3, rows) of a three-phase user's load
    register: NDArray[np.float64]  # (rows,) kWh, secondary
    counts: Values  # (rows,) share of what flows that the meter counts
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


@dataclass(frozen=True)
class Happening:
    """A change to the blocks that start within a span of time."""

    start: int
    end: int
    before: Change | None = None  # the physics
    after: Change | None = None
    planted: Planted | None = None
    notices: tuple[Notice, ...] = ()

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


def registered(rows: int | Rows, shares: Values, block: Block) -> None:
    """The meter counts a share of what flows, slot by slot."""
    for column in (block.i, block.p, block.q):
        column[:, :, rows] *= shares


def shares_h1(_: Grid, row: int, seed: int, block: Block) -> Values:
    """The same share always."""
    return np.full(len(block.read), np.random.default_rng([seed, row]).uniform(0.1, 0.8), np.float32)


def shares_h2(_: Grid, row: int, seed: int, block: Block) -> Values:
    """Nothing in a span of six hours that is the same every day."""
    begins = int(np.random.default_rng([seed, row]).integers(24))
    return np.full(len(block.read), (block.start // HOUR - begins) % 24 >= 6, np.float32)


def shares_h3(_: Grid, row: int, seed: int, block: Block) -> Values:
    """Another share in every slot."""
    return np.random.default_rng([seed, row, block.start]).uniform(0.1, 0.8, len(block.read)).astype(np.float32)


def shares_h4(grid: Grid, row: int, seed: int, block: Block) -> Values:
    """Another share of the mean in every slot."""
    return shares_h3(grid, row, seed, block) * shares_h5(grid, row, seed, block)


def shares_h5(grid: Grid, row: int, _: int, block: Block) -> Values:
    """The mean, whatever flows: nothing is missing but the peaks."""
    return grid.mean_kw[row] / np.maximum(_power(grid, row, block), 1e-3)


def shares_h6(grid: Grid, row: int, _: int, block: Block) -> Values:
    """The day turned round: nothing is missing but what is dear."""
    shape = grid.shapes[grid.segment[row], 0]
    slots = (block.start + 8 * HOUR) // 900 % len(shape) + np.arange(len(block.read))
    return np.asarray(shape[len(shape) - 1 - slots] / shape[slots], np.float32)


def shares_fdi2(grid: Grid, row: int, _: int, block: Block) -> Values:
    """All that lies above 1.3 times the mean is cut off."""
    return np.minimum(1, 1.3 * shares_h5(grid, row, 0, block))


def shares_fdi3(grid: Grid, row: int, _: int, block: Block) -> Values:
    """What the first 0.7 times the mean bring is taken off."""
    return np.maximum(0, 1 - 0.7 * shares_h5(grid, row, 0, block))


def _power(grid: Grid, row: int, block: Block) -> Values:
    return np.asarray(np.nansum(block.p[:, :, row], axis=0) * grid.ratio[row])


@dataclass(frozen=True)
class Attack:
    """A way to register less than is used: what of every slot the meter counts, and the rules that may tell."""

    note: str
    shares: Callable[[Grid, int, int, Block], Values]
    rules: tuple[str, ...]


SUSPECT = "area_loss_correlation"
ATTACKS = {  # after Jokar et al. 2016, the last two after Zheng K. et al. 2019
    "h1": Attack("a share of the use, always the same", shares_h1, (SUSPECT, "step_drop")),
    "h2": Attack("nothing for six hours of the day", shares_h2, (SUSPECT, "timed_zero_block")),
    "h3": Attack("a share that changes with every interval", shares_h3, (SUSPECT, "step_drop")),
    "h4": Attack("changing shares of the mean", shares_h4, (SUSPECT, "step_drop", "flat_profile")),
    "h5": Attack("the mean instead of the curve: no energy is missing", shares_h5, ("flat_profile",)),
    "h6": Attack("the curve turned round: no energy is missing", shares_h6, ("tou_inversion",)),
    "FDI2": Attack("the peaks cut off", shares_fdi2, (SUSPECT, "clipped_profile")),
    "FDI3": Attack("only what lies above a line", shares_fdi3, (SUSPECT, "step_drop", "timed_zero_block")),
}


def attacked(grid: Grid, kind: str, row: int, span: tuple[int, int], seed: int) -> Happening:
    """One customer registers less than it uses; the gateway meter counts all of it."""
    attack, (start, end) = ATTACKS[kind], span

    def after(block: Block) -> None:
        registered(row, attack.shares(grid, row, seed, block), block)

    planted = Planted(kind, attack.rules, grid.areas[grid.area[row]], grid.names[row], start, end, attack.note, MISSING)
    return Happening(start, end, after=after, planted=planted)


@dataclass(frozen=True)
class Fault:
    """A kind of fault of one meter: whom it befalls and what it does."""

    kind: str  # the rule that tells of it
    note: str
    who: Callable[[Grid], Mask]
    before: Callable[[int, int, Block], None] | None = None  # row, start, block
    after: Callable[[int, int, Block], None] | None = None
    echoes: tuple[str, ...] = ()
    times: float = 2  # in a town of 4,000 meters
    needs: float = 1.0  # days until it can be seen
    lasts: float = 0.0  # days, 0 for good


def _through_ct(grid: Grid) -> Mask:
    return grid.three & (grid.ratio > 1)


def _home(grid: Grid) -> Mask:
    return (grid.segment == RESIDENTIAL) & (grid.pv_kw == 0) & (grid.mean_kw > 0.25)


def _direct(grid: Grid) -> Mask:
    return grid.three & (grid.ratio == 1)


def _shop(grid: Grid) -> Mask:
    return (grid.segment == COMMERCIAL) & ~grid.three & (grid.mean_kw > 0.6)


def _office(grid: Grid) -> Mask:
    return (grid.segment == COMMERCIAL) & _through_ct(grid)


BESIDE = ("power_differential", *MISSING)  # and where a terminal measures beside it
FAULTS = (
    Fault("voltage_loss", "phase B of the voltage circuit has a bad contact, 40 % of the voltage is left", _through_ct,
          after=lambda row, _, b: voltage(row, 1, 0.4, b), lasts=2, echoes=("voltage_deviation", *BESIDE)),
    Fault("phase_break", "the fuse of phase C has blown", _through_ct, before=lambda row, _, b: lost_phase(row, 2, b),
          after=lambda row, _, b: voltage(row, 2, 0.04, b), lasts=1,
          echoes=("meter_current_unbalance", "voltage_deviation")),
    Fault("current_loss", "the current transformer of phase A is short-circuited", _through_ct,
          after=lambda row, _, b: current(row, slice(0, 1), 0.0, b), lasts=3,
          echoes=("meter_current_unbalance", "current_break", *BESIDE)),
    Fault("reverse_polarity", "the current transformer of phase C is connected the wrong way round", _through_ct,
          after=lambda row, _, b: current(row, slice(2, 3), -1.0, b), lasts=3,
          echoes=("wrong_wiring_vector", *BESIDE)),
    Fault("meter_current_unbalance", "most of the load hangs on phase A", _through_ct,
          before=lambda row, _, b: uneven(row, (0.62, 0.2, 0.18), b), lasts=3),
    Fault("voltage_deviation", "a bad contact in the service line takes 38 V", _home,
          after=lambda row, _, b: sagged(row, 38, b), lasts=2),
    Fault("over_contract_capacity", "a new workshop at more than twice the load of the contract", _office,
          before=lambda row, _, b: load(row, 2.2, b), needs=3.5, echoes=("capacity_expansion",)),
    Fault("meter_stopped", "the register stands still while power flows", _home,
          after=lambda row, _, b: stands_still(row, b), echoes=("zero_usage", "energy_ratio_error", *MISSING)),
    Fault("energy_ratio_error", "the meter counts 60 % of what flows", _office,
          after=lambda row, _, b: miscounts(row, 0.6, b), needs=4.5, echoes=MISSING),
    Fault("register_decrease", "the register shows 150 kWh less than before", _home,
          before=lambda row, start, b: register_falls(row, 150.0 * (b.start == start), b)),
    Fault("zero_usage", "the whole meter is bypassed, voltage is there", _shop,
          after=lambda row, _, b: current(row, slice(None), 0.0, b), needs=9, echoes=MISSING),
    Fault("read_failure", "the communication module is dead", _home, after=lambda row, _, b: unread(row, b), needs=4.5),
    Fault("clock_drift", "the clock gains a minute an hour", _home,
          before=clock_ahead, needs=1.5),
    Fault("all_voltage_loss", "the voltage circuit is open behind the test block, 15 % are left", _through_ct,
          after=lambda row, _, b: voltages(row, (0.15, 0.14, 0.16), b), lasts=2, echoes=("voltage_loss", *BESIDE)),
    Fault("reverse_sequence", "two phases of the supply are exchanged, with their currents", _through_ct,
          after=lambda row, _, b: flagged(row, Flag.REVERSED_SEQUENCE, b), lasts=2),
    Fault("wrong_wiring_vector", "the currents of phases A and B are crossed", _through_ct,
          after=lambda row, _, b: crossed(row, b), lasts=3, needs=1.5,
          echoes=("reverse_polarity", "low_power_factor", *BESIDE)),
    Fault("neutral_phase_mismatch", "60 % of the phase current goes around the meter, the neutral carries all", _home,
          after=lambda row, _, b: bridged(row, 0.4, b), needs=2, echoes=MISSING),
    Fault("meter_voltage_unbalance", "the neutral before the meter is broken", _direct,
          after=lambda row, _, b: voltages(row, (1.4, 0.8, 0.9), b), lasts=0.5,
          echoes=("voltage_deviation", "pq_voltage_unbalance", *MISSING)),
    Fault("power_differential", "a burden on the current transformers takes a fifth of what the meter measures",
          _through_ct, after=lambda row, _, b: bridged(row, 0.8, b), lasts=3, echoes=MISSING),
    Fault("relay_mismatch", "the relay was told to open, its contacts are welded", _home,
          after=lambda row, _, b: flagged(row, Flag.RELAY_OPEN, b), lasts=3),
    Fault("phase_mismatch", "the home was moved to the next phase, the file was not", _home,
          before=lambda row, _, b: hung(row, (int(b.phase[row]) + 1) % 3, b), needs=16),
    Fault("harmonics_thd", "a rectifier without a filter distorts the voltage", _through_ct,
          after=lambda row, _, b: distorted(row, 4.0, b), lasts=2),
)  # fmt: skip


class Plan:
    """Chooses victims and moments; the same arguments give the same plan."""

    def __init__(self, grid: Grid, start: int, days: int, seed: int) -> None:
        self.grid, self.start, self.days = grid, start, days
        self.end = start + days * DAY
        self.rng = np.random.default_rng([seed, 2])
        self.order = [int(k) for k in self.rng.permutation(len(grid.areas))]
        self.used = np.array(grid.gateway)
        self.moment = 0.0

    def ordinary(self) -> Iterator[Happening]:
        """Moving out, new meters, a planned outage: nothing to alert on."""
        for _ in range(max(1, len(self.grid) // 800)):
            for row in self._victims(_home):
                moved = self._notice(at := self._when(0), row, Event.VACANCY)
                yield Happening(at, self.end, before=partial(load, row, 0.0), notices=(moved,))
            for row in self._victims(_home):
                changed = self._notice(at := self._when(0), row, Event.METER_CHANGE)
                yield Happening(at, at + HOUR, before=partial(register_starts, row), notices=(changed,))
        area, at = self.order[-1], self._when(0)
        rows, until = np.flatnonzero(self.grid.area == area), at + 3 * HOUR
        outage = Notice(at, self.grid.areas[area], "", Event.PLANNED_OUTAGE, until)
        yield Happening(at, until, before=partial(loads, rows, 0.0), after=partial(unread, rows), notices=(outage,))

    def decoys(self) -> Iterator[Happening]:
        """What looks like a fault and is none: a shop that closes and tells nobody."""
        if self.days > 9:
            for row in self._victims(_shop):
                at = self._when(8.5)
                area, meter = self.grid.areas[self.grid.area[row]], self.grid.names[row]
                decoy = Planted("closed_shop", (), area, meter, at, self.end, "the shop closed and told nobody")
                yield Happening(at, self.end, before=partial(load, row, 0.0), planted=decoy)

    def faults(self) -> Iterator[Happening]:
        """Faults of whole areas, each in an area of its own as far as they go, then those of single meters."""
        whole = (self._theft, self._overload, self._unbalance, self._theft, self._harmonics)
        for befall in whole[: max(1, len(self.order) // 2)]:
            yield from befall(self.order[0])
            if len(self.order) > 1:
                self.order.pop(0)
        for fault in FAULTS:
            for _ in range(max(1, round(fault.times * len(self.grid) / 4000))):
                if fault.needs + 1.3 <= self.days:
                    yield from (self._befall(fault, row) for row in self._victims(fault.who))

    def _victims(self, who: Callable[[Grid], Mask]) -> Iterator[int]:
        """One meter that nothing has happened to, of another area than the last; none in a town too small."""
        free = who(self.grid) & ~self.used
        for _ in self.order:
            self.order.append(self.order.pop(0))
            if len(rows := np.flatnonzero(free & (self.grid.area == self.order[-1]))):
                row = int(self.rng.choice(rows))
                self.used[row] = True
                yield row
                return

    def _when(self, needs: float) -> int:
        """An hour that leaves so many days until the end; the hours spread evenly."""
        self.moment = (self.moment + 0.618) % 1
        return self.start + int((1 + self.moment * max(0, self.days - needs - 1.3)) * 24) * HOUR

    def _notice(self, at: int, row: int, event: Event) -> Notice:
        return Notice(at, self.grid.areas[self.grid.area[row]], self.grid.names[row], event)

    def _befall(self, fault: Fault, row: int) -> Happening:
        at = self._when(fault.needs)
        end = min(self.end, at + round(fault.lasts * DAY)) if fault.lasts else self.end
        area, meter = self.grid.areas[self.grid.area[row]], self.grid.names[row]
        planted = Planted(fault.kind, (fault.kind,), area, meter, at, end, fault.note, fault.echoes)
        return Happening(at, end, partial(fault.before, row, at) if fault.before else None,
                         partial(fault.after, row, at) if fault.after else None, planted)  # fmt: skip

    def _theft(self, area: int) -> Iterator[Happening]:
        """Meters that see a third of what is used (attack h1), as many as it takes to miss 13 % of the energy."""
        if self.days < 7:
            return
        grid, seen = self.grid, 0.33
        rows = self.rng.permutation(np.flatnonzero((grid.area == area) & ~grid.gateway & (grid.pv_kw == 0)))
        missing = np.cumsum(grid.mean_kw[rows]) * (1 - seen) / grid.mean_kw[grid.area == area].sum()
        rows = rows[: 1 + int(np.searchsorted(missing, 0.13))]
        self.used[rows] = True
        at = self._when(self.days - 4)
        note = f"{len(rows)} customers bypass two thirds of what they use"
        planted = Planted("theft", MISSING, grid.areas[area], "", at, self.end, note)
        yield Happening(at, self.end, after=partial(current, rows, slice(None), seen), planted=planted)

    def _overload(self, area: int) -> Iterator[Happening]:
        """Heating doubles and trebles what homes use until the evening peak is 15 % above the rating."""
        if self.days < 4:
            return
        homes, times = self._heating(area, 1.15)
        at = self._when(3.5)
        planted = Planted(
            "transformer_overload", ("transformer_overload",), self.grid.areas[area], "", at, at + 2 * DAY,
            f"electric heating: homes use {times:.1f} times as much",
            ("area_load_unbalance", "voltage_deviation", "meter_current_unbalance", "meter_overcurrent",
             "neutral_current_high"),
        )  # fmt: skip
        yield Happening(at, at + 2 * DAY, before=partial(loads, homes, times), planted=planted)

    def _unbalance(self, area: int) -> Iterator[Happening]:
        """After line work too many single-phase customers hang on phase A, in cold days."""
        if self.days < 4:
            return
        homes, times = self._heating(area, 0.62)
        moved = self.rng.permutation(homes[self.grid.phase[homes] > 0])[: len(homes) // 5]
        at = self._when(self.days - 2)
        planted = Planted(
            "area_load_unbalance", ("area_load_unbalance",), self.grid.areas[area], "", at, self.end,
            f"{len(moved)} customers were moved to phase A",
            ("meter_current_unbalance", "voltage_deviation", "neutral_current_high", "phase_mismatch"),
        )  # fmt: skip

        def change(block: Block) -> None:
            hung(moved, 0, block)
            loads(homes, times, block)

        yield Happening(at, self.end, before=change, planted=planted)

    def _harmonics(self, area: int) -> Iterator[Happening]:
        """The third harmonics of a hall's lamps add up in the neutral."""
        if self.days < 4:
            return
        grid, at = self.grid, self._when(2)
        gateway = int(np.flatnonzero(grid.gateway & (grid.area == area))[0])
        amps = 0.6 * float(grid.rating[area]) * 1000 / np.sqrt(3) / 400
        rules, note = ("neutral_current_high",), f"third harmonics of {amps:.0f} A in the transformer's neutral"
        planted = Planted("neutral_current_high", rules, grid.areas[area], "", at, at + 2 * DAY, note)
        change = partial(third_harmonics, gateway, amps / float(grid.ratio[gateway]))
        yield Happening(at, at + 2 * DAY, after=change, planted=planted)

    def _heating(self, area: int, peak: float) -> tuple[Rows, float]:
        """The single-phase homes of an area, and how much more they must use for a peak of so much of the rating."""
        grid = self.grid
        homes = np.flatnonzero((grid.area == area) & (grid.segment == RESIDENTIAL) & ~grid.three & ~grid.gateway)
        used = grid.expected_kw(homes)
        others = grid.expected_kw(grid.area == area) - used
        evening = int(np.argmax(used))
        return homes, float((peak * grid.rating[area] * 0.95 - others[evening]) / used[evening])

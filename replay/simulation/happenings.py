"""Happenings of the simulated town: each changes flows or metering, and events report it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.simulation.network import Rows, Values
from schemas.alert import Alert
from schemas.columns import Codes, Event, Flag, Mask
from schemas.master import Meter
from schemas.units import DAY_SECONDS


@dataclass(frozen=True)
class Planted:
    """A fault that was put into the town, and the rules that should find it; a decoy has none."""

    kind: str
    rules: tuple[str, ...]  # any of them finds it
    area: str
    subject: str  # "" for a whole area
    start: int
    end: int
    note: str
    echoes: tuple[str, ...] = ()  # rules that may rightly raise for its consequences

    def found_by(self, alert: Alert) -> bool:
        """True if one of the fault's rules raised the alert, on its subject and in its time."""
        return (
            alert.rule in self.rules
            and self.subject in ("", alert.subject)
            and self._meets(alert)
        )

    def explains(self, alert: Alert) -> bool:
        """True if this fault or its consequences caused the alert."""
        related = self.subject in ("", alert.subject) or not alert.subject
        return self.found_by(alert) or (
            alert.rule in self.echoes and related and self._meets(alert)
        )

    def _meets(self, alert: Alert) -> bool:
        return (
            alert.area == self.area
            and self.start <= alert.raised
            and alert.since <= self.end + DAY_SECONDS
        )


@dataclass
class Block:
    """Some slots of the town: changes before the physics alter loads, later ones the metering."""

    start: int  # Unix seconds at which its first interval begins
    scale: Values  # (rows,) times the usual load
    cap_kw: Values  # (rows,) most that the supply lets through
    fed: Codes  # (rows,) area whose transformer feeds a single-phase meter
    phase: Codes  # (rows,) of a single-phase meter
    share: Values  # (3, rows) of a three-phase user's load
    tan: Values  # (rows,) reactive over active power
    pv_kw: Values  # (rows,) that the sun brings at noon
    register: NDArray[np.float64]  # (rows,) kWh, secondary
    counts: Values  # (rows,) share of what flows that the meter counts
    curve: Values  # (rows,) share of what it counts that its intervals show
    by_tariff: Values  # (rows,) share of what it counts that its tariff registers show
    demand: Values  # (rows,) share of the highest power that its demand register shows
    set_ratio: Values  # (rows,) ratio that it is set to
    hertz: Values  # (rows,) Hz off the town's frequency
    clock: Values  # (rows,) seconds the meter's clock is ahead
    read: Mask  # (slots, rows)
    U: Values  # (3, slots, rows) V
    I: Values  # (3, slots, rows) A, secondary
    P: Values  # (3, slots, rows) kW, secondary
    Q: Values  # (3, slots, rows) kvar, secondary
    neutral: Values  # (slots, rows) A, secondary
    thd: Values  # (3, slots, rows) %
    terminal: Values  # (slots, rows) kW, secondary, by a terminal beside the meter
    flags: Codes  # (rows,) Flag bits


Change = Callable[[Block], None]
# rules that find energy which a meter no longer counts
LOSS_RULES = ("area_loss_high", "area_loss_correlation", "voltage_current_decoupling")


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
class RecordChange:
    """A change of a meter's record from a moment on, for as long as the happening lasts."""

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
    record_change: RecordChange | None = None

    def during(self, block: Block) -> bool:
        """True if the block starts within the span."""
        return self.start <= block.start < self.end


def load(row: int, times: float, block: Block) -> None:
    """Multiplies a customer's load; the fuses let 60 % more through than before."""
    block.scale[row] *= times
    block.cap_kw[row] *= 1.6


def loads(rows: Rows, times: float, block: Block) -> None:
    """Multiplies the load of many customers."""
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
    for column in (block.U, block.P, block.Q):
        column[phase, :, row] *= times


def current(rows: int | Rows, phases: slice, times: float, block: Block) -> None:
    """The meter sees only a share of the current, all of it backwards when `times` is negative.

    Current that goes around a whole meter goes around its neutral and its terminal too.
    """
    if phases == slice(None):
        block.neutral[:, rows] *= abs(times)
        block.terminal[:, rows] *= times
    block.I[phases, :, rows] *= abs(times)
    block.P[phases, :, rows] *= times
    block.Q[phases, :, rows] *= times


def voltages(row: int, times: tuple[float, float, float], block: Block) -> None:
    """The meter sees other voltages, and so other powers."""
    for phase in range(3):
        voltage(row, phase, times[phase], block)


def crossed(row: int, block: Block) -> None:
    """The currents of phases A and B go through each other's element."""
    both, exchanged = slice(0, 2), slice(1, None, -1)
    turns = np.exp(2j * np.pi / 3 * np.array([[1], [-1]]))
    power = (block.P[exchanged, :, row] + 1j * block.Q[exchanged, :, row]) * turns
    block.I[both, :, row] = block.I[exchanged, :, row]
    block.P[both, :, row] = power.real
    block.Q[both, :, row] = power.imag


def flagged(row: int, flag: Flag, block: Block) -> None:
    """A bit of the status word is set."""
    block.flags[row] |= flag


def third_harmonics(row: int, amps: float, block: Block) -> None:
    """Currents of the third order of all phases add up in the neutral, secondary amperes."""
    block.neutral[:, row] = np.hypot(block.neutral[:, row], amps)


def bridged(row: int, seen: float, block: Block) -> None:
    """A link or a burden beside a meter's elements, which see only a share of the current."""
    for column in (block.I, block.P, block.Q):
        column[:, :, row] *= seen


def sagged(row: int, volts: float, block: Block) -> None:
    """A bad contact in the service line takes some volts."""
    block.U[0, :, row] -= volts


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
    """Harmonics of the customer's currents add to the distortion of the supply's voltage."""
    block.thd[:, :, row] += percent


def unread(rows: int | Rows, block: Block) -> None:
    """No reading arrives."""
    block.read[:, rows] = False


def clock_ahead(row: int, start: int, block: Block) -> None:
    """The meter's clock gains a minute an hour, twenty at most."""
    block.clock[row] = min(1200, (block.start - start) / 60)

"""Changes to a block of the town: what a happening does to flows, metering and reading."""

from __future__ import annotations

import numpy as np

from replay.simulation.happenings import Block
from replay.simulation.network import Rows
from schemas.columns import Flag
from schemas.units import HOUR_SECONDS


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
    kept = 1 - block.share[phase, row]
    block.scale[row] *= kept
    block.share[phase, row] = 0
    shares = block.share[:, row]
    shares /= shares.sum()


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
    both = slice(0, 2)
    exchanged = slice(1, None, -1)
    third = 2j * np.pi / 3
    turns = np.exp(third * np.array([[1], [-1]]))
    active = block.P[exchanged, :, row]
    reactive = block.Q[exchanged, :, row]
    power = (active + 1j * reactive) * turns
    block.I[both, :, row] = block.I[exchanged, :, row]
    block.P[both, :, row] = power.real
    block.Q[both, :, row] = power.imag


def flagged(row: int, flag: Flag, block: Block) -> None:
    """A bit of the status word is set."""
    block.flags[row] |= flag


def third_harmonics(row: int, amps: float, block: Block) -> None:
    """Currents of the third order of all phases add up in the neutral, secondary amperes."""
    neutral = block.neutral[:, row]
    neutral[:] = np.hypot(neutral, amps)


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
    gained = (block.start - start) / 60
    block.clock[row] = min(1200, gained)


def pulls(row: int, times: float, block: Block) -> None:
    """A load that no fuse limits."""
    block.scale[row] *= times
    block.cap_kw[row] *= times


def lags(row: int, tan: float, scale: float, block: Block) -> None:
    """Motors that run idle, or without their capacitors."""
    block.tan[row] = tan
    block.scale[row] *= scale


def shines(row: int, kw: float, block: Block) -> None:
    """A roof feeds in so many kW at noon."""
    block.pv_kw[row] += kw


def transformed(row: int, times: float, block: Block) -> None:
    """Other current transformers: the meter sees and expects so many times the current."""
    bridged(row, times, block)
    block.neutral[:, row] *= times
    block.terminal[:, row] *= times
    block.set_ratio[row] /= times


def shows_intervals(row: int, share: float, block: Block) -> None:
    """The curve holds a share of what the register counts."""
    block.curve[row] = share


def loses_tariff(row: int, share: float, block: Block) -> None:
    """The tariffs' registers hold a share of what the total counts."""
    block.by_tariff[row] = share


def misses_demand(row: int, share: float, block: Block) -> None:
    """The demand register shows a share of the highest power."""
    block.demand[row] = share


def goes_out(row: int, hours: tuple[int, ...], start: int, block: Block) -> None:
    """An hour without supply, some hours after a start."""
    if (block.start - start) // HOUR_SECONDS in hours:
        block.scale[row] = 0
        block.read[:, row] = False


def fed_elsewhere(row: int, block: Block) -> None:
    """The next area's transformer feeds the meter."""
    areas = block.fed.max() + 1
    block.fed[row] = (block.fed[row] + 1) % areas


def connected(row: int, start: int, block: Block) -> None:
    """There is no meter before a moment."""
    if block.start < start:
        block.scale[row] = 0
        block.read[:, row] = False


def fast_clock(row: int, seconds: float, block: Block) -> None:
    """The clock is so many seconds ahead."""
    block.clock[row] += seconds

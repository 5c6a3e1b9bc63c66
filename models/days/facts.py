"""What open days keep of every row of a batch, and in which cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.days.end_of_day import EndOfDayValues, end_of_day_values
from models.days.peaks import LOST_PHASE_VOLTAGE, spread_of, unbalance_factor
from models.state.missing_values import total, unknown
from schemas.columns import Codes, Column, Mask, Readings, Status, Times
from schemas.units import HOUR_SECONDS

THREE_WIRE_SHARE = np.sqrt(3) / 2  # of the sum of two elements
ENERGISED_SHARE = 0.5  # of the nominal voltage, above which a phase has a supply
MICRO_KWH = 1e6  # in a kWh


class Facts(NamedTuple):
    """The values that open days keep of every row of a batch; phase columns are (3, rows)."""

    kwh: Column  # secondary
    amps: Column  # primary
    neutral: Column  # A, primary
    kva: Column  # primary
    unbalance: Column  # of the voltages
    by_magnitude: Mask  # the unbalance comes from magnitudes alone
    frequency: Column | None  # Hz; None without any
    temperature: Column | None  # deg C; None without any
    returned: Times  # energy that flowed back in the interval, micro kWh secondary
    read: Mask  # was read, not estimated
    volts: Column  # (3, rows) V
    has_voltage: Mask  # any phase has a voltage
    energised: Mask  # any phase has a voltage above half of nominal
    gateway: Mask
    stale: Mask  # repeats the reading before it; found when it is judged
    end_of_day: EndOfDayValues


class Targets(NamedTuple):
    """The cells of the pools to which rows are added."""

    rows: Codes  # their numbers in the batch
    members: Codes  # in the pool of members' rows
    steps: Codes  # intervals of the day
    sums_slots: Codes  # in the pool of areas' sums
    since: Times  # seconds after midnight
    first: Mask  # the first reading of its member's interval
    read: Mask  # was read, not estimated

    def select(self, mask: Mask) -> Targets:
        """The targets of a mask."""
        return Targets._make(column[mask] for column in self)


def facts_of(readings: Readings, master: dict[str, Column], interval: int) -> Facts:
    """The facts of readings; the master columns are as of each row's time."""
    rows = len(readings)
    P = total(readings.p)
    Q = total(readings.q)
    ratio = master["ratio"]
    has_voltage = energised = np.zeros(rows, bool)
    if not unknown(readings.u):
        no_voltage = np.isnan(readings.u).all(axis=0)
        has_voltage = np.logical_not(no_voltage)
        supplied = readings.u > ENERGISED_SHARE * master["un"]
        energised = np.logical_or.reduce(supplied)

    unbalance, by_magnitude = _unbalance_of(readings, master)
    frequency = readings.frequency
    temperature = readings.temperature
    return Facts(
        kwh=readings.kwh,
        amps=readings.i * ratio,
        neutral=readings.neutral * ratio,
        kva=apparent_power(readings, master, P, Q) * ratio,
        unbalance=unbalance,
        by_magnitude=by_magnitude,
        frequency=None if unknown(frequency) else frequency,
        temperature=None if unknown(temperature) else temperature,
        returned=_returned_energy(P, master, interval),
        read=readings.status != Status.ESTIMATED,
        volts=readings.u,
        has_voltage=has_voltage,
        energised=energised,
        gateway=master["is_gateway"] == 1,
        stale=np.zeros(rows, bool),
        end_of_day=end_of_day_values(readings, P, Q),
    )


def _returned_energy(P: Column, master: dict[str, Column], interval: int) -> Times:
    """The energy that flows back in the interval of each row, micro kWh."""
    if P.min(initial=0) >= 0:
        return np.zeros(len(P), np.int64)
    seconds = np.fmax(master["interval_s"], interval)
    energy = P * seconds / HOUR_SECONDS
    returned = np.maximum(-energy, 0)
    return np.rint(returned * MICRO_KWH).astype(np.int64)


def apparent_power(
    readings: Readings,
    master: dict[str, Column],
    whole_p: Column,
    whole_q: Column,
) -> Column:
    """Secondary kVA per row from whole P and Q, else from U and I, else from I at nominal voltage.

    NaN without any.
    """
    by_power = _has_power(readings)
    if by_power.all():
        return np.hypot(whole_p, whole_q)
    by_current = _power_by_current(readings, master)
    if not by_power.any():
        return by_current
    return np.where(by_power, np.hypot(whole_p, whole_q), by_current)


def _has_power(readings: Readings) -> Mask:
    """True for rows with the power of every phase that has a current."""
    I = readings.i
    P = readings.p
    Q = readings.q
    if unknown(P) or unknown(Q):
        return np.zeros(I.shape[1], bool)
    no_power = np.isnan(P)
    has_current = ~np.isnan(I)
    lacking = (no_power & has_current).any(axis=0)
    lacking |= no_power.all(axis=0)
    lacking |= np.isnan(Q).all(axis=0)
    return np.logical_not(lacking)


def _power_by_current(readings: Readings, master: dict[str, Column]) -> Column:
    """The power from I and U in kVA, of which unknown phases are nominal.

    A three-wire meter's two elements measure line voltages: U and I of both make 2/sqrt(3) of the
    apparent power.
    """
    U = readings.u
    I = readings.i
    un = master["un"]
    if unknown(I):
        return np.full(len(readings), np.nan)
    volts = np.broadcast_to(un, I.shape)
    if not unknown(U):
        volts = np.where(np.isnan(U), un, U)
    product = volts * np.abs(I)
    by_elements = total(product) / 1000
    three_wire = master["three_wire"] == 1
    kva = by_elements * np.where(three_wire, THREE_WIRE_SHARE, 1)

    no_current = np.isnan(I)
    no_product = np.isnan(product) & ~no_current
    cannot_tell = no_product.any(axis=0) | no_current.all(axis=0)
    return np.where(cannot_tell, np.nan, kva)


def _unbalance_of(readings: Readings, master: dict[str, Column]) -> tuple[Column, Mask]:
    """The unbalance of voltages if no phase is lost, and where it comes from magnitudes alone."""
    unbalance = np.full(len(readings), np.nan)
    by_magnitude = np.zeros(len(readings), bool)
    rows = np.flatnonzero(master["phases"] == 3)
    if not len(rows) or unknown(readings.u):
        return unbalance, by_magnitude

    U = readings.u if len(rows) == len(readings) else readings.u[:, rows]
    by_angle = np.full(len(rows), np.nan)
    if not unknown(readings.u_angle):
        angle = readings.u_angle[:, rows]
        by_angle = unbalance_factor(U, angle, master["three_wire"][rows])
    no_angle = np.isnan(by_angle)
    value = np.where(no_angle, spread_of(U), by_angle)

    lowest = np.fmin.reduce(U)
    complete = lowest >= LOST_PHASE_VOLTAGE * master["un"][rows]
    value[~complete] = np.nan
    unbalance[rows] = value
    by_magnitude[rows] = no_angle & ~np.isnan(value)
    return unbalance, by_magnitude

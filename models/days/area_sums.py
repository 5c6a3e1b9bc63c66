"""What is kept of an area's open day over its meters, and how rows are added to it.

Sums are of integers, so that the order of arrival cannot change them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.days.facts import Facts, Targets
from models.days.hourly_voltages import voltage_cells
from models.days.peaks import keep_highest
from models.state.cells import Array, Cells
from models.state.missing_values import zeroed
from models.state.runs import runs, sizes_of
from schemas.columns import Codes, Column, Mask

FREQUENCY_METERS = 3  # meters of an area that must agree on frequency: catalogue 1.5
NOMINAL_HZ = 50.0
TENTH_MILLI = 10_000  # 0.1 mA in an ampere
HUNDREDTHS_PER_DEGREE = 100  # of a degree
MILLI_PER_KILO = 1e6  # mVA in a kVA
INTERVAL_SUMS = (
    "gateway",
    "amps",
    "milli_va",
    "counted",
    "high_hz",
    "low_hz",
    "warmth",
)
# sums that make a day's rows
DAY_SUMS = ("gateway_volts", "warmth", "gateway", "milli_va", "counted")


def sum_cells(steps: int, interval: int) -> dict[str, Any]:
    """The empty cells of an area's day of so many intervals, over its users."""
    return {
        "amps": np.zeros((3, steps), np.int64),  # 0.1 mA primary
        "milli_va": np.zeros(steps, np.int64),
        "counted": np.zeros(steps, np.int32),
        "gateway_volts": np.stack([voltage_cells(steps, interval)] * 3),
        "gateway": np.full((5, steps), np.nan),  # A, B, C, kVA, neutral; A primary
        # The highest frequencies, and twice the nominal less the lowest, ascending.
        "high_hz": np.zeros((FREQUENCY_METERS, steps), np.float32),
        "low_hz": np.zeros((FREQUENCY_METERS, steps), np.float32),
        "warmth": np.zeros((2, steps), np.int64),  # 0.01 deg C, and readings in it
    }


def add_to_sums(sums: Cells, targets: Targets, facts: Facts) -> None:
    """Adds rows to the sums of their intervals."""
    rows = targets.rows
    gateway = facts.gateway[rows]
    kva = facts.kva[rows]
    amps = facts.amps[:, rows]
    if gateway.any():
        measured = sums["gateway"]
        steps = targets.steps[gateway]
        slots = targets.sums_slots[gateway]
        measured[:3, steps, slots] = amps[:, gateway]
        measured[3, steps, slots] = kva[gateway]
        measured[4, steps, slots] = facts.neutral[rows][gateway]

    sound = targets.first & ~facts.stale[rows]
    if facts.frequency is not None:
        _keep_frequencies(sums, targets, facts.frequency[rows], sound)
    if facts.temperature is not None:
        _add_temperatures(sums, targets, facts.temperature[rows], sound)

    # The first reading of a user counts for the interval.
    users = ~(gateway | np.isnan(kva)) & targets.first
    if users.any():
        _add_users(sums, targets, users, kva[users], amps[:, users])


def _keep_frequencies(
    sums: Cells,
    targets: Targets,
    hertz: Column,
    sound: Mask,
) -> None:
    """Keeps the highest and lowest frequencies of each interval."""
    known = np.flatnonzero(~np.isnan(hertz) & sound)
    hertz = hertz[known]
    slot_count = sums["high_hz"].shape[-1]
    places = targets.steps[known] * slot_count + targets.sums_slots[known]
    below = np.float32(2 * NOMINAL_HZ) - hertz
    keep_highest(_flat(sums["high_hz"]), places, hertz)
    keep_highest(_flat(sums["low_hz"]), places, below)


def _flat(cells: Array) -> Array:
    """A view of cells of the shape (n, steps, slots) with one axis for steps and slots."""
    view = cells.view()
    view.shape = (len(cells), -1)
    return view


def _add_temperatures(
    sums: Cells,
    targets: Targets,
    degrees: Column,
    sound: Mask,
) -> None:
    """Adds temperatures to the sums of their intervals."""
    known = np.flatnonzero(~np.isnan(degrees) & sound)
    hundredths = degrees[known].astype(np.float64) * HUNDREDTHS_PER_DEGREE
    cells = targets.steps[known], targets.sums_slots[known]
    totals, counts = sums["warmth"]
    np.add.at(totals, cells, whole(hundredths))
    np.add.at(counts, cells, 1)


def _add_users(
    sums: Cells,
    targets: Targets,
    users: Mask,
    kva: Column,
    amps: Column,
) -> None:
    """Adds the load of users, the rows of a mask, to the sums of their intervals."""
    step_count = sums["counted"].shape[0]
    places = targets.sums_slots[users] * step_count + targets.steps[users]
    begins = runs(places)
    slots, steps = divmod(places[begins], step_count)
    cells: tuple[Codes, Codes] = (steps, slots)

    counts = sizes_of(begins, len(places)).astype(np.int32)
    np.add.at(sums["counted"], cells, counts)
    milli_va = whole(kva * MILLI_PER_KILO)
    load = np.add.reduceat(milli_va, begins)
    np.add.at(sums["milli_va"], cells, load)
    tenths = whole(zeroed(amps) * TENTH_MILLI)
    currents = np.add.reduceat(tenths, begins, axis=1)
    for phase_sums, current in zip(sums["amps"], currents, strict=True):
        np.add.at(phase_sums, cells, current)


def whole(values: Array) -> Codes:
    """The values as whole numbers."""
    return np.rint(values).astype(np.int64)


def mean_degrees(warmth: Array) -> Column:
    """Degrees from sums of hundredths and their counts; NaN where the count is 0."""
    total, count = warmth
    mean = total / np.maximum(count, 1)
    degrees = mean / HUNDREDTHS_PER_DEGREE
    return np.where(count > 0, degrees, np.nan)

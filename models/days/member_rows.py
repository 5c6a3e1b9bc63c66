"""What is kept of a member's open day, and how rows are added to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.days.end_of_day import end_of_day_cells, keep_end_of_day
from models.days.facts import Facts, Targets
from models.days.hourly_voltages import voltage_cells
from models.days.peaks import keep_peaks, peak_cells
from models.state.cells import Cells, add_to
from models.state.missing_values import zeroed
from schemas.columns import Codes, Column, Mask

# Marks of a member's interval; an unread interval has 0.
READ_ONCE, READ_AGAIN, ONLY_ESTIMATED = 1, 2, 3


def member_cells(steps: int, interval: int) -> dict[str, Any]:
    """The empty cells of a member's day of so many intervals."""
    return {
        "kwh": np.full(steps, np.nan, np.float32),
        "seen": np.zeros(steps, np.uint8),  # marks of intervals
        "reads": np.int32(0),
        "volted": np.int32(0),  # readings with a voltage
        "live": np.int32(0),  # readings above half of the nominal voltage
        "back": np.int64(0),  # returned energy, micro kWh
        "volts": voltage_cells(steps, interval),
        **peak_cells(interval),
        **end_of_day_cells(),
    }


def keep_energy(
    cells: Cells,
    members: Codes,
    steps: Codes,
    kwh: Column,
    read: Mask,
    in_order: Mask,
) -> tuple[Mask, Mask]:
    """Keeps the energy of rows; returns duplicates, and rows of intervals seen before.

    The first reading replaces an estimate. Energy of the next row in order adds up, other energy of
    an interval that was read once replaces it.
    """
    marks_before = cells["seen"][steps, members]
    estimated = marks_before == ONLY_ESTIMATED
    seen: Mask = (marks_before > 0) & ~(read & estimated)
    marks = np.where(read, READ_ONCE, ONLY_ESTIMATED)
    duplicates = seen
    if seen.any():
        before = cells["kwh"][steps, members]
        had_value = ~np.isnan(before)
        revised = (
            (marks_before == READ_ONCE)
            & ~in_order
            & ~np.isnan(kwh)
            & had_value
            & (kwh != before)
        )
        duplicates = seen & ~in_order & ~revised

        kept = np.where(duplicates, before, kwh)
        adds_up = seen & in_order & had_value
        kwh = np.where(adds_up, before + zeroed(kwh), kept)
        marks_again = np.where(in_order & ~estimated, READ_AGAIN, marks_before)
        marks = np.where(seen, marks_again, marks)

    cells["kwh"][steps, members] = kwh
    cells["seen"][steps, members] = marks
    return duplicates, seen


def correct_energy(
    cells: Cells,
    member: int,
    step: int,
    old: float,
    new: float,
) -> bool:
    """Replaces the energy of an interval; False if another row has changed it since."""
    kwh = cells["kwh"][step, member]
    unchanged = np.array_equal(kwh, old, equal_nan=True)
    if not unchanged or cells["seen"][step, member] != READ_ONCE:
        return False
    cells["kwh"][step, member] = new
    return True


def add_to_members(cells: Cells, targets: Targets, facts: Facts) -> None:
    """Adds everything but energy and hourly voltages to the members' days."""
    rows = targets.rows
    members = targets.members
    add_to(cells["reads"], members, targets.read)
    add_to(cells["volted"], members, facts.has_voltage[rows])
    add_to(cells["live"], members, facts.energised[rows])
    returned = facts.returned[rows]
    if returned.any():
        add_to(cells["back"], members, returned)

    first = rows[targets.first]
    keep_peaks(
        cells,
        members[targets.first],
        facts.kva[first],
        facts.unbalance[first],
        facts.by_magnitude[first],
    )
    sound: Codes | slice = slice(None)
    if facts.stale.any():
        sound = np.flatnonzero(~facts.stale[rows])
    keep_end_of_day(
        cells,
        facts.end_of_day,
        rows[sound],
        members[sound],
        targets.since[sound],
        targets.first[sound],
    )

"""What a meter's day leaves behind: its last readings of registers and such, and its mean power.

The latest moment counts, whichever came first, and sums are of whole numbers, so that the order of
arrival does not matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.state.cells import Array, Cells
from models.state.missing_values import unknown, zeroed
from models.state.runs import ascending, runs
from schemas.columns import Codes, Column, Mask, Readings, Times
from schemas.units import HOUR_SECONDS

HIGHEST_KW = 1e5  # that a meter's power counts for; default of this project


class EndOfDayValues(NamedTuple):
    """Values that readings may leave a day with, each (values, rows); None if no reading has it."""

    power: Times | None  # secondary: mW drawn, W squared, 1, mvar either way, 1
    registers: Column | None  # register and export register
    # With a register in the same reading: the tariffs' sum, and how many they are.
    tariffs: Column | None
    demands: Column | None  # demand and how often it was reset
    set_ratio: Column | None  # that the meter is set to


LAST_VALUES = EndOfDayValues._fields[1:]  # values of which a day keeps the last


def end_of_day_cells() -> dict[str, Any]:
    """The empty cells of a meter's day; times are seconds after midnight, 0 without a value."""
    return {
        "power": np.zeros(5, np.int64),
        "registers": np.full(2, np.nan),
        "tariffs": np.full(2, np.nan),
        "demands": np.full(2, np.nan, np.float32),
        "set_ratio": np.full(1, np.nan, np.float32),
        **{f"{name}_at": np.int32(0) for name in LAST_VALUES},
    }


def end_of_day_values(readings: Readings, P: Column, Q: Column) -> EndOfDayValues:
    """The values of readings; `P` and `Q` are the sums over their phases."""
    return EndOfDayValues(
        power=_power_of(readings, P, Q),
        registers=_stacked(readings.register, readings.export_register),
        tariffs=_tariffs_of(readings),
        demands=_stacked(readings.demand, readings.demand_resets),
        set_ratio=_stacked(readings.meter_ratio),
    )


def _power_of(readings: Readings, P: Column, Q: Column) -> Times | None:
    """The power of readings; nothing if a phase with current has no power."""
    if unknown(readings.p):
        return None
    missing = np.isnan(readings.p)
    known = ~missing.all(axis=0)
    if np.count_nonzero(missing):
        has_current = ~np.isnan(readings.i)
        known &= ~(missing & has_current).any(axis=0)

    power = np.zeros((5, len(readings)), np.int64)
    limited = np.clip(P, 0, HIGHEST_KW)
    drawn = np.where(known, limited, 0)
    power[0] = np.rint(drawn * 1e6)
    power[1] = np.rint(np.square(drawn * 1e3))
    power[2] = known
    if not unknown(readings.q):
        no_reactive = np.isnan(readings.q).all(axis=0)
        power[4] = known & ~no_reactive
        limited = np.minimum(np.abs(Q), HIGHEST_KW)
        reactive = np.where(power[4], limited, 0)
        power[3] = np.rint(reactive * 1e6)
    return power


def _tariffs_of(readings: Readings) -> Column | None:
    """The sum of tariff registers and their number, of readings that have the register too."""
    registers = (
        readings.register_sharp,
        readings.register_peak,
        readings.register_flat,
        readings.register_valley,
    )
    given = [column for column in registers if not unknown(column)]
    if not given or unknown(readings.register):
        return None

    tariffs = np.stack(given)
    count = (~np.isnan(tariffs)).sum(axis=0)
    together = (count > 0) & ~np.isnan(readings.register)
    sums = zeroed(tariffs).sum(axis=0)
    tariff_sum = np.where(together, sums, np.nan)
    return np.stack([tariff_sum, count])


def _stacked(first: Column, *others: Any) -> Column | None:
    """The columns one below the other; None if the first was never given."""
    if unknown(first):
        return None
    shape = 1 + len(others), len(first)
    stacked = np.empty(shape, first.dtype)
    for n, column in enumerate((first, *others)):
        stacked[n] = column
    return stacked


def keep_end_of_day(
    cells: Cells,
    values: EndOfDayValues,
    rows: Codes,
    where: Codes,
    since: Times,
    first: Mask,
) -> None:
    """Keeps the values of rows in the cells of their days; `first` are rows whose power counts.

    `since` is the seconds after midnight.
    """
    one_row_a_day = ascending(where)
    if not one_row_a_day:
        order = np.argsort(where << 32 | since, kind="stable")
        rows = rows[order]
        where = where[order]
        since = since[order]
        first = first[order]

    if values.power is not None and first.any():
        _add_power(cells["power"], values.power, rows[first], where[first])

    for name, columns in zip(LAST_VALUES, values[1:], strict=True):
        if columns is None:
            continue
        last_at = cells[f"{name}_at"]
        known = ~np.isnan(columns[0][rows])
        is_newer = since > last_at[where]
        newer = np.flatnonzero(known & is_newer)
        if not one_row_a_day:
            is_last_of_day = np.diff(where[newer], append=-1) != 0
            newer = newer[is_last_of_day]
        days = where[newer]
        last_at[days] = since[newer]
        for kept, column in zip(cells[name], columns, strict=True):
            kept[days] = column[rows[newer]]


def _add_power(sums: Array, power: Times, rows: Codes, where: Codes) -> None:
    """Adds the power of rows, sorted by day, to the sums of their days."""
    begins = runs(where)
    days = where[begins]
    for day_sums, column in zip(sums, power, strict=True):
        added = column[rows]
        if len(begins) < len(where):
            added = np.add.reduceat(added, begins)
        day_sums[days] += added


def end_of_day_columns(
    cells: dict[str, Array],
    expected: Column,
    length: Column,
) -> dict[str, Column]:
    """The Days columns of every member, whose day of `length` seconds has `expected` intervals."""
    register, export = cells["registers"]
    register_at = cells["registers_at"]
    tariff_sum, tariffs = cells["tariffs"]
    together = cells["tariffs_at"] == register_at
    demand, resets = cells["demands"]

    registers = {
        "register": register,
        "register_age": np.where(register_at > 0, length - register_at, np.nan),
        "export_register": export,
        "tariff_sum": np.where(together, tariff_sum, np.nan),
        "tariffs": np.where(together, tariffs, 0.0),
        "demand": demand,
        "demand_resets": resets,
        "meter_ratio": cells["set_ratio"][0],
    }
    return registers | _power_columns(cells["power"], expected)


def _power_columns(power: Array, expected: Column) -> dict[str, Column]:
    """The Days columns of every member's mean power, with its standard error."""
    milli, squares, count, reactive, reactive_count = power.astype(np.float64)
    known = np.maximum(count, 1)
    half_known = count >= expected / 2
    mean = np.where(half_known, milli / known / 1e6, np.nan)
    squares_left = squares / 1e6 - known * mean**2
    squares_left = np.maximum(squares_left, 0)
    variance = squares_left / np.maximum(count - 1, 1)
    mean_reactive = reactive / known / 1e6
    reactive_known = (reactive_count == count) & ~np.isnan(mean)

    return {
        "mean_kw": mean,
        "mean_kw_error": np.sqrt(variance / known),
        "power_coverage": np.minimum(count / expected, 1),
        "mean_kvar": np.where(reactive_known, mean_reactive, np.nan),
    }


def highest_mean_power(kwh: Column, meter_interval: Column, interval: int) -> Column:
    """The highest mean power of each member's intervals that follow a read one.

    So no interval counts that may hold the energy of missing ones.
    """
    highest = np.full(kwh.shape[1], np.nan)
    strides = (meter_interval // interval).astype(np.int64)
    for stride in np.unique(strides).tolist():
        alike = np.flatnonzero(strides == stride)
        before = kwh[:-stride, alike]
        after = kwh[stride:, alike]
        known = np.where(np.isnan(before), np.nan, after)
        highest[alike] = np.fmax.reduce(known, axis=0, initial=np.nan)
    return highest * HOUR_SECONDS / meter_interval

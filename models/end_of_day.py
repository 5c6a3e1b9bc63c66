"""What a meter's day leaves behind: what its last reading of each thing shows, and the mean of its power.

The latest moment counts, whichever came first, and sums are of whole numbers, so that the order of arrival does not
matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.cells import Array, Cells
from models.gaps import unknown, zeroed
from models.runs import ascending, runs
from schemas.columns import Codes, Column, Mask, Readings, Times
from schemas.units import HOUR_SECONDS

HIGHEST_KW = 1e5  # that a meter's power counts for; default of this project
TARIFF_REGISTERS = (
    "register_sharp",
    "register_peak",
    "register_flat",
    "register_valley",
)


class EndOfDayValues(NamedTuple):
    """What readings show that a day may be left with, each of the shape (values, rows); None where no reading does."""

    power: Times | None  # secondary: mW drawn, W squared, 1, mvar either way, 1
    registers: Column | None  # register and export register
    tariffs: (
        Column | None
    )  # beside a register, the sum of the tariffs' and how many they are
    demands: Column | None  # demand and how often it was reset
    set_ratio: Column | None  # that the meter is set to


LAST_VALUES = (
    "registers",
    "tariffs",
    "demands",
    "set_ratio",
)  # of which a day keeps the last


def end_of_day_cells() -> dict[str, Any]:
    """The empty cells of a meter's day."""
    return {
        "power": np.zeros(5, np.int64),
        "registers": np.full(2, np.nan),
        "tariffs": np.full(2, np.nan),
        "demands": np.full(2, np.nan, np.float32),
        "set_ratio": np.full(1, np.nan, np.float32),
        **{f"{name}_at": np.int32(0) for name in LAST_VALUES},
    }  # times are seconds after midnight, 0 where nothing was shown


def end_of_day_values(r: Readings, p: Column, q: Column) -> EndOfDayValues:
    """What readings show; `p` and `q` are the sums over their phases."""
    return EndOfDayValues(
        _power_of(r, p, q),
        _stacked(r.register, r.export_register),
        _tariffs_of(r),
        _stacked(r.demand, r.demand_resets),
        _stacked(r.meter_ratio),
    )


def _power_of(r: Readings, p: Column, q: Column) -> Times | None:
    """Power of readings; nothing where a phase with current tells none."""
    if unknown(r.p):
        return None
    missing = np.isnan(r.p)
    known = ~missing.all(axis=0)
    if np.count_nonzero(missing):
        known &= ~(missing & ~np.isnan(r.i)).any(axis=0)
    told = np.zeros((5, len(r)), np.int64)
    drawn = np.where(known, np.clip(p, 0, HIGHEST_KW), 0)
    told[0], told[1], told[2] = np.rint(drawn * 1e6), np.rint((drawn * 1e3) ** 2), known
    if not unknown(r.q):
        told[4] = known & ~np.isnan(r.q).all(axis=0)
        told[3] = np.rint(np.where(told[4], np.minimum(np.abs(q), HIGHEST_KW), 0) * 1e6)
    return told


def _tariffs_of(r: Readings) -> Column | None:
    """Tariff registers of readings that tell the register too."""
    columns = [c for name in TARIFF_REGISTERS if not unknown(c := getattr(r, name))]
    if not columns or unknown(r.register):
        return None
    tariffs = np.stack(columns)
    told = (~np.isnan(tariffs)).sum(axis=0)
    return np.stack(
        [
            np.where(
                (told > 0) & ~np.isnan(r.register), zeroed(tariffs).sum(axis=0), np.nan
            ),
            told,
        ]
    )


def _stacked(first: Column, *others: Any) -> Column | None:
    """The columns one below the other; None where the first was never given."""
    if unknown(first):
        return None
    told = np.empty((1 + len(others), len(first)), first.dtype)
    for n, column in enumerate((first, *others)):
        told[n] = column
    return told


def keep_end_of_day(
    cells: Cells,
    values: EndOfDayValues,
    rows: Codes,
    where: Codes,
    since: Times,
    first: Mask,
) -> None:
    """Keep what some rows show in the cells of their days; `first` are the rows whose power speaks for an interval.

    `since` is the seconds after midnight.
    """
    if not (once := ascending(where)):
        order = np.argsort(where << 32 | since, kind="stable")
        rows, where, since, first = (
            rows[order],
            where[order],
            since[order],
            first[order],
        )
    if values.power is not None and first.any():
        some, here = (rows, where) if first.all() else (rows[first], where[first])
        begins = runs(here)
        days = here[begins]
        for held, power in zip(cells["power"], values.power, strict=True):
            held[days] += power[some] if once else np.add.reduceat(power[some], begins)
    for name in LAST_VALUES:
        if (columns := getattr(values, name)) is None:
            continue
        then = cells[f"{name}_at"]
        newer = np.flatnonzero(~np.isnan(columns[0][rows]) & (since > then[where]))
        if not once:
            newer = newer[np.diff(where[newer], append=-1) != 0]  # the last of each day
        some, here = rows[newer], where[newer]
        then[here] = since[newer]
        for held, column in zip(cells[name], columns, strict=True):
            held[here] = column[some]


def end_of_day_columns(
    cells: dict[str, Array], expected: Column, length: Column
) -> dict[str, Column]:
    """The Days columns of every member; `expected` is how many intervals each one's day of so many seconds has."""
    register, export = cells["registers"]
    together = cells["tariffs_at"] == cells["registers_at"]
    tariff_sum, tariffs = np.where(together, cells["tariffs"], [[np.nan], [0.0]])
    age = np.where(cells["registers_at"] > 0, length - cells["registers_at"], np.nan)
    demand, resets = cells["demands"]
    milli, squares, count, reactive, told = cells["power"].astype(np.float64)
    known = np.maximum(count, 1)
    mean = np.where(count >= expected / 2, milli / known / 1e6, np.nan)
    spread = np.maximum(squares / 1e6 - known * mean**2, 0) / np.maximum(count - 1, 1)
    return {
        "register": register,
        "register_age": age,
        "export_register": export,
        "tariff_sum": tariff_sum,
        "tariffs": tariffs,
        "demand": demand,
        "demand_resets": resets,
        "meter_ratio": cells["set_ratio"][0],
        "mean_kw": mean,
        "mean_kw_error": np.sqrt(spread / known),
        "power_coverage": np.minimum(count / expected, 1),
        "mean_kvar": np.where(
            (told == count) & ~np.isnan(mean), reactive / known / 1e6, np.nan
        ),
    }


def highest_mean_power(kwh: Column, own: Column, interval: int) -> Column:
    """The highest mean power of each member's intervals that follow one that was read: no lump of what was missed."""
    most, stride = np.full(kwh.shape[1], np.nan), (own // interval).astype(np.int64)
    for apart in np.unique(stride).tolist():
        whose = np.flatnonzero(stride == apart)
        before, after = kwh[:-apart, whose], kwh[apart:, whose]
        most[whose] = np.fmax.reduce(
            np.where(np.isnan(before), np.nan, after), axis=0, initial=np.nan
        )
    return most * HOUR_SECONDS / own

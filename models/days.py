"""The days of many areas at once, from what was filed of them: rows of Days and of AreaDays.

Each area's day comes out as if it stood alone: sums are of integers, or add up one area's values in their own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from models.cells import Array
from models.end_of_day import end_of_day_columns, highest_mean_power
from models.gaps import zeroed
from models.peaks import peak_columns
from models.phases import beside_gateway
from models.runs import float_sums, spread, whole_sums
from models.turns import unique_passes
from schemas.columns import COLUMN_TYPES, Codes, Column, Mask, Times, concatenated
from schemas.units import HOUR_SECONDS

SPIKE_FACTOR, SPIKE_KWH = (
    5.0,
    0.5,
)  # times the day's third-highest interval, and at least: default of this project
HUNDREDTHS_PER_DEGREE = 100  # of a degree
TEMPERATURE_COVERAGE = 0.9  # of a day, in which its temperature must be told
LAST_DIGIT = 0.01  # kWh that a register shows, secondary
BALANCE_COLUMNS = (
    "energy_in",
    "energy_out",
    "unread_in",
    "unread_out",
    "doubt",
    "coverage",
)


class StoredDays(NamedTuple):
    """What is held of a day of each of some areas, that of all their members one area after another."""

    rows: dict[
        str, Array
    ]  # (*lead, members); of one member, who stands for all, where nothing was read
    sums: dict[str, Array]  # (*lead, areas), the same
    sizes: Codes  # members of each area
    blank: bool  # nothing was read in any of the days


class DayRows(NamedTuple):
    """A day of each of some areas: rows of AreaDays, and of Days one area after another."""

    areas: Codes
    days: Codes
    ends: Times  # the midnights that end them
    sizes: Codes  # rows of Days of each area
    meters: Codes
    columns: dict[str, Column]  # of Days
    totals: dict[str, Column]  # of AreaDays
    spikes: int  # meters of which one interval stands out beyond belief

    def select(self, mask: Mask) -> DayRows:
        """The days of some of the areas."""
        rows = np.repeat(mask, self.sizes)
        columns = {name: column[..., rows] for name, column in self.columns.items()}
        totals = {name: column[mask] for name, column in self.totals.items()}
        places = (self.areas[mask], self.days[mask], self.ends[mask], self.sizes[mask])
        return DayRows(*places, self.meters[rows], columns, totals, self.spikes)

    def unique_passes(self) -> Iterator[DayRows]:
        """The days in parts that hold one of each area, every area's days in order."""
        turns = list(unique_passes(self.areas))
        if len(turns) == 1:
            yield self
            return
        for turn in turns:
            yield self.select(np.isin(np.arange(len(self.areas)), turn))

    def unique_pass_rows(self) -> list[Codes]:
        """The rows of Days in the same parts."""
        begins = np.cumsum(self.sizes) - self.sizes
        return [
            spread(begins[turn], self.sizes[turn]) for turn in unique_passes(self.areas)
        ]


def joined_days(day_rows: Sequence[DayRows]) -> DayRows:
    """The days of areas one after another."""
    if len(day_rows) == 1:
        return day_rows[0]
    first = day_rows[0]
    areas, days, ends, sizes, meters = (
        np.concatenate([getattr(part, name) for part in day_rows])
        for name in ("areas", "days", "ends", "sizes", "meters")
    )
    columns = {
        name: concatenated([part.columns[name] for part in day_rows])
        for name in first.columns
    }
    totals = {
        name: np.concatenate([part.totals[name] for part in day_rows])
        for name in first.totals
    }
    return DayRows(
        areas,
        days,
        ends,
        sizes,
        meters,
        columns,
        totals,
        sum(part.spikes for part in day_rows),
    )


def member_columns(
    stored: StoredDays, master: dict[str, Column], lengths: Codes, interval: int
) -> tuple[dict[str, Column], Column]:
    """The Days columns of every member, and how many intervals each one's day of so many seconds has."""
    own = np.fmax(master["interval_s"], interval)
    length = np.repeat(lengths, stored.sizes).astype(float)
    expected = np.maximum(length / own, 1)
    if stored.blank:
        one = _blank_columns(stored.rows, stored.sums, interval)
        return {
            name: np.broadcast_to(column, (*column.shape[:-1], len(own)))
            for name, column in one.items()
        }, expected
    told = _read_columns(stored.rows, expected, length, own, interval)
    told |= beside_gateway(
        stored.rows["volts"], stored.sums["gateway_volts"], master, stored.sizes
    )
    told["temperature"] = np.repeat(
        _mean_temperature(stored.sums["warmth"], lengths, interval), stored.sizes
    )
    return told, expected


def _blank_columns(
    rows: dict[str, Array], sums: dict[str, Array], interval: int
) -> dict[str, Column]:
    """The Days columns of a member of which nothing was read, whatever its master data."""
    one = np.ones(1)
    told = _read_columns(rows, one, one, interval * one, interval)
    changes = len(sums["gateway_volts"]) * (sums["gateway_volts"].shape[1] - 1)
    told |= {
        "voltage_apart": np.full((changes, 1), np.nan),
        "temperature": np.full(1, np.nan),
    }
    return {
        name: column.astype(COLUMN_TYPES.get(name, float))
        for name, column in told.items()
    }


def _read_columns(
    rows: dict[str, Array], expected: Column, length: Column, own: Column, interval: int
) -> dict[str, Column]:
    """The Days columns of every member that follow from its own readings."""
    told = (
        _energy_columns(rows, expected)
        | peak_columns(rows, expected, length)
        | end_of_day_columns(rows, expected, length)
    )
    return told | {"top_kw": highest_mean_power(rows["kwh"], own, interval)}


def _energy_columns(cells: dict[str, Array], expected: Column) -> dict[str, Column]:
    """The Days columns of every member's energy; `expected` is how many intervals a full day has."""
    kwh: Column = cells["kwh"].astype(np.float64)
    told = (~np.isnan(kwh)).sum(axis=0)
    coverage = np.minimum(told / expected, 1)
    filled = zeroed(kwh)
    total = np.where(told >= expected / 2, _ordered_sum(filled), np.nan)
    top = np.partition(np.where(np.isnan(kwh), -np.inf, kwh), -3, axis=0)
    third, most = top[-3], top[-1]
    spike: Mask = (most > SPIKE_FACTOR * third) & (most > SPIKE_KWH) & (told >= 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        live = np.where(cells["volted"] > 0, cells["live"] / cells["volted"], np.nan)
    return {
        "kwh": total,
        "coverage": coverage,
        "reads": cells["reads"].astype(float),
        "live": live,
        "curve": cells["kwh"],
        "returned_kwh": cells["back"] / 1e6,
        "spike": spike.astype(float),
    }


def _ordered_sum(values: Column) -> Column:
    """The sum of each column from its first value to its last, however many columns there are."""
    if values.shape[1] > 1:
        return np.asarray(values.sum(axis=0))
    return np.asarray(np.add.accumulate(values, axis=0)[-1])


def _mean_temperature(warmth: Array, lengths: Codes, interval: int) -> Column:
    """The mean of each area's day of so many seconds, each hour counting alike; NaN where few of them tell it."""
    means = np.full(len(lengths), np.nan)
    if not warmth[1].any():
        return means
    for length in np.unique(lengths).tolist():
        alike = np.flatnonzero(lengths == length)
        hours = np.arange(0, length // interval, max(HOUR_SECONDS // interval, 1))
        degrees = mean_degrees(
            np.add.reduceat(warmth[:, : length // interval, alike], hours, axis=1)
        ).T
        told = ~np.isnan(degrees)
        counts = told.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = float_sums(degrees[told], counts) / counts
        means[alike] = np.where(
            (counts > 0) & (counts >= TEMPERATURE_COVERAGE * len(hours)), mean, np.nan
        )
    return means


def mean_degrees(warmth: Array) -> Column:
    """Degrees from sums of hundredths and how many they are; NaN where none are."""
    total, count = warmth
    return np.where(
        count > 0, total / np.maximum(count, 1) / HUNDREDTHS_PER_DEGREE, np.nan
    )


def read_shares(reads: Column, expected: Column, sizes: Codes) -> tuple[Column, Column]:
    """The share of the readings due in each area's day that were got: of all meters, and of all but the worst read."""
    got = np.minimum(reads, expected)
    area = np.repeat(np.arange(len(sizes)), sizes)
    by_need = np.lexsort((expected, expected - got, area))
    others = np.ones(len(got), bool)
    others[by_need[np.cumsum(sizes)[sizes > 0] - 1]] = False
    return _share(got, expected, sizes), _share(
        got[others], expected[others], np.maximum(sizes - 1, 0)
    )


def _share(got: Column, due: Column, sizes: Codes) -> Column:
    """What was got of what was due in each area; NaN where nothing was."""
    all_due = float_sums(due, sizes)
    return np.where(
        all_due > 0, float_sums(got, sizes) / np.where(all_due > 0, all_due, 1), np.nan
    )


def balances(
    days: dict[str, Column],
    master: dict[str, Column],
    returned: Times,
    present: Mask,
    sizes: Codes,
) -> dict[str, Column]:
    """Energy read in and out, likely unread in and out, three deviations of all that, and the lesser coverage, by area.

    Primary kWh; NaN without a gateway. What was not read of a meter is likely what its mean makes it, anything up to
    twice as much is possible; of a meter of which less than half was read, what its contract's share of the area makes
    likely. Registers are right to their last digit.
    """
    gateway, ratio = master["is_gateway"] == 1, zeroed(master["ratio"])
    users, through = present & ~gateway, present & gateway
    counts = {
        mask: whole_sums(rows, sizes)
        for mask, rows in (("users", users), ("through", through))
    }
    told = (counts["through"] > 0) & (
        whole_sums(users & ~np.isnan(master["ratio"]), sizes) > 0
    )
    if not told.any():
        return dict.fromkeys(BALANCE_COLUMNS, np.full(len(sizes), np.nan))

    def share(name: str, rows: Mask) -> Column:
        return float_sums(days["coverage"][rows], counts[name]) / np.maximum(
            counts[name], 1
        )

    def both(values: Codes) -> tuple[Codes, Codes]:
        return whole_sums(values * through, sizes), whole_sums(values * users, sizes)

    micro = np.rint(zeroed(days["kwh"]) * ratio * 1e6).astype(np.int64)
    (energy_in, energy_out), (sent, given) = (
        both(micro),
        both(np.rint(returned * ratio).astype(np.int64)),
    )
    read, coverage = (
        np.logical_not(np.isnan(days["kwh"])),
        np.maximum(days["coverage"], 0.5),
    )
    unread = np.rint(np.where(read, micro * (1 / coverage - 1), 0)).astype(np.int64)
    if (dark := users & ~read).any():
        unread[dark] = _likely_use(
            master["contract_kva"], users, read, energy_out, sizes
        )[dark]
    unread_in, unread_out = both(unread)
    milli = (
        np.rint(np.hypot(unread / 1e3, LAST_DIGIT * ratio * 1e3)).astype(np.int64)
        * present
    )
    values = {
        "energy_in": (energy_in - sent + given) / 1e6,
        "energy_out": energy_out / 1e6,
        "unread_in": unread_in / 1e6,
        "unread_out": unread_out / 1e6,
        "doubt": np.sqrt(3 * whole_sums(np.square(milli), sizes)) / 1e3,
        "coverage": np.minimum(share("through", through), share("users", users)),
    }
    return {name: np.where(told, column, np.nan) for name, column in values.items()}


def _likely_use(
    contract: Column, users: Mask, read: Mask, energy_out: Codes, sizes: Codes
) -> Codes:
    """What each user likely used, as its contract's share of the area makes it; 0 where none of its users was read."""
    weights = np.rint(_contract_shares(contract, users, sizes) * 1000).astype(np.int64)
    known = whole_sums(weights * (users & read), sizes)
    each = np.where(known != 0, energy_out / np.where(known != 0, known, 1), 0.0)
    return np.rint(weights * np.repeat(each, sizes)).astype(np.int64)


def _contract_shares(contract: Column, users: Mask, sizes: Codes) -> Column:
    """By what users' energy is likely in proportion: their contract, or the area's mean where one has none."""
    told = users & (contract > 0)
    counts = whole_sums(told, sizes)
    mean = np.where(
        counts > 0, float_sums(contract[told], counts) / np.maximum(counts, 1), 1.0
    )
    return np.where(told, contract, np.repeat(mean, sizes))

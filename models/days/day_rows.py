"""The days of many areas at once, from the rows stored of them: rows of Days and of AreaDays.

Each area's day comes out as if it stood alone: sums are of integers, or add up one area's values
in their own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from models.days.area_sums import mean_degrees
from models.days.end_of_day import end_of_day_columns, highest_mean_power
from models.days.hourly_voltages import beside_gateway
from models.days.peaks import peak_columns
from models.days.stored_days import StoredDays
from models.state.cells import Array
from models.state.gaps import zeroed
from models.state.passes import unique_passes
from models.state.runs import float_sums, spread, whole_sums
from schemas.columns import COLUMN_TYPES, Codes, Column, Mask, Times, concatenated
from schemas.units import HOUR_SECONDS

# A spike exceeds so many times the day's third-highest interval, and so many kWh:
# defaults of this project.
SPIKE_FACTOR, SPIKE_KWH = 5.0, 0.5
TEMPERATURE_COVERAGE = 0.9  # of a day, in which its temperature must be known
LAST_DIGIT = 0.01  # kWh that a register shows, secondary
BALANCE_COLUMNS = (
    "energy_in",
    "energy_out",
    "unread_in",
    "unread_out",
    "doubt",
    "coverage",
)


class DayRows(NamedTuple):
    """A day of each area: rows of AreaDays, and of Days of one area after another."""

    areas: Codes
    days: Codes
    ends: Times  # the midnights that end them
    sizes: Codes  # rows of Days of each area
    meters: Codes
    columns: dict[str, Column]  # of Days
    totals: dict[str, Column]  # of AreaDays
    spikes: int  # meters with an interval that stands out beyond belief

    def select(self, mask: Mask) -> DayRows:
        """The days of the areas of a mask."""
        rows = np.repeat(mask, self.sizes)
        columns = {name: column[..., rows] for name, column in self.columns.items()}
        totals = {name: column[mask] for name, column in self.totals.items()}
        return DayRows(
            areas=self.areas[mask],
            days=self.days[mask],
            ends=self.ends[mask],
            sizes=self.sizes[mask],
            meters=self.meters[rows],
            columns=columns,
            totals=totals,
            spikes=self.spikes,
        )

    def unique_passes(self) -> Iterator[DayRows]:
        """The days in passes with one day of each area, every area's days in order."""
        passes = list(unique_passes(self.areas))
        if len(passes) == 1:
            yield self
            return
        for one_pass in passes:
            yield self.select(np.isin(np.arange(len(self.areas)), one_pass))

    def unique_pass_rows(self) -> list[Codes]:
        """The rows of Days in the same passes."""
        begins = np.cumsum(self.sizes) - self.sizes
        return [
            spread(begins[one_pass], self.sizes[one_pass])
            for one_pass in unique_passes(self.areas)
        ]


def joined_days(day_rows: Sequence[DayRows]) -> DayRows:
    """The days of areas one after another."""
    first = day_rows[0]
    if len(day_rows) == 1:
        return first
    columns = {
        name: concatenated([rows.columns[name] for rows in day_rows])
        for name in first.columns
    }
    totals = {
        name: np.concatenate([rows.totals[name] for rows in day_rows])
        for name in first.totals
    }

    return DayRows(
        areas=np.concatenate([rows.areas for rows in day_rows]),
        days=np.concatenate([rows.days for rows in day_rows]),
        ends=np.concatenate([rows.ends for rows in day_rows]),
        sizes=np.concatenate([rows.sizes for rows in day_rows]),
        meters=np.concatenate([rows.meters for rows in day_rows]),
        columns=columns,
        totals=totals,
        spikes=sum(rows.spikes for rows in day_rows),
    )


def member_columns(
    stored: StoredDays, master: dict[str, Column], lengths: Codes, interval: int
) -> tuple[dict[str, Column], Column]:
    """The Days columns of every member, and the intervals of its day of so many seconds."""
    meter_interval = np.fmax(master["interval_s"], interval)
    length = np.repeat(lengths, stored.sizes).astype(float)
    expected = np.maximum(length / meter_interval, 1)

    # If nothing was read, all members have the same columns.
    if stored.blank:
        blank = _blank_columns(stored.rows, stored.sums, interval)
        members = len(meter_interval)
        columns = {
            name: np.broadcast_to(column, (*column.shape[:-1], members))
            for name, column in blank.items()
        }
        return columns, expected

    columns = _read_columns(stored.rows, expected, length, meter_interval, interval)
    columns |= beside_gateway(
        stored.rows["volts"], stored.sums["gateway_volts"], master, stored.sizes
    )
    temperature = _mean_temperature(stored.sums["warmth"], lengths, interval)
    columns["temperature"] = np.repeat(temperature, stored.sizes)
    return columns, expected


def _blank_columns(
    rows: dict[str, Array], sums: dict[str, Array], interval: int
) -> dict[str, Column]:
    """The Days columns of a member of which nothing was read, whatever its master data."""
    one = np.ones(1)
    columns = _read_columns(rows, one, one, interval * one, interval)
    phases, hours, _ = sums["gateway_volts"].shape
    columns["voltage_apart"] = np.full((phases * (hours - 1), 1), np.nan)
    columns["temperature"] = np.full(1, np.nan)
    return {
        name: column.astype(COLUMN_TYPES.get(name, float))
        for name, column in columns.items()
    }


def _read_columns(
    rows: dict[str, Array],
    expected: Column,
    length: Column,
    meter_interval: Column,
    interval: int,
) -> dict[str, Column]:
    """The Days columns of every member that follow from its own readings."""
    columns = (
        _energy_columns(rows, expected)
        | peak_columns(rows, expected, length)
        | end_of_day_columns(rows, expected, length)
    )
    columns["top_kw"] = highest_mean_power(rows["kwh"], meter_interval, interval)
    return columns


def _energy_columns(cells: dict[str, Array], expected: Column) -> dict[str, Column]:
    """The Days columns of every member's energy; a full day has `expected` intervals."""
    kwh: Column = cells["kwh"].astype(np.float64)
    known = (~np.isnan(kwh)).sum(axis=0)
    coverage = np.minimum(known / expected, 1)
    total = np.where(known >= expected / 2, _ordered_sum(zeroed(kwh)), np.nan)

    # A spike stands out from the third-highest interval.
    top = np.partition(np.where(np.isnan(kwh), -np.inf, kwh), -3, axis=0)
    third, most = top[-3], top[-1]
    spike: Mask = (most > SPIKE_FACTOR * third) & (most > SPIKE_KWH) & (known >= 3)

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
    """The sum of each column from its first value to its last, for any number of columns."""
    if values.shape[1] > 1:
        return np.asarray(values.sum(axis=0))
    return np.asarray(np.add.accumulate(values, axis=0)[-1])


def _mean_temperature(warmth: Array, lengths: Codes, interval: int) -> Column:
    """The mean of each area's day of so many seconds, hours alike; NaN if few hours are known."""
    means = np.full(len(lengths), np.nan)
    if not warmth[1].any():
        return means
    for length in np.unique(lengths).tolist():
        alike = np.flatnonzero(lengths == length)
        hours = np.arange(0, length // interval, max(HOUR_SECONDS // interval, 1))
        by_interval = warmth[:, : length // interval, alike]
        degrees = mean_degrees(np.add.reduceat(by_interval, hours, axis=1)).T

        known = ~np.isnan(degrees)
        counts = known.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = float_sums(degrees[known], counts) / counts
        enough = (counts > 0) & (counts >= TEMPERATURE_COVERAGE * len(hours))
        means[alike] = np.where(enough, mean, np.nan)
    return means


def read_shares(reads: Column, expected: Column, sizes: Codes) -> tuple[Column, Column]:
    """The share of due readings read in each area's day: of all meters, of all but the worst."""
    read = np.minimum(reads, expected)
    area = np.repeat(np.arange(len(sizes)), sizes)
    by_missing = np.lexsort((expected, expected - read, area))
    worst = by_missing[np.cumsum(sizes)[sizes > 0] - 1]
    others = np.ones(len(read), bool)
    others[worst] = False
    of_others = _share(read[others], expected[others], np.maximum(sizes - 1, 0))
    return _share(read, expected, sizes), of_others


def _share(read: Column, due: Column, sizes: Codes) -> Column:
    """The share of due readings that each area has; NaN if none were due."""
    all_due = float_sums(due, sizes)
    any_due = all_due > 0
    share = float_sums(read, sizes) / np.where(any_due, all_due, 1)
    return np.where(any_due, share, np.nan)


class _AreaEnergy(NamedTuple):
    """Masks of members, and sums over their areas."""

    users: Mask
    gateways: Mask
    sizes: Codes

    def both(self, values: Codes) -> tuple[Codes, Codes]:
        """The sums of whole numbers over each area's gateways, and over its users."""
        of_gateways = whole_sums(values * self.gateways, self.sizes)
        return of_gateways, whole_sums(values * self.users, self.sizes)

    def mean(self, values: Column, mask: Mask) -> Column:
        """The mean over the members of a mask in each area; 0 without any."""
        counts = whole_sums(mask, self.sizes)
        return float_sums(values[mask], counts) / np.maximum(counts, 1)


def balances(
    days: dict[str, Column],
    master: dict[str, Column],
    returned: Times,
    present: Mask,
    sizes: Codes,
) -> dict[str, Column]:
    """Energy in and out, likely unread energy in and out, its deviation, and coverage, by area.

    Primary kWh; NaN without a gateway. The unread energy of a meter is likely as much as its mean
    makes it, and anything up to twice as much is possible; that of a meter of which less than half
    was read is as much as its contract's share of the area makes likely. Registers are right to
    their last digit. The deviation is three standard deviations, the coverage the lesser one.
    """
    ratio = zeroed(master["ratio"])
    gateway = master["is_gateway"] == 1
    area = _AreaEnergy(present & ~gateway, present & gateway, sizes)
    known_users = area.users & ~np.isnan(master["ratio"])
    known = (whole_sums(area.gateways, sizes) > 0) & (
        whole_sums(known_users, sizes) > 0
    )
    if not known.any():
        return dict.fromkeys(BALANCE_COLUMNS, np.full(len(sizes), np.nan))

    # Whole numbers of 1e-6 kWh, so that sums are exact.
    micro = np.rint(zeroed(days["kwh"]) * ratio * 1e6).astype(np.int64)
    energy_in, energy_out = area.both(micro)
    sent, given = area.both(np.rint(returned * ratio).astype(np.int64))
    unread = _unread_energy(days, master["contract_kva"], micro, energy_out, area)
    unread_in, unread_out = area.both(unread)
    coverage = np.minimum(
        area.mean(days["coverage"], area.gateways),
        area.mean(days["coverage"], area.users),
    )
    values = {
        "energy_in": (energy_in - sent + given) / 1e6,
        "energy_out": energy_out / 1e6,
        "unread_in": unread_in / 1e6,
        "unread_out": unread_out / 1e6,
        "doubt": _three_deviations(unread, ratio, present, sizes),
        "coverage": coverage,
    }
    return {name: np.where(known, column, np.nan) for name, column in values.items()}


def _three_deviations(
    unread: Codes, ratio: Column, present: Mask, sizes: Codes
) -> Column:
    """The kWh by which each area's energy may be off, from unread energy and last digits."""
    milli = np.rint(np.hypot(unread / 1e3, LAST_DIGIT * ratio * 1e3)).astype(np.int64)
    return np.sqrt(3 * whole_sums(np.square(milli * present), sizes)) / 1e3


def _unread_energy(
    days: dict[str, Column],
    contract: Column,
    micro: Codes,
    energy_out: Codes,
    area: _AreaEnergy,
) -> Codes:
    """The energy of each member, 1e-6 kWh primary, that was likely not read."""
    read = np.logical_not(np.isnan(days["kwh"]))
    coverage = np.maximum(days["coverage"], 0.5)
    unread = np.rint(np.where(read, micro * (1 / coverage - 1), 0)).astype(np.int64)
    unread_users = area.users & ~read
    if unread_users.any():
        likely = _likely_use(contract, area.users, read, energy_out, area.sizes)
        unread[unread_users] = likely[unread_users]
    return unread


def _likely_use(
    contract: Column, users: Mask, read: Mask, energy_out: Codes, sizes: Codes
) -> Codes:
    """The likely use of each user, by its contract's share of the area; 0 if no user was read."""
    weights = np.rint(_contract_shares(contract, users, sizes) * 1000).astype(np.int64)
    known = whole_sums(weights * (users & read), sizes)
    per_weight = np.where(known != 0, energy_out / np.where(known != 0, known, 1), 0.0)
    return np.rint(weights * np.repeat(per_weight, sizes)).astype(np.int64)


def _contract_shares(contract: Column, users: Mask, sizes: Codes) -> Column:
    """Users' contracts, or the area's mean contract, in proportion to their likely energy."""
    known = users & (contract > 0)
    counts = whole_sums(known, sizes)
    mean = float_sums(contract[known], counts) / np.maximum(counts, 1)
    mean = np.where(counts > 0, mean, 1.0)
    return np.where(known, contract, np.repeat(mean, sizes))

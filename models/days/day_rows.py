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
from models.state.missing_values import zeroed
from models.state.passes import unique_passes
from models.state.runs import float_sums, spread
from schemas.columns import COLUMN_TYPES, Codes, Column, Mask, Times, concatenated
from schemas.units import HOUR_SECONDS

# A spike exceeds so many times the day's third-highest interval, and so many kWh:
# defaults of this project.
SPIKE_FACTOR, SPIKE_KWH = 5.0, 0.5
TEMPERATURE_COVERAGE = 0.9  # of a day, in which its temperature must be known


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
        totals = {name: column[..., mask] for name, column in self.totals.items()}
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
            mask = np.zeros(len(self.areas), bool)
            mask[one_pass] = True
            yield self.select(mask)

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
        name: np.concatenate([rows.totals[name] for rows in day_rows], axis=-1)
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
    stored: StoredDays,
    master: dict[str, Column],
    lengths: Codes,
    interval: int,
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
    temperature = mean_temperature(stored.sums["warmth"], lengths, interval)
    columns["temperature"] = np.repeat(temperature, stored.sizes)
    return columns, expected


def _blank_columns(
    rows: dict[str, Array],
    sums: dict[str, Array],
    interval: int,
) -> dict[str, Column]:
    """The Days columns of a member of which nothing was read, whatever its master data."""
    one = np.ones(1)
    columns = _read_columns(rows, one, one, interval * one, interval)
    phases, hours, _ = sums["gateway_volts"].shape
    changes = phases * (hours - 1)
    columns["voltage_apart"] = np.full((changes, 1), np.nan)
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
    missing = np.isnan(kwh)
    known = len(kwh) - missing.sum(axis=0)
    coverage = np.minimum(known / expected, 1)
    total = _ordered_sum(zeroed(kwh))
    total[known < expected / 2] = np.nan

    # A spike stands out from the third-highest interval.
    known_kwh = np.where(missing, -np.inf, kwh)
    in_part = np.partition(known_kwh, -3, axis=0)
    third = in_part[-3]
    most = in_part[-1]
    spike: Mask = (known >= 3) & (most > SPIKE_KWH)
    spike &= most > SPIKE_FACTOR * third

    volted = cells["volted"]
    with np.errstate(invalid="ignore", divide="ignore"):
        live = np.where(volted > 0, cells["live"] / volted, np.nan)
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


def mean_temperature(warmth: Array, lengths: Codes, interval: int) -> Column:
    """The mean of each area's day of so many seconds, hours alike; NaN if few hours are known."""
    means = np.full(len(lengths), np.nan)
    if not warmth[1].any():
        return means
    hourly = max(HOUR_SECONDS // interval, 1)
    for length in np.unique(lengths).tolist():
        alike = np.flatnonzero(lengths == length)
        steps = length // interval
        hours = np.arange(0, steps, hourly)
        by_interval = warmth[:, :steps, alike]
        by_hour = np.add.reduceat(by_interval, hours, axis=1)
        degrees = mean_degrees(by_hour).T

        known = ~np.isnan(degrees)
        counts = known.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = float_sums(degrees[known], counts) / counts
        least = max(TEMPERATURE_COVERAGE * len(hours), 1)
        means[alike] = np.where(counts >= least, mean, np.nan)
    return means

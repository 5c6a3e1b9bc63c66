"""The form of a day, from its curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import day_kinds, day_of
from models.meters.usual import COVERED_SHARE
from models.state.cells import Cells
from models.state.missing_values import only
from schemas.columns import Codes, Column, Times
from schemas.units import DAY_HOURS, DAY_SECONDS, HOUR_SECONDS


class ShapeColumns(NamedTuple):
    """Given by Shape; NaN where less than 90 % was measured, and of the gateway meter."""

    used_kwh: Column  # primary; as if every interval were read
    hours: Column  # primary; kWh of each hour, (24, rows)
    standing: Column  # primary; mean kWh of the lowest six hours
    variation: Column  # spread of the hours, over their mean
    rhythm: Column  # daily swing of the hours, over their mean
    top_kwh: Column  # primary; of the highest interval
    top_share: Column  # of the intervals, within 1 % of the highest
    high_kwh: Column  # primary; 95th percentile of the intervals
    valley_share: Column  # of the energy, in the tariff's valley hours
    day_kind: Column  # by the calendar


class Shape(Feature):
    """The form of a day, from its curve."""

    def __init__(self, zone: str, interval: int) -> None:
        self._zone = zone
        self._interval = interval
        self.cells = Cells()

        # The harmonics of a day and of half a day.
        hour_angles = 2 * np.pi * np.arange(DAY_HOURS) / DAY_HOURS
        angles = np.outer(hour_angles, (1, 2))
        self._harmonics = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def fold(
        self,
        slots: Codes,
        curve: Column,
        *,
        at: Times,
        interval_s: Column,
        ratio: Column,
        is_gateway: Column,
        valley_from: Column,
        valley_until: Column,
    ) -> ShapeColumns:
        """The day's energy and its form."""
        curve = curve * ratio
        step = np.fmax(interval_s, self._interval)
        count = (~np.isnan(curve)).sum(axis=0)
        whole = count >= COVERED_SHARE * DAY_SECONDS / step
        whole &= is_gateway == 0
        curve = only(whole, curve)
        used = np.nansum(curve, axis=0) / np.maximum(count, 1)
        used = used * DAY_SECONDS / step

        hours = self._hours_of(curve, step)
        known_hours = (~np.isnan(hours)).sum(axis=0)
        mean = np.nansum(hours, axis=0) / known_hours
        mean = only(known_hours >= COVERED_SHARE * DAY_HOURS, mean)
        standing, variation, rhythm = self._hourly_form(hours, mean)
        top_kwh, top_share, high_kwh = _highest_intervals(curve, count)
        valley_kwh = _valley_kwh(hours, valley_from, valley_until)
        return ShapeColumns(
            used_kwh=only(whole, used),
            hours=hours,
            standing=standing,
            variation=variation,
            rhythm=rhythm,
            top_kwh=top_kwh,
            top_share=top_share,
            high_kwh=high_kwh,
            valley_share=valley_kwh / (mean * known_hours),
            day_kind=day_kinds(self._zone)[day_of(at, self._zone)].astype(float),
        )

    def _hourly_form(
        self, hours: Column, mean: Column
    ) -> tuple[Column, Column, Column]:
        """The columns standing, variation and rhythm."""
        known = ~np.isnan(hours)
        swing = np.where(known, hours - mean, 0.0)
        variance = np.sum(swing**2, axis=0) / known.sum(axis=0)
        by_wave = self._harmonics.T @ swing
        length = np.sqrt(np.sum(by_wave**2, axis=0))
        amplitude = length * 2 / DAY_HOURS

        ordered = np.sort(hours, axis=0)  # NaN last
        lowest = ordered[:6].mean(axis=0)
        standing = only(~np.isnan(mean), lowest)
        return standing, np.sqrt(variance) / mean, amplitude / mean

    def _hours_of(self, curve: Column, step: Column) -> Column:
        """The kWh of each hour since midnight.

        NaN where an interval of it is missing, or longer than an hour.
        """
        rows = curve.shape[1]
        if HOUR_SECONDS % self._interval == 0:
            per_hour = HOUR_SECONDS // self._interval
            of_day = curve[: DAY_HOURS * per_hour]
            intervals = of_day.reshape(DAY_HOURS, per_hour, rows)
            known = np.sum(~np.isnan(intervals), axis=1)
            full = known * step == HOUR_SECONDS
            return only(full, np.nansum(intervals, axis=1))

        if self._interval % HOUR_SECONDS == 0 and DAY_SECONDS % self._interval == 0:
            length = self._interval // HOUR_SECONDS  # hours
            of_day = curve[: DAY_HOURS // length]
            return np.repeat(of_day, length, axis=0) / length
        return np.full((DAY_HOURS, rows), np.nan)


def _highest_intervals(curve: Column, count: Codes) -> tuple[Column, Column, Column]:
    """The columns top_kwh, top_share and high_kwh, of so many known intervals."""
    ordered = np.sort(curve, axis=0)  # NaN last
    rows = np.arange(len(count))
    last = np.maximum(count - 1, 0)
    top = ordered[last, rows]
    at_top = np.sum(ordered >= 0.99 * top, axis=0)
    top_share = only(top > 0, at_top / count)
    percentile = np.maximum((count * 95 - 1) // 100, 0)
    return top, top_share, ordered[percentile, rows]


def _valley_kwh(hours: Column, since: Column, until: Column) -> Column:
    """The kWh in the hours of the tariff's valley, which may span midnight."""
    hour = np.arange(DAY_HOURS)[:, None]
    begun = hour >= since
    not_ended = hour < until
    valley = np.where(since < until, begun & not_ended, begun | not_ended)
    return np.asarray(np.nansum(np.where(valley, hours, 0), axis=0))

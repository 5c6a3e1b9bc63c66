"""The intervals of areas, from the sums that are kept of their days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.days.area_sums import (
    INTERVAL_SUMS,
    MILLI_PER_KILO,
    NOMINAL_HZ,
    TENTH_MILLI,
    mean_degrees,
)
from models.days.schedule import Schedule
from models.days.stored_days import DaySums
from models.master.registry import Registry
from models.state.cells import Array
from models.state.runs import spread
from schemas.columns import Codes, Column, Mask, Times


class AreaIntervals(NamedTuple):
    """Rows of Intervals, of each area in order of time."""

    areas: Codes
    at: Times
    columns: dict[str, Column]


NO_VALUES = np.zeros(0)
NO_INTERVALS = AreaIntervals(
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    {
        "current": np.zeros((3, 0)),
        "kva": NO_VALUES,
        "neutral": NO_VALUES,
        "gateway": NO_VALUES,
        "coverage": NO_VALUES,
        "hz_above": NO_VALUES,
        "hz_below": NO_VALUES,
        "temperature": NO_VALUES,
    },
)


class _IntervalSums(NamedTuple):
    """The sums of intervals."""

    which: Codes  # areas, as numbers among the areas asked for
    at: Times
    sums: dict[str, Array]  # INTERVAL_SUMS

    def has_data(self) -> Mask:
        """True for intervals with a reading of the gateway or a user, or a frequency."""
        measured = ~np.isnan(self.sums["gateway"][3])
        counted = self.sums["counted"] > 0
        has_frequency = self.sums["high_hz"][0] > 0
        return measured | counted | has_frequency

    def select(self, rows: Codes) -> _IntervalSums:
        """The intervals of rows."""
        sums = {name: column[..., rows] for name, column in self.sums.items()}
        return _IntervalSums(self.which[rows], self.at[rows], sums)


def intervals_of(
    registry: Registry,
    schedule: Schedule,
    slots: Codes,
    span: tuple[Times, Times],
    days: Sequence[DaySums],
) -> AreaIntervals:
    """The intervals with data of areas from their days' sums; each ends in its area's span.

    A span is open at its beginning and closed at its end.
    """
    found = _joined([_intervals_of_days(schedule, span, some) for some in days])
    rows = np.flatnonzero(found.has_data())
    if len(days) > 1:
        by_time = np.lexsort((found.at[rows], found.which[rows]))
        rows = rows[by_time]
    which, at, sums = found.select(rows)
    return _as_intervals(registry, slots[which], at, sums)


def _intervals_of_days(
    schedule: Schedule,
    span: tuple[Times, Times],
    days: DaySums,
) -> _IntervalSums:
    """The sums of the intervals of days that end in the span of their areas."""
    after, until = span
    interval = schedule.interval
    start = schedule.midnights[days.days]
    end = schedule.midnights[days.days + 1]
    end = np.minimum(until[days.which], end)
    first = (after[days.which] - start) // interval
    first = np.maximum(first, 0)
    last = (end - start) // interval
    counts = np.maximum(last - first, 0)

    steps = spread(first, counts)
    slots = np.repeat(days.slots, counts)
    seconds = (steps + 1) * interval
    at = np.repeat(start, counts) + seconds
    sums = {name: days.sums[name][..., steps, slots] for name in INTERVAL_SUMS}
    return _IntervalSums(np.repeat(days.which, counts), at, sums)


def _joined(found: Sequence[_IntervalSums]) -> _IntervalSums:
    """The sums of intervals one after another."""
    if len(found) == 1:
        return found[0]
    sums = {
        name: np.concatenate([some.sums[name] for some in found], axis=-1)
        for name in INTERVAL_SUMS
    }
    which = np.concatenate([some.which for some in found])
    at = np.concatenate([some.at for some in found])
    return _IntervalSums(which, at, sums)


def _as_intervals(
    registry: Registry,
    slots: Codes,
    at: Times,
    sums: dict[str, Array],
) -> AreaIntervals:
    """Rows of Intervals from areas' sums; a gateway's values count before those of users."""
    gateway = sums["gateway"]
    measured = ~np.isnan(gateway[3])
    coverage = np.ones(len(at))
    if not measured.all():
        summed = np.flatnonzero(~measured)
        users = registry.users(slots[summed], at[summed])
        coverage[summed] = sums["counted"][summed] / np.maximum(users, 1)

    amps = sums["amps"] / TENTH_MILLI
    kva = sums["milli_va"] / MILLI_PER_KILO
    highest = sums["high_hz"][0]
    lowest = sums["low_hz"][0]
    agreed = highest > 0
    columns: dict[str, Column] = {
        "current": np.where(measured, gateway[:3], amps),
        "kva": np.where(measured, gateway[3], kva),
        "neutral": np.where(measured, gateway[4], np.nan),
        "gateway": measured.astype(float),
        "coverage": coverage,
        "hz_above": np.where(agreed, highest - NOMINAL_HZ, np.nan),
        "hz_below": np.where(agreed, lowest - NOMINAL_HZ, np.nan),
        "temperature": mean_degrees(sums["warmth"]),
    }
    return AreaIntervals(slots, at, columns)

"""Attacks planted into real households."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.theft_days import (
    JUDGED_DAYS,
    KNOWN_DAYS,
    LEAST_KWH,
    WATCHED_DAYS,
    Theft,
    WatchedDays,
    watch,
)
from models.master.calendar import midnights
from replay.history import SourceError
from replay.simulation.attacks import ALL_ATTACKS, Flow
from replay.sources import open_sources
from schemas.columns import Codes, Column, Readings, Times
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS

HOMES_ZONE, HOMES_INTERVAL = "Australia/Sydney", 1800
PER_DAY = DAY_SECONDS // HOMES_INTERVAL  # intervals
HOMES_LOSS = 0.03  # of the energy through a made area meter, in the lines
BATCH_DAYS = 3  # of each window
READ_SHARE = 0.9  # of a home's intervals before an attack


@dataclass(frozen=True)
class Homes:
    """Real households: kWh by home and half-hour since the first."""

    names: list[str]
    start: int  # Unix seconds at which the first half-hour begins
    kwh: Column  # (homes, slots), NaN where it was not read

    def midnights(self) -> Times:
        """The local midnights from which WATCHED_DAYS days are known, in which the clocks do not change."""
        all_midnights = midnights(HOMES_ZONE)
        begin, end = all_midnights[:-WATCHED_DAYS], all_midnights[WATCHED_DAYS:]
        fits = (begin >= self.start) & (end - begin == WATCHED_DAYS * DAY_SECONDS)
        fits &= end <= self.start + self.kwh.shape[1] * HOMES_INTERVAL
        return begin[fits]

    def window(self, midnight: int) -> Column:
        """The half-hours of WATCHED_DAYS days."""
        first = (midnight - self.start) // HOMES_INTERVAL
        return self.kwh[:, first : first + WATCHED_DAYS * PER_DAY]


def read_homes(path: Path) -> Homes:
    """The households of a file. Raises SourceError if it cannot be read or is too short."""
    batches = [
        batch for batch in open_sources([path]).batches if isinstance(batch, Readings)
    ]
    names = sorted({name for batch in batches for name in batch.names})
    row_of = {name: row for row, name in enumerate(names)}
    start = min(int(batch.at.min()) for batch in batches) - HOMES_INTERVAL
    slots = (max(int(batch.at.max()) for batch in batches) - start) // HOMES_INTERVAL

    kwh = np.full((len(names), slots), np.nan)
    for batch in batches:
        rows = np.array([row_of[name] for name in batch.names])[batch.subject]
        kwh[rows, (batch.at - start) // HOMES_INTERVAL - 1] = batch.kwh

    homes = Homes(names, start, kwh)
    if not len(homes.midnights()):
        raise SourceError(
            f"{path}: it should have {WATCHED_DAYS} days between two changes of the clocks"
        )
    return homes


@dataclass(frozen=True)
class _Window:
    """An area of all homes in some of their days, the area meter last."""

    name: str
    midnight: int  # at which it begins
    kwh: Column  # (homes and the area meter, slots)
    thefts: list[Theft]
    new_thefts: int  # of them, the others are old

    @property
    def gateway(self) -> str:
        """The area meter."""
        return f"{self.name}/gateway"

    def area(self, homes: Sequence[str]) -> Area:
        """Its master data."""
        meters = [
            Meter(meter=name, interval_s=HOMES_INTERVAL)
            for name in (*homes, self.gateway)
        ]
        return Area(area=self.name, gateway=self.gateway, meters=meters)


def homes_days(
    homes: Homes, areas: int, thefts: int, seed: int, old_share: float = 0.0
) -> WatchedDays:
    """So many areas of all homes, each a window of its own of the real time; in the first of them one home steals.

    A share of the homes has stolen from the first day on. They are not judged, nor are the homes by which limits were
    chosen.
    """
    rng = np.random.default_rng([seed, 10])
    kinds, windows = list(ALL_ATTACKS), []
    old_until = np.arange(areas + 1) * old_share * len(homes.names)
    for n, old_count in enumerate(np.diff(old_until.astype(int)).tolist()):
        midnight = int(rng.choice(homes.midnights()))
        kwh, name = homes.window(midnight).copy(), f"{seed}/{n:03d}"
        used = np.nansum(kwh, axis=0)
        may_steal = rng.permutation(_may_steal(kwh)).tolist()

        # one thief of whom nothing was chosen, and old thieves
        new = [row for row in may_steal if row % 2][: n < thefts]
        old = [row for row in may_steal if row not in new][:old_count]
        begins = [KNOWN_DAYS] * len(new) + [0] * len(old)
        planted = [
            _stolen(homes, kwh, row, midnight, begin, kinds[(n + k) % len(kinds)], name)
            for k, (row, begin) in enumerate(zip(new + old, begins, strict=True))
        ]
        kwh = np.concatenate([kwh, used[None] / (1 - HOMES_LOSS)])
        windows.append(_Window(name, midnight, kwh, planted, len(new)))
    return _watched(homes, windows)


def _may_steal(kwh: Column) -> Codes:
    """The homes of a window that were read and use enough before an attack."""
    known = kwh[:, : KNOWN_DAYS * PER_DAY]
    is_read = np.mean(~np.isnan(known), axis=1) >= READ_SHARE
    return np.flatnonzero(
        is_read & (np.nansum(known, axis=1) >= LEAST_KWH * KNOWN_DAYS)
    )


def _stolen(
    homes: Homes,
    kwh: Column,
    row: int,
    midnight: int,
    first_day: int,
    kind: str,
    area: str,
) -> Theft:
    """Plants an attack into a home of a window, in place, from a day on."""
    begin, hours = first_day * PER_DAY, HOMES_INTERVAL / 3600
    known = kwh[row, : KNOWN_DAYS * PER_DAY]
    usual_kw = np.nanmean(known.reshape(KNOWN_DAYS, PER_DAY), axis=0) / hours
    flow = Flow(
        midnight + first_day * DAY_SECONDS,
        0,
        kwh[row, begin:] / hours,
        float(usual_kw.mean()),
        np.maximum(usual_kw, 1e-3),
        (midnight // DAY_SECONDS, row),
    )

    registered = kwh[row, begin:] * ALL_ATTACKS[kind].shares(flow)
    hidden = (kwh[row, begin:] - registered).reshape(-1, PER_DAY)
    kwh[row, begin:] = registered
    return Theft(
        kind, (area, homes.names[row]), np.nansum(hidden, axis=1)[:JUDGED_DAYS]
    )


def _watched(homes: Homes, windows: Sequence[_Window]) -> WatchedDays:
    """The days of all homes in all windows, each an area."""
    places_of = [
        {(window.name, home) for home in homes.names[::2]}
        | {theft.place for theft in window.thefts[window.new_thefts :]}
        for window in windows
    ]
    return watch(
        [window.area(homes.names) for window in windows],
        _batches(homes, windows),
        HOMES_ZONE,
        HOMES_INTERVAL,
        {window.name: window.midnight for window in windows},
        [theft for window in windows for theft in window.thefts[: window.new_thefts]],
        frozenset().union(*places_of),
    )


def _batches(homes: Homes, windows: Sequence[_Window]) -> Iterator[Readings]:
    """The readings of all windows, some days of each at a time."""
    names = [*homes.names, *(window.gateway for window in windows)]
    kwh = np.stack([window.kwh for window in windows])
    begins = np.array([window.midnight for window in windows])
    for first in range(0, kwh.shape[2], BATCH_DAYS * PER_DAY):
        some = kwh[:, :, first : first + BATCH_DAYS * PER_DAY]
        slot, area, row = np.nonzero(~np.isnan(some.transpose(2, 0, 1)))
        yield Readings.build(
            names,
            np.where(row < len(homes.names), row, len(homes.names) + area),
            tuple(window.name for window in windows),
            area,
            begins[area] + (first + slot + 1) * HOMES_INTERVAL,
            kwh=some[area, row, slot],
        )

"""Attacks planted into real households."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.theft_days import (
    JUDGED_DAYS,
    KNOWN_DAYS,
    LEAST_KWH,
    WATCHED_DAYS,
    Place,
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


def homes_days(
    homes: Homes, areas: int, thefts: int, seed: int, old_share: float = 0.0
) -> WatchedDays:
    """So many areas of all homes, each a window of its own of the real time; in the first of them one home steals.

    A share of the homes has stolen from the first day on. They are not judged, nor are the homes by which limits were
    chosen.
    """
    rng = np.random.default_rng([seed, 10])
    kinds, parts = list(ALL_ATTACKS), []
    chosen_by = homes.names[::2]
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

        left_out = {(name, home) for home in chosen_by}
        left_out |= {theft.place for theft in planted[len(new) :]}
        kwh = np.concatenate([kwh, used[None] / (1 - HOMES_LOSS)])
        parts.append(
            _area_days(homes, kwh, name, midnight, planted[: len(new)], left_out)
        )
    return WatchedDays.join(parts)


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


def _area_days(
    homes: Homes,
    kwh: Column,
    name: str,
    midnight: int,
    thefts: list[Theft],
    left_out: Collection[Place],
) -> WatchedDays:
    """The days of all homes in one area, whose area meter is the last row of `kwh`."""
    gateway = f"{name}/gateway"
    names = [*homes.names, gateway]
    meters = [Meter(meter=each, interval_s=HOMES_INTERVAL) for each in names]
    area = Area(area=name, gateway=gateway, meters=meters)

    slot, row = np.nonzero(~np.isnan(kwh.T))
    readings = Readings.build(
        names,
        row,
        (name,),
        np.zeros(len(row)),
        midnight + (slot + 1) * HOMES_INTERVAL,
        kwh=kwh[row, slot],
    )
    start_of = {name: midnight}
    return watch(
        [area], [readings], HOMES_ZONE, HOMES_INTERVAL, start_of, thefts, left_out
    )

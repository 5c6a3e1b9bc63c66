"""Attacks planted into real households and simulated towns, and every customer's days as the engine scores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from models.feature import Feature
from models.master.calendar import midnights
from models.state.cells import Cells, Columns
from models.state.index import Index
from replay.explanation import note_rows, pipeline_of
from replay.history import SourceError
from replay.simulation.attacks import ALL_ATTACKS, Flow, attacked
from replay.simulation.happenings import Block, Happening
from replay.simulation.network import SLOT_SECONDS, Grid
from replay.simulation.town import Town
from replay.sources import open_sources
from schemas.columns import Batch, Codes, Column, Mask, Readings, Times
from schemas.master import Area, Meter
from schemas.units import DAY_HOURS, DAY_SECONDS

KNOWN_DAYS, JUDGED_DAYS = 30, 14  # before an attack begins, and from then on
WATCHED_DAYS = KNOWN_DAYS + JUDGED_DAYS + 1  # the last closes the one before it
MODEL_RULE = "model_score"
ATTACK_RULES = tuple(
    sorted({name for attack in ALL_ATTACKS.values() for name in attack.rules})
)
LEAST_KWH = 5.0  # a day that a thief uses at least
HOMES_ZONE, HOMES_INTERVAL = "Australia/Sydney", 1800
HOMES_LOSS = 0.03  # of the energy through a made area meter, in the lines
READ_SHARE = 0.9  # of a home's intervals before an attack
Place = tuple[str, str]  # area and meter


@dataclass(frozen=True)
class Theft:
    """An attack that was planted, and the energy that it hides on each judged day."""

    kind: str
    place: Place
    missing_kwh: Column  # (JUDGED_DAYS,), below 0 where more is registered than used

    def hidden_kwh(self, day: int = 0) -> float:
        """What it hides from a judged day on, 0 at least."""
        return max(float(self.missing_kwh[day:].sum()), 0.0)


@dataclass(frozen=True)
class WatchedDays:
    """Users' days: of each row of `places` and each of WATCHED_DAYS days, as the live judge first saw them."""

    places: list[Place]
    is_home: Mask
    scores: Mapping[str, Column]  # by rule, (places, days); NaN where it cannot tell
    used_kwh: Column  # (places, days)
    hours: Column  # (24, places, days) kWh
    thefts: list[Theft]

    @classmethod
    def join(cls, parts: Iterable[WatchedDays]) -> WatchedDays:
        """All places of several watches, whose areas must differ in name."""
        some = list(parts)
        return cls(
            [place for part in some for place in part.places],
            np.concatenate([part.is_home for part in some]),
            {
                name: np.concatenate([part.scores[name] for part in some])
                for name in some[0].scores
            },
            np.concatenate([part.used_kwh for part in some]),
            np.concatenate([part.hours for part in some], axis=1),
            [theft for part in some for theft in part.thefts],
        )


class _Noted(NamedTuple):
    """Given by _DayNotes."""

    noted: Mask


class _DayNotes(Feature):
    """Notes form and scores of every day when it is first judged; it comes after all other features."""

    distinct = False

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.cells = Cells()
        self._rules = list(rules)
        self.rows: list[tuple[Codes, Codes, Column]] = []  # slot, midnight, values

    def fold(self, slots: Codes) -> _Noted:
        """Nothing is noted without the columns."""
        return _Noted(np.zeros(len(slots), np.bool_))

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        """Notes the values of whole columns: the energy, 24 hours, and a score by rule."""
        shape = (DAY_HOURS, len(slots))
        values = [
            columns["used_kwh"][None],
            np.broadcast_to(columns["hours"], shape),
        ]
        for rule in self._rules:
            missing = {name: np.isnan(columns[name]) for name in rule.reads}
            values.append(rule.score(columns, missing)[None])
        self.rows.append((slots, columns["at"], np.concatenate(values)))
        return _Noted(np.ones(len(slots), np.bool_))._asdict()

    def table(self, index: Index, start_of: Mapping[str, int]) -> tuple[Codes, Column]:
        """The slots that have days, and their values as (values, slots, days)."""
        slots = np.unique(np.concatenate([row[0] for row in self.rows]))
        starts = np.array([start_of[index.pairs[slot][0]] for slot in slots.tolist()])
        table = np.full(
            (1 + DAY_HOURS + len(self._rules), len(slots), WATCHED_DAYS), np.nan
        )

        # backwards, so that what was noted first stays
        for noted, at, values in reversed(self.rows):
            place = np.searchsorted(slots, noted)
            day = np.rint((at - starts[place]) / DAY_SECONDS).astype(int) - 1
            inside = (day >= 0) & (day < WATCHED_DAYS)
            table[:, place[inside], day[inside]] = values[:, inside]
        return slots, table


def watch(
    areas: list[Area],
    batches: Iterable[Batch],
    zone: str,
    interval: int,
    start_of: Mapping[str, int],
    thefts: list[Theft],
) -> WatchedDays:
    """The days of the users of some areas, each from its own first midnight on."""
    rules = [ALL_RULES[name] for name in (*ATTACK_RULES, MODEL_RULE)]
    engine = Engine(rules, zone=zone, interval=interval)
    engine.enroll(areas)
    notes, pipeline = _DayNotes(rules), pipeline_of(engine, rules[0])
    note_rows(engine, pipeline, notes)
    for batch in batches:
        engine.step(batch)

    slots, table = notes.table(pipeline.index, start_of)
    record_of = {
        (area.area, meter.meter): meter
        for area in areas
        for meter in area.meters
        if meter.meter != area.gateway
    }
    pairs = [pipeline.index.pairs[slot] for slot in slots.tolist()]
    kept = np.array([pair in record_of for pair in pairs])
    places = [pair for pair in pairs if pair in record_of]
    table = table[:, kept]

    return WatchedDays(
        places,
        np.array([record_of[place].segment == "residential" for place in places]),
        {rule.name: table[1 + DAY_HOURS + n] for n, rule in enumerate(rules)},
        table[0],
        table[1 : 1 + DAY_HOURS],
        thefts,
    )


# ---- The simulated town ----


def town_days(meters: int, thefts: int, seed: int) -> WatchedDays:
    """A quiet town in which so many single-phase customers begin to steal on the same day, attacks in turn."""
    town = Town(meters, WATCHED_DAYS, seed, faults=False)
    grid, span = town.grid, (town.start + KNOWN_DAYS * DAY_SECONDS, town.end)

    # of several towns, no two areas have the same name
    name_of = {area: f"{seed}/{area}" for area in grid.areas}
    kinds, planted = list(ALL_ATTACKS), []
    for n, row in enumerate(_thieves(grid, thefts, seed)):
        kind = kinds[(n + 5 * seed) % len(kinds)]
        missing = np.zeros(JUDGED_DAYS + 1)  # fills while the town runs
        happening = attacked(grid, kind, row, span, seed)
        town.happenings.append(measured(happening, grid, row, missing))
        place = name_of[grid.areas[grid.area[row]]], grid.names[row]
        planted.append(Theft(kind, place, missing[:JUDGED_DAYS]))

    areas = [
        msgspec.structs.replace(area, area=name_of[area.area]) for area in town.areas
    ]
    batches = (
        replace(batch, areas=tuple(name_of.get(name, name) for name in batch.areas))
        for batch in town.batches()
    )
    start_of = dict.fromkeys(name_of.values(), town.start)
    return watch(areas, batches, town.zone, town.interval, start_of, planted)


def _thieves(grid: Grid, count: int, seed: int) -> list[int]:
    """So many single-phase customers without a roof who use enough."""
    may_steal = ~grid.gateway & ~grid.three & (grid.pv_kw == 0)
    may_steal &= 24 * grid.mean_kw >= LEAST_KWH
    rng = np.random.default_rng([seed, 9])
    rows: list[int] = rng.choice(np.flatnonzero(may_steal), count, False).tolist()
    return rows


def measured(
    happening: Happening, grid: Grid, row: int, missing_kwh: Column
) -> Happening:
    """The same attack; adds to `missing_kwh` by day what it hides."""

    def after(block: Block) -> None:
        before = np.nansum(block.P[:, :, row])
        if happening.after:
            happening.after(block)
        hidden_kw = (before - np.nansum(block.P[:, :, row])) * grid.ratio[row]
        day = (block.start - happening.start) // DAY_SECONDS
        missing_kwh[day] += hidden_kw * SLOT_SECONDS / 3600

    return replace(happening, after=after)


# ---- The real households ----


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
        return self.kwh[:, first : first + WATCHED_DAYS * DAY_SECONDS // HOMES_INTERVAL]


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


def homes_days(homes: Homes, areas: int, thefts: int, seed: int) -> WatchedDays:
    """So many areas of all homes, each a window of its own of the real time; in the first of them one home steals."""
    rng = np.random.default_rng([seed, 10])
    kinds, parts = list(ALL_ATTACKS), []
    for n in range(areas):
        midnight = int(rng.choice(homes.midnights()))
        kwh = homes.window(midnight).copy()
        used = np.nansum(kwh, axis=0)
        name, planted = f"{seed}/{n:03d}", []
        if n < thefts:
            planted = [_stolen(homes, kwh, midnight, kinds[n % len(kinds)], name, rng)]

        kwh = np.concatenate([kwh, used[None] / (1 - HOMES_LOSS)])
        parts.append(_area_days(homes, kwh, name, midnight, planted))
    return WatchedDays.join(parts)


def _stolen(
    homes: Homes,
    kwh: Column,
    midnight: int,
    kind: str,
    area: str,
    rng: np.random.Generator,
) -> Theft:
    """Plants an attack into a random home of a window, in place."""
    per_day = DAY_SECONDS // HOMES_INTERVAL
    begin = KNOWN_DAYS * per_day
    known = kwh[:, :begin]
    may_steal = np.mean(~np.isnan(known), axis=1) >= READ_SHARE
    may_steal &= np.nansum(known, axis=1) >= LEAST_KWH * KNOWN_DAYS
    row = int(rng.choice(np.flatnonzero(may_steal)))

    hours = HOMES_INTERVAL / 3600
    usual_kw = np.nanmean(known[row].reshape(KNOWN_DAYS, per_day), axis=0) / hours
    flow = Flow(
        midnight + KNOWN_DAYS * DAY_SECONDS,
        0,
        kwh[row, begin:] / hours,
        float(usual_kw.mean()),
        np.maximum(usual_kw, 1e-3),
        (int(rng.integers(1 << 30)), row),
    )

    registered = kwh[row, begin:] * ALL_ATTACKS[kind].shares(flow)
    hidden = (kwh[row, begin:] - registered).reshape(-1, per_day)
    kwh[row, begin:] = registered
    return Theft(
        kind, (area, homes.names[row]), np.nansum(hidden, axis=1)[:JUDGED_DAYS]
    )


def _area_days(
    homes: Homes, kwh: Column, name: str, midnight: int, thefts: list[Theft]
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
    return watch(
        [area], [readings], HOMES_ZONE, HOMES_INTERVAL, {name: midnight}, thefts
    )

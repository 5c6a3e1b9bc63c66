"""Attacks planted into simulated towns, and every customer's days as the engine scores them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from models.feature import Feature
from models.state.cells import Cells, Columns
from models.state.index import Index
from replay.explanation import note_rows, pipeline_of
from replay.simulation.attacks import ALL_ATTACKS, attacked
from replay.simulation.happenings import Block, Happening
from replay.simulation.network import SLOT_SECONDS, Grid
from replay.simulation.town import Town
from schemas.columns import Batch, Codes, Column, Mask
from schemas.master import Area
from schemas.units import DAY_HOURS, DAY_SECONDS

KNOWN_DAYS, JUDGED_DAYS = 30, 14  # before an attack begins, and from then on
WATCHED_DAYS = KNOWN_DAYS + JUDGED_DAYS + 1  # the last closes the one before it
MODEL_RULE = "model_score"
ATTACK_RULES = tuple(
    sorted({name for attack in ALL_ATTACKS.values() for name in attack.rules})
)
LEAST_KWH = 5.0  # a day that a thief uses at least
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
    is_judged: Mask  # False where an alert is neither right nor wrong
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
            np.concatenate([part.is_judged for part in some]),
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
    left_out: Collection[Place] = (),
) -> WatchedDays:
    """The days of the users of some areas, each from its own first midnight on; some are left out of the judgement."""
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
        np.array([place not in left_out for place in places]),
        {rule.name: table[1 + DAY_HOURS + n] for n, rule in enumerate(rules)},
        table[0],
        table[1 : 1 + DAY_HOURS],
        thefts,
    )


# ---- The simulated town ----


def town_days(
    meters: int, thefts: int, seed: int, old_share: float = 0.0
) -> WatchedDays:
    """A quiet town in which so many single-phase customers begin to steal on the same day, attacks in turn.

    A share of the customers has stolen from the first day on; they are not judged.
    """
    town = Town(meters, WATCHED_DAYS, seed, faults=False)
    grid = town.grid
    rows = _thieves(grid, thefts + round(old_share * meters), seed)

    # of several towns, no two areas have the same name
    name_of = {area: f"{seed}/{area}" for area in grid.areas}
    places = [(name_of[grid.areas[grid.area[row]]], grid.names[row]) for row in rows]
    planted = [
        _planted(town, seed, n, row, places[n]) for n, row in enumerate(rows[:thefts])
    ]
    for n, row in enumerate(rows[thefts:], thefts):
        span = (town.start, town.end)
        town.happenings.append(attacked(grid, _kind(n, seed), row, span, seed))

    areas = [
        msgspec.structs.replace(area, area=name_of[area.area]) for area in town.areas
    ]
    batches = (
        replace(batch, areas=tuple(name_of.get(name, name) for name in batch.areas))
        for batch in town.batches()
    )
    start_of = dict.fromkeys(name_of.values(), town.start)
    left_out = frozenset(places[thefts:])
    return watch(areas, batches, town.zone, town.interval, start_of, planted, left_out)


def _planted(town: Town, seed: int, n: int, row: int, place: Place) -> Theft:
    """Plants the n-th attack of a town, after the known days."""
    kind = _kind(n, seed)
    span = (town.start + KNOWN_DAYS * DAY_SECONDS, town.end)
    missing = np.zeros(JUDGED_DAYS + 1)  # fills while the town runs
    happening = attacked(town.grid, kind, row, span, seed)
    town.happenings.append(measured(happening, town.grid, row, missing))
    return Theft(kind, place, missing[:JUDGED_DAYS])


def _kind(n: int, seed: int) -> str:
    """The attack of a town's n-th thief."""
    kinds = list(ALL_ATTACKS)
    return kinds[(n + 5 * seed) % len(kinds)]


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

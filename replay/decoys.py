"""What looks like a fault in the town and is none; a rule that tells of it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from msgspec.structs import replace

from replay.faults import OUTAGE_HOURS, connected, goes_out, shines, transformed, works
from replay.happenings import Block, Happening, Notice, load, loads, unread
from replay.network import (
    COMMERCIAL_SEGMENT,
    INDUSTRIAL_SEGMENT,
    RESIDENTIAL_SEGMENT,
    Grid,
)
from replay.planted import Fault, Kinds, Plan, home, office
from schemas.columns import Event
from schemas.units import DAY_SECONDS, HOUR_SECONDS


def _local_hour(block: Block) -> int:
    """Of the day."""
    return (block.start + 8 * HOUR_SECONDS) // HOUR_SECONDS % 24


def _stands_empty(row: int, share: float, grid: Grid, block: Block) -> None:
    """Nobody is at home: a share of what is used at the calmest hour, at all hours."""
    shape = grid.shapes[grid.segment[row], 0]
    block.scale[row] = share * shape.min() / shape[4 * _local_hour(block)]


def _charges_car(row: int, kw: float, grid: Grid, block: Block) -> None:
    """A car that charges from eleven to two at night."""
    if (hour := _local_hour(block)) in {23, 0, 1}:
        usual = grid.mean_kw[row] * grid.shapes[grid.segment[row], 0, 4 * hour]
        block.scale[row] += kw / usual
        block.cap_kw[row] += kw


def _cold_days(plan: Plan, area: int) -> Iterator[Happening]:
    """Four cold days: all homes of an area heat."""
    homes = np.flatnonzero(
        (plan.grid.area == area)
        & (plan.grid.segment == RESIDENTIAL_SEGMENT)
        & ~plan.grid.gateway
    )
    at = plan.when(4.5, min(30, plan.days / 2))
    yield Happening(at, at + 4 * DAY_SECONDS, before=partial(loads, homes, 1.7))


def _outage(plan: Plan, area: int) -> Iterator[Happening]:
    """An area goes out once, for two hours."""
    at, rows, name = (
        plan.when(1),
        np.flatnonzero(plan.grid.area == area),
        plan.grid.areas[area],
    )
    yield Happening(
        at,
        at + 2 * HOUR_SECONDS,
        before=partial(loads, rows, 0.0),
        after=partial(unread, rows),
        notices=(Notice(at, name, "", Event.POWER_OFF, at + 2 * HOUR_SECONDS),),
    )


def _campaign(plan: Plan, area: int) -> Iterator[Happening]:
    """New tariffs are set in every meter of an area, on one order."""
    at, name = plan.when(3), plan.grid.areas[area]
    meters = [plan.grid.names[row] for row in np.flatnonzero(plan.grid.area == area)]
    yield Happening(
        at,
        at + DAY_SECONDS,
        notices=(
            Notice(at, name, "", Event.WORK_ORDER, at + DAY_SECONDS),
            *(
                Notice(at + 60 * n, name, meter, Event.PARAM_CHANGE)
                for n, meter in enumerate(meters)
            ),
        ),
    )


def spring_festival(grid: Grid, seed: int, new_year: int) -> Iterator[Happening]:
    """Works and shops close for weeks, homes go away or have guests."""
    rng, users = np.random.default_rng([seed, 9]), ~grid.gateway
    homes = rng.permutation(
        np.flatnonzero(users & (grid.segment == RESIDENTIAL_SEGMENT))
    )
    away, hosts = homes[: len(homes) // 3], homes[len(homes) // 3 : len(homes) // 2]
    for who, first, last, times in (
        (np.flatnonzero(users & (grid.segment == INDUSTRIAL_SEGMENT)), -9, 10, 0.1),
        (np.flatnonzero(users & (grid.segment == COMMERCIAL_SEGMENT)), -2, 7, 0.35),
        (away, -4, 8, 0.25),
        (hosts, -1, 5, 1.8),
    ):
        yield Happening(
            new_year + first * DAY_SECONDS,
            new_year + last * DAY_SECONDS,
            before=partial(loads, who, times),
        )


def decoys(grid: Grid) -> Kinds:
    """What looks like a fault and is none; a rule that tells of one is wrong."""
    return Kinds(
        (
            Fault(
                "opened",
                "the cover is opened on an order that was booked ten hours late",
                home,
                rules=(),
                times=4,
                events=((0, Event.COVER_OPEN), (10, Event.WORK_ORDER)),
            ),
            Fault(
                "passing_magnet",
                "a magnet for twenty seconds",
                home,
                rules=(),
                times=4,
                events=(
                    (0, Event.MAGNETIC_FIELD),
                    (20 / 3600, Event.MAGNETIC_FIELD_END),
                ),
            ),
            Fault(
                "out_twice",
                "two outages of a home",
                home,
                rules=(),
                times=4,
                after=lambda row, start, b: goes_out(row, OUTAGE_HOURS[:2], start, b),
                events=tuple(
                    (n + k, e)
                    for n in OUTAGE_HOURS[:2]
                    for k, e in ((0, Event.POWER_OFF), (1, Event.POWER_ON))
                ),
            ),
            Fault(
                "not_read",
                "two days without readings",
                home,
                rules=(),
                times=4,
                lasts=2,
                after=lambda row, _, b: unread(row, b),
            ),
            Fault(
                "connected",
                "a new customer",
                home,
                rules=(),
                times=4,
                new=True,
                record=lambda m, _: m,
                before=connected,
            ),
            Fault(
                "suspended",
                "70 % of the capacity are suspended, and not used",
                works,
                rules=(),
                times=4,
                before=lambda row, _, b: load(row, 0.25, b),
                record=lambda m, _: replace(
                    m, suspended_kva=round(0.7 * (m.contract_kva or 0))
                ),
            ),
            Fault(
                "closed_account",
                "the account is closed, and nothing is used",
                home,
                rules=(),
                times=4,
                before=lambda row, _, b: load(row, 0, b),
                record=lambda m, at: replace(m, stopped=at),
            ),
            Fault(
                "registered_roof",
                "a roof of 3 kW that is on file",
                home,
                rules=(),
                times=4,
                before=lambda row, _, b: shines(row, 3, b),
                record=lambda m, _: replace(m, pv_kva=3.0),
            ),
            Fault(
                "exchanged",
                "transformers of twice the ratio, on file since the same hour",
                office,
                rules=(),
                times=4,
                after=lambda row, _, b: transformed(row, 0.5, b),
                record=lambda m, _: replace(m, ct=2 * m.ct),
            ),
            Fault(
                "away",
                "a home is empty for ten days and uses what it does by night",
                home,
                rules=(),
                times=4,
                lasts=10,
                earliest=30,
                before=lambda row, _, b: _stands_empty(row, 1, grid, b),
            ),
            Fault(
                "away_and_off",
                "a home is empty for ten days and uses half of what it does by night",
                home,
                rules=(),
                times=4,
                lasts=10,
                earliest=30,
                before=lambda row, _, b: _stands_empty(row, 0.5, grid, b),
            ),
            Fault(
                "guests",
                "two days of guests",
                home,
                rules=(),
                times=8,
                lasts=2,
                earliest=30,
                before=lambda row, _, b: load(row, 2.5, b),
            ),
            Fault(
                "car",
                "a car that is charged at night",
                home,
                rules=(),
                times=4,
                earliest=30,
                before=lambda row, _, b: _charges_car(row, 2.0, grid, b),
            ),
        ),
        (_cold_days, _outage, _campaign),
        office=False,
    )

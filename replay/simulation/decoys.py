"""Decoys: happenings that look like a fault and are none; a rule that raises for them is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from msgspec.structs import replace

from replay.simulation.area_faults import OUTAGE_HOURS, outage_events
from replay.simulation.changes import (
    connected,
    goes_out,
    load,
    loads,
    shines,
    transformed,
    unread,
)
from replay.simulation.customers import home, office, works
from replay.simulation.happenings import Block, Happening, Notice
from replay.simulation.network import (
    COMMERCIAL_SEGMENT,
    INDUSTRIAL_SEGMENT,
    RESIDENTIAL_SEGMENT,
    Grid,
)
from replay.simulation.plan import Fault, Kinds, Plan
from schemas.columns import Event
from schemas.units import DAY_SECONDS, HOUR_SECONDS


def _local_hour(block: Block) -> int:
    """The hour of the day in Shanghai."""
    local = block.start + 8 * HOUR_SECONDS
    return local // HOUR_SECONDS % 24


def _stands_empty(row: int, share: float, grid: Grid, block: Block) -> None:
    """Nobody is at home: a share of the calmest hour's load, at all hours."""
    shape = grid.shapes[grid.segment[row], 0]
    usual = shape[4 * _local_hour(block)]
    block.scale[row] = share * shape.min() / usual


def _charges_car(row: int, kw: float, grid: Grid, block: Block) -> None:
    """A car that charges from eleven to two at night."""
    if (hour := _local_hour(block)) in {23, 0, 1}:
        shape = grid.shapes[grid.segment[row], 0]
        usual = grid.mean_kw[row] * shape[4 * hour]
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
    end = at + 4 * DAY_SECONDS
    yield Happening(at, end, before=partial(loads, homes, 1.7))


def _outage(plan: Plan, area: int) -> Iterator[Happening]:
    """An area goes out once, for two hours."""
    at = plan.when(1)
    until = at + 2 * HOUR_SECONDS
    rows = np.flatnonzero(plan.grid.area == area)
    notice = Notice(at, plan.grid.areas[area], "", Event.POWER_OFF, until)
    yield Happening(
        at,
        until,
        before=partial(loads, rows, 0.0),
        after=partial(unread, rows),
        notices=(notice,),
    )


def _campaign(plan: Plan, area: int) -> Iterator[Happening]:
    """New tariffs are set in every meter of an area, on one order."""
    at = plan.when(3)
    name = plan.grid.areas[area]
    rows = np.flatnonzero(plan.grid.area == area)
    meters = [plan.grid.names[row] for row in rows]
    order = Notice(at, name, "", Event.WORK_ORDER, at + DAY_SECONDS)
    changes = [
        Notice(at + 60 * n, name, meter, Event.PARAM_CHANGE)
        for n, meter in enumerate(meters)
    ]
    yield Happening(at, at + DAY_SECONDS, notices=(order, *changes))


def spring_festival(grid: Grid, seed: int, new_year: int) -> Iterator[Happening]:
    """Works and shops close for weeks, homes go away or have guests."""
    users = ~grid.gateway
    works = np.flatnonzero(users & (grid.segment == INDUSTRIAL_SEGMENT))
    shops = np.flatnonzero(users & (grid.segment == COMMERCIAL_SEGMENT))
    homes = np.random.default_rng([seed, 9]).permutation(
        np.flatnonzero(users & (grid.segment == RESIDENTIAL_SEGMENT))
    )
    away = homes[: len(homes) // 3]
    hosts = homes[len(away) : len(homes) // 2]

    # rows, the first and last day after new year, and times the usual load
    for rows, first, last, times in (
        (works, -9, 10, 0.1),
        (shops, -2, 7, 0.35),
        (away, -4, 8, 0.25),
        (hosts, -1, 5, 1.8),
    ):
        yield Happening(
            new_year + first * DAY_SECONDS,
            new_year + last * DAY_SECONDS,
            before=partial(loads, rows, times),
        )


def decoys(grid: Grid) -> Kinds:
    """Kinds of happenings that look like a fault and are none."""
    return Kinds(
        # of single meters
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
                after=lambda row, start, block: goes_out(
                    row, OUTAGE_HOURS[:2], start, block
                ),
                events=outage_events(OUTAGE_HOURS[:2]),
            ),
            Fault(
                "not_read",
                "two days without readings",
                home,
                rules=(),
                times=4,
                lasts=2,
                after=lambda row, _, block: unread(row, block),
            ),
            Fault(
                "connected",
                "a new customer",
                home,
                rules=(),
                times=4,
                new=True,
                record=lambda meter, _: meter,
                before=connected,
            ),
            Fault(
                "suspended",
                "70 % of the capacity are suspended, and not used",
                works,
                rules=(),
                times=4,
                before=lambda row, _, block: load(row, 0.25, block),
                record=lambda meter, _: replace(
                    meter, suspended_kva=round(0.7 * (meter.contract_kva or 0))
                ),
            ),
            Fault(
                "closed_account",
                "the account is closed, and nothing is used",
                home,
                rules=(),
                times=4,
                before=lambda row, _, block: load(row, 0, block),
                record=lambda meter, at: replace(meter, stopped=at),
            ),
            Fault(
                "registered_roof",
                "a roof of 3 kW that is on file",
                home,
                rules=(),
                times=4,
                before=lambda row, _, block: shines(row, 3, block),
                record=lambda meter, _: replace(meter, pv_kva=3.0),
            ),
            Fault(
                "exchanged",
                "transformers of twice the ratio, on file since the same hour",
                office,
                rules=(),
                times=4,
                after=lambda row, _, block: transformed(row, 0.5, block),
                record=lambda meter, _: replace(meter, ct=2 * meter.ct),
            ),
            Fault(
                "away",
                "a home is empty for ten days and uses its night load",
                home,
                rules=(),
                times=4,
                lasts=10,
                earliest=30,
                before=lambda row, _, block: _stands_empty(row, 1, grid, block),
            ),
            Fault(
                "away_and_off",
                "a home is empty for ten days and uses half of its night load",
                home,
                rules=(),
                times=4,
                lasts=10,
                earliest=30,
                before=lambda row, _, block: _stands_empty(row, 0.5, grid, block),
            ),
            Fault(
                "guests",
                "two days of guests",
                home,
                rules=(),
                times=8,
                lasts=2,
                earliest=30,
                before=lambda row, _, block: load(row, 2.5, block),
            ),
            Fault(
                "car",
                "a car that is charged at night",
                home,
                rules=(),
                times=4,
                earliest=30,
                before=lambda row, _, block: _charges_car(row, 2.0, grid, block),
            ),
        ),
        # of whole areas
        (_cold_days, _outage, _campaign),
        office=False,
    )

"""Faults of whole areas."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from replay.simulation.changes import current, hung, loads, third_harmonics, unread
from replay.simulation.happenings import LOSS_RULES, Block, Happening, Notice, Planted
from replay.simulation.plan import Plan
from schemas.columns import Event
from schemas.units import DAY_SECONDS, HOUR_SECONDS


def thefts(plan: Plan, area: int) -> Iterator[Happening]:
    """Meters that see a third of the use (attack h1), until 13 % of the energy are missing."""
    if plan.days < 7:
        return

    grid = plan.grid
    seen = 0.33
    rows = plan.rng.permutation(
        np.flatnonzero((grid.area == area) & ~grid.gateway & (grid.pv_kw == 0))
    )
    bypassed = np.cumsum(grid.mean_kw[rows]) * (1 - seen)
    missing = bypassed / grid.mean_kw[grid.area == area].sum()
    rows = rows[: 1 + int(np.searchsorted(missing, 0.13))]
    plan.used[rows] = True

    at = plan.when(plan.days - 4)
    note = f"{len(rows)} customers bypass two thirds of what they use"
    planted = Planted("theft", LOSS_RULES, grid.areas[area], "", at, plan.end, note)
    yield Happening(
        at, plan.end, after=partial(current, rows, slice(None), seen), planted=planted
    )


def overload(plan: Plan, area: int) -> Iterator[Happening]:
    """Heating doubles and trebles the homes' use: the evening peak is 15 % above the rating."""
    if plan.days < 4:
        return

    homes, times = plan.heating(area, 1.15)
    at = plan.when(3.5)
    planted = Planted(
        "transformer_overload",
        ("transformer_overload",),
        plan.grid.areas[area],
        "",
        at,
        at + 2 * DAY_SECONDS,
        f"electric heating: homes use {times:.1f} times as much",
        (
            "transformer_overload_expected",
            "area_load_unbalance",
            "voltage_deviation",
            "meter_current_unbalance",
            "meter_overcurrent",
            "neutral_current_high",
        ),
    )
    yield Happening(
        at, at + 2 * DAY_SECONDS, before=partial(loads, homes, times), planted=planted
    )


def unbalance(plan: Plan, area: int) -> Iterator[Happening]:
    """After line work too many single-phase customers hang on phase A, in cold days."""
    if plan.days < 4:
        return

    homes, times = plan.heating(area, 0.62)
    elsewhere = homes[plan.grid.phase[homes] > 0]
    shuffled = plan.rng.permutation(elsewhere)
    moved = shuffled[: len(homes) // 5]
    at = plan.when(plan.days - 2)
    planted = Planted(
        "area_load_unbalance",
        ("area_load_unbalance",),
        plan.grid.areas[area],
        "",
        at,
        plan.end,
        f"{len(moved)} customers were moved to phase A",
        (
            "meter_current_unbalance",
            "voltage_deviation",
            "neutral_current_high",
            "phase_mismatch",
        ),
    )

    def change(block: Block) -> None:
        hung(moved, 0, block)
        loads(homes, times, block)

    yield Happening(at, plan.end, before=change, planted=planted)


def harmonics(plan: Plan, area: int) -> Iterator[Happening]:
    """The third harmonics of a hall's lamps add up in the neutral."""
    if plan.days < 4:
        return

    grid = plan.grid
    at = plan.when(2)
    gateways = np.flatnonzero(grid.gateway & (grid.area == area))
    gateway = int(gateways[0])
    load_kw = 0.6 * float(grid.rating[area])
    amps = load_kw * 1000 / np.sqrt(3) / 400
    planted = Planted(
        "neutral_current_high",
        ("neutral_current_high",),
        grid.areas[area],
        "",
        at,
        at + 2 * DAY_SECONDS,
        f"third harmonics of {amps:.0f} A in the transformer's neutral",
    )
    change = partial(third_harmonics, gateway, amps / float(grid.ratio[gateway]))
    yield Happening(at, at + 2 * DAY_SECONDS, after=change, planted=planted)


def outage_events(hours: tuple[int, ...]) -> tuple[tuple[float, Event], ...]:
    """The events of outages of an hour each: power off, an hour later on."""
    events: list[tuple[float, Event]] = []
    for hour in hours:
        events += [(hour, Event.POWER_OFF), (hour + 1, Event.POWER_ON)]
    return tuple(events)


OUTAGE_HOURS = (0, 50, 120)  # hours after the first outage


def hot_transformer(plan: Plan, area: int) -> Iterator[Happening]:
    """Heating until the transformer carries half as much again as its rating, every evening."""
    if plan.days < 4:
        return

    homes, times = plan.heating(area, 1.55)
    at = plan.when(3.5)
    planted = Planted(
        "transformer_thermal",
        ("transformer_thermal",),
        plan.grid.areas[area],
        "",
        at,
        at + 2 * DAY_SECONDS,
        f"electric heating: homes use {times:.1f} times as much",
        (
            "transformer_overload",
            "transformer_overload_expected",
            "area_load_unbalance",
            "voltage_deviation",
            "meter_current_unbalance",
            "meter_overcurrent",
            "neutral_current_high",
            "over_contract_capacity",
            "capacity_expansion",
            "meter_runaway",
            "area_mismatch",
            "phase_mismatch",
        ),
    )

    def change(block: Block) -> None:
        loads(homes, times, block)
        block.cap_kw[homes] *= times

    yield Happening(at, at + 2 * DAY_SECONDS, before=change, planted=planted)


def islanded(plan: Plan, area: int) -> Iterator[Happening]:
    """A generating set feeds an area during works, and runs too fast."""
    at = plan.when(1)
    rows = np.flatnonzero(plan.grid.area == area)
    planted = Planted(
        "frequency_deviation",
        ("frequency_deviation",),
        plan.grid.areas[area],
        "",
        at,
        at + 6 * HOUR_SECONDS,
        "a generating set feeds the area at 50.5 Hz",
    )

    def change(block: Block) -> None:
        block.hertz[rows] += 0.5

    yield Happening(at, at + 6 * HOUR_SECONDS, after=change, planted=planted)


def loose_contact(plan: Plan, area: int) -> Iterator[Happening]:
    """A loose contact takes a fourteenth of phase A's voltage; loads draw the same power."""
    if plan.days < 5:
        return

    grid = plan.grid
    at = plan.when(3.5)
    rows = np.flatnonzero(grid.area == area)
    planted = Planted(
        "pq_voltage_unbalance",
        ("pq_voltage_unbalance",),
        grid.areas[area],
        "",
        at,
        at + 3 * DAY_SECONDS,
        "a loose contact at the transformer takes 7 % of phase A's voltage",
        ("voltage_deviation",),
    )

    def change(block: Block) -> None:
        polyphase = grid.three[rows] | grid.gateway[rows]
        on_phase_a = polyphase | (block.phase[rows] == 0)
        lower = rows[on_phase_a]
        block.U[0][:, lower] *= 0.93
        block.I[0][:, lower] /= 0.93

    yield Happening(at, at + 3 * DAY_SECONDS, after=change, planted=planted)


def badly_read(plan: Plan, area: int) -> Iterator[Happening]:
    """A collector loses one reading in twelve."""
    if plan.days < 5:
        return

    at = plan.when(3.5)
    rows = np.flatnonzero(plan.grid.area == area)
    planted = Planted(
        "read_success_rate",
        ("read_success_rate",),
        plan.grid.areas[area],
        "",
        at,
        at + 3 * DAY_SECONDS,
        "a collector loses one reading in twelve",
    )

    def change(block: Block) -> None:
        rng = np.random.default_rng([plan.seed, 8, block.start])
        drawn = rng.random((len(block.read), len(rows)))
        lost = drawn < 1 / 12
        block.read[:, rows] &= ~lost

    yield Happening(at, at + 3 * DAY_SECONDS, after=change, planted=planted)


def often_out(plan: Plan, area: int) -> Iterator[Happening]:
    """A whole area goes out three times, an hour each."""
    if plan.days < 8:
        return

    at = plan.when(6.5)
    name = plan.grid.areas[area]
    rows = np.flatnonzero(plan.grid.area == area)
    planted = Planted(
        "frequent_outage_area",
        ("frequent_outage",),
        name,
        "",
        at,
        at + 6 * DAY_SECONDS,
        "a whole area goes out three times within a week",
    )

    for hour in OUTAGE_HOURS:
        off = at + hour * HOUR_SECONDS
        yield Happening(
            off,
            off + HOUR_SECONDS,
            before=partial(loads, rows, 0.0),
            after=partial(unread, rows),
            planted=planted if hour == OUTAGE_HOURS[0] else None,
            notices=(Notice(off, name, "", Event.POWER_OFF, off + HOUR_SECONDS),),
        )

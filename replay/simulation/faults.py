"""Further kinds of fault that the town can have; the bench plants them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from msgspec.structs import replace

from replay.simulation.happenings import (
    LOSS_RULES,
    Block,
    Happening,
    Notice,
    Planted,
    bridged,
    current,
    distorted,
    load,
    loads,
    miscounts,
    sagged,
    uneven,
    unread,
    voltage,
)
from replay.simulation.network import (
    COMMERCIAL_SEGMENT,
    INDUSTRIAL_SEGMENT,
    RESIDENTIAL_SEGMENT,
    Grid,
)
from replay.simulation.planted import (
    TERMINAL_LOSS_RULES,
    USUAL_FAULTS,
    Fault,
    Kinds,
    Plan,
    home,
    office,
    through_ct,
)
from schemas.columns import Event, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

HIGH_LOAD_RULES = (
    "over_contract_capacity",
    "capacity_expansion",
    "customer_transformer_overload",
    "meter_overcurrent",
    "demand_over_contract",
    "usage_fluctuation",
)
# rules that may raise when less energy is registered than before
LOW_USE_RULES = (
    *LOSS_RULES,
    "step_drop",
    "usage_fluctuation",
    "low_usage",
    "peer_shortfall",
    "zero_usage",
    "near_zero_usage",
)
MISCOUNT_RULES = (
    *LOSS_RULES,
    "energy_ratio_error",
    "usage_fluctuation",
    "register_interval_sum",
)


def works(grid: Grid) -> Mask:
    """Factories, each behind its own transformer."""
    return (grid.segment == INDUSTRIAL_SEGMENT) & through_ct(grid)


def _distant(grid: Grid) -> Mask:
    """Homes with a service line that is long for their load."""
    return home(grid) & (grid.mean_kw * grid.service_ohm > 0.03)


def _business(grid: Grid) -> Mask:
    """Shops and offices behind current transformers, or with a meter of three phases."""
    return (grid.segment == COMMERCIAL_SEGMENT) & grid.three


def _middling(grid: Grid) -> Mask:
    """Homes of usual load, without a roof."""
    return (
        (grid.segment == RESIDENTIAL_SEGMENT)
        & (grid.pv_kw == 0)
        & (grid.mean_kw > 0.3)
        & (grid.mean_kw < 0.4)
    )


def _pulls(row: int, times: float, block: Block) -> None:
    """A load that no fuse limits."""
    block.scale[row] *= times
    block.cap_kw[row] *= times


def _lags(row: int, tan: float, scale: float, block: Block) -> None:
    """Motors that run idle, or without their capacitors."""
    block.tan[row] = tan
    block.scale[row] *= scale


def shines(row: int, kw: float, block: Block) -> None:
    """A roof feeds in so many kW at noon."""
    block.pv_kw[row] += kw


def transformed(row: int, times: float, block: Block) -> None:
    """Other current transformers: the meter sees and expects so many times the current."""
    bridged(row, times, block)
    block.neutral[:, row] *= times
    block.terminal[:, row] *= times
    block.set_ratio[row] /= times


def _shows_intervals(row: int, share: float, block: Block) -> None:
    """The curve holds a share of what the register counts."""
    block.curve[row] = share


def _loses_tariff(row: int, share: float, block: Block) -> None:
    """The tariffs' registers hold a share of what the total counts."""
    block.by_tariff[row] = share


def _misses_demand(row: int, share: float, block: Block) -> None:
    """The demand register shows a share of the highest power."""
    block.demand[row] = share


def goes_out(row: int, hours: tuple[int, ...], start: int, block: Block) -> None:
    """An hour without supply, some hours after a start."""
    if (block.start - start) // HOUR_SECONDS in hours:
        block.scale[row] = 0
        block.read[:, row] = False


def _fed_elsewhere(row: int, block: Block) -> None:
    """The next area's transformer feeds the meter."""
    block.fed[row] = (block.fed[row] + 1) % (block.fed.max() + 1)


def connected(row: int, start: int, block: Block) -> None:
    """There is no meter before a moment."""
    if block.start < start:
        block.scale[row] = 0
        block.read[:, row] = False


def outage_events(hours: tuple[int, ...]) -> tuple[tuple[float, Event], ...]:
    """The events of outages of an hour each: power off, an hour later on."""
    events: list[tuple[float, Event]] = []
    for hour in hours:
        events += [(hour, Event.POWER_OFF), (hour + 1, Event.POWER_ON)]
    return tuple(events)


OUTAGE_HOURS = (0, 50, 120)  # hours after the first outage
RECORD_FAULTS = (
    Fault(
        "calibration_due",
        "the day by which the meter is to be exchanged passes",
        home,
        record=lambda meter, at: replace(meter, calibration_due=at),
        needs=1.5,
    ),
    Fault(
        "file_inconsistency",
        "the file gives a shop the trade of a farm",
        _business,
        record=lambda meter, _: replace(meter, trade="A"),
        needs=1.5,
    ),
    Fault(
        "contract_gap",
        "the contract on file is signed for half as much again",
        _business,
        record=lambda meter, _: replace(
            meter, signed_kva=1.5 * (meter.contract_kva or 0)
        ),
        needs=1.5,
    ),
    Fault(
        "contract_expiry",
        "the contract ends in 55 days",
        _business,
        record=lambda meter, at: replace(meter, contract_until=at + 55 * DAY_SECONDS),
        needs=1.5,
    ),
    Fault(
        "suspended_use",
        "70 % of the capacity are suspended, and all is used as before",
        works,
        record=lambda meter, _: replace(
            meter, suspended_kva=round(0.7 * (meter.contract_kva or 0))
        ),
        needs=2,
        echoes=HIGH_LOAD_RULES,
    ),
    Fault(
        "use_after_stop",
        "the account is closed, and the home uses on",
        home,
        record=lambda meter, at: replace(meter, stopped=at),
        needs=2.5,
    ),
    Fault(
        "demand_over_contract",
        "the works declare half the demand they have",
        works,
        record=lambda meter, _: replace(
            meter, declared_kw=round(0.5 * (meter.declared_kw or 0))
        ),
        needs=1.5,
    ),
    Fault(
        "ct_ratio_mismatch",
        "transformers of twice the ratio, not entered on file",
        office,
        after=lambda row, _, block: transformed(row, 0.5, block),
        needs=4.5,
        echoes=(*LOW_USE_RULES, "power_differential"),
    ),
    Fault(
        "ct_ratio_step",
        "the file doubles the ratio, the transformers are the old ones",
        office,
        record=lambda meter, _: replace(meter, ct=2 * meter.ct),
        earliest=8,
        needs=11,
        echoes=("ct_ratio_mismatch", *HIGH_LOAD_RULES, *LOSS_RULES),
    ),
)
NEW_METER_FAULTS = (
    Fault(
        "new_install_check",
        "a new customer whose meter is never read",
        home,
        new=True,
        needs=5,
        record=lambda meter, _: meter,
        before=connected,
        after=lambda row, _, block: unread(row, block),
        echoes=("read_failure", "read_success_rate"),
    ),
    Fault(
        "area_mismatch",
        "a home of this area's files is fed by the next transformer",
        home,
        needs=16,
        before=lambda row, _, block: _fed_elsewhere(row, block),
        echoes=("phase_mismatch", *LOSS_RULES),
    ),
)
MEASUREMENT_FAULTS = (
    Fault(
        "register_sum_mismatch",
        "the tariffs' registers count nine tenths of what the total counts",
        through_ct,
        after=lambda row, _, block: _loses_tariff(row, 0.9, block),
        needs=3.5,
    ),
    Fault(
        "register_interval_sum",
        "the curve holds 95 % of what the register counts",
        _business,
        after=lambda row, _, block: _shows_intervals(row, 0.95, block),
        needs=2.5,
        echoes=MISCOUNT_RULES,
    ),
    Fault(
        "demand_register_error",
        "the demand register shows four fifths of the highest power",
        through_ct,
        after=lambda row, _, block: _misses_demand(row, 0.8, block),
        needs=3.5,
    ),
    Fault(
        "meter_runaway",
        "the register runs fifteen times as fast",
        home,
        after=lambda row, _, block: miscounts(row, 15, block),
        needs=2.5,
        echoes=(*MISCOUNT_RULES, "over_contract_capacity", "capacity_expansion"),
    ),
    Fault(
        "current_break",
        "the current circuit of phase B is open",
        through_ct,
        after=lambda row, _, block: current(row, slice(1, 2), 0.0, block),
        lasts=3,
        earliest=6,
        echoes=("current_loss", "meter_current_unbalance", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "unregistered_reverse",
        "a roof of 3 kW feeds in, and nobody entered it",
        home,
        before=lambda row, _, block: shines(row, 3, block),
        needs=4.5,
        echoes=("reverse_polarity", "usage_fluctuation"),
    ),
    Fault(
        "low_power_factor",
        "motors run idle",
        office,
        before=lambda row, _, block: _lags(row, 4, 0.3, block),
        lasts=3,
        echoes=("monthly_power_factor", "step_drop", *HIGH_LOAD_RULES),
    ),
)
LOAD_FAULTS = (
    Fault(
        "customer_transformer_overload",
        "the works use 2.5 times what their transformer was chosen for",
        works,
        before=lambda row, _, block: load(row, 2.5, block),
        needs=3,
        echoes=HIGH_LOAD_RULES,
    ),
    Fault(
        "capacity_expansion",
        "machines of twice the contract",
        office,
        before=lambda row, _, block: load(row, 2.4, block),
        needs=6.5,
        echoes=HIGH_LOAD_RULES,
    ),
    Fault(
        "meter_overcurrent",
        "three times the load the transformers were chosen for",
        office,
        before=lambda row, _, block: _pulls(row, 3, block),
        lasts=2,
        needs=2.5,
        echoes=(
            *HIGH_LOAD_RULES,
            "transformer_overload",
            "transformer_overload_expected",
            "voltage_deviation",
        ),
    ),
)
REPORTED_FAULTS = (
    Fault(
        "seal_or_cover_event",
        "the cover is opened, and from then on half of the use is missing",
        home,
        after=lambda row, _, block: current(row, slice(None), 0.45, block),
        needs=2.5,
        echoes=LOW_USE_RULES,
        events=((0, Event.COVER_OPEN), (0.3, Event.COVER_CLOSED)),
    ),
    Fault(
        "magnetic_field",
        "a magnet on the meter for days, which counts half of what flows",
        home,
        after=lambda row, _, block: miscounts(row, 0.5, block),
        lasts=6,
        needs=6,
        echoes=(*LOW_USE_RULES, *MISCOUNT_RULES),
        events=((0, Event.MAGNETIC_FIELD), (144, Event.MAGNETIC_FIELD_END)),
    ),
    Fault(
        "param_change_unordered",
        "a tariff is set without an order",
        home,
        needs=2.5,
        events=((0, Event.PARAM_CHANGE),),
    ),
    Fault(
        "relay_unanswered",
        "the relay answers none of three commands",
        home,
        needs=1,
        events=(
            (0, Event.RELAY_FAILED),
            (1, Event.RELAY_FAILED),
            (2, Event.RELAY_FAILED),
        ),
    ),
    Fault(
        "voltage_sag",
        "a motor starts four times a day: 60 % of the voltage for a fifth of a second",
        _business,
        needs=1,
        lasts=1,
        depth=(0.6, 0.2),
        events=tuple((n * 2.5, Event.VOLTAGE_SAG) for n in range(4)),
    ),
    Fault(
        "frequent_outage",
        "three outages of an hour within a week",
        home,
        needs=6.5,
        after=lambda row, start, block: goes_out(row, OUTAGE_HOURS, start, block),
        events=outage_events(OUTAGE_HOURS),
    ),
)


def _fast_clock(row: int, seconds: float, block: Block) -> None:
    """The clock is so many seconds ahead."""
    block.clock[row] += seconds


SMALL_FAULTS = Kinds(
    (
        Fault(
            "small_voltage_loss",
            "74 % of phase B's voltage are left",
            through_ct,
            rules=("voltage_loss",),
            after=lambda row, _, block: voltage(row, 1, 0.74, block),
            lasts=2,
            echoes=("voltage_deviation", *TERMINAL_LOSS_RULES),
        ),
        Fault(
            "small_unbalance",
            "45 % of the load hang on phase A",
            through_ct,
            rules=("meter_current_unbalance",),
            before=lambda row, _, block: uneven(row, (0.45, 0.28, 0.27), block),
            lasts=3,
            echoes=("area_load_unbalance",),
        ),
        Fault(
            "small_sag",
            "a bad contact in the service line takes 28 V",
            home,
            rules=("voltage_deviation",),
            after=lambda row, _, block: sagged(row, 28, block),
            lasts=3,
            needs=3,
        ),
        Fault(
            "small_overload",
            "a peak of a tenth above the contract, day after day",
            office,
            rules=("over_contract_capacity",),
            before=lambda row, _, block: load(row, 1.65, block),
            needs=7,
            echoes=HIGH_LOAD_RULES,
        ),
        Fault(
            "small_ratio_error",
            "the meter counts 86 % of what flows",
            office,
            rules=("energy_ratio_error",),
            after=lambda row, _, block: miscounts(row, 0.86, block),
            needs=4.5,
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "small_differential",
            "a burden takes 13 % of what the meter measures",
            through_ct,
            lasts=3,
            needs=3,
            rules=("power_differential",),
            after=lambda row, _, block: bridged(row, 0.87, block),
            echoes=LOSS_RULES,
        ),
        Fault(
            "small_bridge",
            "28 % of the phase current go around the meter",
            home,
            rules=("neutral_phase_mismatch",),
            after=lambda row, _, block: bridged(row, 0.72, block),
            needs=4,
            echoes=LOSS_RULES,
        ),
        Fault(
            "small_tariff_gap",
            "the tariffs' registers count 99 % of what the total counts",
            through_ct,
            rules=("register_sum_mismatch",),
            after=lambda row, _, block: _loses_tariff(row, 0.99, block),
            needs=4.5,
        ),
        Fault(
            "small_curve_gap",
            "the curve holds 98.5 % of what the register counts",
            _business,
            rules=("register_interval_sum",),
            after=lambda row, _, block: _shows_intervals(row, 0.985, block),
            needs=3.5,
            echoes=MISCOUNT_RULES,
        ),
        Fault(
            "small_demand_error",
            "the demand register shows 92 % of the highest power",
            through_ct,
            needs=4.5,
            rules=("demand_register_error",),
            after=lambda row, _, block: _misses_demand(row, 0.92, block),
        ),
        Fault(
            "small_clock_error",
            "the clock is six minutes ahead",
            home,
            rules=("clock_drift",),
            before=lambda row, _, block: _fast_clock(row, 360, block),
        ),
        Fault(
            "small_distortion",
            "distortion of the voltage grows by 3.2 points",
            through_ct,
            rules=("harmonics_thd",),
            after=lambda row, _, block: distorted(row, 3.2, block),
            lasts=3,
            needs=3,
        ),
        Fault(
            "small_runaway",
            "the register runs eleven times as fast",
            home,
            rules=("meter_runaway",),
            after=lambda row, _, block: miscounts(row, 11, block),
            needs=3.5,
            echoes=(*MISCOUNT_RULES, "over_contract_capacity", "capacity_expansion"),
        ),
        Fault(
            "small_roof",
            "a roof of 0.8 kW feeds in, and nobody entered it",
            home,
            rules=("unregistered_reverse",),
            before=lambda row, _, block: shines(row, 0.8, block),
            needs=7,
            echoes=("reverse_polarity",),
        ),
        Fault(
            "small_step",
            "a tenth of the energy goes around the meter",
            home,
            rules=LOSS_RULES,
            needs=12,
            after=lambda row, _, block: current(row, slice(None), 0.9, block),
            echoes=LOW_USE_RULES,
        ),
    ),
    (),
    office=False,
)


def _hot_transformer(plan: Plan, area: int) -> Iterator[Happening]:
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


def _islanded(plan: Plan, area: int) -> Iterator[Happening]:
    """A generating set feeds an area during works, and runs too fast."""
    at, rows = plan.when(1), np.flatnonzero(plan.grid.area == area)
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


def _loose_contact(plan: Plan, area: int) -> Iterator[Happening]:
    """A loose contact takes a fourteenth of phase A's voltage; loads draw the same power."""
    if plan.days < 5:
        return

    grid, at = plan.grid, plan.when(3.5)
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
        lower = rows[grid.three[rows] | grid.gateway[rows] | (block.phase[rows] == 0)]
        block.U[0][:, lower] *= 0.93
        block.I[0][:, lower] /= 0.93

    yield Happening(at, at + 3 * DAY_SECONDS, after=change, planted=planted)


def _badly_read(plan: Plan, area: int) -> Iterator[Happening]:
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
        lost = rng.random((len(block.read), len(rows))) < 1 / 12
        block.read[:, rows] &= ~lost

    yield Happening(at, at + 3 * DAY_SECONDS, after=change, planted=planted)


def _often_out(plan: Plan, area: int) -> Iterator[Happening]:
    """A whole area goes out three times, an hour each."""
    if plan.days < 8:
        return

    at, name = plan.when(6.5), plan.grid.areas[area]
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


ALL_FAULTS = Kinds(
    (
        *LOAD_FAULTS,
        *RECORD_FAULTS,
        *NEW_METER_FAULTS,
        *MEASUREMENT_FAULTS,
        *REPORTED_FAULTS,
        *USUAL_FAULTS.meters,
    ),
    (
        *USUAL_FAULTS.areas[:3],
        *USUAL_FAULTS.areas[4:],
        _hot_transformer,
        _islanded,
        _loose_contact,
        _badly_read,
        _often_out,
    ),
)


SLOW_FAULTS = Kinds(
    (
        Fault(
            "low_usage",
            "all but a thirtieth of the use goes around the meter",
            _middling,
            times=8,
            earliest=0,
            needs=75.7,
            after=lambda row, _, block: current(row, slice(None), 0.03, block),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "peer_shortfall",
            "six sevenths of the use go around the meter",
            _middling,
            times=8,
            earliest=0,
            needs=75.7,
            after=lambda row, _, block: current(row, slice(None), 0.14, block),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "monthly_power_factor",
            "the capacitors are switched off for good",
            office,
            times=8,
            needs=73,
            before=lambda row, _, block: _lags(row, 0.95, 1, block),
            echoes=HIGH_LOAD_RULES,
        ),
        Fault(
            "new_and_idle",
            "a new customer all of whose use goes around the meter",
            home,
            times=8,
            new=True,
            record=lambda meter, _: meter,
            needs=65,
            before=connected,
            after=lambda row, _, block: current(row, slice(None), 0.01, block),
            rules=("new_install_check",),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "zero_usage_home",
            "a whole home goes around the meter, voltage is there",
            home,
            times=8,
            needs=38,
            earliest=25,
            after=lambda row, _, block: current(row, slice(None), 0.0, block),
            rules=("zero_usage",),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "voltage_current_decoupling",
            "six sevenths of the use go around a meter on a long line",
            _distant,
            times=8,
            needs=12,
            earliest=32,
            after=lambda row, _, block: current(row, slice(None), 0.14, block),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "usage_fluctuation",
            "three times the use from one day on",
            home,
            times=8,
            needs=10,
            earliest=32,
            before=lambda row, _, block: load(row, 3, block),
            echoes=HIGH_LOAD_RULES,
        ),
        Fault(
            "near_zero_usage",
            "all but a twenty-fifth of the use goes around the meter",
            home,
            times=8,
            needs=12,
            earliest=32,
            after=lambda row, _, block: current(row, slice(None), 0.04, block),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "step_drop",
            "60 % of the use go around the meter",
            home,
            times=8,
            needs=12,
            earliest=32,
            after=lambda row, _, block: current(row, slice(None), 0.4, block),
            echoes=LOW_USE_RULES,
        ),
    ),
    (),
)

"""Further kinds of fault that the town can have; the bench plants them."""

from __future__ import annotations

from msgspec.structs import replace

from replay.simulation.area_faults import (
    OUTAGE_HOURS,
    badly_read,
    hot_transformer,
    islanded,
    loose_contact,
    often_out,
    outage_events,
)
from replay.simulation.changes import (
    connected,
    current,
    fed_elsewhere,
    goes_out,
    lags,
    load,
    loses_tariff,
    miscounts,
    misses_demand,
    pulls,
    shines,
    shows_intervals,
    transformed,
    unread,
)
from replay.simulation.customers import business, home, office, through_ct, works
from replay.simulation.happenings import (
    HIGH_LOAD_RULES,
    LOSS_RULES,
    LOW_USE_RULES,
    MISCOUNT_RULES,
    TERMINAL_LOSS_RULES,
)
from replay.simulation.plan import Fault, Kinds
from replay.simulation.usual_faults import USUAL_FAULTS
from schemas.columns import Event
from schemas.units import DAY_SECONDS

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
        business,
        record=lambda meter, _: replace(meter, trade="A"),
        needs=1.5,
    ),
    Fault(
        "contract_gap",
        "the contract on file is signed for half as much again",
        business,
        record=lambda meter, _: replace(
            meter, signed_kva=1.5 * (meter.contract_kva or 0)
        ),
        needs=1.5,
    ),
    Fault(
        "contract_expiry",
        "the contract ends in 55 days",
        business,
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
        before=lambda row, _, block: fed_elsewhere(row, block),
        echoes=("phase_mismatch", *LOSS_RULES),
    ),
)


MEASUREMENT_FAULTS = (
    Fault(
        "register_sum_mismatch",
        "the tariffs' registers count nine tenths of what the total counts",
        through_ct,
        after=lambda row, _, block: loses_tariff(row, 0.9, block),
        needs=3.5,
    ),
    Fault(
        "register_interval_sum",
        "the curve holds 95 % of what the register counts",
        business,
        after=lambda row, _, block: shows_intervals(row, 0.95, block),
        needs=2.5,
        echoes=MISCOUNT_RULES,
    ),
    Fault(
        "demand_register_error",
        "the demand register shows four fifths of the highest power",
        through_ct,
        after=lambda row, _, block: misses_demand(row, 0.8, block),
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
        before=lambda row, _, block: lags(row, 4, 0.3, block),
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
        before=lambda row, _, block: pulls(row, 3, block),
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
        business,
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
        hot_transformer,
        islanded,
        loose_contact,
        badly_read,
        often_out,
    ),
)

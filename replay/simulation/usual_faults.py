"""The faults that a town has unless others are asked for."""

from __future__ import annotations

from replay.simulation.area_faults import harmonics, overload, thefts, unbalance
from replay.simulation.changes import (
    bridged,
    clock_ahead,
    crossed,
    current,
    distorted,
    flagged,
    hung,
    load,
    lost_phase,
    miscounts,
    register_falls,
    sagged,
    stands_still,
    uneven,
    unread,
    voltage,
    voltages,
)
from replay.simulation.customers import direct, home, office, shop, through_ct
from replay.simulation.happenings import LOSS_RULES, TERMINAL_LOSS_RULES
from replay.simulation.plan import Fault, Kinds
from schemas.columns import Flag

USUAL_METER_FAULTS = (
    Fault(
        "voltage_loss",
        "phase B of the voltage circuit has a bad contact, 40 % of the voltage is left",
        through_ct,
        after=lambda row, _, block: voltage(row, 1, 0.4, block),
        lasts=2,
        echoes=("voltage_deviation", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "phase_break",
        "the fuse of phase C has blown",
        through_ct,
        before=lambda row, _, block: lost_phase(row, 2, block),
        after=lambda row, _, block: voltage(row, 2, 0.04, block),
        lasts=1,
        echoes=("meter_current_unbalance", "voltage_deviation"),
    ),
    Fault(
        "current_loss",
        "the current transformer of phase A is short-circuited",
        through_ct,
        after=lambda row, _, block: current(row, slice(0, 1), 0.0, block),
        lasts=3,
        echoes=("meter_current_unbalance", "current_break", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "reverse_polarity",
        "the current transformer of phase C is connected the wrong way round",
        through_ct,
        after=lambda row, _, block: current(row, slice(2, 3), -1.0, block),
        lasts=3,
        echoes=("wrong_wiring_vector", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "meter_current_unbalance",
        "most of the load hangs on phase A",
        through_ct,
        before=lambda row, _, block: uneven(row, (0.62, 0.2, 0.18), block),
        lasts=3,
        echoes=("area_load_unbalance",),
    ),
    Fault(
        "voltage_deviation",
        "a bad contact in the service line takes 38 V",
        home,
        after=lambda row, _, block: sagged(row, 38, block),
        lasts=2,
    ),
    Fault(
        "over_contract_capacity",
        "a new workshop at more than twice the load of the contract",
        office,
        before=lambda row, _, block: load(row, 2.2, block),
        needs=3.5,
        echoes=("capacity_expansion",),
    ),
    Fault(
        "meter_stopped",
        "the register stands still while power flows",
        home,
        after=lambda row, _, block: stands_still(row, block),
        echoes=("zero_usage", "energy_ratio_error", *LOSS_RULES),
    ),
    Fault(
        "energy_ratio_error",
        "the meter counts 60 % of what flows",
        office,
        after=lambda row, _, block: miscounts(row, 0.6, block),
        needs=4.5,
        echoes=LOSS_RULES,
    ),
    Fault(
        "register_decrease",
        "the register shows 150 kWh less than before",
        home,
        before=lambda row, start, block: register_falls(
            row, 150.0 * (block.start == start), block
        ),
    ),
    Fault(
        "zero_usage",
        "the whole meter is bypassed, voltage is there",
        shop,
        after=lambda row, _, block: current(row, slice(None), 0.0, block),
        needs=9,
        echoes=LOSS_RULES,
    ),
    Fault(
        "read_failure",
        "the communication module is dead",
        home,
        after=lambda row, _, block: unread(row, block),
        needs=4.5,
        echoes=("read_success_rate",),
    ),
    Fault(
        "clock_drift",
        "the clock gains a minute an hour",
        home,
        before=clock_ahead,
        needs=1.5,
    ),
    Fault(
        "all_voltage_loss",
        "the voltage circuit is open behind the test block, 15 % are left",
        through_ct,
        after=lambda row, _, block: voltages(row, (0.15, 0.14, 0.16), block),
        lasts=2,
        echoes=("voltage_loss", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "reverse_sequence",
        "two phases of the supply are exchanged, with their currents",
        through_ct,
        after=lambda row, _, block: flagged(row, Flag.REVERSED_SEQUENCE, block),
        lasts=2,
    ),
    Fault(
        "wrong_wiring_vector",
        "the currents of phases A and B are crossed",
        through_ct,
        after=lambda row, _, block: crossed(row, block),
        lasts=3,
        needs=1.5,
        echoes=("reverse_polarity", "low_power_factor", *TERMINAL_LOSS_RULES),
    ),
    Fault(
        "neutral_phase_mismatch",
        "60 % of the phase current goes around the meter, the neutral carries all",
        home,
        after=lambda row, _, block: bridged(row, 0.4, block),
        needs=2,
        echoes=LOSS_RULES,
    ),
    Fault(
        "meter_voltage_unbalance",
        "the neutral before the meter is broken",
        direct,
        after=lambda row, _, block: voltages(row, (1.4, 0.8, 0.9), block),
        lasts=0.5,
        echoes=("voltage_deviation", "pq_voltage_unbalance", *LOSS_RULES),
    ),
    Fault(
        "power_differential",
        "a burden on the current transformers takes a fifth of what the meter measures",
        through_ct,
        after=lambda row, _, block: bridged(row, 0.8, block),
        lasts=3,
        echoes=LOSS_RULES,
    ),
    Fault(
        "relay_mismatch",
        "the relay was ordered to open, its contacts are welded",
        home,
        after=lambda row, _, block: flagged(row, Flag.RELAY_OPEN, block),
        lasts=3,
    ),
    Fault(
        "phase_mismatch",
        "the home was moved to the next phase, the file was not",
        home,
        before=lambda row, _, block: hung(row, (int(block.phase[row]) + 1) % 3, block),
        needs=16,
    ),
    Fault(
        "harmonics_thd",
        "a rectifier without a filter distorts the voltage",
        through_ct,
        after=lambda row, _, block: distorted(row, 4.0, block),
        lasts=2,
    ),
)


USUAL_FAULTS = Kinds(
    USUAL_METER_FAULTS, (thefts, overload, unbalance, thefts, harmonics)
)

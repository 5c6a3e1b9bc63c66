"""Faults that only weeks or months show."""

from __future__ import annotations

from replay.simulation.changes import connected, current, lags, load
from replay.simulation.customers import distant, home, middling, office
from replay.simulation.happenings import HIGH_LOAD_RULES, LOW_USE_RULES
from replay.simulation.plan import Fault, Kinds

SLOW_FAULTS = Kinds(
    (
        Fault(
            "low_usage",
            "all but a thirtieth of the use goes around the meter",
            middling,
            times=8,
            earliest=0,
            needs=75.7,
            after=lambda row, _, block: current(row, slice(None), 0.03, block),
            echoes=LOW_USE_RULES,
        ),
        Fault(
            "peer_shortfall",
            "six sevenths of the use go around the meter",
            middling,
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
            before=lambda row, _, block: lags(row, 0.95, 1, block),
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
            distant,
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

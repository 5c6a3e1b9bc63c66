"""Happenings of the simulated town: each changes flows or metering, and events report it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.simulation.network import SLOT_SECONDS, Values
from schemas.alert import Alert
from schemas.columns import Codes, Event, Mask
from schemas.master import Meter
from schemas.units import DAY_SECONDS

BLOCK_SLOTS = 4  # slots
BLOCK_SECONDS = BLOCK_SLOTS * SLOT_SECONDS
SLOT_HOURS = np.float32(SLOT_SECONDS / 3600)
# rules that find energy which a meter no longer counts
LOSS_RULES = ("area_loss_high", "area_loss_correlation", "voltage_current_decoupling")
# rules that find lost energy where a terminal measures beside the meter
TERMINAL_LOSS_RULES = ("power_differential", *LOSS_RULES)
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
    "model_score",
)
MISCOUNT_RULES = (
    *LOSS_RULES,
    "energy_ratio_error",
    "usage_fluctuation",
    "register_interval_sum",
)


@dataclass(frozen=True)
class Planted:
    """A fault that was put into the town, and the rules that should find it; a decoy has none."""

    kind: str
    rules: tuple[str, ...]  # any of them finds it
    area: str
    subject: str  # "" for a whole area
    start: int
    end: int
    note: str
    echoes: tuple[str, ...] = ()  # rules that may rightly raise for its consequences

    def found_by(self, alert: Alert) -> bool:
        """True if one of the fault's rules raised the alert, on its subject and in its time."""
        return (
            alert.rule in self.rules
            and self.subject in ("", alert.subject)
            and self._meets(alert)
        )

    def explains(self, alert: Alert) -> bool:
        """True if this fault or its consequences caused the alert."""
        related = self.subject in ("", alert.subject) or not alert.subject
        return self.found_by(alert) or (
            alert.rule in self.echoes and related and self._meets(alert)
        )

    def _meets(self, alert: Alert) -> bool:
        return (
            alert.area == self.area
            and self.start <= alert.raised
            and alert.since <= self.end + DAY_SECONDS
        )


@dataclass
class Block:
    """Some slots of the town: changes before the physics alter loads, later ones the metering."""

    start: int  # Unix seconds at which its first interval begins
    scale: Values  # (rows,) times the usual load
    cap_kw: Values  # (rows,) most that the supply lets through
    fed: Codes  # (rows,) area whose transformer feeds a single-phase meter
    phase: Codes  # (rows,) of a single-phase meter
    share: Values  # (3, rows) of a three-phase user's load
    tan: Values  # (rows,) reactive over active power
    pv_kw: Values  # (rows,) that the sun brings at noon
    register: NDArray[np.float64]  # (rows,) kWh, secondary
    counts: Values  # (rows,) share of what flows that the meter counts
    curve: Values  # (rows,) share of what it counts that its intervals show
    by_tariff: Values  # (rows,) share of what it counts that its tariff registers show
    demand: Values  # (rows,) share of the highest power that its demand register shows
    set_ratio: Values  # (rows,) ratio that it is set to
    hertz: Values  # (rows,) Hz off the town's frequency
    clock: Values  # (rows,) seconds the meter's clock is ahead
    read: Mask  # (slots, rows)
    U: Values  # (3, slots, rows) V
    I: Values  # (3, slots, rows) A, secondary
    P: Values  # (3, slots, rows) kW, secondary
    Q: Values  # (3, slots, rows) kvar, secondary
    neutral: Values  # (slots, rows) A, secondary
    thd: Values  # (3, slots, rows) %
    terminal: Values  # (slots, rows) kW, secondary, by a terminal beside the meter
    flags: Codes  # (rows,) Flag bits


Change = Callable[[Block], None]


@dataclass(frozen=True)
class Notice:
    """A device event that reports a happening."""

    at: int
    area: str
    subject: str
    event: Event
    until: int = 0
    residual: float = float("nan")  # pu
    seconds: float = float("nan")


@dataclass(frozen=True)
class RecordChange:
    """A change of a meter's record from a moment on, for as long as the happening lasts."""

    area: str
    meter: str
    since: int
    change: Callable[[Meter], Meter]
    new: bool = False  # whether there was no such meter before


@dataclass(frozen=True)
class Happening:
    """A change to the blocks that start within a span of time."""

    start: int
    end: int
    before: Change | None = None  # the physics
    after: Change | None = None
    planted: Planted | None = None
    notices: tuple[Notice, ...] = ()
    record_change: RecordChange | None = None

    def during(self, block: Block) -> bool:
        """True if the block starts within the span."""
        return self.start <= block.start < self.end

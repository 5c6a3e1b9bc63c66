"""Attacks on meters, after the literature, and the rules that may find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from replay.simulation.happenings import LOSS_RULES, Block, Happening, Planted
from replay.simulation.network import Grid, Values
from schemas.units import DAY_SECONDS, HOUR_SECONDS


@dataclass(frozen=True)
class Flow:
    """What flows through a meter, slot by slot, and what usually does."""

    start: int  # Unix seconds at which the first slot begins
    first: int  # the first slot's place in the local day
    kw: Values
    mean_kw: float | np.float32
    day_kw: Values  # usual power by slot of the local day, in any unit
    seed: tuple[int, int]

    def rng(self, *more: int) -> np.random.Generator:
        """Draws of this meter, the same each time."""
        return np.random.default_rng([*self.seed, *more])

    def slot_starts(self) -> NDArray[np.int64]:
        """Unix seconds at which the slots begin."""
        seconds = DAY_SECONDS // len(self.day_kw)
        return self.start + seconds * np.arange(len(self.kw))


def _share_always(flow: Flow, low: float, high: float) -> Values:
    """The same share always."""
    share = flow.rng().uniform(low, high)
    return np.full(len(flow.kw), share, np.float32)


def _nothing_for(flow: Flow, hours: int) -> Values:
    """Nothing in a span of hours that is the same every day."""
    begins = int(flow.rng().integers(24))
    hour = flow.slot_starts() // HOUR_SECONDS
    return np.asarray((hour - begins) % 24 >= hours, np.float32)


def _share_by_slot(flow: Flow, low: float, high: float) -> Values:
    """Another share in every slot."""
    shares = flow.rng(flow.start).uniform(low, high, len(flow.kw))
    return shares.astype(np.float32)


def _share_of_mean(flow: Flow, low: float, high: float) -> Values:
    """Another share of the mean in every slot."""
    return _share_by_slot(flow, low, high) * _shares_h5(flow)


def _shares_h5(flow: Flow) -> Values:
    """The mean, whatever flows: only the peaks are missing."""
    drawn = np.maximum(flow.kw, 1e-3)
    return np.asarray(flow.mean_kw / drawn, np.float32)


def _shares_h6(flow: Flow) -> Values:
    """The day turned round: only energy of dear hours is missing."""
    slots = (flow.first + np.arange(len(flow.kw))) % len(flow.day_kw)
    usual = flow.day_kw[slots]
    turned = flow.day_kw[::-1][slots]
    return np.asarray(turned / usual, np.float32)


def _shares_fdi2(flow: Flow) -> Values:
    """Load above 1.3 times the mean is cut off."""
    return np.minimum(1, 1.3 * _shares_h5(flow))


def _shares_fdi3(flow: Flow) -> Values:
    """0.7 times the mean is taken off the load."""
    return np.maximum(0, 1 - 0.7 * _shares_h5(flow))


@dataclass(frozen=True)
class Attack:
    """A way to register less than is used, slot by slot, and the rules that may find it."""

    note: str
    shares: Callable[[Flow], Values]
    rules: tuple[str, ...]


SUSPECT_RULE = "area_loss_correlation"
MODEL_RULE = "model_score"
# further rules that may find a thief by the form of a day
PROFILE_RULES = (
    "step_drop",
    "usage_fluctuation",
    "timed_zero_block",
    "clipped_profile",
    "flat_profile",
    "tou_inversion",
    "capacity_expansion",
    MODEL_RULE,
)
THEFT_ATTACKS = {  # after Jokar et al. 2016, the last two after Zheng K. et al. 2019
    "h1": Attack(
        "a share of the use, always the same",
        partial(_share_always, low=0.1, high=0.8),
        (SUSPECT_RULE, "step_drop", MODEL_RULE),
    ),
    "h2": Attack(
        "nothing for six hours of the day",
        partial(_nothing_for, hours=6),
        (SUSPECT_RULE, "timed_zero_block", MODEL_RULE),
    ),
    "h3": Attack(
        "a share that changes with every interval",
        partial(_share_by_slot, low=0.1, high=0.8),
        (SUSPECT_RULE, "step_drop", MODEL_RULE),
    ),
    "h4": Attack(
        "changing shares of the mean",
        partial(_share_of_mean, low=0.1, high=0.8),
        (SUSPECT_RULE, "step_drop", "flat_profile", MODEL_RULE),
    ),
    "h5": Attack(
        "the mean instead of the curve: no energy is missing",
        _shares_h5,
        ("flat_profile", MODEL_RULE),
    ),
    "h6": Attack(
        "the curve turned round: no energy is missing", _shares_h6, ("tou_inversion",)
    ),
    "FDI2": Attack(
        "the peaks cut off", _shares_fdi2, (SUSPECT_RULE, "clipped_profile")
    ),
    "FDI3": Attack(
        "only what lies above a line",
        _shares_fdi3,
        (SUSPECT_RULE, "step_drop", "timed_zero_block", MODEL_RULE),
    ),
}

ALL_ATTACKS = THEFT_ATTACKS | {  # of Zheng K. et al., as h1 to h4 but for their ranges
    "FDI1": Attack(
        "a fifth to four fifths of the use, always the same share",
        partial(_share_always, low=0.2, high=0.8),
        THEFT_ATTACKS["h1"].rules,
    ),
    "FDI4": Attack(
        "nothing for five hours of the day",
        partial(_nothing_for, hours=5),
        THEFT_ATTACKS["h2"].rules,
    ),
    "FDI5": Attack(
        "a fifth to four fifths, changing with every interval",
        partial(_share_by_slot, low=0.2, high=0.8),
        THEFT_ATTACKS["h3"].rules,
    ),
    "FDI6": Attack(
        "a fifth to four fifths of the mean, changing",
        partial(_share_of_mean, low=0.2, high=0.8),
        THEFT_ATTACKS["h4"].rules,
    ),
}


def flow_of(grid: Grid, row: int, seed: int, block: Block) -> Flow:
    """What flows through a customer's meter in a block."""
    day = grid.shapes[grid.segment[row], 0]
    seconds = DAY_SECONDS // len(day)
    return Flow(
        block.start,
        (block.start + 8 * HOUR_SECONDS) // seconds % len(day),  # Shanghai
        np.asarray(np.nansum(block.P[:, :, row], axis=0) * grid.ratio[row]),
        grid.mean_kw[row],
        day,
        (seed, row),
    )


def _registered(row: int, shares: Values, block: Block) -> None:
    """Meter and neutral see a share of what flows, slot by slot: both wires are tapped."""
    for column in (block.I, block.P, block.Q):
        column[:, :, row] *= shares
    block.neutral[:, row] *= shares


def attacked(
    grid: Grid, kind: str, row: int, span: tuple[int, int], seed: int
) -> Happening:
    """One customer registers less than it uses; the gateway meter counts all of it."""
    attack = ALL_ATTACKS[kind]
    (start, end) = span

    def after(block: Block) -> None:
        _registered(row, attack.shares(flow_of(grid, row, seed, block)), block)

    planted = Planted(
        kind,
        attack.rules,
        grid.areas[grid.area[row]],
        grid.names[row],
        start,
        end,
        attack.note,
        (*LOSS_RULES, *PROFILE_RULES),
    )
    return Happening(start, end, after=after, planted=planted)

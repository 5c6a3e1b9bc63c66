"""Attacks on meters, after the literature, and the rules that may find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replay.simulation.happenings import LOSS_RULES, Block, Happening, Planted
from replay.simulation.network import Grid, Rows, Values
from schemas.units import HOUR_SECONDS


def _registered(rows: int | Rows, shares: Values, block: Block) -> None:
    """Meter and neutral see a share of what flows, slot by slot: both wires are tapped."""
    for column in (block.I, block.P, block.Q):
        column[:, :, rows] *= shares
    block.neutral[:, rows] *= shares


def _shares_h1(_: Grid, row: int, seed: int, block: Block) -> Values:
    """The same share always."""
    share = np.random.default_rng([seed, row]).uniform(0.1, 0.8)
    return np.full(len(block.read), share, np.float32)


def _shares_h2(_: Grid, row: int, seed: int, block: Block) -> Values:
    """Nothing in a span of six hours that is the same every day."""
    begins = int(np.random.default_rng([seed, row]).integers(24))
    counted = (block.start // HOUR_SECONDS - begins) % 24 >= 6
    return np.full(len(block.read), counted, np.float32)


def _shares_h3(_: Grid, row: int, seed: int, block: Block) -> Values:
    """Another share in every slot."""
    rng = np.random.default_rng([seed, row, block.start])
    return rng.uniform(0.1, 0.8, len(block.read)).astype(np.float32)


def _shares_h4(grid: Grid, row: int, seed: int, block: Block) -> Values:
    """Another share of the mean in every slot."""
    return _shares_h3(grid, row, seed, block) * _shares_h5(grid, row, seed, block)


def _shares_h5(grid: Grid, row: int, _: int, block: Block) -> Values:
    """The mean, whatever flows: only the peaks are missing."""
    return grid.mean_kw[row] / np.maximum(_power(grid, row, block), 1e-3)


def _shares_h6(grid: Grid, row: int, _: int, block: Block) -> Values:
    """The day turned round: only energy of dear hours is missing."""
    shape = grid.shapes[grid.segment[row], 0]
    first = (block.start + 8 * HOUR_SECONDS) // 900 % len(shape)
    slots = first + np.arange(len(block.read))
    return np.asarray(shape[len(shape) - 1 - slots] / shape[slots], np.float32)


def _shares_fdi2(grid: Grid, row: int, _: int, block: Block) -> Values:
    """Load above 1.3 times the mean is cut off."""
    return np.minimum(1, 1.3 * _shares_h5(grid, row, 0, block))


def _shares_fdi3(grid: Grid, row: int, _: int, block: Block) -> Values:
    """0.7 times the mean is taken off the load."""
    return np.maximum(0, 1 - 0.7 * _shares_h5(grid, row, 0, block))


def _power(grid: Grid, row: int, block: Block) -> Values:
    return np.asarray(np.nansum(block.P[:, :, row], axis=0) * grid.ratio[row])


@dataclass(frozen=True)
class Attack:
    """A way to register less than is used, slot by slot, and the rules that may find it."""

    note: str
    shares: Callable[[Grid, int, int, Block], Values]
    rules: tuple[str, ...]


SUSPECT_RULE = "area_loss_correlation"
# further rules that may find a thief by the form of a day
PROFILE_RULES = (
    "step_drop",
    "usage_fluctuation",
    "timed_zero_block",
    "clipped_profile",
    "flat_profile",
    "tou_inversion",
    "capacity_expansion",
)
THEFT_ATTACKS = {  # after Jokar et al. 2016, the last two after Zheng K. et al. 2019
    "h1": Attack(
        "a share of the use, always the same", _shares_h1, (SUSPECT_RULE, "step_drop")
    ),
    "h2": Attack(
        "nothing for six hours of the day",
        _shares_h2,
        (SUSPECT_RULE, "timed_zero_block"),
    ),
    "h3": Attack(
        "a share that changes with every interval",
        _shares_h3,
        (SUSPECT_RULE, "step_drop"),
    ),
    "h4": Attack(
        "changing shares of the mean",
        _shares_h4,
        (SUSPECT_RULE, "step_drop", "flat_profile"),
    ),
    "h5": Attack(
        "the mean instead of the curve: no energy is missing",
        _shares_h5,
        ("flat_profile",),
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
        (SUSPECT_RULE, "step_drop", "timed_zero_block"),
    ),
}


def attacked(
    grid: Grid, kind: str, row: int, span: tuple[int, int], seed: int
) -> Happening:
    """One customer registers less than it uses; the gateway meter counts all of it."""
    attack, (start, end) = THEFT_ATTACKS[kind], span

    def after(block: Block) -> None:
        _registered(row, attack.shares(grid, row, seed, block), block)

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

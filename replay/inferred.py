"""What readings themselves show of their meters, where nobody says: how often they come, and at which voltage."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.columns import Readings
from schemas.master import Wiring

CHINA = (57.7, 100.0, 220.0)  # V, nominal phase voltages behind voltage transformers and without; 100 V of three wires
THREE_WIRE = 100.0  # V, between phases
NEAR = 0.15  # of a nominal voltage, by which a meter's median may differ from it
DEAD = 0.05  # of the nominal voltage, below which a phase has none


class Supply(NamedTuple):
    """How a meter is connected."""

    wiring: Wiring
    un_v: float


def steps(readings: Readings) -> dict[int, int]:
    """The usual seconds between the readings of each meter that has two, by its number."""
    order = np.lexsort((readings.at, readings.subject))
    meter, gap = readings.subject[order][1:], np.diff(readings.at[order])
    same = meter == readings.subject[order][:-1]
    meter, gap = meter[same], gap[same]
    order = np.lexsort((gap, meter))
    starts = np.flatnonzero(np.diff(meter[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    return dict(zip(meter[order][starts].tolist(), gap[order][starts + sizes // 2].tolist(), strict=True))


def supplies(readings: Readings, levels: Sequence[float] = CHINA) -> dict[int, Supply]:
    """How each three-phase meter is connected whose voltages show one of the levels, by its number."""
    order = np.argsort(readings.subject, kind="stable")
    numbers, starts = np.unique(readings.subject[order], return_index=True)
    parts = np.split(readings.u[:, order], starts[1:], axis=1)
    found = {number: _supply(voltages, levels) for number, voltages in zip(numbers.tolist(), parts, strict=True)}
    return {number: supply for number, supply in found.items() if supply}


def _supply(voltages: NDArray[np.floating[Any]], levels: Sequence[float]) -> Supply | None:
    """What the voltages (phases, rows) of a meter show.

    One of three wires shows none on B, and between A and C the voltage of two phases. One with a single phase always
    has the full voltage: half of it is a fault and no level.
    """
    a, b, c = (float(np.median(phase[np.isfinite(phase)])) if np.isfinite(phase).any() else 0.0 for phase in voltages)
    dead = DEAD * levels[0]
    if a <= dead or c <= dead:
        return None
    live = [a, c] if b <= dead else [a, b, c]
    nominal = min(levels, key=lambda level: abs(float(np.median(live)) / level - 1))
    if any(abs(voltage / nominal - 1) > NEAR for voltage in live):
        return None
    if len(live) == len(voltages):
        return Supply("3P4W", nominal)
    return Supply("3P3W", nominal) if nominal == THREE_WIRE else None

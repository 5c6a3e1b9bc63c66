"""What readings themselves show of their meters, where nobody says: how often they come, and at which voltage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.columns import Readings
from schemas.master import Area, Meter, Wiring

CHINA_VOLTAGES = (
    57.7,
    100.0,
    220.0,
)  # V, nominal phase voltages behind voltage transformers and without; 100 V of three wires
USUAL_STEP = 900  # seconds, of a meter's interval where its record does not say
SURE_GAPS = 4  # between readings of a meter, from which on its step is sure
SHORTEST_STEP, LONGEST_STEP = 60, 86_400  # seconds that a meter's interval may have
THREE_WIRE = 100.0  # V, between phases
VOLTAGE_TOLERANCE = (
    0.15  # of a nominal voltage, by which a meter's median may differ from it
)
DEAD_SHARE = 0.05  # of the nominal voltage, below which a phase has none


def with_steps(
    areas: Iterable[Area], steps: Mapping[tuple[str, str], int], notes: list[str]
) -> tuple[list[Area], int]:
    """Areas whose meters have the intervals that their readings show, and the interval of meters without a record.

    Master data of which no meter has an interval of its own say nothing of it; what they do say holds.
    """
    told = list(areas)
    usual = max(
        Counter(steps.values()).items(),
        key=lambda item: (item[1], -item[0]),
        default=(0, 0),
    )[0]
    said = {meter.interval_s for area in told for meter in area.meters}
    if said - {USUAL_STEP} or not usual:
        return told, min(said, default=0)
    if usual != USUAL_STEP:
        notes.append(f"readings come every {usual:,} s by what they show")
    known = {(area.area, meter.meter) for area in told for meter in area.meters}
    told = [
        replace(area, meters=[_stepping(area.area, m, steps) for m in area.meters])
        for area in told
    ]
    others: dict[str, list[Meter]] = {}
    for (area, meter), step in steps.items():
        if step != usual and (area, meter) not in known:
            others.setdefault(area, []).append(Meter(meter=meter, interval_s=step))
    named = {area.area for area in told}
    strangers = [
        Area(area=area, meters=meters)
        for area, meters in others.items()
        if area not in named
    ]
    return [*told, *strangers], usual


def _stepping(area: str, meter: Meter, steps: Mapping[tuple[str, str], int]) -> Meter:
    return replace(meter, interval_s=steps.get((area, meter.meter), meter.interval_s))


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
    return dict(
        zip(
            meter[order][starts].tolist(),
            gap[order][starts + sizes // 2].tolist(),
            strict=True,
        )
    )


def sure_steps(readings: Readings) -> dict[int, int]:
    """The steps of meters that keep them: of five readings and more, half and more of the gaps are alike."""
    order = np.lexsort((readings.at, readings.subject))
    meter, gap = readings.subject[order][1:], np.diff(readings.at[order])
    known = steps(readings)
    usual = np.zeros(len(readings.names), np.int64)
    usual[list(known)] = list(known.values())
    same = meter == readings.subject[order][:-1]
    gaps, alike = (
        np.bincount(meter[rows], minlength=len(usual))
        for rows in (same, same & (gap == usual[meter]))
    )
    sure = (
        (gaps >= SURE_GAPS)
        & (2 * alike >= gaps)
        & (usual >= SHORTEST_STEP)
        & (usual <= LONGEST_STEP)
    )
    return {number: int(usual[number]) for number in np.flatnonzero(sure).tolist()}


def supplies(
    readings: Readings, levels: Sequence[float] = CHINA_VOLTAGES
) -> dict[int, Supply]:
    """How each three-phase meter is connected whose voltages show one of the levels, by its number."""
    order = np.argsort(readings.subject, kind="stable")
    numbers, starts = np.unique(readings.subject[order], return_index=True)
    parts = np.split(readings.u[:, order], starts[1:], axis=1)
    found = {
        number: _supply(voltages, levels)
        for number, voltages in zip(numbers.tolist(), parts, strict=True)
    }
    return {number: supply for number, supply in found.items() if supply}


def _supply(
    voltages: NDArray[np.floating[Any]], levels: Sequence[float]
) -> Supply | None:
    """What the voltages (phases, rows) of a meter show.

    One of three wires shows none on B, and between A and C the voltage of two phases. One with a single phase always
    has the full voltage: half of it is a fault and no level.
    """
    a, b, c = (
        float(np.median(phase[np.isfinite(phase)])) if np.isfinite(phase).any() else 0.0
        for phase in voltages
    )
    dead = DEAD_SHARE * levels[0]
    if a <= dead or c <= dead:
        return None
    live = [a, c] if b <= dead else [a, b, c]
    nominal = min(levels, key=lambda level: abs(float(np.median(live)) / level - 1))
    if any(abs(voltage / nominal - 1) > VOLTAGE_TOLERANCE for voltage in live):
        return None
    if len(live) == len(voltages):
        return Supply("3P4W", nominal)
    return Supply("3P3W", nominal) if nominal == THREE_WIRE else None

"""Properties of meters that their readings show where no record does: interval and supply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from schemas.columns import Codes, Readings, Times
from schemas.master import Area, Meter, Wiring

# V, nominal phase voltages behind voltage transformers and without; 100 V of three wires
CHINA_VOLTAGES = (57.7, 100.0, 220.0)
USUAL_STEP = 900  # s, a meter's interval where its record has none
SURE_GAPS = 4  # between readings of a meter, from which on its step is sure
SHORTEST_STEP, LONGEST_STEP = 60, 86_400  # s that a meter's interval may have
THREE_WIRE = 100.0  # V, between phases
# share of a nominal voltage by which a meter's median may differ from it
VOLTAGE_TOLERANCE = 0.15
DEAD_SHARE = 0.05  # of the lowest nominal voltage, below which a phase has none


def with_steps(
    areas: Iterable[Area], steps: Mapping[tuple[str, str], int], notes: list[str]
) -> tuple[list[Area], int]:
    """Areas whose meters have the intervals that their readings show, and the usual interval.

    The usual interval is that of meters without a record. If any record has another interval than the default, the
    records hold.
    """
    given = list(areas)
    usual = max(
        Counter(steps.values()).items(),
        key=lambda item: (item[1], -item[0]),
        default=(0, 0),
    )[0]
    recorded = {meter.interval_s for area in given for meter in area.meters}
    if recorded - {USUAL_STEP} or not usual:
        return given, min(recorded, default=0)

    if usual != USUAL_STEP:
        notes.append(f"readings come every {usual:,} s by what they show")
    stepping = []
    for area in given:
        meters = [_stepping(area.area, meter, steps) for meter in area.meters]
        stepping.append(replace(area, meters=meters))

    # meters without a record get one where their interval is not the usual one
    known = {(area.area, meter.meter) for area in given for meter in area.meters}
    others: dict[str, list[Meter]] = {}
    for (name, meter_name), step in steps.items():
        if step != usual and (name, meter_name) not in known:
            others.setdefault(name, []).append(Meter(meter=meter_name, interval_s=step))
    named = {area.area for area in given}
    stepping += [
        Area(area=name, meters=meters)
        for name, meters in others.items()
        if name not in named
    ]
    return stepping, usual


def _stepping(area: str, meter: Meter, steps: Mapping[tuple[str, str], int]) -> Meter:
    return replace(meter, interval_s=steps.get((area, meter.meter), meter.interval_s))


class Supply(NamedTuple):
    """How a meter is connected."""

    wiring: Wiring
    un_v: float


def steps(readings: Readings) -> dict[int, int]:
    """The usual seconds between the readings of each meter that has two, by its number."""
    return _median_gaps(*_gaps(readings))


def _median_gaps(meter: Codes, gap: Times) -> dict[int, int]:
    """The median of each meter's gaps, by its number."""
    order = np.lexsort((gap, meter))
    meter = meter[order]
    gap = gap[order]

    starts = np.flatnonzero(np.diff(meter, prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    middles = starts + sizes // 2
    medians = gap[middles].tolist()
    return dict(zip(meter[starts].tolist(), medians, strict=True))


def _gaps(readings: Readings) -> tuple[Codes, Times]:
    """The seconds between readings of a meter that follow each other, and the meter's number."""
    order = np.lexsort((readings.at, readings.subject))
    meter = readings.subject[order]
    gap = np.diff(readings.at[order])
    same = meter[1:] == meter[:-1]
    return meter[1:][same], gap[same]


def sure_steps(readings: Readings) -> dict[int, int]:
    """The steps of meters with five readings or more, half of whose gaps or more are alike."""
    meter, gap = _gaps(readings)
    known = _median_gaps(meter, gap)
    usual = np.zeros(len(readings.names), np.int64)
    usual[list(known)] = list(known.values())

    alike = gap == usual[meter]
    gaps = np.bincount(meter, minlength=len(usual))
    alike_gaps = np.bincount(meter[alike], minlength=len(usual))
    sure = (
        (gaps >= SURE_GAPS)
        & (2 * alike_gaps >= gaps)
        & (usual >= SHORTEST_STEP)
        & (usual <= LONGEST_STEP)
    )
    numbers = np.flatnonzero(sure).tolist()
    return {number: int(usual[number]) for number in numbers}


def supplies(
    readings: Readings, levels: Sequence[float] = CHINA_VOLTAGES
) -> dict[int, Supply]:
    """The supply of each three-phase meter whose voltages show one of the levels, by its number."""
    order = np.argsort(readings.subject, kind="stable")
    numbers, starts = np.unique(readings.subject[order], return_index=True)
    voltages_in_order = readings.u[:, order]
    by_meter = np.split(voltages_in_order, starts[1:], axis=1)
    found = {
        number: _supply(voltages, levels)
        for number, voltages in zip(numbers.tolist(), by_meter, strict=True)
    }
    return {number: supply for number, supply in found.items() if supply}


def _supply(
    voltages: NDArray[np.floating[Any]], levels: Sequence[float]
) -> Supply | None:
    """The supply that the voltages (phases, rows) of a meter show.

    A meter of three wires shows none on B, and between A and C the voltage of two phases. A meter with a single phase
    always has the full voltage: half of it is a fault and no level.
    """
    on_a, on_b, on_c = map(_median, voltages)
    dead = DEAD_SHARE * levels[0]
    if on_a <= dead or on_c <= dead:
        return None

    live = [on_a, on_c] if on_b <= dead else [on_a, on_b, on_c]
    middle = float(np.median(live))
    nominal = min(levels, key=lambda level: abs(middle / level - 1))
    if any(abs(voltage / nominal - 1) > VOLTAGE_TOLERANCE for voltage in live):
        return None
    if len(live) == len(voltages):
        return Supply("3P4W", nominal)
    return Supply("3P3W", nominal) if nominal == THREE_WIRE else None


def _median(voltages: NDArray[np.floating[Any]]) -> float:
    """The median of the known voltages, 0 if there is none."""
    known = voltages[np.isfinite(voltages)]
    return float(np.median(known)) if len(known) else 0.0

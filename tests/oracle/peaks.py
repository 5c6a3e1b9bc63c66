"""The peaks of a meter's day, of its load and its voltage unbalance; the heat of a transformer."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator

from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import Facts

OIL_RISE, WINDING_RISE = 55, 23  # K at rated load, IEC 60076-7
OIL_SECONDS, WINDING_SECONDS = 180 * 60, 8 * 60  # time constants


def day_peaks(
    meter: Meter | None, readings: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """The peaks of a day's load and unbalance; of several readings in an interval the first counts."""
    step = max(meter.interval_s if meter else 0, interval)
    expected = (end - start) / step
    first: dict[int, Facts] = {}
    for reading in readings:
        if not reading["estimated"]:
            first.setdefault((reading["at"] - start - 1) // interval, reading)

    # Loads: the highest hundredth, and the highest that lasted for two hours.
    peaks: Facts = {"kva_p99": NOT_A_NUMBER, "kva_2h": NOT_A_NUMBER}
    loads = [reading["kva"] for reading in first.values()]
    loads = sorted((kva for kva in loads if not math.isnan(kva)), reverse=True)
    if len(loads) >= 0.9 * expected:
        counts = range(1, len(loads) + 1)
        lasting = next(n for n in counts if n * step >= 2 * HOUR_SECONDS)
        peaks["kva_p99"] = loads[max(int(expected / 100), 1)]
        peaks["kva_2h"] = loads[lasting - 1]

    # Unbalance: the 95th percentile of EN 50160, and the highest.
    peaks |= {"unbalance": NOT_A_NUMBER, "unbalance_top": NOT_A_NUMBER}
    factors = [unbalance(reading) for reading in first.values()]
    factors = [factor for factor in factors if not math.isnan(factor[0])]
    values = sorted((value for value, _ in factors), reverse=True)
    enough = len(values) >= 0.9 * expected
    if enough:
        peaks["unbalance"] = values[int(expected / 20)]
        peaks["unbalance_top"] = values[0]
    peaks["stand_in"] = enough and any(by_size for _, by_size in factors)
    return peaks


def unbalance(reading: Facts) -> tuple[float, bool]:
    """Negative over positive sequence; without angles the largest departure from the mean, and True."""
    meter, volts = reading["record"], reading["u"]
    if meter is None or meter.wiring == "1P2W":
        return NOT_A_NUMBER, False
    if any(voltage < 0.78 * meter.un_v for voltage in volts):
        return NOT_A_NUMBER, False

    # Of three wires the voltages between the lines.
    phasors = [
        cmath.rect(U, math.radians(angle))
        for U, angle in zip(volts, reading["u_angle"], strict=True)
    ]
    if meter.wiring == "3P3W":
        phasors = [phasors[0], -phasors[2], phasors[2] - phasors[0]]
    turn = cmath.rect(1, math.radians(120))
    negative, positive = sorted(
        abs(phasors[0] + turn**n * phasors[1] + turn ** (2 * n) * phasors[2])
        for n in (1, 2)
    )
    if not math.isnan(negative):
        return negative / positive, False

    mean = sum(volts) / 3
    sizes = [abs(U - mean) for U in volts]
    return max(sizes, key=lambda size: -1 if math.isnan(size) else size) / mean, True


def exceeded(diary: list[Facts]) -> Iterator[Facts]:
    """A customer's days with the fifth highest share of its contract in thirty days, in whole per cent."""
    shares: list[int] = []
    for day in diary:
        meter = day["record"]
        changed = meter and meter.effective > day["at"] - DAY_SECONDS
        share = NOT_A_NUMBER
        if not changed:
            share = day["kva_p99"] / max(day["contract"] - day["suspended"], 1)

        known = not math.isnan(share)
        shares.append(min(math.floor(100 * share), 255) if known else 0)
        shares = shares[-30:]
        fifth = sorted([0, 0, 0, 0, 0, *shares])[-5] / 100
        yield day | {"fifth": (fifth or -math.inf) if known else NOT_A_NUMBER}


def heated(rows: list[Facts], interval: int) -> Iterator[Facts]:
    """A transformer's intervals with its rises of temperature, as long as its load is known."""
    oil = winding = 0.0
    then = since = felt = 0
    air = NOT_A_NUMBER
    for row in rows:
        at = row["at"]
        if not math.isnan(row["temperature"]):
            air, felt = row["temperature"], at
        facts = row | {"air": air if at - felt <= 6 * HOUR_SECONDS else math.inf}
        load = row.get("kva", NOT_A_NUMBER) / row["rating_kva"]
        if math.isnan(load) or row["coverage"] < 0.9:
            yield facts | dict.fromkeys(("oil", "winding", "heated"), NOT_A_NUMBER)
            continue

        # It cools through a gap, and is heated afresh.
        passed = at - then if then else interval
        if passed > max(HOUR_SECONDS, interval):
            oil, winding = warmed(oil, winding, 0, passed - interval)
            passed = interval
            since = 0
        since = since or at - interval
        oil, winding = warmed(oil, winding, load, passed)
        then = at
        yield facts | {"oil": oil, "winding": winding, "heated": then - since}


def warmed(
    oil: float, winding: float, load: float, seconds: int
) -> tuple[float, float]:
    """Rises after some time of a load: an oil-filled distribution transformer of IEC 60076-7."""
    last_oil = OIL_RISE * ((1 + 5 * load * load) / 6) ** 0.8
    last_winding = WINDING_RISE * load**1.6
    return (
        last_oil - (last_oil - oil) * math.exp(-seconds / OIL_SECONDS),
        last_winding - (last_winding - winding) * math.exp(-seconds / WINDING_SECONDS),
    )

"""The highest of a meter's day, its loads and how unbalanced its voltages were; the heat of a transformer."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator

from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import Facts


def day_peaks(
    m: Meter | None, read: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """What the highest readings of a day tell; the first of an interval that was read speaks for it."""
    own = max(m.interval_s if m else 0, interval)
    expected = (end - start) / own
    first: dict[int, Facts] = {}
    for f in read:
        if not f["estimated"]:
            first.setdefault((f["at"] - start - 1) // interval, f)
    loads = sorted(
        (f["kva"] for f in first.values() if not math.isnan(f["kva"])), reverse=True
    )
    factors = [
        found for f in first.values() if not math.isnan((found := unbalance(f))[0])
    ]
    values = sorted((value for value, _ in factors), reverse=True)
    told: Facts = {
        "kva_p99": NOT_A_NUMBER,
        "kva_2h": NOT_A_NUMBER,
        "unbalance": NOT_A_NUMBER,
        "unbalance_top": NOT_A_NUMBER,
        "stand_in": False,
    }
    if len(loads) >= 0.9 * expected:
        hours = [n for n in range(1, len(loads) + 1) if n * own >= 2 * HOUR_SECONDS]
        told |= {
            "kva_p99": loads[max(int(expected / 100), 1)],
            "kva_2h": loads[hours[0] - 1],
        }
    if len(values) >= 0.9 * expected:
        told |= {"unbalance": values[int(expected / 20)], "unbalance_top": values[0]}
        told["stand_in"] = any(by_magnitude for _, by_magnitude in factors)
    return told


def unbalance(f: Facts) -> tuple[float, bool]:
    """Negative over positive sequence, and whether for want of angles another measure stands in for it."""
    m = f["record"]
    if m is None or m.wiring == "1P2W" or any(u < 0.78 * m.un_v for u in f["u"]):
        return NOT_A_NUMBER, False
    volts = [
        cmath.rect(u, math.radians(angle))
        for u, angle in zip(f["u"], f["u_angle"], strict=True)
    ]
    if m.wiring == "3P3W":
        volts = [volts[0], -volts[2], volts[2] - volts[0]]
    turn = cmath.rect(1, math.radians(120))
    sequences = sorted(
        abs(volts[0] + turn**n * volts[1] + turn ** (2 * n) * volts[2]) for n in (1, 2)
    )
    if not math.isnan(sequences[0]):
        return sequences[0] / sequences[1], False
    mean = sum(f["u"]) / 3
    return max(
        (abs(u - mean) for u in f["u"]), key=lambda x: -1 if math.isnan(x) else x
    ) / mean, True


def exceeded(diary: list[Facts]) -> Iterator[Facts]:
    """A customer's days with the fifth highest share of its contract in thirty days, in whole per cent."""
    shares: list[float] = []
    for day in diary:
        changed = bool(m := day["record"]) and m.effective > day["at"] - DAY_SECONDS
        share = (
            NOT_A_NUMBER
            if changed
            else day["kva_p99"] / max(day["contract"] - day["suspended"], 1)
        )
        shares = [
            *shares,
            0 if math.isnan(share) else min(math.floor(100 * share), 255),
        ][-30:]
        fifth = sorted([0, 0, 0, 0, 0, *shares])[-5] / 100
        yield day | {"fifth": NOT_A_NUMBER if math.isnan(share) else fifth or -math.inf}


def heated(rows: list[Facts], interval: int) -> Iterator[Facts]:
    """A transformer's intervals with its rises of temperature, as long as its load is known."""
    oil = winding = 0.0
    then = since = felt = 0
    air = NOT_A_NUMBER
    for row in rows:
        if not math.isnan(row["temperature"]):
            air, felt = row["temperature"], row["at"]
        row |= {"air": air if row["at"] - felt <= 6 * HOUR_SECONDS else math.inf}
        load = row.get("kva", NOT_A_NUMBER) / row["rating_kva"]
        if math.isnan(load) or row["coverage"] < 0.9:
            yield row | {
                "oil": NOT_A_NUMBER,
                "winding": NOT_A_NUMBER,
                "heated": NOT_A_NUMBER,
            }
            continue
        spent = row["at"] - then if then else interval
        if spent > max(HOUR_SECONDS, interval):
            oil, winding = warmed(oil, winding, 0, spent - interval)
            spent = interval
            since = 0
        since = since or row["at"] - interval
        oil, winding = warmed(oil, winding, load, spent)
        then = row["at"]
        yield row | {"oil": oil, "winding": winding, "heated": then - since}


def warmed(
    oil: float, winding: float, load: float, seconds: int
) -> tuple[float, float]:
    """Rises after some time of a load: an oil-filled distribution transformer of IEC 60076-7."""
    ends = 55 * ((1 + 5 * load * load) / 6) ** 0.8, 23 * load**1.6
    times = 180 * 60, 8 * 60
    now = zip((oil, winding), ends, times, strict=True)
    first, second = (
        end - (end - rise) * math.exp(-seconds / time) for rise, end, time in now
    )
    return first, second

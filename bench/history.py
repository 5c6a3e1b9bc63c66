"""What years of a few meters cost: the price is per moment there, and not per reading.

Both are made, the same each time: an area of which one meter tells currents and voltages all the while and the others
join late, by the hour; and households that tell nothing but their energy, by the half-hour.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from bench.engine import apart
from bench.load import MIDNIGHT, ZONE
from bench.results import RATE, Result, summed
from detectors.engine import Engine
from replay.history import pieces
from schemas.columns import Readings

DAY, HOUR = 86_400, 3600
METERS = 25
ALONE = 0.75  # of the days, on which one meter alone is read
AREA = ("area",)
NAMES = tuple(f"meter {number}" for number in range(METERS))


def small_area(days: int) -> Readings:
    """Currents and voltages of one meter every quarter of an hour, and of all of them by the hour in the end."""
    first, others = np.arange(1, days * 96 + 1) * 900, np.arange(int(ALONE * days) * 24 + 1, days * 24 + 1) * HOUR
    at = np.concatenate([first, np.repeat(others, METERS - 1)])
    meter = np.concatenate([np.zeros(len(first), np.int64), np.tile(np.arange(1, METERS), len(others))])
    rng = np.random.default_rng(1)
    u = np.round(rng.normal(228, 2.5, (3, len(at))), 1)
    i = np.round(rng.gamma(2, 0.4, (3, len(at))), 2)
    return arranged(meter, at, u=u, i=i)


def households(days: int) -> Readings:
    """Energy of each by the half-hour."""
    at = np.repeat(np.arange(1, days * 48 + 1) * HOUR // 2, METERS)
    evening = 1 + (at % DAY > 17 * HOUR)
    kwh = np.round(np.random.default_rng(2).gamma(1.5, 0.15 * evening), 3)
    return arranged(np.tile(np.arange(METERS), days * 48), at, kwh=kwh)


def arranged(meter: np.ndarray, at: np.ndarray, **columns: np.ndarray) -> Readings:
    """Readings in order of time."""
    rows = Readings.build(NAMES, meter, AREA, np.zeros(len(at)), at + MIDNIGHT, **columns)
    return rows.rows(np.argsort(at, kind="stable"))


MADE: dict[str, tuple[Callable[[int], Readings], int]] = {
    "history_small_area": (small_area, 900), "history_households": (households, 1800),
}  # fmt: skip
"""Of each row how its readings are made, and seconds between them."""


def measure(name: str, *, days: int, runs: int) -> Result:
    """Readings a CPU second of the engine, over so many days of a row's history."""
    found = [apart(judged, name, days) for _ in range(runs)]
    spent = [readings / rate for readings, rate in found]
    note = f"a CPU second; {found[0][0]:,} readings of {METERS} meters in {days} days, {median(spent):.1f} s of CPU"
    return summed(name, RATE, [rate for _, rate in found], note)


def judged(name: str, days: int) -> tuple[int, float]:
    """How many readings there are, and how many of them the engine takes a CPU second."""
    make, interval = MADE[name]
    readings = make(days)
    engine = Engine(zone=ZONE, interval=interval)
    began = time.process_time()
    for batch in pieces(readings):
        engine.step(batch)
    return len(readings), len(readings) / (time.process_time() - began)

"""What years of a few meters cost: the price is per moment there, and not per reading.

Both are made, the same each time: an area of which one meter sends currents and voltages all the while and the others
join late, by the hour; and households that send their energy alone, by the half-hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from bench.engine import in_fresh_process
from bench.load import FIRST_MIDNIGHT, LOAD_ZONE
from bench.results import READINGS_PER_SECOND, Result, summed
from detectors.engine import Engine
from replay.history import split_batch
from schemas.columns import Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

METER_COUNT = 25
ALONE_SHARE = 0.75  # of the days, on which one meter alone is read
AREA_NAMES = ("area",)
METER_NAMES = tuple(f"meter {number}" for number in range(METER_COUNT))


def _small_area(days: int) -> Readings:
    """Currents and voltages of one meter every quarter of an hour, and of all of them by the hour in the end."""
    first, others = (
        np.arange(1, days * 96 + 1) * 900,
        np.arange(int(ALONE_SHARE * days) * 24 + 1, days * 24 + 1) * HOUR_SECONDS,
    )
    at = np.concatenate([first, np.repeat(others, METER_COUNT - 1)])
    meter = np.concatenate(
        [
            np.zeros(len(first), np.int64),
            np.tile(np.arange(1, METER_COUNT), len(others)),
        ]
    )
    rng = np.random.default_rng(1)
    u = np.round(rng.normal(228, 2.5, (3, len(at))), 1)
    i = np.round(rng.gamma(2, 0.4, (3, len(at))), 2)

    return _arranged(meter, at, u=u, i=i)


def _households(days: int) -> Readings:
    """Energy of each by the half-hour."""
    at = np.repeat(np.arange(1, days * 48 + 1) * HOUR_SECONDS // 2, METER_COUNT)
    evening = 1 + (at % DAY_SECONDS > 17 * HOUR_SECONDS)
    kwh = np.round(np.random.default_rng(2).gamma(1.5, 0.15 * evening), 3)
    return _arranged(np.tile(np.arange(METER_COUNT), days * 48), at, kwh=kwh)


def _arranged(meter: np.ndarray, at: np.ndarray, **columns: np.ndarray) -> Readings:
    """Readings in order of time."""
    rows = Readings.build(
        METER_NAMES,
        meter,
        AREA_NAMES,
        np.zeros(len(at)),
        at + FIRST_MIDNIGHT,
        **columns,
    )
    return rows.select(np.argsort(at, kind="stable"))


HISTORY_MAKERS: dict[str, tuple[Callable[[int], Readings], int]] = {
    "history_small_area": (_small_area, 900),
    "history_households": (_households, 1800),
}
"""Of each row how its readings are made, and seconds between them."""


def measure(name: str, *, days: int, runs: int) -> Result:
    """Readings a CPU second of the engine, over so many days of a row's history."""
    found = [in_fresh_process(_judging_rate, name, days) for _ in range(runs)]
    spent = [readings / rate for readings, rate in found]
    note = (
        f"a CPU second; {found[0][0]:,} readings of {METER_COUNT} meters in {days} days, "
        f"{median(spent):.1f} s of CPU"
    )
    return summed(name, READINGS_PER_SECOND, [rate for _, rate in found], note)


def _judging_rate(name: str, days: int) -> tuple[int, float]:
    """How many readings there are, and how many of them the engine takes a CPU second."""
    make, interval = HISTORY_MAKERS[name]
    readings = make(days)
    engine = Engine(zone=LOAD_ZONE, interval=interval)
    began = time.process_time()
    for batch in split_batch(readings):
        engine.step(batch)
    return len(readings), len(readings) / (time.process_time() - began)

"""What the engine alone costs: no broker, no decoding.

Rates are by the wall, as the naive peer's are; growth is by CPU time, which other programs lengthen less. Every
measurement runs in a process of its own, so that none inherits another's memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple, ParamSpec, TypeVar

from bench.load import AREA_METERS, LOAD_ZONE, SLOTS_PER_DAY, Load
from bench.results import READINGS_PER_SECOND, Result, summed
from bench.testbed import Testbed
from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from schemas.columns import Readings
from tests.workers import cpu_limited

MORNING_SLOT = 36  # of a day's quarter-hours: no midnight for long
BEFORE_MIDNIGHT = (
    SLOTS_PER_DAY - 4
)  # eight quarter-hours from here a day begins, another closes
GROWTH_ROWS = 5_000
SMALL_AREA_METERS = 2  # meters of a small area
CLOSING_SLOTS = (
    24  # quarter-hours from BEFORE_MIDNIGHT on, in which all areas close a day
)
GROWTH_REPEATS = 5  # of few meters, before many and after
WARM_UP_SLOTS = 2  # quarter-hours until every meter has a history
Given = ParamSpec("Given")
Value = TypeVar("Value")


class _PoolProcess(NamedTuple):
    """A process of a pool, which lives as long as the pool."""

    pid: int

    def poll(self) -> None:
        """It runs."""

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)


def in_fresh_process(
    function: Callable[Given, Value], *args: Given.args, **kwargs: Given.kwargs
) -> Value:
    """What the function returns, computed in a fresh process."""
    with ExitStack() as block:
        pool = block.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        block.enter_context(
            cpu_limited(_PoolProcess(pool.submit(os.getpid).result()), Testbed.share)
        )
        return pool.submit(function, *args, **kwargs).result()


def split_slot(slot: Readings, rows: int) -> Iterator[Readings]:
    """A quarter-hour in batches of so many rows, each with the names of its own areas and meters alone."""
    for first in range(0, len(slot), rows):
        part = slot.select(slice(first, first + rows))
        low, high = int(part.area[0]), int(part.area[-1]) + 1
        start = int(part.subject[0])
        yield replace(
            part,
            names=slot.names[start : start + rows],
            subject=part.subject - start,
            areas=slot.areas[low:high],
            area=part.area - low,
        )


def _judging_seconds(
    engine: Engine,
    batches: Iterable[Readings],
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Seconds, of CPU by default, that the engine takes for some batches."""
    spent = 0.0
    for batch in batches:
        began = clock()
        engine.step(batch)
        spent += clock() - began
    return spent


def _ready(
    meters: int,
    first: int = MORNING_SLOT,
    rules: Iterable[Rule] | None = None,
    area: int = AREA_METERS,
) -> tuple[Engine, Load]:
    """An engine that knows all meters of a load."""
    load = Load(meters, first, area=area)
    engine = Engine(rules, zone=LOAD_ZONE)
    engine.enroll(load.areas())
    _judging_seconds(engine, load.slots(WARM_UP_SLOTS))
    return engine, load


def batch_sizes(*, meters: int, slots: dict[int, int], runs: int) -> list[Result]:
    """Readings a second by rows a batch, each over so many quarter-hours."""
    return [
        summed(f"engine_rows_{size}", READINGS_PER_SECOND, found)
        for size, found in in_fresh_process(_rates, meters, slots, runs).items()
    ]


def _rates(meters: int, slots: dict[int, int], runs: int) -> dict[int, list[float]]:
    """Every run takes the same morning on from a snapshot."""
    engine, load = _ready(meters)
    state, kept = engine.snapshot(), list(load.slots(max(slots.values())))
    found: dict[int, list[float]] = {size: [] for size in slots}
    for _ in range(runs):
        for size, count in slots.items():
            engine.restore(state)
            parts = (piece for slot in kept[:count] for piece in split_slot(slot, size))
            found[size].append(
                meters * count / _judging_seconds(engine, parts, time.perf_counter)
            )
    return found


def meters_growth(*, few: int, many: int, slots: int, runs: int) -> Result:
    """Cost of a reading at many meters over that at few, at the same rows a batch and over the same midnight."""
    found = [in_fresh_process(_growth, few, many, slots) for _ in range(runs)]
    return summed(
        "meters_growth",
        "x",
        found,
        f"{many:,} meters over {few:,}, {GROWTH_ROWS:,} rows a batch",
    )


def _growth(few: int, many: int, slots: int) -> float:
    """Few are measured before and after many, so that a slow spell of the machine meets both."""
    small = [_cost(few, slots) for _ in range(GROWTH_REPEATS)]
    large = _cost(many, slots)
    small += [_cost(few, slots) for _ in range(GROWTH_REPEATS)]
    return large / median(small)


def _cost(meters: int, slots: int) -> float:
    """CPU seconds of a reading where so many meters are known."""
    engine, load = _ready(meters, BEFORE_MIDNIGHT)
    spent = sum(
        _judging_seconds(engine, split_slot(slot, GROWTH_ROWS))
        for slot in load.slots(slots)
    )
    return spent / meters / slots


def many_small_areas(*, areas: int, slots: int, runs: int) -> Result:
    """Cost of a reading in many areas of two meters over that in areas of 500, over the same midnight."""
    found = [in_fresh_process(_small_areas, areas, slots) for _ in range(runs)]
    rate = median(rate for _, rate in found)
    large = SMALL_AREA_METERS * areas // AREA_METERS
    note = (
        f"{areas:,} areas of {SMALL_AREA_METERS} over {large} of {AREA_METERS}; "
        f"{rate:,.0f} readings a CPU second"
    )
    return summed("many_small_areas", "x", [ratio for ratio, _ in found], note)


def _small_areas(areas: int, slots: int) -> tuple[float, float]:
    """The ratio of costs, and readings a CPU second in small areas."""
    spent: dict[int, float] = {}
    for size in (SMALL_AREA_METERS, AREA_METERS):
        engine, load = _ready(SMALL_AREA_METERS * areas, BEFORE_MIDNIGHT, area=size)
        spent[size] = _judging_seconds(engine, load.slots(slots))
    return spent[SMALL_AREA_METERS] / spent[
        AREA_METERS
    ], SMALL_AREA_METERS * areas * slots / spent[SMALL_AREA_METERS]


def rules_growth(*, meters: int, slots: int, runs: int) -> Result:
    """Cost of a reading under 70 rules over that under 10."""
    found = [in_fresh_process(_more_rules, meters, slots) for _ in range(runs)]
    return summed(
        "rules_growth", "x", found, f"70 rules over 10, {GROWTH_ROWS:,} rows a batch"
    )


def _more_rules(meters: int, slots: int) -> float:
    """Both engines take turns with the same batches."""
    (few, load), (many, _) = (
        _ready(meters, rules=point_rules(10)),
        _ready(meters, rules=point_rules(70)),
    )
    spent = {10: 0.0, 70: 0.0}
    for slot in load.slots(slots):
        for piece in split_slot(slot, GROWTH_ROWS):
            spent[10] += _judging_seconds(few, [piece])
            spent[70] += _judging_seconds(many, [piece])
    return spent[70] / spent[10]


def point_rules(count: int) -> list[Rule]:
    """The rules on readings, again and again under other names and with a setting a little off."""
    known = [rule for rule in ALL_RULES.values() if rule.kind is Readings]
    return [_renamed_rule(known[n % len(known)], n // len(known)) for n in range(count)]


def _renamed_rule(rule: Rule, number: int) -> Rule:
    """A rule that gives the same alarms by its own computation."""
    name = next(iter(rule.settings))
    return replace(
        rule.tuned(**{name: rule.settings[name] * (1 + 1e-6 * number)}),
        name=f"{rule.name}_{number}",
    )


def bytes_per_meter(*, meters: int, days: int) -> Result:
    """The engine's state after so many days of quarter-hours."""
    state, grown, rate = in_fresh_process(_state_after, meters, days)
    note = f"{meters:,} meters, {days} days; {grown:,.0f} B resident; {rate:,.0f} readings/s all the while"
    return summed("bytes_per_meter", "B", [state], note)


def _state_after(meters: int, days: int) -> tuple[float, float, float]:
    """Bytes of the snapshot and growth of the process by meter, and readings a CPU second."""
    load = Load(meters, SLOTS_PER_DAY)
    areas, before = load.areas(), _resident_bytes()
    engine = Engine(zone=LOAD_ZONE)
    engine.enroll(areas)
    spent = _judging_seconds(engine, load.slots(days * SLOTS_PER_DAY))
    grown = _resident_bytes() - before
    return (
        len(engine.snapshot()) / meters,
        grown / meters,
        meters * days * SLOTS_PER_DAY / spent,
    )


def _resident_bytes() -> float:
    """The size of this process in bytes, NaN where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    except OSError:
        return float("nan")
    return float(int(pages) * os.sysconf("SC_PAGE_SIZE"))

"""The cost of a call grows no faster than its input: rows, quiet days, sections, stages, areas, meters.

The CPU of a call is compared with that of a call of a sixth of the size. It is 6 times as much if in proportion, and
36 times if every item looks at all the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.policy.events import by_time
from detectors.reorder.buffer import EXPIRED_ROWS
from detectors.rule import ALL_RULES
from detectors.step_cost import AMENDED_ROWS, STEP_DAYS, UNPACKED_MEMBERS
from schemas.columns import (
    Batch,
    DeviceEvents,
    Event,
    Payment,
    Payments,
    Readings,
    Stages,
)
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS

START_TIME = 1_772_380_800
SIZE_FACTOR = 6
CPU_FACTOR_LIMIT = 16.0  # times the CPU for SIZE_FACTOR the size

Call = Callable[[], object]


def stages(rows: int, sections: int, names: int, *, disorder: bool = False) -> Batch:
    """Items that enter and leave the stages of several sections within five days."""
    rng = np.random.default_rng(1)
    at = START_TIME + np.sort(rng.integers(0, 5 * DAY_SECONDS, rows))
    item = rng.integers(0, rows, rows)
    return Stages.build(
        [f"W{n}" for n in range(rows)],
        item,
        [f"S{n}" for n in range(sections)],
        item % sections,
        rng.permutation(at) if disorder else at,
        stages=[f"stage{n}" for n in range(names)],
        stage=rng.integers(0, names, rows),
        limit=np.full(rows, DAY_SECONDS),
        progress=rng.integers(0, 2, rows),
    )


def payments(
    rows: int,
    kind: Payment,
    customers: int,
    *,
    backwards: bool = False,
    succeeded: int = 1,
) -> Batch:
    """Payments of several customers in one area, each with its own bill and number."""
    rank = np.arange(rows)[:: -1 if backwards else 1]
    owner = np.arange(rows) % customers

    return Payments.build(
        [f"C{n}" for n in range(customers)],
        owner,
        ["A1"],
        np.zeros(rows),
        START_TIME + rank,
        payment=np.full(rows, kind),
        references=[f"R{n}" for n in range(rows)],
        reference=np.arange(rows),
        channels=["office"],
        channel=np.zeros(rows),
        bills=[f"B{n}" for n in range(customers)],
        bill=owner,
        amount=1 + rank / 100,
        succeeded=np.full(rows, succeeded),
        due=np.full(rows, START_TIME + 10 * DAY_SECONDS),
    )


def events(rows: int, meters: int, event: Event, *, whole_area: bool = False) -> Batch:
    """Events of several meters, or of a whole area."""
    names = [""] if whole_area else [f"M{n}" for n in range(meters)]
    owner = np.arange(rows) % len(names)
    return DeviceEvents.build(
        names,
        owner,
        ["A1"],
        np.zeros(rows),
        START_TIME + 60 * np.arange(rows),
        event=np.full(rows, event),
    )


def town(areas: int, meters: int) -> list[Area]:
    """Areas with `meters` meters each."""
    return [
        Area(
            area=f"A{n}",
            meters=[
                Meter(meter=f"M{n}-{k}", customer=f"C{n}-{k}") for k in range(meters)
            ],
        )
        for n in range(areas)
    ]


def readings(areas: int, meters: int, first: int, steps: int) -> Batch:
    """Readings of all meters of a town over `steps` quarter-hours."""
    meter = np.arange(areas * meters)
    at = START_TIME + 900 * (first + 1 + np.repeat(np.arange(steps), len(meter)))
    reader = np.tile(meter, steps)
    return Readings.build(
        [f"M{n // meters}-{n % meters}" for n in range(len(meter))],
        reader,
        [f"A{n}" for n in range(areas)],
        reader // meters,
        at,
        register=100 + at / 9e5,
        kwh=np.full(len(at), 0.25),
        u=np.full((3, len(at)), 110.0),
        i=np.full((3, len(at)), 1.0),
    )


def stepped(batch: Batch, areas: list[Area] | None = None) -> Call:
    engine = Engine()
    engine.enroll(areas or [])
    return lambda: engine.step(batch)


def running_engine(areas: int, meters: int) -> Engine:
    """An engine that has seen two hours of a town in which every meter has an open alert."""
    engine = Engine()
    engine.enroll(town(areas, meters))
    engine.step(readings(areas, meters, 0, 8))
    return engine


def ticked(areas: int, meters: int, days: int) -> Call:
    engine = running_engine(areas, meters)
    return lambda: engine.tick(START_TIME + days * DAY_SECONDS)


def restored(meters: int) -> Call:
    engine, saved = Engine(), running_engine(5, meters).snapshot()
    engine.enroll(town(5, meters))
    return lambda: engine.restore(saved)


def late(meters: int) -> Call:
    """Seven hours of readings that arrive after later readings were judged."""
    engine = Engine()
    engine.enroll(town(2, meters))
    engine.step(readings(2, meters, 0, 1))
    engine.step(readings(2, meters, 30, 30))
    missing = readings(2, meters, 1, 29)
    return lambda: engine.step(missing)


def reconciled(meters: int) -> Call:
    engine = Engine()
    engine.enroll(town(5, meters))
    alerts = engine.step(readings(5, meters, 0, 8))
    assert len(alerts) >= 5 * meters
    return lambda: engine.reconcile(alerts)


def explained(meters: int) -> Call:
    """Ten meter changes, one by one, in an area with as many alerts and as many outages."""
    engine = running_engine(2, meters)
    outages = [
        (
            int(Event.POWER_OFF),
            START_TIME - DAY_SECONDS - 60 * n,
            START_TIME - DAY_SECONDS,
        )
        for n in range(meters)
    ]
    engine.policy.events.spans["A1", ""] = sorted(outages, key=by_time)
    change = np.array([Event.METER_CHANGE])

    def step() -> None:
        for n in range(10):
            engine.step(
                DeviceEvents.build(
                    [f"M1-{n}"], [0], ["A1"], [0], [START_TIME], event=change
                )
            )

    return step


def adopted(meters: int) -> Call:
    engine = running_engine(5, meters)
    return lambda: engine.adopt([ALL_RULES["register_decrease"]])


def enrolled_one_by_one(areas: int) -> Call:
    def enroll() -> None:
        engine = Engine()
        for area in town(areas, 2):
            engine.enroll([area])

    return enroll


MEASURED_CALLS: dict[str, Callable[[int], Call]] = {
    "rows of readings": lambda n: stepped(readings(2, 10, 0, n), town(2, 10)),
    "areas of readings": lambda n: stepped(readings(n, 2, 0, 8), town(n, 2)),
    "late readings of as many meters": late,
    "rows of work": lambda n: stepped(stages(2 * n, 20, 5)),
    "rows of work out of order": lambda n: stepped(stages(2 * n, 20, 5, disorder=True)),
    "sections": lambda n: stepped(stages(2 * n, n, 3)),
    "stages": lambda n: stepped(stages(2 * n, 2, n)),
    "payments of one customer": lambda n: stepped(payments(4 * n, Payment.PAYMENT, 1)),
    "payments of as many customers": lambda n: stepped(
        payments(4 * n, Payment.PAYMENT, 4 * n)
    ),
    "payments that come backwards": lambda n: stepped(
        payments(2 * n, Payment.PAYMENT, 2 * n, backwards=True)
    ),
    "failed attempts of one customer": lambda n: stepped(
        payments(4 * n, Payment.PAYMENT, 1, succeeded=0)
    ),
    "bills": lambda n: stepped(payments(8 * n, Payment.BILL, 8 * n)),
    "balances of one customer": lambda n: stepped(payments(8 * n, Payment.BALANCE, 1)),
    "lines of a channel": lambda n: stepped(payments(4 * n, Payment.SETTLEMENT, 4 * n)),
    "events of one meter": lambda n: stepped(events(4 * n, 1, Event.COVER_OPEN)),
    "outages of an area": lambda n: stepped(
        events(4 * n, 1, Event.POWER_OFF, whole_area=True)
    ),
    "events of as many meters": lambda n: stepped(
        events(4 * n, 4 * n, Event.COVER_OPEN)
    ),
    "meters that are changed beside alerts": explained,
    "areas that close a day": lambda n: ticked(n, 2, 2),
    "meters that close a day": lambda n: ticked(2, n, 2),
    "quiet days": lambda n: ticked(2, 5, n // 40),
    "areas enrolled at once": lambda n: lambda: Engine().enroll(town(4 * n, 2)),
    "areas enrolled one by one": enrolled_one_by_one,
    "snapshot": lambda n: running_engine(5, n).snapshot,
    "restore": restored,
    "reconcile": reconciled,
    "adopt": adopted,
}


def seconds(call: Call) -> float:
    """The CPU seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


@pytest.mark.parametrize("measured", MEASURED_CALLS)
def test_call_costs_in_proportion_to_its_input(measured: str):
    size = 100
    prepare = MEASURED_CALLS[measured]
    prepare(size)()
    small = min(seconds(prepare(size)) for _ in range(3))
    limit = CPU_FACTOR_LIMIT * max(small, 0.002)
    large = seconds(prepare(SIZE_FACTOR * size))
    if large >= limit:  # another process may have disturbed it
        large = seconds(prepare(SIZE_FACTOR * size))
    assert large < limit, (
        f"{small:.4f} s for {size}, {large:.4f} s for {SIZE_FACTOR * size}"
    )


FIRST_BATCHES: dict[str, Callable[[int], Batch]] = {
    "sections and their stages": lambda day: entered(day, sections=60),
    "stages of one section": lambda day: entered(day, sections=1),
    "areas and meters": lambda day: readings(90, 2, 96 * day, 1),
}


def entered(day: int, sections: int) -> Batch:
    """Three new items for each of 60 places, spread over several sections."""
    places = np.arange(180) % 60
    return Stages.build(
        [f"W{day}-{n}" for n in range(180)],
        np.arange(180),
        [f"S{n}" for n in range(sections)],
        places % sections,
        START_TIME + day * DAY_SECONDS + np.arange(180),
        stages=[f"stage{n}" for n in range(60 // sections)],
        stage=places // sections,
        limit=np.full(180, float(DAY_SECONDS)),
    )


def test_step_ends_where_too_many_days_fall_due():
    areas, meters = 40, 100
    engine = running_engine(areas, meters)
    assert engine.cost.affordable_rows(readings(areas, meters, 9, 1)) == areas * meters

    quiet = readings(areas, meters, 96 * 30, 2)
    # days of one area are more than a step may close
    assert engine.cost.affordable_rows(quiet) == meters
    two_days = readings(areas, meters, 96 * 2, 2)
    assert engine.cost.affordable_rows(two_days) == meters * (STEP_DAYS // (2 * meters))

    stray = readings(areas, meters, 9, 1)
    stray.at[:: 2 * meters] += 90 * DAY_SECONDS
    # one event time alone moves no watermark
    assert engine.cost.affordable_rows(stray) == areas * meters


def test_step_takes_few_areas_with_packed_days():
    areas, meters = 60, 100
    before, engine = running_engine(areas, meters), Engine()
    engine.enroll(town(areas, meters))
    engine.restore(before.snapshot())
    batch = readings(areas, meters, 8, 1)
    assert before.cost.affordable_rows(batch) == areas * meters
    assert engine.cost.affordable_rows(batch) == meters * (
        STEP_DAYS * UNPACKED_MEMBERS // meters
    )
    engine.step(batch)
    assert engine.cost.affordable_rows(readings(areas, meters, 9, 1)) == areas * meters


def test_step_takes_few_areas_with_many_amended_rows():
    areas, meters = 20, 200
    engine = Engine()
    engine.enroll(town(areas, meters))
    engine.step(readings(areas, meters, 0, 1))
    engine.step(readings(areas, meters, 30, 40))
    engine.step(readings(areas, meters, 10, 1))
    # of the same hour
    assert engine.cost.affordable_rows(readings(areas, meters, 70, 1)) == areas * meters
    assert engine.cost.affordable_rows(readings(areas, meters, 72, 1)) == meters * (
        STEP_DAYS * AMENDED_ROWS // (41 * meters)
    )


def test_expired_rows_of_the_reorder_buffer_are_released_in_portions():
    """Every meter of a town lacks its first reading, so all readings become final at once after a day."""
    engine, left = Engine(), [0]
    engine.enroll(town(12, 200))
    engine.step(readings(12, 200, 0, 1))
    for first in range(2, 146, 4):
        engine.step(readings(12, 200, first, 4))
        log = engine.reorder.buffered_readings.log
        left.append(int(log.row_counts(np.arange(12 * 200)).sum()))

    assert max(left) > 2 * EXPIRED_ROWS
    assert left[-1] == 0
    assert max(before - after for before, after in pairwise(left)) <= EXPIRED_ROWS


@pytest.mark.parametrize("kind", FIRST_BATCHES)
def test_first_batch_costs_little_more_than_the_next(kind: str):
    """Every midnight since 2000 was once counted for a new section."""
    make = FIRST_BATCHES[kind]
    stepped(make(0))()
    first = min(seconds(stepped(make(0))) for _ in range(3))
    engine = Engine()
    batches = [make(day) for day in range(4)]
    later_seconds = [seconds(partial(engine.step, batch)) for batch in batches][1:]
    assert first < CPU_FACTOR_LIMIT * max(*later_seconds, 0.002), (
        f"{first:.4f} s at first, {max(later_seconds):.4f} s after that"
    )

"""Closing, sealing and passing time cost the same for every area and quiet day, wherever they are cut."""

from __future__ import annotations

from time import process_time

import numpy as np
import pytest

from detectors import windows
from detectors.engine import Engine
from detectors.windows import WindowJudges
from models.days import due_windows
from models.days.window_rows import WindowRows
from models.state.packing import packed, packed_days, unpacked_days
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import adversarial_stream, town
from tests.test_promises import engine_of, exactly, judge_stream, same

FIRST_MIDNIGHT = 1_772_380_800  # in Shanghai
INTERVAL_SECONDS = 3600
TIMING_REPEATS = 2  # the quickest counts


def areas_of(count: int, meters: int) -> list[Area]:
    return [
        Area(area=f"A{n}", meters=[Meter(meter=f"M{k}") for k in range(meters)])
        for n in range(count)
    ]


def hours(areas: list[Area], first: int, last: int) -> list[Readings]:
    """A reading of every meter in each of some hours."""
    names = [meter.meter for area in areas for meter in area.meters]
    owners = [n for n, area in enumerate(areas) for _ in area.meters]
    rng = np.random.default_rng(1)
    rows = np.arange(len(names))

    return [
        Readings.build(
            names,
            rows,
            [area.area for area in areas],
            owners,
            np.full(len(rows), FIRST_MIDNIGHT + hour * HOUR_SECONDS),
            kwh=rng.uniform(0.05, 0.5, len(rows)).round(2),
        )
        for hour in range(first, last)
    ]


def closing(count: int, days: int = 5) -> float:
    """CPU seconds per area of two meters over days of which all but four are sealed; the quickest of several."""
    areas, spent = areas_of(count, 2), []
    batches = hours(areas, 1, 24 * days)
    for _ in range(TIMING_REPEATS):
        engine = Engine(interval=INTERVAL_SECONDS)
        engine.enroll(areas)
        begun = process_time()
        for batch in batches:
            engine.step(batch)
        spent.append(process_time() - begun)
        assert (
            engine.open_days.watermarks["sealed_day"][:count]
            >= engine.open_days.watermarks["last_day"][:count] - 4
        ).all()
    return min(spent) / count


def test_cost_of_an_area_does_not_grow_with_their_number():
    assert closing(6000) < 2 * closing(1500)


@pytest.fixture(scope="module")
def silent() -> tuple[list[Area], bytes]:
    """Areas after their last readings, and the engine's snapshot."""
    areas = areas_of(40, 25)
    engine = Engine(interval=INTERVAL_SECONDS)
    engine.enroll(areas)
    for batch in hours(areas, 1, 60):
        engine.step(batch)
    return areas, engine.snapshot()


def restored(silent: tuple[list[Area], bytes]) -> Engine:
    areas, snapshot = silent
    engine = Engine(interval=INTERVAL_SECONDS)
    engine.enroll(areas)
    engine.restore(snapshot)
    return engine


def passing(silent: tuple[list[Area], bytes], days: int) -> float:
    """CPU seconds of the first tick after quiet days; the quickest of several."""
    spent = []
    for _ in range(TIMING_REPEATS):
        engine = restored(silent)
        begun = process_time()
        engine.tick(int(engine.areas.watermarks.max()) + days * DAY_SECONDS)
        spent.append(process_time() - begun)
    return min(spent)


def test_quiet_days_cost_in_proportion_up_to_a_month(silent):
    ten = passing(silent, 10)
    assert passing(silent, 30) < 4 * ten
    assert passing(silent, 3000) < 6 * ten


def test_days_of_all_areas_are_built_at_once(silent, monkeypatch):
    made: list[int] = []
    as_days = WindowRows.as_days

    def counted(self, slots, *rest):
        made.append(len(slots))
        return as_days(self, slots, *rest)

    monkeypatch.setattr(WindowRows, "as_days", counted)
    restored(silent).tick(FIRST_MIDNIGHT + 60 * HOUR_SECONDS + 20 * DAY_SECONDS)
    assert sum(made) > 40 * 30  # closed and sealed
    assert len(made) < sum(made) / 10


def test_areas_are_amended_together(monkeypatch):
    areas = areas_of(50, 2)
    engine = Engine(interval=INTERVAL_SECONDS)
    engine.enroll(areas)
    batches = hours(areas, 1, 60)
    late, batches[29] = (
        batches[29].select(slice(0, None, 2)),
        batches[29].select(slice(1, None, 2)),
    )
    for batch in batches:
        engine.step(batch)
    amended: list[int] = []
    amend = WindowJudges._amend

    def counted(self, window):
        amended.append(len(window.areas))
        return amend(self, window)

    monkeypatch.setattr(WindowJudges, "_amend", counted)
    engine.step(late)
    for batch in hours(areas, 60, 63):
        engine.step(batch)

    assert amended == [50]


def test_long_silence_is_passed_in_steps_of_bounded_work(silent, monkeypatch):
    monkeypatch.setattr(due_windows, "PORTION_ROWS", 100)
    made: list[int] = []
    as_days = WindowRows.as_days

    def counted(self, slots, days, meters, filed):
        made.append(len(meters))
        return as_days(self, slots, days, meters, filed)

    monkeypatch.setattr(WindowRows, "as_days", counted)
    engine = restored(silent)
    step_sizes = []
    for _ in engine.ticks(FIRST_MIDNIGHT + 60 * HOUR_SECONDS + 10 * DAY_SECONDS):
        step_sizes.append(sum(made))
        made.clear()
    assert sum(step_sizes) > 10 * 1000
    assert max(step_sizes) <= 4 * 250  # all areas of one or two turns out of sixteen


@pytest.mark.parametrize("days", [5, 29, 200])
def test_engine_restored_between_steps_continues_the_same(silent, monkeypatch, days):
    now = FIRST_MIDNIGHT + 60 * HOUR_SECONDS + days * DAY_SECONDS
    unbroken = restored(silent).tick(now)
    monkeypatch.setattr(due_windows, "PORTION_ROWS", 3000)
    engine, alerts = restored(silent), []
    for published in engine.ticks(now):
        alerts += published
        saved = engine.snapshot()
    assert unbroken
    same(alerts, unbroken)
    resumed = restored((silent[0], saved))
    assert exactly(resumed.tick(now + 3 * DAY_SECONDS)) == exactly(
        engine.tick(now + 3 * DAY_SECONDS)
    )


@pytest.mark.parametrize("seed", [3, 8])
def test_portions_of_any_size_publish_the_same(seed, monkeypatch):
    stream = adversarial_stream(seed)
    expected = exactly(judge_stream(stream)[1])
    monkeypatch.setattr(due_windows, "PORTION_ROWS", 3)
    monkeypatch.setattr(windows, "PORTION_ROWS", 3)
    assert exactly(judge_stream(stream)[1]) == expected


def test_areas_judged_together_publish_the_same_as_each_alone():
    stream = town(5)
    together = engine_of(stream)
    alerts = [alert for batch in stream.batches() for alert in together.step(batch)]
    alone = []
    for area in stream.areas:
        engine = engine_of(stream)
        own_rows = stream.with_rows(row for row in stream.rows if row.area == area.area)
        for batch in own_rows.batches():
            alone += engine.step(batch)

    areas = {area.area for area in stream.areas}
    same([alert for alert in alerts if alert.area in areas], alone)


def test_days_packed_together_or_alone_unpack_the_same():
    rng, sizes = np.random.default_rng(2), np.array([2, 1, 40, 2])
    kwh = rng.exponential(2, (24, sizes.sum())).round(2).astype(np.float32)
    kwh[rng.random(kwh.shape) < 0.1] = np.nan
    members = {"kwh": kwh, "reads": rng.integers(0, 25, sizes.sum()).astype(np.int32)}
    areas = {
        "amps": rng.integers(0, 10**9, (3, 24, 4)),
        "gateway": rng.normal(0, 9, (5, 24, 4)),
    }
    empty = {
        "kwh": np.full(24, np.nan, np.float32),
        "reads": np.int32(0),
        "later": np.float32(7),
    }
    none = {"amps": np.zeros((3, 24), np.int64), "gateway": np.zeros((5, 24))}

    days = packed_days(members, areas, sizes)
    days[2] = packed(
        {n: column[..., 3:43] for n, column in members.items()}
        | {n: column[..., 2] for n, column in areas.items()}
    )
    restored = unpacked_days(
        days, {name: np.asarray(value) for name, value in empty.items()}, none
    )

    assert restored.sizes.tolist() == sizes.tolist()

    for name, array in (members | areas).items():
        unpacked_array = (restored.members | restored.areas)[name]
        assert unpacked_array.dtype == array.dtype
        assert np.array_equal(unpacked_array, array, equal_nan=array.dtype.kind == "f")

    assert (restored.members["later"] == 7).all()
    assert unpacked_days(days[:2], {}, {"amps": none["amps"]}).members == {}


def test_small_area_reserves_little_capacity():
    engine = Engine()
    engine.enroll(areas_of(100, 2))
    engine.step(hours(areas_of(100, 2), 1, 2)[0])
    assert engine.open_days.pools.member_rows.used <= 3 * 200
    assert {
        open_day.size
        for open_days in engine.open_days.places.open_days.values()
        for open_day in open_days.values()
    } == {2}

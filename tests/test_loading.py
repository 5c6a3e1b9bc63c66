"""Heat of transformers by the loading guide, and days beyond a contract, on streams of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.meters.loading import Heat
from schemas.columns import Readings
from schemas.master import Area, Meter, Transformer
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS
from tests.adversarial import (
    Row,
    Stream,
    duplicated,
    reading_columns,
    shuffled,
    straggling,
    with_closing_readings,
)
from tests.test_promises import (
    RULES_BY_MODULE,
    agree,
    engine_of,
    exactly,
    judge_stream,
    same,
)

START_TIME = 1_772_380_800  # a midnight in Shanghai


def warmth(loads, interval=15 * MINUTE_SECONDS):
    """Top oil and hot spot over ambient (K) after each interval of these loads per unit."""
    heat = Heat(interval)
    heat.cells.reserve(1)
    rises_by_step = []
    for n, load in enumerate(loads, 1):
        rises = heat.fold(
            np.zeros(1, np.int64),
            kva=np.array([100.0 * load]),
            rating_kva=np.array([100.0]),
            at=np.array([START_TIME + n * interval]),
            coverage=np.ones(1),
            temperature=np.full(1, np.nan),
        )
        rises_by_step.append((rises.top_oil_rise[0], rises.hot_spot_rise[0]))

    return np.array(rises_by_step)


def by_difference_equations(loads, interval=15 * MINUTE_SECONDS, step=15):
    """The same by the difference equations of IEC 60076-7, 8.2.3, in steps below half a winding's time constant."""
    k11 = 1.0
    k21 = 1.0
    k22 = 2.0
    tau_oil = 180 * MINUTE_SECONDS
    tau_winding = 4 * MINUTE_SECONDS
    oil = first = second = 0.0

    rises = []
    for load in loads:
        for _ in range(interval // step):
            oil += (
                step
                / (k11 * tau_oil)
                * (55 * ((1 + load**2 * 5) / (1 + 5)) ** 0.8 - oil)
            )
            first += step / (k22 * tau_winding) * (k21 * 23 * load**1.6 - first)
            second += step / (tau_oil / k22) * ((k21 - 1) * 23 * load**1.6 - second)
        rises.append((oil, oil + first - second))

    return np.array(rises)


def test_at_rated_load_a_transformer_settles_at_its_rated_rises():
    oil, hot = warmth([1.0] * 200)[-1]
    assert (oil, hot) == (pytest.approx(55, abs=1e-3), pytest.approx(78, abs=1e-3))


@pytest.mark.parametrize(
    ("load", "oil", "hot"), [(0.0, 13.1, 13.1), (0.7, 35.3, 48.3), (1.5, 97.3, 141.4)]
)
def test_rises_at_other_loads_follow_losses_and_exponents(load, oil, hot):
    assert warmth([load] * 200)[-1].tolist() == [
        pytest.approx(oil, abs=0.1),
        pytest.approx(hot, abs=0.1),
    ]


def test_oil_rises_by_two_thirds_in_three_hours_and_windings_in_eight_minutes():
    assert warmth([1.0] * 12)[-1][0] == pytest.approx(55 * (1 - np.exp(-1)), rel=1e-6)
    oil, hot = warmth([1.0], interval=8 * MINUTE_SECONDS)[0]
    assert hot - oil == pytest.approx(23 * (1 - np.exp(-1)), rel=1e-6)


def test_a_day_follows_the_difference_equations():
    loads = 0.9 + 0.6 * np.sin(np.arange(96) * 2 * np.pi / 96)
    assert np.abs(warmth(loads) - by_difference_equations(loads)).max() < 0.2


def test_estimate_over_unknown_load_never_exceeds_the_true_rise():
    unbroken = warmth([1.2] * 40)
    holes = warmth([1.2] * 10 + [np.nan] * 12 + [1.2] * 18)
    assert np.isnan(holes[10:22]).all()
    assert (holes[22:] < unbroken[22:]).all()
    bridged = warmth([1.2] * 10 + [np.nan] * 3 + [1.2] * 27)
    assert np.allclose(bridged[13:], unbroken[13:])


def metered(meter: str, amps, interval: int) -> Iterator[Row]:
    """A three-phase meter's readings, one per interval."""
    i = np.tile(amps, (3, 1))
    columns = reading_columns(i, np.full_like(i, 220.0), i * 0.22, interval)
    yield from (
        Row(Readings, "A1", meter, START_TIME + interval * n, row_columns)
        for n, row_columns in enumerate(columns, 1)
    )


def heavy(seed: int) -> Stream:
    """Five days, hour by hour, of a transformer overloaded every evening; some hours are not read."""
    rng = np.random.default_rng(seed)
    hours = np.arange(1, 5 * 24 + 1)
    users = {
        f"M{n}": (25 + 40 * (hours % 24 > 15)) * rng.uniform(0.9, 1.3, len(hours))
        for n in range(3)
    }
    rows = [
        row for name, amps in users.items() for row in metered(name, amps, HOUR_SECONDS)
    ]
    kept_rows = [row for row in rows if rng.random() > 0.03]
    area = Area(
        area="A1",
        transformers=[Transformer(rating_kva=100.0)],
        meters=[
            Meter(meter=meter, wiring="3P4W", imax_a=200.0, interval_s=HOUR_SECONDS)
            for meter in users
        ],
    )

    return Stream(
        [area],
        tuple(sorted(kept_rows, key=lambda row: row.at)),
        "Asia/Shanghai",
        HOUR_SECONDS,
    )


def expanded(seed: int) -> Stream:
    """Thirty-four days, every two hours, of customers that exceed their contracts on some days."""
    rng = np.random.default_rng(seed)
    days = 34
    meters = [
        Meter(
            meter=f"M{n}", wiring="3P4W", interval_s=2 * HOUR_SECONDS, contract_kva=8.0
        )
        for n in range(2)
    ]

    rows: list[Row] = []
    for meter, often in zip(meters, (0.15, 0.3), strict=True):
        high = np.repeat(rng.random(days) < often, 12) & (np.arange(12 * days) % 12 > 8)
        rows += metered(
            meter.meter,
            np.where(high, rng.uniform(12, 16.5, 12 * days), 8.0),
            2 * HOUR_SECONDS,
        )

    ordered = sorted(
        (row for row in rows if rng.random() > 0.01), key=lambda row: row.at
    )
    return Stream(
        [Area(area="A1", meters=meters)],
        tuple(ordered),
        "Asia/Shanghai",
        2 * HOUR_SECONDS,
    )


RULE_STREAMS = {"transformer_thermal": heavy(1), "capacity_expansion": expanded(1)}


@pytest.mark.parametrize("name", RULE_STREAMS)
def test_the_slow_twin_agrees(name):
    stream = RULE_STREAMS[name]
    alerts = judge_stream(stream)[1]
    assert any(alert.rule == name for alert in alerts)
    agree(stream, alerts)
    agree(
        with_closing_readings(
            duplicated(shuffled(stream, 3, 8 * HOUR_SECONDS), 3), DAY_SECONDS
        )
    )


@pytest.mark.parametrize("name", RULE_STREAMS)
def test_any_cut_and_a_restored_engine_publish_the_same(name):
    stream = RULE_STREAMS[name]
    alerts = judge_stream(stream)[1]
    assert exactly(judge_stream(stream, range(0, len(stream.rows), 7))[1]) == exactly(
        alerts
    )
    engine, pieced = engine_of(stream), []
    for batch in stream.batches(range(0, len(stream.rows), len(stream.rows) // 9)):
        saved, engine = engine.snapshot(), engine_of(stream)
        engine.restore(saved)
        pieced += engine.step(batch)
    assert exactly(pieced) == exactly(alerts)


@pytest.mark.parametrize("name", RULE_STREAMS)
def test_late_readings_change_nothing_in_the_end(name):
    stream = RULE_STREAMS[name]
    late = straggling(stream, 4, 0, DAY_SECONDS)
    same(
        judge_stream(with_closing_readings(late, DAY_SECONDS))[1],
        judge_stream(with_closing_readings(stream, DAY_SECONDS))[1],
    )


def test_streams_here_raise_the_rules_that_the_town_does_not():
    assert RULES_BY_MODULE["test_loading"] <= RULE_STREAMS.keys()

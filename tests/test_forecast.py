"""The forecast of a transformer's load, and the drift of its error."""

from __future__ import annotations

from functools import cache

import numpy as np

from bench.forecast import STATION_NAME, ForecastDays, accuracy, main, warnings
from models.drift import PageHinkley
from models.master.calendar import day_of, midnights
from models.meters.load_forecast import LoadForecast
from schemas.master import Area, Meter, Transformer
from schemas.units import DAY_HOURS, DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import Stream, duplicated, shuffled, with_closing_readings
from tests.test_loading import START_TIME, metered
from tests.test_promises import agree, exactly, judge_stream, restored, same

TEST_ZONE = "Asia/Shanghai"
RULE_NAME = "transformer_overload_expected"
FIRST_DAY = int(day_of(np.array([START_TIME + 1]), TEST_ZONE)[0])


def growing(seed: int, days: int = 27) -> Stream:
    """A transformer's evenings that grow heavy within a month, hour by hour; some hours are not read."""
    rng = np.random.default_rng(seed)
    hours = np.arange(1, days * DAY_HOURS + 1)
    day, hour = hours // DAY_HOURS, hours % DAY_HOURS
    weekly = 0.8 + 0.2 * (day % 7 < 5)
    amps = (30 + (25 + 1.2 * day) * (hour > 17)) * weekly
    shares = {"M1": 1.0, "M2": 1.1}
    rows = [
        row
        for name, share in shares.items()
        for row in metered(
            name, share * amps * rng.uniform(0.95, 1.05, len(amps)), HOUR_SECONDS
        )
    ]

    kept_rows = [row for row in rows if rng.random() > 0.02]
    meters = [
        Meter(meter=name, wiring="3P4W", imax_a=200.0, interval_s=HOUR_SECONDS)
        for name in shares
    ]
    area = Area(area="A1", transformers=[Transformer(rating_kva=100.0)], meters=meters)
    ordered = tuple(sorted(kept_rows, key=lambda row: row.at))
    return with_closing_readings(
        Stream([area], ordered, TEST_ZONE, HOUR_SECONDS), DAY_SECONDS
    )


@cache
def days_of_load(count: int, seed: int = 0) -> np.ndarray:
    """Days of an area that works on weekdays, (days, 24), kVA."""
    rng = np.random.default_rng(seed)
    hours = np.arange(DAY_HOURS)
    evening = 100 + 60 * np.exp(-(((hours - 19) / 3) ** 2))
    busy = np.where(np.arange(count) % 7 < 5, 1.0, 0.7)
    return evening * busy[:, None] * rng.normal(1, 0.05, (count, DAY_HOURS))


def forecasts(load, temperature=None):
    """What a forecast gives for days of one area."""
    feature = LoadForecast(TEST_ZONE)
    feature.cells.reserve(1)
    ends = midnights(TEST_ZONE)[FIRST_DAY + 1 :]

    given = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for n, day in enumerate(load):
            air = np.nan if temperature is None else temperature[n]
            given.append(
                feature.fold(
                    np.zeros(1, np.int64),
                    day[:, None],
                    temperature=np.array([air]),
                    at=ends[n : n + 1],
                )
            )
    return given


def test_the_slow_twin_agrees():
    stream = growing(1)
    assert any(alert.rule == RULE_NAME for alert in judge_stream(stream)[1])
    agree(stream)


def test_late_rows_cuts_and_restored_engines_change_nothing():
    stream = growing(2)
    expected = judge_stream(stream)[1]
    assert any(alert.rule == RULE_NAME for alert in expected)
    assert exactly(restored(stream, 600)) == exactly(expected)
    late = duplicated(shuffled(stream, 3, 2 * HOUR_SECONDS), 3)
    same(judge_stream(late)[1], expected)


def test_weekdays_and_weekends_are_forecast_apart():
    load = days_of_load(70)
    given = forecasts(load)
    off = [
        np.abs(given[n].expected_kva[:DAY_HOURS, 0] - load[n + 1]).mean()
        for n in range(38, 58)  # days without a holiday
    ]
    as_yesterday = np.abs(load[39:59] - load[38:58]).mean()
    assert np.mean(off) < 0.7 * as_yesterday


def test_interval_holds_nine_of_ten_hours():
    load = days_of_load(120)
    given = forecasts(load)
    inside = [
        (given[n].lowest_kva[:DAY_HOURS, 0] <= load[n + 1])
        & (load[n + 1] <= given[n].highest_kva[:DAY_HOURS, 0])
        for n in range(40, 119)
    ]
    assert 0.85 < np.mean(inside) < 0.95


def test_warmer_day_is_learned_from_its_temperature():
    rng = np.random.default_rng(5)
    degrees = 25 + 5 * rng.standard_normal(150)
    load = days_of_load(150) * (1 + 0.04 * (degrees - 25))[:, None]

    def error(given):
        return np.mean(
            [
                np.abs(given[n].expected_kva[:DAY_HOURS, 0] - load[n + 1]).mean()
                for n in range(60, 149)
            ]
        )

    assert error(forecasts(load, degrees)) < 0.98 * error(forecasts(load))


def test_it_cannot_tell_before_three_weeks_and_after_a_drift_for_three_more():
    rng = np.random.default_rng(1)
    load = days_of_load(120).copy()
    load[60:75] *= rng.uniform(0.2, 1.8, (15, DAY_HOURS))
    given = forecasts(load)
    known = np.array([not np.isnan(day.peak_kva[0]) for day in given])
    assert not known[:20].any()
    assert known[20:63].all()
    drifted = int(np.flatnonzero(~known[63:])[0]) + 63
    assert 63 <= drifted < 75
    assert not known[drifted : drifted + 20].any()
    assert known[-1]
    assert given[-1].drifts[0] >= 1


def test_unknown_day_teaches_nothing_and_a_month_without_any_begins_anew():
    load = days_of_load(90).copy()
    load[30] = np.nan
    assert np.isnan(forecasts(load)[30].peak_kva[0])
    assert not np.isnan(forecasts(load)[31].peak_kva[0])
    load[31:65] = np.nan
    given = forecasts(load)
    assert all(np.isnan(day.peak_kva[0]) for day in given[30:85])
    assert not np.isnan(given[-1].peak_kva[0])


def test_load_that_is_always_zero_is_forecast_as_zero():
    given = forecasts(np.zeros((30, DAY_HOURS)))
    assert given[-1].peak_kva[0] == 0


def test_areas_together_are_forecast_as_alone():
    many = np.stack([days_of_load(40, seed) for seed in range(5)], axis=-1)
    feature = LoadForecast(TEST_ZONE)
    feature.cells.reserve(5)
    ends = midnights(TEST_ZONE)[FIRST_DAY + 1 :]
    with np.errstate(invalid="ignore", divide="ignore"):
        for n, day in enumerate(many):
            together = feature.fold(
                np.arange(5),
                day,
                temperature=np.full(5, np.nan),
                at=np.repeat(ends[n], 5),
            )

    for area in range(5):
        alone = forecasts(many[:, :, area])[-1]
        assert (
            together.expected_kva[:, area].tolist() == alone.expected_kva[:, 0].tolist()
        )
        assert together.peak_kva[area] == alone.peak_kva[0]


def test_page_and_hinkley_find_a_rise_that_lasts_and_no_single_day():
    test = PageHinkley(tolerance=0.15, most=1.0, limit=4.0)
    rng = np.random.default_rng(0)
    steady = 0.3 * rng.standard_normal((300, 50))
    once, risen = steady.copy(), steady.copy()
    once[200] = 20.0
    risen[200:] += 1.0

    def found(errors):
        memory, when = np.zeros((4, 50)), np.full(50, -1)
        for n, row in enumerate(errors):
            memory, drifted = test.watch(memory, row)
            when = np.where((when < 0) & drifted, n, when)
        return when

    assert (found(steady) < 0).mean() > 0.95
    assert (found(once) < 0).mean() > 0.9
    assert np.median(found(risen)) < 210


def watched_of(load):
    """Perfect forecasts of one area's days, as the bench has them."""
    ahead = np.concatenate([np.roll(load, -1, 0), np.roll(load, -2, 0)], axis=1)
    highest = ahead.max(axis=1)
    ones = np.ones_like(highest)
    return ForecastDays(
        load, ahead, ahead - 1, ahead + 1, highest, 0.01 * ones, 0 * ones
    )


def test_bench_finds_no_error_in_a_perfect_forecast():
    load = days_of_load(60)[:, :, None]
    for ahead in (1, 2):
        found = accuracy(watched_of(load), ahead)
        assert found.error == 0
        assert found.held == 1
        assert found.gains == (1, 1)
    made = warnings(watched_of(load), 0.8)
    assert made.warned == made.passed > 0


def test_bench_says_which_file_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench.forecast", str(tmp_path)])
    assert main() == 2
    assert STATION_NAME in capsys.readouterr().err

"""The generic detector of a single series, its command, and its benchmark."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import nab
from bench.nab import ScoredFile, alarm_worths, best_score
from detectors.series import SERIES_STATISTICS, SeriesDetector
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from streams.cli import main

START_TIME = 1_772_323_200
DAY_COUNT = 60
HOUR_COUNT = DAY_COUNT * 24
ODD_HOUR = 50 * 24 + 3  # 03:00 of day 50
HOUR_TIMES = START_TIME + HOUR_SECONDS * np.arange(HOUR_COUNT)


def daily_load(seed=1):
    """Hours of a load that is high by day, less so at weekends."""
    noise = np.random.default_rng(seed).normal(0, 0.3, HOUR_COUNT)
    hour = np.arange(HOUR_COUNT) % 24
    weekday = np.arange(HOUR_COUNT) // 24 % 7 < 5
    return (
        10 + 4 * np.sin((hour - 6) * np.pi / 12) * np.where(weekday, 1.0, 0.6) + noise
    )


def scores(values, at=HOUR_TIMES):
    return SeriesDetector(HOUR_SECONDS).score(at, values)


def unusual_hours(values):
    return np.flatnonzero(scores(values).score >= 1).tolist()


# ---- The detector ----


@pytest.mark.parametrize("seed", range(5))
def test_usual_load_stays_quiet(seed):
    assert len(unusual_hours(daily_load(seed))) <= 1


def with_change(kind):
    values = daily_load(seed=0)
    if kind == "value":
        values[ODD_HOUR:] -= 12
    if kind == "rate":
        values[ODD_HOUR] += 9
    if kind == "season":
        values[ODD_HOUR] = 14.0  # what noon has, at night
    return values


@pytest.mark.parametrize("kind", SERIES_STATISTICS)
def test_change_is_found_at_once(kind):
    assert ODD_HOUR in unusual_hours(with_change(kind))


def test_value_of_another_hour_is_out_of_season():
    found = scores(with_change("season"))
    assert found.season[ODD_HOUR] >= 1 > found.value[ODD_HOUR]
    assert found.expected[ODD_HOUR] == pytest.approx(6, abs=1.5)


def test_a_row_does_not_excuse_itself():
    twice = daily_load()
    twice[ODD_HOUR] += 9
    twice[ODD_HOUR + 24] += 9
    found = scores(twice).score
    assert found[ODD_HOUR] > 1
    assert found[ODD_HOUR + 24] < found[ODD_HOUR], "once seen, it is less unusual"


def test_too_few_rows_and_missing_values_have_no_score():
    values = daily_load()
    values[700] = np.nan
    found = scores(values).score
    assert np.isnan(found[:100]).all()
    assert np.isnan(found[700])
    assert np.isfinite(found[701:]).all()


def test_constant_series_is_quiet_until_it_changes():
    values = np.full(HOUR_COUNT, 5.0)
    values[ODD_HOUR] = 5.001
    assert unusual_hours(values)[0] == ODD_HOUR


@given(st.lists(st.integers(1, HOUR_COUNT - 1), max_size=4), st.integers(0, 9))
def test_any_cut_gives_the_same_scores(cuts, seed):
    values = daily_load(seed)
    detector = SeriesDetector(HOUR_SECONDS)
    pieces = [
        detector.score(at, part).score
        for at, part in zip(
            np.split(HOUR_TIMES, sorted(cuts)),
            np.split(values, sorted(cuts)),
            strict=True,
        )
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), scores(values).score)


@given(
    st.sampled_from([0.001, 0.25, 4.0, 1024.0]), st.sampled_from([-100.0, 0.0, 64.0])
)
def test_the_unit_does_not_matter(factor, offset):
    values = daily_load()
    np.testing.assert_allclose(
        scores(values * factor + offset).score, scores(values).score, rtol=1e-6
    )


# ---- The command ----


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command on a file of this text; gives its exit code and what it printed."""

    def run(text, *options, column="load"):
        file = tmp_path / "load.csv"
        file.write_text(text, "utf-8")
        words = ["meterwatch", "series", str(file), "--column", column, *options]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def csv_of(values, head="time,load"):
    times = np.datetime_as_string(HOUR_TIMES.astype("datetime64[s]"))
    rows = [f"{at}Z,{value:.3f}" for at, value in zip(times, values, strict=True)]
    return "\n".join([head, *rows]) + "\n"


def test_command_shows_alerts_and_page(command, tmp_path):
    page = tmp_path / "page.html"
    code, out, _ = command(csv_of(with_change("rate")), "--report", str(page))
    assert code == 0
    assert out.splitlines()[-1].endswith("1 alerts")
    assert "<svg" in page.read_text("utf-8")
    assert "http" not in page.read_text("utf-8").replace("http-equiv", "")

    _, chinese, _ = command(csv_of(with_change("rate")), "--zh")
    assert "告警1条" in chinese


def test_json_has_the_scores_of_every_row(command):
    _, out, _ = command(csv_of(with_change("rate")), "--json")
    printed = json.loads(out)
    assert len(printed["rows"]["at"]) == len(printed["rows"]["score"]) == HOUR_COUNT
    assert printed["rows"]["score"][0] is None
    assert printed["rows"]["score"][ODD_HOUR] >= 1
    [alert] = printed["alerts"]
    assert alert["since"] == HOUR_TIMES[ODD_HOUR]
    assert alert["at"] <= HOUR_TIMES[ODD_HOUR] + DAY_SECONDS


def test_rows_that_cannot_be_used_are_counted(command):
    text = (
        csv_of(daily_load())
        + "no time,1\n2026-05-01 00:00Z,much\n"
        + "2026-03-01T00:00:00Z,7\n"
    )
    _, out, _ = command(text)
    assert "load is no number 1" in out, out
    assert "time is no time 1" in out
    assert "a time occurs again, and its first row counts 1" in out


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        (csv_of(daily_load(), "time,laod"), (), "did you mean laod?"),
        (csv_of(daily_load(), "moment,load"), (), "say it with --time"),
        (csv_of(daily_load()), ("--time", "tiem"), "did you mean time?"),
        ("time,load\n", (), "nothing could be read"),
    ],
)
def test_bad_input_is_one_line(command, text, options, fault):
    code, _, err = command(text, *options)
    assert code == 2
    assert fault in err
    assert len(err.splitlines()) == 1


# ---- The benchmark ----


def judged(scores, *windows):
    return ScoredFile(np.array(scores, float), list(windows))


def test_alarms_are_worth_less_the_later_they_come():
    worths, number = alarm_worths(40, [(10, 19)])
    assert worths[:10].tolist() == [-1] * 10
    assert worths[10] == 1
    assert (np.diff(worths[10:20]) < 0).all()
    assert worths[19] > 0 > worths[20]
    assert worths[39] == pytest.approx(nab.weight(20 / 9))
    assert np.flatnonzero(number >= 0).tolist() == list(range(10, 20))


def test_first_row_of_every_window_is_perfect_and_nothing_is_zero():
    rows = np.zeros(100)
    silent = [judged(rows, (30, 39), (60, 69))]
    rows = rows.copy()
    rows[[30, 60]] = 1
    perfect = [judged(rows, (30, 39), (60, 69))]
    for profile in nab.COST_PROFILES:
        assert best_score(perfect, profile) == pytest.approx(100)
        assert best_score(silent, profile) == pytest.approx(0, abs=60)


def test_false_alarms_and_probation_count_as_published():
    rows = np.zeros(100)
    rows[[5, 20, 30]] = 2  # 5 is in the probation of 15 rows
    standard, low_fp, low_fn = (
        best_score([judged(rows, (30, 39))], profile) for profile in nab.COST_PROFILES
    )
    assert standard == pytest.approx(100 * (1 - 0.11 + 1) / 2)
    assert low_fp == pytest.approx(100 * (1 - 0.22 + 1) / 2)
    assert low_fn == pytest.approx(100 * (1 - 0.11 + 2) / 3)


def test_benchmark_runs_on_a_folder(tmp_path, capsys):
    data = tmp_path / "data" / "made"
    data.mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    windows = {}
    for name in ("value", "rate"):
        (data / f"{name}.csv").write_text(
            csv_of(with_change(name), "timestamp,value"), "utf-8"
        )
        limits = HOUR_TIMES[[ODD_HOUR - 12, ODD_HOUR + 12]].astype("datetime64[s]")
        windows[f"made/{name}.csv"] = [
            [str(limit).replace("T", " ") for limit in limits]
        ]
    (tmp_path / nab.WINDOWS_FILE).write_text(json.dumps(windows), "utf-8")

    assert nab.main([str(tmp_path)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0].strip("| ") for row in table[2:]] == [
        "standard",
        "low FP",
        "low FN",
    ]
    assert all(float(row.split(" | ")[1]) > 80 for row in table[2:])
    assert nab.main([str(data)]) == 2

"""The bench of stage_overdue_expected, on a made log of checks that take long from some day on."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.stage_log import LIMIT_DAYS, LIMIT_SHARE
from bench.stages import LOG_NAME, WARM_UP_DAYS, page
from models.timelines.hazard import PART_MARKS
from schemas.units import DAY_SECONDS, HOUR_SECONDS

START_TIME = 1_356_998_400  # 2013-01-01
DAY_COUNT = 640
DAILY_ITEMS = 4
DRIFT_DAY = 500  # from which most checks are late, in the log that drifts
CHECK_START = START_TIME + HOUR_SECONDS * np.arange(DAY_COUNT * DAILY_ITEMS) * 6


def check_seconds(drift_day: int) -> np.ndarray:
    """How long each check takes, from its start on."""
    rng = np.random.default_rng(3)
    hours = rng.uniform(1, 10, len(CHECK_START))
    days = (CHECK_START - START_TIME) // DAY_SECONDS
    is_slow = (days >= drift_day) & (rng.random(len(hours)) < 0.9)
    return np.round(np.where(is_slow, 2 * hours + 10, hours) * HOUR_SECONDS)


def written_log(folder: Path, drift_day: int) -> Path:
    """The checks as a log of events; an item is closed when its check is done."""
    ends = CHECK_START + check_seconds(drift_day).astype(np.int64)
    at = np.concatenate([CHECK_START, ends])
    order = np.argsort(at, kind="stable")
    names = np.array([f"W{n}" for n in range(len(ends))] * 2)
    activities = np.repeat(["check", "closed"], len(ends))
    columns = {
        "case_id": names[order],
        "activity": activities[order],
        "timestamp": at[order].astype("datetime64[s]").astype("datetime64[us]"),
    }
    path = folder / LOG_NAME
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def lines_of(tmp_path_factory):
    """The page's lines of a log, by the day of its drift."""

    @cache
    def lines(drift_day: int) -> list[str]:
        path = written_log(tmp_path_factory.mktemp("log"), drift_day)
        return list(page(path))

    return lines


def cells_of(lines: list[str], name: str) -> list[str]:
    """The cells of the table's line of a name."""
    [line] = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


@pytest.mark.parametrize("drift_day", [DRIFT_DAY, DAY_COUNT])
def test_the_bench_of_stages_counts_the_stays_that_reach_a_mark(lines_of, drift_day):
    took = check_seconds(drift_day)
    first = START_TIME + LIMIT_DAYS * DAY_SECONDS > CHECK_START
    limit = np.round(np.quantile(took[first], LIMIT_SHARE))
    shown = CHECK_START + limit < (CHECK_START + took).max()

    expected = []
    for share in PART_MARKS:
        mark = CHECK_START + np.round(share * limit)
        counted = mark >= START_TIME + WARM_UP_DAYS * DAY_SECONDS
        reached = shown & counted & (took > np.round(share * limit))
        late = reached & (took > limit)
        expected.append(f"{late.sum():,} of {reached.sum():,}")
    lines = lines_of(drift_day)
    assert cells_of(lines, "late, of the stays that reach the mark") == expected


def test_the_bench_of_stages_compares_every_method_at_every_mark(lines_of):
    lines = lines_of(DRIFT_DAY)
    for name in ("this rule", "gradient boosting", "usual stay"):
        cells = cells_of(lines, name)
        assert len(cells) == len(PART_MARKS)
        assert all(re.fullmatch(r"\d+\.\d%", cell) for cell in cells)


def test_the_bench_of_stages_counts_the_days_after_a_drift(lines_of):
    name = "stays of which this rule cannot tell since a drift"
    assert cells_of(lines_of(DAY_COUNT), name) == ["0.0% on 0 days"] * 3

    lines = lines_of(DRIFT_DAY)
    share, _, days, _ = cells_of(lines, name)[0].split()
    # fifty stays are known anew after thirteen days
    assert 11 <= int(days) <= 14
    late = cells_of(lines, "late, of the stays that reach the mark")[0]
    unsure = float(share.rstrip("%")) / 100 * int(late.split()[-1])
    assert 0.8 <= unsure / (int(days) * DAILY_ITEMS) <= 1.01

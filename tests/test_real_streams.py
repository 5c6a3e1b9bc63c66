"""The slow twin agrees on real data: an area's curves, households and a billing office's work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from replay.sources import open_sources
from replay.stalls import compare
from schemas.columns import Batch, StageProgress
from schemas.units import DAY_SECONDS
from tests.adversarial import Row, Stream, with_closing_readings
from tests.test_promises import agree, judge_stream, last

DATA_FOLDER = Path(__file__).parent / "data"
# the 18th in Shanghai, the 20th in Sydney
JULY_2016 = 1_468_771_200
JANUARY_2013 = 1_358_600_400


def rows_of(batch: Batch) -> Iterator[Row]:
    encodings = batch.encodings()
    plain = [
        field.name
        for field in fields(batch)
        if field.name not in {*encodings, *encodings.values(), "at"}
    ]
    for n in range(len(batch)):
        columns: dict[str, Any] = {name: getattr(batch, name).T[n] for name in plain}
        words = {
            codes: getattr(batch, names)[getattr(batch, codes)[n]]
            for names, codes in encodings.items()
        }
        area, subject = words.pop("area"), words.pop("subject")
        yield Row(type(batch), area, subject, int(batch.at[n]), columns | words)


def stream_of(pattern: str, first: int = 0, days: int = 40_000) -> Stream:
    """`days` days of the files of a pattern, as a stream."""
    source = open_sources(sorted(DATA_FOLDER.glob(pattern)))
    rows = [
        row
        for batch in source.batches
        for row in rows_of(batch)
        if first < row.at <= first + days * DAY_SECONDS
    ]
    return Stream(source.areas, tuple(rows), source.zone, source.interval or 900)


@pytest.mark.parametrize(
    ("pattern", "first", "days", "rules"),
    [
        ("garden4_*", JULY_2016, 3, {"meter_current_unbalance"}),
        ("sgsc_*", JANUARY_2013, 14, {"read_failure", "read_success_rate"}),
    ],
)
def test_the_slow_twin_agrees_on_readings(pattern, first, days, rules):
    stream = with_closing_readings(stream_of(pattern, first, days), DAY_SECONDS)
    alerts = judge_stream(stream)[1]
    assert {alert.rule for alert in last(alerts).values()} == rules
    agree(stream, alerts)


def test_the_slow_twin_agrees_on_work_with_a_limit_for_every_stage():
    stream = stream_of("hospital_*")
    limits = {
        StageProgress.STARTED: {"limit": 10.0 * DAY_SECONDS},
        StageProgress.FINISHED: {},
    }
    rows = [
        replace(row, columns=row.columns | limits[row.columns["progress"]])
        for row in stream.rows
    ]
    stream = stream.with_rows(rows)
    alerts = judge_stream(stream)[1]
    assert len(last(alerts)) > 100
    agree(stream, alerts)


def test_stalled_work_is_among_what_takes_longest():
    source = open_sources([DATA_FOLDER / "hospital_billing_300cases.parquet"])
    stalled = {
        stage.stage: stage
        for stage in compare(source.areas, source.batches, source.zone)
        if stage.alerted
    }
    assert {name: (stage.alerted, stage.found) for name, stage in stalled.items()} == {
        "FIN": (6, 6),
        "CODE OK": (1, 1),
    }
    assert stalled["FIN"].days > 90

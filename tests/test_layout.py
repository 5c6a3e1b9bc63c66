"""The project's own layout: written and read back the same."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from replay import layout, parquet
from replay.sources import open_source
from schemas.columns import (
    DeviceEvents,
    Event,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
)
from schemas.master import Area, Meter

START_TIME = 1_700_000_000 // 900 * 900


def history(seed=7, meters=40, times=60):
    rng = np.random.default_rng(seed)
    areas = [
        Area(
            area="A",
            gateway="M0",
            meters=[Meter(meter=f"M{k}", interval_s=900) for k in range(meters)],
        )
    ]
    many = meters * times
    volts = (220 + rng.normal(size=(3, many))).astype("f4")
    volts[:, rng.random(many) < 0.1] = np.nan
    readings = Readings.build(
        [f"M{k}" for k in range(meters)],
        np.tile(np.arange(meters), times),
        ["A"],
        np.zeros(many),
        np.repeat(START_TIME + 900 * np.arange(times), meters),
        register=rng.random(many) * 1e6,
        u=volts,
        kwh=rng.random(many),
        received=np.full(many, START_TIME),
        status=rng.integers(0, 3, many),
    )

    events = DeviceEvents.build(
        ["M1", ""],
        [0, 1],
        ["A"],
        [0, 0],
        [START_TIME + 5, START_TIME + 900],
        event=[Event.COVER_OPEN, Event.PLANNED_OUTAGE],
        until=[0, START_TIME + 7200],
    )
    payments = Payments.build(
        ["C1"],
        [0, 0],
        ["A"],
        [0, 0],
        [START_TIME, START_TIME + 60],
        payment=[Payment.BILL, Payment.PAYMENT],
        amount=[10.25, np.nan],
        bills=["B1", ""],
        bill=[0, 1],
        channels=["", "card"],
        channel=[0, 1],
        succeeded=[1, 0],
        due=[START_TIME + 86400, 0],
    )

    stages = Stages.build(
        ["w"],
        [0, 0],
        ["S"],
        [0, 0],
        [START_TIME, START_TIME + 30],
        stages=["read"],
        stage=[0, 0],
        progress=[StageProgress.STARTED, StageProgress.FINISHED],
        limit=[3600, np.nan],
    )

    return areas, [readings, events, payments, stages]


def sorted_rows(batches):
    """Every row of every kind with names in place of codes, in order of time and name."""
    rows = []
    for batch in batches:
        encodings = batch.encodings()
        for k in range(len(batch)):
            row = {
                codes: getattr(batch, names)[getattr(batch, codes)[k]]
                for names, codes in encodings.items()
            }
            for field in fields(batch):
                if field.name not in encodings and field.name not in encodings.values():
                    row[field.name] = np.atleast_1d(
                        getattr(batch, field.name)[..., k]
                    ).tobytes()
            rows.append((batch.kind, int(batch.at[k]), row))

    return sorted(rows, key=lambda row: (row[0], row[1], row[2]["subject"]))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_history_reads_back_to_the_last_bit(tmp_path, form):
    areas, batches = history()
    written = layout.write(tmp_path / "town", areas, batches, form)
    source = open_source(tmp_path / "town")
    assert source.areas == areas
    assert source.interval == 900
    assert sorted_rows(source.batches) == sorted_rows(batches)
    assert written == {"readings": 2400, "events": 2, "payments": 2, "stages": 2}
    assert not source.rejected


def test_unordered_parquet_file_is_sorted(tmp_path):
    areas, (readings, *_) = history()
    shuffled = readings.select(np.random.default_rng(1).permutation(len(readings)))
    layout.write(tmp_path, areas, [shuffled])
    batches = list(open_source(tmp_path).batches)
    assert (np.diff(np.concatenate([batch.at for batch in batches])) >= 0).all()
    assert sorted_rows(batches) == sorted_rows([readings])


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_readings_come_in_the_order_in_which_they_were_received(tmp_path, form):
    areas, (readings, *_) = history()
    received = START_TIME + np.random.default_rng(2).permutation(len(readings))
    layout.write(tmp_path / "town", areas, [replace(readings, received=received)], form)
    batches = list(open_source(tmp_path / "town").batches)
    received_parts = [
        batch.received for batch in batches if isinstance(batch, Readings)
    ]
    assert np.concatenate(received_parts).tolist() == sorted(received.tolist())


def test_readings_received_at_once_come_in_order_of_time(tmp_path):
    areas, (readings, *_) = history()
    by_meter = readings.select(np.argsort(readings.subject, kind="stable"))
    layout.write(tmp_path, areas, [by_meter])
    batches = list(open_source(tmp_path).batches)
    assert (np.diff(np.concatenate([batch.at for batch in batches])) >= 0).all()


def test_file_too_long_to_sort_comes_in_order_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SORTED_ROWS", 100)
    monkeypatch.setattr(parquet, "CHUNK_ROWS", 200)
    areas, (readings, *_) = history()
    received = readings.at + np.random.default_rng(2).integers(0, 5000, len(readings))
    layout.write(tmp_path, areas, [replace(readings, received=received)])
    batches = list(open_source(tmp_path).batches)
    assert all(
        earlier.at.max() <= later.at.min() for earlier, later in pairwise(batches)
    )
    assert sorted_rows(batches) == sorted_rows([replace(readings, received=received)])


def test_batches_share_names_and_keep_rows_of_one_time_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "CHUNK_ROWS", 100)
    areas, (readings, *_) = history()
    layout.write(tmp_path, areas, [readings])
    batches = list(open_source(tmp_path).batches)
    assert len(batches) > 5
    assert len({id(batch.names) for batch in batches}) == 1
    assert all(earlier.at[-1] < later.at[0] for earlier, later in pairwise(batches))
    assert sorted_rows(batches) == sorted_rows([readings])


def test_bad_cells_are_counted_with_their_position(tmp_path):
    (tmp_path / "readings.csv").write_text(
        "meter,area,at,kwh,status,received\n"
        "M,A,1700000000,1.5,measured,\n"
        "M,A,2023-11-14T22:15:00Z,two,,0\n"
        ",A,1700001800,1,,\n"
        "M,,1700001800,1,,\n"
        "M,A,1234,1,,\n"
        "M,A,1700002700,1,guessed,\n"
        "M,A,1700003600,1,Estimated,noon\n"
    )
    source = open_source(tmp_path)
    (readings,) = source.batches

    assert isinstance(readings, Readings)
    assert readings.at.tolist() == [1_700_000_000, 1_700_000_100, 1_700_003_600]
    assert readings.status.tolist() == [0, 0, 1]
    assert np.isnan(readings.kwh[1])
    assert source.rejected == {
        "kwh is no number": 1,
        "meter is missing": 1,
        "area is missing": 1,
        "at is no time": 1,
        "status is no known word": 1,
        "received is no time": 1,
    }
    assert source.tally.first["kwh is no number"] == "readings.csv row 2: 'two'"


def test_invalid_area_line_is_counted(tmp_path):
    areas, (readings, *_) = history()
    layout.write(tmp_path, areas, [readings])
    with (tmp_path / "areas.jsonl").open("a") as lines:
        lines.write('\n{"area": "B", "metres": []}\n')
    source = open_source(tmp_path)
    assert [area.area for area in source.areas] == ["A"]
    assert source.rejected == {"the line is no area": 1}

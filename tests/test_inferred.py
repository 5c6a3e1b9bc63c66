"""Properties of meters inferred from their readings."""

from __future__ import annotations

import numpy as np
import pytest

from replay.inferred import steps, supplies, sure_steps, with_steps
from replay.sources import open_sources
from schemas.columns import Readings
from schemas.master import Area, Meter

NOT_A_NUMBER = float("nan")


def readings_of(voltages, meters=1, rows=4, step=900):
    """The same voltages of several meters, repeated."""
    number = np.tile(np.arange(meters), rows)
    volts = np.repeat(np.array(voltages, float)[:, None], len(number), axis=1)
    names = [f"M{n}" for n in range(meters)]
    at = 1_700_000_000 + step * (np.arange(len(number)) // meters)
    return Readings.build(names, number, ["A"], 0 * number, at, u=volts)


@pytest.mark.parametrize(
    ("voltages", "supply"),
    [
        ((102, 0, 101.6), ("3P3W", 100)),
        ((102, NOT_A_NUMBER, 101.6), ("3P3W", 100)),
        ((58.2, 58.0, 57.9), ("3P4W", 57.7)),
        ((231, 229, 230), ("3P4W", 220)),
        ((100, 101, 99), ("3P4W", 100)),
        ((231, NOT_A_NUMBER, NOT_A_NUMBER), None),  # a single phase
        ((110, NOT_A_NUMBER, NOT_A_NUMBER), None),  # and one with half its voltage
        ((231, 0, 230), None),  # B has failed
        ((0, 57.7, 57.7), None),  # A has failed
        ((231, 120, 230), None),  # B is loose
        ((150, 150, 150), None),
        ((NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER), None),
    ],
)
def test_supply_is_inferred_from_voltages_or_not_at_all(voltages, supply):
    assert supplies(readings_of(voltages, meters=2)) == (
        {0: supply, 1: supply} if supply else {}
    )


def test_usual_step_is_inferred_for_each_meter():
    hourly = readings_of((230, 230, 230), meters=2, rows=5, step=3600)
    assert steps(hourly) == {0: 3600, 1: 3600}
    assert steps(readings_of((230, 230, 230), rows=1)) == {}


@pytest.mark.parametrize(
    ("gaps", "step"),
    [
        ([3600] * 4, 3600),
        ([1800] * 9 + [7200], 1800),
        ([900] * 3, None),
        ([900, 1800, 2700, 3600], None),
        ([30] * 9, None),
    ],
)
def test_step_is_certain_if_most_gaps_are_equal(gaps, step):
    at = 1_700_000_000 + np.cumsum([0, *gaps])
    readings = Readings.build(["M"], 0 * at, ["A"], 0 * at, at, kwh=np.ones(len(at)))
    assert sure_steps(readings) == ({0: step} if step else {})


METER_STEPS = {("A", "M1"): 3600, ("A", "M2"): 3600, ("B", "M3"): 1800}


def test_inferred_steps_fill_gaps_in_master_data():
    notes: list[str] = []
    areas, interval = with_steps(
        [Area(area="A", meters=[Meter(meter="M1"), Meter(meter="M4")])],
        METER_STEPS,
        notes,
    )
    assert interval == 3600
    steps = {
        (area.area, meter.meter): meter.interval_s
        for area in areas
        for meter in area.meters
    }
    assert steps == {("A", "M1"): 3600, ("A", "M4"): 900, ("B", "M3"): 1800}
    assert notes == ["readings come every 3,600 s by what they show"]


def test_master_data_prevail_over_inferred_steps():
    meters = [
        Area(area="A", meters=[Meter(meter="M1", interval_s=1800), Meter(meter="M2")])
    ]
    assert with_steps(meters, METER_STEPS, []) == (meters, 900)
    assert with_steps([], {}, []) == ([], 0)


def test_hourly_files_are_judged_as_hourly(tmp_path):
    at = 1_700_000_000 // 3600 * 3600 + 3600 * np.arange(72)
    rows = "".join(f"{meter},A,{time},0.5\n" for time in at for meter in ("M1", "M2"))
    (tmp_path / "readings.csv").write_text(f"meter,area,at,kwh\n{rows}")
    source = open_sources([tmp_path / "readings.csv"])
    assert source.interval == 3600
    assert sum(map(len, source.batches)) == 144


def test_meters_behind_voltage_transformers_are_noted_and_raise_no_voltage_alert(
    tmp_path,
):
    moments = [f"{n // 4:02d}:{n % 4 * 15:02d}:00" for n in range(48)]
    head = ",".join(["台区编号", "电表局编号", "日期", "电压所属相序", *moments])
    rows = [
        ",".join(["T", meter, "2023-05-01", f"{phase}相", *[str(volt)] * len(moments)])
        for meter, volts in (
            ("M1", (102, 0, 101.6)),
            ("M2", (58.2, 58.0, 57.9)),
            ("M3", (230, 231, 229)),
        )
        for phase, volt in zip("ABC", volts, strict=True)
    ]
    (tmp_path / "u.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    source = open_sources([tmp_path / "u.csv"])
    [area] = source.areas

    assert [(record.meter, record.wiring, record.un_v) for record in area.meters] == [
        ("M1", "3P3W", 100.0),
        ("M2", "3P4W", 57.7),
        ("M3", "3P4W", 220.0),
    ]
    assert source.tally.notes == [
        "1 meters, such as M1, are 3P3W of 100 V by what they show",
        "1 meters, such as M2, are 3P4W of 57.7 V by what they show",
    ]

"""Readers of history: real layouts, bad cells and merging."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.sources import SourceError, open_source, open_sources
from schemas.columns import Readings, StageProgress, Stages

DATA_FOLDER = Path(__file__).parent / "data"
CURRENT_FILE = DATA_FOLDER / "garden4_current.csv.gz"
VOLTAGE_FILE = DATA_FOLDER / "garden4_voltage.csv.gz"
HOUSEHOLDS_FILE = DATA_FOLDER / "sgsc_4households_halfhourly.parquet"
HOSPITAL_FILE = DATA_FOLDER / "hospital_billing_300cases.parquet"
GATEWAY_METER = "0700420544"
CHINA_OFFSET = 8 * 3600


LAYOUT_ROWS = [
    (
        "meter,area,at,kwh,ua,status,received",
        ["M", "A", "1700000000", "1.5", "220", "measured", ""],
    ),
    (
        "item,section,at,stage,progress,limit",
        ["W", "S", "2023-11-14T22:15:00Z", "read", "started", "60"],
    ),
    (
        "customer,area,at,payment,amount,bill,succeeded,due",
        ["C", "A", "1700000000", "bill", "9", "B", "1", ""],
    ),
    (
        "台区编号,电表局编号,日期,相序,综合倍率,00:00,24:00",
        ["T", "7", "2016-01-01", "A相", "1", "0.5", "1"],
    ),
    (
        "customer_id,reading_datetime,general_supply_kwh",
        ["1", "2013-01-01 00:30:00", "0.5"],
    ),
    ("case_id,activity,timestamp", ["c", "read", "2013-01-01 00:30:00"]),
]


def rows(source):
    batches = list(source.batches)
    return type(batches[0]).join(batches)


def seconds(text, offset=0):
    return int(np.datetime64(text, "s").astype(np.int64)) - offset


def rows_of(batch, name):
    return batch.select(batch.subject == batch.names.index(name))


def curves(
    folder,
    name,
    text,
    header="台区编号,用户编号,电表局编号,综合倍率,日期,相序,00:00:00,00:15:00",
):
    path = folder / name
    path.write_bytes(f"{header}\n{text}".encode())
    return path


@pytest.fixture(scope="module")
def garden():
    source = open_sources([CURRENT_FILE, VOLTAGE_FILE])
    return source, rows(source)


def test_currents_and_voltages_join_by_meter_and_time(garden):
    gateway = rows_of(garden[1], GATEWAY_METER)
    row = gateway.select(gateway.at == seconds("2016-07-21T22:00:00", CHINA_OFFSET))
    assert len(row) == 1
    np.testing.assert_allclose(row.i[:, 0], [0.57, 0.892, 1.617], rtol=1e-6)
    assert (row.u > 220).all()


def test_value_missing_from_one_file_is_nan(garden):
    readings = garden[1]
    december = readings.select(readings.at < seconds("2016-01-01"))
    assert len(december)
    assert np.isnan(december.u).all()
    voltage_only = rows_of(readings, "1535279560")
    assert len(voltage_only)
    assert np.isnan(voltage_only.i).all()


def test_a_lost_phase_stays_lost(garden):
    gateway = rows_of(garden[1], GATEWAY_METER)
    lost = gateway.select(
        (gateway.at >= seconds("2015-12-10", CHINA_OFFSET))
        & (gateway.at < seconds("2015-12-11", CHINA_OFFSET))
    )
    assert lost.i[0, :2].tolist() == [0, 0]
    assert np.isnan(lost.i[0, 2:]).all()
    assert np.isfinite(lost.i[1:]).all()


def test_single_phase_meters_fill_phase_a_only(garden):
    meter = rows_of(garden[1], "1525395502")
    assert np.isfinite(meter.u[0]).any()
    assert np.isnan(meter.u[1:]).all()


def test_a_spreadsheets_lost_zero_is_mended_and_counted(garden):
    source, readings = garden
    assert readings.areas == ("0690100001365",)
    assert source.tally.mended == {"台区编号 had lost its leading zeros": 1}
    assert not source.rejected


@pytest.mark.parametrize(
    ("next_time", "rows", "interval"),
    [
        ("00:15:00", "A,C,M,1,2016-01-01,A相,1,\nA,C,M,1,2016-01-03,A相,2,\n", 86_400),
        ("00:00:20", "A,C,M,1,2016-01-01,A相,1,2\n", 60),
    ],
)
def test_an_odd_gap_between_readings_gives_an_interval_that_a_meter_may_have(
    tmp_path, next_time, rows, interval
):
    header = f"台区编号,用户编号,电表局编号,综合倍率,日期,相序,00:00:00,{next_time}"
    source = open_source(curves(tmp_path, "odd.csv", rows, header))
    assert [meter.interval_s for area in source.areas for meter in area.meters] == [
        interval
    ]


def test_master_data_of_the_curves(garden):
    source, _ = garden
    (area,) = source.areas
    assert (source.zone, source.interval, area.gateway) == (
        "Asia/Shanghai",
        900,
        GATEWAY_METER,
    )

    meters = {meter.meter: meter for meter in area.meters}
    gateway, household = meters[GATEWAY_METER], meters["1525395502"]
    assert (gateway.wiring, gateway.ct, gateway.ib_a, gateway.interval_s) == (
        "3P4W",
        160,
        1.5,
        900,
    )
    assert (household.wiring, household.ct, household.ib_a, household.interval_s) == (
        "1P2W",
        1,
        5,
        3600,
    )
    assert household.customer == "8100410656"


def test_the_order_of_files_does_not_matter(garden):
    reversed_rows = rows(open_sources([VOLTAGE_FILE, CURRENT_FILE]))
    readings = garden[1]

    def sorted_rows(batch):
        first_names = np.array(batch.names)[batch.subject]
        return batch.select(np.lexsort((first_names, batch.at))), np.sort(first_names)

    (first, first_names), (second, second_names) = (
        sorted_rows(readings),
        sorted_rows(reversed_rows),
    )
    assert first_names.tolist() == second_names.tolist()
    np.testing.assert_array_equal(first.at, second.at)
    np.testing.assert_array_equal(first.i, second.i)
    np.testing.assert_array_equal(first.u, second.u)


def test_batches_are_ordered_and_keep_rows_of_one_time_together():
    batches = list(open_source(HOUSEHOLDS_FILE).batches)
    for batch in batches:
        assert (np.diff(batch.at) >= 0).all()
    assert all(earlier.at[-1] < later.at[0] for earlier, later in pairwise(batches))


def test_a_ratio_that_changes_is_effective_dated(tmp_path):
    path = curves(
        tmp_path,
        "i.csv",
        "A,C,G,160,2016-01-01,A相,1,1\nA,C,G,80,2016-01-03,A相,1,1\nA,C,G,160,2016-01-02,A相,1,1\nA,D,M,1,2016-01-01,A相,1,1\n",
    )
    (area,) = open_source(path).areas
    eras = [(meter.ct, meter.effective) for meter in area.meters if meter.meter == "G"]
    assert eras == [
        (160, seconds("2016-01-01", CHINA_OFFSET)),
        (80, seconds("2016-01-03", CHINA_OFFSET)),
    ]
    assert area.gateway == "G"


def test_every_bad_cell_is_counted_and_the_rest_is_read(tmp_path):
    path = curves(
        tmp_path,
        "i.csv",
        "A,C,M,1,2016-01-01,A相,x,0.5\n"
        "\n"
        "A,C,,1,2016-01-01,A相,1,1\n"
        "A,C,M,1,2016-02-30,A相,1,1\n"
        "A,C,M,1,2016-01-01,零线,1,1\n"
        "A,C,M,1,2016-01-01,A相,7,7\n"
        "A,C,M\n"
        "A,C,M,1,2016-01-02,A相,1e30,\n"
        "A,C,M,1,2016/1/3,B相, 0.25 ,nan\n",
    )
    source = open_source(path)

    readings = rows(source)
    assert source.rejected == {
        "00:00:00 is no number": 1,
        "00:00:00 is larger than any quantity": 1,
        "电表局编号 is missing": 1,
        "日期 is no time": 1,
        "相序 is not A, B or C": 1,
        "a second row of the same meter, day and phase": 1,
        "the row has more or fewer cells than the header": 1,
    }
    assert source.tally.first["日期 is no time"] == "i.csv row 3: '2016-02-30'"
    assert readings.at.tolist() == [
        seconds("2016-01-01T00:15", CHINA_OFFSET),
        seconds("2016-01-03", CHINA_OFFSET),
    ]
    assert readings.i[0, 0] == np.float32(0.5)
    assert readings.i[1, 1] == np.float32(0.25)


def test_first_of_two_overlapping_files_counts(tmp_path):
    first = curves(tmp_path, "one.csv", "A,C,M,1,2016-01-01,A相,1,2\n")
    second = curves(
        tmp_path, "two.csv", "A,C,M,1,2016-01-01,A相,9,\nA,C,M,1,2016-01-01,B相,5,6\n"
    )
    source = open_sources([first, second])
    readings = rows(source)
    assert readings.i[:2].tolist() == [[1, 2], [5, 6]]
    assert source.rejected == {"an earlier file has the value too": 1}
    assert source.tally.first == {"an earlier file has the value too": "two.csv"}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_a_file_contains_it_is_read_or_refused(data):
    header, row = data.draw(st.sampled_from(LAYOUT_ROWS))
    cell = st.one_of(
        st.sampled_from(row),
        st.text(max_size=8),
        st.floats().map(str),
        st.integers().map(str),
    )
    lines = data.draw(
        st.lists(st.lists(cell, max_size=len(row) + 1).map(",".join), max_size=6)
    )
    text = "\n".join([header, ",".join(row), *lines])

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_bytes(
            text.encode(data.draw(st.sampled_from(["utf-8", "gb18030"])), "replace")
        )
        try:
            source = open_source(path)
            assert sum(map(len, source.batches)) >= 0
        except SourceError:
            return


def test_gb18030_files_open(tmp_path):
    text = gzip.decompress(CURRENT_FILE.read_bytes()).decode().split("\n")[:4]
    path = tmp_path / "current.csv"
    path.write_bytes("\r\n".join([*text, ""]).encode("gb18030"))
    source = open_source(path)
    assert source.areas[0].gateway == ""
    assert rows(source).names == (GATEWAY_METER,)


def test_households_are_meters_in_standard_time():
    source = open_source(HOUSEHOLDS_FILE)
    readings = rows(source)
    (area,) = source.areas
    assert (area.area, area.gateway, source.zone, source.interval) == (
        "SGSC",
        "",
        "Australia/Sydney",
        1800,
    )
    assert all(meter.customer == meter.meter for meter in area.meters)
    assert {meter.effective for meter in area.meters} == {
        seconds("2013-01-01", 10 * 3600) - 1800
    }
    assert len(readings) == source.rows == 18984
    assert readings.at[0] == seconds("2013-01-01", 10 * 3600)

    household = rows_of(readings, "10006414")
    assert (np.diff(household.at) == 1800).all()  # daylight saving ended on 2013-04-07


def test_household_without_a_good_row_is_no_meter(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text(
        "customer_id,reading_datetime,general_supply_kwh\n2,2013-01-01 00:30:00,\n1,2013-01-01 01:00,1\n"
    )
    source = open_source(path)
    assert [meter.meter for meter in source.areas[0].meters] == ["1"]
    assert source.rejected == {"general_supply_kwh is missing": 1}


def test_an_activity_starts_a_stage_and_the_next_event_finishes_it(tmp_path):
    log = pa.table(
        {
            "case_id": ["a", "a", "b", "a", "b", None, "c"],
            "activity": ["read", "check", "read", "billed", "billed", "read", "check"],
            "timestamp": pa.array(
                [1e9, 1e9 + 60, 1e9 + 60, 1e9 + 90, 1e9 + 90, 1e9, 1e9 + 99], pa.int64()
            ),
        }
    )
    pq.write_table(log, tmp_path / "log.parquet")
    source = open_source(tmp_path)
    stages = rows(source)
    progress_of_items = [
        (
            int(at - 1e9),
            stages.names[item],
            stages.stages[stage],
            StageProgress(progress).name,
        )
        for at, item, stage, progress in zip(
            stages.at, stages.subject, stages.stage, stages.progress, strict=True
        )
    ]

    assert progress_of_items == [
        (0, "a", "read", "STARTED"),
        (60, "a", "read", "FINISHED"),
        (60, "a", "check", "STARTED"),
        (60, "b", "read", "STARTED"),
        (90, "a", "check", "FINISHED"),
        (90, "b", "read", "FINISHED"),
        (99, "c", "check", "STARTED"),
    ]
    assert source.rejected == {"case_id is missing": 1}


def test_a_log_by_the_names_of_xes_and_its_deadlines_are_read(tmp_path):
    (tmp_path / "log.csv").write_text(
        "case:concept:name,concept:name,time:timestamp,deadline\n"
        "a,read,2026-03-02T01:00:00Z,2026-03-02T02:00:00Z\n"
        "a,check,2026-03-02T01:30:00Z,\n"
        "a,billed,2026-03-02T03:00:00Z,\n"
    )
    stages = rows(open_source(tmp_path))
    started = stages.progress == StageProgress.STARTED
    assert [stages.stages[code] for code in stages.stage[started]] == ["read", "check"]
    assert stages.limit[started].tolist()[0] == 3600
    assert np.isnan(stages.limit[started][1])
    assert np.isnan(stages.limit[~started]).all()


def test_names_too_long_for_an_id_are_cut_and_stay_distinct(tmp_path):
    long_name, other_name = "prüfen " * 40 + "A", "prüfen " * 40 + "B"
    rows = "".join(
        f"c{n},{stage},2026-03-02T0{n}:00:00Z\n"
        for n in range(4)
        for stage in (long_name, other_name, "end/ed")
    )
    (tmp_path / "log.csv").write_text("case_id,activity,timestamp\n" + rows, "utf-8")
    source = open_source(tmp_path)

    assert (
        len({name for name in rows_of_stages(source) if name.startswith("prüfen")}) == 2
    )
    assert source.tally.mended == {
        "activity is longer than 128 characters and was cut": 8
    }
    assert not source.rejected


def rows_of_stages(source):
    return [
        stages.stages[code]
        for stages in source.batches
        if isinstance(stages, Stages)
        for code in stages.stage
    ]


def test_id_that_is_too_long_is_rejected_as_such_and_not_quoted(tmp_path):
    (tmp_path / "x.csv").write_text(
        f"meter,area,at,kwh\n{'M' * 129},A,1700000000,1\nM,A,1700000000,1\n"
    )
    source = open_source(tmp_path)
    assert len(rows(source)) == 1
    assert source.rejected == {
        "meter is longer than 128 characters, or cannot be printed": 1
    }
    assert source.tally.first.popitem()[1] == "x.csv row 1"


def test_the_billing_workflow_closes_its_cases():
    source = open_source(HOSPITAL_FILE)
    stages = rows(source)
    assert source.rejected == {"case_id is missing": 1}
    started, finished = (
        (stages.progress == progress).sum()
        for progress in (StageProgress.STARTED, StageProgress.FINISHED)
    )
    assert 0 < started - finished < 300
    used = {stages.stages[code] for code in stages.stage}
    assert "RELEASE" in used
    assert "BILLED" not in used


def test_kinds_are_merged_hour_by_hour(tmp_path):
    hour = 1_000_000_800 // 3600 * 3600
    pq.write_table(
        pa.table(
            {
                "meter": ["m"] * 8,
                "area": ["a"] * 8,
                "at": [hour + 900 * k for k in range(8)],
                "kwh": [1.0] * 8,
            }
        ),
        tmp_path / "readings.parquet",
    )
    (tmp_path / "stages.csv").write_text(
        f"item,section,at,stage,progress\nw,s,{hour + 3700},read,started\n"
    )

    batches = list(open_source(tmp_path).batches)
    assert [(type(batch), batch.at[0] - hour) for batch in batches[:3]] == [
        (Readings, 0),
        (Stages, 3700),
        (Readings, 3600),
    ]
    assert sum(len(batch) for batch in batches) == 9


def test_files_of_one_kind_interleave_and_keep_their_names(tmp_path):
    for name, meters, start in (("x", ["m1", "m2"], 0), ("y", ["m2", "m3"], 450)):
        at = np.repeat(1_000_000_000 + start + np.arange(30_000) * 900, 2)
        pq.write_table(
            pa.table(
                {
                    "meter": meters * 30_000,
                    "area": ["a"] * 60_000,
                    "at": at,
                    "kwh": np.arange(60_000.0),
                }
            ),
            tmp_path / f"{name}.parquet",
        )

    batches: list[Any] = list(open_source(tmp_path).batches)
    joined = Readings.join(batches)
    assert len(joined) == 120_000
    assert (np.diff(joined.at) >= 0).all()

    for batch in batches:
        assert batch.names == ("m1", "m2", "m3")
        first = batch.select(np.array(batch.names)[batch.subject] == "m3")
        assert (first.kwh % 2 == 1).all()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "a,b\n1,2\n", "has the columns a, b; known are"),
        ("x.csv", "", "is empty"),
        ("x.parquet", "no parquet", "cannot be read"),
        ("x.csv.gz", "no gzip", "cannot be read"),
        ("x.txt", "a", "no line that names the columns"),
        ("x.csv", "case_id,activity,timestamp\n", "nothing could be read of x.csv"),
        (
            "x.csv",
            "customer_id,reading_datetime,general_supply_kwh\n,,\n",
            "nothing could be read of x.csv",
        ),
        (
            "x.csv",
            "台区编号,电表局编号,日期,相序,00:00\nA,M,2016-01-01,A相,\n",
            "nothing could be read of x.csv",
        ),
    ],
)
def test_unreadable_file_is_refused_with_the_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=reason):
        open_source(path)


@pytest.mark.parametrize("column", ["area", "at", "kwh"])
@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_column_that_occurs_twice_is_refused(tmp_path, name, column):
    names = ["meter", "area", "at", "kwh", column]
    values = ["m", "a", "1700000000", "1.5", "7"]
    path = tmp_path / name
    if name == "x.csv":
        path.write_text(f"{','.join(names)}\n{','.join(values)}\n", encoding="utf-8")
    else:
        pq.write_table(
            pa.Table.from_arrays([pa.array([value]) for value in values], names), path
        )
    with pytest.raises(SourceError, match=f"more than one column {column}"):
        list(open_source(path).batches)


@pytest.mark.parametrize(("name", "values"), [("at", [[1]]), ("kwh", [[1.0]])])
def test_column_of_a_foreign_type_is_refused(tmp_path, name, values):
    columns = {"meter": ["m"], "area": ["a"], "at": [1_700_000_000], "kwh": [1.0]} | {
        name: values
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=f"the column {name} cannot hold list"):
        list(open_source(tmp_path).batches)


@pytest.mark.parametrize("meters", [[7], [b"7"]])
def test_ids_of_other_types_and_columns_beside_a_struct_are_read(tmp_path, meters):
    struct = pa.array([{"kwh": None}], pa.struct([("kwh", pa.float64())]))
    table = pa.table(
        {
            "struct": struct,
            "meter": pa.array(meters).dictionary_encode(),
            "area": ["a"],
            "at": [1_700_000_000],
            "kwh": [1.5],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (batch,) = open_source(tmp_path).batches
    assert isinstance(batch, Readings)
    assert (batch.names, batch.kwh.tolist()) == (("7",), [1.5])


def test_missing_files_and_mixed_zones_are_refused(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "nothing.csv")
    with pytest.raises(SourceError, match="holds no file"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="different zones"):
        open_sources([CURRENT_FILE, HOUSEHOLDS_FILE])

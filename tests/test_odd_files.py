"""Odd but usual files by a mapping: what they say is read, and what they do not say is counted."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from replay.sources import SourceError, open_source
from schemas.columns import Readings

MAPPED_COLUMNS = '[columns]\nmeter = "m"\narea = { value = "A" }\n'
QUARTER_HOURS = [f"{k // 4:02d}:{k % 4 * 15:02d}" for k in range(96)]


def opened(folder, content, mapping, name="a.csv"):
    """The values by meter and time of a file that is mapped, and its source."""
    if content:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    (folder / "columns.toml").write_text(f'files = "{name}"\n{mapping}', "utf-8")
    source = open_source(folder / "columns.toml")
    batches = [batch for batch in source.batches if isinstance(batch, Readings)]
    return batches, source


def energies(folder, content, mapping, name="a.csv"):
    """The kWh of each meter and time, and the source."""
    batches, source = opened(folder, content, mapping, name)
    found: dict[str, list[tuple[str, float]]] = {}
    for batch in batches:
        for who, at, kwh in zip(
            batch.subject.tolist(), batch.at.tolist(), batch.kwh.tolist(), strict=True
        ):
            when = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}"
            found.setdefault(batch.names[who], []).append((when, kwh))
    return found, source


def test_gb_18030_with_chinese_headers_and_dates(tmp_path):
    content = (
        "电能表编号,台区编号,数据时间,正向有功总(kWh)\n"
        "001,T1,2024-03-01 00:15:00,12.5\n001,T1,2024年3月1日 00:30,13\n"
    )

    batches, source = opened(
        tmp_path,
        content.encode("gb18030"),
        'zone = "Asia/Shanghai"\n[columns]\nmeter = "电能表编号"\narea = "台区编号"\nat = "数据时间"\n'
        'register = "`正向有功总(kWh)`"\n',
    )
    readings = Readings.join(batches)
    assert (readings.names, readings.areas) == (("001",), ("T1",))
    assert readings.register.tolist() == [12.5, 13]
    assert readings.at.tolist() == [1_709_223_300, 1_709_224_200]
    assert not source.rejected


def test_byte_order_mark_semicolons_commas_and_line_feeds_in_quotes(tmp_path):
    content = (
        '\ufeff"m";"note";"t";"k"\n"1";"a\nb";"01.03.2024 00:15";"1.234,5"\n'
        '1;"say ""hi""";31.03.2024 00:30;0,25\nSumme;;;1.234,75\n'
    )
    found, source = energies(
        tmp_path, content, MAPPED_COLUMNS + 'at = "t"\nkwh = "k"\n'
    )
    assert found == {"1": [("2024-03-01T00:15", 1234.5), ("2024-03-31T00:30", 0.25)]}
    assert source.rejected == {"at is missing": 1}


# hours as columns


def test_a_day_of_96_columns_is_96_rows_without_the_empty_ones(tmp_path):
    rows = [
        f"7,2024-03-01,{','.join(map(str, range(96)))}",
        f"8,2024-03-02,5{',' * 95}",
    ]
    content = f"m,day,{','.join(QUARTER_HOURS)}\n" + "\n".join(rows) + "\n"

    found, source = energies(
        tmp_path,
        content,
        MAPPED_COLUMNS
        + 'at = { from = "day", plus = "15 min" }\nkwh = "cell / 4"\n[times]\ncell = "cell"\n',
    )
    assert found["7"][0] == ("2024-03-01T00:15", 0)
    assert found["7"][-1] == ("2024-03-02T00:00", 23.75)
    assert len(found["7"]) == 96
    assert found["8"] == [("2024-03-02T00:15", 1.25)]
    assert not source.rejected


def test_hours_as_columns_with_a_row_a_phase(tmp_path):
    content = "m,d,相序,0:15,24:00\n1,2024-03-01,A相,230,231\n1,2024-03-01,C相,232,\n"
    batches, _ = opened(
        tmp_path,
        content,
        MAPPED_COLUMNS
        + 'at = "d"\nu = "volts"\n[times]\ncell = "volts"\n[phases]\ncolumn = "相序"\nA = ["A相"]\nC = ["C相"]\n',
    )
    readings = Readings.join(batches)
    np.testing.assert_array_equal(
        readings.u.T, [[230, np.nan, 232], [231, np.nan, np.nan]]
    )
    assert readings.at.tolist() == [1_709_252_100, 1_709_337_600]


def test_a_cell_that_is_refused_is_named_by_its_row_in_the_file(tmp_path):
    content = (
        "m;d;00:15;00:30;00:00\n1;01.03.2024;0,5;N/A;x\n2;01.03.2024;;1,5;\n3;;1;2;3\n"
    )
    found, source = energies(
        tmp_path,
        content,
        f'empty = ["n/a"]\n{MAPPED_COLUMNS}at = "d"\nkwh = "cell"\n[times]\ncell = "cell"\n',
    )
    assert found["2"] == [("2024-03-01T00:30", 1.5)]
    assert found["1"][0] == ("2024-03-01T00:15", 0.5)
    assert source.rejected == {"at is missing": 3, "kwh is no number": 1}
    assert source.tally.first["kwh is no number"] == "a.csv row 1: 'x'"
    assert source.tally.first["at is missing"] == "a.csv row 3"


def test_columns_of_times_are_needed_and_are_of_one_kind(tmp_path):
    mapping = MAPPED_COLUMNS + 'at = "d"\nkwh = "cell"\n[times]\ncell = "cell"\n'
    with pytest.raises(SourceError, match="no column that is a time of the day"):
        opened(tmp_path, "m,d,P1\n1,2024-03-01,2\n", mapping)
    table = {"m": ["1"], "d": ["2024-03-01"], "00:15": [1.5], "00:30": ["x"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="hold different things"):
        opened(tmp_path, "", mapping, "a.parquet")


# days and hours apart


@pytest.mark.parametrize(
    ("day", "hours", "minutes"),
    [
        ("3/4/2024", ["0", "15", "2345"], [0, 15, 1425]),
        ("3/4/2024", ["1", "15", "24"], [60, 900, 1440]),
        ("2024-03-04 00:00:00", ["12:15 AM", "0:30", "24:00"], [15, 30, 1440]),
        ("45355", ["0.0104166667", "0.5", "1"], [15, 720, 1440]),
        ("20240304", ["0.15", "23.45"], [15, 1425]),
    ],
)
def test_a_day_and_an_hour_in_two_columns(tmp_path, day, hours, minutes):
    rows = "".join(f"1,{day},{hour},1\n" for hour in hours)
    batches, source = opened(
        tmp_path,
        f"m,d,t,k\n{rows}",
        f'dates = "month"\n{MAPPED_COLUMNS}at = {{ day = "d", time = "t" }}\nkwh = "k"\n',
    )
    times = Readings.join(batches).at - 1_709_510_400
    assert sorted((times // 60).tolist()) == minutes
    assert not source.rejected


def test_an_hour_that_is_none_or_has_lost_a_digit_is_counted(tmp_path):
    content = (
        "m,d,t,k\n1,2024-03-04,0.3,1\n1,2024-03-04,,2\n1,,0:15,3\n"
        "1,2024-03-04 07:00,0:15,4\n1,2024-03-04,0:15,5\n1,2024-03-04,0:15+02:00,6\n"
    )
    found, source = energies(
        tmp_path,
        content,
        MAPPED_COLUMNS + 'at = { day = "d", time = "t" }\nkwh = "k"\n',
    )
    assert found == {"1": [("2024-03-04T00:15", 5)]}
    assert source.rejected == {"at is missing": 2, "d with t is no time": 3}


def test_days_that_name_their_zone_keep_it(tmp_path):
    begins = pa.array([1_709_247_600, 1_711_839_600], pa.timestamp("s", "Europe/Paris"))
    table = pa.table({"m": ["1", "1"], "d": begins, "01:00": [1, 2], "04:00": [3, 4]})
    pq.write_table(table, tmp_path / "a.parquet")
    found, _ = energies(
        tmp_path,
        "",
        f'zone = "Europe/Paris"\n{MAPPED_COLUMNS}at = "d"\nkwh = "cell"\n[times]\ncell = "cell"\n',
        "a.parquet",
    )
    assert [at for at, _ in found["1"]] == [
        "2024-03-01T00:00",
        "2024-03-01T03:00",
        "2024-03-31T00:00",
        "2024-03-31T02:00",
    ]


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["1709251200000", "1709252100000"], [0, 900]),
        (["1709251200", "1709252100000000"], [0, 900]),
        (["45352.0104166667", "45352.0208333333"], [900, 1800]),
    ],
)
def test_times_that_are_numbers(tmp_path, cells, seconds):
    rows = "".join(f"1,{cell},1\n" for cell in cells)
    batches, _ = opened(
        tmp_path, f"m,t,k\n{rows}", MAPPED_COLUMNS + 'at = "t"\nkwh = "k"\n'
    )
    assert (Readings.join(batches).at - 1_709_251_200).tolist() == seconds


def test_a_column_of_dates_that_the_mapping_decides(tmp_path):
    content = "m,t,k\n1,3/4/2024 0:15,1\n"
    _, source = energies(tmp_path, content, MAPPED_COLUMNS + 'at = "t"\nkwh = "k"\n')
    assert source.rejected == {"at may have the day or the month first": 1}
    for first, at in (("day", "2024-04-03T00:15"), ("month", "2024-03-04T00:15")):
        found, _ = energies(
            tmp_path,
            content,
            f'dates = "{first}"\n{MAPPED_COLUMNS}at = "t"\nkwh = "k"\n',
        )
        assert found == {"1": [(at, 1)]}


# clocks that change


@pytest.mark.parametrize("order", ["by meter", "by time"])
@pytest.mark.parametrize("end", [".csv", ".parquet"])
def test_an_hour_that_comes_twice_is_two_hours(tmp_path, order, end):
    clocks = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    meters, times, numbers = zip(
        *(
            (meter, f"2024-10-27 {clock}", k)
            for meter in "12"
            for k, clock in enumerate(clocks)
        ),
        strict=True,
    )
    table = pa.table(
        {"m": meters, "t": np.array(times, "datetime64[us]"), "k": numbers}
    )
    if order == "by time":
        table = table.sort_by("k")
    if end == ".csv":
        pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    else:
        pq.write_table(table, tmp_path / "a.parquet")

    found, source = energies(
        tmp_path,
        "",
        f'zone = "Europe/Paris"\n{MAPPED_COLUMNS}at = {{ from = "t", plus = "30 min" }}\nkwh = "k"\n',
        f"a{end}",
    )
    halves = ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"]
    expected = [(f"2024-10-27T{half}", k) for k, half in enumerate(halves)]
    assert found == {"1": expected, "2": expected}
    assert not source.rejected


def test_a_row_that_is_repeated_or_names_its_offset_stays_in_its_hour(tmp_path):
    content = (
        "m,t,k\n1,2024-10-27T02:30:00+02:00,1\n1,2024-10-27T02:30:00+02:00,1\n"
        "1,2024-10-27T02:30:00+01:00,2\n1,2024-10-28T02:30:00,3\n1,2024-10-28T02:30:00,3\n"
    )
    found, _ = energies(
        tmp_path,
        content,
        f'zone = "Europe/Paris"\n{MAPPED_COLUMNS}at = "t"\nkwh = "k"\n',
    )
    assert found["1"] == [
        ("2024-10-27T00:30", 1),
        ("2024-10-27T00:30", 1),
        ("2024-10-27T01:30", 2),
        ("2024-10-28T01:30", 3),
        ("2024-10-28T01:30", 3),
    ]


def test_rows_of_phases_are_no_repeats(tmp_path):
    rows = "".join(
        f"1,2024-10-27 {clock},{phase},{230 + k}\n"
        for k, clock in enumerate(("02:30", "02:30"))
        for phase in "AB"
    )
    batches, _ = opened(
        tmp_path,
        f"m,t,p,v\n{rows}",
        f'zone = "Europe/Paris"\n{MAPPED_COLUMNS}at = "t"\nu = "v"\n[phases]\ncolumn = "p"\n',
    )
    readings = Readings.join(batches)
    assert readings.u[:2].T.tolist() == [[230, 230], [231, 231]]
    assert np.diff(readings.at).tolist() == [3600]


def test_a_time_that_the_clocks_skip_is_counted(tmp_path):
    mapping = f'zone = "Europe/Paris"\n{MAPPED_COLUMNS}at = "t"\nkwh = "k"\n'
    content = "m,t,k\n1,2024-03-31 02:30,1\n1,2024-03-31 03:30,2\n"
    found, source = energies(tmp_path, content, mapping)
    assert found == {"1": [("2024-03-31T01:30", 2)]}
    assert source.rejected == {"t is no time": 1}

    times = np.array(["2024-03-31T02:30", "2024-03-31T03:30"], "datetime64[us]")
    pq.write_table(
        pa.table({"m": ["1", "1"], "t": times, "k": [1, 2]}), tmp_path / "a.parquet"
    )
    found, source = energies(tmp_path, "", mapping, "a.parquet")
    assert found == {"1": [("2024-03-31T01:30", 2)]}
    assert source.rejected == {"t is no time": 1}


def test_clocks_of_meters_may_stay_while_days_follow_the_law(tmp_path):
    content = "m,t,k\n1,2024-03-31 02:30,1\n"
    found, source = energies(
        tmp_path,
        content,
        f'zone = "Europe/Paris"\nclock = "Etc/GMT-1"\n{MAPPED_COLUMNS}at = "t"\nkwh = "k"\n',
    )
    assert found == {"1": [("2024-03-31T01:30", 1)]}
    assert source.zone == "Europe/Paris"


@pytest.mark.parametrize(
    ("cell", "lacks"),
    [("2024-03-01 00:15", True), ("2024-03-01T00:15Z", False), ("1709251200", False)],
)
def test_times_without_any_zone_are_noted(tmp_path, cell, lacks):
    content = f"m,t,k\n1,{cell},1\n"
    mapping = MAPPED_COLUMNS + 'at = "t"\nkwh = "k"\n'
    _, source = energies(tmp_path, content, mapping)
    note = 'a.csv: times name no zone and are read as UTC, unless the mapping says zone = "..."'
    assert source.tally.notes == [note] * lacks
    _, source = energies(tmp_path, content, f'zone = "UTC"\n{mapping}')
    assert not source.tally.notes


# cells without a value


def test_words_for_nothing_are_counted_unless_the_mapping_has_them(tmp_path):
    content = "m,t,k,v\n1,2024-03-01 00:15,n/a,230\n1,2024-03-01 00:30,,231\n1,2024-03-01 00:45,-,232\n"
    mapping = MAPPED_COLUMNS + 'at = "t"\nkwh = "k"\nua = "v"\n'
    found, source = energies(tmp_path, content, mapping)
    assert len(found["1"]) == 3
    assert source.rejected == {"kwh is no number": 2}

    found, source = energies(tmp_path, content, f'empty = ["N/A", "-"]\n{mapping}')
    assert len(found["1"]) == 3
    assert not source.rejected
    found, source = energies(
        tmp_path,
        content,
        f'empty = ["N/A", "-"]\nneeded = ["kwh", "ua"]\n{mapping}',
    )
    assert len(found["1"]) == 3
    found, source = energies(
        tmp_path, content, f'empty = ["N/A"]\nneeded = ["kwh"]\n{mapping}'
    )
    assert found == {}
    assert source.rejected == {"k is missing": 3, "kwh is no number": 1}


def test_a_column_has_one_of_several_names(tmp_path):
    mapping = '[columns]\nmeter = ["m", "M"]\narea = { value = "A" }\nat = "t"\nkwh = ["`k (kWh)`", "k"]\n'
    expected = {"1": [("2024-03-01T00:15", 1)]}
    for header in ("m,t,k", "M,t,k (kWh)", "m,M,t,k (kWh),k"):
        cells = ["1", "2024-03-01 00:15", "1"]
        if "M," in header and "m," in header:
            cells = ["1", "9", "2024-03-01 00:15", "1", "9"]
        content = f"{header}\n{','.join(cells)}\n"
        assert energies(tmp_path, content, mapping)[0] == expected
    with pytest.raises(SourceError, match=r"a\.csv has no column m$"):
        energies(tmp_path, "x,t,k\n1,2024-03-01 00:15,1\n", mapping)


def test_records_of_meters_are_those_that_their_readings_show(tmp_path):
    rows = "".join(
        f"{meter},{area},{1_709_251_200 + 1800 * k},{meter}0\n"
        for k in range(5)
        for meter, area in (("1", "A"), ("9", "B"))
    )
    _, source = opened(
        tmp_path,
        f"m,a,t,k\n{rows}",
        '[columns]\nmeter = "m"\narea = "a"\nat = "t"\nkwh = "k"\n[meters]\nun_v = 230\n',
    )
    assert [area.area for area in source.areas] == ["A", "B"]
    records = [meter for area in source.areas for meter in area.meters]
    assert [(meter.meter, meter.customer, meter.un_v) for meter in records] == [
        ("1", "1", 230),
        ("9", "9", 230),
    ]
    assert [(meter.interval_s, meter.effective) for meter in records] == [
        (1800, 1_709_249_400)
    ] * 2
    # 90 kWh in half an hour are 783 A
    assert [meter.imax_a for meter in records] == [87, 783]

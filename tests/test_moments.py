"""Dates and hours in every form that people, devices and standards give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.clocks import seconds_of_timestamps
from replay.history import Tally
from replay.moments import seconds_of
from replay.sources import open_source
from replay.tables import read

EXPECTED_TIME = datetime(2014, 8, 13, 0, 15, tzinfo=UTC)
TIME_TEXTS = [
    "2014-08-13T00:15:00Z", "2014-08-13T00:15", "2014-08-13 0:15", "2014-08-13 00:15:00.000", "2014-08-13,00:15",
    "2014-08-13 00:15:00,0", "2014-08-13T08:15:00+08:00", "2014-08-13 08:15 +0800", "2014-08-13 02:15:00+02",
    "2014-08-13 08:15 UTC+8", "2014-08-13 08:15 GMT+08:00", "2014-08-13 02:15 CEST", "2014-08-13 00:15 UTC",
    "2014-08-13T02:15:00+02:00[Europe/Paris]", "2014-08-13T02:15:00[Europe/Paris]", "2014-08-13T0015",
    "2014/8/13 0:15", "2014/08/13 00:15:00", "2014.8.13 0.15", "2014. 8. 13. 0:15", "13. 8. 2014 0:15",
    "2014年8月13日 0时15分", "2014年08月13日00时15分00秒", "2014-08-13 上午0:15", "2014-8-13 12:15 AM",
    "13/8/2014 0:15",
    "13/08/14 00:15", "13-08-2014 00:15:00", "13.08.2014 00:15", "13.8.14 0.15", "8/13/2014 12:15:00 AM",
    "13-Aug-2014 00:15", "13 Aug 2014 00:15", "13 August 2014, 00:15", "Aug 13, 2014 12:15 a.m.",
    "Wed 13 Aug 2014 0:15", "13AUG2014:00:15:00", "2014-08-13 00h15", "20140813T001500", "20140813 0015",
    "201408130015", "20140813001500", "1407888900", "1407888900.0", "1407888900000", "1407888900000000",
    "41864.0104166667", " 2014-08-13\t00:15 ",
]  # fmt: skip
INVALID_TEXTS = [
    "",
    "noon",
    "00:15",
    "2014-13-01",
    "2014-02-30",
    "2014-08-13 25:00",
    "2014-08-13 00:60",
    "2014-08-13 00:15 CST",
    "2014-08-13 00:15 Mars/Base",
    "2014-08-13 00:15 +25:00",
    "2014-W05",
    "12",
    "99999999999999999999",
    "M1",
    "2014-08",
    "1.5",
    "13/13/2014",
    "2014-08-13 24:01",
    "9999-12-31 24:00",
    "00/00/0000",
    "0/1/2014",
    "2014-08-13 0:15 tomorrow",
    "٢٠١٤-٠٨-١٣x",
]


@pytest.mark.parametrize("text", TIME_TEXTS)
def test_one_time_reads_the_same_in_many_forms(text):
    [moment], _ = seconds_of([text], UTC)
    assert moment == pytest.approx(EXPECTED_TIME.timestamp(), abs=0.01)


@pytest.mark.parametrize("text", INVALID_TEXTS)
def test_invalid_time_is_nan(text):
    [moment], _ = seconds_of([text], UTC)
    assert isnan(moment)


def test_the_24th_hour_is_the_next_midnight():
    [moment], _ = seconds_of(["2014-08-12 24:00"], UTC)
    assert moment == EXPECTED_TIME.timestamp() - 900


def test_time_without_a_zone_is_in_the_zone_of_its_column():
    [moment, other], _ = seconds_of(
        ["2014-08-13 02:15", "41864.09375"], ZoneInfo("Europe/Paris")
    )
    assert moment == other == EXPECTED_TIME.timestamp()


MONTH_END_DAYS = [
    datetime(2024, 2, 27, tzinfo=UTC) + timedelta(days=n) for n in range(10)
]
MONTH_START_DAYS = [
    datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=n) for n in range(10)
]


@pytest.mark.parametrize(
    ("form", "first"),
    [("%d/%m/%Y", "day"), ("%m/%d/%Y", "month"), ("%m-%d-%y", "month")],
)
@pytest.mark.parametrize("days", [MONTH_END_DAYS, MONTH_START_DAYS])
def test_whether_days_or_months_come_first_is_decided_over_the_column(
    form, first, days
):
    assert seconds_of([day.strftime(form) for day in days], UTC) == (
        [day.timestamp() for day in days],
        first,
    )


AMBIGUOUS_DATES = [
    ["01/02/2024"],
    ["01/02/2024", "02/03/2024"],
    ["13/02/2024", "02/13/2024", "1/2/2024"],
]


@pytest.mark.parametrize("texts", AMBIGUOUS_DATES)
def test_ambiguous_dates_are_rejected(texts):
    moment, first = seconds_of(texts, UTC)
    assert not first
    assert all(map(isnan, moment))


def test_a_date_of_zeros_says_nothing_of_the_others():
    (zeros, moment), first = seconds_of(["00/00/0000 0:00", "1/1/2024"], UTC)
    assert isnan(zeros)
    assert (moment, first) == (1_704_067_200, "day")


def test_timestamps_that_clocks_skip_are_nan():
    shown = np.array(["2024-03-31T02:29:59", "NaT", "2024-10-27T02:30"], "M8[us]")
    cells = pa.chunked_array([pa.array(shown)])
    found = seconds_of_timestamps(cells, ZoneInfo("Europe/Paris"))
    assert np.isnan(found).tolist() == [True, True, False]
    assert found[2] == 1_729_989_000  # the first half past two


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("cell", ["0001-01-01 00:00", "9999-12-31 23:59:59"])
@pytest.mark.parametrize("at", ['"t"', '{ day = "t", time = "h" }'])
def test_a_date_that_stands_for_none_is_counted(tmp_path, zone, cell, at):
    shown = cell if at == '"t"' else f"{cell[:10]}T00:00Z"
    (tmp_path / "a.csv").write_text(
        f"m,t,h,k\n1,{shown},1:00,1\n1,{shown},1:00,1\n1,2024-03-01,1:00,2\n"
    )
    (tmp_path / "columns.toml").write_text(
        f'files = "a.csv"\nzone = "{zone}"\n[columns]\nmeter = "m"\narea = {{ value = "A" }}\nat = {at}\nkwh = "k"\n'
    )
    source = open_source(tmp_path / "columns.toml")
    assert sum(map(len, source.batches)) == 1
    assert sum(source.rejected.values()) == 2


TIME_FORMATS = st.sampled_from(
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y/%m/%d %H:%M:%S",
        "%d.%m.%Y %H:%M:%S",
        "%d %b %Y %H:%M:%S",
        "%B %d, %Y %I:%M:%S %p",
        "%Y%m%d%H%M%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y年%m月%d日 %H时%M分%S秒",
        "%a %d %b %Y %H:%M:%S",
        "%s",
        "%s000",
    ]
)


@given(st.integers(946_684_800, 4_102_444_799), TIME_FORMATS)
def test_whatever_was_written_is_read_as_it_was(at, form):
    text = datetime.fromtimestamp(at, UTC).strftime(form.replace("%s", str(at)))
    assert seconds_of([text], UTC)[0] == [at]


@given(st.text(max_size=30) | st.text("0123/:- ", max_size=20))
def test_any_text_is_a_moment_or_none(text):
    [moment], _ = seconds_of([text], UTC)
    assert isnan(moment) or -1e11 < moment < 1e12


def test_order_of_day_and_month_is_noted(tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text(
        "meter,area,at,kwh\n"
        + "".join(f"M,A,{day}/3/2024 0:00,1\n" for day in range(8, 18))
    )
    source = open_source(path)
    [batch] = source.batches
    assert len(batch) == 10
    assert (
        "readings.csv: dates of the column at are read with the day first"
        in source.tally.notes
    )


def test_ambiguous_date_is_rejected_with_its_position(tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text("meter,area,at,kwh\nM,A,2024-01-01,1\nM,A,1/2/2024 0:00,1\n")
    source = open_source(path)
    assert sum(map(len, source.batches)) == 1
    assert source.tally.first == {
        "at may have the day or the month first": "readings.csv row 2: '1/2/2024 0:00'"
    }


@pytest.mark.parametrize(
    "midnight",
    ["2014-08-01", "2014/8/1", "2014/8/1 0:00", "20140801", "2014年8月1日", "41852"],
)
def test_dates_of_a_curve_are_read_in_any_form(tmp_path, midnight):
    path = tmp_path / "curve.csv"
    path.write_text(
        f"台区编号,电表局编号,日期,相序,综合倍率,00:15:00\nT,7,{midnight},A相,1,0.5\n"
    )
    [batch] = open_source(path).batches
    assert batch.at.tolist() == [
        int(datetime(2014, 8, 1, 0, 15, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp())
    ]


def test_numbers_and_text_may_stand_in_one_column(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("at\n1407888900\n2014-08-13 0:15\n1407888900000\n")
    seconds, known = read(path, ["at"], Tally()).times("at")
    assert known.all()
    assert set(seconds.tolist()) == {int(EXPECTED_TIME.timestamp())}

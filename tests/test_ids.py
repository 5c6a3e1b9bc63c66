"""Ids in files: text that programs have wrapped, or turned into numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.history import SourceError
from replay.ids import clean, has_lost_digits, is_id
from replay.sources import open_source, open_sources
from schemas.columns import Readings

ID_WRAPPINGS = [
    "{}",
    " {}",
    "{} ",
    "\t{}",
    "{}\t",
    "\x1f{}",
    "\ufeff{}",
    "\u200b{}",
    "\u00a0{}",
    '="{}"',
    "'{}",
    '"{}"',
    ' ="{} " ',
]
CURVE_FILE = "台区编号,电表局编号,{},相序,06:00:00\n{},{},2023-05-01,A相,{}\n"


@pytest.mark.parametrize("form", ID_WRAPPINGS)
def test_meter_id_matches_whatever_surrounds_it_in_a_file(tmp_path, form):
    cell = '"' + form.format("3700").replace('"', '""') + '"'
    (tmp_path / "i.csv").write_text(
        CURVE_FILE.format("日期", "T", cell, 0.5), encoding="utf-8"
    )
    voltages = CURVE_FILE.format("数据日期", "T", "3700", 229).replace(
        "相序", "电压所属相序"
    )
    (tmp_path / "u.csv").write_text(voltages, encoding="utf-8")
    source = open_sources([tmp_path / "i.csv", tmp_path / "u.csv"])
    [batch] = source.batches
    assert isinstance(batch, Readings)
    assert batch.names == ("3700",)
    assert (batch.u[0, 0], batch.i[0, 0]) == (229, 0.5)
    assert source.tally.mended.total() == (form != "{}")


@pytest.mark.parametrize("text", ["2.31282E+13", "2,31282E+13", "7.22e+13", "1E+22"])
def test_id_that_lost_digits_matches_nobody(tmp_path, text):
    path = tmp_path / "readings.csv"
    path.write_text(f"meter;area;at;kwh\nM1;A;2024-01-01;1\n{text};A;2024-01-01;1\n")
    source = open_source(path)
    [batch] = source.batches
    assert batch.names == ("M1",)
    reason = "meter has lost digits, as numbers do in a spreadsheet"
    assert source.tally.rejected == {reason: 1}
    assert source.tally.first[reason] == f"readings.csv row 2: {text!r}"


def test_reference_that_lost_digits_is_not_taken_as_empty(tmp_path):
    path = tmp_path / "payments.csv"
    path.write_text(
        "customer,area,at,payment,amount,bill,reference\nC,A,2024-01-01,payment,5,B,4.5E+18\n"
    )
    assert not list(open_source(path).batches)


def test_curve_without_a_valid_meter_id_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text(
        CURVE_FILE.format("日期", "T", "2.31282E+13", 0.5), encoding="utf-8"
    )
    with pytest.raises(
        SourceError, match="nothing could be read of i.csv: 电表局编号 has lost digits"
    ):
        open_source(path)


@pytest.mark.parametrize(
    "text", ["1E10", "E+13", "12E+3", "M1", "0012", "3700000000012"]
)
def test_id_that_resembles_a_number_has_lost_no_digits(text):
    assert not has_lost_digits(text)


@given(st.text(max_size=20))
def test_an_id_is_clean_once_and_for_all(text):
    cleaned = clean(text)
    assert clean(f" {cleaned}\t") == clean(cleaned)
    assert not is_id(cleaned) or cleaned == cleaned.strip()

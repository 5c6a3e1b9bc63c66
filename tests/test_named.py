"""The count of meters and customers of a file that are in none of the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from replay.sources import open_sources
from streams.cli import main
from streams.local.runner import run
from streams.settings import Settings

DATA_FOLDER = Path(__file__).parent / "data"
READING_TIME = "2026-03-02T01:00:00Z"


def reads(path, meters, at=READING_TIME):
    path.write_text(
        "meter,area,at,kwh\n" + "".join(f"{meter},A1,{at},1\n" for meter in meters)
    )
    return path


def areas(path, meters):
    meter_records = [
        {"meter": meter, "customer": meter.replace("M", "C")} for meter in meters
    ]
    path.write_text(json.dumps({"area": "A1", "meters": meter_records}) + "\n")
    return path


def bills(path, customers):
    rows = "".join(
        f"{customer},A1,{READING_TIME},bill,9,B{customer},2026-03-20\n"
        for customer in customers
    )
    path.write_text("customer,area,at,payment,amount,bill,due\n" + rows)
    return path


def strangers(*paths):
    source = open_sources(paths)
    for _ in source.batches:
        pass
    return source.tally.named.strangers()


def test_ids_of_readings_master_data_and_payments_are_compared(tmp_path):
    paths = [
        reads(tmp_path / "reads.csv", ["M1", "M2", "M7", "M8", "M9", "M10"]),
        areas(tmp_path / "areas.jsonl", ["M1", "M2", "M3"]),
        bills(tmp_path / "bills.csv", ["C1", "C2", "7"]),
    ]
    assert sorted(strangers(*paths)) == [
        "areas.jsonl: 1 of 3 customers are in none of the other files, such as C3",
        "areas.jsonl: 1 of 3 meters are in none of the other files, such as M3",
        "bills.csv: 1 of 3 customers are in none of the other files, such as 7",
        "reads.csv: 4 of 6 meters are in none of the other files, such as M10, M7, M8",
    ]


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (["M1", "M2"], ["M1", "M2"], 0),
        (["M1", "M2"], ["M3", "M4"], 0),  # the meters are shared out
        (["M1", "M2"], ["M2", "M3"], 2),
        (["M1", "M2", "M3"], ["M2", "M3"], 1),
    ],
)
def test_files_that_divide_the_meters_give_no_note(tmp_path, first, second, lines):
    paths = (
        reads(tmp_path / "one.csv", first),
        reads(tmp_path / "two.csv", second, "2026-03-02T02:00:00Z"),
    )
    assert len(strangers(*paths)) == lines


def test_ids_that_a_spreadsheet_changed_in_all_rows_are_strangers(tmp_path):
    header = "台区编号,电表局编号,日期,相序,00:00,00:15\n"
    (tmp_path / "电流.csv").write_text(header + "T,0012A,2016-01-01,A相,1,1\n", "utf-8")
    (tmp_path / "电压.csv").write_text(
        header.replace("00:00", "电压00:00") + "T,12A,2016-01-01,A相,1,220\n", "utf-8"
    )
    assert len(strangers(tmp_path)) == 2


def test_meters_of_another_layout_count_too(tmp_path):
    areas(tmp_path / "areas.jsonl", ["10006414"])
    lines = strangers(
        tmp_path / "areas.jsonl", DATA_FOLDER / "sgsc_4households_halfhourly.parquet"
    )
    assert lines[0].startswith(
        "sgsc_4households_halfhourly.parquet: 3 of 4 meters are in none"
    )


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_run_and_inspect_print_the_line(tmp_path, monkeypatch, capsys, command):
    reads(tmp_path / "reads.csv", ["M1", "M9"])
    areas(tmp_path / "areas.jsonl", ["M1"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["meterwatch", command, "reads.csv", "areas.jsonl"]
    )
    with pytest.raises(SystemExit):
        main()
    assert (
        "reads.csv: 1 of 2 meters are in none of the other files, such as M9"
        in capsys.readouterr().out
    )


def test_run_that_reads_nothing_new_prints_the_same(tmp_path, capsys):
    paths = (
        str(reads(tmp_path / "reads.csv", ["M1", "M9"])),
        str(areas(tmp_path / "areas.jsonl", ["M1"])),
    )
    for _ in range(2):
        run(paths, tmp_path / "a.db", Settings())
        assert "1 of 2 meters are in none of the other files" in capsys.readouterr().out

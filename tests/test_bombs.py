"""Decompression bombs, endless files and devices are refused in bounded memory with a reason."""

from __future__ import annotations

import bz2
import gzip
import os
import socket
import sys
import tracemalloc
import zipfile

import cramjam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay import contents, layout, tables
from replay.formats import workbook
from replay.history import Tally
from replay.sources import SourceError, open_source
from streams.cli import main

CSV_HEADER = b"meter,area,at,kwh\n"
CSV_ROWS = CSV_HEADER + b"M1,A1,1772380800,0.5\n" * 50
MEBIBYTE_BYTES = 1 << 20


@pytest.fixture
def small(monkeypatch):
    """Limits that are at least 64 times smaller."""
    monkeypatch.setattr(contents, "MOST_BYTES", 4 * MEBIBYTE_BYTES)
    monkeypatch.setattr(contents, "MOST_UNFOLDED", 2 * MEBIBYTE_BYTES)
    monkeypatch.setattr(contents, "MOST_ROWS", 100_000)
    monkeypatch.setattr(contents, "CHUNK_BYTES", MEBIBYTE_BYTES)
    monkeypatch.setattr("replay.parquet.SORTED_ROWS", 50_000)
    monkeypatch.setattr(layout, "LONGEST_AREA", MEBIBYTE_BYTES)


def refused(path, reason):
    """The peak of memory until the file is refused for this reason."""
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=reason):
            list(open_source(path).batches)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


PACK_FUNCTIONS = {
    "gz": gzip.compress,
    "zst": lambda content: bytes(cramjam.zstd.compress(content)),
    "bz2": bz2.compress,
}


@pytest.mark.parametrize(
    "name", ["file.csv.PACKED", "file.csv"], ids=["named", "unnamed"]
)
@pytest.mark.parametrize("packer", PACK_FUNCTIONS)
def test_compressed_file_is_read(tmp_path, packer, name):
    path = tmp_path / name.replace("PACKED", packer)
    path.write_bytes(PACK_FUNCTIONS[packer](CSV_ROWS))
    assert open_source(path).read_as[path.name].startswith("the project's own layout")


@pytest.mark.parametrize(
    ("head", "filling", "count"),
    [
        (CSV_ROWS, b"M1,A1,1772380800,0.5\n", 3_000_000),
        (CSV_ROWS, b"x", 64 * MEBIBYTE_BYTES),
        (b"", b"\n", 64 * MEBIBYTE_BYTES),
        (b"", b",", 64 * MEBIBYTE_BYTES),
        (
            b"200,N,E1,1,E1,N,S,kWh,30,2\n300,20240101,",
            b"1,",
            32 * MEBIBYTE_BYTES,
        ),
        (b'<a xmlns="http://naesb.org/espi">', b"<a>", 9 * MEBIBYTE_BYTES),
        (b"", b"\0", 64 * MEBIBYTE_BYTES),
        (b'"', b"x\n", 32 * MEBIBYTE_BYTES),
    ],
    ids=[
        "rows",
        "a long line",
        "line feeds",
        "commas",
        "NEM12",
        "XML",
        "zeros",
        "an open quote",
    ],
)
@pytest.mark.parametrize("packer", ["", "gz", "zst"])
def test_decompression_bomb_is_refused_in_bounded_memory(
    tmp_path, small, packer, head, filling, count
):
    path = tmp_path / "bomb"
    content = head + filling * count
    path.write_bytes(PACK_FUNCTIONS.get(packer, bytes)(content))
    size = len(content)
    del content
    assert refused(path, "bomb") < size / 2


def test_error_on_a_long_row_does_not_quote_it(tmp_path):
    path = tmp_path / "long.csv"
    path.write_bytes(
        CSV_ROWS + b"M1,A1,1772380800," + b"1" * (3 * MEBIBYTE_BYTES) + b"\n"
    )
    with pytest.raises(
        SourceError, match="a row is longer than 1,048,576 bytes"
    ) as error:
        list(open_source(path).batches)
    assert len(str(error.value)) < 300


def test_pipe_device_and_socket_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
        for path, reason in (
            (tmp_path / "pipe.csv", "is a pipe"),
            (tmp_path / "socket.csv", "a device or a socket"),
            ("/dev/zero", "a device or a socket"),
            ("-", "standard input"),
        ):
            refused(path, reason)
    os.mkfifo(tmp_path / "areas.jsonl")
    refused(tmp_path / "areas.jsonl", "is a pipe")
    refused(tmp_path, "is a pipe")


@pytest.mark.parametrize("command", ["run", "inspect", "send", "stalls", "use-classes"])
def test_every_command_exits_with_one_line_and_code_two(
    tmp_path, monkeypatch, capsys, command
):
    os.mkfifo(tmp_path / "pipe.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["meterwatch", command, "pipe.csv"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_invalid_area_line_is_not_read_to_its_end(tmp_path, small):
    (tmp_path / "areas.jsonl").write_bytes(b'{"area": "' + b"A" * (64 * MEBIBYTE_BYTES))
    assert refused(tmp_path / "areas.jsonl", "longer than 1 MiB") < 8 * MEBIBYTE_BYTES


def parquet(path, at, meters):
    count = len(at)
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(count, np.int32)), pa.array(meters)
    )
    columns = {
        "meter": words,
        "area": words,
        "at": pa.array(at),
        "kwh": pa.array(np.full(count, 0.5)),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("at", "meter", "reason"),
    [
        (
            1_772_380_800 - np.arange(200_000),
            "M1",
            "more than 100,000 rows that are in no order",
        ),
        (np.full(200_000, 1_772_380_800), "M1", "more than 50,000 rows of one time"),
        (1_772_380_800 - np.arange(1000), "M" * 100_000, "MiB of text in the column"),
    ],
    ids=["no order", "one time", "a long word in each row"],
)
def test_parquet_that_unfolds_is_refused(tmp_path, small, at, meter, reason):
    before = pa.total_allocated_bytes()
    refused(parquet(tmp_path / "bomb.parquet", at, [meter]), reason)
    assert pa.total_allocated_bytes() - before < 32 * MEBIBYTE_BYTES


def test_parquet_in_order_has_no_limit(tmp_path, small):
    path = parquet(
        tmp_path / "long.parquet", 1_772_380_800 + np.arange(200_000), ["M1"]
    )
    assert sum(map(len, open_source(path).batches)) == 200_000


SHEET_TEMPLATE = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'


def book(tmp_path, sheet, name="book.xlsx"):
    """A workbook whose only sheet is this XML."""
    import openpyxl

    made, path = openpyxl.Workbook(), tmp_path / name
    made.save(tmp_path / "whole.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name_in_zip in old.namelist():
            new.writestr(
                name_in_zip,
                sheet if name_in_zip.endswith("sheet1.xml") else old.read(name_in_zip),
            )
    return path


def cell(position, text):
    return f'<c r="{position}" t="inlineStr"><is><t>{text}</t></is></c>'


HEAD_ROW = (
    "<row r='1'>"
    + "".join(map(cell, ("A1", "B1", "C1", "D1"), ("meter", "area", "at", "kwh")))
    + "</row>"
)


@pytest.mark.parametrize(
    ("sheet", "reason"),
    [
        (SHEET_TEMPLATE.format("<row/>" * 2_000_000), "unpacks to more than 4 MiB"),
        (
            f'<!DOCTYPE x [<!ENTITY a "{"a" * 100}">]>' + SHEET_TEMPLATE.format(""),
            "document type",
        ),
        (
            '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x []>'.encode("utf-16"),
            "document type",
        ),
        (
            SHEET_TEMPLATE.format(
                HEAD_ROW + f"<row r='99999999'>{cell('A99999999', 'x')}</row>"
            ),
            "more rows than a sheet",
        ),
        (
            SHEET_TEMPLATE.format(
                HEAD_ROW + f"<row r='2'>{cell('ZZZZZZ2', 'x')}</row>"
            ),
            "cannot be read as a workbook",
        ),
        (SHEET_TEMPLATE.format("<row><c"), "cannot be read as a workbook|no sheet"),
    ],
    ids=["many rows", "DTD", "DTD in UTF-16", "a far row", "a far column", "broken"],
)
def test_a_workbook_that_unfolds_is_refused(
    tmp_path, small, monkeypatch, sheet, reason
):
    monkeypatch.setattr(workbook, "MOST_ROWS", 10_000)
    assert refused(book(tmp_path, sheet), reason) < 64 * MEBIBYTE_BYTES


def test_two_distant_cells_need_no_memory_for_the_cells_between(tmp_path):
    far = f"<row r='2'>{cell('A2', 'M1')}{cell('B2', 'A1')}{cell('C2', '1772380800')}{cell('D2', '0.5')}</row>"
    path = book(
        tmp_path,
        SHEET_TEMPLATE.format(
            HEAD_ROW + far + f"<row r='100000'>{cell('XFD100000', 'x')}</row>"
        ),
    )
    assert sum(map(len, open_source(path).batches)) == 1


def test_wrong_size_in_a_zip_header_is_detected(tmp_path, small):
    path = book(tmp_path, SHEET_TEMPLATE.format("<row/>" * 2_000_000))
    content = bytearray(path.read_bytes())
    size = len(SHEET_TEMPLATE.format("<row/>" * 2_000_000))
    content = content.replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    refused(path, "cannot be read")


def test_zip_is_refused_with_advice(tmp_path):
    with zipfile.ZipFile(tmp_path / "reads.zip", "w") as file:
        file.writestr("reads.csv", CSV_ROWS)
    refused(tmp_path / "reads.zip", "is a zip: unpack it first")


def test_table_reads_the_same_with_or_without_dictionary_encoding(tmp_path):
    at = 1_772_380_800 - np.arange(10)
    sheet = tables.read(
        parquet(tmp_path / "x.parquet", at, ["M1"]), ["meter", "at"], Tally()
    )
    assert sheet.table["meter"].to_pylist() == ["M1"] * 10

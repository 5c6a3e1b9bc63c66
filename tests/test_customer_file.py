"""The customer file of a marketing system becomes master data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pytest

from replay.sources import SourceError, open_source, open_sources
from schemas.master import Area, Meter

CHINA_ZONE = ZoneInfo("Asia/Shanghai")
HEADER_LINE = (
    "序号,供电单位,台区编号,台区名称,线路名称,户号,户名,用电地址,电能表资产号,用电类别,合同容量,综合倍率,"
    "接线方式,标定电流,额定电压,计量点性质,立户日期,执行电价,备住"
)
CUSTOMER_LINES = [
    "1,城关供电所,0012,东街,10kV一线,,,,3700,考核,,80,三相四线,1.5(6)A,3×220/380V,台区关口,2015-03-01,,",
    "2,城关供电所,0012,东街,10kV一线,0501,张三,东街1号,3701,城镇居民生活用电,8,1,单相,5(60)A,220V,结算,20150301,居民,x",
    "3,,0012,东街,,0502,某厂,,3702,大工业用电,200,20,三相四线,1.5(6)A,3×220/380V,结算,2020/6/1,工业,",
    "4,,0012,东街,,0503,,,3703,居民 非居民照明,30,1,三相四线,,,结算,2020/6/1,,",
    "5,,0012,东街,,0504,,,3704,外星用电,30,1,单相,,,,2020/6/1,,",
    "6,,0012,东街,,0505,,,,居民,30,1,单相,,,,2020/6/1,,",
    "7,,0013,西街,,0506,,,3706,农业排灌,abc,1,单相,,,,2020/6/1,,",
]


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=CHINA_ZONE).timestamp())


EXPECTED_AREA = Area(
    area="0012",
    section="城关供电所",
    feeder="10kV一线",
    gateway="3700",
    meters=[
        Meter(
            meter="3700",
            ct=80,
            wiring="3P4W",
            ib_a=1.5,
            imax_a=6,
            effective=at(2015, 3, 1),
        ),
        Meter(
            meter="3701",
            customer="0501",
            contract_kva=8,
            effective=at(2015, 3, 1),
            tariff="居民",
        ),
        Meter(
            meter="3702",
            customer="0502",
            contract_kva=200,
            ct=20,
            wiring="3P4W",
            ib_a=1.5,
            imax_a=6,
            effective=at(2020, 6, 1),
            segment="industrial",
            tariff="工业",
        ),
        Meter(
            meter="3703",
            customer="0503",
            contract_kva=30,
            wiring="3P4W",
            effective=at(2020, 6, 1),
            segment="commercial",
        ),
    ],
)


def written(folder: Path, form: str) -> Path:
    if form == "xlsx":
        book = openpyxl.Workbook()
        for line in [HEADER_LINE, *CUSTOMER_LINES]:
            book.worksheets[0].append(line.split(","))
        book.save(folder / "档案.xlsx")
        return folder / "档案.xlsx"
    text = "\n".join([HEADER_LINE, *CUSTOMER_LINES])
    (folder / "档案.csv").write_bytes(text.encode(form))
    return folder / "档案.csv"


@pytest.mark.parametrize("form", ["gb18030", "utf-8", "utf-8-sig", "xlsx"])
def test_a_customer_file_becomes_areas_and_what_does_not_fit_is_counted(form, tmp_path):
    source = open_source(written(tmp_path, form))
    assert source.areas == [EXPECTED_AREA]
    assert list(source.batches) == []
    assert source.zone == "Asia/Shanghai"
    assert source.rejected == {
        "meters: segment: no known word": 1,
        "电能表资产号 is missing": 1,
        "meters: contract_kva: no number": 1,
    }
    [note] = [note for note in source.tally.notes if "not known" in note]
    assert "'备住'" in note
    assert not any("户名" in note or "地址" in note for note in source.tally.notes)


def test_a_customer_file_takes_the_place_of_what_curves_show(tmp_path):
    written(tmp_path, "gb18030")
    (tmp_path / "电流.csv").write_text(
        "台区编号,电表局编号,日期,相序,综合倍率,00:00,24:00\n"
        "0012,3701,2020-01-01,A相,1,0.5,1\n"
        "0099,3799,2020-01-01,A相,1,0.5,1\n"
    )
    source = open_sources([tmp_path])
    areas = {area.area: area for area in source.areas}
    assert {meter.meter for meter in areas["0012"].meters} >= {"3700", "3701"}
    assert areas["0012"].gateway == "3700"
    assert [meter.meter for meter in areas["0099"].meters] == ["3799"]
    assert sum(len(batch) for batch in source.batches) == 4


def test_two_files_of_one_area_are_joined(tmp_path):
    for name, rows in (("a.csv", CUSTOMER_LINES[:2]), ("b.csv", CUSTOMER_LINES[2:4])):
        text = "\n".join([HEADER_LINE, *rows])
        (tmp_path / name).write_text(text)
    assert open_sources([tmp_path]).areas == [EXPECTED_AREA]


def test_a_file_of_which_nothing_can_be_read_is_an_error(tmp_path):
    text = "\n".join([HEADER_LINE, CUSTOMER_LINES[4]])
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SourceError, match="segment: no known word"):
        open_source(tmp_path / "a.csv")

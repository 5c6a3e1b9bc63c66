"""The customer file of a Chinese utility's marketing system (营销系统), a row per meter, as master data.

Names, addresses and telephone numbers of people are not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from replay import curves, tables
from replay.history import Names, Source, Tally, nothing_read
from replay.master_data.rows import selected
from schemas.master import Area

HEADER_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "area": ("台区编号", "台区编码", "台区号", "所属台区", "台区名称", "台区"),
        "meter": (
            "电能表资产号",
            "电能表资产编号",
            "电表资产号",
            "电表局编号",
            "资产编号",
            "电能表编号",
            "表号",
        ),
        "customer": ("户号", "用户编号", "客户编号", "用电户号", "用户号"),
        "section": ("供电单位", "供电单位名称", "供电所", "管理单位"),
        "feeder": ("线路编号", "线路名称", "所属线路"),
        "use": ("计量点性质", "主用途类型", "计量点主用途类型", "计量点分类"),
        "segment": ("用电类别", "用电性质"),
        "contract_kva": ("合同容量", "合同容量(kVA)", "合同容量(kVA)"),
        "pv_kva": ("发电容量", "并网容量"),
        "ct": ("综合倍率", "倍率"),
        "wiring": ("接线方式", "相线", "相线类型", "电能表类别"),
        "un_v": ("额定电压", "电能表电压", "电压"),
        "current": ("标定电流", "额定电流", "电能表电流", "电流"),
        "effective": ("装表日期", "安装日期", "立户日期"),
        "until": ("拆表日期", "拆除日期"),
        "stopped": ("销户日期",),
        "tariff": ("执行电价", "电价名称", "电价码", "电价"),
        "calibration_due": ("轮换日期", "下次轮换日期", "检定到期日期"),
        "contract_until": ("合同终止日期", "合同到期日期"),
        "read_day": ("抄表例日",),
        "credit": ("信用等级",),
    }
)
"""The headers that stand for a field, the first that a file has counts."""
UNREAD_HEADERS = (
    "序号",
    "户名",
    "用户名称",
    "客户名称",
    "用电地址",
    "地址",
    "联系电话",
    "移动电话",
)
OWN_FIELDS = ("segment", "contract_kva", "wiring", "tariff", "effective")
GATEWAY_WORDS = ("关口", "考核")
# The first word within a cell counts; a cell with none of them is refused.
FIELD_WORDS: Mapping[str, tuple[tuple[str, Any], ...]] = MappingProxyType(
    {
        "segment": (
            ("非居民", "commercial"),
            ("居民", "residential"),
            ("非工业", "commercial"),
            ("一般工商业", "commercial"),
            ("商业", "commercial"),
            ("农业", "agricultural"),
            ("排灌", "agricultural"),
            ("工业", "industrial"),
        ),
        "wiring": (
            ("三相三线", "3P3W"),
            ("三相四线", "3P4W"),
            ("单相", "1P2W"),
        ),
        "un_v": (
            ("57.7", 57.7),
            ("220", 220.0),
            ("380", 220.0),
            ("100", 100.0),
        ),
    }
)
CURRENT_PATTERN = re.compile(r"([\d.]+)\s*[((]\s*([\d.]+)\s*[))]")


def recognises(columns: Collection[str]) -> bool:
    """True if area and meter stand under Chinese names, beside a field of a customer's files."""
    found = _headers(columns).keys()
    return {"area", "meter"} <= found and any(name in found for name in OWN_FIELDS)


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The areas of all files, without readings. Raises SourceError."""
    areas: dict[str, Area] = {}
    for path in paths:
        for area in _areas(path, tally):
            known = areas.get(area.area, area)
            meters = [*known.meters, *area.meters] if known is not area else area.meters
            gateway = known.gateway or area.gateway
            areas[area.area] = replace(known, meters=meters, gateway=gateway)

    name = " + ".join(path.name for path in paths)
    if not areas:
        raise nothing_read(name, tally)
    return Source(
        name,
        list(areas.values()),
        iter(()),
        rows=0,
        zone=curves.CHINA_ZONE,
        tally=tally,
    )


def _headers(columns: Collection[str]) -> dict[str, str]:
    """The column of the file for each field that it has."""
    found: dict[str, str] = {}
    for field, names in HEADER_NAMES.items():
        if name := next((name for name in names if name in columns), ""):
            found[field] = name
    return found


def _areas(path: tables.File, tally: Tally) -> list[Area]:
    """The areas of a file; rows that do not fit are counted."""
    headers = _headers(tables.columns(path))
    known = {name for names in HEADER_NAMES.values() for name in names}
    tables.note_unknown(path, known | set(UNREAD_HEADERS), tally)
    sheet = tables.read(path, list(headers.values()), tally)
    rows = list(_rows(sheet, headers))

    areas: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = areas.setdefault(row["area"], {"area": row["area"]})
        for field in ("section", "feeder"):
            if row.get(field):
                own.setdefault(field, row[field])
        if any(word in (row.get("use") or "") for word in GATEWAY_WORDS):
            own["gateway"] = row["meter"]
    found = selected(
        {"areas": areas.values(), "meters": rows},
        {},
        curves.CHINA_ZONE,
        tally,
        name=path.name,
    )
    return [area for area in found.areas.values() if area.meters]


def _rows(sheet: tables.Sheet, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows with an id, each field by its own name and in its own words."""
    cells = {field: sheet.table[name].to_pylist() for field, name in headers.items()}
    faults: list[tables.RowFault] = []
    for field in ("area", "meter", "customer"):
        if field in headers:
            seen = Names()
            codes = curves.padded_ids(sheet, headers[field], seen)
            cells[field] = [seen.names[code] if code >= 0 else "" for code in codes]
            if field != "customer":
                faults += sheet.id_faults(headers[field], codes)

    for number, keep in enumerate(sheet.keep(*faults)):
        if not keep:
            continue
        row = {field: column[number] for field, column in cells.items()}
        for field, words in FIELD_WORDS.items():
            if row.get(field):
                row[field] = _in_own_words(row[field], words)
        if found := CURRENT_PATTERN.search(row.get("current") or ""):
            row |= {"ib_a": found[1], "imax_a": found[2]}
        if any(word in (row.get("use") or "") for word in GATEWAY_WORDS):
            row.pop("segment", None)  # that of a customer
        yield row


def _in_own_words(cell: Any, words: Sequence[tuple[str, Any]]) -> Any:
    """The value that the first known word of a cell stands for; the cell if there is none."""
    text = str(cell)
    return next((value for word, value in words if word in text), cell)

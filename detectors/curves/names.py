"""The Chinese names of what curves draw: their units, series and limit lines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schemas.columns import PHASE_NAMES

CHINESE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        # units
        "% off the mean current": "偏离平均电流的%",
        "degrees of lag": "滞后角(度)",
        "sequence reversed": "逆相序",
        "% of the rated current": "占额定电流的%",
        "% of the contract": "占合同容量的%",
        "% of the rating": "占额定容量的%",
        "s ahead": "时钟超前(s)",
        "kWh on the register": "示值(kWh)",
        "kWh a day": "日电量(kWh)",
        "readings a day": "每日读数数量",
        "% of the energy lost": "线损率(%)",
        # series
        "phase": "相线",
        "neutral": "零线",
        "meter": "电能表",
        "terminal": "终端",
        "flows": "实测功率",
        "counted": "示值折算功率",
        # limit lines
        "lost": "失压限值",
        "broken": "断相限值",
        "back": "恢复限值",
        "highest": "上限",
        "lowest": "下限",
        "load": "有载限值",
        "none": "无载限值",
        "limit": "限值",
        "half load": "半载",
        "turned round": "反向",
        "lagging": "滞后",
        "leading": "超前",
        "warning": "预警",
        "alarm": "告警",
        "on five days": "五日",
        "for two hours": "两小时",
        "heavy": "重载",
        "overload": "过载",
        "hard limit": "严重限值",
    }
)
SAME_NAMES = frozenset({"", "V", "A", "kW", *PHASE_NAMES})  # in both languages


def shown_name(name: str, *, chinese: bool) -> str:
    """A unit, series or limit line by its name in a language."""
    if not chinese or name in SAME_NAMES:
        return name
    return CHINESE_NAMES[name]

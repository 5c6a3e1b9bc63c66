"""docs/zh/rules.md, the rules as an inspector reads them: what is wrong, what looks like it, what to check on site.

``python -m detectors.catalogue`` writes it; columns and settings of a rule stand on the English page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from detectors.rule import ALL_RULES, Level, Rule
from detectors.rule_notes import Notes, notes
from schemas.units import whole_units

CHINESE_PAGE = Path(__file__).parents[1] / "docs" / "zh" / "rules.md"
FAMILY_NAMES = {
    "areas": ("台区", "电量是否平衡，电表是否抄到"),
    "billing": ("电费", "账单是否正确"),
    "capacity": ("容量", "用户或变压器是否超出允许负荷"),
    "consumption": ("用电", "用电是否符合该用户的规律"),
    "devices": ("事件", "电表上报的事件有无对应工单，此后用电如何"),
    "master_data": ("档案", "档案和合同是否完整、一致、有效"),
    "metering": ("计量", "电能表本身是否正常"),
    "payments": ("缴费", "缴费是否成功，账单是否缴清"),
    "quality": ("供电质量", "是否符合国家标准"),
    "voltage": ("电压电流", "计量回路是否完好"),
    "wiring": ("接线", "接线是否正确，与旁证测量是否一致"),
    "workflow": ("流程", "工单是否按环节推进"),
}
REASON_NAMES = {
    "planned_outage": "计划停电",
    "area_outage": "台区停电",
    "vacancy": "空置",
    "meter_change": "换表",
    "area_failure": "整台区采集失败",
    "same_trouble": "同一异常已有告警",
}
EVIDENCE_NAMES = {"openings": "无工单开盖", "fields": "恒定磁场"}
UNIT_NAMES = {"day": "天", "hour": "小时", "minute": "分钟", "second": "秒"}
PAGE_HEADER = """# 规则目录

每条规则的含义、何时告警、现场检查什么。本页由`python -m detectors.catalogue`根据规则及`tests/cases/`中的规则文件生成。\
各规则读取的数据列和参数见[英文目录](../rules.md)，如何阅读告警见[阅读告警](alerts.md)。

等级：1级当日处理，2级三日内处理，3级列入下一批，4级仅供参考。得分达到1为异常，持续规定时间后告警；低于解除线为正常；\
介于两者之间保持不变。缺少所需数据时规则不作判断，也不告警。能由停电等事件或其他告警解释的，告警不显示，并注明原因。\
告警只是怀疑，由人员作出判断。
"""


def chinese_page() -> str:
    """All rules: a table by family, then each."""
    rules = sorted(ALL_RULES.values(), key=lambda rule: rule.family)
    lines = [PAGE_HEADER, *_overview(rules)]
    for rule in rules:
        lines += chinese_entry(rule, notes(rule.name))
    return "\n".join(lines)


def _overview(rules: Iterable[Rule]) -> Iterator[str]:
    """A table of each family."""
    for family, members in groupby(rules, lambda rule: rule.family):
        name, meaning = FAMILY_NAMES[family]
        yield f"**{name}**（{family}）：{meaning}。\n"
        yield "| 规则 | 名称 | 等级 |\n|---|---|---|"
        for rule in members:
            title = rule.title[1]
            severity = "、".join(f"{level.severity}级" for level in rule.levels)
            shadow = "" if rule.status == "published" else "（试运行，不显示）"
            yield f"| [{title}](#{title}-{rule.name}) | `{rule.name}` | {severity}{shadow} |"
        yield ""


def chinese_entry(rule: Rule, expert: Notes) -> Iterator[str]:
    """The lines on one rule."""
    family = FAMILY_NAMES[rule.family][0]
    yield f"## {rule.title[1]} {rule.name}\n\n{expert.zh.meaning}\n"
    yield f"- 类别：{family}。英文：[{rule.title[0]}](../rules.md#{rule.name})。"
    yield f"- 告警：{'；'.join(map(_raising, rule.levels))}。"
    yield f"- 解除：得分低于{rule.clear:.3g}{_lasting(rule.release)}。"
    yield from _accounted(rule)
    yield f"- 告警语句：`{rule.text[1]}`"
    yield "- 看似异常而并非异常："
    for case in expert.false_positive:
        yield f"    - {case.zh}"
    yield f"- 现场检查：{expert.zh.inspector}\n"


def _accounted(rule: Rule) -> Iterator[str]:
    """What explains a rule's alerts, and what makes them graver."""
    reasons = [reason for each in rule.explained_by for reason in each.reasons]
    if reasons:
        yield f"- 可由以下原因解释：{'、'.join(REASON_NAMES[each] for each in reasons)}。"
    if rule.strengthened_by:
        evidence = "、".join(EVIDENCE_NAMES[each] for each in rule.strengthened_by)
        yield f"- 有第二项证据时为1级：{evidence}。"


def _raising(level: Level) -> str:
    """When an episode gets a severity."""
    return f"得分达到{level.score:.3g}{_lasting(level.hold)}，为{level.severity}级"


def _lasting(seconds: int) -> str:
    """How long something must last.

    >>> _lasting(0), _lasting(7200), _lasting(86400)
    ('', '并持续2小时', '并持续1天')
    """
    count, unit = whole_units(seconds)
    return f"并持续{count}{UNIT_NAMES[unit]}" if count else ""

"""The answer of a rule about one subject at a time, as people and machines see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from detectors.rule import Rule
from replay.explanation import ExplainedRow, ScoredRow, units
from replay.history import Source
from schemas.alert import Alert
from streams.judged_history import refusals
from streams.lines import visible
from streams.silence import WITHDRAWN_TEXT, score_text, trouble_text
from streams.text_tables import show_table
from streams.times import local_time

SHOWN_COLUMNS = 8  # of the rows around; the first that the rule reads
VALUE_HEADS = (("column", "列"), ("value", "值"), ("unit", "单位"))
SETTING_HEADS = (("setting", "参数"), ("value", "值"))
ROW_HEADS = (("", ""), ("time", "时间"), ("score", "得分"))
NOT_KNOWN_TEXT = ("not known", "未知")
OUTCOME_WORDS = {
    "raised": ("raised", "已告警"),
    "suppressed": ("raised and suppressed", "已告警但被抑制"),
    "held": ("held", "等待确认"),
    "near miss": ("near miss", "接近告警"),
    "quiet": ("nothing raised", "未告警"),
    "cannot_tell": ("cannot tell", "无法判断"),
}


class ExplainedAnswer(NamedTuple):
    """An explanation as people and machines see it."""

    rule: Rule
    area: str
    subject: str
    explained: ExplainedRow
    source: Source

    def plain(self) -> dict[str, Any]:
        """The explanation as plain data."""
        explained, row = self.explained, self.explained.row
        by_name = units(self.rule, row.values)
        columns = [
            {"column": name, "value": row.values[name], "unit": unit}
            for name, unit in by_name.items()
        ]
        return {
            "source": self.source.name,
            "rule": self.rule.name,
            "version": self.rule.version,
            "area": self.area,
            "subject": self.subject,
            "at": self._time(row.at),
            "score": row.score,
            "outcome": explained.outcome,
            "near_miss": explained.is_near_miss,
            "reason": self.reason(chinese=False),
            "columns": columns,
            "settings": row.settings,
            "trouble_seconds": explained.trouble,
            "hold_seconds": explained.hold,
            "alert": explained.alert,
            "episodes": explained.episodes,
            "around": [
                {"at": self._time(each.at), "score": each.score, "values": each.values}
                for each in explained.around
            ],
            **refusals(self.source),
        }

    def show(self, out: Console, *, chinese: bool) -> None:
        """Prints the explanation."""
        for text in self.opening(chinese=chinese):
            out.print(text)
        tables = [self.value_table(chinese=chinese)]
        if self.explained.row.settings:
            tables.append(self.setting_table(chinese=chinese))
        for table in tables:
            out.print("")
            show_table(table, out, words=1)
        out.print("")
        show_table(self.row_table(chinese=chinese), out, words=2)

    def opening(self, *, chinese: bool) -> tuple[str, str]:
        """What is explained, and the answer."""
        title = self.rule.title[1] if chinese else self.rule.name
        place = self.subject
        if self.area != self.subject:
            place = f"{self.area} {self.subject}"
        near = self.explained.is_near_miss
        word = OUTCOME_WORDS["near miss" if near else self.explained.outcome][chinese]
        what = f"{title}: {place}, {self._time(self.explained.row.at)}"
        return visible(what), visible(f"{word}: {self.reason(chinese=chinese)}")

    def reason(self, *, chinese: bool) -> str:
        """What raised an alert, or what kept the rule silent, in a sentence."""
        explained, row = self.explained, self.explained.row
        if explained.alert and explained.outcome in ("raised", "suppressed"):
            return self.alert_sentence(explained.alert, chinese=chinese)
        if explained.outcome == "cannot_tell":
            return _gap_sentence(row.missing, chinese=chinese)
        if explained.outcome == "quiet":
            return score_text(row.score, chinese=chinese)
        return self._hold_sentence(chinese=chinese)

    def alert_sentence(self, alert: Alert, *, chinese: bool) -> str:
        """When an alert was raised, and what became of it."""
        raised, since = self._time(alert.raised), self._time(alert.since)
        parts = [f"{raised}告警，{since}起异常，级别{alert.severity}"]
        if not chinese:
            parts = [f"at {raised}, in trouble since {since}"]
            parts.append(f"severity {alert.severity}")
        if alert.suppressed_by:
            by = "抑制原因" if chinese else "suppressed by"
            parts.append(f"{by} {alert.suppressed_by}")
        if alert.state == "cleared":
            cleared = self._time(alert.at)
            parts.append(f"{cleared}恢复" if chinese else f"cleared {cleared}")
        return ("，" if chinese else ", ").join(parts)

    def _hold_sentence(self, *, chinese: bool) -> str:
        """For how long the trouble has lasted, of how long it must."""
        explained = self.explained
        if explained.withdrawn:
            return WITHDRAWN_TEXT[chinese]
        if explained.trouble >= explained.hold:
            return (
                "得分达到1，但未产生告警"
                if chinese
                else "the score is 1 or more, and no alert was raised"
            )

        lasted = trouble_text(explained.trouble, explained.hold, chinese=chinese)
        later = ""
        if explained.alert:
            raised = self._time(explained.alert.raised)
            later = f"，{raised}告警" if chinese else f"; raised {raised}"
        return lasted + later

    def value_table(self, *, chinese: bool) -> list[list[str]]:
        """The columns that the rule read."""
        row = self.explained.row
        by_name = units(self.rule, row.values)
        cells = [
            [name, _number(row.values.get(name), chinese=chinese), unit]
            for name, unit in by_name.items()
        ]
        return [[head[chinese] for head in VALUE_HEADS], *cells]

    def setting_table(self, *, chinese: bool) -> list[list[str]]:
        """The settings in force."""
        settings = self.explained.row.settings.items()
        cells = [[name, f"{value:g}"] for name, value in settings]
        return [[head[chinese] for head in SETTING_HEADS], *cells]

    def row_table(self, *, chinese: bool) -> list[list[str]]:
        """The rows around, each with its score and the first columns that the rule reads."""
        explained = self.explained
        names = list(explained.row.values)[:SHOWN_COLUMNS]
        heads = [*(head[chinese] for head in ROW_HEADS), *names]
        return [heads, *(self._row_cells(each, names) for each in explained.around)]

    def _row_cells(self, row: ScoredRow, names: Sequence[str]) -> list[str]:
        """The cells of a row; the explained row is marked."""
        mark = ">" if row.at == self.explained.row.at else ""
        values = (_number(row.values.get(name)) for name in names)
        score = "-" if math.isnan(row.score) else f"{row.score:.2f}"
        return [mark, self._time(row.at), score, *values]

    def _time(self, at: int) -> str:
        """A local time."""
        return local_time(at, self.source.zone)


def _number(value: float | None, *, chinese: bool | None = None) -> str:
    """A value that may not be known: "-" or, in a language, a word."""
    if value is not None:
        return f"{value:.5g}"
    return "-" if chinese is None else NOT_KNOWN_TEXT[chinese]


def _gap_sentence(missing: Sequence[str], *, chinese: bool) -> str:
    """What a rule lacks."""
    if not missing:
        return (
            "规则对这些值没有结论"
            if chinese
            else "the rule has no answer for these values"
        )
    names = ", ".join(missing)
    if chinese:
        return f"缺少列{names}"
    verb = "is" if len(missing) == 1 else "are"
    return f"column{'s' * (len(missing) > 1)} {names} {verb} missing"

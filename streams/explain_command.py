"""The command that explains what a rule made of one subject at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from rich.console import Console

from detectors.engine import Engine
from detectors.rule import Rule
from detectors.rulebook import applied, rules_of
from replay.explanation import ExplainedHistory, ExplainedRow, ScoredRow, units
from replay.history import Source, nothing_read
from schemas.alert import Alert
from schemas.rules import Rulebook
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from streams.histories import opened, read_again
from streams.json_output import show_json
from streams.judged_history import LabelFile, judged, refusal_lines, refusals
from streams.lines import visible
from streams.report.charts import ShadedSpan, chart_of, span_of
from streams.report.evidence import CurveChart, Evidence
from streams.report.score_page import PageSection, html_table, score_page
from streams.report.subjects import JudgedBy
from streams.settings import Settings
from streams.shards import ONE_JOB
from streams.terminal import plain_output
from streams.text_tables import show_table
from streams.times import local_time

SHOWN_COLUMNS = 8  # of the rows around; the first that the rule reads
VALUE_HEADS = (("column", "列"), ("value", "值"), ("unit", "单位"))
SETTING_HEADS = (("setting", "参数"), ("value", "值"))
ROW_HEADS = (("", ""), ("time", "时间"), ("score", "得分"))
CHART_HEADS = (
    ("The score over the days around", "前后数日的得分"),
    ("The values with their limits", "数值与限值"),
)
SETTINGS_HEAD = ("The settings in force", "生效参数")
ROWS_HEAD = ("The rows around", "前后各行")
RAISE_LINE = ("raise line", "告警线")
ASKED_WORD = ("asked about", "所问时刻")
WITHDRAWN_WORD = ("withdrawn", "已撤回")
PAGE_LANGUAGES = ("en", "zh")
ALERT_ID = re.compile("[0-9a-f]{16}")
NOT_KNOWN_TEXT = ("not known", "未知")
OUTCOME_WORDS = {
    "raised": ("raised", "已告警"),
    "suppressed": ("raised and suppressed", "已告警但被抑制"),
    "held": ("held", "等待确认"),
    "near miss": ("near miss", "接近告警"),
    "quiet": ("nothing raised", "未告警"),
    "cannot_tell": ("cannot tell", "无法判断"),
}


class Question(NamedTuple):
    """The rule, the subject and the time that are asked about, or an alert alone."""

    rule: str
    subject: str
    area: str  # "" if the subject is in one area only
    at: str  # a local time, or a date, which means its end
    alert: str = ""  # its id

    def checked(self) -> Question:
        """The question, if it names an alert, or a rule, a subject and a time. Raises ValueError."""
        named = (self.rule, self.subject, self.area, self.at)
        if self.alert and any(named):
            raise ValueError(
                "an alert's id says all: leave out --rule, --meter, --area and --at"
            )
        if self.alert:
            return self
        if not (self.rule and self.at):
            raise ValueError(
                "give the id of an alert before the history, or --rule and --at with --meter, --subject or --area"
            )
        if not (self.subject or self.area):
            raise ValueError("name the subject by --meter, --subject or --area")
        return self


def asked_alert(texts: Sequence[str]) -> tuple[str, list[str]]:
    """The id of an alert, "" for none, and the paths of a history, from a command's arguments."""
    first, *rest = texts
    is_id = ALERT_ID.fullmatch(first) and not Path(first).exists()
    return (first, rest) if is_id else ("", [first, *rest])


def explain_history(
    paths: Sequence[str],
    question: Question,
    rulebook: Rulebook,
    settings: Settings,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None = None,
) -> None:
    """Judges a history and explains a rule's answer about a subject at a time.

    Raises ValueError, with advice, for a source or a question that cannot be used.
    """
    question = question.checked()
    if not paths:
        raise ValueError("name the history: files, folders, an archive or a town")
    rules = applied(rulebook, rules_of(settings.voltage_limits))
    if question.alert:
        question = _of_alert(question.alert, paths, rulebook, settings, as_json)
    rule = _chosen(rules, question.rule)

    source = opened(paths, settings)
    first, last = _asked_times(question.at, source.zone)
    engine = Engine(rules, zone=source.zone, interval=source.interval)
    areas = {area.area: area for area in source.areas}
    engine.enroll(areas[name] for name in sorted(areas))
    history = ExplainedHistory(engine, rule, question.subject, question.area)
    history.judge(source.batches)
    if not history.has_rows:
        raise nothing_read(source.name, source.tally)

    area = history.area()
    subject = question.subject or area
    begin, end = history.span()
    if last < begin or first > end:
        span = " to ".join(local_time(at, source.zone) for at in (begin, end))
        raise ValueError(f"--at {question.at} is outside the history, {span}")
    explained = history.at(last)
    if explained is None:
        raise ValueError(
            f"{rule.name} has judged no {rule.kind.kind} of {subject} until {question.at}: "
            f"they are made of {rule.kind.made_of}"
        )
    shown = _Answer(rule, area, subject, explained, source)
    if report:
        judged_by = JudgedBy(source.areas, rules, source.zone, source.interval)
        pictures = _pictures(shown, paths, judged_by, end, chinese=chinese)
        page = shown.page(pictures, chinese=chinese)
        report.write_text(page, encoding="utf-8")
    if as_json:
        show_json(shown.plain())
        return
    shown.show(plain_output(), chinese=chinese)


def _of_alert(
    key: str,
    paths: Sequence[str],
    rulebook: Rulebook,
    settings: Settings,
    quiet: bool,
) -> Question:
    """The question after the evidence that raised an alert of a history. Raises ValueError if it has none of that id."""
    history = judged(paths, [rulebook], settings, ONE_JOB, quiet=quiet)
    (alerts,) = history.alerts
    alert = next((each for each in alerts if each.id == key), None)
    if alert is None:
        raise ValueError(
            f"{history.source.name} has no alert {key} that stands: give the rulebook that raised it by --rules"
        )
    at = datetime.fromtimestamp(alert.raised, ZoneInfo(history.source.zone))
    return Question(alert.rule, alert.subject, alert.area, at.isoformat())


def _pictures(
    answer: _Answer,
    paths: Sequence[str],
    judged_by: JudgedBy,
    end: int,
    *,
    chinese: bool,
) -> list[str]:
    """The charts of the scores, and of the values with their limits, from a second reading of the history."""
    shaded = answer.shaded(chinese=chinese)
    charts = [
        chart_of(answer.scores(chinese=chinese), shaded, judged_by.zone, end),
    ]
    alert = answer.as_alert()
    evidence = Evidence([alert], judged_by)
    evidence.gather(read_again(paths))
    if (picture := evidence.picture(alert)) is not None:
        charts.append(chart_of(picture, shaded, judged_by.zone, end))
    return charts


def _chosen(rules: Sequence[Rule], name: str) -> Rule:
    """The rule of a name. Raises ValueError if there is none, or if it is not judged."""
    by_name = {rule.name: rule for rule in rules}
    if name not in by_name:
        near = get_close_matches(name, by_name, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no rule {name}{hint}")

    rule = by_name[name]
    if rule.status in ("draft", "retired"):
        raise ValueError(
            f"{name} is not judged, its status is {rule.status}: set it to shadow in a file for --rules"
        )
    return rule


def _asked_times(text: str, zone: str) -> tuple[int, int]:
    """The first and last second that a local time, or a date, stands for. Raises ValueError.

    >>> _asked_times("2026-03-02", "UTC"), _asked_times("2026-03-02 00:15", "UTC")
    ((1772409600, 1772496000), (1772410500, 1772410500))
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--at {text} is no time: write 2026-03-02 or 2026-03-02T07:30"
        ) from None

    first = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    is_date = len(text) <= len("2026-03-02")
    last = first + timedelta(days=1) if is_date else first
    return int(first.timestamp()), int(last.timestamp())


class _Answer(NamedTuple):
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
        for text in self._opening(chinese=chinese):
            out.print(text)
        tables = [self._value_table(chinese=chinese)]
        if self.explained.row.settings:
            tables.append(self._setting_table(chinese=chinese))
        for table in tables:
            out.print("")
            show_table(table, out, words=1)
        out.print("")
        show_table(self._row_table(chinese=chinese), out, words=2)

    def _opening(self, *, chinese: bool) -> tuple[str, str]:
        """What is explained, and the answer."""
        title = self.rule.title[1] if chinese else self.rule.name
        place = self.subject
        if self.area != self.subject:
            place = f"{self.area} {self.subject}"
        near = self.explained.is_near_miss
        word = OUTCOME_WORDS["near miss" if near else self.explained.outcome][chinese]
        what = f"{title}: {place}, {self._time(self.explained.row.at)}"
        return visible(what), visible(f"{word}: {self.reason(chinese=chinese)}")

    def page(self, charts: Sequence[str], *, chinese: bool) -> str:
        """The page, which opens offline."""
        title, says = self._opening(chinese=chinese)
        episodes = [
            self._episode_sentence(each, chinese=chinese)
            for each in self.explained.episodes
        ]
        kinds = zip(CHART_HEADS, charts, strict=False)
        sections = [
            PageSection(head[chinese], f"<figure>{chart}</figure>")
            for head, chart in kinds
        ]
        if self.explained.row.settings:
            table = html_table(self._setting_table(chinese=chinese), words=1)
            sections.append(PageSection(SETTINGS_HEAD[chinese], table))
        table = html_table(
            self._row_table(chinese=chinese), words=2, last_is_words=False
        )
        sections.append(PageSection(ROWS_HEAD[chinese], table))
        return score_page(
            title,
            says,
            self._value_table(chinese=chinese),
            [*episodes, *refusal_lines(self.source, LabelFile(""))],
            words=1,
            language=PAGE_LANGUAGES[chinese],
            sections=sections,
        )

    def scores(self, *, chinese: bool) -> CurveChart:
        """The scores of the days around; a row that proves that there is no trouble scores 0."""
        near = self.explained.near
        scores = np.array([row.score for row in near])
        line = {RAISE_LINE[chinese]: self.rule.levels[0].score}
        return CurveChart(
            unit=ROW_HEADS[2][chinese],
            at=np.array([row.at for row in near], np.float64),
            series={"": np.where(np.isneginf(scores), 0, scores)},
            lines=line,
        )

    def shaded(self, *, chinese: bool) -> ShadedSpan:
        """The time of the alert, or of the trouble, and when it was raised or asked about."""
        row, alert = self.explained.row, self.explained.alert
        if alert:
            return span_of(alert, OUTCOME_WORDS["raised"][chinese])
        since = row.at - self.explained.trouble
        return ShadedSpan(since, row.at, {ASKED_WORD[chinese]: row.at})

    def as_alert(self) -> Alert:
        """The alert of the row, or the one that it would have if it raised any."""
        row, alert = self.explained.row, self.explained.alert
        if alert:
            return alert
        is_of_area = self.subject == self.area
        return Alert(
            id="",
            rule=self.rule.name,
            version=self.rule.version,
            kind=self.rule.kind.kind,
            area=self.area,
            subject="" if is_of_area else self.subject,
            state="raised",
            change="raised",
            revision=0,
            severity=self.rule.levels[0].severity,
            since=row.at - self.explained.trouble,
            raised=row.at,
            at=row.at,
            score=row.score,
            phase="",
            evidence={},
            suppressed_by="",
            en="",
            zh="",
        )

    def _episode_sentence(self, alert: Alert, *, chinese: bool) -> str:
        """An alert of the days around: its id, and what became of it."""
        suppressed = bool(alert.suppressed_by)
        word = OUTCOME_WORDS["suppressed" if suppressed else "raised"][chinese]
        if alert.state == "withdrawn":
            word = WITHDRAWN_WORD[chinese]
        return f"{alert.id} {word}: {self._alert_sentence(alert, chinese=chinese)}"

    def reason(self, *, chinese: bool) -> str:
        """What raised an alert, or what kept the rule silent, in a sentence."""
        explained, row = self.explained, self.explained.row
        if explained.alert and explained.outcome in ("raised", "suppressed"):
            return self._alert_sentence(explained.alert, chinese=chinese)
        if explained.outcome == "cannot_tell":
            return _gap_sentence(row.missing, chinese=chinese)
        if explained.outcome == "quiet":
            return _score_sentence(row.score, chinese=chinese)
        return self._hold_sentence(chinese=chinese)

    def _alert_sentence(self, alert: Alert, *, chinese: bool) -> str:
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
            return "告警后被撤回" if chinese else "its alert was withdrawn later"
        if explained.trouble >= explained.hold:
            return (
                "得分达到1，但未产生告警"
                if chinese
                else "the score is 1 or more, and no alert was raised"
            )
        is_daily = explained.hold % DAY_SECONDS == 0
        seconds = DAY_SECONDS if is_daily else HOUR_SECONDS
        spent, needed = explained.trouble / seconds, explained.hold / seconds
        unit = ("hours", "小时") if not is_daily else ("days", "天")

        later = ""
        if explained.alert:
            raised = self._time(explained.alert.raised)
            later = f"，{raised}告警" if chinese else f"; raised {raised}"
        if chinese:
            return f"已异常{spent:.3g}{unit[1]}，需{needed:.3g}{unit[1]}{later}"
        return f"in trouble for {spent:.3g} of {needed:.3g} {unit[0]}{later}"

    def _value_table(self, *, chinese: bool) -> list[list[str]]:
        """The columns that the rule read."""
        row = self.explained.row
        by_name = units(self.rule, row.values)
        cells = [
            [name, _number(row.values.get(name), chinese=chinese), unit]
            for name, unit in by_name.items()
        ]
        return [[head[chinese] for head in VALUE_HEADS], *cells]

    def _setting_table(self, *, chinese: bool) -> list[list[str]]:
        """The settings in force."""
        settings = self.explained.row.settings.items()
        cells = [[name, f"{value:g}"] for name, value in settings]
        return [[head[chinese] for head in SETTING_HEADS], *cells]

    def _row_table(self, *, chinese: bool) -> list[list[str]]:
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


def _score_sentence(score: float, *, chinese: bool) -> str:
    """How far a score is from the raise line."""
    if score == -math.inf:
        return (
            "该行证明没有异常" if chinese else "the row proves that there is no trouble"
        )
    return f"得分{score:.3g}低于1" if chinese else f"score {score:.3g} below 1"

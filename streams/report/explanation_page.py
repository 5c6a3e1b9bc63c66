"""The page that explains a rule's answer: its scores over the days around, and the values with their limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from replay.archive.selection import ArchivedRows
from schemas.alert import Alert
from schemas.columns import Batch
from streams.explained_answer import OUTCOME_WORDS, ROW_HEADS, ExplainedAnswer
from streams.judged_history import LabelFile, refusal_lines
from streams.report.charts import ShadedSpan, chart_of, span_of
from streams.report.evidence import CurveChart, Evidence
from streams.report.score_page import PageSection, html_table, score_page
from streams.report.subjects import JudgedBy

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


def explanation_page(
    answer: ExplainedAnswer,
    history: Iterable[Batch] | ArchivedRows,
    judged_by: JudgedBy,
    end: int,
    *,
    chinese: bool,
) -> str:
    """The whole page; reads the rows near the answer from the history, which ends at `end`."""
    title, says = answer.opening(chinese=chinese)
    episodes = [
        _episode_sentence(answer, each, chinese=chinese)
        for each in answer.explained.episodes
    ]
    charts = _charts(answer, history, judged_by, end, chinese=chinese)
    sections = [
        PageSection(head[chinese], f"<figure>{chart}</figure>")
        for head, chart in zip(CHART_HEADS, charts, strict=False)
    ]

    if answer.explained.row.settings:
        table = html_table(answer.setting_table(chinese=chinese), words=1)
        sections.append(PageSection(SETTINGS_HEAD[chinese], table))
    rows = html_table(answer.row_table(chinese=chinese), words=2, last_is_words=False)
    sections.append(PageSection(ROWS_HEAD[chinese], rows))
    return score_page(
        title,
        says,
        answer.value_table(chinese=chinese),
        [*episodes, *refusal_lines(answer.source, LabelFile(""))],
        words=1,
        language=PAGE_LANGUAGES[chinese],
        sections=sections,
    )


def _charts(
    answer: ExplainedAnswer,
    history: Iterable[Batch] | ArchivedRows,
    judged_by: JudgedBy,
    end: int,
    *,
    chinese: bool,
) -> Sequence[str]:
    """The chart of the scores, and that of the values if the rule has a curve."""
    shaded = _shaded(answer, chinese=chinese)
    scores = _score_chart(answer, chinese=chinese)
    drawn = [chart_of(scores, shaded, judged_by.zone, end)]
    alert = _as_alert(answer)
    evidence = Evidence([alert], judged_by)
    evidence.gather(history)
    if (picture := evidence.picture(alert, chinese=chinese)) is not None:
        drawn.append(chart_of(picture, shaded, judged_by.zone, end))
    return drawn


def _score_chart(answer: ExplainedAnswer, *, chinese: bool) -> CurveChart:
    """The scores of the days around; a row that proves that there is no trouble scores 0."""
    near = answer.explained.near
    scores = np.array([row.score for row in near])
    return CurveChart(
        unit=ROW_HEADS[2][chinese],
        at=np.array([row.at for row in near], np.float64),
        series={"": np.where(np.isneginf(scores), 0, scores)},
        lines={RAISE_LINE[chinese]: answer.rule.levels[0].score},
    )


def _shaded(answer: ExplainedAnswer, *, chinese: bool) -> ShadedSpan:
    """The time of the alert, or of the trouble, and when it was raised or asked about."""
    explained = answer.explained
    if explained.alert:
        return span_of(explained.alert, OUTCOME_WORDS["raised"][chinese])
    at = explained.row.at
    return ShadedSpan(at - explained.trouble, at, {ASKED_WORD[chinese]: at})


def _as_alert(answer: ExplainedAnswer) -> Alert:
    """The alert of the row, or the one that it would have if it raised any."""
    explained, rule = answer.explained, answer.rule
    if explained.alert:
        return explained.alert

    at = explained.row.at
    return Alert(
        id="",
        rule=rule.name,
        version=rule.version,
        kind=rule.kind.kind,
        area=answer.area,
        subject="" if answer.subject == answer.area else answer.subject,
        state="raised",
        change="raised",
        revision=0,
        severity=rule.levels[0].severity,
        since=at - explained.trouble,
        raised=at,
        at=at,
        score=explained.row.score,
        phase="",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )


def _episode_sentence(answer: ExplainedAnswer, alert: Alert, *, chinese: bool) -> str:
    """An alert of the days around: its id, and what became of it."""
    word = OUTCOME_WORDS["suppressed" if alert.suppressed_by else "raised"][chinese]
    if alert.state == "withdrawn":
        word = WITHDRAWN_WORD[chinese]
    return f"{alert.id} {word}: {answer.alert_sentence(alert, chinese=chinese)}"

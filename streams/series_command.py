"""The command that scores a single series of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.series import SERIES_STATISTICS, SeriesScores
from replay.series import Series, read_series, scores_of, series_alerts
from schemas.alert import Alert
from schemas.units import DAY_SECONDS
from streams.json_output import show_json
from streams.lines import visible
from streams.report.charts import chart_of, span_of
from streams.report.evidence import CurveChart
from streams.report.score_page import score_page
from streams.terminal import plain_output
from streams.text_tables import show_table
from streams.times import local_time

CHARTED_ALERTS = 20  # on the page, those with the highest scores
CHART_MARGIN_SECONDS = 4 * DAY_SECONDS  # before and after an alert
TEXT_COLUMNS = 2  # at the left of the table; the others but the last are numbers
TABLE_HEADS = (
    ("since", "开始"),
    ("until", "结束"),
    ("score", "评分"),
    ("value", "数值"),
    ("usual", "通常"),
    ("what was seen", "现象"),
)
PAGE_TITLE = ("Unusual values of", "异常值:")
PAGE_LANGUAGES = ("en", "zh")


def score_series(
    path: Path,
    column: str,
    time_column: str,
    zone: str,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None,
) -> None:
    """Print the alerts of a series, with every row's scores in JSON, and write the page. Raises SourceError."""
    series = read_series(path, column, time_column, zone)
    scores = scores_of(series)
    alerts = list(series_alerts(series, scores))
    if report:
        page = _page(series, scores, alerts, chinese=chinese)
        report.write_text(page, encoding="utf-8")
    if as_json:
        show_json(_plain(series, scores, alerts))
        return

    out = plain_output()
    if alerts:
        show_table(_table(series, alerts, chinese=chinese), out, words=TEXT_COLUMNS)
    out.print(visible(_summary(series, scores, alerts, chinese=chinese)))
    for reason in series.tally.reasons(series.tally.rejected):
        out.print(visible(f"{'未采用' if chinese else 'left out'}: {reason}"))


def _summary(
    series: Series, scores: SeriesScores, alerts: Sequence[Alert], *, chinese: bool
) -> str:
    """How much was read and judged."""
    rows, judged = len(series.at), int(np.isfinite(scores.score).sum())
    begin, end = (local_time(int(at), series.zone) for at in series.at[[0, -1]])
    if chinese:
        return f"{series.column}:{begin}至{end}共{rows:,}行,评分{judged:,}行,告警{len(alerts)}条"
    return (
        f"{series.column}: {rows:,} rows from {begin} to {end}, {judged:,} of them scored; "
        f"{len(alerts)} alerts"
    )


def _plain(
    series: Series, scores: SeriesScores, alerts: Sequence[Alert]
) -> dict[str, Any]:
    """The series, its alerts and the scores of every row; null where there is none."""
    columns = {
        "value": series.values,
        "expected": scores.expected,
        "score": scores.score,
    }
    columns |= {f"{name}_score": getattr(scores, name) for name in SERIES_STATISTICS}
    rounded = {
        name: [None if np.isnan(cell) else round(cell, 6) for cell in column.tolist()]
        for name, column in columns.items()
    }
    return {
        "file": series.name,
        "column": series.column,
        "interval_s": series.interval,
        "left_out": dict(series.tally.rejected),
        "alerts": alerts,
        "rows": {"at": series.at.tolist(), **rounded},
    }


def _page(
    series: Series, scores: SeriesScores, alerts: Sequence[Alert], *, chinese: bool
) -> str:
    """A table of the alerts, and a chart of the gravest."""
    gravest = sorted(alerts, key=lambda alert: -alert.score)[:CHARTED_ALERTS]
    figures = [
        chart_of(
            _chart(series, scores, alert),
            span_of(alert),
            series.zone,
            int(series.at[-1]),
        )
        for alert in sorted(gravest, key=lambda alert: alert.since)
    ]
    return score_page(
        f"{PAGE_TITLE[chinese]} {series.column}, {series.name}",
        _summary(series, scores, alerts, chinese=chinese),
        _table(series, alerts, chinese=chinese),
        series.tally.reasons(series.tally.rejected),
        words=TEXT_COLUMNS,
        language=PAGE_LANGUAGES[chinese],
        figures=figures,
    )


def _table(
    series: Series, alerts: Sequence[Alert], *, chinese: bool
) -> list[list[str]]:
    """The alerts as rows of a table, below its heads."""
    rows = [[head[chinese] for head in TABLE_HEADS]]

    for alert in alerts:
        expected = alert.evidence.get("expected")
        is_over = alert.state == "cleared"
        rows.append(
            [
                local_time(alert.since, series.zone),
                local_time(alert.at, series.zone) if is_over else "",
                f"{alert.score:.2f}",
                f"{alert.evidence['value']:.4g}",
                "" if expected is None else f"{expected:.4g}",
                visible(alert.zh if chinese else alert.en),
            ]
        )
    return rows


def _chart(series: Series, scores: SeriesScores, alert: Alert) -> CurveChart:
    """The series around an alert, beside the usual value of each hour."""
    end = alert.at if alert.state == "cleared" else int(series.at[-1])
    shown = series.at >= alert.since - CHART_MARGIN_SECONDS
    shown &= series.at <= end + CHART_MARGIN_SECONDS
    return CurveChart(
        unit=series.column,
        at=series.at[shown].astype(float),
        series={"value": series.values[shown], "usual": scores.expected[shown]},
    )

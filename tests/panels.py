"""`python -m tests.panels ADDRESS PAGE.html` draws the dashboards as Prometheus at ADDRESS answers them now.

It is for looking at the panels where there is no Grafana.
"""

from __future__ import annotations

import html
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import dashboards

SPAN_SECONDS = 600
STEP_SECONDS = 5
CURVE_WIDTH, CURVE_HEIGHT = 380, 130  # pixels
MOST_LINES = 12  # of a panel
LINE_COLOURS = ("#3b6ea5", "#c4622d", "#4b8b3b", "#8a4f9e", "#b39b1c", "#40868c")
PAGE_STYLE = """
body { font: 13px system-ui, sans-serif; margin: 16px; background: #f6f6f4 }
section { display: flex; flex-wrap: wrap; gap: 10px }
figure { background: #fff; border: 1px solid #ddd; margin: 0; padding: 8px; width: 390px }
figure.stat { width: 120px } figure.stat b { font-size: 22px }
figcaption { color: #555 } td { padding: 0 8px 0 0 } h2 { margin: 14px 0 6px }
"""


def page(address: str, language: str) -> str:
    """All dashboards as a page."""
    column = dashboards.TITLE_LANGUAGES.index(language)
    parts = [f"<!doctype html><meta charset=utf-8><style>{PAGE_STYLE}</style>"]
    for table in dashboards.tables().values():
        parts.append(f"<h1>{table['title'][column]}</h1>")
        for row in table["rows"]:
            parts.append(f"<h2>{row['title'][column]}</h2><section>")
            parts += [_figure(address, panel, column) for panel in row["panels"]]
            parts.append("</section>")
    return "\n".join(parts)


def _figure(address: str, panel: dict[str, Any], column: int) -> str:
    """A panel with what its expressions give."""
    kind = panel["kind"]
    series = [
        found
        for query in dashboards.queries(panel)
        for found in _answer(address, dashboards.with_values(query["expr"]))
    ]
    drawn = _table(series) if kind == "table" else _curves(series)
    if kind == "stat":
        drawn = f"<b>{_last(series[0]):,.6g}</b>" if series else "<b>?</b>"
    title = html.escape(panel["title"][column])
    return f'<figure class="{kind}"><figcaption>{title}</figcaption>{drawn}</figure>'


def _answer(address: str, expression: str) -> list[dict[str, Any]]:
    """The series of an expression in the last SPAN_SECONDS."""
    now = time.time()
    query = urllib.parse.urlencode(
        {
            "query": expression,
            "start": now - SPAN_SECONDS,
            "end": now,
            "step": STEP_SECONDS,
        }
    )
    url = f"{address}/api/v1/query_range?{query}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - given by the caller
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def _last(series: dict[str, Any]) -> float:
    return float(series["values"][-1][1])


def _table(series: list[dict[str, Any]]) -> str:
    """The last values, the highest first."""
    rows = sorted(series, key=_last, reverse=True)[:MOST_LINES]
    cells = (
        f"<tr><td>{html.escape(' '.join(each['metric'].values()))}</td>"
        f"<td>{_last(each):,.4g}</td></tr>"
        for each in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _curves(series: list[dict[str, Any]]) -> str:
    """The series as lines over time, from 0 to the highest value."""
    shown = sorted(series, key=_last, reverse=True)[:MOST_LINES]
    points = [list(_points(each)) for each in shown]
    highest = max((value for line in points for _, value in line), default=0) or 1
    end = time.time()

    lines = []
    for n, line in enumerate(points):
        places = " ".join(
            f"{CURVE_WIDTH * (1 - (end - at) / SPAN_SECONDS):.1f},{CURVE_HEIGHT * (1 - value / highest):.1f}"
            for at, value in line
        )
        colour = LINE_COLOURS[n % len(LINE_COLOURS)]
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{places}"/>')
    names = [" ".join(each["metric"].values()) for each in shown]
    legend = html.escape(" · ".join(filter(None, names)))[:160]
    return (
        f'<svg viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" width="{CURVE_WIDTH}">{"".join(lines)}</svg>'
        f"<figcaption>to {highest:,.4g} {legend}</figcaption>"
    )


def _points(series: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """The times and values that are numbers."""
    for at, text in series["values"]:
        value = float(text)
        if value == value:  # noqa: PLR0124 - not NaN
            yield float(at), value


def main() -> None:
    """Writes a page in each language."""
    address, path = sys.argv[1], Path(sys.argv[2])
    for language in dashboards.TITLE_LANGUAGES:
        page_path = path.with_suffix(f".{language}.html")
        page_path.write_text(page(address, language), "utf-8")


if __name__ == "__main__":
    main()

"""`python -m tests.dashboards` writes the Grafana dashboards of deploy/grafana/panels.toml as JSON.

It also writes the alert rules as Prometheus' operator on Kubernetes takes them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import yaml

DEPLOY_FOLDER = Path(__file__).parents[1] / "deploy"
GRAFANA_FOLDER = DEPLOY_FOLDER / "grafana"
ALERT_RULES_FILE = DEPLOY_FOLDER / "prometheus" / "meterwatch.rules.yml"
OPERATOR_FILE = DEPLOY_FOLDER / "kubernetes" / "alert-rules.yaml"
TITLE_LANGUAGES = ("en", "zh")  # in the order of the titles
GRAFANA_SCHEMA = 39  # Grafana 10.4
GRID_COLUMNS = 24
PANEL_SIZES = {"stat": (3, 4)}  # columns and rows
USUAL_SIZE = (8, 8)
PANEL_TYPES = {
    "stat": "stat",
    "curve": "timeseries",
    "stack": "timeseries",
    "bars": "timeseries",
    "table": "table",
}
GRAFANA_WORDS = {"$__rate_interval": "15s", "$instance": ".*", "$section": ".*"}
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def tables() -> dict[str, dict[str, Any]]:
    """The dashboards as they stand in the table, by name."""
    return tomllib.loads((GRAFANA_FOLDER / "panels.toml").read_text("utf-8"))


def dashboard(name: str, table: dict[str, Any], language: str) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    column = TITLE_LANGUAGES.index(language)
    return {
        "uid": f"meterwatch-{name}-{language}",
        "title": table["title"][column],
        "description": table["about"][column],
        "tags": ["meterwatch", language],
        "schemaVersion": GRAFANA_SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": f"now-{table.get('span', '1h')}", "to": "now"},
        "templating": {"list": [_data_source(), *map(_variable, variables(table))]},
        "panels": list(_panels(table["rows"], column)),
    }


def variables(table: dict[str, Any]) -> list[dict[str, str]]:
    """The variables of a dashboard, each with the query that gives its values."""
    listed: list[dict[str, str]] = table.get("variables", [])
    return listed


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable(variable: dict[str, str]) -> dict[str, Any]:
    """A choice of several values, all at first."""
    return {
        "name": variable["name"],
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": variable["query"], "refId": variable["name"]},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: list[dict[str, Any]], column: int) -> Iterator[dict[str, Any]]:
    """The panels row by row, from left to right."""
    ids = count(1)
    top = 0
    for row in rows:
        yield {
            "id": next(ids),
            "type": "row",
            "title": row["title"][column],
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": GRID_COLUMNS, "h": 1},
            "panels": [],
        }
        top += 1

        left = lowest = 0
        for panel in row["panels"]:
            width, height = PANEL_SIZES.get(panel["kind"], USUAL_SIZE)
            if left + width > GRID_COLUMNS:
                left, top, lowest = 0, top + lowest, 0
            place = {"x": left, "y": top, "w": width, "h": height}
            yield _panel(panel, column) | {"id": next(ids), "gridPos": place}
            left += width
            lowest = max(lowest, height)
        top += lowest


def _panel(panel: dict[str, Any], column: int) -> dict[str, Any]:
    """A panel without its place."""
    return {
        "type": PANEL_TYPES[panel["kind"]],
        "title": panel["title"][column],
        "datasource": DATA_SOURCE,
        "targets": list(_targets(panel, column)),
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel["kind"]),
        "transformations": _transformations(panel["kind"]),
    }


def queries(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """The expressions of a panel, each with its legend."""
    return [panel, *panel.get("more", [])]


def with_values(expression: str) -> str:
    """An expression with values for Grafana's words."""
    for word, value in GRAFANA_WORDS.items():
        expression = expression.replace(word, value)
    return expression


def _targets(panel: dict[str, Any], column: int) -> Iterator[dict[str, Any]]:
    """The expressions of a panel as Grafana asks them; a legend is of labels, or in both languages as a title is."""
    is_momentary = panel["kind"] in ("stat", "table")
    for letter, query in zip(ascii_uppercase, queries(panel), strict=False):
        legend = query.get("legend", "__auto")
        yield {
            "refId": letter,
            "datasource": DATA_SOURCE,
            "expr": query["expr"],
            "legendFormat": legend if isinstance(legend, str) else legend[column],
            "instant": is_momentary,
            "range": not is_momentary,
            "format": "table" if panel["kind"] == "table" else "time_series",
        }


def _defaults(panel: dict[str, Any]) -> dict[str, Any]:
    """Unit, colours and the way of drawing."""
    custom: dict[str, Any] = {}
    if panel["kind"] == "stack":
        custom = {"fillOpacity": 30, "stacking": {"mode": "normal"}}
    if panel["kind"] == "bars":
        custom = {
            "drawStyle": "bars",
            "fillOpacity": 80,
            "stacking": {"mode": "normal"},
        }
    return {
        "unit": panel.get("unit", "none"),
        "custom": custom,
        "thresholds": {"mode": "absolute", "steps": _steps(panel.get("bad", ""))},
    }


def _steps(bad: str) -> list[dict[str, Any]]:
    """The colours of a stat; `bad` is the first red value, or the first green one after "below"."""
    if not bad:
        return [{"color": "text", "value": None}]
    colours = ("red", "green") if bad.startswith("below ") else ("green", "red")
    limit = float(bad.removeprefix("below "))
    return [
        {"color": colours[0], "value": None},
        {"color": colours[1], "value": limit},
    ]


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if kind == "table":
        return {"showHeader": True, "sortBy": [{"displayName": "Value", "desc": True}]}
    return {"legend": {"displayMode": "list", "placement": "bottom"}}


def _transformations(kind: str) -> list[dict[str, Any]]:
    """A table leaves out the time, which is the same in every row."""
    if kind != "table":
        return []
    return [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]


def operator_rules() -> dict[str, Any]:
    """The alert rules as a PrometheusRule."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "meterwatch"},
        "spec": yaml.safe_load(ALERT_RULES_FILE.read_text("utf-8")),
    }


def main() -> None:
    """Writes every dashboard in both languages, and the rules."""
    rules = yaml.safe_dump(operator_rules(), sort_keys=False, width=120)
    OPERATOR_FILE.write_text(
        f"# Written by `python -m tests.dashboards` from deploy/prometheus.\n{rules}"
    )
    for name, table in tables().items():
        for language in TITLE_LANGUAGES:
            content = json.dumps(
                dashboard(name, table, language), indent=1, ensure_ascii=False
            )
            path = GRAFANA_FOLDER / f"{name}.{language}.json"
            path.write_text(f"{content}\n", "utf-8")


if __name__ == "__main__":
    main()

"""Every expression of the dashboards and alert rules names metrics that exist, and gives an answer on a real worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from replay.sources import open_sources
from schemas.inspection import Inspection
from schemas.topics import INSPECTIONS_TOPIC
from streams.kafka.metrics import Metrics
from streams.kafka.outbox import producer
from streams.settings import Settings
from tests import dashboards
from tests.chaos import publish_areas
from tests.prometheus import RULES_FOLDER, PrometheusServer, program, prometheus
from tests.workers import WorkerProcess, wait

PROJECT_ROOT = Path(__file__).parents[1]
FOREIGN_METRICS = {"up", "process_start_time_seconds"}
TOWN_SOURCE = "town:100x4"


def expressions() -> Iterator[tuple[str, str]]:
    """The expressions of all panels, each with its dashboard and title."""
    for name, table in dashboards.tables().items():
        for row in table["rows"]:
            for panel in row["panels"]:
                for number, query in enumerate(dashboards.queries(panel), start=1):
                    yield f"{name}: {panel['title'][0]}, {number}", query["expr"]


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load((RULES_FOLDER / "meterwatch.rules.yml").read_text())
    return [rule for group in groups["groups"] for rule in group["rules"]]


@cache
def registered() -> set[str]:
    """The names of all samples that a worker exports."""
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {
        metric.name + suffix
        for metric in Metrics().registry.collect()
        for suffix in kinds.get(metric.type, ("",))
    }


def named_metrics(expression: str) -> set[str]:
    """The metrics that an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:meterwatch|process)_\w+|\bup\b", bare))


def test_the_dashboards_are_written_from_the_table():
    for name, table in dashboards.tables().items():
        for language in dashboards.TITLE_LANGUAGES:
            path = dashboards.GRAFANA_FOLDER / f"{name}.{language}.json"
            written = json.loads(path.read_text("utf-8"))
            assert written == dashboards.dashboard(name, table, language)


def test_panels_have_two_titles_no_place_twice_and_a_known_kind():
    for name, table in dashboards.tables().items():
        made = dashboards.dashboard(name, table, "zh")
        cells: set[tuple[int, int]] = set()
        for panel in made["panels"]:
            place = panel["gridPos"]
            covered = {
                (column, row)
                for column in range(place["x"], place["x"] + place["w"])
                for row in range(place["y"], place["y"] + place["h"])
            }
            assert not covered & cells
            cells |= covered
            assert re.search(r"[\u4e00-\u9fff]", panel["title"]), panel["title"]
        assert max(column for column, _ in cells) < dashboards.GRID_COLUMNS


def test_curves_of_several_expressions_have_a_legend_in_each_language():
    for name, table in dashboards.tables().items():
        for column in range(len(dashboards.TITLE_LANGUAGES)):
            made = dashboards.dashboard(name, table, dashboards.TITLE_LANGUAGES[column])
            for panel in made["panels"]:
                legends = [query["legendFormat"] for query in panel.get("targets", [])]
                if len(legends) > 1:
                    assert "__auto" not in legends, panel["title"]
                    is_chinese = [
                        bool(re.search(r"[\u4e00-\u9fff]", text)) for text in legends
                    ]
                    assert set(is_chinese) == {bool(column)}


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_an_expression_of_a_panel_names_metrics_that_exist(place, expression):
    named = named_metrics(expression)
    assert named, place
    assert named <= registered() | FOREIGN_METRICS


def test_an_expression_of_an_alert_rule_names_metrics_that_exist():
    for rule in rules():
        named = named_metrics(rule["expr"])
        assert named, rule["alert"]
        assert named <= registered() | FOREIGN_METRICS, rule["alert"]


def test_an_unknown_metric_is_found():
    assert named_metrics('sum(meterwatch_gone{a="meterwatch_x"}) / up') == {
        "meterwatch_gone",
        "up",
    }


def test_every_alert_rule_has_severity_summary_and_a_section_of_the_runbook():
    runbook = (PROJECT_ROOT / "docs" / "runbook.md").read_text()
    headings = re.findall(r"^## (\w+)$", runbook, re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].endswith(".")
        link = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link


def test_the_tests_of_alert_rules_have_a_firing_and_a_silent_case_for_each():
    tests = yaml.safe_load((RULES_FOLDER / "meterwatch.test.yml").read_text())["tests"]
    names = dict.fromkeys(test["name"].partition(",")[0] for test in tests)
    assert list(names) == [rule["alert"] for rule in rules()]
    for test in tests:
        cases = [bool(case["exp_samples"]) for case in test["promql_expr_test"]]
        assert set(cases) == {True, False}, test["name"]


def test_the_settings_on_the_page_are_settings_of_prometheus():
    page = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    (fragment,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found = yaml.safe_load(fragment)
    deployed = yaml.safe_load((RULES_FOLDER / "prometheus.yml").read_text())
    assert found.keys() < deployed.keys()
    assert found["scrape_configs"][0]["job_name"] == "meterwatch"
    assert deployed["scrape_configs"][0]["job_name"] == "meterwatch"
    file = RULES_FOLDER / deployed["rule_files"][0]
    assert file.exists()


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("check config", "prometheus.yml"),
        ("check rules", "meterwatch.rules.yml"),
        ("test rules", "meterwatch.test.yml"),
    ],
)
def test_promtool_accepts_the_settings_and_the_alert_rules(command, file):
    done = subprocess.run(
        [program("promtool"), *command.split(), file],
        cwd=RULES_FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_accepts_its_settings_which_name_alerts_that_exist():
    file = PROJECT_ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        [program("amtool"), "check-config", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    names = [rule["alert"] for rule in rules()]
    for inhibition in yaml.safe_load(file.read_text())["inhibit_rules"]:
        for matcher in inhibition["source_matchers"] + inhibition["target_matchers"]:
            pattern = matcher.partition("=")[2].strip("~ ")
            count = pattern.count("|") + 1
            assert sum(bool(re.fullmatch(pattern, name)) for name in names) == count


def answered(server: PrometheusServer, expression: str) -> bool:
    """Whether an expression of a panel gives a sample."""
    return bool(server.query(dashboards.with_values(expression)))


def drop_answered(server: PrometheusServer, unanswered: dict[str, str]) -> bool:
    """Forgets the expressions that have an answer now; True once none is left."""
    for place, expression in list(unanswered.items()):
        if answered(server, expression):
            del unanswered[place]
    return not unanswered


async def publish_master_data(settings: Settings, source: str) -> None:
    """Publishes the master data of a source."""
    async with producer(settings) as client:
        await publish_areas(client, settings, open_sources([source]).areas)


async def publish_inspection(settings: Settings, rule: str) -> None:
    """Publishes that a rule was right."""
    found = Inspection(
        inspection="case-1",
        subject="m1",
        since=1_700_000_000,
        outcome="bypass",
        verdict="true",
        rules=[rule],
    )
    async with producer(settings) as client:
        topic = settings.topic(INSPECTIONS_TOPIC)
        await client.send_and_wait(topic, msgspec.json.encode(found), b"case-1")


def test_every_panel_and_variable_has_an_answer_on_a_worker_under_load(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    asyncio.run(publish_inspection(settings, "zero_usage"))
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        wait(worker.metrics_address)
        with prometheus(tmp_path / "prometheus", [worker.metrics_address()]) as server:
            asyncio.run(publish_master_data(settings, TOWN_SOURCE))
            wait(lambda: server.query("sum(meterwatch_section_meters) > 50"))
            send = [sys.executable, "-m", "streams.cli", "send", TOWN_SOURCE]
            subprocess.run(
                send, env=os.environ | environment, check=True, capture_output=True
            )

            unanswered = dict(expressions())
            try:
                wait(lambda: drop_answered(server, unanswered))
            except AssertionError as error:
                error.add_note(f"no answer to {unanswered}")
                raise
            for table in dashboards.tables().values():
                for variable in dashboards.variables(table):
                    assert server.label_values(variable["query"])

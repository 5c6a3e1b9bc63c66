"""A real Prometheus and Alertmanager on loopback, as Debian packages them, for tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES_FOLDER = Path(__file__).parents[1] / "deploy" / "prometheus"
START_SECONDS = 60.0


def program(name: str) -> str:
    """The path of a program of Prometheus; the test is skipped without it, which fails in CI."""
    found = shutil.which(name)
    if found is None:
        message = f"`{name}` is not installed: apt-get install prometheus prometheus-alertmanager"
        assert "CI" not in os.environ, message
        pytest.skip(message)
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PrometheusServer:
    """The query side of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now. Raises HTTPError with the answer's text as a note."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def label_values(self, query: str) -> list[str]:
        """The values of a variable's query, `label_values(METRIC, LABEL)`."""
        metric, label = query.removeprefix("label_values(").removesuffix(")").split(",")
        samples = self.query(f"group by ({label.strip()}) ({metric.strip()})")
        return [sample["metric"][label.strip()] for sample in samples]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["state"] == "firing"
        }

    def _get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"{self.address}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode())
            raise


@contextmanager
def prometheus(
    folder: Path,
    targets: Sequence[str],
    rules: Path | None = None,
    alertmanager: str = "",
) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes targets (`host:port`) as the job `meterwatch` every second."""
    folder.mkdir(parents=True, exist_ok=True)
    managers = [{"static_configs": [{"targets": [alertmanager]}]}]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "meterwatch",
                "static_configs": [{"targets": list(targets)}],
            }
        ],
        "rule_files": [str(rules)] if rules else [],
        "alerting": {"alertmanagers": managers if alertmanager else []},
    }
    settings = folder / "prometheus.yml"
    settings.write_text(yaml.safe_dump(configuration))

    port = free_port()
    arguments = [
        program("prometheus"),
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(
        arguments, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"
    ):
        yield PrometheusServer(port)


@contextmanager
def running(arguments: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    """A program that answers at `ready` before the block begins, and is ended after it."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(ready):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
            return True
    except OSError:
        return False

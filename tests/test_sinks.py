"""Sinks: every alert arrives at a real PostgreSQL, an HTTP endpoint and a real Alertmanager, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from schemas.alert import Alert
from schemas.topics import ALERTS_TOPIC
from schemas.wire import encode_alert
from streams.cli import app
from streams.kafka.outbox import producer
from streams.settings import Secret, Settings
from streams.sinks.alertmanager import AlertmanagerError, AlertmanagerSink
from streams.sinks.webhook import (
    WebhookError,
    WebhookSink,
    event,
    signature,
    signing_key,
)
from tests.postgres import postgres
from tests.test_cli import SAMPLE_ALERT
from tests.test_watched import alertmanager
from tests.workers import WorkerProcess, wait

REVISION_COUNT = 4
SIGNING_TEXT = "whsec_bWV0ZXJ3YXRjaA=="


def publish(settings: Settings, alerts: list[Alert]) -> None:
    """Publishes alerts, each to the partition of its area."""

    async def send() -> None:
        async with producer(settings) as client:
            for alert in alerts:
                key, value, headers = encode_alert(alert)
                partition = int(alert.area.removeprefix("A")) % settings.partitions
                await client.send(
                    settings.topic(ALERTS_TOPIC),
                    value,
                    key,
                    partition=partition,
                    headers=headers,
                )
            await client.flush()

    asyncio.run(send())


def history(count: int) -> list[Alert]:
    """Several revisions of alerts."""
    return [
        replace(
            SAMPLE_ALERT,
            id=f"alert{number:05}",
            area=f"A{number}",
            revision=revision,
            change="revised" if revision else "raised",
            score=1.5 + revision,
            evidence={"ua": 150.0},
        )
        for revision in range(REVISION_COUNT)
        for number in range(count)
    ]


def sink(environment: dict[str, str], log: Path, *arguments: str) -> WorkerProcess:
    command = ("-m", "streams.cli", "sink", *arguments, "--metrics-port", "0")
    return WorkerProcess(environment, log, *command)


def test_postgres_has_the_newest_revision_of_each_alert_whatever_is_killed(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    log = tmp_path / "log"
    count = 1500
    publish(settings, history(count))

    with postgres() as server:

        def rows() -> Any:
            [[table]] = server.execute("SELECT to_regclass('meterwatch_alerts')")
            if table is None:
                return (0, 0)
            return server.execute(
                "SELECT count(*), coalesce(sum(revision), 0) FROM meterwatch_alerts"
            )[0]

        def has_more(least: int) -> bool:
            return rows()[0] > least

        for least in (0, 500, 1000):  # rows, when the sink is killed
            with sink(environment, log, "postgres", server.address):
                wait(partial(has_more, least))
        log = tmp_path / "log of the outage"
        with sink(environment, log, "postgres", server.address) as process:
            wait(process.metrics_address)
            server.end()
            publish(
                settings, [replace(history(1)[0], revision=9, suppressed_by="mute")]
            )
            wait(lambda: "the sink takes no alerts" in log.read_text())
            server.begin()
            expected = (count, count * (REVISION_COUNT - 1) - (REVISION_COUNT - 1) + 9)
            wait(lambda: rows() == expected)
            wait(lambda: process.sample("meterwatch_sink_lag_records", "postgres") == 0)
            assert process.sample("meterwatch_sink_failures_total", "postgres") > 0
            assert process.end() == 0

            # an older revision that comes again changes nothing
            publish(settings, history(1))
            log = tmp_path / "log of the last"
            with sink(environment, log, "postgres", server.address) as last:
                name = "meterwatch_sink_alerts_total"
                wait(lambda: last.sample(name, "postgres") >= REVISION_COUNT)
        assert rows() == expected
        [found] = server.execute(
            "SELECT rule, severity, extract(epoch FROM since)::bigint, score, evidence->>'ua', suppressed_by, zh "
            "FROM meterwatch_alerts WHERE id = 'alert00000'"
        )
        alert = history(1)[0]
        values = (alert.rule, 1, alert.since, 1.5, "150.0", "mute", alert.zh)
        assert found == values


class Endpoint:
    """Receives events; answers 503 to some."""

    def __init__(self) -> None:
        self.events: list[tuple[dict[str, str], bytes]] = []
        self.refusals = 2
        endpoint = self

        class EndpointHandler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                refused = endpoint.refusals > 0
                endpoint.refusals -= 1
                if not refused:
                    headers = {
                        name.lower(): text for name, text in self.headers.items()
                    }
                    endpoint.events.append((headers, body))
                self.send_response(503 if refused else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), EndpointHandler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def listening() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    try:
        yield endpoint
    finally:
        endpoint.close()


def test_a_webhook_gets_every_alert_signed_and_in_order_whatever_is_killed(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    log = tmp_path / "log"
    alerts = history(40)
    publish(settings, alerts)
    signed = environment | {"METERWATCH_WEBHOOK_SECRET": SIGNING_TEXT}

    with listening() as endpoint:
        with sink(signed, log, "webhook", endpoint.address):
            wait(lambda: len(endpoint.events) >= 20)
        with sink(signed, log, "webhook", endpoint.address):
            wait(lambda: len({body for _, body in endpoint.events}) == len(alerts))
        received = list(endpoint.events)

    key = signing_key(SIGNING_TEXT)
    revisions: dict[str, list[int]] = {}
    for headers, body in received:
        found = json.loads(body)
        moment = headers["webhook-timestamp"]
        assert headers["content-type"].startswith("application/cloudevents+json")
        assert headers["webhook-id"] == found["id"]
        assert headers["webhook-signature"] == signature(key, found["id"], moment, body)
        revisions.setdefault(found["data"]["id"], []).append(found["data"]["revision"])
    for seen in revisions.values():
        assert list(dict.fromkeys(seen)) == list(range(REVISION_COUNT))
    assert "the endpoint answers 503" in log.read_text()
    assert SIGNING_TEXT not in log.read_text()


def test_an_event_is_a_cloud_event_with_the_alert_as_its_data():
    name, body = event(SAMPLE_ALERT)
    found = json.loads(body)
    data = found.pop("data")
    assert name == "a1.0"
    assert found == {
        "specversion": "1.0",
        "id": "a1.0",
        "source": "/meterwatch",
        "type": "meterwatch.alert.raised",
        "time": "2026-03-01T16:00:00Z",
        "subject": "M1",
        "datacontenttype": "application/json",
    }
    assert data["zh"] == SAMPLE_ALERT.zh


def test_a_secret_that_is_no_base64_is_refused():
    assert signing_key("plain") == b"plain"
    with pytest.raises(ValueError):
        signing_key("whsec_?")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("postgres", "none of PostgreSQL"),
        ("webhook", "http://"),
        ("alertmanager", "http://"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused_without_its_text(
    name, fault, environment, tmp_path
):
    with sink(environment, tmp_path / "log", name, "nobody:pass-word@there") as process:
        assert process.process.wait() == 2
    log = (tmp_path / "log").read_text()
    assert fault in log
    assert "pass-word" not in log


@pytest.mark.parametrize("status", [302, 307, 400, 500])
def test_an_answer_that_is_no_taking_is_none(status):
    """A redirect to a page that answers 200 took alerts that nobody had."""

    class RefusingHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"\xff" * 100_000)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), RefusingHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(AlertmanagerError, match=f"answers {status}"):
            asyncio.run(AlertmanagerSink(url).take([SAMPLE_ALERT]))
        with pytest.raises(WebhookError, match=f"answers {status}"):
            asyncio.run(WebhookSink(url, Secret("")).take([SAMPLE_ALERT]))
        server.shutdown()


@pytest.mark.parametrize("url", ["http:///alerts", "https://", "http://[x", "ftp://a"])
@pytest.mark.parametrize("name", ["webhook", "alertmanager"])
def test_a_url_without_a_host_is_refused(url, name):
    refused = CliRunner().invoke(app, ["sink", name, url])
    assert "the URL is no address" in str(refused.exception)


def test_alertmanager_has_the_urgent_alerts_that_stand(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    urgent = [replace(SAMPLE_ALERT, id=f"u{n}", area=f"A{n}") for n in range(3)]
    others = [
        replace(SAMPLE_ALERT, id="minor", area="A4", severity=2),
        replace(SAMPLE_ALERT, id="muted", area="A5", suppressed_by="mute"),
        replace(urgent[0], state="cleared", change="cleared", revision=1),
    ]
    publish(settings, [*urgent, *others])

    with (
        alertmanager(tmp_path / "alertmanager", "http://127.0.0.1:9/none") as address,
        sink(
            environment, tmp_path / "log", "alertmanager", f"http://{address}"
        ) as process,
    ):

        def active() -> set[str]:
            url = f"http://{address}/api/v2/alerts?active=true"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return {alert["labels"]["id"] for alert in json.load(answer)}

        wait(lambda: active() == {"u1", "u2"})
        publish(
            settings,
            [
                replace(urgent[1], state="cleared", revision=1),
                replace(others[0], severity=1),
            ],
        )
        wait(lambda: active() == {"u2", "minor"})
        assert process.end() == 0

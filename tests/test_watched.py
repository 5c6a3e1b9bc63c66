"""On bad days the alert rules fire what they should, into a real Alertmanager, and a webhook receives it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.topics import READS_TOPIC
from streams.kafka.broker import Broker
from streams.kafka.outbox import producer
from streams.kafka.topics import ensure
from streams.settings import Settings, load
from tests.chaos import publish, publish_areas
from tests.prometheus import (
    RULES_FOLDER,
    free_port,
    program,
    prometheus,
    running,
)
from tests.workers import WorkerProcess, wait

START_TIME = 1_700_006_400  # 2023-11-15 00:00 UTC
# Seconds of the test for a minute, an hour and a day of the rules.
TIME_SCALE = {"s": 1 / 60, "m": 1, "h": 6, "d": 30}
STORM_AREAS = 60
QUIET_METERS = 20


def quickened(rules: str) -> str:
    """The rules with spans of time by TIME_SCALE, but not brokers' silence; lags count from a thirtieth on."""

    def span(found: re.Match[str]) -> str:
        seconds = int(found[1]) * TIME_SCALE[found[2]]
        return f"{max(1, round(seconds))}s"

    rules = re.sub(r"\b(\d+)([smhd])\b", span, rules)
    rules = rules.replace("answer_time_seconds[2s]", "answer_time_seconds[1m]")
    return rules.replace("meterwatch_lag_seconds) > 120", "meterwatch_lag_seconds) > 4")


class Webhook:
    """Receives what Alertmanager sends."""

    def __init__(self) -> None:
        self.received: dict[
            str, dict[str, Any]
        ] = {}  # by alert name, the last that fired
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for alert in json.loads(body)["alerts"]:
                    if alert["status"] == "firing":
                        received[alert["labels"]["alertname"]] = alert
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """An Alertmanager that sends each alert at once; its host and port."""
    folder.mkdir()
    route = {"receiver": "test", "group_by": ["..."], "group_wait": "0s"}
    receiver = {"name": "test", "webhook_configs": [{"url": webhook}]}
    settings = folder / "alertmanager.yml"
    settings.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))

    address = f"127.0.0.1:{free_port()}"
    arguments = [
        program("prometheus-alertmanager"),
        f"--config.file={settings}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with running(arguments, folder / "log", f"http://{address}/-/ready"):
        yield address


class QuietFeed(threading.Thread):
    """Sends the readings of some quiet meters, four times a second an interval on, and what it is asked to add."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self.over = False
        self.junk = 0  # records a turn that nobody can read
        self.repeats = 1  # of each turn's readings

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        names = tuple(f"quiet{n}" for n in range(QUIET_METERS))
        topic = self._settings.topic(READS_TOPIC)
        at = START_TIME
        async with producer(self._settings) as client:
            areas = [Area(area="quiet", meters=[Meter(meter=name) for name in names])]
            await publish_areas(client, self._settings, areas)

            while not self.over:
                for _ in range(self.repeats):
                    at += 900
                    rows = np.arange(QUIET_METERS)
                    times = np.full(QUIET_METERS, at)
                    batch = Readings.build(
                        names, rows, ("quiet",), 0 * rows, times, kwh=0.2 + 0.01 * rows
                    )
                    await publish(client, self._settings, [batch], "array")
                for _ in range(self.junk):
                    await client.send(topic, b"{", b"quiet")
                await client.flush()
                await asyncio.sleep(0.25)

    def stop(self) -> None:
        self.over = True
        self.join()


async def storm(settings: Settings) -> None:
    """Sends two hours in which a meter in each of many areas has lost a phase."""
    areas = [f"storm{n}" for n in range(STORM_AREAS)]
    records = [
        Area(
            area=area, meters=[Meter(meter=f"{area}-{n}", wiring="3P4W") for n in "ab"]
        )
        for area in areas
    ]
    meters = tuple(f"{area}-{n}" for area in areas for n in "ab")
    subject = np.arange(len(meters))
    volts = np.full((3, len(meters)), 220.0)
    volts[1, ::2] = 150.0

    async with producer(settings) as client:
        await publish_areas(client, settings, records)
        for step in range(8):
            batch = Readings.build(
                meters,
                subject,
                tuple(areas),
                subject // 2,
                np.full(len(meters), START_TIME + 900 * step),
                u=volts,
                i=np.full((3, len(meters)), 4.0),
            )
            await publish(client, settings, [batch], "array")


@pytest.mark.broker
def test_bad_days_fire_their_alerts_and_a_webhook_receives_them(
    own_broker: Broker, tmp_path: Path
):
    environment = {
        "METERWATCH_BROKERS": own_broker.address,
        "METERWATCH_CLOCK": "stream",
        "METERWATCH_METRICS_PORT": "0",
        "METERWATCH_PARTITIONS": "2",
    }
    settings = load(environment)
    asyncio.run(ensure(settings))
    webhook, feed = Webhook(), QuietFeed(settings)
    rules = tmp_path / "rules.yml"
    rules.write_text(quickened((RULES_FOLDER / "meterwatch.rules.yml").read_text()))

    def fired(name: str) -> bool:
        return name in webhook.received

    with (
        alertmanager(tmp_path / "alertmanager", webhook.address) as manager,
        WorkerProcess(environment, tmp_path / "worker.log") as worker,
    ):
        wait(worker.metrics_address)
        target = worker.metrics_address()
        feed.start()
        with prometheus(tmp_path / "prometheus", [target], rules, manager):
            wait(lambda: fired("MeterwatchSilent"))
            assert not fired("MeterwatchRejects")

            feed.junk = 1
            wait(lambda: fired("MeterwatchRejects"))
            feed.junk = 0
            assert not fired("MeterwatchStorm")
            asyncio.run(storm(settings))
            wait(lambda: fired("MeterwatchStorm"))

            assert not fired("MeterwatchWorkerDown")
            worker.cpu_share.freeze()
            wait(lambda: fired("MeterwatchWorkerDown"))
            worker.cpu_share.wake()

            assert not fired("MeterwatchBacklogGrows")
            worker.cpu_share.share = 0.1
            worker.cpu_share.start()
            feed.repeats = 400
            wait(lambda: fired("MeterwatchBacklogGrows"))
            feed.stop()
            worker.cpu_share.release()

            assert not fired("MeterwatchBrokersAway")
            own_broker.kill()
            wait(lambda: fired("MeterwatchBrokersAway"))
    webhook.close()

    alert = webhook.received["MeterwatchBrokersAway"]
    heading = alert["annotations"]["runbook_url"].partition("#")[2]
    runbook = (Path(__file__).parents[1] / "docs" / "runbook.md").read_text()
    assert f"## {alert['labels']['alertname']}" in runbook
    assert heading == alert["labels"]["alertname"].lower()

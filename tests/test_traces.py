"""The W3C trace context of a record goes on to the alerts that it raises, by way of a worker's spans if it has any."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from detectors.engine import Engine
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.topics import ALERTS_TOPIC, READS_TOPIC
from schemas.wire import Reason, decode_alert, encode
from streams.kafka.outbox import producer
from streams.kafka.records import TRACE_HEADER, Damage, traces_of
from streams.settings import Settings
from tests.chaos import publish_areas
from tests.workers import (
    WorkerProcess,
    all_checkpointed,
    last_states,
    published_states,
    records,
    wait,
)

START_TIME = 1_700_006_400
TRACE_FORM = b"00-0af7651916cd43dd8448eb211c80319c-%016x-01"


def record(key: bytes | None, *headers: tuple[str, bytes | None]) -> Damage:
    return Damage(0, 0, None, b"", Reason.CORRUPT, "", key, headers)


def test_the_last_valid_trace_of_each_key_counts():
    found = traces_of(
        [
            record(b"A", (TRACE_HEADER, TRACE_FORM % 1)),
            record(b"A", ("content-type", b"x"), (TRACE_HEADER, TRACE_FORM % 2)),
            record(b"A"),
            record(b"B", (TRACE_HEADER, b"00-" + b"0" * 5000)),
            record(b"C", (TRACE_HEADER, None)),
            record(None, (TRACE_HEADER, TRACE_FORM % 3)),
        ]
    )
    assert found == {"A": TRACE_FORM % 2}


def lost_phase(area: str, at: int) -> Readings:
    """A reading of two meters, one of which has lost a phase."""
    volts = np.full((3, 2), 220.0)
    volts[1, 0] = 150.0
    names = (f"{area}-a", f"{area}-b")
    rows = np.arange(2)
    return Readings.build(
        names, rows, (area,), 0 * rows, 0 * rows + at, u=volts, i=np.full((3, 2), 4.0)
    )


AREA_NAMES = ("traced", "plain")
BOTH_AREAS = [
    Area(area=area, meters=[Meter(meter=f"{area}-{n}", wiring="3P4W") for n in "ab"])
    for area in AREA_NAMES
]
STEP_COUNT = 8  # quarters of an hour


async def send(settings: Settings) -> None:
    """Two hours of two areas, of which only one has traces."""
    async with producer(settings) as client:
        await publish_areas(client, settings, BOTH_AREAS)

        for step in range(STEP_COUNT):
            for area in AREA_NAMES:
                batch = lost_phase(area, START_TIME + 900 * step)
                for key, value, content_type in encode(batch, "array"):
                    headers = [("content-type", content_type.encode())]
                    if area == "traced":
                        headers.append((TRACE_HEADER, TRACE_FORM % step))
                    topic = settings.topic(READS_TOPIC)
                    await client.send(topic, value, key, headers=headers)
        await client.flush()


def published_traces(settings: Settings) -> dict[str, set[bytes | None]]:
    """The trace contexts of the alerts of each area."""
    traces: dict[str, set[bytes | None]] = {}
    for published in asyncio.run(records(settings, ALERTS_TOPIC)):
        alert = decode_alert(published.value)
        trace = dict(published.headers).get(TRACE_HEADER)
        traces.setdefault(alert.area, set()).add(trace)
    return traces


def test_an_alert_has_the_trace_of_its_record(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    asyncio.run(send(settings))
    with WorkerProcess(environment, tmp_path / "log"):
        wait(lambda: all_checkpointed(settings))
    traces = published_traces(settings)
    assert traces.keys() == {"traced", "plain"}
    assert traces["plain"] == {None}
    assert None not in traces["traced"]
    assert traces["traced"] <= {TRACE_FORM % step for step in range(STEP_COUNT)}


class _Collector(BaseHTTPRequestHandler):
    """Collects the spans that are posted by OTLP."""

    def __init__(self, spans: list[Span], *arguments: Any) -> None:
        self.spans = spans
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def collector(spans: list[Span]) -> Iterator[str]:
    """The address of a collector that collects into a list."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Collector, spans)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tracing_to(address: str) -> dict[str, str]:
    """The environment of a worker that sends spans there while it judges, not only when it ends."""
    return {"METERWATCH_TRACES": address, "OTEL_BSP_SCHEDULE_DELAY": "50"}


def ids(trace_context: bytes | None) -> tuple[str, str]:
    """The ids of the trace and of the span."""
    assert trace_context
    _, trace_id, span_id, _ = trace_context.decode().split("-")
    return trace_id, span_id


def test_a_collector_sees_the_way_from_a_record_to_its_alert(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    asyncio.run(send(settings))
    spans: list[Span] = []
    with collector(spans) as address:
        environment |= tracing_to(address)
        with WorkerProcess(environment, tmp_path / "log") as worker:
            wait(lambda: all_checkpointed(settings))
            assert worker.end() == 0

    # each alert goes on with a span, which is in the trace of its record
    sent = f"send {settings.topic(ALERTS_TOPIC)}"
    sending = {
        (span.trace_id.hex(), span.span_id.hex()): span
        for span in spans
        if span.name == sent
    }
    traces = published_traces(settings)
    traced = [sending.pop(ids(trace)) for trace in traces["traced"]]
    plain = [sending.pop(ids(trace)) for trace in traces["plain"]]
    assert traced
    assert plain
    assert not sending
    parents = {(span.trace_id.hex(), span.parent_span_id.hex()) for span in traced}
    assert parents <= {ids(TRACE_FORM % step) for step in range(STEP_COUNT)}

    # it names the step that raised the alert, which is the trace of an alert without any
    by_id = {span.span_id: span.name for span in spans}
    links = [link.span_id for span in traced for link in span.links]
    assert len(links) == len(traced)
    steps = {
        by_id[span_id] for span_id in [*links, *(span.parent_span_id for span in plain)]
    }
    assert steps == {f"process {settings.topic(READS_TOPIC)}"}

    names = {span.name for span in spans}
    assert {"take over", "checkpoint", "hand over", "restore", "step"} <= names


@contextmanager
def hanging() -> Iterator[str]:
    """The address of a collector that takes connections and never answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a collector that has gone."""
    with hanging() as address:
        pass
    yield address


@pytest.mark.parametrize("gone", [refusing, hanging])
def test_a_collector_that_is_gone_changes_no_alert(
    settings: Settings, environment: dict[str, str], tmp_path: Path, gone
):
    engine = Engine(zone=settings.zone, interval=settings.interval)
    engine.enroll(BOTH_AREAS)
    batches = (
        lost_phase(area, START_TIME + 900 * step)
        for step in range(STEP_COUNT)
        for area in AREA_NAMES
    )
    expected = last_states(alert for batch in batches for alert in engine.step(batch))
    assert expected

    asyncio.run(send(settings))
    with gone() as address:
        environment |= tracing_to(address)
        with WorkerProcess(environment, tmp_path / "log") as worker:
            wait(lambda: all_checkpointed(settings))
            assert worker.end() == 0
    assert published_states(settings) == expected

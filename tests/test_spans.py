"""A worker's spans: how they hang together, how few they are, and how little a collector matters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.trace import SpanKind

from schemas.alert import Alert
from streams.kafka import collected_spans
from streams.kafka.backlog import Arrival, Chunk
from streams.kafka.collected_spans import ALERT_SPANS, STEP_SPANS, CollectedSpans
from streams.kafka.engine_thread import EngineThread
from streams.kafka.metrics import Metrics
from streams.kafka.spans import spans_of
from streams.settings import SettingsError, load
from tests.test_cli import SAMPLE_ALERT

FETCHED_AT = 1_700_000_000.0
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
TRACE_FORM = b"00-%032x-%016x-%02x"
MESSAGING_NAMES = {
    value
    for name, value in vars(messaging_attributes).items()
    if name.startswith("MESSAGING_")
}


@pytest.fixture
def collected() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(collected: InMemorySpanExporter) -> CollectedSpans:
    return CollectedSpans(providing(SimpleSpanProcessor(collected)), "watch")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that stands still."""
    clock = SimpleNamespace(now=FETCHED_AT)
    clock.time = clock.monotonic = lambda: clock.now
    monkeypatch.setattr(collected_spans, "time", clock)
    return clock


def providing(processor: Any) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def chunk(*counts: int) -> Chunk:
    """Arrivals of so many records, received two seconds before they were fetched."""
    arrivals = []
    first = 70
    for count in counts:
        offsets = range(first, first + count)
        timestamp = int(1000 * FETCHED_AT) - 2000
        records: list[Any] = [
            SimpleNamespace(offset=offset, timestamp=timestamp) for offset in offsets
        ]
        first += count
        arrivals.append(Arrival(records, first, 0, None, FETCHED_AT))
    return Chunk("meter.reads", arrivals)


def alerts(*areas: str) -> list[Alert]:
    return [
        replace(SAMPLE_ALERT, id=f"alert{k}", area=area) for k, area in enumerate(areas)
    ]


def named(collected: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in collected.get_finished_spans() if span.name == name]
    return span


def context_of(span: ReadableSpan) -> bytes:
    assert span.context
    return TRACE_FORM % (
        span.context.trace_id,
        span.context.span_id,
        span.context.trace_flags,
    )


def test_a_step_says_where_its_time_went(spans, collected, clock):
    engines = EngineThread(Metrics(), spans)

    async def judge() -> None:
        clock.now += 3
        with spans.step("p.meter.reads", 5, chunk(0, 2, 3)):
            await engines.run("decode", int)
            await engines.run("step", int)
            spans.judged(40, 1)
        await engines.run("tick", int)

    asyncio.run(judge())
    assert len(collected.get_finished_spans()) == 3  # none of a tick
    step = named(collected, "process p.meter.reads")
    assert step.kind == SpanKind.CONSUMER
    assert step.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "p.meter.reads",
        "messaging.destination.partition.id": "5",
        "messaging.consumer.group.name": "watch",
        "messaging.batch.message_count": 5,
        "messaging.kafka.offset": 70,
        "meterwatch.fetch_seconds": 2.0,
        "meterwatch.backlog_seconds": 3.0,
        "meterwatch.rows": 40,
        "meterwatch.alerts": 1,
    }
    own = {name for name in step.attributes if name.startswith("meterwatch.")}
    assert step.attributes.keys() - own <= MESSAGING_NAMES
    for cause in ("decode", "step"):
        assert named(collected, cause).parent == step.context


def test_work_on_partitions_has_the_calls_that_it_asks_for(spans, collected):
    engines = EngineThread(Metrics(), spans)

    async def take_over() -> None:
        async with spans.work("take over", [2, 3]):
            await asyncio.gather(engines.run("restore", int))

    asyncio.run(take_over())
    work = named(collected, "take over")
    assert work.attributes == {"meterwatch.partitions": (2, 3)}
    assert named(collected, "restore").parent == work.context


def test_alerts_go_on_with_the_trace_of_their_record(spans, collected):
    traces = {
        "A1": TRACE_FORM % (TRACE_ID, 7, 1),
        "A2": TRACE_FORM % (TRACE_ID + 1, 8, 1),
        "other": TRACE_FORM % (TRACE_ID + 2, 9, 1),
    }
    with spans.step("meter.reads", 5, chunk(3)):
        sending = spans.sending("p.alerts", 5, alerts("A1", "A2", "A1", "A0"), traces)
    assert len(collected.get_finished_spans()) == 1  # the others are not on the topic
    sending.arrived(None)

    step, *sent = collected.get_finished_spans()
    assert {span.name for span in sent} == {"send p.alerts"}
    assert [span.attributes["messaging.batch.message_count"] for span in sent] == [
        2,
        1,
        1,
    ]
    of_first, of_second, of_none = sent
    assert sending.traces == {
        "A1": context_of(of_first),
        "A2": context_of(of_second),
        "A0": context_of(of_none),
        "other": traces["other"],
    }

    assert (of_first.context.trace_id, of_first.parent.span_id) == (TRACE_ID, 7)
    assert (of_second.context.trace_id, of_second.parent.span_id) == (TRACE_ID + 1, 8)
    for span in (of_first, of_second):
        assert [link.context for link in span.links] == [step.context]
        assert span.kind == SpanKind.PRODUCER
        assert span.attributes.keys() <= MESSAGING_NAMES
    assert of_none.parent == step.context
    assert not of_none.links


def test_a_record_that_nobody_samples_raises_alerts_that_nobody_samples(
    spans, collected
):
    traces = {"A1": TRACE_FORM % (TRACE_ID, 7, 0)}
    sending = spans.sending("alerts", 5, alerts("A1"), traces)
    sending.arrived(None)
    assert not collected.get_finished_spans()
    version, trace_id, span_id, flags = sending.traces["A1"].split(b"-")
    assert (version, trace_id, flags) == (b"00", b"%032x" % TRACE_ID, b"00")
    assert span_id != b"%016x" % 7


def test_a_trace_context_that_is_not_valid_is_replaced(spans, collected):
    sending = spans.sending("alerts", 5, alerts("A1"), {"A1": TRACE_FORM % (0, 0, 1)})
    sending.arrived(None)
    (span,) = collected.get_finished_spans()
    assert span.parent is None
    assert sending.traces["A1"] == context_of(span)


def test_a_switched_off_sdk_leaves_the_traces_of_records(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    spans = CollectedSpans(TracerProvider(shutdown_on_exit=False), "watch")
    traces = {"A1": TRACE_FORM % (TRACE_ID, 7, 1)}
    with spans.step("meter.reads", 5, chunk(3)):
        sending = spans.sending("alerts", 5, alerts("A1", "A0"), traces)
    assert sending.traces == traces


def test_spans_of_a_second_are_bounded_whatever_comes(spans, collected, clock):
    engines = EngineThread(Metrics(), spans)
    traces = {f"A{k}": TRACE_FORM % (TRACE_ID + k, 7, 1) for k in range(1000)}

    async def judge() -> None:
        for _ in range(10 * STEP_SPANS):
            with spans.step("meter.reads", 5, chunk(3)):
                await engines.run("step", int)
                spans.judged(10_000, 0)

    asyncio.run(judge())
    assert len(collected.get_finished_spans()) == 2 * STEP_SPANS
    collected.clear()
    sending = spans.sending("alerts", 5, alerts(*traces), traces)
    sending.arrived(None)
    assert len(collected.get_finished_spans()) == ALERT_SPANS
    assert sending.traces.keys() == traces.keys()
    kept = [area for area in traces if sending.traces[area] == traces[area]]
    assert kept == list(traces)[ALERT_SPANS:]

    collected.clear()
    clock.now += 0.5
    asyncio.run(judge())
    assert len(collected.get_finished_spans()) == STEP_SPANS


class _Hanging(SpanExporter):
    """An exporter whose collector never answers."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.answer.wait()
        return SpanExportResult.SUCCESS


def test_a_collector_that_hangs_stops_nothing(monkeypatch):
    monkeypatch.setattr(collected_spans, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(collected_spans, "STEP_SPANS", 10_000)
    exporter = _Hanging()
    processor = BatchSpanProcessor(exporter, 600)
    spans = CollectedSpans(providing(processor), "watch")
    for _ in range(2000):
        with spans.step("meter.reads", 5, chunk(3)):
            spans.judged(3, 0)
    assert exporter.asked.wait(60)
    assert len(processor._batch_processor._queue) <= 600

    spans.close()  # returns, though there is no answer yet
    exporter.answer.set()


def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for():
    show = (
        "import sys; from streams.kafka.app import App, Metrics, spans_of; from streams.settings import load\n"
        "settings = load({}); App(settings, Metrics(), spans_of(settings)); print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True
    )
    assert "streams.kafka.spans" in shown.stdout.split()
    assert "opentelemetry" not in shown.stdout


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "streams.kafka.collected_spans")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = load({"METERWATCH_TRACES": "http://127.0.0.1:4318"})
    with pytest.raises(SettingsError, match=r"`traces`: .*'meterwatch\[otel\]'"):
        spans_of(settings)


def test_a_worker_says_who_it_is(monkeypatch):
    settings = load(
        {
            "METERWATCH_TRACES": "http://127.0.0.1:4318/",
            "METERWATCH_GROUP": "watch",
            "METERWATCH_INSTANCE": "one",
        }
    )
    provider = collected_spans.exporting(settings)
    attributes = provider.resource.attributes
    assert attributes["service.name"] == "watch"
    assert attributes["service.instance.id"] == "one"

    (processor,) = provider._active_span_processor._span_processors
    assert isinstance(processor, BatchSpanProcessor)
    assert processor.span_exporter._endpoint == "http://127.0.0.1:4318/v1/traces"
    provider.shutdown()

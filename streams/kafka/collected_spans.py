"""Spans for a collector of OpenTelemetry, with the names that its conventions for messaging have.

However many rows and alerts there are, a second has STEP_SPANS steps and ALERT_SPANS publications at most. Spans wait
for the collector in a queue of QUEUE_SPANS, sent by a thread; a full one loses the oldest.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from functools import partial
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from schemas.alert import Alert
from streams.kafka.backlog import Chunk, receipt_ms
from streams.kafka.records import TRACE_HEADER
from streams.kafka.spans import Sending
from streams.settings import Settings

STEP_SPANS = 20  # a second; an engine takes about ten steps of 0.1 s
ALERT_SPANS = 100  # a second
QUEUE_SPANS = 2048
CLOSE_SECONDS = 1.0  # that the last spans have when the worker ends
TRACES_PATH = "/v1/traces"  # of OTLP over HTTP

_propagator = TraceContextTextMapPropagator()


class _Quota:
    """Grants so many times a second, and as many at once."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._counted_at = time.monotonic()

    def grants(self) -> bool:
        """True if there is one left, which is then used."""
        now = time.monotonic()
        grown = self._left + (now - self._counted_at) * self._per_second
        self._left = min(grown, self._per_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class CollectedSpans:
    """Spans by a provider; a trace begins at each step and each work on partitions."""

    def __init__(self, provider: TracerProvider, group: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("meterwatch", version("meterwatch"))
        self._group = group
        self._steps = _Quota(STEP_SPANS)
        self._publications = _Quota(ALERT_SPANS)

    @asynccontextmanager
    async def work(self, name: str, partitions: Sequence[int]) -> AsyncIterator[None]:
        """Work on whole partitions."""
        attributes = {"meterwatch.partitions": list(partitions)}
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    def step(
        self, topic: str, number: int, chunk: Chunk
    ) -> AbstractContextManager[object]:
        """A step of a chunk, unless it has no records or there were too many steps."""
        first = next((arrival for arrival in chunk.arrivals if arrival.records), None)
        if first is None or not self._steps.grants():
            return nullcontext()

        oldest, now = first.records[0], time.time()
        messages = sum(len(arrival.records) for arrival in chunk.arrivals)
        attributes = _messaging("process", topic, number, messages) | {
            "messaging.consumer.group.name": self._group,
            "messaging.kafka.offset": oldest.offset,
            "meterwatch.backlog_seconds": now - first.enqueued,
        }
        if receipt := receipt_ms(oldest) / 1000:
            attributes["meterwatch.fetch_seconds"] = first.enqueued - receipt
        return self._tracer.start_as_current_span(
            f"process {topic}", kind=SpanKind.CONSUMER, attributes=attributes
        )

    def judged(self, rows: int, alerts: int) -> None:
        """Notes the result of the step within which this is called."""
        span = trace.get_current_span()
        span.set_attributes({"meterwatch.rows": rows, "meterwatch.alerts": alerts})

    def call(self, cause: str) -> AbstractContextManager[object]:
        """A call in the engine's thread, if the work that asks for it has a span."""
        if not trace.get_current_span().is_recording():
            return nullcontext()
        return self._tracer.start_as_current_span(cause)

    def sending(
        self,
        topic: str,
        number: int,
        alerts: Sequence[Alert],
        traces: Mapping[str, bytes],
    ) -> Sending:
        """A span for each trace of the records of these alerts, which goes on with the alerts.

        An alert of a record without a trace goes on with that of its step, or begins one. Beyond ALERT_SPANS an alert
        has the trace context of its record.
        """
        counts = Counter(traces.get(alert.area) for alert in alerts)
        spans = {
            trace_context: self._publication(topic, number, trace_context, messages)
            for trace_context, messages in counts.items()
            if self._publications.grants()
        }

        continued = dict(traces)
        for area in {alert.area for alert in alerts}:
            span = spans.get(traces.get(area))
            if span and (trace_context := _trace_context(span)):
                continued[area] = trace_context
        return Sending(continued, partial(_end, spans.values()))

    def close(self) -> None:
        """Sends the collector what it lacks, for CLOSE_SECONDS at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _publication(
        self, topic: str, number: int, trace_context: bytes | None, messages: int
    ) -> Span:
        """The span of alerts on their way, in the trace of their records; it names the step."""
        step = trace.get_current_span()
        links = [Link(step.get_span_context())] if step.is_recording() else []
        return self._tracer.start_span(
            f"send {topic}",
            _context(trace_context) if trace_context else None,
            SpanKind.PRODUCER,
            _messaging("send", topic, number, messages),
            links if trace_context else (),
        )


def exporting(settings: Settings) -> TracerProvider:
    """A provider that exports to the collector of the settings."""
    resource = Resource.create(
        {
            "service.name": settings.group,
            "service.version": version("meterwatch"),
            "service.instance.id": settings.instance
            or f"{socket.gethostname()}:{os.getpid()}",
        }
    )
    exporter = OTLPSpanExporter(settings.traces.rstrip("/") + TRACES_PATH)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, QUEUE_SPANS))
    return provider


def _messaging(
    operation: str, topic: str, number: int, messages: int
) -> dict[str, AttributeValue]:
    """The attributes that every operation on messages has."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(number),
        "messaging.batch.message_count": messages,
    }


def _context(trace_context: bytes) -> Context:
    """A record's trace context as a parent of spans; none if it is not valid."""
    return _propagator.extract({TRACE_HEADER: trace_context.decode()})


def _trace_context(span: Span) -> bytes:
    """The header of a message that goes on with a span; b"" if the SDK is switched off."""
    headers: dict[str, str] = {}
    _propagator.inject(headers, trace.set_span_in_context(span))
    return headers.get(TRACE_HEADER, "").encode()


def _end(spans: Iterable[Span], _: object) -> None:
    """Ends spans."""
    for span in spans:
        span.end()

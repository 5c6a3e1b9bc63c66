"""The spans of a worker: its work with begin and end, for a collector of OpenTelemetry. None unless `traces` is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from replay.extras import missing_extra
from schemas.alert import Alert
from streams.kafka.backlog import Chunk
from streams.settings import Settings, SettingsError


class Sending(NamedTuple):
    """Alerts on their way to their topic."""

    traces: Mapping[str, bytes]  # by area, the trace context that its alerts take along
    arrived: Callable[[object], None]  # called once all are on the topic


class Spans(Protocol):
    """Makes spans; a span that begins within another is its child."""

    def work(
        self, name: str, partitions: Sequence[int]
    ) -> AbstractAsyncContextManager[None]:
        """Work on whole partitions."""

    def step(
        self, topic: str, number: int, chunk: Chunk
    ) -> AbstractContextManager[object]:
        """A step of a chunk that came on a topic: decoding, judging and publishing."""

    def judged(self, rows: int, alerts: int) -> None:
        """Notes the result of the step within which this is called."""

    def call(self, cause: str) -> AbstractContextManager[object]:
        """A call in the engine's thread, if the work that asks for it has a span."""

    def sending(
        self,
        topic: str,
        number: int,
        alerts: Sequence[Alert],
        traces: Mapping[str, bytes],
    ) -> Sending:
        """The way of alerts to a partition; `traces` has the trace contexts of their records, by area."""

    def close(self) -> None:
        """Sends the collector what it lacks, for a moment."""


class NoSpans:
    """No spans: alerts have the trace contexts of their records."""

    def work(
        self, name: str, partitions: Sequence[int]
    ) -> AbstractAsyncContextManager[None]:
        """Nothing."""
        return nullcontext()

    def step(
        self, topic: str, number: int, chunk: Chunk
    ) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def judged(self, rows: int, alerts: int) -> None:
        """Does nothing."""

    def call(self, cause: str) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def sending(
        self,
        topic: str,
        number: int,
        alerts: Sequence[Alert],
        traces: Mapping[str, bytes],
    ) -> Sending:
        """The trace contexts as they are."""
        return Sending(traces, lambda _: None)

    def close(self) -> None:
        """Does nothing."""


NO_SPANS = NoSpans()


def spans_of(settings: Settings) -> Spans:
    """The spans that the settings ask for. Raises SettingsError if their package is missing."""
    if not settings.traces:
        return NO_SPANS
    try:
        from streams.kafka.collected_spans import CollectedSpans, exporting  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(f"`traces`: {missing_extra(error) or error}") from error
    return CollectedSpans(exporting(settings), settings.group)

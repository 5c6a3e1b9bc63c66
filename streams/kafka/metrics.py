"""The worker's metrics for Prometheus, counted in batches; no label has the id of a meter or a customer."""

from __future__ import annotations

import math
import time
from collections import Counter as Tally
from collections.abc import Iterable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from streams.kafka import labels

STEP_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)
PAUSE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ALERT_BUCKETS = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14400.0,
    86400.0,
)
LAG_SECONDS = 30.0  # after which a lag that is not measured again counts as unknown


class Metrics:
    """The metrics of one worker in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # times of birth that nobody asks for
        # auto_describe: so that `name[]` finds the metrics of the process too.
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"meterwatch_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"meterwatch_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(
                f"meterwatch_{name}",
                text,
                buckets=tuple(buckets),
                registry=self.registry,
            )

        self._rows = counter(
            "rows",
            "Rows received: judged, rejected, duplicate and late together.",
            "kind",
        )
        self._outcomes = {
            "judged": counter("judged", "Rows judged.", "kind"),
            "duplicate": counter(
                "duplicate", "Rows that had been judged before.", "kind"
            ),
            "late": counter("late", "Rows that came after their grace period.", "kind"),
        }
        self._rejected = counter(
            "rejected", "Rows rejected, by reason.", "kind", "reason"
        )
        self._implausible = counter(
            "implausible",
            "Single values taken for unknown, by reason.",
            "kind",
            "reason",
        )
        self.misplaced = counter(
            "misplaced", "Rows of areas that belong to another partition.", "kind"
        )
        self.unknown_rows = counter(
            "unknown_rows",
            "Events and payments whose subject no record of the registry has.",
            "kind",
        )
        self.deleted_offsets = counter(
            "deleted_offsets",
            "Offsets deleted before they were judged.",
            "topic",
            "partition",
        )
        self._alerts = counter(
            "alerts", "Alert messages published.", "rule", "severity", "change"
        )
        self._suppressed = counter(
            "alerts_suppressed",
            "Alert messages that policy suppresses, by reason.",
            "rule",
            "reason",
        )
        self.score_rows = counter(
            "score_rows", "Days of meters whose scores were published."
        )
        self.reset = counter(
            "state_reset",
            "Owners of state that could not be restored and started afresh.",
            "owner",
        )
        self.step = histogram(
            "step_seconds", "Decoding and judging one chunk of records.", STEP_BUCKETS
        )
        self.alert = histogram(
            "evidence_to_alert_seconds",
            "From the receipt time of the oldest record in the chunk that raised an alert "
            "until the alert was on its topic.",
            ALERT_BUCKETS,
        )
        self.pause = histogram(
            "loop_pause_seconds",
            "By how much the event loop was late for a timer, ten times a second.",
            PAUSE_BUCKETS,
        )
        self._longest_call = gauge(
            "longest_call_seconds",
            "CPU of the longest call in the engine's thread since the start, by cause.",
            "cause",
        )
        self._longest: dict[str, float] = {}
        self.brokers_answer = gauge(
            "brokers_answer",
            "1 while the brokers answer and take what is published, else 0.",
        )
        self._broker_answer_time = gauge(
            "broker_answer_time_seconds", "Unix time of the brokers' last answer."
        )
        self._lag = gauge(
            "lag_records",
            "Records not judged yet, NaN if unknown.",
            "topic",
            "partition",
        )
        self._lag_time = gauge(
            "lag_time_seconds", "Unix time at which the lag was measured.", "partition"
        )
        self._checkpoint_time = gauge(
            "checkpoint_time_seconds", "Unix time of the last checkpoint.", "partition"
        )
        self._checkpoint_age = gauge(
            "checkpoint_age_seconds",
            "Since the last checkpoint was taken.",
            "partition",
        )
        self._checkpoint_bytes = gauge(
            "checkpoint_bytes", "State in the last checkpoint.", "partition"
        )
        self.meters = gauge("meters", "Meters held.", "partition")
        self.unknown_meters = gauge(
            "unknown_meters",
            "Meters held that no record of the registry has.",
            "partition",
        )
        self.drifted = gauge(
            "drifted",
            "Subjects that a model learns anew since its error drifted.",
            "partition",
            "model",
        )
        self._begin()

    def serve(self, host: str, port: int) -> int:
        """Serves scrapes in a thread; returns the port, also if 0 was asked. Raises OSError."""
        server, _ = start_http_server(port, host, self.registry)
        return int(server.server_address[1])

    def count(self, counts: Tally[tuple[str, str, str]]) -> None:
        """Adds the rows that an engine has counted since the last call."""
        for (kind, outcome, reason), rows in counts.items():
            if outcome == "in":
                self._rows.labels(kind).inc(rows)
            elif outcome in self._outcomes:
                self._outcomes[outcome].labels(kind).inc(rows)
            elif outcome == "rejected":
                self._rejected.labels(kind, reason).inc(rows)
            elif outcome == "implausible":
                self._implausible.labels(kind, reason).inc(rows)

    def count_alerts(self, counts: Tally[tuple[str, int, str, str]]) -> None:
        """Adds the alerts that an engine has counted since the last call."""
        for (rule, severity, change, reason), alerts in counts.items():
            if reason:
                self._suppressed.labels(rule, reason).inc(alerts)
            else:
                self._alerts.labels(rule, str(severity), change).inc(alerts)

    def called(self, cause: str, seconds: float) -> None:
        """Notes a call in the engine's thread and the CPU that it used."""
        if seconds > self._longest.get(cause, -1.0):
            self._longest[cause] = seconds
            self._longest_call.labels(cause).set(seconds)

    def count_rejected(self, kind: str, reason: str, rows: int) -> None:
        """Counts rows that could not be read."""
        self._rows.labels(kind).inc(rows)
        self._rejected.labels(kind, reason).inc(rows)

    def answered(self) -> None:
        """Notes that the brokers have answered."""
        self._broker_answer_time.set_to_current_time()

    def measured(self, partition: int, lags: dict[str, int]) -> None:
        """Notes how many records of each topic wait now; a scrape finds NaN once this is LAG_SECONDS old."""
        until = time.monotonic() + LAG_SECONDS
        for topic, records in lags.items():
            lag = self._lag.labels(topic, str(partition))
            lag.set_function(partial(_until, until, records))
        self._lag_time.labels(str(partition)).set_to_current_time()

    def saved(self, partition: int, taken: float, size: int) -> None:
        """Notes when the last checkpoint was taken, in Unix seconds, and its bytes."""
        self._checkpoint_bytes.labels(str(partition)).set(size)
        if taken:
            self._checkpoint_time.labels(str(partition)).set(taken)
            age = self._checkpoint_age.labels(str(partition))
            age.set_function(partial(_since, taken))

    def forget(self, topics: Iterable[str], partition: int) -> None:
        """Removes the gauges of a partition that was handed over."""
        for topic in topics:
            _drop(self._lag, topic, str(partition))
        gauges = (
            self._lag_time,
            self._checkpoint_time,
            self._checkpoint_age,
            self._checkpoint_bytes,
            self.meters,
            self.unknown_meters,
        )
        for gauge in gauges:
            _drop(gauge, str(partition))
        for model in labels.models():
            _drop(self.drifted, str(partition), model)

    def _begin(self) -> None:
        """Creates every label set, so that every counter begins at 0."""
        for kind in (*labels.KIND_NAMES, *labels.TOPICS_AS_KINDS):
            self._rows.labels(kind)
        for counter in self._outcomes.values():
            for kind in labels.KIND_NAMES:
                counter.labels(kind)

        known: tuple[tuple[Counter, Iterable[tuple[str, ...]]], ...] = (
            (self._rejected, labels.rejects()),
            (self._implausible, labels.implausible()),
            (self._alerts, labels.alerts()),
            (self._suppressed, labels.suppressed()),
            (self.reset, labels.owners()),
            (self.misplaced, [(kind,) for kind in labels.KIND_NAMES]),
            (self.unknown_rows, [("events",), ("payments",)]),
        )
        for counter, label_sets in known:
            for values in label_sets:
                counter.labels(*values)


def _until(end: float, value: float) -> float:
    return value if time.monotonic() < end else math.nan


def _since(taken: float) -> float:
    return max(0.0, time.time() - taken)


def _drop(gauge: Gauge, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        return

"""The metrics of a bridge for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from schemas.wire import Reason


class BridgeMetrics:
    """Counts of records and rows, and gauges of what waits; no label has an id."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # times of birth that nobody asks for
        # auto_describe: so that `name[]` finds the metrics of the process too.
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.records = Counter(
            "meterwatch_bridge_records",
            "Records read from the mapped topic",
            registry=self.registry,
        )
        self.rows = Counter(
            "meterwatch_bridge_rows",
            "Rows that the brokers have taken",
            registry=self.registry,
        )
        self.rejected = Counter(
            "meterwatch_bridge_rejected_rows",
            "Rows and unreadable records on the topic `rejects`",
            ["reason"],
            registry=self.registry,
        )

        self.values = Counter(
            "meterwatch_bridge_values",
            "Numbers of a mapped column in published rows",
            ["column"],
            registry=self.registry,
        )
        self.parked = self._gauge("parked_rows", "Rows that wait for their area")
        self.parked_seconds = self._gauge(
            "parked_seconds", "How long the oldest row has waited for its area"
        )
        self.known = self._gauge("known_meters", "Meters of the registry")
        self.lag = self._gauge("lag_records", "Records that are not read yet")
        self.committed = self._gauge(
            "commit_time_seconds", "When offsets were last committed, Unix time"
        )
        for reason in Reason:
            self.rejected.labels(reason.value)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"meterwatch_bridge_{name}", text, registry=self.registry)

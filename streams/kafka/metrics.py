"""The worker's metrics for Prometheus, counted in batches; no label has the id of a meter or a customer."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from detectors.figures import OPEN_AGES
from detectors.rule import ALL_RULES
from detectors.rule_counts import RuleCounts
from detectors.snapshots import SNAPSHOT_LAYOUT
from schemas.inspection import VERDICT_WORDS
from streams.kafka import labels
from streams.kafka.partition_gauges import PartitionGauges
from streams.kafka.section_metrics import SectionMetrics

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
LONG_BUCKETS = (
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
    300.0,
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

Cause = Literal[
    "decode",
    "step",
    "tick",
    "enroll",
    "adopt",
    "reconcile",
    "scores",
    "snapshot",
    "restore",
]
CALL_CAUSES: tuple[Cause, ...] = get_args(Cause)  # of calls in the engine's thread
PUBLISH_STAGE = "publish"
CHECKPOINT_STAGE = "checkpoint"
BUSY_STAGES = (*CALL_CAUSES, PUBLISH_STAGE, CHECKPOINT_STAGE)


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
        self.checkpoint_write = histogram(
            "checkpoint_write_seconds",
            "From the capture of a checkpoint until it is on its topic.",
            LONG_BUCKETS,
        )
        self.take_over = histogram(
            "take_over_seconds",
            "From the assignment of partitions until they are judged.",
            LONG_BUCKETS,
        )
        self.alert = histogram(
            "evidence_to_alert_seconds",
            "From the receipt time of the oldest record in the chunk that raised an alert "
            "until the alert was on its topic.",
            ALERT_BUCKETS,
        )
        self._pause = histogram(
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
        self._busy = counter(
            "busy_seconds",
            "Time in the calls of the engine's thread, and in publishing and writing checkpoints.",
            "stage",
        )
        self._longest_pause = gauge(
            "longest_pause_seconds",
            "The longest pause of the event loop since the start.",
        )
        self._longest_pause_seconds = 0.0
        self.brokers_answer = gauge(
            "brokers_answer",
            "1 while the brokers answer and take what is published, else 0.",
        )
        self._broker_answer_time = gauge(
            "broker_answer_time_seconds", "Unix time of the brokers' last answer."
        )
        self._make_gauges_of_settings()
        self._make_metrics_of_rules()
        self.partitions = PartitionGauges(self.registry)
        self.sections = SectionMetrics(self.registry)
        self._begin()

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

    def count_rules(self, counts: RuleCounts) -> None:
        """Adds the rows with and without a score by each rule, and the time of scoring."""
        for rule, rows in counts.decided.items():
            self._decided.labels(rule).inc(rows)
        for rule, rows in counts.undecided.items():
            self._undecided.labels(rule).inc(rows)
        for family, seconds in counts.seconds.items():
            self._rule_seconds.labels(family).inc(seconds)

    def opened(self, counts: Tally[tuple[str, int]], ages: Tally[str]) -> None:
        """Notes how many alerts are open, by rule and severity, and by age."""
        for age in OPEN_AGES:
            self._open_ages.labels(age).set(ages[age])
        for rule, severity in self._open_labels | counts.keys():
            gauge = self._open_alerts.labels(rule, str(severity))
            gauge.set(counts[rule, severity])

    def inspected(self, counts: Tally[tuple[str, str]]) -> None:
        """Notes how many inspections name a rule, by rule and verdict."""
        for rule in ALL_RULES:
            for verdict in VERDICT_WORDS:
                self._verdicts.labels(rule, verdict).set(counts[rule, verdict])

    def called(self, cause: str, cpu: float, seconds: float) -> None:
        """Notes a call in the engine's thread, the CPU that it used, and its time."""
        self.busy(cause, seconds)
        if cpu > self._longest.get(cause, -1.0):
            self._longest[cause] = cpu
            self._longest_call.labels(cause).set(cpu)

    def busy(self, stage: str, seconds: float) -> None:
        """Adds the time of a stage."""
        self._busy.labels(stage).inc(seconds)

    def paused(self, seconds: float) -> None:
        """Notes by how much the event loop was late for a timer."""
        self._pause.observe(seconds)
        if seconds > self._longest_pause_seconds:
            self._longest_pause_seconds = seconds
            self._longest_pause.set(seconds)

    def configure(
        self, partitions: int, session_seconds: float, waiting_bytes: int
    ) -> None:
        """Notes the settings that the other metrics are measured by."""
        self._partition_count.set(partitions)
        self._session_seconds.set(session_seconds)
        self._waiting_bytes_limit.set(waiting_bytes)

    def count_rejected(self, kind: str, reason: str, rows: int) -> None:
        """Counts rows that could not be read."""
        self._rows.labels(kind).inc(rows)
        self._rejected.labels(kind, reason).inc(rows)

    def answered(self) -> None:
        """Notes that the brokers have answered."""
        self._broker_answer_time.set_to_current_time()

    def _make_gauges_of_settings(self) -> None:
        """Creates the gauges of what is configured, and of what is measured by it."""

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"meterwatch_{name}", text, labels, registry=self.registry)

        build = gauge(
            "build_info",
            "1 for the version and the layout of its state.",
            "version",
            "layout",
        )
        build.labels(version("meterwatch"), str(SNAPSHOT_LAYOUT)).set(1)
        self._partition_count = gauge(
            "partitions", "Partitions of each source topic, by the settings."
        )
        self._session_seconds = gauge(
            "session_seconds", "`session_seconds` of the settings."
        )
        self.waiting_bytes = gauge(
            "waiting_bytes", "Bytes of fetched records that are not judged yet."
        )
        self._waiting_bytes_limit = gauge(
            "waiting_bytes_limit",
            "Bytes of fetched records at which a worker stops fetching.",
        )

    def _make_metrics_of_rules(self) -> None:
        """Creates the metrics with a rule or a family as label."""

        def counter(name: str, text: str, label: str) -> Counter:
            return Counter(f"meterwatch_{name}", text, [label], registry=self.registry)

        self._decided = counter("decided", "Rows with a score by a rule.", "rule")
        self._undecided = counter(
            "undecided",
            "Rows of which a rule cannot tell, for something that it reads is unknown.",
            "rule",
        )
        self._rule_seconds = counter(
            "rule_seconds", "Time of scoring, by the family of rules.", "family"
        )
        self._open_alerts = Gauge(
            "meterwatch_open_alerts",
            "Open alerts that nothing suppresses.",
            ["rule", "severity"],
            registry=self.registry,
        )
        self._open_ages = Gauge(
            "meterwatch_open_alerts_by_age",
            "The same by days since they were raised, at most.",
            ["age"],
            registry=self.registry,
        )
        self._verdicts = Gauge(
            "meterwatch_verdicts",
            "Inspections that name a rule, by their verdict; every worker counts all.",
            ["rule", "verdict"],
            registry=self.registry,
        )
        self._open_labels = {
            (rule, int(severity)) for rule, severity, _ in labels.alerts()
        }

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
            (self._decided, [(name,) for name in ALL_RULES]),
            (self._undecided, [(name,) for name in ALL_RULES]),
            (self._rule_seconds, labels.families()),
            (self._busy, [(stage,) for stage in BUSY_STAGES]),
        )
        for counter, label_sets in known:
            for values in label_sets:
                counter.labels(*values)
        self.opened(Tally(), Tally())
        self.inspected(Tally())

"""Metrics are documented, correct while brokers are away and partitions move, and present from the start."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from math import isnan
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from detectors.engine import Engine
from detectors.figures import figures_of
from detectors.policy.mute import MUTING_EVENTS
from detectors.rule import ALL_RULES
from detectors.section_figures import section_figures_of
from schemas.columns import Event, Readings
from schemas.topics import (
    EVENTS_TOPIC,
    PAYMENTS_TOPIC,
    READS_TOPIC,
    REGISTRY_TOPIC,
    SOURCE_TOPICS,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.wire import Reason
from streams.kafka import labels
from streams.kafka.checkpoints import WrittenCheckpoint
from streams.kafka.metrics import ALERT_BUCKETS, STEP_BUCKETS, Metrics
from streams.kafka.partitions import Partition
from streams.kafka.records import FetchedRange
from streams.kafka.status_server import HEALTH_PATH, READY_PATH, serve
from streams.kafka.steps import InHand
from streams.kafka.verdicts import VerdictCounts
from streams.kafka.worker import Worker
from streams.settings import load
from tests import adversarial

PROJECT_ROOT = Path(__file__).parents[1]
FEWEST_SERIES, MOST_SERIES = 900, 3_000
MIDDAY_TIME = 1_700_020_800


Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Found:
    """The samples of a scrape."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(
            generate_latest(metrics.registry).decode()
        )
        for sample in family.samples
    }


def value(found: Found, name: str, **labels: str) -> float:
    return found[f"meterwatch_{name}", frozenset(labels.items())]


def documented() -> dict[str, set[str]]:
    """The labels of every metric in docs/operations.md; names may be shortened to their last words."""
    documented_labels: dict[str, set[str]] = {}
    page = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    table = page.partition("## Metrics")[2].partition("\n## ")[0]

    for row in table.splitlines():
        if not row.startswith("| `"):
            continue
        names = re.findall(r"`(\w*?)(?:\{(.*?)\})?`", row.split("|")[1])
        label_names = {label for _, text in names for label in text.split(",") if label}
        for name, _ in names:
            if name:
                whole_name = f"meterwatch{name}" if name.startswith("_") else name
                documented_labels[whole_name] = label_names

    return documented_labels


def test_every_metric_is_documented_with_its_labels_and_every_documented_one_exists():
    registered = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric
        for metric in Metrics().registry.collect()
        if metric.name.startswith("meterwatch_")
    }
    collectors = Metrics().registry._collector_to_names
    named = {
        name: set(collector._labelnames)
        for collector, names in collectors.items()
        for name in names
        if hasattr(collector, "_labelnames")
    }
    assert documented() == {name: named[name] for name in registered}


def test_counters_begin_at_0_for_every_label_set():
    found = samples(Metrics())
    assert FEWEST_SERIES < len(found) < MOST_SERIES
    assert {
        count
        for (name, _), count in found.items()
        if re.fullmatch(r"meterwatch_\w+_total", name)
    } == {0}

    for name in ALL_RULES:
        for level in ALL_RULES[name].levels:
            for change in ("raised", "revised", "cleared", "withdrawn"):
                assert (
                    value(
                        found,
                        "alerts_total",
                        rule=name,
                        severity=str(level.severity),
                        change=change,
                    )
                    == 0
                )

        for reason in ("repeat", "storm", "budget", "shadow"):
            assert (
                value(found, "alerts_suppressed_total", rule=name, reason=reason) == 0
            )

    assert (
        value(
            found, "alerts_suppressed_total", rule="zero_usage", reason="meter_change"
        )
        == 0
    )

    for kind in ("readings", "events", "payments", "stages"):
        for outcome in ("rows", "judged", "duplicate", "late"):
            assert value(found, f"{outcome}_total", kind=kind) == 0

    for kind in ("readings", "events", "payments", "stages", "registry"):
        for reason in Reason:
            assert value(found, "rejected_total", kind=kind, reason=reason) == 0
    assert value(found, "rejected_total", kind="rules", reason="rulebook") == 0

    for owner in (
        "open_days",
        "work",
        "days/DayRuns",
        "days/zero_usage",
        "readings/voltage_loss",
    ):
        assert value(found, "state_reset_total", owner=owner) == 0


def nodes(sources: str) -> Iterator[ast.AST]:
    """The syntax nodes of all files that match a pattern."""
    for path in sorted(PROJECT_ROOT.glob(sources)):
        yield from ast.walk(ast.parse(path.read_text()))


def calls(sources: str, function: str) -> Iterator[ast.Call]:
    """The calls of a function or method in all files that match a pattern."""
    for node in nodes(sources):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        if called == function:
            yield node


def words(node: ast.AST) -> set[str]:
    """All strings below a node that may be a reason."""
    strings = {
        child.value
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and isinstance(child.value, str)
    }
    return {word for word in strings if re.fullmatch(r"[a-z]+(_[a-z]+)*", word)}


def test_every_reason_produced_is_in_the_table():
    validation = "models/meters/validation.py"
    implausible = {
        word
        for source in (validation, "models/meters/bounds.py")
        for call in calls(source, "replace_implausible")
        for word in words(call.args[-1])
    }
    for node in nodes(validation):
        if isinstance(node, ast.For) and "self.implausible[reason]" in ast.unparse(
            node
        ):
            implausible |= words(node.iter)

    assert implausible == set(labels.IMPLAUSIBLE_REASONS)

    refused = {
        word
        for call in calls("detectors/**/*.py", "reject")
        for word in words(call.args[-1])
    }
    for node in nodes("detectors/**/*.py"):
        if isinstance(node, ast.For) and ".reject(" in ast.unparse(node):
            refused |= words(node.iter)

    assert refused == {
        reason for reasons in labels.REJECTED_BY_ENGINE.values() for reason in reasons
    }


def _named_reasons(tree: ast.Module) -> set[str]:
    """The reasons that a module names."""
    return {
        word
        for node in tree.body
        if isinstance(node, ast.Assign) and "_REASON = " in ast.unparse(node)
        for word in words(node.value)
    }


def reasons_given(source: str) -> set[str]:
    """The reasons that a suppressor of policy gives, by name or as a string."""
    tree = ast.parse(source)
    given = _named_reasons(tree)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name == "reason":
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    given |= words(node.value)
    return given


def test_every_reason_of_policy_is_in_the_table():
    given = {Event(event).name.lower() for event in MUTING_EVENTS}
    for path in (PROJECT_ROOT / "detectors" / "policy").glob("*.py"):
        given |= reasons_given(path.read_text("utf-8"))
    assert given == {reason for _, reason in labels.suppressed()}


def test_a_reason_of_a_new_suppressor_is_found():
    for source in (
        'FOG_REASON = "fog"',
        'class Fog:\n    def reason(self, alert):\n        return "fog" if alert.fog else ""',
    ):
        assert reasons_given(source) == {"fog"}


def test_every_engine_count_has_a_series_from_the_start():
    metrics = Metrics()
    before = set(samples(metrics))
    rejects = [(kind, "rejected", reason) for kind, reason in labels.rejects()]
    implausible = [
        (kind, "implausible", reason) for kind, reason in labels.implausible()
    ]
    alerts = [
        (rule, int(severity), change, "") for rule, severity, change in labels.alerts()
    ]
    suppressed = [(rule, 1, "raised", reason) for rule, reason in labels.suppressed()]

    metrics.count(Counter(dict.fromkeys(rejects, 1)))
    metrics.count(Counter(dict.fromkeys(implausible, 1)))
    metrics.count_alerts(Counter(dict.fromkeys(alerts, 1)))
    metrics.count_alerts(Counter(dict.fromkeys(suppressed, 1)))

    assert set(samples(metrics)) == before


def test_buckets_cover_measured_values():
    assert STEP_BUCKETS[-1] == 120
    assert {300, 900, 3600, 14400, 86400} <= set(ALERT_BUCKETS)


def test_an_age_grows_and_a_lag_is_forgotten_while_nobody_measures(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr("streams.kafka.partition_gauges.time.time", lambda: now)
    monkeypatch.setattr("streams.kafka.partition_gauges.time.monotonic", lambda: now)
    metrics = Metrics()
    metrics.partitions.saved(3, now, 17, has_unsaved=True)
    metrics.partitions.measured(3, {READS_TOPIC: 5}, {READS_TOPIC: now - 60})
    assert value(samples(metrics), "lag_records", topic=READS_TOPIC, partition="3") == 5
    now += 100
    found = samples(metrics)
    assert isnan(value(found, "lag_records", topic=READS_TOPIC, partition="3"))
    assert value(found, "checkpoint_age_seconds", partition="3") == 100
    assert value(found, "checkpoint_time_seconds", partition="3") == 1_000
    assert value(found, "checkpoint_bytes", partition="3") == 17


def test_handed_over_partition_has_no_gauges_however_long_it_takes(monkeypatch):
    metrics = Metrics()
    worker = Worker(load({}), metrics)
    offsets = dict.fromkeys([REGISTRY_TOPIC, *SOURCE_TOPICS], 7)
    worker.holdings.partitions = {
        number: Partition(number, Engine(), offsets, WrittenCheckpoint(taken=1.0))
        for number in range(3)
    }
    during: list[set[str]] = []

    async def settle(number: int) -> None:
        # the worker's monitoring runs on meanwhile
        for partition in list(worker.holdings.partitions.values()):
            worker._lag.check_progress(partition, {READS_TOPIC: 9})
        await asyncio.sleep(0)
        during.append(partitions(metrics))

    worker._outbox = type("Outbox", (), {"settle": staticmethod(settle)})()
    asyncio.run(worker.hand_over())
    for partition in worker._handed_over.values():
        worker._lag.check_progress(partition, {READS_TOPIC: 9})

    assert during == [{"0", "1", "2"}] * 3
    assert partitions(metrics) == set()


def test_sums_of_sections_are_counted_once_though_a_partition_is_taken_back():
    metrics = Metrics()
    worker = Worker(load({}), metrics)
    offsets = dict.fromkeys([REGISTRY_TOPIC, *SOURCE_TOPICS], 7)
    partition = Partition(0, Engine(), offsets, WrittenCheckpoint(taken=1.0))

    def paid() -> float:
        return value(samples(metrics), "section_paid_yuan_total", section="S1")

    async def hand_over_and_back() -> None:
        worker.holdings.partitions = {0: partition}
        partition.engine.sections.sums["paid_yuan", "S1"] = 100.0
        await worker._lag.count_sections(partition)
        assert paid() == 100

        partition.engine.sections.sums["paid_yuan", "S1"] = 130.0
        earlier = section_figures_of(partition.engine)
        partition.engine.sections.sums["paid_yuan", "S1"] = 150.0
        await worker.hand_over()
        assert paid() == 150

        worker.holdings.partitions = worker._handed_over
        metrics.sections.note(0, earlier, partition.counted_sums)
        await worker._lag.count_sections(partition)
        assert paid() == 150

    asyncio.run(hand_over_and_back())


def partitions(metrics: Metrics) -> set[str]:
    """The partitions that gauges name."""
    return {
        sample.labels["partition"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "partition" in sample.labels
    }


def test_a_lag_in_seconds_is_the_age_of_the_oldest_record_that_waits(monkeypatch):
    monkeypatch.setattr("streams.kafka.partition_gauges.time.time", lambda: 1_000.0)
    metrics = Metrics()
    lags = {READS_TOPIC: 5, PAYMENTS_TOPIC: 0}
    metrics.partitions.measured(3, lags, {READS_TOPIC: 940.0})
    found = samples(metrics)
    for topic, seconds in ((READS_TOPIC, 60), (PAYMENTS_TOPIC, 0)):
        assert value(found, "lag_seconds", topic=topic, partition="3") == seconds


def test_the_oldest_record_that_waits_is_in_hand_or_in_the_backlog_or_not_fetched(
    monkeypatch,
):
    monkeypatch.setattr("streams.kafka.partitions.time.time", lambda: 500.0)
    offsets = dict.fromkeys([REGISTRY_TOPIC, *SOURCE_TOPICS], 0)
    partition = Partition(0, Engine(), offsets, WrittenCheckpoint())
    ends = {READS_TOPIC: 4, PAYMENTS_TOPIC: 2, EVENTS_TOPIC: 0}
    partition.note_ends(ends)
    assert partition.oldest_waiting() == {READS_TOPIC: 500.0, PAYMENTS_TOPIC: 500.0}

    records: list[Any] = [
        SimpleNamespace(offset=n, timestamp=100_000 + n * 1_000, key=b"", value=b"row")
        for n in range(ends[READS_TOPIC])
    ]
    partition.enqueue(READS_TOPIC, FetchedRange(0, records, len(records)), None)
    assert partition.oldest_waiting()[READS_TOPIC] == 100.0

    chunk = partition.backlog.take(READS_TOPIC, 0)
    partition.in_hand = InHand(
        chunk, Readings.build(("m",), [0], ("A",), [0], [MIDDAY_TIME]), 0
    )
    assert partition.backlog.oldest(READS_TOPIC) == 101.0
    assert partition.oldest_waiting()[READS_TOPIC] == 100.0

    partition.judged[PAYMENTS_TOPIC] = 2
    partition.note_ends(ends)
    assert set(partition.oldest_waiting()) == {READS_TOPIC}


def test_open_alerts_are_counted_as_policy_has_them_whatever_comes():
    stream = adversarial.adversarial_stream(7)
    engine = Engine()
    engine.enroll(stream.areas)
    for batch in stream.batches(range(0, len(stream.rows), 300)):
        engine.step(batch)
        assert figures_of(engine).open_alerts == open_by_walking(engine)
    assert sum(figures_of(engine).open_alerts.values()) > 5

    restored = Engine()
    restored.enroll(stream.areas)
    restored.restore(engine.snapshot())
    assert figures_of(restored).open_alerts == open_by_walking(engine)

    newer = [
        msgspec.structs.replace(alert, revision=alert.revision + 3, score=9.0)
        for alert in restored.policy.open_alerts()
    ]
    restored.reconcile(newer)
    assert figures_of(restored).open_alerts == open_by_walking(restored)


def open_by_walking(engine: Engine) -> Counter[tuple[str, int]]:
    """The open alerts that are shown, counted one by one."""
    return Counter(
        (alert.rule, alert.severity)
        for alert in engine.policy.open_alerts()
        if not alert.suppressed_by
    )


def test_a_rule_counts_the_rows_of_which_it_cannot_tell():
    rule = ALL_RULES["register_decrease"]
    engine = Engine([rule])
    engine.judges.measure_by(lambda: 0.0)
    for hours, registers in enumerate([[5.0, 5.0, np.nan], [6.0, np.nan, np.nan]]):
        at = [MIDDAY_TIME + hours * HOUR_SECONDS] * 3
        meters = ("m", "n", "o")
        rows = Readings.build(
            meters, [0, 1, 2], ("A",), [0] * 3, at, register=registers
        )
        engine.step(rows)
    engine.tick(MIDDAY_TIME + 9 * DAY_SECONDS)
    counts = figures_of(engine).rules
    assert (counts.decided[rule.name], counts.undecided[rule.name]) == (3, 3)


def test_inspection_that_cannot_be_read_is_named_by_its_place(caplog):
    record = SimpleNamespace(
        key=b"case-1",
        value=b"[]",
        headers=(),
        timestamp=0,
        topic="inspections",
        partition=3,
        offset=7,
    )
    VerdictCounts(load({}), Metrics()).note([record])
    (line,) = caplog.records
    assert line.getMessage() == (
        "1 inspections are not counted, such as offset 7 of `inspections`, partition 3: "
        "Expected `object`, got `array`"
    )
    assert (line.partition, line.offset, line.reason) == (3, 7, "wrong_type")


def test_a_port_in_use_is_named_with_its_setting():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            OSError,
            match=rf"127\.0\.0\.1:{port}: Address already in use; .*`metrics_port`",
        ):
            serve(Metrics().registry, {}, "127.0.0.1", port)


def test_the_server_says_whether_the_worker_is_alive_and_ready():
    faults = {HEALTH_PATH: "", READY_PATH: "no partitions are taken over yet"}
    probes = {path: partial(faults.__getitem__, path) for path in faults}
    port = serve(Metrics().registry, probes, "127.0.0.1", 0)

    def answer(path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    assert answer("/healthz") == (200, "ok\n")
    assert answer("/readyz") == (503, "no partitions are taken over yet\n")
    assert "meterwatch_rows_total" in answer("/metrics")[1]
    faults[READY_PATH] = ""
    assert answer("/readyz") == (200, "ok\n")

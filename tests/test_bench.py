"""The bench's instruments and output, and that it leaves out no name. Nothing is measured here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner

from bench import (
    bridge,
    demo,
    detection,
    engine,
    families,
    history,
    live,
    peer,
    replay,
    steady,
    sustained,
    testbed,
)
from bench.__main__ import FULL_SIZE, QUICK_SIZE, Bench
from bench.engine import point_rules, split_slot
from bench.feed import SENT_DTYPE
from bench.load import (
    AREA_METERS,
    LOAD_ZONE,
    SLOTS_PER_DAY,
    VOLTAGE_LOSS_SHARE,
    VOLTAGE_LOSS_SLOTS,
    Load,
)
from bench.others import (
    LIFE_METERS,
    EventsLoad,
    PaymentsLoad,
    StagesLoad,
    TopicLoad,
    messages,
    topic_loads,
)
from bench.results import (
    READINGS_PER_SECOND,
    ROW_GOALS,
    Result,
    document,
    figures,
    summed,
    write,
)
from bench.testbed import PARTITION_COUNT, partition_of
from detectors.engine import Engine
from detectors.rule import ALL_RULES
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.topics import PAYMENTS_TOPIC, READS_TOPIC, SOURCE_TOPICS, TOPIC_KINDS
from schemas.wire import decode, encode
from tests.workers import Samples

# rows of 100,000 meters
DAILY_ROWS: dict[type[TopicLoad], float] = {
    PaymentsLoad: 4000,
    StagesLoad: 2000,
    EventsLoad: 5000,
}


def one_result(name: str, value: float = 1.0) -> Result:
    return summed(name, READINGS_PER_SECOND, [value])


def compared_with(rate: float, *results: Result) -> list[Result]:
    return [replace(result, peer=rate) for result in results]


@pytest.mark.parametrize("size", [QUICK_SIZE, FULL_SIZE])
def test_bench_measures_every_name(size, monkeypatch):
    fakes = {
        live: ("measure", lambda name, *_, **__: one_result(name)),
        peer: ("measure", lambda *_, **__: peer.PeerRun(5.0, 200.0)),
        replay: ("measure", lambda *_, **__: one_result("replay_parquet")),
        demo: ("measure", lambda *_, **__: one_result("demo_seconds")),
        bridge: ("measure", lambda *_, **__: one_result("bridge_json")),
        history: ("measure", lambda name, **_: one_result(name)),
    }
    for module, (name, fake) in fakes.items():
        monkeypatch.setattr(module, name, fake)
    monkeypatch.setattr(sustained, "measure", lambda *_, **__: one_result("sustained"))
    together = (
        "alert_latency_p50",
        "alert_latency_p99",
        "recovery_seconds",
        "longest_pause_seconds",
    )

    monkeypatch.setattr(
        steady, "measure", lambda *_, **__: [one_result(name) for name in together]
    )
    monkeypatch.setattr(
        engine,
        "batch_sizes",
        lambda *, slots, **_: [one_result(f"engine_rows_{rows}") for rows in slots],
    )

    for name in (
        "bytes_per_meter",
        "meters_growth",
        "many_small_areas",
        "rules_growth",
    ):
        monkeypatch.setattr(engine, name, lambda name=name, **_: one_result(name))

    bench = Bench("", Path(), size)
    results_by_name = {name: bench.measure(name) for name in ROW_GOALS}
    results_by_name["naive_peer"] = bench.summary()
    assert all(
        name in [result.name for result in results]
        for name, results in results_by_name.items()
    )


def test_peer_runs_before_and_after_each_compared_benchmark(monkeypatch):
    rates = iter([4.0, 6.0, 10.0])
    monkeypatch.setattr(
        peer, "measure", lambda *_, **__: peer.PeerRun(next(rates), 200.0)
    )
    monkeypatch.setattr(live, "measure", lambda name, *_, **__: one_result(name, 80.0))
    bench = Bench("", Path(), QUICK_SIZE)
    assert bench.measure("live_packed")[0].ratio is None
    bench.measure("naive_peer")
    assert [
        bench.measure(name)[0].ratio
        for name in ("live_packed", "live_single", "live_events")
    ] == [16.0, 10.0, 8.0]
    assert [(row.median, row.ratio) for row in bench.summary()] == [(6.0, 1.0)]


def test_rate_is_reported_as_ratio_to_peer_of_same_run():
    demo_row = summed("demo_seconds", "s", [9.0])
    rows = document(
        compared_with(
            5.0,
            one_result("naive_peer", 5.0),
            one_result("live_packed", 300.0),
            demo_row,
        )
    )

    assert [row["ratio"] for row in rows["results"]] == [1.0, 60.0, None]
    assert document([one_result("live_packed")])["results"][0]["ratio"] is None
    assert rows["results"][1].keys() == {
        "name",
        "unit",
        "median",
        "low",
        "high",
        "ratio",
    }
    assert rows.keys() == {"machine", "versions", "results"}


def test_load_repeats_exactly_and_continues():
    earlier, later = Load(2 * AREA_METERS), Load(2 * AREA_METERS)
    first, second = earlier.slots(2)
    assert equal(first, later.slot())
    assert (second.at == first.at + 900).all()
    assert (second.register >= first.register).all()


@pytest.mark.parametrize("history", [False, True])
def test_alarms_of_the_load_come_from_its_planted_faults(history):
    load = Load(20 * AREA_METERS, engine.BEFORE_MIDNIGHT)
    judge = Engine(zone=LOAD_ZONE)
    judge.enroll(load.areas())
    before = []
    if history:
        for slot in sustained.days_before(20 * AREA_METERS):
            before += judge.step(slot)
    alerts = before + [alert for slot in load.slots(24) for alert in judge.step(slot)]
    raised = [alert for alert in alerts if alert.change == "raised"]

    planted = {"voltage_loss", "meter_current_unbalance", "over_contract_capacity"}
    days = {"capacity_expansion", "meter_runaway"}  # alarms beyond the contract
    assert {alert.rule for alert in raised} <= planted | (
        days | {"read_success_rate"} if history else set()
    )
    assert all(
        load.beyond[int(alert.subject[1:])] for alert in raised if alert.rule in days
    )

    lost = sum(alert.rule == "voltage_loss" for alert in raised)
    assert (
        0.5
        < lost
        / (
            20
            * AREA_METERS
            * VOLTAGE_LOSS_SHARE
            * (24 + sustained.HISTORY_SLOTS * history - VOLTAGE_LOSS_SLOTS / 2)
        )
        < 2
    )
    assert judge.counts["readings", "judged", ""] == judge.counts["readings", "in", ""]


@pytest.mark.parametrize("rows", [100, AREA_METERS, 3 * AREA_METERS, 2000])
def test_batches_cover_the_whole_quarter_hour(rows):
    slot = Load(4 * AREA_METERS).slot()
    batches = list(split_slot(slot, rows))
    assert {len(batch) for batch in batches[:-1]} <= {rows}
    subjects = [batch.names[n] for batch in batches for n in batch.subject]
    areas = [batch.areas[n] for batch in batches for n in batch.area]
    assert subjects == list(slot.names)
    assert areas == [slot.areas[n] for n in slot.area]


def test_repeated_rules_have_unique_names_and_are_computed_again():
    rules = point_rules(70)
    assert len({rule.name for rule in rules}) == 70
    assert len({(rule.judge, tuple(rule.settings.items())) for rule in rules}) == 70


def test_produced_keys_go_to_the_default_partition():
    keys = [name.encode() for name in Load(50 * AREA_METERS).area_names]
    numbers = list(range(PARTITION_COUNT))
    usual = DefaultPartitioner()
    usual_numbers = [usual(key, numbers, numbers) for key in keys]
    assert [partition_of(key, PARTITION_COUNT) for key in keys] == usual_numbers


def test_an_alert_waits_since_its_evidence_was_sent():
    sent = np.array([(3, 900, 10.0), (3, 1800, 11.0)], SENT_DTYPE)
    alerts = [(11.25, planted("A00003", 1800)), (12.0, planted("A00004", 1800))]
    assert steady.alert_delays(alerts, sent).tolist() == [0.25]


def planted(area: str, at: int) -> Alert:
    """An alert of the planted rule at a time."""
    return Alert(
        id="1",
        rule=steady.PLANTED_RULE,
        version=1,
        kind="readings",
        area=area,
        subject="M",
        state="raised",
        change="raised",
        revision=0,
        severity=1,
        since=at,
        raised=at,
        at=at,
        score=1.0,
        phase="A",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )


def equal(first: Batch, second: Batch) -> bool:
    columns = (
        "names",
        "subject",
        "areas",
        "area",
        "at",
        "register",
        "kwh",
        "u",
        "i",
        "p",
        "q",
    )

    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in columns
    )


def test_quick_fault_table_lists_each_kind_once():
    runs = [detection.run_job(job) for job in detection.jobs(quick=True)]
    lines = [line for line in detection.page(runs) if line.startswith("| ")]
    notes = [line.split("|")[1] for line in lines]
    assert len(notes) == len(set(notes)) > 35
    assert sum("1 of 1" in line for line in lines) > 25
    assert sum(run.clean for run in runs) == 1


def test_table_shows_missed_faults_and_false_alerts():
    fault = detection.Found("leak", "a leak", ("voltage_loss",), "voltage_loss", 0.5)
    missed = replace(fault, by="", days=float("nan"))
    amid = detection.DetectionRun(
        [fault, missed], {"zero_usage": 2}, clean=False, weeks=0.5
    )
    quiet = detection.DetectionRun([], {"voltage_loss": 3}, clean=True, weeks=2.0)
    page = list(detection.page([amid, quiet]))
    assert "| a leak | `voltage_loss` | 1 of 2 | 12 h | 12 h | 1.5 |" in page
    assert "| `zero_usage` | 0 | 0.00 | 2 | 4.00 |" in page


def test_detection_page_has_every_published_rule():
    page = (Path(__file__).parents[1] / "docs" / "detection.md").read_text(
        encoding="utf-8"
    )
    assert not [
        name
        for name, rule in ALL_RULES.items()
        if rule.status == "published" and f"`{name}`" not in page
    ], "`python -m bench.detection` prints the tables of docs/detection.md"


def test_every_family_has_its_share_of_the_time():
    shares = families.shares(AREA_METERS, 4)
    assert sum(shares.values()) == pytest.approx(1)
    assert {
        "voltage",
        "metering",
        families.FEATURES_FAMILY,
        families.REST_FAMILY,
    } <= set(shares)


@pytest.mark.parametrize("load_type", [PaymentsLoad, StagesLoad, EventsLoad])
def test_load_of_other_topics_decodes_and_is_judged(load_type):
    load, meters = Load(20 * AREA_METERS), 20 * AREA_METERS
    judge = Engine(zone=LOAD_ZONE)
    judge.enroll(load.areas())
    topic_load = load_type(load, 3.0)
    rows = 0
    for _ in range(3 * SLOTS_PER_DAY):
        batch = topic_load.slot()
        messages = [
            (key, value, kind, 0) for key, value, kind in encode(batch, "array")
        ]
        decoded, refused = decode(TOPIC_KINDS[topic_load.topic], messages)
        assert not refused
        rows += len(batch)
        if decoded:
            judge.step(decoded)

    assert (
        judge.counts[batch.kind, "judged", ""]
        == judge.counts[batch.kind, "in", ""]
        == rows
    )
    assert 0.5 < rows / (3 * DAILY_ROWS[load_type] * 3 * meters / LIFE_METERS) < 1.1


def test_messages_of_all_topics_mix_within_a_quarter_hour():
    load = Load(200 * AREA_METERS)
    loads = topic_loads(load)
    topics = [topic for _ in range(4) for topic, _ in messages(load, loads)]
    assert topics.count(READS_TOPIC) == 4 * 200
    assert set(topics) == set(SOURCE_TOPICS)
    first = topics.index(PAYMENTS_TOPIC)
    assert READS_TOPIC in topics[:first] or READS_TOPIC in topics[first : first + 20]
    assert {topics[n : n + 100].count(READS_TOPIC) for n in range(0, 700, 100)} <= set(
        range(50, 100)
    )


def test_small_areas_have_as_many_meters_in_all():
    small, usual = Load(1000, area=2), Load(1000)
    assert (len(small.area_names), len(usual.area_names)) == (500, 2)
    assert sum(len(area.meters) for area in small.areas()) == 1000
    assert len(small.slot()) == len(usual.slot()) == 1000


class Checkpoints:
    """A clock, and a worker that takes turns to checkpoint its two partitions, each every 12 seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def scrape(self, *_: str) -> Samples:
        ages = {
            ("meterwatch_checkpoint_age_seconds", (str(n),)): (self.now - n) % 12
            for n in range(2)
        }
        return Samples(ages if self.now > 3 else {})


def test_worker_is_killed_half_way_between_checkpoints(
    monkeypatch,
):
    worker = Checkpoints()
    for module in (steady, testbed):
        monkeypatch.setattr(module, "time", worker)
    age, interval = steady.half_way(worker)
    assert interval == pytest.approx(12, abs=1)
    assert age == pytest.approx(6, abs=1.5)


def scraped(**longest: float) -> Samples:
    return Samples(
        {
            ("meterwatch_longest_call_seconds", (cause,)): seconds
            for cause, seconds in longest.items()
        }
    )


def test_longest_pause_is_reported_by_cause_or_not_at_all():
    buckets = {
        ("meterwatch_loop_pause_seconds_bucket", (end,)): n
        for end, n in (("0.1", 7), ("0.5", 9), ("+Inf", 9))
    }
    pause = steady.longest_pause(
        [scraped(step=0.2, tick=0.1), scraped(step=0.4) + Samples(buckets)]
    )
    assert pause.median == 0.4
    assert pause.note == "step 0.4, tick 0.1; the event loop was held for 0.5 s at most"
    silent = steady.longest_pause([Samples()])
    assert silent.note == "not exported"
    assert document([silent])["results"] == []


def test_figures_at_full_speed_are_ratios_if_a_peer_ran(tmp_path):
    results = compared_with(
        5.0,
        one_result("naive_peer", 5.0),
        one_result("live_packed", 300.0),
        summed("demo_seconds", "s", [9.0]),
    )
    write(tmp_path / "latest.json", results)
    assert figures(tmp_path / "latest.json") == {
        "naive_peer": 1.0,
        "live_packed": 60.0,
        "demo_seconds": 9.0,
    }
    assert figures(tmp_path / "missing.json") == {}

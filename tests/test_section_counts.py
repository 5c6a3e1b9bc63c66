"""The business figures of sections are what the rows add up to, each row once."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.section_counts import MOST_SECTIONS, OTHER_SECTIONS
from detectors.section_figures import section_figures_of
from replay.simulation.town import Town
from schemas.columns import (
    DeviceEvents,
    Event,
    Payment,
    Payments,
    StageProgress,
    Stages,
)
from schemas.master import Area


@pytest.fixture(scope="module")
def judged() -> tuple[Town, Engine]:
    """A town, and an engine that has judged it, payments twice."""
    town = Town(200, 4, seed=3)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    for batch in town.batches():
        engine.step(batch)
        if isinstance(batch, Payments):
            engine.step(batch)
    return town, engine


def added_up(town: Town) -> dict[str, float]:
    """The sums of the rows of a town, one by one."""
    sums: defaultdict[str, float] = defaultdict(float)
    for batch in town.batches():
        for n in range(len(batch)):
            if isinstance(batch, Payments):
                add_payment(sums, batch, n)
            elif isinstance(batch, Stages):
                started = batch.progress[n] == StageProgress.STARTED
                ended = batch.progress[n] == StageProgress.FINISHED
                sums["stages_started"] += int(started)
                sums["stages_ended"] += int(ended)
            elif isinstance(batch, DeviceEvents):
                sums["power_off_events"] += int(batch.event[n] == Event.POWER_OFF)
    return sums


def add_payment(sums: dict[str, float], batch: Payments, n: int) -> None:
    kind, amount = batch.payment[n], float(batch.amount[n])
    if kind == Payment.BILL:
        sums["billed_yuan"] += amount
    if kind in (Payment.PAYMENT, Payment.TOPUP):
        sums["payments"] += 1
        if batch.succeeded[n]:
            sums["paid_yuan"] += amount
        else:
            sums["failed_payments"] += 1


def test_sums_are_those_of_the_rows_each_once(judged):
    town, engine = judged
    found: defaultdict[str, float] = defaultdict(float)
    for (measure, _), value in engine.sections.sums.items():
        found[measure] += value
    for measure, value in added_up(town).items():
        assert found[measure] == pytest.approx(value), measure

    meters = sum(len(area.meters) for area in town.areas)
    closed_days = town.days - 1
    assert found["meter_days"] == closed_days * meters
    assert 0.9 * closed_days * meters < found["read_meter_days"] <= found["meter_days"]
    assert 0 < found["energy_out_kwh"] < found["energy_in_kwh"]


def test_figures_count_what_the_registry_has_and_open_alerts_by_section(judged):
    town, engine = judged
    figures = section_figures_of(engine)
    assert figures.areas == Counter(area.section for area in town.areas)
    meters = sum(len(area.meters) for area in town.areas)
    assert figures.meters.total() == meters

    engine.enroll(town.areas)  # again: nothing is counted twice
    assert section_figures_of(engine)[:2] == figures[:2]
    assert figures.open_alerts.total() == engine.policy.open.counts.total() > 0


def test_sections_beyond_a_number_are_counted_together():
    town = Town(50, 1)
    engine = Engine(zone=town.zone)
    engine.enroll(Area(area=f"A{n}", section=f"S{n}") for n in range(500))
    sections = engine.sections
    sections._add("payments", [f"A{n}" for n in range(500)], np.ones(500))
    named = {section for _, section in engine.sections.sums}
    assert len(named) == MOST_SECTIONS + 1
    assert engine.sections.sums["payments", OTHER_SECTIONS] == 500 - MOST_SECTIONS

    figures = section_figures_of(engine)
    assert figures.areas.keys() == named
    assert figures.areas.total() == 500

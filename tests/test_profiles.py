"""The rules on profiles over months, on a street of their own with few readings a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from replay.simulation.attacks import THEFT_ATTACKS, attacked
from replay.simulation.happenings import Planted
from replay.simulation.town import Town
from schemas.columns import Readings, Status
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS
from tests.adversarial import (
    NOT_A_NUMBER,
    Row,
    Stream,
    first_readings,
    with_closing_readings,
)
from tests.test_promises import (
    RULES_BY_MODULE,
    agree,
    exactly,
    judge_stream,
    last,
    restored,
    same,
)

INTERVAL_SECONDS, INTERVALS_PER_DAY = 14_400, DAY_SECONDS // 14_400
HOME_SHAPE = np.array([0.6, 0.7, 1.4, 1.2, 2.6, 3.2])
SHOP_SHAPE = np.array([0.5, 0.6, 2.6, 3.0, 2.4, 0.9])
# heated by electricity; two meters of the first place have a terminal with temperatures
HEATED_HOMES = (
    0,
    7,
    12,
    13,
)
# a Spring Festival, a day of 25 hours
STREET_STARTS = (
    ("Asia/Shanghai", 2025, 12, 10),
    ("Australia/Sydney", 2026, 3, 2),
)
STREET_DAYS = 78


def altered(household: int, days: np.ndarray, n: np.ndarray) -> np.ndarray:
    """One household's days as its meter registers them; each meter has its own trouble, or none."""
    late = slice(40, 62)
    if household == 0:
        days[late] *= 0.4
    elif household == 1:
        days[late, 4] = 0
    elif household == 2:
        days[late] = np.minimum(days[late], 1.5)
    elif household == 3:
        days[late] = days[late].mean(axis=1, keepdims=True)
    elif household == 4:
        days[40:66] = days[40:66, ::-1]
    elif household == 5:
        days[:70] *= 0.15
    elif household == 6:
        days[:70] *= 0.02
    elif household == 7:
        days[late] *= 2.6
    elif household == 8:
        days[40:] *= np.where(n[40:, None] % 7 < 5, 0.5, 1.0)
    elif household == 9:
        days[45:48] = np.nan
    elif household == 14:
        days[late] *= 0.05

    return days


def _local_midnight(zone: str, year: int, month: int, day: int) -> int:
    """A day's beginning in Unix seconds."""
    return int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())


@cache
def street(number: int) -> Stream:
    """Thirty-six customers of an area over eleven weeks."""
    rng = np.random.default_rng(number)
    zone, *day = STREET_STARTS[number]
    start = _local_midnight(zone, *day)
    meters = [Meter(meter="G0", wiring="3P4W", ct=100.0, interval_s=INTERVAL_SECONDS)]
    meters += map(street_meter, range(36))

    weather = rng.normal(0, 0.08, STREET_DAYS)
    air = np.random.default_rng([number, 1]).normal(
        6, 6, (STREET_DAYS, INTERVALS_PER_DAY)
    )
    air = air.round(2)
    cold = np.maximum(15 - air.mean(axis=1), 0)

    rows: list[Row] = []
    for household in range(36):
        usual_shape = SHOP_SHAPE if household >= 33 or household == 12 else HOME_SHAPE
        shape = usual_shape * np.exp(rng.normal(0, 0.1))
        used = shape * np.exp(
            rng.normal(0, 0.12, (STREET_DAYS, INTERVALS_PER_DAY)) + weather[:, None]
        )
        if household in HEATED_HOMES:
            used *= np.exp(0.06 * cold)[:, None]
        kwh = np.round(altered(household, used, np.arange(STREET_DAYS)), 3).astype(
            np.float32
        )
        measured = (
            air if number == 0 and household > 33 else np.full_like(air, NOT_A_NUMBER)
        )
        rows += street_rows(
            rng, household, start, kwh.reshape(-1), measured.reshape(-1)
        )

    rows.sort(key=lambda row: (row.at, row.subject))
    area = Area(area="A1", gateway="G0", meters=meters)
    return Stream([area], tuple(rows), zone, INTERVAL_SECONDS)


def street_meter(household: int) -> Meter:
    """The record of one meter: homes, then shops."""
    shop = household >= 33
    return Meter(
        meter=f"M{household}",
        segment="commercial" if shop else "residential",
        interval_s=INTERVAL_SECONDS,
        contract_kva=20.0 if shop else 8.0,
        ct=2.0 if household == 8 else 1.0,
    )


def street_rows(
    rng: np.random.Generator,
    household: int,
    start: int,
    kwh: np.ndarray,
    air: np.ndarray,
) -> Iterator[Row]:
    """The readings of one meter; a few are missing, a few are estimated."""
    for n, value in enumerate(kwh):
        if rng.random() < 0.002 or np.isnan(value):
            continue

        volts = 225.0
        if household == 10:
            volts = NOT_A_NUMBER
        elif household == 11 and n > 300:
            volts = 0.0

        columns = dict(
            kwh=value,
            u=np.array([volts, NOT_A_NUMBER, NOT_A_NUMBER], np.float32),
            register=NOT_A_NUMBER,
            clock_offset=NOT_A_NUMBER,
            received=0,
            temperature=np.float32(air[n]),
            status=Status.ESTIMATED if rng.random() < 0.002 else Status.MEASURED,
        )
        at = start + INTERVAL_SECONDS * (n + 1)
        yield Row(Readings, "A1", f"M{household}", at, columns)


def late(stream: Stream) -> Stream:
    """The stream with readings that come up to two days late."""
    rng, first = np.random.default_rng(1), first_readings(stream)
    arrivals = [
        row.at
        + (
            int(rng.integers(2 * DAY_SECONDS))
            if n not in first and rng.random() < 0.01
            else 0
        )
        for n, row in enumerate(stream.rows)
    ]
    return stream.with_rows(stream.rows[n] for n in np.argsort(arrivals, kind="stable"))


@pytest.mark.parametrize("number", range(len(STREET_STARTS)))
def test_the_slow_twin_agrees_and_every_rule_raises_an_alert(number: int):
    stream = with_closing_readings(street(number), DAY_SECONDS)
    alerts = judge_stream(stream)[1]
    raised_rules = {alert.rule for alert in last(alerts).values()}
    assert raised_rules >= RULES_BY_MODULE["test_profiles"]
    agree(stream, alerts)


def test_any_cut_and_restoring_publish_exactly_the_same():
    stream = late(street(0))
    expected = judge_stream(stream)[1]
    cuts = np.random.default_rng(2).integers(0, len(stream.rows), 60)
    assert exactly(judge_stream(stream, cuts)[1]) == exactly(expected)
    assert exactly(restored(stream, 499, 10)) == exactly(expected)


def test_late_readings_amend_days_and_their_comparisons():
    same(
        judge_stream(with_closing_readings(late(street(1)), DAY_SECONDS))[1],
        judge_stream(with_closing_readings(street(1), DAY_SECONDS))[1],
    )


def test_areas_spread_over_engines_publish_the_same():
    first, second = street(0), street(1)
    moved = [
        replace(row, area="A2", at=row.at - second.rows[0].at + first.rows[0].at)
        for row in second.rows
    ]
    area = Area(area="A2", gateway="G0", meters=second.areas[0].meters)
    both = Stream(
        [*first.areas, area],
        tuple(sorted((*first.rows, *moved), key=lambda row: row.at)),
        first.zone,
        INTERVAL_SECONDS,
    )
    shares = [
        replace(
            both,
            areas=[area],
            rows=tuple(row for row in both.rows if row.area == area.area),
        )
        for area in both.areas
    ]

    assert exactly(judge_stream(both)[1]) == exactly(
        [alert for share in shares for alert in judge_stream(share)[1]]
    )


def test_attacks_on_a_home_are_found_and_nobody_else_is_suspected():
    town = Town(80, 52, seed=4, faults=False)
    homes = np.flatnonzero(
        (town.grid.segment == 0) & (town.grid.pv_kw == 0) & ~town.grid.gateway
    )
    rows = homes[np.argsort(-town.grid.mean_kw[homes])]

    planted: dict[str, Planted] = {}
    for kind, row in zip(THEFT_ATTACKS, rows.tolist(), strict=False):
        happening = attacked(
            town.grid, kind, row, (town.start + 30 * DAY_SECONDS, town.end), 5
        )
        town.happenings.append(happening)
        if happening.planted:
            planted[kind] = happening.planted

    engine = Engine(
        [ALL_RULES[name] for name in RULES_BY_MODULE["test_profiles"]],
        zone=town.zone,
        interval=town.interval,
    )
    engine.enroll(town.areas)
    states = {
        alert.id: alert for batch in town.batches() for alert in engine.step(batch)
    }
    shown_alerts = [
        alert
        for alert in states.values()
        if alert.state != "withdrawn" and not alert.suppressed_by
    ]

    found_kinds = {
        kind
        for kind, fault in planted.items()
        if any(fault.found_by(alert) for alert in shown_alerts)
    }

    assert found_kinds == THEFT_ATTACKS.keys()
    subjects = {fault.subject for fault in planted.values()}
    assert {alert.subject for alert in shown_alerts} == subjects

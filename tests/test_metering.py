"""Rules on a month of registers, tariffs, demand and power, for any cut and order, and by the slow twin."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detectors.rule import ALL_RULES
from schemas.columns import Readings, Status
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import (
    NOT_A_NUMBER,
    Row,
    Stream,
    duplicated,
    meter_with,
    shuffled,
    straggling,
    with_closing_readings,
)
from tests.oracle.metering import METERING_RULES
from tests.test_promises import agree, exactly, judge_stream, restored, same

# one whole calendar month is among them
DAY_COUNT = 34
METER_INTERVAL = 6 * HOUR_SECONDS
ENGINE_INTERVAL = 2 * HOUR_SECONDS  # the engine's interval, and that of one meter
TIME_ZONES = ("Asia/Shanghai", "Europe/Berlin", "America/St_Johns")
METER_FAULTS = (
    "valley",
    "runaway",
    "ratio",
    "curve",
    "ct",
    "export",
    "stopped",
    "demand",
    "declared",
    "reactive",
    "capacitor",
)


def ledgers(seed: int) -> Stream:
    """A month of an area in which every meter has its own fault from some day on, and some are changed."""
    rng = np.random.default_rng(seed)
    zone = TIME_ZONES[seed % len(TIME_ZONES)]
    start = int(datetime(2025, 2, 27, tzinfo=ZoneInfo(zone)).timestamp())
    meters, rows = list[Meter](), list[Row]()
    for n, fault in enumerate(rng.permutation(METER_FAULTS).tolist()):
        interval = ENGINE_INTERVAL if fault == "capacitor" else METER_INTERVAL
        meter = Meter(
            meter=f"M{n}",
            wiring="3P4W",
            interval_s=interval,
            contract_kva=float(rng.choice([40, 160])),
            ct=2.0,
            segment="industrial" if rng.random() < 0.5 else "agricultural",
            declared_kw=2.0 if fault == "declared" else 40.0,
            customer=f"C{n}",
            effective=(n > 8) * (start + (n - 8) * 30 * HOUR_SECONDS),
        )
        since = (
            start
            + int(rng.integers(4, 20)) * DAY_SECONDS
            + int(rng.integers(0, DAY_SECONDS))
        )

        meters.append(meter_with(meter, stopped=since) if fault == "stopped" else meter)
        if rng.random() < 0.3:
            meters.append(
                meter_with(
                    meters[-1],
                    effective=since + int(rng.integers(0, 9 * DAY_SECONDS)),
                    ct=3.0,
                )
            )

        rows += readings_of(rng, meter, fault, start, since)

    order = sorted(range(len(rows)), key=lambda n: (rows[n].at, rows[n].subject))
    return Stream(
        [Area(area="A1", meters=meters)],
        tuple(rows[n] for n in order),
        zone,
        ENGINE_INTERVAL,
    )


def readings_of(
    rng: np.random.Generator, meter: Meter, fault: str, start: int, since: int
) -> list[Row]:
    """A meter's readings, some of them missing and some blank."""
    days = DAY_COUNT if fault != "capacitor" else 2
    times = np.arange(
        start + meter.interval_s, start + days * DAY_SECONDS + 1, meter.interval_s
    )
    bad = times > (since if fault != "capacitor" else start + DAY_SECONDS)
    size = len(times)
    kw = np.abs(rng.normal(1.2, 0.05, size)) * np.where(
        (fault == "stopped") & bad, 0.01, 1
    )
    kvar = kw * np.where(bad, {"reactive": 1.6, "capacitor": 8.0}.get(fault, 0.3), 0.3)
    kwh = kw * meter.interval_s / HOUR_SECONDS
    counted = kwh * np.where(bad, {"runaway": 14.0, "ratio": 0.7}.get(fault, 1.0), 1.0)

    valley = (times // METER_INTERVAL) % 4 == 0
    # resets of the demand
    number = np.searchsorted(
        np.array([start + 2 * DAY_SECONDS, start + 12 * DAY_SECONDS]), times
    )
    demand = np.concatenate([np.maximum.accumulate(kw[number == n]) for n in range(3)])
    columns: dict[str, Any] = {
        "u": np.full((3, size), 230.0),
        "i": np.full((3, size), 2.0),
        "p": np.tile(kw / 3, (3, 1)),
        "q": np.tile(kvar / 3, (3, 1)),
        "kwh": kwh * np.where((fault == "curve") & bad, 0.9, 1),
        "register": 1000 + np.cumsum(counted),
        "register_peak": 600 + np.cumsum(counted * ~valley),
        "register_valley": 400
        + np.cumsum(counted * valley * np.where((fault == "valley") & bad, 0.5, 1)),
        "export_register": 10 + np.cumsum(kwh * bad * (fault == "export")),
        "demand": demand
        * np.where((fault == "demand") & bad, rng.choice([0.5, 3.0]), 1),
        "demand_resets": number,
        "meter_ratio": np.where((fault == "ct") & bad, 5.0, meter.ct),
    }

    rounded = {
        name: np.round(column, 2)
        if "register" in name
        else np.round(column, 4).astype(np.float32)
        for name, column in columns.items()
    }

    rows = []
    for n in np.flatnonzero(rng.random(size) > 0.01).tolist():
        row_columns = {name: column[..., n] for name, column in rounded.items()}
        if rng.random() < 0.02:
            row_columns |= {
                name: row_columns[name] * NOT_A_NUMBER
                for name in rng.choice(list(rounded), 3)
            }

        if rng.random() < 0.02:
            row_columns["register"] = float(rng.choice([5.0, 77_000.0, 4294967.295]))
        row_columns |= {
            "clock_offset": NOT_A_NUMBER,
            "received": 0,
            "status": Status.ESTIMATED if rng.random() < 0.01 else Status.MEASURED,
        }
        rows.append(Row(Readings, "A1", meter.meter, int(times[n]), row_columns))

    return rows


def test_every_rule_raises_an_alert():
    raised_rules = {
        alert.rule
        for seed in (0, 2)
        for alert in judge_stream(with_closing_readings(ledgers(seed), DAY_SECONDS))[1]
    }
    assert raised_rules >= METERING_RULES.keys() | {
        "low_power_factor",
        "new_install_check",
    }
    assert METERING_RULES.keys() <= ALL_RULES.keys()


@pytest.mark.parametrize("seed", range(3))
def test_the_slow_twin_agrees(seed: int):
    agree(with_closing_readings(ledgers(seed), DAY_SECONDS))


@pytest.mark.parametrize("seed", [3, 4])
def test_the_slow_twin_agrees_when_rows_come_shuffled_and_duplicated(seed: int):
    agree(
        with_closing_readings(
            duplicated(shuffled(ledgers(seed), seed, 20 * HOUR_SECONDS), seed),
            DAY_SECONDS,
        )
    )


def test_readings_up_to_three_days_late_change_nothing():
    stream = ledgers(5)
    expected = [
        alert
        for alert in judge_stream(with_closing_readings(stream, 3 * DAY_SECONDS))[1]
        if alert.kind == "days"
    ]

    late = straggling(stream, 5, 0, 2 * DAY_SECONDS)
    alerts = [
        alert
        for alert in judge_stream(with_closing_readings(late, 3 * DAY_SECONDS))[1]
        if alert.kind == "days"
    ]
    same(alerts, expected)


def test_any_cut_and_any_restart_publish_exactly_the_same():
    stream = straggling(ledgers(6), 6, 0, 2 * DAY_SECONDS)
    expected = exactly(judge_stream(stream)[1])
    assert exactly(judge_stream(stream, range(len(stream.rows)))[1]) == expected
    assert exactly(restored(stream, 97, 5)) == expected

"""The promises of the core on wrongly wired meters with neutral, status word and terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given

from models.meters.wiring import NeutralMismatch
from schemas.columns import Flag, Readings
from schemas.master import Area, Meter, Transformer, VectorGroup, Wiring
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import (
    NOT_A_NUMBER,
    STREAM_DAYS,
    STREAM_STARTS,
    Row,
    Stream,
    corrected,
    duplicated,
    metered,
    mistimed,
    straggling,
    with_closing_readings,
)
from tests.test_promises import (
    ANY_SEED,
    RULES_BY_MODULE,
    agree,
    exactly,
    examples,
    goes_on_restored,
    judge_stream,
    same,
)

WIRING_FAULTS = (
    "crossed",
    "idle",
    "dark",
    "adrift",
    "diverted",
    "sequence",
    "relay",
    "differs",
)
TWO_HOUR_SECONDS = 7200
METER_WIRINGS: dict[str, Wiring] = {
    "T0": "3P4W",
    "T1": "3P4W",
    "T2": "3P4W",
    "W0": "3P3W",
    "S0": "1P2W",
    "S1": "1P2W",
}


def wired(seed: int, interval: int = TWO_HOUR_SECONDS) -> Stream:
    """An area whose meters measure every conductor; each is wired wrong for a while in at least one way."""
    rng = np.random.default_rng(seed)
    zone, year, month, day = STREAM_STARTS[seed % len(STREAM_STARTS)]
    start = int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())
    end = start + STREAM_DAYS[interval] * DAY_SECONDS
    meters = [
        Meter(meter=name, wiring=wiring, interval_s=interval)
        for name, wiring in METER_WIRINGS.items()
    ]
    gateway = Meter(meter="G", wiring="3P4W", ct=20.0, imax_a=10.0, interval_s=interval)
    group: VectorGroup = "Dyn11" if seed % 2 else "Yyn0"
    transformer = Transformer(rating_kva=30.0, vector_group=group)
    area = Area(
        area="A1", gateway="G", transformers=[transformer], meters=[gateway, *meters]
    )

    spans = fault_spans(rng, start, end, interval)
    rows = sorted(
        metered(rng, area, start, end, interval, noise=True),
        key=lambda row: (row.at, rng.random()),
    )
    for n, row in enumerate(rows):
        now = {
            fault
            for fault, at, seconds in spans[row.subject]
            if 0 <= row.at - at < seconds
        }
        rows[n] = replace(row, columns=faulty_columns(rng, row, now))
    return Stream([area], tuple(rows), zone, interval)


def fault_spans(
    rng: np.random.Generator, start: int, end: int, interval: int
) -> dict[str, list[tuple[str, int, int]]]:
    """The faults of every meter, each with its beginning and how many seconds it lasts."""
    spans: dict[str, list[tuple[str, int, int]]] = {}
    for n, name in enumerate(("G", "stranger", *METER_WIRINGS)):
        picked = [
            WIRING_FAULTS[n % len(WIRING_FAULTS)],
            *rng.permutation(WIRING_FAULTS)[: rng.integers(0, 3)].tolist(),
        ]
        if METER_WIRINGS.get(name) == "1P2W":
            picked.append("diverted")
        if METER_WIRINGS.get(name) == "3P4W":
            picked.append("idle" if n % 2 else "crossed")

        begin = rng.uniform(0.55, 0.8, len(picked)) * (end - start)
        begin = start + begin.astype(int)
        lengths = rng.integers(interval, (end - start) // 2, len(picked))
        spans[name] = list(zip(picked, begin.tolist(), lengths.tolist(), strict=True))
    return spans


@np.errstate(invalid="ignore")
def faulty_columns(rng: np.random.Generator, row: Row, now: set[str]) -> dict[str, Any]:
    """The columns of a reading with the faults of the moment."""
    single, gateway = row.subject in ("S0", "S1"), row.subject == "G"
    columns: dict[str, Any] = {
        name: np.array(value) for name, value in row.columns.items()
    }
    if "dark" in now:
        columns["u"] *= np.float32(0.2)
    if "adrift" in now:
        columns["u"] *= np.array([1.4, 0.7, 0.95], np.float32)
    if "idle" in now:
        columns["i"] = np.array([0, 0.2, 0.2], np.float32) * columns["i"]
    if "crossed" in now:
        turned = (columns["p"] + 1j * columns["q"]) * np.exp(
            1j * np.radians([120, -120, 0])
        )
        columns["p"] = turned.real.astype(np.float32)
        columns["q"] = turned.imag.astype(np.float32)

    if single:
        amps = columns["i"][0]
    elif np.isfinite(columns["i"]).any():
        amps = np.nanmax(columns["i"]) - np.nanmin(columns["i"])
    else:
        amps = NOT_A_NUMBER
    returned = 0.4 if "diverted" in now else 0.97
    share = rng.uniform(0, 8) if gateway else returned
    columns["neutral"] = np.float32(np.round(amps * share, 3))

    power = np.nansum(row.columns["p"]) * (1.3 if "differs" in now else 1.02)
    columns["terminal_p"] = np.float32(
        np.round(power, 4) if rng.random() < 0.95 else NOT_A_NUMBER
    )
    word = (
        Flag.REVERSED_SEQUENCE * ("sequence" in now)
        | Flag.RELAY_OPEN * ("relay" in now)
        | Flag.BATTERY_LOW
    )
    columns["flags"] = np.float32(word if rng.random() < 0.95 else NOT_A_NUMBER)
    for name in ("neutral", "terminal_p"):
        if rng.random() < 0.02:
            columns[name] = np.float32(rng.choice([65535, 4294967.295, np.inf]))

    return columns


def adversarial_stream(seed: int, interval: int = HOUR_SECONDS) -> Stream:
    """The same stream after everything that can happen on its way."""
    stream = straggling(wired(seed, interval), seed, 0, 2 * DAY_SECONDS)
    return mistimed(duplicated(corrected(stream, seed), seed), seed)


def test_the_streams_make_every_rule_of_wiring_raise_an_alert():
    raised_rules: Counter[str] = Counter()
    for seed in (4, 7):
        raised_rules.update(
            alert.rule
            for alert in judge_stream(with_closing_readings(wired(seed), DAY_SECONDS))[
                1
            ]
        )
    assert RULES_BY_MODULE["test_wiring"] - raised_rules.keys() == set()


@examples(2)
@given(seed=ANY_SEED)
def test_any_cut_publishes_exactly_the_same(seed: int):
    stream = adversarial_stream(seed)
    unbroken, alerts = judge_stream(stream)
    size = len(stream.rows)
    for cuts in (
        range(size),
        np.random.default_rng(seed).integers(0, size, 40).tolist(),
    ):
        pieced, alerts_again = judge_stream(stream, cuts)
        assert exactly(alerts_again) == exactly(alerts)
        assert pieced.alert_counts == unbroken.alert_counts


@examples(2)
@given(seed=ANY_SEED)
def test_an_engine_restored_again_and_again_goes_on_undisturbed(seed: int):
    goes_on_restored(adversarial_stream(seed))


@examples(3)
@given(seed=ANY_SEED)
def test_readings_up_to_a_day_late_change_nothing(seed: int):
    stream = wired(seed)
    same(
        judge_stream(
            with_closing_readings(straggling(stream, seed, 0, DAY_SECONDS), DAY_SECONDS)
        )[1],
        judge_stream(with_closing_readings(stream, DAY_SECONDS))[1],
    )


@examples(8)
@given(seed=ANY_SEED)
@example(seed=1)
@example(seed=4329)  # two phases tie
@example(seed=4331)
def test_the_slow_twin_agrees(seed: int):
    agree(with_closing_readings(wired(seed), DAY_SECONDS))


def blanked(row: Row, name: str) -> Row:
    """The same reading with NaN for one column."""
    unknown = row.columns[name] * np.float32(NOT_A_NUMBER)
    return replace(row, columns=row.columns | {name: unknown})


@pytest.mark.parametrize("without", ["i", "neutral"])
def test_missing_column_equals_missing_values_in_every_row(without: str):
    """Other rows of the batch may have the column or not."""
    stream = wired(5, HOUR_SECONDS)
    rows = [
        blanked(row, without)
        if row.kind is Readings and row.at % (3 * HOUR_SECONDS) == 0
        else row
        for row in stream.rows
    ]
    stream = stream.with_rows(rows)

    assert exactly(judge_stream(stream, range(len(rows)))[1]) == exactly(
        judge_stream(stream)[1]
    )


def test_five_loaded_readings_are_remembered_and_two_clean_ones_forgiven():
    feature = NeutralMismatch()
    feature.cells.reserve(1)
    mismatches = []
    for n, neutral in enumerate([6, 3, 3, 6, 6, 3, 6, 6, 6, 3]):
        row = {
            "most_i": 6.0,
            "neutral": neutral,
            "ib": 5.0,
            "at": 900 * n + DAY_SECONDS,
            "elements": 1,
        }
        columns = {name: np.array([value]) for name, value in row.items()}
        mismatches += feature.fold(np.array([0]), **columns).mismatch_third.tolist()

    assert np.nan_to_num(mismatches, nan=-1).tolist() == [
        -1,
        -1,
        0,
        0,
        0,
        0.5,
        0,
        0,
        0,
        0,
    ]


def test_neutral_of_the_transformer_is_measured_by_the_gateway():
    stream = with_closing_readings(wired(4), DAY_SECONDS)
    alerts = [
        alert
        for alert in judge_stream(stream)[1]
        if (alert.rule, alert.change) == ("neutral_current_high", "raised")
    ]
    assert alerts
    read = {row.at: row.columns["neutral"] for row in stream.rows if row.subject == "G"}
    for alert in alerts:
        assert alert.evidence["neutral"] == pytest.approx(
            20 * read[alert.raised], rel=1e-4
        )

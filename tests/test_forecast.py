"""The forecast of a transformer's load, and the drift of its error, on streams of their own."""

from __future__ import annotations

import numpy as np
import pytest

from models.drift import PageHinkley
from models.master.calendar import day_of, midnights
from models.meters.load_forecast import LoadForecast
from schemas.master import Area, Meter, Transformer
from schemas.units import DAY_HOURS, DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import Stream, duplicated, shuffled, with_closing_readings
from tests.test_loading import START_TIME, metered
from tests.test_promises import agree, engine_of, exactly, judge_stream, same

ZONE = "Asia/Shanghai"
NAME = "transformer_overload_expected"


def growing(seed: int, days: int = 34) -> Stream:
    """A transformer's evenings that grow heavy within a month, by two users or, at times, a gateway alone."""
    rng = np.random.default_rng(seed)
    hours = np.arange(1, days * DAY_HOURS + 1)
    day, hour = hours // DAY_HOURS, hours % DAY_HOURS
    weekend = 0.8 + 0.2 * (day % 7 < 5)
    amps = (30 + 25 * (hour > 17) + 0.9 * day * (hour > 17)) * weekend
    shares = {"M1": 1.0, "M2": 1.1}
    rows = [
        row
        for name, share in shares.items()
        for row in metered(
            name, share * amps * rng.uniform(0.95, 1.05, len(amps)), HOUR_SECONDS
        )
    ]
    kept = [row for row in rows if rng.random() > 0.02]
    meters = [
        Meter(meter=name, wiring="3P4W", imax_a=200.0, interval_s=HOUR_SECONDS)
        for name in shares
    ]
    area = Area(area="A1", transformers=[Transformer(rating_kva=100.0)], meters=meters)
    return Stream(
        [area], tuple(sorted(kept, key=lambda row: row.at)), ZONE, HOUR_SECONDS
    )


def test_the_slow_twin_agrees():
    stream = with_closing_readings(growing(1), DAY_SECONDS)
    assert any(alert.rule == NAME for alert in judge_stream(stream)[1])
    agree(stream)
    agree(duplicated(shuffled(stream, 3, 8 * HOUR_SECONDS), 3))

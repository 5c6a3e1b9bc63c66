"""Elapsed time may be decades, or negative: no decay over it overflows (a warning is a failure here)."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.engine import Engine
from models.meters.loading import Heat
from models.meters.phases import Phases
from models.meters.prepaid import Balances
from schemas.columns import Payment, Payments
from schemas.units import DAY_SECONDS

NOON_TIME, EIGHTY_YEARS_SECONDS = 1_772_380_800, 80 * 365 * 86_400
TIME_LEAPS = [
    (NOON_TIME, NOON_TIME - EIGHTY_YEARS_SECONDS),
    (NOON_TIME, NOON_TIME + EIGHTY_YEARS_SECONDS),
    (NOON_TIME - EIGHTY_YEARS_SECONDS, NOON_TIME + EIGHTY_YEARS_SECONDS),
]


def balances(*observations: tuple[int, float]) -> list[float]:
    feature = Balances()
    feature.cells.reserve(1)
    daily = []
    for at, amount in observations:
        given = feature.fold(
            np.array([0]),
            amount=np.array([amount]),
            payment=np.array([int(Payment.BALANCE)]),
            succeeded=np.array([1]),
            at=np.array([at]),
        )
        daily += given.daily_yuan.tolist()

    return daily


def test_older_balance_does_not_change_daily_usage():
    assert balances(
        (NOON_TIME, 30.0),
        (NOON_TIME + DAY_SECONDS, 28.0),
        (NOON_TIME - EIGHTY_YEARS_SECONDS, 5.0),
    ) == [0.0, 2.0, 2.0]


def test_balance_after_decades_shows_no_usage():
    assert balances(
        (NOON_TIME, 30.0),
        (NOON_TIME + DAY_SECONDS, 28.0),
        (NOON_TIME + EIGHTY_YEARS_SECONDS, 1.0),
    ) == [0.0, 2.0, 2.0]


@pytest.mark.parametrize("times", TIME_LEAPS)
@pytest.mark.parametrize(
    "amounts", [(1.0, 0.5), (0.0, 6.1e10), (6.1e10, 0.0), (9e11, -9e11), (np.nan, 1.0)]
)
def test_the_engine_judges_balances_decades_apart(times, amounts):
    row = [0] * len(times)
    payments = Payments.build(
        ["C"],
        row,
        ["A"],
        row,
        times,
        payment=[int(Payment.BALANCE)] * len(times),
        amount=amounts,
    )
    assert {alert.rule for alert in Engine().step(payments)} <= {"low_balance"}


@pytest.mark.parametrize(("first", "second"), TIME_LEAPS)
def test_sums_of_squares_keep_their_weight_when_time_goes_backward(first, second):
    phases = Phases()
    phases.cells.reserve(1)
    for at in (first, second):
        squares, pairs = phases.learn(
            np.array([0]), np.array([at]), np.full((3, 1), 4.0), np.array([2.0])
        )
    assert pairs.tolist() == [4.0 if second < first else 2.0]
    assert squares.ravel().tolist() == [8.0 if second < first else 4.0] * 3


def test_a_transformer_does_not_heat_in_negative_time():
    load = np.array([1.0])
    assert [
        left.tolist()
        for _, left in Heat(900).course(load, np.array([-EIGHTY_YEARS_SECONDS]))
    ] == [[1.0], [1.0]]
    assert np.isfinite(Heat(900).course(load, np.array([EIGHTY_YEARS_SECONDS]))).all()

"""The penalty of a late bill, and how long payments are remembered."""

from __future__ import annotations

import numpy as np
import pytest

from models.master.registry import Registry
from models.state.index import Index
from models.timelines.base import ORPHAN_RETENTION_SECONDS
from models.timelines.bills import PAID_RETENTION_SECONDS, Bills
from models.timelines.settlements import Ledger
from schemas.columns import Payment, Payments
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS

DUE_TIME = 1_766_937_600  # 2025-12-29 in Shanghai


@pytest.mark.parametrize(
    ("segment", "days", "penalty"),
    [
        ("residential", 2, 2.0),
        ("residential", 7, 2.0 + 5 * 0.5),
        ("commercial", 7, 4.0 + 1.0 + 4 * 1.5),
    ],
)
def test_penalty_grows_daily_with_the_open_amount_and_more_after_new_year(
    segment, days, penalty
):
    registry = Registry(Index(), Index())
    registry.enroll(
        [Area(area="A1", meters=[Meter(meter="M1", customer="C1", segment=segment)])]
    )
    bills = Bills(Index(), registry, "Asia/Shanghai")
    payments = Payments.build(
        ("C1",),
        [0, 0],
        ("A1",),
        [0, 0],
        [DUE_TIME - 9 * DAY_SECONDS, DUE_TIME + 2 * DAY_SECONDS + 60],
        payment=[Payment.BILL, Payment.PAYMENT],
        amount=[1000, 500],
        bills=("B1",),
        bill=[0, 0],
        succeeded=[1, 1],
        due=[DUE_TIME, 0],
    )

    bills.record(payments, np.zeros(2, np.int64), np.zeros(2, np.int64))
    arrears = bills.arrears(0, DUE_TIME + days * DAY_SECONDS, days)
    assert arrears.penalty == pytest.approx(penalty)


def test_payments_are_forgotten_when_no_later_payment_can_match_them():
    registry = Registry(Index(), Index())
    payments = Payments.build(
        ("C1",),
        [0] * 4,
        ("A1",),
        [0] * 4,
        [DUE_TIME, DUE_TIME + 1, DUE_TIME + 2, DUE_TIME + 3],
        payment=[0, 1, 4, 1],
        amount=[90] * 4,
        bills=("B1", ""),
        bill=[0, 0, 1, 1],
        references=("R1", "R2"),
        reference=[0, 0, 0, 1],
        succeeded=[1] * 4,
    )

    for items, first, last in (
        (Bills(Index(), registry, "Asia/Shanghai"), [PAID_RETENTION_SECONDS], []),
        (Ledger(Index()), [3 * DAY_SECONDS], [ORPHAN_RETENTION_SECONDS]),
    ):
        items.record(payments, np.zeros(4, np.int64), np.zeros(4, np.int64))
        for retention in first + last:
            until = [
                items.finished(
                    np.array([DUE_TIME + 9 + retention + more]), 3 * DAY_SECONDS, []
                ).tolist()
                for more in (-9, 0)
            ]
            assert len(until[1]) == len(until[0]) + 1
            items.forget(np.array(until[1]))
        assert items.items == {}

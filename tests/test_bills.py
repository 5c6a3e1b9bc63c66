"""What a late bill comes to cost."""

from __future__ import annotations

import numpy as np
import pytest

from models.bills import Bills
from models.index import Index
from models.registry import Registry
from schemas.columns import Payment, Payments
from schemas.master import Area, Meter

DAY = 86_400
DUE = 1_766_937_600  # 2025-12-29 in Shanghai


@pytest.mark.parametrize(
    ("segment", "days", "penalty"),
    [("residential", 2, 2.0), ("residential", 7, 2.0 + 5 * 0.5), ("commercial", 7, 4.0 + 1.0 + 4 * 1.5)],
)
def test_a_penalty_grows_by_the_day_with_what_is_open_and_by_the_new_year(segment, days, penalty):
    registry = Registry(Index(), Index())
    registry.enroll([Area(area="A1", meters=[Meter(meter="M1", customer="C1", segment=segment)])])
    bills = Bills(Index(), registry, "Asia/Shanghai")
    told = Payments.build(
        ("C1",), [0, 0], ("A1",), [0, 0], [DUE - 9 * DAY, DUE + 2 * DAY + 60], payment=[Payment.BILL, Payment.PAYMENT],
        amount=[1000, 500], bills=("B1",), bill=[0, 0], succeeded=[1, 1], due=[DUE, 0],
    )  # fmt: skip
    bills.fold(told, np.zeros(2, np.int64), np.zeros(2, np.int64))
    assert bills.penalty(0, DUE + days * DAY) == pytest.approx(penalty)

"""The balances of prepaid customers, and the yuan a day that they use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.fading import faded
from models.state.cells import Cells
from models.state.missing_values import only
from schemas.columns import Codes, Column, Payment, Times
from schemas.units import DAY_SECONDS

HALF_LIFE = 14.0  # days over which the daily use fades
LEAST_GAP_DAYS = 0.25  # days that two balances must be apart to show use
LONGEST_GAP_DAYS = 40.0  # days after which a balance shows no use


class BalancesColumns(NamedTuple):
    """Given by Balances."""

    balance: Column  # yuan: the last known one with the top-ups since
    daily_yuan: Column  # 0 while unknown


class Balances(Feature):
    """A customer's last balance, the top-ups since, and the yuan a day that balances fall by."""

    def __init__(self) -> None:
        self.cells = Cells(
            then=np.int64(0),
            balance=np.float64(np.nan),
            topped=np.float64(0),
            daily=np.float64(0),
        )

    def fold(
        self,
        slots: Codes,
        amount: Column,
        *,
        payment: Codes,
        succeeded: Column,
        at: Times,
    ) -> BalancesColumns:
        """The balance and the daily use after each row; a revoked top-up has a negative amount."""
        memory = self.cells.read(slots)

        # A new balance, or an amount that was topped up or taken back since the last.
        new_balance = payment == Payment.BALANCE
        new_balance = new_balance & np.isfinite(amount) & (at > memory["then"])
        went_through = (succeeded == 1) | (amount < 0)
        topped_up = (payment == Payment.TOPUP) & went_through
        topped_up |= payment == Payment.REVERSAL
        in_order = at >= memory["then"]
        added = topped_up & np.isfinite(amount) & in_order

        days = (at - memory["then"]) / DAY_SECONDS
        used = memory["balance"] + memory["topped"] - amount
        used = used / np.maximum(days, LEAST_GAP_DAYS)
        known = new_balance & (used >= 0)
        known &= (days >= LEAST_GAP_DAYS) & (days <= LONGEST_GAP_DAYS)
        keep = np.where(memory["daily"] > 0, faded(days, HALF_LIFE), 0.0)
        daily = keep * memory["daily"] + (1 - keep) * used
        daily = np.where(known, daily, memory["daily"])

        topped = memory["topped"] + np.where(added, amount, 0.0)
        topped = np.where(new_balance, 0.0, topped)
        balance = np.where(new_balance, amount, memory["balance"])
        self.cells.write(
            slots,
            {
                "daily": daily,
                "topped": topped,
                "balance": balance,
                "then": np.where(new_balance, at, memory["then"]),
            },
        )
        shown = only(new_balance | added, balance + topped)
        return BalancesColumns(balance=shown, daily_yuan=daily)

    def reset_after_loss(self) -> None:
        """Forgets the balance: a lost row may have been a top-up."""
        self.cells["balance"][...] = np.nan

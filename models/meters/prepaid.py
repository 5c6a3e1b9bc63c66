"""The balances of prepaid customers, and the yuan a day that they use."""

from __future__ import annotations

import numpy as np

from models.meters.basics import Columns, Feature, faded
from models.state.cells import Cells
from schemas.columns import Codes, Payment
from schemas.units import DAY_SECONDS

HALF_LIFE = 14.0  # days over which the daily use fades
LEAST_GAP_DAYS = 0.25  # days that two balances must be apart to show use
LONGEST_GAP_DAYS = 40.0  # days after which a balance shows no use


class Balances(Feature):
    """A customer's last balance, the top-ups since, and the yuan a day that balances fall by."""

    reads: tuple[str, ...] = ("amount",)
    takes: tuple[str, ...] = ("payment", "succeeded", "at")
    gives: tuple[str, ...] = ("balance", "daily_yuan")

    def __init__(self) -> None:
        self.cells = Cells(
            then=np.int64(0),
            balance=np.float64(np.nan),
            topped=np.float64(0),
            daily=np.float64(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds balance, the last known one with the top-ups since, and daily_yuan, 0 while unknown.

        A revoked top-up has a negative amount.
        """
        at = columns["at"]
        amount = columns["amount"]
        memory = self.cells.read(slots)

        # A new balance, or an amount that was topped up or taken back since the last.
        new_balance = columns["payment"] == Payment.BALANCE
        new_balance = new_balance & np.isfinite(amount) & (at > memory["then"])
        went_through = (columns["succeeded"] == 1) | (amount < 0)
        topped_up = (columns["payment"] == Payment.TOPUP) & went_through
        topped_up |= columns["payment"] == Payment.REVERSAL
        added = topped_up & np.isfinite(amount) & (at >= memory["then"])

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
        return {
            "balance": np.where(new_balance | added, balance + topped, np.nan),
            "daily_yuan": daily,
        }

    def reset_after_loss(self) -> None:
        """Forgets the balance: a lost row may have been a top-up."""
        self.cells["balance"][...] = np.nan

"""What prepaid customers have left, and what they use a day."""

from __future__ import annotations

import numpy as np

from models.cells import Cells
from models.features import Columns, Feature, faded
from schemas.columns import Codes, Payment
from schemas.units import DAY_SECONDS

HALF_LIFE = 14.0  # days over which the daily use fades
LEAST_GAP_DAYS = 0.25  # days that two balances must be apart to tell of use
LONGEST_GAP_DAYS = 40.0  # days after which a balance tells nothing of use


class Balances(Feature):
    """A customer's last balance, what was topped up since, and the yuan a day that balances fall by."""

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
        """Adds balance, by the last that was told and what was topped up since, and daily_yuan, 0 while unknown.

        What is taken back of a top-up has a negative amount.
        """
        c, at, amount = self.cells, columns["at"], columns["amount"]
        then, before, topped, daily = (
            c[name][slots] for name in ("then", "balance", "topped", "daily")
        )
        told = (
            (columns["payment"] == Payment.BALANCE) & np.isfinite(amount) & (at > then)
        )
        topped_up = (columns["payment"] == Payment.TOPUP) & (
            (columns["succeeded"] == 1) | (amount < 0)
        )
        more = (
            (topped_up | (columns["payment"] == Payment.REVERSAL))
            & np.isfinite(amount)
            & (at >= then)
        )
        days = (at - then) / DAY_SECONDS
        used = (before + topped - amount) / np.maximum(days, LEAST_GAP_DAYS)
        known = (
            told & (used >= 0) & (days >= LEAST_GAP_DAYS) & (days <= LONGEST_GAP_DAYS)
        )
        keep = np.where(daily > 0, faded(days, HALF_LIFE), 0.0)
        c["daily"][slots] = daily = np.where(
            known, keep * daily + (1 - keep) * used, daily
        )
        c["topped"][slots] = topped = np.where(
            told, 0.0, topped + np.where(more, amount, 0.0)
        )
        c["balance"][slots] = balance = np.where(told, amount, before)
        c["then"][slots] = np.where(told, at, then)
        return {
            "balance": np.where(told | more, balance + topped, np.nan),
            "daily_yuan": daily,
        }

    def reset_after_loss(self) -> None:
        """Rows are gone: one of them may have been a top-up."""
        self.cells["balance"][...] = np.nan

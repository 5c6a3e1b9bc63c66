"""What loads leave behind: days on which a contract was exceeded."""
from __future__ import annotations

import numpy as np

from models.cells import Cells
from models.features import Columns
from schemas.columns import Codes


class Exceeding:
    """What share of its contract a customer's load reached on each of the last 30 days, in whole per cent."""

    reads: tuple[str, ...] = ("kva_p99", "contract_kva")
    takes: tuple[str, ...] = ("suspended_kva",)
    gives: tuple[str, ...] = ("share_fifth",)

    DAYS, FIFTH = 30, 5
    LEAST_KVA = 1.0  # that a contract counts for where all is suspended

    def __init__(self) -> None:
        self.cells = Cells(shares=np.zeros(self.DAYS, np.uint8))  # 0 where it is not known, 255 from 2.55 on

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds share_fifth, the fifth highest; NaN on a day that is not known."""
        contract = np.maximum(columns["contract_kva"] - columns["suspended_kva"], self.LEAST_KVA)
        share = columns["kva_p99"] / contract
        percent = np.where(np.isnan(share), 0, np.minimum(np.floor(100 * np.nan_to_num(share)), 255))
        shares = np.concatenate([self.cells["shares"][1:, slots], percent[None].astype(np.uint8)])
        self.cells["shares"][:, slots] = shares
        fifth = np.partition(shares, -self.FIFTH, axis=0)[-self.FIFTH] / 100
        return {"share_fifth": np.where(np.isnan(share), np.nan, fifth)}

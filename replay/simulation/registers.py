"""The further registers of meters behind transformers: energy by tariff, and demand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.master.calendar import day_of, month_of
from replay.simulation.happenings import BLOCK_SLOTS, SLOT_HOURS, Block
from replay.simulation.network import (
    DAY_SLOTS,
    SLOT_SECONDS,
    START_TIME,
    TOWN_ZONE,
    Values,
)
from schemas.columns import Codes

TARIFF_REGISTERS = ("register_peak", "register_flat", "register_valley")
# the tariff register that counts in each hour of the day
REGISTER_OF_HOUR = np.repeat([2, 1, 0, 1, 0, 1, 2], [7, 1, 4, 5, 4, 2, 1])
TARIFF_SHARES = np.array([0.4, 0.4, 0.2])  # of the register at the town's start


class FurtherRegisters:
    """What the tariff registers and the demand register of some meters show."""

    def __init__(self, rows: Codes, register: NDArray[np.float64]) -> None:
        self._rows = rows
        self._by_tariff = np.outer(TARIFF_SHARES, register[rows])
        self._demand = np.zeros(len(rows))
        self._month = -1
        self._resets = 0

    def read(self, block: Block, kwh: Values) -> dict[str, NDArray[Any]]:
        """The columns of a block; the registers move on."""
        rows = self._rows
        slots = np.arange(BLOCK_SLOTS)
        slots += (block.start - START_TIME) // SLOT_SECONDS
        hours = slots % DAY_SLOTS // 4
        days = day_of(np.array([block.start + SLOT_SECONDS]), TOWN_ZONE)
        months, _ = month_of(days)
        month = int(months[0])
        if month != self._month:
            self._demand = np.zeros(len(rows))
            self._month = month
            self._resets += 1

        moved = kwh[:, rows] * block.by_tariff[rows]
        counting = REGISTER_OF_HOUR[hours] == np.arange(3)[:, None]
        moved = np.where(counting[..., None], moved, 0)
        total_moved = np.cumsum(moved, axis=1)
        by_tariff = self._by_tariff[:, None] + total_moved
        self._by_tariff = by_tariff[:, -1]

        power = kwh[:, rows] / SLOT_HOURS
        powers = np.concatenate([self._demand[None], power])
        demand = np.maximum.accumulate(powers, axis=0)[1:]
        self._demand = demand[-1]

        columns = {
            name: np.full(kwh.shape, np.nan)
            for name in (*TARIFF_REGISTERS, "demand", "demand_resets", "meter_ratio")
        }
        for name, values in zip(TARIFF_REGISTERS, by_tariff, strict=True):
            columns[name][:, rows] = floored(values)
        columns["demand"][:, rows] = np.round(demand * block.demand[rows], 4)
        columns["demand_resets"][:, rows] = self._resets
        columns["meter_ratio"][:, rows] = block.set_ratio[rows]
        return columns


def floored(kwh: NDArray[Any]) -> NDArray[np.float64]:
    """The energy as a register shows it."""
    return np.floor(kwh * 100) / 100

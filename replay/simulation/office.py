"""The town's office: bills and how they are paid, and the work from reading to collection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.simulation.bill_faults import plant_bill_faults
from replay.simulation.bills import TownBills
from replay.simulation.happenings import Planted
from replay.simulation.network import Grid
from replay.simulation.work import TownWork
from schemas.columns import Payments, Stages


@dataclass(frozen=True)
class Office:
    """The office's rows of the town's days, in order of time, and the faults planted in them."""

    payments: Payments
    stages: Stages
    planted: tuple[Planted, ...]


def open_office(grid: Grid, start: int, days: int, seed: int, faults: bool) -> Office:
    """The office's work. The same arguments give the same work."""
    rng = np.random.default_rng([seed, 3])
    bills = TownBills(grid, start, days, seed, rng)
    work = TownWork(grid, start, days, rng)
    planted = (*plant_bill_faults(bills), *work.plant()) if faults else ()
    return Office(bills.rows_in_order(), work.rows_in_order(), tuple(planted))

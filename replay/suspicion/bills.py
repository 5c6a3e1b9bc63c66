"""The latest bills of every customer."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

import numpy as np

from replay.suspicion.features import SMALL_KWH, ratio
from schemas.columns import Column, Mask, Payment, Payments
from schemas.units import DAY_SECONDS

KEPT_BILLS = 26  # of every customer: two years of months, and two more
RECENT_BILLS = 3  # bills that count as of late
LEAST_BILLS = 3  # bills with energy, for a level or a change
YEAR_DAYS = 365.25  # days
MONTH_DAYS = YEAR_DAYS / 12  # days
SAME_SEASON_DAYS = 46  # days by which a bill of a year before may be off
JUMP_SHARE = (
    0.1  # of the billed energy: the register may have moved by so much more or less
)


class _Billed(NamedTuple):
    """A bill as it was last issued; unknown numbers are NaN."""

    at: int  # when it was read, else when it was issued
    kwh: float
    register: float


class BillNotes:
    """Keeps the latest bills of every customer, by area and customer."""

    def __init__(self) -> None:
        self._bills: dict[tuple[str, str], deque[tuple[str, _Billed]]] = defaultdict(
            lambda: deque(maxlen=KEPT_BILLS)
        )

    @property
    def customers(self) -> list[tuple[str, str]]:
        """Area and name of the customers that have a bill."""
        return list(self._bills)

    def add(self, batch: Payments) -> None:
        """Keeps the bills of a batch; one that is issued again replaces the earlier."""
        for row in np.flatnonzero(batch.payment == Payment.BILL).tolist():
            area = batch.areas[batch.area[row]]
            customer = batch.names[batch.subject[row]]
            name = batch.bills[batch.bill[row]]
            billed = _Billed(
                int(batch.read_at[row] or batch.at[row]),
                float(batch.billed_kwh[row]),
                float(batch.read_register[row]),
            )

            kept = self._bills[area, customer]
            known = [number for number, (other, _) in enumerate(kept) if other == name]
            if name and known:
                kept[known[0]] = name, billed
            else:
                kept.append((name, billed))

    def facts_of(self, area: str, customer: str, before: int) -> dict[str, float]:
        """The facts of a customer by the bills read before a time; empty if there is none."""
        kept = self._bills.get((area, customer), ())
        bills = sorted(bill for _, bill in kept if bill.at < before)
        if not bills:
            return {}
        at = np.array([bill.at for bill in bills]) / DAY_SECONDS
        gaps = np.diff(at, prepend=at[0] - MONTH_DAYS)
        kwh = np.array([bill.kwh for bill in bills])
        register = np.array([bill.register for bill in bills])
        # without a number of its own, a bill has the energy by its registers
        moved = np.diff(register, prepend=np.nan)
        kwh = np.where(np.isnan(kwh), moved, kwh)

        facts = _use_facts(at, kwh / np.maximum(gaps, 1))
        facts["estimated_bills"] = float(np.isnan(register).mean())
        facts["index_jumps"] = float(_jumps(kwh, moved))
        if len(at) > 1:
            mean_gap = gaps[1:].mean()
            facts["reading_gap"] = float(mean_gap / MONTH_DAYS)
        return facts


def _use_facts(at: Column, daily: Column) -> dict[str, float]:
    """The facts of billed use, kWh a day, at times in days."""
    known = np.isfinite(daily)
    at = at[known]
    daily = np.maximum(daily[known], 0)
    if len(daily) < LEAST_BILLS:
        return {}
    level = float(daily[-RECENT_BILLS:].mean())
    is_zero = daily < SMALL_KWH
    logs = np.log(daily + SMALL_KWH)
    facts = {
        "bill_level": float(np.log1p(level)),
        "bill_spread": float(np.std(logs)),
        "zero_bills": float(is_zero.mean()),
        "zero_run": float(_longest_run(is_zero)),
    }

    if len(daily) >= RECENT_BILLS + LEAST_BILLS:
        earlier = float(daily[:-RECENT_BILLS].mean())
        facts["bill_change"] = ratio(level, earlier)
        numbers = np.arange(len(logs))
        slope, _ = np.polyfit(numbers, logs, 1)
        facts["bill_trend"] = float(slope)
    year_before = at[-RECENT_BILLS:] - YEAR_DAYS
    apart = np.abs(at[:, None] - year_before)
    seasonal = (apart <= SAME_SEASON_DAYS).any(axis=1)
    if seasonal.sum() >= LEAST_BILLS:
        then = float(daily[seasonal].mean())
        facts["bill_year"] = ratio(level, then)
    return facts


def _jumps(kwh: Column, moved: Column) -> int:
    """How often a register fell, or moved otherwise than was billed, by the customer's usual ratio of the two."""
    known = np.isfinite(kwh) & np.isfinite(moved)
    kwh = kwh[known]
    moved = moved[known]
    falls = int((moved < 0).sum())
    both = (kwh > 0) & (moved > 0)
    if not both.any():
        return falls
    ratios = kwh[both] / moved[both]
    beside_usual = ratios / np.median(ratios)
    off = np.abs(beside_usual - 1) > JUMP_SHARE
    return falls + int(off.sum())


def _longest_run(truths: Mask) -> int:
    """The most true values in a row."""
    framed = np.concatenate([[0], truths, [0]])
    bounds = np.flatnonzero(np.diff(framed))
    lengths = bounds[1::2] - bounds[::2]
    return int(lengths.max(initial=0))
